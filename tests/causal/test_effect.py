"""`Effect` and `EffectCurve`: exact numbers, refusals, and values that survive JSON and pickle."""

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from causal.distributions import critical_value
from causal.effect import Effect, EffectCurve, EstimationWarning

HOSTILE = "<script>alert('1')</script>&\"$\\foo$\n视频"

EFFECT = Effect(
    estimate=1.24,
    std_error=0.93 / 1.96,
    estimand="ate",
    method="Lin, HC2",
    n_obs=1_000_000,
    baseline=154.1,
    baseline_variance=0.11,
    baseline_cov=-0.11,
    details={"unit": "s", "counted": "viewers"},
)


def effect(**changes):
    return replace(EFFECT, **changes)


def curve(**changes):
    given_values = {
        "index": ("Mon", "Tue", "Wed"),
        "index_name": "day",
        "estimate": [1.0, -2.0, 0.5],
        "cov": [[0.5, 0.1, 0.0], [0.1, 0.4, -0.05], [0.0, -0.05, 0.3]],
        "estimand": "ate",
        "method": "Lin, HC2",
        "n_obs": 300,
    }
    return EffectCurve(**{**given_values, **changes})


# --- intervals and p-values -----------------------------------------------------------------------


@pytest.mark.parametrize("df", [None, 0.5, 1, 4.3, 30, 1e6])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.95, 0.999999])
def test_conf_int_is_symmetric_and_uses_the_reference_distribution(df, level):
    low, high = effect(df=df).conf_int(level)
    t = stats.norm.isf((1 - level) / 2) if df is None else stats.t.isf((1 - level) / 2, df)
    assert high - EFFECT.estimate == pytest.approx(t * EFFECT.std_error, rel=1e-11)
    assert high - EFFECT.estimate == pytest.approx(EFFECT.estimate - low, rel=1e-11)


@pytest.mark.parametrize("level", [0, 1, -0.1, 95, math.nan, math.inf])
def test_level_outside_zero_one_is_refused(level):
    for call in (
        EFFECT.conf_int,
        EFFECT.relative_conf_int,
        EFFECT.to_frame,
        EFFECT.summary,
        curve().conf_int,
        lambda value: curve().conf_int(value, simultaneous=True),
        curve().to_frame,
    ):
        with pytest.raises(ValueError, match="level must be in"):
            call(level)


@pytest.mark.parametrize("df", [None, 1, 7.5, 200])
@pytest.mark.parametrize("z", [-5.0, -0.3, 0.0, 1.2, 8.0])
def test_p_values_equal_scipy(z, df):
    e = effect(estimate=2.0 * z + 3.0, std_error=2.0, df=df)
    law = stats.norm() if df is None else stats.t(df)
    assert e.test(3.0) == pytest.approx(2 * law.sf(abs(z)), rel=1e-11)
    assert e.test(3.0, alternative="greater") == pytest.approx(law.sf(z), rel=1e-11)
    assert e.test(3.0, alternative="less") == pytest.approx(law.cdf(z), rel=1e-11)


@pytest.mark.parametrize("z", [10, 37.0, 38.4])
def test_p_value_follows_the_normal_tail_far_out(z):
    p = effect(estimate=-z, std_error=1.0).p_value
    assert math.log(p) == pytest.approx(math.log(2) + stats.norm.logsf(z), rel=1e-3)


@pytest.mark.parametrize("df", [None, 5, 1e4])
@pytest.mark.parametrize("z", [39.0, 1e3, 1e200])
def test_p_value_is_never_a_false_zero(z, df):
    e = effect(estimate=z, std_error=1.0, df=df)
    assert 0 < e.p_value < 1e-6
    assert 0 < e.test(alternative="greater") < 1e-6
    assert e.test(alternative="less") == pytest.approx(1.0, rel=1e-6)


def test_p_value_without_standard_error_is_certain():
    sure = effect(estimate=2.0, std_error=0.0)
    assert (sure.p_value, sure.test(2.0)) == (0.0, 1.0)
    assert sure.test(alternative="greater") == 0.0
    assert sure.test(alternative="less") == 1.0
    assert sure.test(3.0, alternative="less") == 0.0
    assert sure.conf_int() == (2.0, 2.0)


def test_unknown_alternative_or_null_is_refused():
    with pytest.raises(ValueError, match="two-sided"):
        EFFECT.test(alternative="larger")
    with pytest.raises(ValueError, match="null must be finite"):
        EFFECT.test(math.nan)


