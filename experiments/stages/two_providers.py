"""What simulations are told of traffic and who watches, and the first of two providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from defenses.access import BaseDetector, Baseline, policy
from defenses.access.calibration import Calibration
from defenses.access.share_list import ShareList
from distill.campaigns.settings import Campaign
from experiments.campaigns.lens import Texts
from experiments.campaigns.neighbour import Neighbour, Overlap
from experiments.campaigns.population import Population
from experiments.campaigns.simulate import simulate
from experiments.settings.components import ComponentSpec, build
from experiments.stages.stage import Sparse, Spec

SHARED = "shared"  # the detector of what another provider hands on


class Access(policy.Settings):
    """A policy as a run is told of it: what an answer is worth is for the referee to say."""

    worth: float = Field(default=0.3, exclude=True)


class OtherSpec(Sparse):
    """Another provider: who is at both, and the policy by which it hands on."""

    overlap: Overlap
    access: Access


class TrafficSpec(Spec):
    """Honest accounts over a horizon, the day of a release in it, who watches, and another provider
    beside this one, if there is one.
    """

    honest: Population
    days: int
    release: int | None
    detectors: list[ComponentSpec]
    other: OtherSpec | None = None


class Told(NamedTuple):
    """What the first provider is to the second: who was there, and what it hands on."""

    neighbour: Neighbour
    received: ShareList


def detectors(components: Sequence[ComponentSpec], learned: Baseline) -> list[BaseDetector]:
    """Detectors of resolved settings, as a provider that learned this baseline has them.

    Args:
        components: of the `detector` group.
        learned: of the provider's clean past.
    """
    return [build("detector", component, learned) for component in components]


def acting(
    access: policy.Settings, components: Sequence[ComponentSpec], learned: Baseline
) -> list[BaseDetector]:
    """The detectors that a policy's rules act on.

    Args:
        access: with its rules.
        components: of the `detector` group.
        learned: of the provider's clean past.
    """
    ruling = {rule.detector for rule in access.rules}
    return detectors([one for one in components if one.name in ruling], learned)


def first_provider(
    spec: TrafficSpec,
    campaigns: Sequence[Campaign],
    learned: Baseline,
    calibration: Calibration,
    seed: int,
    texts: Texts | None = None,
) -> Told:
    """Run the other provider's horizon under its policy, beside the same campaigns.

    Args:
        spec: of the traffic, with another provider.
        campaigns: those of the second provider.
        learned: baseline; both providers have customers of one kind.
        calibration: of the detectors that its policy acts on.
        seed: of the simulation.
        texts: that exchanges have, if the provider reads any.
    """
    assert spec.other
    access = spec.other.access
    rates = sorted({rule.rate for rule in access.rules}, reverse=True)
    limits = {
        name: np.stack([calibration.threshold(name, rate) for rate in rates])
        for name in {rule.detector for rule in access.rules}
    }
    provider = policy.PolicyEnforcer(access, acting(access, spec.detectors, learned), limits, rates)
    happened = simulate(
        spec.honest,
        campaigns,
        provider,
        days=spec.days,
        seed=seed,
        release=spec.release,
        texts=texts,
    )
    neighbour = Neighbour(happened.accounts, happened.truth, spec.other.overlap)
    return Told(neighbour, provider.hands_on())
