"""From rows of viewer x author pairs to the sums that a dual-sided read-out needs.

The viewers x authors matrix is never formed: sums by viewer and author arm, by author and viewer
arm, and squares by cell are enough. Under `zero_fill` pairs without a row count as zeros.

Arrays over viewer arm x author arm have the control arm first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from causal.frame import Table, check_columns, codes, column_names, listed
from causal.rows import ArrayRows, Groups, Rows, column, open_rows
from causal.values import is_number
from experiments.rotations.row_checks import (
    refuse_beyond_squares,
    refuse_changing,
    refuse_missing,
    refuse_other_arms,
    refuse_outside_unit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FEWEST = 4  # units an arm and side
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """Viewers, or authors: arm 0 or 1 of each, the units with rows first, in order of their ids."""

    arm: NDArray[np.int64]
    n_seen: int

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Units in each arm, shape (2,)."""
        return np.bincount(self.arm, minlength=2).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairLog:
    """Checked rows, one a pair, and who was dealt which arm.

    `rows` has the columns viewer, author, v and a (arms), y (outcome minus `centre`, over `scale`),
    x0, x1, ... (covariates) and b (battle share). `complete` says that every pair of the population
    counts, and `absent` is the y of one without a row.
    """

    rows: Rows
    n_rows: int
    viewers: Side
    authors: Side
    centre: float
    scale: float
    complete: bool
    absent: float
    entanglement: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairSums:
    """Means of the cells, and sums of the pairs' deviations from them, in the units of `PairLog.y`.

    Parameters
    ----------
    n_pairs, mean, square : arrays (2, 2)
        Pairs of each cell, their mean and their sum of squared deviations.
    by_viewer : array (n_viewers, 2)
        A viewer's deviations summed over the authors of each arm.
    by_author : array (n_authors, 2)
        An author's deviations summed over the viewers of each arm.
    complete : bool
        Whether every pair counts.
    n_covariates : tuple of int
        Slopes that were fitted in each cell, on viewers and on authors.
    """

    viewer_arm: NDArray[np.int64]
    author_arm: NDArray[np.int64]
    n_pairs: NDArray[np.float64]
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    by_viewer: NDArray[np.float64]
    by_author: NDArray[np.float64]
    complete: bool
    n_covariates: tuple[int, int] = (0, 0)


def open_pairs(
    frame: Table,
    *,
    outcome: str,
    viewer: str,
    author: str,
    viewer_arm: str,
    author_arm: str,
    covariates: Sequence[str],
    battle: str | None,
    zero_fill: bool,
    n_viewers: object,
    n_authors: object,
) -> PairLog:
    """Open and check a table of pairs; raises ValueError for what cannot be read as one."""
    covariates = listed(covariates, "covariates")
    named = {"y": outcome, "v": viewer_arm, "a": author_arm}
    named |= {f"x{k}": name for k, name in enumerate(covariates)}
    named |= {} if battle is None else {"b": battle}
    labels = {"viewer": viewer, "author": author}
    roles = {"outcome": outcome, "viewer": viewer, "author": author, "viewer_arm": viewer_arm}
    roles |= {"author_arm": author_arm} | ({} if battle is None else {"battle": battle})
    check_columns(column_names(frame), {**roles, "covariates": covariates})
    rows = open_rows(frame, numeric=named, labels=labels)
    refuse_missing(rows, named)
    n_rows = int(rows.sums([], {}).n[0])
    _refuse_repeated(rows, n_rows, viewer, author)
    if not zero_fill and not (n_viewers is None and n_authors is None):
        raise ValueError("n_viewers and n_authors need zero_fill=True; leave them out without it")
    sides = {}
    for side, alias, total in (("viewer", "v", n_viewers), ("author", "a", n_authors)):
        names = (side, labels[side], alias, named[alias])
        sides[side] = _side(rows, names, total)
    if battle is not None:
        refuse_outside_unit(rows, "b", battle)
    pilot = rows.pilot(["y"], exact=True)
    centre, scale = pilot.centre["y"], pilot.scale["y"]
    refuse_beyond_squares(outcome, scale)
    everyone = len(sides["viewer"].arm) * len(sides["author"].arm)
    return PairLog(
        rows=rows.derive({"y": lambda c: (c["y"] - centre) / scale}),
        n_rows=n_rows,
        viewers=sides["viewer"],
        authors=sides["author"],
        centre=centre,
        scale=scale,
        complete=zero_fill or n_rows == everyone,
        absent=-centre / scale,
        entanglement=None if battle is None else _entanglement(rows, scale, outcome, battle),
    )


def pair_sums(log: PairLog) -> PairSums:
    """Sum the rows, and the zeros of the pairs that have none."""
    sizes = np.outer(log.viewers.sizes, log.authors.sizes)
    cells = log.rows.sums(["v", "a"], {"y": column("y")})
    seen = _by_arms(cells, cells.n)
    if not seen.all():
        v, a = np.argwhere(seen == 0)[0]
        raise ValueError(
            f"every cell needs rows; viewer arm {v} with author arm {a} has none; pass rows with "
            "outcome 0 if nothing happened there"
        )
    n_pairs = sizes if log.complete else seen
    mean = (_by_arms(cells, cells.values["y"]) + (n_pairs - seen) * log.absent) / n_pairs
    order = (cells.keys["v"].astype(np.int64), cells.keys["a"].astype(np.int64))
    around = log.rows.attach(cells, {"mean of cell": mean[order]})
    around = around.derive({"d": lambda c: c["y"] - c["mean of cell"]})
    squares = around.sums(["v", "a"], {"dd": lambda c: c["d"] ** 2})
    zero = log.absent - mean
    square = _by_arms(squares, squares.values["dd"]) + (n_pairs - seen) * zero**2
    by_viewer, of_viewer = _by_unit(around, "viewer", "a", log.viewers)
    by_author, of_author = _by_unit(around, "author", "v", log.authors)
    if log.complete:
        by_viewer += (log.authors.sizes - of_viewer) * zero[log.viewers.arm]
        by_author += (log.viewers.sizes - of_author) * zero.T[log.authors.arm]
    return PairSums(
        viewer_arm=log.viewers.arm,
        author_arm=log.authors.arm,
        n_pairs=n_pairs,
        mean=mean,
        square=square,
        by_viewer=by_viewer,
        by_author=by_author,
        complete=log.complete,
    )


