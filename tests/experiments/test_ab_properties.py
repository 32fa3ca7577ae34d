"""What must not matter to an A/B test, and what must matter exactly so."""

import math

import numpy as np
import pandas as pd
import pytest
from ab_tables import log, users
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import Mean, Quantile, Ratio, ab_curve, ab_test

pytestmark = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
LIN = Mean("y", covariates=["x", "z"])
KINDS = [
    (Mean("watch_s", covariates=["before"]), {}),
    (Mean("watch_s", covariates=["before"]), {"adjustment": "cuped"}),
    (Mean("watch_s", covariates=["before"]), {"cluster": "village"}),
    (Mean("watch_s", covariates=["before"]), {"cluster": "village", "covariance": "CR1"}),
    (Mean("watch_s", covariates=["before"]), {"weight": "weight"}),
    (Mean("watch_s", per="viewer_id", covariates=["before"], winsor=(0, 0.95)), {}),
    (Ratio("clicks", "views", covariates=["before"]), {"cluster": "viewer_id"}),
    (Quantile("watch_s", 0.5), {"cluster": "viewer_id"}),
    (Mean("watch_s"), {"trigger": "touched"}),
]
EACH = pytest.mark.parametrize(("metric", "options"), KINDS)
quick = settings(max_examples=15, deadline=None)


def same(left, right, factor=1.0, rel=1e-9):
    assert left.estimate == pytest.approx(factor * right.estimate, rel=rel)
    assert left.std_error == pytest.approx(abs(factor) * right.std_error, rel=rel)
    assert left.p_value == pytest.approx(right.p_value, rel=1e-6)


@EACH
def test_ab_test_does_not_depend_on_the_order_of_rows(metric, options):
    frame = log(120)
    plain = ab_test(frame, metric=metric, arm="arm", **options)
    for seed in (0, 1, 2):
        shuffled = frame.sample(frac=1, random_state=seed)
        same(ab_test(shuffled, metric=metric, arm="arm", **options), plain, rel=1e-11)


@EACH
def test_ab_test_with_arms_exchanged_flips_the_sign(metric, options):
    frame = log(120)
    plain = ab_test(frame, metric=metric, arm="arm", **options)
    flipped = ab_test(frame, metric=metric, arm="arm", control=1, **options)
    same(flipped, plain, factor=-1.0)
    if options.get("adjustment") != "cuped" and "trigger" not in options:
        assert flipped.baseline == pytest.approx(plain.baseline + plain.estimate, rel=1e-9)


@quick
@given(scale=st.floats(0.01, 100) | st.floats(-100, -0.01), shift=st.floats(-1000, 1000))
def test_ab_test_follows_scale_and_shift_of_the_outcome(scale, shift):
    frame = log(120)
    moved = frame.assign(watch_s=scale * frame["watch_s"] + shift)
    for metric, options in KINDS[:5]:
        plain = ab_test(frame, metric=metric, arm="arm", **options)
        other = ab_test(moved, metric=metric, arm="arm", **options)
        same(other, plain, factor=scale, rel=1e-7)
        assert other.baseline == pytest.approx(scale * plain.baseline + shift, rel=1e-7, abs=1e-7)


def test_ab_test_quantile_and_winsor_follow_a_positive_scale_and_shift():
    frame = log(120)
    moved = frame.assign(watch_s=3 * frame["watch_s"] + 11)
    for metric in (Quantile("watch_s", 0.7), Mean("watch_s", winsor=(0.1, 0.9))):
        plain, other = (ab_test(f, metric=metric, arm="arm") for f in (frame, moved))
        same(other, plain, factor=3.0)


@quick
@given(
    a=st.floats(0.1, 50),
    b=st.floats(-5, 5),
    c=st.floats(-3, 3),
    shift=st.floats(-100, 100),
)
def test_ab_test_lin_ignores_affine_maps_of_covariates(a, b, c, shift):
    frame = users(80)
    mapped = frame.assign(x=a * frame["x"] + b * frame["z"] + shift, z=c - frame["z"])
    for options in ({}, {"covariance": "HC3"}, {"adjustment": "cuped"}, {"weight": "w"}):
        plain, other = (ab_test(f, metric=LIN, arm="arm", **options) for f in (frame, mapped))
        same(other, plain, rel=1e-7)
        assert other.baseline == pytest.approx(plain.baseline, rel=1e-9)
        assert other.df == pytest.approx(plain.df, rel=1e-6)


