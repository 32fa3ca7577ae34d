"""Launches that nothing drew by lot: their readings, what they are made of, and the truth."""

import numpy as np
import pandas as pd
import pytest
from test_sections import written

from experiments import Launch, Trial, UserSplit, compare, triangulate
from experiments.simulation.trial_launches import (
    cell_weights,
    parts_of,
    read_launch,
    region_panel,
    ticks_of_period,
)
from experiments.simulation.trial_plan import TrialPlan
from experiments.simulation.trial_runs import Setting, run_trial
from experiments.simulation.triangulation import usual_launches
from recsys import Arms, LivePlatform, Strategy, flow_worlds

READINGS = ("did", "event_study", "group_time", "synthetic_control", "synthetic_did")
REGIONS, BEFORE, AFTER = 8, 6, 4
LIFT = Strategy(0.25)
PLATFORM = LivePlatform(n_viewers=160, n_authors=16, n_regions=8, seed=3)
OFF = {"eta": 0.0, "psi": 0.0, "chi": 0.0, "kappa": 0.0, "pk": 0.0}
RUN = {"strategy": LIFT, "hours": 96, "before_hours": 96, "replications": 3, "seed": 1}

pytestmark = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")


def launch_of(reading):
    """One region for synthetic controls, three elsewhere, in two waves for group-time effects."""
    if reading.startswith("synthetic"):
        return Launch(1, reading=reading)
    return Launch(3, waves=2 if reading == "group_time" else 1, reading=reading)


def first_of(launch):
    """Regions 3, 4 and 5, or region 3: in the middle of the others."""
    first = np.full(REGIONS, AFTER)
    for wave, regions in enumerate(np.array_split(3 + np.arange(launch.n_regions), launch.waves)):
        first[regions] = AFTER * wave // launch.waves
    return first


def panel(launch, watch, gain=0.0, leak=0.0):
    """A panel with a gain where the launch is live, and a leak to the other regions later on."""
    first = first_of(launch)
    time = np.arange(BEFORE + AFTER) - BEFORE
    live = time >= np.where(first < AFTER, first, 99)[:, None]
    never = (first == AFTER)[:, None] & (time >= 0)
    return region_panel(watch + gain * live + leak * never, first, BEFORE)


def parallel():
    """Regions of different levels on common steps."""
    steps = np.random.default_rng(0).normal(size=BEFORE + AFTER)
    return np.arange(REGIONS)[:, None] + steps


@pytest.mark.parametrize("reading", READINGS)
def test_read_launch_recovers_a_known_gain_without_interference(reading):
    launch = launch_of(reading)
    noise = np.random.default_rng(1).normal(0, 0.1, (REGIONS, BEFORE + AFTER))
    with_gain, without = (
        read_launch(launch, panel(launch, parallel() + noise, gain=gain)).estimate
        for gain in (3.0, 0.0)
    )
    np.testing.assert_allclose(with_gain - without, 3.0, rtol=1e-9)
    assert abs(without) < 0.3


@pytest.mark.parametrize("reading", READINGS)
def test_cell_weights_sum_cells_to_the_reading(reading):
    launch = launch_of(reading)
    watch = np.random.default_rng(1).normal(20, 1, (REGIONS, BEFORE + AFTER))
    table = panel(launch, watch, gain=1.0)
    cells = table["watch"].to_numpy().reshape(REGIONS, -1)
    weights = cell_weights(launch, table)
    np.testing.assert_allclose(
        (weights * cells).sum(), read_launch(launch, table).estimate, rtol=1e-8
    )
    np.testing.assert_allclose(weights.sum(axis=0), 0, atol=1e-9)  # what all share cancels


@pytest.mark.parametrize("reading", READINGS)
def test_parts_of_a_launch_tell_gain_leak_and_trend_apart(reading):
    launch = launch_of(reading)
    own = parallel()
    nothing = panel(launch, own)
    parts = parts_of(launch, panel(launch, own, gain=3.0, leak=1.0), nothing)
    np.testing.assert_allclose(parts, (3.0 - _leaked(launch), 3.0, 0.0), atol=1e-6)
    drift = own.copy()
    drift[first_of(launch) < AFTER, BEFORE:] += 0.5  # the chosen regions would have grown anyway
    parts = parts_of(launch, panel(launch, drift, gain=3.0), panel(launch, drift))
    np.testing.assert_allclose(parts.target, 3.0, atol=1e-6)
    assert parts.trend > 0.2


def _leaked(launch):
    """What the reading takes off for a leak of 1: later waves have it in their base period too."""
    if launch.waves == 1:
        return 1.0
    first = first_of(launch)
    cells = AFTER - first[first < AFTER]
    return float(cells[cells == AFTER].sum() / cells.sum())


def run_of(launch, platform=PLATFORM, hours=96, before=96, tick_minutes=60):
    setting = Setting(hours=hours, before_hours=before, tick_minutes=tick_minutes)
    return run_trial(Trial(launch), platform, setting, 0)


