"""What a rotation rests on, line by line: what the log can test, with its figure, and what not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from causal.effect import EstimationWarning
from experiments.rotations.instants import MINUTE, local_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.rotations.slice_readings import Reading
    from experiments.rotations.slice_statistic import Fitted

Verdict: TypeAlias = Literal["yes", "no", "not testable"]

_FEW_SLICES = 10
_UNEVEN_HOURS = 0.25
_CORRELATED = 0.3
_FEW_SWITCHES = 8
_LATE = 4  # the last quarter of a slice


@dataclass(frozen=True)
class Check:
    """One assumption: its figure, what it is held against, and whether it passed."""

    check: str
    value: float | None
    threshold: float | None
    passed: Verdict
    message: str
    advice: str = ""
    warns: bool = False

    @property
    def said(self) -> str:
        """The message, with what to do where the check did not pass."""
        asked = self.advice and self.passed == "no"
        return f"{self.message}: {self.advice}" if asked else self.message


def checks_frame(checks: Sequence[Check]) -> pd.DataFrame:
    """One row a check."""
    names = ("check", "value", "threshold", "passed")
    found = {name: [getattr(c, name) for c in checks] for name in names}
    return pd.DataFrame({**found, "message": [c.said for c in checks]})


def warn_of(checks: Sequence[Check], *, stacklevel: int) -> None:
    """One warning for each check that failed and warns."""
    for check in checks:
        if check.warns and check.passed == "no":
            warnings.warn(check.said, EstimationWarning, stacklevel=stacklevel + 1)


def check_reading(reading: Reading, fit: Fitted) -> list[Check]:
    """The checks of windows that were fitted."""
    return [
        _slices_per_arm(reading, fit),
        _arms_by_hour(reading),
        _residual_correlation(reading, fit.residual),
        _coin(reading),
        _anticipation(reading),
        _usable(reading, fit),
        _carryover(reading),
        _bound(reading),
    ]


def _slices_per_arm(reading: Reading, fit: Fitted) -> Check:
    """How many slices each arm has."""
    last = np.unique(reading.windows.last[fit.used])
    treated = int(reading.coins.arm[last].sum())
    counts = (treated, len(last) - treated)
    return Check(
        "slices_per_arm",
        float(min(counts)),
        _FEW_SLICES,
        "yes" if min(counts) >= _FEW_SLICES else "no",
        f"{counts[0]} treated and {counts[1]} untreated slices are read",
        f"with fewer than {_FEW_SLICES} an arm, errors rest on few coins; prefer the randomization "
        "test, or run longer",
        warns=True,
    )


def _arms_by_hour(reading: Reading) -> Check:
    """Whether hours of the day have the share of treatment that the whole has."""
    rotation = reading.rotation
    if not rotation.kind.stamps:
        message = "whole periods have no hour of the day"
        return Check("arms_by_hour", None, _UNEVEN_HOURS, "not testable", message)
    cells = rotation.cells
    # zones are whole quarters of an hour apart
    quarters, at = np.unique(cells.time[reading.keep] // (15 * MINUTE), return_inverse=True)
    when = local_times(quarters * 15 * MINUTE, rotation.kind, rotation.zone)
    hour = np.asarray(when.hour)[at]
    n = cells.size[reading.keep]
    arm = rotation.coins.arm[rotation.last[reading.keep]]
    total = np.bincount(hour, n, 24)
    share = np.bincount(hour, n * arm, 24) / np.where(total > 0, total, 1.0)
    away = np.where(total > 0, np.abs(share - float(n @ arm) / n.sum()), 0.0)
    worst = int(away.argmax())
    return Check(
        "arms_by_hour",
        float(away[worst]),
        _UNEVEN_HOURS,
        "yes" if away[worst] <= _UNEVEN_HOURS else "no",
        f"at {worst:02d}:00 a share of {share[worst]:.2f} is treated, {away[worst]:.2f} from the "
        "share of the whole",
        "the time of day may look like an effect; throw stratified coins, or give the level by "
        "hour as a covariate",
        warns=True,
    )


def _residual_correlation(reading: Reading, residual: NDArray[np.float64]) -> Check:
    """Correlation of the residuals of neighbouring slices."""
    coins, windows = reading.coins, reading.windows
    used = windows.size * (residual != 0)
    total = np.bincount(windows.last, used, len(coins))
    e = np.bincount(windows.last, used * residual, len(coins)) / np.where(total > 0, total, 1.0)
    pairs = (total[1:] > 0) & (total[:-1] > 0) & (coins.chain[1:] == coins.chain[:-1])
    if pairs.sum() < _FEW_SWITCHES:
        message = f"only {int(pairs.sum())} pairs of neighbouring slices are read"
        return Check("residual_correlation", None, _CORRELATED, "not testable", message)
    correlation = float((e[1:] * e[:-1])[pairs].mean() / np.mean(np.square(e[total > 0])))
    return Check(
        "residual_correlation",
        correlation,
        _CORRELATED,
        "yes" if correlation <= _CORRELATED else "no",
        f"residuals of neighbouring slices correlate at {correlation:.2f}",
        "outcomes drift, or treatment carries over; read burn_in_curve and carryover_bound",
        warns=True,
    )


def _coin(reading: Reading) -> Check:
    """Whether the next slice could be foreseen."""
    coin = reading.coins.law.coin
    return Check(
        "coin",
        None,
        None,
        "no" if coin == "alternating" else "yes",
        "alternating coins can be foreseen, lose about twice as much to carry-over, and leave few "
        "paths to compare with: throw stratified ones"
        if coin == "alternating"
        else f"{coin} coins: the next slice cannot be foreseen from the last",
        warns=True,
    )


def _anticipation(reading: Reading) -> Check:
    """Whether the last quarter of a slice already moves towards the next slice's arm."""
    rotation, coins = reading.rotation, reading.coins
    cells, last = rotation.cells, rotation.last
    late = coins.end[last] - cells.time <= (coins.end - coins.start)[last] // _LATE
    k = len(coins)
    sums = [
        np.bincount(last, cells.size * part * value, k)
        for part in (late, ~late)
        for value in (np.ones(len(cells)), cells.outcome)
    ]
    follows = np.append((coins.chain[1:] == coins.chain[:-1]) & (np.diff(coins.number) == 1), False)
    some = np.flatnonzero(follows & (sums[0] > 0) & (sums[2] > 0))
    rise = sums[1][some] / sums[0][some] - sums[3][some] / sums[2][some]
    turn = (coins.arm[some + 1] - coins.arm[some]).astype(np.float64) if len(some) else rise
    stratum = coins.stratum[some]
    rise, turn = (v - _stratum_means(v, stratum) for v in (rise, turn))
    df = len(some) - len(np.unique(stratum)) - 1
    total = float(turn @ turn)
    if df < _FEW_SWITCHES or total < 1:
        message = (
            f"{len(some)} slices with rows in and before their last quarter are too few to tell"
        )
        return Check("anticipation", None, None, "not testable", message)
    slope = float(turn @ rise) / total
    e = rise - slope * turn
    error = float(np.sqrt((turn * e) @ (turn * e) * len(some) / df)) / total
    t = abs(slope) / error if error > 0 else 0.0
    limit = float(special.stdtrit(df, 0.975))
    return Check(
        "anticipation",
        t,
        limit,
        "yes" if t <= limit else "no",
        f"before a switch to treatment the last quarter of a slice moves by {slope:.3g} (t = "
        f"{t:.2f})",
        f"beyond {limit:.2f} somebody may foresee switches; hide them, or jitter ends",
    )


