"""Staggered panels to test with, and group-time effects from nothing but means."""

import warnings

import numpy as np
import pandas as pd

from causal import group_time_effects

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}


def staggered(n_units=120, n_periods=6, *, starts=(2, 3, 5), seed=3, share=1.0, never=True):
    """Units and days; `cohort` inf for never; two covariates that shift trends and cohorts."""
    rng = np.random.default_rng(seed)
    kinds = np.array([*starts, *([np.inf] if never else [])])
    x, z = rng.normal(size=(2, n_units))
    late = np.argsort(np.argsort(x + 2 * rng.normal(size=n_units))) * len(kinds) // n_units
    cohort = kinds[late]
    unit, day = (a.ravel() for a in np.indices((n_units, n_periods)))
    on = day >= cohort[unit]
    y = rng.normal(size=n_units)[unit] + (0.2 + 0.3 * x[unit]) * day + on
    log = pd.DataFrame(
        {
            "unit": unit + 100,
            "day": day,
            "cohort": cohort[unit],
            "y": y + rng.normal(size=len(unit)),
            "x": x[unit],
            "z": z[unit] + 0.2 * day,
            "cluster": unit % (n_units // 3) + 7,
            "weight": rng.uniform(0.5, 2, n_units)[unit],
            "one": 1,
        }
    )
    return log.sample(frac=share, random_state=seed).reset_index(drop=True)


def effects(log, **options):
    """`group_time_effects` of such a panel, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return group_time_effects(log, **{**ROLES, **options})


def mean_change(log, units, time, base):
    """Mean change of units that are seen in both periods."""
    wide = log[log["unit"].isin(units)].pivot_table(index="unit", columns="day", values="y")
    return (wide[time] - wide[base]).dropna().mean()


def cell_by_hand(log, cohort, time, *, control="never", anticipation=0, base="varying"):
    """ATT(g,t) of a panel whose days are 0, 1, 2, ...: a difference of two mean changes."""
    reference = cohort - anticipation - 1
    start = time - 1 if base == "varying" and time <= reference else reference
    if time == start:
        return 0.0
    starts = log.groupby("unit")["cohort"].first()
    others = starts[np.isinf(starts)]
    if control == "not_yet":
        others = starts[(starts > max(time, start) + anticipation) & (starts != cohort)]
    treated = starts[starts == cohort]
    return mean_change(log, treated.index, time, start) - mean_change(
        log, others.index, time, start
    )


def same(one, other, tolerance=1e-10):
    """Whether two results agree in cells, shares, joint covariance and pre-trend."""
    columns = ["estimate", "std_error", "n_treated", "n_control", "event_time"]
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(one.cells[columns], other.cells[columns], **close)
    np.testing.assert_allclose(one.shares["share"], other.shares["share"], **close)
    np.testing.assert_allclose(one.joint_covariance, other.joint_covariance, **close)
    return True
