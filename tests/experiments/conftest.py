"""One small run for all tests of what reviewers get; each takes a copy of it and spoils that."""

import shutil
from pathlib import Path

import pytest

from experiments import cli
from tests.experiments.forger import STUDY


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A folder of results with the study `quickstart` at its smallest, and the store that it was
    made in.
    """
    runs = tmp_path_factory.mktemp("small")
    assert cli.main(["run", "quickstart", "--runs", str(runs), "--workers", "1", *STUDY]) == 0
    return runs


@pytest.fixture
def home(small, tmp_path):
    """A copy of that run, with no store beside it."""
    return Path(shutil.copytree(small / "quickstart", tmp_path / "quickstart"))
