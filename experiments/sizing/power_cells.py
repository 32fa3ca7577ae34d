"""Cells of a pilot: what a rotation's coins would have met, from rows in one pass.

A cell is a slice of time in a region: its rows after burn-in, and their mean. Slices and strata are
those that `Switchback.schedule` makes over the pilot's span.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.centred import centred_moments
from causal.frame import (
    Table,
    check_columns,
    check_one_of,
    codes,
    column_names,
    fetch_arrow,
    in_memory_rows,
    open_table,
    read_columns,
)
from causal.rows import ArrayRows, EngineRows
from causal.values import is_number
from experiments.designs.coins import COINS, Coin
from experiments.designs.rotation import Switchback
from experiments.rotations.coin_laws import Law, pooled_singles
from experiments.rotations.instants import MINUTE, TimeKind, engine_times, read_times
from experiments.rotations.row_checks import refuse_missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.rows import Expression, Groups

_DAY = 1440  # minutes
_MOST_SLICES = 20_000
_STEPS = (1440, 720, 480, 360, 240, 180, 120, 60, 30, 20, 15, 10, 5, 2, 1)  # minutes


@dataclass(frozen=True)
class Clock:
    """What time is counted in, and how it is cut into slices.

    Parameters
    ----------
    kind : TimeKind
        Timestamps, counted in microseconds, or whole periods.
    zone : str, optional
        Time zone of timestamps.
    first, last : int
        First and last row.
    origin : int
        Where the first slice starts.
    width, burn_in : int
        Length of a slice and of its unread start.
    step : int
        Length of a period of the pilot's own grid.
    """

    kind: TimeKind
    zone: str | None
    first: int
    last: int
    origin: int = 0
    width: int = 1
    burn_in: int = 0
    step: int = 1

    @property
    def n_slices(self) -> int:
        """Slices from the origin to the last row."""
        return (self.last - self.origin) // self.width + 1

    @property
    def unit(self) -> float:
        """Length of a step in the unit of a decay: periods, or hours."""
        return self.step / (60 * MINUTE) if self.kind.stamps else self.step

    def instant(self, t: int) -> pd.Timestamp:
        """The instant of so many microseconds, by the local clock."""
        when = pd.Timestamp(t, unit="us", tz=None if self.zone is None else "UTC")
        return when if self.zone is None else when.tz_convert(self.zone)


@dataclass(frozen=True, eq=False)
class PilotCells:
    """The slices of a pilot's span, with what was read in each.

    Parameters
    ----------
    table : DataFrame (k rows)
        Region by region, each in time order: region, slice, start, end, stratum, n (rows after
        burn-in; 0 where there are none) and mean.
    law : Law
        How their coins are thrown.
    strata : int64 array (k,)
        Codes of what a read-out adjusts for.
    clock : Clock
    """

    table: pd.DataFrame
    law: Law
    strata: NDArray[np.int64]
    clock: Clock

    @property
    def read(self) -> NDArray[np.bool_]:
        """Which slices have rows, shape (k,)."""
        return np.asarray(self.table["n"].to_numpy() > 0)


def pilot_cells(
    frame: Table,
    *,
    outcome: str,
    time: str,
    unit: str | None,
    slice_minutes: float,
    burn_in_minutes: float,
    coin: Coin,
    grid: bool = False,
) -> PilotCells:
    """Read a pilot's rows into the cells of a rotation.

    Parameters
    ----------
    frame : Table
        Any kind that the door takes; a table in memory is summed there, others in their engine.
    outcome, time, unit : str
        Columns of the outcome, of instants or whole periods, and of the region.
    slice_minutes, burn_in_minutes : float
        In minutes; in periods where time is whole numbers.
    coin : {"stratified", "independent", "alternating", "complete"}
        Strata are region and local clock for "stratified", else regions.
    grid : bool
        Find the pilot's own grid of time, which a decay needs.

    Returns
    -------
    PilotCells

    Raises
    ------
    ValueError
        If a column is absent or holds gaps, a length is out of its range, burn-in leaves no row, or
        there are too many slices.
    TypeError
        If time is neither instants nor whole numbers.
    """
    check_one_of(coin, "coin", COINS)
    _check_lengths(slice_minutes, burn_in_minutes)
    check_columns(column_names(frame), {"outcome": outcome, "time": time, "unit": unit})
    roles = {"y": outcome, "t": time} | ({} if unit is None else {"unit": unit})
    opened = _in_memory if in_memory_rows(frame) is not None else _in_engine
    rows, clock = opened(frame, roles)
    clock = _cut(clock, slice_minutes, burn_in_minutes)
    clock = replace(clock, step=_step(rows, clock)) if grid else clock
    groups, mean = _summed(rows, clock, ["slice"] if unit is None else ["unit", "slice"])
    labels = groups.keys["unit"] if unit is not None else np.full(len(groups), "all", dtype=object)
    region, names = codes(labels)
    if (count := clock.n_slices * len(names)) > _MOST_SLICES:
        raise ValueError(
            f"slices must be {_MOST_SLICES:,} at most; slice_minutes={slice_minutes:g} makes "
            f"{clock.n_slices:,} in each of {len(names):,} regions, {count:,}: take longer "
            "slices, or a coarser unit"
        )
    table, law = _slices(clock, names, coin)
    at = region * clock.n_slices + groups.keys["slice"]
    table["n"] = np.bincount(at, groups.n, len(table)).astype(np.int64)
    table["mean"] = np.bincount(at, mean, len(table))
    return PilotCells(table, law, pooled_singles(law.strata, law.regions), clock)


def _check_lengths(slice_minutes: float, burn_in_minutes: float) -> None:
    """A slice is longer than its burn-in."""
    if not (is_number(slice_minutes) and 0 < slice_minutes < math.inf):
        raise ValueError(f"slice_minutes must be positive; got {slice_minutes!r}")
    if not (is_number(burn_in_minutes) and 0 <= burn_in_minutes < math.inf):
        raise ValueError(f"burn_in_minutes must be 0 or more; got {burn_in_minutes!r}")
    if burn_in_minutes >= slice_minutes:
        raise ValueError(
            f"burn_in_minutes must be below slice_minutes {slice_minutes:g}; got "
            f"{burn_in_minutes:g}, which leaves nothing of a slice: shorten it"
        )


def _in_memory(frame: Table, roles: dict[str, str]) -> tuple[ArrayRows, Clock]:
    """Rows of a table in memory: y, t and unit as arrays."""
    labels = [roles["unit"]] if "unit" in roles else []
    columns = read_columns(frame, numeric=[roles["y"]], labels=labels)
    t, kind = read_times(frame, roles["t"])
    arrays = {alias: columns[name] for alias, name in roles.items() if alias != "t"}
    zone = _zone(frame[roles["t"]]) if kind.zoned else None
    return ArrayRows({**arrays, "t": t}, len(t)), Clock(kind, zone, int(t.min()), int(t.max()))


def _in_engine(frame: Table, roles: dict[str, str]) -> tuple[EngineRows, Clock]:
    """Rows in the engine: y, t and unit as expressions."""
    table, kind = engine_times(open_table(frame, columns=list(roles.values())), roles["t"])
    labels = {"unit": roles["unit"]} if "unit" in roles else {}
    rows = EngineRows.opened(table, {"y": roles["y"], "t": roles["t"]}, labels)
    refuse_missing(rows, {"t": roles["t"], "y": roles["y"]})
    what = {"rule": "hold whole periods, or timestamps", "do": "convert them first"}
    rows.refuse(lambda c: c["t"] % 1 != 0, "t", name=f"column {roles['t']!r}", **what)
    rows = rows.derive({"t": lambda c: c["t"].cast("int64")})
    t = rows.table["t"]
    ends = fetch_arrow(rows.table.agg(first=t.min(), last=t.max())).to_pylist()[0]
    return rows, Clock(kind, "UTC" if kind.zoned else None, int(ends["first"]), int(ends["last"]))


def _zone(column: Any) -> str:  # noqa: ANN401 — a pandas, polars or Arrow column
    """The name of a column's time zone."""
    kind = column.type if hasattr(column, "type") else column.dtype
    kind = getattr(kind, "pyarrow_dtype", kind)
    return str(getattr(kind, "time_zone", None) or kind.tz)


