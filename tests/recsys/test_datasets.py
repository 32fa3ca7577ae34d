"""`recsys.datasets`: the shipped logs, and the readers on generated rows of documented schemas."""

import gzip
import hashlib
import importlib.util
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.datasets import (
    LIVEREC_ORIGIN,
    open_bandit,
    read_kuailive,
    read_kuairand,
    read_liverec,
    read_open_bandit,
)

SHIPPED = Path(str(files("recsys"))) / "data" / "open_bandit"
# Rows, clicks, items and the SHA-256 of the content as CSV text, of the tables made from upstream.
CONTENT = {
    ("all", "bts"): (
        42,
        80,
        "f4ff6d7afa3f98c724e308763247939f065313dfc0ccef7758e820116a2da6e4",
        "41e62a9a3b2b8c91b9cc92b14e35ac27ba49240ffcfc807b05fee5fbea915a76",
    ),
    ("all", "random"): (
        38,
        80,
        "708e73863ad0b960666ed0c25747f5635eb6689e2391ef34ce0780770667c819",
        "06e9d16fcc76b79cfe9632b110384979f0bc0e3c98af653547c41e8855236fb2",
    ),
    ("men", "bts"): (
        69,
        34,
        "67290a862c5e3349ef226c9bc785f9aec9432f810d47e451f6cd4023a0b18ef9",
        "59dc20d16f592495833dcc0f77b660005c42c488ba847d60e14e7d9dbf960df2",
    ),
    ("men", "random"): (
        46,
        34,
        "7bc57584b9e41703be3d2ac1abf421271f1e7a7cff067a062a6fc2053e9fe1a6",
        "c40a34c271e3fe2dcae3a5026272740bc9a6a7e316b7f2a6eeb12272fad41743",
    ),
}


def content_hash(frame):
    """SHA-256 of a table's values as CSV text: does not depend on how Parquet packs them."""
    text = frame.to_csv(index=False, lineterminator="\n", date_format="%Y-%m-%dT%H:%M:%S.%f%z")
    return hashlib.sha256(text.encode()).hexdigest()


