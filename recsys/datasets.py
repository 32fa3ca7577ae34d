"""Real logs as scored treatments: Open Bandit (shipped), KuaiLive, KuaiRand, LiveRec.

Every reader returns a `ScoredTreatments` of pandas frames, in memory. Only Open Bandit logs
propensities; where a log has none, `propensity` is null: unknown, a warning of `.check()`, and
off-policy estimates refuse those rows.
"""

from __future__ import annotations

import warnings
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from recsys.log import ScoredTreatments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _NoWords(TypedDict):
    keep_default_na: Literal[False]
    na_values: list[str]


LIVEREC_ORIGIN = pd.Timestamp("2019-07-01", tz="UTC")
"""Stands for period 0 of LiveRec, whose true date is not published."""

KUAIRAND_POOL_SIZE = 7_583
"""Videos in KuaiRand's pool of random exposures, as its description says."""

_WORDS_STAY: _NoWords = {"keep_default_na": False, "na_values": [""]}
"""How a CSV is read: empty is missing, but an author may be called NA."""

_USER_FEATURES = tuple(f"user_feature_{i}" for i in range(4))
_AFFINITY = "user-item_affinity_"
_KUAIRAND_SIGNALS = {
    "is_click": "click",
    "is_like": "like",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_hate": "hate",
    "is_profile_enter": "profile_enter",
    "long_view": "long_view",
}


