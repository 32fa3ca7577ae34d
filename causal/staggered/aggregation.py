"""Group-time effects put together: over all, by event time, by cohort, by calendar time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from causal.distributions import wald_test
from causal.effect import Effect, EffectCurve, WaldTest
from causal.effect_result import EffectResult
from causal.frame import check_one_of
from causal.values import is_number, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.staggered.group_time_cells import CellEstimates, CellPlan
    from causal.values import JsonScalar

__all__ = ["Aggregation"]

Kind = Literal["simple", "event", "cohort", "calendar"]

KINDS = ("simple", "event", "cohort", "calendar")
_WEIGHTS = {
    "simple": "treated cells, each by its cohort's share",
    "event": "plain mean over event times >= 0, cohorts by their shares within each",
    "cohort": "cohorts by their shares, plain mean over periods within each",
    "calendar": "plain mean over periods, cohorts by their shares within each",
}
_INDEX = {"simple": "effect", "event": "event_time", "cohort": "cohort", "calendar": "time"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aggregation(EffectResult):
    """Group-time effects aggregated along one way, with the uncertainty of the cohorts' shares.

    Parameters
    ----------
    effect : Effect
        The overall number; ``details["weights"]`` says with which weights.
    curve : EffectCurve
        Over event time, cohort or calendar time; one point for ``"simple"``.
    kind : {"simple", "event", "cohort", "calendar"}
    n_treated : mapping from label to int
        Units of the cohorts behind each point.
    pretrend : WaldTest, optional
        That all event times before treatment (and anticipation) are 0; for ``"event"``.
    """

    effect: Effect
    curve: EffectCurve
    kind: str
    n_treated: Mapping[JsonScalar, int]
    pretrend: WaldTest | None = None

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a point: estimate, standard error, both kinds of limits, treated units."""
        frame = self.curve.to_frame(level)
        frame["n_treated"] = [self.n_treated[label] for label in self.curve.index]
        return frame

    def plot(self, ax: Axes | None = None, *, simultaneous: bool = True) -> Axes:
        """Draw points with pointwise bars and the simultaneous band; returns the axes."""
        from causal.staggered.group_time_plots import draw_aggregation  # noqa: PLC0415 — when used

        return draw_aggregation(self, ax, simultaneous=simultaneous)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CellTable:
    """Cells, shares and their joint covariance; fields as in `GroupTimeEffects`."""

    cells: pd.DataFrame
    curve: EffectCurve
    shares: pd.DataFrame
    joint_covariance: NDArray[np.float64]
    times: tuple[JsonScalar, ...]
    anticipation: int
    baselines: pd.DataFrame


def aggregated(
    result: CellTable,
    kind: Kind,
    *,
    min_event: int | None = None,
    max_event: int | None = None,
    balance: int | None = None,
) -> Aggregation:
    """Aggregate; see `GroupTimeEffects.aggregate`."""
    check_one_of(kind, "kind", KINDS)
    cells = _Cells.of(result)
    keep = _window(cells, min_event, max_event)
    if balance is not None:
        keep &= _balanced(cells, result, balance, kind)
    if kind != "event":
        keep &= cells.event >= 0
    if not (keep & (cells.event >= 0)).any():
        raise ValueError(
            "no cell from event time 0 on is left; widen min_event and max_event, or choose a "
            f"smaller balance; event times are {cells.event.min()} to {cells.event.max()}"
        )
    points, labels = _points(cells, keep, kind)
    J = np.array([_gradient(cells, rows, kind) for rows in points])
    estimate = np.array([cells.mean(rows, kind) for rows in points])
    overall, into = _overall(cells, points, labels, kind, estimate, J)
    cov = J @ result.joint_covariance @ J.T
    curve = replace(
        result.curve,
        index=labels,
        index_name=_INDEX[kind],
        estimate=estimate,
        cov=(cov + cov.T) / 2,
    )
    variance = float(into @ result.joint_covariance @ into)
    effect = Effect(
        estimate=overall,
        std_error=math.sqrt(max(variance, 0.0)),
        estimand=curve.estimand,
        method=curve.method,
        n_obs=curve.n_obs,
        n_clusters=curve.n_clusters,
        details={**curve.details, "weights": _WEIGHTS[kind]},
    )
    if keep[cells.event >= 0].all():
        effect = _with_baseline(effect, result.baselines, kind)
    n_treated = [int(cells.n[np.unique(cells.cohort[rows])].sum()) for rows in points]
    return Aggregation(
        effect=effect,
        curve=curve,
        kind=kind,
        n_treated=dict(zip(labels, n_treated, strict=True)),
        pretrend=_pretrend(curve, result.anticipation) if kind == "event" else None,
    )


