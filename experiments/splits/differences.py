"""Differences between two arms: the one estimator behind every mean and ratio.

In each arm the outcome is regressed on covariates x; the arm's level is the fitted value at the
pooled mean of x, and the effect is the difference of levels. Without covariates this is the
difference in means; a ratio is a mean of linearised values R_a + (y - R_a d) / dbar_a; CUPED fixes
the slopes at the pooled theta. `experiments.splits.influence` has the standard errors.

Lin (2013), Ann. Appl. Stat. 7, 295-318; Deng, Xu, Kohavi and Walker (2013), WSDM; Deng, Knoblich
and Lu (2018), KDD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.moments import centred_moments
from causal.normal_equations import inverse_of_cross
from experiments.splits.influence import (
    Errors,
    Level,
    clustered_errors,
    dense_errors,
    independent_errors,
    influence,
    mean_variances,
    resolved_kind,
    squared_influences,
)
from experiments.splits.population import (
    Centre,
    Population,
    constants_of,
    independent_population,
    linked_population,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.rows import Groups
    from experiments.splits.influence import Kind
    from experiments.splits.records import Records

Adjustment: TypeAlias = Literal["lin", "cuped", "none"]

_SHARP = 1e-3  # of the outcome's square: moments then give the residual's to 1e-12


@dataclass(frozen=True)
class Differences:
    """Treated minus control in each of K cells (one cell for a plain test).

    `estimate`, `baseline` and counts have shape (K,) or (2, K) with the control first; `cov` is
    (K, K), `df` (K,), CUPED's `theta` (K, covariates). `baseline_variance` and `baseline_cov` are
    those of the first cell.
    """

    cells: tuple[Any, ...]
    estimate: NDArray[np.float64]
    cov: NDArray[np.float64]
    df: NDArray[np.float64]
    baseline: NDArray[np.float64]
    baseline_variance: float
    baseline_cov: float
    n: NDArray[np.int64]
    n_clusters: int | None
    clusters_by_arm: tuple[int, int] | None
    largest_cluster_share: float | None
    kind: str
    population: Population | None
    theta: NDArray[np.float64] | None
    covariates: tuple[str, ...]
    left_out: tuple[str, ...]
    constant: bool


@dataclass(frozen=True)
class Tabulated:
    """Moments of two arms' records, by cell if asked: what every adjustment starts from.

    Groups have shape (g,); outcome columns come first in `columns`. `position` (2, K) finds the
    group of an arm (control first) and cell.
    """

    records: Records
    control: object
    treatment: object
    groups: Groups
    mean: NDArray[np.float64]
    cross: NDArray[np.float64]
    total: NDArray[np.float64]
    columns: tuple[str, ...]
    n_outcomes: int
    position: NDArray[np.int64]
    cells: tuple[Any, ...]

    def at(self, names: Sequence[str]) -> list[int]:
        """Positions of columns."""
        return [self.columns.index(name) for name in names]

    def named(self, aliases: Sequence[str]) -> tuple[str, ...]:
        """The user's names of covariates x0, x1 ..."""
        return tuple(self.records.covariates[int(x[1:])] for x in aliases)


def tabulate(
    records: Records, control: object, treatment: object, *, by_cell: bool = False
) -> Tabulated:
    """Take the moments of two arms' records.

    Raises
    ------
    ValueError
        If an arm (of a cell) has fewer than two records.
    """
    rows = records.rows
    outcome = ("y", "d") if records.is_ratio else ("y",)
    columns = (*outcome, *(f"x{j}" for j in range(len(records.covariates))))
    by = ["arm", "cell"] if by_cell else ["arm"]
    weight = "w" if records.weighted else None
    if records.moments is not None:
        shared = records.moments.between(control, treatment)
        groups, mean, cross = shared.groups, shared.mean, shared.cross
        total = groups.n.astype(np.float64)
    else:
        groups, mean, cross, total = centred_moments(rows, columns, by, weight=weight)
    position, cells = _cells(groups, control, treatment, by_cell=by_cell)
    _check_size(records, mean, cross)
    return Tabulated(
        records=records,
        control=control,
        treatment=treatment,
        groups=groups,
        mean=mean,
        cross=cross,
        total=total,
        columns=columns,
        n_outcomes=len(outcome),
        position=position,
        cells=cells,
    )


