"""Triggered analysis: only some units can be affected, and reading those alone is sharper."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from causal.effect import Effect, EstimationWarning
from causal.rows import Expression, Rows, column, select
from experiments.splits.records import MOST_CROSSING
from experiments.splits.srm import SRM_LEVEL, checked_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from experiments.splits.records import Pair, Records

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
    rows = records.rows
    inside = records.with_rows(rows.where(lambda c: c["trigger"] > 0))
    outside = records.with_rows(rows.where(lambda c: c["trigger"] == 0))
    arms = (control, treatment)
    counts, chosen = (_by_arm(r.rows, arms) for r in (records, inside))
    if min(chosen.values()) < 2:
        raise ValueError(f"trigger: every arm needs at least 2 triggered units; there are {chosen}")
    tau = estimate(inside)
    untouched = _complement(outside, estimate)
    dealt = _units(records)
    of_clusters = dealt is not records.rows
    units = _by_arm(dealt, arms)
    inner = inside.rows.grouped(["arm", "cluster"], {}) if of_clusters else inside.rows
    units_chosen = _by_arm(inner, arms)
    srm = checked_counts(units_chosen, {a: float(n) for a, n in units.items()}).p_value
    _warn_about(untouched, srm, units_chosen)
    share = _Share.of(records, control)
    variance = share.rate**2 * tau.std_error**2 + tau.estimate**2 * share.rate_variance
    variance += 2 * share.rate * tau.estimate * share.tau_cov
    return Effect(
        estimate=share.rate * tau.estimate,
        std_error=math.sqrt(max(variance, 0.0)),
        estimand="ate",
        method=f"{tau.method}, triggered and diluted",
        n_obs=sum(counts.values()),
        n_clusters=tau.n_clusters,
        df=tau.df,
        baseline=share.level,
        baseline_variance=share.level_variance,
        baseline_cov=share.covariance(tau.estimate, tau.baseline_cov or 0.0),
        details={
            **tau.details,
            **_over_populations(tau, share),
            "trigger_rate": share.rate,
            "triggered": {
                "estimate": tau.estimate,
                "std_error": tau.std_error,
                "p_value": tau.p_value,
                "n_obs": tau.n_obs,
                "baseline": tau.baseline,
                **{k: v for k, v in tau.details.items() if k.startswith("superpopulation_")},
            },
            "triggered_srm_p_value": srm,
            "complement_p_value": None if untouched is None else untouched.p_value,
        },
    )


def _over_populations(tau: Effect, share: _Share) -> dict[str, float]:
    """The errors over populations, diluted; nothing without covariates."""
    if "superpopulation_std_error" not in tau.details:
        return {}
    error, cov = (
        float(tau.details[f"superpopulation_{name}"])  # type: ignore[arg-type]
        for name in ("std_error", "baseline_cov")
    )
    variance = share.rate**2 * error**2 + tau.estimate**2 * share.rate_variance
    variance += 2 * share.rate * tau.estimate * share.tau_cov
    return {
        "superpopulation_std_error": math.sqrt(max(variance, 0.0)),
        "superpopulation_baseline_variance": share.level_variance,
        "superpopulation_baseline_cov": share.covariance(tau.estimate, cov),
    }


def _by_arm(rows: Rows, arms: Pair) -> dict[Any, int]:
    """Rows by arm; 0 where there is none."""
    found = rows.sums(["arm"], {})
    counts = dict(zip(found.keys["arm"].tolist(), found.n.tolist(), strict=True))
    return {a: int(counts.get(a, 0)) for a in arms}


def _units(records: Records) -> Rows:
    """What was randomised: clusters where they are (nearly) in one arm each, records otherwise."""
    if records.clusters != "coarser":
        return records.rows
    pairs = records.rows.grouped(["arm", "cluster"], {})
    found = pairs.grouped(["cluster"], {}).sums([], {"shared": lambda c: select(c["n"] > 1, 1.0)})
    crossing = float(found.values["shared"][0]) / int(found.n[0])
    return pairs if crossing <= MOST_CROSSING else records.rows


def _complement(outside: Records, estimate: Estimate) -> Effect | None:
    """Effect where there should be none; None where too few are left to say.

    Its own warnings are not the user's concern.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        try:
            return estimate(outside)
        except ValueError:
            return None


