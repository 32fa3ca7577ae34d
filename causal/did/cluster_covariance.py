"""CR1, CR2 and CR3 from sums by cluster: no rows, and many alike clusters counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causal.cluster_algebra import Satterthwaite, inverse_root, power_of_rest
from causal.did.conventions import PanelCovariance, cluster_factor
from causal.frame import check_one_of
from causal.sandwich import TOLERANCE, first, sandwich

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    Block = tuple[NDArray[np.float64] | None, NDArray[np.float64], NDArray[np.float64]]

_BLOCK = 4096  # groups at a time: batches of small matrices that stay in cache


def cluster_covariance(
    bread: ArrayLike,
    grams: ArrayLike | None,
    counts: ArrayLike,
    scores: ArrayLike,
    *,
    kind: PanelCovariance = "CR1",
    n_obs: int,
    k: int,
    names: tuple[str, ...] | None = None,
    contrasts: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], float | NDArray[np.float64]]:
    """Covariance of least-squares coefficients from sums over groups of clusters.

    Clusters of a group have the same X_c'X_c. For CR2, X holds every column that is not absorbed
    within clusters (time dummies too), and there are no weights: only then is absorbing harmless.

    Parameters
    ----------
    bread : (K, K) array
        (X'X)^-1.
    grams : (G, K, K) array or None
        C = X_c'X_c of one cluster of each group; CR1 does not need it.
    counts : (G,) array
        Clusters in each group.
    scores : (G, K) or (G, K, K) array
        s = X_c'e_c of the one cluster of each group, or the sum of s s' over its clusters.
    kind : {"CR1", "CR2", "CR3"}
    n_obs, k : int
        Rows and parameters of the convention; only CR1 uses them.
    names : tuple of K str, optional
        For messages.
    contrasts : (K, c) array, optional
        Combinations, one a column, of which CR2 gives degrees of freedom; each coefficient by
        default.

    Returns
    -------
    covariance : (K, K) array
    df : float or (c,) array
        G - 1; for CR2 those of each contrast, 0 where no variance can be seen.

    Raises
    ------
    ValueError
        If there are fewer than 2 clusters, or for CR3 if without one cluster a contrast is not
        identified.

    Warns
    -----
    EstimationWarning
        For CR2, if a contrast depends on directions that lie inside a single cluster.

    Notes
    -----
    In an orthonormal basis of X, CR2: sum D s s'D with D = (I - C)^-1/2. CR3 is CV3 of MacKinnon,
    Nielsen and Webb (2023), eq. 13: (G-1)/G sum (b_(c) - b)(b_(c) - b)' about the estimate, not
    about the mean of the b_(c), with b - b_(c) = (X'X - X_c'X_c)^-1 s_c.

    References
    ----------
    Bell and McCaffrey (2002); Pustejovsky and Tipton (2018), Theorem 2; MacKinnon, Nielsen and
    Webb (2023), Cluster-robust inference: a guide to empirical practice.

    Examples
    --------
    >>> import numpy as np
    >>> s = np.array([[1.0], [-2.0], [1.0]])  # three clusters of four rows, one column of ones
    >>> cov, df = cluster_covariance(
    ...     [[1 / 12]], np.full((3, 1, 1), 4.0), np.ones(3), s, kind="CR2", n_obs=12, k=1)
    >>> round(float(cov[0, 0]), 6), df.round(6).tolist()
    (0.0625, [2.0])
    """
    A = np.asarray(bread, dtype=np.float64)
    L = _root(A)
    times, moments = np.asarray(counts, np.float64), np.asarray(scores, np.float64)
    C = None if grams is None else np.asarray(grams, np.float64)
    if moments.ndim == 2 and (times != 1).any():
        raise ValueError(
            "scores (G, K) belong to groups of one cluster; counts hold others: pass the sums of "
            "s s' over the clusters of each group, (G, K, K)"
        )

    def blocks() -> Iterator[Block]:
        for at in range(0, len(times), _BLOCK):
            block = slice(at, at + _BLOCK)
            s = moments[block] @ L if moments.ndim == 2 else L.T @ moments[block] @ L
            yield None if C is None else L.T @ C[block] @ L, times[block], s

    labels = tuple(f"x{j}" for j in range(len(A))) if names is None else names
    of_contrasts = labels
    if contrasts is not None:
        contrasts = np.asarray(contrasts, np.float64)
        of_contrasts = tuple(f"contrast {j}" for j in range(contrasts.shape[1]))
    return covariance_in_basis(
        L,
        blocks(),
        kind=kind,
        n_obs=n_obs,
        k=k,
        names=labels,
        contrasts=np.eye(len(A)) if contrasts is None else contrasts,
        labels=of_contrasts,
    )


def covariance_in_basis(
    to_basis: NDArray[np.float64],
    blocks: Iterable[Block],
    *,
    kind: PanelCovariance,
    n_obs: int,
    k: int,
    names: tuple[str, ...],
    contrasts: NDArray[np.float64],
    labels: tuple[str, ...],
) -> tuple[NDArray[np.float64], float | NDArray[np.float64]]:
    """`cluster_covariance` where X to_basis is orthonormal and sums come in that basis.

    Each of the blocks holds (grams, counts, scores) of some groups; `labels` name the contrasts.
    """
    check_one_of(kind, "kind", ("CR1", "CR2", "CR3"))
    U = to_basis.T @ contrasts
    U = U / np.linalg.norm(U, axis=0)
    eye = np.eye(len(to_basis))
    freedom, meat, n_clusters = Satterthwaite(U, -eye, eye), np.zeros_like(eye), 0
    for C, counts, s in blocks:
        n_clusters += int(counts.sum())
        if kind == "CR1":
            meat += _outer(s)
            continue
        if C is None:
            raise ValueError(f"{kind} needs grams of the clusters; got None: pass X_c'X_c")
        if kind == "CR2":
            D = inverse_root(C)
            freedom.add(D, C, counts)
        else:
            _refuse_alone(C, U, labels)
            D = power_of_rest(C, -1.0)
        meat += _outer(np.einsum("gij,gj->gi", D, s) if s.ndim == 2 else D @ s @ D)
    factor = cluster_factor(n_clusters, n_obs, k)  # refuses a single cluster
    if kind == "CR2":
        return sandwich(to_basis, meat, names, 0), freedom.df(labels)
    if kind == "CR3":
        factor = (n_clusters - 1) / n_clusters
    return sandwich(to_basis, factor * meat, names, 0), float(n_clusters - 1)


def _root(bread: NDArray[np.float64]) -> NDArray[np.float64]:
    """L with L L' = bread, so that X L is orthonormal; columns of any unit."""
    scale = np.sqrt(np.diag(bread))
    try:
        root: NDArray[np.float64] = np.linalg.cholesky(bread / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        raise ValueError(
            "bread must be positive definite; it is not: drop collinear columns first"
        ) from None
    return scale[:, None] * root


def _outer(s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of s s' over groups, from scores (G, K) or their second moments (G, K, K)."""
    total: NDArray[np.float64] = s.T @ s if s.ndim == 2 else s.sum(axis=0)
    return total


def _refuse_alone(C: NDArray[np.float64], U: NDArray[np.float64], names: tuple[str, ...]) -> None:
    """Raise if without one cluster a contrast is not identified."""
    if np.einsum("gij,gij->g", C, C).max() < (1 - TOLERANCE) ** 2:
        return
    values, vectors = np.linalg.eigh(C)
    alone = (1 - values <= TOLERANCE)[:, None, :] * np.abs(U.T @ vectors)
    lost = [name for name, part in zip(names, alone.max(axis=(0, 2)), strict=True) if part > 1e-6]
    if lost:
        raise ValueError(
            "CR3 leaves out each cluster in turn, and every coefficient must be identified "
            f"without it; {first(lost)} is not: use CR2, or few_cluster_test with "
            "method='permutation'"
        )
