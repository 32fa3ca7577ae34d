"""CR2 and its degrees of freedom against the dense definition and by simulation.

No Python package computes CR2 with Satterthwaite df, so the reference is the n x n definition.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dense_linear import EXACT, LAYOUTS, Dense, assert_same_covariance, design
from scipy import stats

from causal.cluster_algebra import inverse_root_series
from causal.effect import EstimationWarning
from causal.linear import covariance, least_squares


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


@pytest.fixture(params=["unweighted", "weighted"])
def weighted(request):
    return request.param == "weighted"


# ---- exact ----


def test_covariance_cr2_matches_dense_definition(layout, weighted):
    X, y, clusters, w = design(layout)
    w = w if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)  # two clusters hide parts: dense too
        result = covariance(least_squares(X, y, weights=w), X, kind="CR2", clusters=clusters)
    matrix, df, _ = Dense(X, y, w).cr2(clusters)
    assert_same_covariance(result.matrix, matrix)
    np.testing.assert_allclose(result.df, df, rtol=1e-8)


def test_covariance_cr2_of_small_leverage_matches_dense_definition():
    """One column, 60 singletons or pairs: leverage on both sides of the series' limit."""
    y = np.random.default_rng(0).normal(size=60) ** 2
    X = np.ones((60, 1))
    for clusters in (np.arange(60), np.arange(60) // 2):
        result = covariance(least_squares(X, y), X, kind="CR2", clusters=clusters)
        matrix, df, _ = Dense(X, y).cr2(clusters)
        np.testing.assert_allclose(result.matrix, matrix, rtol=1e-12)
        np.testing.assert_allclose(result.df, df, rtol=1e-12)


def test_inverse_root_series_matches_eigenvectors():
    A = np.random.default_rng(0).normal(size=(50, 6, 3))
    C = A.transpose(0, 2, 1) @ A
    C *= 0.02 / np.linalg.norm(C, axis=(1, 2)).max()
    values, vectors = np.linalg.eigh(C)
    exact = (vectors * (1 - values[:, None]) ** -0.5) @ vectors.transpose(0, 2, 1)
    np.testing.assert_allclose(inverse_root_series(C, 0.02), exact, rtol=0, atol=4e-15)
    assert (inverse_root_series(0 * C, 0.0) == np.eye(3)).all()


def test_covariance_cr2_of_singletons_is_hc2():
    X, y, _, _ = design([1] * 2000)
    fit = least_squares(X, y)
    assert_same_covariance(
        covariance(fit, X, kind="CR2", clusters=np.arange(2000)).matrix,
        covariance(fit, X).matrix,
        1e-12,
    )


def test_covariance_cr2_df_of_balanced_mean_is_clusters_less_one():
    X, y = np.ones((48, 1)), np.random.default_rng(0).normal(size=48)
    result = covariance(least_squares(X, y), X, kind="CR2", clusters=np.arange(48) % 8)
    np.testing.assert_allclose(result.df, [7.0], rtol=1e-12)


def test_covariance_cr2_with_cluster_dummies_keeps_slope_and_names_dummies(weighted):
    _, y, clusters, w = design([4, 6, 5, 3, 7])
    w = w if weighted else None
    x = np.random.default_rng(8).normal(size=len(y))
    X = np.column_stack([x, clusters[:, None] == np.arange(5)])
    fit = least_squares(X, y, weights=w, names=["x", *(f"viewer {g}" for g in range(5))])
    matrix, df, seen = Dense(X, y, w).cr2(clusters)
    shares = rf"of {5 + weighted} coefficient.*viewer 0 \({seen[1]:.3g}\), viewer 1 \("
    with pytest.warns(EstimationWarning, match=shares):  # weights leave .989 even of x
        result = covariance(fit, X, kind="CR2", clusters=clusters)
    assert seen[0] == pytest.approx(0.9885 if weighted else 1, abs=1e-4)
    np.testing.assert_allclose(result.matrix[0, 0], matrix[0, 0], rtol=EXACT)
    np.testing.assert_allclose(result.df[0], df[0], rtol=1e-8)


def test_covariance_cr2_sees_nothing_of_one_treated_cluster():
    clusters = np.repeat(np.arange(6), 5)
    X = np.column_stack([np.ones(30), clusters == 0])
    y = np.random.default_rng(0).normal(size=30)
    fit = least_squares(X, y, names=["control", "treated"])
    with pytest.warns(EstimationWarning, match=r"1 coefficient.*treated \(0\.167\)"):
        covariance(fit, X, kind="CR2", clusters=clusters)  # 1/25 of 1/25 + 1/5 is the controls'
    only = np.column_stack([clusters == 0, clusters > 0])
    with pytest.warns(EstimationWarning, match=r"x0 \(0\)"):
        result = covariance(least_squares(only, y), only, kind="CR2", clusters=clusters)
    assert result.df[0] == 0
    np.testing.assert_allclose(result.df[1], 4, rtol=1e-9)


# ---- coverage ----


@pytest.mark.slow
@pytest.mark.coverage_study
def test_covariance_cr2_covers_with_few_unequal_clusters():
    """7 treated of 24 clusters, 1 to 40 rows, ICC .3; CR0 with normal quantiles fails."""
    rng = np.random.default_rng(20)
    sizes = rng.integers(1, 41, 24)
    clusters = np.repeat(np.arange(24), sizes)
    X = np.column_stack([np.ones(len(clusters)), clusters < 7])
    hits = np.zeros(2)
    for _ in range(2000):
        y = np.sqrt(0.3) * rng.normal(size=24)[clusters]
        y += np.sqrt(0.7) * rng.normal(size=len(clusters))
        fit = least_squares(X, y)
        for j, kind in enumerate(("CR2", "CR0")):
            result = covariance(fit, X, kind=kind, clusters=clusters)
            q = stats.t.ppf(0.975, result.df[1]) if kind == "CR2" else 1.959964
            hits[j] += abs(fit.coef[1]) <= q * np.sqrt(result.matrix[1, 1])
    cr2, cr0 = hits / 2000
    assert 0.93 <= cr2 <= 0.97
    assert cr0 < 0.92
