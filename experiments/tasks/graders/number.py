r"""One number, however it is written: `1,234`, `$5.00`, `−3`, `**18** apples`, `\frac{1}{2}`,
`50%`, `2.5 \times 10^3`, `1 1/2`.

An answer with two numbers, an inequality or a range is no number. Compared exactly, as fractions.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

from pydantic import Field

from experiments.tasks import graders

LETTERS = 300  # of an answer; a number is shorter
DIGITS = 300  # of an exponent's value: `1e999999999` is no answer but an attack on memory
SPACES = "\u00a0\u2002\u2003\u2009\u200a\u202f"
GROUP = "\u00a0"  # between thousands; a plain space there may divide two numbers
MINUS = str.maketrans({"\u2212": "-", "\ufe63": "-", "\uff0d": "-", **dict.fromkeys(SPACES, GROUP)})
MARKUP = (
    (re.compile(r"[-=]>"), "="),
    (re.compile(r"(?<=[0-9])\\[,!;](?=[0-9]{3})"), GROUP),
    (re.compile(r"\\(?:left|right|displaystyle|!|,|;|:|quad|qquad)(?![A-Za-z])|\\ "), " "),
    (re.compile(r"(?<=[0-9])\{,\}(?=[0-9])"), ","),
    (re.compile(r"\\boxed\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\d?t?c?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r" (\1)/(\2) "),
    (re.compile(r"\\d?t?c?frac\s*([0-9])\s*([0-9])"), r" \1/\2 "),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|\u00d7"), "*"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree|\u00b0"), " "),
    (re.compile(r"(?<=[A-Za-z])\s?\^\s*\{?-?[0-9]+\}?"), " "),  # m^2
    (re.compile(r"\\(?:approx|sim)(?![A-Za-z])|\u2248|~"), " "),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\$|\*\*|__|`"), " "),
)
BOUNDS = re.compile(r"[<>\u2264\u2265\u2260\u00b1]|\\(?:leq?|geq?|neq?|lt|gt|pm)(?![A-Za-z])")
WHOLE = rf"(?:[0-9]{{1,3}}(?:,[0-9]{{2,3}})*,[0-9]{{3}}|[0-9]{{1,3}}(?:{GROUP}[0-9]{{3}})+|[0-9]+)"
PLAIN = rf"(?:{WHOLE}(?:\.[0-9]*)?|\.[0-9]+)"
NUMBER = re.compile(
    rf"(?<![\w.,/^])(?P<sign>[-+]?)(?P<mixed>[0-9]+ (?=\(?[0-9]+\)?/))?"
    rf"\(?(?P<top>-?{PLAIN})\)?(?:\s?/\s?\(?(?P<bottom>{PLAIN})\)?)?"
    rf"(?:[eE](?P<e>[-+]?[0-9]+)|\s?\*\s?10\s?\^\s?\{{?(?P<power>[-+]?[0-9]+)\}}?)?"
)
SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
SCALE = re.compile(rf"\s?(?P<scale>{'|'.join(SCALES)})s?\b", re.IGNORECASE)
SIGN = re.compile(r"^([-+])\s*[\u20ac\u00a3\u00a5]?\s*(?=[0-9.(])")
OPERATOR = re.compile(r"[-\u2013\u2014+*/^]\s*$|[A-Za-z]\(\s*$")
UNCLEAR = re.compile(
    r"[kKMB](?![A-Za-z])|bn\b|(?:st|nd|rd|th)\b|[!^']|/\s?\(|\s*[-\u2013+*]\s*[\w(]|[A-Za-z]+[0-9]"
)
"""What makes another number of the one before it, or may: 2k, 2nd, 2!, 2+x, 0x2."""
COMMAND = re.compile(r"\\[A-Za-z]|[\u03c0\u221a]")  # \sqrt, \pi


class Grader(graders.Grader):
    """`percent`: whether `50%` is the number 50, its `sign` a unit like any other, or a
    `hundredth`. `relative`: by how much of the reference an answer may differ.
    """

    percent: Literal["sign", "hundredth"] = "sign"
    relative: float = Field(default=0.0, ge=0, le=0.5)

    def read(self, final: str) -> str | None:
        """The number as a whole one, a decimal that ends, or a fraction in lowest terms."""
        value = number_in(final)
        if value is None:
            return None
        if self.percent == "hundredth" and re.search(r"%|per\s?cent", final):
            value /= 100
        return spelled(value)

    def same(self, answer: str, reference: str) -> bool:
        """Whether the two are one number, within `relative`."""
        wanted = self.read(reference)
        if wanted is None:
            return False
        allowed = abs(Fraction(wanted)) * Fraction(str(self.relative))
        return abs(Fraction(answer) - Fraction(wanted)) <= allowed


def number_in(text: str) -> Fraction | None:
    """The one number in a text; None where there is none, or more than one.

    Args:
        text: of a final answer, with or without units and markup.
    """
    if len(text) > LETTERS:
        return None
    plain = text.translate(MINUS)
    for pattern, instead in MARKUP:
        plain = pattern.sub(instead, plain)
    plain = plain.rpartition("=")[2].strip()
    return None if BOUNDS.search(plain) else _only(SIGN.sub(r"\1", plain))


def _only(plain: str) -> Fraction | None:
    numbers = list(NUMBER.finditer(plain))
    if len(numbers) != 1:
        return None
    before, behind = plain[: numbers[0].start()], plain[numbers[0].end() :]
    if re.search("[0-9]", re.sub(r"(?<=[A-Za-z])[0-9]+", "", before + " " + behind)):
        return None  # a digit that is part of nothing: a date, a version, a list
    if OPERATOR.search(before) or UNCLEAR.match(behind) or COMMAND.search(plain):
        return None  # part of an expression; a dash may be punctuation, or a sign
    scale = SCALE.match(behind)
    value = _value(numbers[0])
    return value * SCALES[scale["scale"].lower()] if scale and value is not None else value


def _value(number: re.Match[str]) -> Fraction | None:
    exponent = int(number["e"] or number["power"] or 0)
    bottom = _plain(number["bottom"]) if number["bottom"] else Fraction(1)
    if abs(exponent) > DIGITS or not bottom:
        return None
    value = Fraction(number["mixed"] or 0) + _plain(number["top"]) / bottom
    return (-1 if number["sign"] == "-" else 1) * value * Fraction(10) ** exponent


def _plain(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(GROUP, "").removesuffix("."))


def spelled(value: Fraction) -> str:
    """A number in its one form: a decimal where that ends, else a fraction in lowest terms."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest > 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return "-" * (value < 0) + whole + f".{part}" * bool(part)
