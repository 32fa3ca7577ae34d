"""What a rotation could find after so many days."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

from causal.frame import Table, check_level
from causal.values import is_number
from experiments.designs.rotation import Switchback
from experiments.rotations.coin_laws import pooled_singles
from experiments.rotations.instants import MINUTE
from experiments.rotations.row_checks import refuse_beyond_squares
from experiments.sizing.injected_effects import sample_of
from experiments.sizing.power_cells import PilotCells, pilot_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_DAY = 1440 * MINUTE
_WEEKENDS_FROM = 14  # days, as in `Switchback.schedule`


def mde_timeline(
    frame: Table,
    *,
    outcome: str,
    time: str,
    days: Sequence[float] = range(3, 29),
    design: Switchback | None = None,
    unit: str | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> pd.DataFrame:
    """Smallest effect that a rotation finds, against its duration.

    For a pilot in which everybody had the same strategy; a closed formula on its cells, where
    `switchback_power` plays the experiment.

    Parameters
    ----------
    frame : Table
        The pilot's rows, any kind that the door takes, of any size.
    outcome, time : str
        Columns of the outcome and of instants.
    days : sequence of float
        Durations to be compared.
    design : Switchback, optional
        Slices of one length, burn-in and coin; ``Switchback()`` by default.
    unit : str, optional
        Column of the region: each has its own coins.
    level, power : float
        Confidence level of the two-sided test, and the chance to find the effect.

    Returns
    -------
    DataFrame
        One row a duration: days, n_slices, mde (in the outcome's units), mde_relative (as a share
        of the pilot's mean) and extrapolated (longer than the pilot). The mde is infinite where so
        few slices can never reject at this level.

    Raises
    ------
    ValueError
        If a column is absent or holds gaps, time is whole periods, the design has points, an
        alternating coin or other regions than `unit`, a duration is not positive, or the pilot has
        too few slices.

    Notes
    -----
    Var = 4 / (sum n)^2 times the sum over strata of K / (K - 1) sum n^2 y~^2, with K cells of n
    rows and means y~ around their stratum's; mde = (t_a + t_b) sqrt(Var) with t quantiles of cells
    less strata less one degrees of freedom. A duration within the pilot takes the mean of Var over
    its windows, which start a day apart. A longer one takes that of the whole pilot, times the
    pilot's number of slices over its own: it assumes that longer experiments meet no slower swings
    than the pilot shows.

    Autocorrelation of cells plays no part: coins are thrown, so their products with the outcomes
    are uncorrelated whatever the outcomes do. Not corrected for: carry-over; the coarse p-values of
    a randomization test of ten slices or fewer, which finds larger effects only.

    References
    ----------
    Bojinov, Simchi-Levi and Zhao (2023). Design and analysis of switchback experiments, Management
    Science 69(7).

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> hours = pd.date_range("2026-03-02", periods=336, freq="h")
    >>> log = pd.DataFrame({"ts": hours, "watch": np.random.default_rng(0).normal(20, 1, 336)})
    >>> line = mde_timeline(log, outcome="watch", time="ts", days=[7, 14, 28])
    >>> line["mde"].round(2).tolist()
    [0.49, 0.34, 0.24]
    """
    check_level(level)
    check_level(power, "power")
    durations = _checked_days(days)
    plan = Switchback() if design is None else design
    _check_design(plan, unit)
    cells = pilot_cells(
        frame,
        outcome=outcome,
        time=time,
        unit=unit,
        slice_minutes=plan.slice_minutes,
        burn_in_minutes=plan.burn_in_minutes,
        coin=plan.coin,
    )
    if not cells.clock.kind.stamps:
        raise ValueError(
            f"column {time!r} must hold timestamps for a timeline in days; it holds periods: "
            "convert it first"
        )
    _check_regions(cells, plan)
    sample = sample_of(cells, outcome)  # raises where the pilot tells too little
    refuse_beyond_squares(outcome, sample.scale)
    n, mean = (cells.table[name].to_numpy(dtype=np.float64) for name in ("n", "mean"))
    baseline = float(n @ mean / n.sum())
    rows = []
    for duration in durations:
        found = _found(cells, duration, level, power)
        with np.errstate(divide="ignore"):
            relative = float(np.divide(found[1], abs(baseline)))
        rows.append((duration, found[0], found[1], relative, found[2]))
    names = ["days", "n_slices", "mde", "mde_relative", "extrapolated"]
    return pd.DataFrame(rows, columns=names)


def _found(cells: PilotCells, days: float, level: float, power: float) -> tuple[int, float, bool]:
    """Number of slices and smallest effect of a duration, and whether the pilot is shorter."""
    width, k = cells.clock.width, cells.clock.n_slices
    n_slices = math.ceil(days * _DAY / width - 1e-9)
    beyond = max(n_slices / k, 1.0)
    strata = _strata(cells, weekends=days >= _WEEKENDS_FROM)
    at = cells.table["slice"].to_numpy()
    starts = range(0, max(k - n_slices, 0) + 1, max(round(_DAY / width), 1))
    inside = [(at >= start) & (at < start + n_slices) for start in starts]
    n, mean = (cells.table[name].to_numpy(dtype=np.float64) for name in ("n", "mean"))
    regions = cells.law.regions
    found = [_variance(n[w], mean[w], strata[w], regions[w]) for w in inside]
    variance, sizes, groups = np.mean(found, axis=0)
    df = sizes * beyond - groups - 1
    mde = math.inf
    if df >= 1 and _least_p(cells, strata[inside[0]], beyond) <= (1 - level) * (1 + 1e-9):
        t = special.stdtrit(df, (1 + level) / 2) + special.stdtrit(df, power)
        mde = float(t * math.sqrt(variance / beyond))
    return n_slices * (int(regions.max()) + 1), mde, beyond > 1


def _strata(cells: PilotCells, *, weekends: bool) -> NDArray[np.int64]:
    """Codes of region, local clock and, if asked for, weekend of all slices."""
    if cells.law.coin != "stratified":
        return cells.law.regions
    start = cells.table["start"].dt
    clock = (start.hour * 60 + start.minute).to_numpy()
    weekend = (start.day_of_week >= 5).to_numpy() * weekends
    together = np.column_stack([cells.law.regions, clock, weekend])
    return np.unique(together, axis=0, return_inverse=True)[1].ravel()


def _variance(
    n: NDArray[np.float64],
    mean: NDArray[np.float64],
    strata: NDArray[np.int64],
    regions: NDArray[np.int64],
) -> tuple[float, int, int]:
    """Variance over the coins of some slices, number of cells with rows and of their strata."""
    seen = n > 0
    if not seen.any():
        return 0.0, 0, 0
    code = pooled_singles(strata, regions)[seen]
    code = np.unique(code, return_inverse=True)[1]
    n, mean = n[seen], mean[seen]
    size = np.bincount(code)[code]
    around = mean - (np.bincount(code, n * mean) / np.bincount(code, n))[code]
    squares = (n * around) ** 2 * size / np.maximum(size - 1, 1)
    return 4 * float(squares.sum()) / float(n.sum()) ** 2, len(n), int(code.max()) + 1


def _least_p(cells: PilotCells, strata: NDArray[np.int64], beyond: float) -> float:
    """Smallest p-value of all schedules; a schedule and its mirror have one absolute statistic."""
    if cells.law.coin == "independent":
        return float(2.0 ** (1 - len(strata) * beyond))
    sizes = np.bincount(strata) if cells.law.coin == "stratified" else np.array([len(strata)])
    sizes = np.floor(sizes[sizes > 0] * beyond)
    half = np.floor(sizes / 2)
    paths = (
        special.gammaln(sizes + 1) - special.gammaln(half + 1) - special.gammaln(sizes - half + 1)
    )
    paths += np.log(2.0) * (sizes % 2)
    return 2 * math.exp(-float(paths.sum()))


def _checked_days(days: Sequence[float]) -> list[float]:
    """Positive durations, one or more."""
    found = [days] if is_number(days) else list(days)
    if not found or not all(is_number(d) and 0 < d < math.inf for d in found):
        raise ValueError(f"days must be positive numbers, one or more; got {found[:10]!r}")
    return found


def _check_design(design: Switchback, unit: str | None) -> None:
    """Slices of one length, thrown coins, regions that have a column."""
    if not isinstance(design, Switchback):
        raise TypeError(f"design must be a Switchback; got {type(design).__name__}: make one")
    if design.points is not None:
        raise ValueError(
            f"design must have slices of one length; it has points {design.points[:5]}: give "
            "slice_minutes instead"
        )
    if design.coin == "alternating":
        raise ValueError(
            "design must throw its coins; coin='alternating' has two schedules a region, whose "
            "variance slices cannot tell: take 'stratified'"
        )
    if design.regions is not None and unit is None:
        raise ValueError("unit= must name the column of the design's regions")


def _check_regions(cells: PilotCells, design: Switchback) -> None:
    """The pilot's regions are those of the design."""
    if design.regions is None:
        return
    found = sorted({str(label) for label in cells.table["region"]})
    if found != sorted(design.regions):
        raise ValueError(
            f"the pilot must have the design's regions {sorted(design.regions)[:10]}; it has "
            f"{found[:10]}: drop the others, or change the design"
        )
