"""The value of a policy that is known only through a log of its own choices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.decisions.policy_result import Estimate, PolicyValue, policy_effect
from causal.decisions.weighted_rewards import check_log, refuse_impossible, weighted_value
from causal.decisions.weights import warn_if_fragile, weight_diagnostics
from causal.frame import Table, check_columns, check_one_of, codes, column_names
from causal.rows import Groups, Rows, open_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_AVERAGE = (
    "This is the value of the average policy of the period: a policy that learns changes by the "
    "hour, so it is not the reward that it realised."
)


def logged_policy_value(
    log: Table,
    *,
    target_log: Table,
    action: str,
    reward: str,
    propensity: str,
    by: Sequence[str] = (),
    method: Literal["ips", "snips"] = "snips",
    cluster: str | None = None,
) -> PolicyValue:
    """Value, on one policy's log, of another policy of which only a log of choices exists.

    For two policies that ran side by side, of which only one has usable propensities: what would
    the other's choices have earned on the first one's rows? It is the value of the *average*
    policy of the period: a policy that learns changes by the hour, so this is not the reward that
    it realised. Assumes that within a cell of `by` the target policy's choices do not depend on
    what the reward depends on.

    Parameters
    ----------
    log : Table
        One row a decision, with `action`, `reward`, `propensity`.
    target_log : Table
        The target policy's choices in the same period: `action` and the columns of `by`; its
        rewards and propensities are not read.
    action, reward, propensity : str
        Columns; propensities in (0, 1].
    by : sequence of str
        Columns whose combinations are the cells in which the target's choices are counted, such as
        the position, or position and day.
    method : {"ips", "snips"}
        Weighted mean, or with weights that sum to n.
    cluster : str, optional
        Column of *both* logs: rows that share a cluster are dependent, across the logs as well.

    Returns
    -------
    PolicyValue
        `unsupported_mass` is the share of the target's choices never logged in their cell.

    Raises
    ------
    ValueError
        If a column is absent, a number is missing or no propensity, a cell of `log` has fewer than
        two rows in `target_log`, or the target takes no logged action.

    Warns
    -----
    EstimationWarning
        As `off_policy_value`, and where the target takes actions that are never logged in a cell.

    Notes
    -----
    pi(a|c) = N2(c, a) / N2(c), w = pi(a|c) / p. The variance has two parts, of the log's rows as
    in `off_policy_value`, and of counting the target's choices:
    sum_c (N1(c) / n1)^2 Var_{j in c} g(a_j, c) / N2(c), with
    g(a, c) = sum_{i in c, a_i = a} (r_i - [snips] V) / p_i / N1(c), divided by the squared mean
    weight for snips (own derivation, by the influence of each target row; its coverage is shown
    by simulation in the tests). Not corrected for: dependence of a learning policy's choices on
    earlier ones, which `cluster` (say, an hour) allows for.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"room": [1, 2] * 300, "click": [1, 0] * 300, "p": 0.5})
    >>> target = pd.DataFrame({"room": [1, 1, 1, 2] * 200})
    >>> value = logged_policy_value(
    ...     log, target_log=target, action="room", reward="click", propensity="p")
    >>> round(value.estimate, 3)
    0.75
    """
    check_one_of(method, "method", ("ips", "snips"))
    by = (by,) if isinstance(by, str) else tuple(by)
    labels = {f"c{j}": name for j, name in enumerate(by)} | {"a": action}
    if cluster is not None:
        labels["g"] = cluster
    numeric = {"r": reward, "p": propensity}
    named = {"action": [action], "by": by, "cluster": [] if cluster is None else [cluster]}
    check_columns(column_names(log), {"reward": [reward], "propensity": [propensity], **named})
    check_columns(column_names(target_log), named)
    rows = open_rows(log, numeric=numeric, labels=labels)
    check_log(rows, numeric)
    targets = open_rows(target_log, numeric={}, labels=labels)
    cells = [alias for alias in labels if alias != "g"]
    groups, target_groups = rows.sums(cells, {}), targets.sums(cells, {})
    for alias in cells:
        _refuse_kinds(labels[alias], groups.keys[alias], target_groups.keys[alias])
    found = _Choices.counted(groups, target_groups, by)
    weighted = rows.attach(found.groups, {"t": found.share_of_logged()})
    refuse_impossible(weighted, {**numeric, "t": "target_log"})
    estimate, sums = weighted_value(
        weighted,
        normalise=method == "snips",
        clip=None,
        largest_reward=0.0,
        clustered=cluster is not None,
        lift=False,
    )
    diagnostics = weight_diagnostics(sums, found.unsupported())
    influence = found.influence(rows, cells, estimate, normalise=method == "snips")
    estimate = _with_target_variance(estimate, targets, found, influence, cluster)
    details: dict[str, Any] = {
        "n_obs_target_log": found.n_target,
        "n_cells": len(found.n_log_cell),
        "by": list(by),
        "reading": _AVERAGE,
    }
    words = f"{method.upper()}, target policy counted in its own log"
    more = ["the target takes actions never logged in their cell"] * (found.unsupported() > 0)
    warn_if_fragile(diagnostics, more, stacklevel=2)
    effect = policy_effect(estimate, method=words, details=details)
    return PolicyValue(effect=effect, diagnostics=diagnostics)


@dataclass(frozen=True)
class _Choices:
    """Counts of actions by cell in both logs.

    `groups`: cells x actions of the log; `cell`, (g,) the cell of each of them. `target_groups`,
    `target_cell` the same of the target log, -1 where the cell is not in the log; `match`, the
    group of the log for each of the target log, or -1. `n_log_cell`, `n_target_cell`: (c,).
    """

    groups: Groups
    cell: NDArray[np.int64]
    target_groups: Groups
    target_cell: NDArray[np.int64]
    match: NDArray[np.int64]
    n_log_cell: NDArray[np.float64]
    n_target_cell: NDArray[np.float64]

    @classmethod
    def counted(cls, log: Groups, target: Groups, by: Sequence[str]) -> _Choices:
        """Match the groups of the two logs; every cell of the log must be in the target log."""
        keys, target_keys = _tuples(log), _tuples(target)
        place = {key: j for j, key in enumerate(keys)}
        cells = {cell: j for j, cell in enumerate(dict.fromkeys(key[:-1] for key in keys))}
        cell = np.array([cells[key[:-1]] for key in keys], dtype=np.int64)
        target_cell = np.array([cells.get(key[:-1], -1) for key in target_keys], dtype=np.int64)
        inside = target_cell >= 0
        counts = _totals(target_cell[inside], target.n[inside], len(cells))
        thin = [c for c, j in cells.items() if counts[j] < 2]
        if thin:
            rows = int(sum(log.n[cell == cells[c]].sum() for c in thin))
            where = f"the cells of {tuple(by)}" if by else "the whole log"
            raise ValueError(
                f"target_log must have at least two rows in each cell of the log; {len(thin)} of "
                f"{len(cells)} cells ({rows} rows of the log) have fewer, e.g. "
                f"{', '.join(map(repr, thin[:5]))} ({where}); use fewer columns in by"
            )
        match = np.array([place.get(key, -1) for key in target_keys], dtype=np.int64)
        n_log = _totals(cell, log.n, len(cells))
        return cls(log, cell, target, target_cell, match, n_log, counts)

    @property
    def n_target(self) -> int:
        """Rows of the target log in the log's cells."""
        return int(self.n_target_cell.sum())

    def share_of_logged(self) -> NDArray[np.float64]:
        """pi(a|c) for the groups of the log, (g,)."""
        counts = np.zeros(len(self.groups))
        known = self.match >= 0
        counts[self.match[known]] = self.target_groups.n[known]
        return np.asarray(counts / self.n_target_cell[self.cell])

    def unsupported(self) -> float:
        """Mean over the log's rows of the target's probability of actions never logged there."""
        share = np.bincount(self.cell, self.share_of_logged(), len(self.n_log_cell))
        weight = self.n_log_cell / self.n_log_cell.sum()
        return max(float(weight @ (1.0 - share)), 0.0) if (self.match < 0).any() else 0.0

    def influence(
        self, rows: Rows, cells: Sequence[str], estimate: Estimate, *, normalise: bool
    ) -> NDArray[np.float64]:
        """What one more target row in each of its groups adds to the value, times N2(c).

        N1(c) / n1 (g(a, c) - mean of g in c), shape (number of target groups,); 0 in cells that
        the log does not have.
        """
        level = estimate.value if normalise else 0.0
        sums = rows.sums(cells, {"g": lambda c: (c["r"] - level) / c["p"]})
        divisor = estimate.n_obs * (estimate.mean_weight if normalise else 1.0)
        f = np.where(self.match >= 0, sums.values["g"][self.match], 0.0) / divisor
        inside = self.target_cell >= 0
        n = self.target_groups.n
        mean = (
            np.bincount(self.target_cell[inside], (f * n)[inside], len(self.n_target_cell))
            / self.n_target_cell
        )
        return np.where(inside, f - mean[self.target_cell], 0.0)


