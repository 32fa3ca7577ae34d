"""Ridge weights on the simplex, against rational arithmetic, a general solver and known answers."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize

from causal.kernels.ridge_simplex import (
    duality_gap,
    exchange_blocks,
    exchange_singly,
    singular,
    solve_ridge_simplex,
)
from causal.kernels.synthetic_did import compressed

GAP = 1e-12  # over the largest squared row plus the ridge; the house's limit is 1e-9


def solved(D, ridge):
    w = np.empty(len(D))
    gap = solve_ridge_simplex(np.ascontiguousarray(D, dtype=float), float(ridge), w)
    return w, gap


def objective(D, ridge, w):
    return float(np.sum((D.T @ w) ** 2) + ridge * np.sum(w**2))


def rational_solution(A, b):
    """A z = b by elimination in fractions; None if A is singular."""
    rows = [[*row, value] for row, value in zip(A, b, strict=True)]
    n = len(rows)
    for i in range(n):
        pivot = next((r for r in range(i, n) if rows[r][i] != 0), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for r in range(n):
            if r != i and rows[r][i] != 0:
                rows[r] = [v - rows[r][i] * u for v, u in zip(rows[r], rows[i], strict=True)]
    return [row[-1] for row in rows]


def exact_weights(D, ridge):
    """The one support whose rational weights keep every condition, of all supports."""
    n = len(D)
    K = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in D] for x in D]
    for i in range(n):
        K[i][i] += ridge
    for size in range(1, n + 1):
        for S in itertools.combinations(range(n), size):
            A = [[*(K[i][j] for j in S), Fraction(-1)] for i in S]
            found = rational_solution([*A, [Fraction(1)] * size + [Fraction(0)]], [0] * size + [1])
            if found is None or min(found[:-1]) < 0:
                continue
            g = [sum(K[i][j] * v for j, v in zip(S, found, strict=False)) for i in range(n)]
            if min(g) >= found[-1]:
                w = np.zeros(n)
                w[list(S)] = [float(v) for v in found[:-1]]
                return w
    raise AssertionError("no support is optimal")


@pytest.mark.parametrize("power", [-24, -15, -12, -9, -6, -3, 0, 2])
@pytest.mark.parametrize("shape", [(6, 2), (6, 3), (5, 5), (4, 7), (6, 1)])
def test_weights_are_those_of_rational_arithmetic_at_every_ridge(shape, power):
    rng = np.random.default_rng(abs(power) + 10 * shape[0])
    for inside in (True, False):
        whole = rng.integers(-9, 10, shape) + (0 if inside else 15)
        ridge = Fraction(10) ** power
        exact = exact_weights([[Fraction(int(v)) for v in row] for row in whole], ridge)
        w, gap = solved(whole, float(ridge))
        assert gap < GAP
        np.testing.assert_allclose(w, exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_conditions_hold_on_random_problems_of_every_kind(seed):
    rng = np.random.default_rng(seed)
    for k in range(60):
        n, m = rng.integers(1, 60), rng.integers(1, 40)
        D = rng.normal(size=(n, m)) + rng.normal(size=m) * rng.choice([0, 1, 3])
        if k % 3 == 0:
            D = D * np.logspace(0, -rng.integers(0, 5), m)
        if k % 7 == 0:
            D[n // 2 :] = D[: n - n // 2]  # duplicates
        ridge = 10.0 ** rng.integers(-14, 3) * (D**2).sum()
        w, gap = solved(D, ridge)
        assert w.min() >= 0
        assert abs(w.sum() - 1) < 1e-12
        assert gap < GAP


@pytest.mark.parametrize("ridge", [1e-10, 0.1, 10.0])
def test_objective_is_not_above_that_of_a_general_solver(ridge):
    rng = np.random.default_rng(3)
    for _ in range(10):
        D = rng.normal(size=(12, 6)) + 0.3
        found = optimize.minimize(
            lambda w, D=D: objective(D, ridge, w),
            np.full(12, 1 / 12),
            jac=lambda w, D=D: 2 * (D @ (D.T @ w)) + 2 * ridge * w,
            bounds=[(0, 1)] * 12,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        w, _ = solved(D, ridge)
        assert objective(D, ridge, w) <= found.fun + 1e-9


def test_limits_of_the_ridge_are_nearest_donor_mixture_and_equal_weights():
    D = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [7.0, 7.0]])
    np.testing.assert_allclose(solved(D, 0.0)[0], [0.5, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(solved(D, 1e12)[0], np.full(4, 0.25), atol=1e-9)
    apart = D + np.array([30.0, 0.0])
    np.testing.assert_allclose(solved(apart, 1e-9)[0], [0, 1, 0, 0], atol=1e-9)


@pytest.mark.parametrize("ridge", [1e-14, 1.0])
def test_rows_of_rounding_only_share_equally_and_have_no_gap(ridge):
    for seed in range(20):  # donors parallel to the target, of which the difference leaves noise
        D = 1e-16 * np.random.default_rng(seed).integers(-3, 4, (7, 7))
        w, gap = solved(D, ridge)
        np.testing.assert_allclose(w, np.full(7, 1 / 7), atol=1e-10)
        assert gap < GAP


def test_without_a_ridge_the_smallest_of_the_optimal_weights_is_found():
    D = np.array([[1.0], [1.0], [-1.0], [-1.0], [-1.0]])
    np.testing.assert_allclose(solved(D, 0.0)[0], [0.25, 0.25, *[1 / 6] * 3], atol=1e-12)
    np.testing.assert_allclose(solved(np.zeros((3, 2)), 0.0)[0], np.full(3, 1 / 3))
    assert solved(np.ones((1, 4)), 1.0)[0] == [1.0]


@pytest.mark.parametrize("ridge", [1e-12, 1.0])
def test_order_scale_and_rotation_change_nothing(ridge):
    rng = np.random.default_rng(4)
    D = rng.normal(size=(20, 8)) + 0.2
    w, _ = solved(D, ridge)
    order = rng.permutation(20)
    np.testing.assert_allclose(solved(D[order], ridge)[0], w[order], atol=1e-10)
    np.testing.assert_allclose(solved(1e6 * D, 1e12 * ridge)[0], w, atol=1e-10)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    np.testing.assert_allclose(solved(D @ turn, ridge)[0], w, atol=1e-9)
    twice, _ = solved(np.repeat(D, 2, axis=0), 2 * ridge)
    np.testing.assert_allclose(twice.reshape(20, 2).sum(axis=1), w, atol=1e-9)


def test_duality_gap_is_that_of_its_definition():
    rng = np.random.default_rng(5)
    D, w = rng.normal(size=(6, 3)), np.full(6, 1 / 6)
    g = D @ (D.T @ w) + 0.3 * w
    assert duality_gap(D, 0.3, w) == pytest.approx(w @ g - g.min(), rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 3)])
def test_singular_values_and_compressed_rows_keep_lengths_and_angles(shape):
    rng = np.random.default_rng(6)
    A = rng.normal(size=shape)
    U, S, V = singular(A)
    np.testing.assert_allclose(V.T @ (S[:, None] * U), A, atol=1e-13)
    np.testing.assert_allclose(np.sort(S)[::-1], np.linalg.svd(A)[1], rtol=1e-12)
    small = compressed(A.copy())
    assert small.shape == (shape[0], min(shape))
    np.testing.assert_allclose(small @ small.T, A @ A.T, atol=1e-12)


@pytest.mark.parametrize("ridge", [1e-12, 1e-3])
def test_blocks_and_single_exchanges_end_at_one_optimum(ridge):
    rng = np.random.default_rng(7)
    ended = []
    for k in range(40):
        n, m = rng.integers(2, 25), rng.integers(1, 12)
        D = rng.normal(size=(n, m)) + (k % 3) * 0.5
        blocks, singly = np.full(n, 1 / n), np.full(n, 1 / n)
        exchange_singly(D, ridge, singly)
        np.testing.assert_allclose(singly, solved(D, ridge)[0], rtol=0, atol=1e-9)
        ended.append(exchange_blocks(D, ridge, blocks))
        np.testing.assert_allclose(blocks, singly if ended[-1] else 1 / n, rtol=0, atol=1e-9)
    assert 0 < sum(ended) < len(ended)  # far from the optimum blocks may cycle
