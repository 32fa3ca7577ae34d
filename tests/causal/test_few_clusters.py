"""`few_cluster_test` against refits of every draw, and its size with six clusters."""

from __future__ import annotations

import itertools
import json
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from causal import ClusterTest, EstimationWarning, diff_in_diff, few_cluster_test
from causal.did import cluster_draws

mpl.use("Agg")

ROLES = {"outcome": "gmv", "unit": "id", "time": "week", "cluster": "city"}
COMMON = {**ROLES, "treatment": "live", "start": 3}


def log(n_cities=6, n_treated=3, *, each=3, n_weeks=6, gaps=0.15, seed=0, effect=0.0):
    """Cities with shocks of their own that last; some rows are missing."""
    rng = np.random.default_rng(seed)
    shock = rng.normal(size=(n_cities, n_weeks))
    for week in range(1, n_weeks):
        shock[:, week] = 0.6 * shock[:, week - 1] + 0.8 * shock[:, week]
    unit, week = (at.ravel() for at in np.indices((n_cities * each, n_weeks)))
    city = unit % n_cities
    live = (city < n_treated).astype(int)
    gmv = shock[city, week] + rng.normal(size=n_cities * each)[unit] + rng.normal(size=len(unit))
    frame = pd.DataFrame({"id": unit, "week": week, "city": city, "live": live, "gmv": gmv})
    frame["gmv"] += effect * live * (week >= 3)
    return frame[rng.random(len(frame)) >= gaps]


class Dense:
    """Refits with dummies of all units and weeks."""

    def __init__(self, frame, start=3):
        self.city = frame["city"].to_numpy()
        self.n_cities = self.city.max() + 1
        self.week, self.start = frame["week"].to_numpy(), start
        self.x = self.treated(frame["live"].to_numpy())
        units, weeks = (pd.get_dummies(frame[name]).to_numpy(float) for name in ("id", "week"))
        self.effects = np.hstack([units, weeks[:, 1:]])
        self.y = frame["gmv"].to_numpy()

    def treated(self, live):
        return live * (self.week >= self.start) * 1.0

    def beside(self, y):
        return y - self.effects @ np.linalg.lstsq(self.effects, y, rcond=None)[0]

    def estimate(self, y, x=None):
        x = self.beside(self.x if x is None else x)
        return x @ y / (x @ x)

    def t(self, y, null):
        """Of CR1 up to its factor."""
        x = self.beside(self.x)
        estimate = self.estimate(y)
        resid = self.beside(y - estimate * self.x)
        scores = np.bincount(self.city, x * resid, self.n_cities)
        return (estimate - null) * (x @ x) / np.sqrt(scores @ scores)

    def wild_p(self, null, weights):
        rest = self.beside(self.y - null * self.x)
        fitted = self.y - rest
        own = abs(self.t(self.y, null))
        found = [abs(self.t(fitted + np.array(v)[self.city] * rest, null)) for v in weights]
        return np.mean(np.array(found) >= own * (1 - 1e-8))

    def permutation_p(self, null, labels):
        y = self.y - null * self.x
        own = abs(self.estimate(y))
        every = set(itertools.permutations(labels))
        found = [abs(self.estimate(y, self.treated(np.array(p)[self.city]))) for p in every]
        return np.mean(np.array(found) >= own * (1 - 1e-8))


# ---- exact: refits ----


@pytest.mark.parametrize("null", [0.0, 0.8])
@pytest.mark.parametrize("n_treated", [2, 3])
@pytest.mark.filterwarnings("ignore:.* of them treated")
def test_wild_p_by_enumeration_equals_refits(null, n_treated):
    frame = log(n_treated=n_treated, seed=n_treated)
    found = few_cluster_test(frame, **COMMON, null=null)
    signs = itertools.product([-1, 1], repeat=6)
    assert found.exact
    assert found.n_draws == 64
    assert found.p_value == pytest.approx(Dense(frame).wild_p(null, signs), abs=1e-12)


