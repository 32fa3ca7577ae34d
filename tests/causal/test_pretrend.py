"""Power of pre-trend tests and equivalence: another package's numbers, closed forms, simulation."""

import json

import numpy as np
import pytest
from dense_honest import random_study, stored, study_curve
from scipy import stats

from causal import (
    EffectCurve,
    Equivalence,
    EstimationWarning,
    PretrendPower,
    honest_did,
    pretrend_equivalence,
    pretrend_power,
)

TESTS = pytest.mark.parametrize("test", ["individual", "joint"])
INTEGRATED = 2e-4  # the other side integrates numerically


def stata_curve():
    """The stored study of Stata's pretrends."""
    estimate, cov, n_lead, record = stored("stata")
    return study_curve(estimate, cov, n_lead), record


# --- another package's numbers --------------------------------------------------------------------


@pytest.mark.reference
def test_pretrend_power_equals_stata():
    curve, record = stata_curve()
    expected = record["at_slope"]
    found = pretrend_power(curve, slope=expected["slope"])
    assert found.power == pytest.approx(expected["power"], abs=INTEGRATED)
    assert found.bayes_factor == pytest.approx(expected["bayes_factor"], abs=INTEGRATED)
    assert found.likelihood_ratio == pytest.approx(expected["likelihood_ratio"], rel=1e-10)
    np.testing.assert_allclose(
        found.distortion["hypothesised"], 0.03 * (found.distortion["event_time"] + 1)
    )
    half = pretrend_power(curve, power=0.5)
    assert half.slope == pytest.approx(record["slope_for_half_power"], rel=INTEGRATED)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_lead", [1, 2, 3, 5])
def test_individual_power_equals_the_probability_of_the_box(n_lead):
    estimate, cov = random_study(np.random.default_rng(n_lead), n_lead, 1)
    curve = study_curve(estimate, cov, n_lead)
    lead = cov[:n_lead, :n_lead]
    z = stats.norm.ppf(0.975) * np.sqrt(np.diag(lead))
    for slope in (0.0, 0.1, 0.3):
        delta = slope * np.arange(-n_lead, 0)
        inside = stats.multivariate_normal.cdf(
            z, delta, lead, lower_limit=-z, abseps=1e-6, releps=1e-6
        )
        expected = 1 - inside
        assert pretrend_power(curve, slope=slope).power == pytest.approx(expected, abs=2e-5)


def test_power_of_independent_leads_is_a_product():
    curve = study_curve(np.zeros(13), np.diag(np.arange(1.0, 14.0)), 12)
    found = pretrend_power(curve, slope=0.4, level=0.9)
    z = stats.norm.ppf(0.95)
    assert found.size == pytest.approx(1 - 0.9**12, abs=1e-12)
    shift = 0.4 * np.arange(-12, 0) / np.sqrt(np.arange(1, 13))
    passes = np.prod(stats.norm.cdf(z - shift) - stats.norm.cdf(-z - shift))
    assert found.power == pytest.approx(1 - passes, abs=1e-12)


def test_joint_power_is_noncentral_chi_square():
    curve, _ = stata_curve()
    _, cov, n_lead, _ = stored("stata")
    delta = 0.05 * np.arange(-3, 0)
    shift = delta @ np.linalg.solve(cov[:n_lead, :n_lead], delta)
    expected = stats.ncx2.sf(stats.chi2.ppf(0.95, 3), 3, shift)
    found = pretrend_power(curve, slope=0.05, test="joint")
    assert found.power == pytest.approx(expected, rel=1e-9)
    assert found.size == pytest.approx(0.05, rel=1e-9)


def test_one_lead_is_a_truncated_normal():
    cov = np.array([[0.04, 0.018], [0.018, 0.09]])
    curve = study_curve([0.1, 1.0], cov, 1)
    for slope in (0.2, 1.0, -1.2):
        ends = np.array([-1, 1]) * stats.norm.ppf(0.975) + slope / 0.2
        mean = -slope + 0.2 * stats.truncnorm.mean(*ends)
        for test in ("individual", "joint"):
            found = pretrend_power(curve, slope=slope, test=test).distortion
            passing = found["expected_given_passing"].to_numpy()
            assert passing[0] == pytest.approx(mean, abs=2e-4)
            assert passing[1] == 0
            assert passing[2] == pytest.approx(slope + 0.018 / 0.04 * (mean + slope), abs=2e-4)


