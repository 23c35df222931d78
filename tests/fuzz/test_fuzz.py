"""A few examples of every kind of hostile input, the same ones each time; `make fuzz` tries many
more.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import fuzz

NAMES = [
    pytest.param(name, marks=[pytest.mark.enable_socket] * kind.sockets)
    for name, kind in fuzz.every().items()
]


@pytest.mark.parametrize("name", NAMES)
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
        same = (name, next(iter(row)), next(iter(row.values())))
        for file in ("r.jsonl", "r.json.gz"):
            assert formats.attempt((same, 1, file, True), tmp_path).code == 0, name
    others = [(file, "on", "c9") for file in datasets.OTHERS]
    for case in (
        *others,
        ("row", "on", "c9"),
        ("option", "answer", 2),
        ("setting", "system", "x"),
    ):
        assert datasets.attempt((case, 1), tmp_path).code == 0, case


def test_models_that_have_one_thing_wrong_are_whole_without_it(tmp_path):
    from tests.fuzz.kinds import adapters, gguf_files, templates

    same = ("setting", "bias", "none"), ("weight", "the same", 0)
    adapters.WEIGHT["the same"] = lambda weight: weight
    for place, case in enumerate(same):
        assert adapters.attempt(case, tmp_path / f"adapter{place}").code == 0, case
    del adapters.WEIGHT["the same"]
    (tmp_path / "gguf").mkdir()
    assert gguf_files.attempt(("field", "general.name", "tiny"), tmp_path / "gguf").code == 0
    for prompt in templates.ASKED:
        case = ("template", templates.GOOD), prompt
        assert templates.KIND.fault(case, tmp_path / prompt) == ""
        assert templates.attempt(case, tmp_path / f"{prompt} again").code == 0
