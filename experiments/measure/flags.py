"""Automatic flags: what a careful reviewer would ask about an arm before believing its number.

Each test takes plain evidence and gives a sentence with the figure, or nothing.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from experiments.measure.contrast import contrast
from experiments.measure.scores import NotMeasurable, Scores
from experiments.measure.text import distinct as distinct_grams
from experiments.measure.transfer import Transfer, normalised_transfer
from experiments.measure.utility import paired_difference


def under_trained(
    losses: Sequence[Sequence[float | None]], diverged: Sequence[bool], tokens: Sequence[int] = ()
) -> str:
    """Students of one arm that diverged, learned from no `tokens` at all, or end at over 3 x the
    arm's median loss.

    Students of an arm learn the same kind of answers, so their losses end alike unless one has not
    learned yet. The last loss itself says nothing, as answers that were perturbed cannot be
    predicted by anybody.

    Args:
        losses: of each student, nats a token; None where it was no number.
        diverged: of each student.
        tokens: with loss, of each student.
    """
    faults = [f"{sum(diverged)} of {len(diverged)} diverged"] if any(diverged) else []
    if 0 in tokens:
        faults.append(f"{[*tokens].count(0)} of {len(tokens)} learned from no token at all")
    last = [one[-1] for one in losses if one and one[-1] is not None]
    middle = float(np.median(last)) if last else 0.0
    over = [one for one in last if middle > 0 and one > 3 * middle]
    if over:
        faults.append(
            f"{len(over)} of {len(losses)} end at over 3 x the median loss ({max(over):.2g}, "
            f"median {middle:.2g})"
        )
    return "; ".join(faults)


class PlateauRun(NamedTuple):
    """What twice the steps change for one student: points of accuracy with the paired interval over
    items.

    `moved`: measurably up, and by more than one standard error of its arm's mean.
    """

    change: float
    lo: float
    hi: float
    moved: bool


def longer(
    once_N: np.ndarray, twice_N: np.ndarray, arm_se: float, alpha: float = 0.05
) -> PlateauRun:
    """A student trained for twice the steps against the same student as it was (right or wrong on N
    items).

    Args:
        once_N: 1 for right, else 0.
        twice_N: the same after twice the steps.
        arm_se: standard error of its arm's mean, a share.
        alpha: level of the two-sided interval.
    """
    gained, lost = (float((gap > 0).sum()) for gap in (twice_N - once_N, once_N - twice_N))
    lo, hi = paired_difference(gained, lost, len(once_N), alpha)
    change = float(np.mean(twice_N) - np.mean(once_N))
    return PlateauRun(change, lo, hi, bool(lo > 0 and change > arm_se))


def cut(cut: float, no_final: float, most: float = 0.05) -> str:
    """Shares of an arm's training answers that were cut at max_length, and that hold no final
    answer.

    Args:
        cut: share that was cut.
        no_final: share without a final answer.
        most: share from which it is flagged.
    """
    faults = [
        f"{100 * share:.0f} % {what}"
        for share, what in ((cut, "cut at max_length"), (no_final, "without a final answer"))
        if share > most
    ]
    return f"of the training answers {' and '.join(faults)}" if faults else ""


def unfinished(share: float, most: float = 0.01) -> str:
    """Share of a teacher's exam answers that ran into max_new_tokens.

    Args:
        share: in [0, 1].
        most: share from which it is flagged.
    """
    return f"{100 * share:.0f} % of its exam answers are unfinished" if share > most else ""


def unreadable(texts: Sequence[str], unparsed: Sequence[bool], most: float = 0.2) -> str:
    """A teacher's exam answers, and of each whether the grader finds no final answer in it.

    Args:
        texts: answers.
        unparsed: of each.
        most: share from which it is flagged.
    """
    if np.mean(unparsed) <= most:
        return ""
    sample = next(text for text, none in zip(texts, unparsed, strict=True) if none)
    shown = sample if len(sample) <= 160 else f"{sample[:160]}..."
    return f"{100 * np.mean(unparsed):.0f} % of its exam answers cannot be read, such as {shown!r}"


def identity(alone: Transfer, together: Transfer, widest: float = 0.3) -> str:
    """The identity control's T must have an interval that is narrow enough to say something, and
    one that covers 1.

    Args:
        alone: T at the study's level.
        together: T at the level that each control has where all have the study's together.
        widest: interval that still says something.
    """
    # Of many controls one misses 1 by chance, so each covers at its share of the level; how much
    # an interval says does not depend on how many there are.
    lo, hi = alone.lo, alone.hi
    if lo is None or hi is None or together.lo is None or together.hi is None:
        return "T has no interval"
    if not together.lo <= 1 <= together.hi:
        return f"T in [{together.lo:.2f}, {together.hi:.2f}] misses 1"
    return f"T in [{lo:.2f}, {hi:.2f}] is wider than {widest:g}" if hi - lo > widest else ""


def extractor(unparsed: float, undefended: float, most: float = 0.05) -> str:
    """Difference of the shares of unparsed answers.

    Args:
        unparsed: share behind the defence.
        undefended: share without it.
        most: difference from which it is flagged.
    """
    gap = unparsed - undefended
    return (
        f"{100 * unparsed:.1f} % unparsed, undefended {100 * undefended:.1f} %"
        if abs(gap) > most
        else ""
    )


def _words(text: str) -> frozenset[str]:
    plain = re.findall(r"\w+|[^\w\s]", text.lower())
    return frozenset(" ".join(plain[i : i + 4]) for i in range(max(1, len(plain) - 3)))


def leaked(queries: Iterable[str], questions: Iterable[str], near: float = 0.9) -> list[int]:
    """Which report questions a query equals up to case and spaces, or shares `near` of its word
    4-grams with (Jaccard).

    Candidates come from an index of 4-grams, so the work grows with the text and not with pairs.

    Args:
        queries: texts that the student was trained on.
        questions: texts of the exam.
        near: Jaccard similarity from which two texts are one.

    Returns:
        Places of the questions.
    """
    grams_by_query = [_words(text) for text in dict.fromkeys(queries)]
    index: dict[str, list[int]] = {}
    for i, grams in enumerate(grams_by_query):
        for gram in grams:
            index.setdefault(gram, []).append(i)
    near_copies = []
    for j, text in enumerate(questions):
        grams = _words(text)
        shared = Counter(itertools.chain.from_iterable(index.get(gram, ()) for gram in grams))
        if any(n / (len(grams) + len(grams_by_query[i]) - n) >= near for i, n in shared.items()):
            near_copies.append(j)
    return near_copies


def clusters(questions: Sequence[str], declared: Sequence[str] = ()) -> np.ndarray:
    """One label an item `[N]`; items of one text, up to case and spaces, or of one declared name
    share theirs.

    What is linked by either belongs together, however many links away; an item without a name
    declares nothing.

    Args:
        questions: texts of N items.
        declared: their clusters' names, empty where there is none.
    """
    texts = [("text", " ".join(text.lower().split())) for text in questions]
    names = [
        ("name", name) if name else text
        for name, text in zip(declared or [""] * len(texts), texts, strict=True)
    ]
    places = {key: i for i, key in enumerate(dict.fromkeys([*texts, *names]))}
    ends = [[places[key] for key in keys] for keys in (texts, names)]
    links = sparse.coo_array((np.ones(len(texts)), ends), shape=(len(places),) * 2)
    return np.asarray(sparse.csgraph.connected_components(links, directed=False)[1][ends[0]])


def repeats_itself(text: str) -> bool:
    """Empty, or most of its character 8-grams occur more than once (distinct-n below one half, Li
    et al. 2016).
    """
    return not text.strip() or (len(text) >= 16 + 7 and distinct_grams(text, 8) < 0.5)


def degenerate(clean: Sequence[str], defended: Sequence[str], most: float = 0.05) -> str:
    """Share of empty or repeating answers, against the clean teacher's.

    Args:
        clean: answers.
        defended: answers.
        most: difference of the shares from which it is flagged.
    """
    before = float(np.mean([repeats_itself(text) for text in clean]))
    after = float(np.mean([repeats_itself(text) for text in defended]))
    return (
        f"{100 * after:.0f} % of the defended answers are empty or repeat themselves, clean "
        f"{100 * before:.0f} %"
        if after - before > most
        else ""
    )


def off_target(loss: float, points: float) -> str:
    """The loss (points) that the strength found has on selection questions, where it is not the one
    that was asked for (points).

    Args:
        loss: points.
        points: that were asked for.
    """
    if abs(loss - points) <= max(1.0, points / 4):
        return ""
    return f"{loss:.1f} points are lost at the strength found, {points:g} were asked for"


def helps(
    undefended: Scores, defended: Scores, alpha: float = 0.05, clusters: np.ndarray | None = None
) -> str:
    """D - U with its interval, where that lies above 0.

    Args:
        undefended: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        defended: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    e = contrast([undefended, defended], [-1, 1], alpha=alpha, clusters=clusters)
    return (
        f"D - U = {100 * e.value:+.1f} points [{100 * e.lo:.1f}, {100 * e.hi:.1f}]"
        if e.lo > 0
        else ""
    )


