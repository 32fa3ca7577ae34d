"""Ridge regression with weights on the simplex, exactly: Newton steps on supports, by numba.

The problem is min |D'w|^2 + ridge |w|^2 over w >= 0, sum w = 1, for the rows d_j of D (donor minus
target). Its gradient (halved) is g_j = d_j'q + ridge w_j with q = D'w; w is optimal when
g_j >= w'g for every j, so the duality gap is w'g - min_j g_j.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 200  # Newton steps; supports rarely change ten times
_HOPELESS = 1e-11  # ridge over |D|^2 below which the dual equations lose their digits
_WELL_SET = 1e-6  # and from which they keep them
_WEIGHT_ERROR = 1e-10
_EXCHANGES = 30  # rounds of blocks before indices are exchanged one at a time
_ROUNDING = 1e-13
_SHORTEST = 1e-6  # of a Newton step: what is left is rounding
_NULL = 1e-12  # singular values below so much of the largest are zero


@njit(cache=True, fastmath={"reassoc", "contract"})
def dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Inner product; reassociated so that it is vectorised, in the same way on each call."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True)
def solve_ridge_simplex(D: NDArray[np.float64], ridge: float, w: NDArray[np.float64]) -> float:
    """Fill in the optimal weights; returns their duality gap over largest squared row plus ridge.

    Parameters
    ----------
    D : (n, m) array
        Donors minus target, in C order.
    ridge : float
        >= 0; at 0 the smallest of the optimal weights is found.
    w : (n,) array
        Written.
    """
    n = D.shape[0]
    scale, spread = 0.0, 0.0
    for j in range(n):
        size = dot(D[j], D[j])
        spread += size
        scale = max(scale, size)
    w[:] = 1.0 / n
    if n == 1 or scale == 0.0:
        return 0.0
    if ridge >= _HOPELESS * spread:
        _dual_newton(D, ridge, w)
        if weight_error(D, ridge, w) <= _WEIGHT_ERROR:
            return duality_gap(D, ridge, w) / (scale + ridge)
        w[:] = 1.0 / n
    _dual_newton(D, max(ridge, _WELL_SET * spread), w)
    if not exchange_blocks(D, ridge, w):
        exchange_singly(D, ridge, w)
    return duality_gap(D, ridge, w) / (scale + ridge)


@njit(cache=True)
def weight_error(D: NDArray[np.float64], ridge: float, w: NDArray[np.float64]) -> float:
    """How far a weight may be off: violated conditions over the ridge, the least curvature."""
    q, level = _combined(D, w), 0.0
    g = np.empty(len(w))
    for j in range(len(w)):
        g[j] = dot(D[j], q) + ridge * w[j]
        level += w[j] * g[j]
    worst = 0.0
    for j in range(len(w)):
        worst = max(worst, abs(g[j] - level) if w[j] > 0.0 else level - g[j])
    return worst / ridge


@njit(cache=True)
def duality_gap(D: NDArray[np.float64], ridge: float, w: NDArray[np.float64]) -> float:
    """Weighted mean of the gradient less its least: twice it bounds the distance to the minimum."""
    q = _combined(D, w)
    mean, least = 0.0, np.inf
    for j in range(len(w)):
        g = dot(D[j], q) + ridge * w[j]
        mean += w[j] * g
        least = min(least, g)
    return mean - least


@njit(cache=True)
def _combined(D: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """D'w."""
    q = np.zeros(D.shape[1])
    for j in range(len(w)):
        if w[j] != 0.0:
            for c in range(len(q)):
                q[c] += w[j] * D[j, c]
    return q


@njit(cache=True)
def _threshold(s: NDArray[np.float64], ridge: float) -> float:
    """The v with sum_j max(0, v - s_j) = ridge."""
    ordered = np.sort(s)
    total, v = 0.0, 0.0
    for k in range(len(s)):
        total += float(ordered[k])
        v = (ridge + total) / (k + 1)
        if k + 1 < len(s) and v <= ordered[k + 1]:
            break
    return v


