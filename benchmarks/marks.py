"""What marks add to the time of an answer at V = 49,152, beside plain sampling in the same run; and
how long a test of a million tokens takes. One thread.

The network is a random one of SmolLM2-135M's width and depth. Times are of the processor and not of
the clock, of which neighbours take their share.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from defenses.marks import Mark, gumbel, kgw, synthid, unigram
from defenses.marks.detect import Vocabulary
from defenses.marks.detect.windows import of_texts
from distill.completions import Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel, Model

SIZE, PROMPTS, NEW_TOKENS, ROUNDS, TOKENS = 49_152, 16, 12, 8, 1_000_000
SHAPE: dict[str, Any] = {"hidden_size": 576, "num_layers": 30, "num_heads": 9}
BOUND, SECONDS = 1.15, 2.0  # of plain sampling, for kgw and unigram; for a test
MARKS: dict[str, Callable[[], Mark]] = {
    "unigram": lambda: unigram.Defense(unigram.Settings()),
    "kgw": lambda: kgw.Defense(kgw.Settings()),
    "kgw, self": lambda: kgw.Defense(kgw.Settings(hash="self")),
    "gumbel": lambda: gumbel.Defense(gumbel.Settings()),
    "synthid": lambda: synthid.Defense(synthid.Settings()),
}
BOUNDED = ("unigram", "kgw")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def letters(size: int) -> str:
    """So many characters that are letters or signs of some script."""
    every = (chr(code) for code in range(0x3400, 0x10FFFF) if not 0xD800 <= code < 0xE000)
    return "".join(next(every) for _ in range(size))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    size = 600 if toy else SIZE
    shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2} if toy else SHAPE
    count, new_tokens, rounds = (2, 3, 1) if toy else (PROMPTS, NEW_TOKENS, ROUNDS)
    torch.set_num_threads(1)
    tokenizer = character_tokenizer(letters(size - 3))
    network = llama(tokenizer, **shape, max_length=64, seed=0)
    network.lm_head.bias = torch.nn.Parameter(torch.zeros(network.lm_head.out_features))
    network.lm_head.bias.data[tokenizer.eos_token_id] = -30  # all answers are as long
    plain = LanguageModel(network, tokenizer, temperature=1.0, max_new_tokens=new_tokens)
    words = letters(size - 3)
    prompts = [Prompt(f"p{i}", words[7 * i : 7 * i + 4]) for i in range(count)]

    def answer(model: Model) -> float:
        return seconds(lambda: model.generate(prompts, seed=0, interface=Interface()))

    models = {"plain": plain} | {name: make()(plain) for name, make in MARKS.items()}
    for model in models.values():
        model.generate(prompts[:1], seed=0, interface=Interface())  # warms up
    # In turn, so that a neighbour's load falls on all.
    times = [{name: answer(model) for name, model in models.items()} for _ in range(rounds)]
    best = {name: min(one[name] for one in times) for name in models}
    print(f"plain sampling: {1000 * best['plain'] / (count * new_tokens):.2f} ms a token")
    for name in MARKS:
        ratio = best[name] / best["plain"]
        over = ", over" if name in BOUNDED and ratio > BOUND else ""
        print(f"{name:12s} {ratio:6.3f} x plain sampling{over}")

    tokens = 2000 if toy else TOKENS
    text = np.random.default_rng(0).integers(3, size, tokens).tolist()
    book = Vocabulary.of(plain)
    for name, make in MARKS.items():
        mark = make()

        def read(mark: Mark = mark) -> object:
            return mark.detect(of_texts([text], mark.width, book), book)

        took = min(seconds(read) for _ in range(min(rounds, 3)))
        print(f"test of {tokens:,} tokens, {name:12s} {took / SECONDS:9.3g} x two seconds")


if __name__ == "__main__":
    main()
