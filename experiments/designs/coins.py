"""How a rotation throws its coins: the randomisation laws of time slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Coin: TypeAlias = Literal["stratified", "independent", "alternating", "complete"]
COINS = ("stratified", "independent", "alternating", "complete")

_MOST_TRIES = 200


def throw(
    n: int,
    *,
    coin: Coin,
    strata: NDArray[np.int64],
    regions: NDArray[np.int64],
    minutes: NDArray[np.float64],
    min_share: float,
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Arms of n schedules from one law, shape (n, n_slices).

    Parameters
    ----------
    n : int
        Number of schedules.
    coin : {"stratified", "independent", "alternating", "complete"}
        Half of every stratum treated, the odd slice by coin; a fair coin a slice; every second
        slice of a region, the first by coin; half of all slices.
    strata, regions : int array (n_slices,)
        Codes; slices of a region are in time order.
    minutes : float array (n_slices,)
        Lengths.
    min_share : float
        Schedules whose treated share of time leaves [min_share, 1 - min_share] are thrown again:
        that belongs to the law.
    rng : numpy Generator

    Raises
    ------
    ValueError
        If hardly any schedule keeps to the share.
    """
    kept = np.zeros((0, len(strata)), dtype=np.int8)
    for _ in range(_MOST_TRIES):
        more = _thrown(max(n - len(kept), 16), coin, strata, regions, rng)
        share = more @ minutes / minutes.sum()
        fits = (share >= min_share - 1e-12) & (share <= 1 - min_share + 1e-12)
        kept = np.concatenate([kept, more[fits]])
        if len(kept) >= n:
            return kept[:n]
    raise ValueError(
        f"min_share {min_share} must leave room for a schedule of {len(strata)} slices; hardly any "
        "draw keeps to it: lower min_share, or take more slices"
    )


def _thrown(
    n: int,
    coin: Coin,
    strata: NDArray[np.int64],
    regions: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Arms before any share is looked at."""
    if coin == "independent":
        return rng.integers(0, 2, (n, len(strata)), dtype=np.int8)
    if coin == "alternating":
        first = rng.integers(0, 2, (n, int(regions.max()) + 1), dtype=np.int8)
        place = np.zeros(len(regions), dtype=np.int8)
        for region in np.unique(regions):
            mine = np.flatnonzero(regions == region)
            place[mine] = np.arange(len(mine)) % 2
        return np.asarray((first[:, regions] + place) % 2)
    return halves(n, np.zeros_like(strata) if coin == "complete" else strata, rng)


def halves(n: int, strata: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int8]:
    """Half of every stratum, the odd one by coin, shape (n, n_slices)."""
    arms = np.zeros((n, len(strata)), dtype=np.int8)
    order = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for size in np.unique(sizes[sizes > 0]):
        # strata of one size together: their ranks within a row of uniforms
        members = np.stack(
            [order[starts[s] : starts[s] + size] for s in np.flatnonzero(sizes == size)]
        )
        rank = rng.random((n, *members.shape)).argsort(axis=2).argsort(axis=2)
        treated = size // 2 + (rng.integers(0, 2, (n, len(members), 1)) if size % 2 else 0)
        arms[:, members.ravel()] = (rank < treated).reshape(n, -1)
    return arms


def shuffled(
    n: int, blocks: NDArray[np.int64], levels: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Every block goes through all levels before one comes again, in random order."""
    found = np.zeros((n, len(blocks)), dtype=np.int8)
    for block in np.unique(blocks):
        mine = np.flatnonzero(blocks == block)
        rounds = -(-len(mine) // levels)
        order = rng.random((n, rounds, levels)).argsort(axis=2)
        found[:, mine] = order.reshape(n, -1)[:, : len(mine)]
    return found
