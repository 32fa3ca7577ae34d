"""A target policy given as probabilities over actions, laid beside a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.frame import codes, offenders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_SUMS_TO_ONE = 1e-6
_ROWS_A_CELL = 10  # context cells are few when each action could be seen that often


@dataclass(frozen=True)
class TargetPolicy:
    """Probabilities `pi`, (n, K) or (K,), and the code of every logged action among the K."""

    pi: NDArray[np.float64]
    action: NDArray[np.int64]

    @property
    def n_actions(self) -> int:
        """K."""
        return int(self.pi.shape[-1])

    @property
    def of_logged(self) -> NDArray[np.float64]:
        """Probability of the logged action, (n,)."""
        if self.pi.ndim == 1:
            return self.pi[self.action]
        return self.pi[np.arange(len(self.action)), self.action]

    def take(self, order: NDArray[np.intp]) -> TargetPolicy:
        """The same rows in another order."""
        pi = self.pi if self.pi.ndim == 1 else self.pi[order]
        return TargetPolicy(pi, self.action[order])


def target_policy_on(
    logged: NDArray[Any], target_policy: ArrayLike, actions: Sequence[Any] | None
) -> TargetPolicy:
    """Check the probabilities and match the logged actions to them.

    Raises
    ------
    ValueError
        If shapes disagree, probabilities are none or do not sum to 1, or an action of the log is
        not among `actions`.
    """
    code, levels = codes(logged)
    known = levels.tolist() if actions is None else [_plain(a) for a in actions]
    if len(set(known)) != len(known):
        raise ValueError(f"actions must differ from one another; got {known[:5]}")
    try:
        pi = np.asarray(target_policy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"target_policy must be an array of probabilities; {error}; the names of its columns "
            "belong into actions="
        ) from None
    n, k = len(logged), len(known)
    if pi.shape not in ((k,), (n, k)):
        source = "distinct logged actions" if actions is None else "actions"
        raise ValueError(
            f"target_policy must have shape ({k},) or ({n}, {k}), for {n} rows and {k} {source}; "
            f"got {pi.shape}; name all actions in the order of the columns with actions="
        )
    _check_probabilities(pi.reshape(-1, k))
    position = {a: j for j, a in enumerate(known)}
    unknown = [a for a in levels.tolist() if a not in position]
    if unknown:
        count = int(np.isin(code, [levels.tolist().index(a) for a in unknown]).sum())
        raise ValueError(
            f"every logged action must be among actions; {count} rows hold {len(unknown)} others, "
            f"e.g. {', '.join(repr(a) for a in unknown[:5])}; add them to actions"
        )
    place = np.array([position[a] for a in levels.tolist()], dtype=np.int64)
    return TargetPolicy(pi, place[code])


def _plain(value: Any) -> Any:  # noqa: ANN401 — a label
    """A numpy scalar as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _check_probabilities(pi: NDArray[np.float64]) -> None:
    """Refuse rows with numbers outside [0, 1], or with another sum than 1."""
    outside = np.asarray((~((pi >= 0) & (pi <= 1))).any(axis=1))
    if outside.any():
        worst = np.where(pi.max(axis=1) > 1, pi.max(axis=1), pi.min(axis=1))
        message = offenders(
            "target_policy", "hold probabilities in [0, 1]", outside, worst, "correct them"
        )
        raise ValueError(message)
    total = pi.sum(axis=1)
    wrong = np.abs(total - 1.0) > _SUMS_TO_ONE
    if wrong.any():
        raise ValueError(
            offenders("target_policy", "sum to 1 over actions", wrong, total, "normalise it")
        )


def unsupported_mass(target: TargetPolicy, features: Sequence[NDArray[Any]]) -> float:
    """Mean probability of actions never logged in the row's context cell.

    Cells are the combinations of the features, taken in order; a feature that would leave fewer
    rows than ten a cell and action is passed over.
    """
    cell = _cells(features, len(target.action), target.n_actions)
    n_cells = int(cell.max()) + 1
    seen = np.zeros((n_cells, target.n_actions), dtype=bool)
    seen[cell, target.action] = True
    if target.pi.ndim == 1:
        share = np.bincount(cell, minlength=n_cells) / len(cell)
        return float(share @ (~seen @ target.pi))
    return float(np.where(seen[cell], 0.0, target.pi).sum(axis=1).mean())


def _cells(features: Sequence[NDArray[Any]], n: int, n_actions: int) -> NDArray[np.int64]:
    """Code of the context cell of every row."""
    cell = np.zeros(n, dtype=np.int64)
    for values in features:
        code, levels = codes(values)
        finer, present = codes(cell * len(levels) + code)
        if n >= _ROWS_A_CELL * n_actions * len(present):
            cell = finer
    return cell
