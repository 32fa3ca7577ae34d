"""What happens round a switch: how long the platform takes to arrive at the other arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causal.effect import EffectCurve
from causal.values import is_number
from experiments.rotations.instants import MINUTE, local_times
from experiments.rotations.slice_coins import read_rotation
from experiments.rotations.slice_readings import check_both_arms
from experiments.rotations.slice_rows import Roles, timed_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.frame import Table
    from experiments.designs.rotation import Schedule
    from experiments.rotations.slice_coins import Coins, Rotation

_PER_SLICE = 12  # bins at most in the shortest slice, unless a width is named
_DAY = 1440 * MINUTE
_FEWEST = 2  # switches of a kind in a bin: with one there is no error


def switch_event_study(
    frame: Table,
    *,
    outcome: str,
    treatment: str,
    time: str,
    unit: str | None = None,
    schedule: Schedule | None = None,
    points: Sequence[int] | None = None,
    slice_minutes: float | None = None,
    weight: str | None = None,
    width: float | None = None,
) -> EffectCurve:
    """Outcome round switches to treatment against round switches away from it, by time since.

    Before a switch the curve is minus the effect, after it plus the effect, if nothing lags: what
    it takes to get there is carry-over, and what moves before 0 is anticipation.

    Parameters
    ----------
    frame, outcome, treatment, time, unit, schedule, points, slice_minutes, weight
        As in `switchback_effect`.
    width : float, optional
        Of a bin, in minutes; in periods where time is periods. By default a twelfth of the
        shortest slice, rounded up to the log's own steps.

    Returns
    -------
    EffectCurve
        By ``since_switch``, the first instant of each bin (negative before the switch), with the
        joint covariance: switches are in several bins.

    Raises
    ------
    ValueError
        If fewer than two switches each way are seen, `width` is not positive, or as in
        `switchback_effect`.

    Notes
    -----
    Means over switches of the outcome minus its mean at the same clock time of the same unit;
    errors as if switches were independent, t with their number less 2 degrees of freedom. Bins
    reach from half a slice before to the end of the slice. Not corrected for: switches that follow
    each other so soon that the first has not faded.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"t": range(1, 97), "arm": [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0] * 8})
    >>> log["y"] = log["arm"] + log["t"] % 7 / 10
    >>> roles = {"outcome": "y", "treatment": "arm", "time": "t", "slice_minutes": 3}
    >>> switch_event_study(log, **roles).index
    (-1, 0, 1, 2)
    """
    roles = Roles(outcome, treatment, time, unit, weight)
    timed = timed_rows(frame, roles)
    if width is not None and not (is_number(width) and width > 0):
        raise ValueError(f"width must be positive; got {width!r}")
    step = None if width is None else timed.kind.length("width", width)
    rotation = read_rotation(
        timed, schedule=schedule, points=points, slice_minutes=slice_minutes, exact=True
    )
    check_both_arms(rotation)
    shortest = int((rotation.coins.end - rotation.coins.start).min())
    step = _default_step(rotation, shortest) if step is None else step
    event, bins = _events(rotation, shortest, step)
    return _curve(rotation, event, bins, step)


def _default_step(rotation: Rotation, shortest: int) -> int:
    """A twelfth of the shortest slice, rounded up to steps between instants."""
    steps = np.diff(np.unique(rotation.cells.time))
    own = int(steps.min()) if len(steps) else shortest
    if rotation.kind.stamps and shortest >= _PER_SLICE * MINUTE:
        own = max(own, MINUTE)
    return -(-shortest // (_PER_SLICE * own)) * own  # steps of the log: slices may end anywhere


def _events(
    rotation: Rotation, shortest: int, step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each cell twice (after its own slice's start, before the next one's): event and bin.

    The event is the slice that begins with a switch, -1 where there is none.
    """
    coins, time, last = rotation.coins, rotation.cells.time, rotation.last
    switched = _switched(coins)
    after = time - coins.start[last]
    own = np.where(switched[last] & (after < shortest), last, -1)
    follows = np.minimum(last + 1, len(coins) - 1)
    before = time - coins.start[follows]
    soon = switched[follows] & (follows > last) & (-before <= shortest // 2)
    upcoming = np.where(soon, follows, -1)
    event = np.concatenate([own, upcoming])
    return event, np.floor_divide(np.concatenate([after, before]), step)


def _switched(coins: Coins) -> NDArray[np.bool_]:
    """Slices that begin with a switch from the slice just before them."""
    found = np.zeros(len(coins), dtype=bool)
    chained = (coins.chain[1:] == coins.chain[:-1]) & (np.diff(coins.number) == 1)
    found[1:] = chained & (coins.arm[1:] != coins.arm[:-1])
    return found


def _around_clock(rotation: Rotation) -> NDArray[np.float64]:
    """Outcomes minus their mean at the same clock time of the same chain."""
    cells, n = rotation.cells, len(rotation.cells)
    clock = np.zeros(n, dtype=np.int64)
    if rotation.kind.stamps:
        when = local_times(cells.time, rotation.kind, rotation.zone).tz_localize(None)
        clock = np.asarray(when.as_unit("us").asi8) % _DAY
    key = np.unique(np.column_stack([rotation.chain, clock]), axis=0, return_inverse=True)[1]
    key = key.ravel()
    total = np.bincount(key, cells.size)
    mean = np.bincount(key, cells.size * cells.outcome) / np.where(total > 0, total, 1.0)
    return np.asarray(cells.outcome - mean[key])


def _curve(
    rotation: Rotation, event: NDArray[np.int64], bins: NDArray[np.int64], step: int
) -> EffectCurve:
    """Difference between both kinds of switches in each bin, with the joint covariance."""
    coins, cells = rotation.coins, rotation.cells
    size = np.tile(cells.size, 2)
    outcome = np.tile(_around_clock(rotation), 2)
    used = event >= 0
    events, e = np.unique(event[used], return_inverse=True)
    places, b = np.unique(bins[used], return_inverse=True)
    at = e * len(places) + b
    shape = (len(events), len(places))
    weight = np.bincount(at, size[used], len(events) * len(places)).reshape(shape)
    total = np.bincount(at, (size * outcome)[used], weight.size).reshape(shape)
    value = np.divide(total, weight, out=np.zeros(shape), where=weight > 0)
    seen = weight > 0
    on = coins.arm[events] == 1
    counts = [(seen & kind[:, None]).sum(axis=0) for kind in (on, ~on)]
    kept = np.minimum(*counts) >= _FEWEST
    if not kept.any():
        raise ValueError(
            f"{_FEWEST} switches to treatment and {_FEWEST} away from it are needed; the log has "
            f"{int(on.sum())} and {int((~on).sum())}: pass a longer one"
        )
    estimate, scores = np.zeros(int(kept.sum())), np.zeros((len(events), int(kept.sum())))
    for kind, sign in ((on, 1.0), (~on, -1.0)):
        here = seen[:, kept] & kind[:, None]
        n = here.sum(axis=0)
        mean = np.where(here, value[:, kept], 0.0).sum(axis=0) / n
        estimate += sign * mean
        scores += np.where(here, value[:, kept] - mean, 0.0) / n * np.sqrt(n / (n - 1))
    minute = rotation.kind.minute
    return EffectCurve(
        index=tuple(_plain(int(p) * step / minute) for p in places[kept]),
        index_name="since_switch",
        estimate=estimate,
        cov=scores.T @ scores,
        estimand="switches to treatment minus switches away",
        method="means over switches, around the clock's own",
        n_obs=int(cells.n.sum()),
        n_clusters=len(events),
        df=float(max(len(events) - 2, 1)),
        details={"index_unit": rotation.kind.unit},
    )


def _plain(value: float) -> float | int:
    """A whole number as such."""
    return int(value) if value == int(value) else float(value)