@TESTS
def test_passing_means_equal_simulation(test):
    estimate, cov = random_study(np.random.default_rng(4), 3, 2)
    found = pretrend_power(study_curve(estimate, cov, 3), power=0.6, test=test)
    rng = np.random.default_rng(0)
    trend = found.slope * np.array([-3, -2, -1, 1, 2])
    draws = rng.multivariate_normal(trend, cov, size=200_000)
    lead = draws[:, :3]
    if test == "individual":
        passed = (np.abs(lead) <= stats.norm.ppf(0.975) * np.sqrt(np.diag(cov)[:3])).all(axis=1)
    else:
        wald = np.einsum("ij,ij->i", lead @ np.linalg.inv(cov[:3, :3]), lead)
        passed = wald <= stats.chi2.ppf(0.95, 3)
    assert found.power == pytest.approx(0.6, abs=1e-9)
    assert 1 - passed.mean() == pytest.approx(0.6, abs=5e-3)
    error = draws[passed].std(axis=0) / np.sqrt(passed.sum())
    expected = found.distortion["expected_given_passing"].to_numpy()
    assert (np.abs(np.delete(expected, 3) - draws[passed].mean(axis=0)) <= 4.5 * error).all()


def test_fitted_trend_is_generalised_least_squares():
    curve, _ = stata_curve()
    estimate, cov, n_lead, _ = stored("stata")
    x = np.arange(-3.0, 0)[:, None]
    inverse = np.linalg.inv(cov[:n_lead, :n_lead])
    slope = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ estimate[:n_lead])[0]
    found = pretrend_power(curve, slope=0.1)
    assert found.estimate == pytest.approx(slope)
    assert found.std_error == pytest.approx((x.T @ inverse @ x)[0, 0] ** -0.5)


def test_equivalence_is_two_one_sided_tests_of_every_lead():
    curve, _ = stata_curve()
    found = pretrend_equivalence(curve, level=0.9)
    lead, error = found.leads["estimate"].to_numpy(), found.leads["std_error"].to_numpy()

    def shown(bound):
        below, above = stats.norm.sf((bound - lead) / error), stats.norm.sf((bound + lead) / error)
        return bool((np.maximum(below, above) <= 0.1).all())

    assert shown(found.bound * (1 + 1e-9))
    assert not shown(found.bound * (1 - 1e-9))
    assert found.bound == found.leads["bound"].max()
    assert found.estimate in lead
    assert found.effect.details["at"]["event_time"] == -4


# --- properties -----------------------------------------------------------------------------------


@TESTS
def test_asked_power_is_met_and_signs_and_units_carry_over(test):
    estimate, cov = random_study(np.random.default_rng(9), 4, 3)
    base = pretrend_power(study_curve(estimate, cov, 4), test=test)
    assert base.power == pytest.approx(0.8, abs=1e-9)
    assert base.slope > 0
    assert 0.05 - 1e-9 <= base.size < 0.2
    mirror = pretrend_power(study_curve(estimate, cov, 4), slope=-base.slope, test=test)
    assert mirror.power == pytest.approx(0.8, abs=2e-5)
    for factor in (1e150, 1e-140):
        scaled = pretrend_power(study_curve(factor * estimate, factor * cov * factor, 4), test=test)
        assert scaled.slope / factor == pytest.approx(base.slope, rel=1e-8)
        assert scaled.likelihood_ratio == pytest.approx(base.likelihood_ratio, rel=1e-6)
        equal = pretrend_equivalence(study_curve(factor * estimate, factor * cov * factor, 4))
        one = pretrend_equivalence(study_curve(estimate, cov, 4))
        assert equal.bound / factor == pytest.approx(one.bound)


@TESTS
def test_more_trend_more_power(test):
    estimate, cov = random_study(np.random.default_rng(2), 3, 1)
    curve = study_curve(estimate, cov, 3)
    powers = [pretrend_power(curve, slope=s, test=test).power for s in (0, 0.1, 0.2, 0.5)]
    assert np.diff(powers).min() > 0
    with pytest.raises(ValueError, match="certainty; give a smaller slope"):
        pretrend_power(curve, slope=50, test=test)


def test_an_untested_trend_is_distorted_further_by_passing():
    """Roth (2022), proposition 3: with equal, positively correlated errors passing adds bias."""
    spread = 0.02 * (np.eye(5) + 1)
    found = pretrend_power(study_curve(np.zeros(5), spread, 3), power=0.5).distortion
    after = found[found["event_time"] >= 0]
    assert (after["expected_given_passing"] > after["hypothesised"]).all()


