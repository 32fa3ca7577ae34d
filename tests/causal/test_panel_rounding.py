"""Exact fits and constant outcomes: what rounding leaves of a variance is 0, on every path."""

import numpy as np
import pytest
from dense_panel import panel

import causal

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}
OUTCOMES = {
    "constant": lambda log: 0.1,
    "units": lambda log: log["unit"] * 0.1 + log["day"] * 0.3 + log["status"],
    "offset": lambda log: 1e6 + log["day"] * 0.3 + log["status"],
    "wide units": lambda log: log["unit"] * 1e3 / 7 + log["day"] * 0.3 + 0.1 * log["status"],
}
ESTIMATORS = (
    causal.event_study,
    causal.diff_in_diff,
    causal.sun_abraham,
    causal.imputation_effects,
)


@pytest.mark.filterwarnings("ignore::causal.EstimationWarning")
@pytest.mark.parametrize("cluster", [None, "cluster"])
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_panel_estimators_of_an_exact_fit_have_no_error(estimator, outcome, cluster):
    for seed in range(4):
        log = panel(n_units=60, seed=seed, share=0.9, starts=(3,) if seed % 2 else (2, 4))
        log = log.assign(y=OUTCOMES[outcome](log))
        found = estimator(log, **ROLES, cluster=cluster)
        effect = {"constant": 0.0, "wide units": 0.1}.get(outcome, 1.0)
        assert found.estimate == pytest.approx(effect, abs=1e-9)
        assert found.std_error == 0
        if estimator is not causal.diff_in_diff:
            assert not found.curve.cov.any()
            assert found.pretrend is None


@pytest.mark.filterwarnings("ignore::causal.EstimationWarning")
@pytest.mark.parametrize("covariance", ["CR2", "CR3", "HC1"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_event_study_of_an_exact_fit_has_no_error_by(covariance, outcome):
    log = panel(n_units=60, share=0.9)
    log = log.assign(y=OUTCOMES[outcome](log))
    assert not causal.event_study(log, **ROLES, covariance=covariance).curve.cov.any()


@pytest.mark.parametrize("cluster", [None, "cluster"])
@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
def test_panel_estimators_keep_small_errors_beside_large_levels(share, cluster):
    log = panel(n_units=160, share=share)
    for estimator in ESTIMATORS:
        for level in (1e8, 1e5 * (log["unit"] % 7)):
            far = estimator(log.assign(y=log["y"] + level), **ROLES, cluster=cluster)
            near = estimator(log, **ROLES, cluster=cluster)
            assert far.std_error == pytest.approx(near.std_error, rel=1e-4)


def test_diff_in_diff_of_noise_far_below_the_levels_still_has_an_error():
    log = panel(n_units=160)
    noise = np.random.default_rng(1).normal(size=len(log))
    log = log.assign(y=1e6 + log["day"] + 1e-6 * noise)
    error = causal.diff_in_diff(log, **ROLES).std_error
    assert error == pytest.approx(
        1e-6 * causal.diff_in_diff(log.assign(y=noise), **ROLES).std_error, rel=1e-3
    )