def sabotage(
    floor: Scores, defended: Scores, alpha: float = 0.05, clusters: np.ndarray | None = None
) -> str:
    """D - F with its interval, where that lies below 0.

    Args:
        floor: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        defended: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    e = contrast([floor, defended], [-1, 1], alpha=alpha, clusters=clusters)
    return (
        f"D - F = {100 * e.value:+.1f} points [{100 * e.lo:.1f}, {100 * e.hi:.1f}]"
        if e.hi < 0
        else ""
    )


def aliases(outputs: Mapping[str, str]) -> dict[str, str]:
    """By name, the first other arm whose outputs have the same hash.

    Args:
        outputs: hash by name, in the order of the study.

    Returns:
        Names without a twin before them are left out.
    """
    first: dict[str, str] = {}
    return {
        name: first[digest]
        for name, digest in outputs.items()
        if first.setdefault(digest, name) != name
    }


def distinct(outputs: Mapping[str, str]) -> None:
    """Refuse arms that have the same outputs.

    Args:
        outputs: a digest of each arm's, by its name.

    Raises:
        NotMeasurable: two have.
    """
    for name, other in aliases(outputs).items():
        raise NotMeasurable(f"arms are aliases: {name} and {other} have the same outputs")


class Bounds(NamedTuple):
    """T as finished, and if every missing defended student had scored as F or as U."""

    available: float
    as_floor: float
    as_undefended: float


def bounds_if_missing(
    floor: np.ndarray, undefended: np.ndarray, defended: np.ndarray, planned: int
) -> Bounds:
    """What `planned` - S missing students could make of T.

    Args:
        floor: shares `[S, N]`.
        undefended: shares `[S, N]`.
        defended: shares `[S, N]` of those that finished.
        planned: students.

    Raises:
        NotMeasurable: U is not above F.
    """
    F, U, D, S = floor.mean(), undefended.mean(), defended.mean(), len(defended)
    if U <= F:
        raise NotMeasurable("T has no denominator: U is not above F")
    filled = [(S * D + (planned - S) * worst) / planned for worst in (F, U)]
    return Bounds(*(float(normalised_transfer(F, U, accuracy)) for accuracy in (D, *filled)))
