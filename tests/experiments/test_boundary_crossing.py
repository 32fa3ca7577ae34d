"""Crossing probabilities of the score process: against the multivariate normal and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from experiments.splits.boundary_crossing import (
    checked_information,
    classical_bounds,
    crossing_above,
    spending_bounds,
)


def by_multivariate_normal(z, t, sided, drift):
    """P(first crossing above at each of two looks)."""
    mean = drift * np.sqrt(t)
    rho = math.sqrt(t[0] / t[1])
    pair = multivariate_normal(mean=mean, cov=np.array([[1, rho], [rho, 1]]))
    low = -z[0] if sided == 2 else -40.0
    reach = norm.cdf(z[0] - mean[0]) - norm.cdf(low - mean[0])
    stay = pair.cdf(np.array(z), lower_limit=np.array([low, -40.0]))
    return [norm.sf(z[0] - mean[0]), reach - stay]


@pytest.mark.parametrize("drift", [-3.0, 0.0, 2.0, 6.0])
@pytest.mark.parametrize("sided", [1, 2])
def test_crossing_above_equals_the_bivariate_normal(drift, sided):
    z, t = [2.3, 1.9], [0.4, 1.0]
    got = crossing_above(z, t, sided=sided, drift=drift)
    np.testing.assert_allclose(got, by_multivariate_normal(z, t, sided, drift), atol=1e-9)


@pytest.mark.parametrize("sided", [1, 2])
def test_crossing_above_of_close_looks_equals_the_bivariate_normal(sided):
    z, t = [2.1, 2.0], [0.998, 0.999]
    got = crossing_above(z, t, sided=sided, drift=1.0)
    np.testing.assert_allclose(got, by_multivariate_normal(z, t, sided, 1.0), atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.0, 4.0), min_size=1, max_size=6), st.floats(-30, 30))
def test_crossing_above_and_below_leave_the_paths_that_never_cross(z, drift):
    t = [k / len(z) for k in range(1, len(z) + 1)]
    above = crossing_above(z, t, sided=2, drift=drift)
    below = crossing_above(z, t, sided=2, drift=-drift)
    assert above.min() >= 0
    assert above.sum() + below.sum() <= 1 + 1e-9
    more = crossing_above(z, t, sided=2, drift=drift + 1)
    assert more.sum() >= above.sum() - 1e-9


@pytest.mark.parametrize("pocock", [True, False])
@pytest.mark.parametrize("sided", [1, 2])
def test_bounds_are_crossed_with_the_probabilities_they_spend(pocock, sided):
    for make, t in ((classical_bounds, [0.25, 0.5, 0.75, 1.0]), (spending_bounds, [0.1, 0.7, 1])):
        z, spent = make(t, alpha=0.05, pocock=pocock, sided=sided)
        crossed = np.cumsum(crossing_above(z, t, sided=sided))
        np.testing.assert_allclose(crossed, spent, rtol=0, atol=1e-11)
        assert spent[-1] == pytest.approx(0.05, abs=1e-11)


def test_spending_bounds_keep_relative_accuracy_far_in_the_tail():
    z, spent = spending_bounds([0.02, 1.0], alpha=0.025, pocock=False, sided=2)
    assert spent[0] < 1e-50
    assert z[0] == pytest.approx(norm.isf(spent[0]), rel=1e-10)


def test_checked_information_returns_floats_and_refuses_text():
    assert checked_information(np.array([0.5, 1])) == (0.5, 1.0)
    with pytest.raises(ValueError, match="at least one look"):
        checked_information(0.5)


@pytest.mark.coverage_study
def test_crossing_above_equals_simulated_frequencies_under_drift():
    t, z, drift = [0.2, 0.5, 0.8, 1.0], [2.8, 2.4, 2.2, 2.0], 1.5
    rng = np.random.default_rng(2)
    steps = np.diff(t, prepend=0.0)
    score = np.cumsum(rng.standard_normal((200_000, 4)) * np.sqrt(steps) + drift * steps, axis=1)
    paths = score / np.sqrt(t)
    out = np.abs(paths) >= z
    first = out & (np.cumsum(out, axis=1) == 1)
    seen = (first & (paths > 0)).mean(axis=0)
    np.testing.assert_allclose(crossing_above(z, t, sided=2, drift=drift), seen, atol=0.004)
