"""Panels to test with, and the same regressions with a dummy for every level."""

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


def panel(n_units=60, n_periods=6, *, starts=(3,), seed=7, share=1.0, effect=1.0, noise=1.0):
    """A log of units and days: `cohort` (inf for never), cluster of 4 units, two states, y."""
    rng = np.random.default_rng(seed)
    unit, day = (a.ravel() for a in np.indices((n_units, n_periods)))
    kinds = np.array([*starts, np.inf])
    cohort = kinds[np.arange(n_units) % len(kinds)][unit]
    level, trend = rng.normal(size=n_units)[unit], rng.normal(size=n_periods)[day]
    log = pd.DataFrame(
        {
            "unit": unit + 100,
            "day": day,
            "cohort": cohort,
            "cluster": unit // 4 + 7,
            "state": np.where(rng.permutation(n_units) % 2 == 0, "new", "old")[unit],
            "x": rng.normal(size=len(unit)),
            "weight": rng.integers(1, 4, len(unit)),
        }
    )
    on = day >= cohort
    log["y"] = level + trend + effect * on + 0.4 * log["x"] + noise * rng.normal(size=len(unit))
    log["ever"] = np.isfinite(cohort).astype(int)
    log["status"] = on.astype(int)
    return log.sample(frac=share, random_state=seed).reset_index(drop=True)


def dummies(values):
    """One column a level."""
    values = np.asarray(values)
    return (values[:, None] == np.unique(values)).astype(float)


def dense_fit(log, regressors, *, cluster, weight=None, k=None, effects=("unit", "day")):
    """Coefficients and covariance of least squares with all dummies; CR1 with the house's k.

    regressors : (n, K); k : parameters of the convention
    """
    first, *more = effects
    X = np.column_stack(
        [regressors, dummies(log[first]), *(dummies(log[name])[:, 1:] for name in more)]
    )
    w = np.ones(len(log)) if weight is None else log[weight].to_numpy(dtype=float)
    inverse = np.linalg.inv(X.T @ (w[:, None] * X))
    coef = inverse @ (X.T @ (w * log["y"].to_numpy()))
    scores = X * (w * (log["y"].to_numpy() - X @ coef))[:, None]
    sums = pd.DataFrame(scores).groupby(pd.factorize(log[cluster])[0]).sum().to_numpy()
    kept, n, g = regressors.shape[1], len(log), len(sums)
    factor = g / (g - 1) * (n - 1) / (n - k)
    return coef[:kept], (inverse @ sums.T @ sums @ inverse)[:kept, :kept] * factor


def event_dummies(log, events):
    """(n, K): whether a row is at each event time."""
    since = log["day"] - log["cohort"]
    return (since.to_numpy()[:, None] == np.asarray(events)).astype(float)


def other_tables(log):
    """The same rows as every other kind of table: name -> table."""
    arrow = pa.Table.from_pandas(log, preserve_index=False)
    con = ibis.duckdb.connect()
    con.con.register("rows", arrow)
    con.con.execute("CREATE TABLE log AS SELECT * FROM rows")
    return {
        "polars": pl.from_pandas(log),
        "lazy": pl.from_pandas(log).lazy(),
        "arrow": arrow,
        "duckdb": duckdb.connect().from_arrow(arrow),
        "ibis": con.table("log"),
    }
