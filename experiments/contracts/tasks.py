"""The contract of a task: claims on one that is built, whatever it asks."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from distill.completions import BadInput
from experiments.contracts import require
from experiments.tasks import Item, Outcome, Split, Task

SPLITS: tuple[Split, ...] = get_args(Split)
OWNED: tuple[Split, ...] = ("train", "query")  # where public questions may be from
MOST = 60  # questions of a split that are looked at
SMALL = 1000  # questions of a pool that is gone through
FEWEST = 10  # questions that an exam has
TEXTS = ("", " ", "\x00", "no answer", "\u00b3 \U0001f600 \u0663", "\n" * 9, "a" * 2000)


def items_of(task: Task, split: Split, seed: int = 0) -> list[Item]:
    """The first questions of a split, as many as are looked at or as there are.

    Args:
        task: with enough questions or too few.
        split: of its questions.
        seed: of their order.
    """
    return task.items(split, task.available(split, MOST), seed)


def every_split_has_enough_questions(task: Task) -> None:
    for split in SPLITS:
        there = task.available(split, FEWEST)
        require(there >= FEWEST, f"{split} has {there} questions, of {FEWEST} at least")


def every_worked_solution_is_graded_right(task: Task) -> None:
    for split in SPLITS:
        for item in items_of(task, split):
            _require_right(task, item, "solution")


def every_public_solution_is_graded_right(task: Task) -> None:
    there = min(task.available(split, MOST) for split in OWNED)
    for item in task.public(there, 0):
        _require_right(task, item, "public solution")


def _require_right(task: Task, item: Item, what: str) -> None:
    outcome = task.grade(item.solution, item.reference)
    require(
        outcome is Outcome.RIGHT,
        f"{item.prompt.text[:60]!r}: its {what} {item.solution[-60:]!r} is {outcome}",
    )


def the_final_answer_of_a_solution_is_its_reference(task: Task) -> None:
    for item in items_of(task, "query"):
        if item.reference != item.answer:
            continue  # it says what is right by other means than an answer
        final = task.final(item.solution)
        require(final == item.reference, f"final is {final!r}, reference {item.reference!r}")


def another_reference_is_not_right(task: Task) -> None:
    items = items_of(task, "report")
    for item, other in zip(items, items[1:], strict=False):
        outcome = task.grade(item.solution, other.reference)
        require(
            item.reference == other.reference or outcome is Outcome.WRONG,
            f"{item.solution[-60:]!r} is {outcome} where the reference is {other.reference!r}",
        )


def any_text_gets_a_grade(task: Task) -> None:
    reference = items_of(task, "report")[0].reference
    for text in TEXTS:
        outcome = task.grade(text, reference)
        require(isinstance(outcome, Outcome), f"{text[:20]!r} is graded {outcome!r}")
    require(task.grade("", reference) is Outcome.UNPARSED, "an empty answer is not unparsed")


def no_question_is_in_two_splits(task: Task) -> None:
    texts_of = {split: {item.prompt.text for item in items_of(task, split)} for split in SPLITS}
    for text, times in Counter(text for texts in texts_of.values() for text in texts).items():
        require(times == 1, f"{text[:80]!r} is in {times} splits")


def splits_stay_apart_between_seeds(task: Task) -> None:
    trained = {item.prompt.text for item in items_of(task, "train", 0)}
    both = trained & {item.prompt.text for item in items_of(task, "report", 1)}
    require(not both, f"{next(iter(both), '')[:80]!r} is a training and a report question")


def the_same_seed_gives_the_same_items(task: Task) -> None:
    for split in SPLITS:
        items = items_of(task, split, 7)
        require(items == items_of(task, split, 7), f"{split} differs between two calls")
        fewer = task.items(split, len(items) // 2, 7)
        require(items[: len(fewer)] == fewer, f"fewer {split} questions are no prefix of more")


def another_seed_gives_another_order(task: Task) -> None:
    first, second = ([i.prompt for i in items_of(task, "train", seed)] for seed in (7, 8))
    require(first != second, "seeds 7 and 8 ask the same questions in the same order")


def an_id_stands_for_one_prompt(task: Task) -> None:
    ids: dict[str, str] = {}
    for split in SPLITS:
        for item in items_of(task, split):
            text = ids.setdefault(item.prompt.id, item.prompt.text)
            require(text == item.prompt.text, f"{item.prompt.id} is the id of two prompts")


def its_alphabet_spells_all_that_it_asks(task: Task) -> None:
    require(len(task.alphabet) == len({*task.alphabet}), "a character is there twice")
    for item in items_of(task, "train"):
        more = {*item.prompt.text, *item.solution} - {*task.alphabet}
        require(not more, f"{item.prompt.text[:60]!r} has {''.join(sorted(more))!r}")


def no_answer_is_that_of_most_questions(task: Task) -> None:
    items = items_of(task, "report")
    answer, times = Counter(item.reference for item in items).most_common(1)[0]
    require(
        times <= 0.6 * len(items) + 1,
        f"{answer!r} is right for {times} of {len(items)} questions, so guessing passes",
    )


def a_wrong_split_or_number_is_one_line(task: Task) -> None:
    wrong = [("test", 1), ("train", -1)]
    if task.size <= SMALL:  # to find that a pool is exhausted takes all of it
        wrong.append(("report", task.size + 1))
    for split, number in wrong:
        try:
            task.items(split, number, 0)  # type: ignore[arg-type]  # the point of it
        except BadInput as error:
            require("\n" not in str(error), f"items({split!r}, {number}) takes several lines")
        else:
            require(False, f"items({split!r}, {number}) is no error")


CLAIMS = (
    every_split_has_enough_questions,
    every_worked_solution_is_graded_right,
    every_public_solution_is_graded_right,
    the_final_answer_of_a_solution_is_its_reference,
    another_reference_is_not_right,
    any_text_gets_a_grade,
    no_question_is_in_two_splits,
    splits_stay_apart_between_seeds,
    the_same_seed_gives_the_same_items,
    another_seed_gives_another_order,
    an_id_stands_for_one_prompt,
    its_alphabet_spells_all_that_it_asks,
    no_answer_is_that_of_most_questions,
    a_wrong_split_or_number_is_one_line,
)
