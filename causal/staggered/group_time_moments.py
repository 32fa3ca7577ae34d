"""Group-time effects without covariates, from means and cross products of cohorts alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.staggered.aggregation import KINDS, overall_weights
from causal.staggered.group_time_cells import CellEstimates, CellPlan
from causal.staggered.influence_sums import RowClass, influence_products, with_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.panel.cohort_moments import PanelMoments


def cells_from_moments(m: PanelMoments, plan: CellPlan, levels: PanelMoments) -> CellEstimates:
    """Changes of each cohort less those of its controls, with their joint covariance.

    Exact: the covariance of a cohort's changes is L (Q / n) L' / n for differences L, and units of
    a group deviate from the pooled mean of a cell by L (mean - pooled mean) besides. `levels` are
    the same groups' moments of the outcome itself, from which `m` may be off by unit.
    """
    share = np.array([m.n[m.first == g].sum() for g in plan.cohorts], dtype=np.int64)
    roles = _Roles.of(m, plan, levels, share / m.n_units)
    products = _by_unit(m, roles, levels) if m.cluster is None else _by_cluster(m, roles, levels)
    return CellEstimates(
        plan=plan,
        estimate=roles.mean_treated - roles.mean_control,
        level=roles.level,
        joint=with_shares(products, len(plan), share / m.n_units),
        share=share / m.n_units,
        n_cohort=share,
        n_treated=roles.n_treated,
        n_control=roles.n_control,
        treated_cells=int(roles.n_treated[plan.event_time >= 0].sum()),
    )


def counts_from_moments(
    m: PanelMoments, plan: CellPlan
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Treated and control units of each cell that are seen in both of its periods."""
    at, _, n = _kinds(m)
    return pair_counts(m.first[at], m.present[at], n, plan)


