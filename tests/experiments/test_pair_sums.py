"""Sums of pairs: sparse rows against the dense matrix, in memory and in the engine."""

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pair_tables import ROLES, crossed, dense_sums, halves, pair_frame

from causal import engine_rows
from experiments.pairs.pair_sums import open_pairs, pair_matrix, pair_sums

PLAIN = {"covariates": (), "battle": None, "zero_fill": True, "n_viewers": None, "n_authors": None}


def opened(frame, **options):
    """The pairs of a frame."""
    return open_pairs(frame, **ROLES, **{**PLAIN, **options})


def in_engine(frame):
    """The same rows behind DuckDB."""
    return duckdb.connect().from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


def sparse_world(shape=(30, 20), share=0.3, seed=0):
    """A matrix most of whose pairs are 0, its arms, and the rows of the other pairs."""
    rng = np.random.default_rng(seed)
    arms = halves(shape[0], rng), halves(shape[1], rng)
    y = np.where(rng.random(shape) < share, rng.exponential(3, shape), 0.0)
    frame = pair_frame(y, *arms)
    return y, arms, frame[frame["y"] > 0]


def assert_sums(log, y, arms, rtol=1e-10):
    """The log's sums are those of the dense matrix."""
    found, wanted = pair_sums(log), dense_sums(y, *arms)
    np.testing.assert_array_equal(found.n_pairs, wanted.n_pairs)
    mean = log.centre + log.scale * found.mean
    np.testing.assert_allclose(mean, wanted.mean, rtol=rtol)
    np.testing.assert_allclose(log.scale**2 * found.square, wanted.square, rtol=rtol)
    for name in ("by_viewer", "by_author"):
        got, want = log.scale * getattr(found, name), getattr(wanted, name)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())


@pytest.mark.parametrize("door", [lambda f: f, in_engine], ids=["memory", "engine"])
def test_pair_sums_of_sparse_rows_are_those_of_the_dense_matrix(door):
    y, arms, rows = sparse_world()
    assert_sums(opened(door(rows)), y, arms)
    assert_sums(opened(door(rows.sample(frac=1, random_state=1))), y, arms)


def test_pair_sums_that_stay_in_the_engine_are_equal(monkeypatch):
    monkeypatch.setattr(engine_rows, "_MANY_GROUPS", 0)
    monkeypatch.setattr(engine_rows, "_MANY_VALUES", 0)
    y, arms, rows = sparse_world()
    log = opened(in_engine(rows))
    assert_sums(log, y, arms)
    assert pair_matrix(log) is None  # too many pairs to hold, as far as the test can make it so


def test_pair_sums_lose_nothing_to_an_offset_or_a_scale():
    rng = np.random.default_rng(2)
    arms = halves(16, rng), halves(12, rng)
    y = crossed((16, 12))
    plain = pair_sums(opened(pair_frame(y, *arms)))
    far = pair_sums(opened(pair_frame(y + 2.0**30, *arms)))
    np.testing.assert_allclose(far.square, plain.square, rtol=1e-5)
    log = opened(pair_frame(y * 1e150, *arms))
    assert np.isfinite(pair_sums(log).square).all()
    assert_sums(opened(pair_frame(y * 2.0**-400, *arms)), y * 2.0**-400, arms)


def test_pair_sums_count_viewers_and_authors_without_rows_as_zeros():
    y, arms, rows = sparse_world(share=0.15)
    y = y.copy()
    y[[3, 8]], y[:, 5] = 0.0, 0.0  # nobody saw them
    rows = rows[~rows["viewer"].isin([103, 108]) & (rows["author"] != 12)]
    dealt = [{k: int((arm == k).sum()) for k in (0, 1)} for arm in arms]
    log = opened(rows, n_viewers=dealt[0], n_authors=dealt[1])
    found = pair_sums(log)
    wanted = dense_sums(y, *arms)
    np.testing.assert_array_equal(found.n_pairs, wanted.n_pairs)
    np.testing.assert_allclose(log.centre + log.scale * found.mean, wanted.mean, rtol=1e-10)
    np.testing.assert_allclose(log.scale**2 * found.square, wanted.square, rtol=1e-10)
    for name in ("by_viewer", "by_author"):
        got = np.sort(log.scale * getattr(found, name), axis=0)
        np.testing.assert_allclose(got, np.sort(getattr(wanted, name), axis=0), atol=1e-9)


