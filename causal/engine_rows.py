"""Rows in an engine: the verbs through Ibis."""

from __future__ import annotations

import math
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from causal.array_rows import ArrayRows
from causal.frame import codes, complaint, fetch_arrow, tidy_labels
from causal.parquet import complaints_about
from causal.verbs import HEAD_ROWS, Expression, Groups, Pilot, Rows, as_column, power_of_two

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import ibis.expr.types as ir
    from numpy.typing import NDArray

_MANY_GROUPS = 400_000  # beyond it further sums are faster in the engine
_MANY_VALUES = 2_000_000  # beyond it the engine sorts, 16 MB of numbers do not come over
_COUNT = "rows in group"  # no alias of an analysis


@dataclass(frozen=True)
class EngineRows:
    """Rows in an engine, as an Ibis table; NULL is a missing number.

    `owned` says that the engine is our private one, where intermediate tables may be kept.
    """

    table: ir.Table
    missing: Mapping[str, int]
    owned: bool

    @classmethod
    def opened(
        cls,
        table: ir.Table,
        numeric: Mapping[str, str],
        labels: Mapping[str, str],
        *,
        raw: Mapping[str, str] | None = None,
        finite: bool = True,
    ) -> EngineRows:
        """Cast, check in one pass, and alias the columns of an opened table; `raw` ones as is."""
        plain = {a: _engine_number(table, name) for a, name in numeric.items()}
        plain |= {a: _engine_label(table, name) for a, name in labels.items()}
        plain |= {a: table[name] for a, name in (raw or {}).items()}
        cast = table.select(**plain)
        missing, holding_nan = _checked(table, cast, numeric, labels, finite=finite)
        gaps = {a: cast[a].isnan().ifelse(None, cast[a]) for a in holding_nan}
        return cls(cast.mutate(**gaps) if gaps else cast, missing, _is_private(table))

    def n_missing(self, column: str) -> int:
        """How many rows miss a number, when the table was opened."""
        return self.missing.get(column, 0)

    def refuse(self, bad: Expression, column: str, *, name: str, rule: str, do: str) -> None:
        """Raise ValueError with the first five rows for which `bad` holds, if there are any."""
        _refuse(self.table, bad(self.table), column, name, rule, do)

    def where(self, keep: Expression) -> EngineRows:
        """Only the rows for which `keep` holds."""
        return self._with(self.table.filter(keep(self.table)))

    def derive(self, columns: Mapping[str, Expression]) -> EngineRows:
        """Add columns."""
        return self._with(self.table.mutate(**{k: f(self.table) for k, f in columns.items()}))

    def grouped(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Rows:
        """One row a group; few come back as arrays, many stay in the private engine."""
        kept = EngineRows(self.grouped_table(by, sums), {}, self.owned)
        if not self.owned:
            return kept
        count = int(kept.sums([], {}).n[0])
        if count >= _MANY_GROUPS:
            return kept
        found = fetch_arrow(kept.table)
        keys = {name: _key_array(found.column(name)) for name in by}
        values = {name: _float_array(found.column(name)) for name in (*sums, "n")}
        return ArrayRows({**keys, **values}, count)

    def grouped_table(self, by: Sequence[str], sums: Mapping[str, Expression]) -> ir.Table:
        """One row a group, in the engine; made at once in the private one."""
        total = self._aggregated(by, sums)
        total = total.mutate(n=total[_COUNT].cast("float64")).drop(_COUNT)
        if not self.owned:
            return total
        import ibis  # noqa: PLC0415 — loaded only when used

        backend, name = _backend(self.table), f"livelift_{uuid.uuid4().hex}"
        query = str(ibis.to_sql(total, dialect="duckdb"))
        with complaints_about(backend.livelift_source):
            backend.con.sql(query).create(name)
        return backend.table(name)

    def sums(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Groups:
        """Sums by group, in sorted order of the keys."""
        found = fetch_arrow(self._aggregated(by, sums))
        keys = {name: _key_array(found.column(name)) for name in by}
        order = np.lexsort([codes(keys[name])[0] for name in reversed(by)]) if by else slice(None)
        values = {k: _float_array(found.column(k))[order] for k in sums}
        n = found.column(_COUNT).to_numpy().astype(np.int64)[order]
        return Groups({k: v[order] for k, v in keys.items()}, n, values)

    def attach(self, groups: Groups, values: Mapping[str, NDArray[np.float64]]) -> EngineRows:
        """Give every row its group's values as columns."""
        if not groups.keys:
            constants = {k: as_column(float(v[0])) for k, v in values.items()}
            return self._with(self.table.mutate(**constants))
        keys = {f"key_of_{k}": label_array(v) for k, v in groups.keys.items()}
        small = _beside(self.table, pa.table({**keys, **values}))
        same = [self.table[k] == small[f"key_of_{k}"] for k in groups.keys]
        joined = self.table.inner_join(small, same)
        return self._with(joined.select(*self.table.columns, *values))

    def accumulated(self, column: str) -> EngineRows:
        """Every row again under each later value of a label."""
        later = self.table.select(later=self.table[column]).distinct()
        joined = self.table.inner_join(later, [self.table[column] <= later["later"]])
        others = [name for name in self.table.columns if name != column]
        return self._with(joined.select(*others, **{column: joined["later"]}))

    def numbered(self, name: str) -> EngineRows:
        """Add a column that tells rows apart."""
        import ibis  # noqa: PLC0415 — loaded only when used

        return self._with(self.table.mutate(**{name: ibis.row_number()}))

    def order_statistics(self, column: str, ranks: Sequence[int]) -> NDArray[np.float64]:
        """Values of the given ranks (1 is the least)."""
        some = self.brought([column])
        if isinstance(some, ArrayRows):
            return some.order_statistics(column, ranks)
        disc = _quantile_disc()
        n = int(fetch_arrow(self.table.agg(n=self.table.count())).column("n")[0].as_py())
        wanted = {f"q{j}": disc(self.table[column], (r - 0.5) / n) for j, r in enumerate(ranks)}
        row = fetch_arrow(self.table.agg(**wanted))
        return np.array([row.column(f"q{j}")[0].as_py() for j in range(len(ranks))], dtype=float)

    def brought(self, columns: Sequence[str]) -> Rows:
        """These columns in memory, unless the rows are many."""
        few = self._with(self.table.select(*columns).limit(_MANY_VALUES)).fetch(columns)
        count = len(few[columns[0]])
        return ArrayRows(few, count) if count < _MANY_VALUES else self

    def head(self) -> ArrayRows:
        """The first rows, fetched."""
        first = self._with(self.table.limit(HEAD_ROWS)).fetch(self.table.columns)
        return ArrayRows(first, min((len(v) for v in first.values()), default=0))

    def pilot(self, columns: Sequence[str], *, exact: bool = False) -> Pilot:
        """Centre and scale near the mean and the spread; from all rows if `exact`."""
        if not exact:
            return self._with(self.table.select(*columns)).head().pilot(columns)
        asked = {}
        for j, name in enumerate(columns):
            column = self.table[name]
            asked[f"middle{j}"] = column.mean()
            asked[f"low{j}"], asked[f"high{j}"] = column.min(), column.max()
        row = fetch_arrow(self.table.agg(**asked)).to_pylist()[0]
        found = {key: 0.0 if value is None else float(value) for key, value in row.items()}
        centre, scale = {}, {}
        for j, name in enumerate(columns):
            middle, low, high = (found[f"{what}{j}"] for what in ("middle", "low", "high"))
            centre[name] = middle if math.isfinite(middle) else low / 2 + high / 2
            scale[name] = power_of_two(max(high - centre[name], centre[name] - low))
        return Pilot(centre, scale)

    def fetch(self, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The columns as arrays."""
        found = fetch_arrow(self.table.select(*columns))
        return {
            name: _float_array(found.column(name))
            if pa.types.is_floating(found.schema.field(name).type)
            else _key_array(found.column(name))
            for name in columns
        }

    def _with(self, table: ir.Table) -> EngineRows:
        """The same rows behind another expression."""
        return EngineRows(table, self.missing, self.owned)

    def _aggregated(self, by: Sequence[str], sums: Mapping[str, Expression]) -> ir.Table:
        """Sums and counts by group as an expression."""
        t = self.table
        totals = {k: _total(t, f(t)) for k, f in sums.items()}
        totals[_COUNT] = t.count()
        return t.group_by(list(by)).agg(**totals) if by else t.agg(**totals)


def _total(table: ir.Table, value: Any) -> Any:  # noqa: ANN401 — Ibis expressions
    """Sum of a formula over rows; a constant formula counts once a row."""
    if hasattr(value, "type") and value.type().is_boolean():
        return value.cast("int32").sum().coalesce(0).cast("float64")  # faster than a sum of floats
    column = as_column(value)
    if hasattr(column, "sum"):
        return column.sum().coalesce(0.0)
    return table.count().cast("float64") * column


def _engine_number(table: ir.Table, name: str) -> ir.Value:
    """A column of the engine as float64; text, times and nested types are refused."""
    kind = table[name].type()
    if not (kind.is_numeric() or kind.is_boolean() or kind.is_null()):
        raise TypeError(f"column {name!r} must hold numbers; it holds {kind}; convert it first")
    return table[name] if kind.is_float64() else table[name].cast("float64")


def _engine_label(table: ir.Table, name: str) -> ir.Value:
    """A column of the engine as label; nested types are refused."""
    column, kind = table[name], table[name].type()
    if kind.is_integer():
        return column if kind.is_uint64() else column.cast("int64")
    if kind.is_boolean() or kind.is_string():
        return column
    if kind.is_decimal() and kind.scale == 0:
        return column.cast("int64")
    if kind.is_numeric():
        return column.cast("float64")
    if kind.is_timestamp():
        return column.strftime("%Y-%m-%d %H:%M:%S.%f").replace(".000000", "")
    if kind.is_date() or kind.is_uuid() or kind.is_null():
        return column.cast("string")
    raise TypeError(
        f"column {name!r} must hold labels (text, whole numbers, booleans or dates); "
        f"it holds {kind}; convert it first"
    )


def _checked(
    table: ir.Table,
    cast: ir.Table,
    numeric: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    finite: bool,
) -> tuple[dict[str, int], list[str]]:
    """Missing numbers by alias, and the aliases that hold NaN; raises on what no analysis takes.

    One scan of the floating columns: a finite sum proves that all of them are finite, and files
    often know how many values are null.
    """
    names = {**numeric, **labels}
    index = {alias: j for j, alias in enumerate(names)}
    asked_for = names if finite else labels
    floating = [a for a in asked_for if table[names[a]].type().is_floating()]
    asked = {f"present{index[a]}": table[name].count() for a, name in names.items()}
    asked |= {f"sum{index[a]}": table[names[a]].sum() for a in floating}
    row = fetch_arrow(table.agg(n=table.count(), **asked)).to_pylist()[0]
    if row["n"] == 0:
        raise ValueError("the table is empty; at least one row is required")
    missing = {alias: row["n"] - row[f"present{j}"] for alias, j in index.items()}
    suspect = [a for a in floating if missing[a] < row["n"] and not _finite(row[f"sum{index[a]}"])]
    holding_nan = []
    if suspect:
        nan = {f"nan{index[a]}": cast[a].isnan().sum() for a in suspect}
        counts = fetch_arrow(cast.agg(**nan)).to_pylist()[0]
        holding_nan = [a for a in suspect if counts[f"nan{index[a]}"]]
        missing |= {a: missing[a] + int(counts[f"nan{index[a]}"]) for a in holding_nan}
    for a in suspect:
        what = (f"column {names[a]!r}", "be finite", "drop or replace them")
        _refuse(cast, cast[a].isinf(), a, *what)
    for a in labels:
        if missing[a]:
            what = (f"column {names[a]!r}", "be present (not missing)", "drop or fill them")
            absent = cast[a].isnull()
            _refuse(cast, absent | cast[a].isnan() if a in holding_nan else absent, a, *what)
    return {a: missing[a] for a in numeric}, holding_nan


def _finite(value: float | None) -> bool:
    """Whether a sum is a finite number."""
    return value is not None and math.isfinite(value)


def _refuse(table: ir.Table, bad: Any, column: str, name: str, rule: str, do: str) -> None:  # noqa: ANN401 — an Ibis expression
    """Raise ValueError with the number and the first five of the bad rows, if there are any."""
    import ibis  # noqa: PLC0415 — loaded only when used

    rows = table.select(value=table[column], bad=bad, row=ibis.row_number())
    rows = rows.filter(rows["bad"])
    first = fetch_arrow(rows.mutate(count=rows.count()).order_by("row").limit(5)).to_pydict()
    if first["row"]:
        count, where, values = first["count"][0], first["row"], first["value"]
        raise ValueError(complaint(name, rule, count, where, values, do))


def _backend(table: ir.Table) -> Any:  # noqa: ANN401 — ibis has no type for a backend's connection
    """The engine that an expression belongs to."""
    return table.get_backend()


def _beside(table: ir.Table, values: pa.Table) -> ir.Table:
    """A small table in the engine of another one; a user's engine forgets it when we do."""
    import ibis  # noqa: PLC0415 — loaded only when used

    backend = _backend(table)
    if _is_private(table):  # by name, so that raw SQL finds it too
        name = f"livelift_{uuid.uuid4().hex}"
        backend.con.register(name, values)
        return backend.table(name)
    small = ibis.memtable(values)
    weakref.finalize(small.op(), _forget, backend, small.get_name()).atexit = False
    return small


def _forget(backend: Any, name: str) -> None:  # noqa: ANN401 — ibis has no type for a connection
    """Drop a table in memory from a user's engine: Ibis does so only when Python ends."""
    with suppress(Exception):  # the user may have closed it
        if backend.name == "duckdb":  # its drop_view of ibis 12 writes SQL that does not parse
            backend.con.unregister(name)
        else:
            backend.drop_view(name, force=True)


def _is_private(table: ir.Table) -> bool:
    """Whether the engine is one that `private_engine` made for this call."""
    return bool(getattr(_backend(table), "livelift_private", False))


def _key_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Labels that came from the engine, like those read at the door."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return tidy_labels(column.to_numpy())
    return np.asarray(column.to_numpy())


def label_array(keys: NDArray[Any]) -> pa.Array:
    """Labels as Arrow, on their way out or back into the engine."""
    return pa.array(keys.tolist() if keys.dtype == object else keys)


def _float_array(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers that came from the engine."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _quantile_disc() -> Any:  # noqa: ANN401 — an Ibis function
    """DuckDB's quantile without interpolation, which Ibis has no name for."""
    import ibis  # noqa: PLC0415 — loaded only when used

    def quantile_disc(values: float, q: float) -> float:  # type: ignore[empty-body]
        """Filled in by the engine."""

    return ibis.udf.agg.builtin(quantile_disc, signature=((float, float), float))
