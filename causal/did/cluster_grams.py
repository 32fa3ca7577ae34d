"""What clusters of a panel contribute to the two-way fixed-effects coefficient of treatment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from causal.did.absorption import rows_to_keep
from causal.did.cohort_regressors import negative_sum
from causal.did.conventions import cluster_factor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.panel.unit_panel import UnitPanel

_NO_VARIATION = 1e-12  # share of the treatment's variance within units, below which none is left


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClusterGrams:
    """Products of the columns [x, Z, y] within clusters, beside unit effects.

    x is the treatment, Z a dummy for each period, y the outcome times 2^-exponent.

    Parameters
    ----------
    ZZ : (G, T, T) array
    Zx, Zy : (G, T) arrays
    xx, xy : (G,) arrays
    inverse : (T, T) array
        Pseudo-inverse of the sum of ZZ.
    rank : int
        Of that sum.
    n_obs, singletons : int
        Rows that count, and rows that were alone with a unit or in a period.
    exponent : int
    first : (G,) array of int
        First treated period of each cluster; -1 where its units differ.
    n_treated : int
        Clusters with treated rows.
    negative : float
        Sum of the negative weights of effects by cohort and period.
    """

    ZZ: NDArray[np.float64]
    Zx: NDArray[np.float64]
    Zy: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    inverse: NDArray[np.float64]
    rank: int
    n_obs: int
    singletons: int
    exponent: int
    first: NDArray[np.int64]
    n_treated: int
    negative: float

    @property
    def n_clusters(self) -> int:
        """Number of clusters, G."""
        return len(self.xx)

    @property
    def k(self) -> int:
        """Parameters of the convention: treatment, periods, and the nested units once."""
        return 2 + self.rank

    @property
    def factor(self) -> float:
        """Factor of CR1."""
        return cluster_factor(self.n_clusters, self.n_obs, self.k)

    def beside_periods(self) -> ClusterGrams:
        """The same of x and y less their projections on Z: then the sums of Zx and Zy are 0."""
        of_x = self.inverse @ self.Zx.sum(axis=0)
        of_y = self.inverse @ self.Zy.sum(axis=0)
        ZZx, ZZy = self.ZZ @ of_x, self.ZZ @ of_y
        return replace(
            self,
            Zx=self.Zx - ZZx,
            Zy=self.Zy - ZZy,
            xx=self.xx - 2 * self.Zx @ of_x + ZZx @ of_x,
            xy=self.xy - self.Zy @ of_x - self.Zx @ of_y + ZZx @ of_y,
        )


def cluster_grams(panel: UnitPanel) -> ClusterGrams:
    """Sums by cluster of a panel; the unit is the cluster where none was named.

    Raises
    ------
    ValueError
        If the treatment does not vary beside unit and period effects.
    """
    present = panel.present
    unit, period = (at.astype(np.int64) for at in np.nonzero(present))
    kept, singletons = rows_to_keep([unit, period], None)
    present[unit[~kept], period[~kept]] = False
    y = np.where(present, panel.outcome, 0.0)
    exponent = int(np.frexp(np.abs(y).max())[1])
    y = _beside_units(np.ldexp(y, -exponent), present)
    treated = (np.arange(panel.n_periods) >= panel.first[:, None]) & present
    x = _beside_units(treated.astype(np.float64), present)
    cluster = np.arange(panel.n_units) if panel.cluster is None else panel.cluster
    n_clusters = int(cluster.max()) + 1
    ZZ = _period_grams(present, cluster, n_clusters)
    values, vectors = np.linalg.eigh(ZZ.sum(axis=0))
    seen = values > 1e-10 * max(values.max(), 1e-300)
    inverse = (vectors[:, seen] / values[seen]) @ vectors[:, seen].T
    Zx = _sums(x, cluster, n_clusters)
    fitted = np.broadcast_to(inverse @ Zx.sum(axis=0), x.shape)
    left = x - _beside_units(np.where(present, fitted, 0.0), present)
    cell = panel.first[:, None] * panel.n_periods + np.arange(panel.n_periods)
    grams = ClusterGrams(
        ZZ=ZZ,
        Zx=Zx,
        Zy=_sums(y, cluster, n_clusters),
        xx=_sums((x * x).sum(axis=1, keepdims=True), cluster, n_clusters)[:, 0],
        xy=_sums((x * y).sum(axis=1, keepdims=True), cluster, n_clusters)[:, 0],
        inverse=inverse,
        rank=int(seen.sum()),
        n_obs=int(kept.sum()),
        singletons=singletons,
        exponent=exponent,
        first=_common_first(panel.first, cluster, n_clusters),
        n_treated=len(np.unique(cluster[treated.any(axis=1)])),
        negative=negative_sum(cell[treated], left[treated]),
    )
    if grams.beside_periods().xx.sum() <= _NO_VARIATION * grams.xx.sum():
        raise ValueError(
            "treatment must vary beside unit and period effects; it does not: add units that are "
            "treated at another time or never, and rows from before and after"
        )
    return grams


def _beside_units(values: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values less the mean of their unit, 0 where there is no row."""
    count = np.maximum(present.sum(axis=1, keepdims=True), 1)
    for _ in range(2):  # the second pass takes the rounding of the first
        values = np.where(present, values - values.sum(axis=1, keepdims=True) / count, 0.0)
    return values


def _sums(values: NDArray[np.float64], cluster: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Sums of units (N, T) by cluster."""
    columns = [np.bincount(cluster, column, n) for column in values.T]
    return np.column_stack(columns).astype(np.float64)


def _period_grams(
    present: NDArray[np.bool_], cluster: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """Z'Z of each cluster: diag(rows a period) - sum over units of p p' / |p|, p its periods."""
    n_periods = present.shape[1]
    grams = np.zeros((n, n_periods, n_periods))
    order = np.argsort(cluster, kind="stable")
    ends = np.cumsum(np.bincount(cluster, minlength=n))
    share = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    for g, (low, high) in enumerate(zip(np.append(0, ends[:-1]), ends, strict=True)):
        at = order[low:high]
        among = present[at].astype(np.float64)
        grams[g] = np.diag(among.sum(axis=0)) - among.T @ share[at]
    return grams


def _common_first(
    first: NDArray[np.int64], cluster: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """First treated period of each cluster, -1 where its units differ."""
    common = np.full(n, -1, dtype=np.int64)
    common[cluster] = first
    common[np.unique(cluster[common[cluster] != first])] = -1
    return common
