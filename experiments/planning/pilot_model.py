"""What a pilot tells about noise and carry-over: their joint posterior.

The mean of a period is level by region and time of day + effect x exposure + noise. A share 1 - s
of the effect comes at once, the share s builds up: exposure is (1 - s) W_t + s x_t with x_t = rho
x_{t-1} + (1 - rho) W_t. One decay alone would follow the fast part of a response and be sure of it
where habits are slow. Noise is an AR(1) with memory phi beside white noise of share nu. Level and
effect are integrated out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import linalg, signal

from causal.frame import read_columns
from experiments.sizing.power_cells import pilot_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.frame import Table
    from experiments.sizing.power_cells import Clock

# decays and memories an hour later
DECAYS = np.array(
    [0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.84, 0.87, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98,
     0.985]
)  # fmt: skip
SLOW = (0.25, 0.5, 0.75, 1.0)  # shares of the effect that build up
# what carry-over may be: no carry-over, then every decay with every share
CARRY_DECAY = np.r_[0.0, np.repeat(DECAYS[1:], len(SLOW))]
CARRY_SHARE = np.r_[1.0, np.tile(SLOW, len(DECAYS) - 1)]
MEMORIES = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.985])
WHITE = np.array([0.0, 0.3, 0.6, 0.85])

_MOST_PERIODS = 3000  # of a region
_STEPS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440)  # minutes
_HOUR = 60
_FINEST = 30  # minutes of a period, unless slices are shorter
_WEEKEND_FROM = 14  # days


@dataclass(frozen=True, kw_only=True, eq=False)
class Pilot:
    """A pilot by regular periods.

    Parameters
    ----------
    minutes : float
        Length of a period.
    table : DataFrame
        region, start, n, mean and (treated pilots) arm, the treated share of the period's rows;
        region by region, in time order, periods without rows left out.
    place : int64 array (k,)
        Number of each period, from the first of the pilot.
    region : int64 array (k,)
    n_periods : int
        From the first to the last.
    treated : bool
        Whether there is a treatment.
    """

    minutes: float
    table: pd.DataFrame
    place: NDArray[np.int64]
    region: NDArray[np.int64]
    n_periods: int
    treated: bool

    @property
    def days(self) -> float:
        """Length."""
        return self.n_periods * self.minutes / 1440

    @property
    def level(self) -> float:
        """Mean outcome by rows."""
        n = self.table["n"].to_numpy()
        return float(n @ self.table["mean"].to_numpy() / n.sum())

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return int(self.region.max()) + 1

    def next_day(self) -> pd.Timestamp:
        """The midnight after the pilot."""
        last: pd.Timestamp = self.table["start"].max()
        return last.normalize() + pd.Timedelta(days=1)

    def without(self, posterior: Posterior) -> NDArray[np.float64]:
        """Means of periods without the treatment's effect, at the posterior means."""
        y = self.table["mean"].to_numpy(dtype=np.float64)
        if posterior.effect is None:
            return y
        exposure = _exposures(self, self.minutes / _HOUR) @ posterior.carry_weight
        return np.asarray(y - posterior.effect * exposure)


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Weights of carry-over (rows), memory and white share, with the noise variance of a period.

    Parameters
    ----------
    weight : array (carry-overs, memories, whites)
        Sums to 1; flat before the pilot, and over what it says nothing of.
    variance : array of the same shape
    effect : float or None
        Mean effect of everlasting exposure; None without a treatment.
    minutes : float
        Length of a period.
    """

    weight: NDArray[np.float64]
    variance: NDArray[np.float64]
    effect: float | None
    minutes: float

    @property
    def carry_weight(self) -> NDArray[np.float64]:
        """Weights of the carry-overs."""
        return np.asarray(self.weight.sum(axis=(1, 2)))

    def likely(self, level: float = 0.8) -> NDArray[np.bool_]:
        """The fewest carry-overs that hold so much of the weight."""
        order = np.argsort(-self.carry_weight, kind="stable")
        before = np.cumsum(self.carry_weight[order]) - self.carry_weight[order]
        found = np.zeros(len(order), dtype=bool)
        found[order[before < level]] = True
        return found

    def to_come(self, hours: float) -> tuple[float, float, float]:
        """Share of the effect that is still to come so many hours after a switch.

        Its mean, and its ends among the carry-overs that hold 80 % of the weight.
        """
        left = CARRY_SHARE * CARRY_DECAY**hours
        likely = left[self.likely()]
        return float(self.carry_weight @ left), float(likely.min()), float(likely.max())

    @property
    def decay(self) -> float:
        """Mean of the decay an hour later of what builds up."""
        return float(self.carry_weight @ CARRY_DECAY)


def read_pilot(
    frame: Table,
    *,
    outcome: str,
    time: str,
    treatment: str | None,
    unit: str | None,
    least_minutes: float,
) -> Pilot:
    """Read a pilot by periods of its own grid, of half an hour or the shortest slice at least.

    Raises
    ------
    ValueError
        If a column is absent or holds gaps, time is no timestamps, the treatment is not 0 and 1, or
        the pilot is shorter than three days.
    """
    if treatment is not None:
        _check_arms(frame, treatment)
    cells_of = partial(
        pilot_cells, frame, time=time, unit=unit, burn_in_minutes=0, coin="independent"
    )
    days = cells_of(outcome=outcome, slice_minutes=1440, grid=True)
    if not days.clock.kind.stamps:
        raise ValueError(
            f"column {time!r} must hold timestamps: slices and schedules are in minutes; convert it"
        )
    minutes = _period(days.clock.step / days.clock.kind.minute, days.clock, least_minutes)
    cells = cells_of(outcome=outcome, slice_minutes=minutes)
    table = cells.table
    n_regions = table["region"].nunique()
    n_periods = len(table) // n_regions
    if n_periods * minutes < 3 * 1440:
        raise ValueError(
            f"the pilot must cover three days or more; it covers {n_periods * minutes / 1440:.3g}"
        )
    region = np.repeat(np.arange(n_regions), n_periods)
    kept = cells.read
    if treatment is not None:
        table = table.assign(arm=cells_of(outcome=treatment, slice_minutes=minutes).table["mean"])
    return Pilot(
        minutes=minutes,
        table=table[kept].reset_index(drop=True),
        place=np.tile(np.arange(n_periods), n_regions)[kept],
        region=region[kept],
        n_periods=n_periods,
        treated=treatment is not None,
    )


def _check_arms(frame: Table, treatment: str) -> None:
    """Both arms, 0 and 1, and nothing else."""
    arms = np.unique(read_columns(frame, numeric=[treatment])[treatment])
    if not np.isin(arms, (0, 1)).all():
        strange = arms[~np.isin(arms, (0, 1))][:3].tolist()
        raise ValueError(f"column {treatment!r} must hold 0 and 1; got {strange}: recode it")
    if len(arms) < 2:
        raise ValueError(
            f"column {treatment!r} must hold both arms; it holds only {arms[0]:g}: where nobody "
            "changed arms, plan without a column of treatment"
        )


def posterior_of(pilot: Pilot) -> Posterior:
    """Weights of carry-over and noise given a pilot, under flat priors on the grid.

    Raises
    ------
    ValueError
        If the outcome does not vary beyond region and time of day.
    """
    hours = pilot.minutes / _HOUR
    exposure = _exposures(pilot, hours) if pilot.treated else None
    shape = (len(CARRY_DECAY), len(MEMORIES), len(WHITE))
    log_weight, variance, effect = np.empty(shape), np.empty(shape), np.zeros(shape)
    groups = _alike(pilot)
    for i, memory in enumerate(MEMORIES):
        for j, white in enumerate(WHITE):
            found = _marginal(pilot, groups, exposure, float(memory**hours), float(white))
            log_weight[:, i, j], variance[:, i, j], effect[:, i, j] = found
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return Posterior(
        weight=weight,
        variance=variance,
        effect=float(np.sum(weight * effect)) if pilot.treated else None,
        minutes=pilot.minutes,
    )


def _period(step: float, clock: Clock, least: float) -> float:
    """Length of a period: the pilot's grid, half an hour or the shortest slice, not too many."""
    span = (clock.last - clock.first) / clock.kind.minute
    for minutes in _STEPS:
        whole = minutes % step < 1e-9 or step < 1
        if minutes >= min(least, _FINEST) and whole and span / minutes <= _MOST_PERIODS:
            return float(minutes)
    return 1440.0


