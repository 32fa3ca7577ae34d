"""Honest intervals: other packages' numbers, brute force, properties, bad input."""

import itertools
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from dense_honest import (
    REFERENCE,
    dense_moments,
    dense_rejects,
    eta_by_program,
    random_study,
    shortest_by_optimiser,
    stored,
    study_curve,
)
from scipy import stats

from causal import (
    Effect,
    EffectCurve,
    EstimationWarning,
    HonestDid,
    event_study,
    honest_did,
)
from causal.sensitivity.honest import _breakdown
from causal.sensitivity.relative_magnitude import (
    _polyhedra,
    allows,
    least_favourable,
    relative_magnitude_interval,
    truncated_tail,
)
from causal.sensitivity.smoothness import folded_normal_quantile, frontier, lasso_path

CASES = [(name, j) for name, study in REFERENCE.items() for j in range(len(study["cases"]))]
KINDS = pytest.mark.parametrize("kind", ["relative_magnitude", "smoothness"])


def target_of(case):
    """The `at` of a stored case."""
    at = case["at"]
    return {int(t): w for t, w in at.items()} if isinstance(at, dict) else at


def intervals(curve, **options):
    """Lower and upper, shape (bounds, 2)."""
    return honest_did(curve, **options).frame[["lower", "upper"]].to_numpy()


# --- other packages' numbers ----------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize(("name", "j"), CASES)
def test_honest_did_equals_printed_intervals(name, j):
    estimate, cov, n_lead, record = stored(name)
    case = record["cases"][j]
    found = intervals(
        study_curve(estimate, cov, n_lead),
        kind=case["kind"],
        at=target_of(case),
        level=case["level"],
        bound=[row[0] for row in case["rows"]],
    )
    printed = np.array([row[1:] for row in case["rows"]], dtype=float)  # None: R's grid ended
    known = ~np.isnan(printed)
    np.testing.assert_allclose(found[known], printed[known], rtol=0, atol=case["tolerance"])


@pytest.mark.reference
def test_honest_did_default_bounds_are_those_of_the_reference():
    estimate, cov, n_lead, record = stored("benzarti_carloni")
    curve = study_curve(estimate, cov, n_lead)
    bounds = honest_did(curve, kind="smoothness").frame["bound"]
    assert len(bounds) == 10
    assert bounds.iloc[0] == 0
    assert bounds.iloc[-1] == pytest.approx(record["default_smoothness_bound"], abs=5e-5)
    assert honest_did(curve).frame["bound"].tolist() == [0.25 * j for j in range(9)]
    one_lead = study_curve(estimate[3:], cov[3:, 3:], 1)
    most = honest_did(one_lead, kind="smoothness").frame["bound"].iloc[-1]
    assert most == pytest.approx(np.sqrt(cov[3, 3]))


# --- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9, 0.95, 0.999])
def test_folded_normal_quantile_is_exact(level):
    for r in (0.0, 1e-3, 0.3, 1.0, 2.5, 6.0):
        c = folded_normal_quantile(r, level)
        assert stats.foldnorm.cdf(c, r) == pytest.approx(level, abs=1e-13)
    far = folded_normal_quantile(1e6, level) - 1e6
    assert far == pytest.approx(stats.norm.ppf(level), abs=1e-8)


@pytest.mark.parametrize("seed", range(40))
def test_lasso_path_is_optimal_at_and_between_its_breaks(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 15))
    root = rng.normal(size=(n, n + 2 if seed % 3 else max(1, n - 2)))  # every third is singular
    root = np.cumsum(root, axis=0) if seed % 2 else root
    quadratic, linear = root @ root.T, root @ rng.normal(size=root.shape[1])
    path = lasso_path(quadratic, linear)
    size = np.abs(linear).max()
    assert not path[0].any()
    np.testing.assert_allclose(quadratic @ path[-1] + linear, 0, atol=1e-8 * size)
    for before, after in itertools.pairwise(path):
        middle = (before + after) / 2
        slope = quadratic @ middle + linear
        on = np.abs(middle) > 1e-9 * np.abs(path).max()
        np.testing.assert_allclose(
            slope[on], -np.sign(middle[on]) * np.abs(slope).max(), atol=1e-8 * size
        )


