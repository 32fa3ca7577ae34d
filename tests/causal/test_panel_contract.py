"""What every panel estimator keeps: its numbers on any threads, and from a file of rows."""

import numba
import numpy as np
import pytest
from dense_panel import panel
from threadpoolctl import threadpool_limits

import causal

UNIT = {"outcome": "y", "unit": "unit", "time": "day"}
STARTED = {**UNIT, "treatment": "ever", "start": 3}
COHORT = {**UNIT, "cohort": "cohort"}
CALLS = {
    "diff_in_diff": (causal.diff_in_diff, COHORT),
    "diff_in_diff, covariate": (causal.diff_in_diff, {**COHORT, "covariates": ["x"]}),
    "diff_in_diff, CR2": (
        causal.diff_in_diff,
        {**COHORT, "cluster": "cluster", "covariance": "CR2"},
    ),
    "event_study": (causal.event_study, COHORT),
    "event_study, covariate": (causal.event_study, {**COHORT, "covariates": ["x"]}),
    "stratified_did": (causal.stratified_did, {**COHORT, "stratum": "state"}),
    "triple_diff": (causal.triple_diff, {**STARTED, "eligible": "can"}),
    "few_cluster_test": (causal.few_cluster_test, {**STARTED, "cluster": "cluster"}),
    "fixed_effects": (
        causal.fixed_effects,
        {"outcome": "y", "treatment": "status", "absorb": ["unit", "day"], "cluster": "unit"},
    ),
    "sun_abraham": (causal.sun_abraham, COHORT),
    "sun_abraham, covariate": (causal.sun_abraham, {**COHORT, "covariates": ["x"]}),
    "imputation_effects": (causal.imputation_effects, COHORT),
    "imputation_effects, covariate": (causal.imputation_effects, {**COHORT, "covariates": ["x"]}),
    "group_time_effects": (causal.group_time_effects, COHORT),
    "bacon_decomposition": (causal.bacon_decomposition, COHORT),
    "factor_effects": (causal.factor_effects, {**COHORT, "variance": "bootstrap", "n_draws": 5}),
}


def log_of(n_units):
    """Units of one start and never, half of them eligible."""
    log = panel(n_units=n_units, n_periods=8)
    return log.assign(can=(log["unit"] % 4 < 2).astype(int))


def numbers(found):
    """Estimates, then variances."""
    effect = found if isinstance(found, causal.Effect) else found.effect
    curve = getattr(found, "curve", None)
    points = [] if curve is None else curve.estimate.tolist()
    variances = [] if curve is None else curve.cov.ravel().tolist()
    return np.array([effect.estimate, *points]), np.array([effect.std_error**2, *variances])


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize("name", CALLS)
def test_panel_estimators_are_the_same_on_one_thread_and_on_two(name):
    estimator, roles = CALLS[name]
    log = log_of(60 if name == "factor_effects" else 2_400)
    found = []
    for threads in (1, 2):
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        with threadpool_limits(limits=threads):
            found.append(numbers(estimator(log, **roles)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize("name", CALLS)
def test_panel_estimators_read_a_parquet_file_and_their_result_back_from_json(name, tmp_path):
    estimator, roles = CALLS[name]
    log = log_of(60 if name == "factor_effects" else 160)
    log.to_parquet(tmp_path / "log.parquet")
    one, two = estimator(log, **roles), estimator(str(tmp_path / "log.parquet"), **roles)
    for a, b in zip(numbers(one), numbers(two), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
    again = type(two).from_dict(two.to_dict())
    for a, b in zip(numbers(two), numbers(again), strict=True):
        np.testing.assert_array_equal(a, b)
