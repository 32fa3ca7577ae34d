"""An outcome that never varies: said once, in one way, and answered with 0."""

import pytest
from dense_panel import panel

import causal

UNIT = {"outcome": "y", "unit": "unit", "time": "day"}
STARTED = {**UNIT, "treatment": "ever", "start": 3}
COHORT = {**UNIT, "cohort": "cohort"}
ROWS = {"outcome": "y", "time": "day"}
CALLS = [
    (causal.diff_in_diff, STARTED),
    (causal.diff_in_diff, {**STARTED, "covariates": ["x"]}),
    (causal.diff_in_diff, {**ROWS, "treatment": "ever", "start": 3}),
    (causal.diff_in_diff, {**ROWS, "treatment": "ever", "start": 3, "covariates": ["x"]}),
    (causal.event_study, COHORT),
    (causal.stratified_did, {**STARTED, "stratum": "state"}),
    (causal.triple_diff, {**STARTED, "eligible": "can"}),
    (causal.group_time_effects, COHORT),
    (causal.group_time_effects, {**COHORT, "unit": None}),
    (causal.sun_abraham, COHORT),
    (causal.imputation_effects, COHORT),
    (causal.bacon_decomposition, COHORT),
]


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e9])
@pytest.mark.parametrize(("estimator", "roles"), CALLS, ids=[c[0].__name__ for c in CALLS])
def test_panel_estimators_warn_once_of_a_constant_outcome(estimator, roles, offset):
    log = panel(n_units=240).assign(y=offset, can=lambda d: (d["unit"] % 4 < 2).astype(int))
    words = "outcome 'y' is constant: effects and their errors are 0; check the column"
    with pytest.warns(causal.EstimationWarning) as caught:
        found = estimator(log, **roles)
    assert [str(w.message) for w in caught] == [words]
    assert found.estimate == pytest.approx(0.0, abs=1e-15 * max(offset, 1.0))
    assert found.std_error == pytest.approx(0.0, abs=1e-15 * max(offset, 1.0))
    assert words in found.summary()


def test_few_cluster_test_refuses_a_constant_outcome():
    with pytest.raises(ValueError, match="check the outcome"):
        causal.few_cluster_test(panel().assign(y=5.0), **STARTED, cluster="cluster")
