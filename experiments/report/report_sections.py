"""What a page is made of: sections with sentences, tables and drawings.

A section is readable without its drawings, and its tables hold the numbers: as texts on the page,
as they are in the JSON.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.report.rounding import rounded_row
from experiments.report.wording import (
    GAP,
    count_text,
    digits,
    p_text,
    percent,
    signed,
    signed_percent,
    whole_percent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from experiments.report.svg import Forest
    from experiments.report.svg_marks import Picture


@dataclass(frozen=True, slots=True)
class TableColumn:
    """How a column of a table reads: its heading, the text of a value, where it stands."""

    name: str
    heading: str
    show: Callable[[Any], str] = str
    numeric: bool = True
    badge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SectionTable:
    """Numbers of a section.

    Parameters
    ----------
    name : str
        In the JSON.
    caption : str
    frame : DataFrame
        The numbers; columns without a `TableColumn` are in the JSON only.
    columns : tuple of TableColumn
        As read; the first one names the rows.
    folded : bool
        Shown on request.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[TableColumn, ...]
    folded: bool = False

    @property
    def rows(self) -> list[list[str]]:
        """The texts of the cells, row by row."""
        shown = [[_text(c, v) for v in self.frame[c.name]] for c in self.columns]
        return [list(row) for row in zip(*shown, strict=True)]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The numbers, row by row, as JSON values without last bits."""
        found = self.frame.to_dict("records")
        return [rounded_row({str(k): plain(v) for k, v in row.items()}) for row in found]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportSection:
    """One part of a page.

    Parameters
    ----------
    key : str
        In the JSON: a plain word.
    title : str
        Heading.
    sentences : tuple of str
        What was found, and what to make of it.
    tables : tuple of SectionTable
    drawings : tuple of Picture or Forest

    Examples
    --------
    >>> section = ReportSection(key="note", title="A note", sentences=("Read this first.",))
    >>> section.to_dict()["sentences"]
    ['Read this first.']
    """

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[SectionTable, ...] = ()
    drawings: tuple[Picture | Forest, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Sentences and numbers as plain JSON values."""
        return {
            "key": self.key,
            "title": self.title,
            "sentences": list(self.sentences),
            "tables": {table.name: table.records for table in self.tables},
        }


def text_column(name: str, heading: str) -> TableColumn:
    """A column of words."""
    return TableColumn(name, heading, str, numeric=False)


def number_column(name: str, heading: str) -> TableColumn:
    """A column of numbers in three digits."""
    return TableColumn(name, heading, digits)


def given_column(name: str, heading: str) -> TableColumn:
    """A column of numbers as they were given: days, lengths."""
    return TableColumn(name, heading, "{:g}".format)


def change_column(name: str, heading: str) -> TableColumn:
    """A column of differences, with their signs."""
    return TableColumn(name, heading, signed)


def share_column(name: str, heading: str) -> TableColumn:
    """A column of chances and parts of a whole, in whole per cent."""
    return TableColumn(name, heading, whole_percent)


def percent_column(name: str, heading: str) -> TableColumn:
    """A column of small shares, in per cent of three digits."""
    return TableColumn(name, heading, percent)


def share_change_column(name: str, heading: str) -> TableColumn:
    """A column of relative changes in per cent, with their signs."""
    return TableColumn(name, heading, signed_percent)


def count_column(name: str, heading: str) -> TableColumn:
    """A column of counts."""
    return TableColumn(name, heading, count_text)


def p_column(name: str, heading: str) -> TableColumn:
    """A column of p-values."""
    return TableColumn(name, heading, p_text)


ESTIMATE_COLUMNS = (
    change_column("estimate", "Estimate"),
    number_column("std_error", "Std. error"),
    number_column("low", "Low"),
    number_column("high", "High"),
)


def length_in_words(minutes: float) -> str:
    """``30 min``, ``6 h``, ``2 d``."""
    space = "\N{NO-BREAK SPACE}"
    if minutes >= 2880 and minutes % 1440 == 0:
        return f"{minutes / 1440:g}{space}d"
    if minutes >= 60 and minutes % 15 == 0:
        return f"{minutes / 60:g}{space}h"
    return f"{minutes:.4g}{space}min"


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table."""
    return pd.DataFrame([dict(row) for row in rows])


def plain(value: Any) -> Any:  # noqa: ANN401 — a cell of any kind
    """A cell as a JSON value; what is missing or not finite is None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.datetime | dt.date | pd.Timedelta):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, bool | int | str) else str(value)


def _text(column: TableColumn, value: Any) -> str:  # noqa: ANN401 — a cell of any kind
    """The text of a cell; a dash where there is nothing."""
    if isinstance(value, float) and math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}"
    known = plain(value)
    return GAP if known is None else column.show(known)
