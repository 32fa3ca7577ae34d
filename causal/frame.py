"""The door: what users have comes in, is checked once, and goes on as arrays or an Ibis table.

A `Table` is a pandas or polars frame (eager or lazy), a pyarrow Table, a DuckDB relation, an Ibis
table, or Parquet on disk: a file, a folder, a glob, or a list of paths. Column names are only ever
names: they are never parsed, run or pasted into SQL. The caller's table is never changed.
"""

from __future__ import annotations

import difflib
import os
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from causal.parquet import as_pattern, by_position, complaints_about, open_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import ibis
    import ibis.expr.types as ir
    from numpy.typing import NDArray

# these kinds of table share no base class that could be named without importing them all
Table: TypeAlias = Any

Column: TypeAlias = "pd.Series[Any] | pa.Array | pa.ChunkedArray"

_SHOWN = 5


def check_columns(
    available: Sequence[Any], roles: Mapping[str, str | Sequence[str] | None]
) -> list[str]:
    """Check that every role names columns that exist once, and that no column plays two roles.

    Parameters
    ----------
    available : sequence
        The table's column names.
    roles : mapping from argument name to column name(s) or None
        Such as ``{"outcome": "watch_s", "covariates": ["age"]}``.

    Returns
    -------
    list of str
        The required columns, each once, in the order given.

    Raises
    ------
    TypeError
        If a name is not text.
    ValueError
        If a name is empty or holds a NUL, or a column is absent (the nearest names are shown),
        doubled, or in two roles.
    """
    role_of: dict[str, str] = {}
    for role, value in roles.items():
        for name in _names(value):
            if not isinstance(name, str):
                raise TypeError(
                    f"{role} must name a column as text; got {name!r}; rename the column first"
                )
            if not name or "\0" in name:
                raise ValueError(
                    f"{role} must name a column; got {name!r}; rename the column first"
                )
            if role_of.get(name) == role:
                raise ValueError(f"column {name!r} is named twice in {role}; name it once")
            if name in role_of:
                raise ValueError(
                    f"column {name!r} cannot be both {role_of[name]} and {role}; "
                    "name a different column for one of them"
                )
            role_of[name] = role
    for name, role in role_of.items():
        count = sum(1 for other in available if isinstance(other, str) and other == name)
        if count > 1:
            raise ValueError(
                f"column {name!r} ({role}) appears {count} times in the table; "
                "rename or drop the doubles"
            )
        if count == 0:
            raise ValueError(_absent(name, role, available))
    return list(role_of)


def _names(value: object) -> list[Any]:
    """The names in a role: one, several or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def check_level(level: float, name: str = "level") -> float:
    """Return a probability strictly between 0 and 1; raise ValueError that says so otherwise."""
    if (
        isinstance(level, bool)
        or not isinstance(level, int | float | np.number)
        or not 0 < level < 1
    ):
        raise ValueError(f"{name} must be in (0, 1); got {level!r}; 95 % is 0.95")
    return float(level)


def check_one_of(value: object, name: str, allowed: Sequence[object]) -> None:
    """Raise ValueError with the nearest allowed value unless `value` is allowed."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{name} must be one of {', '.join(repr(a) for a in allowed)}; got {value!r}{hint}"
        )


def listed(names: Sequence[str], argument: str) -> list[str]:
    """Names as a list; a text would be taken apart letter by letter, so it is refused."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(
            f"{argument} must be a list of column names; got {names!r}; put a single name in a list"
        )
    return list(names)


def codes(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Dense codes of labels in sorted level order; exact for int64 and for strings.

    Parameters
    ----------
    values : array (n,)
        Labels without missing values.

    Returns
    -------
    codes : int64 array (n,)
        ``levels[codes]`` is `values`.
    levels : array (g,)
        Sorted distinct labels; numbers come before text.

    Raises
    ------
    ValueError
        If a label is missing.
    TypeError
        If labels are of kinds that have no order, such as text and times.
    """
    try:
        found, levels = pd.factorize(np.asarray(values), sort=True)
    except TypeError as error:
        raise TypeError(f"labels must be all text or all numbers; {error}") from None
    if len(found) and found.min() < 0:
        raise ValueError(f"labels must not be missing; {int((found < 0).sum())} rows are")
    return found.astype(np.int64, copy=False), np.asarray(levels)


def column_names(data: Table) -> list[Any]:
    """Names of the columns of any `Table`, in order."""
    kind = _kind(data)
    if kind == "paths":
        return list(open_parquet(data).names)
    if kind == "polars_lazy":
        return list(data.collect_schema().names())
    if kind == "arrow":
        return list(data.column_names)
    return list(data.columns)


