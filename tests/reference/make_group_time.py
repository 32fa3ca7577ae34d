"""Make group_time.json: group-time effects of county employment by csdid and moderndid.

The table is the minimum-wage panel of R's `did` (500 counties, 2003 to 2007, log teen employment,
Callaway and Sant'Anna 2021), as moderndid 0.0.3 (MIT) ships it.

Run: pip install csdid==0.4.3 moderndid==0.0.3
     python tests/reference/make_group_time.py
"""

import contextlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from csdid.att_gt import ATTgt
from moderndid import att_gt
from moderndid.core.data import load_mpdta

KINDS = {"simple": "simple", "dynamic": "event", "group": "cohort", "calendar": "calendar"}

CASES = {
    "no covariates": {},
    "universal base": {"base": "universal"},
    "anticipation": {"anticipation": 1},
    "anticipation, universal base": {"anticipation": 1, "base": "universal"},
    "not yet treated": {"control": "not_yet"},
    "not yet treated, universal base": {"control": "not_yet", "base": "universal"},
    "clusters": {"cluster": "state"},
    "weights": {"weight": "w"},
    "dr": {"covariates": ["x"]},
    "ipw": {"covariates": ["x"], "method": "ipw"},
    "reg": {"covariates": ["x"], "method": "reg"},
    "dr, two covariates, clusters": {"covariates": ["x", "x2"], "cluster": "state"},
    "ipw, not yet treated": {"covariates": ["x"], "method": "ipw", "control": "not_yet"},
    "reg, weights": {"covariates": ["x"], "method": "reg", "weight": "w"},
    "dr, weights, universal base": {"covariates": ["x"], "weight": "w", "base": "universal"},
    "rows": {"unit": None},
    "rows, dr": {"covariates": ["x"], "unit": None},
    "rows, ipw": {"covariates": ["x"], "method": "ipw", "unit": None},
    "rows, reg": {"covariates": ["x"], "method": "reg", "unit": None},
    "rows, dr, weights": {"covariates": ["x"], "weight": "w", "unit": None},
}


def county_panel():
    """county, year, cohort (0: never), y, x, its square, state, weight."""
    found = load_mpdta().to_pandas()
    x = found["lpop"].round(6)
    return pd.DataFrame(
        {
            "county": found["countyreal"],
            "year": found["year"],
            "cohort": found["first.treat"],
            "y": found["lemp"].round(6),
            "x": x,
            "x2": (x**2).round(6),
            "state": found["countyreal"] // 1000,
            "w": np.exp(x).round(3),
        }
    )


def numbers(values):
    """Plain numbers; a standard error that is not given is 0."""
    return np.nan_to_num(np.asarray(values, dtype=float).ravel()).tolist()


def by_csdid(table, case):
    """Cells and aggregations, analytic errors."""
    control = "notyettreated" if case.get("control") == "not_yet" else "nevertreated"
    covariates = case.get("covariates")
    fit = ATTgt(
        yname="y", tname="year", gname="cohort", data=table, control_group=control,
        idname=None if "unit" in case else "county", panel="unit" not in case,
        xformla=None if covariates is None else "y~" + "+".join(covariates),
        clustervar=case.get("cluster"), weights_name=case.get("weight"),
        anticipation=case.get("anticipation", 0),
    ).fit(est_method=case.get("method", "dr"), base_period=case.get("base", "varying"),
          bstrap=False)  # fmt: skip
    cells = {
        "cohort": [int(g) for g in fit.results["group"]],
        "time": [int(t) for t in fit.results["year"]],
        "estimate": numbers(fit.results["att"]),
        "std_error": numbers(fit.results["se"]),
    }
    wald = fit.results.get("W")
    found = {"cells": cells, "wald": None if wald is None else float(wald)}
    for theirs, ours in KINDS.items():
        with contextlib.redirect_stdout(io.StringIO()):
            got = fit.aggte(typec=theirs, bstrap=False, cband=False).atte
        found[ours] = {
            "overall": [float(got["overall_att"]), numbers(got["overall_se"])[0]],
            "estimate": [] if got["att_egt"] is None else numbers(got["att_egt"]),
            "std_error": [] if got["se_egt"] is None else numbers(got["se_egt"]),
        }
    return found


def by_moderndid(table, method):
    """Cells of a second implementation; its `dr` differs from csdid's by 1e-4 and is left out."""
    got = att_gt(
        table, yname="y", tname="year", idname="county", gname="cohort", xformla="~ x",
        est_method=method, bstrap=False, cband=False,
    )  # fmt: skip
    cells = {
        "cohort": got.groups,
        "time": got.times,
        "estimate": got.att_gt,
        "std_error": got.se_gt,
    }
    return {name: numbers(values) for name, values in cells.items()}


def main():
    warnings.simplefilter("ignore")
    table = county_panel()
    wide = table.pivot_table(index="county", columns="year", values="y")
    first = table.groupby("county").first()
    panel = {
        "county": wide.index.tolist(),
        "year": wide.columns.tolist(),
        "cohort": first["cohort"].tolist(),
        "x": first["x"].tolist(),
        "y": wide.to_numpy().tolist(),
    }
    found = {
        "panel": panel,
        "csdid": {name: {"options": case, **by_csdid(table, case)} for name, case in CASES.items()},
        "moderndid": {method: by_moderndid(table, method) for method in ("ipw", "reg")},
    }
    Path(__file__).with_name("group_time.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
