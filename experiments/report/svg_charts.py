"""Charts that a section needs, laid out as marks: lines, rows, bars and a calendar of slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from experiments.report.svg import Axis, shortened
from experiments.report.svg_marks import (
    Box,
    Dot,
    Picture,
    Stroke,
    Words,
    boxes,
    diamond,
    hatching,
    joined,
    level_line,
    ring,
    upright,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experiments.report.svg_marks import Mark

_LEFT, _RIGHT = 46.0, 352.0
_EDGE = 8.0
_ROW = 42.0
_PER_LETTER = 6.4  # drawing units, for what must not run into each other
_PLOT = 150.0
_APART = 36.0  # names beside points, so that they do not run into each other
_LINE = 12.0  # height of a name
_DAY_HEIGHT = 13.0
_MOST_DAYS = 42
_DAY_MINUTES = 1440.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points that belong together; `low` and `high` make a band, `filled` decides the marks.

    `names` stand beside the points; a line is drawn through them where `linked`. `bars` draws the
    limits as bars, each point's own: thin ones, or strong.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: Literal["first", "second", "faint"] = "first"
    bars: Literal["", "thin", "strong"] = ""
    filled: Sequence[bool] | bool = True
    dashed: bool = False
    marked: bool = True
    linked: bool = True
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Guide:
    """A line across the plot at a value, and what it is called."""

    at: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Mention:
    """The point of a line chart that must be seen: a ring on top of all else, and its name."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a row chart: an interval, single values, its own target, or a bar that ends."""

    label: str
    text: str
    middle: float
    low: float | None = None
    high: float | None = None
    values: Sequence[float] = ()
    target: float | None = None
    bar_from: float | None = None
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Column:
    """One bar of a bar chart, from `start` to `end` on the x axis."""

    start: float
    end: float
    value: float
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a slice within one day: minutes of the day, its share treated, what is not read.

    `burnt` is where reading begins, in minutes of the day; the start where nothing is left out.
    """

    day: int
    start: float
    end: float
    share: float
    burnt: float


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    caption: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    across: Sequence[Guide] = (),
    up: Sequence[Guide] = (),
    scale: float = 1.0,
    from_zero: bool = True,
    mention: Mention | None = None,
) -> Picture:
    """Lines with bands over a numeric axis.

    Parameters
    ----------
    series : sequence of Series
        At least one finite point between them; what is not finite is left out.
    title, description, caption : str
        Text of the drawing.
    x_ticks : sequence of (float, str), optional
        Places and labels; round values by default.
    across, up : sequence of Guide
        Horizontal lines at y values and vertical ones at x values.
    scale : float
        Factor from y values to the axis (100 for per cent).
    from_zero : bool
        The y axis holds 0.
    mention : Mention, optional
        The point that must be seen; names of other points give way to it.

    Returns
    -------
    Picture
    """
    shown = [_finite(s, scale) for s in series]
    legend = [s for s in shown if s.label] if len(series) > 1 else []
    top = 12.0 + 16.0 * _legend_rows(legend)
    base = top + _PLOT
    seen = [] if mention is None else [mention]
    xs = [v for s in shown for v in s.x] + [p.x for p in seen] + [g.at for g in up]
    ys = [v for s in shown for v in (*s.y, *s.low, *s.high)] + [scale * p.y for p in seen]
    ys += [scale * g.at for g in across]
    x_axis = _fitted(xs, _LEFT + 8, _RIGHT - 8)
    room = 0.06 * (max(ys) - min(ys))
    y_axis = Axis.over([*ys, 0.0 if from_zero else min(ys) - room], base, top)
    marks: list[Mark] = [*_y_grid(y_axis), *_legend(legend)]
    rings = [(x_axis.at(p.x), y_axis.at(scale * p.y), p.name) for p in seen]
    first = [_ring_name(*ring, base) for ring in rings]
    for s in shown:
        marks += _lines(s, x_axis, y_axis)
    for s in shown:
        marks += _names(s, x_axis, y_axis, first)
    marks += first
    for s in shown:  # after all names, which would cover them
        marks += _dots(s, x_axis, y_axis)
    marks += [Stroke("zero", level_line(y_axis.at(scale * g.at), _LEFT, _RIGHT)) for g in across]
    marks += [
        Words("tick halo end", _RIGHT, y_axis.at(scale * g.at) - 4, g.text)
        for g in across
        if g.text
    ]
    marks += _up_marks(up, x_axis, top, base)
    marks += _x_marks(x_axis, base, x_ticks)
    for x, y, _ in rings:
        marks += [Dot("ring", x, y, 7), Dot("dot", x, y, 4)]
    return Picture(
        title=title,
        description=description,
        caption=caption,
        height=base + 24,
        marks=tuple(marks),
    )


def row_chart(
    rows: Sequence[Row],
    *,
    title: str,
    description: str,
    caption: str,
    line: float | None = None,
    line_is_truth: bool = False,
    scale: float = 1.0,
) -> Picture:
    """One line below the other on the same x axis.

    Parameters
    ----------
    rows : sequence of Row
        At least one.
    title, description, caption : str
        Text of the drawing.
    line : float, optional
        Where a vertical line stands: no effect, or the truth.
    line_is_truth : bool
        It is drawn solid.
    scale : float
        Factor from the values to the axis (100 for per cent).

    Returns
    -------
    Picture
    """
    held = [v for r in rows for v in _values_of(r)] + ([line] if line is not None else [])
    axis = Axis.over([scale * v for v in held], _EDGE + 6, _RIGHT - 6)
    base = 22 + _ROW * len(rows)
    marks: list[Mark] = []
    if line is not None:
        style = "truth" if line_is_truth else "zero"
        marks.append(Stroke(style, upright(axis.at(scale * line), 4, base)))
    for j, row in enumerate(rows):
        marks += _row_marks(row, 22 + _ROW * j, axis, scale)
    marks.append(Stroke("axis", level_line(base, _EDGE, _RIGHT)))
    for tick in axis.ticks():
        marks.append(Stroke("axis", f"M{tick.at:g} {base:g}v4"))
        marks.append(Words("tick mid", min(max(tick.at, 20.0), 340.0), base + 15, tick.text))
    return Picture(
        title=title,
        description=description,
        caption=caption,
        height=base + 26,
        marks=tuple(marks),
    )


def bar_chart(
    columns: Sequence[Column],
    *,
    title: str,
    description: str,
    caption: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    across: Sequence[Guide] = (),
    up: Sequence[Guide] = (),
    scale: float = 1.0,
) -> Picture:
    """Bars from 0 over a numeric axis; parameters as in `line_chart`."""
    top, base = 12.0, 12.0 + _PLOT
    xs = [v for c in columns for v in (c.start, c.end)] + [g.at for g in up]
    x_axis = _fitted(xs, _LEFT + 4, _RIGHT - 4)
    values = [scale * c.value for c in columns] + [scale * g.at for g in across]
    y_axis = Axis.over([0.0, *values], base, top)
    zero = y_axis.at(0.0)
    marks: list[Mark] = [*_y_grid(y_axis)]
    for c in columns:
        left, right, y = x_axis.at(c.start), x_axis.at(c.end), y_axis.at(scale * c.value)
        marks.append(
            Box(
                "bar strong" if c.strong else "bar",
                round(left + 0.5, 1),
                min(y, zero),
                round(max(right - left - 1, 0.5), 1),
                round(abs(zero - y), 1),
            )
        )
    marks += [Stroke("zero", level_line(y_axis.at(scale * g.at), _LEFT, _RIGHT)) for g in across]
    marks += _up_marks(up, x_axis, top, base)
    if zero < base:
        marks.append(Stroke("axis", level_line(zero, _LEFT, _RIGHT)))
    marks += _x_marks(x_axis, base, x_ticks)
    return Picture(
        title=title,
        description=description,
        caption=caption,
        height=base + 24,
        marks=tuple(marks),
    )


def calendar(
    cells: Sequence[Cell],
    days: Sequence[str],
    *,
    title: str,
    description: str,
    caption: str,
) -> Picture:
    """Slices of time, a line a day; the treated share is filled from below, burn-in is hatched.

    Parameters
    ----------
    cells : sequence of Cell
        Slices cut at midnight.
    days : sequence of str
        What each day is called; the first 42 are drawn.
    title, description, caption : str
        Text of the drawing.

    Returns
    -------
    Picture
    """
    top, n = 20.0, min(len(days), _MOST_DAYS)
    per_minute = (_RIGHT - _LEFT - 4) / _DAY_MINUTES
    outlines, filled, burnt = [], [], []
    for cell in cells:
        if cell.day >= n:
            continue
        x, y = round(_LEFT + 4 + cell.start * per_minute, 1), top + _DAY_HEIGHT * cell.day
        width, height = round((cell.end - cell.start) * per_minute, 1), _DAY_HEIGHT - 2
        outlines.append((x, y, width, height))
        if cell.share > 0:
            tall = round(height * cell.share, 1)
            filled.append((x, round(y + height - tall, 1), width, tall))
        if cell.burnt > cell.start:
            left_out = min(cell.burnt, cell.end) - cell.start
            burnt.append((x, y, round(left_out * per_minute, 1), height))
    marks: list[Mark] = [Stroke("slot", boxes(outlines))]
    marks += [Stroke("treated", boxes(filled))] if filled else []
    marks += [Stroke("hatch", hatching(burnt))] if burnt else []
    for hour in (0, 6, 12, 18, 24):
        x = round(_LEFT + 4 + hour * 60 * per_minute, 1)
        style = "tick end" if hour == 24 else "tick start" if hour == 0 else "tick mid"
        marks.append(Words(style, x, 13, f"{hour:02d}:00"))
    for j, day in enumerate(days[:n]):
        y = round(top + _DAY_HEIGHT * j + _DAY_HEIGHT - 4, 1)
        marks.append(Words("tick end", _LEFT, y, shortened(day, 7)))
    cut = f"; the first {n} of {len(days)} days" if len(days) > n else ""
    return Picture(
        title=title,
        description=description,
        caption=caption + cut,
        height=top + _DAY_HEIGHT * n + 4,
        marks=tuple(marks),
    )


# --- parts ----------------------------------------------------------------------------------------


def _finite(s: Series, scale: float) -> Series:
    """The points of a series that can be drawn, scaled."""
    keep = [j for j, v in enumerate(zip(s.x, s.y, strict=True)) if all(map(math.isfinite, v))]
    filled = s.filled if isinstance(s.filled, bool) else [s.filled[j] for j in keep]
    return Series(
        label=s.label,
        x=[float(s.x[j]) for j in keep],
        y=[scale * float(s.y[j]) for j in keep],
        low=[scale * float(s.low[j]) for j in keep] if len(s.low) else (),
        high=[scale * float(s.high[j]) for j in keep] if len(s.high) else (),
        style=s.style,
        bars=s.bars,
        filled=filled,
        dashed=s.dashed,
        marked=s.marked,
        linked=s.linked,
        names=[s.names[j] for j in keep] if len(s.names) else (),
    )


def _fitted(values: Sequence[float], start: float, end: float) -> Axis:
    """An x axis without room at its ends."""
    low, high = min(values), max(values)
    apart = high - low > 1e-9 * max(abs(low), abs(high))
    return Axis(low, high if apart else low + 1.0, start, end)


def _lines(s: Series, x_axis: Axis, y_axis: Axis) -> Iterator[Mark]:
    """Band and line of a series."""
    if not len(s.x):
        return
    second = " second" if s.style == "second" else ""
    x, y = [x_axis.at(v) for v in s.x], [y_axis.at(v) for v in s.y]
    if len(s.low):
        highs = [(a, y_axis.at(v)) for a, v in zip(x, s.high, strict=True)]
        lows = [(a, y_axis.at(v)) for a, v in zip(x, s.low, strict=True)]
        if s.bars or len(x) == 1 or second:  # a band needs two ends, and two hide each other
            limits = zip(highs, lows, strict=True)
            yield Stroke(
                "ci" if s.bars == "strong" else "thin" + second,
                "".join(f"M{a:g} {hi:g}V{lo:g}" for (a, hi), (_, lo) in limits),
            )
        else:
            yield Stroke("inner", ring([*highs, *reversed(lows)]))
    if len(x) > 1 and s.linked:
        yield Stroke(_line_style(s), joined(list(zip(x, y, strict=True))))


def _line_style(s: Series) -> str:
    """The class of a series' line."""
    if s.style == "faint":
        return "grid"
    second = " second" if s.style == "second" else ""
    return f"line{second}" + (" dashed" if s.dashed or second else "")


