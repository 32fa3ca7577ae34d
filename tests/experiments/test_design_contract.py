"""What every design keeps: arms in range, equal seeds equal arms, shares, independence by salt."""

import numpy as np
import pandas as pd
import pytest

from experiments import (
    AuthorSplit,
    ClusterSplit,
    DualSided,
    Saturation,
    Switchback,
    UserSplit,
)

UNITS = np.arange(4000)
TIMES = pd.date_range("2026-03-02", periods=336 * 4, freq="15min")


def dual(share):
    design = DualSided(share, share, salt="both")

    def assign(seed):
        arms = design.assign(UNITS, UNITS[:1000], seed=seed)
        return np.concatenate([arms.viewer_arm, arms.author_arm])

    return assign


def rotation(**options):
    design = Switchback(60, **options)
    return lambda seed: design.assign(TIMES, start="2026-03-02", days=14, seed=seed)


DESIGNS = {
    "viewers": (lambda seed: UserSplit(0.3, salt="v").assign(UNITS, seed=seed), 0.3, 4000),
    "authors": (lambda seed: AuthorSplit(0.5, salt="a").assign(UNITS, seed=seed), 0.5, 4000),
    "clusters": (
        lambda seed: ClusterSplit(0.5, salt="c").assign(UNITS, clusters=UNITS // 4, seed=seed),
        0.5,
        1000,
    ),
    "both sides": (dual(0.4), 0.4, 5000),
    "stratified": (rotation(), 0.5, 336),
    "independent": (rotation(coin="independent"), 0.5, 336),
    "complete": (rotation(coin="complete"), 0.5, 336),
    "saturation": (
        lambda seed: Saturation(salt="s").assign(UNITS, share=0.1, seed=seed),
        0.1,
        4000,
    ),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_assigns_arms_by_its_seed_alone(name):
    assign, share, n_coins = DESIGNS[name]
    arms = assign(7)
    assert arms.dtype == np.int8
    assert set(np.unique(arms)) == {0, 1}
    np.testing.assert_array_equal(arms, assign(7))
    assert (arms != assign(8)).any()
    assert abs(arms.mean() - share) < 4 * np.sqrt(share * (1 - share) / n_coins)


@pytest.mark.parametrize("name", ["viewers", "authors", "saturation"])
def test_every_split_by_hash_gives_a_unit_its_arm_wherever_it_stands(name):
    assign = {
        "viewers": lambda units: UserSplit(salt="v").assign(units, seed=3),
        "authors": lambda units: AuthorSplit(salt="a").assign(units, seed=3),
        "saturation": lambda units: Saturation(salt="s").assign(units, share=0.5, seed=3),
    }[name]
    order = np.random.default_rng(0).permutation(4000)
    np.testing.assert_array_equal(assign(UNITS[order]), assign(UNITS)[order])
    np.testing.assert_array_equal(assign(UNITS[:10]), assign(UNITS)[:10])


def test_designs_of_other_salts_are_independent_and_of_one_salt_the_same_coin():
    one, two = (UserSplit(salt=s).assign(UNITS, seed=1) for s in ("a", "b"))
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(len(UNITS))
    same = AuthorSplit(salt="a").assign(UNITS, seed=1)
    np.testing.assert_array_equal(one, same)