def _totals(
    code: NDArray[np.int64], counts: NDArray[np.int64], n_codes: int
) -> NDArray[np.float64]:
    """Sums of counts by code."""
    return np.asarray(np.bincount(code, counts, n_codes), dtype=np.float64)


def _tuples(groups: Groups) -> list[tuple[Any, ...]]:
    """Keys of the groups as tuples; the action is the last."""
    return list(zip(*(keys.tolist() for keys in groups.keys.values()), strict=True))


def _refuse_kinds(name: str | None, one: NDArray[Any], other: NDArray[Any]) -> None:
    """Labels of both logs are numbers, or truth values, or text."""
    kinds = [{"u": "i", "f": "i", "U": "O"}.get(v.dtype.kind, v.dtype.kind) for v in (one, other)]
    if kinds[0] != kinds[1]:
        words = {"i": "numbers", "b": "true and false", "O": "text"}
        mine, theirs = (words.get(kind, kind) for kind in kinds)
        raise TypeError(
            f"column {name!r} must be of one kind in log and target_log; it holds {mine} and "
            f"{theirs}: convert one of them"
        )


def _with_target_variance(
    estimate: Estimate,
    targets: Rows,
    found: _Choices,
    influence: NDArray[np.float64],
    cluster: str | None,
) -> Estimate:
    """Add the variance of counting the target's choices; over clusters of both logs, if any."""
    inside = found.target_cell >= 0
    size = found.n_target_cell[found.target_cell]
    variance = estimate.covariance.copy()
    if estimate.scores is None:
        squares = found.target_groups.n * influence**2 / (size * np.maximum(size - 1.0, 1.0))
        variance[0, 0] += float(squares[inside].sum())
        return replace(estimate, covariance=variance)
    rows = targets.attach(found.target_groups, {"h": np.where(inside, influence / size, 0.0)})
    counted = rows.sums(["g"], {"h": lambda c: c["h"]})
    keys, scores = estimate.scores
    _refuse_kinds(cluster, keys, counted.keys["g"])
    code, levels = codes(np.concatenate([keys, counted.keys["g"]]))
    total = np.bincount(code, np.concatenate([scores, counted.values["h"]]))
    count = len(levels)
    variance[0, 0] = count / (count - 1) * float(total @ total)
    return replace(estimate, covariance=variance, n_clusters=count)
