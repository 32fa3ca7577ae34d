"""Flows beside a plain loop over worlds, their growth with the platform, and workers.

The plain loop is the same equations with one viewers x authors matrix a world and tick
(`tests/recsys/plain_flows.py`). Seconds are medians; peers are interleaved with us in one run.

Run: python benchmarks/bench_flows.py --repeat 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from experiments import DualSided, Switchback, Trial, UserSplit, simulate
from recsys import Arms, LivePlatform, Strategy, flow_worlds

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "recsys"))
from plain_flows import control_paths, one_world

WARM_UP, HOURS, WORLDS = 48, 168, 16


def worlds_of(n_viewers: int, count: int) -> dict[str, Arms]:
    """Worlds with half of the viewers treated."""
    rng = np.random.default_rng(0)
    return {f"world {k}": Arms(viewer=rng.integers(0, 2, n_viewers)) for k in range(count)}


def lockstep(repeat: int) -> None:
    """16 worlds of 300 x 40 over 216 ticks: ours, and the plain loop with its control path once."""
    platform = LivePlatform(n_viewers=300, n_authors=40, seed=1)
    draws = platform.draws(hours=HOURS, warm_up_hours=WARM_UP)
    worlds, strategy = worlds_of(300, WORLDS), Strategy()
    run = {"hours": HOURS, "warm_up_hours": WARM_UP, "draws": draws}
    ours, theirs, apart = [], [], 0.0
    for _ in range(repeat):
        start = time.perf_counter()
        found = flow_worlds(platform, worlds, strategy=strategy, **run)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        with threadpool_limits(limits=1):
            control = control_paths(platform, strategy, before_hours=0, **run)
            plain = {
                name: one_world(platform, arms, strategy, control, before_hours=0, **run)
                for name, arms in worlds.items()
            }
        theirs.append(time.perf_counter() - start)
        apart = max(
            float(np.abs(found[name].watch / plain[name].sum(axis=2).mean(axis=1) - 1).max())
            for name in worlds
        )
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"| 16 worlds, 300 x 40 x {HOURS + WARM_UP} ticks | {a:.3f} | {b:.3f} | {b / a:.1f}x | "
          f"{apart:.1e} |")  # fmt: skip


def growth(repeat: int) -> None:
    """Nanoseconds per pair, tick and world at two sizes, warm-up included."""
    nanoseconds = {}
    for n_viewers, n_authors in ((1_000, 100), (4_000, 400)):
        platform = LivePlatform(n_viewers=n_viewers, n_authors=n_authors, seed=1)
        draws = platform.draws(hours=HOURS, warm_up_hours=WARM_UP)
        worlds, seconds = worlds_of(n_viewers, 8), []
        ticks = HOURS * (len(worlds) + 1) + WARM_UP
        platform.affinity  # noqa: B018 — drawn once for every run
        for _ in range(repeat):
            start = time.perf_counter()
            flow_worlds(
                platform, worlds, strategy=Strategy(), hours=HOURS, warm_up_hours=WARM_UP,
                draws=draws,
            )  # fmt: skip
            seconds.append(time.perf_counter() - start)
        nanoseconds[n_viewers] = 1e9 * statistics.median(seconds) / (n_viewers * n_authors * ticks)
        print(f"{n_viewers:,} x {n_authors}: {nanoseconds[n_viewers]:.2f} ns a pair, tick, world")
    print(f"4,000 x 400 over 1,000 x 100: {nanoseconds[4_000] / nanoseconds[1_000]:.2f}")


def workers(repeat: int) -> None:
    """64 replications on one and on two workers: time, and equal bits."""
    platform = LivePlatform(n_viewers=300, n_authors=40, seed=1)
    trials = [Trial(UserSplit()), Trial(Switchback(1440)), Trial(DualSided())]
    run = {"strategy": Strategy(), "replications": 64, "seed": 3}
    seconds, tables = {1: [], 2: []}, {}
    simulate(platform, trials, n_jobs=2, **{**run, "replications": 2})  # workers start
    for _ in range(repeat):
        for n_jobs in (1, 2):
            start = time.perf_counter()
            tables[n_jobs] = simulate(platform, trials, n_jobs=n_jobs, **run).estimates
            seconds[n_jobs].append(time.perf_counter() - start)
    one, two = (statistics.median(seconds[n]) for n in (1, 2))
    same = tables[1].equals(tables[2])
    print(f"64 replications: {one:.1f} s on one worker, {two:.1f} s on two, {one / two:.2f}x; "
          f"equal bits: {same}")  # fmt: skip


def main() -> None:
    """Read the arguments, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    print("| case | livelift s | plain loop s | ratio | largest relative difference |")
    print("|---|---|---|---|---|")
    lockstep(args.repeat)
    growth(args.repeat)
    workers(max(args.repeat // 2, 1))


if __name__ == "__main__":
    main()
