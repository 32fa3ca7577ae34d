"""Cohorts by periods: which change of which units each group-time effect compares with which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Control = Literal["never", "not_yet"]
Base = Literal["varying", "universal"]

MOST_CELLS = 4_000  # the covariance of all cells is held and decomposed


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CellPlan:
    """The K cells: a cohort's change from `base` to `time`, against that of its controls.

    Parameters
    ----------
    n_periods : int
        T.
    anticipation : int
        Periods before treatment in which units may respond already.
    cohorts : int64 array (G,)
        First treated positions, ascending.
    cohort : int64 array (K,)
        Code into `cohorts`.
    time, base : int64 arrays (K,)
        Positions; equal where the cell is 0 by definition.
    controls_from : int64 array (K,)
        Units first treated from here on, other than the cohort itself, are controls. Units treated
        after the last period stand at T, never treated ones at T + anticipation.
    """

    n_periods: int
    anticipation: int
    cohorts: NDArray[np.int64]
    cohort: NDArray[np.int64]
    time: NDArray[np.int64]
    base: NDArray[np.int64]
    controls_from: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def first(self) -> NDArray[np.int64]:
        """First treated position of each cell's cohort, (K,)."""
        return self.cohorts[self.cohort]

    @property
    def event_time(self) -> NDArray[np.int64]:
        """Periods since the first treated one, (K,)."""
        return self.time - self.first

    @property
    def before(self) -> NDArray[np.bool_]:
        """Cells before any effect, (K,), without those that are 0 by definition."""
        return np.asarray((self.event_time < -self.anticipation) & (self.time != self.base))

    def treated(self, first: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether units first treated then are a cell's treated ones, (K, ...)."""
        return np.asarray(self.first[:, None] == first[None, :])

    def controls(self, first: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether units first treated then are a cell's controls, (K, ...)."""
        return (first[None, :] >= self.controls_from[:, None]) & ~self.treated(first)

    def select(self, keep: NDArray[np.bool_]) -> CellPlan:
        """Only some cells, and the cohorts that are left."""
        cohorts, cohort = np.unique(self.first[keep], return_inverse=True)
        return replace(
            self,
            cohorts=cohorts,
            cohort=cohort.reshape(-1),
            time=self.time[keep],
            base=self.base[keep],
            controls_from=self.controls_from[keep],
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CellEstimates:
    """What an estimator found for the cells of a plan.

    Parameters
    ----------
    plan : CellPlan
    estimate : float64 array (K,)
    level : float64 array (K,)
        Mean outcome of the treated at the cell's time.
    joint : float64 array (K + G + A, K + G + A)
        Covariance of the estimates, of the shares of cohorts, and of the mean outcomes of the
        treated in the fixed weights of the A overall effects (`overall_weights`).
    share : float64 array (G,)
        Of all units, never treated ones among them.
    n_cohort : int64 array (G,)
        Units of each cohort.
    n_treated, n_control : int64 arrays (K,)
    treated_cells : int, optional
        Rows of treated units from treatment on; None where weights make them count differently.
    n_trimmed : int
        Controls without weight because their propensity was too near 1, summed over fits.
    """

    plan: CellPlan
    estimate: NDArray[np.float64]
    level: NDArray[np.float64]
    joint: NDArray[np.float64]
    share: NDArray[np.float64]
    n_cohort: NDArray[np.int64]
    n_treated: NDArray[np.int64]
    n_control: NDArray[np.int64]
    treated_cells: int | None
    n_trimmed: int = 0


def planned(
    first: NDArray[np.int64],
    n_periods: int,
    *,
    base: Base,
    anticipation: int,
    control: Control,
) -> CellPlan:
    """The cells of all cohorts that have a period before `anticipation`.

    Raises
    ------
    ValueError
        If there are more cells than a joint covariance can be held for.
    """
    cohorts = np.unique(first[(first > anticipation) & (first < n_periods)])
    times = np.arange(0 if base == "universal" else 1, n_periods)
    if len(cohorts) * len(times) > MOST_CELLS:
        raise ValueError(
            f"{len(cohorts)} cohorts by {len(times)} periods are more than {MOST_CELLS:,} cells, "
            "too many for their joint covariance; use coarser times, or drop periods"
        )
    cohort, time = np.repeat(np.arange(len(cohorts)), len(times)), np.tile(times, len(cohorts))
    reference = cohorts[cohort] - anticipation - 1
    adjacent = (time <= reference) & (base == "varying")
    start = np.where(adjacent, time - 1, reference)
    later = np.maximum(time, start) + anticipation + 1
    return CellPlan(
        n_periods=n_periods,
        anticipation=anticipation,
        cohorts=cohorts,
        cohort=cohort,
        time=time,
        base=start,
        controls_from=np.maximum(later, n_periods) if control == "never" else later,
    )
