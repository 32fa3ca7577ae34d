"""Group-time effects where every row is another unit: four cells instead of changes.

Sant'Anna and Zhao (2020): `dr` is the locally efficient form, eq. 3.4, with four regressions;
`reg` has two, of the controls before and after; `ipw` is Abadie's with weights that sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.frame import Table, codes, column_reader, read_columns
from causal.panel.adoption import check_adoption, declared, first_by_cohort, later_cohorts
from causal.panel.times import Times, read_time_column
from causal.panel.unit_panel import check_weights, refuse_missing, warn_gaps
from causal.staggered.aggregation import KINDS, overall_weights
from causal.staggered.group_time_cells import CellEstimates, CellPlan
from causal.staggered.group_time_models import (
    Asked,
    Method,
    check_overlap,
    check_weighed,
    logit_of,
    odds_of,
    regression_inverse,
    scaled,
)
from causal.staggered.influence_sums import RowClass, influence_products, with_shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from causal.staggered.propensity import Logit
    from causal.values import JsonScalar


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CrossSections:
    """Rows of different units, sorted by period, first treated period and cluster.

    Parameters
    ----------
    times : Times
    outcome : float64 array (n,)
        Off its period's mean, on which no effect depends.
    level : float64 array (T,)
        Those means.
    later : bool array (n,)
        Whether a unit is treated after the last period.
    period, first : int64 arrays (n,)
    X : float64 array (n, p)
        1 and the scaled covariates `names`.
    weight : float64 array (n,)
    cluster : int64 array (n,), optional
    """

    times: Times
    outcome: NDArray[np.float64]
    level: NDArray[np.float64]
    later: NDArray[np.bool_]
    period: NDArray[np.int64]
    first: NDArray[np.int64]
    X: NDArray[np.float64]
    names: tuple[str, ...]
    weight: NDArray[np.float64]
    cluster: NDArray[np.int64] | None

    def of(self, period: int, first: int) -> slice:
        """Rows of a period whose units are first treated then."""
        start, stop = self._within(period, [first, first + 1])
        return slice(start, stop)

    def controls(self, period: int, cohort: int, start: int) -> list[slice]:
        """Rows of a period whose units are first treated at `start` or later, or never."""
        low, high = self._within(period, [start, np.iinfo(np.int64).max])
        own = self.of(period, cohort)
        if not low <= own.start < high:
            return [slice(low, high)]
        return [slice(low, own.start), slice(own.stop, high)]

    def count(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Distinct first treated periods (f,), and rows by them and period (f, T)."""
        firsts, code = np.unique(self.first, return_inverse=True)
        T = len(self.times)
        count = np.bincount(code.reshape(-1) * T + self.period, minlength=len(firsts) * T)
        return firsts, count.reshape(-1, T).astype(np.int64)

    def select(self, keep: NDArray[np.bool_]) -> CrossSections:
        """Some of the rows."""
        return self.rows(np.flatnonzero(keep))

    def rows(self, at: NDArray[np.int64]) -> CrossSections:
        """Rows at these places, in this order."""
        return replace(
            self,
            outcome=self.outcome[at],
            later=self.later[at],
            period=self.period[at],
            first=self.first[at],
            X=self.X[at],
            weight=self.weight[at],
            cluster=None if self.cluster is None else self.cluster[at],
        )

    def treated_from(self, first: NDArray[np.int64]) -> CrossSections:
        """With these first treated periods (n,), and sorted by them."""
        keys = (first, self.period) if self.cluster is None else (self.cluster, first, self.period)
        return replace(self, first=first).rows(np.lexsort(keys))

    def _within(self, period: int, firsts: Sequence[int]) -> tuple[int, int]:
        """Where rows of these first treated periods begin in a period."""
        low, high = np.searchsorted(self.period, [period, period + 1])
        start, stop = low + np.searchsorted(self.first[low:high], firsts)
        return int(start), int(stop)


