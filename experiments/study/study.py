"""Run a study: from its description and its log to everything that the report shows."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow.compute as pc

from experiments.errors import StudyError
from experiments.report.wording import counted, listed, percent
from experiments.splits.ab import (
    Mean,
    Quantile,
    Ratio,
    ab_curve,
    ab_test,
    ab_tests,
    adjust_p_values,
)
from experiments.splits.scorecard import decision
from experiments.splits.sequential import confidence_sequence
from experiments.splits.srm import SRM_LEVEL
from experiments.study.open_bandit_study import built_in_study, open_campaign
from experiments.study.policy_readout import read_policy
from experiments.study.study_data import (
    Source,
    collected_warnings,
    input_hashes,
    located,
    open_log,
    readable,
    refuse_unquoted,
    span,
)
from experiments.study.study_effects import (
    among_triggered,
    over_population,
    population_curve,
    population_error,
)
from experiments.study.study_file import load_study
from experiments.study.study_result import Check, CurveReadout, LogSummary, Section, StudyResult
from experiments.study.study_schema import MeanMetric, RatioMetric, Study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from causal.effect import Effect, EffectCurve
    from experiments.splits.scorecard import Scorecard
    from experiments.splits.srm import SrmCheck
    from experiments.study.study_schema import Experiment, Metric

__all__ = ["Study", "StudyResult", "built_in_study", "load_study", "run_study"]

_VERSIONED = ("numpy", "pandas", "pyarrow", "duckdb", "ibis-framework", "scipy", "lightgbm")


def run_study(study: Study, *, progress: bool = False) -> StudyResult:
    """Read out a study: the split, the scorecard, effects by day and segment, policy values.

    Parameters
    ----------
    study : Study
        From `load_study`, `built_in_study` or ``Study.model_validate``.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    StudyResult
        For `render`; `.effects` and `.tables` for whoever goes on with the numbers.

    Raises
    ------
    StudyError
        If the study has no log, but a platform to simulate, or is of a panel.
    DataError
        If only the data could tell: a file is absent or torn, a column is absent, values are
        refused. The message names the file, or the place in the study.

    Notes
    -----
    Effects are averages over the units of the log, under random assignment and no interference.
    A curve by day or segment that has too little information in a cell is left out with a warning;
    the scorecard and policy values raise. Estimation warnings are collected in the result.

    Examples
    --------
    >>> result = run_study(built_in_study())  # doctest: +SKIP
    >>> sorted(result.tables)  # doctest: +SKIP
    ['checks', 'curves', 'overlap', 'policy_values', 'scorecard', 'weights']
    """
    if study.panel is not None:
        raise StudyError(
            f"{study.file}: this study is of a panel; use `livelift report`, or run_panel in Python"
        )
    if study.data is None:
        raise StudyError(
            f"{study.file}: this study simulates, and has no log to read out; use `livelift "
            "simulate`, or run_simulation in Python"
        )
    campaigns = study.data.open_bandit
    sources = [open_campaign(name) for name in campaigns] if campaigns else [open_log(study)]
    with _steps(study, len(sources), progress=progress) as step:
        sections = tuple(_section(study, source, step) for source in sources)
    return StudyResult(
        title=study.title,
        level=study.report.level,
        adjust=study.report.adjust,
        sections=sections,
        provenance=_provenance(study, sources),
        notes=tuple(dict.fromkeys(note for source in sources for note in source.notes)),
    )


@contextmanager
def _steps(study: Study, n_sources: int, *, progress: bool) -> Iterator[Callable[[str], None]]:
    """Progress on stderr: one step a scorecard, a curve column and metric, a policy's method."""
    if not progress:
        yield lambda _: None
        return
    from tqdm import tqdm  # noqa: PLC0415 — loaded only when used

    e = study.experiment
    columns = len(e.segments) + (e.day is not None) if e is not None else 0
    n = (e is not None) + columns * len(study.metrics)
    n += sum(len(policy.methods) for policy in study.off_policy)
    with tqdm(total=n * n_sources, file=sys.stderr, unit="step", leave=False) as bar:

        def step(name: str) -> None:
            bar.set_description_str(name[:40])
            bar.update()

        yield step


