"""The log of scored treatments: what was scored, shown and done, with its probability.

Treatments hold one row a scored candidate; outcomes are a long table of their own, because they
come late: a click after seconds, a gift after an hour. Between `recsys` and the analyses travels
this table, not a class tree: every analysis also reads the plain table.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.log_schema import (
    COLUMNS,
    DTYPES,
    OUTCOME_COLUMNS,
    Column,
    Example,
    LogCheck,
    Problem,
    schema_table,
)
from recsys.tables import (
    ArrowSource,
    Table,
    column_names,
    count_rows,
    engine,
    to_arrow,
    to_pandas,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COLUMNS",
    "OUTCOME_COLUMNS",
    "SCHEMA_VERSION",
    "Column",
    "Example",
    "LogCheck",
    "Problem",
    "ScoredTreatments",
    "schema_table",
]

SCHEMA_VERSION = 1
_MANIFEST = "manifest.json"
_TABLES = {"treatments": COLUMNS, "outcomes": OUTCOME_COLUMNS}


@dataclass(frozen=True, slots=True, eq=False)
class ScoredTreatments:
    """A log of scored treatments and of what came of them.

    For whoever ran a policy and wants its effects, or the value of another policy, from the log.
    Assumes that `propensity` is what the policy used when it drew, not a model fitted afterwards.

    Parameters
    ----------
    frame : Table
        One row a scored candidate. Required columns: impression_id, timestamp, room_id, policy_id,
        propensity; `COLUMNS` names all that are known, others pass through unchanged. pandas,
        polars (eager, lazy), pyarrow, DuckDB relation, Ibis table, or path(s) to Parquet, which
        stay on disk. Never changed.
    outcomes : Table, optional
        Long, one row a report: impression_id, outcome, value, reported_at, censored (and timestamp
        of the behaviour itself). Sparse: what is not reported did not happen, or is censored.
    schema_version : int
        Version of the schema; 1.

    Raises
    ------
    ValueError
        If `schema_version` is not 1.

    Notes
    -----
    Timestamps are zone-aware (or int64 milliseconds since 1970) and lie in one declared window,
    2000-01-01 to now + 1 day: dates outside are mistakes of unit or clock. A null propensity means
    unknown: a warning, which off-policy estimates refuse; one outside (0, 1] is an error.

    Examples
    --------
    >>> import pandas as pd
    >>> log = ScoredTreatments(pd.DataFrame({"impression_id": [1], "room_id": [7],
    ...     "timestamp": pd.to_datetime(["2026-11-21"], utc=True), "policy_id": ["new"],
    ...     "propensity": [0.25]}))
    >>> log.validate().n_rows
    1
    """

    frame: Table
    outcomes: Table | None = None
    schema_version: int = field(default=SCHEMA_VERSION, kw_only=True)

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"schema_version must be {SCHEMA_VERSION}; got {self.schema_version!r}: "
                "written by another version of livelift"
            )

    @property
    def n_rows(self) -> int:
        """Rows of the treatments: impressions, and candidates not shown where they are logged."""
        names = column_names(self.frame)
        counted = "impression_id" if "impression_id" in names else names[0]
        return count_rows(to_arrow(self.frame, columns=[counted]))

    def check(self) -> LogCheck:
        """Check every rule of the schema; bad rows never raise.

        Returns
        -------
        LogCheck
            `.problems` with severity, row count and first five offenders; `.ok`.

        Raises
        ------
        ValueError
            If the treatments have no rows, or a file is absent or torn.

        Notes
        -----
        Errors: a required column absent, null or of another type; impression_id not unique;
        propensity outside (0, 1]; a score outside its range; a timestamp outside the window;
        model_trained_until after the timestamp; positions of a request not distinct; propensities
        of a fully logged candidate set that do not sum to 1 within 1e-6 (see
        `recsys.log_rules.check_log`); outcomes of unknown or not shown rows, reported before their
        impression, or without a value unless censored. Warnings: propensity null, or below 1e-6;
        the same report twice.

        Examples
        --------
        >>> import pandas as pd
        >>> ScoredTreatments(pd.DataFrame({"propensity": [1.3]})).check().ok
        False
        """
        from recsys.log_rules import check_log  # noqa: PLC0415 — loads Ibis, only when used

        return check_log(self.frame, self.outcomes)

    def validate(self) -> Self:
        """Raise on the first error of `check`; warnings pass.

        Returns
        -------
        ScoredTreatments
            Itself, so that it chains.

        Raises
        ------
        ValueError
            With the first error's sentence, e.g. "propensity must be in (0, 1]; 3 rows are not,
            e.g. rows 17, 42, 99 (0.0, 1.3, -0.1)".

        Examples
        --------
        >>> import pandas as pd
        >>> ScoredTreatments(pd.DataFrame({"propensity": [1.3]})).validate()
        Traceback (most recent call last):
        ValueError: impression_id must be present; the table has no such column
        """
        for problem in self.check().problems:
            if problem.severity == "error":
                raise ValueError(problem.message)
        return self

    def joined(self, *, outcome_window: timedelta | None = None) -> pd.DataFrame:
        """Put the outcomes beside their impressions: one column an outcome name.

        For analyses that read one table; the rows and columns of the frame stay as they are.

        Parameters
        ----------
        outcome_window : timedelta, optional
            Count only what was reported until the impression's timestamp plus this, the end
            included. Default: all reports.

        Returns
        -------
        pandas.DataFrame
            The frame's columns, then one float64 column an outcome name (sorted). An outcome that
            nobody showed has no column.

        Raises
        ------
        ValueError
            If the log has no outcomes or no rows, a column that joining reads is absent or of
            another type, impression_id is not unique, an outcome is named like a column of the
            frame, or `outcome_window` is not positive.
        TypeError
            If `outcome_window` is not a timedelta.

        Notes
        -----
        Several reports of one outcome are added: three gifts are their total, a 0 followed by a
        late 1 is 1. An outcome whose last report says `censored` was still open: null. An outcome
        without a report is 0, but null if another outcome of the impression is still open (the
        impression is censored), and null for a candidate that was not shown. With a window, a
        censoring reported after its end does not count: by then the window was closed.

        Examples
        --------
        >>> import pandas as pd
        >>> at = pd.to_datetime(["2026-11-21", "2026-11-21"], utc=True)
        >>> shown = pd.DataFrame({"impression_id": [1, 2], "timestamp": at})
        >>> clicks = pd.DataFrame({"impression_id": [2], "outcome": "click", "value": 1.0,
        ...     "reported_at": at[:1], "censored": False})
        >>> ScoredTreatments(shown, clicks).joined()["click"].tolist()
        [0.0, 1.0]
        """
        from recsys.log_outcomes import (  # noqa: PLC0415 — loads Ibis, only when used
            IMPRESSION_COLUMNS,
            outcome_columns,
        )

        if self.outcomes is None:
            raise ValueError("outcomes must be given to be joined; this log has none")
        if outcome_window is not None:
            _check_window(outcome_window)
        if not self.n_rows:
            raise ValueError("the table of treatments must have rows; got 0")
        # read once: a lazy table may give its rows in another order next time
        treatments = self.frame if _is_at_rest(self.frame) else to_arrow(self.frame)
        sources = {
            "treatments": to_arrow(treatments, columns=[c.name for c in IMPRESSION_COLUMNS]),
            "outcomes": to_arrow(self.outcomes, columns=[c.name for c in OUTCOME_COLUMNS]),
        }
        with engine(**sources) as backend:
            found = outcome_columns(backend, outcome_window=outcome_window)
        frame = _pandas_copy(treatments)
        for name in found.column_names:
            if name in frame.columns:
                raise ValueError(
                    f"outcomes must not be named like a column of the frame; {name!r} is: rename it"
                )
            frame[name] = found.column(name).to_numpy()
        return frame

    def write(self, folder: str | Path) -> Path:
        """Write the log as Parquet (zstd) with a manifest; a crash leaves the older log intact.

        Known columns are stored in the types of the schema (timestamps in microseconds UTC), all
        others as they are. Row rules are not checked: call `validate` first to insist on them.

        Parameters
        ----------
        folder : str or Path
            Made if absent. A log that is already there is replaced as a whole.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ValueError
            If a required column is absent, a known column holds another type, or there are no rows.

        Notes
        -----
        Tables are written under names with their content hash; the manifest (schema version, row
        counts, SHA-256 of each file) is put in place last, in one step: it alone says what the log
        is. Reading a log while it is replaced may fail, and then succeeds when tried again.

        Examples
        --------
        >>> import tempfile
        >>> from recsys.datasets import open_bandit
        >>> folder = open_bandit("men").write(tempfile.mkdtemp())
        >>> ScoredTreatments.read(folder).n_rows
        10000
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"treatments": self.frame}
        if self.outcomes is not None:
            tables["outcomes"] = self.outcomes
        entries = {name: _write_table(folder, name, data) for name, data in tables.items()}
        manifest = {"schema_version": self.schema_version, "tables": entries}
        _replace(folder / _MANIFEST, json.dumps(manifest, indent=1).encode())
        for name in _TABLES:
            for file in folder.glob(f"{name}-*.parquet"):
                if file.name != entries.get(name, {}).get("file"):
                    file.unlink(missing_ok=True)
        return folder

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Open a log that `write` made; the tables stay on disk as Parquet paths.

        Parameters
        ----------
        folder : str or Path
            The folder.

        Returns
        -------
        ScoredTreatments
            `.frame` and `.outcomes` are paths, which every analysis reads.

        Raises
        ------
        ValueError
            If there is no manifest (not a log, or its writing was cut off), the manifest is torn or
            of another version, or a table is absent, torn or changed; names the file.

        Examples
        --------
        >>> ScoredTreatments.read("no/log")
        Traceback (most recent call last):
        ValueError: no/log/manifest.json: no such file: not a log, or its writing was cut off
        """
        folder = Path(folder)
        version, entries = _read_manifest(folder / _MANIFEST)
        paths = {name: _verified(folder, entry) for name, entry in entries.items()}
        return cls(paths["treatments"], paths.get("outcomes"), schema_version=version)


def _check_window(outcome_window: object) -> None:
    """Refuse a window that is not a positive span of time."""
    if not isinstance(outcome_window, timedelta):
        kind = type(outcome_window).__name__
        raise TypeError(f"outcome_window must be a timedelta or None; got {kind}")
    if outcome_window <= timedelta(0):
        raise ValueError(f"outcome_window must be positive; got {outcome_window}")


def _is_at_rest(data: Table) -> bool:
    """Whether a table gives its rows in the same order each time: files and frames in memory."""
    return isinstance(data, (str, Path, list, tuple, pd.DataFrame))


def _pandas_copy(data: Table) -> pd.DataFrame:
    """All columns of a table as a pandas frame that may be added to."""
    if isinstance(data, pd.DataFrame):
        return data.copy(deep=False)
    source = to_arrow(data)
    return to_pandas(source if isinstance(source, pa.Table) else source.to_table())


def _write_table(folder: Path, name: str, data: Table) -> dict[str, Any]:
    """Write one table under a name that holds its content hash; return its manifest entry."""
    names = column_names(data)
    for column in _TABLES[name]:
        if column.required and column.name not in names:
            raise ValueError(f"{column.name} must be present; the table has no such column")
    source = to_arrow(data)
    n_rows = count_rows(source)
    if name == "treatments" and not n_rows:
        raise ValueError("the table of treatments must have rows; got 0")
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        _stream(source, _TABLES[name], temporary)
        digest = _digest(temporary)
        file = f"{name}-{digest[:16]}.parquet"
        temporary.replace(folder / file)
    finally:
        temporary.unlink(missing_ok=True)
    return {"file": file, "n_rows": n_rows, "sha256": digest}


def _stream(source: ArrowSource, columns: Sequence[Column], path: Path) -> None:
    """Write batch by batch, known columns in the types of the schema."""
    known = {column.name: column for column in columns}
    fields = [
        item.with_type(_stored_type(known[item.name], item.type)) if item.name in known else item
        for item in source.schema
    ]
    schema = pa.schema([item.with_nullable(True) for item in fields])
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in source.to_batches():
                arrays = [
                    _cast(batch.column(position), item, known)
                    for position, item in enumerate(schema)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        file.flush()
        os.fsync(file.fileno())


def _stored_type(column: Column, found: pa.DataType) -> pa.DataType:
    """The Arrow type in which a known column is stored."""
    if column.dtype == "key":
        if pa.types.is_boolean(found) or found == pa.uint64():
            return found
        return pa.int64() if pa.types.is_integer(found) else pa.string()
    stored: dict[str, pa.DataType] = {
        "timestamp": pa.timestamp("us", tz="UTC"),
        "float64": pa.float64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "string": pa.string(),
    }
    return stored[column.dtype]


def _cast(array: pa.Array, item: pa.Field, known: dict[str, Column]) -> pa.Array:
    """Cast one batch of a column to its stored type; an unknown column is left as it is."""
    if item.name not in known or array.type == item.type:
        return array
    column = known[item.name]
    refusal = f"{column.name} must be {DTYPES[column.dtype]}; it is {array.type}"
    if column.dtype == "key" and pa.types.is_floating(array.type):
        raise ValueError(refusal)
    if column.dtype == "timestamp":
        if pa.types.is_integer(array.type):
            array = array.cast(pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
        elif not pa.types.is_timestamp(array.type) or array.type.tz is None:
            raise ValueError(refusal)
        # Nanoseconds are cut to microseconds.
        return array.cast(item.type, safe=False)
    try:
        return array.cast(item.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{refusal} ({error})") from error


def _digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, content: bytes) -> None:
    """Put a small file in place in one step, and make its folder's entries durable."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_manifest(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Schema version and table entries of a manifest, checked: it may come from outside."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file: not a log, or its writing was cut off")
    try:
        manifest = json.loads(path.read_bytes())
        version = manifest["schema_version"]
        tables = manifest["tables"]
        entries = {name: tables[name] for name in _TABLES if name in tables}
        whole = "treatments" in entries and all(
            isinstance(entry[key], kind)
            for entry in entries.values()
            for key, kind in (("file", str), ("n_rows", int), ("sha256", str))
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: torn or not a manifest ({error!r})") from error
    if not whole:
        raise ValueError(f"{path}: torn or not a manifest (no table of treatments)")
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema_version must be {SCHEMA_VERSION}; got {version!r}")
    return version, entries


def _verified(folder: Path, entry: dict[str, Any]) -> Path:
    """The path of a table whose bytes are those that the manifest tells of."""
    path: Path = folder / entry["file"]
    if Path(entry["file"]).name != entry["file"]:
        raise ValueError(f"{path}: a table of a log must lie in its folder")
    if not path.is_file():
        raise ValueError(f"{path}: no such file, but the manifest names it")
    if _digest(path) != entry["sha256"]:
        raise ValueError(f"{path}: torn or changed since it was written (SHA-256 differs)")
    return path
