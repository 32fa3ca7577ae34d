"""Crossed effects and their covariance against dense dummies."""

from __future__ import annotations

import numpy as np
import pytest
from dense_linear import Dense, assert_same_covariance

from causal import EstimationWarning
from causal.did import absorption
from causal.did.absorbed_fit import absorbed_least_squares
from causal.did.absorption import absorb
from causal.did.cluster_covariance import cluster_covariance
from causal.did.conventions import CONVENTION, parameter_count, warn_few_clusters
from causal.linear import cluster_sums


def dummies(codes):
    return (codes[:, None] == np.unique(codes)).astype(float)


def residuals(columns, effects, weights=None):
    """Columns beside dense dummies."""
    D = np.hstack([dummies(codes) for codes in effects])
    root = np.ones(len(columns)) if weights is None else np.sqrt(weights)
    fitted = np.linalg.lstsq(D * root[:, None], columns * root[:, None], rcond=None)[0]
    return columns - D @ fitted


def by_hand(effects):
    """Rows that remain when those alone in a level go, one after the other."""
    kept = np.ones(len(effects[0]), dtype=bool)
    while True:
        alone = np.zeros(len(kept), dtype=bool)
        for codes in effects:
            count = np.bincount(codes[kept], minlength=codes.max() + 1)
            alone |= count[codes] == 1
        if not (alone & kept).any():
            return kept
        kept &= ~alone


def crossed(n=240, sizes=(60, 25, 9), seed=0):
    """Effects in three unconnected parts with rows that are alone, and three columns."""
    rng = np.random.default_rng(seed)
    part = rng.integers(0, 3, n)
    effects = [rng.integers(0, size, n) * 3 + part for size in sizes]
    return effects, rng.normal(size=(n, 3)) + part[:, None], rng.integers(0, 4, n).astype(float)


@pytest.fixture(params=["direct", "iterated"])
def solver(request, monkeypatch):
    if request.param == "iterated":
        monkeypatch.setattr(absorption, "_DENSE_LEVELS", 0)
    return request.param


# ---- exact: dense dummies ----


