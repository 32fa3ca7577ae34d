"""Trials run many times on the platform: what one replication does, on any number of workers."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import EstimationWarning
from causal.values import is_number, whole_number
from experiments.simulation.replication import replicate
from experiments.simulation.trial_runs import LaunchRun, Run, Setting, run_trial
from experiments.simulation.trials import Reading
from recsys import Arms, LivePlatform, Strategy, flow_worlds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from experiments.simulation.trial_launches import Parts
    from experiments.simulation.trials import Trial
    from recsys import Draws, FlowPaths

BEFORE_HOURS = 168.0  # a week before the experiment, by default
MOST_SEED = 2**62
_NO_LIFT = Strategy(lift=0.0)
_GROUPS = ("runs", "mirrors", "idle")
ALPHA, _LEVEL = 0.05, 0.95  # of tests, of intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Plain values of every replication, and the seconds that they took.

    `levels`: mean watching with all and none treated; `readings`: (estimate, std_error, low, high,
    p_value) of each trial; `notes`: what analyses warned of; `exposed`: share of viewers' time on
    treated pairs; `contrasts`: unadjusted contrasts with little noise left (see `_contrasts`);
    `parts`: by trial, what a launch's contrast is made of (None of other trials); `null`: p-values
    without a lift. What was not wanted is empty.
    """

    each: list[dict[str, Any]]
    seconds: float

    def array(self, name: str) -> Any:  # noqa: ANN401 — array (replications, trials)
        """One value for each replication and trial."""
        return np.array([record[name] for record in self.each])


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """Trials on a platform, and what is wanted: readings, targets, null."""

    platform: LivePlatform
    trials: tuple[Trial, ...]
    strategy: Strategy
    setting: Setting
    redraw: bool
    wanted: tuple[str, ...]

    @property
    def n_worlds(self) -> int:
        """Worlds of a replication."""
        groups = self._groups(self._runs(self.platform, [0] * len(self.trials)))
        return len({"all", "none", *_world_names(groups).values()})

    def run(self, replications: int, *, seed: int, n_jobs: int, progress: bool) -> Records:
        """All replications; what does not fit the platform is refused before the work begins."""
        whole_number("replications", replications, 2)
        check_platform(self.platform)
        for run in self._runs(self.platform, [0] * len(self.trials)):
            run.arms  # noqa: B018 — for its errors
        started = time.monotonic()
        each = replicate(
            self.once, n_runs=replications, seed=seed, n_jobs=n_jobs, progress=progress
        )
        return Records(each=each, seconds=max(time.monotonic() - started, 1e-9))

    def once(self, rng: np.random.Generator) -> dict[str, Any]:
        """One draw of the platform, all trials on it."""
        draw_seed, people_seed, *seeds = (
            int(s) for s in rng.integers(MOST_SEED, size=2 + len(self.trials))
        )
        platform = self.platform.replace(seed=people_seed) if self.redraw else self.platform
        draws = platform.draws(hours=self.setting.before_hours + self.setting.hours, seed=draw_seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)  # of coins: said once, by `run`
            groups = self._groups(self._with_past(self._runs(platform, seeds), draws))
            ends, worlds = self._worlds(platform, groups, draws)
        tables = [
            {k: (run, run.table(worlds[g, k])) for k, run in group.items()}
            for g, group in enumerate(groups)
        ]
        readings, notes = _readings(tables[0] if "readings" in self.wanted else {})
        parts = _parts(tables[0], tables[2]) if "targets" in self.wanted else {}
        return {
            "levels": tuple(mean_level(p) for p in ends),
            "readings": readings,
            "notes": notes,
            "exposed": [_exposed(worlds[0, k]) for k in groups[0]],
            "contrasts": _contrasts(*tables, parts=parts) if "targets" in self.wanted else [],
            "parts": [parts.get(k) for k in groups[0]],
            "null": [r[4] for r in _readings(tables[2])[0]] if "null" in self.wanted else [],
        }

    def _runs(self, platform: LivePlatform, seeds: Sequence[int]) -> list[Run]:
        """A run of each trial."""
        trials = zip(self.trials, seeds, strict=True)
        return [run_trial(trial, platform, self.setting, seed) for trial, seed in trials]

    def _with_past(self, runs: Sequence[Run], draws: Draws) -> list[Run]:
        """Launches with their regions' time before: that of nobody, on the same draws."""
        if not any(isinstance(run, LaunchRun) for run in runs):
            return list(runs)
        world = flow_worlds(
            runs[0].platform,
            {"none": Arms.none()},
            strategy=_NO_LIFT,
            hours=self.setting.before_hours,
            tick_minutes=self.setting.tick_minutes,
            draws=draws,
            record="totals",
        )["none"]
        return [
            replace(run, past=world.by_region) if isinstance(run, LaunchRun) else run
            for run in runs
        ]

    def _groups(self, runs: Sequence[Run]) -> tuple[dict[int, Run], ...]:
        """Runs, their mirrors, and runs that go without a lift, by the number of their trial."""
        targets, null = "targets" in self.wanted, "null" in self.wanted
        every = dict(enumerate(runs))
        mirrors = {k: run.mirrored() for k, run in every.items() if targets and run.cancels}
        idle = {k: run for k, run in every.items() if null or (targets and not run.cancels)}
        return every, mirrors, idle

    def _worlds(
        self, platform: LivePlatform, groups: Sequence[Mapping[int, Run]], draws: Draws
    ) -> tuple[list[FlowPaths], dict[tuple[int, int], FlowPaths]]:
        """All worlds of a replication on the same draws: everybody, nobody, and the groups of runs.

        The runs' worlds by the numbers of group and trial.
        """
        keys = _world_names(groups)
        ends = {"all": Arms.all(), "none": Arms.none()}
        runs = {name: groups[g][k] for (g, k), name in keys.items() if name not in ends}
        found = flow_worlds(
            platform,
            {**ends, **{name: run.arms for name, run in runs.items()}},
            strategy={
                **dict.fromkeys([*ends, *runs], self.strategy),
                **{name: _NO_LIFT for name in runs if name.startswith("idle")},
            },
            record={**dict.fromkeys(ends, "totals"), **{n: run.record for n, run in runs.items()}},
            hours=self.setting.hours,
            tick_minutes=self.setting.tick_minutes,
            before_hours=self.setting.before_hours,
            draws=draws,
        )
        return [found[name] for name in ends], {at: found[name] for at, name in keys.items()}


