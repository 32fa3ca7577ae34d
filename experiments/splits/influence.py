"""Standard errors from influences: each record's share in the error of its arm's level.

In arm a the influence of a record on the fitted level at xbar, the pooled mean of the covariates,
is psi = w c e, with residual e and c = 1/W_a + (xbar - xbar_a)' S_a^-1 (x - xbar_a). Squared
influences sum to the HC variance, squared cluster sums of influences to the CR variance, products
of two cells' cluster sums to their covariance. HC2 and HC3 divide psi by (1 - h)^(1/2) and 1 - h,
where h is the leverage. White (1980); MacKinnon and White (1985); Bell and McCaffrey (2002): CR2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.frame import codes as codes_of
from causal.linear import covariance as covariance_of
from causal.linear import least_squares
from causal.rows import Expression, Rows, both, column, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from experiments.splits.records import Records

Kind: TypeAlias = Literal["auto", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2"]

_FEW_CLUSTERS = 50
_PINNED = 1e-10  # 1 - leverage below which a residual is 0 whatever its error was


@dataclass(frozen=True)
class Level:
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
    total_square: float


@dataclass(frozen=True)
class Errors:
    """Covariance of the K differences, df (K,), and what the first cell's relative effect needs."""

    cov: NDArray[np.float64]
    df: NDArray[np.float64]
    baseline_variance: float
    baseline_cov: float
    n_clusters: int | None
    clusters_by_arm: tuple[int, int] | None
    largest_share: float | None


def resolved_kind(kind: Kind, records: Records, rows: Rows, *, by_cell: bool) -> str:
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
    if by_cell:
        return "CR1"
    clusters = rows.grouped(["arm", "cluster"], {}).sums(["arm"], {}).n
    return "CR2" if clusters.min() < _FEW_CLUSTERS else "CR1"


