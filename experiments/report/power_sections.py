"""Sections on what an experiment could find: power against effect, and effect against days."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    change_column,
    count_column,
    given_column,
    number_column,
    percent_column,
    share_column,
)
from experiments.report.svg_charts import Guide, Series, line_chart
from experiments.report.wording import digits, percent, whole_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from experiments.sizing.rotation_power import PowerCurve


def power_section(curve: PowerCurve) -> ReportSection:
    """Power against the size of the effect, with the effect that is found.

    Parameters
    ----------
    curve : PowerCurve

    Returns
    -------
    ReportSection
    """
    table = curve.table
    picture = line_chart(
        [
            Series(
                label="",
                x=table["effect"].tolist(),
                y=table["power"].tolist(),
                low=(table["power"] - 2 * table["mc_se"]).clip(lower=0).tolist(),
                high=(table["power"] + 2 * table["mc_se"]).clip(upper=1).tolist(),
            )
        ],
        title="Power",
        description="; ".join(
            f"effect {digits(effect)}: {whole_percent(power)}"
            for effect, power in zip(table["effect"], table["power"], strict=True)
        ),
        caption="power in % by size of the effect; band: two Monte Carlo errors; dashed: the power "
        "asked for",
        across=[Guide(curve.power)],
        up=[] if curve.mde is None else [Guide(curve.mde, f"found: {digits(curve.mde)}")],
        scale=100.0,
    )
    said = curve.summary()
    return ReportSection(
        key="power",
        title="Power",
        sentences=(f"{said[:1].upper()}{said[1:]}.",),
        tables=(
            SectionTable(
                name="power",
                caption="Power by size of the effect",
                frame=table,
                columns=(
                    change_column("effect", "Effect"),
                    share_column("power", "Power"),
                    percent_column("mc_se", "Monte Carlo error"),
                ),
            ),
        ),
        drawings=(picture,),
    )


def timeline_section(timeline: pd.DataFrame, *, effect: float | None = None) -> ReportSection:
    """Smallest effect that is found, against the duration.

    Parameters
    ----------
    timeline : DataFrame
        From `mde_timeline`.
    effect : float, optional
        The one hoped for, as a share of the level.

    Returns
    -------
    ReportSection
    """
    seen = timeline[~timeline["extrapolated"]]
    beyond = timeline[timeline["extrapolated"]]
    series = []
    if 0 < len(seen) < len(timeline):
        joint = timeline.iloc[[len(seen) - 1, len(seen)]]
        series.append(_line_between(joint))
    series += [
        Series(
            label="longer than the pilot" if part is beyond else "within the pilot",
            x=part["days"].astype(float).tolist(),
            y=part["mde_relative"].tolist(),
            style="second" if part is beyond else "first",
            filled=part is seen,
        )
        for part in (seen, beyond)
        if len(part)
    ]
    picture = line_chart(
        series,
        title="Smallest effect by duration",
        description="; ".join(
            f"{row['days']:g} days: {percent(row['mde_relative'])}"
            for row in timeline.to_dict("records")
            if row["mde_relative"] < 1e6
        ),
        caption="smallest effect found in % of the level, by days; hollow: beyond the pilot"
        + ("; dashed: the effect hoped for" if effect is not None else ""),
        across=[] if effect is None else [Guide(effect)],
        scale=100.0,
    )
    return ReportSection(
        key="timeline",
        title="Smallest effect by duration",
        sentences=tuple(_found_in_words(timeline, effect)),
        tables=(
            SectionTable(
                name="timeline",
                caption="Smallest effect that is found",
                frame=timeline,
                columns=(
                    given_column("days", "Days"),
                    count_column("n_slices", "Slices"),
                    number_column("mde", "Smallest effect"),
                    percent_column("mde_relative", "Of the level"),
                ),
                folded=True,
            ),
        ),
        drawings=(picture,),
    )


def _line_between(joint: pd.DataFrame) -> Series:
    """From the last duration within the pilot to the first beyond it."""
    return Series(
        label="",
        x=joint["days"].astype(float).tolist(),
        y=joint["mde_relative"].tolist(),
        style="second",
        marked=False,
    )


def _found_in_words(timeline: pd.DataFrame, effect: float | None) -> Iterator[str]:
    """From when on the effect hoped for is found, and what longer durations assume."""
    if effect is not None:
        enough = timeline[timeline["mde_relative"] <= effect]
        said = (
            f"found from {enough['days'].iloc[0]:g} days on"
            if len(enough)
            else f"not found within {timeline['days'].iloc[-1]:g} days"
        )
        yield f"An effect of {percent(effect)} is {said}."
    if timeline["extrapolated"].any():
        yield (
            "Durations beyond the pilot assume that longer experiments meet no slower swings than "
            "the pilot shows."
        )
