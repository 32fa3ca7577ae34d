"""Bias, error and coverage where trends are not parallel: four factors, treated inside the hull.

Run: python benchmarks/factor_model_study.py --runs 1000

The world (D5): 60 donors and 4 treated units over 28 periods before treatment and 8 after. Four
factors walk at random; a treated unit's loadings are a mixture of those of four donors, of which
such with a large first loading are likelier, so that a plain difference-in-differences is off by
the first factor's late movement. Noise has variance 1, the effect is 1.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import causal
from causal import EstimationWarning

if TYPE_CHECKING:
    from collections.abc import Callable

N_DONORS, N_TREATED, N_PRE, N_POST, N_FACTORS, EFFECT = 60, 4, 28, 8, 4, 1.0
COLUMNS = {"outcome": "y", "unit": "unit", "time": "time", "treatment": "treated", "start": N_PRE}


@dataclass(frozen=True)
class Row:
    """What was measured of one method; coverage is of 95 % intervals, NaN without one."""

    method: str
    bias: float
    rmse: float
    mean_error: float
    coverage: float
    runs: int

    @property
    def mc_error(self) -> float:
        """Monte Carlo standard error of the bias."""
        return math.sqrt(max(self.rmse**2 - self.bias**2, 0) / self.runs)


def world(seed: int) -> pd.DataFrame:
    """One panel as rows."""
    rng = np.random.default_rng([5, seed])
    n, n_periods = N_DONORS + N_TREATED, N_PRE + N_POST
    donors = rng.uniform(0, 1, (N_DONORS, N_FACTORS))
    likely = donors[:, 0] ** 2 / np.sum(donors[:, 0] ** 2)
    mixed = [
        rng.dirichlet(np.ones(4)) @ donors[rng.choice(N_DONORS, 4, replace=False, p=likely)]
        for _ in range(N_TREATED)
    ]
    factors = np.cumsum(rng.normal(size=(N_FACTORS, n_periods)), axis=1)
    Y = 3 * rng.normal(size=(n, 1)) + np.vstack([donors, *mixed]) @ factors
    Y += rng.normal(size=Y.shape)
    treated = np.arange(n) >= N_DONORS
    Y[treated, N_PRE:] += EFFECT
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(n), n_periods),
            "time": np.tile(np.arange(n_periods), n),
            "y": Y.ravel(),
            "treated": np.repeat(treated.astype(int), n_periods),
        }
    )


def four_means(log: pd.DataFrame, _seed: int) -> tuple[float, float, float]:
    """Plain difference-in-differences, without an error."""
    after = (log["time"] >= N_PRE).astype(int)
    means = log.groupby(["treated", after])["y"].mean()
    return (means[1, 1] - means[1, 0]) - (means[0, 1] - means[0, 0]), math.nan, math.nan


def reading(function: str, **options: Any) -> Callable[..., tuple[float, float, float]]:  # noqa: ANN401 — options of a method
    """Estimate, and limits of the 95 % interval, of one method."""

    def read(log: pd.DataFrame, seed: int) -> tuple[float, float, float]:
        found = getattr(causal, function)(log, **COLUMNS, seed=seed, **options)
        return found.estimate, *found.effect.conf_int()

    return read


METHODS: dict[str, Callable[..., tuple[float, float, float]]] = {
    "difference-in-differences": four_means,
    "synthetic control": reading("synthetic_control", inference=None),
    "synthetic DID, placebo": reading("synthetic_diff_in_diff", n_draws=100),
    "synthetic DID, jackknife": reading("synthetic_diff_in_diff", variance="jackknife"),
    "matrix completion, placebo": reading("factor_effects", n_draws=100),
    "matrix completion, jackknife": reading("factor_effects", variance="jackknife"),
}


def measure(runs: int, names: tuple[str, ...] = tuple(METHODS)) -> list[Row]:
    """Every method on the same panels."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        for seed in range(runs):
            log = world(seed)
            for name in names:
                found[name].append(METHODS[name](log, seed))
    rows = []
    for name, values in found.items():
        estimate, low, high = np.array(values).T
        off = estimate - EFFECT
        covered = float(((low <= EFFECT) & (high >= EFFECT)).mean())
        rmse, error = math.sqrt(float(np.mean(off**2))), float(np.mean(high - low)) / 3.92
        coverage = math.nan if math.isnan(error) else covered
        rows.append(Row(name, float(off.mean()), rmse, error, coverage, runs))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| method | bias (mc error) | rmse | mean error | coverage |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.method} | {r.bias:+.3f} ({r.mc_error:.3f}) | {r.rmse:.3f} | {r.mean_error:.3f} "
        f"| {r.coverage:.3f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    given = parser.parse_args()
    print(table(measure(given.runs, tuple(given.methods))))


if __name__ == "__main__":
    main()