def differences(
    table: Tabulated, *, adjustment: Adjustment = "lin", covariance: Kind = "auto"
) -> Differences:
    """Estimate treated minus control in every cell.

    Raises
    ------
    ValueError
        If an arm has fewer than two clusters, a covariate is the arm itself, there are more
        covariates than records, or a record has leverage 1.
    """
    given = table.columns[table.n_outcomes :] if adjustment != "none" else ()
    kept, left_out = _usable_covariates(table, given)
    fixed = adjustment == "cuped" and bool(kept)
    theta = [_pooled_slope(table, pair, kept) if fixed else None for pair in table.position.T]
    levels = [
        _levels(table, pair, kept, slope)
        for pair, slope in zip(table.position.T, theta, strict=True)
    ]
    kind = resolved_kind(
        covariance, table.records, table.records.rows, by_cell=table.cells != (None,)
    )
    errors = _errors(table, levels, kept, theta[0], kind)
    base = np.array([pair[0].level for pair in levels])
    estimate = np.array([pair[1].level for pair in levels]) - base
    return Differences(
        cells=table.cells,
        estimate=estimate,
        cov=errors.cov,
        df=errors.df,
        baseline=base,
        baseline_variance=errors.baseline_variance,
        baseline_cov=errors.baseline_cov,
        n=np.array([[pair[a].n for pair in levels] for a in (0, 1)]),
        n_clusters=errors.n_clusters,
        clusters_by_arm=errors.clusters_by_arm,
        largest_cluster_share=errors.largest_share,
        kind=kind,
        population=_population(table, levels, kept) if kept and not fixed else None,
        theta=np.array(theta) if fixed else None,
        covariates=table.named(kept),
        left_out=table.named(left_out),
        constant=all(level.residual == 0 for pair in levels for level in pair),
    )


def _errors(
    table: Tabulated,
    levels: Sequence[tuple[Level, Level]],
    kept: Sequence[str],
    theta: NDArray[np.float64] | None,
    kind: str,
) -> Errors:
    """Standard errors by the cheapest exact route: moments, squared influences, clusters."""
    records, rows, control = table.records, table.records.rows, table.control
    if kind == "CR2":
        return dense_errors(records, rows, levels[0], kept, theta, control)
    parameters = 2 * (1 + (len(kept) if theta is None else 0))
    if records.apart and not records.weighted and (not kept or _residuals_are_sharp(theta, levels)):
        return independent_errors(records, mean_variances(levels, kind), levels, kind, parameters)
    outcome = table.columns[: table.n_outcomes]
    formulas = influence(outcome, kept, kind, weighted=records.weighted, theta=theta is not None)
    rows = rows.attach(table.groups, _attached(table, levels, kept)).derive(formulas)
    if records.apart:
        v = squared_influences(rows, table.cells, control)
        return independent_errors(records, v, levels, kind, parameters)
    return clustered_errors(records, rows, levels, table.cells, kind, parameters, control)


def _residuals_are_sharp(
    theta: NDArray[np.float64] | None, levels: Sequence[tuple[Level, Level]]
) -> bool:
    """Whether the residual sums of squares of CUPED are far from cancelling in the moments."""
    if theta is None:
        return False
    return all(lv.residual > _SHARP * lv.total_square for pair in levels for lv in pair)


def _check_size(records: Records, mean: NDArray[np.float64], cross: NDArray[np.float64]) -> None:
    """Refuse columns whose squares a double does not hold."""
    for j, name in enumerate((*records.metric.outcomes, *records.covariates)):
        size, square = np.abs(mean[:, j]), cross[:, j, j]
        large = ~np.isfinite(square) | ~np.isfinite(size)
        small = (size > 0) & (size < 1e-150) & (square < 1e-290)
        if large.any() or small.any():
            raise ValueError(
                f"column {name!r} must have squares within a double, from about 1e-150 to 1e150; "
                f"its mean in an arm is {mean[(large | small).argmax(), j]:.3g}: rescale it first"
            )


