"""Make the pilot that `livelift plan` reads: two weeks of a rotation on the simulated platform.

300 viewers and 40 authors; every six hours a coin decides whether the new ranking is on. One row
an hour: instant, arm, minutes watched per viewer. The schedule lies beside it.

    python examples/make_pilot.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from experiments import Schedule, Switchback
from recsys import Arms, LivePlatform, Strategy, flow_worlds

START = "2026-03-02"
DAYS = 14


def make_pilot(seed: int = 7) -> tuple[pd.DataFrame, Schedule]:
    """The log, one row an hour, and the schedule that it followed."""
    schedule = Switchback(360).schedule(start=START, days=DAYS, seed=seed)
    hours = pd.date_range(START, periods=24 * DAYS, freq="h", unit="us")
    arm = schedule.treatment_at(hours)
    platform = LivePlatform(n_viewers=300, n_authors=40, seed=1)
    world = flow_worlds(
        platform,
        {"pilot": Arms(time=arm)},
        strategy=Strategy(lift=0.25),
        hours=24 * DAYS,
        record="totals",
        seed=seed,
    )["pilot"]
    return pd.DataFrame({"ts": hours, "arm": arm, "watch": 60 * world.watch}), schedule


def write_pilot(folder: Path, seed: int = 7) -> None:
    """Write the log and the schedule into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log, schedule = make_pilot(seed)
    log.to_parquet(folder / "pilot.parquet", index=False)
    schedule.save(folder / "pilot_schedule.csv")


if __name__ == "__main__":
    target_folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    write_pilot(target_folder)
    print(target_folder)
