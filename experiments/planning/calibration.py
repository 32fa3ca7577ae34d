"""A twin of the user's platform: the simulated world fitted to a log, and what could not be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import optimize

from causal.frame import (
    Table,
    check_columns,
    column_names,
    fetch_arrow,
    in_memory_rows,
    offenders,
    open_table,
    read_columns,
)
from causal.values import whole_number
from experiments.rotations.instants import MINUTE, read_times
from recsys import Arms, LivePlatform, Strategy, flow_worlds
from recsys.platform.draws import hourly_presence

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_VIEWERS, _MOST_AUTHORS = 1000, 300  # of the twin
_LEAST_HOURS = 72
_HOURS = 96  # of a run that a moment is simulated on
_ROUNDS = 3
_STEPS = 7  # halvings of a parameter's range in a round
_RANGES = {"u0": (-2.0, 9.0), "quality_sd": (0.0, 2.5), "activity_sd": (0.0, 2.5)}
_NOT_IDENTIFIED = (
    "a0 and the outside share (only their product is seen: watching)",
    "eta, rho_h (habit: a rotation pilot tells)",
    "psi, rho_e (effort: needs variation on the authors' side)",
    "kappa, chi, rho_m (crowding and heat: needs exogenous audiences)",
    "pk, b_pk (battles are not in the log)",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """A platform fitted to a log.

    Attributes
    ----------
    platform : LivePlatform
        The twin; at most 1,000 viewers and 300 authors.
    fit : DataFrame
        moment, parameter, observed, simulated.
    not_identified : tuple of str
        What the log says nothing of: these parameters keep their defaults.
    sizes : tuple of int
        Viewers and authors of the log's platform, of which the twin may have fewer.
    viewer_noise : float
        Variance of a viewer's watching in a day that his watching before does not explain, over the
        squared mean: the platform in expectation has less.
    """

    platform: LivePlatform
    fit: pd.DataFrame
    not_identified: tuple[str, ...]
    sizes: tuple[int, int]
    viewer_noise: float

    def summary(self) -> str:
        """The moments, and what is not identified."""
        moments = [
            f"{row['moment']}: {row['observed']:.3g} observed, {row['simulated']:.3g} simulated"
            for row in self.fit.to_dict("records")
        ]
        return "\n".join([*moments, "not identified: " + "; ".join(self.not_identified)])


def calibrate_platform(
    log: Table,
    *,
    viewer: str = "viewer_id",
    author: str = "author_id",
    time: str = "timestamp",
    watch: str = "watch",
    n_viewers: int | None = None,
    seed: int = 0,
) -> Calibration:
    """Fit the simulated platform to a log of watching, for designs to be compared on.

    Parameters
    ----------
    log : Table
        Rows of who watched whom when, any kind that the door takes; three days or more.
    viewer, author, time : str
        Columns of ids and of instants.
    watch : str
        Column of minutes watched, 0 or more.
    n_viewers : int, optional
        Viewers of the platform, those without a row included; by default those in the log.
    seed : int
        Of the twin.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If a column is absent or holds gaps, minutes are negative, infinite or all 0, the log is
        empty, shorter than three days or has fewer than two viewers, or `n_viewers` is less than
        the log has.
    TypeError
        If `time` does not hold instants, or `watch` no numbers.

    Notes
    -----
    Moments in order: swing of watching over the day -> tod; memory and sd of what is left hour by
    hour -> rho_s, shock; share of hours in which an author is live at all -> live_share;
    spread of authors' audiences -> quality_sd; mean watching -> u0; spread of viewers' watching
    that lasts from one half of the log to the other -> activity_sd. The last three by simulation,
    in turn. The twin's day begins where the platform's does: the hour of the peak is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> at = pd.date_range("2026-03-02", periods=9000, freq="min")
    >>> log = pd.DataFrame({"timestamp": at, "watch": 4.0}).assign(
    ...     viewer_id=np.arange(9000) * 7 % 50, author_id=np.arange(9000) % 8)
    >>> calibrate_platform(log).platform.n_authors
    8
    """
    seed = whole_number("seed", seed, 0)
    moments = _observed(log, viewer, author, time, watch, n_viewers)
    platform = LivePlatform(
        n_viewers=min(moments.n_viewers, _MOST_VIEWERS),
        n_authors=min(moments.n_authors, _MOST_AUTHORS),
        seed=seed,
        live_share=_live_share(moments.presence),
        rho_s=moments.memory,
    )
    platform = _fitted(platform, moments)
    simulated = _simulated(platform)
    simulated["shock"] = platform.parameters.shock * _sensitivity(platform)
    names = {
        "mean watching share": ("u0", "level"),
        "sd of the logarithm of authors' audiences": ("quality_sd", "authors"),
        "sd of viewers' watching that lasts, over its mean": ("activity_sd", "viewers"),
        "swing of watching over the day, in logarithms": ("tod", "swing"),
        "sd of hourly watching beyond the day, in logarithms": ("shock", "shock"),
    }
    rows = [(m, p, getattr(moments, a), simulated[a]) for m, (p, a) in names.items()]
    rows += [
        ("memory of hourly watching beyond the day", "rho_s", moments.memory, moments.memory),
        (
            "share of hours with watching, by author",
            "live_share",
            moments.presence,
            hourly_presence(platform.parameters.live_share),
        ),
    ]
    return Calibration(
        platform=platform,
        fit=pd.DataFrame(rows, columns=["moment", "parameter", "observed", "simulated"]),
        not_identified=_NOT_IDENTIFIED,
        sizes=(moments.n_viewers, moments.n_authors),
        viewer_noise=moments.viewer_noise,
    )


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """What is fitted."""

    n_viewers: int
    n_authors: int
    level: float
    swing: float
    memory: float
    shock: float
    presence: float
    authors: float
    viewers: float
    viewer_noise: float


def _observed(
    log: Table, viewer: str, author: str, time: str, watch: str, n_viewers: int | None
) -> _Moments:
    """Moments of the log, from three sums of it."""
    ids, minutes, stamps = _read(log, viewer, author, time, watch)
    hour = (stamps - stamps.min()) // (60 * MINUTE)
    n_hours = int(hour.max()) + 1
    if n_hours < _LEAST_HOURS:
        raise ValueError(f"the log must cover {_LEAST_HOURS} hours or more; it covers {n_hours}")
    who, viewers = pd.factorize(ids[viewer])
    whom, authors = pd.factorize(ids[author])
    total = len(viewers) if n_viewers is None else whole_number("n_viewers", n_viewers, 2)
    if total < 2:
        raise ValueError(f"column {viewer!r} must hold two viewers or more; it holds {total}")
    if total < len(viewers):
        raise ValueError(
            f"n_viewers must be at least the log's {len(viewers)} viewers; got {total}"
        )
    by_hour = np.bincount(hour, minutes, n_hours) / (60 * total)
    present = np.zeros((n_hours, len(authors)), dtype=bool)
    present[hour, whom] = True
    half = (hour // 24) % 2
    halves = np.stack(
        [np.bincount(who[half == h], minutes[half == h], total) for h in (0, 1)]
    ).astype(np.float64)
    presence = float(present.mean())
    return _Moments(
        n_viewers=total,
        n_authors=len(authors),
        level=float(by_hour.mean()),
        presence=1.0 if presence > 0.95 else max(presence, 0.01),
        authors=_log_spread(np.bincount(whom, minutes).astype(np.float64)),
        viewers=_lasting(halves),
        viewer_noise=_unexplained(halves) * n_hours / 48,
        **_hourly(by_hour),
    )


def _read(
    log: Table, viewer: str, author: str, time: str, watch: str
) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64], NDArray[np.int64]]:
    """Ids by column, minutes and instants of the log, row by row."""
    columns = {"viewer": viewer, "author": author, "time": time, "watch": watch}
    wanted = check_columns(column_names(log), columns)
    # one table in memory for all columns: an engine may hand out rows in another order each time
    rows = log
    if in_memory_rows(log) is None:
        rows = fetch_arrow(open_table(log, columns=wanted))
    found = read_columns(rows, numeric=[watch], labels=[viewer, author])
    minutes = found.pop(watch)
    if (negative := minutes < 0).any():
        what = ("hold minutes of 0 or more", negative, minutes, "correct or drop them")
        raise ValueError(offenders(f"column {watch!r}", *what))
    if not minutes.any():
        raise ValueError(f"column {watch!r} must hold minutes of watching; all are 0")
    stamps, kind = read_times(rows, time)
    if not kind.stamps:
        raise TypeError(f"column {time!r} must hold instants; it holds numbers: convert it first")
    return found, minutes, stamps


def _live_share(presence: float) -> float:
    """Share of time live whose share of hours with a live minute is this."""
    if presence == 1:
        return 1.0
    found = optimize.brentq(lambda share: hourly_presence(share) - presence, 1e-6, 1 - 1e-9)
    return float(found)


def _hourly(by_hour: NDArray[np.float64]) -> dict[str, float]:
    """Swing over the day, and sd and memory of the rest, of the logarithm of hourly watching."""
    watched = by_hour > 0
    log = np.log(np.where(watched, by_hour, by_hour[watched].min()))
    hour = np.arange(len(log)) % 24
    angle = 2 * np.pi * hour / 24
    design = np.column_stack([np.ones(len(log)), np.sin(angle), np.cos(angle)])
    coef = np.linalg.lstsq(design, log, rcond=None)[0]
    profile = np.array([log[hour == h].mean() for h in range(24)])
    rest = log - profile[hour]
    cov = [float(np.mean(rest[k:] * rest[: len(rest) - k])) for k in range(3)]
    # white noise of single hours moves neither of these
    memory = min(max(cov[2] / cov[1], 0.0), 0.99) if cov[1] > 0 else 0.0
    shock = math.sqrt(cov[1] / memory) if memory > 0 and cov[1] > 0 else 0.0
    return {"swing": float(np.hypot(coef[1], coef[2])), "memory": memory, "shock": shock}


def _log_spread(audience: NDArray[np.float64]) -> float:
    """Standard deviation of the logarithm of authors' audiences."""
    seen = audience[audience > 0]
    return float(np.log(seen).std(ddof=1)) if len(seen) > 1 else 0.0


