"""A drawing as a list of marks: what `svg_charts` lays out and `picture.svg.j2` writes.

Every picture is 360 units wide, as the drawings of `svg`. Marks carry a class of the page's style
instead of a colour; text stays text, and is escaped where it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    kind: ClassVar[str] = "box"

    style: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Stroke:
    """A path; `d` is made of numbers by this module's functions."""

    kind: ClassVar[str] = "stroke"

    style: str
    d: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A circle."""

    kind: ClassVar[str] = "dot"

    style: str
    x: float
    y: float
    r: float = 3.0


@dataclass(frozen=True, slots=True)
class Words:
    """A text."""

    kind: ClassVar[str] = "words"

    style: str
    x: float
    y: float
    text: str


Mark: TypeAlias = Box | Stroke | Dot | Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Marks in their order, with the words for those who cannot see them."""

    title: str
    description: str
    caption: str
    height: float
    marks: tuple[Mark, ...]
    template: str = "picture.svg.j2"


def joined(points: Sequence[tuple[float, float]]) -> str:
    """Path through points."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def ring(points: Sequence[tuple[float, float]]) -> str:
    """Closed path through points."""
    return joined(points) + "Z"


def level_line(y: float, start: float, end: float) -> str:
    """A horizontal line."""
    return f"M{start:g} {y:g}H{end:g}"


def upright(x: float, start: float, end: float) -> str:
    """A vertical line."""
    return f"M{x:g} {start:g}V{end:g}"


def boxes(corners: Sequence[tuple[float, float, float, float]]) -> str:
    """Many rectangles (x, y, width, height) as one path."""
    return "".join(f"M{x:g} {y:g}h{w:g}v{h:g}h{-w:g}z" for x, y, w, h in corners)


def hatching(corners: Sequence[tuple[float, float, float, float]], step: float = 3.0) -> str:
    """Slanted lines inside rectangles, as one path."""
    parts = []
    for x, y, w, h in corners:
        offset = step / 2
        while offset < w + h:
            x1, y1 = (x + offset, y) if offset <= w else (x + w, y + offset - w)
            x2, y2 = (x, y + offset) if offset <= h else (x + offset - h, y + h)
            parts.append(f"M{round(x1, 1):g} {round(y1, 1):g}L{round(x2, 1):g} {round(y2, 1):g}")
            offset += step
    return "".join(parts)


def diamond(x: float, y: float, r: float = 5.0) -> str:
    """A small diamond around a point."""
    return f"M{x:g} {y - r:g}l{r:g} {r:g}l{-r:g} {r:g}l{-r:g} {-r:g}z"
