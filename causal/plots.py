"""Drawings of effects, curves and designs; those of panels are in `causal.panel`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from causal.words import estimand_in_words, number_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import Effect, EffectCurve


_FAR = 3.0  # times the upper quartile of designs: drawn at the edge
_PER_LETTER, _LINE = 4.6, 11.0  # width and height of small text, in points
_INDEX_WORDS = {
    "burn_in": "burn-in",
    "carryover": "carry-over",
    "event_time": "event time",
    "since_switch": "since the switch",
}


def legend_above(ax: Axes, n_columns: int = 3) -> None:
    """The legend above the axes, where it covers nothing that was drawn."""
    ax.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=n_columns, fontsize="small"
    )


def draw_effect(effect: Effect, ax: Axes | None = None, *, level: float = 0.95) -> Axes:
    """Draw one estimate with its interval and a line at no effect."""
    ax = plt.subplots(figsize=(6, 1.6), layout="constrained")[1] if ax is None else ax
    low, high = effect.conf_int(level)
    ax.axvline(0, color="0.6", linewidth=1)
    ax.plot([low, high], [0, 0], color="C0", linewidth=2)
    ax.plot([effect.estimate], [0], "o", color="C0")
    ax.set_yticks([0], [estimand_in_words(effect.estimand)], parse_math=False)
    ax.set_ylim(-1, 1)
    ax.set_xlabel(f"estimate and {100 * level:.4g}% interval")
    return ax


def draw_curve(curve: EffectCurve, ax: Axes | None = None, *, level: float = 0.95) -> Axes:
    """Draw a curve with its pointwise intervals as bars and its simultaneous band as thin bars."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    numeric = all(
        isinstance(label, int | float) and not isinstance(label, bool) for label in curve.index
    )
    x = np.asarray(curve.index if numeric else range(len(curve)), dtype=float)
    point, band = curve.conf_int(level), curve.conf_int(level, simultaneous=True)
    ax.axhline(0, color="0.6", linewidth=1)
    ax.vlines(x, band[:, 0], band[:, 1], color="C0", linewidth=1, label="simultaneous")
    ax.vlines(x, point[:, 0], point[:, 1], color="C0", linewidth=3, alpha=0.5, label="pointwise")
    ax.plot(x, curve.estimate, "o", color="C0")
    if not numeric:
        ax.set_xticks(x, [str(label) for label in curve.index], parse_math=False)
    elif all(isinstance(label, int) for label in curve.index):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no day 1.5
    unit = curve.details.get("index_unit")
    name = _INDEX_WORDS.get(curve.index_name, curve.index_name)
    ax.set_xlabel(f"{name} ({unit})" if unit else name, parse_math=False)
    ax.set_ylabel(estimand_in_words(curve.estimand), parse_math=False)
    legend_above(ax)
    return ax


def draw_power(
    table: pd.DataFrame, ax: Axes | None = None, *, mde: float | None, power: float
) -> Axes:
    """Draw power (columns effect, power, mc_se) with two Monte Carlo errors, and where it is met.

    `mde` is the effect that has the power `power`; None leaves its line out.
    """
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    sorted_ = table.sort_values("effect")
    x, y, error = (sorted_[name].to_numpy(dtype=float) for name in ("effect", "power", "mc_se"))
    ax.fill_between(x, y - 2 * error, y + 2 * error, color="C0", alpha=0.25, linewidth=0)
    ax.plot(x, y, "o-", color="C0")
    ax.axhline(power, color="0.6", linewidth=1)
    if mde is not None:
        ax.axvline(mde, color="0.6", linewidth=1, linestyle="--")
        label = f"{number_in_words(mde)}"
        ax.annotate(label, (mde, 0.02), (4, 0), textcoords="offset points", color="0.3")
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("effect")
    ax.set_ylabel("power")
    return ax


