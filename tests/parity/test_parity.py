"""`make parity` in a test, where TRL happens to be installed; it is no dependency of ours."""

import importlib

import pytest

from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel
from tests.parity import sft

WHY = "needs TRL, which `make parity` installs in an environment of its own"


def test_our_divergences_are_trls():
    pytest.importorskip("trl", reason=WHY)
    assert importlib.import_module("tests.parity.against_trl").main() == 0


def test_our_training_is_sfttrainers(tmp_path):
    """In toy size, where speed and memory say nothing."""
    pytest.importorskip("trl", reason=WHY)
    pytest.importorskip("peft", reason="LoRA needs peft, in the extra `real`")
    tokenizer = byte_pair_tokenizer(["12+34=6 # 46"] * 3, 300)
    network = llama(tokenizer, hidden_size=16, num_layers=2, num_heads=2, max_length=256, seed=3)
    save(LanguageModel(network, tokenizer), tmp_path)
    pairs = sft.pairs(tmp_path)
    assert [pair.kind for pair in pairs] == ["full", "lora"]
    assert all(pair.apart <= sft.LOSSES for pair in pairs)
