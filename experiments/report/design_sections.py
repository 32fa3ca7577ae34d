"""Sections on a plan: its calendar, its balance over the day, what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.designs.rotation import Saturation, Switchback
from experiments.report.report_sections import (
    ReportSection,
    SectionTable,
    TableColumn,
    count_column,
    frame_of,
    length_in_words,
    share_column,
    text_column,
)
from experiments.report.svg_charts import Cell, Column, Guide, bar_chart, calendar
from experiments.report.wording import count_text, counted, level_in_percent, whole_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.designs.rotation import Schedule
    from experiments.report.svg_marks import Picture
    from experiments.rotations.switchback import SwitchbackEffect

_MOST_REGIONS = 4
_MINUTE = pd.Timedelta(minutes=1)
_DAY = pd.Timedelta(days=1)
_STATUS = {"yes": "passed", "no": "failed", "not testable": "not testable"}
_FORESEEN = "alternating"
_EVEN = 1e-9


def calendar_section(schedule: Schedule) -> ReportSection:
    """When who is treated: a line a day, burn-in hatched.

    Parameters
    ----------
    schedule : Schedule

    Returns
    -------
    ReportSection
    """
    table, design = schedule.table, schedule.design
    what = "share" if isinstance(design, Saturation) else "arm"
    regions = table["region"].unique().tolist()
    named = [TableColumn("region", "Region", str, numeric=False)] if len(regions) > 1 else []
    treated = "Share treated" if what == "share" else "Arm"
    columns = (
        count_column("slice", "Slice"),
        *named,
        text_column("start", "From"),
        text_column("read_from", "Read from"),
        text_column("end", "To"),
        TableColumn(what, treated, level_in_percent if what == "share" else _arm),
    )
    shown = table.drop(columns="stratum").assign(
        **{name: table[name].astype(str) for name in ("start", "end", "read_from")}
    )
    return ReportSection(
        key="calendar",
        title="Calendar",
        sentences=tuple(_said(schedule, what, len(regions))),
        tables=(
            SectionTable(
                name="slices",
                caption="Slices of time, with seed and law in the schedule's file",
                frame=shown,
                columns=columns,
                folded=True,
            ),
        ),
        drawings=tuple(_calendar(schedule, region, what) for region in regions[:_MOST_REGIONS]),
    )


def balance_section(schedule: Schedule) -> ReportSection:
    """Share of time that is treated, by hour of the day and by weekday.

    Parameters
    ----------
    schedule : Schedule

    Returns
    -------
    ReportSection
    """
    found = schedule.balance()
    hours = found[found["clock"] == "hour"]
    whole = float(np.average(hours["share"], weights=hours["minutes"]))
    worst = hours.iloc[int((hours["share"] - whole).abs().argmax())]
    picture = bar_chart(
        [Column(float(h), float(h) + 1, s) for h, s in zip(hours["value"], hours["share"])],  # noqa: B905 — columns of one table
        title="Treated share by hour of the day",
        description=f"from {whole_percent(hours['share'].min())} to "
        f"{whole_percent(hours['share'].max())}",
        caption="share of time that is treated in %, by hour of the local clock; dashed: overall",
        x_ticks=[(h, f"{h:02d}:00") for h in (0, 6, 12, 18, 24)],
        across=[Guide(whole)],
        scale=100.0,
    )
    even = abs(worst["share"] - whole) < _EVEN
    said = (
        "in every hour of the day"
        if even
        else f"furthest from it is the hour from {int(worst['value']):02d}:00 with "
        f"{whole_percent(worst['share'])}. Where hours differ, the time of day can look like an "
        "effect"
    )
    return ReportSection(
        key="balance",
        title="Arms by hour",
        sentences=(f"{whole_percent(whole)} of the time is treated{',' if even else ';'} {said}.",),
        tables=(
            SectionTable(
                name="balance",
                caption="Treated share of time",
                frame=found,
                columns=(
                    text_column("clock", "Clock"),
                    count_column("value", "Value"),
                    count_column("minutes", "Minutes"),
                    share_column("share", "Treated"),
                ),
                folded=True,
            ),
        ),
        drawings=(picture,),
    )


def assumptions_section(
    read: SwitchbackEffect | None = None, *, schedule: Schedule | None = None
) -> ReportSection:
    """What an optimal rotation rests on, line by line: passed, failed or not testable.

    Parameters
    ----------
    read : SwitchbackEffect, optional
        Its diagnostics say what the log can tell.
    schedule : Schedule, optional
        A plan that was not run yet says of its coin only.

    Returns
    -------
    ReportSection
    """
    rows = list(_tested(read)) if read is not None else list(_planned(schedule))
    return ReportSection(
        key="assumptions",
        title="What a rotation rests on",
        sentences=(
            "The design is optimal if outcomes are bounded, nobody foresees the next slice, and "
            "treatment matters for a limited time that is known. A log can refute some of this; "
            "what it cannot tell says so.",
        ),
        tables=(
            SectionTable(
                name="assumptions",
                caption="Assumptions and their diagnostics",
                frame=frame_of(rows),
                columns=(
                    text_column("assumption", "Assumption"),
                    text_column("diagnostic", "Diagnostic"),
                    TableColumn("status", "Result", str, numeric=False, badge=True),
                    text_column("finding", "Finding"),
                ),
            ),
        ),
    )


# --- parts ----------------------------------------------------------------------------------------

_ASSUMED = {
    "outcome_bound": ("bounded outcomes", "largest outcome"),
    "coin": ("unpredictable next slice", "law of the coin"),
    "anticipation": ("unpredictable next slice", "movement before a switch"),
    "carryover": ("fixed, limited interference", "length allowed for"),
    "residual_correlation": ("fixed, limited interference", "correlation of neighbours"),
}


def _tested(read: SwitchbackEffect) -> Iterator[dict[str, Any]]:
    """The diagnostics of a read-out by the assumption that they speak of; the rest by name."""
    found = {row["check"]: row for row in read.diagnostics.to_dict("records")}
    order = [*(c for c in _ASSUMED if c in found), *(c for c in found if c not in _ASSUMED)]
    for check in order:
        row = found[check]
        assumption, diagnostic = _ASSUMED.get(check, ("reading", check.replace("_", " ")))
        yield {
            "assumption": assumption,
            "diagnostic": diagnostic,
            "status": _STATUS.get(row["passed"], str(row["passed"])),
            "finding": row["message"],
            "value": row["value"],
            "threshold": row["threshold"],
        }


def _planned(schedule: Schedule | None) -> Iterator[dict[str, Any]]:
    """What is known of a plan that was not run yet."""
    design = schedule.design if schedule is not None else None
    coin = design.coin if isinstance(design, Switchback) else None
    findings = {
        "outcome_bound": "outcomes come with the experiment; a guess of their bound tells the risk",
        "coin": "coins are thrown by whoever runs the plan"
        if coin is None
        else f"{coin} coins{': the next slice can be foreseen' if coin == _FORESEEN else ''}",
        "anticipation": "told by the read-out once the experiment has run",
        "carryover": "a log refutes lengths; none can be proven long enough",
    }
    for check, finding in findings.items():
        assumption, diagnostic = _ASSUMED[check]
        known = check == "coin" and coin is not None
        status = ("failed" if coin == _FORESEEN else "passed") if known else "not testable"
        yield {
            "assumption": assumption,
            "diagnostic": diagnostic,
            "status": status,
            "finding": finding,
        }


def _said(schedule: Schedule, what: str, n_regions: int) -> Iterator[str]:
    """How many slices, how long, how many treated."""
    table, design = schedule.table, schedule.design
    first, last = table["start"].min(), table["end"].max()
    days = (last - first) / _DAY
    several = f" in {n_regions} regions" if n_regions > 1 else ""
    length = (
        f" of {length_in_words(design.slice_minutes)}"
        if getattr(design, "points", None) is None
        else ""
    )
    yield (
        f"{counted(len(table), 'slice')}{length}{several}, {days:.4g} days from {first}, drawn "
        f"with seed {schedule.seed}."
    )
    if what == "arm" and isinstance(design, Switchback):
        burn = design.burn_in_minutes
        left = f"; the first {length_in_words(burn)} of each are not read" if burn else ""
        yield (
            f"{count_text(table['arm'].sum())} slices are treated, by {design.coin} coins within "
            f"{counted(table['stratum'].nunique(), 'stratum').replace('stratums', 'strata')}{left}."
        )


def _calendar(schedule: Schedule, region: str, what: str) -> Picture:
    """The drawing of one region."""
    mine = schedule.table[schedule.table["region"] == region]
    start, end, read = (_local(mine[name]) for name in ("start", "end", "read_from"))
    first = start.min().normalize()
    cells: list[Cell] = []
    for begin, until, reads, value in zip(start, end, read, mine[what]):  # noqa: B905 — columns of one table
        cells += _by_day(begin, until, reads, float(value), first)
    n = max(cell.day for cell in cells) + 1
    days = [(first + j * _DAY).strftime("%a %d") for j in range(n)]
    named = f", {region}" if schedule.design.regions is not None else ""
    burnt = "; hatched: not read" if any(cell.burnt > cell.start for cell in cells) else ""
    legend = "filled: treated" if what == "arm" else "filled from below: treated share of viewers"
    return calendar(
        cells,
        days,
        title=f"Calendar{named}",
        description=f"{counted(len(mine), 'slice')}, a line a day",
        caption=f"{legend}{burnt}{named}",
    )


def _local(times: pd.Series[Any]) -> pd.Series[Any]:
    """Times of the local clock without its zone."""
    return times if times.dt.tz is None else times.dt.tz_localize(None)


def _by_day(
    begin: pd.Timestamp, until: pd.Timestamp, reads: pd.Timestamp, share: float, first: pd.Timestamp
) -> Iterator[Cell]:
    """A slice cut at midnight."""
    while begin < until:
        midnight = begin.normalize()
        stop = min(until, midnight + _DAY)
        minutes = [(t - midnight) / _MINUTE for t in (begin, stop, max(min(reads, stop), begin))]
        yield Cell(
            day=int((midnight - first) / _DAY),
            start=minutes[0],
            end=minutes[1],
            share=share,
            burnt=minutes[2],
        )
        begin = stop


def _arm(arm: float) -> str:
    """An arm in words."""
    return "treated" if arm == 1 else "control"
