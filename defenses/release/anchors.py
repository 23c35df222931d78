"""Sparse anchor edits: only the results that most of the reasoning hangs on are wrong; the final
answer stays.

TraceGuard (2604.23238) finds "thought anchors" by branching on tokens and poisons these sentences
alone, so that a reader who skims, or a filter, sees little. Its code was not seen. Here an anchor
is found by rule: a step whose result later steps use most often. Where no result is ever used
again, as where results are repeated only as parts of longer numbers, earlier steps come first, as
more follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from defenses import DefenseSettings, SecretKey, Strength, Traits
from defenses.release import TextEdit, edit_reasoning
from defenses.release._spans import CODE, Masked
from defenses.release.poison import NUMBER, result, with_wrong_result
from distill.completions import Completion
from distill.generation import uniform


def uses(steps: Sequence[str]) -> dict[int, int]:
    """How often later steps use the result of each step that has one: the number, before they say
    their own result.
    """
    results = [result(step) for step in steps]
    used = [
        NUMBER.findall(step[: one.start()] if one else step)
        for step, one in zip(steps, results, strict=True)
    ]
    return {
        i: sum(later.count(one[0]) for later in used[i + 1 :])
        for i, one in enumerate(results)
        if one
    }


def anchors(steps: Sequence[str], share: float, luck: float) -> list[int]:
    """The places of the most used steps: share of those with a result, its fraction rounded up
    where `luck` is below.

    With `luck` uniform in [0, 1) that is the share itself on average, however few steps there are.

    Args:
        steps: of an answer.
        share: that is kept.
        luck: in [0, 1).
    """
    counts = uses(steps)
    ranked = sorted(counts, key=lambda i: (-counts[i], i))
    return ranked[: int(share * len(ranked) + 1 - luck)]


class Settings(DefenseSettings):
    """`share`: how many of the steps get a wrong result (0: no defence), the most used first;
    `key`: which digit.
    """

    share: float = Field(0.34, ge=0, le=1)
    key: SecretKey = "anchors"


class Defense(TextEdit):
    """Releases wrong results of the steps that matter most, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.02, 1.0, log=True),
        keeps_answer=True,
        paper="TraceGuard, 2604.23238",
    )

    def text(self, answer: Completion) -> str:
        s = self.settings

        def edit(reasoning: str) -> str:
            masked = Masked(reasoning, CODE)
            steps = self.format.split_steps(masked.text)
            texts = [step.text for step in steps]
            for i in anchors(texts, s.share, uniform(s.key, "luck", answer.prompt)):
                wrong = with_wrong_result(texts[i], uniform(s.key, "digit", i, answer.prompt))
                steps[i] = steps[i]._replace(text=wrong)
            return masked.unmasked("".join(step.text + step.tail for step in steps))

        return edit_reasoning(answer.text, self.format, edit)
