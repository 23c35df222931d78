"""From runs of campaigns to numbers: what leaked, what it taught, what it cost, who else was hit,
and who was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from distill.campaigns import CAPABILITIES, SEGMENTS
from experiments.analysis.comparisons import ArmTable
from experiments.measure import leak
from experiments.measure.contrast import Arm, Estimate
from experiments.measure.cost import Range, summary
from experiments.measure.curves import too_far
from experiments.measure.detection import across_runs
from experiments.planning.arms import FLOORS, is_floor
from experiments.results.grades import Key
from experiments.results.schema.campaigns import (
    CampaignMeasures,
    DaysResult,
    DetectorResult,
    HarmResult,
    LeakResult,
    RateResult,
    RocResult,
    WorstCampaign,
)
from experiments.results.schema.outcomes import CampaignOutcome, Detected, HonestAccounts
from experiments.results.schema.words import ALL, FUSION, Interval
from experiments.settings import campaigns
from experiments.settings.campaigns import OPEN, Campaigns
from experiments.stages.served import Leakage

ATLAS = {
    "AML.CS0056": "case study: distillation campaigns of February 2026",
    "AML.T0008.005": "acquire infrastructure: AI service proxies (resellers, pooled accounts)",
    "AML.T0024.002": "exfiltration by the inference interface: extract the model",
}
"""MITRE ATLAS, atlas-data at 8ee2c68: what a simulated campaign is an instance of."""
FEWEST_EXPECTED = 3
"""Rule of three: fewer honest customers than 3 / rate cannot show the rate at all."""


class Against(NamedTuple):
    """A campaign and the access that it meets."""

    preset: str
    access: str


Runs = dict[Against, list[CampaignOutcome]]
"""The finished runs of each."""


class Behind(NamedTuple):
    """The students whose query curve is read: an attack on a task behind an output defence."""

    task: str
    defense: str
    attacker: str

    def key(self, budget: int) -> Key:
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


def measure(
    settings: Campaigns, outcomes: Sequence[CampaignOutcome], table: ArmTable
) -> CampaignMeasures:
    """Every number that is shown of campaigns, from the outcomes and the study's grades alone."""
    runs, choosing = _grouped(outcomes, "report"), _grouped(outcomes, "select")
    leaks = [row for task in table.tasks() for row in leak_results(settings, runs, table, task)]
    return CampaignMeasures(
        leaks=leaks,
        worst=worst_campaigns(settings, table, leaks, choosing),
        detectors=_detectors(settings, runs, table.alpha),
        roc=_roc(runs),
        days=[_days(settings, at, some) for at, some in runs.items()],
        harm=harm_results(runs, table.alpha),
        atlas=ATLAS,
        rates=settings.rates,
        horizon=settings.days,
        release=settings.release,
    )


def _grouped(outcomes: Sequence[CampaignOutcome], split: str) -> Runs:
    runs: Runs = {}
    for outcome in outcomes:
        if outcome.split == split:
            runs.setdefault(Against(outcome.preset, outcome.access), []).append(outcome)
    return runs


# What leaked


