"""How long treatment still matters: what a rotation's log refutes, and what it cannot tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from causal.distributions import wald_test
from causal.effect import EffectCurve
from causal.frame import Table, check_level, check_one_of, listed
from causal.values import is_number, whole_number
from causal.words import number_in_words
from experiments.rotations.exposure_decay import DecayModel
from experiments.rotations.period_series import period_series
from experiments.rotations.slice_coins import coin_windows, dependence, read_rotation
from experiments.rotations.slice_readings import check_both_arms, fit_windows, read_windows
from experiments.rotations.slice_rows import Roles, timed_rows
from experiments.rotations.slice_statistic import Windows, scored
from experiments.splits.multiplicity import adjust_p_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.values import JsonScalar, JsonValue
    from experiments.designs.rotation import Schedule
    from experiments.rotations.slice_coins import Rotation
    from experiments.rotations.slice_readings import Reading

_FEWEST_WINDOWS = 8
_CHUNK = 2_000_000  # entries of a matrix of paths and windows
_DECAY_ENTRIES = 600_000  # paths times periods of a decay's bound
_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CarryoverBound:
    """What a log says about how long treatment still matters.

    Parameters
    ----------
    lower_bound : float
        The largest order that was refuted: carry-over is longer than it. In minutes, or periods.
        0 with `shown` False where nothing was refuted: not shown, which is not none.
    shown : bool
        Whether any order was refuted.
    table : DataFrame
        One row a pair of orders: order, next_order, difference, std_error, p_value, p_adjusted.
    estimates : EffectCurve
        The effect under each order that was looked at, with the covariance over paths.
    decay, decay_upper : float, optional
        Share of an exposure left after `period`, and its upper 95 % bound; 1 where the log has
        none. None where the log has no grid of periods.
    t90, t90_upper : float, optional
        Time until nine tenths have faded; infinite where `decay_upper` is 1.
    period : float, optional
        In minutes, or periods.
    level : float
        Of the lower bound.
    unit : str
        ``"minutes"`` or ``"periods"``.
    stopped : str
        Why longer orders were not looked at; empty if all were.
    """

    lower_bound: float
    shown: bool
    table: pd.DataFrame
    estimates: EffectCurve
    decay: float | None
    decay_upper: float | None
    t90: float | None
    t90_upper: float | None
    period: float | None
    level: float
    unit: str
    stopped: str

    def __str__(self) -> str:
        return self.summary()

    def to_frame(self) -> pd.DataFrame:
        """The table of pairs of orders."""
        return self.table.copy()

    def summary(self) -> str:
        """What was refuted, how fast carry-over fades, and what was not looked at."""
        at = f"{100 * self.level:.4g}%"
        if self.shown:
            text = f"carry-over is longer than {self.lower_bound:g} {self.unit} ({at} level)"
        else:
            text = (
                f"carry-over is not shown at the {at} level, which does not say that there is none"
            )
        parts = [text]
        if self.decay is not None and self.t90 is not None and self.t90_upper is not None:
            known = math.isfinite(self.t90_upper)
            if self.shown:
                most = f"at most {number_in_words(self.t90_upper)} (95% bound)"
                bound = most if known else "without an upper bound from this log"
                parts.append(f"90% of it fades in {number_in_words(self.t90)} {self.unit}, {bound}")
            else:
                within = f"fades within {number_in_words(self.t90_upper)} {self.unit} (95% bound)"
                bound = within if known else "may take any time: this log has no upper bound"
                parts.append(f"of any that there is, 90% {bound}")
        return "; ".join([*parts, self.stopped] if self.stopped else parts)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the estimate against the order that is assumed."""
        return self.estimates.plot(ax)


