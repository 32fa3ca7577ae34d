"""Writes imputation.json: other packages' numbers on one staggered panel.

pyfixest: did2s (points), saturated event study (coefficients and covariance by cohort);
diff-diff: imputation by horizon (points, errors; gaps, covariate, cluster), Bacon decomposition.

Run, with both installed: python tests/reference/make_imputation.py
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyfixest as pf
from diff_diff import ImputationDiD, bacon_decompose

warnings.simplefilter("ignore")
rng = np.random.default_rng(41)
first = np.repeat([0, 3, 4, 6], [24, 18, 14, 16])  # 0 is never
n, periods = len(first), 8
unit, time = (index.ravel() for index in np.indices((n, periods)))
cohort = first[unit]
on = (cohort > 0) & (time >= cohort)
x = rng.normal(size=n * periods)
y = rng.normal(scale=2, size=n)[unit] + 0.4 * time + 0.6 * x + rng.normal(size=n * periods)
y += np.where(on, 1 + 0.3 * (time - cohort) + 0.1 * cohort, 0)
log = pd.DataFrame(
    {"unit": unit, "time": time, "cohort": cohort, "cluster": unit // 3, "x": x, "y": y}
).round(6)
gappy = log[rng.random(len(log)) >= 0.05].reset_index(drop=True)

IDS = {"outcome": "y", "unit": "unit", "time": "time", "first_treat": "cohort"}


def imputed(table, covariates=None, cluster=None, **options):
    """Mean over treated rows and effects by horizon, with errors."""
    fit = ImputationDiD(cluster=cluster, **options).fit(
        table, covariates=covariates, aggregate="event_study", **IDS
    )
    curve = {
        int(h): [row["effect"], row["se"]]
        for h, row in fit.event_study_effects.items()
        if np.isfinite(row["se"]) and row["n_obs"] > 0
    }
    return {"overall": [fit.overall_att, fit.overall_se], "curve": curve}


def two_stage(table, covariate=""):
    """Points of did2s by event time."""
    data = table.assign(
        on=((table.cohort > 0) & (table.time >= table.cohort)).astype(float),
        event=np.where(table.cohort > 0, table.time - table.cohort, -99).astype(float),
    )
    roles = {"yname": "y", "first_stage": f"~ {covariate or 0} | unit + time", "treatment": "on"}
    static = pf.did2s(data, second_stage="~ on", cluster="unit", **roles)
    by_event = pf.did2s(data, second_stage="~ i(event, ref=-99)", cluster="unit", **roles)
    found = {k: v for k, v in by_event.coef().items() if k != "Intercept"}
    points = {int(float(k.split("::")[1].rstrip("]"))): v for k, v in found.items()}
    return {"overall": float(static.coef()["on"]),
            "curve": {k: v for k, v in points.items() if k >= 0}}  # fmt: skip


def saturated(table):
    """Cohort by event time: rows, coefficients and covariance of the saturated regression.

    pyfixest's own aggregation looks up cells that do not exist when cohorts differ in length.
    """
    event = table.time - table.cohort
    rest = (table.cohort == 0) | (event == -1)
    cell = np.where(rest, "rest", table.cohort.astype(str) + "_" + event.astype(str))
    data = table.assign(cell=cell)
    fit = pf.feols("y ~ i(cell, ref='rest') | unit + time", data, vcov={"CRV1": "unit"})
    cells = [name.split("::")[1].rstrip("]") for name in fit.coef().index]
    rows = data.cell.value_counts()
    return {"cells": [[int(v) for v in c.split("_")] for c in cells],
            "rows": [int(rows[c]) for c in cells],
            "coef": fit.coef().tolist(), "cov": fit._vcov.tolist()}  # fmt: skip


def bacon(table):
    """Every comparison."""
    fit = bacon_decompose(table, **IDS)
    rows = [
        [c.comparison_type, str(c.treated_group), str(c.control_group), c.estimate, c.weight]
        for c in fit.comparisons
    ]
    return {"twfe": fit.twfe_estimate, "comparisons": rows}


found = {
    "log": log.to_dict("list"),
    "gappy": gappy.to_dict("list"),
    "imputation": {
        "balanced": imputed(log),
        "gaps": imputed(gappy),
        "covariate": imputed(log, covariates=["x"]),
        "cluster": imputed(log, cluster="cluster"),
        "leads": imputed(log, pretrends=True),
    },
    "did2s": {
        "balanced": two_stage(log),
        "gaps": two_stage(gappy),
        "covariate": two_stage(log, "x"),
    },
    "saturated": {"balanced": saturated(log), "gaps": saturated(gappy)},
    "bacon": bacon(log),
}
Path(__file__).with_name("imputation.json").write_text(json.dumps(found) + "\n")
