"""Silent downgrade: suspected callers get a weaker model's answers to some of their requests.

The counter-measure that the advisory AA26-251A (NSA, CISA, FBI, 8 September 2026) asks for: alter
answers, do not say so, and vary it from request to request, so that a check of quality does not
lock on. Here as one policy: each request is answered by the weaker model with one probability,
drawn from a key. Whom a provider suspects is another matter (`defenses/access`); who asks here is
suspected. An honest user who is, loses `share` of the distance between the models' accuracies.

An attacker may ask again and vote, where `per` is request, or probe with questions that it knows
(`experiments/measure/noticing.py` counts how many that takes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from defenses import (
    NO_RESOURCES,
    BaseDefense,
    DefenseSettings,
    ProviderResources,
    SecretKey,
    Strength,
    Traits,
)
from distill.completions import BadInput, Completion, Interface, Prompt
from distill.generation import uniform
from distill.models import Model, ReleasedModel, own_randomness


def is_downgraded(
    prompts: Sequence[Prompt], seed: int, share: float, per: str, key: str
) -> list[bool]:
    """Which requests the weaker model answers.

    Args:
        prompts: what is asked.
        seed: of the asking; the same prompt asked with another is another request.
        share: how likely a request is downgraded, in [0, 1].
        per: `request`: asking again draws again; `prompt`: a prompt always gets the same model.
        key: the provider's secret.

    Returns:
        One truth value a prompt, a function of (key, prompt) and where `per` is request of (seed,
        attempt) as well.
    """
    request_seed = seed if per == "request" else 0
    if per == "prompt":
        prompts = [replace(prompt, attempt=0) for prompt in prompts]
    return [uniform(key, request) < share for request in own_randomness(prompts, request_seed)]


@dataclass(frozen=True)
class DowngradedModel(ReleasedModel):
    """A model some of whose requests a weaker one answers; token ids and logprobs go from all, as
    they would tell the two apart.
    """

    weaker: Model
    share: float
    per: str
    key: str

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        downgraded = is_downgraded(prompts, seed, self.share, self.per, self.key)
        # All of them, as stored completions come whole.
        answers = self.model.generate(prompts, seed=seed, interface=interface)
        places = [place for place, weaker in enumerate(downgraded) if weaker]
        instead = self.weaker.generate(
            [prompts[place] for place in places], seed=seed, interface=Interface()
        )
        for place, answer in zip(places, instead, strict=True):
            answers[place] = answer
        return [replace(answer, token_ids=(), logprobs=None) for answer in answers]


class Settings(DefenseSettings):
    """`share`: how likely a request is downgraded (0: no defence), by `key`; `per`: whether asking
    again draws again; `to`: the study's weaker teacher, or the model that the teacher was before
    its adapter or its training here.
    """

    share: float = Field(0.3, ge=0, le=1)
    to: Literal["weaker_teacher", "base"] = "weaker_teacher"
    per: Literal["request", "prompt"] = "request"
    key: SecretKey = "downgrade"


class Defense(BaseDefense):
    """Releases a weaker model's answers in some requests, and all without token ids and
    logprobs.
    """

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.01, 1.0, log=True),
        needs=("weaker_teacher",),
        paper="AA26-251A",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        self.traits = replace(self.traits, needs=(settings.to,))

    def __call__(self, model: Model) -> Model:
        if self.is_identity:
            return model
        s = self.settings
        weaker = getattr(self.resources, s.to)
        if weaker is None:
            raise BadInput(f"defense release/downgrade: needs a {s.to}; the study names none")
        return DowngradedModel(model, weaker, s.share, s.per, s.key)
