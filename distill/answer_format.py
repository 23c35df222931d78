"""Where reasoning and final answer are in a text: one format a task, for whoever reads answers or
writes them.

A text is what is thought between `<think>` and `</think>`, then reasoning, then the final answer in
its markup. The last markup decides: one that is open at the end of a text holds no answer, and
neither does a text that is still thinking.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from distill.completions import BadInput

Kind = Literal["mark", "tags", "boxed", "fenced", "tool_call", "whole"]
Thinking = Literal["none", "read", "write"]
OPEN, CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
CALL = re.compile(rf"{CALL_OPEN}\s*(.*?)\s*{CALL_CLOSE}", re.DOTALL)
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$", re.MULTILINE)
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # a brace behind a backslash is a letter
SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^\sa-z])")
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|cf|vs|approx|resp|Mrs?|Ms|Dr|St|No|Fig|Eq)\.\s*$")


class Parts(NamedTuple):
    """A text divided: `thinking + reasoning + answer` is the text.

    `thinking` and `answer` are with their markup; `final` is the final answer without it, None
    where there is none.
    """

    thinking: str
    reasoning: str
    answer: str
    final: str | None


class Step(NamedTuple):
    """A step of a reasoning, and what separates it from the next."""

    text: str
    tail: str


class _Found(NamedTuple):
    """The last markup in a text: where it begins, what is in it, whether it was closed, and where
    what is in it begins.
    """

    start: int
    final: str | None
    closed: bool
    inside: int = 0


NOWHERE = _Found(-1, None, False)


class AnswerFormat(BaseModel):
    r"""How the answers of a task look.

    `kind`: the final answer follows a `mark`; stands in `tags` (`<answer>…</answer>`, by the name
    `tag`); is `boxed` (`\boxed{…}`); is the last `fenced` block; is a `tool_call`
    (`<tool_call>…</tool_call>`, all of them); or is the `whole` text. `until`: an answer behind a
    mark goes to the `end` of the text or of its `line`. `thinking`: whether `<think>…</think>` is
    reasoning (`read`), and is what worked solutions are written with (`write`). `steps`: reasoning
    divides by `line`, by `sentence`, or at any other text. `gap`: what is between reasoning and the
    answer; by default a space, or a line's end where the markup has lines of its own.

    Arguments of its methods:
        text: of an answer, all of it.
        finished: whether it came to its own end.
        reasoning: steps, with what stands between them.
        final: the answer alone, without markup.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "mark"
    mark: str = Field(default="#", min_length=1, max_length=50)
    tag: str = Field(default="answer", pattern=r"^[A-Za-z][\w.-]{0,30}$")
    until: Literal["end", "line"] = "end"
    thinking: Thinking = "read"
    steps: str = Field(default="line", min_length=1, max_length=50)
    gap: str | None = Field(default=None, max_length=10)

    @property
    def begin(self) -> str:
        """What a final answer stands behind, or its markup begins with."""
        match self.kind:
            case "mark":
                return self.mark
            case "tags":
                return f"<{self.tag}>"
            case "boxed":
                return r"\boxed{"
            case "fenced":
                return "```"
            case "tool_call":
                return CALL_OPEN
            case "whole":
                return "" if self.thinking == "none" else CLOSE

    def split(self, text: str, finished: bool = True) -> Parts:
        """A text as its parts; the final answer of one that was cut off counts only where its
        markup was closed before.
        """
        thinking, rest = _thinking(self, text)
        if rest is None:
            return Parts(thinking, "", "", None)
        markup = _find(self, rest)
        if markup.start < 0:
            return Parts(thinking, rest, "", None)
        reasoning = rest[: markup.start].rstrip()
        final = markup.final if finished or markup.closed else None
        return Parts(thinking, reasoning, rest[len(reasoning) :], final)

    def final(self, text: str, finished: bool = True) -> str | None:
        """The final answer in a text as it is written there, or None."""
        return self.split(text, finished).final

    def split_steps(self, reasoning: str) -> list[Step]:
        """Reasoning as its steps; all their texts and tails joined are it."""
        if self.steps == "sentence":
            bodies = [(whole.rstrip(), whole) for whole in _sentences(reasoning)]
            return [Step(body, whole[len(body) :]) for body, whole in bodies]
        *closed, last = reasoning.split(self.between)
        return [Step(step, self.between) for step in closed] + [Step(last, "")] * bool(last)

    @property
    def between(self) -> str:
        """What stands between two steps that are put together."""
        return {"line": "\n", "sentence": " "}.get(self.steps, self.steps)

    def answer(self, final: str) -> str:
        """A final answer in its markup, behind the gap: all of an answer that shows no reasoning.

        Raises:
            BadInput: it would be read as another answer, or as none.
        """
        gap = self.gap
        if gap is None:
            gap = "\n" if self.kind in ("tags", "fenced", "tool_call") else " "
        text = gap + _marked(self, final)
        read = self.final(text)
        if read is None or read.strip() != final.strip():
            raise BadInput(
                f"answer format {self.kind}: {final[:80]!r} cannot be written so that it is read "
                f"again; it is read as {read if read is None else read[:80]!r}"
            )
        return text

    def solution(self, reasoning: str, final: str) -> str:
        """A worked solution: reasoning, then the answer.

        Raises:
            BadInput: the answer would be read as another, or as none.
        """
        answer = self.answer(final)
        if self.thinking == "write" or (self.kind == "whole" and reasoning):
            text = f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{answer.lstrip()}"
        else:
            text = reasoning + answer
        if (self.final(text) or "").strip() != final.strip():
            raise BadInput(
                f"answer format {self.kind}: behind {reasoning[-80:]!r} the answer {final[:80]!r} "
                "is read as another"
            )
        return text


