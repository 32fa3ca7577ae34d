"""Splits of viewers, authors and clusters: shares, replay, both sides."""

import numpy as np
import pandas as pd
import pytest

from experiments import AuthorSplit, ClusterSplit, DualSided, UserSplit

IDS = np.arange(20_000)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.93])
def test_user_split_treats_the_share(share):
    arms = UserSplit(share, salt="s").assign(IDS, seed=1)
    assert arms.dtype == np.int8
    assert arms.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(IDS)))


def test_user_split_of_several_arms_has_their_shares():
    design = UserSplit(arms=("control", "a", "b"), shares=(0.5, 0.3, 0.2))
    counts = np.bincount(design.assign(IDS)) / len(IDS)
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


def test_user_split_of_an_id_does_not_depend_on_the_others():
    design = UserSplit(salt="s")
    whole = design.assign(IDS, seed=3)
    some = np.array([5, 17, 5, 19_999])
    np.testing.assert_array_equal(design.assign(some, seed=3), whole[some])
    np.testing.assert_array_equal(AuthorSplit(salt="s").assign(IDS, seed=3), whole)
    assert (design.assign(IDS, seed=4) != whole).mean() == pytest.approx(0.5, abs=0.02)


def test_designs_with_other_salts_are_independent():
    one, other = (UserSplit(salt=s).assign(IDS) for s in ("a", "b"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(IDS))


@pytest.mark.parametrize("complete", [True, False])
def test_cluster_split_keeps_clusters_whole(complete):
    clusters = IDS % 501
    arms = ClusterSplit(0.3, complete=complete).assign(IDS, clusters=clusters)
    by = pd.Series(arms).groupby(clusters).agg(["min", "max"])
    assert (by["min"] == by["max"]).all()
    if complete:
        assert by["min"].sum() == round(0.3 * 501)
    shuffled = np.random.default_rng(0).permutation(len(IDS))
    again = ClusterSplit(0.3, complete=complete).assign(IDS[shuffled], clusters=clusters[shuffled])
    np.testing.assert_array_equal(again, arms[shuffled])


def test_dual_sided_is_complete_on_both_sides_and_independent_of_order():
    viewers, authors = [f"v{i}" for i in range(301)], list(range(40))
    arms = DualSided(0.25, 0.5, salt="s").assign(viewers, authors, seed=2)
    assert (arms.viewer_arm.sum(), arms.author_arm.sum()) == (75, 20)
    turned = DualSided(0.25, 0.5, salt="s").assign(viewers[::-1], authors[::-1], seed=2)
    np.testing.assert_array_equal(turned.viewer_arm[::-1], arms.viewer_arm)
    np.testing.assert_array_equal(turned.author_arm[::-1], arms.author_arm)


def test_dual_sided_throws_a_coin_of_its_own_for_each_side():
    arms = DualSided().assign(IDS, IDS)
    assert abs(np.corrcoef(arms.viewer_arm, arms.author_arm)[0, 1]) < 4 / np.sqrt(len(IDS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UserSplit(0), r"share must be in \(0, 1\); got 0"),
        (lambda: UserSplit(1.0), "share must be"),
        (lambda: UserSplit("half"), "share must be"),
        (lambda: UserSplit(arms=("a", "b", "c")), "shares must be given for 3 arms"),
        (lambda: UserSplit(shares=(0.5, 0.4)), "sum to 1"),
        (lambda: UserSplit(shares=(0.5, 0.3, 0.2)), "one for each of 2 arms"),
        (lambda: UserSplit(arms="ab"), "arms must be 2 to 100 different names"),
        (lambda: UserSplit(arms=("a", "a")), "arms must be 2 to 100 different names"),
        (
            lambda: UserSplit(arms=tuple(map(str, range(200))), shares=(1 / 200,) * 200),
            "arms must be 2 to 100",
        ),
        (lambda: ClusterSplit(2), "share must be"),
        (lambda: DualSided(0.5, 0), "author_share must be"),
        (lambda: ClusterSplit().assign([1, 2], clusters=["a"]), "one for each unit; got 1 for 2"),
        (lambda: DualSided().assign([1, 1], [2, 3]), "viewers must be distinct .*; 1 repeat"),
        (lambda: UserSplit().assign([1, None]), "ids must be present"),
    ],
)
def test_designs_refuse_what_cannot_be_assigned(make, message):
    with pytest.raises(ValueError, match=message):
        make()