def read_columns(
    data: Table,
    *,
    numeric: Sequence[str] = (),
    labels: Sequence[str] = (),
    missing: Literal["raise", "keep"] = "raise",
) -> dict[str, NDArray[Any]]:
    """Read columns of any `Table` into numpy arrays.

    Parameters
    ----------
    data : Table
        Any kind that the door takes.
    numeric : sequence of str
        Columns read as float64; integers of any width, booleans, decimals and 0/1 categories
        are numbers, text and times are not.
    labels : sequence of str
        Columns read as labels: int64, bool, float64 or text. Dates and times are ISO text, in UTC
        where they have a zone, to the microsecond.
    missing : {"raise", "keep"}
        What a missing value does; kept ones are NaN in numbers and None in labels.

    Returns
    -------
    dict of str to array (n,)

    Raises
    ------
    ValueError
        If a column is absent or doubled, the table is empty, a number is infinite, or a value is
        missing.
    TypeError
        If `data` is not a table or a column is not of the required kind.

    Examples
    --------
    >>> import pandas as pd
    >>> read_columns(pd.DataFrame({"watch_s": [1, 2]}), numeric=["watch_s"])["watch_s"].tolist()
    [1.0, 2.0]
    """
    check_one_of(missing, "missing", ("raise", "keep"))
    numeric, labels = listed(numeric, "numeric"), listed(labels, "labels")
    wanted = check_columns(
        column_names(data), {"columns": list(dict.fromkeys([*numeric, *labels]))}
    )
    column = column_reader(data, wanted)
    keep = missing == "keep"
    arrays = {name: _numbers(name, column(name), keep=keep) for name in numeric}
    arrays |= {
        name: _labels(name, column(name), keep=keep) for name in labels if name not in arrays
    }
    if arrays and len(next(iter(arrays.values()))) == 0:
        raise ValueError("the table is empty; at least one row is required")
    return arrays


def open_table(
    data: Table, *, columns: Sequence[str], connection: ibis.BaseBackend | None = None
) -> ir.Table:
    """Open any `Table` in the engine, checked and projected to `columns`.

    Parameters
    ----------
    data : Table
        Any kind that the door takes. An Ibis table stays in its own engine.
    columns : sequence of str
        The columns to keep.
    connection : ibis backend, optional
        Where to register; a private in-memory DuckDB by default, which can reach nothing but
        `data`.

    Returns
    -------
    ibis table

    Raises
    ------
    ValueError
        If a column is absent or doubled, a file is absent or torn, or the files disagree.
    TypeError
        If `data` is not a table.
    """
    wanted = check_columns(column_names(data), {"columns": listed(columns, "columns")})
    kind = _kind(data)
    if kind == "ibis":
        return data.select(*[data[name] for name in wanted])
    backend = private_engine() if connection is None else connection
    name = f"livelift_{uuid.uuid4().hex}"
    allowed: list[str] = []
    if kind == "paths":
        source = open_parquet(data)
        source.relation(backend.con, wanted).create_view(name)
        allowed = [*source.files, *map(as_pattern, source.files)]
    else:
        backend.con.register(name, _for_engine(_arrow(data, wanted)))
    if connection is None:
        backend.livelift_source = f"{data}" if isinstance(data, str | Path) else _KIND_NAMES[kind]
        backend.con.execute("SET allowed_paths = ?", [allowed])
        backend.con.execute("SET enable_external_access = false")
    table = backend.table(name)
    return table.select(*[table[f"c{j}"].name(column) for j, column in enumerate(wanted)])


def fetch_arrow(table: ir.Table) -> pa.Table:
    """Run an expression where it lives; ValueError where its engine cannot read the data."""
    source = getattr(table.get_backend(), "livelift_source", "the table")
    with complaints_about(source):
        return table.to_pyarrow()


def private_engine() -> Any:  # noqa: ANN401 — an ibis backend: no stubs
    """Private in-memory DuckDB; LIVELIFT_THREADS and LIVELIFT_MEMORY_LIMIT bound it."""
    import ibis  # noqa: PLC0415 — loaded only when used

    # a folder of its own: engines that spill into one folder overwrite each other's files
    spill = Path(tempfile.gettempdir()) / f"livelift_spill_{uuid.uuid4().hex}"
    settings: dict[str, Any] = {"temp_directory": str(spill)}
    if threads := os.environ.get("LIVELIFT_THREADS"):
        if not threads.isdigit() or int(threads) < 1:
            raise ValueError(
                f"LIVELIFT_THREADS must be a count; got {threads!r}; set it to 1 or more"
            )
        settings["threads"] = int(threads)
    if memory := os.environ.get("LIVELIFT_MEMORY_LIMIT"):
        settings["memory_limit"] = memory
    try:
        backend = ibis.duckdb.connect(**settings)
    except duckdb.Error:
        raise ValueError(
            f"LIVELIFT_MEMORY_LIMIT must be a size; got {memory!r}; set it to one such as 2GB"
        ) from None
    backend.con.execute("SET TimeZone = 'UTC'")
    backend.con.execute("SET python_enable_replacements = false")
    backend.livelift_private = True
    return backend


