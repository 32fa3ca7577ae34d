"""Moments by arm of all row metrics together: one scan of the log serves every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.moments import centred_moments
from causal.rows import Groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.rows import Rows


@dataclass(frozen=True)
class RowMoments:
    """Means (g, k), centred cross products (g, k, k; within metrics) and counts by arm."""

    columns: tuple[str, ...]
    groups: Groups
    mean: NDArray[np.float64]
    cross: NDArray[np.float64]

    @property
    def finite(self) -> bool:
        """Whether every number that was summed is finite."""
        return bool(np.isfinite(self.mean).all() and np.isfinite(self.cross).all())

    def of(self, columns: Sequence[str]) -> RowMoments:
        """Those of some columns."""
        at = [self.columns.index(c) for c in columns]
        mean, cross = self.mean[:, at], self.cross[:, at][:, :, at]
        return RowMoments(tuple(columns), self.groups, mean, cross)

    def between(self, *arms: object) -> RowMoments:
        """Those of some arms."""
        keep = np.flatnonzero([a in arms for a in self.groups.keys["arm"].tolist()])
        groups = Groups({"arm": self.groups.keys["arm"][keep]}, self.groups.n[keep], {})
        return RowMoments(self.columns, groups, self.mean[keep], self.cross[keep])


def row_moments(rows: Rows, metrics: Sequence[Sequence[str]]) -> RowMoments | None:
    """One scan for the columns of all metrics; products are taken within each metric only."""
    columns = tuple(dict.fromkeys(c for names in metrics for c in names))
    if not columns:
        return None
    groups, mean, cross, _ = centred_moments(rows, columns, ["arm"], blocks=metrics)
    return RowMoments(columns, groups, mean, cross)
