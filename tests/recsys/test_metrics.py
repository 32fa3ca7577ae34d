"""Ranking and calibration metrics: against all pairs, permutations, loops and scikit-learn."""

from __future__ import annotations

import itertools
import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recsys.metrics import (
    MetricWarning,
    auc,
    calibration_ratio,
    gauc,
    log_loss,
    ndcg,
    recall,
    uauc,
)

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "metrics.json").read_text(encoding="utf-8")
)
EXACT = 1e-12
GROUPED = [
    gauc,
    uauc,
    lambda y, s, g: gauc(y, s, g, weight="positives"),
    lambda y, s, g: ndcg(y, s, g, k=3),
    lambda y, s, g: recall(y, s, g, k=3),
]


def pairs_auc(label, score, weight=None) -> float:
    """All pairs of a positive and a negative, one by one."""
    weight = np.ones(len(label)) if weight is None else weight
    won = total = 0.0
    for i, j in itertools.product(range(len(label)), repeat=2):
        if label[i] == 1 and label[j] == 0:
            w = weight[i] * weight[j]
            total += w
            won += w * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
    return won / total


def over_orders(label, score, measure) -> float:
    """Mean of a list measure over every order of the rows that the scores allow."""
    orders = [
        order
        for order in itertools.permutations(range(len(label)))
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order))
    ]
    return float(np.mean([measure([label[i] for i in order]) for order in orders]))


def dcg(labels, k) -> float:
    return sum(y / math.log2(r + 2) for r, y in enumerate(labels[:k]))


def small_log(seed: int, n: int = 60, n_groups: int = 6):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 2, n), rng.integers(0, n_groups, n)
    label[group == 0] = 1  # a group with one class only
    label[group == 1] = 0
    return label, rng.integers(0, 5, n), group


# ---------------------------------------------------------------- exact


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_all_pairs_with_ties_and_weights(seed):
    label, score, _ = small_log(seed)
    weight = np.random.default_rng(seed).gamma(1.0, size=len(label))
    assert auc(label, score) == pytest.approx(pairs_auc(label, score), abs=EXACT)
    expected = pairs_auc(label, score, weight)
    assert auc(label, score, weight=weight) == pytest.approx(expected, abs=EXACT)


def test_auc_tells_large_integers_apart_that_float_would_tie():
    big = 2**62
    assert auc([0, 1], [big, big + 1]) == 1.0
    assert auc([0, 1], np.array([big, big + 1], dtype=object)) == 1.0
    assert auc([0, 1], np.array([2**63 + 1, 2**63], dtype=np.uint64)) == 0.0
    assert gauc([0, 1], [big, big + 1], [1, 1]) == 1.0
    assert recall([1, 0], [big + 1, big], [1, 1], k=1) == 1.0