def _section(study: Study, source: Source, step: Callable[[str], None]) -> Section:
    """Everything that one log says."""
    day = study.experiment.day if study.experiment is not None else None
    names = source.rows.schema.names
    with readable(source), collected_warnings() as found:
        parts = _read_experiment(study, source, step) if study.experiment is not None else {}
        policies = tuple(read_policy(study, source, i, step) for i in range(len(study.off_policy)))
        first, last = span(source, day or ("timestamp" if "timestamp" in names else None))
    card: Scorecard | None = parts.get("scorecard")
    unasked: set[str] = parts.pop("unasked", set())
    messages = [*parts.pop("warnings", ()), *(card.warnings if card is not None else ()), *found]
    return Section(
        name=source.name,
        log=LogSummary(
            files=tuple(source.files),
            n_rows=source.rows.count_rows(),
            columns=tuple(names),
            first=first,
            last=last,
            **parts.pop("units_of_log", {}),
        ),
        checks=(*parts.pop("checks", ()), *source.checks),
        policies=policies,
        warnings=tuple(dict.fromkeys(" ".join(m.split()) for m in messages if m not in unasked)),
        **parts,
    )


def _read_experiment(study: Study, source: Source, step: Callable[[str], None]) -> dict[str, Any]:
    """Scorecard, split, second look and curves, as the parts of a `Section`."""
    e = study.experiment
    if e is None:
        return {}
    metrics = {name: _metric(name, metric) for name, metric in study.metrics.items()}
    _refuse_labels(study, e, source)
    with located(study, ("experiment",)):
        card = ab_tests(
            source.table,
            metrics=metrics,
            **_design(e),
            adjust=study.report.adjust,
            level=study.report.level,
            expected_share=e.expected_share,
            segments=e.segments,
            day=e.day,
        )
    about_split = set(card.srm.findings()) if card.srm is not None else set()
    split = card.srm if e.skip_srm is None else None
    triggered = among_triggered(card.rows)
    rows = over_population(card.rows, metrics, study.report.adjust, study.report.level)
    verdict, reason = decision(rows, split)
    card = replace(card, rows=rows, srm=split, verdict=verdict, reason=reason)
    step("scorecard")
    missing: list[str] = []
    second_look = _second_look(study, source, card, metrics, missing)
    curves = tuple(_curves(study, source, card, metrics, missing, step))
    arms = _arms(source, e, split)
    return {
        "scorecard": card,
        "control": _control(e, arms, card),
        "checks": tuple(_split_checks(split, e.skip_srm)),
        "triggered": triggered,
        "second_look": second_look,
        "second_cluster": e.also_cluster or "",
        "curves": curves,
        "units": {name: metric.measured_in for name, metric in study.metrics.items()},
        "descriptions": {name: _description(metric) for name, metric in study.metrics.items()},
        "units_of_log": {
            "n_units": sum(arms.values()),
            "unit": _counted(e, metrics.values()) if split is not None else "rows",
            "arms": arms,
        },
        "warnings": missing,
        "unasked": about_split if split is None else set(),
    }


def _refuse_labels(study: Study, e: Experiment, source: Source) -> None:
    """Refuse arms that YAML read as true or false while the column holds text."""
    labels = [("control", e.control), ("treatment", e.treatment)]
    labels += [("expected_share", label) for label in e.expected_share or ()]
    for option, label in labels:
        refuse_unquoted(source, e.arm, label, f"{study.file}: experiment.{option}")


