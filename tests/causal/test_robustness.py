"""One table of several estimators."""

from __future__ import annotations

import pytest
from test_panel_plots import COLUMNS, log

from causal import (
    diff_in_diff,
    event_study,
    imputation_effects,
    panel_moments,
    robustness_table,
)

ARGUMENTS = {**COLUMNS, "cohort": "start"}
ANALYSES = {
    "TWFE": lambda t: diff_in_diff(t, **ARGUMENTS),
    "event study": lambda t: event_study(t, **ARGUMENTS),
    "imputation": lambda t: imputation_effects(t, **ARGUMENTS),
}


def test_robustness_table_holds_each_result_in_order():
    table = log(starts=(4,))
    found = robustness_table(ANALYSES, table, level=0.9)
    assert found["estimator"].tolist() == list(ANALYSES)
    for row, analysis in zip(found.to_dict("records"), ANALYSES.values(), strict=True):
        result = analysis(table)
        effect = getattr(result, "effect", result)
        assert (row["low"], row["high"]) == result.conf_int(0.9)
        assert row["estimate"] == effect.estimate
        assert row["p_value"] == effect.p_value
        assert (row["n_obs"], row["method"]) == (effect.n_obs, effect.method)


def test_robustness_table_takes_moments_once_read():
    table = log(starts=(4,))
    moments = panel_moments(table, **ARGUMENTS)
    both = [robustness_table(ANALYSES, data)["estimate"] for data in (table, moments)]
    assert both[0].tolist() == pytest.approx(both[1].tolist(), rel=1e-9)


@pytest.mark.parametrize(
    ("analyses", "error", "message"),
    [
        ({}, ValueError, "at least one function"),
        ([diff_in_diff], TypeError, "must map names to functions"),
        ({"x": 1}, TypeError, "must map names to functions"),
        ({"x": len}, TypeError, "must return an Effect or a result with one; got int"),
    ],
)
def test_robustness_table_refuses_what_is_no_analysis(analyses, error, message):
    with pytest.raises(error, match=message):
        robustness_table(analyses, log())


def test_robustness_table_names_the_analysis_that_fails():
    with pytest.raises(ValueError, match="'z'") as caught:
        robustness_table(
            {"bad one": lambda t: diff_in_diff(t, **ARGUMENTS | {"outcome": "z"})}, log()
        )
    assert caught.value.__notes__ == ["in the analysis 'bad one'"]
