"""CR2 by cluster: inverse roots of small matrices, and the degrees of freedom they leave."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from causal.effect import EstimationWarning
from causal.sandwich import TOLERANCE, first

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SERIES_LIMIT = 0.02  # cluster leverage up to which a short power series is exact


def inverse_root(C: NDArray[np.float64]) -> NDArray[np.float64]:
    """D = (I - C)^-1/2 of each C; 0 in directions where C has eigenvalue 1."""
    size = np.sqrt(np.einsum("gij,gij->g", C, C))
    if size.max() <= _SERIES_LIMIT:
        return inverse_root_series(C, float(size.max()))
    return power_of_rest(C, -0.5)


def power_of_rest(C: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """(I - C)^power of each C; 0 in directions where C has eigenvalue 1."""
    values, vectors = np.linalg.eigh(C)
    free = 1 - values
    seen = free > TOLERANCE
    powers = np.where(seen, np.where(seen, free, 1.0) ** power, 0.0)
    D: NDArray[np.float64] = (vectors * powers[:, None, :]) @ vectors.transpose(0, 2, 1)
    return D


def inverse_root_series(C: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """I + C/2 + 3C^2/8 + ...: several times faster than eigenvectors where leverage is small."""
    eye = np.eye(C.shape[-1])
    n_terms = 1 if size == 0 else int(np.ceil(-17 / np.log10(size)))
    D = eye + (2 * n_terms - 1) / (2 * n_terms) * C
    for j in range(n_terms - 1, 0, -1):  # Horner; ratio of consecutive coefficients (2j-1)/(2j)
        D = eye + (2 * j - 1) / (2 * j) * (C @ D)
    return D


def pushed_root(C: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
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


class Satterthwaite:
    """Degrees of freedom of contrasts under CR2, from blocks of clusters.

    Parameters
    ----------
    contrasts : (k, c) array
        One contrast a column, in the orthonormal basis of the scores.
    K : (m, m) array
        Residuals of independent errors have covariance B_gh = 1{g=h} I + F_g K F_h'; the last k
        of the m columns of F are those of the score.
    P : (k, k) array
        Covariance of the coefficients under that model, in the basis.

    Notes
    -----
    For contrast u: a_g = A_g F_g E u with E the last k columns, b_g = F_g'a_g,
    d_g = |a_g|^2, Gamma = diag(d) + b'K b, df = tr(Gamma)^2 / ||Gamma||_F^2 with
    ||Gamma||_F^2 = sum d (d + 2 b'K b) + tr(K B K B), B = sum b_g b_g'. E V = tr(Gamma) under
    the working model, which is the true variance u'P u unless some A_g is singular: that ratio is
    the share of the variance that CR2 sees.

    References
    ----------
    Bell and McCaffrey (2002); Pustejovsky and Tipton (2018), eq. 8.
    """

    def __init__(
        self,
        contrasts: NDArray[np.float64],
        K: NDArray[np.float64],
        P: NDArray[np.float64],
    ) -> None:
        self._U, self._K = contrasts, K
        self._variance = np.einsum("ac,ab,bc->c", contrasts, P, contrasts)
        n, m = contrasts.shape[1], len(K)
        self._trace, self._square, self._B = np.zeros(n), np.zeros(n), np.zeros((n, m, m))

    def add(
        self,
        D: NDArray[np.float64],
        C: NDArray[np.float64],
        counts: NDArray[np.float64] | None = None,
    ) -> None:
        """Count clusters with adjustments D (g, m, m) and grams C = F'F; `counts` of each."""
        k = len(self._U)
        times = np.ones(len(C)) if counts is None else counts
        b = (D @ C)[:, :, -k:] @ self._U
        d = np.einsum("ac,gac->gc", self._U, D[:, -k:] @ b)
        bKb = np.einsum("gac,gac->gc", b, self._K @ b)
        self._trace += times @ (d + bKb)
        self._square += times @ (d * (d + 2 * bKb))
        by_contrast = b.transpose(2, 1, 0)
        self._B += (by_contrast * times) @ by_contrast.transpose(0, 2, 1)

    def df(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Degrees of freedom, 0 where no variance is seen.

        Warns
        -----
        EstimationWarning
            If part of the variance of a coefficient lies inside single clusters.
        """
        KB = self._K @ self._B
        square = self._square + np.einsum("cab,cba->c", KB, KB)
        seen = self._trace / self._variance
        _warn_unseen(names, seen)
        visible = seen > TOLERANCE
        return np.where(visible, self._trace**2 / np.where(visible, square, 1.0), 0.0)


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
            stacklevel=5,
        )
