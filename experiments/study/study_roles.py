"""Which columns a study names, in which roles, and where its parts contradict each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.study.study_schema import Experiment, Metric, Study

Place: TypeAlias = tuple[str | int, ...]

_SINGLE = (
    "arm",
    "unit",
    "cluster",
    "also_cluster",
    "weight",
    "trigger",
    "day",
    "outcome",
    "per",
    "numerator",
    "denominator",
    "reward",
    "propensity",
    "target",
    "action",
)
_SEVERAL = ("segments", "covariates", "covariate_ratio", "by", "features")
_FILTERS = ("rows", "on_policy", "target_log")

_VERBS = "(?:must|needs?|match(?:es)?|goes|takes?|cannot)"
_TOLD_ANYWHERE = ("donors", "predictors", "start")

_LEAST_GUARDED = 0.5

_KEYS = frozenset({"unit", "cluster", "also_cluster", "per"})
_CELLS = frozenset({"day", "segments"})
_ALSO_CELLS = frozenset(
    {"cluster", "also_cluster", "per", "weight", "trigger", "covariates", "covariate_ratio"}
)


def column_places(study: Study) -> Iterator[tuple[Place, str]]:
    """Every column that a study names, with its place: ``(("metrics", "ctr", "per"), "viewer")``.

    Parameters
    ----------
    study : Study

    Yields
    ------
    tuple of Place and str
        Keys that lead to the column in the study file, and the column.
    """
    yield from _roles(("experiment",), study.experiment)
    if study.panel is not None:
        for place, column in study.panel.columns():
            yield ("panel", *place), column
    for name, metric in study.metrics.items():
        yield from _roles(("metrics", name), metric)
    for i, policy in enumerate(study.off_policy):
        yield from _roles(("off_policy", i), policy)
        for key in _FILTERS:
            for column in getattr(policy, key) or {}:
                yield ("off_policy", i, key, column), column


def blamed(study: Study, place: Place, message: str) -> Place:
    """The place of what a message of the library is about, among those under `place`.

    Parameters
    ----------
    study : Study
    place : Place
        The part whose answer was asked; it is the answer where the message names nothing of it.
    message : str
        In the words of the library.

    Returns
    -------
    Place
        Of the key or column that the message names first: a column in quotes, a key that the
        study gives before ``=`` or ``must``, or one of a few keys anywhere.
    """
    columns = list(column_places(study))
    inside = [(where, column) for where, column in columns if where[: len(place)] == place]
    found = [*_named_keys(study, place, message), *_quoted(inside, message)]
    found = found or _quoted(columns, message)
    return min(found, key=lambda one: one[0])[1] if found else place


def _named_keys(study: Study, place: Place, message: str) -> Iterator[tuple[int, Place]]:
    """Keys of a part that the message names, with their position in it."""
    part: Any = study
    for step in place:
        part = getattr(part, str(step)) if isinstance(part, BaseModel) else part[step]
    for key in part.model_fields_set:
        anywhere = rf"|\b{key.rstrip('s')}s?\b(?! '| of)" if key in _TOLD_ANYWHERE else ""
        at = re.search(rf"\b{key}'?(?==| (?:and \S+ )?{_VERBS}\b){anywhere}", message)
        if at is not None:
            yield at.start(), (*place, key)


def _quoted(columns: list[tuple[Place, str]], message: str) -> list[tuple[float, Place]]:
    """Columns that the message quotes, with their position: the role before the quotes decides."""
    found = []
    for where, column in columns:
        at = message.find(repr(column))
        if at < 0:
            continue
        role = _role(where[:-1] if where[-1] == "column" else where)
        said = re.search(r"(\w+) $", message[:at])
        same = said is not None and said[1] in (role, role.rstrip("s"))
        if same and role == "predictors":  # of the predictor, not of its column
            windows = [c for place, c in columns if _role(place[:-1]) == role and c == column]
            where = where[:-1] if len(windows) == 1 else where[:-2]
        found.append((at - same / 2, where))
    return found


def _roles(place: Place, part: object) -> Iterator[tuple[Place, str]]:
    """The columns of one part, in their roles."""
    for key in _SINGLE:
        column = getattr(part, key, None)
        if column is not None:
            yield (*place, key), column
    for key in _SEVERAL:
        for i, column in enumerate(getattr(part, key, None) or ()):
            yield (*place, key, i), column


def contradictions(study: Study) -> Iterator[tuple[Place, str]]:
    """What no data could satisfy: a column in two roles, options that exclude each other.

    Parameters
    ----------
    study : Study

    Yields
    ------
    tuple of Place and str
        Place of the later part, and what is wrong with it.
    """
    if study.experiment is not None:
        around = list(_roles(("experiment",), study.experiment))
        yield from _clashes([], around)
        for name, metric in study.metrics.items():
            yield from _clashes(around, list(_roles(("metrics", name), metric)))
            yield from _against_metric(study.experiment, metric, ("metrics", name))
    guarded = next((n for n, metric in study.metrics.items() if metric.role == "guardrail"), None)
    if guarded is not None and study.report.level <= _LEAST_GUARDED:
        yield (
            ("report", "level"),
            f"the level must be above {_LEAST_GUARDED} with guardrails, whose bounds are "
            f"one-sided; metric {guarded!r} is one; got {study.report.level}; 0.95 is usual",
        )
    for i, policy in enumerate(study.off_policy):
        yield from _clashes([], list(_roles(("off_policy", i), policy)))


def _clashes(
    before: list[tuple[Place, str]], roles: list[tuple[Place, str]]
) -> Iterator[tuple[Place, str]]:
    """Roles of a column that another role, of this part or before it, excludes."""
    for j, (place, column) in enumerate(roles):
        for other, same in [*before, *roles[:j]]:
            one, two = _role(other), _role(place)
            if column == same and not _may_share(one, two):
                do = "name it once" if one == two else "name a different column for one of them"
                yield place, f"column {column!r} is {'.'.join(map(str, other))} already; {do}"
                break


def _role(place: Place) -> str:
    """The role behind a place: ``covariates`` of ``metrics.watch.covariates.0``."""
    return str(next(key for key in reversed(place) if isinstance(key, str)))


def _may_share(one: str, other: str) -> bool:
    """Whether one column may have both roles.

    Keys may be one column, but a second look at the same clusters is none; days and segments may
    also explain the outcome, cluster or weigh it.
    """
    pair = {one, other}
    if pair <= _KEYS:
        return pair != {"cluster", "also_cluster"}
    return any(a in _CELLS and b in _ALSO_CELLS for a, b in ((one, other), (other, one)))


def _against_metric(e: Experiment, metric: Metric, place: Place) -> Iterator[tuple[Place, str]]:
    """Options of the experiment that this metric excludes."""
    name = place[-1]
    per = getattr(metric, "per", None)
    if e.weight is not None and (metric.kind != "mean" or per is not None):
        yield (
            ("experiment", "weight"),
            f"weights go with means over rows; metric {name!r} sums rows or ranks them: weight its "
            "column before, or leave 'weight' out",
        )
    if metric.kind == "quantile":
        if e.trigger is not None:
            yield (
                ("experiment", "trigger"),
                f"a trigger goes with means and ratios; metric {name!r} is a quantile: "
                "leave one of them out",
            )
        return
    own = e.cluster if metric.kind == "ratio" else per
    if e.covariance.startswith("CR") and e.cluster is None and own is None:
        yield (
            ("experiment", "covariance"),
            f"covariance {e.covariance} needs clusters, and metric {name!r} has none: give "
            "'cluster', or use HC0 to HC3 or auto",
        )
    if e.covariance.startswith("HC") and e.cluster not in (None, own):
        yield (
            ("experiment", "covariance"),
            f"covariance {e.covariance} ignores the clusters of metric {name!r}: use CR0 to CR2 or "
            "auto",
        )
