"""How each design is run on the platform: its arms, the table that it leaves, how that is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from experiments.designs.design import AuthorSplit, ClusterSplit, DualSided, UserSplit
from experiments.designs.hashing import unit_hash
from experiments.designs.rotation import Saturation, Switchback
from experiments.pairs.dual_sided import dual_sided_effect
from experiments.pairs.saturation_response import share_response
from experiments.rotations.switchback import switchback_effect
from experiments.simulation.trial_launches import (
    Launch,
    Parts,
    live_gain,
    parts_of,
    read_launch,
    region_panel,
    ticks_of_period,
)
from experiments.splits.ab import ab_test
from experiments.splits.metric import Mean
from recsys import Arms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.designs.rotation import Schedule
    from experiments.simulation.trials import Reading, Trial
    from recsys import FlowPaths, LivePlatform

_FEWEST, _TRIES = 3, 50  # units of an arm that a covariate can be read on; throws
_MONDAY = pd.Timestamp("2026-03-02")  # when simulated experiments begin


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Lengths of a simulated experiment."""

    hours: float
    before_hours: float
    tick_minutes: float

    @property
    def start(self) -> pd.Timestamp:
        """First instant: its clock is the platform's."""
        return _MONDAY + pd.Timedelta(hours=self.before_hours % 24)

    @property
    def ticks(self) -> pd.DatetimeIndex:
        """Starts of the ticks."""
        minutes = np.arange(round(self.hours * 60 / self.tick_minutes)) * self.tick_minutes
        steps = pd.to_timedelta(np.round(minutes * 60e6), unit="us")
        return pd.DatetimeIndex(self.start.as_unit("us") + steps)

    @property
    def covariates(self) -> bool:
        """Whether there is a time before."""
        return self.before_hours > 0

    def per_hour_before(self) -> float:
        """Factor from minutes before the experiment to minutes an hour."""
        return 1 / self.before_hours if self.covariates else 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trial on a platform, its coins thrown by a seed; `flipped`: its mirror image."""

    record: ClassVar[Literal["viewers", "pairs"]] = "viewers"  # what `flow_worlds` must keep

    trial: Trial
    platform: LivePlatform
    setting: Setting
    seed: int
    flipped: bool = False

    @property
    def design(self) -> Any:  # noqa: ANN401 — the design of the kind of run
        """The trial's design."""
        return self.trial.design

    @cached_property
    def arms(self) -> Arms:
        """Who is treated."""
        try:
            arms = self._thrown()
        except ValueError as error:
            raise ValueError(f"{self.trial.label}: {error}") from error
        if not self.flipped:
            return arms
        names = [n for n in ("viewer", "author", "time") if np.ndim(getattr(arms, n)) > 0]
        return replace(arms, **{name: 1 - getattr(arms, name) for name in names})

    def mirrored(self) -> Run:
        """The run with everybody in the other arm."""
        return replace(self, flipped=True)

    @property
    def cancels(self) -> bool:
        """Whether the mean of a run's and its mirror's contrast is free of what no arm changes.

        Both arms of every coin are equally likely, and the contrast changes its sign with them.
        """
        names = ("share", "viewer_share", "author_share")
        shares = [getattr(self.design, name, 0.5) for name in names]
        several = getattr(self.design, "shares", None)
        even = all(share == 0.5 for share in [*shares, *(several or ())])
        return even and self.trial.estimand == "total"

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """The table that the trial leaves."""
        raise NotImplementedError

    def read(self, table: pd.DataFrame) -> Reading:
        """The trial's analysis, or the default one of its design."""
        analysis = self.trial.analysis
        return self._read(table) if analysis is None else analysis(table)

    def contrast(self, table: pd.DataFrame) -> float:
        """What the trial compares, without adjustment: for its mean over assignments."""
        arm, watch = table["arm"].to_numpy(), table["watch"].to_numpy()
        return float(watch[arm == 1].mean() - watch[arm == 0].mean())

    def _thrown(self) -> Arms:
        """The coins of the seed."""
        raise NotImplementedError

    def _read(self, table: pd.DataFrame) -> Reading:
        """The default analysis."""
        raise NotImplementedError


