"""Answers of a small Llama against `transformers.generate`: the same prompts, greedy, batched, one
thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from distill.completions import Interface
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from experiments.tasks.addition import Settings, Task

PROMPTS, BATCH, NEW_TOKENS, ROUNDS = 512, 256, 40, 4


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    count, new_tokens, rounds = (8, 6, 2) if toy else (PROMPTS, NEW_TOKENS, ROUNDS)
    torch.set_num_threads(1)
    task = Task(Settings())
    tokenizer = character_tokenizer(task.alphabet)
    prompts = [item.prompt for item in task.items("report", count, 0)]
    network = llama(
        tokenizer, hidden_size=96, num_layers=3, num_heads=4, max_length=128, seed=0, init=0.5
    )
    model = LanguageModel(network, tokenizer, max_new_tokens=new_tokens)

    def ours() -> list[str]:
        return [answer.text for answer in model.generate(prompts, seed=0, interface=Interface())]

    def theirs() -> list[str]:
        texts = []
        for start in range(0, len(prompts), BATCH):
            batch = tokenizer(
                [p.text for p in prompts[start : start + BATCH]], return_tensors="pt", padding=True
            )
            out = network.generate(
                batch.input_ids,
                attention_mask=batch.attention_mask,
                max_new_tokens=new_tokens,
                do_sample=False,
            )
            texts += tokenizer.batch_decode(
                out[:, batch.input_ids.shape[1] :], skip_special_tokens=True
            )
        return texts

    seconds: dict[str, list[float]] = {"ours": [], "transformers.generate": []}
    texts = {}
    for _ in range(
        rounds
    ):  # in turn, so that a neighbour's load falls on both; the first round warms up
        for name, run in (("ours", ours), ("transformers.generate", theirs)):
            began = time.perf_counter()
            texts[name] = run()
            seconds[name].append(time.perf_counter() - began)
    same = sum(a == b for a, b in zip(*texts.values(), strict=True))
    best = {name: min(times[1:]) for name, times in seconds.items()}
    for name, time_ in best.items():
        print(f"{name:22s} {len(prompts) / time_:7.1f} answers/s")
    print(
        f"ratio: {best['transformers.generate'] / best['ours']:.2f} x the peer's speed; {same} "
        f"of {len(prompts)} alike"
    )


if __name__ == "__main__":
    main()
