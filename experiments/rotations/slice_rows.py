"""From rows to cells of time: one pass over a log, whatever its kind, and rows are gone.

A cell is an instant (or a whole period) of a unit and segment: how many rows, their weight, and
the weighted means of outcome and covariates around a centre near all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.frame import (
    Table,
    check_columns,
    codes,
    column_names,
    fetch_arrow,
    in_memory_rows,
    open_table,
    read_columns,
)
from causal.rows import ArrayRows, EngineRows, Expression, Rows, column
from experiments.rotations.instants import MINUTE, NEAR_WHOLE, TimeKind, engine_times, read_times
from experiments.rotations.row_checks import (
    refuse_beyond_squares,
    refuse_missing,
    refuse_other_arms,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Roles:
    """The user's names of the columns that a rotation is read from."""

    outcome: str
    treatment: str
    time: str
    unit: str | None = None
    weight: str | None = None
    by: str | None = None
    covariates: tuple[str, ...] = ()

    def named(self) -> dict[str, Any]:
        """Column names by argument."""
        return {
            "outcome": self.outcome,
            "treatment": self.treatment,
            "time": self.time,
            "unit": self.unit,
            "weight": self.weight,
            "by": self.by,
            "covariates": list(self.covariates),
        }

    @property
    def numeric(self) -> dict[str, str]:
        """Numbers by alias; time comes beside them."""
        found = {"y": self.outcome, "arm": self.treatment}
        found |= {f"x{j}": name for j, name in enumerate(self.covariates)}
        return found if self.weight is None else {**found, "w": self.weight}

    @property
    def labels(self) -> dict[str, str]:
        """Labels by alias."""
        found = {"unit": self.unit, "by": self.by}
        return {alias: name for alias, name in found.items() if name is not None}


@dataclass(frozen=True, eq=False)
class TimedRows:
    """Checked rows with time as a whole number ``t`` in [first, last]."""

    rows: ArrayRows | EngineRows
    roles: Roles
    kind: TimeKind
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows of one unit, instant and segment together.

    Parameters
    ----------
    time, unit, segment : int64 arrays (c,)
        Whole-number time; codes of `units` and `segments`.
    units, segments : arrays
        Labels.
    n : int64 array (c,)
        Rows.
    treated : int64 array (c,)
        Rows that were treated.
    size : array (c,)
        Sum of weights; rows without weights.
    outcome : array (c,)
        Weighted means minus `centre`.
    covariates : array (c, p)
        Weighted means around a centre of each column.
    centre : float
        Of the outcome.
    """

    time: NDArray[np.int64]
    unit: NDArray[np.int64]
    segment: NDArray[np.int64]
    units: NDArray[Any]
    segments: NDArray[Any]
    n: NDArray[np.int64]
    treated: NDArray[np.int64]
    size: NDArray[np.float64]
    outcome: NDArray[np.float64]
    covariates: NDArray[np.float64]
    centre: float

    def __len__(self) -> int:
        return len(self.time)

    def select(self, keep: NDArray[Any]) -> Cells:
        """Some of the cells."""
        names = ("time", "unit", "segment", "n", "treated", "size", "outcome", "covariates")
        some = {name: getattr(self, name)[keep] for name in names}
        return Cells(units=self.units, segments=self.segments, centre=self.centre, **some)

    def pooled(self, code: NDArray[np.int64], n_codes: int) -> Pooled:
        """Sums over groups of cells."""
        return pooled(code, n_codes, self.size, self.outcome, self.covariates)


@dataclass(frozen=True, eq=False)
class Pooled:
    """Weight (g,), weighted mean of the outcome (g,) and of covariates (g, p) by group."""

    size: NDArray[np.float64]
    outcome: NDArray[np.float64]
    covariates: NDArray[np.float64]


def pooled(
    code: NDArray[np.int64],
    n_codes: int,
    size: NDArray[np.float64],
    outcome: NDArray[np.float64],
    covariates: NDArray[np.float64],
) -> Pooled:
    """Weighted means by code; every code occurs with a positive weight."""
    total = np.bincount(code, size, n_codes)
    columns = [np.bincount(code, size * x, n_codes) / total for x in covariates.T]
    return Pooled(
        size=np.asarray(total, dtype=np.float64),
        outcome=np.bincount(code, size * outcome, n_codes) / total,
        covariates=np.column_stack(columns) if columns else np.zeros((n_codes, 0)),
    )


def timed_rows(frame: Table, roles: Roles) -> TimedRows:
    """Open a log and check it: columns, numbers, weights, arms of 0 and 1, times.

    Raises
    ------
    ValueError
        If a column is absent or in two roles, the table is empty, a value is missing or infinite,
        an arm is neither 0 nor 1, a weight is negative or all are 0, or periods are not whole.
    TypeError
        If a column is not of its kind.
    """
    check_columns(column_names(frame), roles.named())
    opened = _in_memory if in_memory_rows(frame) is not None else _in_engine
    found = opened(frame, roles)
    refuse_missing(found.rows, roles.numeric)
    _refuse_values(found.rows, roles)
    return found


def _refuse_values(rows: Rows, roles: Roles) -> None:
    """Arms are 0 or 1, weights are not negative; one scan where all is well."""
    asked: dict[str, Expression] = {"arm": lambda c: (c["arm"] != 0) & (c["arm"] != 1)}
    if roles.weight is not None:
        asked |= {"negative": lambda c: c["w"] < 0, "w": column("w")}
    found = rows.sums([], asked).values
    if found["arm"][0]:
        refuse_other_arms(rows, "arm", roles.treatment)
    if roles.weight is None:
        return
    if found["negative"][0]:
        what = {"name": f"weight {roles.weight!r}", "rule": "be >= 0", "do": "correct or drop them"}
        rows.refuse(asked["negative"], "w", **what)
    if found["w"][0] <= 0:
        raise ValueError(f"weight {roles.weight!r} must not be 0 throughout; give some weight")


def cells_of(timed: TimedRows, *, grain: int = 1) -> Cells:
    """Sum rows to cells; times are first rounded down to multiples of `grain`."""
    rows, roles = timed.rows, timed.roles
    if grain > 1:
        rows = rows.derive({"t": lambda c: c["t"] - c["t"] % grain})
    names = ["y", *(f"x{j}" for j in range(len(roles.covariates)))]
    pilot = rows.pilot(names).centre
    weighted = roles.weight is not None
    sums = {name: _around(name, pilot[name], weighted=weighted) for name in names}
    sums["arm"] = column("arm")
    if weighted:
        sums["w"] = column("w")
    by = [*roles.labels, "t"]
    groups = rows.sums(by, sums)
    size = groups.values["w"] if weighted else groups.n.astype(np.float64)
    keep = np.flatnonzero(size > 0)
    unit, units = _coded(groups.keys.get("unit"), len(groups))
    segment, segments = _coded(groups.keys.get("by"), len(groups))
    means = [groups.values[name][keep] / size[keep] for name in names]
    for name, mean in zip((roles.outcome, *roles.covariates), means, strict=True):
        refuse_beyond_squares(name, float(np.abs(mean).max()))
    return Cells(
        time=groups.keys["t"].astype(np.int64)[keep],
        unit=unit[keep],
        segment=segment[keep],
        units=units,
        segments=segments,
        n=groups.n[keep],
        treated=np.rint(groups.values["arm"]).astype(np.int64)[keep],
        size=size[keep],
        outcome=means[0],
        covariates=np.column_stack(means[1:]) if means[1:] else np.zeros((len(keep), 0)),
        centre=pilot["y"],
    )


def _coded(labels: NDArray[Any] | None, n: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Codes and levels of labels; one level where there are none."""
    if labels is None:
        return np.zeros(n, dtype=np.int64), np.array(["all"], dtype=object)
    return codes(labels)


