"""The drawing of a decomposition of two-way fixed effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from causal.did.plots import effect_on
from causal.words import number_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causal.staggered.decomposition import BaconDecomposition

_DRAWN = {
    "treated_vs_never": ("o", "C0"),
    "earlier_vs_later": ("s", "0.5"),
    "later_vs_earlier": ("^", "C3"),
    "treated_vs_always": ("D", "C1"),
}


def draw_bacon(result: BaconDecomposition, ax: Axes | None = None) -> Axes:
    """Draw each comparison's estimate against its weight, by kind, and the TWFE estimate."""
    ax = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
    table = result.comparisons
    ax.axhline(0, color="0.8", linewidth=1)
    ax.axhline(result.estimate, color="0.2", linewidth=1, linestyle="--")
    for kind, _, weight in result.by_kind().itertuples(index=False):
        mine = table[table["kind"] == kind]
        marker, color = _DRAWN[kind]
        words = f"{kind.replace('_', ' ')} ({weight:.0%})"
        ax.plot(mine["weight"], mine["estimate"], marker, color=color, alpha=0.8, label=words)
    ax.set_xlim(left=0)
    ax.set_xlabel("weight")
    ax.set_ylabel(f"{effect_on(result.effect.details)}, by comparison", parse_math=False)
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize="small")
    estimate = number_in_words(result.estimate)
    title = f"TWFE {estimate} (dashed) by comparison, n = {result.effect.n_obs:,}"
    ax.set_title(title, loc="left", pad=40)
    return ax
