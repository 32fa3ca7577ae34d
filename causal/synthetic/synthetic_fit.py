"""How a synthetic control fits: balance, weights by donor, whether other weights would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causal.synthetic.donor_weights import DonorWeights, Fitting, fit_outcomes
from causal.words import number_in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.synthetic.aligned_paths import AlignedPaths
    from causal.synthetic.donor_pool import DonorPool
    from causal.synthetic.predictors import PredictorTable
    from causal.values import JsonScalar

_HAS_WEIGHT = 1e-9
_TIGHT = 1e-9  # slopes within this of the least, over the mean squared distance, are ties
_NEAR_BEST = 1.01
_UNMATCHED = 0.25  # standard deviations over all units


def weight_table(
    pool: DonorPool, weights: NDArray[np.float64]
) -> tuple[dict[JsonScalar, float], pd.DataFrame]:
    """Mean weight of each donor that has one, the largest first, and weights by treated unit."""
    labels, mean = pool.names, weights.mean(axis=0)
    order = np.argsort(-np.abs(mean), kind="stable")
    by_donor = {labels[j]: float(mean[j]) for j in order if abs(mean[j]) > _HAS_WEIGHT}
    treated, donor = np.nonzero(np.abs(weights) > _HAS_WEIGHT)
    columns = {
        "treated": [labels[i] for i in treated],
        "donor": [labels[j] for j in donor],
        "weight": weights[treated, donor],
    }
    return by_donor, pd.DataFrame(columns)


def balance_table(
    pool: DonorPool,
    aligned: AlignedPaths,
    table: PredictorTable | None,
    weights: NDArray[np.float64],
    outcome: str,
) -> pd.DataFrame:
    """What was matched: the treated, their synthetic control, and the plain mean of donors."""
    m, n = pool.n_treated, len(pool.labels)
    if table is not None:
        values = {
            "treated": table.raw[:m].mean(axis=0),
            "synthetic": (weights @ table.raw).mean(axis=0),
            "donors_mean": table.raw[m:].mean(axis=0),
        }
        return pd.DataFrame({"predictor": list(table.labels), **values})
    members = np.arange(m)[None]
    equal = np.where(np.arange(n) >= m, 1.0 / (n - m), 0.0)
    observed = aligned.observed(members[0])
    gaps = [aligned.gaps(members, w[None])[0] for w in (weights, np.tile(equal, (m, 1)))]
    before = slice(0, aligned.n_before)
    return pd.DataFrame(
        {
            "predictor": [f"{outcome} at {label}" for label in aligned.labels[before]],
            "treated": observed[before],
            "synthetic": (observed - gaps[0])[before],
            "donors_mean": (observed - gaps[1])[before],
        }
    )


def unmatched_predictors(balance: pd.DataFrame, table: PredictorTable) -> list[str]:
    """A complaint on predictors that the synthetic control does not share with the treated."""
    apart = (balance["treated"] - balance["synthetic"]).abs().to_numpy() / table.spread
    missed = np.flatnonzero(apart > _UNMATCHED)
    if not len(missed):
        return []
    worst = missed[np.argsort(-apart[missed], kind="stable")]
    named = [
        f"{row['predictor']!r} is {number_in_words(row['treated'])} for the treated and "
        f"{number_in_words(row['synthetic'])} for the synthetic control "
        f"({number_in_words(apart[j], 2)} standard deviations)"
        for j in worst[:3]
        for row in [balance.iloc[j]]
    ]
    return [
        f"{len(missed)} of {len(balance)} predictors are not matched: {', '.join(named)}; drop "
        "them, give predictor_weights, or match the outcome of every period instead"
    ]


def outside_share(aligned: AlignedPaths, n_treated: int) -> float:
    """Share of periods before the start in which treated units lie beyond all donors."""
    outside, cells = 0, 0
    for i, c in enumerate(aligned.cohort):
        before = aligned.paths[c][:, : aligned.starts[c]]
        donors = before[n_treated:]
        outside += int(((before[i] > donors.max(axis=0)) | (before[i] < donors.min(axis=0))).sum())
        cells += before.shape[1]
    return outside / cells


def v_spread(trace: NDArray[np.float64] | None) -> tuple[float, float] | None:
    """Least and largest effect among steps that fit within 1 % of the best; means over units."""
    if trace is None or trace.size == 0:
        return None
    ends = []
    for steps in trace:
        loss, effect = steps[~np.isnan(steps[:, 0])].T
        near = effect[loss <= _NEAR_BEST * loss.min()]
        ends.append((near.min(), near.max()))
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)


def is_unique(aligned: AlignedPaths, fitting: Fitting, found: DonorWeights, n_treated: int) -> bool:
    """Whether the donors that tie at the optimum are affinely independent, for every treated unit.

    Then no other weights fit equally well. Where predictors are matched, the outcome decides ties;
    of augmented weights it is those before the ridge that matter.
    """
    if fitting.augmented:
        everyone = np.arange(aligned.rows.shape[1])[None]
        found = fit_outcomes(aligned, fitting, everyone[:, :n_treated], everyone >= n_treated)
    points = [_points(aligned, fitting, found.v, i) for i in range(n_treated)]
    left = [p[i] - found.weights[0, i] @ p for i, p in enumerate(points)]
    together = found.pooling[0] / (n_treated * aligned.rows.shape[2])
    common = together * np.sum(left, axis=0) if together else 0.0
    for i, (p, u) in enumerate(zip(points, left, strict=True)):
        alone = (1.0 - found.pooling[0]) / aligned.starts[aligned.cohort[i]]
        donors = p[n_treated:] - p[i]
        distance = (donors**2).sum(axis=1)
        slope = alone * fitting.penalty / 2.0 * distance - donors @ (alone * u + common)
        tied = donors[slope <= slope.min() + _TIGHT * (alone + together) * distance.mean()]
        spread = tied[1:] - tied[0]
        if len(spread) and np.linalg.matrix_rank(spread, tol=1e-7 * np.sqrt(distance.mean())) < len(
            spread
        ):
            return False
    return True


def _points(
    aligned: AlignedPaths, fitting: Fitting, v: NDArray[np.float64] | None, i: int
) -> NDArray[np.float64]:
    """Coordinates in which the i-th treated unit was matched, (n, d)."""
    rows: NDArray[np.float64] = aligned.rows[aligned.cohort[i]]
    if fitting.predictors is None or v is None:
        return rows
    from causal.kernels.predictor_search import TIE  # noqa: PLC0415 — numba only when used

    unit = float(np.trace(aligned.gram[0])) / len(rows) or 1.0
    features = np.sqrt(v[0, i]) * fitting.predictors.standard
    return np.hstack([features, np.sqrt(TIE / unit) * rows])
