"""Imputation: dense projections, other packages' numbers, what is dropped, invariances, errors."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dense_panel import dummies, other_tables, panel

from causal import EstimationWarning, EventStudy, diff_in_diff, imputation_effects, panel_moments
from causal.panel import open_moments

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}
STORED = json.loads((Path(__file__).parents[1] / "reference" / "imputation.json").read_text())


def staggered(n_units=160, n_periods=7, starts=(2, 4, 5), **options):
    log = panel(n_units=n_units, n_periods=n_periods, starts=starts, **options)
    grows = 0.3 * (log["day"] - log["cohort"]).clip(0)
    return log.assign(y=log["y"] + grows.replace(-np.inf, 0))


def dense(log, *, covariates=(), cluster="unit", within=None):
    """Estimate and error over treated rows and by event time, by projections of all dummies."""
    on = (log["day"] >= log["cohort"]).to_numpy()
    Z = np.column_stack([dummies(log["unit"]), dummies(log["day"]), log[list(covariates)]])
    y = log["y"].to_numpy()
    project = np.linalg.pinv(Z[~on].T @ Z[~on], rcond=1e-11) @ Z[~on].T
    e = y - Z @ (project @ y[~on])
    tau = e[on].copy()
    cells = [log[name][on].to_numpy() for name in ("cohort", "day")]
    e[on] = tau - pd.Series(tau).groupby(cells).transform("mean").to_numpy()
    event = (log["day"] - log["cohort"])[on].to_numpy()
    groups = pd.factorize(log[cluster])[0]
    found = {}
    for h in (None, *sorted(set(event))):
        w = (np.ones(len(tau)) if h is None else event == h) * 1.0
        if within is not None and h is None:
            w = (event <= within) * 1.0
        w /= w.sum()
        v = np.zeros(len(y))
        v[on], v[~on] = w, -project.T @ (Z[on].T @ w)
        score = np.bincount(groups, v * e)
        found[h] = (w @ tau, np.sqrt(score @ score))
    return found


def assert_dense(study, wanted, rtol=1e-9):
    curve = [v for h, v in wanted.items() if h is not None]
    np.testing.assert_allclose(study.estimate, wanted[None][0], rtol=rtol)
    np.testing.assert_allclose(study.std_error, wanted[None][1], rtol=rtol)
    after = np.array([e >= 0 for e in study.curve.index])
    np.testing.assert_allclose(study.curve.estimate[after], [c[0] for c in curve], rtol=rtol)
    np.testing.assert_allclose(study.curve.std_error[after], [c[1] for c in curve], rtol=rtol)


# --- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.97, 0.75], ids=["balanced", "few gaps", "many patterns"])
@pytest.mark.parametrize("covariates", [(), ("x",)], ids=["plain", "covariate"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_imputation_effects_is_the_dense_projection(share, covariates, cluster):
    more = {"n_periods": 10, "starts": (6, 7, 9)} if share < 0.9 else {}
    log = staggered(share=share, **more)
    study = imputation_effects(log, **ROLES, covariates=covariates, cluster=cluster)
    wanted = dense(log, covariates=covariates, cluster=cluster or "unit")
    assert_dense(study, wanted)


def test_imputation_effects_with_more_patterns_than_moments_hold(monkeypatch):
    log = staggered(share=0.9)
    monkeypatch.setattr(open_moments, "MOST_PATTERNS", 1)
    assert_dense(imputation_effects(log, **ROLES), dense(log))


def test_imputation_effects_of_noise_free_equal_effects_is_twfe():
    log = panel(n_units=60, starts=(3,), noise=0.0).assign(x=0.0)
    log["y"] = log["unit"] % 7 + np.sqrt(log["day"]) + 2.5 * log["status"]
    study = imputation_effects(log, **ROLES)
    assert study.estimate == pytest.approx(2.5, abs=1e-12)
    assert diff_in_diff(log, **ROLES).estimate == pytest.approx(study.estimate, abs=1e-12)
    assert study.std_error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_leads_are_a_regression_on_untreated_rows(share):
    log = staggered(share=share, starts=(3, 5), seed=8)
    study = imputation_effects(log, **ROLES, n_pretrend=2)
    off = log[log["day"] < log["cohort"]]
    since = (off["day"] - off["cohort"]).to_numpy()
    Z = np.column_stack([since == -2, since == -1, dummies(off["unit"]), dummies(off["day"])]) * 1.0
    project = np.linalg.pinv(Z.T @ Z, rcond=1e-11) @ Z.T
    b = project @ off["y"].to_numpy()
    scores = project[:2] * (off["y"].to_numpy() - Z @ b)
    by_unit = np.column_stack([np.bincount(pd.factorize(off["unit"])[0], s) for s in scores])
    assert study.curve.index[:2] == (-2, -1)
    np.testing.assert_allclose(study.curve.estimate[:2], b[:2], rtol=1e-9)
    np.testing.assert_allclose(study.curve.cov[:2, :2], by_unit.T @ by_unit, rtol=1e-9)
    wald = b[:2] @ np.linalg.solve(by_unit.T @ by_unit, b[:2])
    assert study.pretrend.statistic == pytest.approx(wald, rel=1e-9)
    assert study.reference is None


def test_leads_do_not_change_the_effects():
    log = staggered()
    without, with_leads = (imputation_effects(log, **ROLES, n_pretrend=n) for n in (0, 3))
    assert without.pretrend is None
    assert without.effect == with_leads.effect
    np.testing.assert_array_equal(without.curve.cov, with_leads.curve.cov[3:, 3:])


def test_horizon_bounds_curve_and_effect():
    log = staggered()
    study = imputation_effects(log, **ROLES, horizon=1)
    wanted = dense(log, within=1)
    assert study.curve.index == (0, 1)
    np.testing.assert_allclose([study.estimate, study.std_error], wanted[None], rtol=1e-9)
    assert study.effect.details["treated_cells"] == int(((log.day - log.cohort).isin([0, 1])).sum())


def test_baseline_is_the_mean_imputed_outcome():
    log = staggered()
    study = imputation_effects(log, **ROLES)
    on = log["day"] >= log["cohort"]
    assert study.effect.baseline == pytest.approx(log["y"][on].mean() - study.estimate, rel=1e-12)
    assert study.effect.details["total"] == pytest.approx(study.estimate * on.sum())
    assert "mean over treated cells" in study.effect.details["weights"]


def test_n_units_counts_the_rows_behind_each_point():
    log = staggered(share=0.9)
    study = imputation_effects(log, **ROLES, n_pretrend=1)
    since = log["day"] - log["cohort"]
    wanted = {e: int((since == e).sum()) for e in study.curve.index}
    assert study.n_units_by_event_time == wanted


# --- reference ------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("case", ["balanced", "gaps", "covariate", "cluster"])
def test_imputation_effects_gives_the_numbers_of_other_packages(case):
    log = pd.DataFrame(STORED["gappy" if case == "gaps" else "log"])
    roles = {"outcome": "y", "unit": "unit", "time": "time", "cohort": "cohort", "never": 0}
    if case == "cluster":
        with pytest.warns(EstimationWarning, match="24 clusters"):
            study = imputation_effects(log, **roles, cluster="cluster")
    else:
        study = imputation_effects(log, **roles, covariates=["x"] if case == "covariate" else ())
    wanted = STORED["imputation"][case]
    got = [study.estimate, study.std_error]
    np.testing.assert_allclose(got, wanted["overall"], rtol=1e-9)
    for e, (estimate, error) in wanted["curve"].items():
        point = study.curve.at(int(e))
        np.testing.assert_allclose([point.estimate, point.std_error], [estimate, error], rtol=1e-9)
    if case in STORED["did2s"]:  # pyfixest demeans to 1e-6 where there are gaps
        points = STORED["did2s"][case]
        assert study.estimate == pytest.approx(points["overall"], abs=1e-5)
        for e, estimate in points["curve"].items():
            assert study.curve.at(int(e)).estimate == pytest.approx(estimate, abs=1e-5)


@pytest.mark.reference
def test_leads_are_another_packages_up_to_its_reference_and_its_factor():
    roles = {"outcome": "y", "unit": "unit", "time": "time", "cohort": "cohort", "never": 0}
    study = imputation_effects(pd.DataFrame(STORED["log"]), **roles, n_pretrend=5)
    ratios = []
    for e, (estimate, error) in STORED["imputation"]["leads"]["curve"].items():
        if int(e) >= 0:
            continue
        w = np.array([(i == int(e)) - 1.0 * (i == -1) for i in study.curve.index])
        assert w @ study.curve.estimate == pytest.approx(estimate, abs=1e-9)
        ratios.append(np.sqrt(w @ study.curve.cov @ w) / error)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    assert 0.97 < ratios[0] < 1


# --- tables and invariances -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.97])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_imputation_effects_is_the_same_from_any_table(share, cluster):
    log = staggered(share=share).assign(cohort=lambda d: d["cohort"].replace(np.inf, np.nan))
    options = {"cluster": cluster, "n_pretrend": 1}
    wanted = imputation_effects(log, **ROLES, **options)
    tables = other_tables(log)
    tables["moments"] = panel_moments(log, **ROLES, cluster=cluster, missing="pattern")
    tables["engine moments"] = panel_moments(
        tables["duckdb"], **ROLES, cluster=cluster, missing="pattern"
    )
    for name, table in tables.items():
        got = imputation_effects(table, **ROLES, **options)
        np.testing.assert_allclose(got.curve.estimate, wanted.curve.estimate, rtol=1e-9, atol=1e-10,
                                   err_msg=name)  # fmt: skip
        np.testing.assert_allclose(got.curve.cov, wanted.curve.cov, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.std_error, wanted.std_error, rtol=1e-9)


def test_covariates_need_the_table():
    moments = panel_moments(staggered(), **ROLES)
    with pytest.raises(ValueError, match="no covariates"):
        imputation_effects(moments, **ROLES, covariates=["x"])


@pytest.mark.parametrize("covariates", [(), ("x",)], ids=["plain", "covariate"])
def test_unit_and_period_effects_change_nothing(covariates):
    log = staggered(share=0.95)
    more = log["y"] + 1e3 * np.sin(log["unit"]) + 50.0 * log["day"] ** 2
    moved = log.assign(y=more, x=3 - 200 * log["x"])
    wanted = imputation_effects(log, **ROLES, covariates=covariates)
    got = imputation_effects(moved, **ROLES, covariates=covariates)
    np.testing.assert_allclose(got.curve.estimate, wanted.curve.estimate, atol=1e-8)
    np.testing.assert_allclose(got.curve.cov, wanted.curve.cov, atol=1e-9)


def test_an_offset_of_1e9_costs_few_digits():
    log = staggered()
    near, far = (imputation_effects(log.assign(y=log["y"] + b), **ROLES) for b in (0.0, 1e9))
    np.testing.assert_allclose(far.curve.estimate, near.curve.estimate, atol=1e-6)
    np.testing.assert_allclose(far.curve.cov, near.curve.cov, rtol=1e-5)


def test_duplicated_units_halve_the_variance():
    log = staggered()
    twice = pd.concat([log, log.assign(unit=log["unit"] + 10_000)])
    one, two = (imputation_effects(table, **ROLES) for table in (log, twice))
    np.testing.assert_allclose(two.curve.estimate, one.curve.estimate, rtol=1e-9)
    np.testing.assert_allclose(two.curve.cov, one.curve.cov / 2, rtol=1e-9, atol=1e-14)


def test_imputation_effects_survives_json_and_draws():
    study = imputation_effects(staggered(), **ROLES, n_pretrend=2)
    again = EventStudy.from_dict(json.loads(json.dumps(study.to_dict())))
    assert again == study
    assert again.plot() is not None
    assert list(again.to_frame()["event_time"]) == list(study.curve.index)


# --- what is dropped, what is refused -------------------------------------------------------------


def test_rows_without_untreated_ones_in_their_period_are_dropped_and_counted():
    log = staggered().query("cohort < inf")
    with pytest.warns(EstimationWarning, match=r"\(5, 6\) and were left out") as caught:
        study = imputation_effects(log, **ROLES)
    lost = int((log["day"] >= 5).sum())
    assert f"{lost} of {int((log.day >= log.cohort).sum())} treated rows" in str(caught[0].message)
    assert_dense(study, dense(log[log["day"] < 5]))


def test_cells_of_units_that_share_no_period_with_others_are_not_identified():
    log = staggered()
    apart = (log["unit"] % 8 == 0) & (log["cohort"] < np.inf)
    first_day = log["day"] == 0  # on which only those who are apart are untreated
    log = log[np.where(apart, first_day | (log["day"] >= log["cohort"]), ~first_day)]
    apart = apart[log.index]
    with pytest.warns(EstimationWarning, match="treated rows have no untreated rows") as caught:
        study = imputation_effects(log, **ROLES)
    lost = int((apart & (log["day"] >= log["cohort"])).sum())
    assert str(caught[0].message).startswith(f"{lost} of")
    assert_dense(study, dense(log[~apart]))


def test_always_treated_units_are_dropped_and_counted():
    log = staggered()
    always = pd.concat([log, log.query("unit < 112").assign(unit=lambda d: d.unit + 900, cohort=0)])
    with pytest.warns(
        EstimationWarning, match=r"12 of 172 units have no row before treatment .*never=0"
    ):
        study = imputation_effects(always, **ROLES)
    assert study.curve == imputation_effects(log, **ROLES).curve


def test_small_cohorts_are_said():
    log = staggered()
    small = pd.concat([log, log.query("unit == 103").assign(unit=9_000, cohort=3)])
    with pytest.warns(EstimationWarning, match=r"1 cohorts \(3\) have fewer than 5 units"):
        imputation_effects(small, **ROLES)


def test_a_rejected_pretrend_is_said():
    log = staggered()
    log["y"] += 3.0 * (log["day"] == log["cohort"] - 1)
    with pytest.warns(EstimationWarning, match="did not move in parallel"):
        imputation_effects(log, **ROLES, n_pretrend=1)


def test_few_clusters_are_said():
    with pytest.warns(EstimationWarning, match="20 clusters"):
        imputation_effects(staggered(n_units=80), **ROLES, cluster="cluster")


def test_warnings_point_at_the_callers_line():
    log = staggered()
    gaps = log.assign(day=log["day"] + 9 * (log["day"] > 3))
    always = pd.concat([log, log.query("unit < 112").assign(unit=lambda d: d.unit + 900, cohort=0)])
    for table, words in ((gaps, "skips periods"), (always, "no row before treatment")):
        with pytest.warns(EstimationWarning, match=words) as caught:
            imputation_effects(table, **ROLES)
        assert {w.filename for w in caught} == {__file__}


REFUSED = {
    "leads": ({"n_pretrend": 9}, {}, "n_pretrend=9"),
    "no leads": ({"n_pretrend": -1}, {}, "n_pretrend must be a whole number"),
    "horizon": ({"horizon": 1.5}, {}, "horizon must be a whole number"),
    "constant covariate": ({"covariates": ["c"]}, {"c": lambda d: d.unit % 3}, "covariate 'c'"),
    "covariate of days": ({"covariates": ["c"]}, {"c": lambda d: d.day**2}, "covariate 'c'"),
    "one covariate twice": (
        {"covariates": ["x", "c"]}, {"c": lambda d: 2 * d.x + d.unit}, "covariate 'c'",
    ),
    "same cohort": ({}, {"cohort": 3}, "must be a control"),
    "nobody": ({}, {"cohort": np.inf}, "at least one unit must be treated"),
    "gap": ({}, {"y": lambda d: d.y.where(d.index != 4)}, "'y'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_estimated_is_refused_by_name(case):
    options, columns, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        imputation_effects(staggered().assign(**columns), **ROLES, **options)


def test_nobody_left_to_compare_with_is_refused():
    log = staggered().query("cohort == 4").assign(cohort=lambda d: 4 - 4 * (d["unit"] % 8 < 4))
    with pytest.warns(EstimationWarning, match="always treated"), pytest.raises(
        ValueError, match="treated later, or never"
    ):  # fmt: skip
        imputation_effects(log, **ROLES)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.coverage_study
def test_intervals_cover_the_mean_effect_of_the_treated():
    rng = np.random.default_rng(3)
    n, t = 200, 8
    first = np.array([3.0, 5.0, 6.0, np.inf])[np.arange(n) % 4]
    unit, day = (a.ravel() for a in np.indices((n, t)))
    on = day >= first[unit]
    effect = np.where(on, 1 + 0.2 * (day - np.where(on, first[unit], 0)), 0.0)
    log = pd.DataFrame({"unit": unit, "day": day, "cohort": first[unit]})
    hits, leads = [], []
    for _ in range(250):
        noise = rng.normal(size=(n, t))
        for j in range(1, t):
            noise[:, j] = 0.6 * noise[:, j - 1] + 0.8 * noise[:, j]
        y = rng.normal(size=n)[unit] + 0.3 * day + effect + noise.ravel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)  # a pre-trend is rejected at times
            study = imputation_effects(log.assign(y=y), **ROLES, n_pretrend=2)
        low, high = study.conf_int()
        hits.append(low < effect[on].mean() < high)
        leads.append(study.pretrend.p_value < 0.05)
    assert 0.925 < np.mean(hits) < 0.975
    assert 0.025 < np.mean(leads) < 0.09
