"""A regression beside crossed effects: what is constant of a viewer and of an author drops out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causal.did.absorbed_fit import AbsorbedFit, absorbed_least_squares
from causal.did.conventions import warn_few_clusters
from causal.effect import Effect
from causal.frame import Table, check_columns, column_names, listed, read_columns
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import check_weights, warn
from causal.sandwich import dense_codes
from causal.values import is_number, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["fixed_effects"]


@keeps_warnings
def fixed_effects(
    table: Table,
    *,
    outcome: str,
    treatment: str,
    absorb: Sequence[str],
    covariates: Sequence[str] = (),
    weight: str | None = None,
    cluster: str | tuple[str, str] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 10_000,
) -> Effect:
    """What one more unit of treatment does to the outcome, given who the viewer and the author are.

    Least squares on the treatment, covariates and a dummy for each level of the absorbed columns,
    any number of levels: whatever is constant of a viewer, an author, a day cannot confound.
    Assumes that, given these, treatment is as good as random and rows do not interfere; effects
    that differ are averaged by the variance of treatment within the levels, not by rows. For
    treatment that begins at different times see `group_time_effects`.

    Parameters
    ----------
    table : Table
        Rows of any size, in any number a pair; no balance is needed.
    outcome, treatment : str
        Columns of numbers; the treatment may be 0/1 or a dose, and may switch on and off.
    absorb : sequence of str
        Columns whose levels have an effect of their own, one or more.
    covariates : sequence of str
        Further numbers, not touched by the treatment.
    weight : str, optional
        Analytic weights of rows, >= 0; rows of weight 0 are left out.
    cluster : str or two of them, optional
        Column(s) within which errors may be dependent: name the level at which treatment was
        decided. By default rows count as independent (HC1): right only if treatment was drawn
        row by row.
    tolerance : float
        Of the normal equations of the effects, relative.
    max_iterations : int
        Of conjugate gradients.

    Returns
    -------
    Effect
        In units of the outcome for one unit of treatment. ``details`` holds the convention of the
        standard error, `n_levels` of each absorbed column, `n_components` (sets of levels that
        share no row), `largest_component_share` of rows, and rows dropped as `singletons_dropped`.

    Raises
    ------
    ValueError
        If a column is absent, missing values or infinite; the treatment or a covariate does not
        vary within the effects, or is a combination of others; nothing is left without singletons;
        there are fewer than 2 clusters; or the tolerance is not reached.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        Below 30 clusters, or 5 with treated rows (0/1 treatment), a two-way covariance with
        negative eigenvalues, or an outcome that does not vary within the effects.

    Notes
    -----
    Rows alone in a level say nothing and are dropped, one after the other. The column with most
    levels is eliminated exactly, the others by conjugate gradients on the distinct combinations of
    levels; b = (X'X)^-1 X'y of the residuals (Frisch-Waugh-Lovell). Errors: CR1 with the factor
    G/(G-1) (n-1)/(n-k), t with G-1 degrees of freedom; two-way V1 + V2 - V12, each with the factor
    of the smaller G. k counts regressors and levels less components; levels nested in a cluster
    count once. Not corrected for: the noise of effects in anything but b, interference.

    References
    ----------
    Abowd, Kramarz and Margolis (1999); Cameron, Gelbach and Miller (2011), eq. 2.11; Correia
    (2016).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> row = np.arange(960)
    >>> log = pd.DataFrame({"viewer": row % 60, "author": row % 7, "pendant": row * row % 11 % 2})
    >>> log["watch"] = 2 * log.pendant + log.viewer + 3 * log.author + row % 3
    >>> columns = {"outcome": "watch", "treatment": "pendant", "absorb": ["viewer", "author"]}
    >>> round(fixed_effects(log, **columns, cluster="viewer").estimate, 2)
    2.0
    """
    effects, others = listed(absorb, "absorb"), listed(covariates, "covariates")
    ways = _ways(cluster)
    if not effects:
        raise ValueError("absorb must name at least one column; got none: name viewer or unit")
    _check_limits(tolerance, max_iterations)
    further = [name for name in ways if name not in effects]
    roles: dict[str, str | Sequence[str] | None] = {
        "outcome": outcome,
        "treatment": treatment,
        "absorb": effects,
        "covariates": others,
        "weight": weight,
        "cluster": further,
    }
    check_columns(column_names(table), roles)
    numeric = [outcome, treatment, *others, *([] if weight is None else [weight])]
    columns = read_columns(table, numeric=numeric, labels=[*effects, *further])
    codes = {name: dense_codes(columns[name]).codes for name in (*effects, *further)}
    regressors = [treatment, *others]
    fit = absorbed_least_squares(
        columns[outcome],
        np.column_stack([columns[name] for name in regressors]),
        [f"treatment {treatment!r}", *(f"covariate {name!r}" for name in others)],
        [codes[name] for name in effects],
        clusters=[codes[name] for name in ways],
        weights=None if weight is None else check_weights(columns[weight], weight),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    _warn(fit, columns[treatment][fit.kept], outcome)
    return _effect(fit, effects, ways)


def _ways(cluster: str | tuple[str, str] | None) -> list[str]:
    """Names of none, one or two cluster columns."""
    if cluster is None:
        return []
    names = [cluster] if isinstance(cluster, str) else listed(cluster, "cluster")
    if len(names) not in (1, 2) or len(set(names)) != len(names):
        raise ValueError(f"cluster must name one column or two different ones; got {cluster!r}")
    return names


def _check_limits(tolerance: float, max_iterations: int) -> None:
    """Refuse tolerances and counts that cannot be reached."""
    whole_number("max_iterations", max_iterations, 1)
    if not is_number(tolerance) or not 1e-14 <= tolerance <= 1e-4:
        raise ValueError(f"tolerance must be between 1e-14 and 1e-4; got {tolerance!r}")


def _warn(fit: AbsorbedFit, treated: NDArray[np.float64], outcome: str) -> None:
    """Say that clusters are few, or that there is nothing to explain."""
    absorbed = fit.absorbed
    left = float(np.linalg.norm(absorbed.columns[:, -1]))
    if left <= max(1e-9 * absorbed.norms[-1], absorbed.rounding[-1]):
        warn(
            f"outcome {outcome!r} does not vary within the absorbed effects: its effect is 0 "
            "without error",
            stacklevel=4,
        )
    if not fit.clusters or fit.n_clusters is None:
        return
    n_treated = None
    if len(fit.clusters) == 1 and np.isin(treated, (0.0, 1.0)).all():
        n_treated = len(np.unique(fit.clusters[0].codes[treated == 1]))
    warn_few_clusters(fit.n_clusters, n_treated, stacklevel=4)


def _effect(fit: AbsorbedFit, effects: list[str], ways: list[str]) -> Effect:
    """The first coefficient."""
    absorbed = fit.absorbed
    details: Mapping[str, Any] = {
        **fit.details(),
        "absorbed": effects,
        "cluster": ways,
        "n_levels": list(absorbed.n_levels),
        "n_components": absorbed.n_components,
        "largest_component_share": absorbed.largest_share,
        "assumes": "given the absorbed effects and covariates, treatment is as good as random",
    }
    df = float(np.atleast_1d(fit.df)[0])
    return Effect(
        estimate=float(fit.coef[0]),
        std_error=float(np.sqrt(fit.cov[0, 0])),
        estimand="within effect",
        method=f"fixed effects, {len(effects)} absorbed",
        n_obs=fit.n_obs,
        n_clusters=fit.n_clusters,
        df=df,
        details=details,
    )