class ViewerRun(Run):
    """A split of viewers."""

    def _thrown(self) -> Arms:
        return Arms(viewer=_split(self.design, self.platform.viewers["viewer_id"], self.seed))

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """One row a viewer."""
        table = paths.viewer_table().rename(columns={"viewer_arm": "arm"})
        table.insert(2, "cluster", self.platform.viewers["cluster"])
        return _per_hour(table, self.setting)

    def _read(self, table: pd.DataFrame) -> Reading:
        return ab_test(table, metric=_watch(self.setting), arm="arm", control=0)


class ClusterRun(ViewerRun):
    """A split of viewers' regions, or of their groups of gender and age."""

    def _thrown(self) -> Arms:
        who = self.platform.viewers
        clusters = who[_cluster(self.platform)]
        arm = self.design.assign(who["viewer_id"], clusters=clusters, seed=self.seed)
        return Arms(viewer=arm)

    def _read(self, table: pd.DataFrame) -> Reading:
        cluster = _cluster(self.platform)
        return ab_test(table, metric=_watch(self.setting), arm="arm", control=0, cluster=cluster)


class AuthorRun(Run):
    """A split of authors."""

    def _thrown(self) -> Arms:
        return Arms(author=_split(self.design, self.platform.authors["author_id"], self.seed))

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """One row an author, scaled to what all authors give a viewer."""
        table = paths.author_table().rename(columns={"author_arm": "arm"})
        table = _per_hour(table, self.setting)
        for name in ("watch", "watch_before"):
            table[name] *= self.platform.n_authors / self.platform.n_viewers
        return table

    def _read(self, table: pd.DataFrame) -> Reading:
        return ab_test(table, metric=_watch(self.setting), arm="arm", control=0)


class DualRun(Run):
    """Both sides at once."""

    record = "pairs"

    def _thrown(self) -> Arms:
        ids = self.platform.viewers["viewer_id"], self.platform.authors["author_id"]
        both = self.design.assign(*ids, seed=self.seed)
        return Arms(viewer=both.viewer_arm, author=both.author_arm)

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """One row a pair, scaled to what all authors give a viewer."""
        table = paths.pair_table()
        before = self.setting.per_hour_before()
        table["watch"] = table.pop("watch_minutes") * (self.platform.n_authors / self.setting.hours)
        table["viewer_before"] = table.pop("viewer_watch_before") * before
        table["author_before"] = table.pop("author_watch_before") * before
        return table

    def contrast(self, table: pd.DataFrame) -> float:
        """The effect of the four cells' means."""
        cell = 2 * table["viewer_arm"].to_numpy() + table["author_arm"].to_numpy()
        watch = table["watch"].to_numpy()
        neither, author, viewer, both = (float(watch[cell == k].mean()) for k in range(4))
        return {
            "total": both - neither,
            "viewer_spillover": viewer - neither,
            "author_spillover": author - neither,
            "direct": both - viewer - author + neither,
        }[self.trial.estimand]

    def _read(self, table: pd.DataFrame) -> Reading:
        found = dual_sided_effect(
            table,
            outcome="watch",
            viewer="viewer_id",
            author="author_id",
            viewer_arm="viewer_arm",
            author_arm="author_arm",
            covariates=("viewer_before", "author_before") if self.setting.covariates else (),
        )
        effect: Reading = getattr(found, self.trial.estimand)
        return effect


class ScheduledRun(Run):
    """A design over time."""

    @cached_property
    def schedule(self) -> Schedule:
        """The plan of the seed; the design's regions are the platform's, in their order."""
        design, regions = self.design, self.platform.n_regions
        if design.regions is not None and len(design.regions) != regions:
            raise ValueError(
                f"regions must name the platform's {regions} regions in their "
                f"order; got {len(design.regions)}"
            )
        step = design.period_minutes if getattr(design, "points", None) else design.slice_minutes
        if step < self.setting.tick_minutes:
            raise ValueError(
                f"slices of {step:g} minutes need ticks of as much or less; "
                f"tick_minutes is {self.setting.tick_minutes:g}"
            )
        days = self.setting.hours / 24
        plan: Schedule = design.schedule(start=self.setting.start, days=days, seed=self.seed)
        return plan

    @property
    def regions(self) -> tuple[str | None, ...]:
        """Regions with coins of their own; one without a name where there are none."""
        names: tuple[str, ...] | None = self.design.regions
        return names or (None,)


