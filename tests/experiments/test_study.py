"""What a study reads out equals what its parts say, and what it refuses is named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal.decisions.off_policy import off_policy_value
from causal.effect import EstimationWarning
from experiments.ab import Mean, Ratio, ab_curve, ab_test, ab_tests
from experiments.answer import agreement, three_sentences
from experiments.errors import DataError, StudyError
from experiments.policy_readout import weight_histogram
from experiments.report import render, report_document
from experiments.sequential import confidence_sequence
from experiments.srm import srm_test
from experiments.study import built_in_study, run_study
from experiments.study_data import open_log, readable
from experiments.study_file import load_study
from experiments.study_schema import Study
from recsys.datasets import open_bandit

# ibis calls DuckDB under a name that DuckDB is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

REFERENCE = Path(__file__).parents[1] / "reference" / "open_bandit_report.json"
EXACT, MODELLED = 1e-9, 1e-6  # relative; trees differ in the last bits between processors

EXPERIMENT = {"arm": "arm", "control": "A", "cluster": "viewer_id"}
METRICS = {
    "watch": {
        "kind": "mean",
        "outcome": "watch_s",
        "per": "viewer_id",
        "covariates": ["watch_s_before"],
    },
    "ctr": {"kind": "ratio", "numerator": "click", "denominator": "impression"},
}
POLICY = {"name": "new", "reward": "click", "propensity": "propensity", "target": "p_new"}
ROOMS = np.array(["a", "b", "c"])
LOGGED = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
TARGET = np.array([[0.1, 0.3, 0.6], [0.6, 0.3, 0.1]])


def make_log(n_viewers=600, seed=1):
    """Rows of requests; viewers have ids that no other number of a report contains."""
    rng = np.random.default_rng(seed)
    viewer = np.repeat(np.arange(n_viewers), 1 + rng.poisson(3, n_viewers))
    n = len(viewer)
    taste = rng.lognormal(0, 0.4, n_viewers)
    scene = rng.integers(0, 2, n)
    room = (LOGGED[scene].cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return pd.DataFrame(
        {
            "viewer_id": [f"viewer-{777_000_000 + v}" for v in viewer],
            "household": viewer // 2,
            "arm": np.where(rng.random(n_viewers) < 0.5, "B", "A")[viewer],
            "day": [f"2026-11-{1 + d:02d}" for d in rng.integers(0, 4, n)],
            "kind": np.where(rng.random(n_viewers) < 0.4, "new", "old")[viewer],
            "scene": scene,
            "room": ROOMS[room],
            "click": (rng.random(n) < 0.3).astype(int),
            "impression": 1,
            "watch_s": taste[viewer] * rng.exponential(10, n),
            "watch_s_before": taste[viewer],
            "propensity": LOGGED[scene, room],
            "p_new": TARGET[scene, room],
        }
    )


@pytest.fixture
def data(tmp_path):
    frame = make_log()
    (tmp_path / "log").mkdir()
    half = len(frame) // 2
    frame[:half].to_parquet(tmp_path / "log" / "a.parquet", index=False)
    frame[half:].to_parquet(tmp_path / "log" / "b.parquet", index=False)
    return tmp_path, frame


def study(folder, log="log/*.parquet", **parts):
    asked = parts if {"experiment", "off_policy"} & set(parts) else {"experiment": EXPERIMENT}
    if "experiment" in asked:
        asked = {"metrics": METRICS, **asked}
    made = {"version": 1, "title": "t", "data": {"log": log}, **asked}
    return Study.model_validate(made).located(str(folder / "study.yaml"))


def test_run_study_scorecard_equals_ab_tests_on_the_same_rows(data):
    folder, frame = data
    card = run_study(study(folder)).sections[0].scorecard
    alone = ab_tests(
        frame,
        metrics={
            "watch": Mean("watch_s", per="viewer_id", covariates=("watch_s_before",)),
            "ctr": Ratio("click", "impression"),
        },
        arm="arm",
        control="A",
        cluster="viewer_id",
    )
    assert (card.verdict, card.reason) == (alone.verdict, alone.reason)
    for row, other in zip(card.rows, alone.rows, strict=True):
        assert row.metric == other.metric
        assert row.effect.estimate == pytest.approx(other.effect.estimate, rel=1e-9)
        assert row.effect.std_error == pytest.approx(other.effect.std_error, rel=1e-9)
        assert row.p_adjusted == pytest.approx(other.p_adjusted, rel=1e-9)


@pytest.mark.parametrize(
    "log", ["log", "log/*.parquet", ["log/a.parquet", "log/b.parquet"], "log/**/*.parquet"]
)
def test_run_study_reads_files_folders_and_patterns_alike(data, log):
    folder, frame = data
    section = run_study(study(folder, log)).sections[0]
    assert section.log.n_rows == len(frame)
    assert section.log.files == ("log/a.parquet", "log/b.parquet")
    assert section.log.arms == {"A": frame[frame.arm == "A"].viewer_id.nunique()} | {
        "B": frame[frame.arm == "B"].viewer_id.nunique()
    }


def test_run_study_curves_equal_ab_curve_with_the_confidence_sequence_of_each_day(data):
    folder, frame = data
    experiment = {**EXPERIMENT, "day": "day", "segments": ["kind"]}
    curves = run_study(study(folder, experiment=experiment)).sections[0].curves
    assert [(c.metric, c.curve.index_name, c.kind) for c in curves] == [
        ("watch", "day", "day"),
        ("ctr", "day", "day"),
        ("watch", "kind", "segment"),
        ("ctr", "kind", "segment"),
    ]
    options = {"arm": "arm", "control": "A", "cluster": "viewer_id"}
    ctr = ab_curve(frame, metric=("click", "impression"), by="day", cumulative=True, **options)
    np.testing.assert_allclose(curves[1].curve.estimate, ctr.estimate, rtol=1e-9)
    n = ctr.details["n_by_cell"]
    for j, label in enumerate(ctr.index):
        sequence = confidence_sequence(ctr.at(label), n=n[j])
        assert curves[1].always_valid[j] == pytest.approx((sequence.low, sequence.high), rel=1e-9)
    p = [curves[3].curve.at(label).p_value for label in ("new", "old")]
    holm = [min(1.0, 2 * min(p)), max(max(p), min(1.0, 2 * min(p)))]
    assert sorted(curves[3].p_adjusted) == pytest.approx(sorted(holm))


def test_run_study_leaves_out_a_curve_with_too_little_information_and_says_so(data):
    folder, frame = data
    frame["kind"] = np.where(frame.index == 0, "single", frame["kind"])
    frame.to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    experiment = {**EXPERIMENT, "segments": ["kind"]}
    result = run_study(study(folder, experiment=experiment))
    assert result.sections[0].curves == ()
    assert sum("by kind is left out: " in text for text in result.warnings) == 2


def test_run_study_second_look_equals_ab_test_with_the_other_cluster(data):
    folder, frame = data
    metrics = {"ctr": METRICS["ctr"]}
    experiment = {"arm": "arm", "control": "A", "also_cluster": "household", "skip_srm": "why not"}
    section = run_study(study(folder, experiment=experiment, metrics=metrics)).sections[0]
    other = ab_test(
        frame, metric=("click", "impression"), arm="arm", control="A", cluster="household"
    )
    found = section.second_look["ctr", "B"]
    assert found.std_error == pytest.approx(other.std_error, rel=1e-9)
    assert "household" in found.details["why"]
    assert found.n_clusters == frame.household.nunique()


@pytest.mark.parametrize("cluster", [None, "viewer_id", "household"])
def test_run_study_tests_the_split_on_the_randomised_unit(data, cluster):
    folder, frame = data
    experiment = {"arm": "arm", "control": "A", "cluster": cluster, "unit": "viewer_id"}
    metrics = {"watch": METRICS["watch"]}
    section = run_study(study(folder, experiment=experiment, metrics=metrics)).sections[0]
    split = srm_test(frame, arm="arm", unit="viewer_id")
    assert section.log.arms == split.counts
    assert section.log.unit == "viewer_id"
    assert section.checks[0].p_value == pytest.approx(split.p_value)


def test_run_study_calls_the_counted_units_by_what_the_metrics_are_summed_to(data):
    folder, frame = data
    experiment = {"arm": "arm", "control": "A"}
    metrics = {"watch": METRICS["watch"]}
    log = run_study(study(folder, experiment=experiment, metrics=metrics)).sections[0].log
    assert (log.n_units, log.unit) == (frame.viewer_id.nunique(), "viewer_id")


@pytest.mark.parametrize("cluster", [None, "viewer_id", "household"])
def test_run_study_refuses_a_unit_in_both_arms(data, cluster):
    folder, frame = data
    viewer = frame.viewer_id.iloc[0]
    assert (frame.viewer_id == viewer).sum() > 1
    frame.loc[0, "arm"] = "A" if frame.arm.iloc[0] == "B" else "B"
    frame.to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    experiment = {"arm": "arm", "control": "A", "unit": "viewer_id", "cluster": cluster}
    metrics = METRICS if cluster == "viewer_id" else {"watch": METRICS["watch"]}
    expected = r"study\.yaml: experiment\.unit: unit 'viewer_id' must be in one arm; 1 "
    with pytest.raises(DataError, match=expected):
        run_study(study(folder, experiment=experiment, metrics=metrics))


def test_run_study_refuses_repeated_units_within_other_clusters(data):
    folder, _ = data
    experiment = {"arm": "arm", "control": "A", "unit": "viewer_id", "cluster": "household"}
    with pytest.raises(DataError, match=r"experiment\.unit: unit 'viewer_id' must be unique"):
        run_study(study(folder, experiment=experiment, metrics={"ctr": METRICS["ctr"]}))


def test_run_study_skipped_split_is_neither_tested_nor_decides_nor_warns(data):
    folder, frame = data
    frame.drop(frame.index[(frame.arm == "B") & (frame.household % 3 > 0)]).to_parquet(
        folder / "log" / "a.parquet"
    )
    (folder / "log" / "b.parquet").unlink()
    failed = run_study(study(folder))
    assert failed.sections[0].checks[0].status == "failed"
    assert "not as large as designed" in failed.sections[0].scorecard.reason
    assert failed.failures[0].startswith("split, overall: ")
    assert three_sentences(failed)[2].startswith("Do not trust it yet: the split does not agree")
    experiment = {**EXPERIMENT, "skip_srm": "sampled upstream"}
    skipped = run_study(study(folder, experiment=experiment))
    check = skipped.sections[0].checks[0]
    assert (check.status, check.finding) == ("not tested", "sampled upstream")
    assert "not as large" not in skipped.sections[0].scorecard.reason
    assert skipped.warnings == ()
    assert skipped.failures == ()


def test_run_study_counts_repeated_rows_and_checks_a_log_of_scored_treatments(data):
    folder, frame = data
    frame = frame.assign(
        impression_id=np.arange(len(frame)),
        timestamp=pd.Timestamp("2026-11-01", tz="UTC"),
        room_id=frame.room,
        policy_id="old",
    )
    frame.loc[3, "propensity"] = 1.5
    pd.concat([frame, frame[:5]]).to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    result = run_study(study(folder))
    found = {check.name: check for check in result.sections[0].checks}
    assert found["repeated rows"].finding == "5 rows repeat another row in every column"
    assert found["log schema"].status == "failed"
    assert "propensity must be in (0, 1], 2 rows not" in found["log schema"].finding
    assert any(text.startswith("log schema: ") for text in result.failures)


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


@pytest.mark.parametrize(
    ("one", "other", "first", "last"),
    [
        (lambda day: day.astype("category"), lambda day: day, "2026-11-01", "2026-11-04"),
        (
            lambda day: day.str[-1:].astype(int),
            lambda day: day.str[-1:].astype(float),
            "1.0",
            "4.0",
        ),
        (pd.to_datetime, pd.to_datetime, "2026-11-01 00:00:00", "2026-11-04 00:00:00"),
    ],
)
def test_run_study_reads_days_of_any_kind(data, one, other, first, last):
    folder, _ = data
    for name, kind in (("a", one), ("b", other)):
        path = folder / "log" / f"{name}.parquet"
        frame = pd.read_parquet(path)
        frame.assign(day=kind(frame.day)).to_parquet(path)
    asked = study(folder, experiment={**EXPERIMENT, "day": "day"}, metrics={"ctr": METRICS["ctr"]})
    log = run_study(asked).sections[0].log
    assert (log.first, log.last) == (first, last)


def test_readable_names_the_damaged_file(data):
    folder, _ = data
    source = open_log(study(folder))
    path = folder / "log" / "b.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes(1000) + whole[1100:])
    with (
        pytest.raises(DataError, match=r"^log/b\.parquet: must be a whole Parquet file; it is dam"),
        readable(source),
    ):
        source.rows.to_table()


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("lag/*.parquet", "lag/*.parquet: no such file"),
        ("empty", "empty: the folder must hold *.parquet files; it holds none"),
        ("none.parquet", "none.parquet: the log must have rows; it has none"),
    ],
)
def test_run_study_refuses_data_that_is_not_there(data, log, expected):
    folder, frame = data
    (folder / "empty").mkdir()
    frame[:0].to_parquet(folder / "none.parquet")
    with pytest.raises(DataError, match=f"^{expected.replace('*', '[*]')}$"):
        run_study(study(folder, log))


def test_run_study_refuses_a_doubled_column_by_its_file(data):
    folder, frame = data
    table = pa.Table.from_pandas(frame, preserve_index=False)
    doubled = table.append_column("click", table["click"])
    pq.write_table(doubled, folder / "log" / "b.parquet")
    with pytest.raises(DataError, match=r"^log/b\.parquet: column 'click' is doubled; rename"):
        run_study(study(folder))


def test_run_study_passes_on_that_a_unit_must_have_one_row(data):
    folder, _ = data
    experiment = {"arm": "arm", "control": "A", "unit": "viewer_id"}
    with pytest.raises(DataError, match=r"study\.yaml: experiment\.unit: "):
        run_study(study(folder, experiment=experiment, metrics={"ctr": METRICS["ctr"]}))


def test_report_of_a_study_holds_no_viewer(data):
    folder, _ = data
    experiment = {**EXPERIMENT, "day": "day", "segments": ["kind"]}
    entry = {**POLICY, "cluster": "viewer_id"}
    asked = study(folder, experiment=experiment, metrics=METRICS, off_policy=[entry])
    files = render(run_study(asked), folder / "out")
    for path in (files.html, files.json, *files.tables):
        assert b"viewer-777" not in path.read_bytes()


def test_run_study_collects_warnings_and_raises_none(data):
    folder, frame = data
    frame.loc[:30, "watch_s"] = np.nan
    frame.to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", EstimationWarning)
        result = run_study(study(folder))
    assert any("watch_s" in text for text in result.warnings)


def test_run_study_shows_progress_on_stderr_only(data, capsys):
    folder, _ = data
    run_study(study(folder), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "scorecard" in shown.err


def test_run_study_twice_gives_the_same_document_apart_from_time(data):
    folder, _ = data
    asked = study(folder, off_policy=[{**POLICY}], experiment=EXPERIMENT, metrics=METRICS)
    one = report_document(run_study(asked), created_at="now")
    two = report_document(run_study(asked), created_at="later")
    assert {key for key in one if one[key] != two[key]} == {"created_at"}


def test_provenance_changes_with_the_content_of_the_data_and_of_the_study(data):
    folder, frame = data
    one = run_study(study(folder)).provenance
    frame[: len(frame) // 2].assign(click=0).to_parquet(folder / "log" / "a.parquet", index=False)
    two = run_study(study(folder)).provenance
    assert [f["file"] for f in one["inputs"]] == ["log/a.parquet", "log/b.parquet"]
    changed = [
        a["sha256"] != b["sha256"] for a, b in zip(one["inputs"], two["inputs"], strict=True)
    ]
    assert changed == [True, False]
    other = run_study(study(folder, experiment={**EXPERIMENT, "adjustment": "none"})).provenance
    assert other["study"]["sha256"] != one["study"]["sha256"]


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


@pytest.fixture(scope="module")
def open_bandit_result():
    return run_study(built_in_study())


def test_built_in_study_names_its_campaigns_policies_and_what_was_not_tested(open_bandit_result):
    result = open_bandit_result
    assert [s.name for s in result.sections] == ["campaign all", "campaign men"]
    for section in result.sections:
        assert section.control == "random"
        assert section.scorecard.rows[0].treatment == "bts"
        assert section.checks[0].status == "not tested"
        assert "sampled to equal size upstream" in section.checks[0].finding
        assert all(check.status == "passed" for check in section.checks[1:])
        assert section.second_cluster == "hour of the week"
        assert {c.curve.index_name for c in section.curves} == {"day", "position"}
        first, second = section.policies
        assert list(first.estimates) == ["ips", "snips", "dr", "switch", "shrinkage"]
        assert list(second.estimates) == ["ips", "snips"]
        assert second.average_policy
    assert "these logs cannot rank estimators" in three_sentences(result)[2]
    assert result.failures == ()


def test_built_in_study_numbers_follow_from_the_logs_by_hand(open_bandit_result):
    for campaign, section in zip(("all", "men"), open_bandit_result.sections, strict=True):
        bts = open_bandit(campaign, "bts").joined()
        random = open_bandit(campaign, "random").joined()
        effect = section.scorecard.rows[0].effect
        assert effect.estimate == pytest.approx(bts.click.mean() - random.click.mean(), rel=1e-9)
        spread = np.sqrt(bts.click.var() / len(bts) + random.click.var() / len(random))
        assert effect.std_error == pytest.approx(spread, rel=1e-3)
        first = section.policies[0]
        weight = 1 / bts.n_candidates / bts.propensity
        assert first.estimates["ips"].estimate == pytest.approx((weight * bts.click).mean())
        snips = (weight * bts.click).sum() / weight.sum()
        assert first.estimates["snips"].estimate == pytest.approx(snips)
        assert first.diagnostics.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
        assert first.on_policy.estimate == pytest.approx(random.click.mean())
        assert first.n_rewards == bts.click.sum()


def test_built_in_study_agrees_with_what_each_policy_earned(open_bandit_result):
    for section in open_bandit_result.sections:
        five, two = (agreement(policy, 0.95) for policy in section.policies)
        assert "all five estimates agree with it" in five
        assert "both estimates agree with it" in two


@pytest.mark.reference
def test_built_in_study_reproduces_the_stored_report(open_bandit_result):
    """Numbers of the day the file was made, by `tests/reference/make_open_bandit_report.py`."""
    stored = json.loads(REFERENCE.read_text())
    document = report_document(open_bandit_result, created_at="now")
    for part, rows in stored.items():
        found = document[part] if part != "policy_values" else document[part]["values"]
        assert len(found) == len(rows)
        for row, expected in zip(found, rows, strict=True):
            modelled = expected.get("method") in ("dr", "switch", "shrinkage")
            for key, value in expected.items():
                if isinstance(value, float):
                    tolerance = MODELLED if modelled else EXACT
                    assert row[key] == pytest.approx(value, rel=tolerance, abs=EXACT), (part, key)
                else:
                    assert row[key] == value, (part, key)


def test_built_in_study_refuses_another_name():
    with pytest.raises(StudyError, match="must be 'open_bandit'; got 'other'"):
        built_in_study("other")


def test_load_study_resolves_paths_from_the_folder_of_the_file(data, monkeypatch):
    folder, frame = data
    text = Study.model_validate(study(folder).model_dump()).model_dump_json(exclude_none=True)
    (folder / "study.yaml").write_text(text)
    monkeypatch.chdir(folder.parent)
    assert run_study(load_study(folder / "study.yaml")).sections[0].log.n_rows == len(frame)
