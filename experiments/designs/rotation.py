"""Designs that change over time: time-slice rotation, saturation, and the schedule they make."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from causal.effect import EstimationWarning
from causal.frame import Table, check_one_of, fetch_arrow, open_table, read_columns
from causal.values import is_number, whole_number
from experiments.designs.coins import COINS, Coin, shuffled, throw
from experiments.designs.design import MOST_ARMS
from experiments.designs.hashing import unit_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_DAY = 1440  # minutes
_WEEKENDS_FROM = 14  # days from which weekends are a stratum of their own


@dataclass(frozen=True)
class Switchback:
    """Time-slice rotation: everybody is treated in some slices of time and nobody in the others.

    Parameters
    ----------
    slice_minutes : float
        Length of a slice.
    coin : {"stratified", "independent", "alternating", "complete"}
        Stratified: half of the slices of each region, time of day and (from 14 days) weekend or
        not are treated. Alternating warns: carry-over then costs about twice as much.
    points : sequence of int, optional
        First periods (1-based) of the coin epochs, from `optimal_switch_points`, in place of
        slices of one length.
    period_minutes : float
        Length of a period of `points`.
    burn_in_minutes : float
        Minutes after a switch that are not read.
    end_jitter_minutes : float
        Ends of slices are moved by up to as much either way, so that nobody foresees a switch.
    regions : sequence of str, optional
        Each region has its own coins.
    min_share : float
        Schedules with a treated share of time outside [min_share, 1 - min_share] are thrown again.
        The fair coin that `switchback_variance` speaks of has 0.

    Raises
    ------
    ValueError
        If a length is not positive, burn-in or jitter do not fit into a slice, or `min_share` is
        not in [0, 0.5].

    References
    ----------
    Bojinov, Simchi-Levi and Zhao (2023). Design and analysis of switchback experiments,
    Management Science 69(7).

    Examples
    --------
    >>> plan = Switchback(360, burn_in_minutes=60).schedule(start="2026-03-02", days=14, seed=7)
    >>> len(plan.table), int(plan.table["arm"].sum())
    (56, 28)
    """

    slice_minutes: float = 360
    coin: Coin = "stratified"
    points: tuple[int, ...] | None = None
    period_minutes: float = 60
    burn_in_minutes: float = 0
    end_jitter_minutes: float = 0
    regions: tuple[str, ...] | None = None
    min_share: float = 0.4

    def __post_init__(self) -> None:
        check_one_of(self.coin, "coin", COINS)
        if self.points is not None:
            object.__setattr__(self, "points", _as_tuple("points", self.points))
        if self.regions is not None:
            object.__setattr__(self, "regions", _checked_regions(self.regions))
        for name in ("slice_minutes", "period_minutes"):
            object.__setattr__(self, name, _length(name, getattr(self, name), positive=True))
        for name in ("burn_in_minutes", "end_jitter_minutes"):
            object.__setattr__(self, name, _length(name, getattr(self, name), positive=False))
        share = _length("min_share", self.min_share, positive=False)
        if share > 0.5:
            raise ValueError(f"min_share must be in [0, 0.5]; got {share!r}")
        object.__setattr__(self, "min_share", share)
        if self.points is not None:
            _check_points(self.points)
        if self.points is None:
            self._check_room(np.array([self.slice_minutes]))

    def schedule(self, *, start: str | pd.Timestamp, days: float, seed: int = 0) -> Schedule:
        """Throw the coins from `start` for `days` of elapsed time.

        Parameters
        ----------
        start : text or Timestamp
            First instant; a time zone is kept, and gives the local clock of the strata.
        days : float
            Length of the experiment.
        seed : int
            Of the coins and the jitter.

        Returns
        -------
        Schedule

        Raises
        ------
        ValueError
            If fewer than two slices fit, burn-in and jitter leave nothing of one, or the time zone
            has no name.
        """
        seed = whole_number("seed", seed, 0)
        nominal = self._edges(days)
        self._check_room(np.diff(nominal))
        edges, rng = nominal.copy(), np.random.default_rng([seed, 0])
        if self.end_jitter_minutes:
            edges[1:-1] += rng.uniform(-1, 1, len(edges) - 2) * self.end_jitter_minutes
        if self.coin == "alternating":
            warnings.warn(
                "coin='alternating' loses about twice as much to carry-over as an independent "
                "coin, and can be foreseen; take 'stratified'",
                EstimationWarning,
                stacklevel=2,
            )
        table = _slices(start, nominal, edges, self.regions, weekends=days >= _WEEKENDS_FROM)
        table["arm"] = self._thrown(table, 1, [seed, 1])[0]
        return _schedule(table, self, seed)

    def assign(
        self, units: object, *, start: str | pd.Timestamp, days: float, seed: int = 0
    ) -> NDArray[np.int8]:
        """Arms of instants: of timestamps, or of a frame with columns ``time`` and ``region``."""
        plan = self.schedule(start=start, days=days, seed=seed)
        if not hasattr(units, "columns"):
            return plan.treatment_at(units)
        wanted = ["time", "region"] if self.regions is not None else ["time"]
        log = fetch_arrow(open_table(units, columns=wanted)).to_pandas()
        return plan.treatment_at(log["time"], log["region"] if self.regions is not None else None)

    def _check_room(self, minutes: NDArray[np.float64]) -> None:
        """Burn-in and jitter leave something of every slice."""
        used = self.burn_in_minutes + 2 * self.end_jitter_minutes
        if used >= (shortest := float(minutes.min())):
            raise ValueError(
                f"burn_in_minutes {self.burn_in_minutes:g} and twice end_jitter_minutes "
                f"{self.end_jitter_minutes:g} must leave something of the shortest slice, "
                f"{shortest:g} minutes: shorten them, or let days hold whole slices"
            )

    def _edges(self, days: float) -> NDArray[np.float64]:
        """Starts of the slices and the end, in minutes from the start."""
        end = _length("days", days, positive=True) * _DAY
        if self.points is None:
            starts = np.arange(0, end, self.slice_minutes, dtype=np.float64)
        else:
            starts = (np.array(self.points, dtype=np.float64) - 1) * self.period_minutes
            starts = starts[starts < end]
        if len(starts) < 2:
            raise ValueError(
                f"{days:g} days must hold two slices or more; {len(starts)} fits: take shorter "
                "slices, or more days"
            )
        return np.append(starts, end)

    def _thrown(self, table: pd.DataFrame, n: int, seed: Sequence[int]) -> NDArray[np.int8]:
        """Arms of n schedules over the slices of a table."""
        minutes = (table["end"] - table["start"]).dt.total_seconds().to_numpy() / 60
        return throw(
            n,
            coin=self.coin,
            strata=pd.factorize(table["stratum"])[0],
            regions=pd.factorize(table["region"])[0],
            minutes=minutes,
            min_share=self.min_share,
            rng=np.random.default_rng(list(seed)),
        )


@dataclass(frozen=True)
class Saturation:
    """Shares of treated viewers that change by region and slice: what is lost as more are treated.

    Parameters
    ----------
    shares : sequence of float
        Treated shares in (0, 1); a curve needs three or more.
    slice_minutes : float
        Length of a slice.
    regions : sequence of str, optional
        Each region goes through the shares in an order of its own.
    salt : str
        Of the viewers' hash.

    Raises
    ------
    ValueError
        If there are fewer than two shares, or one is outside (0, 1).

    Examples
    --------
    >>> design = Saturation((0.1, 0.9))
    >>> few, many = (design.assign(range(1000), share=s) for s in design.shares)
    >>> bool((few <= many).all())
    True
    """

    shares: tuple[float, ...] = (0.1, 0.5, 0.9)
    slice_minutes: float = 1440
    regions: tuple[str, ...] | None = None
    salt: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", _as_tuple("shares", self.shares))
        if self.regions is not None:
            object.__setattr__(self, "regions", _checked_regions(self.regions))
        inside = all(is_number(s) and 0 < s < 1 for s in self.shares)
        if not (2 <= len(self.shares) <= MOST_ARMS and inside):
            raise ValueError(
                f"shares must be 2 to {MOST_ARMS} numbers in (0, 1); got {self.shares[:10]}"
            )
        minutes = _length("slice_minutes", self.slice_minutes, positive=True)
        object.__setattr__(self, "slice_minutes", minutes)

    def schedule(self, *, start: str | pd.Timestamp, days: float, seed: int = 0) -> Schedule:
        """Shares by region and slice: every region goes through all shares as often as it can.

        Parameters, returns and raises as `Switchback.schedule`.
        """
        seed = whole_number("seed", seed, 0)
        end = _length("days", days, positive=True) * _DAY
        edges = np.append(np.arange(0, end, self.slice_minutes, dtype=np.float64), end)
        if len(edges) - 1 < len(self.shares):
            raise ValueError(
                f"{days:g} days must hold a slice for each of {len(self.shares)} shares; "
                f"{len(edges) - 1} fit: take shorter slices, or more days"
            )
        table = _slices(start, edges, edges, self.regions, weekends=False)
        table["stratum"] = table["region"]
        table["share"] = np.array(self.shares)[self._thrown(table, 1, [seed, 1])[0]]
        return _schedule(table, self, seed)

    def assign(self, viewers: object, *, share: float, seed: int = 0) -> NDArray[np.int8]:
        """Arms of viewers at a share: nested, so that a larger share takes nobody's treatment."""
        if not (is_number(share) and 0 < share < 1):
            raise ValueError(f"share must be in (0, 1); got {share!r}")
        return (unit_hash(viewers, salt=self.salt, seed=seed) < share).astype(np.int8)

    def _thrown(self, table: pd.DataFrame, n: int, seed: Sequence[int]) -> NDArray[np.int8]:
        """Positions of shares of n schedules over the slices of a table."""
        regions = pd.factorize(table["region"])[0]
        return shuffled(n, regions, len(self.shares), np.random.default_rng(list(seed)))


