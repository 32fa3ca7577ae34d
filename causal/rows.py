"""Rows, in memory or in an engine: the two places where sums are made, behind the same verbs.

An analysis writes its formula once, over columns, and does not know where it runs::

    rows.sums(["arm"], {"yy": lambda c: (c["y"] - 3.0) ** 2})

`ArrayRows` evaluates it with numpy, `EngineRows` compiles it through Ibis. Columns carry short
aliases that the analysis chose; the user's names stay at the door.
"""

from __future__ import annotations

import math
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from causal.frame import (
    Table,
    codes,
    complaint,
    fetch_arrow,
    in_memory_rows,
    offenders,
    open_table,
    read_columns,
    tidy_labels,
)
from causal.parquet import complaints_about

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from numpy.typing import NDArray

# Columns are arrays or Ibis expressions: both know + - * / ** and comparisons
Expression: TypeAlias = Callable[[Mapping[str, Any]], Any]

_IN_ENGINE_FROM = 200_000
_PILOT_ROWS = 4_096
_COUNT = "rows in group"  # no alias of an analysis


@dataclass(frozen=True)
class Groups:
    """Sums by group: `keys` and `values` hold arrays of shape (g,), `n` counts rows, int64 (g,)."""

    keys: Mapping[str, NDArray[Any]]
    n: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.n)


@dataclass(frozen=True)
class Pilot:
    """A centre and a power-of-two scale a column: squares then neither cancel nor overflow."""

    centre: dict[str, float]
    scale: dict[str, float]


