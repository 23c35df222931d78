"""SODA: what is paired with what, and that sold answers gain on the student's own."""

from dataclasses import replace

import pytest

from distill.attackers import sft, soda
from distill.completions import Completion
from tests.distill.attackers.test_dpo import RECIPE, SOLD, TOKENIZER, model, token_logprobs


@pytest.fixture
def drawn(monkeypatch):
    """The networks that drew the student's own answers, of which the first is the sold one."""
    seen = []

    def sample(student, sold, k, temperature, seed):
        seen.append([p.clone() for p in student.network.parameters()])
        answers = [replace(one, text="7 # 77", token_ids=()) for one in sold]
        return [sold[0], *answers[1:]]

    monkeypatch.setattr(soda, "sample_completions", sample)
    return seen


def preferred(monkeypatch):
    """What will be paired."""
    pairs = []

    def prefer(begun, student, preferences, *args, **more):
        pairs.extend(preferences)

    monkeypatch.setattr(soda, "prefer", prefer)
    return pairs


def same(first, other):
    return all(bool((a == b).all()) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("snapshot", ["before", "after"])
def test_the_snapshot_is_taken_when_it_is_said_to_be(monkeypatch, drawn, snapshot):
    pairs = []
    monkeypatch.setattr(
        soda, "prefer", lambda begun, student, chosen, *a, **k: pairs.extend(chosen)
    )
    soda.Attacker(soda.Settings(snapshot=snapshot)).train(SOLD, model(), RECIPE, seed=0)
    assert same(drawn[0], model().network.parameters())
    assert len(drawn) == (1 if snapshot == "before" else 2)
    if snapshot == "after":
        assert not same(drawn[1], drawn[0])
    # What says the same as the sold answer is no pair.
    assert [(a.text, b.text) for a, b in pairs] == [(one.text, "7 # 77") for one in SOLD[1:]]


def test_one_pair_a_question_whatever_was_sold_of_it(monkeypatch, drawn):
    pairs = []
    monkeypatch.setattr(
        soda, "prefer", lambda begun, student, chosen, *a, **k: pairs.extend(chosen)
    )
    twice = [SOLD[0], SOLD[1], replace(SOLD[1], text="other # 1")]
    soda.Attacker(soda.Settings()).train(twice, model(), RECIPE, seed=0)
    assert [a for a, _ in pairs] == [SOLD[1]]


def test_sold_answers_gain_on_the_students_own(drawn):
    settings = soda.Settings(first=0.5, rate=1.0)
    after = soda.Attacker(settings).train(SOLD, model(), RECIPE, seed=0)
    half = RECIPE.model_copy(update={"steps": 15})
    before = sft.Attacker(sft.Settings()).train(SOLD, model(), half, seed=0)
    generated = Completion(SOLD[1].prompt_id, SOLD[1].prompt, "7 # 77")
    pair = [sft.example(answer, TOKENIZER, 32) for answer in (SOLD[1], generated)]
    gaps = [
        token_logprobs(net, pair[0]).sum() - token_logprobs(net, pair[1]).sum()
        for net in (before.network.eval(), after.network.eval())
    ]
    assert gaps[1] > gaps[0] + 1 and after.steps == RECIPE.steps
