"""A recovery net: a small network that learns from a rebuilt defence to turn released rows back
into clean ones.

D-DAE (Chen et al. 2023), its second half, as Tang et al. 2024 (ModelGuard) implemented it: shadow
models' rows y, the defence's y~ of them, a network K-h1-h2-K with batch norm and LeakyReLU(0.2),
and the loss
|f(y~) - y|_1. Their net stays in train mode when it is used, so that what it says of a row depends
  on the batch the row is in; here it is in eval mode then. Theirs is as wide as there are classes;
  here a row is the sorted logprobs of a few likeliest tokens, of all else, and the entropy, so that
  the net knows ranks and no tokens: renaming tokens renames what it says. It learns what to add to
  the released logprobs and starts at nothing, which is what it should say where there is no
  defence. The shadow model is one of the attacker's own, trained on what it was sold. Axes: R rows
  of the table, A atoms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.repair import replace_logprobs, rows_of, with_logprobs
from distill.attackers.repair._shadow import fitting, shadow
from distill.completions import Completion

LEAST = -14.0  # nats, where logprobs end: a token that was drained could be as unlikely as that
BATCH = 256


class Net(nn.Module):
    """What to add to each released log atom (R, A), from the sorted row and its entropy.

    Args:
        atoms: A, entries of a row and its tail.
        hidden: width of both hidden layers.
    """

    def __init__(self, atoms: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((atoms + 1, hidden), (hidden, hidden)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(0.2)]
        last = nn.Linear(hidden, atoms)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, seen_RA: Tensor) -> Tensor:
        """Clean probabilities `[R, A]` of released ones.

        Args:
            seen_RA: R released rows of A probabilities, sorted.
        """
        logs_RA = seen_RA.log().clamp(min=LEAST)
        entropy_R1 = -(seen_RA * logs_RA).sum(-1, keepdim=True)
        return torch.softmax(logs_RA + self.layers(torch.cat([logs_RA, entropy_R1], -1)), -1)


def fit_net(
    clean_RA: np.ndarray, defended_RA: np.ndarray, *, hidden: int, steps: int, seed: int
) -> Net:
    """A net, in eval mode, that has learned to recover clean rows from defended ones; a function of
    data and seed.

    Args:
        clean_RA: rows of the attacker's own model.
        defended_RA: the same behind the rebuilt defence.
        hidden: width.
        steps: of Adam.
        seed: of weights and batches.
    """
    clean, seen = (torch.from_numpy(one).float() for one in (clean_RA, defended_RA))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net(clean.shape[1], hidden)
        optimizer = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            batch = torch.randint(len(seen), (BATCH,))
            loss = (net(seen[batch]) - clean[batch]).abs().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.inference_mode()
def recover(net: Net, seen_NA: np.ndarray) -> np.ndarray:
    """What a net in eval mode makes of released rows, in float64.

    Args:
        net: fitted, in eval mode.
        seen_NA: N released rows of A probabilities, sorted.

    Returns:
        `[N, A]`, distributions.
    """
    clean_NA: np.ndarray = net(torch.from_numpy(seen_NA).float()).double().numpy()
    return clean_NA


class Settings(Part):
    """`table`: most shadow rows; `most`: entries of a row that are recovered; `hidden` and `steps`:
    of the net.
    """

    table: int = Field(20000, ge=2, le=1_000_000)
    most: int = Field(16, ge=1, le=1_000_000)
    hidden: int = Field(128, ge=1, le=1_000_000)
    steps: int = Field(1500, ge=1, le=1_000_000)


class Attacker(Base):
    needs_interface = "top_k"
    needs = ("fresh", "defense")
    paper = "Chen et al. 2023 (D-DAE); Tang et al. 2024 (ModelGuard)"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with the rows that the net makes of its own."""
        name, s = "repair/recovery", self.settings
        clean_RA, defended_RA = shadow(
            completions, resources, name, seed=seed, most=s.most, table=s.table
        )
        net = fit_net(clean_RA, defended_RA, hidden=s.hidden, steps=s.steps, seed=seed)
        recovered = [recover(net, one) for one in fitting(completions, name, clean_RA.shape[1])]
        return with_logprobs(
            completions,
            [
                replace_logprobs(rows_of(one, name), p)
                for one, p in zip(completions, recovered, strict=True)
            ],
        )
