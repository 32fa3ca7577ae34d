"""Smallest effect against duration: enumeration, the simulated curve, extrapolation, bad input."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from causal.plots import draw_mde_timeline
from experiments import Switchback, mde_timeline, switchback_power
from experiments.designs.coins import throw
from experiments.sizing.power_cells import pilot_cells
from experiments.sizing.power_timeline import _least_p, _variance

ROLES = {"outcome": "watch", "time": "ts"}


def pilot(days=28, *, seed=3, rho=0.8):
    """Hourly rows of a level that moves slowly and with the clock."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2026-03-02", periods=days * 24, freq="h")
    noise = rng.normal(size=len(ts))
    for t in range(1, len(ts)):
        noise[t] += rho * noise[t - 1]
    return pd.DataFrame({"ts": ts, "watch": 20 + 2 * np.sin(ts.hour / 4) + noise})


def test_variance_is_that_of_all_assignments_of_even_strata():
    """Two strata of four, half of each treated: 36 paths, equal cells."""
    strata, y = np.repeat([0, 1], 4), np.random.default_rng(0).normal(size=8)
    halves = [np.isin(np.arange(4), c) for c in itertools.combinations(range(4), 2)]
    estimates = []
    for first, second in itertools.product(halves, halves):
        arm = np.r_[first, second]
        estimates.append(y[arm].mean() - y[~arm].mean())
    found = _variance(np.full(8, 5.0), y, strata, np.zeros(8, int))
    assert found[0] == pytest.approx(np.var(estimates), rel=1e-12)
    assert found[1:] == (8, 2)


@pytest.mark.parametrize("coin", ["stratified", "complete", "independent"])
@pytest.mark.parametrize("rho", [0.0, 0.97])
def test_autocorrelation_of_slices_does_not_change_the_variance(coin, rho):
    """1 + 2 sum acf would be 8 or more at .97: coins are thrown, so that it plays no part."""
    rng, runs, k = np.random.default_rng(5), 1500, 56
    strata = np.arange(k) % 4 if coin == "stratified" else np.zeros(k, int)
    noise = rng.normal(size=(runs, k * 6))
    for t in range(1, k * 6):
        noise[:, t] += rho * noise[:, t - 1]
    y = noise.reshape(runs, k, 6).mean(axis=2)
    ones = {"minutes": np.ones(k), "min_share": 0.4, "rng": rng}
    arms = throw(runs, coin=coin, strata=strata, regions=np.zeros(k, int), **ones).astype(float)
    for s in range(strata.max() + 1):
        y[:, strata == s] -= y[:, strata == s].mean(axis=1, keepdims=True)
        arms[:, strata == s] -= arms[:, strata == s].mean(axis=1, keepdims=True)
    estimate = (arms * y).sum(axis=1) / (arms**2).sum(axis=1)
    formula = [_variance(np.ones(k), row, strata, np.zeros(k, int))[0] for row in y]
    assert estimate.var() == pytest.approx(np.mean(formula), rel=0.12)


@pytest.mark.parametrize(
    ("minutes", "coin", "days"), [(360, "stratified", 7), (240, "independent", 7),
                                  (720, "complete", 14), (360, "stratified", 28)]
)  # fmt: skip
def test_mde_timeline_is_near_the_simulated_curve(minutes, coin, days):
    log = pilot()
    design = Switchback(minutes, coin=coin, burn_in_minutes=60)
    found = mde_timeline(log, **ROLES, days=[days], design=design)
    given = {"slice_minutes": minutes, "coin": coin, "burn_in_minutes": 60, "effects": [0]}
    given |= {"n_replications": 1000, "n_draws": 199}
    first, played = log["ts"].min(), []
    for start in range(0, 28 - days + 1, 7):
        begin = first + pd.Timedelta(days=start)
        window = log[(log["ts"] >= begin) & (log["ts"] < begin + pd.Timedelta(days=days))]
        played.append(switchback_power(window, **ROLES, **given).mde)
    assert found["mde"][0] == pytest.approx(math.sqrt(np.mean(np.square(played))), rel=0.1)
    assert found["n_slices"][0] == days * 1440 // minutes


def test_mde_timeline_falls_with_the_root_of_days_beyond_the_pilot():
    found = mde_timeline(pilot(), **ROLES, days=[28, 56, 112])
    assert found["extrapolated"].tolist() == [False, True, True]
    rooted = found["mde"] * np.sqrt(found["days"])  # the t quantiles fall a little too
    np.testing.assert_allclose(rooted, rooted[0], rtol=0.01)
    assert found["n_slices"].tolist() == [112, 224, 448]
    assert list(found) == ["days", "n_slices", "mde", "mde_relative", "extrapolated"]
    mean = pilot()["watch"].mean()
    np.testing.assert_allclose(found["mde_relative"], found["mde"] / mean, rtol=1e-12)