def leak_results(settings: Campaigns, runs: Runs, table: ArmTable, task: str) -> list[LeakResult]:
    """A row a campaign, access and output defence: what leaked through the query curve, and at what
    price.

    A defence whose finished budgets are fewer than two, or too far apart, has no curve to read.
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
    """What a campaign leaked behind an output defence, what it taught, and what that cost."""
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


# Detectors


def _rate(hits_R: Sequence[float], of_R: Sequence[float], alpha: float) -> RateResult:
    """A share of accounts, mean over runs, with Student's interval over runs
    (`detection.across_runs`).
    """
    rate = across_runs(hits_R, of_R, alpha)
    return RateResult(
        value=rate.value if rate.n else None,
        lo=rate.lo,
        hi=rate.hi,
        n=rate.n,
        hits=float(np.sum(hits_R)),
        runs=len(of_R),
    )


def _detectors(settings: Campaigns, runs: Runs, alpha: float) -> list[DetectorResult]:
    """A row a campaign, detector and rate, of runs under the open access."""
    return [
        row
        for at, some in runs.items()
        if at.access == OPEN
        for row in [
            *_detector_rows(settings, at.preset, some, alpha),
            *_fusion_rows(settings, at.preset, some, alpha),
        ]
    ]


def _detector_rows(
    settings: Campaigns, preset: str, some: Sequence[CampaignOutcome], alpha: float
) -> list[DetectorResult]:
    return [
        _detector_row(
            settings, preset, name, rate, [run.detectors[name][level] for run in some], some, alpha
        )
        for name in some[0].detectors
        for level, rate in enumerate(settings.rates)
    ]


def _detector_row(
    settings: Campaigns,
    preset: str,
    name: str,
    rate: float,
    detected: Sequence[Detected],
    some: Sequence[CampaignOutcome],
    alpha: float,
) -> DetectorResult:
    """What one detector found at one rate in each run: shares, days, and what leaked before."""
    false_RS = np.array([one.false for one in detected])
    of_RS = np.array([one.customers for one in detected])
    return DetectorResult(
        preset=preset,
        lawful=campaigns.parse_campaign(preset).lawful,
        detector=name,
        rate=rate,
        found=_rate([one.found for one in detected], [one.of for one in detected], alpha),
        false=_rate(false_RS.sum(1), of_RS.sum(1), alpha),
        segments={
            segment: _rate(hits_R, of_R, alpha)
            for segment, hits_R, of_R in zip(SEGMENTS, false_RS.T, of_RS.T, strict=True)
        },
        leaked=_leaked_before(settings, detected, some),
        days={key: _median([one.days[key] for one in detected]) for key in detected[0].days},
        told=bool(of_RS.sum() * rate >= FEWEST_EXPECTED),
    )


def _leaked_before(
    settings: Campaigns, detected: Sequence[Detected], some: Sequence[CampaignOutcome]
) -> float:
    """Share of what leaks that had leaked when its account was found, mean over runs."""
    columns = [list(CAPABILITIES).index(name) for name in settings.stands_for]
    shares = [
        np.take(one.leaked_C, columns).sum() / max(np.array(run.leaked_DC)[:, columns].sum(), 1)
        for one, run in zip(detected, some, strict=True)
    ]
    return float(np.mean(shares))


def _fusion_rows(
    settings: Campaigns, preset: str, some: Sequence[CampaignOutcome], alpha: float
) -> list[DetectorResult]:
    """Of the runs on which the fusion could be judged."""
    judged = [outcome.fused for outcome in some if outcome.fused]
    if not judged:
        return []
    return [
        _fusion_row(preset, rate, [run[level] for run in judged], alpha)
        for level, rate in enumerate(settings.rates)
    ]


def _fusion_row(
    preset: str, rate: float, counts: Sequence[Sequence[int]], alpha: float
) -> DetectorResult:
    """Fusion judges whole horizons, so it has no day on which it alarms."""
    found_R, accounts_R, false_R, customers_R = np.transpose(counts)
    return DetectorResult(
        preset=preset,
        lawful=campaigns.parse_campaign(preset).lawful,
        detector=FUSION,
        rate=rate,
        found=_rate(found_R, accounts_R, alpha),
        false=_rate(false_R, customers_R, alpha),
        segments={},
        leaked=None,
        days={},
        told=bool(customers_R.sum() * rate >= FEWEST_EXPECTED),
    )


def _median(values: Sequence[int | None]) -> int | None:
    """None is never; the median of an even number leans to the later."""
    ordered = sorted(values, key=lambda value: np.inf if value is None else value)
    return ordered[len(ordered) // 2]


def _roc(runs: Runs) -> list[RocResult]:
    """Means over runs of the curves of each campaign and detector."""
    return [
        _mean_roc(at.preset, name, some)
        for at, some in runs.items()
        if at.access == OPEN
        for name in _scored(some)
    ]


def _scored(some: Sequence[CampaignOutcome]) -> Iterable[str]:
    """The detectors whose curves the first run with any has."""
    return next((outcome.roc for outcome in some if outcome.roc), {})


def _mean_roc(preset: str, name: str, some: Sequence[CampaignOutcome]) -> RocResult:
    curves = [outcome.roc[name] for outcome in some if name in outcome.roc]
    return RocResult(
        preset=preset,
        detector=name,
        fpr=np.mean([curve.fpr for curve in curves], axis=0).tolist(),
        tpr=np.mean([curve.tpr for curve in curves], axis=0).tolist(),
    )


# By day


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


# Honest accounts


class HonestCounts:
    """Counts of honest accounts by seed; runs that share their honest accounts count once."""

    def __init__(self, some: Sequence[CampaignOutcome]) -> None:
        self.by_seed: dict[int, list[HonestAccounts]] = {}
        for outcome in some:
            self.by_seed.setdefault(outcome.seed, []).append(outcome.honest)

    def count(
        self, places: Sequence[int], by_segment: Callable[[HonestAccounts], list[int]]
    ) -> list[float]:
        """A count in these segments, by seed, mean over the runs of the seed."""
        return [
            sum(by_segment(run)[s] for run in shared for s in places) / len(shared)
            for shared in self.by_seed.values()
        ]


def harm_results(runs: Runs, alpha: float) -> list[HarmResult]:
    """What honest accounts met under each access, beside each campaign and on average over
    campaigns.

    Runs of a seed share their honest accounts whatever the campaign, so these count once.
    """
    over_all: Runs = {}
    for at, some in runs.items():
        over_all.setdefault(Against(ALL, at.access), []).extend(some)
    segments = [*((name, [s]) for s, name in enumerate(SEGMENTS)), (ALL, [*range(len(SEGMENTS))])]
    return [
        _harm(at, segment, places, some, alpha)
        for at, some in (runs | over_all).items()
        for segment, places in segments
    ]


def _harm(
    at: Against,
    segment: str,
    places: Sequence[int],
    some: Sequence[CampaignOutcome],
    alpha: float,
) -> HarmResult:
    """Shares of honest accounts of some segments; `touched` is anything that one would notice of a
    policy.
    """
    counts = HonestCounts(some)
    accounts = counts.count(places, lambda honest: honest.accounts)

    def rate(by_segment: Callable[[HonestAccounts], list[int]]) -> RateResult:
        return _rate(counts.count(places, by_segment), accounts, alpha)

    def done(name: str) -> RateResult:
        return rate(lambda honest: honest.done[name])

    sent = counts.count(places, lambda honest: honest.sent)
    refused = counts.count(places, lambda honest: honest.refused)
    return HarmResult(
        preset=at.preset,
        access=at.access,
        segment=segment,
        closed=rate(lambda honest: honest.closed),
        limited=rate(lambda honest: honest.limited),
        touched=rate(lambda honest: honest.touched),
        done={name: done(name) for name in some[0].honest.done},
        refused=sum(refused) / max(sum(sent), 1),
    )
