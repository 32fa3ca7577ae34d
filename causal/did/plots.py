"""Drawings of event studies, of strata, and of what could overturn them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from causal.distributions import critical_value
from causal.plots import legend_above
from causal.words import estimand_in_words, number_in_words, p_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.did.event_study import EventStudy
    from causal.did.strata import StratifiedDid
    from causal.effect import Effect, EffectCurve
    from causal.sensitivity.honest import HonestDid
    from causal.sensitivity.pretrend import Equivalence, PretrendPower


def draw_event_study(
    study: EventStudy, ax: Axes | None = None, *, simultaneous: bool = True, level: float = 0.95
) -> Axes:
    """Draw effects by event time with pointwise bars, and the band that holds for all at once.

    Time before the start is shaded, the reference is hollow, and the number of treated units
    behind each point stands below it.
    """
    ax = plt.subplots(figsize=(8, 4.5), layout="constrained")[1] if ax is None else ax
    curve = study.curve
    time = np.array(curve.index, dtype=np.float64)
    shown = time != study.reference if study.reference is not None else np.ones(len(time), bool)
    draw_points(ax, curve, time, shown, simultaneous=simultaneous, level=level)
    draw_event_times(ax, curve, study.n_units_by_event_time)
    test = study.pretrend
    more = "" if test is None else f"; before the start: joint {p_in_words(test.p_value)}"
    legend_and_title(ax, study.effect, more)
    return ax


_MOST_EVENTS = 16


def draw_points(
    ax: Axes,
    curve: EffectCurve,
    x: NDArray[np.float64],
    shown: NDArray[np.bool_],
    *,
    simultaneous: bool,
    level: float = 0.95,
) -> None:
    """Draw a curve at places `x`: points, pointwise bars, the band; hollow where not `shown`."""
    percent = f"{100 * level:.4g}%"
    ax.axhline(0, color="0.6", linewidth=1)
    if simultaneous:
        low, high = curve.conf_int(level, simultaneous=True)[shown].T
        words = f"{percent} band of all points"
        ax.bar(x[shown], high - low, 0.6, low, color="C0", alpha=0.2, label=words)
        ax.use_sticky_edges = False  # of bars, which would end at the frame
    words = f"{percent} interval of each"
    ax.vlines(x[shown], *curve.conf_int(level)[shown].T, color="C0", linewidth=2, label=words)
    ax.plot(x[shown], curve.estimate[shown], "o", color="C0")
    if not shown.all():
        off = curve.estimate[~shown]
        ax.plot(x[~shown], off, "o", color="C0", mfc="white", label="reference")
    ax.set_xlim(x.min() - 0.6, x.max() + 0.6)
    ax.set_ylabel(effect_on(curve.details), parse_math=False)


def draw_event_times(ax: Axes, curve: EffectCurve, n_units: Mapping[Any, int]) -> None:
    """Shade the time before the start; event times along, with treated units below."""
    time = [int(str(e)) for e in curve.index]
    ax.axvspan(min(time) - 0.6, -0.5, color="0.95", zorder=0)
    every = max(1, -(-len(time) // _MOST_EVENTS))
    ticks = [e for e in time if e % every == 0]
    ax.set_xticks(ticks, [f"{e}\n{n_units.get(e, 0):,}" for e in ticks])
    ax.set_xlabel("event time; below: treated units")


def effect_on(details: Mapping[str, Any]) -> str:
    """What an axis of effects shows: the outcome's name and unit, where they are known."""
    name, unit = details.get("outcome"), details.get("unit")
    words = f"effect on {name}" if name else "effect"
    return f"{words} ({unit})" if unit else words


def draw_strata(found: StratifiedDid, ax: Axes | None = None, *, level: float = 0.95) -> Axes:
    """Draw the strata's intervals with their weights, and diamonds of both ways to join them."""
    n = len(found.curve)
    if ax is None:
        ax = plt.subplots(figsize=(8, 1.8 + 0.4 * (n + 2)), layout="constrained")[1]
    ax.axvline(0, color="0.6", linewidth=1)
    limits = found.curve.conf_int(level)
    largest = max(found.weights.values()) or 1.0
    for j, label in enumerate(found.curve.index):
        estimate, weight = float(found.curve.estimate[j]), found.weights[label]
        y, (low, high) = n + 1 - j, limits[j]
        ax.plot([low, high], [y, y], color="C0", linewidth=2)
        ax.plot(estimate, y, "s", color="C0", markersize=4 + 6 * np.sqrt(weight / largest))
        _beside(ax, y, f"{100 * weight:.3g}%", estimate, low, high)
    for y, effect, color in ((1, found.effect, "C3"), (0, found.pooled, "0.6")):
        low, high = effect.conf_int(level)
        corners = [(low, y), (effect.estimate, y + 0.25), (high, y), (effect.estimate, y - 0.25)]
        ax.fill(*zip(*corners, strict=True), color=color)
        _beside(ax, y, "", effect.estimate, low, high)
    ax.axhline(1.5, color="0.8", linewidth=1)
    _column(ax, n + 2, 1.02, "weight")
    _column(ax, n + 2, 1.15, f"effect, {100 * level:.4g}% interval")
    names = [*(str(label) for label in found.curve.index), "stratified", "pooled"]
    ax.set_yticks(range(n + 1, -1, -1), names, parse_math=False)
    ax.set_ylim(-0.6, n + 2.2)
    label, q = "effect", found.heterogeneity
    if q is not None:
        label += f"; one in all strata: Q = {number_in_words(q.statistic)}, {q.df} df, "
        label += p_in_words(q.p_value)
    ax.set_xlabel(label)
    ax.set_title(_title(found.effect), loc="left", parse_math=False)
    return ax


