"""A difference-in-differences out of a panel study: estimators, pre-trend, sensitivity, strata."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causal import (
    Effect,
    EventStudy,
    GroupTimeEffects,
    diff_in_diff,
    event_study,
    group_time_effects,
    honest_did,
    imputation_effects,
    panel_design,
    pretrend_power,
    robustness_table,
    stratified_did,
    sun_abraham,
)
from causal.panel.cohort_moments import PanelMoments
from causal.panel.open_moments import open_panel
from experiments.report.event_sections import (
    event_section,
    pretrend_section,
    sensitivity_section,
)
from experiments.report.panel_sections import (
    design_section,
    effect_section,
    robustness_section,
    strata_section,
)
from experiments.report.panel_words import (
    ESTIMATORS,
    effect_in_words,
    relative_in_words,
    total_in_words,
)
from experiments.report.wording import (
    counted,
    digits,
    listed,
    p_equation,
)
from experiments.study.panel_result import (
    PanelReading,
    said_aside,
    total_effect,
    total_of_cells,
    warnings_of,
    with_notes,
)
from experiments.study.panel_schema import REGRESSIONS
from experiments.study.study_data import collected_warnings, located

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal import HonestDid, PanelDesign
    from experiments.report.report_sections import ReportSection
    from experiments.study.panel_schema import DiffInDiffSection
    from experiments.study.study_data import Source
    from experiments.study.study_schema import Study

_MOST_LEADS = 3
_REJECTED = 0.05
_ASSUMES = (
    "without treatment both groups would have moved in parallel; nobody acted on the treatment "
    "before it came; treated units do not affect controls"
)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is estimated from what."""

    part: DiffInDiffSection
    design: PanelDesign
    data: Any  # PanelMoments, or the table where moments cannot hold what is asked
    who: dict[str, Any]  # columns, and who is treated
    level: float

    def call(self, name: str) -> Any:  # noqa: ANN401 — a result of any kind
        """The result of one estimator."""
        part = self.part
        more: dict[str, Any] = {"covariates": tuple(part.covariates), "cluster": part.cluster}
        more |= part.takes(name)
        functions: dict[str, Callable[..., Any]] = {
            "event_study": event_study,
            "diff_in_diff": diff_in_diff,
            "sun_abraham": sun_abraham,
            "imputation_effects": imputation_effects,
            "group_time_effects": group_time_effects,
        }
        if name == "group_time_effects":
            more |= {"control": "never" if self.never() else "not_yet", "base": "universal"}
        if name == "imputation_effects":
            more["n_pretrend"] = max(0, min(_MOST_LEADS, self.first_start() - 1))
        return functions[name](self.data, **self.who, **more)

    def never(self) -> bool:
        """Whether some units are never treated."""
        return bool(self.design.cohorts["cohort"].isna().any())

    def others(self) -> str:
        """Whom the answer compares the treated with: ``treated later or never``."""
        name, several = self.estimators()[0], len(self.starts()) > 1
        always = len(self.starts()) < int(self.design.cohorts["cohort"].notna().sum())
        earlier = name in REGRESSIONS and (several or always)
        if name in ("group_time_effects", "sun_abraham") and self.never():
            later = ""
        else:
            later = "last" if name == "sun_abraham" else "later"
        words = ["earlier" if earlier else "", later if several else ""]
        words = [word for word in [*words, "never" if self.never() else ""] if word]
        if words == ["never"]:
            return "never treated"
        return f"treated {' or '.join([', '.join(words[:-1]), words[-1]] if words[1:] else words)}"

    def starts(self) -> list[int]:
        """Positions of the starts with a period before."""
        times = list(dict.fromkeys(self.design.balance_by_cohort["time"]))
        found = [times.index(c) for c in self.design.cohorts["cohort"] if c is not None]
        return [start for start in found if start > 0]

    def first_start(self) -> int:
        """Position of the first one."""
        return min(self.starts(), default=0)

    def estimators(self) -> list[str]:
        """Those of the study, or what the panel is made for: the first one answers."""
        if self.part.estimators:
            return list(self.part.estimators)
        if len(self.starts()) > 1:
            found = ["group_time_effects", "sun_abraham", "imputation_effects"]
        else:
            found = ["event_study", "imputation_effects", "diff_in_diff"]
        if "cohort" in self.who:
            return found
        return ["event_study", "diff_in_diff"]  # the others are told starts by a column only


