"""From runs of campaigns to numbers: what leaked, what it taught, what it cost, who else was hit,
and who was seen.

`collect` gathers the outcome of every run with its students' grades (one file, from which
everything else follows); `measure` joins them with the query curves of the same study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

import numpy as np

from defenses.access import Calibration, by_customer, fusion
from distill.campaigns import CAPABILITIES, SEGMENTS
from experiments.analysis.comparisons import Compared
from experiments.measure import leak
from experiments.measure.contrast import Arm, Estimate
from experiments.measure.cost import Range, summary
from experiments.measure.curves import too_far
from experiments.measure.detection import across_runs
from experiments.planning.arms import FLOORS, is_floor
from experiments.planning.plan import Plan
from experiments.results.collect import Key
from experiments.settings import campaigns
from experiments.settings.campaigns import OPEN, Campaigns
from experiments.stages.calibration import load
from experiments.stages.campaign import ROC
from experiments.stages.grades import read_grades
from experiments.stages.served import CampaignReport, Leakage
from experiments.store import Store

FUSION = "fusion"
ALL = "all"
Runs = dict[tuple[str, str], list[dict[str, Any]]]  # outcomes by preset and access
ATLAS = {
    "AML.CS0056": "case study: distillation campaigns of February 2026",
    "AML.T0008.005": "acquire infrastructure: AI service proxies (resellers, pooled accounts)",
    "AML.T0024.002": "exfiltration by the inference interface: extract the model",
}
"""MITRE ATLAS, atlas-data at 8ee2c68: what a simulated campaign is an instance of."""


def collect(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """One entry a finished run: its outcome, its students' grades by item, and curves of what
    detectors scored.
    """
    held, scores = [], {}
    for one in plan.leaks:
        if not store.has(one.run.kind, one.run.key):
            continue
        folder = store.open(one.run.kind, one.run.key)
        happened = CampaignReport.read(folder).model_dump(mode="json")
        students = [
            _student(store, arm) for arm in one.students if store.has(arm.exam.kind, arm.exam.key)
        ]
        who = {name: getattr(one, name) for name in ("preset", "access", "seed", "split")}
        held.append(who | {"students": students} | happened)
        if (one.access, one.split) == (OPEN, "report"):
            scores[one.preset, one.seed] = load(folder / "scores.npz")
    rates = plan.study.campaigns.rates if plan.study.campaigns else []
    for row in held:
        at = row["preset"], row["seed"]
        if (row["access"], row["split"]) == (OPEN, "report"):
            row["roc"] = {name: roc(one, scores[at]) for name, one in _p_values(scores[at]).items()}
            if told := fused(scores, at, rates):
                row["roc"][FUSION], row["fused"] = roc(told.p, scores[at]), told.at_rates
    return held


def _leakage(run: dict[str, Any]) -> Leakage:
    """What a run leaked, of an outcome that was collected."""
    return Leakage.model_validate({name: run[name] for name in Leakage.model_fields})


def _student(store: Store, arm: Any) -> dict[str, Any]:
    graded = read_grades(store.open(arm.exam.kind, arm.exam.key))
    right = "".join("01"[row["outcome"] == "right"] for row in graded)
    return {"task": arm.task, "defense": arm.defense, "attacker": arm.attacker, "right": right}


def _p_values(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(scores["names"].tolist(), scores["p"], strict=True))


def roc(p: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Shares of honest customers, each by its worst account, and of the campaign's accounts with a
    p-value as low.
    """
    guilty = scores["guilty"]
    honest = -by_customer(-p[~guilty], scores["owner"][~guilty])
    return {
        "fpr": [float((honest <= rate).mean()) for rate in ROC],
        "tpr": [float((p[guilty] <= rate).mean()) for rate in ROC],
    }


class Fused(NamedTuple):
    """A fusion's p-values by account, and at each rate: accounts found, of all; honest customers
    flagged, of all.
    """

    p: np.ndarray
    at_rates: list[list[int]]


