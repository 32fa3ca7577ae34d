"""Group-time effects of a panel given covariates or weights: regression, weighting, both.

Every estimate is a mean over the treated of what a model of the controls leaves; its influence
values are u (dY - x'beta) + v eta + s x'B with u, v, s of the unit alone, so that all periods of a
cohort come from one product. Sant'Anna and Zhao (2020), eq. 2.10 and Theorem A.1 (traditional).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.staggered.aggregation import KINDS, overall_weights
from causal.staggered.group_time_cells import CellEstimates, CellPlan
from causal.staggered.influence_sums import RowClass, influence_products, with_shares
from causal.staggered.propensity import Logit, fit_logit, inverted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.panel.unit_panel import UnitPanel
    from causal.values import JsonScalar

Method = Literal["dr", "ipw", "reg"]

Rows = slice | np.ndarray


def cells_from_models(
    panel: UnitPanel, plan: CellPlan, *, method: Method, max_propensity: float
) -> CellEstimates:
    """Estimates and joint covariance of all cells, models fitted cohort by cohort."""
    rows = ModelRows.of(panel)
    names = tuple(panel.covariates)
    asked = Asked(method if names else "reg", max_propensity, names, panel.times.labels)
    fits: list[_Fit] = []
    for cells in _alike(rows, plan):
        fits.append(_fitted(rows, plan, cells, asked, fits[-1] if fits else None))
    estimate, level = np.empty((2, len(plan)))
    for fit in fits:
        estimate[fit.cells] = fit.eta_treated - fit.eta_control
        level[fit.cells] = fit.level
    share = np.array([rows.share[rows.of_first(g)].sum() for g in plan.cohorts])
    width = len(plan) + len(plan.cohorts) + 1 + len(KINDS)
    classes = _classes(rows, plan, fits, overall_weights(plan, share))
    products = influence_products(classes, width, rows.cluster)
    n_treated, n_control = counts_of_units(panel, plan)
    after = plan.event_time >= 0
    return CellEstimates(
        plan=plan,
        estimate=estimate,
        level=level,
        joint=with_shares(products, len(plan), share),
        share=share,
        n_cohort=np.array([(panel.first == g).sum() for g in plan.cohorts], dtype=np.int64),
        n_treated=n_treated,
        n_control=n_control,
        treated_cells=int(n_treated[after].sum()) if panel.weight is None else None,
        n_trimmed=sum(fit.n_trimmed for fit in fits),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """How to estimate, and the words for messages; without covariates every method is `reg`."""

    method: Method
    max_propensity: float
    names: tuple[str, ...]
    labels: Sequence[JsonScalar]

    @property
    def regression(self) -> bool:
        """Whether outcomes of controls are regressed on covariates."""
        return self.method != "ipw"

    @property
    def propensity(self) -> bool:
        """Whether controls are weighted by a propensity."""
        return self.method != "reg"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModelRows:
    """Units by periods, sorted by first treated period and cluster.

    Outcomes are taken off the unit's first one and then off the period's mean, neither of which
    any effect depends on: so levels cost no digits. start : (N,), the unit's first outcome;
    period_mean : (T,), what was taken off then. X : (N, p), where no covariate changes over
    time;  by_base : whether covariates or weights do, and so models differ by base period.
    """

    Y: NDArray[np.float64]
    start: NDArray[np.float64]
    period_mean: NDArray[np.float64]
    present: NDArray[np.bool_] | None
    first: NDArray[np.int64]
    X: NDArray[np.float64] | None
    covariates: tuple[NDArray[np.float64], ...]
    weight: NDArray[np.float64] | None
    by_base: bool
    share: NDArray[np.float64]
    cluster: NDArray[np.int64] | None

    @classmethod
    def of(cls, panel: UnitPanel) -> ModelRows:
        """Sort, scale covariates, find what is constant over time."""
        keys = (panel.first,) if panel.cluster is None else (panel.cluster, panel.first)
        order = np.lexsort(keys)
        present = None if panel.balanced else panel.present[order]
        seen = np.zeros(len(order), np.int64) if present is None else present.argmax(axis=1)
        at_first = np.arange(len(order)), seen
        Y = panel.outcome[order]
        start = Y[at_first]
        Y -= start[:, None]
        period_mean = np.nansum(Y, axis=0) / np.maximum((~np.isnan(Y)).sum(axis=0), 1)
        Y -= period_mean
        wide = {name: values[order] for name, values in panel.covariates.items()}
        X = None
        if all(map(_constant, wide.values())):
            columns = [scaled(name, values[at_first]) for name, values in wide.items()]
            X = np.column_stack([np.ones(len(Y)), *columns])
        weight = None if panel.weight is None else panel.weight[order]
        share = np.ones(len(Y)) if weight is None else weight[at_first]
        return cls(
            Y=Y,
            start=start,
            period_mean=period_mean,
            present=present,
            first=panel.first[order],
            X=X,
            covariates=() if X is not None else tuple(scaled(n, v) for n, v in wide.items()),
            weight=weight,
            by_base=X is None or not (weight is None or _constant(weight)),
            share=share / share.sum(),
            cluster=None if panel.cluster is None else panel.cluster[order],
        )

    def levels(self, rows: Rows, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Outcomes themselves of some units in some periods."""
        return np.asarray(self.Y[rows][:, times] + self.start[rows, None] + self.period_mean[times])

    def outcomes(self, rows: Rows, periods: NDArray[np.int64]) -> NDArray[np.float64]:
        """Outcomes, as they are held here, of some units in some periods."""
        return self.Y[rows] if len(periods) == self.Y.shape[1] else self.Y[rows][:, periods]

    def of_first(self, first: int) -> slice:
        """Units first treated then."""
        start, stop = np.searchsorted(self.first, [first, first + 1])
        return slice(int(start), int(stop))

    def design(self, rows: Rows, period: int) -> NDArray[np.float64]:
        """1 and the scaled covariates in a period."""
        if self.X is not None:
            return self.X[rows]
        columns = [values[rows, period] for values in self.covariates]
        return np.column_stack([np.ones(len(columns[0])), *columns])

    def controls(self, cohort: int, start: int) -> list[slice]:
        """Units first treated at `start` or later, or never, but for the cohort."""
        low, high = (int(v) for v in np.searchsorted(self.first, [start, self.first[-1] + 1]))
        own = self.of_first(cohort)
        if not low <= own.start < high:
            return [slice(low, high)]
        return [slice(low, own.start), slice(own.stop, high)]

    def seen(self, rows: slice, pair: tuple[int, int] | None) -> Rows:
        """Those of the rows that are seen in both periods."""
        if self.present is None or pair is None:
            return rows
        both = self.present[rows][:, list(pair)].all(axis=1)
        return np.asarray(rows.start + np.flatnonzero(both))


