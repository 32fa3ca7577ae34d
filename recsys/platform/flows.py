"""The platform in expectation: many worlds at once, on common draws, without a matrix per world.

A viewer's share of online time in room j is E_ij g_j / (O + sum_k E_ik g_k), with E the part that
no world changes and g one weight for each room, world and arm. All worlds advance in lockstep; a
tick is two products with E: of the worlds' room weights, and of the viewers' time over their
denominators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from recsys.platform import dynamics
from recsys.platform.arms import ArmPaths, Arms, Strategy
from recsys.platform.draws import Draws
from recsys.platform.flow_sums import RECORDS, Record, Sums, one_world
from recsys.platform.market import (
    Clock,
    Lifts,
    Market,
    Rooms,
    State,
    Tick,
    TickArms,
    check_draws,
)
from recsys.platform.world import LivePlatform

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

    from recsys.platform.flow_paths import FlowPaths

T = TypeVar("T")


def flow_worlds(
    platform: LivePlatform,
    worlds: Mapping[str, Arms],
    *,
    strategy: Strategy | Mapping[str, Strategy],
    hours: float = 168,
    tick_minutes: float = 60,
    warm_up_hours: float = 48,
    before_hours: float = 0,
    draws: Draws | None = None,
    record: Record | Mapping[str, Record] = "viewers",
    seed: int = 0,
) -> dict[str, FlowPaths]:
    """Run worlds that differ in who is treated, and in nothing else.

    Parameters
    ----------
    platform : LivePlatform
    worlds : mapping from name to Arms
        Arms hold from hour 0 on; before it nobody is treated.
    strategy : Strategy, or mapping from world to Strategy
        What changes for a treated pair.
    hours, before_hours, warm_up_hours : float
        Length of the run, of the time before it that is recorded, and of what is forgotten.
    tick_minutes : float
        Whole ticks fill each of these lengths.
    draws : Draws, optional
        The platform's randomness, by default
        ``platform.draws(hours=before_hours + hours, warm_up_hours=warm_up_hours, seed=seed)``.
        Given draws are aligned at the end of the warm-up; longer ones are cut.
    record : {"totals", "viewers", "pairs"}, or mapping from world to one of them
        Totals leave out what is per viewer and author; pairs add every pair.
    seed : int
        Of the draws, where none are given.

    Returns
    -------
    dict from name to FlowPaths

    Raises
    ------
    ValueError
        If arms are of another length than the run needs, draws are too short or of another
        platform, a length is no whole number of ticks, or a mapping leaves out a world.
    TypeError
        If `platform`, `worlds`, `strategy` or `draws` are of another kind.

    Notes
    -----
    The all-control world is always computed, as habit and effort move with the distance from it; it
    is returned if asked for. Expected values only: there is no sampling noise of impressions. One
    BLAS thread: their number may change last bits. A world's numbers do not depend on the worlds
    beside it beyond 1e-12.

    Examples
    --------
    >>> from recsys import LivePlatform
    >>> p = LivePlatform(n_viewers=300, n_authors=40, seed=1)
    >>> arms = {"none": Arms.none(), "all": Arms.all()}
    >>> w = flow_worlds(p, arms, strategy=Strategy(lift=0.25), hours=24)
    >>> bool(w["all"].watch.mean() > w["none"].watch.mean())
    True
    """
    _check_kinds(platform, worlds, draws)
    clock = Clock.of(hours, before_hours, warm_up_hours, tick_minutes)
    if draws is None:
        draws = platform.draws(
            hours=before_hours + hours, warm_up_hours=math.ceil(warm_up_hours), seed=seed
        )
    check_draws(platform, draws, clock)
    strategies = _each("strategy", strategy, worlds)
    if strange := [type(s).__name__ for s in strategies if not isinstance(s, Strategy)]:
        raise TypeError(f"strategy must be a Strategy; got {strange[0]}")
    records: list[Record] = _each("record", record, worlds)
    if unknown := sorted({str(r) for r in records} - set(RECORDS)):
        raise ValueError(f"record must be one of {RECORDS}; got {unknown[0]!r}")
    paths = [
        arms.over(
            n_viewers=platform.n_viewers,
            n_authors=platform.n_authors,
            n_regions=platform.n_regions,
            n_ticks=clock.n_run,
            tick_minutes=tick_minutes,
        )
        for arms in (Arms.none(), *worlds.values())  # the control world comes first
    ]
    market = Market.of(platform, draws)
    lifts = Lifts.of([Strategy(lift=0.0), *strategies], platform.n_authors)
    with _pools().limit(limits=1):
        before, run = _run(market, paths, lifts, clock, ["totals", *records])
    return {
        name: one_world(market, before, run, world, paths[world], clock)
        for world, name in enumerate(worlds, start=1)
    }


# --- the run --------------------------------------------------------------------------------------


def _check_kinds(platform: object, worlds: object, draws: object) -> None:
    """What was passed as platform, worlds and draws, by kind."""
    if not isinstance(platform, LivePlatform):
        raise TypeError(f"platform must be a LivePlatform; got {type(platform).__name__}")
    if not isinstance(worlds, Mapping):
        raise TypeError(f"worlds must be a mapping from name to Arms; got {type(worlds).__name__}")
    if draws is not None and not isinstance(draws, Draws):
        raise TypeError(f"draws must be what platform.draws returns; got {type(draws).__name__}")
    for name, value in worlds.items():
        if not isinstance(value, Arms):
            raise TypeError(f"worlds must hold Arms; {name!r} is {type(value).__name__}")


def _each(name: str, given: T | Mapping[str, T], worlds: Mapping[str, Arms]) -> list[T]:
    """One value for every world."""
    if not isinstance(given, Mapping):
        return [given] * len(worlds)
    if missing := [world for world in worlds if world not in given]:
        raise ValueError(f"{name} must name every world; it leaves out {missing[:5]}")
    return [given[world] for world in worlds]


def _run(
    market: Market, paths: list[ArmPaths], lifts: Lifts, clock: Clock, records: list[Record]
) -> tuple[Sums, Sums]:
    """Warm up, run the time before with one world, then all worlds."""
    p = market.platform
    state = State.first(p.n_viewers, p.n_authors)
    nobody = TickArms.nobody(p.n_viewers, p.n_authors)
    before = Sums(n_ticks=clock.n_before, market=market, records=["viewers"])
    for tick in range(-clock.n_warm_up - clock.n_before, 0):
        seen = _tick(market, state, nobody, clock, tick)
        if tick >= -clock.n_before:
            before.add(tick + clock.n_before, seen)
        _remember(market, state, seen)
    state = state.copied(len(paths))
    run = Sums(n_ticks=clock.n_run, market=market, records=records)
    for tick in range(clock.n_run):
        arms = TickArms.of(market, paths, lifts, tick)
        seen = _tick(market, state, arms, clock, tick)
        run.add(tick, seen)
        _remember(market, state, seen)
    run.close(market.attraction, state.effort)
    return before, run


def _tick(market: Market, state: State, arms: TickArms, clock: Clock, number: int) -> Tick:
    """What happens in a tick, given what is remembered."""
    p, draws = market.platform.parameters, market.draws
    start, length = clock.start(number), clock.tick_minutes / 60
    middle = start + length / 2
    hour = draws.row(middle)
    partner = draws.partner[hour]
    live = draws.live_share(start, start + length)
    attraction = market.attraction_at(start, start + length)
    rooms = Rooms.of(market, state, arms, live, partner)

    logit = dynamics.online_logit(p, market.activity, draws.shock[hour], middle)
    logit = logit + p.eta * state.habit + arms.lifts.activity * arms.treated
    factor = np.exp(p.noise * draws.noise(math.floor(middle))) if p.noise else np.ones(1)
    online = dynamics.online_chance(logit, factor)
    inside = rooms.inside(attraction, arms.treated)
    total = dynamics.outside_weight(p, float(live.sum())) + inside
    share = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)
    weight = np.divide(online, total, out=np.zeros_like(inside), where=total > 0)
    return Tick(
        minutes=clock.tick_minutes,
        arms=arms,
        rooms=rooms,
        live=live,
        partner=partner,
        attraction=attraction,
        online=online,
        share=share,
        weight=weight,
        groups=rooms.audiences(attraction, weight, arms),
    )


def _remember(market: Market, state: State, tick: Tick) -> None:
    """Heat, habit, effort and the recommender's weights after a tick, in place."""
    p, hours = market.platform.parameters, tick.minutes / 60
    state.saw(tick.groups.sum(axis=0), max(1, round(1 / hours)))
    audience = state.audience()
    crowd = np.log1p(audience / market.capacity)
    incentive = tick.arms.lifts.effort * tick.arms.author * tick.arms.time[:, None]
    state.heat = dynamics.next_heat(p, state.heat, crowd, hours)
    state.habit = dynamics.next_habit(p, state.habit, tick.share, tick.share[0], hours)
    state.effort = dynamics.next_effort(p, state.effort, audience, audience[0], incentive, hours)
    if p.learning_rate:
        watch, exposure = tick.watch_and_exposure(pooled=p.learning == "pooled")
        state.quality = dynamics.next_quality(p, state.quality, watch, exposure, hours)


@cache
def _pools() -> ThreadpoolController:
    """The thread pools of this process: found once, as that takes longer than a short run."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 — loaded only when used

    return ThreadpoolController()
