"""Every finished run of a campaign: what happened, its students' grades, and what detectors made of
its accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from defenses.access import fusion
from defenses.access.calibration import Calibration, by_customer
from experiments.planning.arms import Arm, CampaignRun
from experiments.planning.plan import Plan
from experiments.results.schema.outcomes import CampaignOutcome, LeakedStudent, Roc
from experiments.results.schema.words import FUSION
from experiments.settings.campaigns import OPEN
from experiments.stages.arrays import load
from experiments.stages.campaign import ROC
from experiments.stages.grades import read_grades
from experiments.stages.served import CampaignReport
from experiments.stages.served import Scores as Scores
from experiments.store import Store


class Against(NamedTuple):
    """A campaign and the access that it meets."""

    preset: str
    access: str


Runs = dict[Against, list[CampaignOutcome]]
"""The finished runs of each."""


def grouped(outcomes: Sequence[CampaignOutcome], split: str) -> Runs:
    """The runs of a split.

    Args:
        outcomes: of any splits.
        split: `report` or `select`.
    """
    runs: Runs = {}
    for outcome in outcomes:
        if outcome.split == split:
            runs.setdefault(Against(outcome.preset, outcome.access), []).append(outcome)
    return runs


class Run(NamedTuple):
    """Which run's scores they are."""

    preset: str
    seed: int


class Fused(NamedTuple):
    """A fusion's p-values by account (A), and at each rate: accounts found, of all; honest
    customers flagged, of all.
    """

    p: np.ndarray
    at_rates: list[list[int]]


def collect(plan: Plan, store: Store) -> list[CampaignOutcome]:
    """One entry a finished run, with curves of what detectors scored where it is reported and
    served by the open access.

    Args:
        plan: with its campaigns.
        store: where their runs are.

    Raises:
        BadInput: a result is not whole.
    """
    runs = [run for run in plan.leaks if store.has(run.run.kind, run.run.key)]
    folders = [store.open(run.run.kind, run.run.key) for run in runs]
    scores = {
        Run(run.preset, run.seed): read_scores(folder / "scores.npz")
        for run, folder in zip(runs, folders, strict=True)
        if _is_scored(run)
    }
    rates = plan.study.campaigns.rates if plan.study.campaigns else []
    return [
        _outcome(run, folder, store, scores, rates)
        for run, folder in zip(runs, folders, strict=True)
    ]


def read_scores(path: Path) -> Scores:
    """The scores that a campaign's run left.

    Args:
        path: of a `scores.npz`.

    Raises:
        BadInput: the file is not whole.
    """
    return Scores(**load(path))


def _is_scored(run: CampaignRun) -> bool:
    return (run.access, run.split) == (OPEN, "report")


def _outcome(
    run: CampaignRun,
    folder: Path,
    store: Store,
    scores: dict[Run, Scores],
    rates: Sequence[float],
) -> CampaignOutcome:
    finished = [arm for arm in run.students if store.has(arm.exam.kind, arm.exam.key)]
    outcome = CampaignOutcome(
        preset=run.preset,
        access=run.access,
        seed=run.seed,
        split="report" if run.split == "report" else "select",
        students=[_student(store, arm) for arm in finished],
        **CampaignReport.read(folder).model_dump(mode="json", exclude={"probes_D2"}),
    )
    return _with_curves(outcome, scores, rates) if _is_scored(run) else outcome


def _with_curves(
    outcome: CampaignOutcome, scores: dict[Run, Scores], rates: Sequence[float]
) -> CampaignOutcome:
    at = Run(outcome.preset, outcome.seed)
    run = scores[at]
    if not run.guilty.any():  # a campaign without accounts: every detector is blind
        return outcome
    curves = {str(name): roc(p, run) for name, p in zip(run.names, run.p, strict=True)}
    fusion_of_all = fused(scores, at, rates)
    if fusion_of_all is None:
        return outcome.model_copy(update={"roc": curves})
    curves[FUSION] = roc(fusion_of_all.p, run)
    return outcome.model_copy(update={"roc": curves, "fused": fusion_of_all.at_rates})


