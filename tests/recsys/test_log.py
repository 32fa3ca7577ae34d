"""`recsys.log`: every rule by hand, outcomes by hand and by a loop, all intake kinds, files."""

import itertools
import json
import math
import os
from datetime import UTC, datetime

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_tables import START, found, make_frame, make_outcomes

from recsys.log import COLUMNS, OUTCOME_COLUMNS, Problem, ScoredTreatments, schema_table

# ---------------------------------------------------------------- rules, exactly


def test_check_passes_a_valid_log():
    frame = make_frame(position=[1, 1, 1, 1, 2, 1], request_id=[1, 2, 3, 4, 4, 5])
    outcomes = make_outcomes(frame, [(0, "click", 1.0, 5, False), (1, "gift", None, 60, True)])
    check = ScoredTreatments(frame, outcomes).check()
    assert check.problems == ()
    assert check.ok
    assert check.to_frame().empty


def test_validate_says_what_the_command_line_prints():
    propensity = [0.5] * 100
    propensity[17], propensity[42], propensity[99] = 0.0, 1.3, -0.1
    log = ScoredTreatments(make_frame(100, propensity=propensity))
    with pytest.raises(ValueError, match="propensity") as error:
        log.validate()
    assert str(error.value) == (
        "propensity must be in (0, 1]; 3 rows are not, e.g. rows 17, 42, 99 (0.0, 1.3, -0.1)"
    )


def test_validate_returns_the_log_when_only_warnings_remain():
    log = ScoredTreatments(make_frame(propensity=[0.5, None, np.nan, 0.5, 1.0, 1e-7]))
    assert log.validate() is log
    assert found(log.frame) == [("propensity", "warning", 2), ("propensity", "warning", 1)]


def test_message_counts_one_row_in_the_singular():
    check = ScoredTreatments(make_frame(propensity=[1, 1, 1, 1, 1, math.inf])).check()
    assert check.problems[0].message == (
        "propensity must be in (0, 1]; 1 row is not, e.g. row 5 (inf)"
    )


LATER = START + pd.Timedelta("1h")
ROW_RULES = [
    ("propensity", [0.5, 0.0, 1.0, 1.0 + 1e-9, -0.1, 1.0], 3),
    ("p_click", [0.0, 1.0, 1.5, -0.1, None, math.inf], 3),
    ("e_watch_s", [0.0, -1.0, math.inf, 5, None, 5], 2),
    ("ranking_score", [0.0, -1.0, math.inf, -math.inf, None, 5], 2),
    ("log_propensity", [0.0, -1.0, 0.1, -math.inf, None, -5], 2),
    ("temperature", [0.0, 1.0, -1.0, None, 1, 1], 2),
    ("position", [1, 2, 0, -1, None, 1], 2),
    ("position", [1, 2, 1.5, None, 1, 1], 1),
    ("n_live_rooms", [0, 1, -1, 4, 4, 4], 1),
    ("code_now", [-1, 0, -2, 4, 4, 4], 1),
    ("model_trained_until", [START] * 5 + [LATER], 1),
    ("exit_timestamp", [LATER] * 5 + [START], 1),
    ("exit_timestamp", [LATER] * 5 + [None], 0),
    ("room_id", ["a", None, None, "b", "c", "d"], 2),
    ("policy_id", ["a", "b", "c", None, "d", "e"], 1),
    ("timestamp", [START] * 4 + [None, pd.Timestamp("1999-12-31", tz="UTC")], 2),
    ("timestamp", [START] * 5 + [pd.Timestamp.now("UTC") + pd.Timedelta("2D")], 1),
    ("impression_id", [1, 2, 2, 3, 1, 1], 5),
]


@pytest.mark.parametrize(("name", "values", "n_bad"), ROW_RULES)
def test_check_counts_the_rows_that_break_a_rule(name, values, n_bad):
    counted = [p for p in found(make_frame(**{name: values})) if p[0] == name]
    assert sum(n for *_, n in counted) == n_bad
    assert all(severity == "error" for _, severity, _ in counted)


def test_check_window_refuses_seconds_taken_for_milliseconds():
    seconds = [int(START.timestamp())] * 6
    assert found(make_frame(timestamp=seconds)) == [("timestamp", "error", 6)]
    assert found(make_frame(timestamp=[s * 1000 for s in seconds])) == []


