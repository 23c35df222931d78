"""From grades to every number of a report: plain values, a function of the study, its grades and its arms alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.config import Study, component
from experiments.measure import bootstrap, cost, curves, fidelity, flags, frontier, power, verdict
from experiments.measure.contrast import Estimate, Refuse, arm_mean, bounded, contrast
from experiments.measure.transfer import select, transfer, worst_case
from experiments.measure.utility import non_inferiority
from experiments.plan import CHOICES, FLOORS, IDENTITY
from experiments.report.grades import Grades, Key, Sat

MATCHED = {"compute_matched": "flops", "cost_matched": "dollars"}
EQUAL_SPENDING = 0.02  # spendings this near need no curve
FEWEST_BUDGETS = 4  # for a query curve to be inverted; a verdict on it takes six
TRIVIAL = ("decoding/temperature", "release/truncate", "release/answer_only")
GPU_FLOPS = 1e14  # a stated price: FLOPs that a rented accelerator does in a second


def measure(study: Study, grades: Grades, arms: list[dict[str, Any]]) -> dict[str, Any]:
    """All of E1 to E13: rows by arm, cases by defence, teachers, curves, frontier, ledger, flags; NaN and inf as null.

    `arms` tells what was planned: an arm without grades is counted as missing and never as zero.
    """
    here = _Study(study, grades, arms)
    cases = here.cases()
    return plain({
        "rows": here.rows(cases), "cases": sorted(cases.values(), key=lambda case: (case["task"], case["budget"])),
        "teachers": here.teacher_rows(), "curves": here.curve_rows(), "frontier": here.frontier_rows(cases),
        "ledger": here.ledger_rows(), "flags": here.flags,
    })  # fmt: skip


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


@dataclass(eq=False)
class _Study:
    """The grades of a study by what they are compared for."""

    study: Study
    grades: Grades
    arms: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.flags: list[dict[str, Any]] = []
        self.alpha = self.study.measure.alpha
        self.report = {key: sat for key, sat in self.grades.items() if key.split == "report" and key.attacker}
        for key, sat in self.grades.items():
            bounded(sat.right_SN)
            flags.common_items({"first": self._first(key).items, str(key): sat.exams[0].items})
            if len({exam.items for exam in sat.exams}) > 1:
                raise Refuse(f"{key}: its seeds were scored on different items")
        for key, planned in self.by_key.items():
            if key not in self.grades and key.split == "report":
                self.flag("missing", key, f"0 of {len(planned)} students finished")

    def _first(self, key: Key) -> Any:
        return next(sat for at, sat in self.grades.items() if (at.task, at.split) == (key.task, key.split)).exams[0]

    # What an arm is compared with.

    @functools.cache  # noqa: B019 (this object lives for one report)
    def floor(self, task: str, budget: int) -> str:
        """The best teacher-free student, chosen on the selection split."""
        there = [name for name in CHOICES if Key(task, "none", name, budget, "report") in self.grades]
        chosen_on = [self.grades.get(Key(task, "none", name, budget, "select")) for name in there]
        if not {*CHOICES[:2]} <= {*there} or any(one is None for one in chosen_on):
            raise Refuse(f"{task}: the floors of budget {budget} are not complete; F0 and F1 must be there")
        return there[select([one.right_SN for one in chosen_on if one is not None])]

    def floor_arm(self, task: str, budget: int) -> Sat:
        return self.grades[Key(task, "none", self.floor(task, budget), budget, "report")]

    def attackers(self, task: str, budget: int, defense: str) -> list[str]:
        """In the order of the study, so that no number depends on the order of a file."""
        at = (task, budget, defense)
        there = {key.attacker for key in self.report
                 if (key.task, key.budget, key.defense) == at and key.attacker not in FLOORS}  # fmt: skip
        named = [attacker for block in self.study.blocks for attacker in block.attackers]
        return sorted(there, key=lambda one: (named.index(one) if one in named else len(named), one))

    def undefended(self, task: str, budget: int) -> list[str]:
        """The attackers with a ceiling; Refuse if there is none, as nothing can be compared then."""
        there = self.attackers(task, budget, "none")
        if not there:
            raise Refuse(f"{task}: no undefended student finished at budget {budget}, so there is no ceiling")
        return there

    def told(self, key: Key) -> Sat:
        """The reported students of an arm; Refuse if none of them finished."""
        if key not in self.report:
            raise Refuse(
                f"{key.task}: no student of {key.attacker} against {key.defense} finished at budget {key.budget}"
            )
        return self.report[key]

    def teacher(self, task: str, defense: str, split: str = "report") -> Sat:
        return self.grades[Key(task, "none" if defense == IDENTITY else defense, "", 0, split)]

    @functools.cache  # noqa: B019
    def clusters(self, task: str) -> np.ndarray | None:
        """Labels of report items of one text; None where every text is its own."""
        key = next(key for key in self.report if key.task == task)
        labels = flags.clusters(self.report[key].exams[0].prompts)
        return labels if len(set(labels)) < len(labels) else None

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(key.task for key in self.report))

    def budgets(self, task: str) -> list[int]:
        return sorted({key.budget for key in self.report if key.task == task})

    @functools.cached_property
    def by_key(self) -> dict[Key, list[dict[str, Any]]]:
        """The planned students of each arm."""
        held: dict[Key, list[dict[str, Any]]] = {}
        for arm in self.arms:
            held.setdefault(Key(*(arm[name] for name in Key._fields)), []).append(arm)
        return held

    def planned(self, key: Key) -> int:
        return len(self.by_key.get(key, ()))

    def flag(self, kind: str, key: Any, evidence: str) -> None:
        if evidence:
            where = " ".join(str(part) for part in key if part not in ("", 0))
            self.flags.append({"flag": kind, "where": where, "evidence": evidence})

    # Cases: a defence on a task, against all attacks.

    def cases(self) -> dict[tuple[str, int, str], dict[str, Any]]:
        """Verdicts at the largest budget of each task, with Holm over all of them; smaller budgets carry none."""
        at, held = [], []
        for task in self.tasks():
            for budget in self.budgets(task):
                for defense in dict.fromkeys(key.defense for key in self.report if key.task == task):
                    if defense != "none" and self.attackers(task, budget, defense):
                        at.append((task, budget, defense))
                        held.append(self._case(*at[-1]))
        judged = [i for i, (task, budget, _) in enumerate(at) if budget == max(self.budgets(task))]
        words = verdict.judge([held[i][0] for i in judged], self.rules)
        table = {}
        for i, (key, (case, row)) in enumerate(zip(at, held, strict=True)):
            none = verdict.Verdict("", "verdicts are given at the largest budget", (), math.nan, "")
            word = words[judged.index(i)] if i in judged else none
            table[key] = (
                row | word._asdict() | {"verdict": word.word, "sensitivity": self._sensitivity(key, case, row["kind"])}
            )
        return table

    @property
    def rules(self) -> verdict.Rules:
        m = self.study.measure
        return verdict.Rules(m.theta, m.ineffective, m.utility_margin, m.alpha, tuple(m.looks))

    def _case(self, task: str, budget: int, defense: str) -> tuple[verdict.Case, dict[str, Any]]:
        attackers, everyone = self.attackers(task, budget, defense), self.undefended(task, budget)
        arms = [self.report[Key(task, defense, a, budget, "report")] for a in attackers]
        ceilings = [self.report[Key(task, "none", a, budget, "report")] for a in everyone]
        chosen, ceiling = (self._chosen(task, budget, d, names) for d, names in
                           ((defense, attackers), ("none", everyone)))  # fmt: skip
        floor, labels = self.floor_arm(task, budget), self.clusters(task)
        clean, guarded = self.teacher(task, "none"), self.teacher(task, defense)
        keys = [Key(task, defense, a, budget, "report") for a in attackers]
        missing = self._missing(task, budget, defense)
        case = verdict.Case(
            floor.right_SN, ceilings[ceiling].right_SN, [arm.right_SN for arm in arms], clean.right_SN,
            guarded.right_SN, chosen, [component("attacker", a)[1].adaptive for a in attackers],
            self._invalid(keys, arms, ceilings[ceiling], clean, guarded), missing, labels,
        )  # fmt: skip
        worst = worst_case(case.floor, [one.right_SN for one in ceilings], case.attacks,
                           self._selection(task, budget, defense, attackers, everyone, chosen, ceiling),
                           self.alpha, labels)  # fmt: skip
        row = {
            "task": task, "budget": budget, "defense": defense, "attack": attackers[chosen],
            "attacks": attackers, "ceiling": everyone[ceiling], "floor": self.floor(task, budget),
            "tie": worst.tie, "transfer": worst.transfer.value, "effective": worst.transfer.effective,
            "kind": worst.transfer.kind, "lcb": worst.lcb, "hi": worst.transfer.hi, "ucb": worst.ucb,
            "utility": self._utility(clean, guarded, labels),
        }  # fmt: skip
        return case, row

    def _missing(self, task: str, budget: int, defense: str) -> list[str]:
        """Planned students of a case that are not there: of its attacks, its ceilings and its floor."""
        held = []
        for key, planned in self.by_key.items():
            mine = key.defense in (defense, "none") and key.attacker not in FLOORS
            mine |= key.attacker == self.floor(task, budget)
            done = len(self.report[key].seeds) if key in self.report else 0
            if mine and (key.task, key.budget, key.split) == (task, budget, "report") and done < len(planned):
                held.append(f"{len(planned) - done} of {len(planned)} students of {key.defense} {key.attacker}")
        return held

    def _aliases(self, task: str, budget: int, attacker: str) -> dict[str, str]:
        """Defences whose students answer as those of an earlier one do, all answers alike; undefended comes first."""
        keys = sorted((k for k in self.report if (k.task, k.budget, k.attacker) == (task, budget, attacker)),
                      key=lambda k: k.defense != "none")  # fmt: skip
        return flags.aliases({key.defense: self.report[key].digest for key in keys})

    def _chosen(self, task: str, budget: int, defense: str, attackers: list[str]) -> int:
        """The strongest attack on the selection split; where there is one attack there is no choice."""
        if len(attackers) < 2:
            return 0
        return select([self._selected(task, budget, defense, a).right_SN for a in attackers])

    def _selected(self, task: str, budget: int, defense: str, attacker: str) -> Sat:
        # The identity control is the undefended teacher, so its attack is the undefended one.
        key = Key(task, "none" if defense == IDENTITY else defense, attacker, budget, "select")
        if key not in self.grades:
            raise Refuse(f"{task}: {attacker} against {defense} has no students on the selection split")
        return self.grades[key]

    def _selection(self, task: str, budget: int, defense: str, attackers: list[str], everyone: list[str],
                   chosen: int, ceiling: int) -> Any:  # fmt: skip
        def scores(asked: str, names: list[str]) -> list[np.ndarray]:
            if len(names) < 2:
                return [np.zeros((1, 2))]
            return [self._selected(task, budget, asked, name).right_SN for name in names]

        return scores("none", everyone), scores(defense, attackers)

    def _utility(self, clean: Sat, guarded: Sat, labels: np.ndarray | None) -> dict[str, Any]:
        margins = sorted({*frontier.MARGINS, self.study.measure.utility_margin})
        costs = {margin: non_inferiority(clean.right_SN, guarded.right_SN, margin, self.alpha, labels)
                 for margin in margins}  # fmt: skip
        main = costs[self.study.measure.utility_margin]
        return main._asdict() | {"passes_at": [m for m, one in costs.items() if one.passes]}

    def _invalid(self, keys: list[Key], arms: list[Sat], ceiling: Sat, clean: Sat, guarded: Sat) -> list[str]:
        """Raise the flags of a case; those that make it an invalid run are its reasons."""
        reasons = []
        task, defense, _, budget, _ = keys[0]
        for key, arm in zip(keys, arms, strict=True):
            undefended = self.told(key._replace(defense="none"))
            gap = flags.extractor(arm.unparsed, undefended.unparsed)
            self.flag("extractor", key, gap)
            other = self._aliases(task, budget, key.attacker).get(defense)
            twin = f"every answer equals those under {other}" if other else ""
            self.flag("alias", key, twin)
            # A defence of logprobs does nothing to whoever asks for text alone: that is its result and no mistake.
            sees = component("attacker", key.attacker)[1].needs_profile
            silent = sees == "text" and defense != IDENTITY and component("defense", defense)[1].point == "logprobs"
            reasons += [f"arms are aliases: {twin}"] if twin and not silent else []
            self.flag("defence helps", key, flags.helps(undefended.right_SN, arm.right_SN, self.alpha))
            floor = self.floor_arm(task, budget).right_SN
            self.flag("sabotage", key, flags.sabotage(floor, arm.right_SN, self.alpha))
            reasons += [f"unparsed answers differ: {gap}"] if gap else []
            reasons += self._training(key)
        for attacker in dict.fromkeys(key.attacker for key in keys):
            reasons += self._training(Key(task, "none", attacker, budget, "report"))
        before, after = ([text for exam in sat.exams for text in exam.texts] for sat in (clean, guarded))
        self.flag("degenerate text", (task, defense), flags.degenerate(before, after))
        if len(guarded.seeds) < 3:
            self.flag("single sample", (task, defense), f"{len(guarded.seeds)} sampling seed(s)")
        return list(dict.fromkeys(reasons))

    @functools.cache  # noqa: B019
    def _training(self, key: Key) -> list[str]:
        """What is wrong with how an arm's students were trained."""
        mine = self.by_key.get(key, [])
        done = [arm for arm in mine if arm["finished"]]
        self.flag("missing", key, f"{len(done)} of {len(mine)} students finished" if len(done) < len(mine) else "")
        said = [text for arm in done if (text := flags.under_trained(arm["losses"], arm["diverged"]))]
        self.flag("under-trained", key, f"{len(said)} of {len(done)} students: {said[0]}" if said else "")
        leaked = max((arm["leaked"] for arm in done), default=0)
        self.flag("leakage", key, f"{leaked} report questions are among the queries" if leaked else "")
        wrong = [f"{key.defense} {key.attacker} is under-trained"] if len(said) * 2 > len(done) else []
        return wrong + ([f"{leaked} report questions are among the queries of {key.attacker}"] if leaked else [])

    def _sensitivity(self, key: tuple[str, int, str], case: verdict.Case, kind: str) -> dict[str, Any]:
        """T under other choices: each floor, one seed or attack less, parsed answers alone, equal compute or cost."""
        task, budget, _ = key
        D, U = case.attacks[case.chosen], case.undefended
        floors = {name: _share(self.grades[at].right_SN, U, D) for name in CHOICES
                  if (at := Key(task, "none", name, budget, "report")) in self.grades}  # fmt: skip
        dropped = [_share(case.floor, U, np.delete(D, s, 0)) for s in range(len(D))] if len(D) > 1 else []
        dropped += [_share(case.floor, np.delete(U, s, 0), D) for s in range(len(U))] if len(U) > 1 else []
        known = [one for one in dropped if one is not None]
        others = [_share(case.floor, U, one) for i, one in enumerate(case.attacks) if i != case.chosen]
        return {
            "by_floor": floors, "drop_one_seed": [min(known), max(known)] if known else None,
            "drop_chosen_attack": max((one for one in others if one is not None), default=None),
            "parsed_only": self._parsed_only(key, case),
            **(self._matched(key, case) if kind in ("ok", "weak denominator") else dict.fromkeys(MATCHED)),
        }  # fmt: skip

    def _parsed_only(self, key: tuple[str, int, str], case: verdict.Case) -> float | None:
        """T from answers that could be read, which is not paired over items: a check and no estimate."""
        task, budget, defense = key
        chosen = self.attackers(task, budget, defense)[case.chosen]
        arms = [self.floor_arm(task, budget), self.report[Key(task, "none", chosen, budget, "report")],
                self.report[Key(task, defense, chosen, budget, "report")]]  # fmt: skip
        F, U, D = (float(a.right_SN[a.said_SN >= 0].mean()) if (a.said_SN >= 0).any() else 0.0 for a in arms)
        return (D - F) / (U - F) if U > F else None

    def _matched(self, key: tuple[str, int, str], case: verdict.Case) -> dict[str, float | None]:
        """T against what U gets for the same compute or the same money, from its query curve; None out of range."""
        task, budget, defense = key
        attacker = self.attackers(task, budget, defense)[case.chosen]
        held: dict[str, float | None] = {}
        books = {n: self._book(Key(task, "none", attacker, n, "report")) for n in self.budgets(task)
                 if Key(task, "none", attacker, n, "report") in self.report}  # fmt: skip
        scores = [self.report[Key(task, "none", attacker, n, "report")].right_SN.mean() for n in books]
        mine, F, D = (
            self._book(Key(task, defense, attacker, budget, "report")),
            case.floor.mean(),
            case.attacks[case.chosen].mean(),
        )
        for name, of in MATCHED.items():
            spent = [book[of] for book in books.values()]
            if math.isclose(mine[of], books[budget][of], rel_tol=EQUAL_SPENDING):
                U: float | None = float(case.undefended.mean())
            else:
                U = cost.at_equal(mine[of], spent, scores)
            held[name] = float((D - F) / (U - F)) if U is not None and U > F else None
        return held

    # Rows: an arm against one attacker.

    def rows(self, cases: dict[tuple[str, int, str], dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._row(key, cases) for key in self.ranked]

    @functools.cached_property
    def ranked(self) -> list[Key]:
        """The reported arms in the order of the table."""
        order = {"floor": 0, "none": 1, "control": 2, "defense": 3}
        return sorted(self.report, key=lambda key: (key.task, key.budget, order[_group(key)]))

    def _row(self, key: Key, cases: dict[tuple[str, int, str], dict[str, Any]]) -> dict[str, Any]:
        arm, floor, labels = self.report[key], self.floor_arm(key.task, key.budget), self.clusters(key.task)
        U = self.told(self._ceiling(key))
        clean, guarded = self.teacher(key.task, "none"), self.teacher(key.task, key.defense)
        share = transfer(floor.right_SN, U.right_SN, arm.right_SN, self.alpha, labels)
        gained = transfer(floor.right_SN, clean.right_SN, arm.right_SN, self.alpha, labels)
        uplift, harm = (contrast([one.right_SN, arm.right_SN], w, alpha=self.alpha, clusters=labels)
                        for one, w in ((floor, [-1, 1]), (U, [1, -1])))  # fmt: skip
        own = arm_mean(arm.right_SN, alpha=self.alpha, clusters=labels)
        case = cases.get((key.task, key.budget, key.defense), {}) if key.attacker not in FLOORS else {}
        planned, saved = self.planned(key), self._saved(key)
        return {
            "task": key.task, "defense": key.defense, "attacker": key.attacker, "student": self.study.student.name,
            "budget": key.budget, "seeds": len(arm.seeds), "planned": planned, "items": arm.right_SN.shape[1],
            "floor": floor.right_SN.mean(), "floor_arm": self.floor(key.task, key.budget),
            "undefended": U.right_SN.mean(), "defended": arm.right_SN.mean(),
            "defended_lo": max(own.lo, 0.0), "defended_hi": min(own.hi, 1.0),
            "uplift": uplift.value, "uplift_lo": uplift.lo, "uplift_hi": uplift.hi,
            "harm": harm.value, "harm_lo": harm.lo, "harm_hi": harm.hi,
            "transfer": share.value, "transfer_lo": share.lo, "transfer_hi": share.hi, "transfer_kind": share.kind,
            "t_den": share.t_den, "effective": share.effective,
            "gap_recovered": gained.value, "gap_recovered_lo": gained.lo, "gap_recovered_hi": gained.hi,
            "teacher_clean": clean.right_SN.mean(), "teacher_defended": guarded.right_SN.mean(),
            "verdict": case.get("verdict") or None, "rule": case.get("rule", "a control has no verdict"),
            "remarks": case.get("remarks", ()), "settle": case.get("settle", ""),
            "unparsed": arm.unparsed, "bits_per_byte": None if (b := arm.stacked("bits_N")) is None else b.mean(),
            "bits_saved": saved.value if saved else None, "bits_saved_lo": saved.lo if saved else None,
            "bits_saved_hi": saved.hi if saved else None, "fidelity": self._panel(key),
            "components": self._components(key), "missing_bounds": self._bounds(arm, floor, U, planned),
        }  # fmt: skip

    def _ceiling(self, key: Key) -> Key:
        """The undefended arm of the same attacker; floors are compared with the task's first attacker."""
        first = self.undefended(key.task, key.budget)[0]
        return key._replace(defense="none", attacker=first if key.attacker in FLOORS else key.attacker)

    @functools.cached_property
    def _draws(self) -> dict[int, bootstrap.Draws]:
        return {}

    @functools.cache  # noqa: B019
    def _copy(self, key: Key) -> fidelity.Copy:
        teacher, arm = self.teacher(key.task, "none"), self.report[key]
        N = arm.right_SN.shape[1]
        if N not in self._draws:
            self._draws[N] = bootstrap.start(N, min(fidelity.PANEL_DRAWS, self.study.measure.draws))
        first = teacher.exams[0]
        reference = fidelity.Student(
            first.said_N[None], first.right_N[None], None,
            None if first.confidence_N is None else first.confidence_N[None],
        )  # fmt: skip
        # Every arm's seeds are drawn from its own place in one stream, so that rows do not depend on their order.
        drawn = self._draws[N]._replace(rng=np.random.default_rng([len(arm.seeds), N]))
        one = fidelity.Student(arm.said_SN, arm.right_SN, arm.stacked("bits_N"), arm.stacked("confidence_N"))
        return fidelity.copying(one, reference, drawn)

    def _panel(self, key: Key) -> dict[str, Any]:
        floor = Key(key.task, "none", self.floor(key.task, key.budget), key.budget, "report")
        panel = fidelity.panel(self._copy(key), self._copy(floor), self.alpha)
        saved = self._saved(key)
        if saved:
            panel["bits_per_byte"] = saved._replace(value=-saved.value, lo=-saved.hi, hi=-saved.lo)
        return {name: {"value": e.value, "lo": e.lo, "hi": e.hi} for name, e in panel.items()}

    def _saved(self, key: Key) -> Estimate | None:
        """Bits per byte of the teacher's text that a student saves over the floor that predicts it best, F3 too.

        The floor that is best at the exam has never seen reasoning, and would make anything look like fidelity.
        """
        floors = [self.report[at].stacked("bits_N") for name in FLOORS
                  if (at := key._replace(attacker=name, defense="none")) in self.report]  # fmt: skip
        mine, known = self.report[key].stacked("bits_N"), [bits for bits in floors if bits is not None]
        if mine is None or not known:
            return None
        best = min(known, key=lambda bits: float(bits.mean()))
        return contrast([best, mine], [1, -1], alpha=self.alpha, clusters=self.clusters(key.task))

    def _components(self, key: Key) -> dict[str, Any] | None:
        """E12 for U - D of this arm; None below two seeds."""
        arm, U = self.report[key].right_SN, self.report[self._ceiling(key)].right_SN
        if min(len(arm), len(U)) < 2:
            return None
        own, parts = power.components(arm), power.difference_components(U, arm)
        least = power.smallest_change(parts, min(len(arm), len(U)), arm.shape[1], self.alpha)
        return {"seed_sd": own.seed**0.5, "item_variance": own.item, "residual_variance": own.residual,
                "smallest_change": least}  # fmt: skip

    def _bounds(self, arm: Sat, floor: Sat, U: Sat, planned: int) -> Any:
        if len(arm.seeds) >= planned or U.right_SN.mean() <= floor.right_SN.mean():
            return None
        return flags.bounds_if_missing(floor.right_SN, U.right_SN, arm.right_SN, planned)

    # Teachers, curves, frontier, ledger.

    def teacher_rows(self) -> list[dict[str, Any]]:
        """E7: what each defence does to the teacher's own exam, its text and its work."""
        held = []
        for key, sat in self.grades.items():
            if key.attacker or key.split != "report":
                continue
            clean = self.teacher(key.task, "none")
            tokens, before = sat.mean("tokens"), clean.mean("tokens")
            held.append({
                "task": key.task, "defense": key.defense, "accuracy": sat.right_SN.mean(), "seeds": len(sat.seeds),
                **self._utility(clean, sat, self.clusters(key.task)), "unparsed": sat.unparsed,
                "l1": sat.mean("l1"), "kl": sat.mean("kl"), "flips": sat.mean("flips"),
                "token_ratio": tokens / before if tokens is not None and before else None,
                "byte_ratio": _ratio(sat.mean("bytes"), clean.mean("bytes")),
                "passes": sat.mean("passes"), "unfinished": sat.mean("unfinished"),
            })  # fmt: skip
        return held

    def curve_rows(self) -> list[dict[str, Any]]:
        """E9, E10, E13 for every attacker and defence with budgets as an axis; n = 0 is the untrained student."""
        held = []
        for task in self.tasks():
            pairs = dict.fromkeys(
                (k.attacker, k.defense) for k in self.report if k.task == task and k.attacker not in FLOORS
            )
            for attacker, defense in pairs:
                budgets = [n for n in self.budgets(task) if Key(task, defense, attacker, n, "report") in self.report]
                if len(budgets) > 1:
                    held.append(self._curve(task, attacker, defense, budgets))
        return held

    def _curve(self, task: str, attacker: str, defense: str, budgets: list[int]) -> dict[str, Any]:
        D, U = ([self.report[Key(task, d, attacker, n, "report")].right_SN for n in budgets] for d in (defense, "none"))
        points = [arm_mean(one, alpha=self.alpha, clusters=self.clusters(task)) for one in D]
        zero = self.report[Key(task, "none", FLOORS[0], budgets[0], "report")].right_SN.mean()
        own = [self.report[Key(task, "none", FLOORS[1], n, "report")] for n in budgets]
        row = {"task": task, "attacker": attacker, "defense": defense, "budgets": budgets, "zero": zero,
               "values": [p.value for p in points], "lo": [max(p.lo, 0.0) for p in points],
               "hi": [min(p.hi, 1.0) for p in points],
               "own_data": [one.right_SN.mean() for one in own]}  # fmt: skip
        same = len({len(one) for one in (*U, *D)}) == 1
        if defense == "none" or len(budgets) < FEWEST_BUDGETS or not same:
            return row
        U_KSN, D_KSN = np.stack(U), np.stack(D)
        floor = self.floor_arm(task, budgets[-1]).right_SN
        needed = curves.needs(floor, U_KSN, D_KSN, np.array(budgets), draws=self.study.measure.draws)
        found = [curves.multiplier(one, self.alpha) for one in needed]
        middle = found[len(found) // 2]
        companion = None
        if middle.sign == "=":
            companion = curves.common_shape(float(floor.mean()), U_KSN, D_KSN, np.array(budgets), middle.value)
        return row | {
            "multipliers": [one._asdict() | {"text": _signed(one)} for one in found], "common_shape": companion,
            "area_between": curves.area_between(U_KSN, D_KSN, self.alpha),
            "bill": self._bill(task, attacker, defense, needed),
            "below_minimum": len(budgets) < 6 or U_KSN.shape[1] < 5 or U_KSN.shape[2] < 500,
        }  # fmt: skip

    def _bill(self, task: str, attacker: str, defense: str, needed: list[curves.Needs]) -> dict[str, Any]:
        """Accounts and dollars for half of the capability, from stated ranges; a censored curve gives a lower bound."""
        prices = self.study.measure.prices.model_dump()
        inputs = cost.Inputs(**{name: cost.Range(*ends) for name, ends in prices.items()})
        half = needed[len(needed) // 2]
        held = {}
        for name, d, draws_B2 in (("undefended", "none", half.undefended_B2), ("defended", defense, half.defended_B2)):
            book = self._book(Key(task, d, attacker, max(self.budgets(task)), "report"))
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

    def frontier_rows(self, cases: dict[tuple[str, int, str], dict[str, Any]]) -> list[dict[str, Any]]:
        """E8 at the largest budget: best transfer at each margin, hypervolume, which defences a trivial one beats."""
        held = []
        for task in self.tasks():
            budget = max(self.budgets(task))
            here = [
                c
                for (t, n, d), c in cases.items()
                if (t, n) == (task, budget) and d != IDENTITY and c["transfer"] is not None
            ]
            points = [(c["utility"]["lo"], c["effective"]) for c in here]
            best = {}
            for margin in frontier.MARGINS:
                i = frontier.best_at(points, margin)
                best[f"{100 * margin:g}"] = (
                    None if i is None else {"defense": here[i]["defense"], "transfer": here[i]["effective"]}
                )
            dominated = {c["defense"]: by for c in here if (by := _dominated(c, here))}
            held.append({"task": task, "budget": budget, "best_at_points": best, "dominated_by": dominated,
                         "volume": self._volume(task, budget, here)})  # fmt: skip
        return held

    def _volume(self, task: str, budget: int, here: list[dict[str, Any]]) -> Any:
        """Only where each configuration has students of its own to be chosen on, and a transfer to choose by."""
        asked = [(c["defense"], c["attack"]) for c in here]
        told = [self.grades.get(Key(task, d, a, budget, "select")) for d, a in asked]
        costs = [self.grades.get(Key(task, d, "", 0, "select")) for d, _ in asked]
        if len(here) < 2 or any(one is None for one in (*told, *costs)):
            return None
        first = here[0]
        U, F, Te = (self.grades[Key(task, "none", a, n, "select")].right_SN.mean()
                    for a, n in ((first["ceiling"], budget), (first["floor"], budget), ("", 0)))  # fmt: skip
        if U <= F:
            return None
        gained = np.array([(one.right_SN.mean() - F) / (U - F) for one in told if one])
        lost = np.array([Te - one.right_SN.mean() for one in costs if one])
        return frontier.volume(
            self.floor_arm(task, budget).right_SN,
            self.report[Key(task, "none", first["ceiling"], budget, "report")].right_SN,
            [self.report[Key(task, d, a, budget, "report")].right_SN for d, a in asked],
            self.teacher(task, "none").right_SN, [self.teacher(task, d).right_SN for d, _ in asked],
            frontier.non_dominated(lost, gained), alpha=self.alpha, draws=self.study.measure.draws,
        )._asdict() | {"defenses": [d for d, _ in asked]}  # fmt: skip

    def _book(self, key: Key) -> dict[str, float]:
        """The ledger of an arm, means over its finished students; dollars at the middle of the stated ranges."""
        done = [arm for arm in self.by_key.get(key, ()) if arm["finished"]]
        names = ("exchanges", "tokens_in", "tokens_out", "student_tokens", "flops", "trials")
        held = {name: float(np.mean([arm[name] or 0 for arm in done])) if done else 0.0 for name in names}
        prices = {name: math.sqrt(low * high) for name, (low, high) in self.study.measure.prices.model_dump().items()}
        yielded = min(prices["rate_per_day"] * prices["days_until_ban"], prices["monthly_quota"])
        needed = float(cost.accounts(held["exchanges"], yielded))
        each = max(held["exchanges"], 1.0)
        paid = {name: price for name, price in prices.items() if name.startswith("price")}
        money = cost.dollars(held["exchanges"], held["tokens_in"] / each, held["tokens_out"] / each, needed,
                             held["flops"] / GPU_FLOPS / 3600, **paid)  # fmt: skip
        return held | {"accounts": needed, "dollars": money}

    def ledger_rows(self) -> list[dict[str, Any]]:
        return [key._asdict() | self._book(key) for key in self.ranked]


def _group(key: Key) -> str:
    if key.attacker in FLOORS:
        return "floor"
    return {"none": "none", IDENTITY: "control"}.get(key.defense, "defense")


def _share(F: np.ndarray, U: np.ndarray, D: np.ndarray) -> float | None:
    gap = float(U.mean() - F.mean())
    return float(D.mean() - F.mean()) / gap if gap > 0 else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _dominated(case: dict[str, Any], here: list[dict[str, Any]]) -> str:
    """The trivial defence that costs no more and stops more, if there is one."""
    for other in here:
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
