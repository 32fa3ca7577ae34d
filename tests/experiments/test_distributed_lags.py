"""Read-outs by lag, decaying exposure, sums after a slice: truth known, paths, refusals."""

import numpy as np
import pandas as pd
import pytest
from rotation_logs import MONDAY, ROLES, by_points, carried, hourly, reading
from scipy import signal

from causal import EstimationWarning
from experiments import Switchback, switchback_effect
from experiments.rotations.distributed_lags import lag_contrasts
from experiments.rotations.exposure_decay import _GRID, DecayModel, _gains, orthonormal
from experiments.rotations.period_series import period_series
from experiments.rotations.randomization import randomization_test

LAGS = [0.4, 0.3, 0.2, 0.1]  # hours 0 ... 3: an effect of 1 in all
RUNS = 30
PERIODS = {"outcome": "y", "treatment": "arm", "time": "t"}
QUIET = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")


def simulated(read, runs=RUNS, **world):
    """Results of a method on logs of one world."""
    found = []
    for seed in range(runs):
        plan = Switchback(360).schedule(start=MONDAY, days=14, seed=seed)
        found.append(read(carried(plan, seed=seed, **world), plan))
    return found


def assert_unbiased(estimates, truth):
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(truth, abs=3.3 * error)


@QUIET
@pytest.mark.parametrize(
    "options",
    [
        {"method": "distributed_lag", "carryover": 180},
        {"method": "truncated_dq", "carryover": 180},
        {"method": "hajek", "carryover": 180},
        {"method": "horvitz_thompson", "carryover": 180},
        {"method": "regression", "burn_in": 180},
    ],
    ids=lambda o: o["method"],
)
def test_methods_find_the_whole_effect_of_a_treatment_with_lags(options):
    roles = {**ROLES, **options, "n_draws": 99}
    found = simulated(
        lambda log, plan: switchback_effect(log, schedule=plan, **roles), weights=LAGS
    )
    assert_unbiased([f.estimate for f in found], 1.0)
    covered = np.mean([f.conf_int()[0] <= 1 <= f.conf_int()[1] for f in found])
    assert covered >= 0.85  # of 30: 0.95 with a chance of 0.001
    spread = np.std([f.estimate for f in found], ddof=1)
    assert np.mean([f.std_error for f in found]) >= 0.75 * spread


@QUIET
def test_without_lags_a_rotation_with_carryover_falls_short():
    found = simulated(
        lambda log, plan: switchback_effect(log, schedule=plan, n_draws=19, level=0.9, **ROLES),
        weights=LAGS,
    )
    assert np.mean([f.estimate for f in found]) < 0.93


@QUIET
def test_distributed_lag_finds_each_lag():
    roles = {**ROLES, "method": "distributed_lag", "carryover": 240, "inference": "hac"}
    found = simulated(
        lambda log, plan: switchback_effect(log, schedule=plan, **roles), amplitude=4, weights=LAGS
    )
    curves = np.array([f.lags.estimate for f in found])
    assert found[0].lags.index == (0, 60, 120, 180, 240)
    for lag, truth in enumerate([1.6, 1.2, 0.8, 0.4, 0.0]):
        assert_unbiased(curves[:, lag], truth)
    for f in found[:3]:
        assert f.lags.estimate.sum() == pytest.approx(f.estimate)
        ones = np.ones(5)
        assert ones @ f.lags.cov @ ones == pytest.approx(f.std_error**2, rel=1e-8)


@QUIET
def test_geometric_lag_finds_the_effect_and_the_decay():
    roles = {**ROLES, "method": "geometric_lag", "inference": "cluster", "n_draws": 99}
    found = simulated(
        lambda log, plan: switchback_effect(log, schedule=plan, **roles), decay=0.6, amplitude=4
    )
    details = [f.effect.details for f in found]
    assert_unbiased([d["decay"] for d in details], 0.6)
    assert_unbiased([f.estimate for f in found], 4.0)
    assert np.mean([d["decay_low"] <= 0.6 <= d["decay_high"] for d in details]) >= 0.85
    covered = np.mean([f.conf_int()[0] <= 4 <= f.conf_int()[1] for f in found])
    assert covered >= 0.82
    assert np.mean([d["decay_high"] < 0.9 for d in details]) > 0.9


def test_geometric_lag_says_that_it_cannot_tell_a_decay_without_an_effect():
    plan, log = hourly(seed=3)
    with pytest.warns(EstimationWarning, match="does not tell how slowly carry-over fades"):
        found = switchback_effect(
            log, schedule=plan, method="geometric_lag", inference="cluster", **ROLES
        )
    assert found.effect.details["decay_high"] == 1.0
    assert found.diagnostics.set_index("check")["passed"]["decay"] == "no"


