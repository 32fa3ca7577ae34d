"""From columns to an estimate for the methods with a reward model, with its standard error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.decisions.doubly_robust import (
    Influence,
    Ingredients,
    doubly_robust,
    self_normalised,
    shrunk,
    switched,
)
from causal.decisions.policy_result import Estimate
from causal.decisions.reward_model import (
    Contexts,
    cross_fitted_rewards,
    random_folds,
    without_each,
)
from causal.frame import codes
from causal.linear import cluster_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from causal.decisions.target_policy import TargetPolicy

_JACKKNIFE_GROUPS = 20


def modelled_value(
    columns: Mapping[str, NDArray[Any]],
    features: Sequence[NDArray[Any]],
    target: TargetPolicy,
    *,
    method: str,
    model: object | None,
    n_folds: int,
    clip: float | None,
    tuning: float | None,
    reward_range: tuple[float, float],
    seed: int,
    lift: bool,
) -> tuple[Estimate, str, dict[str, Any]]:
    """Estimate, its method in words, and what the details should say of it.

    Parameters
    ----------
    columns : mapping
        Aliases ``r p t`` and, where rows share clusters, ``g``; arrays (n,).
    features : sequence of arrays (n,)
    target : TargetPolicy
    method : {"dm", "dr", "sndr", "switch", "shrinkage"}
    tuning : float or None
        The switching point or the shrinkage; None to choose it.
    model, n_folds, clip, reward_range, seed, lift
        As in `off_policy_value`.
    """
    # rows in an order of their own: folds and trees then do not depend on the table's
    order = np.lexsort([codes(v)[0] for v in [*columns.values(), *features]])
    target, r = target.take(order), columns["r"][order]
    w = columns["t"][order] / columns["p"][order]
    if clip is not None:
        w = np.minimum(w, clip)
    contexts = Contexts(tuple(f[order] for f in features), target.action, target.n_actions, r)
    unit, n_units = _units(columns, order)
    if n_folds > n_units:
        raise ValueError(
            f"n_folds must be at most the number of rows, or of clusters, {n_units}; got {n_folds}"
        )
    folds = random_folds(n_units, n_folds, seed)[unit]
    predict = partial(cross_fitted_rewards, contexts, target.pi, folds, model=model)
    details: dict[str, Any] = {
        "n_folds": n_folds,
        "outcome_model": "LightGBM" if model is None else type(model).__name__,
    }
    clustered = n_units if "g" in columns else None
    if method == "dm":
        groups = random_folds(n_units, min(_JACKKNIFE_GROUPS, n_units), seed + 1)[unit]
        estimate = _direct(predict, r, groups, n_clusters=clustered, lift=lift)
        n_groups = int(groups.max()) + 1
        details["n_jackknife_groups"] = n_groups
        words = f"direct method, {n_folds} folds, jackknife over {n_groups} groups with refits"
        return estimate, words, details
    q, q_pi = predict()
    influence = _influence(method, Ingredients(w, r, q, q_pi), tuning, reward_range)
    words = _in_words(method, influence, n_folds)
    if influence.chosen is not None:
        details["switch_at" if method == "switch" else "shrinkage"] = influence.chosen
        details["chosen_from_log"] = tuning is None
    estimate = _from_scores(influence, r, unit if clustered else None, n_units, lift=lift)
    return estimate, words, details


def _units(
    columns: Mapping[str, NDArray[Any]], order: NDArray[np.intp]
) -> tuple[NDArray[np.int64], int]:
    """Code of the independent unit of every row: its cluster, or itself."""
    if "g" not in columns:
        return np.arange(len(order)), len(order)
    code, levels = codes(columns["g"][order])
    return code, len(levels)


def _influence(
    method: str, parts: Ingredients, tuning: float | None, reward_range: tuple[float, float]
) -> Influence:
    """The method's formula."""
    if method == "dr":
        return doubly_robust(parts)
    if method == "sndr":
        return self_normalised(parts)
    rule = switched if method == "switch" else shrunk
    return rule(parts, tuning, reward_range)


def _in_words(method: str, influence: Influence, n_folds: int) -> str:
    """The method as a reader of the papers knows it."""
    names = {"dr": "doubly robust", "sndr": "self-normalised doubly robust"}
    if method in names:
        return f"{names[method]}, {n_folds} folds"
    if method == "switch":
        return f"SWITCH-DR (tau={influence.chosen:.4g}), {n_folds} folds"
    return f"doubly robust with shrinkage (lambda={influence.chosen:.4g}), {n_folds} folds"


def _from_scores(
    influence: Influence,
    r: NDArray[np.float64],
    clusters: NDArray[np.int64] | None,
    n_units: int,
    *,
    lift: bool,
) -> Estimate:
    """Covariance of value (or lift) and logged mean from influence values; CR1 over clusters."""
    n = len(r)
    logged = float(np.mean(r))
    scores = np.column_stack([influence.scores, r - logged])
    if lift:
        scores[:, 0] -= scores[:, 1]
    if clusters is not None:
        scores = cluster_sums(scores, clusters, n_units)
    unit = float(np.abs(scores).max()) or 1.0  # squares of 1e150 must not overflow
    scores = scores / unit / n
    covariance = scores.T @ scores * (n_units / (n_units - 1)) * unit * unit
    return Estimate(
        value=influence.value,
        logged_mean=logged,
        covariance=covariance,
        lift=lift,
        n_obs=n,
        n_clusters=None if clusters is None else n_units,
    )


def _direct(
    predict: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]],
    r: NDArray[np.float64],
    groups: NDArray[np.int64],
    *,
    n_clusters: int | None,
    lift: bool,
) -> Estimate:
    """Mean of q_pi; delete-a-group jackknife in which every model is fitted again."""
    value, logged = float(predict()[1].mean()), float(np.mean(r))
    replicates = []
    for keep in without_each(groups):
        mean = float(r[keep].mean())
        direct = float(predict(keep=keep)[1][keep].mean())
        replicates.append((direct - mean if lift else direct, mean))
    apart = np.array(replicates)
    m = len(apart)
    apart = apart - apart.mean(axis=0)
    unit = float(np.abs(apart).max()) or 1.0
    covariance = (apart / unit).T @ (apart / unit) * ((m - 1) / m) * unit * unit
    return Estimate(
        value=value,
        logged_mean=logged,
        covariance=covariance,
        lift=lift,
        n_obs=len(r),
        n_clusters=n_clusters,
        df=m - 1.0,
    )
