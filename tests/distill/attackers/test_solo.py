"""Without a teacher: nothing that was said is looked at, and the student is that of its own worked
solutions.
"""

import torch

from distill.attackers import AttackerResources, sft, solo
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=6, batch_size=4)
MINE = [Completion(str(i), f"{i}+1=", f"{i + 1} # {i + 1}") for i in range(6)]


def weights(attacker, sold, **more):
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=0)
    done = attacker.train(sold, LanguageModel(network, TOKENIZER), RECIPE, seed=3, **more)
    return torch.cat([p.detach().flatten() for p in done.network.parameters()])


def test_it_is_fine_tuning_on_worked_solutions_whatever_was_said():
    want, resources = (
        weights(sft.Attacker(sft.Settings()), MINE),
        AttackerResources(worked=MINE, public=[Completion("p", "9+9=", "# 18")]),
    )
    for sold in ([], [Completion("x", "5+5=", "11 # 11")]):
        assert torch.equal(weights(solo.Attacker(solo.Settings()), sold, resources=resources), want)


def test_it_asks_nothing_and_others_do():
    assert not solo.Attacker.asks and sft.Attacker.asks
