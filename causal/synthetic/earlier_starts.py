"""Placebos in time: an analysis run on starts at which nothing happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.effect import Effect, EffectCurve
from causal.frame import Table, check_columns, column_names, column_reader, fetch_arrow, open_table
from causal.panel.times import Times, read_time_column
from causal.panel.unit_panel import refuse_missing
from causal.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


def placebo_in_time(
    analysis: Callable[[Any], Any],
    table: Table,
    *,
    time: str,
    start: Any,  # noqa: ANN401 — a time of any kind
    shifts: Sequence[int],
) -> EffectCurve:
    """What an analysis finds before anything happened: it should be nothing.

    For reviewers of any before-and-after estimate. For each shift s the rows from `start` on are
    cut off, and time is relabelled so that the period s before the start is called `start`: the
    analysis runs as it is, on a start that is s periods too early.

    Parameters
    ----------
    analysis : callable
        From a table to an `Effect`, or to a result that holds one as `effect`; it names `start`
        itself: by `start=`, or by a cohort column whose only cohort is `start`. It is given a
        pandas frame.
    table : Table
        One row a unit and period.
    time : str
        Column of the periods.
    start : time
        First treated time, an observed one.
    shifts : sequence of int
        How many observed periods before `start` the placebos begin, each >= 1. A placebo sees as
        many periods after its start as there are, but no more than the real analysis.

    Returns
    -------
    EffectCurve
        Effects by shift, in the order given. Their covariances are set to 0, although the placebos
        share data: read points, not joint tests.

    Raises
    ------
    ValueError
        If `start` is not an observed time, a shift is not a whole number >= 1 or repeats, or it
        leaves no period before the placebo's start.
    TypeError
        If the analysis returns anything else.

    Notes
    -----
    A status column of rows is 0 everywhere before the start, so an analysis by status finds nobody
    treated; say who is treated by unit.

    References
    ----------
    Abadie, Diamond & Hainmueller (2015), Comparative politics and the synthetic control method.
    American Journal of Political Science 59, 495-510.

    Examples
    --------
    >>> from causal import Effect
    >>> log = pd.DataFrame({"week": range(12), "gmv": [5.0] * 9 + [8.0] * 3})
    >>> def effect(part): return Effect(estimate=part.gmv[part.week >= 9].mean() - 5, std_error=1.0,
    ...     estimand="att", method="mean", n_obs=len(part))
    >>> placebo_in_time(effect, log, time="week", start=9, shifts=[1, 3]).estimate.tolist()
    [0.0, 0.0]
    """
    if np.ndim(shifts) == 0:
        raise TypeError(f"shifts must be a list of periods; got {shifts!r}; put it in []")
    wanted = [whole_number("shifts", s, 1) for s in shifts]
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"shifts must name each placebo once, at least one; got {list(shifts)}")
    frame, codes, times = _read(table, time)
    at = times.index_of(start, "start")
    if max(wanted) >= at:
        raise ValueError(
            f"a shift must leave a period before the placebo's start; start {start!r} has {at} "
            f"periods before it, got a shift of {max(wanted)}; give smaller shifts"
        )
    effects = [_shifted(analysis, frame, time, codes, at, shift) for shift in wanted]
    return EffectCurve(
        index=tuple(wanted),
        index_name="shift",
        estimate=np.array([e.estimate for e in effects]),
        cov=np.diag([e.std_error * e.std_error for e in effects]),
        estimand=f"placebo {effects[0].estimand}",
        method=f"{effects[0].method}; placebo in time",
        n_obs=max(e.n_obs for e in effects),
        df=None if any(e.df is None for e in effects) else tuple(float(e.df or 0) for e in effects),
        details={
            "placebo_start": [times.labels[at - shift] for shift in wanted],
            "covariance": "errors of each placebo; covariances between placebos are set to 0",
        },
    )


def _read(table: Table, time: str) -> tuple[pd.DataFrame, NDArray[np.int64], Times]:
    """The table as a pandas frame, and its coded times."""
    names = column_names(table)
    check_columns(names, {"time": time})
    column = read_time_column(time, column_reader(table, [time])(time))
    refuse_missing(time, int((column.codes < 0).sum()))
    times = Times(column.kind, column.levels)
    if isinstance(table, pd.DataFrame):
        return table, column.codes, times
    frame = fetch_arrow(open_table(table, columns=names)).to_pandas()
    column = read_time_column(time, column_reader(frame, [time])(time))  # rows in this order
    return frame, column.codes, times


def _shifted(
    analysis: Callable[[Any], Any],
    frame: pd.DataFrame,
    time: str,
    codes: NDArray[np.int64],
    at: int,
    shift: int,
) -> Effect:
    """The effect of a start `shift` periods too early."""
    n_after = int(codes.max()) + 1 - at
    keep = codes < min(at, at - shift + n_after)
    first_row = pd.Series(np.arange(len(codes))).groupby(codes).first().to_numpy()
    later = frame[time].take(first_row[codes[keep] + shift])
    placebo = frame.loc[keep].copy()
    placebo[time] = later.set_axis(placebo.index)
    found = analysis(placebo)
    effect = getattr(found, "effect", found)
    if not isinstance(effect, Effect):
        raise TypeError(
            f"analysis must return an Effect, or a result that holds one; got "
            f"{type(found).__name__}; return one"
        )
    return effect
