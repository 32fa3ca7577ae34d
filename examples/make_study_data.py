"""Make the log that `study.yaml` reads: a live-streaming experiment of two weeks.

4,000 viewers in two arms send requests; each request is answered with one of eight rooms, drawn
with a logged probability. The true effects are known: arm B adds 5 % to the watch time of old and
12 % to that of new viewers, and nothing to clicks or crashes.

    python examples/make_study_data.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

N_VIEWERS = 4_000
N_DAYS = 14
N_FILES = 2
SCENES = ("feed", "follow page", "search")
ROOMS = tuple(f"room {letter}" for letter in "ABCDEFGH")


def make_log(seed: int = 7) -> pd.DataFrame:
    """The log: one row a request."""
    rng = np.random.default_rng(seed)
    viewer_taste = rng.lognormal(0.0, 0.5, N_VIEWERS)
    is_new = rng.random(N_VIEWERS) < 0.3
    treated = rng.random(N_VIEWERS) < 0.5
    watch_before = 120 * viewer_taste * rng.lognormal(0.0, 0.25, N_VIEWERS)

    n_requests = 1 + rng.poisson(9 * np.sqrt(viewer_taste))
    viewer = np.repeat(np.arange(N_VIEWERS), n_requests)
    n = len(viewer)
    scene = rng.choice(len(SCENES), n, p=(0.6, 0.25, 0.15))
    logging, target = _policies()
    room = (logging[scene].cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)

    appeal = np.linspace(0.03, 0.10, len(ROOMS))
    click = rng.random(n) < appeal[room] * np.clip(viewer_taste[viewer], 0.3, 2.5)
    lift = 1 + treated[viewer] * np.where(is_new[viewer], 0.12, 0.05)
    watch = 14 * viewer_taste[viewer] * lift * rng.lognormal(-0.4, 0.9, n)
    day = pd.Timestamp("2026-11-02") + pd.to_timedelta(rng.integers(0, N_DAYS, n), unit="D")
    log = pd.DataFrame(
        {
            "viewer_id": viewer + 1_000,
            "arm": np.where(treated[viewer], "B", "A"),
            "day": day.strftime("%Y-%m-%d"),
            "hour": rng.integers(0, 24, n),
            "scene": np.array(SCENES)[scene],
            "room_id": np.array(ROOMS)[room],
            "new_viewer": is_new[viewer],
            "impression": 1,
            "click": click.astype(np.int64),
            "watch_s": watch.round(2),
            "watch_s_before": watch_before[viewer].round(2),
            "crash": (rng.random(n) < 0.05).astype(np.int64),
            "propensity": logging[scene, room],
            "p_new": target[scene, room],
        }
    )
    return log.sort_values(["day", "hour"], kind="stable", ignore_index=True)


def _policies() -> tuple[np.ndarray, np.ndarray]:
    """Probability of each room by scene, logged and new: the new weights prefer later rooms."""
    preference = np.linspace(0.0, 1.0, len(ROOMS))
    logging = np.exp(0.4 * preference * np.array([[1.0], [0.0], [-1.0]]))
    target = np.exp(2.0 * preference * np.array([[1.0], [0.8], [0.5]]))
    return logging / logging.sum(axis=1, keepdims=True), target / target.sum(axis=1, keepdims=True)


def write_log(folder: Path, seed: int = 7) -> None:
    """Write the log as Parquet files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log = make_log(seed)
    for i, part in enumerate(np.array_split(np.arange(len(log)), N_FILES)):
        log.iloc[part].to_parquet(folder / f"part-{i}.parquet", index=False)


if __name__ == "__main__":
    target_folder = (
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data" / "log"
    )
    write_log(target_folder)
    print(target_folder)