def pair_matrix(log: PairLog) -> sparse.csr_array | None:
    """Outcomes in the units of y, about 0 of a pair without a row; None where rows are many.

    About the mean where no pair lacks its row.
    """
    some = log.rows.brought(["viewer", "author", "y"])
    if not isinstance(some, ArrayRows):
        return None
    shape = (len(log.viewers.arm), len(log.authors.arm))
    y = some.columns["y"]
    full = log.n_rows == shape[0] * shape[1]
    values = y - (y.mean() if full or not log.complete else log.absent)
    where = (codes(some.columns["viewer"])[0], codes(some.columns["author"])[0])
    return sparse.csr_array((values, where), shape=shape)


def _side(rows: Rows, names: tuple[str, str, str, str], total: object) -> Side:
    """Arms of the viewers or authors; those without rows come last."""
    side, unit, alias, arm = names
    refuse_other_arms(rows, alias, arm)
    groups = rows.sums([side], {"arm": column(alias)})
    treated = groups.values["arm"] / groups.n
    refuse_changing(
        (treated != 0) & (treated != 1),
        groups.keys[side],
        name=f"arm {arm!r}",
        unit=f"{side} {unit!r}",
    )
    arms = treated.astype(np.int64)
    unseen = _unseen(np.bincount(arms, minlength=2), total, side)
    found = Side(arm=np.concatenate([arms, np.repeat([0, 1], unseen)]), n_seen=len(arms))
    if found.sizes.min() < _FEWEST:
        k = int(np.argmin(found.sizes))
        raise ValueError(
            f"arm {arm!r} needs at least {_FEWEST} {side}s in each arm; arm {k} has "
            f"{found.sizes[k]:.0f}"
        )
    return found


def _unseen(seen: NDArray[np.int64], total: object, side: str) -> NDArray[np.int64]:
    """Units of each arm that have no rows."""
    if total is None or (is_number(total) and total == seen.sum()):
        return np.zeros(2, dtype=np.int64)
    known = isinstance(total, Mapping) and len(total) == 2 and set(total) == {0, 1}
    counts: list[Any] = [total[0], total[1]] if known else []  # type: ignore[index]
    if not (counts and all(is_number(n) and n % 1 == 0 for n in counts)):
        raise ValueError(
            f"n_{side}s must give the {side}s dealt to each arm, such as {{0: 500, 1: 500}}, "
            f"because a total does not tell the arms of those without rows; got {total!r}; "
            f"{seen.sum():,} have rows"
        )
    if counts[0] < seen[0] or counts[1] < seen[1]:
        raise ValueError(
            f"n_{side}s must be at least the {side}s with rows, {seen.tolist()} in arms 0 and 1; "
            f"got {counts}; check the arms"
        )
    return np.array(counts, dtype=np.int64) - seen


def _refuse_repeated(rows: Rows, n_rows: int, viewer: str, author: str) -> None:
    """Raise ValueError if a pair has two rows."""
    pairs = rows.grouped(["viewer", "author"], {})
    if int(pairs.sums([], {}).n[0]) == n_rows:
        return
    doubled = pairs.where(lambda c: c["n"] > 1)
    some = doubled.head().fetch(["viewer", "author"])
    shown = ", ".join(
        f"({v}, {a})" for v, a in zip(some["viewer"][:_SHOWN], some["author"][:_SHOWN], strict=True)
    )
    raise ValueError(
        f"a pair of {viewer!r} and {author!r} must have one row; "
        f"{int(doubled.sums([], {}).n[0]):,} pairs have more, e.g. {shown}; sum the rows of a pair "
        "first"
    )


def _entanglement(rows: Rows, scale: float, outcome: str, battle: str) -> float:
    """Share of the outcome that fell into battles of mixed arms."""
    found = rows.sums(
        [], {"all": lambda c: c["y"] / scale, "mixed": lambda c: c["b"] * c["y"] / scale}
    )
    total, mixed = float(found.values["all"][0]), float(found.values["mixed"][0])
    if not 0 <= mixed <= total or total == 0:
        raise ValueError(
            f"battle {battle!r} needs an outcome that is not negative, such as watch time; "
            f"{outcome!r} sums to {total * scale:.6g}, {mixed * scale:.6g} of it in battles; leave "
            "battle out"
        )
    return mixed / total


def _by_arms(groups: Groups, values: NDArray[Any]) -> NDArray[np.float64]:
    """Values of groups by both arms as (2, 2); 0 where a cell has no rows."""
    found = np.zeros((2, 2))
    found[groups.keys["v"].astype(np.int64), groups.keys["a"].astype(np.int64)] = values
    return found


def _by_unit(
    rows: Rows, unit: str, arm: str, side: Side
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of deviations, and rows, by unit and arm of the other side: two arrays (n, 2)."""
    groups = rows.sums([unit, arm], {"d": column("d")})
    where = (codes(groups.keys[unit])[0], groups.keys[arm].astype(np.int64))
    total, count = np.zeros((2, len(side.arm), 2))
    total[where], count[where] = groups.values["d"], groups.n
    return total, count
