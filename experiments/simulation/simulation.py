"""Designs run on the platform: true effects by counterfactual worlds, and what each trial says."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from causal.effect import Effect
from causal.frame import check_one_of
from causal.values import whole_number
from experiments.atomic import write_file
from experiments.simulation.replication import replicate
from experiments.simulation.trial_plan import (
    BEFORE_HOURS,
    MOST_SEED,
    Records,
    TrialPlan,
    checked_setting,
    mean_level,
)
from experiments.simulation.trials import Trial, checked_trials
from recsys import Arms, Strategy, flow_worlds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recsys import LivePlatform

Engine: TypeAlias = Literal["flows"]
ENGINES = ("flows",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What trials said on many replications of the platform, beside the truth.

    Attributes
    ----------
    truth : Effect
        All treated minus none, mean over replications with its Monte Carlo error.
    estimates : DataFrame
        replication, trial, estimate, std_error, low, high, p_value, truth; minutes per viewer and
        hour.
    notes : DataFrame
        trial, message, replications: what the trials' analyses warned of.
    worlds_per_second : float
    """

    truth: Effect
    estimates: pd.DataFrame
    notes: pd.DataFrame
    worlds_per_second: float

    def to_frame(self) -> pd.DataFrame:
        """The estimates."""
        return self.estimates.copy()

    def to_parquet(self, path: str | Path) -> None:
        """Write the estimates to a Parquet file, as a whole or not at all."""
        from pathlib import Path  # noqa: PLC0415 — loaded only when used

        buffer = io.BytesIO()
        self.estimates.to_parquet(buffer, index=False)
        write_file(Path(path), buffer.getvalue())


def true_effect(
    platform: LivePlatform,
    strategy: Strategy,
    *,
    hours: float = 168,
    tick_minutes: float = 60,
    replications: int = 20,
    engine: Engine = "flows",
    seed: int = 0,
    n_jobs: int = 1,
) -> Effect:
    """What the strategy does when everybody has it: all treated minus none, on the same draws.

    Parameters
    ----------
    platform : LivePlatform
    strategy : Strategy
    hours : float
        Horizon; the effect is the mean over it, the time of change included.
    tick_minutes : float
    replications : int
        Draws of the platform's randomness, two or more.
    engine : {"flows"}
        The platform in expectation.
    seed, n_jobs : int
        As in `replicate`: equal bits for any number of workers.

    Returns
    -------
    Effect
        Minutes of watching per viewer and hour, with its Monte Carlo error; `baseline` is the
        control level, so that ``.relative()`` is a share of it. Details: ``replications``, the
        effect of each; ``crn_gain``, how many times smaller the standard error is than with
        independent draws for the two worlds.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from recsys import LivePlatform, Strategy
    >>> platform = LivePlatform(n_viewers=60, n_authors=8, seed=1)
    >>> effect = true_effect(platform, Strategy(0.25), hours=24, replications=2)
    >>> effect.estimate > 0
    True
    """
    check_one_of(engine, "engine", ENGINES)
    whole_number("replications", replications, 2)
    setting = checked_setting(hours, 0.0, tick_minutes)
    run = partial(_levels, platform, strategy, setting.hours, setting.tick_minutes)
    levels = np.array(replicate(run, n_runs=replications, seed=seed, n_jobs=n_jobs))
    return _truth(levels[:, 0], levels[:, 1])


