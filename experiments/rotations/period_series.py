"""A rotation as series: one outcome a period, and the coins of the periods before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.rotations.instants import MINUTE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.rotations.slice_coins import Coins, Rotation

_SPARSE = 4  # periods a distinct time, beyond which times keep to no grid
_MOST_PERIODS = 200_000


@dataclass(frozen=True, eq=False)
class PeriodSeries:
    """Outcomes of periods, chain by chain in time order.

    Parameters
    ----------
    rotation : Rotation
    step : int
        Length of a period in units of time.
    chain, time : int64 arrays (n,)
        Chain and start of each period that has rows.
    outcome : array (n,)
        Means around the centre.
    covariates : array (n, p)
    rows : int64 array (n,)
    coin : int64 array (n,)
    stratum : int64 array (n,)
        Codes of the adjustment.
    """

    rotation: Rotation
    step: int
    chain: NDArray[np.int64]
    time: NDArray[np.int64]
    outcome: NDArray[np.float64]
    covariates: NDArray[np.float64]
    rows: NDArray[np.int64]
    coin: NDArray[np.int64]
    stratum: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def coins(self) -> Coins:
        """The coins of the rotation."""
        return self.rotation.coins

    def shown(self, length: int) -> str:
        """A length in minutes or periods."""
        return f"{length / self.rotation.kind.minute:g}"

    def lagged_coins(self, n_lags: int) -> NDArray[np.int64]:
        """Coins of each period and of `n_lags` before it, shape (n, 1 + n_lags); -1 if unknown."""
        lags = [self.coins.at(self.chain, self.time - j * self.step) for j in range(n_lags + 1)]
        return np.column_stack(lags)

    def nuisance(self, some: NDArray[np.int64]) -> NDArray[np.float64]:
        """Dummies of strata and covariates of some periods."""
        strata = np.unique(self.stratum[some], return_inverse=True)[1]
        x = self.covariates[some] - self.covariates[some].mean(axis=0)
        return np.column_stack([np.eye(int(strata.max()) + 1)[strata], x])

    def grid(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All periods from each chain's first slice on: chain, coin; and the place of each outcome.

        Raises
        ------
        ValueError
            If the arm of a slice without rows is unknown.
        """
        coins = self.coins
        parts, place, offset = [], np.zeros(len(self), dtype=np.int64), 0
        for chain in range(len(coins.chains)):
            mine = np.flatnonzero(self.chain == chain)
            if not len(mine):
                continue
            start = int(coins.start[coins.chain == chain].min())
            first = start + (int(self.time[mine[0]]) - start) % self.step
            times = np.arange(first, int(self.time[mine[-1]]) + 1, self.step)
            found = coins.at(np.full(len(times), chain), times)
            if (lost := found < 0).any():
                raise ValueError(
                    f"every slice must have rows, or a schedule must tell its arm; "
                    f"{int(lost.sum())} periods have neither: pass schedule="
                )
            parts.append((np.full(len(times), chain), found))
            place[mine] = offset + (self.time[mine] - first) // self.step
            offset += len(times)
        chains, at = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return chains, at, place


def period_series(rotation: Rotation, *, adjusted: bool, lengths: tuple[int, ...]) -> PeriodSeries:
    """Average the cells of a rotation to periods.

    Raises
    ------
    ValueError
        If the log keeps to no grid and slices and lengths have none in common, or a length is no
        multiple of the period.
    """
    cells, coins = rotation.cells, rotation.coins
    step, origin = _grid(rotation, lengths)
    start = cells.time - (cells.time - origin) % step
    span = int(start.max() - start.min()) // step + 1
    key = rotation.chain * span + (start - start.min()) // step
    keys, at = np.unique(key, return_inverse=True)
    means = cells.pooled(at, len(keys))
    first = np.zeros(len(keys), dtype=np.int64)
    first[at[::-1]] = np.arange(len(at))[::-1]
    coin = rotation.last[first]
    return PeriodSeries(
        rotation=rotation,
        step=step,
        chain=rotation.chain[first],
        time=start[first],
        outcome=means.outcome,
        covariates=means.covariates,
        rows=np.bincount(at, cells.n).astype(np.int64),
        coin=coin,
        stratum=coins.stratum[coin] if adjusted else np.zeros_like(coin),
    )


def _grid(rotation: Rotation, lengths: tuple[int, ...]) -> tuple[int, int]:
    """Length of a period, and where one starts."""
    coins = rotation.coins
    if not rotation.kind.stamps:
        return 1, 0
    times = np.unique(rotation.cells.time)
    step = int(np.gcd.reduce(np.diff(times))) if len(times) > 1 else 0
    if step and int(times[-1] - times[0]) // step < _SPARSE * len(times):
        for length in lengths:
            if length % step:
                raise ValueError(
                    f"carryover must be a multiple of the log's period, {step / MINUTE:g} minutes; "
                    f"got {length / MINUTE:g}: round it"
                )
        return step, int(times[0])
    origin = int(coins.start.min())
    edges = np.concatenate([coins.start - origin, coins.end - origin, np.array(lengths)])
    step = int(np.gcd.reduce(edges.astype(np.int64)))
    periods = (int(coins.end.max()) - origin) / max(step, 1)
    if step < MINUTE or not math.isfinite(periods) or periods > _MOST_PERIODS:
        raise ValueError(
            f"column {rotation.roles.time!r} must keep to a grid of periods, or slices and "
            "carryover must have one in common of a minute or more; they have none: round the "
            "times to periods first"
        )
    return step, origin
