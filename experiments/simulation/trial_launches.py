"""A launch that nothing drew by lot: regions that get the strategy, and how their panel is read."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from causal.did.regression import diff_in_diff, event_study
from causal.frame import check_one_of
from causal.staggered.group_time import group_time_effects
from causal.synthetic.control import synthetic_control
from causal.synthetic.synthetic_did import synthetic_diff_in_diff
from causal.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from recsys import LivePlatform

Where: TypeAlias = Literal["typical", "most_active", "least_active"]
LaunchReading: TypeAlias = Literal[
    "did", "event_study", "group_time", "synthetic_control", "synthetic_did"
]

FEWEST_REGIONS = 4  # of a platform on which a launch can be read
_FEWEST_BEFORE = 4  # periods
_WHERE = ("typical", "most_active", "least_active")
_WORDS: dict[str, str] = {
    "did": "DID",
    "event_study": "event study",
    "group_time": "group-time effects",
    "synthetic_control": "synthetic control",
    "synthetic_did": "synthetic DID",
}
_ROLES: dict[str, Any] = {
    "outcome": "watch",
    "unit": "region",
    "time": "period",
    "cohort": "cohort",
}


@dataclass(frozen=True)
class Launch:
    """The strategy goes live in some regions; nobody drew them by lot.

    Parameters
    ----------
    n_regions : int
        Regions that get it; two or more must be left to compare with.
    waves : int
        So many groups of them go live one after another, evenly over the run, the first at its
        start.
    where : {"typical", "most_active", "least_active"}
        Regions whose viewers' mean activity is nearest to the median region's, highest, or lowest.
    reading : {"did", "event_study", "group_time", "synthetic_control", "synthetic_did"}
        How it is read; waves are read by ``"group_time"``.

    Raises
    ------
    ValueError
        If a number is out of its range, a choice is unknown, or waves are read by another method.

    Notes
    -----
    The p-value of a synthetic control is a rank among the regions: with fewer than 20 of them it is
    never below 5 %, so that power and size are 0. Intervals are those of the standard error.

    Examples
    --------
    >>> Launch(4, where="most_active").words
    'launch in 4 most active regions, DID'
    """

    n_regions: int = 1
    _: KW_ONLY
    waves: int = 1
    where: Where = "typical"
    reading: LaunchReading = "did"

    def __post_init__(self) -> None:
        whole_number("n_regions", self.n_regions, 1)
        whole_number("waves", self.waves, 1)
        check_one_of(self.where, "where", _WHERE)
        check_one_of(self.reading, "reading", list(_WORDS))
        if self.waves > self.n_regions:
            raise ValueError(f"waves must be at most n_regions {self.n_regions}; got {self.waves}")
        if self.waves > 1 and self.reading != "group_time":
            raise ValueError(
                f"waves={self.waves} start at several times, which {self.reading!r} mixes up: take "
                "reading='group_time'"
            )

    @property
    def words(self) -> str:
        """The launch in a few words."""
        which = self.where.replace("_", " ")
        regions = f"{self.n_regions} {which} region{'s' if self.n_regions > 1 else ''}"
        waves = f", {self.waves} waves" if self.waves > 1 else ""
        return f"launch in {regions}{waves}, {_WORDS[self.reading]}"

    def first(self, platform: LivePlatform, n_periods: int) -> NDArray[np.int64]:
        """First live period of each region, `n_periods` for never.

        Raises
        ------
        ValueError
            If too few regions are left to compare with.
        """
        left = platform.n_regions - self.n_regions
        if left < 2 or platform.n_regions < FEWEST_REGIONS:
            raise ValueError(
                f"a launch needs {FEWEST_REGIONS} regions or more, two of them without it; the "
                f"platform has {platform.n_regions}, of which {self.n_regions} would get it"
            )
        who = platform.viewers
        activity = who.groupby("region")["activity"].mean().to_numpy()
        key = {
            "typical": np.abs(activity - np.median(activity)),
            "most_active": -activity,
            "least_active": activity,
        }[self.where]
        chosen = np.argsort(key, kind="stable")[: self.n_regions]
        first = np.full(platform.n_regions, n_periods, dtype=np.int64)
        for wave, regions in enumerate(np.array_split(chosen, self.waves)):
            first[regions] = n_periods * wave // self.waves
        return first


class Parts(NamedTuple):
    """What a launch's reading is made of, in units of the outcome.

    `target`: what it reads less what it reads with nothing launched; `live`: mean gain of the
    cells that are live; `trend`: what it reads with nothing launched. target - live is what
    reaches it through regions that are not live.
    """

    target: float
    live: float
    trend: float


def ticks_of_period(n_run: int, n_before: int, most: int) -> int:
    """The longest period, in ticks, that fills both times and is at most a day.

    Raises
    ------
    ValueError
        If none leaves four periods before.
    """
    lengths = range(1, max(min(most, n_before // _FEWEST_BEFORE), 0) + 1)
    whole = [d for d in lengths if n_run % d == 0 and n_before % d == 0]
    if not whole:
        raise ValueError(
            f"a launch is compared with the time before it: before_hours must hold "
            f"{_FEWEST_BEFORE} periods or more; it holds {n_before} ticks"
        )
    return max(whole)


def region_panel(
    watch: NDArray[np.float64], first: NDArray[np.int64], n_before: int
) -> pd.DataFrame:
    """One row a region and period: region, period (0: the start), cohort (NaN: never), watch.

    watch (R, periods); first (R,) live period, the number of later periods for never.
    """
    n_regions, n_periods = watch.shape
    never = first >= n_periods - n_before
    return pd.DataFrame(
        {
            "region": np.repeat(np.arange(n_regions), n_periods),
            "period": np.tile(np.arange(n_periods) - n_before, n_regions),
            "cohort": np.repeat(np.where(never, np.nan, first), n_periods),
            "watch": watch.ravel(),
        }
    )


def read_launch(launch: Launch, table: pd.DataFrame) -> Any:  # noqa: ANN401 — results by reading
    """A launch's panel read as its analyst would."""
    with one_thread():
        if launch.reading == "did":
            return diff_in_diff(table, covariance="CR2", **_ROLES)
        if launch.reading == "event_study":
            return event_study(table, covariance="CR2", **_ROLES)
        if launch.reading == "group_time":
            return group_time_effects(table, **_ROLES)
        if launch.reading == "synthetic_control":
            return synthetic_control(table, **_ROLES)
        return synthetic_diff_in_diff(table, **_ROLES)


