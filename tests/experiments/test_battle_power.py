"""Battles take power from the direct effect of a dual-sided design, and none from time slices."""

import pytest

from experiments import battle_power
from recsys import LivePlatform, Strategy

PLATFORM = LivePlatform(n_viewers=80, n_authors=24, seed=3)


def test_battle_power_of_the_direct_effect_falls_where_battles_tie_rooms_together():
    found = battle_power(
        PLATFORM, strategy=Strategy(0.12), shares=[0.0, 1.0], replications=12, seed=2
    )
    table = found.pivot_table(index="battle_share", columns="design", values=["power", "mean"])
    direct, slices = "dual-sided direct", "time slices"
    assert table["mean", direct][1.0] < 0.8 * table["mean", direct][0.0]
    assert table["power", direct][1.0] < table["power", direct][0.0]
    assert abs(table["mean", slices][1.0] / table["mean", slices][0.0] - 1) < 0.5
    entangled = found.groupby("battle_share")["entangled_share"].first()
    assert entangled[0.0] == 0
    assert entangled[1.0] > 0.3
    assert found["mc_se"].gt(0).all()


@pytest.mark.parametrize("shares", [[], [1.2], [-0.1, 0.5], ["all"], 0.5, None, "all"])
def test_battle_power_refuses_shares_that_are_none(shares):
    with pytest.raises(ValueError, match=r"shares must be in \[0, 1\]"):
        battle_power(PLATFORM, strategy=Strategy(0.1), shares=shares)


@pytest.mark.parametrize("platform", [None, "mine"])
def test_battle_power_refuses_what_is_no_platform(platform):
    with pytest.raises(TypeError, match="platform must be a LivePlatform; got"):
        battle_power(platform, strategy=Strategy(0.1))
