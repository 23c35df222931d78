"""The verdict on a defence: one of six words with the rule that fired, and what would settle an
open case.

The rules are tried in the order of WORDS. A case is one defence on one capability at one budget,
against every listed attack; all arms are seeds x items, on the report split. What is surely below
or above a share of U - F is tested with seed variances moderated over the study's cases, and with
Holm's correction over all cases that can have the word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from experiments.measure import power
from experiments.measure.contrast import (
    MIN_CLUSTERS,
    MIN_ITEMS,
    Prior,
    combine,
    contrast,
    parts_of,
    pooled,
    variance,
)
from experiments.measure.scores import Arm
from experiments.measure.transfer import (
    REPORT_AT,
    Transfer,
    above_p,
    normalised_transfer,
    seeds_unseen,
    threshold,
    threshold_p,
    transfer,
    unseen,
)
from experiments.measure.utility import Cost, non_inferiority

WORDS = ("not measurable", "invalid run", "costly", "ineffective", "effective", "inconclusive")
ENOUGH_ADAPTIVE = 2


@dataclass(frozen=True)
class Rules:
    """Thresholds, from the config: transfer bounds, the honest user's margin, level, planned looks
    (seeds).
    """

    theta: float = 0.5
    ineffective: float = 0.8
    utility_margin: float = 0.02
    alpha: float = 0.05
    looks: tuple[int, ...] = (8,)

    @property
    def level(self) -> float:
        """alpha is shared by the planned looks (Bonferroni over looks)."""
        return self.alpha / len(self.looks)


@dataclass(frozen=True, eq=False)
class Case:
    """What a verdict is about; `attacks` and `adaptive` in one order, `selected` picked on the
    selection split.

    `undefended` holds the ceilings, `ceiling` the one that was selected. `matched`: the defence was
    set to what it costs the honest user, so it is judged at that cost. `control`: it is no defence
    and gets no word.
    """

    floor: Arm
    undefended: Sequence[Arm]
    attacks: Sequence[Arm]
    clean: Arm
    guarded: Arm
    selected: int = 0
    ceiling: int = 0
    adaptive: Sequence[bool] = (False,)
    invalid: Sequence[str] = ()
    missing: Sequence[str] = ()
    matched: bool = False
    control: bool = False
    clusters: np.ndarray | None = field(default=None, compare=False)

    @property
    def seeds(self) -> int:
        """The fewest students that any of its arms has."""
        return min(
            len(arm.seeds) for arm in (self.floor, self.undefended[self.ceiling], *self.attacks)
        )

    def share(self, alpha: float) -> Transfer:
        """T of the chosen attack with the selected ceiling.

        Args:
            alpha: level of the two-sided interval.
        """
        return transfer(
            self.floor,
            self.undefended[self.ceiling],
            self.attacks[self.selected],
            alpha,
            self.clusters,
        )


class Verdict(NamedTuple):
    """The word, its rule, remarks that stand beside any word, and the seeds that would settle it.

    `p` and `p_ineffective` are adjusted over the cases that can have the word; NaN of those that
    cannot. `unseen` is what seeds that nobody saw could make of the highest T of all attacks.
    """

    word: str
    rule: str
    remarks: tuple[str, ...]
    p: float
    p_ineffective: float
    unseen: float
    settle: str


NO_WORD = Verdict("", "", (), math.nan, math.nan, math.nan, "")


class _Tests(NamedTuple):
    """p-values of a case: D - F below theta (U - F) for all attacks, and above `ineffective` for
    the chosen one.
    """

    effective: float
    stronger: float
    ineffective: float


def _tests(case: Case, rules: Rules, priors: Sequence[Prior | None]) -> _Tests:
    """Effective against all attacks or not (intersection-union); ineffective with every ceiling or
    not.
    """
    ceiling = case.undefended[case.ceiling]
    attacks = [variance([case.floor, ceiling, one], case.clusters) for one in case.attacks]
    ceilings = [
        variance([case.floor, one, case.attacks[case.selected]], case.clusters)
        for one in case.undefended
    ]
    # The largest p is the one of "all of them": no correction for how many there are.
    return _Tests(
        max(threshold_p(parts, rules.theta, priors[0]) for parts in attacks),
        max(threshold_p(parts, rules.theta / 2, priors[1]) for parts in attacks),
        max(above_p(parts, rules.ineffective, priors[2]) for parts in ceilings),
    )


def _priors(cases: Sequence[Case], rules: Rules) -> list[Prior | None]:
    """Of the seed variances of what is tested, over the chosen attacks of all cases."""
    parts = [
        variance([c.floor, c.undefended[c.ceiling], c.attacks[c.selected]], c.clusters)
        for c in cases
    ]
    shares = (rules.theta, rules.theta / 2, rules.ineffective)
    return [pooled([parts_of(one, threshold(share)) for one in parts]) for share in shares]


def judge(cases: Sequence[Case], rules: Rules) -> list[Verdict]:
    """The verdicts of one report; each of the two words on transfer has a Holm family of the cases
    that can have it.

    Args:
        cases: of one report.
        rules: thresholds, margin, level and looks.

    Returns:
        One verdict a case, in their order.
    """
    costs = [
        non_inferiority(c.clean, c.guarded, rules.utility_margin, rules.level, c.clusters)
        for c in cases
    ]
    first = [_without_tests(case, cost, rules) for case, cost in zip(cases, costs, strict=True)]
    left = [i for i, word in enumerate(first) if word is None]
    priors = _priors([cases[i] for i in left], rules)
    p_values = [_tests(cases[i], rules, priors) for i in left]
    adjusted = [power.holm(list(column)) for column in zip(*p_values, strict=True)] or [[], [], []]
    words = {
        i: _tested(cases[i], costs[i], rules, _Tests(*ps))
        for i, *ps in zip(left, *adjusted, strict=True)
    }
    return [word if word is not None else words[i] for i, word in enumerate(first)]


def _without_tests(case: Case, cost: Cost, rules: Rules) -> Verdict | None:
    """The word of a case that cannot be effective or ineffective, whatever a test would say; None
    of the others.
    """
    costly = _costly(cost, rules)
    reason = _not_measurable(case, rules)
    verdict = NO_WORD._replace(remarks=() if cost.passes else (f"costly: {costly}",))
    if case.control:
        return verdict._replace(rule="a control has no verdict; its T must cover 1")
    if reason:
        return verdict._replace(word="not measurable", rule=reason)
    verdict = verdict._replace(unseen=_unseen(case, rules), remarks=_remarks(case, cost, rules))
    if case.invalid:
        return verdict._replace(word="invalid run", rule="; ".join(case.invalid))
    if not cost.passes and not case.matched:
        share = case.share(rules.level)
        rule = f"{costly}; T {share.value:.2f} [{share.lo:.2f}, {share.hi:.2f}]"
        # The cost is the first remark, and is the rule here.
        return verdict._replace(word="costly", rule=rule, remarks=verdict.remarks[1:])
    # No other number will do, not even a larger one: alpha is shared by the planned looks alone.
    if case.seeds not in rules.looks:
        planned = ", ".join(map(str, rules.looks))
        later = [look for look in rules.looks if look > case.seeds]
        settle = f"{later[0]} seeds" if later else "a new study: all planned looks are past"
        return verdict._replace(
            word="inconclusive",
            rule=f"{case.seeds} seeds; verdicts are planned at {planned}",
            settle=settle,
        )
    return None


def _costly(cost: Cost, rules: Rules) -> str:
    return (
        f"the teacher's exam changes by {100 * cost.change:+.1f} points, lower bound "
        f"{100 * cost.lo:+.1f} <= "
        f"-{100 * rules.utility_margin:g}"
    )


def _remarks(case: Case, cost: Cost, rules: Rules) -> tuple[str, ...]:
    """What stands beside the word: the cost first, then how many attacks adapt."""
    remarks = []
    if case.matched:
        remarks.append(
            f"at its matched cost: the teacher's exam changes by {100 * cost.change:+.1f} points "
            f"[{100 * cost.lo:+.1f}, {100 * cost.hi:+.1f}]"
        )
    elif not cost.passes:
        remarks.append(f"costly: {_costly(cost, rules)}")
    if sum(case.adaptive) < ENOUGH_ADAPTIVE:
        remarks.append(f"naive-only: {sum(case.adaptive)} adaptive attacks of {len(case.attacks)}")
    return tuple(remarks)


def _not_measurable(case: Case, rules: Rules) -> str:
    """Why nothing can be said of this case, or nothing."""
    if case.missing:
        return f"missing: {', '.join(case.missing)}"
    items = case.floor.items
    if items < MIN_ITEMS:
        return f"too few items: {items}, at least {MIN_ITEMS} are needed"
    if case.clusters is not None and len(np.unique(case.clusters)) < MIN_CLUSTERS:
        return (
            f"too few clusters: {len(np.unique(case.clusters))}, at least {MIN_CLUSTERS} are needed"
        )
    over = contrast([case.floor, case.clean], [-1, 1], alpha=rules.alpha, clusters=case.clusters)
    if over.value <= 0 or over.lo <= 0:
        return (
            f"no capability to protect: the teacher is {100 * over.value:+.1f} points above the "
            "floor"
        )
    share = case.share(rules.alpha)
    if share.kind == "harmful":
        return "distillation hurts the student: U is measurably below F"
    if share.kind == "identical outputs":
        return (
            "identical outputs: no seed and no item differs, so nothing can be said of how they "
            "would vary"
        )
    if share.lo is None:
        return (
            "no gap to close: U - F is not measurably above 0; use a stronger student or a "
            "larger budget"
        )
    if share.t_den < REPORT_AT:
        return (
            f"weak denominator: U - F is {share.t_den:.1f} standard errors, a verdict needs "
            f"{REPORT_AT:g}"
        )
    return ""


def _highest(case: Case) -> float:
    """The highest T of all attacks, as seen."""
    best = max(attack.mean for attack in case.attacks)
    return float(normalised_transfer(case.floor.mean, case.undefended[case.ceiling].mean, best))


def _unseen(case: Case, rules: Rules) -> float:
    return unseen(_highest(case), case.seeds, rules.level)


def _tested(case: Case, cost: Cost, rules: Rules, p: _Tests) -> Verdict:
    """The word that the adjusted p-values give; beside *effective*, that no unseen lucky seed
    overturns it.
    """
    # One-sided p-values stand beside half the level, as the ends of the two-sided interval do.
    share, half = case.share(rules.level), rules.level / 2
    assert share.lo is not None and share.hi is not None
    verdict = NO_WORD._replace(
        p=p.effective,
        p_ineffective=p.ineffective,
        unseen=_unseen(case, rules),
        remarks=_remarks(case, cost, rules),
    )
    if p.ineffective < half:
        rule = (
            f"D - F > {rules.ineffective:g} (U - F) with every ceiling, adjusted p "
            f"{p.ineffective:.2g}"
        )
        return verdict._replace(word="ineffective", rule=rule)
    if p.effective < half and verdict.unseen < rules.theta:
        rule = (
            f"D - F < {rules.theta:g} (U - F) for all {len(case.attacks)} attacks, adjusted p "
            f"{p.effective:.2g}; "
            f"seeds unseen by {case.seeds} cannot lift T above {verdict.unseen:.2f}"
        )
        both = p.stronger < half and verdict.unseen < rules.theta / 2
        more = (f"effective at {rules.theta / 2:g} as well",) if both else ()
        return verdict._replace(word="effective", rule=rule, remarks=verdict.remarks + more)
    if p.effective < half:
        highest = _highest(case)
        rule = (
            f"T {highest:.2f} is below {rules.theta:g} on the seeds seen (adjusted p "
            f"{p.effective:.2g}), but "
            f"{case.seeds} seeds cannot exclude that others reach U and T is {verdict.unseen:.2f}"
        )
        needed = seeds_unseen(highest, rules.theta, rules.level)
        return verdict._replace(word="inconclusive", rule=rule, settle=f"{needed} seeds")
    rule = (
        f"T in [{share.lo:.2f}, {share.hi:.2f}] settles neither {rules.ineffective:g} (adjusted p "
        f"{p.ineffective:.2g}) nor {rules.theta:g} (adjusted p {p.effective:.2g})"
    )
    return verdict._replace(word="inconclusive", rule=rule, settle=_settle(case, rules))


def _settle(case: Case, rules: Rules) -> str:
    """Seeds with which T would be told from the nearer bound if it is as it was estimated."""
    share = case.share(rules.level)
    assert share.value is not None and share.lo is not None and share.hi is not None
    if rules.theta <= share.lo and share.hi <= rules.ineffective:
        return f"no number of seeds: T is between {rules.theta:g} and {rules.ineffective:g}"
    U, D = case.undefended[case.ceiling], case.attacks[case.selected]
    gap = float(combine(variance([case.floor, U]), [-1, 1]).value)
    distance = max(rules.theta - share.value, share.value - rules.ineffective) * gap
    items = case.floor.items
    if distance <= 0:
        return (
            f"not to be said yet: T is estimated between {rules.theta:g} and "
            f"{rules.ineffective:g}, and its "
            "interval reaches beyond"
        )
    parts = power.difference_components(U, D)
    seeds = power.seeds_to_settle(distance, parts, items, rules.level)
    if not seeds:
        return f"more than 100 seeds on {items} items; take more items"
    lucky = seeds_unseen(share.value, rules.theta, rules.level) or 0
    return f"about {max(seeds, lucky, case.seeds + 1)} seeds on {items} items"
