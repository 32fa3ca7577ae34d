"""How well scores rank and predict what viewers did: AUC, GAUC, log loss, NDCG and others.

Every metric reads columns (lists, numpy arrays, pandas or polars Series, Arrow arrays) of equal
length, one row an impression, and returns one number. Nothing here says what a strategy *causes*:
a better offline metric is a reason to run an experiment, not its result. No metric corrects for
the logging policy: rooms that the old policy did not show are not in the log.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"
Column: TypeAlias = "NDArray[Any]"

_CLIP = 1e-15  # log_loss: a certain prediction that was wrong costs -log(1e-15) = 34.5
_MIN_SHARE = 0.5  # gauc, uauc: warn when fewer rows than this lie in groups with both classes
_SHOWN = 5


class MetricWarning(UserWarning):
    """A metric is valid but rests on less than it seems; the message holds the figure."""


def auc(label: ArrayLike, score: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Probability that a random positive is scored above a random negative, ties counting 1/2.

    Use it to see how well a score ranks over all impressions together; it mixes differences
    between viewers with differences within them (`gauc` keeps only the latter).

    Parameters
    ----------
    label : array-like of 0/1, shape (n,)
        What happened, e.g. a click.
    score : array-like of numbers, shape (n,)
        Any increasing scale. Integers are compared as integers, never through float.
    weight : array-like, shape (n,), optional
        Non-negative weights of the impressions.

    Returns
    -------
    float
        In [0, 1]; 0.5 is no information.

    Raises
    ------
    ValueError
        If lengths differ, a label is not 0 or 1, a score or weight is not finite, a weight is
        negative, or one of the two classes is absent (or has no weight).

    Notes
    -----
    AUC = sum over pairs w_i w_j (1{s_i > s_j} + 1{s_i = s_j} / 2) / (W_1 W_0), i over positives
    and j over negatives: the Mann-Whitney statistic with mid-ranks, from one sort. Without
    weights the sums are integers, so the only rounding is in the final division.

    References
    ----------
    Hanley, J. A. & McNeil, B. J. (1982). The meaning and use of the area under a ROC curve.
    Radiology 143, 29-36.

    Examples
    --------
    >>> auc([0, 1, 0, 1], [0.1, 0.3, 0.3, 0.9])
    0.875
    """
    y, s = _labels(label), _numbers("score", score)
    w = np.ones(len(y), dtype=np.int64) if weight is None else _weights(weight)
    _check_lengths(label=y, score=s, weight=w)
    order = np.argsort(s)
    first = _block_starts(s[order])
    positive = np.add.reduceat((w * y)[order], first)
    negative = np.add.reduceat((w * (1 - y))[order], first)
    total = positive.sum(), negative.sum()
    if min(total) == 0:
        raise ValueError(
            f"label must hold both classes; {'rows' if weight is None else 'weight'} "
            f"with label 1: {total[0]:g}, with label 0: {total[1]:g}"
        )
    won = np.sum(positive * (2 * _before(negative) + negative)) / 2
    return float(won) / (float(total[0]) * float(total[1]))


