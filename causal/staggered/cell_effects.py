"""Unit and period effects, and slopes, by least squares on some cells of groups of alike units.

Unit effects are taken out exactly, so that what is solved has as many unknowns as there are periods
and covariates, however many units there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ABSORBED = 1e-10  # of its sum of squares: what a covariate must leave beside the effects


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CellEffects:
    """A fit to chosen cells, and what it says of every cell.

    Parameters
    ----------
    cells : (G, T) array
        1 for cells that are fitted, else 0; at least one in each group.
    n : (G,) array
        Units of each group.
    covariates : (G, T, K) array
        Off their mean over the group's fitted cells.
    block : (T,) array
        Sets of periods that fitted cells link; a period without a cell is alone.
    inverse : (T + K, T + K) array
        Of the normal equations; 0 in the first period of each set.
    """

    cells: NDArray[np.float64]
    n: NDArray[np.float64]
    covariates: NDArray[np.float64]
    block: NDArray[np.int64]
    inverse: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        cells: NDArray[np.bool_],
        n: NDArray[np.int64],
        covariates: NDArray[np.float64] | None = None,
        names: Sequence[str] = (),
    ) -> CellEffects:
        """Solve the normal equations of the cells.

        Raises
        ------
        ValueError
            If a covariate is absorbed by the effects or the other covariates; it is named.
        """
        u, n_ = cells.astype(np.float64), n.astype(np.float64)
        if covariates is None:
            covariates = np.zeros((*cells.shape, 0))
        X = covariates - _unit_means(covariates, u)
        together = u.T @ u
        block = connected_components(together > 0, directed=False)[1].astype(np.int64)
        of_time = np.diag(n_ @ u) - u.T @ (u * (n_ / u.sum(axis=1))[:, None])
        inside = X * u[:, :, None]
        across = np.einsum("g,gtk->tk", n_, inside)
        among = np.einsum("g,gtk,gtl->kl", n_, inside, inside, optimize=True)
        _refuse_constant(among, _squares(covariates, u * n_[:, None]), names)
        inverse = _inverse(of_time, across, among, block, names)
        return cls(cells=u, n=n_, covariates=X, block=block, inverse=inverse)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Cells that the fit says something of, (G, T): their unit and period are linked."""
        return np.asarray(self.block[self.cells.argmax(axis=1)][:, None] == self.block)

    def residual(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Paths (G, T) less their fit, on all cells."""
        left = y - _unit_means(y, self.cells)
        for _ in range(2):  # the second round takes up what the first rounded
            theta = self.inverse @ self._sums(left * self.cells)
            left = left - self._fit(theta)
        return left

    def weights(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights (G, T) on fitted cells that give the fit's sum over units and cells with `w`."""
        total = w.sum(axis=1)
        per_row = total / self.cells.sum(axis=1)
        change = w - per_row[:, None] * self.cells
        theta = self.inverse @ self._sums(change)
        return np.asarray((per_row[:, None] + self._fit(theta)) * self.cells)

    def _sums(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over units of paths off their unit, by period, and with the covariates."""
        by_covariate = np.einsum("g,gt,gtk->k", self.n, y, self.covariates, optimize=True)
        return np.concatenate([self.n @ y, by_covariate])

    def _fit(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Period effects and slopes on all cells, off their mean over the fitted ones."""
        t = self.cells.shape[1]
        of_time = theta[:t] - (self.cells @ theta[:t] / self.cells.sum(axis=1))[:, None]
        return np.asarray(of_time + self.covariates @ theta[t:])


def _unit_means(y: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over each group's cells, shaped to be taken off (G, T) or (G, T, K)."""
    u = cells if y.ndim == 2 else cells[:, :, None]
    return np.asarray((y * u).sum(axis=1, keepdims=True) / u.sum(axis=1, keepdims=True))


def _inverse(
    of_time: NDArray[np.float64],
    across: NDArray[np.float64],
    among: NDArray[np.float64],
    block: NDArray[np.int64],
    names: Sequence[str],
) -> NDArray[np.float64]:
    """Inverse of the normal equations of periods and covariates, by their Schur complement."""
    t, k = across.shape
    first = np.unique(block, return_index=True)[1]
    kept = np.setdiff1d(np.arange(t), first)
    inverse = np.zeros((t + k, t + k))
    periods = np.zeros((t, t))
    periods[np.ix_(kept, kept)] = np.linalg.inv(of_time[np.ix_(kept, kept)])
    inverse[:t, :t] = periods
    if not k:
        return inverse
    slope = periods @ across
    schur = among - across.T @ slope
    _refuse_absorbed(schur, among, names)
    scale = np.sqrt(np.diag(schur))
    rest = np.linalg.inv(schur / np.outer(scale, scale)) / np.outer(scale, scale)
    inverse[:t, :t] += slope @ rest @ slope.T
    inverse[:t, t:] = -slope @ rest
    inverse[t:, :t] = inverse[:t, t:].T
    inverse[t:, t:] = rest
    return inverse


def _squares(x: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares of each covariate about its mean, (K,)."""
    mean = np.einsum("gt,gtk->k", counts, x) / counts.sum()
    return np.asarray(np.einsum("gt,gtk->k", counts, (x - mean) ** 2))


def _refuse_constant(
    among: NDArray[np.float64], total: NDArray[np.float64], names: Sequence[str]
) -> None:
    """Raise if a covariate does not change within units."""
    for name, within, square in zip(names, np.diag(among), total, strict=True):
        if not within > _ABSORBED * square:
            raise _absorbed(name)


def _refuse_absorbed(
    schur: NDArray[np.float64], among: NDArray[np.float64], names: Sequence[str]
) -> None:
    """Raise if a covariate leaves nothing beside the effects and those before it."""
    left = schur.copy()
    for j, name in enumerate(names):
        if not left[j, j] > _ABSORBED * among[j, j]:
            raise _absorbed(name)
        left -= np.outer(left[:, j], left[j]) / left[j, j]


def _absorbed(name: str) -> ValueError:
    """What to say of a covariate without information of its own."""
    return ValueError(
        f"covariate {name!r} must vary within units beyond the period effects and the other "
        "covariates in the rows that are fitted; it does not; drop it"
    )
