"""Differences between two arms with their covariance: the one estimator behind every mean and ratio.

All of it is one idea. In each arm a, the outcome is regressed on covariates x; the arm's level is
the fitted value at the pooled mean of x. A record's share in the error of that level is its
influence, psi = w c e: residual e times c = 1/W_a + (xbar - xbar_a)' S_a^-1 (x - xbar_a). Squared
influences sum to the HC variance, squared cluster sums of influences to the CR variance, products
of two cells' cluster sums to their covariance. Without covariates c = 1/n and this is the
difference in means; a ratio is a mean of linearised values; CUPED fixes the slopes at the pooled
theta. Lin (2013), Ann. Appl. Stat. 7, 295-318; Deng, Xu, Kohavi and Walker (2013), WSDM; Deng,
Knoblich and Lu (2018), KDD.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.linear import covariance as covariance_of
from causal.linear import least_squares
from causal.moments import centred_moments, inverse_of_cross
from causal.rows import Expression, Groups, Rows, both, select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.records import Records

Adjustment: TypeAlias = Literal["lin", "cuped", "none"]
Kind: TypeAlias = Literal["auto", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2"]

_FEW_CLUSTERS = 50


@dataclass(frozen=True)
class Differences:
    """Treated minus control in each of K cells (one cell for a plain test).

    `estimate`, `baseline` and counts have shape (K,) or (2, K) with the control first; `cov` is
    (K, K). `baseline_variance` and `baseline_cov` are those of the first cell.
    """

    cells: tuple[Any, ...]
    estimate: NDArray[np.float64]
    cov: NDArray[np.float64]
    df: float
    baseline: NDArray[np.float64]
    baseline_variance: float
    baseline_cov: float
    n: NDArray[np.int64]
    n_clusters: int | None
    clusters_by_arm: tuple[int, int] | None
    largest_cluster_share: float | None
    kind: str
    superpopulation_variance: float
    theta: tuple[float, ...]
    covariates: tuple[str, ...]
    left_out: tuple[str, ...]
    constant: bool


@dataclass(frozen=True)
class _Level:
    """One arm in one cell: level of the outcome at the pooled covariates, and what psi needs."""

    n: int
    total: float
    mean: dict[str, float]
    weights: dict[str, float]
    slope: NDArray[np.float64]
    lever: NDArray[np.float64]
    inverse: NDArray[np.float64]
    level: float
    residual: float


def differences(
    records: Records,
    control: object,
    treatment: object,
    *,
    adjustment: Adjustment = "lin",
    covariance: Kind = "auto",
    by_cell: bool = False,
) -> Differences:
    """Estimate treated minus control, by cell if asked.

    Raises
    ------
    ValueError
        If an arm (of a cell) has fewer than two records or clusters, a covariate is the arm itself,
        there are more covariates than records, or a record has leverage 1.
    """
    rows = records.rows.where(lambda c: (c["arm"] == control) | (c["arm"] == treatment))
    given = [f"x{j}" for j in range(len(records.covariates))] if adjustment != "none" else []
    outcome = ["y", "d"] if records.is_ratio else ["y"]
    by = ["arm", "cell"] if by_cell else ["arm"]
    weight = "w" if records.weighted else None
    groups, mean, cross, total = centred_moments(rows, [*outcome, *given], by, weight=weight)
    table = _Table(records, groups, mean, cross, total, (*outcome, *given), len(outcome))
    position, cells = _cells(groups, control, treatment, by_cell=by_cell)
    kept, left_out = _usable_covariates(table, given)
    theta = _pooled_slope(table, position[:, 0], kept) if adjustment == "cuped" and kept else None
    levels = [_levels(table, position[:, k], kept, theta) for k in range(len(cells))]
    names = tuple(records.covariates[int(x[1:])] for x in kept)
    kind = _resolved(covariance, records, rows, control)
    if kind == "CR2":
        errors = _dense_errors(records, rows, levels[0], kept, theta, control)
    else:
        parameters = 2 * (1 + (len(kept) if theta is None else 0))
        scores = rows.attach(groups, _attached(table, levels, position, kept))
        psi = _influence(outcome, kept, kind, weighted=records.weighted, theta=theta is not None)
        errors = _errors(
            records, scores.derive({"psi": psi}), levels, cells, kind, parameters, control
        )
    base = np.array([pair[0].level for pair in levels])
    estimate = np.array([pair[1].level for pair in levels]) - base
    return Differences(
        cells=cells,
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
        superpopulation_variance=_superpopulation(table, position[:, 0], kept, levels[0]),
        theta=() if theta is None else tuple(float(t) for t in theta),
        covariates=names,
        left_out=tuple(records.covariates[int(x[1:])] for x in left_out),
        constant=all(level.residual == 0 for pair in levels for level in pair),
    )


@dataclass(frozen=True)
class _Table:
    """Moments by group with their column names; outcome columns come first."""

    records: Records
    groups: Groups
    mean: NDArray[np.float64]
    cross: NDArray[np.float64]
    total: NDArray[np.float64]
    columns: tuple[str, ...]
    n_outcomes: int

    def at(self, names: Sequence[str]) -> list[int]:
        """Positions of columns."""
        return [self.columns.index(name) for name in names]


@dataclass(frozen=True)
class _Errors:
    """Covariance of the differences and what the first cell's relative effect needs."""

    cov: NDArray[np.float64]
    df: float
    baseline_variance: float
    baseline_cov: float
    n_clusters: int | None
    clusters_by_arm: tuple[int, int] | None
    largest_share: float | None


