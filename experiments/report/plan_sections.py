"""Sections on a recommendation: what was asked first, the designs, the frontier, the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.designs.rotation import Switchback
from experiments.planning.recommendation import seen_bias
from experiments.report.design_sections import (
    assumptions_section,
    balance_section,
    calendar_section,
)
from experiments.report.power_sections import power_section, timeline_section
from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    TableColumn,
    given_column,
    length_in_words,
    number_column,
    share_column,
    text_column,
)
from experiments.report.rotation_sections import carryover_section
from experiments.report.svg_charts import Mention, Series, line_chart
from experiments.report.wording import counted, digits, listed, signed, whole_percent
from experiments.sizing.power_timeline import mde_timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.planning.recommendation import Recommendation
    from experiments.report.svg_marks import Picture
    from experiments.sizing.rotation_power import PowerCurve

_DAYS = (3, 5, 7, 10, 14, 21, 28)
_FAR = 4.0  # times the best design's rmse: beyond it a design has no room in the drawing


def recommendation_sections(found: Recommendation) -> tuple[ReportSection, ...]:
    """The designs ranked, the frontier between bias and error, and the plan of the best.

    Parameters
    ----------
    found : Recommendation

    Returns
    -------
    tuple of ReportSection
    """
    sections = [_designs(found), frontier_section(found), _screening(found)]
    if found.power_curve is not None:
        sections.append(power_section(found.power_curve))
        sections += _timeline(found, found.power_curve)
    if found.carryover is not None:
        sections.append(carryover_section(found.carryover))
    if found.schedule is not None:
        sections += [calendar_section(found.schedule), balance_section(found.schedule)]
        sections.append(assumptions_section(schedule=found.schedule))
    return tuple(sections)


def plan_answers(found: Recommendation) -> tuple[str, ...]:
    """What to run, how far off it may be, and what the pilot says of carry-over.

    Parameters
    ----------
    found : Recommendation

    Returns
    -------
    tuple of str
        Sentences.
    """
    return tuple(f"{line[:1].upper()}{line[1:]}." for line in found.summary().splitlines())


def frontier_section(found: Recommendation) -> ReportSection:
    """Largest bias against standard error, rotations on a path by the length of their slices.

    Parameters
    ----------
    found : Recommendation

    Returns
    -------
    ReportSection
    """
    table = found.table.assign(
        largest_bias=np.maximum(found.table["bias_low"].abs(), found.table["bias_high"].abs())
    )
    known = table[table["largest_bias"].notna() & table["std_error"].notna()]
    drawn = known[known["rmse"] <= _FAR * found.best["rmse"]]
    far = [str(name) for name in known["design"] if name not in set(drawn["design"])]
    sentences = [
        "Short slices carry over into each other (bias), long ones are few (error); a burn-in buys "
        "less bias with rows that are not read.",
        f"Recommended is {found.best['design']}, ringed.",
    ]
    if far:
        sentences.append(f"Too far off to be drawn: {listed(far)}.")
    return ReportSection(
        key="frontier",
        title="Bias against error",
        sentences=tuple(sentences),
        tables=(
            SectionTable(
                name="frontier",
                caption="Largest bias and standard error, in units of the outcome",
                frame=known[["design", "largest_bias", "std_error", "rmse"]],
                columns=(
                    text_column("design", "Design"),
                    number_column("largest_bias", "Largest bias"),
                    number_column("std_error", "Std. error"),
                    number_column("rmse", "Rmse"),
                ),
                folded=True,
            ),
        ),
        drawings=(_frontier(drawn, found.best),),
    )


# --- parts ----------------------------------------------------------------------------------------


def _designs(found: Recommendation) -> ReportSection:
    """Every design with its figures, best first."""
    table, best = found.table, found.best

    def bias(value: float) -> str:
        """A bias; what is far below the error reads 0."""
        return signed(seen_bias(value, best["std_error"]))

    rejected = int((table["rejected"] != "").sum())
    sentences = [
        f"Best is {best['design']} for {best['days']:g} days: bias {bias(best['bias_low'])} to "
        f"{bias(best['bias_high'])}, standard error {digits(best['std_error'])}, all in units of "
        f"{found.plan['outcome']}.",
        f"{counted(len(table), 'design')} were compared, {rejected} of them may not be run or "
        "cannot be judged; the last column says why.",
    ]
    return ReportSection(
        key="designs",
        title="Which experiment to run",
        sentences=tuple(sentences),
        tables=(
            SectionTable(
                name="designs",
                caption="Designs, best first, in units of the outcome; days of cost with the pilot",
                frame=table,
                columns=(
                    text_column("design", "Design"),
                    TableColumn("bias_low", "Bias, low", bias),
                    TableColumn("bias_high", "Bias, high", bias),
                    number_column("std_error", "Std. error"),
                    number_column("rmse", "Rmse"),
                    number_column("regret", "Regret"),
                    share_column("power", "Power"),
                    given_column("cost_days", "Days"),
                    text_column("rejected", "Not to be run"),
                ),
            ),
        ),
    )


def _timeline(found: Recommendation, curve: PowerCurve) -> list[ReportSection]:
    """Smallest effect by duration on the pilot's cells; nothing where they are too few."""
    design = found.schedule.design if found.schedule is not None else None
    if not isinstance(design, Switchback) or design.coin == "alternating":
        return []
    # Cells are what is read of a slice: their time is that of the first instant after burn-in.
    read_from = curve.cells["start"] + pd.Timedelta(minutes=design.burn_in_minutes)
    try:
        timeline = mde_timeline(
            curve.cells.assign(read_from=read_from),
            outcome="mean",
            time="read_from",
            days=_DAYS,
            design=design,
            unit=None if design.regions is None else "region",
        )
    except ValueError:  # too few slices for a variance: the plan stands without it
        return []
    effect, level = found.plan.get("effect"), float(curve.cells["mean"].mean())
    wish = abs(float(effect) / level) if effect and level else None
    return [timeline_section(timeline, effect=wish)]


