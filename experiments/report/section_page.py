"""One self-contained page of any results: their sections, an answer, the JSON beside it."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causal.did.event_study import EventStudy
from causal.did.strata import StratifiedDid
from causal.effect import EffectCurve
from causal.panel.design import PanelDesign
from causal.sensitivity.honest import HonestDid
from causal.sensitivity.pretrend import PretrendPower
from causal.synthetic.matrix_completion import FactorEffects
from causal.synthetic.synthetic_did import SyntheticDiffInDiff
from causal.synthetic.synthetic_result import SyntheticControl
from experiments.atomic import write_set
from experiments.designs.rotation import Schedule, Switchback
from experiments.pairs.dual_sided import DualSidedEffect
from experiments.pairs.saturation_response import ShareResponse
from experiments.planning.recommendation import Recommendation
from experiments.report.design_sections import (
    assumptions_section,
    balance_section,
    calendar_section,
)
from experiments.report.event_sections import (
    event_section,
    pretrend_section,
    sensitivity_section,
)
from experiments.report.pair_sections import dual_sided_section, share_section
from experiments.report.panel_sections import design_section, effect_section, strata_section
from experiments.report.plan_sections import plan_answers, recommendation_sections
from experiments.report.power_sections import power_section
from experiments.report.report import ReportFiles
from experiments.report.report_sections import ReportSection
from experiments.report.report_templates import LARGEST_PAGE, filled_page
from experiments.report.rotation_sections import (
    burn_in_section,
    carryover_section,
    curve_section,
    switchback_sections,
    switches_section,
)
from experiments.report.rounding import json_rounded
from experiments.report.simulation_sections import (
    bias_section,
    estimates_section,
    notes_section,
    three_answers,
    triangulation_section,
)
from experiments.report.synthetic_sections import (
    factor_section,
    synthetic_sections,
    weighted_section,
)
from experiments.rotations.carryover import CarryoverBound
from experiments.rotations.switchback import SwitchbackEffect
from experiments.simulation.comparison import Comparison
from experiments.simulation.simulation import Simulation
from experiments.simulation.triangulation import Triangulation
from experiments.sizing.rotation_power import PowerCurve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA_VERSION = 1
_ROWS = (200, 60, 20, 8)
_CURVES = {
    "burn_in": burn_in_section,
    "since_switch": switches_section,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page shows.

    Parameters
    ----------
    title : str
    sections : tuple of ReportSection
    answer : tuple of str
        Sentences in front.
    warnings : tuple of str
    facts : mapping of str to str
        Under provenance, by name.
    more : mapping of str to JSON value
        What else the JSON holds, by key.
    """

    title: str
    sections: tuple[ReportSection, ...]
    answer: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def write_page(
    results: Iterable[object] | object,
    folder: str | Path,
    *,
    title: str,
    name: str = "page",
) -> ReportFiles:
    """Put results on one page that people read: sections with sentences, tables and drawings.

    Parameters
    ----------
    results : result or iterable of results
        Any of `SwitchbackEffect`, `DualSidedEffect`, `ShareResponse`, `CarryoverBound`,
        `PowerCurve`, `Schedule`, `Simulation`, `Comparison`, `Triangulation`, `Recommendation`,
        `PanelDesign`, `EventStudy`, `PretrendPower`, `HonestDid`, `StratifiedDid`,
        `SyntheticControl`, `SyntheticDiffInDiff`, `FactorEffects`, an `EffectCurve` (of
        `burn_in_curve`, `switch_event_study` or any other), and `ReportSection` of your own; in the
        order of the page.
    folder : path
        Made if absent; an older page in it is replaced only when the new one is complete.
    title : str
        Heading.
    name : str
        File name of the page and of the JSON, without ending.

    Returns
    -------
    ReportFiles
        Paths of the page and of its numbers as JSON.

    Raises
    ------
    TypeError
        If one of the results has no section.
    ValueError
        If there are none, or `name` is not a plain file name.
    OSError
        If the folder cannot be written.

    Notes
    -----
    Names from data are shown as text, never as markup; the page asks for nothing from outside. The
    JSON holds the tables behind it, with `checksum` over all but the time of making.

    Examples
    --------
    >>> import tempfile
    >>> plan = Switchback(360, burn_in_minutes=60).schedule(start="2026-03-02", days=14, seed=7)
    >>> files = write_page([plan], tempfile.mkdtemp(), title="The plan of March")
    >>> files.html.name, files.json.name
    ('page.html', 'page.json')
    """
    given = list(results) if isinstance(results, list | tuple) else [results]
    if not given:
        raise ValueError("results must hold one result or more; got none")
    sections = tuple(section for each in given for section in sections_of(each))
    answer = next((found for each in given if (found := _answer(each))), ())
    page = Page(title=title, sections=sections, answer=answer)
    target = Path(folder)
    files = page_files(page, name=name)
    write_set(target, files)
    return ReportFiles(html=target / f"{name}.html", json=target / f"{name}.json", tables=())


def _answer(result: object) -> tuple[str, ...]:
    """Sentences in front of a page, of results that answer a question."""
    if isinstance(result, Comparison):
        return three_answers(result)
    return plan_answers(result) if isinstance(result, Recommendation) else ()


