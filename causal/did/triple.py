"""Treated against control, before against after, eligible against not: `triple_diff`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.did.cohort_gram import several_rows
from causal.did.cohort_regressors import treated_clusters
from causal.did.conventions import warn_few_clusters
from causal.did.regression import fit_treatment
from causal.effect import Effect
from causal.frame import Table, check_columns, column_names, in_memory_rows, read_columns
from causal.panel.adoption import shown
from causal.panel.cohort_moments import PanelMoments, moments_of
from causal.panel.open_moments import open_moments, warn_if_constant
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import UnitPanel, panel_columns, read_columns_of, warn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.did.cohort_gram import GramFit
    from causal.panel.unit_panel import Aggregate

__all__ = ["triple_diff"]

_ASSUMES = (
    "without treatment, the gap between eligible and ineligible would have moved in parallel among "
    "treated and controls"
)


@keeps_warnings
def triple_diff(
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str,
    time: str,
    treatment: str,
    start: Any,  # noqa: ANN401 — a time of any kind
    eligible: str,
    cluster: str | None = None,
    aggregate: Aggregate = None,
) -> Effect:
    """Difference-in-differences among the eligible minus that among the ineligible.

    For a launch in some regions that only some streamers (or some categories of each streamer)
    could use: whatever hit those regions at the same time is taken out with the ineligible.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period; or two, one eligible and one not. Moments are read with
        ``stratum=eligible``.
    outcome, unit, time : str
        Columns.
    treatment, start : str and a time
        0/1 column of who is treated, constant within unit, and the first treated time.
    eligible : str
        0/1 column; constant within unit, or each unit has rows of both kinds.
    cluster, aggregate
        As in `diff_in_diff`.

    Returns
    -------
    Effect
        On the eligible among the treated.

    Raises
    ------
    ValueError
        As in `diff_in_diff`; if `eligible` is not 0 or 1, or one of its groups has no treated or no
        control unit.

    Notes
    -----
    Eligible units and others: two estimates, independent unless clusters hold both. Rows of both
    kinds in each unit: the difference within unit and period first, then a 2x2 of it. Parallel
    trends are needed of the gap only.

    References
    ----------
    Olden and Moen (2022), The triple difference estimator, eq. 3.2.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> i, t = (a.ravel() for a in np.indices((80, 2)))
    >>> log = pd.DataFrame({"id": i, "day": t, "region": i % 2, "can": (i // 2) % 2})
    >>> log["y"] = i % 5 + (3.0 * log.can + 1) * log.region * t
    >>> triple_diff(log, outcome="y", unit="id", time="day", treatment="region", start=1,
    ...     eligible="can").estimate.__round__(6)
    3.0
    """
    columns: dict[str, Any] = {
        "outcome": outcome,
        "unit": unit,
        "time": time,
        "treatment": treatment,
        "start": start,
        "cluster": cluster,
        "aggregate": aggregate,
    }
    if not isinstance(table, PanelMoments):
        roles = {k: v for k, v in columns.items() if k not in ("start", "aggregate")}
        check_columns(column_names(table), {**roles, "eligible": eligible})
        if _both_kinds_in_units(table, unit, eligible):
            return _within_units(table, eligible, columns)
    m = open_moments(table, stratum=eligible, **columns)
    warn_if_constant(m, outcome)
    if m.stratum is None or set(m.strata) - {0, 1} or len(m.strata) != 2:
        raise ValueError(
            f"eligible {eligible!r} must be 0 and 1; it has {list(m.strata)[:5]}; convert it first"
        )
    return _between_units(several_rows(m, m.first)[0], eligible, m.n_units)


def _between_units(m: PanelMoments, eligible: str, n_units: int) -> Effect:
    """Two estimates, of eligible units and of the others.

    n_units : before those of a single row were left out
    """
    fits: list[GramFit] = []
    sums = []
    code = None
    if m.cluster is not None:
        code, _ = m.cluster_codes()
    for j in (0, 1):
        mine = m.stratum == j
        part = m.kept(np.asarray(mine))
        treated = (part.first < len(part.times)) & (part.first > 0)
        if not treated.any() or treated.all():
            raise ValueError(
                f"units with {eligible!r} = {j} must hold treated and control units; they hold "
                f"only {'treated' if treated.any() else 'control'} ones; drop them and use "
                "diff_in_diff"
            )
        fit = fit_treatment(part, "CR1")
        fits.append(fit)
        if code is not None:
            score = np.sum(fit.weights[fit.of][:, :, 0] * fit.residual, axis=1)
            found = np.bincount(code[mine], part.n * score, code.max() + 1)
            sums.append(found.astype(np.float64))
    variance = sum(max(float(f.cov[0, 0]), 0.0) for f in fits)
    n_clusters = sum(f.n_clusters or 0 for f in fits)
    if code is not None:
        n_clusters = int(code.max()) + 1
        scale = [_ratio(f, s) for f, s in zip(fits, sums, strict=True)]
        variance -= 2 * scale[0] * scale[1] * float(sums[0] @ sums[1])
    treated_clusters = int(m.n[(m.first < len(m.times))].sum())
    if m.cluster is not None:
        treated_clusters = len(np.unique(m.cluster[m.first < len(m.times)]))
    warn_few_clusters(n_clusters, treated_clusters, stacklevel=4)
    n_obs = sum(f.n_obs for f in fits)
    details = {**fits[1].details(), "n_clusters": n_clusters, "df": float(n_clusters - 1)}
    details["singletons_dropped"] = n_units - m.n_units
    return Effect(
        estimate=float(fits[1].coef[0] - fits[0].coef[0]),
        std_error=math.sqrt(max(variance, 0.0)),
        estimand="att",
        method="triple difference",
        n_obs=n_obs,
        n_clusters=n_clusters,
        df=float(n_clusters - 1),
        details={**details, "k": sum(f.k for f in fits), "n_units": m.n_units, "assumes": _ASSUMES},
    )


def _ratio(fit: GramFit, sums: NDArray[np.float64]) -> float:
    """Root of the small-sample factor of a fit: its variance over its sum of squared scores."""
    raw = float(sums @ sums)
    return math.sqrt(max(float(fit.cov[0, 0]), 0.0) / raw) if raw > 0 else 1.0


def _both_kinds_in_units(table: Table, unit: str, eligible: str) -> bool:
    """Whether every unit has eligible and ineligible rows; False where it is constant in each."""
    found = read_columns(table, numeric=[eligible], labels=[unit])
    value = found[eligible]
    if not np.isin(value, (0, 1)).all():
        bad = value[~np.isin(value, (0, 1))]
        raise ValueError(
            f"eligible {eligible!r} must be 0 or 1; {len(bad)} rows are not, e.g. {shown(bad)}; "
            "convert it first"
        )
    by_unit = pd.DataFrame({"unit": found[unit], "value": value}).groupby("unit")["value"]
    changes = (by_unit.max() != by_unit.min()).to_numpy()
    if changes.any() and not changes.all():
        some = by_unit.max().index.to_numpy()[~changes]
        raise ValueError(
            f"eligible {eligible!r} must be constant within every unit {unit!r}, or have rows of "
            f"both kinds in every unit; {len(some)} units have one kind only, e.g. {shown(some)}; "
            "drop them"
        )
    return bool(changes.any())


def _within_units(table: Table, eligible: str, columns: dict[str, Any]) -> Effect:
    """The gap within unit and period first, then its difference-in-differences."""
    roles = ("outcome", "unit", "time", "treatment", "cluster")
    frame = _as_frame(table, [eligible, *(columns[r] for r in roles if columns[r])])
    value = read_columns(frame, numeric=[eligible])[eligible]
    panels: list[UnitPanel] = []
    for j in (0, 1):
        part = frame[value == j]
        panels.append(read_columns_of(part, panel_columns(part, **columns)))
    no, yes = panels
    both = np.intersect1d(no.units, yes.units)
    if no.times != yes.times or len(both) < max(no.n_units, yes.n_units):
        raise ValueError(
            f"every unit must have eligible and ineligible rows ({eligible!r}) in the same "
            f"periods; {max(no.n_units, yes.n_units) - len(both)} units lack one kind; drop them"
        )
    gap = UnitPanel(
        times=yes.times,
        units=yes.units,
        outcome=yes.outcome - no.outcome,
        first=yes.first,
        n_obs=yes.n_obs + no.n_obs,
        cluster=yes.cluster,
        cluster_labels=yes.cluster_labels,
    )
    if np.isnan(gap.outcome).sum() > min(np.isnan(p.outcome).sum() for p in panels):
        warn("some units have rows of one kind only in some periods; those periods were left out")
    m = moments_of(gap, panel_columns(frame, **columns))
    fit = fit_treatment(m, "CR1")
    warn_few_clusters(fit.n_clusters or 0, treated_clusters(fit.moments), stacklevel=4)
    return Effect(
        estimate=float(fit.coef[0]),
        std_error=math.sqrt(max(float(fit.cov[0, 0]), 0.0)),
        estimand="att",
        method="triple difference, within units",
        n_obs=gap.n_obs,
        n_clusters=fit.n_clusters,
        df=float(np.min(fit.df)),
        details={**fit.details(), "n_units": m.n_units, "assumes": _ASSUMES},
    )


def _as_frame(table: Table, names: list[str]) -> pd.DataFrame:
    """The columns as a pandas frame, in the order of the rows."""
    from causal.frame import fetch_arrow, open_table  # noqa: PLC0415 — only for this case

    if in_memory_rows(table) is not None and isinstance(table, pd.DataFrame):
        return table[names]
    frame: pd.DataFrame = fetch_arrow(open_table(table, columns=names)).to_pandas()
    return frame
