"""What designs other than a rotation would be off, simulated on a twin of the platform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.designs.design import AuthorSplit, DualSided, UserSplit
from experiments.designs.rotation import Saturation
from experiments.simulation.trial_plan import TrialPlan
from experiments.simulation.trial_runs import Setting
from experiments.simulation.trials import Trial
from recsys import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recsys import LivePlatform

# parameters that no viewer-side or time-side pilot identifies: the worst of these is shown
UNKNOWN: tuple[Mapping[str, float], ...] = (
    {},
    {"psi": 0.7},
    {"psi": 0.7, "rho_e": 0.9},
    {"kappa": 1.0},
    {"psi": 0.0, "kappa": 1.0},
)
SHARES = (0.1, 0.5, 0.9)

_REPLICATIONS = 3
_LIFT = Strategy(0.1)
_BEFORE = 72.0  # hours


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinRow:
    """A design on the twin: bias as a share of the effect, error as a share of the level."""

    trial: Trial
    bias_low: float
    bias_high: float
    error: float


def twin_designs(
    twin: LivePlatform,
    *,
    days: float,
    seed: int,
    sizes: tuple[int, int] | None = None,
    viewer_noise: float = 0.0,
) -> list[TwinRow]:
    """Viewer split, author split, dual-sided and saturation, worst over `UNKNOWN`.

    `sizes` are the viewers and authors of the platform itself, whose twin may have fewer: errors
    fall with the root of the units that are drawn by lot. Shares are drawn for slices of time.
    `viewer_noise` (as of a `Calibration`) makes a viewer split's error at least that of the log, 4
    s^2 (1 - R^2) / N.
    """
    n_viewers = twin.n_viewers if sizes is None else sizes[0]
    floors = (math.sqrt(4 * viewer_noise / days / n_viewers), 0.0, 0.0, 0.0)
    ratios = [
        math.sqrt(mine / theirs)
        for mine, theirs in zip(
            (twin.n_viewers, twin.n_authors), sizes or (twin.n_viewers, twin.n_authors), strict=True
        )
    ]
    scales = (*ratios, max(ratios), 1.0)
    trials = (
        Trial(UserSplit(salt="viewers")),
        Trial(AuthorSplit(salt="authors")),
        Trial(DualSided(salt="both")),
        Trial(Saturation(SHARES, salt="shares")),
    )
    setting = Setting(
        hours=24.0 * max(round(days), len(SHARES) + 1), before_hours=_BEFORE, tick_minutes=60
    )
    gaps, errors = [], []
    for changes in UNKNOWN:
        plan = TrialPlan(
            platform=twin.replace(**changes),
            trials=trials,
            strategy=_LIFT,
            setting=setting,
            redraw=False,
            wanted=("readings", "targets"),
        )
        records = plan.run(_REPLICATIONS, seed=seed, n_jobs=1, progress=False)
        levels = records.array("levels")
        truth = float(np.subtract(*levels.T).mean())
        gaps.append(records.array("contrasts").mean(axis=0) / truth - 1)
        errors.append(records.array("readings")[:, :, 1].mean(axis=0) / levels[:, 1].mean())
    gap, error = np.stack(gaps), np.stack(errors)
    return [
        TwinRow(
            trial=trial,
            bias_low=float(gap[:, k].min()),
            bias_high=float(gap[:, k].max()),
            error=max(float(error[:, k].max()) * scales[k], floors[k]),
        )
        for k, trial in enumerate(trials)
    ]
