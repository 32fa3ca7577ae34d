"""Worlds in lockstep equal a plain loop over the equations; identities; what designs see."""

import numpy as np
import pandas as pd
import pytest
from plain_flows import plain_world

from recsys import Arms, LivePlatform, Strategy, flow_worlds

SMALL = {"n_viewers": 60, "n_authors": 12, "n_regions": 3, "seed": 4}
RUN = {"hours": 30, "before_hours": 5, "warm_up_hours": 6}


def arms_of_all_kinds(n_viewers=60, n_authors=12, hours=30, seed=0):
    rng = np.random.default_rng(seed)

    def coin(*shape):
        return rng.integers(0, 2, shape)

    return {
        "none": Arms.none(),
        "all": Arms.all(),
        "viewers": Arms(viewer=coin(n_viewers)),
        "authors": Arms(author=coin(n_authors)),
        "both": Arms(viewer=coin(n_viewers), author=coin(n_authors)),
        "time": Arms(time=coin(hours)),
        "regions": Arms(time=coin(3, hours), author=coin(n_authors)),
        "saturation": Arms(viewer=coin(hours, n_viewers)),
        "everything": Arms(coin(hours, n_viewers), coin(n_authors), coin(3, hours)),
    }


STRATEGY = Strategy(
    0.3,
    author_lift=np.linspace(-0.1, 0.2, 12),
    activity_lift=0.1,
    effort_lift=0.2,
    exposure_lift=0.4,
)
PLATFORMS = {
    "defaults": {},
    "battles": {"pk": 0.6, "b_pk": 0.3},
    "sessions": {"live_share": 0.5, "pk": 0.5},
    "pooled learning": {"learning_rate": 0.2},
    "diverted learning": {"learning_rate": 0.2, "learning": "diverted", "live_share": 0.7},
    "other market": {"u0": 1.0, "kappa": 1.0, "chi": 0.0, "noise": 0.0, "psi": 0.8, "age_term": 1},
}


