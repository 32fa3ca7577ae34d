"""Sections on designs that were simulated: each beside the truth, its bias, and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    TableColumn,
    change_column,
    count_column,
    given_column,
    number_column,
    share_change_column,
    share_column,
    text_column,
)
from experiments.report.svg_charts import Row, row_chart
from experiments.report.wording import (
    change_text,
    counted,
    digits,
    interval_text,
    percent,
    signed_percent,
    whole_percent,
)

if TYPE_CHECKING:
    import pandas as pd

    from causal.effect import Effect
    from experiments.report.svg_marks import Picture
    from experiments.simulation.comparison import Comparison
    from experiments.simulation.simulation import Simulation
    from experiments.simulation.triangulation import Triangulation

_UNIT = "watch minutes per viewer and hour"
_COVERED = 0.9


def estimates_section(found: Comparison | Simulation) -> ReportSection:
    """What each design would have said, over and over, against the true line.

    Parameters
    ----------
    found : Comparison or Simulation

    Returns
    -------
    ReportSection
    """
    estimates, truth = found.to_frame(), found.truth
    targets: dict[str, float] = {}
    if "estimate" not in estimates:  # a comparison: its table is of trials
        targets = dict(zip(estimates["trial"], estimates["target"], strict=True))
        estimates = found.simulation.estimates  # type: ignore[union-attr]
    rows = []
    for name, mine in estimates.groupby("trial", sort=False):
        mean = float(mine["estimate"].mean())
        rows.append(
            Row(
                label=str(name),
                text=f"{change_text(mean)}, bias {_off(mean - truth.estimate, truth)}",
                middle=mean,
                values=mine["estimate"].tolist(),
                target=targets.get(str(name)),
            )
        )
    n = estimates["replication"].nunique()
    aim = "; diamond: what the design compares in expectation" if targets else ""
    picture = row_chart(
        rows,
        title="Estimates of each design",
        description=f"truth {digits(truth.estimate)}; "
        + "; ".join(f"{row.label}: {row.text}" for row in rows),
        caption=f"{_UNIT}; line: the truth; strokes: one experiment each; dot: their mean{aim}",
        line=truth.estimate,
        line_is_truth=True,
    )
    return ReportSection(
        key="estimates",
        title="What each experiment would have said",
        sentences=(_truth_in_words(truth), f"Each design was run {n} times, on the same draws."),
        tables=(_spread_table(estimates),),
        drawings=(picture,),
    )


def bias_section(found: Comparison) -> ReportSection:
    """Bias, spread, coverage, power, size and cost of each design.

    Parameters
    ----------
    found : Comparison

    Returns
    -------
    ReportSection
    """
    table = found.table
    best = table.iloc[int(table["rmse"].argmin())]
    return ReportSection(
        key="bias",
        title="Bias and error of each design",
        sentences=(
            f"Nearest to the truth is {best['trial']}: rmse {digits(best['rmse'])}, bias "
            f"{_off(best['bias'], found.truth)}, and its interval holds the truth "
            f"in {whole_percent(best['coverage'])} of the runs.",
            f"{_trusted(found)} A design can be precise about the wrong question: coverage of its "
            "own target says whether its variance is right, coverage of the truth whether its "
            "question is.",
        ),
        tables=(
            SectionTable(
                name="comparison",
                caption=f"Designs beside the truth of {digits(found.truth.estimate)}, {_UNIT}",
                frame=table,
                columns=(
                    text_column("trial", "Design"),
                    change_column("target", "Own target"),
                    change_column("mean", "Mean"),
                    TableColumn("bias", "Bias", lambda bias: _off(bias, found.truth)),
                    number_column("sd", "Sd"),
                    number_column("rmse", "Rmse"),
                    share_column("coverage", "Covers truth"),
                    share_column("coverage_target", "Covers target"),
                    share_column("power", "Power"),
                    share_column("size", "Size"),
                    given_column("days", "Days"),
                    share_column("share_exposed", "Exposed"),
                ),
            ),
        ),
    )


def triangulation_section(found: Triangulation) -> ReportSection:
    """One strategy read by all methods, each with its own target, the truth and the reason.

    Parameters
    ----------
    found : Triangulation

    Returns
    -------
    ReportSection
    """
    table = found.table
    return ReportSection(
        key="triangulation",
        title="Triangulation",
        sentences=(
            _truth_in_words(found.truth),
            "An estimate misses the truth by its own error and by the gap between what the design "
            "compares and what a launch does. The reason of a gap is measured: everything is run "
            "again with one mechanism off, and the one whose absence closes most of it is named.",
            *_of_launches(found),
        ),
        tables=(
            SectionTable(
                name="methods",
                caption=f"One experiment by each method, {_UNIT}, with 95\N{NO-BREAK SPACE}% CI; "
                "bias, rmse and coverage over all of them",
                frame=table,
                columns=(
                    text_column("method", "Method"),
                    change_column("estimate", "Estimate"),
                    number_column("low", "Low"),
                    number_column("high", "High"),
                    change_column("target", "Own target"),
                    change_column("truth", "Truth"),
                    change_column("estimation_error", "Error of estimation"),
                    change_column("estimand_gap", "Gap of the question"),
                    change_column("bias", "Bias"),
                    number_column("rmse", "Rmse"),
                    share_column("coverage", "Covers truth"),
                    text_column("reason", "Reason of the gap"),
                ),
            ),
            *_launch_tables(found),
            SectionTable(
                name="mechanisms",
                caption="Gap as a share of the truth, with each mechanism on and off",
                frame=found.mechanisms,
                columns=(
                    text_column("method", "Method"),
                    text_column("mechanism", "Mechanism"),
                    share_change_column("gap_share", "Gap with it"),
                    share_change_column("without", "Gap without it"),
                ),
                folded=True,
            ),
        ),
        drawings=(_dots(found),),
    )


def notes_section(found: Simulation) -> ReportSection | None:
    """What the trials' analyses warned of; None where they were silent.

    Parameters
    ----------
    found : Simulation

    Returns
    -------
    ReportSection or None
    """
    notes = found.notes
    if notes.empty:
        return None
    n = found.estimates["replication"].nunique()
    return ReportSection(
        key="notes",
        title="What the analyses warned of",
        sentences=(f"The first message of each kind, and in how many of {n} runs it came.",),
        tables=(
            SectionTable(
                name="notes",
                caption="Warnings by design",
                frame=notes,
                columns=(
                    text_column("trial", "Design"),
                    text_column("message", "Message"),
                    count_column("replications", "Runs"),
                ),
            ),
        ),
    )


def three_answers(found: Comparison) -> tuple[str, str, str]:
    """Which experiment to run, which not, and how far to trust the answer.

    Parameters
    ----------
    found : Comparison

    Returns
    -------
    tuple of str
        Three sentences.
    """
    table, truth = found.table, found.truth
    best = table.iloc[int(table["rmse"].argmin())]
    worst = table.iloc[int(table["bias"].abs().argmax())]
    first = (
        f"Launched for all, the strategy does {change_text(truth.estimate, 'min')} per viewer and "
        f"hour ({signed_percent(truth.relative().estimate)} of {digits(truth.baseline or 0.0)})."
    )
    lead = (
        f"Nearest to it comes “{best['trial']}”: it reads {change_text(best['mean'], 'min')} on "
        f"average (rmse {digits(best['rmse'])}), and its interval holds the truth in "
        f"{whole_percent(best['coverage'])} of the runs"
    )
    honest = table[table["coverage"] >= _COVERED]
    if best["coverage"] < _COVERED and len(honest):
        other = honest.iloc[int(honest["rmse"].argmin())]
        lead += (
            f"; of those whose intervals do in {whole_percent(_COVERED)} of runs or more, "
            f"“{other['trial']}” (rmse {digits(other['rmse'])})"
        )
    if len(table) > 1 and worst["trial"] != best["trial"]:
        lead += (
            f"; furthest off is “{worst['trial']}”, which reads "
            f"{change_text(worst['mean'], 'min')} ({_off(worst['bias'], found.truth)})"
        )
    return first, f"{lead}.", _trusted(found)


# --- parts ----------------------------------------------------------------------------------------


def _spread_table(estimates: pd.DataFrame) -> SectionTable:
    """Mean, spread and quantiles of each trial's estimates."""
    by_trial = estimates.groupby("trial", sort=False)["estimate"]
    return SectionTable(
        name="estimates",
        caption=f"Estimates over replications, {_UNIT}",
        frame=by_trial.describe(percentiles=[0.05, 0.5, 0.95]).reset_index(),
        columns=(
            text_column("trial", "Design"),
            change_column("mean", "Mean"),
            number_column("std", "Sd"),
            change_column("5%", "5 %"),
            change_column("50%", "Median"),
            change_column("95%", "95 %"),
        ),
        folded=True,
    )


