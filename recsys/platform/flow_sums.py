"""What is recorded of worlds while they run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from recsys.platform.flow_paths import FlowPaths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from recsys.platform.arms import ArmPaths
    from recsys.platform.market import Clock, Market, Tick

Record: TypeAlias = Literal["totals", "viewers", "pairs"]
RECORDS = ("totals", "viewers", "pairs")
_FLUSH = 64  # ticks of pair weights that are kept before they are multiplied out


@dataclass(slots=True, kw_only=True)
class Sums:
    """What is recorded of W worlds, each as its record says, over some ticks."""

    n_ticks: int
    market: Market
    records: Sequence[Record]
    region_watch: NDArray[np.float64] = field(init=False)  # (T, W, R), sums over viewers
    treated_watch: NDArray[np.float64] = field(init=False)
    treated_viewers: NDArray[np.float64] = field(init=False)
    by_viewer: NDArray[np.float64] = field(init=False)
    by_author: NDArray[np.float64] = field(init=False)
    cells: NDArray[np.float64] = field(init=False)  # (W, 2, 2)
    online: NDArray[np.float64] = field(init=False)  # (W,)
    watched: NDArray[np.float64] = field(init=False)
    entangled: NDArray[np.float64] = field(init=False)
    live_minutes: NDArray[np.float64] = field(init=False)
    effort: NDArray[np.float64] = field(init=False)  # at the end
    pairs: dict[int, NDArray[np.float64]] = field(init=False)  # by world
    waiting: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        init=False, default_factory=list
    )

    def __post_init__(self) -> None:
        w, p = len(self.records), self.market.platform
        shape = (self.n_ticks, w, p.n_regions)
        self.region_watch, self.treated_watch, self.treated_viewers = (
            np.zeros(shape) for _ in range(3)
        )
        self.by_viewer, self.by_author = np.zeros((w, p.n_viewers)), np.zeros((w, p.n_authors))
        self.cells = np.zeros((w, 2, 2))
        self.online, self.watched, self.entangled = (np.zeros(w) for _ in range(3))
        self.live_minutes = np.zeros(p.n_authors)
        self.pairs = {
            world: np.zeros((p.n_viewers, p.n_authors))
            for world, record in enumerate(self.records)
            if record == "pairs"
        }

    def add(self, row: int, tick: Tick) -> None:
        """Add a tick of the record."""
        watching, arms = tick.online * tick.share, tick.arms
        by_region = self.market.by_region
        self.region_watch[row] = watching @ by_region
        self.treated_watch[row] = (watching * arms.viewer) @ by_region
        self.treated_viewers[row] = arms.viewer @ by_region
        self.online += tick.online.sum(axis=1)
        self.watched += watching.sum(axis=1)
        audience = tick.groups.sum(axis=0)
        mixed = (tick.partner >= 0) & (arms.author != arms.author[:, tick.partner])
        self.entangled += (audience * mixed).sum(axis=1)
        self.live_minutes += tick.minutes * tick.live
        by_viewer_arm = (tick.groups[0], tick.groups[1] + tick.groups[2])
        for viewer_arm, part in enumerate(by_viewer_arm):
            for author_arm, mine in enumerate((~arms.author, arms.author)):
                self.cells[:, viewer_arm, author_arm] += tick.minutes * (part * mine).sum(axis=1)
        self.by_viewer += tick.minutes * watching
        self.by_author += tick.minutes * audience
        if self.pairs:
            kept = list(self.pairs)
            weight, treated = tick.weight[kept], arms.treated[kept]
            time = tick.minutes * np.stack([weight * ~treated, weight * treated], axis=1)
            self.waiting.append((time, tick.rooms.weights[:, kept].swapaxes(0, 1)))
            if self.market.draws.programme is not None or len(self.waiting) == _FLUSH:
                self._multiply_out(tick.attraction)

    def close(self, attraction: NDArray[np.float64], effort: NDArray[np.float64]) -> None:
        """After the last tick."""
        self.effort = effort
        self._multiply_out(attraction)

    def _multiply_out(self, attraction: NDArray[np.float64]) -> None:
        """Add the waiting ticks' pairs: E times the products of viewer and room weights."""
        if not self.waiting:
            return
        time = np.stack([c for c, _ in self.waiting])  # (ticks, worlds with pairs, 2, N)
        room = np.stack([g for _, g in self.waiting])  # (ticks, worlds with pairs, 2, J)
        for k, pairs in enumerate(self.pairs.values()):
            c = time[:, k].reshape(-1, time.shape[-1])
            g = room[:, k].reshape(-1, room.shape[-1])
            pairs += attraction * (c.T @ g)
        self.waiting.clear()


def one_world(
    market: Market,
    before: Sums,
    run: Sums,
    world: int,
    arms: ArmPaths,
    clock: Clock,
) -> FlowPaths:
    """The record of one world."""
    n_region = market.by_region.sum(axis=0)
    watch = run.region_watch[:, world]  # (T, R)
    treated, n_treated = run.treated_watch[:, world], run.treated_viewers[:, world]
    each = run.records[world] != "totals"
    watched, n = float(run.watched[world]), market.platform.n_viewers
    return FlowPaths(
        watch=watch.sum(axis=1) / n,
        by_region=(watch / n_region).T,
        by_viewer=run.by_viewer[world] if each else None,
        by_author=run.by_author[world] if each else None,
        before_watch=before.region_watch[:, 0].sum(axis=1) / n,
        before_viewer=before.by_viewer[0] if each else None,
        before_author=before.by_author[0] if each else None,
        cells=run.cells[world],
        effort=run.effort[world],
        live_minutes=run.live_minutes,
        outside_share=1 - watched / float(run.online[world]),
        entangled_share=float(run.entangled[world]) / watched if watched else 0.0,
        pairs=run.pairs.get(world),
        by_arm=np.stack([(watch - treated).T, treated.T]),
        arm_viewers=np.stack([(n_region - n_treated).T, n_treated.T]),
        tick_minutes=clock.tick_minutes,
        arms=arms,
        platform=market.platform,
    )
