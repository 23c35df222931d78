"""A few examples of every kind of hostile input, the same ones each time; `make fuzz` tries many
more.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import fuzz


@pytest.mark.parametrize("name", fuzz.every())
def test_nothing_odd_crashes_hangs_or_passes(name):
    kind = fuzz.every()[name]

    @settings(
        max_examples=kind.few,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=kind.cases)
    def tried(case):
        with tempfile.TemporaryDirectory() as folder:
            assert not kind.fault(case, Path(folder))

    tried()


def test_the_judge_sees_each_fault(monkeypatch):
    def says(what):
        monkeypatch.setattr(fuzz.cli, "main", what)
        return fuzz.command("plan").fault

    def turns():
        while True:
            pass

    def prints(text, code):
        return lambda _: print(text, file=fuzz.cli.sys.stderr) or code

    assert says(lambda _: {}["key"]).startswith("traceback: KeyError")
    assert says(prints("one\ntwo", 2)).startswith("2 lines")
    assert says(prints("", 3)) == "exit code 3"
    assert says(prints("one", 2)) == ""
    with pytest.raises(fuzz.Hang), fuzz.limited(0.1):
        turns()
    with pytest.raises(fuzz.Hang), fuzz.limited(0.1):
        try:
            turns()
        except BaseException as error:
            raise ValueError("made of what stopped it") from error
    silent = fuzz.Kind(st.just(1), lambda *_: fuzz.Outcome(0, "", ""), lambda *_: "was taken")
    assert silent.fault(1, Path()) == "was taken"


def test_what_has_one_thing_wrong_is_whole_without_it(tmp_path):
    """Or it would be refused whatever was done to it."""
    from tests.fuzz.kinds import datasets, formats

    for name, row in formats.GOOD.items():
        same = ((name, next(iter(row)), next(iter(row.values()))), 0, "r.jsonl")
        assert formats.attempt(same, tmp_path).code == 0, name
    for case in (("row", "on", "c9"), ("option", "answer", 2), ("setting", "system", "x")):
        assert datasets.attempt((case, 1), tmp_path).code == 0, case
