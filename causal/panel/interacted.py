"""Effects of staggered adoption by a regression that gives each cohort a curve of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import Effect
from causal.panel.adoption import shown
from causal.panel.cohort_gram import fit_cohorts
from causal.panel.cohort_regressors import event_time, treated_cells, units_by_event_time
from causal.panel.cohort_scores import CohortScores, mean_level, with_level
from causal.panel.conventions import warn_few_clusters
from causal.panel.did import check_window, without_reference
from causal.panel.event_study import event_study_result
from causal.panel.open_moments import open_panel
from causal.panel.staggered_groups import (
    OVER_TREATED_CELLS,
    StaggeredGroups,
    groups_of,
    warn_pretrend,
    without_always_treated,
)
from causal.panel.unit_panel import warn
from causal.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.frame import Table
    from causal.panel.cohort_moments import PanelMoments
    from causal.panel.event_study import EventStudy

__all__ = ["sun_abraham"]

_METHOD = "interaction-weighted event study (Sun and Abraham)"


def sun_abraham(
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    reference: int = -1,
    window: tuple[int, int] | None = None,
    covariates: Sequence[str] = (),
    cluster: str | None = None,
) -> EventStudy:
    """Effects by time since treatment when adoption is staggered and cohorts' effects differ.

    One regression gives each cohort its own curve, compared with units that are never treated (else
    with the last cohort, before it is treated); curves are averaged with the cohorts' shares at
    each event time. It assumes parallel trends and no anticipation, and repairs what `event_study`
    mixes up when effects differ between cohorts.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period; gaps are allowed. Moments take no covariates.
    outcome, unit, time : str
        Columns.
    cohort : str
        Column of the first treated time; missing, NaT or infinite for never.
    never
        A time that also stands for never, such as 0.
    reference : int
        Event time that the others are compared with; before the start.
    window : (int, int), optional
        First and last event time; rows of treated units outside it are left out.
    covariates : sequence of str
        Columns that vary within units and are not changed by the treatment; rows times cohorts
        times event times are then held in memory.
    cluster : str, optional
        Column of coarser clusters, constant within unit; the unit by default.

    Returns
    -------
    EventStudy
        `effect` is the mean over treated rows; `pretrend` tests all event times before the start.

    Raises
    ------
    ValueError
        If nobody is left to compare with, the reference is not observed, a cohort's effect is not
        identified (it is named), or the table is not as said above.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        With the number of always treated units (dropped), of periods after the last cohort's start
        where nobody is never treated (dropped), of cohorts without the reference period (dropped),
        of small cohorts, of few clusters; with a rejected pre-trend.

    Notes
    -----
    y_it = a_i + b_t + sum_{g, e != reference} d_ge 1{g_i = g, t - g = e}; effect at e: sum_g p_ge
    d_ge, p_ge the cohort's share of treated rows at e. Variance: that of the coefficients (CR1)
    with the shares fixed, plus that of the shares, sum over clusters of (sum_i in c 1{i seen at e}
    (d_{g_i}e - effect) / N_e)^2. Points of the curve rest on different cohorts: `to_frame` shows
    n_units. Nothing is corrected for differing trends; see `honest_did`.

    References
    ----------
    Sun and Abraham (2021). Estimating dynamic treatment effects in event studies. J. Econometrics
    225, 175-199: eq. 26-27, 31-33.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> i, t = (a.ravel() for a in np.indices((60, 4)))
    >>> log = pd.DataFrame({"viewer": i, "day": t, "start": i % 3 + 2})
    >>> log["watch"] = np.sin(7 * log.index) + 2.0 * (t >= i % 3 + 2)
    >>> found = sun_abraham(log, outcome="watch", unit="viewer", time="day", cohort="start")
    >>> found.curve.index, round(found.estimate, 1)
    ((-3, -2, -1, 0, 1), 2.0)
    """
    whole_number("-reference", -reference, 1)
    if window is not None:
        window = check_window(window, reference)
    columns = {"outcome": outcome, "unit": unit, "time": time, "cohort": cohort}
    found = open_panel(table, never=never, cluster=cluster, covariates=covariates, **columns)
    groups = groups_of(found, columns)
    groups = _with_control(without_always_treated(groups))
    groups = _with_reference(_within(groups, window), reference)
    warn_few_clusters(*groups.clusters[1:], stacklevel=3)
    return _study(_Cells.of(groups.moments, reference), groups, reference)


def _with_control(groups: StaggeredGroups) -> StaggeredGroups:
    """Periods in which somebody is untreated: all, or those before the last cohort's start."""
    m = groups.moments
    last = int(m.first.max())
    if last == len(m.times):
        return groups
    warn(
        f"nobody is never treated: the cohort of {m.times.labels[last]!r} is the control, and "
        f"{len(m.times) - last} of {len(m.times)} periods, from then on, were dropped",
        stacklevel=4,
    )
    return groups.until(last)


