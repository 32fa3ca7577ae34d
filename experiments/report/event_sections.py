"""Sections on an event study: effects by time, the test before the start, what overturns it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from experiments.report.panel_words import (
    amount_column,
    axis_scale,
    estimate_columns,
    move_column,
)
from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    count_column,
    given_column,
)
from experiments.report.svg_charts import Guide, Series, line_chart
from experiments.report.wording import (
    change_text,
    counted,
    digits,
    interval_text,
    level_in_percent,
    p_equation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from causal import EventStudy, HonestDid, PretrendPower
    from causal.effect import EffectCurve, WaldTest
    from experiments.report.svg_marks import Picture

_REJECTED = 0.05


def event_section(
    study: EventStudy,
    *,
    level: float = 0.95,
    unit: str = "",
    title: str = "Effects by time since treatment",
) -> ReportSection:
    """Effects by event time with pointwise intervals and the band of all, and the pre-trend test.

    Parameters
    ----------
    study : EventStudy
    level : float
    unit : str
        Of the outcome.
    title : str

    Returns
    -------
    ReportSection
    """
    frame = event_frame(study.curve, study.n_units_by_event_time, study.reference, level)
    shares = level_in_percent(level)
    table = SectionTable(
        name="event_study",
        caption=study.method,
        frame=frame,
        columns=(
            given_column("event_time", "Event time"),
            *estimate_columns(unit),
            amount_column("low_simultaneous", "Low, all", unit),
            amount_column("high_simultaneous", "High, all", unit),
            count_column("n_units", "Treated units"),
        ),
        folded=True,
    )
    words = [
        f"Thick bars hold for each point ({shares}), thin ones for all points at once; filled "
        "points have a thin bar without 0.",
        pretrend_in_words(study.pretrend),
    ]
    return ReportSection(
        key="event_study",
        title=title,
        sentences=tuple(words),
        tables=(table,),
        drawings=(_events(frame, unit, shares),),
    )


def event_frame(
    curve: EffectCurve, n_units: Mapping[int, int], reference: int | None, level: float
) -> pd.DataFrame:
    """One row an event time: estimate, both kinds of limits, treated units."""
    frame = curve.to_frame(level)
    frame["n_units"] = [int(n_units.get(e, 0)) for e in frame["event_time"]]
    frame["is_reference"] = frame["event_time"] == reference
    return frame


def _events(frame: pd.DataFrame, unit: str, shares: str) -> Picture:
    """Points with both kinds of bars; the reference hollow and named."""
    real = frame[~frame["is_reference"]]
    x, y = real["event_time"].tolist(), real["estimate"].tolist()
    low, high = real["low_simultaneous"].to_numpy(), real["high_simultaneous"].to_numpy()
    decided = ((low > 0) | (high < 0)).tolist()
    plain: dict[str, Any] = {"x": x, "y": y, "linked": False}
    lines = [
        Series(label="all at once", low=low.tolist(), high=high.tolist(), bars="thin",
               marked=False, **plain),
        Series(label="each", low=real["low"].tolist(), high=real["high"].tolist(), bars="strong",
               filled=decided, **plain),
    ]  # fmt: skip
    held = frame[frame["is_reference"]]
    if len(held):
        lines.append(
            Series(
                label="reference",
                x=held["event_time"].tolist(),
                y=[0.0] * len(held),
                style="second",
                filled=False,
                linked=False,
            )
        )
    measured = f" in {unit}" if unit else ""
    return line_chart(
        lines,
        title="Effect by event time",
        description="; ".join(
            f"{int(e)}: {digits(v)}" for e, v in zip(frame["event_time"], frame["estimate"])  # noqa: B905 — columns of one table
        ),
        caption=f"effect{measured} by periods since treatment, {shares} intervals of each point "
        "and of all at once; filled: the latter leaves 0 out",
        up=[Guide(-0.5, "start")],
        across=[Guide(0.0)],
        scale=axis_scale(unit),
    )  # fmt: skip


def pretrend_in_words(test: WaldTest | None) -> str:
    """What the time before the start says."""
    if test is None:
        return (
            "There is no period before the start besides the reference: no pre-trend can be seen."
        )
    p, effects = p_equation(test.p_value), counted(test.df, "effect")
    if test.p_value < _REJECTED:
        return (
            f"Before the start the groups did not move in parallel (joint {p} of {effects}): do "
            "not read the effect as caused by the treatment without the bounds on sensitivity."
        )
    return (
        f"Before the start no difference in trends can be shown (joint {p} of {effects}); that is "
        "no proof of parallel trends."
    )


def pretrend_section(power: PretrendPower, *, unit: str = "") -> ReportSection:
    """The difference in trends that the test before the start would have found.

    Parameters
    ----------
    power : PretrendPower
    unit : str
        Of the outcome.

    Returns
    -------
    ReportSection
    """
    last = power.distortion.iloc[-1]
    frame = power.distortion
    sentences = (
        f"A straight difference in trends of {change_text(power.slope, unit).lstrip('+')} a period "
        f"is found before the start with probability {digits(power.power)} ({power.test} test; "
        f"without any, it rejects with probability {digits(power.size)}).",
        f"Such a trend, had it gone on, adds {change_text(float(last['hypothesised']), unit)} at "
        f"event time {int(last['event_time'])}, and "
        f"{change_text(float(last['expected_given_passing']), unit)} on average where the test "
        "does not find it.",
    )
    x = frame["event_time"].tolist()
    picture = line_chart(
        [
            Series(label="estimate", x=x, y=frame["estimate"].tolist(), linked=False),
            Series(label="trend asked about", x=x, y=frame["hypothesised"].tolist(), marked=False),
            Series(
                label="expected, if it is not found",
                x=x,
                y=frame["expected_given_passing"].tolist(),
                style="second",
                marked=False,
            ),
        ],
        title="What the test could have missed",
        description=f"a trend of {digits(power.slope)} a period, found with probability "
        f"{digits(power.power)}",
        caption="estimates, and what the trend would have made of them without any effect",
        up=[Guide(-0.5, "start")],
        across=[Guide(0.0)],
        scale=axis_scale(unit),
    )
    table = SectionTable(
        name="pretrend_power",
        caption="Estimates beside the trend",
        frame=frame,
        columns=(
            given_column("event_time", "Event time"),
            move_column("estimate", "Estimate", unit),
            move_column("hypothesised", "Trend", unit),
            move_column("expected_given_passing", "If not found", unit),
        ),
        folded=True,
    )
    return ReportSection(
        key="pretrend",
        title="What the test before the start could have found",
        sentences=sentences,
        tables=(table,),
        drawings=(picture,),
    )


def sensitivity_section(
    found: HonestDid, *, unit: str = "", target: str = "The effect"
) -> ReportSection:
    """Intervals that allow for violations of parallel trends, and the bound that overturns.

    Parameters
    ----------
    found : HonestDid
    unit : str
        Of the outcome.
    target : str
        What the intervals are of, as a sentence begins.

    Returns
    -------
    ReportSection
    """
    shares = level_in_percent(found.level)
    first = interval_text(*found.original, unit, change=True)
    table = SectionTable(
        name="sensitivity",
        caption=f"Intervals that hold although trends differ by the bound ({found.method})",
        frame=found.frame,
        columns=(
            given_column("bound", "Bound"),
            amount_column("lower", "Low", unit),
            amount_column("upper", "High", unit),
        ),
    )
    return ReportSection(
        key="sensitivity",
        title="If trends were not parallel",
        sentences=(
            f"{target}: under parallel trends the {shares} interval is {first}.",
            _breakdown(found),
        ),
        tables=(table,),
        drawings=(_bounds(found, unit),),
    )


def _bounds(found: HonestDid, unit: str) -> Picture:
    """The interval at each bound, and the breakdown."""
    relative = found.kind == "relative_magnitude"
    bound = "the largest change before treatment" if relative else "a change of slope a period"
    shares = level_in_percent(found.level)
    frame = found.frame
    x = frame["bound"].tolist()
    middle = ((frame["lower"] + frame["upper"]) / 2).tolist()
    strong = ((frame["lower"] > 0) | (frame["upper"] < 0)).tolist()
    up = [Guide(found.breakdown, "breakdown")] if x[0] <= found.breakdown <= x[-1] else []
    return line_chart(
        [
            Series(
                label="",
                x=x,
                y=middle,
                low=frame["lower"].tolist(),
                high=frame["upper"].tolist(),
                bars="strong",
                filled=strong,
                linked=False,
            )
        ],
        title="How wrong parallel trends may be",
        description="; ".join(
            f"{digits(m)}: {digits(lo)} to {digits(hi)}"
            for m, lo, hi in frame.itertuples(index=False)
        ),
        caption=f"{shares} interval by the bound, in "
        f"{'times ' if relative else ''}{bound}; dots: middles, filled where 0 lies outside",
        up=up,
        across=[Guide(0.0)],
        scale=axis_scale(unit),
    )


def _breakdown(found: HonestDid) -> str:
    """What overturns the sign of the effect."""
    if found.breakdown == 0:
        return "Its sign cannot be told even then."
    if not math.isfinite(found.breakdown):
        return "No bound that was tried overturns its sign."
    if found.kind == "smoothness":
        return (
            "Its sign is lost when the slope of the difference in trends may change by "
            f"{digits(found.breakdown)} from period to period."
        )
    return (
        f"Its sign is lost when trends may differ after the start by {digits(found.breakdown)} "
        "times as much from period to period as they did at most before."
    )
