"""Placebos of a synthetic control: donors in the place of the treated, and donors left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causal.panel.unit_panel import warn
from causal.synthetic.aligned_paths import AlignedPaths, root_mean_square
from causal.synthetic.donor_weights import Fitting, find_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.synthetic.donor_pool import DonorPool
    from causal.values import JsonScalar

MOST_SETS = 999
_LEAST = 5  # placebos that a standard error rests on
POOR_FIT = 5.0  # times the treated fit before the start: such placebos do not enter the error
_DIGITS = 1e-8  # of the spread of paths: better fits cannot be told apart


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Placebos:
    """What donors in the place of the treated give.

    Parameters
    ----------
    gaps : array (q, e)
    table : DataFrame
        unit, pre_rmspe, post_rmspe, ratio, rank, in_std_error; the treated first.
    cov : array (e, e)
        Mean product of the gaps of placebos that fit: the curve's covariance.
    p_value : float
        Share of the ratios, the treated one included, that are at least the treated one.
    n_left_out : int
        Placebos that fit too badly to enter `cov`.
    duality_gap : float
        The largest of them.
    """

    gaps: NDArray[np.float64]
    table: pd.DataFrame
    cov: NDArray[np.float64]
    p_value: float
    n_left_out: int
    duality_gap: float


def placebo_sets(pool: DonorPool, seed: int) -> NDArray[np.int64]:
    """Every donor, or sets of as many donors as are treated: all of them or `MOST_SETS` draws.

    Raises
    ------
    ValueError
        If sets would leave fewer than one donor.
    """
    m, j = pool.n_treated, pool.n_donors
    donors = np.arange(m, m + j)
    if m == 1:
        return donors[:, None]
    if j <= m:
        raise ValueError(
            f"placebos of {m} treated units need more than {m} donors; got {j}; add donors"
        )
    rng = np.random.default_rng(seed)
    same_start = len(np.unique(pool.first)) == 1
    if same_start and math.comb(j, m) <= MOST_SETS:
        return np.array(list(combinations(donors, m)))
    drawn = np.array([rng.choice(donors, m, replace=False) for _ in range(MOST_SETS)])
    return np.unique(np.sort(drawn, axis=1) if same_start else drawn, axis=0)


def run_placebos(
    pool: DonorPool,
    aligned: AlignedPaths,
    fitting: Fitting,
    gap: NDArray[np.float64],
    *,
    v: NDArray[np.float64] | None,
    seed: int,
) -> Placebos:
    """Fit every placebo as the treated were, and compare.

    Parameters
    ----------
    gap : array (e,)
        Of the treated.
    v : array (1, m, k), optional
        Predictor weights that placebos take over; None searches for those of each.

    Warns
    -----
    EstimationWarning
        If fewer than five placebos fit well enough for the standard error; all are used then. If
        there are no more than that.
    """
    sets = placebo_sets(pool, seed)
    allowed = np.zeros((len(sets), len(pool.labels)), dtype=bool)
    allowed[:, pool.n_treated :] = True
    np.put_along_axis(allowed, sets, values=False, axis=1)
    held = None if v is None else np.repeat(v, len(sets), axis=0)
    found = find_weights(aligned, fitting, sets, allowed, v=held)
    gaps = aligned.gaps(sets, found.weights)
    table = _compare(pool, aligned, np.vstack([gap, gaps]), sets)
    fits = table["in_std_error"].to_numpy()[1:]
    n_left_out = int((~fits).sum())
    if fits.sum() < min(_LEAST, len(sets)):
        warn(
            f"{n_left_out} of {len(sets)} placebos have a pre-period RMSPE above {POOR_FIT:g} "
            f"times the treated one; fewer than {_LEAST} are left, so the standard error uses all "
            "placebos and is likely too large",
        )
        fits = np.ones(len(sets), dtype=bool)
        table.loc[1:, "in_std_error"] = True
        n_left_out = 0
    if len(sets) < _LEAST and gaps.any():
        warn(
            f"the standard error rests on only {len(sets)} placebos, and the p-value cannot be "
            f"below {1 / (len(sets) + 1):.2g}; add donors for better ones",
        )
    used = gaps[fits] / aligned.scale
    ratio = table["ratio"].to_numpy()
    return Placebos(
        gaps=gaps,
        table=table,
        cov=used.T @ used / len(used) * aligned.scale * aligned.scale,
        p_value=float(np.mean(ratio >= ratio[0] * (1 - 1e-9))),
        n_left_out=n_left_out,
        duality_gap=float(found.duality_gap.max()),
    )


def _compare(
    pool: DonorPool, aligned: AlignedPaths, gaps: NDArray[np.float64], sets: NDArray[np.int64]
) -> pd.DataFrame:
    """Fit before and after the start, the treated in the first row."""
    pre, post = fit_before_and_after(aligned, gaps)
    least = _DIGITS * float(root_mean_square(aligned.rows.ravel())) * aligned.scale
    ratio = post / np.maximum(pre, least or 1.0)
    labels = pool.names
    names = [_set_name(labels, members) for members in (np.arange(pool.n_treated), *sets)]
    return pd.DataFrame(
        {
            "unit": names,
            "pre_rmspe": pre,
            "post_rmspe": post,
            "ratio": ratio,
            "rank": pd.Series(-ratio).rank(method="min").astype(int),
            "in_std_error": [False, *(pre[1:] <= POOR_FIT * max(pre[0], least))],
        }
    )


def fit_before_and_after(
    aligned: AlignedPaths, gaps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Root mean squared gaps before and after the start, each (p,)."""
    before = aligned.n_before
    return root_mean_square(gaps[:, :before]), root_mean_square(gaps[:, before:])


def leave_one_out(
    pool: DonorPool,
    aligned: AlignedPaths,
    fitting: Fitting,
    weights: NDArray[np.float64],
    *,
    v: NDArray[np.float64] | None,
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """The estimate without each donor that has weight, and the gaps, (q, e).

    weights (m, n) are those of the treated; v (1, m, k) is held fixed.
    """
    n, m = len(pool.labels), pool.n_treated
    used = np.flatnonzero((np.abs(weights) > 1e-6).any(axis=0))
    members = np.tile(np.arange(m), (len(used), 1))
    allowed = np.zeros((len(used), n), dtype=bool)
    allowed[:, m:] = True
    allowed[np.arange(len(used)), used] = False
    held = None if v is None else np.repeat(v, len(used), axis=0)
    found = find_weights(aligned, fitting, members, allowed, v=held)
    gaps = aligned.gaps(members, found.weights)
    labels = pool.names
    frame = pd.DataFrame(
        {
            "left_out": [labels[j] for j in used],
            "estimate": gaps @ aligned.post_weights,
            "pre_rmspe": fit_before_and_after(aligned, gaps)[0],
        }
    )
    return frame, gaps


def _set_name(labels: tuple[JsonScalar, ...], members: NDArray[np.int64]) -> JsonScalar:
    """The unit's label, or those of a set in one text."""
    if len(members) == 1:
        return labels[int(members[0])]
    return ", ".join(str(labels[j]) for j in members)
