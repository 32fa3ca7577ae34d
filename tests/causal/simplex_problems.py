"""Donor weights by the kernel, and the same problems in plain numpy and scipy."""

import numpy as np
from scipy.optimize import minimize

from causal.kernels.simplex import add_grams, fit_sets


def fit(paths, members, allowed, *, penalty=0.0, pooling=0.0, cohort=None, lengths=None):
    """Weights (p, m, n), duality gaps (p,) and pooling used (p,) of `fit_sets`."""
    rows = np.asarray(paths, dtype=float)
    rows = np.ascontiguousarray(rows[None] if rows.ndim == 2 else rows)
    c, n, length = rows.shape
    gram = np.empty((c, n, n))
    add_grams(rows, gram)
    members = np.ascontiguousarray(members, dtype=np.int64)
    p, m = members.shape
    cohort = np.zeros(m, np.int64) if cohort is None else np.asarray(cohort, np.int64)
    lengths = np.full(c, float(length)) if lengths is None else np.asarray(lengths, float)
    weights, gaps, pooled = np.zeros((p, m, n)), np.empty(p), np.empty(p)
    fit_sets(rows, gram, lengths, cohort, members, np.ascontiguousarray(allowed), penalty, pooling,
             weights, gaps, pooled)  # fmt: skip
    return weights, gaps, pooled


def first_unit(paths, **options):
    """Weights of all other units for the first, and the duality gap."""
    n = np.shape(paths)[-2]
    weights, gaps, _ = fit(paths, [[0]], np.arange(n)[None] > 0, **options)
    return weights[0, 0], gaps[0]


def objective(paths, w, penalty=0.0):
    """Squared distance of the first path to the weighted ones, and the penalty."""
    gap = paths[0] - w @ paths
    return gap @ gap + penalty * (w * ((paths - paths[0]) ** 2).sum(axis=1)).sum()


def by_slsqp(function, gradient, size, groups=1):
    """Minimise over weights that sum to 1 in each of `groups` equal blocks."""
    block = size // groups
    sums = [
        {
            "type": "eq",
            "fun": lambda w, g=g: w[g * block : (g + 1) * block].sum() - 1,
            "jac": lambda w, g=g: (np.arange(size) // block == g).astype(float),
        }
        for g in range(groups)
    ]
    found = minimize(
        function,
        np.full(size, 1 / block),
        jac=gradient,
        bounds=[(0, 1)] * size,
        constraints=sums,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    w = np.clip(found.x, 0, None)
    return (w.reshape(groups, block) / w.reshape(groups, block).sum(axis=1)[:, None]).ravel()
