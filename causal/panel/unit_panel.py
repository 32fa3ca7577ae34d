"""Units by periods: a log read once into one row a unit, with its first treated period."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.effect import EstimationWarning
from causal.frame import (
    Table,
    check_columns,
    check_one_of,
    codes,
    column_names,
    column_reader,
    in_memory_rows,
    listed,
    read_columns,
)
from causal.panel.adoption import (
    Adoption,
    check_adoption,
    declared,
    first_by_cohort,
    first_by_label,
    first_by_start,
    first_by_status,
    last_rows,
    later_cohorts,
    shown,
)
from causal.panel.times import Times, coded_times, read_time_column, time_values, whole_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from causal.values import JsonScalar

Aggregate = Literal["mean", "sum", None]

_MOST_CELLS = 2**31


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UnitPanel:
    """Units by periods: one row a unit.

    Parameters
    ----------
    times : Times
        The T observed periods.
    units : array (N,)
        Labels, sorted.
    outcome : float64 array (N, T)
        NaN where a unit has no row.
    first : int64 array (N,)
        Position of the first treated period; T for never (or later than observed), 0 for always.
    cluster, stratum : int64 arrays (N,), optional
        Codes into `cluster_labels` and `strata`.
    covariates : mapping from column to float64 array (N, T)
    weight : float64 array (N, T), optional
    later : bool array (N,), optional
        Units that never count as treated only because their cohort lies after the last period.
    n_obs : int
        Rows that entered.
    """

    times: Times
    units: NDArray[Any]
    outcome: NDArray[np.float64]
    first: NDArray[np.int64]
    n_obs: int
    cluster: NDArray[np.int64] | None = None
    cluster_labels: NDArray[Any] | None = None
    stratum: NDArray[np.int64] | None = None
    strata: tuple[JsonScalar, ...] = ()
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    weight: NDArray[np.float64] | None = None
    later: NDArray[np.bool_] | None = None

    @property
    def n_units(self) -> int:
        """Number of units, N."""
        return len(self.units)

    @property
    def n_periods(self) -> int:
        """Number of periods, T."""
        return len(self.times)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether a unit has a row in a period, (N, T)."""
        return ~np.isnan(self.outcome)

    @property
    def balanced(self) -> bool:
        """Whether every unit has a row in every period."""
        return not np.isnan(self.outcome).any()

    def select(self, keep: NDArray[np.bool_]) -> UnitPanel:
        """Only some units; codes of clusters and strata stay as they are."""
        outcome = self.outcome[keep]
        return replace(
            self,
            units=self.units[keep],
            outcome=outcome,
            first=self.first[keep],
            cluster=None if self.cluster is None else self.cluster[keep],
            stratum=None if self.stratum is None else self.stratum[keep],
            weight=None if self.weight is None else self.weight[keep],
            later=None if self.later is None else self.later[keep],
            covariates={name: values[keep] for name, values in self.covariates.items()},
            n_obs=int((~np.isnan(outcome)).sum()),
        )


def warn(message: str, *, stacklevel: int = 4) -> None:
    """An `EstimationWarning` at the user's call."""
    warnings.warn(message, EstimationWarning, stacklevel=stacklevel)


def read_panel(  # noqa: PLR0913 — the roles of columns and the ways to say who is treated
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str | None = None,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    never: Any = None,  # noqa: ANN401 — a time of any kind
    treated: Any = None,  # noqa: ANN401 — one unit or several
    cluster: str | None = None,
    stratum: str | None = None,
    covariates: Sequence[str] = (),
    numeric: Sequence[str] = (),
    weight: str | None = None,
    aggregate: Aggregate = None,
    check: bool = True,
) -> UnitPanel:
    """Read any table into units by periods; every complaint about the table is made here.

    Parameters
    ----------
    table : Table
        One row a unit and period, or several with `aggregate`.
    outcome, unit, time : str
        Columns; the outcome is finite and present in every row.
    cohort, treatment, start, never, treated
        Who is treated and when: see `causal.panel.adoption`.
    cluster, stratum : str, optional
        Columns that are constant within unit.
    covariates, numeric : sequence of str
        Further numbers, the latter may be missing; both come as `covariates`.
    weight : str, optional
        Weights of rows, >= 0; they also weigh what `aggregate` averages.
    aggregate : {"mean", "sum"}, optional
        What to do with several rows of a unit in a period; by default they raise.
    check : bool
        Whether nobody treated, nobody untreated or a single period raise.

    Raises
    ------
    ValueError, TypeError
        Section 4 of the specification, by the column's name.
    """
    asked = panel_columns(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        cohort=cohort,
        treatment=treatment,
        start=start,
        never=never,
        treated=treated,
        cluster=cluster,
        stratum=stratum,
        covariates=covariates,
        numeric=numeric,
        weight=weight,
        aggregate=aggregate,
    )
    return read_columns_of(table, asked, check=check)


