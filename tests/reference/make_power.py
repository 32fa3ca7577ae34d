"""Make power.json: variances and power of switchback-power-calculator 1.0.0 and statsmodels.

Run: pip install switchback-power-calculator statsmodels; python tests/reference/make_power.py
"""

import json
from pathlib import Path

import switchback_power_calculator as peer
from statsmodels.stats.power import tt_ind_solve_power

CELLS = [
    {"n_clusters": c, "n_periods": t, "n_per_cell": n, "between_share": b, "std": s, "cell_cv": v}
    for c, t, n, b, s, v in [
        (5, 56, 100.0, 0.1, 2.0, 0.0),
        (2, 28, 2400.0, 0.02, 31.0, 0.4),
        (12, 336, 7.5, 0.6, 0.3, 1.3),
    ]
]
T_TESTS = [(0.1, 1.0, 0.05, 0.8), (0.05, 1.0, 0.01, 0.9), (0.15, 1.0, 0.1, 0.7)]


def main() -> None:
    """Write the numbers beside this file."""
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
    tests = [
        {
            "effect": d,
            "std": s,
            "level": 1 - a,
            "power": p,
            "units": tt_ind_solve_power(effect_size=d / s, alpha=a, power=p),
        }
        for d, s, a, p in T_TESTS
    ]
    path = Path(__file__).with_name("power.json")
    path.write_text(json.dumps({"cells": cells, "t_tests": tests}, indent=1) + "\n")


if __name__ == "__main__":
    main()
