"""Regressions on cohorts: coefficients and their exact clustered errors from panel moments.

Unit effects are absorbed, periods have dummies. All units of a group share their regressors, so
that a unit's score is a fixed linear map of its path, and sums of squared scores follow from the
mean and the cross products of the paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.did.cluster_covariance import cluster_covariance
from causal.did.conventions import covariance_details, row_factor
from causal.did.rounding import ROUNDING, path_noise, quadratic_noise, variance_noise
from causal.normal_equations import inverse_of_cross

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.did.conventions import PanelCovariance
    from causal.panel.cohort_moments import PanelMoments


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GramFit:
    """Coefficients of a regression on cohorts.

    moments : those of units with at least two rows; the rest of the fit goes with them
    names : of the K regressors
    coef (K,), cov (K, K), df : one number, or one a coefficient for CR2
    k : parameters of the convention; n_clusters, n_obs, singletons : units of a single row left out
    weights (U, T, K), of (G,) : the coefficients' influence of a path in group g is
        ``weights[of[g]]' path``
    residual (G, T) : mean residual path of a group
    """

    moments: PanelMoments
    names: tuple[str, ...]
    coef: NDArray[np.float64]
    cov: NDArray[np.float64]
    df: float | NDArray[np.float64]
    k: int
    n_clusters: int | None
    n_obs: int
    singletons: int
    covariance: PanelCovariance
    weights: NDArray[np.float64]
    of: NDArray[np.int64]
    residual: NDArray[np.float64]

    def details(self, df: float | None = None) -> dict[str, Any]:
        """What `Effect.details` says of the covariance."""
        found = float(np.min(self.df)) if df is None else df
        return covariance_details(
            self.covariance,
            k=self.k,
            n_clusters=self.n_clusters,
            df=found,
            singletons=self.singletons,
        )


def fit_cohorts(
    m: PanelMoments,
    regressors: NDArray[np.float64],
    at: NDArray[np.int64],
    names: Sequence[str],
    covariance: PanelCovariance = "CR1",
    *,
    contrasts: NDArray[np.float64] | None = None,
) -> GramFit:
    """Least squares of paths on cohort regressors with unit effects and period dummies.

    Parameters
    ----------
    m : PanelMoments
    regressors : array (R, T, K)
    at : int64 array (G,)
        ``regressors[at[g]]`` are those of group g of `m`.
    names : sequence of str, length K
        For messages.
    covariance : {"CR1", "CR2", "CR3", "HC1"}
        By the clusters of `m`, else by unit; HC1 takes rows as independent.
    contrasts : array (K, c), optional
        Combinations for which CR2 gives degrees of freedom; each coefficient by default.

    Raises
    ------
    ValueError
        If a regressor is constant or collinear with the effects and the others; it is named.

    Notes
    -----
    With M_p the projection off a constant over the periods of pattern p and Z = M_p [X, periods]:
    b = (sum n Z'Z)^-1 sum n Z'm, and the meat is sum Z'(Q + n e e')Z, e = M_p m - Z b, Q the
    centred cross products. k = K + T on a balanced panel clustered by unit.
    """
    m_, at_ = several_rows(m, at)
    present = m_.present
    observed = np.flatnonzero(present.any(axis=0))
    Z, of = _projected(regressors, at_, present, observed[1:])
    path, scale = _scaled(m_, present)
    n = m_.n.astype(np.float64)
    by_design = np.bincount(of, n, len(Z))
    grams = Z.transpose(0, 2, 1) @ Z
    k_all = Z.shape[2]
    periods = [f"period {m.times.labels[j]}" for j in observed[1:]]
    bread = _inverse(np.einsum("u,ukl->kl", by_design, grams), [*periods, *names])
    mean = np.zeros((len(Z), Z.shape[1]))
    np.add.at(mean, of, n[:, None] * path)
    b = bread @ np.einsum("utk,ut->k", Z, mean)
    residual = path - np.einsum("utk,k->ut", Z, b)[of]
    n_obs = int((m_.n[:, None] * present).sum())
    k_reg = len(names)
    weights = Z @ bread[:, -k_reg:]
    df: float | NDArray[np.float64]
    n_clusters: int | None
    if covariance == "HC1":
        cov, df, n_clusters, k = _row_covariance(m_, weights, of, residual, scale, n_obs, k_all)
    else:
        k = k_all + 1
        cov, df, n_clusters = _covariance(
            m_, Z, of, bread, grams, residual, scale, covariance, n_obs, k, k_reg, contrasts
        )
        seen = _beyond_rounding(m_, weights, of, residual, scale)
        cov = cov * np.outer(seen, seen)
    return GramFit(
        moments=m_,
        names=tuple(names),
        coef=b[-k_reg:] * scale,
        cov=cov,
        df=df,
        k=k,
        n_clusters=n_clusters,
        n_obs=n_obs,
        singletons=int(m.n.sum() - m_.n.sum()),
        covariance=covariance,
        weights=weights,
        of=of,
        residual=residual * scale,
    )


def several_rows(m: PanelMoments, at: NDArray[np.int64]) -> tuple[PanelMoments, NDArray[np.int64]]:
    """Groups of units with at least two rows, and their `at`: one row says nothing of a change."""
    keep = m.present.sum(axis=1) >= 2
    if keep.all():
        return m, at
    if not keep.any():
        raise ValueError(
            f"units {m.columns['unit']!r} must have rows in at least two periods; none has; add "
            "rows of other periods"
        )
    return m.kept(np.asarray(keep)), at[keep]


def _projected(
    regressors: NDArray[np.float64],
    at: NDArray[np.int64],
    present: NDArray[np.bool_],
    dummies: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Designs (U, T, P+K) off a constant over the periods of a pattern, and each group's.

    dummies : the P periods that have one; those in which nobody has a row are no parameters
    """
    t = present.shape[1]
    key = np.column_stack([at, np.packbits(present, axis=1)])
    _, some, of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    periods = np.broadcast_to(np.eye(t)[:, dummies], (len(some), t, len(dummies)))
    Z = np.concatenate([periods, regressors[at[some]]], axis=2)
    here = present[some][:, :, None]
    Z = np.where(here, Z, 0.0)
    Z -= np.where(here, Z.sum(axis=1, keepdims=True) / here.sum(axis=1, keepdims=True), 0.0)
    return Z, of.reshape(-1)


