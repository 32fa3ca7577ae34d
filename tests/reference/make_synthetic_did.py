"""Make synthetic_did.json: diff-diff's synthetic DID beside its data, and the R package's number.

Run in an environment with diff-diff 3.13 and a file of California's cigarette sales by state (one
row a year, one column a state; CausalPy 0.9 ships one, Apache licence):

    python tests/reference/make_synthetic_did.py california_prop99.csv
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from diff_diff import SyntheticDiD

R_ESTIMATE = -15.60383  # synthdid 0.0.9, its vignette; the paper's Table 1 prints -15.6 (8.4)


def panel(seed, n_donors, n_treated, n_periods):
    """Whole numbers of a factor model, as rows of units."""
    rng = np.random.default_rng(seed)
    n = n_donors + n_treated
    levels = rng.normal(size=(n, 3)) @ np.cumsum(rng.normal(size=(3, n_periods)), axis=1)
    Y = 100 + 10 * rng.normal(size=(n, 1)) + 4 * levels + 5 * rng.normal(size=(n, n_periods))
    return np.rint(Y)


def theirs(Y, n_donors, start, method):
    """Estimate, error and weights of diff-diff."""
    n, n_periods = Y.shape
    table = pd.DataFrame(
        {
            "unit": np.repeat(np.arange(n), n_periods),
            "time": np.tile(np.arange(n_periods), n),
            "y": Y.ravel(),
            "d": np.repeat(np.arange(n) >= n_donors, n_periods).astype(int),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = SyntheticDiD(variance_method=method, seed=1).fit(
            table,
            outcome="y",
            treatment="d",
            unit="unit",
            time="time",
            post_periods=list(range(start, n_periods)),
        )
    return {
        "estimate": float(found.att),
        "std_error": float(found.se),
        "zeta_unit": float(found.zeta_omega),
        "unit_weights": [float(found.unit_weights[i]) for i in range(n_donors)],
        "time_weights": [float(found.time_weights[t]) for t in range(start)],
    }


def main():
    """Write the file beside this script."""
    sales = pd.read_csv(sys.argv[1], index_col="Year")
    states = [*(name for name in sales if name != "California"), "California"]
    Y = sales[states].to_numpy().T.round(1)
    stored = {
        "california": {
            "states": states,
            "first_year": 1970,
            "outcome": Y.tolist(),
            "start": 1989,
            "r_estimate": R_ESTIMATE,
            **theirs(Y, len(states) - 1, 19, "placebo"),
        },
        "panels": [],
    }
    for seed, (n_donors, n_treated, n_periods, start) in enumerate(
        [(20, 4, 16, 12), (9, 3, 30, 24), (40, 6, 8, 5)]
    ):
        outcome = panel(seed, n_donors, n_treated, n_periods)
        found = theirs(outcome, n_donors, start, "jackknife")
        case = {"n_donors": n_donors, "start": start, "outcome": outcome.astype(int).tolist()}
        stored["panels"].append({**case, **found})
    path = Path(__file__).with_name("synthetic_did.json")
    path.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
