"""Seeds of what an attack draws beside its student: functions of the student's, never its
neighbours.
"""

from __future__ import annotations

from distill.completions import digest


def derived_seed(role: str, seed: int, *numbers: int) -> int:
    """A seed that no other role, student or number shares, but by an accident of 32 bits.

    `seed + 1` will not do: it is the next student's.

    Args:
        role: what draws with it, such as the name of an attack.
        seed: the student's.
        *numbers: which of its draws.
    """
    return int(digest("/".join(map(str, (role, seed, *numbers))))[:8], 16)