def burn_in_curve(
    frame: Table,
    *,
    outcome: str,
    treatment: str,
    time: str,
    burn_ins: Sequence[float],
    unit: str | None = None,
    schedule: Schedule | None = None,
    points: Sequence[int] | None = None,
    slice_minutes: float | None = None,
    carryover: float = 0,
    adjust: Literal["design"] | None = "design",
    covariates: Sequence[str] = (),
    weight: str | None = None,
) -> EffectCurve:
    """The effect against the burn-in: where it stops moving, carry-over has faded.

    Parameters
    ----------
    burn_ins : sequence of float
        In minutes; in periods where time is periods. Going up.
    frame, outcome, treatment, time, unit, schedule, points, slice_minutes, carryover, adjust
        As in `switchback_effect`.
    covariates, weight
        As in `switchback_effect`.

    Returns
    -------
    EffectCurve
        With the joint covariance: all points hang on the same coins. `details` has
        ``plateau_p_values``, for each burn-in but the last the Wald test that the effect does not
        move any more, and ``plateau_from``, the first burn-in with a p-value above 0.05.

    Raises
    ------
    ValueError
        If burn-ins do not go up or reach over a slice, or as in `switchback_effect`.

    Notes
    -----
    A plateau that is not refuted is not shown: the later points have ever fewer rows.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"t": range(1, 97), "arm": [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0] * 8})
    >>> log["y"] = log["arm"] + log["t"] % 7
    >>> roles = {"outcome": "y", "treatment": "arm", "time": "t"}
    >>> len(burn_in_curve(log, burn_ins=[0, 1], slice_minutes=3, **roles))
    2
    """
    check_one_of(adjust, "adjust", ("design", None))
    lengths = _going_up("burn_ins", burn_ins)
    if not (is_number(carryover) and 0 <= carryover < math.inf):
        raise ValueError(f"carryover must be 0 or more; got {carryover!r}")
    roles = Roles(
        outcome, treatment, time, unit, weight, None, tuple(listed(covariates, "covariates"))
    )
    timed = timed_rows(frame, roles)
    reach = timed.kind.length("carryover", carryover)
    burnt = [timed.kind.length("burn_ins", b) for b in lengths]
    rotation = read_rotation(
        timed,
        schedule=schedule,
        points=points,
        slice_minutes=slice_minutes,
        lengths=[reach, *burnt],
    )
    readings = [
        read_windows(rotation, carryover=reach, burn_in=b, adjusted=adjust == "design")
        for b in burnt
    ]
    fits = [fit_windows(reading) for reading in readings]
    scores, kappa = _joint_scores(readings, [fit.scores for fit in fits])
    estimate = np.array([fit.estimate for fit in fits])
    cov = (scores * kappa) @ scores.T
    df = tuple(float(fit.df) for fit in fits)
    return EffectCurve(
        index=tuple(_plain(b) for b in lengths),
        index_name="burn_in",
        estimate=estimate,
        cov=cov,
        estimand="total",
        method="switchback, Hajek over windows" + (", adjusted for the design" if adjust else ""),
        n_obs=readings[0].n_obs,
        n_clusters=len(np.unique(readings[0].windows.last[fits[0].used])),
        df=df,
        details={
            **_plateau(lengths, estimate, cov, min(df)),
            "index_unit": rotation.kind.unit,
        },
    )


