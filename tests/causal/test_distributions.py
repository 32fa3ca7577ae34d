"""Critical values: normal, t, and the sup-t of a curve."""

import math

import numpy as np
import pytest
from scipy import stats

from causal.distributions import critical_value, sup_t_critical_value, unit_diagonal


def equicorrelated(k, rho):
    return np.full((k, k), rho) + (1 - rho) * np.eye(k)


@pytest.mark.parametrize("df", [None, 3])
def test_critical_value_stays_finite_next_to_level_one(df):
    level = math.nextafter(1.0, 0.0)
    tail = (1 - level) / 2
    expected = stats.norm.isf(tail) if df is None else stats.t.isf(tail, df)
    assert critical_value(level, df) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("k", [2, 3, 10, 60])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_sup_t_of_independent_points_is_sidak(k, level):
    closed_form = stats.norm.isf((1 - level ** (1 / k)) / 2)
    assert sup_t_critical_value(np.eye(k), level) == pytest.approx(closed_form, abs=2e-3)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("df", [None, 4, 30])
def test_sup_t_covers_at_its_level(rho, df):
    corr = equicorrelated(3, rho)
    c = sup_t_critical_value(corr, 0.95, df)
    law = (
        stats.multivariate_normal(cov=corr)
        if df is None
        else stats.multivariate_t(shape=corr, df=df, seed=1)
    )
    inside = law.cdf(np.full(3, c), lower_limit=np.full(3, -c))
    assert inside == pytest.approx(0.95, abs=1e-3)


@pytest.mark.parametrize("df", [None, 5])
def test_sup_t_grows_with_level_and_points_and_falls_with_correlation(df):
    by_level = [sup_t_critical_value(np.eye(4), q, df) for q in (0.1, 0.5, 0.9, 0.99, 0.999)]
    by_points = [sup_t_critical_value(np.eye(k), 0.95, df) for k in (1, 2, 4, 16)]
    by_rho = [sup_t_critical_value(equicorrelated(4, r), 0.95, df) for r in (0, 0.5, 0.9, 1)]
    assert by_level == sorted(set(by_level))
    assert by_points == sorted(set(by_points))
    assert by_rho == sorted(set(by_rho), reverse=True)
    assert by_rho[-1] == pytest.approx(critical_value(0.95, df), rel=1e-6)


def test_sup_t_does_not_depend_on_scale_and_ignores_points_without_variance():
    corr = equicorrelated(3, 0.3)
    scale = np.diag([1e-150, 1.0, 1e150])
    c = sup_t_critical_value(corr, 0.95)
    assert sup_t_critical_value(scale @ corr @ scale, 0.95) == pytest.approx(c, rel=1e-9)
    wide = np.zeros((4, 4))
    wide[:3, :3] = corr
    assert sup_t_critical_value(wide, 0.95) == pytest.approx(c, rel=1e-12)
    one = np.diag([0.0, 2.0])
    assert sup_t_critical_value(one, 0.95) == critical_value(0.95)


def test_unit_diagonal_gives_correlations_and_standard_errors():
    corr, scale = unit_diagonal(np.array([[4.0, 3.0], [3.0, 9.0]]))
    np.testing.assert_allclose(corr, [[1, 0.5], [0.5, 1]])
    np.testing.assert_allclose(scale, [2, 3])
    corr, scale = unit_diagonal(np.diag([0.0, 9.0]))
    np.testing.assert_allclose(corr, [[0, 0], [0, 1]])