def read_did(study: Study, part: DiffInDiffSection, source: Source) -> PanelReading:
    """Estimate everything that the study asks, and put it into sections.

    Parameters
    ----------
    study : Study
    part : DiffInDiffSection
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
        asked = _asked(part, source, study.report.level)
        part.refuse_options(asked.estimators()[0])
        results, aside = _results(asked)
        with collected_warnings() as of_strata:
            strata = _strata(asked)
    headline = next(iter(results.values()))
    known = warnings_of(headline)
    total = _total(_events(headline), getattr(headline, "effect", headline))
    curve = next((v for r in results.values() if (v := _events(r)) is not None), None)
    with collected_warnings() as of_bounds:
        sensitivity, over = _overturned(asked, curve)
    how: dict[str, Any] = {"level": asked.level, "unit": part.measured_in}
    sections = [
        effect_section(headline, total=total, assumes=_ASSUMES, **how),
        design_section(asked.design, unit=part.measured_in),
        *([] if curve is None else [event_section(curve, **how)]),
        *with_notes(over, said_aside(of_bounds, known)),
    ]
    if strata is not None:
        notes = [*_beside_the_headline(asked), *said_aside(of_strata, known)]
        found = strata_section(strata, stratum=str(part.stratum), **how)
        sections += with_notes([found], notes)
    if len(results) > 1 or aside:
        named = {ESTIMATORS[name]: lambda _, r=r: r for name, r in results.items()}
        table = robustness_table(named, source.table, level=asked.level)
        sections.append(robustness_section(table, notes=aside, **how))
    effects: dict[str, Any] = {n: getattr(r, "effect", r) for n, r in results.items()}
    if curve is not None:
        effects["by event time"] = curve.curve
    if strata is not None:
        effects |= {"stratified_did": strata.effect, "by stratum": strata.curve}
    return PanelReading(
        answer=_answer(asked, headline, total, curve, sensitivity),
        sections=tuple(sections),
        results=results if strata is None else {**results, "stratified_did": strata},
        effects=effects,
        failures=_failures(curve),
    )


def _results(asked: _Asked) -> tuple[dict[str, Any], list[str]]:
    """What each estimator finds, the answer's first, and what is to be said of the others."""
    first, *others = asked.estimators()
    results: dict[str, Any] = {first: asked.call(first)}
    notes = []
    for name in others:
        with collected_warnings() as found:
            try:
                results[name] = asked.call(name)
            except ValueError as error:
                notes.append(f"{ESTIMATORS[name]} is left out: {_one_line(error)}.")
        notes += said_aside(found, warnings_of(results[first]), of=ESTIMATORS[name])
    own = [ESTIMATORS[n] for n in results if n not in REGRESSIONS]
    if asked.part.covariance is not None and own:
        notes.append(f"Errors are {asked.part.covariance}, but not those of {listed(own)}.")
    return results, notes


def _beside_the_headline(asked: _Asked) -> list[str]:
    """How effects by stratum differ from the headline in kind."""
    name, covariance = asked.estimators()[0], asked.part.covariance
    notes = [f"Errors here are CR1, not {covariance}."] if covariance not in (None, "CR1") else []
    if name == "diff_in_diff" or len(asked.starts()) < 2:
        return notes
    return [
        "The effect in each stratum is that of two-way fixed effects within it, unlike the "
        f"headline's ({ESTIMATORS[name]}): where treatment starts at several times the two weigh "
        "effects differently.",
        *notes,
    ]


def _asked(part: DiffInDiffSection, source: Source, level: float) -> _Asked:
    """The panel's design, and its moments where they hold what is asked."""
    columns: dict[str, Any] = {"outcome": part.outcome, "unit": part.unit, "time": part.time}
    said: dict[str, Any] = {
        key: value
        for key in ("cohort", "treatment", "start", "never")
        if (value := getattr(part, key)) is not None
    }
    kept: dict[str, Any] = {"cluster": part.cluster, "stratum": part.stratum}
    kept |= {"aggregate": part.aggregate}
    design = panel_design(source.table, **columns, **said, **kept, exposure=part.exposure)
    if part.covariates:
        return _Asked(part, design, source.table, columns | said, level)
    found = open_panel(source.table, **columns, **said, **kept)
    if not isinstance(found, PanelMoments):
        return _Asked(part, design, source.table, columns | said, level)
    if part.cohort is None:  # moments know each unit's start, however it was said
        found = replace(found, columns={**found.columns, "cohort": str(part.treatment)})
        said = {"cohort": str(part.treatment)}
    return _Asked(part, design, found, columns | said, level)


def _events(result: object) -> EventStudy | None:
    """A result's effects by event time; None where it has none."""
    if isinstance(result, EventStudy):
        return result
    if not isinstance(result, GroupTimeEffects):
        return None
    found = result.aggregate("event")
    reference = -1 - result.anticipation
    held = reference in found.curve.index and found.curve.at(reference).std_error == 0
    return EventStudy(
        effect=found.effect,
        curve=found.curve,
        pretrend=result.pretrend,
        reference=reference if held else None,
        n_units_by_event_time={int(str(e)): n for e, n in found.n_treated.items()},
        method=found.effect.method,
    )


