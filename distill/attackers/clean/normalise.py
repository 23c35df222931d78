"""Normalisation: what looks the same becomes the same.

Characters that are invisible go, the rest takes Unicode's compatibility form (NFKC), letters of
other scripts that look like a Latin one become it, and runs of spaces become one. It undoes
homoglyphs and zero-width characters, and leaves ASCII text with single spaces as it is, and the
marks of scripts that write their vowels with them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import with_text
from distill.completions import Completion

# Letters of other scripts, and punctuation, that no eye tells from ASCII (Unicode TS 39, the common
# confusables).
TWINS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХавеѕіјкморсухѵΑΒΕΖΗΙΚΜΝΟΡΤΥΧον‐‒–—−⁃‘’‚“”„⁄∕٫‚ꓽ",
    'ABESIJKMHOPCTYXabesijkmopcyxvABEZHIKMNOPTYXov------\'\',"""//,,:',
)


# What no eye sees although its category is that of letters and marks (Unicode's
# Default_Ignorable_Code_Point).
UNSEEN = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x3164,
    0xFFA0,
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}


def visible(letter: str) -> bool:
    """Whether a character can be seen, or separates what can.

    Args:
        letter: one character.
    """
    return (
        letter in "\t\n"
        or unicodedata.category(letter) not in ("Cf", "Cc")
        and ord(letter) not in UNSEEN
    )


def normalise(text: str) -> str:
    """NFKC without invisible characters, homoglyphs as their ASCII twins, and single spaces.

    Args:
        text: of any length.
    """
    # What is invisible goes first, as it keeps apart what NFKC would join; so does a twin and the
    # mark behind it.
    text = unicodedata.normalize("NFKC", "".join(filter(visible, text))).translate(TWINS)
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text))


class Settings(Part):
    pass


class Attacker(Base):
    paper = "Unicode TR 15, TS 39"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with its text normalised."""
        return [with_text(one, normalise(one.text)) for one in completions]