def _dots(s: Series, x_axis: Axis, y_axis: Axis) -> Iterator[Mark]:
    """The points of a series."""
    if not s.marked:
        return
    second = " second" if s.style == "second" else ""
    filled = [s.filled] * len(s.x) if isinstance(s.filled, bool) else list(s.filled)
    for a, b, full in zip(s.x, s.y, filled, strict=True):
        yield Dot(f"dot{second}" + ("" if full else " hollow"), x_axis.at(a), y_axis.at(b))


def _names(s: Series, x_axis: Axis, y_axis: Axis, taken: Sequence[Words]) -> Iterator[Mark]:
    """What stands beside the points of a series, where it does not meet what is taken."""
    free = -math.inf
    for value, level, text in zip(s.x, s.y, s.names, strict=False):
        x = x_axis.at(value)
        left = x > (_LEFT + _RIGHT) / 2
        style, shift = ("tick halo end", -6) if left else ("tick halo start", 6)
        name = Words(style, round(x + shift, 1), round(y_axis.at(level) - 5, 1), text)
        if not text or abs(x - free) < _APART or any(_meet(name, other) for other in taken):
            continue
        free = x
        yield name


def _ring_name(x: float, y: float, name: str, base: float) -> Words:
    """The name of a ring, on the side with more room; to its left below it, where there is room."""
    left = x > (_LEFT + _RIGHT) / 2
    text = shortened(name, max(int((x - _LEFT if left else _RIGHT - x) / _PER_LETTER), 8))
    style = "tick halo end" if left else "tick halo start"
    below = left and y + 24 < base
    return Words(style, round(x, 1), round(y + 19 if below else y - 11, 1), text)


