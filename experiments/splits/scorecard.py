"""The scorecard of an experiment: every metric against the control, and one decision."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.splits.multiplicity import Adjust, adjust_p_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.effect import Effect
    from experiments.splits.metric import Metric
    from experiments.splits.srm import SrmCheck


@dataclass(frozen=True)
class ScorecardRow:
    """One metric of one treatment against the control.

    `verdict` is better, worse or inconclusive for goals; non-inferior, inferior or inconclusive for
    guardrails; none for diagnostics. `variance_reduction` is 1 - (SE / unadjusted SE)^2.
    """

    metric: str
    role: str
    treatment: str | int | float | bool
    effect: Effect
    p_adjusted: float
    verdict: str
    unadjusted: Effect
    variance_reduction: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "metric": self.metric,
            "role": self.role,
            "treatment": self.treatment,
            "effect": self.effect.to_dict(),
            "p_adjusted": self.p_adjusted,
            "verdict": self.verdict,
            "unadjusted": self.unadjusted.to_dict(),
            "variance_reduction": self.variance_reduction,
        }


@dataclass(frozen=True)
class Scorecard:
    """All rows, the sample ratio check and the decision.

    `verdict` is ``"ship"``, ``"do not ship"`` or ``"no decision"``; `reason` says why.
    """

    rows: tuple[ScorecardRow, ...]
    srm: SrmCheck | None
    n_units: int
    warnings: tuple[str, ...]
    verdict: str
    reason: str
    level: float = 0.95

    def to_frame(self) -> pd.DataFrame:
        """One row a metric and treatment, with absolute and relative intervals."""
        return pd.DataFrame([_flat(row, self.level) for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "srm": None if self.srm is None else self.srm.to_dict(),
            "n_units": self.n_units,
            "warnings": list(self.warnings),
            "verdict": self.verdict,
            "reason": self.reason,
            "level": self.level,
        }

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.reason}"]
        lines += [
            f"  {r.metric} [{r.role}, {r.verdict}] {r.effect.summary(self.level)}"
            for r in self.rows
        ]
        return "\n".join([*lines, *(f"  warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        head = f"<p><b>{html.escape(self.verdict)}</b>: {html.escape(self.reason)}</p>"
        return head + self.to_frame().to_html(index=False, float_format="{:.4g}".format)


def metric_verdict(metric: Metric, effect: Effect, p_adjusted: float, level: float) -> str:
    """What one row says about its metric."""
    if metric.role == "diagnostic":
        return "none"
    sign = 1.0 if metric.better == "higher" else -1.0
    if metric.role == "goal":
        if p_adjusted >= 1 - level:
            return "inconclusive"
        return "better" if sign * effect.estimate > 0 else "worse"
    margin = metric.margin or 0.0
    try:
        low, high = effect.relative_conf_int(2 * level - 1)
    except ValueError:  # the control level is too near 0 for a relative bound
        return "inconclusive"
    upwards = sign * float(effect.baseline or 0) > 0  # a loss of a negative level is relative too
    worst, best = (low, high) if upwards else (-high, -low)
    if worst > -margin:
        return "non-inferior"
    return "inferior" if best < -margin else "inconclusive"


def judged(
    read: Sequence[tuple[str, Metric, Any, Effect, Effect]], adjust: Adjust, level: float
) -> tuple[ScorecardRow, ...]:
    """Rows from name, metric, treatment, effect and unadjusted effect; goals corrected together."""
    p = [effect.p_value for *_, effect, _ in read]
    goals = [j for j, (_, metric, *_) in enumerate(read) if metric.role == "goal"]
    for j, q in zip(goals, adjust_p_values([p[j] for j in goals], method=adjust), strict=True):
        p[j] = float(q)
    return tuple(
        ScorecardRow(
            metric=name,
            role=metric.role,
            treatment=treatment,
            effect=effect,
            p_adjusted=q,
            verdict=metric_verdict(metric, effect, q, level),
            unadjusted=raw,
            variance_reduction=1 - (effect.std_error / raw.std_error) ** 2
            if raw.std_error
            else 0.0,
        )
        for (name, metric, treatment, effect, raw), q in zip(read, p, strict=True)
    )


def decision(rows: Sequence[ScorecardRow], srm: SrmCheck | None) -> tuple[str, str]:
    """One of ship, do not ship, no decision, with the reason as a sentence."""
    if srm is not None and not srm.ok:
        return (
            "no decision",
            "the arms are not as large as designed, so no difference can be trusted.",
        )
    several = len({r.treatment for r in rows}) > 1

    def name(row: ScorecardRow) -> str:
        return f"{row.metric} ({row.treatment})" if several else row.metric

    worse = [name(r) for r in rows if r.verdict in ("worse", "inferior")]
    if worse:
        return "do not ship", f"worse on {_listed(worse)}."
    open_guards = [name(r) for r in rows if r.role == "guardrail" and r.verdict == "inconclusive"]
    better = [name(r) for r in rows if r.verdict == "better"]
    if not better:
        return "no decision", "no goal differs significantly from the control."
    if open_guards:
        return "no decision", (
            f"better on {_listed(better)}, but {_listed(open_guards)} is not proven to stay within "
            "its margin."
        )
    guarded = any(r.role == "guardrail" for r in rows)
    tail = ", and every guardrail is within its margin." if guarded else "."
    return "ship", f"better on {_listed(better)}{tail}"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence, each once."""
    return ", ".join(dict.fromkeys(names))


def _relative(effect: Effect, level: float) -> tuple[float | None, float | None, float | None]:
    """Relative effect and its interval; None where the control level is too near 0."""
    try:
        low, high = effect.relative_conf_int(level)
    except ValueError:
        return None, None, None
    return effect.estimate / (effect.baseline or 1.0), low, high


def _flat(row: ScorecardRow, level: float) -> dict[str, Any]:
    """A row of the frame."""
    low, high = row.effect.conf_int(level)
    relative, relative_low, relative_high = _relative(row.effect, level)
    return {
        "metric": row.metric,
        "role": row.role,
        "treatment": row.treatment,
        "baseline": row.effect.baseline,
        "estimate": row.effect.estimate,
        "std_error": row.effect.std_error,
        "low": low,
        "high": high,
        "relative": relative,
        "relative_low": relative_low,
        "relative_high": relative_high,
        "p_value": row.effect.p_value,
        "p_adjusted": row.p_adjusted,
        "verdict": row.verdict,
        "variance_reduction": row.variance_reduction,
        "n_obs": row.effect.n_obs,
        "method": row.effect.method,
    }
