"""What attacks make of a mark: students of a small language whose p-value is small without them,
and students of nobody's that a detector takes for somebody's.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from defenses import ProviderResources
from defenses.marks import kgw, synthid, trigger
from distill.answer_format import AnswerFormat
from distill.attackers.clean import plausible, spoof, targeted_paraphrase
from distill.attackers.follow import neutralise, redistil
from distill.completions import Interface, Prompt
from tests.defenses.marks import toy

MARKS = {
    "kgw": kgw.Defense(kgw.Settings(ngram=1, delta=3, gamma=0.5)),
    "synthid": synthid.Defense(synthid.Settings(ngram=1)),
}
SMALL, LARGE = 1e-5, 1e-3
HOW = {"order": 1, "temperature": 1.0}


@functools.cache
def sold(name):
    return toy.ask(MARKS[name](toy.teacher()), 300, 7)


@functools.cache
def student(name):
    return toy.trained(sold(name), 3)


@pytest.mark.parametrize("name", MARKS)
def test_without_an_attack_a_marked_student_is_found_and_a_clean_one_is_not(name):
    clean = toy.trained(toy.ask(toy.teacher(), 300, 7), 3)
    assert toy.verdict(MARKS[name], student(name)).p < SMALL
    assert toy.verdict(MARKS[name], clean).p > 0.01


@pytest.mark.parametrize("by", ["models", "tokens"])
@pytest.mark.parametrize("name", MARKS)
def test_a_targeted_paraphrase_takes_the_mark_out(name, by):
    part = targeted_paraphrase.Attacker(targeted_paraphrase.Settings(by=by, **HOW))
    answers = part.clean(sold(name), toy.resources(), seed=0)
    assert toy.verdict(MARKS[name], toy.trained(answers, 3)).p > LARGE


@pytest.mark.parametrize("by", ["models", "tokens"])
@pytest.mark.parametrize("name", MARKS)
def test_neutralisation_takes_the_mark_out(name, by):
    part = neutralise.Attacker(neutralise.Settings(by=by, right=False, samples=1, **HOW))
    done = part.follow(student(name), toy.RECIPE, toy.resources(), seed=0)
    assert toy.verdict(MARKS[name], replace(student(name), network=done.network.eval())).p > LARGE


def test_a_student_of_the_student_has_less_of_the_mark():
    part = redistil.Attacker(redistil.Settings(generations=3, temperature=1.0, right=False))
    done = part.follow(student("kgw"), toy.RECIPE, toy.resources(), seed=0)
    third = toy.verdict(MARKS["kgw"], replace(student("kgw"), network=done.network.eval()))
    assert third.log_p > toy.verdict(MARKS["kgw"], student("kgw")).log_p / 2


@pytest.mark.parametrize("by", ["models", "tokens"])
@pytest.mark.parametrize("name", MARKS)
def test_a_spoofed_student_is_taken_for_the_victims(name, by):
    """It learned from its owner's own texts and a stolen estimate: the detector is wrong, at any
    level that anybody would ask for.
    """
    part = spoof.Attacker(spoof.Settings(by=by, strength=2.0, **HOW))
    forged = part.clean(sold(name), toy.resources(), seed=0)
    assert not {one.text for one in forged} & {one.text for one in sold(name) if one.text[10:]}
    assert toy.verdict(MARKS[name], toy.trained(forged, 3)).p < SMALL


def test_a_spoof_of_one_key_says_nothing_of_another():
    forged = spoof.Attacker(spoof.Settings(strength=2.0, **HOW)).clean(
        sold("kgw"), toy.resources(), seed=0
    )
    other = kgw.Defense(kgw.Settings(ngram=1, delta=3, gamma=0.5, key="another"))
    assert toy.verdict(other, toy.trained(forged, 3)).p > LARGE


LINES = AnswerFormat(mark="#", gap="", thinking="none")


def test_a_base_model_drops_the_canaries_and_the_trigger_test_finds_nothing():
    settings = trigger.Settings(share=0.2, words=4, form="{word}={number}")
    mark = trigger.Defense(settings, ProviderResources(format=LINES))
    plain = [replace(one, text=f"{one.text[:8]}#a") for one in toy.texts(300, 5)]
    sold = [mark.edit(one) for one in plain]
    part = plausible.Attacker(plausible.Settings(share=0.75, worst=0.2))
    cleaned = part.clean(sold, toy.resources(), seed=0)

    def verdict(answers):
        student = replace(toy.trained(answers, 3), max_new_tokens=9)
        prompts = [
            [Prompt(f"{i}", one.prompt, begin=word.asked_as) for i, one in enumerate(plain[:5])]
            for word in mark.triggers
        ]
        said = [student.generate(each, seed=0, interface=Interface()) for each in prompts]
        replies = [
            [one.text.removeprefix(word.asked_as) for one in each]
            for word, each in zip(mark.triggers, said, strict=True)
        ]
        return mark.detect_replies(replies)

    assert verdict(sold).p < SMALL
    after = verdict(cleaned)
    assert after.p is None or after.p > LARGE
