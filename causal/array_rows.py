"""Rows in memory: the verbs with numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.frame import codes, offenders
from causal.verbs import HEAD_ROWS, Expression, Groups, Pilot, power_of_two

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ArrayRows:
    """Rows as numpy arrays; NaN is a missing number."""

    columns: Mapping[str, NDArray[Any]]
    n_rows: int
    _groups: dict[tuple[str, ...], tuple[NDArray[np.int64], dict[str, NDArray[Any]], int]] = field(
        default_factory=dict, repr=False
    )

    def n_missing(self, column: str) -> int:
        """How many rows miss a number."""
        return int(np.isnan(self.columns[column]).sum())

    def refuse(self, bad: Expression, column: str, *, name: str, rule: str, do: str) -> None:
        """Raise ValueError with the first five rows for which `bad` holds, if there are any."""
        mask = np.asarray(bad(self.columns))
        if mask.any():
            raise ValueError(offenders(name, rule, mask, self.columns[column], do))

    def where(self, keep: Expression) -> ArrayRows:
        """Only the rows for which `keep` holds."""
        mask = np.broadcast_to(np.asarray(keep(self.columns)), (self.n_rows,))
        return ArrayRows({k: v[mask] for k, v in self.columns.items()}, int(mask.sum()))

    def derive(self, columns: Mapping[str, Expression]) -> ArrayRows:
        """Add columns; groups found before stay known."""
        added = {k: self._broadcast(f) for k, f in columns.items()}
        kept = {k: v for k, v in self._groups.items() if not set(k) & set(added)}
        return ArrayRows({**self.columns, **added}, self.n_rows, kept)

    def grouped(self, by: Sequence[str], sums: Mapping[str, Expression]) -> ArrayRows:
        """One row a group: its keys, the sums, and its number of rows as column ``n``."""
        groups = self.sums(by, sums)
        columns = {**groups.keys, **groups.values, "n": groups.n.astype(np.float64)}
        return ArrayRows(columns, len(groups))

    def sums(self, by: Sequence[str], sums: Mapping[str, Expression]) -> Groups:
        """Sums by group, in sorted order of the keys."""
        code, keys, g = self._coded(tuple(by))
        values: dict[str, NDArray[np.float64]] = {
            k: np.asarray(np.bincount(code, self._evaluate(f), g), dtype=np.float64)
            for k, f in sums.items()
        }
        return Groups(keys, np.bincount(code, minlength=g).astype(np.int64), values)

    def attach(self, groups: Groups, values: Mapping[str, NDArray[np.float64]]) -> ArrayRows:
        """Give every row its group's values; the groups must be those of these rows."""
        code, keys, g = self._coded(tuple(groups.keys))
        if g != len(groups) or any((keys[k] != groups.keys[k]).any() for k in keys):
            raise ValueError(
                f"groups do not belong to these rows; {g} groups here, {len(groups)} given"
            )
        added = {k: v[code] for k, v in values.items()}
        return ArrayRows({**self.columns, **added}, self.n_rows, self._groups)

    def accumulated(self, column: str) -> ArrayRows:
        """Every row again under each later value of a label."""
        code, levels = codes(self.columns[column])
        index = [np.flatnonzero(code <= j) for j in range(len(levels))]
        taken = np.concatenate(index)
        repeated = {k: v[taken] for k, v in self.columns.items()}
        repeated[column] = np.repeat(levels, [len(i) for i in index])
        return ArrayRows(repeated, len(taken))

    def numbered(self, name: str) -> ArrayRows:
        """Add a column that tells rows apart."""
        return ArrayRows({**self.columns, name: np.arange(self.n_rows)}, self.n_rows)

    def order_statistics(self, column: str, ranks: Sequence[int]) -> NDArray[np.float64]:
        """Values of the given ranks (1 is the least)."""
        index = np.asarray(ranks) - 1
        return np.asarray(np.partition(self.columns[column], np.unique(index))[index])

    def brought(self, columns: Sequence[str]) -> ArrayRows:
        """These columns."""
        return ArrayRows({name: self.columns[name] for name in columns}, self.n_rows)

    def head(self) -> ArrayRows:
        """The first rows, as views."""
        some = {k: v[:HEAD_ROWS] for k, v in self.columns.items()}
        return ArrayRows(some, min(self.n_rows, HEAD_ROWS))

    def pilot(self, columns: Sequence[str], *, exact: bool = False) -> Pilot:
        """Centre and scale near the mean and the spread; from all rows if `exact`."""
        centre, scale = {}, {}
        for name in columns:
            some = self.columns[name] if exact else self.columns[name][:HEAD_ROWS]
            some = some[~np.isnan(some)]
            low, high = float(some.min(initial=np.inf)), float(some.max(initial=-np.inf))
            middle = float(np.mean(some) if exact else np.median(some)) if len(some) else 0.0
            centre[name] = middle if math.isfinite(middle) else low / 2 + high / 2
            scale[name] = power_of_two(max(high - centre[name], centre[name] - low))
        return Pilot(centre, scale)

    def fetch(self, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The columns as arrays."""
        return {name: self.columns[name] for name in columns}

    def _broadcast(self, formula: Expression) -> NDArray[Any]:
        """A formula over all rows, in its own type: labels stay labels."""
        return np.broadcast_to(np.asarray(formula(self.columns)), (self.n_rows,))

    def _evaluate(self, formula: Expression) -> NDArray[np.float64]:
        """A formula over all rows as float64."""
        return np.broadcast_to(np.asarray(formula(self.columns), dtype=np.float64), (self.n_rows,))

    def _coded(self, by: tuple[str, ...]) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], int]:
        """Group code of every row, the groups' keys in sorted order, and their number."""
        if by not in self._groups:
            self._groups[by] = combined_codes([self.columns[name] for name in by], by, self.n_rows)
        return self._groups[by]


def combined_codes(
    columns: Sequence[NDArray[Any]], by: tuple[str, ...], n: int
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], int]:
    """Dense codes of the combinations that occur, ordered by the first key, then the second ..."""
    if not by:
        return np.zeros(n, dtype=np.int64), {}, 1
    coded = [codes(column) for column in columns]
    code, count = coded[0][0], len(coded[0][1])
    for more, levels in coded[1:]:
        code, present = codes(code * len(levels) + more)
        count = len(present)
    first = np.zeros(count, dtype=np.int64)
    first[code[::-1]] = np.arange(n - 1, -1, -1)
    keys = {name: levels[c[first]] for name, (c, levels) in zip(by, coded, strict=True)}
    return code, keys, count
