"""Simulated experiments: the truth, equal bits for any workers, and what designs get wrong."""

import numpy as np
import pandas as pd
import pytest

from causal.effect import EstimationWarning
from experiments import (
    AuthorSplit,
    DualSided,
    Mean,
    Saturation,
    Switchback,
    Trial,
    UserSplit,
    ab_test,
    compare,
    simulate,
    triangulate,
    true_effect,
)
from recsys import Arms, LivePlatform, Strategy, flow_worlds

SMALL = LivePlatform(n_viewers=80, n_authors=12, seed=3)
LIFT = Strategy(0.25)
SHORT = {"hours": 72, "before_hours": 24, "replications": 4}


def test_true_effect_is_all_minus_none_on_common_draws():
    effect = true_effect(SMALL, LIFT, hours=48, replications=5, seed=1)
    each = np.array(effect.details["replications"])
    np.testing.assert_allclose(effect.estimate, each.mean(), rtol=1e-12)
    np.testing.assert_allclose(effect.std_error, each.std(ddof=1) / np.sqrt(5), rtol=1e-12)
    child = np.random.SeedSequence(1).spawn(5)[0]
    seed = int(np.random.Generator(np.random.PCG64(child)).integers(2**62))
    w = flow_worlds(SMALL, {"a": Arms.all(), "n": Arms.none()}, strategy=LIFT, hours=48, seed=seed)
    np.testing.assert_allclose(
        each[0], 60 * (w["a"].watch.mean() - w["n"].watch.mean()), rtol=1e-12
    )
    assert effect.details["crn_gain"] > 3
    assert 0 < effect.relative().estimate < 0.5


def test_true_effect_of_nothing_is_nothing():
    effect = true_effect(SMALL, Strategy(0.0), hours=24, replications=2)
    assert abs(effect.estimate) < 1e-12


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_simulate_gives_equal_bits_for_any_number_of_workers(n_jobs):
    trials = [Trial(UserSplit()), Trial(Switchback(360)), Trial(DualSided())]
    runs = [simulate(SMALL, trials, strategy=LIFT, seed=5, n_jobs=n, **SHORT) for n in (1, n_jobs)]
    pd.testing.assert_frame_equal(runs[0].estimates, runs[1].estimates, check_exact=True)
    assert runs[0].truth == runs[1].truth


