"""Synthetic controls augmented by ridge, conformal inference, placebos in time, size of tests."""

import warnings

import numpy as np
import pandas as pd
import pytest
from simplex_problems import first_unit
from synthetic_panels import (
    ROLES,
    START,
    as_table,
    control,
    factor_outcomes,
    quiet_control,
    weights_of,
)

import causal
from causal import EstimationWarning, placebo_in_time, synthetic_control

BEFORE = START - 1


# --- ridge ----------------------------------------------------------------------------------------


def augmented_by_hand(outcome, base, ridge):
    """w + D (D'D + ridge I)^-1 (x - X'w)."""
    donors = outcome[1:, :BEFORE]
    centred = donors - donors.mean(axis=0)
    left = outcome[0, :BEFORE] - base[1:] @ donors
    more = centred @ np.linalg.solve(centred.T @ centred + ridge * np.eye(BEFORE), left)
    return np.append(0, base[1:] + more)


@pytest.mark.parametrize("ridge", [0.5, 10.0, 1e9])
def test_synthetic_control_augmented_weights_have_their_closed_form(ridge):
    outcome = factor_outcomes(seed=1)
    plain, found = control(outcome), control(outcome, augment="ridge", ridge=ridge)
    by_hand = augmented_by_hand(outcome, weights_of(plain, 11), ridge)
    np.testing.assert_allclose(weights_of(found, 11), by_hand, atol=1e-7)
    assert found.pre_rmspe <= plain.pre_rmspe + 1e-9
    assert found.ridge == pytest.approx(ridge)
    assert sum(found.donor_weights.values()) == pytest.approx(1)
    if ridge == 1e9:
        assert found.estimate == pytest.approx(plain.estimate, abs=1e-5)


def test_synthetic_control_ridge_is_chosen_by_leaving_periods_out():
    outcome = factor_outcomes(seed=2, noise=0.6)
    found = quiet_control(outcome, augment="ridge")
    donors = outcome[1:, :BEFORE]
    centred = donors - donors.mean(axis=0)
    top = np.linalg.svd(centred, compute_uv=False)[0] ** 2
    grid = top * 1e-8 ** ((np.arange(21) - 1) / 20)
    errors = np.zeros((BEFORE, 21))
    for t in range(BEFORE):
        rest = np.delete(np.arange(BEFORE), t)
        part = outcome[:, rest] - outcome[1:, rest].mean(axis=0)
        w = first_unit(part)[0][1:]
        for g, ridge in enumerate(grid):
            d = centred[:, rest]
            left = outcome[0, rest] - w @ donors[:, rest]
            more = d @ np.linalg.solve(d.T @ d + ridge * np.eye(BEFORE - 1), left)
            errors[t, g] = (outcome[0, t] - (w + more) @ donors[:, t]) ** 2
    mean, se = errors.mean(axis=0), errors.std(axis=0, ddof=1) / np.sqrt(BEFORE)
    best = mean.argmin()
    assert found.ridge == pytest.approx(grid[mean <= mean[best] + se[best]].max(), rel=1e-9)
    assert "ridge-augmented" in found.effect.method


# --- conformal ------------------------------------------------------------------------------------


def conformal_by_hand(outcome, effect, *, demean=False):
    """Share of cyclic shifts whose mean absolute gap is at least the observed one."""
    imposed = outcome.copy()
    imposed[0, BEFORE:] -= effect
    if demean:
        imposed -= imposed.mean(axis=1, keepdims=True)
    w = first_unit(imposed - imposed.mean(axis=0))[0]
    gap = np.abs(imposed[0] - w @ imposed)
    after = outcome.shape[1] - BEFORE
    means = [np.roll(gap, -s)[BEFORE : BEFORE + after].mean() for s in range(len(gap))]
    return np.mean(np.array(means) >= means[0] - 1e-12)


@pytest.mark.parametrize("demean", [False, True])
def test_synthetic_control_conformal_p_and_interval_are_those_by_hand(demean):
    outcome = factor_outcomes(seed=3, periods=24, effect=1.0, noise=0.5)
    options = {"inference": "conformal", "level": 0.8, "fixed_effect": demean}
    found = quiet_control(outcome, **options)
    assert found.p_value == pytest.approx(conformal_by_hand(outcome, 0.0, demean=demean))
    low, high = found.conf_int(0.8)
    assert low < found.estimate < high
    width = high - low
    for end, outwards in ((low, -1e-4 * width), (high, 1e-4 * width)):
        assert conformal_by_hand(outcome, end - outwards, demean=demean) > 0.2
        assert conformal_by_hand(outcome, end + outwards, demean=demean) <= 0.2
    frame = found.to_frame()
    assert (frame.loc[0, "low"], frame.loc[0, "high"]) == (low, high)
    with pytest.raises(ValueError, match=r"level 0\.8"):
        found.conf_int(0.95)


def test_synthetic_control_conformal_needs_enough_periods():
    outcome = factor_outcomes(seed=3, periods=18)
    with pytest.raises(ValueError, match="needs at least 20 periods; got 18"):
        control(outcome, inference="conformal")
    assert control(outcome, inference="conformal", level=0.9).p_value >= 1 / 18


