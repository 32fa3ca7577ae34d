"""The door: every kind of table, dtype and name comes in the same, and every bad one is refused."""

import decimal
import re
import warnings

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

from causal.frame import (
    check_columns,
    check_level,
    check_one_of,
    codes,
    column_names,
    open_table,
    private_engine,
    read_columns,
)
from causal.parquet import parquet_files

KINDS = ["pandas", "polars", "polars_lazy", "arrow", "duckdb", "ibis", "file", "list"]
NAME = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
)


def as_kind(kind, table, folder):
    """An Arrow table as any of the kinds that the door takes."""
    simple = {
        "pandas": lambda: table.to_pandas(),
        "polars": lambda: pl.from_arrow(table),
        "polars_lazy": lambda: pl.from_arrow(table).lazy(),
        "arrow": lambda: table,
        "duckdb": lambda: duckdb.connect().from_arrow(table),
    }
    if kind in simple:
        return simple[kind]()
    if kind == "ibis":
        backend = ibis.duckdb.connect()
        backend.con.register("mine", table)
        return backend.table("mine")
    path = folder / "log.parquet"
    pq.write_table(table, path)
    return path if kind == "file" else [str(path)]


@pytest.mark.parametrize("kind", KINDS)
def test_read_columns_takes_every_kind(kind, tmp_path):
    table = pa.table({"x": [1.5, -2.0, 4.0], "arm": ["b", "a", "b"], "id": [2**62 + 1, 1, 2]})
    data = as_kind(kind, table, tmp_path)
    assert column_names(data) == ["x", "arm", "id"]
    found = read_columns(data, numeric=["x"], labels=["arm", "id"])
    assert found["x"].tolist() == [1.5, -2.0, 4.0]
    assert found["x"].dtype == np.float64
    assert found["arm"].tolist() == ["b", "a", "b"]
    assert found["id"].tolist() == [2**62 + 1, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_open_table_projects_every_kind(kind, tmp_path):
    table = pa.table({"x": [1, 2], "y": [3.0, 4.0], "z": [5, 6]})
    opened = open_table(as_kind(kind, table, tmp_path), columns=["z", "x"])
    assert opened.to_pyarrow().to_pydict() == {"z": [5, 6], "x": [1, 2]}


@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_are_one_thing_in_every_kind(kind, tmp_path):
    table = pa.table({"x": [1.0, None, float("nan")], "arm": ["a", None, "b"]})
    data = as_kind(kind, table, tmp_path)
    found = read_columns(data, numeric=["x"], labels=["arm"], missing="keep")
    assert np.isnan(found["x"]).tolist() == [False, True, True]
    assert found["arm"].tolist() == ["a", None, "b"]
    with pytest.raises(ValueError, match=r"'x' must be present.*; 2 rows are not, e.g. rows 1, 2"):
        read_columns(data, numeric=["x"])
    with pytest.raises(ValueError, match=r"'arm' must be present.*; 1 row is not, e.g. rows 1 "):
        read_columns(data, labels=["arm"])


NUMBERS = {
    "uint8": pa.array([1, 0, 255], pa.uint8()),
    "int8": pa.array([1, 0, -128], pa.int8()),
    "uint64": pa.array([1, 0, 2**63], pa.uint64()),
    "float16": pa.array(np.array([1, 0, 0.5], np.float16)),
    "float32": pa.array([1, 0, 0.5], pa.float32()),
    "decimal": pa.array([decimal.Decimal("1.25"), 0, 3], pa.decimal128(10, 2)),
    "decimal256": pa.array([decimal.Decimal(1), 0, 3], pa.decimal256(50, 0)),
    "bool": pa.array([True, False, True]),
    "category": pa.array([1, 0, 1]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_dtype_that_holds_numbers_is_read_as_float64(kind):
    values = [float(v) for v in NUMBERS[kind].to_pylist()]
    table = pa.table({"x": NUMBERS[kind]})
    assert read_columns(table, numeric=["x"])["x"].tolist() == values
    engine = open_table(table, columns=["x"]).to_pyarrow()["x"].to_pylist()
    assert [float(v) for v in engine] == values


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1, 0, 3], dtype="Int64"),
        pd.array([1, 0, 3], dtype="UInt8"),
        pd.array([1.0, 0.0, 3.0], dtype="Float64"),
        pd.array([1, 0, 3], dtype="int64[pyarrow]"),
        pd.Categorical([1, 0, 3]),
        pd.Series([1, 0, 3], dtype=object),
        pd.Series([decimal.Decimal(v) for v in (1, 0, 3)]),
        pd.Series(np.array([1, 0, 3], dtype=">i2")),
    ],
    ids=lambda v: f"{type(v).__name__}-{v.dtype}",
)
def test_pandas_dtypes_are_read_alike(values):
    frame = pd.DataFrame({"x": values})
    assert read_columns(frame, numeric=["x"])["x"].tolist() == [1, 0, 3]
    assert read_columns(frame, labels=["x"])["x"].tolist() == [1, 0, 3]