def test_simulate_tables_and_files(tmp_path):
    trials = [Trial(UserSplit()), Trial(Switchback(360))]
    run = simulate(SMALL, trials, strategy=LIFT, redraw_population=True, **SHORT)
    frame = run.to_frame()
    assert frame.columns.tolist() == [
        "replication", "trial", "estimate", "std_error", "low", "high", "p_value", "truth",
    ]  # fmt: skip
    assert frame["replication"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame.groupby("replication")["truth"].nunique().eq(1).all()
    assert frame["truth"].nunique() == 4
    assert (frame["low"] < frame["high"]).all()
    run.to_parquet(tmp_path / "estimates.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "estimates.parquet"), frame)
    assert run.worlds_per_second > 0
    notes = run.notes  # six slices an arm are few
    assert (notes["trial"] == "switchback 6 h").all()
    assert len(notes) > 0
    assert notes["replications"].max() == 4


def test_simulate_names_the_trial_whose_analysis_failed():
    def broken(table):
        raise KeyError("watched")

    with pytest.raises(KeyError) as caught:
        simulate(SMALL, [Trial(UserSplit(), analysis=broken)], strategy=LIFT, **SHORT)
    assert any("viewer split" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replications": 1}, "replications must be a whole number >= 2"),
        ({"hours": 0}, "hours must be positive"),
        ({"before_hours": -1}, "before_hours must be 0 or more"),
        ({"tick_minutes": 0}, "tick_minutes must be positive"),
        ({"engine": "events"}, "engine"),
        ({"trials": [Trial(UserSplit()), Trial(UserSplit())]}, "distinct names"),
        ({"trials": [Trial(Switchback(30))]}, "need ticks"),
        (
            {"trials": [Trial(Switchback(60, burn_in_minutes=45))]},
            "72 slices have no tick that starts after the burn-in",
        ),
        ({"seed": -1}, "seed must be"),
    ],
)
@pytest.mark.parametrize("function", [simulate, compare])
def test_simulate_and_compare_refuse_bad_arguments(function, changes, message):
    given = {"trials": [Trial(UserSplit())], "strategy": LIFT, **SHORT, **changes}
    with pytest.raises(ValueError, match=message):
        function(SMALL, given.pop("trials"), **given)


@pytest.mark.parametrize("function", [simulate, compare, triangulate])
def test_simulations_refuse_what_is_no_platform_or_strategy(function):
    trials = () if function is triangulate else ([Trial(UserSplit())],)
    given = {"hours": 72, "replications": 2}
    with pytest.raises(TypeError, match="platform must be a LivePlatform; got str"):
        function("mine", *trials, strategy=LIFT, **given)
    with pytest.raises(TypeError, match="strategy must be a Strategy; got float"):
        function(SMALL, *trials, strategy=0.25, **given)
    with pytest.raises(ValueError, match="hours must be"):
        function(SMALL, *trials, strategy=LIFT, **{**given, "hours": "two"})


def test_true_effect_refuses_lengths_that_are_no_numbers():
    for changes in ({"hours": "two"}, {"tick_minutes": None}):
        with pytest.raises(ValueError, match=f"{next(iter(changes))} must be positive"):
            true_effect(SMALL, LIFT, replications=2, **changes)


def test_simulate_refuses_an_analysis_that_gives_no_effect():
    with pytest.raises(TypeError, match="an analysis must return an Effect; got int"):
        simulate(SMALL, [Trial(UserSplit(), analysis=len)], strategy=LIFT, **SHORT)


def test_simulate_says_once_that_an_alternating_coin_loses():
    def read(table):
        return ab_test(table, metric=Mean("watch"), arm="arm", control=0)

    trial = Trial(Switchback(360, coin="alternating"), analysis=read)
    with pytest.warns(EstimationWarning, match="coin='alternating'") as caught:
        run = simulate(SMALL, [trial], strategy=LIFT, **SHORT)
    assert len(caught) == 1
    assert len(run.estimates) == 4


def test_compare_of_nothing_says_so():
    found = compare(SMALL, [Trial(UserSplit())], strategy=Strategy(0.0), **SHORT)
    assert found.table["target"].abs().max() < 1e-12
    assert np.isnan(found.table["bias_share"]).all()
    assert "nan" not in found.summary()
    with pytest.raises(ValueError, match="strategy must move watching"):
        triangulate(SMALL, strategy=Strategy(0.0), hours=72, replications=2)


@pytest.mark.parametrize("hours", [48, 75, 340])
def test_triangulate_refuses_hours_that_rotations_cannot_be_read_in(hours):
    with pytest.raises(ValueError, match="hours must be"):
        triangulate(SMALL, strategy=LIFT, hours=hours, replications=2)


def test_compare_targets_of_uneven_designs_have_little_noise():
    trials = [
        Trial(UserSplit(0.2, salt="a")),
        Trial(AuthorSplit(0.25, salt="b")),
        Trial(Saturation((0.2, 0.8), slice_minutes=360, salt="c")),
        Trial(DualSided(salt="d"), estimand="direct"),
    ]
    run = {"strategy": LIFT, "hours": 72, "before_hours": 24, "replications": 8}
    small = LivePlatform(n_viewers=120, n_authors=24, seed=3)
    found = compare(small, trials, **run).table.set_index("trial")
    noise = found["mc_se_target"] / found["mc_se_mean"]
    assert noise["viewer split"] < 0.3
    assert noise["saturation 20/80"] < 0.3
    assert noise["dual-sided direct"] < 1.0
    assert (found["target"] - found["mean"]).abs().max() < 5 * found["mc_se_mean"].max()


def test_compare_table_is_the_arithmetic_of_the_estimates():
    trials = [Trial(UserSplit()), Trial(AuthorSplit())]
    found = compare(SMALL, trials, strategy=LIFT, seed=2, **SHORT)
    same = simulate(SMALL, trials, strategy=LIFT, seed=2, **SHORT)
    pd.testing.assert_frame_equal(found.simulation.estimates, same.estimates, rtol=1e-9)
    table = found.table.set_index("trial")
    for name in ("viewer split", "author split"):
        mine = same.estimates.query("trial == @name")
        row, error = table.loc[name], mine["estimate"] - mine["truth"]
        np.testing.assert_allclose(row["bias"], error.mean(), rtol=1e-9)
        np.testing.assert_allclose(row["rmse"], np.sqrt((error**2).mean()), rtol=1e-9)
        np.testing.assert_allclose(row["sd"], mine["estimate"].std(), rtol=1e-9)
        inside = mine["truth"].between(mine["low"], mine["high"])
        assert row["coverage"] == inside.mean()
        assert row["power"] == (mine["p_value"] <= 0.05).mean()
        assert row["days"] == 3
        assert abs(row["share_exposed"] - 0.5) < 0.2
    assert (found.table.filter(like="mc_se") > 0).all(axis=None)
    assert "author split: bias" in found.summary()


def test_compare_mirrors_leave_little_noise_in_the_target():
    found = compare(SMALL, [Trial(UserSplit())], strategy=LIFT, **SHORT).table.iloc[0]
    assert found["mc_se_target"] < 0.5 * found["mc_se_mean"]
    assert abs(found["target"] - found["mean"]) < 4 * found["mc_se_mean"]


def gap(platform, design, **changes):
    """Target minus truth as a share of the truth."""
    run = {"strategy": LIFT, "hours": 168, "before_hours": 24, "replications": 3, "seed": 4}
    row = compare(platform.replace(**changes), [Trial(design)], **run).table.iloc[0]
    return (row["target"] - row["truth"]) / row["truth"]


OFF = {"eta": 0, "psi": 0, "chi": 0, "kappa": 0, "pk": 0}
MARKET = LivePlatform(n_viewers=150, n_authors=30, seed=5)


def test_platform_without_dynamics_leaves_viewer_split_and_switchback_unbiased():
    assert abs(gap(MARKET, UserSplit(), **OFF)) < 0.02
    assert abs(gap(MARKET, Switchback(360), **OFF)) < 0.02
    assert gap(MARKET, AuthorSplit(), **OFF) > 0.3  # authors take viewers from each other


def test_switchback_bias_falls_with_the_slice_and_grows_with_the_memory_of_habit():
    short, long = (gap(MARKET, Switchback(m), rho_h=0.9) for m in (120, 1440))
    assert short < long < 0
    fast, slow = (gap(MARKET, Switchback(720), rho_h=rho) for rho in (0.6, 0.97))
    assert slow < fast < 0.05


def test_viewer_split_changes_sign_with_congestion_and_effort():
    crowded = gap(MARKET, UserSplit(), kappa=1.0, chi=0.0, psi=0.0)
    assert crowded > 0.05
    assert gap(MARKET, UserSplit(), psi=0.8) < -0.05


def test_author_split_bias_falls_as_the_outside_grows():
    near, far = (gap(MARKET, AuthorSplit(), u0=u0, **OFF) for u0 in (2.0, 7.0))
    assert 0 < far < 0.3 * near


def test_burn_in_brings_a_daily_rotation_closer():
    plain = gap(MARKET, Switchback(1440))
    burnt = gap(MARKET, Switchback(1440, burn_in_minutes=720))
    assert plain < burnt < 0


def test_triangulate_names_the_mechanism_whose_absence_closes_the_gap():
    platform = LivePlatform(n_viewers=100, n_authors=20, seed=5, pk=0)
    found = triangulate(platform, strategy=LIFT, hours=96, replications=3, seed=2)
    table = found.table.set_index("method")
    np.testing.assert_allclose(
        table["estimation_error"] + table["estimand_gap"], table["estimate"] - table["truth"]
    )
    assert "attention budget" in table.loc["author split", "reason"]
    assert "habit" in table.loc["switchback 2 h", "reason"]
    assert table.loc["dual-sided total", "estimand_gap"] > 0
    without = found.mechanisms.set_index(["method", "mechanism"])["without"]
    on = found.mechanisms.set_index(["method", "mechanism"])["gap_share"]
    assert abs(without["switchback 2 h", "habit"]) < abs(on["switchback 2 h", "habit"])
    assert found.summary().startswith("truth ")


@pytest.mark.parametrize("what", [compare, triangulate])
def test_plots_draw_a_row_for_each_method(what):
    import matplotlib.pyplot as plt

    if what is compare:
        trials = [Trial(UserSplit()), Trial(Saturation((0.2, 0.8), slice_minutes=360))]
        found = compare(SMALL, trials, strategy=LIFT, **SHORT)
        names = [t.label for t in trials]
    else:
        found = triangulate(SMALL, strategy=LIFT, hours=96, replications=2)
        names = found.table["method"].tolist()
    ax = found.plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    plt.close("all")