def simulate(
    platform: LivePlatform,
    trials: Sequence[Trial],
    *,
    strategy: Strategy,
    hours: float = 336,
    before_hours: float = BEFORE_HOURS,
    tick_minutes: float = 60,
    replications: int = 100,
    engine: Engine = "flows",
    redraw_population: bool = False,
    seed: int = 0,
    n_jobs: int = 1,
    progress: bool = False,
) -> Simulation:
    """Run designs on the platform, read each as an analyst would, and put the truth beside it.

    Parameters
    ----------
    platform : LivePlatform
    trials : sequence of Trial
    strategy : Strategy
    hours, before_hours : float
        Length of the experiment, and of the time before it that covariates come from.
    tick_minutes : float
    replications : int
        Two or more; each with its own draws and coins, all trials on the same draws.
    engine : {"flows"}
    redraw_population : bool
        Other viewers and authors in every replication.
    seed, n_jobs : int
        As in `replicate`: equal bits for any number of workers.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        If trials share a name, a design does not fit the platform, or a number is out of its range.
    TypeError
        If a trial is no Trial.

    Examples
    --------
    >>> from experiments import Trial, UserSplit
    >>> from recsys import LivePlatform, Strategy
    >>> platform = LivePlatform(n_viewers=60, n_authors=8, seed=1)
    >>> run = simulate(platform, [Trial(UserSplit())], strategy=Strategy(0.25), hours=24,
    ...                before_hours=24, replications=2)
    >>> run.estimates["trial"].tolist()
    ['viewer split', 'viewer split']
    """
    check_one_of(engine, "engine", ENGINES)
    plan = TrialPlan(
        platform=platform,
        trials=checked_trials(trials),
        strategy=strategy,
        setting=checked_setting(hours, before_hours, tick_minutes),
        redraw=bool(redraw_population),
        wanted=("readings",),
    )
    return simulation_of(plan, plan.run(replications, seed=seed, n_jobs=n_jobs, progress=progress))


def simulation_of(plan: TrialPlan, records: Records) -> Simulation:
    """The tables of a plan's records."""
    return Simulation(
        truth=_truth(*np.array([r["levels"] for r in records.each]).T),
        estimates=_estimates(records.each, plan.trials),
        notes=_notes(records.each, plan.trials),
        worlds_per_second=len(records.each) * plan.n_worlds / records.seconds,
    )


def _levels(
    platform: LivePlatform,
    strategy: Strategy,
    hours: float,
    tick_minutes: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Mean watching with all and with none treated, minutes per viewer and hour."""
    worlds = flow_worlds(
        platform,
        {"all": Arms.all(), "none": Arms.none()},
        strategy=strategy,
        hours=hours,
        tick_minutes=tick_minutes,
        record="totals",
        seed=int(rng.integers(MOST_SEED)),
    )
    return mean_level(worlds["all"]), mean_level(worlds["none"])


def _truth(treated: Any, control: Any) -> Effect:  # noqa: ANN401 — arrays (replications,)
    """Mean difference with its Monte Carlo error."""
    n = len(treated)
    difference = treated - control
    cov = np.cov(np.stack([difference, control])) / n
    independent = float(treated.var(ddof=1) + control.var(ddof=1))
    paired = float(difference.var(ddof=1))
    gain = math.sqrt(independent / paired) if paired > 0 else None
    return Effect(
        estimate=float(difference.mean()),
        std_error=math.sqrt(cov[0, 0]),
        estimand="total",
        method="counterfactual worlds on common draws",
        n_obs=n,
        df=n - 1,
        baseline=float(control.mean()),
        baseline_variance=float(cov[1, 1]),
        baseline_cov=float(cov[0, 1]),
        details={"replications": difference.tolist(), "crn_gain": gain},
    )


def _estimates(records: list[dict[str, Any]], trials: tuple[Trial, ...]) -> pd.DataFrame:
    """One row a replication and trial."""
    names = ["estimate", "std_error", "low", "high", "p_value"]
    numbers = np.array([r["readings"] for r in records]).reshape(-1, len(names))
    truth = [r["levels"][0] - r["levels"][1] for r in records]
    table = pd.DataFrame(numbers, columns=names)
    table.insert(0, "replication", np.repeat(np.arange(len(records)), len(trials)))
    table.insert(1, "trial", [t.label for t in trials] * len(records))
    return table.assign(truth=np.repeat(truth, len(trials)))


def _notes(records: list[dict[str, Any]], trials: tuple[Trial, ...]) -> pd.DataFrame:
    """What analyses warned of: the first message of a kind, and how many replications had one."""
    rows = []
    for k, trial in enumerate(trials):
        kinds: dict[str, list[str]] = {}
        for record in records:
            for message in record["notes"][k]:
                kinds.setdefault(_kind(message), []).append(message)
        rows += [(trial.label, each[0], len(each)) for each in kinds.values()]
    return pd.DataFrame(rows, columns=["trial", "message", "replications"])


def _kind(message: str) -> str:
    """A message without its figures."""
    return "".join(c for c in message if not (c.isdigit() or c in ".-"))
