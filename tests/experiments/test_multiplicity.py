"""Adjusted p-values."""

import itertools

import numpy as np
import pytest
from ab_tables import REFERENCE
from hypothesis import given
from hypothesis import strategies as st

from experiments import adjust_p_values

METHODS = ("holm", "bh", "by", "bonferroni", "none")
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@pytest.mark.reference
@pytest.mark.parametrize("method", METHODS[:4])
def test_adjust_p_values_equals_statsmodels(method):
    stored = REFERENCE["multipletests"]
    np.testing.assert_allclose(
        adjust_p_values(stored["p"], method=method), stored["adjusted"][method], rtol=1e-12
    )


def test_adjust_p_values_holm_is_the_closed_bonferroni_test():
    p = np.array([0.003, 0.02, 0.021, 0.4])
    closed = [
        max(
            min(1.0, size * min(p[list(group)]))
            for size in range(1, 5)
            for group in itertools.combinations(range(4), size)
            if j in group
        )
        for j in range(4)
    ]
    np.testing.assert_allclose(adjust_p_values(p, method="holm"), closed, rtol=1e-12)


def test_adjust_p_values_bh_rejects_by_the_step_up_rule():
    p = np.array([0.01, 0.013, 0.014, 0.19, 0.35, 0.5])
    for alpha in (0.01, 0.02, 0.03, 0.3):
        k = max((i for i in range(1, 7) if np.sort(p)[i - 1] <= alpha * i / 6), default=0)
        rejected = adjust_p_values(p, method="bh") <= alpha
        assert rejected.sum() == k


@pytest.mark.parametrize("method", METHODS)
@given(p=p_values)
def test_adjust_p_values_keeps_order_and_bounds(method, p):
    adjusted = adjust_p_values(p, method=method)
    assert (adjusted >= np.array(p) * (1 - 1e-15)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    np.testing.assert_array_equal(adjust_p_values(p[::-1], method=method), adjusted[::-1])


@given(p=p_values)
def test_adjust_p_values_holm_is_between_raw_and_bonferroni_and_by_above_bh(p):
    a = {m: adjust_p_values(p, method=m) for m in METHODS}
    assert (a["holm"] <= a["bonferroni"] + 1e-15).all()
    assert (a["bh"] <= a["holm"] + 1e-15).all()
    assert (a["bh"] <= a["by"] + 1e-15).all()
    np.testing.assert_array_equal(a["none"], p)


@pytest.mark.parametrize("method", METHODS)
def test_adjust_p_values_of_one_is_itself_and_of_none_is_empty(method):
    assert adjust_p_values([0.03], method=method).tolist() == [0.03]
    assert adjust_p_values([], method=method).tolist() == []


@pytest.mark.parametrize("bad", [0.1, [-0.1], [1.1], [float("nan")], [[0.1]]])
def test_adjust_p_values_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        adjust_p_values(bad, method="holm")


def test_adjust_p_values_refuses_an_unknown_method_and_leaves_its_input():
    with pytest.raises(ValueError, match="did you mean 'holm'"):
        adjust_p_values([0.1], method="holmes")
    p = np.array([0.02, 0.01])
    adjust_p_values(p, method="none")[0] = 9.0
    assert p.tolist() == [0.02, 0.01]
