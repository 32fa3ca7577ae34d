"""What worlds share (`Market`, `Clock`), what they remember (`State`), what a tick gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys.platform import dynamics
from recsys.platform.parameters import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from recsys.platform.arms import ArmPaths, Strategy
    from recsys.platform.draws import Draws
    from recsys.platform.world import LivePlatform

_DOUBLE_UP_TO = 5_000_000  # pairs; beyond, E is kept in single precision, sums in double


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Ticks of the warm-up, of the time before and of the run."""

    tick_minutes: float
    n_warm_up: int
    n_before: int
    n_run: int

    @classmethod
    def of(cls, hours: float, before: float, warm_up: float, tick_minutes: float) -> Clock:
        """Whole numbers of ticks of three lengths in hours."""
        if not (is_number(tick_minutes) and 0 < tick_minutes < math.inf):
            raise ValueError(f"tick_minutes must be positive; got {tick_minutes!r}")
        counts = {}
        for name, length, least in (
            ("hours", hours, 1), ("before_hours", before, 0), ("warm_up_hours", warm_up, 0),
        ):  # fmt: skip
            if not (is_number(length) and 0 <= length < math.inf):
                raise ValueError(f"{name} must be 0 or more; got {length!r}")
            ticks = length * 60 / tick_minutes
            if abs(ticks - round(ticks)) > 1e-6 or round(ticks) < least:
                raise ValueError(
                    f"{name} must be a whole number of ticks of {tick_minutes:g} minutes, "
                    f"{least} or more; got {length:g} hours"
                )
            counts[name] = round(ticks)
        return cls(
            tick_minutes=tick_minutes,
            n_warm_up=counts["warm_up_hours"],
            n_before=counts["before_hours"],
            n_run=counts["hours"],
        )

    def start(self, tick: int) -> float:
        """Hour at which a tick of the run starts, counted from the end of the warm-up."""
        return (self.n_before + tick) * self.tick_minutes / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Everything that no world changes."""

    platform: LivePlatform
    draws: Draws
    activity: NDArray[np.float64]
    capacity: NDArray[np.float64]
    region: NDArray[np.int64]
    by_region: NDArray[np.float64]  # (N, R) 0/1
    attraction: NDArray[np.float64]  # E, (N, J)

    @classmethod
    def of(cls, platform: LivePlatform, draws: Draws) -> Market:
        """The market of a platform under given draws."""
        attraction = np.exp(platform.affinity)
        if attraction.size > _DOUBLE_UP_TO:
            attraction = attraction.astype(np.float32)
        region = platform.viewers["region"].to_numpy()
        return cls(
            platform=platform,
            draws=draws,
            activity=platform.viewers["activity"].to_numpy(),
            capacity=platform.authors["capacity"].to_numpy(),
            region=region,
            by_region=(region[:, None] == np.arange(platform.n_regions)).astype(np.float64),
            attraction=attraction,
        )

    def attraction_at(self, start: float, stop: float) -> NDArray[np.float64]:
        """E over a tick: rebuilt where content moves it."""
        programme = self.draws.programme
        if programme is None:
            return self.attraction
        from recsys.platform import content  # noqa: PLC0415 — loads numba

        first, last = (
            round((self.draws.warm_up_hours + t) * content.SEGMENTS) for t in (start, stop)
        )
        moved = content.content_weights(
            self.platform.parameters,
            self.platform.codes,
            programme,
            taste=self.platform.topic_taste,
            viewer_type=self.platform.viewers["viewer_type"].to_numpy(),
            segments=slice(first, max(last, first + 1)),
        )
        moved *= math.exp(-self.draws.centre)
        return np.asarray(self.attraction * moved.astype(self.attraction.dtype))


@dataclass(slots=True, kw_only=True)
class State:
    """Memories of W worlds."""

    heat: NDArray[np.float64]  # (W, J)
    effort: NDArray[np.float64]  # (W, J)
    habit: NDArray[np.float64]  # (W, N)
    quality: NDArray[np.float64]  # (2, W, J): the recommender's weights, by arm
    recent: list[NDArray[np.float64]]  # audiences (W, J) of the last hour's ticks

    @classmethod
    def first(cls, n_viewers: int, n_authors: int) -> State:
        """Of one world at the start of the warm-up."""
        return cls(
            heat=np.zeros((1, n_authors)),
            effort=np.zeros((1, n_authors)),
            habit=np.zeros((1, n_viewers)),
            quality=np.ones((2, 1, n_authors)),
            recent=[],
        )

    def copied(self, n: int) -> State:
        """The same memories in n worlds; the treatment's recommender starts as the control's."""
        return State(
            heat=np.repeat(self.heat, n, axis=0),
            effort=np.repeat(self.effort, n, axis=0),
            habit=np.repeat(self.habit, n, axis=0),
            quality=np.repeat(self.quality[[0, 0]], n, axis=1),
            recent=[np.repeat(audience, n, axis=0) for audience in self.recent],
        )

    def audience(self) -> NDArray[np.float64]:
        """Mean audience of the last hour, shape (W, J)."""
        return np.mean(self.recent, axis=0) if self.recent else np.zeros_like(self.heat)

    def saw(self, audience: NDArray[np.float64], per_hour: int) -> None:
        """Keep an audience for an hour."""
        self.recent = [*self.recent, audience][-per_hour:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifts:
    """What the strategies of W worlds change: utility (W, J), the others (W, 1)."""

    utility: NDArray[np.float64]
    activity: NDArray[np.float64]
    effort: NDArray[np.float64]
    exposure: NDArray[np.float64]

    @classmethod
    def of(cls, strategies: Sequence[Strategy], n_authors: int) -> Lifts:
        """The lifts of strategies, one a world."""
        return cls(
            utility=np.stack([s.utility_lift(n_authors) for s in strategies]),
            activity=np.array([[s.activity_lift] for s in strategies]),
            effort=np.array([[s.effort_lift] for s in strategies]),
            exposure=np.array([[s.exposure_lift] for s in strategies]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TickArms:
    """Arms of W worlds in one tick."""

    viewer: NDArray[np.bool_]  # (W, N)
    author: NDArray[np.bool_]  # (W, J)
    treated: NDArray[np.bool_]  # (W, N): viewer and time are
    time: NDArray[np.float64]  # (W,): share of viewers whose time is treated
    lifts: Lifts

    @classmethod
    def nobody(cls, n_viewers: int, n_authors: int) -> TickArms:
        """One world without treatment."""
        none, nothing = np.zeros((1, n_viewers), dtype=bool), np.zeros((1, 1))
        return cls(
            viewer=none,
            author=np.zeros((1, n_authors), dtype=bool),
            treated=none,
            time=np.zeros(1),
            lifts=Lifts(utility=nothing, activity=nothing, effort=nothing, exposure=nothing),
        )

    @classmethod
    def of(cls, market: Market, paths: Sequence[ArmPaths], lifts: Lifts, tick: int) -> TickArms:
        """Arms of the worlds' paths in a tick."""
        viewer = np.stack([p.viewer[p.viewer_row[tick]] for p in paths])
        time = np.stack([p.time[:, tick] for p in paths])
        return cls(
            viewer=viewer,
            author=np.stack([p.author for p in paths]),
            treated=viewer & time[:, market.region],
            time=time @ market.by_region.mean(axis=0),
            lifts=lifts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Weights of all rooms for untreated and treated viewers, both (W, J), with exposures."""

    weights: NDArray[np.float64]  # (2, W, J)
    exposure: NDArray[np.float64]  # (2, W, J): mean 1 over live rooms

    @classmethod
    def of(
        cls,
        market: Market,
        state: State,
        arms: TickArms,
        live: NDArray[np.float64],
        partner: NDArray[np.int32],
    ) -> Rooms:
        """g0 and g1 of every world."""
        p = market.platform.parameters
        in_battle = partner >= 0
        treated = arms.author.copy()
        treated[:, in_battle] |= arms.author[:, partner[in_battle]]
        common = dynamics.room_utility(
            p,
            crowd=np.log1p(state.audience() / market.capacity),
            heat=state.heat,
            effort=state.effort,
            in_battle=in_battle,
        )
        exposure = np.stack(
            [state.quality[0], state.quality[1] * np.exp(arms.lifts.exposure * treated)]
        )
        mean = (exposure @ live / max(float(live.sum()), 1e-300))[..., None]
        exposure = np.divide(exposure, mean, out=np.ones_like(exposure), where=mean > 0)
        weights = (
            live * np.exp(np.stack([common, common + arms.lifts.utility * treated])) * exposure
        )
        return cls(weights=weights, exposure=exposure * live)

    def inside(
        self, attraction: NDArray[np.float64], treated: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Sum over rooms of E g by viewer, shape (W, N): each with the weights of his arm."""
        some, every = treated.any(axis=1), treated.all(axis=1)
        world, arm = np.nonzero(np.column_stack([~every, some]))
        rows = self.weights[arm, world].astype(attraction.dtype)
        sums = (rows @ attraction.T).astype(np.float64)
        found = np.empty(treated.shape)
        plain, lifted = arm == 0, arm == 1
        found[world[plain]] = sums[plain]
        mine = world[lifted]
        found[mine] = np.where(treated[mine], sums[lifted], found[mine])
        return found

    def audiences(
        self, attraction: NDArray[np.float64], weight: NDArray[np.float64], arms: TickArms
    ) -> NDArray[np.float64]:
        """Audience of rooms from viewers (untreated arm, treated arm off, on), shape (3, W, J)."""
        groups = np.stack([~arms.viewer, arms.viewer & ~arms.treated, arms.treated])
        group, world = np.nonzero(groups.any(axis=2))
        time = weight[world] * groups[group, world]
        sums = (time.astype(attraction.dtype) @ attraction).astype(np.float64)
        found = np.zeros((3, *self.weights.shape[1:]))
        found[group, world] = sums * self.weights[(group == 2).astype(int), world]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What happened in one tick of W worlds.

    `live` (J,) is the share of the tick that rooms were live, `online`, `share` and `weight` (W, N)
    the viewers' activity, inside share and activity over the choice's denominator, `groups`
    (3, W, J) the rooms' audiences from untreated viewers, treated ones off and on.
    """

    minutes: float
    arms: TickArms
    rooms: Rooms
    live: NDArray[np.float64]
    partner: NDArray[np.int32]
    attraction: NDArray[np.float64]
    online: NDArray[np.float64]
    share: NDArray[np.float64]
    weight: NDArray[np.float64]
    groups: NDArray[np.float64]

    def watch_and_exposure(
        self, *, pooled: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Watch and exposure of rooms by arm, both (2, W, J); pooled: the sum for both arms."""
        watch = np.stack([self.groups[0] + self.groups[1], self.groups[2]])
        treated = self.arms.treated
        time = np.stack([(self.online * arm).sum(axis=1) for arm in (~treated, treated)])
        exposure = self.rooms.exposure * time[..., None]
        if not pooled:
            return watch, exposure
        return np.stack([watch.sum(axis=0)] * 2), np.stack([exposure.sum(axis=0)] * 2)


def check_draws(platform: LivePlatform, draws: Draws, clock: Clock) -> None:
    """Draws of this platform that are long enough."""
    mine = (platform.n_viewers, platform.n_authors)
    if (draws.n_viewers, draws.n_authors) != mine:
        raise ValueError(
            f"draws must be of {mine[0]} viewers and {mine[1]} authors; got {draws.n_viewers} and "
            f"{draws.n_authors}"
        )
    if (draws.programme is not None) != platform.parameters.content:
        raise ValueError("draws must be of a platform with the same parameter content")
    per_hour = 60 / clock.tick_minutes
    needed = math.ceil((clock.n_before + clock.n_run) / per_hour - 1e-9)
    warm_up = math.ceil(clock.n_warm_up / per_hour - 1e-9)
    if draws.n_hours < needed or draws.warm_up_hours < warm_up:
        raise ValueError(
            f"draws must cover {needed} hours after a warm-up of {warm_up}; they cover "
            f"{draws.n_hours} after {draws.warm_up_hours}"
        )
