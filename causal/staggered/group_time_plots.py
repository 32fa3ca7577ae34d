"""Drawings of group-time effects and of what is aggregated from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from causal.did.plots import draw_event_times, draw_points, effect_on, legend_and_title
from causal.words import number_in_words, p_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.staggered.aggregation import Aggregation
    from causal.staggered.group_time_result import GroupTimeEffects

_MOST_LABELS = 20
_MOST_DECIMALS = 6
_MOST_NUMBERS = 120  # cells whose estimates are written into them
_MOST_LETTERS = 110  # that stand beside each other in all cells of a row
_WORDS = {"cohort": "first treated", "time": "time", "effect": "mean"}


def draw_group_time(result: GroupTimeEffects, ax: Axes | None = None) -> Axes:
    """Draw cells as a heat map; those whose simultaneous 95 % band excludes 0 have a dot."""
    ax = plt.subplots(figsize=(8, 4), layout="constrained")[1] if ax is None else ax
    frame = result.to_frame()
    cohorts, times = result.shares["cohort"].tolist(), list(result.times)
    row = np.array([cohorts.index(c) for c in frame["cohort"].tolist()])
    column = np.array([times.index(t) for t in frame["time"].tolist()])
    estimate = frame["estimate"].to_numpy()
    grid = np.full((len(cohorts), len(times)), np.nan)
    grid[row, column] = estimate
    reach = float(np.abs(estimate).max()) or 1.0
    image = ax.imshow(grid, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    bar = ax.figure.colorbar(image, ax=ax)
    bar.set_label(effect_on(result.effect.details), parse_math=False)
    clear = (frame["low_simultaneous"] > 0) | (frame["high_simultaneous"] < 0)
    clear &= frame["std_error"] > 0
    _starts(ax, result, row, column)
    words = _alike(estimate, reach)
    written = len(frame) <= _MOST_NUMBERS
    written &= (max(map(len, words)) + 1) * len(times) <= _MOST_LETTERS
    colors = np.where(np.abs(estimate) > 0.6 * reach, "w", "0.2").tolist()
    if written:
        for r, c, text, color in zip(row, column, words, colors, strict=True):
            ax.text(c, r, text, ha="center", va="center", fontsize=7, color=color)
    below = row + (0.3 if written else 0.0)
    ax.scatter(column[clear], below[clear], s=20, c=np.array(colors)[clear].tolist(), linewidths=0)
    _labels(ax, cohorts, times)
    title = f"effect on each cohort in each period, n = {result.effect.n_obs:,}"
    ax.set_title(f"{title}\nleft of the line: before treatment; dot: band excludes 0", loc="left")
    return ax


def draw_aggregation(
    result: Aggregation, ax: Axes | None = None, *, simultaneous: bool = True
) -> Axes:
    """Draw points as an event study's are drawn, with the number of treated units below."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    curve = result.curve
    events = result.kind == "event"
    x = np.array(curve.index if events else range(len(curve)), dtype=np.float64)
    shown = curve.std_error > 0 if (curve.std_error > 0).any() else np.ones(len(x), dtype=bool)
    draw_points(ax, curve, x, shown, simultaneous=simultaneous)
    if events:
        draw_event_times(ax, curve, result.n_treated)
    else:
        _ticks(ax, [f"{label}\n{result.n_treated[label]:,}" for label in curve.index])
        ax.set_xlabel(f"{_WORDS[curve.index_name]}; below: treated units")
    more = f"; overall {number_in_words(result.estimate, sign=True)}"
    if result.pretrend is not None:
        more += f"; before the start: joint {p_in_words(result.pretrend.p_value)}"
    legend_and_title(ax, result.effect, more)
    return ax


def _alike(values: NDArray[np.float64], reach: float) -> list[str]:
    """Numbers with as many decimals as give the largest two digits."""
    decimals = max(0, 1 - math.floor(math.log10(reach)))
    if decimals > _MOST_DECIMALS:
        return [number_in_words(value, 2) for value in values]
    return [f"{round(value, decimals) + 0.0:,.{decimals}f}" for value in values]


def _starts(ax: Axes, result: GroupTimeEffects, row: np.ndarray, column: np.ndarray) -> None:
    """A line in front of each cohort's first treated period."""
    event = result.cells["event_time"].to_numpy()
    for r in np.unique(row):
        start = float((column - event)[row == r][0]) - 0.5
        ax.plot([start, start], [r - 0.5, r + 0.5], color="0.1", linewidth=2)


def _labels(ax: Axes, cohorts: Sequence[object], times: Sequence[object]) -> None:
    """Cohorts down and times along, not more than fit."""
    _ticks(ax, times)
    step = -(-len(cohorts) // _MOST_LABELS)
    rows = range(0, len(cohorts), step)
    ax.set_yticks(list(rows), [str(cohorts[j]) for j in rows], parse_math=False)
    ax.set_xlabel("time")
    ax.set_ylabel("first treated")


def _ticks(ax: Axes, labels: Sequence[object]) -> None:
    """Labels along, not more than fit; long ones are turned."""
    step = -(-len(labels) // _MOST_LABELS)
    at = range(0, len(labels), step)
    words = [str(labels[j]) for j in at]
    turn = 45 if len(words) * max(map(len, words)) > 80 else 0
    ax.set_xticks(
        list(at), words, rotation=turn, ha="right" if turn else "center", parse_math=False
    )
