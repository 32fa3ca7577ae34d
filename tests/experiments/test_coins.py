"""The randomisation laws of time slices: what each promises, in every draw and on average."""

import itertools

import numpy as np
import pytest

from experiments.designs.coins import COINS, halves, shuffled, throw


def law(coin, *, strata=None, n_slices=12, n=4000, min_share=0.0, seed=0):
    strata = np.arange(n_slices) % 4 if strata is None else np.asarray(strata)
    return throw(
        n,
        coin=coin,
        strata=strata,
        regions=np.zeros(len(strata), dtype=np.int64),
        minutes=np.ones(len(strata)),
        min_share=min_share,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("coin", COINS)
def test_throw_treats_every_slice_half_of_the_time(coin):
    arms = law(coin)
    assert set(np.unique(arms)) == {0, 1}
    assert np.abs(arms.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(4000)


def test_throw_stratified_treats_half_of_each_stratum_and_the_odd_one_by_coin():
    strata = np.array([0, 1, 0, 1, 0, 1, 0, 1, 1, 2])
    arms = law("stratified", strata=strata)
    assert (arms[:, strata == 0].sum(axis=1) == 2).all()
    assert set(arms[:, strata == 1].sum(axis=1).tolist()) == {2, 3}
    assert arms[:, strata == 1].sum(axis=1).mean() == pytest.approx(2.5, abs=0.05)
    assert np.abs(np.corrcoef(arms[:, strata == 0][:, 0], arms[:, 9])[0, 1]) < 0.07


def test_halves_draws_every_assignment_of_a_stratum_equally_often():
    arms = halves(60_000, np.zeros(4, dtype=np.int64), np.random.default_rng(0))
    drawn, counts = np.unique(arms, axis=0, return_counts=True)
    assert len(drawn) == 6
    assert np.abs(counts / 60_000 - 1 / 6).max() < 0.01


def test_throw_complete_treats_half_of_all():
    assert (law("complete", n_slices=11).sum(axis=1) >= 5).all()
    assert (law("complete").sum(axis=1) == 6).all()


def test_throw_alternating_changes_at_every_slice_in_one_of_two_ways():
    arms = law("alternating")
    assert (np.diff(arms, axis=1) != 0).all()
    assert len(np.unique(arms, axis=0)) == 2


@pytest.mark.parametrize("coin", ["independent", "complete"])
def test_throw_keeps_to_the_share_and_is_otherwise_the_same_law(coin):
    arms = law(coin, n_slices=6, min_share=0.4, n=40_000)
    drawn, counts = np.unique(arms, axis=0, return_counts=True)
    wanted = [p for p in itertools.product((0, 1), repeat=6) if 0.4 <= sum(p) / 6 <= 0.6]
    assert drawn.tolist() == [list(p) for p in wanted]
    assert np.abs(counts / len(arms) - 1 / len(wanted)).max() < 0.01


def test_throw_weighs_slices_by_their_minutes():
    minutes = np.array([60.0, 60, 60, 180])
    arms = throw(
        500,
        coin="independent",
        strata=np.zeros(4, dtype=np.int64),
        regions=np.zeros(4, dtype=np.int64),
        minutes=minutes,
        min_share=0.5,
        rng=np.random.default_rng(0),
    )
    assert (arms @ minutes == 180).all()


def test_throw_refuses_a_share_that_no_schedule_keeps():
    with pytest.raises(ValueError, match=r"min_share 0\.5 must leave room for a schedule of 3"):
        law("independent", strata=[0, 0, 0], min_share=0.5)


def test_shuffled_goes_through_all_levels_before_one_comes_again():
    blocks = np.repeat([0, 1], 7)
    drawn = shuffled(2000, blocks, 3, np.random.default_rng(0))
    for block in (0, 1):
        mine = drawn[:, blocks == block]
        assert (np.sort(mine[:, :3], axis=1) == [0, 1, 2]).all()
        assert (np.sort(mine[:, 3:6], axis=1) == [0, 1, 2]).all()
    assert np.abs((drawn[:, 6] == 0).mean() - 1 / 3) < 0.05
