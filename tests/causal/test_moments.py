"""Moments: exact in long double, the same from every table and engine, and adding up."""

import itertools
import time

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
from moment_checks import BY, COLUMNS, EXACT, PATHS, assert_exact, assert_same, engine_moments, log

from causal import engine_rows
from causal import rows as rows_module
from causal.moments import (
    Moments,
    centred_moments,
    group_moments,
    least_squares_from,
    unit_cube,
)
from causal.normal_equations import inverse_of_cross
from causal.rows import open_rows


@pytest.fixture
def in_engine(monkeypatch):
    """Tables in memory take the engine's path whatever their number of rows."""
    monkeypatch.setattr(rows_module, "_IN_ENGINE_FROM", 0)
    monkeypatch.setattr(engine_rows, "_MANY_GROUPS", 0)


# --- exact ----------------------------------------------------------------------------------------

# multiples of 1/1024 below 1e6: spread is never so small against the level that input digits decide
NUMBERS = st.integers(-(2**30), 2**30).map(lambda v: v / 1024)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=50), st.booleans())
def test_moments_are_exact_beside_long_double(values, weighted):
    frame = pd.DataFrame(values, columns=["x", "y"]).assign(w=1.0 + np.arange(len(values)) % 3)
    roles = {"columns": ["x", "y"], "weight": "w" if weighted else None}
    assert_exact(group_moments(frame, **roles), values, frame["w"] if weighted else None)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=50))
def test_engine_is_exact_beside_long_double(values):
    frame = pd.DataFrame(values, columns=["x", "y"])
    assert_exact(engine_moments(frame, columns=["x", "y"]), values)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["", "unit", "weight"]), st.integers(1, 400))
def test_engine_equals_numpy(seed, kind, n):
    frame = log(n, seed)
    roles = {"columns": COLUMNS, "by": BY}
    roles |= {"unit": "viewer"} if kind == "unit" else {}
    roles |= {"weight": "w"} if kind == "weight" else {}
    assert_same(group_moments(frame, **roles), engine_moments(frame, **roles))


@pytest.mark.parametrize("path", [group_moments, engine_moments], ids=["memory", "engine"])
def test_units_are_summed_first(path):
    frame = log()
    sums = frame.groupby(["arm", "viewer"])[COLUMNS].sum()
    m = path(frame, columns=COLUMNS, by=["arm"], unit="viewer")
    assert m.unit == "viewer"
    for arm in ("A", "B"):
        one = m.select(arm=arm)
        assert one.n.tolist() == [len(sums.loc[arm])]
        np.testing.assert_allclose(one.mean[0], sums.loc[arm].mean(), rtol=EXACT)
        np.testing.assert_allclose(one.covariance()[0], sums.loc[arm].cov(), rtol=1e-11)


def test_groups_are_in_sorted_order_of_their_keys():
    m = group_moments(log(), columns=["x"], by=["day", "arm"])
    keys = list(zip(*m.keys.to_pydict().values(), strict=True))
    assert keys == sorted(keys)
    assert keys[0] == (1, "A")
    assert len(m) == 8


# --- every kind of table --------------------------------------------------------------------------


def kinds(frame, folder):
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    backend = ibis.duckdb.connect()
    backend.con.register("log", arrow)
    pq.write_table(arrow, folder / "log.parquet")
    return {
        "polars": pl.from_arrow(arrow),
        "polars lazy": pl.from_arrow(arrow).lazy(),
        "arrow": arrow,
        "duckdb": duckdb.connect().from_arrow(arrow),
        "ibis": backend.table("log"),
        "file": folder / "log.parquet",
        "folder": str(folder),
        "list": [folder / "log.parquet"],
    }


@pytest.mark.parametrize("extra", [{}, {"unit": "viewer"}, {"weight": "w"}], ids=str)
def test_all_kinds_of_table_give_the_same(extra, tmp_path):
    frame = log()
    whole = group_moments(frame, columns=COLUMNS, by=BY, **extra)
    for data in kinds(frame, tmp_path).values():
        assert_same(whole, group_moments(data, columns=COLUMNS, by=BY, **extra))


