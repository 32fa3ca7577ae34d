"""Which coin each cell of time hangs on: slices from a schedule, from points, or of one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.values import is_number
from experiments.designs.rotation import Schedule, Switchback
from experiments.designs.switch_points import shared_coins
from experiments.rotations.coin_laws import Law, pooled_singles
from experiments.rotations.instants import MINUTE, local_times, midnight
from experiments.rotations.slice_rows import cells_of, grain_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.rotations.instants import TimeKind
    from experiments.rotations.slice_rows import Cells, Roles, TimedRows

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Coins:
    """One entry a coin: chain by chain (region, unit, or all), each in time order.

    Parameters
    ----------
    chain : int64 array (k,)
        Codes of `chains`.
    chains : array
        Labels of regions or units.
    number : int64 array (k,)
        Number of the slice; a number that is left out is a slice without rows.
    start, end : int64 arrays (k,)
        Whole-number times; the end is the next start.
    arm : int8 array (k,)
    stratum : int64 array (k,)
        Codes 0, 1, ... of what an adjustment for the design takes out.
    law : Law
    """

    chain: NDArray[np.int64]
    chains: NDArray[Any]
    number: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    arm: NDArray[np.int8]
    stratum: NDArray[np.int64]
    law: Law

    def __len__(self) -> int:
        return len(self.chain)

    def at(self, chain: NDArray[np.int64], time: NDArray[np.int64]) -> NDArray[np.int64]:
        """The coin that holds at times; -1 where none is known."""
        low = int(self.start.min())
        span = int(self.end.max()) - low + 1
        key = chain * span + (time - low)
        found = np.searchsorted(self.chain * span + (self.start - low), key, side="right") - 1
        near = np.maximum(found, 0)
        inside = (
            (found >= 0) & (self.chain[near] == chain) & (time >= low) & (time < self.end[near])
        )
        return np.where(inside, near, -1)


@dataclass(frozen=True, eq=False)
class Rotation:
    """Cells of time with the coins that they hang on.

    Parameters
    ----------
    cells : Cells
    coins : Coins
    chain, last : int64 arrays (c,)
        Chain and coin of each cell.
    roles : Roles
    kind : TimeKind
    zone : time zone of the schedule, or None
    """

    cells: Cells
    coins: Coins
    chain: NDArray[np.int64]
    last: NDArray[np.int64]
    roles: Roles
    kind: TimeKind
    zone: Any

    def first(self, carryover: int) -> NDArray[np.int64]:
        """First coin that the window of `carryover` before each cell touches; -1 if unknown."""
        if carryover == 0:
            return self.last
        first = self.coins.at(self.chain, self.cells.time - carryover)
        number = self.coins.number
        whole = number[self.last] - number[first] == self.last - first  # no slice between is lost
        return np.where((first >= 0) & whole, first, -1)

    def after_start(self, burn_in: int) -> NDArray[np.bool_]:
        """Cells so long after the start of their slice."""
        return self.cells.time - self.coins.start[self.last] >= burn_in


def read_rotation(
    timed: TimedRows,
    *,
    schedule: Schedule | None,
    points: Sequence[int] | None,
    slice_minutes: float | None,
    lengths: Sequence[int] = (),
    exact: bool = False,
) -> Rotation:
    """Cells and coins of a log.

    Parameters
    ----------
    timed : TimedRows
    schedule, points, slice_minutes
        One of them says where slices begin.
    lengths : sequence of int
        Carry-over and burn-in: cells may be rounded to what divides all boundaries.
    exact : bool
        Keep every instant apart.

    Raises
    ------
    ValueError
        If none or several of the three are given, they do not fit the kind of time, the treatment
        changes inside a slice, or the log disagrees with the schedule.
    """
    given = {"schedule": schedule, "points": points, "slice_minutes": slice_minutes}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(
            "give schedule=, points= or slice_minutes=: a run of slices with equal arms is not one "
            f"slice, so slices cannot be read off the arms; got {', '.join(named) or 'none'}"
        )
    if schedule is not None:
        return _scheduled(timed, schedule, lengths, exact=exact)
    if points is not None:
        if timed.kind.stamps:
            raise ValueError(
                f"points are periods, so column {timed.roles.time!r} must hold whole periods; it "
                "holds timestamps: pass the schedule, or convert the column"
            )
        return _by_points(timed, points)
    return _by_length(timed, slice_minutes, lengths, exact=exact)


# ---- with a schedule ----


def _scheduled(
    timed: TimedRows, schedule: Schedule, lengths: Sequence[int], *, exact: bool
) -> Rotation:
    """Coins are the rows of the schedule; the log must agree with it."""
    coins, names, zone = _planned(timed, schedule)
    boundaries = [*coins.start.tolist(), *coins.end.tolist(), *lengths]
    cells = cells_of(timed, grain=1 if exact else grain_of(boundaries))
    chain = _regions(timed, cells, names)
    last = coins.at(chain, cells.time)
    if (outside := last < 0).any():
        raise ValueError(
            f"column {timed.roles.time!r} must lie within the schedule, "
            f"{schedule.table['start'].min()} to {schedule.table['end'].max()}; "
            f"{int(cells.n[outside].sum())} rows do not, e.g. at "
            f"{_texts(cells.time[outside][:_SHOWN], timed.kind, zone)}: drop them"
        )
    off = cells.treated != coins.arm[last] * cells.n
    if off.any():
        rows = np.where(coins.arm[last] == 1, cells.n - cells.treated, cells.treated)[off].sum()
        slices = np.unique(last[off])
        raise ValueError(
            f"column {timed.roles.treatment!r} must be the arm that was planned; {int(rows)} rows "
            f"in {len(slices)} slices are not, first in slices "
            f"{coins.number[slices][:_SHOWN].tolist()}: Schedule.check lists them; drop or "
            "correct them"
        )
    return Rotation(cells, coins, chain, last, timed.roles, timed.kind, zone)


def _planned(timed: TimedRows, schedule: Schedule) -> tuple[Coins, NDArray[Any] | None, Any]:
    """Coins of a schedule, the names of its regions, and its time zone."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"schedule must be a Schedule; got {type(schedule).__name__}: read a saved one with "
            "Schedule.load"
        )
    design = schedule.design
    if not isinstance(design, Switchback):
        raise TypeError(
            f"schedule must be of a Switchback; got {type(design).__name__}: read shares with "
            "share_response"
        )
    table = schedule.table
    zone = table["start"].dt.tz
    if not timed.kind.stamps or timed.kind.zoned != (zone is not None):
        kind = ("timestamps with" if timed.kind.zoned else "timestamps without") + " a time zone"
        raise ValueError(
            f"column {timed.roles.time!r} must hold timestamps "
            f"{'with' if zone is not None else 'without'} a time zone, as the schedule does; it "
            f"holds {kind if timed.kind.stamps else 'periods'}: convert it first"
        )
    regions, names = pd.factorize(table["region"])
    start, end = (pd.DatetimeIndex(table[name]).as_unit("us").asi8 for name in ("start", "end"))
    order = np.lexsort([start, regions])
    minutes = ((end - start) / MINUTE)[order]
    strata = pd.factorize(table["stratum"])[0][order].astype(np.int64)
    regions = regions[order].astype(np.int64)

    def redraw(n: int, seed: int) -> NDArray[np.int8]:
        return schedule.redraw(n, seed=seed)[:, order]

    stratified = design.coin == "stratified"
    coins = Coins(
        chain=regions,
        chains=np.asarray(names),
        number=table["slice"].to_numpy()[order].astype(np.int64),
        start=np.asarray(start)[order],
        end=np.asarray(end)[order],
        arm=table["arm"].to_numpy()[order].astype(np.int8),
        stratum=pooled_singles(strata, regions) if stratified else regions,
        law=Law(design.coin, strata, regions, minutes, design.min_share, redraw),
    )
    return coins, np.asarray(names) if design.regions is not None else None, zone


