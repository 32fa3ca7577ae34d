"""Triggered analysis: the diluted effect, its variance, and signs of a trigger that is affected."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from ab_tables import log, users

from causal.effect import EstimationWarning
from experiments import Mean, Ratio, ab_test, srm_test

FEW = pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")


def affected_only():
    """Viewers of whom only the touched feel the treatment."""
    frame = users(300)
    gone = frame["arm"] * (1 + 0.5 * frame["x"]) * (1 - frame["touched"])
    return frame.assign(y=frame["y"] - gone)


def delta(rate, rate_variance, tau):
    """Standard error of rate times effect."""
    return math.sqrt(rate**2 * tau.std_error**2 + tau.estimate**2 * rate_variance)


@pytest.mark.parametrize("covariates", [[], ["x"]])
@pytest.mark.parametrize("adjustment", ["lin", "cuped"])
def test_trigger_returns_the_diluted_effect_over_all_units(covariates, adjustment):
    frame = affected_only()
    metric = Mean("y", covariates=covariates)
    options = {"metric": metric, "arm": "arm", "adjustment": adjustment}
    effect = ab_test(frame, trigger="touched", **options)
    tau = ab_test(frame[frame["touched"] == 1], **options)
    rate = frame["touched"].mean()
    assert effect.estimate == pytest.approx(rate * tau.estimate, rel=1e-12)
    variance = frame["touched"].var() / len(frame)
    assert effect.std_error == pytest.approx(delta(rate, variance, tau), rel=1e-11)
    assert effect.n_obs == 300
    assert effect.estimand == "ate"
    assert effect.method.endswith(", triggered and diluted")
    inside = effect.details["triggered"]
    for name in ("estimate", "std_error", "p_value", "n_obs", "baseline"):
        assert inside[name] == pytest.approx(getattr(tau, name), rel=1e-12)
    control = frame.loc[frame["arm"] == 0, "y"]
    assert effect.baseline == pytest.approx(control.mean(), rel=1e-12)
    assert effect.baseline_variance == pytest.approx(control.var() / len(control), rel=1e-12)
    assert effect.details["trigger_rate"] == pytest.approx(rate, rel=1e-15)


def test_trigger_of_everybody_is_the_plain_test():
    frame = users(200).assign(touched=True)
    effect = ab_test(frame, metric="y", arm="arm", trigger="touched")
    plain = ab_test(frame, metric="y", arm="arm")
    assert effect.estimate == pytest.approx(plain.estimate, rel=1e-12)
    assert effect.std_error == pytest.approx(plain.std_error, rel=1e-12)
    assert effect.baseline == pytest.approx(plain.baseline, rel=1e-12)
    assert effect.baseline_cov == pytest.approx(plain.baseline_cov, rel=1e-12)
    assert effect.details["complement_p_value"] is None


def test_trigger_with_weights_weighs_the_share_and_the_control_level():
    frame = affected_only()
    effect = ab_test(frame, metric="y", arm="arm", trigger="touched", weight="w")
    tau = ab_test(frame[frame["touched"] == 1], metric="y", arm="arm", weight="w")
    w = frame["w"]
    rate = np.average(frame["touched"], weights=w)
    assert effect.details["trigger_rate"] == pytest.approx(rate, rel=1e-12)
    assert effect.estimate == pytest.approx(rate * tau.estimate, rel=1e-12)
    u = w * (frame["touched"] - rate) / w.sum()
    variance = np.sum(u**2) * 300 / 299
    assert effect.std_error == pytest.approx(delta(rate, variance, tau), rel=1e-11)
    control = frame[frame["arm"] == 0]
    level = np.average(control["y"], weights=control["w"])
    assert effect.baseline == pytest.approx(level, rel=1e-12)


def test_trigger_of_a_ratio_takes_the_share_of_the_denominator():
    frame = log(seed=3)
    options = {"metric": Ratio("clicks", "views"), "arm": "arm", "cluster": "viewer_id"}
    effect = ab_test(frame, trigger="touched", **options)
    tau = ab_test(frame[frame["touched"] == 1], **options)
    units = frame.groupby("viewer_id").agg(d=("views", "sum"), touched=("touched", "max"))
    rate = units.loc[units["touched"] == 1, "d"].sum() / units["d"].sum()
    assert effect.details["trigger_rate"] == pytest.approx(rate, rel=1e-12)
    assert effect.estimate == pytest.approx(rate * tau.estimate, rel=1e-12)
    u = units["d"] * (units["touched"] - rate) / units["d"].sum()
    variance = np.sum(u**2) * len(u) / (len(u) - 1)
    assert effect.std_error == pytest.approx(delta(rate, variance, tau), rel=1e-10)


@FEW
def test_trigger_with_clusters_takes_the_share_by_cluster():
    frame = log(seed=3)
    options = {"metric": "watch_s", "arm": "arm", "cluster": "village"}
    effect = ab_test(frame, trigger="touched", **options)
    tau = ab_test(frame[frame["touched"] == 1], **options)
    rate = frame["touched"].mean()
    u = (frame["touched"] - rate).groupby(frame["village"]).sum() / len(frame)
    variance = np.sum(u**2) * 24 / 23
    touched = frame[frame["touched"] == 1]
    arms = touched.groupby("arm")["watch_s"]
    score = (touched["watch_s"] - arms.transform("mean")) / arms.transform("size")
    t = (score * (2 * touched["arm"] - 1)).groupby(touched["village"]).sum().reindex(u.index)
    linked = 2 * rate * tau.estimate * np.sum(u * t.fillna(0)) * 24 / 23
    assert effect.estimate == pytest.approx(rate * tau.estimate, rel=1e-12)
    wanted = delta(rate, variance, tau) ** 2 + linked
    assert effect.std_error == pytest.approx(math.sqrt(wanted), rel=1e-10)


def test_trigger_per_unit_is_whether_any_row_was_triggered():
    frame = log(seed=3)
    rng = np.random.default_rng(0)
    frame["touched"] = (rng.random(len(frame)) < 0.2).astype(int)
    units = frame.groupby(["viewer_id", "arm"], as_index=False).agg(
        watch_s=("watch_s", "sum"), touched=("touched", "max")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        effect = ab_test(
            frame, metric=Mean("watch_s", per="viewer_id"), arm="arm", trigger="touched"
        )
        direct = ab_test(units, metric="watch_s", arm="arm", trigger="touched")
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
    assert effect.std_error == pytest.approx(direct.std_error, rel=1e-12)


def test_trigger_warns_of_an_effect_where_there_should_be_none():
    frame = users(600, effect=2.0)
    with pytest.warns(EstimationWarning, match="trigger is affected by the treatment") as caught:
        effect = ab_test(frame, metric="y", arm="arm", trigger="touched")
    assert len(caught) == 1
    rest = ab_test(frame[frame["touched"] == 0], metric="y", arm="arm")
    assert effect.details["complement_p_value"] == pytest.approx(rest.p_value, rel=1e-9)
    assert f"p = {rest.p_value:.2g}" in str(caught[0].message)


def test_trigger_warns_of_a_sample_ratio_that_does_not_fit():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"arm": np.arange(2000) % 2, "y": 5 + rng.normal(size=2000)})
    frame["t"] = (rng.random(2000) < np.where(frame["arm"] == 1, 0.4, 0.25)).astype(int)
    with pytest.warns(EstimationWarning, match="do not fit the arms' sizes") as caught:
        ab_test(frame, metric="y", arm="arm", trigger="t")
    assert len(caught) == 1


def test_trigger_refuses_what_is_no_trigger():
    frame = users(60)
    with pytest.raises(ValueError, match=r"'x' \(trigger\) must be 0 or 1; \d+ rows"):
        ab_test(frame, metric="y", arm="arm", trigger="x")
    gappy = frame.assign(touched=frame["touched"].astype(float).mask(frame.index < 3))
    with pytest.raises(ValueError, match=r"'touched' \(trigger\) must not be missing; 3 rows"):
        ab_test(gappy, metric="y", arm="arm", trigger="touched")
    nobody = frame.assign(touched=0)
    with pytest.raises(ValueError, match="at least 2 triggered units"):
        ab_test(nobody, metric="y", arm="arm", trigger="touched")


@FEW
def test_trigger_with_clusters_counts_clusters_for_the_sample_ratio():
    frame = log(seed=3)
    heavy = frame["village"].isin([1, 3]) & (frame["touched"] == 1)
    frame = pd.concat([frame, *[frame[heavy]] * 5])
    effect = ab_test(frame, metric="watch_s", arm="arm", cluster="village", trigger="touched")
    chosen = frame[frame["touched"] == 1].groupby("arm")["village"].nunique().to_dict()
    everyone = frame.groupby("arm")["village"].nunique().to_dict()
    wanted = srm_test(chosen, expected_share=everyone).p_value
    assert effect.details["triggered_srm_p_value"] == pytest.approx(wanted)


def test_trigger_answers_where_too_few_are_left_to_check_the_complement():
    frame = affected_only().assign(touched=1)
    frame.loc[frame.groupby("arm").head(2).index, "touched"] = 0
    effect = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm", trigger="touched")
    assert effect.details["complement_p_value"] is None


def test_trigger_covariance_with_the_control_level_is_the_jackknifes():
    frame = affected_only()
    frame["y"] += 5 * frame["touched"]
    effect = ab_test(frame, metric="y", arm="arm", trigger="touched")
    kept = [ab_test(frame.drop(i), metric="y", arm="arm", trigger="touched") for i in frame.index]
    pairs = np.array([(e.estimate, e.baseline) for e in kept])
    n = len(pairs)
    jackknife = np.cov(pairs.T, ddof=0) * (n - 1)
    assert effect.baseline_cov == pytest.approx(jackknife[0, 1], rel=0.03)
    assert effect.baseline_variance == pytest.approx(jackknife[1, 1], rel=0.03)


@pytest.mark.filterwarnings("ignore:.*(control level|one cluster):causal.effect.EstimationWarning")
def test_trigger_with_clusters_across_arms_counts_records_for_the_sample_ratio():
    rng = np.random.default_rng(0)
    n = 8000
    arm = rng.integers(0, 2, n)
    frame = pd.DataFrame(
        {
            "arm": arm,
            "hour": rng.integers(0, 60, n),
            "t": (rng.random(n) < np.where(arm == 1, 0.4, 0.2)).astype(int),
            "y": rng.normal(size=n),
        }
    )
    with pytest.warns(EstimationWarning, match="the trigger is affected by the treatment"):
        effect = ab_test(frame, metric="y", arm="arm", cluster="hour", trigger="t")
    assert effect.details["triggered_srm_p_value"] < 1e-20


def test_trigger_errors_hold_where_effect_and_rate_grow_with_the_cluster():
    rng = np.random.default_rng(1)
    estimates, errors = [], []
    for _ in range(300):
        size = rng.integers(5, 60, 60)
        group = np.repeat(np.arange(60), size)
        arm = rng.permutation(np.arange(60) % 2)[group]
        large = size[group]
        t = rng.random(len(group)) < large / 80
        y = rng.normal(size=len(group)) + arm * t * (0.5 + large / 30)
        frame = pd.DataFrame({"g": group, "arm": arm, "t": t.astype(int), "y": y})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            effect = ab_test(
                frame, metric="y", arm="arm", cluster="g", trigger="t", covariance="CR1"
            )
        estimates.append(effect.estimate)
        errors.append(effect.std_error)
    assert np.mean(errors) == pytest.approx(np.std(estimates, ddof=1), rel=3.3 / np.sqrt(600))


@pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")
def test_trigger_with_clusters_covariance_with_the_control_level_is_the_jackknifes():
    rng = np.random.default_rng(4)
    size = rng.integers(5, 30, 120)
    group = np.repeat(np.arange(120), size)
    arm = (np.arange(120) % 2)[group]
    t = rng.random(len(group)) < 0.4
    taste = rng.normal(0, 1, 120)[group]
    y = 5 + taste + rng.normal(size=len(group)) + t * (2 + arm * taste)
    frame = pd.DataFrame({"g": group, "arm": arm, "t": t.astype(int), "y": y})
    options = {"metric": "y", "arm": "arm", "cluster": "g", "trigger": "t", "covariance": "CR1"}
    effect = ab_test(frame, **options)
    kept = [ab_test(frame[frame["g"] != g], **options) for g in range(120)]
    pairs = np.array([(e.estimate, e.baseline) for e in kept])
    jackknife = np.cov(pairs.T, ddof=0) * 119
    assert effect.std_error**2 == pytest.approx(jackknife[0, 0], rel=0.05)
    assert effect.baseline_cov == pytest.approx(jackknife[0, 1], rel=0.08)
    assert effect.baseline_variance == pytest.approx(jackknife[1, 1], rel=0.05)