def page_files(page: Page, *, name: str) -> dict[str, bytes]:
    """The page and its JSON as files of a set, by name.

    Raises
    ------
    ValueError
        If `name` is not a plain file name.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"name must be a plain file name; got {name!r}")
    created_at = dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
    document = page_document(page, created_at=created_at)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    html = page_html(page, created_at=created_at, checksum=str(document["checksum"]), name=name)
    return {
        f"{name}.json": (text + "\n").encode("utf-8", "replace"),
        f"{name}.html": html.encode("utf-8", "replace"),
    }


def page_document(page: Page, *, created_at: str) -> dict[str, Any]:
    """Every number of the page as plain JSON values.

    Returns
    -------
    dict
        `schema_version title created_at provenance checksum answer sections warnings`; the
        checksum is over all but the first five.
    """
    content: dict[str, Any] = json_rounded(
        {
            "answer": list(page.answer),
            "sections": [section.to_dict() for section in page.sections],
            "warnings": list(page.warnings),
            **page.more,
        }
    )
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return {
        "schema_version": SCHEMA_VERSION,
        "title": page.title,
        "created_at": created_at,
        "provenance": dict(page.facts),
        "checksum": hashlib.sha256(canonical.encode()).hexdigest(),
        **content,
    }


def page_html(page: Page, *, created_at: str, checksum: str, name: str) -> str:
    """The page; fewer rows of long tables are tried until it is below 300 KB."""
    html = ""
    for rows in _ROWS:
        html = filled_page(
            "page.html.j2",
            title=page.title,
            sections=page.sections,
            answer=page.answer,
            warnings=page.warnings,
            facts=page.facts,
            version=importlib.metadata.version("livelift"),
            created_at=created_at,
            checksum=checksum,
            name=name,
            limits={"rows": rows},
        )
        if len(html.encode("utf-8", "replace")) < LARGEST_PAGE:
            break
    return html


# --- a result's sections --------------------------------------------------------------------------


@singledispatch
def sections_of(result: object) -> tuple[ReportSection, ...]:
    """The sections of a result, by its type."""
    raise TypeError(
        "a page is made of results of experiments (SwitchbackEffect, DualSidedEffect, Comparison, "
        f"...) and ReportSection; got {type(result).__name__}"
    )


@sections_of.register(ReportSection)
def _(result: ReportSection) -> tuple[ReportSection, ...]:
    return (result,)


@sections_of.register(Schedule)
def _(result: Schedule) -> tuple[ReportSection, ...]:
    found = (calendar_section(result), balance_section(result))
    rests = isinstance(result.design, Switchback)
    return (*found, assumptions_section(schedule=result)) if rests else found


@sections_of.register(SwitchbackEffect)
def _(result: SwitchbackEffect) -> tuple[ReportSection, ...]:
    return (*switchback_sections(result), assumptions_section(result))


@sections_of.register(DualSidedEffect)
def _(result: DualSidedEffect) -> tuple[ReportSection, ...]:
    return (dual_sided_section(result),)


@sections_of.register(ShareResponse)
def _(result: ShareResponse) -> tuple[ReportSection, ...]:
    return (share_section(result),)


@sections_of.register(CarryoverBound)
def _(result: CarryoverBound) -> tuple[ReportSection, ...]:
    return (carryover_section(result),)


@sections_of.register(EffectCurve)
def _(result: EffectCurve) -> tuple[ReportSection, ...]:
    return (_CURVES.get(result.index_name, curve_section)(result),)


@sections_of.register(PowerCurve)
def _(result: PowerCurve) -> tuple[ReportSection, ...]:
    return (power_section(result),)


@sections_of.register(Simulation)
def _(result: Simulation) -> tuple[ReportSection, ...]:
    notes = notes_section(result)
    return (estimates_section(result), *(() if notes is None else (notes,)))


@sections_of.register(Comparison)
def _(result: Comparison) -> tuple[ReportSection, ...]:
    notes = notes_section(result.simulation)
    found = (estimates_section(result), bias_section(result))
    return found if notes is None else (*found, notes)


@sections_of.register(Triangulation)
def _(result: Triangulation) -> tuple[ReportSection, ...]:
    return (triangulation_section(result),)


@sections_of.register(Recommendation)
def _(result: Recommendation) -> tuple[ReportSection, ...]:
    return recommendation_sections(result)


@sections_of.register(PanelDesign)
def _(result: PanelDesign) -> tuple[ReportSection, ...]:
    return (design_section(result),)


@sections_of.register(EventStudy)
def _(result: EventStudy) -> tuple[ReportSection, ...]:
    return (effect_section(result), event_section(result))


@sections_of.register(PretrendPower)
def _(result: PretrendPower) -> tuple[ReportSection, ...]:
    return (pretrend_section(result),)


@sections_of.register(HonestDid)
def _(result: HonestDid) -> tuple[ReportSection, ...]:
    return (sensitivity_section(result),)


@sections_of.register(StratifiedDid)
def _(result: StratifiedDid) -> tuple[ReportSection, ...]:
    return (strata_section(result),)


@sections_of.register(SyntheticControl)
def _(result: SyntheticControl) -> tuple[ReportSection, ...]:
    return (effect_section(result, level=result.level), *synthetic_sections(result))


@sections_of.register(SyntheticDiffInDiff)
def _(result: SyntheticDiffInDiff) -> tuple[ReportSection, ...]:
    return (effect_section(result), weighted_section(result))


@sections_of.register(FactorEffects)
def _(result: FactorEffects) -> tuple[ReportSection, ...]:
    return (effect_section(result), factor_section(result))
