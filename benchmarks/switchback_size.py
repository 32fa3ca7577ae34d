"""Size and coverage of rotation read-outs on short runs, beside clustered least squares with z.

Run: python benchmarks/switchback_size.py --runs 2000
     python benchmarks/switchback_size.py --runs 200 --slices 8,14

The world: hours with AR(1) noise (0.9 an hour, unit variance) and a daily profile, slices of 24
hours, half of them treated (workdays and weekends apart from two weeks on). Size is how often
p <= 0.05 without an effect; coverage is that of 95 % intervals under an effect of 1. At 2,000 runs
a true size of 5 % shows between 4.1 % and 6.0 % in 95 of 100 tables.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import signal, special

from causal import EstimationWarning
from causal.linear import covariance, least_squares
from experiments import Schedule, Switchback, switchback_effect

SLICES = (8, 14, 28, 84)
INFERENCES = ("randomization", "conservative", "cluster", "hac")
RHO = 0.9
N_DRAWS = 499


@dataclass(frozen=True)
class Row:
    """What was measured of one reading."""

    slices: int
    reading: str
    size: float
    coverage: float
    width: float
    runs: int

    @property
    def mc_error(self) -> float:
        """Monte Carlo standard error of a size of 5 %."""
        return math.sqrt(0.05 * 0.95 / self.runs)


def world(n_slices: int, seed: int) -> tuple[Schedule, pd.DataFrame]:
    """A schedule and its log without an effect."""
    plan = Switchback(1440).schedule(start="2026-03-02", days=n_slices, seed=seed)
    ts = pd.date_range("2026-03-02", periods=24 * n_slices, freq="h")
    shocks = np.random.default_rng([n_slices, seed]).normal(size=len(ts) + 300)
    noise = signal.lfilter([math.sqrt(1 - RHO**2)], [1, -RHO], shocks)[300:]
    y = 10 + 2 * np.sin(ts.hour * np.pi / 12) + noise
    return plan, pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts), "y": y})


def ours(
    log: pd.DataFrame, plan: Schedule, inference: str, seed: int
) -> tuple[float, float, float]:
    """P-value and limits of this package's reading."""
    found = switchback_effect(
        log,
        outcome="y",
        treatment="arm",
        time="ts",
        schedule=plan,
        inference=inference,
        n_draws=N_DRAWS,
        seed=seed,
    )
    return found.p_value, *found.conf_int()


def normal_clusters(log: pd.DataFrame) -> tuple[float, float, float]:
    """Least squares of rows on the arm, clustered by slice (CR1), with a normal critical value."""
    X = np.column_stack([log["arm"], np.ones(len(log))]).astype(float)
    fit = least_squares(X, log["y"])
    error = math.sqrt(covariance(fit, X, kind="CR1", clusters=log["ts"].dt.date).matrix[0, 0])
    p = 2 * float(special.ndtr(-abs(fit.coef[0]) / error))
    return p, float(fit.coef[0] - 1.96 * error), float(fit.coef[0] + 1.96 * error)


def measure(n_slices: int, runs: int, readings: tuple[str, ...] = INFERENCES) -> list[Row]:
    """Size, coverage and mean width of every reading on one length of run.

    Both come from the same logs: a constant effect moves every limit by itself, so an interval
    covers an effect of 1 exactly when it covers 0 without one; a test checks that.
    """
    names = (*readings, "normal z, clustered")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        for seed in range(runs):
            plan, log = world(n_slices, seed)
            for inference in readings:
                found[inference].append(ours(log, plan, inference, seed))
            found[names[-1]].append(normal_clusters(log))
    rows = []
    for name, values in found.items():
        p, low, high = np.array(values).T
        size, covered = float((p <= 0.05).mean()), float(((low <= 0) & (high >= 0)).mean())
        rows.append(Row(n_slices, name, size, covered, float((high - low).mean()), runs))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| slices | reading | size | mc error | coverage | mean width |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.slices} | {r.reading} | {r.size:.3f} | {r.mc_error:.3f} | {r.coverage:.3f} "
        f"| {r.width:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--slices", default=",".join(map(str, SLICES)))
    given = parser.parse_args()
    print(table([row for n in given.slices.split(",") for row in measure(int(n), given.runs)]))


if __name__ == "__main__":
    main()
