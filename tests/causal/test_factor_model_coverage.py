"""Synthetic DID and matrix completion where trends are not parallel, at the size CI can afford.

The worlds are those of `benchmarks/factor_model_study.py`, which prints the same at 1,000 runs.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
from scipy import stats

RUNS = 60
PATH = Path(__file__).parents[2] / "benchmarks" / "factor_model_study.py"

pytestmark = [pytest.mark.coverage_study, pytest.mark.slow]


def loaded():
    """The module behind the command; dataclasses look it up by name while it loads."""
    spec = importlib.util.spec_from_file_location("factor_model_study", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["factor_model_study"] = module
    spec.loader.exec_module(module)
    return module


study = loaded()


def test_weighted_donors_follow_factors_that_means_do_not():
    names = ("difference-in-differences", "synthetic DID, placebo")
    plain, synthetic = study.measure(RUNS, names)
    assert synthetic.rmse < 0.6 * plain.rmse
    assert abs(synthetic.bias) < 3 * synthetic.mc_error
    assert stats.binom.ppf(0.0005, RUNS, 0.95) <= RUNS * synthetic.coverage
    assert "| synthetic DID, placebo |" in study.table([plain, synthetic])


def test_matrix_completion_follows_factors_that_means_do_not():
    runs = 8
    plain, completed = study.measure(
        runs, ("difference-in-differences", "matrix completion, placebo")
    )
    assert completed.rmse < 0.8 * plain.rmse
    assert abs(completed.bias) < 3 * completed.mc_error
    assert completed.coverage >= 0.75