def test_check_survives_extreme_values():
    frame = make_frame(
        timestamp=[2**63 - 1, -(2**63), 0, 1, 2, 3], n_candidates=[2**63 - 1, -(2**63), 1, 1, 1, 1]
    )
    assert found(frame) == [("timestamp", "error", 6), ("n_candidates", "error", 1)]


def test_check_reports_null_impressions_and_reads_them_as_no_copies():
    frame = make_frame(impression_id=pd.array([1, None, None, 2, 3, 4], dtype="Int64"))
    assert found(frame) == [("impression_id", "error", 2)]


def test_check_wants_positions_distinct_within_a_request():
    frame = make_frame(request_id=[1, 1, 1, 2, 2, 2], position=[1, 2, 2, 1, None, None])
    (problem,) = ScoredTreatments(frame).check().problems
    assert (problem.column, problem.n_rows, problem.examples[0].value) == ("position", 2, 1)


@pytest.mark.parametrize(
    ("position", "n_doubled"),
    [
        ([1, 62, 63, 64, 200, 10**9], 0),
        ([1, 2, 63, 63, 200, 10**9], 2),
        ([62, 62, 3, 4, 5, 64], 2),
        ([0, 0, 3, 4, 5, 64], 2),
        ([2.0, None, 2.0, None, 2.0, 1.0], 3),
    ],
)
def test_check_finds_doubled_positions_at_any_depth_of_the_list(position, n_doubled):
    problems = ScoredTreatments(make_frame(position=position, request_id="r")).check().problems
    counts = [p.n_rows for p in problems if p.rule.startswith("distinct")]
    assert counts == ([n_doubled] if n_doubled else [])


CANDIDATE_SETS = [
    # propensities, positions, n_candidates, is a problem
    ([0.5, 0.3, 0.2], [1, None, None], 3, False),
    ([0.5, 0.3, 0.1], [1, None, None], 3, True),
    ([0.5, 0.3, 0.2 + 2e-6], [None, 1, None], 3, True),
    ([0.5, 0.3, 0.2 + 5e-7], [None, 1, None], 3, False),
    ([0.5, 0.3, 0.1], [1, None, None], 4, False),  # one candidate is not logged
    ([0.5, 0.9, 0.2], [1, 2, None], 3, False),  # 0.9 is conditional on the first place
    ([0.5, 0.9, 0.6], [1, 2, None], 3, True),  # but 0.5 and 0.6 are of one draw
    ([0.5, 0.9, 1.0], [1, 2, 3], 3, False),  # nothing was left out
    ([0.5, 0.3, 0.2], [None, None, None], 3, False),
    ([0.5, None, 0.2], [1, None, None], 3, False),  # unknown: a warning, no sum
]


@pytest.mark.parametrize(("propensity", "position", "n_candidates", "bad"), CANDIDATE_SETS)
def test_check_wants_propensities_of_a_logged_candidate_set_to_sum_to_one(
    propensity, position, n_candidates, bad
):
    frame = make_frame(
        3, propensity=propensity, position=position, n_candidates=n_candidates, request_id="r"
    )
    errors = [p for p in found(frame) if p[1] == "error"]
    assert errors == ([("propensity", "error", 3)] if bad else [])


def test_check_wants_outcomes_of_shown_impressions_reported_after_them():
    frame = make_frame(position=[1, None, 1, 1, 1, 1])
    outcomes = make_outcomes(
        frame,
        [
            (0, "click", 1.0, -1, False),
            (1, "click", 1.0, 1, False),
            (2, "click", None, 1, False),
            (3, "click", math.inf, 1, False),
            (4, "like", 1.0, 1, False),
            (4, "like", 1.0, 1, False),
        ],
    )
    outcomes.loc[len(outcomes)] = [5, "click", 1.0, START + pd.Timedelta("1h"), False]
    assert found(frame, outcomes) == [
        ("outcomes.value", "error", 1),
        ("outcomes.value", "error", 1),
        ("outcomes.impression_id", "warning", 2),
        ("outcomes.impression_id", "error", 1),
        ("outcomes.impression_id", "error", 1),
        ("outcomes.reported_at", "error", 1),
    ]


