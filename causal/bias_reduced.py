"""CR2: cluster-robust covariance for few clusters, unbiased if errors are in truth independent.

The adjustment A_g = B_g^-1/2, B_g = [(I-H)(I-H)']_gg, is never formed. B_g = I + F_g K F_g' differs
from the identity only on the span of a few columns F_g of the cluster, so that
F_g'A_g = D_g F_g' with a small D_g, and O(n k^2 + G k^3) work is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.cluster_algebra import Satterthwaite, inverse_root, pushed_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from causal.sandwich import Clusters, Rows

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
    """
    model = _independent_errors(rows)
    k, m = rows.rank, len(model.F)
    grams, sums = _cluster_grams(model.F, clusters), np.empty((clusters.n, m))
    for j, score in enumerate(_products(model.F, rows.e)):
        sums[:, j] = np.bincount(clusters.codes, score, clusters.n)
    U = rows.from_basis.T / np.linalg.norm(rows.from_basis, axis=1)  # one contrast a column
    meat, freedom = np.zeros((k, k)), Satterthwaite(U, model.K, model.P)
    for start in range(0, clusters.n, _BLOCK):
        C, s = grams[start : start + _BLOCK], sums[start : start + _BLOCK]
        D = inverse_root(C) if m == k else pushed_root(C, model.K)
        scores = (D[:, -k:] @ s[:, :, None])[:, :, 0]
        meat += scores.T @ scores
        freedom.add(D, C)
    return BiasReduced(meat, freedom.df(rows.names))


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