def test_users_connections_are_left_as_they_were(tmp_path):
    found = kinds(log(), tmp_path)
    con, backend = duckdb.connect(), found["ibis"].get_backend()
    con.execute("create table log as select range::double as x, range % 3 as k from range(100)")
    views = "select view_name from duckdb_views() where not internal"
    tables = "select table_name from duckdb_tables()"
    group_moments(con.table("log"), columns=["x"], by=["k"])
    group_moments(found["ibis"], columns=["x"], by=["arm"], unit="viewer")
    assert con.sql(tables).fetchall() == [("log",)]
    assert con.sql(views).fetchall() == []
    assert backend.con.sql(tables).fetchall() == []
    assert backend.con.sql(views).fetchall() == [("log",)]


@pytest.mark.parametrize("files", [1, 7, 40])
def test_split_into_files_changes_nothing(files, tmp_path):
    frame = log()
    for j, rows in enumerate(np.array_split(np.arange(len(frame)), files)):
        frame.iloc[rows].to_parquet(tmp_path / f"part {j}.parquet")
    for extra in ({}, {"unit": "viewer"}):
        whole = group_moments(frame, columns=COLUMNS, by=BY, **extra)
        assert_same(whole, group_moments(tmp_path, columns=COLUMNS, by=BY, **extra))


@pytest.mark.usefixtures("in_engine")
@pytest.mark.parametrize("extra", [{}, {"unit": "viewer"}], ids=str)
def test_threads_and_row_order_change_nothing(extra, monkeypatch):
    frame = log(400_000)
    found = []
    for threads, seed in (("1", None), ("2", None), ("2", 1)):
        monkeypatch.setenv("LIVELIFT_THREADS", threads)
        table = frame if seed is None else frame.sample(frac=1, random_state=seed)
        found.append(group_moments(table, columns=COLUMNS, by=BY, **extra))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])


HOSTILE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)


@settings(max_examples=15, deadline=None)
@given(st.lists(HOSTILE, min_size=4, max_size=4, unique=True))
def test_names_change_nothing(names):
    plain = log(60)[["x", "y", "arm", "viewer"]]
    frame = plain.set_axis(names, axis=1)
    roles = {"columns": names[:2], "by": [names[2]], "unit": names[3]}
    wanted = group_moments(plain, columns=["x", "y"], by=["arm"], unit="viewer")
    for path in (group_moments, engine_moments):
        m = path(frame, **roles)
        assert (m.columns, m.by, m.unit) == (tuple(names[:2]), (names[2],), names[3])
        np.testing.assert_allclose(m.mean, wanted.mean, rtol=EXACT)
        np.testing.assert_allclose(m.cross, wanted.cross, rtol=EXACT)


@pytest.mark.parametrize(
    "dtype",
    [pd.ArrowDtype(pa.decimal128(22, 2)), "uint8", "int8", "Int64", "float32", "bool[pyarrow]"],
)
def test_dtype_changes_nothing(dtype):
    rng = np.random.default_rng(0)
    plain = pd.DataFrame({"x": rng.integers(0, 2, 300), "z": rng.integers(0, 100, 300)})
    typed = plain.astype({"x": dtype} | ({"z": dtype} if "bool" not in str(dtype) else {}))
    wanted = group_moments(plain, columns=["x", "z"])
    assert_same(wanted, group_moments(typed, columns=["x", "z"]))
    assert_same(wanted, engine_moments(typed, columns=["x", "z"]))


# --- adding up ------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.data(), st.booleans())
def test_merging_in_any_tree_is_the_whole(data, weighted):
    frame = log(400, data.draw(st.integers(0, 99)))
    roles = {"columns": COLUMNS, "by": BY, "weight": "w" if weighted else None}
    cuts = data.draw(st.lists(st.integers(1, 399), min_size=1, max_size=12, unique=True))
    bounds = [0, *sorted(cuts), 400]
    parts = [group_moments(frame[a:b], **roles) for a, b in itertools.pairwise(bounds)]
    while len(parts) > 1:
        i = data.draw(st.integers(0, len(parts) - 2))
        left, right = parts[i], parts.pop(i + 1)
        parts[i] = left.merge(right) if data.draw(st.booleans()) else right.merge(left)
    assert_same(group_moments(frame, **roles), parts[0])


@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("by", [[], ["arm"], ["day"], ["day", "arm"]])
def test_roll_up_is_the_direct_answer(by, weight):
    frame = log()
    frame["x"] += 1e4 * frame["day"]
    fine = group_moments(frame, columns=COLUMNS, by=["arm", "day"], weight=weight)
    assert_same(group_moments(frame, columns=COLUMNS, by=by, weight=weight), fine.roll_up(by))