def fused(
    scores: dict[tuple[str, int], dict[str, np.ndarray]],
    at: tuple[str, int],
    rates: Sequence[float],
) -> Fused | None:
    """All detectors as one for the run `at`, fitted and calibrated on other seeds and other presets
    alone.

    Runs of a seed share their honest customers, so these come from one run of each other seed; None
    where there is no other seed or no other preset.
    """
    name, seed = at
    other = [
        key
        for key in scores
        if key[1] != seed and key[0].partition("(")[0] != name.partition("(")[0]
    ]
    if not other:
        return None
    clean = {key[1]: key for key in reversed(other)}.values()
    parts = [(scores[key], ~scores[key]["guilty"]) for key in clean]
    parts += [(scores[key], scores[key]["guilty"]) for key in other]
    x_NF = np.concatenate([_features(one)[rows] for one, rows in parts])
    guilty_N = np.concatenate([one["guilty"][rows] for one, rows in parts])
    weights = fusion.fit(x_NF, guilty_N, fusion.Settings().ridge)
    segment, owner = (
        np.concatenate([one[column][rows] for one, rows in parts[: len(clean)]])
        for column in ("segment", "owner")
    )
    number = np.repeat(np.arange(len(clean)), [rows.sum() for _, rows in parts[: len(clean)]])
    known = Calibration(
        {FUSION: fusion.odds(x_NF[~guilty_N], weights)}, segment, owner + number * 2**32
    )
    mine = scores[at]
    odds, guilty = fusion.odds(_features(mine), weights), mine["guilty"]
    owners, flagged = mine["owner"][~guilty], []
    for rate in rates:
        hit = odds > known.threshold(FUSION, rate)[mine["segment"]]
        false = len(np.unique(owners[hit[~guilty]]))
        flagged.append([int(hit[guilty].sum()), int(guilty.sum()), false, len(np.unique(owners))])
    return Fused(known.p_value(FUSION, odds, mine["segment"]), flagged)


def _features(scores: dict[str, np.ndarray]) -> np.ndarray:
    return -np.log10(scores["p"].astype(float)).T


def measure(held: Campaigns, outcomes: Sequence[dict[str, Any]], here: Compared) -> dict[str, Any]:
    """Every number that is shown of campaigns, from the outcomes and the study's grades alone."""
    by: Runs = {}
    choosing: Runs = {}
    for one in outcomes:
        split = by if one["split"] == "report" else choosing
        split.setdefault((one["preset"], one["access"]), []).append(one)
    leaks = [row for task in here.tasks() for row in _leaks(held, by, here, task)]
    return {
        "leaks": leaks,
        "worst": _worst(held, here, leaks, choosing),
        "detectors": _detectors(held, by, here.alpha),
        "roc": _roc(by),
        "days": [_days(held, at, found) for at, found in by.items()],
        "harm": _harms(by, here.alpha),
        "atlas": ATLAS,
        "rates": held.rates,
        "horizon": held.days,
        "release": held.release,
    }


def _leaks(held: Campaigns, by: Runs, here: Compared, task: str) -> list[dict[str, Any]]:
    """A row a campaign, access and output defence: what leaked through the query curve, and at what
    price.

    Of each block its first attacker that asks; a defence whose finished budgets are fewer than two,
    or too far apart, has no curve to read.
    """
    arms: dict[tuple[str, str, str], None] = {}
    for block in (one for one in here.study.blocks if task in one.tasks):
        attacker = next((one for one in block.attackers if not is_floor(one)), None)
        arms |= {
            (task, defense, attacker): None for defense in ["none", *block.defenses] if attacker
        }
    read = [
        arm
        for arm in arms
        if len(found := _budgets(here, arm)) > 1 and not too_far(found, "the curve")
    ]
    return [_leak(held, here, arm, at, by) for arm in read for at in by]


def _budgets(here: Compared, arm: tuple[str, str, str]) -> list[int]:
    return [n for n in here.budgets(arm[0]) if Key(*arm, n, "report") in here.report]