def complaint(
    name: str, required: str, count: int, rows: Sequence[int], values: Sequence[object], do: str
) -> str:
    """Message that names the column, counts the rows and shows the first five of them."""
    shown = ", ".join(str(r) for r in rows[:_SHOWN])
    seen = ", ".join("missing" if v is None or v != v else str(v) for v in values[:_SHOWN])
    verb = "row is" if count == 1 else "rows are"
    return f"{name} must {required}; {count} {verb} not, e.g. rows {shown} ({seen}); {do}"


def offenders(
    name: str, required: str, bad: NDArray[np.bool_], values: NDArray[Any], do: str
) -> str:
    """Message that names the column, counts the rows and shows the first five of them."""
    rows = np.flatnonzero(bad)
    first = rows[:_SHOWN]
    return complaint(name, required, len(rows), first.tolist(), values[first].tolist(), do)


def _kind(data: Table) -> str:
    """Which kind of table this is; raises TypeError for anything else."""
    if isinstance(data, str | Path):
        return "paths"
    if isinstance(data, list) and data and all(isinstance(item, str | Path) for item in data):
        return "paths"
    names = {f"{c.__module__.split('.')[0]}.{c.__name__}" for c in type(data).__mro__}
    for known, kind in _KINDS.items():
        if known in names:
            return kind
    raise TypeError(
        "a table was required: a pandas or polars frame, a pyarrow Table, a DuckDB relation, "
        f"an Ibis table, or Parquet paths; got {type(data).__name__}"
    )


_KINDS = {
    "pandas.DataFrame": "pandas",
    "polars.DataFrame": "polars",
    "polars.LazyFrame": "polars_lazy",
    "pyarrow.Table": "arrow",
    "duckdb.DuckDBPyRelation": "duckdb",
    "_duckdb.DuckDBPyRelation": "duckdb",
    "ibis.Table": "ibis",
}


_KIND_NAMES = {
    "paths": "the Parquet files",
    "pandas": "the pandas frame",
    "polars": "the polars frame",
    "polars_lazy": "the polars frame",
    "arrow": "the pyarrow Table",
    "duckdb": "the DuckDB relation",
}


def in_memory_rows(data: Table) -> int | None:
    """Number of rows of a table that is in memory; None where only the engine knows."""
    if _kind(data) in ("pandas", "polars", "arrow"):
        return int(data.shape[0])
    return None


def column_reader(data: Table, wanted: Sequence[str]) -> Callable[[str], Column]:
    """How to get one column: a pandas Series as it is, anything else as Arrow."""
    kind = _kind(data)
    if kind == "pandas":
        return lambda name: data[name]
    if kind in ("paths", "ibis"):
        table = fetch_arrow(open_table(data, columns=wanted))
    else:
        table = _arrow(data, wanted)
    return lambda name: table.column(name)


def _arrow(data: Table, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a table in memory, or of a relation, as Arrow."""
    kind = _kind(data)
    if kind == "arrow":
        return data.select(list(wanted))
    if kind == "polars":
        return data.select(list(wanted)).to_arrow()
    if kind == "polars_lazy":
        return data.select(list(wanted)).collect().to_arrow()
    if kind == "duckdb":
        with complaints_about("the DuckDB relation"):
            found = by_position(data, [data.columns.index(name) for name in wanted])
            return found.to_arrow_table().rename_columns(list(wanted))
    return pa.table([_arrow_array(name, data[name]) for name in wanted], names=list(wanted))


def _for_engine(table: pa.Table) -> pa.Table:
    """Columns as ``c0, c1, ...``, in types that the engine knows."""
    strange = [pa.types.is_float16(t) or pa.types.is_decimal256(t) for t in table.schema.types]
    columns = [
        column.cast(pa.float64()) if cast else column
        for column, cast in zip(table.columns, strange, strict=True)
    ]
    return pa.table(columns, names=[f"c{j}" for j in range(len(columns))])


def _arrow_array(name: str, values: pd.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """A pandas column as Arrow; Python objects that Arrow has no type for are refused."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise TypeError(
            f"column {name!r} must hold numbers, text, booleans or times of one kind; {error}; "
            "convert it first"
        ) from None


