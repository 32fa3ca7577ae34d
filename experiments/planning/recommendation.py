"""From a pilot to the experiment to run: designs ranked by error, and the plan of the best."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from causal.effect import EstimationWarning
from causal.frame import Table, check_columns, check_one_of, column_names
from causal.values import is_number, whole_number
from causal.words import number_in_words
from experiments.designs.rotation import Schedule, Switchback
from experiments.pairs.entanglement import ENTANGLED
from experiments.planning.calibration import Calibration, as_platform, calibrate_platform
from experiments.planning.candidates import (
    FEWEST_SLICES,
    LEVEL,
    SYNTHETIC,
    Candidate,
    launch_candidates,
    ranked,
    rotation_candidates,
    twin_candidates,
)
from experiments.planning.past_evidence import SyntheticPlacebos, past_evidence
from experiments.planning.pilot_model import Pilot, Posterior, posterior_of, read_pilot
from experiments.planning.rotation_options import CRITERIA
from experiments.planning.share_pilot import interference
from experiments.planning.twin_designs import UNKNOWN, twin_designs
from experiments.rotations.carryover import carryover_bound
from experiments.simulation.battle_power import entangled_share
from experiments.sizing.rotation_power import PowerCurve, switchback_power
from recsys import LivePlatform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from experiments.rotations.carryover import CarryoverBound

_REPLICATIONS, _DRAWS = 500, 199  # of the power on the pilot's cells
_ESTIMATORS = {
    "Switchback": ("Hajek, adjusted for the design", "randomization"),
    "UserSplit": ("difference in means, adjusted for the time before", "design-based"),
    "AuthorSplit": ("difference in means, adjusted for the time before", "design-based"),
    "DualSided": ("total of dual_sided_effect, adjusted for the time before", "two-way"),
    "Saturation": ("total of share_response", "clusters by region and slice"),
    SYNTHETIC: ("synthetic_control, demeaned, daily", "placebo launches"),
}
_NEAR_0 = 1e-3  # of a standard error: a bias that does not matter
_ENOUGH = 0.8  # power
_ENTANGLED = f"above {ENTANGLED:.0%}, author-side designs are rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What the platform allows.

    Parameters
    ----------
    min_slice_minutes, max_slice_minutes : float
        Lengths of a slice.
    max_days : float
        Length of the confirmatory experiment.
    randomise_viewers, randomise_authors, randomise_time : bool
        Whose treatment may be drawn by lot.
    n_regions : int
        Regions that may rotate on coins of their own.
    max_treated_share : float
        Largest share of viewers (or of time) that may be treated at once.

    Raises
    ------
    ValueError
        If a length is not positive, the shortest slice is above the longest, or a share is not in
        (0, 1].
    """

    min_slice_minutes: float = 30
    max_slice_minutes: float = 2880
    max_days: float = 28
    randomise_viewers: bool = True
    randomise_authors: bool = True
    randomise_time: bool = True
    n_regions: int = 1
    max_treated_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("min_slice_minutes", "max_slice_minutes", "max_days"):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be positive; got {value!r}")
        if self.min_slice_minutes > self.max_slice_minutes:
            raise ValueError(
                f"min_slice_minutes {self.min_slice_minutes:g} must be at most max_slice_minutes "
                f"{self.max_slice_minutes:g}"
            )
        for name in ("randomise_viewers", "randomise_authors", "randomise_time"):
            if getattr(self, name) not in (True, False):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}")
        whole_number("n_regions", self.n_regions, 1)
        share = self.max_treated_share
        if not (is_number(share) and 0 < share <= 1):
            raise ValueError(f"max_treated_share must be in (0, 1]; got {share!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Recommendation:
    """Designs ranked by their error, and the plan of the best.

    Attributes
    ----------
    table : DataFrame
        One row a design, best first, in the units of the outcome: design, slice_minutes,
        burn_in_minutes, days, bias_low, bias_high, std_error, rmse, regret, power, cost_days
        (pilot and experiment), rejected (why not; empty if it may be run).
    best : Series
        Its first row.
    carryover : CarryoverBound or None
        What the pilot refutes; None without a treated rotation pilot.
    screening : DataFrame
        check, result, detail: what was asked before designs were compared.
    schedule : Schedule or None
        Of the confirmatory rotation; None where another design is best.
    power_curve : PowerCurve or None
        Of that rotation on the pilot's own cells, for what carry-over leaves of the effect.
    twin : LivePlatform
        On which the other designs were simulated.
    to_come : DataFrame
        hours, mean, low, high: share of the effect that is still to come so long after a switch,
        with its ends among the carry-overs that hold 80 % of the posterior's weight.
    plan : dict
        What is registered before the experiment: plain JSON.
    """

    table: pd.DataFrame
    best: pd.Series[Any]
    carryover: CarryoverBound | None
    screening: pd.DataFrame
    schedule: Schedule | None
    power_curve: PowerCurve | None
    twin: LivePlatform
    to_come: pd.DataFrame
    plan: dict[str, Any]

    def __str__(self) -> str:
        return self.summary()

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def summary(self) -> str:
        """What to run, how far off it may be, and what carry-over is."""
        best = self.best
        low, high = (seen_bias(best[end], best["std_error"]) for end in ("bias_low", "bias_high"))
        power = f", power {best['power']:.2f}" if best["power"] == best["power"] else ""
        lines = [
            f"to tell an effect of {self.plan['effect']:g} on {self.plan['outcome']} from none, "
            f"run {best['design']} for {best['days']:g} days: standard error "
            f"{number_in_words(best['std_error'])}, bias {number_in_words(low)} to "
            f"{number_in_words(high)}, in units of {self.plan['outcome']}{power}; "
            f"{best['cost_days']:g} days with the pilot"
        ]
        if best["power"] < _ENOUGH:
            lines.append(
                f"power is below {_ENOUGH:g}: {100 * (1 - best['power']):.0f}% of such experiments "
                "would not find the effect; take more days, or ask for a larger one"
            )
        lines.append(f"of the effect of a switch there is still to come: {', '.join(self._come())}")
        if self.carryover is not None:
            lines.append(self.carryover.summary())
        return "\n".join(lines)

    def _come(self) -> list[str]:
        """What is still to come, hour by hour, in words."""
        return [
            f"{row['mean']:.0%} after {row['hours']:g} h ({row['low']:.0%} to {row['high']:.0%})"
            for row in self.to_come.to_dict("records")
        ]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Largest bias against standard error, rotations by slice length on a path."""
        from causal.plots import bias_and_error  # noqa: PLC0415 — loads matplotlib

        return bias_and_error(self.table, ax)


def seen_bias(bias: float, std_error: float) -> float:
    """A bias as it is shown: 0 where it is far below the error."""
    return float(bias) if abs(bias) >= _NEAR_0 * std_error else 0.0


def recommend(
    pilot: Table,
    *,
    outcome: str,
    time: str,
    treatment: str | None = None,
    unit: str | None = None,
    schedule: Schedule | None = None,
    effect: float,
    days: float = 14,
    constraints: Constraints | None = None,
    history: Table | Mapping[str, Table] | None = None,
    platform: Any = None,  # noqa: ANN401 — a LivePlatform or a Calibration
    criterion: Literal["minimax_regret", "bayes"] = "minimax_regret",
    seed: int = 0,
) -> Recommendation:
    """Which experiment to run, from a pilot: the design, its slices, how long, and its plan.

    Parameters
    ----------
    pilot : Table
        Rows with instants; three days or more. Where rows also have ``viewer_id`` and
        ``author_id`` the twin is calibrated to them.
    outcome, time : str
        Columns.
    treatment : str, optional
        Column of 0 and 1: a treated pilot tells how treatment carries over.
    unit : str, optional
        Column of the region.
    schedule : Schedule, optional
        The pilot's plan; needed for the test of carry-over.
    effect : float
        The total effect to be told from none, in the units of the outcome.
    days : float
        Length of the experiment; at most `constraints.max_days`.
    constraints : Constraints, optional
    history : Table or mapping, optional
        Past experiments (columns ``estimate`` and ``std_error``), from which a prior of the effect
        is made; or past data with the pilot's columns, for placebo launches. Both:
        ``{"experiments": ..., "data": ...}``.
    platform : LivePlatform or Calibration, optional
        The twin, from `calibrate_platform`. Without it the other designs' rows are shown, on an
        uncalibrated platform, but not chosen.
    criterion : {"minimax_regret", "bayes"}
        Least largest regret over the carry-overs that the pilot leaves likely; or least squared
        error on average over the posterior.
    seed : int
        Of the schedule and of simulations.

    Returns
    -------
    Recommendation

    Raises
    ------
    ValueError
        If columns are absent, the treatment is not 0 and 1 or not as scheduled, the pilot is
        shorter than three days, the effect is 0, `days` does not fit, or nothing may be randomised
        and there is no history to launch placebos on.
    TypeError
        If `time` holds no instants, `platform` is no platform, or `schedule` or `constraints` are
        of another kind.

    Notes
    -----
    How fast and how much of the effect builds up, memory of the noise and its share of white noise
    have a joint posterior from the pilot, flat before it. A rotation's bias is -effect times what
    carry-over takes (`switchback_attenuation`), its variance 4 s^2 / n with s^2 the
    expected variance of slice means within strata; coins are independent of the noise, so that its
    correlation over slices adds nothing beyond. Other designs: bias and error relative to the level
    from the twin, worst over a stated grid of parameters that no pilot identifies; a saturation
    pilot widens a viewer split's bias by what it shows to spill over. A launch that nobody draws by
    lot has the bias and the error of its placebos, launches of nothing at midnights of `history`:
    before and after, or difference-in-differences of one region; and, with four regions or more
    (also of an untreated pilot), one region against a synthetic control, demeaned. What one region
    alone does not set off, or hands to the others, placebos cannot show. Data of the pilot are not
    used again in the confirmatory read-out. A burn-in of half a day reads half of the day's hours:
    the effect is taken to be the same in all.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> pilot = pd.DataFrame({"ts": pd.date_range("2026-03-02", periods=336, freq="h")})
    >>> pilot["watch"] = np.random.default_rng(0).normal(20, 1, 336)
    >>> recommend(pilot, outcome="watch", time="ts", effect=0.5).best["design"][:10]
    'switchback'
    """
    rules = Constraints() if constraints is None else constraints
    check_one_of(criterion, "criterion", CRITERIA)
    seed = whole_number("seed", seed, 0)
    _check_wishes(effect, days, rules, unit)
    columns = {"outcome": outcome, "time": time, "treatment": treatment, "unit": unit}
    check_columns(column_names(pilot), {k: v for k, v in columns.items() if v is not None})
    region = unit if rules.n_regions > 1 else None
    read = read_pilot(
        pilot,
        outcome=outcome,
        time=time,
        treatment=treatment,
        unit=region,
        least_minutes=rules.min_slice_minutes,
    )
    _check_plan(pilot, schedule, time, treatment, unit)
    posterior = posterior_of(read)
    past = past_evidence(
        history,
        outcome=outcome,
        time=time,
        unit=unit,
        days=days,
        effect=effect,
        untreated=pilot if treatment is None else None,
    )
    twin, sizes, viewer_noise = _twin(pilot, platform, time, outcome, posterior, seed)
    known = sizes is not None
    people = rules.randomise_viewers or rules.randomise_authors
    entangled = entangled_share(twin, seed=seed)
    roles: dict[str, Any] = {"outcome": outcome, "time": time, "unit": unit}
    carryover, tested = _carried(pilot, treatment, schedule, roles, seed)
    spillover = interference(pilot, treatment=treatment, schedule=schedule, **roles)
    candidates = [
        *rotation_candidates(read, rules, days),
        *twin_candidates(
            twin_designs(twin, days=days, seed=seed, sizes=sizes, viewer_noise=viewer_noise)
            if people
            else [],
            rules,
            effect,
            abs(read.level),
            known=known,
            entangled=entangled,
            spillover=spillover,
        ),
        *launch_candidates(past, rules),
    ]
    table = ranked(candidates, posterior, past, effect, days, read.days, criterion)
    best = table.iloc[0]
    chosen = next(c for c in candidates if c.name == best["design"])
    plan = _scheduled(chosen, read, seed)
    curve, simulated = _power_on_cells(chosen, read, posterior, effect, seed)
    screening = [
        _randomised(rules),
        ("interference between viewers", spillover.result, spillover.detail),
        ("carry-over", *tested),
        ("entanglement", f"{entangled:.0%} of watch", _ENTANGLED),
        ("twin", "calibrated" if known else "not calibrated", _twin_words(known)),
        ("launch in one region", *_launched(past.synthetic)),
        ("past experiments", str(past.n_experiments), "they draw the effect that bias is taken of"),
        ("power on the pilot's cells", *simulated),
    ]
    return Recommendation(
        table=table,
        best=best,
        carryover=carryover,
        screening=pd.DataFrame(screening, columns=["check", "result", "detail"]),
        schedule=plan,
        power_curve=curve,
        twin=twin,
        to_come=_to_come(posterior),
        plan=_registered(chosen, plan, roles, effect, float(best["days"]), curve, seed),
    )


def _check_wishes(effect: object, days: object, rules: Constraints, unit: str | None) -> None:
    """An effect, and days within the constraints."""
    if not isinstance(rules, Constraints):
        raise TypeError(f"constraints must be Constraints(...); got {type(rules).__name__}")
    if not (is_number(effect) and math.isfinite(effect) and effect != 0):
        raise ValueError(f"effect must be a number other than 0; got {effect!r}")
    if not (is_number(days) and 1 <= days <= rules.max_days):
        raise ValueError(f"days must be from 1 to max_days {rules.max_days:g}; got {days!r}")
    if rules.n_regions > 1 and unit is None:
        raise ValueError(
            f"n_regions={rules.n_regions} needs unit=, the pilot's column of the region: the noise "
            "of a region is not known otherwise"
        )


def _check_plan(
    pilot: Table, schedule: Schedule | None, time: str, treatment: str | None, unit: str | None
) -> None:
    """A schedule that the pilot's treatment kept to."""
    if schedule is None:
        return
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule must be a Schedule; got {type(schedule).__name__}")
    if schedule.design.regions is not None and unit is None:
        raise ValueError("schedule has regions: pass unit=, the pilot's column of the region")
    if treatment is None or not isinstance(schedule.design, Switchback):
        return
    off = schedule.check(pilot, time=time, treatment=treatment, region=unit or "region")
    if len(off):
        raise ValueError(
            f"column {treatment!r} must be as scheduled; {len(off)} rows are not, e.g. in slices "
            f"{pd.unique(off['slice'])[:3].tolist()}: see schedule.check"
        )


def _scheduled(chosen: Candidate, read: Pilot, seed: int) -> Schedule | None:
    """The schedule of a rotation."""
    if chosen.option is None:
        return None
    option = chosen.option
    return option.design.schedule(start=read.next_day(), days=option.days, seed=seed)


def _carried(
    pilot: Table,
    treatment: str | None,
    schedule: Schedule | None,
    roles: Mapping[str, Any],
    seed: int,
) -> tuple[CarryoverBound | None, tuple[str, str]]:
    """What the pilot refutes about carry-over, or why it cannot be asked."""
    if treatment is None:
        return None, (
            "not tested",
            "the pilot has no treatment: any carry-over is likely",
        )
    if schedule is None or not isinstance(schedule.design, Switchback):
        return None, (
            "not tested",
            "the pilot's schedule is needed: runs of equal arms are no slices",
        )
    minutes = (schedule.table["end"] - schedule.table["start"]).dt.total_seconds().min() / 60
    orders = [0.0, *(minutes * k for k in (0.5, 1.0, 2.0, 4.0))]
    given = dict(roles)
    if schedule.design.regions is None:
        given["unit"] = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            bound = carryover_bound(
                pilot, treatment=treatment, schedule=schedule, orders=orders, seed=seed, **given
            )
    except ValueError as error:
        return None, ("not tested", str(error))
    shown = "shown" if bound.shown else "not shown"
    return bound, (shown, bound.summary())


def _twin(
    pilot: Table,
    platform: object,
    time: str,
    outcome: str,
    posterior: Posterior,
    seed: int,
) -> tuple[LivePlatform, tuple[int, int] | None, float]:
    """The twin, the platform's viewers and authors, and the noise of viewers.

    Given, or calibrated to the pilot; no sizes where the twin is that of the defaults.
    """
    if isinstance(platform, Calibration):
        return platform.platform, platform.sizes, platform.viewer_noise
    if platform is not None:
        twin = as_platform(platform)
        return twin, (twin.n_viewers, twin.n_authors), 0.0
    if {"viewer_id", "author_id"} <= set(column_names(pilot)):
        found = calibrate_platform(pilot, time=time, watch=outcome, seed=seed)
        twin = found.platform.replace(rho_h=posterior.decay)
        return twin, found.sizes, found.viewer_noise
    return LivePlatform(n_viewers=300, n_authors=40, seed=seed, rho_h=posterior.decay), None, 0.0


def _power_on_cells(
    chosen: Candidate, read: Pilot, posterior: Posterior, effect: float, seed: int
) -> tuple[PowerCurve | None, tuple[str, str]]:
    """Power of the chosen rotation on the pilot's own cells, its treatment's effect taken out."""
    if chosen.option is None:
        return None, ("not run", "another design than a rotation is best")
    design = chosen.option.design
    left = effect * (1 - float(chosen.option.lost @ posterior.carry_weight))
    if read.days * 1440 < FEWEST_SLICES * design.slice_minutes:
        return None, ("not run", f"the pilot's {read.days:g} days are too short for its slices")
    cells = pd.DataFrame(
        {
            "time": read.table["start"],
            "region": read.table["region"].astype(str),
            "outcome": read.without(posterior),
        }
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EstimationWarning)
        try:
            curve = switchback_power(
                cells,
                outcome="outcome",
                time="time",
                unit="region" if design.regions is not None else None,
                effects=[left * share for share in (0.5, 1.0, 1.5, 2.0)],
                slice_minutes=design.slice_minutes,
                burn_in_minutes=design.burn_in_minutes,
                n_replications=_REPLICATIONS,
                n_draws=_DRAWS,
                seed=seed,
            )
        except ValueError as error:
            return None, ("not run", str(error))
    notes = "; ".join(dict.fromkeys(str(w.message) for w in caught))
    at = float(curve.table["power"].iloc[1])
    said = f"over the pilot's {read.days:g} days, of the {number_in_words(left)} that is left"
    return curve, (f"{at:.2f}", f"{said}; {notes}" if notes else said)


def _to_come(posterior: Posterior) -> pd.DataFrame:
    """What is still to come of the effect an hour, a quarter of a day and a day after a switch."""
    rows = [(float(h), *posterior.to_come(h)) for h in (1, 6, 24)]
    return pd.DataFrame(rows, columns=["hours", "mean", "low", "high"])


def _registered(
    chosen: Candidate,
    plan: Schedule | None,
    roles: Mapping[str, str | None],
    effect: float,
    days: float,
    curve: PowerCurve | None,
    seed: int,
) -> dict[str, Any]:
    """What is written down before the experiment begins: plain JSON."""
    known = chosen.design
    design = {} if known is None else {f.name: getattr(known, f.name) for f in fields(known)}
    kind = chosen.name if known is None else type(known).__name__
    return {
        "design": chosen.name,
        "arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in design.items()},
        "seed": seed,
        "start": None if plan is None else plan.table["start"].min().isoformat(),
        "days": days,
        "outcome": roles["outcome"],
        "estimator": _ESTIMATORS.get(kind, ("difference to placebo launches", ""))[0],
        "inference": _ESTIMATORS.get(kind, ("", "placebo launches"))[1],
        "burn_in_minutes": design.get("burn_in_minutes"),
        "level": LEVEL,
        "effect": effect,
        "power_on_pilot": None if curve is None else float(curve.table["power"].iloc[1]),
        "data": "rows of the pilot are not used again",
    }


def _randomised(rules: Constraints) -> tuple[str, str, str]:
    """What may be drawn by lot."""
    names = {"viewers": rules.randomise_viewers, "authors": rules.randomise_authors}
    may = [name for name, allowed in {**names, "time": rules.randomise_time}.items() if allowed]
    return ("drawn by lot", ", ".join(may) or "nothing", "what may not be rejects its designs")


def _launched(placebos: SyntheticPlacebos) -> tuple[str, str]:
    """What launches of nothing in one region showed."""
    if placebos.mean is None or placebos.sd is None:
        return "not predicted", placebos.reason
    return (
        f"{placebos.n_launches} placebos",
        f"of {placebos.days} days in {placebos.n_regions} regions, by synthetic control: mean "
        f"{number_in_words(placebos.mean)}, sd {number_in_words(placebos.sd)}; they do not show "
        "what the others would have caught of a launch, nor what one region alone does not set off",
    )


def _twin_words(known: bool) -> str:
    """Where the other designs' figures come from."""
    each = [" with ".join(f"{k} {v:g}" for k, v in changes.items()) for changes in UNKNOWN[1:]]
    unknown = f"worst over {', '.join(each)}"
    if known:
        return f"other designs are simulated on it, {unknown}"
    return f"defaults, {unknown}: a log of viewers and authors fits one"