def counts_of_units(
    panel: UnitPanel, plan: CellPlan
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Treated and control units of each cell that are seen in both of its periods."""
    present, firsts = panel.present, np.unique(panel.first)
    parts = [present[panel.first == f].astype(np.float64) for f in firsts]
    both = np.stack([(part.T @ part)[plan.time, plan.base] for part in parts], axis=1)
    treated, control = plan.treated(firsts) * both, plan.controls(firsts) * both
    return treated.sum(axis=1).astype(np.int64), control.sum(axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Fit:
    """The models of some cells of a cohort, and what their influence values need.

    L : (c or 1, m), the changes of the cells from the outcomes of the c `periods`
    pair : periods of the cell where units have gaps
    beta, B : (p, m);  toward : (p,), A^-1 times the moments that the regression serves
    times : (m,), of the cells;  level : (m,), mean outcome of the treated then
    """

    cells: NDArray[np.int64]
    times: NDArray[np.int64]
    level: NDArray[np.float64]
    cohort: int
    controls_from: int
    period: int
    pair: tuple[int, int] | None
    periods: NDArray[np.int64]
    L: NDArray[np.float64]
    logit: Logit | None
    max_propensity: float
    beta: NDArray[np.float64]
    B: NDArray[np.float64]
    toward: NDArray[np.float64]
    sum_treated: float
    sum_control: float
    eta_treated: NDArray[np.float64]
    eta_control: NDArray[np.float64]
    n_trimmed: int

    def influence(self, rows: ModelRows, part: slice, *, treated: bool) -> NDArray[np.float64]:
        """Influence values of units on one side, (r, m); 0 where a unit is not in the cell."""
        at = rows.seen(part, self.pair)
        side = _Side.of(rows, [at], self.period, self.pair or self.periods)
        X, w = side.X, side.weight
        odds, s = np.zeros(len(X)), np.zeros(len(X))
        if self.logit is not None:
            p = self.logit.propensity(X)
            odds = w * odds_of(p, self.max_propensity)
            s = -w * (1 - p) if treated else w * p
        if treated:
            u = w / self.sum_treated
            v, eta = -u, self.eta_treated
        else:
            v, eta = odds / self.sum_control, self.eta_control
            u = -v - w * (X @ self.toward)
        found = u[:, None] * (np.hstack([side.Y, X]) @ np.vstack([self.L, -self.beta]))
        found += np.column_stack([v, s[:, None] * X]) @ np.vstack([eta, self.B])
        if isinstance(at, slice):
            return np.asarray(found)
        whole = np.zeros((part.stop - part.start, found.shape[1]))
        whole[at - part.start] = found
        return whole

    def of_levels(
        self, rows: ModelRows, part: slice, weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Influence values of treated units on sums of levels by weights (m, A), (r, A)."""
        at = rows.seen(part, self.pair)
        off = rows.levels(at, self.times) - self.level
        w = np.ones(len(off)) if rows.weight is None else rows.weight[at, self.period]
        found = (w / self.sum_treated)[:, None] * (off @ weights)
        if isinstance(at, slice):
            return np.asarray(found)
        whole = np.zeros((part.stop - part.start, found.shape[1]))
        whole[at - part.start] = found
        return whole


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Covariates, outcomes (or one change) and weights of the treated or of the controls."""

    X: NDArray[np.float64]
    Y: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        rows: ModelRows,
        parts: Sequence[Rows],
        period: int,
        outcomes: tuple[int, int] | NDArray[np.int64],
    ) -> _Side:
        """Read parts of the rows, one after another: outcomes of periods, or a pair's change."""
        X = _joined([rows.design(part, period) for part in parts])
        weight = np.ones(len(X))
        if rows.weight is not None:
            weight = _joined([rows.weight[part, period] for part in parts])
        if not isinstance(outcomes, tuple):
            return cls(X, _joined([rows.outcomes(part, outcomes) for part in parts]), weight)
        now, base = outcomes
        change = _joined([rows.Y[part, now] - rows.Y[part, base] for part in parts])
        return cls(X, change[:, None], weight)


def odds_of(p: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Odds p / (1 - p), 0 where the propensity is too near 1."""
    return np.where(p < most, p / np.where(p < most, 1 - p, 1.0), 0.0)


def _alike(rows: ModelRows, plan: CellPlan) -> list[NDArray[np.int64]]:
    """Cells that share their units, covariates and weights, and so their models."""
    key = [plan.cohort, plan.controls_from]
    if rows.by_base:
        key.append(plan.base)
    if rows.present is not None:
        key += [plan.time, plan.base]
    code = np.unique(np.column_stack(key), axis=0, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(code == j) for j in range(code.max() + 1)]


def _fitted(
    rows: ModelRows, plan: CellPlan, cells: NDArray[np.int64], asked: Asked, last: _Fit | None
) -> _Fit:
    """Fit the models of cells that share them; `last` is the fit of the cells before."""
    one = cells[0]
    cohort, start, period = int(plan.first[one]), int(plan.controls_from[one]), int(plan.base[one])
    pair = None if rows.present is None else (int(plan.time[one]), period)
    used = np.concatenate([plan.time[cells], plan.base[cells]])
    periods, at = np.unique(used, return_inverse=True)
    L = np.ones((1, 1))
    if pair is None:
        L = np.zeros((len(periods), len(cells)))
        L[at[: len(cells)], np.arange(len(cells))] += 1
        L[at[len(cells) :], np.arange(len(cells))] -= 1
    parts = [rows.seen(part, pair) for part in rows.controls(cohort, start)]
    own = rows.seen(rows.of_first(cohort), pair)
    treated = _Side.of(rows, [own], period, pair or periods)
    control = _Side.of(rows, parts, period, pair or periods)
    label = asked.labels[cohort]
    check_weighed(treated.weight, control.weight, label)
    logit = None
    odds = np.zeros(len(control.X))
    n_trimmed = 0
    if asked.propensity:
        near = None if last is None or last.cohort != cohort else last.logit
        logit = logit_of(treated.X, control.X, treated.weight, control.weight, asked, label, near)
        p = logit.propensity(control.X)
        odds = control.weight * odds_of(p, asked.max_propensity)
        n_trimmed = int((p >= asked.max_propensity).sum())
        check_overlap(odds, asked.max_propensity, label)
    return _Fit(
        cells=cells,
        times=plan.time[cells],
        level=treated.weight @ rows.levels(own, plan.time[cells]) / treated.weight.sum(),
        cohort=cohort,
        controls_from=start,
        period=period,
        pair=pair,
        periods=periods,
        L=L,
        logit=logit,
        max_propensity=asked.max_propensity,
        n_trimmed=n_trimmed,
        **_solved(treated, control, odds, logit, L, asked, label),
    )


def _solved(
    treated: _Side,
    control: _Side,
    odds: NDArray[np.float64],
    logit: Logit | None,
    L: NDArray[np.float64],
    asked: Asked,
    label: JsonScalar,
) -> dict[str, Any]:
    """Coefficients and means of a fit, from sums over its units."""
    p, m = treated.X.shape[1], L.shape[1]
    sums = (treated.weight[:, None] * treated.X).T @ np.hstack([treated.X, treated.Y])
    sum_treated = float(sums[0, 0])
    mean_x, mean_y = sums[0, :p] / sum_treated, sums[0, p:] / sum_treated
    beta, toward = np.zeros((p, m)), np.zeros(p)
    eta_control, B, sum_control = np.zeros(m), np.zeros((p, m)), 1.0
    inverse = None
    if asked.regression:
        weighted = control.weight[:, None] * control.X
        inverse = regression_inverse(
            weighted.T @ control.X, asked, f"{len(control.X)} controls of cohort {label!r}"
        )
        beta = inverse @ (weighted.T @ control.Y) @ L
        toward = inverse @ mean_x
    if logit is not None:
        weighted = odds[:, None] * control.X
        sum_control = float(odds.sum())
        by_x, by_y = weighted.T @ control.X / sum_control, weighted.T @ control.Y / sum_control
        eta_control = by_y[0] @ L - by_x[0] @ beta
        B = logit.inverse @ (by_y @ L - by_x @ beta - np.outer(by_x[:, 0], eta_control))
        if inverse is not None:
            toward = inverse @ (mean_x - by_x[0])
    return {
        "beta": beta,
        "B": B,
        "toward": toward,
        "sum_treated": sum_treated,
        "sum_control": sum_control,
        "eta_treated": mean_y @ L - mean_x @ beta,
        "eta_control": eta_control,
    }


def logit_of(
    X_treated: NDArray[np.float64],
    X_control: NDArray[np.float64],
    w_treated: NDArray[np.float64],
    w_control: NDArray[np.float64],
    asked: Asked,
    label: JsonScalar,
    near: Logit | None = None,
) -> Logit:
    """The propensity of both sides together; `near` is one that may be close."""
    side = np.repeat([1.0, 0.0], [len(X_treated), len(X_control)])
    w = np.concatenate([w_treated, w_control])
    return fit_logit(np.vstack([X_treated, X_control]), side, w, asked.names, label, near)


def regression_inverse(A: NDArray[np.float64], asked: Asked, who: str) -> NDArray[np.float64]:
    """(X'WX)^-1 of some units.

    Raises
    ------
    ValueError
        If a covariate is determined by those before it.
    """
    inverse = inverted(A)
    if inverse is not None:
        return inverse
    worst = next(j for j in range(1, len(A)) if inverted(A[: j + 1, : j + 1]) is None)
    raise ValueError(
        f"covariate {asked.names[worst - 1]!r} is constant, or determined by the other covariates, "
        f"among the {who}; drop it, or use fewer covariates"
    )


def check_overlap(odds: NDArray[np.float64], most: float, label: JsonScalar) -> None:
    """Raise if no control has weight."""
    if not odds.any():
        raise ValueError(
            f"all controls of cohort {label!r} have a propensity of {most} or more, and so no "
            "weight; use method='reg', or drop or coarsen covariates"
        )


def check_weighed(
    treated: NDArray[np.float64], control: NDArray[np.float64], label: JsonScalar
) -> None:
    """Raise if a side has no weight."""
    if not treated.any() or not control.any():
        side = "units" if not treated.any() else "controls"
        raise ValueError(f"the weights of the {side} of cohort {label!r} are all 0; correct them")


def _classes(
    rows: ModelRows, plan: CellPlan, fits: Sequence[_Fit], overall: NDArray[np.float64]
) -> list[RowClass]:
    """Units first treated at one time: the cells in which they play a role, share and levels."""
    return [_class_of(rows, plan, fits, overall, int(first)) for first in np.unique(rows.first)]


def _class_of(
    rows: ModelRows,
    plan: CellPlan,
    fits: Sequence[_Fit],
    overall: NDArray[np.float64],
    first: int,
) -> RowClass:
    """The class of one first treated period."""
    own = [fit for fit in fits if fit.cohort == first]
    others = [fit for fit in fits if fit.cohort != first and first >= fit.controls_from]
    here = np.flatnonzero(plan.cohorts == first)
    last = len(plan) + (here[0] if len(here) else len(plan.cohorts))
    after = len(plan) + len(plan.cohorts) + 1
    further = np.arange(after, after + (overall.shape[1] if own else 0))
    columns = np.concatenate([*[fit.cells for fit in own + others], [last], further])

    def influence(part: slice) -> NDArray[np.float64]:
        """Influence values of some of the units."""
        found = [fit.influence(rows, part, treated=True) for fit in own]
        found += [fit.influence(rows, part, treated=False) for fit in others]
        found.append(rows.share[part, None])
        if own:
            levels = [fit.of_levels(rows, part, overall[fit.cells]) for fit in own]
            found.append(np.sum(levels, axis=0))
        return np.hstack(found)

    part = rows.of_first(first)
    return RowClass(part.start, part.stop, columns, influence)


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Parts one after another; a single one as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _constant(values: NDArray[np.float64]) -> bool:
    """Whether no unit's value changes over time; NaN where a unit is not seen."""
    low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
    return bool((low == high).all())


def scaled(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A covariate about its mean, in standard deviations.

    Raises
    ------
    ValueError
        If it does not vary.
    """
    centred = values - np.nanmean(values)
    scale = float(np.sqrt(np.nanmean(centred**2)))
    if np.nanmax(values) == np.nanmin(values) or not scale > 0:
        raise ValueError(f"covariate {name!r} must vary; it is constant; drop it")
    return np.asarray(centred / scale)
