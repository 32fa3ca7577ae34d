"""Nearest points of hulls: optimality conditions, scipy, enumeration, and any number of threads."""

from functools import partial
from itertools import combinations

import numba
import numpy as np
import pytest
from simplex_problems import by_slsqp, first_unit, fit, objective


def random_paths(seed):
    """The treated path and its donors: few or many, doubled, or with the treated inside."""
    rng = np.random.default_rng(seed)
    donors, length = int(rng.integers(2, 30)), int(rng.integers(2, 15))
    paths = rng.normal(size=(donors + 1, length)) * rng.choice([0.1, 1.0, 5.0])
    if seed % 4 == 0:
        paths = np.vstack([paths, paths[1 : 1 + donors // 2]])
    if seed % 4 == 1:
        paths[0] = rng.dirichlet(np.ones(len(paths) - 1)) @ paths[1:]
    if seed % 4 == 2:
        paths += rng.normal(size=length) * 10
    return paths


@pytest.mark.parametrize("block", range(4))
def test_fit_sets_is_no_worse_than_slsqp_on_200_problems(block):
    for seed in range(50 * block, 50 * block + 50):
        paths = random_paths(seed)
        centred = paths - paths.mean(axis=0)
        w, gap = first_unit(centred)
        assert w.min() >= 0
        assert w[0] == 0
        assert w.sum() == pytest.approx(1, abs=1e-13)
        assert gap <= 1e-10
        donors = paths[1:]
        other = by_slsqp(
            lambda v, x=paths[0], d=donors: ((x - v @ d) ** 2).sum(),
            lambda v, x=paths[0], d=donors: -2 * d @ (x - v @ d),
            len(donors),
        )
        least = objective(paths, np.append(0, other))
        assert objective(paths, w) <= least + 1e-9 * max(1, least), seed


def test_fit_sets_finds_the_best_of_all_supports():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        paths = rng.normal(size=(7, 4))
        best = np.inf
        for size in range(1, 6):
            for support in combinations(range(1, 7), size):
                d = paths[list(support)]
                k = np.block([[d @ d.T, np.ones((size, 1))], [np.ones((1, size)), 0]])
                v = np.linalg.lstsq(k, np.append(d @ paths[0], 1), rcond=None)[0][:size]
                if v.min() >= 0:
                    best = min(best, float(((paths[0] - v @ d) ** 2).sum()))
        assert objective(paths, first_unit(paths)[0]) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 1.0, 1e4])
def test_fit_sets_penalty_is_no_worse_than_slsqp(penalty):
    for seed in range(25):
        paths = random_paths(seed)
        distance = ((paths[1:] - paths[0]) ** 2).sum(axis=1)
        other = by_slsqp(
            lambda v, x=paths[0], d=paths[1:], s=distance: (
                ((x - v @ d) ** 2).sum() + penalty * v @ s
            ),
            lambda v, x=paths[0], d=paths[1:], s=distance: -2 * d @ (x - v @ d) + penalty * s,
            len(distance),
        )
        w, gap = first_unit(paths, penalty=penalty)
        least = objective(paths, np.append(0, other), penalty)
        assert objective(paths, w, penalty) <= least + 1e-9 * max(1, least)
        assert gap <= 1e-10 * max(1, penalty)
        if penalty == 1e4:
            assert ((paths[w > 1e-6] - paths[0]) ** 2).sum(axis=1).min() == distance.min()


def joint_objective(paths, w, nu, lengths, total_length):
    """Partially pooled imbalance of the first m units; w (m, n)."""
    m = len(w)
    gaps = [paths[i][i] - w[i] @ paths[i] for i in range(m)]
    alone = sum((g @ g) / (m * s) for g, s in zip(gaps, lengths, strict=True))
    mean = sum(gaps) / m
    return nu * (mean @ mean) / total_length + (1 - nu) * alone


M, N = 3, 9  # treated units, all units


def pooled_problem(seed):
    """Paths before two starts; the third treated unit starts two periods earlier."""
    rng = np.random.default_rng(seed)
    late = rng.normal(size=(N, 6)) + rng.normal(size=6)
    early = late.copy()
    early[:, :2] = 0
    return late, early


def pooled_objective(v, seed, nu):
    """Of the donors' weights alone, (3 * 6,)."""
    late, early = pooled_problem(seed)
    w = np.zeros((M, N))
    w[:, M:] = v.reshape(M, N - M)
    return joint_objective([late, late, early], w, nu, [6, 6, 4], 6)


@pytest.mark.parametrize("nu", [0.0, 0.4, 0.9, 1.0])
def test_fit_sets_pooled_is_no_worse_than_slsqp(nu):
    for seed in range(6):
        rows = np.array(pooled_problem(seed))
        starts = {"cohort": [0, 0, 1], "lengths": [6, 4]}
        w, gap, used = fit(rows, [[0, 1, 2]], np.arange(N)[None] >= M, pooling=nu, **starts)
        other = by_slsqp(partial(pooled_objective, seed=seed, nu=nu), None, M * (N - M), groups=M)
        ours = pooled_objective(w[0][:, M:].ravel(), seed, nu)
        assert ours <= pooled_objective(other, seed, nu) + 1e-9
        assert gap[0] <= 1e-10
        assert used[0] == nu


def test_fit_sets_own_pooling_is_the_ratio_of_imbalances():
    rng = np.random.default_rng(3)
    paths = rng.normal(size=(9, 6)) * 0.3
    paths[:2] += 3 * rng.normal(size=(2, 6))
    donors = np.arange(9)[None] >= 2
    separate = fit(paths, [[0, 1]], donors)[0][0]
    gaps = paths[:2] - separate @ paths
    ratio = np.linalg.norm(gaps.mean(axis=0)) / np.linalg.norm(gaps, axis=1).mean()
    assert fit(paths, [[0, 1]], donors, pooling=-1.0)[2][0] == pytest.approx(ratio, rel=1e-12)
    assert 0 < ratio < 1


def test_fit_sets_weights_ignore_a_common_path_and_the_unit():
    paths = np.random.default_rng(5).normal(size=(12, 8))
    w = first_unit(paths)[0]
    common = np.linspace(-3, 3, 8)
    np.testing.assert_allclose(first_unit(paths + common)[0], w, atol=1e-9)
    np.testing.assert_array_equal(first_unit(paths * 2.0**20)[0], w)


def test_fit_sets_relabelled_donors_keep_their_weights():
    paths = np.random.default_rng(6).normal(size=(15, 8))
    order = np.append(0, 1 + np.random.default_rng(7).permutation(14))
    np.testing.assert_allclose(first_unit(paths[order])[0], first_unit(paths)[0][order], atol=1e-10)


def test_fit_sets_donors_equal_to_the_treated_fit_exactly():
    same = np.ones((4, 5))
    w, gap = first_unit(same)
    np.testing.assert_allclose(w, [0, 1 / 3, 1 / 3, 1 / 3])
    assert gap == 0


def test_fit_sets_gives_the_same_bits_with_one_and_two_threads():
    paths = np.random.default_rng(8).normal(size=(60, 20))
    members = np.arange(60)[:, None]
    allowed = ~np.eye(60, dtype=bool)
    before = numba.get_num_threads()
    found = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        found.append(fit(paths, members, allowed, penalty=0.01)[0].tobytes())
    numba.set_num_threads(before)
    assert found[0] == found[1]