def _meet(one: Words, other: Words) -> bool:
    """Whether two texts would run into each other."""
    ends = []
    for words in (one, other):
        width = _PER_LETTER * len(words.text)
        ends.append(
            (words.x - width, words.x) if "end" in words.style else (words.x, words.x + width)
        )
    (start, end), (begin, until) = ends
    return abs(one.y - other.y) < _LINE and start < until and begin < end


def _row_marks(row: Row, y: float, axis: Axis, scale: float) -> Iterator[Mark]:
    """Label, numbers and marks of one row."""
    room = int((_RIGHT - _EDGE) / _PER_LETTER) - len(row.text) - 2
    yield Words("halo", _EDGE, y - 4, shortened(row.label, max(room, 8)))
    yield Words("halo end num", _RIGHT, y - 4, row.text)
    middle = axis.at(scale * row.middle)
    if row.bar_from is not None:
        start = axis.at(scale * row.bar_from)
        left, width = min(start, middle), round(max(abs(middle - start), 0.8), 1)
        yield Box("bar strong" if row.filled else "bar", left, y + 2, width, 12)
    if len(row.values):
        ticks = "".join(f"M{axis.at(scale * v):g} {y + 3:g}v10" for v in row.values)
        yield Stroke("strip", ticks)
    if row.low is not None and row.high is not None:
        low, high = axis.at(scale * row.low), axis.at(scale * row.high)
        yield Stroke("ci", f"M{low:g} {y + 8:g}H{high:g}M{low:g} {y + 4:g}v8M{high:g} {y + 4:g}v8")
    if row.target is not None:
        yield Stroke("diamond", diamond(axis.at(scale * row.target), y + 8))
    if row.bar_from is None:
        yield Dot("dot" if row.filled else "dot hollow", middle, y + 8, 4)


