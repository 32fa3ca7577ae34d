"""Schedules on disk, as JSON or CSV with a checksum: never pickled, never half written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.atomic import write_file
from experiments.designs.rotation import Rotation, Saturation, Schedule, Switchback, design_fields

_FORMAT = "livelift schedule"
_VERSION = 1
_DESIGNS: dict[str, type[Rotation]] = {"Switchback": Switchback, "Saturation": Saturation}
_KEYS = {"format", "version", "design", "seed", "zone", "slices", "checksum"}


def write_schedule(schedule: Schedule, path: str | Path) -> None:
    """Write a schedule; the suffix says how.

    Raises
    ------
    ValueError
        If the suffix is neither ``.json`` nor ``.csv``.
    OSError
        If the file cannot be written; an older one is left as it was.
    """
    target = Path(path)
    content = _content(schedule)
    content["checksum"] = _checksum(content)
    text = _as_json(content) if _suffix(target) == ".json" else _as_csv(content)
    write_file(target, text.encode())


def read_schedule(path: str | Path) -> Schedule:
    """Read a schedule.

    Raises
    ------
    ValueError
        If the file is absent, no schedule, of another version, edited, or its slices overlap.
    """
    source = Path(path)
    suffix = _suffix(source)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
        content = json.loads(text) if suffix == ".json" else _from_csv(text)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read; {error.strerror}") from error
    except (ValueError, IndexError, csv.Error) as error:  # no JSON, no text, a torn line
        raise ValueError(f"{path}: not a schedule; {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path}: not a schedule; a file that Schedule.save wrote is needed")
    if set(content) != _KEYS:
        strange = sorted(set(content) ^ _KEYS)
        raise ValueError(
            f"{path}: a schedule has the keys {sorted(_KEYS)}; these differ: {strange}"
        )
    if content["version"] != _VERSION:
        raise ValueError(f"{path}: version {content['version']} is unknown; this reads {_VERSION}")
    if content.pop("checksum") != _checksum(content):
        raise ValueError(
            f"{path}: the checksum does not fit: the file was edited; draw a new schedule instead"
        )
    return _schedule(content, path)


def _suffix(path: Path) -> str:
    """``.json`` or ``.csv``."""
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"{path}: a schedule is a .json or .csv file; got suffix {path.suffix!r}")
    return path.suffix


def _content(schedule: Schedule) -> dict[str, Any]:
    """Everything of a schedule as plain values."""
    table = schedule.table
    zone = table["start"].dt.tz
    what = _what(schedule.design)
    times = {c: [_text(t) for t in table[c]] for c in ("start", "end", "read_from")}
    columns = (table["region"], times["start"], times["end"], table[what], table["stratum"])
    rows = [
        [region, start, end, value, stratum, read_from]
        for region, start, end, value, stratum, read_from in zip(
            *columns[:3], columns[3].tolist(), columns[4], times["read_from"], strict=True
        )
    ]
    kind = type(schedule.design).__name__
    design = {"kind": kind, **json.loads(json.dumps(design_fields(schedule.design)))}
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "design": design,
        "seed": schedule.seed,
        "zone": None if zone is None else str(zone),
        "slices": rows,
    }


def _text(time: pd.Timestamp) -> str:
    """An instant with its offset from universal time, to the microsecond."""
    return time.isoformat(timespec="microseconds")


def _what(design: Rotation) -> str:
    """What a slice has."""
    return "share" if isinstance(design, Saturation) else "arm"


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of the plain values."""
    plain = {k: v for k, v in content.items() if k != "checksum"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _as_json(content: dict[str, Any]) -> str:
    """One line a slice, so that people can read it."""
    head = json.dumps({k: v for k, v in content.items() if k != "slices"}, indent=1)
    rows = ",\n  ".join(json.dumps(row) for row in content["slices"])
    return head[: head.rindex("\n}")] + f',\n "slices": [\n  {rows}\n ]\n}}\n'


def _as_csv(content: dict[str, Any]) -> str:
    """A comment line with the design, then one line a slice."""
    out = io.StringIO()
    head = {k: v for k, v in content.items() if k != "slices"}
    out.write(f"# {json.dumps(head, sort_keys=True)}\n")
    writer = csv.writer(out, lineterminator="\n")
    what = "share" if content["design"]["kind"] == "Saturation" else "arm"
    writer.writerow(["region", "start", "end", what, "stratum", "read_from"])
    writer.writerows(content["slices"])
    return out.getvalue()


def _from_csv(text: str) -> Any:  # noqa: ANN401 — whatever the file holds
    """The plain values of a CSV file."""
    first, _, rest = text.partition("\n")
    if not first.startswith("# "):
        return None
    content = json.loads(first[2:])
    rows = list(csv.reader(io.StringIO(rest)))
    if isinstance(content, dict) and rows:
        number = float if rows[0][3] == "share" else int
        content["slices"] = [[*row[:3], number(row[3]), *row[4:]] for row in rows[1:]]
    return content


def _schedule(content: dict[str, Any], path: str | Path) -> Schedule:
    """The schedule out of its plain values."""
    given = dict(content["design"])
    kind = given.pop("kind", None)
    if kind not in _DESIGNS:
        raise ValueError(f"{path}: design {kind!r} is unknown; known are {list(_DESIGNS)}")
    try:
        design = _DESIGNS[kind](**given)
    except TypeError as error:
        raise ValueError(f"{path}: the design does not fit; {error}") from error
    what = _what(design)
    names = ["region", "start", "end", what, "stratum", "read_from"]
    table = pd.DataFrame(content["slices"], columns=names)
    for name in ("start", "end", "read_from"):
        instants = pd.to_datetime(table[name], format="ISO8601", utc=content["zone"] is not None)
        if content["zone"] is not None:
            instants = instants.dt.tz_convert(content["zone"])
        table[name] = instants.dt.as_unit("us")
    table["slice"] = range(len(table))
    if what == "arm":
        table["arm"] = table["arm"].astype("int8")
    for region, mine in table.groupby("region", sort=False):
        backwards = mine["end"] <= mine["start"]
        overlap = mine["start"].iloc[1:].to_numpy() < mine["end"].iloc[:-1].to_numpy()
        if backwards.any() or overlap.any():
            raise ValueError(
                f"{path}: slices of region {region!r} overlap or end before they start"
            )
    order = ["slice", "region", "start", "end", what, "stratum", "read_from"]
    return Schedule(table[order], design, int(content["seed"]))
