"""Middle parts of robust covariances: sums of outer products of scores, by row, cluster or lag.

Everything is computed in an orthonormal basis of the regressors,
Q = sqrt(w) (X - center) to_basis, so that an offset of 1e9 in a column costs no digits; `sandwich`
brings the result back to the units of the coefficients.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from causal.effect import EstimationWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Kind: TypeAlias = Literal["HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2", "HAC"]

TOLERANCE = 1e-10  # what counts as 0: |R_jj| of unit-norm columns, 1 - leverage
_COMPILED_FROM = 500_000  # entries of X; fewer are summed before numba is even imported


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of positive weight and the basis of their columns.

    Parameters
    ----------
    X : (n, rank) array
        Columns that were kept.
    e : (n,) array
        Residuals divided by 2^exponent, so that their squares cannot overflow.
    w : (n,) array or None
        Weights of mean 1.
    leverage : (n,) array
    exponent : int
    used : (n_passed,) array of bool
        Which rows of the matrix that the caller passed these are.
    names : tuple of str
    center : (rank,) array
    to_basis, from_basis : (rank, rank) arrays
        As in `LinearFit`.
    """

    X: NDArray[np.float64]
    e: NDArray[np.float64]
    w: NDArray[np.float64] | None
    leverage: NDArray[np.float64]
    exponent: int
    used: NDArray[np.bool_]
    names: tuple[str, ...]
    center: NDArray[np.float64]
    to_basis: NDArray[np.float64]
    from_basis: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Rows that count."""
        return len(self.e)

    @property
    def rank(self) -> int:
        """Number of coefficients."""
        return len(self.center)

    def basis(self) -> NDArray[np.float64]:
        """Q' of these rows, (rank, n)."""
        Q: NDArray[np.float64] = self.to_basis.T @ (self.X - self.center).T
        return Q if self.w is None else Q * np.sqrt(self.w)

    def starred(self) -> NDArray[np.float64]:
        """Residuals times sqrt(w)."""
        return self.e if self.w is None else self.e * np.sqrt(self.w)

    def select(self, values: NDArray[Any]) -> NDArray[Any]:
        """Entries of these rows out of an array over all rows that were passed."""
        return values if self.used.all() else values[self.used]


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Dense codes, 0 <= code < n, every one of which occurs; contiguous, never written to."""

    codes: NDArray[np.int64]
    n: int


def cluster_sums(
    values: NDArray[np.float64], codes: NDArray[np.integer[Any]], n_clusters: int
) -> NDArray[np.float64]:
    """Sum rows that share a code.

    Parameters
    ----------
    values : (n,) or (n, k) array
        Fastest when each column is contiguous.
    codes : (n,) array of int
        Dense codes, 0 <= code < n_clusters.
    n_clusters : int
        Number of rows of the result; a code that does not occur gives 0.

    Returns
    -------
    (n_clusters, k) array
        k = 1 for one-dimensional values.

    Raises
    ------
    ValueError
        If a code lies outside [0, n_clusters), or there is not one code for each row.

    Examples
    --------
    >>> import numpy as np
    >>> from causal.linear import cluster_sums
    >>> cluster_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0]), 2).ravel().tolist()
    [5.0, 2.0]
    """
    if len(values) != len(codes):
        raise ValueError(f"codes must have one entry a row, {len(values)}; got {len(codes)}")
    if len(codes) and not 0 <= codes.min() <= codes.max() < n_clusters:
        raise ValueError(
            f"codes must lie in [0, {n_clusters}); got {codes.min()} to {codes.max()}: "
            "make them dense first"
        )
    columns = values.reshape(len(values), -1).T
    sums = np.empty((n_clusters, len(columns)))
    for j, column in enumerate(columns):
        sums[:, j] = np.bincount(codes, column, n_clusters)
    return sums


def cluster_codes(name: str, labels: ArrayLike | None, rows: Rows) -> Clusters:
    """Dense codes of the labels of the rows that count.

    Raises
    ------
    ValueError
        If there is not one label a row, one is missing, or there are fewer than 2 clusters.
    """
    clusters = dense_codes(_one_a_row(name, labels, len(rows.used)))
    if clusters.codes.min() < 0:
        _refuse_missing(name, clusters.codes < 0)
    if not rows.used.all():
        clusters = dense_codes(clusters.codes[rows.used])
    if clusters.n < 2:
        raise ValueError(
            f"{name} must hold at least 2 different labels; got {clusters.n} over {rows.n} rows: "
            "use an HC covariance or more clusters"
        )
    return clusters


def _one_a_row(name: str, labels: ArrayLike | None, n_rows: int) -> NDArray[Any]:
    """Labels as an array of one entry a row."""
    array = np.asarray(labels)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), one label a row; got {array.shape}")
    return array


def _refuse_missing(name: str, missing: NDArray[np.bool_]) -> None:
    """Raise if an entry is missing, with the rows."""
    if missing.any():
        raise ValueError(
            f"{name} must not be missing; {missing.sum()} row(s) are, e.g. rows "
            f"{first(np.flatnonzero(missing).tolist())}: drop them or give them a label"
        )


def dense_codes(labels: NDArray[Any]) -> Clusters:
    """Dense codes, -1 where missing: by counting for integers of a narrow range, else by hashing.

    Integers are hashed by Arrow: several times faster than pandas, and they are never missing.
    """
    if labels.dtype.kind not in "iu":
        codes, levels = pd.factorize(labels)
        return Clusters(codes.astype(np.int64, copy=False), len(levels))
    whole = np.uint64 if labels.dtype.kind == "u" else np.int64
    wide = np.require(labels, whole, ["C", "A"])
    low, high = wide.min(), wide.max()
    if int(high) - int(low) >= 4 * len(wide):
        hashed = pa.array(wide).dictionary_encode()
        return Clusters(np.asarray(hashed.indices, dtype=np.int64), len(hashed.dictionary))
    offsets = (wide - low if low else wide).astype(np.int64, copy=False)
    present = np.bincount(offsets) > 0
    if present.all():
        return Clusters(offsets, len(present))
    return Clusters((np.cumsum(present) - 1)[offsets], int(present.sum()))


def sandwich(
    A: NDArray[np.float64], meat: NDArray[np.float64], names: tuple[str, ...], exponent: int
) -> NDArray[np.float64]:
    """4^exponent A meat A', scaled so that only the final numbers can leave double precision.

    Raises
    ------
    ValueError
        If they do; names the coefficients.
    """
    powers = np.frexp(np.abs(A).max(axis=1))[1]
    small = np.ldexp(A, -powers[:, None])
    inner = small @ meat @ small.T
    inner = (inner + inner.T) / 2
    with np.errstate(over="ignore", under="ignore"):
        matrix: NDArray[np.float64] = np.ldexp(inner, powers[:, None] + powers + 2 * exponent)
    lost = (inner.diagonal() > 0) & (matrix.diagonal() < np.finfo(float).tiny)
    lost |= ~np.isfinite(matrix).all(axis=1)
    if lost.any():
        raise ValueError(
            "variances must fit into double precision; those of "
            f"{first([name for name, bad in zip(names, lost, strict=True) if bad])} do not: "
            "rescale these columns or the outcome"
        )
    return matrix


def hc_meat(rows: Rows, kind: Kind) -> NDArray[np.float64]:
    """HC0 to HC3: sum q q' e~^2.

    Raises
    ------
    ValueError
        For HC2 and HC3 if a row has leverage 1.
    """
    Q, e = rows.basis(), rows.starred()
    if kind == "HC1":
        e = e * np.sqrt(rows.n / (rows.n - rows.rank))
    elif kind in ("HC2", "HC3"):
        free = 1 - rows.leverage
        if free.min() <= TOLERANCE:
            raise ValueError(_leverage_message(rows, Q, np.flatnonzero(free <= TOLERANCE), kind))
        e = e / (np.sqrt(free) if kind == "HC2" else free)
    scores = Q * e
    meat: NDArray[np.float64] = scores @ scores.T
    return meat


def _leverage_message(rows: Rows, Q: NDArray[np.float64], bad: NDArray[np.intp], kind: Kind) -> str:
    """Which rows are fitted exactly, and through which columns the first of them is."""
    reach = np.linalg.norm(np.linalg.solve(rows.from_basis, np.eye(rows.rank)), axis=0)
    part = np.abs(rows.from_basis @ Q[:, bad[0]]) * reach
    columns = [name for name, p in zip(rows.names, part, strict=True) if p > 1e-8 * part.max()]
    numbers = np.flatnonzero(rows.used)[bad].tolist()
    return (
        f"{kind} needs every leverage below 1; {len(bad)} row(s) are fitted exactly, e.g. rows "
        f"{first(numbers)} (row {numbers[0]} alone determines a combination of columns "
        f"{first(columns)}): drop these rows or columns, or use HC1"
    )


def cluster_meat(rows: Rows, ways: list[Clusters], *, corrected: bool) -> NDArray[np.float64]:
    """CR0 and CR1 (`corrected`), one-way or V1 + V2 - V12.

    Warns
    -----
    EstimationWarning
        If a two-way meat has negative eigenvalues; they become 0.
    """
    if len(ways) == 2:
        ways = [*ways, dense_codes(ways[0].codes * ways[1].n + ways[1].codes)]
    meat = np.zeros((rows.rank, rows.rank))
    for sign, way, total in zip((1, 1, -1), ways, _score_sums(rows, ways), strict=False):
        scores = total @ rows.to_basis
        factor = way.n / (way.n - 1) * (rows.n - 1) / (rows.n - rows.rank) if corrected else 1.0
        meat += sign * factor * (scores.T @ scores)
    return without_negative(meat) if len(ways) == 3 else meat


def _score_sums(rows: Rows, ways: list[Clusters]) -> list[NDArray[np.float64]]:
    """Sums of (x - center) w e by cluster, for each way; the (n, k) scores are never stored."""
    e = rows.e if rows.w is None else rows.e * rows.w
    sums = [np.zeros((way.n, rows.rank)) for way in ways]
    if rows.X.size >= _COMPILED_FROM:
        from causal.kernels.clusters import add_scores  # noqa: PLC0415 — loaded only when used

        as_is = rows.X.flags.forc and rows.X.flags.aligned
        X = rows.X if as_is else rows.X.copy()
        for way, total in zip(ways, sums, strict=True):
            add_scores(X, rows.center, e, way.codes, total)
        return sums
    score = np.empty(rows.n)
    for j in range(rows.rank):
        np.subtract(rows.X[:, j], rows.center[j], out=score)
        score *= e
        for way, total in zip(ways, sums, strict=True):
            total[:, j] = np.bincount(way.codes, score, way.n)
    return sums


def without_negative(meat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Set negative eigenvalues to 0; warn unless they are rounding."""
    values, vectors = np.linalg.eigh(meat)
    if values[0] >= 0:
        return meat
    share = values / np.abs(values).max()
    if share[0] < -1e-12:
        shown = [f"{s:.2g}" for s in share[share < -1e-12]]
        warnings.warn(
            "the two-way covariance V1 + V2 - V12 is not positive semi-definite: eigenvalue(s) of "
            f"{first(shown)} times the largest were set to 0; too few clusters in one direction, "
            "or errors not dependent in both",
            EstimationWarning,
            stacklevel=4,
        )
    fixed: NDArray[np.float64] = (vectors * np.maximum(values, 0)) @ vectors.T
    return fixed