def _overturned(
    asked: _Asked, curve: EventStudy | None
) -> tuple[HonestDid | None, list[ReportSection]]:
    """Sections on what the test before the start could miss, and on trends that differ."""
    if curve is None:
        return None, []
    unit, sections = asked.part.measured_in, []
    try:
        sections.append(pretrend_section(pretrend_power(curve, level=asked.level), unit=unit))
        bound = asked.part.sensitivity
        found = honest_did(curve, bound=bound, at="average", level=asked.level)
    except ValueError:  # too few periods before the start: the event section says so
        return None, sections
    target = "The mean effect over event times from 0 on"
    return found, [*sections, sensitivity_section(found, unit=unit, target=target)]


def _strata(asked: _Asked) -> Any:  # noqa: ANN401 — a StratifiedDid, or nothing
    """Effects by stratum."""
    part = asked.part
    if part.stratum is None:
        return None
    return stratified_did(
        asked.data,
        **asked.who,
        stratum=part.stratum,
        weights=part.weights,
        cluster=part.cluster,
        aggregate=part.aggregate,
    )


def _total(study: EventStudy | None, effect: Effect) -> Effect | None:
    """The sum of the effects over treated units and periods; None where nobody counted them."""
    if study is None:
        cells = effect.details.get("treated_cells")
        return total_of_cells(effect, cells) if isinstance(cells, int) else None
    index = np.array(study.curve.index, dtype=np.int64)
    n = [study.n_units_by_event_time.get(int(e), 0) if e >= 0 else 0 for e in index]
    w = np.array(n, dtype=np.float64)
    error = math.sqrt(max(float(w @ study.curve.cov @ w), 0.0))
    return total_effect(effect, float(w @ study.curve.estimate), error, int(w.sum()))


def _answer(
    asked: _Asked,
    headline: Any,  # noqa: ANN401 — a result of any kind
    total: Effect | None,
    curve: EventStudy | None,
    sensitivity: HonestDid | None,
) -> tuple[str, ...]:
    """What was compared, what came out, how far to trust it."""
    part, design = asked.part, asked.design
    treated = design.cohorts[design.cohorts["cohort"].notna()]
    starts = [str(c) for c in treated["cohort"]]
    compared = (
        f"This study compares {int(treated['n_units'].sum()):,} of {design.n_units:,} units "
        f"({part.unit}), treated from {listed(starts)} on, with those that were "
        f"{asked.others()}, on {part.outcome}, over {counted(design.n_periods, 'period')}."
    )
    found = f"Treatment changed {part.outcome} by "
    found += effect_in_words(headline, asked.level, part.measured_in)
    if total is not None:
        found += relative_in_words(headline, total, _treated_mean(design), part.measured_in)
        found += f"; {total_in_words(total, headline, asked.level, part.measured_in)}"
    parts = [f"it is causal if {_ASSUMES}"]
    if curve is not None and curve.pretrend is not None:
        p = p_equation(curve.pretrend.p_value)
        moved = "they did not" if curve.pretrend.p_value < _REJECTED else "no difference is shown"
        parts.append(f"before the start {moved} (joint {p})")
    if sensitivity is not None and 0 < sensitivity.breakdown < math.inf:
        parts.append(
            "its sign is lost if trends differ after the start by "
            f"{digits(sensitivity.breakdown)} times as much from period to period as at most before"
        )
    elif sensitivity is not None and sensitivity.breakdown == 0:
        parts.append("the sign of its mean over event times cannot be told")
    return compared, f"{found}.", f"How far to trust it: {'; '.join(parts)}."


def _treated_mean(design: PanelDesign) -> float | None:
    """Mean outcome of the treated units and periods."""
    seen = design.balance_by_cohort
    place = {t: j for j, t in enumerate(dict.fromkeys(seen["time"]))}
    sizes = dict(zip(design.cohorts["cohort"], design.cohorts["n_units"], strict=True))
    total = cells = 0.0
    for cohort, time, share, mean in seen.itertuples(index=False):
        if cohort is not None and 0 < place[cohort] <= place[time] and share > 0:
            n = share * sizes[cohort]
            total, cells = total + n * mean, cells + n
    return total / cells if cells else None


def _failures(curve: EventStudy | None) -> tuple[str, ...]:
    """Trends that differ before the start."""
    test = None if curve is None else curve.pretrend
    if test is None or test.p_value >= _REJECTED:
        return ()
    return (f"trends differ before the start (joint p = {test.p_value:.3g})",)


def _one_line(error: BaseException) -> str:
    """A message without its line breaks and its last full stop."""
    return " ".join(str(error).split()).rstrip(".")
