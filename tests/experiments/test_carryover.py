"""Burn-in curves and the lower bound of carry-over: exact pieces, size and power by simulation."""

import math
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from rotation_logs import MONDAY, ROLES, carried, hourly

from causal import EffectCurve
from experiments import (
    Switchback,
    burn_in_curve,
    carryover_bound,
    switch_event_study,
    switchback_effect,
)

mpl.use("Agg")
ORDERS = [0, 60, 120, 360]
RUNS = 30


def world(seed, days=21, slice_minutes=360, **options):
    plan = Switchback(slice_minutes).schedule(start=MONDAY, days=days, seed=seed)
    return plan, carried(plan, seed=seed, **options)


# ---- burn-in ----


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize("carryover", [0, 60])
def test_burn_in_curve_points_are_read_outs_with_that_burn_in(carryover):
    plan, log = world(1, weights=[0.4, 0.3, 0.2, 0.1])
    roles = {**ROLES, "schedule": plan, "carryover": carryover}
    curve = burn_in_curve(log, burn_ins=[0, 60, 180], **roles)
    for burn_in in curve.index:
        alone = switchback_effect(log, burn_in=burn_in, inference="conservative", **roles)
        assert curve.at(burn_in).estimate == pytest.approx(alone.estimate, rel=1e-10)
        if not carryover or not burn_in:
            assert curve.at(burn_in).std_error == pytest.approx(alone.std_error, rel=1e-10)


def test_burn_in_curve_has_the_joint_covariance():
    estimates, covs = [], []
    for seed in range(RUNS):
        plan, log = world(seed, weights=[1.0])
        curve = burn_in_curve(log, burn_ins=[0, 120, 240], schedule=plan, **ROLES)
        estimates.append(curve.estimate)
        covs.append(curve.cov)
    found, wanted = np.cov(np.transpose(estimates)), np.mean(covs, axis=0)
    size = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    np.testing.assert_allclose(wanted / size, found / size, atol=3.3 * np.sqrt(2 / RUNS))


def test_burn_in_curve_tells_where_the_effect_stops_moving():
    plan, log = world(2, days=28, weights=[0.25, 0.25, 0.25, 0.25], amplitude=6)
    curve = burn_in_curve(log, burn_ins=[0, 60, 120, 180, 240], schedule=plan, **ROLES)
    p = curve.details["plateau_p_values"]
    assert curve.details["plateau_from"] == 180
    assert len(p) == 4
    assert max(p[:3]) < 0.05 < p[3]
    assert EffectCurve.from_dict(curve.to_dict()) == curve


def test_burn_ins_that_read_the_same_rows_do_not_move():
    plan, log = world(3, weights=[1.0])
    curve = burn_in_curve(log, burn_ins=[0, 20, 40], schedule=plan, **ROLES)
    assert curve.details["plateau_p_values"][1] == 1.0
    assert curve.estimate[1] == pytest.approx(curve.estimate[2])


# ---- the bound ----


def bounds(**options):
    found = []
    for seed in range(RUNS):
        plan, log = world(seed, **options)
        found.append(
            carryover_bound(log, orders=ORDERS, schedule=plan, n_draws=99, seed=seed, **ROLES)
        )
    return found


@pytest.mark.coverage_study
def test_carryover_bound_keeps_its_level_without_carryover():
    found = bounds(weights=[1.0], amplitude=3)
    noise = 3.3 * math.sqrt(0.1 * 0.9 / RUNS)
    assert np.mean([b.shown for b in found]) <= 0.1 + noise
    for step in range(3):
        p = np.array([b.table["p_value"].iloc[step] for b in found])
        assert p.mean() == pytest.approx(0.5, abs=3.5 / math.sqrt(12 * RUNS))
        assert np.mean(p <= 0.1) <= 0.1 + noise
    assert np.mean([b.decay_upper >= 0 for b in found]) == 1
    assert np.median([b.decay for b in found]) < 0.2


@pytest.mark.coverage_study
def test_carryover_bound_stays_below_the_true_order_and_near_it():
    found = bounds(weights=[0.3, 0.3, 0.4], amplitude=4)  # two hours
    lower = np.array([b.lower_bound for b in found])
    assert np.mean(lower >= 120) <= 0.1 + 3.3 * math.sqrt(0.09 / RUNS)
    assert np.mean(lower == 60) > 0.8
    assert all(b.shown for b in found)


@pytest.mark.coverage_study
def test_carryover_bound_bounds_the_decay_from_above():
    found = bounds(decay=0.8, amplitude=5)
    upper = np.array([b.decay_upper for b in found])
    assert np.mean(upper >= 0.8) >= 0.95 - 3.3 * math.sqrt(0.05 / RUNS)
    assert np.mean(upper < 0.95) > 0.8
    one = found[0]
    assert one.period == 60
    assert one.t90 == pytest.approx(60 * math.log(0.1) / math.log(one.decay))
    assert one.t90_upper >= one.t90


