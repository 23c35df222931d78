"""Defences of released logprobs at a vocabulary of 128,000, one thread: milliseconds a position of processor time."""

from __future__ import annotations

import time

import numpy as np
import torch

from defenses.release import modelguard_s, modelguard_w, noise, reverse_sigmoid, rounding, top_k
from distill.answers import Answer, Logprobs

VOCABULARY, POSITIONS, ROUNDS = 128_000, 16, 5
DEFENSES = {
    "reverse_sigmoid": reverse_sigmoid.Defense(reverse_sigmoid.Settings()),
    "modelguard_w": modelguard_w.Defense(modelguard_w.Settings()),
    "modelguard_s": modelguard_s.Defense(modelguard_s.Settings()),
    "noise": noise.Defense(noise.Settings()),
    "rounding": rounding.Defense(rounding.Settings()),
    "top_k": top_k.Defense(top_k.Settings()),
}


def rows(spread: float, k: int) -> Logprobs:
    """The k most likely of rows whose scores are normal with this standard deviation; the larger, the more certain."""
    rng = np.random.default_rng(0)
    scores_TV = rng.normal(0, spread, (POSITIONS, VOCABULARY))
    values_TV = scores_TV - np.log(np.exp(scores_TV).sum(-1, keepdims=True))
    ids_TK = np.argsort(-values_TV, -1)[:, :k]
    return Logprobs(ids_TK.astype(np.int32), np.take_along_axis(values_TV, ids_TK, -1).astype(np.float32))


def main() -> None:
    torch.set_num_threads(1)
    cases = {"all, certain": rows(5, VOCABULARY), "all, unsure": rows(1, VOCABULARY), "top 20": rows(5, 20)}
    print(f"{'':16s} " + " ".join(f"{name:>13s}" for name in cases) + "   (ms a position, best of rounds)")
    for name, defense in DEFENSES.items():
        best = dict.fromkeys(cases, float("inf"))
        for _ in range(ROUNDS):
            for case, kept in cases.items():
                began = time.process_time()
                defense.edit(Answer("a", "question", "", logprobs=kept))
                best[case] = min(best[case], (time.process_time() - began) * 1e3 / POSITIONS)
        print(f"{name:16s} " + " ".join(f"{best[case]:13.4f}" for case in cases))


if __name__ == "__main__":
    main()
