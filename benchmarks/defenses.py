"""What every shipped defence adds to the time of an answer: defended beside undefended, the same
model, one thread.

What a defence learns is learned before, in a few steps. A proxy has the teacher's size, so that a
pass costs a pass. Logprob defences are timed where logprobs are seen, all others where text is.
Times are of the processor and not of the clock, of which neighbours take their share.
"""

from __future__ import annotations

import argparse
import string
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from defenses import ProviderResources
from distill.completions import Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel, Model
from experiments.settings import catalog, components, entries
from experiments.tasks.addition import Settings, Task

PROMPTS, NEW_TOKENS, ROUNDS = 128, 40, 3
SHAPE: dict[str, Any] = {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "max_length": 128}
QUICK = {"steps": 1, "rounds": 1, "samples": 2, "batch_size": 2}
EDIT, DECODING = (
    1.15,
    1.2,
)  # allowed for an edit of finished answers, and for each forward pass of any other


def network(tokenizer: Any, shape: dict[str, Any], seed: int) -> Any:
    """A random Llama that never ends an answer, so that all answers take the same
    number of steps.
    """
    made = llama(tokenizer, **shape, seed=seed)
    made.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    made.lm_head.bias.data[tokenizer.eos_token_id] = -30
    return made


def built(name: str, resources: ProviderResources, teacher: LanguageModel) -> Any:
    """A defence as it is shipped, which has learned what it has to."""
    shown = entries.resolve("defense", name).spec.settings
    quick = {key: value for key, value in QUICK.items() if shown.get(key)}
    part = components.restore("defense", {"name": name, "settings": shown | quick})
    defense = part.build(resources)
    if not defense.traits.learns:
        return defense
    return part.build(replace(resources, learned=defense.learn(teacher)))


def seconds(model: Model, prompts: list[Prompt], interface: Interface) -> float:
    """Processor time of one call."""
    began = time.process_time()
    model.generate(prompts, seed=0, interface=interface)
    return time.process_time() - began


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    shape = SHAPE | {"hidden_size": 16, "num_layers": 1} if toy else SHAPE
    count, new_tokens, rounds = (4, 6, 1) if toy else (PROMPTS, NEW_TOKENS, ROUNDS)
    torch.set_num_threads(1)
    task = Task(Settings())
    tokenizer = character_tokenizer(
        task.alphabet + string.ascii_letters
    )  # as many tokens as logprobs, and some more
    prompts = [item.prompt for item in task.items("report", count, 0)]
    # A random model never reaches a final answer, which some defences learn from.
    solutions = [
        Completion(item.prompt.id, item.prompt.text, item.solution)
        for item in task.items("train", 16, 0)
    ]
    teacher = LanguageModel(
        network(tokenizer, shape, 0), tokenizer, temperature=1.0, max_new_tokens=new_tokens
    )
    resources = ProviderResources(
        proxy=replace(teacher, network=network(tokenizer, shape, 1)),
        weaker_teacher=teacher,
        rewriter=replace(teacher, max_new_tokens=4),
        traces=solutions,
        grade=lambda answer: len(answer.text) % 2 == 0,
    )
    print(f"{'defence':32s} {'passes':>6s} {'bound':>6s}  ratio")
    over = []
    for name in catalog.names("defense"):
        defense = built(name, resources, teacher)
        interface = Interface("top_k", 20) if defense.traits.acts_on == "logprobs" else Interface()
        edit = (
            defense.traits.acts_on in ("text", "logprobs")
            and not defense.traits.extra_forward_passes
        )
        bound = EDIT if edit else DECODING * (1 + defense.traits.extra_forward_passes)
        models = (teacher, defense(teacher))
        for model in models:
            model.generate(prompts[:8], seed=0, interface=interface)  # warms up
        # In turn, so that a neighbour's load falls on both.
        times = [[seconds(model, prompts, interface) for model in models] for _ in range(rounds)]
        plain, defended = map(min, zip(*times, strict=True))
        ratio = defended / plain
        over += [name] * (ratio > bound)
        print(
            f"{name:32s} {defense.traits.extra_forward_passes:6.1f} {bound:6.2f} {ratio:6.2f} x "
            f"undefended{', over' * (ratio > bound)}",
            flush=True,
        )
    print(f"{len(over)} over their bound{': ' * bool(over)}{', '.join(over)}")


if __name__ == "__main__":
    main()
