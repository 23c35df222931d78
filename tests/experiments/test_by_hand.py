"""A study of two tasks, two defences and two attacks worked out by hand: every column of what is
reported.

Grades are made up, so that selection and report disagree on purpose: what is best on questions of
selection is not what is best on reported ones. Whoever chooses on the wrong ones, or joins the
wrong arms, gets other numbers. Formulas here are plain ones of numpy, and none of the project's.
"""

import functools
import json
import math

import numpy as np
import pytest
from scipy import optimize, stats

from experiments.analysis import ranking, sensitivity, summary
from experiments.analysis.comparisons import ArmTable
from experiments.analysis.ranking import Cell
from experiments.measure import flags, power, utility
from experiments.measure.scores import Arm
from experiments.planning import arms, plan
from experiments.planning.arms import IDENTITY, OWN_DATA, SELF, SHUFFLED, UNTRAINED
from experiments.results.grades import WHO, Exams, Key
from experiments.results.schema.arms import ARM_RECORDS
from experiments.results.table import jsonable
from experiments.settings import schema
from tests.experiments.snapshots import one_exam

N, CHOOSING, SEEDS, ALPHA = 60, 40, (0, 1, 2, 3), 0.05
FIRST, SECOND = "sft", "clean/filter + sft"
MILD, STRONG = "decoding/perturbed(eps=0.02)", "release/truncate"
STUDY = [
    "task=[addition,trace]",
    f"defense=[none,{MILD},{STRONG}]",
    f"attacker=[{FIRST},{SECOND}]",
    "budget=8",
    "seeds=[0,1,2,3]",
    "baseline_seeds=4",
    "selection_seeds=[900,901]",
    f"measure.items={N}",
    f"measure.selection_items={CHOOSING}",
    "measure.looks=[4]",
    "measure.teacher_seeds=3",
    "measure.plateau=false",
    "measure.draws=200",
    "measure.theta=0.6",
]

# Shares of right answers on selection, and on report. The best of each column is another in the
# other column.
RIGHT = {
    "addition": {
        ("none", UNTRAINED): (0.05, 0.08),
        ("none", OWN_DATA): (0.40, 0.20),
        ("none", SELF): (0.20, 0.35),
        ("none", SHUFFLED): (None, 0.12),
        ("none", FIRST): (0.95, 0.80),
        ("none", SECOND): (0.40, 0.90),
        (MILD, FIRST): (0.30, 0.75),
        (MILD, SECOND): (0.85, 0.65),
        (STRONG, FIRST): (0.60, 0.30),
        (STRONG, SECOND): (0.10, 0.45),
        (IDENTITY, FIRST): (None, 0.78),
        (IDENTITY, SECOND): (None, 0.88),
    },
    "trace": {
        ("none", UNTRAINED): (0.30, 0.10),
        ("none", OWN_DATA): (0.10, 0.25),
        ("none", SELF): (0.05, 0.15),
        ("none", SHUFFLED): (None, 0.05),
        ("none", FIRST): (0.30, 0.95),
        ("none", SECOND): (0.90, 0.85),
        (MILD, FIRST): (0.90, 0.80),
        (MILD, SECOND): (0.20, 0.90),
        (STRONG, FIRST): (0.05, 0.35),
        (STRONG, SECOND): (0.50, 0.15),
        (IDENTITY, FIRST): (None, 0.93),
        (IDENTITY, SECOND): (None, 0.82),
    },
}
# Of selection the floor, the ceiling, and the attack on each defence; the identity control's is the
# ceiling's.
CHOSEN = {
    "addition": (OWN_DATA, FIRST, {MILD: SECOND, STRONG: FIRST, IDENTITY: FIRST}),
    "trace": (UNTRAINED, SECOND, {MILD: FIRST, STRONG: SECOND, IDENTITY: SECOND}),
}
TEACHERS = {"none": (0.97, 0.96), MILD: (0.80, 0.86), STRONG: (0.97, 0.96)}


def exam(task, split, who, share, rng):
    """One exam: `share` of the items right, hard ones the last; the rest of its numbers at
    random.
    """
    n = N if split == "report" else CHOOSING
    hard = np.random.default_rng([len(task), n]).normal(size=n)
    right = np.zeros(n)
    right[np.argsort(hard + rng.normal(size=n))[: round(n * share)]] = 1
    answers = np.where(right == 1, 0, rng.integers(-1, 4, n))
    return one_exam(task, split, who[1] != "", right, answers, 0.04, rng)


@functools.cache
def planned():
    with pytest.MonkeyPatch.context() as patch:
        # All arms have the same seeds, which the formulas here are for.
        patch.setattr(arms, "FEW", len(SEEDS))
        return plan.make(schema.load("quickstart", STUDY))


