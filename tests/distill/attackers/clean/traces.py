"""What tests of cleaning share: worked traces and their questions, answers by hand, and a small
model to train.
"""

from __future__ import annotations

from typing import Any

from defenses import ProviderResources
from distill.attackers import AttackerResources
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from experiments.tasks.trace import Settings as Program
from experiments.tasks.trace import Task

TASK = Task(Program())
ITEMS = TASK.items("query", 200, 0)
TRUE = {item.prompt.text: item.reference for item in ITEMS}
SOLVED = [Completion(item.prompt.id, item.prompt.text, item.solution, (1, 2)) for item in ITEMS]
CLEAN, WORKED = SOLVED[:12], SOLVED[12:]
TOKENIZER = character_tokenizer(TASK.alphabet)
RECIPE = TrainingConfig(max_length=48, steps=300, batch_size=16)


PROVIDER = ProviderResources(format=TASK.format)


def fresh(seed: int) -> LanguageModel:
    network = llama(TOKENIZER, hidden_size=32, num_layers=2, num_heads=4, max_length=64, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=30)


def right(answer: Completion) -> bool:
    return TASK.grade(answer.text, TRUE.get(answer.prompt, ""), answer.finished) == "right"


def final(answer: Completion) -> str | None:
    return TASK.final(answer.text, answer.finished)


OWN = AttackerResources(
    worked=WORKED, final=final, format=TASK.format, check=right, fresh=fresh, recipe=RECIPE
)


def completions(*texts: str, prompt: str = "q") -> list[Completion]:
    """Answers to one question, with the ids that they come with."""
    return [Completion(f"a~{i}" if i else "a", prompt, text, (i,)) for i, text in enumerate(texts)]


def texts(answers: list[Completion]) -> list[str]:
    return [one.text for one in answers]


def made(module: Any, **settings: Any) -> Any:
    return module.Attacker(module.Settings(**settings))
