"""The rows of a study: found, opened, described and checked before anything is estimated."""

from __future__ import annotations

import difflib
import glob
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from causal.frame import open_table
from experiments.errors import DataError
from experiments.study_result import Check
from experiments.wording import counted
from recsys.log import COLUMNS, ScoredTreatments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from experiments.study_schema import Scalar, Study

_SINGLE = (
    "arm",
    "unit",
    "cluster",
    "also_cluster",
    "weight",
    "trigger",
    "day",
    "outcome",
    "per",
    "numerator",
    "denominator",
    "reward",
    "propensity",
    "target",
    "action",
)
_SEVERAL = ("segments", "covariates", "covariate_ratio", "by", "features")
_FILTERS = ("rows", "on_policy", "target_log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One log that a section reads.

    `table` is what analyses take (Parquet paths, or an Arrow table); `rows` the same as a dataset
    that can be filtered; `shown` is how the user named it; `label` is how each file is named in
    the report.
    """

    name: str
    shown: str
    table: list[str] | pa.Table
    rows: ds.Dataset
    files: Mapping[str, Path]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = field(default=())


def open_log(study: Study) -> Source:
    """Find and open the Parquet files that `data.log` names.

    Parameters
    ----------
    study : Study
        Its paths are relative to `study.folder`.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If a file is absent, torn or not Parquet, there are no rows, or a column that the study
        names is not in every file.
    """
    patterns = [study.data.log] if isinstance(study.data.log, str) else list(study.data.log or ())
    files: dict[str, Path] = {}
    for pattern in patterns:
        files |= found_files(study.folder, pattern)
    shown = ", ".join(patterns)
    schemas = {name: read_schema(name, path) for name, path in files.items()}
    _check_columns(study, schemas, shown)
    paths = [str(path) for path in files.values()]
    try:
        rows = ds.dataset(paths, format="parquet")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{shown}: the files do not fit together: {_one_line(error)}") from error
    if not rows.count_rows():
        raise DataError(f"{shown}: the log must have rows; it has none")
    return Source(
        name="",
        shown=shown,
        table=paths,
        rows=rows,
        files=files,
        checks=(_log_check(paths, schemas), _repeated_rows(paths, rows.schema.names)),
    )


def found_files(folder: Path, pattern: str) -> dict[str, Path]:
    """Files of one pattern by the name that the report shows, in sorted order.

    Parameters
    ----------
    folder : Path
        What the pattern is relative to.
    pattern : str
        File, folder (every ``*.parquet`` below it) or glob.

    Returns
    -------
    mapping of str to Path

    Raises
    ------
    DataError
        If there is no such file.
    """
    path = folder / pattern
    if path.is_dir():
        paths = sorted(path.rglob("*.parquet"))
        if not paths:
            raise DataError(f"{pattern}: the folder must hold *.parquet files; it holds none")
    elif path.is_file():
        paths = [path]
    else:
        paths = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not paths:
        raise DataError(f"{pattern}: no such file")
    names = (p.relative_to(folder) if p.is_relative_to(folder) else p for p in paths)
    return {str(name): p for name, p in zip(names, paths, strict=True)}


def read_schema(name: str, path: Path) -> pa.Schema:
    """The columns of one file, from its footer.

    Parameters
    ----------
    name : str
        How messages call the file.
    path : Path

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    DataError
        If it is torn or not Parquet.
    """
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{name}: must be a whole Parquet file; it is torn or of another kind "
            f"({_one_line(error)})"
        ) from error


def _one_line(error: BaseException) -> str:
    """A message of a library without its line breaks."""
    return " ".join(str(error).split())[:200]


def _check_columns(study: Study, schemas: Mapping[str, pa.Schema], shown: str) -> None:
    """Every column that the study names is in every file, once."""
    for place, column in column_places(study):
        for name, schema in schemas.items():
            n = schema.names.count(column)
            if n > 1:
                raise DataError(f"{study.file}: {place}: column {column!r} is doubled in {name}")
            if n == 0:
                nowhere = not any(column in other.names for other in schemas.values())
                near = difflib.get_close_matches(column, schema.names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {schema.names[:8]}"
                raise DataError(
                    f"{study.file}: {place}: column {column!r} is not in "
                    f"{shown if nowhere else name}; {hint}"
                )


def column_places(study: Study) -> Iterator[tuple[str, str]]:
    """Every column that a study names, with its place: ``("metrics.ctr.numerator", "click")``.

    Parameters
    ----------
    study : Study

    Yields
    ------
    tuple of str
        Place in the study file, and the column.
    """
    parts: dict[str, Any] = {"experiment": study.experiment}
    parts |= {f"metrics.{name}": metric for name, metric in study.metrics.items()}
    parts |= {f"off_policy.{i}": policy for i, policy in enumerate(study.off_policy)}
    for place, part in parts.items():
        for key in _SINGLE:
            if isinstance(getattr(part, key, None), str):
                yield f"{place}.{key}", getattr(part, key)
        for key in _SEVERAL:
            for i, column in enumerate(getattr(part, key, None) or ()):
                yield f"{place}.{key}.{i}", column
        for key in _FILTERS:
            for column in getattr(part, key, None) or {}:
                yield f"{place}.{key}", column


@contextmanager
def located(study: Study, source: Source, place: str) -> Iterator[None]:
    """Turn what the library refuses into a `DataError` that names the place in the study.

    The place is that of the first column which the message quotes, among those under `place`;
    `place` itself otherwise.
    """
    try:
        yield
    except DataError:
        raise
    except (ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        quoted = [where for where, column in column_places(study) if repr(column) in message]
        inside = [where for where in quoted if where.startswith(place)]
        where = (inside or quoted or [place])[0]
        raise DataError(f"{study.file}: {where}: {message}") from error
    except (OSError, duckdb.IOException, duckdb.InvalidInputException) as error:
        raise DataError(f"{source.shown}: cannot be read: {_one_line(error)}") from error


def filtered(
    source: Source, columns: Sequence[str], keep: Mapping[str, Scalar], where: str
) -> pa.Table:
    """Some columns of the rows that have the given values.

    Parameters
    ----------
    source : Source
    columns : sequence of str
    keep : mapping of str to scalar
        Value by column; all rows when empty.
    where : str
        Place in the study, for the message.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    DataError
        If no row has these values, or a value cannot be compared with its column.
    """
    condition: ds.Expression | None = None
    for column, value in keep.items():
        one = ds.field(column) == pa.scalar(value)
        condition = one if condition is None else condition & one
    try:
        table = source.rows.to_table(columns=list(dict.fromkeys(columns)), filter=condition)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"{where}: {_one_line(error)}") from error
    if not table.num_rows:
        raise DataError(f"{where}: no row has {rows_in_words(keep)}; see the values of the column")
    return table


def rows_in_words(keep: Mapping[str, Scalar]) -> str:
    """``policy_id = bts``; ``all rows`` without a condition."""
    return " and ".join(f"{column} = {value}" for column, value in keep.items()) or "all rows"


def span(source: Source, column: str | None) -> tuple[str, str]:
    """First and last day (or time) of a column as text; empty without a column."""
    if column is None:
        return "", ""
    values = source.rows.to_table(columns=[column]).column(column)
    ends = pc.min_max(values).as_py()
    return tuple(_day(ends[key]) for key in ("min", "max"))  # type: ignore[return-value]


def _day(value: object) -> str:
    """A date or time as text, to the second."""
    if value is None:
        return ""
    text = value.isoformat(sep=" ", timespec="seconds") if hasattr(value, "hour") else str(value)  # type: ignore[attr-defined]
    return str(text).removesuffix("+00:00")


def _log_check(paths: list[str], schemas: Mapping[str, pa.Schema]) -> Check:
    """The schema of scored treatments, where the log has its columns."""
    required = {column.name for column in COLUMNS if column.required}
    if not all(required <= set(schema.names) for schema in schemas.values()):
        return Check(
            name="log schema",
            kind="log",
            status="not tested",
            finding="the log lacks columns of scored treatments: " + ", ".join(sorted(required)),
        )
    return treatment_check("log schema", ScoredTreatments(paths))


def treatment_check(name: str, log: ScoredTreatments) -> Check:
    """Check a log of scored treatments; the finding names columns and counts, never a viewer."""
    problems = log.check().problems
    errors = [p for p in problems if p.severity == "error"]
    if not problems:
        return Check(name=name, kind="log", status="passed", finding="every rule holds")
    finding = "; ".join(
        f"{p.column} must be {p.rule}" + (f", {counted(p.n_rows, 'row')} not" if p.n_rows else "")
        for p in (errors or problems)[:5]
    )
    return Check(name=name, kind="log", status="failed" if errors else "warning", finding=finding)


def _repeated_rows(paths: list[str], columns: Sequence[str]) -> Check:
    """Rows that equal another row in every column."""
    try:
        table = open_table(paths, columns=list(columns))
        n = int(table.count().to_pyarrow().as_py()) - int(
            table.distinct().count().to_pyarrow().as_py()
        )
    except (ValueError, TypeError, OSError, duckdb.Error) as error:
        return Check(
            name="repeated rows", kind="data", status="not tested", finding=_one_line(error)
        )
    if n:
        finding = f"{counted(n, 'row')} repeat another row in every column"
        return Check(name="repeated rows", kind="data", status="warning", finding=finding)
    return Check(
        name="repeated rows", kind="data", status="passed", finding="no row equals another"
    )


def input_hashes(source: Source) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of every file, for the provenance."""
    records = []
    for name, path in source.files.items():
        try:
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{name}: cannot be read: {error.strerror}") from error
        records.append({"file": name, "bytes": path.stat().st_size, "sha256": digest})
    return records