def test_pair_sums_without_zero_fill_hold_only_the_pairs_given():
    _, _, rows = sparse_world()
    log = opened(rows, zero_fill=False)
    found = pair_sums(log)
    assert not found.complete
    about = rows["y"] - rows.groupby(["va", "aa"])["y"].transform("mean")
    table = rows.assign(about=about, square=about**2)

    def cells(column, how, index="va"):
        return table.pivot_table(column, index, "aa", aggfunc=how, fill_value=0)

    np.testing.assert_array_equal(found.n_pairs, cells("y", "size"))
    mean = log.centre + log.scale * found.mean
    np.testing.assert_allclose(mean, cells("y", "mean"), rtol=1e-12)
    by_viewer = cells("about", "sum", index="viewer")
    np.testing.assert_allclose(log.scale * found.by_viewer, by_viewer, atol=1e-10)
    np.testing.assert_allclose(log.scale**2 * found.square, cells("square", "sum"), rtol=1e-12)


def test_pair_matrix_holds_the_pairs_in_the_order_of_the_arms():
    y, arms, rows = sparse_world()
    log = opened(rows)
    matrix = pair_matrix(log).toarray() * log.scale
    np.testing.assert_allclose(matrix, y, atol=1e-12)
    np.testing.assert_array_equal(log.viewers.arm, arms[0])
    np.testing.assert_array_equal(log.authors.arm, arms[1])


def with_row(rows, **changes):
    """The table with the first row once more, changed."""
    return pd.concat([rows, rows.iloc[[0]].assign(**changes)], ignore_index=True)


REFUSED = [
    (lambda r: with_row(r, author=9_999, va=1 - r["va"].iloc[0]), r"arm 'va' must be constant within viewer 'viewer'; 1 of 30 change it, e.g. 100; give"),  # noqa: E501
    (lambda r: with_row(r, viewer=9_999, aa=1 - r["aa"].iloc[0]), r"arm 'aa' must be constant within author 'author'; 1 of 20"),  # noqa: E501
    (lambda r: with_row(r), r"a pair of 'viewer' and 'author' must have one row; 1 pairs have more, e.g. \(100, "),  # noqa: E501
    (lambda r: r.assign(va=r["va"] + 1), r"arm 'va' must be 0 or 1; \d+ rows are not, e.g. rows"),
    (lambda r: r.assign(aa=1), r"arm 'aa' needs at least 4 authors in each arm; arm 0 has 0"),
    (lambda r: r[(r["va"] == 0) | r["viewer"].isin(r.loc[r["va"] == 1, "viewer"].unique()[:3])], r"arm 'va' needs at least 4 viewers in each arm; arm 1 has 3"),  # noqa: E501
    (lambda r: r[(r["va"] == 0) | (r["aa"] == 0)], r"every cell needs rows; viewer arm 1 with author arm 1 has none; pass rows"),  # noqa: E501
    (lambda r: r.assign(y=r["y"].where(r["y"] < 3)), r"column 'y' must be present \(not missing\); \d+ rows are not"),  # noqa: E501
    (lambda r: r.assign(y=np.where(r["y"] < 1, np.inf, r["y"])), r"column 'y' must be finite"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED)
@pytest.mark.parametrize("door", [lambda f: f, in_engine], ids=["memory", "engine"])
def test_open_pairs_refuses_what_is_no_experiment(change, message, door):
    rows = change(sparse_world()[2])
    with pytest.raises(ValueError, match=message):
        pair_sums(opened(door(rows)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_viewers": 40}, "n_viewers must give the viewers dealt to each arm, such as"),
        ({"n_viewers": {0: 20}}, "n_viewers must give the viewers dealt"),
        ({"n_authors": {0: 2.5, 1: 20}}, "n_authors must give the authors dealt"),
        ({"n_authors": {0: 3, 1: 20}}, r"at least the authors with rows, \[10, 10\] in arms 0"),
        ({"n_viewers": 30, "zero_fill": False}, "need zero_fill=True"),
        ({"covariates": "y"}, "covariates must be a list of column names"),
        ({"covariates": ["va"]}, "column 'va' cannot be both viewer_arm and covariates"),
    ],
)
def test_open_pairs_refuses_options_that_make_no_sense(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        opened(sparse_world()[2], **options)


def test_open_pairs_takes_a_total_that_is_that_of_the_rows():
    rows = sparse_world()[2]
    assert opened(rows, n_viewers=30, n_authors=20).viewers.sizes.sum() == 30


@pytest.mark.parametrize("kind", [bool, "boolean", "category", "uint8", "float32"])
def test_open_pairs_takes_arms_of_any_kind_that_holds_0_and_1(kind):
    rows = sparse_world()[2]
    found, wanted = (pair_sums(opened(r)) for r in (rows.astype({"va": kind, "aa": kind}), rows))
    np.testing.assert_array_equal(found.mean, wanted.mean)
