r"""What a rule must not edit in a text: code, formulas, calculator notes, and tags of thinking.

A rule knows arithmetic as it stands in prose. Inside `\(…\)`, `$…$`, a fenced block or `<<3+4=7>>`
the same letters mean something else, and half of such a span is no span: it is masked by one letter
of Unicode's private use area, so that rules move it or drop it whole, and is put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

FIRST, LAST = "\ue000", "\uf8ff"
CODE = re.compile(
    r"^[ ]{0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*?^[ ]{0,3}(?P=fence)[`~]*[ ]*$|.*\Z)"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
MATHS = re.compile(
    r"\\\(.*?\\\)|\\\[.*?\\\]|\$\$.+?\$\$"
    r"|(?<![\\\w$])\$(?=[^\s$])(?:[^$\n\\]|\\.)*?[^\s$\\]\$(?![\w$])"
    r"|\\begin\{(?P<name>[a-z]+\*?)\}.*?\\end\{(?P=name)\}",
    re.DOTALL,
)
NOTES = re.compile(r"<<[^<>]*>>")
PRIVATE = re.compile(f"[{FIRST}-{LAST}]")


def protected(text: str, *kinds: re.Pattern[str]) -> list[tuple[int, int]]:
    """Where the spans of some kinds begin and end, in order; of those that overlap, the first.

    Args:
        text: an answer, or a part of one.
        kinds: `CODE`, `MATHS`, `NOTES`.
    """
    matches = sorted(match.span() for kind in kinds for match in kind.finditer(text))
    spans: list[tuple[int, int]] = []
    for start, end in matches:
        if not spans or start >= spans[-1][1]:
            spans.append((start, end))
    return spans


class Masked:
    """A text whose protected spans are one letter each.

    Args:
        text: an answer, or a part of one.
        kinds: of spans, `CODE`, `MATHS`, `NOTES`.

    Attributes:
        text: with the letters in place of the spans.
    """

    def __init__(self, text: str, *kinds: re.Pattern[str]) -> None:
        # Letters of the private use area that were there before are spans of their own.
        spans = protected(text, *kinds, PRIVATE)[: ord(LAST) - ord(FIRST) + 1]
        self.spans = [text[start:end] for start, end in spans]
        self.text = "".join(self._letters(text, spans))

    def _letters(self, text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
        place = 0
        for i, (start, end) in enumerate(spans):
            yield text[place:start] + chr(ord(FIRST) + i)
            place = end
        yield text[place:]

    def unmasked(self, text: str) -> str:
        """A text in which the spans stand again, wherever their letters are now.

        Args:
            text: made of the masked one, with each letter as often as one likes.
        """
        return PRIVATE.sub(lambda letter: self.spans[ord(letter[0]) - ord(FIRST)], text)


def cut_before(text: str, place: int, *kinds: re.Pattern[str]) -> int:
    """The last place up to `place` at which a text can be cut without cutting a span in two.

    Args:
        text: an answer, or a part of one.
        place: 0 to its length.
        *kinds: of spans, `CODE`, `MATHS`, `NOTES`.
    """
    return next((start for start, end in protected(text, *kinds) if start < place < end), place)
