"""The platform's drawn randomness: once, for every world and both engines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recsys.platform.content import Programme
    from recsys.platform.parameters import PlatformParameters

# streams of a seed; a new one never disturbs the others
_SHOCK, _NOISE, _BATTLES, _SESSIONS = range(4)
CONTENT = 4  # of `recsys.platform.world`, with `CENTRE`
CENTRE = 5

_MINUTES = 60
_SESSION_HOURS = 2.5  # median of a LogNormal length
_SESSION_SD = 0.5
_MEAN_SESSION = _SESSION_HOURS * math.exp(_SESSION_SD**2 / 2)
_BEFORE = 200  # hours that sessions run before the first, so that it finds them under way


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Common shock, battles, live time, content and the key of the viewers' hourly noise.

    Made by `LivePlatform.draws`. Hour 0 is the end of the warm-up, midnight of the platform's
    clock. With the same warm-up, longer draws of a seed begin with the shorter ones.

    Attributes
    ----------
    seed, warm_up_hours, n_hours : int
        `n_hours` counts whole hours after the warm-up.
    n_viewers, n_authors : int
        Of the platform that drew.
    shock : array (H,)
        Common shock of each hour, H = warm_up_hours + n_hours.
    partner : int32 array (H, J)
        Opponent of each room in the hour's battles, -1 without one.
    live : bool array (60 H, J) or None
        Whether a room is live in each minute; None: all always are.
    programme : Programme or None
        Content, if it is on.
    centre : float
        Mean level of content that utilities are freed of.
    """

    seed: int
    warm_up_hours: int
    n_hours: int
    n_viewers: int
    n_authors: int
    shock: NDArray[np.float64]
    partner: NDArray[np.int32]
    live: NDArray[np.bool_] | None
    programme: Programme | None
    centre: float

    def noise(self, hour: int) -> NDArray[np.float64]:
        """Standard normal noise of all viewers in an hour (0 = end of the warm-up), shape (N,).

        Keyed by seed and hour: an hour's noise is the same in draws of any length.
        """
        key = np.array([self.seed, _NOISE], dtype=np.uint64)
        counter = np.array([0, 0, hour % 2**64, 0], dtype=np.uint64)
        stream = np.random.Generator(np.random.Philox(key=key, counter=counter))
        return stream.standard_normal(self.n_viewers)

    def row(self, hour: float) -> int:
        """Row of the hourly arrays for an instant, counted from the end of the warm-up."""
        return self.warm_up_hours + math.floor(hour)

    def live_share(self, start: float, stop: float) -> NDArray[np.float64]:
        """Share of the time from start to stop (hours) that each room is live, shape (J,)."""
        if self.live is None:
            return np.ones(self.n_authors)
        first = math.floor((self.warm_up_hours + start) * _MINUTES + 1e-6)
        last = math.ceil((self.warm_up_hours + stop) * _MINUTES - 1e-6)
        return np.asarray(self.live[first : max(last, first + 1)].mean(axis=0))


def draw_shock(parameters: PlatformParameters, n_hours: int, seed: int) -> NDArray[np.float64]:
    """AR(1) with sd `shock` and memory `rho_s` per hour, from its stationary law."""
    steps = np.random.default_rng([seed, _SHOCK]).standard_normal(n_hours)
    rho = parameters.rho_s
    path = np.empty(n_hours)
    level = parameters.shock * steps[0]
    for hour in range(n_hours):
        if hour:
            level = rho * level + parameters.shock * math.sqrt(1 - rho**2) * steps[hour]
        path[hour] = level
    return path


def draw_battles(
    parameters: PlatformParameters,
    live: NDArray[np.bool_] | None,
    n_hours: int,
    n_authors: int,
    seed: int,
) -> NDArray[np.int32]:
    """Opponents by hour: a share `pk` of the live rooms is paired at random for the hour."""
    u = np.random.default_rng([seed, _BATTLES]).random((n_hours, n_authors + 1))
    order = u[:, :-1]
    n_live = np.full(n_hours, n_authors)
    if live is not None:
        present = live[::_MINUTES]
        order = np.where(present, order, np.inf)
        n_live = present.sum(axis=1)
    # so many pairs that the share is met on average
    n_pairs = np.minimum(np.floor(parameters.pk * n_live / 2 + u[:, -1]).astype(int), n_live // 2)
    rank = order.argsort(axis=1)
    partner = np.full((n_hours, n_authors), -1, dtype=np.int32)
    for hour in np.flatnonzero(n_pairs):
        pairs = rank[hour, : 2 * n_pairs[hour]].reshape(-1, 2)
        partner[hour, pairs[:, 0]] = pairs[:, 1]
        partner[hour, pairs[:, 1]] = pairs[:, 0]
    return partner


def draw_sessions(
    parameters: PlatformParameters, n_hours: int, n_authors: int, seed: int
) -> NDArray[np.bool_] | None:
    """Minutes that rooms are live: sessions of LogNormal length, exponential pauses between them.

    Median length 2.5 hours; pauses so long that a room is live for `live_share` of the time.
    """
    share = parameters.live_share
    if share == 1:
        return None
    length, pause = _MEAN_SESSION, _mean_pause(share)
    total = _BEFORE + n_hours
    live = np.zeros((total * _MINUTES, n_authors), dtype=bool)
    for author in range(n_authors):
        rng = np.random.default_rng([seed, _SESSIONS, author])
        now = -rng.random() * (length + pause)
        while now < total:
            end = now + _SESSION_HOURS * math.exp(_SESSION_SD * rng.standard_normal())
            first, last = (max(round(t * _MINUTES), 0) for t in (now, end))
            live[first:last, author] = True
            now = end + rng.exponential(pause)
    return live[_BEFORE * _MINUTES :]


def hourly_presence(live_share: float) -> float:
    """Share of hours in which a room is live at all: at their start, or from a minute of theirs."""
    if live_share == 1:
        return 1.0
    return 1 - (1 - live_share) * math.exp(-1 / _mean_pause(live_share))


def _mean_pause(live_share: float) -> float:
    """Hours between two sessions, on average."""
    return _MEAN_SESSION * (1 - live_share) / live_share
