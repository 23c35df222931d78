"""Averaging of repeated logprobs: noise that is drawn anew for every request loses 1/n of its
variance.

Rows of several answers to one question are about the same context only as long as the answers
agree, so each row is averaged with the rows of all answers that share its whole prefix. Noise that
is keyed to the prompt is the same each time and stays. Means are of probabilities, over all ids
that any of the rows released.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import groups
from distill.attackers.repair import dense, rows_of, sparse, with_logprobs
from distill.completions import Completion, Logprobs


def average(group: Sequence[Completion]) -> list[Logprobs]:
    """The rows of each answer to a question, each the mean over the answers that begin with the
    same tokens.

    Args:
        group: answers to one question, all with released rows.

    Returns:
        Rows for each answer, as wide as those that it was released with.
    """
    released = [rows_of(completion, "repair/average") for completion in group]
    if len(group) == 1:
        return released
    size = max(int(completion.ids_TK.max(initial=0)) for completion in released) + 1
    p = [dense(completion, size) for completion in released]
    averages = []
    for completion, rows in zip(group, released, strict=True):
        means = []
        for t in range(len(rows.ids_TK)):
            alike = [
                q[t]
                for other, q in zip(group, p, strict=True)
                if len(q) > t and other.token_ids[:t] == completion.token_ids[:t]
            ]
            means.append(np.mean(alike, 0))
        averages.append(sparse(np.array(means), rows.ids_TK.shape[1]))
    return averages


class Settings(Part):
    pass


class Attacker(Base):
    needs_interface = "top_k"
    paper = "Tang et al. 2024 (ModelGuard), q queries an input"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """All answers, with averaged rows; a question that was asked once keeps its rows."""
        rows = {
            id(one): new
            for group in groups(completions)
            for one, new in zip(group, average(group), strict=True)
        }
        return with_logprobs(completions, [rows[id(one)] for one in completions])
