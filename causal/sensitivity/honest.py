"""How large a violation of parallel trends overturns an event study (Rambachan & Roth, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from causal.effect_result import EffectResult
from causal.frame import check_level, check_one_of
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import warn
from causal.sensitivity.leads_and_lags import leads_and_lags
from causal.sensitivity.relative_magnitude import relative_magnitude_interval
from causal.sensitivity.smoothness import frontier
from causal.values import finite
from causal.words import number_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import Effect, EffectCurve
    from causal.sensitivity.leads_and_lags import HoldsCurve, LeadsAndLags, Target

__all__ = ["HonestDid", "honest_did"]

_METHODS = {
    "relative_magnitude": "conditional least-favourable hybrid",
    "smoothness": "optimal fixed-length interval",
}
_WORDS = {
    "relative_magnitude": "times the largest change from period to period before treatment",
    "smoothness": "of change of slope from period to period",
}
_DOUBLINGS = 60
_ENOUGH = 5  # treated units or clusters an event time, below which smoothness is warned of
_NO_ERROR = 1e-6  # of the largest standard error
_EXACT = 1e-5  # of the breakdown, relative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HonestDid(EffectResult):
    """Intervals for an effect that hold when parallel trends fail by no more than a bound.

    Parameters
    ----------
    effect : Effect
        The target as the event study estimates it, with normal quantiles: valid under parallel
        trends only.
    frame : DataFrame
        bound, lower, upper: one row a bound, ascending.
    original : tuple of float
        The interval under parallel trends.
    breakdown : float
        The smallest bound whose interval holds 0: at every smaller one that was looked at, the
        effect has a sign. 0 if already the interval at a bound of 0 holds 0; infinite if no bound
        does.
    kind : {"relative_magnitude", "smoothness"}
        What the bound bounds.
    method : str
        How the intervals are made.
    level : float
        Of the intervals.

    Examples
    --------
    >>> from causal import EffectCurve
    >>> curve = EffectCurve(index=(-3, -2, 0), index_name="event_time", estimate=[0.1, 0.0, 1.0],
    ...     cov=[[0.02, 0.01, 0.0], [0.01, 0.02, 0.0], [0, 0, 0.02]], estimand="att",
    ...     method="TWFE", n_obs=500)
    >>> round(honest_did(curve).breakdown, 2)
    2.86
    """

    effect: Effect
    frame: pd.DataFrame
    original: tuple[float, float]
    breakdown: float
    kind: str
    method: str
    level: float

    def to_frame(self, level: float | None = None) -> pd.DataFrame:
        """The target under parallel trends as one row; by default at the level of `frame`."""
        return self.effect.to_frame(self.level if level is None else level)

    def summary(self, level: float | None = None) -> str:
        """The effect, the interval at each bound, and where it breaks down.

        Parameters
        ----------
        level : float, optional
            Of the first line, which assumes parallel trends; the result's own by default.
        """
        lines = [self.effect.summary(self.level if level is None else level)]
        for bound, low, high in self.frame.itertuples(index=False):
            lines.append(
                f"  bound {number_in_words(bound)}: {number_in_words(low)} to "
                f"{number_in_words(high)}"
            )
        lines.append(f"  {self._breakdown_in_words()}")
        return "\n".join(lines)

    def _breakdown_in_words(self) -> str:
        """What overturns the claim that there is an effect of this sign."""
        words = f"{_WORDS[self.kind]}; {100 * self.level:.4g}% intervals, {self.method}"
        if self.breakdown == 0:
            return f"its sign cannot be told at any bound ({words})"
        if not np.isfinite(self.breakdown):
            return f"no bound that was tried overturns its sign ({words})"
        return f"its sign is lost at a bound of {number_in_words(self.breakdown)} ({words})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the interval against the bound, with the breakdown; returns the axes."""
        from causal.did.plots import draw_honest  # noqa: PLC0415 — matplotlib only when used

        return draw_honest(self, ax)


