"""P-values over paths, and intervals by inversion: brute force, uniformity, reachable levels."""

from dataclasses import replace

import numpy as np
import pytest
from rotation_logs import ROLES, by_points, hourly, reading

from experiments import switchback_effect
from experiments.rotations.coin_laws import Law
from experiments.rotations.randomization import randomization_test, reference_paths
from experiments.rotations.slice_statistic import contrasts, horvitz_thompson

PERIODS = {"outcome": "y", "treatment": "arm", "time": "t"}
QUIET = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")


def brute_p_value(found, paths, effect, statistic):
    """P-value of a constant effect, every path's outcomes rebuilt and fitted anew."""
    windows = found.windows
    dose = found.dose()
    observed = np.abs(statistic(found.coins.arm[None, :], windows, effect))
    larger = []
    for path in paths:
        star = windows.treated_coins(path[None, :])[0]
        moved = replace(windows, outcome=windows.outcome - effect * dose + effect * star)
        larger.append(np.abs(statistic(path[None, :], moved, effect)) >= observed * (1 - 1e-9))
    return np.mean(larger)


def hajek(path, windows, effect):
    one = contrasts(path, windows, dose=windows.treated_coins(path)[0])
    return (one.slope[0] - effect) / np.sqrt(one.square[0])


def thompson(path, windows, effect):
    one = horvitz_thompson(path, windows, centre=0.0, dose=windows.treated_coins(path)[0])
    return (one.slope[0] - effect) / np.sqrt(one.square[0])


CASES = [("hajek", 0, 0), ("hajek", 1, 0), ("hajek", 2, 1), ("hajek", 0, 2), ("thompson", 1, 0)]


@pytest.mark.parametrize(("method", "m", "n_covariates"), CASES)
def test_interval_by_inversion_equals_brute_force(method, m, n_covariates):
    coins = [0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0]
    log = by_points([*range(1, 43, 3)], 42, coins)
    log["y"] += 0.8 * log["arm"]
    found = reading(log, carryover=m, points=[*range(1, 43, 3)])
    found = replace(
        found,
        windows=replace(
            found.windows,
            outcome=found.windows.outcome + found.rotation.cells.centre,
            covariates=np.random.default_rng(1).normal(
                size=(len(found.windows.size), n_covariates)
            ),
        ),
    )
    windows, dose = found.windows, found.dose()
    paths = np.random.default_rng(2).integers(0, 2, (79, 14)).astype(np.int8)

    def compared(some):
        if method == "hajek":
            return contrasts(some, windows, dose=dose)
        return horvitz_thompson(some, windows, centre=0.0, dose=dose)

    test = randomization_test(compared(found.coins.arm[None, :]), compared(paths), exact=False)
    every = np.concatenate([found.coins.arm[None, :], paths[compared(paths).valid]])
    low, high = test.conf_int(0.9)
    width = high - low
    coarse = np.linspace(low - width, high + width, 41)
    statistic = hajek if method == "hajek" else thompson
    brute = [brute_p_value(found, every, effect, statistic) for effect in coarse]
    np.testing.assert_allclose(test.p_value_at(coarse), brute, atol=1e-12)
    assert test.p_value == pytest.approx(brute_p_value(found, every, 0.0, statistic))
    fine = np.linspace(low - width, high + width, 60_001)
    kept = fine[test.p_value_at(fine) > 0.1 + 1e-12]
    step = fine[1] - fine[0]
    assert low - 1e-9 <= kept.min() <= low + step
    assert high - step <= kept.max() <= high + 1e-9


@QUIET
def test_all_paths_of_twelve_coins_are_compared():
    coins = [0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0]
    log = by_points(range(1, 13), 12, coins)
    found = switchback_effect(log, points=range(1, 13), **PERIODS)
    paths = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    t = []
    for path in paths[(paths.sum(axis=1) >= 2) & (paths.sum(axis=1) <= 10)]:
        a, b = log["y"][path == 1], log["y"][path == 0]
        t.append((a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b)))
    observed = found.estimate / found.std_error
    assert found.test.exact
    assert len(found.draws) == len(t) == 4096 - 2 * 13
    assert found.p_value == pytest.approx(np.mean(np.abs(t) >= abs(observed) - 1e-9), abs=1e-12)


@QUIET
def test_horvitz_thompson_up_to_twelve_coins_compares_raw_estimates():
    coins = [0, 1, 1, 0, 0, 1, 0, 0, 1, 1]
    log = by_points(range(1, 11), 10, coins)
    found = switchback_effect(log, points=range(1, 11), method="horvitz_thompson", **PERIODS)
    paths = (np.arange(1, 1023)[:, None] >> np.arange(10)) & 1
    raw = (2 * paths - 1) @ log["y"].to_numpy() * 2 / 10
    assert found.p_value == pytest.approx(np.mean(np.abs(raw) >= abs(found.estimate) - 1e-9))