def test_auc_survives_extreme_weights():
    label, score, _ = small_log(1)
    plain = auc(label, score)
    for scale in (1e-300, 1e300):
        weight = np.full(len(label), scale)
        assert auc(label, score, weight=weight) == pytest.approx(plain, abs=EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_gauc_and_uauc_equal_a_loop_over_groups(seed):
    label, score, group = small_log(seed)
    rows, positives, values = [], [], []
    for g in np.unique(group):
        y, s = label[group == g], score[group == g]
        if 0 < y.sum() < len(y):
            rows.append(len(y))
            positives.append(y.sum())
            values.append(pairs_auc(y, s))
    assert len(values) < len(np.unique(group))  # the fixture has groups without an AUC
    assert gauc(label, score, group) == pytest.approx(np.average(values, weights=rows), abs=EXACT)
    by_positives = gauc(label, score, group, weight="positives")
    assert by_positives == pytest.approx(np.average(values, weights=positives), abs=EXACT)
    assert uauc(label, score, group) == pytest.approx(np.mean(values), abs=EXACT)


@pytest.mark.parametrize("k", [1, 2, 3, 6, 50])
def test_ndcg_and_recall_equal_the_mean_over_orders_of_tied_rows(k):
    lists = [
        ([1, 0, 1, 0, 0, 1], [3, 3, 1, 1, 1, 0]),
        ([0, 0, 1, 0], [5, 5, 5, 5]),
        ([1, 1, 0], [0, 2, 2]),
        ([0, 0], [1, 2]),
    ]
    label, score = (np.concatenate([one[i] for one in lists]) for i in (0, 1))
    group = np.repeat(["a", "b", "c", "none"], [len(y) for y, _ in lists])
    expected_ndcg = [
        over_orders(y, s, lambda row: dcg(row, k)) / dcg(sorted(y)[::-1], k)
        for y, s in lists
        if sum(y)
    ]
    expected_recall = [
        over_orders(y, s, lambda row: sum(row[:k])) / sum(y) for y, s in lists if sum(y)
    ]
    assert ndcg(label, score, group, k=k) == pytest.approx(np.mean(expected_ndcg), abs=EXACT)
    assert recall(label, score, group, k=k) == pytest.approx(np.mean(expected_recall), abs=EXACT)


def test_calibration_ratio_and_log_loss_equal_their_formulas():
    label, p = [1, 0, 0, 1], [0.9, 0.2, 0.4, 0.5]
    assert calibration_ratio(label, p) == pytest.approx(2.0 / 2, abs=EXACT)
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.6) + math.log(0.5)) / 4
    assert log_loss(label, p) == pytest.approx(expected, abs=EXACT)
    assert log_loss([0, 0], [1e-12, 1e-12]) == pytest.approx(1e-12, rel=1e-9)


def test_log_loss_clips_certain_predictions_and_says_how_many():
    with pytest.warns(MetricWarning, match="1 of 3 predictions") as caught:
        loss = log_loss([1, 0, 1], [0.0, 0.5, 0.5])
    assert len(caught) == 1
    assert loss == pytest.approx((-math.log(1e-15) + 2 * math.log(2)) / 3, abs=EXACT)


@pytest.mark.parametrize("metric", [gauc, uauc])
def test_gauc_warns_when_most_rows_lie_in_groups_of_one_class(metric):
    label, score, group = [0, 1, 1, 1, 1], [1, 2, 3, 4, 5], ["a", "a", "b", "c", "c"]
    with pytest.warns(MetricWarning, match=r"only 40% of the rows \(1 of 3 groups\)") as caught:
        assert metric(label, score, group) == 1.0
    assert len(caught) == 1
    assert caught[0].filename == __file__


# ---------------------------------------------------------------- intake and bad input


