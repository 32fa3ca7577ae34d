"""What a policy would have earned: one entry of `off_policy` read from a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.decisions.off_policy import logged_policy_value, off_policy_value
from causal.effect import Effect
from causal.frame import read_columns
from causal.linear import covariance, least_squares
from experiments.errors import DataError
from experiments.study.study_data import filtered, located, refuse_propensities, rows_in_words
from experiments.study.study_result import PolicyReadout, WeightHistogram

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from numpy.typing import NDArray

    from causal.decisions.off_policy import PolicyValue
    from experiments.study.study_data import Source
    from experiments.study.study_schema import Method, OffPolicy, Study

_BINS = 16
_SHARE_TOLERANCE = 1e-6


def read_policy(
    study: Study, source: Source, index: int, step: Callable[[str], None]
) -> PolicyReadout:
    """Value one policy by every method that the study asks for.

    Parameters
    ----------
    study : Study
    source : Source
    index : int
        Which entry of `study.off_policy`.
    step : callable
        Told the name of each method when it is done.

    Returns
    -------
    PolicyReadout

    Raises
    ------
    DataError
        If the log refuses: propensities outside (0, 1], no row left by a filter, or a target whose
        probabilities over all actions cannot be told from the log.
    """
    entry, place = study.off_policy[index], f"{study.file}: off_policy.{index}"
    columns = [entry.reward, entry.propensity, *entry.features, *entry.by]
    columns += [c for c in (entry.target, entry.action, entry.cluster) if c is not None]
    refuse_propensities(source, entry.propensity, entry.rows, f"{place}.rows")
    log = filtered(source, columns, entry.rows, f"{place}.rows")
    with located(study, ("off_policy", index)):
        target = _target(source, entry, place, log)
        values: dict[str, PolicyValue] = {}
        for method in entry.methods:
            values[method] = target.value(method)
            step(f"{entry.name}: {method}")
        on_policy = None
        if entry.on_policy is not None:
            earned = filtered(source, columns, entry.on_policy, f"{place}.on_policy")
            on_policy = _mean(earned, entry)
        diagnostics = [value.diagnostics for value in values.values()]
        reward = read_columns(log, numeric=[entry.reward])[entry.reward]
        return PolicyReadout(
            name=entry.name,
            log=rows_in_words(entry.rows),
            target=target.words,
            reward=entry.reward,
            unit=entry.measured_in,
            n_rewards=int(np.count_nonzero(reward)),
            estimates={method: value.effect for method, value in values.items()},
            diagnostics=max(diagnostics, key=lambda d: d.unsupported_mass is not None),
            histogram=weight_histogram(target.weights),
            logging=_mean(log, entry),
            on_policy=on_policy,
            on_policy_rows=rows_in_words(entry.on_policy or {}),
            average_policy=entry.target_log is not None,
        )


@dataclass(frozen=True, slots=True)
class _Target:
    """A target policy: how to value it, its weights, and what it is in words."""

    value: Callable[[Method], PolicyValue]
    weights: NDArray[np.float64]
    words: str


def _target(source: Source, entry: OffPolicy, place: str, log: pa.Table) -> _Target:
    """The target policy in the one of three forms that the study gives."""
    if entry.target_log is not None:
        return _logged_target(source, entry, place, log)
    if entry.target is not None:
        return _column_target(entry, place, log)
    return _fixed_target(source, entry, log)


def _options(entry: OffPolicy) -> dict[str, Any]:
    """What every call of `off_policy_value` is told."""
    return {
        "reward": entry.reward,
        "propensity": entry.propensity,
        "clip": entry.clip,
        "cluster": entry.cluster,
        "n_folds": entry.n_folds,
        "seed": entry.seed,
    }


def _column_target(entry: OffPolicy, place: str, log: pa.Table) -> _Target:
    """A column with the target policy's probability of the logged action."""
    column = str(entry.target)
    read = read_columns(log, numeric=[column, entry.propensity])

    def value(method: Method) -> PolicyValue:
        if method in ("ips", "snips"):
            return off_policy_value(log, target=column, method=method, **_options(entry))
        probabilities, actions = _probabilities(entry, place, log)
        return off_policy_value(
            log,
            target_policy=probabilities,
            actions=actions,
            action=entry.action,
            features=entry.features,
            method=method,
            **_options(entry),
        )

    with np.errstate(divide="ignore", invalid="ignore"):
        weights = read[column] / read[entry.propensity]
    return _Target(value, weights, f"column {column}")


def _fixed_target(source: Source, entry: OffPolicy, log: pa.Table) -> _Target:
    """The same probabilities in every row: uniform, or one number an action."""
    action = str(entry.action)
    if isinstance(entry.target_policy, dict):
        actions: list[Any] = list(entry.target_policy)
        probabilities = np.array(list(entry.target_policy.values()), dtype=np.float64)
        words = f"fixed probabilities of {len(actions)} actions"
    else:
        every = source.rows.to_table(columns=[action])
        actions = np.unique(read_columns(every, labels=[action])[action]).tolist()
        probabilities = np.full(len(actions), 1.0 / len(actions))
        words = f"uniform over {len(actions)} actions"

    def value(method: Method) -> PolicyValue:
        return off_policy_value(
            log,
            target_policy=probabilities,
            actions=actions,
            action=action,
            features=entry.features,
            method=method,
            **_options(entry),
        )

    read = read_columns(log, numeric=[entry.propensity], labels=[action])
    chosen = pd.Series(probabilities, index=actions).reindex(read[action]).fillna(0.0).to_numpy()
    return _Target(value, chosen / read[entry.propensity], words)


