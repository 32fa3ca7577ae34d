"""What two-way fixed effects compare under staggered adoption, and how they weigh effects."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.did.cohort_regressors import treated_cells, treated_clusters
from causal.did.conventions import warn_few_clusters
from causal.did.counterfactual import with_baseline
from causal.did.regression import fit_treatment, twfe_words
from causal.effect_result import EffectResult
from causal.frame import (
    Table,
    check_columns,
    column_names,
    column_reader,
    in_memory_rows,
    open_table,
)
from causal.panel.cohort_moments import PanelMoments
from causal.panel.open_moments import open_panel, warn_if_constant
from causal.panel.said import keeps_warnings
from causal.staggered.cell_effects import CellEffects
from causal.staggered.staggered_groups import groups_of
from causal.values import finite, known_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import Effect
    from causal.values import JsonScalar

__all__ = ["BaconDecomposition", "TwfeWeights", "bacon_decomposition", "twfe_weights"]

_WEIGHTS = "comparisons of two cohorts, by their sizes and the variance of treatment in them"
_ASSUMES = (
    "without treatment, cohorts would have moved in parallel; the effect is the same in all "
    "cohorts and periods; nobody responded to treatment before it came; treated units do not "
    "affect controls"
)
KINDS = ("treated_vs_never", "earlier_vs_later", "later_vs_earlier", "treated_vs_always")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaconDecomposition(EffectResult):
    """A two-way fixed effects estimate, taken apart into comparisons of two cohorts.

    Parameters
    ----------
    effect : Effect
        The TWFE coefficient: the sum of weight times estimate.
    comparisons : DataFrame
        One row a comparison: kind, treated and control (cohorts; "never", "always"), estimate (in
        units of the outcome) and weight; weights sum to 1.
    """

    effect: Effect
    comparisons: pd.DataFrame

    def by_kind(self) -> pd.DataFrame:
        """One row a kind that occurs: its weight, and the weighted mean of its estimates."""
        table = self.comparisons
        part = table["estimate"] * table["weight"]
        sums = table.assign(estimate=part).groupby("kind")[["estimate", "weight"]].sum()
        kinds = [kind for kind in KINDS if kind in sums.index]
        sums = sums.loc[kinds]
        sums["estimate"] /= sums["weight"]
        return sums.reset_index()

    def summary(self, level: float = 0.95) -> str:
        """The estimate, and what each kind of comparison says and weighs."""
        rows = [
            f"  {kind.replace('_', ' ')}: {estimate:+.3g}, weight {weight:.1%}"
            for kind, estimate, weight in self.by_kind().itertuples(index=False)
        ]
        return "\n".join([self.effect.summary(level), *rows])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw estimates against weights, by kind; returns the axes."""
        from causal.staggered.decomposition_plots import draw_bacon  # noqa: PLC0415 — when used

        return draw_bacon(self, ax)


