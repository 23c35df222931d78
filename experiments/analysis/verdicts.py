"""Cases: a defence on a task against all listed attacks, with its worst case, verdict, flags and
sensitivity.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from experiments.analysis.comparisons import Compared
from experiments.measure import cost, flags, frontier, verdict
from experiments.measure.contrast import Arm, NotMeasurable, arm_mean
from experiments.measure.transfer import worst_case
from experiments.measure.utility import non_inferiority
from experiments.planning.arms import IDENTITY, UNTRAINED, choices, is_floor
from experiments.results.collect import Key
from experiments.settings.schema import parse_attack, parse_defense

MATCHED = {"compute_matched": "flops", "cost_matched": "dollars"}
MOVED = 0.05  # what twice the steps may change before a case is an invalid run, a share
EQUAL_SPENDING = 0.02  # spendings this near need no curve
Cases = dict[tuple[str, int, str], dict[str, Any]]  # by task, budget and defence


def cases(here: Compared) -> Cases:
    """Verdicts at the largest budget of each task, with Holm over all of them; smaller budgets
    carry none.
    """
    _teachers(here)
    at, held = [], []
    for task in here.tasks():
        for budget in here.budgets(task):
            for defense in dict.fromkeys(key.defense for key in here.report if key.task == task):
                if defense != "none" and here.attackers(task, budget, defense):
                    at.append((task, budget, defense))
                    held.append(_case(here, *at[-1]))
    judged = [i for i, (task, budget, _) in enumerate(at) if budget == max(here.budgets(task))]
    words = verdict.judge([held[i][0] for i in judged], here.rules)
    table = {}
    for i, (key, (case, row)) in enumerate(zip(at, held, strict=True)):
        none = verdict.NO_WORD._replace(rule="verdicts are given at the largest budget")
        word = words[judged.index(i)] if i in judged else none
        word = word._replace(remarks=(*word.remarks, *_longer(row["plateau"])))
        more = {"verdict": word.word, "sensitivity": _sensitivity(here, key, case, row["kind"])}
        table[key] = row | word._asdict() | more
    return table


def _case(
    here: Compared, task: str, budget: int, defense: str
) -> tuple[verdict.Case, dict[str, Any]]:
    """What is judged of a defence, and its row: the worst attack was chosen on the
    selection split.
    """
    attackers, everyone = here.attackers(task, budget, defense), here.undefended(task, budget)
    keys = [Key(task, defense, attacker, budget, "report") for attacker in attackers]
    tops = [Key(task, "none", attacker, budget, "report") for attacker in everyone]
    arms, ceilings, floor = (
        map(here.scores, keys),
        map(here.scores, tops),
        here.scores(here.floor_key(task, budget)),
    )
    labels, control = here.clusters(task), defense == IDENTITY
    clean, guarded = (here.scores(here.teacher_key(task, one)) for one in ("none", defense))
    selection = (
        _selection(here, task, budget, "none", everyone),
        _selection(here, task, budget, defense, attackers),
    )
    held = verdict.Case(floor, list(ceilings), list(arms), clean, guarded)
    worst = worst_case(floor, held.undefended, held.attacks, selection, here.alpha, labels)
    if control:
        here.flag(
            "identity", keys[worst.attack], flags.identity(worst.transfer.lo, worst.transfer.hi)
        )
    faults = _faults(here, keys)
    top, key = tops[worst.ceiling], keys[worst.attack]
    twice = {} if control else {"U": _twice(here, top), "D": _twice(here, key)}
    faults[worst.attack] += [
        f"at twice the steps {name} gains {100 * one.change:.1f} points"
        for name, one in twice.items()
        if one and one.moved and one.change > MOVED
    ]
    case = dataclasses.replace(
        held,
        chosen=worst.attack,
        ceiling=worst.ceiling,
        adaptive=[parse_attack(a).adaptive for a in attackers],
        invalid=_invalid(faults, worst.attack, worst.lcb, here.study.measure.ineffective),
        missing=_missing(here, task, budget, defense),
        control=control,
        matched=not control and parse_defense(defense).match is not None,
        clusters=labels,
    )
    row = {
        "task": task,
        "budget": budget,
        "defense": defense,
        "attack": attackers[worst.attack],
        "attacks": attackers,
        "ceiling": everyone[worst.ceiling],
        "floor": here.floor(task, budget),
        "tie": worst.tie,
        "transfer": worst.transfer.value,
        "effective": worst.transfer.effective,
        "kind": worst.transfer.kind,
        "lcb": worst.lcb,
        "hi": worst.transfer.hi,
        "ucb": worst.ucb,
        "plateau": {name: one and one._asdict() for name, one in twice.items()},
        "utility": utility(here, clean, guarded, labels),
    }
    return case, row


def _longer(plateau: dict[str, Any]) -> list[str]:
    """What is said beside a word of students that were trained for twice the steps."""
    said = [f"{name} {100 * one['change']:+.1f}" for name, one in plateau.items() if one]
    return [f"at twice the steps {', '.join(said)} points"] if said else []


def gained_at_twice(here: Compared, key: Key) -> float | None:
    """What twice the steps change for one student of an arm, a share; None where none was trained
    so.
    """
    found = _twice(here, key)
    return found.change if found else None


def _twice(here: Compared, key: Key) -> flags.PlateauRun | None:
    """What twice the steps change for one student of an arm; None where none was trained so."""
    longer = here.grades.get(key._replace(split="plateau"))
    if longer is None:
        return None
    arm, seed = here.report[key], longer.seeds[0]
    error = arm_mean(here.scores(key), alpha=here.alpha, clusters=here.clusters(key.task)).se
    found = flags.longer(
        arm.right_SN[arm.seeds.index(seed)], longer.right_SN[0], float(error), here.alpha
    )
    said = (
        f"{100 * found.change:+.1f} points [{100 * found.lo:+.1f}, {100 * found.hi:+.1f}] at "
        "twice the steps"
    )
    here.flag("under-trained", key, f"{said}, seed {seed}" if found.moved else "")
    return found


def _teachers(here: Compared) -> None:
    """Raise the flags of defended teachers, whatever is asked of them."""
    for key, guarded in here.grades.items():
        if key.attacker or key.split != "report":
            continue
        where = (key.task, key.defense)
        here.flag(
            "degenerate text",
            where,
            flags.degenerate(here.teacher(key.task, "none").texts, guarded.texts),
        )
        here.flag("off target", where, flags.off_target(here.prepared(*where)["matched"]))
        here.flag("cut answers", where, flags.unfinished(guarded.mean("unfinished") or 0.0))
        here.flag(
            "single sample",
            where,
            f"{len(guarded.seeds)} sampling seed(s)" if len(guarded.seeds) < 3 else "",
        )


def _missing(here: Compared, task: str, budget: int, defense: str) -> list[str]:
    """Planned students of a case that are not there: of its attacks, its ceilings and its floor."""
    held = []
    for key, planned in here.by_key.items():
        mine = key.defense in (defense, "none") and not is_floor(key.attacker)
        mine |= key.attacker == here.floor(task, budget)
        done = len(here.report[key].seeds) if key in here.report else 0
        if (
            mine
            and (key.task, key.budget, key.split) == (task, budget, "report")
            and done < len(planned)
        ):
            held.append(
                f"{len(planned) - done} of {len(planned)} students of {key.defense} {key.attacker}"
            )
    return held


def _aliases(here: Compared, task: str, budget: int, attacker: str) -> dict[str, str]:
    """Defences whose students answer as those of an earlier one do, all answers alike; undefended
    comes first.

    Of the seeds that all have: undefended arms have more.
    """
    keys = sorted(
        (k for k in here.report if (k.task, k.budget, k.attacker) == (task, budget, attacker)),
        key=lambda k: k.defense != "none",
    )
    return flags.aliases(
        {key.defense: here.report[key].digest_of(here.study.seeds) for key in keys}
    )


def _selection(
    here: Compared, task: str, budget: int, defense: str, attackers: list[str]
) -> list[Arm]:
    """Each attack's scores on the selection split; where there is one attack there is no choice."""
    if len(attackers) < 2:
        return [Arm(np.zeros((1, 2)), (0,))]
    # The identity control is the undefended teacher, so its attack is chosen as the undefended
    # one's is.
    asked = "none" if defense == IDENTITY else defense
    keys = [Key(task, asked, attacker, budget, "select") for attacker in attackers]
    missing = [key.attacker for key in keys if key not in here.grades]
    if missing:
        raise NotMeasurable(
            f"{task}: {', '.join(missing)} against {asked} has no students on the selection split"
        )
    return [here.scores(key) for key in keys]


