"""Event studies beside pyfixest and diff-diff; group-time effects, crossed effects, sensitivity.

    python benchmarks/bench_did.py --rows 1000000 --write
    python benchmarks/bench_did.py --rows 1000000 --large      # also 1e8 rows from Parquet

The panel has 20 periods and half of its units treated from the tenth on. Peers of the `bench` extra
are skipped, and said so, where they are not installed. Every row holds the accuracy that goes with
the time. `--write` replaces the section of `benchmarks/results.md`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
from bench_fixed_effects import crossed_effects_row
from bench_group_time import group_time_rows

from causal import EffectCurve, EstimationWarning, event_study, honest_did

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).with_name("results.md")
HEADING = "## Difference-in-differences"
PERIODS, START = 20, 10
ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}

IN_A_PROCESS = """
import json, re, sys, time
from pathlib import Path
import ibis
from bench_did import make_log
from causal import event_study
where, roles = sys.argv[1], json.loads(sys.argv[2])
if where.isdigit():
    table = make_log(int(where))
elif where.endswith(".parquet"):
    table = where
else:
    table = ibis.duckdb.connect(where, read_only=True).table("log")
    table.limit(5).to_pyarrow()

def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
before, start = memory("VmRSS"), time.perf_counter()
study = event_study(table, **roles)
print(json.dumps({
    "seconds": time.perf_counter() - start, "mb": memory("VmHWM") - before,
    "estimate": study.curve.estimate.tolist(), "std_error": study.curve.std_error.tolist()}))
"""


def make_log(rows: int, seed: int = 0) -> pd.DataFrame:
    """Shuffled rows of unit, day, cohort (infinite for never) and y."""
    rng = np.random.default_rng(seed)
    n = rows // PERIODS
    unit, day = (a.ravel() for a in np.indices((n, PERIODS)))
    cohort = np.where(np.arange(n) % 2 == 0, float(START), np.inf)[unit]
    y = rng.normal(size=n)[unit] + 0.1 * day + 0.5 * (day >= cohort) + rng.normal(size=len(unit))
    log = pd.DataFrame({"unit": unit + 1_000, "day": day, "cohort": cohort, "y": y})
    return log.take(rng.permutation(len(log))).reset_index(drop=True)


def mark(met: bool) -> str:
    """Whether a target of the specification is met."""
    return " ✓" if met else " ✗"


def timed(call: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Median seconds after one warm-up, and the answer."""
    answer = call()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answer


def has(name: str) -> bool:
    """Whether a peer is installed; says so if it is not."""
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"{name} is not installed (extra `bench`): its rows are left out")
    return found