def _arms(source: Source, e: Experiment, split: SrmCheck | None) -> dict[str, int]:
    """Units by arm where the split was tested, rows by arm where it was not."""
    if split is not None:
        return {str(arm): int(n) for arm, n in split.counts.items()}
    column = source.rows.to_table(columns=[e.arm]).column(e.arm)
    return {str(c["values"]): int(c["counts"]) for c in pc.value_counts(column).to_pylist()}


def _design(e: Experiment) -> dict[str, Any]:
    """What every analysis of the experiment is told."""
    return {
        "arm": e.arm,
        "control": e.control,
        "treatment": e.treatment,
        "unit": e.unit,
        "cluster": e.cluster,
        "weight": e.weight,
        "trigger": e.trigger,
        "adjustment": e.adjustment,
        "covariance": e.covariance,
        "missing": e.missing,
    }


def _metric(name: str, metric: Metric) -> Mean | Ratio | Quantile:
    """The metric object of a metric of the study."""
    shared: dict[str, Any] = {
        "role": metric.role,
        "margin": metric.margin,
        "better": metric.better,
        "name": name,
    }
    if isinstance(metric, MeanMetric):
        low_high = metric.winsor
        return Mean(
            metric.outcome,
            per=metric.per,
            covariates=tuple(metric.covariates),
            winsor=(low_high[0], low_high[1]) if low_high is not None else None,
            **shared,
        )
    if isinstance(metric, RatioMetric):
        pair = metric.covariate_ratio
        return Ratio(
            metric.numerator,
            metric.denominator,
            covariates=tuple(metric.covariates),
            covariate_ratio=(pair[0], pair[1]) if pair is not None else None,
            **shared,
        )
    return Quantile(metric.outcome, metric.q, per=metric.per, **shared)


def _description(metric: Metric) -> str:
    """Role, direction and margin in words."""
    text = f"{metric.role}{', lower is better' if metric.better == 'lower' else ''}"
    return text + (f", margin {percent(metric.margin)}" if metric.margin is not None else "")


def _control(e: Experiment, arms: Mapping[str, int], card: Scorecard) -> str:
    """The control arm's label as text."""
    if e.control is not None:
        return str(e.control)
    treated = {str(row.treatment) for row in card.rows}
    return next((arm for arm in arms if arm not in treated), "0")


def _counted(e: Experiment, metrics: Iterable[Mean | Ratio | Quantile]) -> str:
    """What `ab_tests` counts for the split: units, clusters, or what all metrics are summed to."""
    per = {metric.per for metric in metrics if not isinstance(metric, Ratio)} - {None}
    return e.unit or e.cluster or (str(per.pop()) if len(per) == 1 else "rows")


def _split_checks(split: SrmCheck | None, reason: str | None) -> Iterator[Check]:
    """The split overall, by segment and by day; one line for each cell where it fails."""
    if split is None:
        finding = reason or "the arms were not counted"
        yield Check(name="split", kind="srm", status="not tested", finding=finding)
        return
    total, expected = sum(split.counts.values()), sum(split.expected.values())
    shares = listed(
        [
            f"{arm} {n:,} ({percent(n / total)}, planned {percent(split.expected[arm] / expected)})"
            for arm, n in split.counts.items()
        ]
    )
    yield _split_check("split, overall", shares, split.p_value)
    if split.by is None:
        return
    for key, cells in split.by.groupby("key", sort=False):
        failed = cells[cells["p_adjusted"] < SRM_LEVEL]
        for row in failed.to_dict("records"):
            name = f"split, {key} = {row['cell']}"
            yield _split_check(name, "the split differs from the plan", row["p_adjusted"])
        if failed.empty:
            finding = f"{counted(len(cells), 'cell')}, smallest p after Holm's correction"
            yield _split_check(f"split by {key}", finding, float(cells["p_adjusted"].min()))


def _split_check(name: str, finding: str, p: float) -> Check:
    """One line about the split."""
    status: Literal["passed", "failed"] = "failed" if p < SRM_LEVEL else "passed"
    return Check(name=name, kind="srm", status=status, finding=finding, p_value=p)


