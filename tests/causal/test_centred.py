"""Traps of centred sums: offsets, misleading first rows, extreme scales, constants."""

import warnings

import numpy as np
import pandas as pd
import pytest
from moment_checks import PATHS, assert_exact

from causal.verbs import HEAD_ROWS


@PATHS
def test_an_offset_of_1e9_loses_nothing_but_input_digits(path):
    rng = np.random.default_rng(0)
    x = 1e9 + rng.normal(0, 1, 10_000)
    frame = pd.DataFrame({"x": x, "y": (x - 1e9) * 2, "arm": np.arange(10_000) % 2})
    m = path(frame, columns=["x", "y"])
    assert_exact(m, frame[["x", "y"]])


@PATHS
def test_four_values_at_an_offset_have_their_spread(path):
    m = path(pd.DataFrame({"x": 1e9 + np.array([4.0, 7.0, 13.0, 16.0])}), columns=["x"])
    assert m.cross[0, 0, 0] == 90.0


@PATHS
@pytest.mark.parametrize("by", [[], ["arm"]])
@pytest.mark.parametrize("first", [0.0, 1e9, -1e12])
def test_a_misleading_start_of_the_table_loses_nothing(path, by, first):
    rng = np.random.default_rng(0)
    n = 2 * HEAD_ROWS
    head = pd.DataFrame({"x": first + rng.integers(0, 5, n), "arm": "first"})
    tail = pd.DataFrame({"x": 1e9 + 7 + rng.integers(0, 5, n), "arm": "rest"})
    frame = pd.concat([head, tail], ignore_index=True)
    m = path(frame, columns=["x"], by=by)
    for j, part in enumerate([frame] if not by else [head, tail]):
        assert_exact(m.select(**({"arm": part["arm"][0]} if by else {})), part[["x"]])
        assert m.n[j] == len(part)


@PATHS
@pytest.mark.parametrize("scale", [1e150, 1e-150])
@pytest.mark.parametrize("zeros", [0, 2 * 4096])
def test_extreme_scales_survive(path, scale, zeros):
    rng = np.random.default_rng(0)
    z = np.r_[np.zeros(zeros), rng.normal(1, 1, 500)]
    frame = pd.DataFrame({"x": z * scale, "plain": z, "u": np.arange(len(z)) % 250})
    for unit in (None, "u"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            m = path(frame, columns=["x", "plain"], unit=unit)
        factor = np.array([scale, 1.0])
        plain = m.cross[0, 1, 1]
        np.testing.assert_allclose(m.mean[0] / factor, m.mean[0, 1], rtol=1e-12)
        for i in (0, 1):
            np.testing.assert_allclose(m.cross[0, i] / factor[i] / factor, plain, rtol=1e-11)


@PATHS
@pytest.mark.parametrize("unit", [None, "u"])
def test_squares_beyond_a_double_are_refused_by_name(path, unit):
    frame = pd.DataFrame({"a": [1.0, 2, 3], "x": [1e200, -1e200, 0], "u": [1, 2, 3]})
    with pytest.raises(ValueError, match="column 'x' must have squares within the range"):
        path(frame, columns=["a", "x"], unit=unit)
    sums = pd.DataFrame({"x": [1.7e308, 1.7e308, 0], "u": [1, 1, 2]})
    with pytest.raises(ValueError, match="column 'x' must have squares within the range"):
        path(sums, columns=["x"], unit="u")


@PATHS
def test_a_constant_has_no_spread_at_all(path):
    value = np.repeat([0.1, 0.7, 1e9 + 0.3, 1e-9], 3000)
    frame = pd.DataFrame({"x": value, "arm": np.repeat(list("abcd"), 3000)})
    m = path(frame, columns=["x"], by=["arm"])
    assert m.cross.tolist() == [[[0.0]]] * 4
    np.testing.assert_allclose(m.mean[:, 0], value[::3000], rtol=1e-15)


@PATHS
def test_groups_of_one_row_have_no_spread(path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(1e6, 1, 500), "k": np.arange(500)})
    m = path(frame, columns=["x"], by=["k"])
    assert not m.cross.any()
    np.testing.assert_allclose(m.mean[:, 0], frame["x"], rtol=1e-15)