@keeps_warnings
def bacon_decomposition(
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str,
    never: Any = None,  # noqa: ANN401 — a time of any kind
) -> BaconDecomposition:
    """Which comparisons of two cohorts a two-way fixed effects estimate consists of.

    For whoever reads or wrote a TWFE estimate under staggered adoption: comparisons
    "later_vs_earlier" and "treated_vs_always" take treated units as controls and mislead when
    effects change over time. Where they weigh much, use `group_time_effects`, `sun_abraham` or
    `imputation_effects`.

    Parameters
    ----------
    table : Table or PanelMoments
        One row for every unit in every period. With moments by cluster errors are by cluster.
    outcome, unit, time : str
        Columns.
    cohort : str
        Column of the first treated time; missing, NaT or infinite for never.
    never
        A time that also stands for never, such as 0.

    Returns
    -------
    BaconDecomposition
        Always-treated units are kept, as controls of "treated_vs_always".

    Raises
    ------
    ValueError
        If units lack rows in some periods, or the table is not as said above.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        With the number of clusters where they are few.

    Notes
    -----
    With n_k the share of units and D_k the share of treated periods of cohort k, V the variance of
    the treatment beside unit and period effects: the comparison of k with l, D_k > D_l, before l is
    treated weighs n_k n_l (D_k - D_l)(1 - D_k) / V; that of l with k once k is treated
    n_k n_l (D_k - D_l) D_l / V (never: D = 0, always: D = 1). Each estimate is a
    difference-in-differences of means. Says nothing of sampling error in the parts.

    References
    ----------
    Goodman-Bacon (2021). Difference-in-differences with variation in treatment timing. J.
    Econometrics 225, 254-277: Theorem 1, eq. 10a-g.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame([(i, t, i % 3 + 1) for i in range(60) for t in range(3)],
    ...     columns=["viewer", "day", "start"])
    >>> log["watch"] = log["viewer"] % 7 + 2.0 * (log["day"] - log["start"] + 1).clip(0)
    >>> found = bacon_decomposition(log, outcome="watch", unit="viewer", time="day", cohort="start")
    >>> found.by_kind()["weight"].round(2).tolist()
    [0.67, 0.17, 0.17]
    """
    cluster = table.columns.get("cluster") if isinstance(table, PanelMoments) else None
    columns = {"outcome": outcome, "unit": unit, "time": time, "cohort": cohort}
    groups = groups_of(open_panel(table, never=never, cluster=cluster, **columns), columns)
    m = groups.moments
    warn_if_constant(m, outcome)
    _refuse_gaps(m)
    fit = fit_treatment(m, "CR1")
    warn_few_clusters(groups.clusters[1], treated_clusters(m), stacklevel=3)
    details = {**fit.details(), "outcome": outcome, "weights": _WEIGHTS, "assumes": _ASSUMES}
    on = treated_cells(m.first, len(m.times)) & m.present
    effect = with_baseline(fit, [on], estimand="att", method=twfe_words(m), details=details)
    return BaconDecomposition(effect=effect, comparisons=_comparisons(m))


def _refuse_gaps(m: PanelMoments) -> None:
    """Raise unless every unit has a row in every period."""
    if not m.balanced:
        n_gappy = int(m.n[~m.present.all(axis=1)].sum())
        raise ValueError(
            f"every unit {m.columns['unit']!r} must have a row in every {m.columns['time']!r}; "
            f"{n_gappy} of {m.n_units} have gaps, where the decomposition does not hold; drop "
            "them, or pass panel_moments(..., missing='drop_units')"
        )


def _comparisons(m: PanelMoments) -> pd.DataFrame:
    """One row for each comparison of two cohorts."""
    t = len(m.times)
    firsts, share, path = _cohort_paths(m)
    D = treated_cells(firsts, t).mean(axis=1)
    on = treated_cells(firsts, t) - D[:, None]
    on = on - share @ on
    variance = float(share @ (on * on).mean(axis=1))
    labels: list[JsonScalar] = [_label(m, f) for f in firsts]
    rows: list[tuple[str, JsonScalar, JsonScalar, float, float]] = []
    for k in range(len(firsts)):
        for j in range(k + 1, len(firsts)):
            start, stop = int(firsts[k]), int(firsts[j])
            common = share[k] * share[j] * (D[k] - D[j]) / variance
            gap = path[k] - path[j]
            between = gap[start:stop].mean()
            if start > 0:
                kind = KINDS[0] if stop == t else KINDS[1]
                estimate = float(between - gap[:start].mean())
                rows.append((kind, labels[k], labels[j], estimate, float(common * (1 - D[k]))))
            if stop < t:
                kind = KINDS[3] if start == 0 else KINDS[2]
                estimate = float(between - gap[stop:].mean())
                rows.append((kind, labels[j], labels[k], estimate, float(common * D[j])))
    rows.sort(key=lambda row: KINDS.index(row[0]))
    names = ["kind", "treated", "control", "estimate", "weight"]
    return pd.DataFrame(rows, columns=names).astype({"treated": object, "control": object})


