"""Every drawing of the results; the only module that imports matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from causal.words import estimand_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causal.effect import Effect, EffectCurve


def draw_effect(effect: Effect, ax: Axes | None = None, *, level: float = 0.95) -> Axes:
    """Draw one estimate with its interval and a line at no effect."""
    ax = plt.subplots(figsize=(6, 1.6))[1] if ax is None else ax
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
    ax = plt.subplots(figsize=(7, 4))[1] if ax is None else ax
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
    ax.set_xlabel(curve.index_name, parse_math=False)
    ax.set_ylabel(estimand_in_words(curve.estimand), parse_math=False)
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # beside no bar
    return ax
