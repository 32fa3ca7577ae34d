"""A study as a YAML file.

Everything that is wrong with the file itself is found here, before any data is read, and named
with its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from experiments.errors import StudyError
from experiments.study.panel_schema import PANELS, PredictorSection
from experiments.study.study_schema import (
    DataSource,
    Experiment,
    MeanMetric,
    OffPolicy,
    QuantileMetric,
    RatioMetric,
    ReportOptions,
    Study,
)
from experiments.study.study_simulation import (
    TRIALS,
    PlatformSection,
    SimulationSection,
    StrategySection,
    nearest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

_WORDS = {
    "input should be": "must be",
    "string should": "must",
    "a valid string": "text",
    "a valid list": "a list",
    "a valid dictionary": "a mapping of keys to values",
}
_PARTS: dict[str, type[BaseModel]] = {
    "data": DataSource,
    "experiment": Experiment,
    "off_policy": OffPolicy,
    "report": ReportOptions,
    "strategy": StrategySection,
    "simulation": SimulationSection,
}
_METRICS: dict[str, type[BaseModel]] = {
    "mean": MeanMetric,
    "ratio": RatioMetric,
    "quantile": QuantileMetric,
}
_LARGEST_FILE = 1 << 20
_DEEPEST = 50


def load_study(path: str | PathLike[str]) -> Study:
    """Read a study file.

    Parameters
    ----------
    path : str or path
        YAML, in UTF-8. Paths inside it are relative to its folder.

    Returns
    -------
    Study

    Raises
    ------
    StudyError
        If the file is absent, is not YAML, repeats a key, uses anchors or aliases, has an unknown
        key, a value of the wrong type, or parts that contradict each other. The message holds the
        line.

    Examples
    --------
    >>> load_study("no-such-study.yaml")
    Traceback (most recent call last):
    ...
    experiments.errors.StudyError: no-such-study.yaml: no such file
    """
    file = Path(path)
    root = _yaml_node(str(path), _text(file, str(path)))
    if not isinstance(root, yaml.MappingNode):
        raise StudyError(f"{path}: a study must be a mapping of keys to values; see the README")
    _refuse_doubtful_keys(root, str(path))
    try:
        study = Study.model_validate(yaml.SafeLoader("").construct_document(root))
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: {_yaml_complaint(error)}") from error
    except ValidationError as error:
        raise StudyError(f"{path}: {_complaint(error, root)}") from error
    return study.located(str(path))


def _text(file: Path, name: str) -> str:
    """The file's text."""
    try:
        with file.open("rb") as handle:
            content = handle.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise StudyError(f"{name}: no such file") from None
    except OSError as error:
        raise StudyError(f"{name}: cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise StudyError(f"{name}: a study must be smaller than 1 MiB; is this the data?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{name}: a study must be text in UTF-8; byte {error.start} is not"
        ) from error


class _NodeLoader(yaml.SafeLoader):
    """Composes nodes with their lines; refuses aliases, which can make a small file explode."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 — PyYAML's
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are refused in a study; write the value out",
                problem_mark=event.start_mark,
            )
        if self._depth >= _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {_DEEPEST} deep", problem_mark=event.start_mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _yaml_node(name: str, text: str) -> yaml.Node | None:
    """The root node of the only document."""
    try:
        return _NodeLoader(text).get_single_node()
    except yaml.YAMLError as error:
        raise StudyError(f"{name}: {_yaml_complaint(error)}") from error


def _yaml_complaint(error: yaml.YAMLError) -> str:
    """PyYAML's complaint in one line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return where + " ".join(str(problem).split())


def _refuse_doubtful_keys(root: yaml.Node, name: str) -> None:
    """Refuse keys that YAML would silently overwrite or merge."""
    for node in _nodes(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise StudyError(f"{name}: line {line}: a key must be a plain word or number")
            if (key.tag, key.value) in first:
                raise StudyError(
                    f"{name}: line {line}: key {key.value!r} is doubled; "
                    f"it stands in line {first[key.tag, key.value]} already"
                )
            first[key.tag, key.value] = line


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    """The node and all nodes below it."""
    yield node
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _nodes(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _nodes(value)


def _complaint(error: ValidationError, root: yaml.Node) -> str:
    """The first complaint of pydantic, with its line, in the house's words."""
    errors = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    line, place = _locate(root, first["loc"])
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        key, inside = str(first["loc"][-1]), place[:-1]
        allowed = _allowed_keys(inside, str(first["loc"][-2]) if inside else "")
        text = f"unknown key {key!r}; allowed: {', '.join(allowed)}"
        text += nearest(key, allowed) if inside else ""
        place = inside
    else:
        text = _words(first)
    where = ".".join(str(step) for step in place)
    return f"line {line}: " + (f"{where}: " if where else "") + text + more


def _words(error: Any) -> str:  # noqa: ANN401 — pydantic's ErrorDetails
    """What was required, and what came."""
    kind, got = error["type"], error["input"]
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "missing":
        return f"key {error['loc'][-1]!r} is required"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _tag_words(error)
    if kind == "value_error":
        return message
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message if isinstance(got, dict | list) else f"{message}; got {got!r}"


def _tag_words(error: Any) -> str:  # noqa: ANN401 — pydantic's ErrorDetails
    """What a metric's or panel's `kind`, or a trial's `design`, must be."""
    key = error["ctx"]["discriminator"].strip("'")
    kinds = PANELS if error["loc"][0] == "panel" else _METRICS
    *tags, last = kinds if key == "kind" else TRIALS
    allowed = f"{', '.join(tags)} or {last}"
    if error["type"] == "union_tag_not_found":
        return f"key {key!r} is required: {allowed}"
    tag = error["ctx"]["tag"]
    return f"{key} must be {allowed}; got {tag!r}{nearest(str(tag), [*tags, last])}"


def _locate(root: yaml.Node, loc: Sequence[str | int]) -> tuple[int, list[str | int]]:
    """Line and place of a location; steps that are no keys (pydantic's union tags) are left out."""
    node, line = root, root.start_mark.line + 1
    place: list[str | int] = []
    for step in loc:
        below = _step(node, step)
        if below is not None:
            mark, node = below
            line = mark.start_mark.line + 1
            place.append(step)
    return line, place


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that stands for one step (a key, or an item), and the node below it."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key, value
    return None


def _allowed_keys(place: Sequence[str | int], tag: str) -> list[str]:
    """Keys that a mapping at this place may have, in the order of the documentation."""
    if not place:
        return list(Study.model_fields)
    if place[0] == "platform":
        return PlatformSection.keys()
    if "predictors" in place and place[0] == "panel":
        return list(PredictorSection.model_fields)
    tagged: dict[str | int, Mapping[str, type[BaseModel]]] = {
        "metrics": _METRICS,
        "trials": TRIALS,
        "panel": PANELS,
    }
    model = tagged[place[0]][tag] if place[0] in tagged else _PARTS[str(place[0])]
    return sorted(model.model_fields, key=lambda name: name not in model.__annotations__)
