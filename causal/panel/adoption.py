"""Who is treated and when, said in one of three ways, as the first treated period of each unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.panel.times import as_labels, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from causal.panel.times import Times

Way = Literal["cohort", "start", "status", "treated"]

_SAY = (
    "say who is treated in one way: cohort=, or treatment= with start=, or treatment= alone (the "
    "status of each row)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What the caller said: the columns and values of one of the ways.

    way : "cohort" (first treated time a unit), "start" (treated units from `start` on), "status"
        (0/1 of each row) or "treated" (labels of units, from `start` on).
    """

    way: Way
    unit: str
    cohort: str | None = None
    treatment: str | None = None
    start: Any = None
    never: Any = None
    treated: Any = None

    @property
    def column(self) -> str:
        """The column that says who is treated, for messages."""
        return adoption_column({"cohort": self.cohort, "treatment": self.treatment})


def adoption_column(columns: Mapping[str, Any]) -> str:
    """Of columns by role, the one that says who is treated, for messages."""
    found = [f"{role} {columns[role]!r}" for role in ("cohort", "treatment") if columns.get(role)]
    return found[0] if found else "treated"


def declared(
    *,
    unit: str,
    cohort: str | None = None,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    never: Any = None,  # noqa: ANN401 — a time of any kind
    treated: Any = None,  # noqa: ANN401 — one unit or several
) -> Adoption:
    """The one way in which the caller said who is treated.

    Raises
    ------
    ValueError
        If none or several were used, or `start` or `never` belongs to none of them.
    """
    given = [
        name
        for name, value in (("cohort", cohort), ("treatment", treatment), ("treated", treated))
        if value is not None
    ]
    if len(given) != 1:
        raise ValueError(f"{_SAY}; got {' and '.join(given) if given else 'none of them'}")
    if never is not None and cohort is None:
        raise ValueError(f"never= goes with cohort=; got it with {given[0]}=; leave it out")
    if start is not None and cohort is not None:
        raise ValueError(f"{_SAY}; got cohort and start; leave start out")
    if treated is not None and start is None:
        raise ValueError("treated= needs start=, the first treated time; give it")
    way: Way = "cohort"
    if treated is not None:
        way = "treated"
    elif treatment is not None:
        way = "status" if start is None else "start"
    return Adoption(
        way=way,
        unit=unit,
        cohort=cohort,
        treatment=treatment,
        start=start,
        never=never,
        treated=treated,
    )


