"""From runs of campaigns to numbers: what leaked, what it taught, what it cost, who else was hit, and who was seen.

`collect` gathers the outcome of every run with its students' grades (one file, from which everything else follows);
`measure` joins them with the query curves of the same study.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from defenses.access import Calibration, by_customer, fusion
from distill.campaigns import CAPABILITIES, SEGMENTS
from experiments import campaigns
from experiments.campaigns import OPEN, Campaigns, runs
from experiments.measure import leak
from experiments.measure.contrast import Estimate, contrast
from experiments.measure.cost import Range, summary
from experiments.measure.detection import Rate, clopper_pearson, partial_auc
from experiments.plan import FLOORS, IDENTITY, Plan
from experiments.report.compared import Compared
from experiments.report.grades import Key
from experiments.stages import read_grades
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
    """One entry a finished run: its outcome, its students' grades by item, and curves of what detectors scored."""
    held = []
    for one in plan.leaks:
        if not store.has(one.run.kind, one.run.key):
            continue
        folder = store.open(one.run.kind, one.run.key)
        happened = json.loads((folder / "run.json").read_text())
        students = [_student(plan, store, arm) for arm in one.students if store.has(arm.exam.kind, arm.exam.key)]
        who = {name: getattr(one, name) for name in ("preset", "access", "seed", "split")}
        held.append(who | {"students": students} | happened)
    for seed, watched in _shadows(plan, store).items():
        for preset, roc in _curves(watched, plan.study.campaigns).items():
            row = next(r for r in held if (r["preset"], r["access"], r["seed"]) == (preset, OPEN, seed))
            row["roc"] = roc
    return held


def _student(plan: Plan, store: Store, arm: Any) -> dict[str, Any]:
    graded = read_grades(store.open(arm.exam.kind, arm.exam.key))
    asked = json.loads((store.open(arm.answers.kind, arm.answers.key) / "asked.json").read_text())
    right = "".join("01"[row["outcome"] == "right"] for row in graded)
    return {"task": arm.task, "defense": arm.defense, "attacker": arm.attacker, "questions": asked["exchanges"],
            "right": right}  # fmt: skip


def _shadows(plan: Plan, store: Store) -> dict[int, dict[str, dict[str, np.ndarray]]]:
    """Scores of the runs in which detectors only watch, by seed and preset."""
    held: dict[int, dict[str, dict[str, np.ndarray]]] = {}
    for one in plan.leaks:
        if (one.access, one.split) == (OPEN, "report") and store.has(one.run.kind, one.run.key):
            path = store.open(one.run.kind, one.run.key) / "scores.npz"
            held.setdefault(one.seed, {})[one.preset] = runs.load(path)
    return held


def _curves(watched: dict[str, dict[str, np.ndarray]], held: Campaigns | None) -> dict[str, dict[str, Any]]:
    """By preset and detector: ROC over honest customers, partial AUC, and fusion as one more detector."""
    assert held
    for preset, p in fused(watched).items():
        one = watched[preset]
        one["p"], one["names"] = np.vstack([one["p"], p[None]]), np.append(one["names"], FUSION)
    told: dict[str, dict[str, Any]] = {}
    for preset, one in watched.items():
        guilty, told[preset] = one["guilty"], {}
        for name, p in zip(one["names"].tolist(), one["p"], strict=True):
            honest = 1 - by_customer(1 - p[~guilty], one["owner"][~guilty])
            told[preset][name] = {
                "fpr": [float((honest <= rate).mean()) for rate in runs.ROC],
                "tpr": [float((p[guilty] <= rate).mean()) for rate in runs.ROC],
                "partial_auc": partial_auc(-honest, -p[guilty], 1e-2),
                "found": [int((p[guilty] <= rate).sum()) for rate in held.rates], "of": int(guilty.sum()),
                "false": [int((honest <= rate).sum()) for rate in held.rates], "customers": len(honest),
            }  # fmt: skip
    return told


