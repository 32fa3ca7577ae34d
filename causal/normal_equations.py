"""Least squares from cross products: what comes out, and the inverse that survives any scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Coefficients:
    """Least squares from moments.

    Parameters
    ----------
    coef : array (1 + k,)
        The intercept first.
    classical_cov : array (1 + k, 1 + k)
        Covariance of `coef` if residuals are independent and of one variance.
    r_squared : float
        Share of variance explained.
    df : int
        Residual degrees of freedom.
    """

    coef: NDArray[np.float64]
    classical_cov: NDArray[np.float64]
    r_squared: float
    df: int


def inverse_of_cross(cross: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """Inverse of a matrix of centred cross products.

    Raises
    ------
    ValueError
        If a column is constant, or collinear with those before it; it is named.
    """
    scale = np.sqrt(np.diag(cross))
    for j, name in enumerate(names):
        if scale[j] == 0:
            raise ValueError(f"column {name!r} is constant; leave it out")
    correlation = cross / np.outer(scale, scale)
    left = _left_of_each(correlation)
    if left.min(initial=1.0) < 1e-10:
        name = names[int(np.argmax(left < 1e-10))]
        raise ValueError(f"column {name!r} is collinear with the columns before it; leave it out")
    return np.asarray(np.linalg.inv(correlation) / np.outer(scale, scale))


def _left_of_each(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """What of each column the columns before it leave unexplained; 0 from the first collinear one.

    The squares of the diagonal of Cholesky's factor, row by row where there is none.
    """
    try:
        return np.asarray(np.diag(np.linalg.cholesky(correlation)) ** 2)
    except np.linalg.LinAlgError:
        left = np.zeros(len(correlation))
        for j in range(len(left)):
            part = correlation[:j, :j]
            explained = correlation[j, :j] @ np.linalg.solve(part, correlation[:j, j]) if j else 0.0
            left[j] = 1 - explained
            if left[j] < 1e-10:
                break
        return left
