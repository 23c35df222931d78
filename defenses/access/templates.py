"""Template spread: prompts cut from one mould that arrive from many accounts with nothing else in
common.

Anthropic names variations of one prompt arriving tens of thousands of times across hundreds of
accounts. A template counts while it has been sent by at least `spread` unlinked clusters within one
to two windows and is in no public catalogue; an account's score is how many of its (template, day)
pairs did. Clusters are counted by linear counting (Whang et al. 1990) in a row of bits a template,
so memory does not grow with traffic. Prompts that go viral are the honest users' share of this;
evidence grows as (rate x mix x days)^2 / templates, and so many templates defeat it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import BaseDetector, Baseline, Day
from defenses.access.days import grown
from defenses.access.links import Links, LinkSettings
from distill.campaigns import Accounts, cells

BITS = 64


class Settings(LinkSettings):
    """How much evidence the detector wants, and what it looks at."""

    public: int = Field(
        default=5000,
        ge=0,
        le=1_000_000,
        description="ids up to this are in public catalogues and never count",
    )
    spread: float = Field(
        default=8.0, gt=1, le=200, description="unlinked clusters that make a template suspicious"
    )
    window: int = Field(default=14, ge=1, le=3650, description="days")


def linear_count(bits: np.ndarray) -> np.ndarray:
    """Distinct items behind a row of m bits set by hashing: -m ln(share of bits not set); half a
    bit short of full.

    Args:
        bits: `[..., m]`, whether each is set.

    Returns:
        `[...]`.
    """
    m = bits.shape[-1]
    free = np.maximum(m - bits.sum(axis=-1), 0.5)
    count: np.ndarray = -m * np.log(free / m)
    return count


def bucket(cluster: np.ndarray) -> np.ndarray:
    """A bit for each cluster number: the top bits of a multiplicative hash (Knuth 1973).

    Args:
        cluster: numbers `[...]` from 0.

    Returns:
        Places `[...]` from 0 to 63.
    """
    return ((cluster.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)).astype(
        np.intp
    )


class Detector(BaseDetector):
    """Counts exchanges on templates that many unlinked accounts share."""

    settings: Settings
    name = "templates"
    alone = False

    def __init__(self, settings: Settings, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        self.links = Links(settings)

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.score[:] = 0
        self.now = self.before = np.zeros((1, BITS), bool)

    def update(self, day: Day) -> None:
        if day.number % self.settings.window == 0:
            self.before, self.now = self.now, np.zeros_like(self.now)
        private = np.flatnonzero(day.events.template > self.settings.public)
        if not len(private):
            return
        template = day.events.template[private] - np.uint32(self.settings.public)
        highest = int(template.max())
        account, template, _ = cells(day.events.account[private], template, highest + 1)
        self.now, self.before = grown(self.now, highest + 1), grown(self.before, highest + 1)
        self.now[template, bucket(self.links.of(day.accounts)[account])] = True
        kinds = np.unique(template)
        wide = np.zeros(highest + 1, bool)
        wide[kinds] = linear_count(self.now[kinds] | self.before[kinds]) >= self.settings.spread
        hits = account[wide[template]]
        np.add.at(self.score, hits, 1)
