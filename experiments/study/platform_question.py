"""Which experiment should we have run? Usual designs on the built-in platform, and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.report.simulation_sections import (
    bias_section,
    estimates_section,
    three_answers,
    triangulation_section,
)
from experiments.simulation.comparison import compare
from experiments.simulation.trial_examples import example_sections
from experiments.simulation.trial_plan import BEFORE_HOURS
from experiments.simulation.triangulation import triangulate, usual_trials
from recsys import LivePlatform, Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from experiments.report.report_sections import ReportSection

REPLICATIONS = 16
TRIANGULATED = 8
_HOURS = 14 * 24.0
_SHOWN = ("both_sides", "calendar", "authors")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DesignsReadout:
    """Designs beside the truth, for a report.

    Parameters
    ----------
    answer : tuple of str
        Sentences.
    sections : tuple of ReportSection
    tables : mapping of str to DataFrame
        For Parquet, by name.
    """

    answer: tuple[str, ...]
    sections: tuple[ReportSection, ...]
    tables: Mapping[str, pd.DataFrame]


def designs_on_platform(
    *,
    replications: int = REPLICATIONS,
    triangulated: int = TRIANGULATED,
    n_jobs: int = 1,
    progress: bool = False,
) -> DesignsReadout:
    """Run the usual designs for two weeks on a platform of 300 viewers and 40 authors.

    Parameters
    ----------
    replications : int
        Of the comparison.
    triangulated : int
        Of the triangulation, which runs everything again with each mechanism off.
    n_jobs : int
        Workers; the numbers are the same for any.
    progress : bool
        Show bars on stderr.

    Returns
    -------
    DesignsReadout
    """
    platform = LivePlatform(n_viewers=300, n_authors=40, n_regions=12, seed=1)
    strategy = Strategy(lift=0.25)
    trials = usual_trials(_HOURS)
    shared: dict[str, Any] = {"strategy": strategy, "hours": _HOURS, "seed": 0}
    run: dict[str, Any] = {**shared, "n_jobs": n_jobs, "progress": progress}
    found = compare(platform, trials, replications=replications, **run)
    three = triangulate(platform, replications=triangulated, **run)
    examples = example_sections(
        platform, trials, before_hours=BEFORE_HOURS, tick_minutes=60, **shared
    )
    by_key = {section.key: section for section in examples}
    return DesignsReadout(
        answer=three_answers(found),
        sections=(
            estimates_section(found),
            bias_section(found),
            triangulation_section(three),
            *(by_key[key] for key in _SHOWN),
        ),
        tables={
            "comparison": found.table,
            "estimates": found.simulation.estimates,
            "triangulation": three.table,
            "mechanisms": three.mechanisms,
        },
    )