@pytest.mark.parametrize("dtype", ["str", "string", object, "string[pyarrow]", "category"])
def test_text_is_read_as_labels_whatever_holds_it(dtype):
    frame = pd.DataFrame({"arm": pd.Series(["b", "a", "b"], dtype=dtype)})
    found = read_columns(frame, labels=["arm"])["arm"]
    assert found.dtype == object
    assert found.tolist() == ["b", "a", "b"]


def test_nullable_columns_keep_what_is_missing():
    frame = pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "b": [True, None]})
    found = read_columns(frame, numeric=["x"], labels=["b"], missing="keep")
    assert np.isnan(found["x"]).tolist() == [False, True]
    assert found["b"].tolist() == [True, None]


def test_read_only_buffers_are_read_and_the_table_is_left_alone():
    values = np.array([3.0, 1.0])
    values.flags.writeable = False
    frame = pd.DataFrame({"x": values}, copy=False)
    before = frame.copy(deep=True)
    read_columns(frame, numeric=["x"], labels=["x"])
    open_table(frame, columns=["x"])
    pd.testing.assert_frame_equal(frame, before)


LABELS = {
    "whole floats": ([2.0, 1.0, 2.0], pa.float64(), [2, 1, 2]),
    "fractions": ([0.5, 1.0, 0.5], pa.float64(), [0.5, 1.0, 0.5]),
    "half floats": (np.array([2, 1, 2], np.float16), None, [2, 1, 2]),
    "big decimals": ([decimal.Decimal(2**53 + 1)], pa.decimal128(38, 0), [2**53 + 1]),
    "unsigned": ([2**64 - 1, 1], pa.uint64(), [2**64 - 1, 1]),
    "views": (["b", "a"], pa.string_view(), ["b", "a"]),
    "dates": ([0, 1], pa.date32(), ["1970-01-01", "1970-01-02"]),
    "seconds": ([0, 1], pa.timestamp("s"), ["1970-01-01 00:00:00", "1970-01-01 00:00:01"]),
    "fractions of seconds": (
        [0, 1_500_000_000],
        pa.timestamp("ns"),
        ["1970-01-01 00:00:00", "1970-01-01 00:00:01.500000"],
    ),
    "zones": ([0], pa.timestamp("us", "Asia/Shanghai"), ["1970-01-01 00:00:00"]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_read_the_same_in_memory_and_from_the_engine(kind):
    from causal.rows import EngineRows

    values, dtype, wanted = LABELS[kind]
    ints = dtype is not None and pa.types.is_date32(dtype)
    column = pa.array(values, pa.int32()).cast(dtype) if ints else pa.array(values, dtype)
    table = pa.table({"k": column})
    assert read_columns(table, labels=["k"])["k"].tolist() == wanted
    rows = EngineRows.opened(open_table(table, columns=["k"]), {}, {"k": "k"})
    keys = rows.sums(["k"], {}).keys["k"].tolist()
    assert keys == sorted(set(wanted))
    assert [type(k) for k in keys] == [type(k) for k in sorted(set(wanted))]


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        [1 + 2j, 0],
        pd.to_datetime(["2026-01-01", "2026-01-02"]),
        pd.to_timedelta([1, 2]),
        [[1], [2]],
        [{"a": 1}, {"a": 2}],
        [b"a", b"b"],
        [1, "a"],
        [10**30, 1],
        pd.period_range("2026-01", periods=2, freq="M"),
        pd.arrays.SparseArray([0.0, 1.0]),
        [object(), object()],
    ],
    ids=lambda v: f"{type(v).__name__} of {type(v[0]).__name__}",
)
def test_what_is_no_number_is_refused_by_name(values):
    frame = pd.DataFrame({"watch_s": values})
    with pytest.raises(TypeError, match=r"column 'watch_s' must hold numbers"):
        read_columns(frame, numeric=["watch_s"])