def test_roll_up_of_far_groups_keeps_each_ones_digits():
    frame = pd.DataFrame({"x": [1e9, 1e9 + 1, 0.001, 0.002], "a": [0, 0, 1, 1], "b": [0, 1, 0, 1]})
    fine = group_moments(frame, columns=["x"], by=["a", "b"])
    np.testing.assert_allclose(fine.roll_up(["a"]).mean[:, 0], [1e9 + 0.5, 0.0015], rtol=1e-15)
    np.testing.assert_allclose(fine.roll_up(["a"]).cross[:, 0, 0], [0.5, 5e-7], rtol=1e-12)


def test_merging_unit_moments_of_two_days_would_count_returning_viewers_twice():
    frame = log()
    first, second = (
        group_moments(frame[frame["day"] == d], columns=["x"], by=["arm"], unit="viewer")
        for d in (1, 2)
    )
    with pytest.raises(ValueError, match=r"moments over 'viewer' do not add.*append unit_cube"):
        first.merge(second)
    truth = group_moments(frame[frame["day"] < 3], columns=["x"], by=["arm"], unit="viewer")
    wrong = first.merge(second, disjoint_units=True)
    assert (wrong.n > truth.n).all()  # what the refusal is for


def test_disjoint_units_add():
    frame = log()
    low = frame["viewer"] < 100
    parts = [
        group_moments(frame[m], columns=COLUMNS, by=["arm"], unit="viewer") for m in (low, ~low)
    ]
    whole = group_moments(frame, columns=COLUMNS, by=["arm"], unit="viewer")
    assert_same(whole, parts[0].merge(parts[1], disjoint_units=True))


def test_merge_keeps_groups_that_only_one_part_has():
    frame = log()
    parts = [
        group_moments(frame[frame["day"] == d], columns=["x"], by=["day", "arm"]) for d in (2, 1)
    ]
    both = parts[0].merge(parts[1])
    assert both.keys.column("day").to_pylist() == [1, 1, 2, 2]
    assert_same(group_moments(frame[frame["day"] < 3], columns=["x"], by=["day", "arm"]), both)


@pytest.mark.parametrize(
    "other",
    [
        {"columns": ["y"], "by": ["arm"]},
        {"columns": ["x"], "by": ["day"]},
        {"columns": ["x"], "by": ["arm"], "unit": "viewer"},
        {"columns": ["x"], "by": ["arm"], "weight": "w"},
    ],
)
def test_merge_refuses_other_moments(other):
    mine = group_moments(log(), columns=["x"], by=["arm"])
    with pytest.raises(ValueError, match="merge needs the same columns, by, unit and weight"):
        mine.merge(group_moments(log(), **other))


def test_merge_refuses_keys_of_another_kind():
    mine = group_moments(log(), columns=["x"], by=["day"])
    texts = group_moments(log().astype({"day": str}), columns=["x"], by=["day"])
    with pytest.raises(ValueError, match=r"merge needs keys of one kind.*day int64 and day string"):
        mine.merge(texts)


