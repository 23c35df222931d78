"""What a campaign acts in: where it opens accounts, and what it may imitate of honest customers.

The referee's simulator builds it (`experiments.campaigns.world`); who is honest is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from distill.campaigns import Accounts
from distill.campaigns.origins import Origins
from distill.campaigns.sampling import TopicPreferences, UniqueIds


@dataclass(frozen=True)
class CustomerRhythm:
    """How much and when honest customers of each segment S send, on the whole.

    `median_S`, `sigma_S`: exchanges a day, lognormal over customers. `session_S`: mean exchanges of
    a session, geometric; `gap_S`: mean minutes between them. `burst_S`: coefficient of variation of
    a customer's days, gamma. `weekend_S`: intensity relative to working days. `clock_SQ`: minute of
    the local day at each of Q = 65,536 quantiles. `zones`: hours from UTC, of as many customers
    each.
    """

    median_S: np.ndarray
    sigma_S: np.ndarray
    session_S: np.ndarray
    gap_S: np.ndarray
    burst_S: np.ndarray
    weekend_S: np.ndarray
    clock_SQ: np.ndarray
    zones: tuple[int, ...]


@dataclass(frozen=True)
class CustomerHabits:
    """How honest customers of each segment S ask, on the whole, as anybody may know who resells
    their requests.

    `topics_SK`: mean shares of the K topics. `concentration`: of the Dirichlet by which customers
    differ; None where all are alike; `pooled`: the same of resellers. `phrase_S`: share of prompts
    that ask for reasoning or a rubric. `public_S`, `private_S`: shares of exchanges on public
    prompt templates and on the customer's own, of which it has at most `templates_S`. `tokens_S2`:
    mean tokens in and out. `adopts_S`: share of traffic that moves to a new model in the end, half
    of it within `adoption_days`. `habit`: concentration of the Beta by which customers differ in
    phrases and adoption.
    """

    topics_SK: np.ndarray
    concentration: float | None
    phrase_S: np.ndarray
    public_S: np.ndarray
    private_S: np.ndarray
    templates_S: np.ndarray
    tokens_S2: np.ndarray
    pooled: float
    adopts_S: np.ndarray
    adoption_days: float
    habit: float
    rhythm: CustomerRhythm


class Environment(Protocol):
    """What a campaign acts in. The same seed gives the same bytes."""

    seed: int
    accounts: Accounts
    preferences: TopicPreferences
    tokens: UniqueIds
    """Payment, device and network tokens alike."""
    templates: UniqueIds
    prompts: UniqueIds
    """Exact prompts that are sent more than once."""
    habits: CustomerHabits
    origins: Origins

    def open_accounts(
        self,
        campaign: int,
        rate: float,
        *,
        segment: np.ndarray,
        created: np.ndarray | int,
        payment: np.ndarray,
        network: np.ndarray,
        verified: bool,
        plan: int,
        origins: tuple[int, int],
    ) -> np.ndarray:
        """Sign accounts of a campaign up, each on a device of its own.

        Args:
            campaign: its number.
            rate: exchanges a day that each is to send.
            segment: as what each of the n accounts signs up, `[n]`.
            created: days on which they signed up, `[n]` or one for all; below 0 before the first.
            payment: tokens `[n]`, equal where payment is shared.
            network: tokens `[n]`, equal where the exit address is shared.
            verified: whether all of them can prove an identity.
            plan: what each pays for, a number in `PLANS`.
            origins: addresses and clients that each sends from, its own.

        Returns:
            Account numbers `[n]`.
        """

    def public_templates(self, day: int) -> np.ndarray:
        """The public prompt template at each of Q = 65,536 quantiles of a day's exchanges on them.

        Args:
            day: from 0.

        Returns:
            Template ids `[Q]`.
        """
