"""What another policy would have earned, from the log of the one that ran.

`off_policy_value` and `off_policy_lift` take a log with propensities and the target policy's
probabilities. Where the target is known only through a log of its own choices, see
`causal.decisions.logged_policy`; for pages of several slots, `causal.decisions.slates`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.decisions.logged_policy import logged_policy_value
from causal.decisions.modelled_value import modelled_value
from causal.decisions.policy_result import Estimate, PolicyValue, policy_effect
from causal.decisions.slates import slate_value
from causal.decisions.target_policy import TargetPolicy, target_policy_on, unsupported_mass
from causal.decisions.weighted_rewards import (
    NotFiniteError,
    check_log,
    refuse_impossible,
    refuse_propensity,
    weighted_value,
)
from causal.decisions.weights import (
    WeightDiagnostics,
    WeightSums,
    warn_if_fragile,
    weight_diagnostics,
)
from causal.frame import Table, check_columns, check_one_of, column_names, read_columns
from causal.rows import ArrayRows, Rows, open_rows
from causal.values import is_number, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "PolicyValue",
    "WeightDiagnostics",
    "logged_policy_value",
    "off_policy_lift",
    "off_policy_value",
    "slate_value",
]

Method: TypeAlias = Literal["ips", "snips", "dm", "dr", "sndr", "switch", "shrinkage"]

_METHODS = ("ips", "snips", "dm", "dr", "sndr", "switch", "shrinkage")
_BY_SUMS = ("ips", "snips")
_CLIPPABLE = ("ips", "snips", "dr", "sndr")


def off_policy_value(  # noqa: PLR0913 — columns, and what the seven methods of the contract take
    log: Table,
    *,
    reward: str,
    propensity: str,
    target: str | None = None,
    method: Method = "snips",
    action: str | None = None,
    target_policy: ArrayLike | None = None,
    actions: Sequence[Any] | None = None,
    features: Sequence[str] = (),
    outcome_model: object | None = None,
    n_folds: int = 5,
    clip: float | None = None,
    switch_at: float | None = None,
    shrinkage: float | None = None,
    reward_range: tuple[float, float] | None = None,
    cluster: str | None = None,
    seed: int = 0,
) -> PolicyValue:
    """Mean reward a row that a target policy would have earned on the contexts of this log.

    For whoever has only the log of the old policy and asks what the new one would have earned.
    Assumes that propensities are those with which the logged actions were chosen, that every action
    of the target policy could be logged (see `unsupported_mass`), and that one row's action does
    not change another row's reward.

    Parameters
    ----------
    log : Table
        One row a decision.
    reward, propensity : str
        Columns: the reward, and the logging policy's probability of the logged action, in (0, 1].
    target : str, optional
        Column: the target policy's probability of the logged action, in [0, 1].
    method : {"ips", "snips", "dm", "dr", "sndr", "switch", "shrinkage"}
        Inverse propensity; the same with weights that sum to n; direct (model only); doubly robust;
        doubly robust with weights that sum to n; switch (no correction above a weight); optimistic
        shrinkage of the weights. All but the first two need `target_policy` and `action`.
    action : str, optional
        Column: the logged action.
    target_policy : array (n, K) or (K,), optional
        The target policy's probabilities over `actions`, in the row order of `log`. Exactly one of
        `target` and `target_policy`.
    actions : sequence of length K, optional
        What the columns of `target_policy` are; the sorted distinct logged actions by default.
    features : sequence of str
        Columns that the reward model may use, numbers or text; also the context cells of
        `unsupported_mass` where they are few.
    outcome_model : scikit-learn model, optional
        LightGBM with one thread and small trees by default. A classifier predicts the mean of its
        classes. It is cloned for each fold; it sees text and the action as 0/1 columns.
    n_folds : int
        Folds of the reward model, whole clusters each.
    clip : float, optional
        Largest weight used by ips, snips, dr and sndr.
    switch_at, shrinkage : float, optional
        Of the methods of these names; chosen from the log if absent.
    reward_range : (float, float), optional
        Least and largest possible reward, for the bounds on bias; the observed ones by default.
    cluster : str, optional
        Column: rows that share a cluster are dependent (CR1, t with G - 1 degrees of freedom).
    seed : int
        Of the folds.

    Returns
    -------
    PolicyValue

    Raises
    ------
    ValueError
        If not exactly one target is given, a probability is none, a number is missing, an action is
        not among `actions`, an argument belongs to another method, there are fewer than two rows or
        clusters, or the target policy takes no logged action.
    TypeError
        If a column is not of its kind.

    Warns
    -----
    EstimationWarning
        Once, with all figures: fewer than 100 effective rows, or than 1 % of the log; one row with
        more than 10 % of all weight; fewer than 10 weighted rewards; a mean weight more than 4
        standard errors from 1.

    Notes
    -----
    With w = target / propensity: ips mean(w r); snips V = sum(w r) / sum(w), with influence
    w (r - V) / mean(w); dr mean(q_pi + w (r - q)), q fitted out of fold, q_pi = sum_a pi(a|x) q(x,
    a). Standard errors are those of the influence values; dm has none and uses a jackknife over 20
    groups with refits. switch and shrinkage minimise, over 20 candidates, the estimated variance
    plus the squared bound mean((w - w') max |reward - q|) on the bias. The propensities of actions
    that were not taken are unknown, so the bound rests on logged weights and is cautious: the
    choice seldom departs from dr. To trade bias for variance, pass `switch_at` or `shrinkage`.

    snips is equivariant to r + c, ips is not: its value moves by c times the mean weight. Not
    corrected for: the bias of clipping (bounded in the diagnostics, for ips), of switching and
    shrinking; that `switch_at` or `shrinkage` were chosen from the same rows; propensities that
    were estimated.

    References
    ----------
    Dudik, Langford & Li (2011), Doubly robust policy evaluation and learning. ICML.
    Swaminathan & Joachims (2015), The self-normalized estimator for counterfactual learning. NIPS.
    Wang, Agarwal & Dudik (2017), Optimal and adaptive off-policy evaluation in contextual bandits.
    Su, Dimakopoulou, Krishnamurthy & Dudik (2020), Doubly robust off-policy evaluation with
    shrinkage. ICML.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"click": [1, 0] * 200, "p": 0.5, "new": [0.6, 0.4] * 200})
    >>> value = off_policy_value(log, reward="click", propensity="p", target="new")
    >>> round(value.estimate, 3), round(value.diagnostics.ess, 1)
    (0.6, 384.6)
    """
    question = _Question(
        reward=reward,
        propensity=propensity,
        target=target,
        method=method,
        action=action,
        target_policy=target_policy,
        actions=actions,
        features=(features,) if isinstance(features, str) else tuple(features),
        outcome_model=outcome_model,
        n_folds=n_folds,
        clip=clip,
        switch_at=switch_at,
        shrinkage=shrinkage,
        reward_range=reward_range,
        cluster=cluster,
        seed=seed,
        lift=False,
    )
    return _answer(log, question)


def off_policy_lift(  # noqa: PLR0913 — as off_policy_value
    log: Table,
    *,
    reward: str,
    propensity: str,
    target: str | None = None,
    method: Method = "snips",
    action: str | None = None,
    target_policy: ArrayLike | None = None,
    actions: Sequence[Any] | None = None,
    features: Sequence[str] = (),
    outcome_model: object | None = None,
    n_folds: int = 5,
    clip: float | None = None,
    switch_at: float | None = None,
    shrinkage: float | None = None,
    reward_range: tuple[float, float] | None = None,
    cluster: str | None = None,
    seed: int = 0,
) -> PolicyValue:
    """What the target policy would have earned beyond the policy that logged, a row.

    For whoever decides whether to switch: both values come from the same rows, so most of their
    noise cancels. Assumptions as in `off_policy_value`.

    Parameters
    ----------
    log, reward, propensity, target, method, action, target_policy, actions, features, \
