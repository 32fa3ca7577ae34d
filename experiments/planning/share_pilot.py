"""The test of interference between viewers that a pilot of several treated shares allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from causal.frame import Table, fetch_arrow, open_table
from experiments.designs.rotation import Saturation, Schedule
from experiments.pairs.saturation_response import share_response

if TYPE_CHECKING:
    from causal.effect import Effect

_ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Interference:
    """What treating others does to a viewer who is not treated; None where it cannot be asked.

    `low` and `high` bound the spillover at the largest share that was tried (95 %).
    """

    p_value: float | None
    low: float = 0.0
    high: float = 0.0
    detail: str = ""

    @property
    def result(self) -> str:
        """Shown, not shown or not tested."""
        if self.p_value is None:
            return "not tested"
        return "shown" if self.p_value <= _ALPHA else "not shown"


def interference(
    pilot: Table,
    *,
    outcome: str,
    time: str,
    treatment: str | None,
    unit: str | None,
    schedule: Schedule | None,
) -> Interference:
    """Spillover on untreated viewers over the shares of a saturation pilot.

    Raises
    ------
    ValueError
        If instants or regions are not those of the schedule.
    """
    if treatment is None or schedule is None or not isinstance(schedule.design, Saturation):
        return Interference(
            p_value=None, detail="a pilot with two treated shares or more (Saturation) would tell"
        )
    regions = schedule.design.regions is not None
    names = [outcome, time, treatment, *([unit] if regions and unit is not None else [])]
    rows = fetch_arrow(open_table(pilot, columns=names)).to_pandas()
    at = schedule.slice_at(rows[time], rows[unit] if regions and unit is not None else None)
    cells = pd.DataFrame(
        {
            "cell": at,
            "share": schedule.table["share"].to_numpy()[at],
            "arm": rows[treatment],
            "y": rows[outcome],
        }
    )
    found = share_response(cells, outcome="y", arm="arm", share="share", cell="cell")
    most: Effect = found.spillover.at(found.spillover.index[-1])
    low, high = most.conf_int()
    return Interference(p_value=most.p_value, low=low, high=high, detail=most.summary())
