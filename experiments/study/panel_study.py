"""Run a panel study: from its description and its log to a page."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform as machine
from typing import TYPE_CHECKING

from experiments.errors import StudyError
from experiments.study.did_study import read_did
from experiments.study.panel_result import PanelResult
from experiments.study.panel_schema import DiffInDiffSection
from experiments.study.study_data import collected_warnings, input_hashes, open_log, readable
from experiments.study.synthetic_study import read_synthetic

if TYPE_CHECKING:
    from experiments.study.study_data import Source
    from experiments.study.study_schema import Study

_VERSIONED = ("numpy", "pandas", "pyarrow", "scipy", "duckdb")


def run_panel(study: Study) -> PanelResult:
    """Read out a panel study: a difference-in-differences, or a synthetic control.

    Parameters
    ----------
    study : Study
        With `data` and `panel`; from `load_study` or ``Study.model_validate``.

    Returns
    -------
    PanelResult
        ``.effect`` and ``.results`` for whoever goes on with the numbers, ``.write(folder)`` for
        the report.

    Raises
    ------
    StudyError
        If the study has no panel.
    DataError
        If only the data could tell: a file is absent or torn, a column is absent, values are
        refused. The message names the file, or the place in the study.

    Notes
    -----
    The first estimator gives the answer and must be able to; another one that cannot is left out
    of the table with its reason. Estimation warnings are collected in the result. Nothing is
    corrected for the choice of the estimator.

    Examples
    --------
    >>> from experiments import load_study
    >>> run_panel(load_study("examples/pendant_study.yaml")).effect  # doctest: +SKIP
    """
    part = study.panel
    if part is None:
        raise StudyError(
            f"{study.file}: this study has no 'panel'; use run_study for a log with arms, or "
            "run_simulation for a platform"
        )
    source = open_log(study)
    with readable(source), collected_warnings() as found:
        if isinstance(part, DiffInDiffSection):
            read = read_did(study, part, source)
        else:
            read = read_synthetic(study, part, source)
    sound = ("passed", "not tested")
    doubtful = [f"{c.name}: {c.finding}" for c in source.checks if c.status not in sound]
    messages = tuple(dict.fromkeys(" ".join(m.split()) for m in [*doubtful, *found]))
    n = len(messages)
    more = (f"{n} {'warning' if n == 1 else 'warnings'} should be read, under Provenance.",)
    return PanelResult(
        title=study.title,
        kind=part.kind,
        level=study.report.level,
        answer=(*read.answer, *(more if n else ())),
        sections=read.sections,
        results=read.results,
        effects=read.effects,
        failures=read.failures,
        warnings=messages,
        facts=_facts(study, source),
    )


def _facts(study: Study, source: Source) -> dict[str, str]:
    """Where the numbers come from; nothing of the machine but versions."""
    text = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    versions = {
        "livelift": importlib.metadata.version("livelift"),
        "python": machine.python_version(),
        **{name: importlib.metadata.version(name) for name in _VERSIONED},
    }
    files = [f"{r['file']}, SHA-256 {r['sha256']}" for r in input_hashes(source)]
    return {
        "Study": f"{study.file}, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}",
        "Data": f"{source.rows.count_rows():,} rows; " + "; ".join(files),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
