"""Power and read-out of a rotation beside statsmodels' clustered least squares.

    python -m benchmarks.bench_switchback --repeat 5 --write

A pilot of 14 days in 10 regions with 8-hour slices and 30 minutes of burn-in: 420 cells. The peer
refits rows on the arm, clustered by cell, once a replication (once a draw): a few refits are timed
and scaled. It fits no strata; with them it would be slower. Every row holds the accuracy that goes
with the time. `--write` replaces the section of `benchmarks/results.md`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

from causal import EstimationWarning
from experiments import Switchback, switchback_effect, switchback_power
from experiments.sizing.power_cells import pilot_cells

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).with_name("results.md")
HEADING = "## Rotations"
REGIONS = tuple("abcdefghij")
SLICES = {"slice_minutes": 480, "burn_in_minutes": 30}
ROLES = {"outcome": "watch", "time": "ts", "unit": "region"}
REPLICATIONS, DRAWS = 2000, 499
REFITS = 5


def make_log(rows: int) -> pd.DataFrame:
    """Rows at random seconds, with a level of each region and hour and of each cell."""
    rng = np.random.default_rng(0)
    second = rng.integers(0, 14 * 86_400, rows)
    region = rng.integers(0, len(REGIONS), rows)
    cell = rng.normal(size=(len(REGIONS), 42))[region, second // 28_800]
    watch = 20 + region + 3 * np.sin(second / 13_750) + 0.3 * cell + 5 * rng.normal(size=rows)
    ts = pd.Timestamp("2026-03-02") + pd.to_timedelta(second, unit="s")
    return pd.DataFrame({"ts": ts, "region": np.array(REGIONS)[region], "watch": watch})


def timed(call: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Median seconds after one warm-up, and the answer."""
    answer = call()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answer


def power(log: pd.DataFrame, effects: list[float]) -> Any:  # noqa: ANN401 — a PowerCurve
    return switchback_power(
        log, **ROLES, **SLICES, effects=effects, n_replications=REPLICATIONS, n_draws=DRAWS
    )