def gauc(
    label: ArrayLike,
    score: ArrayLike,
    group: ArrayLike,
    *,
    weight: Literal["impressions", "positives"] = "impressions",
) -> float:
    """Weighted mean of the AUC within each group, over the groups that hold both classes.

    The group is a viewer (or a request): the metric asks whether the rooms *one viewer* was
    shown are in the right order, which is what a ranker decides.

    Parameters
    ----------
    label, score : array-like, shape (n,)
        As in `auc`.
    group : array-like of int or str, shape (n,)
        Who saw the impression. Float ids are refused: large ones lose digits.
    weight : {"impressions", "positives"}
        A group counts by its rows, or by its positives.

    Returns
    -------
    float
        In [0, 1].

    Warns
    -----
    MetricWarning
        If less than half of the rows lie in groups with both classes.

    Raises
    ------
    ValueError
        As `auc`; also if `weight` is neither choice, a group is missing, or no group holds
        both classes.
    TypeError
        If groups are neither integers nor strings.

    Notes
    -----
    GAUC = sum_u n_u AUC_u / sum_u n_u. Groups with one class have no AUC and leave both sums.
    One sort by (group, score) and segment sums; there is no loop over groups.

    References
    ----------
    Zhou, G. et al. (2018). Deep Interest Network for click-through rate prediction. KDD,
    section 6.3.

    Examples
    --------
    >>> gauc([0, 1, 0, 1, 1], [0.1, 0.3, 0.8, 0.7, 0.9], ["a", "a", "b", "b", "b"])
    0.7
    """
    if weight not in ("impressions", "positives"):
        raise ValueError(f"weight must be 'impressions' or 'positives'; got {weight!r}")
    by_group = _group_aucs(label, score, group)
    importance = by_group.size if weight == "impressions" else by_group.positive
    return float(np.average(by_group.value, weights=importance))


def uauc(label: ArrayLike, score: ArrayLike, group: ArrayLike) -> float:
    """Plain mean of the AUC within each viewer: every viewer with both classes counts once.

    Like `gauc`, but a viewer with two impressions counts as much as one with two thousand: use
    it when light viewers matter.

    Parameters
    ----------
    label, score, group : array-like, shape (n,)
        As in `gauc`.

    Returns
    -------
    float
        In [0, 1].

    Warns
    -----
    MetricWarning
        If less than half of the rows lie in groups with both classes.

    Raises
    ------
    ValueError, TypeError
        As `gauc`.

    Notes
    -----
    UAUC = mean_u AUC_u over the groups with both classes. Short groups make it noisy; no
    interval is given.

    Examples
    --------
    >>> uauc([0, 1, 0, 1, 1], [0.1, 0.3, 0.8, 0.7, 0.9], ["a", "a", "b", "b", "b"])
    0.75
    """
    return float(_group_aucs(label, score, group).value.mean())


def log_loss(label: ArrayLike, p: ArrayLike) -> float:
    """Mean negative log likelihood of predicted probabilities, in nats an impression.

    Parameters
    ----------
    label : array-like of 0/1, shape (n,)
        What happened.
    p : array-like of float, shape (n,)
        Predicted probability of a 1, in [0, 1].

    Returns
    -------
    float
        >= 0; smaller is better. The constant prediction of the base rate scores its entropy.

    Warns
    -----
    MetricWarning
        If predictions within 1e-15 of 0 or 1 were clipped to that distance; the loss then
        depends on the clip.

    Raises
    ------
    ValueError
        If lengths differ, a label is not 0 or 1, or p is not a finite number in [0, 1].

    Notes
    -----
    -mean(y log p + (1 - y) log(1 - p)), with p clipped to [1e-15, 1 - 1e-15].

    Examples
    --------
    >>> round(log_loss([1, 0, 1], [0.8, 0.3, 0.6]), 4)
    0.3635
    """
    y, probability = _labels(label), _probabilities(p)
    _check_lengths(label=y, p=probability)
    clipped = np.clip(probability, _CLIP, 1 - _CLIP)
    n_clipped = int(np.count_nonzero(clipped != probability))
    if n_clipped:
        warnings.warn(
            f"log_loss: {n_clipped} of {len(y)} predictions p lie within {_CLIP} of 0 or 1 and "
            "were clipped; the loss depends on the clip: calibrate the model or bound its output",
            MetricWarning,
            stacklevel=2,
        )
    return float(-np.where(y == 1, np.log(clipped), np.log1p(-clipped)).mean())