@settings(deadline=None)
@given(
    estimate=st.floats(-1e6, 1e6),
    std_error=st.floats(1e-3, 1e6),
    level=st.floats(0.01, 0.999),
    df=st.none() | st.floats(0.5, 1e6),
)
def test_p_value_agrees_with_the_interval(estimate, std_error, level, df):
    e = effect(estimate=estimate, std_error=std_error, df=df)
    low, high = e.conf_int(level)
    assume(min(abs(low), abs(high)) > 1e-6 * std_error)
    assert (e.p_value < 1 - level) == (not low <= 0 <= high)


# --- relative effects -----------------------------------------------------------------------------


def test_relative_is_the_delta_formula_by_hand():
    e = effect(estimate=2.0, std_error=0.5, baseline=10.0, baseline_variance=0.2, baseline_cov=-0.1)
    variance = (0.5**2 - 2 * 0.2 * (-0.1) + 0.2**2 * 0.2) / 100
    relative = e.relative()
    assert relative.estimate == pytest.approx(0.2, rel=1e-15)
    assert relative.std_error == pytest.approx(math.sqrt(variance), rel=1e-14)
    assert (relative.estimand, relative.n_obs, relative.df) == ("relative ate", e.n_obs, e.df)
    assert e.relative_conf_int(0.9, method="delta") == relative.conf_int(0.9)


@settings(deadline=None)
@given(
    base=st.floats(0.5, 100) | st.floats(-100, -0.5),
    lift=st.floats(-2, 2),
    v_b=st.floats(1e-6, 10),
    v_t=st.floats(1e-6, 10),
    df=st.none() | st.floats(2, 100),
    power=st.sampled_from([-150, -80, 0, 80, 150]),
)
def test_fieller_limits_satisfy_the_quadratic_at_any_scale(base, lift, v_b, v_t, df, power):
    t2 = critical_value(0.95, df) ** 2
    assume(base**2 > 1.01 * t2 * v_b)
    scale = 10.0**power
    e = effect(
        estimate=scale * base * lift,
        std_error=scale * math.sqrt(v_b + v_t),
        baseline=scale * base,
        baseline_variance=v_b * scale * scale,
        baseline_cov=-v_b * scale * scale,
        df=df,
    )
    low, high = e.relative_conf_int()
    assert low < lift + 1e-12
    assert high > lift - 1e-12
    for limit in (low, high):
        left = (base * lift - limit * base) ** 2
        right = t2 * (v_b + v_t + 2 * limit * v_b + limit**2 * v_b)
        assert left == pytest.approx(right, rel=1e-6, abs=1e-9)


def test_fieller_and_delta_agree_when_the_baseline_is_precise():
    fieller, delta = (EFFECT.relative_conf_int(method=m) for m in ("fieller", "delta"))
    assert fieller == pytest.approx(delta, rel=0.01)
    assert fieller != delta


