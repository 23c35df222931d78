"""The student loop against transformers' Trainer: the same small Llama, examples, batch size and
steps, one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from distill.attackers.sft import example
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.objectives import Example
from distill.specs import TrainingConfig
from distill.trainer import train
from experiments.tasks.addition import Settings, Task

STEPS, BATCH, QUESTIONS, ROUNDS = 60, 32, 2000, 4
MOST = 128  # tokens of an example


def collate(rows: list[Example]) -> dict[str, torch.Tensor]:
    """Right-padded ids with the loss on answers alone."""
    width = max(len(r.prompt_ids) + len(r.answer_ids) for r in rows)
    ids = [[*r.prompt_ids, *r.answer_ids] for r in rows]
    labels = [[-100] * len(r.prompt_ids) + r.answer_ids for r in rows]
    return {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
        "labels": torch.tensor([row + [-100] * (width - len(row)) for row in labels]),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    steps, batch, questions, rounds = (2, 4, 16, 2) if toy else (STEPS, BATCH, QUESTIONS, ROUNDS)
    torch.set_num_threads(1)
    task = Task(Settings())
    tokenizer = character_tokenizer(task.alphabet)
    solutions = [
        Completion(i.prompt.id, i.prompt.text, i.solution)
        for i in task.items("train", questions, 0)
    ]
    examples = [example(answer, tokenizer, MOST) for answer in solutions]
    size: dict[str, Any] = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_length": MOST}

    def ours() -> None:
        recipe = TrainingConfig(max_length=MOST, steps=steps, batch_size=batch)
        train(llama(tokenizer, **size, seed=0), examples, recipe, seed=0)

    def theirs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=batch,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                logging_steps=20,
                use_cpu=True,
                remove_unused_columns=False,
            )
            network = llama(tokenizer, **size, seed=0)
            trainer = Trainer(network, arguments, data_collator=collate, train_dataset=examples)
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    seconds: dict[str, list[float]] = {"ours": [], "transformers.Trainer": []}
    for _ in range(
        rounds
    ):  # in turn, so that a neighbour's load falls on both; the first round warms up
        for name, run in (("ours", ours), ("transformers.Trainer", theirs)):
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    best = {name: min(times[1:]) for name, times in seconds.items()}
    for name, time_ in best.items():
        print(f"{name:22s} {steps / time_:7.1f} steps/s")
    print(f"ratio: {best['transformers.Trainer'] / best['ours']:.2f} x the peer's speed")


if __name__ == "__main__":
    main()
