"""Make dual_sided.json: two-way clustered and weighted least squares by statsmodels.

Run: pip install statsmodels==0.15.0
     python tests/reference/make_dual_sided.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

CELLS = [(1, 1), (1, 0), (0, 1), (0, 0)]
EFFECTS = [[1, -1, -1, 1], [0, 1, 0, -1], [0, 0, 1, -1], [1, 0, 0, -1]]


def pair_rows():
    """90 of the 140 pairs of 14 viewers and 10 authors; 7 and 5 are treated."""
    rng = np.random.default_rng(8)
    chosen = np.sort(rng.choice(140, 90, replace=False))
    viewer, author = chosen // 10, chosen % 10
    va, aa = rng.permutation(np.arange(14) % 2), rng.permutation(np.arange(10) % 2)
    y = rng.normal(0, 2, 14)[viewer] + rng.normal(0, 1, 10)[author] + rng.normal(5, 1, 90)
    y = np.round(y + va[viewer] + 2 * va[viewer] * aa[author], 3)
    return pd.DataFrame(
        {"viewer": viewer, "author": author, "va": va[viewer], "aa": aa[author], "y": y}
    )


def two_way():
    """Cell means with statsmodels' two-way sandwich, without small-sample factors."""
    rows = pair_rows()
    dummies = [((rows["va"] == v) & (rows["aa"] == a)).astype(float) for v, a in CELLS]
    fit = sm.OLS(rows["y"], np.column_stack(dummies)).fit()
    groups = rows["viewer"].to_numpy(), rows["author"].to_numpy()
    both, by_viewer, by_author = cov_cluster_2groups(fit, *groups, use_correction=False)
    weights = np.array(EFFECTS, dtype=float)
    return {
        "rows": rows.to_dict("list"),
        "estimate": (weights @ fit.params.to_numpy()).tolist(),
        "by_viewer": np.asarray(by_viewer).tolist(),
        "by_author": np.asarray(by_author).tolist(),
        "both": np.asarray(both).tolist(),
    }


def lines():
    """Weighted lines over the share in each arm: levels at share 1 (treated) and 0 (control)."""
    rng = np.random.default_rng(9)
    cell = np.repeat(np.arange(16), 12)
    share = np.array([0.25, 0.5, 0.75])[cell % 3]
    arm = (np.tile(np.arange(12), 16) < 12 * share).astype(int)
    y = np.round(4 + arm + share + rng.normal(0, 1, len(cell)) + rng.normal(0, 1, 16)[cell], 3)
    rows = pd.DataFrame({"cell": cell, "share": share, "arm": arm, "y": y})
    means = rows.groupby(["cell", "arm"], as_index=False).agg(
        share=("share", "first"), y=("y", "mean"), n=("y", "size")
    )
    ends = {}
    for k in (0, 1):
        of_arm = means[means["arm"] == k]
        fit = sm.WLS(of_arm["y"], sm.add_constant(of_arm["share"]), weights=of_arm["n"]).fit()
        ends[k] = float(fit.params.to_numpy() @ [1, k])
    return {"rows": rows.to_dict("list"), "treated_at_1": ends[1], "control_at_0": ends[0]}


def main() -> None:
    """Write the numbers beside this file."""
    path = Path(__file__).with_name("dual_sided.json")
    path.write_text(json.dumps({"two_way": two_way(), "lines": lines()}) + "\n")


if __name__ == "__main__":
    main()