def _values_of(row: Row) -> Iterator[float]:
    """Everything that a row needs room for."""
    yield row.middle
    yield from row.values
    for value in (row.low, row.high, row.target, row.bar_from):
        if value is not None:
            yield value


def _legend_rows(legend: Sequence[Series]) -> int:
    """Lines that the names of the series take."""
    return len(_legend_places(legend)[1]) if legend else 0


def _legend_places(legend: Sequence[Series]) -> tuple[list[tuple[float, int]], set[int]]:
    """Where each name stands (x, line), and the lines that are used."""
    places, x, line = [], _EDGE, 0
    for s in legend:
        width = 26 + _PER_LETTER * len(s.label) + 14
        if x > _EDGE and x + width > _RIGHT:
            x, line = _EDGE, line + 1
        places.append((x, line))
        x += width
    return places, {line for _, line in places}


def _legend(legend: Sequence[Series]) -> Iterator[Mark]:
    """A sample of each line with its name."""
    for s, (x, line) in zip(legend, _legend_places(legend)[0], strict=True):
        y = 10.0 + 16.0 * line
        second = " second" if s.style == "second" else ""
        if s.linked:
            yield Stroke(_line_style(s), level_line(y - 4, x, x + 20))
        if s.bars:
            yield Stroke("ci" if s.bars == "strong" else "thin", upright(x + 10, y - 10, y + 2))
        if s.marked:
            yield Dot(f"dot{second}" + ("" if s.filled is True else " hollow"), x + 10, y - 4)
        yield Words("tick start", x + 26, y, shortened(s.label, 46))


