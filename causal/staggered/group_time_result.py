"""Effects of each cohort in each period: what `group_time_effects` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from causal.effect_result import EffectResult
from causal.staggered.aggregation import Aggregation, CellTable, Kind, aggregated

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import Effect, EffectCurve, WaldTest
    from causal.sensitivity.honest import HonestDid
    from causal.values import JsonScalar

__all__ = ["GroupTimeEffects"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupTimeEffects(EffectResult):
    """Effects of each cohort in each period, and everything that is made of them.

    Parameters
    ----------
    effect : Effect
        Mean over treated cells, cohorts by their shares (``aggregate("simple").effect``).
    cells : DataFrame
        One row a cohort and period: cohort, time, event_time, estimate, std_error, n_treated,
        n_control; rows before treatment are placebos.
    curve : EffectCurve
        The same cells in the same order, labelled ``"cohort,time"``, with their covariance.
    pretrend : WaldTest, optional
        That all effects before treatment (and anticipation) are 0, by Hotelling's F; None where
        there are none, or more than clusters.
    shares : DataFrame
        cohort, n_units, share of all units, never treated ones among them.
    joint_covariance : array (K + G, K + G)
        Of the K cells and the G shares.
    baselines : DataFrame
        kind, baseline, baseline_variance, baseline_cov, treated_cells: what the treated would have
        had without treatment, for the overall effect of each kind of `aggregate`.
    times : tuple
        Labels of the observed periods.
    method, control, base : str
    anticipation : int
        As asked.
    """

    effect: Effect
    cells: pd.DataFrame
    curve: EffectCurve
    pretrend: WaldTest | None
    shares: pd.DataFrame
    joint_covariance: NDArray[np.float64]
    baselines: pd.DataFrame
    times: tuple[JsonScalar, ...]
    method: str
    control: str
    base: str
    anticipation: int

    def aggregate(
        self,
        kind: Kind = "event",
        *,
        min_event: int | None = None,
        max_event: int | None = None,
        balance: int | None = None,
    ) -> Aggregation:
        """Put the cells together, with the uncertainty of the cohorts' shares.

        Parameters
        ----------
        kind : {"simple", "event", "cohort", "calendar"}
            Over all treated cells; by periods since treatment (overall: the plain mean of event
            times >= 0); by cohort (the plain mean over its treated periods; overall by shares); by
            calendar time (overall: the plain mean).
        min_event, max_event : int, optional
            Only cells in this window of event time.
        balance : int, optional
            With ``"event"``: only cohorts that have every event time from 0 to this one, up to it,
            so that the curve does not change because its cohorts do.

        Returns
        -------
        Aggregation

        Raises
        ------
        ValueError
            If no treated cell is left, or an argument is out of its range.

        Notes
        -----
        theta = sum w_k(p) ATT_k; its covariance is J V J' with V the joint covariance of cells and
        shares and J = (w, sum ATT_k dw_k/dp), which is what influence functions give (Callaway and
        Sant'Anna 2021, Corollary 2). The overall effect has a baseline (relative effect) as long as
        it is over all treated cells, and ``"simple"`` a total: effect times treated cells.
        """
        table = CellTable(
            cells=self.cells,
            curve=self.curve,
            shares=self.shares,
            joint_covariance=self.joint_covariance,
            times=self.times,
            anticipation=self.anticipation,
            baselines=self.baselines,
        )
        return aggregated(table, kind, min_event=min_event, max_event=max_event, balance=balance)

    def honest(self, **options: Any) -> HonestDid:  # noqa: ANN401 — those of honest_did
        """Intervals of the effects by event time that allow for violations of parallel trends.

        Needs ``base="universal"`` and no anticipation; see `honest_did`.
        """
        from causal.sensitivity.honest import honest_did  # noqa: PLC0415 — loaded only when used

        return honest_did(self.aggregate("event").curve, **options)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """The cells with pointwise and simultaneous limits."""
        limits = self.curve.to_frame(level)
        names = ["low", "high", "low_simultaneous", "high_simultaneous"]
        return pd.concat([self.cells, limits[names]], axis=1)

    def summary(self, level: float = 0.95) -> str:
        """The mean over treated cells, and the test of the time before."""
        lines = [self.effect.summary(level)]
        if self.pretrend is not None:
            lines.append(
                f"effects before the start: joint p = {self.pretrend.p_value:.3f} "
                f"({self.pretrend.df} of them)"
            )
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the cells as a heat map of cohorts by periods; returns the axes."""
        from causal.staggered.group_time_plots import draw_group_time  # noqa: PLC0415 — when used

        return draw_group_time(self, ax)
