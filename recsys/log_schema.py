"""The columns of a log of scored treatments, as data, and what a check of a log says.

Documentation, validator and Parquet writer all read `COLUMNS` and `OUTCOME_COLUMNS`: a column is
added in one line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

Dtype: TypeAlias = Literal["key", "timestamp", "float64", "int64", "bool", "string"]
Severity: TypeAlias = Literal["error", "warning"]

WINDOW_RULE = "between 2000-01-01 and now + 1 day"
"""The one declared window of all timestamps; seconds taken for milliseconds fall out of it."""

DTYPES: dict[Dtype, str] = {
    "key": "an integer or string key, never float (a float cannot hold 2**53 + 1)",
    "timestamp": "a zone-aware timestamp, or int64 milliseconds since 1970 in UTC",
    "float64": "a number",
    "int64": "a whole number",
    "bool": "a boolean or 0/1",
    "string": "a string",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the schema.

    Parameters
    ----------
    name : str
        As it stands in the table.
    dtype : {"key", "timestamp", "float64", "int64", "bool", "string"}
        What it holds. A key is int64 or string, never float. A timestamp is zone-aware (an instant,
        held as UTC), or int64 milliseconds since 1970. `int64` also takes floats that are whole
        numbers, because pandas makes floats of integers with gaps.
    required : bool
        Whether the table must have it, without nulls (`propensity` may be null: unknown, a warning;
        `value` may be null where `censored`).
    unit : str
        Unit of the number, "" for none.
    meaning : str
        One sentence.
    rule : str
        What each value must be, in the words of the error message; "" for no rule.

    Examples
    --------
    >>> Column("score", "float64", False, "", "A score of your own.", "finite").required
    False
    """

    name: str
    dtype: Dtype
    required: bool
    unit: str
    meaning: str
    rule: str


_CLICK_LIKE = "Predicted probability of this behaviour, as the ranker saw it."

COLUMNS: tuple[Column, ...] = (
    Column("impression_id", "key", True, "", "One scored pair of request and room.", "unique"),
    Column("timestamp", "timestamp", True, "UTC", "When it was scored or shown.", WINDOW_RULE),
    Column("room_id", "key", True, "", "The live room (or item) that was scored.", ""),
    Column("policy_id", "key", True, "", "The policy that chose.", ""),
    Column(
        "propensity",
        "float64",
        True,
        "probability",
        "P(item at its position | the items above); of position 1 for a candidate not shown. "
        "Null: unknown.",
        "in (0, 1]",
    ),
    Column("request_id", "key", False, "", "The request: rows of one list share it.", ""),
    Column("viewer_id", "key", False, "", "The viewer.", ""),
    Column("author_id", "key", False, "", "The author (streamer) of the room.", ""),
    Column("position", "int64", False, "1-based", "Place in the list; null if not shown.", ">= 1"),
    Column("n_candidates", "int64", False, "rooms", "Candidates the policy chose from.", ">= 1"),
    Column("stage", "key", False, "", "Stage of the cascade that the row reached.", ""),
    Column("scene", "key", False, "", "Page or entrance where it was shown.", ""),
    Column("exit_timestamp", "timestamp", False, "UTC", "When the viewer left.", ">= timestamp"),
    Column("coarse_score", "float64", False, "", "Score of the coarse ranker.", "finite"),
    Column("p_click", "float64", False, "probability", _CLICK_LIKE, "in [0, 1]"),
    Column("p_long_view", "float64", False, "probability", _CLICK_LIKE, "in [0, 1]"),
    Column("p_follow", "float64", False, "probability", _CLICK_LIKE, "in [0, 1]"),
    Column("p_gift", "float64", False, "probability", _CLICK_LIKE, "in [0, 1]"),
    Column("p_like", "float64", False, "probability", _CLICK_LIKE, "in [0, 1]"),
    Column("p_comment", "float64", False, "probability", _CLICK_LIKE, "in [0, 1]"),
    Column("e_watch_s", "float64", False, "s", "Predicted watch time.", "finite and >= 0"),
    Column("ranking_score", "float64", False, "", "The score that ordered the list.", "finite"),
    Column("rank_base", "float64", False, "", "Score or rank before the strategy.", "finite"),
    Column("explore_mode", "string", False, "", "How the list was drawn.", ""),
    Column("temperature", "float64", False, "", "Of the softmax that drew.", "finite and > 0"),
    Column("seed", "int64", False, "", "Of the draw.", ""),
    Column("model_version", "key", False, "", "The model that scored.", ""),
    Column(
        "model_trained_until",
        "timestamp",
        False,
        "UTC",
        "Newest label the model had seen: later than the impression is look-ahead.",
        "<= timestamp",
    ),
    Column(
        "log_propensity", "float64", False, "log", "Of the whole list, in f64.", "finite and <= 0"
    ),
    Column(
        "propensity_sequence", "float64", False, "probability", "Of the list so far.", "in (0, 1]"
    ),
    Column(
        "propensity_position",
        "float64",
        False,
        "probability",
        "Marginal P(item at this position).",
        "in [0, 1]",
    ),
    Column("viewer_arm", "key", False, "", "Arm of the viewer.", ""),
    Column("author_arm", "key", False, "", "Arm of the author.", ""),
    Column("slice_arm", "key", False, "", "Arm of the time slice.", ""),
    Column("cluster_id", "key", False, "", "Cluster of the design.", ""),
    Column("experiment_id", "key", False, "", "The experiment.", ""),
    Column("n_live_rooms", "int64", False, "rooms", "Rooms live at that time.", ">= 0"),
    Column(
        "room_online_before",
        "float64",
        False,
        "viewers",
        "Audience of the room just before.",
        "finite and >= 0",
    ),
    Column("code_now", "int64", False, "", "Content code of the room now; -1: none.", ">= -1"),
    Column("code_foreseen", "int64", False, "", "Content code foreseen; -1: none.", ">= -1"),
)
"""The table of treatments. Columns that are not named here pass through unchanged."""