def pair_counts(
    first: NDArray[np.int64],
    present: NDArray[np.bool_],
    n: NDArray[np.int64],
    plan: CellPlan,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same from kinds of units: first treated position, periods present, count."""
    both = (present[:, plan.time] & present[:, plan.base]).T
    return (plan.treated(first) & both) @ n, (plan.controls(first) & both) @ n


def _kinds(
    m: PanelMoments,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Kinds of units (first treated period, periods present): one group of each, codes, units."""
    key = np.column_stack([m.first, np.packbits(m.present, axis=1)])
    _, at, code = np.unique(key, axis=0, return_index=True, return_inverse=True)
    code = code.reshape(-1)
    return at, code, np.bincount(code, m.n).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Roles:
    """Each kind of unit in each cell, and the pooled mean changes.

    code : int64 (groups,), the kind of each group
    factor : (K, kinds), 1/n_treated, -1/n_control or 0
    pooled : (K, kinds), the mean change of the side on which the kind is
    level : (K,), mean outcome of the treated;  overall : (K, A), weights of the overall effects
    """

    plan: CellPlan
    code: NDArray[np.int64]
    first: NDArray[np.int64]
    factor: NDArray[np.float64]
    pooled: NDArray[np.float64]
    mean_treated: NDArray[np.float64]
    mean_control: NDArray[np.float64]
    n_treated: NDArray[np.int64]
    n_control: NDArray[np.int64]
    level: NDArray[np.float64]
    overall: NDArray[np.float64]

    @classmethod
    def of(
        cls, m: PanelMoments, plan: CellPlan, levels: PanelMoments, share: NDArray[np.float64]
    ) -> _Roles:
        """Pool the groups of each kind."""
        at, code, n = _kinds(m)
        mean, path = (_pooled(part, at, code, n) for part in (m, levels))
        change = (mean[:, plan.time] - mean[:, plan.base]).T
        both = (m.present[at][:, plan.time] & m.present[at][:, plan.base]).T
        treated = plan.treated(m.first[at]) & both
        control = plan.controls(m.first[at]) & both
        n_treated, n_control = treated @ n, control @ n
        mean_treated = (treated * change) @ n / n_treated
        mean_control = (control * change) @ n / n_control
        return cls(
            plan=plan,
            code=code,
            first=m.first[at],
            factor=treated / n_treated[:, None] - control / n_control[:, None],
            pooled=np.where(treated, mean_treated[:, None], mean_control[:, None]),
            mean_treated=mean_treated,
            mean_control=mean_control,
            n_treated=n_treated,
            n_control=n_control,
            level=(treated * path[:, plan.time].T) @ n / n_treated,
            overall=overall_weights(plan, share),
        )

    @property
    def width(self) -> int:
        """Influence values of a unit: cells, cohorts, no cohort, levels."""
        return len(self.plan) + len(self.plan.cohorts) + 1 + len(KINDS)

    def columns(self, kind: int) -> NDArray[np.int64]:
        """The cells in which a kind plays a role, the indicator of its cohort, and the levels."""
        cells = self.cells(kind)
        here = np.flatnonzero(self.plan.cohorts == self.first[kind])
        last = here[0] if len(here) else len(self.plan.cohorts)
        levels = np.arange(self.width - len(KINDS), self.width)
        return np.concatenate([cells, [len(self.plan) + last], levels])

    def cells(self, kind: int) -> NDArray[np.int64]:
        """The cells in which a kind plays a role."""
        return np.flatnonzero(self.factor[:, kind])

    def weights(self, kind: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Cells whose treated units are of a kind, and a unit's weights in levels, (cells, A)."""
        own = self.cells(kind)
        own = own[self.plan.first[own] == self.first[kind]]
        return own, self.overall[own] * self.factor[own, kind][:, None]

    def level_deviation(self, kind: int, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean influence on the levels of a unit of each group, (groups, A)."""
        own, weights = self.weights(kind)
        return np.asarray((path[:, self.plan.time[own]] - self.level[own]) @ weights)

    def deviation(self, kind: int, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean influence of a unit of each group with these mean paths, (groups, cells)."""
        cells = self.cells(kind)
        change = mean[:, self.plan.time[cells]] - mean[:, self.plan.base[cells]]
        return np.asarray(self.factor[cells, kind] * (change - self.pooled[cells, kind]))


def _pooled(
    m: PanelMoments, at: NDArray[np.int64], code: NDArray[np.int64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean paths of kinds of units."""
    centre = m.mean[at]
    off = np.zeros_like(centre)
    np.add.at(off, code, m.n[:, None] * (m.mean - centre[code]))
    return np.asarray(centre + off / n[:, None])


def _by_unit(m: PanelMoments, roles: _Roles, levels: PanelMoments) -> NDArray[np.float64]:
    """Products of influence values, units independent."""
    if m.cross is None or levels.cross is None:
        raise ValueError("moments by cluster hold no cross products of units; pass cluster=")
    plan, A = roles.plan, len(KINDS)
    total = np.zeros((roles.width,) * 2)
    for j, kind in enumerate(roles.code):
        columns, cells = roles.columns(kind), roles.cells(kind)
        t, b, factor = plan.time[cells], plan.base[cells], roles.factor[cells, kind]
        half = m.cross[j][t] - m.cross[j][b]
        within = np.outer(factor, factor) * (half[:, t] - half[:, b])
        off = roles.level_deviation(kind, levels.mean[j : j + 1])[0]
        d = np.concatenate([roles.deviation(kind, m.mean[j : j + 1])[0], [1.0 / m.n_units], off])
        mine = m.n[j] * np.outer(d, d)
        mine[: len(cells), : len(cells)] += within
        own, weights = roles.weights(kind)
        spread = levels.cross[j][:, plan.time[own]] @ weights
        mine[-A:, -A:] += weights.T @ spread[plan.time[own]]
        mine[: len(cells), -A:] += factor[:, None] * (spread[t] - spread[b])
        mine[-A:, : len(cells)] = mine[: len(cells), -A:].T
        total[np.ix_(columns, columns)] += mine
    return total


def _by_cluster(m: PanelMoments, roles: _Roles, levels: PanelMoments) -> NDArray[np.float64]:
    """Products of the sums of influence values of each cluster."""
    if m.cluster is None:
        raise ValueError("moments without clusters; read them with cluster=")
    order = np.lexsort((m.cluster, roles.code))
    n, mean, code = m.n[order], m.mean[order], roles.code[order]
    path = levels.mean[order]
    ends = np.searchsorted(code, np.arange(roles.factor.shape[1] + 1))

    def sums(kind: int, rows: slice) -> NDArray[np.float64]:
        """Sums of the influence of a group's units."""
        d = roles.deviation(kind, mean[rows])
        share = np.full((len(d), 1), 1.0 / m.n_units)
        off = roles.level_deviation(kind, path[rows])
        return np.asarray(n[rows, None] * np.hstack([d, share, off]))

    classes = [
        RowClass(int(ends[k]), int(ends[k + 1]), roles.columns(k), lambda rows, k=k: sums(k, rows))  # type: ignore[misc]
        for k in range(len(ends) - 1)
    ]
    return influence_products(classes, roles.width, m.cluster[order])
