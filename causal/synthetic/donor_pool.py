"""Who is treated and who may stand in for them: treated units and their donors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.panel.adoption import shown
from causal.panel.unit_panel import UnitPanel, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from causal.panel.times import Times
    from causal.values import JsonScalar


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DonorPool:
    """Treated units first, then donors; every outcome is observed.

    Parameters
    ----------
    labels : array (n,)
    n_treated : int
    outcome : array (n, T)
    first : int64 array (n_treated,)
        Position of the first treated period of each treated unit, >= 2.
    times : Times
    covariates : mapping from column to array (n, T)
        NaN where missing.
    """

    labels: NDArray[Any]
    n_treated: int
    outcome: NDArray[np.float64]
    first: NDArray[np.int64]
    times: Times
    covariates: Mapping[str, NDArray[np.float64]]

    @property
    def n_donors(self) -> int:
        """Number of donors."""
        return len(self.labels) - self.n_treated

    @property
    def names(self) -> tuple[JsonScalar, ...]:
        """Labels as JSON scalars."""
        return tuple(self.labels.tolist())

    def without(self, positions: NDArray[np.int64]) -> DonorPool:
        """The pool without some donors."""
        keep = np.ones(len(self.labels), dtype=bool)
        keep[positions] = False
        return DonorPool(
            labels=self.labels[keep],
            n_treated=self.n_treated,
            outcome=self.outcome[keep],
            first=self.first,
            times=self.times,
            covariates={name: values[keep] for name, values in self.covariates.items()},
        )


def donor_pool(
    panel: UnitPanel, donors: Iterable[Any] | None, unit: str, *, cohort: str | None = None
) -> DonorPool:
    """The treated units of a panel and the donors among those never treated.

    `cohort` is the column that said who is treated, if one did.

    Raises
    ------
    ValueError
        If a donor is unknown, treated, or named twice, a treated unit lacks a period or has fewer
        than two before its start, or fewer than two donors are left.

    Warns
    -----
    EstimationWarning
        For always-treated units and for donors without a row in every period, which are dropped.
    """
    never = panel.first == panel.n_periods
    always = panel.first == 0
    hint = never_hint(cohort) if always.any() else ""
    if always.any():
        warn(
            f"{int(always.sum())} units are treated from the first observed time on and were "
            f"dropped: {shown(panel.units[always])}{hint}",
        )
    treated = ~never & ~always
    wanted = never if donors is None else _named(panel, donors, never, unit)
    gappy = np.asarray(~panel.present.all(axis=1))
    _refuse_short(panel, treated, gappy, unit)
    incomplete = wanted & gappy
    if incomplete.any():
        warn(
            f"{int(incomplete.sum())} of {int(wanted.sum())} donors lack a row in some period and "
            f"were dropped: {shown(panel.units[incomplete])}",
        )
    order = np.concatenate([np.flatnonzero(treated), np.flatnonzero(wanted & ~gappy)])
    pool = DonorPool(
        labels=panel.units[order],
        n_treated=int(treated.sum()),
        outcome=panel.outcome[order],
        first=panel.first[np.flatnonzero(treated)],
        times=panel.times,
        covariates={name: values[order] for name, values in panel.covariates.items()},
    )
    require_donors(pool, unit, hint)
    return pool


def never_hint(cohort: str | None, way: str = "replace it by missing") -> str:
    """What else it may mean that units of a cohort column count as always treated."""
    return "" if cohort is None else f"; if a {cohort!r} such as 0 means never treated, {way}"


def require_donors(pool: DonorPool, unit: str, hint: str = "") -> None:
    """Raise unless there are two donors."""
    if pool.n_donors < 2:
        raise ValueError(
            f"a synthetic control needs at least 2 donors observed in all {len(pool.times)} "
            f"periods; {pool.n_donors} units of {unit!r} are; add never-treated units, or fill or "
            f"cut the periods that they lack{hint}"
        )


def _named(
    panel: UnitPanel, donors: Iterable[Any], never: NDArray[np.bool_], unit: str
) -> NDArray[np.bool_]:
    """Mask of the donors that the caller named."""
    if isinstance(donors, str) or not isinstance(donors, Iterable):
        raise TypeError(f"donors must be a list of units of {unit!r}; got {donors!r}; put it in []")
    at = {label: j for j, label in enumerate(panel.units.tolist())}
    wanted = list(donors)
    absent = [label for label in wanted if label not in at]
    if absent:
        raise ValueError(
            f"donors must name units of {unit!r}; {absent[:3]!r} are not in the table, which has "
            f"{panel.units[:3].tolist()!r}; check the labels and their type"
        )
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"donors must name each unit of {unit!r} once; name each once")
    places = np.array([at[label] for label in wanted], dtype=np.int64)
    treated = places[~never[places]]
    if len(treated):
        raise ValueError(
            f"donors must be never treated; treated among them: {shown(panel.units[treated])}; "
            "leave them out"
        )
    mask = np.zeros(panel.n_units, dtype=bool)
    mask[places] = True
    return mask


def _refuse_short(
    panel: UnitPanel, treated: NDArray[np.bool_], gappy: NDArray[np.bool_], unit: str
) -> None:
    """Raise for treated units without a row in some period, or with fewer than two before."""
    holes = treated & gappy
    if holes.any():
        one = int(np.flatnonzero(holes)[0])
        lacking = [panel.times.labels[t] for t in np.flatnonzero(~panel.present[one])]
        raise ValueError(
            f"treated units of {unit!r} must have a row in every period; "
            f"{shown(panel.units[holes])} have not, e.g. {panel.units[one]} lacks "
            f"{shown(lacking)}; fill the rows or cut the periods"
        )
    short = treated & (panel.first < 2)
    if short.any():
        raise ValueError(
            "weights need at least 2 periods before the start; treated units of "
            f"{unit!r} with fewer: {shown(panel.units[short])}; add earlier rows"
        )
