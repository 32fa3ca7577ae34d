"""Loops behind crossed effects: singletons, distinct cells, Schur complement, components.

Compiled for the types below when the module is first imported and cached on disk; arrays of
another type raise instead of compiling anew. Everything runs in one thread, in the order of the
rows: the same input gives the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from numba import types

if TYPE_CHECKING:
    from numpy.typing import NDArray

_codes = types.Array(types.int64, 1, "C", readonly=True)
_effects = types.Array(types.int64, 2, "C", readonly=True)
_index = types.Array(types.int32, 2, "C", readonly=True)
_vector = types.Array(types.float64, 1, "C", readonly=True)
_matrix = types.Array(types.float64, 2, "C", readonly=True)
_codes_out = types.Array(types.int64, 1, "C")
_index_out = types.Array(types.int32, 2, "C")
_vector_out = types.Array(types.float64, 1, "C")
_matrix_out = types.Array(types.float64, 2, "C")
_mask_out = types.Array(types.boolean, 1, "C")


@numba.njit(types.int64(_effects, _codes, _mask_out), cache=True)
def drop_singletons(
    effects: NDArray[np.int64], offset: NDArray[np.int64], kept: NDArray[np.bool_]
) -> int:
    """Take out rows that are alone in a level, and those that are alone then; returns how many.

    Parameters
    ----------
    effects : (J, n) array
        Codes of each effect.
    offset : (J + 1,) array
        Where the levels of each effect begin among all levels.
    kept : (n,) array of bool
        Changed in place.
    """
    n_effects, n = effects.shape
    count = np.zeros(offset[-1], dtype=np.int64)
    rows = np.zeros(offset[-1], dtype=np.int64)  # sum of a level's row numbers: the row, if alone
    for j in range(n_effects):
        for i in range(n):
            if kept[i]:
                level = offset[j] + effects[j, i]
                count[level] += 1
                rows[level] += i
    waiting = np.empty(offset[-1], dtype=np.int64)
    n_waiting, dropped = 0, 0
    for level in range(offset[-1]):
        if count[level] == 1:
            waiting[n_waiting] = level
            n_waiting += 1
    while n_waiting > 0:
        n_waiting -= 1
        level = waiting[n_waiting]
        if count[level] != 1:  # its row went with another level
            continue
        i = rows[level]
        kept[i] = False
        dropped += 1
        for j in range(n_effects):
            other = offset[j] + effects[j, i]
            count[other] -= 1
            rows[other] -= i
            if count[other] == 1:  # reached once only: counts never grow
                waiting[n_waiting] = other
                n_waiting += 1
    return dropped


@numba.njit(
    types.int64(_codes, _effects, _codes, _vector, _codes_out, _index_out, _vector_out),
    cache=True,
)
def cells_by_level(
    leader: NDArray[np.int64],
    others: NDArray[np.int64],
    offset: NDArray[np.int64],
    weights: NDArray[np.float64],
    pointer: NDArray[np.int64],
    index: NDArray[np.int32],
    mass: NDArray[np.float64],
) -> int:
    """Combinations of levels, by level of the leading effect; returns their number.

    With one other effect rows of the same combination become one cell; with more each is its own.

    Parameters
    ----------
    leader : (n,) array
        Codes of the leading effect.
    others : (J, n) array
        Codes of the other effects.
    offset : (J + 1,) array
        Where the levels of each begin among theirs.
    weights : (n,) array
        Of rows, or empty: then rows are counted.
    pointer : (n_leading + 1,), index : (n, J), mass : (n,) arrays
        Filled: where the cells of each level begin, their levels, their weight.
    """
    n_others, n = others.shape
    pointer[:] = 0
    for i in range(n):
        pointer[leader[i] + 1] += 1
    for level in range(len(pointer) - 1):
        pointer[level + 1] += pointer[level]
    place = pointer[:-1].copy()
    for i in range(n):
        at = place[leader[i]]
        place[leader[i]] = at + 1
        for j in range(n_others):
            index[at, j] = offset[j] + others[j, i]
        mass[at] = weights[i] if len(weights) else 1.0
    if n_others > 1:
        return len(leader)
    cell_of = np.full(offset[-1], -1, dtype=np.int64)
    n_cells, low = 0, 0
    for level in range(len(pointer) - 1):
        first, high = n_cells, pointer[level + 1]
        for at in range(low, high):
            k = index[at, 0]
            if cell_of[k] >= first:
                mass[cell_of[k]] += mass[at]
                continue
            cell_of[k] = n_cells
            index[n_cells, 0] = k
            mass[n_cells] = mass[at]
            n_cells += 1
        low = high
        pointer[level + 1] = n_cells
    return n_cells


@numba.njit(types.void(_codes, _index, _vector, _vector, _matrix, _matrix_out), cache=True)
def schur_times(
    pointer: NDArray[np.int64],
    index: NDArray[np.int32],
    mass: NDArray[np.float64],
    total: NDArray[np.float64],
    p: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """S p with S = D'WD - D'W V (V'WV)^-1 V'WD: V the first effect, D the others.

    Parameters
    ----------
    pointer, index, mass
        Cells, as `cells_by_level` fills them.
    total : (n_first,) array
        Weight of each level of the first effect.
    p, out : (n_levels, m) arrays
        `out` is filled.
    """
    n_others, m = index.shape[1], p.shape[1]
    out[:] = 0.0
    mean = np.empty(m)
    for level in range(len(total)):
        low, high = pointer[level], pointer[level + 1]
        mean[:] = 0.0
        for c in range(low, high):
            for j in range(n_others):
                for q in range(m):
                    mean[q] += mass[c] * p[index[c, j], q]
        for q in range(m):
            mean[q] /= total[level]
        for c in range(low, high):
            for q in range(m):
                rest = -mean[q]
                for j in range(n_others):
                    rest += p[index[c, j], q]
                for j in range(n_others):
                    out[index[c, j], q] += mass[c] * rest


@numba.njit(types.void(_codes, _index, _vector, _vector, _matrix, _matrix_out), cache=True)
def schur_times_pair(
    pointer: NDArray[np.int64],
    index: NDArray[np.int32],
    mass: NDArray[np.float64],
    total: NDArray[np.float64],
    p: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """`schur_times` of two columns where one effect is left: both stay in registers."""
    out[:] = 0.0
    for level in range(len(total)):
        low, high = pointer[level], pointer[level + 1]
        x, y = 0.0, 0.0
        for c in range(low, high):
            k = index[c, 0]
            x += mass[c] * p[k, 0]
            y += mass[c] * p[k, 1]
        x /= total[level]
        y /= total[level]
        for c in range(low, high):
            k = index[c, 0]
            out[k, 0] += mass[c] * (p[k, 0] - x)
            out[k, 1] += mass[c] * (p[k, 1] - y)


@numba.njit(
    types.void(
        _matrix_out, _matrix_out, _matrix, _matrix, _vector, _vector, _vector_out, _vector_out,
        _vector_out,
    ),
    cache=True,
)  # fmt: skip
def step_along(
    b: NDArray[np.float64],
    r: NDArray[np.float64],
    p: NDArray[np.float64],
    Sp: NDArray[np.float64],
    inverse: NDArray[np.float64],
    alpha: NDArray[np.float64],
    rz: NDArray[np.float64],
    square: NDArray[np.float64],
    largest: NDArray[np.float64],
) -> None:
    """One step of conjugate gradients in each column: b += alpha p, r -= alpha S p.

    Parameters
    ----------
    b, r : (n, m) arrays
        Changed in place.
    p, Sp : (n, m) arrays
    inverse : (n,) array
        The preconditioner, a diagonal.
    alpha : (m,) array
    rz, square, largest : (m,) arrays
        Filled with r'diag(inverse) r, r'r and max |r|.
    """
    rz[:], square[:], largest[:] = 0.0, 0.0, 0.0
    for i in range(len(inverse)):
        for q in range(len(alpha)):
            b[i, q] += alpha[q] * p[i, q]
            rest = r[i, q] - alpha[q] * Sp[i, q]
            r[i, q] = rest
            rz[q] += rest * inverse[i] * rest
            square[q] += rest * rest
            largest[q] = max(largest[q], abs(rest))


@numba.njit(types.void(_matrix_out, _matrix, _vector, _vector), cache=True)
def turn(
    p: NDArray[np.float64],
    r: NDArray[np.float64],
    inverse: NDArray[np.float64],
    beta: NDArray[np.float64],
) -> None:
    """The next direction of conjugate gradients, in place: p = diag(inverse) r + beta p."""
    for i in range(len(inverse)):
        for q in range(len(beta)):
            p[i, q] = inverse[i] * r[i, q] + beta[q] * p[i, q]


@numba.njit(types.void(_codes, _index, _vector, _vector, _vector_out), cache=True)
def schur_diagonal(
    pointer: NDArray[np.int64],
    index: NDArray[np.int32],
    mass: NDArray[np.float64],
    total: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Diagonal of S of `schur_times`; `out` is filled, (n_levels,)."""
    n_others = index.shape[1]
    out[:] = 0.0
    within = np.zeros(len(out))
    for level in range(len(total)):
        for c in range(pointer[level], pointer[level + 1]):
            for j in range(n_others):
                within[index[c, j]] += mass[c]
        for c in range(pointer[level], pointer[level + 1]):
            for j in range(n_others):
                k = index[c, j]
                if within[k] > 0:  # a level that several cells share is met once
                    out[k] += within[k] * (1 - within[k] / total[level])
                    within[k] = 0.0


@numba.njit(types.void(_codes, _index, _vector, _vector, _matrix_out), cache=True)
def schur_dense(
    pointer: NDArray[np.int64],
    index: NDArray[np.int32],
    mass: NDArray[np.float64],
    total: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """S of `schur_times` itself; `out` is filled, (n_levels, n_levels)."""
    n_others = index.shape[1]
    out[:] = 0.0
    for level in range(len(total)):
        low, high = pointer[level], pointer[level + 1]
        for c in range(low, high):
            for j in range(n_others):
                row = out[index[c, j]]
                for i in range(n_others):
                    row[index[c, i]] += mass[c]
                share = mass[c] / total[level]
                for d in range(low, high):
                    for i in range(n_others):
                        row[index[d, i]] -= share * mass[d]


@numba.njit(types.void(_matrix, _codes, _vector, _matrix_out), cache=True)
def add_by_level(
    Z: NDArray[np.float64],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add each row of Z (n, m), times its weight if there are any, to the sums of its level."""
    weighted, m = len(weights) > 0, Z.shape[1]
    for i in range(len(codes)):
        g = codes[i]
        w = weights[i] if weighted else 1.0
        for q in range(m):
            sums[g, q] += w * Z[i, q]


@numba.njit(types.void(_matrix_out, _codes, _matrix, _codes, _vector, _matrix_out), cache=True)
def subtract_and_add(
    Z: NDArray[np.float64],
    codes: NDArray[np.int64],
    values: NDArray[np.float64],
    next_codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Subtract from each row of Z (n, m) the values of its level, in place; then `add_by_level`.

    The sums, over the levels of another effect, are of what is left: one pass for both.
    """
    weighted, m = len(weights) > 0, Z.shape[1]
    for i in range(len(codes)):
        g, h = codes[i], next_codes[i]
        w = weights[i] if weighted else 1.0
        for q in range(m):
            rest = Z[i, q] - values[g, q]
            Z[i, q] = rest
            sums[h, q] += w * rest


@numba.njit(types.int64(_codes, _codes, _codes_out), cache=True)
def join_levels(a: NDArray[np.int64], b: NDArray[np.int64], parent: NDArray[np.int64]) -> int:
    """Union of the levels that share a row; returns how many pairs of sets were joined.

    Parameters
    ----------
    a, b : (n,) arrays
        Levels as positions in `parent`.
    parent : (n_levels,) array
        Forest, changed in place; on return every level points at the root of its set.
    """
    joined = 0
    for i in range(len(a)):
        x, y = a[i], b[i]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x != y:
            parent[max(x, y)] = min(x, y)
            joined += 1
    for x in range(len(parent)):  # a parent is never larger: roots come first
        parent[x] = parent[parent[x]]
    return joined


@numba.njit(types.boolean(_codes, _codes, _codes_out), cache=True)
def lies_within(
    codes: NDArray[np.int64], clusters: NDArray[np.int64], seen: NDArray[np.int64]
) -> bool:
    """Whether every level lies in one cluster; `seen` (n_levels,) holds -1 and is changed."""
    for i in range(len(codes)):
        if seen[codes[i]] < 0:
            seen[codes[i]] = clusters[i]
        elif seen[codes[i]] != clusters[i]:
            return False
    return True
