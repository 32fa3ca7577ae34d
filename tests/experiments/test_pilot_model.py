"""What a pilot tells about decay and noise, and the bias and variance of rotations under it."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import signal

from experiments import Switchback
from experiments.designs.coins import halves
from experiments.planning.pilot_model import (
    CARRY_DECAY,
    CARRY_SHARE,
    MEMORIES,
    WHITE,
    Posterior,
    _Noise,
    posterior_of,
    read_pilot,
)
from experiments.planning.rotation_options import Fixed, judged, rotation_options

START = pd.Timestamp("2026-03-02")
ROLES = {"outcome": "y", "time": "ts", "unit": None, "least_minutes": 30}


def hours(n=336, decay=0.0, memory=0.0, effect=0.0, seed=0, minutes=60, slice_minutes=60):
    rng = np.random.default_rng(seed)
    plan = Switchback(slice_minutes).schedule(start=START, days=n * minutes / 1440, seed=seed)
    times = pd.date_range(START, periods=n, freq=f"{minutes}min")
    arm = plan.treatment_at(times)
    exposure = signal.lfilter([1 - decay], [1, -decay], arm.astype(float))
    shocks = rng.standard_normal(n) * math.sqrt(1 - memory**2)
    noise = signal.lfilter([1], [1, -memory], shocks)
    level = 5 + np.sin(2 * np.pi * np.arange(n) * minutes / 1440)
    return pd.DataFrame({"ts": times, "arm": arm, "y": level + effect * exposure + noise})


def test_read_pilot_finds_the_grid_of_time():
    assert read_pilot(hours(), treatment=None, **ROLES).minutes == 60
    half = read_pilot(hours(672, minutes=30), treatment="arm", **ROLES)
    assert half.minutes == 30
    assert half.days == 14
    rng = np.random.default_rng(0)
    at = START + pd.to_timedelta(np.sort(rng.uniform(0, 14 * 1440, 30_000)), unit="min")
    events = pd.DataFrame({"ts": at, "y": rng.normal(size=30_000)})
    assert read_pilot(events, treatment=None, **ROLES).minutes == 30


@pytest.mark.parametrize("least", [90, 300, 1440, 2880])
def test_read_pilot_is_as_fine_whatever_the_shortest_slice(least):
    assert read_pilot(hours(), treatment=None, **{**ROLES, "least_minutes": least}).minutes == 60


def test_read_pilot_keeps_regions_and_gaps():
    one = hours().drop(index=[5, 6, 7])
    both = pd.concat([one.assign(region="a"), hours(seed=1).assign(region="b")])
    read = read_pilot(both, treatment="arm", **{**ROLES, "unit": "region"})
    assert read.n_regions == 2
    assert len(read.place) == 336 * 2 - 3
    assert read.n_periods == 336
    np.testing.assert_allclose(posterior_of(read).carry_weight.sum(), 1)


@pytest.mark.parametrize("decay", [0.0, 0.8, 0.95])
def test_posterior_of_finds_decay_effect_and_noise(decay):
    pilot = hours(600, decay=decay, memory=0.6, effect=3.0, seed=3)
    found = posterior_of(read_pilot(pilot, treatment="arm", **ROLES))
    np.testing.assert_allclose(found.weight.sum(), 1)
    for lag in (1, 12):
        _, low, high = found.to_come(lag)
        assert low - 0.02 <= decay**lag <= high + 0.02
    assert abs(found.effect - 3.0) < 1.5
    memory = np.einsum("dmw,m->", found.weight[:, :, :1], MEMORIES) / found.weight[:, :, :1].sum()
    assert abs(memory - 0.6) < 0.15
    variance = float(np.sum(found.weight * found.variance))
    assert abs(variance - 1) < 0.35


def test_posterior_of_an_untreated_pilot_says_nothing_of_the_decay():
    found = posterior_of(read_pilot(hours(), treatment=None, **ROLES))
    np.testing.assert_allclose(found.carry_weight, 1 / len(CARRY_DECAY))
    assert found.likely(0.99).mean() > 0.95
    assert found.effect is None


@pytest.mark.parametrize(("memory", "white"), [(0.0, 0.0), (0.9, 0.0), (0.97, 0.6)])
def test_noise_is_the_inverse_of_its_covariance(memory, white):
    place = np.array([0, 1, 2, 5, 6, 20, 21])
    noise = _Noise.of(place, memory, white)
    gaps = np.abs(np.subtract.outer(place, place))
    cov = (1 - white) * np.where(gaps == 0, 1.0, memory**gaps) + white * np.eye(len(place))
    np.testing.assert_allclose(noise.solve(np.eye(len(place))), np.linalg.inv(cov), atol=1e-9)
    np.testing.assert_allclose(noise.log_det, np.linalg.slogdet(cov)[1], atol=1e-9)


@pytest.mark.coverage_study
def test_posterior_of_covers_the_decay():
    inside = []
    for seed in range(25):
        decay = [0.5, 0.8, 0.9, 0.95][seed % 4]
        pilot = hours(336, decay=decay, memory=0.5, effect=2.0, seed=100 + seed)
        _, low, high = posterior_of(read_pilot(pilot, treatment="arm", **ROLES)).to_come(3)
        inside.append(low - 0.01 <= decay**3 <= high + 0.01)
    assert np.mean(inside) > 0.7  # .8 but for chance and the grid


def test_posterior_of_is_not_sure_of_what_a_fast_pilot_cannot_see():
    pilot = hours(336, decay=0.97, effect=2.0, seed=3, slice_minutes=360)
    pilot["y"] += 2.0 * pilot["arm"]  # half of the effect at once, half very slowly
    found = posterior_of(read_pilot(pilot, treatment="arm", **ROLES))
    _, low, high = found.to_come(24)
    assert low - 0.01 < 0.24 < high  # half of .97^24
    best = int(np.argmin(judge(options(), found, effect=4.0, squared_effect=16.0).loss))
    assert options()[best].design.slice_minutes >= 1440


def test_without_takes_the_effect_out():
    pilot = hours(600, decay=0.8, effect=3.0, seed=3)
    read = read_pilot(pilot, treatment="arm", **ROLES)
    left = read.without(posterior_of(read))
    exposure = signal.lfilter([0.2], [1, -0.8], pilot["arm"].astype(float))
    assert abs(np.corrcoef(left - read.without(posterior_of(read)).mean(), exposure)[0, 1]) < 0.15
    assert np.corrcoef(pilot["y"], exposure)[0, 1] > 0.3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.head(50), ValueError, "three days or more"),
        (lambda f: f.assign(ts=range(len(f))), ValueError, "column 'ts' must hold timestamps"),
        (lambda f: f.assign(ts="a"), TypeError, "column 'ts'"),
        (lambda f: f.drop(columns="y"), ValueError, "'y'"),
        (lambda f: f.assign(y=1.0), ValueError, "the outcome must vary"),
        (lambda f: f.assign(y=f["y"].where(f.index != 3)), ValueError, "'y'"),
    ],
)
def test_read_pilot_refuses_what_tells_nothing(change, error, message):
    with pytest.raises(error, match=message):
        posterior_of(read_pilot(change(hours()), treatment=None, **ROLES))


def options(days=14, minutes=60, regions=None):
    return rotation_options(
        start=START, days=days, minutes=minutes, least=60, most=2880, regions=regions
    )


@pytest.mark.parametrize(("memory", "white"), [(0.0, 0.0), (0.9, 0.0), (0.95, 0.6)])
@pytest.mark.parametrize("length", [60, 240, 1440])
def test_rotation_options_variance_is_that_of_simulated_experiments(memory, white, length):
    option = next(
        o
        for o in options()
        if o.design.slice_minutes == length and (o.design.burn_in_minutes > 0) == (length > 60)
    )
    plan = option.design.schedule(start=START, days=14, seed=0)
    strata = pd.factorize(plan.table["stratum"])[0]
    rng = np.random.default_rng(1)
    n, periods = 336, length // 60
    burn_in = int(option.design.burn_in_minutes // 60)
    shocks = rng.standard_normal((4000, n + 200)) * math.sqrt(1 - memory**2)
    noise = signal.lfilter([1], [1, -memory], shocks, axis=1)[:, 200:]
    noise = math.sqrt(1 - white) * noise + math.sqrt(white) * rng.standard_normal(noise.shape)
    cells = noise.reshape(4000, -1, periods)[:, :, burn_in:].mean(axis=2)
    arms = halves(4000, strata, rng).astype(float)
    dummies = np.eye(strata.max() + 1)[strata]
    basis = np.linalg.qr(dummies)[0]
    arms -= (arms @ basis) @ basis.T
    estimates = (arms * cells).sum(axis=1) / (arms**2).sum(axis=1)
    found = option.variance[np.argmin(np.abs(MEMORIES - memory)), list(WHITE).index(white)]
    np.testing.assert_allclose(estimates.var(), found, rtol=0.08)


def known(decay):
    weight = np.zeros((len(CARRY_DECAY), len(MEMORIES), len(WHITE)))
    alone = CARRY_SHARE == 1
    weight[np.flatnonzero(alone & (decay == CARRY_DECAY))[0], 0, 0] = 1
    return Posterior(weight=weight, variance=np.ones_like(weight), effect=None, minutes=60)


def judge(found, posterior, fixed=(), **changes):
    wish = {"effect": 1.0, "squared_effect": 1.0, "criterion": "minimax_regret"}
    allowed = np.ones(len(found) + len(fixed), dtype=bool)
    return judged(found, list(fixed), posterior, **{"allowed": allowed, **wish, **changes})


def test_judged_knows_the_best_where_the_decay_is_known():
    found = options()
    for decay in (0.0, 0.9):
        figures = judge(found, known(decay))
        best = int(np.argmin(figures.loss))
        assert figures.regret[best] == 0
        assert best == int(np.argmin(figures.rmse))
        np.testing.assert_allclose(
            figures.rmse**2, figures.std_error**2 + figures.bias_low**2, rtol=1e-9
        )
    assert found[int(np.argmin(judge(found, known(0.95)).loss))].design.slice_minutes >= 1440
    assert (judge(found, known(0.0)).bias_low == 0).all()


def test_judged_ranks_fixed_designs_beside_rotations():
    found = options()
    good = Fixed(bias_low=-0.001, bias_high=0.001, std_error=0.001)
    figures = judge(found, known(0.9), [good])
    assert int(np.argmin(figures.loss)) == len(found)
    assert figures.bias_high[-1] == 0.001
    shut = np.ones(len(found) + 1, dtype=bool)
    shut[-1] = False
    alone = judge(found, known(0.9))
    figures = judge(found, known(0.9), [good], allowed=shut)
    np.testing.assert_allclose(figures.regret[:-1], alone.regret)


def test_rotation_options_refuse_nothing_but_say_what_a_test_can_reach():
    few = {o.design.slice_minutes: o for o in options(days=9)}
    assert few[2880].n_slices == 4
    assert few[2880].days == 8  # whole slices
    assert few[2880].least_p > 0.05
    assert few[60].least_p == 0
    several = options(regions=("a", "b"))
    assert several[0].n_slices == 2 * options()[0].n_slices
