"""Designs on the platform: arms, tables and readings of each."""

import numpy as np
import pandas as pd
import pytest

from causal import Effect
from experiments import (
    AuthorSplit,
    ClusterSplit,
    DualSided,
    Saturation,
    Switchback,
    Trial,
    UserSplit,
)
from experiments.simulation.trial_runs import Setting, run_trial
from experiments.simulation.trials import checked_trials
from recsys import Arms, LivePlatform, Strategy, flow_worlds

PLATFORM = LivePlatform(n_viewers=80, n_authors=16, n_regions=4, seed=2)
SETTING = Setting(hours=96, before_hours=30, tick_minutes=60)
REGIONS = ("n", "e", "s", "w")
TRIALS = {
    "viewer": Trial(UserSplit(0.3, salt="a")),
    "author": Trial(AuthorSplit()),
    "cluster": Trial(ClusterSplit()),
    "dual": Trial(DualSided()),
    "direct": Trial(DualSided(), estimand="direct"),
    "switchback": Trial(Switchback(360, burn_in_minutes=120)),
    "regions": Trial(Switchback(360, regions=REGIONS)),
    "saturation": Trial(Saturation((0.2, 0.8), slice_minutes=720, regions=REGIONS)),
    "one saturation": Trial(Saturation((0.2, 0.8), slice_minutes=720)),
}


def paths_of(run, strategy=None, before=30):
    return flow_worlds(
        PLATFORM,
        {"run": run.arms},
        strategy=strategy or Strategy(0.25),
        hours=96,
        before_hours=before,
        record=run.record,
        seed=1,
    )["run"]


@pytest.mark.parametrize("name", TRIALS)
@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
def test_run_trial_leaves_a_table_that_its_analysis_reads(name):
    run = run_trial(TRIALS[name], PLATFORM, SETTING, 7)
    paths = paths_of(run)
    table = run.table(paths)
    assert (table["watch"] > 0).all()
    found = run.read(table)
    low, high = found.conf_int(0.95)
    assert low < found.estimate < high
    assert 0 < found.p_value <= 1


@pytest.mark.parametrize("name", ["viewer", "author", "cluster", "dual"])
def test_tables_are_on_the_scale_of_minutes_per_viewer_and_hour(name):
    run = run_trial(TRIALS[name], PLATFORM, SETTING, 7)
    paths = paths_of(run)
    table = run.table(paths)
    np.testing.assert_allclose(table["watch"].mean(), 60 * paths.watch.mean(), rtol=1e-12)
    if name in ("viewer", "author"):
        before = 60 * paths.before_watch.mean()
        np.testing.assert_allclose(table["watch_before"].mean(), before, rtol=1e-12)


