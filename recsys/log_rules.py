"""What must hold in a log, checked in the engine.

One aggregate pass counts the offenders of every row rule; one over impressions (unique), requests
and outcomes each follow where the log has them. Offending rows are looked up only for rules that
are broken.
"""

from __future__ import annotations

import decimal
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from recsys.log_schema import (
    COLUMNS,
    DTYPES,
    OUTCOME_COLUMNS,
    WINDOW_RULE,
    Column,
    Example,
    LogCheck,
    Problem,
    Severity,
)
from recsys.tables import ArrowSource, Table, column_names, count_rows, engine, to_arrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TINY_PROPENSITY = 1e-6
SUM_TOLERANCE = 1e-6
N_EXAMPLES = 5
_WINDOW_START = datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1e6
_DAY = 86_400e6

_SCHEMAS = {"treatments": COLUMNS, "outcomes": OUTCOME_COLUMNS}

Bound: TypeAlias = Callable[[ir.Value], ir.BooleanValue]


def _epoch_us(instant: ir.Value) -> ir.Value:
    """Name DuckDB's own function: microseconds since 1970, null for infinity."""


def _bit_count(bits: ir.Value) -> ir.Value:
    """Name DuckDB's own function: how many bits are set."""


epoch_us = ibis.udf.scalar.builtin(
    _epoch_us, name="epoch_us", signature=((dt.timestamp,), dt.int64)
)
bit_count = ibis.udf.scalar.builtin(_bit_count, name="bit_count", signature=((dt.int64,), dt.int8))

_BOUNDS: dict[str, Bound] = {
    "finite": lambda x: ~x.isinf(),
    "in (0, 1]": lambda x: (x > 0) & (x <= 1),
    "in [0, 1]": lambda x: (x >= 0) & (x <= 1),
    "finite and >= 0": lambda x: (x >= 0) & ~x.isinf(),
    "finite and > 0": lambda x: (x > 0) & ~x.isinf(),
    "finite and <= 0": lambda x: (x <= 0) & ~x.isinf(),
    ">= 1": lambda x: x >= 1,
    ">= 0": lambda x: x >= 0,
    ">= -1": lambda x: x >= -1,
    WINDOW_RULE: lambda x: (x >= _WINDOW_START) & (x <= _now() + _DAY),
}
_ORDERS: dict[str, tuple[str, Callable[[ir.Value, ir.Value], ir.BooleanValue]]] = {
    "<= timestamp": ("timestamp", lambda x, other: x <= other),
    ">= timestamp": ("timestamp", lambda x, other: x >= other),
    "<= reported_at": ("reported_at", lambda x, other: x <= other),
}


def _now() -> float:
    """Microseconds since 1970."""
    return datetime.now(tz=UTC).timestamp() * 1e6


def check_log(frame: Table, outcomes: Table | None) -> LogCheck:
    """Check a table of treatments, and its outcomes where given, against every rule.

    Parameters
    ----------
    frame : Table
        One row a scored candidate; columns `recsys.log_schema.COLUMNS`.
    outcomes : Table, optional
        Long; columns `recsys.log_schema.OUTCOME_COLUMNS`. May be empty: nothing happened.

    Returns
    -------
    LogCheck
        Every broken rule with its count and first five offenders.

    Raises
    ------
    ValueError
        If `frame` is empty, or a file is absent or torn.

    Notes
    -----
    Rules over several rows: `impression_id` unique; `position` distinct within a request; where all
    candidates of a request are logged (as many rows as `n_candidates`, some of them not shown),
    their propensities at position 1 sum to 1 within 1e-6. A candidate not shown carries its
    probability of position 1, a shown one that of its own position given the items above. So the
    sum is 1 over all rows of a request that showed at most one room, and over the first room and
    those not shown it is at most 1 in longer lists: the other shown rooms' shares of position 1
    are not in the log. Requests that only log what they showed cannot be checked so.

    Examples
    --------
    >>> import pandas as pd
    >>> check_log(pd.DataFrame({"propensity": [0.5]}), None).problems[0].message
    'impression_id must be present; the table has no such column'
    """
    schema_problems, sources = _open(frame, outcomes)
    problems = list(schema_problems)
    with engine(**sources) as backend:
        views = {name: View(backend.table(name), _SCHEMAS[name], _prefix(name)) for name in sources}
        for view in views.values():
            problems += view.dtype_problems()
            problems += _row_problems(view)
        if "treatments" in views:
            problems += _request_problems(views["treatments"])
        if "outcomes" in views:
            problems += _report_problems(views["outcomes"])
        # A doubled impression would be joined, and its outcomes counted, twice.
        if len(views) == 2 and not any(problem.rule == "unique" for problem in problems):
            problems += _outcome_problems(views["treatments"], views["outcomes"])
    return LogCheck(tuple(problems))


