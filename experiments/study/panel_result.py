"""What a panel study found: its page, its numbers, its tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.atomic import write_set
from experiments.report.report import ReportFiles
from experiments.report.section_page import Page, page_files
from experiments.study.simulated_study import table_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from causal import Effect, EffectCurve
    from experiments.report.report_sections import ReportSection


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanelReading:
    """What one kind of panel study reads out of its data.

    `results` holds each estimator's result by name, the answer's first; `effects` the headline
    numbers and curves; `failures` what stops a strict run.
    """

    answer: tuple[str, ...]
    sections: tuple[ReportSection, ...]
    results: Mapping[str, Any]
    effects: Mapping[str, Effect | EffectCurve]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanelResult:
    """What `run_panel` found.

    Parameters
    ----------
    title : str
        Heading of the report.
    kind : {"diff_in_diff", "synthetic_control"}
    level : float
        Confidence level of every interval.
    answer : tuple of str
        What was compared, what came out, how far to trust it.
    sections : tuple of ReportSection
        Of the page.
    results : mapping from name to result
        Of each estimator, the answer's first: `EventStudy`, `SyntheticControl`, ...
    effects : mapping from name to Effect or EffectCurve
        Headlines and curves.
    failures : tuple of str
        What stops a strict run: trends that differ before the start, a poor fit.
    warnings : tuple of str
        Estimation warnings, each once.
    facts : mapping of str to str
        Study, data, versions.
    """

    title: str
    kind: str
    level: float
    answer: tuple[str, ...]
    sections: tuple[ReportSection, ...]
    results: Mapping[str, Any]
    effects: Mapping[str, Effect | EffectCurve]
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def effect(self) -> Effect:
        """The answer's number."""
        first = next(iter(self.results.values()))
        return first if not hasattr(first, "effect") else first.effect  # type: ignore[no-any-return]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The page's tables by name."""
        return {table.name: table.frame for section in self.sections for table in section.tables}

    def write(self, folder: str | Path) -> ReportFiles:
        """Write ``report.html``, ``report.json`` and ``tables/*.parquet`` as a set.

        Parameters
        ----------
        folder : path
            Made if absent; an older set is replaced only when the new one is complete.

        Returns
        -------
        ReportFiles

        Raises
        ------
        OSError
            If the folder cannot be written.

        Notes
        -----
        Under ``effects`` the JSON holds what `Effect.from_dict` and `EffectCurve.from_dict` read.
        """
        page = Page(
            title=self.title,
            sections=self.sections,
            answer=self.answer,
            warnings=self.warnings,
            facts=self.facts,
            more={
                "kind": self.kind,
                "level": self.level,
                "effects": {name: effect.to_dict() for name, effect in self.effects.items()},
            },
        )
        tables = {f"tables/{name}.parquet": table_file(t) for name, t in self.tables.items()}
        target = Path(folder)
        write_set(target, {**tables, **page_files(page, name="report")})
        return ReportFiles(
            html=target / "report.html",
            json=target / "report.json",
            tables=tuple(target / name for name in tables),
        )


def warnings_of(result: Any) -> tuple[str, ...]:  # noqa: ANN401 — a result of any kind
    """What was warned of when a result was found."""
    effect = getattr(result, "effect", result)
    return tuple(map(str, effect.details.get("warnings", ())))


def said_aside(found: Sequence[str], known: Sequence[str], of: str = "a warning") -> list[str]:
    """Warnings of what stands beside the headline, as sentences; without those of the headline."""
    texts = [" ".join(text.split()).rstrip(".") for text in dict.fromkeys(found)]
    heard = {" ".join(text.split()).rstrip(".") for text in known}
    return [f"{of[:1].upper()}{of[1:]}: {text}." for text in texts if text not in heard]


def with_notes(sections: Sequence[ReportSection], notes: Sequence[str]) -> list[ReportSection]:
    """Sections, with sentences that the last one says at its end."""
    if not sections:
        return []
    *others, last = sections
    return [*others, replace(last, sentences=(*last.sentences, *notes))]


def total_effect(effect: Effect, estimate: float, std_error: float, cells: int) -> Effect:
    """An effect over all treated units and periods, of which there are `cells`."""
    return replace(
        effect,
        estimate=estimate,
        std_error=std_error,
        estimand="total",
        baseline=None,
        baseline_variance=None,
        baseline_cov=None,
        details={"treated_cells": cells},
    )


def total_of_cells(effect: Effect, cells: int) -> Effect:
    """The same of a mean over treated units and periods."""
    return total_effect(effect, cells * effect.estimate, cells * effect.std_error, cells)
