"""Least squares and robust covariances against dense definitions and statsmodels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dense_linear import EXACT, LAYOUTS, Dense, assert_same_covariance, design
from hypothesis import given, settings
from hypothesis import strategies as st

from causal.effect import EstimationWarning
from causal.linear import cluster_sums, covariance, least_squares

SAME = 1e-9  # same numbers in another order, unit or type
KINDS = ("HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2", "HAC")


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


@pytest.fixture(params=["unweighted", "weighted"])
def weighted(request):
    return request.param == "weighted"


# ---- exact ----


def test_least_squares_solves_normal_equations(layout, weighted):
    X, y, _, w = design(layout)
    w = w if weighted else None
    fit, dense = least_squares(X, y, weights=w), Dense(X, y, w if w is None else w / w.mean())
    np.testing.assert_allclose(fit.coef, dense.coef, rtol=EXACT)
    np.testing.assert_allclose(fit.resid, dense.e, rtol=EXACT, atol=1e-12)
    np.testing.assert_allclose(fit.bread, dense.M, rtol=EXACT, atol=1e-13)
    np.testing.assert_allclose(fit.leverage, dense.h, rtol=EXACT)
    assert (fit.n, fit.rank, fit.dropped) == (len(y), 4, ())


@pytest.mark.parametrize("kind", ["HC0", "HC1", "HC2", "HC3"])
def test_covariance_hc_matches_loop_over_rows(kind, weighted):
    X, y, _, w = design(LAYOUTS["mixed"])
    w = w if weighted else None
    result = covariance(least_squares(X, y, weights=w), X, kind=kind)
    assert_same_covariance(result.matrix, Dense(X, y, w).hc(kind))
    assert result.df == len(y) - 4


@pytest.mark.parametrize("kind", ["CR0", "CR1"])
def test_covariance_cr_matches_loop_over_clusters(kind, layout, weighted):
    X, y, clusters, w = design(layout)
    w = w if weighted else None
    result = covariance(least_squares(X, y, weights=w), X, kind=kind, clusters=clusters)
    assert_same_covariance(result.matrix, Dense(X, y, w).cr(clusters, corrected=kind == "CR1"))
    assert result.df == len(layout) - 1


@pytest.mark.parametrize("kind", ["CR0", "CR1"])
def test_covariance_two_way_adds_ways_and_subtracts_cells(kind, weighted):
    X, y, _, w = design([1] * 60, seed=1)
    w = w if weighted else None
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 15, 60), rng.integers(0, 12, 60)
    y = y + 2 * rng.normal(size=15)[first] * (1 + X[:, 2])
    y = y + 2 * rng.normal(size=12)[second] * (1 + X[:, 3])
    cells = [f"{a}/{b}" for a, b in zip(first, second, strict=True)]
    dense = Dense(X, y, w)
    raw = sum(
        sign * dense.cr(c, corrected=kind == "CR1")
        for sign, c in ((1, list(first)), (1, list(second)), (-1, cells))
    )
    assert np.linalg.eigvalsh(raw)[0] > 0
    result = covariance(
        least_squares(X, y, weights=w), X, kind=kind, clusters=first, clusters2=second
    )
    assert_same_covariance(result.matrix, raw)
    assert result.df == 11


@pytest.mark.parametrize("lags", [0, 1, 5, 33, None])
def test_covariance_hac_matches_double_loop(lags, weighted):
    X, y, _, w = design(LAYOUTS["two clusters"])
    w = w if weighted else None
    order = np.random.default_rng(3).permutation(len(y))
    fit = least_squares(X[order], y[order], weights=None if w is None else w[order])
    result = covariance(fit, X[order], kind="HAC", lags=lags, time=order.astype("datetime64[D]"))
    assert_same_covariance(result.matrix, Dense(X, y, w).hac(3 if lags is None else lags))
    assert result.df == len(y) - 4  # default lags: floor(4 (34/100)^(2/9)) = 3


def test_covariance_two_way_sets_negative_eigenvalues_to_zero():
    X, y, _, _ = design([1] * 40, seed=2)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    fit, dense = least_squares(X, y), Dense(X, y)
    raw = (
        dense.cr(list(first), corrected=True)
        + dense.cr(list(second), corrected=True)
        - dense.cr(list(first * 3 + second), corrected=True)
    )
    root = np.linalg.cholesky(dense.M)  # in an orthonormal basis V = root meat root'
    values, vectors = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, raw).T))
    assert values[0] < 0 < values[-1]
    with pytest.warns(EstimationWarning, match=r"eigenvalue\(s\) of -0\.\d+.*set to 0"):
        result = covariance(fit, X, kind="CR1", clusters=first, clusters2=second)
    expected = root @ vectors @ np.diag(np.maximum(values, 0)) @ vectors.T @ root.T
    assert_same_covariance(result.matrix, expected)
    scale = np.array([1, 1e3, 1e-4, 7.0])
    with pytest.warns(EstimationWarning, match="set to 0"):
        scaled = covariance(
            least_squares(X * scale, y), X * scale, kind="CR1", clusters=first, clusters2=second
        )
    assert_same_covariance(scaled.matrix * np.outer(scale, scale), result.matrix)


def test_cluster_sums_matches_loop():
    rng = np.random.default_rng(0)
    values, codes = rng.normal(size=(50, 3)), rng.integers(0, 6, 50)
    sums = cluster_sums(values, codes, 8)
    np.testing.assert_allclose(sums, [values[codes == g].sum(axis=0) for g in range(8)], atol=1e-14)
    assert (cluster_sums(values[:, 1], codes, 8)[:, 0] == sums[:, 1]).all()
    for bad in (codes - 1, codes + 3):
        with pytest.raises(ValueError, match=r"codes must lie in \[0, 8\)"):
            cluster_sums(values, bad, 8)


# ---- collinear columns ----


def test_least_squares_drops_later_collinear_columns_by_name():
    X, y, clusters, _ = design(LAYOUTS["mixed"])
    wide = np.column_stack(
        [X[:, 2], X, X[:, 1] - 3 * X[:, 0], np.zeros(len(y)), np.full(len(y), 7)]
    )
    names = ["c", "one", "a", "c again", "d", "a - 3", "nothing", "seven"]
    with pytest.warns(EstimationWarning, match=r"4 collinear .*: c again, a - 3, nothing, seven;"):
        fit = least_squares(wide, y, names=names)
    assert fit.dropped == ("c again", "a - 3", "nothing", "seven")
    assert fit.names == ("c", "one", "a", "d")
    assert fit.kept.tolist() == [0, 1, 2, 4]
    order = [2, 0, 1, 3]
    np.testing.assert_allclose(fit.coef, Dense(X, y).coef[order], rtol=EXACT)
    for kind in ("HC2", "CR1", "CR2"):
        options = {"clusters": clusters} if kind[0] == "C" else {}
        narrow = covariance(least_squares(X, y), X, kind=kind, **options)
        result = covariance(fit, wide, kind=kind, **options)
        assert_same_covariance(result.matrix, narrow.matrix[np.ix_(order, order)])


def test_least_squares_drop_does_not_depend_on_row_order():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, 200)
    X = np.column_stack([level[:, None] == np.arange(3), np.ones(200)])
    for seed in range(20):
        at = np.random.default_rng(seed).permutation(200)
        with pytest.warns(EstimationWarning, match="x2"):
            fit = least_squares(X[at], level[at].astype(float))
        assert fit.dropped == ("x2",)  # the constant column is taken first
        np.testing.assert_allclose(fit.coef, [-2, -1, 2], atol=1e-12)


def test_least_squares_keeps_a_column_of_little_spread():
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    X = np.column_stack([np.ones(100), 1e9 + 0.01 * x])
    fit = least_squares(X, 2.0 * x)
    assert fit.coef[1] == pytest.approx(200, rel=1e-5)
    with pytest.warns(EstimationWarning, match="x1"):
        least_squares(np.column_stack([np.ones(100), 0.1 + 1e-16 * x]), x)


def test_least_squares_of_constant_outcome_has_no_residual():
    fit = least_squares(np.column_stack([np.ones(30), np.arange(30.0)]), np.full(30, 1e9 + 0.1))
    assert (fit.resid == 0).all()
    assert fit.coef.tolist() == [1e9 + 0.1, 0.0]
    X = np.column_stack([np.ones(30), np.arange(30.0)])
    assert (covariance(fit, X).matrix == 0).all()


# ---- weights ----


def options_for(kind, clusters):
    if kind == "HAC":
        return {"lags": 2, "time": np.arange(len(clusters))}
    return {"clusters": clusters} if kind.startswith("CR") else {}


def subset(options, used):
    return {key: value if key == "lags" else value[used] for key, value in options.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_covariance_ignores_rows_of_weight_zero(kind):
    X, y, clusters, w = design(LAYOUTS["mixed"])
    used = np.arange(len(y)) % 4 > 0
    w, X, y = np.where(used, w, 0), X.copy(), y.copy()
    X[~used, 2], y[~used] = 1e12, -1e15
    options = options_for(kind, clusters)
    fit, part = least_squares(X, y, weights=w), least_squares(X[used], y[used], weights=w[used])
    assert (fit.n, fit.leverage[~used].tolist()) == (used.sum(), [0] * (~used).sum())
    np.testing.assert_allclose(fit.coef, part.coef, rtol=SAME)
    result = covariance(fit, X, kind=kind, **options)
    expected = covariance(part, X[used], kind=kind, **subset(options, used))
    assert_same_covariance(result.matrix, expected.matrix, SAME)
    np.testing.assert_allclose(result.df, expected.df, rtol=SAME)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.3, 1e-200, 1e250])
def test_covariance_takes_constant_weights_as_none(kind, level):
    X, y, clusters, _ = design(LAYOUTS["mixed"])
    options = options_for(kind, clusters)
    plain = covariance(least_squares(X, y), X, kind=kind, **options)
    result = covariance(
        least_squares(X, y, weights=np.full(len(y), level)), X, kind=kind, **options
    )
    assert_same_covariance(result.matrix, plain.matrix, 1e-12)
    np.testing.assert_allclose(result.df, plain.df, rtol=1e-12)


# ---- reference ----

REFERENCE = Path(__file__).parents[1] / "reference" / "linear.json"


@pytest.mark.reference
@pytest.mark.parametrize("data", ["grunfeld", "star98"])
@pytest.mark.parametrize("model", ["ols", "wls"])
def test_covariance_equals_statsmodels(data, model):
    case = json.loads(REFERENCE.read_text(encoding="utf-8"))["cases"][data]
    X, y = np.array(case["X"]), np.array(case["y"])
    expected = case["fits"][model]
    fit = least_squares(X, y, weights=case["weights"] if model == "wls" else None)
    np.testing.assert_allclose(fit.coef, expected["coef"], rtol=EXACT)
    labels = {"clusters": case["clusters"]}
    both = labels | {"clusters2": case["clusters2"]}
    options = {
        "CR0": labels,
        "CR1": labels,
        "CR0 two-way": both,
        "CR1 two-way": both,
        "HAC": {"lags": case["lags"]},
    }
    assert len(expected["covariance"]) == 10
    for name, matrix in expected["covariance"].items():
        result = covariance(fit, X, kind=name.split()[0], **options.get(name, {}))
        np.testing.assert_allclose(result.matrix, matrix, rtol=EXACT, err_msg=name)


# ---- property ----


def case_of(seed):
    return design(LAYOUTS["mixed"], seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_covariance_does_not_depend_on_row_order(kind, seed):
    X, y, clusters, w = case_of(seed)
    at = np.random.default_rng(seed).permutation(len(y))
    options = options_for(kind, clusters)
    fit, moved = least_squares(X, y, weights=w), least_squares(X[at], y[at], weights=w[at])
    result = covariance(fit, X, kind=kind, **options)
    other = covariance(moved, X[at], kind=kind, **subset(options, at))
    np.testing.assert_allclose(moved.coef, fit.coef, rtol=SAME, atol=SAME)
    assert_same_covariance(other.matrix, result.matrix, SAME)
    np.testing.assert_allclose(other.df, result.df, rtol=SAME)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    power=st.sampled_from([-150, -20, 3, 150]),
    shift=st.floats(-100, 100),
)
def test_covariance_follows_scale_and_shift_of_outcome(kind, seed, power, shift):
    X, y, clusters, _ = case_of(seed)
    scale, options = 10.0**power, options_for(kind, clusters)
    fit, other = least_squares(X, y), least_squares(X, (y + shift) * scale)
    result, scaled = (covariance(f, X, kind=kind, **options) for f in (fit, other))
    np.testing.assert_allclose(other.coef[1:] / scale, fit.coef[1:], rtol=SAME, atol=SAME)
    assert_same_covariance(scaled.matrix / scale / scale, result.matrix, SAME)
    np.testing.assert_allclose(scaled.df, result.df, rtol=SAME)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.sampled_from([-150, -9, 0, 6, 150]))
def test_covariance_follows_affine_maps_of_regressors(kind, weights, seed, power):
    X, y, clusters, w = case_of(seed)
    w, options = w if weights else None, options_for(kind, clusters)
    T = np.random.default_rng(seed + 1).normal(size=(4, 4)) + 4 * np.eye(4)
    T[:, 2] *= 10.0**power
    fit, mapped = least_squares(X, y, weights=w), least_squares(X @ T, y, weights=w)
    result = covariance(fit, X, kind=kind, **options).matrix
    other = covariance(mapped, X @ T, kind=kind, **options).matrix
    unit = np.where(np.arange(4) == 2, 10.0**power, 1.0)
    back = T / unit  # without overflow: T cov T' through unit-free coefficients
    other = back @ (other * unit[:, None] * unit) @ back.T
    np.testing.assert_allclose(T @ mapped.coef, fit.coef, rtol=SAME, atol=1e-8)
    assert_same_covariance(other, result, 1e-8)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_covariance_survives_an_offset_of_1e9(kind, seed):
    X, y, clusters, w = case_of(seed)
    options = options_for(kind, clusters)
    moved = X + np.array([0, 1e9, -1e9, 1e9])
    for weights in (None, w):
        fit = least_squares(X, y, weights=weights)
        other = least_squares(moved, y + 1e9, weights=weights)
        result = covariance(fit, X, kind=kind, **options)
        offset = covariance(other, moved, kind=kind, **options)
        np.testing.assert_allclose(other.coef[1:], fit.coef[1:], rtol=1e-5, atol=1e-5)
        assert_same_covariance(offset.matrix[1:, 1:], result.matrix[1:, 1:], 1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_covariance_cr0_ignores_doubled_rows(seed):
    X, y, clusters, _ = case_of(seed)
    X2, y2, clusters2 = np.repeat(X, 2, axis=0), np.repeat(y, 2), np.repeat(clusters, 2)
    once = covariance(least_squares(X, y), X, kind="CR0", clusters=clusters)
    twice = covariance(least_squares(X2, y2), X2, kind="CR0", clusters=clusters2)
    assert_same_covariance(twice.matrix, once.matrix, SAME)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_least_squares_flips_sign_with_relabelled_arms(seed):
    X, y, clusters, _ = case_of(seed)
    X = X.copy()
    X[:, 1] = clusters % 2
    flipped = X.copy()
    flipped[:, 1] = 1 - X[:, 1]
    fit, other = least_squares(X, y), least_squares(flipped, y)
    assert other.coef[1] == pytest.approx(-fit.coef[1], rel=1e-9)
    for kind in ("HC2", "CR1", "CR2"):
        options = options_for(kind, clusters)
        variance = covariance(fit, X, kind=kind, **options).matrix[1, 1]
        assert covariance(other, flipped, kind=kind, **options).matrix[1, 1] == pytest.approx(
            variance, rel=1e-9
        )


@pytest.mark.parametrize(
    "relabel",
    [
        lambda c: (c * 25 - 120).astype(np.int8),
        lambda c: (c.astype(np.uint64) + np.uint64(2**63)) * np.uint64(1),
        lambda c: (c * 10**17).astype(np.uint64),
        lambda c: c * 10**17 - 2**62,
        lambda c: c / 7.0,
        lambda c: np.array([f"viewer; {g}" for g in c]),
        lambda c: np.array([f"v{g}" for g in c], dtype=object),
        lambda c: c.astype("datetime64[h]"),
        lambda c: c.tolist(),
    ],
    ids=["int8", "uint64", "wide uint64", "wide int64", "float", "str", "object", "time", "list"],
)
def test_covariance_takes_labels_of_any_kind(relabel):
    X, y, clusters, _ = case_of(0)
    fit = least_squares(X, y)
    for kind in ("CR1", "CR2"):
        plain = covariance(fit, X, kind=kind, clusters=clusters)
        result = covariance(fit, X, kind=kind, clusters=relabel(clusters))
        assert_same_covariance(result.matrix, plain.matrix, 1e-12)


def test_least_squares_takes_any_number_type_and_changes_nothing():
    rng = np.random.default_rng(0)
    X, y = np.column_stack([np.ones(40), rng.integers(0, 100, 40)]), rng.integers(0, 2, 40)
    plain = least_squares(X, y)
    X.setflags(write=False)
    for kind in (np.int8, np.uint8, np.float32, np.int64):
        fit = least_squares(X.astype(kind), y.astype(bool), weights=np.ones(40, dtype=kind))
        np.testing.assert_allclose(fit.coef, plain.coef, rtol=1e-12)
    before = X.copy()
    covariance(least_squares(X, y), X, kind="CR2", clusters=np.arange(40) // 4)
    assert (before == X).all()
    fortran = np.asfortranarray(X)
    assert_same_covariance(
        covariance(least_squares(fortran, y), fortran).matrix, covariance(plain, X).matrix, 1e-12
    )


# ---- bad input ----

ONES = np.ones((6, 1))
SIX = np.arange(6.0)
NAN_AT_2 = np.array([0, 1, np.nan, 3, 4, 5])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((ONES, SIX[:5]), {}, ValueError, "same number of rows; got 6 and 5"),
        ((SIX, SIX), {}, ValueError, "X must be a non-empty array of 2 dim"),
        ((ONES, ONES), {}, ValueError, "y must be a non-empty array of 1 dim"),
        ((np.ones((0, 1)), SIX[:0]), {}, ValueError, "X must be a non-empty"),
        (
            (ONES, NAN_AT_2),
            {},
            ValueError,
            r"y must be finite; 1 row\(s\) are not, e.g. rows 2 \(nan",
        ),
        ((NAN_AT_2[:, None], SIX), {"names": ["age; --"]}, ValueError, "age; -- must be finite; 1"),
        ((ONES * np.inf, SIX), {}, ValueError, r"x0 must be finite; 6 .* 0, 1, 2, 3, 4, \.\.\. "),
        ((ONES, ["a"] * 6), {}, TypeError, "y must hold real numbers; got dtype <U1"),
        ((ONES, SIX + 1j), {}, TypeError, "y must hold real numbers; got dtype complex"),
        ((ONES, SIX.astype("datetime64[s]")), {}, TypeError, "y must hold real numbers"),
        ((ONES, SIX.astype(object)), {}, TypeError, "y must hold real numbers; got dtype object"),
        ((ONES, SIX), {"weights": -SIX}, ValueError, "weights must not be negative; 5 .* 1, 2, 3"),
        ((ONES, SIX), {"weights": 0 * SIX}, ValueError, "weights must not all be 0; all 6 are"),
        ((ONES, SIX), {"weights": NAN_AT_2}, ValueError, "weights must be finite; 1"),
        ((ONES, SIX), {"weights": SIX[:3]}, ValueError, "one entry a row, 6; got 3"),
        ((ONES, SIX), {"names": ["a", "b"]}, ValueError, "names must be 1 different strings"),
        ((np.eye(6)[:, :2], SIX), {"names": ["a", "a"]}, ValueError, "names must be 2 different"),
        ((np.eye(6)[:4], SIX[:4]), {}, ValueError, "got 4 rows and 6 columns: drop covariates"),
        ((0 * ONES, SIX), {}, ValueError, "X must have a column that is not 0"),
        ((ONES, SIX), {"weights": [1, 0, 0, 0, 0, 0], "names": ["a"]}, None, ""),
    ],
)
def test_least_squares_refuses_bad_input(arguments, options, error, message):
    if error is None:
        assert least_squares(*arguments, **options).coef.tolist() == [0.0]
        return
    with pytest.raises(error, match=message):
        least_squares(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "HC4"}, "kind must be one of HC0, .*; got 'HC4'"),
        ({"kind": "CR1"}, "CR1 needs clusters=; got None"),
        ({"kind": "HC2", "clusters": SIX}, "HC2 takes no clusters"),
        ({"kind": "CR2", "clusters": SIX, "clusters2": SIX}, "CR2 takes no clusters2"),
        ({"kind": "CR1", "clusters": SIX, "lags": 2, "time": SIX}, "CR1 takes no lags, time"),
        ({"kind": "CR1", "clusters": [7] * 6}, "at least 2 different labels; got 1 over 6 rows"),
        (
            {"kind": "CR0", "clusters": SIX, "clusters2": ["a"] * 6},
            "clusters2 must hold at least 2",
        ),
        ({"kind": "CR1", "clusters": SIX[:5]}, r"clusters must have shape \(6,\).*got \(5,\)"),
        ({"kind": "CR1", "clusters": NAN_AT_2}, r"clusters must not be missing; 1 row.* rows 2:"),
        ({"kind": "CR2", "clusters": ["a", None, "b", "c", None, "d"]}, "missing; 2 .* rows 1, 4:"),
        ({"kind": "HAC", "lags": -1}, "lags must be a whole number >= 0; got -1"),
        ({"kind": "HAC", "lags": 1.5}, "lags must be a whole number >= 0; got 1.5"),
        ({"kind": "HAC", "lags": "2"}, "lags must be a whole number >= 0; got '2'"),
        ({"kind": "HAC", "lags": 6}, "lags must be below the number of rows, 6; got 6"),
        ({"kind": "HAC", "time": [3, 1, 2, 3, 1, 3]}, r"not repeat; 3 row\(s\) .* e.g. 1, 3:"),
        ({"kind": "HAC", "time": NAN_AT_2}, "time must not be missing; 1"),
    ],
)
def test_covariance_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        covariance(least_squares(ONES, SIX), ONES, **options)


def test_covariance_refuses_another_matrix_and_exact_fits():
    fit = least_squares(ONES, SIX)
    with pytest.raises(ValueError, match=r"fitted matrix of shape \(6, 1\); got \(6, 2\)"):
        covariance(fit, np.ones((6, 2)))
    square = np.column_stack([np.ones(2), [0, 1]])
    with pytest.raises(ValueError, match="got 2 rows with weight and 2 coefficients"):
        covariance(least_squares(square, SIX[:2]), square, kind="HC0")


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_covariance_names_rows_and_columns_of_leverage_one(kind):
    X = np.column_stack([np.ones(20), np.arange(20.0), np.arange(20) == 7])
    fit = least_squares(X, np.sin(np.arange(20)), names=["one", "day", "only on day 7"])
    message = r"1 row\(s\) are fitted exactly, e.g. rows 7 \(row 7 .* only on day 7\)"
    with pytest.raises(ValueError, match=message):
        covariance(fit, X, kind=kind)
    assert covariance(fit, X, kind="HC1").matrix.shape == (3, 3)
    weights = np.where(np.arange(20) == 3, 0.0, 1.0)  # row numbers stay the caller's
    with pytest.raises(ValueError, match="rows 7 "):
        covariance(least_squares(X, SIX[0] + X[:, 1], weights=weights), X, kind=kind)


def test_covariance_refuses_variances_outside_double_precision():
    X, y, _, _ = design(LAYOUTS["mixed"])
    with pytest.raises(ValueError, match=r"those of x0, x1, x2, x3 do not: rescale"):
        covariance(least_squares(X, y * 1e170), X)
    with pytest.raises(ValueError, match="those of x2 do not: rescale"):
        least_squares(X * np.array([1, 1, 1e170, 1]), y)
