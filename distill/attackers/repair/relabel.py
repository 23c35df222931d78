"""Top-1 relabelling: all mass on the released likeliest token.

What a defence does below the likeliest token is gone, at the price of what a distribution tells beyond it. Under a
defence that keeps the argmax the training set is, bit for bit, the undefended one (ModelGuard's `hardlabel`, GRAD²'s
`_argmax`), so no such defence can be better against this attack than none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.answers import Answer, Logprobs
from distill.attackers import Base, Own, Part
from distill.attackers.repair import rows_of, with_rows


def relabelled(logprobs: Logprobs) -> Logprobs:
    """One entry a row, of the likeliest the lowest id, with logprob 0; a row of withheld tokens alone stays empty."""
    values_TK = np.where(logprobs.ids_TK >= 0, logprobs.values_TK, -np.inf)
    top_T1 = values_TK.max(-1, keepdims=True)
    tied_TK = (values_TK == top_T1) & np.isfinite(top_T1)
    ids_T = np.where(tied_TK, logprobs.ids_TK, np.iinfo(np.int32).max).min(-1)
    there_T = tied_TK.any(-1)
    ids_T1 = np.where(there_T, ids_T, -1).astype(np.int32)[:, None]
    return Logprobs(ids_T1, np.where(there_T, 0.0, -np.inf).astype(np.float32)[:, None])


class Settings(Part):
    pass


class Attacker(Base):
    needs_profile = "top_k"
    paper = "Tang et al. 2024 (ModelGuard); Mazeika et al. 2022 (GRAD²)"

    def clean(self, said: Sequence[Answer], own: Own, *, seed: int) -> list[Answer]:
        """Every answer with one-hot rows."""
        return with_rows(said, [relabelled(rows_of(one, "repair/relabel")) for one in said])
