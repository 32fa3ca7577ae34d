"""Synthetic difference-in-differences of many draws of donors and treated units, by numba."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit, prange, types

from causal.kernels.ridge_simplex import dot, solve_ridge_simplex

if TYPE_CHECKING:
    from numpy.typing import NDArray

_table = types.Array(types.float64, 2, "C", readonly=True)
_codes = types.Array(types.int64, 1, "C", readonly=True)
_numbers = types.Array(types.float64, 1, "C", readonly=True)
_written = types.Array(types.float64, 1, "C")
_written_2 = types.Array(types.float64, 2, "C")


@njit(cache=True)
def compressed(D: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows of D (n, m) in at most n coordinates, by Householder reflections; D is overwritten.

    Lengths and angles of rows, which are all that the weights depend on, are kept.
    """
    n, m = D.shape
    if m <= n:
        return D
    for i in range(n):
        norm = np.sqrt(dot(D[i, i:], D[i, i:]))
        if norm == 0.0:
            continue
        pivot = D[i, i] + (norm if D[i, i] >= 0.0 else -norm)
        v = D[i, i:].copy()
        v[0] = pivot
        scale = 2.0 / dot(v, v)
        for j in range(i, n):
            row = D[j, i:]
            along = scale * dot(v, row)
            for c in range(len(row)):
                row[c] -= along * v[c]
    return D[:, :n].copy()


@njit(cache=True)
def _unit_problem(
    Y: NDArray[np.float64],
    donors: NDArray[np.int64],
    treated: NDArray[np.int64],
    t0: int,
    zeta2: float,
    omega: NDArray[np.float64],
) -> float:
    """Weights of donors whose path, up to a level, is that of the treated before treatment."""
    D = np.empty((len(donors), t0))
    target = np.zeros(t0)
    for i in treated:
        target += (Y[i, :t0] - np.mean(Y[i, :t0])) / len(treated)
    for j in range(len(donors)):
        path = Y[donors[j], :t0]
        D[j] = path - np.mean(path) - target
    return solve_ridge_simplex(compressed(D), zeta2 * t0, omega)


@njit(cache=True)
def _time_problem(
    Y: NDArray[np.float64],
    donors: NDArray[np.int64],
    t0: int,
    zeta2: float,
    weights: NDArray[np.float64],
) -> float:
    """Weights of earlier periods that give, up to a level, each donor's mean afterwards."""
    n = len(donors)
    D = np.empty((t0, n))
    for j in range(n):
        later = np.mean(Y[donors[j], t0:])
        for t in range(t0):
            D[t, j] = Y[donors[j], t] - later
    for t in range(t0):
        D[t] -= np.mean(D[t])
    return solve_ridge_simplex(compressed(D), zeta2 * n, weights)


@njit(
    types.void(
        _table, _codes, _codes, _codes, _codes, _codes, _numbers, _numbers,
        _written, _written_2, _written_2, _written_2,
    ),
    parallel=True,
    cache=True,
)  # fmt: skip
def fit_jobs(
    Y: NDArray[np.float64],
    n_pre: NDArray[np.int64],
    donors: NDArray[np.int64],
    donor_ends: NDArray[np.int64],
    treated: NDArray[np.int64],
    treated_ends: NDArray[np.int64],
    unit_ridge: NDArray[np.float64],
    time_ridge: NDArray[np.float64],
    unit_weights: NDArray[np.float64],
    time_weights: NDArray[np.float64],
    gaps: NDArray[np.float64],
    duality: NDArray[np.float64],
) -> None:
    """Fit every job (one cohort of one draw) by itself; jobs share nothing that is written.

    Parameters
    ----------
    Y : (N, T) array
        Outcomes.
    n_pre : (J,) array
        Periods before treatment, T0 of each job.
    donors, treated : (sum of counts,) arrays
        Rows of Y, job after job; a row may be repeated.
    donor_ends, treated_ends : (J + 1,) arrays
        Where the rows of a job begin and end.
    unit_ridge, time_ridge : (J,) arrays
        zeta^2 of unit weights, which is multiplied by T0, and of time weights, by the donors.
    unit_weights : array like `donors`; time_weights, gaps : (J, T); duality : (J, 2)
        Written: the weights, treated minus synthetic in each period, and the duality gaps of
        the unit and time problems over largest square plus ridge. `time_weights` is 0 from T0 on.
    """
    for job in prange(len(n_pre)):
        d = donors[donor_ends[job] : donor_ends[job + 1]]
        s = treated[treated_ends[job] : treated_ends[job + 1]]
        t0 = n_pre[job]
        omega = unit_weights[donor_ends[job] : donor_ends[job + 1]]
        duality[job, 0] = _unit_problem(Y, d, s, t0, unit_ridge[job], omega)
        duality[job, 1] = _time_problem(Y, d, t0, time_ridge[job], time_weights[job, :t0])
        gaps[job] = 0.0
        for i in s:
            gaps[job] += Y[i] / len(s)
        for j in range(len(d)):
            if omega[j] > 0.0:
                gaps[job] -= omega[j] * Y[d[j]]
