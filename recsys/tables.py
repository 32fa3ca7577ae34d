"""Tables in: whatever the user holds becomes Arrow, and one private engine reads it.

Column names never meet SQL text: expressions are built with Ibis, which quotes every identifier.
The engine cannot reach files or the network; Parquet files are opened here, by pyarrow.
"""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import narwhals as nw
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from ibis import BaseBackend

Table: TypeAlias = Any
"""pandas, polars (eager, lazy), pyarrow Table, DuckDB relation, Ibis table, path(s) to Parquet."""

ArrowSource: TypeAlias = "pa.Table | ds.Dataset"

_ACCEPTED = (
    "a pandas, polars, pyarrow, DuckDB or Ibis table, "
    "or a path (file, folder, glob, or a list of them) to Parquet"
)


def to_arrow(data: Table, *, columns: Sequence[str] | None = None) -> ArrowSource:
    """Turn a table of any accepted kind into Arrow; Parquet stays on disk as a dataset.

    Parameters
    ----------
    data : Table
        pandas, polars (eager or lazy), pyarrow Table, DuckDB relation, Ibis table, `str | Path` to
        Parquet (file, folder or glob) or a list of paths. It is never changed.
    columns : sequence of str, optional
        Only these columns, where the table has them; the others are not even converted.
        Default: all.

    Returns
    -------
    pyarrow.Table or pyarrow.dataset.Dataset
        The named columns of a table in memory (in the table's order); all columns of a dataset.

    Raises
    ------
    TypeError
        If `data` is not a table.
    ValueError
        If a column name is doubled or not text, a file is absent or not Parquet, or a column cannot
        be held by Arrow.

    Examples
    --------
    >>> import pandas as pd
    >>> to_arrow(pd.DataFrame({"a": [1], "b": [2]}), columns=["b"]).column_names
    ['b']
    """
    if isinstance(data, (str, Path, list, tuple)):
        return _dataset(parquet_files(data))
    if isinstance(data, pa.Table):
        names: list[Any] = data.column_names
        _check_names(names, only_text=columns is None)
        return data.select([name for name in names if columns is None or name in columns])
    return _frame_to_arrow(data, columns)


def column_names(data: Table) -> list[Any]:
    """List the names of a table's columns without reading its rows.

    Parameters
    ----------
    data : Table
        As in `to_arrow`.

    Returns
    -------
    list
        Names in the table's order; pandas may hold names that are not text.

    Raises
    ------
    TypeError
        If `data` is not a table.
    ValueError
        If a name is doubled, or a file is absent or not Parquet.

    Examples
    --------
    >>> import pyarrow as pa
    >>> column_names(pa.table({"a": [1], "b": [2]}))
    ['a', 'b']
    """
    if isinstance(data, (str, Path, list, tuple)):
        return list(_dataset(parquet_files(data)).schema.names)
    names = data.column_names if isinstance(data, pa.Table) else _narwhals(data)[1]
    return list(names)


def count_rows(source: ArrowSource) -> int:
    """Count the rows of what `to_arrow` returned; of Parquet from its footers alone.

    Parameters
    ----------
    source : pyarrow.Table or pyarrow.dataset.Dataset
        As `to_arrow` returns it.

    Returns
    -------
    int
        Number of rows.

    Examples
    --------
    >>> import pyarrow as pa
    >>> count_rows(pa.table({"a": [1, 2]}))
    2
    """
    return int(source.num_rows if isinstance(source, pa.Table) else source.count_rows())


def parquet_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """List the Parquet files behind a path, a folder, a glob or a list of these, sorted by name.

    Parameters
    ----------
    source : str, Path or sequence of these
        A file, a folder (searched to the bottom for `*.parquet`) or a glob pattern.

    Returns
    -------
    list of Path
        At least one file; in a folder, names that start with `.` or `_` are left out.

    Raises
    ------
    TypeError
        If an entry of the list is not a path.
    ValueError
        If nothing is found.

    Examples
    --------
    >>> parquet_files("no/such/*.parquet")
    Traceback (most recent call last):
    ValueError: no/such/*.parquet: no such file
    """
    if not isinstance(source, (str, Path)):
        if not source or not all(isinstance(entry, (str, Path)) for entry in source):
            raise TypeError(f"a table must be {_ACCEPTED}; got {type(source).__name__}")
        return [file for entry in source for file in parquet_files(entry)]
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*.parquet")
            if not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        )
    else:
        found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]
    if not found:
        raise ValueError(f"{source}: no such file")
    return found