def _scaled(m: PanelMoments, present: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Mean paths off their unit's mean, in powers of two of their size, and that power."""
    offset = m.mean[0, present[0].argmax()]  # first it goes: it would cost digits
    level = (m.mean - offset) * present
    path = (level - level.sum(axis=1, keepdims=True) / present.sum(axis=1)[:, None]) * present
    size = float(np.abs(path).max())
    if size <= path_noise(m):
        path, size = np.zeros_like(path), 0.0
    if m.cross is not None:
        size = max(size, float(np.sqrt(np.einsum("gtt->gt", m.cross).max())))
    scale = float(np.ldexp(1.0, int(np.frexp(size)[1]))) if size > 0 else 1.0
    return path / scale, scale


def _inverse(A: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """Inverse of the normal equations; a column without information of its own is named."""
    try:
        return inverse_of_cross(A, names)
    except ValueError:
        pass
    scale = np.sqrt(np.where(np.diag(A) > 0, np.diag(A), 1.0))
    R = A / np.outer(scale, scale)
    for j, name in enumerate(names):
        before = R[:j, :j]
        left = R[j, j] - (R[j, :j] @ np.linalg.lstsq(before, R[:j, j])[0] if j else 0.0)
        if left < 1e-10:
            raise ValueError(
                f"{name} must vary beyond the unit and period effects and the other terms; it does "
                "not: drop it, or the periods and cohorts that only it explains"
            )
    raise ValueError("the regressors are collinear; drop some of them")


def _covariance(
    m: PanelMoments,
    Z: NDArray[np.float64],
    of: NDArray[np.int64],
    bread: NDArray[np.float64],
    grams: NDArray[np.float64],
    residual: NDArray[np.float64],
    scale: float,
    kind: PanelCovariance,
    n_obs: int,
    k: int,
    k_reg: int,
    contrasts: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], float | NDArray[np.float64], int]:
    """Covariance and degrees of freedom of the last `k_reg` coefficients, and the clusters."""
    last = np.eye(len(bread))[:, -k_reg:]
    wanted = last if contrasts is None else last @ contrasts
    options: dict[str, Any] = {"kind": kind, "n_obs": n_obs, "k": k}
    if kind != "CR1":
        options["contrasts"] = wanted
    n = m.n.astype(np.float64)
    if m.cluster is None:
        spread = np.zeros((len(Z), Z.shape[1], Z.shape[1]))
        if m.cross is None:
            raise ValueError("panel moments without cross products have no errors by unit")
        np.add.at(
            spread,
            of,
            m.cross / scale / scale + n[:, None, None] * residual[:, :, None] * residual[:, None],
        )
        scores = Z.transpose(0, 2, 1) @ spread @ Z
        clusters = np.bincount(of, n, len(Z))
        if kind == "CR1":  # one meat: many designs need not be kept apart
            scores, clusters = scores.sum(axis=0)[None], clusters.sum()[None]
        cov, df = cluster_covariance(
            bread, None if kind == "CR1" else grams, clusters, scores, **options
        )
        n_clusters = int(n.sum())
    else:
        code, n_clusters = m.cluster_codes()
        sums = np.zeros((n_clusters, Z.shape[2]))
        np.add.at(sums, code, np.einsum("gtk,gt->gk", Z[of], n[:, None] * residual))
        per_cluster = None
        if kind != "CR1":
            per_cluster = np.zeros((n_clusters, *grams.shape[1:]))
            np.add.at(per_cluster, code, n[:, None, None] * grams[of])
        cov, df = cluster_covariance(bread, per_cluster, np.ones(n_clusters), sums, **options)
    return cov[-k_reg:, -k_reg:] * scale * scale, df, n_clusters


def _beyond_rounding(
    m: PanelMoments,
    weights: NDArray[np.float64],
    of: NDArray[np.int64],
    residual: NDArray[np.float64],
    scale: float,
) -> NDArray[np.bool_]:
    """Whether the scores of each coefficient vary by more than the rounding of paths."""
    size = np.abs(weights)
    noise = variance_noise(m, size.sum(axis=1)[of], path_noise(m) / scale)
    mean = np.einsum("gt,gtk->gk", residual, weights[of])
    if m.cluster is not None:
        code, n_clusters = m.cluster_codes()
        sums = np.zeros((n_clusters, weights.shape[2]))
        np.add.at(sums, code, m.n[:, None] * mean)
        return np.asarray((sums * sums).sum(axis=0) > noise)
    found = m.n @ mean**2
    for g, Q in enumerate([] if m.cross is None else m.cross):
        w = weights[of[g]].T
        found = found + np.einsum("kt,kt->k", w @ (Q / scale / scale), w)
        noise += quadratic_noise(m, size[of[g]].T / scale, g)
    return np.asarray(found > noise)


def _share_of_unit(present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What each observed period counts in a unit's mean, (G, T)."""
    return np.asarray(present / present.sum(axis=1, keepdims=True))


def _row_covariance(
    m: PanelMoments,
    weights: NDArray[np.float64],
    of: NDArray[np.int64],
    residual: NDArray[np.float64],
    scale: float,
    n_obs: int,
    k_all: int,
) -> tuple[NDArray[np.float64], float, None, int]:
    """HC1: rows are independent, and every unit's level counts; what is rounding is 0."""
    if m.cross is None:
        raise ValueError(
            "covariance='HC1' takes rows as independent, and moments by cluster have none; leave "
            "cluster out, or use CR1"
        )
    k = k_all + m.n_units
    off = m.present[:, :, None] * (np.eye(len(m.times)) - _share_of_unit(m.present)[:, None, :])
    own = np.einsum("gts,gsr,gtr->gt", off, m.cross / scale / scale, off, optimize=True)
    square = own + m.n[:, None] * residual**2
    noise = (np.abs(off) @ np.sqrt(np.einsum("gtt->gt", m.cross))[:, :, None])[:, :, 0] / scale
    noise = ROUNDING * noise**2 + m.n[:, None] * (path_noise(m) / scale) ** 2
    square = np.where(square > noise, square, 0.0)
    meat = np.einsum("gtk,gt,gtl->kl", weights[of], square, weights[of])
    return row_factor(n_obs, k) * meat * scale * scale, float(n_obs - k), None, k
