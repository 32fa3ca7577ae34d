"""One strategy read by every design, each beside its own target and the truth, with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.values import is_number, whole_number
from experiments.designs.design import AuthorSplit, DualSided, UserSplit
from experiments.designs.rotation import Saturation, Switchback
from experiments.simulation.comparison import compare
from experiments.simulation.trial_launches import FEWEST_REGIONS, Launch
from experiments.simulation.trial_plan import BEFORE_HOURS, TrialPlan, check_platform
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
        target), estimand_gap (target - truth), mc_se_gap, bias, rmse, coverage (of the truth, over
        replications), reason.
    mechanisms : DataFrame
        One row a method and mechanism: gap_share (target - truth, as a share of the truth) with the
        mechanism on and off.
    truth : Effect
    launches : DataFrame
        As in `Comparison`, with method for trial: what the bias of launches is made of.
    left_out : DataFrame
        method, reason: what the platform cannot be read by.
    """

    table: pd.DataFrame
    mechanisms: pd.DataFrame
    truth: Effect
    launches: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["method"]))
    left_out: pd.DataFrame = field(default_factory=lambda: _left_out({}))

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
        lines += [
            f"{row['method']}: left out; {row['reason']}"
            for row in self.left_out.to_dict("records")
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


def usual_launches(n_regions: int) -> list[Trial]:
    """Launches without a lottery, on a platform with so many regions; none where they are few.

    A third of the regions, those with the most active viewers; half of them in two waves; one.
    """
    if n_regions < FEWEST_REGIONS:
        return []
    return [Trial(launch, name=name) for name, launch in _launches(n_regions).items()]


def _launches(n_regions: int) -> dict[str, Launch]:
    """Launches by name."""
    third, half = max(n_regions // 3, 1), max(n_regions // 2, 2)
    return {
        "launch, DID": Launch(third, where="most_active"),
        "launch, event study": Launch(third, where="most_active", reading="event_study"),
        "launch in 2 waves, group-time": Launch(
            half, waves=2, where="most_active", reading="group_time"
        ),
        "one region, synthetic control": Launch(1, reading="synthetic_control"),
        "one region, synthetic DID": Launch(1, reading="synthetic_did"),
    }


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
    and without burn-in (by 6 hours below 14 days), saturation; and, on platforms with four regions
    or more, launches that nobody drew by lot, with a week before them: the third of the regions
    whose viewers are most active, read by `diff_in_diff` and the mean of an `event_study`; half of
    them in two waves, by `group_time_effects`; the region next to the median, by
    `synthetic_control` and `synthetic_diff_in_diff`. The reason of a launch also says how far the
    gain is off where it is live, what it loses or wins through regions that are not, and what it
    reads with nothing launched: all three measured on the same draws.

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
    check_platform(platform)
    trials = [*usual_trials(hours), *usual_launches(platform.n_regions)]
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
    made_of = {row["trial"]: row for row in whole.launches.to_dict("records")}
    rows = [
        _row(row, first.loc[row["trial"]], on, off, made_of.get(row["trial"]))
        for row in whole.table.to_dict("records")
    ]
    mechanisms = pd.DataFrame(
        [
            {"method": method, "mechanism": name, "gap_share": on[method], "without": gaps[method]}
            for name, gaps in off.items()
            for method in on
        ]
    )
    return Triangulation(
        table=pd.DataFrame(rows),
        mechanisms=mechanisms,
        truth=whole.truth,
        launches=whole.launches.rename(columns={"trial": "method"}),
        left_out=_left_out({} if made_of else _launches(FEWEST_REGIONS), platform.n_regions),
    )


def _left_out(launches: Mapping[str, Launch], n_regions: int = 0) -> pd.DataFrame:
    """Launches that a platform has too few regions for."""
    has = f"the platform has {n_regions} region{'' if n_regions == 1 else 's'}"
    reason = f"{has}; a launch is read against others, and needs {FEWEST_REGIONS} or more"
    return pd.DataFrame(
        [(name, reason) for name in launches], columns=["method", "reason"], dtype=object
    )


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
    parts: Mapping[Any, Any] | None,
) -> dict[str, Any]:
    """One method: its first estimate, its target and the reason of the gap."""
    reason = _reason(row, on[row["trial"]], {name: g[row["trial"]] for name, g in off.items()})
    return {
        "method": row["trial"],
        "estimand": "total" if parts is None else "att",
        **{name: float(estimate[name]) for name in ("estimate", "std_error", "low", "high")},
        "target": row["target"],
        "truth": row["truth"],
        "estimation_error": float(estimate["estimate"]) - row["target"],
        "estimand_gap": row["target"] - row["truth"],
        "mc_se_gap": row["mc_se_target"],
        **{name: row[name] for name in ("bias", "rmse", "coverage")},
        "reason": reason if parts is None else "; ".join([reason, *_launched(row, parts)]),
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


def _launched(row: Mapping[Any, Any], parts: Mapping[Any, Any]) -> list[str]:
    """What a launch's bias is made of, as far as it stands out from noise, in per cent."""
    truth = row["truth"]
    each = {
        "{:+.0f} points where it is live": (parts["live"] - truth, parts["mc_se_live"]),
        "{:+.0f} through regions without it": (parts["spillover"], parts["mc_se_spillover"]),
        "with nothing launched it reads {:+.0f}% of it": (parts["trend"], parts["mc_se_trend"]),
    }
    return [
        words.format(100 * part / truth)
        for words, (part, error) in each.items()
        if abs(part / truth) > max(2 * error / abs(truth), _SHOWN_FROM)
    ]