def _screening(found: Recommendation) -> ReportSection:
    """What was asked before designs were compared."""
    said = [
        f"{whole_percent(row['mean'])} {row['hours']:g}\N{NO-BREAK SPACE}h after it "
        f"({whole_percent(row['low'])} to {whole_percent(row['high'])})"
        for row in found.to_come.to_dict("records")
    ]
    return ReportSection(
        key="screening",
        title="What was asked first",
        sentences=(
            f"Of the effect of a switch there is still to come: {', '.join(said)}; the ranges hold "
            "80\N{NO-BREAK SPACE}% of the evidence.",
        ),
        tables=(
            SectionTable(
                name="screening",
                caption="Checks, and what a twin of the platform rests on",
                frame=found.screening,
                columns=(
                    text_column("check", "Check"),
                    text_column("result", "Result"),
                    text_column("detail", "Detail"),
                ),
            ),
        ),
    )


def _frontier(drawn: pd.DataFrame, best: pd.Series[Any]) -> Picture:
    """Rotations without burn-in on a path; the others as points; the best with a ring."""
    plain = drawn[drawn["slice_minutes"].notna() & (drawn["burn_in_minutes"] == 0)]
    burnt = drawn[drawn["burn_in_minutes"] > 0]
    others = drawn[drawn["slice_minutes"].isna()]
    return line_chart(
        list(_paths(plain, burnt, others)),
        title="Bias against error",
        description="; ".join(
            f"{row['design']}: bias {digits(row['largest_bias'])}, error {digits(row['std_error'])}"
            for row in drawn.to_dict("records")
        ),
        caption="largest bias (up) against standard error (right), in units of the outcome; lower "
        "left is better; ringed: recommended; near the path: length of a slice",
        mention=Mention(
            float(best["std_error"]),
            float(max(abs(best["bias_low"]), abs(best["bias_high"]))),
            str(best["design"]),
        ),
    )


def _paths(plain: pd.DataFrame, burnt: pd.DataFrame, others: pd.DataFrame) -> Iterator[Series]:
    """The series of the frontier that have points."""
    path = plain.sort_values("slice_minutes")
    for label, part, names in (
        ("rotation", path, [length_in_words(m) for m in path["slice_minutes"]]),
        ("with burn-in", burnt, []),
        ("another design", others, others["design"].tolist()),
    ):
        if part.empty:
            continue
        yield Series(
            label=label,
            x=part["std_error"].tolist(),
            y=part["largest_bias"].tolist(),
            style="first" if part is path else "second",
            filled=False,
            linked=part is path,
            names=names,
        )
