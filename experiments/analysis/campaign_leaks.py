"""What campaigns got before they were stopped, what it taught, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.analysis.campaign_outcomes import Against, Runs
from experiments.analysis.comparisons import ArmTable
from experiments.measure import leak
from experiments.measure.budgets import too_far
from experiments.measure.contrast import Estimate
from experiments.measure.cost import Range, summary
from experiments.measure.scores import Arm
from experiments.planning.arms import FLOORS, is_floor
from experiments.results.grades import Key
from experiments.results.schema.campaigns import (
    DaysResult,
    LeakResult,
    WorstCampaign,
)
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.results.schema.words import Interval
from experiments.settings import campaigns
from experiments.settings.campaigns import OPEN, Campaigns
from experiments.stages.served import Leakage


class Behind(NamedTuple):
    """The students whose query curve is read: an attack on a task behind an output defence."""

    task: str
    defense: str
    attacker: str

    def key(self, budget: int) -> Key:
        """The reported arm at a budget.

        Args:
            budget: in exchanges.
        """
        return Key(self.task, self.defense, self.attacker, budget, "report")


class Served(NamedTuple):
    """Questions that runs (R) were answered, in full and reduced, and what a reduced answer is said
    to be worth.
    """

    full_R: np.ndarray
    reduced_R: np.ndarray
    worth: float

    @property
    def n_R(self) -> np.ndarray:
        return self.full_R + self.worth * self.reduced_R


def leak_results(settings: Campaigns, runs: Runs, table: ArmTable, task: str) -> list[LeakResult]:
    """A row a campaign, access and output defence: what leaked through the query curve, and at what
    price.

    A defence whose finished budgets are fewer than two, or too far apart, has no curve to read.

    Args:
        settings: of the study's campaigns.
        runs: of the report.
        table: the study's graded arms.
        task: whose students' curve is read.
    """
    readable = [arm for arm in _attacked(table, task) if _is_readable(_budgets(table, arm))]
    return [leak_result(settings, table, arm, at, runs) for arm in readable for at in runs]


def _attacked(table: ArmTable, task: str) -> list[Behind]:
    """Of each block of the study its defences, with its first attacker that asks."""
    arms: dict[Behind, None] = {}
    for block in table.study.blocks:
        attacker = next((name for name in block.attackers if not is_floor(name)), None)
        if task in block.tasks and attacker:
            arms |= {Behind(task, name, attacker): None for name in ["none", *block.defenses]}
    return list(arms)


def _budgets(table: ArmTable, arm: Behind) -> list[int]:
    return [n for n in table.budgets(arm.task) if arm.key(n) in table.report]


def _is_readable(budgets: Sequence[int]) -> bool:
    return len(budgets) > 1 and not too_far(budgets, "the curve")


def leak_result(
    settings: Campaigns, table: ArmTable, arm: Behind, at: Against, runs: Runs
) -> LeakResult:
    """What a campaign leaked behind an output defence, what it taught, and what that cost.

    Args:
        settings: of the study's campaigns.
        table: the study's graded arms.
        arm: whose curve is read.
        at: the campaign, and the access that it met.
        runs: of the report; those under the open access are what the price is compared with.
    """
    some, campaign = runs[at], campaigns.parse_campaign(at.preset)
    budget = table.study.most(arm.task)
    planned = _planned(settings, at.preset) / settings.per_question(at.preset, budget)
    served = _served(settings, budget, at, some)
    gain = _gain(table, arm, served.n_R)
    spent_B = _dollars(settings, table, some)
    point_B = leak.per_point(spent_B, gain.draws_B)
    return LeakResult(
        **arm._asdict(),
        **at._asdict(),
        runs=len(some),
        planned=planned,
        questions=served.n_R.mean(),
        full=served.full_R.mean(),
        reduced=served.reduced_R.mean(),
        leaked=float(served.n_R.mean()) / planned,
        leaked_runs=(served.n_R / planned).tolist(),
        trained=_interval(_trained(table, arm, some)),
        gain=gain.value,
        gain_lo=gain.lo,
        gain_hi=gain.hi,
        beyond=gain.beyond,
        lawful=campaign.lawful,
        dollars=list(summary(spent_B)),
        per_point=list(summary(point_B)),
        times=_times(settings, table, arm, at, runs, point_B),
    )


def _times(
    settings: Campaigns,
    table: ArmTable,
    arm: Behind,
    at: Against,
    runs: Runs,
    point_B: np.ndarray,
) -> list[float | None] | None:
    """How many times more a point costs than it does open and undefended."""
    open_access = at._replace(access=OPEN)
    some = runs.get(open_access)
    if not some:
        return None
    served = _served(settings, table.study.most(arm.task), open_access, some)
    gain = _gain(table, arm._replace(defense="none"), served.n_R)
    undefended_B = leak.per_point(_dollars(settings, table, some), gain.draws_B)
    times = leak.multiple(point_B, undefended_B)
    return None if times is None else list(times)


def _planned(settings: Campaigns, preset: str) -> float:
    """Exchanges that stand for the study's tasks, of those that a campaign wants."""
    campaign = campaigns.parse_campaign(preset)
    return campaign.planned(settings.days) * settings.share(campaign)