@pytest.mark.parametrize("seed", range(6))
def test_smoothness_interval_is_the_shortest_by_a_generic_optimiser(seed):
    rng = np.random.default_rng(seed)
    n_lead, n_lag = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    estimate, cov = random_study(rng, n_lead, n_lag)
    weights = np.eye(n_lag)[0] if seed % 2 else np.full(n_lag, 1 / n_lag)
    path = frontier(cov, weights, n_lead)
    for bound in (0.0, 0.02, 0.1, 0.5):
        low, high = path.interval(estimate, bound, 0.95)
        generic = shortest_by_optimiser(estimate, cov, weights, n_lead, bound, 0.95)
        assert (high - low) / 2 <= generic + 1e-9
        assert (high - low) / 2 == pytest.approx(generic, rel=2e-4)


def test_smoothness_with_one_lead_and_no_bend_extrapolates_the_line():
    cov = np.array([[0.04, 0.01], [0.01, 0.09]])
    low, high = intervals(study_curve([0.3, 1.0], cov, 1), kind="smoothness", bound=[0])[0]
    assert (low + high) / 2 == pytest.approx(1.3)  # a slope of -0.3 a period goes on
    error = np.sqrt(0.04 + 0.09 + 2 * 0.01)
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * error)


@pytest.mark.parametrize("seed", range(8))
def test_vertices_solve_the_linear_program(seed):
    rng = np.random.default_rng(seed)
    n_lead, n_lag = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    estimate, cov = random_study(rng, n_lead, n_lag, size=3.0)
    weights = rng.normal(size=n_lag) if seed % 2 else np.eye(n_lag)[n_lag - 1]
    bound = float(rng.uniform(0.2, 2))
    error = np.sqrt(weights @ cov[n_lead:, n_lead:] @ weights)
    for place, moments in enumerate(_polyhedra(estimate, cov, weights, bound)):
        dense = dense_moments(
            estimate, cov, weights, n_lead, bound, place // 2, 1 - 2 * (place % 2)
        )
        _, y, y_cov, nuisance, one = dense
        for theta in weights @ estimate[n_lead:] + error * rng.normal(scale=3, size=4):
            eta = eta_by_program(y - one * theta, y_cov, nuisance)[0]
            assert (moments.at_zero - moments.fall * theta).max() == pytest.approx(eta, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_test_of_a_value_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    n_lead, n_lag = 1 + (seed == 0), (2, 3, 1, 4)[seed]
    estimate, cov = random_study(rng, n_lead, n_lag, size=1.5)
    weights = np.full(n_lag, 1 / n_lag)
    error = np.sqrt(weights @ cov[n_lead:, n_lead:] @ weights)
    seen = []
    for place, moments in enumerate(_polyhedra(estimate, cov, weights, 0.7)):
        limit = least_favourable(moments.cov, 0.995)
        dense = dense_moments(estimate, cov, weights, n_lead, 0.7, place // 2, 1 - 2 * (place % 2))
        _, y, y_cov, nuisance, one = dense
        theta = weights @ estimate[n_lead:] + error * np.linspace(-4, 4, 6)
        low, high = moments.reach(limit)
        allowed = allows(moments, theta, limit, 0.045) & (low <= theta) & (theta <= high)
        for t, here in zip(theta, allowed, strict=True):
            refused = dense_rejects(y - one * t, y_cov, nuisance, limit, 0.045)
            assert refused is None or refused != here
            seen.append(refused)
    assert {True, False} <= set(seen)


def test_least_favourable_value_equals_simulation():
    rng = np.random.default_rng(3)
    estimate, cov = random_study(rng, 2, 3)
    for moments in _polyhedra(estimate, cov, np.array([0.0, 1.0, 0.0]), 0.8):
        values, vectors = np.linalg.eigh(moments.cov)
        root = vectors * np.sqrt(np.maximum(values, 0))
        draws = (rng.normal(size=(200_000, len(root))) @ root.T).max(axis=1)
        above = (draws > least_favourable(moments.cov, 0.95)).mean()
        assert above == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 200_000))


