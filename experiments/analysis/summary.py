"""From grades to every number of a report: plain values, a function of the study, its grades and
its arms alone.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis import campaign_yield
from experiments.analysis import verdicts as defended
from experiments.analysis.comparisons import GPU_FLOPS, Compared
from experiments.analysis.verdicts import Cases
from experiments.measure import bootstrap, cost, curves, fidelity, flags, frontier, power, text
from experiments.measure.contrast import Estimate, arm_mean, contrast
from experiments.measure.transfer import Transfer, transfer
from experiments.planning.arms import FLOORS, IDENTITY, choices, is_floor
from experiments.results.collect import Grades, Key, Sat
from experiments.settings.schema import Study, parse_defense

FEWEST_BUDGETS = 4  # for a query curve to be inverted; a verdict on it takes six
NOT_CHOSEN = (
    "not chosen: defences need students on the selection split, so two attacks or more, and be "
    "two or more"
)
TRIVIAL = ("decoding/temperature", "release/truncate", "release/answer_only")


def measure(
    study: Study,
    grades: Grades,
    arms: list[dict[str, Any]],
    outcomes: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """All of E1 to E13: rows by arm, cases by defence, teachers, curves, frontier, ledger, flags;
    NaN and inf as null.

    `arms` tells what was planned: an arm without grades is counted as missing and never as zero.
    `outcomes`: the runs of simulated campaigns, if the study has any.
    """
    here = Compared(study, grades, arms)
    cases = defended.cases(here)
    return plain(
        {
            "rows": rows(here, cases),
            "cases": sorted(cases.values(), key=lambda case: (case["task"], case["budget"])),
            "teachers": teacher_rows(here),
            "curves": curve_rows(here),
            "frontier": frontier_rows(here, cases),
            "ledger": ledger_rows(here),
            "flags": here.flags,
            "campaigns": campaign_yield.measure(study.campaigns, outcomes, here)
            if study.campaigns and outcomes
            else None,
        }
    )


def marked(held: dict[str, Any], old: list[str]) -> dict[str, Any]:
    """The measures with what is said of results that other code made, in each row whether there are
    such.
    """
    return held | {"rows": [row | {"old": bool(old)} for row in held["rows"]], "old": old}


def plain(value: Any) -> Any:
    """Nested tuples, arrays and numbers as JSON has them; what is not finite is null."""
    if hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def rows(here: Compared, cases: Cases) -> list[dict[str, Any]]:
    """The table: each reported arm against its own floor and ceiling."""
    copy = functools.cache(
        functools.partial(_copy, here)
    )  # a floor's panel is needed by every arm above it
    return [_row(here, key, cases, copy) for key in here.ranked]


def _row(
    here: Compared, key: Key, cases: Cases, copy: Callable[[Key], fidelity.Copy]
) -> dict[str, Any]:
    arm, labels = here.report[key], here.clusters(key.task)
    here.told(here.ceiling(key))
    D, F, U = (
        here.scores(key),
        here.scores(here.floor_key(key.task, key.budget)),
        here.scores(here.ceiling(key)),
    )
    clean, guarded = (here.scores(here.teacher_key(key.task, one)) for one in ("none", key.defense))
    share = _itself(here, key) or transfer(F, U, D, here.alpha, labels)
    gained = transfer(F, clean, D, here.alpha, labels)
    uplift, harm = (
        contrast([one, D], w, alpha=here.alpha, clusters=labels)
        for one, w in ((F, [-1, 1]), (U, [1, -1]))
    )
    own, book = arm_mean(D, alpha=here.alpha, clusters=labels), here.book(key)
    case = cases.get((key.task, key.budget, key.defense), {}) if not is_floor(key.attacker) else {}
    planned, saved = here.planned(key), _saved(here, key)
    return {
        "task": key.task,
        "defense": key.defense,
        "attacker": key.attacker,
        "student": here.study.student.name,
        "budget": key.budget,
        "seeds": len(arm.seeds),
        "planned": planned,
        "items": arm.right_SN.shape[1],
        "steps": book["steps"],
        "student_tokens": book["student_tokens"],
        "floor": F.mean,
        "floor_arm": here.floor(key.task, key.budget),
        "undefended": U.mean,
        "defended": D.mean,
        "defended_lo": max(own.lo, 0.0),
        "defended_hi": min(own.hi, 1.0),
        "uplift": uplift.value,
        "uplift_lo": uplift.lo,
        "uplift_hi": uplift.hi,
        "harm": harm.value,
        "harm_lo": harm.lo,
        "harm_hi": harm.hi,
        **_over_first(here, key),
        "floor_wins": not is_floor(key.attacker) and (share.value or 0) < 0,
        "twice": defended.gained_at_twice(here, key),
        "transfer": share.value,
        "transfer_lo": share.lo,
        "transfer_hi": share.hi,
        "transfer_kind": share.kind,
        "t_den": share.t_den,
        "effective": share.effective,
        "gap_recovered": gained.value,
        "gap_recovered_lo": gained.lo,
        "gap_recovered_hi": gained.hi,
        "teacher_clean": clean.mean,
        "teacher_defended": guarded.mean,
        "verdict": case.get("verdict") or None,
        "rule": case.get("rule", "a control has no verdict"),
        "remarks": case.get("remarks", ()),
        "settle": case.get("settle", ""),
        "unparsed": arm.unparsed,
        "bits_per_byte": None if (b := arm.stacked("bits_N")) is None else b.mean(),
        "bits_saved": saved.value if saved else None,
        "bits_saved_lo": saved.lo if saved else None,
        "bits_saved_hi": saved.hi if saved else None,
        "fidelity": _panel(here, key, copy),
        "components": _components(here, key),
        "missing_bounds": _bounds(here, key, planned),
    }


def _itself(here: Compared, key: Key) -> Transfer | None:
    """T of the floor and of the ceiling themselves, which are 0 and 1 by definition; None of all
    other arms.
    """
    at = {here.floor_key(key.task, key.budget): 0.0, here.ceiling(key): 1.0}.get(key)
    return None if at is None else Transfer(at, at, None, None, "itself", math.nan)


def _over_first(here: Compared, key: Key) -> dict[str, float | None]:
    """What an attack gains over the study's first, against the same defence; None of the first
    itself and of floors.
    """
    first = here.attackers(key.task, key.budget, key.defense)[:1]
    if is_floor(key.attacker) or first == [key.attacker]:
        return dict.fromkeys(("over_first", "over_first_lo", "over_first_hi"))
    both = [here.scores(key._replace(attacker=first[0])), here.scores(key)]
    gain = contrast(both, [-1, 1], alpha=here.alpha, clusters=here.clusters(key.task))
    return {"over_first": gain.value, "over_first_lo": gain.lo, "over_first_hi": gain.hi}


def _copy(here: Compared, key: Key) -> fidelity.Copy:
    """How an arm's students copy the clean teacher's first sitting."""
    teacher, arm = here.teacher(key.task, "none"), here.report[key]
    N = arm.right_SN.shape[1]
    first = teacher.exams[0]
    reference = fidelity.Student(
        first.said_N[None],
        first.right_N[None],
        None,
        None if first.confidence_N is None else first.confidence_N[None],
    )
    drawn = bootstrap.start(
        N, min(fidelity.PANEL_DRAWS, here.study.measure.draws), clusters=here.clusters(key.task)
    )
    one = fidelity.Student(
        arm.said_SN, arm.right_SN, arm.stacked("bits_N"), arm.stacked("confidence_N")
    )
    return fidelity.copying(one, reference, drawn, here.scores(key).seeds)


def _panel(here: Compared, key: Key, copy: Callable[[Key], fidelity.Copy]) -> dict[str, Any]:
    floor = Key(key.task, "none", here.floor(key.task, key.budget), key.budget, "report")
    panel = fidelity.panel(copy(key), copy(floor), here.alpha, here.clusters(key.task))
    saved = _saved(here, key)
    if saved:
        panel["bits_per_byte"] = saved._replace(value=-saved.value, lo=-saved.hi, hi=-saved.lo)
    return {name: {"value": e.value, "lo": e.lo, "hi": e.hi} for name, e in panel.items()}


def _saved(here: Compared, key: Key) -> Estimate | None:
    """Bits per byte of the teacher's text that a student saves over the floor that predicts it
    best, F3 too.

    The floor that is best at the exam has never seen reasoning, and would make anything look like
    fidelity.
    """
    floors = [
        here.measured(at, "bits_N")
        for name in dict.fromkeys([*FLOORS, *choices(here.study)])
        if (at := key._replace(attacker=name, defense="none")) in here.report
    ]
    mine, known = here.measured(key, "bits_N"), [bits for bits in floors if bits is not None]
    if mine is None or not known:
        return None
    best = min(known, key=lambda bits: bits.mean)
    return contrast([best, mine], [1, -1], alpha=here.alpha, clusters=here.clusters(key.task))


def _components(here: Compared, key: Key) -> dict[str, Any] | None:
    """E12 for U - D of this arm; None below two seeds."""
    arm, U = here.scores(key), here.scores(here.ceiling(key))
    fewest = min(len(arm.seeds), len(U.seeds))
    if fewest < 2:
        return None
    own, parts = power.components(arm), power.difference_components(U, arm)
    least = power.smallest_change(parts, fewest, arm.items, here.alpha)
    return {
        "seed_sd": own.seed**0.5,
        "item_variance": own.item,
        "residual_variance": own.residual,
        "smallest_change": least,
    }


def _bounds(here: Compared, key: Key, planned: int) -> Any:
    arms = (here.floor_key(key.task, key.budget), here.ceiling(key), key)
    F, U, D = (here.report[one].right_SN for one in arms)
    return (
        None
        if len(D) >= planned or U.mean() <= F.mean()
        else flags.bounds_if_missing(F, U, D, planned)
    )


def teacher_rows(here: Compared) -> list[dict[str, Any]]:
    """E7: what each defence does to the teacher's own exam, its text and its work."""
    held = []
    for key, sat in here.grades.items():
        if key.attacker or key.split != "report":
            continue
        clean = here.teacher(key.task, "none")
        tokens, before = sat.mean("tokens"), clean.mean("tokens")
        held.append(
            {
                "task": key.task,
                "defense": key.defense,
                "accuracy": sat.right_SN.mean(),
                "seeds": len(sat.seeds),
                **here.prepared(key.task, key.defense),
                **defended.utility(
                    here,
                    here.scores(here.teacher_key(key.task, "none")),
                    here.scores(key),
                    here.clusters(key.task),
                ),
                "unparsed": sat.unparsed,
                **_moved(key.defense, sat),
                "token_ratio": tokens / before if tokens is not None and before else None,
                "byte_ratio": _ratio(sat.mean("bytes"), clean.mean("bytes")),
                "passes": sat.mean("passes"),
                "unfinished": sat.mean("unfinished"),
                **_written(clean, sat, here.alpha),
            }
        )
    return held