Rotation: TypeAlias = Switchback | Saturation


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which slice of time has which arm (or share): drawn once, saved, replayed and checked.

    Parameters
    ----------
    table : DataFrame
        One row a slice: slice, region, start, end, arm (or share), stratum, read_from.
    design : Switchback or Saturation
        The law that it was drawn from.
    seed : int
        The draw.
    """

    table: pd.DataFrame
    design: Rotation
    seed: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        same = (self.design, self.seed) == (other.design, other.seed)
        return same and self.table.equals(other.table)

    def __hash__(self) -> int:
        return hash((self.design, self.seed, len(self.table)))

    def redraw(self, n: int, *, seed: int) -> NDArray[np.int8]:
        """Arms of n more schedules from the same law, shape (n, n_slices).

        Of a `Saturation` these are positions in its shares.
        """
        n, seed = whole_number("n", n, 1), whole_number("seed", seed, 0)
        return self.design._thrown(self.table, n, [seed, 2])  # never the stream of the schedule

    def treatment_at(self, times: object, regions: object = None) -> NDArray[Any]:
        """Arm (or share) at instants.

        Parameters
        ----------
        times : array (n,) of timestamps or text
            Of the schedule's time zone, or of any if it has one.
        regions : array (n,) of text, optional
            Needed when the schedule has regions.

        Returns
        -------
        int8 array (n,), or float64 for shares

        Raises
        ------
        ValueError
            If an instant lies outside the schedule, or a region is unknown.
        """
        at = self.slice_at(times, regions)
        name = "share" if isinstance(self.design, Saturation) else "arm"
        return self.table[name].to_numpy()[at]

    def slice_at(self, times: object, regions: object = None) -> NDArray[np.int64]:
        """Row of the table at instants; parameters and errors as in `treatment_at`."""
        when = _instants(times, self.table["start"].dt.tz)
        mine = _region_labels(regions, self.design.regions, len(when))
        found = np.full(len(when), -1, dtype=np.int64)
        for region in self.table["region"].unique():
            rows = np.flatnonzero(self.table["region"] == region)
            start = _nanoseconds(self.table["start"].iloc[rows])
            end = _nanoseconds(self.table["end"].iloc[rows])
            here = np.flatnonzero(mine == region)
            place = np.searchsorted(start, when[here], side="right") - 1
            inside = (place >= 0) & (when[here] < end[np.maximum(place, 0)])
            found[here[inside]] = rows[place[inside]]
        if (outside := found < 0).any():
            first = np.flatnonzero(outside)
            raise ValueError(
                f"times must lie within the schedule, {self.table['start'].min()} to "
                f"{self.table['end'].max()}, in one of its regions; {len(first)} do not, first at "
                f"rows {first[:5].tolist()}"
            )
        return found

    def balance(self) -> pd.DataFrame:
        """Treated share of time by hour of day and by weekday of the local clock.

        Returns
        -------
        DataFrame
            Columns clock (``hour`` or ``weekday``), value, minutes, share.
        """
        pieces = _hourly(self.table)
        weight = pieces["minutes"] * pieces["arm" if "arm" in pieces else "share"]
        pieces = pieces.assign(treated=weight)
        found = []
        for clock in ("hour", "weekday"):
            total = pieces.groupby(clock, as_index=False)[["minutes", "treated"]].sum()
            total["share"] = total["treated"] / total["minutes"]
            named = total.rename(columns={clock: "value"}).assign(clock=clock)
            found.append(named[["clock", "value", "minutes", "share"]])
        return pd.concat(found, ignore_index=True)

    def check(
        self, frame: Table, *, time: str, treatment: str, region: str = "region"
    ) -> pd.DataFrame:
        """Rows of a log that were exposed to another arm than planned.

        Parameters
        ----------
        frame : Table
            The log.
        time, treatment : str
            Columns of the instant and of the arm (or share) that was served.
        region : str
            Column of the region, when the schedule has regions.

        Returns
        -------
        DataFrame
            These columns of these rows with ``slice`` and ``planned``, under their row numbers;
            empty when all is well.

        Raises
        ------
        ValueError
            If a column is absent or holds gaps, or an instant lies outside the schedule.
        """
        wanted = [time, treatment, *([region] if self.design.regions else [])]
        log = fetch_arrow(open_table(frame, columns=wanted)).to_pandas()
        served = read_columns(log, numeric=[treatment])[treatment]
        if (gaps := log[time].isna()).any():
            raise ValueError(
                f"column {time!r} must be present; {int(gaps.sum())} rows are not; drop them"
            )
        at = self.slice_at(log[time], log[region] if self.design.regions else None)
        name = "share" if isinstance(self.design, Saturation) else "arm"
        planned = self.table[name].to_numpy()[at]
        off = np.abs(served - planned) >= 1e-9
        found: pd.DataFrame = log[off]
        return found.assign(slice=self.table["slice"].to_numpy()[at][off], planned=planned[off])

    def save(self, path: str | Path) -> None:
        """Write the schedule as ``.json`` or ``.csv``, whole or not at all."""
        from experiments.designs.schedule_file import write_schedule  # noqa: PLC0415 — reads this module

        write_schedule(self, path)

    @staticmethod
    def load(path: str | Path) -> Schedule:
        """Read what `save` wrote; refuses files that were edited."""
        from experiments.designs.schedule_file import read_schedule  # noqa: PLC0415 — reads this module

        return read_schedule(path)


def _schedule(table: pd.DataFrame, design: Rotation, seed: int) -> Schedule:
    """Columns in order, with the instant from which a slice is read."""
    burn_in = design.burn_in_minutes if isinstance(design, Switchback) else 0
    table["read_from"] = table["start"] + pd.Timedelta(minutes=burn_in)
    what = "arm" if "arm" in table else "share"
    order = ["slice", "region", "start", "end", what, "stratum", "read_from"]
    return Schedule(table[order], design, seed)


def _slices(
    start: str | pd.Timestamp,
    nominal: NDArray[np.float64],
    edges: NDArray[np.float64],
    regions: Sequence[str] | None,
    *,
    weekends: bool,
) -> pd.DataFrame:
    """Slices of every region; strata are the local clock of their nominal starts."""
    first = _first_instant(start)
    moments = first + pd.to_timedelta(np.round(edges * 60e6), unit="us")
    clock = first + pd.to_timedelta(np.round(nominal[:-1] * 60e6), unit="us")
    minute = clock.hour * 60 + clock.minute
    day = np.where(clock.day_of_week >= 5, " weekend", " weekday") if weekends else ""
    days = np.broadcast_to(day, len(minute))
    stratum = [f"{m // 60:02d}:{m % 60:02d}{d}" for m, d in zip(minute, days, strict=True)]
    names = regions or ("all",)
    parts = [
        pd.DataFrame(
            {
                "region": region,
                "start": moments[:-1],
                "end": moments[1:],
                "stratum": [f"{region} {s}" for s in stratum],
            }
        )
        for region in names
    ]
    table = pd.concat(parts, ignore_index=True)
    table["slice"] = np.arange(len(table))
    return table


def _first_instant(start: object) -> pd.Timestamp:
    """The start to the microsecond; a time zone by its name."""
    try:
        first = pd.Timestamp(start).as_unit("us")  # type: ignore[arg-type]
        if not pd.isna(first):
            return first if first.tz is None else first.tz_convert(str(first.tz))
    except (ValueError, TypeError, KeyError):  # no instant, or a zone without a name
        pass
    raise ValueError(
        "start must be an instant such as '2026-03-02 06:00', its time zone one with a name or a "
        f"fixed offset; got {start!r}"
    )


def _hourly(table: pd.DataFrame) -> pd.DataFrame:
    """Slices cut at quarters of an hour, with hour and weekday of the local clock, and minutes."""
    zone = table["start"].dt.tz
    parts = []
    for row in range(len(table)):
        start, end = (table[name].iloc[row] for name in ("start", "end"))
        if zone is not None:  # clocks change by whole quarters: cut where none does
            start, end = start.tz_convert("UTC"), end.tz_convert("UTC")
        inner = pd.date_range(start.ceil("15min"), end, freq="15min")
        cuts = pd.DatetimeIndex([start, *inner[(inner > start) & (inner < end)], end])
        local = cuts[:-1] if zone is None else cuts[:-1].tz_convert(zone)
        minutes = np.diff(cuts.as_unit("us").asi8) / 60e6
        parts.append(
            pd.DataFrame(
                {"hour": local.hour, "weekday": local.day_of_week, "minutes": minutes}
            ).assign(row=row)
        )
    pieces = pd.concat(parts, ignore_index=True)
    what = "arm" if "arm" in table else "share"
    return pieces.assign(**{what: table[what].to_numpy()[pieces["row"]]})


def _instants(times: object, zone: Any) -> NDArray[np.int64]:  # noqa: ANN401 — a tzinfo or None
    """Instants in nanoseconds, of the schedule's zone."""
    given = pd.Series(np.asarray(times) if isinstance(times, list) else times)
    try:
        when = pd.to_datetime(given, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise ValueError(f"times must be instants, as text in ISO 8601; {error}") from error
    if when.isna().any():
        raise ValueError(f"times must be present; {int(when.isna().sum())} are missing")
    if (when.dt.tz is None) != (zone is None):
        has, lacks = ("schedule", "times") if zone is not None else ("times", "schedule")
        raise ValueError(
            f"the {has} have a time zone and the {lacks} have none: convert one of them"
        )
    return _nanoseconds(when)


def _nanoseconds(times: pd.Series[Any]) -> NDArray[np.int64]:
    """Instants as whole nanoseconds of universal time."""
    return np.asarray(times.dt.as_unit("ns").astype("int64"), dtype=np.int64)


def _region_labels(regions: object, known: Sequence[str] | None, n: int) -> NDArray[Any]:
    """The region of each instant."""
    if known is None:
        if regions is not None:
            raise ValueError("the schedule has no regions; leave regions out")
        return np.full(n, "all", dtype=object)
    if regions is None:
        raise ValueError(f"regions must be given; the schedule has {list(known)[:10]}")
    labels = np.asarray(regions, dtype=object)
    strange = sorted({str(r) for r in labels.tolist()} - set(known))
    if strange or len(labels) != n:
        raise ValueError(
            f"regions must be {n} of {list(known)[:10]}; got {strange[:5] or len(labels)}"
        )
    return labels


def _as_tuple(name: str, values: object) -> tuple[Any, ...]:
    """A sequence as a tuple of distinct values."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name} must be a sequence; got {values!r}")
    found = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    if len(set(found)) < len(found) or not found:
        raise ValueError(f"{name} must be distinct and not empty; got {found[:10]}")
    return found


def _checked_regions(regions: object) -> tuple[str, ...]:
    """Names of regions."""
    names = _as_tuple("regions", regions)
    if not all(isinstance(name, str) and name.isprintable() for name in names):
        raise ValueError(f"regions must be names on one line; got {names[:10]}")
    return names


def _length(name: str, value: object, *, positive: bool) -> float:
    """A length in minutes or days."""
    if is_number(value) and math.isfinite(value) and (value > 0 if positive else value >= 0):
        return value.item() if isinstance(value, np.generic) else value
    raise ValueError(f"{name} must be {'positive' if positive else '0 or more'}; got {value!r}")


def _check_points(points: Sequence[int]) -> None:
    """Coin epochs begin at period 1 and go up."""
    whole = all(is_number(p) and p % 1 == 0 for p in points)
    if not whole or points[0] != 1 or list(points) != sorted(points):
        raise ValueError(f"points must be periods that start at 1 and go up; got {points[:10]}")


def design_fields(design: Rotation) -> dict[str, Any]:
    """The design as plain values."""
    return {f.name: getattr(design, f.name) for f in fields(design)}
