"""Difference-in-differences of repeated cross sections: four means of a log without units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causal.did.conventions import covariance_details, warn_few_clusters
from causal.effect import Effect
from causal.frame import (
    Table,
    check_columns,
    column_names,
    column_reader,
    fetch_arrow,
    in_memory_rows,
    listed,
    open_table,
    read_columns,
)
from causal.linear import covariance as covariance_of
from causal.linear import least_squares
from causal.moments import group_moments
from causal.panel.adoption import declared, shown
from causal.panel.cohort_moments import PanelMoments
from causal.panel.open_moments import warn_constant
from causal.panel.times import Times, plain, read_time_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.did.conventions import PanelCovariance
    from causal.values import JsonValue

_ASSUMES = (
    "without treatment both groups would have moved in parallel; the groups hold the same kinds of "
    "units before and after"
)
_CELLS = ("control before", "control after", "treated before", "treated after")


def four_means(
    table: Table,
    *,
    outcome: str,
    time: str,
    treatment: str | None,
    start: Any,  # noqa: ANN401 — a time of any kind
    cohort: str | None,
    never: Any,  # noqa: ANN401 — a time of any kind
    covariates: Sequence[str],
    weight: str | None,
    cluster: str | None,
    covariance: PanelCovariance,
) -> Effect:
    """(m11 - m10) - (m01 - m00) over rows; parameters as in `diff_in_diff`.

    Errors are CR1 by `cluster`, HC1 of rows without one. Without covariates and weights only sums
    by treatment, time and cluster are taken.
    """
    if isinstance(table, PanelMoments):
        raise TypeError("panel moments need unit=, the column that they were read with; name it")
    if cohort is not None or start is None:
        raise ValueError(
            "without unit=, say who is treated with treatment= (0 or 1 in each row) and start=; "
            "for cohorts without units use group_time_effects(unit=None)"
        )
    declared(unit="", treatment=treatment, start=start, never=never)
    named = listed(covariates, "covariates")
    roles = {"outcome": outcome, "time": time, "treatment": treatment, "cluster": cluster}
    check_columns(column_names(table), {**roles, "covariates": named, "weight": weight})
    if covariance == "HC1" and cluster is not None:
        raise ValueError(
            f"covariance='HC1' takes rows as independent, but cluster={cluster!r} was given; use "
            "'CR1', or leave cluster out"
        )
    kind = "HC1" if cluster is None and covariance == "CR1" else covariance
    if named or weight is not None or kind not in ("HC1", "CR1"):
        return _of_rows(table, outcome, time, str(treatment), start, named, weight, cluster, kind)
    keys = [str(treatment), time, *([] if cluster is None else [cluster])]
    m = group_moments(table, columns=[outcome], by=keys)
    times = _observed_times(table, time)
    begin = _begin(times, start)
    after = (times.positions(m.keys[time].to_pylist()) >= begin).astype(np.int64)
    cell = 2 * _status(np.asarray(m.keys[str(treatment)].to_numpy()), str(treatment)) + after
    _refuse_empty(cell, np.ones(len(cell)))
    if (m.mean[:, 0] == m.mean[0, 0]).all() and not m.cross.any():
        warn_constant(outcome)
    n = m.n.astype(np.float64)
    size = np.bincount(cell, n, 4).astype(np.float64)
    first = m.mean[:, 0] - m.mean[0, 0]  # around one group: an offset costs no digit
    mean = np.bincount(cell, n * first, 4) / size
    away = first - mean[cell]
    sign = np.array([1.0, -1.0, -1.0, 1.0])
    estimate = float(sign @ mean)
    n_obs, g = int(size.sum()), None
    if cluster is None:
        within = np.bincount(cell, m.cross[:, 0, 0] + n * away**2, 4)
        variance = np.diag(within / size**2) * n_obs / (n_obs - 4)
        df = float(n_obs - 4)
    else:
        found, code = np.unique(np.asarray(m.keys[cluster].to_pylist()), return_inverse=True)
        g = len(found)
        treated = len(np.unique(code[cell >= 2]))
        warn_few_clusters(g, treated, stacklevel=4)
        sums = np.zeros((g, 4))
        np.add.at(sums, (code.reshape(-1), cell), n * away / size[cell])
        variance = sums.T @ sums * g / (g - 1) * (n_obs - 1) / (n_obs - 4)
        df = float(g - 1)
    base = np.array([-1.0, 1.0, 1.0, 0.0])  # the treated before, moved like the controls
    v, c = float(base @ variance @ base), float(sign @ variance @ base)
    details = covariance_details(kind, k=4, n_clusters=g, df=df)
    return Effect(
        estimate=estimate,
        std_error=float(np.sqrt(max(sign @ variance @ sign, 0.0))),
        estimand="att",
        method="difference-in-differences of repeated cross sections",
        n_obs=n_obs,
        n_clusters=g,
        df=df,
        baseline=float(base @ mean + m.mean[0, 0]),
        baseline_variance=max(v, 0.0),
        baseline_cov=c,
        details={**details, "outcome": outcome, **_counts(size, estimate)},
    )


def _of_rows(
    table: Table,
    outcome: str,
    time: str,
    treatment: str,
    start: Any,  # noqa: ANN401 — a time of any kind
    covariates: list[str],
    weight: str | None,
    cluster: str | None,
    kind: PanelCovariance,
) -> Effect:
    """Least squares of rows on the four cells and covariates."""
    if kind == "CR3" or (kind == "CR2" and cluster is None):
        raise ValueError(
            f"covariance {kind!r} without unit= needs clusters, and CR3 units; use 'CR2' with "
            "cluster=, or 'HC1'"
        )
    numeric = [outcome, treatment, *covariates, *([] if weight is None else [weight])]
    columns = read_columns(table, numeric=numeric, labels=[] if cluster is None else [cluster])
    column = read_time_column(time, column_reader(table, [time])(time))
    times = Times(column.kind, column.levels)
    after = (column.codes >= _begin(times, start)).astype(np.int64)
    arm = _status(columns[treatment], treatment)
    w = None if weight is None else columns[weight]
    _refuse_empty(2 * arm + after, np.ones(len(arm)) if w is None else w)
    X = np.column_stack(
        [np.ones(len(arm)), arm, after, arm * after, *(columns[name] for name in covariates)]
    )
    names = ["constant", "treated", "after", "treatment", *covariates]
    y = columns[outcome]
    if y.min() == y.max():
        warn_constant(outcome)
    fit = least_squares(X, y, weights=w, names=names)
    if fit.dropped:
        raise ValueError(
            f"covariates must vary beyond the four cells; {shown(list(fit.dropped))} does not; "
            "drop it"
        )
    clusters = None if cluster is None else columns[cluster]
    found = covariance_of(fit, X, kind=kind, clusters=clusters)
    df = float(np.atleast_1d(found.df)[-1 if np.ndim(found.df) == 0 else 3])
    g = None if clusters is None else len(np.unique(clusters))
    if g is not None:
        treated = len(np.unique(np.asarray(clusters)[arm == 1]))
        warn_few_clusters(g, treated, covariance=kind, stacklevel=5)
    details = covariance_details(kind, k=fit.rank, n_clusters=g, df=df)
    size = np.bincount(2 * arm + after, minlength=4).astype(np.float64)
    return Effect(
        estimate=float(fit.coef[3]),
        std_error=float(np.sqrt(found.matrix[3, 3])),
        estimand="att",
        method="difference-in-differences of repeated cross sections",
        n_obs=fit.n,
        n_clusters=g,
        df=df,
        details={**details, "outcome": outcome, **_counts(size, float(fit.coef[3]))},
    )


def _counts(size: NDArray[np.float64], effect: float) -> dict[str, JsonValue]:
    """Rows of the cells, the total over treated rows, and what is assumed."""
    cells = {name: int(n) for name, n in zip(_CELLS, size, strict=True)}
    return {"cells": cells, "treated_cells": int(size[3]), "total": effect * float(size[3]),
            "assumes": _ASSUMES}  # fmt: skip


def _status(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """0 or 1."""
    try:
        status = np.asarray(values, dtype=np.float64)
    except ValueError:
        raise TypeError(
            f"treatment {name!r} must be 0 or 1; it holds {shown(values)}; convert it first"
        ) from None
    if not np.isin(status, (0, 1)).all():
        bad = status[~np.isin(status, (0, 1))]
        raise ValueError(
            f"treatment {name!r} must be 0 or 1; {len(bad)} values are not, e.g. {shown(bad)}; "
            "convert it first"
        )
    return status.astype(np.int64)


def _observed_times(table: Table, time: str) -> Times:
    """The distinct times of a table."""
    if in_memory_rows(table) is not None:
        column = read_time_column(time, column_reader(table, [time])(time))
    else:
        found = fetch_arrow(open_table(table, columns=[time]).distinct())
        column = read_time_column(time, found.column(time))
    return Times(column.kind, column.levels)


def _begin(times: Times, start: Any) -> int:  # noqa: ANN401 — a time
    """Position of the start, with observed times before it."""
    at = times.index_of(start, "start")
    if at == 0:
        raise ValueError(
            f"start must leave observed times before it; got {plain(start)!r}, the first of them; "
            "name a later one, or add earlier rows"
        )
    return at


def _refuse_empty(cell: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
    """Raise unless all four cells have rows."""
    size = np.bincount(cell, weight, 4)
    if (size <= 0).any():
        empty = [name for name, n in zip(_CELLS, size, strict=True) if n <= 0]
        raise ValueError(
            f"all four cells must have rows; there are none of {' and '.join(empty)}; add them, or "
            "check treatment= and start="
        )
