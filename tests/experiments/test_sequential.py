"""Always-valid and group-sequential read-outs: exact, reference, property and coverage tests."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from causal.effect import Effect, EstimationWarning
from experiments.splits.sequential import (
    Bounds,
    confidence_sequence,
    group_sequential_bounds,
    mixture_sprt,
    sequential_test,
)

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "sequential.json").read_text(encoding="utf-8")
)
QUADRATURE = 1e-8  # the stored bounds come from adaptive quadrature with xtol 1e-10
RULES = ("pocock", "obrien_fleming", "pocock_spending", "obrien_fleming_spending")


def effect(estimate: float, std_error: float, n: int = 1000, df: float | None = None) -> Effect:
    return Effect(
        estimate=estimate, std_error=std_error, estimand="ate", method="test", n_obs=n, df=df
    )


def equal_looks(k: int) -> list[float]:
    return [i / k for i in range(1, k + 1)]


def brownian_z(n_runs: int, information: list[float], drift: float, seed: int) -> np.ndarray:
    """Z statistics of runs x looks: independent increments, E[Z] = drift at information 1."""
    t = np.asarray(information)
    step = np.diff(t, prepend=0.0)
    noise = np.random.default_rng(seed).standard_normal((n_runs, len(t)))
    return (np.cumsum(np.sqrt(step) * noise, axis=1) + drift * t) / np.sqrt(t)


# ---------------------------------------------------------------- exact: always valid


def test_confidence_sequence_equals_its_formula():
    e, n, n_star, a = effect(0.3, 0.1), 800, 3000, 0.1
    rho = math.sqrt((-2 * math.log(a) + math.log(-2 * math.log(a) + 1)) / n_star)
    half = (
        0.1
        * math.sqrt(n)
        * math.sqrt(2 * (n * rho**2 + 1) / (n * rho) ** 2 * math.log(math.sqrt(n * rho**2 + 1) / a))
    )
    got = confidence_sequence(e, n=n, n_star=n_star, level=0.9)
    assert got.half_width == pytest.approx(half, rel=1e-12)
    assert (got.low, got.high) == pytest.approx((0.3 - half, 0.3 + half), rel=1e-12)


def test_mixture_sprt_equals_its_formula():
    s, d, tau2, a = 0.1, 0.3, 0.04, 0.05
    likelihood_ratio = math.sqrt(s**2 / (s**2 + tau2)) * math.exp(
        tau2 * d**2 / (2 * s**2 * (s**2 + tau2))
    )
    half = s * math.sqrt((1 + s**2 / tau2) * (2 * math.log(1 / a) + math.log((s**2 + tau2) / s**2)))
    got = mixture_sprt(effect(d, s), tau2=tau2)
    assert got.likelihood_ratio == pytest.approx(likelihood_ratio, rel=1e-12)
    assert got.p_value == pytest.approx(1 / likelihood_ratio, rel=1e-12)
    assert got.half_width == pytest.approx(half, rel=1e-12)


def test_mixture_sprt_likelihood_ratio_is_the_integral_over_the_prior():
    s, d, tau2 = 0.2, 0.5, 0.09
    grid = np.linspace(-4, 4, 400_001)
    ratio = norm.pdf(d, grid, s) * norm.pdf(grid, 0, math.sqrt(tau2))
    integral = ratio.sum() * (grid[1] - grid[0]) / norm.pdf(d, 0, s)
    assert mixture_sprt(effect(d, s), tau2=tau2).likelihood_ratio == pytest.approx(integral)


def test_confidence_sequence_p_value_inverts_the_half_width():
    e = effect(0.45, 0.1, n=700)
    p = confidence_sequence(e).p_value
    assert 0 < p < 0.05
    rho2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 5000

    def half_at(a: float) -> float:
        v = 700 * rho2
        return 0.1 * math.sqrt(2 * (v + 1) / v * math.log(math.sqrt(v + 1) / a))

    assert half_at(p) == pytest.approx(0.45, rel=1e-12)


def test_confidence_sequence_takes_n_from_the_effect():
    e = effect(0.1, 0.1, n=321)
    assert confidence_sequence(e) == confidence_sequence(e, n=321)
    assert confidence_sequence(e) != confidence_sequence(e, n=322)


def test_always_valid_p_value_is_never_zero_and_the_ratio_finite():
    got = mixture_sprt(effect(100.0, 1.0), tau2=1.0)
    assert got.p_value > 0
    assert math.isfinite(got.likelihood_ratio)
    assert json.loads(json.dumps(got.to_dict(), allow_nan=False)) == got.to_dict()


# ---------------------------------------------------------------- exact: group sequential


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sided", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_group_sequential_bounds_spend_alpha(rule, sided, k):
    bounds = group_sequential_bounds(equal_looks(k), alpha=0.07, rule=rule, sided=sided)
    assert bounds.alpha_spent[-1] == pytest.approx(0.07, abs=1e-8)
    assert all(a < b for a, b in pairwise(bounds.alpha_spent))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sided", [1, 2])
def test_group_sequential_bounds_cross_with_probability_alpha_by_multivariate_normal(rule, sided):
    t = np.array([0.5, 1.0])
    bounds = group_sequential_bounds(t.tolist(), alpha=0.1, rule=rule, sided=sided)
    cov = np.array([[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]])
    lower = -np.asarray(bounds.z) if sided == 2 else None
    stay = multivariate_normal(cov=cov).cdf(np.asarray(bounds.z), lower_limit=lower)
    assert 1 - stay == pytest.approx(0.1, abs=1e-7)


def test_group_sequential_bounds_of_one_look_are_the_fixed_test():
    for rule in RULES:
        z = group_sequential_bounds([1.0], rule=rule).z
        assert z[0] == pytest.approx(norm.isf(0.025), abs=1e-10)


def test_group_sequential_bounds_have_the_shape_of_their_rule():
    t = equal_looks(4)
    assert len(set(group_sequential_bounds(t, rule="pocock").z)) == 1
    z = group_sequential_bounds(t, rule="obrien_fleming").z
    np.testing.assert_allclose(np.array(z) * np.sqrt(t), z[-1], rtol=1e-12)


def test_group_sequential_bounds_of_a_prefix_do_not_change():
    whole = group_sequential_bounds([0.2, 0.5, 1.0])
    assert group_sequential_bounds([0.2, 0.5]).z == pytest.approx(whole.z[:2], abs=1e-10)
    assert group_sequential_bounds([0.2, 0.5]).alpha_spent[-1] < 0.05


def test_sequential_test_stopped_at_first_look_gives_the_fixed_interval():
    bounds = group_sequential_bounds([0.4, 1.0], rule="pocock_spending")
    result = sequential_test([effect(0.5, 0.1)], information=[0.4], bounds=bounds)
    z = norm.isf(0.025)
    assert (result.stopped_at, result.decision, result.interval) == (1, "positive", "stagewise")
    assert result.conf_int_adjusted == pytest.approx((0.5 - z * 0.1, 0.5 + z * 0.1), abs=1e-9)
    assert result.estimate_adjusted == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("second", [0.27, 0.05, -0.4])
def test_sequential_test_two_look_limits_solve_the_bivariate_tail(second):
    bounds = group_sequential_bounds([0.5, 1.0])
    se = (0.1 * math.sqrt(2), 0.1)
    result = sequential_test(
        [effect(0.1, se[0]), effect(second, se[1])], information=[0.5, 1.0], bounds=bounds
    )
    cov = np.array([[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]])

    def above(delta: float) -> float:
        mean = np.array([delta / se[0], delta / se[1]])
        reach_and_below = multivariate_normal(mean=mean, cov=cov).cdf(
            np.array([bounds.z[0], second / se[1]]), lower_limit=np.array([-bounds.z[0], -30.0])
        )
        return 1 - norm.cdf(-bounds.z[0] - mean[0]) - reach_and_below

    for p, got in zip(
        (0.025, 0.5, 0.975),
        (result.conf_int_adjusted[0], result.estimate_adjusted, result.conf_int_adjusted[1]),
        strict=True,
    ):
        assert got == pytest.approx(brentq(lambda d, p=p: above(d) - p, -1, 1), abs=1e-6)


def test_sequential_test_before_the_end_gives_the_repeated_interval():
    bounds = group_sequential_bounds([0.5, 1.0])
    result = sequential_test([effect(0.1, 0.1)], information=[0.5], bounds=bounds)
    assert (result.stopped_at, result.decision, result.interval) == (None, "continue", "repeated")
    half = bounds.z[0] * 0.1
    assert result.conf_int_adjusted == pytest.approx((0.1 - half, 0.1 + half))
    assert result.estimate_adjusted is None


def test_sequential_test_reports_no_rejection_at_the_end():
    bounds = group_sequential_bounds([0.5, 1.0])
    result = sequential_test(
        [effect(0.1, 0.14), effect(0.1, 0.1)], information=[0.5, 1.0], bounds=bounds
    )
    assert (result.stopped_at, result.decision) == (None, "not rejected")
    assert result.conf_int_adjusted[0] < 0 < result.conf_int_adjusted[1]
    assert [look.crossed for look in result.path] == [False, False]


def test_sequential_test_keeps_the_first_stop_when_looks_follow_it():
    bounds = group_sequential_bounds([0.5, 1.0])
    early = [effect(0.5, 0.14), effect(0.01, 0.1)]
    result = sequential_test(early, information=[0.5, 1.0], bounds=bounds)
    alone = sequential_test(early[:1], information=[0.5], bounds=bounds)
    assert result.stopped_at == 1
    assert result.conf_int_adjusted == alone.conf_int_adjusted
    assert len(result.path) == 2


def test_sequential_test_one_sided_stops_for_positive_effects_only():
    bounds = group_sequential_bounds([0.5, 1.0], alpha=0.025, sided=1)
    looks = [effect(-0.6, 0.14), effect(-0.6, 0.1)]
    result = sequential_test(looks, information=[0.5, 1.0], bounds=bounds)
    assert (result.stopped_at, result.decision) == (None, "not rejected")
    assert result.level == pytest.approx(0.95)
    assert result.conf_int_adjusted[1] < 0


def test_sequential_result_is_json():
    bounds = group_sequential_bounds([0.5, 1.0])
    result = sequential_test([effect(0.5, 0.1)], information=[0.5], bounds=bounds)
    for record in (result, bounds):
        text = json.dumps(record.to_dict(), allow_nan=False)
        assert json.loads(text) == record.to_dict()
    assert result.to_dict()["path"][0]["bound"] == bounds.z[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.decision = "continue"


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confidence_sequence(effect(1, 0)), "positive standard error"),
        (lambda: confidence_sequence(effect(1, 1), level=1.0), r"level must be in \(0, 1\)"),
        (lambda: confidence_sequence(effect(1, 1), n=0), "n must be a finite number of at"),
        (lambda: confidence_sequence(effect(1, 1), n=math.nan), "n must be a finite number"),
        (lambda: confidence_sequence(effect(1, 1), n_star=0), "n_star must be"),
        (lambda: mixture_sprt(effect(1, 0), tau2=1), "positive standard error"),
        (lambda: mixture_sprt(effect(1, 1), tau2=0), "tau2 must be"),
        (lambda: mixture_sprt(effect(1, 1), tau2=math.nan), "tau2 must be"),
        (lambda: mixture_sprt(effect(1, 1), tau2=1, level=95), "level must be"),
        (lambda: group_sequential_bounds([]), "at least one look"),
        (lambda: group_sequential_bounds([0.5, 0.5, 1]), "strictly increasing"),
        (lambda: group_sequential_bounds([0.0, 1]), "strictly increasing"),
        (lambda: group_sequential_bounds([0.5, 1.1]), "strictly increasing"),
        (lambda: group_sequential_bounds([0.5, math.nan]), "strictly increasing"),
        (lambda: group_sequential_bounds([0.5, 0.5001, 1]), "look 2 adds"),
        (lambda: group_sequential_bounds([0.001, 1]), "look 1 at information 0.001"),
        (lambda: group_sequential_bounds([0.3, 1], rule="pocock"), "equal steps"),
        (lambda: group_sequential_bounds([0.25, 0.5], rule="obrien_fleming"), "equal steps"),
        (lambda: group_sequential_bounds([1.0], rule="haybittle"), "rule must be one of"),
        (lambda: group_sequential_bounds([1.0], sided=3), "sided must be one of 1, 2"),
        (lambda: group_sequential_bounds([1.0], alpha=0), "alpha must be"),
        (lambda: group_sequential_bounds([1.0], alpha=0.5, sided=1), "below 0.5"),
    ],
)
def test_sequential_refuses_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sequential_test_refuses_looks_that_do_not_belong_together():
    bounds = group_sequential_bounds([0.5, 1.0])
    one = [effect(1, 1)]
    with pytest.raises(ValueError, match="between 1 and 2 looks"):
        sequential_test([], information=[], bounds=bounds)
    with pytest.raises(ValueError, match="between 1 and 2 looks"):
        sequential_test(one * 3, information=[0.2, 0.5, 1], bounds=bounds)
    with pytest.raises(ValueError, match="information must be that of the bounds"):
        sequential_test(one, information=[0.4], bounds=bounds)
    with pytest.raises(ValueError, match="information must be that of the bounds"):
        sequential_test(one, information=[0.5, 1.0], bounds=bounds)
    with pytest.raises(ValueError, match="positive standard error"):
        sequential_test([effect(1, 0)], information=[0.5], bounds=bounds)
    with pytest.raises(TypeError, match="Effect is required; got float"):
        sequential_test([1.0], information=[0.5], bounds=bounds)
    with pytest.raises(TypeError, match="Effect is required"):
        confidence_sequence(1.0)


def test_sequential_warns_once_about_few_degrees_of_freedom_and_other_information():
    with pytest.warns(EstimationWarning, match="12 degrees of freedom") as caught:
        confidence_sequence(effect(1, 1, df=12))
    assert len(caught) == 1
    with pytest.warns(EstimationWarning, match="12 degrees of freedom"):
        mixture_sprt(effect(1, 1, df=12), tau2=1)
    bounds = group_sequential_bounds([0.5, 1.0])
    with pytest.warns(EstimationWarning, match="differs by up to 100%") as caught:
        sequential_test([effect(0, 1, df=12), effect(0, 1)], information=[0.5, 1.0], bounds=bounds)
    assert len(caught) == 1


# ---------------------------------------------------------------- reference


@pytest.mark.reference
@pytest.mark.parametrize("case", REFERENCE["gbstats"])
def test_confidence_sequence_equals_gbstats(case):
    got = confidence_sequence(
        effect(case["estimate"], case["std_error"]),
        n=case["n"],
        n_star=case["n_star"],
        level=case["level"],
    )
    assert got.low == pytest.approx(case["low"], rel=1e-10)
    assert got.high == pytest.approx(case["high"], rel=1e-10)
    assert got.p_value == pytest.approx(case["p_value"], rel=1e-10)


@pytest.mark.reference
@pytest.mark.parametrize("rule", ["pocock", "obrien_fleming"])
def test_group_sequential_bounds_equal_jennison_turnbull_tables(rule):
    for alpha, constants in REFERENCE[rule].items():
        for k, constant in constants.items():
            bounds = group_sequential_bounds(equal_looks(int(k)), alpha=float(alpha), rule=rule)
            assert round(bounds.z[-1], 3) == constant, (rule, alpha, k)


@pytest.mark.reference
@pytest.mark.parametrize("case", REFERENCE["unequal_looks"])
def test_group_sequential_bounds_equal_adaptive_quadrature_at_unequal_looks(case):
    bounds = group_sequential_bounds(
        case["information"], alpha=case["alpha"], rule=case["rule"], sided=case["sided"]
    )
    np.testing.assert_allclose(bounds.z, case["z"], rtol=0, atol=QUADRATURE)


@pytest.mark.reference
def test_group_sequential_bounds_equal_rpact_gsdesign_and_seq_bounds():
    case = REFERENCE["equal_looks"]
    bounds = group_sequential_bounds(equal_looks(3), alpha=case["alpha"], sided=1)
    assert [round(z, 4) for z in bounds.z] == case["z"]
    case = REFERENCE["seq_bounds"]
    bounds = group_sequential_bounds(case["information"], alpha=case["alpha"], sided=1)
    np.testing.assert_allclose(bounds.z, case["z"], rtol=0, atol=5e-5)  # its grid is coarse


@pytest.mark.reference
def test_sequential_test_equals_rpact_final_interval():
    case = REFERENCE["rpact"]
    bounds = Bounds(
        z=tuple(case["z"]),
        alpha_spent=(0.0, 0.0, case["alpha"]),
        information=tuple(case["information"]),
        alpha=case["alpha"],
        rule="wang_tsiatis",
        sided=1,
    )
    looks = []
    for events, log_rank in zip(case["events"], case["log_rank"], strict=True):
        std_error = 2 / math.sqrt(events)
        looks.append(effect(log_rank * std_error, std_error))
    result = sequential_test(looks, information=case["information"], bounds=bounds)
    low, high = (math.exp(x) for x in result.conf_int_adjusted)
    assert result.stopped_at == 3
    assert low == pytest.approx(case["hazard_ratio_low"], rel=1e-6)
    assert high == pytest.approx(case["hazard_ratio_high"], rel=1e-6)
    middle = math.exp(result.estimate_adjusted)
    assert middle == pytest.approx(case["hazard_ratio_median_unbiased"], rel=1e-6)


# ---------------------------------------------------------------- property

finite = st.floats(-50, 50)
positive = st.floats(0.01, 10)


@given(finite, positive, st.floats(0.5, 0.999), st.floats(1e-3, 1e3))
def test_always_valid_p_value_agrees_with_the_interval_and_scale(estimate, se, level, scale):
    for read in (
        lambda d, s, c: mixture_sprt(effect(d, s), tau2=c * c, level=level),
        lambda d, s, c: confidence_sequence(effect(d, s), level=level),
    ):
        got, scaled = read(estimate, se, 1.0), read(scale * estimate, scale * se, scale)
        excludes = got.low > 0 or got.high < 0
        if abs(got.p_value - (1 - level)) > 1e-9:
            assert excludes == (got.p_value < 1 - level)
        assert scaled.half_width == pytest.approx(scale * got.half_width, rel=1e-9)
        assert scaled.p_value == pytest.approx(got.p_value, rel=1e-6, abs=1e-300)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0.02, 1), min_size=1, max_size=6),
    st.sampled_from(["pocock_spending", "obrien_fleming_spending"]),
    st.floats(0.001, 0.4),
)
def test_group_sequential_bounds_are_at_least_the_fixed_bound_and_spend_alpha(steps, rule, alpha):
    information = (np.cumsum(steps) / np.sum(steps)).tolist()
    information[-1] = 1.0
    bounds = group_sequential_bounds(information, alpha=alpha, rule=rule)
    assert min(bounds.z) >= norm.isf(alpha / 2) - 1e-9
    assert bounds.alpha_spent[-1] == pytest.approx(alpha, abs=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(1e-3, 1e3))
def test_sequential_test_flips_with_the_sign_and_scales_with_the_outcome(z1, z2, scale):
    bounds = group_sequential_bounds([0.5, 1.0], rule="pocock")

    def run(factor: float):
        se = (abs(factor) * math.sqrt(2), abs(factor))
        sign = math.copysign(1, factor)
        looks = [effect(sign * z * s, s) for z, s in zip((z1, z2), se, strict=True)]
        return sequential_test(looks, information=[0.5, 1.0], bounds=bounds)

    plain, flipped, scaled = run(1.0), run(-1.0), run(scale)
    low, high = plain.conf_int_adjusted
    assert low < plain.estimate_adjusted < high
    assert (low > 0 or high < 0) == (plain.stopped_at is not None)
    assert flipped.conf_int_adjusted == pytest.approx((-high, -low), abs=1e-7)
    assert scaled.conf_int_adjusted == pytest.approx((scale * low, scale * high), rel=1e-7)
    assert scaled.decision == plain.decision


# ---------------------------------------------------------------- coverage studies

PEEKS = 20


def peeked_effects(n_runs: int, seed: int) -> list[list[Effect]]:
    """A/A experiments of exponential outcomes, read 20 times as viewers come in."""
    rng = np.random.default_rng(seed)
    per_look = 250
    y = rng.exponential(size=(n_runs, 2, PEEKS * per_look))
    runs = []
    for arms in y:
        looks = []
        for k in range(1, PEEKS + 1):
            seen = arms[:, : k * per_look]
            mean, var = seen.mean(axis=1), seen.var(axis=1, ddof=1)
            se = math.sqrt(var.sum() / seen.shape[1])
            looks.append(effect(mean[1] - mean[0], se, n=seen.size))
        runs.append(looks)
    return runs


@pytest.mark.coverage_study
def test_always_valid_tests_survive_peeking_where_the_fixed_test_does_not():
    runs = peeked_effects(400, seed=11)

    def rejects(p_value) -> float:
        return float(np.mean([any(p_value(e) < 0.05 for e in looks) for looks in runs]))

    assert rejects(lambda e: confidence_sequence(e).p_value) <= 0.06
    assert rejects(lambda e: mixture_sprt(e, tau2=1e-3).p_value) <= 0.06
    assert rejects(lambda e: e.p_value) > 0.15


@pytest.mark.coverage_study
@pytest.mark.parametrize("rule", RULES)
def test_group_sequential_bounds_keep_the_size_under_peeking(rule):
    t = equal_looks(PEEKS)
    z = brownian_z(20_000, t, drift=0.0, seed=5)
    crossed = np.abs(z) >= np.asarray(group_sequential_bounds(t, rule=rule).z)
    assert crossed.any(axis=1).mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.coverage_study
@pytest.mark.parametrize("drift", [0.0, 2.5])
def test_sequential_test_interval_covers_and_its_estimate_is_median_unbiased(drift):
    t, n_runs = [0.3, 0.6, 1.0], 500
    bounds = group_sequential_bounds(t, rule="pocock_spending")
    covered = below = naive = 0
    for path in brownian_z(n_runs, t, drift, seed=3):
        looks = [effect(z / math.sqrt(s), 1 / math.sqrt(s)) for z, s in zip(path, t, strict=True)]
        result = sequential_test(looks, information=t, bounds=bounds)
        low, high = result.conf_int_adjusted
        covered += low <= drift <= high
        below += result.estimate_adjusted < drift
        end = looks[(result.stopped_at or 3) - 1]
        naive += end.estimate < drift
    assert covered / n_runs == pytest.approx(0.95, abs=0.03)
    assert below / n_runs == pytest.approx(0.5, abs=0.07)
    if drift:
        assert naive / n_runs < 0.45  # stopping early flatters the plain estimate
