"""What a study found, as values: the report draws them, JSON and Parquet keep them.

::

    StudyResult
    └── Section            one log read out (a campaign); most studies have one
        ├── LogSummary     files, rows, days, arms
        ├── Check          the split, the log, duplicates
        ├── Scorecard      of `ab_tests`, with a second look by other clusters
        ├── CurveReadout   one metric by day or by segment
        └── PolicyReadout  one policy valued by several methods
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from experiments.report.rounding import rounded_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from causal.decisions.weights import WeightDiagnostics
    from causal.effect import Effect, EffectCurve
    from experiments.splits.multiplicity import Adjust
    from experiments.splits.scorecard import Scorecard
    from experiments.study.platform_question import DesignsReadout


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """The rows that a section reads.

    `first` and `last` are the first and last day (or time) as text, empty when the log has none;
    `n_units` counts the units that were randomised, or the clusters, or the rows, as `unit` says.
    """

    files: tuple[str, ...]
    n_rows: int
    columns: tuple[str, ...]
    first: str = ""
    last: str = ""
    n_units: int | None = None
    unit: str = "rows"
    arms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about the log, and what was found.

    `kind` says what failed under ``--strict``: the split (``srm``), the log's schema (``log``), or
    what only deserves attention (``data``).
    """

    name: str
    kind: Literal["srm", "log", "data"]
    status: Literal["passed", "warning", "failed", "not tested"]
    finding: str
    p_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveReadout:
    """One metric's effect by day (cumulative) or by segment.

    `always_valid` holds the limits of the confidence sequence at each day, `p_adjusted` the p-value
    of each segment after Holm's correction over the segments; the other one is empty.
    """

    metric: str
    treatment: str
    kind: Literal["day", "segment"]
    curve: EffectCurve
    always_valid: tuple[tuple[float, float], ...] = ()
    p_adjusted: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightHistogram:
    """Importance weights in bins of equal width on the log scale.

    `edges` are log10 of the weight, one more than bins; `rows` and `weight` are shares of the rows
    and of the total weight; `zero` is the share of rows with weight 0, which no bin holds.
    """

    edges: tuple[float, ...]
    rows: tuple[float, ...]
    weight: tuple[float, ...]
    zero: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReadout:
    """One policy valued from the log of another by several methods.

    `estimates` holds an effect by method, whose `estimate` is the value; `logging` is the mean
    reward of the log itself, `on_policy` that of the rows which the target policy earned.
    `n_rewards` counts the rows with a reward other than 0. `average_policy` marks a target that is
    known only through the log of its own choices.
    """

    name: str
    log: str
    target: str
    reward: str
    unit: str
    n_rewards: int
    estimates: Mapping[str, Effect]
    diagnostics: WeightDiagnostics
    histogram: WeightHistogram
    logging: Effect
    on_policy: Effect | None = None
    on_policy_rows: str = ""
    average_policy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One log read out.

    `units` maps each metric to the unit that its numbers are shown in, `descriptions` to what it is
    in words. By metric and treatment, `triggered` holds the effects among triggered units where
    the scorecard's are diluted to all, and `second_look` the effects with errors clustered by
    `second_cluster` instead.
    """

    name: str
    log: LogSummary
    checks: tuple[Check, ...] = ()
    scorecard: Scorecard | None = None
    control: str = ""
    triggered: Mapping[tuple[str, str], Effect] = field(default_factory=dict)
    second_look: Mapping[tuple[str, str], Effect] = field(default_factory=dict)
    second_cluster: str = ""
    curves: tuple[CurveReadout, ...] = ()
    policies: tuple[PolicyReadout, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What `run_study` found; frozen, without the data inside.

    Parameters
    ----------
    title : str
        Heading of the report.
    level : float
        Confidence level of every interval.
    adjust : {"holm", "bh", "by", "bonferroni", "none"}
        Multiplicity correction over the goals.
    sections : tuple of Section
        One for each log (campaign) that was read.
    notes : tuple of str
        Sentences about the data that the reader must know.
    provenance : mapping of str to JSON value
        Study, versions, content hashes of the inputs, seed, command.
    designs : DesignsReadout, optional
        What experiment designs say on the simulated platform.
    """

    title: str
    level: float
    sections: tuple[Section, ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    adjust: Adjust = "holm"
    designs: DesignsReadout | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every warning, with its section's name in front where there are several."""
        return tuple(
            f"{section.name}: {text}" if len(self.sections) > 1 else text
            for section in self.sections
            for text in section.warnings
        )

    @property
    def effects(self) -> dict[str, Effect | EffectCurve]:
        """Every effect by its place, e.g. ``"Campaign all/scorecard/ctr/bts"``."""
        return {
            "/".join(part for part in (section.name, *place) if part): effect
            for section in self.sections
            for place, effect in _effects(section)
        }

    @property
    def failures(self) -> tuple[str, ...]:
        """What stops a strict run: a failed split, a failed log check, a guardrail not held."""
        found: list[str] = []
        for section in self.sections:
            found += [
                f"{check.name}: {check.finding}"
                for check in section.checks
                if check.status == "failed" and check.kind in ("srm", "log")
            ]
            rows = section.scorecard.rows if section.scorecard is not None else ()
            found += [
                f"guardrail {row.metric!r}: {row.verdict}"
                for row in rows
                if row.role == "guardrail" and row.verdict != "non-inferior"
            ]
        return tuple(found)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The report's tables by name; the ones without rows are left out."""
        makers = {
            "scorecard": scorecard_rows,
            "curves": curve_rows,
            "policy_values": policy_rows,
            "overlap": overlap_rows,
            "weights": weight_rows,
            "checks": check_rows,
        }
        frames = {name: pd.DataFrame(list(make(self))) for name, make in makers.items()}
        frames |= {} if self.designs is None else self.designs.tables
        return {name: frame for name, frame in frames.items() if len(frame)}


def _effects(section: Section) -> Iterator[tuple[tuple[str, ...], Effect | EffectCurve]]:
    """Place and effect of everything that a section estimated."""
    for row in section.scorecard.rows if section.scorecard is not None else ():
        yield ("scorecard", row.metric, str(row.treatment)), row.effect
    for (metric, treatment), effect in section.triggered.items():
        yield ("triggered", metric, treatment), effect
    for (metric, treatment), effect in section.second_look.items():
        yield ("second look", metric, treatment), effect
    for readout in section.curves:
        place = ("by", readout.curve.index_name, readout.metric, readout.treatment)
        yield place, readout.curve
    for policy in section.policies:
        yield ("policy", policy.name, "logging policy"), policy.logging
        if policy.on_policy is not None:
            yield ("policy", policy.name, "on-policy"), policy.on_policy
        for method, effect in policy.estimates.items():
            yield ("policy", policy.name, method), effect


def effect_record(effect: Effect, level: float) -> dict[str, Any]:
    """The numbers of one effect: estimate, interval, p-value, control level, relative effect."""
    low, high = effect.conf_int(level)
    return {
        "estimate": effect.estimate,
        "std_error": effect.std_error,
        "low": low,
        "high": high,
        "p_value": effect.p_value,
        "control_level": effect.baseline,
        **relative_record(effect, level),
        "n_obs": effect.n_obs,
        "n_clusters": effect.n_clusters,
        "df": effect.df,
        "method": effect.method,
    }


def relative_record(effect: Effect, level: float) -> dict[str, float | None]:
    """The relative effect with Fieller's limits; None where the control level is too near 0."""
    try:
        low, high = effect.relative_conf_int(level)
        estimate = effect.relative().estimate
    except ValueError:
        return {"relative": None, "relative_low": None, "relative_high": None}
    return {"relative": estimate, "relative_low": low, "relative_high": high}


def scorecard_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """One row for each metric and treatment; more for triggered units and for the second look."""
    for section in result.sections:
        if section.scorecard is None:
            continue
        for row in section.scorecard.rows:
            head = {
                "section": section.name,
                "metric": row.metric,
                "unit": section.units.get(row.metric, ""),
                "role": row.role,
                "treatment": str(row.treatment),
                "control": section.control,
            }
            main = {
                **effect_record(row.effect, result.level),
                "p_adjusted": row.p_adjusted if row.role == "goal" else None,
                "verdict": row.verdict,
                "variance_reduction": row.variance_reduction,
                "unadjusted_estimate": row.unadjusted.estimate,
                "unadjusted_std_error": row.unadjusted.std_error,
                "trigger_rate": row.effect.details.get("trigger_rate"),
            }
            yield {**head, "look": "main", **rounded_row(main, level=row.effect.baseline)}
            place = (row.metric, str(row.treatment))
            more = {
                "triggered": section.triggered.get(place),
                f"clustered by {section.second_cluster}": section.second_look.get(place),
            }
            for look, effect in more.items():
                if effect is not None:
                    record = effect_record(effect, result.level)
                    yield {**head, "look": look, **rounded_row(record, level=effect.baseline)}


def curve_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """One row for each label of each curve."""
    for section in result.sections:
        rows = section.scorecard.rows if section.scorecard is not None else ()
        levels = {(row.metric, str(row.treatment)): row.effect.baseline for row in rows}
        for readout in section.curves:
            curve = readout.curve
            limits = curve.conf_int(result.level)
            for j, label in enumerate(curve.index):
                sequence = readout.always_valid[j] if readout.always_valid else (None, None)
                row = {
                    "section": section.name,
                    "metric": readout.metric,
                    "unit": section.units.get(readout.metric, ""),
                    "treatment": readout.treatment,
                    "by": curve.index_name,
                    "kind": readout.kind,
                    "label": str(label),
                    "estimate": float(curve.estimate[j]),
                    "std_error": float(curve.std_error[j]),
                    "low": float(limits[j, 0]),
                    "high": float(limits[j, 1]),
                    "always_valid_low": sequence[0],
                    "always_valid_high": sequence[1],
                    "p_adjusted": readout.p_adjusted[j] if readout.p_adjusted else None,
                    "method": curve.method,
                }
                yield rounded_row(row, level=levels.get((readout.metric, readout.treatment)))


def policy_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """One row for each policy and method, with the logging and on-policy means among them."""
    for section in result.sections:
        for policy in section.policies:
            known = {"logging policy": policy.logging, "on-policy": policy.on_policy}
            for method, effect in {**known, **policy.estimates}.items():
                if effect is None:
                    continue
                low, high = effect.conf_int(result.level)
                row = {
                    "section": section.name,
                    "policy": policy.name,
                    "reward": policy.reward,
                    "unit": policy.unit,
                    "method": method,
                    "estimate": effect.estimate,
                    "std_error": effect.std_error,
                    "low": low,
                    "high": high,
                    "n_obs": effect.n_obs,
                    "n_clusters": effect.n_clusters,
                    "estimator": effect.method,
                }
                yield rounded_row(row, level=effect.estimate)


OVERLAP = (
    "n_obs",
    "ess",
    "ess_share",
    "max_weight",
    "mean_weight",
    "mean_weight_z",
    "top_share",
    "n_zero_target",
    "unsupported_mass",
    "weighted_rewards",
)


def overlap_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """One row for each policy: what its importance weights look like."""
    for section in result.sections:
        for policy in section.policies:
            found = {name: getattr(policy.diagnostics, name) for name in OVERLAP}
            yield {"section": section.name, "policy": policy.name, **rounded_row(found)}


def weight_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """One row for each bin of each weight histogram."""
    for section in result.sections:
        for policy in section.policies:
            histogram = policy.histogram
            for j, (rows, weight) in enumerate(zip(histogram.rows, histogram.weight, strict=True)):
                row = {
                    "section": section.name,
                    "policy": policy.name,
                    "from_weight": 10.0 ** histogram.edges[j],
                    "to_weight": 10.0 ** histogram.edges[j + 1],
                    "share_of_rows": rows,
                    "share_of_weight": weight,
                }
                yield rounded_row(row)


def check_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """One row for each check."""
    for section in result.sections:
        for check in section.checks:
            row = {
                "section": section.name,
                "check": check.name,
                "kind": check.kind,
                "status": check.status,
                "finding": check.finding,
                "p_value": check.p_value,
            }
            yield rounded_row(row)


def designs_rows(result: StudyResult) -> list[dict[str, Any]]:
    """The answer and the sections on designs, as JSON values."""
    if result.designs is None:
        return []
    sections = [section.to_dict() for section in result.designs.sections]
    answer = {"key": "answer", "title": "Answer", "sentences": list(result.designs.answer)}
    return [{**answer, "tables": {}}, *sections]