def _cells(
    groups: Groups, control: object, treatment: object, *, by_cell: bool
) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Positions (2, K) of control and treated groups, and the cells' labels in sorted order."""
    arms = groups.keys["arm"]
    cell = groups.keys["cell"] if by_cell else np.full(len(groups), None)
    labels = sorted(set(cell.tolist())) if by_cell and len(cell) else [None]
    position = np.empty((2, len(labels)), dtype=np.int64)
    for a, arm in enumerate((control, treatment)):
        for k, label in enumerate(labels):
            found = np.flatnonzero((arms == arm) & (cell == label))
            where = f" in cell {label!r}" if label is not None else ""
            if len(found) == 0 or groups.n[found[0]] < 2:
                count = int(groups.n[found[0]]) if len(found) else 0
                raise ValueError(f"arm {arm!r}{where} needs at least 2 records; it has {count}")
            position[a, k] = found[0]
    return position, tuple(labels)


def _usable_covariates(table: Tabulated, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Covariates that can be used, and those that are constant or collinear.

    Raises ValueError for a covariate that is the arm itself, and for more covariates than records.
    """
    least = int(table.groups.n.min())
    if given and len(given) + 1 >= least:
        raise ValueError(
            f"covariates: {len(given)} covariates need more than {len(given) + 1} records in every "
            f"arm; the smallest has {least}"
        )
    kept: list[str] = []
    left_out: list[str] = []
    for name in given:
        j = table.columns.index(name)
        spread = table.cross[:, j, j]
        tiny = spread <= 1e-20 * table.total * np.maximum(table.mean[:, j] ** 2, 1e-300)
        if tiny.all() and np.ptp(table.mean[:, j]) > 0 and "cell" not in table.groups.keys:
            column = table.named([name])[0]
            raise ValueError(
                f"covariate {column!r} is constant within each arm: it is the arm itself; "
                "leave it out"
            )
        at = table.at([*kept, name])
        if tiny.any() or any(_collinear(c[np.ix_(at, at)]) for c in table.cross):
            left_out.append(name)
        else:
            kept.append(name)
    return kept, left_out


def _collinear(cross: NDArray[np.float64]) -> bool:
    """Whether the last column is a combination of those before it."""
    scale = np.sqrt(np.diag(cross))
    r = cross / np.outer(scale, scale)
    left = 1 - r[-1, :-1] @ np.linalg.solve(r[:-1, :-1], r[:-1, -1]) if len(r) > 1 else 1.0
    return bool(left < 1e-10)


def _pooled(
    table: Tabulated, groups: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and centred cross products of groups together."""
    w = table.total[groups]
    first = table.mean[groups[0]]
    mean = first + (w[:, None] * (table.mean[groups] - first)).sum(axis=0) / w.sum()
    d = table.mean[groups] - mean
    cross = table.cross[groups].sum(axis=0) + np.einsum("g,gi,gj->ij", w, d, d)
    return mean, np.asarray(cross)


def _outcome_weights(table: Tabulated, group: int) -> NDArray[np.float64]:
    """What turns columns into the outcome: 1 for a mean, 1/dbar and -R/dbar for a ratio."""
    if table.n_outcomes == 1:
        return np.ones(1)
    y, d = table.mean[group, :2]
    if d == 0:
        raise ValueError(
            f"the denominator of {table.records.metric.label!r} sums to 0 in an arm; "
            "the ratio does not exist"
        )
    return np.asarray(np.array([1.0, -y / d]) / d)


def _pooled_slope(
    table: Tabulated, groups: NDArray[np.int64], kept: Sequence[str]
) -> NDArray[np.float64]:
    """CUPED's theta: total-sample S_xx^-1 S_xy, both arms together."""
    x = table.at(kept)
    mean, cross = _pooled(table, groups)
    ratio = table.n_outcomes == 2
    outcome = np.array([1.0, -mean[0] / mean[1]]) / mean[1] if ratio else np.ones(1)
    names = table.named(kept)
    s_xy = cross[np.ix_(x, range(table.n_outcomes))] @ outcome
    return np.asarray(inverse_of_cross(cross[np.ix_(x, x)], names) @ s_xy)


def _levels(
    table: Tabulated,
    pair: NDArray[np.int64],
    kept: Sequence[str],
    theta: NDArray[np.float64] | None,
) -> tuple[Level, Level]:
    """Both arms' levels at the covariates' pooled mean."""
    x = table.at(kept)
    centre = _pooled(table, pair)[0][x]
    names = table.named(kept)
    found = []
    for g in pair.tolist():
        outcome = _outcome_weights(table, g)
        s = table.cross[g]
        gap = centre - table.mean[g, x]
        s_xy = s[np.ix_(x, range(table.n_outcomes))] @ outcome
        inverse = inverse_of_cross(s[np.ix_(x, x)], names) if kept else np.zeros((0, 0))
        slope = inverse @ s_xy if theta is None else theta
        lever = inverse @ gap if theta is None else np.zeros(len(x))
        y = table.mean[g, 0] if table.n_outcomes == 1 else table.mean[g, 0] / table.mean[g, 1]
        s_yy = float(outcome @ s[: table.n_outcomes, : table.n_outcomes] @ outcome)
        found.append(
            Level(
                n=int(table.groups.n[g]),
                total=float(table.total[g]),
                mean=dict(zip(table.columns, table.mean[g].tolist(), strict=True)),
                weights=dict(zip(("y", "d"), outcome.tolist(), strict=False)),
                slope=slope,
                lever=lever,
                inverse=inverse,
                level=float(y + slope @ gap),
                residual=max(
                    s_yy - 2 * float(slope @ s_xy) + float(slope @ s[np.ix_(x, x)] @ slope), 0.0
                ),
                total_square=s_yy,
            )
        )
    return found[0], found[1]


def _attached(
    table: Tabulated, levels: Sequence[tuple[Level, Level]], kept: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Constants of every group, as columns for the influence formula."""
    flat = {int(table.position[a, k]): levels[k][a] for a in (0, 1) for k in range(len(levels))}
    order = [flat[g] for g in range(len(table.groups))]
    values = {f"mean_{c}": [lv.mean[c] for lv in order] for c in table.columns}
    values |= {
        f"use_{c}": [lv.weights[c] for lv in order] for c in table.columns[: table.n_outcomes]
    }
    values["share"] = [1 / lv.total for lv in order]
    for i, x in enumerate(kept):
        values[f"slope_{x}"] = [float(lv.slope[i]) for lv in order]
        values[f"lever_{x}"] = [float(lv.lever[i]) for lv in order]
        for j, other in enumerate(kept[: i + 1]):
            values[f"inverse_{x}_{other}"] = [float(lv.inverse[i, j]) for lv in order]
    return {name: np.array(v) for name, v in values.items()}


def _population(
    table: Tabulated, levels: Sequence[tuple[Level, Level]], kept: Sequence[str]
) -> Population:
    """What the covariates' mean adds to the errors over populations."""
    x, records = table.at(kept), table.records
    centres = []
    for pair, level in zip(table.position.T, levels, strict=True):
        mean, cross = _pooled(table, pair)
        total, n = (sum(getattr(arm, name) for arm in level) for name in ("total", "n"))
        centres.append(Centre(mean[x], cross[np.ix_(x, x)], float(total), int(n)))
    if records.apart and not records.weighted:
        return independent_population(levels, centres)
    constants = _attached(table, levels, kept)
    constants |= constants_of(table.groups, table.position, levels, centres, kept)
    rows = records.rows.attach(table.groups, constants)
    outcome = table.columns[: table.n_outcomes]
    return linked_population(records, rows, table.cells, outcome, kept, table.control)
