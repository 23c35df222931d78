"""Logprobs of another tokenizer: which positions meet, what is compared there, and that it is what
its sources compute; against brute force, against logprob_kd, and against TRL where it is.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.aligned import byte_spans, hybrid_distance, sorted_distance, token_ends
from distill.attackers import AttackerResources, aligned_kd, logprob_kd
from distill.bridge import Bridge
from distill.completions import BadInput, Interface, Logprobs, Prompt
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.models import LanguageModel
from distill.rendering import completion_ids
from distill.specs import TrainingConfig
from distill.token_bytes import TokenBytes

LETTERS = "0123456789+=# "
TEXTS = ["12+34=46", "99+1=100 #100", "12+12=24 #24", "34 34 46 46"]
CHARACTERS = character_tokenizer(LETTERS)
PAIRS = byte_pair_tokenizer(TEXTS * 4, 300)
PROMPTS = [Prompt(str(n), f"{n}+{n}=") for n in range(10, 14)]
RECIPE = TrainingConfig(max_length=48, steps=4, batch_size=2, learning_rate=1e-2)


def model(tokenizer, seed=0):
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=48, seed=seed)
    return LanguageModel(network, tokenizer, max_new_tokens=8)


def attacker(kind=aligned_kd, **settings):
    return kind.Attacker(kind.Settings(**settings))


def brute(first, second):
    """Spans between bytes at which both have a boundary."""
    edges = sorted({0, *first} & {0, *second})
    return [
        tuple(
            (sum(end <= a for end in ends), sum(end <= b for end in ends))
            for ends in (first, second)
        )
        for a, b in itertools.pairwise(edges)
    ]


@pytest.mark.parametrize(
    ("first", "second", "spans"),
    [
        ([1, 2, 3], [1, 2, 3], [((0, 1), (0, 1)), ((1, 2), (1, 2)), ((2, 3), (2, 3))]),
        ([3], [1, 2, 3], [((0, 1), (0, 3))]),
        ([2, 3], [1, 3], [((0, 2), (0, 2))]),
        ([2, 4], [2, 3], [((0, 1), (0, 1))]),  # what is behind the last common one is left out
        ([], [1], []),
    ],
)
def test_spans_by_hand(first, second, spans):
    assert byte_spans(first, second) == spans


def test_spans_are_those_between_shared_boundaries():
    """Every way in which ten bytes can be divided, in pairs that are drawn."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        first, second = (
            sorted({10, *map(int, rng.choice(np.arange(1, 10), rng.integers(0, 9), False))})
            for _ in range(2)
        )
        assert byte_spans(first, second) == brute(first, second)


def test_where_tokens_end():
    assert token_ends([1, 2], finished=False) == [1, 3]
    assert token_ends([1, 2], finished=True) == [1, 3, 4]