def _around(name: str, centre: float, *, weighted: bool) -> Expression:
    """Formula of a column around its centre, times the weight."""
    if weighted:
        return lambda c: (c[name] - centre) * c["w"]
    return lambda c: c[name] - centre


def _in_memory(frame: Table, roles: Roles) -> TimedRows:
    """A table in memory as arrays."""
    numbers = read_columns(frame, numeric=list(roles.numeric.values()), missing="keep")
    labels = read_columns(frame, labels=list(roles.labels.values()))
    arrays = {alias: numbers[name] for alias, name in roles.numeric.items()}
    arrays |= {alias: labels[name] for alias, name in roles.labels.items()}
    t, kind = read_times(frame, roles.time)
    return TimedRows(ArrayRows({**arrays, "t": t}, len(t)), roles, kind, int(t.min()), int(t.max()))


def _in_engine(frame: Table, roles: Roles) -> TimedRows:
    """A table behind an engine; time becomes a number there."""
    names = [*roles.numeric.values(), roles.time, *roles.labels.values()]
    table, kind = engine_times(open_table(frame, columns=names), roles.time)
    rows = EngineRows.opened(table, {**roles.numeric, "t": roles.time}, roles.labels)
    refuse_missing(rows, {"t": roles.time})
    if not kind.stamps:
        what = {"rule": "hold whole periods, or timestamps", "do": "convert them first"}
        rows.refuse(_off_whole, "t", name=f"column {roles.time!r}", **what)
    rows = rows.derive({"t": lambda c: c["t"].round().cast("int64")})
    t = rows.table["t"]
    ends = fetch_arrow(rows.table.agg(first=t.min(), last=t.max())).to_pylist()[0]
    return TimedRows(rows, roles, kind, int(ends["first"]), int(ends["last"]))


def _off_whole(c: Any) -> Any:  # noqa: ANN401 — columns of the engine
    """Formula of whether a time is not whole."""
    return (c["t"] - c["t"].round()).abs() > NEAR_WHOLE


def grain_of(lengths: Sequence[int]) -> int:
    """Minutes or seconds if all boundaries are whole ones: many instants become few."""
    for grain in (MINUTE, MINUTE // 60, 1000):
        if not any(x % grain for x in lengths):
            return grain
    return 1