@dataclass(frozen=True)
class _Share:
    """Share of triggered units (of their denominator or weight) and control level over all units.

    `cov` is the covariance of the two, `control_rate` the share among control units. `tau_cov` and
    `rest_cov` are the covariances of the effect among triggered units with the share, and with the
    rest of the control level (beside triggered control units): 0 unless clusters link them.
    """

    rate: float
    rate_variance: float
    control_rate: float
    level: float
    level_variance: float
    cov: float
    tau_cov: float
    rest_cov: float

    def covariance(self, tau: float, baseline_cov: float) -> float:
        """Covariance of the diluted effect and the control level over all units."""
        own = self.control_rate * baseline_cov + self.rest_cov
        return self.rate * own + tau * self.cov

    @classmethod
    def of(cls, records: Records, control: object) -> _Share:
        """From linear scores of every record, summed over clusters where records share them."""
        size = _size(records)

        def mine(formula: Expression) -> Expression:
            return lambda c: select(c["arm"] == control, formula(c))

        def triggered(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an expression
            return select(c["trigger"] > 0, size(c))

        def value(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an expression
            return c["y"] * c["w"] if records.weighted else c["y"]

        def theirs(formula: Expression) -> Expression:
            return lambda c: select(c["arm"] != control, formula(c))

        def inside(formula: Expression) -> Expression:
            return lambda c: select(c["trigger"] > 0, formula(c))

        sums = {"all": size, "in": triggered, "y": mine(value)}
        sums |= {"control": mine(size), "control_in": mine(triggered)}
        sums |= {"treated_in": theirs(triggered)}
        sums |= {"y0": mine(inside(value)), "y1": theirs(inside(value))}
        total = {k: float(v[0]) for k, v in records.rows.sums([], sums).values.items()}
        rate, level = total["in"] / total["all"], total["y"] / total["control"]
        d0, d1 = total["control_in"], total["treated_in"]
        level0, level1 = total["y0"] / d0, total["y1"] / d1
        tau0 = mine(inside(lambda c: (value(c) - level0 * size(c)) / d0))
        tau1 = theirs(inside(lambda c: (value(c) - level1 * size(c)) / d1))
        level_score = mine(lambda c: (value(c) - level * size(c)) / total["control"])
        scores: dict[str, Expression] = {
            "u": lambda c: (triggered(c) - rate * size(c)) / total["all"],
            "v": level_score,
            "t": lambda c: tau1(c) - tau0(c),
            "rest": lambda c: level_score(c) - d0 / total["control"] * tau0(c),
            "control": mine(lambda c: c["y"] * 0.0 + 1.0),
        }
        rows = records.rows.derive(scores)
        if not records.apart:
            rows = rows.grouped(["cluster"], {name: column(name) for name in scores})
        products = {
            "uu": lambda c: c["u"] * c["u"],
            "vv": lambda c: c["v"] * c["v"],
            "uv": lambda c: c["u"] * c["v"],
            "ut": lambda c: c["u"] * c["t"],
            "rt": lambda c: c["rest"] * c["t"],
            "control": lambda c: select(c["control"] > 0, 1.0),
        }
        found = rows.sums([], products)
        square = {k: float(v[0]) for k, v in found.values.items()}
        n, n_control = int(found.n[0]), square["control"]
        few, few_control = n / max(n - 1, 1), n_control / max(n_control - 1, 1)
        return cls(
            rate=rate,
            rate_variance=square["uu"] * few,
            control_rate=total["control_in"] / total["control"],
            level=level,
            level_variance=square["vv"] * few_control,
            cov=square["uv"] * few_control,
            tau_cov=0.0 if records.apart else square["ut"] * few,
            rest_cov=0.0 if records.apart else square["rt"] * few_control,
        )


def _size(records: Records) -> Expression:
    """Formula of how much a record counts: its denominator, its weight, or 1."""

    def size(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        if records.is_ratio:
            return c["d"]
        return c["w"] if records.weighted else c["y"] * 0.0 + 1.0

    return size


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
