"""How large a variance becomes by rounding alone: what is not larger is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.panel.cohort_moments import PanelMoments

ROUNDING = 16 * np.finfo(float).eps


def path_noise(m: PanelMoments) -> float:
    """What rounding leaves of a path that should be 0, on the outcome's own scale."""
    size = float(np.abs(m.mean).max())
    return float(ROUNDING * (size if m.cross is None else max(size, float(_spreads(m).max()))))


def quadratic_noise(m: PanelMoments, weights: NDArray[np.float64], g: int) -> NDArray[np.float64]:
    """What rounding leaves of w'Qw of a group, for absolute weights (..., T)."""
    if m.cross is None:
        return np.zeros(weights.shape[:-1])
    found: NDArray[np.float64] = weights @ np.sqrt(np.diag(m.cross[g]))
    return ROUNDING * found * found


def variance_noise(
    m: PanelMoments, reach: NDArray[np.float64], noise: float
) -> NDArray[np.float64]:
    """Variances of k estimates whose units all have paths of rounding.

    reach (G, k) : sums over periods of a unit's absolute weights
    noise : of a path
    """
    if m.cluster is None:
        return np.asarray(m.n @ (reach * noise) ** 2)
    code, n_clusters = m.cluster_codes()
    sums = np.zeros((n_clusters, reach.shape[1]))
    np.add.at(sums, code, m.n[:, None] * reach * noise)
    return np.asarray((sums * sums).sum(axis=0))


def _spreads(m: PanelMoments) -> NDArray[np.float64]:
    """Standard deviations of outcomes by group and period, (G, T)."""
    if m.cross is None:
        return np.zeros_like(m.mean)
    return np.asarray(np.sqrt(np.einsum("gtt->gt", m.cross) / m.n[:, None]))