def test_check_wants_keys_of_one_type_in_both_tables():
    frame = make_frame()
    outcomes = make_outcomes(frame, [(0, "click", 1.0, 1, False)])
    outcomes["impression_id"] = outcomes["impression_id"].astype(str)
    assert found(frame, outcomes) == [("outcomes.impression_id", "error", 0)]
    with pytest.raises(ValueError, match="of the type of the treatments' impression_id"):
        ScoredTreatments(frame, outcomes).joined()


def test_check_names_absent_columns_with_the_nearest_ones():
    frame = make_frame().rename(columns={"propensity": "propensty"}).drop(columns="room_id")
    problems = ScoredTreatments(frame).check().problems
    assert [p.message for p in problems] == [
        "room_id must be present; the table has no such column",
        "propensity must be present; the table has no such column; did you mean 'propensty'?",
    ]
    assert [p.message for p in ScoredTreatments(pd.DataFrame({"a": [1]})).check().problems] == [
        f"{column.name} must be present; the table has no such column"
        for column in COLUMNS
        if column.required
    ]


WRONG_TYPES = [
    ("viewer_id", [1.0] * 6, "an integer or string key"),
    ("impression_id", [1.0, 2, 3, 4, 5, 6], "an integer or string key"),
    ("timestamp", pd.date_range("2026-01-01", periods=6), "timestamp without zone"),
    ("timestamp", ["2026-01-01"] * 6, "it is string"),
    ("propensity", ["0.5"] * 6, "a number"),
    ("explore_mode", [1] * 6, "a string"),
    ("room_id", [[1]] * 6, "an integer or string key"),
]


@pytest.mark.parametrize(("name", "values", "says"), WRONG_TYPES)
def test_check_reports_a_column_of_another_type(name, values, says):
    problems = ScoredTreatments(make_frame(**{name: values})).check().problems
    assert [p.column for p in problems] == [name]
    assert says in problems[0].message


@pytest.mark.parametrize("data", [{"a": [1]}, np.zeros(3), pd.Series([1.0]), 5, [], [1, 2]])
def test_check_reports_what_is_not_a_table(data):
    problems = ScoredTreatments(data).check().problems
    assert [p.column for p in problems] == ["treatments"]
    assert "must be a pandas, polars" in problems[0].message


def test_check_refuses_empty_absent_and_torn_tables(tmp_path):
    with pytest.raises(ValueError, match="must have rows; got 0"):
        ScoredTreatments(make_frame().head(0)).check()
    with pytest.raises(ValueError, match=r"nowhere\*\.parquet: no such file"):
        ScoredTreatments("nowhere*.parquet").check()
    torn = tmp_path / "torn.parquet"
    make_frame(1000).to_parquet(torn)
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"torn\.parquet: cannot be read as Parquet"):
        ScoredTreatments(torn).check()
    twice = pd.concat([make_frame(), make_frame()], axis=1)
    with pytest.raises(ValueError, match="column names must be distinct"):
        ScoredTreatments(twice).check()


def test_check_names_the_file_whose_pages_are_damaged(tmp_path):
    file = tmp_path / "damaged.parquet"
    make_frame(5000, propensity=np.random.default_rng(1).uniform(0.1, 1, 5000)).to_parquet(file)
    content = bytearray(file.read_bytes())
    content[200:60_000] = b"\xff" * (60_000 - 200)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.parquet: cannot be read as Parquet"):
        ScoredTreatments(file).check()


def test_schema_version_must_be_known():
    with pytest.raises(ValueError, match="schema_version must be 1; got 2"):
        ScoredTreatments(make_frame(), schema_version=2)


# ---------------------------------------------------------------- the schema as data


def test_columns_know_every_column_that_is_written_elsewhere():
    known = {column.name for column in COLUMNS}
    written = (
        "impression_id timestamp room_id policy_id propensity request_id viewer_id author_id "
        "position n_candidates stage scene coarse_score p_click p_long_view p_follow p_gift "
        "p_like p_comment e_watch_s ranking_score rank_base explore_mode temperature seed "
        "model_version model_trained_until log_propensity propensity_sequence "
        "propensity_position viewer_arm author_arm slice_arm cluster_id experiment_id "
        "n_live_rooms room_online_before code_now code_foreseen exit_timestamp"
    )
    assert known >= set(written.split())
    reported = "impression_id outcome value reported_at censored timestamp"
    assert {column.name for column in OUTCOME_COLUMNS} == set(reported.split())
    assert len(known) == len(COLUMNS)


