"""Using tools: values lie in numbered stores, and what is asked for is put there with calls, over
one to three turns.

`41:z=a-b+2?` asks for `get("a")`, which the store answers with what is left to do, `z=2-b+2?`, then
for `get("b")`, which leaves `z=2-1+2?`, and then for `2-1=1;1+2=0 # put("z",0)`: arithmetic is
modulo 3. Numbers in a question need no call. An answer is right where its calls are those that were
needed, as the Berkeley leaderboard has it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from distill.completions import Completion, Message, Prompt, digest
from experiments import tasks
from experiments.tasks import Draft, Item, Turn, transcript
from experiments.tasks.graders import tool_call

NAMES, TARGETS, OPERATORS, DIGITS = "abcd", "xyz", "+-", "0123456789"
NAMED = list(NAMES)  # a list, as a caller may name anything, also what has no hash
ASKED = re.compile(
    r"(?P<store>\d+):(?P<target>[xyz])=(?P<x>\w)(?P<first>.)(?P<y>\w)(?P<rest>.\d)\?$"
)


class Settings(BaseModel):
    """`stores`: how many there are. `modulus` of the arithmetic: a student sees each of the
    2 `modulus`^2 sums that there are in 1 of so many answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    stores: int = Field(default=100, ge=10, le=1000)
    modulus: int = Field(default=3, ge=3, le=10)


class Step(NamedTuple):
    """What is to be said in a turn: reasoning, a call, and the same as a reference has it."""

    reasoning: str
    call: str
    reference: dict[str, dict[str, list[Any]]]


class Task(tasks.Task):
    """Every such question of every store."""

    name: ClassVar[str] = "tools"
    plateau_steps = 1800  # docs/plateau.md
    turns = 3
    tools = ("get", "put")
    alphabet = '0123456789+-=:;?# abcdxyzgetpu"(),\n'
    grader = tool_call.Grader()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.size = settings.stores * math.prod(self._radices)

    @property
    def _radices(self) -> tuple[int, ...]:
        """Of a question's number: target, operators, last digit, how many names, and which or what
        digits, of which there are multiples of all that there is to choose.
        """
        modulus, signs = self.settings.modulus, len(OPERATORS)
        return (len(TARGETS), signs, signs, modulus - 1, 3, 4 * modulus, 3 * modulus)

    @property
    def different(self) -> int:
        """Questions of two digits, of a name and a digit, and of two names."""
        modulus = self.settings.modulus
        operands = modulus * modulus + 4 * modulus + 4 * 3
        return self.settings.stores * 3 * 2 * 2 * (modulus - 1) * operands

    def draft(self, index: int) -> Draft:
        """The question numbered `index`, in mixed radix."""
        digits, modulus = [], self.settings.modulus
        for radix in self._radices:
            index, digit = divmod(index, radix)
            digits.append(digit)
        target, first, second, last, names, x, y = digits
        left = NAMES[x % 4] if names else DIGITS[x % modulus]
        others = NAMES.replace(left, "")
        right = others[y % 3] if names == 2 else DIGITS[y % modulus]
        text = (
            f"{index}:{TARGETS[target]}={left}{OPERATORS[first]}{right}"
            f"{OPERATORS[second]}{last + 1}?"
        )
        calls = [step.reference for step in self.script(text)]
        return Draft(text, text, "", json.dumps(calls))

    def item(self, draft: Draft) -> Item:
        """The first question, and what is asked in each turn if the one before was right."""
        prompt, turns = self.prompt(draft), []
        for step in self.script(draft.text):
            solution = self.format.solution(step.reasoning, step.call)
            turns.append(Turn(prompt, solution, json.dumps([step.reference]), step.call))
            prompt = self.reply(prompt, Completion.to(prompt, solution)) or prompt
        whole = transcript([turn.solution for turn in turns])
        return Item(turns[0].prompt, whole, draft.answer, turns=tuple(turns))

    def reply(self, prompt: Prompt, completion: Completion) -> Prompt | None:
        """What is left to do with the values that a completion's calls get; None where it puts one,
        or calls nothing that there is.
        """
        final = self.format.final(completion.text, completion.finished)
        calls = tool_call.parse_calls_or_none(final or "")
        question = prompt.history[0].content if prompt.history else prompt.text
        parts = ASKED.search(question)
        names = [call.arguments.get("0") for call in calls if call.function == "get"]
        if not parts or not calls or len(names) < len(calls) or any(n not in NAMED for n in names):
            return None
        shown = prompt.text.rpartition(":")[2]
        for name in map(str, names):
            shown = shown.replace(name, str(self.value_of(int(parts["store"]), name)))
        spoken = (Message("user", prompt.text), Message("assistant", completion.text))
        history = (*prompt.history, *spoken)
        return Prompt(
            f"{prompt.id.partition('/')[0]}/{len(history) // 2 + 1}",
            shown,
            prompt.account,
            attempt=prompt.attempt,
            system=prompt.system,
            history=history,
        )

    def value_of(self, store: int, name: str) -> int:
        """The digit under a name in a store.

        Args:
            store: its number.
            name: one of `NAMES`.
        """
        return int(digest(f"{store}/{name}"), 16) % self.settings.modulus

    def script(self, text: str) -> Iterator[Step]:
        """What is to be said to a question, turn by turn."""
        parts, values = ASKED.search(text), list[int]()
        assert parts, text
        for operand in (parts["x"], parts["y"]):
            is_name = operand in NAMES
            if is_name:
                yield Step("", f'get("{operand}")', {"get": {"0": [operand]}})
            values.append(self.value_of(int(parts["store"]), operand) if is_name else int(operand))
        x, y = values
        between = self._sum(x, parts["first"], y)
        result = self._sum(between, parts["rest"][0], int(parts["rest"][1]))
        reasoning = f"{x}{parts['first']}{y}={between};{between}{parts['rest']}={result}"
        target = parts["target"]
        arguments: dict[str, list[Any]] = {"0": [target], "1": [result]}
        yield Step(reasoning, f'put("{target}",{result})', {"put": arguments})

    def _sum(self, x: int, sign: str, y: int) -> int:
        return (x + y if sign == "+" else x - y) % self.settings.modulus

    def final(self, text: str, finished: bool = True) -> str | None:
        """The calls of all turns, which are the lines of the text; None where a turn has none."""
        calls = self._said(text, finished)
        return None if calls is None else self.grader.read(calls)

    def _said(self, text: str, finished: bool) -> str | None:
        """The final answers of all turns in their order, a line each."""
        finals = [self.format.final(line, finished) for line in text.split("\n")]
        there = [final.strip() for final in finals if final is not None]
        return "\n".join(there) if len(there) == len(finals) else None
