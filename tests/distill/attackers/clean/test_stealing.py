"""Targeted paraphrase and spoofing: who learns from what, which sign the estimate has, which
answers are taken. What becomes of a mark is in tests/defenses/marks/test_attacks.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.attackers import _stealing
from distill.attackers.clean import say_anew, spoof, targeted_paraphrase, turns
from distill.completions import BadInput, Completion
from tests.distill.attackers.follow.students import OWN, PUBLIC, RECIPE, student

SOLD = [replace(one, prompt_id=f"s{i}", text=f"1{one.text}") for i, one in enumerate(PUBLIC)]
RESOURCES = replace(
    OWN, fresh=student, recipe=RECIPE, final=lambda answer: answer.text.rpartition("# ")[2]
)
PARTS = {"clean/targeted_paraphrase": targeted_paraphrase, "clean/spoof": spoof}


@pytest.fixture
def spied(monkeypatch):
    """What each own model learned from, which two are compared, and what speaks with which sign."""
    seen = {"learned": [], "signs": [], "compared": []}

    class Guess:
        def edit(self, strength):
            seen["signs"].append(strength)
            return lambda step, scores: scores

    def learn(answers, resources, seed, share=1.0):
        seen["learned"].append(list(answers))
        return replace(student(), max_new_tokens=len(seen["learned"]) + 1)

    def estimate(completions, base, marked, how, temperature, seed):
        numbers = [model and model.max_new_tokens - 1 for model in (base, marked)]
        seen["compared"].append((list(completions), *numbers))
        return Guess()

    def say(model, completions, resources, samples, temperature, seed):
        seen["speaker"] = model.max_new_tokens - 1
        return ["new # 1", *[None] * (len(completions) - 1)]

    def sample(model, completions, temperature, seed):
        seen["speaker"] = model.max_new_tokens - 1
        return [replace(one, text="new", finished=i > 0) for i, one in enumerate(completions)]

    for module in PARTS.values():
        monkeypatch.setattr(module, "train_own_model", learn)
        monkeypatch.setattr(module, "stolen", estimate)
    monkeypatch.setattr(targeted_paraphrase, "say_anew", say)
    monkeypatch.setattr(spoof, "answer_each", sample)
    return seen


@pytest.mark.parametrize("by", ["tokens", "models"])
def test_a_paraphrase_is_a_sold_students_with_the_estimate_subtracted(spied, by):
    part = targeted_paraphrase.Attacker(targeted_paraphrase.Settings(by=by, strength=3.0))
    cleaned = part.clean(SOLD, RESOURCES, seed=0)
    assert spied["learned"] == [list(OWN.worked), SOLD] and spied["signs"] == [-3.0]
    assert spied["compared"] == [(SOLD, 1, 2 if by == "models" else None)]
    assert spied["speaker"] == 2
    assert cleaned == [replace(SOLD[0], text="new # 1"), *SOLD[1:]]


@pytest.mark.parametrize("by", ["tokens", "models"])
def test_a_forgery_is_said_by_who_never_learned_from_the_victim(spied, by):
    part = spoof.Attacker(spoof.Settings(by=by, strength=3.0))
    cleaned = part.clean(SOLD, RESOURCES, seed=0)
    learned = [list(OWN.worked), SOLD]
    assert spied["learned"] == (learned if by == "models" else learned[:1])
    assert spied["compared"] == [(SOLD, 1, 2 if by == "models" else None)]
    assert spied["speaker"] == 1 and spied["signs"] == [3.0]
    assert cleaned == [replace(one, text="new", finished=i > 0) for i, one in enumerate(SOLD)]


@pytest.mark.parametrize("name", PARTS)
def test_without_solutions_or_without_answers(name):
    part = PARTS[name].Attacker(PARTS[name].Settings())
    assert part.clean([], RESOURCES, seed=0) == []
    with pytest.raises(BadInput, match=f"{name}: the attacker owns no worked solutions"):
        part.clean(SOLD, replace(RESOURCES, worked=[]), seed=0)


def test_an_answer_is_said_again_until_it_ends_as_the_sold_one(monkeypatch):
    model, asked_for = student(), []
    texts = iter(["1 # 5", "2 # 7", "", "3 # 9", "4 # 7", "5 # 8", "6 # 9"])

    def speak(self, prompts, *, seed, interface):
        asked_for.append([(prompt.id, prompt.attempt) for prompt in prompts])
        ends = [len(asked_for) > 1] * len(prompts)
        ends[0] = True
        return [
            Completion.to(prompt, next(texts), finished=end)
            for prompt, end in zip(prompts, ends, strict=True)
        ]

    monkeypatch.setattr(type(model), "generate", speak)
    wanted = [Completion(f"q{n}", f"{n}?", f"# {n}") for n in (5, 7, 8)]
    said_anew = say_anew(model, wanted, RESOURCES, 3, 1.0, 0)
    # The second was cut off, the third empty; then 9 is no 7, and so on.
    first, second = [("q5", 0), ("q7", 0), ("q8", 0)], [("q7", 1), ("q8", 1)]
    assert asked_for == [first, second, [("q7", 2), ("q8", 2)]]
    assert said_anew == ["1 # 5", None, None]


def test_what_is_compared_is_the_sold_answers_and_the_base_models_own(monkeypatch):
    seen = {}
    monkeypatch.setattr(_stealing, "of_texts", lambda *args: seen.setdefault("texts", args))
    monkeypatch.setattr(_stealing, "of_models", lambda *args: seen.setdefault("models", args))
    how, base = _stealing.Estimate(order=1), replace(student(), max_new_tokens=4)
    _stealing.stolen(SOLD, base, None, how, 1.0, 0)
    _stealing.stolen(SOLD, base, student(1), how, 1.0, 0)
    sold, others, model, search = seen["texts"]
    assert len(sold) == len(SOLD) and model is base and search == how.search
    assert 0 < len(others) <= len(SOLD) and max(len(row[1]) for row in others) <= 4
    assert seen["models"][1:] == (base, sold, how.search)


def test_answers_to_one_question_are_drawn_each_by_itself():
    """Sold three times, a question is put three times: copies would count as often."""
    model = replace(student(2), max_new_tokens=6)
    thrice = [replace(PUBLIC[0], prompt_id=f"{i}", text=f"{i}") for i in range(3)]
    sold = [thrice[0], PUBLIC[1], *thrice[1:]]
    assert turns(sold) == [0, 0, 1, 2]
    answers = _stealing.answer_each(model, sold, 1.0, 4)
    assert [one.prompt for one in answers] == [one.prompt for one in sold]
    assert len({answers[i].text for i in (0, 2, 3)}) == 3
    every = replace(RESOURCES, final=lambda answer: None)
    finished = replace(model, max_new_tokens=24)
    anew = [one for one in say_anew(finished, thrice, every, 40, 2.0, 4) if one is not None]
    assert len(anew) > 1 and len({*anew}) == len(anew)
