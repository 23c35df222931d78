"""Top-1 relabelling: all mass on the released likeliest token.

What a defence does below the likeliest token is gone, at the price of what a distribution tells
beyond it. Under a defence that keeps the argmax the training set is, bit for bit, the undefended
one (ModelGuard's `hardlabel`, GRAD²'s `_argmax`), so no such defence can be better against this
attack than none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.repair import rows_of, with_logprobs
from distill.completions import Completion, Logprobs


def relabel(logprobs: Logprobs) -> Logprobs:
    """The first entry of each row, with logprob 0; a row of withheld tokens alone stays empty.

    Rows are released most likely first, and of equals, as after rounding, the order still tells
    which was ahead.

    Args:
        logprobs: rows as they were released.
    """
    ids_T1 = logprobs.ids_TK[:, :1]
    return Logprobs(ids_T1, np.where(ids_T1 >= 0, 0.0, -np.inf).astype(np.float32))


class Settings(Part):
    pass


class Attacker(Base):
    needs_interface = "top_k"
    paper = "Tang et al. 2024 (ModelGuard); Mazeika et al. 2022 (GRAD²)"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with one-hot rows."""
        return with_logprobs(
            completions, [relabel(rows_of(one, "repair/relabel")) for one in completions]
        )
