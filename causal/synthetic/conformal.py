"""Conformal inference over time: the effect that makes the treated path exchangeable.

Chernozhukov, Wuethrich & Zhu (2021), An exact and robust conformal inference method for
counterfactual and synthetic controls. JASA 116, 1849-1864.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from causal.synthetic.aligned_paths import gap_paths, grams, power_of_two
from causal.synthetic.augmented import add_ridge
from causal.synthetic.donor_weights import fit_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from causal.synthetic.aligned_paths import AlignedPaths
    from causal.synthetic.donor_pool import DonorPool
    from causal.synthetic.donor_weights import Fitting

_GRID, _GRIDS, _BISECTIONS = 101, 16, 40

_Test: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Conformal:
    """A permutation test over time.

    p_value : of no effect in any period;  low, high : constant effects that are not rejected
    """

    p_value: float
    low: float
    high: float


def conformal(
    pool: DonorPool,
    aligned: AlignedPaths,
    fitting: Fitting,
    *,
    fixed_effect: bool,
    ridge: float | None,
    estimate: float,
    reach: float,
    level: float,
) -> Conformal:
    """P-value of no effect and the interval of constant effects, for one treated unit.

    Parameters
    ----------
    ridge : float, optional
        Penalty of the augmentation, in squared units of the outcome.
    estimate, reach : float
        Where the search for the interval begins, and how far it first looks.
    level : float
        Of the interval.

    Raises
    ------
    ValueError
        If there are too few periods for `level`, every constant effect is rejected, or the
        interval has no end.
    """
    n_periods = len(pool.times)
    alpha = 1.0 - level
    if alpha * n_periods < 1 - 1e-9:
        least = int(np.ceil(1 / alpha - 1e-9))
        raise ValueError(
            f"a conformal interval at level {level:g} needs at least {least} periods; got "
            f"{n_periods}; lower the level or use inference='placebo'"
        )

    def test(effects: NDArray[np.float64]) -> _Test:
        return _test(pool, aligned, fitting, effects, fixed_effect=fixed_effect, ridge=ridge)

    low, high = _invert(test, estimate, reach, level)
    return Conformal(p_value=float(test(np.zeros(1))[0][0]), low=low, high=high)


def _test(
    pool: DonorPool,
    aligned: AlignedPaths,
    fitting: Fitting,
    effects: NDArray[np.float64],
    *,
    fixed_effect: bool,
    ridge: float | None,
) -> _Test:
    """P-value of each constant effect: imposed on the treated, refitted on all periods.

    Also the observed statistic less the median one: it leads to where p-values are large.
    """
    start, n_periods = int(pool.first[0]), len(pool.times)
    treated = np.repeat(pool.outcome[:1], len(effects), axis=0)
    treated[:, start:] -= effects[:, None]
    paths = np.vstack([treated, pool.outcome[1:]])
    if fixed_effect:
        paths -= paths.mean(axis=1, keepdims=True)
    rows = paths - paths[len(effects) :].mean(axis=0)
    scale = power_of_two(rows)
    rows = rows / scale
    whole = replace(
        aligned,
        rows=rows[None],
        gram=grams(rows[None]),
        starts=np.array([n_periods]),
        cohort=np.zeros(1, dtype=np.int64),
    )
    members = np.arange(len(effects))
    allowed = np.zeros((len(effects), len(paths)), dtype=bool)
    allowed[:, len(effects) :] = True
    weights = fit_outcomes(whole, fitting, members[:, None], allowed).weights[:, 0]
    if ridge is not None:
        penalty = np.full(len(effects), ridge / scale / scale)
        weights = add_ridge(rows, members, allowed, weights, penalty)
    left = np.abs(gap_paths(rows, members, weights))
    shifts = (np.arange(n_periods)[:, None] + np.arange(start, n_periods)) % n_periods
    statistic = left[:, shifts].mean(axis=2)  # (effects, cyclic shifts), the first as observed
    p = (statistic >= statistic[:, :1] * (1 - 1e-9)).mean(axis=1)
    return p, statistic[:, 0] - np.median(statistic, axis=1)


def _invert(
    test: Callable[[NDArray[np.float64]], _Test], estimate: float, reach: float, level: float
) -> tuple[float, float]:
    """Ends of the effects whose p-value is above 1 - level."""
    alpha = 1.0 - level + 1e-12
    centre, reach, best = estimate, reach or abs(estimate) or 1.0, 0.0
    for _ in range(_GRIDS):
        grid = centre + reach * np.linspace(-1, 1, _GRID)
        p, excess = test(grid)
        best = max(best, float(p.max()))
        inside = p > alpha
        if inside.any() and not inside[0] and not inside[-1]:
            return _ends(test, grid, inside, alpha)
        near = int(excess.argmin())
        wider = inside.any() or near in (0, len(grid) - 1)
        centre, reach = float(grid[near]), reach * (2.0 if wider else 0.5)
    if best <= alpha:
        raise ValueError(
            f"a conformal interval at level {level:g} needs a constant effect that is kept; "
            f"the largest p-value found is {best:.3g}: gaps vary more after the start than before; "
            "raise the level or use inference='placebo'"
        )
    raise ValueError(
        f"a conformal interval at level {level:g} needs effects that are rejected on both sides; "
        "none were found: give more periods before the start, lower the level or use "
        "inference='placebo'"
    )


def _ends(
    test: Callable[[NDArray[np.float64]], _Test],
    grid: NDArray[np.float64],
    inside: NDArray[np.bool_],
    alpha: float,
) -> tuple[float, float]:
    """The outermost effects that are not rejected, by bisection."""
    first, last = int(inside.argmax()), len(grid) - 1 - int(inside[::-1].argmax())
    ends = np.array([[grid[first - 1], grid[first]], [grid[last + 1], grid[last]]])
    for _ in range(_BISECTIONS):  # each row: rejected, not rejected
        middle = ends.mean(axis=1)
        ends[np.arange(2), (test(middle)[0] > alpha).astype(int)] = middle
    return float(ends[0, 1]), float(ends[1, 1])
