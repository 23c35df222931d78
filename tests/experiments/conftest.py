"""One small run for all tests of what reviewers get; each takes a copy of it and spoils that."""

import shutil
from pathlib import Path

import pytest

from tests.experiments.small import run


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A folder of results with the study `quickstart` at its smallest, and the store that it was
    made in.
    """
    runs = tmp_path_factory.mktemp("small")
    run(runs)
    return runs


@pytest.fixture
def home(small, tmp_path):
    """A copy of that run, with no store beside it."""
    return Path(shutil.copytree(small / "quickstart", tmp_path / "quickstart"))
