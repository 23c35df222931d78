"""Every shipped part of an attacker keeps the contract of experiments/contracts/attackers.py;
configs are found here, so a new part edits nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.attackers import ORDER
from experiments.contracts import NotApplicable, attackers, configs, title
from experiments.settings.attacks import battery
from experiments.settings.catalog import shipped

ROOT = Path(__file__).parents[3]
NAMES = [name for name in shipped("attacker") if not battery(name)]


@pytest.mark.parametrize("claim", configs.CLAIMS, ids=title)
@pytest.mark.parametrize("name", NAMES)
def test_every_config(name, claim):
    claim("attacker", name)


def test_every_file_has_a_config_and_a_known_place():
    names = {
        str(path.relative_to(ROOT / "distill" / "attackers").with_suffix(""))
        for path in (ROOT / "distill" / "attackers").rglob("*.py")
        if not path.name.startswith("_")
    }
    assert names == {*NAMES} and {name.partition("/")[0] for name in names if "/" in name} <= {
        *ORDER
    }


@pytest.mark.parametrize("claim", attackers.CLAIMS, ids=title)
@pytest.mark.parametrize("name", NAMES)
def test_every_part(name, claim):
    try:
        claim(name)
    except NotApplicable as why:
        pytest.skip(str(why))
