"""GSM8K (Cobbe et al. 2021): real grade-school problems, read from a folder with `train.jsonl` and
`test.jsonl`.

The training problems are the public ones, which anybody owns with their solutions. The test
problems, for which recorded teachers exist, are divided into queries, selection and report by hash.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from distill.answer_format import AnswerFormat
from distill.completions import BadInput, digest
from distill.tables import lines, once, parse_object, text_of
from experiments import tasks
from experiments.tasks import SHARES, Draft, Item, Split
from experiments.tasks.graders import gsm8k

FILES = ("train.jsonl", "test.jsonl")


class Settings(BaseModel):
    """`path`: the folder of the data; `clusters`: a JSON file of items that belong together, by
    item id the name of its cluster. Both are absolute or from where the command is run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: str = Field("../shared/data/gsm8k", min_length=1)
    clusters: str | None = Field(None, min_length=1)


class Task(tasks.Task):
    """The problems of both files, numbered in their order."""

    name: ClassVar[str] = "gsm8k"
    # As the recorded teachers write it: the answer has a line of its own.
    format = AnswerFormat(mark="A:", gap="\n", thinking="none")
    grader = gsm8k.Grader()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        folder = Path(settings.path)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise BadInput(
                f"task gsm8k: no {' and no '.join(missing)} in {folder}; get "
                "github.com/openai/grade-school-math and "
                "set 'task=gsm8k(path=\"…/grade_school_math/data\")'"
            )
        self.data = digest(
            "".join(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES)
        )
        train, test = (_problems(folder / name) for name in FILES)
        self.drafts, self.public_size = train + test, len(train)
        self.size = len(self.drafts)
        if settings.clusters:
            self.clusters = _clusters(
                Path(settings.clusters), {self.prompt(one).id for one in self.drafts}
            )
            self.data = digest(self.data + json.dumps(self.clusters, sort_keys=True))
        self.alphabet = "".join(
            sorted({letter for draft in self.drafts for letter in draft.text + draft.steps})
        )

    def draft(self, index: int) -> Draft:
        """Problem number `index`, the public ones first."""
        return self.drafts[index]

    def split(self, index: int, canonical: str) -> Split:
        """Public problems train and validate; the others are divided in the proportions of the
        other splits.
        """
        among: tuple[Split, ...] = (
            ("train", "validate") if index < self.public_size else ("query", "select", "report")
        )
        place = int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "big") / 2**64
        place *= sum(SHARES[split] for split in among)
        for split in among:
            place -= SHARES[split]
            if place < 0:
                return split
        return among[-1]  # what float rounding leaves over

    def public(self, n: int, seed: int) -> list[Item]:
        """Public problems with the solutions that people wrote."""
        return self.items("train", n, seed)

    def corpus(self) -> list[str]:
        """The public problems with their solutions."""
        return [
            text
            for draft in self.drafts[: self.public_size]
            for text in (draft.text, self.solution(draft))
        ]


def _clusters(path: Path, item_ids: set[str]) -> dict[str, str]:
    """The clusters that a file declares; BadInput where it is not one or names items that are not
    there.
    """
    try:
        clusters = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"task gsm8k: clusters: {path} cannot be read as JSON ({error})") from None
    if not isinstance(clusters, dict) or not all(
        isinstance(name, str) and name for name in clusters.values()
    ):
        raise BadInput(
            f"task gsm8k: clusters: {path} must be an object of item ids and names of clusters, "
            "as in "
            '{"gsm8k-0123456789abcdef": "passage 1"}'
        )
    if unknown := [item for item in clusters if item not in item_ids]:
        raise BadInput(
            f"task gsm8k: clusters: {path} names {len(unknown)} of {len(clusters)} items that the "
            "task does not "
            f"have, the first of them {unknown[0]!r}"
        )
    return clusters


def _problems(path: Path) -> list[Draft]:
    """The problems of a file; BadInput names a line that holds none."""
    drafts = []
    for number, line in lines(path):
        where = f"{path}: line {number}"
        row = parse_object(where, line)
        question, answer = (text_of(where, row, name) for name in ("question", "answer"))
        steps, mark, final = answer.rpartition("\n####")
        reference = final.strip().replace(",", "")
        if not question.strip():
            raise BadInput(f"{where}: question is empty")
        if not mark or not gsm8k.FORM.fullmatch(reference) or not Task.grader.read(reference):
            raise BadInput(
                f"{where}: answer must end with a line '#### ' and a number below "
                f"{gsm8k.LARGEST:g}, got {reprlib.repr(answer)}"
            )
        drafts.append(Draft(question, question, steps, reference))
    return drafts
