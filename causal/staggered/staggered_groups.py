"""Groups of alike units for estimators of staggered adoption: opened, and without always treated.

A unit is a group of its own where moments cannot hold what is asked (covariates, many patterns of
observed periods); the same sums over groups serve both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from causal.did.cohort_regressors import treated_cells
from causal.panel.adoption import shown
from causal.panel.cohort_moments import PanelMoments
from causal.panel.unit_panel import UnitPanel, warn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.did.event_study import EventStudy

OVER_TREATED_CELLS = "mean over treated cells (observations)"

_FEW_UNITS = 5
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StaggeredGroups:
    """Moments of groups, or of single units, with covariates.

    moments : PanelMoments
    covariates : (G, T, K) array, 0 where there is no row
    names : of the K covariates
    single : whether each unit is a group of its own
    """

    moments: PanelMoments
    covariates: NDArray[np.float64]
    names: tuple[str, ...]
    single: bool

    @property
    def clusters(self) -> tuple[NDArray[np.int64] | None, int, int]:
        """Codes of the groups' clusters (None: units), clusters, and those with treated units."""
        m = self.moments
        treated = m.first < len(m.times)
        if m.cluster is None:
            return None, m.n_units, int(m.n[treated].sum())
        levels, codes = np.unique(m.cluster, return_inverse=True)
        return codes.reshape(-1), len(levels), len(np.unique(m.cluster[treated]))

    def kept(self, keep: NDArray[np.bool_]) -> StaggeredGroups:
        """Only some groups."""
        if keep.all():
            return self
        return replace(self, moments=self.moments.kept(keep), covariates=self.covariates[keep])

    def within(self, seen: NDArray[np.bool_]) -> StaggeredGroups:
        """Only some periods of each group, (G, T)."""
        some = (self.moments.present & seen).any(axis=1)
        moments = self.moments.within(seen)
        return replace(self, moments=moments, covariates=self.covariates[some])

    def until(self, stop: int) -> StaggeredGroups:
        """Only periods before position `stop`; who is treated later is never treated here."""
        m = self.moments
        times = replace(m.times, values=m.times.values[:stop])
        present = m.present[:, :stop]
        cut = replace(
            m,
            times=times,
            first=np.minimum(m.first, stop),
            present=present,
            mean=m.mean[:, :stop],
            cross=None if m.cross is None else m.cross[:, :stop, :stop],
            n_obs=int((m.n[:, None] * present).sum()),
        )
        found = replace(self, moments=cut, covariates=self.covariates[:, :stop])
        return found.kept(np.asarray(present.any(axis=1)))


def groups_of(found: PanelMoments | UnitPanel, columns: dict[str, str]) -> StaggeredGroups:
    """Groups as they are, or each unit as a group and, without clusters, as its own cluster."""
    if isinstance(found, PanelMoments):
        nothing = np.zeros((*found.mean.shape, 0))
        return StaggeredGroups(moments=found, covariates=nothing, names=(), single=False)
    panel, n = found, found.n_units
    moments = PanelMoments(
        times=panel.times,
        first=panel.first,
        present=panel.present,
        n=np.ones(n, dtype=np.int64),
        mean=np.nan_to_num(panel.outcome),
        cross=None,
        columns=columns,
        n_obs=panel.n_obs,
        cluster=np.arange(n) if panel.cluster is None else panel.cluster,
        cluster_labels=(),
    )
    names = tuple(panel.covariates)
    arrays = [np.nan_to_num(panel.covariates[name]) for name in names]
    stacked = np.stack(arrays, axis=2) if arrays else np.zeros((*moments.mean.shape, 0))
    return StaggeredGroups(moments=moments, covariates=stacked, names=names, single=True)


def without_always_treated(groups: StaggeredGroups) -> StaggeredGroups:
    """Groups that have a row before treatment, or are never treated.

    Raises
    ------
    ValueError
        If no treated unit remains, or no other to compare it with.

    Warns
    -----
    EstimationWarning
        With the number of units that were dropped, and of small cohorts.
    """
    m = groups.moments
    before = np.asarray((m.present & ~treated_cells(m.first, len(m.times))).any(axis=1))
    if not before.all():
        n_lost = int(m.n[~before].sum())
        warn(
            f"{n_lost} of {m.n_units} units have no row before treatment (always treated) and were "
            "dropped; if 0 means never treated, pass never=0",
            stacklevel=4,
        )
        groups = groups.kept(before)
        m = groups.moments
    _check_comparable(m)
    _warn_small_cohorts(m)
    return groups


def _check_comparable(m: PanelMoments) -> None:
    """Raise unless two cohorts, or a cohort and never treated units, are there."""
    firsts = np.unique(m.first)
    name = m.columns["cohort"]
    if len(firsts) == 0 or firsts[0] == len(m.times):
        raise ValueError(
            f"cohort {name!r} must hold units that are treated after a row of their own; none is "
            "left once always treated units are dropped; add earlier rows"
        )
    if len(firsts) == 1:
        raise ValueError(
            f"cohort {name!r} must hold units that are treated later, or never; all that are left "
            f"are treated from {m.times.labels[firsts[0]]!r} on; add others to compare them with"
        )


def _warn_small_cohorts(m: PanelMoments) -> None:
    """Say once that cohorts are too small for their spread to be seen."""
    treated = m.first < len(m.times)
    units = np.bincount(m.first[treated], m.n[treated], len(m.times)).astype(int)
    small = np.flatnonzero((units > 0) & (units < _FEW_UNITS))
    if len(small):
        names = shown([m.times.labels[f] for f in small])
        warn(
            f"{len(small)} cohorts ({names}) have fewer than {_FEW_UNITS} units, the smallest "
            f"{units[small].min()}: errors that rest on the spread within them are too small",
            stacklevel=5,
        )


def warn_pretrend(study: EventStudy, *, stacklevel: int) -> None:
    """Say that the time before the start shows effects."""
    if study.pretrend is not None and study.pretrend.p_value < _SIGNIFICANT:
        warn(
            f"the groups did not move in parallel before the start: p = "
            f"{study.pretrend.p_value:.2g} over {study.pretrend.df} periods",
            stacklevel=stacklevel,
        )
