"""Difference-in-differences without units, and the look at a panel before an estimate."""

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from dense_panel import other_tables, panel

from causal import EstimationWarning, PanelDesign, diff_in_diff, panel_design

ROLES = {"outcome": "y", "time": "day", "treatment": "ever", "start": 3}


def sections(n=600, seed=0):
    """A log of rows without units: day, ever, cluster, x, y."""
    rng = np.random.default_rng(seed)
    log = pd.DataFrame({"day": rng.integers(0, 6, n), "cluster": rng.integers(0, 40, n)})
    log["ever"] = (log["cluster"] % 2 == 1).astype(int)
    log["x"], log["weight"] = rng.normal(size=n), rng.integers(1, 4, n)
    log["y"] = 3 + log["ever"] + 0.3 * log["x"] + 1.5 * log["ever"] * (log["day"] >= 3)
    log["y"] += rng.normal(size=40)[log["cluster"]] + rng.normal(size=n) * (1 + log["ever"])
    return log


def by_statsmodels(log, *, clusters=None, covariates=(), weight=None):
    """Coefficient, error and covariance matrix of the saturated regression."""
    after = (log["day"] >= 3).astype(float)
    X = np.column_stack([np.ones(len(log)), log["ever"], after, log["ever"] * after,
                         *(log[c] for c in covariates)])  # fmt: skip
    w = 1.0 if weight is None else log[weight].to_numpy(dtype=float)
    model = sm.WLS(log["y"].to_numpy(), X, weights=w)
    if clusters is None:
        fit = model.fit(cov_type="HC1")
    else:
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": log[clusters].to_numpy()})
    return fit.params, fit.cov_params()


@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_diff_in_diff_of_cross_sections_is_the_saturated_regression(cluster):
    log = sections()
    tau = diff_in_diff(log, **ROLES, cluster=cluster)
    coef, cov = by_statsmodels(log, clusters=cluster)
    assert tau.estimate == pytest.approx(coef[3], rel=1e-10)
    assert tau.std_error == pytest.approx(np.sqrt(cov[3, 3]), rel=1e-10)
    base = np.array([1.0, 1, 1, 0])
    assert tau.baseline == pytest.approx(base @ coef, rel=1e-10)
    assert tau.baseline_variance == pytest.approx(base @ cov @ base, rel=1e-9)
    assert tau.baseline_cov == pytest.approx(cov[3] @ base, rel=1e-9)


@pytest.mark.parametrize("kind", ["HC1", "CR1", "CR2"])
def test_diff_in_diff_of_cross_sections_takes_covariates_and_weights(kind):
    log = sections()
    cluster = None if kind == "HC1" else "cluster"
    more = {"covariates": ["x"], "weight": "weight", "covariance": kind, "cluster": cluster}
    tau = diff_in_diff(log, **ROLES, **more)
    coef, cov = by_statsmodels(log, clusters=cluster, covariates=["x"], weight="weight")
    assert tau.estimate == pytest.approx(coef[3], rel=1e-10)
    if kind != "CR2":
        assert tau.std_error == pytest.approx(np.sqrt(cov[3, 3]), rel=1e-9)
    else:
        assert 0.8 < tau.std_error / np.sqrt(cov[3, 3]) < 1.3
        assert tau.df < 39


def test_diff_in_diff_of_cross_sections_is_one_number_for_all_tables():
    log = sections()
    dates = log.assign(day=pd.Timestamp("2026-05-01") + pd.to_timedelta(log["day"], unit="D"))
    days = dates.assign(day=dates["day"].dt.date)
    one = diff_in_diff(log, **ROLES)
    stamp = pd.Timestamp("2026-05-04")
    said = [(3, log), (stamp, dates), ("2026-05-04", dates), (stamp.date(), days)]
    for start, changed in [*said, ("2026-05-04", days)]:
        for name, table in ({"pandas": changed} | other_tables(changed)).items():
            found = diff_in_diff(table, **{**ROLES, "start": start})
            assert found.estimate == pytest.approx(one.estimate, rel=1e-9), (name, start)
            assert found.std_error == pytest.approx(one.std_error, rel=1e-9), (name, start)


def test_diff_in_diff_of_cross_sections_reads_zones_and_hours():
    log = sections()
    hour = pd.to_timedelta(6 * log["day"], unit="h")
    naive = log.assign(day=pd.Timestamp("2026-05-03") + hour)
    zoned = log.assign(day=(pd.Timestamp("2026-05-03") + hour).dt.tz_localize("Asia/Shanghai"))
    one = diff_in_diff(log, **ROLES).estimate
    for table in (naive, other_tables(naive)["ibis"]):
        for start in ("2026-05-03T18:00:00", "2026-05-03 18:00", np.datetime64("2026-05-03T18")):
            found = diff_in_diff(table, **{**ROLES, "start": start})
            assert found.estimate == pytest.approx(one, rel=1e-9)
    start = pd.Timestamp("2026-05-03 18:00", tz="Asia/Shanghai")
    for table in (zoned, other_tables(zoned)["ibis"], other_tables(zoned)["polars"]):
        assert diff_in_diff(table, **{**ROLES, "start": start}).estimate == pytest.approx(one)
        with pytest.raises(TypeError, match="the times have a zone"):
            diff_in_diff(table, **{**ROLES, "start": "2026-05-03 18:00"})


