"""Reading an experiment that randomised viewers and authors at once.

A pair of viewer and author is in one of four cells. Their means say what a strategy does to the
pairs that have it (direct), what spills over to treated viewers' other authors and to treated
authors' other viewers, and what both together make.

Bajari et al. (2021), Multiple randomization designs, arXiv:2112.13495.
"""

from __future__ import annotations

import html
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.effect import Effect, EstimationWarning
from causal.frame import Table, check_level, check_one_of
from causal.values import read_only, whole_number
from causal.words import estimand_in_words, number_in_words, p_in_words
from experiments.designs.assignment_variance import CELLS, EFFECTS
from experiments.pairs.cell_covariance import Variance, contrast_covariance
from experiments.pairs.entanglement import ENTANGLED
from experiments.pairs.fisher import Redraws
from experiments.pairs.pair_sums import PairLog, PairSums, open_pairs, pair_matrix, pair_sums
from experiments.pairs.unit_covariates import UnitCovariates, adjusted, unit_covariates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_ESTIMANDS = {
    "direct": "direct effect",
    "viewer_spillover": "viewer spillover",
    "author_spillover": "author spillover",
    "total": "total effect",
}
_METHODS = {
    "two_way": "two-way by viewer and author",
    "exact_bound": "bound on the variance over all assignments",
    "randomization": "variance over all assignments, effects alike for all pairs",
}
_LOCAL = (
    "total is the global effect only under local interference that saturates; with an attention "
    "budget it overstates it by about 1/(outside share)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DualSidedEffect:
    """Four cell means and the four effects between them.

    Parameters
    ----------
    cells : DataFrame
        viewer_arm, author_arm, mean, std_error, n_pairs: both, viewer only, author only, neither.
    direct : Effect
        both - viewer only - author only + neither: what a pair gains because both are treated.
    viewer_spillover : Effect
        viewer only - neither: treated viewers with control authors.
    author_spillover : Effect
        author only - neither: control viewers with treated authors.
    total : Effect
        both - neither, the sum of the three; `estimate`, `std_error`, `p_value` are its own.
    covariance : array (4, 4)
        Of the four, in this order.
    entanglement : float or None
        Share of the outcome in battles of mixed arms.
    level : float
        Of the intervals in tables and sentences.

    Examples
    --------
    >>> import pandas as pd
    >>> pairs = pd.DataFrame([(v, a, v % 2, a % 2) for v in range(8) for a in range(8)],
    ...     columns=["viewer", "author", "va", "aa"]).assign(y=lambda d: 1 + d.va * d.aa + d.viewer)
    >>> roles = {"viewer": "viewer", "author": "author", "viewer_arm": "va", "author_arm": "aa"}
    >>> float(dual_sided_effect(pairs, outcome="y", **roles).direct.estimate)
    1.0
    """

    cells: pd.DataFrame
    direct: Effect
    viewer_spillover: Effect
    author_spillover: Effect
    total: Effect
    covariance: NDArray[np.float64]
    entanglement: float | None
    level: float
    _redraws: Redraws | None = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DualSidedEffect):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.effects)

    def __str__(self) -> str:
        return self.summary()

    @property
    def effects(self) -> tuple[Effect, Effect, Effect, Effect]:
        """Direct effect, viewer spillover, author spillover, total effect."""
        return self.direct, self.viewer_spillover, self.author_spillover, self.total

    @property
    def estimate(self) -> float:
        """The total effect's estimate."""
        return self.total.estimate

    @property
    def std_error(self) -> float:
        """The total effect's standard error."""
        return self.total.std_error

    @property
    def p_value(self) -> float:
        """The total effect's two-sided p-value against 0."""
        return self.total.p_value

    def conf_int(self, level: float | None = None) -> tuple[float, float]:
        """The total effect's interval, at the result's own level by default."""
        return self.total.conf_int(self.level if level is None else level)

    def fisher(self, effect: str = "total", n_draws: int = 999, seed: int = 0) -> float:
        """P-value of the hypothesis that no arm of anybody changes any pair, by redrawing arms.

        Parameters
        ----------
        effect : {"direct", "viewer_spillover", "author_spillover", "total"}
            The effect that the test looks at.
        n_draws : int
            Assignments besides the one that was drawn.
        seed : int

        Returns
        -------
        float
            (1 + assignments at least as extreme) / (n_draws + 1).

        Raises
        ------
        ValueError
            If there are too many pairs to hold, or an argument is out of its range.

        Warns
        -----
        EstimationWarning
            If the direct effect is asked for and there are battles of mixed arms.

        Notes
        -----
        Both sides' arms are redrawn completely at random, in the sizes that they have; the effect
        is divided by the root of its viewers' plus its authors' sums of squares. Exact under the
        sharp hypothesis of no effect at all; not a test of one effect in the presence of others.
        """
        check_one_of(effect, "effect", list(EFFECTS))
        n_draws, seed = whole_number("n_draws", n_draws, 1), whole_number("seed", seed, 0)
        if self._redraws is None:
            raise ValueError(
                "fisher needs the pairs in memory, and the table had too many; take a sample of "
                "viewers and authors, or read the two-way interval"
            )
        if effect == "direct" and self.entanglement:
            warnings.warn(_entangled(self.entanglement, "the outcome"), EstimationWarning, 2)
        weights = np.zeros((2, 2))
        for cell, w in zip(CELLS.values(), EFFECTS[effect], strict=True):
            weights[cell] = w
        return self._redraws.p_value(weights, n_draws=n_draws, seed=seed)

    def to_frame(self, level: float | None = None) -> pd.DataFrame:
        """One row an effect: effect, estimate, std_error, low, high, level, p_value."""
        level = self.level if level is None else level
        rows = []
        for name, effect in zip(EFFECTS, self.effects, strict=True):
            low, high = effect.conf_int(level)
            rows.append((name, effect.estimate, effect.std_error, low, high, level, effect.p_value))
        columns = ["effect", "estimate", "std_error", "low", "high", "level", "p_value"]
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "cells": self.cells.to_dict("records"),
            **{name: e.to_dict() for name, e in zip(EFFECTS, self.effects, strict=True)},
            "covariance": self.covariance.tolist(),
            "entanglement": self.entanglement,
            "level": self.level,
        }

    def summary(self, level: float | None = None) -> str:
        """The total effect, one line each for its parts, and what it rests on."""
        level = self.level if level is None else level
        lines = [self.total.summary(level)]
        for effect in self.effects[:3]:
            low, high = (number_in_words(limit) for limit in effect.conf_int(level))
            lines.append(
                f"  {estimand_in_words(effect.estimand)} "
                f"{number_in_words(effect.estimate, sign=True)} "
                f"({100 * level:.4g}% CI {low} to {high}), {p_in_words(effect.p_value)}"
            )
        if self.entanglement is not None:
            lines.append(f"  {100 * self.entanglement:.0f}% of the outcome is in mixed-arm battles")
        return "\n".join([*lines, f"  {_LOCAL}"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the way from neither to both, spillovers first; returns the axes."""
        from causal.plots import draw_waterfall  # noqa: PLC0415 — matplotlib is loaded only when used

        neither = float(self.cells["mean"].iloc[-1])
        steps = [self.viewer_spillover, self.author_spillover, self.direct]
        return draw_waterfall(("neither", neither), steps, "both", ax, level=self.level)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


def dual_sided_effect(
    frame: Table,
    *,
    outcome: str,
    viewer: str,
    author: str,
    viewer_arm: str,
    author_arm: str,
    variance: Variance = "two_way",
    covariates: Sequence[str] = (),
    zero_fill: bool = True,
    n_viewers: Mapping[int, int] | int | None = None,
    n_authors: Mapping[int, int] | int | None = None,
    battle: str | None = None,
    level: float = 0.95,
) -> DualSidedEffect:
    """Direct, spillover and total effects of an experiment that randomised viewers and authors.

    For strategies that act on pairs (ranking, gifts) while each side also reacts as a whole. Arms
    must have been dealt on each side completely at random, the sides independently (`DualSided`).

    Parameters
    ----------
    frame : Table
        One row a pair of viewer and author, in any kind of table that the door takes.
    outcome : str
        Column of numbers.
    viewer, author : str
        Columns of ids.
    viewer_arm, author_arm : str
        Columns of arms, 0 or 1, one for each viewer and each author.
    variance : {"two_way", "exact_bound", "randomization"}
        What viewers and what authors share; a bound that holds over all assignments whatever the
        effects are, wide for the direct effect; the exact variance over all assignments if effects
        are alike for all pairs, too small if they are not. The last two need every pair.
    covariates : sequence of str
        Columns from before the experiment, of viewers, of authors or of pairs (0 without a row).
    zero_fill : bool
        The population is every viewer with every author: a pair without a row has outcome 0.
        Otherwise it is the pairs given, as if arms could not change which they are.
    n_viewers, n_authors : mapping from arm to count, or int, optional
        Everybody who was dealt an arm, where some have no row: ``{0: 500, 1: 500}``. A bare total
        is only checked against the ids seen: it does not tell the others' arms.
    battle : str, optional
        Column of the share, 0 to 1, of a row's outcome in battles between rooms of different arms.
    level : float
        Of intervals in tables and sentences.

    Returns
    -------
    DualSidedEffect

    Raises
    ------
    ValueError
        If a column is absent, in two roles, missing or infinite; an arm is neither 0 nor 1, or
        changes within its id; a pair has two rows; a cell is empty; an arm of a side has fewer than
        4 ids; or an option needs every pair and some are left out.
    TypeError
        If `frame` is not a table or a column does not hold numbers.

    Warns
    -----
    EstimationWarning
        If more than 30 % of the outcome is in battles of mixed arms, covariates are left out, or
        the outcome is constant within the cells.

    Notes
    -----
    Two-way: sums of squares of viewers' and of authors' contributions to an effect, each arm with
    its factor G / (G - 1), minus what is left of pairs, and never below the larger of the first
    two; t with min(G) - 1 degrees of freedom. With every pair counted its expectation is the exact
    variance over all assignments where effects are alike for all pairs, but for that floor.
    Covariates: per cell, at the population's mean; unbiased to O(1/n). The variances then take the
    residuals. Not corrected for: competition for viewers' time (`total`), carry-over, more than one
    look.

    References
    ----------
    Bajari et al. (2021), arXiv:2112.13495; Cameron, Gelbach and Miller (2011), eq. 2.11.

    Examples
    --------
    >>> import pandas as pd
    >>> pairs = pd.DataFrame([(v, a, v % 2, a % 2) for v in range(8) for a in range(8)],
    ...     columns=["viewer", "author", "va", "aa"]).assign(y=lambda d: 1 + d.va * d.aa + d.viewer)
    >>> roles = {"viewer": "viewer", "author": "author", "viewer_arm": "va", "author_arm": "aa"}
    >>> dual_sided_effect(pairs, outcome="y", **roles).cells["mean"].tolist()
    [6.0, 5.0, 4.0, 4.0]
    """
    check_one_of(variance, "variance", list(_METHODS))
    check_level(level)
    log = open_pairs(
        frame,
        outcome=outcome,
        viewer=viewer,
        author=author,
        viewer_arm=viewer_arm,
        author_arm=author_arm,
        covariates=covariates,
        battle=battle,
        zero_fill=zero_fill,
        n_viewers=n_viewers,
        n_authors=n_authors,
    )
    if variance != "two_way" and not log.complete:
        raise ValueError(
            f"variance={variance!r} needs every pair of viewer and author; pass zero_fill=True, or "
            "take 'two_way'"
        )
    sums = pair_sums(log)
    x = unit_covariates(log, list(covariates))
    found = _result(log, adjusted(sums, x), x, variance, level)
    if not sums.square.any():
        _warn(f"outcome {outcome!r} is constant within the cells; its standard error is 0")
    if (log.entanglement or 0.0) > ENTANGLED:
        _warn(_entangled(log.entanglement or 0.0, outcome))
    return found


def _result(
    log: PairLog, sums: PairSums, x: UnitCovariates, variance: Variance, level: float
) -> DualSidedEffect:
    """Cells and effects in the outcome's units."""
    weights = np.vstack([*EFFECTS.values(), np.eye(4)]).astype(np.float64)
    cov, df = contrast_covariance(sums, weights, variance)
    mean = np.array([sums.mean[cell] for cell in CELLS.values()])
    errors = log.scale * np.sqrt(np.diag(cov))
    k = len(EFFECTS)
    made = f"dual-sided cell means{', adjusted' if any(sums.n_covariates) else ''}"
    details = {
        "counted": "rows of pairs",
        "variance": variance,
        "n_viewers": np.bincount(sums.viewer_arm).tolist(),
        "n_authors": np.bincount(sums.author_arm).tolist(),
        "n_covariates": list(sums.n_covariates),
    }
    effects = {
        name: Effect(
            estimate=log.scale * float(weights[j] @ mean),
            std_error=float(errors[j]),
            estimand=_ESTIMANDS[name],
            method=f"{made}, {_METHODS[variance]}",
            n_obs=log.n_rows,
            n_clusters=min(len(sums.viewer_arm), len(sums.author_arm)),
            df=df,
            baseline=log.centre + log.scale * float(mean[-1]),
            baseline_variance=float(errors[-1]) ** 2,
            baseline_cov=log.scale * float(cov[j, -1]) * log.scale,
            details=details | ({"assumes": _LOCAL} if name == "total" else {}),
        )
        for j, name in enumerate(EFFECTS)
    }
    return DualSidedEffect(
        **effects,
        cells=_cells(log, sums, mean, errors[k:]),
        covariance=read_only(log.scale * cov[:k, :k] * log.scale),
        entanglement=log.entanglement,
        level=level,
        _redraws=_redraws(log, sums, x),
    )


def _cells(
    log: PairLog, sums: PairSums, mean: NDArray[np.float64], errors: NDArray[np.float64]
) -> pd.DataFrame:
    """One row a cell, in the order of CELLS."""
    arms = list(CELLS.values())
    return pd.DataFrame(
        {
            "viewer_arm": [v for v, _ in arms],
            "author_arm": [a for _, a in arms],
            "mean": log.centre + log.scale * mean,
            "std_error": errors,
            "n_pairs": [int(sums.n_pairs[cell]) for cell in arms],
        }
    )


def _redraws(log: PairLog, sums: PairSums, x: UnitCovariates) -> Redraws | None:
    """What a randomisation test needs, where the pairs are few enough."""
    outcomes = pair_matrix(log)
    if outcomes is None:
        return None
    return Redraws(
        outcomes=outcomes,
        viewer_arm=sums.viewer_arm,
        author_arm=sums.author_arm,
        complete=log.complete,
        viewer_x=x.viewer,
        author_x=x.author,
    )


def _entangled(share: float, outcome: str) -> str:
    """What battles do to the direct effect."""
    return (
        f"{100 * share:.0f}% of {outcome} is in mixed-arm battles: direct effect has lost its "
        "meaning and power; use time slices"
    )


def _warn(message: str) -> None:
    """Warn the caller of `dual_sided_effect`."""
    warnings.warn(message, EstimationWarning, stacklevel=3)
