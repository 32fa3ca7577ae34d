"""Bias, coverage and size of the A/B read-out at the size CI can afford.

The worlds are those of `benchmarks/coverage_table.py`, which prints the same at 2,000 runs. Bands
are what chance allows around the true value: 0.0005 on either side of the binomial.
"""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ab_tables import users
from scipy import stats

from experiments import Mean, ab_test

RUNS = 150
PATH = Path(__file__).parents[2] / "benchmarks" / "coverage_table.py"

pytestmark = [pytest.mark.coverage_study, pytest.mark.slow]


def loaded():
    """The module behind the command; dataclasses look it up by name while it loads."""
    spec = importlib.util.spec_from_file_location("coverage_table", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["coverage_table"] = module
    spec.loader.exec_module(module)
    return module


coverage_table = loaded()
STUDIES = [
    (x, s)
    for x, found in coverage_table.AB_STUDIES.items()
    for s in found
    if not s.note.startswith("limit")  # shown in the table, with its figures
]


def band(share, runs=RUNS):
    return stats.binom.ppf([0.0005, 0.9995], runs, share) / runs


@pytest.mark.parametrize(("letter", "study"), STUDIES, ids=[s.name for _, s in STUDIES])
def test_ab_test_is_unbiased_covers_and_keeps_its_size(letter, study):
    row = coverage_table.measure(letter, study, RUNS)
    assert abs(row.bias) < 3.5 * row.mc_error
    least, most = band(0.95)
    assert least <= row.coverage <= most
    least, most = band(0.05)
    assert least <= row.size <= most
    if letter in "abei":  # outcomes without heavy tails: the SD itself is known to 5 %
        assert row.se_ratio == pytest.approx(1, abs=3.3 / np.sqrt(2 * RUNS))


def test_ab_test_triggered_tenth_has_at_most_two_fifths_of_the_standard_error():
    inside, whole = (
        coverage_table.measure("i", study, 50) for study in coverage_table.AB_STUDIES["i"]
    )
    assert inside.rmse / whole.rmse <= 0.45  # of 50 runs each
    frame = coverage_table.triggered(np.random.default_rng(0), 1.0)
    sharp, blunt = (ab_test(frame, metric="y", arm="arm", trigger=t) for t in ("t", None))
    assert sharp.std_error <= 0.4 * blunt.std_error


def test_srm_test_p_values_are_uniform_under_the_design():
    row = coverage_table.sample_ratios(1000)
    least, most = band(0.05, 1000)
    assert least <= row.size <= most
    assert float(row.note.split("= ")[1]) > 0.001


def test_ab_test_superpopulation_standard_error_is_that_of_the_estimate_over_populations():
    # slopes that differ by 6 make the mean of x the larger part of the error
    rng = np.random.default_rng(3)
    estimates, fixed, whole = [], [], []
    for _ in range(400):
        frame = users(60).assign(x=rng.normal(size=60))
        frame["y"] = 20 + 6 * frame["arm"] * frame["x"] + rng.normal(size=60)
        effect = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm")
        estimates.append(effect.estimate)
        fixed.append(effect.std_error)
        whole.append(effect.details["superpopulation_std_error"])
    spread = np.std(estimates, ddof=1)
    assert np.mean(whole) == pytest.approx(spread, rel=3.3 / np.sqrt(800))
    assert np.mean(fixed) < 0.6 * spread


@pytest.mark.filterwarnings("ignore:.*(control level|one cluster):causal.effect.EstimationWarning")
def test_ab_test_population_errors_hold_with_clusters_and_for_relative_effects():
    # the effect of a cluster grows with x: the clusters that were drawn make most of the error
    rng = np.random.default_rng(5)
    estimates, errors, covered = [], [], 0
    for _ in range(250):
        size = rng.integers(5, 40, 100)
        group = np.repeat(np.arange(100), size)
        arm = rng.permutation(np.arange(100) % 2)[group]
        x = rng.normal(2, 1, 100)[group]
        y = 5 + x * (1 + 2 * arm) + rng.normal(0, 0.3, len(x))
        frame = pd.DataFrame({"g": group, "arm": arm, "x": x, "y": y})
        metric = Mean("y", covariates=["x"])
        effect = ab_test(frame, metric=metric, arm="arm", cluster="g", covariance="CR1")
        whole = replace(
            effect,
            std_error=effect.details["superpopulation_std_error"],
            baseline_variance=effect.details["superpopulation_baseline_variance"],
            baseline_cov=effect.details["superpopulation_baseline_cov"],
        )
        estimates.append(effect.estimate)
        errors.append(whole.std_error)
        low, high = whole.relative_conf_int()
        covered += low <= 4 / 7 <= high
    assert np.mean(errors) == pytest.approx(np.std(estimates, ddof=1), rel=3.3 / np.sqrt(500))
    assert 0.9 <= covered / 250 <= 0.99