@contextmanager
def engine(**tables: ArrowSource) -> Iterator[BaseBackend]:
    """Open one private DuckDB engine in which each keyword is a table, and close it at the end.

    Parameters
    ----------
    **tables : pyarrow.Table or pyarrow.dataset.Dataset
        Table name to source, as `to_arrow` returns it.

    Yields
    ------
    ibis.BaseBackend
        `.table(name)` gives the Ibis table. Time zone UTC; no access to files, network or
        extensions; `LIVELIFT_THREADS` and `LIVELIFT_MEMORY_LIMIT` bound it.

    Raises
    ------
    ValueError
        If a Parquet file turns out to be torn while it is read.

    Examples
    --------
    >>> import pyarrow as pa
    >>> with engine(log=pa.table({"a": [1, 2]})) as backend:
    ...     backend.table("log").a.sum().to_pyarrow().as_py()
    3
    """
    import duckdb  # noqa: PLC0415 — loaded only when used
    import ibis  # noqa: PLC0415 — loaded only when used

    limits = _limits()
    try:
        connection = duckdb.connect(config=limits)
    except duckdb.Error:
        raise ValueError(
            f"LIVELIFT_MEMORY_LIMIT must be a size; got {limits.get('memory_limit')!r}; set it to "
            "one such as 2GB"
        ) from None
    try:
        for name, source in tables.items():
            connection.register(name, source)
        yield ibis.duckdb.from_connection(connection)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        files = [file for source in tables.values() for file in getattr(source, "files", [])]
        if not files:
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(f"{', '.join(files[:5])}: cannot be read as Parquet ({reason})") from error
    finally:
        connection.close()


def _limits() -> dict[str, Any]:
    """What the engine may use and reach."""
    limits: dict[str, Any] = {"enable_external_access": False}
    if threads := os.environ.get("LIVELIFT_THREADS"):
        if not threads.isdigit() or int(threads) < 1:
            raise ValueError(
                f"LIVELIFT_THREADS must be a count; got {threads!r}; set it to 1 or more"
            )
        limits["threads"] = int(threads)
    if memory := os.environ.get("LIVELIFT_MEMORY_LIMIT"):
        limits["memory_limit"] = memory
    return limits


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Make a pandas frame in which integers with gaps stay integers.

    pyarrow's own conversion turns them into floats, and an id above 2**53 into another id.

    Parameters
    ----------
    table : pyarrow.Table
        Any table.

    Returns
    -------
    pandas.DataFrame
        Integer columns that hold nulls come as nullable `Int64` (unsigned 64-bit ones as `UInt64`),
        the others as pandas has them.

    Examples
    --------
    >>> import pyarrow as pa
    >>> str(to_pandas(pa.table({"id": [2**53 + 1, None]})).id.dtype)
    'Int64'
    """
    import pandas as pd  # noqa: PLC0415 — loaded only when used

    def convert(column: pa.ChunkedArray) -> pd.Series:
        """Convert one column."""
        if pa.types.is_integer(column.type) and column.null_count:
            unsigned = pa.types.is_uint64(column.type)
            kind, nullable = (
                (pa.uint64(), pd.UInt64Dtype()) if unsigned else (pa.int64(), pd.Int64Dtype())
            )
            return pd.Series(column.cast(kind).to_pandas(types_mapper={kind: nullable}.get))
        return pd.Series(column.to_pandas())

    columns = [convert(table.column(position)) for position in range(table.num_columns)]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(table.num_rows))
    frame.columns = pd.Index(table.column_names)
    return frame


def _narwhals(data: Table) -> tuple[nw.DataFrame[Any] | nw.LazyFrame[Any], list[Any]]:
    """Wrap a frame that narwhals knows, and list its columns."""
    try:
        frame = nw.from_native(data)
        return frame, list(frame.collect_schema().names())
    except TypeError as error:
        raise TypeError(f"a table must be {_ACCEPTED}; got {type(data).__name__}") from error
    except nw.exceptions.DuplicateError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"column names must be distinct; {reason}") from error


def _frame_to_arrow(data: Table, columns: Sequence[str] | None) -> pa.Table:
    """Convert a frame that narwhals knows."""
    frame, names = _narwhals(data)
    _check_names(names, only_text=columns is None)
    frame = frame.select([name for name in names if columns is None or name in columns])
    try:
        if isinstance(frame, nw.LazyFrame):
            return frame.collect("pyarrow").to_arrow()
        if frame.implementation.is_pandas():
            return pa.Table.from_pandas(frame.to_native(), preserve_index=False)
        return frame.to_arrow()
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(
            f"every column must hold values of one kind that Arrow knows; {error}"
        ) from error


def _check_names(names: Sequence[Any], *, only_text: bool) -> None:
    """Refuse doubled names and, where all columns are taken, names that are not text."""
    doubled = sorted({str(name) for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"column names must be distinct; doubled: {', '.join(doubled[:5])}")
    strange = [name for name in names if not isinstance(name, str) or not name]
    if only_text and strange:
        shown = ", ".join(repr(name) for name in strange[:5])
        raise ValueError(f"column names must be text and not empty; got {shown}: rename them")


def _dataset(files: Sequence[Path]) -> ds.Dataset:
    """Open Parquet files as one lazy table; columns that a file lacks are null there."""
    schemas = []
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{file}: cannot be read as Parquet ({reason})") from error
        _check_names(schema.names, only_text=False)
        schemas.append(schema)
    try:
        unified = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"{files[0]} and {len(files) - 1} other files must agree in their columns; {error}"
        ) from error
    return ds.dataset([str(file) for file in files], schema=unified, format="parquet")
