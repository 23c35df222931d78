"""All measures of a study with 200 arms, 8 seeds and 1,000 items, from its grades file: seconds and
peak memory.

Beside it, what reading the same file with pyarrow alone takes, in the same process.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.analysis import summary
from experiments.planning.arms import CHOICES, IDENTITY
from experiments.results import grades_file
from experiments.results.schema.arms import ARM_RECORDS, FinishedStudent, MissingStudent
from experiments.settings import schema

SEEDS, ITEMS, BUDGETS = 8, 1000, (125, 250, 500, 1000, 2000, 4000)
DEFENSES = (
    "none",
    IDENTITY,
    "decoding/perturbed",
    "decoding/temperature",
    "release/answer_only",
    "release/truncate",
)


Record = FinishedStudent | MissingStudent


def study(items: int = ITEMS) -> schema.Study:
    """Settings that fit the simulated grades."""
    seeds = f"seeds={list(range(SEEDS))}".replace(" ", "")
    return schema.load(
        "quickstart",
        [seeds, f"baseline_seeds={SEEDS}", f"measure.looks=[{SEEDS}]", f"measure.items={items}"],
    )


def simulated(rng: np.random.Generator, items: int = 0) -> tuple[bytes, list[Record]]:
    """Grades and arms of 2 tasks x 6 budgets x (4 floors + 6 defences x 2 attackers), and the
    teachers' exams.
    """
    parts, arms, items = [], [], items or ITEMS

    def sit(
        task: str, defense: str, attacker: str, budget: int, split: str, seed: int, mean: float
    ) -> None:
        right = rng.random(items) < mean
        answers = np.where(right, "1", rng.integers(2, 90, items).astype(str))
        sizes = {
            "task": task,
            "defense": defense,
            "attacker": attacker,
            "budget": budget,
            "split": split,
            "seed": seed,
        }
        columns = {name: pa.array([value] * items) for name, value in sizes.items()}
        numbers = {
            name: pa.array(rng.random(items))
            for name in ("bits_per_byte", "nats", "l1", "kl", "flips")
        }
        parts.append(
            pa.table(
                columns
                | numbers
                | {
                    "item": [f"{task}-{i}" for i in range(items)],
                    "prompt": [f"{task} question {i}" for i in range(items)],
                    "text": [f"because of {s} # {s}" for s in answers],
                    "final": answers,
                    "passes": pa.array([1.0] * items),
                    "outcome": np.where(right, "right", "wrong"),
                    "tokens": pa.array([20] * items),
                    "finished": [True] * items,
                }
            )
        )
        if attacker:
            ledger = {
                "exchanges": budget,
                "tokens_in": 20 * budget,
                "tokens_out": 40 * budget,
                "trials": 0,
                "student_tokens": 10**6,
                "parameters": 10**5,
                "flops": 10**12,
                "steps": 9,
                "cut": 0.0,
                "no_final": 0.0,
                "learning_rate": 1e-3,
                "prepared": None,
            }
            arms.append(
                sizes
                | ledger
                | {"finished": True, "losses": [1.0, 0.1] * 20, "diverged": False, "leaked": 0}
            )

    for task in ("trace", "addition"):
        for defense in DEFENSES:
            if defense != IDENTITY:
                for split, seed in ((s, n) for s in ("report", "select") for n in range(3)):
                    sit(task, defense, "", 0, split, seed, 0.95)
        for k, budget in enumerate(BUDGETS):
            cells = [("none", floor, 0.1) for floor in CHOICES[:4]]
            cells += [
                (d, a, 0.1 + 0.12 * k * (1 if j < 2 else 0.5))
                for j, d in enumerate(DEFENSES)
                for a in ("sft", "logprob_kd")
            ]
            for defense, attacker, mean in cells:
                for seed in range(SEEDS):
                    sit(task, defense, attacker, budget, "report", seed, mean)
                if defense != IDENTITY:
                    for seed in (900, 901):
                        sit(task, defense, attacker, budget, "select", seed, mean)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes()), ARM_RECORDS.validate_python(arms)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    items = 20 if toy else ITEMS
    data, arms = simulated(np.random.default_rng(0), items)
    planned = study(items)
    made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began = time.perf_counter()
    rows = len(pq.read_table(pa.BufferReader(data)))
    alone = time.perf_counter() - began
    began = time.perf_counter()
    measures = summary.measure(planned, grades_file.read(data), arms)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(measures.rows)} arms, {rows:,} grades: {took:.1f} s, {took / alone:.1f} x reading "
        "the file"
    )
    print(f"peak {peak:.2f} GiB, of which {made:.2f} before")


if __name__ == "__main__":
    main()
