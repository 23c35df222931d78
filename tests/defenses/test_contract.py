"""Every shipped defence keeps the contract of experiments/contracts/defenses.py; configs and files
are found here, so a new defence edits nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.completions import Interface
from experiments.contracts import NotApplicable, configs, defenses, title
from experiments.contracts.defenses import Case, Variant, choices
from experiments.settings.catalog import shipped

ROOT = Path(__file__).parents[2]
NAMES = shipped("defense")
CASES = [
    ("characters", Interface()),
    ("characters", Interface("top_k", 4)),
    ("characters", Interface("full")),
    ("greedy", Interface("top_k", 4)),
    ("llama", Interface("top_k", 20)),
    ("gpt2", Interface("top_k", 20)),
]
OTHERWISE = [
    ("characters", Interface("full")),
    ("llama", Interface("top_k", 20)),
]  # for settings other than the config's


def files() -> list[str]:
    """Every selectable defence file; accounts are limited in access/, which maps no model to a
    model, and marks are looked for in marks/detect/.
    """
    others = ("access/", "marks/detect/")
    paths = (
        path.relative_to(ROOT / "defenses").with_suffix("")
        for path in (ROOT / "defenses").rglob("*.py")
        if not path.name.startswith("_")
    )
    return sorted(path.as_posix() for path in paths if not path.as_posix().startswith(others))


@pytest.fixture(scope="session")
def cases() -> dict[tuple[str, Interface], Case]:
    return {}


@pytest.fixture
def case(request, worlds, cases) -> Case:
    """One for all defences: what the undefended teacher answers is made once."""
    world, interface = request.param
    if request.param not in cases:
        cases[request.param] = Case(worlds[world], interface)
    return cases[request.param]


@pytest.mark.parametrize(
    "case", [(world, Interface()) for world in ("characters", "llama", "gpt2")], indirect=True
)
def test_the_tiny_teachers_look_at_their_prompts(case):
    assert len({answer.text for answer in case.answers()}) == len(case.prompts)


def test_every_defence_has_a_config_and_every_config_a_defence():
    assert files() == NAMES


@pytest.mark.parametrize("claim", configs.CLAIMS, ids=title)
@pytest.mark.parametrize("name", NAMES)
def test_every_config(name, claim):
    claim("defense", name)


@pytest.mark.parametrize("claim", defenses.ITSELF, ids=title)
@pytest.mark.parametrize("name", NAMES)
def test_what_every_defence_says_of_itself(name, claim):
    try:
        claim(name)
    except NotApplicable as why:
        pytest.skip(str(why))


CONTRACTS = [(Variant(name), case) for name in NAMES for case in CASES]
CONTRACTS += [(variant, case) for name in NAMES for variant in choices(name) for case in OTHERWISE]


@pytest.mark.parametrize("claim", defenses.CLAIMS, ids=title)
@pytest.mark.parametrize(
    ("variant", "case"),
    CONTRACTS,
    ids=[f"{variant}-{world}-{seen.kind}" for variant, (world, seen) in CONTRACTS],
    indirect=["case"],
)
def test_every_defence(variant, case, claim):
    try:
        claim(variant, case)
    except NotApplicable as why:
        pytest.skip(str(why))
