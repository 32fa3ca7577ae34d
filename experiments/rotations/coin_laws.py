"""The law of a rotation's coins: every path it can take, draws from it, and chances of windows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from experiments.designs.coins import Coin, throw

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Redraw = Callable[[int, int], "NDArray[np.int8]"]

MOST_PATHS = 4096  # up to so many, all are taken
_SHARE_ROUNDING = 1e-12  # as in `throw`


@dataclass(frozen=True, eq=False)
class Law:
    """How the coins of slices are thrown; all paths that can occur are equally likely.

    Parameters
    ----------
    coin : {"stratified", "independent", "alternating", "complete"}
    strata, regions : int64 arrays (k,)
        Codes; slices of a region are in time order.
    minutes : array (k,)
        Lengths of slices.
    min_share : float
        Paths with a treated share of time outside [min_share, 1 - min_share] do not occur.
    redraw : callable, optional
        Arms of n paths from a seed, where the schedule itself can tell.
    """

    coin: Coin
    strata: NDArray[np.int64]
    regions: NDArray[np.int64]
    minutes: NDArray[np.float64]
    min_share: float
    redraw: Redraw | None = None

    def draws(self, n: int, seed: int) -> NDArray[np.int8]:
        """Arms of n paths, shape (n, k)."""
        if self.redraw is not None:
            return self.redraw(n, seed)
        return throw(
            n,
            coin=self.coin,
            strata=self.strata,
            regions=self.regions,
            minutes=self.minutes,
            min_share=self.min_share,
            rng=np.random.default_rng([seed, 2]),
        )

    def support(self) -> NDArray[np.int8] | None:
        """All paths, shape (n, k); None where there are more than 4,096."""
        codes = self._blocks()
        sizes = np.bincount(codes)
        counts = [_count(int(size), self.coin) for size in sizes]
        if math.prod(counts) > MOST_PATHS:
            return None
        found = np.zeros((math.prod(counts), len(codes)), dtype=np.int8)
        parts = [_paths_of(int(size), self.coin) for size in sizes]
        chosen = np.indices([len(part) for part in parts]).reshape(len(parts), -1)
        for block, (part, row) in enumerate(zip(parts, chosen, strict=True)):
            found[:, codes == block] = part[row]
        share = found @ self.minutes / self.minutes.sum()
        low, high = self.min_share - _SHARE_ROUNDING, 1 - self.min_share + _SHARE_ROUNDING
        return np.asarray(found[(share >= low) & (share <= high)])

    def chance(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        """Chance that all coins first ... last are 1, which is that of all 0; `min_share` apart."""
        length = last - first + 1
        if self.coin == "independent" or not (length > 1).any():
            return np.asarray(0.5**length)
        if self.coin == "alternating":
            return np.where(length > 1, 0.0, 0.5)
        codes = self._blocks()
        sizes = np.bincount(codes)
        windows = zip(first.tolist(), last.tolist(), strict=True)
        return np.array([_all_alike(codes[f : e + 1], sizes) for f, e in windows])

    def _blocks(self) -> NDArray[np.int64]:
        """Groups of coins that are thrown together, 0, 1, ...; blocks are independent."""
        if self.coin == "independent":
            return np.arange(len(self.strata))
        if self.coin == "complete":
            return np.zeros_like(self.strata)
        groups = self.regions if self.coin == "alternating" else self.strata
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def pooled_singles(strata: NDArray[np.int64], regions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes 0, 1, ... of strata to adjust for; slices alone in theirs are one stratum a region.

    The coin of such a slice is free.
    """
    alone = np.bincount(strata)[strata] == 1
    joined = np.where(alone, strata.max(initial=0) + 1 + regions, strata)
    return np.unique(joined, return_inverse=True)[1].astype(np.int64)


def _count(size: int, coin: Coin) -> int:
    """Number of paths of a block of coins."""
    if coin in ("independent", "alternating"):
        return 2
    return math.comb(size, size // 2) * (1 + size % 2)


def _paths_of(size: int, coin: Coin) -> NDArray[np.int8]:
    """All paths of a block of coins."""
    if coin == "alternating":
        path = np.arange(size, dtype=np.int8) % 2
        return np.stack([path, 1 - path])
    if coin == "independent":
        return np.array([[0], [1]], dtype=np.int8)
    found = []
    for treated in sorted({size // 2, size - size // 2}):
        for ones in itertools.combinations(range(size), treated):
            path = np.zeros(size, dtype=np.int8)
            path[list(ones)] = 1
            found.append(path)
    return np.array(found)


def _all_alike(codes: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """Chance that coins of these blocks are all 1."""
    taken = np.bincount(codes, minlength=len(sizes))
    at = np.flatnonzero(taken)
    return math.prod(_alike(int(taken[b]), int(sizes[b])) for b in at)


@lru_cache(maxsize=4096)
def _alike(taken: int, size: int) -> float:
    """Chance that so many coins of a block of half ones are all 1; its odd one is by coin."""
    totals = (size // 2, size - size // 2)
    ways = [
        math.comb(size - taken, t - taken) / math.comb(size, t) if t >= taken else 0.0
        for t in totals
    ]
    return sum(ways) / 2
