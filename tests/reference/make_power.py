"""Make power.json: numbers of switchback-power-calculator, cluster-experiments and statsmodels.

Run: pip install switchback-power-calculator==1.0.0 cluster-experiments==0.31.0 statsmodels
     python tests/reference/make_power.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

CELLS = [
    {"n_clusters": c, "n_periods": t, "n_per_cell": n, "between_share": b, "std": s, "cell_cv": v}
    for c, t, n, b, s, v in [
        (5, 56, 100.0, 0.1, 2.0, 0.0),
        (2, 28, 2400.0, 0.02, 31.0, 0.4),
        (12, 336, 7.5, 0.6, 0.3, 1.3),
    ]
]
T_TESTS = [(0.1, 1.0, 0.05, 0.8), (0.05, 1.0, 0.01, 0.9), (0.15, 1.0, 0.1, 0.7)]
SHARES = [(1_000, 0.5), (2_000, 0.3), (5_000, 0.1)]  # units, treated share
ROTATIONS = {
    "independent": {"seed": 5, "days": 21, "rows": 3000, "clock": 1.5},
    # long: CR1 over rows does not count the strata that cells lose, 13 of 336 here
    "stratified": {"seed": 6, "days": 56, "rows": 6000, "clock": 1.5},
}
EFFECTS = [0.1, 0.2, 0.3, 0.4]
SLICE_HOURS = 4
SIMULATIONS = 400


def rotation_log(*, seed, days, rows, clock):
    """Rows at random minutes, with a level of each slice and, times `clock`, of each hour."""
    rng = np.random.default_rng(seed)
    minute = np.sort(rng.integers(0, days * 1440, rows))
    slice_ = minute // (60 * SLICE_HOURS)
    level = 0.6 * rng.normal(size=days * 24 // SLICE_HOURS)
    hour = slice_ % (24 // SLICE_HOURS)
    outcome = 10 + level[slice_] + clock * np.sin(hour) + rng.normal(size=rows)
    start = pd.Timestamp("2026-03-02")
    return pd.DataFrame({"ts": start + pd.to_timedelta(minute, unit="min"), "watch": outcome})


def normal_power(coin):
    """Power by cluster-experiments: its splitter, clustered least squares, normal approximation."""
    import cluster_experiments

    stratified = coin == "stratified"
    log = rotation_log(**ROTATIONS[coin]).rename(columns={"watch": "target", "ts": "date"})
    start = log["date"].dt.floor(f"{SLICE_HOURS}h")
    weekend = (start.dt.day_of_week >= 5).astype(int)
    log["stratum"] = start.dt.hour.astype(str) + "_" + weekend.astype(str)
    dummies = pd.get_dummies(log["stratum"], prefix="s", drop_first=True).astype(float)
    log = pd.concat([log, dummies], axis=1)
    given = {
        "time_col": "date",
        "switch_frequency": f"{SLICE_HOURS}h",
        "cluster_cols": ["date"],
    }
    splitter = (
        cluster_experiments.StratifiedSwitchbackSplitter(**given, strata_cols=["stratum"])
        if stratified
        else cluster_experiments.SwitchbackSplitter(**given)
    )
    analysis = cluster_experiments.ClusteredOLSAnalysis(
        cluster_cols=["date"], covariates=list(dummies.columns) if stratified else None
    )
    study = cluster_experiments.NormalPowerAnalysis(
        splitter=splitter, analysis=analysis, n_simulations=SIMULATIONS, seed=1
    )
    found = study.power_line(log, average_effects=EFFECTS)
    return {
        "coin": coin,
        "rotation": ROTATIONS[coin],
        "effects": EFFECTS,
        "power": [found[d] for d in EFFECTS],
    }


def cell_cases():
    """Closed formulas of switchback-power-calculator."""
    import switchback_power_calculator as peer

    cells = []
    for design in CELLS:
        shared = {
            "mean_obs_per_cell": design["n_per_cell"],
            "cell_size_cv": design["cell_cv"],
            "between_cell_variance_share": design["between_share"],
            "outcome_sd": design["std"],
        }
        size = (design["n_clusters"], design["n_periods"])
        effect = 0.05 * design["std"]
        cells.append(
            {
                "design": design,
                "effect": effect,
                "variance": peer.estimator_variance(*size, **shared),
                "mde": peer.mde(*size, **shared, alpha=0.05, power_level=0.8),
                "power": peer.power(effect, *size, **shared, alpha=0.05),
            }
        )
    return cells


def t_tests():
    """Sizes and smallest effects of two-sample t tests by statsmodels."""
    from statsmodels.stats.power import tt_ind_solve_power

    sizes = [
        {
            "effect": d,
            "std": s,
            "level": 1 - a,
            "power": p,
            "units": tt_ind_solve_power(effect_size=d / s, alpha=a, power=p),
        }
        for d, s, a, p in T_TESTS
    ]
    effects = [
        {
            "units": n,
            "treated_share": share,
            "mde": tt_ind_solve_power(
                nobs1=n * share, ratio=(1 - share) / share, alpha=0.05, power=0.8
            ),
        }
        for n, share in SHARES
    ]
    return {"t_tests": sizes, "smallest_effects": effects}


def main() -> None:
    """Write the numbers beside this file."""
    rotations = [normal_power(coin) for coin in ROTATIONS]
    found = {"cells": cell_cases(), **t_tests(), "rotations": rotations}
    path = Path(__file__).with_name("power.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