def fused(watched: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """p-values of the fusion of all detectors, for each campaign from a fit and a calibration on the others alone."""
    if len(watched) < 2:
        return {}
    names = list(watched)
    x = [-np.log10(watched[name]["p"]).T.astype(float) for name in names]
    odds = fusion.held_out([(one, watched[name]["guilty"]) for one, name in zip(x, names, strict=True)],
                           fusion.Settings().ridge)  # fmt: skip
    told = {}
    for number, name in enumerate(names):
        others = [i for i in range(len(names)) if i != number]
        told[name] = _fused_p(watched, names, x, others, odds[number], name)
    return told


def _fused_p(watched: dict[str, dict[str, np.ndarray]], names: list[str], x: list[np.ndarray], others: list[int],
             odds: np.ndarray, name: str) -> np.ndarray:  # fmt: skip
    rows = np.concatenate([x[i] for i in others])
    guilty, segment, owner = (np.concatenate([watched[names[i]][column] for i in others])
                              for column in ("guilty", "segment", "owner"))  # fmt: skip
    owner = owner + np.repeat(np.arange(len(others)), [len(x[i]) for i in others]) * 2**32
    weights = fusion.fit(rows, guilty, fusion.Settings().ridge)
    clean = Calibration({FUSION: fusion.odds(rows[~guilty], weights)}, segment[~guilty], owner[~guilty])
    return clean.p_value(FUSION, odds, watched[name]["segment"]).astype(np.float32)


def measure(held: Campaigns, outcomes: Sequence[dict[str, Any]], here: Compared) -> dict[str, Any]:
    """Every number that is shown of campaigns, from the outcomes and the study's grades alone."""
    by: Runs = {}
    choosing: Runs = {}
    for one in outcomes:
        split = by if one["split"] == "report" else choosing
        split.setdefault((one["preset"], one["access"]), []).append(one)
    leaks = [row for task in here.tasks() for row in _leaks(held, by, here, task)]
    return {
        "leaks": leaks, "worst": _worst(held, here, leaks, choosing),
        "detectors": _detectors(held, by), "roc": _roc(by),
        "days": [_days(held, at, found) for at, found in by.items()],
        "harm": _harms(by), "atlas": ATLAS,
        "rates": held.rates, "horizon": held.days, "release": held.release,
    }  # fmt: skip


def _leaks(held: Campaigns, by: Runs, here: Compared, task: str
           ) -> list[dict[str, Any]]:  # fmt: skip
    """A row a campaign, access and output defence: what leaked through the query curve, and at what price."""
    budgets = here.budgets(task)
    asking = {(k.attacker, k.defense) for k in here.report
              if k.task == task and k.attacker not in FLOORS and k.defense != IDENTITY}  # fmt: skip
    rows = []
    for block in here.study.blocks:
        attacker = next((one for one in block.attackers if (one, "none") in asking), None)
        if task not in block.tasks or attacker is None or len(budgets) < 2:
            continue
        for defense in dict.fromkeys(["none", *block.defenses]):
            if (attacker, defense) in asking:
                rows += [_leak(held, here, (task, defense, attacker), at, by) for at in by]
    return rows


def _leak(held: Campaigns, here: Compared, arm: tuple[str, str, str], at: tuple[str, str], by: Runs) -> dict[str, Any]:
    (task, defense, attacker), (preset, access), found = arm, at, by[at]
    budget, wanted = max(here.budgets(task)), campaigns.campaign(preset)
    planned = wanted.planned(held.days) * held.share(wanted) / held.per_question(preset, budget)
    taught = _taught(held, budget, at, found)
    gain, trained = _gain(here, arm, taught.n_R), _trained(here, arm, found)
    spent = _dollars(held, here, found)
    point = leak.per_point(spent, gain.draws_B)
    times = None
    if unstopped := by.get((preset, OPEN)):
        everything = _gain(here, (task, "none", attacker), _taught(held, budget, (preset, OPEN), unstopped).n_R)
        times = leak.multiple(point, leak.per_point(_dollars(held, here, unstopped), everything.draws_B))
    return {
        "task": task, "defense": defense, "attacker": attacker, "preset": preset, "access": access, "runs": len(found),
        "planned": planned, "questions": float(taught.n_R.mean()), "full": float(taught.full_R.mean()),
        "reduced": float(taught.reduced_R.mean()), "leaked": float(taught.n_R.mean()) / planned,
        "leaked_runs": (taught.n_R / planned).tolist(),
        "gain": gain.value, "gain_lo": gain.lo, "gain_hi": gain.hi, "beyond": gain.beyond,
        "trained": _plain(trained), "trained_runs": 0 if trained is None else len(found),
        "dollars": _finite(summary(spent)), "per_point": _finite(summary(point)),
        "times": None if times is None else _finite(times),
    }  # fmt: skip


def _gain(here: Compared, arm: tuple[str, str, str], n_R: np.ndarray) -> leak.Gain:
    task, defense, attacker = arm
    budgets = [n for n in here.budgets(task) if Key(task, defense, attacker, n, "report") in here.report]
    curve = np.stack([here.report[Key(task, defense, attacker, n, "report")].right_SN for n in budgets])
    zero = here.report[Key(task, "none", FLOORS[0], budgets[0], "report")].right_SN
    return leak.gained(here.floor_arm(task, budgets[-1]).right_SN, zero, curve, np.array(budgets), n_R,
                       draws=here.study.measure.draws, alpha=here.alpha, clusters=here.clusters(task))  # fmt: skip


def _dollars(held: Campaigns, here: Compared, found: list[dict[str, Any]]) -> np.ndarray:
    told = here.study.measure.prices
    ends = (told.price_in, told.price_out, told.price_account, held.price_identity)
    prices = leak.Prices(*(Range(*one) for one in ends))
    return leak.dollars([_spent(one) for one in found], prices, here.study.measure.draws)


def _spent(one: dict[str, Any]) -> leak.Spent:
    theirs = one["campaign"]
    return leak.Spent(one["bought"][1], one["bought"][2], theirs["opened"] + theirs["turned_away"], theirs["verified"])


def _trained(here: Compared, arm: tuple[str, str, str], found: list[dict[str, Any]]) -> Estimate | None:
    """Points above the floor of the students that learned exactly what leaked; None unless every run has one."""
    task = arm[0]
    right = [s["right"] for one in found for s in one["students"] if (s["task"], s["defense"], s["attacker"]) == arm]
    if len(right) != len(found):
        return None
    D = np.array([[letter == "1" for letter in text] for text in right], float)
    F = here.floor_arm(task, max(here.budgets(task))).right_SN
    return contrast([F, D], [-1, 1], alpha=here.alpha, clusters=here.clusters(task))


def _plain(e: Estimate | None) -> dict[str, float] | None:
    return None if e is None else {"value": e.value, "lo": e.lo, "hi": e.hi}


def _finite(values: Iterable[float]) -> list[float | None]:
    """For JSON: None is unbounded."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _worst(held: Campaigns, here: Compared, leaks: list[dict[str, Any]], choosing: Runs) -> list[dict[str, Any]]:
    """The campaign that gains most against each pair of defences, chosen on other runs than those reported."""
    found: dict[tuple[str, str, str], list[tuple[float, dict[str, Any]]]] = {}
    for row in leaks:
        at = row["preset"], row["access"]
        n_R = _taught(held, max(here.budgets(row["task"])), at, choosing.get(at, [])).n_R
        chosen = _gain(here, (row["task"], row["defense"], row["attacker"]), n_R).value if len(n_R) else -np.inf
        found.setdefault((row["task"], row["access"], row["defense"]), []).append((chosen, row))
    shown = ("task", "access", "defense", "preset", "gain", "gain_lo", "gain_hi", "beyond")
    most = (max(rows, key=lambda pair: pair[0])[1] for rows in found.values())
    return [{name: row[name] for name in shown} for row in most]


class Taught(NamedTuple):
    """Questions that runs (R) were answered, in full and reduced, and what a reduced answer is said to be worth."""

    full_R: np.ndarray
    reduced_R: np.ndarray
    worth: float

    @property
    def n_R(self) -> np.ndarray:
        return self.full_R + self.worth * self.reduced_R


def _taught(held: Campaigns, budget: int, at: tuple[str, str], found: list[dict[str, Any]]) -> Taught:
    preset, access = at
    per = held.per_question(preset, budget)
    days = [runs.by_day(one, held.stands_for) for one in found]
    full_R, reduced_R = (np.array([part[i].sum() for part in days]) / per for i in (0, 1))
    return Taught(full_R, reduced_R, 1.0 if access == OPEN else campaigns.access(access).worth)


def _rate(hits: int, of: int) -> dict[str, float | None]:
    rate: Rate = clopper_pearson(hits, of)
    return {"value": rate.value if of else None, "lo": rate.lo, "hi": rate.hi, "n": of, "hits": hits}


def _detectors(held: Campaigns, by: Runs) -> list[dict[str, Any]]:
    """A row a campaign, detector and rate: found, false alarms overall and in the worst segment, leaked before."""
    rows = []
    for (preset, access), found in by.items():
        if access != OPEN:
            continue
        for name in found[0]["detectors"]:
            for level, rate in enumerate(held.rates):
                rows.append(
                    _detected(held, preset, name, rate, [one["detectors"][name][level] for one in found], found)
                )
        if FUSION in found[0].get("roc", {}):
            rows += [_fused_row(preset, rate, level, [one["roc"][FUSION] for one in found])
                     for level, rate in enumerate(held.rates)]  # fmt: skip
    return rows


def _detected(held: Campaigns, preset: str, name: str, rate: float, told: list[dict[str, Any]],
              found: list[dict[str, Any]]) -> dict[str, Any]:  # fmt: skip
    false_S, of_S = (np.sum([one[column] for one in told], axis=0) for column in ("false", "customers"))
    segments = {name: _rate(int(k), int(n)) for name, k, n in zip(SEGMENTS, false_S, of_S, strict=True)}
    columns = [list(CAPABILITIES).index(one) for one in held.stands_for]
    share = [np.take(one["leaked_C"], columns).sum() / max(np.array(run["leaked_DC"])[:, columns].sum(), 1)
             for one, run in zip(told, found, strict=True)]  # fmt: skip
    return {
        "preset": preset, "detector": name, "rate": rate,
        "found": _rate(sum(one["found"] for one in told), sum(one["of"] for one in told)),
        "false": _rate(int(false_S.sum()), int(of_S.sum())), "segments": segments,
        "leaked": float(np.mean(share)),
        "days": {key: _median([one["days"][key] for one in told]) for key in told[0]["days"]},
        # Rule of three: fewer honest customers than 3 / rate cannot show the rate at all.
        "told": bool(of_S.sum() * rate >= 3),
    }  # fmt: skip


def _fused_row(preset: str, rate: float, level: int, told: list[dict[str, Any]]) -> dict[str, Any]:
    """Fusion is fitted to whole horizons, so it has no day on which it alarms."""
    found = _rate(sum(one["found"][level] for one in told), sum(one["of"] for one in told))
    customers = sum(one["customers"] for one in told)
    false = _rate(sum(one["false"][level] for one in told), customers)
    return {"preset": preset, "detector": FUSION, "rate": rate, "found": found, "false": false, "segments": {},
            "leaked": None, "days": {}, "told": customers * rate >= 3}  # fmt: skip


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
            mean = {part: np.mean([one[name][part] for one in told], axis=0).tolist() for part in ("fpr", "tpr")}
            area = float(np.mean([one[name]["partial_auc"] for one in told]))
            rows.append({"preset": preset, "detector": name, **mean, "partial_auc": area})
    return rows


def _days(held: Campaigns, at: tuple[str, str], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Leaked exchanges so far as a share of those planned, and accounts opened and closed, by day; means over runs."""
    wanted = campaigns.campaign(at[0])
    planned = wanted.planned(held.days) * held.share(wanted)
    total = np.array([np.sum(runs.by_day(one, held.stands_for), axis=0).cumsum() / planned for one in found])
    opened, closed = (np.mean([one["campaign"][name] for one in found], axis=0) for name in ("opened_D", "closed_D"))
    return {
        "preset": at[0], "access": at[1], "leaked": total.mean(axis=0).tolist(), "lo": total.min(axis=0).tolist(),
        "hi": total.max(axis=0).tolist(), "opened": opened.tolist(), "closed": closed.tolist(),
    }  # fmt: skip


def _harms(by: Runs) -> list[dict[str, Any]]:
    """What honest accounts met under each access, beside each campaign and over all of them."""
    over: Runs = {}
    for (_, access), found in by.items():
        over.setdefault((ALL, access), []).extend(found)
    return [row for at, found in (by | over).items() for row in _harm(at, found)]


def _harm(at: tuple[str, str], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shares of honest accounts, by segment and in all; `touched` is anything that one would notice."""
    rows = []
    for segment, places in [*((name, [s]) for s, name in enumerate(SEGMENTS)), (ALL, range(len(SEGMENTS)))]:
        honest = [one["honest"] for one in found]
        total = {name: sum(one[name][s] for one in honest for s in places)
                 for name in ("accounts", "closed", "limited", "touched", "sent", "refused")}  # fmt: skip
        shares = {name: _rate(total[name], total["accounts"]) for name in ("closed", "limited", "touched")}
        done = {name: _rate(sum(one["done"][name][s] for one in honest for s in places), total["accounts"])
                for name in honest[0]["done"]}  # fmt: skip
        rows.append({"preset": at[0], "access": at[1], "segment": segment, **shares, "done": done,
                     "refused": total["refused"] / max(total["sent"], 1)})  # fmt: skip
    return rows
