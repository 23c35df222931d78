"""Tuning on worked solutions alone: what is learned from, and that it is learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.attackers.follow import clean_sft, fine_tune
from distill.completions import BadInput, Prompt
from tests.distill.attackers.follow.students import OWN, PUBLIC, RECIPE, followed, student, weights


def test_worked_solutions_alone_are_learned_from_at_the_settings():
    done = followed(clean_sft, student(), steps=7, rate=0.3, seed=2)
    want = fine_tune(student(), OWN.worked, RECIPE, 2, 7, 0.3)
    assert torch.equal(weights(done.network), weights(want.network)) and done.losses == want.losses
    # Questions with their final answers alone make no difference.
    assert torch.equal(
        weights(
            followed(
                clean_sft, student(), replace(OWN, public=[]), steps=7, rate=0.3, seed=2
            ).network
        ),
        weights(want.network),
    )


def test_what_was_learned_becomes_likelier():
    before = student()
    after = replace(before, network=followed(clean_sft, before, steps=60, rate=1.0).network.eval())
    prompts = [Prompt("x", one.prompt) for one in OWN.worked]
    texts = [one.text for one in OWN.worked]
    nats = [np.mean(model.surprisal(prompts, texts)) for model in (before, after)]
    assert nats[1] < 0.5 * nats[0]


def test_nothing_to_learn_from_is_one_line():
    with pytest.raises(BadInput, match="no answer to learn from"):
        followed(clean_sft, student(), replace(OWN, worked=[], public=PUBLIC))
