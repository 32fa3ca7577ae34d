"""The same regressions row by row: for covariates, weights and panels with many kinds of gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.did.absorbed_fit import AbsorbedFit, absorbed_least_squares
from causal.did.cohort_regressors import (
    event_time,
    negative_sum,
    warn_composition,
    warn_of_weights,
)
from causal.did.conventions import warn_few_clusters
from causal.did.regression import check_window, finished, without_reference
from causal.effect import Effect
from causal.panel.unit_panel import UnitPanel, warn
from causal.sandwich import cluster_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.did.conventions import PanelCovariance
    from causal.did.event_study import EventStudy


def twfe_of_rows(
    panel: UnitPanel, covariates: Sequence[str], covariance: PanelCovariance, assumes: str
) -> Effect:
    """The coefficient of the 0/1 treatment beside unit and period effects and covariates."""
    rows = _Rows.of(panel, covariates)
    on = (rows.event >= 0) & (rows.event <= panel.n_periods)
    fit = rows.fit(on[:, None].astype(np.float64), ["treatment"], covariance)
    _warn(panel, fit, covariance)
    cohorts = np.unique(panel.first[(panel.first > 0) & (panel.first < panel.n_periods)])
    if len(cohorts) > 1:
        residual, kept = fit.X[:, 0], on[fit.kept]
        root = np.ones(len(kept)) if rows.weight is None else np.sqrt(rows.weight[fit.kept])
        share = residual * root * kept
        warn_of_weights(panel.times, panel.first, negative_sum(rows.cell[fit.kept], share))
    always = int((panel.first == 0).sum())
    if always:
        warn(
            f"{always} always-treated units serve as controls; drop them unless their effect is "
            "constant (if 0 means never treated, pass never=0)",
            stacklevel=4,
        )
    units = int((panel.first < panel.n_periods).sum())
    return Effect(
        estimate=float(fit.coef[0]),
        std_error=float(np.sqrt(fit.cov[0, 0])),
        estimand="att",
        method="difference-in-differences, two-way fixed effects",
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        df=float(np.atleast_1d(fit.df)[0]),
        **_baseline(rows, fit, on),
        details={
            **fit.details(),
            "df": float(np.atleast_1d(fit.df)[0]),
            "n_units": panel.n_units,
            "treated_units": units,
            "treated_cells": int(on.sum()),
            "total": float(fit.coef[0]) * int(on.sum()),
            "assumes": assumes,
        },
    )


def _baseline(rows: _Rows, fit: AbsorbedFit, on: NDArray[np.bool_]) -> dict[str, float]:
    """Counterfactual level of treated rows, its variance and covariance with the effect.

    From the sums of scores by cluster (rows under HC1), with the small-sample factor of the effect.
    """
    kept, treated = fit.kept, on[fit.kept]
    w = np.ones(len(treated)) if rows.weight is None else rows.weight[kept]
    w, y = w * treated / (w @ treated), rows.y[kept]
    mu = float(w @ y)
    scores = np.column_stack([w * (y - mu), fit.X @ fit.bread[:, 0] * fit.resid])
    if fit.clusters:
        scores = cluster_sums(scores, fit.clusters[0].codes, fit.clusters[0].n)
    of_mu, of_tau = scores.T
    tau, v_tau = float(fit.coef[0]), float(fit.cov[0, 0])
    raw = float(of_tau @ of_tau)
    factor = v_tau / raw if raw > 0 else 1.0
    v_mu, both = factor * float(of_mu @ of_mu), factor * float(of_mu @ of_tau)
    return {
        "baseline": mu - tau,
        "baseline_variance": max(v_mu + v_tau - 2 * both, 0.0),
        "baseline_cov": both - v_tau,
    }


def event_study_of_rows(
    panel: UnitPanel,
    covariates: Sequence[str],
    covariance: PanelCovariance,
    reference: int,
    window: tuple[int, int] | None,
    assumes: str,
) -> EventStudy:
    """Coefficients of event times beside unit and period effects and covariates."""
    always = panel.first == 0
    if always.any():
        warn(
            f"{int(always.sum())} always-treated units were dropped: they have no period before "
            "treatment (if 0 means never treated, pass never=0)",
            stacklevel=4,
        )
        panel = panel.select(~always)
    rows = _Rows.of(panel, covariates)
    treated = rows.event <= panel.n_periods
    if window is not None:
        low, high = check_window(window, reference)
        rows = rows.where(~treated | ((rows.event >= low) & (rows.event <= high)))
        treated = rows.event <= panel.n_periods
    events = without_reference(np.unique(rows.event[treated]), reference)
    X = (rows.event[:, None] == events).astype(np.float64)
    after = (events >= 0).astype(np.float64)
    k = len(events)
    contrasts = np.zeros((k + len(covariates), k + 1))
    contrasts[:k, :k], contrasts[:k, k] = np.eye(k), after / after.sum()
    fit = rows.fit(X, [f"event time {e}" for e in events], covariance, contrasts)
    _warn(panel, fit, covariance)
    n_units = {int(e): int((rows.event == e).sum()) for e in np.append(events, reference)}
    warn_composition(n_units)
    df = np.atleast_1d(np.asarray(fit.contrast_df, dtype=np.float64))
    details = {**fit.details(), "df": float(df.min()), "n_units": panel.n_units, "assumes": assumes}
    return finished(
        fit.coef[:k],
        fit.cov[:k, :k],
        df,
        events=events,
        reference=reference,
        n_units=n_units,
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        details=details,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Observed rows: outcome, codes, event time (n_periods + 1 for never) and covariates."""

    y: NDArray[np.float64]
    unit: NDArray[np.int64]
    period: NDArray[np.int64]
    cluster: NDArray[np.int64]
    event: NDArray[np.int64]
    cell: NDArray[np.int64]  # of cohort and period
    covariates: NDArray[np.float64]
    names: tuple[str, ...]
    weight: NDArray[np.float64] | None

    @classmethod
    def of(cls, panel: UnitPanel, covariates: Sequence[str]) -> _Rows:
        """The rows of a panel, unit by unit."""
        unit, period = (index.astype(np.int64) for index in np.nonzero(panel.present))
        at = (unit, period)
        columns = [panel.covariates[name][at] for name in covariates]
        return cls(
            y=panel.outcome[at],
            unit=unit,
            period=period,
            cluster=unit if panel.cluster is None else panel.cluster[unit],
            event=event_time(panel.first, panel.n_periods)[at],
            cell=panel.first[unit] * panel.n_periods + period,
            covariates=np.column_stack(columns) if columns else np.empty((len(unit), 0)),
            names=tuple(covariates),
            weight=None if panel.weight is None else panel.weight[at],
        )

    def where(self, keep: NDArray[np.bool_]) -> _Rows:
        """Only some rows."""
        weight = None if self.weight is None else self.weight[keep]
        return _Rows(
            y=self.y[keep],
            unit=self.unit[keep],
            period=self.period[keep],
            cluster=self.cluster[keep],
            event=self.event[keep],
            cell=self.cell[keep],
            covariates=self.covariates[keep],
            names=self.names,
            weight=weight,
        )

    def fit(
        self,
        X: NDArray[np.float64],
        names: list[str],
        covariance: PanelCovariance,
        contrasts: NDArray[np.float64] | None = None,
    ) -> AbsorbedFit:
        """Least squares beside unit and period effects."""
        return absorbed_least_squares(
            self.y,
            np.column_stack([X, self.covariates]),
            [*names, *(f"covariate {name!r}" for name in self.names)],
            [self.unit, self.period],
            clusters=() if covariance == "HC1" else [self.cluster],
            weights=self.weight,
            covariance=covariance,
            contrasts=contrasts,
        )


def _warn(panel: UnitPanel, fit: AbsorbedFit, covariance: PanelCovariance) -> None:
    """Say that clusters are few."""
    if covariance == "HC1" or fit.n_clusters is None:
        return
    treated = (panel.first > 0) & (panel.first < panel.n_periods)
    n: Any = treated.sum() if panel.cluster is None else len(np.unique(panel.cluster[treated]))
    warn_few_clusters(fit.n_clusters, int(n), covariance=covariance, stacklevel=5)
