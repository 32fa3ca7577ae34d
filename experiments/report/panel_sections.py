"""Sections on a panel: who is treated when, effects by stratum, several estimators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.report.panel_words import (
    axis_scale,
    cohort_text,
    effect_in_words,
    estimate_columns,
    headline_of,
    move_column,
    relative_limits,
    time_places,
    total_in_words,
)
from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    TableColumn,
    count_column,
    frame_of,
    p_column,
    percent_column,
    share_change_column,
    text_column,
)
from experiments.report.svg_charts import Guide, Row, Series, line_chart, row_chart
from experiments.report.wording import (
    change_text,
    counted,
    digits,
    level_in_percent,
    level_text,
    p_equation,
    percent,
)
from experiments.study.study_result import effect_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal import Effect, PanelDesign, StratifiedDid
    from causal.effect_result import EffectResult
    from experiments.report.svg_marks import Picture

_MOST_LINES = 8  # cohorts in a drawing
_MOST_STRATA = 24
_NAMES = {(False, True): "treated, named by start", (True, False): "never treated"}


def effect_section(
    headline: Effect | EffectResult,
    *,
    level: float = 0.95,
    unit: str = "",
    total: Effect | None = None,
    assumes: str = "",
) -> ReportSection:
    """The answer's number: absolute, relative, in total, with what it assumes.

    Parameters
    ----------
    headline : Effect, or a result with one
    level : float
    unit : str
        Of the outcome.
    total : Effect, optional
        Over treated units and periods; ``details["treated_cells"]`` counts them.
    assumes : str
        In words, without a full stop.

    Returns
    -------
    ReportSection
    """
    effect = headline_of(headline)
    details = effect.details
    low, high = headline.conf_int(level)
    row = {
        **effect_record(effect, level),
        "low": low,
        "high": high,
        "p_value": headline.p_value,
        "total": None if total is None else total.estimate,
        "total_std_error": None if total is None else total.std_error,
    }
    if row["relative"] is not None:
        row["relative_low"], row["relative_high"] = relative_limits(headline, level)
    clusters = f" in {effect.n_clusters:,} clusters" if effect.n_clusters else ""
    sentences = [
        f"{effect_in_words(headline, level, unit)}; {effect.method}, "
        f"{counted(effect.n_obs, 'row')}{clusters}.",
    ]
    if total is not None:
        sentences.append(total_in_words(total, headline, level, unit) + ".")
    if details.get("weights"):
        sentences.append(f"How it is averaged: {details['weights']}.")
    if details.get("covariance"):
        sentences.append(f"Errors: {details['covariance']}.")
    if assumes:
        sentences.append(f"It assumes that {assumes}.")
    columns = (
        text_column("method", "Method"),
        *estimate_columns(unit),
        p_column("p_value", "p"),
        share_change_column("relative", "Relative"),
        move_column("total", "In total", unit),
    )
    table = SectionTable(
        name="effect", caption="The effect", frame=frame_of([row]), columns=columns
    )
    return ReportSection(
        key="effect",
        title="The effect",
        sentences=tuple(s[:1].upper() + s[1:] for s in sentences),
        tables=(table,),
    )


def design_section(design: PanelDesign, *, unit: str = "") -> ReportSection:
    """Who is treated when, how complete the panel is, and mean paths by cohort.

    Parameters
    ----------
    design : PanelDesign
    unit : str
        Of the outcome.

    Returns
    -------
    ReportSection
    """
    treated = design.cohorts["cohort"].notna()
    n = int(design.cohorts.loc[treated, "n_units"].sum())
    several = int(treated.sum())
    sentences = [
        f"{counted(design.n_units, 'unit')} in {counted(design.n_periods, 'period')}, "
        f"{counted(design.n_obs, 'row')} ({percent(design.balance)} of all cells); "
        f"{counted(n, 'unit')} {'is' if n == 1 else 'are'} treated, in "
        f"{counted(several, 'cohort')}.",
    ]
    if design.exposure_share is not None:
        sentences.append(
            f"{percent(design.exposure_share)} of the controls are exposed to treatment."
        )
    sentences += [f"{text[:1].upper()}{text[1:]}." for text in design.warnings]
    return ReportSection(
        key="design",
        title="Who was treated when",
        sentences=tuple(sentences),
        tables=_design_tables(design, unit),
        drawings=(_trajectories(design, unit),),
    )


def _design_tables(design: PanelDesign, unit: str) -> tuple[SectionTable, ...]:
    """Cohorts, what the panel supports, and mean paths."""
    cohorts = design.cohorts.assign(cohort=[cohort_text(c) for c in design.cohorts["cohort"]])
    methods = design.methods.assign(
        usable=["yes" if usable else "no" for usable in design.methods["usable"]]
    )
    paths = design.balance_by_cohort
    paths = paths.assign(cohort=[cohort_text(c) for c in paths["cohort"]])
    return (
        SectionTable(
            name="cohorts",
            caption="Units by first treated time",
            frame=cohorts,
            columns=(
                text_column("cohort", "First treated"),
                count_column("n_units", "Units"),
                percent_column("share", "Share"),
            ),
        ),
        SectionTable(
            name="methods",
            caption="What the panel supports",
            frame=methods,
            columns=(
                text_column("method", "Method"),
                text_column("usable", "Usable"),
                text_column("why_not", "Why not"),
            ),
            folded=True,
        ),
        SectionTable(
            name="paths",
            caption="Mean outcome and share of units with a row",
            frame=paths,
            columns=(
                text_column("cohort", "First treated"),
                text_column("time", "Time"),
                TableColumn("mean", "Mean", lambda x: level_text(x, unit)),
                percent_column("share", "Share seen"),
            ),
            folded=True,
        ),
    )


def _trajectories(design: PanelDesign, unit: str) -> Picture:
    """Mean outcomes of the largest cohorts, with their starts; controls dashed."""
    cohorts = design.cohorts.sort_values("n_units", ascending=False, kind="stable")["cohort"]
    shown = [c for c in cohorts.tolist() if c is not None][:_MOST_LINES]
    seen = design.balance_by_cohort
    times = list(dict.fromkeys(seen["time"]))
    at, ticks = time_places(times)
    lines: list[Series] = []
    for cohort in [*sorted(shown, key=times.index), *([None] if cohorts.isna().any() else [])]:
        mine = seen["cohort"].isna() if cohort is None else seen["cohort"] == cohort
        path = seen[mine]
        first = cohort is not None and not lines
        lines.append(
            Series(
                label="treated, named by start"
                if first
                else "never treated"
                if cohort is None
                else "",
                names=[*[""] * (len(path) - 1), "" if cohort is None else str(cohort)],
                x=[at[t] for t in path["time"]],
                y=[math.nan if v is None else float(v) for v in path["mean"]],
                style="second" if cohort is None else "first",
                marked=False,
            )
        )
    more = "" if len(shown) >= int(cohorts.notna().sum()) else f"; the {len(shown)} largest cohorts"
    measured = f" in {unit}" if unit else ""
    return line_chart(
        lines,
        title="Mean outcome by cohort",
        description="; ".join(
            f"{s.names[-1] or s.label}: {digits(s.y[0])} to {digits(s.y[-1])}" for s in lines
        ),
        caption=f"mean outcome{measured} by time; lines: starts of treatment{more}",
        x_ticks=ticks,
        up=[Guide(at[c]) for c in shown],
        scale=axis_scale(unit),
        from_zero=False,
    )


def strata_section(
    found: StratifiedDid, *, level: float = 0.95, unit: str = "", stratum: str = "stratum"
) -> ReportSection:
    """Effects by stratum with their weights, joined and pooled.

    Parameters
    ----------
    found : StratifiedDid
    level : float
    unit : str
        Of the outcome.
    stratum : str
        What strata are called.

    Returns
    -------
    ReportSection
    """
    frame = found.to_frame(level)
    frame = frame.assign(stratum=[str(label) for label in frame["stratum"]])
    joined = [
        {"stratum": name, "weight": None, **_numbers(effect, level)}
        for name, effect in (("stratified", found.effect), ("pooled", found.pooled))
    ]
    rows: list[dict[str, Any]] = [*frame.to_dict("records"), *joined]  # type: ignore[list-item]
    q, gap, one = found.heterogeneity, found.pooling_gap, ""
    if q is not None:
        one = f"One effect in all of them: Q = {digits(q.statistic)} on {q.df} df, "
        one += f"{p_equation(q.p_value)}. "
    sentences = (
        f"Weighted over {stratum}: {effect_in_words(found.effect, level, unit)}; weights: "
        f"{found.effect.details['weights']}.",
        f"{one}The pooled regression differs by {change_text(gap.estimate, unit)} "
        f"({p_equation(gap.p_value)}).",
    )
    table = SectionTable(
        name="strata",
        caption=found.effect.method,
        frame=pd.DataFrame(rows)[["stratum", "weight", "estimate", "std_error", "low", "high"]],
        columns=(
            text_column("stratum", stratum),
            percent_column("weight", "Weight"),
            *estimate_columns(unit),
        ),
    )
    return ReportSection(
        key="strata",
        title=f"By {stratum}",
        sentences=sentences,
        tables=(table,),
        drawings=(_forest(rows, level, unit, stratum),),
    )


def _forest(rows: Sequence[dict[str, Any]], level: float, unit: str, stratum: str) -> Picture:
    """Strata with their intervals, and the two ways to join them in the last rows."""
    shown = rows if len(rows) <= _MOST_STRATA + 2 else [*rows[:_MOST_STRATA], *rows[-2:]]
    return row_chart(
        [
            Row(
                label=str(r["stratum"])
                + (f", weight {percent(r['weight'])}" if r["weight"] else ""),
                text=change_text(r["estimate"], unit),
                middle=r["estimate"],
                low=r["low"],
                high=r["high"],
                filled=not r["low"] <= 0 <= r["high"],
            )
            for r in shown
        ],
        title=f"Effects by {stratum}",
        description="; ".join(f"{r['stratum']}: {digits(r['estimate'])}" for r in shown),
        caption=f"effect by {stratum} with {level_in_percent(level)} CI; stratified: weighted "
        "mean; pooled: one regression without strata; filled: 0 lies outside",
        line=0.0,
        scale=axis_scale(unit),
    )


def robustness_section(
    frame: pd.DataFrame, *, level: float = 0.95, unit: str = "", notes: Sequence[str] = ()
) -> ReportSection:
    """The same question by several estimators.

    Parameters
    ----------
    frame : DataFrame
        From `robustness_table`; the headline in the first row.
    level : float
    unit : str
        Of the outcome.
    notes : sequence of str
        Which estimators could not answer and why, what others warned of.

    Returns
    -------
    ReportSection
    """
    first, others = frame.iloc[0], frame.iloc[1:]
    agree = (others["low"] <= first["estimate"]) & (first["estimate"] <= others["high"])
    n = len(others)
    said = (
        f"The headline's estimate lies within the interval of {int(agree.sum())} of "
        f"{counted(n, 'other estimator')}. They read the same rows and weigh effects differently: "
        "this is no test."
        if n
        else "No other estimator was asked."
    )
    picture = row_chart(
        [
            Row(
                label=row["estimator"],
                text=change_text(row["estimate"], unit),
                middle=row["estimate"],
                low=row["low"],
                high=row["high"],
                filled=not row["low"] <= 0 <= row["high"],
            )
            for row in frame.to_dict("records")
        ],
        title="By estimator",
        description="; ".join(
            f"{row['estimator']}: {digits(row['estimate'])}" for row in frame.to_dict("records")
        ),
        caption=f"effect with {level_in_percent(level)} interval; filled: 0 lies outside",
        line=0.0,
        scale=axis_scale(unit),
    )
    table = SectionTable(
        name="robustness",
        caption="Each estimator on the same rows",
        frame=frame,
        columns=(
            text_column("estimator", "Estimator"),
            *estimate_columns(unit),
            p_column("p_value", "p"),
            count_column("n_obs", "Rows"),
            text_column("method", "Method"),
        ),
    )
    return ReportSection(
        key="robustness",
        title="Other estimators",
        sentences=(said, *notes),
        tables=(table,),
        drawings=(picture,),
    )


def _numbers(effect: Effect, level: float) -> dict[str, float]:
    """Estimate, error and limits."""
    low, high = effect.conf_int(level)
    return {"estimate": effect.estimate, "std_error": effect.std_error, "low": low, "high": high}