def _joint_scores(
    readings: Sequence[Reading], scores: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of several readings by windows that any has, and those windows' allowance."""
    coins = readings[0].coins
    keys = [r.windows.first * len(coins) + r.windows.last for r in readings]
    every = np.unique(np.concatenate(keys))
    found = np.zeros((len(readings), len(every)))
    for row, (key, score) in enumerate(zip(keys, scores, strict=True)):
        found[row, np.searchsorted(every, key)] = score
    first, last = every // len(coins), every % len(coins)
    return found, dependence(coins, first, last, coins.law.chance(first, last) > 0)


def _plateau(
    lengths: Sequence[float], estimate: NDArray[np.float64], cov: NDArray[np.float64], df: float
) -> dict[str, JsonValue]:
    """For each burn-in, whether the effect moves beyond it."""
    p_values = []
    for j in range(len(lengths) - 1):
        contrast = np.zeros((len(lengths) - 1 - j, len(lengths)))
        contrast[:, j] = -1
        contrast[np.arange(len(contrast)), np.arange(j + 1, len(lengths))] = 1
        spread = contrast @ cov @ contrast.T
        moved = float(np.diag(spread).max()) > 1e-20 * float(np.diag(cov).max())
        p_values.append(wald_test(contrast @ estimate, spread, df).p_value if moved else 1.0)
    still = [b for b, p in zip(lengths, p_values, strict=False) if p > 0.05]
    return {"plateau_p_values": p_values, "plateau_from": _plain(still[0]) if still else None}


def carryover_bound(  # noqa: PLR0913 — columns, slices and choices, each by name
    frame: Table,
    *,
    outcome: str,
    treatment: str,
    time: str,
    orders: Sequence[float],
    unit: str | None = None,
    schedule: Schedule | None = None,
    points: Sequence[int] | None = None,
    slice_minutes: float | None = None,
    adjust: Literal["design"] | None = "design",
    covariates: Sequence[str] = (),
    weight: str | None = None,
    level: float = 0.90,
    n_draws: int = 999,
    seed: int = 0,
) -> CarryoverBound:
    """A lower bound of how long treatment still matters, and how fast its effect fades.

    Parameters
    ----------
    orders : sequence of float
        Lengths of carry-over to tell apart, going up, such as 0, 60, 180. In minutes; in periods
        where time is periods.
    frame, outcome, treatment, time, unit, schedule, points, slice_minutes, adjust, covariates
        As in `switchback_effect`.
    weight
        As in `switchback_effect`.
    level : float
        The chance that the bound is not above the true length.
    n_draws, seed : int
        Of the paths compared with.

    Returns
    -------
    CarryoverBound

    Raises
    ------
    ValueError
        If fewer than two orders have 8 windows whose coins are all alike, or as in
        `switchback_effect`.

    Notes
    -----
    For neighbouring orders m1 < m2 the effects under both are compared: if carry-over is no longer
    than m1 they are equal. The difference, studentised by slice, stands among those of drawn paths,
    on which outcomes move by the effect under m1 (the treated share of a window's coins of it); p
    is corrected over the ladder by Holm. Rejecting m1 says that carry-over is longer than m1; not
    rejecting says nothing. `std_error` is the spread of the difference over paths. The decay is
    that of `method="geometric_lag"`; its bound asks the coins too (see `exposure_decay`).

    References
    ----------
    Bojinov, Simchi-Levi and Zhao (2023), Management Science 69(7), section 4.3; the test of the
    difference is our own, checked by simulation.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"t": range(1, 401), "arm": [j**2 % 211 % 2 for j in range(400)]})
    >>> log["y"] = log["arm"].rolling(3, min_periods=1).mean() + log["t"] * 7 % 31 / 99
    >>> roles = {"outcome": "y", "treatment": "arm", "time": "t", "slice_minutes": 1}
    >>> carryover_bound(log, orders=[0, 1, 2, 3], **roles).lower_bound
    1.0
    """
    check_one_of(adjust, "adjust", ("design", None))
    check_level(level)
    whole_number("n_draws", n_draws, 19)
    asked = _going_up("orders", orders)
    if len(asked) < 2:
        raise ValueError(f"orders must be two or more to compare; got {asked}: add a longer one")
    roles = Roles(
        outcome, treatment, time, unit, weight, None, tuple(listed(covariates, "covariates"))
    )
    timed = timed_rows(frame, roles)
    lengths = [timed.kind.length("orders", m) for m in asked]
    rotation = read_rotation(
        timed, schedule=schedule, points=points, slice_minutes=slice_minutes, exact=True
    )
    check_both_arms(rotation)
    ladder, stopped = _ladder(rotation, lengths, adjusted=adjust == "design")
    seen = [_plain(m) for m in asked[: len(ladder)]]
    paths = rotation.coins.law.draws(n_draws, whole_number("seed", seed, 0))
    every = np.concatenate([rotation.coins.arm[None, :], paths])
    rows = [_compared(every, *pair) for pair in pairwise(ladder)]
    table = pd.DataFrame(rows, columns=["difference", "std_error", "p_value"])
    table.insert(0, "order", seen[:-1])
    table.insert(1, "next_order", seen[1:])
    table["p_adjusted"] = adjust_p_values(table["p_value"].to_numpy(), method="holm")
    refuted = table.loc[table["p_adjusted"] <= 1 - level, "order"]
    return CarryoverBound(
        lower_bound=float(refuted.max()) if len(refuted) else 0.0,
        shown=len(refuted) > 0,
        table=table,
        estimates=_by_order(every, ladder, seen, rotation),
        level=float(level),
        unit=rotation.kind.unit,
        stopped=stopped,
        **_decay(rotation, lengths, adjusted=adjust == "design", n_draws=n_draws, seed=seed),
    )


def _ladder(
    rotation: Rotation, lengths: Sequence[int], *, adjusted: bool
) -> tuple[list[Windows], str]:
    """Windows of the same cells under each order, as long as enough are alike."""
    coins, minute = rotation.coins, rotation.kind.minute
    firsts = np.column_stack([rotation.first(m) for m in lengths])
    cells, at = np.unique(np.column_stack([firsts, rotation.last]), axis=0, return_inverse=True)
    sums = rotation.cells.pooled(at.ravel().astype(np.int64), len(cells))
    last = cells[:, -1]
    stratum = coins.stratum[last] if adjusted else np.zeros_like(last)
    found: list[Windows] = []
    for j, length in enumerate(lengths):
        known = cells[:, j] >= 0
        first = np.where(known, cells[:, j], last)
        begin, end, of = coin_windows(first, last, len(coins))
        windows = Windows(
            first=first,
            last=last,
            size=np.where(known, sums.size, 0.0),
            outcome=sums.outcome,
            covariates=sums.covariates,
            chance=coins.law.chance(begin, end)[of],
            kappa=np.ones(len(last)),
            stratum=stratum,
        )
        share = windows.treated_coins(coins.arm[None, :])[0]
        alike = known & ((share == 0) | (share == 1)) & (windows.chance > 0)
        n_windows = len(np.unique(last[alike]))
        valid = bool(scored(coins.arm[None, :], windows, sums.outcome[None, :])[2][0])
        if n_windows < _FEWEST_WINDOWS or not valid:
            text = (
                f"orders from {length / minute:g} on were not looked at: of slices with windows "
                f"whose coins are all alike there are {n_windows}, and {_FEWEST_WINDOWS} in both "
                "arms are needed"
            )
            if len(found) < 2:
                raise ValueError(
                    f"orders must leave two that the log can see; {text}: take shorter orders, or "
                    "a longer log"
                )
            return found, text
        found.append(windows)
    return found, ""


def _compared(
    paths: NDArray[np.int8], shorter: Windows, longer: Windows
) -> tuple[float, float, float]:
    """Difference of the effects under two orders, its spread over paths and p-value."""
    dose = shorter.treated_coins(paths[:1])[0]
    columns = np.stack([shorter.outcome, dose])
    slices, of = np.unique(shorter.last, return_inverse=True)
    member = np.eye(len(slices))[of]
    effect = float(scored(paths[:1], shorter, columns)[0][0, 0])
    step = max(1, _CHUNK // len(dose))
    differences, squares = [], []
    for start in range(0, len(paths), step):
        some = paths[start : start + step]
        one, other = scored(some, shorter, columns), scored(some, longer, columns)
        moved = one[0] - other[0]
        scores = (one[1] - other[1]) @ member
        valid = one[2] & other[2]
        differences.append((moved[0] - effect * moved[1])[valid])
        squares.append(((scores[0] - effect * scores[1]) ** 2).sum(axis=1)[valid])
    difference, error = np.concatenate(differences), np.sqrt(np.concatenate(squares))
    t = np.abs(np.divide(difference, error, out=np.zeros_like(error), where=error > 0))
    # on the observed path dose and arm agree under the shorter order: nothing is taken out
    p_value = float(np.mean(t >= t[0] * (1 - _TIE)))
    return float(difference[0]), float(np.sqrt(np.mean(difference**2))), p_value


def _by_order(
    paths: NDArray[np.int8], ladder: Sequence[Windows], orders: Sequence[JsonScalar], r: Rotation
) -> EffectCurve:
    """Effects under each order, with the covariance over paths."""
    dose = ladder[0].treated_coins(paths[:1])[0]
    columns = np.stack([ladder[0].outcome, dose])
    parts, valid = [], np.ones(len(paths), dtype=bool)
    step = max(1, _CHUNK // len(dose))
    for windows in ladder:
        found = [scored(paths[i : i + step], windows, columns) for i in range(0, len(paths), step)]
        parts.append(np.concatenate([f[0] for f in found], axis=1))
        valid &= np.concatenate([f[2] for f in found])
    both = np.array(parts)  # (orders, 2, paths)
    moved = (both[:, 0] - both[0, 0, 0] * both[:, 1])[:, valid]
    cells = r.cells
    return EffectCurve(
        index=tuple(orders),
        index_name="carryover",
        estimate=both[:, 0, 0],
        cov=np.atleast_2d(np.cov(moved)),
        estimand="total",
        method="switchback, Hajek over windows, covariance over paths",
        n_obs=int(cells.n.sum()),
        n_clusters=len(np.unique(r.last)),
        details={"index_unit": r.kind.unit},
    )


def _decay(
    rotation: Rotation, lengths: Sequence[int], *, adjusted: bool, n_draws: int, seed: int
) -> dict[str, float | None]:
    """Decay of a period and its upper bound, and the times until 90 % have faded."""
    names = ("decay", "decay_upper", "t90", "t90_upper", "period")
    try:
        series = period_series(rotation, adjusted=adjusted, lengths=tuple(lengths))
        model = DecayModel(series)
        decay = model.fit().decay
    except ValueError:  # no grid, or slices without rows: the ladder stands without it
        return dict.fromkeys(names)
    n = max(99, min(n_draws, 299, _DECAY_ENTRIES // len(series)))
    _, upper = model.conf_int(0.90, rotation.coins.law.draws(n, seed))  # one-sided: 95 %
    upper = max(upper, decay)
    period = series.step / rotation.kind.minute
    return {
        "decay": decay,
        "decay_upper": upper,
        "t90": period * _fading(decay),
        "t90_upper": period * _fading(upper),
        "period": period,
    }


def _fading(decay: float) -> float:
    """Periods until a tenth is left."""
    if decay <= 0:
        return 0.0
    return math.inf if decay >= 1 else math.log(0.1) / math.log(decay)


def _going_up(name: str, values: object) -> list[float]:
    """Lengths that go up from 0 or more."""
    found = list(values) if isinstance(values, list | tuple | range | np.ndarray) else []
    good = bool(found) and all(is_number(v) and 0 <= v < math.inf for v in found)
    if not good or any(b <= a for a, b in pairwise(found)):
        raise ValueError(f"{name} must be lengths >= 0 that go up, such as [0, 60]; got {values!r}")
    return found


def _plain(value: float) -> float | int:
    """A whole number as such."""
    return int(value) if value == int(value) else float(value)
