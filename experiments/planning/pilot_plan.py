"""From a pilot's file to the plan of the experiment: page, schedule and table, as one set."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import platform as machine
import re
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causal.effect import EstimationWarning
from experiments.atomic import write_set
from experiments.designs.rotation import Schedule
from experiments.errors import DataError
from experiments.planning.recommendation import Recommendation, recommend
from experiments.report.plan_sections import plan_answers, recommendation_sections
from experiments.report.report import ReportFiles
from experiments.report.section_page import Page, page_files
from experiments.study.simulated_study import table_file
from experiments.study.study_data import found_files, read_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experiments.planning.recommendation import Constraints

_COLUMNS = ("outcome", "time", "treatment", "unit")
_OPTIONS = {
    name: f"--{name.replace('_', '-')}"
    for name in ("min_slice_minutes", "max_slice_minutes", "max_days", "max_treated_share")
} | {
    "n_regions": "--n-regions",
    r"unit=": "--unit",
    r"schedule=": "--pilot-schedule",
    r"history=": "--history",
}
_VERSIONED = ("numpy", "pandas", "pyarrow", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked of a pilot, as in `recommend`; columns by role, other files by path."""

    outcome: str
    time: str
    effect: float
    days: float
    constraints: Constraints
    treatment: str | None = None
    unit: str | None = None
    schedule: Path | None = None
    history: str | None = None
    criterion: str = "minimax_regret"
    seed: int = 0


def plan_from_pilot(pilot: str, wishes: Wishes, folder: Path) -> ReportFiles:
    """Write ``plan.html plan.json schedule.csv table.parquet`` as a set.

    Parameters
    ----------
    pilot : str
        Parquet: a file, a folder or a pattern.
    wishes : Wishes
    folder : Path
        Made if absent; an older set is replaced only when the new one is complete.

    Returns
    -------
    ReportFiles
        Without a schedule among the tables where the best design is no rotation.

    Raises
    ------
    DataError
        If a file is absent or torn, a column is absent, or the pilot tells too little.
    OSError
        If the folder cannot be written.
    """
    files = found_files(Path(), pilot)
    found, messages = _recommended(pilot, files, wishes)
    page = Page(
        title=f"Plan for {wishes.outcome}: {found.best['design']}",
        sections=recommendation_sections(found),
        answer=plan_answers(found),
        warnings=messages,
        facts=_facts(files, wishes),
        more={"plan": found.plan},
    )
    tables = {"table.parquet": table_file(found.table)}
    if found.schedule is not None:
        tables["schedule.csv"] = _schedule_file(found.schedule)
    write_set(folder, {**tables, **page_files(page, name="plan")})
    return ReportFiles(
        html=folder / "plan.html",
        json=folder / "plan.json",
        tables=tuple(folder / name for name in tables),
    )


def _recommended(
    pilot: str, files: Mapping[str, Path], wishes: Wishes
) -> tuple[Recommendation, tuple[str, ...]]:
    """The recommendation, and what it warned of."""
    _check_columns(pilot, files, wishes)
    options: dict[str, Any] = {
        name: getattr(wishes, name)
        for name in (*_COLUMNS, "effect", "days", "constraints", "criterion", "seed")
    }
    if wishes.schedule is not None:
        options["schedule"] = _planned(wishes.schedule)
    if wishes.history is not None:
        known = found_files(Path(), wishes.history)
        _ = {name: read_schema(name, path) for name, path in known.items()}
        options["history"] = [str(path) for path in known.values()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EstimationWarning)
        try:
            found = recommend([str(path) for path in files.values()], **options)
        except (ValueError, TypeError) as error:
            raise DataError(f"{pilot}: {in_options(str(error))}") from error
    said = [str(w.message) for w in caught if issubclass(w.category, EstimationWarning)]
    return found, tuple(dict.fromkeys(said))


def in_options(message: str) -> str:
    """A message of `recommend` with the command's options in place of its arguments."""
    for argument, option in _OPTIONS.items():
        message = re.sub(rf"(?<!['\w]){argument}(?!['\w])", option, message)
    return message


def _check_columns(pilot: str, files: Mapping[str, Path], wishes: Wishes) -> None:
    """Columns that options name are in every file."""
    for name, path in files.items():
        columns = read_schema(name, path).names
        for role in _COLUMNS:
            column = getattr(wishes, role)
            if column is None or column in columns:
                continue
            near = difflib.get_close_matches(column, columns, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(columns[:10])}"
            raise DataError(f"{pilot}: --{role}: column {column!r} is not in {name}{hint}")


def _planned(path: Path) -> Schedule:
    """The pilot's own schedule."""
    try:
        return Schedule.load(path)
    except ValueError as error:
        raise DataError(str(error)) from error


def _schedule_file(schedule: Schedule) -> bytes:
    """What `Schedule.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedule.csv"
        schedule.save(path)
        return path.read_bytes()


def _facts(files: Mapping[str, Path], wishes: Wishes) -> dict[str, str]:
    """Pilot, wishes and versions."""
    sums = [
        f"{name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for name, path in files.items()
    ]
    asked = {
        name: getattr(wishes, name)
        for name in ("outcome", "time", "treatment", "unit", "effect", "days", "criterion")
    }
    versions = {
        "livelift": importlib.metadata.version("livelift"),
        "python": machine.python_version(),
        **{name: importlib.metadata.version(name) for name in _VERSIONED},
    }
    return {
        "Pilot": "; ".join(sums),
        "Asked": ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None),
        "Constraints": ", ".join(
            f"{name.replace('_', ' ')} {_shown(value)}"
            for name, value in asdict(wishes.constraints).items()
        ),
        "Seed": str(wishes.seed),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _shown(value: float) -> str:
    """A constraint: yes, no, or a number."""
    return ("no", "yes")[value] if isinstance(value, bool) else f"{value:g}"