def test_relative_refuses_a_baseline_that_is_absent_or_near_zero():
    bare = effect(baseline=None, baseline_variance=None, baseline_cov=None)
    for call in (bare.relative, bare.relative_conf_int):
        with pytest.raises(ValueError, match="needs baseline"):
            call()
    zero = effect(baseline=0.0)
    for call in (zero.relative, zero.relative_conf_int):
        with pytest.raises(ValueError, match="other than 0"):
            call()
    with pytest.raises(ValueError, match=r"not distinguishable from 0 at level 0\.95"):
        effect(baseline=0.5).relative_conf_int()
    assert effect(baseline=0.5).relative_conf_int(0.5)[0] < 1.24 / 0.5
    with pytest.raises(ValueError, match="fieller"):
        EFFECT.relative_conf_int(method="bootstrap")


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["estimate", "std_error", "baseline", "baseline_variance", "baseline_cov", "df"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_effect_refuses_numbers_that_are_not_finite(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        effect(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std_error": -1e-9}, "std_error must be >= 0"),
        ({"baseline_variance": -1.0}, "baseline_variance must be >= 0"),
        ({"df": 0.0}, "df must be positive"),
        ({"df": -2}, "df must be positive"),
        ({"n_obs": 0}, "n_obs must be a whole number >= 1"),
        ({"n_obs": 2.5}, "n_obs must be a whole number >= 1"),
        ({"n_obs": math.nan}, "n_obs must be a whole number >= 1"),
        ({"n_obs": math.inf}, "n_obs must be a whole number >= 1"),
        ({"n_clusters": 0}, "n_clusters must be a whole number >= 1"),
        ({"details": {"x": math.nan}}, r"details\['x'\] must hold finite numbers"),
        ({"details": {"x": [1, {"y": math.inf}]}}, "finite"),
    ],
)
def test_effect_refuses_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        effect(**changes)


@pytest.mark.parametrize("value", ["1.5", b"1", None, [1.0], 1j])
def test_effect_refuses_an_estimate_that_is_no_number(value):
    with pytest.raises(TypeError, match="estimate must be a number"):
        effect(estimate=value)


@pytest.mark.parametrize(
    "details",
    [
        {"frame": pd.DataFrame()},
        {"when": pd.Timestamp("2026-01-01")},
        {"when": np.datetime64("2026-01-01")},
        {"z": 1j},
        {"s": {1, 2}},
        {1: "key"},
        {"a": {2: "key"}},
        {"b": b"bytes"},
        {"f": print},
    ],
)
def test_details_that_are_no_json_values_are_refused(details):
    with pytest.raises(TypeError, match="details"):
        effect(details=details)


# --- values: equality, immutability, JSON, pickle -------------------------------------------------


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NOT_NEGATIVE = st.floats(0, allow_nan=False, allow_infinity=False)
DETAILS = st.dictionaries(st.text(), JSON, max_size=4)


@st.composite
def effects(draw):
    return Effect(
        estimate=draw(FINITE),
        std_error=draw(NOT_NEGATIVE),
        estimand=draw(st.text()),
        method=draw(st.text()),
        n_obs=draw(st.integers(1, 2**60)),
        n_clusters=draw(st.none() | st.integers(1, 2**60)),
        df=draw(st.none() | st.floats(1e-300, 1e300)),
        baseline=draw(st.none() | FINITE),
        baseline_variance=draw(st.none() | NOT_NEGATIVE),
        baseline_cov=draw(st.none() | FINITE),
        details=draw(DETAILS),
    )


@st.composite
def curves(draw):
    label = st.none() | st.booleans() | st.integers() | st.text() | FINITE
    index = draw(st.lists(label, min_size=1, max_size=4, unique=True))
    k = len(index)
    root = np.array(draw(st.lists(st.floats(-1e3, 1e3), min_size=k * k, max_size=k * k))).reshape(
        k, k
    )
    return EffectCurve(
        index=tuple(index),
        index_name=draw(st.text()),
        estimate=np.array(draw(st.lists(FINITE, min_size=k, max_size=k))),
        cov=root @ root.T,
        estimand=draw(st.text()),
        method=draw(st.text()),
        n_obs=draw(st.integers(1, 2**60)),
        n_clusters=draw(st.none() | st.integers(1, 2**60)),
        df=draw(st.none() | st.floats(1e-300, 1e300)),
        details=draw(DETAILS),
    )


@given(result=effects() | curves())
@settings(max_examples=200, deadline=None)
def test_round_trips_keep_every_bit(result):
    text = json.dumps(result.to_dict(), allow_nan=False)
    for back in (
        type(result).from_dict(json.loads(text)),
        pickle.loads(pickle.dumps(result)),
        copy.deepcopy(result),
        replace(result),
    ):
        assert back == result
        assert hash(back) == hash(result)
        assert json.dumps(back.to_dict()) == text  # repr of a float is exact, and keeps -0.0


@pytest.mark.parametrize("result", [EFFECT, curve()], ids=["effect", "curve"])
def test_from_dict_refuses_unknown_fields_and_needs_the_required_ones(result):
    with pytest.raises(ValueError, match="has no fields"):
        type(result).from_dict({**result.to_dict(), "p": 1})
    short = {k: v for k, v in result.to_dict().items() if k != "method"}
    with pytest.raises(TypeError, match="method"):
        type(result).from_dict(short)


@pytest.mark.parametrize("result", [EFFECT, curve()], ids=["effect", "curve"])
def test_results_are_frozen(result):
    with pytest.raises(FrozenInstanceError):
        result.estimate = 0.0
    with pytest.raises((AttributeError, TypeError)):
        result.something_new = 1


def test_details_are_a_read_only_copy():
    inner = {"list": [1, 2], "map": {"a": 1}, "array": np.arange(2), "np": np.float32(0.5)}
    e = effect(details=inner)
    inner["list"].append(3)
    inner["map"]["a"] = 2
    assert e.to_dict()["details"] == {"list": [1, 2], "map": {"a": 1}, "array": [0, 1], "np": 0.5}
    with pytest.raises(TypeError):
        e.details["new"] = 1
    with pytest.raises(TypeError):
        e.details["map"]["a"] = 3
    with pytest.raises(TypeError):
        e.details["list"][0] = 9


def test_results_are_equal_by_value():
    assert effect() == EFFECT
    assert curve() == curve()
    assert len({effect(), EFFECT, curve(), curve()}) == 2
    assert curve() != curve(estimate=[1.0, -2.0, 0.50001])
    assert curve() != curve(details={"a": 1})
    assert effect(details={}) != EFFECT
    assert EFFECT != 1.24
    assert curve() != EFFECT


@settings(deadline=None)
@given(factor=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), z=st.floats(-6, 6))
def test_intervals_and_p_values_follow_scale_and_shift(factor, shift, z):
    e = effect(estimate=z, std_error=1.0, df=9)
    moved = effect(estimate=factor * z + shift, std_error=factor, df=9)
    expected = tuple(factor * limit + shift for limit in e.conf_int())
    assert moved.conf_int() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert moved.test(shift) == pytest.approx(e.p_value, rel=1e-6, abs=1e-9)


