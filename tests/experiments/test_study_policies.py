"""Policy values that a study reads out equal what their parts say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from study_log import POLICY, ROOMS, TARGET, study, write_log

from causal.decisions.off_policy import logged_policy_value, off_policy_value
from experiments.errors import DataError
from experiments.report.answer import agreement
from experiments.study.policy_readout import weight_histogram
from experiments.study.study import run_study

# ibis calls DuckDB under a name that DuckDB is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")


@pytest.fixture
def data(tmp_path):
    return tmp_path, write_log(tmp_path)


def test_run_study_values_equal_off_policy_value_with_the_true_policy(data):
    folder, frame = data
    entry = {**POLICY, "action": "room", "features": ["scene"], "methods": ["ips", "snips", "dr"]}
    policy = run_study(study(folder, off_policy=[entry])).sections[0].policies[0]
    for method in ("ips", "snips", "dr"):
        alone = off_policy_value(
            frame,
            reward="click",
            propensity="propensity",
            target_policy=TARGET[frame.scene],
            actions=list(ROOMS),
            action="room",
            features=["scene"],
            method=method,
        )
        assert policy.estimates[method].estimate == pytest.approx(alone.estimate, rel=1e-9)
        assert policy.estimates[method].std_error == pytest.approx(alone.std_error, rel=1e-9)
    assert policy.logging.estimate == pytest.approx(frame.click.mean(), rel=1e-12)
    expected = frame.click.std() / np.sqrt(len(frame))
    assert policy.logging.std_error == pytest.approx(expected, rel=1e-9)
    assert policy.n_rewards == frame.click.sum()


def test_run_study_compares_with_the_rows_that_the_target_earned_itself(data):
    folder, frame = data
    entry = {**POLICY, "rows": {"arm": "A"}, "on_policy": {"arm": "B"}, "methods": ["ips"]}
    policy = run_study(study(folder, off_policy=[entry])).sections[0].policies[0]
    assert policy.on_policy.estimate == pytest.approx(frame[frame.arm == "B"].click.mean())
    assert policy.estimates["ips"].n_obs == (frame.arm == "A").sum()
    assert "was earned on-policy; the estimate agrees with it" in agreement(policy, 0.95)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rows": {"arm": "C"}}, "off_policy.0.rows: no row has arm = C"),
        (
            {"rows": {"arm": 1}},
            "off_policy.0.rows.arm: the value must be of the column's kind, large_string, such as "
            '"A"; got 1; write text and dates in quotes, numbers and true or false not',
        ),
        (
            {"rows": {"scene": "1"}},
            "off_policy.0.rows.scene: the value must be of the column's kind, int64, such as ",
        ),
        (
            {"on_policy": {"scene": True}},
            "off_policy.0.on_policy.scene: the value must be of the column's kind, int64, such as ",
        ),
        ({"on_policy": {"day": "x"}}, "off_policy.0.on_policy: no row has day = x"),
        (
            {"methods": ["dr"], "action": "room"},
            "off_policy.0.target: 'p_new' must be a function of 'room' and of the features for dr",
        ),
        (
            {"methods": ["dr"], "action": "room", "features": ["scene", "viewer_id"]},
            "off_policy.0.target: the probabilities of all actions must sum to 1 in each cell",
        ),
        ({"reward": "clik"}, "off_policy.0.reward: column 'clik' is not in log/*.parquet"),
        ({"propensity": "room"}, "off_policy.0.propensity: column 'room' must hold numbers"),
    ],
)
def test_run_study_refuses_a_policy_and_names_the_place(data, change, expected):
    folder, _ = data
    asked = study(folder, off_policy=[{**POLICY, **change}])
    with pytest.raises(DataError) as caught:
        run_study(asked)
    assert str(caught.value).startswith(f"{folder / 'study.yaml'}: {expected}")


@pytest.mark.parametrize("by", [[], ["scene"]])
def test_run_study_values_a_logged_target_with_clusters_of_both_logs(data, by):
    folder, frame = data
    entry = {**POLICY, "rows": {"arm": "A"}, "target_log": {"arm": "B"}, "action": "room"}
    entry |= {"cluster": "day", "by": by, "methods": ["ips", "snips"]}
    entry.pop("target")
    policy = run_study(study(folder, off_policy=[entry])).sections[0].policies[0]
    for method, value in policy.estimates.items():
        alone = logged_policy_value(
            frame[frame.arm == "A"],
            target_log=frame[frame.arm == "B"],
            action="room",
            reward="click",
            propensity="propensity",
            by=by,
            cluster="day",
            method=method,
        ).effect
        assert value.estimate == pytest.approx(alone.estimate, rel=1e-9)
        assert value.std_error == pytest.approx(alone.std_error, rel=1e-9)
        assert value.n_clusters == alone.n_clusters == frame.day.nunique()


def test_run_study_names_file_and_rows_of_a_refused_propensity(data):
    folder, _ = data
    second = pd.read_parquet(folder / "log" / "b.parquet")
    of_a = np.flatnonzero(second.arm == "A")
    second.loc[of_a[[3, 5]], "propensity"] = [1.3, np.nan]
    second.loc[second.index[second.arm == "B"], "propensity"] = -1.0
    second.to_parquet(folder / "log" / "b.parquet", index=False)
    with pytest.raises(DataError) as caught:
        run_study(study(folder, off_policy=[{**POLICY, "rows": {"arm": "A"}}]))
    assert str(caught.value) == (
        f"log/b.parquet: propensity must be in (0, 1]; 2 rows are not, e.g. rows {of_a[3]}, "
        f"{of_a[5]} (1.3, missing); log the probability with which the shown action was chosen"
    )


def test_run_study_compares_dates_with_text(data):
    folder, frame = data
    day = pd.to_datetime(frame.day)
    frame.assign(date=day.dt.date, time=day).to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    entries = [
        {**POLICY, "name": column, "rows": {column: "2026-11-02"}} for column in ("date", "time")
    ]
    for policy in run_study(study(folder, off_policy=entries)).sections[0].policies:
        assert policy.logging.n_obs == (frame.day == "2026-11-02").sum()
    entry = {**POLICY, "rows": {"date": "yesterday"}}
    with pytest.raises(DataError, match=r'rows\.date: .* such as "2026-11-0\d"; got "yesterday"'):
        run_study(study(folder, off_policy=[entry]))


def test_weight_histogram_holds_every_weight_once():
    weights = np.array([0.0, 0.1, 1.0, 1.0, 10.0])
    histogram = weight_histogram(weights)
    assert histogram.edges[0] <= -1
    assert histogram.edges[-1] >= 1
    assert sum(histogram.rows) == pytest.approx(0.8)
    assert sum(histogram.weight) == pytest.approx(1.0)
    assert histogram.zero == pytest.approx(0.2)
    with pytest.raises(ValueError, match="weight above 0"):
        weight_histogram(np.zeros(3))