def _exposures(pilot: Pilot, hours: float) -> NDArray[np.float64]:
    """Exposure of each period under each carry-over, shape (k, carry-overs); before it none."""
    built = np.empty((len(pilot.place), len(DECAYS)))
    arm = pilot.table["arm"].to_numpy(dtype=np.float64)
    for region in range(pilot.n_regions):
        mine = np.flatnonzero(pilot.region == region)
        known = np.full(pilot.n_periods, -1, dtype=np.int64)
        known[pilot.place[mine]] = mine
        last = np.maximum.accumulate(np.where(known >= 0, np.arange(len(known)), 0))
        path = np.where(known[last] >= 0, arm[known[last]], 0.0)  # gaps keep the arm before
        for k, rho in enumerate(DECAYS**hours):
            x = signal.lfilter([1 - rho], [1, -rho], path)
            built[mine, k] = x[pilot.place[mine]]
    slow = built[:, np.searchsorted(DECAYS, CARRY_DECAY)]
    return np.asarray(slow * CARRY_SHARE + built[:, :1] * (1 - CARRY_SHARE))


def _alike(pilot: Pilot) -> list[list[NDArray[np.int64]]]:
    """Regions with rows in the same periods: they share what noise and levels are."""
    groups: dict[bytes, list[NDArray[np.int64]]] = {}
    for region in range(pilot.n_regions):
        mine = np.flatnonzero(pilot.region == region)
        groups.setdefault(pilot.place[mine].tobytes(), []).append(mine)
    return list(groups.values())


