"""Means by cell and arm, and polynomials over the treated share through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from causal.frame import Table, check_columns, codes, column_names
from causal.linear import covariance, least_squares
from causal.rows import open_rows
from experiments.rotations.row_checks import (
    refuse_beyond_squares,
    refuse_changing,
    refuse_missing,
    refuse_other_arms,
    refuse_outside_unit,
    spread_within,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAME = 1e-18  # squared distance below which two shares of a cell are one
_DECIMALS = 9
_FULL_LEVERAGE = 1 - 1e-9
_INDEPENDENT = 1e-3  # what is new in a contrast: enough for a fit that is well conditioned


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellMeans:
    """One mean a cell and arm, arrays (m,); `mean` is over `scale` and about `centre`.

    `cell` holds codes 0, 1, ..., `n` rows.
    """

    cell: NDArray[np.int64]
    arm: NDArray[np.int64]
    share: NDArray[np.float64]
    mean: NDArray[np.float64]
    n: NDArray[np.float64]
    centre: float
    scale: float

    @property
    def n_cells(self) -> int:
        """Cells with rows."""
        return int(self.cell.max()) + 1

    @property
    def n_rows(self) -> int:
        """Rows behind the means."""
        return int(self.n.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lines:
    """Polynomials of both arms, fitted at once: coefficients of control first, then of treatment.

    `X` is the design (m, 2 (degree + 1)); `root` root' is the covariance of `coef` by cell. All are
    over the means' scale. A contrast weighs the coefficients.
    """

    means: CellMeans
    degree: int
    X: NDArray[np.float64]
    coef: NDArray[np.float64]
    root: NDArray[np.float64]

    def at(self, arm: int, share: float) -> NDArray[np.float64]:
        """The contrast that is an arm's level at a share."""
        found = np.zeros((2, self.degree + 1))
        found[arm] = share ** np.arange(self.degree + 1)
        return found.ravel()

    def contrasts(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values (m,) of contrasts (m, k) and their covariance by cell, in the outcome's unit."""
        root = self.means.scale * (weights @ self.root)
        return self.means.scale * (weights @ self.coef), root @ root.T

    def df(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Satterthwaite's degrees of freedom of contrasts (m, k), shape (m,).

        Those that are independent of each other are made coefficients of one more fit at a time.
        """
        length = np.linalg.norm(weights, axis=1, keepdims=True)
        rows, of_row = np.unique(np.round(weights / length, _DECIMALS), axis=0, return_inverse=True)
        found, left = np.empty(len(rows)), np.arange(len(rows))
        while len(left):
            Q, R, order = linalg.qr(rows[left].T, pivoting=True)
            rank = int((np.abs(np.diag(R)) > _INDEPENDENT).sum())
            chosen = left[order[:rank]]
            X = self.X @ np.linalg.inv(np.vstack([rows[chosen], Q[:, rank:].T]))
            fit = least_squares(X, self.means.mean, weights=self.means.n)
            df = covariance(fit, X, kind="CR2", clusters=self.means.cell).df
            found[chosen] = np.asarray(df)[:rank]
            left = np.setdiff1d(left, chosen)
        return found[of_row.ravel()]


def fitted_lines(means: CellMeans, degree: int) -> Lines | None:
    """Least squares of the means on powers of the share, each arm its own, rows as weights.

    None where one cell alone determines part of a polynomial: its error cannot be seen.
    """
    powers = means.share[:, None] ** np.arange(degree + 1)
    X = np.hstack([powers * (means.arm == k)[:, None] for k in (0, 1)])
    fit = least_squares(X, means.mean, weights=means.n)
    if fit.dropped or fit.leverage.max() > _FULL_LEVERAGE:
        return None
    values, vectors = np.linalg.eigh(covariance(fit, X, kind="CR2", clusters=means.cell).matrix)
    root = vectors * np.sqrt(np.maximum(values, 0))  # arms that move as one: no variance below 0
    return Lines(means=means, degree=degree, X=X, coef=fit.coef, root=root)


def open_cells(frame: Table, *, outcome: str, arm: str, share: str, cell: str) -> CellMeans:
    """Open and check a table, and sum it by cell and arm; raises ValueError for what is no such."""
    roles = {"outcome": outcome, "arm": arm, "share": share, "cell": cell}
    check_columns(column_names(frame), dict(roles))
    named = {"y": outcome, "arm": arm, "share": share}
    rows = open_rows(frame, numeric=named, labels={"cell": cell})
    refuse_missing(rows, named)
    refuse_other_arms(rows, "arm", arm)
    refuse_outside_unit(rows, "share", share)
    ids, of_cell, square = spread_within(rows, "cell", "share")
    refuse_changing(square > _SAME, ids, name=f"share {share!r}", unit=f"cell {cell!r}")
    rows.refuse(
        lambda c: c["share"] == 1 - c["arm"],
        "share",
        name=f"share {share!r}",
        rule="be above 0 in treated rows and below 1 in control rows",
        do="correct arms or shares",
    )
    pilot = rows.pilot(["y"], exact=True)
    centre, scale = pilot.centre["y"], pilot.scale["y"]
    refuse_beyond_squares(outcome, scale)
    groups = rows.sums(["cell", "arm"], {"y": lambda c: (c["y"] - centre) / scale})
    at = codes(groups.keys["cell"])[0]
    return CellMeans(
        cell=at,
        arm=groups.keys["arm"].astype(np.int64),
        share=np.round(of_cell, _DECIMALS)[at],
        mean=groups.values["y"] / groups.n,
        n=groups.n.astype(np.float64),
        centre=centre,
        scale=scale,
    )
