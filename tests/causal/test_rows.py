"""Rows in memory and in the engine give the same answers to the same questions."""

import math
import time

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal import engine_rows
from causal import rows as rows_module
from causal.frame import open_table
from causal.rows import ArrayRows, EngineRows, both, open_rows, present, select
from causal.verbs import HEAD_ROWS

NUMERIC = {"y": "watch s", "z": "gifts"}
LABELS = {"arm": "arm", "who": "viewer"}


def log(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "watch s": np.where(rng.random(n) < 0.1, np.nan, rng.normal(10, 3, n)),
            "gifts": rng.integers(0, 5, n),
            "arm": rng.choice(["B", "A", "C"], n),
            "viewer": rng.integers(0, 40, n) + 2**60,
        }
    )


def opened(frame, kind):
    """A frame's rows in memory, in the private engine, or in a user's own engine."""
    if kind == "memory":
        return open_rows(frame, numeric=NUMERIC, labels=LABELS)
    if kind == "private":
        return EngineRows.opened(
            open_table(frame, columns=[*NUMERIC.values(), *LABELS.values()]), NUMERIC, LABELS
        )
    backend = ibis.duckdb.connect()
    backend.con.register("log", pa.Table.from_pandas(frame, preserve_index=False))
    return open_rows(backend.table("log"), numeric=NUMERIC, labels=LABELS)


def each(frame):
    return [opened(frame, kind) for kind in ("memory", "private", "own")]


def value(groups, name):
    """One of the sums of groups."""
    return groups.values[name]  # noqa: PD011 — sums, not a frame


def assert_same(a, b):
    assert list(a.keys) == list(b.keys)
    for name in a.keys:
        assert a.keys[name].tolist() == b.keys[name].tolist()
        assert [type(k) for k in a.keys[name].tolist()] == [type(k) for k in b.keys[name].tolist()]
    assert a.n.dtype == b.n.dtype == np.int64
    assert a.n.tolist() == b.n.tolist()
    assert vars(a)["values"].keys() == vars(b)["values"].keys()
    for name in vars(a)["values"]:
        np.testing.assert_allclose(value(b, name), value(a, name), rtol=1e-12, atol=1e-12)


FORMULAS = {
    "y": lambda c: select(present(c["y"]), c["y"]),
    "yz": lambda c: select(present(c["y"]), (c["y"] - 3.0) * c["z"] / 2),
    "both": lambda c: select(both(present(c["y"]), c["z"] > 2), 1.0),
    "one": lambda _: 1.0,
    "square": lambda c: c["z"] ** 2,
    "flag": lambda c: c["z"] > 1,
}


@pytest.mark.parametrize("by", [[], ["arm"], ["who"], ["arm", "who"], ["who", "arm"]])
def test_sums_agree_in_memory_and_engines(by):
    memory, private, own = (rows.sums(by, FORMULAS) for rows in each(log()))
    assert_same(memory, private)
    assert_same(memory, own)


def test_sums_are_those_of_pandas():
    frame = log()
    wanted = frame.groupby("arm")["watch s"].agg(["sum", "size"])
    for rows in each(frame):
        found = rows.sums(["arm"], {"y": FORMULAS["y"]})
        assert found.keys["arm"].tolist() == wanted.index.tolist()
        np.testing.assert_allclose(value(found, "y"), wanted["sum"], rtol=1e-12)
        assert found.n.tolist() == wanted["size"].tolist()


@pytest.mark.parametrize("many", [0, 1_000_000], ids=["stay in the engine", "come back"])
def test_verbs_chain_alike(many, monkeypatch):
    monkeypatch.setattr(engine_rows, "_MANY_GROUPS", many)

    def chained(rows):
        rows = rows.where(lambda c: c["z"] > 0).derive({"twice": lambda c: c["z"] * 2.0})
        units = rows.grouped(["arm", "who"], {"t": lambda c: c["twice"], "y": FORMULAS["y"]})
        return units.sums(["arm"], {"t2": lambda c: c["t"] * c["t"], "n": lambda c: c["n"]})

    memory, private, own = map(chained, each(log()))
    assert_same(memory, private)
    assert_same(memory, own)


def test_where_may_leave_nothing():
    for rows in each(log()):
        none = rows.where(lambda c: c["z"] > 99)
        assert none.sums([], {"z": lambda c: c["z"]}).n.tolist() == [0]
        assert len(none.sums(["arm"], {"z": lambda c: c["z"]})) == 0


@pytest.mark.parametrize("by", [[], ["arm"], ["arm", "who"]])
def test_attach_gives_every_row_its_group(by):
    def residual(rows):
        groups = rows.sums(by, {"z": lambda c: c["z"]})
        with_mean = rows.attach(groups, {"mean": value(groups, "z") / groups.n})
        return with_mean.sums(["arm"], {"r": lambda c: (c["z"] - c["mean"]) ** 2})

    memory, private, own = map(residual, each(log()))
    assert_same(memory, private)
    assert_same(memory, own)


