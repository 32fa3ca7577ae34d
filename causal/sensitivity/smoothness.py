"""Fixed-length intervals when a difference in trends may bend, but not by more than a bound.

Rambachan & Roth (2023), section 3. An affine estimator l'lag + v'lead that is exact for straight
trends errs by at most M ||a||_1 when no second difference exceeds M, with a_k its weight on the
second difference at knot k. The weights at knots between leads are free; the estimator on the
frontier of variance and bias is a lasso in them, whose path is piecewise linear: exact, once for
all M.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 100
_BREAKS = 50
_EXACT = 4e-16
_ROOT_TWO_PI = math.sqrt(2 * math.pi)


def folded_normal_quantile(r: float, level: float) -> float:
    """Quantile of |N(r, 1)| for r >= 0, by Newton's steps inside its bracket."""
    tail = 1 - level
    low, high = r - special.ndtri(tail), r - special.ndtri(tail / 2)  # one-sided, two-sided
    c = high
    for _ in range(_STEPS):
        excess = special.ndtr(r - c) + special.ndtr(-r - c) - tail
        low, high = (c, high) if excess > 0 else (low, c)
        density = math.exp(-((c - r) ** 2) / 2) + math.exp(-((c + r) ** 2) / 2)
        newton = c + excess * _ROOT_TWO_PI / density
        step = newton if low < newton < high else (low + high) / 2
        if abs(step - c) <= _EXACT * (1 + c):
            break
        c = step
    return float(c)


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    """Estimators of least variance for their bias, between the breaks of a path.

    weight (P, K) of the leads · bias (P,) worst error at M = 1 · the variance is `target`'s at
    (weight, l); both are exact between neighbouring rows too, by linear interpolation of weight.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    lag_weight: NDArray[np.float64]
    cov: NDArray[np.float64]

    @property
    def least_error(self) -> float:
        """Standard error of the estimator that cares for nothing else."""
        w = np.concatenate([self.weight[-1], self.lag_weight])
        return math.sqrt(max(float(w @ self.cov @ w), 0.0))

    def interval(
        self, estimate: NDArray[np.float64], bound: float, level: float
    ) -> tuple[float, float]:
        """The shortest fixed-length interval at one bound of the second differences."""

        def half(position: float) -> float:
            v, bias = self._at(position)
            w = np.concatenate([v, self.lag_weight])
            error = float(np.sqrt(max(w @ self.cov @ w, 0.0)))
            if error == 0:
                return bound * bias
            return error * folded_normal_quantile(bound * bias / error, level)

        halves = [half(j) for j in range(len(self.bias))]
        best = float(np.argmin(halves))
        low, high = max(best - 1, 0.0), min(best + 1, len(halves) - 1.0)
        if high > low:
            found = optimize.minimize_scalar(
                half, bounds=(low, high), method="bounded", options={"xatol": 1e-10}
            )
            best = float(found.x) if found.fun < min(halves) else best
        centre = float(np.concatenate([self._at(best)[0], self.lag_weight]) @ estimate)
        return centre - half(best), centre + half(best)

    def _at(self, position: float) -> tuple[NDArray[np.float64], float]:
        """Weights and bias at a place of the path, between its breaks too."""
        j = min(int(position), len(self.bias) - 1)
        k, share = min(j + 1, len(self.bias) - 1), position - j
        v = (1 - share) * self.weight[j] + share * self.weight[k]
        return v, float((1 - share) * self.bias[j] + share * self.bias[k])


def frontier(cov: NDArray[np.float64], lag_weight: NDArray[np.float64], n_lead: int) -> Frontier:
    """Every estimator that some bound would choose.

    Parameters
    ----------
    cov : array (K + T, K + T)
        Leads first.
    lag_weight : array (T,)
    n_lead : int
        K >= 1.
    """
    lags = np.arange(1, len(lag_weight) + 1)
    drift = float(lags @ lag_weight)  # what a straight trend adds: the weight at the reference
    after = sum(abs(float(np.maximum(lags - k, 0) @ lag_weight)) for k in lags)
    bend = _second_differences(n_lead)  # v = bend @ a, a at knots -K+1 .. 0 around the reference
    lead, mixed = cov[:n_lead, :n_lead], cov[:n_lead, n_lead:] @ lag_weight
    quadratic = bend.T @ lead @ bend
    linear = bend.T @ mixed + quadratic[:, -1] * drift
    free = lasso_path(quadratic[:-1, :-1], linear[:-1])
    knots = np.column_stack([free, np.full(len(free), drift)])
    return Frontier(knots @ bend.T, np.abs(knots).sum(axis=1) + after, lag_weight, cov)


def _second_differences(n_lead: int) -> NDArray[np.float64]:
    """Lead weights of a knot's weight: v_s = a_{s-1} - 2 a_s + a_{s+1}, shape (K, K)."""
    leads = np.arange(n_lead)
    bend = np.zeros((n_lead, n_lead))
    bend[leads, leads] = 1.0
    bend[leads[1:], leads[:-1]] = -2.0
    bend[leads[2:], leads[:-2]] = 1.0
    return bend


