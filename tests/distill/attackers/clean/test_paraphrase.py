"""Paraphrases by rule, by hand; the final answer always stays; and by a model, from a folder."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers import AttackerResources
from distill.attackers.clean import paraphrase
from distill.attackers.clean.paraphrase import OTHERS, by_rule
from distill.completions import BadInput, Completion
from distill.embedded import character_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel


def final(answer):
    text = answer.text
    return text.rpartition("#")[2].strip() or None if "#" in text else None


OWN = AttackerResources(final=final)


def attacker(**changes):
    return paraphrase.Attacker(paraphrase.Settings(**changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c=3;a=3+4=7;b=7-3=4", "c=3;a=4+3=7;b=7-3=4"),  # a difference does not commute
        ("a=2*b;d=10 + 5.5", "a=b*2;d=5.5 + 10"),
        ("a=1+2+3", "a=1+2+3"),  # of longer terms nothing is moved
        ("a=-1+2", "a=-1+2"),
        ("a=2*(3)", "a=2*(3)"),
        ("First we add. But it is late", "To begin we add. However it is late"),
        ("sofa So", "sofa So"),  # only where a sentence begins
    ],
)
def test_by_rule(text, expected):
    assert by_rule(text, 1.0, random.Random(0)) == expected


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from("+*"))
def test_a_moved_term_has_the_same_value(a, b, sign):
    moved = by_rule(f"{a}{sign}{b}", 1.0, random.Random(0))
    assert moved == f"{b}{sign}{a}" and eval(moved) == eval(f"{a}{sign}{b}")


def test_connectives_are_of_their_kind_and_each_place_has_its_chance():
    text = "\n".join(["So it is"] * 400)
    words = [line.split(" it")[0] for line in by_rule(text, 0.5, random.Random(1)).splitlines()]
    assert set(words) == {"So", *OTHERS["So"]} and 150 < words.count("So") < 250


@given(st.text("0123456789+*=;-# Soab", max_size=30), st.integers(0, 3))
def test_final_answers_stay_and_the_same_seed_gives_the_same(text, seed):
    answers = [Completion("q", "p", text)]
    once, again = (attacker().clean(answers, OWN, seed=seed) for _ in range(2))
    assert final(once[0]) == final(Completion("q", "q", text)) and once == again
    assert attacker(share=0.0).clean(answers, OWN, seed=seed) == answers


def test_only_the_reasoning_is_touched_and_ids_go():
    answers = [
        Completion("q", "p", "a=1+2=3 # 1+2", token_ids=(1, 2)),
        Completion("r", "p", "# 4", token_ids=(3,)),
    ]
    changed, same = attacker().clean(answers, OWN, seed=0)
    assert changed.text == "a=2+1=3 # 1+2" and changed.token_ids == ()
    assert same is answers[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    tokenizer = character_tokenizer("abcdefghijklmnopqrstuvwxyz0123456789+*=;#: .,'\nSQ")
    network = llama(tokenizer, seed=0, hidden_size=16, num_layers=1, num_heads=2, max_length=256)
    save(LanguageModel(network, tokenizer, max_new_tokens=12), out)
    return out


def test_by_a_model_from_a_folder(folder):
    """A random model says something else, so the reasoning is another, and the final answer is the
    one it was.
    """
    answers = [Completion(str(i), f"q{i}", f"a={i}+2=3 # {i}") for i in range(4)]
    paraphraser = attacker(path=str(folder), max_new_tokens=120, temperature=1.0)
    once, again = (paraphraser.clean(answers, OWN, seed=0) for _ in range(2))
    assert once == again and [*map(final, once)] == [*map(final, answers)]
    assert any(new.text != old.text for new, old in zip(once, answers, strict=True))


def test_back_translation_asks_twice_and_loses_no_answer(monkeypatch):
    """The second time of the first one's words; what a model does not say stays as it was. Attempts
    at one question are answers of their own.
    """
    requests = []

    class Translator:
        def generate(self, prompts, *, seed, interface):
            requests.append([one.text for one in prompts])
            done = {"to: eins": "one", "back: one": " uno ", "to: zwei": "", "to: drei": "2 # 9"}
            return [
                Completion(
                    one.id, one.text, done.get(one.text, "?"), finished="vier" not in one.text
                )
                for one in prompts
            ]

    monkeypatch.setattr(paraphrase, "load", lambda *_, **__: Translator())
    words = ("eins", "zwei", "drei", "vier", "")
    answers = [Completion("q", "", f"{word}# 1", token_ids=(1,)) for word in words]
    there = attacker(path="model", instruction="to: {solution}", back="back: {solution}")
    done = there.clean(answers, OWN, seed=0)
    assert requests == [[f"to: {word}" for word in words[:4]], ["back: one", "back: 2 # 9"]]
    assert [one.text for one in done] == ["uno# 1", "zwei# 1", "?# 1", "vier# 1", "# 1"]
    assert done[1] is answers[1] and done[0].token_ids == ()


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(BadInput, match="model "):
        attacker(path=str(tmp_path / "nowhere")).clean([Completion("q", "p", "a # 1")], OWN, seed=0)
    with pytest.raises(ValueError, match="where the {solution} goes"):
        paraphrase.Settings(path="x", instruction="again")
    with pytest.raises(ValueError, match="back must say where the {solution} goes"):
        paraphrase.Settings(path="x", back="again")
    with pytest.raises(ValueError, match="say which by path"):
        paraphrase.Settings(back="back: {solution}")