def _moved(defense: str, sat: Sat) -> dict[str, float | None]:
    """How far edits moved the sampled distribution; None where something else did, which no edit
    sees.
    """
    parts = parse_defense(defense).chain.parts
    unseen = any(part.point == "weights" or hasattr(part.settings, "temperature") for part in parts)
    return {name: None if unseen else sat.mean(name) for name in ("l1", "kl", "flips")}


def _written(clean: Sat, sat: Sat, alpha: float) -> dict[str, Any]:
    """A teacher's text: how it repeats itself, its perplexity to the clean teacher, and whether it
    tells a defence.

    Detectability takes one sampling seed of each; None of the clean teacher itself and where no
    answer differs.
    """
    first, other = clean.exams[0], sat.exams[0]
    seen = text.detectability(first.texts, other.texts, first.prompts, alpha)
    return {
        "longest_repeat": np.mean([text.longest_repeat(one) for one in sat.texts]),
        "distinct_4": np.mean([text.distinct(one, 4) for one in sat.texts]),
        "perplexity": _perplexity(sat),
        "perplexity_clean": _perplexity(clean),
        "detectability": seen.value if seen else None,
        "detectability_lo": seen.lo if seen else None,
        "detectability_hi": seen.hi if seen else None,
    }


def _perplexity(sat: Sat) -> float | None:
    """Per byte, of a teacher's answers over all its sittings; None of a recording."""
    nats_SN = sat.stacked("nats_N")
    return None if nats_SN is None else text.perplexity(nats_SN.ravel(), sat.texts)