def test_columns_carry_only_rules_that_the_validator_knows():
    from recsys.log_rules import _BOUNDS, _ORDERS

    rules = {column.rule for column in (*COLUMNS, *OUTCOME_COLUMNS)} - {"", "unique"}
    assert rules == set(_BOUNDS) | set(_ORDERS)


def test_schema_table_shows_every_column():
    assert schema_table().shape == (len(COLUMNS), 6)
    assert (schema_table(OUTCOME_COLUMNS)["meaning"].str.len() > 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), scale=st.sampled_from(["int64", "float32", "object"]))
def test_check_counts_do_not_depend_on_row_order_or_dtype(seed, scale):
    frame = make_frame(
        request_id=[1, 1, 2, 2, 3, 3],
        position=[1, 1, 1, 2, 1, 2],
        p_click=[0, 1, 2, 3, 0, 1],
        propensity=[1, 0, 1, -1, 1, 1],
    )
    shuffled = frame.sample(frac=1, random_state=seed, ignore_index=True)
    shuffled["p_click"] = shuffled["p_click"].astype(scale)
    assert found(shuffled) == found(frame)
    assert found(frame) == [
        ("propensity", "error", 2),
        ("p_click", "error", 2),
        ("position", "error", 2),
    ]


# ---------------------------------------------------------------- every kind of table


def every_kind(frame, folder):
    """The same table in each kind that is accepted."""
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    folder.mkdir()
    pq.write_table(arrow.slice(0, 2), folder / "a.parquet")
    pq.write_table(arrow.slice(2), folder / "b.parquet")
    connection = duckdb.connect()
    return {
        "pandas": frame,
        "arrow-backed pandas": frame.convert_dtypes(dtype_backend="pyarrow"),
        "polars": pl.from_arrow(arrow),
        "polars lazy": pl.from_arrow(arrow).lazy(),
        "arrow": arrow,
        "duckdb": connection.from_arrow(arrow),
        "ibis": ibis.memtable(arrow),
        "folder": folder,
        "text path": str(folder),
        "glob": f"{folder}/*.parquet",
        "list": [folder / "a.parquet", str(folder / "b.parquet")],
    }


def plain(frame):
    """Columns as lists in which everything missing is None."""
    return {
        name: [None if pd.isna(value) else value for value in frame[name].astype(object)]
        for name in frame.columns
    }


def test_every_kind_of_table_gives_the_same_answer(tmp_path):
    frame = make_frame(
        position=pd.array([1, None, 2, 1, 1, 1], dtype="Int64"),
        propensity=[0.5, 1.3, 0.25, None, 1.0, 0.5],
        viewer_id=pd.array([2**53 + 1, None, 3, 4, 5, 6], dtype="Int64"),
        note=list("abcdef"),
    )
    outcomes = make_outcomes(frame, [(0, "click", 1.0, 5, False), (2, "gift", None, 5, True)])
    tables = every_kind(frame, tmp_path / "frame")
    long_tables = every_kind(outcomes, tmp_path / "outcomes")
    expected = ScoredTreatments(frame, outcomes)
    problems, joined = expected.check().problems, expected.joined()
    assert [p.n_rows for p in problems] == [1, 1]
    for kind, table in tables.items():
        log = ScoredTreatments(table, long_tables[kind])
        assert log.n_rows == 6, kind
        assert log.check().problems == problems, kind
        again = log.joined()
        assert again["viewer_id"][0] == 2**53 + 1, kind
        assert plain(again) == plain(joined), kind
    copy = frame.copy(deep=True)
    changed = ScoredTreatments(frame, outcomes).joined()
    changed.loc[:, "propensity"] = 0.0
    pd.testing.assert_frame_equal(frame, copy)


def test_polars_nan_is_unknown_like_null():
    frame = pl.from_pandas(make_frame()).with_columns(
        propensity=pl.Series([0.5, math.nan, 0.5, None, 0.5, 0.5]),
        position=pl.Series([1.0, math.nan, 1.0, 1.0, 1.0, 1.0]),
    )
    assert found(frame) == [("propensity", "warning", 2)]


def test_check_reads_only_the_columns_that_it_knows():
    frame = make_frame(mixed=[1, "a", None, object(), 2.0, {}])
    frame[5] = 0
    assert found(frame) == []