@pytest.mark.parametrize("n_effects", [1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_absorb_equals_dense_dummies(n_effects, weighted, solver):
    effects, columns, weights = crossed()
    effects, w = effects[:n_effects], weights if weighted else None
    found = absorb(effects, columns, weights=w)
    used = weights > 0 if weighted else np.ones(len(columns), dtype=bool)
    expected = used.copy()
    expected[used] = by_hand([codes[used] for codes in effects])
    assert (found.kept == expected).all()
    assert found.singletons == used.sum() - expected.sum() > 0
    rest = [codes[expected] for codes in effects]
    dense = residuals(columns[expected], rest, weights[expected] if weighted else None)
    np.testing.assert_allclose(found.columns, dense, rtol=0, atol=1e-10)
    D = np.hstack([dummies(codes) for codes in rest])
    if n_effects == 2:
        rank = np.linalg.matrix_rank(D)
        assert sum(found.n_levels) - found.n_components == rank
        assert found.n_components >= 3
        assert 0 < found.largest_share < 1


def test_absorb_of_a_chain_equals_dense_dummies(solver):
    """Each level meets two of the other effect: the slowest case for iterations."""
    n = 240
    effects = [np.arange(n) // 2, np.append(np.arange(1, n) // 2, 0)]
    columns = np.random.default_rng(1).normal(size=(n, 1))
    found = absorb(effects, columns)
    np.testing.assert_allclose(found.columns, residuals(columns, effects), rtol=0, atol=1e-7)
    assert found.n_components == 1


def test_absorb_keeps_its_digits_at_a_large_offset(solver):
    effects, columns, _ = crossed()
    near, far = (absorb(effects[:2], columns + shift).columns for shift in (0, 2.0**30))
    np.testing.assert_allclose(far, near, rtol=0, atol=1e-6)  # 2^30 leaves 2e-7 of each number


def test_absorb_ignores_labels_of_levels_and_order_of_rows(solver):
    effects, columns, _ = crossed()
    mixed = np.random.default_rng(2).permutation(len(columns))
    found = absorb(effects, columns)
    other = absorb([(7 * codes + 3)[mixed] for codes in effects], columns[mixed])
    place = np.full(len(columns), -1)
    place[np.flatnonzero(found.kept)] = np.arange(found.kept.sum())
    np.testing.assert_allclose(
        other.columns, found.columns[place[mixed[other.kept]]], rtol=0, atol=1e-9
    )
    assert other.n_components == found.n_components


def test_absorb_gives_the_same_bits_twice(solver):
    effects, columns, _ = crossed()
    first, second = (absorb(effects, columns).columns for _ in range(2))
    assert (first == second).all()


def test_absorb_stops_at_max_iterations(monkeypatch):
    monkeypatch.setattr(absorption, "_DENSE_LEVELS", 0)
    effects, columns, _ = crossed()
    with pytest.raises(ValueError, match=r"did not converge in 2 iterations.*column 0.*tolerance"):
        absorb(effects[:2], columns, max_iterations=2)


def test_absorb_raises_when_no_row_is_left():
    with pytest.raises(ValueError, match=r"5 rows were dropped .* none is left"):
        absorb([np.arange(5), np.array([0, 0, 1, 1, 2])], np.ones((5, 1)))


# ---- covariance ----


def regression(n=60, seed=0, n_clusters=8):
    """Units nested in clusters, unbalanced periods, two regressors; every coefficient is free."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(n // 4), 4)
    period = np.tile(np.arange(4), n // 4)
    keep = rng.random(n) < 0.9
    unit, period = unit[keep], period[keep]
    cluster = unit % n_clusters
    X = np.column_stack([(cluster % 2) * (period > 1), rng.normal(size=len(unit))])
    y = X @ [1.0, 2.0] + rng.normal(size=n)[unit] + period + rng.normal(size=len(unit))
    return y, X.astype(float), ["arm", "x"], [unit, period], cluster


def full_design(X, effects):
    """Regressors, all dummies of the first effect and all but one of the others."""
    return np.hstack([X, dummies(effects[0]), *(dummies(c)[:, 1:] for c in effects[1:])])


@pytest.mark.parametrize("kind", ["CR1", "HC1", "CR2", "CR3"])
def test_absorbed_least_squares_equals_full_dummies(kind):
    y, X, names, effects, cluster = regression()
    ways = () if kind == "HC1" else (cluster,)
    fit = absorbed_least_squares(y, X, names, effects, clusters=ways, covariance=kind)
    full = full_design(X, effects)[fit.kept]
    full = full[:, np.abs(full).sum(axis=0) > 0]
    y, cluster = y[fit.kept], cluster[fit.kept]
    dense = Dense(full, y)
    np.testing.assert_allclose(fit.coef, dense.coef[:2], rtol=1e-10)
    n, rank, G = len(y), full.shape[1], 8
    n_units = len(np.unique(effects[0][fit.kept]))
    if kind == "HC1":
        expected, df = dense.hc("HC1"), n - rank
        assert fit.k == rank
    elif kind == "CR1":
        assert fit.k == rank - n_units + 1
        expected = dense.cr(cluster, corrected=True) * (n - rank) / (n - fit.k)
        df = G - 1
    elif kind == "CR2":
        expected, df, _ = dense.cr2(cluster)
        df = df[:2]
    else:
        left_out = [
            np.linalg.lstsq(full[cluster != g], y[cluster != g], rcond=None)[0][:2]
            for g in range(G)
        ]
        moved = np.array(left_out) - fit.coef
        expected, df = (G - 1) / G * moved.T @ moved, G - 1
    assert_same_covariance(fit.cov, expected[:2, :2], 1e-9)
    np.testing.assert_allclose(fit.df, df, rtol=1e-8)


@pytest.mark.parametrize("kind", ["CR1", "CR3", "HC1"])
def test_absorbed_least_squares_with_weights_equals_repeated_scaling(kind):
    """Analytic weights: full dummies on rows times sqrt(w)."""
    y, X, names, effects, cluster = regression()
    w = np.random.default_rng(5).uniform(0.5, 2, len(y))
    ways = () if kind == "HC1" else (cluster,)
    fit = absorbed_least_squares(y, X, names, effects, clusters=ways, covariance=kind, weights=w)
    root = np.sqrt(w)[:, None]
    full = (full_design(X, effects) * root)[fit.kept]
    full = full[:, np.abs(full).sum(axis=0) > 0]
    y, cluster = (y * root[:, 0])[fit.kept], cluster[fit.kept]
    dense = Dense(full, y)
    np.testing.assert_allclose(fit.coef, dense.coef[:2], rtol=1e-10)
    if kind == "HC1":
        expected = dense.hc("HC1")
    elif kind == "CR1":
        n, rank = full.shape
        expected = dense.cr(cluster, corrected=True) * (n - rank) / (n - fit.k)
    else:
        left_out = [
            np.linalg.lstsq(full[cluster != g], y[cluster != g], rcond=None)[0][:2]
            for g in range(8)
        ]
        moved = np.array(left_out) - fit.coef
        expected = 7 / 8 * moved.T @ moved
    assert_same_covariance(fit.cov, expected[:2, :2], 1e-9)


def test_two_way_clusters_add_and_subtract_scores():
    y, X, names, effects, cluster = regression(n=120)
    other = np.random.default_rng(3).integers(0, 6, len(y))
    fit = absorbed_least_squares(y, X, names, effects, clusters=(cluster, other))
    sums = np.zeros((2, 2))
    score = fit.X * fit.resid[:, None]
    for sign, codes in ((1, cluster), (1, other), (-1, cluster * 6 + other)):
        total = cluster_sums(score, codes[fit.kept], codes.max() + 1)
        sums += sign * total.T @ total
    factor = 6 / 5 * (fit.n_obs - 1) / (fit.n_obs - fit.k)
    assert_same_covariance(fit.cov, factor * fit.bread @ sums @ fit.bread, 1e-9)
    assert (fit.df, fit.n_clusters) == (5.0, 6)


def test_two_way_clusters_without_enough_of_one_warn():
    y, X, names, effects, cluster = regression(n=80, seed=4)
    other = np.random.default_rng(1).integers(0, 2, len(y))
    with pytest.warns(EstimationWarning, match="not positive semi-definite"):
        fit = absorbed_least_squares(y, X, names, effects, clusters=(cluster, other))
    assert np.linalg.eigvalsh(fit.cov).min() >= -1e-15


def test_parameter_count_counts_nested_effects_once():
    y, X, names, effects, _ = regression()
    by_unit = absorbed_least_squares(y, X, names, effects, clusters=(effects[0],))
    n_units, n_periods = by_unit.absorbed.n_levels
    assert by_unit.k == 2 + n_periods  # a balanced panel's K + T
    assert absorbed_least_squares(y, X, names, effects).k == 2 + n_units + n_periods - 1
    assert parameter_count(2, [n_units, n_periods], [0, 1], [True, True]) == 3


def test_contrasts_have_degrees_of_freedom_of_their_own():
    y, X, names, effects, cluster = regression()
    contrasts = np.array([[0.5, 1.0], [0.5, 0.0]])
    given = {"clusters": (cluster,), "contrasts": contrasts}
    fit = absorbed_least_squares(y, X, names, effects, covariance="CR2", **given)
    turned = absorbed_least_squares(
        y, np.column_stack([X[:, 0] + X[:, 1], X[:, 1] - X[:, 0]]), names, effects,
        covariance="CR2", clusters=(cluster,),
    )  # fmt: skip
    # b0 + b1 of the turned regressors is twice the first: contrast (b0 + b1)/2 = its coefficient
    np.testing.assert_allclose(fit.contrast_df, [turned.df[0], fit.df[0]], rtol=1e-9)
    other = absorbed_least_squares(y, X, names, effects, clusters=(cluster,), contrasts=contrasts)
    assert other.contrast_df == other.df == 7.0


# ---- sums by cluster ----


@pytest.mark.parametrize("kind", ["CR1", "CR2", "CR3"])
def test_cluster_covariance_equals_rows(kind):
    """Groups of alike clusters, counted once, give the numbers of the rows."""
    y, X, names, effects, cluster = regression()
    fit = absorbed_least_squares(y, X, names, [effects[0]], clusters=(cluster,), covariance=kind)
    given = {"kind": kind, "n_obs": fit.n_obs, "k": fit.k}
    scores, grams = fit.cluster_scores(), fit.cluster_grams()
    cov, df = cluster_covariance(fit.bread, grams, np.ones(8), scores, **given)
    assert_same_covariance(cov, fit.cov, 1e-10)
    np.testing.assert_allclose(df, fit.df, rtol=1e-10)
    # twice the clusters: each group holds two, with half of the bread
    twice = np.repeat(scores, 2, axis=0) * np.tile([1.0, -0.5], 8)[:, None]
    moments = np.einsum("gi,gj->gij", twice, twice).reshape(8, 2, 2, 2).sum(axis=1)
    each = cluster_covariance(
        fit.bread / 2, np.repeat(grams, 2, axis=0), np.ones(16), twice, **given
    )
    grouped = cluster_covariance(fit.bread / 2, grams, np.full(8, 2), moments, **given)
    assert_same_covariance(grouped[0], each[0], 1e-10)
    np.testing.assert_allclose(grouped[1], each[1], rtol=1e-10)


def test_cluster_covariance_refuses_what_a_jackknife_cannot_see():
    s = np.array([[1.0, 0.5], [-1.0, 0.5], [0.0, -1.0]])
    grams = np.array([np.diag([4.0, 2.0]), np.diag([0.0, 2.0]), np.diag([0.0, 2.0])])
    bread = np.linalg.inv(grams.sum(axis=0))
    given = {"n_obs": 12, "k": 2, "names": ("arm", "x")}
    with pytest.raises(ValueError, match=r"CR3 leaves out.*arm is not"):
        cluster_covariance(bread, grams, np.ones(3), s, kind="CR3", **given)
    only_x = np.array([[0.0], [1.0]])
    found = cluster_covariance(bread, grams, np.ones(3), s, kind="CR3", contrasts=only_x, **given)
    assert np.isfinite(found[0]).all()
    with pytest.warns(EstimationWarning, match="CR2 sees only a share"):
        cluster_covariance(bread, grams, np.ones(3), s, kind="CR2", **given)


def test_cluster_covariance_refuses_wrong_sums():
    one = np.ones((2, 1, 1))
    given = {"n_obs": 9, "k": 1}
    with pytest.raises(ValueError, match="needs grams"):
        cluster_covariance([[0.5]], None, np.ones(2), np.ones((2, 1)), kind="CR2", **given)
    with pytest.raises(ValueError, match="groups of one cluster"):
        cluster_covariance([[0.5]], one, np.full(2, 3), np.ones((2, 1)), **given)
    with pytest.raises(ValueError, match="at least 2 clusters"):
        cluster_covariance([[1.0]], one[:1], np.ones(1), np.ones((1, 1)), **given)
    with pytest.raises(ValueError, match="positive definite"):
        cluster_covariance([[1.0, 2.0], [2.0, 1.0]], None, np.ones(2), np.ones((2, 2)), **given)


# ---- what is refused ----


def test_regressors_that_the_effects_absorb_are_named():
    y, X, names, effects, cluster = regression()
    by_unit = np.column_stack([X, effects[0] % 5 + 0.1])
    with pytest.raises(ValueError, match="must vary within the absorbed effects; level does not"):
        absorbed_least_squares(y, by_unit, [*names, "level"], effects)
    far = np.column_stack([X, effects[0] % 5 + 1e9 / 3])
    with pytest.raises(ValueError, match="must vary within the absorbed effects; level does not"):
        absorbed_least_squares(y, far, [*names, "level"], effects)
    doubled = np.column_stack([X, X[:, 0] - 2 * X[:, 1] + effects[0]])
    with pytest.raises(ValueError, match=r"linear combinations of each other .* level is"):
        absorbed_least_squares(y, doubled, [*names, "level"], effects)
    for kind in ("CR2", "CR3"):
        time = np.column_stack([X, effects[1] * 2.0])
        with pytest.raises(ValueError, match="level is"):
            absorbed_least_squares(
                y, time, [*names, "level"], effects, clusters=(cluster,), covariance=kind
            )


def test_covariances_that_cannot_be_had_are_refused():
    y, X, names, effects, cluster = regression()

    def fit(**given):
        return absorbed_least_squares(y, X, names, effects, **given)

    with pytest.raises(ValueError, match="CR2 needs a cluster"):
        fit(covariance="CR2")
    with pytest.raises(ValueError, match="HC1 takes no cluster"):
        fit(covariance="HC1", clusters=(cluster,))
    with pytest.raises(ValueError, match="takes one cluster column"):
        fit(covariance="CR3", clusters=(cluster, cluster))
    with pytest.raises(ValueError, match="equal weight"):
        fit(covariance="CR2", clusters=(cluster,), weights=np.ones(len(y)))
    with pytest.raises(ValueError, match="each lie in one cluster"):
        fit(covariance="CR2", clusters=(np.arange(len(y)) % 7,))
    with pytest.raises(ValueError, match="at least 2 clusters"):
        fit(clusters=(np.zeros(len(y)),))


def test_an_outcome_of_any_size_gives_the_same_t():
    y, X, names, effects, cluster = regression()
    found = [
        absorbed_least_squares(scale * y, X, names, effects, clusters=(cluster,))
        for scale in (1.0, 2.0**500, 2.0**-500)
    ]
    t = [fit.coef / np.sqrt(np.diag(fit.cov)) for fit in found]
    assert (t[1] == t[0]).all()
    assert (t[2] == t[0]).all()


# ---- guards and words ----


def test_few_clusters_warn_once_with_both_figures():
    with pytest.warns(EstimationWarning, match="6 clusters, 2 of them treated") as caught:
        warn_few_clusters(6, 2)
    assert len(caught) == 1
    with pytest.warns(EstimationWarning, match="12 clusters: .*CR2.*few_cluster_test"):
        warn_few_clusters(12, 6)
    with pytest.warns(EstimationWarning, match="no variance estimator .*synthetic_control"):
        warn_few_clusters(60, 1, covariance="CR2")
    with pytest.raises(ValueError, match="at least 2 clusters"):
        warn_few_clusters(1)
    warn_few_clusters(12, 6, covariance="CR2")
    warn_few_clusters(200, 30)


def test_convention_names_every_covariance():
    for word in ("CR1", "CR2", "CR3", "HC1", "Two-way", "(n-1)/(n-k)"):
        assert word in CONVENTION
