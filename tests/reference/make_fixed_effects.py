"""Make fixed_effects.json: coefficients and errors of pyfixest on an unbalanced log.

Run: python tests/reference/make_fixed_effects.py   (with pyfixest installed; the tests need none)

The log has rows that are alone with a viewer or an author, and one connected component: pyfixest
counts one redundant level for each further effect, however many components there are.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyfixest as pf
from pyfixest.demeaners import MapDemeaner

EXACT = MapDemeaner(fixef_tol=1e-13)

# by name: absorbed columns, clusters, weight, covariates
CASES = {
    "crossed, no cluster": (["viewer", "author"], None, None, []),
    "crossed, by viewer": (["viewer", "author"], ["viewer"], None, ["age"]),
    "crossed, by city": (["viewer", "author"], ["city"], None, []),
    "crossed, two-way": (["viewer", "author"], ["viewer", "author"], None, ["age"]),
    "crossed, two-way, not absorbed": (["viewer", "day"], ["author", "city"], None, []),
    "crossed, weights": (["viewer", "author"], ["viewer"], "weight", ["age"]),
    "weights, no cluster": (["viewer", "author"], None, "weight", []),
    "three effects": (["viewer", "author", "day"], ["viewer"], None, []),
    "one effect": (["viewer"], ["viewer"], None, ["age"]),
    "one effect, other cluster": (["day"], ["viewer"], None, []),
}


def log(n=400):
    """Viewers in cities meet authors on days; popular authors are met more often."""
    rng = np.random.default_rng(21)
    viewer = rng.integers(0, 70, n)
    author = np.minimum(rng.geometric(0.12, n) - 1, 24)
    treatment = rng.integers(0, 2, n)
    age = rng.normal(size=n).round(3)
    noise = rng.normal(size=n) * (1 + treatment) + rng.normal(size=70)[viewer] * rng.normal(size=n)
    outcome = treatment + age / 2 + 2 * rng.normal(size=70)[viewer] + author / 5 + noise
    data = pd.DataFrame(
        {
            "viewer": viewer,
            "author": author,
            "day": rng.integers(0, 9, n),
            "city": viewer % 12,
            "treatment": treatment,
            "age": age,
            "weight": rng.integers(1, 5, n),
            "outcome": outcome.round(3),
        }
    )
    return pd.concat([data, data.tail(2).assign(viewer=[98, 99])], ignore_index=True)


def fitted(data, absorbed, cluster, weight, covariates):
    formula = f"outcome ~ {' + '.join(['treatment', *covariates])} | {' + '.join(absorbed)}"
    vcov = "hetero" if cluster is None else {"CRV1": " + ".join(cluster)}
    fit = pf.feols(formula, data, vcov=vcov, weights=weight, demeaner=EXACT)
    return {
        "estimate": float(fit.coef()["treatment"]),
        "std_error": float(fit.se()["treatment"]),
        "p_value": float(fit.pvalue()["treatment"]),
        "n_obs": int(fit._N),
    }


if __name__ == "__main__":
    data = log()
    cases = {}
    for name, (absorbed, cluster, weight, covariates) in CASES.items():
        given = {"absorb": absorbed, "cluster": cluster, "weight": weight, "covariates": covariates}
        cases[name] = given | fitted(data, absorbed, cluster, weight, covariates)
    result = {
        "made_by": f"pyfixest {pf.__version__}",
        "data": {name: column.tolist() for name, column in data.items()},
        "cases": cases,
    }
    path = Path(__file__).with_name("fixed_effects.json")
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
