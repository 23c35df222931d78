"""What the posterior edits cost: CPU milliseconds a position at V = 128,000, one row, one thread,
beside one softmax.

The networks that some of them read along (their passes) are not in it. Beside them, what a whole
sort would cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from defenses.decoding import gradient_redirection, mad, perturbed

SIZE, LIMIT, ROUNDS = 128_000, 5.0, 15  # tokens; milliseconds


def edits(size: int) -> dict[str, Callable[[], Tensor]]:
    """Each edit on one fixed position: logits of a peaked teacher, and of a proxy
    that half agrees.
    """
    generator = torch.Generator().manual_seed(0)
    scores, noise, g = (torch.randn(1, size, generator=generator) for _ in range(3))
    y, q = torch.log_softmax(4 * scores, -1), torch.log_softmax(2 * (scores + noise), -1)
    token = torch.tensor([7])
    least = torch.tensor([0.5], dtype=torch.float64)
    return {
        "one softmax": lambda: torch.softmax(scores, -1),
        "(one sort)": lambda: g.sort(dim=-1, stable=True).values,
        "perturbed: mixture": lambda: perturbed.mixture(y, token, 0.1),
        "perturbed: least likely, mixture": lambda: perturbed.mixture(
            y, perturbed.least_likely(y, least), 0.1
        ),
        "gradient_redirection: g = Gz": lambda: gradient_redirection.redirect(y, g, 0.4, 0.01),
        "gradient_redirection: eps 2": lambda: gradient_redirection.redirect(y, g, 2.0, 0.01),
        "gradient_redirection: uncoordinated": lambda: gradient_redirection.redirect(
            y, gradient_redirection.away_from_proxy(y, q), 0.4, 0.01
        ),
        "the same, eps 1.9 (runs into equals)": lambda: gradient_redirection.redirect(
            y, gradient_redirection.away_from_proxy(y, q), 1.9, 0.01
        ),
        "mad: argmax": lambda: mad.poison(y, q, mad.Settings(), size),
        "mad: extreme": lambda: mad.poison(y, q, mad.Settings(variant="extreme"), size),
    }


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--toy", action="store_true", help="sizes of a test; its ratios mean nothing"
    )
    toy = parser.parse_args(argv).toy
    size, rounds = (200, 1) if toy else (SIZE, ROUNDS)
    torch.set_num_threads(1)
    run_by_name = edits(size)
    best = dict.fromkeys(run_by_name, float("inf"))
    for _ in range(rounds):  # in turn, so that a neighbour's use of the caches falls on all
        for name, run in run_by_name.items():
            began = time.thread_time()
            run()
            best[name] = min(best[name], 1000 * (time.thread_time() - began))
    for name, spent in best.items():
        late = "" if spent <= LIMIT or name.startswith("(") else f"  above {LIMIT:g} ms"
        print(
            f"{name:38s} {spent:7.2f} ms a position {spent / best['one softmax']:7.1f} x a "
            f"softmax{late}"
        )


if __name__ == "__main__":
    main()