def lasso_path(quadratic: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimisers of a'Qa / 2 + r'a + p ||a||_1 at the breaks of p, from none to all of the bias.

    Parameters
    ----------
    quadratic : array (n, n)
        Positive semi-definite.
    linear : array (n,)

    Returns
    -------
    array (P, n)
        Row 0 is the zero vector, the last row the minimiser at p = 0; linear in between.

    References
    ----------
    Osborne, Presnell & Turlach (2000), A new approach to variable selection; Efron, Hastie,
    Johnstone & Tibshirani (2004), Least angle regression, section 3.1.
    """
    n = len(linear)
    if n == 0:
        return np.zeros((1, 0))
    size = float(np.trace(quadratic)) / n
    q = quadratic + np.eye(n) * (1e-13 * size)  # a singular covariance has no unique minimiser
    a, penalty = np.zeros(n), float(np.abs(linear).max())
    sign = np.zeros(n)  # of the weights that are not 0
    path = [a]
    j = int(np.argmax(np.abs(linear)))
    for _ in range(_BREAKS * n):
        if penalty <= 0:
            break
        slope = q @ a + linear
        left = sign[j]
        sign[j] = 0.0 if left else -np.sign(slope[j])
        on = sign != 0
        step = np.zeros(n)  # of the weights as the penalty falls
        step[on] = np.linalg.solve(q[np.ix_(on, on)], sign[on])
        down, j = _next_break(a, step, slope, q @ step, penalty, on, (j, left))
        a, penalty = np.where(on, a + down * step, 0.0), penalty - down
        path.append(a)
    return np.array(path)


def _next_break(
    a: NDArray[np.float64],
    step: NDArray[np.float64],
    slope: NDArray[np.float64],
    turn: NDArray[np.float64],
    penalty: float,
    on: NDArray[np.bool_],
    last: tuple[int, float],
) -> tuple[float, int]:
    """How far the penalty falls until a weight comes back to 0 or leaves it, and which.

    `last` is the weight that has just come back to 0, with the sign that it had: it cannot leave
    to that side at once.
    """
    reach = np.full((3, len(a)), np.inf)
    back = on & (a * step < 0)
    reach[0, back] = -a[back] / step[back]
    for row, side in ((1, 1.0), (2, -1.0)):  # side * slope meets the penalty
        closing = side * turn + 1
        leaves = ~on & (closing > 0)
        if last[1] == -side:
            leaves[last[0]] = False
        reach[row, leaves] = np.maximum((penalty - side * slope[leaves]) / closing[leaves], 0.0)
    which = int(np.argmin(reach.min(axis=0)))
    down = float(reach[:, which].min())
    return (down, which) if down < penalty else (penalty, which)