def _open(frame: Table, outcomes: Table | None) -> tuple[list[Problem], dict[str, ArrowSource]]:
    """Open the known columns of both tables; say what is not a table, what columns are absent."""
    problems: list[Problem] = []
    sources: dict[str, ArrowSource] = {}
    given = {"treatments": frame} | ({} if outcomes is None else {"outcomes": outcomes})
    for name, data in given.items():
        try:
            names = column_names(data)
        except TypeError as error:
            rule = str(error).removeprefix("a table must be ")
            problems.append(Problem(name, rule, "error", 0, ()))
            continue
        problems += absent_columns(names, _SCHEMAS[name], _prefix(name))
        known = [column.name for column in _SCHEMAS[name] if column.name in names]
        if not known:
            continue
        sources[name] = to_arrow(data, columns=known)
        if name == "treatments" and not count_rows(sources[name]):
            raise ValueError("the table of treatments must have rows; got 0")
    return problems, sources


def _whole_or_float(column: ir.Value) -> ir.Value:
    """Floats and decimals as float64 with NaN as null; integers and booleans as integers."""
    kind = column.type()
    if kind.is_floating() or kind.is_decimal():
        number = column.cast("float64")
        return ibis.ifelse(number.isnan(), ibis.null("float64"), number)
    return column.cast("int64") if kind.is_boolean() else column


def _microseconds(column: ir.Value) -> ir.Value:
    """Instants, or int64 milliseconds, as float64 microseconds since 1970 (exact until 2255)."""
    if column.type().is_timestamp():
        return epoch_us(column).cast("float64")
    return column.cast("float64") * 1000.0


class View:
    """A table in the engine with those columns of the schema that it has, in the right type.

    Parameters
    ----------
    table : ibis.Table
        The table.
    columns : sequence of Column
        The schema.
    prefix : str
        What stands before its columns' names in a problem.
    """

    def __init__(self, table: ir.Table, columns: Sequence[Column], prefix: str) -> None:
        """Keep the columns whose type fits."""
        self.table = table
        self.schema = columns
        self.prefix = prefix
        self.columns = {
            column.name: column
            for column in columns
            if column.name in table.columns and _fits(table[column.name].type(), column.dtype)
        }
        self._misfits = [
            column
            for column in columns
            if column.name in table.columns and column.name not in self.columns
        ]

    def has(self, *names: str) -> bool:
        """Whether all these columns are there and in the right type.

        Parameters
        ----------
        *names : str
            Columns of the schema.

        Returns
        -------
        bool
            True if a rule may read all of them.
        """
        return all(name in self.columns for name in names)

    def value(self, name: str) -> ir.Value:
        """Give a column as the rules read it.

        Parameters
        ----------
        name : str
            A column that the view has.

        Returns
        -------
        ibis.Value
            Timestamps as float64 microseconds since 1970, numbers as float64 or integers with NaN
            as null, keys and strings as they are.
        """
        column = self.table[name]
        match self.columns[name].dtype:
            case "timestamp":
                return _microseconds(column)
            case "float64":
                return _whole_or_float(column).cast("float64")
            case "int64":
                return _whole_or_float(column)
            case "bool":
                return column.cast("boolean")
            case _:
                return column

    def given(self, name: str) -> ir.BooleanValue:
        """Say where a column is not null; NaN counts as null.

        Parameters
        ----------
        name : str
            A column that the view has.

        Returns
        -------
        ibis.BooleanValue
            True where there is a value.
        """
        if self.columns[name].dtype in {"float64", "int64"}:
            return self.value(name).notnull()
        return self.table[name].notnull()

    def dtype_problems(self) -> list[Problem]:
        """List the columns that are there in another type than the schema says.

        Returns
        -------
        list of Problem
            One error a column, for the table as a whole.
        """
        return [
            Problem(
                f"{self.prefix}{column.name}",
                f"{DTYPES[column.dtype]}; it is {_type_in_words(self.table[column.name].type())}",
                "error",
                0,
                (),
            )
            for column in self._misfits
        ]