@njit(cache=True)
def _dual_newton(D: NDArray[np.float64], ridge: float, w: NDArray[np.float64]) -> None:
    """Weights max(0, v - d_j'q) / ridge at the minimum of the dual over (q, v), by Newton steps.

    The dual, ridge |q|^2 / 2 - ridge v + sum_j max(0, v - d_j'q)^2 / 2, is convex, and quadratic on
    each support {j: v > d_j'q}: a step (block pivot) that keeps the support ends at the minimum.
    """
    n, m = D.shape
    q = _combined(D, w)
    s = np.empty(n)
    for j in range(n):
        s[j] = dot(D[j], q)
    v = _threshold(s, ridge)
    value = _dual(s, q, v, ridge)
    ds = np.empty(n)
    for _ in range(_ROUNDS):
        step = _newton_step(D, s, q, v, ridge)
        dq, dv = step[:m], float(step[m])
        for j in range(n):
            ds[j] = dot(D[j], dq)
        length = 1.0
        trial = _dual(s + ds, q + dq, v + dv, ridge)
        while trial > value and length > _SHORTEST:
            length *= 0.5
            trial = _dual(s + length * ds, q + length * dq, v + length * dv, ridge)
        before, s = s < v, s + length * ds
        q, v, value = q + length * dq, v + length * dv, trial
        kept = np.all(before == (s < v))
        if (length == 1.0 and kept) or length <= _SHORTEST:
            break
    total = 0.0
    for j in range(n):
        w[j] = max(0.0, v - s[j])
        total += w[j]
    for j in range(n):
        w[j] /= total


@njit(cache=True)
def _dual(s: NDArray[np.float64], q: NDArray[np.float64], v: float, ridge: float) -> float:
    """The dual's value at s = Dq."""
    total = 0.0
    for j in range(len(s)):
        total += max(0.0, v - s[j]) ** 2
    return 0.5 * total + ridge * (0.5 * dot(q, q) - v)


@njit(cache=True)
def _newton_step(
    D: NDArray[np.float64], s: NDArray[np.float64], q: NDArray[np.float64], v: float, ridge: float
) -> NDArray[np.float64]:
    """Minus the inverse Hessian times the gradient of the dual, (m + 1,); v is eliminated first."""
    n, m = D.shape
    H, centre, slope = np.zeros((m, m)), np.zeros(m), ridge * q
    count, excess = 0, -ridge
    for j in range(n):
        if s[j] < v:
            count += 1
            excess += v - s[j]
            for a in range(m):
                centre[a] += D[j, a]
                slope[a] -= (v - s[j]) * D[j, a]
    centre /= max(count, 1)
    x = np.empty(m)
    for j in range(n):
        if s[j] < v:
            for a in range(m):
                x[a] = D[j, a] - centre[a]
            for a in range(m):
                for b in range(a + 1):
                    H[a, b] += x[a] * x[b]
    for a in range(m):
        H[a, a] += ridge
        slope[a] += excess * centre[a]
    solve_definite(H, slope)
    step = np.empty(m + 1)
    step[:m] = -slope
    step[m] = -excess / max(count, 1) + dot(centre, step[:m])
    return step


@njit(cache=True)
def solve_definite(H: NDArray[np.float64], x: NDArray[np.float64]) -> None:
    """Solve H z = x in place by Cholesky; only the lower triangle of H is read, and overwritten."""
    m = len(x)
    for a in range(m):
        for b in range(a):
            H[a, b] = (H[a, b] - dot(H[a, :b], H[b, :b])) / H[b, b]
        H[a, a] = np.sqrt(H[a, a] - dot(H[a, :a], H[a, :a]))
        x[a] = (x[a] - dot(H[a, :a], x[:a])) / H[a, a]
    for a in range(m - 1, -1, -1):
        x[a] /= H[a, a]
        for b in range(a):
            x[b] -= H[a, b] * x[a]


@njit(cache=True)
def exchange_blocks(D: NDArray[np.float64], ridge: float, w: NDArray[np.float64]) -> bool:
    """Exact weights by exchanging all wrong indices of the support at once; False if that cycles.

    For a ridge that is lost beside D'D; it starts from the support of w, and writes w at the end.
    """
    support = w > 0.0
    for _ in range(_EXCHANGES):
        full, slack = _on_support(D, ridge, support)
        wrong = 0
        for j in range(len(w)):
            if (support[j] and full[j] <= 0.0) or slack[j] < 0.0:
                support[j] = not support[j]
                wrong += 1
        if wrong == 0:
            w[:] = full
            return True
        if not support.any():
            return False
    return False


@njit(cache=True)
def exchange_singly(D: NDArray[np.float64], ridge: float, w: NDArray[np.float64]) -> None:
    """Exact weights from feasible ones by an active set method: each move lowers the objective."""
    n = len(w)
    support = w > 0.0
    for _ in range(50 * n):
        full, slack = _on_support(D, ridge, support)
        length, out = 1.0, -1
        for j in range(n):
            if full[j] < 0.0 and w[j] <= length * (w[j] - full[j]):
                length, out = w[j] / (w[j] - full[j]), j
        for j in range(n):
            w[j] = max(0.0, w[j] + length * (full[j] - w[j]))
        enter = np.argmin(slack)
        if out >= 0:
            support[out], w[out] = False, 0.0
        elif slack[enter] < 0.0:
            support[enter] = True
        else:
            return