@pytest.mark.filterwarnings("ignore:.* of them treated")
def test_wild_p_with_six_points_equals_refits():
    frame = log(n_cities=4, n_treated=2, each=2)
    found = few_cluster_test(frame, **COMMON, multiplier="webb")
    points = [sign * np.sqrt(s) for sign in (-1, 1) for s in (0.5, 1, 1.5)]
    assert found.n_draws == 6**4
    p = Dense(frame).wild_p(0.0, itertools.product(points, repeat=4))
    assert found.p_value == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("null", [0.0, -0.5])
def test_permutation_p_equals_refits(null):
    frame = log(n_cities=7, n_treated=2, seed=4)
    found = few_cluster_test(frame, **COMMON, null=null, method="permutation", level=0.9)
    assert found.n_draws == 21
    p = Dense(frame).permutation_p(null, [1, 1, 0, 0, 0, 0, 0])
    assert found.p_value == pytest.approx(p, abs=1e-12)


def test_permutation_deals_cohorts():
    """Three kinds of cities, gaps, treated at two times: 4!/2! ways to deal them."""
    frame = log(n_cities=4, n_treated=2, each=4, seed=5)
    frame["cohort"] = frame["city"].map({0: 2.0, 1: 4.0})
    found = few_cluster_test(frame, **ROLES, cohort="cohort", method="permutation", level=0.5)
    assert found.n_draws == 12
    dense = Dense(frame)
    starts, estimates = np.array([2, 4, 99, 99]), []
    for dealt in sorted(set(itertools.permutations(starts.tolist()))):
        x = (dense.week >= np.array(dealt)[dense.city]) * 1.0
        estimates.append(dense.estimate(dense.y, x))
    own = dense.estimate(dense.y, (dense.week >= starts[dense.city]) * 1.0)
    assert found.estimate == pytest.approx(own, rel=1e-9)
    np.testing.assert_allclose(np.sort(found.draws), np.sort(estimates), rtol=1e-8)
    assert found.p_value == pytest.approx(np.mean(np.abs(estimates) >= abs(own) * (1 - 1e-9)))


@pytest.mark.filterwarnings("ignore:.* clusters")
def test_estimate_and_error_are_those_of_diff_in_diff():
    frame = log(n_cities=8, n_treated=4)
    found, expected = few_cluster_test(frame, **COMMON), diff_in_diff(frame, **COMMON)
    np.testing.assert_allclose(found.estimate, expected.estimate, rtol=1e-9)
    np.testing.assert_allclose(found.std_error, expected.std_error, rtol=1e-9)
    assert found.statistic == pytest.approx(expected.estimate / expected.std_error)
    assert found.effect.details["k"] == expected.details["k"]


# ---- the interval ----


