"""What a provider reads of an exchange: a recorded text of its topic, in the bucket that the
provider's encoder puts it in. The topic itself stays with the referee.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from defenses.access.encoder import TextEncoder
from distill.campaigns import Events, run_starts, stream

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIXERS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


class Texts(NamedTuple):
    """Recorded texts T, as a provider reads them, and what they are.

    `encoder`: the provider's. `group_T`: the kind of each text, from 0. `group_K`: the kind of text
    that an exchange on each topic is.
    """

    encoder: TextEncoder
    group_T: np.ndarray
    group_K: np.ndarray


class Lens:
    """A provider's view of a horizon's events.

    Every exchange on a topic has a text of that topic's kind. One prompt and one template have one
    text for each kind, all other exchanges any. Which it is follows from the exchange alone, so
    that closing one account changes no other's texts.

    Args:
        texts: recorded ones.
        seed: of the simulation.
    """

    def __init__(self, texts: Texts, seed: int) -> None:
        self.texts = texts
        self.by_group = np.argsort(texts.group_T, kind="stable")
        groups = int(texts.group_K.max()) + 1
        self.sizes = np.bincount(texts.group_T, minlength=groups).astype(np.uint64)
        self.starts = np.cumsum(self.sizes, dtype=np.int64) - self.sizes.astype(np.int64)
        self.keys = stream(seed, "texts").integers(1 << 63, size=3, dtype=np.uint64)

    def read(self, events: Events) -> Events:
        """A day's events with the numbers of their texts, and buckets in the place of topics.

        Args:
            events: of one day, in order of account.
        """
        group = self.texts.group_K[events.topic]
        any_key, template, prompt = self.keys
        drawn = mixed(any_key ^ np.uint64(events.day), events.account, places(events.account))
        drawn = np.where(events.template, mixed(template, events.template, group), drawn)
        drawn = np.where(events.prompt, mixed(prompt, events.prompt, group), drawn)
        offset = (drawn % self.sizes[group]).astype(np.int64)
        text = self.by_group[self.starts[group] + offset].astype(np.uint32)
        return replace(events, topic=self.texts.encoder.bucket_T[text], text=text)


def places(account: np.ndarray) -> np.ndarray:
    """The place of each event among its account's of the day, from 0.

    Args:
        account: numbers in order `[E]`.

    Returns:
        `[E]`.
    """
    starts = run_starts(account)
    counts = np.diff(np.append(starts, len(account)))
    placed: np.ndarray = np.arange(len(account)) - np.repeat(starts, counts)
    return placed


def mixed(key: np.uint64, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numbers that follow from two columns and a key, and look random: the finaliser of SplitMix64
    (Steele, Lea and Flood 2014), twice.

    Args:
        key: of what they are for.
        first: whole numbers `[E]`.
        second: whole numbers `[E]`.

    Returns:
        uint64 `[E]`.
    """
    mixed_E = np.full(len(first), key, np.uint64)
    for column in (first, second):
        mixed_E = (mixed_E ^ column.astype(np.uint64)) + GOLDEN
        for shift, factor in zip((30, 27), MIXERS, strict=True):
            mixed_E = (mixed_E ^ (mixed_E >> np.uint64(shift))) * factor
        mixed_E ^= mixed_E >> np.uint64(31)
    return mixed_E