def _lasting(halves: NDArray[np.float64]) -> float:
    """Coefficient of variation of viewers' watching, from the covariance of two halves."""
    shared = float(np.cov(halves)[0, 1])
    return math.sqrt(max(shared, 0.0) / float(np.prod(halves.mean(axis=1))))


def _unexplained(halves: NDArray[np.float64]) -> float:
    """What one half leaves of the variance of the other, over the squared mean."""
    cov = np.cov(halves)
    left = float(cov[1, 1]) - (float(cov[0, 1]) ** 2 / float(cov[0, 0]) if cov[0, 0] > 0 else 0.0)
    return max(left, 0.0) / float(halves[1].mean()) ** 2


def _fitted(platform: LivePlatform, moments: _Moments) -> LivePlatform:
    """Parameters in turn, each by halving its range until its moment is met."""
    for _ in range(_ROUNDS):
        for name, moment, rises in (
            ("u0", "level", False),
            ("quality_sd", "authors", True),
            ("activity_sd", "viewers", True),
        ):
            target = getattr(moments, moment)
            platform = _halved(platform, name, moment, target, rises=rises)
        swing = _simulated(platform)["swing"]
        platform = platform.replace(tod=min(platform.parameters.tod * moments.swing / swing, 3.0))
    return platform.replace(shock=moments.shock / _sensitivity(platform))