def utility(here: Compared, clean: Arm, guarded: Arm, labels: np.ndarray | None) -> dict[str, Any]:
    """The honest user's cost at the study's margin, and the margins at which it is not inferior."""
    margins = sorted({*frontier.MARGINS, here.study.measure.utility_margin})
    costs = {
        margin: non_inferiority(clean, guarded, margin, here.alpha, labels) for margin in margins
    }
    main = costs[here.study.measure.utility_margin]
    return main._asdict() | {"passes_at": [m for m, one in costs.items() if one.passes]}


def _invalid(
    faults: list[list[str]], chosen: int, lcb: float | None, ineffective: float
) -> list[str]:
    """What makes a case an invalid run.

    Where the worst attack is sound and surely recovers more than `ineffective`, faults of others
    change no word: they could only have recovered more.
    """
    told = [faults[chosen]] if lcb is not None and lcb > ineffective else faults
    return list(dict.fromkeys(reason for one in told for reason in one))


def _faults(here: Compared, keys: list[Key]) -> list[list[str]]:
    """Raise the flags of a case; those that say that an attack's students cannot be judged, by
    attack.
    """
    held = []
    task, defense, _, budget, _ = keys[0]
    labels, floor = here.clusters(task), here.scores(here.floor_key(task, budget))
    for key in keys:
        plain = key._replace(defense="none")
        gap = flags.extractor(here.report[key].unparsed, here.told(plain).unparsed)
        here.flag("extractor", key, gap)
        other = _aliases(here, task, budget, key.attacker).get(defense)
        twin = f"every answer equals those under {other}" if other else ""
        here.flag("alias", key, twin)
        # A defence of logprobs does nothing to whoever asks for text alone, and an attack that
        # adapts may undo a defence to the last answer: these are their results and no mistake.
        sees = parse_attack(key.attacker).needs_interface
        silent = (
            sees == "text"
            and defense != IDENTITY
            and parse_defense(defense).chain.point == "logprobs"
        )
        silent |= parse_attack(key.attacker).adaptive
        arm = here.scores(key)
        here.flag("defence helps", key, flags.helps(here.scores(plain), arm, here.alpha, labels))
        here.flag("sabotage", key, flags.sabotage(floor, arm, here.alpha, labels))
        reasons = [f"arms are aliases: {twin}"] if twin and not silent else []
        reasons += [f"unparsed answers differ: {gap}"] if gap else []
        reasons += _training(here, key) + _training(
            here, Key(task, "none", key.attacker, budget, "report")
        )
        held.append(list(dict.fromkeys(reasons)))
    return held


