"""Sums of products of influence values over independent units or clusters, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_MOST_VALUES = 400_000  # influence values that are held at once
_MOST_SUMS = 8_000_000  # cluster sums that are held at once


@dataclass(frozen=True, slots=True, eq=False)
class RowClass:
    """Rows that play one role in the same cells: rows `start` to `stop`, sorted by cluster.

    `influence` gives the values (r, len(columns)) of a slice of rows.
    """

    start: int
    stop: int
    columns: NDArray[np.int64]
    influence: Callable[[slice], NDArray[np.float64]]


def influence_products(
    classes: Sequence[RowClass], width: int, clusters: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Sum over rows, or over clusters of rows' sums, of the outer products, (width, width).

    Never holds more than some rows, or the sums of some clusters, by `width`.
    """
    total = np.zeros((width, width))
    if clusters is None:
        for one in classes:
            mine = np.zeros((len(one.columns),) * 2)
            for rows in _blocks(one.start, one.stop, len(one.columns)):
                psi = one.influence(rows)
                mine += psi.T @ psi
            total[np.ix_(one.columns, one.columns)] += mine
        return total
    n_clusters = int(clusters.max()) + 1
    step = max(_MOST_SUMS // width, 1)
    for low in range(0, n_clusters, step):
        sums = np.zeros((min(step, n_clusters - low), width))
        for one in classes:
            inside = clusters[one.start : one.stop]
            start, stop = one.start + np.searchsorted(inside, [low, low + step])
            for rows in _blocks(int(start), int(stop), len(one.columns)):
                _add_by_cluster(sums, one.influence(rows), one.columns, clusters[rows] - low)
        total += sums.T @ sums
    return total


def with_shares(
    products: NDArray[np.float64], n_cells: int, share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariance of cells, shares and further estimates from products of their influence.

    Columns of `products`: cells, indicators of the cohorts, that of no cohort, further ones. A
    share's influence is the indicator less the share, 1{G=g} - p_g.
    """
    K, G = n_cells, len(share)
    turn = np.eye(G, G + 1) - share[:, None]
    cohorts = slice(K, K + G + 1)
    part = np.vstack([products[:K], turn @ products[cohorts], products[K + G + 1 :]])
    found = np.hstack([part[:, :K], part[:, cohorts] @ turn.T, part[:, K + G + 1 :]])
    return np.asarray((found + found.T) / 2)


def _add_by_cluster(
    sums: NDArray[np.float64],
    psi: NDArray[np.float64],
    columns: NDArray[np.int64],
    clusters: NDArray[np.int64],
) -> None:
    """Add rows, sorted by cluster, to the sums of their clusters."""
    starts = np.flatnonzero(np.r_[True, clusters[1:] != clusters[:-1]])
    sums[np.ix_(clusters[starts], columns)] += np.add.reduceat(psi, starts, axis=0)


def _blocks(start: int, stop: int, width: int) -> Iterator[slice]:
    """Slices of some rows each."""
    step = max(_MOST_VALUES // width, 1)
    for at in range(start, stop, step):
        yield slice(at, min(at + step, stop))
