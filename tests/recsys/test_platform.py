"""The platform's population, parameters, content and draws."""

import pickle

import numpy as np
import pandas as pd
import pytest

from recsys import Arms, LivePlatform, PlatformParameters, Strategy, flow_worlds
from recsys.platform.draws import hourly_presence


def test_live_platform_is_reproducible_and_its_parts_have_streams_of_their_own():
    one, two = (LivePlatform(n_viewers=50, n_authors=9, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one.viewers, two.viewers)
    np.testing.assert_array_equal(one.affinity, two.affinity)
    other = LivePlatform(n_viewers=50, n_authors=9, seed=4)
    assert not np.allclose(one.affinity, other.affinity)
    more = one.replace(n_authors=12)  # viewers stay who they are
    pd.testing.assert_frame_equal(one.viewers, more.viewers)


def test_live_platform_survives_pickle_and_replace():
    platform = LivePlatform(n_viewers=50, n_authors=9, seed=3, preset="ranking", u0=4)
    back = pickle.loads(pickle.dumps(platform))
    assert back == platform
    assert hash(back) == hash(platform)
    assert back.parameters.content
    assert back.parameters.activity_sd == 1.0
    np.testing.assert_array_equal(back.affinity, platform.affinity)
    assert platform.replace(u0=1.0).parameters.u0 == 1.0
    assert "u0=4.0" in repr(platform)
    assert PlatformParameters.from_dict(platform.parameters.to_dict()) == platform.parameters


def test_live_platform_population_has_the_stated_moments():
    platform = LivePlatform(n_viewers=4000, n_authors=900, n_regions=7, seed=1)
    viewers, authors = platform.viewers, platform.authors
    assert abs(viewers["activity"].std() / 0.3 - 1) < 0.05
    assert abs(viewers["n_short_video"].mean() - 60) < 1
    assert abs(authors["quality"].std() / 0.7 - 1) < 0.1
    size = 0.15 * 4000 / 900
    assert abs(np.log(authors["capacity"]).mean() - np.log(size)) < 0.07
    assert abs(np.log(authors["capacity"]).std() - 0.5) < 0.05
    taste = platform.affinity - authors["quality"].to_numpy()
    assert abs(taste.std() / 0.6 - 1) < 0.05
    assert viewers["region"].value_counts().between(571, 572).all()
    assert viewers["cluster"].nunique() == 12
    ids = np.concatenate([viewers["viewer_id"], authors["author_id"]])
    assert len(np.unique(ids)) == len(ids)
    assert (ids > 0).all()
    assert (ids > 2**53).mean() > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho_x": 0.5}, r"unknown platform parameter 'rho_x'; did you mean 'rho_"),
        ({"zzz": 0.5}, "unknown platform parameter 'zzz'; known are"),
        ({"rho_h": 1.0}, r"rho_h must be a number in \[0, 1\); got 1.0"),
        ({"rho_m": -0.1}, r"rho_m must be a number in \[0, 1\); got -0.1"),
        ({"pk": 1.2}, r"pk must be a number in \[0, 1\]; got 1.2"),
        ({"live_share": 0.0}, r"live_share must be a number in \(0, 1\]; got 0.0"),
        ({"noise": -1}, r"noise must be a number in \[0, inf\); got -1"),
        ({"u0": np.nan}, "u0 must be a number"),
        ({"eta": "high"}, "eta must be a number"),
        ({"kappa": True}, "kappa must be a number"),
        ({"content": 2}, r"content must be on \(1\) or off \(0\); got 2"),
        ({"programme": "film"}, "programme must be one of"),
        ({"learning": "both"}, "learning must be one of"),
        ({"n_codes": 3}, "n_codes must be a whole number of 16 or more"),
        ({"preset": "small"}, "preset must be one of"),
        ({"n_viewers": 1}, "n_viewers must be a whole number >= 2; got 1"),
        ({"n_viewers": 10.5}, "n_viewers must be a whole number >= 2; got 10.5"),
        ({"n_authors": 0}, "n_authors must be a whole number >= 1; got 0"),
        ({"n_regions": 11}, "n_regions must be at most n_viewers 10; got 11"),
        ({"seed": -1}, "seed must be a whole number >= 0; got -1"),
    ],
)
def test_live_platform_refuses_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LivePlatform(**{"n_viewers": 10, "n_authors": 4, **settings})