@QUIET
@pytest.mark.parametrize(("decay", "amplitude"), [(0.0, 0.0), (0.6, 3.0)])
def test_geometric_lag_by_the_coins_keeps_its_size_and_covers(decay, amplitude):
    roles = {**ROLES, "method": "geometric_lag", "n_draws": 99}
    found = simulated(
        lambda log, plan: switchback_effect(log, schedule=plan, **roles),
        runs=60, decay=decay, amplitude=amplitude,
    )  # fmt: skip
    rejected = np.mean([f.p_value <= 0.05 for f in found])
    covered = np.mean([f.conf_int()[0] <= amplitude <= f.conf_int()[1] for f in found])
    assert covered >= 0.88
    assert rejected <= 0.12 if amplitude == 0 else rejected > 0.5
    for f in found:
        low, high = f.conf_int()
        assert (low <= 0 <= high) == (f.p_value > 0.05)
        assert low < f.estimate < high


@QUIET
def test_geometric_lag_by_the_coins_is_invariant_to_shifts_and_scales():
    plan, log = hourly(seed=2, effect=1.0)
    roles = {**ROLES, "schedule": plan, "method": "geometric_lag", "n_draws": 39}
    found = switchback_effect(log, **roles)
    again = switchback_effect(log.assign(y=60 * log["y"] + 1e6), **roles)
    assert again.p_value == found.p_value
    np.testing.assert_allclose(again.conf_int(), 60 * np.array(found.conf_int()), rtol=1e-5)


# ---- exact ----


def test_statistics_are_those_of_each_path_by_itself():
    plan, log = hourly(days=4, seed=1, regions=("a", "b"))
    series = period_series(
        reading(log, schedule=plan).rotation, adjusted=True, lengths=(),
    )  # fmt: skip
    paths = plan.redraw(5, seed=1)
    found = DecayModel(series).statistics(paths)
    basis = orthonormal(series.nuisance(np.arange(len(series))))
    y = series.outcome - basis @ (basis.T @ series.outcome)
    for path, t in zip(paths, found, strict=True):
        fits = []
        for rho in _GRID:
            x = DecayModel(series).exposures(path[None, :], rho)[0]
            x = x - basis @ (basis.T @ x)
            effect = x @ y / (x @ x)
            slope = DecayModel(series).slopes(path[None, :], rho)[0]
            slope = slope - basis @ (basis.T @ slope)
            lever = x - slope * (slope @ x) / (slope @ slope)
            scores = np.bincount(series.coin, lever * (y - effect * x))
            error = np.sqrt(scores @ scores) / (lever @ lever)
            fits.append((effect**2 * (x @ x), effect / error))
        assert t == pytest.approx(max(fits)[1], rel=1e-9)


def test_exposure_is_the_recursion():
    plan, log = hourly(days=2, slice_minutes=240, seed=1, regions=("a", "b"), min_share=0.0)
    series = period_series(
        reading(log, schedule=plan).rotation, adjusted=True, lengths=(),
    )  # fmt: skip
    model = DecayModel(series)
    path = series.coins.arm[None, :]
    x, slope = model.exposures(path, 0.7), model.slopes(path, 0.7)
    near = [model.exposures(path, rho)[0] for rho in (0.699999, 0.700001)]
    arm = series.coins.arm[series.coin]
    wanted = []
    for chain in (0, 1):
        state = 0.0
        for w in arm[series.chain == chain]:
            state = 0.7 * state + 0.3 * w
            wanted.append(state)
    np.testing.assert_allclose(x[0], wanted, atol=1e-12)
    np.testing.assert_allclose(slope[0], (near[1] - near[0]) / 2e-6, atol=1e-6)


def test_gains_are_those_of_the_path_s_own_outcomes():
    rng = np.random.default_rng(0)
    x, rest, effect = rng.normal(size=(3, 4, 50)), rng.normal(size=(4, 50)), rng.normal(size=4)
    found = _gains(x, rest, effect)
    for r in range(3):
        for g in range(4):
            y = rest[g] + effect[g] * x[r, g]
            left = [y @ y - (x[r, j] @ y) ** 2 / (x[r, j] @ x[r, j]) for j in range(4)]
            assert found[r, g] == pytest.approx((left[g] - min(left)) / min(left), abs=1e-10)


def test_decay_is_that_of_least_squares():
    plan = Switchback(360).schedule(start=MONDAY, days=14, seed=4)
    log = carried(plan, decay=0.8, amplitude=5, seed=4)
    series = period_series(reading(log, schedule=plan).rotation, adjusted=True, lengths=())
    fit = DecayModel(series).fit()
    basis = orthonormal(series.nuisance(np.arange(len(series))))
    y = series.outcome - basis @ (basis.T @ series.outcome)

    def left(rho):
        x = signal.lfilter([1 - rho], [1, -rho], log["arm"].astype(float))
        x = x - basis @ (basis.T @ x)
        return y @ y - (x @ y) ** 2 / (x @ x)

    best = min(left(rho) for rho in np.linspace(0, 0.995, 400))
    assert left(fit.decay) <= best + 1e-6
    assert len(_GRID) == len(set(_GRID.tolist()))


