"""The A/B read-out beside its peers, in one run: hand-written DuckDB SQL, tea-tasting, pandas.

    python benchmarks/bench_ab.py --rows 2000000 --repeat 5 --against duckdb,pandas
    python benchmarks/bench_ab.py --rows 10000000 --one-row-per-unit --against tea_tasting

The main read-out has two metrics (watch time per viewer adjusted by Lin, clicks per impression),
viewer clusters and the sample ratio test. Every line holds the answer and its difference from the
peer's beside the time. Times are medians over interleaved repeats; memory is the peak of a process
that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable


def make_log(path: Path, rows: int, viewers: int) -> None:
    """Request-level rows with viewer clusters, two arms and a pre-period covariate, in pieces."""
    rng = np.random.default_rng(0)
    arm_of = rng.integers(0, 2, viewers).astype(np.int8)
    before = rng.gamma(2.0, 30.0, viewers)
    taste = rng.normal(0, 1, viewers)
    writer = None
    for start in range(0, rows, 1_000_000):
        m = min(1_000_000, rows - start)
        viewer = rng.integers(0, viewers, m)
        impression = np.ones(m, dtype=np.int32)
        table = pa.table(
            {
                "viewer_id": viewer,
                "arm": arm_of[viewer],
                "watch_s": 0.4 * before[viewer]
                + 5 * taste[viewer]
                + rng.exponential(20, m)
                + 0.6 * arm_of[viewer],
                "watch_s_before": before[viewer],
                "click": (rng.random(m) < 0.05 + 0.002 * arm_of[viewer]).astype(np.int32),
                "impression": impression,
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def make_units(path: Path, units: int, _: int) -> None:
    """One row a viewer: three metrics and a covariate."""
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 2, units).astype(np.int64)
    before = rng.gamma(2.0, 30.0, units)
    writer = None
    for start in range(0, units, 1_000_000):
        part = slice(start, min(start + 1_000_000, units))
        m = part.stop - part.start
        impression = rng.poisson(8, m) + 1
        table = pa.table(
            {
                "viewer_id": np.arange(part.start, part.stop),
                "arm": arm[part],
                "watch_s": 0.4 * before[part] + rng.exponential(20, m),
                "watch_s_before": before[part],
                "click": rng.binomial(impression, 0.05),
                "impression": impression,
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def livelift_readout(path: str) -> dict[str, float]:
    """The product: two metrics, clusters, sample ratio."""
    from experiments import Mean, ab_tests

    card = ab_tests(
        path,
        metrics={
            "watch": Mean("watch_s", per="viewer_id", covariates=("watch_s_before",)),
            "ctr": ("click", "impression"),
        },
        arm="arm",
        cluster="viewer_id",
    )
    watch, ctr = (row.effect for row in card.rows)
    return {
        "watch": watch.estimate,
        "watch_se": watch.std_error,
        "ctr": ctr.estimate,
        "ctr_se": ctr.std_error,
    }


def duckdb_readout(path: str) -> dict[str, float]:
    """The same per-viewer aggregation and plain sums by hand; no adjustment, no checks."""
    import duckdb

    rows = duckdb.sql(
        """
        with unit as (
            select arm, viewer_id, sum(watch_s) y, avg(watch_s_before) x, sum(click) c,
                   sum(impression) i, count(*) n
            from read_parquet($path) group by arm, viewer_id
        )
        select arm, count(*) n, sum(y) sy, sum(y * y) syy, sum(x) sx, sum(x * x) sxx,
               sum(x * y) sxy, sum(c) sc, sum(i) si, sum(c * c) scc, sum(c * i) sci, sum(i * i) sii
        from unit group by arm order by arm
        """,
        params={"path": path},
    ).fetchall()
    return _from_sums(rows)


def _from_sums(rows: list[tuple[float, ...]]) -> dict[str, float]:
    """Lin's estimate and the ratio from plain sums (HC0-like errors)."""
    level, ratio = [], []
    pooled = sum(float(r[4]) for r in rows) / sum(r[1] for r in rows)
    for _, n, sy, syy, sx, sxx, sxy, sc, si, scc, sci, sii in [tuple(map(float, r)) for r in rows]:
        vxx, vxy, vyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
        slope = vxy / vxx
        level.append((sy / n + slope * (pooled - sx / n), (vyy - slope * vxy) / n / (n - 2)))
        r, mi = sc / si, si / n
        var = (scc - 2 * r * sci + r * r * sii) / (n - 1) / n / mi / mi
        ratio.append((r, var))
    return {
        "watch": level[1][0] - level[0][0],
        "watch_se": (level[0][1] + level[1][1]) ** 0.5,
        "ctr": ratio[1][0] - ratio[0][0],
        "ctr_se": (ratio[0][1] + ratio[1][1]) ** 0.5,
    }


def pandas_readout(path: str) -> dict[str, float]:
    """Groupby in pandas and statsmodels on units."""
    import pandas as pd
    import statsmodels.api as sm

    log = pd.read_parquet(path)
    unit = log.groupby(["arm", "viewer_id"], as_index=False).agg(
        y=("watch_s", "sum"),
        x=("watch_s_before", "mean"),
        c=("click", "sum"),
        i=("impression", "sum"),
    )
    x = unit["x"] - unit["x"].mean()
    design = np.column_stack([np.ones(len(unit)), unit["arm"], x, x * unit["arm"]])
    fit = sm.OLS(unit["y"], design).fit(cov_type="HC2")
    ratio = []
    for _, part in unit.groupby("arm"):
        r = part["c"].sum() / part["i"].sum()
        e = (part["c"] - r * part["i"]) / part["i"].mean()
        ratio.append((r, e.var() / len(part)))
    return {
        "watch": float(fit.params.iloc[1]),
        "watch_se": float(fit.bse.iloc[1]),
        "ctr": ratio[1][0] - ratio[0][0],
        "ctr_se": float((ratio[0][1] + ratio[1][1]) ** 0.5),
    }


