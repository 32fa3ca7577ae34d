"""Synthetic control with all placebos beside scipy's SLSQP and diff-diff: accuracy, then time.

Run: python benchmarks/bench_synthetic.py --donors 200 500 --repeat 3
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import bench_synthetic_did
import numpy as np
import pandas as pd
from scipy.optimize import minimize

from causal import synthetic_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from causal import SyntheticControl

N_PRE, N_POST, EFFECT = 40, 10, 1.0
SAMPLE = 2  # placebos that SLSQP and diff-diff solve; their times are scaled to all


@dataclass(frozen=True, kw_only=True)
class Race:
    """One case; seconds of the whole analysis with every placebo."""

    n_donors: int
    estimate: float
    std_error: float
    duality_gap: float
    first: float
    ours: float
    excess: float
    slsqp: float
    their_estimate: float | None
    theirs: float | None


def outcomes(n_donors: int, seed: int = 0) -> NDArray[np.float64]:
    """A factor model, the treated unit first, inside the donors' loadings."""
    rng = np.random.default_rng(seed)
    loading = rng.dirichlet(np.ones(4), n_donors + 1)
    loading[0] = 0.25
    factor = rng.normal(size=(4, N_PRE + N_POST)).cumsum(axis=1) * 3
    y = loading @ factor + rng.normal(0, 0.5, (n_donors + 1, N_PRE + N_POST))
    y[0, N_PRE:] += EFFECT
    return np.asarray(y, dtype=np.float64)


def as_table(y: NDArray[np.float64]) -> pd.DataFrame:
    n, t = y.shape
    columns = {"unit": np.repeat(np.arange(n), t), "time": np.tile(np.arange(t), n), "y": y.ravel()}
    table = pd.DataFrame(columns)
    return table.assign(on=((table["unit"] == 0) & (table["time"] >= N_PRE)).astype(int))


def our_analysis(table: pd.DataFrame) -> SyntheticControl:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return synthetic_control(
            table, outcome="y", unit="unit", time="time", treated=0, start=N_PRE
        )


def by_slsqp(target: NDArray[np.float64], donors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights by scipy with the exact gradient."""
    found = minimize(
        lambda w: float(((target - w @ donors) ** 2).sum()),
        np.full(len(donors), 1 / len(donors)),
        jac=lambda w: -2 * donors @ (target - w @ donors),
        bounds=[(0, 1)] * len(donors),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-10},
    )
    w = np.clip(found.x, 0, None)
    return np.asarray(w / w.sum())


def their_analysis(table: pd.DataFrame) -> Any:  # noqa: ANN401 — no stubs
    """diff-diff with equal predictor weights on the outcome of every period, and its placebos."""
    import diff_diff

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = diff_diff.SyntheticControl(
            v_method="custom", custom_v=np.ones(N_PRE), standardize="none", seed=1
        )
        found = how.fit(table, "y", "on", "unit", "time", pre_period_outcomes="all")
        found.in_space_placebo()
    return found


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start


def race(n_donors: int, repeat: int, *, peers: bool) -> Race:
    """Accuracy of our weights, then the median seconds."""
    y = outcomes(n_donors)
    table = as_table(y)
    found, first = timed(lambda: our_analysis(table))
    ours = statistics.median(timed(lambda: our_analysis(table))[1] for _ in range(repeat))
    excess, slow = [], []
    pre = found.placebo.set_index("unit")["pre_rmspe"]
    for j in range(1, 1 + SAMPLE):
        donors = np.delete(y, [0, j], axis=0)[:, :N_PRE]
        w, seconds = timed(lambda j=j, donors=donors: by_slsqp(y[j, :N_PRE], donors))
        least = float(((y[j, :N_PRE] - w @ donors) ** 2).sum())
        excess.append(N_PRE * float(pre.loc[j]) ** 2 / least - 1)
        slow.append(seconds)
    other = timed(lambda: their_analysis(table)) if peers else None
    return Race(
        n_donors=n_donors,
        estimate=found.estimate,
        std_error=found.std_error,
        duality_gap=found.duality_gap,
        first=first,
        ours=ours,
        excess=max(excess),
        slsqp=statistics.median(slow) * (n_donors + 1),
        their_estimate=None if other is None else float(other[0].att),
        theirs=None if other is None else other[1],
    )


def markdown(races: list[Race]) -> str:
    """The table; the ratio to SLSQP to reach is 100."""
    lines = [
        "| donors | estimate (error) | diff-diff's | duality gap | objective over SLSQP's - 1 | "
        "ours, s (first) | SLSQP, s | ratio | diff-diff, s | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in races:
        theirs = " | " if r.theirs is None else f"{r.theirs:.2f} | {r.theirs / r.ours:.0f}"
        other = "" if r.their_estimate is None else f"{r.their_estimate:.4f}"
        lines.append(
            f"| {r.n_donors} | {r.estimate:.4f} ({r.std_error:.4f}) | {other} | "
            f"{r.duality_gap:.0e} | {r.excess:.1e} | {r.ours:.3f} ({r.first:.2f}) | "
            f"{r.slsqp:.1f} | {r.slsqp / r.ours:.0f} | {theirs} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--donors", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-did", action="store_true", help="leave synthetic DID out")
    args = parser.parse_args()
    print(f"synthetic control, {N_PRE} periods before and {N_POST} after, every donor a placebo; ")
    print(f"SLSQP on {SAMPLE} placebos, scaled to all; true effect {EFFECT:g}\n")
    peers = importlib.util.find_spec("diff_diff") is not None
    if not peers:
        print("diff-diff is not installed (extra `bench`): its columns are left empty\n")
    races = [race(n, args.repeat, peers=peers) for n in args.donors]
    print(markdown(races))
    for small, large in pairwise(races):
        growth = large.ours / small.ours
        print(f"\ntime({large.n_donors}) / time({small.n_donors}) = {growth:.1f}, to be <= 12")
    if not args.no_did:
        print("\nsynthetic difference-in-differences, 100 placebo draws\n")
        did = [bench_synthetic_did.race(max(args.donors), 100, args.repeat, peers=peers)]
        print(bench_synthetic_did.markdown(did))


if __name__ == "__main__":
    main()