def test_grouped_after_attach_finds_what_was_attached():
    for rows in each(log()):
        groups = rows.sums(["arm"], {})
        units = rows.attach(groups, {"m": groups.n * 1.0}).grouped(["who"], {"m": lambda c: c["m"]})
        assert value(units.sums([], {"m": lambda c: c["m"]}), "m")[0] == (groups.n**2).sum()


def test_attach_refuses_groups_of_other_rows():
    rows = opened(log(), "memory")
    groups = rows.where(lambda c: c["arm"] != "A").sums(["arm"], {})
    with pytest.raises(ValueError, match="3 groups here, 2 given"):
        rows.attach(groups, {"m": groups.n * 1.0})


def test_missing_numbers_are_counted():
    frame = log()
    for rows in each(frame):
        assert rows.n_missing("y") == frame["watch s"].isna().sum()
        assert rows.n_missing("z") == 0


def test_nan_and_null_are_missing_alike_in_the_engine():
    table = pa.table({"x": [1.0, None, float("nan"), 4.0], "k": [1, 1, 2, 2]})
    rows = open_rows(duckdb.connect().from_arrow(table), numeric={"x": "x"}, labels={"k": "k"})
    assert rows.n_missing("x") == 2
    found = rows.sums(["k"], {"x": lambda c: select(present(c["x"]), c["x"])})
    assert value(found, "x").tolist() == [1.0, 4.0]


def test_a_column_without_any_number_is_all_missing():
    table = duckdb.connect().from_arrow(
        pa.table({"x": pa.nulls(3), "f": pa.nulls(3, pa.float64())})
    )
    rows = open_rows(table, numeric={"x": "x", "f": "f"}, labels={})
    assert (rows.n_missing("x"), rows.n_missing("f")) == (3, 3)


def test_a_sum_beyond_a_double_is_not_taken_for_an_infinite_value():
    frame = pd.DataFrame({"x": [1.7e308, 1.7e308]})
    rows = open_rows(duckdb.connect().from_arrow(pa.Table.from_pandas(frame)), numeric={"x": "x"},
                     labels={})  # fmt: skip
    assert rows.n_missing("x") == 0


BAD = {
    "inf": ({"x": [1.0, np.inf, 2.0, -np.inf]}, r"'x' must be finite; 2 rows.*1, 3 \(inf, -inf\)"),
    "inf and nan": ({"x": [np.nan, np.inf, 2.0, 3.0]}, r"'x' must be finite; 1 row .* 1 \(inf\)"),
    "label": ({"k": ["a", None, "b", None]}, r"'k' must be present.*; 2 rows are not.* rows 1, 3"),
    "nan label": ({"k": [0.5, np.nan, 1.0, 2.0]}, r"'k' must be present.*; 1 row is not.* rows 1 "),
    "six": ({"x": [np.inf] * 6}, r"6 rows are not, e\.g\. rows 0, 1, 2, 3, 4 \(inf, "),
}


@pytest.mark.parametrize("kind", ["memory", "engine"])
@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_their_rows(case, kind):
    columns, message = BAD[case]
    frame = pd.DataFrame({"x": np.zeros(len(next(iter(columns.values())))), "k": 1} | columns)
    data = frame if kind == "memory" else duckdb.from_arrow(
        pa.Table.from_pandas(frame), connection=duckdb.connect()
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        open_rows(data, numeric={"a": "x"}, labels={"b": "k"})


def test_refuse_names_the_first_five_rows():
    frame = log().fillna(1.0)
    wanted = np.flatnonzero(frame["gifts"] == 4)
    message = rf"gifts must be < 4; {len(wanted)} rows are not, e\.g\. rows "
    message += ", ".join(map(str, wanted[:5])) + r" \(4\.0, 4\.0, 4\.0, 4\.0, 4\.0\); drop them"
    for rows in each(frame):
        rows.refuse(lambda c: c["z"] > 4, "z", name="gifts", rule="be < 5", do="drop them")
        with pytest.raises(ValueError, match=message):
            rows.refuse(lambda c: c["z"] > 3, "z", name="gifts", rule="be < 4", do="drop them")


@pytest.mark.parametrize("many", [100, 1_000_000], ids=["in the engine", "fetched"])
def test_order_statistics_are_exact(many, monkeypatch):
    monkeypatch.setattr(engine_rows, "_MANY_VALUES", many)
    frame = log().fillna(0.0)
    wanted = np.sort(frame["watch s"].to_numpy())
    ranks = [1, 2, 250, 499, 500, 250]
    for rows in each(frame):
        assert rows.order_statistics("y", ranks).tolist() == wanted[np.array(ranks) - 1].tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40), st.booleans())
