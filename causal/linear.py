"""Least squares and its robust covariances: array kernels, arrays in, frozen records out.

The sums of scores behind a covariance are in `causal.sandwich`, CR2 in `causal.bias_reduced`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from scipy import linalg

from causal.bias_reduced import bias_reduced
from causal.effect import EstimationWarning
from causal.sandwich import (
    TOLERANCE,
    Kind,
    Rows,
    cluster_codes,
    cluster_meat,
    cluster_sums,
    first,
    hac_meat,
    hc_meat,
    sandwich,
)
from causal.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["CONVENTION", "Covariance", "LinearFit", "cluster_sums", "covariance", "least_squares"]

CONVENTION = (
    "Regressions of panels sum scores by cluster (CR1) and multiply by G/(G-1) (n-1)/(n-k): G "
    "clusters, n rows without singletons, k the regressors and the levels of absorbed effects "
    "that are not nested in the cluster, less one for each component that an effect shares with "
    "those before it; all nested effects together count once. t with G-1 degrees of freedom. "
    "Two-way: V1 + V2 - V12, each with the factor of the smaller G, negative eigenvalues set to "
    "0. HC1: n/(n-k), all levels counted, n-k degrees of freedom. CR2: no factor, Satterthwaite "
    "degrees of freedom; CR3: (G-1)/G times the squares of what each cluster's removal changes, "
    "G-1 degrees of freedom. Estimators by influence functions have no factor and normal quantiles."
)

_SPREAD_TOLERANCE = 1e-13  # spread over offset below which a column holds only rounding


@dataclass(frozen=True, slots=True, eq=False)
class LinearFit:
    """A least-squares fit and the basis in which its covariances are computed.

    Parameters
    ----------
    coef : (rank,) array
        Coefficients of the columns that were kept, in the order of X: a dropped column has none.
    resid : (n_rows,) array
        y - X coef, unweighted, for every row that was passed.
    bread : (rank, rank) array
        (X'WX)^-1 of the kept columns; W holds the scaled `weights` below, W = I without.
    leverage : (n_rows,) array
        Diagonal of the hat matrix of sqrt(w) X; 0 for rows of weight 0.
    n : int
        Rows used: rows with a positive weight.
    rank : int
        Number of columns kept.
    dropped : tuple of str
        Names of the columns that are linear combinations of the others.
    names : tuple of str
        Names of the kept columns, one for each coefficient.
    kept : (rank,) array of int
        Their positions in X: `full[fit.kept] = fit.coef` gives one entry for each column.
    weights : (n_rows,) array or None
        Weights divided by the mean of the positive ones.
    center : (rank,) array
        What is subtracted from the kept columns; 0 if X has no constant column.
    to_basis, from_basis : (rank, rank) arrays
        sqrt(w) (X - center) to_basis = Q with Q'Q = I; coef = from_basis Q'y up to the centre.
    """

    coef: NDArray[np.float64]
    resid: NDArray[np.float64]
    bread: NDArray[np.float64]
    leverage: NDArray[np.float64]
    n: int
    rank: int
    dropped: tuple[str, ...]
    names: tuple[str, ...]
    kept: NDArray[np.intp]
    weights: NDArray[np.float64] | None
    center: NDArray[np.float64]
    to_basis: NDArray[np.float64]
    from_basis: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Covariance:
    """Covariance of the coefficients and the degrees of freedom of their t statistics.

    Parameters
    ----------
    matrix : (rank, rank) array
        In the order of `LinearFit.coef`.
    df : float or (rank,) array
        One number; for CR2 one for each coefficient.
    """

    matrix: NDArray[np.float64]
    df: float | NDArray[np.float64]


def least_squares(
    X: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> LinearFit:
    """Fit y on the columns of X by (weighted) least squares; leave collinear columns out.

    No intercept is added. The numbers are those of the projection of y on X; what they mean
    causally is the caller's business.

    Parameters
    ----------
    X : (n_rows, k) array
        Regressors, finite, at least as many rows as columns.
    y : (n_rows,) array
        Outcome, finite.
    weights : (n_rows,) array, optional
        Non-negative, not all zero. They are analytic weights: minimised is sum w (y - Xb)^2,
        their scale is irrelevant to the coefficients and to every covariance. A row of weight 0
        counts for nothing, as if it were left out.
    names : sequence of k str, optional
        Names for messages and for `dropped`; "x0", "x1", ... by default.

    Returns
    -------
    LinearFit
        `coef` has one entry for each *kept* column.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If shapes do not fit, a value is not finite, weights are negative or all zero, names are
        doubled, there are fewer rows than columns, or all columns are zero.

    Warns
    -----
    EstimationWarning
        If columns are collinear; names those that were left out.

    Notes
    -----
    X = QR (Householder) of columns scaled to unit norm, centred first if X has a constant column.
    Pivoting is limited, as in R's `lm`: columns are taken in their order (a constant one first)
    and a column is moved out if its |R_jj| <= 1e-10. Pivoting on the largest norm would choose
    among collinear columns by rounding errors, that is by the order of the rows.

    References
    ----------
    Golub and Van Loan (2013), Matrix Computations, 5.2 and 5.4.

    Examples
    --------
    >>> import numpy as np
    >>> from causal.linear import least_squares
    >>> fit = least_squares(np.array([[1, 0], [1, 1], [1, 2]]), np.array([1.0, 3.0, 5.0]))
    >>> fit.coef.round(6).tolist()
    [1.0, 2.0]
    """
    X, y = _numbers("X", X, 2), _numbers("y", y, 1)
    labels = _column_names(names, X.shape[1])
    _check_design(X, y, labels)
    w = None if weights is None else _relative_weights(_numbers("weights", weights, 1), len(y))
    return _fit(X, y, w, labels)


def covariance(
    fit: LinearFit,
    X: ArrayLike,
    *,
    kind: Kind = "HC2",
    clusters: ArrayLike | None = None,
    clusters2: ArrayLike | None = None,
    lags: int | None = None,
    time: ArrayLike | None = None,
) -> Covariance:
    """Covariance of least-squares coefficients that does not trust the error terms to be alike.

    HC* allows a variance of its own for each row, CR* any dependence inside clusters, two-way CR
    any dependence of rows that share either label, HAC dependence that fades over time. All take
    X as fixed; none corrects for a wrong model of the mean.

    Parameters
    ----------
    fit : LinearFit
    X : (n_rows, k) array
        The very matrix that was fitted, dropped columns included.
    kind : {"HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2", "HAC"}
        CR2 is for few clusters (below 50); it corrects the bias and the degrees of freedom.
    clusters, clusters2 : (n_rows,) arrays, optional
        Labels of any kind without missing values. `clusters` is required by CR0, CR1 and CR2;
        `clusters2` (CR0, CR1 only) makes it two-way.
    lags : int, optional
        Of HAC; floor(4 (n/100)^(2/9)) by default.
    time : (n_rows,) array, optional
        Of HAC: sorts the rows, must not repeat. By default the rows are taken in their order. The
        periods count as equally spaced.

    Returns
    -------
    Covariance
        `df`: n - rank for HC and HAC, G - 1 for CR0 and CR1 (the smaller G of two), Satterthwaite
        for each coefficient for CR2.

    Raises
    ------
    TypeError
        If an array is of the wrong type.
    ValueError
        If an option does not belong to `kind`, shapes do not fit, labels are missing, there are
        fewer than 2 clusters, n <= rank, time repeats, or a variance leaves double precision. For
        HC2 and HC3 if a row has leverage 1: its residual is 0 whatever its error was.

    Warns
    -----
    EstimationWarning
        If a two-way covariance had negative eigenvalues (set to 0). For CR2 if a coefficient
        depends on directions that lie inside a single cluster (a dummy of that cluster, the one
        treated cluster): the variance from there cannot be seen; where nothing can be seen df is 0.

    Notes
    -----
    With weights, x* = sqrt(w) x and e* = sqrt(w) e take the place of x and e, n counts the rows of
    positive weight, and HC, CR0, CR1 and HAC are the formulas below on the starred rows: the
    numbers of statsmodels' WLS (which, unlike here, counts rows of weight 0 in n and in G).

    HC: sum x x' e~^2 with e~ = e, e sqrt(n/(n-k)), e/sqrt(1-h), e/(1-h) for HC0 to HC3.
    CR0: sum_g X_g'e_g e_g'X_g. CR1: times G/(G-1) (n-1)/(n-k).
    Two-way: V1 + V2 - V12, each with the factor of its own G, as statsmodels'
    `cov_cluster_2groups`. Negative eigenvalues are removed in the orthonormal basis Q, not in the
    units of the coefficients, so that the unit of one regressor cannot change the others' errors.
    HAC: Bartlett weights 1 - l/(lags+1), no small-sample factor.
    CR2: A_g = (I - H_gg)^-1/2 (pseudo-inverse), working model of independent errors with equal
    variance. With weights the working model stays so, and A_g = [(I-H)(I-H)']_gg^-1/2, the
    weighted form of Pustejovsky and Tipton with Phi = I; only constant weights give the unweighted
    numbers. A_g is pushed through the cluster's columns, F_g'A_g = D_g F_g', so that no matrix of
    n_g rows is formed: O(n k^2 + G k^3) time, O(n k + G k^2) memory.
    With a_g = A_g W_g X_g (X'WX)^-1 c and Gamma_gh = a_g'[(I-H)(I-H)']_gh a_h,
    df = tr(Gamma)^2 / ||Gamma||_F^2.

    References
    ----------
    White (1980); MacKinnon and White (1985); Newey and West (1987); Bell and McCaffrey (2002);
    Cameron, Gelbach and Miller (2011), eq. 2.11 and 2.16; Pustejovsky and Tipton (2018), eq. 8.

    Examples
    --------
    >>> import numpy as np
    >>> from causal.linear import covariance, least_squares
    >>> X, y = np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 6.0])
    >>> covariance(least_squares(X, y), X, kind="HC2").matrix.round(6).tolist()
    [[1.166667]]
    """
    _check_options(kind, clusters, clusters2, lags, time)
    rows = _rows(fit, _numbers("X", X, 2))
    df: float | NDArray[np.float64] = float(fit.n - fit.rank)
    if kind == "CR2":
        reduced = bias_reduced(rows, cluster_codes("clusters", clusters, rows))
        meat, df = reduced.meat, reduced.df
    elif kind in ("CR0", "CR1"):
        given = {"clusters": clusters, "clusters2": clusters2}
        ways = [cluster_codes(name, at, rows) for name, at in given.items() if at is not None]
        meat = cluster_meat(rows, ways, corrected=kind == "CR1")
        df = float(min(way.n for way in ways) - 1)
    elif kind == "HAC":
        meat = hac_meat(rows, lags, time)
    else:
        meat = hc_meat(rows, kind)
    return Covariance(sandwich(rows.from_basis, meat, rows.names, rows.exponent), df)


def _rows(fit: LinearFit, X: NDArray[np.float64]) -> Rows:
    """Bring X and the fit together; raises if they do not belong together or leave no df."""
    shape = (len(fit.resid), fit.rank + len(fit.dropped))
    if X.shape != shape:
        raise ValueError(f"X must be the fitted matrix of shape {shape}; got {X.shape}")
    if fit.n <= fit.rank:
        raise ValueError(
            f"a covariance needs more rows than coefficients; got {fit.n} rows with weight and "
            f"{fit.rank} coefficients: drop covariates"
        )
    used = np.ones(len(X), dtype=bool) if fit.weights is None else fit.weights > 0
    e = _selected(fit.resid, used)
    exponent = max(int(np.frexp(max(e.max(), -e.min()))[1]), -1000)
    return Rows(
        X=_selected(_kept_columns(X, fit.kept), used),
        e=e * np.ldexp(1.0, -exponent),
        w=None if fit.weights is None else _selected(fit.weights, used),
        leverage=_selected(fit.leverage, used),
        exponent=exponent,
        used=used,
        names=fit.names,
        center=fit.center,
        to_basis=fit.to_basis,
        from_basis=fit.from_basis,
    )


# ---- the fit: scaled columns, QR, and back to the units of X ----


@dataclass(frozen=True, slots=True, eq=False)
class _Scaled:
    """Rows sqrt(w) (column - center) / scale of unit norm."""

    rows: NDArray[np.float64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Independent:
    """QR of the columns at `kept`; the others depend on them."""

    Q: NDArray[np.float64]
    R: NDArray[np.float64]
    kept: NDArray[np.intp]


def _fit(
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    w: NDArray[np.float64] | None,
    names: tuple[str, ...],
) -> LinearFit:
    """Fit checked arrays; w has mean 1 over its positive entries."""
    used = np.ones(len(y), dtype=bool) if w is None else w > 0
    Xu, yu, wu = _selected(X, used), _selected(y, used), None if w is None else _selected(w, used)
    _check_size(Xu)
    constant = _constant_column(Xu)
    centred = np.full(len(names), constant is not None)
    if constant is not None:
        centred[constant] = False
    x_scaled = _standardised(Xu.T, wu, centred)
    y_scaled = _standardised(yu[None, :], wu, np.array([constant is not None]))
    qr = independent_part(x_scaled.rows)
    kept, center = qr.kept, x_scaled.center[qr.kept]
    dropped = tuple(name for j, name in enumerate(names) if j not in kept)
    _warn_dropped(dropped)
    to_basis = linalg.solve_triangular(qr.R, np.eye(len(kept))) / x_scaled.scale[kept, None]
    slopes = to_basis @ (qr.Q.T @ y_scaled.rows[0]) * y_scaled.scale[0]
    from_basis, coef = to_basis.copy(), slopes.copy()
    if constant is not None:
        at, level = int(np.searchsorted(kept, constant)), Xu[0, constant]
        from_basis[at] -= center @ to_basis / level
        coef[at] += (y_scaled.center[0] - center @ slopes) / level
    leverage = np.zeros(len(y))
    leverage[used] = np.minimum(np.einsum("ij,ij->i", qr.Q, qr.Q), 1.0)
    kept_names = tuple(names[j] for j in kept)
    return LinearFit(
        coef=coef,
        resid=(y - y_scaled.center[0]) - (_kept_columns(X, kept) - center) @ slopes,
        bread=sandwich(from_basis, np.eye(len(kept)), kept_names, 0),
        leverage=leverage,
        n=len(yu),
        rank=len(kept),
        dropped=dropped,
        names=kept_names,
        kept=kept,
        weights=w,
        center=center,
        to_basis=to_basis,
        from_basis=from_basis,
    )


def _standardised(
    columns: NDArray[np.float64], w: NDArray[np.float64] | None, centred: NDArray[np.bool_]
) -> _Scaled:
    """Scale (k, n) columns; one with nothing but rounding beside its centre becomes 0."""
    peak = np.abs(columns).max(axis=1)
    power = np.ldexp(1.0, np.maximum(np.frexp(peak)[1], -1000))  # exact, no overflow in squares
    Z = np.multiply(columns, 1 / power[:, None], order="C")
    center = np.zeros(len(Z))
    for j in np.flatnonzero(centred):
        center[j] = Z[j, 0] + np.average(Z[j] - Z[j, 0], weights=w)  # exact if all are equal
        Z[j] -= center[j]
    if w is not None:
        Z *= np.sqrt(w)
    norm = np.sqrt(np.einsum("ij,ij->i", Z, Z))
    Z[norm <= _SPREAD_TOLERANCE * np.abs(center) * np.sqrt(Z.shape[1])] = 0.0
    scale = np.where(norm > 0, norm, 1.0)
    Z /= scale[:, None]
    return _Scaled(Z, center * power, scale * power)


def _constant_column(X: NDArray[np.float64]) -> int | None:
    """Position of the first column that never varies and is not 0."""
    found = np.flatnonzero((X[0] == X).all(axis=0) & (X[0] != 0))
    return int(found[0]) if len(found) else None


def independent_part(Z: NDArray[np.float64]) -> _Independent:
    """QR of unit-norm rows Z' that add a direction to those before them; overwrites Z."""
    Q, R = linalg.qr(Z.T, mode="economic", overwrite_a=True, check_finite=False)
    basis, kept = np.zeros((len(R), 0)), []
    for j, column in enumerate(R.T):
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)  # once more: one pass leaves rounding behind
        size = np.linalg.norm(rest)
        if size > TOLERANCE:
            basis = np.column_stack([basis, rest / size])
            kept.append(j)
    if not kept:
        raise ValueError("X must have a column that is not 0; all are: pass a regressor")
    if len(kept) < len(Z):
        turn, R = np.linalg.qr(R[:, kept])
        Q = Q @ turn
    return _Independent(Q, R, np.array(kept, dtype=np.intp))


def _warn_dropped(dropped: tuple[str, ...]) -> None:
    """Name the columns without a coefficient of their own."""
    if dropped:
        warnings.warn(
            f"{len(dropped)} collinear or constant column(s) left out: {first(dropped)}; "
            "their effect is not separable from the other columns",
            EstimationWarning,
            stacklevel=4,
        )


def _kept_columns(X: NDArray[np.float64], kept: NDArray[np.intp]) -> NDArray[np.float64]:
    """X[:, kept], without a copy if nothing was dropped."""
    return X if len(kept) == X.shape[1] else X[:, kept]


def _selected(values: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """values[used], without a copy if all rows are used."""
    return values if used.all() else values[used]


# ---- what may come in ----


def _numbers(name: str, values: ArrayLike, ndim: int) -> NDArray[np.float64]:
    """The array as finite float64 of `ndim` dimensions."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}: convert it first")
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(
            f"{name} must be a non-empty array of {ndim} dimension(s); got shape {array.shape}"
        )
    return array.astype(np.float64, copy=False)


def _column_names(names: Sequence[str] | None, k: int) -> tuple[str, ...]:
    """Given names, or x0, x1, ...; raises unless there is one distinct name a column."""
    if names is None:
        return tuple(f"x{j}" for j in range(k))
    if len(names) != k or len(set(names)) != k:
        raise ValueError(
            f"names must be {k} different strings, one for each column of X; got {list(names)!r}"
        )
    return tuple(names)


def _check_design(X: NDArray[np.float64], y: NDArray[np.float64], names: tuple[str, ...]) -> None:
    """Refuse lengths that differ and values that are not finite."""
    if len(X) != len(y):
        raise ValueError(f"X and y must have the same number of rows; got {len(X)} and {len(y)}")
    for j in np.flatnonzero(~np.isfinite(X).all(axis=0)):
        _check_finite(names[j], X[:, j])
    _check_finite("y", y)


def _check_finite(name: str, values: NDArray[np.float64]) -> None:
    """Refuse missing and infinite values, with their rows."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"{name} must be finite; {len(bad)} row(s) are not, e.g. rows {first(bad.tolist())} "
            f"({first(values[bad].tolist())}): drop or impute them first"
        )


def _check_size(X: NDArray[np.float64]) -> None:
    """Refuse fewer rows than columns."""
    if len(X) < X.shape[1]:
        raise ValueError(
            f"least squares needs at least as many rows with weight as columns; got {len(X)} rows "
            f"and {X.shape[1]} columns: drop covariates"
        )


def _relative_weights(weights: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """Weights over the mean of the positive ones; raises if negative or all zero."""
    if len(weights) != n_rows:
        raise ValueError(f"weights must have one entry a row, {n_rows}; got {len(weights)}")
    _check_finite("weights", weights)
    bad = np.flatnonzero(weights < 0)
    if len(bad):
        raise ValueError(
            f"weights must not be negative; {len(bad)} row(s) are, e.g. rows "
            f"{first(bad.tolist())} ({first(weights[bad].tolist())})"
        )
    top = weights.max()
    if top == 0:
        raise ValueError(f"weights must not all be 0; all {n_rows} are")
    relative = weights / top
    scaled: NDArray[np.float64] = relative / relative[relative > 0].mean()
    return scaled


def _check_options(
    kind: Kind,
    clusters: ArrayLike | None,
    clusters2: ArrayLike | None,
    lags: int | None,
    time: ArrayLike | None,
) -> None:
    """Refuse an unknown kind and options that do not belong to it."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}; got {kind!r}")
    if kind.startswith("CR") and clusters is None:
        raise ValueError(f"{kind} needs clusters=; got None: pass labels or use an HC covariance")
    allowed = {"HAC": {"lags", "time"}, "CR2": {"clusters"}}.get(kind, set())
    allowed = {"clusters", "clusters2"} if kind in ("CR0", "CR1") else allowed
    given = {"clusters": clusters, "clusters2": clusters2, "lags": lags, "time": time}
    wrong = [name for name, value in given.items() if value is not None and name not in allowed]
    if wrong:
        raise ValueError(f"{kind} takes no {', '.join(wrong)}; choose the kind that does")
    if lags is not None:
        whole_number("lags", lags, 0)
