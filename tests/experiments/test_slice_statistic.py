"""The contrast of windows: against every path of the coins, brute force and statsmodels."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rotation_logs import by_points, reading

from experiments import switchback_effect, switchback_variance
from experiments.rotations.slice_errors import cluster_errors
from experiments.rotations.slice_readings import fit_windows
from experiments.rotations.slice_readouts import first_bound
from experiments.rotations.slice_statistic import contrasts, fitted, horvitz_thompson

EXACT = 1e-10
REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "switchback.json").read_text())


@st.composite
def rotations(draw):
    n = draw(st.integers(4, 12))
    m = draw(st.integers(0, 3))
    inner = draw(st.sets(st.integers(2, n), min_size=1, max_size=7))
    return n, m, [1, *sorted(inner)]


def mixed_coins(k):
    """Coins of both arms, so that a log can be read."""
    return [j % 2 for j in range(k)]


def window_means(windows, block, n, m, values):
    """Means of a path over windows."""
    found = np.bincount(block, values[m:], len(windows.size)) / np.bincount(block)
    return replace(windows, outcome=found)


@given(rotation=rotations(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_horvitz_thompson_has_the_mean_variance_and_bound_of_every_path(rotation, seed):
    n, m, points = rotation
    rng = np.random.default_rng(seed)
    treated, control = rng.normal(2, 1, n), rng.normal(0, 1, n)
    found = reading(by_points(points, n, mixed_coins(len(points))), carryover=m, points=points,
                    periods=True)  # fmt: skip
    windows = found.windows
    estimates, bounds, firsts = [], [], []
    for coins in itertools.product((0, 1), repeat=len(points)):
        path = np.array([coins], dtype=np.int8)
        share = windows.treated_coins(path)[0]
        outcome = np.select(
            [share[found.code] == 1, share[found.code] == 0],
            [treated[m:], control[m:]],
            rng.normal(0, 50, n - m),  # junk wherever a window is mixed
        )
        sums = np.bincount(found.code, outcome) / np.bincount(found.code)
        here = replace(windows, outcome=sums)
        one = horvitz_thompson(path, here, centre=0.0, dose=share)
        estimates.append(one.slope[0])
        bounds.append(one.square[0])
        rotation_here = replace(
            found.rotation,
            coins=replace(found.coins, arm=path[0]),
            cells=replace(found.rotation.cells, centre=0.0),
        )
        firsts.append(first_bound(replace(found, windows=here, rotation=rotation_here)))
    wanted = switchback_variance(treated, control, points=points, carryover=m)
    assert np.mean(estimates) == pytest.approx((treated - control)[m:].mean(), abs=EXACT)
    assert np.var(estimates) == pytest.approx(wanted.exact, rel=EXACT, abs=EXACT)
    assert np.mean(bounds) == pytest.approx(wanted.bound_2, rel=EXACT)
    assert np.mean(firsts) == pytest.approx(wanted.bound_1, rel=EXACT)


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize("m", [0, 1, 2])
def test_horvitz_thompson_effect_is_the_published_sum(m):
    points, n = [1, 4, 6, 7, 11, 13, 17, 19], 22
    coins = [1, 0, 0, 1, 1, 0, 0, 1]
    log = by_points(points, n, coins)
    epoch = np.searchsorted(points, log["t"], side="right") - 1
    total = 0.0
    for t in range(m, n):
        window = sorted(set(epoch[t - m : t + 1]))
        arms = [coins[e] for e in window]
        total += log["y"][t] * (all(arms) - (not any(arms))) * 2.0 ** len(window)
    roles = {"outcome": "y", "treatment": "arm", "time": "t", "points": points, "carryover": m}
    found = switchback_effect(
        log, method="horvitz_thompson", inference="conservative", adjust=None, **roles
    )
    assert found.estimate == pytest.approx(total / (n - m), rel=EXACT)
    assert found.std_error**2 == pytest.approx(found.effect.details["bound_2"], rel=EXACT)


@pytest.mark.parametrize("m", [0, 1, 2])
def test_hajek_conservative_error_covers_the_variance_over_every_path(m):
    points, n = [*range(1, 31, 3)], 30
    rng = np.random.default_rng(m)
    control = rng.normal(0, 1, n)
    found = reading(by_points(points, n, mixed_coins(10)), carryover=m, points=points)
    paths = np.array(list(itertools.product((0, 1), repeat=10)), dtype=np.int8)
    estimates, squares = [], []
    for path in paths:
        share = found.windows.treated_coins(path[None, :])[0]
        outcome = control[m:] + share[found.code]  # a constant effect
        sums = np.bincount(found.code, outcome) / np.bincount(found.code)
        fit = fitted(path, replace(found.windows, outcome=sums))
        if fit is not None:
            estimates.append(fit.estimate)
            squares.append(found.windows.kappa @ fit.scores**2)
    assert np.mean(estimates) == pytest.approx(1.0, abs=0.1)
    ratio = np.mean(squares) / np.var(estimates)
    assert (0.95 if m == 0 else 1.0) <= ratio <= (1.15 if m == 0 else 6.0)


def brute_force(path, windows):
    """Weighted least squares with dummies, by the normal equations."""
    share = windows.treated_coins(path[None, :])[0]
    use = np.flatnonzero((share == 0) | (share == 1))
    weight = windows.size[use] / windows.chance[use]
    strata = np.eye(windows.stratum.max() + 1)[windows.stratum[use]]
    X = np.column_stack([share[use], strata[:, strata.any(axis=0)], windows.covariates[use]])
    bread = np.linalg.pinv(X.T @ (weight[:, None] * X))
    coef = bread @ X.T @ (weight * windows.outcome[use])
    e = windows.outcome[use] - X @ coef
    leverage = weight * np.einsum("ij,jk,ik->i", X, bread, X)
    lever = (bread @ (X * weight[:, None]).T)[0]
    free = np.where(1 - leverage > 1e-9, 1 - leverage, np.inf)
    return coef[0], windows.kappa[use] @ (lever**2 * e**2 / free)


@pytest.mark.parametrize("n_covariates", [0, 2])
@pytest.mark.parametrize("m", [0, 2])
def test_contrasts_of_many_paths_are_weighted_least_squares_on_each(m, n_covariates):
    points, n = [*range(1, 61, 4)], 60
    found = reading(by_points(points, n, mixed_coins(15)), carryover=m, points=points)
    rng = np.random.default_rng(0)
    windows = replace(
        found.windows,
        stratum=rng.integers(0, 2, len(found.windows.size)),
        covariates=rng.normal(size=(len(found.windows.size), n_covariates)),
    )
    paths = rng.integers(0, 2, (60, 15)).astype(np.int8)
    many = contrasts(paths, windows, dose=found.dose())
    checked = 0
    for j in np.flatnonzero(many.valid):
        slope, square = brute_force(paths[j], windows)
        assert many.slope[j] == pytest.approx(slope, rel=1e-9)
        assert many.square[j] == pytest.approx(square, rel=1e-8)
        checked += 1
    assert checked > 20


def test_fitted_and_contrasts_agree():
    points, n = [*range(1, 61, 4)], 60
    found = reading(by_points(points, n, mixed_coins(15)), carryover=1, points=points)
    one = fitted(found.coins.arm, found.windows)
    many = contrasts(found.coins.arm[None, :], found.windows, dose=found.dose())
    assert one.estimate == pytest.approx(many.slope[0], rel=EXACT)
    assert found.windows.kappa @ one.scores**2 == pytest.approx(many.square[0], rel=EXACT)
    assert many.dose[0] == pytest.approx(1.0, abs=EXACT)
    assert abs(many.mixed[0]) + many.dose_square[0] < EXACT


# ---- statsmodels: the stored numbers are of make_switchback.py ----


def stored_log():
    return pd.DataFrame(REFERENCE["log"])


def stored(**options):
    return switchback_effect(
        stored_log(), outcome="y", treatment="arm", time="t", points=REFERENCE["points"], **options
    )


@pytest.mark.reference
def test_switchback_effect_equals_statsmodels_on_slice_means():
    wanted = REFERENCE["hc2"]
    found = stored(inference="conservative", adjust=None, covariates=["x"])
    assert found.estimate == pytest.approx(wanted["estimate"], rel=1e-8)
    assert found.std_error == pytest.approx(wanted["std_error"], rel=1e-8)


@pytest.mark.reference
def test_cluster_errors_with_cr1_equal_statsmodels():
    reading_ = reading(stored_log(), points=REFERENCE["points"], adjusted=False)
    fit = fit_windows(reading_)
    found = cluster_errors(reading_, fit, kind="CR1")
    assert fit.estimate == pytest.approx(REFERENCE["cr1"]["estimate"], rel=1e-8)
    assert found.std_error == pytest.approx(REFERENCE["cr1"]["std_error"], rel=1e-8)


@pytest.mark.reference
def test_hac_errors_equal_statsmodels_over_periods():
    found = stored(inference="hac", adjust=None)
    wanted = REFERENCE["hac"]
    assert found.effect.method.endswith(f"Newey-West, {wanted['lags']} lags")
    assert found.std_error == pytest.approx(wanted["std_error"], rel=1e-8)


@pytest.mark.reference
def test_distributed_lag_equals_statsmodels():
    found = stored(method="distributed_lag", carryover=2, inference="hac", adjust=None)
    wanted = REFERENCE["distributed_lag"]
    assert found.estimate == pytest.approx(wanted["estimate"], rel=1e-8)
    assert found.std_error == pytest.approx(wanted["std_error"], rel=1e-8)
    np.testing.assert_allclose(found.lags.estimate, wanted["lags"], rtol=1e-8)
    np.testing.assert_allclose(found.lags.std_error, wanted["lag_errors"], rtol=1e-8)


def test_cluster_error_is_the_sandwich_where_slices_weigh_alike():
    log = by_points([*range(1, 81, 4)], 80, mixed_coins(20))
    roles = {"outcome": "y", "treatment": "arm", "time": "t", "slice_minutes": 4}
    one, other = (
        switchback_effect(log, inference=name, **roles) for name in ("cluster", "conservative")
    )
    assert one.std_error == pytest.approx(other.std_error, rel=1e-9)
    assert one.effect.baseline_variance == pytest.approx(other.effect.baseline_variance, rel=1e-9)
    assert one.effect.baseline_cov == pytest.approx(other.effect.baseline_cov, rel=1e-9)
