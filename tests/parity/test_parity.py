"""`make parity` in a test, where TRL happens to be installed; it is no dependency of ours."""

import importlib

import pytest


def test_our_divergences_are_trls():
    pytest.importorskip(
        "trl", reason="needs TRL, which `make parity` installs in an environment of its own"
    )
    assert importlib.import_module("tests.parity.against_trl").main() == 0
