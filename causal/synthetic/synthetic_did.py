"""Synthetic difference-in-differences: donors and earlier periods weighted before differencing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from causal.effect import Effect, EffectCurve
from causal.effect_result import EffectResult
from causal.frame import check_one_of, listed
from causal.panel.adoption import shown
from causal.panel.said import keeps_warnings
from causal.panel.times import as_labels
from causal.panel.unit_panel import read_panel, warn
from causal.synthetic.donor_pool import never_hint
from causal.synthetic.synthetic_draws import (
    bootstrap_draws,
    cohort_settings,
    fit_cohorts,
    jackknife_draws,
    p_in_words,
    placebo_draws,
    read_fits,
)
from causal.synthetic.untreated_fit import covariate_part
from causal.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.frame import Table
    from causal.panel.unit_panel import Aggregate, UnitPanel
    from causal.synthetic.synthetic_draws import CohortFit, CohortSetting, Reading
    from causal.values import JsonValue

Variance: TypeAlias = Literal["placebo", "jackknife", "bootstrap"]

_ASSUMES = (
    "without treatment the treated would have moved in parallel to the weighted donors from the "
    "weighted periods on; donors are not affected"
)
_FEW_SETS = 20  # placebo sets below which their spread is a rough figure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SyntheticDiffInDiff(EffectResult):
    """A synthetic difference-in-differences with the weights behind it.

    Parameters
    ----------
    effect : Effect
        Mean effect on treated cells.
    curve : EffectCurve
        By event time from 0 on; its mean over treated cells is `effect`.
    cohorts : DataFrame
        One row a start: cohort, n_units, n_periods, estimate, weight (share of treated cells).
    unit_weights : DataFrame
        cohort, unit, weight of donors that have one; they sum to 1 in each cohort.
    time_weights : DataFrame
        cohort, time, weight of earlier periods that have one; they sum to 1 in each cohort.
    regularisation : DataFrame
        cohort, sigma (of donors' first differences), zeta_unit, zeta_time, duality_gap (relative).
    path : DataFrame
        cohort, time, event_time, observed (mean of the treated), synthetic (level with them over
        the weighted earlier periods), less what covariates explain.
    slopes : dict
        Of covariates; empty without.
    draws : array
        Effects of the placebo sets, of the samples without a unit, or of the resamples.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from causal import synthetic_diff_in_diff
    >>> log = pd.DataFrame(np.indices((24, 9)).reshape(2, -1).T, columns=["city", "week"])
    >>> log["gmv"] = log.city + log.week * (log.city % 3) + 2.0 * (log.city.eq(4) & log.week.ge(6))
    >>> roles = {"outcome": "gmv", "unit": "city", "time": "week", "treated": 4, "start": 6}
    >>> round(synthetic_diff_in_diff(log, **roles).estimate, 1)
    2.0
    """

    effect: Effect
    curve: EffectCurve
    cohorts: pd.DataFrame
    unit_weights: pd.DataFrame
    time_weights: pd.DataFrame
    regularisation: pd.DataFrame
    path: pd.DataFrame
    slopes: dict[str, float]
    draws: NDArray[np.float64]

    def summary(self, level: float = 0.95) -> str:
        """The effect, how many donors and periods carry it, and what its p-value is."""
        squares = self.unit_weights.assign(square=self.unit_weights["weight"] ** 2)
        each = 1 / squares.groupby("cohort", sort=False)["square"].sum()
        periods = self.time_weights.groupby("cohort", sort=False).size()
        return (
            f"{self.effect.summary(level)}\n"
            f"outcome {self.effect.details['outcome']}; "
            f"weights on {self.unit_weights['unit'].nunique()} of {self.effect.details['n_donors']}"
            f" donors (effective number {each.min():.1f}"
            f"{'' if len(each) == 1 else f' to {each.max():.1f}'}) and {periods.max()} earlier "
            f"periods\ninterval and p-value: {self.effect.details['p_value']}"
        )

    def plot(
        self, ax: Axes | None = None, *, kind: Literal["paths", "curve", "weights"] = "paths"
    ) -> Axes:
        """Draw treated and synthetic paths, the effect by event time, or the donors' weights."""
        check_one_of(kind, "kind", ("paths", "curve", "weights"))
        from causal.synthetic.factor_plots import (  # noqa: PLC0415 — matplotlib only when used
            draw_synthetic_did,
        )

        return draw_synthetic_did(self, ax, kind=kind)


@keeps_warnings
def synthetic_diff_in_diff(  # noqa: PLR0913 — columns and choices, each by name
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
    covariates: Sequence[str] = (),
    variance: Variance = "placebo",
    n_draws: int = 200,
    aggregate: Aggregate = None,
    seed: int = 0,
) -> SyntheticDiffInDiff:
    """What treatment did to the treated units, against weighted donors and earlier periods.

    For few treated units (a city, a scene) when no donor runs parallel to them by itself: donors
    are weighted until their mean does, and earlier periods until they resemble later ones.

    Parameters
    ----------
    table : Table
        One row a unit and period; every unit in every period.
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
    covariates : sequence of str
        Columns that vary within units. The outcome is first freed of them by a regression with
        unit and period effects on untreated cells; they must not be affected by treatment.
    variance : {"placebo", "jackknife", "bootstrap"}
        Of the effect. ``"placebo"`` gives the treatment to as many donors (needs more donors
        than treated units, whose noise must be alike); ``"jackknife"`` leaves out units with the
        weights kept (needs two treated units a cohort); ``"bootstrap"`` resamples units. The
        latter two are for many treated units: with few, intervals are too short.
    n_draws : int
        Of placebo sets or resamples. One cohort with no more possible sets takes each once.
    aggregate : {"mean", "sum"}, optional
        What to do with several rows of a unit in a period; by default they raise.
    seed : int
        Of the draws.

    Returns
    -------
    SyntheticDiffInDiff

    Raises
    ------
    ValueError
        If a unit lacks a period, nobody is never treated, the placebo has no more donors than
        treated units, the jackknife or bootstrap too few treated units, or a covariate is
        absorbed; and for what no panel may hold.

    Notes
    -----
    With N0 donors over T0 periods before treatment and unit weights w, time weights l on simplexes,
    w minimises sum_t (a + w'Y_0t - mean Y_1t)^2 + zeta^2 T0 |w|^2 and l minimises
    sum_i (b + l'Y_i,pre - mean Y_i,post)^2 + (1e-6 sigma)^2 N0 |l|^2, zeta = (N1 T1)^(1/4) sigma,
    sigma the standard deviation of donors' first differences before treatment. The effect is the
    difference-in-differences under these weights. Each cohort is compared with the never treated
    and counts by its treated cells. Both problems are solved exactly (relative duality gap below
    1e-9); implementations that stop Frank-Wolfe early and cut small weights differ from it, by 0.01
    to 1 percent of the estimate in our comparisons.

    Draws keep zeta and, with covariates, the slopes; the latter's noise is not in the error. The
    relative effect takes the treated units' outcomes as given. Not corrected for: anticipation,
    spillovers to donors, dependence between units.

    References
    ----------
    Arkhangelsky, D., Athey, S., Hirshberg, D. A., Imbens, G. W. & Wager, S. (2021). Synthetic
    difference-in-differences. American Economic Review 111(12), 4088-4118. Algorithms 1 to 4.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> log = pd.DataFrame(np.indices((24, 9)).reshape(2, -1).T, columns=["city", "week"])
    >>> log["gmv"] = log.city + log.week * (log.city % 3) + 2.0 * (log.city.eq(4) & log.week.ge(6))
    >>> found = synthetic_diff_in_diff(
    ...     log, outcome="gmv", unit="city", time="week", treated=4, start=6)
    >>> found.time_weights["time"].max()
    np.int64(5)
    """
    check_one_of(variance, "variance", ("placebo", "jackknife", "bootstrap"))
    n_draws = whole_number("n_draws", n_draws, 2)
    names = tuple(listed(covariates, "covariates"))
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
        covariates=names,
        aggregate=aggregate,
    )
    hint = never_hint(cohort, "give never=") if never is None else ""
    panel = _usable(panel, unit, hint)
    scaled = _Scaled.of(panel, names)
    if scaled.constant:
        warn(f"outcome {outcome!r} is constant: the effect and its error are 0", stacklevel=3)
    donors = np.flatnonzero(panel.first == panel.n_periods)
    cohorts = cohort_settings(scaled.Y, panel.first, donors)
    _check_counts(cohorts, len(donors), variance)
    fits = fit_cohorts(scaled.Y, cohorts, donors)
    draws = _draws(scaled.Y, cohorts, donors, fits, variance, n_draws, seed)
    if variance == "placebo" and len(draws.effect) < min(_FEW_SETS, n_draws):
        warn(
            f"the standard error rests on only {len(draws.effect)} placebo sets of donors; add "
            "donors for a better one",
            stacklevel=3,
        )
    return _result(panel, scaled, cohorts, donors, fits, draws, variance, outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaled:
    """Outcomes (N, T) about 0, in units of `scale`, a power of two; free of covariates.

    What an outcome of 1e150 has squared would overflow.
    """

    Y: NDArray[np.float64]
    centre: float
    scale: float
    slopes: dict[str, float]
    constant: bool

    @classmethod
    def of(cls, panel: UnitPanel, covariates: tuple[str, ...]) -> _Scaled:
        """Centre, scale and adjust the outcomes of a panel."""
        centre = float(panel.outcome.flat[0])
        values = panel.outcome - centre
        peak = float(np.abs(values).max())
        scale = 2.0 ** math.frexp(peak)[1] if peak > 0 else 1.0
        values /= scale
        slopes: dict[str, float] = {}
        if covariates:
            untreated = np.arange(panel.n_periods) < panel.first[:, None]
            taken = {name: panel.covariates[name] for name in covariates}
            part, slopes = covariate_part(values, taken, untreated)
            values = values - part
        slopes = {name: scale * b for name, b in slopes.items()}
        Y = np.ascontiguousarray(values)
        return cls(Y=Y, centre=centre, scale=scale, slopes=slopes, constant=peak == 0)


def _usable(panel: UnitPanel, unit: str, hint: str) -> UnitPanel:
    """The panel without always treated units; raises where units have gaps or none is a donor.

    `hint` is what else always treated units may be.
    """
    always = panel.first == 0
    hint = hint if always.any() else ""
    if always.any():
        warn(
            f"{int(always.sum())} units are treated in every observed period and are dropped, e.g. "
            f"{shown(panel.units[always])}{hint}"
        )
        panel = panel.select(~always)
    gaps = ~panel.present.all(axis=1)
    if gaps.any():
        raise ValueError(
            f"every unit of {unit!r} must be observed in every period; {int(gaps.sum())} units "
            f"have gaps, e.g. {shown(panel.units[gaps])}; drop them, fill the gaps, or use "
            "factor_effects, which allows them"
        )
    if (panel.first < panel.n_periods).all():
        last = panel.times.labels[int(panel.first.max())]
        raise ValueError(
            f"at least one unit of {unit!r} must never be treated to be a donor; all "
            f"{panel.n_units} are, the last from {last!r} on; add units, or leave out the periods "
            f"from there on{hint}"
        )
    return panel


def _check_counts(cohorts: Sequence[CohortSetting], n_donors: int, variance: Variance) -> None:
    """Raise where there are too few units for the variance that was asked for."""
    sizes = [len(each.rows) for each in cohorts]
    if variance == "placebo" and n_donors <= sum(sizes):
        raise ValueError(
            f"variance='placebo' needs more donors than treated units; there are {n_donors} and "
            f"{sum(sizes)}; add donors, or use 'jackknife' or 'bootstrap'"
        )
    if variance == "jackknife" and min(sizes) < 2:
        raise ValueError(
            "variance='jackknife' needs at least 2 treated units in every cohort; "
            f"{sizes.count(1)} cohorts have 1; use 'placebo'"
        )
    if variance == "bootstrap" and (sum(sizes) < 2 or n_donors < 2):
        raise ValueError(
            "variance='bootstrap' needs at least 2 treated units and 2 donors; there are "
            f"{sum(sizes)} and {n_donors}; use 'placebo'"
        )


def _draws(
    Y: NDArray[np.float64],
    cohorts: Sequence[CohortSetting],
    donors: NDArray[np.int64],
    fits: Sequence[CohortFit],
    variance: Variance,
    n_draws: int,
    seed: int,
) -> Reading:
    """Effects whose spread is the error."""
    if variance == "placebo":
        return placebo_draws(Y, cohorts, donors, n_draws=n_draws, seed=seed)
    if variance == "bootstrap":
        return bootstrap_draws(Y, cohorts, donors, n_draws=n_draws, seed=seed)
    if max(float(fit.unit_weights.max()) for fit in fits) > 1 - 1e-9:
        raise ValueError(
            "variance='jackknife' needs at least 2 donors with a weight; one has all of it; use "
            "'placebo' or 'bootstrap'"
        )
    return jackknife_draws(Y, cohorts, donors, fits)


def _result(
    panel: UnitPanel,
    scaled: _Scaled,
    cohorts: Sequence[CohortSetting],
    donors: NDArray[np.int64],
    fits: Sequence[CohortFit],
    draws: Reading,
    variance: Variance,
    outcome: str,
) -> SyntheticDiffInDiff:
    """Everything in the units of the outcome."""
    scale, n = scaled.scale, len(draws.effect)
    reading = read_fits(fits, cohorts)
    share = (n - 1) / n if variance == "jackknife" else 1 / n
    spread = np.column_stack([draws.effect, draws.curve])
    spread = (spread - spread.mean(axis=0)) * (math.sqrt(share) * scale)
    cov = spread.T @ spread
    words = {
        "placebo": f"{n} placebo sets",
        "jackknife": f"jackknife over {n} units",
        "bootstrap": f"{n} bootstrap draws",
    }[variance]
    estimate, square = scale * float(reading.effect[0]), float(cov[0, 0])
    cells = sum(len(each.rows) * (panel.n_periods - each.start) for each in cohorts)
    details: dict[str, JsonValue] = {
        "outcome": outcome,
        "covariance": words,
        "p_value": p_in_words(estimate, scale * draws.effect, words, placebo=variance == "placebo"),
        "n_donors": len(donors),
        "n_treated": sum(len(each.rows) for each in cohorts),
        "treated_cells": cells,
        "total": estimate * cells,
        "weights": "treated cells",
        "assumes": _ASSUMES,
    }
    shared: dict[str, Any] = {
        "estimand": "att",
        "method": f"synthetic DID, {words}",
        "n_obs": panel.n_obs,
        "details": details,
    }
    effect = Effect(
        estimate=estimate,
        std_error=math.sqrt(square),
        baseline=_treated_mean(panel) - estimate,
        baseline_variance=square,
        baseline_cov=-square,
        **shared,
    )
    curve = EffectCurve(
        index=tuple(range(reading.curve.shape[1])),
        index_name="event_time",
        estimate=scale * reading.curve[0],
        cov=cov[1:, 1:],
        **shared,
    )
    labels, names = panel.times.labels, as_labels(panel.units[donors])
    starts = [labels[each.start] for each in cohorts]
    return SyntheticDiffInDiff(
        effect=effect,
        curve=curve,
        cohorts=_cohort_table(starts, cohorts, fits, panel.n_periods, scale),
        unit_weights=_weight_table("unit", starts, names, [fit.unit_weights for fit in fits]),
        time_weights=_weight_table("time", starts, labels, [fit.time_weights for fit in fits]),
        regularisation=_penalty_table(starts, cohorts, fits, scale),
        path=_path_table(starts, panel, cohorts, fits, scaled),
        slopes=scaled.slopes,
        draws=scale * draws.effect,
    )


def _penalty_table(
    starts: Sequence[Any], cohorts: Sequence[CohortSetting], fits: Sequence[CohortFit], scale: float
) -> pd.DataFrame:
    """Penalties and how exactly the weights were solved for, by cohort."""
    return pd.DataFrame(
        {
            "cohort": starts,
            "sigma": [scale * each.sigma for each in cohorts],
            "zeta_unit": [scale * each.zeta for each in cohorts],
            "zeta_time": [scale * each.zeta_time for each in cohorts],
            "duality_gap": [fit.duality for fit in fits],
        }
    )


def _treated_mean(panel: UnitPanel) -> float:
    """Mean observed outcome of treated cells."""
    cells = panel.outcome[np.arange(panel.n_periods) >= panel.first[:, None]]
    return float(cells[0] + (cells - cells[0]).mean())


def _cohort_table(
    starts: Sequence[Any],
    cohorts: Sequence[CohortSetting],
    fits: Sequence[CohortFit],
    n_periods: int,
    scale: float,
) -> pd.DataFrame:
    """One row a cohort."""
    cells = [len(each.rows) * (n_periods - each.start) for each in cohorts]
    return pd.DataFrame(
        {
            "cohort": starts,
            "n_units": [len(each.rows) for each in cohorts],
            "n_periods": [n_periods - each.start for each in cohorts],
            "estimate": [
                scale * float(fit.gap[each.start :].mean())
                for each, fit in zip(cohorts, fits, strict=True)
            ],
            "weight": [k / sum(cells) for k in cells],
        }
    )


def _weight_table(
    name: str, starts: Sequence[Any], labels: Sequence[Any], weights: Sequence[NDArray[np.float64]]
) -> pd.DataFrame:
    """Positive weights of units (largest first) or times (in order), by cohort."""
    parts = []
    for start, w in zip(starts, weights, strict=True):
        kept = np.flatnonzero(w > 0)
        if name == "unit":
            kept = kept[np.argsort(-w[kept], kind="stable")]
        chosen = [labels[j] for j in kept.tolist()]
        parts.append(pd.DataFrame({"cohort": [start] * len(kept), name: chosen, "weight": w[kept]}))
    return pd.concat(parts, ignore_index=True)


def _path_table(
    starts: Sequence[Any],
    panel: UnitPanel,
    cohorts: Sequence[CohortSetting],
    fits: Sequence[CohortFit],
    scaled: _Scaled,
) -> pd.DataFrame:
    """Treated means and what the weights say of them, by cohort and time."""
    parts = []
    for label, each, fit in zip(starts, cohorts, fits, strict=True):
        synthetic = scaled.centre + scaled.scale * fit.synthetic
        columns = {
            "cohort": [label] * panel.n_periods,
            "time": list(panel.times.labels),
            "event_time": np.arange(panel.n_periods) - each.start,
            "observed": synthetic + scaled.scale * fit.gap,
            "synthetic": synthetic,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
