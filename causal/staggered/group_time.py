"""Adoption at several times: the effect on each cohort in each period."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.effect import EffectCurve
from causal.frame import Table, check_columns, check_one_of, column_names, in_memory_rows, listed
from causal.panel.cohort_moments import MOST_PATTERNS, PanelMoments, moments_of, n_patterns
from causal.panel.open_moments import open_panel, warn_constant, warn_if_constant
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import UnitPanel, panel_columns, read_columns_of, warn
from causal.staggered.aggregation import CellTable, aggregated, baselines, pretrend_test
from causal.staggered.group_time_cells import Base, CellEstimates, CellPlan, Control, planned
from causal.staggered.group_time_models import Method, cells_from_models, counts_of_units
from causal.staggered.group_time_moments import cells_from_moments, counts_from_moments
from causal.staggered.group_time_result import GroupTimeEffects
from causal.staggered.repeated_cross_sections import (
    CrossSections,
    cells_from_cross_sections,
    counts_of_cross_sections,
    read_cross_sections,
)
from causal.values import is_number, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


__all__ = ["group_time_effects"]

_METHODS = {
    "dr": "doubly robust",
    "ipw": "inverse propensity weights",
    "reg": "outcome regression",
}
_CONTROLS = {"never": "never treated", "not_yet": "not yet treated"}
_COVARIANCE = "influence functions summed by {by}, no small-sample factor, normal quantiles"
_ASSUMES = (
    "without treatment, each cohort would have moved in parallel with its controls{given}; nobody "
    "responded to treatment {early}; treated units do not "
    "affect controls; treatment stays on"
)
_FEW_UNITS, _FEW_CLUSTERS, _FEW_TREATED = 5, 30, 5
_REJECTED = 0.05


@keeps_warnings
def group_time_effects(  # noqa: PLR0913 — the roles of columns and the ways to estimate
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str | None = None,
    time: str,
    cohort: str,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    covariates: Sequence[str] = (),
    method: Method = "dr",
    control: Control = "never",
    anticipation: int = 0,
    base: Base = "varying",
    weight: str | None = None,
    cluster: str | None = None,
    max_propensity: float = 0.995,
    seed: int = 0,  # noqa: ARG001 — part of the contract; see Parameters
) -> GroupTimeEffects:
    """Effect on each cohort in each period, when a feature came to groups at different times.

    For staggered adoption, where a two-way regression compares with treated units: here every
    cohort is compared with units that are never, or not yet, treated. The cells are put together by
    `.aggregate("event")` (how the effect builds up), ``"cohort"`` (who gains), ``"calendar"``.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period; without `unit`, rows of different units.
    outcome, time : str
        Columns.
    unit : str, optional
        Column of the unit that is seen again and again; None for repeated cross sections.
    cohort : str
        Column of the first treated time; missing, NaT or infinite for never.
    never : time, optional
        A cohort that means never, such as 0.
    covariates : sequence of str
        Numbers given which trends are parallel; those of a panel are read in the base period.
    method : {"dr", "ipw", "reg"}
        With covariates: both models (right if one is), propensities, or a regression of controls.
    control : {"never", "not_yet"}
        Who is compared with; ``"not_yet"``: all who are untreated in both periods (and for
        `anticipation` more), never treated ones among them.
    anticipation : int
        Observed periods before treatment in which units may respond already.
    base : {"varying", "universal"}
        What placebos before treatment are relative to: the period before each, or the one period
        that effects are relative to (as `honest` needs).
    weight : str, optional
        Weights of units, >= 0; read in the base period, for cohorts' shares where first seen.
    cluster : str, optional
        A coarser level at which units depend on each other; constant within unit.
    max_propensity : float
        In (0, 1]. Controls at or above it get no weight.
    seed : int
        Changes nothing: bands are integrals over fixed directions.

    Returns
    -------
    GroupTimeEffects

    Raises
    ------
    ValueError
        On columns that are missing or change within a unit, repeated rows, nobody treated, nobody
        to compare with, covariates that are collinear or separate a cohort from its controls.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        On units treated too early to have a base period (dropped), cohorts below 5 units, cells
        without units (left out), trimmed controls, few clusters, effects before treatment, an
        outcome that is constant.

    Notes
    -----
    ATT(g,t) = E[Y_t - Y_b | G=g] - E[Y_t - Y_b | controls], given covariates by the estimators of
    Sant'Anna and Zhao (2020): `dr` is the traditional doubly robust one (logit by maximum
    likelihood, least squares; eq. 2.10) for panels and the locally efficient one (eq. 3.4) for
    repeated cross sections. b = g - anticipation - 1; before g - anticipation it is t - 1 with the
    varying base. Units with gaps enter the cells in both of whose periods they are seen. Units
    treated after the last observed period count as never treated, but are no controls in the last
    `anticipation` periods, in which they may respond already. Without `never` treated units a cell
    exists as long as somebody is not yet treated. Standard errors are those of influence functions,
    without a small-sample factor; simultaneous bands use the joint normal law of all cells, which
    is what a Gaussian multiplier bootstrap draws from. The joint test before treatment is
    Hotelling's, F = W (n - q) / (n q), n clusters. Not corrected for: trends that differ (see
    `.honest`), interference. The baseline is the mean outcome of the treated less the effect, in
    the same weights; its error is joint with the effect's. The total is the effect times treated
    cells; with `weight` there is none.

    References
    ----------
    Callaway and Sant'Anna (2021), Theorems 1-3; Sant'Anna and Zhao (2020), eqs. 2.10, 3.4.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(i, t, (4, 6, None)[i % 3], t * (i % 5)) for i in range(90) for t in range(8)]
    >>> log = pd.DataFrame(rows, columns=["viewer", "day", "pendant_day", "watch"])
    >>> log["watch"] += 3.0 * (log.day >= log.pendant_day)
    >>> roles = {"outcome": "watch", "unit": "viewer", "time": "day", "cohort": "pendant_day"}
    >>> round(group_time_effects(log, **roles).aggregate("event").effect.estimate, 6)
    3.0
    """
    covariates = tuple(listed(covariates, "covariates"))
    chosen = _Chosen(
        method=method,
        given=bool(covariates),
        control=control,
        base=base,
        anticipation=whole_number("anticipation", anticipation, 0),
        max_propensity=max_propensity,
    )
    chosen.check()
    columns: dict[str, Any] = {
        "outcome": outcome,
        "time": time,
        "cohort": cohort,
        "covariates": covariates,
        "weight": weight,
        "cluster": cluster,
    }
    units, levels = _opened(table, unit, never, columns)
    _warn_constant(units if levels is None else levels, outcome)
    keep = _with_base(units, chosen.anticipation, hint=never is None)
    units = _told_apart(_kept(units, keep), chosen.anticipation)
    levels = None if levels is None else levels.kept(keep)
    found = _estimated(units, levels, _plan_with_units(units, chosen), chosen)
    n, n_treated = _independent(units)
    _warn_of_counts(found, units, n, n_treated)
    if found.n_trimmed:
        warn(
            f"{found.n_trimmed} controls (summed over cohorts) with a propensity of "
            f"{max_propensity} or more got no weight; effects are for treated units like the rest",
            stacklevel=3,
        )
    by = cluster or unit
    details = {
        "covariance": _COVARIANCE.format(by=by or "row"),
        "n_clusters": n if by else None,
        "df": None,
        "singletons_dropped": 0,
        "outcome": outcome,
        **chosen.details(),
    }
    result = _result(found, units, chosen, details)
    _warn_of_pretrend(result)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """How to compare and estimate; `given`: whether there are covariates."""

    method: Method
    given: bool
    control: Control
    base: Base
    anticipation: int
    max_propensity: float

    def check(self) -> None:
        """Raise ValueError for a choice that there is not."""
        check_one_of(self.method, "method", list(_METHODS))
        check_one_of(self.control, "control", list(_CONTROLS))
        check_one_of(self.base, "base", ["varying", "universal"])
        if not is_number(self.max_propensity) or not 0 < self.max_propensity <= 1:
            raise ValueError(f"max_propensity must be in (0, 1]; got {self.max_propensity!r}")

    @property
    def words(self) -> str:
        """The name of the method."""
        how = _METHODS[self.method] if self.given else "no covariates"
        return f"Callaway-Sant'Anna, {how}, controls {_CONTROLS[self.control]}"

    def details(self) -> dict[str, Any]:
        """The choices and what they assume."""
        early = "before it came"
        if self.anticipation:
            early = f"earlier than {self.anticipation} periods before it came"
        return {
            "control": _CONTROLS[self.control],
            "base": self.base,
            "anticipation": self.anticipation,
            "assumes": _ASSUMES.format(
                given=" given covariates" if self.given else "", early=early
            ),
        }


_Units = PanelMoments | UnitPanel | CrossSections


def _opened(
    table: Table | PanelMoments,
    unit: str | None,
    never: Any,  # noqa: ANN401 — a time of any kind
    columns: dict[str, Any],
) -> tuple[_Units, PanelMoments | None]:
    """Moments where they say all, units by periods or rows where they do not.

    Second, moments of the outcome itself: the first are off each unit's own level if they can be.
    """
    if unit is None:
        if isinstance(table, PanelMoments):
            raise ValueError("panel moments are of units; pass unit=, the column they were made of")
        check_columns(column_names(table), columns)
        return read_cross_sections(table, never=never, **columns), None
    columns = {**columns, "unit": unit, "never": never}
    if isinstance(table, PanelMoments) or in_memory_rows(table) is None:
        found = open_panel(table, **columns)
        return found, found if isinstance(found, PanelMoments) else None
    asked = panel_columns(table, **columns)
    panel = read_columns_of(table, asked)
    few = n_patterns(panel.present) <= MOST_PATTERNS
    if asked.covariates or asked.weight or not few:
        return panel, None
    seen = panel.present.argmax(axis=1)  # a unit's own level costs digits and says nothing
    level = panel.outcome[np.arange(panel.n_units), seen]
    changes = replace(panel, outcome=panel.outcome - level[:, None])
    return moments_of(changes, asked), moments_of(panel, asked)


def _warn_constant(units: _Units, outcome: str) -> None:
    """Say that there is nothing to estimate."""
    if not isinstance(units, CrossSections):
        warn_if_constant(units, outcome)
    elif not units.outcome.any() and bool((units.level == units.level[0]).all()):
        warn_constant(outcome)


def _told_apart(units: _Units, anticipation: int) -> _Units:
    """Never treated units apart from those treated after the last period, who may anticipate."""
    if not anticipation:
        return units
    never = units.first == len(units.times)
    if units.later is not None:
        never &= ~units.later
    first = units.first + anticipation * never
    if isinstance(units, CrossSections):
        return units.treated_from(first)
    return replace(units, first=first)


def _kept(units: _Units, keep: NDArray[np.bool_]) -> _Units:
    """Some of the units."""
    if keep.all():
        return units
    return units.kept(keep) if isinstance(units, PanelMoments) else units.select(keep)


def _with_base(units: _Units, anticipation: int, *, hint: bool) -> NDArray[np.bool_]:
    """Whether units have a period before treatment and anticipation; said if some have none."""
    early = np.asarray(units.first <= anticipation)
    if not early.any():
        return ~early
    n = int(units.n[early].sum()) if isinstance(units, PanelMoments) else int(early.sum())
    if not ((units.first > anticipation) & (units.first < len(units.times))).any():
        raise ValueError(
            f"treated units need a period before treatment and anticipation={anticipation}; none "
            "has one; add earlier rows or choose a smaller anticipation"
        )
    what = (
        "rows of always-treated units"
        if isinstance(units, CrossSections)
        else "always-treated units"
    )
    if anticipation:
        what = what.replace("always-treated units", "units treated too early for anticipation")
    say = "; if a cohort of 0 means never treated, pass never=0"
    number = hint and units.times.kind == "number"
    warn(
        f"{n} {what} were dropped: they have no period before treatment{say if number else ''}",
        stacklevel=4,
    )
    return ~early


def _plan_with_units(units: _Units, chosen: _Chosen) -> CellPlan:
    """The cells that have treated units and controls; what is left out is said."""
    if chosen.control == "never" and not (units.first >= len(units.times)).any():
        raise ValueError(
            "control='never' needs units that are never treated; there are none; pass "
            "control='not_yet', or add units that are never treated"
        )
    plan = planned(
        units.first,
        len(units.times),
        base=chosen.base,
        anticipation=chosen.anticipation,
        control=chosen.control,
    )
    n_treated, n_control = _count(units, plan)
    empty = (n_treated == 0) | (n_control == 0)
    kept = plan.select(~empty)
    if not (kept.event_time >= 0).any():
        raise ValueError(
            "no cohort has both its own units and controls before and after treatment; add rows of "
            "units that are treated later or never"
        )
    if empty.any():
        k = int(empty.argmax())
        labels = units.times.labels
        side = "controls" if n_treated[k] else "treated units"
        warn(
            f"{int(empty.sum())} of {len(plan)} cells were left out: they have no treated units or "
            f"no controls in both periods, e.g. cohort {labels[plan.first[k]]} at "
            f"{labels[plan.time[k]]} no {side}",
            stacklevel=4,
        )
    return kept


def _count(units: _Units, plan: CellPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Treated and control units of each cell."""
    if isinstance(units, PanelMoments):
        return counts_from_moments(units, plan)
    if isinstance(units, CrossSections):
        return counts_of_cross_sections(units, plan)
    return counts_of_units(units, plan)