@pytest.mark.parametrize("values", [[[1], [2]], [b"a", b"b"], pd.to_timedelta([1, 2])])
def test_nested_and_binary_labels_are_refused_by_name(values):
    with pytest.raises(TypeError, match=r"column 'arm' must hold labels"):
        read_columns(pd.DataFrame({"arm": values}), labels=["arm"])


def test_text_that_is_no_unicode_is_refused_by_name():
    with pytest.raises(TypeError, match="column 'arm' must hold"):
        read_columns(pd.DataFrame({"arm": pd.Series(["\ud800"], dtype=object)}), labels=["arm"])


def test_infinite_numbers_are_refused_even_when_gaps_are_kept():
    frame = pd.DataFrame({"x": [1.0, np.inf, np.nan, -np.inf]})
    with pytest.raises(ValueError, match=r"'x' must be finite; 2 rows.*rows 1, 3 \(inf, -inf\)"):
        read_columns(frame, numeric=["x"], missing="keep")


@pytest.mark.parametrize("data", [None, 3, {"x": [1]}, np.ones(3), [], [1], pd.Series([1.0])])
def test_what_is_no_table_is_refused(data):
    with pytest.raises(TypeError, match="a table was required"):
        read_columns(data, numeric=["x"])


def test_empty_table_is_refused():
    with pytest.raises(ValueError, match="the table is empty"):
        read_columns(pd.DataFrame({"x": []}), numeric=["x"])


def test_list_of_names_is_not_one_text():
    with pytest.raises(TypeError, match="numeric must be a list of column names; got 'x'"):
        read_columns(pd.DataFrame({"x": [1.0]}), numeric="x")
    with pytest.raises(TypeError, match="columns must be a list"):
        open_table(pd.DataFrame({"x": [1.0]}), columns="x")


# --- names ----------------------------------------------------------------------------------------

HOSTILE = [
    'q"uote',
    "it's; drop table x; --",
    "[a]*?",
    "line\nbreak",
    "select",
    "观看时长",
    "n" * 300,
    "__import__('os').system('true')",
    "y + x2",
    "<script>alert(1)</script>",
    "a.b",
    " ",
    "c1",
    "by0",
    "{x}",
    "%s",
    "\\",
]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_only_names(kind, tmp_path):
    table = pa.table({name: [float(j), 1.0] for j, name in enumerate(HOSTILE)})
    data = as_kind(kind, table, tmp_path)
    found = read_columns(data, numeric=HOSTILE[::-1])
    assert {name: found[name][0] for name in HOSTILE} == dict(
        zip(HOSTILE, range(len(HOSTILE)), strict=True)
    )
    opened = open_table(data, columns=HOSTILE).to_pyarrow()
    assert opened.to_pydict() == table.to_pydict()


@settings(max_examples=60, deadline=None)
@given(st.lists(NAME, min_size=2, max_size=4, unique=True))
def test_any_text_works_as_a_name(names):
    table = pa.table({name: [float(j)] for j, name in enumerate(names)})
    opened = open_table(table, columns=names[::-1])
    for name, value in read_columns(opened, numeric=names).items():
        assert value[0] == names.index(name)


def test_names_that_differ_only_in_case_are_different_columns(tmp_path):
    table = pa.table({"x": [1.0, 2.0], "X": [3.0, 4.0]})
    for kind in ("pandas", "polars", "arrow", "file"):
        data = as_kind(kind, table, tmp_path)
        for name, values in (("x", [1.0, 2.0]), ("X", [3.0, 4.0])):
            assert read_columns(data, numeric=[name])[name].tolist() == values
            opened = open_table(data, columns=[name])
            assert opened.to_pyarrow()[name].to_pylist() == values


