"""An effect with the level that the treated would have had without treatment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from causal.did.cohort_gram import GramFit


def with_baseline(
    fit: GramFit,
    cells: Sequence[NDArray[np.bool_]],
    *,
    contrast: NDArray[np.float64] | None = None,
    df: float | None = None,
    estimand: str,
    method: str,
    details: Mapping[str, Any],
) -> Effect:
    """A contrast of coefficients with its counterfactual level, variance and covariance.

    Parameters
    ----------
    fit : GramFit
    cells : sequence of bool arrays (G, T)
        Treated cells; the level is the plain mean over the arrays of each one's mean outcome, less
        the effect.
    contrast : array (K,), optional
        Weights of the coefficients; the first coefficient by default.
    df, estimand, method, details
        Of the effect; the least df of the fit by default.

    Notes
    -----
    Both are linear in paths: unit i of group g moves the effect by w_g'e_i and the mean by d_g'(y_i
    - mu), d_g the share of its cells; their joint covariance sums products by cluster like that of
    the coefficients, with the same small-sample factor.
    """
    m = fit.moments
    c = np.eye(len(fit.coef))[0] if contrast is None else contrast
    tau, v_tau = float(c @ fit.coef), float(c @ fit.cov @ c)
    w = fit.weights[fit.of] @ c
    n = m.n.astype(np.float64)
    d, off, mu = np.zeros_like(m.mean), np.zeros_like(m.mean), 0.0
    for on in cells:
        share = on / (float((n[:, None] * on).sum()) * len(cells))
        level = float((n[:, None] * share * m.mean).sum()) * len(cells)
        d, off, mu = d + share, off + share * (m.mean - level), mu + level / len(cells)
    at_tau, at_mu = n * np.sum(w * fit.residual, axis=1), n * np.sum(off, axis=1)
    if m.cluster is None and m.cross is not None:
        raw, both, v_mu = (
            float(np.einsum("gs,gst,gt->", a, m.cross, b)) for a, b in ((w, w), (w, d), (d, d))
        )
        parts = (at_tau / np.sqrt(n), at_mu / np.sqrt(n))
    else:
        code, _ = m.cluster_codes()
        raw = both = v_mu = 0.0
        parts = (np.bincount(code, at_tau), np.bincount(code, at_mu))
    raw, v_mu = raw + float(parts[0] @ parts[0]), v_mu + float(parts[1] @ parts[1])
    both += float(parts[0] @ parts[1])
    factor = v_tau / raw if raw > 0 else 1.0
    v_mu, both = v_mu * factor, both * factor
    return Effect(
        estimate=tau,
        std_error=math.sqrt(max(v_tau, 0.0)),
        estimand=estimand,
        method=method,
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        df=float(np.min(fit.df)) if df is None else df,
        baseline=mu - tau,
        baseline_variance=max(v_mu + v_tau - 2 * both, 0.0),
        baseline_cov=both - v_tau,
        details=details,
    )
