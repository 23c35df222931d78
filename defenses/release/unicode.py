"""Unicode edits: the reasoning is released with characters that look like nothing, or like others.

Invisible characters in the manner of UREdit (an ACL ARR submission of January 2026, there chosen
for each sample), or digits and letters exchanged for their mathematical twins. It is here as a
sanity case: one normalisation (NFKC, and no format characters) undoes it, so whatever it seems to
defend, it defends against attackers who do not clean their data. A student with a fixed alphabet
reads what it does not know as its unknown token.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from defenses import DefenseSettings, SecretKey, Strength, Traits
from defenses.release import TextEdit, edit_reasoning
from defenses.release._spans import CODE, MATHS, NOTES, PRIVATE, Masked
from distill.completions import Completion
from distill.generation import uniform

INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
"""Zero-width space, non-joiner, joiner, word joiner, no-break space: category Cf, all of them."""
TWINS = {
    ord(first) + i: chr(twin + i)
    for first, twin, size in (("0", 0x1D7F6, 10), ("A", 0x1D670, 26), ("a", 0x1D68A, 26))
    for i in range(size)
}
"""The monospace digits and letters of Unicode's mathematical alphabets, which NFKC turns into the
plain ones.
"""


def insert_invisible(letter: str, place: float) -> str:
    """The character with an invisible one behind it.

    Args:
        letter: one character.
        place: in [0, 1), which of the invisible ones.
    """
    return letter + INVISIBLE[int(place * len(INVISIBLE))]


def replace_by_twin(letter: str) -> str:
    """The character's mathematical twin, or the character itself where it has none."""
    return letter.translate(TWINS)


class Settings(DefenseSettings):
    """`rate`: share of the characters of the reasoning that are edited (0: no defence), by `key`
    and prompt.

    `by`: an invisible character behind them, or their twin instead.
    """

    rate: float = Field(0.2, ge=0, le=1)
    by: Literal["insertion", "twin"] = "insertion"
    key: SecretKey = "unicode"


class Defense(TextEdit):
    """Edits characters of the reasoning, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"rate": 0.0},
        strength=Strength("rate", 0.0, 0.01, 1.0, log=True),
        keeps_answer=True,
        paper="UREdit, ACL ARR 2026-01",
    )

    def text(self, answer: Completion) -> str:
        def edit(reasoning: str) -> str:
            masked = Masked(reasoning, CODE, MATHS, NOTES)
            edited = [self.edited(letter, i, answer.prompt) for i, letter in enumerate(masked.text)]
            return masked.unmasked("".join(edited))

        return edit_reasoning(answer.text, self.format, edit)

    def edited(self, letter: str, position: int, prompt: str) -> str:
        """What is released of one character of the reasoning; what is masked stays, and so does
        the end of a line, behind which a block of code may begin.

        Args:
            letter: one character.
            position: its place in the reasoning, from 0.
            prompt: which the answer is of.
        """
        s = self.settings
        if letter == "\n" or PRIVATE.match(letter):
            return letter
        if uniform(s.key, "chosen", position, prompt) >= s.rate:
            return letter
        return (
            replace_by_twin(letter)
            if s.by == "twin"
            else insert_invisible(letter, uniform(s.key, "which", position, prompt))
        )