def _student(store: Store, arm: Arm) -> LeakedStudent:
    graded = read_grades(store.open(arm.exam.kind, arm.exam.key))
    right = "".join("01"[row.outcome == "right"] for row in graded)
    return LeakedStudent(task=arm.task, defense=arm.defense, attacker=arm.attacker, right=right)


def roc(p: np.ndarray, scores: Scores) -> Roc:
    """Shares of honest customers, each by its worst account, and of the campaign's accounts with a
    p-value (A) as low.

    Args:
        p: of each account `[A]`.
        scores: which of them are the campaign's, and whose the others are.

    Returns:
        Shares at each rate of `ROC`.
    """
    guilty = scores.guilty
    honest = -by_customer(-p[~guilty], scores.owner[~guilty])
    return Roc(
        fpr=[(honest <= rate).mean() for rate in ROC],
        tpr=[(p[guilty] <= rate).mean() for rate in ROC],
    )


# Fusion


def fused(scores: dict[Run, Scores], at: Run, rates: Sequence[float]) -> Fused | None:
    """All detectors as one for the run `at`, fitted and calibrated on other seeds and other
    presets alone.

    Runs of a seed share their honest customers, so these come from one run of each other seed.

    Args:
        scores: by run, of all that were scored.
        at: the run that is judged.
        rates: of false alarms, shares of honest customers over the horizon.

    Returns:
        None where there is no other seed or no other preset with accounts.
    """
    others = [
        run
        for run, seen in scores.items()
        if run.seed != at.seed and _campaign(run) != _campaign(at) and seen.guilty.any()
    ]
    if not others:
        return None
    by_seed = {run.seed: scores[run] for run in reversed(others)}
    honest, campaigns = list(by_seed.values()), [scores[run] for run in others]
    weights = _fit(honest, campaigns)
    calibration = _calibration(honest, weights)
    odds, segment = fusion.odds(scores[at].features_AF, weights), scores[at].segment
    at_rates = [
        _flagged(scores[at], odds > calibration.threshold(FUSION, rate)[segment]) for rate in rates
    ]
    return Fused(calibration.p_value(FUSION, odds, segment), at_rates)


def _campaign(run: Run) -> str:
    return run.preset.partition("(")[0]


def _fit(honest: Sequence[Scores], campaigns: Sequence[Scores]) -> fusion.Weights:
    """Weights of a logistic regression of honest against campaign accounts."""
    clean = [one.features_AF[~one.guilty] for one in honest]
    guilty = [one.features_AF[one.guilty] for one in campaigns]
    sizes = [sum(map(len, clean)), sum(map(len, guilty))]
    labels = np.repeat([False, True], sizes)
    return fusion.fit(np.concatenate([*clean, *guilty]), labels, fusion.Settings().ridge)


def _calibration(honest: Sequence[Scores], weights: fusion.Weights) -> Calibration:
    """What the fusion scores of honest accounts; customers of unlike seeds are unlike customers."""
    clean = np.concatenate([one.features_AF[~one.guilty] for one in honest])
    segment = np.concatenate([one.segment[~one.guilty] for one in honest])
    owner = np.concatenate([one.owner[~one.guilty] for one in honest])
    number = np.repeat(np.arange(len(honest)), [(~one.guilty).sum() for one in honest])
    return Calibration({FUSION: fusion.odds(clean, weights)}, segment, owner + number * 2**32)


def _flagged(scores: Scores, hit: np.ndarray) -> list[int]:
    """Accounts found, of all; honest customers flagged, of all."""
    guilty, owners = scores.guilty, scores.owner[~scores.guilty]
    false = len(np.unique(owners[hit[~guilty]]))
    return [int(hit[guilty].sum()), int(guilty.sum()), false, len(np.unique(owners))]
