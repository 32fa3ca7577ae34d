"""Make linear.json: covariances of statsmodels on two data sets that it ships.

Run: python tests/reference/make_linear.py

Each case holds its data, so that the test needs no statsmodels. Clusters of star98 are bins of two
of its columns: they mean nothing and exist to have two crossed groupings of unequal size.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import statsmodels
import statsmodels.api as sm
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups, cov_hac_simple


def grunfeld():
    data = sm.datasets.grunfeld.load_pandas().data
    return {
        "names": ["const", "value", "capital"],
        "X": np.column_stack([np.ones(len(data)), data["value"], data["capital"]]),
        "y": data["invest"].to_numpy(float),
        "weights": data["year"].to_numpy(float) - 1930,
        "clusters": np.unique(data["firm"].astype(str), return_inverse=True)[1],
        "clusters2": data["year"].to_numpy(int),
    }


def star98():
    data = sm.datasets.star98.load_pandas().data
    names = ["LOWINC", "PERASIAN", "PERBLACK", "PERHISP", "PERMINTE", "AVYRSEXP"]
    tested = data["NABOVE"] + data["NBELOW"]
    return {
        "names": ["const", *names],
        "X": np.column_stack([np.ones(len(data)), data[names]]),
        "y": (data["NABOVE"] / tested).to_numpy(float),
        "weights": tested.to_numpy(float),
        "clusters": (data["PCTCHRT"].rank(method="first") // 5).to_numpy(int),
        "clusters2": (data["PERSPENK"].rank(method="first") // 7).to_numpy(int),
    }


def covariances(fit, clusters, clusters2, lags):
    both, _, _ = cov_cluster_2groups(fit, np.column_stack([clusters, clusters2]))
    uncorrected, _, _ = cov_cluster_2groups(
        fit, np.column_stack([clusters, clusters2]), use_correction=False
    )

    def cluster(use_correction):
        robust = fit.get_robustcov_results(
            "cluster", groups=clusters, use_correction=use_correction
        )
        return robust.cov_params()

    return {
        **{
            kind: fit.get_robustcov_results(kind).cov_params()
            for kind in ("HC0", "HC1", "HC2", "HC3")
        },
        "CR0": cluster(False),
        "CR1": cluster(True),
        "CR0 two-way": uncorrected,
        "CR1 two-way": both,
        "HAC": cov_hac_simple(fit, nlags=lags, use_correction=False),
        "HAC default": cov_hac_simple(fit, use_correction=False),
    }


def case(data, lags):
    out = {"lags": lags, "fits": {}}
    fits = {
        "ols": sm.OLS(data["y"], data["X"]).fit(),
        "wls": sm.WLS(data["y"], data["X"], weights=data["weights"]).fit(),
    }
    for name, fit in fits.items():
        covs = covariances(fit, data["clusters"], data["clusters2"], lags)
        out["fits"][name] = {
            "coef": fit.params.tolist(),
            "covariance": {kind: np.asarray(matrix).tolist() for kind, matrix in covs.items()},
        }
    return out | {key: np.asarray(value).tolist() for key, value in data.items()}


if __name__ == "__main__":
    result = {
        "made_by": f"statsmodels {statsmodels.__version__}, numpy {np.__version__}",
        "cases": {"grunfeld": case(grunfeld(), 3), "star98": case(star98(), 5)},
    }
    path = Path(__file__).with_name("linear.json")
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