def test_sorted_distance_by_hand():
    student = torch.tensor([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    teacher = torch.tensor([[0.5, 0.3], [0.7, 0.1]])
    distance = sorted_distance(student, teacher, torch.tensor([0.2, 0.2]))
    torch.testing.assert_close(distance, torch.tensor([0.1 + 0 + 0.1, 0.1 + 0.1 + 0.0]))
    wider = sorted_distance(teacher, student, torch.zeros(2))  # more tokens than the student has
    torch.testing.assert_close(wider, torch.tensor([0.1 + 0 + 0.1, 0.1 + 0.1 + 0.2]))


def dense_hybrid(student, teacher, ids, matched, share, beta):
    """The same from its definition, one token at a time."""
    total = []
    for q, p, row in zip(student.tolist(), teacher.tolist(), ids.tolist(), strict=True):
        jsd = 0.0
        for value, token in zip(p, row, strict=True):
            if token >= 0:
                a, b = max(value, 1e-8), max(q[token], 1e-8)
                m = beta * a + (1 - beta) * b
                jsd += beta * a * np.log(a / m) + (1 - beta) * b * np.log(b / m)
        ours = sorted((v for v, known in zip(q, matched, strict=True) if not known), reverse=True)
        theirs = sorted((v for v, t in zip(p, row, strict=True) if t < 0), reverse=True)
        pairs = itertools.zip_longest(ours, theirs, fillvalue=0.0)
        total.append(float(share * jsd + (1 - share) * sum(abs(a - b) for a, b in pairs)))
    return torch.tensor(total)


def test_hybrid_distance_is_its_definition():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.rand(6, size, generator=generator).softmax(-1) * 0.9 for size in (9, 7)
    )
    ids = torch.tensor([[2, -1, 5, -1, 0, -1, 8]] * 6)
    matched = torch.zeros(9, dtype=torch.bool)
    matched[[2, 5, 0, 8]] = True
    distance = hybrid_distance(student, teacher, ids, matched, share=0.3, beta=0.4, whole=True)
    expected = dense_hybrid(student, teacher, ids, matched.tolist(), 0.3, 0.4)
    torch.testing.assert_close(distance, expected)


def released(teacher, interface, prompts=PROMPTS):
    return teacher.generate(prompts, seed=0, interface=interface)


@pytest.mark.parametrize("interface", [Interface("top_k", 5), Interface("full")])
@pytest.mark.parametrize("ce_weight", [0.0, 0.5])
def test_of_one_tokenizer_it_is_logprob_kd(interface, ce_weight):
    answers = released(model(CHARACTERS, 7), interface)
    resources = AttackerResources(tokenizer=CHARACTERS)
    networks = [
        attacker(kind, released=interface.kind, ce_weight=ce_weight)
        .train(answers, model(CHARACTERS), RECIPE, seed=0, resources=resources)
        .network
        for kind in (aligned_kd, logprob_kd)
    ]
    untrained = model(CHARACTERS).network.state_dict()
    for name, ours in networks[0].state_dict().items():
        torch.testing.assert_close(ours, networks[1].state_dict()[name], rtol=1e-4, atol=1e-5)
        assert "norm" in name or not torch.equal(ours, untrained[name])


def begun(teacher, text, interface):
    """A text as if the teacher had said it, with what it would release there, the end with it."""
    (answer,) = released(teacher, interface, [Prompt("p", "1", begin=text)])
    ids = completion_ids(teacher.tokenizer, text, False)
    rows = slice(len(ids) + 1)
    logprobs = Logprobs(answer.logprobs.ids_TK[rows], answer.logprobs.values_TK[rows])
    return replace(answer, text=text, token_ids=tuple(ids), finished=True, logprobs=logprobs)


def check_row(aligned, pair, row):
    """A pair's logprobs are those of the teacher's row, by what tokens spell."""
    logprobs = dict(zip(aligned.ids_PK[pair], aligned.values_PK[pair], strict=True))
    for letter in LETTERS:
        (token,) = completion_ids(PAIRS, letter, False)
        expected = row[CHARACTERS.convert_tokens_to_ids(letter)]
        assert logprobs[token] == pytest.approx(expected, abs=1e-5)
    assert logprobs[PAIRS.eos_token_id] == pytest.approx(row[CHARACTERS.eos_token_id])
    total = np.exp(aligned.values_PK[pair]).sum() + np.exp(aligned.tail_P[pair])
    assert total == pytest.approx(1, abs=1e-4)


def test_rows_of_a_student_with_longer_tokens():
    """A text as characters beside byte pairs, every row looked up one by one."""
    text = "12+34=4"
    answer = begun(model(CHARACTERS, 3), text, Interface("full"))
    ids = completion_ids(PAIRS, text, True)
    assert len(ids) < len(text) + 1  # some byte pairs were learned
    bridge, spelled = Bridge.between(CHARACTERS, PAIRS), TokenBytes(PAIRS)
    first = bridge.align(answer, ids, by_bytes=True, whole=False)
    last = bridge.align(answer, ids, by_bytes=True, whole=True)
    lengths = [len(spelled.of[token] or b" ") for token in ids]
    assert [*last.position_P] == [*range(len(ids))]
    alone = [*first.position_P]
    assert (
        alone
        == [place for place, length in enumerate(lengths) if length == 1]
        != [*range(len(ids))]
    )
    rows = [
        dict(zip(*row, strict=True))
        for row in zip(
            answer.logprobs.ids_TK.tolist(), answer.logprobs.values_TK.tolist(), strict=True
        )
    ]
    at = 0
    for place, length in enumerate(lengths):
        if length == 1:
            check_row(first, alone.index(place), rows[at])
        prefix = sum(rows[at + step][answer.token_ids[at + step]] for step in range(length - 1))
        likeliest = max(rows[at + length - 1].values())
        assert last.values_PK[place].max() == pytest.approx(likeliest + prefix, abs=1e-4)
        at += length
    assert at == len(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"compare": "shared"},
        {"compare": "sorted"},
        {"compare": "sorted", "pairing": "positions"},
        {"compare": "hybrid"},
    ],
    ids=str,
)
@pytest.mark.parametrize("tokenizers", [(CHARACTERS, PAIRS), (PAIRS, CHARACTERS)], ids=["ab", "ba"])
def test_every_distance_trains_and_falls(settings, tokenizers):
    taught, learned = tokenizers
    teacher = model(taught, 5)
    answers = [begun(teacher, text, Interface("top_k", 5)) for text in ("12+34=4", "99+1=1")]
    student, learner = model(learned), attacker(ce_weight=0.0, **settings)
    bridge, resources = Bridge.between(taught, learned), AttackerResources(tokenizer=taught)

    def loss(network):
        examples = [learner._example(answer, bridge, student, 48) for answer in answers]
        with torch.no_grad():
            return float(learner._loss(bridge, network, examples, 0, torch.device("cpu")))

    before = loss(student.network)
    done = learner.train(answers, student, RECIPE, seed=0, resources=resources)
    assert not done.diverged and loss(done.network) < before


def test_what_cannot_be_aligned_is_one_line():
    answer = released(model(CHARACTERS), Interface("top_k", 5))[0]
    bridge = Bridge.between(CHARACTERS, PAIRS)
    ids = completion_ids(PAIRS, answer.text, answer.finished)
    for wrong, line in (
        (replace(answer, logprobs=None), "has no logprobs"),
        (replace(answer, text="other"), "teacher's tokens spell"),
    ):
        with pytest.raises(BadInput, match=line):
            bridge.align(wrong, ids, by_bytes=True, whole=False)
    with pytest.raises(ValueError, match="pairing positions is for sorted alone"):
        aligned_kd.Settings(pairing="positions")


@pytest.mark.parametrize("tokenizer", [CHARACTERS, PAIRS], ids=["characters", "pairs"])
def test_tokens_spell_their_texts(tokenizer):
    spelling = TokenBytes(tokenizer)
    for text in TEXTS:
        assert spelling.text(completion_ids(tokenizer, text, True)).decode() == text
    assert spelling.of[tokenizer.eos_token_id] is None