class SwitchbackRun(ScheduledRun):
    """Time-slice rotation: a tick has the arm of its first instant."""

    @cached_property
    def schedule(self) -> Schedule:
        """The plan of the seed, of whose slices every one has a tick after the burn-in."""
        plan = super().schedule
        ticks = self.setting.ticks.tz_localize(plan.table["start"].dt.tz)
        first = ticks.searchsorted(plan.table["read_from"])
        ends = ticks.searchsorted(plan.table["end"])
        if (empty := first >= ends).any():
            raise ValueError(
                f"{int(empty.sum())} slices have no tick that starts after the "
                f"burn-in; tick_minutes is {self.setting.tick_minutes:g}: take shorter ticks"
            )
        return plan

    def _thrown(self) -> Arms:
        plan, ticks = self.schedule, self.setting.ticks
        each = [
            plan.treatment_at(
                ticks, None if name is None else np.full(len(ticks), name, dtype=object)
            )
            for name in self.regions
        ]
        return Arms(time=each[0] if self.regions == (None,) else np.stack(each))

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """One row a tick, and region where regions have their own coins."""
        ticks, single = self.setting.ticks, self.regions == (None,)
        shares = [paths.watch] if single else list(paths.by_region)
        regions = None if single else np.repeat(np.array(self.regions, dtype=object), len(ticks))
        table = pd.DataFrame({"time": np.tile(ticks.to_numpy(), len(shares))})
        at = self.schedule.slice_at(table["time"], regions)
        slices = self.schedule.table.iloc[at]
        table["slice"] = slices["slice"].to_numpy()
        table["arm"] = np.asarray(self.arms.time).ravel()
        table["read"] = table["time"].to_numpy() >= slices["read_from"].to_numpy()
        watch = 60 * np.concatenate(shares)
        # a burn-in may leave out whole parts of the day: bring the level back to that of all hours
        table["watch"] = watch * (watch.mean() / watch[table["read"]].mean())
        if regions is not None:
            table.insert(0, "region", regions)
        return table

    def contrast(self, table: pd.DataFrame) -> float:
        """After the burn-in."""
        return super().contrast(table[table["read"]])

    def _read(self, table: pd.DataFrame) -> Reading:
        design = self.design
        return switchback_effect(
            table,
            outcome="watch",
            treatment="arm",
            time="time",
            unit=None if design.regions is None else "region",
            schedule=self.schedule,
            burn_in=design.burn_in_minutes,
            seed=self.seed,
        )


