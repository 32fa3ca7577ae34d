"""Outcomes beside their impressions: one column for each outcome name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import pyarrow as pa

from recsys.log_rules import View, absent_columns, key_mismatch
from recsys.log_schema import COLUMNS, OUTCOME_COLUMNS

if TYPE_CHECKING:
    from datetime import timedelta

    import ibis.expr.types as ir
    from ibis import BaseBackend

    from recsys.log_schema import Problem

IMPRESSION_COLUMNS = tuple(
    column for column in COLUMNS if column.name in {"impression_id", "timestamp", "position"}
)
"""What joining reads of the treatments."""


def outcome_columns(backend: BaseBackend, *, outcome_window: timedelta | None) -> pa.Table:
    """Pivot the outcomes of an engine's tables `treatments` and `outcomes` to impressions.

    Parameters
    ----------
    backend : ibis.BaseBackend
        Holds both tables.
    outcome_window : timedelta, optional
        Only reports until the impression's timestamp plus this are read, the end included.

    Returns
    -------
    pyarrow.Table
        One float64 column an outcome name, sorted; rows in the order of the treatments.

    Raises
    ------
    ValueError
        If a column that joining reads is absent or of another type, an outcome has no name, or
        `impression_id` is not unique.

    Notes
    -----
    A pair of impression and outcome is *open* when its last report says `censored` (a tie counts as
    open); an impression is *censored* when one of its outcomes is open. The value of a pair is null
    if it is open, else the sum of its reports' values; without a report it is null for a censored
    impression and for a row that was not shown, else 0.

    Examples
    --------
    >>> from recsys.datasets import open_bandit
    >>> from recsys.tables import engine, to_arrow
    >>> log = open_bandit("men")
    >>> tables = {"treatments": to_arrow(log.frame), "outcomes": to_arrow(log.outcomes)}
    >>> with engine(**tables) as backend:
    ...     outcome_columns(backend, outcome_window=None).column_names
    ['click']
    """
    impressions, reports = _read(backend)
    copies = impressions.impression_id.count() - impressions.impression_id.nunique()
    if copies.to_pyarrow().as_py():
        raise ValueError("impression_id must be unique, or outcomes count twice: see .check()")
    names = reports.select("outcome").distinct().to_pyarrow().column("outcome").to_pylist()
    if None in names:
        raise ValueError("outcomes.outcome must be present in every row: see .check()")
    if not names:
        return pa.table({})
    names.sort()
    if outcome_window is not None:
        reports = reports.join(impressions.select("impression_id", "scored_at"), "impression_id")
        last = reports.scored_at + outcome_window.total_seconds() * 1e6
        reports = reports.filter(reports.reported_at <= last)
    by_impression = _by_impression(reports, names)
    found = impressions.left_join(by_impression, "impression_id")
    rest = ibis.ifelse(found.any_open.fill_null(False) | ~found.shown, ibis.null("float64"), 0.0)
    columns = {
        f"column_{i}": ibis.ifelse(found[f"seen_{i}"].fill_null(False), found[f"value_{i}"], rest)
        for i in range(len(names))
    }
    wide = found.select("row", **columns).order_by("row").drop("row").to_pyarrow()
    return wide.rename_columns(names)


def _read(backend: BaseBackend) -> tuple[ir.Table, ir.Table]:
    """Read both tables in the types of the schema; refuse what cannot be joined."""
    treatments = View(backend.table("treatments"), IMPRESSION_COLUMNS, "")
    outcomes = View(backend.table("outcomes"), OUTCOME_COLUMNS, "outcomes.")
    problems: list[Problem | None] = []
    for view in (treatments, outcomes):
        problems += absent_columns(view.table.columns, view.schema, view.prefix)
        problems += view.dtype_problems()
    if not problems:
        problems.append(key_mismatch(treatments, outcomes))
    for problem in problems:
        if problem is not None:
            raise ValueError(problem.message)
    impressions = treatments.table.select(
        "impression_id",
        row=ibis.row_number(),
        scored_at=treatments.value("timestamp"),
        shown=treatments.given("position") if treatments.has("position") else ibis.literal(True),
    )
    reports = outcomes.table.select(
        "impression_id",
        "outcome",
        value=outcomes.value("value"),
        reported_at=outcomes.value("reported_at"),
        censored=outcomes.value("censored"),
    )
    return impressions, reports


def _by_impression(reports: ir.Table, names: list[str]) -> ir.Table:
    """One row an impression: for each outcome name its value, and whether it was reported."""
    pairs = reports.group_by(["impression_id", "outcome"]).aggregate(
        total=reports.value.sum(where=~reports.censored),
        last_open=reports.reported_at.max(where=reports.censored),
        last_closed=reports.reported_at.max(where=~reports.censored),
    )
    is_open = pairs.last_open.notnull() & (
        pairs.last_closed.isnull() | (pairs.last_open >= pairs.last_closed)
    )
    pairs = pairs.mutate(
        is_open=is_open, total=ibis.ifelse(is_open, ibis.null("float64"), pairs.total)
    )
    columns: dict[str, ir.Value] = {"any_open": pairs.is_open.any()}
    for i, name in enumerate(names):
        named = pairs.outcome == name
        columns[f"seen_{i}"] = named.any()
        columns[f"value_{i}"] = pairs.total.max(where=named)
    return pairs.group_by("impression_id").aggregate(**columns)