def _marginal(
    pilot: Pilot,
    groups: list[list[NDArray[np.int64]]],
    exposure: NDArray[np.float64] | None,
    memory: float,
    white: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log marginal likelihood, noise variance and effect by carry-over, given the noise."""
    n_carry = len(CARRY_DECAY)
    yy, log_size, df = 0.0, 0.0, -float(pilot.treated)
    xx, xy = np.zeros(n_carry), np.zeros(n_carry)
    y = pilot.table["mean"].to_numpy(dtype=np.float64)
    y = y - y.mean()
    for members in groups:
        place = pilot.place[members[0]]
        noise = _Noise.of(place, memory, white)
        level = _levels(pilot, place)
        within = linalg.cho_factor(level.T @ noise.solve(level), lower=True)
        log_size += len(members) * (0.5 * noise.log_det + np.log(np.diag(within[0])).sum())
        df += len(members) * (len(place) - level.shape[1])
        for mine in members:
            columns = [y[mine, None]] if exposure is None else [y[mine, None], exposure[mine]]
            z = np.hstack(columns)
            weighted = noise.solve(z)
            cross = level.T @ weighted
            products = z[:, :1].T @ weighted - cross[:, :1].T @ linalg.cho_solve(within, cross)
            yy += float(products[0, 0])
            if exposure is not None:
                xy += products[0, 1:]
                left = np.einsum("kj,kj->j", cross, linalg.cho_solve(within, cross))
                xx += (np.einsum("ij,ij->j", z, weighted) - left)[1:]
    if df < 10 or yy <= 0:
        raise ValueError(
            "the outcome must vary beyond region and time of day in ten periods or more; it does "
            "not: take a longer pilot"
        )
    effect = np.divide(xy, xx, out=np.zeros(n_carry), where=xx > 0)
    left = np.maximum(yy - effect * xy, 1e-12 * yy)
    log_weight = -log_size - df / 2 * np.log(left)
    if exposure is not None:
        log_weight = log_weight - 0.5 * np.log(np.maximum(xx, 1e-300))
    return log_weight, left / df, effect


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Noise:
    """AR(1) beside white noise at some places: C = (1 - white) A + white I, of variance 1.

    The inverse of A is tridiagonal, T, also where places are left out, and C^-1 =
    T (I + odds T)^-1 / (1 - white) with odds = white / (1 - white): linear in the places.
    """

    inverse: NDArray[np.float64]  # T, banded: above the diagonal, the diagonal, below
    factor: NDArray[np.float64]  # of I + odds T, banded Cholesky
    white: float
    log_det: float

    @classmethod
    def of(cls, place: NDArray[np.int64], memory: float, white: float) -> _Noise:
        """The noise at places in order."""
        phi = memory ** np.diff(place).astype(np.float64)
        news = 1 / (1 - phi**2)
        diagonal = np.r_[1.0, news] + np.r_[phi**2 * news, 0.0]
        beside = -phi * news
        banded = np.vstack([np.r_[0.0, beside], diagonal, np.r_[beside, 0.0]])
        odds = white / (1 - white)
        factor = linalg.cholesky_banded(np.vstack([odds * banded[0], 1 + odds * diagonal]))
        log_det = (
            len(place) * math.log1p(-white)
            - float(np.log(news).sum())
            + 2 * float(np.log(factor[1]).sum())
        )
        return cls(inverse=banded, factor=factor, white=white, log_det=log_det)

    def solve(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """C^-1 times columns."""
        z = linalg.cho_solve_banded((self.factor, False), columns)
        above, diagonal, below = self.inverse
        found = diagonal[:, None] * z
        found[:-1] += above[1:, None] * z[1:]
        found[1:] += below[:-1, None] * z[:-1]
        return np.asarray(found / (1 - self.white))


def _levels(pilot: Pilot, place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Columns of the level: time of day at most hourly, and weekends in pilots of two weeks."""
    per_day = max(round(1440 / max(pilot.minutes, _HOUR)), 1)
    slot = (place * pilot.minutes % 1440 // (1440 / per_day)).astype(np.int64)
    slot = np.unique(slot, return_inverse=True)[1]
    columns = [np.eye(int(slot.max()) + 1)[slot]]
    if pilot.days >= _WEEKEND_FROM:
        first = pilot.table["start"].iloc[0]
        day = ((first.hour * 60 + first.minute + place * pilot.minutes) // 1440).astype(np.int64)
        weekend = ((first.day_of_week + day) % 7 >= 5).astype(np.float64)
        if 0 < weekend.mean() < 1:
            columns.append((weekend - weekend.mean())[:, None])
    return np.column_stack(columns)