class Rows(Protocol):
    """What an analysis may ask of rows, wherever they are."""

    def n_missing(self, column: str) -> int:
        """How many rows miss a number."""

    def refuse(self, bad: Expression, column: str, *, name: str, rule: str, do: str) -> None:
        """Raise ValueError with the first five values of `column` for which `bad` holds, if any."""

    def where(self, keep: Expression) -> Rows:
        """Only the rows for which `keep` holds."""

    def derive(self, columns: Mapping[str, Expression]) -> Rows:
        """Add columns."""

    def grouped(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Rows:
        """One row a group: its keys, the sums, and its number of rows as column ``n``."""

    def sums(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Groups:
        """Sums by group, in sorted order of the keys."""

    def attach(self, groups: Groups, values: Mapping[str, NDArray[np.float64]]) -> Rows:
        """Give every row its group's values as columns."""

    def accumulated(self, column: str) -> Rows:
        """Every row again under each later value of a label: day 1 belongs to days 1, 2, 3 ..."""

    def numbered(self, name: str) -> Rows:
        """Add a column that tells rows apart."""

    def order_statistics(self, column: str, ranks: Sequence[int]) -> NDArray[np.float64]:
        """Values of the given ranks (1 is the least) of a column without missing values."""

    def head(self) -> ArrayRows:
        """The first rows, in memory: enough for a first guess."""

    def pilot(self, columns: Sequence[str], *, exact: bool = False) -> Pilot:
        """Centre and scale near the mean and the spread; from all rows if `exact`."""

    def fetch(self, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The columns as arrays."""


def open_rows(
    data: Table, *, numeric: Mapping[str, str], labels: Mapping[str, str], finite: bool = True
) -> Rows:
    """Open a table as rows under aliases; small tables in memory as arrays, the rest in the engine.

    Parameters
    ----------
    data : Table
        Any kind that the door takes.
    numeric, labels : mapping from alias to column name
        Numbers may be missing (see `Rows.n_missing`), labels may not.
    finite : bool
        False saves the engine a scan: infinite numbers and NaN are then left to a caller who looks
        at sums of every column, finds one that is not finite, and opens the rows again.

    Raises
    ------
    ValueError
        If a column is absent, the table is empty, a number is infinite or a label is missing.
    TypeError
        If `data` is not a table, or a column not of its kind.
    """
    count = in_memory_rows(data)
    if count is not None and count < _IN_ENGINE_FROM:
        numbers = read_columns(data, numeric=list(numeric.values()), missing="keep")
        names = read_columns(data, labels=list(labels.values()))
        arrays = {alias: numbers[name] for alias, name in numeric.items()}
        arrays |= {alias: names[name] for alias, name in labels.items()}
        return ArrayRows(arrays, count)
    table = open_table(data, columns=list(dict.fromkeys([*numeric.values(), *labels.values()])))
    return EngineRows.opened(table, numeric, labels, finite=finite)


@dataclass(frozen=True)
class ArrayRows:
    """Rows as numpy arrays; NaN is a missing number."""

    columns: Mapping[str, NDArray[Any]]
    n_rows: int
    _groups: dict[tuple[str, ...], tuple[NDArray[np.int64], dict[str, NDArray[Any]], int]] = field(
        default_factory=dict, repr=False
    )

    def n_missing(self, column: str) -> int:
        """How many rows miss a number."""
        return int(np.isnan(self.columns[column]).sum())

    def refuse(self, bad: Expression, column: str, *, name: str, rule: str, do: str) -> None:
        """Raise ValueError with the first five rows for which `bad` holds, if there are any."""
        mask = np.asarray(bad(self.columns))
        if mask.any():
            raise ValueError(offenders(name, rule, mask, self.columns[column], do))

    def where(self, keep: Expression) -> ArrayRows:
        """Only the rows for which `keep` holds."""
        mask = np.broadcast_to(np.asarray(keep(self.columns)), (self.n_rows,))
        return ArrayRows({k: v[mask] for k, v in self.columns.items()}, int(mask.sum()))

    def derive(self, columns: Mapping[str, Expression]) -> ArrayRows:
        """Add columns; groups found before stay known."""
        added = {k: self._broadcast(f) for k, f in columns.items()}
        kept = {k: v for k, v in self._groups.items() if not set(k) & set(added)}
        return ArrayRows({**self.columns, **added}, self.n_rows, kept)

    def grouped(self, by: Sequence[str], sums: Mapping[str, Expression]) -> ArrayRows:
        """One row a group: its keys, the sums, and its number of rows as column ``n``."""
        groups = self.sums(by, sums)
        columns = {**groups.keys, **groups.values, "n": groups.n.astype(np.float64)}
        return ArrayRows(columns, len(groups))

    def sums(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Groups:
        """Sums by group, in sorted order of the keys."""
        code, keys, g = self._coded(tuple(by))
        values: dict[str, NDArray[np.float64]] = {
            k: np.asarray(np.bincount(code, self._evaluate(f), g), dtype=np.float64)
            for k, f in sums.items()
        }
        return Groups(keys, np.bincount(code, minlength=g).astype(np.int64), values)

    def attach(self, groups: Groups, values: Mapping[str, NDArray[np.float64]]) -> ArrayRows:
        """Give every row its group's values; the groups must be those of these rows."""
        code, keys, g = self._coded(tuple(groups.keys))
        if g != len(groups) or any((keys[k] != groups.keys[k]).any() for k in keys):
            raise ValueError(
                f"groups do not belong to these rows; {g} groups here, {len(groups)} given"
            )
        added = {k: v[code] for k, v in values.items()}
        return ArrayRows({**self.columns, **added}, self.n_rows, self._groups)

    def accumulated(self, column: str) -> ArrayRows:
        """Every row again under each later value of a label."""
        code, levels = codes(self.columns[column])
        index = [np.flatnonzero(code <= j) for j in range(len(levels))]
        taken = np.concatenate(index)
        repeated = {k: v[taken] for k, v in self.columns.items()}
        repeated[column] = np.repeat(levels, [len(i) for i in index])
        return ArrayRows(repeated, len(taken))

    def numbered(self, name: str) -> ArrayRows:
        """Add a column that tells rows apart."""
        return ArrayRows({**self.columns, name: np.arange(self.n_rows)}, self.n_rows)

    def order_statistics(self, column: str, ranks: Sequence[int]) -> NDArray[np.float64]:
        """Values of the given ranks (1 is the least)."""
        index = np.asarray(ranks) - 1
        return np.asarray(np.partition(self.columns[column], np.unique(index))[index])

    def head(self) -> ArrayRows:
        """The first rows, as views."""
        some = {k: v[:_PILOT_ROWS] for k, v in self.columns.items()}
        return ArrayRows(some, min(self.n_rows, _PILOT_ROWS))

    def pilot(self, columns: Sequence[str], *, exact: bool = False) -> Pilot:
        """Centre and scale near the mean and the spread; from all rows if `exact`."""
        centre, scale = {}, {}
        for name in columns:
            some = self.columns[name] if exact else self.columns[name][:_PILOT_ROWS]
            some = some[~np.isnan(some)]
            low, high = float(some.min(initial=np.inf)), float(some.max(initial=-np.inf))
            middle = float(np.mean(some) if exact else np.median(some)) if len(some) else 0.0
            centre[name] = middle if math.isfinite(middle) else low / 2 + high / 2
            scale[name] = _power_of_two(max(high - centre[name], centre[name] - low))
        return Pilot(centre, scale)

    def fetch(self, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The columns as arrays."""
        return {name: self.columns[name] for name in columns}

    def _broadcast(self, formula: Expression) -> NDArray[Any]:
        """A formula over all rows, in its own type: labels stay labels."""
        return np.broadcast_to(np.asarray(formula(self.columns)), (self.n_rows,))

    def _evaluate(self, formula: Expression) -> NDArray[np.float64]:
        """A formula over all rows as float64."""
        return np.broadcast_to(np.asarray(formula(self.columns), dtype=np.float64), (self.n_rows,))

    def _coded(self, by: tuple[str, ...]) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], int]:
        """Group code of every row, the groups' keys in sorted order, and their number."""
        if by not in self._groups:
            self._groups[by] = combined_codes([self.columns[name] for name in by], by, self.n_rows)
        return self._groups[by]


def combined_codes(
    columns: Sequence[NDArray[Any]], by: tuple[str, ...], n: int
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], int]:
    """Dense codes of the combinations that occur, ordered by the first key, then the second ..."""
    if not by:
        return np.zeros(n, dtype=np.int64), {}, 1
    coded = [codes(column) for column in columns]
    code, count = coded[0][0], len(coded[0][1])
    for more, levels in coded[1:]:
        code, present = codes(code * len(levels) + more)
        count = len(present)
    first = np.zeros(count, dtype=np.int64)
    first[code[::-1]] = np.arange(n - 1, -1, -1)
    keys = {name: levels[c[first]] for name, (c, levels) in zip(by, coded, strict=True)}
    return code, keys, count


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
        finite: bool = True,
    ) -> EngineRows:
        """Cast, check in one pass, and alias the columns of an opened table."""
        plain = {a: _engine_number(table, name) for a, name in numeric.items()}
        plain |= {a: _engine_label(table, name) for a, name in labels.items()}
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

    def grouped(self, by: Sequence[str], sums: Mapping[str, Expression]) -> EngineRows:
        """One row a group; kept as a table in the private engine, because it is read again."""
        total = self._aggregated(by, sums)
        total = total.mutate(n=total[_COUNT].cast("float64")).drop(_COUNT)
        if not self.owned:
            return EngineRows(total, {}, owned=False)
        import ibis  # noqa: PLC0415 — loaded only when used

        backend, name = _backend(self.table), f"livelift_{uuid.uuid4().hex}"
        query = str(ibis.to_sql(total, dialect="duckdb"))
        with complaints_about(backend.livelift_source):
            backend.con.sql(query).create(name)
        return EngineRows(backend.table(name), {}, owned=True)

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
            constants = {k: _as_column(float(v[0])) for k, v in values.items()}
            return self._with(self.table.mutate(**constants))
        keys = {f"key_of_{k}": _key_values(v) for k, v in groups.keys.items()}
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
        disc = _quantile_disc()
        n = int(fetch_arrow(self.table.agg(n=self.table.count())).column("n")[0].as_py())
        wanted = {f"q{j}": disc(self.table[column], (r - 0.5) / n) for j, r in enumerate(ranks)}
        row = fetch_arrow(self.table.agg(**wanted))
        return np.array([row.column(f"q{j}")[0].as_py() for j in range(len(ranks))], dtype=float)

    def head(self) -> ArrayRows:
        """The first rows, fetched."""
        first = self._with(self.table.limit(_PILOT_ROWS)).fetch(self.table.columns)
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
            scale[name] = _power_of_two(max(high - centre[name], centre[name] - low))
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


def select(condition: Any, value: Any) -> Any:  # noqa: ANN401 — arrays or Ibis expressions
    """`value` where the condition holds, 0 elsewhere: for formulas."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, value, 0.0)
    return condition.ifelse(_as_column(value), 0.0)


def present(column: Any) -> Any:  # noqa: ANN401 — an array or an Ibis expression
    """Whether a number is there: for formulas."""
    return ~np.isnan(column) if isinstance(column, np.ndarray) else column.notnull()


def both(left: Any, right: Any) -> Any:  # noqa: ANN401 — arrays or Ibis expressions
    """Whether both conditions hold: for formulas."""
    return left & right


def _power_of_two(reach: float) -> float:
    """Power of two at the size of `reach`; 1 for 0. Scaling by it is exact."""
    if reach <= 0:
        return 1.0
    exponent = math.floor(math.log2(reach)) if math.isfinite(reach) else 1000
    return 2.0 ** min(max(exponent, -1000), 1000)  # its inverse must be a double too


def _total(table: ir.Table, value: Any) -> Any:  # noqa: ANN401 — Ibis expressions
    """Sum of a formula over rows; a constant formula counts once a row."""
    if hasattr(value, "type") and value.type().is_boolean():
        return value.cast("int32").sum().coalesce(0).cast("float64")  # faster than a sum of floats
    column = _as_column(value)
    if hasattr(column, "sum"):
        return column.sum().coalesce(0.0)
    return column * table.count()


def _as_column(value: Any) -> Any:  # noqa: ANN401 — a number or an Ibis expression
    """Constants as literals; booleans as 0 and 1."""
    import ibis  # noqa: PLC0415 — loaded only when used

    value = ibis.literal(float(value)) if isinstance(value, int | float) else value
    return value.cast("float64")


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
        if a in numeric:
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


def _key_values(keys: NDArray[Any]) -> pa.Array:
    """Labels on their way back into the engine."""
    return pa.array(keys.tolist() if keys.dtype == object else keys)


def _float_array(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers that came from the engine."""
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _quantile_disc() -> Any:  # noqa: ANN401 — an Ibis function
    """DuckDB's quantile without interpolation, which Ibis has no name for."""
    import ibis  # noqa: PLC0415 — loaded only when used

    def quantile_disc(values: float, q: float) -> float:  # type: ignore[empty-body]
        """Filled in by the engine."""

    return ibis.udf.agg.builtin(quantile_disc, signature=((float, float), float))