def _regions(timed: TimedRows, cells: Cells, names: NDArray[Any] | None) -> NDArray[np.int64]:
    """The region of each cell, as a code of the schedule's."""
    unit = timed.roles.unit
    if names is None:
        if unit is not None:
            raise ValueError(
                f"unit {unit!r} must be left out: the schedule has one coin for all, no regions"
            )
        return np.zeros(len(cells), dtype=np.int64)
    if unit is None:
        raise ValueError(f"give unit=, the column of the region: the schedule has {list(names)}")
    place = {str(name): j for j, name in enumerate(names)}
    strange = [u for u in cells.units.tolist() if str(u) not in place]
    if strange:
        raise ValueError(
            f"column {unit!r} must hold regions of the schedule, {list(names)[:10]}; it holds "
            f"{strange[:_SHOWN]}: drop or rename them"
        )
    return np.array([place[str(u)] for u in cells.units.tolist()])[cells.unit]


# ---- without ----


def _by_points(timed: TimedRows, points: Sequence[int]) -> Rotation:
    """Coin epochs begin at the points."""
    edges = np.asarray(points, dtype=np.float64)
    whole = edges.ndim == 1 and len(edges) > 0 and bool((edges % 1 == 0).all())
    if not whole or edges[0] != 1 or (np.diff(edges) <= 0).any():
        raise ValueError(
            f"points must be whole periods that begin with 1 and go up; got {edges.tolist()[:10]}"
        )
    if timed.first < 1:
        raise ValueError(
            f"column {timed.roles.time!r} must count periods from 1, as points do; the first is "
            f"{timed.first}: add {1 - timed.first}"
        )
    starts = edges.astype(np.int64)
    starts = starts[starts <= timed.last]
    ends = np.append(starts[1:], timed.last + 1)
    cells = cells_of(timed)
    number = np.searchsorted(starts, cells.time, side="right") - 1
    return _thrown(timed, cells, number, starts, ends)


