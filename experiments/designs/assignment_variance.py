"""What a dual-sided design can know: exact variances where all potential outcomes are known.

Viewers i = 1 ... I and authors j = 1 ... J are treated completely at random, each side on its own.
A cell (viewer arm, author arm) is a random submatrix; its mean varies with the rows that were
drawn, the columns, and both.

Bajari et al. (2021), Multiple randomization designs, arXiv:2112.13495; the covariance of two cells
is our own and checked by enumerating every assignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.values import is_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

# viewer arm and author arm of a cell
CELLS = {"both": (1, 1), "viewer_only": (1, 0), "author_only": (0, 1), "neither": (0, 0)}
# weights of the cells' means, in the order of CELLS
EFFECTS = {
    "direct": (1, -1, -1, 1),
    "viewer_spillover": (0, 1, 0, -1),
    "author_spillover": (0, 0, 1, -1),
    "total": (1, 0, 0, -1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVariance:
    """Mean of all pairs, variance of a random cell's mean, and the parts that it comes from.

    `s2_viewer` and `s2_author` are the variances of viewers' and authors' means, `s2_pair` that of
    what is left of a pair, with divisors I - 1, J - 1 and (I - 1)(J - 1).
    """

    mean: float
    variance: float
    s2_viewer: float
    s2_author: float
    s2_pair: float


def cell_variance(outcomes: ArrayLike, *, n_viewers: int, n_authors: int) -> CellVariance:
    """Variance of the mean of a random cell of fixed size.

    Parameters
    ----------
    outcomes : array (I, J)
        Potential outcomes of all pairs under the cell's arms.
    n_viewers, n_authors : int
        Size of the cell.

    Returns
    -------
    CellVariance

    Raises
    ------
    ValueError
        If `outcomes` is not a finite matrix with two rows and columns or more, or the cell does not
        fit into it.

    Notes
    -----
    r S_viewer + c S_author + r c S_pair with r = 1/n_viewers - 1/I and c = 1/n_authors - 1/J.

    Examples
    --------
    >>> cell_variance([[1.0, 2.0], [3.0, 4.0]], n_viewers=1, n_authors=2).variance
    1.0
    """
    y = _matrix("outcomes", outcomes)
    for name, n, most in (
        ("n_viewers", n_viewers, y.shape[0]),
        ("n_authors", n_authors, y.shape[1]),
    ):
        if not (is_number(n) and n % 1 == 0 and 1 <= n <= most):
            raise ValueError(f"{name} must be a whole number from 1 to {most}; got {n!r}")
    s_viewer, s_author, s_pair = _parts(y, y)
    r, c = 1 / n_viewers - 1 / y.shape[0], 1 / n_authors - 1 / y.shape[1]
    return CellVariance(
        mean=float(y.mean()),
        variance=r * s_viewer + c * s_author + r * c * s_pair,
        s2_viewer=s_viewer,
        s2_author=s_author,
        s2_pair=s_pair,
    )


def dual_sided_variance(
    potential: Mapping[str, ArrayLike], *, n_treated_viewers: int, n_treated_authors: int
) -> dict[str, float]:
    """Exact design variances of the direct, spillover and total effects.

    Parameters
    ----------
    potential : mapping from both, viewer_only, author_only, neither to array (I, J)
        Potential outcomes of all pairs in each cell.
    n_treated_viewers, n_treated_authors : int
        Sizes of the treated sides.

    Returns
    -------
    dict
        Variance of direct, viewer_spillover, author_spillover and total.

    Raises
    ------
    ValueError
        If a cell is absent or of another shape, or an arm of a side is empty.

    Notes
    -----
    The covariance of two cells with outcomes Y and Z is r S_viewer(Y, Z) + c S_author(Y, Z) +
    r c S_pair(Y, Z), where r is 1/I_a - 1/I for the same viewer arm a and -1/I for different ones,
    and c likewise for authors.

    Examples
    --------
    >>> flat = [[0.0, 0.0], [0.0, 0.0]]
    >>> cells = dict.fromkeys(["viewer_only", "author_only", "neither"], flat)
    >>> cells["both"] = [[1.0, 1.0], [3.0, 3.0]]
    >>> dual_sided_variance(cells, n_treated_viewers=1, n_treated_authors=1)["total"]
    1.0
    """
    if set(potential) != set(CELLS):
        raise ValueError(f"potential must have the cells {list(CELLS)}; got {list(potential)[:10]}")
    cells = {name: _matrix(name, potential[name]) for name in CELLS}
    shapes = {name: y.shape for name, y in cells.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"cells must have one shape; got {shapes}")
    n_viewers, n_authors = cells["both"].shape
    rows = _side("n_treated_viewers", n_treated_viewers, n_viewers)
    columns = _side("n_treated_authors", n_treated_authors, n_authors)
    cov = np.empty((4, 4))
    for k, (name, (v, a)) in enumerate(CELLS.items()):
        for j, (other, (w, b)) in enumerate(CELLS.items()):
            s_viewer, s_author, s_pair = _parts(cells[name], cells[other])
            r, c = rows[v, w], columns[a, b]
            cov[k, j] = r * s_viewer + c * s_author + r * c * s_pair
    return {name: float(np.array(w) @ cov @ np.array(w)) for name, w in EFFECTS.items()}


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A finite matrix with two rows and columns or more."""
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 2 or min(y.shape) < 2 or not np.isfinite(y).all():
        raise ValueError(
            f"{name} must be a finite matrix of two viewers and two authors or more; "
            f"got shape {y.shape}"
        )
    return y


def _parts(y: NDArray[np.float64], z: NDArray[np.float64]) -> tuple[float, float, float]:
    """Covariances of viewers' means, of authors' means, and of what is left of pairs."""
    n_viewers, n_authors = y.shape
    (viewer, author, left), (viewer_z, author_z, left_z) = _split(y), _split(z)
    return (
        float(viewer @ viewer_z) / (n_viewers - 1),
        float(author @ author_z) / (n_authors - 1),
        float(np.sum(left * left_z)) / ((n_viewers - 1) * (n_authors - 1)),
    )


def _split(
    y: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Deviations of viewers, of authors, and what is left of each pair."""
    mean = y.mean()
    viewer, author = y.mean(axis=1) - mean, y.mean(axis=0) - mean
    return viewer, author, y - mean - viewer[:, None] - author[None, :]


def _side(name: str, treated: object, n: int) -> NDArray[np.float64]:
    """Factor of a side by the arms of two cells, shape (2, 2)."""
    if not (is_number(treated) and treated % 1 == 0 and 1 <= treated < n):
        raise ValueError(f"{name} must be a whole number from 1 to {n - 1}; got {treated!r}")
    factor = np.full((2, 2), -1 / n)
    factor[1, 1] = 1 / treated - 1 / n
    factor[0, 0] = 1 / (n - treated) - 1 / n
    return factor
