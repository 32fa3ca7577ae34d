"""Standard errors of a contrast of windows: shared coins, clusters of slices, series in time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.linear import covariance, least_squares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.sandwich import Kind
    from experiments.rotations.slice_readings import Reading
    from experiments.rotations.slice_statistic import Fitted


@dataclass(frozen=True)
class Errors:
    """Standard error of a contrast, its degrees of freedom, and those of the untreated level."""

    std_error: float
    df: float
    baseline_variance: float
    baseline_cov: float
    rule: str


def conservative_errors(reading: Reading, fit: Fitted) -> Errors:
    """The second bound on residuals: windows that share coins may all move together."""
    kappa = reading.windows.kappa
    return Errors(
        std_error=math.sqrt(float(kappa @ fit.scores**2)),
        df=float(fit.df),
        baseline_variance=float(kappa @ fit.baseline_scores**2),
        baseline_cov=float(kappa @ (fit.scores * fit.baseline_scores)),
        rule="windows that share coins",
    )


def cluster_errors(reading: Reading, fit: Fitted, *, kind: Kind = "CR2") -> Errors:
    """Weighted least squares on slice means, clustered by slice.

    Raises
    ------
    ValueError
        If windows of neighbouring slices share coins.
    """
    windows = reading.windows
    if (windows.first != windows.last).any():
        raise ValueError(
            "inference='cluster' takes slices as independent, and a carryover makes neighbours "
            "share coins: use inference='conservative' or 'randomization', or burn_in="
        )
    rows = np.flatnonzero(_speaking(reading, fit))
    return _least_squares_errors(
        reading,
        fit,
        rows=rows,
        outcome=windows.outcome[rows],
        weight=windows.size[rows] / windows.chance[rows],
        options={"kind": kind, "clusters": windows.last[rows]},
        rule=f"{kind} by slice",
    )


def hac_errors(reading: Reading, fit: Fitted) -> Errors:
    """Newey-West over instants; lags reach over the longest slice and the carry-over.

    Raises
    ------
    ValueError
        If there are several regions or units, whose instants repeat.
    """
    coins, windows = reading.coins, reading.windows
    if len(coins.chains) > 1:
        raise ValueError(
            f"inference='hac' takes one series; {len(coins.chains)} regions or units have coins of "
            "their own: use inference='cluster' or 'randomization'"
        )
    cells = reading.rotation.cells.select(reading.keep)
    times, at = np.unique(cells.time, return_inverse=True)
    series = cells.pooled(at, len(times))
    window = np.zeros(len(times), dtype=np.int64)
    window[at] = reading.code
    some = np.flatnonzero(_speaking(reading, fit)[window])
    counts = np.bincount(windows.last[window[some]])
    step = np.median(np.diff(times)) if len(times) > 1 else 1
    reach = int(counts.max() + math.ceil(reading.carryover / max(step, 1)))
    lags = min(max(newey_west_lags(len(some)), reach), len(some) - 1)
    rows = window[some]
    return _least_squares_errors(
        reading,
        fit,
        rows=rows,
        outcome=series.outcome[some],
        weight=series.size[some] / windows.chance[rows],
        options={"kind": "HAC", "lags": lags, "time": times[some]},
        rule=f"Newey-West, {lags} lags",
    )


def _speaking(reading: Reading, fit: Fitted) -> NDArray[np.bool_]:
    """Windows that bear on the contrast: strata of one arm only tell slopes of covariates."""
    return fit.used if reading.windows.covariates.shape[1] else fit.informative


def newey_west_lags(n: int) -> int:
    """floor(4 (n / 100)^(2/9))."""
    return int(4 * (n / 100) ** (2 / 9))


def _least_squares_errors(
    reading: Reading,
    fit: Fitted,
    *,
    rows: NDArray[np.int64],
    outcome: NDArray[np.float64],
    weight: NDArray[np.float64],
    options: dict[str, object],
    rule: str,
) -> Errors:
    """Errors of the coefficient on z and of the level at z = 0 by `causal.linear`."""
    windows = reading.windows
    strata, stratum = np.unique(windows.stratum[rows], return_inverse=True)
    x = windows.covariates[rows] - np.average(windows.covariates[rows], axis=0, weights=weight)
    X = np.column_stack([fit.treated[rows], np.eye(len(strata))[stratum], x])
    names = ["treated", *(f"stratum {j}" for j in strata), *reading.rotation.roles.covariates]
    found = least_squares(X, outcome, weights=weight, names=names)
    spread = covariance(found, X, **options)  # type: ignore[arg-type]
    level = np.concatenate(
        [[0.0], np.bincount(stratum, weight) / weight.sum(), np.zeros(x.shape[1])]
    )
    level = level[found.kept]
    df = np.atleast_1d(spread.df)[0]
    return Errors(
        std_error=math.sqrt(float(spread.matrix[0, 0])),
        df=float(df),
        baseline_variance=float(level @ spread.matrix @ level),
        baseline_cov=float(level @ spread.matrix[:, 0]),
        rule=rule,
    )