def test_sums_after_slices_of_one_period_are_those_of_the_paper():
    coins = np.random.default_rng(3).permutation(np.arange(40) % 2)
    log = by_points(range(1, 41), 40, coins)
    roles = {**PERIODS, "points": range(1, 41), "method": "truncated_dq", "carryover": 2}
    found = switchback_effect(log, inference="conservative", **roles)
    y = log["y"].to_numpy()
    q = y[:-2] + y[1:-1] + y[2:]
    w = coins[:38]
    assert found.estimate == pytest.approx(q[w == 1].mean() - q[w == 0].mean(), rel=1e-10)
    assert found.effect.n_clusters == 38


def test_lag_interval_by_inversion_equals_brute_force():
    rng = np.random.default_rng(5)
    coins = rng.integers(0, 2, 14)
    epoch = np.repeat(np.arange(14), 3)
    at = np.column_stack([epoch[2:], epoch[1:-1], epoch[:-2]])
    y = rng.normal(size=40) + 0.7 * coins[at].mean(axis=1)
    basis = orthonormal(np.ones((40, 1)))
    paths = rng.integers(0, 2, (59, 14)).astype(np.int8)
    path = coins[None, :].astype(np.int8)
    dose = path[0][at].mean(axis=1)

    def of(some, outcome):
        columns = np.column_stack([outcome, dose])
        columns = columns - basis @ (basis.T @ columns)
        return lag_contrasts(some, at, basis, columns, epoch[2:])

    test = randomization_test(of(path, y), of(paths, y), exact=False)
    every = np.concatenate([path, paths[of(paths, y).valid]])
    for effect in np.linspace(-3, 4, 29):
        t = []
        for one in every:
            moved = of(one[None, :], y + effect * (one[at].mean(axis=1) - dose))
            t.append(abs(moved.slope[0] - effect) / np.sqrt(moved.square[0]))
        brute = np.mean(np.array(t) >= t[0] * (1 - 1e-9))
        assert test.p_value_at(np.array([effect]))[0] == pytest.approx(brute, abs=1e-12)


def test_irregular_times_fall_into_periods_of_the_slices():
    plan, _ = hourly(seed=2)
    rng = np.random.default_rng(0)
    ts = pd.to_datetime(MONDAY) + pd.to_timedelta(np.sort(rng.uniform(0, 14 * 86400, 9000)), "s")
    events = pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts), "y": rng.normal(size=9000)})
    roles = {**ROLES, "schedule": plan, "method": "distributed_lag", "n_draws": 19, "level": 0.9}
    found = switchback_effect(events, carryover=120, **roles)
    assert found.lags.index == (0, 120)  # the longest period that slices and carry-over share
    hours = events.assign(ts=events["ts"].dt.floor("2h")).groupby("ts", as_index=False).mean()
    again = switchback_effect(hours, carryover=120, **roles)
    assert again.estimate == pytest.approx(found.estimate, rel=1e-9)


# ---- refusals ----


@QUIET
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "distributed_lag", "carryover": 90}, "the log's period, 60 minutes"),
        ({"method": "distributed_lag", "carryover": 19980}, r"leaves \d+ periods with all lags"),
        ({"method": "distributed_lag", "carryover": 9600}, "too long: arms of its 161 periods"),
        ({"method": "truncated_dq", "carryover": 19800}, r"leaves 1 slices whose sums are whole"),
    ],
)  # fmt: skip
def test_lags_that_the_log_cannot_tell_are_refused(options, message):
    plan, log = hourly()
    with pytest.raises(ValueError, match=message):
        switchback_effect(log, schedule=plan, n_draws=19, level=0.9, **ROLES, **options)


@QUIET
def test_slices_without_rows_need_a_schedule():
    plan, log = hourly(coin="independent", min_share=0.0)
    gap = log[(log["ts"] < "2026-03-05") | (log["ts"] >= "2026-03-06")]
    roles = {**ROLES, "method": "geometric_lag", "inference": "cluster"}
    assert np.isfinite(switchback_effect(gap, schedule=plan, **roles).estimate)
    with pytest.raises(ValueError, match="24 periods have neither: pass schedule="):
        switchback_effect(gap, slice_minutes=360, **roles)


def test_times_without_a_grid_are_refused():
    rng = np.random.default_rng(0)
    plan, _ = hourly(end_jitter_minutes=10)
    ts = pd.to_datetime(MONDAY) + pd.to_timedelta(np.sort(rng.uniform(0, 14 * 86400, 500)), "s")
    events = pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts), "y": rng.normal(size=500)})
    with pytest.raises(ValueError, match="column 'ts' must keep to a grid of periods"):
        switchback_effect(
            events, schedule=plan, method="distributed_lag", carryover=60, **ROLES
        )  # fmt: skip
