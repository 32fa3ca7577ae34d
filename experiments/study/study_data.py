"""The rows of a study: found, opened, described and checked before anything is estimated."""

from __future__ import annotations

import difflib
import glob
import hashlib
import json
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from causal.effect import EstimationWarning
from causal.frame import offenders, open_table
from experiments.errors import DataError
from experiments.report.wording import counted
from experiments.study.study_result import Check
from experiments.study.study_roles import blamed, column_places
from recsys.log import COLUMNS, ScoredTreatments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from experiments.study.study_roles import Place
    from experiments.study.study_schema import Study
    from experiments.study.study_values import Scalar

_TEXT_FILES = (".csv", ".tsv", ".txt")


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

    def parts(self) -> Iterator[tuple[str, ds.Dataset]]:
        """The rows of each file by its name; of a table in memory, all."""
        if isinstance(self.table, pa.Table):
            yield self.shown, self.rows
            return
        for name, path in self.files.items():
            yield name, ds.dataset(path, schema=self.rows.schema, format="parquet")


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
        If a file is absent, torn, damaged or not Parquet, there are no rows, or a column that the
        study names is not in every file.
    """
    log = study.data.log if study.data is not None else None
    patterns = [log] if isinstance(log, str) else list(log or ())
    files: dict[str, Path] = {}
    for pattern in patterns:
        files |= found_files(study.folder, pattern)
    files = _each_once(files)
    shown = ", ".join(patterns)
    schemas = {name: read_schema(name, path) for name, path in files.items()}
    _check_columns(study, schemas, shown)
    paths = [str(path) for path in files.values()]
    rows = ds.dataset(paths, schema=_common_schema(list(schemas.values())), format="parquet")
    if not rows.count_rows():
        raise DataError(f"{shown}: the log must have rows; it has none")
    repeated = _repeated_rows(files, rows.schema.names)
    return Source(
        name="",
        shown=shown,
        table=paths,
        rows=rows,
        files=files,
        checks=(_log_check(paths, schemas), repeated),
    )


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The first file's columns, in types that hold what all files hold; dictionaries decoded."""
    fields = []
    for name in schemas[0].names:
        kinds = column_kinds(name, schemas)
        # Where no kind holds all, whoever reads this column says so.
        fields.append(pa.field(name, common_kind(kinds) or kinds[0]))
    return pa.schema(fields)


def column_kinds(name: str, schemas: Sequence[pa.Schema]) -> list[pa.DataType]:
    """The column's type in each file that has it, dictionaries decoded."""
    kinds = [schema.field(name).type for schema in schemas if name in schema.names]
    return [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]


