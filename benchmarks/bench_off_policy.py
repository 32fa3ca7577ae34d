"""IPS and SNIPS on a Parquet log beside hand-written SQL: time, and how far the answers differ.

Run: python benchmarks/bench_off_policy.py --rows 10000000 --repeat 3

Two peers, both plain DuckDB over the same file: the sums that the value and its standard error
need, and the same figures as ours (those sums, the largest weight, the share of the 1 % largest).
Neither looks for missing, infinite or impossible probabilities, as ours does.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from causal import off_policy_value

if TYPE_CHECKING:
    from collections.abc import Callable

SUMS = """
select count(*), sum(w * r), sum(w), sum(w * w), sum(w * w * r), sum(w * w * r * r){more}
from (select t / p as w, r from read_parquet(?))
"""
MORE = ", max(w), sum(cast(w = 0 as int)), quantile_disc(w, 0.99)"
TOP = "select sum(w) from (select t / p as w from read_parquet(?)) where w > ?"


def write_log(path: Path, rows: int) -> None:
    """Clicks with propensities, in row groups of a million."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("r", pa.float64()), ("p", pa.float64()), ("t", pa.float64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - start)
            p = rng.uniform(0.01, 0.1, n)
            t = p * np.minimum(10.0, rng.exponential(1, n))
            r = (rng.random(n) < 0.05).astype(float)
            writer.write_table(pa.table({"r": r, "p": p, "t": t}, schema=schema))


def by_sql(path: Path, method: str, *, everything: bool) -> tuple[float, float]:
    """Value and standard error by plain sums."""
    with duckdb.connect() as connection:
        query = SUMS.format(more=MORE if everything else "")
        row: Any = connection.execute(query, [str(path)]).fetchone()
        if everything:
            connection.execute(TOP, [str(path), row[-1]]).fetchone()
    n, wr, w, ww, wwr, wwrr = row[:6]
    if method == "ips":
        value = wr / n
        return value, math.sqrt((wwrr - n * value**2) / (n - 1) / n)
    value = wr / w
    variance = (wwrr - 2 * value * wwr + value**2 * ww) / w**2 * n / (n - 1)
    return value, math.sqrt(variance)


def median_time(
    call: Callable[[], tuple[float, float]], repeat: int
) -> tuple[float, tuple[float, float]]:
    """Median seconds after one unmeasured call, and the last answer."""
    answer, times = call(), []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), answer


def ours(path: Path, method: Any) -> tuple[float, float]:  # noqa: ANN401 — a method's name
    """Value and standard error by the library."""
    value = off_policy_value(path, reward="r", propensity="p", target="t", method=method)
    return value.estimate, value.std_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    print(f"{args.rows:,} rows of Parquet, median of {args.repeat}; duckdb {duckdb.__version__}\n")
    print("| method | ours, s | SQL sums, s | ratio | SQL same figures, s | ratio | estimate |"
          " relative difference | of SE |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        write_log(path, args.rows)
        for method in ("ips", "snips"):
            seconds, mine = median_time(lambda m=method: ours(path, m), args.repeat)
            plain, theirs = median_time(
                lambda m=method: by_sql(path, m, everything=False), args.repeat
            )
            full, _ = median_time(lambda m=method: by_sql(path, m, everything=True), args.repeat)
            apart = [abs(a / b - 1) for a, b in zip(mine, theirs, strict=True)]
            print(
                f"| {method} | {seconds:.2f} | {plain:.2f} | {seconds / plain:.1f} | {full:.2f} | "
                f"{seconds / full:.1f} | {mine[0]:.6f} | {apart[0]:.1e} | {apart[1]:.1e} |"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of the process, DuckDB and peers included: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
