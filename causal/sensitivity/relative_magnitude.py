"""Intervals when a trend may change after treatment by no more than a multiple of before.

Rambachan & Roth (2023), sections 3 and 4.2: the worst first difference among the leads is the one
at s, up or down. Given (s, sign) the differences in trends form a polyhedron, on which the hybrid
conditional test of Andrews, Roth & Pakes (2023) tells which values of the target are refused. The
interval is the hull of what some polyhedron allows. Only moments of lags are used, with a single
lag too: there HonestDiD adds those of the leads, which made 1,000 of 1,000 simulated intervals
wider, and some of them narrower at a larger bound.

Their linear program needs its vertices only. With e the first differences of the lags,
U = sign * (difference at s) and L_k = sum_{j >= k} l_j, the moments are e_k - m U <= 0 and
-e_k - m U <= 0, and whatever shifts the lags but not the target must drop out: so the vertices are
the T pairs (e_k, -e_k), which say U >= 0, and the two bounds on the target,
+-(l'lag - theta) - m U sum_k |L_k| <= 0. Nothing has to be solved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_GRID = 801
_STEP = 0.05  # standard errors between neighbours of the grid, where that takes no more than
_MOST = 20_001
_HALVINGS = 18  # from a step of the grid to 4e-6 of it
_ANGLES = 1_024
_NO_ERROR = 1e-10  # a vertex with less standard error, of what the others have, is certain
_PARALLEL = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Statistics that are at most 0 in expectation when theta is right, for one (s, sign).

    at_zero (J,) their values at theta = 0 · fall (J,) what they lose per unit of theta ·
    cov (J, J)
    """

    at_zero: NDArray[np.float64]
    fall: NDArray[np.float64]
    cov: NDArray[np.float64]

    def reach(self, limit: float) -> tuple[float, float]:
        """Where no statistic is above the limit; low > high if nowhere."""
        moves = self.fall != 0
        if (self.at_zero[~moves] > limit).any():
            return np.inf, -np.inf
        edge = (self.at_zero[moves] - limit) / self.fall[moves]
        falls = self.fall[moves] > 0
        return float(edge[falls].max()), float(edge[~falls].min())


def relative_magnitude_interval(
    estimate: NDArray[np.float64],
    cov: NDArray[np.float64],
    lag_weight: NDArray[np.float64],
    bound: float,
    *,
    level: float,
) -> tuple[float, float]:
    """Values of the target that are not refused at any place of the worst lead.

    Parameters
    ----------
    estimate : array (K + T,)
        Leads first.
    cov : array (K + T, K + T)
    lag_weight : array (T,)
    bound : float
        How many times the worst first difference of the leads a lag's may be.
    level : float
    """
    alpha = 1 - level
    kappa = alpha / 10
    error = float(np.sqrt(lag_weight @ cov[-len(lag_weight) :, -len(lag_weight) :] @ lag_weight))
    low, high = np.inf, -np.inf
    for moments in _polyhedra(estimate, cov, lag_weight, bound):
        limit = least_favourable(moments.cov, 1 - kappa)
        found = _hull(moments, limit, (alpha - kappa) / (1 - kappa), error)
        low, high = min(low, found[0]), max(high, found[1])
    return low, high


def _polyhedra(
    estimate: NDArray[np.float64],
    cov: NDArray[np.float64],
    lag_weight: NDArray[np.float64],
    bound: float,
) -> Iterator[Moments]:
    """The vertices' statistics for each place and sign of the worst lead."""
    n_lag, n_lead = len(lag_weight), len(estimate) - len(lag_weight)
    path = np.insert(np.eye(n_lead + n_lag), n_lead, 0.0, axis=0)  # the reference is 0
    differences = np.diff(path, axis=0)
    after = differences[n_lead:]
    later = np.cumsum(lag_weight[::-1])[::-1]  # the target's weights on the lags' differences
    up, down = np.maximum(later, 0), np.maximum(-later, 0)
    pairs = np.hstack([np.eye(n_lag), np.eye(n_lag)])
    vertices = np.vstack([pairs, np.concatenate([up, down]), np.concatenate([down, up])])
    fall = np.concatenate([np.zeros(n_lag), [1.0, -1.0]])
    for s in range(n_lead):
        for sign in (1.0, -1.0):
            worst = sign * differences[s]
            rows = np.vstack([after - bound * worst, -after - bound * worst])
            yield _standardised(rows, vertices, fall, estimate, cov)


