"""The one covariance convention of panel regressions: factors, parameters, words, guards."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, TypeAlias

from causal.effect import EstimationWarning
from causal.linear import CONVENTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.values import JsonValue

__all__ = [
    "CONVENTION",
    "PanelCovariance",
    "cluster_factor",
    "covariance_details",
    "parameter_count",
    "row_factor",
    "rows_left",
    "warn_few_clusters",
]

PanelCovariance: TypeAlias = Literal["CR1", "CR2", "CR3", "HC1"]

_WORDS = {
    "CR1": "CR1: G/(G-1) (n-1)/(n-k), nested effects counted once, t with G-1 df",
    "CR2": "CR2: Bell-McCaffrey, Satterthwaite df",
    "CR3": "CR3: cluster jackknife about the estimate, t with G-1 df",
    "HC1": "HC1: n/(n-k), rows independent, t with n-k df",
}
_FEW_CLUSTERS, _FEW_TREATED = 30, 5


def cluster_factor(n_clusters: int, n_obs: int, k: int) -> float:
    """G/(G-1) (n-1)/(n-k) of CR1.

    Raises
    ------
    ValueError
        If there are fewer than 2 clusters, or not more rows than parameters.
    """
    if n_clusters < 2:
        raise ValueError(
            f"a clustered covariance needs at least 2 clusters; got {n_clusters}: cluster by a "
            "finer column"
        )
    return n_clusters / (n_clusters - 1) * (n_obs - 1) / rows_left(n_obs, k)


def row_factor(n_obs: int, k: int) -> float:
    """n/(n-k) of HC1; raises ValueError unless there are more rows than parameters."""
    return n_obs / rows_left(n_obs, k)


def rows_left(n_obs: int, k: int) -> int:
    """Rows less parameters; raises ValueError unless some are left."""
    if n_obs <= k:
        raise ValueError(
            f"a covariance needs more rows than parameters; got {n_obs} rows and {k} parameters: "
            "drop covariates or absorbed effects"
        )
    return n_obs - k


def parameter_count(
    n_regressors: int, levels: Sequence[int], shared: Sequence[int], nested: Sequence[bool]
) -> int:
    """Parameters k of the convention.

    Parameters
    ----------
    n_regressors : int
        Columns with a coefficient.
    levels : sequence of int
        Levels of each absorbed effect, nested ones first.
    shared : sequence of int
        Levels of each that effects before it already determine: 0 for the first, then the number
        of connected components.
    nested : sequence of bool
        Whether each is nested in a cluster.
    """
    free = sum(n - s for n, s, inside in zip(levels, shared, nested, strict=True) if not inside)
    return n_regressors + free + any(nested)


def covariance_details(
    covariance: PanelCovariance,
    *,
    k: int,
    n_clusters: int | None,
    df: float | None,
    singletons: int = 0,
    two_way: bool = False,
) -> dict[str, JsonValue]:
    """What `details` of every panel regression says of its covariance."""
    words = _WORDS[covariance]
    if two_way:
        words = "two-way CR1: V1 + V2 - V12 with the factor of the smaller G, t with G-1 df"
    return {
        "covariance": words,
        "k": k,
        "n_clusters": n_clusters,
        "df": df,
        "singletons_dropped": singletons,
    }


def warn_few_clusters(
    n_clusters: int,
    n_treated: int | None = None,
    *,
    covariance: PanelCovariance = "CR1",
    stacklevel: int = 3,
) -> None:
    """Warn once if clusters, or those with treated rows, are too few for the usual errors.

    Raises
    ------
    ValueError
        If there are fewer than 2 clusters.

    Warns
    -----
    EstimationWarning
        Below 30 clusters (not for CR2) or below 5 treated ones, with both figures.
    """
    if n_clusters < 2:
        raise ValueError(
            f"a clustered error needs at least 2 clusters; got {n_clusters}: name a cluster column "
            "with more labels"
        )
    few = n_clusters < _FEW_CLUSTERS and covariance != "CR2"
    few_treated = n_treated is not None and n_treated < _FEW_TREATED
    if not few and not few_treated:
        return
    found = f"{n_clusters} clusters"
    if few_treated:
        found += f", {n_treated} of them treated"
    if n_treated == 1:
        say = (
            "no variance estimator is reliable with one treated cluster; use "
            "few_cluster_test(method='permutation') or synthetic_control"
        )
    elif covariance == "CR2":
        say = "degrees of freedom are few and intervals wide; compare with few_cluster_test"
    else:
        say = (
            "errors are too small with so few; compare with covariance='CR2' of diff_in_diff and "
            "few_cluster_test"
        )
    warnings.warn(f"{found}: {say}", EstimationWarning, stacklevel=stacklevel)
