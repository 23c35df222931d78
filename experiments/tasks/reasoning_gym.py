"""Problems of reasoning-gym (Stojanovski et al. 2025, 2505.24760): any of its generators, drawn
fresh and graded by its own scorers.

Question i of a generator is drawn from seed + i, so neighbouring seeds share nearly all questions.
Splits are therefore by the text alone: a question is in one of them, whatever seed drew it. The
scorers give partial credit; only 1.0 is right.
"""

from __future__ import annotations

import functools
import json
import re
import string
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import islice
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Prompt, digest
from experiments import tasks
from experiments.tasks import Draft, Split, graders

TRIED = "0.1.25"  # the version that REFUSED and COSTLY were found with
SYSTEM = (
    "Think step by step. Then give the final answer alone, as <answer>your answer</answer>, in the "
    "form that the question asks for."
)
HASHES = "its questions or answers differ between two processes (PYTHONHASHSEED)"
NO_ANSWER = "its questions come without an answer, so nothing can be learned from them"
SLOW = "twenty of its questions took more than 25 s"
EVALUATES = "its scorer evaluates answers as Python, so that an answer can do anything"
REFUSED = {
    **dict.fromkeys(
        (
            "codeio",
            "isomorphic_strings",
            "knight_swap",
            "list_functions",
            "ransom_note",
            "word_ladder",
        ),
        HASHES,
    ),
    **dict.fromkeys(
        (
            "binary_matrix",
            "countdown",
            "intermediate_integration",
            "n_queens",
            "polynomial_multiplication",
            "puzzle24",
            "simple_integration",
            "spiral_matrix",
            "string_insertion",
        ),
        EVALUATES,
    ),
    **dict.fromkeys(
        ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"), NO_ANSWER
    ),
    **dict.fromkeys(("futoshiki", "zebra_puzzles"), SLOW),
    "composite": "it is made of other generators; name those",
    "game_of_life_halting": "its scorer gives any text full marks",
}
"""Generators that cannot be an exam, and why; `tests/reasoning_gym_survey.py` finds them, and a
test those that evaluate.
"""
TIMES, LEAST = 10, 10
"""A number of `config` is at most so many times the library's own, or so much."""
COSTLY = {
    **dict.fromkeys(("dice", "maze", "modulo_grid", "rectangle_count", "rotate_matrix"), 3),
    **dict.fromkeys(
        (
            "arc_1d",
            "basic_arithmetic",
            "game_of_life",
            "jugs",
            "knights_knaves",
            "number_sequence",
            "palindrome_partitioning",
            "polynomial_equations",
            "quantum_lock",
            "rearc",
            "rotten_oranges",
            "sokoban",
            "tower_of_hanoi",
        ),
        1,
    ),
}
"""How many times the library's own a number may be of generators whose work grows faster than it:
beyond that 200 questions took more than 2 s, or did not end.
"""
WORD = re.compile(r".|[\w -]{1,100}")
"""Texts of `config`: operators and names, and no places."""
EXACT = ("coin_flip",)
EXPONENT = re.compile(r"[eE][+-]?\d{4}")
"""Scorers that write a number out in full, and what no memory holds then."""
KEPT = 50_000  # questions that are remembered


class Settings(BaseModel):
    """`generators`: names of reasoning-gym's. `config`: settings of theirs, the same for each.
    `seed` draws the first question of each, which has `size`. `format`: how answers look.
    `system`: the system prompt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    generators: list[str] = Field(default=["chain_sum"], min_length=1, max_length=200)
    config: dict[str, Any] = {}
    seed: int = Field(default=1_000_000, ge=0, le=10_000_000)
    size: int = Field(default=10_000, ge=1, le=1_000_000)
    format: AnswerFormat = AnswerFormat(kind="tags")
    system: str = SYSTEM


class Generators:
    """Generators by name, and their questions by number.

    Args:
        settings: names of generators, and their sizes.

    Raises:
        BadInput: the package is missing; there is no such generator, or it is refused; a setting
            is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self.library = _library()
        self.names = settings.generators
        self.made = [self._make(name, settings) for name in self.names]

    def _make(self, name: str, settings: Settings) -> Any:
        from reasoning_gym.factory import DATASETS

        if name in REFUSED:
            raise BadInput(f"task reasoning_gym: {name} is refused: {REFUSED[name]}")
        if name not in DATASETS:
            there = ", ".join(sorted({*DATASETS} - {*REFUSED}))
            raise BadInput(f"task reasoning_gym: no generator {name[:80]!r} (there are: {there})")
        _check_config(name, settings.config, DATASETS[name][1])
        more = {"seed": settings.seed, "size": settings.size} | settings.config
        try:
            return self.library.create_dataset(name, **more)
        except Exception as error:  # its own checks are of several kinds
            raise _failed(name, error) from error

    def entry(self, which: int, index: int) -> dict[str, Any]:
        """Question number `index` of a generator.

        Args:
            which: of `names`.
            index: from 0.

        Raises:
            BadInput: it cannot be drawn with these settings.
        """
        try:
            return dict(self.made[which][index])
        except Exception as error:  # settings that it does not check
            raise _failed(f"{self.names[which]}: question {index}", error) from error

    def right(self, which: int, index: int, answer: str) -> bool:
        """Whether an answer has full marks; one that the scorer fails on has none.

        Args:
            which: of `names`.
            index: of the question.
            answer: of a model.
        """
        if self.names[which] in EXACT and EXPONENT.search(answer):
            return False
        try:
            score = self.made[which].score_answer(answer, self.entry(which, index))
        except Exception:  # scorers are handed whatever a model says
            return False
        return bool(score == 1.0)


