"""How the means of the four cells, and contrasts of them, vary over who is dealt which arm.

Three answers, from the sums of one experiment: two-way (what viewers share and what authors share,
each in its arm), a bound that holds whatever the effects are, and the exact variance over all
assignments if effects were the same for all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from experiments.designs.assignment_variance import CELLS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.pairs.pair_sums import PairSums

Variance: TypeAlias = Literal["two_way", "exact_bound", "randomization"]

_V, _A = np.array(list(CELLS.values())).T  # arms of the cells, in their order


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellParts:
    """Parts of the covariance of the cells' means, each (4, 4) in the order of CELLS.

    Two cells share viewers (`viewer`), authors (`author`), or, with themselves, pairs (`pair`, to
    be taken off once because both sides hold it).
    """

    viewer: NDArray[np.float64]
    author: NDArray[np.float64]
    pair: NDArray[np.float64]


def contrast_covariance(
    sums: PairSums, weights: NDArray[np.float64], variance: Variance
) -> tuple[NDArray[np.float64], float]:
    """Covariance of contrasts of the cells' means, and its degrees of freedom.

    Parameters
    ----------
    sums : PairSums
    weights : array (m, 4)
        Of the cells, in the order of CELLS.
    variance : {"two_way", "exact_bound", "randomization"}

    Returns
    -------
    covariance : array (m, m)
    df : float
        Units of the smallest arm less 1 and less its slopes; of the smaller side less two of each
        for "randomization", whose arms share a variance.

    Notes
    -----
    Two-way: no contrast's variance is below that from viewers alone or from authors alone.
    Bound: (sum |w|) (sum |w| v) over the cells' own variances v, which is never below
    (sum |w| sqrt(v))^2; its expectation is known, that of the latter is smaller than the true
    variance where two cells move together. Correlations are the two-way ones.
    """
    sizes, slopes = _sizes(sums), np.array(sums.n_covariates)
    df = float((sizes - 1 - slopes[:, None]).min())
    if variance == "randomization":
        whole = sizes.sum(axis=1) - 2 - 2 * slopes
        return _of_contrasts(redraw_covariance(sums), weights), float(whole.min())
    parts = cell_parts(sums)
    matrix = _of_contrasts(parts.viewer + parts.author - parts.pair, weights)
    alone = [np.diag(_of_contrasts(part, weights)) for part in (parts.viewer, parts.author)]
    matrix += np.diag(np.maximum(np.maximum(*alone) - np.diag(matrix), 0))
    if variance == "exact_bound":
        size = np.abs(weights)
        wanted = size.sum(axis=1) * (size @ cell_variances(sums))
        own = np.diag(matrix)
        factor = np.sqrt(np.divide(wanted, own, out=np.zeros_like(own), where=own > 0))
        matrix = matrix * np.outer(factor, factor)
        matrix += np.diag(np.maximum(wanted - np.diag(matrix), 0))
    return matrix, df


def cell_parts(sums: PairSums) -> CellParts:
    """The two-way parts, with the small-sample factors of each arm.

    In a complete table the pairs' part holds only what is left of a pair beside its viewer and its
    author, and the two-way matrix is unbiased for samples of viewers and authors; the sum of all
    squared deviations would take 1/n of the sides' own variances away too.
    """
    spread = []
    for by_unit, arms, mine, others, slopes in (
        (sums.by_viewer, sums.viewer_arm, _V, _A, sums.n_covariates[0]),
        (sums.by_author, sums.author_arm, _A, _V, sums.n_covariates[1]),
    ):
        size = np.bincount(arms, minlength=2)
        score = by_unit[:, others] * (arms[:, None] == mine) / _in_order(sums.n_pairs)
        score *= np.sqrt(size / (size - 1 - slopes))[arms][:, None]
        spread.append(score.T @ score)
    if sums.complete:
        pair = _in_order(_left(sums) / sums.n_pairs)
    else:
        pair = _in_order(sums.square / sums.n_pairs**2)
    return CellParts(viewer=spread[0], author=spread[1], pair=np.diag(pair))


def cell_variances(sums: PairSums) -> NDArray[np.float64]:
    """Unbiased variance of each cell's mean over all assignments, in the order of CELLS.

    r s_viewer + c s_author - r c s_pair with r = 1/n - 1/N of viewers and c of authors, because
    s_viewer holds c s_pair and s_author r s_pair; at least the larger of the first two.
    """
    sizes = _sizes(sums)
    r, c = (1 / n - 1 / n.sum() for n in sizes)
    parts = cell_parts(sums)
    n_v, n_a = sizes[0][_V], sizes[1][_A]
    viewer = r[_V] * n_v * np.diag(parts.viewer)
    author = c[_A] * n_a * np.diag(parts.author)
    pair = r[_V] * n_v * c[_A] * n_a * np.diag(parts.pair)
    found: NDArray[np.float64] = np.maximum(viewer + author - pair, np.maximum(viewer, author))
    return found


def redraw_covariance(sums: PairSums) -> NDArray[np.float64]:
    """Covariance of the cells' means over all assignments if effects were alike for all pairs.

    The covariance of `dual_sided_variance` with all four outcomes equal up to constants; the
    deviations from the cells' own means stand in for them. Unbiased then.
    """
    sizes, (k, q) = _sizes(sums), sums.n_covariates
    n_viewers, n_authors = sizes.sum(axis=1)
    viewer, author = sums.by_viewer.sum(axis=1) / n_authors, sums.by_author.sum(axis=1) / n_viewers
    rows, columns = float(viewer @ viewer), float(author @ author)
    left = float(sums.square.sum()) - n_authors * rows - n_viewers * columns
    s_viewer = rows / (n_viewers - 2 - 2 * k)
    s_author = columns / (n_authors - 2 - 2 * q)
    s_pair = max(left, 0.0) / ((n_viewers - 1) * (n_authors - 1) - 1)
    r, c = (np.diag(1 / n) - 1 / n.sum() for n in sizes)
    r, c = r[np.ix_(_V, _V)], c[np.ix_(_A, _A)]
    found: NDArray[np.float64] = r * s_viewer + c * s_author + r * c * s_pair
    return found


def _of_contrasts(matrix: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of contrasts, from the matrix without its negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    root = weights @ (vectors * np.sqrt(np.maximum(values, 0)))
    found: NDArray[np.float64] = root @ root.T
    return found


def _left(sums: PairSums) -> NDArray[np.float64]:
    """Variance of what is left of a pair beside its viewer and its author, by cell (2, 2)."""
    n_v, n_a = _sizes(sums)
    rows = _squares_by_arm(sums.by_viewer, sums.viewer_arm) / n_a
    columns = _squares_by_arm(sums.by_author, sums.author_arm).T / n_v[:, None]
    free = np.outer(n_v - 1, n_a - 1)
    found: NDArray[np.float64] = np.maximum(sums.square - rows - columns, 0) / free
    return found


def _squares_by_arm(by_unit: NDArray[np.float64], arm: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of squares by a unit's own arm and that of the other side, (2, 2)."""
    return np.array([(by_unit[arm == k] ** 2).sum(axis=0) for k in (0, 1)])


def _sizes(sums: PairSums) -> NDArray[np.float64]:
    """Units by side (viewers, authors) and arm, (2, 2)."""
    sides = (sums.viewer_arm, sums.author_arm)
    return np.array([np.bincount(arm, minlength=2) for arm in sides], dtype=np.float64)


def _in_order(by_arms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values by arms (2, 2) in the order of CELLS."""
    found: NDArray[np.float64] = by_arms[_V, _A]
    return found
