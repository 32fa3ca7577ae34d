"""Tables that the tests of the A/B read-out share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "ab.json").read_text(encoding="utf-8")
)


def reference_rows() -> pd.DataFrame:
    """The 90 rows behind the stored numbers of other implementations."""
    return pd.DataFrame(REFERENCE["rows"])


def users(n: int = 400, effect: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """One row a viewer: outcome `y`, covariates `x` and `z`, weight `w`, arm 0/1 and arm text."""
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.arange(n) % 2)
    x, z = rng.normal(3, 2, n), rng.exponential(1, n)
    y = 20 + effect * arm + (1 + 0.5 * arm) * x + 0.3 * z + rng.normal(0, 1 + 0.3 * np.abs(x), n)
    return pd.DataFrame(
        {
            "viewer_id": np.arange(n),
            "arm": arm,
            "group": np.where(arm == 1, "new", "old"),
            "y": y,
            "x": x,
            "z": z,
            "w": rng.uniform(0.2, 3, n),
            "touched": rng.integers(0, 2, n),
        }
    )


def log(n_viewers: int = 240, seed: int = 0, *, crossing: bool = False) -> pd.DataFrame:
    """One row a request: viewers within villages, arms by village (by request if `crossing`)."""
    rng = np.random.default_rng(seed)
    village = np.arange(n_viewers) % 24
    per_viewer = rng.integers(1, 7, n_viewers)
    viewer = np.repeat(np.arange(n_viewers), per_viewer)
    n = len(viewer)
    arm = rng.integers(0, 2, n) if crossing else village[viewer] % 2
    before = rng.gamma(2, 2, n_viewers)[viewer]
    taste = rng.normal(0, 1, 24)[village[viewer]]
    views = 1 + rng.poisson(2, n)
    views0 = 1 + rng.poisson(2, n_viewers)
    clicks0 = rng.binomial(views0, 0.3)
    return pd.DataFrame(
        {
            "viewer_id": viewer,
            "village": village[viewer],
            "arm": arm,
            "day": rng.integers(1, 5, n),
            "segment": np.where(viewer % 3 == 0, "new", "old"),
            "watch_s": 10 + arm + before + taste + rng.normal(0, 2, n),
            "before": before,
            "noise": rng.normal(0, 1, n),
            "views": views,
            "clicks": rng.binomial(views, 0.3 + 0.05 * arm),
            "views0": views0[viewer],
            "clicks0": clicks0[viewer],
            "weight": rng.uniform(0.5, 2, n),
            "touched": (viewer % 5 < 2).astype(int),
        }
    )


def with_gaps(frame: pd.DataFrame, columns: list[str], seed: int = 1) -> pd.DataFrame:
    """The table with 5 % of each column missing."""
    rng = np.random.default_rng(seed)
    gappy = frame.copy()
    for name in columns:
        gappy[name] = gappy[name].astype(float).mask(rng.random(len(frame)) < 0.05)
    return gappy
