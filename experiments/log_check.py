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
from experiments.study_data import damage, found_files, read_schema
from experiments.wording import counted
from recsys.log import ScoredTreatments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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
        ``"any"`` asks only for a whole table with rows, distinct column names and finite numbers.

    Returns
    -------
    TableCheck

    Raises
    ------
    DataError
        If a file is absent, torn or not Parquet.
    """
    files = found_files(Path(), path)
    schemas = [read_schema(name, file) for name, file in files.items()]
    columns = len(schemas[0].names)
    paths = [str(file) for file in files.values()]
    try:
        if schema == "any":
            doubled = [n for s in schemas for n, times in Counter(s.names).items() if times > 1]
            if doubled:
                return TableCheck(
                    n_rows=0, n_columns=columns, errors=(f"column {doubled[0]!r} is doubled",)
                )
            n_rows, errors = _scan(paths)
            return TableCheck(n_rows=n_rows, n_columns=columns, errors=errors)
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
    """All rows, a piece at a time."""
    yield from ds.dataset(list(paths), format="parquet").to_batches()
