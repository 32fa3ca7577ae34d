"""Drawings of a synthetic control; imported only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causal.plots import legend_above
from causal.synthetic.factor_plots import draw_two, mark_start, new_axes, titled
from causal.words import number_in_words, p_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.synthetic.synthetic_result import SyntheticControl

_MOST_DONORS, _MOST_PLACEBOS = 15, 200
_PALE = "0.88"


def draw_synthetic(result: SyntheticControl, kind: str, ax: Axes | None = None) -> Axes:
    """Draw one view of a synthetic control; the title states estimand, counts and p-value."""
    ax = new_axes(ax)
    draw = {
        "paths": _draw_paths,
        "gap": _draw_gap,
        "placebo": _draw_placebos,
        "weights": _draw_weights,
        "leave_one_out": _draw_leave_one_out,
    }
    draw[kind](result, ax)
    details = result.effect.details
    title = (
        f"ATT {number_in_words(result.estimate, sign=True)}, {p_in_words(result.p_value)}; "
        f"{len(result.treated)} treated, {details['n_donors']} donors, "
        f"{details['n_before']} + {details['n_after']} periods"
    )
    return titled(ax, title)


def _draw_paths(result: SyntheticControl, ax: Axes) -> None:
    """Observed and synthetic path."""
    lines = result.path[["observed", "synthetic"]].set_axis(list(result.gap.index))
    lines.index.name = result.gap.index_name
    outcome = str(result.effect.details["outcome"])
    draw_two(lines, ("treated", "synthetic"), _start(result), outcome, ax)


def _draw_gap(result: SyntheticControl, ax: Axes) -> None:
    """Observed less synthetic with the placebos' interval."""
    x = _time_axis(result, ax)
    low, high = result.gap.conf_int(result.level).T
    band = f"{100 * result.level:.4g}% interval, from placebos"
    ax.fill_between(x, low, high, color="C0", alpha=0.2, linewidth=0, label=band)
    ax.plot(x, result.gap.estimate, color="C0", linewidth=2, label="treated less synthetic")
    legend_above(ax)


def _draw_placebos(result: SyntheticControl, ax: Axes) -> None:
    """The gap among those of placebos; those that fit badly before the start are pale."""
    x = _time_axis(result, ax)
    fits = result.placebo["in_std_error"].to_numpy(dtype=bool)[1:]
    for shown, color, label in ((~fits, _PALE, "poor fit before"), (fits, "0.65", "placebos")):
        gaps = result.placebo_gaps[shown][:_MOST_PLACEBOS]
        for k, gap in enumerate(gaps):
            ax.plot(x, gap, color=color, linewidth=0.8, label=None if k else label)
    ax.plot(x, result.gap.estimate, color="C0", linewidth=2, label="treated")
    drawn = np.vstack([result.placebo_gaps[fits], result.gap.estimate])
    reach = 1.1 * float(np.abs(drawn).max()) or 1.0
    ax.set_ylim(-reach, reach)
    legend_above(ax, 4)


def _draw_weights(result: SyntheticControl, ax: Axes) -> None:
    """The largest donor weights."""
    shown = list(result.donor_weights.items())[:_MOST_DONORS]
    places = np.arange(len(shown), 0, -1)
    ax.barh(places, [weight for _, weight in shown], color="C0", height=0.6)
    ax.axvline(0, color="0.6", linewidth=1)
    ax.set_yticks(places, [str(name) for name, _ in shown], parse_math=False)
    rest = len(result.donor_weights) - len(shown)
    ax.set_xlabel("weight" if rest <= 0 else f"weight; {rest} more donors have less")


def _draw_leave_one_out(result: SyntheticControl, ax: Axes) -> None:
    """The gap without each donor that has weight."""
    x = _time_axis(result, ax)
    for k, gap in enumerate(result.leave_one_out_gaps):
        ax.plot(x, gap, color="0.65", linewidth=0.8, label=None if k else "without one donor")
    ax.plot(x, result.gap.estimate, color="C0", linewidth=2, label="all donors")
    legend_above(ax)


def _time_axis(result: SyntheticControl, ax: Axes) -> NDArray[np.float64]:
    """Positions of the periods, with the start, a line at no gap, and labels."""
    x = mark_start(ax, result.gap.index, result.gap.index_name, _start(result))
    ax.axhline(0, color="0.6", linewidth=1)
    ax.set_ylabel(f"gap in {result.effect.details['outcome']}", parse_math=False)
    return x


def _start(result: SyntheticControl) -> int:
    """Place of the first treated time."""
    return result.gap.index.index(result.start)