def curve_rows(here: Compared) -> list[dict[str, Any]]:
    """E9, E10, E13 for every attacker and defence with budgets as an axis; n = 0 is the untrained
    student.
    """
    held = []
    for task in here.tasks():
        pairs = dict.fromkeys(
            (k.attacker, k.defense)
            for k in here.report
            if k.task == task and not is_floor(k.attacker)
        )
        for attacker, defense in pairs:
            budgets = [
                n
                for n in here.budgets(task)
                if Key(task, defense, attacker, n, "report") in here.report
            ]
            if len(budgets) > 1:
                held.append(_curve(here, task, attacker, defense, budgets))
    return held


def _curve(
    here: Compared, task: str, attacker: str, defense: str, budgets: list[int]
) -> dict[str, Any]:
    """One curve with intervals; a defended one with M, the area between and the bill where budgets
    suffice.
    """
    arms = [
        [here.scores(Key(task, d, attacker, n, "report")) for n in budgets]
        for d in (defense, "none")
    ]
    D, U = ([one.scores_SN for one in some] for some in arms)
    points = [arm_mean(one, alpha=here.alpha, clusters=here.clusters(task)) for one in D]
    zero = here.report[Key(task, "none", FLOORS[0], budgets[0], "report")].right_SN.mean()
    own = [here.report[Key(task, "none", FLOORS[1], n, "report")] for n in budgets]
    row = {
        "task": task,
        "attacker": attacker,
        "defense": defense,
        "budgets": budgets,
        "zero": zero,
        "values": [p.value for p in points],
        "lo": [max(p.lo, 0.0) for p in points],
        "hi": [min(p.hi, 1.0) for p in points],
        "own_data": [one.right_SN.mean() for one in own],
        "falls": any(b.value < a.value for a, b in itertools.pairwise(points)),
    }
    same = all(len({one.seeds for one in some}) == 1 for some in arms)
    if defense == "none" or len(budgets) < FEWEST_BUDGETS or not same:
        return row
    if why := curves.too_far(budgets, "M"):
        return row | {"no_multiplier": why}
    U_KSN, D_KSN, labels, seeds = (
        np.stack(U),
        np.stack(D),
        here.clusters(task),
        (arms[1][0].seeds, arms[0][0].seeds),
    )
    floor = here.scores(here.floor_key(task, budgets[-1]))
    needed = curves.needs(
        floor,
        U_KSN,
        D_KSN,
        np.array(budgets),
        draws=here.study.measure.draws,
        clusters=labels,
        seeds=seeds,
    )
    found = [curves.multiplier(one, here.alpha) for one in needed]
    middle = found[len(found) // 2]
    companion = None
    if middle.sign == "=":
        companion = curves.common_shape(
            float(floor.mean), U_KSN, D_KSN, np.array(budgets), middle.value
        )
    return row | {
        "multipliers": [one._asdict() | {"text": _signed(one)} for one in found],
        "common_shape": companion,
        "area_between": curves.area_between(U_KSN, D_KSN, here.alpha, labels, seeds),
        "bill": _bill(here, task, attacker, defense, needed),
        "below_minimum": len(budgets) < 6 or U_KSN.shape[1] < 5 or U_KSN.shape[2] < 500,
    }


def _bill(
    here: Compared, task: str, attacker: str, defense: str, needed: list[curves.Needs]
) -> dict[str, Any]:
    """Accounts and dollars for half of the capability, from stated ranges; a censored curve gives a
    lower bound.
    """
    prices = here.study.measure.prices.model_dump()
    inputs = cost.Inputs(**{name: cost.Range(*ends) for name, ends in prices.items()})
    half = needed[len(needed) // 2]
    held = {}
    for name, d, draws_B2 in (
        ("undefended", "none", half.undefended_B2),
        ("defended", defense, half.defended_B2),
    ):
        book = here.book(Key(task, d, attacker, max(here.budgets(task)), "report"))
        each = max(book["exchanges"], 1)
        hours = book["flops"] / GPU_FLOPS / 3600
        low_B = np.where(np.isfinite(draws_B2[:, 0]), draws_B2[:, 0], draws_B2[:, 1])
        bills = cost.bill(low_B, book["tokens_in"] / each, book["tokens_out"] / each, hours, inputs)
        held[name] = {
            "accounts": bills[0],
            "dollars": bills[1],
            "lower_bound": bool(np.isinf(draws_B2[:, 1]).mean() > 0.025),
        }
    return held


def frontier_rows(here: Compared, cases: Cases) -> list[dict[str, Any]]:
    """E8 at the largest budget: best transfer at each margin, hypervolume, which defences a trivial
    one beats.

    What is best is chosen by the selection split's students and questions among those that pass at
    the margin.
    """
    held = []
    for task in here.tasks():
        budget = max(here.budgets(task))
        shown = [
            case for (t, n, d), case in cases.items() if (t, n) == (task, budget) and d != IDENTITY
        ]
        shown = [case for case in shown if case["transfer"] is not None]
        other = _elsewhere(here, task, budget, shown)
        best = {}
        for margin in frontier.MARGINS:
            i = None
            if other:
                passing = [case["utility"]["lo"] for case in shown]
                i = frontier.best_at(list(zip(passing, other.gained_K, strict=True)), margin)
            chosen = (
                None
                if i is None
                else {"defense": shown[i]["defense"], "transfer": shown[i]["effective"]}
            )
            best[f"{100 * margin:g}"] = chosen
        dominated = {case["defense"]: by for case in shown if (by := _dominated(case, shown))}
        held.append(
            {
                "task": task,
                "budget": budget,
                "best_at_points": best,
                "dominated_by": dominated,
                "not_chosen": "" if other else NOT_CHOSEN,
                "volume": _volume(here, task, budget, shown, other) if other else None,
            }
        )
    return held


class _Elsewhere(NamedTuple):
    """What K defences lose and pass on by the selection split's students and questions, to choose
    by.
    """

    lost_K: np.ndarray
    gained_K: np.ndarray


def _elsewhere(
    here: Compared, task: str, budget: int, shown: list[dict[str, Any]]
) -> _Elsewhere | None:
    """None unless there are two defences or more, each with students of its own to be chosen on,
    and a gap.
    """
    asked = [(case["defense"], case["attack"]) for case in shown]
    told = [here.grades.get(Key(task, d, a, budget, "select")) for d, a in asked]
    costs = [here.grades.get(Key(task, d, "", 0, "select")) for d, _ in asked]
    if len(shown) < 2 or any(one is None for one in (*told, *costs)):
        return None
    first = shown[0]
    U, F, Te = (
        here.grades[Key(task, "none", a, n, "select")].right_SN.mean()
        for a, n in ((first["ceiling"], budget), (first["floor"], budget), ("", 0))
    )
    if U <= F:
        return None
    return _Elsewhere(
        np.array([Te - one.right_SN.mean() for one in costs if one]),
        np.array([(one.right_SN.mean() - F) / (U - F) for one in told if one]),
    )


def _volume(
    here: Compared, task: str, budget: int, shown: list[dict[str, Any]], other: _Elsewhere
) -> Any:
    """Of the configurations that no other one beat on the selection split."""
    asked = [(case["defense"], case["attack"]) for case in shown]
    return frontier.volume(
        here.floor_arm(task, budget).right_SN,
        here.report[Key(task, "none", shown[0]["ceiling"], budget, "report")].right_SN,
        [here.report[Key(task, d, a, budget, "report")].right_SN for d, a in asked],
        here.teacher(task, "none").right_SN,
        [here.teacher(task, d).right_SN for d, _ in asked],
        frontier.non_dominated(other.lost_K, other.gained_K),
        alpha=here.alpha,
        draws=here.study.measure.draws,
        clusters=here.clusters(task),
    )._asdict() | {"defenses": [d for d, _ in asked]}


def ledger_rows(here: Compared) -> list[dict[str, Any]]:
    """What each reported arm cost."""
    return [key._asdict() | here.book(key) for key in here.ranked]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _dominated(case: dict[str, Any], shown: list[dict[str, Any]]) -> str:
    """The trivial defence that costs no more and stops more, if there is one."""
    for other in shown:
        trivial = other["defense"].partition("(")[0] in TRIVIAL and other is not case
        if (
            trivial
            and other["utility"]["change"] >= case["utility"]["change"]
            and other["effective"] < case["effective"]
        ):
            return str(other["defense"])
    return ""


def _signed(one: curves.Multiplier) -> str:
    """`3.1`, `> 8`, `< 2`, or `not measurable`."""
    if one.sign == "?":
        return "not measurable"
    return f"{'' if one.sign == '=' else one.sign + ' '}{one.value:.2g}"
