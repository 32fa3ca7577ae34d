"""Reading an A/B test: one metric (`ab_test`), a scorecard (`ab_tests`), a curve (`ab_curve`)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.distributions import critical_value
from causal.effect import Effect, EffectCurve, EstimationWarning
from causal.frame import Table, check_level, check_one_of
from experiments.splits.ab_log import open_log, report_missing
from experiments.splits.arms import choose_arms
from experiments.splits.differences import Adjustment, Differences, Tabulated, differences, tabulate
from experiments.splits.metric import Mean, Metric, Quantile, Ratio, as_metric
from experiments.splits.multiplicity import Adjust, adjust_p_values
from experiments.splits.quantiles import arm_quantile, linked_quantiles
from experiments.splits.scorecard import Scorecard, ScorecardRow, decision, judged
from experiments.splits.srm import SrmCheck, checked_counts, srm_test
from experiments.splits.trigger import diluted

if TYPE_CHECKING:
    from causal.values import JsonValue
    from experiments.splits.influence import Kind
    from experiments.splits.records import Log, Records

__all__ = [
    "Mean",
    "Metric",
    "Quantile",
    "Ratio",
    "Scorecard",
    "ScorecardRow",
    "SrmCheck",
    "ab_curve",
    "ab_test",
    "ab_tests",
    "adjust_p_values",
    "srm_test",
]

_ADJUSTMENTS = ("lin", "cuped", "none")
_KINDS = ("auto", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2")
_FEW_CLUSTERS = 30
_LARGE_CLUSTER = 0.1


def ab_test(
    frame: Table,
    *,
    metric: Metric | str | tuple[str, str],
    arm: str,
    control: object = None,
    treatment: object = None,
    unit: str | None = None,
    cluster: str | None = None,
    weight: str | None = None,
    trigger: str | None = None,
    adjustment: Adjustment = "lin",
    covariance: Kind = "auto",
    missing: Literal["drop", "raise"] = "drop",
) -> Effect:
    """Effect of one arm against the control on one metric: the ATE, by randomisation.

    Parameters
    ----------
    frame : Table
        Any kind that the door takes: frames in memory, Parquet, DuckDB, Ibis.
    metric : Mean, Ratio, Quantile, or their shortcuts
        A name is `Mean`, a pair of names `Ratio`.
    arm : str
        Column of arms. 0/1 and booleans need no `control`.
    control, treatment : label, optional
        Both are needed when there are more than two arms.
    unit : str, optional
        Claims that the table has one row a unit: checked, refused otherwise.
    cluster : str, optional
        Rows share clusters; may be the unit of randomisation.
    weight : str, optional
        Weights >= 0, for means over rows.
    trigger : str, optional
        0/1 column: only triggered units can be affected. The effect among them times their share is
        returned, the ATE over all units; the effect among them is in `details`.
    adjustment : {"lin", "cuped", "none"}
        How the metric's covariates are used.
    covariance : {"auto", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2"}
        Auto is HC2 without clusters, CR1 with, CR2 when an arm has fewer than 50.
    missing : {"drop", "raise"}
        Rows with a missing outcome or covariate; dropping warns once with counts.

    Returns
    -------
    Effect
        `estimate` is treated minus control in the metric's units; `baseline` the control level.

    Raises
    ------
    ValueError
        If columns are absent or in two roles, arms cannot be told, an arm has fewer than two
        records or clusters, units repeat, or values are infinite.
    TypeError
        If `frame` is not a table or a column does not hold numbers.

    Notes
    -----
    Not corrected for: interference between units, and looking at results more than once.

    References
    ----------
    Lin (2013); Deng, Xu, Kohavi and Walker (2013); Deng, Knoblich and Lu (2018).

    Examples
    --------
    >>> import pandas as pd
    >>> users = pd.DataFrame({"arm": [0, 0, 0, 1, 1, 1], "watch_s": [9.0, 10, 11, 11, 12, 13]})
    >>> ab_test(users, metric="watch_s", arm="arm").estimate
    2.0
    """
    _check_choices(adjustment, covariance, missing)
    chosen = as_metric(metric)
    log = open_log(
        frame,
        metrics=[chosen],
        arm=arm,
        unit=unit,
        cluster=cluster,
        weight=weight,
        trigger=trigger,
    )
    control, treatment = _two_arms(log, control, treatment)
    report_missing(log, missing, [control, treatment])
    return _effects(log, chosen, control, treatment, [adjustment], covariance)[0]


def ab_tests(  # noqa: PLR0913 — columns of the log, each by keyword
    frame: Table,
    *,
    metrics: Mapping[str, Metric | str | tuple[str, str]] | Sequence[Metric],
    arm: str,
    control: object = None,
    treatment: object = None,
    unit: str | None = None,
    cluster: str | None = None,
    weight: str | None = None,
    trigger: str | None = None,
    adjustment: Adjustment = "lin",
    covariance: Kind = "auto",
    missing: Literal["drop", "raise"] = "drop",
    adjust: Adjust = "holm",
    level: float = 0.95,
    expected_share: Mapping[Any, float] | None = None,
    segments: Sequence[str] = (),
    day: str | None = None,
) -> Scorecard:
    """Scorecard of an experiment: all metrics, every treatment against the control, one decision.

    Parameters
    ----------
    frame, arm, control, treatment, unit, cluster, weight, trigger, adjustment, covariance, missing
        As in `ab_test`; without `treatment` every other arm is compared with the control.
    metrics : mapping from name to metric, or sequence of metrics
        The log is read once for all of them.
    adjust : {"holm", "bh", "by", "bonferroni", "none"}
        Multiplicity correction over the goals of all treatments.
    level : float
        Confidence level of verdicts.
    expected_share : mapping from arm to share, optional
        Intended sizes of the arms, equal by default.
    segments : sequence of str, day : str
        Columns within which the sample ratio is tested too.

    Returns
    -------
    Scorecard

    Raises
    ------
    ValueError, TypeError
        As in `ab_test`; also if two metrics have one name.

    Notes
    -----
    Ship means: a goal is significantly better after adjustment, none significantly worse, every
    guardrail non-inferior (one-sided, not corrected: all must pass), and the sample ratio is right.

    Examples
    --------
    >>> import pandas as pd
    >>> users = pd.DataFrame({"arm": [0, 1] * 4, "gifts": [1, 2, 2, 3, 1, 3, 2, 4]})
    >>> ab_tests(users, metrics={"gifts": "gifts"}, arm="arm").verdict
    'ship'
    """
    _check_choices(adjustment, covariance, missing)
    check_level(level)
    check_one_of(adjust, "adjust", ("holm", "bh", "by", "bonferroni", "none"))
    chosen = _named(metrics)
    if level <= 0.5 and any(m.role == "guardrail" for m in chosen.values()):
        raise ValueError(
            f"level must be above 0.5 with guardrails, whose bounds are one-sided; got {level}"
        )
    cells = [*segments, *([day] if day is not None else [])]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EstimationWarning)
        log = open_log(
            frame,
            metrics=list(chosen.values()),
            arm=arm,
            unit=unit,
            cluster=cluster,
            weight=weight,
            trigger=trigger,
            cells=cells,
        )
        control, treatments = choose_arms(log, control, treatment)
        report_missing(log, missing, [control, *treatments])
        srm = _sample_ratio(log, expected_share)
        both: list[Adjustment] = [adjustment, "none"]
        effects = [
            (name, m, t, *_effects(log, m, control, t, both, covariance))
            for name, m in chosen.items()
            for t in treatments
        ]
    said = _emitted(caught, srm)
    rows = judged(effects, adjust, level)
    verdict, reason = decision(rows, srm)
    return Scorecard(rows, srm, sum(srm.counts.values()), said, verdict, reason, level)


def ab_curve(
    frame: Table,
    *,
    metric: Metric | str | tuple[str, str],
    by: str,
    arm: str,
    control: object = None,
    treatment: object = None,
    unit: str | None = None,
    cluster: str | None = None,
    weight: str | None = None,
    adjustment: Adjustment = "lin",
    covariance: Kind = "auto",
    missing: Literal["drop", "raise"] = "drop",
    cumulative: bool = False,
) -> EffectCurve:
    """Effect by segment or by day, with the covariance that shared clusters bring.

    Parameters
    ----------
    frame, metric, arm, control, treatment, unit, cluster, weight, adjustment, covariance, missing
        As in `ab_test`; the metric is a mean or a ratio, the covariance HC or CR0/CR1.
    by : str
        Column of segments or days.
    cumulative : bool
        Each label holds everything up to it: how the read-out developed day by day.

    Returns
    -------
    EffectCurve
        One effect for each value of `by`, in sorted order.

    Raises
    ------
    ValueError, TypeError
        As in `ab_test`, for every cell: an arm with fewer than two records in a cell is named.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"arm": [0, 0, 1, 1] * 2, "day": [1] * 4 + [2] * 4,
    ...                     "gifts": [1.0, 2, 2, 3, 1, 2, 3, 4]})
    >>> ab_curve(log, metric="gifts", by="day", arm="arm").estimate.tolist()
    [1.0, 2.0]
    """
    _check_choices(adjustment, covariance, missing)
    chosen = as_metric(metric)
    if isinstance(chosen, Quantile) or covariance == "CR2":
        raise ValueError("ab_curve takes means and ratios, with HC or CR0/CR1 covariances")
    log = open_log(
        frame,
        metrics=[chosen],
        arm=arm,
        unit=unit,
        cluster=cluster,
        weight=weight,
        cells=[by],
    )
    control, treatment = _two_arms(log, control, treatment)
    report_missing(log, missing, [control, treatment])
    records = log.records(chosen, (control, treatment), cell=by, cumulative=cumulative)
    table = tabulate(records, control, treatment, by_cell=True)
    found = differences(table, adjustment=adjustment, covariance=covariance)
    _warn_about(log, records, found)
    details = _details(table, found, adjustment)
    details |= {"baseline": found.baseline.tolist(), "n_by_cell": found.n.sum(axis=0).tolist()}
    return EffectCurve(
        index=found.cells,
        index_name=by,
        estimate=found.estimate,
        cov=found.cov,
        estimand="ate",
        method=_method(log, chosen, found, adjustment) + (", cumulative" if cumulative else ""),
        n_obs=int(found.n.sum(axis=0).max() if cumulative else found.n.sum()),
        n_clusters=found.n_clusters,
        df=tuple(found.df.tolist()),
        details=details,
    )


def _check_choices(adjustment: str, covariance: str, missing: str) -> None:
    check_one_of(adjustment, "adjustment", _ADJUSTMENTS)
    check_one_of(covariance, "covariance", _KINDS)
    check_one_of(missing, "missing", ("drop", "raise"))


def _two_arms(log: Log, control: object, treatment: object) -> tuple[Any, Any]:
    """The control and the one arm that is compared with it."""
    control, treatments = choose_arms(log, control, treatment)
    if len(treatments) > 1:
        raise ValueError(
            f"arm {log.arm!r} has more than two arms: {list(log.arms)[:10]}; "
            "pass control= and treatment="
        )
    return control, treatments[0]


def _named(metrics: Mapping[str, Any] | Sequence[Metric]) -> dict[str, Metric]:
    """Metrics by name."""
    if isinstance(metrics, Mapping):
        found = {str(name): as_metric(m, str(name)) for name, m in metrics.items()}
    elif isinstance(metrics, list | tuple):
        chosen = [as_metric(m) for m in metrics]
        found = {m.label: m for m in chosen}
        if len(found) < len(chosen):
            raise ValueError(f"metrics must have different names; got {[m.label for m in chosen]}")
    else:
        raise TypeError(f"metrics must be a mapping or a list of metrics; got {metrics!r}")
    if not found:
        raise ValueError("metrics must name at least one metric; got none")
    return found


def _effects(
    log: Log,
    metric: Metric,
    control: object,
    treatment: object,
    adjustments: Sequence[Adjustment],
    kind: Kind,
) -> list[Effect]:
    """One metric of one treatment against the control; all adjustments start from one table."""
    records = log.records(metric, (control, treatment))
    if isinstance(metric, Quantile):
        return [_quantile_effect(log, records, metric, control, treatment)] * len(adjustments)
    table = None if log.trigger is not None else tabulate(records, control, treatment)

    def effect(adjustment: Adjustment) -> Effect:
        if table is not None:
            return _read(log, table, adjustment, kind)
        return diluted(
            records,
            control,
            treatment,
            lambda part: _read(log, tabulate(part, control, treatment), adjustment, kind),
        )

    effects = [effect(adjustments[0])]
    _warn_near_zero(effects[0])
    if effects[0].details["adjustment"] == "none":  # the others would be the same
        return effects * len(adjustments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)  # the first one said it
        effects += [effect(a) for a in adjustments[1:]]
    return effects


def _read(log: Log, table: Tabulated, adjustment: Adjustment, kind: Kind) -> Effect:
    """The single cell of a table as an effect."""
    found = differences(table, adjustment=adjustment, covariance=kind)
    _warn_about(log, table.records, found)
    return Effect(
        estimate=float(found.estimate[0]),
        std_error=math.sqrt(max(float(found.cov[0, 0]), 0.0)),
        estimand="ate",
        method=_method(log, table.records.metric, found, adjustment),
        n_obs=_n_records(table.records, found),
        n_clusters=found.n_clusters,
        df=float(found.df[0]),
        baseline=float(found.baseline[0]),
        baseline_variance=found.baseline_variance,
        baseline_cov=found.baseline_cov,
        details=_details(table, found, adjustment),
    )


def _n_records(records: Records, found: Differences) -> int:
    """Records; one that is a cluster in both arms is one."""
    if records.clusters == "records" and found.n_clusters is not None:
        return found.n_clusters
    return int(found.n.sum())


def _method(log: Log, metric: Metric, found: Differences, adjustment: str) -> str:
    """How the number came about, in a few words."""
    what = {"lin": "Lin", "cuped": "CUPED"}.get(adjustment) if found.covariates else None
    ratio = "ratio, delta method" if isinstance(metric, Ratio) else None
    plain = None if what or ratio else "difference in means"
    by = f" by {log.cluster}" if found.kind.startswith("CR") and log.cluster else ""
    return ", ".join(part for part in (ratio, what, plain, found.kind + by) if part)


def _details(table: Tabulated, found: Differences, adjustment: str) -> dict[str, JsonValue]:
    """What a reader may want to know beside the number."""
    details: dict[str, Any] = {
        **table.records.details,
        "counted": table.records.counted,
        "control": table.control,
        "treatment": table.treatment,
        "n_control": int(found.n[0].sum()),
        "n_treatment": int(found.n[1].sum()),
        "adjustment": adjustment if found.covariates else "none",
        "covariates": list(found.covariates),
        "covariance": found.kind,
    }
    if found.theta is not None:
        cells = found.theta.T.tolist()
        theta = [t[0] for t in cells] if found.cells == (None,) else cells
        details["theta"] = dict(zip(found.covariates, theta, strict=True))
    if found.population is not None:
        added = found.population
        errors = np.sqrt(np.maximum(np.diag(found.cov) + added.variance, 0.0)).tolist()
        if found.cells != (None,):
            details["superpopulation_std_error"] = errors
        else:
            details["superpopulation_std_error"] = errors[0]
            variance = max(found.baseline_variance + added.baseline_variance, 0.0)
            details["superpopulation_baseline_variance"] = variance
            details["superpopulation_baseline_cov"] = found.baseline_cov + added.baseline_cov
    if found.clusters_by_arm is not None:
        details["clusters_control"], details["clusters_treatment"] = found.clusters_by_arm
    return details


def _quantile_effect(
    log: Log, records: Records, metric: Quantile, control: object, treatment: object
) -> Effect:
    """Difference of two arms' quantiles; clusters in both arms link them."""
    if log.trigger is not None or log.weight is not None:
        raise ValueError(f"{metric.label!r}: quantiles know no trigger and no weight; use a Mean")
    base, other = (arm_quantile(records, metric, a) for a in (control, treatment))
    correlation, clusters = 0.0, None
    if base.n_clusters is not None:
        correlation, clusters = linked_quantiles(records, control, base, other)
    cov = correlation * math.sqrt(base.variance) * math.sqrt(other.variance)
    return Effect(
        estimate=other.value - base.value,
        std_error=math.sqrt(max(base.variance + other.variance - 2 * cov, 0.0)),
        estimand=f"difference in p{100 * metric.q:g}",
        method="order statistics" + (f", clusters {log.cluster}" if clusters is not None else ""),
        n_obs=base.n + other.n,
        n_clusters=clusters,
        baseline=base.value,
        baseline_variance=base.variance,
        baseline_cov=cov - base.variance,
        details={
            **records.details,
            "counted": records.counted,
            "control": control,  # type: ignore[dict-item]
            "treatment": treatment,  # type: ignore[dict-item]
            "n_control": base.n,
            "n_treatment": other.n,
        },
    )