def parts_of(launch: Launch, table: pd.DataFrame, idle: pd.DataFrame) -> Parts:
    """What a launch reads, from its panel and that of the same draws with nothing launched.

    The reading is a weighted sum of cells; donors' weights come from the time before, which both
    panels share.
    """
    weights = cell_weights(launch, table)
    y, nothing = (_cells(t, "watch") for t in (table, idle))
    trend = float((weights * nothing).sum())
    return Parts(float((weights * y).sum()) - trend, live_gain(table, idle), trend)


def live_gain(table: pd.DataFrame, idle: pd.DataFrame) -> float:
    """Mean gain of the cells that are live."""
    gain = table["watch"].to_numpy() - idle["watch"].to_numpy()
    return float(gain[(table["period"] >= table["cohort"]).to_numpy()].mean())


def cell_weights(launch: Launch, table: pd.DataFrame) -> NDArray[np.float64]:
    """Weights of cells whose weighted sum is the reading, shape (R, periods)."""
    cohort, period = _cells(table, "cohort"), _cells(table, "period")[0]
    first = cohort[:, 0]
    treated = np.isfinite(first)
    if launch.reading == "group_time":
        return _group_time(first, period)
    after = period >= 0
    sides = np.where(treated, 1 / treated.sum(), -1 / (~treated).sum())
    times = np.where(after, 1 / after.sum(), -1 / (~after).sum())
    if launch.reading == "event_study":
        times = np.where(after, times, np.where(period == -1, -1.0, 0.0))
    elif launch.reading == "synthetic_control":
        times = np.where(after, times, 0.0)
        found = read_launch(launch, table).unit_weights
        share = found.groupby("donor")["weight"].sum() / treated.sum()
        sides = np.where(treated, sides, -share.reindex(np.arange(len(first)), fill_value=0.0))
    elif launch.reading == "synthetic_did":
        result = read_launch(launch, table)
        share = result.unit_weights.set_index("unit")["weight"]
        earlier = result.time_weights.set_index("time")["weight"]
        sides = np.where(treated, sides, -share.reindex(np.arange(len(first)), fill_value=0.0))
        times = np.where(after, times, -earlier.reindex(period, fill_value=0.0))
    return np.asarray(sides[:, None] * times)


def _group_time(first: NDArray[np.float64], period: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every cohort in every live period against regions without it, from the period before it."""
    never = ~np.isfinite(first)
    live = period >= first[:, None]
    weights = np.where(live, 1 / live.sum(), 0.0)
    weights[never] = -weights[~never].sum(axis=0) / never.sum()
    for start in np.unique(first[~never]):
        mine, base = first == start, int(np.flatnonzero(period == start - 1)[0])
        share = live[mine].sum() / live.sum()
        weights[mine, base] -= share / mine.sum()
        weights[never, base] += share / never.sum()
    return weights


def _cells(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as regions by periods."""
    return np.asarray(
        table[column].to_numpy(dtype=np.float64).reshape(table["region"].nunique(), -1)
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread in compiled loops: replications run side by side, and panels are small."""
    import numba  # noqa: PLC0415 — loaded only when used

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