def made_up():
    """Grades of every student and teacher of the plan, and what each student cost."""
    rng, plan = np.random.default_rng(5), planned()
    exams, arms = {}, []
    for arm in plan.arms:
        who = (arm.defense, arm.attacker)
        share = RIGHT[arm.task][who][arm.split == "report"] + 0.02 * rng.normal()
        key = Key(arm.task, *who, arm.budget, arm.split)
        exams.setdefault(key, {})[arm.seed] = exam(
            arm.task, arm.split, who, min(max(share, 0.02), 0.98), rng
        )
        spent = {
            "exchanges": int(rng.integers(5, 90)),
            "tokens_in": int(rng.integers(500, 900)),
            "tokens_out": int(rng.integers(500, 900)),
            "student_tokens": int(rng.integers(1000, 9000)),
            "parameters": 1000,
            "flops": 10**15,
            "trials": 0,
            "steps": int(rng.integers(10, 40)),
            "learning_rate": 1e-3,
            "cut": 0.0,
            "no_final": 0.0,
            "diverged": False,
            "losses": [2.0 / (1 + i) ** 2 + 0.1 for i in range(40)],
            "leaked": 0,
            "prepared": None,
        }
        arms.append(
            dict(
                zip(
                    ("task", "defense", "attacker", "budget", "split", "seed"),
                    (arm.task, *who, arm.budget, arm.split, arm.seed),
                    strict=True,
                )
            )
            | {"finished": True}
            | spent
        )
    for (task, defense, split), graded in plan.teachers.items():
        for seed in range(len(graded)):
            share = TEACHERS[defense][split == "report"] - 0.02 * (seed == 1)
            exams.setdefault(Key(task, defense, "", 0, split), {})[seed] = exam(
                task, split, (defense, ""), share, rng
            )
    return {
        key: Exams(tuple(sorted(by)), tuple(by[seed] for seed in sorted(by)))
        for key, by in exams.items()
    }, arms


ROLES = {"none": "undefended", IDENTITY: "control"}
FAMILY = {MILD: "decoding", STRONG: "release, text"}


@pytest.fixture(scope="module")
def simulated():
    return made_up()


@pytest.fixture(scope="module")
def results(simulated):
    return measured(*simulated)


def measured(grades, arms):
    """The measures as they are written."""
    records = ARM_RECORDS.validate_python(arms)
    return jsonable(summary.measure(planned().study, grades, records))


def table(grades, arms):
    return ArmTable(planned().study, grades, ARM_RECORDS.validate_python(arms))


def scores(grades, task, defense, attacker, split="report"):
    """Right answers with the seeds that share questions, weights and batches: the control's and
    teachers' are own.
    """
    exams = grades[Key(task, defense, attacker, 8 if attacker else 0, split)]
    offset = 10_000 if defense == IDENTITY else -100_000 if not attacker else 0
    return np.stack([one.right_N for one in exams.exams]), [offset + seed for seed in exams.seeds]


def _of(rows, *who):
    """Rows of a task, a defence and an attacker, as far as these are given."""
    names = ("task", "defense", "attacker")[: len(who)]
    return [row for row in rows if tuple(row[name] for name in names) == who]


def by_hand(weights, arms):
    """Sum of weighted arm means with the two-way variance over items and over groups of seeds that
    arms share.

    A seed's term is the sum over its arms of weight / seeds of the arm x its scores; n terms vary n
    times as one.
    """
    items = arms[0][0].shape[1]
    groups = {}
    for seed in {seed for _, seeds in arms for seed in seeds}:
        groups.setdefault(
            tuple(a for a, (_, seeds) in enumerate(arms) if seed in seeds), []
        ).append(seed)
    seed_part, residual, free, total_N = 0.0, 0.0, 0.0, np.zeros(items)
    squares = 0.0
    for those, seeds in groups.items():
        n = len(seeds)
        z_SN = np.stack(
            [
                sum(
                    weights[a] / len(arms[a][1]) * arms[a][0][arms[a][1].index(seed)] for a in those
                )
                for seed in seeds
            ]
        )
        total_N += z_SN.sum(0)
        rest_SN = z_SN - z_SN.mean(1, keepdims=True) - z_SN.mean(0) + z_SN.mean()
        spread, noise = (
            n * z_SN.mean(1).var(ddof=1),
            n * (rest_SN**2).sum() / ((n - 1) * (items - 1) * items),
        )
        seed_part, residual = seed_part + spread, residual + noise
        squares, free = squares + spread**2 / (n - 1), free + noise**2 / ((n - 1) * (items - 1))
    item_part = total_N.var(ddof=1) / items
    variance = max(seed_part + item_part - residual, seed_part, item_part)
    if not variance > 1e-20:
        return total_N.mean(), 0.0, math.nan, math.nan, math.nan, math.nan
    free += item_part**2 / (items - 1) + squares  # the seed part's freedom is seed^2 / squares
    df = max(variance**2 / free, 1.0)
    half = stats.t.ppf(1 - ALPHA / 2, df) * variance**0.5
    skew = stats.kstat(total_N, 3) / items**2 / variance**1.5
    ends = total_N.mean() - half, total_N.mean() + half
    return total_N.mean(), variance**0.5, df, *ends, skew