def _leak(
    held: Campaigns, here: Compared, arm: tuple[str, str, str], at: tuple[str, str], by: Runs
) -> dict[str, Any]:
    (task, defense, attacker), (preset, access), found = arm, at, by[at]
    budget, wanted = here.study.most(task), campaigns.campaign(preset)
    planned = wanted.planned(held.days) * held.share(wanted) / held.per_question(preset, budget)
    taught = _taught(held, budget, at, found)
    gain, trained = _gain(here, arm, taught.n_R), _trained(here, arm, found)
    spent = _dollars(held, here, found)
    point = leak.per_point(spent, gain.draws_B)
    times = None
    if unstopped := by.get((preset, OPEN)):
        everything = _gain(
            here, (task, "none", attacker), _taught(held, budget, (preset, OPEN), unstopped).n_R
        )
        times = leak.multiple(
            point, leak.per_point(_dollars(held, here, unstopped), everything.draws_B)
        )
    return {
        "task": task,
        "defense": defense,
        "attacker": attacker,
        "preset": preset,
        "access": access,
        "runs": len(found),
        "planned": planned,
        "questions": float(taught.n_R.mean()),
        "full": float(taught.full_R.mean()),
        "reduced": float(taught.reduced_R.mean()),
        "leaked": float(taught.n_R.mean()) / planned,
        "leaked_runs": (taught.n_R / planned).tolist(),
        "trained": _plain(trained),
        "gain": gain.value,
        "gain_lo": gain.lo,
        "gain_hi": gain.hi,
        "beyond": gain.beyond,
        "lawful": wanted.lawful,
        "dollars": _finite(summary(spent)),
        "per_point": _finite(summary(point)),
        "times": None if times is None else _finite(times),
    }


def _gain(here: Compared, arm: tuple[str, str, str], n_R: np.ndarray) -> leak.Gain:
    budgets = _budgets(here, arm)
    sat = [here.scores(Key(*arm, n, "report")) for n in budgets]
    common = set.intersection(
        *(set(one.seeds) for one in sat)
    )  # of a partial report some students may be missing
    rows = [[i for i, seed in enumerate(one.seeds) if seed in common] for one in sat]
    curve = [
        Arm(one.scores_SN[kept], tuple(one.seeds[i] for i in kept))
        for one, kept in zip(sat, rows, strict=True)
    ]
    zero = here.scores(Key(arm[0], "none", FLOORS[0], budgets[0], "report"))
    return leak.gained(
        here.scores(here.floor_key(arm[0], budgets[-1])),
        zero,
        curve,
        np.array(budgets),
        n_R,
        draws=here.study.measure.draws,
        alpha=here.alpha,
        clusters=here.clusters(arm[0]),
    )


def _dollars(held: Campaigns, here: Compared, found: list[dict[str, Any]]) -> np.ndarray:
    told = here.study.measure.prices
    ends = (told.price_in, told.price_out, told.price_account, held.price_identity)
    prices = leak.Prices(*(Range(*one) for one in ends))
    return leak.dollars([_spent(one) for one in found], prices, here.study.measure.draws)


def _spent(one: dict[str, Any]) -> leak.Spent:
    theirs = one["campaign"]
    return leak.Spent(
        one["bought"][1],
        one["bought"][2],
        theirs["opened"] + theirs["turned_away"],
        theirs["verified"],
    )


def _trained(
    here: Compared, arm: tuple[str, str, str], found: list[dict[str, Any]]
) -> Estimate | None:
    """Points above the floor of the students that learned exactly what leaked; None unless every
    run has one.
    """
    task = arm[0]
    right = [
        s["right"]
        for one in found
        for s in one["students"]
        if (s["task"], s["defense"], s["attacker"]) == arm
    ]
    if len(right) != len(found):
        return None
    D = np.array([[letter == "1" for letter in text] for text in right], float)
    F = here.scores(here.floor_key(task, _budgets(here, arm)[-1]))
    return leak.taught(F, D, here.alpha, here.clusters(task))


def _plain(e: Estimate | None) -> dict[str, float] | None:
    return None if e is None else {"value": e.value, "lo": e.lo, "hi": e.hi}


