"""Silent downgrade: which requests the weaker model answers, and what is released then."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from defenses import ProviderResources
from defenses.release.downgrade import Defense, Settings, is_downgraded
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from experiments.stages.models import StoredModel

PROMPTS = [Prompt(f"p{i}", f"{i}+{i}=") for i in range(400)]
ROW = Logprobs(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))


def stored(text: str) -> StoredModel:
    return StoredModel(
        [Completion.to(prompt, text, token_ids=(1,), logprobs=ROW) for prompt in PROMPTS]
    )


class Weaker:
    """Says which prompts it was asked, with which seed."""

    def __init__(self):
        self.calls = []

    def generate(self, prompts, *, seed, interface):
        self.calls.append(([prompt.id for prompt in prompts], seed, interface.kind))
        return [Completion.to(prompt, "weak", token_ids=(2,)) for prompt in prompts]


def test_the_share_is_kept_within_its_binomial_spread():
    for share in (0.0, 0.1, 0.3, 1.0):
        n = sum(is_downgraded(PROMPTS, 0, share, "request", "k"))
        assert abs(n - 400 * share) <= 4 * math.sqrt(400 * share * (1 - share))


def test_asking_again_draws_again_by_request_and_never_by_prompt():
    again = [replace(prompt, attempt=1) for prompt in PROMPTS]
    for per, same in (("request", False), ("prompt", True)):
        first = is_downgraded(PROMPTS, 0, 0.3, per, "k")
        assert is_downgraded(PROMPTS, 0, 0.3, per, "k") == first
        assert (is_downgraded(again, 0, 0.3, per, "k") == first) is same
        assert (is_downgraded(PROMPTS, 1, 0.3, per, "k") == first) is same
        assert is_downgraded(PROMPTS, 0, 0.3, per, "other") != first
        # More are downgraded at a larger share, and none of them is spared.
        more = is_downgraded(PROMPTS, 0, 0.6, per, "k")
        assert all(b for a, b in zip(first, more, strict=True) if a) and sum(more) > sum(first)


def test_only_what_is_downgraded_is_asked_of_the_weaker_model_and_nothing_tells_it():
    weaker = Weaker()
    defense = Defense(Settings(share=0.3), ProviderResources(weaker_teacher=weaker))
    answers = defense(stored("strong")).generate(PROMPTS, seed=7, interface=Interface("full"))
    downgraded = is_downgraded(PROMPTS, 7, 0.3, "request", "downgrade")
    assert [answer.text for answer in answers] == [
        "weak" if weak else "strong" for weak in downgraded
    ]
    weak_ids = [p.id for p, weak in zip(PROMPTS, downgraded, strict=True) if weak]
    assert weaker.calls == [(weak_ids, 7, "text")]
    assert {(answer.token_ids, answer.logprobs) for answer in answers} == {((), None)}
    assert [answer.prompt_id for answer in answers] == [prompt.id for prompt in PROMPTS]


@pytest.mark.parametrize("to", ["weaker_teacher", "base"])
def test_it_asks_the_model_that_it_names(to):
    defense = Defense(Settings(share=1.0, to=to), ProviderResources(**{to: Weaker()}))
    assert defense.traits.needs == (to,)
    answers = defense(stored("strong")).generate(PROMPTS, seed=0, interface=Interface())
    assert {answer.text for answer in answers} == {"weak"}
    other = "base" if to == "weaker_teacher" else "weaker_teacher"
    with pytest.raises(BadInput, match=f"needs a {to}"):
        Defense(Settings(to=to), ProviderResources(**{other: Weaker()}))(stored("strong"))
