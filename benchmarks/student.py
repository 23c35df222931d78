"""The student loop against transformers' Trainer: the same small Llama, examples, batch size and steps, one thread."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from distill.answers import Answer
from distill.attackers.sft import example
from distill.embedded import character_tokenizer, llama
from distill.student import Example, StudentSettings, train
from experiments.tasks.addition import Settings, Task

STEPS, BATCH = 60, 32


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


def main() -> None:
    torch.set_num_threads(1)
    task = Task(Settings())
    tokenizer = character_tokenizer(task.alphabet)
    said = [Answer(i.prompt.id, i.prompt.text, i.solution) for i in task.items("train", 2000, 0)]
    examples = [example(answer, tokenizer) for answer in said]
    size: dict[str, Any] = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_length": 128, "seed": 0}

    def ours() -> None:
        train(llama(tokenizer, **size), examples, StudentSettings(steps=STEPS, batch_size=BATCH), seed=0)

    def theirs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, max_steps=STEPS, per_device_train_batch_size=BATCH, report_to=[], save_strategy="no",
                disable_tqdm=True, logging_steps=20, use_cpu=True, remove_unused_columns=False,
            )  # fmt: skip
            Trainer(llama(tokenizer, **size), arguments, data_collator=collate, train_dataset=examples).train()

    seconds: dict[str, list[float]] = {"ours": [], "transformers.Trainer": []}
    for _ in range(4):  # in turn, so that a neighbour's load falls on both; the first round warms up
        for name, run in (("ours", ours), ("transformers.Trainer", theirs)):
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    best = {name: min(times[1:]) for name, times in seconds.items()}
    for name, time_ in best.items():
        print(f"{name:22s} {STEPS / time_:7.1f} steps/s")
    print(f"ratio: {best['transformers.Trainer'] / best['ours']:.2f} x the peer's speed")


if __name__ == "__main__":
    main()