def test_carryover_bound_says_what_it_found():
    plan, log = world(4, weights=[0.3, 0.3, 0.4], amplitude=4)
    found = carryover_bound(log, orders=ORDERS, schedule=plan, **ROLES)
    assert str(found).startswith(
        "carry-over is longer than 60 minutes (90% level); 90% of it fades"
    )
    assert list(found.table) == [
        "order", "next_order", "difference", "std_error", "p_value", "p_adjusted",
    ]  # fmt: skip
    assert found.table["next_order"].tolist() == ORDERS[1:]
    assert found.estimates.index == tuple(ORDERS)
    np.testing.assert_allclose(-np.diff(found.estimates.estimate), found.table["difference"])
    for order in ORDERS:
        alone = switchback_effect(
            log, schedule=plan, carryover=order, inference="conservative", **ROLES
        )
        assert found.estimates.at(order).estimate == pytest.approx(alone.estimate, rel=1e-9)
    assert found.to_frame().equals(found.table)
    assert found.plot().get_xlabel() == f"carry-over ({found.unit})"
    quiet, noise = world(5, weights=[1.0], amplitude=0.0)
    none = carryover_bound(noise, orders=ORDERS, schedule=quiet, **ROLES)
    assert not none.shown
    assert none.lower_bound == 0
    assert "not shown at the 90% level, which does not say that there is none" in str(none)
    assert none.t90_upper == math.inf
    assert "of any that there is, 90% may take any time: this log has no upper bound" in str(none)
    known = replace(none, t90=62.0, t90_upper=3384.0)
    assert "of any that there is, 90% fades within 3,384 minutes (95% bound)" in str(known)
    assert "62" not in str(known)  # how fast it fades is no finding where there may be none


@pytest.mark.parametrize("arm", [0, 1])
def test_rotations_of_one_arm_are_refused_as_such(arm):
    log = world(0, weights=[1.0])[1].assign(arm=arm)
    for read, options in (
        (carryover_bound, {"orders": [0, 60]}),
        (burn_in_curve, {"burn_ins": [0, 60]}),
        (switch_event_study, {}),
    ):
        with pytest.raises(ValueError, match="column 'arm' must hold both arms; every slice with"):
            read(log, slice_minutes=360, **options, **ROLES)


def test_carryover_bound_stops_where_windows_run_out():
    plan, log = world(6, days=14, slice_minutes=720, weights=[1.0])
    found = carryover_bound(log, orders=[0, 60, 720, 2160], schedule=plan, **ROLES)
    assert found.estimates.index == (0, 60, 720)
    assert "orders from 2160 on were not looked at" in str(found)
    with pytest.raises(
        ValueError, match=r"orders must leave two that the log can see; orders from"
    ):
        carryover_bound(log, orders=[0, 2160], schedule=plan, **ROLES)


def test_carryover_bound_without_a_grid_leaves_the_decay_out():
    plan, _ = hourly(days=21, end_jitter_minutes=10)
    rng = np.random.default_rng(0)
    ts = pd.to_datetime(MONDAY) + pd.to_timedelta(np.sort(rng.uniform(0, 21 * 86400, 900)), "s")
    log = pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts), "y": rng.normal(size=900)})
    found = carryover_bound(log, orders=[0, 60], schedule=plan, **ROLES)
    assert found.decay is None
    assert found.t90_upper is None
    assert len(found.table) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": [60]}, "orders must be two or more to compare"),
        ({"orders": [60, 0]}, "orders must be lengths >= 0 that go up"),
        ({"orders": "0"}, "orders must be lengths >= 0 that go up"),
        ({"orders": [0, 60], "n_draws": 5}, "n_draws must be a whole number >= 19"),
        ({"orders": [0, 60], "level": 2}, "level must be in"),
        ({"orders": [0, 60], "adjust": "none"}, "adjust must be one of"),
    ],
)
def test_carryover_bound_refuses_what_makes_no_sense(options, message):
    plan, log = world(0, weights=[1.0])
    with pytest.raises(ValueError, match=message):
        carryover_bound(log, schedule=plan, **ROLES, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burn_ins": [0, 0]}, "burn_ins must be lengths >= 0 that go up"),
        ({"burn_ins": [0, 360]}, "burn_in=360 must be below the shortest slice, 360"),
        ({"burn_ins": [0, 60], "carryover": -1}, "carryover must be 0 or more"),
    ],
)
def test_burn_in_curve_refuses_what_makes_no_sense(options, message):
    plan, log = world(0, weights=[1.0])
    with pytest.raises(ValueError, match=message):
        burn_in_curve(log, schedule=plan, **ROLES, **options)