def test_launch_chooses_regions_by_the_activity_of_their_viewers():
    activity = PLATFORM.viewers.groupby("region")["activity"].mean()
    order = activity.sort_values(ascending=False).index.to_numpy()
    for where, regions in (("most_active", order[:3]), ("least_active", order[-3:])):
        first = Launch(3, where=where).first(PLATFORM, 10)
        assert set(np.flatnonzero(first < 10)) == set(regions)
    typical = np.flatnonzero(Launch(1).first(PLATFORM, 10) < 10)
    assert abs(activity - activity.median()).min() == abs(activity[typical[0]] - activity.median())
    waves = Launch(4, waves=2, where="most_active", reading="group_time").first(PLATFORM, 10)
    assert waves[order[:2]].tolist() == [0, 0]
    assert waves[order[2:4]].tolist() == [5, 5]


def test_launch_is_live_from_its_start_in_its_regions():
    run = run_of(Launch(4, waves=2, reading="group_time"))
    live = np.asarray(run.arms.time)
    assert live.shape == (8, 96)
    assert live.sum(axis=1).tolist() == [
        {0: 96, 2: 48, 4: 0}[f] for f in run.first.tolist()
    ]  # four days: the second wave after two


def test_launch_table_holds_the_time_before_of_the_same_draws():
    plan = TrialPlan(
        platform=PLATFORM,
        trials=(Trial(Launch(2)),),
        strategy=LIFT,
        setting=Setting(hours=96, before_hours=96, tick_minutes=60),
        redraw=False,
        wanted=("readings",),
    )
    draws = PLATFORM.draws(hours=192, seed=5)
    run = plan._with_past([run_of(Launch(2))], draws)[0]
    paths = flow_worlds(
        PLATFORM, {"run": run.arms}, strategy=LIFT, hours=96, before_hours=96, draws=draws
    )["run"]
    size = PLATFORM.viewers["region"].value_counts().sort_index().to_numpy() / 160
    np.testing.assert_allclose(size @ run.past, paths.before_watch, rtol=1e-12)
    table = run.table(paths)
    assert table.columns.tolist() == ["region", "period", "cohort", "watch"]
    assert table["period"].tolist()[:8] == [-4, -3, -2, -1, 0, 1, 2, 3]
    by_day = table.pivot_table(index="region", columns="period", values="watch")
    np.testing.assert_allclose(size @ by_day[0], 60 * paths.watch[:24].mean(), rtol=1e-12)
    with pytest.raises(ValueError, match="the time before it"):
        run_of(Launch(2)).table(paths)


@pytest.mark.parametrize(
    ("ticks", "expected"), [((336, 168, 24), 24), ((78, 168, 24), 6), ((96, 24, 24), 6)]
)
def test_ticks_of_period_are_the_longest_that_fill_both_times(ticks, expected):
    assert ticks_of_period(*ticks) == expected


def test_compare_reads_launches_without_dynamics_at_the_truth():
    trials = [Trial(launch_of(r)) for r in READINGS]
    found = compare(PLATFORM.replace(**OFF), trials, **RUN)
    np.testing.assert_allclose(found.launches["spillover"], 0, atol=1e-9)
    np.testing.assert_allclose(found.table["target"] / found.table["truth"], 1, atol=0.1)
    assert found.launches["trial"].tolist() == [t.label for t in trials]
    target = found.launches["live"] + found.launches["spillover"]
    np.testing.assert_allclose(target, found.table["target"], rtol=1e-9)
    # what a launch reads is its target, and what it would have read anyway
    np.testing.assert_allclose(found.table["mean"], target + found.launches["trend"], rtol=1e-6)


def test_compare_launches_lose_what_authors_pass_on_to_other_regions():
    wide, narrow = Trial(Launch(4)), Trial(Launch(1))
    found = compare(PLATFORM.replace(psi=0.8, eta=0.0), [wide, narrow], **RUN)
    rows = found.launches.set_index("trial")
    assert rows.loc[wide.label, "spillover"] < rows.loc[narrow.label, "spillover"] < 0
    assert (found.table["target"] < found.table["truth"]).all()


def test_compare_launches_share_the_world_of_their_regions():
    def worlds(*trials):
        setting = Setting(hours=96, before_hours=96, tick_minutes=60)
        wanted = ("readings", "targets", "null")
        given = {"strategy": LIFT, "setting": setting, "redraw": False, "wanted": wanted}
        return TrialPlan(platform=PLATFORM, trials=trials, **given).n_worlds

    split = Trial(UserSplit())
    one = Trial(Launch(3))
    same = Trial(Launch(3, reading="event_study"))
    assert worlds(split, one, same) == worlds(split, one) == worlds(split) + 1
    alone, beside = (
        compare(PLATFORM, trials, **RUN).table.set_index("trial")
        for trials in ([split], [split, one, same])
    )
    pd.testing.assert_series_equal(alone.loc[split.label], beside.loc[split.label], rtol=1e-9)


def test_launch_takes_an_analysis_of_ones_own():
    def read(table):
        return read_launch(Launch(2), table)

    own, usual = Trial(Launch(2), name="own", analysis=read), Trial(Launch(2))
    found = compare(PLATFORM, [own, usual], **RUN)
    for rows in (found.table, found.launches):
        numbers = rows.select_dtypes("number")
        np.testing.assert_allclose(numbers.iloc[0], numbers.iloc[1], rtol=1e-7, atol=1e-9)


