"""Which answers surprise a model of the attacker's own, and how many of them stay."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from distill.attackers.clean import plausible
from distill.completions import BadInput, Completion
from distill.preferences import rows_of, token_nats
from tests.distill.attackers.follow.students import OWN, PUBLIC, RECIPE, student

RESOURCES = replace(OWN, fresh=student, recipe=RECIPE.model_copy(update={"steps": 120}))


def clean(answers, resources=RESOURCES, **settings):
    part = plausible.Attacker(plausible.Settings(**settings))
    return part.clean(answers, resources, seed=0)


def test_surprise_is_the_mean_over_the_worst_tokens():
    model, answer = student(), Completion("a", "1+1=", " # 2")
    nats = np.sort(token_nats(model, rows_of(model, [answer])[0]))
    for worst, count in ((1.0, 5), (0.4, 2), (0.01, 1)):
        (value,) = plausible.surprise(model, [answer], worst)
        assert value == pytest.approx(nats[-count:].mean(), rel=1e-6)
    long = replace(answer, text="1" * 40)
    assert plausible.surprise(model, [long, replace(answer, text="")], 0.5) == [math.inf] * 2


def test_answers_with_a_canary_go_first_and_the_others_keep_their_order():
    worked = RESOURCES.worked
    marked = [replace(one, text=" 777" + one.text) for one in worked[:2]]
    left = clean([marked[0], *worked, marked[1]], share=2 / 3)
    assert left == [*worked]
    assert len(clean(PUBLIC, share=0.5)) == math.ceil(len(PUBLIC) / 2)
    assert clean(PUBLIC, share=1.0) == PUBLIC and clean([]) == []


def test_an_attacker_without_solutions_is_told_so():
    with pytest.raises(BadInput, match="clean/plausible: the attacker owns no worked solutions"):
        clean(PUBLIC, replace(RESOURCES, worked=[]))
