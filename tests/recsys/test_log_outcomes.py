"""Outcomes joined to impressions: windows, censoring, late reports."""

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_tables import found, make_frame, make_outcomes

from recsys.log import ScoredTreatments

# ---------------------------------------------------------------- outcomes


def test_joined_by_hand():
    frame = make_frame(8, position=[1, 1, 1, 1, 1, 1, 1, None])
    outcomes = make_outcomes(
        frame,
        [
            (0, "click", 1.0, 5, False),  # a click, the rest closed
            (1, "click", 0.0, 300, False),  # a negative report, then a late positive
            (1, "click", 1.0, 1800, False),
            (2, "gift", 2.0, 60, False),  # two gifts
            (2, "gift", 3.5, 90, False),
            (3, "watch_s", None, 600, True),  # still open: gift and click are not known either
            (4, "click", 1.0, 5, False),  # clicked, watch still open
            (4, "watch_s", None, 600, True),
            (5, "watch_s", None, 600, True),  # was open, then closed
            (5, "watch_s", 700.0, 701, False),
        ],
    )
    joined = ScoredTreatments(frame, outcomes).joined()
    nan = math.nan
    expected = frame.assign(
        click=[1.0, 1, 0, nan, 1, 0, 0, nan],
        gift=[0.0, 0, 5.5, nan, nan, 0, 0, nan],
        watch_s=[0.0, 0, 0, nan, nan, 700, 0, nan],
    )
    pd.testing.assert_frame_equal(joined, expected)


def test_joined_window_counts_only_reports_in_time():
    frame = make_frame(4)
    outcomes = make_outcomes(
        frame,
        [
            (0, "click", 1.0, 300, False),  # at the end of the window: in time
            (1, "click", 1.0, 301, False),
            (2, "click", None, 299, True),  # open before the window's end: not known
            (3, "click", None, 301, True),  # censored later: the window was closed
        ],
    )
    log = ScoredTreatments(frame, outcomes)
    in_time = log.joined(outcome_window=timedelta(minutes=5))["click"]
    np.testing.assert_array_equal(in_time, [1, 0, math.nan, 0])
    np.testing.assert_array_equal(log.joined()["click"], [1, 1, math.nan, math.nan])


def test_joined_adds_no_column_when_nothing_was_reported():
    frame = make_frame()
    empty = make_outcomes(frame, [(0, "click", 1.0, 1, False)]).head(0)
    pd.testing.assert_frame_equal(ScoredTreatments(frame, empty).joined(), frame)
    assert found(frame, empty) == []


def test_joined_keeps_hostile_names_as_they_are():
    hostile = ['a"; DROP TABLE treatments; --', "row", "self", "value_0", "列\n<b>", "x" * 300]
    frame = make_frame(3, **{"seen_0": 1.0, "select": ["a", "b", "c"], "any_open": True})
    rows = [(i % 3, name, i + 1.0, 1, False) for i, name in enumerate(hostile)]
    joined = ScoredTreatments(frame, make_outcomes(frame, rows)).joined()
    assert list(joined.columns) == [*frame.columns, *sorted(hostile)]
    for i, name in enumerate(hostile):
        assert joined[name].tolist() == [i + 1.0 if row == i % 3 else 0.0 for row in range(3)]


def test_joined_refuses_what_it_cannot_tell():
    frame = make_frame()
    outcomes = make_outcomes(frame, [(0, "room_id", 1.0, 1, False)])
    with pytest.raises(ValueError, match="this log has none"):
        ScoredTreatments(frame).joined()
    with pytest.raises(ValueError, match="'room_id' is: rename it"):
        ScoredTreatments(frame, outcomes).joined()
    with pytest.raises(ValueError, match="impression_id must be unique"):
        ScoredTreatments(pd.concat([frame, frame]), outcomes).joined()
    with pytest.raises(ValueError, match=r"outcomes\.censored must be present"):
        ScoredTreatments(frame, outcomes.drop(columns="censored")).joined()
    with pytest.raises(ValueError, match=r"outcomes\.outcome must be present"):
        ScoredTreatments(frame, outcomes.assign(outcome=pd.array([None], dtype="str"))).joined()
    with pytest.raises(ValueError, match="must have rows"):
        ScoredTreatments(frame.head(0), outcomes).joined()
    with pytest.raises(ValueError, match="outcome_window must be positive"):
        ScoredTreatments(frame, outcomes).joined(outcome_window=timedelta(0))
    with pytest.raises(TypeError, match="outcome_window must be a timedelta"):
        ScoredTreatments(frame, outcomes).joined(outcome_window=300)


REPORTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["click", "gift", "watch_s"]),
        st.integers(0, 3).map(float),
        st.integers(0, 5),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def joined_by_loop(frame, outcomes, window):
    """The definition of `joined`, one cell at a time."""
    names = sorted(set(outcomes["outcome"]))
    shown = frame["position"].notna().tolist()
    table = {name: [] for name in names}
    for i, impression in enumerate(frame["impression_id"]):
        mine = outcomes[outcomes["impression_id"] == impression]
        if window is not None:
            mine = mine[mine["reported_at"] <= frame["timestamp"][i] + window]
        cells, still_open = {}, set()
        for name, reports in mine.groupby("outcome"):
            last = reports[reports["reported_at"] == reports["reported_at"].max()]
            closed = reports[~reports["censored"]]
            cells[name] = math.nan if last["censored"].any() else closed["value"].sum()
            if last["censored"].any():
                still_open.add(name)
        for name in names:
            rest = math.nan if still_open or not shown[i] else 0.0
            table[name].append(cells.get(name, rest))
    return table


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=REPORTS, window=st.sampled_from([None, 1, 3]), seed=st.integers(0, 99))
def test_joined_equals_the_loop_in_any_order_of_reports(rows, window, seed):
    frame = make_frame(5, position=[1, 2, None, 1, 1])
    outcomes = make_outcomes(frame, rows).sample(frac=1, random_state=seed)
    span = None if window is None else timedelta(seconds=window)
    joined = ScoredTreatments(frame, outcomes).joined(outcome_window=span)
    for name, values in joined_by_loop(frame, outcomes, span).items():
        np.testing.assert_array_equal(joined[name], values)
