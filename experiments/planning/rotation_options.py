"""Rotations that could be run, with the bias and the variance of each under what a pilot allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from experiments.designs.rotation import Switchback
from experiments.designs.switch_points import switchback_attenuation
from experiments.planning.pilot_model import CARRY_DECAY, CARRY_SHARE, MEMORIES, WHITE, Posterior
from experiments.rotations.coin_laws import Law, pooled_singles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.designs.rotation import Schedule

Criterion: TypeAlias = str
CRITERIA = ("minimax_regret", "bayes")

_LENGTHS = (30, 60, 120, 180, 240, 360, 480, 720, 1440, 2880)  # minutes
_HOUR = 60
_FEWEST = 4  # slices that a stratified coin can be thrown for


@dataclass(frozen=True, kw_only=True, eq=False)
class Option:
    """One rotation with its bias and variance.

    Parameters
    ----------
    design : Switchback
    days : float
        So many that slices are whole.
    n_slices : int
        Over all regions.
    df : float
        Slices beyond strata and the effect.
    lost : array (carry-overs,)
        Share of the effect that each carry-over takes away.
    variance : array (memories, whites)
        Of the estimate, for noise of variance 1 a period.
    least_p : float
        Smallest p-value that its randomisation test can give.
    """

    design: Switchback
    days: float
    n_slices: int
    df: float
    lost: NDArray[np.float64]
    variance: NDArray[np.float64]
    least_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A design whose bias does not hang on carry-over: its range, and the error of the estimate."""

    bias_low: float
    bias_high: float
    std_error: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Rotations, then fixed designs, under a posterior; arrays (designs,).

    `regret` is the root of the largest excess of the mean squared error over the best design's for
    the same carry-over, among those that hold 80 % of the weight; `found` the expected estimate;
    `loss` what the criterion minimises.
    """

    bias_low: NDArray[np.float64]
    bias_high: NDArray[np.float64]
    std_error: NDArray[np.float64]
    rmse: NDArray[np.float64]
    regret: NDArray[np.float64]
    found: NDArray[np.float64]
    loss: NDArray[np.float64]


def rotation_options(
    *,
    start: pd.Timestamp,
    days: float,
    minutes: float,
    least: float,
    most: float,
    regions: tuple[str, ...] | None,
) -> list[Option]:
    """Slices between two lengths, whole periods, each with burn-ins of 0, a quarter and a half.

    Parameters
    ----------
    start : Timestamp
        Of the experiment.
    days : float
        Its length.
    minutes : float
        Period of the pilot.
    least, most : float
        Minutes of the shortest and the longest slice.
    regions : tuple of str or None
    """
    found = []
    lengths = [float(n) for n in _LENGTHS if least <= n <= most and n % minutes == 0]
    if not lengths and least % minutes == 0:
        lengths = [least]
    for length in lengths:
        whole = int(days * 1440 // length)  # slices: a rest of one is left out
        if whole < _FEWEST:
            continue
        periods = round(length / minutes)
        for burn_in in sorted({0, periods // 4, periods // 2}):
            design = Switchback(length, burn_in_minutes=burn_in * minutes, regions=regions)
            lasting = whole * length / 1440
            found.append(_option(design, start, lasting, minutes, periods, burn_in))
    return found


def judged(
    options: Sequence[Option],
    fixed: Sequence[Fixed],
    posterior: Posterior,
    *,
    allowed: NDArray[np.bool_],
    effect: float,
    squared_effect: float,
    criterion: Criterion,
) -> Judged:
    """Bias, error and regret of designs.

    `allowed` (designs,) says which ones may be the best; `effect` gives the bias, `squared_effect`
    the mean of its square, which past experiments may have moved.
    """
    lost = np.stack([o.lost for o in options]) if options else np.zeros((0, len(CARRY_DECAY)))
    spread = np.array(
        [float(np.sum(posterior.weight * posterior.variance * o.variance)) for o in options]
    )
    likely, weight = posterior.likely(), posterior.carry_weight
    ends = np.array([[f.bias_low, f.bias_high] for f in fixed]).reshape(-1, 2)
    error = np.concatenate([spread, [f.std_error**2 for f in fixed]])
    square = np.concatenate(
        [
            squared_effect * lost**2,
            np.repeat((ends**2).max(axis=1, initial=0.0)[:, None], len(CARRY_DECAY), axis=1),
        ]
    )
    mse = square + error[:, None]
    regret = (mse - mse[allowed].min(axis=0))[:, likely].max(axis=1)
    mean = mse @ weight
    return Judged(
        bias_low=np.r_[(-effect * lost[:, likely]).min(axis=1, initial=np.inf), ends[:, 0]],
        bias_high=np.r_[(-effect * lost[:, likely]).max(axis=1, initial=-np.inf), ends[:, 1]],
        std_error=np.sqrt(error),
        rmse=np.sqrt(mean),
        regret=np.sqrt(np.maximum(regret, 0.0)),
        found=np.r_[effect * (1 - lost @ weight), effect + ends.mean(axis=1)],
        loss=regret if criterion == "minimax_regret" else mean,
    )


def _option(
    design: Switchback,
    start: pd.Timestamp,
    days: float,
    minutes: float,
    periods: int,
    burn_in: int,
) -> Option:
    """An option's losses and variances."""
    hours = minutes / _HOUR
    lost = [
        1 - switchback_attenuation(decay=float(rho**hours), slice_periods=periods, burn_in=burn_in)
        for rho in CARRY_DECAY
    ]
    plan = design.schedule(start=start, days=days, seed=0)
    strata, region = (pd.factorize(plan.table[name])[0] for name in ("stratum", "region"))
    law = Law("stratified", strata, region, np.ones(len(strata)), design.min_share)
    paths = law.support()
    return Option(
        design=design,
        days=days,
        n_slices=len(plan.table),
        df=max(len(strata) - len(np.unique(pooled_singles(strata, region))) - 1, 1),
        lost=CARRY_SHARE * np.array(lost),
        variance=_variances(plan, strata, region, hours, periods, burn_in),
        least_p=0.0 if paths is None else 2 / len(paths),
    )


