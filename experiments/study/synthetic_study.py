"""A synthetic control out of a panel study: the control, its placebos, other estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from causal import (
    Predictor,
    SyntheticControl,
    SyntheticDiffInDiff,
    factor_effects,
    robustness_table,
    synthetic_control,
    synthetic_diff_in_diff,
)
from experiments.report.panel_sections import effect_section, robustness_section
from experiments.report.panel_words import ESTIMATORS, effect_in_words, total_in_words
from experiments.report.synthetic_sections import (
    factor_section,
    synthetic_sections,
    weighted_section,
)
from experiments.report.wording import counted, listed, percent
from experiments.study.panel_result import (
    PanelReading,
    said_aside,
    total_of_cells,
    warnings_of,
)
from experiments.study.study_data import collected_warnings, located

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal import Effect
    from experiments.report.report_sections import ReportSection
    from experiments.study.panel_schema import SyntheticControlSection
    from experiments.study.study_data import Source
    from experiments.study.study_schema import Study

_POOR_FIT = 0.25
_DONORS = "donors are untouched by the treatment; nobody acted on it before it came"
_ASSUMES = {
    "synthetic_control": "the treated would have gone on as the weighted donors did, as they had "
    f"before; {_DONORS}",
    "synthetic_diff_in_diff": "without treatment the treated would have moved in parallel to the "
    f"weighted donors, from the weighted earlier periods on; {_DONORS}",
    "factor_effects": "untreated outcomes follow unit and period effects and a few common factors, "
    "which the untreated cells tell; untreated units are untouched by the treatment; nobody acted "
    "on it before it came",
}


def read_synthetic(study: Study, part: SyntheticControlSection, source: Source) -> PanelReading:
    """Estimate everything that the study asks, and put it into sections.

    Parameters
    ----------
    study : Study
    part : SyntheticControlSection
        Its panel.
    source : Source
        Its log.

    Returns
    -------
    PanelReading

    Raises
    ------
    DataError
        If the first estimator cannot answer, with the place in the study.
    """
    with located(study, ("panel",)):
        table, results, aside = _results(part, source, study.report.level)
    name, first = next(iter(results.items()))
    total = total_of_cells(first.effect, _cells(first))
    how: dict[str, Any] = {"level": study.report.level, "unit": part.measured_in}
    sections = [
        effect_section(first, total=total, assumes=_ASSUMES[name], **how),
        *_sections(first, **how),
    ]
    if len(results) > 1 or aside:
        named = {ESTIMATORS[name]: lambda _, r=r: r for name, r in results.items()}
        rows = robustness_table(named, table, level=study.report.level)
        sections.append(robustness_section(rows, notes=aside, **how))
    effects: dict[str, Any] = {name: result.effect for name, result in results.items()}
    effects["by time"] = first.gap if isinstance(first, SyntheticControl) else first.curve
    return PanelReading(
        answer=_answer(part, name, first, total, study.report.level),
        sections=tuple(sections),
        results=results,
        effects=effects,
        failures=_failures(first),
    )


def _results(
    part: SyntheticControlSection, source: Source, level: float
) -> tuple[pa.Table, dict[str, Any], list[str]]:
    """The rows that are read, what each estimator finds, and what is to be said of the others."""
    first, table = part.estimators[0], _rows(part, source)
    results: dict[str, Any] = {}
    notes: list[str] = []
    heard: dict[str, list[str]] = {}
    before = () if part.donors is None else ("synthetic_control",)
    for name in dict.fromkeys([*before, *part.estimators]):
        if name == first:
            results[name] = _call(name, part, table, level)
        else:
            with collected_warnings() as heard[name]:
                try:
                    results[name] = _call(name, part, table, level)
                except ValueError as error:
                    if name in before:
                        raise
                    why = " ".join(str(error).split()).rstrip(".")
                    notes.append(f"{ESTIMATORS[name]} is left out: {why}.")
        if name in before:  # the others take all rows: they get those of the control
            labels = [*(part.donors or ()), *results[name].treated]
            table = _only(table, part.unit, labels)
    known = warnings_of(results[first])
    for name, found in heard.items():
        notes += said_aside(found, known, of=ESTIMATORS[name])
    return table, {n: results[n] for n in part.estimators if n in results}, notes


def _rows(part: SyntheticControlSection, source: Source) -> pa.Table:
    """The columns that the study names."""
    columns = dict.fromkeys(column for _, column in part.columns())
    return source.rows.to_table(columns=list(columns))


def _only(table: pa.Table, unit: str, labels: list[Any]) -> pa.Table:
    """The rows of some units."""
    wanted = set(labels)
    keep = [label in wanted for label in table.column(unit).to_pylist()]
    return table.filter(pa.array(keep))


def _call(name: str, part: SyntheticControlSection, table: pa.Table, level: float) -> Any:  # noqa: ANN401 — a result of any kind
    """The result of one estimator."""
    who = {
        key: value
        for key in ("outcome", "unit", "time", "treated", "treatment", "start", "cohort", "never")
        if (value := getattr(part, key)) is not None
    }
    if name == "synthetic_diff_in_diff":
        return synthetic_diff_in_diff(table, **who, aggregate=part.aggregate, seed=part.seed)
    if name == "factor_effects":
        return factor_effects(table, **who, aggregate=part.aggregate, seed=part.seed)
    predictors = [
        Predictor(p.column, start=p.start, stop=p.stop, how=p.how) for p in part.predictors
    ]
    return synthetic_control(
        table,
        **who,
        donors=part.donors,
        predictors=predictors,
        predictor_weights=part.predictor_weights,
        augment=part.augment,
        fixed_effect=part.fixed_effect,
        inference=part.inference,
        level=level,
        seed=part.seed,
    )


def _sections(result: Any, level: float, unit: str) -> tuple[ReportSection, ...]:  # noqa: ANN401 — a result of any kind
    """What one result shows."""
    if isinstance(result, SyntheticControl):
        return synthetic_sections(result, level=level, unit=unit)
    if isinstance(result, SyntheticDiffInDiff):
        return (weighted_section(result, unit=unit),)
    return (factor_section(result, unit=unit),)


def _cells(result: Any) -> int:  # noqa: ANN401 — a result of any kind
    """Treated units and periods behind a mean effect."""
    if isinstance(result, SyntheticControl):
        return int(str(result.effect.details["treated_cells"]))
    if isinstance(result, SyntheticDiffInDiff):
        return int((result.cohorts["n_units"] * result.cohorts["n_periods"]).sum())
    after = result.path["event_time"] >= 0
    return int(result.path.loc[after, "n_units"].sum())


def _answer(
    part: SyntheticControlSection,
    name: str,
    first: Any,  # noqa: ANN401 — a result of any kind
    total: Effect,
    level: float,
) -> tuple[str, ...]:
    """What was compared, what came out, how far to trust it."""
    details: Mapping[str, Any] = first.effect.details
    if isinstance(first, SyntheticControl):
        names = listed([str(label) for label in first.treated])
    else:
        names = f"{counted(int(details['n_treated']), 'treated unit')} ({part.unit})"
    others = (
        f"a weighted mean of {details['n_donors']} others that were never treated"
        if "n_donors" in details
        else "what a factor model of untreated outcomes gives them"
    )
    compared = f"This study compares {names} with {others}, on {part.outcome}."
    found = f"Treatment changed {part.outcome} by {effect_in_words(first, level, part.measured_in)}"
    found += f"; {total_in_words(total, first, level, part.measured_in)}"
    parts = [f"it is causal if {_ASSUMES[name]}"]
    if isinstance(first, SyntheticControl):
        fit = "poorly" if first.fit_quality > _POOR_FIT else "well"
        parts.append(
            f"before the start the control follows {fit} (it misses by "
            f"{percent(first.fit_quality)} of what the path itself moved)"
        )
    return compared, f"{found}.", f"How far to trust it: {'; '.join(parts)}."


def _failures(first: object) -> tuple[str, ...]:
    """A control that does not follow the treated before the start."""
    if isinstance(first, SyntheticControl) and first.fit_quality > _POOR_FIT:
        return (f"the synthetic control misses by {percent(first.fit_quality)} before the start",)
    return ()
