"""One row a unit, made in the engine: the log's rows stay where they are.

Units are taken in parts by their hash, so that no part needs more than a bounded memory.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.engine_rows import EngineRows
from causal.frame import Table, fetch_arrow, open_table, tidy_labels
from causal.moments import refuse_gaps
from causal.panel.adoption import (
    first_by_cohort,
    first_by_label,
    first_by_start,
    first_by_status,
    later_cohorts,
)
from causal.panel.times import Times, read_time_column
from causal.panel.unit_panel import (
    PanelColumns,
    UnitPanel,
    check_weights,
    doubled_error,
    from_memory,
    label_codes,
    refuse_change,
    refuse_missing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import ibis.expr.types as ir
    import pyarrow as pa
    from numpy.typing import NDArray

_MOST_PERIODS = 64  # beyond so many sums a unit, rows are fetched and spread here
_PART_CELLS = 1_250_000  # units x periods of one part: about 150 MB in the engine
_MOST_PARTS = 16  # each part is a scan


def fetch_units(table: Table, asked: PanelColumns) -> UnitPanel:
    """All units of a table behind an engine."""
    opened = _Opened.of(table, asked)
    if len(opened.times) > _MOST_PERIODS:
        return from_memory(_fetched(table, asked), asked)
    return _panel(_joined([opened.part(j) for j in range(opened.n_parts)]), opened)


def unit_parts(table: Table, asked: PanelColumns) -> Iterator[UnitPanel]:
    """Disjoint parts of the units of a table behind an engine, with the same times."""
    opened = _Opened.of(table, asked)
    if len(opened.times) > _MOST_PERIODS:
        yield from_memory(_fetched(table, asked), asked)
        return
    for j in range(opened.n_parts):
        part = opened.part(j)
        if part.num_rows:
            yield _panel(part, opened)


def _fetched(table: Table, asked: PanelColumns) -> pa.Table:
    """The columns of all rows."""
    return fetch_arrow(open_table(table, columns=asked.names))


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    """Parts one after another."""
    import pyarrow as pa  # noqa: PLC0415 — with the engine

    return pa.concat_tables(parts)


@dataclass(frozen=True, slots=True)
class _Opened:
    """Rows in an engine under aliases, and their times."""

    rows: EngineRows
    asked: PanelColumns
    times: Times
    n_parts: int
    by_table: bool  # whether the unit's label is a whole number

    @classmethod
    def of(cls, table: Table, asked: PanelColumns) -> _Opened:
        """Open, check and count."""
        opened = open_table(table, columns=asked.names)
        numeric = {f"x{j}": name for j, name in enumerate(asked.exact)}
        gappy = {f"z{j}": name for j, name in enumerate(asked.numeric) if name != asked.outcome}
        labels = {"unit": asked.said.unit}
        labels |= {} if asked.cluster is None else {"cluster": asked.cluster}
        labels |= {} if asked.stratum is None else {"stratum": asked.stratum}
        raw = {"time": asked.time}
        raw |= {} if asked.said.cohort is None else {"cohort": asked.said.cohort}
        rows = EngineRows.opened(opened, numeric | gappy, labels, raw=raw)
        refuse_gaps(rows, numeric)
        rows = EngineRows(_comparable(rows.table, raw), rows.missing, rows.owned)
        t = rows.table
        found = fetch_arrow(t.select("time").distinct())
        column = read_time_column(asked.time, found.column("time"))
        if (column.codes < 0).any():
            absent = t.filter(t["time"].isnull()).count()
            refuse_missing(asked.time, int(fetch_arrow(absent.as_table()).column(0)[0].as_py()))
        units = int(fetch_arrow(t.agg(n=t["unit"].approx_nunique())).column(0)[0].as_py())
        n_parts = min(math.ceil(units * len(column.levels) / _PART_CELLS), _MOST_PARTS)
        whole = bool(t["unit"].type().is_integer())
        return cls(rows, asked, Times(column.kind, column.levels), max(n_parts, 1), whole)

    def part(self, j: int) -> pa.Table:
        """One part of the units: a row each."""
        t = self.rows.table
        if self.n_parts > 1:
            key = t["unit"] if self.by_table else t["unit"].hash()
            t = t.filter((key % self.n_parts + self.n_parts) % self.n_parts == j)
        return fetch_arrow(t.group_by("unit").agg(**self._sums(t)))

    def _sums(self, t: ir.Table) -> dict[str, ir.Value]:
        """What is asked of each unit, by alias."""
        asked = self.asked
        found: dict[str, ir.Value] = {"n": t.count()}
        here = [t["time"] == value for value in self._literals(t)]
        wide = [f"x{j}" for j, name in enumerate(asked.exact) if name in asked.by_period]
        wide += [f"z{j}" for j, name in enumerate(asked.numeric) if name != asked.outcome]
        weight = None if asked.weight is None else f"x{asked.exact.index(asked.weight)}"
        for alias in wide:
            added = alias == weight or (alias == "x0" and asked.aggregate == "sum")
            for j, now in enumerate(here):
                column = now.ifelse(t[alias], None)  # quicker in DuckDB than an aggregate's filter
                if added:
                    found[f"{alias}_{j}"] = column.sum()
                elif weight is not None and asked.aggregate == "mean":
                    total = now.ifelse(t[weight], None).sum().nullif(0.0)
                    found[f"{alias}_{j}"] = (column * t[weight]).sum() / total
                else:
                    found[f"{alias}_{j}"] = column.mean()
        for alias in self._constant:
            found |= {f"{alias}_low": t[alias].min(), f"{alias}_high": t[alias].max()}
        if "cohort" in self._constant:
            found["cohort_n"] = t["cohort"].count()
        return found

    @property
    def _constant(self) -> list[str]:
        """Aliases that must be constant within unit."""
        asked = self.asked
        named = {"cohort": asked.said.cohort, "cluster": asked.cluster, "stratum": asked.stratum}
        found = [alias for alias, name in named.items() if name is not None]
        if asked.said.way == "start":
            found.append(f"x{asked.exact.index(str(asked.said.treatment))}")
        return found

    def _literals(self, t: ir.Table) -> list[ir.Value]:
        """The times as constants of the engine."""
        import ibis  # noqa: PLC0415 — loaded only when used

        kind, plain = t["time"].type(), self.times.values.tolist()
        if self.times.kind == "instant":
            plain = [instant.replace(tzinfo=dt.UTC) for instant in plain]
        return [ibis.literal(value, type=kind) for value in plain]


def _comparable(t: ir.Table, raw: dict[str, str]) -> ir.Table:
    """Dates as timestamps; numbers that are not finite as missing."""
    changed = {}
    for alias in raw:
        kind = t[alias].type()
        if kind.is_date() or (kind.is_timestamp() and kind.timezone is None):
            changed[alias] = t[alias].cast("timestamp")
        elif kind.is_floating():
            bad = t[alias].isnan() | t[alias].isinf()
            changed[alias] = bad.ifelse(None, t[alias])
    return t.mutate(**changed) if changed else t


def _panel(part: pa.Table, opened: _Opened) -> UnitPanel:
    """Units by periods from one row a unit."""
    asked, times = opened.asked, opened.times
    unit, units = label_codes(_labels(part, "unit"))
    order = np.argsort(unit)  # each unit has one row
    rows = _UnitRows(part, order, units, asked, len(times))
    outcome = rows.wide("x0")
    count = part.column("n").to_numpy()[order]
    doubled = int(count.sum() - np.count_nonzero(~np.isnan(outcome)))
    if doubled and asked.aggregate is None:
        several = units[count > (~np.isnan(outcome)).sum(axis=1)]
        raise doubled_error(asked.said.unit, asked.time, doubled, [str(u) for u in several[:3]])
    covariates = {
        name: rows.wide(f"x{asked.exact.index(name)}" if name in asked.exact else f"z{j}")
        for name, j in [
            *((name, 0) for name in asked.covariates),
            *((name, j) for j, name in enumerate(asked.numeric)),
        ]
    }
    weight = None if asked.weight is None else rows.wide(f"x{asked.exact.index(asked.weight)}")
    if asked.weight is not None and weight is not None:
        check_weights(weight[~np.isnan(weight)], asked.weight)
    cluster, cluster_labels = rows.codes("cluster", asked.cluster)
    stratum, strata = rows.codes("stratum", asked.stratum)
    return UnitPanel(
        times=times,
        units=units,
        outcome=outcome,
        first=rows.first(times),
        later=rows.later(times),
        n_obs=int(count.sum()),
        cluster=cluster,
        cluster_labels=cluster_labels,
        stratum=stratum,
        strata=() if strata is None else tuple(strata.tolist()),
        covariates=covariates,
        weight=weight,
    )


@dataclass(frozen=True, slots=True)
class _UnitRows:
    """One row a unit as Arrow, read in the order of the units' labels."""

    part: pa.Table
    order: NDArray[np.int64]
    units: NDArray[Any]
    asked: PanelColumns
    n_periods: int

    def wide(self, alias: str) -> NDArray[np.float64]:
        """A number by period, (N, T); NaN where there is no row."""
        found = np.empty((len(self.units), self.n_periods))
        for j in range(self.n_periods):
            values = self.part.column(f"{alias}_{j}").to_numpy()
            found[:, j] = np.asarray(values, dtype=np.float64)[self.order]
        return found

    def constant(self, role: str, alias: str, name: str) -> NDArray[Any]:
        """A label that must not change within a unit."""
        low, high = (_labels(self.part, f"{alias}_{end}")[self.order] for end in ("low", "high"))
        changed = low != high
        if changed.any():
            refuse_change(role, name, self.asked.said.unit, self.units[changed])
        return low

    def codes(
        self, role: str, name: str | None
    ) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
        """Codes and levels of a cluster or a stratum."""
        return (None, None) if name is None else label_codes(self.constant(role, role, name))

    def first(self, times: Times) -> NDArray[np.int64]:
        """First treated position of each unit."""
        said = self.asked.said
        if said.cohort is not None:
            return self._by_cohort(said.cohort, times)
        if said.treatment is None:
            return first_by_label(said, times, self.units)
        alias = f"x{self.asked.exact.index(said.treatment)}"
        if said.way == "start":
            status = self.constant("treatment", alias, said.treatment).astype(np.float64)
            return first_by_start(said, times, self.units, status)
        return first_by_status(said, times, self.units, self.wide(alias))

    def later(self, times: Times) -> NDArray[np.bool_] | None:
        """Units whose cohort lies after the last observed time; None without cohorts."""
        if self.asked.said.cohort is None:
            return None
        levels, codes = self._cohorts(self.asked.said.cohort)[1:]
        return later_cohorts(self.asked.said, times, levels, codes)

    def _by_cohort(self, name: str, times: Times) -> NDArray[np.int64]:
        """First treated position from the cohort of each unit."""
        return first_by_cohort(self.asked.said, times, *self._cohorts(name))

    def _cohorts(self, name: str) -> tuple[str, NDArray[Any], NDArray[np.int64]]:
        """Kind, levels and codes of the cohorts: the least and largest of each unit are equal."""
        import pyarrow as pa  # noqa: PLC0415 — with the engine

        ends = [self.part.column(f"cohort_{end}") for end in ("low", "high")]
        both = read_time_column(name, pa.chunked_array([*ends[0].chunks, *ends[1].chunks]))
        low, high = both.codes.reshape(2, -1)[:, self.order]
        count, seen = (self.part.column(c).to_numpy()[self.order] for c in ("n", "cohort_n"))
        changed = (low != high) | ((seen > 0) & (seen < count))
        if changed.any():
            refuse_change("cohort", name, self.asked.said.unit, self.units[changed])
        return both.kind, both.levels, low


def _labels(part: pa.Table, name: str) -> NDArray[Any]:
    """Labels that came from the engine, like those read at the door."""
    values = part.column(name).to_numpy()
    return tidy_labels(values) if values.dtype.kind in "iuf" else values