def _training(here: Compared, key: Key) -> list[str]:
    """What is wrong with how an arm's students were trained."""
    mine = here.by_key.get(key, [])
    done = [arm for arm in mine if arm["finished"]]
    here.flag(
        "missing",
        key,
        f"{len(done)} of {len(mine)} students finished" if len(done) < len(mine) else "",
    )
    diverged = [bool(arm["diverged"]) for arm in done]
    tokens = [arm["student_tokens"] for arm in done if key.attacker != UNTRAINED]
    here.flag(
        "under-trained", key, flags.under_trained([arm["losses"] for arm in done], diverged, tokens)
    )
    shares = [
        float(np.mean([arm[name] for arm in done])) if done else 0.0 for name in ("cut", "no_final")
    ]
    here.flag("cut answers", key, flags.cut(*shares))
    leaked = max((arm["leaked"] for arm in done), default=0)
    here.flag("leakage", key, f"{leaked} report questions are among the queries" if leaked else "")
    wrong = (
        [f"most students of {key.defense} {key.attacker} diverged"]
        if sum(diverged) * 2 > len(done)
        else []
    )
    return wrong + (
        [f"{leaked} report questions are among the queries of {key.attacker}"] if leaked else []
    )


def _sensitivity(
    here: Compared, key: tuple[str, int, str], case: verdict.Case, kind: str
) -> dict[str, Any]:
    """T under other choices: each floor, one seed or attack less, parsed answers alone, equal
    compute or cost.
    """
    task, budget, _ = key
    F, U, D = case.floor, case.undefended[case.ceiling], case.attacks[case.chosen]
    floors = {
        name: _share(here.scores(at), U, D)
        for name in choices(here.study)
        if (at := Key(task, "none", name, budget, "report")) in here.grades
    }
    dropped = [_share(F, U, D.without(seed)) for seed in D.seeds] if len(D.seeds) > 1 else []
    dropped += [_share(F, U.without(seed), D) for seed in U.seeds] if len(U.seeds) > 1 else []
    known = [one for one in dropped if one is not None]
    others = [_share(F, U, one) for i, one in enumerate(case.attacks) if i != case.chosen]
    return {
        "by_floor": floors,
        "drop_one_seed": [min(known), max(known)] if known else None,
        "drop_chosen_attack": max((one for one in others if one is not None), default=None),
        "parsed_only": _parsed_only(here, key, case),
        **(
            _matched(here, key, case)
            if kind in ("ok", "weak denominator")
            else dict.fromkeys(MATCHED)
        ),
    }