def calibration_ratio(label: ArrayLike, p: ArrayLike) -> float:
    """Predicted over observed positives: 1 is calibrated on average, 1.1 predicts 10 % too many.

    Parameters
    ----------
    label : array-like of 0/1, shape (n,)
        What happened.
    p : array-like of float, shape (n,)
        Predicted probability of a 1, in [0, 1].

    Returns
    -------
    float
        >= 0.

    Raises
    ------
    ValueError
        If lengths differ, a label is not 0 or 1, p is not a finite number in [0, 1], or no
        label is 1.

    Notes
    -----
    sum p / sum y. It sees only the overall level: errors of opposite sign in two segments cancel.

    Examples
    --------
    >>> calibration_ratio([1, 0, 0, 1], [0.75, 0.25, 0.5, 1.0])
    1.25
    """
    y, probability = _labels(label), _probabilities(p)
    _check_lengths(label=y, p=probability)
    positives = int(y.sum())
    if positives == 0:
        raise ValueError(
            f"label must hold at least one 1 for a calibration ratio; all {len(y)} rows are 0"
        )
    return float(probability.sum()) / positives


def ndcg(label: ArrayLike, score: ArrayLike, group: ArrayLike, *, k: int) -> float:
    """Mean over groups of the discounted gain of the first `k` places, as a share of the best.

    Parameters
    ----------
    label, score, group : array-like, shape (n,)
        As in `gauc`; a group is one ranked list (a request, or a viewer's day).
    k : int
        Places that count, >= 1.

    Returns
    -------
    float
        In (0, 1]; 1 when all positives lead every list.

    Raises
    ------
    ValueError
        As `gauc`; also if k < 1 or no group holds a positive.
    TypeError
        If k is not an integer, or groups are neither integers nor strings.

    Notes
    -----
    DCG@k = sum_{r <= k} y_r / log2(1 + r), divided by its value for the ideal order. Rows tied in
    score share the average gain of their block, which is the expectation over random orders of
    the block. Groups without a positive have no ideal and are left out of the mean.

    References
    ----------
    McSherry, F. & Najork, M. (2008). Computing information retrieval performance measures
    efficiently in the presence of tied scores. ECIR, section 2.6.

    Examples
    --------
    >>> ndcg([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1], [7, 7, 8, 8], k=1)
    1.0
    """
    y, s, g = _grouped(label, score, group)
    _check_k(k)
    ties = _tie_blocks(y, s, g)
    places = np.arange(2, min(k, _longest(ties)) + 2)
    discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(places))])
    return _mean_share_of_ideal(ties, discount, ideal=discount)


def recall(label: ArrayLike, score: ArrayLike, group: ArrayLike, *, k: int) -> float:
    """Mean over groups of the share of a group's positives that lie in its first `k` places.

    Parameters
    ----------
    label, score, group : array-like, shape (n,)
        As in `gauc`; a group is one ranked list.
    k : int
        Places that count, >= 1.

    Returns
    -------
    float
        In [0, 1]. A group with more than k positives cannot reach 1.

    Raises
    ------
    ValueError
        As `gauc`; also if k < 1 or no group holds a positive.
    TypeError
        If k is not an integer, or groups are neither integers nor strings.

    Notes
    -----
    Hits in the first k places / positives, averaged over the groups that hold a positive. When a
    block of tied scores straddles the cut, its rows share the places left: the expectation over
    random orders of the block.

    Examples
    --------
    >>> recall([1, 0, 1, 0], [0.9, 0.8, 0.5, 0.5], [7, 7, 8, 8], k=1)
    0.75
    """
    y, s, g = _grouped(label, score, group)
    _check_k(k)
    ties = _tie_blocks(y, s, g)
    count = np.arange(_longest(ties) + 1, dtype=np.float64)
    return _mean_share_of_ideal(ties, np.minimum(count, k)[: k + 1], ideal=count)


# ---------------------------------------------------------------- sorted rows and segment sums


@dataclass(frozen=True, slots=True)
class _TieBlocks:
    """Rows sorted by (group, score) and cut wherever either changes: one entry a block.

    `size` and `positive` have shape (b,); `first_of_group`, shape (g,), is the position of each
    group's first block.
    """

    size: Integers
    positive: Integers
    first_of_group: Integers


@dataclass(frozen=True, slots=True)
class _GroupAucs:
    """AUC, rows and positives of each group with both classes, each of shape (g,)."""

    value: Floats
    size: Integers
    positive: Integers