def _by_length(
    timed: TimedRows, slice_minutes: object, lengths: Sequence[int], *, exact: bool
) -> Rotation:
    """Slices of one length: from the first period, or from midnight of the first day."""
    if not (is_number(slice_minutes) and 0 < slice_minutes < np.inf):
        raise ValueError(f"slice_minutes must be positive; got {slice_minutes!r}")
    width = max(timed.kind.length("slice_minutes", slice_minutes), 1)
    origin = timed.first
    if timed.kind.stamps:
        start = midnight(timed.first, timed.kind)
        origin = start + (timed.first - start) // width * width
    grain = grain_of([origin, width, *lengths]) if timed.kind.stamps and not exact else 1
    cells = cells_of(timed, grain=grain)
    number = (cells.time - origin) // width
    starts = origin + width * np.arange(int(number.max()) + 1)
    ends = starts + width
    if not timed.kind.stamps:
        ends[-1] = timed.last + 1
    return _thrown(timed, cells, number, starts, ends)


def _thrown(
    timed: TimedRows,
    cells: Cells,
    number: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> Rotation:
    """Fair coins of the slices that have rows: one for all units if they always share arms."""
    n_slices = len(starts)
    code = cells.unit * n_slices + number
    slices, at = np.unique(code, return_inverse=True)
    treated, n = np.bincount(at, cells.treated), np.bincount(at, cells.n)
    if (mixed := (treated > 0) & (treated < n)).any():
        first = slices[mixed][:_SHOWN] % n_slices
        where = f" of unit {cells.units[slices[mixed][0] // n_slices]}" if timed.roles.unit else ""
        raise ValueError(
            f"column {timed.roles.treatment!r} must be constant within a slice; it changes inside "
            f"{int(mixed.sum())} of {len(slices)} slices, first in slices {first.tolist()}{where} "
            f"(from {_texts(starts[first[:1]], timed.kind)}): give the slices "
            "that were used, or correct the column"
        )
    arm = (treated > 0).astype(np.int8)
    chain, named = slices // n_slices, cells.units
    if len(cells.units) > 1 and _shared(slices % n_slices, arm):
        slices, keep = np.unique(slices % n_slices, return_index=True)
        arm, chain = arm[keep], np.zeros(len(slices), dtype=np.int64)
        code, named = number, np.array(["all"], dtype=object)
        at = np.searchsorted(slices, code)
    of = slices % n_slices
    minutes = (ends[of] - starts[of]) / timed.kind.minute
    law = Law("independent", np.zeros_like(chain), chain, minutes, 0.0)
    coins = Coins(chain, named, of, starts[of], ends[of], arm, chain, law)
    return Rotation(cells, coins, chain[at], at.astype(np.int64), timed.roles, timed.kind, None)


def _shared(number: NDArray[np.int64], arm: NDArray[np.int8]) -> bool:
    """Whether all units have one arm in every slice."""
    treated, n = np.bincount(number, arm), np.bincount(number)
    return bool(((treated == 0) | (treated == n)).all())


def _texts(times: NDArray[np.int64], kind: TimeKind, zone: Any = None) -> str:  # noqa: ANN401 — a tzinfo or None
    """Times for a message."""
    return ", ".join(map(str, local_times(times, kind, zone)))


# ---- windows: groups of cells that hang on the same coins ----


def coin_windows(
    first: NDArray[np.int64], last: NDArray[np.int64], n_coins: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct (first, last) pairs of coins, and the pair of each cell."""
    pairs, code = np.unique(first * n_coins + last, return_inverse=True)
    return pairs // n_coins, pairs % n_coins, code.astype(np.int64)


def dependence(
    coins: Coins, first: NDArray[np.int64], last: NDArray[np.int64], possible: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Sum over windows l that share o > 0 coins with k of 2^(o - |E_k|): 1 without carry-over."""
    found = np.ones(len(first))
    if (first == last).all():
        return found
    chain = coins.chain[last]
    for c in np.unique(chain):
        mine = np.flatnonzero(chain == c)
        shared = shared_coins(first[mine], last[mine])
        linked = np.where(shared > 0, 2.0**shared, 0.0) * possible[mine]
        found[mine] = linked.sum(axis=1) * 0.5 ** (last[mine] - first[mine] + 1)
    return np.maximum(found, 1.0)
