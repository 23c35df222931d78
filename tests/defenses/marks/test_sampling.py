"""What each mark samples from, against a reference that goes through a tiny vocabulary token by
token, and over keys.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from defenses import ProviderResources
from defenses.marks import _keyed, adfp, gumbel, kgw, synthid, unigram
from distill.completions import BadInput, Interface, Prompt
from distill.generation import sampled_logprobs
from tests.defenses.marks.reference import mix, number, secret, share, softmax, step

SCORES = [0.5, -1.0, 2.0, 0.0, 1.0, -3.0]  # logits by hand
P = softmax(SCORES)
CONTEXTS = [[3, 1, 4], [1, 5, 2], [0, 0, 0]]


def edits(model, field: str):
    (edit,) = getattr(model, field)
    return edit


def rows(values=SCORES) -> torch.Tensor:
    return torch.tensor([values] * len(CONTEXTS))


def sampled(edit) -> np.ndarray:
    """What is sampled behind CONTEXTS at temperature 1."""
    return sampled_logprobs(edit(step(CONTEXTS), rows()), 1.0, 1.0).exp().numpy()


def green_by_hand(key: str, context, token: int, n: int, hash: str, gamma: float) -> bool:
    start = secret(key, "marks/kgw")
    if hash == "left":
        return share(number(start, [*context[len(context) - n :], token])) < gamma
    partners = [*context[len(context) - n :], token]
    pairs = [number(start, [one, token]) for one in partners]
    return share(mix(min(pairs, key=share))) < gamma


@pytest.mark.parametrize("hash", ["left", "self"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_kgw(teacher, n, hash):
    settings = kgw.Settings(delta=1.5, gamma=0.4, ngram=n, hash=hash, key="hand")
    got = sampled(edits(kgw.Defense(settings)(teacher), "score_edits"))
    for row, context in enumerate(CONTEXTS):
        lists = [green_by_hand("hand", context, v, n, hash, 0.4) for v in range(len(SCORES))]
        marked = [z + 1.5 * green for z, green in zip(SCORES, lists, strict=True)]
        np.testing.assert_allclose(got[row], softmax(marked), atol=1e-6)


def test_one_self_hash_by_hand():
    """The key and tokens are chosen so that the smallest pair is that of an earlier token: an edit
    of the last one changes nothing, and the left hash changes.
    """
    start = secret("hand", "marks/kgw")
    two = {v: [share(number(start, [c, v])) for c in (8, 9, v)] for v in range(200)}
    token = next(v for v, (old, new, own) in two.items() if old < min(new, own))
    contexts = torch.tensor([[8, 9], [8, 10], [7, 9]])
    tokens = torch.full((3,), token)
    signed = _keyed.secret("hand", "marks/kgw")
    by_self = kgw.numbers(contexts, tokens, signed, "self")
    assert int(by_self[0]) % 2**64 == mix(number(start, [8, token]))
    other = share(number(start, [10, token])) > two[token][0]
    assert (int(by_self[0]) == int(by_self[1])) == other and other
    left = kgw.numbers(contexts, tokens, signed, "left")
    assert len({*left.tolist()}) == 3


def test_unigram(teacher):
    settings = unigram.Settings(delta=1.5, gamma=0.34, key="hand")
    size = teacher.tokens
    order = sorted(range(size), key=lambda v: share(number(secret("hand", "marks/unigram"), [v])))
    lists = {*order[: round(0.34 * size)]}
    edit = edits(unigram.Defense(settings)(teacher), "score_edits")
    scores = torch.linspace(-1, 1, size)[None]
    got = torch.softmax(edit(step([[1]]), scores), -1)[0]
    marked = [float(z) + 1.5 * (v in lists) for v, z in enumerate(scores[0])]
    np.testing.assert_allclose(got, softmax(marked), atol=1e-6)


def test_adfp(teacher, resources):
    proxy_scores = torch.linspace(1, -1, teacher.tokens)
    settings = adfp.Settings(lam=7.0, gamma=0.5, key="hand")
    edit = edits(adfp.Defense(settings, resources)(teacher), "score_edits")
    start, context = secret("hand", "marks/adfp"), [3, 1, 4]
    special = {*teacher.tokenizer.all_special_ids}
    q = torch.softmax(resources.proxy.network(torch.tensor([context])).logits[0, -1].detach(), -1)
    green = [
        share(number(start, [1, 4, v])) < 0.5 and v not in special for v in range(teacher.tokens)
    ]
    mass = sum(float(q[v]) for v in range(teacher.tokens) if green[v])
    assert 0 < sum(green) < teacher.tokens
    scores = proxy_scores.clone()
    scores[teacher.tokenizer.eos_token_id] = -5
    marked = [float(z) + 7 * float(q[v]) * (green[v] - mass) for v, z in enumerate(scores)]
    np.testing.assert_allclose(edit(step([context]), scores[None])[0].detach(), marked, atol=1e-5)
    scores[teacher.tokenizer.eos_token_id] = 5  # it would end: left alone
    assert torch.equal(edit(step([context]), scores[None])[0], scores)


PAIRS = torch.tensor([[3, 1], [1, 5], [8, 8]]), torch.tensor([4, 2, 8])


@pytest.mark.parametrize(
    ("module", "counted"),
    [
        (kgw, lambda z: share(z) < 0.5),
        (adfp, lambda z: share(z) < 0.5),
        (gumbel, lambda z: -math.log1p(-share(z))),
        (synthid, lambda z: (z % 2**30).bit_count()),
    ],
)
def test_what_is_counted_of_a_token_by_hand(module, counted):
    settings = {"key": "hand", "ngram": 2} | ({"gamma": 0.5} if module in (kgw, adfp) else {})
    identity_N, score_N = module.Defense(module.Settings(**settings)).draws(*PAIRS, 100)
    start = secret("hand", module.__name__.removeprefix("defenses.").replace(".", "/"))
    by_hand = [
        number(start, [*c, v]) for c, v in zip(*(one.tolist() for one in PAIRS), strict=True)
    ]
    assert [int(one) % 2**64 for one in identity_N] == by_hand
    np.testing.assert_allclose(score_N.astype(float), [counted(z) for z in by_hand], rtol=1e-9)


def test_the_tilt_sums_to_nothing_and_is_the_gradient_of_green_mass():
    scores = torch.randn(2, 9, dtype=torch.float64, generator=torch.manual_seed(0))
    green = torch.rand(2, 9, generator=torch.manual_seed(1)) < 0.5
    scores.requires_grad_()
    (torch.softmax(scores, -1) * green).sum().backward()
    tilted = adfp.tilt(scores.detach(), green)
    torch.testing.assert_close(tilted, scores.grad)
    torch.testing.assert_close(tilted.sum(-1), torch.zeros(2, dtype=torch.float64))


def test_gumbel_says_the_token_of_the_reference(teacher):
    settings = gumbel.Settings(ngram=2, key="hand", once=False)
    edit = edits(gumbel.Defense(settings)(replace(teacher, temperature=1.0)), "drawn_edits")
    got = edit(step(CONTEXTS), rows().log_softmax(-1)).argmax(-1)
    start = secret("hand", "marks/gumbel")
    for row, context in enumerate(CONTEXTS):
        r = [share(number(start, [*context[-2:], v])) for v in range(len(P))]
        powers = [u ** (1 / p) for u, p in zip(r, P, strict=True)]
        assert int(got[row]) == powers.index(max(powers))


def by_hand_tournament(p, bits, leaves: int):
    """The winner's law, by going through every draw of so many leaves."""
    size, won = len(p), [0.0] * len(p)
    for code in range(size**leaves):
        drawn = [code // size**i % size for i in range(leaves)]
        most = max(bits[v] for v in drawn)
        best = [v for v in drawn if bits[v] == most]
        for v in best:
            won[v] += math.prod(p[u] for u in drawn) / len(best)
    return won


@pytest.mark.parametrize("leaves", [2, 3])
def test_synthid_is_the_tournament_draw_by_draw(teacher, leaves):
    settings = synthid.Settings(layers=3, leaves=leaves, ngram=2, key="hand", once=False)
    edit = edits(synthid.Defense(settings)(replace(teacher, temperature=1.0)), "drawn_edits")
    got = edit(step(CONTEXTS), rows().log_softmax(-1)).exp().numpy()
    start = secret("hand", "marks/synthid")
    for row, context in enumerate(CONTEXTS):
        law = P
        for layer in range(3):
            bits = [number(start, [*context[-2:], v]) >> layer & 1 for v in range(len(P))]
            law = by_hand_tournament(law, bits, leaves)
        np.testing.assert_allclose(got[row], law, atol=1e-6)


KEYS = 40_000


def deviation(mean: np.ndarray, spread: np.ndarray) -> float:
    """The largest distance of means over keys from P, in standard errors."""
    return float((np.abs(mean - P) / (spread / KEYS**0.5)).max())


def test_gumbel_is_unbiased_over_keys():
    numbers = torch.from_numpy(np.random.default_rng(0).integers(-(2**63), 2**63 - 1, KEYS))
    r = _keyed.uniforms(_keyed.behind(numbers[:, None], torch.arange(len(P))))
    drawn = gumbel.first(torch.tensor(P).log().expand(KEYS, -1), r)
    mean = np.bincount(drawn, minlength=len(P)) / KEYS
    assert deviation(mean, np.sqrt(np.array(P) * (1 - np.array(P)))) < 4


@pytest.mark.parametrize(("leaves", "unbiased"), [(2, True), (3, False)])
def test_synthid_is_unbiased_over_keys_with_two_leaves_alone(leaves, unbiased):
    numbers = torch.from_numpy(np.random.default_rng(0).integers(-(2**63), 2**63 - 1, KEYS))
    bits = _keyed.behind(numbers[:, None], torch.arange(len(P)))
    p = torch.tensor(P, dtype=torch.float64).expand(KEYS, -1)
    law = synthid.tournament(p, bits, 5, leaves).numpy()
    far = deviation(law.mean(0), law.std(0))
    assert (far < 4) == unbiased


def test_a_round_of_which_all_tokens_have_the_same_bit_changes_nothing():
    p = torch.tensor([P, P], dtype=torch.float64)
    for bits in (0, 2**10 - 1):
        numbers = torch.full((2, len(P)), bits, dtype=torch.int64)
        torch.testing.assert_close(synthid.tournament(p, numbers, 10, 2), p)


@pytest.mark.parametrize("module", [gumbel, synthid])
class TestDraws:
    """Marks of the draw alone."""

    def marked(self, module, teacher, **settings):
        return module.Defense(module.Settings(ngram=2, **settings))(teacher)

    def test_a_context_that_is_there_again_is_drawn_by_chance(self, module, teacher):
        edit = edits(self.marked(module, teacher), "drawn_edits")
        clean, memory = rows().log_softmax(-1), {}
        first = edit(step(CONTEXTS, 0, memory), clean)
        second = edit(step([[9, 1, 4], [1, 6, 2], [0, 0, 0]], 1, memory), clean)
        assert not torch.equal(first[0], clean[0])
        again = [torch.equal(second[row], clean[row]) for row in range(3)]
        assert again == [True, False, True]

    def test_released_logprobs_and_the_distance_are_those_without_it(
        self, module, teacher, prompts
    ):
        full = Interface("full")
        clean = teacher.generate(prompts, seed=1, interface=full)
        marked = self.marked(module, teacher).generate(prompts, seed=1, interface=full)
        assert [one.text for one in clean] != [one.text for one in marked]
        for a, b in zip(clean, marked, strict=True):
            np.testing.assert_array_equal(a.logprobs.values_TK[0], b.logprobs.values_TK[0])
            assert b.l1 == b.kl == b.flips == 0

    def test_a_greedy_teacher_is_bad_input(self, module, teacher):
        with pytest.raises(BadInput, match="temperature 0"):
            self.marked(module, replace(teacher, temperature=0.0))


def test_gumbel_begins_alike_whatever_the_seed(teacher):
    model = gumbel.Defense(gumbel.Settings())(teacher)
    prompts = [Prompt("p", "23+9=")]
    first = {model.generate(prompts, seed=s, interface=Interface())[0].text[:1] for s in range(6)}
    assert len(first) == 1


def test_a_proxy_is_needed(teacher):
    with pytest.raises(BadInput, match="needs a proxy"):
        adfp.Defense(adfp.Settings(), ProviderResources())(teacher)


def test_what_is_drawn_of_a_greedy_teacher_is_drawn_and_not_the_likeliest(teacher):
    """A plugin's edit may spread what marks here refuse to touch."""
    first, second = (teacher.encode(Prompt("p", sign))[-1] for sign in "12")

    def either(_, logprobs_BV: torch.Tensor) -> torch.Tensor:
        spread_BV = torch.full_like(logprobs_BV, -torch.inf)
        spread_BV[:, [first, second]] = math.log(0.5)
        return spread_BV

    greedy = replace(teacher, temperature=0.0, drawn_edits=(either,))
    prompts = [Prompt(f"p{i}", f"{i}+1=") for i in range(10)]
    signs = {one.text[:1] for one in greedy.generate(prompts, seed=1, interface=Interface())}
    assert signs == {"1", "2"}
