"""Valid tables for the house-wide suites, of numbers that every dtype holds exactly."""

import numpy as np
import pandas as pd


def experiment_log() -> pd.DataFrame:
    """240 rows in 80 clusters of 3, two arms, three segments, four days; no warning is due."""
    rng = np.random.default_rng(11)
    n = 240
    cluster = np.repeat(np.arange(80), 3)
    arm = cluster % 2
    covariate = rng.integers(0, 20, n)
    noise = np.repeat(rng.integers(0, 9, 80), 3) + rng.integers(0, 9, n)
    outcome = 30 + covariate + 3 * arm + noise
    return pd.DataFrame(
        {
            "unit": np.arange(n) + 1000,
            "cluster": cluster + 50,
            "arm": arm,
            "outcome": outcome,
            "covariate": covariate,
            "clicks": rng.integers(0, 4, n),
            "views": rng.integers(4, 12, n),
            "weight": rng.integers(1, 4, n),
            "segment": rng.permutation(np.arange(n) % 3),
            "day": rng.permutation(np.arange(n) % 4),
            "triggered": rng.integers(0, 2, n),
        }
    )


POLICY = np.array([[0.5, 0.25, 0.125, 0.125], [0.125, 0.125, 0.25, 0.5]])  # by context


def policy_log(seed: int = 12) -> pd.DataFrame:
    """800 rows of a logging policy over 4 actions in 2 contexts, with a target's probabilities."""
    rng = np.random.default_rng(seed)
    n = 800
    context = rng.integers(0, 2, n)
    action = (rng.random((n, 1)) > POLICY[context].cumsum(axis=1)).sum(axis=1)
    reward = rng.binomial(4, 0.1 + 0.1 * action)
    return pd.DataFrame(
        {
            "cluster": np.arange(n) // 10 + 5,
            "context": context,
            "action": action,
            "reward": reward,
            "propensity": POLICY[context, action],
            "target": POLICY[1 - context, action] / 2 + 0.125,
            "position": context + 1,
        }
    )


TARGET_LOG = policy_log(seed=14)[["action", "position", "cluster"]]


def slate_log() -> pd.DataFrame:
    """300 slates of 3 slots, each slot drawn from 4 actions."""
    rng = np.random.default_rng(13)
    n = 900
    action = (rng.random((n, 1)) > POLICY[0].cumsum()).sum(axis=1)
    return pd.DataFrame(
        {
            "slate": np.repeat(np.arange(300), 3) + 7,
            "position": np.tile([1, 2, 3], 300),
            "reward": rng.binomial(3, 0.3, n),
            "propensity": POLICY[0, action],
            "target": np.array([0.25, 0.25, 0.25, 0.25])[action],
        }
    )


def pilot_log() -> pd.DataFrame:
    """Ten days of hourly rows in two regions, nobody treated; whole numbers."""
    rng = np.random.default_rng(15)
    time = pd.date_range("2026-03-02", periods=240, freq="h")
    watch = rng.integers(20, 60, 480)
    return pd.DataFrame(
        {"time": np.tile(time, 2), "unit": np.repeat([3, 4], 240), "outcome": watch}
    )


def pair_log() -> pd.DataFrame:
    """Every pair of 16 viewers and 12 authors, both sides dealt to two arms."""
    rng = np.random.default_rng(15)
    viewer, author = (index.ravel() for index in np.indices((16, 12)))
    viewer_arm, author_arm = viewer % 2, author % 2
    levels = rng.integers(0, 9, 16)[viewer] + rng.integers(0, 9, 12)[author]
    outcome = 20 + levels + rng.integers(0, 9, len(viewer)) + 3 * viewer_arm * author_arm
    return pd.DataFrame(
        {
            "viewer": viewer + 20,
            "author": author + 50,
            "viewer_arm": viewer_arm,
            "author_arm": author_arm,
            "outcome": outcome,
            "covariate": rng.integers(0, 20, 16)[viewer],
        }
    )


