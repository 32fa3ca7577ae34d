"""Effects of staggered adoption by a regression that gives each cohort a curve of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from causal.did.cohort_regressors import event_time, treated_cells, units_by_event_time
from causal.did.conventions import (
    cluster_factor,
    covariance_details,
    parameter_count,
    warn_few_clusters,
)
from causal.did.event_study import event_study_result
from causal.did.regression import check_window, without_reference
from causal.effect import Effect
from causal.panel.adoption import refuse_unreached, shown
from causal.panel.open_moments import open_panel, warn_if_constant
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import warn
from causal.staggered.cell_effects import CellEffects
from causal.staggered.cohort_scores import CohortScores, mean_level, with_level
from causal.staggered.staggered_groups import (
    OVER_TREATED_CELLS,
    StaggeredGroups,
    groups_of,
    warn_pretrend,
    without_always_treated,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.did.event_study import EventStudy
    from causal.frame import Table
    from causal.panel.cohort_moments import PanelMoments

__all__ = ["sun_abraham"]

_METHOD = "interaction-weighted event study (Sun and Abraham)"
_ASSUMES = (
    "without treatment, cohorts would have moved in parallel{given}; nobody responded to treatment "
    "before it came; treated units do not affect controls; treatment stays on"
)
_EXPLAINED = 1e-10  # of a dummy's sum of squares: what the effects must leave


@keeps_warnings
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
        Columns that vary within units and are not changed by the treatment.
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
        of small cohorts, of few clusters; with a rejected pre-trend; if the outcome is constant.

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
    if window is not None:
        window = check_window(window, reference)
    columns = {"outcome": outcome, "unit": unit, "time": time, "cohort": cohort}
    found = open_panel(table, never=never, cluster=cluster, covariates=covariates, **columns)
    groups = groups_of(found, columns)
    warn_if_constant(groups.moments, outcome)
    groups = _with_control(without_always_treated(groups))
    groups = _with_reference(_within(groups, window), reference)
    paired = groups.kept(groups.moments.present.sum(axis=1) >= 2)
    on = treated_cells(paired.moments.first, len(paired.moments.times))
    refuse_unreached(f"cohort {cohort!r}", on & paired.moments.present)
    warn_few_clusters(*paired.clusters[1:], stacklevel=3)
    fit = _Fit.of(_Cells.of_groups(paired.moments, reference), paired)
    said = {
        "outcome": outcome,
        "assumes": _ASSUMES.format(given=" given covariates" if groups.names else ""),
    }
    return _study(fit, reference, groups.moments.n_units - paired.moments.n_units, said)


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
    """Rows of treated units within the window."""
    if window is None:
        return groups
    m = groups.moments
    since = event_time(m.first, len(m.times))
    never = (m.first == len(m.times))[:, None]
    return groups.within(never | ((since >= window[0]) & (since <= window[1])))


def _with_reference(groups: StaggeredGroups, reference: int) -> StaggeredGroups:
    """Cohorts that are observed at the reference."""
    m = groups.moments
    since = event_time(m.first, len(m.times))
    treated = m.first < len(m.times)
    seen = np.unique(since[treated[:, None] & m.present])
    without_reference(seen, reference, f"cohort {m.columns['cohort']!r}")
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
    at : (K,) cohorts and positions of the cells among R cohorts by T periods, flat
    count : (K,) rows of each
    of : (G,) cohort of each group
    shape : (R, T)
    names : of the K interactions
    """

    first: NDArray[np.int64]
    event: NDArray[np.int64]
    at: NDArray[np.int64]
    count: NDArray[np.float64]
    of: NDArray[np.int64]
    shape: tuple[int, int]
    names: list[str]

    @classmethod
    def of_groups(cls, m: PanelMoments, reference: int) -> _Cells:
        """Cells with rows, other than the reference."""
        t = len(m.times)
        firsts, of = np.unique(m.first, return_inverse=True)
        of = of.reshape(-1)
        rows = np.zeros((len(firsts), t))
        np.add.at(rows, of, m.n[:, None] * m.present)
        since = event_time(firsts, t)
        wanted = (rows > 0) & (firsts < t)[:, None] & (since != reference)
        at = np.flatnonzero(wanted)
        first, event = firsts[at // t], since.ravel()[at]
        labels = m.times.labels
        names = [
            f"cohort {labels[f]!r} at event time {e}" for f, e in zip(first, event, strict=True)
        ]
        return cls(
            first=first,
            event=event,
            at=at,
            count=rows.ravel()[at],
            of=of,
            shape=rows.shape,
            names=names,
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

    def paths(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (K,) of the cells as paths of the groups, (G, T); 0 elsewhere."""
        wide = np.zeros(self.shape)
        wide.ravel()[self.at] = values
        return np.asarray(wide[self.of])

    def sums(self, paths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over groups of what paths (G, T) have in each cell, (K,)."""
        wide = np.zeros(self.shape)
        np.add.at(wide, self.of, paths)
        return wide.ravel()[self.at]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Fit:
    """The interacted regression.

    effects : unit and period effects and slopes, on all rows
    bread : (K, K) inverse of the cells' cross products beside the effects
    coef : (K,)
    residual : (G, T) mean residuals
    """

    cells: _Cells
    groups: StaggeredGroups
    effects: CellEffects
    bread: NDArray[np.float64]
    coef: NDArray[np.float64]
    residual: NDArray[np.float64]

    @classmethod
    def of(cls, cells: _Cells, groups: StaggeredGroups) -> _Fit:
        """Solve for the cells beside the effects."""
        m = groups.moments
        effects = CellEffects.of(m.present, m.n, groups.covariates, groups.names)
        bread = _inverse(*_cross(cells, groups, effects), cells.names)
        y = m.mean - m.mean[0, m.present[0].argmax()]
        left = effects.residual(y) * m.present
        coef = bread @ cells.sums(m.n[:, None] * left)
        residual = effects.residual(y - cells.paths(coef)) * m.present
        return cls(
            cells=cells,
            groups=groups,
            effects=effects,
            bread=bread,
            coef=coef,
            residual=residual,
        )

    @property
    def k(self) -> int:
        """Parameters of the convention: units count once."""
        n_slopes = len(self.groups.names)
        periods, blocks = len(self.groups.moments.times), len(np.unique(self.effects.block))
        return parameter_count(len(self.coef) + n_slopes, [1, periods], [0, blocks], [True, False])

    def influence(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights (G, T) of rows in the combination w (K,) of the coefficients."""
        left = self.effects.residual(self.cells.paths(self.bread @ w))
        return np.asarray(left * self.groups.moments.present)


def _cross(
    cells: _Cells, groups: StaggeredGroups, effects: CellEffects
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cross products of the cells beside the effects, and beside unit effects only, (K, K).

    A cell is a period within a cohort, so that cross products of its dummy with those of periods
    and of other cells are those of the cohort's periods.
    """
    m = groups.moments
    t, k = len(m.times), len(cells.at)
    inside = np.zeros((k, k))
    across = np.zeros((t + len(groups.names), k))
    for cohort in np.unique(cells.at // t):
        mine, cell = cells.of == cohort, np.flatnonzero(cells.at // t == cohort)
        period = cells.at[cell] % t
        P, n = m.present[mine].astype(np.float64), m.n[mine].astype(np.float64)
        periods = np.diag(n @ P) - P.T @ (P * (n / P.sum(axis=1))[:, None])
        inside[np.ix_(cell, cell)] = periods[np.ix_(period, period)]
        across[:t, cell] = periods[:, period]
        slopes = np.einsum("g,gt,gtl->lt", n, P, effects.covariates[mine], optimize=True)
        across[t:, cell] = slopes[:, period]
    return inside - across.T @ effects.inverse @ across, inside


def _inverse(
    cross: NDArray[np.float64], inside: NDArray[np.float64], names: list[str]
) -> NDArray[np.float64]:
    """Inverse of the cross products; a cell that the effects and other cells explain is named."""
    scale = np.sqrt(np.diag(inside))
    scaled = cross / np.outer(scale, scale)
    root, failed = linalg.lapack.dpotrf(scaled, lower=1)
    pivots = np.diag(root)[: failed - 1] if failed else np.diag(root)
    small = np.flatnonzero(pivots**2 < _EXPLAINED)
    if failed or len(small):
        name = names[small[0] if len(small) else failed - 1]
        raise ValueError(
            f"the effect of {name} must be identified beside unit and period effects and "
            "covariates; it is not: add units that are untreated then, narrow the window, or drop "
            "the cohort or covariate"
        )
    return np.asarray(linalg.cho_solve((root, True), np.eye(len(scale))) / np.outer(scale, scale))


def _covariance(
    fit: _Fit, W: NDArray[np.float64], estimate: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Covariance of the averages and then the treated's level: all of it, and without the shares'.

    Third, the level.
    """
    cells, m = fit.cells, fit.groups.moments
    by_rows, by_shares = CohortScores(m), CohortScores(m)
    for w, average in zip(W.T, estimate, strict=True):
        by_rows.add(fit.influence(w), fit.residual)
        share = w / cells.count
        moved, reach = (cells.paths(v) * m.present for v in (share * (fit.coef - average), share))
        by_shares.add_constants(moved.sum(axis=1), np.abs(reach).sum(axis=1))
    level, v, e = mean_level(m, treated_cells(m.first, len(m.times)) & m.present)
    for scores in (by_rows, by_shares):
        scores.add(v, e)
    of_rows = cluster_factor(fit.groups.clusters[1], m.n_obs, fit.k) * by_rows.cov()
    return of_rows + by_shares.cov(), of_rows, level


def _study(fit: _Fit, reference: int, singletons: int, words: dict[str, str]) -> EventStudy:
    """Average the cohorts' curves, with what their shares add to the errors."""
    cells, m = fit.cells, fit.groups.moments
    W = cells.shares
    estimate = W.T @ fit.coef
    cov, of_rows, level = _covariance(fit, W, estimate)
    n_clusters = fit.groups.clusters[1]
    df = float(n_clusters - 1)
    said = covariance_details("CR1", k=fit.k, n_clusters=n_clusters, df=df, singletons=singletons)
    details = {**said, **words, "n_units": m.n_units}
    effect = Effect(
        estimate=float(estimate[-1]),
        std_error=math.sqrt(max(float(cov[-2, -2]), 0.0)),
        estimand="att",
        method=_METHOD,
        n_obs=m.n_obs,
        n_clusters=n_clusters,
        df=df,
        details={**details, **_over_cells(m, float(estimate[-1]))},
    )
    study = event_study_result(
        event_time=cells.events.tolist(),
        estimate=estimate[:-1],
        cov=cov[:-2, :-2],
        effect=with_level(effect, level, float(of_rows[-1, -1]), float(cov[-2, -1])),
        reference=reference,
        n_units=units_by_event_time(m, np.append(cells.events, reference)),
        method=_METHOD,
        n_obs=m.n_obs,
        n_clusters=n_clusters,
        df=df,
        details=details,
    )
    warn_pretrend(study, stacklevel=5)
    return study


def _over_cells(m: PanelMoments, effect: float) -> dict[str, Any]:
    """Counts behind the headline, and the total effect."""
    on = treated_cells(m.first, len(m.times)) & m.present
    rows = int((m.n[:, None] * on).sum())
    return {"weights": OVER_TREATED_CELLS, "treated_cells": rows, "total": effect * rows}