def make_script():
    """The script that made the shipped tables, as a module."""
    path = SHIPPED.parent / "make_open_bandit.py"
    spec = importlib.util.spec_from_file_location("make_open_bandit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_open_bandit_csv(path, *, n=40, n_items=5, seed=0):
    """A tiny log in the upstream schema; returns the table that was written."""
    rng = np.random.default_rng(seed)
    stamps = pd.Timestamp("2019-11-24", tz="UTC") + pd.to_timedelta(
        np.sort(rng.integers(0, 6 * 86_400 * 10**6, n)), unit="us"
    )
    frame = pd.DataFrame(
        {
            "timestamp": [stamp.isoformat(sep=" ") for stamp in stamps],
            "item_id": rng.integers(0, n_items, n),
            "position": rng.integers(1, 4, n),
            "click": rng.random(n) < 0.2,
            "propensity_score": rng.uniform(0.01, 1, n),
        }
    ).astype({"click": int})
    for i in range(4):
        frame[f"user_feature_{i}"] = rng.choice(["81ce", "cef3", "1e5"], n)
    for i in range(n_items):
        frame[f"user-item_affinity_{i}"] = np.where(rng.random(n) < 0.3, rng.random(n), 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path)
    return frame


# ---------------------------------------------------------------- Open Bandit


@pytest.mark.parametrize("campaign", ["all", "men"])
@pytest.mark.parametrize("policy", ["bts", "random"])
def test_open_bandit_ships_the_upstream_content(campaign, policy):
    log = open_bandit(campaign, policy)
    n_clicks, n_items, treatments, outcomes = CONTENT[campaign, policy]
    assert log.check().problems == ()
    assert log.n_rows == 10_000
    assert len(log.outcomes) == n_clicks == log.joined()["click"].sum()
    assert log.frame["room_id"].nunique() == n_items == log.frame["n_candidates"].max()
    assert content_hash(log.frame) == treatments
    assert content_hash(log.outcomes) == outcomes


def test_open_bandit_random_policy_draws_uniformly():
    for campaign, n_items in (("all", 80), ("men", 34)):
        propensity = open_bandit(campaign, "random").frame["propensity"]
        np.testing.assert_allclose(propensity, 1 / n_items, rtol=1e-12)


def test_open_bandit_policies_share_the_levels_of_user_features():
    bts, random = (open_bandit("all", policy).frame for policy in ("bts", "random"))
    for i in range(4):
        levels = set(bts[f"user_feature_{i}"]), set(random[f"user_feature_{i}"])
        assert len(levels[0] & levels[1]) >= 2


def test_open_bandit_folder_holds_licence_and_notice_and_is_small():
    notice = (SHIPPED / "NOTICE").read_text()
    assert "Saito" in notice
    assert "salted" in notice
    assert "Apache License" in (SHIPPED / "LICENSE").read_text()
    assert sum(file.stat().st_size for file in SHIPPED.glob("*.parquet")) < 600_000


@pytest.mark.parametrize("arguments", [("women", "bts"), ("all", "egreedy")])
def test_open_bandit_names_what_there_is(arguments):
    with pytest.raises(ValueError, match="must be one of"):
        open_bandit(*arguments)


@pytest.mark.parametrize("packed", [False, True])
def test_read_open_bandit_maps_every_column(packed, tmp_path):
    path = tmp_path / "all.csv"
    raw = write_open_bandit_csv(path)
    if packed:
        text = path.read_bytes()
        path = tmp_path / "all.csv.gz"
        path.write_bytes(gzip.compress(text))
    log = read_open_bandit(path, policy="bts", campaign="all")
    frame = log.validate().frame
    assert frame["impression_id"].tolist() == list(range(40))
    assert [stamp.isoformat(sep=" ") for stamp in frame["timestamp"]] == raw["timestamp"].tolist()
    for ours, theirs in {
        "room_id": "item_id",
        "propensity": "propensity_score",
        "position": "position",
        "user_feature_2": "user_feature_2",
    }.items():
        np.testing.assert_array_equal(frame[ours], raw[theirs])
    assert set(frame["policy_id"]) == {"bts"}
    assert set(frame["scene"]) == {"all"}
    assert set(frame["n_candidates"]) == {5}
    for row, item in enumerate(raw["item_id"]):
        assert frame["affinity"][row] == raw[f"user-item_affinity_{item}"][row]
    assert log.joined()["click"].tolist() == raw["click"].tolist()


def test_make_open_bandit_reproduces_what_the_reader_gives(tmp_path):
    for seed, (policy, campaign) in enumerate(
        (policy, campaign) for policy in ("bts", "random") for campaign in ("all", "men")
    ):
        write_open_bandit_csv(tmp_path / "in" / policy / campaign / f"{campaign}.csv", seed=seed)
    (tmp_path / "in" / "LICENSE").write_text("licence")
    written = make_script().make(tmp_path / "in", tmp_path / "out")
    assert len(written) == 8
    assert {path.name for path in written} == {path.name for path in SHIPPED.glob("*.parquet")}
    assert (tmp_path / "out" / "LICENSE").read_text() == "licence"
    source = tmp_path / "in" / "bts" / "men" / "men.csv"
    log = read_open_bandit(source, policy="bts", campaign="men")
    for name, frame in (("men_bts", log.frame), ("men_bts_outcomes", log.outcomes)):
        stored = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert stored.schema.equals(pq.read_schema(SHIPPED / f"{name}.parquet"))
        pd.testing.assert_frame_equal(stored.to_pandas(), frame)


def test_read_open_bandit_names_the_file_and_the_fault(tmp_path):
    def read(path):
        return read_open_bandit(path, policy="bts", campaign="all")

    path = tmp_path / "all.csv"
    with pytest.raises(ValueError, match=r"all\.csv: no such file"):
        read(path)
    raw = write_open_bandit_csv(path)
    raw.drop(columns="click").to_csv(path)
    with pytest.raises(ValueError, match=r"all\.csv: must have the columns click"):
        read(path)
    raw.assign(item_id="x").to_csv(path)
    with pytest.raises(ValueError, match=r"all\.csv: not the CSV that was expected"):
        read(path)
    raw.assign(item_id=77).to_csv(path)
    with pytest.raises(ValueError, match=r"all\.csv: item_id must have a column .*items 77"):
        read(path)
    raw.assign(timestamp="yesterday").to_csv(path)
    with pytest.raises(ValueError, match=r"all\.csv: timestamp must be in ISO 8601"):
        read(path)
    raw.head(0).to_csv(path)
    with pytest.raises(ValueError, match=r"all\.csv: has no rows"):
        read(path)
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(raw.to_csv().encode())[:-20])
    with pytest.raises(ValueError, match=r"torn\.csv\.gz: not the CSV"):
        read(torn)


