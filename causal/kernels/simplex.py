"""Donor weights: the point of a convex hull nearest to a target, exactly (Wolfe 1976), in numba.

Many problems at once: they share the Gram matrix of all units and run in parallel, each writing
only its own outputs, so any number of threads gives the same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from numba import types

if TYPE_CHECKING:
    from numpy.typing import NDArray

_compiled = numba.njit(cache=True, error_model="numpy")
_float = types.float64
_vector = types.Array(_float, 1, "C", readonly=True)
_codes = types.Array(types.int64, 1, "C", readonly=True)
_sets = types.Array(types.int64, 2, "C", readonly=True)
_masks = types.Array(types.bool_, 2, "C", readonly=True)
_cube = types.Array(_float, 3, "C", readonly=True)
_matrix = types.Array(_float, 2, "C", readonly=True)
_out1 = types.Array(_float, 1, "C")
_out2 = types.Array(_float, 2, "C")
_out3 = types.Array(_float, 3, "C")

GAP = 1e-12  # stop at this duality gap, over the mean squared distance of the donors
_RIDGE = 1e-13  # on the diagonal: doubled donors share, and every factor exists
_FEW = 4  # sets
_ROUNDS = 2_000  # over the units of a set that is fitted jointly


@numba.njit(types.void(_cube, _out3), cache=True, error_model="numpy")
def add_grams(rows: NDArray[np.float64], gram: NDArray[np.float64]) -> None:
    """Write the inner products of all rows: (c, n, l) to (c, n, n), summed in a fixed order.

    A library's product may sum in another order with another number of threads.
    """
    n = rows.shape[1]
    for i in range(rows.shape[0] * n):
        c, j = i // n, i % n
        for k in range(j + 1):
            total = 0.0
            for t in range(rows.shape[2]):
                total += rows[c, j, t] * rows[c, k, t]
            gram[c, j, k] = total
            gram[c, k, j] = total


class _Work(NamedTuple):
    """Room for one problem with n donors; the support is in the first m places."""

    columns: NDArray[np.float64]  # (n, n): columns of K of the support, one a row
    K: NDArray[np.float64]  # (n, n): K of the support
    L: NDArray[np.float64]  # (n, n): Cholesky factor of K + 11'
    support: NDArray[np.int64]  # (n,)
    inside: NDArray[np.bool_]  # (n,): by donor
    w: NDArray[np.float64]  # (n,): weights of the support
    v: NDArray[np.float64]  # (n,): minimiser over the affine hull of the support
    ones: NDArray[np.float64]  # (n,)
    cost: NDArray[np.float64]  # (n,): penalty of the support
    diagonal: NDArray[np.float64]  # (n,): of K, by donor
    penalty: NDArray[np.float64]  # (n,): by donor
    slope: NDArray[np.float64]  # (n,): K w + penalty, by donor


@_compiled
def _factor(K: NDArray[np.float64], L: NDArray[np.float64], first: int, m: int) -> None:
    """Rows first..m-1 of the Cholesky factor of K[:m, :m] + 11'; earlier rows stand."""
    for i in range(first, m):
        for j in range(i + 1):
            total = K[i, j] + 1.0
            for k in range(j):
                total -= L[i, k] * L[j, k]
            L[i, j] = math.sqrt(max(total, _RIDGE)) if i == j else total / L[j, j]


@_compiled
def _solve(L: NDArray[np.float64], x: NDArray[np.float64], m: int) -> None:
    """Solve L L' x = b in place."""
    for i in range(m):
        total = x[i]
        for k in range(i):
            total -= L[i, k] * x[k]
        x[i] = total / L[i, i]
    for i in range(m - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, m):
            total -= L[k, i] * x[k]
        x[i] = total / L[i, i]


