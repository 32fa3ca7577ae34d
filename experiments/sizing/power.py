"""How large an experiment must be, and what it can find, by closed formulas."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy import special

from causal.centred import centred_moments
from causal.effect import EstimationWarning
from causal.frame import Table, check_columns, check_level, column_names, listed
from causal.moments import Moments, group_moments, least_squares_from
from causal.rows import column, open_rows
from causal.values import is_number
from causal.words import number_in_words
from experiments.designs.design import check_share
from experiments.rotations.row_checks import refuse_missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.rows import Rows

_FEW_CELLS = 10
_UNEVEN = 2.0  # coefficient of variation of cell sizes from which the formula is off
_FEW_UNITS = 30  # an arm, below which normal quantiles promise too much


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPower:
    """What a rotation over cells (cluster x period) can see.

    `mde` is the effect found with the power asked for; `power` is that of the effect asked about,
    None without one.
    """

    variance: float
    std_error: float
    mde: float
    power: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What an A/B test on these rows can see.

    `variance` and `std_error` are those of the difference of means, `mde` is the effect found with
    the power asked for (`power`). `baseline` is the outcome's mean, `n_units` counts rows, or
    clusters where they are randomised; `r_squared` is the share of variance that covariates
    explain, `design_effect` the variance over that of independent rows.
    """

    variance: float
    std_error: float
    mde: float
    power: float
    level: float
    baseline: float
    n_units: int
    r_squared: float
    design_effect: float

    def to_frame(self) -> pd.DataFrame:
        """One row of all figures."""
        return pd.DataFrame([{f.name: getattr(self, f.name) for f in fields(self)}])

    def summary(self) -> str:
        """One line: the effect that is found, the level it compares with, and on what."""
        said = f"an effect of {number_in_words(self.mde)}"
        if self.baseline:
            relative = number_in_words(100 * self.mde / abs(self.baseline), 2)
            said += f" ({relative}% of {number_in_words(self.baseline, 4)})"
        return (
            f"{said} is found with a power of {100 * self.power:.4g}% at level {self.level:g}; "
            f"{self.n_units:,} units, standard error {number_in_words(self.std_error)}"
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<p>{self.summary()}</p>"


def sample_size(
    *,
    effect: float,
    std: float | None = None,
    proportion: float | None = None,
    treated_share: float = 0.5,
    variance_reduction: float = 0.0,
    level: float = 0.95,
    power: float = 0.8,
) -> float:
    """Units that the treated arm needs; every arm does at equal shares.

    Parameters
    ----------
    effect : float
        Absolute difference to be found, in the outcome's units or as a difference of proportions.
    std : float, optional
        Standard deviation of the outcome, for means.
    proportion : float, optional
        Control level of a yes-no outcome, in (0, 1), in place of `std`.
    treated_share : float
        Share of units in the treated arm, in (0, 1).
    variance_reduction : float
        Share of the variance that covariates take away, in [0, 1).
    level, power : float
        Confidence level of the two-sided test, and the chance to find the effect.

    Returns
    -------
    float
        Not rounded; the control arm needs it times (1 - share) / share.

    Raises
    ------
    ValueError
        If the effect is 0, neither or both of `std` and `proportion` are given, a share is out of
        its range, or proportion + effect is not in (0, 1).

    Notes
    -----
    With z_a, z_b the normal quantiles of 1 - (1 - level) / 2 and of `power`: 2 s^2 (z_a + z_b)^2 /
    d^2 for means, (z_a sqrt(2 p (1 - p)) + z_b sqrt(p (1 - p) + p_2 (1 - p_2)))^2 / d^2 for
    proportions, at equal shares; otherwise 1 / share and 1 / (1 - share) weigh the arms. Normal
    quantiles: below 30 units an arm the true need is larger.

    References
    ----------
    Fleiss, Levin and Paik (2003). Statistical methods for rates and proportions, section 4.

    Examples
    --------
    >>> round(sample_size(effect=0.1, std=1.0))
    1570
    """
    if not (is_number(effect) and math.isfinite(effect) and effect != 0):
        raise ValueError(f"effect must be a number other than 0; got {effect!r}")
    check_share("treated_share", treated_share)
    if not (is_number(variance_reduction) and 0 <= variance_reduction < 1):
        raise ValueError(f"variance_reduction must be in [0, 1); got {variance_reduction!r}")
    if (std is None) == (proportion is None):
        raise ValueError(f"give std= or proportion=; got std={std!r}, proportion={proportion!r}")
    z_a, z_b = _quantiles(level, power)
    weight = 1 / treated_share + 1 / (1 - treated_share)
    if proportion is None:
        _check_positive("std", std)
        under_null = under_effect = float(std or 0.0) ** 2 * weight
    else:
        check_share("proportion", proportion)
        p, other = proportion, proportion + effect
        if not 0 < other < 1:
            raise ValueError(f"proportion + effect must be in (0, 1); got {other:g}")
        under_null = p * (1 - p) * weight
        under_effect = other * (1 - other) / treated_share + p * (1 - p) / (1 - treated_share)
    reach = z_a * math.sqrt(under_null) + z_b * math.sqrt(under_effect)
    units = (1 - variance_reduction) * reach**2 / effect**2
    return treated_share * units


def cell_power(
    *,
    n_clusters: float,
    n_periods: float,
    n_per_cell: float,
    between_share: float,
    std: float,
    cell_cv: float = 0.0,
    effect: float | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> CellPower:
    """Power of a rotation whose coin is thrown for each cell, a cluster in a period.

    Parameters
    ----------
    n_clusters, n_periods : float
        Numbers of clusters (regions) and of periods.
    n_per_cell : float
        Mean number of rows of a cell.
    between_share : float
        Share of the outcome's variance that lies between cells, in [0, 1].
    std : float
        Standard deviation of the outcome.
    cell_cv : float
        Coefficient of variation of the cells' sizes.
    effect : float, optional
        Whose power is asked for.
    level, power : float
        As in `sample_size`.

    Returns
    -------
    CellPower

    Raises
    ------
    ValueError
        If there are fewer than two cells, or an argument is out of its range.

    Notes
    -----
    4 s^2 / (C T) [(1 - b) / n + b (1 / n + 1 + cv^2)]; the power counts both tails. Periods must be
    long enough for carry-over to die, and cells independent. Ten cells or fewer, and a `cell_cv` of
    2 or more, warn: the formula then overstates the variance.

    References
    ----------
    Pankratev (2026), switchback-power-calculator.

    Examples
    --------
    >>> found = cell_power(n_clusters=5, n_periods=56, n_per_cell=100, between_share=0.1, std=2.0)
    >>> round(found.mde, 3)
    0.222
    """
    for name, value in (
        ("n_clusters", n_clusters),
        ("n_periods", n_periods),
        ("n_per_cell", n_per_cell),
        ("std", std),
    ):
        _check_positive(name, value)
    if not (is_number(between_share) and 0 <= between_share <= 1):
        raise ValueError(f"between_share must be in [0, 1]; got {between_share!r}")
    if not (is_number(cell_cv) and 0 <= cell_cv < math.inf):
        raise ValueError(f"cell_cv must be 0 or more; got {cell_cv!r}")
    if effect is not None and not (is_number(effect) and math.isfinite(effect)):
        raise ValueError(f"effect must be a finite number; got {effect!r}")
    cells = n_clusters * n_periods
    if cells < 2:
        raise ValueError(f"n_clusters x n_periods must be two cells or more; got {cells:g}")
    if cells <= _FEW_CELLS or cell_cv >= _UNEVEN:
        warnings.warn(
            f"{cells:g} cells with a coefficient of variation of {cell_cv:g} are beyond what the "
            "formula is good for: it overstates the variance; simulate on your own cells instead",
            EstimationWarning,
            stacklevel=2,
        )
    z_a, z_b = _quantiles(level, power)
    within = (1 - between_share) / n_per_cell
    between = between_share * (1 / n_per_cell + 1 + cell_cv**2)
    variance = 4 * std**2 / cells * (within + between)
    error = math.sqrt(variance)
    found = None
    if effect is not None:
        found = float(special.ndtr(effect / error - z_a) + special.ndtr(-effect / error - z_a))
    return CellPower(variance=variance, std_error=error, mde=(z_a + z_b) * error, power=found)


def mde(
    frame: Table | Moments,
    *,
    outcome: str,
    treated_share: float = 0.5,
    covariates: Sequence[str] = (),
    cluster: str | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> Power:
    """Smallest effect that an A/B test on these rows would find.

    For rows of a period without the experiment, as many as it will have.

    Parameters
    ----------
    frame : Table or Moments
        Rows, any kind that the door takes, or what `group_moments` made of them (its groups are
        pooled). One row is one unit, unless `cluster` is given.
    outcome : str
        Column of the outcome.
    treated_share : float
        Share of units in the treated arm, in (0, 1).
    covariates : sequence of str
        Columns known before treatment that will be adjusted for (Lin, CUPED).
    cluster : str, optional
        Column of the unit of randomisation, where it has several rows. Needs rows.
    level, power : float
        Confidence level of the two-sided test, and the chance to find the effect.

    Returns
    -------
    Power

    Raises
    ------
    ValueError
        If a column is absent, holds gaps or does not vary, covariates are collinear, the share is
        not in (0, 1), moments are weighted, or there are fewer than two clusters.

    Notes
    -----
    With s^2 the residual variance after covariates (divisor N - 1 - covariates) and p the treated
    share, Var = s^2 / N (1 / p + 1 / (1 - p)). With C clusters and z_c the sums of their residuals,
    Var = C S_z^2 / N^2 (1 / p + 1 / (1 - p)). mde = (z_a + z_b) sqrt(Var): fewer than 30 units an
    arm warn, since normal quantiles then promise too much. Not corrected for: interference, and
    effects that change the variance.

    References
    ----------
    Bloom (1995). Minimum detectable effects, Evaluation Review 19(5). Lin (2013). Agnostic notes on
    regression adjustments to experimental data, Annals of Applied Statistics 7(1).

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> users = pd.DataFrame({"watch": np.random.default_rng(0).normal(20, 5, 10_000)})
    >>> round(mde(users, outcome="watch").mde, 2)
    0.28
    """
    check_share("treated_share", treated_share)
    z_a, z_b = _quantiles(level, power)
    covariates = listed(covariates, "covariates")
    moments = _pooled_moments(frame, outcome, covariates, cluster)
    fit = least_squares_from(moments, outcome=outcome, regressors=covariates)
    n, y = int(moments.n[0]), moments.columns.index(outcome)
    if (total := float(moments.cross[0, y, y])) <= 0:
        raise ValueError(
            f"column {outcome!r} must vary; it is {moments.mean[0, y]:g} in all {n:,} rows: there "
            "is nothing to find an effect in"
        )
    plain = total * (1 - fit.r_squared) / fit.df / n
    each, units = plain, n
    if cluster is not None:
        slopes = dict(zip(covariates, fit.coef[1:].tolist(), strict=True))
        mean = dict(zip(moments.columns, moments.mean[0].tolist(), strict=True))
        each, units = _clustered(frame, outcome, slopes, mean, cluster)
    if (few := units * min(treated_share, 1 - treated_share)) < _FEW_UNITS:
        warnings.warn(
            f"{few:.3g} units in the smaller arm are few: normal quantiles promise too much, the "
            "test will find larger effects only",
            EstimationWarning,
            stacklevel=2,
        )
    variance = each * (1 / treated_share + 1 / (1 - treated_share))
    error = math.sqrt(variance)
    return Power(
        variance=variance,
        std_error=error,
        mde=(z_a + z_b) * error,
        power=float(power),
        level=float(level),
        baseline=float(moments.mean[0, y]),
        n_units=units,
        r_squared=fit.r_squared,
        design_effect=each / plain if plain > 0 else 1.0,
    )


def _pooled_moments(
    frame: Table | Moments, outcome: str, covariates: list[str], cluster: str | None
) -> Moments:
    """Moments of outcome and covariates over all rows."""
    if not isinstance(frame, Moments):
        roles = {"outcome": outcome, "covariates": covariates, "cluster": cluster}
        check_columns(column_names(frame), roles)
        return group_moments(frame, columns=[outcome, *covariates])
    if cluster is not None:
        raise ValueError(
            f"cluster {cluster!r} needs rows; moments were given: pass the table, or moments over "
            f"units, group_moments(..., unit={cluster!r}), without cluster="
        )
    if frame.weight is not None:
        raise ValueError("moments must not be weighted; make them without weight=")
    check_columns(frame.columns, {"outcome": outcome, "covariates": covariates})
    return frame.roll_up([])


def _clustered(
    frame: Table,
    outcome: str,
    slopes: Mapping[str, float],
    mean: Mapping[str, float],
    cluster: str,
) -> tuple[float, int]:
    """Variance of a mean under random clusters, times the number of arms' shares; their number."""
    names = {f"x{j}": name for j, name in enumerate(slopes)}
    rows: Rows = open_rows(frame, numeric={"y": outcome, **names}, labels={"cluster": cluster})
    refuse_missing(rows, {"y": outcome, **names})

    def residual(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — columns of arrays or of the engine
        left = c["y"] - mean[outcome]
        for alias, name in names.items():
            left = left - slopes[name] * (c[alias] - mean[name])
        return left

    n = float(rows.sums([], {}).n[0])
    sums = rows.derive({"z": residual}).grouped(["cluster"], {"z": column("z")})
    groups, _, cross, _ = centred_moments(sums, ["z"], [])
    units = int(groups.n[0])
    if units < 2:
        raise ValueError(f"cluster {cluster!r} must have two values or more; it has {units}")
    return float(cross[0, 0, 0]) / (units - 1) * units / n**2, units


def _quantiles(level: float, power: float) -> tuple[float, float]:
    """Normal quantiles of a two-sided test and of its power."""
    check_level(level)
    check_level(power, "power")
    return float(special.ndtri((1 + level) / 2)), float(special.ndtri(power))


def _check_positive(name: str, value: object) -> None:
    """A finite number above 0."""
    if not (is_number(value) and 0 < value < math.inf):
        raise ValueError(f"{name} must be positive; got {value!r}")