def test_truncated_tail_is_exact_also_far_out():
    z, low, high = (
        np.array([0.3, 1.0, 1.5]),
        np.array([-np.inf, 0.5, -1.0]),
        np.array([2, np.inf, 2]),
    )
    np.testing.assert_allclose(truncated_tail(z, low, high), stats.truncnorm.sf(z, low, high))
    far = truncated_tail(np.array([40.01]), np.array([40.0]), np.array([np.inf]))
    assert far[0] == pytest.approx(np.exp(-40 * 0.01 - 0.01**2 / 2), rel=1e-3)  # exponential there
    assert truncated_tail(np.array([1.0]), np.array([1.0]), np.array([1.0]))[0] == 1.0


def test_relative_magnitude_at_bound_zero_is_the_usual_interval():
    for seed in range(6):
        estimate, cov = random_study(np.random.default_rng(seed), 3, 1 + seed % 3)
        result = honest_did(study_curve(estimate, cov, 3), bound=[0], at="average")
        usual = result.effect.conf_int(0.95)
        found = result.frame[["lower", "upper"]].to_numpy()[0]
        np.testing.assert_allclose(found, usual, atol=1e-6 * result.std_error)
        assert result.original == usual


# --- properties -----------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("seed", range(8))
def test_interval_never_narrows_when_the_bound_grows(kind, seed):
    rng = np.random.default_rng(seed)
    n_lead, n_lag = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    estimate, cov = random_study(rng, n_lead, n_lag, size=rng.choice([0.5, 1, 2]))
    at = "average" if seed % 2 else n_lag - 1
    bounds = [0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4]
    found = intervals(study_curve(estimate, cov, n_lead), kind=kind, at=at, bound=bounds)
    error = np.sqrt(np.diag(cov)).max()
    assert np.diff(found[:, 1] - found[:, 0]).min() >= -1e-6 * error
    if kind == "relative_magnitude":  # and its ends go apart
        assert np.diff(found[:, 0]).max() <= 1e-6 * error
        assert np.diff(found[:, 1]).min() >= -1e-6 * error


@KINDS
def test_units_and_sign_of_the_outcome_carry_over(kind):
    estimate, cov, n_lead, _ = stored("benzarti_carloni")
    bounds = np.array([0.0, 0.5, 1.0])
    base = honest_did(study_curve(estimate, cov, n_lead), kind=kind, bound=bounds, at="average")
    for factor in (-1e3, 1e150, 1e-140):
        scaled = study_curve(factor * estimate, factor * cov * factor, n_lead)
        unit = abs(factor) if kind == "smoothness" else 1.0
        found = honest_did(scaled, kind=kind, bound=bounds * unit, at="average")
        ends = np.sort(found.frame[["lower", "upper"]].to_numpy() / factor, axis=1)
        np.testing.assert_allclose(ends, base.frame[["lower", "upper"]].to_numpy(), rtol=1e-5)
        assert found.breakdown / unit == pytest.approx(base.breakdown, rel=1e-4)


@KINDS
def test_an_effect_moves_the_interval_by_itself(kind):
    estimate, cov, n_lead, _ = stored("benzarti_carloni")
    moved = estimate + np.where(np.arange(len(estimate)) < n_lead, 0.0, 0.7)
    options = {"kind": kind, "bound": [0, 0.3, 1], "at": "average"}
    before = intervals(study_curve(estimate, cov, n_lead), **options)
    after = intervals(study_curve(moved, cov, n_lead), **options)
    np.testing.assert_allclose(after, before + 0.7, atol=1e-6)


