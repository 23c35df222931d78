"""Where a defence acts, as a word that a plot colours by."""

from __future__ import annotations

from experiments.planning.arms import IDENTITY
from experiments.settings.defenses import parse_defense


def family(defense: str) -> str:
    """Where a defence acts; a pipeline of several kinds is `several`.

    Args:
        defense: by its entry.

    Returns:
        A key of `results.schema.words.FAMILIES`.
    """
    if defense == IDENTITY:
        return "controls"
    spec = parse_defense(defense)
    kinds = {part.name.partition("/")[0] for part in spec.parts}
    if kinds == {"release"}:
        return "release, logprobs" if spec.chain.traits.acts_on == "logprobs" else "release, text"
    return kinds.pop() if len(kinds) == 1 else "several"