def open_bandit(
    campaign: Literal["all", "men"] = "all", policy: Literal["bts", "random"] = "bts"
) -> ScoredTreatments:
    """Load one of the four shipped logs of ZOZOTOWN: 10,000 impressions of a week in 2019.

    For whoever wants a real log with true propensities at once. `bts` is Bernoulli Thompson
    sampling, which learns while it logs; `random` draws uniformly. With 38 to 69 clicks a log,
    intervals are wide: these logs cannot rank estimators.

    Parameters
    ----------
    campaign : {"all", "men"}
        80 items, or 34.
    policy : {"bts", "random"}
        The policy that logged.

    Returns
    -------
    ScoredTreatments
        As `read_open_bandit` makes it of the upstream file.

    Raises
    ------
    ValueError
        If there is no such campaign or policy.

    Notes
    -----
    Upstream sampled the logs to equal size, so their sizes say nothing of the traffic split.

    References
    ----------
    Saito, Aihara, Matsutani, Narita (2021), Open Bandit Dataset and Pipeline. NeurIPS Datasets and
    Benchmarks.

    Examples
    --------
    >>> len(open_bandit("men", "random").outcomes)
    46
    """
    for name, value, known in (
        ("campaign", campaign, ("all", "men")),
        ("policy", policy, ("bts", "random")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    folder = files("recsys") / "data" / "open_bandit"
    tables = []
    for name in (f"{campaign}_{policy}", f"{campaign}_{policy}_outcomes"):
        with as_file(folder / f"{name}.parquet") as path:
            tables.append(pq.read_table(path).to_pandas())
    return ScoredTreatments(*tables)


def read_open_bandit(path: str | Path, *, policy: str, campaign: str) -> ScoredTreatments:
    """Read an upstream Open Bandit CSV (plain or .gz) of any campaign.

    Parameters
    ----------
    path : str or Path
        E.g. `bts/all/all.csv.gz`.
    policy : str
        Becomes `policy_id`; the file does not say it.
    campaign : str
        Becomes `scene`.

    Returns
    -------
    ScoredTreatments
        impression_id (row number), timestamp, room_id (item_id), policy_id, propensity
        (propensity_score, per position), position, n_candidates (items of the campaign), scene,
        user_feature_0..3 (hashed levels, shared by the policies), affinity (of the shown item; the
        whole matrix is 99.9 % zero). Outcome `click`, reported at its impression's timestamp, since
        the time of the click is not logged.

    Raises
    ------
    ValueError
        If the file is absent, torn, empty or lacks a column.

    Notes
    -----
    The log has no viewer and no request id: rows cannot be clustered by viewer. `item_feature_1..3`
    of the upstream item table are salted differently for each policy and are not read.

    References
    ----------
    Saito, Aihara, Matsutani, Narita (2021), Open Bandit Dataset and Pipeline. NeurIPS Datasets and
    Benchmarks.

    Examples
    --------
    >>> log = read_open_bandit("all.csv", policy="bts", campaign="all")  # doctest: +SKIP
    """
    dtypes = {
        "timestamp": "str",
        "item_id": "int64",
        "position": "int64",
        "click": "int64",
        "propensity_score": "float64",
        **dict.fromkeys(_USER_FEATURES, "str"),
    }
    raw = _read_csv(path, dtypes, prefix=_AFFINITY)
    affinity = raw[[name for name in raw.columns if name.startswith(_AFFINITY)]]
    try:
        timestamp = pd.to_datetime(raw["timestamp"], utc=True, format="ISO8601").dt.as_unit("us")
    except ValueError as error:
        raise ValueError(f"{path}: timestamp must be in ISO 8601; {error}") from error
    frame = pd.DataFrame(
        {
            "impression_id": range(len(raw)),
            "timestamp": timestamp,
            "room_id": raw["item_id"],
            "policy_id": policy,
            "propensity": raw["propensity_score"],
            "position": raw["position"],
            "n_candidates": affinity.shape[1],
            "scene": campaign,
            **{name: raw[name] for name in _USER_FEATURES},
            "affinity": _own_affinity(affinity, raw["item_id"], path),
        }
    )
    return ScoredTreatments(frame, _reports(frame, {"click": raw["click"]}, frame["timestamp"]))


def read_kuailive(folder: str | Path) -> ScoredTreatments:
    """Read KuaiLive: clicks, exposures without click, comments, likes and gifts in live rooms.

    Parameters
    ----------
    folder : str or Path
        Holds click.csv, negative.csv, comment.csv, like.csv and gift.csv. (user.csv, room.csv and
        streamer.csv hold attributes: join them on viewer_id, room_id and author_id. They are not
        read.)

    Returns
    -------
    ScoredTreatments
        impression_id (in order of time), timestamp, room_id (live_id), policy_id ("kuailive"),
        propensity (null: not logged), viewer_id (user_id), author_id (streamer_id). Outcomes:
        `click` (1), `watch_s` (watch_live_time in seconds, reported when it ended), `comment` and
        `like` (1 each), `gift` (price).

    Raises
    ------
    ValueError
        If a file is absent, torn, empty or lacks a column.

    Warns
    -----
    UserWarning
        If comments, likes or gifts have no earlier click of the same viewer in the same room: they
        belong to no impression and are left out; with the counts.

    Notes
    -----
    A behaviour is given to the viewer's latest click in that room before it. Columns as in the
    dataset's own description (confirmed there; times in milliseconds since 1970).

    References
    ----------
    Qu, Dai, Guo, Zhao, Niu, Zhang, Xu (2025), KuaiLive: a real-time interactive dataset for live
    streaming recommendation. arXiv 2508.05633.

    Examples
    --------
    >>> log = read_kuailive("KuaiLive")  # doctest: +SKIP
    """
    folder = Path(folder)
    shared = dict.fromkeys(("user_id", "live_id", "streamer_id", "timestamp"), "int64")
    clicks = _read_csv(folder / "click.csv", shared | {"watch_live_time": "int64"})
    passed = _read_csv(folder / "negative.csv", shared)
    raw = pd.concat([clicks.assign(click=1), passed.assign(click=0, watch_live_time=0)])
    raw = raw.sort_values("timestamp", kind="stable", ignore_index=True)
    frame = _impressions(
        raw, {"room_id": "live_id", "viewer_id": "user_id", "author_id": "streamer_id"}
    )
    frame["policy_id"] = "kuailive"
    watched = pd.to_timedelta(raw["watch_live_time"], unit="ms")
    reports = [
        _reports(frame, {"click": raw["click"]}, frame["timestamp"]),
        _reports(frame, {"watch_s": raw["watch_live_time"] / 1e3}, frame["timestamp"] + watched),
    ]
    opened = raw.assign(impression_id=frame["impression_id"])[raw["click"] == 1]
    for name in ("comment", "like", "gift"):
        price = {"gift_price": "int64"} if name == "gift" else {}
        behaviour = _read_csv(folder / f"{name}.csv", shared | price, may_be_empty=True)
        value = behaviour["gift_price"] if price else 1
        reports.append(_behaviours(behaviour.assign(value=value), opened, name))
    return ScoredTreatments(frame, pd.concat(reports, ignore_index=True))


def read_kuairand(folder: str | Path, *, pool_size: int = KUAIRAND_POOL_SIZE) -> ScoredTreatments:
    """Read KuaiRand: short-video feeds in which random videos were inserted.

    Parameters
    ----------
    folder : str or Path
        Searched to the bottom for log_standard_*.csv and log_random_*.csv (Pure or 1K; the logs of
        27K do not fit into memory).
    pool_size : int
        Videos in the pool of random exposures: 7,583 in all three versions, also where a smaller
        sample shows fewer of them.

    Returns
    -------
    ScoredTreatments
        impression_id (in order of time), timestamp, room_id (video_id: there are no rooms),
        policy_id ("random" where is_rand, else "standard"), propensity, viewer_id (user_id), scene
        (tab), duration_ms. Outcomes: click, like, follow, comment, forward, hate, profile_enter,
        long_view, watch_s (play_time_ms in seconds); all reported at the end of play, since the log
        has no times of its own for them.

    Raises
    ------
    ValueError
        If no log is there, a file is torn, empty or lacks a column, or `pool_size` is below the
        number of different videos exposed at random.

    Notes
    -----
    The propensity of a random exposure is 1 / pool_size: the probability of this video *given* that
    the place was chosen for a random one, which assumes that the pool was drawn from uniformly and
    did not change. The 15 standard policies log no propensity: null. Select
    `policy_id == "random"` for off-policy estimates. Columns as in the dataset's own description
    (confirmed there; times in milliseconds since 1970).

    References
    ----------
    Gao, Li, Zhang, Chen, Li, Lei, Jiang, He (2022), KuaiRand: an unbiased sequential recommendation
    dataset with randomly exposed videos. CIKM.

    Examples
    --------
    >>> log = read_kuairand("KuaiRand-Pure")  # doctest: +SKIP
    """
    folder = Path(folder)
    paths = sorted([*folder.rglob("log_standard_*.csv"), *folder.rglob("log_random_*.csv")])
    if not paths:
        raise ValueError(f"{folder}: no such file: log_standard_*.csv or log_random_*.csv")
    names = ["user_id", "video_id", "time_ms", "play_time_ms", "duration_ms", "is_rand", "tab"]
    dtypes = dict.fromkeys([*names, *_KUAIRAND_SIGNALS], "int64")
    raw = pd.concat([_read_csv(path, dtypes) for path in paths])
    raw = raw.rename(columns={"time_ms": "timestamp"})
    raw = raw.sort_values("timestamp", kind="stable", ignore_index=True)
    at_random = raw["is_rand"] == 1
    n_videos = raw.loc[at_random, "video_id"].nunique()
    whole = isinstance(pool_size, int | np.integer) and not isinstance(pool_size, bool)
    if not whole or pool_size < max(n_videos, 1):
        raise ValueError(
            f"pool_size must be a count of at least the {n_videos:,} videos exposed at random; "
            f"got {pool_size!r}"
        )
    frame = _impressions(raw, {"room_id": "video_id", "viewer_id": "user_id", "scene": "tab"})
    frame["policy_id"] = at_random.map({True: "random", False: "standard"})
    frame["propensity"] = frame["propensity"].mask(at_random, 1 / pool_size)
    frame["duration_ms"] = raw["duration_ms"]
    values = {name: raw[signal] for signal, name in _KUAIRAND_SIGNALS.items()}
    values["watch_s"] = raw["play_time_ms"] / 1e3
    played = pd.to_timedelta(raw["play_time_ms"], unit="ms")
    return ScoredTreatments(frame, _reports(frame, values, frame["timestamp"] + played))


def read_liverec(path: str | Path) -> ScoredTreatments:
    """Read LiveRec (Twitch): who was in whose chat, in periods of ten minutes.

    Parameters
    ----------
    path : str or Path
        100k.csv or full_a.csv.gz: no header; user id, stream id, streamer name, start, stop.

    Returns
    -------
    ScoredTreatments
        impression_id (in order of time), timestamp, room_id (stream id), policy_id ("twitch"),
        propensity (null: nobody logged what was offered), viewer_id, author_id (streamer name).
        Outcome `watch_s`: (stop - start) x 600 s, reported at stop; censored if the session lasts
        until the last period of the file.

    Raises
    ------
    ValueError
        If the file is absent, torn or empty, or a session stops before it starts.

    Notes
    -----
    Period 0 is taken as `LIVEREC_ORIGIN`: only differences of times mean something. Only sessions
    are logged: what was offered and not watched is not known. Columns as in the dataset's own
    description (confirmed there).

    References
    ----------
    Rappaz, McAuley, Aberer (2021), Recommendation on live-streaming platforms: dynamic availability
    and repeat consumption. RecSys.

    Examples
    --------
    >>> log = read_liverec("100k.csv")  # doctest: +SKIP
    """
    names = ("user_id", "stream_id", "streamer", "start", "stop")
    dtypes = dict.fromkeys(names, "int64") | {"streamer": "str"}
    raw = _read_csv(path, dtypes, header=False)
    n_backward = int((raw["stop"] < raw["start"]).sum())
    if n_backward:
        raise ValueError(f"{path}: stop must be >= start; {n_backward:,} rows are not")
    raw = raw.sort_values("start", kind="stable", ignore_index=True)
    period_ms = 600_000
    origin_ms = int(LIVEREC_ORIGIN.timestamp() * 1e3)
    raw["timestamp"] = origin_ms + raw["start"] * period_ms
    frame = _impressions(
        raw, {"room_id": "stream_id", "viewer_id": "user_id", "author_id": "streamer"}
    )
    frame["policy_id"] = "twitch"
    censored = raw["stop"] == raw["stop"].max()
    watched = (raw["stop"] - raw["start"]) * (period_ms / 1e3)
    outcomes = pd.DataFrame(
        {
            "impression_id": frame["impression_id"],
            "outcome": "watch_s",
            "value": watched.mask(censored),
            "reported_at": _instants(origin_ms + raw["stop"] * period_ms),
            "censored": censored,
        }
    )
    return ScoredTreatments(frame, outcomes)


def _read_csv(
    path: str | Path,
    dtypes: Mapping[str, str],
    *,
    prefix: str | None = None,
    header: bool = True,
    may_be_empty: bool = False,
) -> pd.DataFrame:
    """Read the named columns of a CSV, and the float columns that begin with `prefix`."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    types = dict(dtypes)
    try:
        if header:
            found = list(pd.read_csv(path, nrows=0).columns)
            _check_header(path, list(types), found)
            extra = [name for name in found if prefix is not None and name.startswith(prefix)]
            types |= dict.fromkeys(extra, "float64")
            frame = pd.read_csv(path, usecols=list(types), dtype=types, **_WORDS_STAY)
        else:
            frame = pd.read_csv(path, header=None, names=list(types), dtype=types, **_WORDS_STAY)
    except (ValueError, OSError, EOFError) as error:
        message = str(error)
        raise ValueError(
            message if str(path) in message else f"{path}: not the CSV that was expected: {message}"
        ) from error
    if frame.empty and not may_be_empty:
        raise ValueError(f"{path}: has no rows")
    return frame


def _check_header(path: str | Path, needed: Sequence[str], found: Sequence[str]) -> None:
    """Refuse a CSV that lacks a column, with its name."""
    absent = [name for name in needed if name not in found]
    if absent:
        raise ValueError(f"{path}: must have the columns {', '.join(absent)}; they are not there")


def _own_affinity(affinity: pd.DataFrame, item: pd.Series[int], path: str | Path) -> pd.Series:
    """Pick for each row the affinity of its own item."""
    names = list(affinity.columns)
    place = {int(name.removeprefix(_AFFINITY)): i for i, name in enumerate(names)}
    column = item.map(place)
    if column.isna().any():
        strange = ", ".join(map(str, sorted(item[column.isna()].unique())[:5]))
        raise ValueError(
            f"{path}: item_id must have a column {_AFFINITY}<item_id>; "
            f"{int(column.isna().sum()):,} rows have none, e.g. items {strange}"
        )
    values = affinity.to_numpy()[range(len(item)), column.astype("int64")]
    return pd.Series(values, index=item.index)


def _instants(milliseconds: pd.Series[int]) -> pd.Series[pd.Timestamp]:
    """Milliseconds since 1970 as zone-aware timestamps."""
    return pd.to_datetime(milliseconds, unit="ms", utc=True).dt.as_unit("us")


def _impressions(raw: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Number impressions in the order of their rows; propensity unknown, `timestamp` in ms."""
    return pd.DataFrame(
        {
            "impression_id": range(len(raw)),
            "timestamp": _instants(raw["timestamp"]),
            "propensity": pd.Series(float("nan"), index=raw.index),
            **{name: raw[source] for name, source in columns.items()},
        }
    )


def _reports(
    frame: pd.DataFrame,
    values: Mapping[str, pd.Series[int] | pd.Series[float]],
    reported_at: pd.Series[pd.Timestamp],
) -> pd.DataFrame:
    """Long outcome rows of what happened: values other than zero, never censored."""
    parts = []
    for name, value in values.items():
        happened = value != 0
        parts.append(
            pd.DataFrame(
                {
                    "impression_id": frame.loc[happened, "impression_id"],
                    "outcome": name,
                    "value": value[happened].astype("float64"),
                    "reported_at": reported_at[happened],
                    "censored": False,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _behaviours(behaviour: pd.DataFrame, opened: pd.DataFrame, name: str) -> pd.DataFrame:
    """Give each behaviour to the viewer's latest click in that room before it."""
    found = pd.merge_asof(
        behaviour.sort_values("timestamp", kind="stable"),
        opened[["user_id", "live_id", "timestamp", "impression_id"]],
        on="timestamp",
        by=["user_id", "live_id"],
    )
    lost = found["impression_id"].isna()
    if lost.any():
        warnings.warn(
            f"{int(lost.sum()):,} of {len(found):,} rows of {name}.csv have no earlier click of "
            "their viewer in their room: they belong to no impression and are left out",
            UserWarning,
            stacklevel=3,
        )
    found = found[~lost]
    return pd.DataFrame(
        {
            "impression_id": found["impression_id"].astype("int64"),
            "outcome": name,
            "value": found["value"].astype("float64"),
            "reported_at": _instants(found["timestamp"]),
            "censored": False,
        }
    )