# ---------------------------------------------------------------- KuaiLive

T0 = 1_746_374_400_022


def write_kuailive(folder, **tables):
    """A tiny KuaiLive in its documented columns; tables are replaced by keyword."""
    names = ["user_id", "live_id", "streamer_id", "timestamp"]
    rows = {
        "click": (
            [*names, "watch_live_time"],
            [(1, 10, 100, T0, 2852), (2, 10, 100, T0 + 5, 0), (1, 10, 100, T0 + 9000, 7000)],
        ),
        "negative": (names, [(1, 11, 101, T0 + 1)]),
        "comment": (names, [(1, 10, 100, T0 + 9000), (1, 10, 100, T0 + 2000)]),
        "like": (names, [(1, 10, 100, T0 + 9500), (1, 10, 100, T0 + 9600)]),
        "gift": ([*names, "gift_price"], [(2, 10, 100, T0 + 60_000, 30)]),
    }
    for name, (columns, values) in (rows | tables).items():
        pd.DataFrame(values, columns=columns).to_csv(folder / f"{name}.csv", index=False)
    return names


def test_read_kuailive_gives_behaviours_to_the_latest_click_before(tmp_path):
    write_kuailive(tmp_path)
    log = read_kuailive(tmp_path)
    joined = log.joined()
    assert joined["viewer_id"].tolist() == [1, 1, 2, 1]
    assert joined["room_id"].tolist() == [10, 11, 10, 10]
    assert joined["author_id"].tolist() == [100, 101, 100, 100]
    assert joined["timestamp"][0] == pd.Timestamp(T0, unit="ms", tz="UTC")
    assert joined["click"].tolist() == [1, 0, 1, 1]
    assert joined["watch_s"].tolist() == [2.852, 0, 0, 7.0]
    assert joined["comment"].tolist() == [1, 0, 0, 1]
    assert joined["like"].tolist() == [0, 0, 0, 2]
    assert joined["gift"].tolist() == [0, 0, 30, 0]
    early = log.joined(outcome_window=pd.Timedelta("5s").to_pytimedelta())
    assert early["watch_s"].tolist() == [2.852, 0, 0, 0]
    assert early["gift"].tolist() == [0, 0, 0, 0]


def test_read_kuailive_leaves_the_propensity_unknown_and_check_warns(tmp_path):
    write_kuailive(tmp_path)
    (problem,) = read_kuailive(tmp_path).validate().check().problems
    assert (problem.column, problem.severity, problem.n_rows) == ("propensity", "warning", 4)
    assert "off-policy estimates refuse this log" in problem.message


def test_read_kuailive_warns_of_behaviours_without_a_click(tmp_path):
    names = ["user_id", "live_id", "streamer_id", "timestamp"]
    strays = [(1, 10, 100, T0 - 1), (9, 10, 100, T0), (1, 10, 100, T0)]
    write_kuailive(tmp_path, like=(names, strays))
    with pytest.warns(UserWarning, match=r"2 of 3 rows of like\.csv have no earlier click"):
        log = read_kuailive(tmp_path)
    assert log.joined()["like"].tolist() == [1, 0, 0, 0]


def test_read_kuailive_takes_empty_behaviours_but_not_absent_files(tmp_path):
    names = ["user_id", "live_id", "streamer_id", "timestamp"]
    write_kuailive(tmp_path, comment=(names, []))
    assert "comment" not in read_kuailive(tmp_path).joined()
    (tmp_path / "gift.csv").unlink()
    with pytest.raises(ValueError, match=r"gift\.csv: no such file"):
        read_kuailive(tmp_path)


# ---------------------------------------------------------------- KuaiRand

KUAIRAND = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab\n"
)