def _estimated(
    units: _Units, levels: PanelMoments | None, plan: CellPlan, chosen: _Chosen
) -> CellEstimates:
    """Estimates and joint covariance by the path that the units allow."""
    if isinstance(units, PanelMoments):
        return cells_from_moments(units, plan, units if levels is None else levels)
    method, most = chosen.method, float(chosen.max_propensity)
    if isinstance(units, CrossSections):
        return cells_from_cross_sections(units, plan, method=method, max_propensity=most)
    return cells_from_models(units, plan, method=method, max_propensity=most)


def _warn_of_counts(found: CellEstimates, units: _Units, n: int, n_treated: int) -> None:
    """Say that a cohort is small, or that independent units or clusters are few."""
    small = found.n_cohort < _FEW_UNITS
    if small.any():
        k = int(small.argmax())
        label = units.times.labels[found.plan.cohorts[k]]
        warn(
            f"{int(small.sum())} cohorts have fewer than {_FEW_UNITS} units, e.g. {label} with "
            f"{found.n_cohort[k]}; do not trust their errors",
            stacklevel=4,
        )
    if n < _FEW_CLUSTERS or n_treated < _FEW_TREATED:
        what = "units" if units.cluster is None else "clusters"
        warn(
            f"{n} {what}, {n_treated} of them treated: errors by influence functions are too small "
            "with so few; compare with few_cluster_test",
            stacklevel=4,
        )


