"""Defences of released logprobs at a vocabulary of 128,000, one thread: milliseconds a position of
processor time.

Beside them what one softmax over the vocabulary takes, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch

from defenses.release import modelguard_w, noise, quantised, reverse_sigmoid, rounding, top_k
from distill.completions import Completion, Logprobs

VOCABULARY, POSITIONS, ROUNDS = 128_000, 16, 5
DEFENSES = {
    "reverse_sigmoid": reverse_sigmoid.Defense(reverse_sigmoid.Settings()),
    "modelguard_w": modelguard_w.Defense(modelguard_w.Settings()),
    "quantised": quantised.Defense(quantised.Settings()),
    "noise": noise.Defense(noise.Settings()),
    "rounding": rounding.Defense(rounding.Settings()),
    "top_k": top_k.Defense(top_k.Settings()),
}


def rows(spread: float, k: int, positions: int, vocabulary: int) -> Logprobs:
    """The k most likely of rows whose scores are normal with this standard deviation; the larger,
    the more certain.
    """
    rng = np.random.default_rng(0)
    scores_TV = rng.normal(0, spread, (positions, vocabulary))
    values_TV = scores_TV - np.log(np.exp(scores_TV).sum(-1, keepdims=True))
    ids_TK = np.argsort(-values_TV, -1)[:, :k]
    return Logprobs(
        ids_TK.astype(np.int32), np.take_along_axis(values_TV, ids_TK, -1).astype(np.float32)
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    positions, vocabulary, rounds = (2, 500, 1) if toy else (POSITIONS, VOCABULARY, ROUNDS)
    torch.set_num_threads(1)
    sizes = {"all, certain": (5, vocabulary), "all, unsure": (1, vocabulary), "top 20": (5, 20)}
    cases = {name: rows(spread, k, positions, vocabulary) for name, (spread, k) in sizes.items()}
    scores = torch.randn(positions, vocabulary, generator=torch.Generator().manual_seed(0))
    print(
        f"{'':16s} "
        + " ".join(f"{name:>13s}" for name in cases)
        + "   (ms a position, best of rounds)"
    )
    torch.softmax(scores, -1)  # warms up
    softmax = float("inf")
    for name, defense in DEFENSES.items():
        best = dict.fromkeys(cases, float("inf"))
        for _ in range(rounds):  # in turn, so that a neighbour's load falls on all
            began = time.process_time()
            torch.softmax(scores, -1)
            softmax = min(softmax, (time.process_time() - began) * 1e3 / positions)
            for case, logprobs in cases.items():
                began = time.process_time()
                defense.edit(Completion("a", "question", "", logprobs=logprobs))
                best[case] = min(best[case], (time.process_time() - began) * 1e3 / positions)
        print(
            f"{name:16s} "
            + " ".join(f"{best[case]:13.4f}" for case in cases)
            + f"   {max(best.values()) / softmax:8.1f} x a softmax"
        )


if __name__ == "__main__":
    main()
