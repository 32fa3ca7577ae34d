"""Awkward but valid input, one suite for every public entry: it works, with an equal answer.

Any row order, any index, any dtype that holds the numbers, read-only memory, far offsets and
scales, and column names that look like code.
"""

from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from entries import ENTRIES, HOSTILE_NAMES, TARGET_LOG, assert_same, entry, numbers

import experiments

EACH = pytest.mark.parametrize("e", ENTRIES, ids=str)
EQUAL = 1e-9


def in_engine(frame):
    """The same rows behind DuckDB: they take the engine's path whatever their number."""
    return duckdb.connect().from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


@EACH
def test_row_order_does_not_matter(e):
    for seed in (0, 1):
        assert_same(e.run(e.table().sample(frac=1, random_state=seed)), e.run(), EQUAL)


@EACH
def test_any_index_works(e):
    table = e.table()
    n = len(table)
    indexes = (
        np.arange(n)[::-1],
        np.zeros(n, int),
        [f"row {i}" for i in range(n)],
        pd.MultiIndex.from_arrays([np.arange(n) % 7, np.arange(n)], names=["arm", "cluster"]),
        pd.date_range("2026-01-01", periods=n, freq="s"),
    )
    for index in indexes:
        assert_same(e.run(table.set_axis(index, axis=0)), e.run(), EQUAL)


WHOLE = ("int8", "int16", "uint8", "uint16", "float32", "Int64", "UInt8", "Float64")
ARROW = (pa.int8(), pa.uint16(), pa.float32(), pa.decimal128(25, 2))


def whole_roles(e):
    """Roles whose values are whole numbers from 0 to 127."""
    table = e.table()
    return [r for r in e.roles if table[r].dtype.kind == "i" and table[r].between(0, 127).all()]


@EACH
@pytest.mark.parametrize("dtype", [*WHOLE, *map(pd.ArrowDtype, ARROW), "object"], ids=str)
def test_dtypes_that_hold_whole_numbers_are_equal(e, dtype):
    table = e.table()
    roles = whole_roles(e)
    assert roles
    assert_same(e.run(table.astype(dict.fromkeys(roles, dtype))), e.run(), EQUAL)


@EACH
@pytest.mark.parametrize(
    "dtype", ["uint8", pd.ArrowDtype(pa.int8()), pd.ArrowDtype(pa.decimal128(25, 2))], ids=str
)
def test_dtypes_are_equal_in_the_engine(e, dtype):
    roles = [r for r in whole_roles(e) if r in e.numbers or dtype == "uint8"]
    table = e.table().astype(dict.fromkeys(roles, dtype))
    assert_same(e.run(in_engine(table)), e.run(), EQUAL)


@EACH
def test_decimals_and_nullable_columns_are_equal(e):
    table = e.table()
    exact = {
        role: pd.Series([Decimal(v).quantize(Decimal("0.00001")) for v in table[role].tolist()])
        for role in (*e.numbers, *e.probabilities, *e.weights)
    }
    assert_same(e.run(table.assign(**exact)), e.run(), EQUAL)
    assert_same(e.run(table.convert_dtypes()), e.run(), EQUAL)
    assert_same(e.run(table.convert_dtypes(dtype_backend="pyarrow")), e.run(), EQUAL)


def relabelled(e, label):
    """The entry's table with `label(role, values)` for each label, and what must go with it."""
    table = e.table()
    roles = [role for role in e.labels if role != "position"]
    named = table.assign(**{role: label(role, table[role]) for role in roles})
    if e.name == "logged_policy_value":
        other = TARGET_LOG.assign(**{role: label(role, TARGET_LOG[role]) for role in roles})
        return named, {"target_log": other}
    arms = "arm" in e.roles and e.name.startswith("ab_")
    return named, {"control": named["arm"][table["arm"] == 0].iloc[0]} if arms else {}


@EACH
def test_text_and_category_labels_are_equal(e):
    named, options = relabelled(e, lambda _, values: (values + 100).astype(str))
    coded = named.astype({role: "category" for role in e.labels if role != "position"})
    for table in (named, coded, in_engine(coded)):
        assert_same(e.run(table, **options), e.run(), EQUAL)


@pytest.mark.parametrize("kind", [bool, "boolean", pd.ArrowDtype(pa.bool_()), "category"], ids=str)
@pytest.mark.parametrize("name", [e.name for e in ENTRIES if "arm" in e.labels])
def test_arms_may_be_booleans_or_categories(name, kind):
    e = entry(name)
    assert_same(e.run(e.table().astype({"arm": kind})), e.run(), EQUAL)


@pytest.mark.parametrize("kind", [bool, "boolean", pd.ArrowDtype(pa.bool_()), "category"], ids=str)
@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ab_test", "outcome"),
        ("ab_test by unit", "outcome"),
        ("ab_curve", "outcome"),
        ("off_policy_value", "reward"),
        ("slate_value", "reward"),
        ("group_moments", "outcome"),
        ("unit_cube", "outcome"),
    ],
)
def test_outcomes_may_be_booleans_or_categories_of_0_and_1(name, role, kind):
    e = entry(name)
    table = e.table()
    binary = table.assign(**{role: (table[role] > table[role].median()).astype("int64")})
    assert_same(e.run(binary.astype({role: kind})), e.run(binary), EQUAL)