def hac_meat(rows: Rows, lags: int | None, time: ArrayLike | None) -> NDArray[np.float64]:
    """Newey-West: Bartlett-weighted sum of the autocovariances of the scores.

    Raises
    ------
    ValueError
        If `lags` reaches the number of rows, or a time is missing or repeats.
    """
    lags = int(4 * (rows.n / 100) ** (2 / 9) if lags is None else lags)
    if lags >= rows.n:
        raise ValueError(f"lags must be below the number of rows, {rows.n}; got {lags}")
    scores = rows.basis() * rows.starred()
    if time is not None:
        times = _one_a_row("time", time, len(rows.used))
        _refuse_missing("time", pd.isna(times))
        scores = scores[:, _time_order(rows.select(times))]
    meat: NDArray[np.float64] = scores @ scores.T
    for lag in range(1, lags + 1):
        lagged = scores[:, lag:] @ scores[:, :-lag].T
        meat += (1 - lag / (lags + 1)) * (lagged + lagged.T)
    return meat


def _time_order(time: NDArray[Any]) -> NDArray[np.intp]:
    """Order of the rows in time; raises if a time repeats."""
    try:
        order = np.argsort(time, kind="stable")
    except TypeError as error:
        raise TypeError(f"time must be of one kind, all numbers or all dates; {error}") from None
    ordered = time[order]
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again):
        raise ValueError(
            f"time must not repeat; {len(again)} row(s) repeat a time, e.g. "
            f"{first(list(dict.fromkeys(again.tolist())))}: make it one row per period, or use "
            "clusters"
        )
    return order


def first(offenders: Sequence[object]) -> str:
    """Up to five offenders for a message."""
    return ", ".join(str(o) for o in offenders[:5]) + (", ..." if len(offenders) > 5 else "")
