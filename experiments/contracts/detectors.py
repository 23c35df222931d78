"""The contract of a detector: claims on one by its name, on days of a few accounts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from defenses.access import (
    Baseline,
    Day,
    Ledger,
    Line,
    NormalBaseline,
    RateBaseline,
    RhythmBaseline,
)
from defenses.access.baseline import AGES
from distill.campaigns import PLANS, SEGMENTS, TOPICS, Accounts, Events
from experiments.contracts import require
from experiments.settings.components import load_module
from experiments.settings.entries import resolve

ACCOUNTS, DAYS = 6, 4
COLUMNS = {
    "minute": np.uint16,
    "topic": np.uint8,
    "template": np.uint32,
    "phrase": np.bool_,
    "newest": np.bool_,
    "tokens_in": np.uint32,
    "tokens_out": np.uint32,
    "prompt": np.uint32,
    "address": np.uint32,
    "client": np.uint16,
}


def flat_baseline() -> Baseline:
    """A past in which every segment asks about every topic alike."""
    segments = len(SEGMENTS)
    phrase = RateBaseline(np.full(segments, 0.05), np.full(segments, 0.1))
    newest = RateBaseline(np.full((segments, 5), 0.1), np.full((segments, 5), 0.2))
    topics_SK = np.full((segments, TOPICS), 1 / TOPICS)
    repeats = RateBaseline(np.full(segments, 0.02), np.full(segments, 0.2))
    rhythm = RhythmBaseline(np.full(segments, 0.2), np.full(segments, 2.0))
    start = NormalBaseline(np.ones((segments, AGES)), np.ones((segments, AGES)))
    plan = NormalBaseline(np.ones((segments, len(PLANS))), np.ones((segments, len(PLANS))))
    line = Line(np.zeros(segments), np.full(segments, 0.2), np.ones(segments))
    return Baseline(
        topics_SK,
        np.full(segments, 1 / 11),
        phrase,
        newest,
        repeats,
        rhythm,
        start,
        plan,
        line,
        line,
    )


def accounts() -> Accounts:
    """Accounts that share nothing."""
    table = Accounts.empty(ACCOUNTS)
    unique = np.arange(ACCOUNTS, dtype=np.uint32)
    table.add(ACCOUNTS, payment=unique, device=1000 + unique, network=2000 + unique)
    return table


def days() -> list[Events]:
    """Days on which account i makes 3 + 40 i exchanges, on random topics; account 0 then rests."""
    rng, made = np.random.default_rng(0), []
    for day in range(DAYS):
        busy = np.arange(1 if day else 0, ACCOUNTS)
        account = np.repeat(busy, 3 + 40 * busy).astype(np.uint32)
        columns: dict[str, Any] = {
            name: np.zeros(len(account), kind) for name, kind in COLUMNS.items()
        }
        columns["topic"] = rng.integers(TOPICS, size=len(account)).astype(np.uint8)
        columns["template"] = rng.integers(50, size=len(account)).astype(np.uint32)
        columns["minute"] = np.sort(rng.integers(1440, size=len(account))).astype(np.uint16)
        columns["prompt"] = rng.integers(20, size=len(account)).astype(np.uint32)
        columns["address"] = rng.integers(200, size=len(account)).astype(np.uint32)
        columns["client"] = rng.integers(9, size=len(account)).astype(np.uint16)
        columns["tokens_in"] += 50
        columns["tokens_out"] += 200
        made.append(Events(day, account, **columns))
    return made


def build(name: str) -> Any:
    """The detector with the settings of its config, of a provider with a flat past."""
    return resolve("detector", name).build(flat_baseline())


def watch(detector: Any) -> np.ndarray:
    """A detector's scores after each day, by account [D, A].

    Args:
        detector: a fresh one.
    """
    table, ledger, scores = accounts(), Ledger.empty(ACCOUNTS), []
    detector.begin(table)
    for events in days():
        day = Day(events, table, ledger)
        ledger.add(day)
        detector.update(day)
        scores.append(np.array(detector.score, copy=True))
    return np.array(scores)


def it_bears_the_name_of_its_file(name: str) -> None:
    written = load_module("detector", name).Detector.name
    require(written == name, f"its class says name = {written!r}")


def it_keeps_one_score_an_account(name: str) -> None:
    scores_DA = watch(build(name))
    require(scores_DA.shape == (DAYS, ACCOUNTS), f"scores are of shape {scores_DA.shape}")
    wrong = np.isnan(scores_DA).any() or np.isposinf(scores_DA).any()
    require(not wrong, "a score is no number; too little to say anything is access.NONE")


def the_same_days_give_the_same_scores(name: str) -> None:
    require(np.array_equal(watch(build(name)), watch(build(name))), "two runs differ")


def beginning_again_forgets_what_was_seen(name: str) -> None:
    detector = build(name)
    first, second = watch(detector), watch(detector)
    require(np.array_equal(first, second), "scores after a second begin() differ from the first")


def it_changes_no_event_and_no_account(name: str) -> None:
    detector, table, ledger = build(name), accounts(), Ledger.empty(ACCOUNTS)
    detector.begin(table)
    for events, same in zip(days(), days(), strict=True):
        day = Day(events, table, ledger)
        ledger.add(day)
        detector.update(day)
        for column in ("account", *COLUMNS):
            equal = np.array_equal(getattr(events, column), getattr(same, column))
            require(equal, f"it changes the {column} of events")


CLAIMS = (
    it_bears_the_name_of_its_file,
    it_keeps_one_score_an_account,
    the_same_days_give_the_same_scores,
    beginning_again_forgets_what_was_seen,
    it_changes_no_event_and_no_account,
)