def read_cross_sections(
    table: Table,
    *,
    outcome: str,
    time: str,
    cohort: str,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    covariates: Sequence[str] = (),
    weight: str | None = None,
    cluster: str | None = None,
) -> CrossSections:
    """Read rows; columns are known to be in the table.

    Raises
    ------
    ValueError, TypeError
        On values that are missing or of another kind, nobody treated, nobody to compare with.
    """
    numeric = [outcome, *covariates, *([] if weight is None else [weight])]
    columns = read_columns(table, numeric=numeric, labels=[] if cluster is None else [cluster])
    column = column_reader(table, [time, cohort])
    period, start = (read_time_column(name, column(name)) for name in (time, cohort))
    refuse_missing(time, int((period.codes < 0).sum()))
    times = Times(period.kind, period.levels)
    said = declared(unit="rows", cohort=cohort, never=never)
    first = first_by_cohort(said, times, start.kind, start.levels, start.codes)
    check_adoption(first, period.codes, times, unit=None, column=said.column)
    warn_gaps(times, time, stacklevel=6)
    base = float(columns[outcome][0])
    y = columns[outcome] - base
    mean = np.bincount(period.codes, y) / np.bincount(period.codes)
    y -= mean[period.codes]
    w = np.ones(len(y)) if weight is None else check_weights(columns[weight], weight)
    labels = None if cluster is None else codes(columns[cluster])[0]
    rows = CrossSections(
        times=times,
        outcome=y,
        level=base + mean,
        later=later_cohorts(said, times, start.levels, start.codes),
        period=period.codes,
        first=first,
        X=np.column_stack([np.ones(len(y)), *(scaled(name, columns[name]) for name in covariates)]),
        names=tuple(covariates),
        weight=w,
        cluster=labels,
    )
    return rows.treated_from(first)