def final_spans(form: AnswerFormat, text: str, finished: bool = True) -> list[tuple[int, int]]:
    """Where in a text its final answer stands, without markup: from where to where.

    Args:
        form: of the answer.
        text: of an answer, all of it.
        finished: whether it came to its own end.

    Returns:
        Nothing where there is no final answer; of a `tool_call` a span a call, else one.
    """
    thinking, rest = _thinking(form, text)
    markup = NOWHERE if rest is None else _find(form, rest)
    if rest is None or markup.final is None or not (finished or markup.closed):
        return []
    start = len(thinking) + markup.inside
    if form.kind != "tool_call":
        return [(start, start + len(markup.final))]
    return [match.span(1) for match in CALL.finditer(text, len(thinking) + markup.start)]


def _thinking(form: AnswerFormat, text: str) -> tuple[str, str | None]:
    """What is thought, with its markup, and the rest; None where thinking has not ended."""
    if form.thinking == "none":
        return "", text
    end = text.rfind(CLOSE)
    if text.rfind(OPEN) > end:
        return text, None
    cut = end + len(CLOSE) if end >= 0 else 0
    return text[:cut], text[cut:]


def _find(form: AnswerFormat, text: str) -> _Found:
    """The final answer of a text in the markup of its format."""
    match form.kind:
        case "mark":
            return _behind_mark(text, form.mark, form.until)
        case "tags":
            return _in_tags(text, f"<{form.tag}>", f"</{form.tag}>")
        case "boxed":
            return _boxed(text)
        case "fenced":
            return _fenced(text)
        case "tool_call":
            return _calls(text)
        case "whole":
            return _Found(0, text, False)


def _marked(form: AnswerFormat, final: str) -> str:
    """A final answer in the markup of its format."""
    match form.kind:
        case "mark":
            return f"{form.mark} {final}"
        case "tags":
            return f"<{form.tag}>{final}</{form.tag}>"
        case "boxed":
            return rf"\boxed{{{final}}}"
        case "fenced":
            longest = max(map(len, re.findall("`+", final)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}\n{final}\n{fence}"
        case "tool_call":
            return f"{CALL_OPEN}\n{final}\n{CALL_CLOSE}"
        case "whole":
            return final


def _behind_mark(text: str, mark: str, until: str) -> _Found:
    start = text.rfind(mark)
    if start < 0:
        return NOWHERE
    behind = text[start + len(mark) :]
    if until == "end":
        return _Found(start, behind, False, len(text) - len(behind))
    lines = behind.lstrip("\n")  # the answer may have its own line
    line, newline, _ = lines.partition("\n")
    return _Found(start, line, bool(newline), len(text) - len(lines))


def _in_tags(text: str, opening: str, closing: str) -> _Found:
    start = text.rfind(opening)
    if start < 0:
        return NOWHERE
    inside, closed, _ = text[start + len(opening) :].partition(closing)
    return _Found(start, inside if closed else None, bool(closed), start + len(opening))


def _boxed(text: str) -> _Found:
    boxes = list(BOX.finditer(text))
    if not boxes:
        return NOWHERE
    box, depth = boxes[-1], 1
    for brace in BRACE.finditer(text, box.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return _Found(box.start(), text[box.end() : brace.start()], True, box.end())
    return _Found(box.start(), None, False)


def _fenced(text: str) -> _Found:
    """The last block that a fence opens; it ends at one as long, of the same letter, without a
    language.
    """
    block, opened = NOWHERE, None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
            block = _Found(fence.start(), None, False)
        elif fence["fence"].startswith(opened["fence"]) and not fence["info"].strip():
            start = opened.end() + 1
            inside = text[start : max(start, fence.start() - 1)]
            block, opened = _Found(opened.start(), inside, True, start), None
    return block


def _calls(text: str) -> _Found:
    """All calls, a line's end between them; one that is open spoils the rest."""
    start = text.find(CALL_OPEN)
    if start < 0:
        return NOWHERE
    *closed, rest = text[start:].split(CALL_CLOSE)
    inside = [part.partition(CALL_OPEN)[2].strip() for part in closed]
    is_closed = CALL_OPEN not in rest and bool(closed)
    return _Found(start, "\n".join(inside) if is_closed else None, is_closed)


def _sentences(text: str) -> list[str]:
    """Sentences with the space behind them; the end of an abbreviation ends none."""
    steps, start = [], 0
    for end in SENTENCE.finditer(text):
        if not ABBREVIATION.search(text[start : end.start()]):
            steps.append(text[start : end.end()])
            start = end.end()
    return [*steps, text[start:]] if text[start:] else steps