# --- tables, words and pictures -------------------------------------------------------------------


def test_effect_to_frame_has_one_row_with_these_columns():
    frame = EFFECT.to_frame(0.9)
    assert " ".join(frame.columns) == (
        "estimand estimate std_error low high level p_value baseline method n_obs n_clusters df"
    )
    row = frame.iloc[0]
    assert len(frame) == 1
    assert (row["low"], row["high"]) == EFFECT.conf_int(0.9)
    assert (row["estimate"], row["level"], row["p_value"]) == (1.24, 0.9, EFFECT.p_value)


def test_summary_is_the_sentence_of_the_specification():
    expected = (
        "ATE +1.24 s (95% CI 0.31 to 2.17), p = 0.009; +0.8% (0.2% to 1.4%) of 154.1; "
        "1,000,000 viewers; Lin, HC2"
    )
    assert EFFECT.summary() == str(EFFECT) == expected


def test_summary_leaves_out_the_relative_effect_when_the_baseline_is_near_zero():
    assert "% of" not in effect(baseline=0.1).summary()
    plain = effect(baseline=None, details={})
    assert plain.summary() == "ATE +1.24 (95% CI 0.31 to 2.17), p = 0.009; n = 1,000,000; Lin, HC2"


@pytest.mark.parametrize(
    "result",
    [
        effect(estimand=HOSTILE, method=HOSTILE, details={"unit": HOSTILE, "counted": HOSTILE}),
        curve(index=(HOSTILE, 1, 2), index_name=HOSTILE, estimand=HOSTILE, method=HOSTILE),
    ],
    ids=["effect", "curve"],
)
def test_repr_html_escapes_hostile_names(result):
    page = result._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<") == 2  # its own tag, opened and closed


@pytest.fixture
def pyplot():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.mark.parametrize(
    "result",
    [EFFECT, curve(), curve(index=(-1, 0, 2.5)), curve(index=(None, True, "x"))],
    ids=["effect", "texts", "numbers", "mixed"],
)
def test_plot_returns_the_axes_it_drew_on(result, pyplot):
    ax = result.plot()
    ax.figure.canvas.draw()
    assert ax.lines
    _, own = pyplot.subplots()
    assert result.plot(own) is own
    assert result.plot(ax=own) is own


def test_plot_draws_names_as_text_not_as_formulas(pyplot):
    name = "$\\nosuchcommand$ <b>"
    for result in (
        effect(estimand=name),
        curve(index=(name, 1, 2), index_name=name, estimand=name),
    ):
        ax = result.plot()
        ax.figure.canvas.draw()
        texts = [label.get_text() for label in (*ax.get_xticklabels(), *ax.get_yticklabels())]
        assert name in [*texts, ax.get_xlabel()]


def test_plotted_limits_are_the_confidence_limits(pyplot):
    ax = EFFECT.plot()
    drawn = [tuple(line.get_xdata()) for line in ax.lines]
    assert EFFECT.conf_int() in drawn
    c = curve()
    band, point = c.plot().collections
    for lines, limits in (
        (band, c.conf_int(simultaneous=True)),
        (point, c.conf_int()),
    ):
        np.testing.assert_allclose([s[:, 1] for s in lines.get_segments()], limits)


def test_estimation_warning_is_a_user_warning():
    assert issubclass(EstimationWarning, UserWarning)


def test_relative_interval_beyond_a_double_raises():
    tiny = effect(estimate=1e300, std_error=1e299, baseline=1e-10, baseline_variance=0.0)
    with pytest.raises(ValueError, match="beyond a double"):
        tiny.relative_conf_int()
