"""Triggered analysis: only some units can be affected, and reading those alone is sharper."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

from causal.effect import Effect, EstimationWarning
from causal.rows import Expression, Rows, select
from experiments.srm import SRM_LEVEL, checked_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from experiments.records import Records

Estimate: TypeAlias = "Callable[[Records], Effect]"

_ALPHA = 0.001


def diluted(records: Records, control: object, treatment: object, estimate: Estimate) -> Effect:
    """Effect among triggered units times their share: the ATE over all units.

    Notes
    -----
    With tau the effect among triggered units, r their share (of the denominator, for ratios), the
    variance is r^2 Var(tau) + tau^2 Var(r) by the delta method. Two checks warn: the triggered
    units' sample ratio against that of all units, and an effect in the complement, where there
    should be none: p < 0.001 says that the trigger itself is affected by the treatment.
    """
    rows = records.rows.where(lambda c: (c["arm"] == control) | (c["arm"] == treatment))
    inside = records.with_rows(rows.where(lambda c: c["trigger"] > 0))
    outside = records.with_rows(rows.where(lambda c: c["trigger"] == 0))
    counts, chosen = (_by_arm(r, control, treatment) for r in (rows, inside.rows))
    if min(chosen.values()) < 2:
        raise ValueError(f"trigger: every arm needs at least 2 triggered units; there are {chosen}")
    tau = estimate(inside)
    rate, rate_variance = _rate(records, rows)
    left = {a: counts[a] - chosen[a] for a in counts}
    untouched = _complement(outside, estimate) if min(left.values()) >= 2 else None
    srm = checked_counts(chosen, {a: float(n) for a, n in counts.items()}).p_value
    _warn_about(untouched, srm, chosen)
    level, level_variance = _control_level(records, rows, control)
    share, _ = _rate(records, rows.where(lambda c: c["arm"] == control))
    return Effect(
        estimate=rate * tau.estimate,
        std_error=math.sqrt(rate**2 * tau.std_error**2 + tau.estimate**2 * rate_variance),
        estimand="ate",
        method=f"{tau.method}, triggered and diluted",
        n_obs=sum(counts.values()),
        n_clusters=tau.n_clusters,
        df=tau.df,
        baseline=level,
        baseline_variance=level_variance,
        baseline_cov=rate * share * (tau.baseline_cov or 0.0),
        details={
            **tau.details,
            "trigger_rate": rate,
            "triggered": {
                "estimate": tau.estimate,
                "std_error": tau.std_error,
                "p_value": tau.p_value,
                "n_obs": tau.n_obs,
                "baseline": tau.baseline,
            },
            "triggered_srm_p_value": srm,
            "complement_p_value": None if untouched is None else untouched.p_value,
        },
    )


def _by_arm(rows: Rows, control: object, treatment: object) -> dict[Any, int]:
    """Records by arm; 0 where there is none."""
    found = rows.sums(["arm"], {})
    counts = dict(zip(found.keys["arm"].tolist(), found.n.tolist(), strict=True))
    return {a: int(counts.get(a, 0)) for a in (control, treatment)}


def _complement(outside: Records, estimate: Estimate) -> Effect:
    """Effect where there should be none; its own warnings are not the user's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return estimate(outside)


def _size(records: Records) -> Expression:
    """Formula of how much a record counts: its denominator, its weight, or 1."""

    def size(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        if records.is_ratio:
            return c["d"]
        return c["w"] if records.weighted else c["y"] * 0.0 + 1.0

    return size


def _rate(records: Records, rows: Rows) -> tuple[float, float]:
    """Share of triggered units (of their denominator or weight) and its variance."""
    size = _size(records)
    total = rows.sums([], {"all": size, "in": lambda c: select(c["trigger"] > 0, size(c))})
    n, everything = int(total.n[0]), float(total.values["all"][0])
    rate = float(total.values["in"][0]) / everything

    def deviation(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        return (select(c["trigger"] > 0, size(c)) - rate * size(c)) * (1.0 / everything)

    if records.clusters == "coarser":
        rows = rows.grouped(["cluster"], {"u": deviation})
        n = int(rows.sums([], {}).n[0])
        square = rows.sums([], {"v": lambda c: c["u"] * c["u"]})
    else:
        square = rows.sums([], {"v": lambda c: deviation(c) * deviation(c)})
    return rate, float(square.values["v"][0]) * n / max(n - 1, 1)


def _control_level(records: Records, rows: Rows, control: object) -> tuple[float, float]:
    """Control level over all units, and its variance."""
    mine = rows.where(lambda c: c["arm"] == control)
    size = _size(records)

    def value(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        return c["y"] * c["w"] if records.weighted else c["y"]

    total = mine.sums([], {"y": value, "d": size})
    n, d = int(total.n[0]), float(total.values["d"][0])
    level = float(total.values["y"][0]) / d

    def residual(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        return (value(c) - level * size(c)) * (1.0 / d)

    if records.clusters == "coarser":
        mine = mine.grouped(["cluster"], {"u": residual})
        n = int(mine.sums([], {}).n[0])
        found = mine.sums([], {"v": lambda c: c["u"] * c["u"]})
    else:
        found = mine.sums([], {"v": lambda c: residual(c) * residual(c)})
    return level, float(found.values["v"][0]) * n / max(n - 1, 1)


def _warn_about(untouched: Effect | None, srm: float, chosen: Mapping[Any, int]) -> None:
    """Signs that the trigger is affected by the treatment."""
    if untouched is not None and untouched.p_value < _ALPHA:
        warnings.warn(
            f"the trigger is affected by the treatment: units without trigger differ by "
            f"{untouched.estimate:.3g}, p = {untouched.p_value:.2g}",
            EstimationWarning,
            stacklevel=6,
        )
    if srm < SRM_LEVEL:
        warnings.warn(
            f"the trigger is affected by the treatment: triggered units by arm {dict(chosen)} "
            f"do not fit the arms' sizes, p = {srm:.2g}",
            EstimationWarning,
            stacklevel=6,
        )
