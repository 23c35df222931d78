"""A provider's past, and clean horizons to calibrate on and to be judged by."""

import pytest

from defenses.access import BaselineFitter
from defenses.access.calibration import Calibration
from experiments.campaigns.simulate import simulate
from tests.defenses.access.horizons import HONEST, horizon, merged


@pytest.fixture(scope="session")
def baseline():
    learner = BaselineFitter(release=5)
    simulate(HONEST, [], learner, days=10, seed=1000, release=5)
    return learner.baseline()


@pytest.fixture(scope="session")
def clean(baseline):
    """Six clean horizons: four to calibrate on, two to be judged by."""
    return [horizon(baseline, seed=seed) for seed in range(6)]


@pytest.fixture(scope="session")
def calibration(clean):
    return Calibration(*merged(clean[:4]))