@pytest.mark.parametrize(
    ("columns", "roles", "error", "message"),
    [
        (
            ["watch_s"],
            {"outcome": "watch"},
            ValueError,
            "'watch' (outcome) is not in the table; did",
        ),
        (["a", "b"], {"outcome": "zzz"}, ValueError, "it has 'a', 'b'"),
        (["x", "x"], {"outcome": "x"}, ValueError, "'x' (outcome) appears 2 times"),
        (["x"], {"outcome": "x", "weight": "x"}, ValueError, "both outcome and weight"),
        (["x"], {"columns": ["x", "x"]}, ValueError, "'x' is named twice in columns"),
        ([3], {"outcome": 3}, TypeError, "outcome must name a column as text; got 3"),
        ([""], {"outcome": ""}, ValueError, "outcome must name a column; got ''"),
        (["a\0"], {"outcome": "a\0"}, ValueError, "outcome must name a column; got 'a"),
    ],
)
def test_check_columns_says_what_is_wrong(columns, roles, error, message):
    with pytest.raises(error, match=re.escape(message)):
        check_columns(columns, {k: [v] if v == 3 else v for k, v in roles.items()})


def test_check_columns_returns_names_in_the_order_of_roles():
    roles = {"outcome": "y", "weight": None, "covariates": ["b", "a"]}
    assert check_columns(["a", "b", "y", 7, ("m", "n")], roles) == ["y", "b", "a"]


def test_doubled_column_is_refused_by_name():
    frame = pd.DataFrame([[1.0, 2.0]], columns=["x", "x"])
    with pytest.raises(ValueError, match=r"column 'x' .* appears 2 times"):
        read_columns(frame, numeric=["x"])
    with pytest.raises(ValueError, match=r"column 'x' .* appears 2 times"):
        open_table(duckdb.connect().sql("select 1 as x, 2 as x"), columns=["x"])


@pytest.mark.parametrize("level", [0, 1, -0.1, 95, float("nan"), "0.9", True, None])
def test_check_level_refuses(level):
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\); got"):
        check_level(level)


def test_check_level_and_check_one_of_pass_what_is_right():
    assert check_level(np.float64(0.9)) == 0.9
    check_one_of("lin", "adjustment", ("lin", "none"))
    with pytest.raises(ValueError, match=r"adjustment must be one of 'lin', 'none'; .*mean 'lin'"):
        check_one_of("linn", "adjustment", ("lin", "none"))


# --- codes ----------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.text(max_size=3))))
def test_codes_are_dense_sorted_and_exact(values):
    array = np.array(values, dtype=object if values and isinstance(values[0], str) else np.int64)
    found, levels = codes(array)
    assert found.dtype == np.int64
    assert levels[found].tolist() == values
    assert levels.tolist() == sorted(set(values))


def test_codes_refuse_missing_labels():
    with pytest.raises(ValueError, match="labels must not be missing; 1 rows are"):
        codes(np.array(["a", None], dtype=object))


# --- Parquet --------------------------------------------------------------------------------------


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def values_of(data, name="x"):
    return sorted(read_columns(data, numeric=[name])[name].tolist())


@pytest.mark.parametrize(
    "name",
    ["a [1].parquet", "it's.parquet", 'q".parquet', "st*r?.parquet", "日志.parquet", "no_end"],
)
def test_file_names_are_only_names(name, tmp_path):
    path = write(tmp_path / name, x=[1.0, 2.0])
    write(tmp_path / "a 1.parquet", x=[7.0])
    write(tmp_path / "star1.parquet", x=[8.0])
    for data in (path, str(path), [path]):
        assert values_of(data) == [1.0, 2.0]


def test_folder_glob_and_list_are_read(tmp_path, monkeypatch):
    write(tmp_path / "log" / "a.parquet", x=[1.0])
    write(tmp_path / "log" / "deep" / "b.parquet", x=[2.0])
    (tmp_path / "log" / "notes.txt").write_text("no table")
    (tmp_path / "log" / "part.parquet").mkdir()
    write(tmp_path / "log" / "part.parquet" / "c.parquet", x=[3.0])
    assert values_of(tmp_path / "log") == [1.0, 2.0, 3.0]
    assert values_of(str(tmp_path / "log" / "*.parquet")) == [1.0, 3.0]
    assert values_of(str(tmp_path / "log" / "**" / "b.parquet")) == [2.0]
    both = [tmp_path / "log" / "a.parquet", tmp_path / "log" / "deep"]
    assert values_of(both) == [1.0, 2.0]
    monkeypatch.chdir(tmp_path)
    assert values_of("log/deep") == [2.0]