@QUIET
def test_p_values_are_uniform_under_the_sharp_null():
    n_draws, runs = 99, 200
    p = []
    for seed in range(runs):
        plan, log = hourly(days=7, slice_minutes=360, seed=seed, rho=0.9, min_share=0.0)
        found = switchback_effect(log, schedule=plan, n_draws=n_draws, seed=seed, **ROLES)
        p.append(found.p_value)
    p = np.array(p)
    assert p.mean() == pytest.approx(0.5, abs=3.3 / np.sqrt(12 * runs))
    noise = 3.3 * np.sqrt(0.05 * 0.95 / runs)
    assert (p <= 0.05).mean() <= 0.05 + 1 / (n_draws + 1) + noise
    assert (p <= 0.05).mean() >= 0.05 - noise


@QUIET
@pytest.mark.parametrize("options", [{}, {"carryover": 60}, {"burn_in": 60}])
def test_hajek_is_invariant_to_shifts_and_equivariant_to_scales(options):
    plan, log = hourly(effect=0.5)
    roles = {**ROLES, "schedule": plan, "n_draws": 199, **options}
    plain = switchback_effect(log, **roles)
    moved = switchback_effect(log.assign(y=log["y"] + 1e6), **roles)
    wide = switchback_effect(log.assign(y=log["y"] * -60), **roles)
    assert moved.estimate == pytest.approx(plain.estimate, rel=1e-7)
    assert wide.estimate == pytest.approx(-60 * plain.estimate, rel=1e-9)
    assert moved.p_value == plain.p_value == wide.p_value
    np.testing.assert_allclose(moved.conf_int(), plain.conf_int(), rtol=1e-6)
    np.testing.assert_allclose(
        wide.conf_int(), [-60 * v for v in plain.conf_int()[::-1]], rtol=1e-7
    )


def test_more_levels_are_read_from_the_same_paths():
    plan, log = hourly(effect=0.5)
    found = switchback_effect(log, schedule=plan, n_draws=499, **ROLES)
    (low, high), (lower, higher) = found.conf_int(0.8), found.conf_int(0.95)
    assert lower < low < found.estimate < high < higher
    assert found.conf_int() == (lower, higher)
    again = switchback_effect(log, schedule=plan, n_draws=499, level=0.8, **ROLES)
    assert again.conf_int() == (low, high)


def law(k, coin="independent", min_share=0.0):
    codes = np.zeros(k, dtype=np.int64)
    return Law(coin, codes, codes, np.ones(k), min_share)


@pytest.mark.parametrize(
    ("k", "coin", "level", "best"),
    [
        (5, "independent", 0.95, "0.062"),
        (4, "complete", 0.95, "0.33"),
        (9, "alternating", 0.9, "1"),
    ],
)
def test_levels_that_no_outcome_reaches_are_refused(k, coin, level, best):
    with pytest.raises(ValueError, match=rf"{k} slices give at best p = {best}: .* level {level}"):
        reference_paths(law(k, coin), level=level, n_draws=999, seed=0)
    paths, exact = reference_paths(law(6), level=0.95, n_draws=999, seed=0)
    assert exact
    assert len(paths) == 64


def test_few_draws_are_refused():
    with pytest.raises(
        ValueError, match=r"n_draws=9 gives at best p = 0\.1; level 0.95 needs n_draw"
    ):
        reference_paths(law(20), level=0.95, n_draws=9, seed=0)
    paths, exact = reference_paths(law(20), level=0.95, n_draws=19, seed=0)
    assert not exact
    assert paths.shape == (19, 20)


@QUIET
def test_an_interval_without_an_end_is_refused():
    coins = [1, 1, 0, 0, 1, 0]
    log = by_points([1, 3, 5, 7, 9, 11], 12, coins)
    with pytest.raises(
        ValueError, match=r"no (lower|upper) end: .* % of \d+ paths stay as extreme"
    ):
        switchback_effect(log, points=[1, 3, 5, 7, 9, 11], level=0.965, **PERIODS)


@QUIET
def test_effects_far_away_are_never_less_likely_than_one_path():
    plan, log = hourly(seed=3)
    found = switchback_effect(log, schedule=plan, n_draws=99, **ROLES)
    assert found.test.p_value_at(np.array([-1e12, 1e12])) == pytest.approx(0.01)


@QUIET
def test_levels_beyond_the_paths_compared_are_refused():
    plan, log = hourly(seed=3)
    found = switchback_effect(log, schedule=plan, n_draws=99, **ROLES)
    assert found.conf_int(0.99)[0] < found.conf_int(0.95)[0]
    with pytest.raises(ValueError, match=r"level 0.995 needs 200 paths; 100 were compared: pass"):
        found.conf_int(0.995)