def test_diff_in_diff_of_cross_sections_keeps_its_digits_at_an_offset():
    log = sections().assign(y=lambda d: np.round(d["y"] * 1024) / 1024)
    one, far = diff_in_diff(log, **ROLES), diff_in_diff(log.assign(y=log["y"] + 2.0**30), **ROLES)
    assert far.estimate == pytest.approx(one.estimate, rel=1e-6)
    assert far.std_error == pytest.approx(one.std_error, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"start": 0}, ["start", "before"]),
        ({"start": 9}, ["start", "9", "observed"]),
        ({"covariance": "HC1", "cluster": "cluster"}, ["HC1", "'cluster'"]),
        ({"start": "3"}, ["start", "'3'"]),
        ({"treatment": "x"}, ["treatment 'x'", "0 or 1"]),
        ({"start": None}, ["start="]),
        ({"outcome": "nope"}, ["'nope'"]),
        ({"cluster": "nope"}, ["'nope'"]),
        ({"covariance": "CR3"}, ["CR3"]),
        ({"covariance": "CR9"}, ["covariance", "CR9"]),
    ],
)
def test_diff_in_diff_of_cross_sections_refuses_by_name(change, parts):
    with pytest.raises((ValueError, TypeError)) as caught:
        diff_in_diff(sections(), **(ROLES | change))
    for part in parts:
        assert part in str(caught.value)


def test_diff_in_diff_of_cross_sections_refuses_an_empty_cell():
    log = sections()
    with pytest.raises(ValueError, match="none of treated before"):
        diff_in_diff(log[(log["ever"] == 0) | (log["day"] >= 3)], **ROLES)
    with pytest.warns(EstimationWarning, match="clusters"):
        diff_in_diff(log[log["cluster"] < 12], **ROLES, cluster="cluster")


# --- panel_design ---------------------------------------------------------------------------------

BY_COHORT = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}


def test_panel_design_counts_what_is_there():
    log = panel(n_units=90, starts=(2, 4), share=0.9)
    found = panel_design(log, **BY_COHORT, cluster="cluster", stratum="state")
    assert (found.n_units, found.n_periods, found.n_obs) == (90, 6, len(log))
    assert found.n_clusters == log["cluster"].nunique()
    assert found.cohorts["cohort"].tolist() == [2, 4, None]
    assert found.cohorts["n_units"].tolist() == [30, 30, 30]
    assert found.balance == pytest.approx(len(log) / 540)
    means = log.groupby(["cohort", "day"])["y"].mean()
    assert found.balance_by_cohort["mean"].to_numpy(float) == pytest.approx(means.to_numpy())
    by_state = log.groupby("unit").first().groupby("state")["ever"].mean()
    assert found.treated_share_by_stratum == pytest.approx(by_state.to_dict())
    usable = found.methods.set_index("method")
    assert usable.loc["group_time_effects", "usable"]
    assert "2 times" in usable.loc["diff_in_diff", "why_not"]
    assert "no row" in usable.loc["synthetic_control", "why_not"]


def test_panel_design_measures_exposure_of_controls():
    log = panel(n_units=40)
    exposed = (log["unit"] % 8 == 1) & (log["ever"] == 0)
    log["met"] = np.where(exposed & (log["day"] >= 3), 0.5, 0.0)
    found = panel_design(log, **BY_COHORT, exposure="met")
    controls = log[log["ever"] == 0]["unit"].unique()
    assert found.exposure_share == pytest.approx(np.mean(controls % 8 == 1))
    assert any("exposed to treatment" in w for w in found.warnings)
    with pytest.raises(ValueError, match="exposure 'met' must be >= 0"):
        panel_design(log.assign(met=-1.0), **BY_COHORT, exposure="met")


def test_panel_design_sees_what_looks_randomised():
    alike = panel(n_units=400, effect=0.5)
    apart = alike.assign(y=alike["y"] + 2.0 * alike["ever"])
    assert any("ab_test" in w for w in panel_design(alike, **BY_COHORT).warnings)
    assert not any("ab_test" in w for w in panel_design(apart, **BY_COHORT).warnings)


def test_panel_design_describes_what_estimators_refuse():
    log = panel(n_units=40)
    nobody = panel_design(log.assign(cohort=np.inf), **BY_COHORT)
    assert not nobody.methods["usable"].any()
    always = panel_design(log.assign(cohort=log["cohort"].replace(3.0, 0.0)), **BY_COHORT)
    assert any("20 always-treated" in w for w in always.warnings)


def test_panel_design_survives_json():
    found = panel_design(panel(n_units=60, share=0.9), **BY_COHORT, stratum="state")
    again = PanelDesign.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.summary() == found.summary()
    assert again.cohorts["cohort"].tolist() == [3, None]
