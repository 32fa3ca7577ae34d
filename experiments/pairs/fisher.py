"""Redraws of both sides' arms: the randomisation test of a dual-sided experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

_AT_ONCE = 2_000_000  # numbers of a block of draws
_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Redraws:
    """The pairs of an experiment, and the arms that can be redrawn.

    Parameters
    ----------
    outcomes : sparse array (n_viewers, n_authors)
    viewer_arm, author_arm : arrays (n_viewers,) and (n_authors,)
        0 or 1.
    complete : bool
        Pairs that `outcomes` does not hold count as 0; otherwise not at all.
    viewer_x, author_x : arrays (n_viewers, k) and (n_authors, q)
        Centred covariates, whose regression without arms is taken off first.
    """

    outcomes: sparse.csr_array
    viewer_arm: NDArray[np.int64]
    author_arm: NDArray[np.int64]
    complete: bool
    viewer_x: NDArray[np.float64]
    author_x: NDArray[np.float64]

    def p_value(self, weights: NDArray[np.float64], *, n_draws: int, seed: int) -> float:
        """Share of assignments whose statistic is at least as large as the one that was drawn.

        `weights` are those of the cells' means, (2, 2) by viewer arm and author arm. The statistic
        is |contrast| over the root of its viewers' plus its authors' sums of squares, which the
        products of `outcomes` with the arms give.
        """
        arms = (self.viewer_arm, self.author_arm)
        observed = self._statistics([arm[:, None] for arm in arms], weights)[0]
        rng = np.random.default_rng(seed)
        block = max(1, _AT_ONCE // max(self.outcomes.shape))
        beyond = 0
        for start in range(0, n_draws, block):
            k = min(block, n_draws - start)
            redrawn = [rng.permuted(np.repeat(arm[:, None], k, axis=1), axis=0) for arm in arms]
            beyond += int((self._statistics(redrawn, weights) >= observed - _TIE).sum())
        return (1 + beyond) / (1 + n_draws)

    def _statistics(
        self, arms: list[NDArray[np.int64]], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Studentised contrast of each column of viewers' and authors' arms, shape (n_draws,)."""
        viewers, authors = (_masks(arm) for arm in arms)
        (by_viewer, n_viewer), (by_author, n_author) = self._sums(viewers, authors)
        estimate = np.zeros(viewers.shape[2])
        of_viewers, of_authors = np.zeros_like(viewers), np.zeros_like(authors)
        with np.errstate(invalid="ignore", divide="ignore"):  # a cell without pairs: see below
            for v, a in ((0, 0), (0, 1), (1, 0), (1, 1)):
                n = (viewers[v] * n_viewer[a]).sum(axis=0)
                mean = (viewers[v] * by_viewer[a]).sum(axis=0) / n
                estimate += weights[v, a] * mean
                of_viewers[v] += weights[v, a] / n * (by_viewer[a] - n_viewer[a] * mean)
                of_authors[a] += weights[v, a] / n * (by_author[v] - n_author[v] * mean)
            variance = _variance(of_viewers, viewers) + _variance(of_authors, authors)
            size = np.abs(estimate)
            found = np.where(variance > 0, size / np.sqrt(variance), np.where(size > 0, np.inf, 0))
        return np.where(np.isfinite(estimate), found, np.inf)  # what cannot be read is extreme

    def _sums(
        self, viewers: NDArray[np.float64], authors: NDArray[np.float64]
    ) -> list[tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]]:
        """Sums by viewer and author arm, and by author and viewer arm; each with its pairs."""
        found = []
        u, w = self._fitted()
        for outcomes, masks, mine, other in (
            (self.outcomes, authors, u, w),
            (self.outcomes.T, viewers, w, u),
        ):
            sums = [np.asarray(outcomes @ mask) for mask in masks]
            if self.complete:
                n = [mask.sum(axis=0) for mask in masks]
                sums = [
                    total - mine[:, None] * count - other @ mask
                    for total, count, mask in zip(sums, n, masks, strict=True)
                ]
            else:
                ones = outcomes.copy()
                ones.data = np.ones_like(ones.data)
                n = [np.asarray(ones @ mask) for mask in masks]
            found.append((sums, n))
        return found

    def _fitted(self) -> list[NDArray[np.float64]]:
        """What covariates predict of viewers' means and of authors', arms unknown."""
        found = []
        for outcomes, x in ((self.outcomes, self.viewer_x), (self.outcomes.T, self.author_x)):
            mean = np.asarray(outcomes.sum(axis=1)) / outcomes.shape[1]
            found.append(x @ np.linalg.lstsq(x, mean - mean.mean(), rcond=None)[0])
        return found


def _variance(scores: NDArray[np.float64], masks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares of the units' scores, with the small-sample factor of each arm."""
    size = masks.sum(axis=1)
    found: NDArray[np.float64] = (size / (size - 1) * (masks * scores**2).sum(axis=1)).sum(axis=0)
    return found


def _masks(arm: NDArray[np.int64]) -> NDArray[np.float64]:
    """1.0 where a unit is in arm 0, and in arm 1: (2, n_units, n_draws)."""
    return np.stack([arm == 0, arm == 1]).astype(np.float64)
