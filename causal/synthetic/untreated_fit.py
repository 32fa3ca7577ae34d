"""Unit and period effects, and slopes of covariates, fitted on untreated cells only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ABSORBED = 1e-9  # of its norm: what a covariate must leave beside the effects
_NULL = 1e-10  # of the largest eigenvalue


def unit_and_time_effects(
    values: NDArray[np.float64], seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Least squares fit of unit plus period effects to the seen cells, on all cells, (N, T).

    Parameters
    ----------
    values : (N, T) array
        What is not seen is not read.
    seen : (N, T) array
        At least one cell in each row and column.

    Raises
    ------
    ValueError
        If the cells fall into groups that share neither units nor periods.
    """
    return _linked_effects(seen).fit(values)


def linked(seen: NDArray[np.bool_]) -> bool:
    """Whether the seen cells link all units and periods, each unit having one."""
    return _Effects(seen).groups == 1


def _linked_effects(seen: NDArray[np.bool_]) -> _Effects:
    """The fit of effects, which differences between groups of cells would not identify."""
    effects = _Effects(seen)
    if effects.groups > 1:
        raise ValueError(
            f"the untreated cells must link all units and periods; they fall into {effects.groups} "
            "groups without a common unit or period; drop all but one, or add rows"
        )
    return effects


class _Effects:
    """The fit for one pattern of cells: unit effects are eliminated, period effects solved for."""

    def __init__(self, seen: NDArray[np.bool_]) -> None:
        self.seen = seen
        self.weight = seen.astype(np.float64)
        self.count = self.weight.sum(axis=1)
        schur = np.diag(self.weight.sum(axis=0))
        schur -= self.weight.T @ (self.weight / self.count[:, None])
        values, vectors = np.linalg.eigh(schur)
        null = values <= _NULL * max(float(values[-1]), 1.0)
        self.groups = int(null.sum())
        self.inverse = (vectors[:, ~null] / values[~null]) @ vectors[:, ~null].T

    def fit(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fitted effects on all cells; the second round takes up what the first rounded."""
        left = np.where(self.seen, values, 0.0)
        fitted = np.zeros_like(left)
        for _ in range(2):
            unit = left.sum(axis=1) / self.count
            of_time = (left - self.weight * unit[:, None]).sum(axis=0)
            time = self.inverse @ of_time
            unit = (left - self.weight * time).sum(axis=1) / self.count
            step = unit[:, None] + time
            fitted += step
            left -= self.weight * step
        return fitted


def covariate_part(
    outcome: NDArray[np.float64],
    covariates: Mapping[str, NDArray[np.float64]],
    seen: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """What covariates explain of the outcome on every cell, (N, T), and their slopes.

    The slopes are those of least squares with unit and period effects on the seen cells.

    Raises
    ------
    ValueError
        If a covariate is absorbed by the effects or by the other covariates; named.
    """
    effects = _linked_effects(seen)
    y = (outcome - effects.fit(outcome))[seen]
    columns: list[NDArray[np.float64]] = []
    for name, values in covariates.items():
        x = (values - effects.fit(values))[seen]
        left = x.copy()
        for _ in range(2):
            for other in columns:
                left -= (other @ left) * other
        size = float(np.linalg.norm(left))
        spread = float(np.linalg.norm(values[seen] - values[seen].mean()))
        if size <= _ABSORBED * max(spread, np.finfo(float).tiny):
            raise ValueError(
                f"covariate {name!r} must vary over units and time beyond the other covariates on "
                "untreated cells; it does not; drop it"
            )
        columns.append(left / size)
    Q = np.column_stack(columns)
    X = np.column_stack([(v - effects.fit(v))[seen] for v in covariates.values()])
    slopes = np.linalg.solve(Q.T @ X, Q.T @ y)
    part = np.zeros_like(outcome)
    for slope, values in zip(slopes, covariates.values(), strict=True):
        part += slope * values
    return part, {name: float(b) for name, b in zip(covariates, slopes, strict=True)}