def _finite(values: Iterable[float]) -> list[float | None]:
    """For JSON: None is unbounded."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _worst(
    held: Campaigns, here: Compared, leaks: list[dict[str, Any]], choosing: Runs
) -> list[dict[str, Any]]:
    """The campaign that gains most against each pair of defences, chosen on other runs than those
    reported.
    """
    found: dict[tuple[str, str, str], list[tuple[float, dict[str, Any]]]] = {}
    for row in (one for one in leaks if not one["lawful"]):
        at = row["preset"], row["access"]
        n_R = _taught(held, here.study.most(row["task"]), at, choosing.get(at, [])).n_R
        chosen = (
            _gain(here, (row["task"], row["defense"], row["attacker"]), n_R).value
            if len(n_R)
            else -np.inf
        )
        found.setdefault((row["task"], row["access"], row["defense"]), []).append((chosen, row))
    shown = (
        "task",
        "access",
        "defense",
        "preset",
        "trained",
        "gain",
        "gain_lo",
        "gain_hi",
        "beyond",
    )
    most = (max(rows, key=lambda pair: pair[0])[1] for rows in found.values())
    return [{name: row[name] for name in shown} for row in most]


class Taught(NamedTuple):
    """Questions that runs (R) were answered, in full and reduced, and what a reduced answer is said
    to be worth.
    """

    full_R: np.ndarray
    reduced_R: np.ndarray
    worth: float

    @property
    def n_R(self) -> np.ndarray:
        return self.full_R + self.worth * self.reduced_R


def _taught(
    held: Campaigns, budget: int, at: tuple[str, str], found: list[dict[str, Any]]
) -> Taught:
    preset, access = at
    per = held.per_question(preset, budget)
    days = [_leakage(one).by_day(held.stands_for) for one in found]
    full_R, reduced_R = (np.array([part[i].sum() for part in days]) / per for i in (0, 1))
    return Taught(full_R, reduced_R, _worth(access))


def _worth(access: str) -> float:
    """What a reduced answer is said to teach under an access."""
    return 1.0 if access == OPEN else campaigns.access(access).worth


def _rate(hits_R: Sequence[float], of_R: Sequence[float], alpha: float) -> dict[str, Any]:
    """A share of accounts, mean over runs, with Student's interval over runs
    (`detection.across_runs`).
    """
    told = across_runs(hits_R, of_R, alpha)
    return {
        "value": told.value if told.n else None,
        "lo": told.lo,
        "hi": told.hi,
        "n": told.n,
        "hits": float(np.sum(hits_R)),
        "runs": len(of_R),
    }


def _detectors(held: Campaigns, by: Runs, alpha: float) -> list[dict[str, Any]]:
    """A row a campaign, detector and rate: found, false alarms overall and in the worst segment,
    leaked before.
    """
    rows = []
    for (preset, access), found in by.items():
        if access != OPEN:
            continue
        who = {"preset": preset, "lawful": campaigns.campaign(preset).lawful}
        for name in found[0]["detectors"]:
            for level, rate in enumerate(held.rates):
                told = [one["detectors"][name][level] for one in found]
                rows.append(
                    who
                    | {"detector": name, "rate": rate}
                    | _detected(held, rate, told, found, alpha)
                )
        if judged := [one["fused"] for one in found if "fused" in one]:
            rows += [
                who
                | {"detector": FUSION, "rate": rate}
                | _fused_row(rate, [one[level] for one in judged], alpha)
                for level, rate in enumerate(held.rates)
            ]
    return rows


def _detected(
    held: Campaigns,
    rate: float,
    told: list[dict[str, Any]],
    found: list[dict[str, Any]],
    alpha: float,
) -> dict[str, Any]:
    false_RS, of_RS = (np.array([one[column] for one in told]) for column in ("false", "customers"))
    columns = [list(CAPABILITIES).index(one) for one in held.stands_for]
    share = [
        np.take(one["leaked_C"], columns).sum()
        / max(np.array(run["leaked_DC"])[:, columns].sum(), 1)
        for one, run in zip(told, found, strict=True)
    ]
    return {
        "found": _rate([one["found"] for one in told], [one["of"] for one in told], alpha),
        "false": _rate(false_RS.sum(1), of_RS.sum(1), alpha),
        "segments": {
            name: _rate(k, n, alpha)
            for name, k, n in zip(SEGMENTS, false_RS.T, of_RS.T, strict=True)
        },
        "leaked": float(np.mean(share)),
        "days": {key: _median([one["days"][key] for one in told]) for key in told[0]["days"]},
        # Rule of three: fewer honest customers than 3 / rate cannot show the rate at all.
        "told": bool(of_RS.sum() * rate >= 3),
    }


def _fused_row(rate: float, told: list[list[int]], alpha: float) -> dict[str, Any]:
    """Fusion judges whole horizons, so it has no day on which it alarms."""
    found_R, accounts_R, false_R, customers_R = np.transpose(told)
    return {
        "found": _rate(found_R, accounts_R, alpha),
        "false": _rate(false_R, customers_R, alpha),
        "segments": {},
        "leaked": None,
        "days": {},
        "told": bool(customers_R.sum() * rate >= 3),
    }


def _median(values: list[int | None]) -> float | None:
    """None is never; the median of an even number leans to the later."""
    ordered = sorted(values, key=lambda value: np.inf if value is None else value)
    return ordered[len(ordered) // 2]


def _roc(by: Runs) -> list[dict[str, Any]]:
    """Means over runs of the curves of each campaign and detector."""
    rows = []
    for (preset, access), found in by.items():
        told = [one["roc"] for one in found if "roc" in one]
        for name in told[0] if access == OPEN and told else ():
            some = [one[name] for one in told if name in one]
            mean = {
                part: np.mean([one[part] for one in some], axis=0).tolist()
                for part in ("fpr", "tpr")
            }
            rows.append({"preset": preset, "detector": name, **mean})
    return rows


def _days(held: Campaigns, at: tuple[str, str], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Leaked so far as a share of what was planned, reduced answers at their stated worth; accounts
    opened and closed.

    Means over runs, by day.
    """
    wanted = campaigns.campaign(at[0])
    planned, worth = wanted.planned(held.days) * held.share(wanted), _worth(at[1])
    days = [_leakage(one).by_day(held.stands_for) for one in found]
    total = np.array([(full + worth * less).cumsum() / planned for full, less in days])
    opened, closed = (
        np.mean([one["campaign"][name] for one in found], axis=0)
        for name in ("opened_D", "closed_D")
    )
    return {
        "preset": at[0],
        "access": at[1],
        "leaked": total.mean(axis=0).tolist(),
        "lo": total.min(axis=0).tolist(),
        "hi": total.max(axis=0).tolist(),
        "opened": opened.tolist(),
        "closed": closed.tolist(),
    }


