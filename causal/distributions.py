"""Reference distributions behind intervals and p-values: normal, t, the sup-t of a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy import optimize, special

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Alternative: TypeAlias = Literal["two-sided", "greater", "less"]

_SMALLEST_P = 5e-324  # the least positive double: a p-value below it is still not zero
_BAND_DIRECTIONS = 65_536
_NODES = 4_096


def critical_value(level: float, df: float | None = None) -> float:
    """Two-sided critical value: normal, or t with `df` degrees of freedom."""
    if not isinstance(level, int | float | np.number) or not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1); got {level!r}; 95 % is 0.95")
    tail = 0.5 * (1 - level)  # (1 + level) / 2 would round to 1 near level 1
    return -float(special.ndtri(tail) if df is None else special.stdtrit(df, tail))


def sup_t_critical_value(
    cov: ArrayLike, level: float = 0.95, df: float | None = None, *, seed: int = 0
) -> float:
    """Critical value c with P(max_j |Z_j| / se_j <= c) = level; see `EffectCurve.conf_int`.

    Parameters
    ----------
    cov : array (k, k)
        Covariance of the points; points without variance play no part.
    level : float
        In (0, 1).
    df : float, optional
        Degrees of freedom of a common scale; None for the normal.
    seed : int
        Of the directions.
    """
    pointwise = critical_value(level, df)
    matrix = np.asarray(cov, dtype=np.float64)
    positive = np.diag(matrix) > 0
    if positive.sum() < 2:
        return pointwise
    correlation, _ = unit_diagonal(matrix[np.ix_(positive, positive)])
    values, vectors = np.linalg.eigh(correlation)
    keep = values > 1e-12 * values.max()
    root = vectors[:, keep] * np.sqrt(values[keep])
    q = root.shape[1]
    rng = np.random.default_rng(seed)
    reach = np.empty(_BAND_DIRECTIONS)
    narrow = root.astype(np.float32)  # the directions are chance: their seventh digit is too
    block = max(1, 2_000_000 // len(root))
    for start in range(0, _BAND_DIRECTIONS, block):
        u = rng.standard_normal((min(block, _BAND_DIRECTIONS - start), q))
        length = np.sqrt(np.einsum("ij,ij->i", u, u))
        reach[start : start + len(u)] = np.abs(narrow @ u.T.astype(np.float32)).max(axis=0) / length

    lower = 0.5 * pointwise
    upper = critical_value(1 - (1 - level) / len(root), df) * 1.5  # beyond Bonferroni
    far, share = _binned(np.log(reach))

    def excess(log_c: float) -> float:
        r2 = np.exp(2 * (log_c - far))
        inside = special.chdtr(q, r2) if df is None else special.fdtr(q, df, r2 / q)
        return float(inside @ share) - level

    return math.exp(optimize.brentq(excess, math.log(lower), math.log(upper), xtol=1e-10))


def _binned(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Even nodes from the least x to the largest, and the share of x that each stands for.

    A value is split between its two neighbours so that means of linear functions are kept.
    """
    low, high = x.min(), x.max()
    step = max((high - low) / (_NODES - 1), 1e-300)
    at = (x - low) / step
    node = np.clip(at.astype(np.int64), 0, _NODES - 2)
    above = at - node
    share = np.bincount(node, 1 - above, _NODES) + np.bincount(node + 1, above, _NODES)
    return low + step * np.arange(_NODES), share / len(x)


def unit_diagonal(cov: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlations and standard errors; the largest stands in for one that is 0."""
    scale = np.sqrt(np.diag(cov))
    scale = np.where(scale > 0, scale, scale.max() if scale.max() > 0 else 1.0)
    return cov / np.outer(scale, scale), scale


def lower_tail(z: float, df: float | None) -> float:
    """P(Z <= z), kept above zero."""
    p = math.exp(special.log_ndtr(z)) if df is None else float(special.stdtr(df, z))
    return max(p, _SMALLEST_P)


def p_value_without_error(distance: float, alternative: Alternative) -> float:
    """P-value of an estimate without sampling error: certain, one way or the other."""
    if alternative == "two-sided":
        return 1.0 if distance == 0 else 0.0
    beyond = distance > 0 if alternative == "greater" else distance < 0
    return 0.0 if beyond else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaldTest:
    """Joint test that every coefficient of a curve equals its null.

    `statistic` is chi-square with `df` degrees of freedom, or F with `df` and `df_denom` when
    the curve has a finite number of degrees of freedom.
    """

    statistic: float
    df: int
    df_denom: float | None
    p_value: float


def wald_test(
    distance: NDArray[np.float64], cov: NDArray[np.float64], df: float | None
) -> WaldTest:
    """Test that a vector with this covariance is 0, in the directions that have variance."""
    correlation, scale = unit_diagonal(cov)
    values, vectors = np.linalg.eigh(correlation)
    keep = values > 1e-10 * max(values.max(), 1e-300)
    if not keep.any():
        raise ValueError("a joint test needs at least one point with a positive standard error")
    z = vectors[:, keep].T @ (distance / scale)
    statistic, q = float(np.sum(z * z / values[keep])), int(keep.sum())
    if df is None:
        p = float(special.chdtrc(q, statistic))
        return WaldTest(statistic=statistic, df=q, df_denom=None, p_value=p)
    p = float(special.fdtrc(q, df, statistic / q))
    return WaldTest(statistic=statistic / q, df=q, df_denom=df, p_value=p)