def test_leads_alone_and_singular_leads_work():
    estimate, cov = random_study(np.random.default_rng(1), 3, 2)
    whole = pretrend_power(study_curve(estimate, cov, 3))
    alone = study_curve(estimate[:3], cov[:3, :3], 3)
    assert pretrend_power(alone).slope == pytest.approx(whole.slope, rel=1e-9)
    assert (
        pretrend_equivalence(alone).bound
        == pretrend_equivalence(study_curve(estimate, cov, 3)).bound
    )
    root = np.array([[1.0, 0], [0, 1], [1, 1]])
    flat = study_curve([0.1, 0.2, 0.3], root @ root.T, 3)
    assert pretrend_power(flat).power == pytest.approx(0.8, abs=1e-6)
    with pytest.warns(EstimationWarning, match="the 3 leads has rank 2: the joint test is of that"):
        joint = pretrend_power(flat, test="joint")
    assert joint.power == pytest.approx(0.8, abs=1e-6)


# --- bad input and results ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"power": 0.0}, "power"),
        ({"power": 1}, "power"),
        ({"power": 0.06}, "size"),
        ({"slope": np.nan}, "slope"),
        ({"test": "wald"}, "'joint'"),
        ({"level": 95}, "0.95"),
    ],
)
def test_bad_options_are_refused_with_what_to_do(options, words):
    with pytest.raises(ValueError, match="must be") as caught:
        pretrend_power(stata_curve()[0], **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("function", [pretrend_power, pretrend_equivalence])
def test_a_curve_without_leads_is_refused(function):
    with pytest.raises(ValueError, match="-2 or earlier"):
        function(study_curve([1.0, 2.0], np.eye(2), 0))
    with pytest.raises(TypeError, match="event study"):
        function(np.zeros(3))


def test_results_come_back_from_json_and_draw():
    curve, _ = stata_curve()
    power = pretrend_power(curve, power=0.5)
    again = PretrendPower.from_dict(json.loads(json.dumps(power.to_dict())))
    assert again == power
    assert "0.50" in again.summary()
    assert f"{power.slope:.3g}" in again.summary()
    ax = again.plot()
    assert "n = 500" in ax.get_title(loc="left")
    assert len(ax.get_lines()) == 4
    equal = pretrend_equivalence(curve)
    assert Equivalence.from_dict(json.loads(json.dumps(equal.to_dict()))) == equal
    assert f"within {equal.bound:.3g}" in equal.summary()
    ax = equal.plot()
    assert ax.get_xlabel() == "event time"
    assert f"within {equal.bound:.3g}" in ax.get_legend().get_texts()[0].get_text()
    assert honest_did(curve).estimate == curve.at(0).estimate


def test_pretrend_power_without_lags_tells_of_the_farthest_lead():
    curve, _ = stata_curve()
    leads = [j for j, e in enumerate(curve.index) if e < 0]
    cut = {"index": [curve.index[j] for j in leads], "estimate": curve.estimate[leads],
           "cov": curve.cov[np.ix_(leads, leads)]}  # fmt: skip
    power = pretrend_power(EffectCurve(**{**curve.to_dict(), **cut}), slope=0.01)
    farthest = min(cut["index"])
    assert f"it adds {0.01 * (farthest + 1):.3g} at event time {farthest}" in power.summary()


# --- simulation of panels -------------------------------------------------------------------------


@pytest.mark.coverage_study
@TESTS
def test_predicted_power_is_the_power_on_simulated_panels(test):
    """Panels of two groups with AR(1) errors and a straight difference in trends."""
    runs, n, n_lead, periods = 800, 150, 3, 6
    rng = np.random.default_rng(7)
    lag = np.subtract.outer(np.arange(periods), np.arange(periods))
    noise = np.linalg.cholesky(0.6 ** np.abs(lag))
    contrast = np.delete(np.eye(periods), n_lead, axis=0) - np.eye(periods)[n_lead]
    cov = contrast @ noise @ noise.T @ contrast.T * 2 / (n / 2)
    asked = pretrend_power(study_curve(np.zeros(periods - 1), cov, n_lead), power=0.6, test=test)
    trend = asked.slope * np.arange(periods)
    rejected = 0
    for _ in range(runs):
        change = rng.normal(size=(2, n // 2, periods)) @ noise.T @ contrast.T
        b = change[0].mean(axis=0) - change[1].mean(axis=0) + contrast @ trend
        found = sum(np.cov(group.T) / (n // 2) for group in change)
        lead, errors = b[:n_lead], found[:n_lead, :n_lead]
        if test == "individual":
            rejected += (np.abs(lead) > 1.959964 * np.sqrt(np.diag(errors))).any()
        else:
            rejected += lead @ np.linalg.solve(errors, lead) > stats.chi2.ppf(0.95, n_lead)
    assert rejected / runs == pytest.approx(asked.power, abs=0.02 + 2 * np.sqrt(0.24 / runs))