def read_columns_of(table: Table, asked: PanelColumns, *, check: bool = True) -> UnitPanel:
    """Units by periods of columns that are known to be in the table."""
    if in_memory_rows(table) is None:
        from causal.panel.engine_units import fetch_units  # noqa: PLC0415 — ibis only when used

        panel = fetch_units(table, asked)
    else:
        panel = from_memory(table, asked)
    if check:
        check_adoption(
            panel.first,
            last_rows(panel.present),
            panel.times,
            unit=asked.said.unit,
            column=asked.said.column,
        )
        warn_gaps(panel.times, asked.time, stacklevel=6)
    return panel


def panel_columns(  # noqa: PLR0913 — the roles of columns and the ways to say who is treated
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str | None = None,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    never: Any = None,  # noqa: ANN401 — a time of any kind
    treated: Any = None,  # noqa: ANN401 — one unit or several
    cluster: str | None = None,
    stratum: str | None = None,
    covariates: Sequence[str] = (),
    numeric: Sequence[str] = (),
    weight: str | None = None,
    aggregate: Aggregate = None,
) -> PanelColumns:
    """Columns by role, once they are known to be in the table; parameters as in `read_panel`."""
    check_one_of(aggregate, "aggregate", (None, "mean", "sum"))
    said = declared(
        unit=unit, cohort=cohort, treatment=treatment, start=start, never=never, treated=treated
    )
    asked = PanelColumns(
        said=said,
        outcome=outcome,
        time=time,
        cluster=None if cluster == unit else cluster,
        stratum=stratum,
        covariates=tuple(listed(covariates, "covariates")),
        numeric=tuple(listed(numeric, "numeric")),
        weight=weight,
        aggregate=aggregate,
    )
    check_columns(column_names(table), asked.roles)
    if weight is not None and aggregate == "sum":
        raise ValueError("aggregate='sum' takes no weight; use aggregate='mean', or leave it out")
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelColumns:
    """Columns by role."""

    said: Adoption
    outcome: str
    time: str
    cluster: str | None = None
    stratum: str | None = None
    covariates: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    weight: str | None = None
    aggregate: Aggregate = None

    @property
    def exact(self) -> tuple[str, ...]:
        """Columns of numbers without gaps, the outcome first."""
        more = (*self.covariates, *_some(self.said.treatment), *_some(self.weight))
        return (self.outcome, *more)

    @property
    def by_period(self) -> tuple[str, ...]:
        """Those of them that may change from period to period."""
        varies = self.said.way == "status"
        return tuple(n for n in self.exact if varies or n != self.said.treatment)

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        labels = [self.said.unit, self.time, *_some(self.said.cohort), *_some(self.cluster)]
        return list(dict.fromkeys([*labels, *_some(self.stratum), *self.exact, *self.numeric]))

    @property
    def said_in_words(self) -> dict[str, Any]:
        """Columns by role and the times that were named, as JSON values."""
        said = self.said
        found = {role: name for role, name in self.roles.items() if isinstance(name, str)}
        named = {"start": said.start, "never": said.never, "aggregate": self.aggregate}
        return found | {role: str(value) for role, value in named.items() if value is not None}

    @property
    def roles(self) -> dict[str, str | Sequence[str] | None]:
        """Columns by argument, for the check of names; a column plays one role."""
        return {
            "outcome": self.outcome,
            "unit": self.said.unit,
            "time": self.time,
            "cohort": self.said.cohort,
            "treatment": self.said.treatment,
            "cluster": self.cluster,
            "stratum": self.stratum,
            "covariates": self.covariates,
            "predictors": [n for n in self.numeric if n != self.outcome],
            "weight": self.weight,
        }