def _failed(what: str, error: Exception) -> BadInput:
    line = " ".join(str(error).split())[:200]
    return BadInput(f"task reasoning_gym: {what}: {type(error).__name__}: {line}")


def _check_config(name: str, config: Mapping[str, Any], kind: Any) -> None:
    """BadInput for a setting of our own, a text that may be a place, or a number so far from the
    library's own that a generator would fill the memory or never end.
    """
    for key, value in config.items():
        where = f"task reasoning_gym: {name}: config.{key}"
        if key in ("seed", "size"):
            raise BadInput(f"{where}: is a setting of the task: reasoning_gym({key}={value})")
        most = _most(name, key, kind)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict | list):
                raise BadInput(f"{where}: must be a number, true, false, a text or a list of them")
            if isinstance(inner, str) and not WORD.fullmatch(inner):
                raise BadInput(
                    f"{where}: must be one character, or letters, digits, spaces and - (got "
                    f"{inner[:80]!r})"
                )
            if isinstance(inner, int | float) and abs(inner) > most:
                raise BadInput(f"{where}: must be from {-most:g} to {most:g} (got {inner:g})")


def _most(name: str, key: str, kind: Any) -> float:
    """Of a number, by the library's own values of it and of its other end."""
    stem = key.removeprefix("min_").removeprefix("max_")
    values = [getattr(kind, place, None) for place in (key, f"min_{stem}", f"max_{stem}")]
    numbers = [abs(value) for value in values if isinstance(value, int | float)]
    most = COSTLY.get(name, TIMES) * max(numbers, default=LEAST)
    return most if name in COSTLY else max(most, LEAST)


def _library() -> Any:
    try:
        import reasoning_gym
    except ImportError:
        raise BadInput(
            "task reasoning_gym: the package is missing; pip install 'distill-resist[real]'"
        ) from None
    return reasoning_gym


class Grader(graders.Grader):
    """A generator's own scorer; a reference is JSON of the generator's name, a number and the
    answer.

    Args:
        generators: whose scorers it asks.
    """

    _generators: Generators = PrivateAttr()

    def __init__(self, generators: Generators) -> None:
        super().__init__()
        self._generators = generators

    def read(self, final: str) -> str | None:
        """The answer as it is, without space around it."""
        return final.strip() or None

    def same(self, answer: str, reference: str) -> bool:
        """Whether the scorer gives full marks."""
        entry = json.loads(reference)
        which = self._generators.names.index(entry["generator"])
        return self._generators.right(which, entry["index"], answer)

    def check(self, reference: str) -> None:
        """A reference must be an entry whose scorer calls its own answer right.

        Raises:
            BadInput: it does not.
        """
        entry = json.loads(reference)
        if not self.same(entry["answer"], reference):
            raise BadInput(f"{entry['generator']}: its scorer calls its own answer wrong")


class Task(tasks.Task):
    """The questions of all generators, one of each in turn."""

    name: ClassVar[str] = "reasoning_gym"

    def __init__(self, settings: Settings) -> None:
        self.settings, self.format = settings, settings.format
        if len({*settings.generators}) < len(settings.generators):
            raise BadInput("task reasoning_gym: a generator is named twice")
        self.generators = Generators(settings)
        self.grader = Grader(self.generators)
        self.size = settings.size * len(settings.generators)
        version = metadata.version("reasoning-gym")
        self.data = digest(f"reasoning_gym {version}")
        if version != TRIED:
            self.facts = (
                f"reasoning-gym {version} is installed; what is refused was found with {TRIED}",
            )
        self._draft = functools.lru_cache(KEPT)(self._drawn)
        self.alphabet = "".join(sorted({*string.printable[:95], "\n", *_letters(self)}))

    def draft(self, index: int) -> Draft | None:
        """Question number `index`, or None where it has letters that no question before had."""
        draft = self._draft(index)
        return draft if {*draft.text, *draft.answer} <= {*self.alphabet} else None

    def _drawn(self, index: int) -> Draft:
        number, which = divmod(index, len(self.generators.names))
        entry = self.generators.entry(which, number)
        answer, name = str(entry["answer"]).strip(), self.generators.names[which]
        reference = json.dumps({"generator": name, "index": number, "answer": answer})
        return Draft(" ".join(entry["question"].split()), entry["question"], "", answer, reference)

    def available(self, split: Split, n: int) -> int:
        """How many different questions a split has, as far as n: they are drawn."""
        return sum(1 for _ in islice(self._drafts(split, 0), n))

    def prompt(self, draft: Draft) -> Prompt:
        """The question behind the system prompt."""
        bare = super().prompt(draft)
        return Prompt(bare.id, bare.text, system=self.settings.system)


def _letters(task: Task, sample: int = 200) -> Sequence[str]:
    """The letters of the first questions and of how answers look."""
    drafts = [task._draft(index) for index in range(min(sample, task.size))]
    return "".join([text for one in drafts for text in (one.text, task.solution(one))])