def _beside(ax: Axes, y: float, weight: str, estimate: float, low: float, high: float) -> None:
    """A row's numbers at its right."""
    _column(ax, y, 1.02, weight)
    interval = f"{number_in_words(low)} to {number_in_words(high)}"
    _column(ax, y, 1.15, f"{number_in_words(estimate, sign=True)} ({interval})")


def _column(ax: Axes, y: float, x: float, text: str) -> None:
    """A text at the right of the axes, at a row."""
    ax.text(x, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize="small")


def draw_honest(result: HonestDid, ax: Axes | None = None) -> Axes:
    """Draw the interval at each bound, the one under parallel trends and the breakdown."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    bound, low, high = (result.frame[c].to_numpy() for c in ("bound", "lower", "upper"))
    gaps = np.diff(bound)
    left = bound[0] - (gaps.min() if len(gaps) else 1.0)
    ax.axhline(0, color="0.6", linewidth=1)
    ax.vlines([left], *result.original, color="0.6", linewidth=3, label="parallel trends")
    ax.vlines(bound, low, high, color="C0", linewidth=3, label="when they differ, up to the bound")
    ax.plot([left], [result.estimate], "o", color="0.6")
    if bound[0] <= result.breakdown <= bound[-1]:
        words = f"breakdown {number_in_words(result.breakdown)}"
        ax.axvline(result.breakdown, color="C3", linewidth=1, linestyle="--", label=words)
    ticks = bound if len(bound) <= _MOST_TICKS else bound[:: -(-len(bound) // _MOST_TICKS)]
    ax.set_xticks([left, *ticks], ["", *(number_in_words(m) for m in ticks)])
    ax.set_xlabel(_BOUNDS[result.kind])
    words = f"{100 * result.level:.4g}% interval of the {effect_on(result.effect.details)}"
    ax.set_ylabel(words, parse_math=False)
    legend_and_title(ax, result.effect)
    return ax


_MOST_TICKS = 10
_BOUNDS = {
    "relative_magnitude": "change of the trends, in the largest change before treatment",
    "smoothness": "change of slope from period to period",
}


def draw_pretrend_power(result: PretrendPower, ax: Axes | None = None) -> Axes:
    """Draw the estimates, the trend asked about, and what is expected if it is not found."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    table = result.distortion
    time, estimate = table["event_time"].to_numpy(), table["estimate"].to_numpy()
    half = critical_value(result.level) * table["std_error"].to_numpy()
    ax.axhline(0, color="0.6", linewidth=1)
    ax.vlines(time, estimate - half, estimate + half, color="C0", linewidth=2)
    ax.plot(time, estimate, "o", color="C0", label="estimate")
    trend = f"trend found with probability {result.power:.2f}"
    ax.plot(time, table["hypothesised"], color="C3", label=trend)
    passed = table["expected_given_passing"]
    ax.plot(time, passed, color="0.3", linestyle="--", label="expected if it is not found")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("event time")
    words = f"{effect_on(result.effect.details)}, {100 * result.level:.4g}% interval"
    ax.set_ylabel(words, parse_math=False)
    legend_and_title(ax, result.effect)
    return ax


def draw_equivalence(result: Equivalence, ax: Axes | None = None) -> Axes:
    """Draw the leads with two-sided limits of both one-sided tests, and the bound around 0."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    time, estimate, bound = (result.leads[c] for c in ("event_time", "estimate", "bound"))
    half = (bound - estimate.abs()).clip(lower=0)
    ax.axhline(0, color="0.6", linewidth=1)
    words = f"all leads are within {number_in_words(result.bound)} of 0"
    ax.axhspan(-result.bound, result.bound, color="C2", alpha=0.12, label=words)
    ax.vlines(time, estimate - half, estimate + half, color="C0", linewidth=2)
    ax.plot(time, estimate, "o", color="C0", label="estimate")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("event time")
    ax.set_ylabel(effect_on(result.effect.details), parse_math=False)
    legend_and_title(ax, result.effect)
    return ax


def legend_and_title(ax: Axes, effect: Effect, more: str = "") -> None:
    """Legend above the axes, and above it what is estimated from how much."""
    legend_above(ax)
    ax.set_title(_title(effect) + more, loc="left", pad=24, parse_math=False, fontsize=11)


def _title(effect: Effect) -> str:
    """What is estimated from how many rows."""
    return f"{estimand_in_words(effect.estimand)}, n = {effect.n_obs:,}"