@KINDS
def test_the_same_curve_in_other_forms_gives_equal_intervals(kind):
    estimate, cov, n_lead, _ = stored("benzarti_carloni")
    curve = study_curve(estimate, cov, n_lead)
    bare = study_curve(estimate, cov, n_lead, reference=False)
    order = np.random.default_rng(0).permutation(len(curve))
    shuffled = EffectCurve(
        index=tuple(curve.index[j] for j in order),
        index_name="time",
        estimate=curve.estimate[order],
        cov=curve.cov[np.ix_(order, order)],
        estimand="att",
        method="TWFE",
        n_obs=500,
        df=12,
    )

    class Study:
        def __init__(self):
            self.curve = curve

    expected = intervals(curve, kind=kind)
    for form in (bare, shuffled, Study()):
        np.testing.assert_array_equal(intervals(form, kind=kind), expected)
    by_weights = intervals(curve, kind=kind, at=dict.fromkeys(range(4), 0.25))
    np.testing.assert_array_equal(intervals(curve, kind=kind, at="average"), by_weights)
    np.testing.assert_array_equal(intervals(curve, kind=kind, at={0: 1}), expected)


@KINDS
def test_breakdown_is_where_the_interval_first_holds_zero(kind):
    estimate, cov, n_lead, _ = stored("medicaid")
    curve = study_curve(estimate, cov, n_lead)
    result = honest_did(curve, kind=kind)
    b = result.breakdown
    (low, high), (low_under, _) = intervals(curve, kind=kind, bound=[b * 1.001, b * 0.999])[::-1]
    assert low <= 0 <= high
    assert low_under > 0
    holds = (result.frame["lower"] <= 0) & (result.frame["upper"] >= 0)
    np.testing.assert_array_equal(holds, result.frame["bound"] >= b)
    few = honest_did(curve, kind=kind, bound=[b / 3])  # it need not be among the bounds
    assert few.breakdown == pytest.approx(b, rel=2e-5)
    nothing = study_curve(0 * estimate, cov, n_lead)
    assert honest_did(nothing, kind=kind).breakdown == 0


def test_breakdown_beyond_every_bound_is_infinite():
    assert _breakdown(lambda m: (1.0, 2.0 + m), {}, [0.0, 1.0]) == np.inf


def test_singular_covariance_works():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 3))
    curve = study_curve(rng.normal(size=6), root @ root.T, 3)
    for kind in ("relative_magnitude", "smoothness"):
        found = intervals(curve, kind=kind)
        assert np.isfinite(found).all()
        assert (found[:, 0] < found[:, 1]).all()


def test_many_periods_work():
    estimate, cov = random_study(np.random.default_rng(0), 20, 20)
    curve = study_curve(estimate, cov, 20)
    assert np.isfinite(intervals(curve, at="average", bound=[1])).all()
    assert np.isfinite(intervals(curve, at="average", kind="smoothness")).all()


# --- bad input ------------------------------------------------------------------------------------

CURVE = study_curve([0.1, 0.0, 1.0, 1.2], 0.02 * np.eye(4), 2)


def without(*labels):
    """The curve without some event times."""
    keep = [j for j, t in enumerate(CURVE.index) if t not in labels]
    return EffectCurve(
        index=tuple(CURVE.index[j] for j in keep),
        index_name="event_time",
        estimate=CURVE.estimate[keep],
        cov=CURVE.cov[np.ix_(keep, keep)],
        estimand="att",
        method="TWFE",
        n_obs=500,
    )


def with_cov(cov):
    """The curve with another covariance."""
    return EffectCurve(**{**CURVE.to_dict(), "cov": cov})