@pytest.mark.parametrize(
    "column",
    [
        list,
        np.array,
        pd.Series,
        pl.Series,
        pa.array,
        lambda v: pa.chunked_array([v[:2], v[2:]]),
        lambda v: pd.Series(v, dtype="category"),
        lambda v: pd.Series(v, index=range(len(v), 0, -1)).convert_dtypes(),
        lambda v: np.array(v, dtype=object),
    ],
)
def test_metrics_take_every_kind_of_column(column):
    label, score, group = [0, 1, 0, 1, 1], [1, 2, 3, 4, 2], ["a", "a", "b", "b", "b"]
    y, s, g = column(label), column(score), column(group)
    assert gauc(y, s, g) == pytest.approx(0.7)
    assert gauc(y, s, column([9, 9, 4, 4, 4])) == pytest.approx(0.7)
    assert auc(y, s, weight=column([1, 2, 1, 1, 1])) == auc(label, score, weight=[1, 2, 1, 1, 1])
    p = column([0.1, 0.2, 0.3, 0.4, 0.5])
    assert calibration_ratio(y, p) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.uint64, np.float16, np.float32, np.float64]
)
def test_metrics_do_not_depend_on_the_dtype_that_holds_the_numbers(dtype):
    label, score, group = small_log(3)
    y = label.astype(dtype)
    s = score if dtype is bool else score.astype(dtype)
    s.setflags(write=False)
    for metric in GROUPED:
        assert metric(y, s, group) == metric(label, score, group)
    assert auc(y, s) == auc(label, score)
    assert auc([Decimal(0), Decimal(1)], [Decimal("0.1"), Decimal("0.2")]) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc([0, 1], [1.0]), "label and score must have the same length; label has 2"),
        (lambda: auc([0, 1], [1, 2], weight=[1]), "label and weight must have the same length"),
        (lambda: gauc([0, 1], [1, 2], [1]), "label and group must have the same length"),
        (lambda: log_loss([0, 1], [0.5]), "label and p must have the same length"),
        (lambda: auc([], []), "label must hold at least one row"),
        (lambda: auc([[0, 1]], [[1, 2]]), "label must be one column"),
        (lambda: auc([0, 2], [1, 2]), r"label must be 0 or 1; 1 of 2 rows .* rows 1 \(2\)"),
        (lambda: auc([0, 1, np.nan], [1, 2, 3]), "label must be finite; 1 of 3"),
        (lambda: auc([0, 1, None], [1, 2, 3]), "label must not be missing; 1 of 3"),
        (lambda: auc([0, 1], [np.nan, 1]), r"score must be finite; 1 of 2 rows .* rows 0 \(nan\)"),
        (lambda: auc([0, 1], [np.inf, 1]), "score must be finite"),
        (lambda: auc([1, 1], [1, 2]), "both classes; rows with label 1: 2, with label 0: 0"),
        (lambda: auc([0, 0], [1, 2]), "both classes"),
        (lambda: auc([0, 1], [1, 2], weight=[0, 1]), "both classes; weight with label 1: 1"),
        (lambda: auc([0, 1], [1, 2], weight=[0, 0]), "both classes"),
        (lambda: auc([0, 1], [1, 2], weight=[-1, 1]), "weight must be >= 0; 1 of 2"),
        (lambda: auc([0, 1], [1, 2], weight=[np.nan, 1]), "weight must be finite"),
        (lambda: gauc([0, 1], [1, 2], [1, 1], weight="rows"), "weight must be 'impressions' or"),
        (lambda: gauc([0, 1], [1, 2], [1, 2]), "none of the 2 groups does"),
        (lambda: uauc([0, 1], [1, 2], [1, 2]), "none of the 2 groups does"),
        (lambda: gauc([0, 1], [1, 2], ["a", None]), "group must not be missing; 1 of 2"),
        (lambda: log_loss([0, 1], [-0.1, 0.5]), r"p must be in \[0, 1\]; 1 of 2"),
        (lambda: calibration_ratio([0, 1], [1.1, 0.5]), r"p must be in \[0, 1\]; 1 of 2"),
        (lambda: calibration_ratio([0, 1], [np.nan, 0.5]), "p must be finite"),
        (lambda: calibration_ratio([0, 0], [0.5, 0.5]), "label must hold at least one 1"),
        (lambda: ndcg([0, 1], [1, 2], [1, 1], k=0), "k must be >= 1; got 0"),
        (lambda: recall([0, 1], [1, 2], [1, 1], k=-3), "k must be >= 1; got -3"),
        (lambda: ndcg([0, 0], [1, 2], [1, 1], k=1), "label must hold at least one 1"),
        (lambda: recall([0, 0], [1, 2], [1, 1], k=1), "label must hold at least one 1"),
    ],
)
def test_metrics_refuse_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc([0, 1], ["a", "b"]), "score must be numbers"),
        (lambda: auc([0, 1], np.array(["a", 1], dtype=object)), "score must be numbers"),
        (lambda: auc([0, 1], [1j, 2]), "score must be numbers; got complex"),
        (lambda: auc(np.array(["0", "1"]), [1, 2]), "label must be numbers"),
        (lambda: auc([0, 1], pd.date_range("2026-01-01", periods=2)), "score must be numbers"),
        (lambda: gauc([0, 1], [1, 2], [1.0, 1.0]), "group must be integers or strings; got float"),
        (lambda: gauc([0, 1], [1, 2], np.array([1, "a"], dtype=object)), "all of one kind"),
        (lambda: ndcg([0, 1], [1, 2], [1, 1], k=1.5), "k must be an integer"),
        (lambda: recall([0, 1], [1, 2], [1, 1], k=True), "k must be an integer"),
    ],
)
def test_metrics_refuse_bad_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


