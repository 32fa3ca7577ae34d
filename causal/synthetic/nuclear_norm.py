"""A table from some of its cells: unit and period effects plus a part of small nuclear norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.synthetic.untreated_fit import unit_and_time_effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ROUNDS = 10_000
_FROM_GRAM = 1e-6  # threshold over the largest singular value from which the Gram matrix serves
_GRID = 24
_LEAST = 1e-3  # of the largest penalty that is tried
_OF_FOLDS = 1e-5  # tolerance: far below what separates penalties


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A fitted table.

    fit : (N, T), on all cells;  rank : of the part with small nuclear norm;
    change : largest change of the last round, over the residual standard deviation of the effects.
    """

    fit: NDArray[np.float64]
    rank: int
    change: float


def largest_penalty(values: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    """Smallest penalty at which unit and period effects are all of the fit; 0 if they fit."""
    residual = np.where(seen, values - unit_and_time_effects(values, seen), 0.0)
    peak = float(np.abs(np.where(seen, values, 0.0)).max())
    top = float(np.linalg.norm(residual, 2))
    return 2 * top / int(seen.sum()) if top > 1e-10 * max(peak, 1e-300) else 0.0


def complete(
    values: NDArray[np.float64],
    seen: NDArray[np.bool_],
    penalty: float,
    *,
    tolerance: float,
    start: NDArray[np.float64] | None = None,
) -> Completed:
    """Minimise sum over seen cells of (values - X)^2 / n + penalty |doubly centred X|_*.

    Parameters
    ----------
    values, seen : (N, T) arrays
        What is not seen is not read.
    penalty : float
        > 0; infinite for unit and period effects alone.
    tolerance : float
        Largest change of a cell in a round, over the standard deviation that effects leave.
    start : (N, T) array, optional
        A table near the fit.

    Notes
    -----
    Each round fills the other cells with the fit, takes out row and column means and shrinks the
    singular values of the rest by penalty n / 2 (soft-impute): a proximal gradient step, which
    leaves means unpenalised. Rounds are accelerated, and restarted where that overshoots
    (O'Donoghue & Candes 2015).
    """
    n = int(seen.sum())
    effects = unit_and_time_effects(values, seen)
    if math.isinf(penalty):
        return Completed(fit=effects, rank=0, change=0.0)
    left = np.where(seen, values - effects, 0.0)
    scale = float(np.sqrt(np.mean(left[seen] ** 2)))
    fit = effects if start is None else start
    if scale == 0:
        return Completed(fit=effects, rank=0, change=0.0)
    given, ahead, t, rank, change = np.where(seen, values, 0.0), fit, 1.0, 0, math.inf
    for _ in range(_ROUNDS):
        new, rank = _shrunk(np.where(seen, given, ahead), penalty * n / 2)
        change = float(np.abs(new - ahead).max()) / scale
        step = new - fit
        if np.vdot(ahead - new, step) > 0:
            t = 1.0
        later = (1 + math.sqrt(1 + 4 * t * t)) / 2
        ahead, fit, t = new + (t - 1) / later * step, new, later
        if change <= tolerance:
            break
    return Completed(fit=fit, rank=rank, change=change)


def _shrunk(table: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.float64], int]:
    """Row and column means, plus the rest with singular values less the threshold; and its rank."""
    rows = table.mean(axis=1, keepdims=True)
    columns = (table - rows).mean(axis=0)
    means = rows + columns
    rest = table - means
    wide = rest.shape[0] < rest.shape[1]
    C = rest.T if wide else rest
    squares, V = np.linalg.eigh(C.T @ C)
    top = math.sqrt(max(float(squares[-1]), 0.0))
    if threshold < _FROM_GRAM * top:
        U, S, Vt = np.linalg.svd(C, full_matrices=False)
        kept = threshold < S
        low = (U[:, kept] * (S[kept] - threshold)) @ Vt[kept]
    else:
        S = np.sqrt(np.maximum(squares, 0.0))
        kept = threshold < S
        V = V[:, kept]
        low = (C @ V) * (1 - threshold / S[kept]) @ V.T
    return means + (low.T if wide else low), int(kept.sum())


def fold_patterns(
    seen: NDArray[np.bool_],
    event: NDArray[np.int64],
    never: NDArray[np.bool_],
    n_folds: int,
    seed: int,
) -> list[NDArray[np.bool_]]:
    """Cells to hide in each fold: never treated units, as if treated when treated units are.

    Each never treated unit is in one fold and takes the event times of a random treated unit.
    """
    rng = np.random.default_rng(seed)
    treated, controls = np.flatnonzero(~never), rng.permutation(np.flatnonzero(never))
    hidden = []
    for part in np.array_split(controls, min(n_folds, len(controls))):
        hide = np.zeros_like(seen)
        hide[part] = event[rng.choice(treated, len(part))] >= 0
        hidden.append(hide & seen)
    return [hide for hide in hidden if hide.any()]


def errors_of_penalties(
    values: NDArray[np.float64],
    seen: NDArray[np.bool_],
    hidden: Sequence[NDArray[np.bool_]],
    penalties: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean squared error on the hidden cells of each fold, (folds, penalties); warm-started."""
    errors = np.empty((len(hidden), len(penalties)))
    for k, hide in enumerate(hidden):
        start = None
        for j, penalty in enumerate(penalties):
            done = complete(values, seen & ~hide, penalty, tolerance=_OF_FOLDS, start=start)
            start = done.fit
            errors[k, j] = np.mean((values - done.fit)[hide] ** 2)
    return errors


def penalty_grid(largest: float) -> NDArray[np.float64]:
    """Penalties from the largest down, evenly in logarithms."""
    return np.geomspace(largest, _LEAST * largest, _GRID)
