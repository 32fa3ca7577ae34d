"""The compiled sums by cluster against numpy's, on everything a caller may pass."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from dense_linear import assert_same_covariance
from hypothesis import given, settings
from hypothesis import strategies as st

from causal import sandwich
from causal.effect import EstimationWarning
from causal.kernels import clusters
from causal.kernels.clusters import add_scores
from causal.linear import covariance, least_squares

SAME = 1e-12  # two orders of the same sums


def data(seed=0, n=400, k=4, n_clusters=30):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, k)) + 5
    X[:, 0] = 1
    first, second = rng.integers(0, n_clusters, n), rng.integers(0, 20, n)
    y = X.sum(axis=1) + rng.normal(size=n_clusters)[first] + rng.normal(size=n)
    return X, y, first, second, rng.uniform(0.5, 2, n)


def unaligned(array):
    memory = np.empty(array.nbytes + 1, dtype=np.uint8)[1:]
    copy = np.ndarray(array.shape, array.dtype, memory)
    copy[...] = array
    return copy


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


FORMS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
    "unaligned": unaligned,
}
CODES = {
    "int64": lambda c: c,
    "int32": lambda c: c.astype(np.int32),
    "uint8": lambda c: c.astype(np.uint8),
    "offset": lambda c: c - 7,
    "with gaps": lambda c: c * 3,
    "wide": lambda c: c * 10**16 - 2**60,
    "text": lambda c: np.array([f"viewer {g}" for g in c], dtype=object),
    **{f"int64 {name}": FORMS[name] for name in ("strided", "reversed", "read-only", "unaligned")},
}


def both_paths(monkeypatch, fit, X, **options):
    """The covariance by the kernel and by numpy."""
    results = []
    for start in (0, sys.maxsize):
        monkeypatch.setattr(sandwich, "_COMPILED_FROM", start)
        results.append(covariance(fit, X, **options))
    return results


def assert_paths_agree(monkeypatch, fit, X, **options):
    compiled, plain = both_paths(monkeypatch, fit, X, **options)
    assert_same_covariance(compiled.matrix, plain.matrix, SAME)
    np.testing.assert_allclose(compiled.df, plain.df, rtol=SAME)


# ---- exact ----


@pytest.mark.parametrize("form", ["C", "Fortran", "read-only"])
def test_add_scores_matches_loop(form):
    X, e, codes, _, _ = data()
    center, before = X.mean(axis=0), np.ones((31, 4))
    sums = before.copy()
    add_scores(FORMS[form](X), center, e, codes, sums)
    scores = (X - center) * e[:, None]
    expected = [scores[codes == g].sum(axis=0) for g in range(31)]
    np.testing.assert_allclose(sums - before, expected, rtol=0, atol=1e-12)
    assert (sums[30] == 1).all()


def test_add_scores_compiles_nothing_at_call_time():
    X, e, codes, _, _ = data()
    for array in (X, np.asfortranarray(X), read_only(X)):
        add_scores(array, X[0], e, codes, np.zeros((30, 4)))
    assert len(add_scores.signatures) == 2
    with pytest.raises(TypeError, match="No matching definition"):
        add_scores(X.astype(np.float32), X[0], e, codes, np.zeros((30, 4)))


# ---- both paths ----


@pytest.mark.parametrize("weighting", ["unweighted", "weighted", "zeros"])
@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR0 two-way", "CR1 two-way"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_covariance_compiled_equals_numpy(monkeypatch, kind, weighting, form):
    X, y, first, second, w = data()
    w = {"unweighted": None, "weighted": w, "zeros": np.where(second < 4, 0, w)}[weighting]
    X = form(X)
    options = {"kind": kind[:3], "clusters": first}
    if "two-way" in kind:
        options["clusters2"] = second
    assert_paths_agree(monkeypatch, least_squares(X, y, weights=w), X, **options)


@pytest.mark.parametrize("kind", ["CR1", "CR2"])
@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
def test_covariance_compiled_takes_any_codes(monkeypatch, kind, codes):
    X, y, first, _, _ = data()
    fit = least_squares(X, y)
    plain = covariance(fit, X, kind=kind, clusters=first)
    for result in both_paths(monkeypatch, fit, X, kind=kind, clusters=codes(first)):
        assert_same_covariance(result.matrix, plain.matrix, SAME)
        np.testing.assert_allclose(result.df, plain.df, rtol=SAME)


def test_covariance_compiled_leaves_out_dropped_columns(monkeypatch):
    X, y, first, _, _ = data()
    wide = np.column_stack([X[:, 0], X])
    with pytest.warns(EstimationWarning, match="x1"):
        fit = least_squares(wide, y)
    assert_paths_agree(monkeypatch, fit, wide, kind="CR1", clusters=first)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(8, 60),
    k=st.integers(1, 6),
    n_clusters=st.integers(2, 60),
    offset=st.sampled_from([0, 1e9]),
    power=st.sampled_from([-100, 0, 100]),
)
def test_covariance_compiled_equals_numpy_on_any_shape(seed, n, k, n_clusters, offset, power):
    X, y, first, _, _ = data(seed, n, k, n_clusters)
    X[:, 1:] += offset
    if len(set(first)) < 2:
        return
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        fit = least_squares(X, y * 10.0**power)
        for kind in ("CR0", "CR1"):
            assert_paths_agree(monkeypatch, fit, X, kind=kind, clusters=first)


def test_covariance_is_compiled_from_the_limit_on(monkeypatch):
    n = sandwich._COMPILED_FROM // 4
    X, y, first, second, _ = data(n=n, n_clusters=500)
    calls = []

    def recorded(*arguments):
        calls.append(len(arguments[0]))
        add_scores(*arguments)

    monkeypatch.setattr(clusters, "add_scores", recorded)
    labels = {"clusters": first, "clusters2": second}
    fit = least_squares(X, y)
    result = covariance(fit, X, kind="CR1", **labels)
    assert calls == [n, n, n]
    monkeypatch.setattr(sandwich, "_COMPILED_FROM", X.size + 1)
    assert_same_covariance(result.matrix, covariance(fit, X, kind="CR1", **labels).matrix, SAME)
    assert len(calls) == 3


# ---- labels ----


def test_covariance_refuses_missing_labels_of_rows_without_weight():
    X, y, first, _, w = data()
    labels = np.array([f"viewer {g}" for g in first], dtype=object)
    labels[[3, 11]], w[[3, 11]] = (None, np.nan), 0
    fit = least_squares(X, y, weights=w)
    with pytest.raises(ValueError, match=r"clusters must not be missing; 2 row.* rows 3, 11:"):
        covariance(fit, X, kind="CR1", clusters=labels)


def test_covariance_counts_only_clusters_with_weight(monkeypatch):
    X, y, first, _, w = data()
    w[first < 10] = 0
    fit = least_squares(X, y, weights=w)
    for codes in CODES.values():
        for result in both_paths(monkeypatch, fit, X, kind="CR1", clusters=codes(first)):
            assert result.df == 19


# ---- numba is loaded late ----


def test_covariance_of_a_small_table_does_not_load_numba():
    code = """
import sys
import numpy as np
from causal import sandwich
from causal.linear import covariance, least_squares
X, y = np.ones((20, 1)), np.arange(20.0)
fit = least_squares(X, y)
covariance(fit, X, kind="CR1", clusters=np.arange(20) // 2)
print("numba" in sys.modules)
sandwich._COMPILED_FROM = 20
covariance(fit, X, kind="CR1", clusters=np.arange(20) // 2)
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
