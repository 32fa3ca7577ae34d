"""What flows return: one world's watching, in sums, with tables of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recsys.platform.arms import ArmPaths
    from recsys.platform.world import LivePlatform


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowPaths:
    """One world of the platform in expectation: N viewers, J authors, R regions, T ticks.

    Attributes
    ----------
    watch : array (T,)
        Mean watching share of all viewers; 60 times it is minutes per viewer and hour.
    by_region : array (R, T)
        The same by region.
    by_viewer, by_author : array (N,), array (J,), or None
        Watch minutes over the run; None where only totals were recorded.
    before_watch : array (T0,)
        `watch` in the hours before.
    before_viewer, before_author : array (N,), array (J,), or None
        Watch minutes in the hours before.
    cells : array (2, 2)
        Watch minutes by viewer arm and author arm.
    effort : array (J,)
        Authors' effort at the end.
    live_minutes : array (J,)
        Minutes that each author was live.
    outside_share : float
        Share of online time spent outside live rooms.
    entangled_share : float
        Share of watch in battles whose two rooms have different arms.
    pairs : array (N, J) or None
        Watch minutes of every pair, if recorded.
    by_arm, arm_viewers : array (2, R, T)
        Watching summed over the viewers of an arm, and their number, by region.
    tick_minutes : float
    arms : ArmPaths
        Who was treated when.
    platform : LivePlatform
    """

    watch: NDArray[np.float64]
    by_region: NDArray[np.float64]
    by_viewer: NDArray[np.float64] | None
    by_author: NDArray[np.float64] | None
    before_watch: NDArray[np.float64]
    before_viewer: NDArray[np.float64] | None
    before_author: NDArray[np.float64] | None
    cells: NDArray[np.float64]
    effort: NDArray[np.float64]
    live_minutes: NDArray[np.float64]
    outside_share: float
    entangled_share: float
    pairs: NDArray[np.float64] | None
    by_arm: NDArray[np.float64]
    arm_viewers: NDArray[np.float64]
    tick_minutes: float
    arms: ArmPaths
    platform: LivePlatform

    def viewer_table(self) -> pd.DataFrame:
        """One row a viewer: viewer_id, region, viewer_arm, watch_minutes, watch_before.

        Raises
        ------
        ValueError
            If only totals were recorded, or viewers change arms over time.
        """
        watch, before = _recorded(self.by_viewer), _recorded(self.before_viewer)
        who = self.platform.viewers
        return pd.DataFrame(
            {
                "viewer_id": who["viewer_id"],
                "region": who["region"],
                "viewer_arm": self._viewer_arm(),
                "watch_minutes": watch,
                "watch_before": before,
            }
        )

    def author_table(self) -> pd.DataFrame:
        """One row an author: author_id, author_arm, watch_minutes, watch_before, effort ...

        `live_minutes` and the watch minutes (income follows them) complete the authors' side.
        """
        return pd.DataFrame(
            {
                "author_id": self.platform.authors["author_id"],
                "author_arm": self.arms.author.astype(np.int8),
                "watch_minutes": _recorded(self.by_author),
                "watch_before": _recorded(self.before_author),
                "effort": self.effort,
                "live_minutes": self.live_minutes,
            }
        )

    def time_table(self, *, start: str | pd.Timestamp | None = None) -> pd.DataFrame:
        """One row a region and tick: region, hour (or time), time_arm, watch_minutes.

        Parameters
        ----------
        start : text or Timestamp, optional
            Instant of the first tick: adds a column ``time``.

        Returns
        -------
        DataFrame
            `watch_minutes` is per viewer and hour.
        """
        n_regions, n_ticks = self.by_region.shape
        hour = np.arange(n_ticks) * self.tick_minutes / 60
        found = pd.DataFrame(
            {
                "region": np.repeat(np.arange(n_regions), n_ticks),
                "hour": np.tile(hour, n_regions),
                "time_arm": self.arms.time.astype(np.int8).ravel(),
                "watch_minutes": 60 * self.by_region.ravel(),
            }
        )
        if start is not None:
            found.insert(2, "time", _instants(start, found["hour"]))
        return found

    def arm_table(self, *, start: str | pd.Timestamp | None = None) -> pd.DataFrame:
        """One row a region, tick and viewer arm: n_viewers, share treated, watch_minutes.

        Parameters
        ----------
        start : text or Timestamp, optional
            As in `time_table`.

        Returns
        -------
        DataFrame
            `watch_minutes` is per viewer of the arm and hour; arms without viewers have no row.
        """
        n_regions, n_ticks = self.by_region.shape
        share = self.arm_viewers[1] / self.arm_viewers.sum(axis=0)
        parts = []
        for arm in (0, 1):
            n = self.arm_viewers[arm].ravel()
            held = n > 0
            parts.append(
                pd.DataFrame(
                    {
                        "region": np.repeat(np.arange(n_regions), n_ticks)[held],
                        "hour": np.tile(np.arange(n_ticks) * self.tick_minutes / 60, n_regions)[
                            held
                        ],
                        "viewer_arm": np.int8(arm),
                        "share": share.ravel()[held],
                        "n_viewers": n[held].astype(np.int64),
                        "watch_minutes": 60 * self.by_arm[arm].ravel()[held] / n[held],
                    }
                )
            )
        found = pd.concat(parts, ignore_index=True)
        if start is not None:
            found.insert(2, "time", _instants(start, found["hour"]))
        return found

    def pair_table(self) -> pd.DataFrame:
        """One row a viewer and author: ids, arms, watch_minutes, what each watched before.

        Raises
        ------
        ValueError
            If pairs were not recorded, or viewers change arms over time.
        """
        if self.pairs is None:
            raise ValueError("pairs were not recorded: call flow_worlds with record='pairs'")
        n, m = self.pairs.shape
        authors = self.platform.authors["author_id"].to_numpy()
        return pd.DataFrame(
            {
                "viewer_id": np.repeat(self.platform.viewers["viewer_id"].to_numpy(), m),
                "author_id": np.tile(authors, n),
                "viewer_arm": np.repeat(self._viewer_arm(), m),
                "author_arm": np.tile(self.arms.author.astype(np.int8), n),
                "watch_minutes": self.pairs.ravel(),
                "viewer_watch_before": np.repeat(_recorded(self.before_viewer), m),
                "author_watch_before": np.tile(_recorded(self.before_author), n),
            }
        )

    def _viewer_arm(self) -> NDArray[np.int8]:
        """The one arm of each viewer."""
        if len(self.arms.viewer) > 1:
            raise ValueError("viewers change arms over time: read arm_table() instead")
        return np.asarray(self.arms.viewer[0].astype(np.int8))


def _recorded(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Sums by viewer or author, if they were kept."""
    if values is None:
        raise ValueError("only totals were recorded: call flow_worlds with record='viewers'")
    return values


def _instants(start: str | pd.Timestamp, hour: pd.Series[float]) -> pd.Series[pd.Timestamp]:
    """Instants of hours since a start, in microseconds."""
    minutes = pd.to_timedelta(np.round(hour.to_numpy() * 3600e6), unit="us")
    return pd.Series(pd.Timestamp(start).as_unit("us") + minutes, index=hour.index)
