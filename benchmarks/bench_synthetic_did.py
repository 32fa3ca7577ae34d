"""Synthetic difference-in-differences with placebo draws, beside diff-diff: accuracy, then time.

Run: python benchmarks/bench_synthetic_did.py --donors 500 --draws 100 --repeat 3
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal import synthetic_diff_in_diff

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal import SyntheticDiffInDiff

N_TREATED, N_PRE, N_POST, EFFECT = 5, 40, 10, 1.0


@dataclass(frozen=True)
class Theirs:
    """What diff-diff found; `excess` of its objective over the least, as a share."""

    estimate: float
    std_error: float
    excess: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Race:
    """One case: estimates and errors, how exact the weights are, seconds."""

    n_donors: int
    n_draws: int
    estimate: float
    std_error: float
    duality_gap: float
    first: float
    seconds: float
    theirs: Theirs | None


def panel(n_donors: int, seed: int = 0) -> pd.DataFrame:
    """Three factors, unit and period effects and noise; the last units are treated at the end."""
    rng = np.random.default_rng(seed)
    n, n_periods = n_donors + N_TREATED, N_PRE + N_POST
    factors = rng.normal(size=(n, 3)) @ np.cumsum(rng.normal(size=(3, n_periods)), axis=1)
    Y = 10 + rng.normal(size=(n, 1)) + np.cumsum(rng.normal(size=n_periods)) + 0.3 * factors
    Y += rng.normal(size=Y.shape)
    Y[n_donors:, N_PRE:] += EFFECT
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(n), n_periods),
            "time": np.tile(np.arange(n_periods), n),
            "y": Y.ravel(),
            "treated": np.repeat((np.arange(n) >= n_donors).astype(int), n_periods),
        }
    )


def ours(table: pd.DataFrame, n_draws: int) -> SyntheticDiffInDiff:
    return synthetic_diff_in_diff(
        table,
        outcome="y",
        unit="unit",
        time="time",
        treatment="treated",
        start=N_PRE,
        n_draws=n_draws,
    )


def theirs(table: pd.DataFrame, n_draws: int) -> Any:  # noqa: ANN401 — no stubs
    """diff-diff's result; its solver stops early and warns of it."""
    from diff_diff import SyntheticDiD

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SyntheticDiD(variance_method="placebo", n_bootstrap=n_draws, seed=1).fit(
            table,
            outcome="y",
            treatment="treated",
            unit="unit",
            time="time",
            post_periods=list(range(N_PRE, N_PRE + N_POST)),
        )


def unit_objective(table: pd.DataFrame, weights: dict[Any, float], zeta: float) -> float:
    """What the unit weights minimise."""
    wide = table.pivot_table(index="unit", columns="time", values="y").to_numpy()[:, :N_PRE]
    paths = wide - wide.mean(axis=1, keepdims=True)
    w = np.zeros(len(paths) - N_TREATED)
    w[list(weights)] = list(weights.values())
    gap = w @ paths[:-N_TREATED] - paths[-N_TREATED:].mean(axis=0)
    return float(gap @ gap + zeta**2 * N_PRE * w @ w)


def seconds(call: Callable[[], object], repeat: int) -> float:
    """Median seconds."""
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def race(n_donors: int, n_draws: int, repeat: int, *, peers: bool) -> Race:
    """Both on one panel; our first call, with what it loads, apart."""
    table = panel(n_donors)
    start = time.perf_counter()
    found = ours(table, n_draws)
    first = time.perf_counter() - start
    other = theirs(table, n_draws) if peers else None
    zeta = float(found.regularisation["zeta_unit"].iloc[0])
    best = unit_objective(
        table,
        dict(zip(found.unit_weights["unit"], found.unit_weights["weight"], strict=True)),
        zeta,
    )
    return Race(
        n_donors=n_donors,
        n_draws=n_draws,
        estimate=found.estimate,
        std_error=found.std_error,
        duality_gap=float(found.regularisation["duality_gap"].max()),
        first=first,
        seconds=seconds(lambda: ours(table, n_draws), repeat),
        theirs=None
        if other is None
        else Theirs(
            float(other.att),
            float(other.se),
            unit_objective(table, other.unit_weights, zeta) / best - 1,
            seconds(lambda: theirs(table, n_draws), repeat),
        ),
    )


def markdown(races: list[Race]) -> str:
    """The table; the ratio to reach is 20."""
    lines = [
        "| donors, draws | estimate (error) | diff-diff's | our duality gap | its excess objective "
        "| ours, s (first) | diff-diff, s | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in races:
        other = ("", "", "", "")
        if r.theirs is not None:
            p = r.theirs
            other = (f"{p.estimate:.4f} ({p.std_error:.4f})", f"{p.excess:.1e}",
                     f"{p.seconds:.2f}", f"{p.seconds / r.seconds:.0f}")  # fmt: skip
        lines.append(
            f"| {r.n_donors}, {r.n_draws} | {r.estimate:.4f} ({r.std_error:.4f}) | {other[0]} "
            f"| {r.duality_gap:.0e} | {other[1]} | {r.seconds:.3f} ({r.first:.2f}) | {other[2]} "
            f"| {other[3]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--donors", type=int, nargs="+", default=[500])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    print(f"{N_TREATED} treated units, {N_PRE} periods before and {N_POST} after; true effect 1")
    peers = importlib.util.find_spec("diff_diff") is not None
    print(markdown([race(n, args.draws, args.repeat, peers=peers) for n in args.donors]))


if __name__ == "__main__":
    main()
