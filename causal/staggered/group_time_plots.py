"""Drawings of group-time effects and of what is aggregated from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from causal.plots import legend_above
from causal.words import estimand_in_words, number_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from causal.staggered.aggregation import Aggregation
    from causal.staggered.group_time_result import GroupTimeEffects

_MOST_LABELS = 20
_MOST_NUMBERS = 120  # cells whose estimates are written into them
_WORDS = {"event_time": "event time", "cohort": "first treated", "time": "time", "effect": ""}


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
    ax.figure.colorbar(image, ax=ax, label=estimand_in_words(result.effect.estimand))
    clear = (frame["low_simultaneous"] > 0) | (frame["high_simultaneous"] < 0)
    clear &= frame["std_error"] > 0
    _starts(ax, result, row, column)
    if len(frame) <= _MOST_NUMBERS:
        for r, c, value, sure in zip(row, column, estimate, clear, strict=True):
            words = number_in_words(value, 2) + ("\n•" if sure else "")
            dark = abs(value) > 0.6 * reach
            ax.text(c, r, words, ha="center", va="center", fontsize=7, color="w" if dark else "0.2")
    else:
        ax.plot(column[clear], row[clear], ".", color="0.1")
    _labels(ax, cohorts, times)
    title = f"effect on each cohort in each period, n = {result.effect.n_obs:,}"
    ax.set_title(f"{title}\nleft of the line: before treatment; dot: band excludes 0", loc="left")
    return ax


def draw_aggregation(
    result: Aggregation, ax: Axes | None = None, *, simultaneous: bool = True
) -> Axes:
    """Draw points with pointwise bars and the simultaneous band, 95 %."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    curve = result.curve
    events = result.kind == "event"
    x = np.array(curve.index if events else range(len(curve)), dtype=np.float64)
    low, high = curve.conf_int().T
    ax.axhline(0, color="0.6", linewidth=1)
    if simultaneous:
        wide = curve.conf_int(simultaneous=True)
        ax.vlines(x, *wide.T, color="C0", linewidth=1, label="95 % for all at once")
    ax.vlines(x, low, high, color="C0", linewidth=3, label="95 % each")
    fixed = curve.std_error == 0
    ax.plot(x[~fixed], curve.estimate[~fixed], "o", color="C0", label="estimate")
    if fixed.any():
        ax.plot(x[fixed], curve.estimate[fixed], "o", mfc="w", mec="C0", label="reference")
    if events:
        ax.axvline(-0.5, color="0.6", linewidth=1, linestyle="--")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        _ticks(ax, list(curve.index))
    ax.set_xlabel(_WORDS[curve.index_name])
    ax.set_ylabel("effect")
    legend_above(ax, 4)
    overall = number_in_words(result.estimate, sign=True)
    title = f"{estimand_in_words(result.effect.estimand)}, overall {overall}"
    ax.set_title(f"{title}, n = {result.effect.n_obs:,}", loc="left", pad=24)
    return ax


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
