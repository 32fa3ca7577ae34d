"""Run a simulated study: designs on the platform, against the truth, with what they look like."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import platform as machine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.atomic import write_set
from experiments.designs.salted_coins import salt_clashes
from experiments.errors import StudyError
from experiments.report.design_sections import assumptions_section
from experiments.report.report import ReportFiles
from experiments.report.report_sections import plain
from experiments.report.rounding import rounded_row
from experiments.report.section_page import Page, page_files, sections_of
from experiments.report.simulation_sections import three_answers
from experiments.simulation.comparison import Comparison, compare
from experiments.simulation.trial_examples import example_sections
from experiments.simulation.trial_launches import Launch
from experiments.study.study_simulation import distinct_trials

if TYPE_CHECKING:
    import pandas as pd

    from experiments.report.report_sections import ReportSection
    from experiments.study.study_schema import Study

_VERSIONED = ("numpy", "pandas", "pyarrow", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationResult:
    """What `run_simulation` found.

    Parameters
    ----------
    title : str
        Heading of the report.
    comparison : Comparison
        Every design beside the truth.
    examples : tuple of ReportSection
        One experiment of each kind as its analyst sees it.
    warnings : tuple of str
        What the study itself should be warned of.
    facts : mapping of str to str
        Study, platform, strategy, seed, versions.
    """

    title: str
    comparison: Comparison
    examples: tuple[ReportSection, ...]
    warnings: tuple[str, ...]
    facts: dict[str, str]

    @property
    def sections(self) -> tuple[ReportSection, ...]:
        """The report's sections: the comparison first."""
        found = (*sections_of(self.comparison), *self.examples)
        if any(section.key == "assumptions" for section in found):
            return found
        return (*found, assumptions_section())

    def to_frame(self) -> pd.DataFrame:
        """The comparison's table."""
        return self.comparison.to_frame()

    def write(self, folder: str | Path) -> ReportFiles:
        """Write ``report.html report.json comparison.parquet estimates.parquet`` as a set.

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
        """
        page = Page(
            title=self.title,
            sections=self.sections,
            answer=three_answers(self.comparison),
            warnings=self.warnings,
            facts=self.facts,
        )
        tables = {
            "comparison.parquet": table_file(self.comparison.table),
            "estimates.parquet": table_file(self.comparison.simulation.estimates),
        }
        target = Path(folder)
        write_set(target, {**tables, **page_files(page, name="report")})
        return ReportFiles(
            html=target / "report.html",
            json=target / "report.json",
            tables=tuple(target / name for name in tables),
        )


def run_simulation(
    study: Study, *, n_jobs: int = 1, seed: int | None = None, progress: bool = False
) -> SimulationResult:
    """Simulate a study's trials on its platform, against the truth.

    Parameters
    ----------
    study : Study
        With `platform`, `strategy` and `trials`; from `load_study` or ``Study.model_validate``.
    n_jobs : int
        Workers; the numbers are the same for any.
    seed : int, optional
        In place of the study's own.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    SimulationResult
        ``.comparison`` for whoever goes on with the numbers, ``.write(folder)`` for the report.

    Raises
    ------
    StudyError
        If the study reads a log, or its trials do not fit its platform or its hours.

    Notes
    -----
    As in `compare`. Every trial has a seed of its own, so that equal salts do no harm here; on a
    real platform they would, and the result warns of them.

    Examples
    --------
    >>> from experiments import Study
    >>> study = Study.model_validate({"version": 1, "title": "Which design?",
    ...     "platform": {"n_viewers": 60, "n_authors": 8}, "trials": [{"design": "user_split"}],
    ...     "simulation": {"hours": 24, "before_hours": 24, "replications": 2}})
    >>> run_simulation(study).to_frame()["trial"].tolist()
    ['viewer split']
    """
    if study.platform is None:
        raise StudyError(
            f"{study.file}: this study reads a log, and has no platform to simulate; use `livelift "
            "report`, or run_study in Python"
        )
    platform, strategy = study.platform.platform(), study.strategy.strategy()
    trials, wishes = list(distinct_trials(study.trials)), study.simulation
    chosen = wishes.seed if seed is None else seed
    lengths: dict[str, Any] = {
        "strategy": strategy,
        "hours": wishes.hours,
        "before_hours": wishes.before_hours,
        "tick_minutes": wishes.tick_minutes,
        "seed": chosen,
    }
    try:
        found = compare(
            platform,
            trials,
            replications=wishes.replications,
            redraw_population=wishes.redraw_population,
            n_jobs=n_jobs,
            progress=progress,
            **lengths,
        )
        examples = example_sections(platform, trials, **lengths)
    except (ValueError, TypeError) as error:
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ())[:1])
        raise StudyError(f"{study.file}: {error}{notes}") from error
    return SimulationResult(
        title=study.title,
        comparison=found,
        examples=examples,
        warnings=salt_clashes(
            {t.label: t.design for t in trials if not isinstance(t.design, Launch)}
        ),
        facts=_facts(study, repr(platform), repr(strategy), chosen),
    )


def table_file(table: pd.DataFrame) -> bytes:
    """A table as Parquet, without the last bits of its numbers.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    bytes
    """
    rows = [
        rounded_row({str(k): plain(v) for k, v in row.items()}) for row in table.to_dict("records")
    ]
    columns = {str(name): [row[str(name)] for row in rows] for name in table.columns}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _facts(study: Study, platform: str, strategy: str, seed: int) -> dict[str, str]:
    """Where the numbers come from; nothing of the machine but versions."""
    text = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    versions = {
        "livelift": importlib.metadata.version("livelift"),
        "python": machine.python_version(),
        **{name: importlib.metadata.version(name) for name in _VERSIONED},
    }
    return {
        "Study": f"{study.file}, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}",
        "Platform": platform,
        "Strategy": strategy,
        "Simulation": f"{study.simulation.hours:g} hours after {study.simulation.before_hours:g} "
        f"before, {study.simulation.replications} replications",
        "Seed": str(seed),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