def test_switchback_table_has_slices_arms_and_what_is_read():
    run = run_trial(TRIALS["switchback"], PLATFORM, SETTING, 7)
    paths = paths_of(run)
    table = run.table(paths)
    assert table["time"].iloc[0] == pd.Timestamp("2026-03-02 06:00")  # 30 h on: the same clock
    plan = run.schedule
    np.testing.assert_array_equal(table["arm"], plan.treatment_at(table["time"]))
    np.testing.assert_array_equal(table["slice"], np.arange(96) // 6)
    np.testing.assert_array_equal(table["read"], np.arange(96) % 6 >= 2)
    read = table[table["read"]]
    np.testing.assert_allclose(read["watch"].mean(), 60 * paths.watch.mean(), rtol=1e-12)


def test_switchback_regions_follow_their_own_coins():
    run = run_trial(TRIALS["regions"], PLATFORM, SETTING, 7)
    table = run.table(paths_of(run))
    arms = table.pivot_table(index="time", columns="region", values="arm")[list(REGIONS)]
    np.testing.assert_array_equal(arms.to_numpy().T, run.arms.time)
    assert len({tuple(column) for column in arms.to_numpy().T}) > 1


def test_saturation_table_has_cells_by_region_and_slice():
    run = run_trial(TRIALS["saturation"], PLATFORM, SETTING, 7)
    paths = paths_of(run)
    table = run.table(paths)
    assert table["cell"].nunique() == 4 * 8
    total = (table["watch"] * table["n_viewers"]).sum() / table["n_viewers"].sum()
    np.testing.assert_allclose(total, 60 * paths.watch.mean(), rtol=1e-12)
    counted = table.pivot_table(index="cell", columns="arm", values="n_viewers", fill_value=0)
    share = table.groupby("cell")["share"].first()
    treated = counted[1] / counted.sum(axis=1)
    assert np.abs(treated - share).max() < 0.45  # twenty viewers a region
    assert np.corrcoef(treated, share)[0, 1] > 0.8


@pytest.mark.parametrize("name", TRIALS)
def test_mirrored_runs_put_everybody_into_the_other_arm(name):
    run = run_trial(TRIALS[name], PLATFORM, SETTING, 7)
    one, two = (r.arms for r in (run, run.mirrored()))
    for field in ("viewer", "author", "time"):
        if np.ndim(getattr(one, field)):
            np.testing.assert_array_equal(getattr(two, field), 1 - getattr(one, field))


@pytest.mark.parametrize("name", TRIALS)
def test_runs_that_cancel_leave_nothing_of_an_idle_contrast(name):
    run = run_trial(TRIALS[name], PLATFORM, SETTING, 7)
    assert run.cancels == (name not in ("viewer", "direct", "saturation", "one saturation"))
    if run.cancels:
        mirror, nothing = run.mirrored(), Strategy(0.0)
        one, two = (r.contrast(r.table(paths_of(r, nothing))) for r in (run, mirror))
        assert abs(one + two) < 0.15 * abs(one)


def test_contrast_is_the_difference_that_the_design_compares():
    for name in ("viewer", "author", "switchback"):
        run = run_trial(TRIALS[name], PLATFORM, SETTING, 7)
        table = run.table(paths_of(run))
        read = table[table["read"]] if "read" in table else table
        by_arm = read.groupby("arm")["watch"].mean()
        np.testing.assert_allclose(run.contrast(table), by_arm[1] - by_arm[0], rtol=1e-12)
    run = run_trial(TRIALS["direct"], PLATFORM, SETTING, 7)
    table = run.table(paths_of(run))
    cells = table.groupby(["viewer_arm", "author_arm"])["watch"].mean()
    direct = cells[1, 1] - cells[1, 0] - cells[0, 1] + cells[0, 0]
    np.testing.assert_allclose(run.contrast(table), direct, rtol=1e-12)


def test_splits_of_few_units_are_thrown_until_both_arms_can_be_read():
    few = LivePlatform(n_viewers=20, n_authors=7, seed=2)
    for seed in range(40):
        arms = run_trial(TRIALS["author"], few, SETTING, seed).arms.author
        assert 3 <= arms.sum() <= 4


def test_trial_takes_an_analysis_of_ones_own():
    def plain(table):
        difference = table.groupby("arm")["watch"].mean().diff().iloc[1]
        return Effect(
            estimate=difference, std_error=1.0, estimand="ate", method="plain", n_obs=len(table)
        )

    run = run_trial(Trial(UserSplit(), analysis=plain), PLATFORM, SETTING, 7)
    table = run.table(paths_of(run))
    np.testing.assert_allclose(run.read(table).estimate, run.contrast(table), rtol=1e-12)


def test_tables_without_a_time_before_are_read_without_covariates():
    setting = Setting(hours=96, before_hours=0, tick_minutes=60)
    for name in ("viewer", "dual"):
        run = run_trial(TRIALS[name], PLATFORM, setting, 7)
        assert run.read(run.table(paths_of(run, before=0))).std_error > 0


def test_null_strategy_leaves_nothing_but_noise_to_read():
    run = run_trial(TRIALS["viewer"], PLATFORM, SETTING, 7)
    found = run.read(run.table(paths_of(run, Strategy(0.0))))
    assert abs(found.estimate) < 4 * found.std_error
    alike = paths_of(run, Strategy(0.0))
    world = flow_worlds(
        PLATFORM, {"n": Arms.none()}, strategy=Strategy(), hours=96, before_hours=30, seed=1
    )["n"]
    np.testing.assert_allclose(alike.watch, world.watch, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"design": "user_split"}, TypeError, "design must be a UserSplit"),
        ({"design": UserSplit(), "analysis": 3}, TypeError, "analysis must be callable"),
        ({"design": UserSplit(), "estimand": "direct"}, ValueError, "must be 'total', except of a"),
        ({"design": DualSided(), "estimand": "x"}, ValueError, "estimand must be one of"),
        (
            {"design": UserSplit(arms=("a", "b", "c"), shares=(0.4, 0.3, 0.3))},
            ValueError,
            "a trial has two arms",
        ),
    ],
)
def test_trial_refuses_what_is_no_trial(arguments, error, message):
    with pytest.raises(error, match=message):
        Trial(**arguments)


def test_checked_trials_refuse_none_and_equal_names():
    with pytest.raises(ValueError, match="one Trial or more"):
        checked_trials([])
    with pytest.raises(ValueError, match=r"\['viewer split'\] repeat: pass name="):
        checked_trials([Trial(UserSplit()), Trial(UserSplit(0.1))])
    with pytest.raises(TypeError, match="trials must hold Trial"):
        checked_trials([UserSplit()])
    assert len(checked_trials(Trial(UserSplit()))) == 1


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (Switchback(360, regions=("a", "b")), "regions must name the platform's 4 regions"),
        (Switchback(30), "slices of 30 minutes need ticks of as much or less"),
        (Switchback(1440 * 4), "must hold two slices or more"),
        (Saturation((0.2, 0.5, 0.8), slice_minutes=2880), "a slice for each of 3 shares"),
    ],
)
def test_run_trial_refuses_designs_that_do_not_fit(design, message):
    with pytest.raises(ValueError, match=message):
        run_trial(Trial(design), PLATFORM, SETTING, 1).arms  # noqa: B018


@pytest.mark.parametrize(
    ("design", "label"),
    [
        (Switchback(90), "switchback 1.5 h"),
        (Switchback(50, coin="complete"), "switchback 50 min, complete coin"),
        (Switchback(360, regions=REGIONS), "switchback 6 h, 4 regions"),
        (Switchback(points=(1, 5, 7, 9)), "switchback 4 epochs"),
        (Saturation((0.1, 0.9)), "saturation 10/90"),
        (DualSided(), "dual-sided total"),
        (ClusterSplit(), "cluster split"),
    ],
)
def test_trial_label_says_the_design(design, label):
    assert Trial(design).label == label
    assert Trial(design, name="mine").label == "mine"