def _logged_target(source: Source, entry: OffPolicy, place: str, log: pa.Table) -> _Target:
    """The average of what the target policy chose in its own log."""
    action, by = str(entry.action), list(entry.by)
    columns = [action, *by, *([entry.cluster] if entry.cluster is not None else [])]
    chosen_rows = filtered(source, columns, entry.target_log or {}, f"{place}.target_log")

    def value(method: Method) -> PolicyValue:
        return logged_policy_value(
            log,
            target_log=chosen_rows,
            action=action,
            reward=entry.reward,
            propensity=entry.propensity,
            by=by,
            method="ips" if method == "ips" else "snips",
            cluster=entry.cluster,
        )

    keys = [*by, action]
    chosen = pd.DataFrame(read_columns(chosen_rows, labels=keys))
    cells = chosen.groupby(by).size() if by else len(chosen)
    shares = chosen.groupby(keys).size() / cells
    read = read_columns(log, numeric=[entry.propensity], labels=keys)
    index = pd.MultiIndex.from_arrays([read[k] for k in keys]) if by else pd.Index(read[action])
    share = shares.reindex(index).fillna(0.0).to_numpy()
    cell = f" within {', '.join(by)}" if by else ""
    words = f"average choice{cell} of the rows with {rows_in_words(entry.target_log or {})}"
    return _Target(value, share / read[entry.propensity], words)


def _probabilities(
    entry: OffPolicy, place: str, log: pa.Table
) -> tuple[NDArray[np.float64], list[Any]]:
    """The target's probability of every action in every row, from its column of logged actions.

    The log tells it when the probability is a function of action and features, and each cell of
    the features holds every action that the target can choose.
    """
    column, action = str(entry.target), str(entry.action)
    read = read_columns(log, numeric=[column], labels=[action, *entry.features])
    actions, code = np.unique(read[action], return_inverse=True)
    frame = pd.DataFrame({"p": read[column], "action": code})
    cells = pd.DataFrame({str(i): read[name] for i, name in enumerate(entry.features)})
    frame["cell"] = cells.groupby(list(cells.columns)).ngroup() if entry.features else 0
    known = frame.groupby(["cell", "action"])["p"].agg(["min", "max"]).reset_index()
    where = f"{place}.target"
    if float((known["max"] - known["min"]).max()) > _SHARE_TOLERANCE:
        raise DataError(
            f"{where}: {column!r} must be a function of {action!r} and of the features for "
            f"{', '.join(entry.methods)}; it varies within them: name the features it depends on, "
            "or ask for ips and snips only"
        )
    table = np.zeros((int(frame["cell"].max()) + 1, len(actions)))
    table[known["cell"], known["action"]] = known["max"]
    off = np.abs(table.sum(axis=1) - 1.0) > _SHARE_TOLERANCE
    if off.any():
        raise DataError(
            f"{where}: the probabilities of all actions must sum to 1 in each cell of the "
            f"features; {int(off.sum())} of {len(off)} cells do not (not every action was logged "
            "there): name fewer features, or ask for ips and snips only"
        )
    return table[frame["cell"].to_numpy()], actions.tolist()


def _mean(table: pa.Table, entry: OffPolicy) -> Effect:
    """Mean reward of some rows, with rows or clusters as independent."""
    labels = [entry.cluster] if entry.cluster is not None else []
    read = read_columns(table, numeric=[entry.reward], labels=labels)
    reward = read[entry.reward]
    ones = np.ones((len(reward), 1))
    fit = least_squares(ones, reward)
    clusters = read[entry.cluster] if entry.cluster is not None else None
    spread = covariance(fit, ones, kind="HC1" if clusters is None else "CR1", clusters=clusters)
    return Effect(
        estimate=float(fit.coef[0]),
        std_error=float(np.sqrt(spread.matrix[0, 0])),
        estimand="policy value",
        method="mean of the rows" + (f", clustered by {entry.cluster}" if labels else ""),
        n_obs=len(reward),
        n_clusters=None if clusters is None else len(np.unique(clusters)),
    )


def weight_histogram(weights: NDArray[np.float64]) -> WeightHistogram:
    """Bin importance weights on the log scale.

    Parameters
    ----------
    weights : array (n,)
        Not negative, not all 0.

    Returns
    -------
    WeightHistogram
    """
    positive = weights[weights > 0]
    if not len(positive):
        raise ValueError(
            "at least one row must have a weight above 0; the target policy never chooses what "
            "was logged"
        )
    logs = np.log10(positive)
    low, high = np.floor(4 * logs.min()) / 4, np.ceil(4 * logs.max()) / 4
    if high - low < 0.5:
        low, high = low - 0.25, high + 0.25
    edges = np.linspace(low, high, _BINS + 1)
    rows, _ = np.histogram(logs, edges)
    weight, _ = np.histogram(logs, edges, weights=positive)
    return WeightHistogram(
        edges=tuple(edges.tolist()),
        rows=tuple((rows / len(weights)).tolist()),
        weight=tuple((weight / positive.sum()).tolist()),
        zero=float(1 - len(positive) / len(weights)),
    )
