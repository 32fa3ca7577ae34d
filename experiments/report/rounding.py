"""Rounding that hides the last bits, in which two runs on several threads differ.

A difference of two levels loses digits where it is near 0: its error is as large as that of the
levels. So it is rounded by the size of the levels, not by its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

AMOUNT, DERIVED, PROBABILITY, DECIMALS = 12, 10, 9, 9

_AMOUNTS = frozenset(
    {
        "estimate",
        "low",
        "high",
        "control_level",
        "always_valid_low",
        "always_valid_high",
        "unadjusted_estimate",
    }
)
_PROBABILITIES = frozenset({"p_value", "p_adjusted"})
_RELATIVE = frozenset({"relative", "relative_low", "relative_high"})
_AROUND_0 = frozenset({"variance_reduction", "mean_weight_z"})


def rounded_to(number: float, digits: int, *, size: float = 0.0) -> float:
    """A number with so many significant digits of whatever is larger, itself or `size`.

    Parameters
    ----------
    number : float
        What is not finite stays as it is.
    digits : int
    size : float
        Of the numbers that it is a difference of.

    Returns
    -------
    float
        Never a negative 0.

    Examples
    --------
    >>> rounded_to(0.123456789, 4), rounded_to(0.123456789, 4, size=50.0)
    (0.1235, 0.12)
    """
    largest = max(abs(number), abs(size))
    if not math.isfinite(largest) or largest == 0:
        return number + 0.0
    # Read off the rounded size: 0.999... and 1.000... are one size in two runs.
    exponent = int(f"{largest:.5e}".split("e")[1])
    return round(number, digits - 1 - exponent) + 0.0


def rounded_row(row: Mapping[str, Any], *, level: float | None = None) -> dict[str, Any]:
    """A row of a table, each number rounded by what its column holds.

    Parameters
    ----------
    row : mapping of str to value
        Value by column.
    level : float, optional
        Size of the levels that the row's amounts are differences of.

    Returns
    -------
    dict
        Amounts have 12 significant digits of the larger of themselves and `level`, but always six
        of their standard error; relative effects 12 of the larger of themselves and 1; p-values 9;
        what else is derived (standard errors, degrees of freedom, diagnostics) 10; what is 0 where
        nothing happened, such as the variance reduction, 9 decimals.
    """
    error = row.get("std_error")
    size = min(level or 0.0, 1e6 * error if isinstance(error, float) and error > 0 else math.inf)
    return {
        name: _rounded(name, value, size) if isinstance(value, float) else value
        for name, value in row.items()
    }


def _rounded(name: str, value: float, level: float) -> float:
    """One number by the name of its column."""
    if name in _AMOUNTS:
        return rounded_to(value, AMOUNT, size=level)
    if name in _RELATIVE:
        return rounded_to(value, AMOUNT, size=1.0)
    if name in _AROUND_0:
        return round(value, DECIMALS) + 0.0
    return rounded_to(value, PROBABILITY if name in _PROBABILITIES else DERIVED)


def json_rounded(value: Any) -> Any:  # noqa: ANN401 — a JSON value of any kind
    """Plain JSON values with numbers rounded to 12 significant digits; NaN (a gap) is None."""
    if isinstance(value, Mapping):
        return {str(key): json_rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_rounded(entry) for entry in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value
    number = float(value)
    if number != number:
        return None
    return float(f"{number:.12g}") if not number.is_integer() or abs(number) > 1e15 else number
