"""Query curves: accuracy against exchanges, and how many times more a defence makes them."""

from __future__ import annotations

from typing import Literal

from experiments.results.schema.words import Attacker, Defense, OpenHigh, OpenLow, Task, Value
from experiments.results.table import Number, Real, Table


class MultiplierResult(Table):
    """How many times more exchanges a level of the capability takes under the defence."""

    level: Real
    """Share of U(n_max) - F."""
    sign: Literal["=", ">", "<", "?"]
    """`=` a value, `>` or `<` a bound, `?` not measurable."""
    value: Value
    lo: OpenLow
    hi: OpenHigh
    unbounded: Real
    """Share of the draws without an upper end."""
    text: str
    """As it is shown."""


class CommonShape(Table):
    """M if the defence shifts one common curve, and the test of that assumption."""

    value: Value
    p_shift: Number
    """p-value of the assumption."""
    shown: bool
    """Whether it fits and agrees with M."""


class AreaBetween(Table):
    """Mean over log-spaced budgets of U(n) - D(n)."""

    value: Value
    se: Number
    """Standard error."""
    df: Number
    """Degrees of freedom."""
    lo: OpenLow
    hi: OpenHigh


class BillResult(Table):
    """Median and 90 % interval; null is unbounded."""

    median: Number
    """Null is unbounded."""
    lo: OpenLow
    hi: OpenHigh


class HalfBill(Table):
    """What half of the capability costs one attacker, from stated ranges."""

    accounts: BillResult
    dollars: BillResult
    lower_bound: bool
    """Whether its curve never got there."""


class CurveBill(Table):
    """The same of the undefended and of the defended attacker."""

    undefended: HalfBill
    defended: HalfBill

    def items(self) -> list[tuple[str, HalfBill]]:
        return [("undefended", self.undefended), ("defended", self.defended)]


class CurveResult(Table):
    """Accuracy against exchanges; M and what follows are set of a defence with enough budgets."""

    task: Task
    attacker: Attacker
    defense: Defense
    budgets: list[int]
    """Questions, rising."""
    zero: Real
    """The untrained student's accuracy, n = 0."""
    values: list[Real]
    """Accuracy by budget, a share."""
    lo: list[Real]
    """Lower ends of their intervals."""
    hi: list[Real]
    """Upper ends."""
    own_data: list[Real]
    """Accuracy of a student of the attacker's own data, by budget."""
    falls: bool
    """Whether the curve falls somewhere."""
    no_multiplier: str = ""
    """Why there is no M, where budgets are enough and lie too far apart."""
    multipliers: list[MultiplierResult] = []
    common_shape: CommonShape | None = None
    area_between: AreaBetween | None = None
    bill: CurveBill | None = None
    below_minimum: bool = False
    """Whether budgets, seeds or items are fewer than a claim takes."""

    @property
    def is_compared(self) -> bool:
        """Whether it is read for M, or said why not."""
        return bool(self.no_multiplier or self.multipliers)
