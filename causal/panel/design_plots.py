"""Drawings of a panel before anything is estimated: who is seen when, and mean paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from causal.plots import legend_above
from causal.values import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.panel.design import PanelDesign
    from causal.values import JsonScalar

_MOST_TICKS = 12
_LETTERS = 70  # on an x axis
_MOST_NAMES = 12  # cohorts that have a name of their own


def plot_design(design: PanelDesign, ax: Axes | None = None) -> Axes:
    """Draw the share of each cohort's units that is seen in each period, and where it starts.

    A row a cohort, with its number of units; dark where all have a row.
    """
    cohorts = design.cohorts["cohort"].tolist()
    seen = design.balance_by_cohort
    times = list(dict.fromkeys(seen["time"]))
    if ax is None:
        size = (8, 1.8 + 0.34 * min(len(cohorts), 40))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    share = seen["share"].to_numpy(dtype=np.float64).reshape(len(cohorts), len(times))
    picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row, cohort in enumerate(cohorts):
        if cohort in times:
            at = times.index(cohort) - 0.5
            ax.plot([at, at], [row - 0.5, row + 0.5], color="C1", linewidth=3)
    ax.plot([], [], color="C1", linewidth=3, label="start")
    sizes = design.cohorts["n_units"].tolist()
    named = [f"{cohort_words(c)}: {n:,}" for c, n in zip(cohorts, sizes, strict=True)]
    every = max(1, -(-len(cohorts) // 40))
    ax.set_yticks(range(0, len(cohorts), every), named[::every], parse_math=False)
    _name_times(ax, times)
    ax.set_xlabel("time")
    ax.set_ylabel("cohort: units")
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8, boundaries=np.linspace(0, 1, 101))
    bar.set_ticks([0, 0.5, 1], labels=["0%", "50%", "100%"])
    bar.set_label("units with a row")
    legend_above(ax)
    ax.set_title(_counts(design), loc="left", pad=22, fontsize=11)
    return ax


def plot_trajectories(
    design: PanelDesign, ax: Axes | None = None, *, indexed: bool = False
) -> Axes:
    """Draw mean outcomes by cohort over time, each with its start as a diamond.

    `indexed` draws each path in percent of its mean before treatment (for the never treated:
    before the first start); a cohort without a row before is left out.

    Raises
    ------
    ValueError
        If `indexed` and a mean before treatment is 0.
    """
    ax = plt.subplots(figsize=(8, 4.5), layout="constrained")[1] if ax is None else ax
    seen = design.balance_by_cohort
    times = list(dict.fromkeys(seen["time"]))
    x = place_times(ax, times)
    cohorts = design.cohorts["cohort"].tolist()
    starts = [times.index(c) for c in cohorts if c in times]
    first = min((s for s in starts if s > 0), default=len(times))
    paths = seen["mean"].to_numpy(dtype=np.float64).reshape(len(cohorts), len(times))
    colors = _colors(cohorts)
    for k, (cohort, path) in enumerate(zip(cohorts, paths, strict=True)):
        start = times.index(cohort) if cohort in times else None
        drawn = _over_before(path, first if start is None else start, cohort) if indexed else path
        if drawn is None:
            continue
        name = cohort_words(cohort) if k < _MOST_NAMES or cohort is None else None
        width = 2.5 if cohort is None else 1.5
        ax.plot(x, drawn, color=colors[k], linewidth=width, label=name)
        if start is not None:
            ax.plot(x[start], drawn[start], "D", color=colors[k], markersize=6, mec="white")
    ax.plot([], [], "D", color="0.3", markersize=6, label="start")
    ax.set_ylabel("mean outcome, 100 = before treatment" if indexed else "mean outcome")
    ax.set_xlabel("time")
    legend_above(ax, 5)
    lines = -(-(min(len(cohorts), _MOST_NAMES) + 1) // 5)
    ax.set_title(_counts(design), loc="left", pad=6 + 16 * lines, fontsize=11)
    return ax


def place_times(ax: Axes, times: Sequence[JsonScalar]) -> NDArray[np.float64]:
    """Where observed times stand on the x axis, with their ticks."""
    if all(is_number(t) for t in times):
        if all(isinstance(t, int) for t in times):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        return np.asarray(times, dtype=np.float64)
    _name_times(ax, times)
    return np.arange(len(times), dtype=np.float64)


def cohort_words(cohort: JsonScalar) -> str:
    """A cohort's label; never for none."""
    return "never" if cohort is None else str(cohort)


def _name_times(ax: Axes, times: Sequence[JsonScalar]) -> None:
    """Ticks at times that stand side by side, as many as their names leave room for."""
    longest = max(len(str(t)) for t in times)
    most = max(2, min(_MOST_TICKS, _LETTERS // (longest + 2)))
    some = range(0, len(times), max(1, -(-len(times) // most)))
    ax.set_xticks(list(some), [str(times[j]) for j in some], parse_math=False)


def _colors(cohorts: Sequence[JsonScalar]) -> list[str | tuple[float, ...]]:
    """Grey for never, one hue from dark to light for the cohorts in their order."""
    treated = sum(c is not None for c in cohorts)
    shades = iter(plt.get_cmap("viridis")(np.linspace(0, 0.85, max(treated, 1))))
    return ["0.6" if c is None else tuple(next(shades)) for c in cohorts]


def _over_before(
    path: NDArray[np.float64], start: int, cohort: JsonScalar
) -> NDArray[np.float64] | None:
    """A path in percent of its mean before `start`; None without a mean before."""
    before = path[:start][~np.isnan(path[:start])]
    if not len(before):
        return None
    level = float(before.mean())
    if level == 0:
        raise ValueError(
            f"indexed needs a mean other than 0 before treatment; that of cohort "
            f"{cohort_words(cohort)} is 0; draw it with indexed=False"
        )
    return np.asarray(100 * path / level)


def _counts(design: PanelDesign) -> str:
    """Units, periods and rows as a title."""
    treated = design.cohorts["cohort"].notna()
    n = int(pd.to_numeric(design.cohorts.loc[treated, "n_units"]).sum())
    return (
        f"{n:,} of {design.n_units:,} units treated, {design.n_periods} periods, "
        f"n = {design.n_obs:,}"
    )