def _sample_ratio(log: Log, expected_share: Mapping[Any, float] | None) -> SrmCheck:
    """Sample ratio of units, overall and within segments and days."""
    key = log.counting_key()

    def counts(cell: str | None) -> dict[tuple[Any, ...], int]:
        if key is None and cell is None:
            return {(arm,): n for arm, n in log.row_counts.items()}
        keys = ["arm"] if cell is None else ["arm", log.keys[cell]]
        rows = log.rows if key is None else log.units(key, cell)
        if key is not None and log.cluster not in (None, key):  # a unit may be in several clusters
            rows = rows.grouped([*keys, log.keys[key]], {})
        found = rows.sums(keys, {})
        labels = zip(*[found.keys[k].tolist() for k in keys], strict=True)
        return {label: int(n) for label, n in zip(labels, found.n, strict=True)}

    whole = {a: n for (a,), n in counts(None).items()}
    return checked_counts(whole, expected_share, {cell: counts(cell) for cell in log.cells})


def _warn_about(log: Log, records: Records, found: Differences) -> None:
    """One warning for each weakness, with its figure."""
    label = records.metric.label
    clusters = log.cluster or log.record_key(records.metric) or "row"
    if found.constant:
        _warn(f"outcome {label!r} is constant within the arms; its standard error is 0")
    if found.left_out:
        _warn(
            f"covariates left out of {label!r}, constant or collinear: {', '.join(found.left_out)}"
        )
    if found.clusters_by_arm is not None and min(found.clusters_by_arm) < _FEW_CLUSTERS:
        _warn(
            f"{label!r}: few clusters of {clusters!r}: {found.clusters_by_arm[0]} in control, "
            f"{found.clusters_by_arm[1]} in treatment; fewer than {_FEW_CLUSTERS} make intervals "
            "fragile"
        )
    if (found.largest_cluster_share or 0) > _LARGE_CLUSTER:
        _warn(
            f"{label!r}: one cluster of {clusters!r} carries "
            f"{100 * (found.largest_cluster_share or 0):.0f} % of the variance"
        )


def _warn_near_zero(effect: Effect) -> None:
    """A control level near 0 leaves no relative effect."""
    reach = critical_value(0.95, effect.df) * math.sqrt(effect.baseline_variance or 0.0)
    if effect.baseline is not None and abs(effect.baseline) <= reach:
        _warn(
            f"{effect.details['metric']!r}: the control level {effect.baseline:.4g} is not "
            f"distinguishable from 0 (95 % half-width {reach:.2g}); there is no relative effect",
            stacklevel=5,
        )


def _warn(message: str, stacklevel: int = 7) -> None:
    warnings.warn(message, EstimationWarning, stacklevel=stacklevel)


def _emitted(caught: Sequence[warnings.WarningMessage], srm: SrmCheck) -> tuple[str, ...]:
    """Warnings, each once: shown as they would have been, and kept for the scorecard."""
    said = list(srm.findings())
    for message in said:
        warnings.warn(message, EstimationWarning, stacklevel=3)
    for w in caught:
        text = str(w.message)
        if text not in said:
            warnings.warn(w.message, stacklevel=3)
            said += [text] if issubclass(w.category, EstimationWarning) else []
    return tuple(said)
