"""Drawings of synthetic difference-in-differences and of matrix completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from causal.panel.design_plots import place_times
from causal.plots import draw_curve, legend_above
from causal.values import is_number
from causal.words import number_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import EffectCurve
    from causal.synthetic.matrix_completion import FactorEffects
    from causal.synthetic.synthetic_did import SyntheticDiffInDiff
    from causal.values import JsonScalar

_MOST_BARS = 30


def draw_synthetic_did(
    result: SyntheticDiffInDiff, ax: Axes | None = None, *, kind: str = "paths"
) -> Axes:
    """Draw treated and synthetic means, effects by event time, or the largest donors' weights.

    Several cohorts are averaged by event time, each with its number of units.
    """
    if kind == "weights":
        return _draw_weights(result, ax)
    n = result.effect.details
    outcome = str(n["outcome"])
    title = f"Effect on the treated: {n['n_treated']} treated, {n['n_donors']} donors"
    if kind == "curve":
        return titled(_draw_curve(result.curve, outcome, ax), title)
    several = len(result.cohorts) > 1
    path = result.path.merge(result.cohorts[["cohort", "n_units"]], on="cohort")
    for name in ("observed", "synthetic"):
        path[name] *= path["n_units"]
    at = path.groupby("event_time" if several else "time", sort=several)
    means = at[["observed", "synthetic", "n_units"]].sum()
    lines = means[["observed", "synthetic"]].div(means["n_units"], axis=0)
    start = list(lines.index).index(0 if several else result.cohorts["cohort"].iloc[0])
    ax = draw_two(lines, ("treated", "synthetic"), start, outcome, new_axes(ax))
    if not several:
        _shade_times(result.time_weights, list(lines.index), ax)
    return titled(ax, title)


def draw_factor_effects(
    result: FactorEffects, ax: Axes | None = None, *, kind: str = "paths"
) -> Axes:
    """Draw observed and fitted means of treated units, effects by event time, or the penalties."""
    title = f"Effect on the treated: {result.effect.details['n_treated']} treated, "
    title += f"rank {result.rank}"
    outcome = str(result.effect.details["outcome"])
    if kind == "curve":
        return titled(_draw_curve(result.curve, outcome, ax), title)
    if kind == "paths":
        lines = result.path.set_index("event_time")[["observed", "untreated"]]
        start, names = int((lines.index < 0).sum()), ("treated", "fitted, untreated")
        return titled(draw_two(lines, names, start, outcome, new_axes(ax)), title)
    if not len(result.cv_curve):
        raise ValueError("there are no errors to draw: the penalty was given; leave it out")
    ax, table = new_axes(ax), result.cv_curve
    ax.errorbar(
        table["penalty"], table["mse"], yerr=table["std_error"], fmt="o-", color="C0", ecolor="0.7"
    )
    ax.axvline(result.penalty, color="C3", linewidth=1, label="chosen")
    ax.set_xscale("log")
    ax.set_xlabel("penalty of the nuclear norm")
    ax.set_ylabel("mean squared error on hidden cells")
    legend_above(ax)
    return titled(ax, title)


def new_axes(ax: Axes | None) -> Axes:
    """The given axes or new ones."""
    return plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax


def titled(ax: Axes, title: str) -> Axes:
    """The axes with a title, above the legend where there is one."""
    pad = 6.0 if ax.get_legend() is None else 24.0
    ax.set_title(title, loc="left", fontsize=10, pad=pad, parse_math=False)
    return ax


def draw_two(
    lines: pd.DataFrame, names: tuple[str, str], start: int, outcome: str, ax: Axes
) -> Axes:
    """Draw an observed and a counterfactual line over times; `start` is the first treated place."""
    x = mark_start(ax, list(lines.index), str(lines.index.name), start)
    ax.plot(x, lines.iloc[:, 0], color="C0", linewidth=2, label=names[0])
    ax.plot(x, lines.iloc[:, 1], color="C1", linewidth=2, linestyle="--", label=names[1])
    ax.set_ylabel(f"mean of {outcome}", parse_math=False)
    legend_above(ax)
    return ax


def mark_start(
    ax: Axes, labels: Sequence[JsonScalar], name: str, start: int
) -> NDArray[np.float64]:
    """Where times stand on the x axis, named, with a line before the first treated one."""
    x = place_times(ax, labels)
    middle = (x[start - 1] + x[start]) / 2
    ax.axvline(middle, color="0.4", linewidth=1, linestyle=":", label="start")
    ax.set_xlabel(name.replace("_", " "))
    return x


def _draw_curve(curve: EffectCurve, outcome: str, ax: Axes | None) -> Axes:
    """Draw effects by event time."""
    ax = draw_curve(curve, new_axes(ax))
    ax.set_ylabel(f"effect on {outcome}", parse_math=False)
    return ax


def _shade_times(weights: pd.DataFrame, labels: list[object], ax: Axes) -> None:
    """Mark earlier periods at the foot of the axes, as high as their weights."""
    numeric = all(is_number(t) for t in labels)
    x = [float(t) if numeric else labels.index(t) for t in weights["time"]]
    foot = ax.get_xaxis_transform()
    ax.vlines(x, 0, 0.25 * weights["weight"], transform=foot, color="0.5", linewidth=5, alpha=0.6)


def _draw_weights(result: SyntheticDiffInDiff, ax: Axes | None) -> Axes:
    """Draw the largest weights of donors, averaged over treated cells of cohorts."""
    share = result.unit_weights.merge(result.cohorts[["cohort", "weight"]], on="cohort")
    product = share["weight_x"] * share["weight_y"]
    total = product.groupby(share["unit"], sort=False).sum().sort_values(ascending=False)
    top = total.head(_MOST_BARS)[::-1]
    if ax is None:
        size = (6, 1 + 0.22 * len(top))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.barh(range(len(top)), top, color="C0", alpha=0.7)
    ax.set_yticks(range(len(top)), [str(u) for u in top.index], parse_math=False)
    rest = number_in_words(100 * float(total.sum() - top.sum()), 2)
    ax.set_xlabel("weight" if len(top) == len(total) else f"weight; other donors have {rest} %")
    return titled(ax, f"{len(total)} of {result.effect.details['n_donors']} donors have weight")
