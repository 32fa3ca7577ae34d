"""Panels whose effects are known, and studies of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments import Study

DID = {"kind": "diff_in_diff", "outcome": "y", "unit": "u", "time": "week"}
CITY = {"kind": "synthetic_control", "outcome": "y", "unit": "city", "time": "week"}
COLUMNS = {"outcome": "y", "unit": "u", "time": "week"}


def panel(starts=(4, 6), n=240, periods=9, drift=0.0):
    i, t = (a.ravel() for a in np.indices((n, periods)))
    kinds = [*starts, np.nan]
    start = np.array(kinds)[i % len(kinds)]
    rng = np.random.default_rng(5)
    y = rng.normal(0, 1, n)[i] + rng.normal(0, 1, n * periods) + 30 + t
    y = y + 1.5 * (t >= start) + drift * t * ~np.isnan(start)
    return pd.DataFrame(
        {
            "u": i,
            "week": t,
            "start": start,
            "gets": (~np.isnan(start)).astype(int),
            "on": (t >= start).astype(int),
            "x": (7 * i + t * t) % 5 + 0.0,
            "state": np.array(["new", "<old>"])[(i // len(kinds)) % 2],
            "y": y,
        }
    )


def cities(n=12, periods=24, start=18):
    rng = np.random.default_rng(3)
    t = np.arange(periods)
    waves = np.column_stack([np.sin(t / 3), np.cos(t / 5)])
    share = rng.uniform(0.5, 1.5, (n, 2))
    share[0] = share[1:4].mean(axis=0)
    y = 50 + 10 * share @ waves.T + rng.normal(0, 0.3, (n, periods))
    y[0, start:] += 6
    city, week = (a.ravel() for a in np.indices(y.shape))
    names = np.array(["Chengdu", *(f"c{j:02d}" for j in range(1, n))])
    return pd.DataFrame({"city": names[city], "week": week, "y": y.ravel()})


def study(folder, table, part, **more):
    table.to_parquet(folder / "panel.parquet", index=False)
    made = {"version": 1, "title": "t", "data": {"log": "panel.parquet"}, "panel": part, **more}
    return Study.model_validate(made).located(str(folder / "study.yaml"))
