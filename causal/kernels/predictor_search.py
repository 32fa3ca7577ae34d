"""The search for predictor weights V: nested least squares, in numba, units in parallel.

For every V the donor weights are exact (`simplex.nearest_point`); V is chosen by the pre-period
fit of the outcome that those weights give, by Nelder-Mead from several starts and then along
single predictors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from numba import types

from causal.kernels.simplex import members_of, nearest_point

if TYPE_CHECKING:
    from numpy.typing import NDArray

_compiled = numba.njit(cache=True, error_model="numpy")
_float = types.float64
_vector = types.Array(_float, 1, "C", readonly=True)
_codes = types.Array(types.int64, 1, "C", readonly=True)
_masks = types.Array(types.bool_, 2, "C", readonly=True)
_matrix = types.Array(_float, 2, "C", readonly=True)
_out1 = types.Array(_float, 1, "C")
_out2 = types.Array(_float, 2, "C")
_out3 = types.Array(_float, 3, "C")

TIE = 1e-8  # what the fit of the outcome counts for in the inner problem: it decides ties
_LEAST = -30.0  # of log V below the largest
_PER_START, _RESTART, _ALONG = 40, 120, 100  # evaluations a predictor


class _Problem(NamedTuple):
    """One unit's search; arrays as in `search_predictor_weights`, and room to work in."""

    features: NDArray[np.float64]
    gram: NDArray[np.float64]
    paths: NDArray[np.float64]
    after: NDArray[np.float64]
    donors: NDArray[np.int64]
    scaled: NDArray[np.float64]  # (n, k): sqrt(V) times features, from the unit
    cross: NDArray[np.float64]  # (n,)
    cost: NDArray[np.float64]  # (n,)
    v: NDArray[np.float64]  # (k,)
    w: NDArray[np.float64]  # (n,)
    trace: NDArray[np.float64]  # (e, 2): fit and effect of every evaluation, e may be 0
    steps: NDArray[np.int64]  # (1,): evaluations so far
    unit: int
    penalty: float


@_compiled
def _weigh(problem: _Problem) -> float:
    """Donor weights given V; returns their duality gap."""
    unit, n, k = problem.unit, len(problem.cross), len(problem.v)
    for j in range(n):
        distance = 0.0
        for h in range(k):
            step = problem.features[j, h] - problem.features[unit, h]
            problem.scaled[j, h] = math.sqrt(problem.v[h]) * step
            distance += problem.v[h] * step * step
        problem.cost[j] = problem.penalty / 2.0 * distance
        problem.cross[j] = TIE * problem.gram[unit, j]
    gap = nearest_point(
        problem.gram, TIE, problem.scaled, problem.cross, TIE * problem.gram[unit, unit],
        problem.cost, problem.donors, problem.w,
    )  # fmt: skip
    return float(gap)


@_compiled
def _misfit(problem: _Problem) -> float:
    """Mean squared gap of the outcome before treatment."""
    total = 0.0
    length = problem.paths.shape[1]
    for t in range(length):
        gap = problem.paths[problem.unit, t]
        for j in problem.donors:
            if problem.w[j] != 0.0:
                gap -= problem.w[j] * problem.paths[j, t]
        total += gap * gap
    return float(total / length)


@_compiled
def _loss(problem: _Problem, theta: NDArray[np.float64]) -> float:
    """Misfit at V = softmax(theta); theta is held within reach of its largest."""
    k = len(theta)
    top, total = theta[0], 0.0
    for h in range(k):
        top = max(top, theta[h])
    for h in range(k):
        theta[h] = max(theta[h] - top, _LEAST)
        problem.v[h] = math.exp(theta[h])
        total += problem.v[h]
    for h in range(k):
        problem.v[h] /= total
    _weigh(problem)
    loss = _misfit(problem)
    at = problem.steps[0]
    if at < len(problem.trace):
        effect = problem.after[problem.unit]
        for j in problem.donors:
            effect -= problem.w[j] * problem.after[j]
        problem.trace[at, 0], problem.trace[at, 1] = loss, effect
    problem.steps[0] = at + 1
    return loss