@pytest.mark.parametrize("parameters", PLATFORMS.values(), ids=PLATFORMS)
def test_flow_worlds_equal_a_plain_loop_over_the_equations(parameters):
    platform = LivePlatform(**SMALL, **parameters)
    draws = platform.draws(hours=35, warm_up_hours=6, seed=3)
    worlds = arms_of_all_kinds()
    found = flow_worlds(platform, worlds, strategy=STRATEGY, draws=draws, record="pairs", **RUN)
    region = platform.viewers["region"].to_numpy()
    for name, arms in worlds.items():
        flow = plain_world(platform, arms, STRATEGY, draws=draws, **RUN)
        paths = found[name]
        np.testing.assert_allclose(paths.watch, flow.sum(axis=2).mean(axis=1), rtol=1e-10)
        np.testing.assert_allclose(paths.pairs, 60 * flow.sum(axis=0), rtol=1e-10, atol=1e-12)
        for r in range(3):
            mine = flow[:, region == r].sum(axis=2).mean(axis=1)
            np.testing.assert_allclose(paths.by_region[r], mine, rtol=1e-10)
        treated = np.broadcast_to(arms.viewer, (30, 60)) == 1
        by_arm = (flow.sum(axis=2) * treated).sum(axis=1)
        np.testing.assert_allclose(paths.by_arm[1].sum(axis=0), by_arm, rtol=1e-10, atol=1e-12)
        cells = np.array(
            [
                [
                    60
                    * (flow.sum(axis=0) * 0 + (flow * (treated == v)[..., None]).sum(axis=0))[
                        :, np.broadcast_to(arms.author, 12) == s
                    ].sum()
                    for s in (0, 1)
                ]
                for v in (0, 1)
            ]
        )
        np.testing.assert_allclose(paths.cells, cells, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("parameters", PLATFORMS.values(), ids=PLATFORMS)
def test_flow_worlds_without_lift_are_all_the_control_world(parameters):
    platform = LivePlatform(**SMALL, **parameters)
    worlds = arms_of_all_kinds()
    found = flow_worlds(platform, worlds, strategy=Strategy(lift=0.0), seed=2, **RUN)
    if parameters.get("learning") == "diverted":
        found = {name: found[name] for name in ("none", "all")}  # learning by arm is a treatment
    for paths in found.values():
        np.testing.assert_allclose(paths.by_viewer, found["none"].by_viewer, rtol=1e-12)
        np.testing.assert_allclose(paths.effort, 0, atol=1e-12)


def test_flow_worlds_sums_agree():
    platform = LivePlatform(**SMALL, pk=0.5)
    found = flow_worlds(
        platform, arms_of_all_kinds(), strategy=STRATEGY, record="pairs", seed=5, **RUN
    )
    for paths in found.values():
        np.testing.assert_allclose(paths.pairs.sum(axis=1), paths.by_viewer, rtol=1e-12)
        np.testing.assert_allclose(paths.pairs.sum(axis=0), paths.by_author, rtol=1e-12)
        np.testing.assert_allclose(paths.cells.sum(), paths.by_viewer.sum(), rtol=1e-12)
        np.testing.assert_allclose(60 * 60 * paths.watch.sum(), paths.by_viewer.sum(), rtol=1e-12)
        np.testing.assert_allclose(paths.by_arm.sum(axis=(0, 1)), 60 * paths.watch, rtol=1e-12)
        assert 0 < paths.outside_share < 1
    assert found["none"].entangled_share == found["all"].entangled_share == 0
    assert 0 < found["authors"].entangled_share < 0.6


def test_flow_worlds_time_of_ones_is_everybody_and_worlds_do_not_touch_each_other():
    platform = LivePlatform(**SMALL)
    ones = Arms(time=np.ones((3, 30)))
    run = {"strategy": STRATEGY, "seed": 1, **RUN}
    together = flow_worlds(platform, {**arms_of_all_kinds(), "ones": ones}, **run)
    np.testing.assert_allclose(together["ones"].watch, together["all"].watch, rtol=1e-13)
    alone = flow_worlds(platform, {"both": arms_of_all_kinds()["both"]}, **run)
    np.testing.assert_allclose(alone["both"].by_viewer, together["both"].by_viewer, rtol=1e-12)


def test_flow_worlds_follow_a_permutation_of_authors():
    platform, permuted = LivePlatform(**SMALL, pk=0.5), LivePlatform(**SMALL, pk=0.5)
    order = np.random.default_rng(1).permutation(12)
    place = np.argsort(order)
    permuted.__dict__["affinity"] = platform.affinity[:, order]
    permuted.__dict__["authors"] = platform.authors.iloc[order].reset_index(drop=True)
    draws = platform.draws(hours=30, warm_up_hours=6, seed=2)
    moved = permuted.draws(hours=30, warm_up_hours=6, seed=2)
    partner = draws.partner[:, order]
    object.__setattr__(moved, "partner", np.where(partner >= 0, place[partner], -1))
    arm = np.arange(12) % 2
    run = {"strategy": Strategy(0.3), "hours": 30, "warm_up_hours": 6}
    one = flow_worlds(platform, {"a": Arms(author=arm)}, draws=draws, **run)["a"]
    two = flow_worlds(permuted, {"a": Arms(author=arm[order])}, draws=moved, **run)["a"]
    np.testing.assert_allclose(two.by_author, one.by_author[order], rtol=1e-12)
    np.testing.assert_allclose(two.by_viewer, one.by_viewer, rtol=1e-12)


def test_flow_worlds_take_a_strategy_and_a_record_for_each_world():
    platform, arms = LivePlatform(**SMALL), arms_of_all_kinds()
    worlds = {"strong": arms["both"], "weak": arms["both"], "idle": arms["both"]}
    strategies = {"strong": STRATEGY, "weak": Strategy(0.1), "idle": Strategy(0.0), "other": None}
    records = {"strong": "pairs", "weak": "totals", "idle": "viewers"}
    run = {"seed": 1, **RUN}
    together = flow_worlds(platform, worlds, strategy=strategies, record=records, **run)
    for name in worlds:
        alone = flow_worlds(platform, {"": worlds[name]}, strategy=strategies[name], **run)[""]
        np.testing.assert_allclose(together[name].watch, alone.watch, rtol=1e-12)
        np.testing.assert_allclose(together[name].effort, alone.effort, atol=1e-12)
    assert together["strong"].pairs is not None
    assert together["weak"].by_viewer is None
    assert together["idle"].pairs is None
    with pytest.raises(ValueError, match=r"strategy must name every world; it leaves out \['a'\]"):
        flow_worlds(platform, {"a": Arms.all()}, strategy={}, **run)


def test_flow_worlds_slices_are_runs_of_ticks():
    platform = LivePlatform(**SMALL)
    coin = np.random.default_rng(0).integers(0, 2, (3, 5))
    viewer = np.random.default_rng(1).integers(0, 2, (5, 60))
    worlds = {
        "slices": Arms(viewer=viewer, time=coin, slice_minutes=360),
        "ticks": Arms(viewer=np.repeat(viewer, 6, axis=0), time=np.repeat(coin, 6, axis=1)),
    }
    found = flow_worlds(platform, worlds, strategy=STRATEGY, seed=1, **RUN)
    np.testing.assert_array_equal(found["slices"].watch, found["ticks"].watch)


def test_flow_worlds_cut_longer_draws():
    platform = LivePlatform(**SMALL)
    run = {"strategy": STRATEGY, "hours": 20, "warm_up_hours": 6}
    long = platform.draws(hours=60, warm_up_hours=6, seed=9)
    one = flow_worlds(platform, {"all": Arms.all()}, draws=long, **run)["all"]
    two = flow_worlds(platform, {"all": Arms.all()}, seed=9, **run)["all"]
    np.testing.assert_array_equal(one.watch, two.watch)


def test_flow_worlds_in_single_precision_agree(monkeypatch):
    platform = LivePlatform(**SMALL)
    run = {"strategy": STRATEGY, "seed": 1, **RUN}
    double = flow_worlds(platform, arms_of_all_kinds(), **run)
    monkeypatch.setattr("recsys.platform.market._DOUBLE_UP_TO", 100)
    single = flow_worlds(platform, arms_of_all_kinds(), **run)
    for name in double:
        np.testing.assert_allclose(single[name].watch, double[name].watch, rtol=2e-6)


def test_flow_worlds_short_ticks_tell_the_same_effect():
    effects = []
    for minutes in (60, 30, 10):
        platform = LivePlatform(n_viewers=300, n_authors=40, seed=1)
        w = flow_worlds(
            platform,
            {"none": Arms.none(), "all": Arms.all()},
            strategy=Strategy(0.25),
            hours=168,
            tick_minutes=minutes,
            record="totals",
        )
        effects.append(w["all"].watch.mean() / w["none"].watch.mean() - 1)
    assert abs(effects[1] / effects[0] - 1) < 0.03
    assert abs(effects[2] / effects[0] - 1) < 0.05


def test_flow_paths_tables_hold_ids_arms_and_minutes():
    platform = LivePlatform(**SMALL)
    arms = arms_of_all_kinds()
    found = flow_worlds(platform, arms, strategy=STRATEGY, record="pairs", seed=1, **RUN)
    both, regions, saturation = (found[name] for name in ("both", "regions", "saturation"))
    viewers = both.viewer_table()
    assert viewers["viewer_id"].is_unique
    np.testing.assert_array_equal(viewers["viewer_arm"], arms["both"].viewer)
    np.testing.assert_array_equal(viewers["watch_minutes"], both.by_viewer)
    np.testing.assert_array_equal(viewers["watch_before"], both.before_viewer)
    authors = both.author_table()
    np.testing.assert_array_equal(authors["author_arm"], arms["both"].author)
    assert (authors["live_minutes"] == 30 * 60).all()
    pairs = both.pair_table()
    assert len(pairs) == 60 * 12
    by_viewer = pairs.groupby("viewer_id", sort=False)["watch_minutes"].sum()
    np.testing.assert_allclose(by_viewer, both.by_viewer, rtol=1e-12)
    time = regions.time_table(start="2026-03-02")
    assert time["time"].iloc[1] - time["time"].iloc[0] == pd.Timedelta(hours=1)
    np.testing.assert_array_equal(time["time_arm"], arms["regions"].time.ravel())
    np.testing.assert_array_equal(time["watch_minutes"], 60 * regions.by_region.ravel())
    by_arm = saturation.arm_table(start="2026-03-02")
    total = (by_arm["watch_minutes"] * by_arm["n_viewers"]).groupby(by_arm["hour"]).sum()
    np.testing.assert_allclose(total / 60, 60 * saturation.watch, rtol=1e-12)
    assert by_arm.groupby(["region", "hour"])["n_viewers"].sum().eq(20).all()
    with pytest.raises(ValueError, match=r"arm_table\(\)"):
        saturation.viewer_table()


def test_flow_paths_refuse_what_was_not_recorded():
    platform = LivePlatform(**SMALL)
    run = {"strategy": STRATEGY, "seed": 1, **RUN}
    totals = flow_worlds(platform, {"all": Arms.all()}, record="totals", **run)["all"]
    with pytest.raises(ValueError, match="record='viewers'"):
        totals.viewer_table()
    with pytest.raises(ValueError, match="record='pairs'"):
        flow_worlds(platform, {"all": Arms.all()}, **run)["all"].pair_table()


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (Arms(viewer=np.ones(59)), r"arms.viewer must have length 60 \(n_viewers\); got 59"),
        (Arms(viewer=np.ones((29, 60))), r"arms.viewer must have length 30 \(ticks\); got 29"),
        (Arms(author=np.ones(13)), r"arms.author must have length 12 \(n_authors\); got 13"),
        (Arms(time=np.ones(29)), r"arms.time must have length 30 \(ticks\); got 29"),
        (Arms(time=np.ones((2, 30))), r"arms.time must have length 3 \(n_regions\); got 2"),
        (
            Arms(time=np.ones(4), slice_minutes=360),
            r"arms.time must have length 5 \(slices that cover hours\); got 4",
        ),
        (Arms(time=np.ones(40), slice_minutes=45), "slice_minutes 45 must be a multiple"),
    ],
)
def test_flow_worlds_refuse_arms_of_another_length(arms, message):
    with pytest.raises(ValueError, match=message):
        flow_worlds(LivePlatform(**SMALL), {"a": arms}, strategy=STRATEGY, seed=1, **RUN)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"viewer": [0, 1, 2]}, r"viewer must hold 0 and 1; got \[2\]"),
        ({"author": 0.5}, "author must hold 0 and 1"),
        ({"time": ["a"]}, "time must hold 0 and 1"),
        ({"author": [[0, 1]]}, "author must have 1 axes at most"),
        ({"slice_minutes": 0}, "slice_minutes must be positive; got 0"),
        ({"viewer": [[0, 1], [1]]}, "viewer must hold rows of one length"),
    ],
)
def test_arms_refuse_other_values(values, message):
    with pytest.raises(ValueError, match=message):
        Arms(**values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 0}, "hours must be a whole number of ticks of 60 minutes, 1 or more"),
        ({"hours": 1.5}, "hours must be a whole number of ticks"),
        ({"before_hours": -1}, "before_hours must be 0 or more"),
        ({"tick_minutes": 0}, "tick_minutes must be positive; got 0"),
        ({"record": "all"}, "record must be one of"),
        ({"strategy": Strategy(author_lift=[1.0, 2.0])}, "author_lift must be a number or have"),
    ],
)
def test_flow_worlds_refuse_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        flow_worlds(
            LivePlatform(**SMALL),
            {"a": Arms.all()},
            **{"strategy": STRATEGY, "seed": 1, **RUN, **changes},
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"platform": "mine"}, "platform must be a LivePlatform; got str"),
        ({"worlds": [Arms()]}, "worlds must be a mapping from name to Arms; got list"),
        ({"worlds": {"a": 1}}, "worlds must hold Arms; 'a' is int"),
        ({"strategy": None}, "strategy must be a Strategy; got NoneType"),
        ({"strategy": {"a": 0.25}}, "strategy must be a Strategy; got float"),
        ({"draws": 3}, r"draws must be what platform.draws returns; got int"),
    ],
)
def test_flow_worlds_refuse_other_kinds(changes, message):
    platform = LivePlatform(n_viewers=4, n_authors=2)
    given = {"platform": platform, "worlds": {"a": Arms()}, "strategy": Strategy(), **changes}
    with pytest.raises(TypeError, match=message):
        flow_worlds(given.pop("platform"), given.pop("worlds"), hours=2, **given)


