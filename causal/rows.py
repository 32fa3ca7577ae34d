"""Rows, in memory or in an engine, behind the same verbs.

Columns carry short aliases that the analysis chose; the user's names stay at the door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.array_rows import ArrayRows, combined_codes
from causal.engine_rows import EngineRows
from causal.frame import Table, in_memory_rows, open_table, read_columns
from causal.verbs import Expression, Groups, Pilot, Rows, both, column, present, select

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ArrayRows",
    "EngineRows",
    "Expression",
    "Groups",
    "Pilot",
    "Rows",
    "both",
    "column",
    "combined_codes",
    "open_rows",
    "present",
    "select",
]

_IN_ENGINE_FROM = 200_000


def open_rows(
    data: Table, *, numeric: Mapping[str, str], labels: Mapping[str, str], finite: bool = True
) -> Rows:
    """Open a table as rows under aliases; small tables in memory as arrays, the rest in the engine.

    Parameters
    ----------
    data : Table
        Any kind that the door takes.
    numeric, labels : mapping from alias to column name
        Numbers may be missing (see `Rows.n_missing`), labels may not.
    finite : bool
        False saves the engine a scan: infinite numbers and NaN are then left to a caller who looks
        at sums of every column, finds one that is not finite, and opens the rows again.

    Raises
    ------
    ValueError
        If a column is absent, the table is empty, a number is infinite or a label is missing.
    TypeError
        If `data` is not a table, or a column not of its kind.
    """
    count = in_memory_rows(data)
    if count is not None and count < _IN_ENGINE_FROM:
        numbers = read_columns(data, numeric=list(numeric.values()), missing="keep")
        names = read_columns(data, labels=list(labels.values()))
        arrays = {alias: numbers[name] for alias, name in numeric.items()}
        arrays |= {alias: names[name] for alias, name in labels.items()}
        return ArrayRows(arrays, count)
    table = open_table(data, columns=list(dict.fromkeys([*numeric.values(), *labels.values()])))
    return EngineRows.opened(table, numeric, labels, finite=finite)