@_compiled
def _take(
    points: NDArray[np.float64],
    losses: NDArray[np.float64],
    place: int,
    point: NDArray[np.float64],
    loss: float,
) -> None:
    """Put a point in the place of another."""
    losses[place] = loss
    for h in range(len(point)):
        points[place, h] = point[h]


@_compiled
def _shrink(
    problem: _Problem, points: NDArray[np.float64], losses: NDArray[np.float64], low: int
) -> None:
    """Draw all points half way to the best."""
    for i in range(len(points)):
        if i != low:
            for h in range(points.shape[1]):
                points[i, h] = 0.5 * (points[i, h] + points[low, h])
            losses[i] = _loss(problem, points[i])


@_compiled
def _ends(losses: NDArray[np.float64]) -> tuple[int, int, int]:
    """Places of the best, the worst and the second worst."""
    low, high, next_high = 0, 0, -1
    for i in range(1, len(losses)):
        if losses[i] < losses[low]:
            low = i
        if losses[i] > losses[high]:
            high = i
    for i in range(len(losses)):
        if i != high and (next_high < 0 or losses[i] > losses[next_high]):
            next_high = i
    return low, high, next_high


@_compiled
def _towards(
    points: NDArray[np.float64], high: int, reach: float, trial: NDArray[np.float64]
) -> None:
    """Write the point beyond the centre of the others, `reach` times as far as the worst is."""
    k = points.shape[1]
    for h in range(k):
        centre = 0.0
        for i in range(k + 1):
            if i != high:
                centre += points[i, h] / k
        trial[h] = centre + reach * (centre - points[high, h])


@_compiled
def _step(
    problem: _Problem,
    points: NDArray[np.float64],
    losses: NDArray[np.float64],
    trial: NDArray[np.float64],
    further: NDArray[np.float64],
) -> None:
    """Reflect the worst point, or expand, contract or shrink."""
    low, high, next_high = _ends(losses)
    _towards(points, high, 1.0, trial)
    _towards(points, high, 2.0, further)
    reflected = _loss(problem, trial)
    if reflected < losses[low]:
        expanded = _loss(problem, further)
        if expanded < reflected:
            _take(points, losses, high, further, expanded)
        else:
            _take(points, losses, high, trial, reflected)
        return
    if reflected < losses[high]:
        _take(points, losses, high, trial, reflected)
    if reflected < losses[next_high]:
        return
    _towards(points, high, -0.5, trial)
    contracted = _loss(problem, trial)
    if contracted < losses[high]:
        _take(points, losses, high, trial, contracted)
    else:
        _shrink(problem, points, losses, low)


@_compiled
def _nelder_mead(
    problem: _Problem, theta: NDArray[np.float64], best: float, size: float, budget: int
) -> float:
    """Improve theta, whose loss is `best`, in place; returns its loss."""
    k = len(theta)
    points, losses = np.empty((k + 1, k)), np.empty(k + 1)
    trial, further = np.empty(k), np.empty(k)
    for i in range(k + 1):
        for h in range(k):
            points[i, h] = theta[h] + (size if h == i - 1 else 0.0)
    losses[0] = best
    for i in range(1, k + 1):
        losses[i] = _loss(problem, points[i])
    stop = problem.steps[0] + budget
    low, high, _ = _ends(losses)
    while problem.steps[0] < stop and losses[high] - losses[low] > 1e-12 * losses[low]:
        _step(problem, points, losses, trial, further)
        low, high, _ = _ends(losses)
    for h in range(k):
        theta[h] = points[low, h]
    return float(losses[low])