def _within(groups: StaggeredGroups, window: tuple[int, int] | None) -> StaggeredGroups:
    """Rows of treated units within the window; units with a single row say nothing."""
    m = groups.moments
    seen = m.present
    if window is not None:
        since = event_time(m.first, len(m.times))
        never = (m.first == len(m.times))[:, None]
        seen = seen & (never | ((since >= window[0]) & (since <= window[1])))
        groups = groups.within(seen)
    return groups.kept(groups.moments.present.sum(axis=1) >= 2)


def _with_reference(groups: StaggeredGroups, reference: int) -> StaggeredGroups:
    """Cohorts that are observed at the reference."""
    m = groups.moments
    since = event_time(m.first, len(m.times))
    treated = m.first < len(m.times)
    without_reference(np.unique(since[treated[:, None] & m.present]), reference)
    compared = np.unique(m.first[((since == reference) & m.present).any(axis=1)])
    lost = treated & ~np.isin(m.first, compared)
    if lost.any():
        names = shown([m.times.labels[f] for f in np.unique(m.first[lost])])
        warn(
            f"{int(m.n[lost].sum())} units of cohorts ({names}) that are not observed at the "
            f"reference, event time {reference}, were dropped",
            stacklevel=4,
        )
    return groups.kept(~lost)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Cells:
    """Cohorts by event time: the K interactions of the regression.

    first, event : (K,) arrays
    count : (K,) rows of each
    regressors : (R, T, K) array, `at` (G,) those of each group
    names : of the K interactions
    """

    first: NDArray[np.int64]
    event: NDArray[np.int64]
    count: NDArray[np.float64]
    regressors: NDArray[np.float64]
    at: NDArray[np.int64]
    names: list[str]

    @classmethod
    def of(cls, m: PanelMoments, reference: int) -> _Cells:
        """Cells with rows, other than the reference."""
        t = len(m.times)
        firsts, at = np.unique(m.first, return_inverse=True)
        at = at.reshape(-1)
        rows = np.zeros((len(firsts), t))
        np.add.at(rows, at, m.n[:, None] * m.present)
        since = event_time(firsts, t)
        r, position = np.nonzero((rows > 0) & (firsts < t)[:, None] & (since != reference))
        k = len(r)
        regressors = np.zeros((len(firsts), t, k))
        regressors[r, position, np.arange(k)] = 1.0
        event = since[r, position]
        labels = m.times.labels
        return cls(
            first=firsts[r],
            event=event,
            count=rows[r, position],
            regressors=regressors,
            at=at,
            names=[
                f"cohort {labels[f]!r} at event time {e}"
                for f, e in zip(firsts[r], event, strict=True)
            ],
        )

    @property
    def events(self) -> NDArray[np.int64]:
        """Event times, ascending."""
        return np.unique(self.event)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Weights (K, E + 1): each event time's, and last those of the mean over treated rows."""
        inside = np.column_stack([self.event[:, None] == self.events, self.event >= 0])
        rows = self.count[:, None] * inside
        return np.asarray(rows / rows.sum(axis=0))

    def seen(self, m: PanelMoments) -> NDArray[np.float64]:
        """Whether units of a group have a row in each cell, (G, K)."""
        mine = m.first[:, None] == self.first
        return np.asarray(mine & m.present[:, self.first + self.event], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Fit:
    """Coefficients of the cells, from moments or rows.

    paths : (G, T) weights and mean residuals behind the headline; from moments only
    """

    coef: NDArray[np.float64]
    cov: NDArray[np.float64]
    df: float
    n_obs: int
    n_clusters: int
    details: dict[str, Any]
    paths: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def _fitted(cells: _Cells, groups: StaggeredGroups) -> _Fit:
    """The interacted regression: from moments, or row by row where units are groups."""
    m = groups.moments
    if not groups.single:
        fit = fit_cohorts(m, cells.regressors, cells.at, cells.names)
        return _Fit(
            coef=fit.coef,
            cov=fit.cov,
            df=float(np.min(fit.df)),
            n_obs=fit.n_obs,
            n_clusters=int(fit.n_clusters or m.n_units),
            details=fit.details(),
            paths=(fit.weights[fit.of] @ cells.shares[:, -1], fit.residual),
        )
    from causal.panel.absorbed_fit import absorbed_least_squares  # noqa: PLC0415 — not for moments

    unit, period = (index.astype(np.int64) for index in np.nonzero(m.present))
    X = cells.regressors[cells.at[unit], period]
    rows = absorbed_least_squares(
        m.mean[unit, period],
        np.column_stack([X, groups.covariates[unit, period]]),
        [*cells.names, *(f"covariate {name!r}" for name in groups.names)],
        [unit, period],
        clusters=[unit if m.cluster is None else m.cluster[unit]],
    )
    k = len(cells.event)
    return _Fit(
        coef=rows.coef[:k],
        cov=rows.cov[:k, :k],
        df=float(np.min(rows.df)),
        n_obs=rows.n_obs,
        n_clusters=int(rows.n_clusters or m.n_units),
        details=rows.details(),
        paths=None,
    )


def _study(cells: _Cells, groups: StaggeredGroups, reference: int) -> EventStudy:
    """Average the cohorts' curves, with what their shares add to the errors."""
    m = groups.moments
    fit = _fitted(cells, groups)
    W = cells.shares
    estimate = W.T @ fit.coef
    influence = cells.seen(m) @ (W / cells.count[:, None] * (fit.coef[:, None] - estimate))
    by_shares = CohortScores(m)
    for one in influence.T:
        by_shares.add_constants(one)
    cov = W.T @ fit.cov @ W + by_shares.cov()
    effect = Effect(
        estimate=float(estimate[-1]),
        std_error=math.sqrt(max(float(cov[-1, -1]), 0.0)),
        estimand="att",
        method=_METHOD,
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        df=fit.df,
        details={**fit.details, **_over_cells(m, float(estimate[-1]))},
    )
    if fit.paths is not None:
        variance = float(W[:, -1] @ fit.cov @ W[:, -1])
        effect = _with_level(effect, m, fit.paths, influence[:, -1], variance)
    study = event_study_result(
        event_time=cells.events.tolist(),
        estimate=estimate[:-1],
        cov=cov[:-1, :-1],
        effect=effect,
        reference=reference,
        n_units=units_by_event_time(m, np.append(cells.events, reference)),
        method=_METHOD,
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        df=fit.df,
        details={**fit.details, "n_units": m.n_units},
    )
    warn_pretrend(study, stacklevel=5)
    return study


def _over_cells(m: PanelMoments, effect: float) -> dict[str, Any]:
    """Counts behind the headline, and the total effect."""
    on = treated_cells(m.first, len(m.times)) & m.present
    rows = int((m.n[:, None] * on).sum())
    return {
        "n_units": m.n_units,
        "weights": OVER_TREATED_CELLS,
        "treated_cells": rows,
        "total": effect * rows,
    }


def _with_level(
    effect: Effect,
    m: PanelMoments,
    paths: tuple[NDArray[np.float64], NDArray[np.float64]],
    by_shares: NDArray[np.float64],
    variance: float,
) -> Effect:
    """The effect with its counterfactual; `variance` is the regression's part of its own."""
    level, v, e = mean_level(m, treated_cells(m.first, len(m.times)) & m.present)
    scores = CohortScores(m)
    scores.add(*paths)
    scores.add_constants(by_shares)
    scores.add(v, e)
    raw = scores.cov()
    factor = variance / raw[0, 0] if raw[0, 0] > 0 else 1.0  # of the effect, for both
    both = float(factor * raw[0, 2] + raw[1, 2])
    return with_level(effect, level, float(factor * raw[2, 2]), both)