def first_by_cohort(
    said: Adoption, times: Times, kind: str, levels: NDArray[Any], codes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """First treated position of each unit from its cohort: code into `levels`, -1 for never.

    A cohort between two observed times is treated from the later one on; one after the last
    observed time, or infinite, is never treated here: len(times).
    """
    name = f"cohort {said.cohort!r}"
    if len(levels) and kind != times.kind:
        held = as_labels(levels[:1])[0]
        raise TypeError(
            f"{name} must hold times like {times.labels[0]!r}; it holds {held!r}; "
            f"{_kinds(kind, times.kind)}"
        )
    if times.kind == "text":
        _refuse_unobserved(name, times, levels)
    missing = bool((codes < 0).any())
    position = np.searchsorted(times.values, levels).astype(np.int64)
    if said.never is not None:
        is_never = levels == times.comparable(said.never, "never")
        if missing and is_never.any():
            raise ValueError(
                f"{name} must say never treated in one way; it holds both {plain(said.never)!r} "
                "and missing values; replace one of them"
            )
        position[is_never] = len(times)
    elif missing and kind == "number" and (levels == 0).any() and times.values[0] > 0:
        raise ValueError(
            f"{name} must say never treated in one way; it holds both 0 and missing values; "
            "replace the 0 if it means never, or drop those units if they were always treated"
        )
    return np.append(position, len(times))[codes]


def later_cohorts(
    said: Adoption, times: Times, levels: NDArray[Any], codes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether a unit will be treated, but after the last observed time."""
    later = np.searchsorted(times.values, levels) == len(times)
    if said.never is not None:
        later &= levels != times.comparable(said.never, "never")
    return np.append(later, False)[codes]


def _refuse_unobserved(name: str, times: Times, levels: NDArray[Any]) -> None:
    """Text sorts by its letters: a cohort between two times, or after them, may be a slip."""
    absent = sorted(set(levels.tolist()) - set(times.values.tolist()))
    if absent:
        raise ValueError(
            f"{name} must hold observed times, or be missing for never; {len(absent)} labels are "
            f"not, e.g. {', '.join(map(repr, absent[:3]))}; correct them, or convert times to dates"
        )


def first_by_start(
    said: Adoption, times: Times, units: NDArray[Any], status: NDArray[np.float64]
) -> NDArray[np.int64]:
    """First treated position from a constant 0/1 status (N,) and the start."""
    name = f"treatment {said.treatment!r}"
    _refuse_other(name, status, units)
    return np.where(status == 1, started(said, times), len(times)).astype(np.int64)


def first_by_label(said: Adoption, times: Times, units: NDArray[Any]) -> NDArray[np.int64]:
    """First treated position from the labels of the treated units."""
    several = isinstance(said.treated, list | tuple | set | np.ndarray)
    wanted = list(said.treated) if several else [said.treated]
    if not wanted:
        raise ValueError("treated must name at least one unit; got none; name one")
    at = {label: j for j, label in enumerate(units.tolist())}
    absent = [label for label in wanted if label not in at]
    if absent:
        raise ValueError(
            f"treated must name units of {said.unit!r}; {[plain(v) for v in absent[:3]]} are not "
            f"in the table; it has {units[:5].tolist()}; check the label and its type"
        )
    first = np.full(len(units), len(times), dtype=np.int64)
    first[[at[label] for label in wanted]] = started(said, times)
    return first


def first_by_status(
    said: Adoption, times: Times, units: NDArray[Any], status: NDArray[np.float64]
) -> NDArray[np.int64]:
    """First treated position from the status of each row, (N, T), NaN where a unit has no row.

    Raises
    ------
    ValueError
        If a status is neither 0 nor 1, every unit keeps one status, or one switches off.
    """
    name = f"treatment {said.treatment!r}"
    seen = ~np.isnan(status)
    _refuse_other(name, status[seen], np.broadcast_to(units[:, None], status.shape)[seen])
    on, off = status == 1, status == 0
    if not (on.any(axis=1) & off.any(axis=1)).any():
        raise ValueError(
            f"{name} is constant within every unit, which does not say when it began; give start="
        )
    first = np.where(on.any(axis=1), on.argmax(axis=1), len(times)).astype(np.int64)
    first[on.any(axis=1) & (first == seen.argmax(axis=1))] = 0  # on when first seen: always
    last_off = np.where(off.any(axis=1), len(times) - 1 - off[:, ::-1].argmax(axis=1), -1)
    refuse_switch_off(name, units[last_off > first])
    return first


class SwitchOffError(ValueError):
    """Treatment of some unit ends."""


def refuse_switch_off(name: str, units: NDArray[Any]) -> None:
    """Raise if there are units whose treatment ends."""
    if len(units):
        raise SwitchOffError(
            f"{name} must stay on once it is on; {len(units)} units switch it off, e.g. "
            f"{shown(units)}; use diff_in_diff or fixed_effects, which allow it, or drop them"
        )


def started(said: Adoption, times: Times) -> int:
    """Position of the start; it must be observed, and leave a period before it."""
    at = times.index_of(said.start, "start")
    if at == 0:
        raise ValueError(
            f"start must leave at least one period before it; got {plain(said.start)!r}, the "
            "first observed time; add earlier rows or name a later start"
        )
    return at


def _kinds(kind: str, wanted: str) -> str:
    """What to do about times of another kind."""
    if {kind, wanted} == {"calendar", "instant"}:
        return "one has a time zone and the other has none: give both the same"
    return "convert it"


def check_adoption(
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    times: Times,
    *,
    unit: str | None,
    column: str,
) -> None:
    """Raise unless some units are treated after a period of their own and others are not yet.

    Parameters
    ----------
    first, last : int64 arrays (n,)
        First treated position, and that of the last row.
    times : Times
    unit : str, optional
        Column of the units; None where rows have none.
    column : str
        What says who is treated, as `adoption_column` has it.

    Raises
    ------
    ValueError
        If nobody is treated, nobody has a period before treatment, nobody is a control, or no
        treated unit has a row from its start on.
    """
    n_periods = len(times)
    one, of = ("row", "") if unit is None else ("unit", f" of {unit!r}")
    if n_periods < 2:
        raise ValueError(
            f"before and after need at least two periods; the table has only {times.labels[0]!r}; "
            "add rows of earlier or later periods"
        )
    if (first == n_periods).all():
        raise ValueError(
            f"at least one {one} must be treated at an observed time; none of the {len(first)} "
            f"{one}s{of} is; check {column}"
        )
    if (first[first < n_periods] == 0).all():
        raise ValueError(
            "treated units need at least one period before treatment; all of them are treated "
            f"from the first observed time on, {times.labels[0]!r}; add earlier rows"
        )
    if (first == first[0]).all():
        raise ValueError(
            f"at least one {one} must be a control; all {len(first)} {one}s{of} are treated from "
            f"{as_labels(times.values[first[:1]])[0]!r} on; add {one}s that are treated later or "
            "never"
        )
    refuse_unreached(column, (first > 0) & (last >= first))


def refuse_unreached(column: str, treated_rows: NDArray[np.bool_]) -> None:
    """Raise if there are no treated rows."""
    if not treated_rows.any():
        raise ValueError(
            f"{column} must start while treated units have rows; no treated unit that is left has "
            "a row from its start on; add their later rows, or correct the start"
        )


def last_rows(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Position of the last row of each unit, from who has rows when (N, T)."""
    return np.asarray(present.shape[1] - 1 - present[:, ::-1].argmax(axis=1))


def shown(values: Any) -> str:  # noqa: ANN401 — a sequence or an array
    """Up to three offenders for a message."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return ", ".join(str(v) for v in list(dict.fromkeys(listed))[:3])


def _refuse_other(name: str, status: NDArray[np.float64], units: NDArray[Any]) -> None:
    """Raise unless every status is 0 or 1."""
    bad = (status != 0) & (status != 1)
    if bad.any():
        raise ValueError(
            f"{name} must be 0 or 1; {int(bad.sum())} values are not, e.g. {shown(status[bad])} of "
            f"units {shown(units[bad])}; convert it first"
        )
