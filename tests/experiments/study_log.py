"""A log of requests for studies, and studies that read it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.study.study_schema import Study

EXPERIMENT = {"arm": "arm", "control": "A", "cluster": "viewer_id"}
METRICS = {
    "watch": {
        "kind": "mean",
        "outcome": "watch_s",
        "per": "viewer_id",
        "covariates": ["watch_s_before"],
    },
    "ctr": {"kind": "ratio", "numerator": "click", "denominator": "impression"},
}
POLICY = {"name": "new", "reward": "click", "propensity": "propensity", "target": "p_new"}
ROOMS = np.array(["a", "b", "c"])
LOGGED = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
TARGET = np.array([[0.1, 0.3, 0.6], [0.6, 0.3, 0.1]])


def make_log(n_viewers=600, seed=1):
    """Rows of requests; viewers have ids that no other number of a report contains."""
    rng = np.random.default_rng(seed)
    viewer = np.repeat(np.arange(n_viewers), 1 + rng.poisson(3, n_viewers))
    n = len(viewer)
    taste = rng.lognormal(0, 0.4, n_viewers)
    scene = rng.integers(0, 2, n)
    room = (LOGGED[scene].cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return pd.DataFrame(
        {
            "viewer_id": [f"viewer-{777_000_000 + v}" for v in viewer],
            "household": viewer // 2,
            "arm": np.where(rng.random(n_viewers) < 0.5, "B", "A")[viewer],
            "day": [f"2026-11-{1 + d:02d}" for d in rng.integers(0, 4, n)],
            "kind": np.where(rng.random(n_viewers) < 0.4, "new", "old")[viewer],
            "scene": scene,
            "room": ROOMS[room],
            "click": (rng.random(n) < 0.3).astype(int),
            "impression": 1,
            "watch_s": taste[viewer] * rng.exponential(10, n),
            "watch_s_before": taste[viewer],
            "propensity": LOGGED[scene, room],
            "p_new": TARGET[scene, room],
        }
    )


def write_log(folder):
    """`make_log` in two files of a folder ``log``; gives it whole."""
    frame = make_log()
    (folder / "log").mkdir()
    half = len(frame) // 2
    frame[:half].to_parquet(folder / "log" / "a.parquet", index=False)
    frame[half:].to_parquet(folder / "log" / "b.parquet", index=False)
    return frame


def study(folder, log="log/*.parquet", **parts):
    asked = parts if {"experiment", "off_policy"} & set(parts) else {"experiment": EXPERIMENT}
    if "experiment" in asked:
        asked = {"metrics": METRICS, **asked}
    made = {"version": 1, "title": "t", "data": {"log": log}, **asked}
    return Study.model_validate(made).located(str(folder / "study.yaml"))