def test_a_file_named_twice_is_read_once(tmp_path):
    path = write(tmp_path / "a.parquet", x=[1.0])
    assert parquet_files([path, str(tmp_path / "*.parquet"), tmp_path]) == [str(path)]


def test_hive_folders_are_columns(tmp_path):
    write(tmp_path / "day=1" / "arm=A" / "p.parquet", x=[1.0])
    write(tmp_path / "day=2" / "arm=B" / "p.parquet", x=[2.0, 3.0])
    assert column_names(tmp_path) == ["x", "day", "arm"]
    found = read_columns(tmp_path, numeric=["x"], labels=["day", "arm"])
    rows = zip(found["x"], found["day"], found["arm"], strict=True)
    assert sorted(rows) == [(1.0, 1, "A"), (2.0, 2, "B"), (3.0, 2, "B")]


def test_a_folder_does_not_overwrite_a_column_of_the_file(tmp_path):
    path = write(tmp_path / "x=7" / "p.parquet", x=[1.0])
    assert values_of(path) == [1.0]


@pytest.mark.parametrize("name", ["none.parquet", "none/*.parquet", "none [1]"])
def test_absent_file_is_named(name, tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}: no such file")):
        read_columns(tmp_path / name, numeric=["x"])
    with pytest.raises(ValueError, match=": no such file"):
        open_table(str(tmp_path / name), columns=["x"])


def test_folder_without_parquet_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}: no Parquet file in it"):
        read_columns(tmp_path, numeric=["x"])


def test_torn_file_is_named(tmp_path):
    good = write(tmp_path / "a.parquet", x=np.random.default_rng(0).normal(size=1000))
    torn = tmp_path / "b.parquet"
    torn.write_bytes(good.read_bytes()[:-200])
    for data in (torn, [good, torn], tmp_path):
        with pytest.raises(ValueError, match=r"b\.parquet: not readable as Parquet"):
            read_columns(data, numeric=["x"])


def test_file_torn_in_its_middle_is_named(tmp_path):
    path = write(tmp_path / "a.parquet", x=np.random.default_rng(0).normal(size=100_000))
    raw = bytearray(path.read_bytes())
    raw[20:400_000] = b"\xff" * 399_980
    path.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match=r"a\.parquet: check the table; the engine cannot read it"):
        read_columns(path, numeric=["x"])


def test_text_file_is_not_parquet(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"log\.csv: not readable as Parquet"):
        read_columns(path, numeric=["x"])


def test_files_of_different_width_do_not_round(tmp_path):
    write(tmp_path / "a.parquet", x=[1, 2])
    write(tmp_path / "b.parquet", x=[1.5])
    assert values_of(tmp_path) == [1.0, 1.5, 2.0]


def test_files_may_differ_in_order_of_columns_and_in_others(tmp_path):
    write(tmp_path / "a.parquet", x=[1.0], y=["u"], z=[True])
    write(tmp_path / "b.parquet", y=["v"], x=[2.0])
    found = read_columns(tmp_path, numeric=["x"], labels=["y"])
    assert sorted(zip(found["x"], found["y"], strict=True)) == [(1.0, "u"), (2.0, "v")]
    with pytest.raises(ValueError, match=r"b\.parquet: column 'z' is not in this file"):
        read_columns(tmp_path, labels=["z"])


def test_files_of_different_kinds_are_refused(tmp_path):
    write(tmp_path / "a.parquet", x=[1.0], k=[1])
    write(tmp_path / "b.parquet", x=["2"], k=["1"])
    for roles in ({"numeric": ["x"]}, {"labels": ["k"]}):
        with pytest.raises(ValueError, match="must be of one kind in all files"):
            read_columns(tmp_path, **roles)