def _tie_blocks(y: Column, score: Column, group: Integers) -> _TieBlocks:
    """Sort once and count rows and positives a block."""
    order = np.lexsort((score, group))
    sorted_group = group[order]
    first = _block_starts(score[order], sorted_group)
    return _TieBlocks(
        size=np.diff(first, append=len(y)),
        positive=np.add.reduceat(y[order].astype(np.int64), first),
        first_of_group=_block_starts(sorted_group[first]),
    )


def _block_starts(*columns: Column) -> Integers:
    """Positions where any of the sorted columns changes, with 0 first."""
    change = np.zeros(len(columns[0]), dtype=bool)
    change[0] = True
    for column in columns:
        change[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(change)


def _before(values: Column) -> Column:
    """Exclusive cumulative sum."""
    return np.cumsum(values) - values


def _group_aucs(label: ArrayLike, score: ArrayLike, group: ArrayLike) -> _GroupAucs:
    """AUC within each group; warns when most rows lie in groups that have none."""
    y, s, g = _grouped(label, score, group)
    ties = _tie_blocks(y, s, g)
    start = ties.first_of_group
    negative = ties.size - ties.positive
    blocks_in_group = np.diff(start, append=len(ties.size))
    below = _before(negative)
    below -= np.repeat(below[start], blocks_in_group)
    won = np.add.reduceat(ties.positive * (2 * below + negative), start) / 2
    size, positive = np.add.reduceat(ties.size, start), np.add.reduceat(ties.positive, start)
    both = (positive > 0) & (positive < size)
    _check_coverage(both, size)
    won, size, positive = won[both], size[both], positive[both]
    return _GroupAucs(value=won / (positive * (size - positive)), size=size, positive=positive)


def _check_coverage(both: NDArray[np.bool_], size: Integers) -> None:
    """Refuse if no group has an AUC, warn if few rows lie in those that do."""
    if not both.any():
        raise ValueError(
            "at least one group must hold both a 0 and a 1 in label; "
            f"none of the {len(both)} groups does: group more coarsely, or use auc"
        )
    share = float(size[both].sum() / size.sum())
    if share < _MIN_SHARE:
        warnings.warn(
            f"only {100 * share:.3g}% of the rows ({int(both.sum())} of {len(both)} groups) lie in "
            "groups with both classes; the metric says nothing of the others",
            MetricWarning,
            stacklevel=4,
        )


def _mean_share_of_ideal(ties: _TieBlocks, gain: Floats, *, ideal: Floats) -> float:
    """Mean over groups of achieved gain / ideal gain.

    `gain[m]` is the summed gain of the first m places, constant beyond its end; `ideal[m]` the
    best that m positives can reach.
    """
    start = ties.first_of_group
    last = np.cumsum(ties.size)
    size = np.add.reduceat(ties.size, start)
    end_of_group = np.repeat(np.cumsum(size), np.diff(start, append=len(ties.size)))
    ahead = end_of_group - last
    top = len(gain) - 1
    places = gain[np.minimum(ahead + ties.size, top)] - gain[np.minimum(ahead, top)]
    achieved = np.add.reduceat(ties.positive / ties.size * places, start)
    positive = np.add.reduceat(ties.positive, start)
    has_positive = positive > 0
    if not has_positive.any():
        raise ValueError(
            "label must hold at least one 1 in some group; "
            f"all {len(has_positive)} groups hold only 0"
        )
    best = ideal[np.minimum(positive[has_positive], len(ideal) - 1)]
    return float(np.mean(achieved[has_positive] / best))


def _longest(ties: _TieBlocks) -> int:
    """Rows of the largest group."""
    return int(np.add.reduceat(ties.size, ties.first_of_group).max())


# ---------------------------------------------------------------- columns in, checked once


def _vector(name: str, values: ArrayLike) -> Column:
    """The column as a numpy vector; text stays text, object columns of numbers become numbers."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one column of values; got shape {array.shape}")
    if len(array) == 0:
        raise ValueError(f"{name} must hold at least one row; got none")
    return array


def _numbers(name: str, values: ArrayLike) -> Column:
    """A vector of finite numbers in its own dtype, so that int64 keeps every digit."""
    array = _vector(name, values)
    if array.dtype == object:
        array = _unboxed(name, array)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers; got {array.dtype}")
    if array.dtype.kind == "f":
        _check_rows(name, array, np.isfinite(array), "be finite")
    return array


def _unboxed(name: str, array: Column) -> Column:
    """Python numbers out of an object column: integers stay integers."""
    _check_rows(name, array, ~pd.isna(array), "not be missing")
    if all(isinstance(v, int | np.integer) for v in array):
        return np.array(array.tolist())
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        kinds = sorted({type(v).__name__ for v in array})
        raise TypeError(f"{name} must be numbers; got {', '.join(kinds[:_SHOWN])}") from error


def _labels(label: ArrayLike) -> Column:
    """0/1 labels as int8."""
    array = _numbers("label", label)
    _check_rows("label", array, (array == 0) | (array == 1), "be 0 or 1")
    return array.astype(np.int8)


def _probabilities(p: ArrayLike) -> Floats:
    """Predictions in [0, 1] as float64."""
    array = _numbers("p", p).astype(np.float64)
    _check_rows("p", array, (array >= 0) & (array <= 1), "be in [0, 1]")
    return array


def _weights(weight: ArrayLike) -> Floats:
    """Non-negative weights, scaled to a maximum of 1 so that products do not overflow."""
    array = _numbers("weight", weight).astype(np.float64)
    _check_rows("weight", array, array >= 0, "be >= 0")
    return np.asarray(array / (array.max() or 1.0))


def _grouped(
    label: ArrayLike, score: ArrayLike, group: ArrayLike
) -> tuple[Column, Column, Integers]:
    """Checked labels, scores and dense group codes of equal length."""
    y, s, g = _labels(label), _numbers("score", score), _vector("group", group)
    _check_lengths(label=y, score=s, group=g)
    return y, s, _group_codes(g)


def _group_codes(group: Column) -> Integers:
    """Dense codes; one hash pass, as sorting a million strings takes longer than the metric."""
    if group.dtype.kind not in "biuUO":
        raise TypeError(
            f"group must be integers or strings; got {group.dtype}; "
            "ids that became float have lost digits: read them as integers or strings"
        )
    if group.dtype == object:
        _check_rows("group", group, ~pd.isna(group), "not be missing")
        kind = pd.api.types.infer_dtype(group, skipna=False)
        if kind not in ("string", "integer", "boolean"):
            raise TypeError(f"group must be integers or strings, all of one kind; got {kind}")
    return pd.factorize(group)[0].astype(np.int64)


def _check_lengths(**columns: Column) -> None:
    """All columns have the length of the first."""
    (first, reference), *others = columns.items()
    for name, column in others:
        if len(column) != len(reference):
            raise ValueError(
                f"{first} and {name} must have the same length; "
                f"{first} has {len(reference)} rows, {name} {len(column)}"
            )


def _check_rows(name: str, array: Column, ok: NDArray[np.bool_], rule: str) -> None:
    """Every row obeys the rule, or an error that counts and shows those that do not."""
    if ok.all():
        return
    bad = np.flatnonzero(~ok)
    rows = ", ".join(str(i) for i in bad[:_SHOWN])
    shown = ", ".join(str(v) for v in array[bad[:_SHOWN]])
    raise ValueError(
        f"{name} must {rule}; {len(bad)} of {len(array)} rows are not, e.g. rows {rows} ({shown}); "
        "repair or leave out these rows"
    )


def _check_k(k: int) -> None:
    """Require a whole number of places."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise TypeError(f"k must be an integer; got {k!r}")
    if k < 1:
        raise ValueError(f"k must be >= 1; got {k}")