def from_memory(table: Table, asked: PanelColumns) -> UnitPanel:
    """Units by periods of a table in memory."""
    rows = _Rows.read(table, asked)
    n, t = len(rows.units), len(rows.times)
    if n * t > _MOST_CELLS:
        raise ValueError(
            f"{n:,} units by {t:,} periods are more than {_MOST_CELLS:,} cells; use coarser times"
        )
    cell = rows.unit * t + rows.period
    count = np.bincount(cell, minlength=n * t)
    doubled = int(len(cell) - np.count_nonzero(count))
    if doubled and asked.aggregate is None:
        at = np.flatnonzero(count > 1)
        pairs = [f"{rows.units[c // t]} at {rows.times.labels[c % t]}" for c in at[:3]]
        raise doubled_error(asked.said.unit, asked.time, doubled, pairs)

    def spread(values: NDArray[np.float64], *, total: bool = False) -> NDArray[np.float64]:
        """Values of rows as (N, T); several of a cell are averaged, or added where `total`."""
        if not doubled:
            wide = np.full(n * t, np.nan)
            wide[cell] = values
            return wide.reshape(n, t)
        near = values[np.isfinite(values)][:1]
        centre = float(near[0]) if len(near) else 0.0
        w = np.ones(len(cell)) if asked.weight is None else rows.weights(asked.weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.bincount(cell, w, n * t)
            mean = np.bincount(cell, w * (values - centre), n * t) / share + centre
        return (mean * count if total else mean).reshape(n, t)

    covariates = {name: spread(rows.numbers[name]) for name in (*asked.covariates, *asked.numeric)}
    cohort = rows.cohorts(asked.said.cohort)
    return UnitPanel(
        times=rows.times,
        units=rows.units,
        outcome=spread(rows.numbers[asked.outcome], total=asked.aggregate == "sum"),
        first=_first(rows, asked, cohort, spread),
        n_obs=len(cell),
        cluster=rows.label_codes("cluster", asked.cluster),
        cluster_labels=None if asked.cluster is None else rows.labels[asked.cluster][1],
        stratum=rows.label_codes("stratum", asked.stratum),
        strata=() if asked.stratum is None else tuple(rows.labels[asked.stratum][1].tolist()),
        covariates=covariates,
        weight=None if asked.weight is None else _weight(rows, asked.weight, cell, count, (n, t)),
        later=None if cohort is None else later_cohorts(asked.said, rows.times, *cohort[1:]),
    )


_Cohorts = tuple[str, "NDArray[Any]", "NDArray[np.int64]"]  # kind, levels, codes of units


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a table in memory, coded.

    unit, period : int64 (n,), codes into `units` and `times`
    numbers : float64 (n,) by column;  labels : codes and levels by column
    """

    unit: NDArray[np.int64]
    units: NDArray[Any]
    period: NDArray[np.int64]
    times: Times
    numbers: Mapping[str, NDArray[np.float64]]
    labels: Mapping[str, tuple[NDArray[np.int64], NDArray[Any]]]
    cohort: tuple[str, NDArray[Any]] | None  # kind and values, (n,)
    name: str

    @classmethod
    def read(cls, table: Table, asked: PanelColumns) -> _Rows:
        """Read and code the columns."""
        said = asked.said
        exact = list(asked.exact)
        names = [said.unit, *_some(asked.cluster), *_some(asked.stratum)]
        columns = read_columns(table, numeric=exact, labels=names)
        gappy = [name for name in asked.numeric if name not in columns]
        if gappy:
            columns |= read_columns(table, numeric=gappy, missing="keep")
        column = column_reader(table, [asked.time, *_some(said.cohort)])
        time = read_time_column(asked.time, column(asked.time))
        refuse_missing(asked.time, int((time.codes < 0).sum()))
        cohort = None if said.cohort is None else time_values(said.cohort, column(said.cohort))
        unit, units = label_codes(columns[said.unit])
        return cls(
            unit=unit,
            units=units,
            period=time.codes,
            times=Times(time.kind, time.levels),
            numbers={name: columns[name] for name in (*exact, *asked.numeric)},
            labels={name: label_codes(columns[name]) for name in names[1:]},
            cohort=cohort,
            name=said.unit,
        )

    def weights(self, column: str) -> NDArray[np.float64]:
        """Weights of rows."""
        return check_weights(self.numbers[column], column)

    def label_codes(self, role: str, column: str | None) -> NDArray[np.int64] | None:
        """Codes (N,) of a label that must be constant within unit."""
        return None if column is None else self.of_units(role, column, self.labels[column][0])

    def cohorts(self, column: str | None) -> _Cohorts | None:
        """Kind, levels and codes (N,) of the units' cohorts; None without such a column."""
        if self.cohort is None or column is None:
            return None
        kind, values = self.cohort
        found = coded_times(kind, self.of_units("cohort", column, values))
        return kind, found.levels, found.codes

    def of_units(self, role: str, column: str, values: NDArray[Any]) -> NDArray[Any]:
        """One value a unit, (N,)."""
        by_unit = np.empty(len(self.units), dtype=values.dtype)
        by_unit[self.unit[::-1]] = values[::-1]  # the first of a unit is written last
        found = by_unit
        if values.dtype.kind == "M":  # a missing instant is no change from a missing one
            found, values = by_unit.view(np.int64), values.view(np.int64)
        changed = found[self.unit] != values
        if values.dtype.kind == "f":
            changed &= ~(np.isnan(found)[self.unit] & np.isnan(values))
        if changed.any():
            refuse_change(role, column, self.name, self.units[np.unique(self.unit[changed])])
        return by_unit


def _first(
    rows: _Rows,
    asked: PanelColumns,
    cohort: _Cohorts | None,
    spread: Any,  # noqa: ANN401 — a function
) -> NDArray[np.int64]:
    """First treated position of each unit."""
    said = asked.said
    if cohort is not None:
        return first_by_cohort(said, rows.times, *cohort)
    if said.treatment is None:
        return first_by_label(said, rows.times, rows.units)
    status = rows.numbers[said.treatment]
    if said.way == "start":
        by_unit = rows.of_units("treatment", said.treatment, status)
        return first_by_start(said, rows.times, rows.units, by_unit)
    return first_by_status(said, rows.times, rows.units, spread(status))


def _weight(
    rows: _Rows,
    name: str,
    cell: NDArray[np.int64],
    count: NDArray[np.int64],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Sums of weights by cell; NaN where there is no row."""
    total = np.bincount(cell, rows.weights(name), len(count))
    return np.where(count > 0, total, np.nan).reshape(shape)


def label_codes(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Dense codes of labels and the sorted levels; close whole numbers by a table."""
    direct = whole_codes(values) if values.dtype == np.int64 else None
    return codes(values) if direct is None else direct


def refuse_missing(column: str, count: int) -> None:
    """Raise if a time is missing."""
    if count:
        rows = "1 row is not" if count == 1 else f"{count} rows are not"
        raise ValueError(
            f"column {column!r} must be present (not missing); {rows}; drop or fill them"
        )


def refuse_change(role: str, column: str, unit: str, units: NDArray[Any]) -> None:
    """Raise for units within which a column changes."""
    change = "1 unit changes it" if len(units) == 1 else f"{len(units)} units change it"
    raise ValueError(
        f"{role} {column!r} must be constant within unit {unit!r}; {change}, e.g. {shown(units)}; "
        "correct it, or name a column that does not change"
    )


def doubled_error(unit: str, time: str, count: int, pairs: Sequence[str]) -> ValueError:
    """What to say of units with several rows in a period."""
    further = "1 row is a further one" if count == 1 else f"{count} rows are further ones"
    return ValueError(
        f"each unit {unit!r} must have one row in each {time!r}; {further}, e.g. of "
        f"{', '.join(pairs)}; aggregate them first (panel_moments and diff_in_diff take "
        "aggregate='mean' or 'sum'), or drop them"
    )


def check_weights(weight: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Weights of rows; not negative, not all zero."""
    if (weight < 0).any() or not weight.any():
        bad = weight[weight < 0]
        what = f"{len(bad)} rows are negative, e.g. {shown(bad)}" if len(bad) else "all are 0"
        raise ValueError(f"weight {name!r} must be >= 0 and not all 0; {what}; correct them")
    return weight


def warn_gaps(times: Times, name: str, *, stacklevel: int) -> None:
    """Say once that a calendar skips periods."""
    gaps = times.gaps()
    if gaps:
        pairs = ", ".join(f"{a} to {b}" for a, b in gaps[:3])
        warn(
            f"{name!r} skips periods in {len(gaps)} {'place' if len(gaps) == 1 else 'places'} "
            f"({pairs}); event time counts observed periods",
            stacklevel=stacklevel,
        )


def _some(name: str | None) -> list[str]:
    """The name, if there is one."""
    return [] if name is None else [name]