def test_hundred_thousand_groups_roll_up_within_a_second():
    g = 100_000
    rng = np.random.default_rng(0)
    m = Moments(
        columns=("x", "y"),
        by=("k", "arm"),
        keys=pa.table({"k": np.arange(g) // 2, "arm": ["A", "B"] * (g // 2)}),
        n=rng.integers(1, 9, g),
        mean=rng.normal(size=(g, 2)),
        cross=np.tile(np.eye(2), (g, 1, 1)),
    )
    start = time.perf_counter()
    pooled, total = m.roll_up(["k"]), m.roll_up([])
    assert time.perf_counter() - start < 1
    assert (len(pooled), pooled.n.sum()) == (g // 2, m.n.sum())
    assert_same(total, pooled.roll_up([]))


# --- cubes ----------------------------------------------------------------------------------------


def test_cubes_of_days_appended_and_summed_are_the_whole():
    frame = log()
    days = [frame[frame["day"] <= 2], frame[frame["day"] > 2]]
    cubes = [
        unit_cube(d, columns=["x", "count"], by=["arm"], unit="viewer").to_pyarrow() for d in days
    ]
    appended = pa.concat_tables(cubes)
    whole = unit_cube(frame, columns=["x", "count"], by=["arm"], unit="viewer").to_pyarrow()
    assert whole.column_names == ["arm", "viewer", "x", "count", "n_rows"]
    sums = appended.group_by(["arm", "viewer"]).aggregate([("count", "sum"), ("n_rows", "sum")])
    keys = [("arm", "ascending"), ("viewer", "ascending")]
    for mine, theirs in (("count", "count_sum"), ("n_rows", "n_rows_sum")):
        a, b = whole.sort_by(keys)[mine].to_pylist(), sums.sort_by(keys)[theirs].to_pylist()
        assert a == b
    assert len(appended) > len(whole)  # some viewers came back
    assert_same(
        group_moments(frame, columns=["x", "count"], by=["arm"], unit="viewer"),
        group_moments(appended, columns=["x", "count"], by=["arm"], unit="viewer"),
    )


def test_cube_of_a_users_engine_stays_there(tmp_path):
    table = kinds(log(), tmp_path)["ibis"]
    cube = unit_cube(table, columns=["count"], by=[], unit="viewer")
    assert cube.get_backend() is table.get_backend()
    wanted = log().groupby("viewer")["count"].sum()
    assert cube.to_pyarrow().sort_by("viewer")["count"].to_pylist() == wanted.tolist()


def test_cubes_of_days_are_joined_by_union_and_kept(tmp_path):
    frame = log()
    days = [
        unit_cube(d, columns=["count"], by=["arm"], unit="viewer")
        for d in (frame[frame["day"] <= 2], frame[frame["day"] > 2])
    ]
    path = tmp_path / "cube.parquet"
    days[0].union(days[1]).to_parquet(path)
    wanted = group_moments(frame, columns=["count"], by=["arm"], unit="viewer")
    assert_same(group_moments(path, columns=["count"], by=["arm"], unit="viewer"), wanted)


@pytest.mark.parametrize("name", ["self", "table", "_0"])
def test_columns_called_like_arguments_are_columns(name):
    frame = log().rename(columns={"arm": name})
    moments = group_moments(frame, columns=["x"], by=[name])
    assert (
        moments.select(**{name: frame[name].iloc[0]}).n[0] == (frame[name] == frame[name][0]).sum()
    )
    assert name in unit_cube(frame, columns=["x"], by=[name], unit="viewer").columns


@PATHS
def test_unsigned_keys_of_64_bits_are_exact(path):
    keys = np.array([2**63 + 1, 2**63 + 3, 2**63 + 1], dtype=np.uint64)
    moments = path(pd.DataFrame({"k": keys, "x": [1.0, 2.0, 3.0]}), columns=["x"], by=["k"])
    assert moments.keys["k"].to_pylist() == [2**63 + 1, 2**63 + 3]


def test_moments_are_equal_by_value():
    a, b = (group_moments(log(), columns=["x"], by=["arm"]) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != group_moments(log(), columns=["count"], by=["arm"])
    assert a != group_moments(log().iloc[1:], columns=["x"], by=["arm"])


@pytest.mark.parametrize("names", [("y", "Y"), ("N_ROWS", "z")])
def test_cube_names_columns_that_engines_would_confuse(names):
    frame = log()[["arm", "viewer", "x", "count"]]
    frame.columns = ["arm", "viewer", *names]
    with pytest.raises(ValueError, match="of a cube must differ in more than case"):
        unit_cube(frame, columns=list(names), by=["arm"], unit="viewer")


def test_cube_refuses_sums_that_overflow():
    frame = pd.DataFrame({"x": [1e308, 1e308], "u": [1, 1]})
    with pytest.raises(ValueError, match="'x' must have finite sums per 'u'"):
        unit_cube(frame, columns=["x"], by=[], unit="u")


def test_merge_takes_keys_whose_width_differs_from_day_to_day():
    big = np.array([2**63 + 1, 7], dtype=np.uint64)
    for one, other in (([1, 2], big), ([1.0, 2.0], [1.0, 2.5])):
        kind = np.asarray(other).dtype
        days = [pd.DataFrame({"k": np.array(k, dtype=kind), "x": [1.0, 2.0]}) for k in (one, other)]
        parts = [group_moments(day, columns=["x"], by=["k"]) for day in days]
        whole = group_moments(pd.concat(days), columns=["x"], by=["k"])
        for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
            assert merged.keys["k"].to_pylist() == whole.keys["k"].to_pylist()
            assert_same(merged, whole)


def test_moments_that_are_equal_have_equal_hashes():
    frame = pd.DataFrame({"x": [0.0, 0.0]})
    a, b = (group_moments(frame * sign, columns=["x"]) for sign in (1.0, -1.0))
    assert a == b
    assert hash(a) == hash(b)


def test_cube_needs_the_name_of_its_count():
    frame = log().rename(columns={"x": "n_rows"})
    with pytest.raises(ValueError, match="rename your column 'n_rows' first"):
        unit_cube(frame, columns=["n_rows"], by=[], unit="viewer")


# --- least squares --------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_least_squares_is_that_of_rows(offset):
    frame = log().assign(x=lambda f: f["x"] + offset)
    m = group_moments(frame, columns=["y", "x", "count"], by=["day"])
    fit = least_squares_from(m, outcome="y", regressors=["x", "count"])
    X = np.column_stack([np.ones(len(frame)), frame["x"] - offset, frame["count"]])
    coef, rss, *_ = np.linalg.lstsq(X, frame["y"], rcond=None)
    cov = np.linalg.inv(X.T @ X) * rss[0] / (len(X) - 3)
    shift = np.eye(3)
    shift[0, 1] = -offset  # the intercept at x = 0
    np.testing.assert_allclose(fit.coef, shift @ coef, rtol=1e-9)
    np.testing.assert_allclose(fit.classical_cov, shift @ cov @ shift.T, rtol=1e-6)
    assert fit.df == len(frame) - 3
    assert fit.r_squared == pytest.approx(
        1 - rss[0] / ((frame["y"] - frame["y"].mean()) ** 2).sum()
    )


def test_least_squares_names_what_it_cannot_use():
    frame = log().assign(one=1.0, twice=lambda f: 2 * f["x"])
    m = group_moments(frame, columns=["y", "x", "one", "twice"])
    with pytest.raises(ValueError, match="'one' is constant"):
        least_squares_from(m, outcome="y", regressors=["x", "one"])
    with pytest.raises(ValueError, match="'twice' is collinear"):
        least_squares_from(m, outcome="y", regressors=["x", "twice"])
    small = group_moments(frame[:3], columns=["y", "x", "count"])
    with pytest.raises(ValueError, match="2 regressors need more than 3 rows; got 3"):
        least_squares_from(small, outcome="y", regressors=["x", "count"])


def test_inverse_of_cross_survives_scales():
    scale = np.array([1e150, 1e-150])
    cross = np.array([[2.0, 0.5], [0.5, 1.0]])
    inverse = inverse_of_cross(cross * np.outer(scale, scale), ["a", "b"])
    np.testing.assert_allclose(inverse * np.outer(scale, scale), np.linalg.inv(cross), rtol=1e-12)


# --- files, selection, covariance -----------------------------------------------------------------


@pytest.mark.parametrize("roles", [{"by": BY}, {"weight": "w"}, {"unit": "viewer", "by": ["day"]}])
def test_moments_survive_a_file(roles, tmp_path):
    folder = tmp_path / "day=7"  # must not become a column
    folder.mkdir()
    m = group_moments(log(), columns=COLUMNS, **roles)
    m.to_parquet(folder / "m.parquet")
    again = Moments.read_parquet(folder / "m.parquet")
    assert_same(m, again, tolerance=0)
    assert again.keys.equals(m.keys)
    assert [p.name for p in folder.iterdir()] == ["m.parquet"]


def test_read_parquet_refuses_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"m\.parquet: no such file"):
        Moments.read_parquet(tmp_path / "m.parquet")
    (tmp_path / "m.parquet").write_text("torn")
    with pytest.raises(ValueError, match=r"m\.parquet: not readable as Parquet"):
        Moments.read_parquet(tmp_path / "m.parquet")
    log().to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="holds no moments"):
        Moments.read_parquet(tmp_path / "m.parquet")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    m = group_moments(log(), columns=["x"])
    m.to_parquet(path)
    before = path.read_bytes()

    def torn(table, where):
        where.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", torn)
    with pytest.raises(OSError, match="disk full"):
        m.to_parquet(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.parquet"]


def test_select_finds_groups_or_says_which_there_are():
    m = group_moments(log(), columns=["x"], by=BY)
    assert m.select(arm="A").keys.column("day").to_pylist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"no group has \{'arm': 'C'\}"):
        m.select(arm="C")
    with pytest.raises(ValueError, match=r"'arms' .*did you mean 'arm'"):
        m.select(arms="A")


def test_covariance_is_that_of_numpy():
    frame = log()
    m = group_moments(frame, columns=COLUMNS)
    np.testing.assert_allclose(m.covariance()[0], np.cov(frame[COLUMNS].T), rtol=EXACT)
    np.testing.assert_allclose(m.covariance(0)[0], np.cov(frame[COLUMNS].T, ddof=0), rtol=EXACT)
    equal = group_moments(frame.assign(w=2.0), columns=COLUMNS, weight="w")
    np.testing.assert_allclose(equal.covariance(), m.covariance(), rtol=EXACT)
    with pytest.raises(ValueError, match="more than 1 rows a group; too few in"):
        group_moments(frame[:1], columns=["x"], by=["arm"]).covariance()


# --- bad input ------------------------------------------------------------------------------------


@PATHS
@pytest.mark.parametrize(
    ("change", "roles", "error", "message"),
    [
        ({"x": np.nan}, {}, ValueError, r"'x' must be present .*5 rows are.* 0, 1, 2, 3, 4 \(miss"),
        ({"x": np.inf}, {}, ValueError, r"column 'x' must be finite; 5 rows are not"),
        ({"x": "text"}, {}, TypeError, r"column 'x' must hold numbers"),
        ({"x": pd.Timestamp(0)}, {}, TypeError, r"column 'x' must hold numbers"),
        ({"arm": None}, {"by": ["arm"]}, ValueError, r"column 'arm' must be present"),
        ({"viewer": None}, {"unit": "viewer"}, ValueError, r"column 'viewer' must be present"),
        ({"w": -1.0}, {"weight": "w"}, ValueError, r"weight 'w' must be >= 0; 5 rows are.*0, 1, 2"),
        ({"w": 0.0}, {"weight": "w"}, ValueError, r"all weights of 1 groups are 0"),
        ({"w": np.nan}, {"weight": "w"}, ValueError, r"column 'w' must be present"),
        ({}, {"weight": "w", "unit": "viewer"}, ValueError, r"weight and unit do not go together"),
        ({}, {"by": ["x"]}, ValueError, r"column 'x' cannot be both columns and by"),
        ({}, {"by": "arm"}, TypeError, r"by must be a list of column names; got 'arm'"),
        ({}, {"columns": "x"}, TypeError, r"columns must be a list of column names; got 'x'"),
        ({}, {"columns": []}, ValueError, r"columns must name at least one column"),
        ({}, {"columns": ["x", "x"]}, ValueError, r"column 'x' is named twice in columns"),
        ({}, {"columns": ["z"]}, ValueError, r"column 'z' \(columns\) is not in the table"),
    ],
)
def test_bad_input_is_refused(path, change, roles, error, message):
    frame = log(5).assign(**change)
    with pytest.raises(error, match=message):
        path(frame, **{"columns": ["x"]} | roles)


@PATHS
def test_empty_table_is_refused(path):
    with pytest.raises(ValueError, match="the table is empty"):
        path(log(0), columns=["x"])


def test_centred_moments_take_opened_rows():
    rows = open_rows(log(), numeric={"a": "x", "b": "y"}, labels={"g": "arm"})
    groups, mean, cross, total = centred_moments(rows, ["a", "b"], ["g"])
    m = group_moments(log(), columns=["x", "y"], by=["arm"])
    assert groups.keys["g"].tolist() == ["A", "B"]
    assert total.tolist() == m.n.tolist()
    assert (mean == m.mean).all()
    assert (cross == m.cross).all()


@pytest.mark.slow
def test_more_units_than_memory_spill(tmp_path, monkeypatch):
    n, units = 3_000_000, 1_000_000
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=n), "v": rng.integers(0, units, n)})
    pq.write_table(table, tmp_path / "log.parquet")
    whole = group_moments(tmp_path, columns=["x"], unit="v")
    monkeypatch.setenv("LIVELIFT_MEMORY_LIMIT", "120MB")
    monkeypatch.setenv("LIVELIFT_THREADS", "1")
    assert_same(whole, group_moments(tmp_path, columns=["x"], unit="v"))
