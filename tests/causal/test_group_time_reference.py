"""Group-time effects beside csdid and moderndid, on the minimum-wage county panel."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causal import group_time_effects

STORED = json.loads((Path(__file__).parents[1] / "reference" / "group_time.json").read_text())


def counties():
    panel = STORED["panel"]
    n, years = len(panel["county"]), panel["year"]
    x = np.repeat(panel["x"], len(years))
    county = np.repeat(panel["county"], len(years))
    return pd.DataFrame(
        {
            "county": county,
            "year": np.tile(years, n),
            "cohort": np.repeat(panel["cohort"], len(years)),
            "y": np.ravel(panel["y"]),
            "x": x,
            "x2": np.round(x**2, 6),
            "state": county // 1000,
            "w": np.round(np.exp(x), 3),
        }
    )


def run(options):
    roles = {"outcome": "y", "unit": "county", "time": "year", "cohort": "cohort", "never": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = group_time_effects(counties(), **{**roles, **options})
    said = {str(w.message)[:12] for w in caught}
    assert said <= {"29 clusters,", "20 units tre", "effects befo"}
    return found


@pytest.mark.reference
@pytest.mark.parametrize("name", STORED["csdid"])
def test_group_time_effects_equal_csdid(name):
    case = STORED["csdid"][name]
    found = run(case["options"])
    cells = found.cells.merge(pd.DataFrame(case["cells"]), on=["cohort", "time"], how="outer")
    assert len(cells) == len(found.cells)
    modelled = case["options"].get("covariates") and case["options"].get("method") != "reg"
    close = {"rtol": 0, "atol": 1e-8 if modelled else 1e-10}  # their logits stop earlier
    np.testing.assert_allclose(cells["estimate_x"], cells["estimate_y"], **close)
    np.testing.assert_allclose(cells["std_error_x"], cells["std_error_y"], **close)
    for kind in ("simple", "event", "cohort", "calendar"):
        got, their = found.aggregate(kind), case[kind]
        np.testing.assert_allclose([got.estimate, got.std_error], their["overall"], **close)
        if kind != "simple":
            np.testing.assert_allclose(got.curve.estimate, their["estimate"], **close)
            np.testing.assert_allclose(got.curve.std_error, their["std_error"], **close)
    if case["wald"] is not None:
        n, q = found.curve.n_clusters or found.curve.n_obs, found.pretrend.df
        wald = found.pretrend.statistic * n * q / (n - q)  # Hotelling's F is ours
        assert wald == pytest.approx(case["wald"], rel=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("method", STORED["moderndid"])
def test_group_time_effects_equal_moderndid(method):
    found = run({"covariates": ["x"], "method": method})
    their = pd.DataFrame(STORED["moderndid"][method])
    cells = found.cells.merge(their, on=["cohort", "time"], how="outer")
    np.testing.assert_allclose(cells["estimate_x"], cells["estimate_y"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(cells["std_error_x"], cells["std_error_y"], rtol=0, atol=1e-7)