@_compiled
def _affine_minimiser(work: _Work, m: int) -> None:
    """Minimise v'Kv + 2 cost'v over sum v = 1: v = mu (K + 11')^-1 1 - (K + 11')^-1 cost."""
    v, ones = work.v, work.ones
    sum_v, sum_ones = 0.0, 0.0
    for i in range(m):
        v[i], ones[i] = -work.cost[i], 1.0
    _solve(work.L, v, m)
    _solve(work.L, ones, m)
    for i in range(m):
        sum_v += v[i]
        sum_ones += ones[i]
    for i in range(m):
        v[i] += (1.0 - sum_v) / sum_ones * ones[i]


@_compiled
def _add(work: _Work, new: int, m: int) -> None:
    """Put a donor, whose column stands in place m, into the support with weight 0."""
    work.support[m], work.inside[new] = new, True
    work.cost[m], work.w[m] = work.penalty[new], 0.0
    for i in range(m + 1):
        work.K[m, i] = work.columns[m, work.support[i]]
        work.K[i, m] = work.K[m, i]
    _factor(work.K, work.L, m, m + 1)


@_compiled
def _drop(work: _Work, place: int, m: int) -> None:
    """Take one of m donors out of the support; those after it move up."""
    work.inside[work.support[place]] = False
    for i in range(place, m - 1):
        work.support[i], work.w[i] = work.support[i + 1], work.w[i + 1]
        work.cost[i] = work.cost[i + 1]
        for j in range(len(work.slope)):
            work.columns[i, j] = work.columns[i + 1, j]
    for i in range(m):
        for j in range(place, m - 1):
            work.K[i, j] = work.K[i, j + 1]
    for i in range(place, m - 1):
        for j in range(m - 1):
            work.K[i, j] = work.K[i + 1, j]
    _factor(work.K, work.L, place, m - 1)


@_compiled
def _minor_cycle(work: _Work, m: int) -> int:
    """Move to the minimiser over the support, dropping whom that would make negative."""
    w, v = work.w, work.v
    while True:
        _affine_minimiser(work, m)
        step, leaves = 1.0, -1
        for i in range(m):
            if v[i] <= 0.0 and w[i] <= step * (w[i] - v[i]):
                step, leaves = w[i] / (w[i] - v[i]), i
        for i in range(m):
            w[i] += step * (v[i] - w[i])
        if leaves < 0 or m == 1:
            return m
        _drop(work, leaves, m)
        m -= 1


@_compiled
def _steepest(work: _Work, m: int) -> tuple[int, float, float]:
    """The best donor outside the support, the duality gap towards it, and the objective."""
    slope = work.slope
    for j in range(len(slope)):
        slope[j] = work.penalty[j]
    for i in range(m):
        for j in range(len(slope)):
            slope[j] += work.w[i] * work.columns[i, j]
    level, value, best = 0.0, 0.0, -1
    for i in range(m):
        level += work.w[i] * slope[work.support[i]]
        value += work.w[i] * (slope[work.support[i]] + work.cost[i])
    for j in range(len(slope)):
        if not work.inside[j] and (best < 0 or slope[j] < slope[best]):
            best = j
    return best, 0.0 if best < 0 else level - slope[best], value


