"""Least squares after effects are absorbed, with the one covariance convention of panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

from causal.did.absorption import Absorbed, absorb, rows_to_keep
from causal.did.cluster_covariance import covariance_in_basis
from causal.did.conventions import (
    PanelCovariance,
    cluster_factor,
    covariance_details,
    parameter_count,
    row_factor,
    rows_left,
)
from causal.frame import check_one_of
from causal.linear import independent_part
from causal.sandwich import Clusters, cluster_sums, dense_codes, first, sandwich, without_negative

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from causal.did.cluster_covariance import Block
    from causal.values import JsonValue

_ABSORBED = 1e-9  # norm beside the effects, over the norm before, below which nothing is left
_DUMMIES = 1_000  # explicit columns that CR2 and CR3 may add
_BLOCK = 2_048  # clusters whose grams are held at a time


@dataclass(frozen=True, slots=True, eq=False)
class AbsorbedFit:
    """A regression on columns and absorbed effects.

    Parameters
    ----------
    names : tuple of K str
    coef : (K,) array
    cov : (K, K) array
    df : float or (K,) array
        Of the t statistics; (K,) for CR2.
    contrast_df : float or (c,) array
        Of the contrasts that were asked for; `df` without any.
    covariance : {"CR1", "CR2", "CR3", "HC1"}
    k, n_obs : int
        Parameters of the convention, and rows without singletons.
    n_clusters : int or None
        The smaller number where there are two ways.
    clusters : tuple of Clusters
        Of the kept rows.
    kept : (n_passed,) array of bool
        Rows that entered.
    singletons : int
        Rows that were alone in a level of an effect, dropped one after the other.
    absorbed : Absorbed
        Levels and components; for CR2 and CR3 of the nested effects only.
    X : (n_obs, K) array
        Regressors beside all effects, times the root of the weight.
    resid : (n_obs,) array
        Residuals, times the root of the weight.
    bread : (K, K) array
        (X'X)^-1.
    """

    names: tuple[str, ...]
    coef: NDArray[np.float64]
    cov: NDArray[np.float64]
    df: float | NDArray[np.float64]
    contrast_df: float | NDArray[np.float64]
    covariance: PanelCovariance
    k: int
    n_obs: int
    n_clusters: int | None
    clusters: tuple[Clusters, ...]
    kept: NDArray[np.bool_]
    singletons: int
    absorbed: Absorbed
    X: NDArray[np.float64]
    resid: NDArray[np.float64]
    bread: NDArray[np.float64]

    def cluster_scores(self, way: int = 0) -> NDArray[np.float64]:
        """X_c'e_c of each cluster, (G, K)."""
        at = self.clusters[way]
        return cluster_sums(self.X * self.resid[:, None], at.codes, at.n)

    def cluster_grams(self, way: int = 0) -> NDArray[np.float64]:
        """X_c'X_c of each cluster, (G, K, K)."""
        return np.concatenate(list(_grams(self.X, self.clusters[way])))

    def details(self) -> dict[str, JsonValue]:
        """What results say of the covariance, in the words of the convention."""
        df = self.df if isinstance(self.df, float) else None
        return covariance_details(
            self.covariance,
            k=self.k,
            n_clusters=self.n_clusters,
            df=df,
            singletons=self.singletons,
            two_way=len(self.clusters) == 2,
        )


def absorbed_least_squares(
    y: NDArray[np.float64],
    X: NDArray[np.float64],
    names: Sequence[str],
    effects: Sequence[NDArray[np.int64]],
    *,
    clusters: Sequence[NDArray[Any]] = (),
    weights: NDArray[np.float64] | None = None,
    covariance: PanelCovariance | None = None,
    contrasts: NDArray[np.float64] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 10_000,
) -> AbsorbedFit:
    """Regress y on the columns of X and on the dummies of one or more effects.

    Parameters
    ----------
    y : (n,) array
    X : (n, K) array
    names : sequence of K str
    effects : sequence of (n,) arrays of int64
        Codes of the effects to absorb.
    clusters : sequence of (n,) arrays
        Labels or codes of none, one or two ways of clustering.
    weights : (n,) array, optional
        Analytic weights; rows of weight 0 are left out.
    covariance : {"CR1", "CR2", "CR3", "HC1"}, optional
        CR1 with clusters, HC1 without, by default.
    contrasts : (K, c) array, optional
        Combinations of coefficients, one a column, whose degrees of freedom are wanted too.
    tolerance, max_iterations
        Of `absorb`.

    Returns
    -------
    AbsorbedFit

    Raises
    ------
    ValueError
        If a column is absorbed by the effects or collinear (by name), there are too few clusters
        or rows, or CR2 or CR3 cannot be had.

    Notes
    -----
    The convention is `causal.did.conventions.CONVENTION`. CR2 and CR3 absorb only the effects
    that are nested in the cluster; the others enter as dummies: by Theorem 2 of Pustejovsky and
    Tipton (2018) nothing changes then, as long as there are no weights.
    """
    kind: PanelCovariance = covariance or ("CR1" if clusters else "HC1")
    _check_covariance(kind, len(clusters), weights)
    y, exponent = _scaled(y)
    columns, labels = np.column_stack([X, y]), (*names, "the outcome")
    solver = {"weights": weights, "tolerance": tolerance, "max_iterations": max_iterations}
    prepare = _nested_absorbed if kind in ("CR2", "CR3") else _all_absorbed
    with threadpool_limits(limits=1, user_api="blas"):  # sums in one order on any machine
        design = prepare(columns, labels, effects, clusters, solver)
        part = _regressors(design, tuple(names), max(_ABSORBED, 10 * tolerance))
        wanted = None
        if contrasts is not None:
            wanted = np.zeros((len(part.coef), contrasts.shape[1]))
            wanted[part.wanted] = contrasts
        cov, df, contrast_df = _covariance(part, design, kind, wanted)
    own = np.ix_(part.wanted, part.wanted)
    return AbsorbedFit(
        names=tuple(names),
        coef=np.ldexp(part.coef[part.wanted], exponent),
        cov=np.ldexp(cov[own], 2 * exponent),
        df=df,
        contrast_df=contrast_df,
        covariance=kind,
        k=part.k,
        n_obs=len(part.resid),
        n_clusters=min((way.n for way in design.ways), default=None),
        clusters=design.ways,
        kept=design.kept,
        singletons=design.singletons,
        absorbed=design.absorbed,
        X=part.X[:, part.wanted],
        resid=np.ldexp(part.resid, exponent),
        bread=part.bread[own],
    )


def _check_covariance(
    kind: PanelCovariance, n_ways: int, weights: NDArray[np.float64] | None
) -> None:
    """Refuse covariances that do not go with the clusters or weights."""
    check_one_of(kind, "covariance", ("CR1", "CR2", "CR3", "HC1"))
    if kind == "HC1" and n_ways:
        raise ValueError("HC1 takes no cluster; use CR1, or leave the cluster out")
    if kind != "HC1" and n_ways == 0:
        raise ValueError(f"{kind} needs a cluster; name one, or use HC1")
    if kind in ("CR2", "CR3") and n_ways == 2:
        raise ValueError(f"{kind} takes one cluster column; got two: use CR1, or name one of them")
    if kind == "CR2" and weights is not None:
        raise ValueError(
            "CR2 of absorbed effects needs rows of equal weight; got weights: use CR3 or CR1"
        )


# ---- what is absorbed, and what stays ----


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """Columns beside what was absorbed: dummies, regressors, and the outcome last.

    n_free: parameters of what was absorbed; names: of regressors and outcome.
    """

    absorbed: Absorbed
    names: tuple[str, ...]
    n_dummies: int
    n_free: int
    kept: NDArray[np.bool_]
    singletons: int
    ways: tuple[Clusters, ...]


def _all_absorbed(
    columns: NDArray[np.float64],
    names: tuple[str, ...],
    effects: Sequence[NDArray[np.int64]],
    clusters: Sequence[NDArray[Any]],
    solver: dict[str, Any],
) -> _Design:
    """All effects are absorbed."""
    found = absorb(effects, columns, names=names, **solver)
    ways = _kept_clusters(
        clusters, found.kept, dict(zip(map(id, effects), found.codes, strict=True))
    )
    nested = _nested(found.codes, ways)
    order = sorted(range(len(nested)), key=lambda j: (not nested[j], -found.n_levels[j]))
    n_free = parameter_count(
        0,
        [found.n_levels[j] for j in order],
        [
            max((int(found.shared[j, i]) for i in order[:at]), default=0)
            for at, j in enumerate(order)
        ],
        [nested[j] for j in order],
    )
    return _Design(found, names, 0, n_free, found.kept, found.singletons, ways)


def _nested_absorbed(
    columns: NDArray[np.float64],
    names: tuple[str, ...],
    effects: Sequence[NDArray[np.int64]],
    clusters: Sequence[NDArray[Any]],
    solver: dict[str, Any],
) -> _Design:
    """Effects nested in the cluster are absorbed, the others become dummies."""
    kept, singletons = rows_to_keep(effects, solver["weights"])
    ways = _kept_clusters(clusters, kept, {})
    codes = [dense_codes(effect[kept]).codes for effect in effects]
    nested = _nested(codes, ways)
    if not any(nested):
        raise ValueError(
            "CR2 and CR3 need an absorbed effect whose levels each lie in one cluster; none does: "
            "cluster by an absorbed effect or a coarser column, or use CR1"
        )
    explicit = [c for c, inside in zip(codes, nested, strict=True) if not inside]
    n_dummies = sum(int(c.max()) + 1 for c in explicit)
    if n_dummies > _DUMMIES:
        raise ValueError(
            f"CR2 and CR3 need a dummy for each level that is not nested in the cluster, at most "
            f"{_DUMMIES}; got {n_dummies}: use CR1, or coarser times"
        )
    dummies = [c[:, None] == np.arange(c.max() + 1) for c in explicit]
    solver = solver | {"weights": None if solver["weights"] is None else solver["weights"][kept]}
    found = absorb(
        [c for c, inside in zip(codes, nested, strict=True) if inside],
        np.hstack([*dummies, columns[kept]]),
        names=(*(f"dummy {j}" for j in range(n_dummies)), *names),
        **solver,
    )
    return _Design(found, names, n_dummies, 1, kept, singletons, ways)


def _kept_clusters(
    clusters: Sequence[NDArray[Any]],
    kept: NDArray[np.bool_],
    known: Mapping[int, NDArray[np.int64]],
) -> tuple[Clusters, ...]:
    """Dense codes of the clusters of the kept rows; `known` by id of the array."""
    return tuple(
        Clusters(known[id(labels)], int(known[id(labels)].max()) + 1)
        if id(labels) in known
        else dense_codes(np.asarray(labels)[kept])
        for labels in clusters
    )


def _nested(codes: Sequence[NDArray[np.int64]], ways: tuple[Clusters, ...]) -> list[bool]:
    """Whether the levels of each effect lie in one cluster each, of either way."""
    from causal.kernels.demean import lies_within  # noqa: PLC0415 — numba, when used

    return [
        any(bool(lies_within(c, way.codes, np.full(c.max() + 1, -1))) for way in ways)
        for c in codes
    ]


def _scaled(y: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """The outcome times a power of 2 that keeps its squares in range, and its exponent."""
    exponent = int(np.frexp(max(y.max(), -y.min()))[1])
    return np.ldexp(y, -exponent), exponent


# ---- coefficients ----


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Least squares in an orthonormal basis Q = X to_basis; `wanted`: positions of regressors."""

    names: tuple[str, ...]
    wanted: NDArray[np.intp]
    coef: NDArray[np.float64]
    Q: NDArray[np.float64]
    to_basis: NDArray[np.float64]
    X: NDArray[np.float64]
    resid: NDArray[np.float64]
    k: int

    @property
    def bread(self) -> NDArray[np.float64]:
        """(X'X)^-1."""
        return sandwich(self.to_basis, np.eye(len(self.coef)), self.names, 0)


def _regressors(design: _Design, names: tuple[str, ...], tolerance: float) -> _Part:
    """Fit the outcome on dummies and regressors; leave redundant dummies out."""
    found, first_one = design.absorbed, design.n_dummies
    Z = np.ascontiguousarray(found.columns.T)
    if found.weights is not None:
        Z *= np.sqrt(found.weights)
    norms = np.sqrt(np.einsum("ij,ij->i", Z, Z))
    nothing = norms <= np.maximum(tolerance * found.norms, found.rounding)
    _refuse_absorbed([name for j, name in enumerate(names) if nothing[first_one + j]])
    scale = np.where(nothing, 1.0, norms)[:-1]
    rows = Z[:-1] / scale[:, None]
    rows[nothing[:-1]] = 0.0
    qr = independent_part(rows)
    n_kept = np.isin(np.arange(len(scale)), qr.kept)
    collinear = [name for j, name in enumerate(names) if not n_kept[first_one + j]]
    if collinear:
        raise ValueError(
            f"regressors must not be linear combinations of each other and the effects; "
            f"{first(collinear)} is: leave it out"
        )
    y = Z[-1]
    inner = qr.Q.T @ y
    to_basis = linalg.solve_triangular(qr.R, np.eye(len(qr.kept))) / scale[qr.kept, None]
    labels = (*(f"dummy {j}" for j in range(first_one)), *names)
    n_dummies = len(qr.kept) - len(names)
    return _Part(
        names=tuple(labels[j] for j in qr.kept),
        wanted=np.arange(n_dummies, len(qr.kept)),
        coef=to_basis @ inner,
        Q=qr.Q,
        to_basis=to_basis,
        X=Z[qr.kept].T,
        resid=y - qr.Q @ inner,
        k=design.n_free + len(qr.kept),
    )


def _refuse_absorbed(names: list[str]) -> None:
    """Raise if the effects leave nothing of a regressor."""
    if names:
        raise ValueError(
            f"regressors must vary within the absorbed effects; {first(names)} does not: leave it "
            "out, or absorb other effects"
        )


# ---- covariance ----


def _covariance(
    part: _Part, design: _Design, kind: PanelCovariance, contrasts: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], float | NDArray[np.float64], float | NDArray[np.float64]]:
    """Covariance of all coefficients, degrees of freedom of the regressors and of contrasts."""
    scores, n = part.Q * part.resid[:, None], len(part.resid)
    if kind in ("CR2", "CR3"):
        return _small_sample(part, design.ways[0], scores, kind, contrasts)
    if kind == "HC1":
        meat, df = row_factor(n, part.k) * (scores.T @ scores), float(rows_left(n, part.k))
    else:
        meat, df = _clustered(scores, design.ways, part.k)
    return sandwich(part.to_basis, meat, part.names, 0), df, df


def _clustered(
    scores: NDArray[np.float64], ways: tuple[Clusters, ...], k: int
) -> tuple[NDArray[np.float64], float]:
    """CR1: one way, or V1 + V2 - V12 with the factor of the smaller number of clusters."""
    least = min(way.n for way in ways)
    terms = list(zip((1, 1), ways, strict=False))
    if len(ways) == 2:
        terms.append((-1, dense_codes(ways[0].codes * ways[1].n + ways[1].codes)))
    meat = np.zeros((scores.shape[1], scores.shape[1]))
    for sign, way in terms:
        sums = cluster_sums(scores, way.codes, way.n)
        meat += sign * (sums.T @ sums)
    meat *= cluster_factor(least, len(scores), k)
    return without_negative(meat) if len(ways) == 2 else meat, float(least - 1)


def _small_sample(
    part: _Part,
    way: Clusters,
    scores: NDArray[np.float64],
    kind: PanelCovariance,
    contrasts: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], float | NDArray[np.float64], float | NDArray[np.float64]]:
    """CR2 and CR3, from the grams and scores of each cluster."""
    n_regressors = len(part.wanted)
    wanted = np.eye(len(part.coef))[:, part.wanted]
    labels = tuple(part.names[j] for j in part.wanted)
    if contrasts is not None:
        wanted = np.hstack([wanted, contrasts])
        labels += tuple(f"contrast {j}" for j in range(contrasts.shape[1]))
    sums = cluster_sums(scores, way.codes, way.n)

    def each() -> Iterator[Block]:
        at = 0
        for grams in _grams(part.Q, way):
            yield grams, np.ones(len(grams)), sums[at : at + len(grams)]
            at += len(grams)

    cov, df = covariance_in_basis(
        part.to_basis,
        each(),
        kind=kind,
        n_obs=len(scores),
        k=part.k,
        names=part.names,
        contrasts=wanted,
        labels=labels,
    )
    if isinstance(df, float):
        return cov, df, df
    return cov, df[:n_regressors], df if contrasts is None else df[n_regressors:]


def _grams(X: NDArray[np.float64], way: Clusters) -> Iterator[NDArray[np.float64]]:
    """X_c'X_c of the clusters, in their order, a block of clusters at a time."""
    ordered = X[np.argsort(way.codes, kind="stable")]
    ends = np.cumsum(np.bincount(way.codes, minlength=way.n))
    starts = np.concatenate([[0], ends[:-1]])
    for at in range(0, way.n, _BLOCK):
        pairs = zip(starts[at : at + _BLOCK], ends[at : at + _BLOCK], strict=True)
        yield np.stack([ordered[low:high].T @ ordered[low:high] for low, high in pairs])