@pytest.mark.parametrize("name", ["hours", "before_hours", "warm_up_hours", "tick_minutes"])
def test_flow_worlds_refuse_lengths_that_are_no_numbers(name):
    platform = LivePlatform(n_viewers=4, n_authors=2)
    with pytest.raises(ValueError, match=f"{name} must be"):
        flow_worlds(
            platform, {}, strategy=Strategy(), draws=platform.draws(hours=2), **{name: "two"}
        )


def test_flow_worlds_refuse_draws_that_do_not_fit():
    platform = LivePlatform(**SMALL)
    run = {"strategy": STRATEGY, **RUN}
    short = platform.draws(hours=34, warm_up_hours=6)
    with pytest.raises(ValueError, match="draws must cover 35 hours after a warm-up of 6; they"):
        flow_worlds(platform, {}, draws=short, **run)
    other = platform.replace(n_viewers=61).draws(hours=35, warm_up_hours=6)
    with pytest.raises(ValueError, match="draws must be of 60 viewers and 12 authors; got 61"):
        flow_worlds(platform, {}, draws=other, **run)
    content = platform.replace(content=True).draws(hours=35, warm_up_hours=6)
    with pytest.raises(ValueError, match="same parameter content"):
        flow_worlds(platform, {}, draws=content, **run)


@pytest.mark.parametrize("lift", [np.nan, np.inf, "a", True])
def test_strategy_refuses_a_lift_that_is_no_number(lift):
    with pytest.raises(ValueError, match="lift must be a finite number"):
        Strategy(lift=lift)


@pytest.mark.parametrize("lifts", [["a"], None, [], [np.nan], np.ones((2, 2))])
def test_strategy_refuses_author_lifts_that_are_no_numbers(lifts):
    with pytest.raises(ValueError, match="author_lift must be a finite number"):
        Strategy(author_lift=lifts)
