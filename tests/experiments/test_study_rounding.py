"""Rounding by the size of what a number is a difference of."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.report.rounding import rounded_row, rounded_to

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("number", "digits", "size", "expected"),
    [
        (1.23456, 3, 0.0, 1.23),
        (123456.0, 3, 0.0, 123000.0),
        (1.23456, 3, 1000.0, 0.0),
        (0.123456, 6, -50.0, 0.1235),
        (9.9999999, 3, 0.0, 10.0),
        (5e-324, 12, 0.0, 5e-324),
        (1.7e308, 12, 0.0, 1.7e308),
    ],
)
def test_rounded_to_keeps_digits_of_the_larger(number, digits, size, expected):
    assert rounded_to(number, digits, size=size) == expected


@given(FINITE)
def test_rounded_to_is_near_and_rounds_once(x):
    once = rounded_to(x, 12)
    assert math.isclose(once, x, rel_tol=5.01e-12, abs_tol=5e-324)
    assert rounded_to(once, 12) == once
    assert math.copysign(1, rounded_to(-abs(x) * 1e-30, 12, size=1.0)) == 1 or abs(x) > 1e18


def test_rounded_to_leaves_what_is_not_finite():
    assert math.isnan(rounded_to(math.nan, 12))
    assert rounded_to(math.inf, 12) == math.inf


def test_rounded_row_rounds_each_column_by_what_it_holds():
    third = 1 / 3
    row = {
        "metric": "watch",
        "estimate": third * 1e-6,
        "relative": third * 1e-6,
        "p_value": third * 1e-6,
        "variance_reduction": third * 1e-6,
        "df": third * 100,
        "n_obs": 3,
        "p_adjusted": None,
    }
    assert rounded_row(row, level=300.0) == {
        "metric": "watch",
        "estimate": 3.33e-7,
        "relative": 3.3333e-7,
        "p_value": 3.33333333e-7,
        "variance_reduction": 3.33e-7,
        "df": 33.33333333,
        "n_obs": 3,
        "p_adjusted": None,
    }
    assert rounded_row(row)["estimate"] == 3.33333333333e-7


def test_rounded_row_keeps_an_effect_that_is_tiny_beside_its_level():
    row = {"estimate": 0.0212345678, "std_error": 0.0123456789, "low": -0.001}
    found = rounded_row(row, level=1.7e12)
    assert found["std_error"] == 0.0123456789
    assert found["estimate"] == pytest.approx(0.0212345678, abs=1e-7)
    assert math.copysign(1, rounded_to(-0.0, 12)) == 1