def test_synthetic_control_conformal_says_when_no_constant_effect_is_left():
    outcome = factor_outcomes(seed=3, effect=0.0)
    outcome[0, START - 1 :] += [8, -8, 8, -8, 8, -8]
    with pytest.raises(ValueError, match="largest p-value found is"):
        control(outcome, inference="conformal", level=0.8)


def test_synthetic_control_conformal_follows_the_ridge_and_the_penalty():
    outcome = factor_outcomes(seed=5, effect=0.0)
    options = {"inference": "conformal", "level": 0.8}
    plain = control(outcome, **options)
    near = control(outcome, augment="ridge", ridge=1e9, **options)
    assert near.p_value == plain.p_value
    np.testing.assert_allclose(near.interval, plain.interval, atol=1e-3)
    far = quiet_control(outcome, penalty=10.0, **options)
    assert far.interval != plain.interval


def test_synthetic_control_without_inference_has_the_normal_p_of_its_error():
    outcome = factor_outcomes(seed=4, effect=0.2)
    found, ranked = control(outcome, inference=None), control(outcome)
    assert found.p_value == found.effect.p_value
    assert found.std_error == ranked.std_error
    assert ranked.p_value >= 1 / 11
    assert found.interval is None
    assert found.conf_int(0.9) == found.effect.conf_int(0.9)


# --- size -----------------------------------------------------------------------------------------


@pytest.mark.coverage_study
def test_synthetic_control_placebo_p_is_uniform_among_exchangeable_units():
    rng = np.random.default_rng(10)
    found = []
    for _ in range(100):  # each draw refits nine placebos
        outcome = rng.normal(size=(10, 14)) + rng.normal(size=14)
        found.append(quiet_control(outcome, start=11).p_value)
    counts = np.bincount(np.rint(np.array(found) * 10).astype(int), minlength=11)[1:]
    assert counts.sum() == 100
    chi2 = ((counts - 10) ** 2 / 10).sum()
    assert chi2 < 27.9  # 0.999 of chi-squared with 9 degrees of freedom


@pytest.mark.coverage_study
def test_synthetic_control_conformal_p_is_uniform_under_exchangeable_noise():
    rng = np.random.default_rng(11)
    donors = rng.normal(size=(4, 20)) * 3
    found = []
    for _ in range(100):
        path = np.array([0.4, 0.3, 0.2, 0.1]) @ donors + rng.normal(0, 0.3, 20)
        options = {"start": 17, "inference": "conformal", "level": 0.95}
        found.append(quiet_control(np.vstack([path, donors]), **options).p_value)
    p = np.array(found)
    for share in (0.1, 0.25, 0.5):
        expected = np.floor(share * 20) / 20
        error = np.sqrt(expected * (1 - expected) / 100)
        assert abs((p <= share + 1e-9).mean() - expected) < 3.3 * error


# --- placebos in time -----------------------------------------------------------------------------


def analysis(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return synthetic_control(table, treated="c00", start=START, **ROLES)


def test_placebo_in_time_is_the_analysis_with_an_earlier_start():
    outcome = factor_outcomes(seed=6, effect=50.0)
    curve = placebo_in_time(analysis, as_table(outcome), time="week", start=START, shifts=[1, 3, 8])
    assert curve.index == (1, 3, 8)
    assert curve.details["placebo_start"] == (14, 12, 7)
    for shift in curve.index:
        n_after = min(shift, 6)  # the real analysis sees six weeks
        cut = outcome[:, : START - 1 - shift + n_after]
        by_hand = quiet_control(cut, start=START - shift)
        assert curve.at(shift).estimate == pytest.approx(by_hand.estimate, abs=1e-9)
        assert curve.at(shift).std_error == pytest.approx(by_hand.std_error, rel=1e-9)
    assert np.abs(curve.estimate).max() < 5  # 50 after the real start never enters


def test_placebo_in_time_takes_dates_other_tables_and_plain_effects():
    outcome = factor_outcomes(seed=6)
    days = pd.date_range("2026-03-01", periods=20)
    table = as_table(outcome, times=days)
    roles = {"treated": "c00", "start": "2026-03-15", **ROLES}

    def effect(part):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            return synthetic_control(part, **roles).effect

    given = {"time": "week", "start": "2026-03-15", "shifts": [2]}
    by_day = placebo_in_time(effect, table, **given)
    by_week = placebo_in_time(analysis, as_table(outcome), time="week", start=START, shifts=[2])
    assert by_day.estimate == pytest.approx(by_week.estimate)
    assert by_day.details["placebo_start"] == ("2026-03-13",)
    import pyarrow as pa

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    assert placebo_in_time(effect, arrow, **given).estimate == pytest.approx(by_day.estimate)


def test_placebo_in_time_refuses_what_it_cannot_do():
    table = as_table(factor_outcomes(seed=6))
    given = {"time": "week", "start": START, "shifts": [2]}
    for changed, part in (
        ({"shifts": []}, "shifts"),
        ({"shifts": [2, 2]}, "shifts"),
        ({"shifts": [0]}, "shifts"),
        ({"shifts": [14]}, "smaller shifts"),
        ({"start": 99}, "start"),
        ({"time": "weeks"}, "'week'"),
    ):
        with pytest.raises(ValueError, match=part):
            placebo_in_time(analysis, table, **{**given, **changed})
    with pytest.raises(TypeError, match="Effect"):
        placebo_in_time(lambda part: part, table, **given)
    assert "placebo_in_time" in causal.__all__
