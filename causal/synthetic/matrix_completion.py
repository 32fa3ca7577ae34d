"""Effects against the outcomes that a factor model gives the treated cells: matrix completion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from causal.effect import Effect, EffectCurve
from causal.effect_result import EffectResult
from causal.frame import check_one_of
from causal.panel.adoption import shown
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import read_panel, warn
from causal.synthetic.donor_pool import never_hint
from causal.synthetic.nuclear_norm import (
    Completed,
    complete,
    errors_of_penalties,
    fold_patterns,
    largest_penalty,
    penalty_grid,
)
from causal.synthetic.synthetic_draws import p_in_words, placebo_sets
from causal.synthetic.untreated_fit import linked
from causal.values import is_number, whole_number
from causal.words import number_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.frame import Table
    from causal.panel.unit_panel import Aggregate, UnitPanel
    from causal.values import JsonValue

Variance: TypeAlias = Literal["placebo", "jackknife", "bootstrap"]

_TOLERANCE = 1e-8  # of the fit
_OF_DRAWS = 1e-5  # of the draws: far below what separates them
_TRIES = 20  # resamples a draw before giving up
_AS_GOOD = 1.01  # times the least error on hidden cells
_CLOSE = 0.25  # times the error on hidden cells
_ASSUMES = (
    "without treatment the treated cells would have followed the units', periods' and common "
    "factors of untreated cells; treatment does not respond to shocks of single units; nobody else "
    "is affected"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FactorEffects(EffectResult):
    """Effects against a completed table of untreated outcomes.

    Parameters
    ----------
    effect : Effect
        Mean effect on treated cells.
    curve : EffectCurve
        By event time from 0 on; its mean over treated cells is `effect`.
    penalty : float
        Of the nuclear norm, for squared errors averaged over untreated cells.
    rank : int
        Of the fitted part beside unit and period effects.
    rmse : float
        Root mean squared error on the untreated cells, to which the model was fitted.
    cv_rmse : float, optional
        The same on cells that were hidden from it; None where the penalty was given.
    cv_curve : DataFrame
        penalty, mse, std_error (over folds); empty where the penalty was given.
    path : DataFrame
        event_time, n_units, observed, untreated: means over treated units, the latter fitted.
    draws : array
        Effects of the placebo sets, of the samples without a unit, or of the resamples.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from causal import factor_effects
    >>> log = pd.DataFrame(np.indices((20, 8)).reshape(2, -1).T, columns=["u", "t"])
    >>> log["y"] = log.t * (log.u % 3) + 2.0 * (log.u.lt(4) & log.t.ge(6))
    >>> roles = {"outcome": "y", "unit": "u", "time": "t", "treated": [0, 1, 2, 3], "start": 6}
    >>> 1.8 < factor_effects(log, **roles).estimate < 2.2
    True
    """

    effect: Effect
    curve: EffectCurve
    penalty: float
    rank: int
    rmse: float
    cv_rmse: float | None
    cv_curve: pd.DataFrame
    path: pd.DataFrame
    draws: NDArray[np.float64]

    def summary(self, level: float = 0.95) -> str:
        """The effect, the model behind it and how well that predicts, what the p-value is."""
        hidden = "" if self.cv_rmse is None else f", {number_in_words(self.cv_rmse)} on hidden ones"
        return (
            f"{self.effect.summary(level)}\n"
            f"outcome {self.effect.details['outcome']}; unit and period effects and rank "
            f"{self.rank}, penalty "
            f"{number_in_words(self.penalty)}; RMSE {number_in_words(self.rmse)} on the cells it "
            f"was fitted to{hidden}\n"
            f"interval and p-value: {self.effect.details['p_value']}"
        )

    def plot(
        self, ax: Axes | None = None, *, kind: Literal["paths", "curve", "cv"] = "paths"
    ) -> Axes:
        """Draw treated means beside fitted ones, the effect by event time, or the penalties."""
        check_one_of(kind, "kind", ("paths", "curve", "cv"))
        from causal.synthetic.factor_plots import (  # noqa: PLC0415 — matplotlib only when used
            draw_factor_effects,
        )

        return draw_factor_effects(self, ax, kind=kind)


@keeps_warnings
def factor_effects(  # noqa: PLR0913 — columns and choices, each by name
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    treated: Any = None,  # noqa: ANN401 — one unit or several
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    cohort: str | None = None,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    penalty: float | None = None,
    n_folds: int = 5,
    variance: Variance = "placebo",
    n_draws: int = 200,
    aggregate: Aggregate = None,
    seed: int = 0,
) -> FactorEffects:
    """What treatment did to treated cells, against a factor model of untreated outcomes (MC-NNM).

    For panels where units react differently to common shocks, so that trends are not parallel, with
    staggered adoption and gaps. Unit and period effects plus a table of low rank are fitted to the
    untreated cells; the effect is what treated cells have above the fit.

    Parameters
    ----------
    table : Table
        One row a unit and period; gaps are allowed.
    outcome, unit, time : str
        Columns.
    treated : label or list of labels, optional
        The treated units, with `start`.
    treatment : str, optional
        Column of 0 and 1: with `start` who is treated, without the status of each row.
    start : time, optional
        First treated time, one of the observed ones.
    cohort : str, optional
        Column of each unit's first treated time; missing for never.
    never : value, optional
        What `cohort` holds for never treated units, besides missing.
    penalty : float, optional
        Of the nuclear norm, > 0, in units of the outcome; infinity leaves unit and period effects
        alone. By default the largest one whose squared error on hidden cells is within 1 % of the
        least.
    n_folds : int
        Parts of the never treated units, hidden in turn as if treated when treated units are.
    variance : {"placebo", "jackknife", "bootstrap"}
        Of the effect, at the same penalty. ``"placebo"`` puts never treated units in the places of
        the treated; it needs more of them, with noise like theirs. ``"jackknife"`` leaves out units
        and ``"bootstrap"`` resamples them; what the fit gets wrong for all treated units alike is
        not in either, so that their intervals are too short where factors move much.
    n_draws : int
        Of placebo sets or resamples.
    aggregate : {"mean", "sum"}, optional
        What to do with several rows of a unit in a period; by default they raise.
    seed : int
        Of folds and resamples.

    Returns
    -------
    FactorEffects

    Warns
    -----
    EstimationWarning
        For units and periods that are dropped, a fit that does not settle, and one of over half
        the possible rank that follows its own cells over four times as closely as hidden ones.

    Raises
    ------
    ValueError
        If fewer than 2 units are treated and the variance is not the placebo's, the penalty is to
        be chosen with fewer than 2 never treated units, or untreated cells do not link units and
        periods; and for what no panel may hold.

    Notes
    -----
    Minimises sum over the n untreated cells of (y_it - a_i - b_t - L_it)^2 / n + penalty |L|_*, the
    nuclear norm, with a and b unpenalised. The penalty shrinks L and so draws effects towards those
    of unit and period effects alone. Of penalties that predict hidden cells alike the largest is
    taken: with less the rank grows and the path before treatment looks better than it predicts. The
    rule of one standard error would shrink more; in our studies effects were then 7 to 16 percent
    less exact. Not corrected for: the choice of the penalty, anticipation,
    spillovers, treatment that responds to shocks of single units. Periods in which nobody is
    untreated, and units without an untreated period, say nothing here and are dropped.

    References
    ----------
    Athey, S., Bayati, M., Doudchenko, N., Imbens, G. & Khosravi, K. (2021). Matrix completion
    methods for causal panel data models. JASA 116(536), 1716-1730. Equation 4.3.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> log = pd.DataFrame(np.indices((20, 8)).reshape(2, -1).T, columns=["u", "t"])
    >>> log["y"] = log.t * (log.u % 3) + 2.0 * (log.u.lt(4) & log.t.ge(6))
    >>> found = factor_effects(
    ...     log, outcome="y", unit="u", time="t", treated=[0, 1, 2, 3], start=6)
    >>> found.rank >= 1
    True
    """
    check_one_of(variance, "variance", ("placebo", "jackknife", "bootstrap"))
    n_draws, n_folds = whole_number("n_draws", n_draws, 2), whole_number("n_folds", n_folds, 2)
    if penalty is not None and not (is_number(penalty) and penalty > 0):
        raise ValueError(f"penalty must be a number > 0 or None; got {penalty!r}")
    panel = read_panel(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        treated=treated,
        treatment=treatment,
        start=start,
        cohort=cohort,
        never=never,
        aggregate=aggregate,
    )
    hint = never_hint(cohort, "give never=") if never is None else ""
    cells = _Cells.of(panel, unit, variance, hint)
    if cells.constant:
        warn(f"outcome {outcome!r} is constant: the effect and its error are 0", stacklevel=3)
    with threadpool_limits(limits=1, user_api="blas"):  # sums in one order on any machine
        penalty, cv_rmse, cv_curve = _penalty(cells, penalty, n_folds, seed)
        done = complete(cells.Y, cells.seen, penalty, tolerance=_TOLERANCE)
        if done.change > 100 * _TOLERANCE:
            warn(
                f"the fit still moves by {done.change:.1g} residual standard deviations a round; "
                "use a larger penalty",
                stacklevel=3,
            )
        if variance == "placebo":
            draws = _placebo(cells, penalty, done.fit, n_draws, seed)
        elif variance == "bootstrap":
            draws = _bootstrap(cells, penalty, done.fit, n_draws, seed)
        else:
            draws = _jackknife(cells, penalty, done.fit)
    found = _result(cells, done, (penalty, cv_rmse, cv_curve), draws, variance, outcome)
    most = min(cells.Y.shape) - 1
    close = found.cv_rmse is not None and found.rmse < _CLOSE * found.cv_rmse
    if close and found.rank > most / 2:
        warn(
            f"the model has rank {found.rank} of at most {most} and misses cells that were hidden "
            f"from it by {found.cv_rmse:.3g} (root mean square), those it was fitted to by "
            f"{found.rmse:.3g}: that it follows the treated "
            "before treatment is no evidence; compare synthetic_control or synthetic_diff_in_diff",
            stacklevel=3,
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """Outcomes about 0 in units of `scale`, a power of two, with the cells by kind.

    Y : (N, T), 0 where there is no row;  seen : untreated and observed;
    taken : treated and observed;  event : periods since treatment began, 0 at its first;
    never : (N,), whether a unit is never treated.
    """

    Y: NDArray[np.float64]
    seen: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    event: NDArray[np.int64]
    never: NDArray[np.bool_]
    n_obs: int
    centre: float = 0.0
    scale: float = 1.0
    constant: bool = False

    @classmethod
    def of(cls, panel: UnitPanel, unit: str, variance: Variance, hint: str = "") -> _Cells:
        """The cells of a panel that say something of untreated outcomes."""
        hint = hint if (panel.first == 0).any() else ""
        panel, periods = _informative(panel, unit, hint)
        _check_counts(panel, periods, variance, hint)
        present = panel.present[:, periods]
        outcome = panel.outcome[:, periods]
        centre = float(outcome[present][0])
        values = np.where(present, outcome - centre, 0.0)
        peak = float(np.abs(values).max())
        scale = 2.0 ** math.frexp(peak)[1] if peak > 0 else 1.0
        event = np.flatnonzero(periods) - panel.first[:, None]
        return cls(
            Y=values / scale,
            seen=present & (event < 0),
            taken=present & (event >= 0),
            event=event,
            never=panel.first == panel.n_periods,
            n_obs=int(present.sum()),
            centre=centre,
            scale=scale,
            constant=peak == 0,
        )

    def rows(self, index: NDArray[np.int64]) -> _Cells:
        """Some units, perhaps repeated."""
        parts = ("Y", "seen", "taken", "event", "never")
        return replace(self, **{name: getattr(self, name)[index] for name in parts})

    def by_event_time(
        self, values: NDArray[np.float64], cells: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Event times of some cells, in order, with sums and counts."""
        at, code = np.unique(self.event[cells], return_inverse=True)
        count = np.bincount(code).astype(np.int64)
        return at, np.bincount(code, values[cells]).astype(np.float64), count

    def effects(self, fit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean effect on treated cells, then by event time."""
        _, total, count = self.by_event_time(self.Y - fit, self.taken)
        return np.append(total.sum() / count.sum(), total / count)

    @property
    def event_times(self) -> NDArray[np.int64]:
        """Event times of treated cells."""
        return np.unique(self.event[self.taken])


def _informative(panel: UnitPanel, unit: str, hint: str) -> tuple[UnitPanel, NDArray[np.bool_]]:
    """The panel's units with an untreated row, and its periods with one."""
    untreated = panel.present & (np.arange(panel.n_periods) < panel.first[:, None])
    without = np.logical_not(untreated.any(axis=1))
    if without.any():
        warn(
            f"{int(without.sum())} units of {unit!r} have no untreated period and are dropped, "
            f"e.g. {shown(panel.units[without])}{hint}",
            stacklevel=5,
        )
        panel, untreated = panel.select(~without), untreated[~without]
    periods = np.asarray(untreated.any(axis=0))
    if not periods.all():
        warn(
            f"{int((~periods).sum())} periods have no untreated unit and are dropped, with "
            f"{int(panel.present[:, ~periods].sum())} cells",
            stacklevel=5,
        )
    return panel, periods


def _check_counts(
    panel: UnitPanel, periods: NDArray[np.bool_], variance: Variance, hint: str
) -> None:
    """Raise, or warn, where there are too few units for the variance that was asked for."""
    taken = panel.present & (np.arange(panel.n_periods) >= panel.first[:, None])
    n_treated = int(taken[:, periods].any(axis=1).sum())
    n_never = int((panel.first == panel.n_periods).sum())
    if n_treated == 0:
        raise ValueError(
            "at least one unit must have treated and untreated periods; none has; add rows, or "
            f"check who is treated{hint}"
        )
    if variance == "placebo":
        if n_never <= n_treated:
            raise ValueError(
                "variance='placebo' needs more never treated units than treated ones; there are "
                f"{n_never} and {n_treated}; use 'bootstrap' or 'jackknife'"
            )
    elif n_treated < 2:
        raise ValueError(
            f"variance={variance!r} needs at least 2 treated units; {n_treated} has treated and "
            "untreated periods; use 'placebo'"
        )


def _penalty(
    cells: _Cells, penalty: float | None, n_folds: int, seed: int
) -> tuple[float, float | None, pd.DataFrame]:
    """The penalty in scaled units, given or the largest of the best, its error, and all errors."""
    nothing = pd.DataFrame({"penalty": [], "mse": [], "std_error": []}, dtype=np.float64)
    if penalty is not None:
        return penalty / cells.scale, None, nothing
    n_never = int(cells.never.sum())
    if n_never < 2:
        raise ValueError(
            f"choosing the penalty needs at least 2 never treated units; there are {n_never}; give "
            "penalty="
        )
    largest = largest_penalty(cells.Y, cells.seen)
    if largest == 0:
        return math.inf, None, nothing
    penalties = penalty_grid(largest)
    hidden = fold_patterns(cells.seen, cells.event, cells.never, n_folds, seed)
    errors = errors_of_penalties(cells.Y, cells.seen, hidden, penalties)
    mse = errors.mean(axis=0)
    spread = errors.std(axis=0, ddof=1) / math.sqrt(len(errors)) if len(errors) > 1 else 0 * mse
    table = pd.DataFrame(
        {
            "penalty": penalties * cells.scale,
            "mse": mse * cells.scale**2,
            "std_error": spread * cells.scale**2,
        }
    )
    chosen = int(np.flatnonzero(mse <= _AS_GOOD * mse.min())[0])  # penalties fall
    return float(penalties[chosen]), math.sqrt(mse[chosen]) * cells.scale, table


def _placebo(
    cells: _Cells, penalty: float, fit: NDArray[np.float64], n_draws: int, seed: int
) -> NDArray[np.float64]:
    """Effects of as many never treated units in the places of the treated, which are left out.

    A draw whose gaps leave an event time, or a link between units, away is skipped.
    """
    controls, treated = np.flatnonzero(cells.never), np.flatnonzero(~cells.never)
    events = cells.event[treated]
    alike = bool((events == events[0]).all())
    sets = placebo_sets(len(controls), len(treated), n_draws=n_draws, seed=seed, alike=alike)
    left, draws = cells.rows(controls), []
    for chosen in sets:
        event = left.event.copy()
        event[list(chosen)] = events
        drawn = replace(
            left, event=event, seen=left.seen & (event < 0), taken=left.seen & (event >= 0)
        )
        whole = drawn.seen.any(axis=1).all() and linked(drawn.seen)
        if whole and np.array_equal(drawn.event_times, cells.event_times):
            draws.append(_effects_of(drawn, penalty, fit[controls]))
    if len(draws) < 2:
        raise ValueError(
            "variance='placebo' needs never treated units with rows in every event time; "
            f"{len(draws)} sets have them; fill the gaps, or use 'bootstrap'"
        )
    return np.array(draws)


def _bootstrap(
    cells: _Cells, penalty: float, fit: NDArray[np.float64], n_draws: int, seed: int
) -> NDArray[np.float64]:
    """Effects of resampled units, (n_draws, 1 + event times).

    A resample that lacks an event time, or links between units, is drawn again.
    """
    rng = np.random.default_rng(seed)
    n, wanted, draws = len(cells.Y), cells.event_times, []
    for _ in range(_TRIES * n_draws):
        index = np.sort(rng.integers(0, n, n))
        drawn = cells.rows(index)
        if np.array_equal(drawn.event_times, wanted) and linked(drawn.seen):
            draws.append(_effects_of(drawn, penalty, fit[index]))
        if len(draws) == n_draws:
            return np.array(draws)
    raise ValueError(
        f"variance='bootstrap' needs resamples with every event time and linked units; only "
        f"{len(draws)} of {_TRIES * n_draws} were; add units, or leave out the last periods"
    )


def _jackknife(cells: _Cells, penalty: float, fit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Effects without each unit, (N, 1 + event times)."""
    n, draws = len(cells.Y), []
    for i in range(n):
        index = np.delete(np.arange(n), i)
        left = cells.rows(index)
        if not (np.array_equal(left.event_times, cells.event_times) and linked(left.seen)):
            raise ValueError(
                "variance='jackknife' needs every event time, and the links between units and "
                "periods, without any one unit; add units, leave out periods, or use 'bootstrap'"
            )
        draws.append(_effects_of(left, penalty, fit[index]))
    return np.array(draws)


def _effects_of(cells: _Cells, penalty: float, near: NDArray[np.float64]) -> NDArray[np.float64]:
    """Effects of a draw, fitted from the whole table's fit on."""
    done = complete(cells.Y, cells.seen, penalty, tolerance=_OF_DRAWS, start=near)
    return cells.effects(done.fit)


def _result(
    cells: _Cells,
    done: Completed,
    penalty: tuple[float, float | None, pd.DataFrame],
    draws: NDArray[np.float64],
    variance: Variance,
    outcome: str,
) -> FactorEffects:
    """Everything in the units of the outcome; `penalty` is what `_penalty` found."""
    scale, n = cells.scale, len(draws)
    found = scale * cells.effects(done.fit)
    share = (n - 1) / n if variance == "jackknife" else 1 / n
    spread = (draws - draws.mean(axis=0)) * (math.sqrt(share) * scale)
    cov = spread.T @ spread
    words = {
        "placebo": f"{n} placebo sets",
        "jackknife": f"jackknife over {n} units",
        "bootstrap": f"{n} bootstrap draws",
    }[variance]
    n_cells = int(cells.taken.sum())
    details: dict[str, JsonValue] = {
        "outcome": outcome,
        "covariance": words,
        "p_value": p_in_words(
            float(found[0]), scale * draws[:, 0], words, placebo=variance == "placebo"
        ),
        "n_treated": int(cells.taken.any(axis=1).sum()),
        "n_never_treated": int(cells.never.sum()),
        "treated_cells": n_cells,
        "total": float(found[0]) * n_cells,
        "weights": "treated cells",
        "assumes": _ASSUMES,
    }
    shared: dict[str, Any] = {
        "estimand": "att",
        "method": f"matrix completion, {words}",
        "n_obs": cells.n_obs,
        "details": details,
    }
    observed = cells.centre + scale * float(cells.Y[cells.taken].mean())
    return FactorEffects(
        effect=Effect(
            estimate=float(found[0]),
            std_error=math.sqrt(cov[0, 0]),
            baseline=observed - float(found[0]),
            baseline_variance=float(cov[0, 0]),
            baseline_cov=-float(cov[0, 0]),
            **shared,
        ),
        curve=EffectCurve(
            index=tuple(cells.event_times.tolist()),
            index_name="event_time",
            estimate=found[1:],
            cov=cov[1:, 1:],
            **shared,
        ),
        penalty=penalty[0] * scale,
        rank=done.rank,
        rmse=scale * math.sqrt(float(np.mean((cells.Y - done.fit)[cells.seen] ** 2))),
        cv_rmse=penalty[1],
        cv_curve=penalty[2],
        path=_path(cells, done.fit),
        draws=scale * draws[:, 0],
    )


def _path(cells: _Cells, fit: NDArray[np.float64]) -> pd.DataFrame:
    """Means of treated units by event time, observed and fitted."""
    shown_cells = (cells.seen | cells.taken) & ~cells.never[:, None]
    at, observed, count = cells.by_event_time(cells.Y, shown_cells)
    _, fitted, _ = cells.by_event_time(fit, shown_cells)
    return pd.DataFrame(
        {
            "event_time": at,
            "n_units": count,
            "observed": cells.centre + cells.scale * observed / count,
            "untreated": cells.centre + cells.scale * fitted / count,
        }
    )