class SaturationRun(ScheduledRun):
    """Shares that change by region and slice."""

    def _thrown(self) -> Arms:
        """Viewers whose hash lies below the share of their region."""
        design, who = self.design, self.platform.viewers
        u = unit_hash(who["viewer_id"], salt=design.salt, seed=self.seed)
        shares = self.shares
        region = np.zeros(len(who), dtype=np.int64)
        if len(shares) > 1:
            region = who["region"].to_numpy()
        return Arms(viewer=u < shares[region].T, slice_minutes=design.slice_minutes)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of every region and slice, shape (R, slices)."""
        return np.asarray(self.schedule.table["share"]).reshape(len(self.regions), -1)

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """One row a cell (region and slice) and arm."""
        table = paths.arm_table()
        n_regions = len(self.regions)
        table["region"] *= n_regions > 1
        table["slice"] = (table["hour"] * 60 / self.design.slice_minutes + 1e-9).astype(np.int64)
        table["minutes"] = table["watch_minutes"] * table["n_viewers"]
        keys = ["region", "slice", "viewer_arm"]
        cells = table.groupby(keys, as_index=False)[["n_viewers", "minutes"]].sum()
        cells["share"] = self.shares[cells["region"], cells["slice"]]
        cells["cell"] = cells["slice"] * n_regions + cells["region"]
        cells["watch"] = cells["minutes"] / cells["n_viewers"]
        renamed = cells.rename(columns={"viewer_arm": "arm"})
        return renamed[["cell", "region", "slice", "share", "arm", "n_viewers", "watch"]]

    def contrast(self, table: pd.DataFrame) -> float:
        """The extrapolated total."""
        return float(self._read(table).estimate)

    def _read(self, table: pd.DataFrame) -> Reading:
        return share_response(table, outcome="watch", arm="arm", share="share", cell="cell").total


@dataclass(frozen=True, kw_only=True)
class LaunchRun(Run):
    """A launch in regions that nobody drew; `past` (R, ticks) is their time before."""

    past: NDArray[np.float64] | None = None

    @property
    def cancels(self) -> bool:
        """No: which regions get it is no coin."""
        return False

    @cached_property
    def ticks(self) -> int:
        """Ticks of a period: a day, or less where a day does not fill the run."""
        tick = self.setting.tick_minutes
        return ticks_of_period(
            len(self.setting.ticks), round(self.setting.before_hours * 60 / tick), int(1440 / tick)
        )

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """First live period of each region."""
        periods = len(self.setting.ticks) // self.ticks
        if periods < self.design.waves:
            raise ValueError(f"{self.design.waves} waves need as many periods; got {periods}")
        found: NDArray[np.int64] = self.design.first(self.platform, periods)
        return found

    def _thrown(self) -> Arms:
        live = np.arange(len(self.setting.ticks)) >= (self.first * self.ticks)[:, None]
        return Arms(time=live.astype(np.int8))

    def table(self, paths: FlowPaths) -> pd.DataFrame:
        """One row a region and period, the time before included."""
        if self.past is None:
            raise ValueError("a launch is read with the time before it: give the run its past")
        ticks = 60 * np.hstack([self.past, paths.by_region])
        watch = ticks.reshape(len(ticks), -1, self.ticks).mean(axis=2)
        return region_panel(watch, self.first, self.past.shape[1] // self.ticks)

    def contrast(self, table: pd.DataFrame) -> float:
        """The reading."""
        return float(self.read(table).estimate)

    def parts(self, table: pd.DataFrame, idle: pd.DataFrame) -> Parts:
        """What the reading is made of, from panels with the launch and with nothing launched."""
        if self.trial.analysis is None:
            return parts_of(self.design, table, idle)
        trend = self.contrast(idle)
        return Parts(self.contrast(table) - trend, live_gain(table, idle), trend)

    def _read(self, table: pd.DataFrame) -> Reading:
        found: Reading = read_launch(self.design, table)
        return found


_RUNS: dict[type, type[Any]] = {
    UserSplit: ViewerRun,
    AuthorSplit: AuthorRun,
    ClusterSplit: ClusterRun,
    DualSided: DualRun,
    Switchback: SwitchbackRun,
    Saturation: SaturationRun,
    Launch: LaunchRun,
}


def run_trial(trial: Trial, platform: LivePlatform, setting: Setting, seed: int) -> Run:
    """A trial as its design is run."""
    kind = _RUNS[type(trial.design)]
    run: Run = kind(trial=trial, platform=platform, setting=setting, seed=seed)
    return run


def _split(design: UserSplit, ids: pd.Series[int], seed: int) -> NDArray[np.int8]:
    """Arms by hash; where few ids leave an arm unreadable, those of one of the next seeds."""
    arms = design.assign(ids, seed=seed)
    for later in range(1, _TRIES):
        if np.bincount(arms, minlength=2).min() >= _FEWEST:
            break
        arms = design.assign(ids, seed=seed + later)
    return arms


def _per_hour(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Watch minutes of the run and of the time before, by the hour."""
    table["watch"] = table.pop("watch_minutes") / setting.hours
    table["watch_before"] = table["watch_before"] * setting.per_hour_before()
    return table


def _watch(setting: Setting) -> Mean:
    """The metric, adjusted by the time before if there is one."""
    return Mean("watch", covariates=("watch_before",) if setting.covariates else ())


def _cluster(platform: LivePlatform) -> str:
    """The column of the viewers' clusters."""
    return "region" if platform.n_regions > 1 else "cluster"
