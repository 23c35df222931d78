"""What tests of follow-ups share: a small student, sums as its own questions, and its weights as
one vector.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill.attackers import AttackerResources
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=30, batch_size=8)
SUMS = {f"{a}+{b}=": str(a + b) for a in range(3) for b in range(3)}
PUBLIC = [
    Completion(f"p{i}", prompt, f" # {total}") for i, (prompt, total) in enumerate(SUMS.items())
]
OWN = AttackerResources(
    public=PUBLIC,
    worked=PUBLIC[:4],
    check=lambda answer: answer.text.rpartition("# ")[2] == SUMS[answer.prompt],
)


def student(seed: int = 0) -> LanguageModel:
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=6)


def weights(network: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def split(network: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The matrices and all else."""
    parameters = [p.detach() for p in network.parameters()]
    return [p for p in parameters if p.dim() == 2], [p for p in parameters if p.dim() != 2]


def followed(
    module: Any,
    model: LanguageModel,
    resources: AttackerResources = OWN,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """What a part returns, having left the student that it was given as it was."""
    before = weights(model.network)
    done = module.Attacker(module.Settings(**settings)).follow(model, RECIPE, resources, seed=seed)
    assert torch.equal(weights(model.network), before) and done.network is not model.network
    return done
