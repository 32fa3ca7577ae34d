"""Panels for synthetic controls: outcomes (units, periods) as tables, and how to read them."""

import warnings

import numpy as np
import pandas as pd

from causal import EstimationWarning, synthetic_control

ROLES = {"outcome": "gmv", "unit": "city", "time": "week"}
START = 15


def as_table(outcome, times=None, names=None):
    """One row a city and week; weeks 1, 2, ... and cities c00, c01, ... unless named."""
    n, t = np.shape(outcome)
    names = [f"c{i:02d}" for i in range(n)] if names is None else names
    times = np.arange(1, t + 1) if times is None else times
    return pd.DataFrame(
        {
            "city": np.repeat(np.asarray(names, dtype=object), t),
            "week": np.tile(times, n),
            "gmv": np.asarray(outcome).ravel(),
        }
    )


def factor_outcomes(seed=0, donors=10, periods=20, noise=0.3, effect=2.0, treated=1, start=START):
    """Loadings in a simplex, random-walk factors; the first units gain `effect` from `start` on."""
    rng = np.random.default_rng(seed)
    loading = rng.dirichlet(np.ones(3), donors + treated)
    loading[:treated] = rng.dirichlet(np.full(3, 30.0), treated)
    factor = rng.normal(size=(3, periods)).cumsum(axis=1) * 2 + [[20], [24], [30]]
    outcome = loading @ factor + rng.normal(0, noise, (donors + treated, periods))
    outcome[:treated, start - 1 :] += effect
    return outcome


def control(outcome, treated="c00", start=START, **options):
    """`synthetic_control` of the first city unless told otherwise."""
    return synthetic_control(as_table(outcome), treated=treated, start=start, **ROLES, **options)


def quiet_control(outcome, **options):
    """The same, where the fit is known to be poor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return control(outcome, **options)


def weights_of(result, n):
    """Donor weights as (n,)."""
    return np.array([result.donor_weights.get(f"c{i:02d}", 0.0) for i in range(n)])
