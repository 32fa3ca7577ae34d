"""A table or moments that were read before: how estimators open what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causal.frame import Table, in_memory_rows
from causal.panel.adoption import adoption_column, check_adoption, last_rows
from causal.panel.cohort_moments import (
    MOST_PATTERNS,
    PanelMoments,
    engine_moments,
    moments_of,
    n_patterns,
)
from causal.panel.times import plain
from causal.panel.unit_panel import UnitPanel, panel_columns, read_columns_of, warn, warn_gaps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.panel.times import Times


def open_panel(table: Table | PanelMoments, **columns: Any) -> PanelMoments | UnitPanel:  # noqa: ANN401 — as in read_panel
    """Moments, or units by periods where moments do not hold what is asked.

    Parameters
    ----------
    table : Table or PanelMoments
    columns
        As in `read_panel`. Covariates, weights and more than 256 patterns of observed periods need
        units by periods.

    Raises
    ------
    ValueError
        If moments are given that were not read with these columns.
    """
    if isinstance(table, PanelMoments):
        known = _known(table, columns)
        _check_adoption(known)
        return known
    asked = panel_columns(table, **columns)
    rows_needed = bool(asked.covariates or asked.numeric or asked.weight)
    if in_memory_rows(table) is None and not rows_needed:
        found = engine_moments(table, asked)
        if found is not None:
            _check_adoption(found)
            warn_gaps(found.times, asked.time, stacklevel=5)
            return found
    panel = read_columns_of(table, asked)
    if rows_needed or n_patterns(panel.present) > MOST_PATTERNS:
        return panel
    return moments_of(panel, asked)


def _check_adoption(m: PanelMoments) -> None:
    """Raise unless some units are treated and others are not yet, each with rows."""
    check_adoption(
        m.first,
        last_rows(m.present),
        m.times,
        unit=str(m.columns["unit"]),
        column=adoption_column(m.columns),
    )


def open_moments(table: Table | PanelMoments, **columns: Any) -> PanelMoments:  # noqa: ANN401 — as in read_panel
    """Moments of a table, or those that were given.

    Raises
    ------
    ValueError
        If units are observed in more than 256 patterns of periods.
    """
    found = open_panel(table, **columns)
    if isinstance(found, PanelMoments):
        return found
    raise ValueError(
        f"units are observed in more than {MOST_PATTERNS} patterns of periods; drop units with "
        "gaps first (panel_moments with missing='drop_units')"
    )


def warn_if_constant(units: PanelMoments | UnitPanel, outcome: str) -> None:
    """Say that there is nothing to estimate, if moments or units by periods know it."""
    if isinstance(units, PanelMoments):
        seen = units.mean[units.present]
        constant = bool((seen == seen[0]).all()) and not (
            units.cross is not None and units.cross.any()
        )
    else:
        constant = bool(np.nanmin(units.outcome) == np.nanmax(units.outcome))
    if constant:
        warn_constant(outcome)


def warn_constant(outcome: str) -> None:
    """Say that every row has the same outcome."""
    warn(f"outcome {outcome!r} is constant: effects and their errors are 0; check the column")


def _known(moments: PanelMoments, columns: Mapping[str, Any]) -> PanelMoments:
    """The moments, once they are known to be of these columns."""
    for role, value in columns.items():
        known = moments.columns.get(role)
        if (
            value is None
            or value in ((), [])
            or (role == "cluster" and value == moments.columns["unit"])
        ):
            continue
        if role in ("covariates", "numeric", "weight", "treated"):
            raise ValueError(f"panel moments hold no {role}; pass the table itself")
        if not _same(moments.times, role, value, known):
            made = "without it" if known is None else f"with {known!r}"
            raise ValueError(
                f"panel moments must be read with the same {role}; they were made {made}, and "
                f"{plain(value)!r} is asked; read them with "
                f"panel_moments({role}={plain(value)!r}, ...)"
            )
    if moments.cluster is not None and columns.get("cluster") is None:
        name = moments.columns["cluster"]
        raise ValueError(
            f"panel moments by cluster {name!r} have no errors by unit; pass cluster={name!r}, or "
            "read moments without it"
        )
    return moments


def _same(times: Times, role: str, value: object, known: object) -> bool:
    """Whether a column, or a time however it is written, is the one that moments were read with."""
    if role not in ("start", "never") or known is None:
        return str(value) == known
    kind = str if times.kind == "text" else float
    written = known if times.values.dtype.kind == "M" else kind(str(known))
    return bool(times.comparable(value, role) == times.comparable(written, role))
