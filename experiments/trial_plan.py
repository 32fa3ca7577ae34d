"""Trials run many times on the platform: what one replication does, on any number of workers."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import EstimationWarning
from causal.values import is_number, whole_number
from experiments.replication import replicate
from experiments.trial_runs import Run, Setting, run_trial
from recsys import Arms, Strategy, flow_worlds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.trials import Trial
    from recsys import FlowPaths, LivePlatform

BEFORE_HOURS = 168.0  # a week before the experiment, by default
MOST_SEED = 2**62
_NO_LIFT = Strategy(lift=0.0)
_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Plain values of every replication, and the seconds that they took.

    `levels`: mean watching with all and none treated; `readings`: (estimate, std_error, low, high,
    p_value) of each trial; `notes`: what analyses warned of; `exposed`: share of viewers' time on
    treated pairs; `contrasts`: unadjusted contrasts, averaged over an assignment and its mirror;
    `null`: p-values without a lift. What was not wanted is empty.
    """

    each: list[dict[str, Any]]
    seconds: float

    def array(self, name: str) -> Any:  # noqa: ANN401 — array (replications, trials)
        """One value for each replication and trial."""
        return np.array([record[name] for record in self.each])


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """Trials on a platform, and what is wanted: readings, targets (mirrored assignments), null."""

    platform: LivePlatform
    trials: tuple[Trial, ...]
    strategy: Strategy
    setting: Setting
    redraw: bool
    wanted: tuple[str, ...]

    @property
    def n_worlds(self) -> int:
        """Worlds of a replication."""
        return 2 + len(self.trials) * (1 + ("targets" in self.wanted) + ("null" in self.wanted))

    def run(self, replications: int, *, seed: int, n_jobs: int, progress: bool) -> Records:
        """All replications; what does not fit the platform is refused before the work begins."""
        whole_number("replications", replications, 2)
        for trial in self.trials:
            run_trial(trial, self.platform, self.setting, 0).arms  # noqa: B018 — for its errors
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
        runs = [
            run_trial(trial, platform, self.setting, s)
            for trial, s in zip(self.trials, seeds, strict=True)
        ]
        mirrors = [run.mirrored() for run in runs] if "targets" in self.wanted else []
        idle = runs if "null" in self.wanted else []
        paths = self._worlds(platform, [runs, mirrors, idle], draw_seed)
        readings, notes = _readings(runs if "readings" in self.wanted else [], paths["runs"])
        return {
            "levels": tuple(mean_level(p) for p in paths["ends"]),
            "readings": readings,
            "notes": notes,
            "exposed": [_exposed(p) for p in paths["runs"]],
            "contrasts": _contrasts(runs, mirrors, paths),
            "null": [reading[4] for reading in _readings(idle, paths["idle"])[0]],
        }

    def _worlds(
        self, platform: LivePlatform, groups: Sequence[Sequence[Run]], seed: int
    ) -> dict[str, list[FlowPaths]]:
        """All worlds of a replication on the same draws: everybody, nobody, and the groups of runs.

        Groups are the runs, their mirrors, and the runs without a lift.
        """
        names = ("runs", "mirrors", "idle")
        runs = {
            f"{name} {k}": run
            for name, group in zip(names, groups, strict=True)
            for k, run in enumerate(group)
        }
        ends = {"all": Arms.all(), "none": Arms.none()}
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
            seed=seed,
        )
        by_group = {
            name: [found[f"{name} {k}"] for k in range(len(group))]
            for name, group in zip(names, groups, strict=True)
        }
        return {"ends": [found[name] for name in ends], **by_group}


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


def _readings(
    runs: Sequence[Run], paths: Sequence[FlowPaths]
) -> tuple[list[tuple[float, ...]], list[list[str]]]:
    """(estimate, std_error, low, high, p_value) of every run, and what its analysis warned of."""
    readings, notes = [], []
    for run, path in zip(runs, paths, strict=False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EstimationWarning)
            try:
                found = run.read(run.table(path))
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


def _contrasts(
    runs: Sequence[Run], mirrors: Sequence[Run], paths: Mapping[str, Sequence[FlowPaths]]
) -> list[float]:
    """Unadjusted contrasts, averaged over each run and its mirror."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return [
            0.5 * (run.contrast(run.table(p)) + mirror.contrast(mirror.table(q)))
            for run, mirror, p, q in zip(
                runs, mirrors, paths["runs"], paths["mirrors"], strict=False
            )
        ]


def _exposed(paths: FlowPaths) -> float:
    """Share of viewers' time and authors that is treated."""
    arms, region = paths.arms, paths.platform.viewers["region"].to_numpy()
    by_tick = arms.viewer[arms.viewer_row] & arms.time.T[:, region]
    return float(by_tick.mean() * arms.author.mean())