def _ceiling(here: Compared, key: tuple[str, int, str], case: verdict.Case) -> str:
    """The attack whose undefended students are the ceiling, as they are of T."""
    task, budget, _ = key
    return here.undefended(task, budget)[case.ceiling]


def _parsed_only(here: Compared, key: tuple[str, int, str], case: verdict.Case) -> float | None:
    """T from answers that could be read, which is not paired over items: a check and
    no estimate.
    """
    task, budget, defense = key
    chosen = here.attackers(task, budget, defense)[case.chosen]
    arms = [
        here.floor_arm(task, budget),
        here.report[Key(task, "none", _ceiling(here, key, case), budget, "report")],
        here.report[Key(task, defense, chosen, budget, "report")],
    ]
    F, U, D = (
        float(a.right_SN[a.said_SN >= 0].mean()) if (a.said_SN >= 0).any() else 0.0 for a in arms
    )
    return (D - F) / (U - F) if U > F else None


def _matched(
    here: Compared, key: tuple[str, int, str], case: verdict.Case
) -> dict[str, float | None]:
    """T against what U gets for the same compute or the same money, from its query curve; None out
    of range.
    """
    task, budget, defense = key
    attacker, top = here.attackers(task, budget, defense)[case.chosen], _ceiling(here, key, case)
    held: dict[str, float | None] = {}
    books = {
        n: here.book(Key(task, "none", top, n, "report"))
        for n in here.budgets(task)
        if Key(task, "none", top, n, "report") in here.report
    }
    scores = [here.report[Key(task, "none", top, n, "report")].right_SN.mean() for n in books]
    mine = here.book(Key(task, defense, attacker, budget, "report"))
    F, D = case.floor.mean, case.attacks[case.chosen].mean
    for name, of in MATCHED.items():
        spent = [book[of] for book in books.values()]
        if math.isclose(mine[of], books[budget][of], rel_tol=EQUAL_SPENDING):
            U: float | None = case.undefended[case.ceiling].mean
        else:
            U = cost.at_equal(mine[of], spent, scores)
        held[name] = float((D - F) / (U - F)) if U is not None and U > F else None
    return held


def _share(F: Arm, U: Arm, D: Arm) -> float | None:
    gap = U.mean - F.mean
    return (D.mean - F.mean) / gap if gap > 0 else None