def write_kuairand(folder):
    """A tiny KuaiRand in its documented columns: two standard files, one random."""
    (folder / "data").mkdir()
    rows = {
        "standard_4_08_to_4_21": "7,5,20220409,9,1649467982289,1,1,0,0,0,0,1,5332,11450,0,0,1,0,1",
        "standard_4_22_to_5_08": "8,5,20220422,900,1650598000000,0,0,0,0,0,1,0,0,11450,0,0,0,0,4",
        "random_4_22_to_5_08": "7,9,20220422,900,1650597000000,1,0,1,1,1,0,0,2500,8000,0,0,0,1,1",
    }
    for name, row in rows.items():
        (folder / "data" / f"log_{name}_pure.csv").write_text(KUAIRAND + row + "\n")


def test_read_kuairand_maps_signals_and_knows_the_random_propensity(tmp_path):
    write_kuairand(tmp_path)
    log = read_kuairand(tmp_path)
    joined = log.joined()
    assert joined["policy_id"].tolist() == ["standard", "random", "standard"]
    np.testing.assert_array_equal(joined["propensity"], [np.nan, 1 / 7583, np.nan])
    assert joined["viewer_id"].tolist() == [7, 7, 8]
    assert joined["room_id"].tolist() == [5, 9, 5]
    assert joined["scene"].tolist() == [1, 1, 4]
    assert joined["duration_ms"].tolist() == [11450, 8000, 11450]
    expected = {
        "click": [1, 1, 0],
        "like": [1, 0, 0],
        "follow": [0, 1, 0],
        "comment": [0, 1, 0],
        "forward": [0, 1, 0],
        "hate": [0, 0, 1],
        "long_view": [1, 0, 0],
        "profile_enter": [1, 0, 0],
        "watch_s": [5.332, 2.5, 0],
    }
    assert {name: joined[name].tolist() for name in expected} == expected
    (problem,) = log.validate().check().problems
    assert (problem.column, problem.severity, problem.n_rows) == ("propensity", "warning", 2)
    chosen = joined[joined["policy_id"] == "random"]
    assert type(log)(chosen).check().problems == ()


def test_read_kuairand_refuses_a_pool_smaller_than_what_was_shown(tmp_path):
    with pytest.raises(ValueError, match="no such file: log_standard"):
        read_kuairand(tmp_path)
    write_kuairand(tmp_path)
    assert read_kuairand(tmp_path, pool_size=1).frame["propensity"].max() == 1.0
    with pytest.raises(ValueError, match="pool_size must be a count of at least the 1 videos"):
        read_kuairand(tmp_path, pool_size=0)
    with pytest.raises(ValueError, match=r"pool_size must be a count .*; got 7\.5"):
        read_kuairand(tmp_path, pool_size=7.5)


# ---------------------------------------------------------------- LiveRec


def test_read_liverec_takes_a_streamer_called_na_for_a_name(tmp_path):
    path = tmp_path / "100k_a.csv"
    path.write_text("1,33842865744,NA,154,156\n1,33846768288,null,156,157\n")
    assert read_liverec(path).frame["author_id"].tolist() == ["NA", "null"]


def test_read_liverec_maps_sessions_and_censors_the_last_period(tmp_path):
    path = tmp_path / "100k.csv"
    path.write_text(
        "1,34347669376,grimnax,5415,5419\n1,34391109664,jtgtv,5869,5870\n2,33848559952,tv,206,5870\n"
    )
    log = read_liverec(path)
    joined = log.joined()
    assert joined["room_id"].tolist() == [33848559952, 34347669376, 34391109664]
    assert joined["author_id"].tolist() == ["tv", "grimnax", "jtgtv"]
    assert joined["viewer_id"].tolist() == [2, 1, 1]
    assert joined["timestamp"][0] == LIVEREC_ORIGIN + pd.Timedelta(minutes=2060)
    np.testing.assert_array_equal(joined["watch_s"], [np.nan, 2400.0, np.nan])
    (problem,) = log.validate().check().problems
    assert (problem.column, problem.severity, problem.n_rows) == ("propensity", "warning", 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,a,5,4\n", "stop must be >= start; 1 rows are not"),
        ("user,stream,a,5,4\n", "not the CSV that was expected"),
        ("", "has no rows"),
    ],
)
def test_read_liverec_names_the_file_and_the_fault(text, says, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        read_liverec(path)
    assert "x.csv" in str(error.value)
