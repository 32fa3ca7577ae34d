"""Sections on a synthetic control: paths, weights, balance, placebos, donors left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from experiments.report.panel_words import (
    amount_column,
    axis_scale,
    move_column,
    time_places,
)
from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    TableColumn,
    count_column,
    number_column,
    percent_column,
    text_column,
)
from experiments.report.svg_charts import Guide, Row, Series, line_chart, row_chart
from experiments.report.wording import (
    change_text,
    counted,
    digits,
    level_in_percent,
    level_text,
    listed,
    p_equation,
    percent,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal import FactorEffects, SyntheticControl, SyntheticDiffInDiff
    from experiments.report.svg_marks import Picture

_MOST_PLACEBOS = 40
_MOST_ROWS = 24
_POOR_FIT = 0.25


class _Beside(NamedTuple):
    """The path beside that of the treated: its column, its label, and what it is."""

    column: str
    label: str
    words: str


_CONTROL = _Beside("synthetic", "synthetic", "of their synthetic control")
_DONORS = _Beside("synthetic", "weighted donors", "of their weighted donors")
_FACTORS = _Beside(
    "untreated", "fitted without treatment", "what the factor model gives them without treatment"
)


def synthetic_sections(
    found: SyntheticControl, *, level: float | None = None, unit: str = ""
) -> tuple[ReportSection, ...]:
    """What the treated did beside their synthetic control, and whether donors do so by chance.

    Parameters
    ----------
    found : SyntheticControl
    level : float, optional
        Of the intervals of the gap by time; the result's own by default.
    unit : str
        Of the outcome.

    Returns
    -------
    tuple of ReportSection
        Paths, gaps among placebos, weights with balance, donors left out.
    """
    level = found.level if level is None else level
    rest = () if found.leave_one_out.empty else (_left_out(found, unit),)
    return (_paths(found, unit), _placebos(found, level, unit), _weights(found), *rest)


def weighted_section(found: SyntheticDiffInDiff, *, unit: str = "") -> ReportSection:
    """Treated and synthetic means of a synthetic difference-in-differences, and its donors.

    Parameters
    ----------
    found : SyntheticDiffInDiff
    unit : str
        Of the outcome.

    Returns
    -------
    ReportSection
    """
    several = len(found.cohorts) > 1
    by = "event_time" if several else "time"
    weights = found.unit_weights.merge(
        found.cohorts[["cohort", "weight"]], on="cohort", suffixes=("", "_of_cohort")
    )
    shares = (weights["weight"] * weights["weight_of_cohort"]).groupby(weights["unit"]).sum()
    shares = shares.sort_values(ascending=False)
    start = 0 if several else found.cohorts["cohort"].iloc[0]
    path = _mean_path(found.path.merge(found.cohorts[["cohort", "n_units"]], on="cohort"), by)
    picture = _two_paths(path, by, start, unit, _DONORS)
    frame = pd.DataFrame({"unit": [str(u) for u in shares.index], "weight": shares.to_numpy()})
    return ReportSection(
        key="paths",
        title="Treated and weighted donors",
        sentences=(
            f"{counted(len(frame), 'donor')} of {found.effect.details['n_donors']} have weight; "
            f"{counted(int(found.time_weights['time'].nunique()), 'earlier period')} have.",
        ),
        tables=(_path_table(path, by, unit, _DONORS), _weight_table(frame)),
        drawings=(picture,),
    )


def factor_section(found: FactorEffects, *, unit: str = "") -> ReportSection:
    """Treated means beside those that the factor model gives them without treatment.

    Parameters
    ----------
    found : FactorEffects
    unit : str
        Of the outcome.

    Returns
    -------
    ReportSection
    """
    missed = f"It misses the cells it was fitted to by {level_text(found.rmse, unit)}"
    if found.cv_rmse is not None:
        missed += f", and cells that were hidden from it by {level_text(found.cv_rmse, unit)}"
    return ReportSection(
        key="paths",
        title="Treated and fitted without treatment",
        sentences=(
            f"Unit and period effects and a table of rank {found.rank}, fitted to untreated cells "
            f"(penalty {digits(found.penalty)}).",
            f"{missed} (root mean square).",
        ),
        tables=(_path_table(found.path, "event_time", unit, _FACTORS),),
        drawings=(_two_paths(found.path, "event_time", 0, unit, _FACTORS),),
    )


# --- parts ----------------------------------------------------------------------------------------


def _paths(found: SyntheticControl, unit: str) -> ReportSection:
    """Observed and synthetic path, and how well they fit before the start."""
    poor = found.fit_quality > _POOR_FIT
    n = found.effect.details
    sentences = (
        f"{counted(len(found.treated), 'treated unit')}, {n['n_donors']} donors, "
        f"{n['n_before']} periods before the start and {n['n_after']} after it.",
        f"Before the start the paths differ by {level_text(found.pre_rmspe, unit)} (root mean "
        f"square), {percent(found.fit_quality)} of what the treated path itself moved: "
        + ("a poor fit, read the gap with care." if poor else "a usable fit."),
    )
    return ReportSection(
        key="paths",
        title="Observed and synthetic path",
        sentences=sentences,
        tables=(_path_table(found.path, "time", unit, _CONTROL),),
        drawings=(_two_paths(found.path, "time", found.start, unit, _CONTROL),),
    )


def _path_table(path: pd.DataFrame, by: str, unit: str, beside: _Beside) -> SectionTable:
    """Observed, what stands beside it and their gap, by time."""
    frame = path[[by, "observed", beside.column]]
    frame = frame.assign(gap=path["observed"] - path[beside.column])
    return SectionTable(
        name="path",
        caption="Means over the treated units",
        frame=frame,
        columns=(
            text_column(by, by.replace("_", " ").capitalize()),
            TableColumn("observed", "Observed", lambda x: level_text(x, unit)),
            TableColumn(beside.column, _capital(beside.label), lambda x: level_text(x, unit)),
            move_column("gap", "Gap", unit),
        ),
        folded=True,
    )


def _mean_path(path: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means over cohorts by time, weighted with their units."""
    total = path.assign(
        observed=path["observed"] * path["n_units"], synthetic=path["synthetic"] * path["n_units"]
    )
    sums = total.groupby(by, sort=by == "event_time")[["observed", "synthetic", "n_units"]].sum()
    return sums[["observed", "synthetic"]].div(sums["n_units"], axis=0).reset_index()