@pytest.mark.parametrize("covariates", [[], ["before"]])
def test_ab_test_of_every_row_twice_has_the_same_cr0(covariates):
    frame = log(120)
    twice = pd.concat([frame, frame])
    metric = Mean("watch_s", covariates=covariates)
    options = {"arm": "arm", "cluster": "village", "covariance": "CR0"}
    same(ab_test(twice, metric=metric, **options), ab_test(frame, metric=metric, **options))


def test_ab_test_ratio_of_every_row_twice_is_the_same_by_cluster():
    frame = log(120)
    twice = pd.concat([frame, frame])
    options = {"metric": ("clicks", "views"), "arm": "arm", "cluster": "viewer_id"}
    same(ab_test(twice, **options), ab_test(frame, **options))


def test_ab_test_a_row_for_each_cluster_is_as_if_independent():
    frame = users(90)
    options = {"metric": LIN, "arm": "arm"}
    for kind, hc in (("CR0", "HC0"), ("CR2", "HC2")):
        clustered = ab_test(frame, cluster="viewer_id", covariance=kind, **options)
        plain = ab_test(frame, covariance=hc, **options)
        assert clustered.std_error == pytest.approx(plain.std_error, rel=1e-9)


def test_ab_test_equal_weights_are_no_weights():
    frame = users(90)
    for kind in ("HC1", "HC2", "HC3"):
        plain = ab_test(frame, metric=LIN, arm="arm", covariance=kind)
        even = ab_test(frame.assign(w=4.0), metric=LIN, arm="arm", weight="w", covariance=kind)
        same(even, plain, rel=1e-11)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@EACH
def test_ab_test_works_at_extreme_scales(metric, options, scale):
    if isinstance(metric, Ratio):
        scaled = {"clicks": scale, "before": scale}
    else:
        scaled = {"watch_s": scale, "before": scale}
    frame = log(120)
    plain = ab_test(frame, metric=metric, arm="arm", **options)
    huge = frame.assign(**{name: s * frame[name] for name, s in scaled.items()})
    effect = ab_test(huge, metric=metric, arm="arm", **options)
    assert effect.estimate == pytest.approx(scale * plain.estimate, rel=1e-9)
    assert effect.std_error == pytest.approx(scale * plain.std_error, rel=1e-9)


@EACH
def test_ab_test_works_at_an_offset_of_a_billion(metric, options):
    frame = log(120)
    moved = {"before": 1e9}
    if not isinstance(metric, Ratio):
        moved |= {"watch_s": 1e9}
        if metric.per:
            frame = frame.drop_duplicates("viewer_id")
    plain = ab_test(frame, metric=metric, arm="arm", **options)
    far = frame.assign(**{name: by + frame[name] for name, by in moved.items()})
    effect = ab_test(far, metric=metric, arm="arm", **options)
    assert effect.estimate == pytest.approx(plain.estimate, rel=1e-5)
    assert effect.std_error == pytest.approx(plain.std_error, rel=1e-5)


HOSTILE = [
    "a\"b'; DROP TABLE x; --",
    "__import__('os')",
    "select",
    "观看",
    "a\nb",
    "x" * 300,
    "<b>",
]


@pytest.mark.parametrize("at", range(len(HOSTILE)))
def test_ab_test_takes_any_column_name_for_any_role(at):
    names = [HOSTILE[(at + j) % len(HOSTILE)] for j in range(5)]
    frame = log(120)
    roles = dict(zip(["watch_s", "arm", "village", "before", "viewer_id"], names, strict=True))
    outcome, arm, village, before, viewer = names
    named = frame.rename(columns=roles)
    metric = Mean("watch_s", per="viewer_id", covariates=["before"])
    renamed = Mean(outcome, per=viewer, covariates=[before])
    same(
        ab_test(named, metric=renamed, arm=arm, cluster=village),
        ab_test(frame, metric=metric, arm="arm", cluster="village"),
    )


def test_ab_test_leaves_the_callers_table_alone():
    frame = log(120)
    before = frame.copy(deep=True)
    for metric, options in KINDS:
        ab_test(frame, metric=metric, arm="arm", **options)
    ab_curve(frame, metric="watch_s", arm="arm", by="day", cumulative=True)
    pd.testing.assert_frame_equal(frame, before)


@quick
@given(st.integers(0, 2**31), st.integers(5, 40))
def test_ab_test_lin_never_differs_from_the_mean_when_covariates_are_balanced(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    frame = pd.DataFrame({"arm": [0] * n + [1] * n, "x": [*x, *x], "y": rng.normal(size=2 * n)})
    lin = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm")
    plain = ab_test(frame, metric="y", arm="arm")
    assert lin.estimate == pytest.approx(plain.estimate, abs=1e-9)
    assert math.isfinite(lin.std_error)