def livelift_units(path: str) -> dict[str, float]:
    """Three metrics of one row a viewer."""
    from experiments import Mean, ab_tests

    card = ab_tests(
        path,
        metrics={
            "watch": Mean("watch_s", covariates=("watch_s_before",)),
            "click": "click",
            "ctr": ("click", "impression"),
        },
        arm="arm",
        adjustment="cuped",
    )
    return _three([row.effect for row in card.rows])


def tea_tasting_units(path: str) -> dict[str, float]:
    """The same with tea-tasting on its DuckDB back end."""
    import ibis
    import tea_tasting as tt

    con = ibis.duckdb.connect()
    table = con.read_parquet(path)
    experiment = tt.Experiment(
        watch=tt.Mean("watch_s", "watch_s_before"),
        click=tt.Mean("click"),
        ctr=tt.RatioOfMeans("click", "impression"),
        srm=tt.SampleRatio(),
    )
    experiment.variant = "arm"
    result = experiment.analyze(table)
    found = {}
    for name in ("watch", "click", "ctr"):
        row = result[name]
        estimate = row.treatment - row.control
        found[name] = estimate
        found[f"{name}_se"] = (row.effect_size_ci_upper - row.effect_size_ci_lower) / 2 / 1.959964
    return found


def _three(effects: list[Any]) -> dict[str, float]:
    """Estimates and standard errors by name."""
    found = {}
    for name, effect in zip(("watch", "click", "ctr"), effects, strict=True):
        found[name], found[f"{name}_se"] = effect.estimate, effect.std_error
    return found


READERS: dict[str, Callable[[str], dict[str, float]]] = {
    "livelift": livelift_readout,
    "duckdb": duckdb_readout,
    "pandas": pandas_readout,
    "livelift_units": livelift_units,
    "tea_tasting": tea_tasting_units,
}


MAKERS: dict[str, Callable[[Path, int, int], None]] = {
    "make_log": make_log,
    "make_units": make_units,
}


def measured(reader: str, path: str, repeat: int) -> dict[str, Any]:
    """Seconds of each repeat after one warm-up, answer and peak memory, in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        reader,
        "--path",
        path,
        "--repeat",
        str(repeat),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def worker(reader: str, path: str, repeat: int) -> None:
    """What `measured` runs."""
    function = READERS[reader]
    function(path)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = function(path)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "answer": answer, "peak_mb": peak}))


def beside(ours: str, peers: list[str], path: str, repeat: int) -> None:
    """One table: ours first, then each peer, with ratios and differences."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in [ours, *peers]}
    for _ in range(repeat):
        for name, runs in rounds.items():
            runs.append(measured(name, path, 1))
    mine = rounds[ours][0]["answer"]
    base = statistics.median(r["seconds"][0] for r in rounds[ours])
    print("| what | median s | livelift / it | peak MB | largest difference of estimates, of SEs |")
    print("|---|---|---|---|---|")
    for name, runs in rounds.items():
        median = statistics.median(r["seconds"][0] for r in runs)
        answer = runs[0]["answer"]
        gaps = {k: abs(answer[k] / mine[k] - 1) for k in mine}
        estimate = max(v for k, v in gaps.items() if not k.endswith("_se"))
        error = max(v for k, v in gaps.items() if k.endswith("_se"))
        peak = max(r["peak_mb"] for r in runs)
        print(
            f"| {name} | {median:.3f} | {base / median:.2f} | {peak:.0f} "
            f"| {estimate:.1e}, {error:.1e} |"
        )
    print("\nanswer of livelift:", {k: round(v, 6) for k, v in mine.items()})


def small_table(repeat: int) -> None:
    """`ab_test` on 1,000 rows in memory."""
    import pandas as pd

    from experiments import Mean, ab_test

    rng = np.random.default_rng(0)
    users = pd.DataFrame({"arm": rng.integers(0, 2, 1000), "x": rng.normal(5, 1, 1000)})
    users["y"] = 5 + users["x"] + rng.normal(size=1000)
    metric = Mean("y", covariates=("x",))
    ab_test(users, metric=metric, arm="arm")
    seconds = []
    for _ in range(20 * repeat):
        start = time.perf_counter()
        ab_test(users, metric=metric, arm="arm")
        seconds.append(time.perf_counter() - start)
    print(f"\nab_test, 1,000 rows, Lin: {1000 * statistics.median(seconds):.2f} ms")


def main() -> None:
    """Read the arguments, make the data, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--viewers", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--against", default="duckdb,pandas")
    parser.add_argument("--one-row-per-unit", action="store_true")
    parser.add_argument("--worker")
    parser.add_argument("--path")
    args = parser.parse_args()
    if args.worker in MAKERS:
        MAKERS[args.worker](Path(args.path), args.rows, args.viewers)
        return
    if args.worker:
        worker(args.worker, args.path, args.repeat)
        return
    peers = [p for p in args.against.split(",") if p]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        maker = "make_units" if args.one_row_per_unit else "make_log"
        sizes = ["--rows", str(args.rows), "--viewers", str(args.viewers)]
        making = [sys.executable, __file__, "--worker", maker, "--path", str(path), *sizes]
        subprocess.run(
            making, check=True
        )  # elsewhere: a child's peak memory starts at its parent's
        if args.one_row_per_unit:
            beside("livelift_units", peers, str(path), args.repeat)
        else:
            beside("livelift", peers, str(path), args.repeat)
    small_table(args.repeat)


if __name__ == "__main__":
    main()
