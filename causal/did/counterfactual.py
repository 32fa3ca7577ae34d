"""An effect with the level that the treated would have had without treatment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.did.cohort_regressors import treated_cells
from causal.effect import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.did.cohort_gram import GramFit
    from causal.panel.cohort_moments import PanelMoments


def with_baseline(
    m: PanelMoments, fit: GramFit, *, estimand: str, method: str, details: Mapping[str, Any]
) -> Effect:
    """The first coefficient with its counterfactual level, variance and covariance.

    Notes
    -----
    The level is mu - tau, mu the mean outcome of treated cells. Both are linear in paths: unit i of
    group g moves tau by w_g'e_i and mu by d_g'(y_i - mu) / N, d_g the treated periods; the joint
    covariance sums their products by cluster like that of tau.
    """
    tau, v_tau = float(fit.coef[0]), float(fit.cov[0, 0])
    on = (treated_cells(m.first, len(m.times)) & m.present).astype(np.float64)
    cells = float((m.n[:, None] * on).sum())
    mu = float((m.n[:, None] * on * m.mean).sum() / cells)
    d = on / cells
    off = (m.mean - mu) * on
    w = fit.weights[fit.of][:, :, 0]
    n = m.n.astype(np.float64)
    if m.cluster is None and m.cross is not None:
        v_mu = np.einsum("gs,gst,gt->", d, m.cross, d) + np.sum(n * np.sum(d * off, axis=1) ** 2)
        both = np.einsum("gs,gst,gt->", w, m.cross, d)
        c = both + np.sum(n * np.sum(w * fit.residual, axis=1) * np.sum(d * off, axis=1))
        raw = np.einsum("gs,gst,gt->", w, m.cross, w)
        raw += np.sum(n * np.sum(w * fit.residual, axis=1) ** 2)
    else:
        code, _ = m.cluster_codes()
        tau_c = np.bincount(code, n * np.sum(w * fit.residual, axis=1))
        mu_c = np.bincount(code, n * np.sum(d * off, axis=1))
        v_mu, c, raw = float(mu_c @ mu_c), float(mu_c @ tau_c), float(tau_c @ tau_c)
    factor = v_tau / raw if raw > 0 else 1.0  # the small-sample factor of tau goes for both
    v_mu, c = float(v_mu) * factor, float(c) * factor
    return Effect(
        estimate=tau,
        std_error=math.sqrt(max(v_tau, 0.0)),
        estimand=estimand,
        method=method,
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        df=float(np.min(fit.df)),
        baseline=mu - tau,
        baseline_variance=max(v_mu + v_tau - 2 * c, 0.0),
        baseline_cov=c - v_tau,
        details=details,
    )