def _two_paths(
    path: pd.DataFrame,
    by: str,
    start: Any,  # noqa: ANN401 — a time
    unit: str,
    beside: _Beside,
) -> Picture:
    """The observed line and the dashed one beside it."""
    at, ticks = time_places(path[by].tolist())
    x = [at[t] for t in path[by]]
    lines = [
        Series(label="treated", x=x, y=path["observed"].tolist(), marked=False),
        Series(
            label=beside.label, x=x, y=path[beside.column].tolist(), style="second", marked=False
        ),
    ]
    last = path.iloc[-1]
    measured = f" in {unit}" if unit else ""
    return line_chart(
        lines,
        title=f"Treated and {beside.label}",
        description=f"from {digits(path['observed'].iloc[0])} to {digits(last['observed'])}; "
        f"{beside.label} {digits(last[beside.column])} at the end",
        caption=f"mean outcome{measured} of the treated, and {beside.words}",
        x_ticks=ticks,
        up=[Guide(at[start], "start")],
        scale=axis_scale(unit),
        from_zero=False,
    )


def _placebos(found: SyntheticControl, level: float, unit: str) -> ReportSection:
    """The gap among those of donors in the place of the treated."""
    times = list(found.gap.index)
    at, ticks = time_places(times)
    x = [at[t] for t in times]
    table = found.placebo
    fits = [j for j in range(len(found.placebo_gaps)) if bool(table["in_std_error"].iloc[j + 1])]
    drawn = fits[:_MOST_PLACEBOS]
    placebos = [
        Series(
            label="donor in its place" if j == drawn[0] else "",
            x=x,
            y=found.placebo_gaps[j].tolist(),
            style="faint",
            marked=False,
        )
        for j in drawn
    ]
    n_left = len(found.placebo_gaps) - len(drawn)
    left = f"; {counted(n_left, 'more placebo')} not drawn" if n_left else ""
    own = Series(label="treated", x=x, y=found.gap.estimate.tolist(), marked=False)
    picture = line_chart(
        [*placebos, own],
        title="Gap among placebos",
        description="; ".join(
            f"{t}: {digits(g)}" for t, g in zip(times, found.gap.estimate, strict=True)
        ),
        caption=f"observed minus synthetic; thin: donors in the place of the treated{left}",
        x_ticks=ticks,
        up=[Guide(at[found.start], "start")],
        across=[Guide(0.0)],
        scale=axis_scale(unit),
    )
    first = table.iloc[0]
    return ReportSection(
        key="placebos",
        title="Is the gap larger than chance?",
        sentences=(
            f"{_capital(str(found.effect.details['p_value']))}: {p_equation(found.p_value)}. The "
            f"treated gap is {digits(float(first['ratio']))} times as large after the start as "
            f"before it, rank {int(first['rank'])} of {len(table)}.",
            f"Standard error: {found.effect.details['std_error']}.",
        ),
        tables=_placebo_tables(found, level, unit),
        drawings=(picture,),
    )