def test_mde_timeline_takes_weekends_apart_from_fourteen_days_on():
    log = pilot(rho=0.0)
    log["watch"] += 20 * (log["ts"].dt.day_of_week >= 5)
    found = mde_timeline(log, **ROLES, days=[13, 14])
    assert found["mde"][1] < found["mde"][0] / 5


def test_mde_timeline_is_infinite_where_no_test_can_reject():
    found = mde_timeline(pilot(), **ROLES, days=[2, 5, 9], design=Switchback(1440, coin="complete"))
    assert np.isinf(found["mde"]).tolist() == [True, True, False]
    assert np.isinf(found["mde_relative"]).tolist() == [True, True, False]
    ax = draw_mde_timeline(found)
    assert ax.lines[0].get_xdata().tolist() == [9]


def test_least_p_counts_schedules_up_to_their_mirror():
    for coin, paths in (("complete", 70), ("independent", 256), ("stratified", 2**4)):
        given = {"slice_minutes": 360, "burn_in_minutes": 0, "coin": coin}
        cells = pilot_cells(pilot(2), **ROLES, unit=None, **given)
        assert _least_p(cells, cells.law.strata, 1.0) == pytest.approx(2 / paths, rel=1e-9)


def test_mde_timeline_of_regions_and_any_row_order():
    log = pd.concat([pilot(seed=s).assign(region=r) for s, r in ((1, "a"), (2, "b"))])
    design = Switchback(360, regions=("a", "b"))
    both = mde_timeline(log, **ROLES, unit="region", days=[7, 40], design=design)
    mixed = mde_timeline(
        log.sample(frac=1, random_state=0), **ROLES, unit="region", days=[7, 40], design=design
    )
    pd.testing.assert_frame_equal(mixed, both, rtol=1e-9)
    assert both["n_slices"].tolist() == [56, 320]
    one = mde_timeline(log[log["region"] == "a"], **ROLES, days=[7, 40])
    assert (both["mde"] < 0.85 * one["mde"]).all()


def test_draw_mde_timeline_tells_what_is_extrapolated():
    ax = draw_mde_timeline(mde_timeline(pilot(7), **ROLES, days=[3, 5, 7, 10]))
    within, beyond = ax.lines[1:]
    assert (within.get_xdata().tolist(), beyond.get_xdata().tolist()) == ([3, 5, 7], [10])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": []}, "days must be positive numbers, one or more"),
        ({"days": [0]}, "days must be positive numbers"),
        ({"days": [math.inf]}, "days must be positive numbers"),
        (
            {"design": Switchback(points=(1, 5))},
            r"design must have slices of one length; .*\(1, 5\)",
        ),
        ({"design": Switchback(coin="alternating")}, "design must throw its coins"),
        ({"design": Switchback(regions=("a",))}, "unit= must name the column of the design's"),
        ({"design": Switchback(regions=("a",)), "unit": "city"}, "it has .'x'.: drop"),
        ({"design": Switchback(60, burn_in_minutes=30)}, "all lie in the first 30 of their slice"),
        ({"outcome": "vast"}, "'vast' must have squares within a double"),
        ({"outcome": "tiny"}, "'tiny' must have squares within a double"),
        ({"level": 2}, "level must be in"),
        ({"power": 0}, "power must be in"),
        ({"outcome": "flat"}, "'flat' must vary between slices"),
        ({"time": "number"}, "'number' must hold timestamps for a timeline in days"),
        ({"time": "day"}, "'day' .time. is not in the table"),
        ({"design": Switchback(20_160)}, "leave 0 degrees of freedom"),
    ],
)
def test_mde_timeline_refuses_what_makes_no_sense(options, message):
    log = pilot().assign(city="x", flat=1.0, number=range(28 * 24))
    log = log.assign(vast=log["watch"] * 1e200, tiny=log["watch"] * 1e-200)
    with pytest.raises(ValueError, match=message):
        mde_timeline(log, **{**ROLES, **options})


def test_mde_timeline_needs_a_rotation():
    with pytest.raises(TypeError, match="design must be a Switchback; got str"):
        mde_timeline(pilot(), **ROLES, design="6 h")