def _harms(by: Runs, alpha: float) -> list[dict[str, Any]]:
    """What honest accounts met under each access, beside each campaign and on average over
    campaigns.

    Runs of a seed share their honest accounts whatever the campaign, so these count once.
    """
    over: Runs = {}
    for (_, access), found in by.items():
        over.setdefault((ALL, access), []).extend(found)
    return [row for at, found in (by | over).items() for row in _harm(at, found, alpha)]


def _harm(at: tuple[str, str], found: list[dict[str, Any]], alpha: float) -> list[dict[str, Any]]:
    """Shares of honest accounts, by segment and in all; `touched` is anything that one would notice
    of a policy.
    """
    rows: list[dict[str, Any]] = []
    by_seed: dict[int, list[dict[str, Any]]] = {}
    for one in found:
        by_seed.setdefault(one["seed"], []).append(one["honest"])

    def over(places: Sequence[int], *name: str) -> list[float]:
        """A count in these segments, by seed; runs that share their honest accounts count once."""
        counts: list[list[Any]] = [
            [reduce(getitem, name, one) for one in some] for some in by_seed.values()
        ]
        return [sum(one[s] for one in some for s in places) / len(some) for some in counts]

    for segment, places in [
        *((name, [s]) for s, name in enumerate(SEGMENTS)),
        (ALL, range(len(SEGMENTS))),
    ]:
        total = {
            name: over(places, name)
            for name in ("accounts", "closed", "limited", "touched", "sent", "refused")
        }
        shares = {
            name: _rate(total[name], total["accounts"], alpha)
            for name in ("closed", "limited", "touched")
        }
        done = {
            name: _rate(over(places, "done", name), total["accounts"], alpha)
            for name in found[0]["honest"]["done"]
        }
        rows.append(
            {
                "preset": at[0],
                "access": at[1],
                "segment": segment,
                **shares,
                "done": done,
                "refused": sum(total["refused"]) / max(sum(total["sent"]), 1),
            }
        )
    return rows
