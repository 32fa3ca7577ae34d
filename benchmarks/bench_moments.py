"""Moments per group beside the DuckDB SQL that a person would write for the same sums.

The hand-written query sums x, x * x and x * z as they are: it loses its digits at an offset and
checks nothing, so it is a lower bound of the time, not a rival in accuracy.

Run: python benchmarks/bench_moments.py --rows 10000000 --units 2000000 --repeat 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from causal.frame import open_table
from causal.moments import Moments, group_moments
from causal.rows import EngineRows

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = ["watch_s", "gifts", "before", "click"]
PAIRS = [(a, b) for j, a in enumerate(NUMBERS) for b in NUMBERS[j:]]
SUMS = ", ".join(f"sum({a}::double) as s_{a}" for a in NUMBERS)
PRODUCTS = ", ".join(f"sum({a}::double * {b}) as {a}_x_{b}" for a, b in PAIRS)
BY_ARM = f"select arm, count(*) as n, {SUMS}, {PRODUCTS} from log group by arm order by arm"
UNITS = ", ".join(f"sum({a}::double) as {a}" for a in NUMBERS)
BY_VIEWER = f"""with log as (select arm, viewer_id, {UNITS} from log group by arm, viewer_id)
{BY_ARM}"""


def make_log(path: Path, rows: int, units: int) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "watch_s": rng.exponential(30, rows),
            "gifts": rng.poisson(0.1, rows).astype(float),
            "before": rng.normal(100, 10, rows),
            "click": rng.integers(0, 2, rows),
            "arm": np.where(rng.random(rows) < 0.5, "A", "B"),
            "viewer_id": rng.integers(0, units, rows),
        }
    )
    pq.write_table(table, path, row_group_size=1_000_000)


def by_hand(connection: duckdb.DuckDBPyConnection, query: str) -> np.ndarray:
    """Centred cross products from plain sums, shape (arms, k, k)."""
    frame = connection.sql(query).df()
    found = np.empty((len(frame), len(NUMBERS), len(NUMBERS)))
    for a, b in PAIRS:
        i, j = NUMBERS.index(a), NUMBERS.index(b)
        centred = frame[f"{a}_x_{b}"] - frame[f"s_{a}"] * frame[f"s_{b}"] / frame["n"]
        found[:, i, j] = found[:, j, i] = centred
    return found


def median_time(call: Callable[[], object], repeat: int) -> tuple[float, object]:
    """Median seconds after one unmeasured call, and the last answer."""
    answer, times = call(), []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), answer


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of cross products, relative to the columns' spreads."""
    spread = np.sqrt(np.einsum("gjj->gj", ours))
    return float((np.abs(ours - theirs) / (spread[:, :, None] * spread[:, None, :])).max())


def large(path: Path, threads: int, repeat: int) -> None:
    connection = duckdb.connect(config={"threads": threads})
    connection.read_parquet(str(path)).create_view("log")
    print("| what | ours, s | SQL by hand, s | ratio | largest difference of cross products |")
    print("|---|---|---|---|---|")
    for name, query, unit in (
        ("by arm", BY_ARM, None),
        ("by arm over viewers", BY_VIEWER, "viewer_id"),
    ):
        mine, found = median_time(
            lambda u=unit: group_moments(path, columns=NUMBERS, by=["arm"], unit=u).cross, repeat
        )
        theirs, wanted = median_time(lambda q=query: by_hand(connection, q), repeat)
        print(f"| {name} | {mine:.3f} | {theirs:.3f} | {mine / theirs:.2f} ", end="")
        print(f"| {apart(found, wanted):.1e} |")
    labels = {"arm": "arm", "viewer": "viewer_id"}
    table = open_table(path, columns=[*NUMBERS, *labels.values()])
    checks, rows = median_time(
        lambda: EngineRows.opened(table, {n: n for n in NUMBERS}, labels), repeat
    )
    sums = {n: (lambda c, n=n: c[n]) for n in NUMBERS}
    grouped, _ = median_time(lambda: rows.grouped(["viewer"], sums), repeat)
    print(f"\nchecks at the door {checks:.3f} s, group-by per viewer {grouped:.3f} s: ", end="")
    print(f"{100 * checks / grouped:.0f} %")


def small(repeat: int) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=1000), "y": rng.normal(size=1000)})
    frame["arm"] = np.where(rng.random(1000) < 0.5, "A", "B")
    hundred = max(repeat, 3) * 20
    mine, m = median_time(lambda: group_moments(frame, columns=["x", "y"], by=["arm"]), hundred)
    theirs, cov = median_time(lambda: frame.groupby("arm")[["x", "y"]].cov(), hundred)
    off = apart(m.cross, cov.to_numpy().reshape(2, 2, 2) * (m.n - 1)[:, None, None])
    print(f"\n1,000 rows in memory: ours {mine * 1e3:.2f} ms, pandas groupby.cov ", end="")
    print(f"{theirs * 1e3:.2f} ms, difference {off:.1e}")
    g = 100_000
    many = Moments(
        columns=("x", "y"),
        by=("k", "arm"),
        keys=pa.table({"k": np.arange(g) // 2, "arm": ["A", "B"] * (g // 2)}),
        n=rng.integers(1, 9, g),
        mean=rng.normal(size=(g, 2)),
        cross=np.tile(np.eye(2), (g, 1, 1)),
    )
    pooled, _ = median_time(lambda: many.roll_up(["k"]), max(repeat, 3))
    print(f"roll-up of 100,000 groups to 50,000: {pooled:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    os.environ["LIVELIFT_THREADS"] = str(args.threads)
    print(f"{args.rows:,} rows, {args.units:,} viewers, {args.threads} threads, ", end="")
    print(f"median of {args.repeat}; duckdb {duckdb.__version__}, numpy {np.__version__}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        make_log(path, args.rows, args.units)
        large(path, args.threads, args.repeat)
    small(args.repeat)


if __name__ == "__main__":
    main()