def common_kind(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    """The type that holds the values of all; None if there is none."""
    try:
        one = pa.unify_schemas(
            [pa.schema([("column", kind)]) for kind in kinds], promote_options="permissive"
        )
    except pa.ArrowException:
        return None
    return one.field(0).type


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
    return _each_once({str(name): p for name, p in zip(names, paths, strict=True)})


def _each_once(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files by the first of their names; ``a`` and ``b/../a`` are one file."""
    first: dict[Path, str] = {}
    for name, path in files.items():
        first.setdefault(path.resolve(), name)
    return {name: files[name] for name in first.values()}


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
    if path.suffix.lower() in _TEXT_FILES:
        raise DataError(
            f"{name}: must be a Parquet file; make one of this: pandas.read_csv(..., "
            "parse_dates=[...]).to_parquet(...)"
        )
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
    """Every column that the study names is in every file, and none is there twice."""
    for name, schema in schemas.items():
        if doubled := [c for c, times in Counter(schema.names).items() if times > 1]:
            raise DataError(f"{name}: column {doubled[0]!r} is doubled; rename or drop one")
    for place, column in column_places(study):
        for name, schema in schemas.items():
            if column not in schema.names:
                nowhere = not any(column in other.names for other in schemas.values())
                near = difflib.get_close_matches(column, schema.names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {schema.names[:8]}"
                raise DataError(
                    f"{study.file}: {dotted(place)}: column {column!r} is not in "
                    f"{shown if nowhere else name}; {hint}"
                )


def dotted(place: Place) -> str:
    """``metrics.ctr.numerator``: a place as messages call it."""
    return ".".join(map(str, place))


@contextmanager
def located(study: Study, place: Place) -> Iterator[None]:
    """Turn what the library refuses into a `DataError` that names the place in the study.

    The place is that of the option which the message starts with (``trigger: ...``), or of what it
    names first (see `blamed`).
    """
    try:
        yield
    except DataError:
        raise
    except (ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        option, _, rest = message.partition(": ")
        named = [where for where, _ in column_places(study) if where == (*place, option)]
        if named:
            raise DataError(f"{study.file}: {dotted(named[0])}: {rest}") from error
        where = dotted(blamed(study, place, message))
        raise DataError(f"{study.file}: {where}: {message}") from error


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Turn what goes wrong when files are read into a `DataError` that names the file."""
    try:
        yield
    except (OSError, duckdb.IOException, duckdb.InvalidInputException) as error:
        where = damage(source.files) or f"{source.shown}: cannot be read: {_one_line(error)}"
        raise DataError(where) from error


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Estimation warnings as texts; every other warning goes on."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EstimationWarning)
        yield messages
    for warning in caught:
        if issubclass(warning.category, EstimationWarning):
            messages.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def damage(files: Mapping[str, Path]) -> str:
    """Which file cannot be read to its end, and why; empty if all can.

    Parameters
    ----------
    files : mapping of str to Path
        By the name that the message shows.

    Returns
    -------
    str
    """
    for name, path in files.items():
        try:
            for _ in pq.ParquetFile(path).iter_batches():
                pass
        except (OSError, pa.ArrowException) as error:
            return f"{name}: must be a whole Parquet file; it is damaged: {_one_line(error)}"
    return ""


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
    condition = _condition(source, keep, where)
    try:
        table = source.rows.to_table(columns=list(dict.fromkeys(columns)), filter=condition)
    except pa.ArrowInvalid as error:
        raise DataError(f"{where}: {_one_line(error)}") from error
    if not table.num_rows:
        raise DataError(f"{where}: no row has {rows_in_words(keep)}; see the values of the column")
    return table


def _condition(source: Source, keep: Mapping[str, Scalar], where: str) -> ds.Expression:
    """Whether a row has the given values."""
    condition = pc.scalar(True)
    for column, value in keep.items():
        kind = source.rows.schema.field(column).type
        same = _as_kind(value, kind)
        if same is None:
            first = source.rows.head(1, columns=[column]).column(0)[0].as_py()
            got, seen = (json.dumps(v, default=str, ensure_ascii=False) for v in (value, first))
            raise DataError(
                f"{where}.{column}: the value must be of the column's kind, {kind}, such as "
                f"{seen}; got {got}; write text and dates in quotes, numbers and true or false not"
            )
        condition &= ds.field(column) == same
    return condition


def _as_kind(value: Scalar, kind: pa.DataType) -> pa.Scalar | None:
    """A value of a study as one that a column of this kind can hold; None if there is none."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if isinstance(value, bool):
        return pa.scalar(value) if pa.types.is_boolean(kind) else None
    if isinstance(value, int | float):
        return pa.scalar(value) if is_number else None
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        try:
            return pa.scalar(value).cast(kind)
        except pa.ArrowInvalid:
            return None
    return pa.scalar(value) if is_text or pa.types.is_string_view(kind) else None


def refuse_unquoted(source: Source, column: str, value: object, where: str) -> None:
    """Refuse true and false as a label of a column of text: YAML makes them of unquoted words.

    Parameters
    ----------
    source : Source
    column : str
    value : scalar
        What the study calls a label of the column.
    where : str
        Place in the study, for the message.

    Raises
    ------
    DataError
    """
    if not isinstance(value, bool):
        return
    if _as_kind("text", source.rows.schema.field(column).type) is not None:
        words = "no, off and false" if not value else "yes, on and true"
        raise DataError(
            f"{where}: column {column!r} holds text; got {json.dumps(value)}; YAML reads {words} "
            "without quotes as that: put the label in quotes"
        )


def refuse_propensities(
    source: Source, column: str, keep: Mapping[str, Scalar], where: str
) -> None:
    """Refuse propensities outside (0, 1], by the file and the rows in it.

    Parameters
    ----------
    source : Source
    column : str
        Of numbers; whoever reads it refuses other kinds.
    keep : mapping of str to scalar
        Which rows are asked, as in `filtered`.
    where : str
        Place of `keep` in the study, for the message.

    Raises
    ------
    DataError
        If a propensity is outside, or missing.
    """
    kind = source.rows.schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return
    wanted = {"p": ds.field(column), "kept": _condition(source, keep, where)}
    for name, rows in source.parts():
        table = rows.to_table(columns=wanted)
        p = table.column("p").cast(pa.float64()).to_numpy()
        kept = table.column("kept").fill_null(False).to_numpy()
        bad = kept & ~((p > 0) & (p <= 1))
        if bad.any():
            do = "log the probability with which the shown action was chosen"
            raise DataError(f"{name}: {offenders(column, 'be in (0, 1]', bad, p, do)}")


def rows_in_words(keep: Mapping[str, Scalar]) -> str:
    """``policy_id = bts``; ``all rows`` without a condition."""
    return " and ".join(f"{column} = {value}" for column, value in keep.items()) or "all rows"


def span(source: Source, column: str | None) -> tuple[str, str]:
    """First and last day (or time) of a column as text; empty without a column."""
    if column is None:
        return "", ""
    try:
        ends = pc.min_max(source.rows.to_table(columns=[column]).column(column)).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # of no kind that has an order
        return "", ""
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
    try:
        return treatment_check("log schema", ScoredTreatments(paths))
    except (ValueError, TypeError) as error:  # the files disagree
        return Check(name="log schema", kind="log", status="failed", finding=_one_line(error))


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


def _repeated_rows(files: Mapping[str, Path], columns: Sequence[str]) -> Check:
    """Rows that equal another row in every column; damaged files are refused."""
    try:
        table = open_table([str(path) for path in files.values()], columns=list(columns))
        n = int(table.count().to_pyarrow().as_py()) - int(
            table.distinct().count().to_pyarrow().as_py()
        )
    except (ValueError, TypeError, OSError, duckdb.Error) as error:
        if damaged := damage(files):
            raise DataError(damaged) from error
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