def _halved(
    platform: LivePlatform,
    name: str,
    moment: str,
    target: float,
    *,
    rises: bool,
) -> LivePlatform:
    """The platform with the parameter whose simulated moment is nearest to a target."""
    low, high = _RANGES[name]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        above = _simulated(platform.replace(**{name: middle}))[moment] > target
        if above == rises:
            high = middle
        else:
            low = middle
    return platform.replace(**{name: (low + high) / 2})


def _simulated(platform: LivePlatform) -> dict[str, float]:
    """The same moments of a platform without treatment and without a common shock."""
    paths = flow_worlds(
        platform.replace(shock=0.0),
        {"none": Arms.none()},
        strategy=Strategy(0.0),
        hours=_HOURS,
        warm_up_hours=24,
    )["none"]
    viewers = np.asarray(paths.by_viewer)
    return {
        "level": float(paths.watch.mean()),
        "authors": _log_spread(np.asarray(paths.by_author)),
        "viewers": float(viewers.std(ddof=1) / viewers.mean()),
        "swing": _hourly(paths.watch)["swing"],
    }


def _sensitivity(platform: LivePlatform) -> float:
    """Change of the logarithm of watching by a unit of the online logit."""
    a0, step = platform.parameters.a0, 0.1
    low, high = (_simulated(platform.replace(a0=a0 + d))["level"] for d in (-step, step))
    return (math.log(high) - math.log(low)) / (2 * step)


def as_platform(value: Any) -> LivePlatform:  # noqa: ANN401 — what a user passes
    """A platform, or that of a calibration.

    Raises
    ------
    TypeError
        If it is neither.
    """
    found = value.platform if isinstance(value, Calibration) else value
    if not isinstance(found, LivePlatform):
        raise TypeError(
            "platform must be a LivePlatform or what calibrate_platform returns; got "
            f"{type(value).__name__}"
        )
    return found