def _placebo_tables(found: SyntheticControl, level: float, unit: str) -> tuple[SectionTable, ...]:
    """Fits of the treated and of placebos, and the gap by time."""
    limits = found.gap.conf_int(level)
    gaps = pd.DataFrame(
        {"time": list(found.gap.index), "gap": found.gap.estimate, "std_error": found.gap.std_error}
    )
    gaps = gaps.assign(low=limits[:, 0], high=limits[:, 1])
    ranks = found.placebo.assign(unit=[str(u) for u in found.placebo["unit"]])
    return (
        SectionTable(
            name="placebos",
            caption="Root mean squared gaps of the treated (first) and of placebos",
            frame=ranks,
            columns=(
                text_column("unit", "Unit"),
                amount_column("pre_rmspe", "Before", unit),
                amount_column("post_rmspe", "After", unit),
                number_column("ratio", "Ratio"),
                count_column("rank", "Rank"),
            ),
            folded=True,
        ),
        SectionTable(
            name="gap",
            caption=f"The gap by time, with {level_in_percent(level)} limits from placebos",
            frame=gaps,
            columns=(
                text_column("time", "Time"),
                move_column("gap", "Gap", unit),
                amount_column("low", "Low", unit),
                amount_column("high", "High", unit),
            ),
            folded=True,
        ),
    )


def _weights(found: SyntheticControl) -> ReportSection:
    """Whose paths make the control, and what it shares with the treated."""
    frame = _weight_frame(found.donor_weights)
    top = frame.head(_MOST_ROWS)
    picture = row_chart(
        [
            Row(label=row["unit"], text=percent(row["weight"]), middle=row["weight"], bar_from=0.0)
            for row in top.to_dict("records")
        ],
        title="Weights of donors",
        description="; ".join(
            f"{r['unit']}: {percent(r['weight'])}" for r in top.to_dict("records")
        ),
        caption="share of each donor in the synthetic control"
        + (f"; the first {_MOST_ROWS} of {len(frame)}" if len(frame) > len(top) else ""),
        scale=100.0,
    )
    names = listed([f"{row['unit']} ({percent(row['weight'])})" for row in top.to_dict("records")])
    unique = "" if found.unique else " Other weights fit as well: they are not unique."
    balance = found.balance.assign(predictor=[str(p) for p in found.balance["predictor"]])
    return ReportSection(
        key="weights",
        title="Who makes the control",
        sentences=(f"{names}.{unique}",),
        tables=(
            _weight_table(frame),
            SectionTable(
                name="balance",
                caption="What was matched before the start",
                frame=balance,
                columns=(
                    text_column("predictor", "Predictor"),
                    number_column("treated", "Treated"),
                    number_column("synthetic", "Synthetic"),
                    number_column("donors_mean", "Mean of donors"),
                ),
                folded=True,
            ),
        ),
        drawings=(picture,),
    )


def _left_out(found: SyntheticControl, unit: str) -> ReportSection:
    """The effect without each donor that has weight."""
    frame = found.leave_one_out.assign(left_out=[str(u) for u in found.leave_one_out["left_out"]])
    low, high = float(frame["estimate"].min()), float(frame["estimate"].max())
    rows = frame.head(_MOST_ROWS).to_dict("records")
    drawn = [
        Row(label="all donors", text=change_text(found.estimate, unit), middle=found.estimate),
        *(
            Row(
                label=f"without {row['left_out']}",
                text=change_text(row["estimate"], unit),
                middle=row["estimate"],
                filled=False,
            )
            for row in rows
        ),
    ]
    return ReportSection(
        key="leave_one_out",
        title="Does it hang on one donor?",
        sentences=(
            f"Without one donor at a time the effect lies between {change_text(low, unit)} and "
            f"{change_text(high, unit)}; with all it is {change_text(found.estimate, unit)}.",
        ),
        tables=(
            SectionTable(
                name="leave_one_out",
                caption="Effect and fit without each donor",
                frame=frame,
                columns=(
                    text_column("left_out", "Left out"),
                    move_column("estimate", "Effect", unit),
                    amount_column("pre_rmspe", "Gap before", unit),
                ),
                folded=True,
            ),
        ),
        drawings=(
            row_chart(
                drawn,
                title="Effect without each donor",
                description="; ".join(
                    f"{row['left_out']}: {digits(row['estimate'])}" for row in rows
                ),
                caption="mean gap after the start; filled: all donors, hollow: one left out",
                line=0.0,
                scale=axis_scale(unit),
            ),
        ),
    )


def _capital(text: str) -> str:
    """A text as a sentence begins."""
    return text[:1].upper() + text[1:]


def _weight_frame(weights: Mapping[Any, float]) -> pd.DataFrame:
    """Donors with weight, the largest first."""
    return pd.DataFrame({"unit": [str(u) for u in weights], "weight": list(weights.values())})


def _weight_table(frame: pd.DataFrame) -> SectionTable:
    """Donors and their weights."""
    return SectionTable(
        name="donor_weights",
        caption="Weights of donors",
        frame=frame,
        columns=(text_column("unit", "Donor"), percent_column("weight", "Weight")),
        folded=True,
    )
