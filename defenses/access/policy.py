"""Policy: what a provider does when a detector's score passes a threshold; the closed loop.

Rules are tried in their order at the end of each day, each once for an account. `throttle`: few
exchanges a day. `verify`: proof of identity, or closure. `reduce`: answers worth less to a student
(no reasoning, a summary). `downgrade`: the same in a share of requests, others each day, and
nobody is told. `canary`: marked answers, which change nothing now and prove copying later. `ban`,
`ban_cluster`: closure of the account, or of everything linked to it. `share`: its payment and
device tokens refuse sign-ups from then on, and with its address they are handed on to another
provider, where the detector `shared` knows them and `turns_away` refuses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, ShadowMonitor, gateway
from defenses.access.links import Links, LinkSettings
from defenses.access.provider import Identify, Reply
from defenses.access.share_list import NOTHING, ShareList
from distill.campaigns import NEVER, Accounts, Events, stream

Action = Literal[
    "throttle", "verify", "reduce", "downgrade", "canary", "ban", "ban_cluster", "share"
]


class Rule(AccessSettings):
    """What is done about an account whose score passes the detector's threshold for a rate of false
    alarms.
    """

    detector: str
    rate: float = Field(
        gt=0, lt=1, description="of honest customers over the horizon, one of those calibrated for"
    )
    action: Action


class Settings(LinkSettings):
    """Rules, how late they act, and what links accounts."""

    rules: tuple[Rule, ...]
    latency: int = Field(
        default=0, ge=0, le=3650, description="days between the alarm and what is done"
    )
    worth: float = Field(
        default=0.3, ge=0, le=1, description="of a reduced answer to a student; assumed"
    )
    downgraded: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="share of a downgraded account's requests that are answered less",
    )
    turns_away: bool = Field(
        default=False, description="refuses sign-ups with what another provider handed on"
    )
    limits: gateway.Settings = gateway.Settings()


class PolicyEnforcer(ShadowMonitor):
    """Live mode. `done[action]`: by account, the day on which it first happened, or `NEVER`.

    Args:
        settings: rules and limits.
        detectors: what watches.
        thresholds: by detector `[rates, segments]`.
        rates: of false alarms over the horizon, in the order of the thresholds.

    Raises:
        ValueError: a rule names a detector or a rate for which there is no threshold.
    """

    def __init__(
        self,
        settings: Settings,
        detectors: Sequence[BaseDetector],
        thresholds: Mapping[str, np.ndarray],
        rates: Sequence[float],
    ) -> None:
        super().__init__(detectors, thresholds)
        self.settings, self.rates = settings, list(rates)
        for rule in settings.rules:
            if rule.detector not in self.thresholds or rule.rate not in self.rates:
                raise ValueError(
                    f"policy: no threshold for {rule.detector} at a rate of {rule.rate:g}"
                )
        self.links, self.received = Links(settings), NOTHING

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        super().begin(accounts, days, identify)
        self.identify, self.gateway = identify, gateway.Gateway(self.settings.limits, accounts)
        self.done = {
            rule.action: np.full(accounts.capacity, NEVER, np.int16) for rule in self.settings.rules
        }
        self.acted = [np.zeros(accounts.capacity, bool) for _ in self.settings.rules]
        self.shared: dict[str, np.ndarray] = {
            name: np.zeros(0, np.uint32) for name in ("payment", "device")
        }
        self.turned_away = 0

    def receive(self, received: ShareList) -> None:
        super().receive(received)
        self.received = received

    def hands_on(self) -> ShareList:
        """What it names to another provider: the tokens of accounts that a rule shares."""
        named = self.done.get("share", np.full(self.accounts.capacity, NEVER, np.int16))
        return ShareList.of(self.accounts, named)

    def sign_up(self, day: int, ids: np.ndarray) -> np.ndarray:
        shared = [
            np.isin(getattr(self.accounts, name)[ids], held) for name, held in self.shared.items()
        ]
        if self.settings.turns_away:
            shared += [
                self.received.has(name, getattr(self.accounts, name)[ids], day)
                for name in self.shared
            ]
        refused: np.ndarray = np.any(shared, axis=0)
        self.turned_away += int(refused.sum())
        return ~refused

    def serve(self, events: Events) -> Reply:
        served = self.gateway.admit(events)
        self.look(events)
        if not {"reduce", "downgrade"} & set(self.done):
            return Reply(served)
        reduced = self._reduced(events)
        value = np.where(reduced, self.settings.worth, 1).astype(np.float32)
        return Reply(served, value, reduced)

    def _reduced(self, events: Events) -> np.ndarray:
        """Which of a day's requests are answered less: all of some accounts', a share of others',
        drawn anew each day.
        """
        reduced = np.zeros(len(events), bool)
        if "reduce" in self.done:
            reduced |= self.done["reduce"][events.account] < events.day
        if "downgrade" in self.done:
            rows = np.flatnonzero(self.done["downgrade"][events.account] < events.day)
            u = stream(events.day, "downgrade").random(len(rows), np.float32)
            reduced[rows] |= u < self.settings.downgraded
        return reduced

    def close(self, day: int) -> np.ndarray:
        gone = [np.zeros(0, np.int64)]
        for rule, acted in zip(self.settings.rules, self.acted, strict=True):
            crossed = self.crossed[rule.detector][self.rates.index(rule.rate)]
            ids = np.flatnonzero(
                (crossed <= day - self.settings.latency) & ~acted & (self.accounts.closed == NEVER)
            )
            acted[ids] = True
            if len(ids):
                gone.append(self._act(rule.action, day, ids))
        closed = np.unique(np.concatenate(gone))
        for detector in self.detectors:
            detector.on_closed(day, closed)
        return closed

    def _act(self, action: Action, day: int, ids: np.ndarray) -> np.ndarray:
        """Do it, and return which accounts it closes."""
        if action == "ban_cluster":
            cluster = self.links.of(self.accounts)
            ids = np.flatnonzero(
                np.isin(cluster, cluster[ids]) & (self.accounts.closed[: len(cluster)] == NEVER)
            )
        fresh = self.done[action][ids] == NEVER
        self.done[action][ids[fresh]] = day
        if action == "throttle":
            self.gateway.throttled[ids] = True
        if action == "share":
            for name in self.shared:
                self.shared[name] = np.union1d(self.shared[name], getattr(self.accounts, name)[ids])
        if action == "verify":
            passed = self.identify(ids)
            self.accounts.verified[ids[passed]] = True
            return ids[~passed]
        return ids if action in ("ban", "ban_cluster") else ids[:0]
