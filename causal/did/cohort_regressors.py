"""What a cohort's path is regressed on, treatment or event time, and what TWFE mixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causal.panel.adoption import shown
from causal.panel.unit_panel import warn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.did.cohort_gram import GramFit
    from causal.panel.cohort_moments import PanelMoments
    from causal.panel.times import Times

_NO_WEIGHT = 1e-9  # sum of negative weights that is none
_COMPOSITION = 0.2  # share by which the units behind event times may vary


def event_time(first: NDArray[np.int64], n_periods: int) -> NDArray[np.int64]:
    """Periods since the first treated one, (R, T); n_periods + 1 for never: beyond any event."""
    since = np.arange(n_periods)[None, :] - first[:, None]
    return np.where(first[:, None] < n_periods, since, n_periods + 1)


def treated_cells(first: NDArray[np.int64], n_periods: int) -> NDArray[np.bool_]:
    """Whether a unit of this first treated period is treated in a period, (R, T)."""
    return np.arange(n_periods)[None, :] >= first[:, None]


def treatment_regressor(m: PanelMoments) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The 0/1 treatment as (R, T, 1) by cohort, and the cohort of each group."""
    first, at = np.unique(m.first, return_inverse=True)
    cells = treated_cells(first, len(m.times)).astype(np.float64)
    return cells[:, :, None], at.reshape(-1)


def event_regressors(
    m: PanelMoments, events: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Dummies of event times as (R, T, K) by cohort, and the cohort of each group."""
    first, at = np.unique(m.first, return_inverse=True)
    since = event_time(first, len(m.times))
    return (since[:, :, None] == events).astype(np.float64), at.reshape(-1)


def units_by_event_time(m: PanelMoments, events: NDArray[np.int64]) -> dict[int, int]:
    """Treated units with a row at each event time."""
    since = event_time(m.first, len(m.times))
    count = m.n[:, None] * m.present
    return {int(e): int(count[since == e].sum()) for e in events}


def negative_weight(fit: GramFit) -> float:
    """Sum of the negative weights that TWFE gives to effects of treated cells (they sum to 1).

    References
    ----------
    De Chaisemartin and D'Haultfoeuille (2020), Theorem 1.
    """
    m = fit.moments
    weight = m.n[:, None] * fit.weights[fit.of][:, :, 0]
    on = treated_cells(m.first, len(m.times)) & m.present
    key = m.first[:, None] * len(m.times) + np.arange(len(m.times))[None, :]
    return negative_sum(key[on], weight[on])


def negative_sum(cell: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    """Sum of the negative ones of weights by cell, over the sum of all; 0 what is rounding."""
    cells = np.bincount(cell, weight)
    return float(cells[cells < -1e-12 * np.abs(cells).sum()].sum() / cells.sum())


def warn_of_weights(times: Times, first: NDArray[np.int64], negative: float) -> None:
    """Say that effects of several cohorts get negative weights, where they do."""
    if negative > -_NO_WEIGHT:
        return
    cohorts = np.unique(first[(first > 0) & (first < len(times))])
    warn(
        f"treatment starts at {len(cohorts)} times ({shown([times.labels[f] for f in cohorts])}): "
        "two-way fixed effects compare with treated units; the negative weights of effects sum to "
        f"{negative:.3g}; use group_time_effects, or event_study to look at them",
        stacklevel=5,
    )


def contamination(fit: GramFit, event: int, reference: int) -> float:
    """Absolute weight that TWFE's coefficient of one event time puts on other event times.

    References
    ----------
    Sun and Abraham (2021), Proposition 3.
    """
    m = fit.moments
    j = fit.names.index(f"event time {event}")
    weight = m.n[:, None] * fit.weights[fit.of][:, :, j]
    since = event_time(m.first, len(m.times))
    other = (since <= len(m.times)) & (since != event) & (since != reference) & m.present
    key = m.first[:, None] * len(m.times) + np.arange(len(m.times))[None, :]
    return float(np.abs(np.bincount(key[other], weight[other])).sum())


def n_cohorts(m: PanelMoments) -> int:
    """Cohorts that are treated after a period of their own."""
    return len(np.unique(m.first[(m.first > 0) & (m.first < len(m.times))]))


def without_always(m: PanelMoments) -> PanelMoments:
    """Groups that are not treated in every observed period; the others are dropped, and said."""
    always = m.first == 0
    if not always.any():
        return m
    warn(
        f"{int(m.n[always].sum())} always-treated units were dropped: they have no period before "
        "treatment (if 0 means never treated, pass never=0)",
        stacklevel=5,
    )
    return m.kept(~always)


def warn_composition(n_units: dict[int, int]) -> None:
    """Say that event times rest on different units."""
    few, most = min(n_units.values()), max(n_units.values())
    if few < (1 - _COMPOSITION) * most:
        at = min(n_units, key=lambda e: n_units[e])
        warn(
            f"treated units change along event time: {few} at {at}, {most} at most; a change along "
            "the curve may be a change of units",
            stacklevel=5,
        )


def treated_clusters(m: PanelMoments) -> int:
    """Clusters (units, without) that are treated after a period of their own."""
    treated = (m.first > 0) & (m.first < len(m.times))
    if m.cluster is None:
        return int(m.n[treated].sum())
    return len(np.unique(m.cluster[treated]))


def cohort_words(m: PanelMoments) -> str:
    """The first cohorts, for messages."""
    firsts = np.unique(m.first[(m.first > 0) & (m.first < len(m.times))])
    return shown([m.times.labels[f] for f in firsts])
