"""Machines here are shared: how long an example takes says nothing. What takes minutes is run where
it is asked for.
"""

import os

# Before torch is imported: tests run side by side, and two threads each are slower by half.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from experiments.settings import catalog

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def plugins_of_one_test_alone():
    """A command leaves the plugins that it was given in use, as a process has one command."""
    yield
    if catalog.chosen_folders():
        catalog.use_plugins([])


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")


LONGEST = ("test_quickstart.py", "test_real.py")
"""Files that take minutes: begun last, one of them would run alone at the end."""


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: pytest --slow"))