def points(study: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401 — an EventStudy
    """Estimates and errors without the reference."""
    keep = np.array(study.curve.index) != -1
    return study.curve.estimate[keep], study.curve.std_error[keep]


def against(study: Any, estimate: np.ndarray, error: np.ndarray) -> str:  # noqa: ANN401
    """Largest differences of an event study from a peer's."""
    mine, my_error = points(study)
    gap, share = np.abs(mine - estimate).max(), np.abs(my_error / error - 1).max()
    return f"estimate {gap:.1e}, std_error {share:.1e} of it"


def event_study_rows(rows: int, repeat: int) -> list[str]:
    """TWFE event study with its Wald test and band, from a frame."""
    log = make_log(rows)
    seconds, study = timed(lambda: banded(log), repeat)
    keys = log.assign(ever=np.isfinite(log["cohort"]))
    grouped, _ = timed(lambda: keys.groupby(["ever", "day"])["y"].mean(), repeat)
    found = [
        f"event study, {rows:.0e} rows, from a DataFrame | {seconds:.3f} s | "
        f"{seconds / grouped:.1f}x one pandas groupby mean (at most 12"
        f"{mark(seconds <= 12 * grouped)}) | "
    ]
    if has("pyfixest"):
        import pyfixest as pf

        wide = keys.assign(rel=np.where(keys["ever"], log["day"] - START, -1).astype(int))
        formula = "y ~ i(rel, ref=-1) | unit + day"
        lean = {"store_data": False, "lean": True, "copy_data": False}
        for name, options in (("feols", {}), ("feols, leanest options", lean)):
            peer, fit = timed(
                lambda o=options: pf.feols(formula, wide, vcov={"CRV1": "unit"}, **o), 3
            )
            tidy = fit.tidy()
            same = against(study, tidy["Estimate"].to_numpy(), tidy["Std. Error"].to_numpy())
            ratio = f"{peer / seconds:.1f}x pyfixest {name} ({peer:.2f} s)"
            ratio += f" (at least 15{mark(peer >= 15 * seconds)})" if name == "feols" else ""
            found.append(f"the same | | {ratio} | {same}")
    if has("diff_diff"):
        from diff_diff import MultiPeriodDiD

        wide = keys.assign(d=keys["ever"].astype(int))
        peer, fit = timed(
            lambda: MultiPeriodDiD(cluster="unit").fit(
                wide, outcome="y", treatment="d", time="day", unit="unit", absorb=["unit"],
                post_periods=list(range(START, PERIODS)), reference_period=START - 1,
            ),
            1,
        )  # fmt: skip
        effects = [fit.period_effects[day] for day in range(PERIODS) if day != START - 1]
        estimate = np.array([e.effect for e in effects])
        error = np.array([e.se for e in effects])
        same = against(study, estimate, error)
        found.append(
            f"the same | | {peer / seconds:.0f}x diff-diff MultiPeriodDiD ({peer:.1f} s) "
            f"(at least 50{mark(peer >= 50 * seconds)}) | {same}"
        )
    more = make_log(4 * rows, seed=1)
    longer, _ = timed(lambda: banded(more), repeat)
    found.append(
        f"four times the rows | {longer:.3f} s | {longer / seconds:.1f}x the time (at most 5"
        f"{mark(longer <= 5 * seconds)}) | "
    )
    return found


def banded(log: Any) -> Any:  # noqa: ANN401 — any table, an EventStudy
    """An event study with its simultaneous band."""
    study = event_study(log, **ROLES)
    study.curve.conf_int(simultaneous=True)
    return study


def first_call_row() -> str:
    """The first call in a fresh process, after its imports."""
    code = (
        "import time; a = time.perf_counter(); from bench_did import make_log, banded; "
        "log = make_log(20_000); b = time.perf_counter(); banded(log); "
        "print(time.perf_counter() - b)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=RESULTS.parent
    )
    return f"first call after import, 20,000 rows | {float(out.stdout):.2f} s | kernels cached | "


def in_a_process(where: str) -> dict[str, Any]:
    """An event study in a fresh process, of a file or of so many made rows; time and memory."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS, where, json.dumps(ROLES)],
        capture_output=True, text=True, check=True, cwd=RESULTS.parent,
    )  # fmt: skip
    return dict(json.loads(out.stdout.strip().splitlines()[-1]))


def memory_row(rows: int) -> str:
    """What an event study of a frame needs beside the frame."""
    megabytes = in_a_process(str(rows))["mb"]
    goal = f"(at most 500{mark(megabytes <= 500)})"
    return (
        f"event study, {rows:.0e} rows, memory beside the frame | +{megabytes:.0f} MB {goal} | | "
    )


def stored_row(rows: int, folder: Path, kind: str) -> str:
    """An event study where the log stays in a DuckDB file or in Parquet."""
    path = folder / f"log_{rows}.{'parquet' if kind == 'Parquet' else 'duckdb'}"
    part = 2_000_000 if rows > 2_000_000 else rows
    con = duckdb.connect(str(path) if kind == "DuckDB" else ":memory:")
    pieces: list[str] = []
    for j in range(rows // part):
        piece = make_log(part, seed=j)
        piece["unit"] += j * part
        if kind == "DuckDB":
            con.register("piece", piece)
            con.execute(f"{'CREATE TABLE log AS' if j == 0 else 'INSERT INTO log'} FROM piece")
        else:
            pieces.append(str(folder / f"piece_{rows}_{j}.parquet"))
            piece.to_parquet(pieces[-1])
    con.close()
    where = str(path) if kind == "DuckDB" else str(folder / f"piece_{rows}_*.parquet")
    found = in_a_process(where)
    same = ""
    if rows <= 10_000_000:
        whole = pd.concat(
            [make_log(part, seed=j).assign(unit=lambda d, j=j: d["unit"] + j * part)
             for j in range(rows // part)], ignore_index=True,
        )  # fmt: skip
        study = event_study(whole, **ROLES)
        gap = np.abs(np.array(found["estimate"]) - study.curve.estimate).max()
        error = np.abs(np.array(found["std_error"]) - study.curve.std_error).max()
        same = f"from the frame: estimate {gap:.1e}, std_error {error:.1e}"
    goal = f" (at most 300{mark(found['mb'] <= 300)})" if kind == "DuckDB" else ""
    return (
        f"event study, {rows:.0e} rows in {kind} | {found['seconds']:.2f} s | peak memory "
        f"+{found['mb']:.0f} MB{goal} | {same}"
    )


def honest_rows() -> list[str]:
    """Sensitivity intervals at 5 leads and 5 lags."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(10, 10)) / 10 + 0.15 * np.eye(10)
    index = [-6, -5, -4, -3, -2, 0, 1, 2, 3, 4]
    estimate = np.concatenate([rng.normal(size=5) * 0.1, 0.6 + 0.1 * np.arange(5)])
    curve = EffectCurve(
        index=index, index_name="event_time", estimate=estimate, cov=root @ root.T,
        estimand="att", method="made up", n_obs=1_000,
    )  # fmt: skip
    bounds, small = [0.25, 0.5, 1, 1.5, 2], [0, 0.05, 0.1, 0.2, 0.4]
    relative, _ = timed(lambda: honest_did(curve, bound=bounds), 3)
    smooth, _ = timed(lambda: honest_did(curve, kind="smoothness", bound=small), 3)
    return [
        f"honest_did, relative magnitude, 5 bounds, 5 leads and 5 lags | {relative:.2f} s | "
        f"{relative / smooth:.1f}x the smoothness kind (at most 60, and 5 s"
        f"{mark(relative <= min(60 * smooth, 5))}) | equal to R's in tests",
        f"honest_did, smoothness, 5 bounds | {smooth:.3f} s | | equal to R's in tests",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 1e8 rows from Parquet")
    parser.add_argument("--write", action="store_true", help="replace the section of results.md")
    given = parser.parse_args()
    warnings.simplefilter("ignore", EstimationWarning)
    found = event_study_rows(given.rows, given.repeat)
    found += [memory_row(given.rows), first_call_row()]
    with tempfile.TemporaryDirectory() as folder:
        found.append(stored_row(10 * given.rows, Path(folder), "DuckDB"))
        if given.large:
            found.append(stored_row(100_000_000, Path(folder), "Parquet"))
    found += honest_rows()
    found += group_time_rows()
    found.append(crossed_effects_row())
    lines = [
        "| case | time | ratio | accuracy |",
        "|---|---|---|---|",
        *(f"| {r} |" for r in found),
    ]
    print("\n".join(lines))
    if given.write:
        write(lines, given.rows)


def write(lines: list[str], rows: int) -> None:
    """Replace the section of results.md."""
    text = RESULTS.read_text(encoding="utf-8")
    head, _, rest = text.partition(f"{HEADING}\n")
    _, _, after = rest.partition("\n## ")
    said = f"`python benchmarks/bench_did.py --rows {rows} --large --write`"
    peers = ", ".join(
        f"{name} {version(name)}"
        for name in ("pyfixest", "diff-diff", "csdid", "scipy")
        if importlib.util.find_spec(name.replace("-", "_"))
    )
    about = f"{said}, {time.strftime('%Y-%m-%d')}; {peers}; 20 periods."
    body = "\n".join([HEADING, "", about, "", *lines, ""])
    RESULTS.write_text(head + body + (f"\n## {after}" if after else ""), encoding="utf-8")


if __name__ == "__main__":
    main()
