"""Reading an experiment while it runs: always-valid intervals and group-sequential tests.

A 95 % interval that is looked at every day and acted upon when it first leaves zero is wrong far
more often than 5 % of the time. Two repairs:

- *always valid* (`confidence_sequence`, `mixture_sprt`): holds over any number of looks, at any
  times, decided while looking; pays with a wider interval;
- *group sequential* (`group_sequential_bounds`, `sequential_test`): a few looks at known shares of
  the final information; nearly as narrow as the fixed test at the end.

All of them treat the estimate as normal with known standard error and independent increments. They
do not correct for several metrics, segments or arms: divide the level over those first.
"""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from scipy import optimize

from causal.effect import Effect, EstimationWarning
from causal.frame import check_level, check_one_of
from causal.values import thawed_json
from experiments.splits.boundary_crossing import (
    checked_information,
    classical_bounds,
    crossing_above,
    spending_bounds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Rule: TypeAlias = Literal["pocock", "obrien_fleming", "pocock_spending", "obrien_fleming_spending"]
Decision: TypeAlias = Literal["positive", "negative", "not rejected", "continue"]

_SMALLEST = 5e-324  # the least positive double: a p-value below it is still not zero
_FEW_DF = 30
_INFORMATION_GAP = 0.1


# ---------------------------------------------------------------- valid at every look


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysValid:
    """Interval and p-value that stay valid however often, and whenever, the experiment is read.

    Parameters
    ----------
    low, high : float
        Limits, in the units of the effect. Over *all* looks together they miss the true effect
        with probability at most 1 - level.
    half_width : float
        Half of high - low.
    p_value : float
        Always-valid p-value of no effect; at most 1 - level exactly when the interval excludes 0.
    level : float
        Confidence level.
    log_likelihood_ratio : float
        Log of the mixture likelihood ratio (e-value) against no effect; p = min(1, exp(-it)).
    """

    low: float
    high: float
    half_width: float
    p_value: float
    level: float
    log_likelihood_ratio: float

    @property
    def likelihood_ratio(self) -> float:
        """Mixture likelihood ratio against no effect, at most the largest finite float."""
        if self.log_likelihood_ratio >= math.log(sys.float_info.max):
            return sys.float_info.max
        return math.exp(self.log_likelihood_ratio)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the likelihood ratio among them."""
        return {**asdict(self), "likelihood_ratio": self.likelihood_ratio}


def confidence_sequence(
    effect: Effect, *, n: int | None = None, n_star: float = 5000, level: float = 0.95
) -> AlwaysValid:
    """Asymptotic confidence sequence for the effect, valid at every look from a large n on.

    Use it when a dashboard is read at any time and nobody promised a number of looks.

    Parameters
    ----------
    effect : Effect
        The read-out so far.
    n : int, optional
        Observations behind it, over both arms; `effect.n_obs` by default.
    n_star : float
        Observations at which the sequence is to be tightest, > 0; fix it before the first look.
    level : float
        In (0, 1).

    Returns
    -------
    AlwaysValid
        Interval, always-valid p-value, half width and likelihood ratio.

    Warns
    -----
    EstimationWarning
        If the effect has fewer than 30 degrees of freedom: the normal limit is then optimistic.

    Raises
    ------
    ValueError
        If the standard error is 0, n < 1, n_star <= 0 or level is not in (0, 1).
    TypeError
        If `effect` is no Effect.

    Notes
    -----
    With a = 1 - level, rho^2 = (-2 log a + log(-2 log a + 1)) / n_star and
    half = se sqrt(n) sqrt(2 (n rho^2 + 1) / (n rho)^2 log(sqrt(n rho^2 + 1) / a)).
    The p-value inverts half in a with rho kept where `level` puts it. Not corrected for: few
    observations, several metrics, and an n_star chosen after seeing data.

    References
    ----------
    Waudby-Smith, I., Arbour, D., Sinha, R., Kennedy, E. H. & Ramdas, A. (2024). Time-uniform
    central limit theory and asymptotic confidence sequences. Annals of Statistics 52, eq. (9).

    Examples
    --------
    >>> effect = Effect(estimate=0.3, std_error=0.1, estimand="ate", method="Lin", n_obs=5000)
    >>> sequence = confidence_sequence(effect)
    >>> round(sequence.low, 3), round(sequence.high, 3), round(sequence.p_value, 3)
    (-0.004, 0.604, 0.055)
    """
    _check_effects([effect])
    a = 1 - check_level(level)
    size = effect.n_obs if n is None else n
    if not 1 <= size < math.inf:
        raise ValueError(f"n must be a finite number of at least 1; got {size}")
    log_term = -2 * math.log(a)
    # With V = rho^2 n, the sequence is the normal-mixture interval of variance V se^2.
    ratio = size * (log_term + math.log1p(log_term)) / _positive("n_star", n_star)
    return _normal_mixture(effect, mixing_ratio=ratio, level=level)


def mixture_sprt(effect: Effect, *, tau2: float, level: float = 0.95) -> AlwaysValid:
    """Mixture sequential probability ratio test of no effect, with its always-valid interval.

    Use it when the size of plausible effects is known beforehand.

    Parameters
    ----------
    effect : Effect
        The read-out so far.
    tau2 : float
        Variance of the normal prior over effects, > 0, in squared units of the effect; fix it
        before the first look.
    level : float
        In (0, 1).

    Returns
    -------
    AlwaysValid
        Interval, always-valid p-value, half width and likelihood ratio.

    Warns
    -----
    EstimationWarning
        If the effect has fewer than 30 degrees of freedom.

    Raises
    ------
    ValueError
        If the standard error is 0, tau2 <= 0 or level is not in (0, 1).
    TypeError
        If `effect` is no Effect.

    Notes
    -----
    With s the standard error and d the estimate,
    L = sqrt(s^2 / (s^2 + tau2)) exp(tau2 d^2 / (2 s^2 (s^2 + tau2))), p = min(1, 1 / L) and
    half = s sqrt((1 + s^2 / tau2) (2 log(1 / a) + log((s^2 + tau2) / s^2))), a = 1 - level.
    Not corrected for: few observations, several metrics.

    References
    ----------
    Johari, R., Koomen, P., Pekelis, L. & Walsh, D. (2022). Always valid inference: continuous
    monitoring of A/B tests. Operations Research 70, 1806-1821.

    Examples
    --------
    >>> effect = Effect(estimate=0.3, std_error=0.1, estimand="ate", method="Lin", n_obs=5000)
    >>> round(mixture_sprt(effect, tau2=0.04).likelihood_ratio, 2)
    16.37
    """
    _check_effects([effect])
    ratio = _positive("tau2", tau2) / effect.std_error / effect.std_error
    return _normal_mixture(effect, mixing_ratio=ratio, level=check_level(level))


def _normal_mixture(effect: Effect, *, mixing_ratio: float, level: float) -> AlwaysValid:
    """Interval and p-value of the normal mixture with variance `mixing_ratio` se^2."""
    v = mixing_ratio
    z = effect.estimate / effect.std_error
    log_ratio = (v / (1 + v) * z * z - math.log1p(v)) / 2
    half = effect.std_error * math.sqrt((1 + 1 / v) * (math.log1p(v) - 2 * math.log1p(-level)))
    return AlwaysValid(
        low=effect.estimate - half,
        high=effect.estimate + half,
        half_width=half,
        p_value=max(math.exp(-max(log_ratio, 0.0)), _SMALLEST),
        level=level,
        log_likelihood_ratio=log_ratio,
    )


# ---------------------------------------------------------------- a planned number of looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Critical values of a group-sequential test, one a look.

    Parameters
    ----------
    z : tuple of float, length K
        Stop at look k when the z statistic reaches z[k] (two-sided: in absolute value).
    alpha_spent : tuple of float, length K
        Type I error used up to each look, both sides together.
    information : tuple of float, length K
        Share of the final information at each look, in (0, 1].
    alpha : float
        Type I error of the whole test, both sides together.
    rule : str
        How the bounds were made.
    sided : {1, 2}
        1 stops for positive effects only.
    """

    z: tuple[float, ...]
    alpha_spent: tuple[float, ...]
    information: tuple[float, ...]
    alpha: float
    rule: str
    sided: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: thawed_json(value) for name, value in asdict(self).items()}