def _truth_in_words(truth: Effect) -> str:
    """The true effect with its Monte Carlo error."""
    relative = f", {signed_percent(truth.relative().estimate)}" if truth.baseline else ""
    return (
        f"With everybody treated viewers watch {change_text(truth.estimate, 'min')} more an hour "
        f"than with nobody{relative} (Monte Carlo error {digits(truth.std_error)})."
    )


def _off(bias: float, truth: Effect) -> str:
    """A bias in per cent of the truth; in minutes where there is no effect."""
    return signed_percent(bias / truth.estimate) if truth.estimate else change_text(bias, "min")


def _trusted(found: Comparison) -> str:
    """How many replications, and which intervals do not hold what they promise."""
    table = found.table
    n = found.simulation.estimates["replication"].nunique()
    low = table.loc[table["coverage"] < _COVERED, "trial"].tolist()
    error = float(table["mc_se_bias"].max())
    truth = abs(found.truth.estimate)
    known = f"{percent(error / truth)} of the truth" if truth else f"{digits(error)} min"
    text = f"{counted(n, 'replication')}, so that a bias is known to {known}"
    if low:
        count = counted(len(low), "design")
        text += (
            f"; intervals of {count} hold the truth in fewer than {whole_percent(_COVERED)} of runs"
        )
    return text + "."


