"""Expected rewards by context and action, out of fold: the outcome models of the direct method.

The default is LightGBM with small trees. Any scikit-learn model may be passed; it is cloned for
every fold and sees numbers, with text columns and the action as 0/1 columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.frame import codes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_ROUNDS = 60
_PARAMETERS = {
    "num_leaves": 7,
    "learning_rate": 0.1,
    "min_data_in_leaf": 20,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True)
class Contexts:
    """What a reward model may look at.

    Parameters
    ----------
    features : sequence of arrays (n,)
        Numbers or text.
    action : int64 array (n,)
        Codes of the logged actions.
    n_actions : int
    reward : array (n,)
    """

    features: tuple[NDArray[Any], ...]
    action: NDArray[np.int64]
    n_actions: int
    reward: NDArray[np.float64]


def cross_fitted_rewards(
    contexts: Contexts,
    policy: NDArray[np.float64],
    folds: NDArray[np.int64],
    *,
    model: object | None,
    keep: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected reward of the logged action and under the policy, out of fold.

    Parameters
    ----------
    contexts : Contexts
        n rows, K actions.
    policy : array (n, K) or (K,)
        Probabilities of the target policy.
    folds : int64 array (n,)
        Fold of every row; a model predicts only rows that it has not seen.
    model : scikit-learn model or None
        None is LightGBM.
    keep : array (n,) of bool, optional
        Rows that take part; the others keep 0.

    Returns
    -------
    tuple of arrays (n,)
        q(x, a) of the logged action, and sum_a pi(a | x) q(x, a).
    """
    n = len(contexts.reward)
    part = np.ones(n, dtype=bool) if keep is None else keep
    policy = np.broadcast_to(policy, (n, contexts.n_actions))
    encoding = _encoded(contexts, one_hot=model is not None)
    logged, expected = np.zeros(n), np.zeros(n)
    for fold in np.unique(folds[part]):
        train, test = part & (folds != fold), np.flatnonzero(part & (folds == fold))
        predict = _fitted(encoding, contexts, train, model)
        # contexts repeat: each is predicted once
        _, first, place = np.unique(encoding.context[test], return_index=True, return_inverse=True)
        for action in np.flatnonzero(policy[test].any(axis=0)):
            q = predict(encoding.rows(test[first], action))
            expected[test] += policy[test, action] * q[place]
        logged[test] = predict(encoding.rows(test, contexts.action[test]))
    return logged, expected


@dataclass(frozen=True)
class _Encoding:
    """Features as numbers; the action follows as a code, or as 0/1 columns if `one_hot`.

    `context`, (n,), is the same for rows whose features are all the same.
    """

    X: NDArray[np.float64]
    context: NDArray[np.int64]
    categories: tuple[int, ...]
    n_actions: int
    one_hot: bool

    def rows(
        self, index: NDArray[np.intp], action: NDArray[np.int64] | np.int64
    ) -> NDArray[np.float64]:
        """Rows of the design matrix with these actions."""
        chosen = np.broadcast_to(action, index.shape)
        if not self.one_hot:
            return np.column_stack([self.X[index], chosen])
        return np.hstack([self.X[index], _indicators(chosen, self.n_actions)])


def _encoded(contexts: Contexts, *, one_hot: bool) -> _Encoding:
    """Numbers as they are; text as codes of a category, or as 0/1 columns."""
    columns: list[NDArray[np.float64]] = []
    categories: list[int] = []
    context = np.zeros(len(contexts.reward), dtype=np.int64)
    for values in contexts.features:
        code, levels = codes(values)
        context = codes(context * len(levels) + code)[0]
        if values.dtype.kind in "iufb":
            columns.append(values.astype(np.float64)[:, None])
            continue
        if one_hot:
            columns.append(_indicators(code, len(levels)))
        else:
            categories.append(len(columns))
            columns.append(code.astype(np.float64)[:, None])
    X = np.hstack(columns) if columns else np.empty((len(contexts.reward), 0))
    return _Encoding(X, context, (*categories, X.shape[1]), contexts.n_actions, one_hot)


def _indicators(code: NDArray[np.int64], n_levels: int) -> NDArray[np.float64]:
    """0/1 columns, one a level."""
    return np.asarray(code[:, None] == np.arange(n_levels), dtype=np.float64)


def _fitted(
    encoding: _Encoding, contexts: Contexts, train: NDArray[np.bool_], model: object | None
) -> Any:  # noqa: ANN401 — a function from a design matrix to expected rewards
    """Fit on the training rows; a constant where their rewards are all the same."""
    index = np.flatnonzero(train)
    y = contexts.reward[index]
    if len(y) == 0:
        raise ValueError("every fold needs rows outside it; got none: use fewer folds or clusters")
    if (y == y[0]).all():
        return lambda X: np.full(len(X), y[0])
    X = encoding.rows(index, contexts.action[index])
    return _boosted(X, y, encoding.categories) if model is None else _sklearn(X, y, model)


def _boosted(X: NDArray[np.float64], y: NDArray[np.float64], categories: Sequence[int]) -> Any:  # noqa: ANN401 — as `_fitted`
    """LightGBM: a probability for 0/1 rewards, a mean otherwise."""
    import lightgbm  # noqa: PLC0415 — loaded only when used

    binary = bool(np.isin(y, (0.0, 1.0)).all())
    # labels become float32 inside: an offset of 1e9 must go first
    centre, scale = (0.0, 1.0) if binary else _centre_and_scale(y)
    data = lightgbm.Dataset(
        X, (y - centre) / scale, categorical_feature=list(categories), params=_PARAMETERS
    )
    objective = "binary" if binary else "regression"
    booster = lightgbm.train({**_PARAMETERS, "objective": objective}, data, _ROUNDS)
    return lambda X: centre + scale * np.asarray(booster.predict(X, num_threads=1))


def _centre_and_scale(y: NDArray[np.float64]) -> tuple[float, float]:
    """Mean, and largest distance from it."""
    unit = float(np.abs(y).max())
    centre = float(np.mean(y / unit)) * unit
    return centre, float(np.abs(y - centre).max())


def _sklearn(X: NDArray[np.float64], y: NDArray[np.float64], model: object) -> Any:  # noqa: ANN401 — as `_fitted`
    """A clone of the caller's model."""
    from sklearn.base import clone, is_classifier  # noqa: PLC0415 — loaded only when used

    fitted = clone(model).fit(X, y)
    if is_classifier(fitted):
        values = np.asarray(fitted.classes_, dtype=np.float64)
        return lambda X: np.asarray(fitted.predict_proba(X)) @ values
    return lambda X: np.asarray(fitted.predict(X), dtype=np.float64).reshape(len(X))


def random_folds(n_units: int, n_folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for every unit, sizes differing by at most one."""
    return np.random.default_rng(seed).permutation(n_units) % n_folds


def without_each(groups: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """For every group, which rows are left when it is taken out."""
    for group in np.unique(groups):
        yield groups != group
