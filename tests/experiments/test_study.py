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
from study_log import EXPERIMENT, METRICS, POLICY, make_log, study, write_log

from causal.effect import EstimationWarning
from experiments.errors import DataError, StudyError
from experiments.report.answer import agreement, three_sentences
from experiments.report.report import render, report_document
from experiments.splits.ab import Mean, Ratio, ab_curve, ab_test, ab_tests
from experiments.splits.sequential import confidence_sequence
from experiments.splits.srm import srm_test
from experiments.study.study import built_in_study, run_study
from experiments.study.study_data import open_log, readable
from experiments.study.study_file import load_study
from experiments.study.study_schema import Study
from recsys.datasets import open_bandit

# ibis calls DuckDB under a name that DuckDB is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

REFERENCE = Path(__file__).parents[1] / "reference" / "open_bandit_report.json"
EXACT, MODELLED = 1e-9, 1e-6  # relative; trees differ in the last bits between processors


@pytest.fixture
def data(tmp_path):
    return tmp_path, write_log(tmp_path)


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


@pytest.mark.parametrize(
    "log",
    [
        ["log/a.parquet", "log/../log/a.parquet", "log/b.parquet"],
        ["log", "log/*.parquet"],
        ["log/a.parquet", "ABSOLUTE/a.parquet", "log/b.parquet"],
    ],
)
def test_run_study_counts_a_file_of_two_spellings_once(data, log):
    folder, frame = data
    log = [name.replace("ABSOLUTE", str((folder / "log").resolve())) for name in log]
    section = run_study(study(folder, log, off_policy=[POLICY], experiment=EXPERIMENT)).sections[0]
    assert section.log.n_rows == len(frame)
    assert section.log.files == ("log/a.parquet", "log/b.parquet")
    assert section.policies[0].logging.n_obs == len(frame)
    assert sum(section.log.arms.values()) == frame.viewer_id.nunique()


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


def test_run_study_leaves_a_metric_out_of_a_second_look_that_cuts_its_units(data):
    folder, frame = data
    experiment = {**EXPERIMENT, "also_cluster": "day"}
    section = run_study(study(folder, experiment=experiment)).sections[0]
    assert set(section.second_look) == {("ctr", "B")}
    assert section.second_look["ctr", "B"].n_clusters == frame.day.nunique()
    expected = (
        "watch has no second look: it is summed to 'viewer_id', and some of these have rows in "
        "several of 'day'"
    )
    assert section.warnings.count(expected) == 1
    assert not any("777000" in text for text in section.warnings)


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


def test_run_study_locates_a_refused_trigger(data):
    folder, frame = data
    frame = frame.assign(seen=(frame.index == frame[frame.arm == "A"].index[0]).astype(int))
    frame.to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    experiment = {**EXPERIMENT, "trigger": "seen"}
    with pytest.raises(DataError) as caught:
        run_study(study(folder, experiment=experiment, metrics={"ctr": METRICS["ctr"]}))
    expected = "experiment.trigger: every arm needs at least 2 triggered"
    assert str(caught.value).startswith(f"{folder / 'study.yaml'}: {expected}")


@pytest.mark.parametrize(
    ("change", "option", "words"),
    [
        ({"control": False}, "control", "got false; YAML reads no, off and false"),
        (
            {"control": "no", "treatment": True},
            "treatment",
            "got true; YAML reads yes, on and true",
        ),
        (
            {"control": "no", "expected_share": {"no": 0.5, True: 0.5}},
            "expected_share",
            "got true; YAML reads yes, on and true",
        ),
    ],
)
def test_run_study_says_to_quote_an_arm_that_yaml_reads_as_a_truth_value(
    data, change, option, words
):
    folder, frame = data
    frame["arm"] = np.where(frame.arm == "A", "no", "yes")
    frame.to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    experiment = {"arm": "arm", "cluster": "viewer_id", **change}
    with pytest.raises(DataError) as caught:
        run_study(study(folder, experiment=experiment))
    place = f"{folder / 'study.yaml'}: experiment.{option}: column 'arm' holds text; {words}"
    assert str(caught.value) == f"{place} without quotes as that: put the label in quotes"


def test_run_study_takes_true_and_false_as_arms_of_a_column_of_them(data):
    folder, frame = data
    frame["arm"] = frame.arm == "B"
    frame.to_parquet(folder / "log" / "a.parquet")
    (folder / "log" / "b.parquet").unlink()
    experiment = {**EXPERIMENT, "control": False}
    card = run_study(study(folder, experiment=experiment)).sections[0].scorecard
    assert [row.treatment for row in card.rows] == [True, True]


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


def test_run_study_gives_the_same_document_on_any_number_of_threads(tmp_path, monkeypatch):
    """Sums of 100,000 rows on several threads differ in their last bits from run to run."""
    frame = make_log(n_viewers=25_000, seed=4)
    frame["watch_s"] = frame.watch_s + 1_000  # effects are small beside the control level
    (tmp_path / "log").mkdir()
    for i in range(4):
        frame[i::4].to_parquet(tmp_path / "log" / f"{i}.parquet", index=False)
    experiment = {**EXPERIMENT, "day": "day", "segments": ["kind"]}
    mean = {"kind": "mean", "outcome": "watch_s", "covariates": ["watch_s_before"]}
    asked = study(
        tmp_path, experiment=experiment, metrics={**METRICS, "raw": mean}, off_policy=[POLICY]
    )
    documents = []
    for threads in ("1", "2", "2"):
        monkeypatch.setenv("LIVELIFT_THREADS", threads)
        documents.append(report_document(run_study(asked), created_at="now"))
    assert documents[0] == documents[1] == documents[2]


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
    del stored["designs"]  # those of `test_platform_question.py`
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
