"""What a read-out refuses in its rows before it sums them, by the column's own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.rows import Expression, Rows, column, present

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

_SHOWN = 5
_SMALLEST, _LARGEST = 1e-153, 1e153


def refuse_missing(rows: Rows, numeric: Mapping[str, str]) -> None:
    """Raise ValueError unless every number (alias to column name) is there."""
    for alias, name in numeric.items():
        if rows.n_missing(alias):
            what = {"rule": "be present (not missing)", "do": "drop or fill them"}
            rows.refuse(_absent(alias), alias, name=f"column {name!r}", **what)


def refuse_other_arms(rows: Rows, alias: str, name: str) -> None:
    """Raise ValueError unless a column of arms holds 0 and 1 alone; missing ones pass."""
    rows.refuse(
        lambda c: present(c[alias]) & (c[alias] != 0) & (c[alias] != 1),
        alias,
        name=f"arm {name!r}",
        rule="be 0 or 1",
        do="cast arms to 0 (control) and 1 (treated)",
    )


def refuse_outside_unit(rows: Rows, alias: str, name: str) -> None:
    """Raise ValueError unless a column lies in [0, 1]."""
    rows.refuse(
        lambda c: (c[alias] < 0) | (c[alias] > 1),
        alias,
        name=f"column {name!r}",
        rule="be a share in [0, 1]",
        do="correct them",
    )


def refuse_beyond_squares(name: str, size: float) -> None:
    """Raise ValueError if the square of a column's size, unless it is 0, leaves a double."""
    if size and not _SMALLEST < size < _LARGEST:
        raise ValueError(
            f"column {name!r} must have squares within a double, from about 1e-150 to 1e150; its "
            f"values are of the size of {size:.3g}: rescale it first"
        )


def refuse_changing(
    changes: NDArray[np.bool_], ids: NDArray[np.generic], *, name: str, unit: str
) -> None:
    """Raise ValueError naming the units within which a column changes, if there are any."""
    if changes.any():
        shown = ", ".join(str(label) for label in ids[changes][:_SHOWN].tolist())
        raise ValueError(
            f"{name} must be constant within {unit}; {int(changes.sum())} of {len(ids):,} change "
            f"it, e.g. {shown}; give each one value"
        )


def spread_within(
    rows: Rows, key: str, alias: str
) -> tuple[NDArray[np.generic], NDArray[np.float64], NDArray[np.float64]]:
    """Keys in sorted order, with the mean of a column and its sum of squares about the mean."""
    groups = rows.sums([key], {"x": column(alias)})
    mean = groups.values["x"] / groups.n
    around = rows.attach(groups, {"mean of key": mean})
    square = around.sums([key], {"square": lambda c: (c[alias] - c["mean of key"]) ** 2})
    return groups.keys[key], mean, square.values["square"]


def _absent(alias: str) -> Expression:
    """Formula of whether a number is missing."""
    return lambda c: ~present(c[alias])
