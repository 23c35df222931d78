"""A letter of several: `B`, `(b)`, `**B**`, `B. Paris`, `The answer is B`; two letters are none."""

from __future__ import annotations

import re

from pydantic import Field

from experiments.tasks import graders

WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\{([^{}]*)\}")
LEAD = re.compile(
    r"(?:the )?(?:final |correct |best )*(?:answer|option|choice)(?: is)?\s*:?\s+", re.IGNORECASE
)
SAID = re.compile(r"\(?(?P<letter>[A-Za-z])(?:$|\)\W*$|[).:](?P<text>\s.*)?$)", re.DOTALL)
OTHER = re.compile(r"\b(?:or|and)\s+\(?[A-Z]\)?(?:[.):]|$)|^\s*[,/&]?\s*\(?[A-Z]\)?\.?\s*$")


class Grader(graders.Grader):
    """`letters`: those that may be chosen."""

    letters: str = Field(default="ABCDEFGHIJ", min_length=2, max_length=26, pattern=r"^[A-Z]+$")

    def read(self, final: str) -> str | None:
        """The letter, in capitals."""
        plain = WRAPPED.sub(r"\1", final).replace("*", "").replace("$", "").replace("`", "")
        plain = plain.strip()
        while lead := LEAD.match(plain):
            plain = plain[lead.end() :]
        option = SAID.match(plain)
        if not option or option["letter"].upper() not in self.letters:
            return None
        return None if OTHER.search(option["text"] or "") else option["letter"].upper()