# ---------------------------------------------------------------- reference


@pytest.mark.reference
def test_metrics_equal_scikit_learn():
    r = {name: np.array(v) if isinstance(v, list) else v for name, v in REFERENCE.items()}
    label, score, group = r["label"], r["score"], r["group"]
    got = {
        "auc": auc(label, score),
        "auc_weighted": auc(label, score, weight=r["weight"]),
        "gauc_impressions": gauc(label, score, group),
        "gauc_positives": gauc(label, score, group, weight="positives"),
        "uauc": uauc(label, score, group),
        "log_loss": log_loss(label, r["p"]),
    }
    assert got == pytest.approx({name: r[name] for name in got}, abs=1e-10)
    listed = np.isin(group, r["ndcg_groups"])
    for k, value in r["ndcg"].items():
        assert ndcg(label[listed], score[listed], group[listed], k=int(k)) == pytest.approx(
            value, abs=1e-10
        )


# ---------------------------------------------------------------- property

rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-4, 4), st.integers(0, 3)), min_size=2, max_size=40
)


def columns(table):
    label, score, group = (np.array(column) for column in zip(*table, strict=True))
    sizes = {g: label[group == g] for g in group}
    in_both = sum(len(y) for y in sizes.values() if 0 < y.sum() < len(y))
    assume(2 * in_both >= len(label))
    return label, score, group


@given(rows, st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_row_order_names_or_increasing_maps(table, random):
    label, score, group = columns(table)
    order = list(range(len(label)))
    random.shuffle(order)
    names = np.array([f"viewer {-g}" for g in group])
    for metric in GROUPED:
        value = metric(label, score, group)
        assert 0 <= value <= 1
        shuffled = metric(label[order], score[order], names[order])
        assert shuffled == pytest.approx(value, abs=EXACT)
        assert metric(label, np.exp(score / 3), group) == value


@given(rows)
def test_auc_of_the_reversed_problem_is_one_minus_auc(table):
    label, score, group = columns(table)
    assert auc(label, -score) == pytest.approx(1 - auc(label, score), abs=EXACT)
    assert auc(1 - label, score) == pytest.approx(1 - auc(label, score), abs=EXACT)
    assert uauc(label, -score, group) == pytest.approx(1 - uauc(label, score, group), abs=EXACT)


@given(rows, st.integers(1, 5))
def test_auc_weights_equal_repeated_rows(table, times):
    label, score, _ = columns(table)
    weight = np.arange(len(label)) % (times + 1) + 1
    repeated = auc(np.repeat(label, weight), np.repeat(score, weight))
    assert auc(label, score, weight=weight) == pytest.approx(repeated, abs=EXACT)


@given(rows)
def test_gauc_of_one_group_is_auc_and_recall_of_all_places_is_one(table):
    label, score, group = columns(table)
    one = np.zeros(len(label), dtype=int)
    assert gauc(label, score, one) == pytest.approx(auc(label, score), abs=EXACT)
    assert recall(label, score, group, k=len(label)) == pytest.approx(1.0, abs=EXACT)
    assert ndcg(label, label, group, k=3) == pytest.approx(1.0, abs=EXACT)


# ---------------------------------------------------------------- coverage study


@pytest.mark.coverage_study
def test_auc_of_two_normals_is_the_probability_of_superiority():
    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, 400_000)
    group = rng.integers(0, 20_000, len(label))
    viewer = rng.normal(scale=2.0, size=20_000)
    score = rng.standard_normal(len(label)) + label + viewer[group]
    within = 0.5 * (1 + math.erf(0.5))  # Phi(1 / sqrt 2): the viewer's own level cancels
    over_all = 0.5 * (1 + math.erf(1 / math.sqrt(4 * 5)))  # Phi(1 / sqrt(2 (1 + 4)))
    assert gauc(label, score, group) == pytest.approx(within, abs=0.004)
    assert uauc(label, score, group) == pytest.approx(within, abs=0.004)
    assert auc(label, score) == pytest.approx(over_all, abs=0.01)
