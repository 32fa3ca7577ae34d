"""The contrast of treated and untreated windows, for many paths of the coins at once.

A window k is a set of times whose outcomes hang on the same coins E_k. On a path it counts if all
its coins are 1 (z = 1) or all are 0 (z = 0), with weight omega = n_k / P(all alike). The contrast
is the slope on z of weighted least squares with an intercept a stratum (and covariates):
tau = sum omega z~ y / S, S = sum omega z~^2, with z~ within strata. Its squared error is
sum kappa (omega z~ e)^2 / (1 - h) / S^2, with residuals e, leverages h, and kappa for windows that
share coins.

Under a constant effect delta, outcomes on path W* are y - delta (d - d*), d the treated share of a
window's coins; y and d - d* are fitted side by side, so that contrasts at any delta are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 2_000_000  # entries of a matrix of paths and windows
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Windows:
    """Groups of times that hang on the same coins.

    Parameters
    ----------
    first, last : int64 arrays (b,)
        First and last coin.
    size : array (b,)
        Weight n_k.
    outcome : array (b,)
        Mean outcome around a centre.
    covariates : array (b, p)
    chance : array (b,)
        That all coins are 1.
    kappa : array (b,)
        Allowance for shared coins.
    stratum : int64 array (b,)
        Codes.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    size: NDArray[np.float64]
    outcome: NDArray[np.float64]
    covariates: NDArray[np.float64]
    chance: NDArray[np.float64]
    kappa: NDArray[np.float64]
    stratum: NDArray[np.int64]

    def treated_coins(self, paths: NDArray[np.int8]) -> NDArray[np.float64]:
        """Treated share of the coins of each window on each path, shape (r, b)."""
        if (self.first == self.last).all():
            return paths[:, self.last].astype(np.float64)
        count = np.zeros((len(paths), paths.shape[1] + 1), dtype=np.int32)
        np.cumsum(paths, axis=1, out=count[:, 1:])
        within = count[:, self.last + 1] - count[:, self.first]
        return np.asarray(within / (self.last - self.first + 1))


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Contrasts of r paths: each (slope - delta dose) with squared error a quadratic in delta.

    Parameters
    ----------
    slope, dose : arrays (r,)
        Estimate of y, and 1 + estimate of d - d*: estimate(delta) - delta = slope - delta dose.
    square, mixed, dose_square : arrays (r,)
        Squared error(delta) = square - 2 delta mixed + delta^2 dose_square.
    valid : bool array (r,)
        Both arms have windows enough on the path, whatever the outcomes.
    """

    slope: NDArray[np.float64]
    dose: NDArray[np.float64]
    square: NDArray[np.float64]
    mixed: NDArray[np.float64]
    dose_square: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fitted:
    """The fit on one path, by window: 0 where a window does not count.

    Parameters
    ----------
    estimate, baseline : float
        Contrast, and mean outcome without treatment around the centre.
    scores, baseline_scores : arrays (b,)
        What each window adds to the errors of both, leverage taken off.
    residual : array (b,)
    used, informative : bool arrays (b,)
        Windows that count; those in strata with both arms.
    treated : array (b,)
        z.
    df : int
        Informative slices minus strata, covariates and the contrast.
    """

    estimate: float
    baseline: float
    scores: NDArray[np.float64]
    baseline_scores: NDArray[np.float64]
    residual: NDArray[np.float64]
    used: NDArray[np.bool_]
    informative: NDArray[np.bool_]
    treated: NDArray[np.float64]
    df: int


@dataclass(frozen=True, eq=False)
class _Design:
    """Treatment within strata (and beside covariates) on r paths.

    weight (r or 1, b), z and within (r, b), total (r, 1), covariates (r or 1, b, p) with the
    inverse of their cross products; level (r or 1, b) the leverage without that of z.
    """

    windows: Windows
    member: NDArray[np.float64]
    weight: NDArray[np.float64]
    z: NDArray[np.float64]
    within: NDArray[np.float64]
    total: NDArray[np.float64]
    covariates: NDArray[np.float64]
    inverse: NDArray[np.float64]
    level: NDArray[np.float64]

    def free(self) -> NDArray[np.float64]:
        """1 - h, shape (r, b); 0 where one window alone determines a coefficient."""
        found = 1 - self.level - self.weight * self.within**2 / self.total
        return np.where(found > _TINY, found, 0.0)

    def project(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (r or 1, b) with strata and covariates taken out."""
        found = values - _means(values, self.weight, self.member)[:, self.windows.stratum]
        return _beside(found, self.weight, self.covariates, self.inverse)


