"""Observed times: numbers, dates, timestamps or text, coded by their sorted distinct values."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from causal.frame import decoded_column
from causal.values import is_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from causal.frame import Column
    from causal.values import JsonScalar

_MONTH_DAYS = 28  # calendars with steps of at least so many days are compared by month
_DIRECT = 8  # whole numbers within so many times their count are coded by a table


@dataclass(frozen=True, slots=True, eq=False)
class TimeColumn:
    """A column of times: `codes` int64 (n,) into sorted `levels`, -1 where missing.

    kind : "number", "calendar", "instant" (with a time zone; in UTC) or "text"
    levels : int64, float64, datetime64[us] or text
    """

    kind: str
    codes: NDArray[np.int64]
    levels: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """The distinct observed times in order; a period is a position among them.

    Parameters
    ----------
    kind : {"number", "calendar", "instant", "text"}
        An instant is a timestamp with a time zone, kept in UTC.
    values : array (T,)
        int64, float64, datetime64[us] or text, ascending.
    """

    kind: str
    values: NDArray[Any]

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Times):
            return NotImplemented
        return self.kind == other.kind and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.kind, self.labels))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        instants = self.values.dtype.kind == "M"
        plain = self.values.astype(np.int64) if instants else self.values
        return {"kind": self.kind, "values": plain.tolist()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Times:
        """Times from what `to_dict` returned."""
        plain = np.array(d["values"], dtype=object if d["kind"] == "text" else None)
        calendar = d["kind"] in ("calendar", "instant")
        return cls(d["kind"], plain.astype("datetime64[us]") if calendar else plain)

    @property
    def labels(self) -> tuple[JsonScalar, ...]:
        """JSON scalars: numbers as they are, dates and timestamps as ISO text."""
        return as_labels(self.values)

    def comparable(self, value: object, role: str) -> Any:  # noqa: ANN401 — of the times' kind
        """A value that the user gave, of the kind of the times.

        Raises
        ------
        TypeError
            If it is of another kind; named by `role`.
        """
        if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
            value = value.item()
        if self.kind == "number" and is_number(value):
            return value
        if self.kind == "text" and isinstance(value, str):
            return value
        do = "convert it first"
        if self.values.dtype.kind == "M" and isinstance(value, str | dt.date | np.datetime64):
            try:
                zoned, instant = _instant(value)
                if zoned == (self.kind == "instant"):
                    return instant
                do = "the times have a zone: give it one, such as '2026-05-03 00:00+08:00'"
                do = "the times have no zone: leave it out" if zoned else do
            except ValueError:
                pass
        raise TypeError(
            f"{role} must be a time like {self.labels[0]!r}; got {plain(value)!r}; {do}"
        )

    def position(self, value: object, role: str) -> int:
        """Position of the first observed time at or after `value`; `len(self)` after the last."""
        return int(np.searchsorted(self.values, self.comparable(value, role)))

    def index_of(self, value: object, role: str) -> int:
        """Position of an observed time.

        Raises
        ------
        ValueError
            If it was not observed; the nearest times are shown.
        """
        wanted = self.comparable(value, role)
        at = int(np.searchsorted(self.values, wanted))
        if at == len(self) or self.values[at] != wanted:
            near = self.labels[max(at - 2, 0) : at + 2]
            raise ValueError(
                f"{role} must be one of the observed times; got {plain(value)!r}; name one of "
                f"them, such as {', '.join(map(repr, near))}"
            )
        return at

    def positions(self, labels: list[Any]) -> NDArray[np.int64]:
        """Positions of observed times that come as labels: numbers, or text of dates."""
        values = np.array(labels, dtype=None if self.kind == "number" else object)
        if self.values.dtype.kind == "M":
            values = pd.to_datetime(pd.Series(labels, dtype=object)).to_numpy("datetime64[us]")
        return np.searchsorted(self.values, values).astype(np.int64)

    def gaps(self) -> list[tuple[JsonScalar, JsonScalar]]:
        """Neighbours between which whole numbers, days or months are skipped."""
        steps = self._steps()
        if len(steps) < 2:
            return []
        wide = np.flatnonzero(steps > steps.min())
        return [(self.labels[j], self.labels[j + 1]) for j in wide]

    def _steps(self) -> NDArray[np.int64]:
        """Steps between neighbours, where the calendar is one that can have gaps; else none."""
        nothing = np.zeros(0, dtype=np.int64)
        if self.values.dtype.kind == "i":
            return np.diff(_in_a_row(self.values))
        if self.kind != "calendar":
            return nothing
        days = self.values.astype("datetime64[D]")
        if (days != self.values).any():
            return nothing
        steps = np.diff(days.astype(np.int64))
        if len(steps) > 0 and steps.min() >= _MONTH_DAYS:
            steps = np.diff(days.astype("datetime64[M]").astype(np.int64))
        return np.asarray(steps, dtype=np.int64)


def _in_a_row(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers such that neighbours differ by 1; 202612 is the month before 202701."""
    low, high = values.min(), values.max()
    if low >= 1900_00 and high < 3000_00 and np.isin(values % 100, np.arange(1, 13)).all():
        return np.asarray(12 * (values // 100) + values % 100)
    if low >= 1900_00_00 and high < 3000_00_00:
        days = pd.to_datetime(pd.Series(values.astype(str)), format="%Y%m%d", errors="coerce")
        if days.notna().all():
            return days.to_numpy().astype("datetime64[D]").astype(np.int64)
    return values


def plain(value: object) -> object:
    """A value that the user gave, as messages show it: not as numpy and pandas spell it."""
    if isinstance(value, dt.date | np.datetime64):
        return str(value).removesuffix(" 00:00:00")
    return value.item() if isinstance(value, np.generic) else value


def as_labels(values: NDArray[Any]) -> tuple[JsonScalar, ...]:
    """Times as JSON scalars; dates without a time of day as ``2026-05-03``."""
    if values.dtype.kind != "M":
        return tuple(values.tolist())
    days = values.astype("datetime64[D]")
    if (days == values).all():
        return tuple(np.datetime_as_string(days).tolist())
    return tuple(str(instant) for instant in pd.to_datetime(values).to_pydatetime().tolist())


def read_time_column(name: str, column: Column) -> TimeColumn:
    """Code a column of times; infinite numbers and NaT count as missing.

    Raises
    ------
    TypeError
        If the column holds neither numbers, dates, timestamps nor text.
    """
    return coded_times(*time_values(name, column))


def coded_times(kind: str, values: NDArray[Any]) -> TimeColumn:
    """Times of `time_values` with their codes."""
    if values.dtype.kind == "i" and len(values):
        direct = whole_codes(values)
        if direct is not None:
            return TimeColumn(kind, *direct)
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, np.nan)
        whole = values[~np.isnan(values)]
        if (np.abs(whole) < 2.0**53).all() and (whole == np.trunc(whole)).all():
            codes, levels = pd.factorize(values, sort=True)
            return TimeColumn(kind, codes.astype(np.int64), levels.astype(np.int64))
    codes, levels = pd.factorize(values, sort=True)
    return TimeColumn(kind, codes.astype(np.int64), np.asarray(levels))


def whole_codes(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Dense codes and sorted levels of whole numbers that lie close; None where they do not."""
    low, high = int(values.min()), int(values.max())
    return _by_table(values, low, high) if high - low <= _DIRECT * len(values) else None


def _by_table(
    values: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes by one table over the range: several times faster than hashing."""
    shifted = values - low
    seen = np.zeros(high - low + 1, dtype=np.int64)
    seen[shifted] = 1
    levels = np.flatnonzero(seen) + low
    return (np.cumsum(seen) - 1)[shifted], levels


def time_values(name: str, column: Column) -> tuple[str, NDArray[Any]]:
    """Kind and values: int64, float64 (NaN missing), datetime64[us] (NaT) or text (None)."""
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, pd.PeriodDtype):
        raise TypeError(
            f"column {name!r} must hold times (numbers, dates, timestamps or text); it holds "
            f"{dtype}; convert it with .dt.to_timestamp()"
        )
    if isinstance(dtype, np.dtype) and dtype.kind in "iufM":
        values = column.to_numpy()
        if dtype.kind == "M":
            return "calendar", values.astype("datetime64[us]")
        if dtype.kind == "f":
            return "number", values.astype(np.float64)
        return "number", _whole(name, values)
    array = decoded_column(name, column)
    if _is_text(array.type):
        return "text", _text(name, array, _order(column))
    return _arrow_values(name, array)


def _is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of text."""
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(holds(kind) for holds in is_text)


def _order(column: Column) -> list[str] | None:
    """The order of the levels of an ordered categorical."""
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype) and dtype.ordered:
        return [str(level) for level in dtype.categories]
    return None


def _text(name: str, array: pa.Array, order: list[str] | None) -> NDArray[Any]:
    """Text, None where missing; refused where its letters do not sort it in time."""
    encoded = array.cast(pa.string()).dictionary_encode()
    known = [level for level in encoded.dictionary.to_pylist() if level is not None]
    wanted = order if order is not None else sorted(known, key=_naturally)
    meant = [level for level in wanted if level in set(known)]
    if meant != sorted(known):
        pair = next((a, b) for a, b in itertools.pairwise(meant) if a > b)
        raise ValueError(
            f"column {name!r} holds text that does not sort in time: {pair[1]!r} would come before "
            f"{pair[0]!r}; convert it to numbers or dates"
        )
    levels = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return np.asarray(levels[pc.fill_null(encoded.indices, len(levels) - 1).to_numpy()])


def _naturally(text: str) -> list[tuple[int, int, str]]:
    """Sort key that reads digits as numbers."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _arrow_values(name: str, array: pa.Array) -> tuple[str, NDArray[Any]]:
    """Kind and values of an Arrow array of dates, timestamps or numbers."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        instants = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        values = instants.to_numpy(zero_copy_only=False).astype("datetime64[us]")
        return "instant" if zoned else "calendar", values
    if pa.types.is_integer(kind) and array.null_count == 0:
        return "number", _whole(name, array.to_numpy(zero_copy_only=False))
    if pa.types.is_null(kind):
        return "number", np.full(len(array), np.nan)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return "number", np.asarray(numbers)
    raise TypeError(
        f"column {name!r} must hold times (numbers, dates, timestamps or text); it holds {kind}; "
        "convert it first"
    )


def _whole(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers of any width as int64: unsigned ones would overflow in differences."""
    if values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"column {name!r} must hold times below 2**63; convert it first")
    return values.astype(np.int64, copy=False)


def _instant(value: str | dt.date | np.datetime64) -> tuple[bool, Any]:
    """Whether a date or timestamp has a zone, and it in microseconds (then of universal time)."""
    stamp = pd.Timestamp(value)
    zoned = stamp.tzinfo is not None
    if zoned:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    return zoned, stamp.to_datetime64().astype("datetime64[us]")