@pytest.mark.parametrize("hours", [0, -1, np.inf, "day"])
def test_draws_refuse_bad_lengths(hours):
    with pytest.raises(ValueError, match="hours must be positive"):
        LivePlatform(n_viewers=10, n_authors=4).draws(hours=hours)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"live_share": 0.4},
        {"content": True},
        {"content": True, "programme": "routine", "personal": True},
    ],
)
def test_draws_that_are_longer_begin_with_the_shorter(parameters):
    platform = LivePlatform(n_viewers=30, n_authors=8, **parameters)
    short, long = (platform.draws(hours=h, warm_up_hours=3, seed=5) for h in (10, 40))
    np.testing.assert_array_equal(short.shock, long.shock[:13])
    np.testing.assert_array_equal(short.partner, long.partner[:13])
    np.testing.assert_array_equal(short.noise(4), long.noise(4))
    assert not np.array_equal(short.noise(4), short.noise(5))
    if short.live is not None:
        np.testing.assert_array_equal(short.live, long.live[: len(short.live)])
    if short.programme is not None:
        n = len(short.programme.code)
        np.testing.assert_array_equal(short.programme.code, long.programme.code[:n])
        np.testing.assert_array_equal(short.programme.mood, long.programme.mood[:n])


def test_draws_have_the_stated_laws():
    platform = LivePlatform(n_viewers=2000, n_authors=41, live_share=0.3, pk=0.4, seed=2)
    draws = platform.draws(hours=3000, warm_up_hours=0, seed=1)
    assert abs(draws.shock.std() / 0.15 - 1) < 0.1
    lagged = np.corrcoef(draws.shock[1:], draws.shock[:-1])[0, 1]
    assert abs(lagged - 0.9) < 0.03
    assert abs(draws.live.mean() - 0.3) < 0.02
    paired = draws.partner >= 0
    present = draws.live[::60]
    assert not (paired & ~present).any()
    assert abs(paired.sum() / present.sum() - 0.4) < 0.01
    rows, rooms = np.nonzero(paired)
    there = draws.partner[rows, rooms]
    np.testing.assert_array_equal(draws.partner[rows, there], rooms)  # opponents name each other
    noise = np.concatenate([draws.noise(h) for h in range(-5, 45)])
    assert abs(noise.mean()) < 4 / np.sqrt(len(noise))
    assert abs(noise.std() - 1) < 0.02


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_hourly_presence_is_that_of_drawn_sessions(share):
    platform = LivePlatform(n_viewers=2, n_authors=200, live_share=share)
    live = platform.draws(hours=240, warm_up_hours=0, seed=2).live
    hours = live.reshape(240, 60, 200).any(axis=1)
    np.testing.assert_allclose(hours.mean(), hourly_presence(share), rtol=0.03)
    assert hourly_presence(1.0) == 1


def test_sessions_have_a_median_of_two_and_a_half_hours():
    platform = LivePlatform(n_viewers=10, n_authors=200, live_share=0.2)
    live = platform.draws(hours=200, warm_up_hours=0).live
    change = np.diff(live.astype(int), axis=0)
    lengths = []
    for room in range(200):
        starts, ends = (np.flatnonzero(change[:, room] == k) for k in (1, -1))
        lengths += [e - s for s in starts for e in ends[ends > s][:1]]
    assert abs(np.median(lengths) / 150 - 1) < 0.06


