"""Donor weights of many sets at once: by outcomes, or by predictors with their own weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from causal.synthetic.augmented import add_ridge, choose_ridges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.synthetic.aligned_paths import AlignedPaths
    from causal.synthetic.predictors import PredictorTable


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitting:
    """How donor weights are found.

    Parameters
    ----------
    penalty : float
        Of Abadie & L'Hour.
    pooling : float
        In [0, 1]; below 0 takes each set's own ratio of imbalances.
    predictors : PredictorTable, optional
        None matches the outcome of every period before the start.
    augmented : bool
        Whether a ridge correction follows.
    ridge : float, optional
        Its penalty; None chooses it by cross-validation for every set.
    """

    penalty: float = 0.0
    pooling: float = 0.0
    predictors: PredictorTable | None = None
    augmented: bool = False
    ridge: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DonorWeights:
    """Weights of p sets of m units.

    weights (p, m, n); duality_gap (p,); pooling (p,); ridge (p, m) or None;
    v (p, m, k) and trace (m, e, 2), of the first set, or None.
    """

    weights: NDArray[np.float64]
    duality_gap: NDArray[np.float64]
    pooling: NDArray[np.float64]
    ridge: NDArray[np.float64] | None = None
    v: NDArray[np.float64] | None = None
    trace: NDArray[np.float64] | None = None


def find_weights(
    aligned: AlignedPaths,
    fitting: Fitting,
    members: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    *,
    v: NDArray[np.float64] | None = None,
    trace: bool = False,
) -> DonorWeights:
    """Donor weights of sets of units.

    Parameters
    ----------
    members : int64 array (p, m)
        One unit for each treated one.
    allowed : bool array (p, n)
        Donors of each set.
    v : array (p, m, k), optional
        Predictor weights that are held fixed.
    trace : bool
        Whether the fit and effect of every step of the search for predictor weights is kept.
    """
    if fitting.predictors is not None:
        return _by_predictors(aligned, fitting, members, allowed, v, trace=trace)
    found = fit_outcomes(aligned, fitting, members, allowed)
    if not fitting.augmented:
        return found
    rows = aligned.rows[0]  # one start only
    units = members.ravel()
    masks = np.repeat(allowed, members.shape[1], axis=0)
    if fitting.ridge is None:
        ridge = choose_ridges(
            rows, units, masks, _leave_one_period_out(aligned, fitting, members, allowed)
        )
    else:
        ridge = np.full(len(units), fitting.ridge / aligned.scale / aligned.scale)
    shape = found.weights.shape
    weights = add_ridge(rows, units, masks, found.weights.reshape(len(units), -1), ridge)
    return replace(
        found,
        weights=weights.reshape(shape),
        ridge=(ridge * aligned.scale * aligned.scale).reshape(members.shape),
    )


def fit_outcomes(
    aligned: AlignedPaths,
    fitting: Fitting,
    members: NDArray[np.int64],
    allowed: NDArray[np.bool_],
) -> DonorWeights:
    """Weights that match the outcome of every period before the start."""
    from causal.kernels.simplex import fit_sets  # noqa: PLC0415 — numba only when used

    p, m = members.shape
    weights = np.zeros((p, m, aligned.rows.shape[1]))
    gaps, pooled = np.zeros(p), np.zeros(p)
    fit_sets(
        aligned.rows,
        aligned.gram,
        aligned.starts.astype(np.float64),
        aligned.cohort,
        np.ascontiguousarray(members),
        np.ascontiguousarray(allowed),
        fitting.penalty,
        fitting.pooling,
        weights,
        gaps,
        pooled,
    )
    return DonorWeights(weights=weights, duality_gap=gaps, pooling=pooled)


def _leave_one_period_out(
    aligned: AlignedPaths,
    fitting: Fitting,
    members: NDArray[np.int64],
    allowed: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Weights found without each period in turn, (T0, p m, n)."""
    rows = aligned.rows[0]
    found = []
    for t in range(rows.shape[1]):
        less = aligned.gram - rows[:, t][:, None] * rows[:, t]
        part = np.ascontiguousarray(np.delete(aligned.rows, t, axis=2))
        without = replace(aligned, rows=part, gram=np.ascontiguousarray(less))
        weights = fit_outcomes(without, fitting, members, allowed).weights
        found.append(weights.reshape(-1, rows.shape[0]))
    return np.array(found)


def _by_predictors(
    aligned: AlignedPaths,
    fitting: Fitting,
    members: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    v: NDArray[np.float64] | None,
    *,
    trace: bool,
) -> DonorWeights:
    """Weights that match predictors, each unit of a set by itself."""
    from causal.kernels.predictor_search import (  # noqa: PLC0415 — numba only when used
        most_evaluations,
        search_predictor_weights,
    )

    table = fitting.predictors
    if table is None:
        raise ValueError("predictors are required here; name some")
    (p, m), (n, k) = members.shape, table.standard.shape
    if v is None and table.given is not None:
        v = np.broadcast_to(table.given, (p, m, k))
    held = np.zeros((p * m, k)) if v is None else np.array(v, order="C").reshape(p * m, k)
    starts = table.starts if v is None else table.starts[:0]
    unit = float(np.trace(aligned.gram[0])) / n or 1.0
    after = aligned.paths[0, :, aligned.n_before :].mean(axis=1)
    found = held, np.zeros((p * m, n)), np.zeros(p * m), np.zeros(p * m)
    steps = np.full((m * trace, most_evaluations(len(starts), k), 2), np.nan)
    search_predictor_weights(
        np.ascontiguousarray(table.standard),
        aligned.gram[0] / unit,
        aligned.rows[0],
        after,
        members.ravel(),
        np.repeat(allowed, m, axis=0),
        starts,
        fitting.penalty,
        *found,
        steps,
    )
    return DonorWeights(
        weights=found[1].reshape(p, m, n),
        duality_gap=found[3].reshape(p, m).max(axis=1),
        pooling=np.zeros(p),
        v=found[0].reshape(p, m, k),
        trace=steps,
    )
