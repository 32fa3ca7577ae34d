"""Logs of rotations: hourly series under a schedule, and periods under coins of any points."""

import numpy as np
import pandas as pd
from scipy import signal

from experiments import Switchback
from experiments.rotations.slice_coins import read_rotation
from experiments.rotations.slice_readings import read_windows
from experiments.rotations.slice_rows import Roles, timed_rows

MONDAY = "2026-03-02"
ROLES = {"outcome": "y", "treatment": "arm", "time": "ts"}


def hourly(days=14, slice_minutes=360, seed=0, effect=0.0, rho=0.5, profile=2.0, **options):
    """A schedule, and its log of hours with AR(1) noise of unit variance and a daily profile."""
    design = Switchback(slice_minutes, **options)
    plan = design.schedule(start=MONDAY, days=days, seed=seed)
    ts = pd.date_range(MONDAY, periods=24 * days, freq="h")
    rng = np.random.default_rng([seed, 7])
    names = plan.design.regions or ("all",)
    parts = []
    for region in names:
        given = None if plan.design.regions is None else np.full(len(ts), region, dtype=object)
        arm = plan.treatment_at(ts, given)
        noise = signal.lfilter([np.sqrt(1 - rho**2)], [1, -rho], rng.normal(size=len(ts) + 200))
        y = 5 + effect * arm + profile * np.sin(ts.hour * np.pi / 12) + noise[200:]
        parts.append(pd.DataFrame({"ts": ts, "region": region, "arm": arm, "y": y}))
    return plan, pd.concat(parts, ignore_index=True)


def carried(plan, weights=None, decay=None, amplitude=1.0, seed=0):
    """The log of a plan whose treatment works through lags of hours, or decays."""
    ts = pd.date_range(plan.table["start"].iloc[0], plan.table["end"].iloc[-1], freq="h")[:-1]
    arm = plan.treatment_at(ts)
    moving = (weights, [1.0]) if decay is None else ([1 - decay], [1, -decay])
    exposure = signal.lfilter(*moving, arm.astype(float))
    noise = signal.lfilter(
        [np.sqrt(0.75)], [1, -0.5], np.random.default_rng(seed).normal(size=len(ts) + 99)
    )
    y = amplitude * exposure + np.sin(ts.hour * np.pi / 12) + noise[99:]
    return pd.DataFrame({"ts": ts, "arm": arm, "y": y})


def by_points(points, n, coins, outcome=None):
    """Periods 1 ... n whose epochs have these coins."""
    time = np.arange(1, n + 1)
    arm = np.asarray(coins)[np.searchsorted(points, time, side="right") - 1]
    y = np.random.default_rng(n).normal(size=n) if outcome is None else outcome
    return pd.DataFrame({"t": time, "arm": arm, "y": y})


def reading(log, carryover=0, burn_in=0, adjusted=True, periods=False, **slices):
    """What is read of a log, before any estimate."""
    given = {"schedule": None, "points": None, "slice_minutes": None, **slices}
    time = "ts" if "ts" in log else "t"
    unit = "region" if given["schedule"] is not None and given["schedule"].design.regions else None
    timed = timed_rows(log, Roles("y", "arm", time, unit))
    lengths = {name: timed.kind.length(name, v) for name, v in
               (("carryover", carryover), ("burn_in", burn_in))}  # fmt: skip
    rotation = read_rotation(timed, lengths=list(lengths.values()), **given)
    return read_windows(rotation, adjusted=adjusted, periods=periods, **lengths)