def _second_look(
    study: Study,
    source: Source,
    card: Scorecard,
    metrics: Mapping[str, Any],
    missing: list[str],
) -> dict[tuple[str, str], Effect]:
    """Each effect again, with errors that depend on each other within `also_cluster`.

    A metric summed to units that lie in several of these clusters has none; `missing` is told.
    """
    e = study.experiment
    if e is None or e.also_cluster is None:
        return {}
    design = {**_design(e), "cluster": e.also_cluster, "unit": None}
    if e.covariance.startswith("HC"):  # chosen for rows that are independent; here they are not
        design["covariance"] = "auto"
    effects = {}
    for row in card.rows:
        per = getattr(metrics[row.metric], "per", None)
        with located(study, ("metrics", row.metric)):
            try:
                effect = ab_test(
                    source.table,
                    metric=metrics[row.metric],
                    **{**design, "treatment": row.treatment},
                )
            except ValueError as error:
                if not str(error).startswith(f"per {per!r} must lie within one cluster"):
                    raise
                missing.append(
                    f"{row.metric} has no second look: it is summed to {per!r}, and some of these "
                    f"have rows in several of {e.also_cluster!r}"
                )
                continue
        why = f"rows of the same {e.also_cluster} may depend on each other"
        effects[row.metric, str(row.treatment)] = replace(
            population_error(effect), details={**effect.details, "why": why}
        )
    return effects


def _curves(
    study: Study,
    source: Source,
    card: Scorecard,
    metrics: Mapping[str, Any],
    missing: list[str],
    step: Callable[[str], None],
) -> Iterator[CurveReadout]:
    """Every metric by day and by segment; what has too little information is told to `missing`."""
    e = study.experiment
    if e is None:
        return
    columns = [(e.day, True)] if e.day is not None else []
    columns += [(segment, False) for segment in e.segments]
    for column, daily in columns:
        for name, metric in metrics.items():
            for row in card.rows:
                if row.metric != name:
                    continue
                design = {**_design(e), "treatment": row.treatment}
                design.pop("trigger")
                try:
                    curve = ab_curve(
                        source.table, metric=metric, by=str(column), cumulative=daily, **design
                    )
                    curve = population_curve(curve)
                    yield _curve(name, str(row.treatment), curve, study.report.level, daily=daily)
                except ValueError as error:
                    missing.append(f"{name} by {column} is left out: {error}")
            step(f"{name} by {column}")


def _curve(
    metric: str, treatment: str, curve: EffectCurve, level: float, *, daily: bool
) -> CurveReadout:
    """A curve with the confidence sequence at each day, or with Holm's p-values."""
    points = [curve.at(label) for label in curve.index]
    if daily:
        looks = zip(points, cast("Sequence[int]", curve.details["n_by_cell"]), strict=True)
        sequence = [confidence_sequence(point, n=n, level=level) for point, n in looks]
        return CurveReadout(
            metric=metric,
            treatment=treatment,
            kind="day",
            curve=curve,
            always_valid=tuple((s.low, s.high) for s in sequence),
        )
    adjusted = adjust_p_values([point.p_value for point in points], method="holm")
    return CurveReadout(
        metric=metric,
        treatment=treatment,
        kind="segment",
        curve=curve,
        p_adjusted=tuple(float(p) for p in adjusted),
    )


def _provenance(study: Study, sources: list[Source]) -> dict[str, Any]:
    """Study, versions, content of the inputs, seed; the command line adds its command."""
    text = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    return {
        "study": {"file": study.file, "sha256": hashlib.sha256(text.encode()).hexdigest()},
        "command": "run_study",
        "seed": max((policy.seed for policy in study.off_policy), default=0),
        "versions": {
            "livelift": importlib.metadata.version("livelift"),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _VERSIONED},
        },
        "inputs": [record for source in sources for record in input_hashes(source)],
    }
