"""The kinds of flags: when each is raised, what it means, and what to do; `flags` has the tests."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """When a flag is raised, what it means, and what to do."""

    raised_if: str
    means: str
    do: str


KINDS = {
    "under-trained": Kind(
        "a student diverged, had no token to learn from, or ends at over 3 x its arm's median "
        "loss, or one that was "
        "trained for twice the steps is measurably better, by more than the arm's standard error",
        "U or D is not what this attacker could reach; T compares unfinished students",
        "raise student.steps until twice as many change nothing",
    ),
    "cut answers": Kind(
        "over 5 % of the answers that a student learned from were cut at max_length or hold no "
        "final answer, or over "
        "1 % of a teacher's exam answers are unfinished",
        "students learn, or teachers are scored on, less than was said",
        "raise max_length and max_new_tokens",
    ),
    "identity": Kind(
        "T of the identity control is not 1: its interval misses 1, or is wider than 0.3 and "
        "would cover anything",
        "the instrument does not tell undefended students from others, or cannot tell them from "
        "anything",
        "train longer, take more seeds; look for a student that failed",
    ),
    "extractor": Kind(
        "the share of unparsed answers differs from the undefended arm's by over 5 points",
        "the exam may measure the form of answers and not capability",
        "read the samples; if answers are right but not parsed, repair the extractor for all arms",
    ),
    "leakage": Kind(
        "a query equals, or nearly equals, a report question",
        "the student may have memorised the exam",
        "drop the items or the queries; U, D and F share the leak",
    ),
    "degenerate text": Kind(
        "over 5 points more of the defended than of the clean answers are empty or mostly repeat "
        "themselves",
        "the defence breaks the text, which the exam's accuracy may not show",
        "lower its strength; count the cost to the honest user",
    ),
    "defence helps": Kind(
        "D is measurably above U",
        "the defence helps the attacker, or U was trained with a weaker recipe",
        "search hyper-parameters with equal trials in every arm (search.trials)",
    ),
    "sabotage": Kind(
        "D is measurably below F",
        "the defended answers leave the student worse than none; an attacker would discard it, "
        "so T counts as 0",
        "report T_eff",
    ),
    "alias": Kind(
        "every answer of every student equals those of another arm",
        "the two arms are one; the defence has no effect on what this attacker sees, or was not "
        "applied",
        "check the attacker's interface, the defence's strength and the plan's notes",
    ),
    "off target": Kind(
        "the strength that was found for a cost costs over a quarter more or less, and over a "
        "point",
        "defences that are matched to this cost are not compared at it",
        "read the loss beside the strength; take more selection questions, or another cost",
    ),
    "missing": Kind(
        "an arm has fewer finished students than were planned",
        "missing is not random: divergence and memory are outcomes",
        "run the rest; until then read T with the bounds that missing students leave",
    ),
    "unreadable": Kind(
        "the grader finds no final answer in over 20 % of a teacher's exam answers",
        "the exam measures the form of answers, and students learn from what cannot be graded",
        "read the sample; take another task or grader, or tell the teacher how to answer",
    ),
    "single sample": Kind(
        "the teacher's exam was sampled with fewer than 3 sampling seeds",
        "the cost to the honest user has no variance between samples",
        "set measure.teacher_seeds to 3 or more",
    ),
}
