"""What a look at the leads could have found: power of a pre-trend test, equivalence of leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import optimize, special
from scipy.stats import qmc

from causal.distributions import critical_value
from causal.effect_result import EffectResult
from causal.frame import check_level, check_one_of
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import warn
from causal.sensitivity.leads_and_lags import REFERENCE, leads_and_lags, normal_effect
from causal.values import finite
from causal.words import number_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import Effect, EffectCurve
    from causal.sensitivity.leads_and_lags import HoldsCurve, LeadsAndLags

__all__ = ["Equivalence", "PretrendPower", "pretrend_equivalence", "pretrend_power"]

_POINTS = 15  # 2^15 scrambled Sobol points
_SINGULAR = 1e-10
_LARGEST_EXPONENT = 700.0
_LEAST = 1e-300
_DOUBLINGS = 200
_CERTAIN = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PretrendPower(EffectResult):
    """The straight trend that a pre-trend test would have seen, and what it does if it is not seen.

    Parameters
    ----------
    effect : Effect
        The trend through the reference that fits the leads best (generalised least squares), in
        units of the outcome a period.
    slope : float
        The trend that is asked about: the one with this power, or the one that was given.
    power : float
        Probability that the test rejects if the difference in trends has that slope.
    size : float
        The same without any difference in trends.
    distortion : DataFrame
        event_time, hypothesised (what that trend adds to the estimate), expected_given_passing
        (what is expected of the estimate, without any effect, when the test has not rejected),
        estimate, std_error.
    bayes_factor : float
        Probability to pass with that trend, over the probability to pass without.
    likelihood_ratio : float
        Density of the leads with that trend, over the density without.
    test : {"individual", "joint"}
        What "rejects" means.
    level : float
        1 - size of each lead's test, or of the joint test.

    Examples
    --------
    >>> from causal import EffectCurve
    >>> curve = EffectCurve(index=(-3, -2, 0), index_name="event_time", estimate=[0.1, 0.0, 1.0],
    ...     cov=[[0.02, 0.01, 0.0], [0.01, 0.02, 0.0], [0, 0, 0.02]], estimand="att",
    ...     method="TWFE", n_obs=500)
    >>> round(pretrend_power(curve, slope=0.1).power, 2)
    0.33
    """

    effect: Effect
    slope: float
    power: float
    size: float
    distortion: pd.DataFrame
    bayes_factor: float
    likelihood_ratio: float
    test: str
    level: float

    def summary(self, level: float | None = None) -> str:
        """The trend of the leads, and the one that would have been found with this power."""
        level = self.level if level is None else level
        lags = int(self.distortion["event_time"].iloc[-1]) > REFERENCE
        last = self.distortion.iloc[-1 if lags else 0]  # without lags, the farthest lead
        where = f"event time {int(last['event_time'])}"
        return "\n".join(
            [
                self.effect.summary(level),
                f"  a trend of {number_in_words(self.slope)} a period is found with probability "
                f"{self.power:.2f} ({self.test} test, size {self.size:.2f})",
                f"  it adds {number_in_words(last['hypothesised'])} at {where}, and "
                f"{number_in_words(last['expected_given_passing'])} on average if it is not found",
            ]
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the trend, and what is expected once the test has passed; returns the axes."""
        from causal.did.plots import draw_pretrend_power  # noqa: PLC0415 — matplotlib when used

        return draw_pretrend_power(self, ax)


