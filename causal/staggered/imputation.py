"""Effects of staggered adoption by imputation: fit what is untreated, compare what is treated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.did.cohort_regressors import event_time, treated_cells
from causal.did.conventions import warn_few_clusters
from causal.did.event_study import event_study_result
from causal.distributions import wald_test
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
from causal.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.did.event_study import EventStudy
    from causal.frame import Table
    from causal.panel.cohort_moments import PanelMoments

__all__ = ["imputation_effects"]

_METHOD = "imputation (Borusyak, Jaravel and Spiess)"
_COVARIANCE = (
    "influence functions summed by cluster, no small-sample factor, normal quantiles; effects "
    "vary about their mean by cohort and period"
)

_ASSUMES = (
    "without treatment, all units would have moved in parallel in all periods{given}; nobody "
    "responded to treatment before it came; treated units do not affect controls; treatment stays "
    "on"
)


@keeps_warnings
def imputation_effects(
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    covariates: Sequence[str] = (),
    cluster: str | None = None,
    horizon: int | None = None,
    n_pretrend: int = 0,
) -> EventStudy:
    """Effects on the treated when adoption is staggered, by event time and over all treated rows.

    What each treated unit would have had is imputed from unit and period effects (and slopes of
    covariates) that are fitted on untreated rows only: effects may differ between units, cohorts
    and times. It assumes parallel trends in *all* periods before treatment, no anticipation, and
    uses them all, which makes it precise where they hold; `group_time_effects` leans on the last
    period before treatment only.

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
    covariates : sequence of str
        Columns that vary within units and are not changed by the treatment.
    cluster : str, optional
        Column of coarser clusters, constant within unit; the unit by default.
    horizon : int, optional
        Last event time that is reported and averaged over; all by default.
    n_pretrend : int
        Leads -1 ... -n_pretrend that are estimated apart, for the test of parallel trends; earlier
        periods are what they are compared with.

    Returns
    -------
    EventStudy
        `effect` is the mean over treated rows; the curve has no reference.

    Raises
    ------
    ValueError
        If nothing is left to compare with, a covariate is absorbed by the effects, leads are not
        identified, or the table is not as said above.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        With the number of units without a row before treatment (dropped), of treated rows whose
        period has no untreated row to compare with (dropped), of small cohorts, of few clusters; if
        leads are not 0, or the outcome is constant.

    Notes
    -----
    tau = sum w (y - fit) = sum v y, v = w on treated rows and, with Z the effects and covariates,
    -Z0 (Z0'Z0)^-1 Z1'w on untreated ones. Variance: sum over clusters of (sum v e)^2, e the
    residual on untreated rows and tau_it less its v^2-weighted mean over the rows of the same
    cohort and period on treated ones; conservative where effects differ within these. Leads are
    coefficients of a regression on untreated rows with the same convention. Nothing is corrected
    for the choice to report after seeing the leads. The baseline is the mean imputed outcome, its
    error that of the fit.

    References
    ----------
    Borusyak, Jaravel and Spiess (2024). Revisiting event-study designs. REStud 91, 3253-3285:
    Theorem 2, Theorem 3, Proposition 9.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> i, t = (a.ravel() for a in np.indices((60, 4)))
    >>> log = pd.DataFrame({"viewer": i, "day": t, "start": i % 3 + 2})
    >>> log["watch"] = np.sin(7 * log.index) + 2.0 * (t >= i % 3 + 2)
    >>> found = imputation_effects(log, outcome="watch", unit="viewer", time="day", cohort="start")
    >>> found.curve.index, round(found.estimate, 1)
    ((0, 1), 2.0)
    """
    if horizon is not None:
        horizon = whole_number("horizon", horizon, 0)
    n_pretrend = whole_number("n_pretrend", n_pretrend, 0)
    columns = {"outcome": outcome, "unit": unit, "time": time, "cohort": cohort}
    found = open_panel(table, never=never, cluster=cluster, covariates=covariates, **columns)
    groups = groups_of(found, columns)
    warn_if_constant(groups.moments, outcome)
    groups = without_always_treated(groups)
    fit = _Imputed.of(groups, horizon)
    warn_few_clusters(*groups.clusters[1:], stacklevel=3)
    return _result(fit, n_pretrend)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Imputed:
    """The fit on untreated cells and what it leaves.

    untreated, treated : (G, T) arrays of bool; treated ones are those that are averaged over
    gap : (G, T) mean outcome less its fit
    residual : (G, T) the same, less the mean over cohort and period on treated cells
    """

    groups: StaggeredGroups
    effects: CellEffects
    untreated: NDArray[np.bool_]
    treated: NDArray[np.bool_]
    gap: NDArray[np.float64]
    residual: NDArray[np.float64]

    @classmethod
    def of(cls, groups: StaggeredGroups, horizon: int | None) -> _Imputed:
        """Fit, and drop what is not identified."""
        m = groups.moments
        event = event_time(m.first, len(m.times))
        on = treated_cells(m.first, len(m.times))
        untreated = m.present & ~on
        effects = CellEffects.of(untreated, m.n, groups.covariates, groups.names)
        asked = m.present & on & (event <= (len(m.times) if horizon is None else horizon))
        refuse_unreached(f"cohort {m.columns['cohort']!r}", asked)
        treated = asked & effects.known
        _warn_unknown(m, asked & ~treated, int((m.n[:, None] * asked).sum()))
        gap = effects.residual(m.mean - m.mean[0, m.present[0].argmax()])
        residual = np.where(untreated, gap, 0.0)
        residual[treated] = (gap - _cohort_means(gap, treated, m))[treated]
        return cls(
            groups=groups,
            effects=effects,
            untreated=untreated,
            treated=treated,
            gap=gap,
            residual=residual,
        )

    @property
    def n(self) -> NDArray[np.int64]:
        """Units of each group, shaped for cells."""
        return self.groups.moments.n[:, None]

    def mean(self, cells: NDArray[np.bool_], scores: CohortScores) -> float:
        """Mean effect over treated cells; its influence is added to the scores."""
        w = cells / float((self.n * cells).sum())
        scores.add(w - self.effects.weights(w), self.residual)
        return float((self.n * w * self.gap).sum())


def _warn_unknown(m: PanelMoments, lost: NDArray[np.bool_], n_asked: int) -> None:
    """Raise or warn if treated rows have no counterpart."""
    n_lost = int((m.n[:, None] * lost).sum())
    if not n_lost:
        return
    where = shown([m.times.labels[j] for j in np.flatnonzero(lost.any(axis=0))])
    if n_lost == n_asked:
        raise ValueError(
            f"treated rows need untreated rows in their period {m.columns['time']!r}; none of "
            f"{n_asked} has, in {where}; add units that are treated later or never"
        )
    warn(
        f"{n_lost} of {n_asked} treated rows have no untreated rows to compare with in their "
        f"period ({where}) and were left out",
        stacklevel=5,
    )


def _cohort_means(
    gap: NDArray[np.float64], treated: NDArray[np.bool_], m: PanelMoments
) -> NDArray[np.float64]:
    """Mean gap over the treated rows of a cohort in a period, on all cells.

    Weights of treated rows are equal, so that the v^2-weighted mean is the plain one.
    """
    firsts, code = np.unique(m.first, return_inverse=True)
    n = m.n[:, None] * treated
    total, count = (np.zeros((len(firsts), gap.shape[1])) for _ in range(2))
    np.add.at(count, code.reshape(-1), n)
    np.add.at(total, code.reshape(-1), n * gap)
    means: NDArray[np.float64] = (total / np.maximum(count, 1))[code.reshape(-1)]
    return means


def _result(fit: _Imputed, n_pretrend: int) -> EventStudy:
    """All estimates with their joint covariance: leads, effects by event time, over all, level."""
    m = fit.groups.moments
    scores = CohortScores(m)
    leads = _leads(fit, n_pretrend, scores)
    since = event_time(m.first, len(m.times))
    events = np.unique(since[fit.treated])
    after = [fit.mean(fit.treated & (since == e), scores) for e in events]
    overall = fit.mean(fit.treated, scores)
    level, v, e = mean_level(m, fit.treated)
    scores.add(v, e)
    cov = scores.cov()
    effect = _headline(fit, overall, float(cov[-2, -2]))
    q = len(leads)
    points = [*range(-q, 0), *events.tolist()]
    study = event_study_result(
        event_time=points,
        estimate=[*leads, *after],
        cov=cov[:-2, :-2],
        effect=with_level(effect, level, float(cov[-1, -1]), float(cov[-2, -1])),
        reference=None,
        n_units=_units(fit, points),
        method=_METHOD,
        n_obs=effect.n_obs,
        n_clusters=effect.n_clusters,
        df=None,
        details=_details(fit),
        pretrend=wald_test(np.array(leads), cov[:q, :q], None) if cov[:q].any() else None,
    )
    warn_pretrend(study, stacklevel=5)
    return study


def _details(fit: _Imputed) -> dict[str, Any]:
    """What the curve and the headline both say."""
    return {
        "covariance": _COVARIANCE,
        "n_clusters": fit.groups.clusters[1],
        "n_units": fit.groups.moments.n_units,
        "outcome": fit.groups.moments.columns["outcome"],
        "assumes": _ASSUMES.format(given=" given covariates" if fit.groups.names else ""),
    }


def _headline(fit: _Imputed, overall: float, variance: float) -> Effect:
    """The mean over treated rows."""
    rows = int((fit.n * fit.treated).sum())
    return Effect(
        estimate=overall,
        std_error=math.sqrt(max(variance, 0.0)),
        estimand="att",
        method=_METHOD,
        n_obs=int((fit.n * fit.untreated).sum()) + rows,
        n_clusters=fit.groups.clusters[1],
        details={
            **_details(fit),
            "weights": OVER_TREATED_CELLS,
            "treated_cells": rows,
            "total": overall * rows,
        },
    )


def _leads(fit: _Imputed, n_pretrend: int, scores: CohortScores) -> list[float]:
    """Coefficients of leads -n_pretrend ... -1 on untreated cells, earliest first."""
    if not n_pretrend:
        return []
    m = fit.groups.moments
    since = event_time(m.first, len(m.times))
    Z: list[NDArray[np.float64]] = []
    gram = np.zeros((n_pretrend, n_pretrend))
    for j in range(n_pretrend):
        cells = fit.untreated & (since == j - n_pretrend)
        left = fit.effects.residual(cells.astype(np.float64)) * fit.untreated
        Z.append(left)
        gram[j, : j + 1] = gram[: j + 1, j] = [float((fit.n * left * z).sum()) for z in Z]
    _check_leads(gram, n_pretrend)
    slope = np.linalg.inv(gram)
    gap = fit.gap * fit.untreated
    gamma = slope @ [float((fit.n * z * gap).sum()) for z in Z]
    residual = gap - sum(g * z for g, z in zip(gamma, Z, strict=True))
    for row in slope:
        scores.add(sum(a * z for a, z in zip(row, Z, strict=True)), residual)
    return [float(g) for g in gamma]


def _check_leads(gram: NDArray[np.float64], n_pretrend: int) -> None:
    """Raise if leads leave nothing to compare them with."""
    values = np.linalg.eigvalsh(gram)
    if values[0] <= 1e-10 * max(float(values[-1]), 1.0):
        raise ValueError(
            f"n_pretrend={n_pretrend} leads must leave earlier periods, or later and never "
            "treated units, to compare them with; they do not; use fewer"
        )


def _units(fit: _Imputed, events: Sequence[int]) -> dict[int, int]:
    """Treated units with a row at each event time."""
    m = fit.groups.moments
    since = event_time(m.first, len(m.times))
    used = fit.n * (fit.untreated | fit.treated)
    return {e: int(used[since == e].sum()) for e in events}
