"""CR2: cluster-robust covariance for few clusters, unbiased if errors are in truth independent.

The adjustment A_g = B_g^-1/2, B_g = [(I-H)(I-H)']_gg, is never formed. B_g = I + F_g K F_g' differs
from the identity only on the span of a few columns F_g of the cluster, so that
F_g'A_g = D_g F_g' with a small D_g, and O(n k^2 + G k^3) work is enough.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.effect import EstimationWarning
from causal.sandwich import TOLERANCE, first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from causal.sandwich import Clusters, Rows

_SERIES_LIMIT = 0.02  # cluster leverage up to which a short power series is exact
_BLOCK = 4096  # clusters at a time: batches of small matrices that stay in cache


@dataclass(frozen=True, slots=True, eq=False)
class BiasReduced:
    """Meat in the orthonormal basis, (k, k), and Satterthwaite df of each coefficient, (k,)."""

    meat: NDArray[np.float64]
    df: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Residuals:
    """Covariance of the residuals of independent errors: B_gh = 1{g=h} I + F_g K F_h'.

    F : (m, n) rows; the last k are the columns W X of the score, in the basis. K : (m, m).
    P : (k, k) covariance of the coefficients, in the basis.
    """

    F: NDArray[np.float64]
    K: NDArray[np.float64]
    P: NDArray[np.float64]


def bias_reduced(rows: Rows, clusters: Clusters) -> BiasReduced:
    """CR2 meat and degrees of freedom, summed over blocks of clusters.

    Warns
    -----
    EstimationWarning
        If part of a coefficient's variance lies inside single clusters and cannot be seen.

    Notes
    -----
    For contrast u (in the basis): a_g = A_g F_g E u with E the last k columns, b_g = F_g'a_g,
    d_g = |a_g|^2, Gamma = diag(d) + b'K b, df = tr(Gamma)^2 / ||Gamma||_F^2 with
    ||Gamma||_F^2 = sum d (d + 2 b'K b) + tr(K B K B), B = sum b_g b_g'. E V = tr(Gamma) under
    the working model, which is the true variance u'P u unless some A_g is singular: that ratio is
    the share of the variance that CR2 sees.
    """
    model = _independent_errors(rows)
    k, m = rows.rank, len(model.F)
    grams, sums = _cluster_grams(model.F, clusters), np.empty((clusters.n, m))
    for j, score in enumerate(_products(model.F, rows.e)):
        sums[:, j] = np.bincount(clusters.codes, score, clusters.n)
    U = rows.from_basis.T / np.linalg.norm(rows.from_basis, axis=1)  # one contrast a column
    meat, trace, square, B = np.zeros((k, k)), np.zeros(k), np.zeros(k), np.zeros((k, m, m))
    for start in range(0, clusters.n, _BLOCK):
        C, s = grams[start : start + _BLOCK], sums[start : start + _BLOCK]
        D = _inverse_root(C) if m == k else _pushed_root(C, model.K)
        scores = (D[:, -k:] @ s[:, :, None])[:, :, 0]
        meat += scores.T @ scores
        b = (D @ C)[:, :, -k:] @ U
        d = np.einsum("ac,gac->gc", U, D[:, -k:] @ b)
        bKb = np.einsum("gac,gac->gc", b, model.K @ b)
        trace += (d + bKb).sum(axis=0)
        square += (d * (d + 2 * bKb)).sum(axis=0)
        by_contrast = b.transpose(2, 1, 0)
        B += by_contrast @ by_contrast.transpose(0, 2, 1)
    square += np.einsum("cab,cba->c", model.K @ B, model.K @ B)
    seen = trace / np.einsum("ac,ab,bc->c", U, model.P, U)
    _warn_unseen(rows.names, seen)
    visible = seen > TOLERANCE
    return BiasReduced(meat, np.where(visible, trace**2 / np.where(visible, square, 1.0), 0.0))


def _independent_errors(rows: Rows) -> _Residuals:
    """The working model: errors independent with one variance, whatever the weights are.

    Without weights H = QQ': F = Q, K = -I. With weights and q = Q/sqrt(w) the columns in the
    basis, H = q q'W: F = [q, Wq], K = [[P, -I], [-I, 0]], P = q'W^2 q.
    """
    Q, eye = rows.basis(), np.eye(rows.rank)
    if rows.w is None or rows.w.min() == rows.w.max():
        return _Residuals(Q, -eye, eye)
    root = np.sqrt(rows.w)
    F = np.vstack([Q / root, Q * root])
    P = F[rows.rank :] @ F[rows.rank :].T
    return _Residuals(F, np.block([[P, -eye], [-eye, np.zeros_like(eye)]]), P)


def _cluster_grams(F: NDArray[np.float64], clusters: Clusters) -> NDArray[np.float64]:
    """C_g = F_g'F_g of each cluster, (G, m, m)."""
    m = len(F)
    grams = np.empty((clusters.n, m, m))
    for i in range(m):
        for j, product in enumerate(_products(F[: i + 1], F[i])):
            grams[:, i, j] = np.bincount(clusters.codes, product, clusters.n)
            grams[:, j, i] = grams[:, i, j]
    return grams


def _products(F: NDArray[np.float64], column: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Each row of F times `column`, in one buffer that the next one overwrites."""
    buffer = np.empty_like(column)
    for f in F:
        yield np.multiply(f, column, out=buffer)


def _inverse_root(C: NDArray[np.float64]) -> NDArray[np.float64]:
    """D = (I - C)^-1/2 of each C; 0 in directions where C has eigenvalue 1."""
    size = np.sqrt(np.einsum("gij,gij->g", C, C))
    if size.max() <= _SERIES_LIMIT:
        return _inverse_root_series(C, float(size.max()))
    values, vectors = np.linalg.eigh(C)
    free = 1 - values
    power = np.where(free > TOLERANCE, free, np.inf) ** -0.5
    D: NDArray[np.float64] = (vectors * power[:, None, :]) @ vectors.transpose(0, 2, 1)
    return D


def _inverse_root_series(C: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """I + C/2 + 3C^2/8 + ...: several times faster than eigenvectors where leverage is small."""
    eye = np.eye(C.shape[-1])
    n_terms = 1 if size == 0 else int(np.ceil(-17 / np.log10(size)))
    D = eye + (2 * n_terms - 1) / (2 * n_terms) * C
    for j in range(n_terms - 1, 0, -1):  # Horner; ratio of consecutive coefficients (2j-1)/(2j)
        D = eye + (2 * j - 1) / (2 * j) * (C @ D)
    return D


def _pushed_root(C: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
    """D with F'(I + F K F')^-1/2 = D F' for each C = F'F.

    With S = C^1/2 K C^1/2 and psi(s) = ((1+s)^-1/2 - 1)/s, D = I + C^1/2 psi(S) C^1/2 K. C is
    nowhere inverted, so clusters of fewer than m rows need no special case.
    """
    values, vectors = np.linalg.eigh(C)
    half = (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ vectors.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(half @ K @ half)
    free = 1 + values
    root = np.sqrt(np.where(free > TOLERANCE, free, 1.0))
    psi = np.where(free > TOLERANCE, -1 / (root * (1 + root)), 1.0)
    T = half @ ((vectors * psi[:, None, :]) @ vectors.transpose(0, 2, 1)) @ half
    pushed: NDArray[np.float64] = np.eye(len(K)) + T @ K
    return pushed


def _warn_unseen(names: tuple[str, ...], seen: NDArray[np.float64]) -> None:
    """Name the coefficients whose variance CR2 understates."""
    hidden = [
        f"{name} ({max(share, 0):.3g})"
        for name, share in zip(names, seen, strict=True)
        if share < 1 - 1e-6
    ]
    if hidden:
        warnings.warn(
            f"CR2 sees only a share of the variance of {len(hidden)} coefficient(s), because "
            f"single clusters determine them alone: {first(hidden)}",
            EstimationWarning,
            stacklevel=4,
        )
