"""What is read of a rotation: which cells count, the windows they form, and the fit to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from experiments.rotations.slice_coins import coin_windows, dependence
from experiments.rotations.slice_rows import pooled
from experiments.rotations.slice_statistic import Fitted, Windows, fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.rotations.slice_coins import Coins, Rotation


@dataclass(frozen=True, eq=False)
class Reading:
    """The cells of a rotation that are read, and their windows.

    Parameters
    ----------
    rotation : Rotation
    keep : int64 array (c,)
        Which of the rotation's cells are read.
    code : int64 array (c,)
        Window of each of them.
    windows : Windows
    adjusted : bool
        Whether windows keep the design's strata.
    carryover, burn_in : int
        In units of time.
    """

    rotation: Rotation
    keep: NDArray[np.int64]
    code: NDArray[np.int64]
    windows: Windows
    adjusted: bool
    carryover: int
    burn_in: int

    @property
    def coins(self) -> Coins:
        """The coins of the rotation."""
        return self.rotation.coins

    @property
    def n_obs(self) -> int:
        """Rows that are read."""
        return int(self.rotation.cells.n[self.keep].sum())

    def dose(self) -> NDArray[np.float64]:
        """Treated share of the coins of each window on the path that was observed."""
        return np.asarray(self.windows.treated_coins(self.coins.arm[None, :])[0])

    def segment(self, label: int) -> Windows:
        """The windows of one segment; those without its rows have size 0."""
        mine = self.rotation.cells.segment[self.keep] == label
        cells = self.rotation.cells.select(self.keep[mine])
        at, code = np.unique(self.code[mine], return_inverse=True)
        some = cells.pooled(code, len(at))
        size, outcome = np.zeros(len(self.windows.size)), np.zeros(len(self.windows.size))
        covariates = np.zeros_like(self.windows.covariates)
        size[at], outcome[at], covariates[at] = some.size, some.outcome, some.covariates
        return replace(self.windows, size=size, outcome=outcome, covariates=covariates)


def read_windows(
    rotation: Rotation, *, carryover: int, burn_in: int, adjusted: bool, periods: bool = False
) -> Reading:
    """Windows of a rotation for a carry-over and burn-in.

    Parameters
    ----------
    rotation : Rotation
    carryover, burn_in : int
        In units of time.
    adjusted : bool
        Keep the design's strata, or one stratum.
    periods : bool
        Weigh instants alike: each counts once with the mean of its rows.

    Raises
    ------
    ValueError
        If the burn-in reaches over a slice, or no cell is left.
    """
    coins = rotation.coins
    _check_burn_in(rotation, burn_in)
    check_both_arms(rotation)
    first = rotation.first(carryover)
    keep = np.flatnonzero((first >= 0) & rotation.after_start(burn_in))
    if not len(keep):
        raise ValueError(
            f"carryover={_shown(rotation, carryover)} and burn_in={_shown(rotation, burn_in)} "
            "leave no row to read: shorten them"
        )
    begin, end, code = coin_windows(first[keep], rotation.last[keep], len(coins))
    cells = rotation.cells.select(keep)
    if periods:
        instants = np.unique(
            np.column_stack([rotation.chain[keep], cells.time]), axis=0, return_inverse=True
        )[1].ravel()
        n_instants = int(instants.max()) + 1
        by_instant = cells.pooled(instants, n_instants)
        of = np.zeros(n_instants, dtype=np.int64)
        of[instants] = code
        sums = pooled(
            of, len(begin), np.ones(n_instants), by_instant.outcome, by_instant.covariates
        )
    else:
        sums = cells.pooled(code, len(begin))
    chance = coins.law.chance(begin, end)
    windows = Windows(
        first=begin,
        last=end,
        size=sums.size,
        outcome=sums.outcome,
        covariates=sums.covariates,
        chance=chance,
        kappa=dependence(coins, begin, end, chance > 0),
        stratum=_dense(coins.stratum[end] if adjusted else np.zeros_like(end)),
    )
    return Reading(rotation, keep, code, windows, adjusted, carryover, burn_in)


def fit_windows(reading: Reading, windows: Windows | None = None, *, what: str = "") -> Fitted:
    """The fit on the observed path, refused where it says too little.

    Raises
    ------
    ValueError
        If an arm has fewer than two windows to learn from, no degree of freedom is left, or the
        outcome does not vary.
    """
    windows = reading.windows if windows is None else windows
    found = fitted(reading.coins.arm, windows)
    share = windows.treated_coins(reading.coins.arm[None, :])[0]
    whole = (windows.size > 0) & (windows.chance > 0)
    n1, n0 = (int((whole & (share == arm)).sum()) for arm in (1, 0))
    where = f" {what}" if what else ""
    counts = f"{n1} treated and {n0} untreated windows{where}"
    if found is None:
        lead = "too few slices"
        if reading.carryover:
            lead = f"carryover={_shown(reading.rotation, reading.carryover)} is too long"
        beside = f" and {p} covariates" if (p := windows.covariates.shape[1]) else ""
        raise ValueError(
            f"{lead}: {counts} have coins that are all alike; each arm needs two that strata"
            f"{beside} leave free: take a shorter carryover, more slices, fewer covariates, or "
            "adjust=None"
        )
    if found.df < 1:
        raise ValueError(
            f"too few slices: {counts} leave {found.df} degrees of freedom after "
            f"{len(np.unique(windows.stratum))} strata and {windows.covariates.shape[1]} "
            "covariates: take more slices, fewer covariates, or adjust=None"
        )
    scale = np.abs(windows.outcome + reading.rotation.cells.centre).max()
    if not np.abs(found.residual).max() > 1e-14 * scale:
        raise ValueError(
            f"column {reading.rotation.roles.outcome!r} must vary beyond arms and strata; all "
            f"residuals of {counts} are 0: give the outcome as it was measured"
        )
    return found


def _dense(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes 0, 1, ... of those that occur."""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _check_burn_in(rotation: Rotation, burn_in: int) -> None:
    """Burn-in must leave something of every slice but the last of a chain."""
    coins = rotation.coins
    length = coins.end - coins.start
    inner = np.append(coins.chain[1:] == coins.chain[:-1], False)
    shortest = int(length[inner].min()) if inner.any() else int(length.max())
    if burn_in >= shortest:
        raise ValueError(
            f"burn_in={_shown(rotation, burn_in)} must be below the shortest slice, "
            f"{_shown(rotation, shortest)}: shorten it"
        )


def check_both_arms(rotation: Rotation) -> None:
    """Both arms occur."""
    arms = rotation.coins.arm[np.unique(rotation.last)]
    if arms.min() == arms.max():
        raise ValueError(
            f"column {rotation.roles.treatment!r} must hold both arms; every slice with "
            f"rows, {len(arms)} in all, is {'treated' if arms[0] else 'untreated'}: give a log of "
            "both"
        )


def _shown(rotation: Rotation, length: int) -> str:
    """A length in minutes or periods."""
    return f"{length / rotation.kind.minute:g}"