@pytest.mark.parametrize("method", ["wild", "permutation"])
@pytest.mark.parametrize(("n_cities", "n_draws"), [(8, 999), (24, 499)])
@pytest.mark.filterwarnings("ignore:.* of them treated")
def test_interval_holds_what_is_not_rejected(method, n_cities, n_draws):
    frame = log(n_cities=n_cities, n_treated=n_cities // 2, seed=2)
    given = {"method": method, "n_draws": n_draws, "level": 0.9}
    found = few_cluster_test(frame, **COMMON, **given)
    low, high = found.conf_int()
    assert low < found.estimate < high
    for end, away in ((low, -1), (high, 1)):
        inside = few_cluster_test(frame, **COMMON, **given, null=end - away * 1e-4)
        outside = few_cluster_test(frame, **COMMON, **given, null=end + away * 1e-4)
        assert outside.p_value <= 0.1 < inside.p_value


def test_the_estimate_itself_is_never_rejected():
    frame = log(n_cities=8, n_treated=5)
    estimate = few_cluster_test(frame, **COMMON).estimate
    found = few_cluster_test(frame, **COMMON, null=estimate)
    assert found.p_value == 1
    assert found.statistic == pytest.approx(0, abs=1e-12)


def test_without_a_small_enough_p_the_interval_is_infinite():
    with pytest.warns(EstimationWarning, match=r"5 clusters, 2 .* no p-value below 0.0625"):
        found = few_cluster_test(log(n_cities=5, n_treated=2), **COMMON)
    assert found.conf_int() == (-np.inf, np.inf)
    with pytest.warns(EstimationWarning, match=r"no p-value below 0\.1: .*lower level"):
        found = few_cluster_test(log(), **COMMON, method="permutation")  # and its mirror image
    assert found.conf_int() == (-np.inf, np.inf)
    assert ClusterTest.from_dict(json.loads(json.dumps(found.to_dict()))) == found


# ---- property ----


@pytest.mark.parametrize("method", ["wild", "permutation"])
@pytest.mark.parametrize("n_cities", [8, 24])
def test_the_test_follows_the_units_of_the_outcome(method, n_cities):
    frame = log(n_cities=n_cities, n_treated=n_cities - 3 if method == "wild" else 3)
    given = {"method": method, "n_draws": 499, "seed": 3}
    one = few_cluster_test(frame, **COMMON, **given)
    moved = frame.sample(frac=1, random_state=1)
    for scale in (1e3, -1e150):
        other = few_cluster_test(moved.assign(gmv=scale * moved["gmv"]), **COMMON, **given)
        assert other.p_value == one.p_value
        np.testing.assert_allclose(np.sort(np.divide(other.conf_int(), scale)), one.conf_int())
        np.testing.assert_allclose(other.estimate, scale * one.estimate)
    shifted = moved.assign(gmv=moved["gmv"] + 2.0**20 + moved["id"] + 10 * moved["week"])
    other = few_cluster_test(shifted, **COMMON, **given)
    assert other.p_value == one.p_value
    np.testing.assert_allclose(other.conf_int(), one.conf_int(), rtol=1e-6)


def test_draws_depend_on_the_seed_only():
    frame = log(n_cities=20, n_treated=8)
    one, two, other = (
        few_cluster_test(frame, **COMMON, n_draws=199, seed=seed) for seed in (1, 1, 2)
    )
    assert (one.draws == two.draws).all()
    assert (one.draws != other.draws).any()
    assert not one.exact
    assert 1 / 200 <= one.p_value <= 1


def test_labels_of_clusters_may_be_text():
    frame = log(n_cities=8, n_treated=5)
    text = frame.assign(city="city " + frame["city"].astype(str), id="u" + frame["id"].astype(str))
    assert few_cluster_test(text, **COMMON).p_value == few_cluster_test(frame, **COMMON).p_value


def test_the_unit_may_be_the_cluster():
    frame = log(n_cities=9, n_treated=5)
    by_unit = few_cluster_test(frame, **{**COMMON, "cluster": "id"}, n_draws=199)
    assert by_unit.effect.n_clusters == frame["id"].nunique()


# ---- the result ----


def test_result_shows_itself():
    found = few_cluster_test(log(n_cities=8, n_treated=5, effect=3.0), **COMMON)
    low, high = found.conf_int(0.95)
    row = found.to_frame().iloc[0]
    assert (row["low"], row["high"], row["p_value"]) == (low, high, found.p_value)
    assert "all 256 sign vectors" in found.summary()
    assert "8 clusters" in str(found)
    assert ClusterTest.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(ValueError, match=r"inverted at level 0\.95; got 0\.9"):
        found.conf_int(0.9)
    for result in (found, ClusterTest.from_dict(json.loads(json.dumps(found.to_dict())))):
        ax = result.plot()
        assert "draw" in ax.get_xlabel()
        mpl.pyplot.close(ax.figure)


# ---- what is refused, and what warns ----


def test_bad_input_is_named():
    frame = log(n_cities=8, n_treated=5)
    with pytest.raises(ValueError, match="method must be one of"):
        few_cluster_test(frame, **COMMON, method="wald")
    with pytest.raises(ValueError, match="multiplier must be one of"):
        few_cluster_test(frame, **COMMON, multiplier="mammen")
    with pytest.raises(ValueError, match="n_draws must be a whole number >= 99"):
        few_cluster_test(frame, **COMMON, n_draws=10)
    with pytest.raises(ValueError, match="level must be in"):
        few_cluster_test(frame, **COMMON, level=95)
    with pytest.raises(ValueError, match="null must be finite"):
        few_cluster_test(frame, **COMMON, null=np.nan)
    with pytest.raises(ValueError, match="at least 2 clusters"):
        few_cluster_test(frame.assign(city=1), **COMMON)
    mixed = frame.assign(live=frame["id"] // 8 % 2)
    with pytest.raises(ValueError, match=r"8 clusters of 'city' differ within, e\.g\. 0, 1, 2"):
        few_cluster_test(mixed, **COMMON, method="permutation")
    assert few_cluster_test(mixed, **COMMON).exact
    exact = frame.assign(gmv=frame["live"] * (frame["week"] >= 3) + 2.0 * frame["id"])
    with pytest.raises(ValueError, match="do not fit exactly"):
        few_cluster_test(exact, **COMMON)
    together = frame.assign(cohort=3)
    with pytest.raises(ValueError, match="at least one unit must be a control"):
        few_cluster_test(together, **ROLES, cohort="cohort")


def test_few_treated_clusters_warn_with_both_figures():
    with pytest.warns(EstimationWarning, match="8 clusters, 2 of them treated: .*permutation"):
        few_cluster_test(log(n_cities=8, n_treated=2), **COMMON)
    with pytest.warns(EstimationWarning, match="one treated cluster.*synthetic_control"):
        few_cluster_test(log(n_cities=8, n_treated=1), **COMMON)
    found = few_cluster_test(log(n_cities=21, n_treated=1), **COMMON, method="permutation")
    assert found.effect.details["least_p_value"] == pytest.approx(1 / 21)


def test_all_draws_are_taken_where_they_are_few(monkeypatch):
    monkeypatch.setattr(cluster_draws, "_ENUMERATED", 16)
    frame = log(n_cities=8, n_treated=5)
    assert not few_cluster_test(frame, **COMMON, n_draws=255).exact
    assert few_cluster_test(frame, **COMMON, n_draws=256).exact


# ---- coverage study D3: six clusters, two treated ----


@pytest.mark.coverage_study
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* clusters")
def test_six_clusters_reject_too_often_by_cr1_but_not_by_cr2_or_wild():
    n = 300
    rejected = np.zeros(3)
    for seed in range(n):
        frame = log(n_treated=2, each=4, gaps=0.0, seed=seed)
        p = [
            diff_in_diff(frame, **COMMON).p_value,
            diff_in_diff(frame, **COMMON, covariance="CR2").p_value,
            few_cluster_test(frame, **COMMON).p_value,
        ]
        rejected += np.array(p) <= 0.05
    by_cr1, by_cr2, wild = rejected / n
    error = np.sqrt(0.05 * 0.95 / n)
    assert by_cr1 > 0.05 + 3 * error
    assert by_cr2 < 0.05 + 2 * error
    assert wild < 0.05 + 2 * error


def test_few_cluster_test_warns_of_several_cohorts_as_diff_in_diff_does():
    frame = log(n_cities=12, each=4, n_weeks=10).drop(columns="live")
    for late, several in ((8, True), (3, False)):
        frame["start"] = np.array([2.0, late, np.inf])[frame["city"] % 3]
        said = []
        for estimator in (few_cluster_test, diff_in_diff):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator(frame, **ROLES, cohort="start")
            said.append([str(w.message) for w in caught if "negative" in str(w.message)])
        assert said[0] == said[1]
        assert len(said[0]) == several
