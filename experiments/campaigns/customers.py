"""Where honest customers send from, what they pay for, and which of them are machines.

The hard negatives of the published indicators: API customers who run around the clock,
organisations that share one key over many addresses, nightly test suites that ask the same
questions, customers on a plan that is too small for them. Every draw is from a stream of its own,
so that what else a customer does stays as it is.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from distill.campaigns import MINUTES, Accounts, stream
from distill.campaigns.origins import AGENTS, Origins
from distill.campaigns.sampling import UniqueIds
from experiments.campaigns.population import Population
from experiments.campaigns.truth import CRON, PEOPLE, STEADY, Truth


def subscribe(
    settings: Population, seed: int, name: str, accounts: Accounts, truth: Truth, ids: np.ndarray
) -> None:
    """Choose the plans of a segment's accounts: who uses more pays more, as far as `fit` says.

    A Gaussian copula between an account's log rate and its plan, with the segment's shares of
    plans.

    Args:
        settings: of the honest population.
        seed: of the simulation.
        name: of the segment.
        accounts: whose plans are written.
        truth: with the rates of the accounts.
        ids: account numbers `[n]` of the segment.
    """
    segment, rng = settings.segments[name], stream(seed, "plans", name)
    use = np.log(truth.rate[ids] / segment.median) / max(segment.sigma, 1e-9)
    noise = rng.standard_normal(len(ids))
    mixed = settings.fit * use + np.sqrt(1 - settings.fit**2) * noise
    shares = np.cumsum(segment.plans) / np.sum(segment.plans)
    accounts.plan[ids] = np.searchsorted(special.ndtri(shares[:-1]), mixed, side="right")


def settle_origins(
    settings: Population,
    seed: int,
    name: str,
    origins: Origins,
    ids: np.ndarray,
    customer: np.ndarray,
    hidden: np.ndarray,
) -> None:
    """Give a segment's customers addresses and clients, which their accounts share.

    Lognormal around the segment's medians; customers behind a VPN have `exits` times as many
    addresses.

    Args:
        settings: of the honest population.
        seed: of the simulation.
        name: of the segment.
        origins: where they are written.
        ids: account numbers `[n]` of the segment.
        customer: of each account, numbered from 0 `[n]`.
        hidden: whether each signed up behind a popular VPN exit `[n]`.
    """
    segment, rng = settings.segments[name], stream(seed, "origins", name)
    customers = int(customer[-1]) + 1
    behind = np.zeros(customers, bool)
    behind[customer[hidden]] = True
    median = segment.addresses * np.where(behind, settings.exits, 1)
    addresses = _lognormal(median, settings.spread, 10_000, rng)
    clients = _lognormal(np.full(customers, segment.clients), settings.spread / 2, AGENTS, rng)
    origins.address[ids] = origins.take(addresses)[customer]
    origins.addresses[ids] = addresses[customer]
    origins.client[ids] = rng.integers(1, AGENTS + 1, customers)[customer]
    origins.clients[ids] = clients[customer]


def _lognormal(median: np.ndarray, sigma: float, most: int, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers from 1 to `most` near a lognormal."""
    drawn = np.round(median * np.exp(sigma * rng.standard_normal(len(median))))
    return np.clip(drawn, 1, most).astype(np.int64)


def send_from(
    origins: Origins, ids: np.ndarray, addresses: int, clients: int, rng: np.random.Generator
) -> None:
    """Give each account so many addresses of its own, and clients of kinds that others have too.

    Args:
        origins: where they are written.
        ids: account numbers `[n]`.
        addresses: of each account.
        clients: of each account.
        rng: of the kinds of client.
    """
    origins.address[ids] = origins.take(np.full(len(ids), addresses))
    origins.addresses[ids] = addresses
    origins.client[ids] = rng.integers(1, AGENTS + 1, len(ids))
    origins.clients[ids] = clients


def automate(
    settings: Population,
    seed: int,
    name: str,
    prompts: UniqueIds,
    truth: Truth,
    ids: np.ndarray,
    customer: np.ndarray,
) -> None:
    """Choose which of a segment's customers are machines, and which have a nightly test suite.

    Args:
        settings: of the honest population.
        seed: of the simulation.
        name: of the segment.
        prompts: numbers of exact prompts.
        truth: where it is written.
        ids: account numbers `[n]` of the segment.
        customer: of each account, numbered from 0 `[n]`.
    """
    segment, rng = settings.segments[name], stream(seed, "machines", name)
    customers = int(customer[-1]) + 1
    u = rng.random(customers)
    clock = np.select(
        [u < segment.steady, u < segment.steady + segment.cron], [STEADY, CRON], PEOPLE
    )
    truth.clock[ids] = clock[customer]
    truth.cron[ids] = rng.integers(0, 24, customers)[customer] * (MINUTES // 24)
    tests = rng.random(customers) < segment.suites
    questions = np.where(tests, rng.integers(*settings.questions, customers, endpoint=True), 0)
    first = prompts.take(int(questions.sum()))
    start = int(first[0]) if len(first) else 0
    truth.first_prompt[ids] = (start + np.cumsum(questions) - questions)[customer]
    truth.prompts[ids] = questions[customer]
