"""`EffectCurve`: bands, joint tests, averages and what it refuses."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal.distributions import sup_t_critical_value
from causal.effect import EffectCurve, WaldTest


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimate": [1.0, math.nan, 0.0]}, "finite"),
        ({"cov": [[1, 0, 0], [0, math.inf, 0], [0, 0, 1]]}, "finite"),
        ({"estimate": [1.0, 2.0]}, r"estimate \(3,\)"),
        ({"cov": np.eye(2)}, r"cov \(3, 3\)"),
        ({"index": (), "estimate": [], "cov": np.empty((0, 0))}, "k >= 1"),
        ({"index": ("a", "b", "a")}, "unique"),
        ({"index": (0, 1, True)}, "unique"),
        ({"cov": -np.eye(3)}, "diagonal >= 0"),
        ({"cov": [[1, 0.1, 0], [0.2, 1, 0], [0, 0, 1]]}, "symmetric"),
        ({"cov": [[1, 2, 0], [2, 1, 0], [0, 0, 1]]}, "positive semi-definite"),
        ({"cov": 1.9 * np.eye(3) - 0.9}, "positive semi-definite"),
        ({"cov": [[0, 1, 0], [1, 1, 0], [0, 0, 1]]}, "positive semi-definite"),
        ({"df": 0}, "df must be positive"),
        ({"df": math.nan}, "df must be finite"),
        ({"n_obs": 0}, "n_obs"),
        ({"index": (0.0, 1.0, math.nan)}, "finite"),
    ],
)
def test_curve_refuses_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        curve(**changes)


def test_curve_accepts_singular_covariances_and_points_without_variance():
    singular = curve(cov=np.ones((3, 3)))
    assert singular.average().std_error == pytest.approx(1.0)
    fixed = curve(cov=np.diag([0.0, 1.0, 4.0]) * 1e300)
    np.testing.assert_allclose(fixed.std_error, [0, 1e150, 2e150])


def test_curve_arrays_are_read_only_copies():
    estimate, cov = np.array([1.0, 2.0, 3.0]), np.eye(3)
    c = curve(estimate=estimate, cov=cov)
    estimate[0] = cov[0, 0] = 99.0
    assert (c.estimate[0], c.cov[0, 0]) == (1.0, 1.0)
    for array in (c.estimate, c.cov):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5.0


def test_equal_curves_hash_alike_also_for_a_negative_zero():
    plus, minus = curve(estimate=[0.0, 1, 2]), curve(estimate=[-0.0, 1, 2])
    assert plus == minus
    assert hash(plus) == hash(minus)


def test_conf_int_of_a_curve_is_pointwise_or_simultaneous():
    c = curve(df=12)
    pointwise, band = c.conf_int(0.9), c.conf_int(0.9, simultaneous=True)
    for j, label in enumerate(c.index):
        assert tuple(pointwise[j]) == pytest.approx(c.at(label).conf_int(0.9), rel=1e-12)
    half = sup_t_critical_value(c.cov, 0.9, 12) * c.std_error
    np.testing.assert_allclose(band, np.column_stack([c.estimate - half, c.estimate + half]))
    assert (band[:, 0] < pointwise[:, 0]).all()
    np.testing.assert_array_equal(band, c.conf_int(0.9, simultaneous=True))  # seeded


@pytest.mark.parametrize("df", [None, 8.0])
@pytest.mark.parametrize("null", [0.0, 0.7, [1.0, -1.0, 0.0]])
def test_wald_test_equals_the_dense_formula(null, df):
    c = curve(df=df)
    distance = c.estimate - null
    w = distance @ np.linalg.inv(c.cov) @ distance
    test = c.test(null)
    assert (test.df, test.df_denom) == (3, df)
    if df is None:
        assert test.statistic == pytest.approx(w, rel=1e-11)
        assert test.p_value == pytest.approx(stats.chi2.sf(w, 3), rel=1e-11)
    else:
        assert test.statistic == pytest.approx(w / 3, rel=1e-11)
        assert test.p_value == pytest.approx(stats.f.sf(w / 3, 3, df), rel=1e-11)


@pytest.mark.parametrize("df", [None, 8.0])
def test_wald_test_of_one_point_is_the_effects_own(df):
    c = curve(index=("x",), estimate=[2.0], cov=[[1.7]], df=df)
    assert c.test(0.3).p_value == pytest.approx(c.at("x").test(0.3), rel=1e-10)


def test_wald_test_leaves_out_directions_without_variance():
    c = curve(cov=np.outer([1, 2, 0], [1, 2, 0]), estimate=[1.0, 2.0, 5.0])
    assert c.test() == WaldTest(
        statistic=pytest.approx(1.0, rel=1e-9),
        df=1,
        df_denom=None,
        p_value=pytest.approx(stats.chi2.sf(1.0, 1), rel=1e-9),
    )
    with pytest.raises(ValueError, match="positive standard error"):
        curve(cov=np.zeros((3, 3))).test()


@pytest.mark.parametrize("null", [math.nan, [0.0, math.inf, 0.0], [0.0, 0.0]])
def test_wald_test_refuses_a_null_that_is_not_finite_or_of_another_length(null):
    with pytest.raises(ValueError, match=r"null must be finite|null must be a number or 3 of them"):
        curve().test(null)


@given(root=st.lists(st.floats(-2, 2), min_size=9, max_size=9), power=st.sampled_from([-150, 150]))
@settings(deadline=None)
def test_wald_test_does_not_depend_on_the_outcomes_scale(root, power):
    r = np.array(root).reshape(3, 3)
    cov, scale = r @ r.T + 0.1 * np.eye(3), 10.0**power
    plain = curve(cov=cov).test()
    scaled = curve(cov=cov * scale * scale, estimate=scale * curve().estimate).test()
    assert scaled.p_value == pytest.approx(plain.p_value, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("weights", [[1, 2, 3], {"Wed": 3, "Mon": 1, "Tue": 2}, [10, 20, 30]])
def test_average_is_the_weighted_mean_with_its_variance(weights):
    c = curve(df=20, n_clusters=40)
    w = np.array([1, 2, 3]) / 6
    average = c.average(weights)
    assert average.estimate == pytest.approx(w @ c.estimate, rel=1e-14)
    assert average.std_error == pytest.approx(math.sqrt(w @ c.cov @ w), rel=1e-14)
    assert (average.n_obs, average.n_clusters, average.df) == (300, 40, 20)
    assert average.details["weights"] == pytest.approx(tuple(w), rel=1e-15)


def test_average_is_equal_by_default_and_at_is_a_weight_of_one():
    c = curve()
    assert c.average().estimate == pytest.approx(c.estimate.mean(), rel=1e-14)
    assert c.at("Tue").estimate == c.average([0, 5, 0]).estimate == -2.0
    assert c.at("Tue").std_error == pytest.approx(c.average([0, 5, 0]).std_error, rel=1e-15)


@pytest.mark.parametrize(
    "weights",
    [[1, 2], [1, 1, -1], [0, 0, 0], [1, 1, math.nan], [1, 1, math.inf], {"Mon": 1, "Tue": 1}],
)
def test_average_refuses_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weights must"):
        curve().average(weights)


def test_at_names_the_labels_there_are_and_takes_any_kind_of_label():
    c = curve(index=(None, 3, "x"))
    assert c.at(None).estimate == 1.0
    assert c.at(np.int64(3)).estimate == -2.0
    with pytest.raises(ValueError, match=r"day 'Sun' is not in the curve; it has \[None, 3, 'x'\]"):
        c.at("Sun")


@pytest.mark.parametrize("name", ["unit", "counted", "at", "weights"])
def test_at_keeps_details_whatever_the_index_is_called(name):
    c = curve(index_name=name, details={"unit": "s"})
    assert c.at("Mon").details["unit"] == "s"
    assert c.at("Mon").details["at"] == {name: "Mon"}
    assert "+1 s" in c.at("Mon").summary()


def test_curve_to_frame_has_a_row_a_label():
    c = curve()
    frame = c.to_frame(0.9)
    assert " ".join(frame.columns) == (
        "day estimate std_error low high low_simultaneous high_simultaneous"
    )
    assert list(frame["day"]) == list(c.index)
    np.testing.assert_array_equal(frame[["low", "high"]], c.conf_int(0.9))
    band = c.conf_int(0.9, simultaneous=True)
    np.testing.assert_array_equal(frame[["low_simultaneous", "high_simultaneous"]], band)


def test_curve_to_frame_keeps_labels_and_numbers_when_the_index_is_called_estimate():
    frame = curve(index_name="estimate").to_frame()
    assert list(frame.iloc[:, 0]) == ["Mon", "Tue", "Wed"]
    assert list(frame.iloc[:, 1]) == [1.0, -2.0, 0.5]


def test_curve_summary_has_a_line_a_label():
    lines = str(curve()).split("\n")
    assert lines[0] == "ATE by day; n = 300; Lin, HC2"
    assert lines[2] == "  Tue: -2 (95% CI -3.24 to -0.76)"
    assert len(lines) == 4


def test_curve_checks_symmetry_on_the_scale_of_each_point():
    cov = np.diag([1e12, 1.0, 1.0])
    cov[1, 2] = 0.3
    with pytest.raises(ValueError, match="symmetric"):
        curve(cov=cov)


def test_details_must_be_a_mapping():
    with pytest.raises(TypeError, match="details must be a mapping; got list"):
        curve(details=["n", 1])


def test_curve_gives_each_point_its_own_degrees_of_freedom():
    own = curve(df=(2.0, 30.0, 1e9))
    for j, label in enumerate(own.index):
        at = own.at(label)
        assert at.df == own.df[j]
        assert own.conf_int()[j].tolist() == pytest.approx(list(at.conf_int()))
    assert curve(df=(30.0,) * 3).conf_int() == pytest.approx(curve(df=30.0).conf_int())
    assert EffectCurve.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    assert own.test().df_denom == 2.0


def test_curve_average_has_welch_satterthwaites_df_where_points_are_independent():
    a, b = 0.5, 0.3
    pair = EffectCurve(
        index=("a", "b"),
        index_name="s",
        estimate=[1.0, 2.0],
        cov=np.diag([a, b]),
        estimand="ate",
        method="m",
        n_obs=40,
        df=(5.0, 9.0),
    )
    wanted = (a + b) ** 2 / (a**2 / 5 + b**2 / 9)
    assert pair.average().df == pytest.approx(wanted)
    linked = replace(pair, cov=np.array([[a, 0.1], [0.1, b]]))
    assert linked.average().df == 5.0


def test_simultaneous_band_with_own_df_keeps_the_tail_of_the_normal_band():
    normal, own = curve(), curve(df=(3.0, 50.0, 1e12))
    c = normal.conf_int(simultaneous=True)[2, 1] - normal.estimate[2]
    assert own.conf_int(simultaneous=True)[2, 1] - own.estimate[2] == pytest.approx(c, rel=1e-6)
    width = np.diff(own.conf_int(simultaneous=True)) / own.std_error[:, None]
    assert (np.diff(width.ravel()) < 0).all()


@pytest.mark.parametrize("df", [(1.0, 2.0), (1.0, 2.0, 0.0), (1.0, 2.0, math.nan)])
def test_curve_refuses_degrees_of_freedom_that_do_not_fit(df):
    with pytest.raises(ValueError, match="df must be"):
        curve(df=df)


def test_curve_of_one_point_takes_a_tuple_or_a_number():
    options = {"index": ("a",), "index_name": "s", "estimate": [1.0], "cov": [[0.5]]}
    options |= {"estimand": "ate", "method": "m", "n_obs": 9}
    one, other = (EffectCurve(**options, df=df) for df in ((4.0,), 4.0))
    assert one.conf_int() == pytest.approx(other.conf_int())
    assert EffectCurve.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert one.at("a").df == one.average().df == 4.0


def test_curve_at_takes_a_points_own_details():
    own = curve(details={"n_by_cell": [5, 6, 7], "covariates": ["x", "y", "z"], "unit": "s"})
    assert own.at(own.index[1]).details["n_by_cell"] == 6
    assert own.at(own.index[1]).details["covariates"] == ("x", "y", "z")
    assert "n_by_cell" not in own.average().details
    assert own.average().details["unit"] == "s"