def _cells(
    groups: Groups, control: object, treatment: object, *, by_cell: bool
) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Positions (2, K) of control and treated groups, and the cells' labels in sorted order."""
    arms = groups.keys["arm"]
    cell = groups.keys["cell"] if by_cell else np.zeros(len(groups), dtype=np.int64)
    labels = list(dict.fromkeys(cell[np.argsort(cell, kind="stable")].tolist()))
    position = np.empty((2, len(labels)), dtype=np.int64)
    for a, arm in enumerate((control, treatment)):
        for k, label in enumerate(labels):
            found = np.flatnonzero((arms == arm) & (cell == label))
            where = f" in cell {label!r}" if by_cell else ""
            if len(found) == 0 or groups.n[found[0]] < 2:
                count = int(groups.n[found[0]]) if len(found) else 0
                raise ValueError(f"arm {arm!r}{where} needs at least 2 records; it has {count}")
            position[a, k] = found[0]
    return position, tuple(labels)


def _usable_covariates(table: _Table, given: Sequence[str]) -> tuple[list[str], list[str]]:
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
            column = table.records.covariates[int(name[1:])]
            raise ValueError(
                f"covariate {column!r} is constant within each arm: it is the arm itself; leave it out"
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


def _pooled(table: _Table, groups: NDArray[np.int64]) -> tuple[NDArray[np.float64], Any, float]:
    """Mean, centred cross products and weight of groups together."""
    w = table.total[groups]
    first = table.mean[groups[0]]
    mean = first + (w[:, None] * (table.mean[groups] - first)).sum(axis=0) / w.sum()
    d = table.mean[groups] - mean
    cross = table.cross[groups].sum(axis=0) + np.einsum("g,gi,gj->ij", w, d, d)
    return mean, cross, float(w.sum())


def _outcome_weights(table: _Table, group: int) -> NDArray[np.float64]:
    """What turns columns into the outcome's deviation: 1 for a mean, 1/dbar and -R/dbar for a ratio."""
    if table.n_outcomes == 1:
        return np.ones(1)
    y, d = table.mean[group, :2]
    if d == 0:
        raise ValueError(
            f"the denominator of {table.records.metric.label!r} sums to 0 in an arm; the ratio does not exist"
        )
    return np.array([1.0, -y / d]) / d


def _pooled_slope(
    table: _Table, groups: NDArray[np.int64], kept: Sequence[str]
) -> NDArray[np.float64]:
    """CUPED's theta: total-sample S_xx^-1 S_xy, both arms together."""
    x = table.at(kept)
    mean, cross, total = _pooled(table, groups)
    if table.n_outcomes == 1:
        outcome = np.ones(1)
    else:
        outcome = np.array([1.0, -mean[0] / mean[1]]) / mean[1]
    names = [table.records.covariates[int(name[1:])] for name in kept]
    s_xy = cross[np.ix_(x, range(table.n_outcomes))] @ outcome
    return np.asarray(inverse_of_cross(cross[np.ix_(x, x)], names) @ s_xy)


def _levels(
    table: _Table,
    pair: NDArray[np.int64],
    kept: Sequence[str],
    theta: NDArray[np.float64] | None,
) -> tuple[_Level, _Level]:
    """Both arms' levels at the covariates' pooled mean."""
    x = table.at(kept)
    centre = _pooled(table, pair)[0][x]
    names = [table.records.covariates[int(name[1:])] for name in kept]
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
            _Level(
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
            )
        )
    return found[0], found[1]


