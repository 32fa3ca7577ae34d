"""What rooms show: a code every 30 seconds, by a show's cycle or a routine's script.

Code c has topic k(c) and highlight h_c; a room also has a mood r (battle, guest) that is seen only
through the crowd. Compiled loops: import this module only where content is on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np

from recsys.platform.parameters import N_STYLES, N_TOPICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recsys.platform.parameters import PlatformParameters

SEGMENTS = 120  # of 30 seconds in an hour

_OWN = 8  # codes of a show
_STRAY = 0.06  # chance that one of them is of any topic
_STATES, _SET = 4, 16  # of a routine
_MOOD_MEMORY, _MOOD_SD = 0.93, 0.30
_TASTE, _MOOD_WEIGHT, _PERSONAL = 0.72, 0.9, 0.5
_CENTRE_SAMPLE = 200_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codes:
    """All content codes: topic (S,) and highlight (S,)."""

    topic: NDArray[np.int64]
    highlight: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Programme:
    """What every room shows in every segment: code and mood, both (segments, J)."""

    code: NDArray[np.int32]
    mood: NDArray[np.float32]


def draw_codes(n_codes: int, rng: np.random.Generator) -> Codes:
    """Codes with their topics in turn and highlights clip(Gamma(.6, 1) - .6, -.6, 2.5)."""
    highlight = np.clip(rng.gamma(0.6, 1.0, n_codes) - 0.6, -0.6, 2.5)
    return Codes(topic=np.arange(n_codes) % N_TOPICS, highlight=highlight)


def draw_programme(
    parameters: PlatformParameters,
    codes: Codes,
    *,
    topic: NDArray[np.int64],
    style: NDArray[np.int64],
    n_hours: int,
    seed: tuple[int, int],
) -> Programme:
    """Codes and moods of rooms (J,) with these topics and styles over hours."""
    rng = np.random.default_rng(seed)
    n_rooms = len(topic)
    show = parameters.programme == "show"
    walk = _show(codes, topic, rng) if show else _routine(codes, style, rng)
    code = np.empty((n_hours * SEGMENTS, n_rooms), dtype=np.int32)
    mood = np.empty((n_hours * SEGMENTS, n_rooms), dtype=np.float32)
    level = rng.normal(0, _MOOD_SD / np.sqrt(1 - _MOOD_MEMORY**2), n_rooms)
    for hour in range(n_hours):  # an hour at a time: longer draws begin with the shorter ones
        here = slice(hour * SEGMENTS, (hour + 1) * SEGMENTS)
        walk.advance(rng.random((SEGMENTS, n_rooms, 4)), code[here])
        shocks = rng.normal(0, _MOOD_SD, (SEGMENTS, n_rooms))
        for segment in range(SEGMENTS):
            level = _MOOD_MEMORY * level + shocks[segment]
            mood[hour * SEGMENTS + segment] = level
    return Programme(code=code, mood=mood)


def content_weights(
    parameters: PlatformParameters,
    codes: Codes,
    programme: Programme,
    *,
    taste: NDArray[np.float64],
    viewer_type: NDArray[np.float64],
    segments: slice,
) -> NDArray[np.float64]:
    """Mean of exp(C) over some segments, shape (N, J): C as in `log_centre`.

    A product of viewers' tastes by topic and rooms' time by topic, so that no loop over pairs and
    segments is needed; by code where viewers differ in their taste for highlights.
    """
    code, mood = programme.code[segments], programme.mood[segments]
    n_segments, n_rooms = code.shape
    room = np.broadcast_to(np.arange(n_rooms), code.shape)
    lively = np.exp(_MOOD_WEIGHT * mood.astype(np.float64))
    if parameters.personal:
        shown, column = np.unique(code, return_inverse=True)
        liking = np.exp(
            _TASTE * taste[:, codes.topic[shown]]
            + codes.highlight[shown] * (1 + _PERSONAL * viewer_type[:, None])
        )
        column = column.reshape(code.shape)
    else:
        liking = np.exp(_TASTE * taste)
        lively = lively * np.exp(codes.highlight[code])
        column = codes.topic[code]
    width = liking.shape[1]
    cell = (room * width + column).ravel()
    by_room = np.bincount(cell, lively.ravel(), n_rooms * width).reshape(n_rooms, width)
    return np.asarray(liking @ by_room.T / n_segments)


def log_centre(
    parameters: PlatformParameters,
    codes: Codes,
    programme: Programme,
    *,
    taste: NDArray[np.float64],
    viewer_type: NDArray[np.float64],
    seed: tuple[int, int],
) -> float:
    """Log of the mean of exp(C) over a sample of viewers, rooms and segments of the first day.

    C = .72 t_{i,k(c)} + h_c (1 + .5 v_i personal) + .9 r. Subtracting it leaves the market's level
    where it is without content.
    """
    rng = np.random.default_rng(seed)
    viewer = rng.integers(0, len(taste), _CENTRE_SAMPLE)
    segment = rng.integers(0, min(len(programme.code), 24 * SEGMENTS), _CENTRE_SAMPLE)
    room = rng.integers(0, programme.code.shape[1], _CENTRE_SAMPLE)
    code = programme.code[segment, room]
    excitement = 1 + _PERSONAL * viewer_type[viewer] * parameters.personal
    utility = (
        _TASTE * taste[viewer, codes.topic[code]]
        + codes.highlight[code] * excitement
        + _MOOD_WEIGHT * programme.mood[segment, room]
    )
    return float(np.log(np.mean(np.exp(utility))))


class _Show:
    """Eight codes of one's own, each for some segments, mostly in a cycle."""

    def __init__(self, own: NDArray[np.int32], rng: np.random.Generator) -> None:
        self.own = own
        self.place = rng.integers(0, _OWN, len(own))
        self.left = np.zeros(len(own), dtype=np.int64)

    def advance(self, u: NDArray[np.float64], out: NDArray[np.int32]) -> None:
        """Codes of the next segments, in place."""
        _show_segments(self.own, self.place, self.left, u, out)


