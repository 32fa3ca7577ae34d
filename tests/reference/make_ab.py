"""Make ab.json: numbers of other implementations for `experiments.splits.ab`.

Run in an environment of its own that has statsmodels, tea-tasting and gbstats; install numpy 2 and
pandas 2 after gbstats, which pins older ones but runs with these:

    python tests/reference/make_ab.py

- `rows`: the table that all numbers are about; 90 rows, rounded to 4 decimals.
- `statsmodels`: OLS and WLS of y on arm, centred covariates and their products with the arm:
  coefficient and covariance of (intercept, arm) for HC0 to HC3 and for clusters, corrected or not.
- `tea_tasting`: `Mean` and `RatioOfMeans`, with and without covariates.
- `gbstats`: `QuantileStatistic` of GrowthBook, from order statistics taken here with numpy.
- `multipletests`: statsmodels' adjusted p-values.
"""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import tea_tasting as tt
from gbstats.models.statistics import QuantileClusteredStatistic, QuantileStatistic
from statsmodels.stats.multitest import multipletests

COVARIATES = ([], ["x1"], ["x1", "x2"])
Z = 1.959963984540054


def table() -> pd.DataFrame:
    """Unbalanced arms, uneven clusters within arms (`cl`) and across them (`both`)."""
    rng = np.random.default_rng(20261)
    n = 90
    arm = (np.arange(n) >= 52).astype(int)
    cl = np.where(arm == 0, rng.integers(0, 9, n), 9 + rng.integers(0, 7, n))
    both = rng.integers(0, 11, n)
    x1 = rng.normal(2, 1, n) + 0.3 * cl
    x2 = rng.exponential(2, n)
    shared = rng.normal(0, 1, 20)
    y = 3 + x1 + (0.5 + 0.4 * x1) * arm + shared[cl] + rng.normal(0, 1, n) * (1 + x2 / 4)
    den0 = 1 + rng.poisson(4, n)
    den = 1 + rng.poisson(den0)
    num0 = rng.binomial(den0, 0.3)
    num = rng.binomial(den, 0.25 + 0.1 * arm)
    w = rng.uniform(0.2, 3, n)
    columns = {
        "arm": arm,
        "cl": cl,
        "both": both,
        "y": y,
        "x1": x1,
        "x2": x2,
        "w": w,
        "num": num,
        "den": den,
        "num0": num0,
        "den0": den0,
    }
    return pd.DataFrame(columns).round(4)


def least_squares(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The interacted regression whose arm coefficient is Lin's estimator."""
    out = []
    for covariates in COVARIATES:
        for weight in (None, "w"):
            w = rows[weight] if weight else np.ones(len(rows))
            design = {"one": np.ones(len(rows)), "arm": rows["arm"]}
            for name in covariates:
                centred = rows[name] - np.average(rows[name], weights=w)
                design |= {name: centred, f"arm x {name}": rows["arm"] * centred}
            model = sm.WLS(rows["y"], pd.DataFrame(design), weights=w)
            fits = {(k, None): model.fit(cov_type=k) for k in ("HC0", "HC1", "HC2", "HC3")}
            for cluster in ("cl", "both"):
                for kind, corrected in (("CR0", False), ("CR1", True)):
                    keys = {"groups": rows[cluster], "use_correction": corrected}
                    fits[kind, cluster] = model.fit(cov_type="cluster", cov_kwds=keys)
            for (kind, cluster), fit in fits.items():
                cov = fit.cov_params().to_numpy()[:2, :2]
                case = {"covariates": covariates, "weight": weight, "kind": kind}
                found = {"coef": fit.params.tolist()[:2], "cov": cov.tolist()}
                out.append({**case, "cluster": cluster, **found})
    return out


def tea(rows: pd.DataFrame) -> dict[str, Any]:
    """Welch tests of tea-tasting; its CUPED pools theta over both arms."""
    experiment = tt.Experiment(
        {
            "mean": tt.Mean("y"),
            "cuped": tt.Mean("y", covariate="x1"),
            "ratio": tt.RatioOfMeans("num", "den"),
            "ratio_cuped": tt.RatioOfMeans("num", "den", "num0", "den0"),
        },
        variant="arm",
    )
    result = experiment.analyze(rows)
    keys = ("control", "treatment", "effect_size", "effect_size_ci_lower", "effect_size_ci_upper")
    keys += ("pvalue", "statistic", "rel_effect_size")
    return {name: {key: float(getattr(result[name], key)) for key in keys} for name in result}


def quantiles() -> list[dict[str, Any]]:
    """Variance of a quantile from order statistics, as GrowthBook computes it."""
    out = []
    for seed, n, q, per_cluster in ((1, 200, 0.5, 1), (2, 500, 0.9, 1), (3, 600, 0.25, 6)):
        rng = np.random.default_rng(seed)
        cluster = np.arange(n) // per_cluster
        y = np.exp(rng.normal(0, 1, n) + 0.5 * rng.normal(0, 1, n)[cluster]).round(4)
        hat = float(np.sort(y)[math.ceil(n * q - 1e-9) - 1])
        half = Z * math.sqrt(q * (1 - q) / n)
        low, high = math.ceil(n * (q - half)), math.ceil(n * (q + half))
        ordered = np.sort(y)
        given = {
            "n": n,
            "n_star": n,
            "nu": q,
            "quantile_hat": hat,
            "quantile_lower": float(ordered[low - 1]),
            "quantile_upper": float(ordered[high - 1]),
        }
        hits = np.bincount(cluster, y <= hat)
        size = np.bincount(cluster).astype(float)
        clustered = QuantileClusteredStatistic(
            **given,
            main_sum=hits.sum(),
            main_sum_squares=(hits**2).sum(),
            denominator_sum=size.sum(),
            denominator_sum_squares=(size**2).sum(),
            main_denominator_sum_product=(hits * size).sum(),
            n_clusters=len(size),
        )
        out.append(
            {
                "y": y.tolist(),
                "per_cluster": per_cluster,
                "q": q,
                "quantile": hat,
                "variance": float(QuantileStatistic(**given).variance),
                "cluster_variance": float(clustered.get_cluster_variance),
            }
        )
    return out


def adjusted() -> dict[str, Any]:
    """Adjusted p-values, ties and a 1 included."""
    p = [0.04, 0.0003, 0.2, 0.011, 0.011, 1.0, 0.049, 0.6]
    names = {"holm": "holm", "bh": "fdr_bh", "by": "fdr_by", "bonferroni": "bonferroni"}
    found = {ours: multipletests(p, method=theirs)[1].tolist() for ours, theirs in names.items()}
    return {"p": p, "adjusted": found}


def main() -> None:
    """Write ab.json beside this script."""
    rows = table()
    made = {
        "versions": {name: version(name) for name in ("statsmodels", "tea-tasting", "gbstats")},
        "rows": rows.to_dict(orient="list"),
        "statsmodels": least_squares(rows),
        "tea_tasting": tea(rows),
        "gbstats": quantiles(),
        "multipletests": adjusted(),
    }
    target = Path(__file__).with_name("ab.json")
    target.write_text(json.dumps(made, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