def test_pilot_is_near_and_a_power_of_two(values, exact):
    frame = pd.DataFrame({"watch s": values, "gifts": 1, "arm": "A", "viewer": 1})
    for kind in ("memory", "private"):
        pilot = opened(frame, kind).pilot(["y", "z"], exact=exact)
        ulp = 1e-15 * max(map(abs, values))  # of a mean
        assert min(values) - ulp <= pilot.centre["y"] <= max(values) + ulp
        assert math.frexp(pilot.scale["y"])[0] == 0.5
        reach = max(abs(v - pilot.centre["y"]) for v in values)
        if 1e-300 < reach < math.inf:
            assert 0.99 <= reach / pilot.scale["y"] < 2.01 or pilot.scale["y"] == 2.0**1000
        assert (pilot.centre["z"], pilot.scale["z"]) == (1.0, 1.0)


def test_exact_pilot_looks_at_all_rows():
    n = HEAD_ROWS
    values = np.r_[np.zeros(n), np.full(n, 1e9)]
    frame = pd.DataFrame({"watch s": values, "gifts": 1, "arm": "A", "viewer": 1})
    for kind in ("memory", "private"):
        rows = opened(frame, kind)
        assert rows.pilot(["y"]).centre["y"] == 0.0
        assert rows.pilot(["y"], exact=True).centre["y"] == 5e8


def test_accumulated_and_numbered_agree():
    frame = log(60)
    memory, private, own = (
        rows.accumulated("arm").sums(["arm"], {"z": lambda c: c["z"]}) for rows in each(frame)
    )
    counts = frame["arm"].value_counts().sort_index().cumsum()
    assert memory.n.tolist() == counts.tolist()
    assert_same(memory, private)
    assert_same(memory, own)
    for rows in each(frame):
        assert len(rows.numbered("row").grouped(["row"], {}).sums(["row"], {})) == 60


def test_fetch_brings_columns_in_step():
    frame = log(80)
    wanted = sorted(zip(frame["arm"], frame["gifts"], strict=True))
    for rows in each(frame):
        found = rows.fetch(["arm", "z"])
        assert sorted(zip(found["arm"], found["z"], strict=True)) == wanted
        assert found["z"].dtype == np.float64


def test_tables_in_memory_are_arrays_until_they_are_large(monkeypatch):
    frame = log(50)
    assert isinstance(open_rows(frame, numeric=NUMERIC, labels=LABELS), ArrayRows)
    monkeypatch.setattr(rows_module, "_IN_ENGINE_FROM", 50)
    assert isinstance(open_rows(frame, numeric=NUMERIC, labels=LABELS), EngineRows)


def test_own_engine_keeps_no_tables():
    backend = ibis.duckdb.connect()
    backend.con.execute("create table log as select range::double x, range % 3 k from range(9)")
    rows = open_rows(backend.table("log"), numeric={"x": "x"}, labels={"k": "k"})
    groups = rows.sums(["k"], {"x": lambda c: c["x"]})
    attached = rows.attach(groups, {"m": value(groups, "x")})
    assert value(attached.sums([], {"m": lambda c: c["m"]}), "m")[0] == 108.0
    rows.grouped(["k"], {"x": lambda c: c["x"]}).sums([], {})
    del attached, rows
    import gc

    gc.collect()
    names = backend.con.sql("select table_name from duckdb_tables()").fetchall()
    views = backend.con.sql("select view_name from duckdb_views() where not internal").fetchall()
    assert names + views == [("log",)]


def test_private_engines_are_freed():
    import gc
    import weakref

    table = opened(log(), "private").grouped_table(["arm"], {})
    engine = weakref.ref(table.get_backend())
    assert engine() is not None
    del table
    for _ in range(3):
        gc.collect()
    assert engine() is None


@pytest.mark.slow
def test_engine_checks_cost_little_beside_a_scan():
    n = 2_000_000
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=n), "k": rng.integers(0, n // 5, n)})
    opening = open_table(table, columns=["x", "k"])
    start = time.perf_counter()
    rows = EngineRows.opened(opening, {"x": "x"}, {"k": "k"})
    checked = time.perf_counter()
    rows.grouped(["k"], {"x": lambda c: c["x"]})
    assert checked - start < time.perf_counter() - checked


@pytest.mark.parametrize("rows", [3, 300_000])
def test_infinite_labels_are_refused(rows):
    values = np.zeros(rows)
    values[1] = np.inf
    with pytest.raises(ValueError, match="'g' must be finite; 1 row"):
        open_rows(pa.table({"g": values}), numeric={}, labels={"g": "g"})