def _independent(units: _Units) -> tuple[int, int]:
    """Independent clusters, units or rows, and those that are treated."""
    treated = units.first < len(units.times)
    if units.cluster is not None:
        return len(np.unique(units.cluster)), len(np.unique(units.cluster[treated]))
    n = units.n if isinstance(units, PanelMoments) else np.ones(len(units.first), dtype=np.int64)
    return int(n.sum()), int(n[treated].sum())


def _result(
    found: CellEstimates, units: _Units, chosen: _Chosen, details: dict[str, Any]
) -> GroupTimeEffects:
    """Cells with their labels, and what is made of them."""
    plan, K = found.plan, len(found.plan)
    labels = units.times.labels
    cells = pd.DataFrame(
        {
            "cohort": [labels[g] for g in plan.first],
            "time": [labels[t] for t in plan.time],
            "event_time": plan.event_time,
            "estimate": found.estimate,
            "std_error": np.sqrt(np.diag(found.joint)[:K]),
            "n_treated": found.n_treated,
            "n_control": found.n_control,
        }
    )
    curve = EffectCurve(
        index=tuple(f"{labels[g]},{labels[t]}" for g, t in zip(plan.first, plan.time, strict=True)),
        index_name="cohort,time",
        estimate=found.estimate,
        cov=found.joint[:K, :K],
        estimand="att",
        method=chosen.words,
        n_obs=len(units.first) if isinstance(units, CrossSections) else units.n_obs,
        n_clusters=details["n_clusters"],
        details=details,
    )
    cohorts = [labels[g] for g in plan.cohorts]
    shares = pd.DataFrame({"cohort": cohorts, "n_units": found.n_cohort, "share": found.share})
    table = CellTable(
        cells=cells,
        curve=curve,
        shares=shares,
        joint_covariance=found.joint[: K + len(shares), : K + len(shares)],
        baselines=baselines(found),
        times=labels,
        anticipation=chosen.anticipation,
    )
    return GroupTimeEffects(
        **{field.name: getattr(table, field.name) for field in fields(table)},
        effect=aggregated(table, "simple").effect,
        pretrend=pretrend_test(curve, plan.before, curve.n_clusters or curve.n_obs),
        method=chosen.words,
        control=chosen.control,
        base=chosen.base,
    )


def _warn_of_pretrend(result: GroupTimeEffects) -> None:
    """Say if effects before treatment are not 0, or are too many to be tested together."""
    test, cells = result.pretrend, result.cells
    n = int(((cells["event_time"] < -result.anticipation) & (cells["std_error"] > 0)).sum())
    if test is None and n:
        warn(
            f"{n} effects before treatment are too many for a joint test with "
            f"{result.curve.n_clusters or result.curve.n_obs} clusters; see the fewer ones of "
            "aggregate('event')",
            stacklevel=4,
        )
    elif test is not None and test.p_value < _REJECTED:
        warn(
            f"effects before treatment differ from 0 (joint p = {test.p_value:.2g}, {test.df} "
            "degrees of freedom): trends were not parallel; see aggregate('event') and honest",
            stacklevel=4,
        )
