"""Partial Bayes: a released row is what such rows were, on average, before a rebuilt defence acted
on them.

Tang et al. 2024 (ModelGuard), as their code has it: a table of rows drawn from a prior, each with
what the defence makes of it; the estimate for a released row is the mean of the clean ones whose
defended ones lie within L1 max(0.01, the least distance). Here the mean of what the defence did to
those is taken back from the row instead, which is the same within that distance, and leaves a row
alone where the defence does nothing, however small the table.

The prior decides what the figure means. The authors' published run centres it on the victim's own
clean outputs, which no attacker has: an oracle, and a bound. Here `prior: surrogate` is what the
part uses, the rows of a model that the attacker trains on what it was sold; an oracle's rows can be
handed to `estimate` alone, as the tests do. A row is the sorted atoms of a few likeliest tokens,
so that what was learned for one token holds for all. Axes: N released rows, R rows of the table, A
atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.repair import replace_logprobs, rows_of, with_logprobs
from distill.attackers.repair._shadow import fitting, shadow
from distill.completions import Completion

AT_ONCE = 256  # released rows that are compared with the table together


def estimate(
    seen_NA: np.ndarray, clean_RA: np.ndarray, defended_RA: np.ndarray, tolerance: float = 0.01
) -> np.ndarray:
    """Posterior mean `[N, A]` of the clean rows under a prior given by its rows and what the
    defence makes of them.

    Each estimate is a distribution; distances are L1, and the nearest row of the table counts
    however far it is.

    Args:
        seen_NA: rows that were sold.
        clean_RA: the prior's rows.
        defended_RA: what the defence makes of them.
        tolerance: L1 distance within which a row of the table counts.
    """
    undo_RA = clean_RA - defended_RA
    out = [np.zeros((0, seen_NA.shape[1]))]
    for seen in np.split(seen_NA, range(AT_ONCE, len(seen_NA), AT_ONCE)):
        far_NR = torch.cdist(torch.from_numpy(seen), torch.from_numpy(defended_RA), p=1).numpy()
        near_NR = far_NR <= np.maximum(tolerance, far_NR.min(-1, keepdims=True))
        estimates = seen + near_NR @ undo_RA / near_NR.sum(-1, keepdims=True)
        estimates = np.maximum(estimates, 0)
        out.append(estimates / estimates.sum(-1, keepdims=True))
    return np.concatenate(out)


class Settings(Part):
    """`prior`: where the table's rows come from; `table`: how many; `most`: entries of a row that
    are estimated.
    """

    prior: Literal["surrogate"] = "surrogate"
    table: int = Field(20000, ge=1, le=1_000_000)
    most: int = Field(16, ge=1, le=1_000_000)
    tolerance: float = Field(0.01, gt=0, le=2)


class Attacker(Base):
    needs_interface = "top_k"
    needs = ("fresh", "defense")
    paper = "Tang et al. 2024 (ModelGuard), partial Bayes"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with its rows as they were, on average, before the defence acted."""
        name, s = "repair/bayes", self.settings
        table = shadow(completions, resources, name, seed=seed, most=s.most, table=s.table)
        estimates = [
            estimate(one, *table, s.tolerance)
            for one in fitting(completions, name, table[0].shape[1])
        ]
        return with_logprobs(
            completions,
            [
                replace_logprobs(rows_of(one, name), p)
                for one, p in zip(completions, estimates, strict=True)
            ],
        )
