"""Quantile differences: ranks, standard errors, exact coverage, GrowthBook's numbers."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from ab_tables import REFERENCE, log
from scipy import stats

from causal.effect import EstimationWarning
from experiments import Quantile, ab_test

Z = stats.norm.ppf(0.975)


def two_arms(y0, y1=None):
    y1 = y0 if y1 is None else y1
    return pd.DataFrame({"arm": [0] * len(y0) + [1] * len(y1), "y": [*y0, *y1]})


def ranks(n, q, sigma):
    """Ranks l and u of the order statistics whose distance gives the standard error."""
    return math.ceil(n * (q - Z * sigma)), math.ceil(n * (q + Z * sigma))


def expected(y, q, sigma):
    """Quantile and its standard error from the definition."""
    ordered = np.sort(y)
    low, high = ranks(len(y), q, sigma)
    return ordered[math.ceil(len(y) * q - 1e-9) - 1], (ordered[high - 1] - ordered[low - 1]) / (
        2 * Z
    )


@pytest.mark.parametrize("q", [0.4, 0.5, 0.6])
def test_quantile_interval_of_twelve_rows_has_exact_binomial_coverage_near_its_level(q):
    # distances between powers of two tell which pair of order statistics was taken
    y = 2.0 ** np.arange(12)
    effect = ab_test(two_arms(y), metric=Quantile("y", q), arm="arm")
    width = 2 * Z * math.sqrt(effect.baseline_variance)
    low, high = next(
        (a, b)
        for a, b in itertools.combinations(range(12), 2)
        if math.isclose(y[b] - y[a], width, rel_tol=1e-9)
    )
    covered = 0.0
    for below in itertools.product((False, True), repeat=12):  # all 4,096 samples of hits
        k = sum(below)
        quantile = (y[k - 1] if k else 0.5) * 1.5  # a population quantile with k rows below it
        if y[low] <= quantile < y[high]:
            covered += q**k * (1 - q) ** (12 - k)
    assert covered == pytest.approx(
        stats.binom.cdf(high, 12, q) - stats.binom.cdf(low, 12, q), rel=1e-12
    )
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize("q", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("n", [97, 100, 400])
def test_quantile_difference_is_that_of_order_statistics(q, n):
    rng = np.random.default_rng(n)
    y0, y1 = rng.lognormal(size=n), rng.lognormal(0.3, size=n + 9)
    effect = ab_test(two_arms(y0, y1), metric=Quantile("y", q), arm="arm")
    (v0, s0), (v1, s1) = (expected(y, q, math.sqrt(q * (1 - q) / len(y))) for y in (y0, y1))
    assert effect.estimate == v1 - v0
    assert effect.baseline == v0
    assert effect.std_error == pytest.approx(math.hypot(s0, s1), rel=1e-12)
    assert effect.baseline_variance == pytest.approx(s0**2, rel=1e-12)
    assert effect.baseline_cov == -effect.baseline_variance
    assert effect.estimand == f"difference in p{100 * q:g}"
    assert effect.df is None


def test_quantile_with_clusters_takes_the_variance_of_the_share_below():
    frame = log()
    effect = ab_test(frame, metric=Quantile("watch_s", 0.6), arm="arm", cluster="viewer_id")
    variance = []
    for a in (0, 1):
        part = frame[frame["arm"] == a]
        value = np.sort(part["watch_s"])[math.ceil(0.6 * len(part) - 1e-9) - 1]
        hit = (part["watch_s"] <= value).groupby(part["viewer_id"]).sum()
        size = part.groupby("viewer_id").size()
        residual = hit - hit.sum() / size.sum() * size
        g = len(size)
        sigma = math.sqrt(np.sum(residual**2) * g / (g - 1)) / len(part)
        variance.append(expected(part["watch_s"], 0.6, sigma)[1] ** 2)
    assert effect.std_error**2 == pytest.approx(sum(variance), rel=1e-12)
    assert effect.n_clusters == frame["viewer_id"].nunique()
    assert effect.method == "order statistics, clusters viewer_id"


def test_quantile_of_clusters_of_one_row_is_that_of_rows():
    frame = two_arms(np.random.default_rng(1).normal(size=150)).assign(c=lambda f: f.index)
    plain = ab_test(frame, metric=Quantile("y", 0.5), arm="arm")
    clustered = ab_test(frame, metric=Quantile("y", 0.5), arm="arm", cluster="c")
    assert clustered.std_error == pytest.approx(plain.std_error, rel=0.1)  # ranks are whole numbers
    assert clustered.estimate == plain.estimate


def test_quantile_per_unit_ranks_sums():
    frame = log()
    table = frame.groupby(["viewer_id", "arm"], as_index=False)["watch_s"].sum()
    effect = ab_test(frame, metric=Quantile("watch_s", 0.9, per="viewer_id"), arm="arm")
    direct = ab_test(table, metric=Quantile("watch_s", 0.9), arm="arm")
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
    assert effect.std_error == pytest.approx(direct.std_error, rel=1e-12)


@pytest.mark.parametrize(("q", "n"), [(0.999, 200), (0.001, 200), (0.5, 3)])
def test_quantile_of_too_few_rows_is_refused(q, n):
    with pytest.raises(ValueError, match=f"{n} records are too few for the {q:g} quantile"):
        ab_test(two_arms(np.arange(float(n))), metric=Quantile("y", q), arm="arm")


def test_quantile_of_one_cluster_in_an_arm_is_refused():
    frame = two_arms(np.arange(100.0)).assign(c=lambda f: f["arm"])
    with pytest.raises(ValueError, match="at least 2 clusters"):
        ab_test(frame, metric=Quantile("y", 0.5), arm="arm", cluster="c")


def test_quantile_warns_where_ties_leave_no_width():
    y = np.r_[np.zeros(80), np.arange(20.0)]
    with pytest.warns(EstimationWarning, match=r"ties at 0 make .* width 0") as caught:
        effect = ab_test(two_arms(y), metric=Quantile("y", 0.5), arm="arm")
    assert len(caught) == 2  # one for each arm
    assert effect.std_error == 0


def test_quantile_refuses_triggers():
    with pytest.raises(ValueError, match="no trigger"):
        ab_test(log(), metric=Quantile("watch_s", 0.5), arm="arm", trigger="touched")


@pytest.mark.reference
@pytest.mark.parametrize("case", REFERENCE["gbstats"], ids=lambda c: f"q{c['q']}")
def test_quantile_equals_gbstats(case):
    # GrowthBook multiplies the variance by (n - 1) / n and by n, to divide by n later
    y, q, n = np.array(case["y"]), case["q"], len(case["y"])
    effect = ab_test(two_arms(y), metric=Quantile("y", q), arm="arm")
    assert effect.baseline == case["quantile"]
    assert effect.baseline_variance * (n - 1) == pytest.approx(case["variance"], rel=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("case", REFERENCE["gbstats"], ids=lambda c: f"q{c['q']}")
def test_quantile_by_cluster_uses_gbstats_variance_of_the_share(case):
    # GrowthBook inflates the variance of independent rows by it; here the ranks widen instead
    frame = two_arms(case["y"])
    frame["c"] = (np.arange(len(frame)) // case["per_cluster"]).astype(int)
    effect = ab_test(frame, metric=Quantile("y", case["q"]), arm="arm", cluster="c")
    value, error = expected(case["y"], case["q"], math.sqrt(case["cluster_variance"]))
    assert effect.baseline == value
    assert effect.baseline_variance == pytest.approx(error**2, rel=1e-9)


def test_quantile_of_clusters_in_both_arms_takes_what_they_share():
    rng = np.random.default_rng(0)
    estimates, errors = [], []
    for _ in range(200):
        group = np.repeat(np.arange(60), 40)
        y = rng.normal(0, 1.5, 60)[group] + rng.normal(size=len(group))
        frame = pd.DataFrame({"g": group, "arm": rng.integers(0, 2, len(group)), "y": y})
        effect = ab_test(frame, metric=Quantile("y", 0.5), arm="arm", cluster="g")
        estimates.append(effect.estimate)
        errors.append(effect.std_error)
    assert effect.n_clusters == 60
    assert np.mean(errors) == pytest.approx(np.std(estimates, ddof=1), rel=3.3 / np.sqrt(400))


def test_quantile_per_unit_in_both_arms_is_linked():
    unit, arm = np.repeat(np.arange(301), 2), np.tile([0, 1], 301)
    y = np.random.default_rng(0).exponential(size=301)[unit]
    frame = pd.DataFrame({"u": unit, "arm": arm, "y": y})
    effect = ab_test(frame, metric=Quantile("y", 0.5, per="u"), arm="arm")
    assert (effect.estimate, effect.std_error) == (0.0, pytest.approx(0.0, abs=1e-9))
    assert effect.n_clusters == 301
