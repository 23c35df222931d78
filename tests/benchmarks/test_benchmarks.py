"""Every benchmark runs at toy size and prints its ratios; how large they are is nobody's business
here.
"""

import importlib
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
# What a benchmark compares with stands behind the ratio: "1.15 x the peer's speed".
RATIO = re.compile(r"(\S+) x [a-z]")


def ratios(out: str) -> list[float]:
    """The ratios of a benchmark's output; ValueError where one is no number."""
    return [float(found) for found in RATIO.findall(out)]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs_at_toy_size_and_prints_ratios(name, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)  # those that start a process of their own find themselves
    importlib.import_module(f"benchmarks.{name}").main(["--toy"])
    values = ratios(capsys.readouterr().out)
    assert values and all(math.isfinite(one) and one > 0 for one in values)


def test_there_are_benchmarks_and_make_bench_runs_them_all():
    text = (ROOT / "Makefile").read_text()
    assert BENCHMARKS and "for one in benchmarks/*.py" in text


@pytest.mark.parametrize(
    "line", ["ratio: nan x the peer's speed", "ratio: inf x the peer's speed", "-1.0 x a softmax"]
)
def test_what_is_no_ratio_is_seen(line):
    (value,) = ratios(line)
    assert not (math.isfinite(value) and value > 0)
