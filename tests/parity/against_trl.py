"""Our divergences against TRL's, values and gradients in float32; exit 1 if any differs by more
than 1e-6, relatively.

Runs in an environment of its own (`make parity`), because TRL is no dependency. Full rows:
GKDTrainer's generalised JSD. Released rows: the top-k loss of TRL's server trainer, which has
forward KL alone for k above 1. Another tokenizer: the loss of the GOLD trainer, of two small
networks on one answer (tests/parity/gold.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import trl
from torch import Tensor
from trl.experimental.gkd import GKDTrainer
from trl.experimental.server_distillation import ServerDistillationTrainer

from distill.losses import released_divergence
from tests.parity import gold

MOST = 1e-6
ROWS, SIZE = 64, 50
BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)
KS = (1, 5, 20)

Loss = Callable[[Tensor], Tensor]


def theirs_on_released(add_tail: bool, ids_NK: Tensor, logprobs_NK: Tensor) -> Loss:
    """The server trainer's top-k forward KL without a server or a trainer: only two of its
    attributes are read.
    """
    trainer = SimpleNamespace(
        loss_add_tail=add_tail,
        _reduce_divergence_loss=ServerDistillationTrainer._reduce_divergence_loss,
    )
    sent = {"topk_logprobs": logprobs_NK[None], "topk_token_ids": ids_NK[None]}
    labels = torch.zeros(1, len(ids_NK), dtype=torch.long)

    def loss(logits_NV: Tensor) -> Tensor:
        logs = torch.log_softmax(logits_NV, -1)[None]
        return ServerDistillationTrainer._compute_server_forward_kl_loss(
            trainer, sent, logs, labels
        )

    return loss


def pairs(teacher_NV: Tensor) -> Iterator[tuple[str, Loss, Loss]]:
    """What is compared: a name, our loss and TRL's, both functions of the student's logits."""
    labels = torch.zeros(1, len(teacher_NV), dtype=torch.long)
    everything = torch.arange(SIZE).expand(teacher_NV.shape), teacher_NV
    for beta in BETAS:
        yield (
            f"generalised JSD, beta {beta}, all tokens",
            lambda q, b=beta: released_divergence("jsd", "tail", q, *everything, beta=b),
            lambda q, b=beta: GKDTrainer.generalized_jsd_loss(
                q[None], teacher_NV[None], labels, beta=b
            ),
        )
    for k in KS:
        values_NK, ids_NK = teacher_NV.topk(k)
        for semantics, add_tail in (("tail", True), ("conditional", False)):
            yield (
                f"forward KL, top {k}, {semantics}",
                lambda q, s=semantics, i=ids_NK, v=values_NK: released_divergence(
                    "forward", s, q, i, v
                ),
                theirs_on_released(add_tail, ids_NK, values_NK),
            )


def measured(loss: Loss, start_NV: Tensor) -> tuple[Tensor, Tensor]:
    """A loss's value and gradient."""
    logits_NV = start_NV.clone().requires_grad_()
    value = loss(logits_NV)
    value.backward()
    return value.detach(), logits_NV.grad


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest magnitude of theirs; 0 where both are 0 throughout."""
    return float(
        (ours - theirs).abs().max() / theirs.abs().max().clamp(min=torch.finfo(theirs.dtype).tiny)
    )


def main() -> int:
    torch.manual_seed(0)
    teacher_NV, student_NV = (
        torch.log_softmax(2 * torch.randn(ROWS, SIZE), -1),
        torch.randn(ROWS, SIZE),
    )
    print(
        f"trl {trl.__version__}, torch {torch.__version__}, {ROWS} rows of {SIZE} tokens, float32\n"
    )
    print(f"{'':40}{'ours':>12}{'TRL':>12}{'difference':>14}{'gradient':>14}")
    worst = 0.0
    for name, ours, theirs in pairs(teacher_NV):
        (a, slope_a), (b, slope_b) = measured(ours, student_NV), measured(theirs, student_NV)
        distances = apart(a, b), apart(slope_a, slope_b)
        worst = max(worst, *distances)
        print(f"{name:40}{float(a):12.6f}{float(b):12.6f}{distances[0]:14.1e}{distances[1]:14.1e}")
    for name, ours, theirs in gold.pairs():
        distances = apart(ours.value, theirs.value), apart(ours.slope, theirs.slope)
        worst = max(worst, *(one / gold.LOOSER for one in distances))
        values = f"{float(ours.value):12.6f}{float(theirs.value):12.6f}"
        print(f"{name:40}{values}{distances[0]:14.1e}{distances[1]:14.1e}")
    print(f"\nlargest relative difference {worst:.1e}, at most {MOST:.0e} is allowed")
    return int(not worst <= MOST)


if __name__ == "__main__":
    sys.exit(main())
