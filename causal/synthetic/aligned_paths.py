"""Paths aligned at the start of treatment, and gaps between units and their weighted donors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.synthetic.donor_pool import DonorPool
    from causal.values import JsonScalar


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AlignedPaths:
    """Outcomes of n units before and after each of c starts.

    Parameters
    ----------
    rows : array (c, n, l)
        Before the start, centred over the units, in units of `scale`; the last period before the
        start comes last, 0 where a start has fewer periods than l.
    gram : array (c, n, n)
        Inner products of rows.
    paths : array (c, n, T)
        Outcomes less `level`.
    level : array (c, n)
        What was taken out: a number near the outcomes, or each unit's mean before the start.
    starts : int64 array (c,)
        Positions of the starts.
    cohort : int64 array (m,)
        Start of each treated unit.
    labels, index_name : tuple, str
        The axis of gaps: times, or event times where starts differ.
    scale : float
        A power of 2.
    """

    rows: NDArray[np.float64]
    gram: NDArray[np.float64]
    paths: NDArray[np.float64]
    level: NDArray[np.float64]
    starts: NDArray[np.int64]
    cohort: NDArray[np.int64]
    labels: tuple[JsonScalar, ...]
    index_name: str
    scale: float

    @property
    def n_before(self) -> int:
        """Points of the axis before the start."""
        return int(self.starts.max())

    @property
    def counts(self) -> NDArray[np.float64]:
        """Treated units observed at each point of the axis, (e,)."""
        total = np.zeros(len(self.labels))
        for c in self.cohort:
            total[self._window(c)] += 1
        return total

    @property
    def post_weights(self) -> NDArray[np.float64]:
        """Share of each point of the axis in the effect: treated cells, (e,)."""
        cells = self.counts
        cells[: self.n_before] = 0
        return np.asarray(cells / cells.sum())

    def gaps(self, members: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean gap of each set at each point of the axis, (p, e).

        members (p, m): one unit for each treated one; weights (p, m, n).
        """
        total = np.zeros((len(members), len(self.labels)))
        for i, c in enumerate(self.cohort):
            each = gap_paths(self.paths[c], members[:, i], weights[:, i])
            total[:, self._window(c)] += each
        return total / self.counts

    def observed(self, members: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean outcome of one set at each point of the axis, (e,)."""
        total = np.zeros(len(self.labels))
        for i, c in enumerate(self.cohort):
            total[self._window(c)] += self.paths[c, members[i]] + self.level[c, members[i]]
        return np.asarray(total / self.counts)

    def _window(self, c: int) -> slice:
        """Places of one start's periods on the axis."""
        begin = self.n_before - int(self.starts[c])
        return slice(begin, begin + self.paths.shape[2])


def align(pool: DonorPool, *, fixed_effect: bool) -> AlignedPaths:
    """Align a pool at its starts; `fixed_effect` takes each unit's mean before them out."""
    starts, cohort = np.unique(pool.first, return_inverse=True)
    common = len(starts) == 1
    n, n_periods = pool.outcome.shape
    longest = int(starts.max())
    reference = float(pool.outcome[0, 0])  # a far level would cost the gaps their digits
    near = pool.outcome - reference
    level = np.full((len(starts), n), reference)
    paths = np.repeat(near[None], len(starts), axis=0)
    rows = np.zeros((len(starts), n, longest))
    for c, start in enumerate(starts):
        if fixed_effect:
            mean = near[:, :start].mean(axis=1)
            level[c] += mean
            paths[c] -= mean[:, None]
        before = paths[c, :, :start]
        rows[c, :, longest - start :] = before - before.mean(axis=0)
    scale = power_of_two(rows)
    rows /= scale
    n_points = longest + n_periods - int(starts.min())
    return AlignedPaths(
        rows=rows,
        gram=grams(rows),
        paths=paths,
        level=level,
        starts=starts,
        cohort=cohort.astype(np.int64),
        labels=pool.times.labels if common else tuple(range(-longest, n_points - longest)),
        index_name="time" if common else "event_time",
        scale=scale,
    )


def power_of_two(values: NDArray[np.float64]) -> float:
    """A power of 2 near the largest absolute value: dividing by it changes no digit."""
    largest = float(np.abs(values).max(initial=0.0))
    return math.ldexp(1.0, math.frexp(largest)[1]) if largest > 0 else 1.0


def root_mean_square(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis, without overflow."""
    scale = power_of_two(values)
    return np.asarray(np.sqrt(np.mean((values / scale) ** 2, axis=-1)) * scale)


def grams(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of rows (c, n, l): (c, n, n), the same bits with any number of threads."""
    from causal.kernels.simplex import add_grams  # noqa: PLC0415 — numba only when used

    found = np.empty((*rows.shape[:2], rows.shape[1]))
    add_grams(np.ascontiguousarray(rows), found)
    return found


def gap_paths(
    paths: NDArray[np.float64], units: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Paths (n, t) of units (p,) less those of their donors, whose weights are (p, n): (p, t)."""
    from causal.kernels.simplex import write_gaps  # noqa: PLC0415 — numba only when used

    found = np.empty((len(units), paths.shape[1]))
    write_gaps(
        np.ascontiguousarray(paths),
        np.ascontiguousarray(units),
        np.ascontiguousarray(weights),
        found,
    )
    return found