def _served(
    settings: Campaigns, budget: int, at: Against, some: Sequence[CampaignOutcome]
) -> Served:
    per = settings.per_question(at.preset, budget)
    days = [_by_day(settings, outcome) for outcome in some]
    full_R, reduced_R = (np.array([part[i].sum() for part in days]) / per for i in (0, 1))
    return Served(full_R, reduced_R, _worth(at.access))


def _by_day(settings: Campaigns, outcome: CampaignOutcome) -> tuple[np.ndarray, np.ndarray]:
    """Exchanges that stand for the task, answered in full and reduced, by day."""
    leakage = Leakage(
        capabilities=outcome.capabilities,
        leaked_DC=outcome.leaked_DC,
        reduced_DC=outcome.reduced_DC,
    )
    return leakage.by_day(settings.stands_for)


def _worth(access: str) -> float:
    """What a reduced answer is said to teach under an access."""
    return 1.0 if access == OPEN else campaigns.parse_access(access).worth


def _gain(table: ArmTable, arm: Behind, n_R: np.ndarray) -> leak.Gain:
    """What so many questions (R) teach, read through the arm's query curve."""
    budgets = _budgets(table, arm)
    zero = Key(arm.task, "none", FLOORS[0], budgets[0], "report")
    return leak.gained(
        table.scores(table.floor_key(arm.task, budgets[-1])),
        table.scores(zero),
        _common_seeds([table.scores(arm.key(n)) for n in budgets]),
        np.array(budgets),
        n_R,
        draws=table.study.measure.draws,
        alpha=table.alpha,
        clusters=table.clusters(arm.task),
    )


def _common_seeds(arms: Sequence[Arm]) -> list[Arm]:
    """The arms with the seeds that all have: of a partial report some students may be missing."""
    common = set.intersection(*(set(arm.seeds) for arm in arms))
    return [_with_seeds(arm, common) for arm in arms]


def _with_seeds(arm: Arm, seeds: set[int]) -> Arm:
    rows = [i for i, seed in enumerate(arm.seeds) if seed in seeds]
    return Arm(arm.scores_SN[rows], tuple(arm.seeds[i] for i in rows))


def _dollars(settings: Campaigns, table: ArmTable, some: Sequence[CampaignOutcome]) -> np.ndarray:
    """Cost of a run in every draw of the prices and of the runs (B)."""
    stated = table.study.measure.prices
    ends = (stated.price_in, stated.price_out, stated.price_account, settings.price_identity)
    prices = leak.Prices(*(Range(*pair) for pair in ends))
    return leak.dollars([spending(outcome) for outcome in some], prices, table.study.measure.draws)