def decoded_column(name: str, column: Column) -> pa.Array:
    """Arrow array without chunks and without dictionary encoding."""
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else _arrow_array(name, column)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no rows: nothing to combine
        array = pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _numbers(name: str, column: Column, *, keep: bool) -> NDArray[np.float64]:
    """A column as float64, finite, with NaN for missing."""
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        values = column.to_numpy().astype(np.float64, copy=False)
    else:
        values = _arrow_numbers(name, decoded_column(name, column))
    infinite = np.isinf(values)
    if infinite.any():
        raise ValueError(
            offenders(f"column {name!r}", "be finite", infinite, values, "drop or replace them")
        )
    absent = np.isnan(values)
    if not keep and absent.any():
        raise ValueError(
            offenders(
                f"column {name!r}", "be present (not missing)", absent, values, "drop or fill them"
            )
        )
    return values


def _arrow_numbers(name: str, array: pa.Array) -> NDArray[np.float64]:
    """An Arrow array of numbers as float64; anything else is refused."""
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if not (pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or _is_number(kind)):
        seen = ", ".join(repr(v) for v in array.drop_null()[:3].to_pylist())
        raise TypeError(
            f"column {name!r} must hold numbers; it holds {kind}, e.g. {seen}; convert it first"
        )
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _is_number(kind: pa.DataType) -> bool:
    """Whether an Arrow type is an integer or floating type."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _labels(name: str, column: Column, *, keep: bool) -> NDArray[Any]:
    """A column as labels: int64, bool, float64 or text."""
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        return tidy_labels(column.to_numpy())
    array = decoded_column(name, column)
    absent = np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    if absent.any() and not keep:
        values = np.full(len(array), "missing", dtype=object)
        raise ValueError(
            offenders(
                f"column {name!r}", "be present (not missing)", absent, values, "drop or fill them"
            )
        )
    values = _arrow_labels(name, array)
    if values.dtype.kind == "f" and np.isinf(values).any():
        bad = np.isinf(values)
        raise ValueError(offenders(f"column {name!r}", "be finite", bad, values, "drop them"))
    if absent.any():
        values = values.astype(object)
        values[absent] = None
    return values


def _arrow_labels(name: str, array: pa.Array) -> NDArray[Any]:
    """An Arrow array as labels; nested types are refused."""
    kind = array.type
    if _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        if pa.types.is_decimal(kind):
            array = _decimal_labels(name, array)
        fill: Any = False if pa.types.is_boolean(kind) else 0
        return tidy_labels(pc.fill_null(array, fill).to_numpy(zero_copy_only=False))
    if pa.types.is_timestamp(kind):
        encoded = array.cast(pa.timestamp("us"), safe=False).dictionary_encode()
        text = [None if time is None else str(time) for time in encoded.dictionary.to_pylist()]
        levels = pa.array(text, pa.string())
        array = pa.DictionaryArray.from_arrays(encoded.indices, levels).dictionary_decode()
    elif pa.types.is_date(kind) or pa.types.is_string_view(kind):
        array = array.cast(pa.string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise TypeError(
            f"column {name!r} must hold labels (text, whole numbers, booleans or dates); "
            f"it holds {kind}; convert it first"
        )
    encoded = array.dictionary_encode()
    levels = np.array([*encoded.dictionary.to_pylist(), ""], dtype=object)
    return np.asarray(
        levels[pc.fill_null(encoded.indices, len(levels) - 1).to_numpy(zero_copy_only=False)]
    )


def _decimal_labels(name: str, array: pa.Array) -> pa.Array:
    """Decimals as whole numbers where they have no places."""
    try:
        return array.cast(pa.int64() if array.type.scale == 0 else pa.float64())
    except pa.ArrowInvalid:
        raise ValueError(
            f"column {name!r} must hold labels below 2**63; it holds larger ones: make them text"
        ) from None


def tidy_labels(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int64 whatever their width, so that labels compare equal everywhere."""
    if values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
        return values
    if values.dtype.kind in "iu":
        return np.asarray(values, dtype=np.int64)
    if values.dtype.kind == "f":
        whole = np.nan_to_num(values.astype(np.float64))  # what is missing becomes None later
        if np.abs(whole).max(initial=0) < 2**53 and (whole == np.trunc(whole)).all():
            return np.asarray(whole, dtype=np.int64)
        return np.asarray(values, dtype=np.float64)
    return values


def _absent(name: str, role: str, available: Sequence[Any]) -> str:
    """Message for a column that is not there, with the nearest names."""
    names = [n for n in available if isinstance(n, str)]
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"it has {', '.join(map(repr, names[:10])) or 'no columns with text as names'}"
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"column {name!r} ({role}) is not in the table; {hint}"
