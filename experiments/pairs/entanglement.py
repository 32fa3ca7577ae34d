"""How much of the watch time ties rooms of different arms together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.frame import check_columns, column_names
from causal.rows import both, open_rows, present, select
from experiments.rotations.row_checks import refuse_missing, refuse_other_arms

if TYPE_CHECKING:
    from causal.frame import Table

ENTANGLED = 0.3  # share from which arms of authors mean little


def entanglement_index(frame: Table, *, watch: str, room_arm: str, partner_arm: str) -> float:
    """Share of watch time in battles and co-streams whose rooms are in different arms.

    In a live battle both rooms have the same audience and the same course: the control room sees
    the treatment too. Above 0.3 randomising authors says little; rotate over time instead.

    Parameters
    ----------
    frame : Table
        Rows of watch time, in any kind of table that the door takes.
    watch : str
        Column of watch time, >= 0, in any unit.
    room_arm : str
        Column of the arm, 0 or 1, of the room that was watched.
    partner_arm : str
        Column of the arm of the room it was tied to; missing where there was none.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If a column is absent, an arm is neither 0 nor 1, or watch time is missing, negative or all
        0.
    TypeError
        If `frame` is not a table or a column does not hold numbers.

    Notes
    -----
    Sum of watch where the partner is there and in the other arm, over the sum of watch. A battle of
    more than two rooms needs one row a partner, its watch shared out.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"watch": [30, 10, 60], "arm": [0, 1, 1], "partner": [1, 1, None]})
    >>> entanglement_index(log, watch="watch", room_arm="arm", partner_arm="partner")
    0.3
    """
    roles = {"watch": watch, "room_arm": room_arm, "partner_arm": partner_arm}
    check_columns(column_names(frame), dict(roles))
    rows = open_rows(frame, numeric=roles, labels={})
    refuse_missing(rows, {"watch": watch, "room_arm": room_arm})
    refuse_other_arms(rows, "room_arm", room_arm)
    refuse_other_arms(rows, "partner_arm", partner_arm)
    rows.refuse(
        lambda c: c["watch"] < 0,
        "watch",
        name=f"column {watch!r}",
        rule="be >= 0",
        do="drop or correct them",
    )
    scale = rows.pilot(["watch"], exact=True).scale["watch"]
    found = rows.sums(
        [],
        {
            "all": lambda c: c["watch"] / scale,
            "mixed": lambda c: select(
                both(present(c["partner_arm"]), c["partner_arm"] != c["room_arm"]),
                c["watch"] / scale,
            ),
        },
    )
    total = float(found.values["all"][0])
    if total == 0:
        raise ValueError(
            f"column {watch!r} must not be all 0; pass rows of rooms that were watched"
        )
    return float(found.values["mixed"][0]) / total
