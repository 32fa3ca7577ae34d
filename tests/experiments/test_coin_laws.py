"""Laws of coins: their paths, and the chance that a window's coins are all alike."""

import numpy as np
import pytest

from experiments import Switchback
from experiments.designs.coins import COINS
from experiments.rotations.coin_laws import MOST_PATHS, Law


def law(coin, strata, regions, min_share=0.0):
    strata, regions = np.array(strata), np.array(regions)
    return Law(coin, strata, regions, np.ones(len(strata)), min_share)


STRATA = [0, 1, 2, 0, 1, 0, 3, 0]
REGIONS = [0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("min_share", [0.0, 0.4])
@pytest.mark.parametrize("coin", COINS)
def test_support_is_what_draws_take(coin, min_share):
    one = law(coin, STRATA, REGIONS, min_share)
    support = one.support()
    drawn, counts = np.unique(one.draws(20_000, 1), axis=0, return_counts=True)
    np.testing.assert_array_equal(np.unique(support, axis=0), drawn)
    assert len(support) == len(drawn)
    expected = 20_000 / len(drawn)  # all paths are equally likely
    assert ((counts - expected) ** 2 / expected).sum() < len(drawn) + 5 * np.sqrt(2 * len(drawn))


@pytest.mark.parametrize("coin", COINS)
def test_chance_of_a_window_is_its_share_of_the_paths(coin):
    one = law(coin, STRATA, REGIONS)
    first = np.array([0, 0, 2, 1, 3, 5, 5])
    last = np.array([0, 1, 4, 4, 4, 5, 7])
    paths = one.support()
    for arm in (0, 1):
        share = [
            (paths[:, f : e + 1] == arm).all(axis=1).mean()
            for f, e in zip(first, last, strict=True)
        ]
        np.testing.assert_allclose(one.chance(first, last), share, atol=1e-12)


def test_many_paths_are_not_listed():
    assert law("independent", [0] * 12, [0] * 12).support().shape == (MOST_PATHS, 12)
    assert law("independent", [0] * 13, [0] * 13).support() is None
    assert law("complete", [0] * 400, [0] * 400).support() is None


def test_schedules_draw_their_own_paths():
    plan = Switchback(360).schedule(start="2026-03-02", days=14, seed=3)
    codes = np.zeros(56, dtype=np.int64)
    one = Law("stratified", codes, codes, np.ones(56), 0.4, lambda n, s: plan.redraw(n, seed=s))
    np.testing.assert_array_equal(one.draws(5, 9), plan.redraw(5, seed=9))