def contrasts(
    paths: NDArray[np.int8],
    windows: Windows,
    *,
    dose: NDArray[np.float64],
    drawn: NDArray[np.float64] | None = None,
) -> Contrasts:
    """Contrasts on many paths.

    Parameters
    ----------
    paths : int8 array (r, k)
        Arms of coins.
    windows : Windows
    dose : array (b,)
        d on the path that was observed.
    drawn : array (r, b), optional
        d on each path, where it is not z.
    """
    step = max(1, _CHUNK // max(1, len(windows.size) * (1 + windows.covariates.shape[1])))
    parts = []
    for start in range(0, len(paths), step):
        some = slice(start, start + step)
        design = _design(paths[some], windows)
        away = dose[None, :] if drawn is None else dose[None, :] - drawn[some]
        parts.append(_contrasts(design, windows, away, 0.0 if drawn is None else 1.0))
    return Contrasts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def scored(
    paths: NDArray[np.int8], windows: Windows, columns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Contrasts of several columns (c, b) on paths, and what each window adds to their errors.

    Returns
    -------
    contrasts : array (c, r)
    scores : array (c, r, b)
    valid : bool array (r,)
    """
    design = _design(paths, windows)
    lever = design.weight * design.within / design.total
    found, scores = [], []
    for values in columns:
        y = design.project(values[None, :])
        found.append((lever * y).sum(axis=1))
        scores.append(lever * (y - found[-1][:, None] * design.within))
    return np.array(found), np.array(scores), _valid(design)


def fitted(path: NDArray[np.int8], windows: Windows) -> Fitted | None:
    """The fit on one path; None if an arm has fewer than two windows that count."""
    design = _design(path[None, :], windows)
    if not _valid(design)[0]:
        return None
    y = design.project(windows.outcome[None, :])
    weight, within = design.weight[0], design.within[0]
    total = float(design.total[0, 0])
    slope = float(weight @ (within * y[0])) / total
    residual = np.where(weight > 0, y[0] - slope * within, 0.0)
    free = design.free()[0]
    inverse = np.where(free > 0, 1 / np.sqrt(np.where(free > 0, free, 1.0)), 0.0)
    own = weight * residual * inverse
    share = weight / weight.sum()
    level = float(share @ design.z[0])
    scores = own * within / total
    used = weight > 0
    informative = used & (np.abs(within) > _TINY)
    slices = len(np.unique(windows.last[informative]))
    strata = len(np.unique(windows.stratum[informative]))
    return Fitted(
        estimate=slope,
        baseline=float(share @ windows.outcome) - slope * level,
        scores=scores,
        baseline_scores=own / weight.sum() - level * scores,
        residual=residual,
        used=used,
        informative=informative,
        treated=design.z[0],
        df=slices - strata - 1 - windows.covariates.shape[1],
    )


def horvitz_thompson(
    paths: NDArray[np.int8],
    windows: Windows,
    *,
    centre: float,
    dose: NDArray[np.float64],
    raw: bool = False,
) -> Contrasts:
    """Horvitz-Thompson contrasts on many paths; their squared error estimates the second bound.

    Parameters
    ----------
    paths : int8 array (r, k)
    windows : Windows
        Sizes count times.
    centre : float
        Of the outcomes: the estimate is not invariant to it.
    dose : array (b,)
        d on the path that was observed.
    raw : bool
        Contrasts are compared as they are: all squared errors are 1.

    Notes
    -----
    T^-1 sum_k n_k y_k (1{all 1} - 1{all 0}) / P_k over all T times; the bound is estimated by
    T^-2 sum_k kappa_k (n_k y_k / P_k)^2 over windows that count.

    References
    ----------
    Bojinov, Simchi-Levi and Zhao (2023), Management Science 69(7).
    """
    share = windows.treated_coins(paths)
    sign = ((share == 1).astype(np.float64) - (share == 0)) * (windows.chance > 0)
    scale = windows.size / np.where(windows.chance > 0, windows.chance, 1.0) / windows.size.sum()
    y = (windows.outcome + centre)[None, :]
    away = dose[None, :] - (sign == 1)
    counts = sign != 0
    both = (sign == 1).any(axis=1) & (sign == -1).any(axis=1)
    ones, weight = np.ones(len(paths)), windows.kappa * scale**2
    return Contrasts(
        slope=(sign * scale * y).sum(axis=1),
        dose=1 + (sign * scale * away).sum(axis=1),
        square=ones if raw else (counts * weight * y**2).sum(axis=1),
        mixed=0 * ones if raw else (counts * weight * y * away).sum(axis=1),
        dose_square=0 * ones if raw else (counts * weight * away**2).sum(axis=1),
        valid=both,
    )


def _design(paths: NDArray[np.int8], windows: Windows) -> _Design:
    """Weights and treatment within strata on each path."""
    share = windows.treated_coins(paths)
    plain = np.divide(
        windows.size, windows.chance, out=np.zeros_like(windows.size), where=windows.chance > 0
    )[None, :]
    alone = bool((windows.first == windows.last).all())
    weight = plain if alone else plain * ((share == 0) | (share == 1))
    z = (share == 1).astype(np.float64)
    member = np.eye(int(windows.stratum.max()) + 1)[windows.stratum]
    x, inverse = _covariates(windows, weight, member)
    within = z - _means(z, weight, member)[:, windows.stratum]
    within = _beside(within, weight, x, inverse)
    sums = weight @ member
    level = weight / np.where(sums > 0, sums, 1.0)[:, windows.stratum]
    if x.shape[2]:
        level = level + weight * np.einsum("rbp,rpq,rbq->rb", x, inverse, x)
    total = (weight * within**2).sum(axis=1, keepdims=True)
    safe = np.where(total > _TINY**2 * weight.sum(axis=1, keepdims=True), total, np.inf)
    return _Design(windows, member, weight, z, within, safe, x, inverse, level)


def _contrasts(
    design: _Design, windows: Windows, away: NDArray[np.float64], start: float
) -> tuple[NDArray[Any], ...]:
    """Slopes and squared errors of outcome and dose on some paths."""
    lever = design.weight * design.within / design.total
    y, d = design.project(windows.outcome[None, :]), design.project(away)
    slope, dose = (lever * y).sum(axis=1), (lever * d).sum(axis=1)
    free = design.free()
    spread = np.divide(windows.kappa * lever**2, free, out=np.zeros_like(free), where=free > 0)
    e_y = y - slope[:, None] * design.within
    e_d = d - dose[:, None] * design.within
    return (
        slope,
        start + dose,
        (spread * e_y**2).sum(axis=1),
        (spread * e_y * e_d).sum(axis=1),
        (spread * e_d**2).sum(axis=1),
        _valid(design),
    )


def _valid(design: _Design) -> NDArray[np.bool_]:
    """Whether each arm has two windows from which the contrast is learnt."""
    learnt = (np.abs(design.within) > _TINY) & (design.weight > 0) & (design.free() > 0)
    treated = (learnt & (design.z == 1)).sum(axis=1)
    return np.asarray((treated >= 2) & (learnt.sum(axis=1) - treated >= 2))


def _means(
    values: NDArray[np.float64], weight: NDArray[np.float64], member: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted means by stratum, shape (r, g)."""
    sums = weight @ member
    return np.asarray((weight * values) @ member / np.where(sums > 0, sums, 1.0))


def _covariates(
    windows: Windows, weight: NDArray[np.float64], member: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Covariates within strata (r, b, p), in units of their spread, and their inverse products."""
    columns = [
        x - _means(x[None, :], weight, member)[:, windows.stratum] for x in windows.covariates.T
    ]
    if not columns:
        return np.zeros((1, len(windows.size), 0)), np.zeros((1, 0, 0))
    x = np.stack(columns, axis=2)
    spread = np.sqrt((weight[:, :, None] * x**2).max(axis=(0, 1)))
    x = x / np.where(spread > 0, spread, 1.0)
    products = np.einsum("rbp,rb,rbq->rpq", x, weight, x)
    return x, np.linalg.pinv(products, rcond=1e-10, hermitian=True)


def _beside(
    values: NDArray[np.float64],
    weight: NDArray[np.float64],
    x: NDArray[np.float64],
    inverse: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Values (r, b) minus their projection on covariates."""
    if not x.shape[2]:
        return values
    products = np.einsum("rbp,rb->rp", x, weight * values)
    coef = np.einsum("rpq,rq->rp", inverse, products)
    return np.asarray(values - np.einsum("rbp,rp->rb", x, coef))