def _stratum_means(values: NDArray[np.float64], stratum: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the stratum of each value."""
    if not len(values):
        return values
    return np.asarray((np.bincount(stratum, values) / np.maximum(np.bincount(stratum), 1))[stratum])


def _usable(reading: Reading, fit: Fitted) -> Check:
    """Share of what was measured that is read."""
    cells = reading.rotation.cells
    counted = cells.size[reading.keep][fit.used[reading.code]].sum()
    share = float(counted / cells.size.sum())
    return Check(
        "share_read",
        share,
        None,
        "yes",
        f"{100 * share:.3g} % of the rows are read; burn-in, the first carry-over and windows of "
        "both arms are not",
    )


def _carryover(reading: Reading) -> Check:
    """Carry-over beyond what the reading allows for."""
    unit = reading.rotation.kind.unit
    reach = max(reading.carryover, reading.burn_in) / reading.rotation.kind.minute
    return Check(
        "carryover",
        reach,
        None,
        "not testable",
        f"no treatment is taken to matter after {reach:g} {unit}; carryover_bound asks the log",
    )


def _bound(reading: Reading) -> Check:
    """The largest outcome, which a worst-case risk needs."""
    cells = reading.rotation.cells
    largest = float(np.abs(cells.outcome[reading.keep] + cells.centre).max())
    return Check(
        "outcome_bound",
        largest,
        None,
        "not testable",
        f"the largest outcome of an instant is {largest:.4g}: switchback_risk(bound=) takes it",
    )