outcome_model, n_folds, clip, switch_at, shrinkage, reward_range, cluster, seed
        As in `off_policy_value`.

    Returns
    -------
    PolicyValue
        Its effect has the mean logged reward as baseline: `effect.relative()` works.

    Raises
    ------
    ValueError, TypeError
        As `off_policy_value`.

    Warns
    -----
    EstimationWarning
        As `off_policy_value`.

    Notes
    -----
    The influence value of a row is that of the value minus (r - mean r). For dm the jackknife
    leaves the groups out of both.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"click": [1, 0] * 200, "p": 0.5, "new": [0.6, 0.4] * 200})
    >>> lift = off_policy_lift(log, reward="click", propensity="p", target="new")
    >>> round(lift.estimate, 3), round(lift.effect.relative().estimate, 3)
    (0.1, 0.2)
    """
    question = _Question(
        reward=reward,
        propensity=propensity,
        target=target,
        method=method,
        action=action,
        target_policy=target_policy,
        actions=actions,
        features=(features,) if isinstance(features, str) else tuple(features),
        outcome_model=outcome_model,
        n_folds=n_folds,
        clip=clip,
        switch_at=switch_at,
        shrinkage=shrinkage,
        reward_range=reward_range,
        cluster=cluster,
        seed=seed,
        lift=True,
    )
    return _answer(log, question)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """The arguments of `off_policy_value`, and whether the lift is asked for."""

    reward: str
    propensity: str
    target: str | None
    method: Method
    action: str | None
    target_policy: ArrayLike | None
    actions: Sequence[Any] | None
    features: tuple[str, ...]
    outcome_model: object | None
    n_folds: int
    clip: float | None
    switch_at: float | None
    shrinkage: float | None
    reward_range: tuple[float, float] | None
    cluster: str | None
    seed: int
    lift: bool

    @property
    def numeric(self) -> dict[str, str]:
        """Columns of numbers by alias."""
        return {"r": self.reward, "p": self.propensity} | (
            {"t": self.target} if self.target is not None else {}
        )

    @property
    def names(self) -> dict[str, str]:
        """What complaints call the aliases."""
        target = "target_policy" if self.target is None else f"column {self.target!r}"
        return {**self.numeric, "t": target}

    @property
    def labels(self) -> dict[str, str]:
        """Columns of labels by alias."""
        found = {"a": self.action, "g": self.cluster}
        return {alias: name for alias, name in found.items() if name is not None}

    def check(self) -> None:
        """Refuse what can be refused without looking at the log."""
        check_one_of(self.method, "method", _METHODS)
        self._check_target()
        for name, value, methods in (
            ("clip", self.clip, _CLIPPABLE),
            ("switch_at", self.switch_at, ("switch",)),
            ("shrinkage", self.shrinkage, ("shrinkage",)),
        ):
            if value is None:
                continue
            if self.method not in methods:
                raise ValueError(
                    f"{name} belongs to method {', '.join(methods)}; leave it out "
                    f"with method {self.method!r}"
                )
            if not (is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive number; got {value!r}")
        whole_number("n_folds", self.n_folds, 2)
        whole_number("seed", self.seed, 0)
        if self.reward_range is not None:
            self._check_range(self.reward_range)

    @staticmethod
    def _check_range(given: object) -> None:
        """Two finite numbers in order."""
        pair = list(given) if isinstance(given, tuple | list | np.ndarray) else []
        known = len(pair) == 2 and all(is_number(v) and math.isfinite(v) for v in pair)
        if not (known and pair[0] < pair[1]):
            raise ValueError(f"reward_range must be two finite numbers, low < high; got {given!r}")

    def _check_target(self) -> None:
        """Exactly one target, and what it needs."""
        if (self.target is None) == (self.target_policy is None):
            given = "neither" if self.target is None else "both"
            raise ValueError(
                f"exactly one of target and target_policy is required; got {given}: target is a "
                "column of probabilities of the logged action, target_policy an array over actions"
            )
        if self.target_policy is None and self.method not in _BY_SUMS:
            raise ValueError(
                f"method {self.method!r} needs target_policy, the probabilities of all actions; "
                "got target, that of the logged action: use 'ips' or 'snips', or pass the array"
            )
        if self.target_policy is not None and self.action is None:
            raise ValueError(
                "target_policy needs action, the column with the logged action; got none"
            )

    def check_columns(self, log: Table) -> None:
        """Refuse absent columns, and one column in two roles."""
        named = {
            "reward": self.reward,
            "propensity": self.propensity,
            "target": self.target,
            "action": self.action,
            "cluster": self.cluster,
        }
        roles = {role: [name] for role, name in named.items() if name is not None}
        check_columns(column_names(log), {**roles, "features": self.features})


def _range_holds(reward_range: tuple[float, float], low: float, high: float) -> None:
    """Refuse a range that the log's own rewards leave."""
    if low < reward_range[0] or high > reward_range[1]:
        raise ValueError(
            f"reward_range must hold every reward; it is {tuple(reward_range)} and rewards go from "
            f"{low:.6g} to {high:.6g}: widen it"
        )


