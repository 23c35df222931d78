"""Every shipped detector keeps the contract of experiments/contracts/detectors.py."""

import pytest

from experiments.contracts import configs, detectors, title
from experiments.settings.catalog import shipped


@pytest.mark.parametrize("claim", configs.CLAIMS, ids=title)
@pytest.mark.parametrize("name", shipped("detector"))
def test_every_config(name, claim):
    claim("detector", name)


@pytest.mark.parametrize("claim", detectors.CLAIMS, ids=title)
@pytest.mark.parametrize("name", shipped("detector"))
def test_every_detector(name, claim):
    claim(name)