def _show(codes: Codes, topic: NDArray[np.int64], rng: np.random.Generator) -> _Show:
    """Every room's eight codes: of its topic, or with a small chance any."""
    n_codes = len(codes.topic)
    per_topic = -(-(n_codes - topic) // N_TOPICS)  # codes of a topic: they come in turn
    home = topic[:, None] + N_TOPICS * (rng.random((len(topic), _OWN)) * per_topic[:, None]).astype(
        np.int64
    )
    stray = rng.integers(0, n_codes, home.shape)
    own = np.where(rng.random(home.shape) < _STRAY, stray, home)
    return _Show(own.astype(np.int32), rng)


class _Routine:
    """States with 16 codes each; the next code by the style's script, or a favourite."""

    def __init__(
        self,
        sets: NDArray[np.int32],
        script: NDArray[np.int64],
        style: NDArray[np.int64],
        favourites: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        self.sets, self.script, self.style, self.favourites = sets, script, style, favourites
        weights = np.arange(1, _SET + 1) ** -0.7
        self.zipf = np.cumsum(weights / weights.sum())
        self.state = rng.integers(0, _STATES, len(style))
        self.last = rng.integers(0, _SET, (len(style), 2))

    def advance(self, u: NDArray[np.float64], out: NDArray[np.int32]) -> None:
        """Codes of the next segments, in place."""
        _routine_segments(
            self.sets, self.script, self.style, self.favourites, self.zipf, self.state, self.last,
            u, out,
        )  # fmt: skip


def _routine(codes: Codes, style: NDArray[np.int64], rng: np.random.Generator) -> _Routine:
    """Sets and scripts of the styles, favourites of the rooms."""
    n_codes = len(codes.topic)
    sets = rng.integers(0, n_codes, (N_STYLES, _STATES, _SET)).astype(np.int32)
    script = rng.integers(0, _SET, (N_STYLES, _STATES, _SET, 2))
    favourites = rng.random((len(style), _SET)).argsort(axis=1)
    return _Routine(sets, script, style, favourites, rng)


@numba.njit(cache=True)
def _show_segments(
    own: NDArray[np.int32],
    place: NDArray[np.int64],
    left: NDArray[np.int64],
    u: NDArray[np.float64],
    out: NDArray[np.int32],
) -> None:  # pragma: no cover — compiled
    """Dwell 1 + min(Geom(.45), 6) + {-1, 0, 1}; the next by the cycle with .9, else any."""
    for t in range(u.shape[0]):
        for j in range(u.shape[1]):
            if left[j] == 0:
                if u[t, j, 0] < 0.9:
                    place[j] = (place[j] + 1) % own.shape[1]
                else:
                    place[j] = int(u[t, j, 1] * own.shape[1])
                longer = 1 + int(np.log(1 - u[t, j, 2]) / np.log(0.55))
                left[j] = 1 + min(longer, 6) + int(u[t, j, 3] * 3) - 1
            left[j] -= 1
            out[t, j] = own[j, place[j]]


@numba.njit(cache=True)
def _routine_segments(
    sets: NDArray[np.int32],
    script: NDArray[np.int64],
    style: NDArray[np.int64],
    favourites: NDArray[np.int64],
    zipf: NDArray[np.float64],
    state: NDArray[np.int64],
    last: NDArray[np.int64],
    u: NDArray[np.float64],
    out: NDArray[np.int32],
) -> None:  # pragma: no cover — compiled
    """State advances with .015; else the script with .25; else a favourite, Zipf .7."""
    for t in range(u.shape[0]):
        for j in range(u.shape[1]):
            moved = u[t, j, 0] < 0.015
            if moved:
                state[j] = (state[j] + 1) % script.shape[1]
            if not moved and u[t, j, 1] < 0.25:
                chosen = script[style[j], state[j], last[j, 0], last[j, 1] % 2]
            else:
                chosen = favourites[j, np.searchsorted(zipf, u[t, j, 2])]
            last[j, 1] = last[j, 0]
            last[j, 0] = chosen
            out[t, j] = sets[style[j], state[j], chosen]
