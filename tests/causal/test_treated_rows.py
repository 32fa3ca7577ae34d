"""Treated units that leave before their start: refused if all do, left out if one cohort does."""

import numpy as np
import pandas as pd
import pytest
from dense_panel import dense_fit, panel

import causal

UNIT = {"outcome": "y", "unit": "unit", "time": "day"}
COHORT = {**UNIT, "cohort": "cohort"}
STARTED = {**UNIT, "treatment": "ever", "start": 3}
NONE = "no treated unit that is left has a row from its start on"
CALLS = {
    "diff_in_diff": (causal.diff_in_diff, COHORT),
    "diff_in_diff, covariate": (causal.diff_in_diff, {**COHORT, "covariates": ["x"]}),
    "diff_in_diff, start": (causal.diff_in_diff, STARTED),
    "event_study": (causal.event_study, COHORT),
    "event_study, covariate": (causal.event_study, {**COHORT, "covariates": ["x"]}),
    "stratified_did": (causal.stratified_did, {**COHORT, "stratum": "state"}),
    "few_cluster_test": (causal.few_cluster_test, {**COHORT, "cluster": "cluster"}),
    "sun_abraham": (causal.sun_abraham, COHORT),
    "imputation_effects": (causal.imputation_effects, COHORT),
    "group_time_effects": (causal.group_time_effects, COHORT),
    "group_time_effects, rows": (causal.group_time_effects, {**COHORT, "unit": None}),
}


def left(log, *starts):
    """Without the treated rows of these cohorts."""
    return log[~(log["cohort"].isin(starts) & (log["day"] >= log["cohort"]))]


@pytest.mark.filterwarnings("ignore::causal.EstimationWarning")
@pytest.mark.parametrize("name", CALLS)
def test_panel_estimators_refuse_treated_units_without_treated_rows(name):
    estimator, roles = CALLS[name]
    column = "treatment 'ever'" if "treatment" in roles else "cohort 'cohort'"
    with pytest.raises(ValueError, match=f"{column} must .*; {NONE}; add their later rows"):
        estimator(left(panel(), 3), **roles)


def test_event_study_names_the_column_where_nobody_is_treated():
    with pytest.raises(ValueError, match="of 'unit' is; check cohort 'cohort'"):
        causal.event_study(panel().assign(cohort=np.nan), **COHORT)
    with pytest.raises(ValueError, match="is; check treatment 'ever'"):
        causal.event_study(panel().assign(ever=0), **STARTED)


def test_panel_estimators_refuse_moments_without_treated_rows():
    m = causal.panel_moments(left(panel(), 3), **COHORT, missing="pattern")
    with pytest.raises(ValueError, match=f"cohort 'cohort' must .*; {NONE}"):
        causal.diff_in_diff(m, **COHORT)


@pytest.mark.filterwarnings("ignore::causal.EstimationWarning")
@pytest.mark.parametrize("name", [n for n in CALLS if "start" not in n])
def test_panel_estimators_leave_a_cohort_without_treated_rows_out_of_the_effect(name):
    estimator, roles = CALLS[name]
    log = panel(n_units=180, starts=(2, 4))
    found = estimator(left(log, 2), **roles)
    assert np.isfinite([found.estimate, found.std_error]).all()
    assert found.estimate == pytest.approx(1.0, abs=5 * found.std_error)
    if name == "sun_abraham":
        wanted = estimator(log[log["cohort"] != 2], **roles)
        assert found.curve.at(0).estimate == pytest.approx(wanted.curve.at(0).estimate, abs=0.3)
    if name == "diff_in_diff":
        rest = left(log, 2)
        on = (rest["day"] >= rest["cohort"]).to_numpy(dtype=float)
        b, V = dense_fit(rest, on[:, None], cluster="unit", k=7)
        assert found.estimate == pytest.approx(b[0], rel=1e-9)
        assert found.std_error == pytest.approx(np.sqrt(V[0, 0]), rel=1e-9)


def test_sun_abraham_refuses_cohorts_whose_treated_rows_go_with_the_last_cohort():
    log = panel(starts=(3, 4))
    log = left(log[np.isfinite(log["cohort"])], 3)
    with (
        pytest.warns(causal.EstimationWarning, match="nobody is never treated"),
        pytest.raises(ValueError, match=f"cohort 'cohort' must .*; {NONE}"),
    ):
        causal.sun_abraham(log, **COHORT)


def test_event_study_refuses_a_window_without_treated_rows():
    log = panel(n_units=80)
    log = log[~(np.isfinite(log["cohort"]) & log["day"].isin([3, 4]))]
    for more in ({}, {"covariates": ["x"]}):
        with pytest.raises(ValueError, match=NONE):
            causal.event_study(log, **COHORT, window=(-2, 1), **more)
    with pytest.raises(ValueError, match=NONE):
        causal.imputation_effects(log, **COHORT, horizon=1)


def test_panel_design_calls_nothing_usable_without_treated_rows():
    found = causal.panel_design(left(panel(), 3), **COHORT).methods
    assert not found["usable"].any()
    assert set(found["why_not"]) == {"no treated unit has a row from its start on"}


def test_event_study_cumulative_refuses_event_times_that_were_not_estimated():
    log = panel(n_units=80, n_periods=8)
    log = log[~((log["cohort"] == 3) & (log["day"] == 5))]
    study = causal.event_study(log, **COHORT)
    assert 2 not in study.curve.index
    with pytest.raises(ValueError, match=r"not estimated: 2; end the window .* at 1"):
        study.cumulative()
    assert causal.event_study(log, **COHORT, window=(-3, 1)).cumulative().index == (0, 1)
    first = panel(n_units=80, n_periods=8)
    first = first[~((first["cohort"] == 3) & first["day"].isin([3, 6]))]
    with pytest.raises(ValueError, match=r"not estimated: 0, 3; use the curve itself"):
        causal.event_study(first, **COHORT).cumulative()


def test_diff_in_diff_refuses_periods_with_the_conversion():
    log = panel()
    log["day"] = pd.PeriodIndex(
        pd.Timestamp("2026-01-01") + pd.to_timedelta(log["day"], "D"), freq="D"
    )
    with pytest.raises(TypeError, match=r"'day' must hold times .*\.dt\.to_timestamp\(\)"):
        causal.diff_in_diff(log, **STARTED)


@pytest.mark.parametrize("unit", ["unit", None])
def test_diff_in_diff_shows_starts_as_plain_values(unit):
    log = panel()
    roles = {**STARTED, "unit": unit}
    for start, shown in ((np.int64(0), "got 0,"), (np.int64(77), "got 77;")):
        with pytest.raises(ValueError, match=shown):
            causal.diff_in_diff(log, **{**roles, "start": start})
    log["day"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(log["day"], "D")
    for start in (pd.Timestamp("2026-01-01"), np.datetime64("2026-01-01")):
        with pytest.raises(ValueError, match="got '2026-01-01',"):
            causal.diff_in_diff(log, **{**roles, "start": start})
    with pytest.raises(TypeError, match=r"got '2026-01-02 10:00:00\+00:00'; the times"):
        causal.diff_in_diff(log, **{**roles, "start": pd.Timestamp("2026-01-02 10:00", tz="UTC")})