@keeps_warnings
def pretrend_power(
    curve: HoldsCurve | EffectCurve,
    *,
    power: float = 0.8,
    slope: float | None = None,
    test: Literal["individual", "joint"] = "individual",
    level: float = 0.95,
) -> PretrendPower:
    """The straight difference in trends that a pre-trend test finds with a given probability.

    For whoever says "the pre-trends are flat": if a trend that the test would have missed is large
    beside the effect, its passing says little, and what has passed is biased more than what had
    not been tested.

    Parameters
    ----------
    curve : EventStudy, Aggregation or EffectCurve
        Effects by event time relative to event time -1, with their joint covariance; leads up to
        -2 without a gap.
    power : float
        Probability of rejecting, in (0, 1) and above the test's size; left aside if `slope` is
        given.
    slope : float, optional
        A trend in units of the outcome a period, whose power is asked for; by default the positive
        one that has the power.
    test : {"individual", "joint"}
        ``"individual"`` rejects when any lead differs from 0 at `level` (as papers do),
        ``"joint"`` when the Wald test of all leads does.
    level : float
        Of the tests, in (0, 1).

    Returns
    -------
    PretrendPower

    Raises
    ------
    ValueError
        If there are no leads, they have gaps, the reference is not -1, the power is not above the
        test's size, the slope is found with certainty, or an argument is out of its range.
    TypeError
        If `curve` is no curve over whole event times.

    Warns
    -----
    EstimationWarning
        If a joint test is asked of leads whose covariance is singular.

    Notes
    -----
    Leads b ~ N(delta, V) with delta_t = slope (t + 1). Individual: 1 - P(|b_t| <= z se_t for all
    t), by GHK with 2^15 scrambled Sobol points, the same for all slopes; without a trend this is
    above 1 - level, because no correction is made for many leads. Joint: noncentral chi-square.
    What is expected of the lags given that the test has passed: delta_lag + V_lag,lead V_lead^-1
    (E[b_lead | passed] - delta_lead). Normal theory: degrees of freedom are not used.

    References
    ----------
    Roth (2022), Pretest with caution: event-study estimates after testing for parallel trends,
    American Economic Review: Insights 4, 305-322.

    Examples
    --------
    >>> from causal import EffectCurve
    >>> curve = EffectCurve(index=(-3, -2, 0), index_name="event_time", estimate=[0.1, 0.0, 1.0],
    ...     cov=[[0.02, 0.01, 0.0], [0.01, 0.02, 0.0], [0, 0, 0.02]], estimand="att",
    ...     method="TWFE", n_obs=500)
    >>> round(pretrend_power(curve, power=0.8).slope, 3)
    0.194
    """
    check_one_of(test, "test", ["individual", "joint"])
    level = check_level(level)
    study = leads_and_lags(curve, lags=False)
    leads = _Leads.of(study)
    if test == "joint" and leads.rank < len(study.lead):
        warn(
            f"the covariance of the {len(study.lead)} leads has rank {leads.rank}: the joint test "
            "is of that many directions; add units or clusters, or cut periods"
        )
    pretest = _Joint(leads, level) if test == "joint" else _Individual(leads, level)
    size = 1 - pretest.passes(0.0)
    if slope is None:
        slope = _slope_with(pretest, leads.trend, check_level(power, "power"), size)
    slope = finite("slope", slope)
    passes = pretest.passes(slope)
    if passes < _CERTAIN:
        raise ValueError(
            f"slope must leave the test a chance to pass; it finds {slope:.6g} a period with "
            "certainty; give a smaller slope"
        )
    return PretrendPower(
        effect=leads.fitted_trend(study),
        slope=slope,
        power=1 - passes,
        size=size,
        distortion=_distortion(study, leads, slope, pretest.passing_mean(slope)),
        bayes_factor=passes / (1 - size),
        likelihood_ratio=leads.likelihood_ratio(slope, study),
        test=test,
        level=level,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Leads:
    """Leads b ~ N(slope * trend, correlation), in units of their standard errors.

    trend (K,) · error (K,) the units · correlation, inverse (K, K) · rank of the correlation
    """

    trend: NDArray[np.float64]
    error: NDArray[np.float64]
    correlation: NDArray[np.float64]
    inverse: NDArray[np.float64]
    rank: int

    @classmethod
    def of(cls, study: LeadsAndLags) -> _Leads:
        """The leads of an event study."""
        error = np.sqrt(np.diag(study.lead_cov))
        correlation = study.lead_cov / error / error[:, None]
        values, vectors = np.linalg.eigh(correlation)
        keep = values > _SINGULAR * values.max()
        inverse = (vectors[:, keep] / values[keep]) @ vectors[:, keep].T
        trend = (study.lead_times - REFERENCE) / error
        return cls(trend, error, correlation, inverse, int(keep.sum()))

    def fitted_trend(self, study: LeadsAndLags) -> Effect:
        """The straight trend through the reference, by generalised least squares."""
        per_slope = self.inverse @ self.trend
        variance = 1 / float(per_slope @ self.trend)
        slope = float(per_slope @ (study.lead / self.error)) * variance
        return normal_effect(study.curve, slope, variance, "pre-trend a period", {})

    def likelihood_ratio(self, slope: float, study: LeadsAndLags) -> float:
        """Density of the leads with this trend over that without."""
        delta = slope * self.trend
        exponent = float(delta @ self.inverse @ (study.lead / self.error - delta / 2))
        return float(np.exp(min(exponent, _LARGEST_EXPONENT)))


class _Joint:
    """The Wald test of all leads."""

    def __init__(self, leads: _Leads, level: float) -> None:
        self.leads = leads
        self.limit = float(special.chdtri(leads.rank, 1 - level))

    def passes(self, slope: float) -> float:
        """Probability that the test does not reject."""
        return float(special.chndtr(self.limit, self.leads.rank, self._shift(slope)))

    def passing_mean(self, slope: float) -> NDArray[np.float64]:
        """Mean of the leads given that it has not, in standard errors."""
        inner = special.chndtr(self.limit, self.leads.rank + 2, self._shift(slope))
        return np.asarray(slope * self.leads.trend * (inner / self.passes(slope)))

    def _shift(self, slope: float) -> float:
        """Noncentrality of the statistic."""
        delta = slope * self.leads.trend
        return float(delta @ self.leads.inverse @ delta)


class _Individual:
    """Every lead's own test: it passes in a box, whose probability is integrated by GHK."""

    def __init__(self, leads: _Leads, level: float) -> None:
        k = len(leads.trend)
        jitter = 0.0 if leads.rank == k else _SINGULAR
        self.trend = leads.trend
        self.root = np.linalg.cholesky(leads.correlation + jitter * np.eye(k))
        self.z = critical_value(level)
        self.points = qmc.Sobol(k, rng=0).random_base2(_POINTS)

    def passes(self, slope: float) -> float:
        """Probability that no lead's test rejects."""
        return float(self._box(slope)[0].mean())

    def passing_mean(self, slope: float) -> NDArray[np.float64]:
        """Mean of the leads given that none does, in standard errors."""
        weight, draws = self._box(slope)
        return np.asarray(weight @ draws / weight.sum())

    def _box(self, slope: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights (n,) and draws (n, K) of the leads in the box."""
        delta = slope * self.trend
        weight, normal = np.ones(len(self.points)), np.zeros_like(self.points)
        for t, diagonal in enumerate(np.diag(self.root)):
            centre = delta[t] + normal[:, :t] @ self.root[t, :t]
            low, high = (-self.z - centre) / diagonal, (self.z - centre) / diagonal
            flip = low > 0  # the other tail keeps its digits
            low, high = np.where(flip, -high, low), np.where(flip, -low, high)
            p_low, p_high = special.ndtr(low), special.ndtr(high)
            weight *= p_high - p_low
            share = p_low + self.points[:, t] * (p_high - p_low)
            draw = np.clip(special.ndtri(np.clip(share, _LEAST, 1.0)), low, high)
            normal[:, t] = np.where(flip, -draw, draw)
        return weight, delta + normal @ self.root.T


def _slope_with(
    pretest: _Individual | _Joint, trend: NDArray[np.float64], power: float, size: float
) -> float:
    """The positive slope that the test finds with this probability."""
    if power <= size:
        raise ValueError(
            f"power must be above the test's size without a trend, {size:.3g}; got {power}; give a "
            "larger power or a higher level"
        )

    def short(slope: float) -> float:
        return power - (1 - pretest.passes(slope))

    top = 1 / float(np.abs(trend).max())
    for _ in range(_DOUBLINGS):
        if short(top) <= 0:
            break
        top *= 2
    return float(optimize.brentq(short, 0.0, top, xtol=1e-10 * top))


def _distortion(
    study: LeadsAndLags, leads: _Leads, slope: float, passing: NDArray[np.float64]
) -> pd.DataFrame:
    """What the trend adds at each event time, and what is expected once the test has passed."""
    k = len(study.lead)
    times = np.concatenate([study.lead_times, [REFERENCE], study.lag_times])
    moved = passing - slope * leads.trend
    lag = slope * (study.lag_times - REFERENCE)
    expected = lag + (study.cov[k:, :k] / leads.error) @ leads.inverse @ moved
    columns = {
        "event_time": times,
        "hypothesised": slope * (times - REFERENCE),
        "expected_given_passing": np.concatenate([passing * leads.error, [0.0], expected]),
        "estimate": np.concatenate([study.lead, [0.0], study.lag]),
        "std_error": np.insert(np.sqrt(np.diag(study.cov)), k, 0.0),
    }
    return pd.DataFrame(columns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equivalence(EffectResult):
    """How near to 0 the leads are shown to be.

    Parameters
    ----------
    effect : Effect
        The lead that is least near to 0.
    bound : float
        The smallest bound at which "some lead is larger in absolute value" is rejected.
    leads : DataFrame
        event_time, estimate, std_error, bound: the same for each lead alone.
    level : float
        1 - size of the test.

    Examples
    --------
    >>> from causal import EffectCurve
    >>> curve = EffectCurve(index=(-3, -2, 0), index_name="event_time", estimate=[0.1, 0.0, 1.0],
    ...     cov=[[0.02, 0.01, 0.0], [0.01, 0.02, 0.0], [0, 0, 0.02]], estimand="att",
    ...     method="TWFE", n_obs=500)
    >>> round(pretrend_equivalence(curve).bound, 3)
    0.333
    """

    effect: Effect
    bound: float
    leads: pd.DataFrame
    level: float

    def summary(self, level: float | None = None) -> str:
        """The lead that is least near to 0, and the bound on all of them."""
        level = self.level if level is None else level
        return (
            f"{self.effect.summary(level)}\n"
            f"  all {len(self.leads)} leads are within {number_in_words(self.bound)} of 0 "
            f"(equivalence at {100 * self.level:.4g}%)"
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the leads and the bound that all of them keep; returns the axes."""
        from causal.did.plots import draw_equivalence  # noqa: PLC0415 — matplotlib when used

        return draw_equivalence(self, ax)


def pretrend_equivalence(curve: HoldsCurve | EffectCurve, *, level: float = 0.95) -> Equivalence:
    """The smallest bound that all leads are shown to keep.

    For whoever must show that trends were alike before treatment, instead of not finding a
    difference: with noisy leads the bound is large. Compare it with the effect.

    Parameters
    ----------
    curve : EventStudy, Aggregation or EffectCurve
        Effects by event time relative to event time -1; leads up to -2 without a gap.
    level : float
        1 - size of the test, in (0, 1).

    Returns
    -------
    Equivalence

    Raises
    ------
    ValueError
        If there are no leads, they have gaps, the reference is not -1, or `level` is out of its
        range.
    TypeError
        If `curve` is no curve over whole event times.

    Notes
    -----
    Two one-sided tests for each lead, all of which must reject (intersection-union, no correction
    needed): max_t |b_t| + z_level se_t. Normal theory: degrees of freedom are not used. A bound on
    the leads is none on the lags: for that see `honest_did`.

    References
    ----------
    Hartman & Hidalgo (2018), An equivalence approach to balance and placebo tests, American Journal
    of Political Science 62, 1000-1013. Dette & Schumann (2024), Testing for equivalence of
    pre-trends in difference-in-differences estimation, Journal of Business & Economic Statistics.

    Examples
    --------
    >>> from causal import EffectCurve
    >>> curve = EffectCurve(index=(-3, -2, 0), index_name="event_time", estimate=[0.1, 0.0, 1.0],
    ...     cov=[[0.02, 0.01, 0.0], [0.01, 0.02, 0.0], [0, 0, 0.02]], estimand="att",
    ...     method="TWFE", n_obs=500)
    >>> pretrend_equivalence(curve).leads["bound"].round(3).tolist()
    [0.333, 0.233]
    """
    level = check_level(level)
    study = leads_and_lags(curve, lags=False)
    error = np.sqrt(np.diag(study.lead_cov))
    bound = np.abs(study.lead) - special.ndtri(1 - level) * error
    worst = int(np.argmax(bound))
    time = int(study.lead_times[worst])
    columns = {
        "event_time": study.lead_times,
        "estimate": study.lead,
        "std_error": error,
        "bound": bound,
    }
    return Equivalence(
        effect=normal_effect(
            study.curve,
            float(study.lead[worst]),
            float(study.lead_cov[worst, worst]),
            "largest lead",
            {"at": {"event_time": time}},
        ),
        bound=float(bound[worst]),
        leads=pd.DataFrame(columns),
        level=level,
    )