def _y_grid(axis: Axis) -> Iterator[Mark]:
    """Grid lines with their values."""
    for tick in axis.ticks():
        yield Stroke("grid", level_line(tick.at, _LEFT, _RIGHT))
        yield Words("tick end", _LEFT - 4, tick.at + 4, tick.text)


def _up_marks(guides: Sequence[Guide], axis: Axis, top: float, base: float) -> Iterator[Mark]:
    """Vertical lines with their names."""
    for guide in guides:
        x = axis.at(guide.at)
        yield Stroke("truth", upright(x, top, base))
        if guide.text:
            left = x > (_LEFT + _RIGHT) / 2
            style, shift = ("tick halo end", -4) if left else ("tick halo start", 4)
            yield Words(style, x + shift, top + 10, guide.text)


def _x_marks(axis: Axis, base: float, ticks: Sequence[tuple[float, str]] | None) -> Iterator[Mark]:
    """The x axis with its ticks; the ones at the ends stay within the picture."""
    yield Stroke("axis", level_line(base, _LEFT, _RIGHT))
    known = [(axis.at(v), text) for v, text in ticks] if ticks is not None else None
    places = known if known is not None else [(t.at, t.text) for t in axis.ticks()]
    free = -math.inf
    for x, text in places:
        half = _PER_LETTER * len(text) / 2
        at = min(max(x, _LEFT - 10 + half), _RIGHT - half + 4)
        yield Stroke("axis", f"M{x:g} {base:g}v4")
        if at - half < free:
            continue
        free = at + half + 4
        yield Words("tick mid", round(at, 1), base + 16, text)