def influence(
    outcome: Sequence[str], kept: Sequence[str], kind: str, *, weighted: bool, theta: bool
) -> dict[str, Expression]:
    """Formulas of psi, with the correction of HC2 or HC3, and of records of leverage 1: pinned."""
    corrected = kind in ("HC2", "HC3")

    def left(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        h = c["share"]
        for i, name in enumerate([] if theta else kept):
            for other in kept[: i + 1]:
                twice = 1.0 if other == name else 2.0
                product = (c[name] - c[f"mean_{name}"]) * (c[other] - c[f"mean_{other}"])
                h = h + twice * c[f"inverse_{name}_{other}"] * product
        return 1.0 - (h * c["w"] if weighted else h)

    def pinned(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        return select(left(c) < _PINNED, 1.0) if corrected else c["share"] * 0.0

    def psi(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        e: Any = 0.0
        for name in outcome:
            e = e + c[f"use_{name}"] * (c[name] - c[f"mean_{name}"])
        lever = c["share"]
        for name in kept:
            x = c[name] - c[f"mean_{name}"]
            e = e - c[f"slope_{name}"] * x
            lever = lever if theta else lever + c[f"lever_{name}"] * x
        score = lever * e * c["w"] if weighted else lever * e
        if not corrected:
            return score
        room = select(left(c) >= _PINNED, left(c)) + pinned(c)
        return score / room**0.5 if kind == "HC2" else score / room

    return {"psi": psi, "pinned": pinned}


def independent_errors(
    records: Records,
    v: NDArray[np.float64],
    levels: Sequence[tuple[Level, Level]],
    kind: str,
    parameters: int,
) -> Errors:
    """Errors from the arms' variances v (2, K); Welch-Satterthwaite degrees of freedom."""
    n = np.array([[pair[a].n for pair in levels] for a in (0, 1)])
    if kind in ("HC1", "CR1"):
        g = n.sum(axis=0)
        v = v * (g / (g - parameters) if kind == "HC1" else _cr1_factor(g, g, parameters))
    first, both_arms = v[:, 0], v.sum(axis=0)
    df = n.sum(axis=0) - (1.0 if kind.startswith("CR") else float(parameters))
    varying = both_arms > 0
    if not kind.startswith("CR") and varying.any():
        part = v[:, varying] / both_arms[varying]
        df[varying] = 1 / np.sum(part**2 / (n[:, varying] - parameters // 2), axis=0)
    counted = int(n[:, 0].sum()) if records.clusters == "records" else None
    return Errors(
        np.diag(v.sum(axis=0)), df, float(first[0]), -float(first[0]), counted, None, None
    )


def squared_influences(rows: Rows, cells: tuple[Any, ...], control: object) -> NDArray[np.float64]:
    """Sum of psi^2 by arm (control first) and cell, shape (2, K)."""
    keys = ["arm"] if cells == (None,) else ["arm", "cell"]
    squares = rows.sums(keys, {"v": lambda c: c["psi"] * c["psi"], "pinned": column("pinned")})
    _check_leverage(squares.values["pinned"].sum())
    is_control = squares.keys["arm"] == control
    return np.stack([squares.values["v"][is_control], squares.values["v"][~is_control]])


def mean_variances(levels: Sequence[tuple[Level, Level]], kind: str) -> NDArray[np.float64]:
    """The same without covariates and weights, where psi = e / n is known from the moments."""
    v = np.array([[pair[a].residual / pair[a].n ** 2 for pair in levels] for a in (0, 1)])
    n = np.array([[pair[a].n for pair in levels] for a in (0, 1)])
    power = {"HC2": 1, "HC3": 2}.get(kind, 0)
    return np.asarray(v * (n / (n - 1)) ** power)


def clustered_errors(
    records: Records,
    rows: Rows,
    levels: Sequence[tuple[Level, Level]],
    cells: tuple[Any, ...],
    kind: str,
    parameters: int,
    control: object,
) -> Errors:
    """Variances of cluster sums of influences; a cluster in both arms or two cells links them."""
    k = len(cells)
    clusters = rows.grouped(["cluster"], _cluster_sums(cells, control))
    total = clusters.sums([], _cluster_products(k))
    value = {name: float(v[0]) for name, v in total.values.items()}
    _check_leverage(value["pinned"])
    by_arm = (int(value["in0"]), int(value["in1"]))
    if records.clusters == "coarser":
        for i, cell in enumerate(cells):
            _check_clusters((int(value[f"in0_{i}"]), int(value[f"in1_{i}"])), cell)
    cov = np.array([[value[f"v{max(i, j)}_{min(i, j)}"] for j in range(k)] for i in range(k)])
    g = np.array([value[f"in_cell{i}"] for i in range(k)])
    n = np.array([pair[0].n + pair[1].n for pair in levels])
    factor = np.sqrt(_cr1_factor(g, n, parameters)) if kind == "CR1" else np.ones(k)
    cov = cov * np.outer(factor, factor)
    squares = clusters.derive({"square": _product(0, 0)})
    largest = float(squares.order_statistics("square", [int(total.n[0])])[0])
    f = float(factor[0] ** 2)
    return Errors(
        cov=cov,
        df=g - 1 if kind.startswith("CR") else _welch(value, levels, parameters, g - 1),
        baseline_variance=f * value["base"],
        baseline_cov=f * (value["cross"] - value["base"]),
        n_clusters=int(total.n[0]),
        clusters_by_arm=by_arm,
        largest_share=f * largest / float(cov[0, 0]) if k == 1 and cov[0, 0] > 0 else None,
    )


def _welch(
    value: Mapping[str, float],
    levels: Sequence[tuple[Level, Level]],
    parameters: int,
    most: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Welch-Satterthwaite degrees of freedom of every cell, `most` (of clusters) at most."""
    df = most.astype(np.float64)
    for k, pair in enumerate(levels):
        v = np.array([value[f"a0_{k}"], value[f"a1_{k}"]])
        if v.sum() > 0:
            room = np.array([arm.n - parameters // 2 for arm in pair])
            df[k] = min(v.sum() ** 2 / np.sum(v**2 / room), most[k])
    return df


def _cluster_sums(cells: tuple[Any, ...], control: object) -> dict[str, Expression]:
    """Formulas of influences and rows by arm and cell, to be summed over a cluster."""
    sums: dict[str, Expression] = {"pinned": column("pinned")}
    for j, cell in enumerate(cells):
        for a in (0, 1):
            sums[f"psi{a}_{j}"] = _here(a, cell, control, "psi")
            sums[f"n{a}_{j}"] = _here(a, cell, control, None)
    return sums


def _cluster_products(k: int) -> dict[str, Expression]:
    """Formulas of products of cluster sums, and of which clusters an arm or a cell has."""
    products: dict[str, Expression] = {
        "pinned": column("pinned"),
        "in0": _in_arm(0, range(k)),
        "in1": _in_arm(1, range(k)),
        "base": lambda c: c["psi0_0"] * c["psi0_0"],
        "cross": lambda c: c["psi1_0"] * c["psi0_0"],
    }
    for i in range(k):
        products[f"in_cell{i}"] = _in_cell(i)
        products |= {f"in{a}_{i}": _in_arm(a, [i]) for a in (0, 1)}
        products |= {f"a{a}_{i}": _squared(f"psi{a}_{i}") for a in (0, 1)}
        products |= {f"v{i}_{j}": _product(i, j) for j in range(i + 1)}
    return products


def _squared(name: str) -> Expression:
    """Formula of a column's square."""
    return lambda c: c[name] * c[name]


def _in_arm(arm: int, cells: Sequence[int]) -> Expression:
    """Formula: the cluster has a record in the arm, in one of these cells."""
    return lambda c: select(sum(c[f"n{arm}_{i}"] for i in cells) > 0, 1.0)


def _in_cell(i: int) -> Expression:
    """Formula: the cluster has a record in the cell."""
    return lambda c: select(c[f"n0_{i}"] + c[f"n1_{i}"] > 0, 1.0)


def _here(arm: int, cell: object, control: object, column: str | None) -> Expression:
    """Formula: a column (1 if None) where the row is in this arm (0 is control) and cell."""

    def here(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        mine = c["arm"] == control if arm == 0 else c["arm"] != control
        mine = mine if cell is None else both(mine, c["cell"] == cell)
        return select(mine, 1.0 if column is None else c[column])

    return here


def _product(i: int, j: int) -> Expression:
    """Formula: product of two cells' differences within a cluster."""
    return lambda c: (c[f"psi1_{i}"] - c[f"psi0_{i}"]) * (c[f"psi1_{j}"] - c[f"psi0_{j}"])


def _cr1_factor(g: Any, n: Any, parameters: int) -> Any:  # noqa: ANN401 — numbers or arrays
    """Small-sample factor of CR1, as in statsmodels and Stata."""
    return g / (g - 1) * (n - 1) / (n - parameters)


def _check_leverage(pinned: float) -> None:
    """Refuse records whose residual is 0 whatever their error was."""
    if pinned > 0:
        raise ValueError(
            f"{int(pinned)} record(s) have leverage 1: some covariate (or weight) stands on one "
            "record alone; leave that covariate out, or use covariance='HC1'"
        )


def _check_clusters(by_arm: tuple[int, int], cell: object = None) -> None:
    """Refuse an arm (of a cell) with fewer than two clusters."""
    if min(by_arm) < 2:
        where = "" if cell is None else f" in cell {cell!r}"
        raise ValueError(
            f"every arm needs at least 2 clusters{where}; control and treatment have {by_arm}"
        )


def dense_errors(
    records: Records,
    rows: Rows,
    pair: tuple[Level, Level],
    kept: Sequence[str],
    theta: NDArray[np.float64] | None,
    control: object,
) -> Errors:
    """CR2 from the records themselves: clusters are few, or the user asked for it."""
    weight = ["w"] if records.weighted else []
    found = rows.fetch(["arm", "cluster", *pair[0].weights, *kept, *weight])
    treated = (found["arm"] != control).astype(np.float64)
    codes, labels = codes_of(found["cluster"])
    by_arm = (len(np.unique(codes[treated == 0])), len(np.unique(codes[treated == 1])))
    _check_clusters(by_arm)
    design, value = _dense_regression(found, treated, pair, kept, theta)
    scale = float(np.abs(value).max()) or 1.0
    weights = found["w"] if records.weighted else None
    fit = least_squares(design, value / scale, weights=weights)
    cov = covariance_of(fit, design, kind="CR2", clusters=codes)
    v = cov.matrix * scale * scale
    scores = (design @ fit.bread[:, 1]) * fit.resid * (1.0 if weights is None else weights)
    squares = np.bincount(codes, scores) ** 2
    return Errors(
        cov=v[1:2, 1:2],
        df=np.asarray(cov.df)[1:2],
        baseline_variance=float(v[0, 0]),
        baseline_cov=float(v[0, 1]),
        n_clusters=len(labels),
        clusters_by_arm=by_arm,
        largest_share=float(squares.max() / squares.sum()) if squares.any() else None,
    )


def _dense_regression(
    found: Mapping[str, NDArray[Any]],
    treated: NDArray[np.float64],
    pair: tuple[Level, Level],
    kept: Sequence[str],
    theta: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Design (intercept, arm, centred covariates and their products) and outcome deviations.

    The outcome is taken from its arm's mean: that moves the coefficient of the arm, which is known
    already, and leaves every residual as it is.
    """
    mine = [treated == 0, treated == 1]
    value = np.zeros(len(treated))
    for rows_of, level in zip(mine, pair, strict=True):
        for name, use in level.weights.items():
            value[rows_of] += use * (found[name][rows_of] - level.mean[name])
    share = pair[1].total / (pair[0].total + pair[1].total)
    columns = []
    for j, name in enumerate(kept):
        centre = (1 - share) * pair[0].mean[name] + share * pair[1].mean[name]
        x = found[name] - centre
        if theta is not None:
            value = value - theta[j] * x
        else:
            columns += [x / np.abs(x).max()]
    ones = np.ones_like(treated)
    design = np.column_stack([ones, treated, *columns, *(treated * x for x in columns)])
    return design, value
