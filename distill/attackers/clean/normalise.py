"""Normalisation: what looks the same becomes the same.

Unicode's compatibility form (NFKC), then characters that are invisible go, letters of other scripts that look like a
Latin one become it, and runs of spaces become one. It undoes homoglyphs and zero-width characters, and leaves ASCII
text with single spaces as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from distill.answers import Answer
from distill.attackers import Base, Own, Part
from distill.attackers.clean import rewritten

# Letters of other scripts, and punctuation, that no eye tells from ASCII (Unicode TS 39, the common confusables).
TWINS = str.maketrans(
    "АВЕЅZІЈКМНОРСТУХавеѕіјкморсухѵΑΒΕΖΗΙΚΜΝΟΡΤΥΧον‐‑‒–—−⁃‘’‚“”„⁄∕٫‚ꓽ：；＝＋＃",
    'ABESZIJKMHOPCTYXabesijkmopcyxvABEZHIKMNOPTYXov-------\'\',"""//,,::;=+#',
)


def normalised(text: str) -> str:
    """NFKC without invisible characters, homoglyphs as their ASCII twins, and single spaces."""
    text = unicodedata.normalize("NFKC", text).translate(TWINS)
    text = "".join(
        letter for letter in text if unicodedata.category(letter) not in ("Cf", "Mn", "Cc") or letter == "\n"
    )
    return re.sub(r"[^\S\n]+", " ", text)


class Settings(Part):
    pass


class Attacker(Base):
    paper = "Unicode TR 15, TS 39"

    def clean(self, said: Sequence[Answer], own: Own, *, seed: int) -> list[Answer]:
        """Every answer with its text normalised."""
        return [rewritten(one, normalised(one.text)) for one in said]