def _world_names(groups: Sequence[Mapping[int, Run]]) -> dict[tuple[int, int], str]:
    """The world of each run, by the numbers of group and trial.

    Launches in the same regions share one; without a lift theirs is that of nobody.
    """
    return {(g, k): _world(g, k, run) for g, group in enumerate(groups) for k, run in group.items()}


def _world(group: int, trial: int, run: Run) -> str:
    """The name of a run's world."""
    if not isinstance(run, LaunchRun):
        return f"{_GROUPS[group]} {trial}"
    return "none" if _GROUPS[group] == "idle" else f"launch {run.first.tolist()}"


def checked_setting(hours: float, before_hours: float, tick_minutes: float) -> Setting:
    """Lengths as numbers; `flow_worlds` says what is wrong with their ticks."""
    for name, value, least in (("hours", hours, 1e-9), ("before_hours", before_hours, 0)):
        if not (is_number(value) and least <= value < math.inf):
            raise ValueError(
                f"{name} must be {'positive' if least else '0 or more'}; got {value!r}"
            )
    if not (is_number(tick_minutes) and 0 < tick_minutes < math.inf):
        raise ValueError(f"tick_minutes must be positive; got {tick_minutes!r}")
    return Setting(hours=hours, before_hours=before_hours, tick_minutes=tick_minutes)


def check_platform(platform: object) -> None:
    """Raise TypeError unless it is a platform to run trials on."""
    if not isinstance(platform, LivePlatform):
        raise TypeError(f"platform must be a LivePlatform; got {type(platform).__name__}")


def _readings(
    tables: Mapping[int, tuple[Run, pd.DataFrame]],
) -> tuple[list[tuple[float, ...]], list[list[str]]]:
    """(estimate, std_error, low, high, p_value) of every run, and what its analysis warned of."""
    readings, notes = [], []
    for run, table in tables.values():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EstimationWarning)
            try:
                found = run.read(table)
                if not isinstance(found, Reading):
                    raise TypeError(  # noqa: TRY301 — the note below names the trial
                        f"an analysis must return an Effect; got {type(found).__name__}"
                    )
                low, high = found.conf_int(_LEVEL)
                numbers = (found.estimate, found.std_error, low, high, found.p_value)
            except Exception as error:
                error.add_note(f"in the analysis of trial {run.trial.label!r}")
                raise
        readings.append(tuple(float(x) for x in numbers))
        notes.append([str(w.message) for w in caught])
    return readings, notes


def mean_level(paths: FlowPaths) -> float:
    """Minutes of watching per viewer and hour."""
    return 60 * float(paths.watch.mean())


def _parts(
    runs: Mapping[int, tuple[Run, pd.DataFrame]], idle: Mapping[int, tuple[Run, pd.DataFrame]]
) -> dict[int, Parts]:
    """What launches read, in parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return {
            k: run.parts(table, idle[k][1])
            for k, (run, table) in runs.items()
            if isinstance(run, LaunchRun)
        }


def _contrasts(
    runs: Mapping[int, tuple[Run, pd.DataFrame]],
    mirrors: Mapping[int, tuple[Run, pd.DataFrame]],
    idle: Mapping[int, tuple[Run, pd.DataFrame]],
    *,
    parts: Mapping[int, Parts],
) -> list[float]:
    """Unadjusted contrasts without what is there without treatment.

    The mean over a run and its mirror where that cancels; elsewhere less the contrast of the same
    assignment without a lift, which is 0 on average (of launches: what trends make of it).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        found = {k: run.contrast(table) for k, (run, table) in runs.items() if k not in parts}
        other = {k: mirror.contrast(table) for k, (mirror, table) in mirrors.items()}
        nothing = {k: run.contrast(table) for k, (run, table) in idle.items() if k not in parts}
    each = {
        k: 0.5 * (value + other[k]) if k in other else value - nothing[k]
        for k, value in found.items()
    }
    return [parts[k].target if k in parts else each[k] for k in runs]


def _exposed(paths: FlowPaths) -> float:
    """Share of viewers' time and authors that is treated."""
    arms, region = paths.arms, paths.platform.viewers["region"].to_numpy()
    by_tick = arms.viewer[arms.viewer_row] & arms.time.T[:, region]
    return float(by_tick.mean() * arms.author.mean())


def share_error(hits: Any) -> float:  # noqa: ANN401 — bool array (n,)
    """Monte Carlo error of a share, with two hits and two misses added: 0 and 1 have one too."""
    n = len(hits) + 4
    share = (hits.sum() + 2) / n
    return math.sqrt(share * (1 - share) / n)
