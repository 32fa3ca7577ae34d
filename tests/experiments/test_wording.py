"""Numbers and sentences as a reader meets them."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from causal.effect import Effect
from experiments.report import svg
from experiments.report.answer import agreement, disagreeing, ranked, ranking
from experiments.report.wording import (
    axis_text,
    change_text,
    counted,
    digits,
    interval_text,
    level_text,
    listed,
    p_equation,
    p_text,
    percent,
    signed,
    signed_percent,
    whole_percent,
)
from experiments.study.study_result import PolicyReadout


def plain(text):
    """On a typewriter: plain spaces, hyphens for minus signs and dashes, x for times."""
    return text.translate({0xA0: " ", 0x2212: "-", 0x2013: "-", 0xD7: "x"})


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1.24, "1.24"),
        (154.1, "154"),
        (154_123, "154,000"),
        (999.7, "1,000"),
        (0.0023596, "0.00236"),
        (-0.38, "-0.380"),
        (0.09996, "0.100"),
        (1e-7, "1.00 x 10^-7"),
        (-2.5e20, "-2.50 x 10^20"),
    ],
)
def test_digits_shows_three_significant_digits(number, text):
    assert plain(digits(number)) == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_read_as_a_dash(number):
    for text in (digits, signed, percent, signed_percent, whole_percent):
        assert text(number) == "\N{EN DASH}"
    assert change_text(number, "min") == level_text(number, "%") == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1e-9, "< 1 %"),
        (0.005, "< 1 %"),
        (0.117, "12 %"),
        (0.9951, "> 99 %"),
        (1, "100 %"),
    ],
)
def test_whole_percent_does_not_round_to_none_or_all(share, text):
    assert plain(whole_percent(share)) == text


@given(st.floats(1e-5, 1e12))
def test_digits_is_within_half_a_unit_of_the_third_digit(x):
    shown = float(digits(x).replace(",", ""))
    assert math.isclose(shown, x, rel_tol=5.001e-3)
    assert plain(digits(-x)) == "-" + plain(digits(x))


def test_units_follow_their_numbers_and_percent_scales():
    assert plain(level_text(0.0038, "%")) == "0.380 %"
    assert plain(change_text(0.0004, "%")) == "+0.0400 pp"
    assert plain(change_text(-1.5, "s")) == "-1.50 s"
    assert plain(interval_text(-0.00135, 0.00215, "%", change=True)) == "-0.135 to 0.215 pp"
    assert plain(interval_text(0.31, 2.17, "s")) == "0.310 to 2.17 s"
    assert plain(signed_percent(0.5)) == "+50.0 %"


def test_small_p_values_are_called_small():
    assert p_text(0.0421) == "0.042"
    assert plain(p_text(9.9e-4)) == "< 0.001"
    assert plain(p_text(None)) == "-"
    assert plain(p_equation(0.5)) == "p = 0.500"
    assert plain(p_equation(1e-9)) == "p < 0.001"


def test_lists_and_counts_read_as_english():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(i) for i in range(9)], at_most=3) == "0, 1 and 7 more"
    assert counted(1, "row") == "1 row"
    assert counted(2_000, "row") == "2,000 rows"


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
@example(middle=562949953.8827643, half=1e-06)
def test_axis_ticks_are_round_increasing_and_inside(middle, half):
    low, high = middle - half, middle + half
    drawn = svg.forest(
        [svg.Interval(label="x", text="", estimate=middle, low=low, high=high)],
        title="t",
        description="d",
        axis_label="a",
        reference=None,
    )
    places = [tick.at for tick in drawn.ticks]
    assert places == sorted(places)
    assert 1 <= len(places) <= 8
    assert all(0 <= place <= svg.WIDTH for place in places)
    line = drawn.lines[0]
    assert line.x_low <= line.x <= line.x_high


def test_axis_text_has_the_decimals_of_its_step():
    assert axis_text(0.30000000000000004, 0.1) == "0.3"
    assert axis_text(-0.0, 0.5) == "0.0"
    assert plain(axis_text(-1500, 500)) == "-1,500"


def policy(on_policy, *estimates, std_error=0.1):
    def value(x):
        return Effect(
            estimate=x, std_error=std_error, estimand="policy value", method="m", n_obs=100
        )

    return PolicyReadout(
        name="p",
        log="l",
        target="t",
        reward="click",
        unit="",
        n_rewards=42,
        estimates={name: value(x) for name, x in zip("abc", estimates, strict=False)},
        diagnostics=None,
        histogram=None,
        logging=value(1.0),
        on_policy=None if on_policy is None else value(on_policy),
    )


def test_agreement_compares_with_both_errors():
    limit = 1.959964 * math.hypot(0.1, 0.1)
    assert disagreeing(policy(1.0, 1 + 0.999 * limit), 0.95) == ()
    assert disagreeing(policy(1.0, 1 + 1.001 * limit), 0.95) == ("a",)
    assert disagreeing(policy(None, 9.0), 0.95) == ()
    assert agreement(policy(None, 1.0), 0.95) == ""
    assert agreement(policy(1.0, 1.0, 1.0, 9.0), 0.95).endswith(
        "c does not agree; the others agree."
    )
    assert "both estimates agree" in agreement(policy(1.0, 1.0, 1.0), 0.95)


def test_ranking_says_when_intervals_overlap_and_when_not():
    assert not ranked(policy(None, 1.0, 1.3), 0.95)
    assert ranked(policy(None, 1.0, 2.0), 0.95)
    assert ranking([policy(None, 1.0)], 0.95) == ""
    said = ranking([policy(None, 1.0, 1.1)], 0.95)
    assert said.startswith("Only 42 rows hold a reward")
    assert said.endswith("these logs cannot rank estimators.")
    many = replace(policy(None, 1.0, 1.1), n_rewards=100)
    assert "do not tell the methods apart" in ranking([many], 0.95)
    assert re.search("differ beyond their intervals for p", ranking([policy(None, 1.0, 2.0)], 0.95))