def _answer(log: Table, question: _Question) -> PolicyValue:
    """Choose the way: sums only, or arrays with a reward model."""
    question.check()
    question.check_columns(log)
    if question.target_policy is None:
        try:  # sums that are needed anyway prove that numbers are finite
            return _by_sums(_open(log, question, finite=False), question, None)
        except NotFiniteError:
            return _by_sums(_open(log, question, finite=True), question, None)
    columns, features = _read(log, question)
    target = target_policy_on(columns["a"], question.target_policy, question.actions)
    columns["t"] = target.of_logged
    cells = unsupported_mass(target, features)
    if question.method in _BY_SUMS:
        return _by_sums(ArrayRows(columns, len(columns["r"])), question, cells)
    return _by_model(columns, features, target, question, cells)


def _open(log: Table, question: _Question, *, finite: bool) -> Rows:
    """Rows with the target's probabilities, checked."""
    labels = {k: v for k, v in question.labels.items() if k == "g"}
    rows = open_rows(log, numeric=question.numeric, labels=labels, finite=finite)
    check_log(rows, question.numeric)
    refuse_impossible(rows, question.names)
    return rows


def _read(log: Table, question: _Question) -> tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]:
    """Columns by alias, checked, and the features."""
    numeric, labels = question.numeric, question.labels
    # one read: a lazy table may give its rows in another order next time
    wanted = [*labels.values(), *question.features]
    found = read_columns(log, numeric=list(numeric.values()), labels=wanted)
    columns = {alias: found[name] for alias, name in {**numeric, **labels}.items()}
    refuse_propensity(question.propensity, columns["p"])
    return columns, [found[name] for name in question.features]