@keeps_warnings
def honest_did(
    curve: HoldsCurve | EffectCurve,
    *,
    kind: Literal["relative_magnitude", "smoothness"] = "relative_magnitude",
    bound: Sequence[float] | None = None,
    at: Target = 0,
    level: float = 0.95,
    seed: int = 0,  # noqa: ARG001 — part of the contract; see Parameters
) -> HonestDid:
    """Intervals for an effect when trends need not be parallel, by how far they may differ.

    For whoever must know how large a violation overturns a claim, instead of trusting a pre-trend
    test that may have had no power. Assumes that what went on before treatment tells how bad it
    can be after: by its largest change between neighbouring periods, or by how straight it ran.

    Parameters
    ----------
    curve : EventStudy, Aggregation or EffectCurve
        Effects by event time relative to event time -1, with their joint covariance; leads up to
        -2 and lags from 0 without a gap.
    kind : {"relative_magnitude", "smoothness"}
        ``"relative_magnitude"``: no change of the difference in trends from one period to the next
        after treatment is more than `bound` times the largest one before. ``"smoothness"``: its
        slope changes by at most `bound` (units of the outcome) from one period to the next; 0 means
        that it goes on as a straight line.
    bound : sequence of float, optional
        Bounds >= 0. By default 0 to 2 by 0.25; for smoothness ten from 0 to the one-sided 95 %
        limit of the largest change of slope among the leads (one lead: its standard error).
    at : int, mapping from event time to weight, or "average"
        The target: a lag, weighted lags (also contrasts), or the mean of all lags.
    level : float
        Of the intervals, in (0, 1).
    seed : int
        Changes nothing: critical values are integrals, not simulations.

    Returns
    -------
    HonestDid

    Raises
    ------
    ValueError
        If there are no leads or no lags, they have gaps, the reference is not -1, an argument is
        out of its range, or smoothness is asked of a covariance that is singular, or estimated from
        no more treated units or clusters than event times.
    TypeError
        If `curve` is no curve over whole event times.

    Warns
    -----
    EstimationWarning
        If smoothness rests on fewer than 5 treated units or clusters an event time.

    Notes
    -----
    b ~ N(delta + tau, V); tau is 0 before treatment, the target is theta = l'tau.

    Smoothness: |delta_(t+1) - 2 delta_t + delta_(t-1)| <= M. The shortest fixed-length interval
    l'b_lag + v'b_lead +- se cv(M B / se), with B the worst bias at M = 1 and cv the quantile of
    |N(r, 1)|; v from the exact path of least se for each B. Its centre moves with M: only its
    length is sure never to fall.

    Relative magnitudes: the hull over the place and the sign of the worst lead of the hybrid
    conditional tests' intervals, from the moments of lags alone, first stage at (1 - level) / 10.
    At a bound of 0 it is the usual interval. Nothing is drawn at random. The estimated worst change
    of trend is never plugged in: that would ignore its noise.

    Normal theory: V is taken as known, and degrees of freedom of the curve are not used. Not
    corrected for: choosing the bound or the target after a look at the result, several targets at
    once, other restrictions (signs, monotony).

    References
    ----------
    Rambachan & Roth (2023), A more credible approach to parallel trends, Review of Economic
    Studies 90, 2555-2591. Andrews, Roth & Pakes (2023), Inference for linear conditional moment
    inequalities, Review of Economic Studies 90, 2763-2791.

    Examples
    --------
    >>> from causal import EffectCurve
    >>> curve = EffectCurve(index=(-3, -2, 0), index_name="event_time", estimate=[0.1, 0.0, 1.0],
    ...     cov=[[0.02, 0.01, 0.0], [0.01, 0.02, 0.0], [0, 0, 0.02]], estimand="att",
    ...     method="TWFE", n_obs=500)
    >>> honest_did(curve, bound=[0.5, 1]).frame.round(2).to_dict("list")
    {'bound': [0.5, 1.0], 'lower': [0.67, 0.57], 'upper': [1.33, 1.43]}
    """
    check_one_of(kind, "kind", list(_METHODS))
    level = check_level(level)
    study = leads_and_lags(curve)
    weights = study.lag_weights(at)
    if kind == "smoothness":
        _check_known(curve, study)
    effect = study.target(weights, at)
    if effect.std_error == 0:
        raise ValueError("the target needs a standard error above 0; leave out fixed event times")
    interval, default = _intervals(study, weights, kind, level)
    bounds = default if bound is None else _checked(bound)
    found = {m: interval(m) for m in bounds}
    frame = pd.DataFrame(
        [(m, low, high) for m, (low, high) in found.items()], columns=["bound", "lower", "upper"]
    )
    return HonestDid(
        effect=effect,
        frame=frame,
        original=effect.conf_int(level),
        breakdown=_breakdown(interval, found, default),
        kind=kind,
        method=_METHODS[kind],
        level=level,
    )


