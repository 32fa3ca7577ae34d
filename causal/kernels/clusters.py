"""Sums by cluster in one pass over the rows, compiled by numba.

Compiled for the types below when the module is first imported and cached on disk; arrays of
another type raise instead of compiling anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
from numba import types

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_vector = types.Array(types.float64, 1, "C", readonly=True)
_codes = types.Array(types.int64, 1, "C", readonly=True)
_by_row = types.Array(types.float64, 2, "C", readonly=True)
_by_column = types.Array(types.float64, 2, "F", readonly=True)
_sums = types.Array(types.float64, 2, "C")


@numba.njit(
    [types.void(X, _vector, _vector, _codes, _sums) for X in (_by_row, _by_column)], cache=True
)
def add_scores(
    X: NDArray[np.float64],
    center: NDArray[np.float64],
    e: NDArray[np.float64],
    codes: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> None:
    """Add the score (x - center) e of each row to the sums of its cluster, in the rows' order.

    Parameters
    ----------
    X : (n, k) array
        In C order (read fastest) or Fortran order, aligned.
    center : (k,) array
    e : (n,) array
        Residuals, times the weight if there is one.
    codes : (n,) array
        0 <= code < len(sums). NOT checked: another code writes outside the array.
    sums : (n_clusters, k) array
        Changed in place.
    """
    for i in range(len(e)):
        g = codes[i]
        for j in range(len(center)):
            sums[g, j] += (X[i, j] - center[j]) * e[i]
