"""The hash behind every assignment: stored values, uniformity, bad ids."""

import hashlib

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.designs.hashing import as_ids, unit_hash

# (id, salt, seed) -> u: never to change, or running experiments would be dealt anew
STORED = [
    (17, "rank", 7, 0.0703334982093704),
    (18, "rank", 7, 0.041955345224099494),
    (-1, "", 0, 0.33519921577917866),
    (2**62, "", 0, 0.029076564872065336),
    ("17", "rank", 7, 0.8051015467760431),
    ("é", "rank", 7, 0.36687305817258653),
]
MASK = (1 << 64) - 1


def replayed(unit, salt, seed):
    """The published lines in whole numbers of Python."""
    key = int.from_bytes(hashlib.blake2b(f"{salt}|{seed}".encode()).digest()[:8], "little")
    if isinstance(unit, str):
        x = int.from_bytes(hashlib.blake2b(unit.encode(), digest_size=8).digest(), "little")
    else:
        x = unit & MASK
    x = ((x ^ key) + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return ((x ^ (x >> 31)) >> 11) * 2.0**-53


@pytest.mark.parametrize(("unit", "salt", "seed", "u"), STORED)
def test_unit_hash_gives_the_stored_values(unit, salt, seed, u):
    assert unit_hash([unit], salt=salt, seed=seed).tolist() == [u]


@given(
    units=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5)
    | st.lists(st.text(min_size=1), min_size=1, max_size=5),
    salt=st.text(max_size=5),
    seed=st.integers(0, 99),
)
def test_unit_hash_is_what_its_notes_say(units, salt, seed):
    found = unit_hash(units, salt=salt, seed=seed)
    assert found.tolist() == [replayed(u, salt, seed) for u in units]


def test_unit_hash_is_uniform_and_independent_between_salts():
    n = 100_000
    one, other = unit_hash(np.arange(n), salt="a"), unit_hash(np.arange(n), salt="b")
    assert stats.kstest(one, "uniform").pvalue > 1e-3
    counts = np.histogram2d(one, other, bins=20, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(n)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.array,
        pd.Series,
        pl.Series,
        pa.array,
        pd.Categorical,
        lambda ids: pd.Series(ids).convert_dtypes(),
        lambda ids: pd.Index(ids),
    ],
)
def test_unit_hash_takes_ids_of_any_kind(kind):
    texts = ["ann", "bob", "ann"]
    assert unit_hash(kind(texts)).tolist() == unit_hash(texts).tolist()
    assert unit_hash(kind([3, 1, 3])).tolist() == unit_hash([3, 1, 3]).tolist()


def test_unit_hash_of_unsigned_ids_is_exact():
    ids = np.array([2**63 + 1, 2**63 + 3], dtype=np.uint64)
    assert unit_hash(ids).tolist() == [replayed(int(i), "", 0) for i in ids]


@pytest.mark.parametrize(
    ("units", "error", "message"),
    [
        ([1, None], ValueError, "ids must be present; 1 are missing, first at rows \\[1\\]"),
        (["a", None, None], ValueError, "2 are missing"),
        ([1.5, 2.0], TypeError, "whole numbers or text"),
        ([1, "1"], TypeError, "of one kind; got mixed"),
        ([True, False], TypeError, "got boolean"),
        ("abc", TypeError, "ids must be an array; got the single value 'abc'"),
        (17, TypeError, "ids must be an array"),
        ([-1, 2**63], ValueError, "64 bits, all signed or all unsigned"),
        ([2**64], ValueError, "64 bits, all signed or all unsigned"),
    ],
)
def test_unit_hash_refuses_what_is_no_id(units, error, message):
    with pytest.raises(error, match=message):
        unit_hash(units)


@pytest.mark.parametrize("seed", [True, 1.5, -1, "a"])
def test_unit_hash_refuses_a_seed_that_is_no_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number >= 0"):
        unit_hash([1], seed=seed)
    assert unit_hash([1], seed=7.0).tolist() == unit_hash([1], seed=np.int64(7)).tolist()


def test_as_ids_of_nothing_is_empty():
    assert len(as_ids([])) == 0