def counts_of_cross_sections(
    rows: CrossSections, plan: CellPlan
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Treated and control rows of each cell, 0 if one of its two periods has none."""
    firsts, count = rows.count()
    found = []
    for side in (plan.treated(firsts), plan.controls(firsts)):
        now, then = ((side * count[:, at].T).sum(axis=1) for at in (plan.time, plan.base))
        rows_in = np.where(plan.time == plan.base, now, now + then)
        found.append(np.where((now > 0) & (then > 0), rows_in, 0))
    return found[0], found[1]


def cells_from_cross_sections(
    rows: CrossSections, plan: CellPlan, *, method: Method, max_propensity: float
) -> CellEstimates:
    """Estimates and joint covariance of all cells, rows (or clusters) independent."""
    asked = Asked(method if rows.names else "reg", max_propensity, rows.names, rows.times.labels)
    fits = [_fitted(rows, plan, k, asked) for k in range(len(plan)) if _estimated(plan, k)]
    estimate = np.zeros(len(plan))
    for fit in fits:
        estimate[fit.cell] = fit.estimate
    total = rows.weight.sum()
    share = np.array([rows.weight[rows.first == g].sum() for g in plan.cohorts]) / total
    n_treated, n_control = counts_of_cross_sections(rows, plan)
    level = np.array([_mean_level(rows, t, g) for t, g in zip(plan.time, plan.first, strict=True)])
    width = len(plan) + len(plan.cohorts) + 1 + len(KINDS)
    classes = _classes(rows, plan, fits, overall_weights(plan, share))
    products = influence_products(classes, width, rows.cluster)
    firsts, count = rows.count()
    after = plan.event_time >= 0
    treated = (plan.treated(firsts) * count[:, plan.time].T).sum(axis=1)[after]
    weighed = bool((rows.weight != rows.weight[0]).any())
    return CellEstimates(
        plan=plan,
        estimate=estimate,
        level=level,
        joint=with_shares(products, len(plan), share),
        share=share,
        n_cohort=np.array([(rows.first == g).sum() for g in plan.cohorts], dtype=np.int64),
        n_treated=n_treated,
        n_control=n_control,
        treated_cells=None if weighed else int(treated.sum()),
        n_trimmed=sum(fit.n_trimmed for fit in fits),
    )


def _mean_level(rows: CrossSections, period: int, first: int) -> float:
    """Mean outcome of rows of a period and first treated period."""
    part = rows.of(period, first)
    return float(rows.level[period] + np.average(rows.outcome[part], weights=rows.weight[part]))


def _estimated(plan: CellPlan, cell: int) -> bool:
    """Whether a cell is not 0 by definition."""
    return bool(plan.time[cell] != plan.base[cell])


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Covariates, outcome and weights of some rows."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    w: NDArray[np.float64]

    @classmethod
    def of(cls, rows: CrossSections, parts: Sequence[slice]) -> _Rows:
        """Read parts, one after another."""
        found = [
            np.concatenate([values[p] for p in parts])
            for values in (rows.X, rows.outcome, rows.weight)
        ]
        return cls(found[0], found[1], found[2])

    def regressed(self, asked: Asked, who: str) -> tuple[Any, Any]:
        """Coefficients and (X'WX)^-1."""
        weighted = self.w[:, None] * self.X
        inverse = regression_inverse(weighted.T @ self.X, asked, f"{len(self.X)} {who}")
        return inverse @ np.einsum("ip,i->p", weighted, self.y), inverse

    def mean_x(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted mean of the covariates."""
        return np.asarray(np.einsum("ip,i->p", self.X, w) / w.sum())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Fit:
    """The models of a cell; pairs and mappings are by period: 1 for the later role, 0 the base's.

    An influence value is, up to the sign of the period, with e the residual of the side's own
    regression (or the distance to its mean): w e x'toward, and for the treated w (x - m)'tilt.
    """

    cell: int
    cohort: int
    controls_from: int
    periods: Mapping[int, int]
    estimate: float
    logit: Logit | None
    max_propensity: float
    B: NDArray[np.float64]
    sum_treated: float
    mean_x: NDArray[np.float64]
    tilt: NDArray[np.float64]
    treated: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
    control: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64], float, float]]
    n_trimmed: int

    def influence(self, rows: CrossSections, part: slice, period: int) -> NDArray[np.float64]:
        """Influence values (r,) of rows of one first treated period and one period."""
        X, y, w = rows.X[part], rows.outcome[part], rows.weight[part]
        after = self.periods[period]
        sign = 1.0 if after else -1.0
        p = np.zeros(len(y)) if self.logit is None else self.logit.propensity(X)
        tail = X @ self.B
        if rows.first[part.start] == self.cohort:
            beta, toward = self.treated[after]
            found = sign * w * (y - X @ beta) * (X @ toward)
            found += w * ((X - self.mean_x) @ self.tilt) / self.sum_treated
            return np.asarray(found - (w * (1 - p) * tail if self.logit is not None else 0.0))
        beta, toward, eta, total = self.control[after]
        e = y - X @ beta
        found = -sign * w * e * (X @ toward)
        if self.logit is not None:
            found -= sign * w * odds_of(p, self.max_propensity) / total * (e - eta)
        return np.asarray(found + w * p * tail)


def _fitted(rows: CrossSections, plan: CellPlan, cell: int, asked: Asked) -> _Fit:
    """Fit the models of one cell."""
    cohort, start = int(plan.first[cell]), int(plan.controls_from[cell])
    periods = {int(plan.time[cell]): 1, int(plan.base[cell]): 0}
    T = {after: _Rows.of(rows, [rows.of(t, cohort)]) for t, after in periods.items()}
    C = {after: _Rows.of(rows, rows.controls(t, cohort, start)) for t, after in periods.items()}
    label = asked.labels[cohort]
    for after in (0, 1):
        check_weighed(T[after].w, C[after].w, label)
    whole = _Rows(*(np.concatenate([getattr(T[0], n), getattr(T[1], n)]) for n in ("X", "y", "w")))
    controls = np.concatenate([C[0].X, C[1].X]), np.concatenate([C[0].w, C[1].w])
    logit = None
    if asked.propensity:
        logit = logit_of(whole.X, controls[0], whole.w, controls[1], asked, label)
    solved = _Solved.of(T, C, whole.mean_x(whole.w), logit, asked, label)
    return _Fit(
        cell=cell,
        cohort=cohort,
        controls_from=start,
        periods=periods,
        estimate=solved.estimate,
        logit=logit,
        max_propensity=asked.max_propensity,
        B=solved.B,
        sum_treated=float(whole.w.sum()),
        mean_x=whole.mean_x(whole.w),
        tilt=solved.tilt,
        treated=solved.treated,
        control=solved.control,
        n_trimmed=solved.n_trimmed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """What the four cells give: see `_Fit`."""

    estimate: float
    B: NDArray[np.float64]
    tilt: NDArray[np.float64]
    treated: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
    control: dict[int, tuple[NDArray[np.float64], NDArray[np.float64], float, float]]
    n_trimmed: int

    @classmethod
    def of(
        cls,
        T: Mapping[int, _Rows],
        C: Mapping[int, _Rows],
        mean_x: NDArray[np.float64],
        logit: Logit | None,
        asked: Asked,
        label: JsonScalar,
    ) -> _Solved:
        """Regress, weigh and take means in each of the four cells."""
        p = len(mean_x)
        estimate, n_trimmed = 0.0, 0
        tilt, pull = np.zeros(p), np.zeros(p)
        treated, control = {}, {}
        for after, sign in ((1, 1.0), (0, -1.0)):
            side, other = T[after], C[after]
            beta, inverse = np.zeros(p), np.zeros((p, p))
            if asked.regression:
                beta, inverse = other.regressed(asked, f"controls of cohort {label!r}")
            own, own_toward = _own(side, mean_x, asked, label)
            tilt += sign * ((own if asked.method == "dr" else 0.0) - beta)
            estimate += sign * float((mean_x if asked.method == "dr" else _unit(p)) @ own)
            treated[after] = (own, own_toward)
            eta, total, toward = 0.0, 1.0, inverse @ mean_x
            if logit is not None:
                q = logit.propensity(other.X)
                odds = other.w * odds_of(q, asked.max_propensity)
                check_overlap(odds, asked.max_propensity, label)
                n_trimmed += int((q >= asked.max_propensity).sum())
                total, e = float(odds.sum()), other.y - other.X @ beta
                eta = float(np.sum(odds * e)) / total
                pull += sign * np.einsum("ip,i->p", other.X, odds * (e - eta)) / total
                toward = inverse @ (mean_x - other.mean_x(odds))
            estimate -= sign * (float(mean_x @ beta) + eta)
            control[after] = (beta, toward, eta, total)
        B = np.zeros(p) if logit is None else logit.inverse @ pull
        return cls(estimate, B, tilt, treated, control, n_trimmed)


def _own(
    side: _Rows, mean_x: NDArray[np.float64], asked: Asked, label: JsonScalar
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Regression (`dr`) or mean of treated outcomes in a period, and where its error enters."""
    if asked.method == "dr":
        beta, inverse = side.regressed(asked, f"units of cohort {label!r}")
        return beta, inverse @ mean_x
    first = _unit(len(mean_x))
    return first * np.sum(side.w * side.y) / side.w.sum(), first / side.w.sum()


def _unit(p: int) -> NDArray[np.float64]:
    """1, 0, 0, ..."""
    return np.asarray(np.eye(p)[0])


def _classes(
    rows: CrossSections, plan: CellPlan, fits: Sequence[_Fit], overall: NDArray[np.float64]
) -> list[RowClass]:
    """Rows of one period and first treated period, and the cells in which they play a role."""
    firsts, count = rows.count()
    return [
        _class_of(rows, plan, fits, overall, int(period), int(firsts[f]))
        for f, period in np.argwhere(count > 0)
    ]


def _class_of(
    rows: CrossSections,
    plan: CellPlan,
    fits: Sequence[_Fit],
    overall: NDArray[np.float64],
    period: int,
    first: int,
) -> RowClass:
    """The class of one period and first treated period."""
    mine = [
        fit
        for fit in fits
        if period in fit.periods and (fit.cohort == first or first >= fit.controls_from)
    ]
    here = np.flatnonzero(plan.cohorts == first)
    last = len(plan) + (here[0] if len(here) else len(plan.cohorts))
    own = np.flatnonzero((plan.first == first) & (plan.time == period) & (plan.event_time >= 0))
    after = len(plan) + len(plan.cohorts) + 1
    levels = range(after, after + (len(KINDS) if len(own) else 0))
    columns = np.array([*(fit.cell for fit in mine), last, *levels], dtype=np.int64)
    total = rows.weight.sum()

    def influence(part: slice) -> NDArray[np.float64]:
        """Influence values of some of the rows."""
        found = [fit.influence(rows, part, period) for fit in mine]
        found.append(rows.weight[part] / total)
        if len(own):
            off = rows.outcome[part] + rows.level[period] - level
            found.append((rows.weight[part] * off / whole)[:, None] * overall[own[0]])
        return np.column_stack(found)

    part = rows.of(period, first)
    whole = rows.weight[part].sum()
    level = _mean_level(rows, period, first) if len(own) else 0.0
    return RowClass(part.start, part.stop, columns, influence)