def test_check_accepts_narrow_unsigned_decimal_and_categorical_columns():
    arrow = pa.Table.from_pandas(make_frame(), preserve_index=False)
    arrow = arrow.append_column("position", pa.array([1] * 6, pa.uint8()))
    arrow = arrow.append_column("viewer_id", pa.array(["a"] * 6).dictionary_encode())
    arrow = arrow.append_column("author_id", pa.array([2**64 - 1] * 6, pa.uint64()))
    arrow = arrow.append_column("viewer_arm", pa.array([True] * 6))
    arrow = arrow.append_column("p_click", pa.array([1] * 6).cast(pa.decimal128(30, 3)))
    assert found(arrow) == []


# ---------------------------------------------------------------- files


def test_write_then_read_gives_the_same_log(tmp_path):
    hostile = {'a"; DROP TABLE x; --': [1.5] * 6, "列\n": list("abcdef")}
    frame = make_frame(position=[1, None, 2, 1, 1, 1], arm_note=[b"x"] * 6, **hostile)
    outcomes = make_outcomes(frame, [(0, "click", 1.0, 5, False)])
    log = ScoredTreatments(frame, outcomes)
    assert log.write(tmp_path / "log") == tmp_path / "log"
    again = ScoredTreatments.read(str(tmp_path / "log"))
    assert again.n_rows == 6
    pd.testing.assert_frame_equal(again.joined(), log.joined(), check_dtype=False)
    stored = pq.read_schema(again.frame)
    assert stored.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert stored.field("position").type == pa.int64()
    assert stored.field("arm_note").type == pa.binary()
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert {name: entry["n_rows"] for name, entry in manifest["tables"].items()} == {
        "treatments": 6,
        "outcomes": 1,
    }


def test_write_leaves_the_index_of_pandas_behind(tmp_path):
    frame = make_frame()
    frame.index = list("abcdef")
    stored = ScoredTreatments.read(ScoredTreatments(frame).write(tmp_path)).frame
    assert pq.read_schema(stored).names == list(frame.columns)


def test_write_stores_milliseconds_as_instants(tmp_path):
    stamps = [int(START.timestamp() * 1000)] * 6
    log = ScoredTreatments(make_frame(timestamp=stamps))
    stored = ScoredTreatments.read(log.write(tmp_path))
    assert stored.outcomes is None
    assert pq.read_table(stored.frame)["timestamp"][0].as_py() == datetime(
        2026, 11, 20, 12, tzinfo=UTC
    )


def test_write_copies_a_log_on_disk_and_replaces_the_older_one(tmp_path):
    first = ScoredTreatments(make_frame(4), make_outcomes(make_frame(4), [(0, "a", 1.0, 1, False)]))
    first.write(tmp_path / "one")
    ScoredTreatments.read(tmp_path / "one").write(tmp_path / "two")
    assert ScoredTreatments.read(tmp_path / "two").n_rows == 4
    ScoredTreatments(make_frame(5)).write(tmp_path / "two")
    assert ScoredTreatments.read(tmp_path / "two").n_rows == 5
    assert len(list((tmp_path / "two").iterdir())) == 2


WRONG_TO_WRITE = [
    ({"viewer_id": [1.5] * 6}, "viewer_id must be an integer or string key"),
    ({"timestamp": pd.date_range("2026-01-01", periods=6)}, "timestamp must be a zone-aware"),
    ({"propensity": ["a"] * 6}, "propensity must be a number"),
    ({"mixed": [1, "a", None, object(), 2.0, {}]}, "one kind that Arrow knows"),
    ({"huge": [2**70] * 6}, "one kind that Arrow knows"),
    ({5: [1] * 6}, "column names must be text"),
]


@pytest.mark.parametrize(("columns", "says"), WRONG_TO_WRITE)
def test_write_refuses_what_the_schema_cannot_hold(columns, says, tmp_path):
    frame = make_frame()
    for name, values in columns.items():
        frame[name] = values
    with pytest.raises(ValueError, match=says):
        ScoredTreatments(frame).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_write_refuses_absent_columns_and_empty_tables(tmp_path):
    with pytest.raises(ValueError, match="room_id must be present"):
        ScoredTreatments(make_frame().drop(columns="room_id")).write(tmp_path)
    with pytest.raises(ValueError, match="must have rows"):
        ScoredTreatments(make_frame().head(0)).write(tmp_path)


