"""Eliminate crossed effects (viewers and authors, units and periods) from columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from causal.sandwich import first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    _Solve = Callable[[NDArray[np.float64], "_Target", int], tuple[NDArray[np.float64], int]]

_DENSE_LEVELS = 2_000  # up to which the Schur complement is formed
_DENSE_WORK = 200  # products a cell that forming it may take
_ROUNDING = 64 * np.finfo(float).eps
_SLACK = 0.3  # of the targets, at which conjugate gradients stop: rounding comes on top
_NONE = np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Absorbed:
    """Columns without the absorbed effects, on the rows that were kept.

    Parameters
    ----------
    columns : (n, m) array
        Residuals of the columns on all effects.
    kept : (n_passed,) array of bool
        Rows of positive weight that are not alone in a level of an effect.
    codes : tuple of (n,) arrays
        Dense codes of each effect on the kept rows.
    n_levels : tuple of int
        Levels of each effect among them.
    shared : (J, J) array of int
        Connected components of each pair of effects.
    n_components : int
        Sets of levels that share no row with the others; 1 with one effect.
    largest_share : float
        Share of the kept rows in the largest of them.
    singletons : int
        Rows that were alone in a level, dropped one after the other.
    n_iterations : int
        Of conjugate gradients, direct solutions counting as 1 each; 0 with one effect.
    weights : (n,) array or None
        Of the kept rows, of mean 1.
    norms : (m,) array
        Weighted norms of the columns about their means, before.
    rounding : (m,) array
        Norms that rounding alone may leave.
    """

    columns: NDArray[np.float64]
    kept: NDArray[np.bool_]
    codes: tuple[NDArray[np.int64], ...]
    n_levels: tuple[int, ...]
    shared: NDArray[np.int64]
    n_components: int
    largest_share: float
    singletons: int
    n_iterations: int
    weights: NDArray[np.float64] | None
    norms: NDArray[np.float64]
    rounding: NDArray[np.float64]


def absorb(
    effects: Sequence[NDArray[np.int64]],
    columns: NDArray[np.float64],
    *,
    weights: NDArray[np.float64] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 10_000,
    names: Sequence[str] | None = None,
) -> Absorbed:
    """Residuals of columns on the dummies of one or more effects, by least squares.

    Parameters
    ----------
    effects : sequence of (n,) arrays of int64
        Codes >= 0 of each effect; not all need occur.
    columns : (n, m) array
        Finite.
    weights : (n,) array, optional
        Not negative, not all 0; rows of weight 0 are left out.
    tolerance : float
        Of the residual of the normal equations, relative to their right-hand side in norm, and
        to the column's standard deviation in each sum over a level.
    max_iterations : int
        Of conjugate gradients, over all columns at once.
    names : sequence of m str, optional
        Of the columns, for messages.

    Returns
    -------
    Absorbed

    Raises
    ------
    ValueError
        If no row remains without singletons, or the tolerance is not reached.

    Notes
    -----
    The effect V with the most levels is eliminated exactly; for the others, D, stays
    S b = D'W(z - mean of z in the level of V), S = D'WD - D'WV (V'WV)^-1 V'WD. S is never formed:
    S b costs one pass over the distinct combinations of levels, and conjugate gradients with its
    diagonal as preconditioner solve for all columns at once. Up to 2,000 levels S is formed, where
    that is cheap, and factored by Cholesky with pivots, which finds the components. Residuals are
    always checked on the rows; what is left is solved for again.

    References
    ----------
    Abowd, Creecy and Kramarz (2002); Correia (2016), A feasible estimator for linear models with
    multi-way fixed effects.
    """
    rows = _Rows.of(effects, weights)
    Z, norms, rounding = _centred(columns, rows)
    labels = tuple(f"column {j}" for j in range(Z.shape[1])) if names is None else tuple(names)
    n_iterations = 0
    if len(rows.codes) == 1:
        for _ in range(2):  # the second pass takes the rounding of the first
            means = rows.sums(Z, 0) / rows.mass[0][:, None]
            rows.subtract(Z, 0, means, then=0)
    else:
        n_iterations = _eliminate(
            rows, Z, norms, tolerance=tolerance, max_iterations=max_iterations, names=labels
        )
    shared, parts, share = _components(rows.codes, rows.n_levels)
    return Absorbed(
        columns=Z,
        kept=rows.kept,
        codes=rows.codes,
        n_levels=rows.n_levels,
        shared=shared,
        n_components=parts,
        largest_share=share,
        singletons=rows.singletons,
        n_iterations=n_iterations,
        weights=rows.weights,
        norms=norms,
        rounding=rounding,
    )


def rows_to_keep(
    effects: Sequence[NDArray[np.int64]], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.bool_], int]:
    """Rows of positive weight that are not alone in a level, and how many were; as in `absorb`."""
    from causal.kernels.demean import drop_singletons  # noqa: PLC0415 — numba, when used

    kept = np.ones(len(effects[0]), dtype=bool) if weights is None else weights > 0
    table = np.ascontiguousarray(np.stack(list(effects)), dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(table.max(axis=1) + 1)])
    singletons = int(drop_singletons(table, offset, kept))
    if not kept.any():
        raise ValueError(
            f"every row is alone in a level of an absorbed effect; {singletons} rows were dropped "
            "one after the other and none is left: absorb coarser effects"
        )
    return kept, singletons


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Kept rows: dense codes of each effect, weights of mean 1, and their sum in each level."""

    kept: NDArray[np.bool_]
    codes: tuple[NDArray[np.int64], ...]
    mass: tuple[NDArray[np.float64], ...]
    weights: NDArray[np.float64] | None
    singletons: int

    @classmethod
    def of(
        cls,
        effects: Sequence[NDArray[np.int64]],
        weights: NDArray[np.float64] | None,
    ) -> _Rows:
        """Drop rows of weight 0 and singletons; make the codes dense."""
        kept, singletons = rows_to_keep(effects, weights)
        table = [np.ascontiguousarray(codes, dtype=np.int64) for codes in effects]
        codes = tuple(_dense(codes if kept.all() else codes[kept]) for codes in table)
        w = None if weights is None else weights[kept] / weights[kept].mean()
        mass = tuple(np.bincount(c, w).astype(np.float64) for c in codes)
        return cls(kept, codes, mass, w, singletons)

    @property
    def n_levels(self) -> tuple[int, ...]:
        """Levels of each effect."""
        return tuple(len(mass) for mass in self.mass)

    @property
    def row_weights(self) -> NDArray[np.float64]:
        """Weights for kernels: empty without any."""
        return _NONE if self.weights is None else self.weights

    def sums(self, Z: NDArray[np.float64], effect: int) -> NDArray[np.float64]:
        """Weighted sums of Z by level."""
        from causal.kernels.demean import add_by_level  # noqa: PLC0415 — numba, when used

        total = np.zeros((self.n_levels[effect], Z.shape[1]))
        add_by_level(Z, self.codes[effect], self.row_weights, total)
        return total

    def subtract(
        self, Z: NDArray[np.float64], effect: int, values: NDArray[np.float64], *, then: int
    ) -> NDArray[np.float64]:
        """Subtract values by level in place; returns the sums of the rest by level of `then`."""
        from causal.kernels.demean import subtract_and_add  # noqa: PLC0415 — numba, when used

        total = np.zeros((self.n_levels[then], Z.shape[1]))
        subtract_and_add(Z, self.codes[effect], values, self.codes[then], self.row_weights, total)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """When the normal equations count as solved: r in norm, and in each of its sums, by column."""

    norm: NDArray[np.float64]
    largest: NDArray[np.float64]

    def met(self, r: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether r (n_levels, m) is small enough, for each column."""
        return self.reached(np.einsum("ij,ij->j", r, r), np.abs(r).max(axis=0))

    def reached(
        self, square: NDArray[np.float64], largest: NDArray[np.float64], slack: float = 1.0
    ) -> NDArray[np.bool_]:
        """The same of squared norms and largest sums, (m,)."""
        small = (square <= (slack * self.norm) ** 2) & (largest <= slack * self.largest)
        return np.asarray(small)

    def of(self, columns: slice) -> _Target:
        """Those of some columns."""
        return _Target(self.norm[columns], self.largest[columns])


def _dense(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes without gaps."""
    present = np.zeros(int(codes.max()) + 1, dtype=bool)
    present[codes] = True
    return codes if present.all() else (np.cumsum(present) - 1)[codes]


def _centred(
    columns: NDArray[np.float64], rows: _Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Columns about their means, their norms, and the norms of rounding."""
    n, m = len(rows.codes[0]), columns.shape[1]
    Z, norms, peaks = np.empty((n, m)), np.empty(m), np.empty(m)
    for j in range(m):
        column = np.ascontiguousarray(columns[:, j])
        column = column if len(column) == n else column[rows.kept]
        peaks[j] = max(column.max(), -column.min())
        column = column - column[0]  # else the mean of a column far from 0 is rounding
        column -= np.average(column, weights=rows.weights)
        w = column if rows.weights is None else column * rows.weights
        norms[j] = np.sqrt(column @ w)
        Z[:, j] = column
    return Z, norms, _ROUNDING * peaks * np.sqrt(n)


# ---- two and more effects ----


@dataclass(frozen=True, slots=True, eq=False)
class _System:
    """S b = r over the levels of all effects but the largest: cells by level of the largest.

    pointer (n_first + 1,), index (n_cells, J - 1), mass (n_cells,), total (n_first,), n_levels;
    factor: pivoted Cholesky of the scaled S, where it was formed.
    """

    pointer: NDArray[np.int64]
    index: NDArray[np.int32]
    mass: NDArray[np.float64]
    total: NDArray[np.float64]
    n_levels: int

    def times(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """S p."""
        from causal.kernels.demean import schur_times, schur_times_pair  # noqa: PLC0415 — numba

        out = np.empty_like(p)
        multiply = schur_times_pair if self.in_pairs and p.shape[1] == 2 else schur_times
        multiply(self.pointer, self.index, self.mass, self.total, p, out)
        return out

    @property
    def in_pairs(self) -> bool:
        """Whether two columns at a time are fastest."""
        return bool(self.index.shape[1] == 1)

    @property
    def is_small(self) -> bool:
        """Whether S is to be formed."""
        work = float(np.sum(np.diff(self.pointer).astype(float) ** 2)) * self.index.shape[1] ** 2
        return bool(self.n_levels <= _DENSE_LEVELS and work <= _DENSE_WORK * len(self.mass))


def _eliminate(
    rows: _Rows,
    Z: NDArray[np.float64],
    norms: NDArray[np.float64],
    *,
    tolerance: float,
    max_iterations: int,
    names: tuple[str, ...],
) -> int:
    """Subtract all effects from Z in place; returns the iterations of conjugate gradients."""
    leader, *others = sorted(range(len(rows.codes)), key=lambda j: -rows.n_levels[j])
    bounds = np.concatenate([[0], np.cumsum([rows.n_levels[j] for j in others])])

    def demeaned(total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Subtract means by level of the leader from their sums; the sums of the others."""
        means = total / rows.mass[leader][:, None]
        found = [rows.subtract(Z, leader, means, then=others[0])]
        return np.vstack([*found, *(rows.sums(Z, j) for j in others[1:])])

    left = demeaned(rows.sums(Z, leader))
    solve = _solver(_system(rows, leader, others, bounds))
    target = _target(left, np.concatenate([rows.mass[j] for j in others]), norms, tolerance)
    used, before = 0, np.inf
    while not used or not target.met(left).all():
        far = float(np.max(np.linalg.norm(left, axis=0) / target.norm))
        if used >= max_iterations or far > 0.5 * before:
            late = [name for name, met in zip(names, target.met(left), strict=True) if not met]
            raise ValueError(
                f"absorbing the effects did not converge in {used} iterations (max_iterations = "
                f"{max_iterations}): residual {far * tolerance:.2g} of {first(late)} against a "
                f"tolerance of {tolerance:.2g}; raise max_iterations or tolerance"
            )
        b, steps = solve(left, target, max_iterations - used)
        used, before = used + steps, far
        for j, low, high in zip(others, bounds, bounds[1:], strict=False):
            total = rows.subtract(Z, j, b[low:high], then=leader)
        left = demeaned(total)
    return used


def _target(
    left: NDArray[np.float64],
    weight: NDArray[np.float64],
    norms: NDArray[np.float64],
    tolerance: float,
) -> _Target:
    """Tolerances of the normal equations, but no less than rounding leaves in sums."""
    sd = np.maximum(norms / np.sqrt(weight.sum()), np.finfo(float).tiny)
    return _Target(
        np.maximum(tolerance * np.linalg.norm(left, axis=0), _ROUNDING * sd * _length(weight)),
        np.maximum(tolerance, _ROUNDING * weight.max()) * sd,
    )


def _length(weight: NDArray[np.float64]) -> float:
    """Euclidean norm."""
    return float(np.linalg.norm(weight))


def _system(rows: _Rows, leader: int, others: list[int], bounds: NDArray[np.int64]) -> _System:
    """Collapse the rows to combinations of levels."""
    from causal.kernels.demean import cells_by_level  # noqa: PLC0415 — numba, when used

    n = len(rows.codes[0])
    pointer = np.empty(rows.n_levels[leader] + 1, dtype=np.int64)
    index, mass = np.empty((n, len(others)), dtype=np.int32), np.empty(n)
    codes = np.stack([rows.codes[j] for j in others])
    cells = slice(
        cells_by_level(rows.codes[leader], codes, bounds, rows.row_weights, pointer, index, mass)
    )
    return _System(pointer, index[cells], mass[cells], rows.mass[leader], int(bounds[-1]))


def _solver(system: _System) -> _Solve:
    """How to solve S b = r: (r, target, most iterations) -> (b, iterations)."""
    from causal.kernels.demean import schur_dense, schur_diagonal  # noqa: PLC0415 — when used

    cells = (system.pointer, system.index, system.mass, system.total)
    diagonal = np.empty(system.n_levels)
    schur_diagonal(*cells, diagonal)
    seen = diagonal > _ROUNDING * diagonal.max()
    if not system.is_small:
        inverse = np.where(seen, 1 / np.where(seen, diagonal, 1.0), 0.0)
        return partial(_in_pairs if system.in_pairs else _conjugate_gradients, system, inverse)
    S = np.empty((system.n_levels, system.n_levels))
    schur_dense(*cells, S)
    scale = np.sqrt(np.where(seen, diagonal, np.inf))
    root, pivots, rank, _ = linalg.lapack.dpstrf(S / np.outer(scale, scale), tol=1e-12, lower=1)
    at, L = pivots[:rank] - 1, np.tril(root[:rank, :rank])

    def direct(
        r: NDArray[np.float64], _target: _Target, _most: int
    ) -> tuple[NDArray[np.float64], int]:
        b = np.zeros_like(r)
        b[at] = linalg.cho_solve((L, True), (r / scale[:, None])[at]) / scale[at, None]
        return b, 1

    return direct


def _in_pairs(
    system: _System,
    inverse: NDArray[np.float64],
    rhs: NDArray[np.float64],
    target: _Target,
    most: int,
) -> tuple[NDArray[np.float64], int]:
    """`_conjugate_gradients` of two columns at a time."""
    b, steps = np.empty_like(rhs), 0
    for j in range(0, rhs.shape[1], 2):
        pair = slice(j, j + 2)
        columns = np.ascontiguousarray(rhs[:, pair])
        b[:, pair], used = _conjugate_gradients(system, inverse, columns, target.of(pair), most)
        steps = max(steps, used)
    return b, steps


def _conjugate_gradients(
    system: _System,
    inverse: NDArray[np.float64],
    rhs: NDArray[np.float64],
    target: _Target,
    most: int,
) -> tuple[NDArray[np.float64], int]:
    """Solve S b = rhs for all columns; each stops at its target. S is singular but consistent."""
    from causal.kernels.demean import step_along, turn  # noqa: PLC0415 — numba, when used

    m = rhs.shape[1]
    b, r = np.zeros_like(rhs), rhs.copy()
    p = inverse[:, None] * r
    rz, new, square, largest = np.einsum("ij,ij->j", r, p), np.empty(m), np.empty(m), np.empty(m)
    going = ~target.met(r)
    for step in range(1, most + 1):
        Sp = system.times(p)
        curve = np.einsum("ij,ij->j", p, Sp)
        going &= curve > 0
        alpha = np.where(going, rz / np.where(going, curve, 1.0), 0.0)
        step_along(b, r, p, Sp, inverse, alpha, new, square, largest)
        going &= ~target.reached(square, largest, _SLACK)
        if not going.any():
            return b, step
        turn(p, r, inverse, np.where(going, new / np.where(going, rz, 1.0), 0.0))
        rz = new.copy()
    return b, most


# ---- which levels share rows ----


def _components(
    codes: tuple[NDArray[np.int64], ...], n_levels: tuple[int, ...]
) -> tuple[NDArray[np.int64], int, float]:
    """Components of each pair of effects, of all, and the share of rows in the largest."""
    from causal.kernels.demean import join_levels  # noqa: PLC0415 — numba, when used

    n_effects = len(codes)
    shared = np.diag(np.array(n_levels, dtype=np.int64))
    if n_effects == 1:
        return shared, 1, 1.0
    offset = np.concatenate([[0], np.cumsum(n_levels)])
    parent = np.arange(offset[-1])
    n_sets = int(offset[-1])
    for j in range(1, n_effects):
        n_sets -= int(join_levels(codes[0], codes[j] + offset[j], parent))
    for j in range(n_effects):
        for i in range(j):
            pair = np.arange(n_levels[i] + n_levels[j])
            joined = len(pair) - n_sets
            if n_effects > 2:
                joined = int(join_levels(codes[i], codes[j] + n_levels[i], pair))
            shared[i, j] = shared[j, i] = len(pair) - joined
    largest = np.bincount(parent[codes[0]]).max() / len(codes[0])
    return shared, n_sets, float(largest)
