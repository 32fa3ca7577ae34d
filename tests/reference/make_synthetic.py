"""Make synthetic.json: synthetic controls by pysyncon and diff-diff on a panel drawn here.

Run: pip install pysyncon==1.7.0 diff-diff==3.13.0
     python tests/reference/make_synthetic.py
"""

import json
import warnings
from pathlib import Path

import diff_diff
import numpy as np
import pandas as pd
from pysyncon import AugSynth, Dataprep, PenalizedSynth

PERIODS, START, DONORS = 24, 19, 12
ROLES = {"outcome": "y", "treatment": "d", "unit": "city", "time": "week"}


def panel():
    """One treated city and 12 donors over 24 weeks, of a factor model; two covariates."""
    rng = np.random.default_rng(31)
    n = DONORS + 1
    loading = rng.dirichlet(np.ones(3), n)
    loading[0] = [0.3, 0.4, 0.3]
    factor = rng.normal(size=(3, PERIODS)).cumsum(axis=1) + 12
    y = loading @ factor + rng.normal(0, 0.4, (n, PERIODS))
    y[0, START - 1 :] += 2
    rows = pd.DataFrame(np.round(y, 4)).melt(ignore_index=False, value_name="y").reset_index()
    rows.columns = ["city", "week", "y"]
    rows["week"] = rows["week"].astype(int) + 1
    for k in (0, 1):
        noisy = np.round(loading[:, k] + rng.normal(0, 0.1, n), 4)
        rows[f"x{k}"] = noisy[rows["city"]]
    return rows


def prepared(rows, predictors=("x0", "x1")):
    """What pysyncon wants."""
    before = range(1, START)
    return Dataprep(
        foo=rows, predictors=list(predictors), predictors_op="mean", dependent="y",
        unit_variable="city", time_variable="week", treatment_identifier=0,
        controls_identifier=list(range(1, DONORS + 1)), time_predictors_prior=before,
        time_optimize_ssr=before,
    )  # fmt: skip


def wide(rows):
    """Outcomes before the start, (periods, cities)."""
    return rows.pivot_table(index="week", columns="city", values="y").loc[: START - 1]


def penalised(rows):
    """Weights for several penalties; pysyncon divides each period by its standard deviation."""
    before = wide(rows)
    found = {}
    for penalty in (0.05, 0.5, 2.0):
        fit = PenalizedSynth()
        fit.fit(X0=before.loc[:, 1:], X1=before[0], lambda_=penalty,
                custom_V=np.ones(len(before)))  # fmt: skip
        found[str(penalty)] = np.asarray(fit.W).tolist()
    return found


def augmented(rows):
    """Weights for given ridges, and the errors of cross-validation on a grid."""
    found = {}
    for ridge in (1.0, 20.0):
        fit = AugSynth()
        fit.fit(prepared(rows), lambda_=ridge, use_covariates=False)
        found[str(ridge)] = np.asarray(fit.W).tolist()
    fit = AugSynth()
    fit.fit(prepared(rows), use_covariates=False)
    cv = fit.cv_result
    return {
        "weights": found,
        "ridges": np.asarray(cv.lambdas).tolist(),
        "errors_of_all_but_the_last_period": np.asarray(cv.errors_mean).tolist(),
    }


def by_diff_diff(rows, **options):
    """Effect, weights and placebo p-value."""
    treated = rows.assign(d=((rows["city"] == 0) & (rows["week"] >= START)).astype(int))
    fit = diff_diff.SyntheticControl(seed=1, **options.pop("how"))
    found = fit.fit(treated, **ROLES, **options)
    found.in_space_placebo()
    weights = found.donor_weights
    return {
        "estimate": float(found.att),
        "pre_rmspe": float(found.pre_rmspe),
        "weights": {str(k): float(v) for k, v in dict(weights).items()},
        "p_value": float(found.placebo_p_value),
    }


def main() -> None:
    """Write the numbers beside this file."""
    warnings.simplefilter("ignore")
    rows = panel()
    equal = {"v_method": "custom", "standardize": "none", "custom_v": np.ones(START - 1)}
    lags = {"predictors": ["x0", "x1"], "pre_period_outcomes": [3, 6, 9, 12, 15, 18]}
    even = {"v_method": "custom", "custom_v": np.ones(8)}
    nested = {"v_method": "nested", "n_starts": 8}
    given = {
        "rows": rows.to_dict("list"),
        "start": START,
        "penalised": penalised(rows),
        "augmented": augmented(rows),
        "outcomes": by_diff_diff(rows, how=equal, pre_period_outcomes="all"),
        "even": by_diff_diff(rows, how=even, **lags),
        "nested": by_diff_diff(rows, how=nested, **lags),
    }
    path = Path(__file__).with_name("synthetic.json")
    path.write_text(json.dumps(given) + "\n")


if __name__ == "__main__":
    main()
