"""What an analysis may ask of rows, wherever they are: the verbs, and the words of formulas.

A formula is written once, over columns, and does not know where it runs::

    rows.sums(["arm"], {"yy": lambda c: (c["y"] - 3.0) ** 2})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Columns are arrays or Ibis expressions: both know + - * / ** and comparisons
Expression: TypeAlias = Callable[[Mapping[str, Any]], Any]

HEAD_ROWS = 4_096  # enough for a first guess of centres and quantiles


@dataclass(frozen=True)
class Groups:
    """Sums by group: `keys` and `values` hold arrays of shape (g,), `n` counts rows, int64 (g,)."""

    keys: Mapping[str, NDArray[Any]]
    n: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.n)


@dataclass(frozen=True)
class Pilot:
    """A centre and a power-of-two scale a column: squares then neither cancel nor overflow."""

    centre: dict[str, float]
    scale: dict[str, float]


class Rows(Protocol):
    """What an analysis may ask of rows, wherever they are."""

    def n_missing(self, column: str) -> int:
        """How many rows miss a number."""

    def refuse(self, bad: Expression, column: str, *, name: str, rule: str, do: str) -> None:
        """Raise ValueError with the first five values of `column` for which `bad` holds, if any."""

    def where(self, keep: Expression) -> Rows:
        """Only the rows for which `keep` holds."""

    def derive(self, columns: Mapping[str, Expression]) -> Rows:
        """Add columns."""

    def grouped(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Rows:
        """One row a group: its keys, the sums, and its number of rows as column ``n``."""

    def sums(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Groups:
        """Sums by group, in sorted order of the keys."""

    def attach(self, groups: Groups, values: Mapping[str, NDArray[np.float64]]) -> Rows:
        """Give every row its group's values as columns."""

    def accumulated(self, column: str) -> Rows:
        """Every row again under each later value of a label: day 1 belongs to days 1, 2, 3 ..."""

    def numbered(self, name: str) -> Rows:
        """Add a column that tells rows apart."""

    def order_statistics(self, column: str, ranks: Sequence[int]) -> NDArray[np.float64]:
        """Values of the given ranks (1 is the least) of a column without missing values."""

    def brought(self, columns: Sequence[str]) -> Rows:
        """These columns in memory, unless the rows are many."""

    def head(self) -> Rows:
        """The first rows, in memory: enough for a first guess."""

    def pilot(self, columns: Sequence[str], *, exact: bool = False) -> Pilot:
        """Centre and scale near the mean and the spread; from all rows if `exact`."""

    def fetch(self, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The columns as arrays."""


def column(name: str) -> Expression:
    """The column itself: for formulas."""
    return lambda c: c[name]


def select(condition: Any, value: Any) -> Any:  # noqa: ANN401 — arrays or Ibis expressions
    """`value` where the condition holds, 0 elsewhere: for formulas."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, value, 0.0)
    return condition.ifelse(as_column(value), 0.0)


def present(number: Any) -> Any:  # noqa: ANN401 — an array or an Ibis expression
    """Whether a number is there: for formulas."""
    return ~np.isnan(number) if isinstance(number, np.ndarray) else number.notnull()


def both(left: Any, right: Any) -> Any:  # noqa: ANN401 — arrays or Ibis expressions
    """Whether both conditions hold: for formulas."""
    return left & right


def as_column(value: Any) -> Any:  # noqa: ANN401 — a number or an Ibis expression
    """Constants as literals; booleans as 0 and 1."""
    import ibis  # noqa: PLC0415 — loaded only when used

    value = ibis.literal(float(value)) if isinstance(value, int | float) else value
    return value.cast("float64")


def power_of_two(reach: float) -> float:
    """Power of two at the size of `reach`; 1 for 0. Scaling by it is exact."""
    if reach <= 0:
        return 1.0
    exponent = math.floor(math.log2(reach)) if math.isfinite(reach) else 1000
    return 2.0 ** min(max(exponent, -1000), 1000)  # its inverse must be a double too
