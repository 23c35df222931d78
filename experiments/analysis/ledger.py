"""What an arm cost: exchanges, tokens, compute, and with stated prices accounts and dollars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis.comparisons import ArmTable
from experiments.measure import cost
from experiments.results.grades import Key
from experiments.results.schema.arms import FinishedStudent
from experiments.results.schema.measures import LedgerRow
from experiments.settings.schema import Prices

GPU_FLOPS = 1e14  # a stated price: FLOPs that a rented accelerator does in a second


@dataclass(frozen=True)
class MiddlePrices:
    """Dollars and exchanges at the geometric middle of the stated ranges."""

    exchanges_per_account: float
    price_in: float
    price_out: float
    price_account: float
    price_gpu_hour: float


def middle_prices(prices: Prices) -> MiddlePrices:
    """What accounts yield and cost where every range is at its middle.

    Args:
        prices: ranges in USD and exchanges.

    Returns:
        Geometric means of both ends.
    """

    def middle(ends: Sequence[float]) -> float:
        return math.sqrt(ends[0] * ends[1])

    lifetime = middle(prices.rate_per_day) * middle(prices.days_until_ban)
    return MiddlePrices(
        min(lifetime, middle(prices.monthly_quota)),
        middle(prices.price_in),
        middle(prices.price_out),
        middle(prices.price_account),
        middle(prices.price_gpu_hour),
    )


def ledger_row(table: ArmTable, key: Key) -> LedgerRow:
    """The ledger of an arm, means over its finished students.

    Args:
        table: the study's graded arms.
        key: of an arm.
    """
    students = table.finished(key)

    def mean(amount: Callable[[FinishedStudent], float | None]) -> float:
        return float(np.mean([amount(one) or 0 for one in students])) if students else 0.0

    exchanges, flops = mean(lambda s: s.exchanges), mean(lambda s: s.flops)
    tokens_in, tokens_out = mean(lambda s: s.tokens_in), mean(lambda s: s.tokens_out)
    prices = middle_prices(table.study.measure.prices)
    accounts = float(cost.accounts(exchanges, prices.exchanges_per_account))
    dollars = cost.dollars(
        exchanges,
        tokens_in / max(exchanges, 1.0),
        tokens_out / max(exchanges, 1.0),
        accounts,
        gpu_hours(flops),
        price_in=prices.price_in,
        price_out=prices.price_out,
        price_account=prices.price_account,
        price_gpu_hour=prices.price_gpu_hour,
    )
    return LedgerRow(
        **key._asdict(),
        exchanges=exchanges,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        student_tokens=mean(lambda s: s.student_tokens),
        steps=mean(lambda s: s.steps),
        flops=flops,
        trials=mean(lambda s: s.trials),
        accounts=accounts,
        dollars=dollars,
    )


def gpu_hours(flops: float) -> float:
    """Hours of a rented accelerator that so many FLOPs take.

    Args:
        flops: of training.
    """
    return flops / GPU_FLOPS / 3600
