"""One strategy read by every design, each beside its own target and the truth, with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.values import is_number, whole_number
from experiments.designs.design import AuthorSplit, DualSided, UserSplit
from experiments.designs.rotation import Saturation, Switchback
from experiments.simulation.comparison import compare
from experiments.simulation.trial_plan import BEFORE_HOURS, TrialPlan
from experiments.simulation.trial_runs import Setting
from experiments.simulation.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from causal.effect import Effect
    from recsys import LivePlatform, Strategy

# what each mechanism is called, and the parameters that switch it off
MECHANISMS: Mapping[str, Mapping[str, float]] = {
    "habit": {"eta": 0.0},
    "authors' effort": {"psi": 0.0},
    "congestion and heat": {"kappa": 0.0, "chi": 0.0},
    "battles": {"pk": 0.0},
    "the attention budget": {"u0": 9.0},
}
_SHOWN_FROM = 0.02  # of the truth: a smaller gap needs no reason


@dataclass(frozen=True, kw_only=True, eq=False)
class Triangulation:
    """Every method's reading of one strategy beside the truth.

    Attributes
    ----------
    table : DataFrame
        One row a method, in minutes of watching per viewer and hour: method, estimand, estimate,
        std_error, low, high (of the first replication), target, truth, estimation_error (estimate -
        target), estimand_gap (target - truth), mc_se_gap, reason.
    mechanisms : DataFrame
        One row a method and mechanism: gap_share (target - truth, as a share of the truth) with the
        mechanism on and off.
    truth : Effect
    """

    table: pd.DataFrame
    mechanisms: pd.DataFrame
    truth: Effect

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def summary(self) -> str:
        """The truth, and each method's estimate and reason in a line."""
        lines = [f"truth {self.truth.estimate:+.3g} minutes per viewer and hour"]
        lines += [
            f"{row['method']}: {row['estimate']:+.3g} ({row['low']:.3g} to {row['high']:.3g}); "
            f"{row['reason']}"
            for row in self.table.to_dict("records")
        ]
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Estimates with intervals, their own targets, and the truth."""
        from causal.plots import truth_and_estimates  # noqa: PLC0415 — loads matplotlib

        return truth_and_estimates(self.table, label="watch minutes per viewer and hour", ax=ax)


def usual_trials(hours: float) -> list[Trial]:
    """The designs that an analyst would think of, at a length of experiment."""
    slice_minutes = _slice_minutes(hours)
    return [
        Trial(UserSplit(salt="viewers")),
        Trial(AuthorSplit(salt="authors")),
        Trial(DualSided(salt="both")),
        Trial(Switchback(120)),
        Trial(Switchback(slice_minutes)),
        Trial(Switchback(slice_minutes, burn_in_minutes=slice_minutes / 2)),
        Trial(Saturation((0.1, 0.9), slice_minutes=slice_minutes, salt="shares")),
    ]


def triangulate(
    platform: LivePlatform,
    *,
    strategy: Strategy,
    hours: float = 336,
    replications: int = 40,
    seed: int = 0,
    n_jobs: int = 1,
    progress: bool = False,
) -> Triangulation:
    """Read one strategy by all methods, each against the truth, with the measured reason of a gap.

    Parameters
    ----------
    platform : LivePlatform
    strategy : Strategy
    hours : float
        Length of each experiment.
    replications : int
        Over which targets are averaged; two or more.
    seed, n_jobs, progress
        As in `simulate`.

    Returns
    -------
    Triangulation

    Raises
    ------
    ValueError
        As in `simulate`; if the strategy has no effect, of which gaps are shares; or if `hours` are
        fewer than 72 or no whole slices.

    Notes
    -----
    estimate - truth = (estimate - target) + (target - truth): the error of estimation, and what the
    design is off however long it runs. The reason is measured: everything is run again with one
    mechanism off (habit, effort, congestion and heat, battles, a budget that never binds), and the
    one whose absence closes most of the gap is named with the points that it explains, in per cent
    of the truth. Methods: viewer and author split, dual-sided, rotation by 2 hours, by a day with
    and without burn-in (by 6 hours below 14 days), saturation.

    Examples
    --------
    >>> from recsys import LivePlatform, Strategy
    >>> platform = LivePlatform(n_viewers=60, n_authors=8, seed=1)
    >>> found = triangulate(platform, strategy=Strategy(0.25), hours=96, replications=2)
    >>> found.table["method"].iloc[0]
    'viewer split'
    """
    whole_number("replications", replications, 2)
    _check_hours(hours)
    trials = usual_trials(hours)
    run: dict[str, Any] = {
        "strategy": strategy,
        "hours": hours,
        "replications": replications,
        "seed": seed,
        "n_jobs": n_jobs,
        "progress": progress,
    }
    whole = compare(platform, trials, **run)
    if whole.truth.estimate == 0:
        raise ValueError("strategy must move watching: gaps are shares of its effect, which is 0")
    on = _gap_shares(whole.table)
    off = {
        name: _gaps_of(platform.replace(**changes), trials, **run)
        for name, changes in MECHANISMS.items()
    }
    first = whole.simulation.estimates.query("replication == 0").set_index("trial")
    rows = [_row(row, first.loc[row["trial"]], on, off) for row in whole.table.to_dict("records")]
    mechanisms = pd.DataFrame(
        [
            {"method": method, "mechanism": name, "gap_share": on[method], "without": gaps[method]}
            for name, gaps in off.items()
            for method in on
        ]
    )
    return Triangulation(table=pd.DataFrame(rows), mechanisms=mechanisms, truth=whole.truth)


def _slice_minutes(hours: float) -> float:
    """Slices of a day where there are 14, of 6 hours otherwise."""
    return 1440.0 if hours >= 14 * 24 else 360.0


def _check_hours(hours: object) -> None:
    """Three days or more, in whole slices."""
    if not (is_number(hours) and 72 <= hours < math.inf):
        raise ValueError(
            f"hours must be 72 or more, for rotations to have slices enough; got {hours!r}"
        )
    length = _slice_minutes(hours) / 60
    if hours % length:
        raise ValueError(f"hours must be whole slices of {length:g} hours; got {hours!r}")


def _gap_shares(table: pd.DataFrame) -> dict[str, float]:
    """Target minus truth as a share of the truth, by trial."""
    shares = (table["target"] - table["truth"]) / table["truth"]
    return dict(zip(table["trial"], shares.astype(float), strict=True))


def _gaps_of(
    platform: LivePlatform,
    trials: Sequence[Trial],
    *,
    strategy: Strategy,
    hours: float,
    replications: int,
    seed: int,
    n_jobs: int,
    progress: bool,
) -> dict[str, float]:
    """The same shares of another platform, without reading any estimate."""
    plan = TrialPlan(
        platform=platform,
        trials=tuple(trials),
        strategy=strategy,
        setting=Setting(hours=hours, before_hours=BEFORE_HOURS, tick_minutes=60),
        redraw=False,
        wanted=("targets",),
    )
    records = plan.run(replications, seed=seed, n_jobs=n_jobs, progress=progress)
    truth = np.subtract(*records.array("levels").T).mean()
    target = records.array("contrasts").mean(axis=0)
    shares = (target - truth) / truth
    return {trial.label: float(share) for trial, share in zip(trials, shares, strict=True)}


def _row(
    row: Mapping[Any, Any],
    estimate: pd.Series[Any],
    on: Mapping[str, float],
    off: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """One method: its first estimate, its target and the reason of the gap."""
    return {
        "method": row["trial"],
        "estimand": "total",
        **{name: float(estimate[name]) for name in ("estimate", "std_error", "low", "high")},
        "target": row["target"],
        "truth": row["truth"],
        "estimation_error": float(estimate["estimate"]) - row["target"],
        "estimand_gap": row["target"] - row["truth"],
        "mc_se_gap": row["mc_se_target"],
        "reason": _reason(
            row, on[row["trial"]], {name: g[row["trial"]] for name, g in off.items()}
        ),
    }


def _reason(row: Mapping[Any, Any], gap: float, without: Mapping[str, float]) -> str:
    """The mechanism whose absence closes most of the gap, with the points that it explains."""
    noise = 2 * row["mc_se_target"] / abs(row["truth"])
    if abs(gap) <= max(noise, _SHOWN_FROM):
        return f"no gap beyond {100 * max(noise, _SHOWN_FROM):.0f}% of the truth"
    name = min(without, key=lambda mechanism: abs(without[mechanism]))
    closed = abs(gap) - abs(without[name])
    if closed <= noise:
        return f"off by {100 * gap:+.0f}%; no single mechanism explains it"
    return f"off by {100 * gap:+.0f}%; {name} explains {100 * closed:.0f} of these points"