def _resolved(kind: Kind, records: Records, rows: Rows, control: object) -> str:
    """The covariance that is used: HC2 without shared clusters, CR1 with, CR2 when they are few."""
    shared = records.clusters == "coarser"
    if kind.startswith("CR") and records.clusters == "none":
        raise ValueError(f"covariance={kind!r} needs cluster=")
    if kind.startswith("HC") and shared:
        raise ValueError(f"covariance={kind!r} ignores the clusters; use CR0, CR1, CR2 or auto")
    if kind != "auto":
        return kind
    if not shared:
        return "HC2"
    found = rows.grouped(["arm", "cluster"], {}).sums(["arm"], {})
    return "CR2" if found.n.min() < _FEW_CLUSTERS and "cell" not in _aliases(rows) else "CR1"


def _aliases(rows: Rows) -> Sequence[str]:
    """Column aliases of rows."""
    columns = getattr(rows, "columns", None)
    return list(columns) if columns is not None else list(getattr(rows, "table").columns)


def _attached(
    table: _Table,
    levels: Sequence[tuple[_Level, _Level]],
    position: NDArray[np.int64],
    kept: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Constants of every group, as columns for the influence formula."""
    flat = {int(position[a, k]): levels[k][a] for a in (0, 1) for k in range(len(levels))}
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


def _influence(
    outcome: Sequence[str], kept: Sequence[str], kind: str, *, weighted: bool, theta: bool
) -> Expression:
    """Formula of psi, with the leverage correction of HC2 or HC3."""

    def psi(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        x = {name: c[name] - c[f"mean_{name}"] for name in kept}
        e: Any = 0.0
        for name in outcome:
            e = e + c[f"use_{name}"] * (c[name] - c[f"mean_{name}"])
        lever = c["share"]
        h = c["share"]
        for i, name in enumerate(kept):
            e = e - c[f"slope_{name}"] * x[name]
            if not theta:
                lever = lever + c[f"lever_{name}"] * x[name]
                for other in kept[: i + 1]:
                    twice = 1.0 if other == name else 2.0
                    h = h + twice * c[f"inverse_{name}_{other}"] * x[name] * x[other]
        score = lever * e
        if weighted:
            score, h = score * c["w"], h * c["w"]
        if kind == "HC2":
            return score / (1.0 - h) ** 0.5
        return score / (1.0 - h) if kind == "HC3" else score

    return psi


def _errors(
    records: Records,
    rows: Rows,
    levels: Sequence[tuple[_Level, _Level]],
    cells: Sequence[Any],
    kind: str,
    parameters: int,
    control: object,
) -> _Errors:
    """Variances from influences: of records, or of their sums over clusters."""
    keys = ["arm", "cell"] if len(cells) > 1 or "cell" in _aliases(rows) else ["arm"]
    if records.clusters == "none" or (records.clusters == "records" and _separate(rows, keys)):
        return _independent(records, rows, levels, cells, kind, parameters, control, keys)
    return _clustered(records, rows, levels, cells, kind, parameters, control, keys)


def _separate(rows: Rows, keys: Sequence[str]) -> bool:
    """Whether no cluster is in two groups: then records are independent."""
    if len(keys) > 1:
        return False
    clusters = rows.grouped(["cluster"], {}).sums([], {"shared": lambda c: select(c["n"] > 1, 1.0)})
    return bool(clusters.values["shared"][0] == 0)


def _independent(
    records: Records,
    rows: Rows,
    levels: Sequence[tuple[_Level, _Level]],
    cells: Sequence[Any],
    kind: str,
    parameters: int,
    control: object,
    keys: Sequence[str],
) -> _Errors:
    """Heteroskedasticity-robust variances; Welch-Satterthwaite degrees of freedom."""
    squares = rows.sums(keys, {"v": lambda c: c["psi"] * c["psi"]})
    arm_of = np.where(squares.keys["arm"] == control, 0, 1)
    v = np.empty((2, len(cells)))
    for a in (0, 1):
        v[a] = squares.values["v"][arm_of == a]
    _check_finite(v)
    n = np.array([[pair[a].n for pair in levels] for a in (0, 1)])
    single = kind.startswith("CR")
    if kind == "HC1":
        v = v * (n.sum(axis=0) / (n.sum(axis=0) - parameters))
    if kind == "CR1":
        v = v * _cr1_factor(n.sum(axis=0), n.sum(axis=0), parameters)
    used = parameters // 2
    if single:
        df = float(n[:, 0].sum() - 1)
    elif v[:, 0].sum() > 0:
        df = float(v[:, 0].sum() ** 2 / np.sum(v[:, 0] ** 2 / (n[:, 0] - used)))
    else:
        df = float(n[:, 0].sum() - parameters)
    counted = int(n[:, 0].sum()) if records.clusters == "records" and len(cells) == 1 else None
    return _Errors(np.diag(v.sum(axis=0)), df, float(v[0, 0]), -float(v[0, 0]), counted, None, None)


def _clustered(
    records: Records,
    rows: Rows,
    levels: Sequence[tuple[_Level, _Level]],
    cells: Sequence[Any],
    kind: str,
    parameters: int,
    control: object,
    keys: Sequence[str],
) -> _Errors:
    """Variances of cluster sums of influences; a cluster in both arms or in two cells links them."""
    k = len(cells)
    sums: dict[str, Expression] = {}
    for j, cell in enumerate(cells):
        for a in (0, 1):
            here = _here(a, cell if len(keys) > 1 else None, control)
            sums[f"psi{a}_{j}"] = lambda c, f=here: select(f(c), c["psi"])
            sums[f"n{a}_{j}"] = lambda c, f=here: select(f(c), 1.0)
    clusters = rows.grouped(["cluster"], sums)
    products: dict[str, Expression] = {}
    for i in range(k):
        products |= {f"in{a}_{i}": lambda c, x=f"n{a}_{i}": select(c[x] > 0, 1.0) for a in (0, 1)}
        products[f"in_{i}"] = lambda c, i=i: select(c[f"n0_{i}"] + c[f"n1_{i}"] > 0, 1.0)
        products |= {f"v{i}_{j}": _product(i, j) for j in range(i + 1)}
    products["base"] = lambda c: c["psi0_0"] * c["psi0_0"]
    products["cross"] = lambda c: c["psi1_0"] * c["psi0_0"]
    total = clusters.sums([], products)
    value = {name: float(v[0]) for name, v in total.values.items()}
    by_arm = (int(value["in0_0"]), int(value["in1_0"]))
    if min(by_arm) < 2 and records.clusters == "coarser":
        raise ValueError(
            f"every arm needs at least 2 clusters; control and treatment have {by_arm}"
        )
    cov = np.array([[value[f"v{max(i, j)}_{min(i, j)}"] for j in range(k)] for i in range(k)])
    _check_finite(cov)
    g = np.array([value[f"in_{i}"] for i in range(k)])
    n = np.array([pair[0].n + pair[1].n for pair in levels])
    factor = np.sqrt(_cr1_factor(g, n, parameters)) if kind == "CR1" else np.ones(k)
    cov = cov * np.outer(factor, factor)
    largest = clusters.derive({"square": _product(0, 0)}).order_statistics(
        "square", [int(total.n[0])]
    )
    f = float(factor[0] ** 2)
    return _Errors(
        cov=cov,
        df=float(g.min() - 1),
        baseline_variance=f * value["base"],
        baseline_cov=f * (value["cross"] - value["base"]),
        n_clusters=int(total.n[0]),
        clusters_by_arm=by_arm,
        largest_share=f * float(largest[0]) / cov[0, 0] if k == 1 and cov[0, 0] > 0 else None,
    )


def _here(arm: int, cell: object, control: object) -> Expression:
    """Formula: the row is in this arm (0 is control) and cell."""

    def here(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        mine = c["arm"] == control if arm == 0 else c["arm"] != control
        return mine if cell is None else both(mine, c["cell"] == cell)

    return here


def _product(i: int, j: int) -> Expression:
    """Formula: product of two cells' differences within a cluster."""
    return lambda c: (c[f"psi1_{i}"] - c[f"psi0_{i}"]) * (c[f"psi1_{j}"] - c[f"psi0_{j}"])


def _cr1_factor(g: Any, n: Any, parameters: int) -> Any:  # noqa: ANN401 — numbers or arrays
    """Small-sample factor of CR1, as in statsmodels and Stata."""
    return g / (g - 1) * (n - 1) / (n - parameters)


def _check_finite(v: NDArray[np.float64]) -> None:
    """A leverage of 1 divides by zero."""
    if not np.isfinite(v).all():
        raise ValueError(
            "a record has leverage 1: some covariate is non-zero for it alone; leave that covariate "
            "out, or use covariance='HC1'"
        )


def _dense_errors(
    records: Records,
    rows: Rows,
    pair: tuple[_Level, _Level],
    kept: Sequence[str],
    theta: NDArray[np.float64] | None,
    control: object,
) -> _Errors:
    """CR2 from the records themselves: clusters are few, or the user asked for it."""
    extra = ["w"] if records.weighted else []
    wanted = ["arm", "cluster", *pair[0].weights, *kept, *extra]
    found = rows.fetch(list(dict.fromkeys(wanted)))
    treated = (found["arm"] != control).astype(np.float64)
    value = np.zeros(len(treated))
    for a, level in enumerate(pair):
        mine = treated == a
        total = sum(level.weights[c] * (found[c][mine] - level.mean[c]) for c in level.weights)
        value[mine] = total + (level.level - level.slope @ _gap(pair, a, kept))
    scale = float(np.abs(value).max()) or 1.0
    pooled = [
        (pair[0].total * p + pair[1].total * q) / (pair[0].total + pair[1].total)
        for p, q in ((pair[0].mean[x], pair[1].mean[x]) for x in kept)
    ]
    centred = [found[x] - m for x, m in zip(kept, pooled, strict=True)]
    spread = [float(np.abs(x).max()) for x in centred]
    centred = [x / s for x, s in zip(centred, spread, strict=True)]
    if theta is None:
        design = np.column_stack(
            [np.ones_like(treated), treated, *centred, *(treated * x for x in centred)]
        )
    else:
        adjust = sum(
            (t * s * x for t, s, x in zip(theta, spread, centred, strict=True)), np.zeros(1)
        )
        value = value - adjust
        design = np.column_stack([np.ones_like(treated), treated])
    weights = found["w"] if records.weighted else None
    fit = least_squares(design, value / scale, weights=weights)
    label, codes = np.unique(found["cluster"], return_inverse=True)
    cov = covariance_of(fit, design, kind="CR2", clusters=codes)
    by_arm = (len(np.unique(codes[treated == 0])), len(np.unique(codes[treated == 1])))
    if min(by_arm) < 2:
        raise ValueError(
            f"every arm needs at least 2 clusters; control and treatment have {by_arm}"
        )
    v = cov.matrix * scale * scale
    return _Errors(
        cov=v[1:2, 1:2],
        df=float(np.asarray(cov.df).reshape(-1)[1]),
        baseline_variance=float(v[0, 0]),
        baseline_cov=float(v[0, 1]),
        n_clusters=len(label),
        clusters_by_arm=by_arm,
        largest_share=None,
    )


def _gap(pair: tuple[_Level, _Level], a: int, kept: Sequence[str]) -> NDArray[np.float64]:
    """Pooled mean of the covariates minus the arm's."""
    w = [level.total for level in pair]
    return np.array(
        [
            (w[0] * pair[0].mean[x] + w[1] * pair[1].mean[x]) / (w[0] + w[1]) - pair[a].mean[x]
            for x in kept
        ]
    )


def _superpopulation(
    table: _Table,
    groups: NDArray[np.int64],
    kept: Sequence[str],
    pair: tuple[_Level, _Level],
) -> float:
    """(b1 - b0)' V_x (b1 - b0) / n: the extra variance because the mean of x is itself estimated."""
    if not kept:
        return 0.0
    x = table.at(kept)
    _, cross, _ = _pooled(table, groups)
    n = sum(level.n for level in pair)
    gap = pair[1].slope - pair[0].slope
    return float(gap @ (cross[np.ix_(x, x)] / (n - 1)) @ gap) / n if math.isfinite(n) else 0.0
