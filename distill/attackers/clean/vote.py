"""Majority vote (self-consistency, Wang et al. 2023, 2203.11171) over several answers to a
question.

The final answer that most of them give wins, the earliest of equals; answers whose final answer
cannot be read, or that were cut off before it, have no vote. What is kept is a trace that agrees:
the first, or all. A question without any vote keeps its first answer, as it would without this
part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import groups
from distill.completions import Completion


class Settings(Part):
    keep: Literal["first", "all"] = "all"


class Attacker(Base):
    paper = "Wang et al. 2023, 2203.11171"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """The answers of each question that agree with its majority."""
        agreed: list[Completion] = []
        for group in groups(completions):
            votes = Counter(final for one in group if (final := resources.final(one)) is not None)
            winner = votes.most_common(1)[0][0] if votes else None
            agreeing = [
                one for one in group if winner is not None and resources.final(one) == winner
            ] or group[:1]
            agreed += agreeing if self.settings.keep == "all" else agreeing[:1]
        return agreed
