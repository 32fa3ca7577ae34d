"""Is a log sound? What ``livelift check`` asks of a Parquet file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from experiments.errors import DataError
from experiments.report.wording import counted
from experiments.study.study_data import (
    column_kinds,
    common_kind,
    damage,
    found_files,
    read_schema,
)
from recsys.log import ScoredTreatments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCheck:
    """What a check found: errors stop an analysis, warnings deserve attention."""

    n_rows: int
    n_columns: int
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_path(
    path: str, *, schema: Literal["scored_treatments", "any"] = "scored_treatments"
) -> TableCheck:
    """Check Parquet on disk.

    Parameters
    ----------
    path : str
        A file, a folder (also one that `ScoredTreatments.write` made), or a pattern.
    schema : {"scored_treatments", "any"}
        ``"any"`` asks only for a whole table with rows, distinct column names, one kind of values
        a column, and finite numbers; a column that only some files have is a warning.

    Returns
    -------
    TableCheck

    Raises
    ------
    DataError
        If a file is absent, torn or not Parquet.
    """
    files = found_files(Path(), path)
    schemas = {name: read_schema(name, file) for name, file in files.items()}
    columns = len({column for schema in schemas.values() for column in schema.names})
    paths = [str(file) for file in files.values()]
    try:
        if schema == "any":
            if errors := tuple(_unfitting(list(schemas.values()))):
                return TableCheck(n_rows=0, n_columns=columns, errors=errors)
            n_rows, errors = _scan(paths)
            return TableCheck(
                n_rows=n_rows, n_columns=columns, errors=errors, warnings=tuple(_partial(schemas))
            )
        manifest = Path(path) / "manifest.json"
        log = ScoredTreatments.read(path) if manifest.is_file() else ScoredTreatments(paths)
        problems = log.check().problems
        return TableCheck(
            n_rows=log.n_rows,
            n_columns=columns,
            errors=tuple(p.message for p in problems if p.severity == "error"),
            warnings=tuple(p.message for p in problems if p.severity == "warning"),
        )
    except (ValueError, TypeError, OSError, duckdb.Error) as error:
        raise DataError(damage(files) or f"{path}: {error}") from error


def _unfitting(schemas: Sequence[pa.Schema]) -> Iterator[str]:
    """Columns that keep the files from being one table."""
    for schema in schemas:
        doubled = [name for name, times in Counter(schema.names).items() if times > 1]
        if doubled:
            yield f"column {doubled[0]!r} is doubled"
            return
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        kinds = column_kinds(name, schemas)
        if common_kind(kinds) is None:
            found = " and ".join(dict.fromkeys(map(str, kinds)))
            yield f"column {name!r} must be of one kind in all files; it is {found}"


def _partial(schemas: Mapping[str, pa.Schema]) -> Iterator[str]:
    """Columns that some files lack."""
    for name in dict.fromkeys(name for schema in schemas.values() for name in schema.names):
        lacking = [file for file, schema in schemas.items() if name not in schema.names]
        if lacking:
            more = f" and {counted(len(lacking) - 1, 'more file')}" if len(lacking) > 1 else ""
            yield f"column {name!r} is not in {lacking[0]}{more}"


def _scan(paths: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Rows of all files, and what is wrong with their numbers; every page is read."""
    n_rows, infinite = 0, Counter[str]()
    for batch in _batches(paths):
        n_rows += batch.num_rows
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_floating(values.type):
                infinite[name] += pc.sum(pc.is_inf(values)).as_py() or 0
    if not n_rows:
        return 0, ("the table must have rows; it has none",)
    errors = tuple(
        f"{name} must be finite; {counted(n, 'row')} {'is' if n == 1 else 'are'} not"
        for name, n in infinite.items()
        if n
    )
    return n_rows, errors


def _batches(paths: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """All rows, a piece at a time, with all columns of their file."""
    for path in paths:
        yield from ds.dataset(path, format="parquet").to_batches()