@pytest.fixture(scope="module")
def both():
    """The same platform with regions, and without."""
    given = {"strategy": LIFT, "hours": 72, "replications": 2, "seed": 2}
    small = PLATFORM.replace(n_viewers=80, n_authors=10)
    return tuple(triangulate(small.replace(n_regions=n), **given) for n in (8, 1))


def test_triangulate_launches_leave_the_other_rows_as_they_are(both):
    many, one = both
    names = [trial.label for trial in usual_launches(8)]
    assert len(names) == 5
    assert many.table["method"].tolist() == [*one.table["method"], *names]
    pd.testing.assert_frame_equal(many.table.head(len(one.table)), one.table, rtol=1e-9)
    assert set(many.mechanisms["method"]) == set(many.table["method"])


def test_triangulate_gives_launches_their_target_and_the_reason_in_parts(both):
    many = both[0]
    table = many.table.set_index("method")
    for row in many.launches.to_dict("records"):
        mine = table.loc[row["method"]]
        assert mine["estimand"] == "att"
        np.testing.assert_allclose(row["live"] + row["spillover"], mine["target"], rtol=1e-9)
        np.testing.assert_allclose(
            mine["bias"], mine["estimand_gap"] + row["trend"], rtol=1e-6, atol=1e-9
        )
        lost, noise = row["live"] - mine["truth"], 2 * row["mc_se_live"]
        said = f"{100 * lost / mine['truth']:+.0f} points where it is live" in mine["reason"]
        assert said == (abs(lost) > max(noise, 0.02 * mine["truth"]))
    assert (table["rmse"] >= table["bias"].abs() - 1e-12).all()
    assert table["coverage"].between(0, 1).all()


def test_triangulate_says_what_a_platform_without_regions_is_not_read_by(both):
    many, one = both
    assert len(many.left_out) == 0
    assert one.left_out["method"].tolist() == [trial.label for trial in usual_launches(4)]
    assert one.left_out["reason"].str.startswith("the platform has 1 region; a launch").all()
    assert "one region, synthetic control: left out; the platform has 1 region" in one.summary()
    assert usual_launches(3) == []


def test_triangulation_page_shows_launches_or_why_there_are_none(both, tmp_path):
    document, page, drawn = written(tmp_path / "many", both[0])
    tables = document["sections"][0]["tables"]
    assert [row["method"] for row in tables["launches"]] == both[0].launches["method"].tolist()
    assert tables["methods"][-1]["coverage"] == both[0].table["coverage"].iloc[-1]
    assert "A launch in regions that nobody drew by lot" in page.words
    assert "one region, synthetic DID" in "".join(drawn[0].itertext())
    document, page, _ = written(tmp_path / "one", both[1])
    assert "launches" not in document["sections"][0]["tables"]
    assert "Left out: launch, DID; launch, event study;" in page.words
    assert "Why: the platform has 1 region;" in page.words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_regions": 0}, "n_regions must be a whole number >= 1"),
        ({"n_regions": 2, "waves": 3}, "waves must be at most n_regions 2; got 3"),
        ({"where": "best"}, "where must be one of"),
        ({"reading": "ols"}, "reading must be one of"),
        ({"n_regions": 4, "waves": 2}, "waves=2 start at several times, which 'did' mixes up"),
    ],
)
def test_launch_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Launch(**arguments)


@pytest.mark.parametrize(
    ("launch", "changes", "message"),
    [
        (Launch(7), {}, "two of them without it; the platform has 8, of which 7 would get it"),
        (Launch(1), {"platform": PLATFORM.replace(n_regions=1)}, "needs 4 regions or more"),
        (Launch(1), {"before": 0}, "before_hours must hold 4 periods or more; it holds 0 ticks"),
        (Launch(1), {"before": 3}, "it holds 3 ticks"),
        (Launch(6, waves=5, reading="group_time"), {}, "5 waves need as many periods; got 4"),
    ],
)
def test_launch_refuses_platforms_and_lengths_that_do_not_fit(launch, changes, message):
    with pytest.raises(ValueError, match=message):
        run_of(launch, **changes).arms  # noqa: B018 — the access throws


@pytest.mark.parametrize(
    ("launch", "label"),
    [
        (Launch(1, reading="synthetic_control"), "launch in 1 typical region, synthetic control"),
        (
            Launch(6, waves=2, where="least_active", reading="group_time"),
            "launch in 6 least active regions, 2 waves, group-time effects",
        ),
    ],
)
def test_launch_label_says_where_and_how(launch, label):
    assert Trial(launch).label == label


def test_launch_world_is_none_where_nothing_is_lifted():
    run = run_of(Launch(2))
    worlds = flow_worlds(
        PLATFORM, {"run": run.arms, "none": Arms.none()}, strategy=Strategy(0.0), hours=96
    )
    np.testing.assert_allclose(worlds["run"].by_region, worlds["none"].by_region, rtol=1e-12)