def _check_known(curve: HoldsCurve | EffectCurve, study: LeadsAndLags) -> None:
    """Refuse, or warn of, a covariance that is estimated from hardly more units than event times.

    Smoothness chooses its weights by that covariance: where it is too small by chance they go.
    """
    treated = max(getattr(curve, "n_units_by_event_time", {}).values(), default=None)
    counts = [n for n in (treated, study.curve.n_clusters) if n]
    dimension = len(study.lead) + len(study.lag)
    if not counts or min(counts) >= _ENOUGH * dimension:
        return
    n = min(counts)
    words = (
        f"smoothness weighs {dimension} event times by a covariance that {n} treated units or "
        "clusters tell"
    )
    fix = "give a shorter window= to the event study, or take kind='relative_magnitude'"
    if n <= dimension:
        raise ValueError(f"{words}, too few for it; {fix}")
    warn(f"{words}: its intervals are too short with so few; {fix}")


def _checked(bound: Sequence[float]) -> list[float]:
    """Bounds >= 0, ascending, each once."""
    values = [bound] if np.ndim(bound) == 0 else list(bound)
    bounds = sorted({finite("bound", m) for m in values})
    if not bounds or bounds[0] < 0:
        raise ValueError(f"bound must be numbers >= 0, at least one; got {list(values)[:5]}")
    return bounds


def _intervals(
    study: LeadsAndLags, weights: NDArray[np.float64], kind: str, level: float
) -> tuple[Callable[[float], tuple[float, float]], list[float]]:
    """The interval at a bound, as a function, and the bounds that are looked at by default.

    Everything is in units of the largest standard error inside: squares of 1e150 overflow.
    """
    unit = float(np.sqrt(np.diag(study.cov)).max())
    b = np.concatenate([study.lead, study.lag]) / unit
    cov = study.cov / unit / unit
    if kind == "relative_magnitude":

        def relative(m: float) -> tuple[float, float]:
            low, high = relative_magnitude_interval(b, cov, weights, m, level=level)
            return low * unit, high * unit

        return relative, [0.25 * j for j in range(9)]
    path = frontier(cov, weights, len(study.lead))
    if path.least_error <= _NO_ERROR:
        raise ValueError(
            "the covariance is singular: some straight-trend estimate has no error, and the "
            "interval no width; give fewer event times, or take kind='relative_magnitude'"
        )

    def smooth(m: float) -> tuple[float, float]:
        low, high = path.interval(b, m / unit, level)
        return low * unit, high * unit

    most = (_largest_bend(b, cov, len(study.lead)) or 1.0) * unit
    return smooth, [most * j / 9 for j in range(10)]


def _largest_bend(b: NDArray[np.float64], cov: NDArray[np.float64], n_lead: int) -> float:
    """Upper limit of the largest change of slope among the leads."""
    if n_lead == 1:
        return float(np.sqrt(cov[0, 0]))
    path = np.vstack([np.eye(n_lead), np.zeros(n_lead)])
    bends = np.diff(path, n=2, axis=0)
    error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", bends, cov[:n_lead, :n_lead], bends), 0))
    return float((np.abs(bends @ b[:n_lead]) + special.ndtri(0.95) * error).max())


def _breakdown(
    interval: Callable[[float], tuple[float, float]],
    found: dict[float, tuple[float, float]],
    default: list[float],
) -> float:
    """The smallest bound whose interval holds 0: bisected below the first look that finds one."""

    def holds(m: float) -> bool:
        low, high = found[m] if m in found else interval(m)
        return low <= 0 <= high

    sure = 0.0
    looks: list[Any] = sorted({0.0, *default, *found})
    looks += [looks[-1] * 2.0**j for j in range(1, _DOUBLINGS)]
    for lost in looks:
        if holds(lost):
            break
        sure = lost
    else:
        return float("inf")
    while lost - sure > _EXACT * lost:
        middle = (sure + lost) / 2
        sure, lost = (sure, middle) if holds(middle) else (middle, lost)
    return float(lost)