def saturation_log() -> pd.DataFrame:
    """24 cells of 16 units, an eighth, a half or seven eighths of them treated."""
    rng = np.random.default_rng(16)
    cell = np.repeat(np.arange(24), 16)
    share = np.array([0.125, 0.5, 0.875])[cell % 3]
    arm = (np.tile(np.arange(16), 24) < 16 * share).astype(int)
    outcome = 20 + 3 * arm + 16 * share + rng.integers(0, 5, 24)[cell] + rng.integers(0, 9, 384)
    columns = {"cell": cell + 10, "share": share, "arm": arm, "outcome": outcome.astype(int)}
    return pd.DataFrame(columns)


POINTS = range(1, 121, 4)  # first periods of the slices of `rotation_log`


def rotation_log() -> pd.DataFrame:
    """120 periods of two regions, each with a coin every four periods; no warning is due."""
    rng = np.random.default_rng(18)
    arm = rng.permuted(np.tile([0, 1], (2, 15)), axis=1).repeat(4, axis=1).ravel()
    covariate = rng.integers(0, 9, 240)
    outcome = 20 + covariate + 3 * arm + rng.integers(0, 9, 240)
    return pd.DataFrame(
        {
            "unit": np.repeat([3, 4], 120),
            "time": np.tile(np.arange(1, 121), 2),
            "arm": arm,
            "outcome": outcome,
            "covariate": covariate,
            "weight": rng.integers(1, 4, 240),
        }
    )


def battle_log() -> pd.DataFrame:
    """200 rows of rooms in battles, each with its partner's arm."""
    rng = np.random.default_rng(17)
    room, partner = rng.integers(0, 2, (2, 200))
    return pd.DataFrame(
        {"watch": rng.integers(1, 60, 200), "room_arm": room, "partner_arm": partner}
    )


def staggered_log() -> pd.DataFrame:
    """72 units in 36 clusters over 6 periods, treated from 3 or 5 on or (0) never."""
    rng = np.random.default_rng(21)
    unit, time = (index.ravel() for index in np.indices((72, 6)))
    cohort = np.array([0, 3, 5])[np.arange(72) // 2 % 3][unit]
    covariate = rng.integers(0, 9, 432)
    on = (cohort > 0) & (time + 1 >= cohort)
    outcome = 20 + rng.integers(0, 9, 72)[unit] + time + covariate + 3 * on
    return pd.DataFrame(
        {
            "unit": unit + 10,
            "time": time + 1,
            "cohort": cohort,
            "cluster": unit // 2 + 40,
            "outcome": outcome + rng.integers(0, 9, 432),
            "covariate": covariate,
        }
    )


def launch_log() -> pd.DataFrame:
    """80 units over 5 periods, half of them treated from period 3 on; two states."""
    rng = np.random.default_rng(22)
    unit, time = (index.ravel() for index in np.indices((80, 5)))
    ever, covariate = unit % 2, rng.integers(0, 9, 400)
    outcome = 20 + rng.integers(0, 9, 80)[unit] + time + covariate + 3 * ever * (time >= 3)
    return pd.DataFrame(
        {
            "unit": unit + 10,
            "time": time,
            "treatment": ever,
            "stratum": unit // 2 % 2,
            "cluster": unit // 2 + 40,
            "outcome": outcome + rng.integers(0, 9, 400),
            "covariate": covariate,
            "weight": rng.integers(1, 4, 400),
        }
    )


def city_log() -> pd.DataFrame:
    """Nine cities over 20 periods, the middle one treated from 14 on; no warning is due."""
    rng = np.random.default_rng(23)
    city, time = (index.ravel() for index in np.indices((9, 20)))
    wave = np.array([0, 9, 16, 20, 18, 11, 3, -6, -12, -15])[time % 10]
    outcome = 60 + city * wave // 4 + city + rng.integers(0, 3, 180)
    treated = (city == 4).astype(int)
    columns = {"unit": city + 10, "time": time, "treatment": treated}
    return pd.DataFrame({**columns, "outcome": outcome + 4 * treated * (time >= 14)})
