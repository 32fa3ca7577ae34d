"""Honest intervals by brute force: linear programs and generic convex optimisation."""

import json
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from causal import EffectCurve

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "honest.json").read_text())


def study_curve(estimate, cov, n_lead, *, reference=True, n_obs=500):
    """An event study with these leads and lags."""
    estimate, cov = np.asarray(estimate, float), np.asarray(cov, float)
    index = [*range(-n_lead - 1, -1), *range(len(estimate) - n_lead)]
    if reference:
        index.insert(n_lead, -1)
        estimate = np.insert(estimate, n_lead, 0.0)
        cov = np.insert(np.insert(cov, n_lead, 0.0, axis=0), n_lead, 0.0, axis=1)
    return EffectCurve(
        index=tuple(index),
        index_name="event_time",
        estimate=estimate,
        cov=cov,
        estimand="att",
        method="TWFE",
        n_obs=n_obs,
    )


def stored(name):
    """Estimate, covariance, number of leads and the record itself of a stored study."""
    record = REFERENCE[name]
    k = len(record["estimate"])
    cov = np.zeros((k, k))
    for i, row in enumerate(record["cov_lower"]):
        cov[i, : i + 1] = cov[: i + 1, i] = row
    return np.array(record["estimate"]), cov, record["n_lead"], record


def random_study(rng, n_lead, n_lag, size=1.0):
    """Leads and lags of a simulated panel of two groups: estimate and covariance."""
    n = n_lead + n_lag
    walk = np.cumsum(rng.normal(size=(n + 1, 40)), axis=0) + rng.normal(size=(n + 1, 40))
    from_reference = np.delete(np.eye(n + 1), n_lead, axis=0) - np.eye(n + 1)[n_lead]
    cov = from_reference @ (walk @ walk.T) @ from_reference.T / 400
    return size * rng.multivariate_normal(np.zeros(n), cov), cov


def shortest_by_optimiser(estimate, cov, lag_weight, n_lead, bound, level):
    """The fixed-length interval's half length, by SLSQP from several starts."""
    lags = np.arange(1, len(lag_weight) + 1)
    times = np.concatenate([np.arange(-n_lead, 0), lags])
    knots = np.arange(-n_lead + 1, lags[-1])
    reach = np.array(
        [np.maximum(times - k, 0) * (k > 0) + np.maximum(k - times, 0) * (k <= 0) for k in knots]
    )

    def half(x):
        w = np.concatenate([x[:n_lead], lag_weight])
        error = np.sqrt(w @ cov @ w)
        r = bound * x[n_lead:].sum() / error
        return error * np.sqrt(stats.ncx2.ppf(level, 1, r * r) if r else stats.chi2.ppf(level, 1))

    def bends(x):
        return reach @ np.concatenate([x[:n_lead], lag_weight])

    trend = {"type": "eq", "fun": lambda x: times @ np.concatenate([x[:n_lead], lag_weight])}
    above = {"type": "ineq", "fun": lambda x: x[n_lead:] - bends(x)}
    below = {"type": "ineq", "fun": lambda x: x[n_lead:] + bends(x)}
    found = []
    for start in range(n_lead):
        v = np.zeros(n_lead)
        v[start] = (lags @ lag_weight) / (n_lead - start)
        x = np.concatenate([v, np.abs(bends(v))])
        options = {"maxiter": 1000, "ftol": 1e-14}
        solved = optimize.minimize(
            half, x, method="SLSQP", constraints=[trend, above, below], options=options
        )
        if abs(trend["fun"](solved.x)) < 1e-8:
            x = np.concatenate([solved.x[:n_lead], np.abs(bends(solved.x))])
            found.append(half(x))
    return min(found)


def dense_moments(estimate, cov, lag_weight, n_lead, bound, s, sign):
    """Rows A, their values, covariance and nuisance columns, straight from the definitions."""
    n = len(estimate)
    path = np.insert(np.eye(n), n_lead, 0.0, axis=0)
    change = np.diff(path, axis=0)
    after = change[n_lead:]
    A = np.vstack([after, -after]) - bound * sign * change[s]
    basis = np.linalg.svd(lag_weight[None, :])[2][1:].T  # shifts of the lags that keep the target
    one = lag_weight / (lag_weight @ lag_weight)
    return A, A @ estimate, A @ cov @ A.T, A[:, n_lead:] @ basis, A[:, n_lead:] @ one


def eta_by_program(y, cov, nuisance):
    """min eta with y - nuisance u <= eta sigma, and the dual solution."""
    sigma = np.sqrt(np.diag(cov))
    cost = np.concatenate([[1.0], np.zeros(nuisance.shape[1])])
    solved = optimize.linprog(
        cost, A_ub=-np.column_stack([sigma, nuisance]), b_ub=-y, bounds=(None, None)
    )
    return solved.fun, -solved.ineqlin.marginals


def dense_rejects(y, cov, nuisance, limit, size):
    """The hybrid conditional test of Andrews, Roth & Pakes by linear programs (their Algorithm 1).

    None where the answer hangs on the last digits.
    """
    eta, gamma = eta_by_program(y, cov, nuisance)
    if eta > limit:
        return True
    error = np.sqrt(gamma @ cov @ gamma)
    sigma = np.sqrt(np.diag(cov))
    along = cov @ gamma / error**2
    rest = y - along * (gamma @ y)
    equal = np.column_stack([sigma, nuisance]).T
    right = np.concatenate([[1.0], np.zeros(nuisance.shape[1])])

    def solves(c):
        best = optimize.linprog(-(rest + along * c), A_eq=equal, b_eq=right)
        return abs(-best.fun - c) < 1e-9 * max(1.0, abs(c))

    def edge(far):
        if solves(far):
            return np.sign(far) * np.inf
        near = eta
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (middle, far) if solves(middle) else (near, middle)
        return near

    low, high = edge(eta - 50 * error) / error, min(edge(eta + 50 * error), limit) / error
    p = stats.truncnorm.sf(eta / error, low, high)
    if abs(p - size) < 1e-5:
        return None
    return bool(eta > 0 and p < size)
