"""What is made of group-time effects: aggregations, tests, JSON, drawings."""

import json

import numpy as np
import pytest
from staggered_panels import effects, staggered

from causal import Aggregation, GroupTimeEffects, honest_did

KINDS = ("simple", "event", "cohort", "calendar")


@pytest.fixture(scope="module")
def found():
    return effects(staggered())


def after(found):
    cells = found.cells.merge(found.shares[["cohort", "share"]], on="cohort")
    return cells[cells["event_time"] >= 0]


def mean(cells):
    return np.average(cells["estimate"], weights=cells["share"])


def test_aggregate_simple_is_the_mean_of_treated_cells_by_shares(found):
    assert found.estimate == pytest.approx(mean(after(found)))
    simple = found.aggregate("simple")
    assert simple.effect == found.effect
    assert simple.curve.estimate[0] == simple.estimate
    assert simple.curve.std_error[0] == pytest.approx(simple.std_error)


def test_aggregate_event_is_a_plain_mean_of_means_by_shares(found):
    event = found.aggregate()
    assert event.curve.index == (-4, -3, -2, -1, 0, 1, 2, 3)
    by_hand = after(found).groupby("event_time")[["estimate", "share"]].apply(mean)
    np.testing.assert_allclose(event.curve.estimate[4:], by_hand)
    assert event.estimate == pytest.approx(by_hand.mean())
    assert event.n_treated == {-4: 30, -3: 30, -2: 60, -1: 90, 0: 90, 1: 60, 2: 60, 3: 30}


def test_aggregate_cohort_is_a_mean_by_shares_of_plain_means(found):
    cohort = found.aggregate("cohort")
    by_hand = after(found).groupby("cohort")["estimate"].mean()
    np.testing.assert_allclose(cohort.curve.estimate, by_hand)
    assert cohort.estimate == pytest.approx(np.average(by_hand, weights=found.shares["share"]))
    assert cohort.curve.index == (2, 3, 5)


def test_aggregate_calendar_is_a_plain_mean_of_means_by_shares(found):
    calendar = found.aggregate("calendar")
    by_hand = after(found).groupby("time")[["estimate", "share"]].apply(mean)
    np.testing.assert_allclose(calendar.curve.estimate, by_hand)
    assert calendar.curve.index == (2, 3, 4, 5)
    assert calendar.estimate == pytest.approx(by_hand.mean())


def test_aggregate_errors_without_the_shares_part_are_those_of_fixed_weights(found):
    K = len(found.cells)
    alone = np.array(found.joint_covariance)
    alone[K:] = alone[:, K:] = 0
    w = np.where(found.cells["event_time"] >= 0, 1.0, 0.0)
    w *= found.cells.merge(found.shares, on="cohort")["share"].to_numpy()
    fixed = (w / w.sum()) @ alone[:K, :K] @ (w / w.sum())
    assert found.std_error**2 > fixed  # effects differ between cohorts


def test_aggregate_window_and_balance_keep_what_they_say(found):
    assert found.aggregate("event", min_event=-2, max_event=1).curve.index == (-2, -1, 0, 1)
    early = found.aggregate("simple", max_event=0)
    assert early.estimate == pytest.approx(mean(after(found).query("event_time == 0")))
    balanced = found.aggregate("event", balance=2)  # the cohort of day 5 has event time 0 only
    assert balanced.curve.index == (-2, -1, 0, 1, 2)
    assert balanced.n_treated == {-2: 30, -1: 60, 0: 60, 1: 60, 2: 60}
    cells = after(found).query("cohort < 5 and event_time <= 2")
    by_hand = cells.groupby("event_time")[["estimate", "share"]].apply(mean)
    np.testing.assert_allclose(balanced.curve.estimate[2:], by_hand)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "dynamic"}, "kind must be one of"),
        ({"kind": "event", "max_event": -1}, "no cell from event time 0 on is left"),
        ({"kind": "event", "min_event": 0.5}, "min_event must be a whole number"),
        ({"kind": "event", "balance": -1}, "balance must be a whole number >= 0"),
        ({"kind": "event", "balance": 9}, "no cohort has every event time from 0 to balance=9"),
        ({"kind": "cohort", "balance": 1}, "balance is for kind='event'"),
    ],
)
def test_aggregate_refuses(found, options, words):
    with pytest.raises(ValueError, match=words):
        found.aggregate(**options)


def test_group_time_effects_go_to_json_and_back_with_all_they_can_do(found):
    again = GroupTimeEffects.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    for kind in KINDS:
        part = found.aggregate(kind, max_event=2)
        assert again.aggregate(kind, max_event=2) == part
        assert Aggregation.from_dict(json.loads(json.dumps(part.to_dict()))) == part
    assert again.plot().get_images()
    assert again.summary() == found.summary()


def test_group_time_frames_hold_both_kinds_of_limits(found):
    frame = found.to_frame()
    assert list(frame.columns[-4:]) == ["low", "high", "low_simultaneous", "high_simultaneous"]
    assert len(frame) == len(found.cells)
    assert (frame["low_simultaneous"] < frame["low"]).all()
    event = found.aggregate("event").to_frame()
    assert event["n_treated"].tolist() == [30, 30, 60, 90, 90, 60, 60, 30]


def test_group_time_pretrend_tests_the_cells_before_treatment(found):
    before = found.cells["event_time"] < 0
    b = found.curve.estimate[before]
    V = found.curve.cov[np.ix_(before, before)]
    assert found.pretrend.df == before.sum()
    hotelling = b @ np.linalg.solve(V, b) * (120 - before.sum()) / (120 * before.sum())
    assert found.pretrend.statistic == pytest.approx(hotelling)
    assert found.pretrend.df_denom == 120 - before.sum()
    early = found.aggregate("event")
    assert early.pretrend.df == 4
    assert found.aggregate("cohort").pretrend is None


def test_group_time_pretrend_leaves_out_anticipation_and_the_base():
    log = staggered()
    found = effects(log, anticipation=1, base="universal")
    assert (found.cells["std_error"] == 0).sum() == 3
    assert found.pretrend.df == (found.cells["event_time"] < -2).sum()
    assert found.aggregate("event").pretrend.df == 3


def test_honest_of_group_time_effects_is_that_of_their_event_curve():
    found = effects(staggered(), base="universal")
    mine = found.honest(bound=[0.5], kind="smoothness")
    direct = honest_did(found.aggregate("event").curve, bound=[0.5], kind="smoothness")
    assert mine.frame.equals(direct.frame)
    with pytest.raises(ValueError, match="universal"):
        effects(staggered()).honest()


def test_group_time_summary_says_what_how_and_from_whom(found):
    words = found.summary()
    assert "Callaway-Sant'Anna, no covariates, controls never treated" in words
    assert "effects before the start: joint p" in words
    details = found.effect.details
    assert details["covariance"].startswith("influence functions summed by unit")
    assert details["n_clusters"] == 120
    assert found.effect.n_obs == 720


@pytest.mark.parametrize("kind", KINDS)
def test_aggregation_plots_its_points(found, kind):
    ax = found.aggregate(kind).plot()
    assert "overall" in ax.get_title(loc="left")
    assert len(ax.lines) >= 2


def test_group_time_plot_marks_starts_and_labels():
    found = effects(staggered(90, 12, starts=(4, 7)), base="universal")
    ax = found.plot()
    assert len(ax.texts) == len(found.cells)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["4", "7"]
    assert ax.get_xlabel() == "time"
    assert found.aggregate("event").plot(simultaneous=False).get_legend() is not None
