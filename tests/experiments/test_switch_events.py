"""The event study round switches: exact values, shape of carry-over, errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments import Switchback, switch_event_study

ROLES = {"outcome": "y", "treatment": "arm", "time": "ts"}


def rotation(decay, seed=7, days=14, regions=None):
    """Hourly outcomes that follow exposure x_t = decay x_{t-1} + (1 - decay) W_t, plus a clock."""
    plan = Switchback(360, regions=regions).schedule(start="2026-03-02", days=days, seed=seed)
    hours = pd.date_range("2026-03-02", periods=24 * days, freq="h")
    parts = []
    for region in regions or (None,):
        where = None if region is None else np.full(len(hours), region, dtype=object)
        arm = plan.treatment_at(hours, where)
        exposure, level = [], 0.0
        for w in arm:
            level = decay * level + (1 - decay) * w
            exposure.append(level)
        clock = np.sin(hours.hour * 2 * np.pi / 24)
        parts.append(
            pd.DataFrame(
                {"ts": hours, "arm": arm, "region": region, "y": np.array(exposure) + clock}
            )
        )
    return pd.concat(parts, ignore_index=True), plan


def test_switch_event_study_jumps_where_nothing_lags():
    log, plan = rotation(0.0)
    curve = switch_event_study(log, **ROLES, schedule=plan)
    assert curve.index == (-180, -120, -60, 0, 60, 120, 180, 240, 300)
    assert curve.estimate == pytest.approx([-1] * 3 + [1] * 6, abs=0.05)


def test_switch_event_study_shows_how_exposure_builds_up():
    log, plan = rotation(0.7)
    after = np.array(switch_event_study(log, **ROLES, schedule=plan).estimate[3:])
    assert (np.diff(after) > 0).all()
    left = 1 - after  # what is missing to the effect falls by the decay, hour by hour
    assert left[1:] / left[:-1] == pytest.approx([0.7] * 5, abs=0.06)


def test_switch_event_study_equals_means_by_hand():
    arm = np.repeat([0, 1, 1, 0, 1, 0, 0, 1], 2)
    y = np.arange(16.0) ** 2
    log = pd.DataFrame({"t": np.arange(1, 17), "arm": arm, "y": y})
    curve = switch_event_study(
        log, outcome="y", treatment="arm", time="t", slice_minutes=2, width=1
    )
    on, off = [2, 8, 14], [6, 10]  # positions where slices begin with a switch
    for place, k in zip(curve.index, range(-1, 2), strict=True):
        assert place == k
        treated, control = (np.array([y[i + k] for i in kind]) for kind in (on, off))
        j = curve.index.index(k)
        assert curve.estimate[j] == pytest.approx(treated.mean() - control.mean())
        spread = treated.var(ddof=1) / 3 + control.var(ddof=1) / 2
        assert curve.std_error[j] ** 2 == pytest.approx(spread)
    assert curve.n_clusters == 5


def test_switch_event_study_of_regions_pools_their_switches():
    log, plan = rotation(0.3, regions=("east", "west"))
    curve = switch_event_study(log, **ROLES, unit="region", schedule=plan)
    parts = [
        switch_event_study(
            log[log["region"] == name].drop(columns="region"), **ROLES, slice_minutes=360
        )
        for name in ("east", "west")
    ]
    assert curve.n_clusters == sum(part.n_clusters for part in parts)
    for together, one, two in zip(curve.estimate, *(p.estimate for p in parts), strict=True):
        assert min(one, two) - 0.02 <= together <= max(one, two) + 0.02


def test_switch_event_study_covers_the_effect_of_noisy_outcomes():
    rng = np.random.default_rng(5)
    held = []
    for seed in range(40):
        log, plan = rotation(0.0, seed=seed)
        log["y"] += rng.normal(0, 1, len(log))
        low, high = switch_event_study(log, **ROLES, schedule=plan).conf_int(0.95)[4]
        held.append(low <= 1 <= high)
    assert np.mean(held) >= 0.85


def test_switch_event_study_takes_bins_of_a_width():
    log, plan = rotation(0.0)
    curve = switch_event_study(log, **ROLES, schedule=plan, width=180)
    assert curve.index == (-180, 0, 180)
    with pytest.raises(ValueError, match="width must be positive; got 0"):
        switch_event_study(log, **ROLES, schedule=plan, width=0)


def test_switch_event_study_has_bins_of_whole_steps_where_ends_are_jittered():
    plan = Switchback(360, end_jitter_minutes=20).schedule(start="2026-03-02", days=14, seed=7)
    log = pd.DataFrame({"ts": pd.date_range("2026-03-02", periods=14 * 288, freq="5min")})
    log = log.assign(arm=plan.treatment_at(log["ts"]), y=np.arange(len(log)) % 7)
    assert np.diff(switch_event_study(log, **ROLES, schedule=plan).index).tolist() == [30] * 16


def test_switch_event_study_goes_by_the_local_clock_over_a_change_of_clocks():
    hours = pd.date_range("2026-03-22", periods=336, freq="h", tz="Europe/Berlin")
    arm = np.repeat(np.random.default_rng(1).integers(0, 2, 56), 6)
    clock = 9.0 * np.asarray(hours.hour)
    log = pd.DataFrame({"ts": hours, "arm": arm, "y": clock})
    curve = switch_event_study(log, **ROLES, slice_minutes=360)
    np.testing.assert_allclose(curve.estimate, 0, atol=1e-9)


def test_switch_event_study_needs_two_switches_each_way():
    log = pd.DataFrame({"t": range(1, 9), "arm": [0, 0, 1, 1, 0, 0, 1, 1], "y": 1.0})
    with pytest.raises(ValueError, match="the log has 2 and 1: pass a longer one"):
        switch_event_study(log, outcome="y", treatment="arm", time="t", slice_minutes=2)
