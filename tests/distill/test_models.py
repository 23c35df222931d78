from dataclasses import replace

import pytest
import torch
from scipy import stats

from distill.completions import (
    NETWORK,
    RECORDING,
    BadInput,
    Capabilities,
    Completion,
    Interface,
    Prompt,
)
from distill.embedded import character_tokenizer, llama
from distill.folders import load, save
from distill.generation import draw, nucleus, uniform
from distill.models import EditedModel, LanguageModel, is_network
from distill.recordings import RecordedModel, read_recorded

TOKENIZER = character_tokenizer("0123456789+=;#abc ?")
TEXT = Interface()


def model(**settings) -> LanguageModel:
    # A small initialisation hardly looks at its prompt; 0.5 does, so that wrong padding shows.
    network = llama(
        TOKENIZER, hidden_size=32, num_layers=2, num_heads=4, max_length=96, seed=0, init=0.5
    )
    return LanguageModel(network, TOKENIZER, max_new_tokens=16, **settings)


PROMPTS = [Prompt(str(i), f"{i * 7}+{i**3}=") for i in range(12)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_batch_mates(temperature):
    together = model(temperature=temperature).generate(PROMPTS, seed=3, interface=TEXT)
    alone = [
        model(temperature=temperature).generate([p], seed=3, interface=TEXT)[0] for p in PROMPTS
    ]
    assert together == alone
    assert len({a.text for a in together}) > 6


@pytest.mark.parametrize("turn_ends", [[], [2], [7, 9, 11]], ids=str)
def test_generation_agrees_with_transformers_generate(turn_ends):
    ours, ends = model(), [TOKENIZER.eos_token_id, *turn_ends]
    ours.network.generation_config.eos_token_id = ends
    for prompt in PROMPTS[:4]:
        ids = torch.tensor([ours.encode(prompt)])
        theirs = ours.network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
        )
        new = theirs[0, ids.shape[1] :].tolist()
        stop = next((t for t, token in enumerate(new) if token in ends), len(new))
        answer = ours.generate([prompt], seed=0, interface=Interface("top_k", 2))[0]
        assert list(answer.token_ids) == new[:stop] and answer.finished == (stop < len(new))
        assert len(answer.logprobs.ids_TK) == stop + answer.finished


def test_released_logprobs_are_those_of_a_plain_forward_pass():
    ours = model()
    answer = ours.generate(PROMPTS[:5], seed=0, interface=Interface("full"))[4]
    prompt = ours.encode(PROMPTS[4])
    with torch.no_grad():
        logits = ours.network(torch.tensor([prompt + list(answer.token_ids)])).logits[
            0, len(prompt) - 1 :
        ]
    expected = torch.log_softmax(logits, -1)
    for t in range(len(answer.token_ids)):
        got = torch.tensor(answer.logprobs.values_TK[t])
        assert torch.allclose(
            got, expected[t][torch.tensor(answer.logprobs.ids_TK[t]).long()], atol=1e-4
        )


def test_draws_follow_the_distribution():
    p = torch.tensor([0.5, 0.2, 0.0, 0.3])
    seen = draw(p.log().expand(4000, 4), [uniform("k", i) for i in range(4000)])
    counts = torch.bincount(seen, minlength=4)
    assert counts[2] == 0
    assert stats.chisquare(counts[[0, 1, 3]].numpy(), [2000, 800, 1200]).pvalue > 1e-3


def test_nucleus_keeps_the_smallest_set_that_reaches_p():
    renormalised = nucleus(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.6).exp()
    assert torch.allclose(renormalised, torch.tensor([[0.625, 0.375, 0.0]]))


def test_a_saved_model_answers_as_before(tmp_path):
    save(model(), tmp_path)
    again = load(str(tmp_path), max_new_tokens=16)
    assert again.generate(PROMPTS, seed=0, interface=TEXT) == model().generate(
        PROMPTS, seed=0, interface=TEXT
    )


def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(BadInput, match="100 tokens, but the context leaves 80"):
        model().generate([Prompt("long", "1" * 100)], seed=0, interface=TEXT)


def test_an_empty_prompt_is_refused():
    with pytest.raises(BadInput, match="it is empty"):
        model().generate([Prompt("e", "")], seed=0, interface=TEXT)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="model '.*nothing'"):
        load(str(tmp_path / "nothing"))


def test_malformed_recorded_answers_name_the_line(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"prompt": "p", "answer": "a"}\n{"prompt": \n')
    with pytest.raises(BadInput, match="line 2"):
        read_recorded(path)


def test_recorded_answers_are_repeated_and_absent_ones_named(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"prompt": "p", "answer": "a"}\n')
    recorded = read_recorded(path)
    assert recorded.generate([Prompt("1", "p")], seed=0, interface=TEXT)[0].text == "a"
    with pytest.raises(BadInput, match="no answer to 1 prompts"):
        recorded.generate([Prompt("2", "q")], seed=0, interface=TEXT)
    with pytest.raises(BadInput, match="the recording has none"):
        recorded.generate([Prompt("1", "p")], seed=0, interface=Interface("top_k", 2))


def released_text(answer):
    return replace(answer, token_ids=(), logprobs=None)


MODEL = model()
NOWHERE = RecordedModel({"1+1=": (Completion("a", "1+1=", "2"),)}, "answers.jsonl")
KINDS = {
    "network": (MODEL, NETWORK),
    "recording": (NOWHERE, RECORDING),
    "edited text": (
        EditedModel(MODEL, released_text, keeps_logprobs=False),
        Capabilities(prefill=True, sampling=True),
    ),
    "edited logprobs": (
        EditedModel(MODEL, lambda answer: answer),
        Capabilities(logprobs=True, prefill=True, sampling=True),
    ),
    "edited recording": (EditedModel(NOWHERE, released_text), RECORDING),
}


@pytest.mark.parametrize("model, capabilities", KINDS.values(), ids=KINDS)
def test_a_model_can_do_what_it_declares_and_says_what_it_cannot(model, capabilities):
    assert model.capabilities == capabilities
    prompt = Prompt("a", "1+1=")

    def outcome(act):
        try:
            return act() is not None
        except BadInput:
            return False

    def released():
        return model.generate([prompt], seed=0, interface=Interface("top_k", 2))[0].logprobs

    assert outcome(lambda: model.surprisal([prompt], ["2"])) == capabilities.surprisal
    assert outcome(released) == capabilities.logprobs
    assert outcome(lambda: model.encode(prompt)) == (model.tokenizer is not None)
    assert (model.vocabulary is None) == (model.tokenizer is None)
    assert is_network(model) == isinstance(model, LanguageModel)


def test_uniform_is_the_same_on_every_machine():
    # sha256sum of "key/1", its first 53 bits as a binary fraction
    assert uniform("key", 1) == 0.26724682976503367
    assert uniform("key", 1) != uniform("key", 2)
