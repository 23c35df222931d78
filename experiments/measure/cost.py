"""Exchanges as accounts and dollars (E10), and transfer at equal compute or equal cost instead of
equal exchanges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.measure.curves import monotone
from experiments.measure.scores import NotMeasurable


class Range(NamedTuple):
    """An input that is known only to lie between two ends; drawn log-uniformly where both are
    positive.
    """

    low: float
    high: float


class Inputs(NamedTuple):
    """What the conversion assumes, each as a range; all of it is printed on the card.

    Exchanges an account lives for: min(`rate_per_day` x `days_until_ban`, `monthly_quota`). Prices
    in dollars, those of tokens per million.
    """

    rate_per_day: Range
    days_until_ban: Range
    monthly_quota: Range
    price_in: Range
    price_out: Range
    price_account: Range
    price_gpu_hour: Range


class Bill(NamedTuple):
    """Median and 90 % interval."""

    median: float
    lo: float
    hi: float


def accounts(exchanges: Any, per_account: Any) -> Any:
    """ceil(n / q): accounts needed for n exchanges with a yield of q exchanges each; numbers or
    arrays.

    Args:
        exchanges: n, a number or an array.
        per_account: q, a number or an array.

    Raises:
        NotMeasurable: an account yields nothing.
    """
    if np.min(per_account) <= 0:
        raise NotMeasurable(
            f"an account must yield more than 0 exchanges, got {np.min(per_account):g}"
        )
    return np.ceil(np.asarray(exchanges) / per_account - 1e-9)


def dollars(
    exchanges: Any,
    tokens_in: float,
    tokens_out: float,
    needed: Any,
    gpu_hours: float,
    *,
    price_in: Any,
    price_out: Any,
    price_account: Any,
    price_gpu_hour: Any,
) -> Any:
    """n (tok_in p_in + tok_out p_out) / 1e6 + accounts c + GPU hours p; tokens are per exchange,
    prices per million.

    Args:
        exchanges: n.
        tokens_in: sent an exchange.
        tokens_out: received an exchange.
        needed: accounts.
        gpu_hours: of training.
        price_in: dollars a million tokens sent.
        price_out: dollars a million tokens received.
        price_account: dollars an account.
        price_gpu_hour: dollars an hour.

    Returns:
        Dollars, a number or an array as what was given.
    """
    queried = exchanges * (tokens_in * price_in + tokens_out * price_out) / 1e6
    return queried + needed * price_account + gpu_hours * price_gpu_hour


def bill(
    log_exchanges_B: np.ndarray,
    tokens_in: float,
    tokens_out: float,
    gpu_hours: float,
    inputs: Inputs,
    seed: int = 0,
) -> tuple[Bill, Bill]:
    """Accounts and dollars for an uncertain number of exchanges (draws of its logarithm) and
    uncertain inputs.

    Args:
        log_exchanges_B: natural logarithms of n.
        tokens_in: sent an exchange.
        tokens_out: received an exchange.
        gpu_hours: of training.
        inputs: stated ranges of prices and of exchanges an account.
        seed: of the draws.

    Returns:
        Accounts, and dollars.
    """
    rng, count = np.random.default_rng(seed), len(log_exchanges_B)
    d = {name: draw(rng, getattr(inputs, name), count) for name in Inputs._fields}
    asked_B = np.exp(np.asarray(log_exchanges_B, float))
    needed_B = accounts(
        asked_B, np.minimum(d["rate_per_day"] * d["days_until_ban"], d["monthly_quota"])
    )
    prices = {
        name: d[name] for name in ("price_in", "price_out", "price_account", "price_gpu_hour")
    }
    return summary(needed_B), summary(
        dollars(asked_B, tokens_in, tokens_out, needed_B, gpu_hours, **prices)
    )


def summary(value_B: np.ndarray) -> Bill:
    """Median and 90 % interval by order statistics, so that infinite draws stay infinite.

    Args:
        value_B: B draws, any unit.
    """
    middle = float(np.quantile(value_B, 0.5, method="higher"))
    low = float(np.quantile(value_B, 0.05, method="lower"))
    return Bill(middle, low, float(np.quantile(value_B, 0.95, method="higher")))


def draw(rng: np.random.Generator, ends: Range, count: int) -> np.ndarray:
    """Log-uniform draws from a range; uniform where it begins at 0.

    Args:
        rng: generator.
        ends: low and high.
        count: B.

    Returns:
        `[B]` in the range's unit.

    Raises:
        NotMeasurable: the range does not go from low to high, or begins below 0.
    """
    if ends.low > ends.high or ends.low < 0:
        raise NotMeasurable(
            f"a range is from low to high and not negative, got {ends.low} to {ends.high}"
        )
    if ends.low == 0:
        return rng.uniform(ends.low, ends.high, count)
    return np.asarray(np.exp(rng.uniform(math.log(ends.low), math.log(ends.high), count)))


def at_equal(spent: float, spent_K: Sequence[float], score_K: Sequence[float]) -> float | None:
    """What the undefended attacker gets for the same spending, from its curve; None outside the
    measured range.

    `spent_K` must rise; the curve is made monotone and read linearly in the logarithm of the
    spending.

    Args:
        spent: by the other attacker.
        spent_K: by the undefended one at K budgets, in the same unit.
        score_K: its accuracies.
    """
    if len(spent_K) < 2 or (np.diff(spent_K) <= 0).any() or not spent_K[0] <= spent <= spent_K[-1]:
        return None
    return float(np.interp(math.log(spent), np.log(spent_K), monotone(np.asarray(score_K, float))))