@njit(cache=True)
def _on_support(
    D: NDArray[np.float64], ridge: float, support: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Optimal weights (n,) that sum to 1 on a support, of any sign, and the slacks (n,) outside it.

    By singular values: the parts of q that the support can reach are of the ridge's size and would
    be lost in the difference D'w, so they are written down from the ridge.
    """
    n, m = D.shape
    index = np.flatnonzero(support)
    k = len(index)
    rows = D[index]
    centre = np.zeros(m)
    for i in range(k):
        centre += rows[i] / k
    for i in range(k):
        rows[i] -= centre
    U, S, V = singular(rows)  # rows = V' diag(S) U
    w = np.zeros(n)
    w[index] = 1.0 / k
    near = np.zeros(m)  # what of q the support reaches: of the ridge's size
    far = centre.copy()  # and what it does not
    for r in range(len(S)):
        along, damping = dot(U[r], centre), S[r] ** 2 + ridge
        for i in range(k):
            w[index[i]] -= S[r] / damping * along * V[r, i]
        near += ridge / damping * along * U[r]
        far -= along * U[r]
    return w, _slacks(D, support, ridge / k, centre, U, near, far)


@njit(cache=True)
def _slacks(
    D: NDArray[np.float64],
    support: NDArray[np.bool_],
    level: float,
    centre: NDArray[np.float64],
    U: NDArray[np.float64],
    near: NDArray[np.float64],
    far: NDArray[np.float64],
) -> NDArray[np.float64]:
    """By how much gradients outside the support exceed those on it; 0 where rounding decides."""
    n = D.shape[0]
    largest = 0.0
    for j in range(n):
        largest = max(largest, dot(D[j], D[j]))
    slack = np.zeros(n)
    for j in range(n):
        if support[j]:
            continue
        rest = D[j] - centre
        inside, outside = dot(rest, near), 0.0
        noise = _ROUNDING * (abs(inside) + level)
        for r in range(len(U)):
            rest -= dot(U[r], rest) * U[r]
        if dot(rest, rest) > _NULL**2 * largest:
            outside = dot(rest, far)
            noise += 1e-15 * np.sqrt(largest * dot(far, far))
        value = inside - level + outside
        slack[j] = value if abs(value) > noise else 0.0
    return slack


@njit(cache=True)
def singular(
    A: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular vectors U (r, m), V (r, k) in rows, and values S (r,), by one-sided Jacobi."""
    k, m = A.shape
    if k <= m:
        V, S, U = _jacobi(A.copy())
        return U, S, V
    U, S, V = _jacobi(A.T.copy())
    return U, S, V


@njit(cache=True)
def _jacobi(
    B: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rotate the rows of B (p, c) until orthogonal: B = L' diag(S) R, with L (r, p), R (r, c)."""
    p = B.shape[0]
    L = np.eye(p)
    norms = np.empty(p)
    for _ in range(60):
        for a in range(p):
            norms[a] = dot(B[a], B[a])
        floor = 1e-32 * norms.max()
        moved = False
        for a in range(p - 1):
            for b in range(a + 1, p):
                cross = dot(B[a], B[b])
                if cross * cross <= 1e-30 * norms[a] * norms[b] or norms[a] * norms[b] <= floor**2:
                    continue
                moved = True
                zeta = (norms[b] - norms[a]) / (2.0 * cross)
                t = 1.0 / (abs(zeta) + np.sqrt(1.0 + zeta * zeta))
                t = t if zeta >= 0.0 else -t
                cos = 1.0 / np.sqrt(1.0 + t * t)
                _rotate(B, a, b, cos, cos * t)
                _rotate(L, a, b, cos, cos * t)
                norms[a] -= t * cross
                norms[b] += t * cross
        if not moved:
            break
    S = np.empty(p)
    for a in range(p):
        S[a] = np.sqrt(dot(B[a], B[a]))
    kept = np.flatnonzero(_NULL * S.max() < S)
    R = np.empty((len(kept), B.shape[1]))
    for r in range(len(kept)):
        R[r] = B[kept[r]] / S[kept[r]]
    return L[kept], S[kept], R


@njit(cache=True)
def _rotate(B: NDArray[np.float64], a: int, b: int, cos: float, sin: float) -> None:
    """Rotate two rows."""
    for c in range(B.shape[1]):
        x, y = B[a, c], B[b, c]
        B[a, c] = cos * x - sin * y
        B[b, c] = sin * x + cos * y