def transfer_by_hand(F, U, D, alpha=ALPHA):
    """T with the ends where the t of (D - F) - x (U - F), less its skewness (Hall 1992), is at its
    quantile.
    """
    gap = U[0].mean() - F[0].mean()
    value = (D[0].mean() - F[0].mean()) / gap

    def beyond(x):
        e, se, df, _, _, skew = by_hand([x - 1, -x, 1], [F, U, D])
        t = e / se
        corrected = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
        return abs(corrected) - stats.t.ppf(1 - alpha / 2, df)

    return (
        value,
        optimize.brentq(beyond, value - 3, value),
        optimize.brentq(beyond, value, value + 3),
    )


def assert_same(got, expected, where):
    """Equal names, words and counts; numbers within a millionth."""
    if isinstance(expected, dict):
        assert set(got) == set(expected), f"{where}: {set(got) ^ set(expected)}"
        for name, value in expected.items():
            assert_same(got[name], value, f"{where}.{name}")
    elif isinstance(expected, float) and got is not None:
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9), where
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected), where
        for i, (element, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(element, other, f"{where}[{i}]")
    else:
        assert got == expected, where


def everyone():
    return [
        (arm.task, arm.defense, arm.attacker)
        for arm in planned().arms
        if (arm.seed, arm.split) == (0, "report")
    ]


def spent(arms, task, defense, attacker, name):
    who = task, defense, attacker, "report"
    costs = [
        arm[name]
        for arm in arms
        if tuple(arm[one] for one in ("task", "defense", "attacker", "split")) == who
    ]
    assert len(costs) == len(SEEDS)
    return float(np.mean(costs))


def is_floor(attacker):
    return attacker.startswith("floor/")


class TestChoices:
    """Floor, ceiling and attack are those that are best on selection, and are scored on report."""

    def test_the_table_disagrees_with_itself(self):
        for task, right in RIGHT.items():
            floor, ceiling, attacks = CHOSEN[task]
            for split in (0, 1):
                floors = {a: right["none", a][split] for a in (UNTRAINED, OWN_DATA, SELF)}
                tops = {a: right["none", a][split] for a in (FIRST, SECOND)}
                assert (max(floors, key=floors.get) == floor) == (split == 0)
                assert (max(tops, key=tops.get) == ceiling) == (split == 0)
                for defense in (MILD, STRONG):
                    both = {a: right[defense, a][split] for a in (FIRST, SECOND)}
                    assert (max(both, key=both.get) == attacks[defense]) == (split == 0)

    @pytest.mark.parametrize("task", list(RIGHT))
    @pytest.mark.parametrize("defense", [MILD, STRONG, IDENTITY])
    def test_a_case(self, simulated, results, task, defense):
        grades, arms = simulated
        (case,) = _of(results["cases"], task, defense)
        floor, ceiling, attacks = CHOSEN[task]
        worst = attacks[defense]
        F, U, D = (
            scores(grades, task, *who)
            for who in (("none", floor), ("none", ceiling), (defense, worst))
        )
        value, low, high = transfer_by_hand(F, U, D)
        tops = [scores(grades, task, "none", one) for one in (FIRST, SECOND)]
        each = [scores(grades, task, defense, one) for one in (FIRST, SECOND)]
        clean, guarded = (
            scores(grades, task, "none", ""),
            scores(grades, task, TEACHER[defense], ""),
        )
        change, _, _, change_low, change_high, _ = by_hand([-1, 1], [clean, guarded])
        rest = D[0].mean() - F[0].mean(), U[0].mean() - F[0].mean()
        without = [(np.delete(D[0], i, 0).mean() - F[0].mean()) / rest[1] for i in range(4)]
        without += [rest[0] / (np.delete(U[0], i, 0).mean() - F[0].mean()) for i in range(4)]
        paid = [
            row["dollars"]
            for who in ((defense, worst), ("none", ceiling))
            for row in results["ledger"]
            if (row["task"], row["defense"], row["attacker"]) == (task, *who)
        ]
        near = abs(paid[0] - paid[1]) <= 0.02 * max(
            paid
        )  # else a curve would be needed, and here is one budget
        (other,) = [one for one in (FIRST, SECOND) if one != worst]
        parsed = [
            _parsed(grades[Key(task, d, a, 8, "report")])
            for d, a in (("none", floor), ("none", ceiling), (defense, worst))
        ]
        assert_same(
            case,
            {
                "task": task,
                "budget": 8,
                "defense": defense,
                "attack": worst,
                "attacks": [FIRST, SECOND],
                "family": "controls" if defense == IDENTITY else FAMILY[defense],
                "transfers": {
                    name: float((one[0].mean() - F[0].mean()) / rest[1])
                    for name, one in zip((FIRST, SECOND), each, strict=True)
                },
                "ceiling": ceiling,
                "floor": floor,
                "tie": False,
                "transfer": value,
                "effective": max(value, 0.0),
                "kind": "ok",
                "hi": high,
                "lcb": min(transfer_by_hand(F, top, D)[1] for top in tops),
                "ucb": max(transfer_by_hand(F, U, one)[2] for one in each),
                "plateau": {} if defense == IDENTITY else {"U": None, "D": None},
                "utility": case["utility"],
                "sensitivity": {
                    "by_floor": {
                        one: float((D[0].mean() - f) / (U[0].mean() - f))
                        for one in (UNTRAINED, OWN_DATA, SELF)
                        for f in [scores(grades, task, "none", one)[0].mean()]
                    },
                    "drop_one_seed": [float(min(without)), float(max(without))],
                    "drop_chosen_attack": float(
                        (scores(grades, task, defense, other)[0].mean() - F[0].mean()) / rest[1]
                    ),
                    "parsed_only": (parsed[2] - parsed[0]) / (parsed[1] - parsed[0]),
                    "compute_matched": value,
                    "cost_matched": value if near else None,
                },
                **{
                    name: case[name]
                    for name in (
                        "verdict",
                        "word",
                        "rule",
                        "remarks",
                        "p",
                        "p_ineffective",
                        "unseen",
                        "settle",
                    )
                },
            },
            defense,
        )
        assert_same(
            case["utility"] | {"lo": 0, "hi": 0, "passes": 0, "passes_at": 0},
            {
                "change": float(change),
                "lo": 0,
                "hi": 0,
                "margin": 0.02,
                "passes": 0,
                "passes_at": 0,
                "relative": float(-change / clean[0].mean()),
            },
            "utility",
        )
        # Exams differ, so the interval is at least the two-way one.
        if change:
            assert (
                case["utility"]["lo"] <= change_low + 1e-9
                and case["utility"]["hi"] >= change_high - 1e-9
            )
        both = [
            Arm(one[0], tuple(one[1])) for one in (clean, guarded)
        ]  # exams of one sampling seed are paired
        costs = {
            margin: utility.non_inferiority(*both, margin, ALPHA)
            for margin in (0.005, 0.01, 0.02, 0.05)
        }
        assert case["utility"]["passes_at"] == [
            margin for margin, one in costs.items() if one.passes
        ]
        assert case["utility"]["passes"] == (case["utility"]["lo"] > -0.02)
        assert (case["utility"]["lo"], case["utility"]["hi"]) == pytest.approx(
            (costs[0.02].lo, costs[0.02].hi)
        )

    def test_the_words(self, results):
        """What the defended teacher loses is costly; halving T is effective; doing nothing is a
        control's.
        """
        words = {(one["task"], one["defense"]): one["verdict"] for one in results["cases"]}
        assert {task: words[task, MILD] for task in RIGHT} == {
            "addition": "costly",
            "trace": "costly",
        }
        assert {task: words[task, IDENTITY] for task in RIGHT} == {"addition": "", "trace": ""}
        assert words["addition", STRONG] == words["trace", STRONG] != ""
        for case in results["cases"]:
            assert case["word"] == case["verdict"]
            if case["verdict"] in ("effective", "inconclusive", "ineffective"):
                assert 0 <= case["p"] <= 1 and case["unseen"] > case["transfer"]


TEACHER = {MILD: MILD, STRONG: STRONG, IDENTITY: "none", "none": "none"}


def _parsed(exams):
    right, answers = exams.right_SN, exams.final_SN
    return float(right[answers >= 0].mean())


class TestRows:
    @pytest.mark.parametrize("who", everyone(), ids=" ".join)
    def test_a_row(self, simulated, results, who):
        grades, arms = simulated
        task, defense, attacker = who
        (row,) = _of(results["rows"], *who)
        floor = CHOSEN[task][0]
        top = FIRST if is_floor(attacker) else attacker
        F, U, D = (
            scores(grades, task, *one)
            for one in (("none", floor), ("none", top), (defense, attacker))
        )
        Te, Td = scores(grades, task, "none", ""), scores(grades, task, TEACHER[defense], "")
        exams = grades[Key(*who, 8, "report")]
        uplift, harm = by_hand([-1, 1], [F, D]), by_hand([1, -1], [U, D])
        defended = by_hand([1], [D])
        itself = attacker == floor or (defense == "none" and attacker == top)
        if itself:
            at = float(attacker != floor)
            share = {
                "transfer": at,
                "transfer_lo": None,
                "transfer_hi": None,
                "transfer_kind": "itself",
                "t_den": None,
            }
        else:
            value, low, high = transfer_by_hand(F, U, D)
            gap, se, *_ = by_hand([-1, 1], [F, U])
            share = {
                "transfer": value,
                "transfer_lo": low,
                "transfer_hi": high,
                "transfer_kind": "ok",
                "t_den": float(gap / se),
            }
        recovered = (
            transfer_by_hand(F, Te, D) if attacker != floor else (0.0, *_ends(row, "gap_recovered"))
        )
        over = dict.fromkeys(("over_first", "over_first_lo", "over_first_hi"))
        if attacker == SECOND:
            gain = by_hand([-1, 1], [scores(grades, task, defense, FIRST), D])
            over = dict(zip(over, (gain[0], *gain[3:5]), strict=True))
        best = grades[Key(task, "none", _spells_best(grades, task), 8, "report")].stacked("bits_N")
        bits = exams.stacked("bits_N")
        seeds = [D[1][0] - SEEDS[0] + seed for seed in SEEDS]
        saved = by_hand([1, -1], [(best, list(SEEDS)), (bits, seeds)])
        cases = [] if is_floor(attacker) else _of(results["cases"], task, defense)
        case = cases[0] if cases else None
        parts = _components(D[0])
        assert_same(
            row,
            {
                "task": task,
                "defense": defense,
                "attacker": attacker,
                "student": "tiny",
                "budget": 8,
                "role": "floor" if is_floor(attacker) else ROLES.get(defense, "defended"),
                "seeds": 4,
                "planned": 4,
                "items": N,
                "steps": spent(arms, *who, "steps"),
                "student_tokens": spent(arms, *who, "student_tokens"),
                "floor": F[0].mean(),
                "floor_arm": floor,
                "undefended": U[0].mean(),
                "defended": D[0].mean(),
                "defended_lo": max(defended[3], 0.0),
                "defended_hi": min(defended[4], 1.0),
                "uplift": uplift[0],
                "uplift_lo": _or(uplift[3]),
                "uplift_hi": _or(uplift[4]),
                "harm": harm[0],
                "harm_lo": _or(harm[3]),
                "harm_hi": _or(harm[4]),
                **over,
                "floor_wins": not is_floor(attacker) and share["transfer"] < 0,
                "twice": None,
                **share,
                "effective": max(share["transfer"], 0.0),
                "gap_recovered": recovered[0],
                "gap_recovered_lo": recovered[1],
                "gap_recovered_hi": recovered[2],
                "teacher_clean": Te[0].mean(),
                "teacher_defended": Td[0].mean(),
                "verdict": (case or {}).get("verdict") or None,
                "rule": case["rule"] if case else "a control has no verdict",
                "remarks": case["remarks"] if case else [],
                "settle": case["settle"] if case else "",
                "unparsed": float((exams.final_SN < 0).mean()),
                "bits_per_byte": bits.mean(),
                "bits_saved": saved[0],
                "bits_saved_lo": _or(saved[3]),
                "bits_saved_hi": _or(saved[4]),
                "missing_bounds": None,
                "components": {
                    "seed_sd": parts[0],
                    "item_variance": parts[1],
                    "residual_variance": parts[2],
                    "smallest_change": row["components"]["smallest_change"],
                },
                "fidelity": row["fidelity"],
                "pass_at": [],
                "old": False,
            },
            " ".join(who),
        )

    @pytest.mark.parametrize("who", everyone(), ids=" ".join)
    def test_the_smallest_change_is_of_the_difference_to_the_ceiling(self, simulated, results, who):
        grades, _ = simulated
        task, defense, attacker = who
        (row,) = _of(results["rows"], *who)
        U, D = (
            scores(grades, task, "none", FIRST if is_floor(attacker) else attacker),
            scores(grades, *who),
        )
        if (
            defense == IDENTITY
        ):  # seeds of its own: seed and residual are means, the item part is the difference's
            each = [_components(one[0]) for one in (U, D)]
            noise = sum(one[2] for one in each) / 4
            item = max((D[0].mean(0) - U[0].mean(0)).var(ddof=1) - noise, 0.0)
            parts = power.Components(
                np.mean([one[0] ** 2 for one in each]), item, np.mean([one[2] for one in each])
            )
        else:
            seed_sd, item, residual = _components(D[0] - U[0])
            parts = power.Components(seed_sd**2 / 2, item, residual / 2)
        expected = power.smallest_change(parts, 4, N, ALPHA)
        assert row["components"]["smallest_change"] == pytest.approx(expected)

    @pytest.mark.parametrize("who", everyone(), ids=" ".join)
    def test_fidelity_is_to_the_clean_teachers_first_sitting_and_beside_the_floor(
        self, simulated, results, who
    ):
        grades, _ = simulated
        task, _, attacker = who
        (row,) = _of(results["rows"], *who)
        teacher = grades[Key(task, "none", "", 0, "report")].exams[0]
        exams, base = (
            grades[Key(*who, 8, "report")],
            grades[Key(task, "none", CHOSEN[task][0], 8, "report")],
        )
        got = {name: one["value"] for name, one in row["fidelity"].items()}
        expected = {
            name: _copied(exams, teacher)[name] - _copied(base, teacher)[name]
            for name in ("agreement", "error_consistency", "brier", "nll", "same_wrong")
        }
        for name in ("agreement", "error_consistency", "brier", "nll"):
            assert got[name] == pytest.approx(expected[name], abs=1e-9), name
        assert got["bits_per_byte"] == pytest.approx(-row["bits_saved"])
        if "same_wrong" in got:
            assert got["same_wrong"] == pytest.approx(expected["same_wrong"], abs=1e-9)
        for name, gap in row["fidelity"].items():
            if gap["lo"] is not None:
                assert gap["lo"] <= gap["value"] + 1e-9 and gap["value"] <= gap["hi"] + 1e-9, name
            else:  # nothing varies between an arm and itself
                assert attacker == (
                    _spells_best(grades, task) if name == "bits_per_byte" else CHOSEN[task][0]
                ), name

    def test_rows_stand_in_the_order_of_the_table(self, results):
        kinds = [
            (
                "floor"
                if is_floor(one["attacker"])
                else {"none": "none", IDENTITY: "control"}.get(one["defense"], "defense"),
                one["task"],
            )
            for one in results["rows"]
        ]
        order = [("floor", "none", "control", "defense").index(kind) for kind, _ in kinds]
        half = len(kinds) // 2
        assert {task for _, task in kinds[:half]} == {"addition"} and {
            task for _, task in kinds[half:]
        } == {"trace"}
        assert order[:half] == sorted(order[:half]) and order[half:] == sorted(order[half:])


def _spells_best(grades, task):
    """The floor that predicts the teacher's text best."""
    floors = (UNTRAINED, OWN_DATA, SELF, SHUFFLED)
    return min(
        floors, key=lambda one: grades[Key(task, "none", one, 8, "report")].stacked("bits_N").mean()
    )


def _ends(row, name):
    return row[f"{name}_lo"], row[f"{name}_hi"]


def _or(value):
    """NaN is written as nothing."""
    return None if math.isnan(value) else value


def _components(Y):
    """Moments of a two-way layout: seed SD, item and residual variance."""
    S, items = Y.shape
    rest = Y - Y.mean(1, keepdims=True) - Y.mean(0) + Y.mean()
    residual = (rest**2).sum() / ((S - 1) * (items - 1))
    seed = max(Y.mean(1).var(ddof=1) - residual / items, 0.0)
    return seed**0.5, max(Y.mean(0).var(ddof=1) - residual / S, 0.0), residual


def _copied(exams, teacher):
    right, answers, sure = (
        exams.right_SN,
        exams.final_SN,
        np.exp(-np.stack([one.nats_N for one in exams.exams])),
    )
    alike = (answers == teacher.final_N) & (answers >= 0)
    together, p, q = (right == teacher.right_N).mean(), right.mean(), teacher.right_N.mean()
    chance = p * q + (1 - p) * (1 - q)
    wrong = (right == 0) & (teacher.right_N == 0)
    clipped = np.clip(sure, 1e-6, 1 - 1e-6)
    return {
        "agreement": alike.mean(),
        "error_consistency": (together - chance) / (1 - chance),
        "brier": ((sure - right) ** 2).mean(),
        "same_wrong": (alike & wrong).sum() / max(wrong.sum(), 1),
        "nll": -np.where(right == 1, np.log(clipped), np.log(1 - clipped)).mean(),
    }


class TestLedger:
    @pytest.mark.parametrize("who", everyone(), ids=" ".join)
    def test_what_an_arm_cost(self, simulated, results, who):
        """Dollars at the geometric middle of each stated range; an account yields the less of life
        and quota.
        """
        _, arms = simulated
        (row,) = _of(results["ledger"], *who)
        expected = {
            name: spent(arms, *who, name)
            for name in (
                "exchanges",
                "tokens_in",
                "tokens_out",
                "student_tokens",
                "steps",
                "flops",
                "trials",
            )
        }
        middle = {
            name: (low * high) ** 0.5
            for name, (low, high) in planned().study.measure.prices.model_dump().items()
        }
        needed = math.ceil(
            expected["exchanges"]
            / min(middle["rate_per_day"] * middle["days_until_ban"], middle["monthly_quota"])
        )
        queries = expected["tokens_in"] * middle["price_in"] / 1e6
        queries += expected["tokens_out"] * middle["price_out"] / 1e6
        hours = expected["flops"] / 1e14 / 3600
        dollars = queries + needed * middle["price_account"] + hours * middle["price_gpu_hour"]
        expected |= dict(zip(("task", "defense", "attacker"), who, strict=True))
        expected |= {
            "budget": 8,
            "split": "report",
            "accounts": float(needed),
            "dollars": float(dollars),
        }
        assert_same(row, expected, "ledger")


def test_controls_are_held_to_1_at_a_level_that_both_tasks_share(simulated, monkeypatch):
    grades, arms = simulated
    shown = []
    monkeypatch.setattr(flags, "identity", lambda *shares: shown.append(shares) or "")
    measured(grades, arms)
    expected = []
    for task in RIGHT:
        floor, ceiling, attacks = CHOSEN[task]
        who = ("none", floor), ("none", ceiling), (IDENTITY, attacks[IDENTITY])
        F, U, D = (scores(grades, task, *each) for each in who)
        for alpha in (ALPHA, ALPHA / 2):
            expected += transfer_by_hand(F, U, D, alpha)[1:]
    bounds = [end for shares in shown for share in shares for end in (share.lo, share.hi)]
    assert bounds == pytest.approx(expected, rel=1e-6)


class TestTeachers:
    @pytest.mark.parametrize("task", list(RIGHT))
    @pytest.mark.parametrize("defense", ["none", MILD, STRONG])
    def test_a_teacher(self, simulated, results, task, defense):
        grades, _ = simulated
        (row,) = _of(results["teachers"], task, defense)
        exams, clean = (
            grades[Key(task, defense, "", 0, "report")],
            grades[Key(task, "none", "", 0, "report")],
        )
        change = by_hand(
            [-1, 1], [scores(grades, task, "none", ""), scores(grades, task, defense, "")]
        )[0]
        nats = np.stack([one.nats_N for one in exams.exams]).sum()
        size = sum(len(text.encode()) + 1 for one in exams.exams for text in one.texts)

        def mean(name, of=exams):
            return float(np.mean([getattr(one, name) for one in of.exams]))

        left = (
            "lo",
            "hi",
            "passes",
            "passes_at",
            "longest_repeat",
            "distinct_4",
            "perplexity",
            "perplexity_clean",
            "noticed_after",
            "noticed_after_lo",
            "noticed_after_hi",
            "detectability",
            "detectability_lo",
            "detectability_hi",
        )
        assert_same(
            row,
            {
                "task": task,
                "defense": defense,
                "accuracy": exams.right_SN.mean(),
                "seeds": 3,
                "matched": None,
                "numbers": {},
                "change": float(change),
                "relative": float(-change / clean.right_SN.mean()),
                "margin": 0.02,
                "unparsed": float((exams.final_SN < 0).mean()),
                "l1": mean("l1"),
                "kl": mean("kl"),
                "flips": mean("flips"),
                "token_ratio": mean("tokens") / mean("tokens", clean),
                "byte_ratio": mean("bytes") / mean("bytes", clean),
                "changed": float(np.mean(np.array(exams.texts) != clean.texts)),
                "passes": row["passes"],
                "unfinished": mean("unfinished"),
                **{name: row[name] for name in left},
            },
            defense,
        )
        assert row["passes"] == pytest.approx(mean("passes"))
        assert row["perplexity"] == pytest.approx(math.exp(nats / size), rel=1e-6)
        if row["hi"] < 0:
            noticed = [row[f"noticed_after{end}"] for end in ("_lo", "", "_hi")]
            shares = [clean.right_SN.mean() + row[end] for end in ("lo", "change", "hi")]
            assert noticed == [noticed_after(clean.right_SN.mean(), share) for share in shares]
        else:
            assert row["noticed_after"] is None is row["noticed_after_lo"]
        assert row["longest_repeat"] >= 0 and 0 < row["distinct_4"] <= 1
        assert (row["detectability"] is None) == (defense == "none")


def noticed_after(right, seen):
    """Questions until the likelihood ratio of `seen` to `right` has been 20 with a chance of .9."""
    going_on, called, n = {0: 1.0}, 0.0, 0  # chances of so many right answers without a call
    while called < 0.9:
        n, after = n + 1, {}
        for k, chance in going_on.items():
            for more, share in ((1, seen), (0, 1 - seen)):
                after[k + more] = after.get(k + more, 0.0) + chance * share
        over = {
            k
            for k in after
            if k * math.log(seen / right) + (n - k) * math.log((1 - seen) / (1 - right))
            >= math.log(20)
        }
        called += sum(after[k] for k in over)
        going_on = {k: chance for k, chance in after.items() if k not in over and chance > 1e-12}
    return n


class TestFrontier:
    def test_it_is_chosen_on_selection_and_shown_on_report(self, simulated, results):
        grades, _ = simulated
        (row,) = _of(results["frontier"], "addition")
        assert row["budget"] == 8 and row["volume"]["defenses"] == [MILD, STRONG]
        # On selection MILD loses 17 points for 0.82 of the gap, STRONG nothing for 0.36: STRONG
        # alone is not dominated.
        assert row["volume"]["chosen"] == [1]
        assert row["best_at_points"]["5"]["defense"] == STRONG
        # Its bound from below is not within a point, however high the one from above.
        assert row["best_at_points"]["1"] is None is row["best_at_points"]["0.5"]
        (case,) = _of(results["cases"], "addition", STRONG)
        assert row["best_at_points"]["5"]["transfer"] == pytest.approx(case["effective"])


def test_a_missing_student_is_told_and_never_counted_as_zero(simulated):
    grades, arms = simulated
    key = Key("addition", STRONG, FIRST, 8, "report")
    fewer = dict(grades) | {key: Exams(grades[key].seeds[:3], grades[key].exams[:3])}
    lost = dict(zip(WHO, (*key, 3), strict=True))
    arms = [lost | {"finished": False} if lost.items() <= arm.items() else arm for arm in arms]
    results = measured(fewer, arms)
    (row,) = _of(results["rows"], *key[:3])
    assert (row["seeds"], row["planned"]) == (3, 4)
    F, U, D = (
        scores(fewer, "addition", *who)[0].mean()
        for who in (("none", OWN_DATA), ("none", FIRST), (STRONG, FIRST))
    )
    assert row["defended"] == pytest.approx(D)
    as_floor, as_top = ((((3 * D + one) / 4) - F) / (U - F) for one in (F, U))
    assert_same(
        row["missing_bounds"],
        {"available": (D - F) / (U - F), "as_floor": as_floor, "as_undefended": as_top},
        "",
    )
    (case,) = _of(results["cases"], "addition", STRONG)
    assert (
        case["verdict"] == "not measurable"
        and f"1 of 4 students of {STRONG} {FIRST}" in case["rule"]
    )
    assert {
        "flag": "missing",
        "where": f"addition {STRONG} {FIRST} 8 report",
        "evidence": "3 of 4 students finished",
    } in results["flags"]


def test_a_missing_ceiling_is_missing_in_every_case_of_its_task(simulated):
    grades, arms = simulated
    key = Key("trace", "none", SECOND, 8, "report")
    fewer = dict(grades) | {key: Exams(grades[key].seeds[1:], grades[key].exams[1:])}
    results = measured(fewer, arms)
    for case in results["cases"]:
        affected = case["task"] == "trace" and case["defense"] != IDENTITY
        assert (f"1 of 4 students of none {SECOND}" in case["rule"]) == affected, case["rule"]


def test_arms_whose_answers_are_all_the_same_are_told(simulated):
    grades, arms = simulated
    key, other = (Key("addition", one, FIRST, 8, "report") for one in (STRONG, MILD))
    twins = dict(grades) | {key: grades[other]}
    raised = measured(twins, arms)["flags"]
    aliases = [one for one in raised if one["flag"] == "alias"]
    assert [one["evidence"] for one in aliases] == [f"every answer equals those under {MILD}"]
    assert aliases[0]["where"] == f"addition {STRONG} {FIRST} 8 report"
    assert not [one for one in measured(*simulated)["flags"] if one["flag"] == "alias"]


def test_the_rules_are_the_studys(simulated):
    rules = table(*simulated).rules
    assert (rules.theta, rules.ineffective, rules.utility_margin, rules.alpha, rules.looks) == (
        0.6,
        0.8,
        0.02,
        0.05,
        (4,),
    )


def test_no_gap_is_no_share():
    flat, better = (Arm(np.full((2, 3), value), (0, 1)) for value in (0.5, 0.75))
    assert sensitivity.share(flat, flat, better) is None
    assert sensitivity.share(flat, better, better) == 1.0


def test_it_is_json(results):
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_what_is_compared_with_what(simulated):
    arm_table = table(*simulated)
    assert arm_table.attackers("addition", 8, MILD) == [FIRST, SECOND]
    assert arm_table.undefended("addition", 8) == [FIRST, SECOND]
    assert {task: arm_table.floor(task, 8) for task in RIGHT} == {
        task: CHOSEN[task][0] for task in RIGHT
    }
    for task in RIGHT:
        assert arm_table.ceiling(Key(task, MILD, SECOND, 8, "report")) == Key(
            task, "none", SECOND, 8, "report"
        )
        assert arm_table.ceiling(Key(task, "none", SELF, 8, "report")) == Key(
            task, "none", FIRST, 8, "report"
        )
        assert arm_table.teacher_key(task, IDENTITY) == Key(task, "none", "", 0, "report")
        assert arm_table.teacher_key(task, MILD, "select") == Key(task, MILD, "", 0, "select")
    assert ranking.selection_scores(arm_table, Cell("addition", 8, IDENTITY), [FIRST, SECOND])[
        0
    ].seeds == (
        900,
        901,
    )
