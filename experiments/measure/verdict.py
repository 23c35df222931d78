"""The verdict on a defence: one of six words with the rule that fired, and what would settle an open case.

The rules are tried in the order of WORDS. A case is one defence on one capability at one budget, against every listed
attack; all arms are seeds x items, on the report split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from experiments.measure import power
from experiments.measure.contrast import MIN_CLUSTERS, MIN_ITEMS, combine, contrast, variance
from experiments.measure.transfer import REPORT_AT, ratio, threshold_p, transfer
from experiments.measure.utility import non_inferiority

WORDS = ("not measurable", "invalid run", "costly", "ineffective", "effective", "inconclusive")
ENOUGH_ADAPTIVE = 2


@dataclass(frozen=True)
class Rules:
    """Thresholds, from the config: transfer bounds, the honest user's margin, level, planned looks (seeds)."""

    theta: float = 0.5
    ineffective: float = 0.8
    utility_margin: float = 0.02
    alpha: float = 0.05
    looks: tuple[int, ...] = (5,)

    @property
    def level(self) -> float:
        """alpha is shared by the planned looks (Bonferroni over looks)."""
        return self.alpha / len(self.looks)


@dataclass(frozen=True)
class Case:
    """What a verdict is about; `attacks` and `adaptive` in one order, `chosen` picked on the selection split."""

    floor: np.ndarray
    undefended: np.ndarray
    attacks: Sequence[np.ndarray]
    clean: np.ndarray
    guarded: np.ndarray
    chosen: int = 0
    adaptive: Sequence[bool] = (False,)
    invalid: Sequence[str] = ()
    missing: Sequence[str] = ()
    clusters: np.ndarray | None = field(default=None, compare=False)


class Verdict(NamedTuple):
    """The word, its rule, remarks that stand beside any word, the adjusted p-value, seeds that would settle it."""

    word: str
    rule: str
    remarks: tuple[str, ...]
    p: float
    settle: str


def p_value(case: Case, theta: float) -> float:
    """p-value of the worst attack for H0: D - F >= theta (U - F): effective against all or not (intersection-union)."""
    arms = [variance([case.floor, case.undefended, one], case.clusters) for one in case.attacks]
    return max(threshold_p(parts, theta) for parts in arms)


def judge(cases: Sequence[Case], rules: Rules) -> list[Verdict]:
    """The verdicts of one report, with Holm's correction over all its cases."""
    adjusted = power.holm([p_value(case, rules.theta) for case in cases])
    stronger = power.holm([p_value(case, rules.theta / 2) for case in cases])
    words = [_judge(case, p, rules) for case, p in zip(cases, adjusted, strict=True)]
    return [
        one._replace(remarks=(*one.remarks, f"effective at {rules.theta / 2:g} as well"))
        if one.word == "effective" and p < rules.level / 2 else one
        for one, p in zip(words, stronger, strict=True)
    ]  # fmt: skip


def _judge(case: Case, p: float, rules: Rules) -> Verdict:
    cost = non_inferiority(case.clean, case.guarded, rules.utility_margin, rules.level, case.clusters)
    costly = f"the teacher's exam changes by {100 * cost.change:+.1f} points, lower bound {100 * cost.lo:+.1f} <= " \
             f"-{100 * rules.utility_margin:g}"  # fmt: skip
    reason = _not_measurable(case, rules)
    if reason:
        return Verdict("not measurable", reason, () if cost.passes else (costly,), p, "")
    remarks = [] if cost.passes else [f"costly: {costly}"]
    if sum(case.adaptive) < ENOUGH_ADAPTIVE:
        remarks.append(f"naive-only: {sum(case.adaptive)} adaptive attacks of {len(case.attacks)}")
    if case.invalid:
        return Verdict("invalid run", "; ".join(case.invalid), tuple(remarks), p, "")
    seeds = min(len(arm) for arm in (case.floor, case.undefended, *case.attacks))
    if seeds not in rules.looks:
        planned = ", ".join(map(str, rules.looks))
        later = [look for look in rules.looks if look > seeds]
        settle = f"{later[0]} seeds" if later else "a new study: all planned looks are past"
        return Verdict("inconclusive", f"{seeds} seeds; verdicts are planned at {planned}", tuple(remarks), p, settle)
    word, rule = _transfer_word(case, p, rules)
    if not cost.passes:
        return Verdict("costly", f"{costly}; on transfer it is {word}: {rule}", tuple(remarks[1:]), p, "")
    return Verdict(word, rule, tuple(remarks), p, _settle(case, rules) if word == "inconclusive" else "")


def _not_measurable(case: Case, rules: Rules) -> str:
    """Why nothing can be said of this case, or nothing."""
    if case.missing:
        return f"missing: {', '.join(case.missing)}"
    items = case.floor.shape[-1]
    if items < MIN_ITEMS:
        return f"too few items: {items}, at least {MIN_ITEMS} are needed"
    if case.clusters is not None and len(np.unique(case.clusters)) < MIN_CLUSTERS:
        return f"too few clusters: {len(np.unique(case.clusters))}, at least {MIN_CLUSTERS} are needed"
    over = contrast([case.floor, case.clean], [-1, 1], alpha=rules.alpha, clusters=case.clusters)
    if over.value <= 0 or over.lo <= 0:
        return f"no capability to protect: the teacher is {100 * over.value:+.1f} points above the floor"
    share = transfer(case.floor, case.undefended, case.attacks[case.chosen], rules.alpha, case.clusters)
    if share.kind == "harmful":
        return "distillation hurts the student: U is measurably below F"
    if share.kind == "identical outputs":
        return "identical outputs: no seed and no item differs, so nothing can be said of how they would vary"
    if share.lo is None:
        return "no gap to close: U - F is not measurably above 0; use a stronger student or a larger budget"
    if share.t_den < REPORT_AT:
        return f"weak denominator: U - F is {share.t_den:.1f} standard errors, a verdict needs {REPORT_AT:g}"
    return ""


def _transfer_word(case: Case, p: float, rules: Rules) -> tuple[str, str]:
    parts = variance([case.floor, case.undefended, case.attacks[case.chosen]], case.clusters)
    share = ratio(parts, rules.level)
    assert share.lo is not None and share.hi is not None
    if share.lo > rules.ineffective:
        return "ineffective", f"lower bound of T {share.lo:.2f} > {rules.ineffective:g}"
    if p < rules.level / 2:
        return "effective", f"D - F < {rules.theta:g} (U - F) for all {len(case.attacks)} attacks, adjusted p {p:.2g}"
    return "inconclusive", f"T in [{share.lo:.2f}, {share.hi:.2f}] settles neither {rules.ineffective:g} nor " \
                           f"{rules.theta:g} (adjusted p {p:.2g})"  # fmt: skip


def _settle(case: Case, rules: Rules) -> str:
    """Seeds with which T as it is now would be told from the nearer of the two bounds."""
    D, items = case.attacks[case.chosen], case.floor.shape[-1]
    gap = combine(variance([case.floor, case.undefended]), [-1, 1]).value
    share = (D.mean() - case.floor.mean()) / gap
    distance = max(rules.theta - share, share - rules.ineffective) * gap
    if distance <= 0:
        return f"no number of seeds: T is between {rules.theta:g} and {rules.ineffective:g}"
    parts = power.difference_components(case.undefended, D)
    seeds = power.seeds_to_settle(distance, parts, items, rules.level)
    return (
        f"about {seeds} seeds on {items} items" if seeds else f"more than 100 seeds on {items} items; take more items"
    )