def draw_mde_timeline(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the smallest effect that is found against days; hollow where it is extrapolated.

    Takes what `mde_timeline` returned: columns days, mde and extrapolated; infinite effects are
    left out.
    """
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    found = table[np.isfinite(table["mde"].to_numpy(dtype=float))].sort_values("days")
    x, y = (found[name].to_numpy(dtype=float) for name in ("days", "mde"))
    beyond = found["extrapolated"].to_numpy(dtype=bool)
    ax.plot(x, y, color="C0", linewidth=1)
    ax.plot(x[~beyond], y[~beyond], "o", color="C0", label="within the pilot")
    ax.plot(x[beyond], y[beyond], "o", color="C0", mfc="white", label="longer than the pilot")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("days")
    ax.set_ylabel("smallest effect that is found")
    legend_above(ax)
    return ax


def draw_waterfall(
    start: tuple[str, float],
    steps: Sequence[Effect],
    end: str,
    ax: Axes | None = None,
    *,
    level: float = 0.95,
) -> Axes:
    """Draw a level, the effects that lead from it to another, each with its interval, and that."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    before = start[1] + np.cumsum([0.0, *(step.estimate for step in steps)])
    ax.bar(0, before[0], color="0.7", width=0.6)
    ax.bar(len(steps) + 1, before[-1], color="0.7", width=0.6)
    for j, step in enumerate(steps, start=1):
        low, high = step.conf_int(level)
        color = "C0" if step.estimate >= 0 else "C3"
        ax.bar(j, step.estimate, bottom=before[j - 1], color=color, width=0.6, alpha=0.7)
        ax.vlines(j, before[j - 1] + low, before[j - 1] + high, color="0.2", linewidth=1.5)
    ax.hlines(before, np.arange(len(before)) - 0.3, np.arange(len(before)) + 1.3, color="0.4", lw=1)
    made = [estimand_in_words(step.estimand).replace(" ", "\n") for step in steps]
    ax.set_xticks(range(len(made) + 2), [start[0], *made, end], parse_math=False)
    ax.set_ylabel(f"level, and {100 * level:.4g}% intervals of the steps")
    return ax


def draw_responses(lines: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each arm's mean over the treated share, and its fit: dashed where it is drawn out.

    `lines` has the columns share, arm (0, 1), mean, fitted and n_cells, 0 where nothing was tried.
    """
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    for arm, name, color in ((0, "control", "0.4"), (1, "treatment", "C0")):
        of_arm = lines[lines["arm"] == arm].sort_values("share")
        tried = of_arm[of_arm["n_cells"] > 0]
        ax.plot(of_arm["share"], of_arm["fitted"], "--", color=color, linewidth=1)
        ax.plot(tried["share"], tried["fitted"], color=color, linewidth=2, label=name)
        ax.plot(tried["share"], tried["mean"], "o", color=color)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("treated share")
    ax.set_ylabel("mean outcome")
    legend_above(ax)
    return ax


def draw_paths(
    draws: NDArray[np.float64],
    observed: float,
    p_value: float,
    ax: Axes | None = None,
    *,
    labels: tuple[str, str] = ("estimate over its error, on each path", "paths"),
) -> Axes:
    """Draw the statistics of the paths that coins could have taken, and the observed one."""
    ax = plt.subplots(figsize=(7, 3), layout="constrained")[1] if ax is None else ax
    reach = 1.5 * max(abs(observed), float(np.quantile(np.abs(draws), 0.995)))
    ax.hist(np.clip(draws, -reach, reach), bins=41, range=(-reach, reach), color="0.75")
    ax.axvline(observed, color="C0", linewidth=2, label=f"observed, p = {p_value:.3g}")
    ax.axvline(-observed, color="C0", linewidth=1, linestyle=":")
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    legend_above(ax)
    return ax


def estimates_by_row(
    rows: Mapping[str, NDArray[np.float64]],
    *,
    truth: float,
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw estimates of several methods, a row each, over one axis with the truth as a line."""
    ax = (
        plt.subplots(figsize=(7, 1.2 + 0.5 * len(rows)), layout="constrained")[1]
        if ax is None
        else ax
    )
    places = range(len(rows), 0, -1)
    for place, values in zip(places, rows.values(), strict=True):
        one, mean = ("one experiment", "their mean") if place == len(rows) else (None, None)
        at = np.full(len(values), place)
        ax.plot(values, at, "|", color="C0", alpha=0.5, markersize=12, label=one)
        ax.plot([values.mean()], [place], "o", color="C0", label=mean)
    ax.axvline(truth, color="C3", linewidth=1.5, label="truth")
    ax.set_yticks(list(places), list(rows), parse_math=False)
    ax.set_ylim(0.4, len(rows) + 0.6)
    ax.set_xlabel(label)
    legend_above(ax)
    return ax


def truth_and_estimates(table: pd.DataFrame, *, label: str, ax: Axes | None = None) -> Axes:
    """Draw each method's estimate and interval, its own target as a cross, the truth as a line.

    Parameters
    ----------
    table : DataFrame
        Columns method, estimate, low, high, target, truth.
    label : str
        Of the axis.
    """
    ax = (
        plt.subplots(figsize=(7, 1.2 + 0.5 * len(table)), layout="constrained")[1]
        if ax is None
        else ax
    )
    place = np.arange(len(table), 0, -1)
    ax.hlines(place, table["low"], table["high"], color="C0", linewidth=2)
    ax.plot(table["estimate"], place, "o", color="C0", label="estimate, 95% interval")
    ax.plot(table["target"], place, "x", color="0.2", label="its own target")
    ax.axvline(float(table["truth"].iloc[0]), color="C3", linewidth=1.5, label="truth")
    ax.set_yticks(place, list(table["method"]), parse_math=False)
    ax.set_ylim(0.4, len(table) + 0.6)
    ax.set_xlabel(label)
    legend_above(ax)
    return ax


def bias_and_error(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw designs by largest bias and standard error; rotations without burn-in on a path.

    Designs far beyond the others stand at the edge, so that they do not squeeze the rest.

    Parameters
    ----------
    table : DataFrame
        Columns design, slice_minutes, burn_in_minutes, bias_low, bias_high, std_error, rejected;
        the best design in the first row.
    """
    ax = plt.subplots(figsize=(7, 4.5), layout="constrained")[1] if ax is None else ax
    shown = table[table["std_error"].notna()]
    bias = np.abs(shown[["bias_low", "bias_high"]].to_numpy()).max(axis=1)
    error = shown["std_error"].to_numpy()
    x, y = (np.minimum(values, _edge(values)) for values in (error, bias))
    beyond = (x < error) | (y < bias)
    may = (shown["rejected"] == "").to_numpy()
    plain = shown["burn_in_minutes"].to_numpy() == 0
    order = np.flatnonzero(plain & ~beyond)
    order = order[np.argsort(shown["slice_minutes"].to_numpy()[order])]
    ax.plot(x[order], y[order], color="C0", linewidth=1, alpha=0.5, label="longer slices")
    for some, color, label in ((may, "C0", "may be run"), (~may, "0.6", "rejected")):
        ax.plot(x[some & ~beyond], y[some & ~beyond], "o", color=color, label=label)
        ax.plot(x[some & beyond], y[some & beyond], "^", color=color, mfc="white")
    if beyond.any():
        ax.plot([], [], "^", color="0.4", mfc="white", label="beyond the axes")
    ax.plot(x[:1], y[:1], "*", color="C3", markersize=14, label="recommended")
    ax.margins(0.08, 0.1)
    named = [0, *np.flatnonzero(beyond), *order, *np.flatnonzero(shown["slice_minutes"].isna())]
    names = [name.removeprefix("switchback ") for name in shown["design"]]
    _name_apart(ax, [(x[k], y[k], names[k]) for k in dict.fromkeys(named)])
    ax.set_xlabel("standard error (units of the outcome)")
    ax.set_ylabel("largest bias (units of the outcome)")
    legend_above(ax)
    return ax


def _edge(values: NDArray[np.float64]) -> float:
    """Where the axis ends: at the largest value, unless it lies far beyond most."""
    return min(float(values.max()), _FAR * float(np.quantile(values, 0.75)) or math.inf)


def _name_apart(ax: Axes, named: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points, the first ones first; one that would cover another is left out."""
    ax.figure.canvas.draw()  # places points, in pixels
    per_point = ax.figure.get_dpi() / 72
    taken: list[tuple[float, float, float]] = []
    middle = ax.transAxes.transform((0.5, 0.5))[0]
    for x, y, name in named:
        at, level = ax.transData.transform((x, y)) / per_point
        width, left = _PER_LETTER * len(name), at * per_point > middle
        start = at - 5 - width if left else at + 5
        if any(abs(level - b) < _LINE and start < e and a < start + width for a, e, b in taken):
            continue
        taken.append((start, start + width, level))
        ax.annotate(
            name,
            (x, y),
            (-5 if left else 5, 3),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8,
            parse_math=False,
        )