def _by_sums(rows: Rows, question: _Question, unsupported: float | None) -> PolicyValue:
    """IPS and SNIPS."""
    low, high = 0.0, 0.0
    if question.clip is not None:
        n = int(rows.sums([], {}).n[0])
        low, high = rows.order_statistics("r", [1, n]).tolist()
        if question.reward_range is not None:
            if not (math.isfinite(low) and math.isfinite(high)):
                raise NotFiniteError
            _range_holds(question.reward_range, low, high)
            low, high = question.reward_range
    normalise = question.method == "snips"
    estimate, sums = weighted_value(
        rows,
        normalise=normalise,
        clip=question.clip,
        largest_reward=max(abs(low), abs(high)),
        clustered=question.cluster is not None,
        lift=question.lift,
    )
    method = question.method.upper()
    return _result(question, estimate, sums, unsupported, method=method, range_used=(low, high))


def _by_model(
    columns: dict[str, NDArray[Any]],
    features: list[NDArray[Any]],
    target: TargetPolicy,
    question: _Question,
    unsupported: float,
) -> PolicyValue:
    """The methods with a reward model."""
    observed = (float(columns["r"].min()), float(columns["r"].max()))
    reward_range = question.reward_range or observed
    _range_holds(reward_range, *observed)
    # the weights are the same whatever the model: diagnostics come from the sums
    _, sums = weighted_value(
        ArrayRows(columns, len(columns["r"])),
        normalise=True,
        clip=question.clip,
        largest_reward=max(abs(v) for v in reward_range),
        clustered=question.cluster is not None,
        lift=False,
    )
    estimate, method, chosen = modelled_value(
        columns,
        features,
        target,
        method=question.method,
        model=question.outcome_model,
        n_folds=int(question.n_folds),
        clip=question.clip,
        tuning=question.switch_at if question.method == "switch" else question.shrinkage,
        reward_range=reward_range,
        seed=question.seed,
        lift=question.lift,
    )
    result = _result(question, estimate, sums, unsupported, method=method, range_used=reward_range)
    return replace(
        result, effect=replace(result.effect, details={**result.effect.details, **chosen})
    )


def _result(
    question: _Question,
    estimate: Estimate,
    sums: WeightSums,
    unsupported: float | None,
    *,
    method: str,
    range_used: tuple[float, float],
) -> PolicyValue:
    """Diagnostics, the warning, and the effect."""
    diagnostics = weight_diagnostics(sums, unsupported)
    details: dict[str, Any] = {"target": question.target or "target_policy"}
    bounded = question.clip is not None or question.method in ("switch", "shrinkage")
    if question.clip is not None:
        details["clip"] = float(question.clip)
        method = f"{method}, weights clipped at {question.clip:.4g}"
    if bounded:
        details["reward_range"] = list(range_used)
        details["reward_range_source"] = "observed" if question.reward_range is None else "given"
    effect = policy_effect(estimate, method=method, details=details)
    constant = ["no spread: the standard error is 0"] if effect.std_error == 0 else []
    warn_if_fragile(diagnostics, constant, stacklevel=5)
    return PolicyValue(effect=effect, diagnostics=diagnostics)
