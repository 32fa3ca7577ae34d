"""Designs side by side against the truth: bias, spread, coverage, power, size and cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.frame import check_one_of
from experiments.simulation.simulation import ENGINES, Engine, Simulation, simulation_of
from experiments.simulation.trial_plan import (
    ALPHA,
    BEFORE_HOURS,
    Records,
    TrialPlan,
    checked_setting,
    share_error,
)
from experiments.simulation.trials import checked_trials

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from causal.effect import Effect
    from experiments.simulation.trials import Trial
    from recsys import LivePlatform, Strategy

_PARTS = ("live", "spillover", "trend")
_LAUNCHES = ("trial", *_PARTS, *(f"mc_se_{part}" for part in _PARTS))


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Trials beside the truth.

    Attributes
    ----------
    table : DataFrame
        One row a trial, in minutes of watching per viewer and hour: trial, truth, target (what the
        design compares, in expectation over its assignments), mean, bias, bias_share (of the
        truth; NaN where that is 0), sd, rmse, coverage (of the truth), coverage_target, power and
        size (of the 5 % test, under the strategy and under no effect), days, share_exposed;
        ``mc_se_*`` are Monte Carlo errors.
    simulation : Simulation
        Every estimate behind it.
    launches : DataFrame
        One row a `Launch`: trial; live (mean gain of the regions where it is live, while it is),
        spillover (the rest of the target: what reaches it through regions without it), trend (what
        it reads with nothing launched), mc_se_*.
    """

    table: pd.DataFrame
    simulation: Simulation
    launches: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(_LAUNCHES)))

    @property
    def truth(self) -> Effect:
        """All treated minus none."""
        return self.simulation.truth

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def summary(self) -> str:
        """The truth, and each trial's bias, error and coverage in a line."""
        truth = self.truth
        lines = [
            f"truth {truth.estimate:+.3g} minutes per viewer and hour, "
            f"{100 * truth.relative().estimate:+.3g}% of {truth.baseline:.3g}"
        ]
        lines += [
            f"{row['trial']}: bias {_bias_in_words(row)}, rmse "
            f"{row['rmse']:.3g}, coverage {row['coverage']:.2f}, power {row['power']:.2f}"
            for row in self.table.to_dict("records")
        ]
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Each trial's estimates as a row, with the truth as a line."""
        from causal.plots import estimates_by_row  # noqa: PLC0415 — loads matplotlib

        estimates = self.simulation.estimates
        rows = {
            name: estimates.loc[estimates["trial"] == name, "estimate"].to_numpy()
            for name in self.table["trial"]
        }
        return estimates_by_row(
            rows, truth=self.truth.estimate, label="watch minutes per viewer and hour", ax=ax
        )


def compare(
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
) -> Comparison:
    """Which of some designs to run: each simulated on the platform, against the truth.

    Parameters
    ----------
    platform, trials, strategy, hours, before_hours, tick_minutes, replications, engine, \
redraw_population, seed, n_jobs, progress
        As in `simulate`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError, TypeError
        As in `simulate`.

    Notes
    -----
    Coverage counts intervals that hold the replication's own truth. `coverage_target` counts those
    that hold that truth moved by what the design is off on average (target - truth), so that a
    wrong target and a wrong variance are not confused. It still falls short where the contrast
    hangs on who is treated, as authors' does: no standard error of one experiment sees that.
    Targets average unadjusted contrasts over every replication's assignment and its mirror image;
    where shares are uneven, less the contrast of the same assignment without a lift. A launch is
    not drawn by lot: its target is what it reads less what it reads with nothing launched, so that
    its bias is target - truth and the trend of its regions.

    Examples
    --------
    >>> from experiments import Trial, UserSplit
    >>> from recsys import LivePlatform, Strategy
    >>> platform = LivePlatform(n_viewers=60, n_authors=8, seed=1)
    >>> found = compare(platform, [Trial(UserSplit())], strategy=Strategy(0.25), hours=24,
    ...                 before_hours=24, replications=3)
    >>> found.table["days"].tolist()
    [1.0]
    """
    check_one_of(engine, "engine", ENGINES)
    plan = TrialPlan(
        platform=platform,
        trials=checked_trials(trials),
        strategy=strategy,
        setting=checked_setting(hours, before_hours, tick_minutes),
        redraw=bool(redraw_population),
        wanted=("readings", "targets", "null"),
    )
    records = plan.run(replications, seed=seed, n_jobs=n_jobs, progress=progress)
    simulation = simulation_of(plan, records)
    rows = [_row(simulation, records, k, t.label, hours / 24) for k, t in enumerate(plan.trials)]
    return Comparison(
        table=pd.DataFrame(rows), simulation=simulation, launches=_launches(records, plan.trials)
    )


def _launches(records: Records, trials: Sequence[Trial]) -> pd.DataFrame:
    """What launches read, in parts."""
    rows = []
    for k, trial in enumerate(trials):
        each = [record["parts"][k] for record in records.each]
        if each[0] is None:
            continue
        target, live, trend = np.array(each).T
        parts = dict(zip(_PARTS, (live, target - live, trend), strict=True))
        rows.append(
            {
                "trial": trial.label,
                **{name: float(part.mean()) for name, part in parts.items()},
                **{
                    f"mc_se_{name}": float(part.std(ddof=1)) / math.sqrt(len(each))
                    for name, part in parts.items()
                },
            }
        )
    return pd.DataFrame(rows, columns=list(_LAUNCHES))


def _bias_in_words(row: Mapping[Any, Any]) -> str:
    """Bias as a share of the truth, if there is one."""
    share = row["bias_share"]
    return f"{row['bias']:+.3g}" if math.isnan(share) else f"{100 * share:+.0f}% of the truth"


def _row(
    simulation: Simulation, records: Records, k: int, name: str, days: float
) -> dict[str, Any]:
    """Figures of one trial."""
    estimates = simulation.estimates
    contrasts, null, exposed = (
        records.array(what)[:, k] for what in ("contrasts", "null", "exposed")
    )
    mine = estimates[estimates["trial"] == name]
    truth, estimate = mine["truth"].to_numpy(), mine["estimate"].to_numpy()
    low, high = mine["low"].to_numpy(), mine["high"].to_numpy()
    n, error = len(mine), estimate - truth
    gap = float(np.mean(contrasts - truth))  # target - truth
    sd, bias = float(estimate.std(ddof=1)), float(error.mean())
    rmse = math.sqrt(float(np.mean(error**2)))
    chances = {
        "coverage": (low <= truth) & (truth <= high),
        "coverage_target": (low <= truth + gap) & (truth + gap <= high),
        "power": mine["p_value"].to_numpy() <= ALPHA,
        "size": null <= ALPHA,
    }
    level = float(truth.mean())
    return {
        "trial": name,
        "truth": level,
        "target": level + gap,
        "mean": float(estimate.mean()),
        "bias": bias,
        "bias_share": bias / level if level else math.nan,
        "sd": sd,
        "rmse": rmse,
        **{chance: float(hits.mean()) for chance, hits in chances.items()},
        "days": days,
        "share_exposed": float(exposed.mean()),
        "mc_se_target": float(contrasts.std(ddof=1)) / math.sqrt(n),
        "mc_se_mean": sd / math.sqrt(n),
        "mc_se_bias": float(error.std(ddof=1)) / math.sqrt(n),
        "mc_se_sd": sd / math.sqrt(2 * (n - 1)),
        "mc_se_rmse": float((error**2).std(ddof=1)) / math.sqrt(n) / (2 * rmse) if rmse else 0.0,
        **{f"mc_se_{chance}": share_error(hits) for chance, hits in chances.items()},
    }
