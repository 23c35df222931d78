"""A batch in parts, in bfloat16, with states computed again, with dropout, and over two processes:
the same training.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from distill.embedded import character_tokenizer, llama
from distill.objectives import Example, imitation
from distill.passes import SHORT
from distill.specs import TrainingConfig
from distill.trainer import train

ROOT = Path(__file__).parents[2]
RECIPE = TrainingConfig(max_length=64, steps=20, batch_size=8, learning_rate=1e-2)
EXAMPLES = [
    Example([3 + i % 9, 4, 5], [*range(3, 4 + i % 5), 3 + i % 7, 1]) for i in range(16)
]  # of several lengths


def plain():
    tokenizer = character_tokenizer("0123456789")
    return llama(tokenizer, hidden_size=16, num_layers=2, num_heads=2, max_length=64, seed=0)


def grouped():
    """With dropout, and not of the kind that `lean` computes."""
    config = GPT2Config(
        vocab_size=13, n_embd=16, n_layer=2, n_head=2, n_positions=64, eos_token_id=1
    )
    torch.manual_seed(0)
    return GPT2LMHeadModel(config)


def weights(network):
    return torch.cat([weight.detach().float().flatten() for weight in network.parameters()])


def trained(build=plain, **changes):
    network = build()
    done = train(network, EXAMPLES, RECIPE.model_copy(update=changes), seed=0)
    return done.losses, weights(network)


@pytest.mark.parametrize("pass_tokens", [1, 30, 10_000])
def test_a_batch_in_parts_is_the_batch(pass_tokens):
    losses, ends = trained()
    again, same = trained(pass_tokens=pass_tokens)
    assert again == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(same, ends, atol=1e-4)


def test_no_pass_is_larger_than_it_may_be():
    seen = []

    def loss(network, rows, pad, device):
        sizes = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]
        seen.append(len(sizes) * max(sizes))
        return 0.0 * next(network.parameters()).sum()

    train(plain(), EXAMPLES, RECIPE.model_copy(update={"pass_tokens": 25}), seed=0, loss=loss)
    assert max(seen) <= 25 and len(seen) > RECIPE.steps


def test_states_that_are_computed_again_are_the_same():
    losses, ends = trained(grouped)
    again, same = trained(grouped, checkpointing=True)
    assert again == losses and torch.equal(same, ends)


def test_bfloat16_passes_move_float32_weights():
    """Steps far below what bfloat16 can add to a weight are not lost."""
    losses, _ = trained(learning_rate=1e-6)
    rounded, ends = trained(learning_rate=1e-6, precision="bfloat16")
    start = weights(plain())
    large = start.abs() > 0.05
    assert rounded == pytest.approx(losses, rel=1e-2)
    assert (ends != start)[large].float().mean() > 0.5
    assert (ends.bfloat16() != start.bfloat16())[large].float().mean() < 0.2


def test_weights_that_move_are_in_float32_whatever_they_came_in():
    network = plain().bfloat16()
    train(network, EXAMPLES, RECIPE.model_copy(update={"learning_rate": 1e-6}), seed=0)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert not torch.equal(weights(network), weights(plain().bfloat16()))


@pytest.mark.parametrize(
    ("precision", "length", "fused"),
    [("bfloat16", SHORT, False), ("bfloat16", SHORT + 1, True), ("float32", SHORT, True)],
)
def test_short_rows_in_bfloat16_have_plain_attention(precision, length, fused):
    seen = []

    def loss(network, rows, pad, device):
        seen.append(torch.backends.cuda.flash_sdp_enabled())  # of every device, whatever its name
        return imitation(network, rows, pad, device)

    recipe = RECIPE.model_copy(update={"precision": precision, "steps": 1, "max_length": 512})
    train(plain(), [Example([3], [4] * (length - 1))], recipe, seed=0, loss=loss)
    assert seen == [fused]


def test_dropout_is_the_seeds_and_goes_on_from_a_checkpoint(tmp_path):
    class Stop(Exception):
        pass

    def stop(step, loss):
        if step == 40:
            raise Stop

    recipe = RECIPE.model_copy(update={"steps": 60})
    whole = train(grouped(), EXAMPLES, recipe, seed=0)
    torch.manual_seed(123)  # nobody else's random numbers matter
    path = tmp_path / "checkpoint"
    options = {"seed": 0, "checkpoint": path, "checkpoint_every": 20}
    with pytest.raises(Stop):
        train(grouped(), EXAMPLES, recipe, log=stop, **options)
    resumed = train(grouped(), EXAMPLES, recipe, **options)
    other = train(grouped(), EXAMPLES, recipe, seed=1)
    assert resumed.losses == whole.losses
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert other.losses != whole.losses


TWO = """
import json, os, sys
from tests.distill.test_passes import trained
losses, ends = trained(pass_tokens=30)
if os.environ["RANK"] == "0":
    json.dump([losses, ends.tolist()], open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    losses, ends = trained()
    (tmp_path / "two.py").write_text(TWO)
    out = tmp_path / "out.json"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [sys.executable, *launch, tmp_path / "two.py", out],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=600,
    )
    again, same = json.loads(out.read_text())
    assert again == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(torch.tensor(same), ends, atol=1e-4)