def _cohort_paths(
    m: PanelMoments,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """First treated positions, shares of units, and mean paths of the cohorts."""
    firsts, code = np.unique(m.first, return_inverse=True)
    code = code.reshape(-1)
    n = np.bincount(code, m.n)
    start = m.mean[0, 0]
    total = np.zeros((len(firsts), len(m.times)))
    np.add.at(total, code, m.n[:, None] * (m.mean - start))
    return firsts, n / n.sum(), total / n[:, None]


def _label(m: PanelMoments, first: int) -> JsonScalar:
    """The cohort as the user knows it."""
    if first == 0:
        return "always"
    return "never" if first == len(m.times) else m.times.labels[first]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwfeWeights:
    """How a two-way fixed effects coefficient weighs the effects of cohorts in periods.

    Parameters
    ----------
    cells : DataFrame
        One row for each treated cell: cohort, time, n_obs, weight; weights sum to 1.
    n_negative : int
        Cells with a negative weight.
    negative_sum : float
        Sum of the negative weights.
    """

    cells: pd.DataFrame
    n_negative: int
    negative_sum: float

    def sd_to_flip_average(self, estimate: float) -> float:
        """Smallest sd of effects over treated rows that lets their mean have the other sign.

        Parameters
        ----------
        estimate : float
            The TWFE coefficient.

        Returns
        -------
        float
            In units of the outcome; infinite if all rows weigh the same.

        References
        ----------
        De Chaisemartin and D'Haultfoeuille (2020), Corollary 1 (i).
        """
        share, relative = self._relative()
        spread = math.sqrt(float(share @ (relative - 1) ** 2))
        return abs(finite("estimate", estimate)) / spread if spread > 1e-12 else math.inf

    def sd_to_flip_all(self, estimate: float) -> float:
        """Smallest sd of effects over treated rows that lets all of them have the other sign.

        Parameters
        ----------
        estimate : float
            The TWFE coefficient.

        Returns
        -------
        float
            In units of the outcome; infinite if no weight is negative.

        References
        ----------
        De Chaisemartin and D'Haultfoeuille (2020), Corollary 1 (ii).
        """
        if not self.n_negative:
            return math.inf
        share, relative = self._relative()
        order = np.argsort(-relative)
        p, w = share[order], relative[order]
        P, S, T = (np.cumsum(x[::-1])[::-1] for x in (p, p * w, p * w * w))
        s = int(np.flatnonzero(w < -S / np.maximum(1 - P, 1e-300))[0])
        return abs(finite("estimate", estimate)) / math.sqrt(T[s] + S[s] ** 2 / (1 - P[s]))

    def summary(self) -> str:
        """How many cells weigh negatively, and how much, in one line."""
        return (
            f"{self.n_negative} of {len(self.cells)} treated cells (cohort by period) have "
            f"negative weights, which sum to {self.negative_sum:.3g}"
        )

    def to_frame(self) -> pd.DataFrame:
        """A copy of the cells."""
        return self.cells.copy()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back equal weights."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**found, "cells": self.cells.to_dict("list")}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> TwfeWeights:
        """Make weights from what `to_dict` returned, also after JSON."""
        found = known_fields(cls, d)
        return cls(**{**found, "cells": _cells_frame(found["cells"])})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TwfeWeights):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.n_negative, self.negative_sum))

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def _relative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of treated rows, and weights over shares: their mean is 1."""
        n = self.cells["n_obs"].to_numpy(dtype=float)
        share = n / n.sum()
        return share, self.cells["weight"].to_numpy(dtype=float) / share


def twfe_weights(
    table: Table | PanelMoments,
    *,
    unit: str,
    time: str,
    cohort: str,
    never: Any = None,  # noqa: ANN401 — a time of any kind
) -> TwfeWeights:
    """With which weights two-way fixed effects average the effects of cohorts in periods.

    Needs no outcome: look before the estimate is seen. Negative weights mean that the coefficient
    may be negative though every effect is positive; `group_time_effects`, `sun_abraham` and
    `imputation_effects` have none.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period; gaps are allowed.
    unit, time : str
        Columns.
    cohort : str
        Column of the first treated time; missing, NaT or infinite for never.
    never
        A time that also stands for never, such as 0.

    Returns
    -------
    TwfeWeights

    Raises
    ------
    ValueError
        If unit and period effects explain the treatment, or the table is not as said above.
    TypeError
        If `table` is not a table or a column not of its kind.

    Notes
    -----
    Weight of a treated row: its residual of the treatment on unit and period effects, over the sum
    of these over treated rows. Rows of one cohort in one period are summed: exact for effects that
    are the same within them.

    References
    ----------
    De Chaisemartin and D'Haultfoeuille (2020). Two-way fixed effects estimators with heterogeneous
    treatment effects. AER 110, 2964-2996: Theorem 1, Corollary 1.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame([(i, t, 1 + 2 * (i % 2)) for i in range(20) for t in range(4)],
    ...     columns=["viewer", "day", "start"])
    >>> print(twfe_weights(log, unit="viewer", time="day", cohort="start"))
    1 of 4 treated cells (cohort by period) have negative weights, which sum to -0.5
    """
    columns: dict[str, Any] = {"unit": unit, "time": time, "cohort": cohort, "never": never}
    if isinstance(table, PanelMoments):
        cluster = table.columns.get("cluster")
        found = open_panel(table, **columns, cluster=cluster)
    else:
        with_zeros, name = _with_outcome(table, {"unit": unit, "time": time, "cohort": cohort})
        found = open_panel(with_zeros, outcome=name, **columns)
    return _weights(groups_of(found, columns).moments)


def _with_outcome(table: Table, roles: Mapping[str, str]) -> tuple[Table, str]:
    """The columns with a constant outcome, under a name that is free."""
    names = check_columns(column_names(table), roles)
    free = "outcome"
    while free in names:
        free += "_"
    if in_memory_rows(table) is None:
        import ibis  # noqa: PLC0415 — loaded only when used

        return open_table(table, columns=names).mutate(**{free: ibis.literal(0.0)}), free
    column = column_reader(table, names)
    found = {name: column(name) for name in names}
    if all(isinstance(values, pd.Series) for values in found.values()):
        return pd.DataFrame(found).assign(**{free: 0.0}), free
    import pyarrow as pa  # noqa: PLC0415 — as the table is

    zeros = pa.array(np.zeros(in_memory_rows(table) or 0))
    return pa.table({**found, free: zeros}), free


def _weights(m: PanelMoments) -> TwfeWeights:
    """Residuals of the treatment on treated cells, summed by cohort and period."""
    t = len(m.times)
    on = treated_cells(m.first, t)
    effects = CellEffects.of(m.present, m.n)
    left = m.n[:, None] * effects.residual(on.astype(np.float64)) * m.present
    total = float(left[on].sum())
    rows = m.n[:, None] * (m.present & on)
    if not total > 1e-10 * rows.sum():
        raise ValueError(
            f"cohort {m.columns['cohort']!r} must make the treatment differ between units within "
            "a period; unit and period effects explain it all; add units that are treated later "
            "or never"
        )
    firsts, code = np.unique(m.first, return_inverse=True)
    weight, count = np.zeros((2, len(firsts), t))
    np.add.at(weight, code.reshape(-1), left / total)
    np.add.at(count, code.reshape(-1), rows)
    r, j = np.nonzero(count)
    labels = m.times.labels
    cells = {
        "cohort": [labels[f] for f in firsts[r]],
        "time": [labels[p] for p in j],
        "n_obs": count[r, j].astype(int).tolist(),
        "weight": weight[r, j].tolist(),
    }
    negative = weight[r, j][weight[r, j] < -1e-14]
    return TwfeWeights(
        cells=_cells_frame(cells),
        n_negative=len(negative),
        negative_sum=float(negative.sum()),
    )


def _cells_frame(cells: Mapping[str, Any]) -> pd.DataFrame:
    """Cells as a frame; labels keep their kind."""
    return pd.DataFrame(cells)