def test_column_that_is_empty_in_one_file_is_missing_there(tmp_path):
    write(tmp_path / "a.parquet", x=pa.nulls(1))
    write(tmp_path / "b.parquet", x=[2.5])
    found = read_columns(tmp_path, numeric=["x"], missing="keep")["x"]
    assert np.isnan(found).tolist() == [True, False]
    assert found[1] == 2.5


# --- engines --------------------------------------------------------------------------------------


def test_private_engine_reaches_nothing_but_its_sources(tmp_path):
    path = write(tmp_path / "a.parquet", x=[1.0])
    other = write(tmp_path / "b.parquet", x=[2.0])
    (tmp_path / "c.csv").write_text("x\n1\n")
    opened = open_table(path, columns=["x"])
    con = opened.get_backend().con
    assert opened.to_pyarrow()["x"].to_pylist() == [1.0]
    for call in (
        lambda: con.read_csv(str(tmp_path / "c.csv")).fetchall(),
        lambda: con.read_parquet(str(other)).fetchall(),
        lambda: con.execute("copy (select 1) to '" + str(tmp_path / "out.csv") + "'"),
        lambda: con.execute("set enable_external_access = true"),
    ):
        with pytest.raises(duckdb.Error):
            call()
    memory = open_table(pd.DataFrame({"x": [1.0]}), columns=["x"]).get_backend().con
    with pytest.raises(duckdb.Error):
        memory.read_csv(str(tmp_path / "c.csv")).fetchall()


def test_private_engine_sees_no_python_variables():
    hidden = pd.DataFrame({"x": [1.0]})
    with pytest.raises(duckdb.Error, match="hidden"):
        private_engine().con.sql("select * from hidden").fetchall()
    assert len(hidden) == 1


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LIVELIFT_THREADS", "1")
    monkeypatch.setenv("LIVELIFT_MEMORY_LIMIT", "100MB")
    con = private_engine().con
    limit, threads = con.sql(
        "select current_setting('memory_limit'), current_setting('threads')"
    ).fetchone()
    assert (limit, threads) == ("95.3 MiB", 1)
    for name, value in (("LIVELIFT_THREADS", "many"), ("LIVELIFT_MEMORY_LIMIT", "much")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
                private_engine()


def test_engines_spill_into_folders_of_their_own():
    where = {
        private_engine().con.sql("select current_setting('temp_directory')").fetchone()[0]
        for _ in range(3)
    }
    assert len(where) == 3


def objects_of(con):
    return (
        con.sql("select table_name from duckdb_tables()").fetchall()
        + con.sql("select view_name from duckdb_views() where not internal").fetchall()
    )


def test_the_users_connection_is_left_as_it_was():
    con = duckdb.connect()
    con.execute("create table log as select range::double as x, range % 3 as k from range(100)")
    backend = ibis.duckdb.connect()
    backend.con.execute("create table log as select 1.0 as x, 2 as k")
    before = objects_of(con), objects_of(backend.con)
    for data in (con.table("log"), backend.table("log")):
        read_columns(data, numeric=["x"], labels=["k"])
        open_table(data, columns=["x"]).to_pyarrow()
    assert (objects_of(con), objects_of(backend.con)) == before


def test_open_table_registers_in_a_given_connection():
    backend = ibis.duckdb.connect()
    opened = open_table(pd.DataFrame({"x": [1.0]}), columns=["x"], connection=backend)
    assert opened.get_backend() is backend
    assert backend.con.sql("select current_setting('enable_external_access')").fetchone()[0]


def test_a_closed_relation_is_a_value_error():
    con = duckdb.connect()
    relation = con.sql("select 1.0 as x")
    con.close()
    with pytest.raises(ValueError, match="the DuckDB relation: check the table"):
        read_columns(relation, numeric=["x"])


def test_nothing_is_left_open():
    import gc

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            read_columns(duckdb.connect().sql("select 1.0 as x"), numeric=["x"])
            open_table(pd.DataFrame({"x": [1.0]}), columns=["x"]).to_pyarrow()
        gc.collect()


def test_decimal_labels_beyond_64_bits_are_refused():
    column = pa.array([decimal.Decimal(2**70)], type=pa.decimal128(38, 0))
    with pytest.raises(ValueError, match="'g' must hold labels below"):
        read_columns(pa.table({"g": column}), labels=["g"])