@_compiled
def _finish(work: _Work, m: int, donors: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Write the weights; returns the duality gap without the ridge."""
    total, level, least = 0.0, 0.0, np.inf
    for i in range(m):
        total += work.w[i]
    for i in range(m):
        j = work.support[i]
        weights[donors[j]] = work.w[i] / total
        work.slope[j] -= _RIDGE * work.w[i]
        level += work.w[i] * work.slope[j]
    for j in range(len(donors)):
        least = min(least, work.slope[j])
    return max(level - least, 0.0)


@_compiled
def _nearest_donor(
    work: _Work, penalty: NDArray[np.float64], donors: NDArray[np.int64], scale: float
) -> int:
    """Put diagonal and penalty on the scale; the donor that is best alone."""
    best = 0
    for j in range(len(donors)):
        work.diagonal[j] /= scale
        work.penalty[j] = penalty[donors[j]] / scale
        alone = work.diagonal[j] + 2.0 * work.penalty[j]
        if alone < work.diagonal[best] + 2.0 * work.penalty[best]:
            best = j
    return best


@_compiled
def nearest_point(
    gram: NDArray[np.float64],
    share: float,
    features: NDArray[np.float64],
    cross: NDArray[np.float64],
    square: float,
    penalty: NDArray[np.float64],
    donors: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> float:
    """Weights of the donors at the point of their hull nearest to a target.

    Minimises ``w'Kw + 2 penalty'w`` over the simplex, where ``K_jk = share * gram_jk +
    features_j . features_k - cross_j - cross_k + square``.

    Parameters
    ----------
    gram : (n, n) array
        Inner products of all units.
    share : float
        What `gram` counts for beside `features`.
    features : (n, d) array
        Further coordinates of all units; d may be 0.
    cross : (n,) array
        Inner products of each unit and the target, features included.
    square : float
        Of the target, with itself.
    penalty : (n,) array
        Half the cost of a weight of 1.
    donors : (j,) array
        Units that may have weight.
    weights : (n,) array
        Changed in place: zero outside the donors.

    Returns
    -------
    float
        Duality gap ``w'g - min_j g_j``, g = Kw + penalty, over the mean of K's diagonal.
    """
    n, d = len(donors), features.shape[1]
    work = _Work(
        np.empty((n, n)), np.empty((n, n)), np.empty((n, n)), np.empty(n, np.int64),
        np.zeros(n, np.bool_), np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n),
        np.empty(n), np.empty(n),
    )  # fmt: skip
    for j in range(len(weights)):
        weights[j] = 0.0
    scale = 0.0
    for j in range(n):
        u = donors[j]
        total = share * gram[u, u] - 2.0 * cross[u] + square
        for k in range(d):
            total += features[u, k] * features[u, k]
        work.diagonal[j] = max(total, 0.0)
        scale += work.diagonal[j] / n
    if scale <= 0.0:  # every donor is the target
        for j in donors:
            weights[j] = 1.0 / n
        return 0.0
    new = _nearest_donor(work, penalty, donors, scale)
    m, value = 0, np.inf
    for _ in range(20 * n + 200):
        u = donors[new]
        for j in range(n):
            t = donors[j]
            total = share * gram[u, t] - cross[u] - cross[t] + square
            for k in range(d):
                total += features[u, k] * features[t, k]
            work.columns[m, j] = total / scale
        work.columns[m, new] = work.diagonal[new] + _RIDGE
        _add(work, new, m)
        work.w[0] = 1.0 if m == 0 else work.w[0]
        m = _minor_cycle(work, m + 1)
        new, gap, now = _steepest(work, m)
        if gap <= GAP or now >= value:  # the second: as near as rounding allows
            break
        value = now
    return _finish(work, m, donors, weights)


@_compiled
def members_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of True."""
    found = np.empty(len(mask), np.int64)
    k = 0
    for i in range(len(mask)):
        if mask[i]:
            found[k] = i
            k += 1
    return found[:k]


@_compiled
def _gap_path(
    rows: NDArray[np.float64],
    unit: int,
    donors: NDArray[np.int64],
    w: NDArray[np.float64],
    u: NDArray[np.float64],
) -> None:
    """Write the unit's path less that of its weighted donors."""
    for t in range(len(u)):
        u[t] = rows[unit, t]
    for j in donors:
        if w[j] != 0.0:
            for t in range(len(u)):
                u[t] -= w[j] * rows[j, t]


@_compiled
def _imbalance_ratio(u: NDArray[np.float64]) -> float:
    """Norm of the mean gap over the mean of the norms, in [0, 1]."""
    m = len(u)
    of_mean, mean_of = 0.0, 0.0
    for t in range(u.shape[1]):
        total = 0.0
        for i in range(m):
            total += u[i, t] / m
        of_mean += total * total
    for i in range(m):
        square = 0.0
        for t in range(u.shape[1]):
            square += u[i, t] * u[i, t]
        mean_of += math.sqrt(square) / m
    return 0.0 if mean_of == 0.0 else min(math.sqrt(of_mean) / mean_of, 1.0)


@_compiled
def _fit_jointly(
    rows: NDArray[np.float64],
    gram: NDArray[np.float64],
    cohort: NDArray[np.int64],
    members: NDArray[np.int64],
    donors: NDArray[np.int64],
    cost: NDArray[np.float64],
    together: float,
    alone: NDArray[np.float64],
    weights: NDArray[np.float64],
    u: NDArray[np.float64],
) -> float:
    """Fit the members of a set by turns; returns the duality gap of the whole."""
    m, length = u.shape
    n = rows.shape[1]
    none = np.empty((n, 0))
    target, cross, price = np.empty(length), np.empty(n), np.empty(n)
    gap = np.inf
    for _ in range(_ROUNDS):
        for i in range(m):
            c = cohort[i]
            share = together / (together + alone[i])
            square = 0.0
            for t in range(length):
                others = 0.0
                for k in range(m):
                    if k != i:
                        others += u[k, t]
                target[t] = rows[c, members[i], t] + share * others
                square += target[t] * target[t]
            for j in donors:
                total = 0.0
                for t in range(length):
                    total += rows[c, j, t] * target[t]
                cross[j] = total
                price[j] = cost[i, j] * alone[i] / (together + alone[i])
            nearest_point(gram[c], 1.0, none, cross, square, price, donors, weights[i])
            _gap_path(rows[c], members[i], donors, weights[i], u[i])
        gap = _joint_gap(rows, gram, cohort, members, donors, cost, together, alone, weights, u)
        if gap <= 4.0 * GAP:
            break
    return gap


@_compiled
def _joint_gap(
    rows: NDArray[np.float64],
    gram: NDArray[np.float64],
    cohort: NDArray[np.int64],
    members: NDArray[np.int64],
    donors: NDArray[np.int64],
    cost: NDArray[np.float64],
    together: float,
    alone: NDArray[np.float64],
    weights: NDArray[np.float64],
    u: NDArray[np.float64],
) -> float:
    """Sum of the members' duality gaps over that of their mean squared distances."""
    m, length = u.shape
    total, scale = 0.0, 0.0
    for i in range(m):
        c, unit = cohort[i], members[i]
        level, least = 0.0, np.inf
        for j in donors:
            slope = alone[i] * cost[i, j]
            for t in range(length):
                pull = alone[i] * u[i, t]
                for k in range(m):
                    pull += together * u[k, t]
                slope -= rows[c, j, t] * pull
            level += weights[i, j] * slope
            least = min(least, slope)
            distance = gram[c, j, j] - 2.0 * gram[c, unit, j] + gram[c, unit, unit]
            scale += (together + alone[i]) * max(distance, 0.0) / len(donors)
        total += max(level - least, 0.0)
    return total / scale if scale > 0.0 else 0.0


@_compiled
def _fit_set(
    rows: NDArray[np.float64],
    gram: NDArray[np.float64],
    lengths: NDArray[np.float64],
    cohort: NDArray[np.int64],
    members: NDArray[np.int64],
    donors: NDArray[np.int64],
    penalty: float,
    pooling: float,
    weights: NDArray[np.float64],
) -> tuple[float, float]:
    """Fit one set: each member by itself, then jointly; duality gap and the pooling used."""
    m, n, length = len(cohort), rows.shape[1], rows.shape[2]
    none, cost, u = np.empty((n, 0)), np.empty((m, n)), np.empty((m, length))
    cross = np.empty(n)
    gap = 0.0
    for i in range(m):
        c, unit = cohort[i], members[i]
        square = gram[c, unit, unit]
        for j in range(n):
            distance = gram[c, j, j] - 2.0 * gram[c, unit, j] + square
            cost[i, j] = penalty / 2.0 * max(distance, 0.0)
            cross[j] = gram[c, unit, j]
        found = nearest_point(gram[c], 1.0, none, cross, square, cost[i], donors, weights[i])
        gap = max(gap, found)
        _gap_path(rows[c], unit, donors, weights[i], u[i])
    share = _imbalance_ratio(u) if pooling < 0.0 else pooling
    if m == 1 or share == 0.0:
        return gap, share
    together = share / (m * m * length)
    alone = np.empty(m)
    for i in range(m):
        alone[i] = (1.0 - share) / (m * lengths[cohort[i]])
    gap = _fit_jointly(rows, gram, cohort, members, donors, cost, together, alone, weights, u)
    return gap, share


@numba.njit(
    types.void(_cube, _cube, _vector, _codes, _sets, _masks, _float, _float, _out3, _out1, _out1),
    cache=True,
    error_model="numpy",
    parallel=True,
)
def fit_sets(
    rows: NDArray[np.float64],
    gram: NDArray[np.float64],
    lengths: NDArray[np.float64],
    cohort: NDArray[np.int64],
    members: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    penalty: float,
    pooling: float,
    weights: NDArray[np.float64],
    gaps: NDArray[np.float64],
    pooled: NDArray[np.float64],
) -> None:
    """Donor weights of many sets of m units, each set fitted separately or partially pooled.

    With u_i the gap of member i before its start, minimises over weights on the simplex
    ``pooling |sum u_i / m|^2 / l + (1 - pooling) sum (|u_i|^2 + penalty sum_j w_ij |x_i - x_j|^2)
    / (m l_i)`` by turns: given the others, a member's problem is a nearest point again.

    Parameters
    ----------
    rows : (c, n, l) array
        Paths of n units before each of c starts, aligned at the start; 0 where a start has fewer
        periods.
    gram : (c, n, n) array
        Their inner products.
    lengths : (c,) array
        Periods before each start.
    cohort : (m,) array
        Start of each member.
    members : (p, m) array
        Units of each set. NOT checked to be below n.
    allowed : (p, n) array
        Donors of each set.
    penalty : float
        Of Abadie & L'Hour, >= 0.
    pooling : float
        In [0, 1]; below 0 takes each set's own ratio of the pooled imbalance to the mean one.
    weights : (p, m, n) array
        Changed in place.
    gaps : (p,) array
        Changed in place: largest duality gap of a set, over the mean squared distance of donors.
    pooled : (p,) array
        Changed in place: the pooling that was used.
    """
    if len(members) < _FEW:  # not worth waking threads
        for p in range(len(members)):
            gaps[p], pooled[p] = _fit_set(
                rows, gram, lengths, cohort, members[p], members_of(allowed[p]), penalty, pooling,
                weights[p],
            )  # fmt: skip
        return
    for p in numba.prange(len(members)):
        gaps[p], pooled[p] = _fit_set(
            rows, gram, lengths, cohort, members[p], members_of(allowed[p]), penalty, pooling,
            weights[p],
        )  # fmt: skip


@numba.njit(types.void(_matrix, _codes, _matrix, _out2), cache=True, error_model="numpy")
def write_gaps(
    paths: NDArray[np.float64],
    units: NDArray[np.int64],
    weights: NDArray[np.float64],
    gaps: NDArray[np.float64],
) -> None:
    """Write each unit's path less that of its weighted donors, summed in a fixed order.

    paths (n, t); units (p,), NOT checked to be below n; weights (p, n); gaps (p, t), changed.
    """
    for p in range(len(units)):
        for t in range(paths.shape[1]):
            gaps[p, t] = paths[units[p], t]
        for j in range(len(paths)):
            if weights[p, j] != 0.0:
                for t in range(paths.shape[1]):
                    gaps[p, t] -= weights[p, j] * paths[j, t]
