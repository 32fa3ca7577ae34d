"""Ridge-augmented synthetic control: what is left before the start is regressed out.

Ben-Michael, Feller & Rothstein (2021), The augmented synthetic control method. JASA 116.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_RATIO, _N_RIDGES = 1e-8, 20


def add_ridge(
    rows: NDArray[np.float64],
    units: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    weights: NDArray[np.float64],
    ridge: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weights plus ``D (D'D + ridge I)^-1 (x - X'w)``, D the donors' paths less their mean.

    Parameters
    ----------
    rows : array (n, t)
        Paths before the start.
    units, ridge : arrays (p,)
    allowed : bool array (p, n)
        Donors of each unit.
    weights : array (p, n)
        On the simplex.

    Returns
    -------
    array (p, n)
        They sum to 1 and may be negative.
    """
    found = weights.copy()
    for p, unit in enumerate(units):
        donors = rows[allowed[p]]
        left = rows[unit] - weights[p, allowed[p]] @ donors
        centred = donors - donors.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        slope = vectors @ ((vectors.T @ left) / (np.maximum(values, 0.0) + ridge[p]))
        found[p, allowed[p]] += centred @ slope
    return found


def choose_ridges(
    rows: NDArray[np.float64],
    units: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    without: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The largest ridge whose mean squared error of left-out periods is within one se of the least.

    Parameters
    ----------
    rows, units, allowed
        As in `add_ridge`.
    without : array (t, p, n)
        Weights found without each period.

    Notes
    -----
    With r the residual of weights found without period t and H = (D'D + ridge I)^-1, the error
    of the augmented weights at t is (H r)_t / H_tt: no refit by ridge is needed.
    """
    t = rows.shape[1]
    chosen = np.zeros(len(units))
    for p, unit in enumerate(units):
        donors = rows[allowed[p]]
        left = rows[unit] - without[:, p][:, allowed[p]] @ donors
        centred = donors - donors.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        values = np.maximum(values, 0.0)
        top = float(values.max())
        if top == 0:
            chosen[p] = 1.0  # donors do not differ: nothing to correct with
            continue
        step = _LEAST_RATIO ** (1.0 / _N_RIDGES)
        grid = top * step ** (np.arange(_N_RIDGES + 1) - 1.0)
        inverse = 1.0 / (values + grid[:, None])  # (g, t)
        applied = np.einsum("ti,gi,ti->gt", vectors, inverse, left @ vectors)
        error = (applied / np.einsum("ti,gi,ti->gt", vectors, inverse, vectors)) ** 2
        mean, se = error.mean(axis=1), error.std(axis=1, ddof=1) / np.sqrt(t)
        best = int(mean.argmin())
        chosen[p] = grid[mean <= mean[best] + se[best]].max()
    return chosen
