"""What of honest traffic people do not decide: new accounts that grow, and machines that send."""

from __future__ import annotations

import numpy as np

from distill.campaigns import MINUTES, stream
from experiments.campaigns.truth import CRON, PEOPLE, STEADY
from experiments.campaigns.world import World

JOB = 30  # minutes over which a job spreads its exchanges; assumed
GROWN = 7  # ramps after which an account sends all but 0.1 % of its rate


def ramp_up(world: World, day: int, sessions: np.ndarray, exchanges: np.ndarray) -> None:
    """Take from new accounts the sessions that they do not have yet: a share of
    1 - exp(-(age + 1) / ramp) is left.

    Args:
        world: with its ramp.
        day: from 0.
        sessions: of each account, overwritten `[A]`.
        exchanges: of each account, overwritten `[A]`.
    """
    ramp, created = world.settings.ramp, world.accounts.created[: len(sessions)]
    if ramp is None:
        return
    age = day - created.astype(np.int64) + 1
    young = np.flatnonzero((age > 0) & (age < GROWN * ramp) & (sessions > 0))
    rng = stream(world.seed, "ramp", day)
    left = rng.binomial(sessions[young], -np.expm1(-age[young] / ramp))
    exchanges[young] = np.ceil(exchanges[young] * (left / sessions[young])).astype(np.int64)
    sessions[young] = left


def run_machines(
    world: World, day: int, ids: np.ndarray, exchanges: np.ndarray, minute: np.ndarray
) -> np.ndarray:
    """The exact prompt of each exchange, one of a nightly suite's or none (0).

    Machines send by their own clock, and suites run with the customer's jobs.

    Args:
        world: of the customers.
        day: from 0.
        ids: accounts that send `[A]`.
        exchanges: of each `[A]`.
        minute: of each exchange, overwritten where a machine sends `[E]`.

    Returns:
        `[E]`.
    """
    truth = world.truth
    prompt = np.zeros(len(minute), np.uint32)
    clock, prompts = truth.clock[ids], truth.prompts[ids]
    some = (clock != PEOPLE) | (prompts > 0)
    hit = np.flatnonzero(np.repeat(some, exchanges))
    row = np.repeat(np.flatnonzero(some), exchanges[some])
    rng = stream(world.seed, "machines", day)
    asks = (rng.random(len(hit), np.float32) < world.settings.suite) & (prompts[row] > 0)
    steady = (clock[row] == STEADY) & ~asks
    job = (clock[row] == CRON) | asks
    minute[hit[steady]] = rng.integers(0, MINUTES, int(steady.sum()))
    started = truth.cron[ids[row[job]]]
    minute[hit[job]] = (started + rng.integers(0, JOB, len(started))) % MINUTES
    account, which = ids[row[asks]], rng.random(int(asks.sum()))
    offset = (which * truth.prompts[account]).astype(np.uint32)
    prompt[hit[asks]] = truth.first_prompt[account] + offset
    return prompt