@dataclass(frozen=True, slots=True)
class _RowRule:
    """A rule of single rows: which rows break it."""

    column: str
    rule: str
    severity: Severity
    bad: ir.BooleanValue


def _prefix(table_name: str) -> str:
    """What stands before a column's name in a problem."""
    return "" if table_name == "treatments" else f"{table_name}."


def absent_columns(
    names: Sequence[str], columns: Sequence[Column], prefix: str
) -> Iterator[Problem]:
    """List the required columns that a table does not have.

    Parameters
    ----------
    names : sequence of str
        The table's columns.
    columns : sequence of Column
        The schema.
    prefix : str
        What stands before a column's name in the problem.

    Yields
    ------
    Problem
        One error an absent column, with the nearest names that the table has.

    Examples
    --------
    >>> [problem.column for problem in absent_columns(["outcome"], OUTCOME_COLUMNS[:2], "")]
    ['impression_id']
    """
    for column in columns:
        if column.required and column.name not in names:
            near = difflib.get_close_matches(column.name, [str(name) for name in names], n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            rule = f"present; the table has no such column{hint}"
            yield Problem(f"{prefix}{column.name}", rule, "error", 0, ())


def _fits(kind: dt.DataType, dtype: str) -> bool:
    """Whether the engine's type can hold what the schema's type means."""
    match dtype:
        case "key":
            return bool(kind.is_integer() or kind.is_string() or kind.is_boolean())
        case "timestamp":
            zoned = kind.is_timestamp() and kind.timezone is not None
            return bool(zoned or kind.is_integer())
        case "bool":
            return bool(kind.is_boolean() or kind.is_integer())
        case "string":
            return bool(kind.is_string())
        case _:
            return bool(kind.is_numeric() or kind.is_boolean())


def _type_in_words(kind: dt.DataType) -> str:
    """The engine's type; a timestamp without zone says so."""
    if kind.is_timestamp():
        return "a timestamp without zone: localise it, e.g. .dt.tz_localize('UTC')"
    return str(kind)


def _row_rules(view: View) -> Iterator[_RowRule]:
    """Every rule of single rows that the columns of this table have."""
    for name, column in view.columns.items():
        if column.required and name not in {"propensity", "value"}:
            yield _RowRule(name, "present in every row", "error", ~view.given(name))
        if column.dtype == "int64" and not view.value(name).type().is_integer():
            value = view.value(name)
            fraction = value.isinf() | (value != value.floor())
            yield _RowRule(name, DTYPES["int64"], "error", view.given(name) & fraction)
        if column.dtype == "bool" and view.table[name].type().is_integer():
            yield _RowRule(name, DTYPES["bool"], "error", ~view.table[name].isin([0, 1]))
        keeps = _keeps(view, column)
        if keeps is not None:
            bad = view.given(name) & ~keeps.fill_null(False)
            yield _RowRule(name, column.rule, "error", bad)
    yield from _unknowns(view)


def _keeps(view: View, column: Column) -> ir.BooleanValue | None:
    """Where the column keeps the rule of its schema; None where no row rule applies."""
    if column.rule in _BOUNDS:
        return _BOUNDS[column.rule](view.value(column.name))
    if column.rule in _ORDERS:
        other, order = _ORDERS[column.rule]
        if view.has(other):
            against = view.value(other)
            return order(view.value(column.name), against) | against.isnull()
    return None


def _unknowns(view: View) -> Iterator[_RowRule]:
    """Where a null says something, and where a propensity is too small to be of use."""
    if view.has("propensity"):
        propensity = view.value("propensity")
        yield _RowRule(
            "propensity",
            "known in every row (propensity unknown: off-policy estimates refuse this log)",
            "warning",
            propensity.isnull(),
        )
        yield _RowRule(
            "propensity",
            f">= {TINY_PROPENSITY:g} to be of use (a weight above 1e6)",
            "warning",
            (propensity > 0) & (propensity < TINY_PROPENSITY),
        )
    if view.has("value", "censored"):
        closed = ~view.value("censored")
        yield _RowRule("value", "present unless censored", "error", ~view.given("value") & closed)


def _row_problems(view: View) -> Iterator[Problem]:
    """Count the offenders of all row rules in one pass; look up those of broken rules."""
    rules = list(_row_rules(view))
    if not rules:
        return
    table = view.table
    counts = {f"rule_{i}": table.count(where=rule.bad) for i, rule in enumerate(rules)}
    unique = [name for name, column in view.columns.items() if column.rule == "unique"]
    found = table.aggregate(**counts).to_pyarrow().to_pylist()[0]
    for name in unique:
        # In a query of its own: DuckDB slows all other aggregates beside a distinct one.
        if (table[name].count() - table[name].nunique()).to_pyarrow().as_py():
            copies = table[name].count().over(group_by=table[name])
            yield _problem(view, _RowRule(name, "unique", "error", copies > 1))
    for i, rule in enumerate(rules):
        if found[f"rule_{i}"]:
            yield _problem(view, rule)


def _problem(view: View, rule: _RowRule) -> Problem:
    """Look up the first offenders of a broken rule."""
    marked = view.table.select(row=ibis.row_number(), value=view.table[rule.column], bad=rule.bad)
    return _first_offenders(marked, f"{view.prefix}{rule.column}", rule.rule, rule.severity)


def _first_offenders(marked: ir.Table, column: str, rule: str, severity: Severity) -> Problem:
    """Count the bad of a table (row, value, bad), or of groups of n rows (value, n, bad)."""
    bad = marked.filter(marked.bad)
    order = "row" if "row" in marked.columns else "value"
    shown = bad.order_by(order).limit(N_EXAMPLES).to_pyarrow().to_pylist()
    n_rows = bad.n.sum() if "n" in marked.columns else bad.count()
    examples = tuple(Example(entry.get("row"), _scalar(entry["value"])) for entry in shown)
    return Problem(column, rule, severity, int(n_rows.to_pyarrow().as_py() or 0), examples)


def _scalar(value: object) -> str | int | float | bool | None:
    """Make a plain JSON value of what the engine returned."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _request_problems(view: View) -> Iterator[Problem]:
    """Check the rules over the rows of a request: places distinct, propensities that sum to 1."""
    if not view.has("request_id", "position"):
        return
    requests = View(view.table.filter(view.given("request_id")), view.schema, view.prefix)
    marked = _marked_requests(requests)
    found = marked.aggregate(n_doubled=marked.doubled.sum(), n_amiss=marked.amiss.sum())
    counts = found.to_pyarrow().to_pylist()[0]
    if counts["n_doubled"]:
        places = requests.table.select("request_id", position=requests.value("position"))
        places = places.filter(places.position.notnull()).group_by(["request_id", "position"])
        places = places.aggregate(n=ibis._.count())
        groups = places.select(value=places.request_id, n=places.n, bad=places.n > 1)
        yield from _if_any(groups, "position", "distinct within its request_id")
    if counts["n_amiss"]:
        rule = f"1 in sum over a request whose candidates are all logged, within {SUM_TOLERANCE:g}"
        groups = marked.select(value=marked.request_id, n=marked.n, bad=marked.amiss)
        yield from _if_any(groups, "propensity", rule)


def _marked_requests(view: View) -> ir.Table:
    """One row a request: whether places may be doubled, whether propensities are amiss.

    Places up to 62 are bits of one integer: fewer bits than places means that one is doubled. This
    is several times faster than counting distinct pairs; a place beyond 62 is looked at anyway.
    """
    known = view.has("propensity", "n_candidates")
    rows = view.table.select(
        "request_id",
        position=view.value("position").try_cast("int64"),
        shown=view.given("position"),
        n_candidates=view.value("n_candidates") if known else ibis.null("int64"),
        propensity=view.value("propensity") if known else ibis.null("float64"),
    )
    is_bit = rows.position.between(0, 62)
    is_first = rows.shown & (rows.position == 1)
    sums = rows.group_by("request_id").aggregate(
        n=rows.count(),
        n_candidates=rows.n_candidates.max(),
        n_shown=rows.count(where=rows.shown),
        n_first=rows.count(where=is_first),
        n_known=rows.propensity.count(),
        first=rows.propensity.sum(where=~rows.shown | is_first),
        n_bits=rows.count(where=is_bit),
        bits=(ibis.literal(1, "int64") << rows.position.clip(0, 62)).bit_or(where=is_bit),
    )
    doubled = (sums.n_bits != bit_count(sums.bits).fill_null(0)) | (sums.n_bits != sums.n_shown)
    complete = (sums.n == sums.n_candidates) & (sums.n_known == sums.n) & (sums.n_shown < sums.n)
    one_place = (sums.n_shown <= 1) & (sums.n_first == sums.n_shown)
    too_much = sums.first > 1 + SUM_TOLERANCE
    too_little = one_place & (sums.first < 1 - SUM_TOLERANCE)
    amiss = (complete & (too_much | too_little)).fill_null(False)
    return sums.select("request_id", "n", doubled=doubled, amiss=amiss)


def _report_problems(view: View) -> Iterator[Problem]:
    """Warn of one report that stands in the outcomes twice: `joined` would add it twice."""
    key = ["impression_id", "outcome", "reported_at"]
    if view.has(*key):
        reports = view.table.group_by(key).aggregate(n=ibis._.count())
        marked = reports.select(value=reports.impression_id, n=reports.n, bad=reports.n > 1)
        rule = "distinct in impression_id, outcome and reported_at (joined adds all of them)"
        yield from _if_any(marked, f"{view.prefix}impression_id", rule, severity="warning")


def _outcome_problems(treatments: View, outcomes: View) -> Iterator[Problem]:
    """Check that every outcome belongs to a shown impression, and was reported after it."""
    if not (treatments.has("impression_id") and outcomes.has("impression_id")):
        return
    mismatch = key_mismatch(treatments, outcomes)
    if mismatch is not None:
        yield mismatch
        return
    joined = _outcomes_with_impressions(treatments, outcomes)
    rules = [
        ("impression_id", "one of the treatments' impression_id", joined.known.isnull()),
        (
            "impression_id",
            "of a shown row: one with a position",
            joined.shown == ibis.literal(False),
        ),
        (
            "reported_at",
            ">= the timestamp of its impression",
            joined.reported_at < joined.scored_at,
        ),
    ]
    counts = {f"rule_{i}": joined.count(where=bad) for i, (_, _, bad) in enumerate(rules)}
    found = joined.aggregate(**counts).to_pyarrow().to_pylist()[0]
    for i, (column, rule, bad) in enumerate(rules):
        if found[f"rule_{i}"]:
            value = joined.outcome_of if column == "impression_id" else joined.reported_value
            marked = joined.select(row=joined.row, value=value, bad=bad)
            yield _first_offenders(marked, f"outcomes.{column}", rule, "error")


def key_mismatch(treatments: View, outcomes: View) -> Problem | None:
    """Say that the two tables name impressions by different types, which never match.

    Parameters
    ----------
    treatments, outcomes : View
        Both have `impression_id`.

    Returns
    -------
    Problem or None
        None if both are numbers or both are strings.
    """
    mine, theirs = (view.table.impression_id.type() for view in (treatments, outcomes))
    if mine.is_string() == theirs.is_string():
        return None
    rule = f"of the type of the treatments' impression_id ({mine}); it is {theirs}"
    return Problem("outcomes.impression_id", rule, "error", 0, ())


def _outcomes_with_impressions(treatments: View, outcomes: View) -> ir.Table:
    """Put each outcome beside its impression; null where there is none or a column is absent."""
    unknown = ibis.null("float64")
    reported = outcomes.has("reported_at")
    left = outcomes.table.select(
        row=ibis.row_number(),
        outcome_of=outcomes.table.impression_id,
        reported_at=outcomes.value("reported_at") if reported else unknown,
        reported_value=outcomes.table.reported_at if reported else unknown,
    )
    right = treatments.table.select(
        known=treatments.table.impression_id,
        scored_at=treatments.value("timestamp") if treatments.has("timestamp") else unknown,
        shown=treatments.given("position") if treatments.has("position") else ibis.literal(True),
    )
    # as decimals where unsigned: the engine's filter on Arrow does not take such keys
    keys = [
        key.cast("decimal(20, 0)") if key.type().is_uint64() else key
        for key in (left.outcome_of, right.known)
    ]
    return left.left_join(right, keys[0] == keys[1])


def _if_any(
    marked: ir.Table, column: str, rule: str, *, severity: Severity = "error"
) -> Iterator[Problem]:
    """Yield the problem of a table (value, n, bad) of groups, if there is one."""
    problem = _first_offenders(marked, column, rule, severity)
    if problem.n_rows:
        yield problem
