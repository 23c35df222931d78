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


def verdict(name, model):
    return toy.verdict(MARKS[name], model, 200)


@functools.cache
def paraphrased(name, by, strength):
    part = targeted_paraphrase.Attacker(
        targeted_paraphrase.Settings(by=by, strength=strength, **HOW)
    )
    return verdict(name, toy.trained(part.clean(sold(name), toy.resources(), seed=2), 6))


@functools.cache
def neutralised(name, by, strength):
    settings = neutralise.Settings(by=by, strength=strength, right=False, samples=1, **HOW)
    done = neutralise.Attacker(settings).follow(student(name), toy.RECIPE, toy.resources(), seed=2)
    return verdict(name, replace(student(name), network=done.network.eval()))


@functools.cache
def spoofed(strength):
    part = spoof.Attacker(spoof.Settings(by="tokens", strength=strength, **HOW))
    return toy.trained(part.clean(sold("kgw"), toy.resources(), seed=2), 6)


@pytest.mark.parametrize("by", ["models", "tokens"])
@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("attack", [paraphrased, neutralised])
def test_what_a_mark_prefers_is_taken_out(attack, name, by):
    """Saying the answers anew already takes most of a mark, so the same attack that subtracts
    nothing is the control: subtracting takes more.
    """
    assert verdict(name, student(name)).p < SMALL
    after = attack(name, by, 2.5)
    assert after.p > LARGE and after.log_p > attack(name, "models", 0.0).log_p


def test_a_student_of_the_student_has_less_of_the_mark():
    part = redistil.Attacker(redistil.Settings(generations=3, temperature=1.0, right=False))
    done = part.follow(student("kgw"), toy.RECIPE, toy.resources(), seed=0)
    third = verdict("kgw", replace(student("kgw"), network=done.network.eval()))
    assert third.log_p > verdict("kgw", student("kgw")).log_p / 2


def test_a_spoofed_student_is_taken_for_the_victims():
    """It learned from its owner's own model and a stolen estimate, never from the victim: the
    detector is wrong. With nothing added it finds nothing, and another key finds nothing either.
    By two models in place of two sets of texts p was often not so small: no test claims it.
    """
    other = kgw.Defense(kgw.Settings(ngram=1, delta=3, gamma=0.5, key="another"))
    assert verdict("kgw", spoofed(4.0)).p < SMALL
    assert verdict("kgw", spoofed(0.0)).p > LARGE
    assert toy.verdict(other, spoofed(4.0), 200).p > LARGE


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
        answers = [student.generate(each, seed=0, interface=Interface()) for each in prompts]
        replies = [
            [one.text.removeprefix(word.asked_as) for one in each]
            for word, each in zip(mark.triggers, answers, strict=True)
        ]
        return mark.detect_replies(replies)

    assert verdict(sold).p < SMALL
    after = verdict(cleaned)
    assert after.p is None or after.p > LARGE
