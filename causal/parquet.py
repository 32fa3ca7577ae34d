"""Parquet on disk: which files a path means, whether they agree, and their columns in DuckDB.

A file name is a name: brackets, stars and quotes in it mean themselves. Folders called
``day=2026-11-21`` are columns, unless the files have such a column themselves.
"""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class ParquetFiles:
    """Files that are read as one table: the first one's schema, and the folders' names."""

    files: tuple[str, ...]
    schema: pa.Schema
    partitions: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The columns, those of the folders last."""
        return [*self.schema.names, *self.partitions]

    def relation(
        self, connection: duckdb.DuckDBPyConnection, wanted: Sequence[str]
    ) -> duckdb.DuckDBPyRelation:
        """The wanted columns as ``c0, c1, ...``.

        Raises
        ------
        ValueError
            If a file is torn, or misses a wanted column or holds another kind of value in it.
        """
        differ = self._differing([name for name in wanted if name in self.schema.names])
        with complaints_about(self.files[0]):
            whole = connection.read_parquet(
                [as_pattern(file) for file in self.files],
                hive_partitioning=bool(self.partitions),
                union_by_name=differ,
            )
        own = self.schema.names
        positions = [(own if name in own else whole.columns).index(name) for name in wanted]
        return by_position(whole, positions)

    def _differing(self, wanted: Sequence[str]) -> bool:
        """Whether files hold a column in types of different width; raises if the kinds differ."""
        differ = False
        for file in self.files[1:]:
            schema = read_schema(file)
            for name in wanted:
                if schema.names.count(name) != 1:
                    raise ValueError(
                        f"{file}: column {name!r} is not in this file but in {self.files[0]}; "
                        "add the column or leave the file out"
                    )
                mine, other = self.schema.field(name).type, schema.field(name).type
                families = {_family(mine), _family(other)} - {"null"}
                if len(families) > 1:
                    raise ValueError(
                        f"column {name!r} must be of one kind in all files; it is {mine} in "
                        f"{self.files[0]} and {other} in {file}; convert it first"
                    )
                differ |= mine != other
        return differ


def open_parquet(data: str | Path | Sequence[str | Path]) -> ParquetFiles:
    """The files behind a path, folder, glob or list of them.

    Raises
    ------
    ValueError
        If nothing is there or the first file is torn.
    """
    files = parquet_files(data)
    schema = read_schema(files[0])
    return ParquetFiles(tuple(files), schema, _partitions(files, schema))


def parquet_files(data: str | Path | Sequence[str | Path]) -> list[str]:
    """The Parquet files behind a path, folder, glob or list of them; each file once.

    Raises
    ------
    ValueError
        If nothing is there.
    """
    found: list[str] = []
    for item in [data] if isinstance(data, str | Path) else data:
        exact = Path(item).exists()
        matches = [str(item)] if exact else sorted(glob.glob(str(item), recursive=True))
        below = [file for match in matches for file in _files_below(Path(match))]
        if not below:
            what = "no Parquet file in it" if matches else "no such file"
            raise ValueError(f"{item}: {what}")
        found += below
    return list(dict.fromkeys(found))


def read_schema(file: str) -> pa.Schema:
    """Names and types of one file; raises ValueError that names it if it is torn."""
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: not readable as Parquet; write the file again ({_first_line(error)})"
        ) from None


def as_pattern(file: str) -> str:
    """A file name as DuckDB takes it: it reads brackets and stars as a glob."""
    return glob.escape(file)


def by_position(
    relation: duckdb.DuckDBPyRelation, positions: Sequence[int]
) -> duckdb.DuckDBPyRelation:
    """Columns of a relation as ``c0, c1, ...``: DuckDB takes no part in what they are called.

    Its names ignore case, and a quote in one cannot be passed through its Python interface.
    """
    return relation.project(", ".join(f"#{p + 1} AS c{j}" for j, p in enumerate(positions)))


@contextmanager
def complaints_about(source: str) -> Iterator[None]:
    """Turn the engine's complaint about what it reads into a ValueError that names it."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise ValueError(
            f"{source}: check the table; the engine cannot read it: {_first_line(error)}"
        ) from None


def _files_below(path: Path) -> list[str]:
    """The file itself, or every Parquet file in the folder, by absolute name."""
    found = (p for p in path.rglob("*.parquet") if p.is_file()) if path.is_dir() else [path]
    return sorted(os.path.abspath(p) for p in found)


def _partitions(files: Sequence[str], schema: pa.Schema) -> tuple[str, ...]:
    """Names in folders ``name=value`` above every file; none if the files have one themselves."""
    keys = [
        [part.split("=", 1)[0] for part in Path(file).parent.parts if "=" in part] for file in files
    ]
    own = {name.lower() for name in schema.names}
    agree = all(key == keys[0] for key in keys)
    return tuple(keys[0]) if agree and not any(key.lower() in own for key in keys[0]) else ()


def _family(kind: pa.DataType) -> str:
    """Types that hold the same kind of value, whatever their width."""
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_timestamp(kind):
        return "time" if kind.tz is None else "time with zone"
    return str(kind)


def _first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)
