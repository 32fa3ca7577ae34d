"""What tests of moments share: a log, both paths, and exact answers to compare with."""

import numpy as np
import pandas as pd
import pytest

from causal import engine_rows
from causal import rows as rows_module
from causal.moments import group_moments

EXACT = 1e-12  # the house's promise over threads, splits, orders and engines
COLUMNS = ["x", "y", "count"]
BY = ["arm", "day"]


def log(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(10, 3, n)
    return pd.DataFrame(
        {
            "x": x,
            "y": 0.5 * x + rng.exponential(2, n),
            "count": rng.poisson(2, n),
            "arm": rng.choice(["A", "B"], n),
            "day": rng.integers(1, 5, n),
            "viewer": rng.integers(0, 300, n),
            "w": rng.uniform(0.5, 2, n),
        }
    )


def engine_moments(frame, **roles):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_IN_ENGINE_FROM", 0)
        patch.setattr(engine_rows, "_MANY_GROUPS", 0)
        return group_moments(frame, **roles)


def assert_same(a, b, tolerance=EXACT):
    """Equal relative to each column's level and spread."""
    assert (a.columns, a.by, a.unit) == (b.columns, b.by, b.unit)
    assert a.keys.to_pydict() == b.keys.to_pydict()
    assert a.n.tolist() == b.n.tolist()
    spread = np.sqrt(np.einsum("gjj->gj", a.cross))
    assert (np.abs(a.mean - b.mean) <= tolerance * np.maximum(np.abs(a.mean), spread)).all()
    assert (np.abs(a.cross - b.cross) <= tolerance * spread[:, :, None] * spread[:, None, :]).all()
    assert (a.weight is None) == (b.weight is None)
    if a.weight is not None:
        np.testing.assert_allclose(b.weight, a.weight, rtol=tolerance)


def long_double(values, weights=None):
    """Mean and centred cross products in long double."""
    x = np.asarray(values, dtype=np.longdouble)
    w = np.ones(len(x), np.longdouble) if weights is None else np.asarray(weights, np.longdouble)
    mean = (w[:, None] * x).sum(0) / w.sum()
    d = x - mean
    return mean, np.einsum("i,ij,ik->jk", w, d, d)


def assert_exact(m, values, weights=None, tolerance=EXACT):
    mean, cross = long_double(values, weights)
    spread = np.sqrt(np.diag(cross))
    bound = tolerance * np.maximum(np.abs(mean), spread)
    assert (np.abs(m.mean[0] - mean) <= bound).all()
    assert (np.abs(m.cross[0] - cross) <= tolerance * np.outer(spread, spread)).all()


PATHS = pytest.mark.parametrize("path", [group_moments, engine_moments], ids=["memory", "engine"])
