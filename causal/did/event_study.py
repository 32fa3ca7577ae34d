"""Effects by event time: what event studies of every kind return."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.distributions import wald_test
from causal.effect import Effect, EffectCurve, WaldTest
from causal.effect_result import EffectResult
from causal.panel.unit_panel import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from causal.sensitivity.honest import HonestDid

__all__ = ["EventStudy"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventStudy(EffectResult):
    """Effects by event time, their average after the start, and the test of the time before.

    Parameters
    ----------
    effect : Effect
        Average over event times >= 0; ``details["weights"]`` says with which weights.
    curve : EffectCurve
        Over `event_time`, in observed periods since the first treated one; the reference has
        estimate 0 and standard error 0 and enters no test and no band.
    pretrend : WaldTest, optional
        That all effects before the start are 0; None without any but the reference.
    reference : int, optional
        Event time of the reference; None where the method has none.
    n_units_by_event_time : mapping from event time to int
        Treated units behind each point.
    method : str
        How it was estimated.
    """

    effect: Effect
    curve: EffectCurve
    pretrend: WaldTest | None
    reference: int | None
    n_units_by_event_time: Mapping[int, int]
    method: str

    def honest(self, **options: Any) -> HonestDid:  # noqa: ANN401 — those of honest_did
        """Intervals that allow for violations of parallel trends: see `honest_did`."""
        from causal.sensitivity.honest import honest_did  # noqa: PLC0415 — loaded only when used

        return honest_did(self, **options)

    def cumulative(self) -> EffectCurve:
        """Sum of the effects from event time 0 up to each event time, in units of the outcome.

        Raises
        ------
        ValueError
            If an event time between them was not estimated.
        """
        after = event_times(self.curve) >= 0
        there = event_times(self.curve)[after]
        missing = np.setdiff1d(np.arange(there.max() + 1), there)
        if len(missing):
            end = missing[0] - 1
            stop = f"end the window (or horizon) at {end}" if end >= 0 else "use the curve itself"
            raise ValueError(
                "cumulative effects need every event time from 0 on; not estimated: "
                f"{', '.join(map(str, missing))}; {stop}"
            )
        add = np.tril(np.ones((int(after.sum()),) * 2))
        return replace(
            self.curve,
            index=tuple(event_times(self.curve)[after].tolist()),
            estimate=add @ self.curve.estimate[after],
            cov=add @ self.curve.cov[np.ix_(after, after)] @ add.T,
            estimand=f"cumulative {self.curve.estimand}",
        )

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row an event time: estimate, standard error, both kinds of limits, units."""
        frame = self.curve.to_frame(level)
        frame["n_units"] = [self.n_units_by_event_time.get(e, 0) for e in frame["event_time"]]
        frame["is_reference"] = frame["event_time"] == self.reference
        return frame

    def summary(self, level: float = 0.95) -> str:
        """The average effect, and the test of the time before."""
        lines = [self.effect.summary(level)]
        if self.pretrend is not None:
            lines.append(
                f"effects before the start: joint p = {self.pretrend.p_value:.3f} "
                f"({self.pretrend.df} of them)"
            )
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None, *, simultaneous: bool = True) -> Axes:
        """Draw points, pointwise bars and the simultaneous band; returns the axes."""
        from causal.did.plots import draw_event_study  # noqa: PLC0415 — matplotlib when used

        return draw_event_study(self, ax, simultaneous=simultaneous)


def event_study_result(
    *,
    event_time: Sequence[int],
    estimate: ArrayLike,
    cov: NDArray[np.float64],
    effect: Effect | None,
    reference: int | None,
    n_units: Mapping[int, int],
    method: str,
    n_obs: int,
    n_clusters: int | None,
    df: float | None,
    details: Mapping[str, Any],
    pretrend: WaldTest | None = None,
) -> EventStudy:
    """An event study from its points without the reference, which is put in.

    `effect` None takes the plain mean over event times >= 0. `pretrend` None tests all points
    before the start (event times below 0), where there are any.
    """
    points, e = np.asarray(estimate, dtype=np.float64), np.asarray(event_time, dtype=np.int64)
    before = e < 0
    if pretrend is None and np.diag(cov)[before].any():  # without spread there is no test
        pretrend = wald_test(points[before], cov[np.ix_(before, before)], df)
    if pretrend is not None and pretrend.df < before.sum():
        warn(
            f"the covariance of the {before.sum()} effects before the start has rank {pretrend.df}:"
            " the joint test is of that many directions; add units or clusters, or cut periods"
        )
    if reference is not None:
        e, points = np.append(e, reference), np.append(points, 0.0)
        cov = np.pad(cov, (0, 1))
    order = np.argsort(e)
    curve = EffectCurve(
        index=tuple(e[order].tolist()),
        index_name="event_time",
        estimate=points[order],
        cov=cov[np.ix_(order, order)],
        estimand="att",
        method=method,
        n_obs=n_obs,
        n_clusters=n_clusters,
        df=df,
        details=details,
    )
    return EventStudy(
        effect=mean_after(curve) if effect is None else effect,
        curve=curve,
        pretrend=pretrend,
        reference=reference,
        n_units_by_event_time=dict(n_units),
        method=method,
    )


def mean_after(curve: EffectCurve) -> Effect:
    """Plain mean over event times >= 0."""
    after = (event_times(curve) >= 0).astype(np.float64)
    w = after / after.sum()
    return Effect(
        estimate=float(w @ curve.estimate),
        std_error=math.sqrt(max(float(w @ curve.cov @ w), 0.0)),
        estimand=curve.estimand,
        method=curve.method,
        n_obs=curve.n_obs,
        n_clusters=curve.n_clusters,
        df=min(curve.df) if isinstance(curve.df, tuple) else curve.df,
        details={**curve.details, "weights": "plain mean over event times >= 0"},
    )


def event_times(curve: EffectCurve) -> NDArray[np.int64]:
    """The labels of a curve over event time."""
    return np.array(curve.index, dtype=np.int64)