@pytest.mark.parametrize(
    ("curve", "options", "error", "words"),
    [
        (without(-3, -2), {}, ValueError, "-2 or earlier"),
        (without(0, 1), {}, ValueError, ">= 0"),
        (without(-2), {}, ValueError, "lacks [-2]"),
        (without(0), {}, ValueError, "lacks [0]"),
        (with_cov(0.02 * np.eye(5)), {}, ValueError, "base='universal'"),
        (with_cov(np.diag([0, 1, 0, 1, 1])), {}, ValueError, "[-3, -1]"),
        (CURVE.at(0), {}, TypeError, "Effect"),
        (pd.DataFrame(), {}, TypeError, "DataFrame"),
        (EffectCurve(**{**CURVE.to_dict(), "index": tuple("abcde")}), {}, TypeError, "'a'"),
        (EffectCurve(**{**CURVE.to_dict(), "index": (-3, -2, -1, 0.5, 1)}), {}, TypeError, "0.5"),
        (CURVE, {"kind": "relative"}, ValueError, "'relative_magnitude'"),
        (CURVE, {"bound": []}, ValueError, "bound"),
        (CURVE, {"bound": [-0.1]}, ValueError, "-0.1"),
        (CURVE, {"bound": [np.nan]}, ValueError, "bound"),
        (CURVE, {"bound": ["1"]}, TypeError, "'1'"),
        (CURVE, {"at": 2}, ValueError, "0 to 1"),
        (CURVE, {"at": -2}, ValueError, "0 to 1"),
        (CURVE, {"at": "mean"}, ValueError, "'mean'"),
        (CURVE, {"at": {0: np.inf}}, ValueError, "at[0]"),
        (CURVE, {"at": {0: 0.0}}, ValueError, "other than 0"),
        (CURVE, {"at": {}}, ValueError, "other than 0"),
        (CURVE, {"at": True}, TypeError, "True"),
        (CURVE, {"at": [0, 1]}, TypeError, "weights by event time such as"),
        (CURVE, {"level": 95}, ValueError, "0.95"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(curve, options, error, words):
    with pytest.raises(error) as caught:
        honest_did(curve, **options)
    assert words in str(caught.value)


def few_units(n_units, n_treated, n_periods=20, start=14):
    """An event study of noise."""
    y = np.random.default_rng(3).normal(size=(n_units, n_periods))
    unit, time = np.indices(y.shape)
    log = pd.DataFrame({"unit": unit.ravel(), "t": time.ravel(), "y": y.ravel()})
    log["d"] = (log["unit"] < n_treated).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return event_study(log, outcome="y", unit="unit", time="t", treatment="d", start=start)


@pytest.mark.parametrize(("n_units", "n_treated"), [(12, 6), (200, 10)])
def test_smoothness_is_refused_where_units_are_no_more_than_event_times(n_units, n_treated):
    """Noise: the weights would go where the covariance is too small by chance."""
    study = few_units(n_units, n_treated)
    with pytest.raises(ValueError, match=f"19 event times by a covariance that {n_treated} "):
        honest_did(study, kind="smoothness", bound=[0])
    assert honest_did(study, bound=[0]).frame["lower"][0] < 0
    exact = EffectCurve(**{**study.curve.to_dict(), "n_clusters": None})
    if n_units == 12:  # of rank 11
        with pytest.raises(ValueError, match="the covariance is singular"):
            honest_did(exact, kind="smoothness", bound=[0])


def test_smoothness_warns_of_few_units_beside_event_times():
    with pytest.warns(EstimationWarning, match="that 25 treated units or clusters tell"):
        honest_did(few_units(50, 25), kind="smoothness", bound=[0])
    assert honest_did(few_units(400, 200), kind="smoothness", bound=[0]).frame["lower"][0] < 0


def test_results_answer_at_their_own_level():
    result = honest_did(CURVE, bound=[1], level=0.8)
    assert result.conf_int() == result.original == result.effect.conf_int(0.8)
    assert result.conf_int(0.95) == result.effect.conf_int(0.95)
    assert (result.to_frame()["low"][0], result.to_frame()["high"][0]) == result.original


# --- the result -----------------------------------------------------------------------------------


@KINDS
def test_result_comes_back_from_json_and_draws(kind):
    result = honest_did(CURVE, kind=kind, at={0: 0.5, 1: 0.5}, bound=[0, 1, 0.5, 1], level=0.9)
    assert result.frame["bound"].tolist() == [0, 0.5, 1]
    again = HonestDid.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    assert isinstance(again.effect, Effect)
    assert again.effect.df is None
    assert again.estimate == pytest.approx(1.1)
    ax = again.plot()
    assert "n = 500" in ax.get_title(loc="left")
    assert ax.get_xlabel()


def test_summary_tells_intervals_and_breakdown():
    result = honest_did(CURVE, bound=[1])
    lines = result.summary().splitlines()
    assert len(lines) == 3
    assert lines[0] == result.effect.summary()
    assert lines[1].startswith("  bound 1: ")
    assert f"{result.breakdown:.3g}" in lines[2]
    nothing = study_curve(np.zeros(4), 0.02 * np.eye(4), 2)
    assert "cannot be told" in honest_did(nothing).summary()


# --- coverage -------------------------------------------------------------------------------------


def edge_of_the_set(n_lead, n_lag, bound, jump, shape):
    """Leads and lags of a difference in trends whose every change after treatment is the largest.

    shape "last": only the last change before treatment is of that size; "all": every one.
    """
    before = np.full(n_lead, jump if shape == "all" else 0.0)
    before[-1] = jump
    path = np.concatenate(
        [[0.0], np.cumsum(np.concatenate([before, np.full(n_lag, bound * jump)]))]
    )
    return np.delete(path - path[n_lead], n_lead)


@pytest.mark.coverage_study
@pytest.mark.parametrize("bound", [0.5, 1.0])
@pytest.mark.parametrize("shape", ["last", "all"])
@pytest.mark.parametrize("jump", [0.0, 1.0, 4.0])
def test_relative_magnitude_covers_at_the_edge_of_its_set(bound, shape, jump):
    """Refusals of the true value 0, by the tests whose intervals the hull is made of."""
    n_lead, n_lag, runs = 3, 2, 1500
    rng = np.random.default_rng(11)
    _, cov = random_study(rng, n_lead, n_lag)
    weights = np.array([0.0, 1.0])
    delta = edge_of_the_set(n_lead, n_lag, bound, jump * np.sqrt(cov[2, 2]), shape)
    draws = rng.multivariate_normal(delta, cov, size=runs)
    limits = [least_favourable(m.cov, 0.995) for m in _polyhedra(draws[0], cov, weights, bound)]
    covered = 0
    for b in draws:
        polyhedra = zip(_polyhedra(b, cov, weights, bound), limits, strict=True)
        covered += any(
            m.reach(limit)[0] <= 0 <= m.reach(limit)[1]
            and bool(allows(m, np.zeros(1), limit, 0.045 / 0.995)[0])
            for m, limit in polyhedra
        )
    assert covered / runs >= 0.94 - 2 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.coverage_study
def test_smoothness_covers_at_the_worst_trend():
    rng = np.random.default_rng(5)
    _, cov = random_study(rng, 3, 2)
    bend = 0.5 * np.sqrt(cov[2, 2])
    times = np.array([-3, -2, -1, 1, 2])
    delta = bend * times**2 / 2 * np.sign(times) ** 2 + 0.3 * times  # every bend is the largest
    draws = rng.multivariate_normal(delta, cov, size=4000)
    path = frontier(cov, np.array([1.0, 0.0]), 3)
    low, high = path.interval(np.zeros(5), bend, 0.95)
    centre = np.array([sum(path.interval(b, bend, 0.95)) / 2 for b in draws[:400]])
    covered = (np.abs(centre) <= (high - low) / 2).mean()
    assert covered >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 400)


def test_interval_holds_what_its_tests_allow():
    estimate, cov, _, _ = stored("benzarti_carloni")
    weights = np.array([1.0, 0, 0, 0])
    low, high = relative_magnitude_interval(estimate, cov, weights, 1.0, level=0.95)
    grid = np.linspace(low - 0.05, high + 0.05, 4001)
    allowed = np.zeros(len(grid), dtype=bool)
    for moments in _polyhedra(estimate, cov, weights, 1.0):
        limit = least_favourable(moments.cov, 0.995)
        ends = moments.reach(limit)
        inside = (ends[0] <= grid) & (grid <= ends[1])
        allowed |= inside & allows(moments, grid, limit, 0.045 / 0.995)
    step = grid[1] - grid[0]
    assert grid[allowed].min() == pytest.approx(low, abs=step)
    assert grid[allowed].max() == pytest.approx(high, abs=step)