def _variances(
    plan: Schedule,
    strata: NDArray[np.int64],
    region: NDArray[np.int64],
    hours: float,
    periods: int,
    burn_in: int,
) -> NDArray[np.float64]:
    """Variance of the estimate for noise of variance 1 a period, by memory and white share.

    4 s^2 / n: s^2 is the expected variance of slice means within strata. Coins are independent of
    the noise, so that its correlation over slices counts only by what strata take out of it.
    """
    strata = pooled_singles(strata, region)
    sizes = np.bincount(strata)
    n = len(strata)
    place = plan.table.groupby("region").cumcount().to_numpy()
    together = np.zeros(int(place.max()) + 1)  # pairs within strata by distance in slices
    for stratum in range(len(sizes)):
        mine = place[strata == stratum]
        apart = np.abs(np.subtract.outer(mine, mine)).ravel()
        together += np.bincount(apart, minlength=len(together)) / len(mine)
    read = periods - burn_in
    found = np.empty((len(MEMORIES), len(WHITE)))
    distance = np.arange(len(together)) * periods
    for i, memory in enumerate(MEMORIES**hours):
        kept = _block_covariance(float(memory), read, distance)
        for j, white in enumerate(WHITE):
            cov = (1 - white) * kept
            cov[0] += white / read
            spread = n * cov[0] - float(together @ cov)
            found[i, j] = 4 * spread / max(n - len(sizes), 1) / n
    return found


def _block_covariance(memory: float, read: int, distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Covariance of means of `read` periods at distances of their starts, AR(1) of variance 1."""
    steps = np.arange(1, read)
    own = (read + 2 * float(np.sum((read - steps) * memory**steps))) / read**2
    sums = float(np.sum(memory ** np.arange(read)))
    away = np.maximum(distance - (read - 1), 0)
    cov = memory**away * sums**2 / read**2
    cov[0] = own
    return np.asarray(cov)