def spending(outcome: CampaignOutcome) -> leak.Spent:
    """What a run bought; the first of `bought` counts exchanges."""
    accounts = outcome.campaign
    _, tokens_in, tokens_out = outcome.bought
    opened = accounts.opened + accounts.turned_away
    return leak.Spent(tokens_in, tokens_out, opened, accounts.verified)


def _trained(table: ArmTable, arm: Behind, some: Sequence[CampaignOutcome]) -> Estimate | None:
    """Accuracy above the floor of the students that learned exactly what leaked; None unless every
    run has one.
    """
    right = [
        student.right
        for outcome in some
        for student in outcome.students
        if (student.task, student.defense, student.attacker) == arm
    ]
    if len(right) != len(some):
        return None
    D_RN = np.array([[letter == "1" for letter in items] for items in right], float)
    F = table.scores(table.floor_key(arm.task, _budgets(table, arm)[-1]))
    return leak.taught(F, D_RN, table.alpha, table.clusters(arm.task))


def _interval(estimate: Estimate | None) -> Interval | None:
    if estimate is None:
        return None
    return Interval(value=estimate.value, lo=estimate.lo, hi=estimate.hi)


def worst_campaigns(
    settings: Campaigns, table: ArmTable, leaks: Sequence[LeakResult], choosing: Runs
) -> list[WorstCampaign]:
    """The campaign that gains most against each pair of defences, chosen on other runs than those
    reported.

    Args:
        settings: of the study's campaigns.
        table: the study's graded arms.
        leaks: of the report.
        choosing: runs of the selection split.

    Returns:
        One a task, access and output defence; lawful campaigns are no candidates.
    """
    ranked: dict[tuple[str, str, str], list[tuple[float, LeakResult]]] = {}
    for row in leaks:
        if not row.lawful:
            gain = _chosen_by(settings, table, row, choosing)
            ranked.setdefault((row.task, row.access, row.defense), []).append((gain, row))
    return [_worst(max(rows, key=lambda pair: pair[0])[1]) for rows in ranked.values()]


def _chosen_by(settings: Campaigns, table: ArmTable, row: LeakResult, choosing: Runs) -> float:
    """What a campaign gains in the runs that only choose; -infinity where there are none."""
    at = Against(row.preset, row.access)
    n_R = _served(settings, table.study.most(row.task), at, choosing.get(at, [])).n_R
    arm = Behind(row.task, row.defense, row.attacker)
    return _gain(table, arm, n_R).value if len(n_R) else -np.inf


def _worst(row: LeakResult) -> WorstCampaign:
    return WorstCampaign(
        task=row.task,
        access=row.access,
        defense=row.defense,
        preset=row.preset,
        trained=row.trained,
        gain=row.gain,
        gain_lo=row.gain_lo,
        gain_hi=row.gain_hi,
        beyond=row.beyond,
    )


def days_results(settings: Campaigns, runs: Runs) -> list[DaysResult]:
    """What leaked by day, a row a campaign and access.

    Args:
        settings: of the study's campaigns.
        runs: of the report.
    """
    return [_days(settings, at, some) for at, some in runs.items()]


def _days(settings: Campaigns, at: Against, some: Sequence[CampaignOutcome]) -> DaysResult:
    """Leaked so far as a share of what was planned, reduced answers at their stated worth; accounts
    opened and closed.
    """
    planned, worth = _planned(settings, at.preset), _worth(at.access)
    days = [_by_day(settings, outcome) for outcome in some]
    total_RD = np.array([(full + worth * less).cumsum() / planned for full, less in days])
    opened_D = np.mean([outcome.campaign.opened_D for outcome in some], axis=0)
    closed_D = np.mean([outcome.campaign.closed_D for outcome in some], axis=0)
    return DaysResult(
        preset=at.preset,
        access=at.access,
        leaked=total_RD.mean(axis=0).tolist(),
        lo=total_RD.min(axis=0).tolist(),
        hi=total_RD.max(axis=0).tolist(),
        opened=opened_D.tolist(),
        closed=closed_D.tolist(),
    )