def group_sequential_bounds(
    information: Sequence[float],
    *,
    alpha: float = 0.05,
    rule: Rule = "obrien_fleming_spending",
    sided: Literal[1, 2] = 2,
) -> Bounds:
    """Critical values that keep the type I error of several planned looks at `alpha`.

    Parameters
    ----------
    information : sequence of float, length K
        Share of the final information (about: of the final sample) at each look; strictly
        increasing in (0, 1], steps of at least 0.001. With a spending rule, call again at
        every look with the shares really reached: earlier bounds do not change.
    alpha : float
        Type I error, both sides together; in (0, 1), below 0.5 when one-sided.
    rule : {"pocock", "obrien_fleming", "pocock_spending", "obrien_fleming_spending"}
        The first two are the classical constants and need equal steps that end at 1; the
        spending rules take any steps. O'Brien-Fleming is strict early and close to the fixed
        test at the end; Pocock stops earlier and pays at the end.
    sided : {1, 2}
        1 stops for positive effects only.

    Returns
    -------
    Bounds
        z, cumulative alpha spent and information at each look.

    Raises
    ------
    ValueError
        If information is not strictly increasing in (0, 1] by steps of 0.001 or more, is not
        equally spaced up to 1 for a classical rule, or starts so early that the rule spends
        nothing there; if alpha, rule or sided is not as above.

    Notes
    -----
    The score Z_k sqrt(t_k) is a Brownian motion observed at t_k; its density on the paths that
    have not stopped is carried from look to look by numerical integration
    (`experiments.splits.boundary_crossing`), and Brent's method finds each bound. Classical bounds:
    Pocock c, O'Brien-Fleming c / sqrt(t_k). Spending at t, per side with a = alpha / sided:
    O'Brien-Fleming type 2 - 2 Phi(z_{1 - a/2} / sqrt(t)), Pocock type
    a log(1 + (e - 1) t). There is no bound for futility. Not corrected for: a standard error
    with few degrees of freedom.

    References
    ----------
    Armitage, P., McPherson, C. K. & Rowe, B. C. (1969). JRSS A 132, 235-244. Lan, K. K. G. &
    DeMets, D. L. (1983). Biometrika 70, 659-663. Jennison, C. & Turnbull, B. W. (2000). Group
    Sequential Methods, chapters 2, 7 and 19.

    Examples
    --------
    >>> bounds = group_sequential_bounds([0.5, 1.0], rule="pocock")
    >>> [round(z, 3) for z in bounds.z]
    [2.178, 2.178]
    """
    t = checked_information(information)
    check_one_of(rule, "rule", get_args(Rule))
    check_one_of(sided, "sided", (1, 2))
    a = check_level(alpha, "alpha") / sided
    if a >= 0.5:
        raise ValueError(f"alpha of a one-sided test must be below 0.5; got {alpha}")
    solve = spending_bounds if rule.endswith("_spending") else classical_bounds
    z, spent = solve(t, alpha=a, pocock=rule.startswith("pocock"), sided=sided)
    return Bounds(
        z=tuple(z.tolist()),
        alpha_spent=tuple((sided * spent).tolist()),
        information=t,
        alpha=float(alpha),
        rule=rule,
        sided=sided,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One reading of a running experiment against its bound.

    Parameters
    ----------
    look : int
        1 for the first.
    information : float
        Share of the final information, in (0, 1].
    estimate, std_error, z : float
        The effect as read, and their ratio.
    bound : float
        Critical value of z at this look.
    crossed : bool
        Whether z reached it.
    conf_low, conf_high : float
        Repeated confidence interval, estimate -+ bound x std_error: over all looks together it
        misses with probability at most alpha (one-sided tests: alpha a limit).
    """

    look: int
    information: float
    estimate: float
    std_error: float
    z: float
    bound: float
    crossed: bool
    conf_low: float
    conf_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialResult:
    """What a group-sequential experiment decided, and its effect corrected for stopping early.

    Parameters
    ----------
    stopped_at : int or None
        The first look that crossed its bound (1 for the first); None if none did.
    decision : {"positive", "negative", "not rejected", "continue"}
        ``"not rejected"`` after the last planned look, ``"continue"`` before it.
    conf_int_adjusted : tuple of float
        Interval for the effect at `level`.
    level : float
        1 - alpha; for a one-sided test 1 - 2 alpha, so that each limit errs with probability alpha.
    interval : {"stagewise", "repeated"}
        How `conf_int_adjusted` was made: by stagewise ordering once the test has ended, the
        repeated interval of the latest look before.
    estimate_adjusted : float or None
        Median-unbiased estimate by the same ordering; None while the test goes on.
    path : tuple of Look
        Every look handed in, also those after the test had stopped.
    """

    stopped_at: int | None
    decision: Decision
    conf_int_adjusted: tuple[float, float]
    level: float
    interval: Literal["stagewise", "repeated"]
    estimate_adjusted: float | None
    path: tuple[Look, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: thawed_json(value) for name, value in asdict(self).items()}


def sequential_test(
    effects: Sequence[Effect], *, information: Sequence[float], bounds: Bounds
) -> SequentialResult:
    """Decision, adjusted interval and median-unbiased estimate of a group-sequential experiment.

    Parameters
    ----------
    effects : sequence of Effect
        The cumulative read-out at each look so far, in order.
    information : sequence of float
        Share of the final information at each of these looks; the first entries of
        `bounds.information`.
    bounds : Bounds
        From `group_sequential_bounds`.

    Returns
    -------
    SequentialResult
        stopped_at, decision, conf_int_adjusted, estimate_adjusted and path.

    Warns
    -----
    EstimationWarning
        If the standard errors contradict `information` by more than 10 %, or an effect has fewer
        than 30 degrees of freedom.

    Raises
    ------
    ValueError
        If there is no effect, more than bounds, a standard error of 0, or `information` differs
        from that of the bounds.
    TypeError
        If an entry of `effects` is no Effect.

    Notes
    -----
    Outcomes are ordered by the stage of stopping: positive stops, earliest first; then z at the
    stage reached; then negative stops, latest first. The limits are the effects under which the
    observed outcome or a larger one has probability tail and 1 - tail (tail = alpha / sided), the
    estimate where it is 1/2. The interval excludes 0 exactly when the whole alpha is spent at the
    last look and the test rejects. Looks after the stop do not enter: overrun is not corrected for.

    References
    ----------
    Tsiatis, A. A., Rosner, G. L. & Mehta, C. R. (1984). Exact confidence intervals following a
    group sequential test. Biometrics 40, 797-803. Jennison & Turnbull (2000), sections 8.4, 8.5, 9.

    Examples
    --------
    >>> looks = [Effect(estimate=d, std_error=s, estimand="ate", method="Lin", n_obs=1000)
    ...     for d, s in ((0.2, 0.14), (0.3, 0.1))]
    >>> result = sequential_test(looks, information=[0.5, 1.0],
    ...     bounds=group_sequential_bounds([0.5, 1.0]))
    >>> result.stopped_at, result.decision, [round(x, 2) for x in result.conf_int_adjusted]
    (2, 'positive', [0.09, 0.49])
    """
    _check_looks(effects, information, bounds)
    _check_effects(effects, information)
    path = tuple(_look(k, effect, bounds) for k, effect in enumerate(effects))
    stopped = next((look for look in path if look.crossed), None)
    final = len(path) == len(bounds.z) and math.isclose(bounds.information[-1], 1.0)
    end = stopped or path[-1]
    decision: Decision
    if stopped is not None:
        decision = "negative" if bounds.sided == 2 and stopped.z < 0 else "positive"
    else:
        decision = "not rejected" if final else "continue"
    ended = decision != "continue"
    tail = bounds.alpha / bounds.sided
    low, middle, high = end.conf_low, None, end.conf_high
    if ended:
        low, middle, high = (_stagewise(end, bounds, p) for p in (tail, 0.5, 1 - tail))
    return SequentialResult(
        stopped_at=stopped.look if stopped else None,
        decision=decision,
        conf_int_adjusted=(low, high),
        level=1 - 2 * tail,
        interval="stagewise" if ended else "repeated",
        estimate_adjusted=middle,
        path=path,
    )


def _look(k: int, effect: Effect, bounds: Bounds) -> Look:
    """Look k (from 0) against its bound."""
    z, bound = effect.estimate / effect.std_error, bounds.z[k]
    return Look(
        look=k + 1,
        information=bounds.information[k],
        estimate=effect.estimate,
        std_error=effect.std_error,
        z=z,
        bound=bound,
        crossed=(abs(z) if bounds.sided == 2 else z) >= bound,
        conf_low=effect.estimate - bound * effect.std_error,
        conf_high=effect.estimate + bound * effect.std_error,
    )


def _stagewise(end: Look, bounds: Bounds, p: float) -> float:
    """The effect under which the outcome `end`, or one ordered above it, has probability p."""
    z = (*bounds.z[: end.look - 1], end.z)
    information = bounds.information[: end.look]

    def excess(drift: float) -> float:
        return float(crossing_above(z, information, sided=bounds.sided, drift=drift).sum()) - p

    unit = 1 / math.sqrt(end.information)
    low, high = _bracket(excess, end.z * unit, 3 * unit)
    drift = optimize.brentq(excess, low, high, xtol=1e-10)
    return float(drift) * end.std_error / unit


def _bracket(excess: Callable[[float], float], centre: float, step: float) -> tuple[float, float]:
    """Two drifts around the root of an increasing function, by doubling the reach."""
    low = high = step
    while excess(centre - low) > 0:
        low *= 2
    while excess(centre + high) < 0:
        high *= 2
    return centre - low, centre + high


# ---------------------------------------------------------------- checks


def _positive(name: str, value: float) -> float:
    """A finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0; got {value!r}")
    return float(value)


def _check_looks(effects: Sequence[Effect], information: Sequence[float], bounds: Bounds) -> None:
    """The effects, their information and the bounds belong together."""
    if not 1 <= len(effects) <= len(bounds.z):
        raise ValueError(
            f"effects must hold between 1 and {len(bounds.z)} looks (the bounds have that many); "
            f"got {len(effects)}; make bounds for all looks with group_sequential_bounds"
        )
    t = checked_information(information)
    planned = bounds.information[: len(effects)]
    if len(t) != len(effects) or not np.allclose(t, planned, rtol=0, atol=1e-9):
        raise ValueError(
            f"information must be that of the bounds at the {len(effects)} looks of effects, "
            f"{list(planned[:5])}; got {list(t[:5])}; "
            "make the bounds again from the information really reached"
        )


def _check_effects(effects: Sequence[Effect], information: Sequence[float] | None = None) -> None:
    """Each is an Effect with a standard error; one warning for all that is fragile."""
    for effect in effects:
        if not isinstance(effect, Effect):
            raise TypeError(f"an Effect is required; got {type(effect).__name__}")
        if effect.std_error == 0:
            raise ValueError(
                "a sequential read-out needs a positive standard error; got 0 for the estimate "
                f"{effect.estimate:g}: the outcome is constant within arms"
            )
    fragile = []
    df = min((e.df for e in effects if e.df is not None), default=math.inf)
    if df < _FEW_DF:
        fragile.append(f"{df:g} degrees of freedom are few for a normal reference")
    if information is not None:
        implied = np.array([(effects[-1].std_error / e.std_error) ** 2 for e in effects])
        gap = float(np.abs(implied * information[-1] / np.array(information) - 1).max())
        if gap > _INFORMATION_GAP:
            fragile.append(
                f"standard errors imply information that differs by up to {100 * gap:.3g}% from "
                "the shares given; make the bounds again from 1 / std_error^2"
            )
    if fragile:
        warnings.warn("sequential: " + "; ".join(fragile), EstimationWarning, stacklevel=3)