@EACH
def test_read_only_memory_works_and_the_callers_table_is_never_changed(e):
    for table in (e.table(), e.table().convert_dtypes(dtype_backend="pyarrow")):
        before = table.copy(deep=True)
        for column in table.columns:
            values = table[column].to_numpy()
            if values.base is not None and table[column].dtype.kind in "if":
                values.flags.writeable = False
        e.run(table)
        pd.testing.assert_frame_equal(table, before)
    frozen = {name: np.array(values) for name, values in e.table().items()}
    for values in frozen.values():
        values.setflags(write=False)
    assert_same(e.run(pd.DataFrame(frozen, copy=False)), e.run(), EQUAL)


DIFFERENCES = ("ab_test", "ab_test by unit", "ab_test weighted", "ab_curve", "dual_sided_effect",
               "share_response", "switchback_effect", "switchback_effect weighted",
               "burn_in_curve")  # fmt: skip
DOORS = pytest.mark.parametrize("door", [lambda f: f, in_engine], ids=["memory", "engine"])


@DOORS
@pytest.mark.parametrize("name", DIFFERENCES)
def test_an_offset_of_1e9_leaves_the_difference(name, door):
    e = entry(name)
    table = e.table()
    far, near = (
        numbers(e.run(door(table.assign(outcome=table["outcome"] + add)))) for add in (1e9, 0)
    )
    for quantity in ("estimate", "std_error", "cov"):
        if quantity in near:
            np.testing.assert_allclose(far[quantity], near[quantity], rtol=1e-5)


@DOORS
def test_an_offset_of_1e9_leaves_centred_moments(door):
    e = entry("group_moments")
    table = e.table()
    far = e.run(door(table.assign(outcome=table["outcome"] + 1e9)), unit=None)
    near = e.run(door(table), unit=None)
    np.testing.assert_allclose(numbers(far)["cross"], numbers(near)["cross"], rtol=1e-5)


@DOORS
@pytest.mark.parametrize("scale", [1e150, 1e-150])
@pytest.mark.parametrize("name", [*DIFFERENCES, "off_policy_value", "off_policy_lift",
                                  "logged_policy_value", "slate_value"])  # fmt: skip
def test_scales_of_1e150_scale_the_answer(name, scale, door):
    e = entry(name)
    table = e.table()
    role = e.numbers[0]
    plain = numbers(e.run(door(table)))
    scaled = numbers(e.run(door(table.assign(**{role: table[role] * scale}))))
    np.testing.assert_allclose(scaled["estimate"] / scale, plain["estimate"], rtol=EQUAL)
    if "cov" in plain:
        np.testing.assert_allclose(scaled["cov"] / scale / scale, plain["cov"], rtol=EQUAL)
    else:
        np.testing.assert_allclose(scaled["std_error"] / scale, plain["std_error"], rtol=EQUAL)


def arranged(e, shift):
    """The entry's table and the columns of its roles under hostile names."""
    names = [str(name) for name in np.roll(HOSTILE_NAMES, -shift)]
    columns = dict(zip(e.roles, names, strict=False))
    return e.table().rename(columns=columns), columns


@EACH
def test_hostile_column_names_are_only_names(e):
    for shift in range(len(HOSTILE_NAMES)):
        table, columns = arranged(e, shift)
        assert_same(e.run(table, columns), e.run(), EQUAL)


@pytest.mark.parametrize("shift", range(0, len(HOSTILE_NAMES), 3))
@EACH
def test_hostile_column_names_are_only_names_in_the_engine(e, shift):
    table, columns = arranged(e, shift)
    assert_same(e.run(in_engine(table), columns), e.run(), EQUAL)


@EACH
def test_hostile_labels_are_only_labels(e):
    def hostile(_, values):
        return [f"{HOSTILE_NAMES[v % len(HOSTILE_NAMES)]}{v}" for v in values]

    named, options = relabelled(e, hostile)
    for table in (named, in_engine(named)):
        assert_same(e.run(table, **options), e.run(), EQUAL)


@DOORS
@EACH
def test_columns_that_differ_only_in_case_are_two_columns(e, door):
    table = e.table()
    role = (*e.numbers, *e.labels)[0]
    twin = table.assign(**{role.upper(): table[role].to_numpy()[::-1]})
    assert_same(e.run(door(twin) if door is in_engine else twin), e.run(), EQUAL)


def test_names_that_differ_only_in_case_may_play_two_roles():
    e = entry("group_moments")
    table = e.table().rename(columns={"covariate": "OUTCOME"})
    assert_same(e.run(table, {"covariate": "OUTCOME"}), e.run(), EQUAL)


@EACH
def test_unused_columns_of_any_kind_do_no_harm(e):
    table = e.table()
    n = len(table)
    extra = table.assign(
        unused=[{"a": [i]} for i in range(n)], text="x", gap=np.nan, far=np.inf, when=pd.NaT
    )
    extra[3] = 1j
    assert_same(e.run(extra), e.run(), EQUAL)


def test_large_keys_are_exact():
    e = entry("group_moments")
    table = e.table()
    keys = 2**62 + table["cluster"]  # neighbours are one number as doubles
    for door in (lambda f: f, in_engine):
        assert_same(e.run(door(table.assign(cluster=keys))), e.run(), EQUAL)


def test_relabelled_arms_flip_the_sign():
    e = entry("ab_test")
    there = experiments.ab_test(e.table(), metric="outcome", arm="arm", control=0, treatment=1)
    back = experiments.ab_test(e.table(), metric="outcome", arm="arm", control=1, treatment=0)
    assert back.estimate == pytest.approx(-there.estimate, rel=EQUAL)
    assert back.std_error == pytest.approx(there.std_error, rel=EQUAL)