def _of_launches(found: Triangulation) -> tuple[str, ...]:
    """How launches without a lottery are read, and which ones the platform has no regions for."""
    said = []
    if len(found.launches):
        said.append(
            "A launch in regions that nobody drew by lot is read against the other regions. It "
            "learns what the strategy does where it is live; what reaches the other regions is "
            "taken off or added, and trends of its own count as effect."
        )
    for reason, methods in found.left_out.groupby("reason", sort=False)["method"]:
        said.append(f"Left out: {'; '.join(methods)}. Why: {reason}.")
    return tuple(said)


def _launch_tables(found: Triangulation) -> tuple[SectionTable, ...]:
    """What the readings of launches are made of, where there are any."""
    if not len(found.launches):
        return ()
    table = SectionTable(
        name="launches",
        caption=f"What launches read: live and spillover make the target, {_UNIT}",
        frame=found.launches,
        columns=(
            text_column("method", "Method"),
            change_column("live", "Gain where live"),
            change_column("spillover", "Through other regions"),
            change_column("trend", "With nothing launched"),
        ),
        folded=True,
    )
    return (table,)


def _dots(found: Triangulation) -> Picture:
    """Dot, interval and own target of each method against the truth."""
    rows = [
        Row(
            label=str(row["method"]),
            text=change_text(row["estimate"]),
            middle=row["estimate"],
            low=row["low"],
            high=row["high"],
            target=row["target"],
            filled=row["low"] <= row["truth"] <= row["high"],
        )
        for row in found.table.to_dict("records")
    ]
    return row_chart(
        rows,
        title="Methods against the truth",
        description="; ".join(
            f"{row.label}: {row.text} ({interval_text(row.low or 0.0, row.high or 0.0)})"
            for row in rows
        ),
        caption=f"{_UNIT}; line: the truth; dot: one experiment with 95\N{NO-BREAK SPACE}% CI, "
        "hollow where it misses the truth; diamond: the method's own target",
        line=found.truth.estimate,
        line_is_truth=True,
    )