def _standardised(
    rows: NDArray[np.float64],
    vertices: NDArray[np.float64],
    fall: NDArray[np.float64],
    estimate: NDArray[np.float64],
    cov: NDArray[np.float64],
) -> Moments:
    """Vertices scaled to gamma'sigma = 1, with sigma the standard errors of the rows."""
    sigma = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, cov, rows), 0.0))
    sigma = np.maximum(sigma, 1e-9 * sigma.max())
    size = vertices @ sigma
    gamma = (vertices @ rows) / size[:, None]
    return Moments(gamma @ estimate, fall / size, gamma @ cov @ gamma.T)


def least_favourable(cov: NDArray[np.float64], level: float) -> float:
    """Quantile of the largest of J normal statistics with mean 0 and a covariance of rank <= 2.

    All statistics are made of the target and the worst lead. The radius of these two is integrated
    in closed form, the angle by equal steps.
    """
    values, vectors = np.linalg.eigh(cov)
    root = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0.0))
    angle = 2 * np.pi * (np.arange(_ANGLES) + 0.5) / _ANGLES
    reach = (root @ np.array([np.cos(angle), np.sin(angle)])).max(axis=0)
    reach = reach[reach > 0]

    def excess(c: float) -> float:
        above = np.exp(-((c / reach) ** 2) / 2).sum() / _ANGLES  # a chi-square with 2 df
        return float(above) - (1 - level)

    top = float(reach.max())
    upper = -float(special.ndtri((1 - level) / (2 * len(cov)))) * top
    return float(optimize.brentq(excess, 1e-6 * top, upper, xtol=1e-9 * top))


def _hull(moments: Moments, limit: float, size: float, error: float) -> tuple[float, float]:
    """The least and the greatest value that the test allows."""
    low, high = moments.reach(limit)
    if low > high:
        return np.inf, -np.inf
    n = int(np.clip((high - low) / (_STEP * error), _GRID, _MOST))
    grid = np.linspace(low, high, n)
    allowed = np.flatnonzero(allows(moments, grid, limit, size))
    if not len(allowed):
        return np.inf, -np.inf
    first, last = int(allowed[0]), int(allowed[-1])
    ends = np.array(
        [[grid[max(first - 1, 0)], grid[first]], [grid[min(last + 1, n - 1)], grid[last]]]
    )
    for _ in range(_HALVINGS):
        middle = ends.mean(axis=1)
        inside = allows(moments, middle, limit, size)
        ends[inside, 1], ends[~inside, 0] = middle[inside], middle[~inside]
    return float(ends[0, 1]), float(ends[1, 1])


def allows(
    moments: Moments, theta: NDArray[np.float64], limit: float, size: float
) -> NDArray[np.bool_]:
    """The conditional test's second stage at each theta where no statistic is above the limit.

    Andrews, Roth & Pakes (2023), section 4: given which vertex has the largest statistic, that
    statistic is a normal truncated to [v_lo, v_up]; the first stage cuts it at the limit.
    """
    statistic = moments.at_zero[:, None] - moments.fall[:, None] * theta
    j = statistic.argmax(axis=0)
    eta = statistic[j, np.arange(len(theta))]
    variance = np.diag(moments.cov)
    certain = variance[j] <= _NO_ERROR**2 * variance.max()
    own = np.where(certain, 1.0, variance[j])
    slope = moments.cov[:, j] / own
    gap = 1 - slope
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = (statistic - slope * eta) / gap
    low = np.where(gap > _PARALLEL, meets, -np.inf).max(axis=0)
    high = np.minimum(np.where(gap < -_PARALLEL, meets, np.inf).min(axis=0), limit)
    s = np.sqrt(own)
    beyond = truncated_tail(eta / s, np.minimum(low, eta) / s, np.maximum(high, eta) / s)
    return np.asarray((eta <= 0) | (~certain & (beyond >= size)))


def truncated_tail(
    z: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(Z > z | low <= Z <= high) of a standard normal, far out in the tails too; 1 at a point."""
    at_z, at_low, at_high = (special.log_ndtr(-x) for x in (z, low, high))
    with np.errstate(invalid="ignore"):
        kept = -np.expm1(at_high - at_low)
        tail = np.exp(at_z - at_low) * -np.expm1(at_high - at_z)
        return np.where(kept > 0, tail / np.where(kept > 0, kept, 1.0), 1.0)
