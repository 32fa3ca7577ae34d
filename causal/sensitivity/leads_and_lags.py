"""An event study around its reference period: leads before it, lags from treatment on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from causal.effect import Effect, EffectCurve
from causal.values import finite, is_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFERENCE = -1

Target: TypeAlias = "int | Mapping[int, float] | Literal['average']"


class HoldsCurve(Protocol):
    """An event study, an aggregation: any result with a curve over event time."""

    @property
    def curve(self) -> EffectCurve:
        """Effects by event time."""


@dataclass(frozen=True, slots=True, eq=False)
class LeadsAndLags:
    """Estimates at event times -K-1..-2 (leads) and 0..T-1 (lags), relative to event time -1.

    lead (K,) · lag (T,) · cov (K+T, K+T), leads first · curve: where they come from
    """

    lead: NDArray[np.float64]
    lag: NDArray[np.float64]
    cov: NDArray[np.float64]
    curve: EffectCurve

    @property
    def lead_times(self) -> NDArray[np.int64]:
        """Event times of the leads."""
        return np.arange(-len(self.lead) + REFERENCE, REFERENCE)

    @property
    def lag_times(self) -> NDArray[np.int64]:
        """Event times of the lags."""
        return np.arange(len(self.lag))

    @property
    def lead_cov(self) -> NDArray[np.float64]:
        """Covariance of the leads."""
        k = len(self.lead)
        return self.cov[:k, :k]

    def lag_weights(self, at: Target) -> NDArray[np.float64]:
        """Weights of the lags that make the target, shape (T,)."""
        n = len(self.lag)
        if isinstance(at, str):
            if at != "average":
                raise ValueError(f"at must be an event time, weights or 'average'; got {at!r}")
            return np.full(n, 1.0 / n)
        if not isinstance(at, Mapping) and not is_number(at):
            raise TypeError(
                f"at must be an event time, weights by event time such as {{0: 0.5, 1: 0.5}}, or "
                f"'average'; got {at!r}"
            )
        given = at if isinstance(at, Mapping) else {at: 1.0}
        weights = np.zeros(n)
        for label, weight in given.items():
            if not is_number(label) or label not in range(n):
                raise ValueError(
                    f"at must name event times from 0 to {n - 1}; got {label!r}; leads cannot be "
                    "the target"
                )
            weights[int(label)] = finite(f"at[{label!r}]", weight)
        if not weights.any():
            raise ValueError(f"at must give some event time a weight other than 0; got {at!r}")
        return weights

    def target(self, weights: NDArray[np.float64], at: Target) -> Effect:
        """The weighted lags as one effect with normal quantiles, as if leads could not deceive."""
        k = len(self.lead)
        variance = float(weights @ self.cov[k:, k:] @ weights)
        words: Any = {str(t): w for t, w in at.items()} if isinstance(at, Mapping) else at
        estimand = f"{self.curve.estimand} at {target_in_words(weights, at)}"
        return normal_effect(
            self.curve, float(weights @ self.lag), variance, estimand, {"at": words}
        )


def target_in_words(weights: NDArray[np.float64], at: Target) -> str:
    """Which effect after the start is asked about."""
    if at == "average":
        last = len(weights) - 1
        return f"the mean of event times 0 to {last}" if last else "event time 0"
    used = np.flatnonzero(weights)
    if len(used) == 1 and weights[used[0]] == 1:
        return f"event time {used[0]}"
    return "event times " + ", ".join(f"{t} (weight {weights[t]:.3g})" for t in used)


def normal_effect(
    curve: EffectCurve, estimate: float, variance: float, estimand: str, details: Mapping[str, Any]
) -> Effect:
    """A linear function of a curve as an effect without degrees of freedom."""
    return Effect(
        estimate=estimate,
        std_error=float(np.sqrt(max(variance, 0.0))),
        estimand=estimand,
        method=curve.method,
        n_obs=curve.n_obs,
        n_clusters=curve.n_clusters,
        details={**outcome_of(curve), **details},
    )


def outcome_of(curve: EffectCurve) -> dict[str, Any]:
    """The outcome's name and unit, where the curve has them."""
    return {name: curve.details[name] for name in ("outcome", "unit") if name in curve.details}


def leads_and_lags(study: HoldsCurve | EffectCurve, *, lags: bool = True) -> LeadsAndLags:
    """Leads and lags of an event study, checked to surround event time -1 without a gap.

    Raises
    ------
    TypeError
        If there is no curve over whole event times.
    ValueError
        If a lead, a lag or the reference is missing, or the reference is not -1.
    """
    curve = study if isinstance(study, EffectCurve) else getattr(study, "curve", None)
    if not isinstance(curve, EffectCurve):
        raise TypeError(
            f"curve must be an event study or an EffectCurve; got {type(study).__name__}; pass "
            "event_study(...) or the curve of an aggregation by event time"
        )
    labels = [t for t in curve.index if is_number(t) and t % 1 == 0]
    if len(labels) < len(curve):
        others = [t for t in curve.index if t not in labels]
        raise TypeError(
            f"the curve must be over whole event times; {curve.index_name!r} holds "
            f"{others[:3]!r}; pass an event study"
        )
    error = curve.std_error
    fixed = [t for t, e in zip(labels, error, strict=True) if e == 0]
    if any(t != REFERENCE for t in fixed):
        raise ValueError(
            f"event time -1 must be the reference; the curve has std_error 0 at {fixed}; give "
            "reference=-1"
        )
    if REFERENCE in labels and not fixed:
        raise ValueError(
            "the curve must be relative to event time -1, but has an estimate there; give "
            "reference=-1, or base='universal' to group_time_effects"
        )
    order = [j for j in np.argsort(labels) if labels[j] != REFERENCE]
    times = np.array([labels[j] for j in order])
    _check_surrounded(times, lags=lags)
    n_lead = int((times < REFERENCE).sum())
    b = curve.estimate[order]
    return LeadsAndLags(b[:n_lead], b[n_lead:], curve.cov[np.ix_(order, order)], curve)


def _check_surrounded(times: NDArray[Any], *, lags: bool) -> None:
    """Leads up to -2 and lags from 0, nothing missing between the first and the last."""
    if not (times < REFERENCE).any():
        raise ValueError(
            f"a pre-trend needs an event time of -2 or earlier; the curve has {times.tolist()[:5]};"
            " use more periods before treatment"
        )
    if lags and not (times >= 0).any():
        raise ValueError(
            f"the target needs an event time >= 0; the curve ends at {int(times.max())}; use "
            "periods after treatment"
        )
    needed = set(range(int(times.min()), int(max(times.max(), REFERENCE)) + 1))
    missing = sorted(needed - {REFERENCE} - {int(t) for t in times})
    if missing:
        raise ValueError(
            f"event times must follow each other around -1; the curve lacks {missing[:3]}; use a "
            "window without gaps"
        )