@_compiled
def _along(problem: _Problem, theta: NDArray[np.float64], best: float, budget: int) -> float:
    """Improve theta one predictor at a time, with steps that halve, or without it; its loss."""
    k = len(theta)
    trial = np.empty(k)
    step, stop = 2.0, problem.steps[0] + budget
    while step > 1e-3 and problem.steps[0] < stop:
        better = False
        for h in range(3 * k):
            for i in range(k):
                trial[i] = theta[i]
            if h % 3 == 2:  # leave the predictor out
                trial[h // 3] = 2.0 * _LEAST
            else:
                trial[h // 3] += step if h % 3 == 0 else -step
            loss = _loss(problem, trial)
            if loss < best:
                best, better = loss, True
                for i in range(k):
                    theta[i] = trial[i]
        if not better:
            step *= 0.5
    return best


@_compiled
def _search(problem: _Problem, starts: NDArray[np.float64]) -> None:
    """Leave the best V and its weights in the problem."""
    k = starts.shape[1]
    theta, chosen = np.empty(k), np.empty(k)
    best = np.inf
    for s in range(len(starts)):
        for h in range(k):
            theta[h] = starts[s, h]
        loss = _nelder_mead(problem, theta, _loss(problem, theta), 1.0, _PER_START * k)
        if loss < best:
            best = loss
            for h in range(k):
                chosen[h] = theta[h]
    best = _nelder_mead(problem, chosen, best, 0.3, _RESTART * k)
    _along(problem, chosen, best, _ALONG * k)
    _loss(problem, chosen)


def most_evaluations(n_starts: int, k: int) -> int:
    """An upper bound of the evaluations of one search."""
    over = n_starts + 2  # a step or sweep may begin just before the budget ends
    return (n_starts * _PER_START + _RESTART + _ALONG) * k + over * 4 * (k + 2)


@numba.njit(
    types.void(
        _matrix, _matrix, _matrix, _vector, _codes, _masks, _matrix, _float, _out2, _out2, _out1,
        _out1, _out3,
    ),
    cache=True,
    error_model="numpy",
    parallel=True,
)  # fmt: skip
def search_predictor_weights(
    features: NDArray[np.float64],
    gram: NDArray[np.float64],
    paths: NDArray[np.float64],
    after: NDArray[np.float64],
    units: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    starts: NDArray[np.float64],
    penalty: float,
    v: NDArray[np.float64],
    weights: NDArray[np.float64],
    losses: NDArray[np.float64],
    gaps: NDArray[np.float64],
    trace: NDArray[np.float64],
) -> None:
    """Predictor weights and donor weights of many units, each with its own search.

    Parameters
    ----------
    features : (n, k) array
        Predictors of all units, standardised.
    gram : (n, n) array
        Inner products of their paths before treatment, of mean diagonal 1.
    paths : (n, t) array
        Those paths.
    after : (n,) array
        Mean outcome after the start: for the trace only.
    units : (p,) array
        Whose weights. NOT checked to be below n.
    allowed : (p, n) array
        Donors of each.
    starts : (s, k) array
        Logarithms of V to start from; none, and V is what `v` holds.
    penalty : float
        Of Abadie & L'Hour, in the space of sqrt(V) times features.
    v, weights, losses, gaps : (p, k), (p, n), (p,), (p,) arrays
        Changed in place: V, donor weights, mean squared gap before treatment, duality gap.
    trace : (q, e, 2) array
        Changed in place: fit and effect at every evaluation of the first q units.
    """
    for p in numba.prange(len(units)):
        n, k = features.shape
        problem = _Problem(
            features, gram, paths, after, members_of(allowed[p]), np.empty((n, k)), np.empty(n),
            np.empty(n), v[p], weights[p], trace[p] if p < len(trace) else np.empty((0, 2)),
            np.zeros(1, np.int64), units[p], penalty,
        )  # fmt: skip
        if len(starts) > 0:
            _search(problem, starts)
        gaps[p] = _weigh(problem)
        losses[p] = _misfit(problem)
