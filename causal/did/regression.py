"""Before and after, treated and control: `diff_in_diff` and `event_study`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causal.did.cohort_gram import GramFit, fit_cohorts
from causal.did.cohort_regressors import (
    cohort_words,
    contamination,
    event_regressors,
    event_time,
    n_cohorts,
    negative_weight,
    treated_cells,
    treated_clusters,
    treatment_regressor,
    units_by_event_time,
    warn_composition,
    warn_of_weights,
    without_always,
)
from causal.did.conventions import warn_few_clusters
from causal.did.counterfactual import with_baseline
from causal.did.event_study import EventStudy, event_study_result
from causal.effect import Effect
from causal.frame import Table, check_one_of, listed
from causal.panel.adoption import SwitchOffError, adoption_column, refuse_unreached
from causal.panel.open_moments import open_panel, warn_if_constant
from causal.panel.said import keeps_warnings
from causal.panel.times import plain
from causal.panel.unit_panel import UnitPanel, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.did.conventions import PanelCovariance
    from causal.panel.cohort_moments import PanelMoments
    from causal.panel.unit_panel import Aggregate

__all__ = ["diff_in_diff", "event_study"]

_COVARIANCES = ("CR1", "CR2", "CR3", "HC1")
_METHOD, _MEAN = "event study, two-way fixed effects", "plain mean over event times >= 0"
_ASSUMES = (
    "without treatment both groups would have moved in parallel; nobody acted on the treatment "
    "before it came; treated units do not affect controls"
)


@keeps_warnings
def diff_in_diff(
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str | None = None,
    time: str,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    cohort: str | None = None,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    covariates: Sequence[str] = (),
    weight: str | None = None,
    cluster: str | None = None,
    covariance: PanelCovariance = "CR1",
    aggregate: Aggregate = None,
) -> Effect:
    """Change of the treated minus change of the controls: the effect on the treated.

    With `unit`: least squares on unit and period effects (2x2 with two periods, TWFE with more).
    Without: four means of repeated cross sections, treated or not by before or after.

    Use it where a feature or policy was switched on for some at a known time and could not be
    randomised, or came to groups at different times. Where treatment was randomised and came to all
    treated at once, `experiments.ab_test` is simpler and more precise.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period; any number of rows without `unit`.
    outcome, time : str
        Columns; times are numbers, dates, timestamps or text that sorts.
    unit : str, optional
        Column of the unit that is seen again and again.
    treatment, start : str and a time, optional
        0/1 column; with `start` who is treated, alone the status of each row, which may also
        switch off.
    cohort, never : str and a time, optional
        Column of the first treated time (missing, NaT, infinite, or `never`: never).
    covariates : sequence of str
        Numbers that vary over time; not touched by the treatment.
    weight : str, optional
        Weights of rows.
    cluster : str, optional
        Level at which treatment was decided; the unit by default (rows without `unit`).
    covariance : {"CR1", "CR2", "CR3", "HC1"}
        CR2 for few clusters.
    aggregate : {"mean", "sum"}, optional
        What to do with several rows of a unit in a period; by default they raise.

    Returns
    -------
    Effect
        In units of the outcome; ``details`` holds the convention of the standard error, treated
        cells, the total over them and the assumptions.

    Raises
    ------
    ValueError
        On columns that are missing or change within a unit, repeated rows, nobody treated, nobody
        to compare with, or no period before.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        With several cohorts some of whose effects get negative weights (their sum is shown), below
        30 clusters or 5 treated ones, always-treated units among the controls.

    Notes
    -----
    tau = (m11 - m10) - (m01 - m00) for two groups and periods. The regression is y_it = a_i + b_t +
    tau D_it; standard errors are exact, by unit or cluster, from cohort means and cross products.
    Not corrected: trends that differ (see `event_study`, `honest_did`), interference between
    treated and controls (see `experiments.dual_sided_effect` and `switchback_effect`).

    References
    ----------
    Angrist and Pischke (2009), ch. 5; Liang and Zeger (1986); de Chaisemartin and D'Haultfoeuille
    (2020), Theorem 1, for the weights.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"id": [1, 1, 2, 2, 3, 3, 4, 4], "day": [0, 1] * 4,
    ...     "pendant": [1] * 4 + [0] * 4, "watch": [3.0, 7, 4, 6, 2, 3, 5, 5]})
    >>> log = pd.concat([log.assign(id=log.id + 4 * k) for k in range(8)])
    >>> columns = {"outcome": "watch", "unit": "id", "time": "day", "treatment": "pendant"}
    >>> diff_in_diff(log, **columns, start=1).estimate
    2.5
    """
    _check_covariance(covariance, cluster)
    said: dict[str, Any] = {"treatment": treatment, "start": start, "cohort": cohort}
    if unit is None:
        from causal.did.cross_sections import four_means  # noqa: PLC0415 — not needed with units

        more: dict[str, Any] = {"covariates": covariates, "weight": weight, "cluster": cluster}
        columns: dict[str, Any] = {"outcome": outcome, "time": time, "never": never, **said, **more}
        return four_means(table, covariance=covariance, **columns)
    found: PanelMoments | UnitPanel
    try:
        found = open_panel(
            table,
            outcome=outcome,
            unit=unit,
            time=time,
            never=never,
            covariates=covariates,
            weight=weight,
            cluster=cluster,
            aggregate=aggregate,
            **said,
        )
    except SwitchOffError as error:
        if aggregate is not None or covariance != "CR1":
            raise ValueError(
                f"{error}; treatment that switches off takes neither aggregate= nor another "
                "covariance than 'CR1'"
            ) from None
        from causal.did.fixed_effects import fixed_effects  # noqa: PLC0415 — rarely needed

        warn(
            "treatment switches off in some units: the effect compares all its changes, on and "
            "off, and assumes that nothing carries over"
        )
        return fixed_effects(
            table,
            outcome=outcome,
            treatment=str(treatment),
            absorb=[unit, time],
            covariates=covariates,
            weight=weight,
            cluster=unit if cluster is None else cluster,
        )
    warn_if_constant(found, outcome)
    if isinstance(found, UnitPanel):
        from causal.did.row_regression import twfe_of_rows  # noqa: PLC0415 — not for moments

        return twfe_of_rows(found, listed(covariates, "covariates"), covariance, _ASSUMES)
    return twfe(found, covariance)


def _check_covariance(covariance: PanelCovariance, cluster: str | None) -> None:
    """Refuse unknown covariances, and clusters where rows are taken as independent."""
    check_one_of(covariance, "covariance", _COVARIANCES)
    if covariance == "HC1" and cluster is not None:
        raise ValueError(
            f"covariance='HC1' takes rows as independent, but cluster={cluster!r} was given; use "
            "'CR1', or leave cluster out"
        )


def twfe(m: PanelMoments, covariance: PanelCovariance) -> Effect:
    """The coefficient of treatment on unit and period effects, with its counterfactual."""
    fit = fit_treatment(m, covariance)
    m = fit.moments
    warn_of_twfe(m, fit, covariance)
    on = treated_cells(m.first, len(m.times)) & m.present
    cells, units = int((m.n[:, None] * on).sum()), int(m.n[on.any(axis=1)].sum())
    details = {
        **fit.details(),
        "outcome": m.columns["outcome"],
        "n_units": m.n_units,
        "treated_units": units,
        "treated_cells": cells,
        "total": float(fit.coef[0]) * cells,
        "assumes": _ASSUMES,
    }
    return with_baseline(fit, [on], estimand="att", method=twfe_words(m), details=details)


def fit_treatment(m: PanelMoments, covariance: PanelCovariance) -> GramFit:
    """TWFE with the 0/1 treatment."""
    reached = (m.first > 0)[:, None] & treated_cells(m.first, len(m.times)) & m.present
    refuse_unreached(adoption_column(m.columns), reached)
    X, at = treatment_regressor(m)
    return fit_cohorts(m, X, at, ["treatment"], covariance)


def warn_of_twfe(m: PanelMoments, fit: GramFit, covariance: PanelCovariance) -> None:
    """What makes a TWFE coefficient fragile: cohorts, always treated, few clusters."""
    if n_cohorts(m) > 1:
        warn_of_weights(m.times, m.first, negative_weight(fit))
    always = m.first == 0
    if always.any():
        warn(
            f"{int(m.n[always].sum())} always-treated units serve as controls; drop them unless "
            "their effect is constant (if 0 means never treated, pass never=0)",
            stacklevel=5,
        )
    if covariance != "HC1":
        n = m.n_units if fit.n_clusters is None else fit.n_clusters
        warn_few_clusters(n, treated_clusters(m), covariance=covariance, stacklevel=5)


def twfe_words(m: PanelMoments) -> str:
    """The name of the regression in `method`."""
    if len(m.times) == 2 and n_cohorts(m) == 1:
        return "difference-in-differences"
    return "difference-in-differences, two-way fixed effects"


@keeps_warnings
def event_study(  # noqa: PLR0913 — the roles of columns and the ways to say who is treated
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str,
    time: str,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    cohort: str | None = None,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    reference: int = -1,
    window: tuple[int, int] | None = None,
    covariates: Sequence[str] = (),
    weight: str | None = None,
    cluster: str | None = None,
    covariance: PanelCovariance = "CR1",
    aggregate: Aggregate = None,
) -> EventStudy:
    """Effects by time since treatment, and whether the groups moved in parallel before.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period.
    outcome, unit, time : str
        Columns.
    treatment, start, cohort, never
        Who is treated and when, as in `diff_in_diff`; treatment must stay on.
    reference : int
        Event time that the others are compared with; before the start.
    window : (int, int), optional
        First and last event time; cells of treated units outside it are left out.
    covariates, weight, cluster, covariance, aggregate
        As in `diff_in_diff`.

    Returns
    -------
    EventStudy
        `effect` is the plain mean over event times >= 0; `pretrend` tests all before the start.

    Raises
    ------
    ValueError
        As in `diff_in_diff`; if the reference is not observed or not before the start; if event
        times are not identified (without never-treated units, for one).
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        With several cohorts (the weight that event time 0 puts on other event times is shown),
        with a rejected pre-trend, few clusters, a changing composition, dropped always-treated
        units.

    Notes
    -----
    y_it = a_i + b_t + sum_{e != reference} tau_e 1{t - g_i = e}; event time counts observed
    periods. A pre-trend test that does not reject proves little: see `pretrend_power`.

    References
    ----------
    Sun and Abraham (2021), Proposition 3; Montiel Olea and Plagborg-Moller (2019) for the band.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> i, t = (a.ravel() for a in np.indices((60, 4)))
    >>> log = pd.DataFrame({"id": i, "day": t, "cohort": np.where(i % 2 == 1, 2, np.inf)})
    >>> log["watch"] = (i * 7 + t * 3) % 5 + 2.0 * ((i % 2 == 1) & (t >= 2))
    >>> event_study(log, outcome="watch", unit="id", time="day", cohort="cohort").curve.index
    (-2, -1, 0, 1)
    """
    _check_covariance(covariance, cluster)
    found = open_panel(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        treatment=treatment,
        start=start,
        cohort=cohort,
        never=never,
        covariates=covariates,
        weight=weight,
        cluster=cluster,
        aggregate=aggregate,
    )
    warn_if_constant(found, outcome)
    if isinstance(found, UnitPanel):
        from causal.did.row_regression import event_study_of_rows  # noqa: PLC0415

        named = listed(covariates, "covariates")
        return event_study_of_rows(found, named, covariance, reference, window, _ASSUMES)
    m = without_always(found)
    m, events = events_of(m, reference, window)
    return _event_study(m, events, reference, covariance)


def events_of(
    m: PanelMoments, reference: int, window: tuple[int, int] | None
) -> tuple[PanelMoments, NDArray[np.int64]]:
    """Moments within the window, and their event times without the reference."""
    since = event_time(m.first, len(m.times))
    treated = (m.first < len(m.times))[:, None]
    if window is not None:
        low, high = check_window(window, reference)
        m = m.within(~treated | ((since >= low) & (since <= high)))
        since = event_time(m.first, len(m.times))
        treated = (m.first < len(m.times))[:, None]
    seen = np.unique(since[treated & m.present])
    return m, without_reference(seen, reference, adoption_column(m.columns))


def check_window(window: tuple[int, int], reference: int) -> tuple[int, int]:
    """The window, once it is known to hold the reference and the start."""
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise TypeError(f"window must be (first, last) event times; got {window!r}; give two")
    low, high = (int(e) for e in window)
    if not low <= reference < 0 <= high:
        raise ValueError(
            f"window must hold the reference {reference} and the start 0; got {(low, high)}; "
            "widen it"
        )
    return low, high


def without_reference(
    seen: NDArray[np.int64], reference: int, column: str = "treatment"
) -> NDArray[np.int64]:
    """Observed event times other than the reference; `column` says who is treated."""
    refuse_unreached(column, seen >= 0)
    if reference not in seen or reference >= 0:
        raise ValueError(
            f"reference must be an observed event time before the start; got {plain(reference)!r}; "
            f"treated units have {seen[seen < 0].tolist()}; name one of them, or widen the window"
        )
    return np.asarray(seen[seen != reference])


def _event_study(
    m: PanelMoments, events: NDArray[np.int64], reference: int, covariance: PanelCovariance
) -> EventStudy:
    """Fit, warn and put together."""
    X, at = event_regressors(m, events)
    names = [f"event time {e}" for e in events]
    after = (events >= 0).astype(np.float64)
    contrasts = np.column_stack([np.eye(len(events)), after / after.sum()])
    try:
        fit = fit_cohorts(m, X, at, names, covariance, contrasts=contrasts)
    except ValueError as error:
        if (m.first == len(m.times)).any():
            raise
        raise ValueError(
            f"{error}; without never-treated units event times are not identified beside unit and "
            "period effects: use sun_abraham or group_time_effects(control='not_yet')"
        ) from None
    if n_cohorts(m) > 1:
        share = contamination(fit, 0, reference)
        warn(
            f"treatment starts at {n_cohorts(m)} times ({cohort_words(m)}): the coefficient of "
            f"event time 0 puts an absolute weight of {share:.3g} on effects at other event times; "
            "use sun_abraham or group_time_effects",
            stacklevel=4,
        )
    m = fit.moments
    n = m.n_units if fit.n_clusters is None else fit.n_clusters
    if covariance != "HC1":
        warn_few_clusters(n, treated_clusters(m), covariance=covariance, stacklevel=4)
    n_units = units_by_event_time(m, np.append(events, reference))
    warn_composition(n_units)
    outcome = m.columns["outcome"]
    details = {**fit.details(), "outcome": outcome, "n_units": m.n_units, "assumes": _ASSUMES}
    since = event_time(m.first, len(m.times))
    effect = with_baseline(
        fit,
        [(since == e) & m.present for e in events[events >= 0]],
        contrast=after / after.sum(),
        df=float(np.atleast_1d(fit.df)[-1]),
        estimand="att",
        method=_METHOD,
        details={**details, "weights": _MEAN},
    )
    return finished(
        fit.coef,
        fit.cov,
        np.atleast_1d(fit.df),
        events=events,
        reference=reference,
        n_units=n_units,
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        details=details,
        effect=effect,
    )


def finished(
    coef: NDArray[np.float64],
    cov: NDArray[np.float64],
    df: NDArray[np.float64],
    *,
    events: NDArray[np.int64],
    reference: int,
    n_units: dict[int, int],
    n_obs: int,
    n_clusters: int | None,
    details: dict[str, Any],
    effect: Effect | None = None,
) -> EventStudy:
    """The event study of coefficients, and a word on a rejected pre-trend.

    df : one number, or those of the coefficients and then of their mean after the start
    """
    after = (events >= 0).astype(np.float64)
    w = after / after.sum()
    if effect is None:
        effect = Effect(
            estimate=float(w @ coef),
            std_error=float(np.sqrt(max(w @ cov @ w, 0.0))),
            estimand="att",
            method=_METHOD,
            n_obs=n_obs,
            n_clusters=n_clusters,
            df=float(df[-1]),
            details={**details, "weights": _MEAN},
        )
    study = event_study_result(
        event_time=events.tolist(),
        estimate=coef,
        cov=cov,
        effect=effect,
        reference=reference,
        n_units=n_units,
        method=_METHOD,
        n_obs=n_obs,
        n_clusters=n_clusters,
        df=float(df.min()),
        details=details,
    )
    if study.pretrend is not None and study.pretrend.p_value < 0.05:
        warn(
            f"the groups did not move in parallel before the start: p = "
            f"{study.pretrend.p_value:.2g} over {study.pretrend.df} periods; see honest_did",
            stacklevel=5,
        )
    return study