@pytest.mark.parametrize("crash_at", range(1, 9))
def test_a_crash_at_any_write_leaves_the_older_log_readable(crash_at, tmp_path, monkeypatch):
    ScoredTreatments(make_frame(4)).write(tmp_path)
    newer = make_frame(5)
    steps = iter(range(1, 100))
    real = os.fsync, os.rename, os.replace

    def crashing(call):
        def step(*arguments, **keywords):
            if next(steps) == crash_at:
                raise OSError("disk full")
            return call(*arguments, **keywords)

        return step

    for name, call in zip(("fsync", "rename", "replace"), real, strict=True):
        monkeypatch.setattr(os, name, crashing(call))
    outcomes = make_outcomes(newer, [(0, "a", 1.0, 1, False)])
    try:
        ScoredTreatments(newer, outcomes).write(tmp_path)
        expected = {5}
    except OSError:
        expected = {4, 5}
    monkeypatch.undo()
    again = ScoredTreatments.read(tmp_path)
    assert again.n_rows in expected
    assert (again.outcomes is None) == (again.n_rows == 4)
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_read_names_the_file_that_is_absent_or_torn(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.json: no such file"):
        ScoredTreatments.read(tmp_path)
    ScoredTreatments(make_frame(50)).write(tmp_path)
    manifest = tmp_path / "manifest.json"
    whole = json.loads(manifest.read_text())
    file = tmp_path / whole["tables"]["treatments"]["file"]
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{file.name}: torn or changed"):
        ScoredTreatments.read(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=rf"{file.name}: no such file"):
        ScoredTreatments.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{", "torn or not a manifest"),
        ("[]", "torn or not a manifest"),
        ('{"schema_version": 1, "tables": {}}', "torn or not a manifest"),
        ('{"schema_version": 1, "tables": {"treatments": {"file": 3}}}', "torn or not a manifest"),
    ],
)
def test_read_refuses_a_manifest_that_is_none(change, says, tmp_path):
    (tmp_path / "manifest.json").write_text(change)
    with pytest.raises(ValueError, match=says):
        ScoredTreatments.read(tmp_path)


def test_read_refuses_other_versions_and_files_outside_the_folder(tmp_path):
    ScoredTreatments(make_frame()).write(tmp_path / "log")
    manifest = tmp_path / "log" / "manifest.json"
    whole = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(whole | {"schema_version": 2}))
    with pytest.raises(ValueError, match="schema_version must be 1; got 2"):
        ScoredTreatments.read(tmp_path / "log")
    whole["tables"]["treatments"]["file"] = "../other.parquet"
    manifest.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match="must lie in its folder"):
        ScoredTreatments.read(tmp_path / "log")


def test_problem_shows_groups_without_row_numbers():
    problem = Problem("position", "distinct", "error", 4, ())
    assert problem.message == "position must be distinct; 4 rows are not"


def test_joined_reads_a_lazy_table_once():
    """A lazy table may give its rows in another order each time: outcomes must stay with theirs."""
    reads = itertools.count()

    def turned(batch):
        return batch.reverse() if next(reads) % 2 else batch

    frame = make_frame()
    outcomes = make_outcomes(frame, [(1, "click", 1, 5, False), (4, "click", 3, 5, False)])
    lazy = pl.from_pandas(frame).lazy().map_batches(turned)
    joined = ScoredTreatments(lazy, outcomes).joined().sort_values("impression_id")
    assert joined["click"].tolist() == [0, 1, 0, 0, 3, 0]


def test_unsigned_impressions_of_64_bits_keep_their_outcomes():
    frame = make_frame(impression_id=np.arange(6, dtype=np.uint64) + np.uint64(2**63))
    outcomes = make_outcomes(frame, [(1, "click", 1, 5, False), (4, "click", 3, 5, False)])
    outcomes["impression_id"] = outcomes["impression_id"].astype(np.uint64)
    assert ScoredTreatments(frame, outcomes).joined()["click"].tolist() == [0, 1, 0, 0, 3, 0]
    assert found(frame, outcomes) == []


def test_a_memory_limit_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv("LIVELIFT_MEMORY_LIMIT", "x")
    with pytest.raises(ValueError, match="LIVELIFT_MEMORY_LIMIT must be a size; got 'x'"):
        found(make_frame())
