"""The same text, but for white space around it."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property

from pydantic import Field, field_validator

from experiments.tasks import graders

ASCII_SPACE = " \t\r\n"  # other spaces are no part of an answer's form


class Grader(graders.Grader):
    """`form`: a regular expression that a whole answer must match to be one. `loose`: case, kinds
    of white space, bold type and a stop at the end make no other answer.
    """

    form: str | None = Field(default=None, min_length=1, max_length=1000)
    loose: bool = False

    @field_validator("form")
    @classmethod
    def _compiles(cls, form: str | None) -> str | None:
        try:
            re.compile(form or "")
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from None
        return form

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.form or r"(?s).+")

    def read(self, final: str) -> str | None:
        """The answer without white space around it, if it has the form."""
        answer = _loosened(final) if self.loose else final.strip(ASCII_SPACE)
        return answer if self._pattern.fullmatch(answer) else None


def _loosened(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("**", "").replace("`", "")
    return " ".join(plain.casefold().split()).removesuffix(".")
