"""Columns of time as whole numbers: microseconds of timestamps, or periods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from causal.frame import Table, offenders, read_columns

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from numpy.typing import NDArray

MINUTE = 60_000_000  # microseconds
NEAR_WHOLE = 1e-6
_SHOWN = 5
_MOST_PERIOD = 2**53  # whole numbers that a double holds


@dataclass(frozen=True)
class TimeKind:
    """Whether time is timestamps (else whole periods), and their time zone."""

    stamps: bool
    zone: Any = None

    @property
    def zoned(self) -> bool:
        """Whether timestamps have a time zone."""
        return self.zone is not None

    @property
    def unit(self) -> str:
        """What lengths are counted in."""
        return "minutes" if self.stamps else "periods"

    @property
    def minute(self) -> int:
        """What a length of 1 is: a minute in microseconds, or a period."""
        return MINUTE if self.stamps else 1

    def length(self, name: str, value: float) -> int:
        """A length in minutes or periods as a whole number.

        Raises
        ------
        ValueError
            If a length in periods is not whole.
        """
        if not self.stamps and value % 1:
            raise ValueError(
                f"{name} must be a whole number of periods where time is periods; got {value!r}"
            )
        return round(value * self.minute)


def local_times(values: NDArray[np.int64], kind: TimeKind, zone: Any = None) -> Any:  # noqa: ANN401 — periods, or an index of instants
    """Whole-number times as the user has them, by the clock of a zone or of their own."""
    if not kind.stamps:
        return values
    when = pd.DatetimeIndex(values.astype("datetime64[us]"))
    return when.tz_localize("UTC").tz_convert(zone or kind.zone) if kind.zoned else when


def midnight(time: int, kind: TimeKind) -> int:
    """The last midnight at or before an instant, by the local clock."""
    day = local_times(np.array([time]), kind).normalize()
    return int(day.as_unit("us").asi8[0])


def read_times(frame: Table, name: str) -> tuple[NDArray[np.int64], TimeKind]:
    """Times of a table in memory.

    Raises
    ------
    ValueError
        If a time is missing, or a period not whole.
    TypeError
        If the column holds neither timestamps nor numbers.
    """
    stamps = _stamps(frame, name)
    if stamps is None:
        return _periods(name, _numbers(frame, name)), TimeKind(stamps=False)
    if (absent := np.asarray(stamps.isna())).any():
        what = ("be present (not missing)", absent, np.full(len(stamps), None), "drop or fill them")
        raise ValueError(offenders(f"column {name!r}", *what))
    return np.asarray(stamps.as_unit("us").asi8), TimeKind(stamps=True, zone=stamps.tz)


def engine_times(table: ir.Table, name: str) -> tuple[ir.Table, TimeKind]:
    """The table with its time as a number, under the same name.

    Raises
    ------
    TypeError
        If the column holds neither timestamps nor numbers.
    """
    instant, kind = table[name], table[name].type()
    if not (kind.is_timestamp() or kind.is_date()):
        if not kind.is_numeric():
            raise TypeError(_no_time(name, f"it holds {kind}"))
        return table, TimeKind(stamps=False)
    instant = instant.cast("timestamp") if kind.is_date() else instant
    seconds = instant.truncate("s").epoch_seconds().cast("int64")
    micros = seconds * 1_000_000 + instant.microsecond().cast("int64")
    zone = kind.timezone if kind.is_timestamp() else None
    return table.mutate(**{name: micros}), TimeKind(stamps=True, zone=zone)


def _stamps(frame: Table, name: str) -> pd.DatetimeIndex | None:
    """A column of timestamps or dates; None where it holds something else."""
    if isinstance(frame, pd.DataFrame):
        values = frame[name]
        if not _holds_instants(values):
            return None
        return pd.DatetimeIndex(values if values.dtype != object else _of_objects(values, name))
    found = frame.column(name) if isinstance(frame, pa.Table) else frame[name].to_arrow()
    if not (pa.types.is_timestamp(found.type) or pa.types.is_date(found.type)):
        return None
    zone = found.type.tz if pa.types.is_timestamp(found.type) else None
    return pd.DatetimeIndex(found.cast(pa.timestamp("us", zone), safe=False).to_pandas())


def _of_objects(values: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Timestamps that are Python objects, of one time zone or none."""
    zones = list(dict.fromkeys(str(getattr(v, "tzinfo", None)) for v in values.dropna()))
    if len(zones) > 1:
        raise ValueError(
            f"column {name!r} must hold times of one time zone; it mixes "
            f"{', '.join(zones[:_SHOWN])}: convert it with pandas.to_datetime(..., utc=True), and "
            "tz_convert to the platform's zone"
        )
    return pd.to_datetime(values)


def _holds_instants(values: pd.Series[Any]) -> bool:
    """Whether a pandas column holds timestamps or dates."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    if isinstance(values.dtype, pd.ArrowDtype):
        return bool(pa.types.is_date(values.dtype.pyarrow_dtype))
    instants = ("datetime", "date", "datetime64")
    return values.dtype == object and pd.api.types.infer_dtype(values) in instants


def _numbers(frame: Table, name: str) -> NDArray[np.float64]:
    """A column of numbers."""
    try:
        found: NDArray[np.float64] = read_columns(frame, numeric=[name])[name]
    except TypeError as error:
        found_instead = str(error).rpartition("; it holds ")[2].removesuffix("; convert it first")
        raise TypeError(_no_time(name, f"it holds {found_instead}")) from None
    return found


def _periods(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Periods as integers."""
    whole = np.rint(values)  # decimals come as doubles a last bit off
    odd = (np.abs(values - whole) > NEAR_WHOLE) | (np.abs(values) >= _MOST_PERIOD)
    if odd.any():
        what = ("hold whole periods, or timestamps", odd, values, "convert them first")
        raise ValueError(offenders(f"column {name!r}", *what))
    return whole.astype(np.int64)


def _no_time(name: str, found: object) -> str:
    """What a column of time must hold."""
    return f"column {name!r} (time) must hold timestamps or periods: {found}; convert it first"
