"""Drawings of a report: geometry here, SVG in `templates/*.svg.j2`.

Every drawing is 360 units wide, so that its text stays readable on a narrow screen; text stays
text, colours come from the page's style, and meaning never hangs on a colour alone: decided
intervals have filled marks, undecided ones hollow marks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.report.wording import axis_text, digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.study.study_result import WeightHistogram

WIDTH = 360.0
_LEFT, _RIGHT = 8.0, 352.0
_ROW = 42.0
_LONGEST_LABEL = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One line of a forest plot; `text` stands to the right of the label."""

    label: str
    text: str
    estimate: float
    low: float
    high: float
    decided: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class ForestLine:
    """One interval in drawing units."""

    label: str
    text: str
    y: float
    x: float
    x_low: float
    x_high: float
    decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """A forest plot: intervals, an axis, a reference line, and a band where one is known."""

    title: str
    description: str
    height: float
    lines: tuple[ForestLine, ...]
    ticks: tuple[Tick, ...]
    axis_label: str
    zero: float | None
    band: tuple[float, float, float] | None
    template: str = "forest.svg.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """An effect over days: line, marks (x, y, decided), fixed and always-valid limits."""

    title: str
    description: str
    points: tuple[tuple[float, float, bool], ...]
    fixed: str
    always_valid: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    axis_label: str
    zero: float | None
    height: float = 196.0
    template: str = "days.svg.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin: bars for the share of rows and for the share of the weight."""

    x: float
    width: float
    rows_y: float
    weight_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A histogram of importance weights on the log scale."""

    title: str
    description: str
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    one: float | None
    base: float
    height: float = 172.0
    template: str = "weights.svg.j2"


def forest(
    intervals: Sequence[Interval],
    *,
    title: str,
    description: str,
    axis_label: str,
    reference: float | None = 0.0,
    band: tuple[float, float, float] | None = None,
    scale: float = 1.0,
) -> Forest:
    """Lay out intervals below each other.

    Parameters
    ----------
    intervals : sequence of Interval
        At least one.
    title, description, axis_label : str
        Text of the drawing.
    reference : float, optional
        Where a dashed line stands (no effect).
    band : tuple of float, optional
        Low, middle and high of a shaded band to compare with.
    scale : float
        Factor from the values to the axis (100 for percent).

    Returns
    -------
    Forest
    """
    values = [v for i in intervals for v in (i.low, i.high)] + list(band or ())
    if reference is not None:
        values.append(reference)
    axis = Axis.over([scale * v for v in values], _LEFT + 6, _RIGHT - 6)
    lines = tuple(
        ForestLine(
            shortened(i.label),
            i.text,
            22 + _ROW * j,
            axis.at(scale * i.estimate),
            axis.at(scale * i.low),
            axis.at(scale * i.high),
            i.decided,
        )
        for j, i in enumerate(intervals)
    )
    return Forest(
        title=title,
        description=description,
        height=22 + _ROW * len(lines) + 26,
        lines=lines,
        ticks=axis.ticks(),
        axis_label=axis_label,
        zero=None if reference is None else axis.at(scale * reference),
        band=None if band is None else tuple(axis.at(scale * v) for v in band),  # type: ignore[arg-type]
    )


def days(
    labels: Sequence[str],
    estimates: Sequence[float],
    limits: Sequence[tuple[float, float]],
    always_valid: Sequence[tuple[float, float]],
    *,
    title: str,
    description: str,
    axis_label: str,
    scale: float = 1.0,
) -> Days:
    """Lay out a cumulative effect with its fixed and always-valid limits.

    Days are looked at one after the other, so that a day is decided by its always-valid limits.

    Parameters
    ----------
    labels, estimates, limits, always_valid : sequence of length k
        One entry a day; `always_valid` may be empty.
    title, description, axis_label : str
        Text of the drawing.
    scale : float
        Factor from the values to the axis (100 for percent).

    Returns
    -------
    Days
    """
    # The first looks are so wide that they would press the rest flat: the later half sets the axis.
    shown = [*limits[len(limits) // 2 :], *always_valid[len(always_valid) // 2 :]]
    values = [scale * v for pair in shown for v in pair] + [scale * e for e in estimates] + [0.0]
    axis = Axis.over(values, 170.0, 26.0)
    left, right = 52.0, _RIGHT - 6
    step = (right - left) / max(len(labels) - 1, 1)
    x = [round(left + step * j, 1) for j in range(len(labels))]

    def ring(pairs: Sequence[tuple[float, float]]) -> str:
        """Closed outline of a band, cut at the edge of the plot."""
        up = [
            f"{a:g},{axis.clipped(scale * high):g}" for a, (_, high) in zip(x, pairs, strict=True)
        ]
        down = [
            f"{a:g},{axis.clipped(scale * low):g}" for a, (low, _) in zip(x, pairs, strict=True)
        ]
        return " ".join([*up, *reversed(down)])

    marked = sorted({0, len(labels) // 2, len(labels) - 1})
    return Days(
        title=title,
        description=description,
        points=tuple(
            (a, axis.at(scale * e), not low <= 0 <= high)
            for a, e, (low, high) in zip(x, estimates, always_valid or limits, strict=True)
        ),
        fixed=ring(limits),
        always_valid=ring(always_valid) if always_valid else "",
        x_ticks=tuple(Tick(x[j], shortened(labels[j], 12)) for j in marked),
        y_ticks=axis.ticks(),
        axis_label=axis_label,
        zero=axis.at(0.0),
    )


def weights(histogram: WeightHistogram, *, title: str, description: str) -> Weights:
    """Lay out a histogram of weights.

    Parameters
    ----------
    histogram : WeightHistogram
        At least one bin.
    title, description : str
        Text of the drawing.

    Returns
    -------
    Weights
    """
    low, high = histogram.edges[0], histogram.edges[-1]
    left, right, base, top = 44.0, _RIGHT - 4, 150.0, 16.0
    tallest = max(*histogram.rows, *histogram.weight, 1e-9)

    def across(log_weight: float) -> float:
        return round(left + (right - left) * (log_weight - low) / max(high - low, 1e-9), 1)

    def up(share: float) -> float:
        return round(base - (base - top) * share / tallest, 1)

    bars = tuple(
        Bar(
            x=across(histogram.edges[j]) + 0.5,
            width=round(across(histogram.edges[j + 1]) - across(histogram.edges[j]) - 1, 1),
            rows_y=up(rows),
            weight_y=up(weight),
        )
        for j, (rows, weight) in enumerate(zip(histogram.rows, histogram.weight, strict=True))
    )
    steps = (0.0,) if high - low > 1.5 else (0.0, math.log10(2), math.log10(5))
    marks = [k + step for k in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return Weights(
        title=title,
        description=description,
        bars=bars,
        x_ticks=tuple(
            Tick(across(mark), f"{10.0**mark:,.6g}")
            for mark in marks
            if low - 1e-9 <= mark <= high + 1e-9
        ),
        y_ticks=tuple(Tick(up(v / 100), text) for v, text in _round_values(0.0, 100 * tallest)),
        one=across(0.0) if low <= 0 <= high else None,
        base=base,
    )


_LEAST_APART = 1e-9  # of their size: nearer values stand on one place


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from values to drawing units, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Axis:
        """The axis that holds all values, with a little room."""
        low, high = min(values), max(values)
        size = max(abs(low), abs(high))
        apart = high - low > _LEAST_APART * size
        room = 0.04 * (high - low) if apart else max(size, 1.0) * 0.1
        return cls(low - (room if low < 0 else 0), high + room, start, end)

    def at(self, value: float) -> float:
        """Where a value stands."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def clipped(self, value: float) -> float:
        """Where a value stands, or the edge of the plot."""
        return self.at(min(max(value, self.low), self.high))

    def ticks(self) -> tuple[Tick, ...]:
        """Round values and where they stand."""
        return tuple(Tick(self.at(v), text) for v, text in _round_values(self.low, self.high))


def _round_values(low: float, high: float) -> list[tuple[float, str]]:
    """Two to five round values between two others, and their text."""
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    size = max(abs(first), abs(last)) * step
    return [(k * step, _tick_text(k * step, step, size)) for k in range(first, last + 1)]


def _round_step(rough: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))


def _tick_text(value: float, step: float, size: float) -> str:
    """A tick's number, short also far off 1."""
    return axis_text(value, step) if step >= 1e-4 and size < 1e7 else digits(value)


def shortened(label: str, longest: int = _LONGEST_LABEL) -> str:
    """A label that fits; the whole one stands in the table."""
    return label if len(label) <= longest else label[: longest - 1] + "…"
