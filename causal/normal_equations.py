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
    for j, name in enumerate(names):
        before = correlation[:j, :j]
        left = 1 - correlation[j, :j] @ np.linalg.solve(before, correlation[:j, j]) if j else 1.0
        if left < 1e-10:
            raise ValueError(
                f"column {name!r} is collinear with the columns before it; leave it out"
            )
    return np.asarray(np.linalg.inv(correlation) / np.outer(scale, scale))