def refit_seconds(log: pd.DataFrame) -> float:
    """Median seconds of one clustered least squares on the rows that are read."""
    second = (log["ts"] - pd.Timestamp("2026-03-02")).dt.total_seconds().to_numpy()
    kept = second % 28_800 >= 1_800
    y, second = log["watch"].to_numpy()[kept], second[kept]
    region = pd.factorize(log["region"])[0][kept]
    cell = region * 42 + (second // 28_800).astype(int)
    rng, found = np.random.default_rng(1), []
    for _ in range(REFITS):
        arm = rng.permutation(np.arange(420) % 2)
        start = time.perf_counter()
        X = np.column_stack([np.ones(len(y)), arm[cell]])
        sm.OLS(y, X).fit(cov_type="cluster", cov_kwds={"groups": cell})
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def squared_t(y: np.ndarray, n: np.ndarray, strata: np.ndarray, arm: np.ndarray) -> float:
    """Squared statistic of least squares on arm and strata, weighted, with HC2."""
    X = np.column_stack([arm, np.eye(strata.max() + 1)[strata]]) * np.sqrt(n)[:, None]
    bread = np.linalg.inv(X.T @ X)
    coef = bread @ X.T @ (np.sqrt(n) * y)
    e = np.sqrt(n) * y - X @ coef
    score = bread[0] @ X.T
    leverage = np.einsum("gi,ij,gj->g", X, bread, X)
    return float(coef[0] ** 2 / np.sum(score**2 * e**2 / (1 - leverage)))


def equals_brute_force(log: pd.DataFrame, effect: float, runs: int, draws: int) -> bool:
    """Whether the power is that of tests of every replication by least squares."""
    given = {"n_replications": runs, "n_draws": draws, "effects": [effect]}
    found = switchback_power(log, **ROLES, **SLICES, **given).table["power"].iloc[0]
    cells = pilot_cells(log, **ROLES, **SLICES, coin="stratified")
    n, mean = (cells.table[name].to_numpy() for name in ("n", "mean"))
    seeds = np.random.SeedSequence([0, 0]).generate_state(2).tolist()
    arms, others = cells.law.draws(runs, seeds[0]), cells.law.draws(draws, seeds[1])
    rejected = 0
    for arm in arms:
        y = mean + effect * arm
        least = squared_t(y, n, cells.strata, arm) * (1 - 1e-9)
        count = sum(squared_t(y, n, cells.strata, other) >= least for other in others)
        rejected += (1 + count) / (draws + 1) <= 0.05
    return bool(abs(found - rejected / runs) < 1e-12)


def power_rows(rows: int, target: float, repeat: int) -> list[str]:
    """Power of one effect and of ten beside refits."""
    log = make_log(rows)
    refit = refit_seconds(log)
    one, curve = timed(lambda: power(log, [0.0]), repeat)
    ten, _ = timed(lambda: power(log, list(np.linspace(0, 1, 10))), repeat)
    size, error = curve.table["power"].iloc[0], curve.table["mc_se"].iloc[0]
    same = equals_brute_force(log, float(curve.mde), 50, 99)
    ratio, more = REPLICATIONS * refit / one, ten / one
    near = abs(size - 0.05) <= 3 * error
    return [
        f"| power of one effect, {rows:,} rows, {REPLICATIONS:,} x {DRAWS} | {one:.3f} "
        f"| {refit:.3f} s a refit x {REPLICATIONS:,} = {REPLICATIONS * refit:.0f} s "
        f"| {ratio:.0f} (target {target:.0f} {mark(ratio >= target)}) "
        f"| size {size:.4f}, Monte Carlo error {error:.4f} {mark(near)}; 50 replications as by "
        f"brute force {mark(same)} |",
        f"| power of ten effects, {rows:,} rows | {ten:.3f} | one effect | {more:.2f} times "
        f"(target 2 at most {mark(more <= 2)}) | |",
    ]


def effect_row(rows: int, target: float, repeat: int) -> str:
    """The read-out with 999 draws beside refits."""
    log = make_log(rows)
    plan = Switchback(480, regions=REGIONS).schedule(start="2026-03-02", days=14, seed=1)
    arm = plan.treatment_at(log["ts"], log["region"])
    log = log.assign(arm=arm, watch=log["watch"] + 0.1 * arm)
    refit = refit_seconds(log)
    given = {"treatment": "arm", "schedule": plan, "n_draws": 999, "burn_in": 30}
    cells = pilot_cells(log, **ROLES, **SLICES, coin="stratified")
    n, mean = (cells.table[name].to_numpy() for name in ("n", "mean"))
    means = pd.DataFrame(
        {
            "ts": cells.table["start"] + pd.Timedelta(minutes=30),
            "region": cells.table["region"],
            "watch": mean,
            "n": n,
            "arm": plan.table["arm"],
        }
    )
    whole, found = timed(lambda: switchback_effect(log, **ROLES, **given), repeat)
    after, again = timed(lambda: switchback_effect(means, **ROLES, **given, weight="n"), repeat)
    own = squared_t(mean, n, cells.strata, plan.table["arm"].to_numpy()) * (1 - 1e-9)
    draws = plan.redraw(999, seed=0)
    p = (1 + sum(squared_t(mean, n, cells.strata, a) >= own for a in draws)) / 1000
    same = abs(found.p_value - p) < 1e-12 and abs(again.p_value - p) < 1e-12
    ratio = 999 * refit / after
    return (
        f"| switchback_effect, 999 draws, {rows:,} rows | {whole:.3f}, after cells {after:.3f} "
        f"| {refit:.3f} s a refit x 999 = {999 * refit:.0f} s | {999 * refit / whole:.0f}, after "
        f"cells {ratio:.0f} (target {target:.0f} {mark(ratio >= target)}) "
        f"| p = {found.p_value:.3f}, as by brute force {mark(same)} |"
    )


def mark(met: bool) -> str:
    return "✓" if met else "✗"


def section(table: list[str], command: str) -> str:
    """The section of the results."""
    about = (
        "A pilot of 14 days in 10 regions, 8-hour slices, stratified coin, 30 minutes of burn-in: "
        "420 cells, from rows in pandas. The peer is statsmodels' least squares of rows on the "
        f"arm, clustered by cell: the median of {REFITS} refits, scaled."
    )
    return "\n".join([HEADING, "", about, "", f"`{command}`", "", *table, ""])


def write_section(heading: str, text: str) -> None:
    """Put a section of the results in the place of the one before, or at the end."""
    old = RESULTS.read_text(encoding="utf-8")
    before, found, after = old.partition(f"{heading}\n")
    _, mark_of_next, rest = after.partition("\n## ")
    lead = before if found else f"{old.rstrip()}\n\n"
    RESULTS.write_text(lead + text + mark_of_next + rest, encoding="utf-8")


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore", EstimationWarning)
    table = [
        "| case | livelift, s | peer | livelift is faster by | accuracy |",
        "|---|---|---|---|---|",
        *power_rows(1_000_000, 600, args.repeat),
        *power_rows(100_000, 100, args.repeat),
        effect_row(1_000_000, 1000, args.repeat),
    ]
    text = section(table, f"python -m benchmarks.bench_switchback --repeat {args.repeat}")
    print(text)
    if args.write:
        write_section(HEADING, text)


if __name__ == "__main__":
    main()
