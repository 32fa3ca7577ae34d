"""Writes switchback.json: statsmodels' numbers for a rotation of 30 uneven slices.

Run: python tests/reference/make_switchback.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm

rng = np.random.default_rng(20)
lengths = rng.integers(3, 9, 30)
points = np.r_[1, 1 + np.cumsum(lengths)[:-1]]
n = int(lengths.sum())
coins = rng.permutation(np.arange(30) % 2)
time = np.arange(1, n + 1)
epoch = np.searchsorted(points, time, side="right") - 1
noise = np.zeros(n)
for t in range(1, n):
    noise[t] = 0.4 * noise[t - 1] + rng.normal()
x = rng.normal(size=n).round(6)
y = (10 + 0.7 * coins[epoch] + 0.5 * x + noise).round(6)
log = pd.DataFrame({"t": time, "arm": coins[epoch], "x": x, "y": y})

cells = log.assign(epoch=epoch).groupby("epoch")[["arm", "x", "y"]].mean()
size = log.groupby(epoch).size().to_numpy()


def fit(columns):
    return sm.WLS(cells["y"], sm.add_constant(cells[columns]), weights=size)


hc2 = fit(["arm", "x"]).fit(cov_type="HC2")
cr1 = fit(["arm"]).fit(cov_type="cluster", cov_kwds={"groups": np.arange(30)})
lags = max(int(4 * (n / 100) ** (2 / 9)), int(size.max()))
design = sm.add_constant(log[["arm"]])
hac = sm.OLS(log["y"], design).fit(
    cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
)
lagged = pd.DataFrame({f"w{j}": log["arm"].shift(j) for j in range(3)}).iloc[2:]
m = len(lagged)
longest = int(pd.Series(epoch[2:]).value_counts().max())
lag_rule = max(int(4 * (m / 100) ** (2 / 9)), longest + 2)
dl = sm.OLS(log["y"].iloc[2:], sm.add_constant(lagged)).fit(
    cov_type="HAC", cov_kwds={"maxlags": lag_rule, "use_correction": False}
)
ones = np.array([0.0, 1.0, 1.0, 1.0])
found = {
    "points": points.tolist(),
    "log": log.to_dict("list"),
    "hc2": {"estimate": hc2.params["arm"], "std_error": hc2.bse["arm"]},
    "cr1": {"estimate": cr1.params["arm"], "std_error": cr1.bse["arm"]},
    "hac": {"estimate": hac.params["arm"], "std_error": hac.bse["arm"], "lags": lags},
    "distributed_lag": {
        "estimate": float(ones @ dl.params),
        "std_error": float(np.sqrt(ones @ dl.cov_params().to_numpy() @ ones)),
        "lags": dl.params.to_numpy()[1:].tolist(),
        "lag_errors": dl.bse.to_numpy()[1:].tolist(),
    },
}
path = Path(__file__).with_name("switchback.json")
path.write_text(json.dumps(found, indent=1) + "\n")