def overall_weights(plan: CellPlan, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the K cells in the overall effects of all kinds, (K, A), at these shares."""
    cells = _Cells.planned(plan, np.zeros(len(plan)), share)
    return np.column_stack([_headline(cells, kind)[1][: len(plan)] for kind in KINDS])


def baselines(found: CellEstimates) -> pd.DataFrame:
    """What the treated would have had without treatment, for the overall effect of each kind.

    One row a kind: baseline, its variance, its covariance with the effect, treated_cells.
    The mean outcome of the treated is aggregated as the effect is, and the effect taken off.
    """
    K, G = len(found.plan), len(found.share)
    rows = []
    for a, kind in enumerate(KINDS):
        theta, of_theta = _headline(_Cells.planned(found.plan, found.estimate, found.share), kind)
        level, of_level = _headline(_Cells.planned(found.plan, found.level, found.share), kind)
        J = np.zeros((2, len(found.joint)))
        J[0, : K + G], J[1, K : K + G], J[1, K + G + a] = of_theta, of_level[K:], 1.0
        J[1] -= J[0]
        V = J @ found.joint @ J.T
        rows.append((kind, level - theta, max(float(V[1, 1]), 0.0), float(V[0, 1])))
    names = ["kind", "baseline", "baseline_variance", "baseline_cov"]
    table = pd.DataFrame(rows, columns=names)
    counts: list[Any] = [found.treated_cells] * len(KINDS)
    return table.assign(treated_cells=counts)


def _with_baseline(effect: Effect, table: pd.DataFrame, kind: str) -> Effect:
    """The effect with its baseline; the total too where it is the mean over treated cells."""
    row = table.iloc[KINDS.index(kind)]
    details = dict(effect.details)
    if kind == "simple" and row["treated_cells"] is not None:
        n = int(row["treated_cells"])
        details |= {"treated_cells": n, "total": effect.estimate * n}
    return replace(
        effect,
        baseline=float(row["baseline"]),
        baseline_variance=float(row["baseline_variance"]),
        baseline_cov=float(row["baseline_cov"]),
        details=details,
    )


def _headline(cells: _Cells, kind: str) -> tuple[float, NDArray[np.float64]]:
    """The overall number of a kind over all treated cells, and its derivative."""
    points, labels = _points(cells, cells.event >= 0, kind)
    J = np.array([_gradient(cells, rows, kind) for rows in points])
    estimate = np.array([cells.mean(rows, kind) for rows in points])
    return _overall(cells, points, labels, kind, estimate, J)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Cells as arrays: cohort code, event time, calendar code, estimate; shares and units."""

    cohort: NDArray[np.int64]
    event: NDArray[np.int64]
    period: NDArray[np.int64]
    estimate: NDArray[np.float64]
    share: NDArray[np.float64]
    n: NDArray[np.int64]
    cohorts: tuple[JsonScalar, ...]
    times: tuple[JsonScalar, ...]

    @classmethod
    def of(cls, result: CellTable) -> _Cells:
        """Read a result."""
        cohorts = tuple(result.shares["cohort"].tolist())
        place = {label: j for j, label in enumerate(cohorts)}
        when = {label: j for j, label in enumerate(result.times)}
        return cls(
            cohort=np.array([place[c] for c in result.cells["cohort"].tolist()], dtype=np.int64),
            event=result.cells["event_time"].to_numpy(dtype=np.int64),
            period=np.array([when[t] for t in result.cells["time"].tolist()], dtype=np.int64),
            estimate=result.cells["estimate"].to_numpy(dtype=np.float64),
            share=result.shares["share"].to_numpy(dtype=np.float64),
            n=result.shares["n_units"].to_numpy(dtype=np.int64),
            cohorts=cohorts,
            times=tuple(result.times),
        )

    @classmethod
    def planned(
        cls, plan: CellPlan, estimate: NDArray[np.float64], share: NDArray[np.float64]
    ) -> _Cells:
        """Cells of a plan, with codes for labels."""
        return cls(
            cohort=plan.cohort,
            event=plan.event_time,
            period=plan.time,
            estimate=estimate,
            share=share,
            n=np.zeros(len(share), dtype=np.int64),
            cohorts=tuple(range(len(share))),
            times=tuple(range(plan.n_periods)),
        )

    def weights(self, rows: NDArray[np.int64], kind: str) -> NDArray[np.float64]:
        """Weights of some cells in their mean."""
        if kind == "cohort":
            return np.full(len(rows), 1.0 / len(rows))
        share = self.share[self.cohort[rows]]
        return np.asarray(share / share.sum())

    def mean(self, rows: NDArray[np.int64], kind: str) -> float:
        """Weighted mean of some cells."""
        return float(self.weights(rows, kind) @ self.estimate[rows])


def _window(cells: _Cells, low: int | None, high: int | None) -> NDArray[np.bool_]:
    """Cells within a window of event time."""
    keep = np.ones(len(cells.event), dtype=bool)
    for name, value in (("min_event", low), ("max_event", high)):
        if value is None:
            continue
        if not is_number(value) or value % 1 != 0:
            raise ValueError(f"{name} must be a whole number or None; got {value!r}")
        keep &= cells.event >= value if name == "min_event" else cells.event <= value
    return keep


def _balanced(cells: _Cells, result: CellTable, balance: object, kind: str) -> NDArray[np.bool_]:
    """Cells of cohorts that have every event time from 0 to `balance`, up to it."""
    last = whole_number("balance", balance, 0)
    if kind != "event":
        raise ValueError(f"balance is for kind='event'; got kind={kind!r}; leave it out")
    wanted = (cells.event >= 0) & (cells.event <= last)
    complete = np.bincount(cells.cohort[wanted], minlength=len(cells.cohorts)) == last + 1
    if not complete.any():
        raise ValueError(
            f"no cohort has every event time from 0 to balance={last}; choose a smaller balance"
        )
    earliest = last - len(result.times) + 1
    return np.asarray(complete[cells.cohort] & (cells.event <= last) & (cells.event >= earliest))


def _points(
    cells: _Cells, keep: NDArray[np.bool_], kind: str
) -> tuple[list[NDArray[np.int64]], tuple[JsonScalar, ...]]:
    """Cells of each point, and its label."""
    if kind == "simple":
        return [np.flatnonzero(keep)], ("all treated cells",)
    by = {"event": cells.event, "cohort": cells.cohort, "calendar": cells.period}[kind]
    values = np.unique(by[keep])
    points = [np.flatnonzero(keep & (by == v)) for v in values]
    names = {"event": None, "cohort": cells.cohorts, "calendar": cells.times}[kind]
    labels = values.tolist() if names is None else [names[v] for v in values]
    return points, tuple(labels)


def _gradient(cells: _Cells, rows: NDArray[np.int64], kind: str) -> NDArray[np.float64]:
    """Derivative of a point by the cells and by the shares, (K + G,).

    Of sum p_k ATT_k / sum p_k by p_g: the sum over cells of cohort g of ATT_k - theta, over sum
    p_k.
    """
    K = len(cells.estimate)
    found = np.zeros(K + len(cells.share))
    found[rows] = cells.weights(rows, kind)
    if kind != "cohort":
        off = cells.estimate[rows] - cells.mean(rows, kind)
        np.add.at(found, K + cells.cohort[rows], off / cells.share[cells.cohort[rows]].sum())
    return found


def _overall(
    cells: _Cells,
    points: list[NDArray[np.int64]],
    labels: tuple[JsonScalar, ...],
    kind: str,
    estimate: NDArray[np.float64],
    J: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """The overall number and its derivative."""
    if kind == "cohort":
        codes = [int(cells.cohort[rows[0]]) for rows in points]
        share = cells.share[codes]
        w = share / share.sum()
        theta = float(w @ estimate)
        into = w @ J
        into[len(cells.estimate) + np.array(codes)] += (estimate - theta) / share.sum()
        return theta, into
    after = np.array([kind != "event" or int(e) >= 0 for e in labels])  # type: ignore[arg-type]
    w = after / after.sum()
    return float(w @ estimate), w @ J


def _pretrend(curve: EffectCurve, anticipation: int) -> WaldTest | None:
    """That all event times before treatment and anticipation are 0."""
    before = np.array([int(e) < -anticipation for e in curve.index])  # type: ignore[arg-type]
    return pretrend_test(curve, before, curve.n_clusters or curve.n_obs)


def pretrend_test(curve: EffectCurve, before: NDArray[np.bool_], n: int) -> WaldTest | None:
    """That some points are 0, by Hotelling's F for n independent clusters.

    The chi-square that the covariance suggests rejects too often as soon as points are not few
    beside clusters. None without points, or with as many as there are clusters.
    """
    before = before & (curve.std_error > 0)
    if not before.any() or before.sum() >= n:
        return None
    test = wald_test(curve.estimate[before], curve.cov[np.ix_(before, before)], None)
    q, rest = test.df, n - test.df
    f = test.statistic * rest / (n * q)
    p = float(special.fdtrc(q, rest, f))
    return WaldTest(statistic=f, df=q, df_denom=float(rest), p_value=p)