def _cut(clock: Clock, slice_minutes: float, burn_in_minutes: float) -> Clock:
    """Slices of periods from the first one on; of minutes from a multiple after local midnight."""
    width = max(clock.kind.length("slice_minutes", slice_minutes), 1)
    burn_in = clock.kind.length("burn_in_minutes", burn_in_minutes)
    if not clock.kind.stamps:
        return replace(clock, origin=clock.first, width=width, burn_in=burn_in)
    midnight = int(pd.DatetimeIndex([clock.instant(clock.first).normalize()]).as_unit("us").asi8[0])
    origin = midnight + (clock.first - midnight) // width * width
    return replace(clock, origin=origin, width=width, burn_in=burn_in)


def _step(rows: ArrayRows | EngineRows, clock: Clock) -> int:
    """The pilot's own grid of time: the longest step that all rows, slices and burn-in keep to."""
    if not clock.kind.stamps:
        return 1
    lengths = (clock.width, clock.burn_in)
    steps = [m * MINUTE for m in _STEPS if not any(x % (m * MINUTE) for x in lengths)]
    groups = rows.sums([], {str(step): _off(clock.origin, step) for step in steps})
    kept = [step for step in steps if groups.values[str(step)][0] == 0]  # noqa: PD011 — no frame
    return max(kept, default=clock.width // math.ceil(clock.width / MINUTE))


def _off(origin: int, step: int) -> Expression:
    """Formula of whether a row is off a grid."""
    return lambda c: ((c["t"] - origin) % step) != 0


def _summed(
    rows: ArrayRows | EngineRows, clock: Clock, by: list[str]
) -> tuple[Groups, NDArray[np.float64]]:
    """Counts and means of cells, burn-in dropped."""
    origin, width, burn_in = clock.origin, clock.width, clock.burn_in
    sliced = rows.derive({"slice": lambda c: (c["t"] - origin) // width})
    if burn_in:
        sliced = sliced.where(lambda c: (c["t"] - origin) % width >= burn_in)
        if not int(sliced.sums([], {}).n[0]):
            raise ValueError(
                "burn_in_minutes must leave rows; all lie in the first "
                f"{burn_in / clock.kind.minute:g} of their slice: shorten it, or take a finer log"
            )
    groups, mean, _, _ = centred_moments(sliced, ["y"], by)
    return groups, mean[:, 0]


def _slices(clock: Clock, names: NDArray[Any], coin: Coin) -> tuple[pd.DataFrame, Law]:
    """Slices of every region in time order, and the law of their coins."""
    k = clock.n_slices
    region = np.repeat(np.arange(len(names)), k)
    if not clock.kind.stamps:
        start = clock.origin + clock.width * np.tile(np.arange(k), len(names))
        table = pd.DataFrame({"start": start, "end": start + clock.width, "stratum": ""})
    else:
        table = _scheduled(clock, len(names))
    table.insert(0, "region", names[region])
    table.insert(1, "slice", np.tile(np.arange(k), len(names)))
    if coin != "stratified":
        table["stratum"] = ""
    local = pd.factorize(table["stratum"])[0]
    strata = np.asarray(region * (local.max() + 1) + local, dtype=np.int64)
    return table, Law(coin, strata, region, np.ones(len(table)), Switchback.min_share)


def _scheduled(clock: Clock, n_regions: int) -> pd.DataFrame:
    """Start, end and local clock of the slices of a schedule."""
    k, minutes = clock.n_slices, clock.width / MINUTE
    regions = tuple(str(j) for j in range(n_regions))
    design = Switchback(minutes, coin="complete", regions=regions, min_share=0)
    table = design.schedule(start=clock.instant(clock.origin), days=k * minutes / _DAY).table
    # days in floating point may hold one slice too many
    table = table[table.groupby("region").cumcount() < k].reset_index(drop=True)
    stratum = table["stratum"].str.partition(" ")[2]
    return table[["start", "end"]].assign(stratum=stratum)
