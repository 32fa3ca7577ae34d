"""Small panels with known truth for synthetic difference-in-differences and matrix completion."""

import numpy as np
import pandas as pd


def factor_panel(seed=0, n_donors=24, starts=(8, 8, 8), n_periods=12, noise=1.0, effect=2.0):
    """Outcomes (N, T) of two factors, and each unit's start (n_periods for donors)."""
    rng = np.random.default_rng(seed)
    first = np.array([*[n_periods] * n_donors, *starts])
    n = len(first)
    loadings = rng.uniform(0, 1, (n, 2))
    factors = np.cumsum(rng.normal(size=(2, n_periods)), axis=1)
    Y = 5 * rng.normal(size=(n, 1)) + 2 * loadings @ factors + rng.normal(size=n_periods)
    Y += noise * rng.normal(size=Y.shape)
    Y += effect * (np.arange(n_periods) >= first[:, None])
    return Y, first


def as_rows(Y, first):
    """One row a unit and period; cohort missing for the never treated."""
    n, n_periods = Y.shape
    cohort = np.where(first < n_periods, first + 100.0, np.nan)
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(n) + 10, n_periods),
            "time": np.tile(np.arange(n_periods) + 100, n),
            "y": Y.ravel(),
            "d": np.repeat((first < n_periods).astype(int), n_periods),
            "cohort": np.repeat(cohort, n_periods),
        }
    )


ROLES = {"outcome": "y", "unit": "unit", "time": "time"}