OUTCOME_COLUMNS: tuple[Column, ...] = (
    Column("impression_id", "key", True, "", "The impression that it belongs to.", ""),
    Column("outcome", "string", True, "", "Its name: click, watch_s, gift, ...", ""),
    Column("value", "float64", True, "", "Its value; null where censored.", "finite"),
    Column("reported_at", "timestamp", True, "UTC", "When the log learned of it.", WINDOW_RULE),
    Column(
        "censored",
        "bool",
        True,
        "",
        "True: at reported_at this outcome was still open, its value is not known.",
        "",
    ),
    Column("timestamp", "timestamp", False, "UTC", "Of the behaviour itself.", "<= reported_at"),
)
"""The long table of outcomes: late ones are appended. Other columns pass through unchanged."""


def schema_table(columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Show the schema as a table, for documentation and notebooks.

    Parameters
    ----------
    columns : sequence of Column
        `COLUMNS` (default) or `OUTCOME_COLUMNS`.

    Returns
    -------
    pandas.DataFrame
        One row a column: name, dtype, required, unit, meaning, rule.

    Examples
    --------
    >>> schema_table().loc[schema_table().required, "name"].tolist()
    ['impression_id', 'timestamp', 'room_id', 'policy_id', 'propensity']
    """
    import pandas as pd  # noqa: PLC0415 — loaded only when used

    return pd.DataFrame(list(columns))


class Example(NamedTuple):
    """An offender: its row (counted from 0 in table order; None: a group of rows), its value."""

    row: int | None
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule that a log breaks.

    Parameters
    ----------
    column : str
        The column; `outcomes.` before it for a column of the outcome table.
    rule : str
        What it must be, in words that read after "must be".
    severity : {"error", "warning"}
        An error stops an analysis, a warning goes into the report.
    n_rows : int
        Rows that break it; 0 for a problem of the table as a whole.
    examples : tuple of Example
        The first five offenders.

    Examples
    --------
    >>> Problem("propensity", "in (0, 1]", "error", 1, (Example(17, 1.3),)).message
    'propensity must be in (0, 1]; 1 row is not, e.g. row 17 (1.3)'
    """

    column: str
    rule: str
    severity: Severity
    n_rows: int
    examples: tuple[Example, ...]

    @property
    def message(self) -> str:
        """The problem as a sentence: what was required, how many rows differ, the first five."""
        text = f"{self.column} must be {self.rule}"
        if not self.n_rows:
            return text
        text += f"; {self.n_rows:,} row{' is' if self.n_rows == 1 else 's are'} not"
        values = ", ".join(repr(example.value) for example in self.examples)
        rows = [f"{example.row}" for example in self.examples if example.row is not None]
        if not rows:
            return f"{text}, e.g. {values}" if values else text
        text += f", e.g. row{'s' if len(rows) > 1 else ''} {', '.join(rows)}"
        known = any(example.value is not None for example in self.examples)
        return f"{text} ({values})" if known else text


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What `ScoredTreatments.check` found.

    Parameters
    ----------
    problems : tuple of Problem
        Of the schema first, then of rows in the order of the columns, of requests, of outcomes.

    Examples
    --------
    >>> LogCheck(()).ok
    True
    """

    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem is an error; warnings may remain."""
        return not any(problem.severity == "error" for problem in self.problems)

    def to_frame(self) -> pd.DataFrame:
        """One row a problem: column, rule, severity, n_rows, message."""
        import pandas as pd  # noqa: PLC0415 — loaded only when used

        names = ["column", "rule", "severity", "n_rows", "message"]
        return pd.DataFrame(
            [[getattr(problem, name) for name in names] for problem in self.problems],
            columns=names,
        )
