"""Sections on who was treated: both sides at once, shares of viewers, and what authors got."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.distributions import critical_value
from experiments.report.report_sections import (
    ESTIMATE_COLUMNS,
    ReportSection,
    SectionTable,
    TableColumn,
    change_column,
    count_column,
    frame_of,
    number_column,
    p_column,
    text_column,
)
from experiments.report.svg_charts import Row, Series, line_chart, row_chart
from experiments.report.wording import (
    change_text,
    counted,
    digits,
    interval_text,
    level_in_percent,
    p_equation,
    whole_percent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from experiments.pairs.dual_sided import DualSidedEffect
    from experiments.pairs.saturation_response import ShareResponse
    from experiments.report.svg_marks import Picture

_STEPS = ("viewer_spillover", "author_spillover", "direct")
_WORDS = {
    "viewer_spillover": "viewer spillover",
    "author_spillover": "author spillover",
    "direct": "direct effect",
    "total": "total effect",
}
_AUTHORS = {
    "effort": "effort at the end",
    "live_minutes": "minutes live",
    "watch_minutes": "watch minutes received (income follows them)",
}


def dual_sided_section(read: DualSidedEffect) -> ReportSection:
    """The four cells of viewer and author arm, and the way from neither to both.

    Parameters
    ----------
    read : DualSidedEffect

    Returns
    -------
    ReportSection
    """
    effects = read.to_frame().assign(effect=lambda d: d["effect"].map(_WORDS))
    level = level_in_percent(read.level)
    total = read.total
    low, high = total.conf_int(read.level)
    sentences = [
        f"Both sides treated minus neither: {change_text(total.estimate)} ({level} CI "
        f"{interval_text(low, high)}, {p_equation(total.p_value)}), the sum of the three steps.",
        "The total is that of a launch for all only if interference is local and saturates: where "
        "rooms compete for viewers' time it counts what was merely taken from other rooms.",
    ]
    if read.entanglement is not None:
        sentences.append(
            f"{whole_percent(read.entanglement)} of the outcome is in mixed-arm battles."
        )
    return ReportSection(
        key="both_sides",
        title="Both sides at once",
        sentences=tuple(sentences),
        tables=(
            _cells_table(read.cells),
            SectionTable(
                name="effects",
                caption=f"Effects between the cells, with {level} CI; {total.method}",
                frame=effects,
                columns=(
                    text_column("effect", "Effect"),
                    *ESTIMATE_COLUMNS,
                    p_column("p_value", "p"),
                ),
            ),
        ),
        drawings=(
            row_chart(
                list(_waterfall(read)),
                title="From neither to both",
                description="; ".join(
                    f"{row['effect']}: {change_text(row['estimate'])}"
                    for row in effects.to_dict("records")
                ),
                caption=f"each bar starts where the one above ends; whiskers: {level} CI of the "
                "step",
                line=0.0,
            ),
        ),
    )


def share_section(read: ShareResponse) -> ReportSection:
    """What treated and control viewers do as more viewers are treated, drawn out to all and none.

    Parameters
    ----------
    read : ShareResponse

    Returns
    -------
    ReportSection
    """
    tried = read.lines.loc[read.lines["n_cells"] > 0, "share"]
    low, high = read.conf_int()
    sentences = [
        f"Everybody treated minus nobody: {change_text(read.estimate)} (95\N{NO-BREAK SPACE}% CI "
        f"{interval_text(low, high)}, {p_equation(read.p_value)}).",
        f"Shares from {level_in_percent(tried.min())} to {level_in_percent(tried.max())} were "
        "tried: hollow marks are drawn out beyond them, and rest on the shape of the lines.",
    ]
    effects = read.to_frame()
    return ReportSection(
        key="shares",
        title="Response to the treated share",
        sentences=tuple(sentences),
        tables=(
            SectionTable(
                name="lines",
                caption=f"Means by arm and share; {read.total.method}",
                frame=read.lines.assign(
                    arm_name=["treated" if a == 1 else "control" for a in read.lines["arm"]]
                ),
                columns=(
                    text_column("arm_name", "Viewers"),
                    TableColumn("share", "Share treated", level_in_percent),
                    number_column("mean", "Mean"),
                    number_column("fitted", "Fitted"),
                    count_column("n_cells", "Cells"),
                ),
            ),
            SectionTable(
                name="effects",
                caption="Effects, with 95\N{NO-BREAK SPACE}% CI",
                frame=effects,
                columns=(
                    text_column("effect", "Effect"),
                    TableColumn("share", "Share treated", level_in_percent),
                    *ESTIMATE_COLUMNS,
                ),
                folded=True,
            ),
        ),
        drawings=(_response(read.lines),),
    )


def author_section(
    authors: pd.DataFrame, *, truth: pd.DataFrame | None = None, level: float = 0.95
) -> ReportSection:
    """What treated and control authors put in and got: effort, minutes live, income.

    Parameters
    ----------
    authors : DataFrame
        One row an author: author_arm and any of effort, live_minutes, watch_minutes, as in
        ``FlowPaths.author_table()``.
    truth : DataFrame, optional
        One row a quantity and column ``none`` and ``all``: means when nobody and when everybody is
        treated.
    level : float
        Of the intervals.

    Returns
    -------
    ReportSection

    Raises
    ------
    ValueError
        If no quantity is there, or an arm has fewer than two authors.
    """
    names = [name for name in _AUTHORS if name in authors.columns]
    if not names:
        raise ValueError(f"authors must have one of the columns {list(_AUTHORS)}")
    rows = [_author_row(authors, name, truth, level) for name in names]
    spread = [row for row in rows if row["sd"] > 0]
    drawings = [_author_rows(spread, level, with_truth=truth is not None)] if spread else []
    known = (
        [number_column("none", "Nobody treated"), number_column("all", "Everybody treated")]
        if truth is not None
        else []
    )
    return ReportSection(
        key="authors",
        title="The authors' side",
        sentences=(
            f"{counted(len(authors), 'author')}, {int((authors['author_arm'] == 1).sum())} of them "
            "treated. Income follows the watch minutes that an author receives. What treated "
            "authors gain over control authors is in part taken from these: compare it with "
            "everybody treated minus nobody, where that is known.",
        ),
        tables=(
            SectionTable(
                name="authors",
                caption=f"Means over authors, with {level_in_percent(level)} CI of the difference",
                frame=frame_of(rows),
                columns=(
                    text_column("quantity", "Quantity"),
                    number_column("control", "Control"),
                    number_column("treated", "Treated"),
                    change_column("difference", "Difference"),
                    number_column("low", "Low"),
                    number_column("high", "High"),
                    *known,
                ),
            ),
        ),
        drawings=tuple(drawings),
    )


# --- parts ----------------------------------------------------------------------------------------


def _waterfall(read: DualSidedEffect) -> Iterator[Row]:
    """Steps from neither to both."""
    at = 0.0
    for name in _STEPS:
        effect = getattr(read, name)
        low, high = effect.conf_int(read.level)
        yield Row(
            label=_WORDS[name],
            text=change_text(effect.estimate),
            middle=at + effect.estimate,
            low=at + low,
            high=at + high,
            bar_from=at,
            filled=False,
        )
        at += effect.estimate
    low, high = read.total.conf_int(read.level)
    yield Row(
        label=_WORDS["total"],
        text=change_text(read.total.estimate),
        middle=read.total.estimate,
        low=low,
        high=high,
        bar_from=0.0,
    )


def _cells_table(cells: pd.DataFrame) -> SectionTable:
    """Means by who of a pair is treated."""
    names = {(1, 1): "both", (1, 0): "viewer only", (0, 1): "author only", (0, 0): "neither"}
    arms = zip(cells["viewer_arm"].tolist(), cells["author_arm"].tolist(), strict=True)
    return SectionTable(
        name="cells",
        caption="Means by arm of viewer and author",
        frame=cells.assign(cell=[names[pair] for pair in arms]),
        columns=(
            text_column("cell", "Treated"),
            number_column("mean", "Mean"),
            number_column("std_error", "Std. error"),
            count_column("n_pairs", "Pairs"),
        ),
    )


def _response(lines: pd.DataFrame) -> Picture:
    """Both arms over the share."""
    return line_chart(
        list(_arms(lines)),
        title="Response to the treated share",
        description="; ".join(
            f"arm {int(row['arm'])} at {row['share']:g}: {digits(row['fitted'])}"
            for row in lines.to_dict("records")
        ),
        caption="mean outcome by treated share in %, fitted; hollow: not tried",
        x_ticks=[(s, level_in_percent(s)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)],
        from_zero=False,
    )


def _arms(lines: pd.DataFrame) -> Iterator[Series]:
    """Fitted lines of both arms; what was not tried is hollow."""
    for arm, label in ((1, "treated viewers"), (0, "control viewers")):
        mine = lines[lines["arm"] == arm].sort_values("share")
        yield Series(
            label=label,
            x=mine["share"].tolist(),
            y=mine["fitted"].tolist(),
            style="first" if arm == 1 else "second",
            filled=(mine["n_cells"] > 0).tolist(),
        )


def _author_row(
    authors: pd.DataFrame, name: str, truth: pd.DataFrame | None, level: float
) -> dict[str, Any]:
    """Means by arm and their difference, with Welch's interval."""
    arm = authors["author_arm"].to_numpy()
    values = authors[name].to_numpy(dtype=np.float64)
    control, treated = values[arm == 0], values[arm == 1]
    if min(len(control), len(treated)) < 2:
        raise ValueError(
            "two authors an arm are needed; column 'author_arm' has "
            f"{len(control)} control and {len(treated)} treated ones"
        )
    parts = [float(v.var(ddof=1)) / len(v) for v in (control, treated)]
    error = math.sqrt(sum(parts))
    free = [part**2 / (len(v) - 1) for part, v in zip(parts, (control, treated), strict=True)]
    reach = critical_value(level, sum(parts) ** 2 / sum(free)) * error if error else 0.0
    difference = float(treated.mean() - control.mean())
    known = (
        {}
        if truth is None
        else {end: float(truth.set_index("quantity").loc[name, end]) for end in ("none", "all")}  # type: ignore[arg-type]
    )
    return {
        "quantity": _AUTHORS[name],
        "control": float(control.mean()),
        "treated": float(treated.mean()),
        "difference": difference,
        "std_error": error,
        "low": difference - reach,
        "high": difference + reach,
        "sd": float(control.std(ddof=1)),
        **known,
    }


def _author_rows(rows: Sequence[dict[str, Any]], level: float, *, with_truth: bool) -> Picture:
    """Differences in standard deviations of control authors, so that they share an axis."""
    drawn = [
        Row(
            label=row["quantity"],
            text=change_text(row["difference"]),
            middle=row["difference"] / row["sd"],
            low=row["low"] / row["sd"],
            high=row["high"] / row["sd"],
            target=(row["all"] - row["none"]) / row["sd"] if with_truth else None,
            filled=not row["low"] <= 0 <= row["high"],
        )
        for row in rows
    ]
    beside = "; diamond: everybody treated minus nobody" if with_truth else ""
    return row_chart(
        drawn,
        title="Authors: treated minus control",
        description="; ".join(f"{row['quantity']}: {digits(row['difference'])}" for row in rows),
        caption="treated minus control authors, in standard deviations of control authors, with "
        f"{level_in_percent(level)} CI{beside}",
        line=0.0,
    )