@pytest.mark.parametrize("programme", ["show", "routine"])
@pytest.mark.parametrize("personal", [False, True])
def test_content_weights_are_means_over_segments(programme, personal):
    from recsys.platform.content import content_weights

    platform = LivePlatform(
        n_viewers=20, n_authors=5, content=True, programme=programme, personal=personal, seed=6
    )
    draws = platform.draws(hours=4, warm_up_hours=1, seed=2)
    taste, kind = platform.topic_taste, platform.viewers["viewer_type"].to_numpy()
    here = slice(100, 160)
    found = content_weights(
        platform.parameters, platform.codes, draws.programme, taste=taste, viewer_type=kind,
        segments=here,
    )  # fmt: skip
    code, mood = draws.programme.code[here], draws.programme.mood[here]
    plain = np.zeros((20, 5))
    for i in range(20):
        for j in range(5):
            c = code[:, j]
            utility = 0.72 * taste[i, platform.codes.topic[c]] + 0.9 * mood[:, j].astype(float)
            utility += platform.codes.highlight[c] * (1 + 0.5 * kind[i] * personal)
            plain[i, j] = np.exp(utility).mean()
    np.testing.assert_allclose(found, plain, rtol=1e-12)


def test_content_show_has_dwells_cycles_and_own_codes():
    platform = LivePlatform(n_viewers=10, n_authors=30, content=True, seed=1)
    code = platform.draws(hours=200, warm_up_hours=0).programme.code
    assert all(len(np.unique(code[:, j])) <= 8 for j in range(30))
    topics, home = platform.codes.topic[code], platform.authors["topic"].to_numpy()
    assert 0.85 < (topics == home).mean() <= 1
    change = np.flatnonzero(np.diff(code[:, 0]) != 0)
    runs = np.diff(change)
    assert abs(runs.mean() - 3.3) < 0.5  # 1 + E min(Geom(.45), 6), a little more where it returns


def test_content_leaves_the_level_of_the_market():
    run = {"strategy": Strategy(0.25), "hours": 48, "warm_up_hours": 12, "record": "totals"}
    levels = []
    for content in (False, True):
        platform = LivePlatform(n_viewers=400, n_authors=40, content=content, seed=2)
        levels.append(flow_worlds(platform, {"n": Arms.none()}, **run)["n"].watch.mean())
    assert abs(levels[1] / levels[0] - 1) < 0.1


def test_flow_worlds_with_content_equal_a_plain_product():
    platform = LivePlatform(
        n_viewers=25, n_authors=6, content=True, eta=0, psi=0, chi=0, kappa=0, seed=2
    )
    draws = platform.draws(hours=5, warm_up_hours=2, seed=1)
    w = flow_worlds(
        platform, {"a": Arms.all()}, strategy=Strategy(0.2), hours=5, warm_up_hours=2, draws=draws,
        record="pairs",
    )["a"]  # fmt: skip
    from recsys.platform.content import content_weights

    total = np.zeros((25, 6))
    p = platform.parameters
    for hour in range(5):
        weights = content_weights(
            p, platform.codes, draws.programme, taste=platform.topic_taste,
            viewer_type=platform.viewers["viewer_type"].to_numpy(),
            segments=slice((hour + 2) * 120, (hour + 3) * 120),
        )  # fmt: skip
        e = np.exp(platform.affinity + 0.2 - draws.centre) * weights
        share = e / (np.exp(p.u0) * 6 / 40 + e.sum(axis=1, keepdims=True))
        logit = p.a0 + platform.viewers["activity"].to_numpy() + draws.shock[hour + 2]
        logit = logit + p.tod * np.sin(2 * np.pi * (hour + 0.5) / 24)
        online = np.minimum(np.exp(p.noise * draws.noise(hour)) / (1 + np.exp(-logit)), 1)
        total += 60 * online[:, None] * share
    np.testing.assert_allclose(w.pairs, total, rtol=1e-10)
