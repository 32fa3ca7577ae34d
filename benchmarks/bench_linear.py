"""Clustered covariances beside statsmodels: time, and how far the standard errors differ.

Run: python benchmarks/bench_linear.py --rows 1000000 --clusters 50000 --repeat 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import statsmodels
import statsmodels.api as sm
from statsmodels.stats.sandwich_covariance import cov_cluster

from causal.linear import covariance, least_squares

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from causal.linear import LinearFit
    from causal.sandwich import Kind

    Call: TypeAlias = Callable[[], NDArray[np.float64]]

K = 5


def our_covariance(
    fit: LinearFit, X: NDArray[np.float64], kind: Kind, clusters: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    return covariance(fit, X, kind=kind, clusters=clusters).matrix


def side_by_side(ours: Call, theirs: Call, repeat: int) -> tuple[float, float, float]:
    """Median seconds of both, called in turn after one unmeasured call, and how far SE differ."""
    calls = (ours, theirs)
    times: tuple[list[float], list[float]] = ([], [])
    errors = [np.sqrt(np.diag(call())) for call in calls]
    for _ in range(repeat):
        for call, seconds in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    apart = float(np.abs(errors[0] / errors[1] - 1).max())
    return statistics.median(times[0]), statistics.median(times[1]), apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    dense = rng.integers(0, args.clusters, args.rows)
    X = rng.normal(size=(args.rows, K))
    X[:, 0] = 1.0
    y = X.sum(axis=1) + rng.normal(size=args.clusters)[dense] + rng.normal(size=args.rows)
    ids = rng.integers(0, 2**62, args.clusters)[dense]
    texts = np.array([f"viewer-{i}" for i in range(args.clusters)], dtype=object)[dense]

    fit, peer = least_squares(X, y), sm.OLS(y, X).fit()
    cases: list[tuple[str, Call, Call]] = [
        (f"CR1, {name}", partial(our_covariance, fit, X, "CR1", c), partial(cov_cluster, peer, c))
        for name, c in (("codes 0..G-1", dense), ("64-bit ids", ids), ("text", texts))
    ]
    cases += [
        (
            "fit and HC2",
            lambda: our_covariance(least_squares(X, y), X, "HC2"),
            lambda: sm.OLS(y, X).fit(cov_type="HC2").cov_params(),
        ),
        (
            "fit and CR1, codes",
            lambda: our_covariance(least_squares(X, y), X, "CR1", dense),
            lambda: sm.OLS(y, X).fit(cov_type="cluster", cov_kwds={"groups": dense}).cov_params(),
        ),
    ]
    print(
        f"{args.rows:,} rows, {args.clusters:,} clusters, k = {K}, median of {args.repeat}; ",
        end="",
    )
    print(f"statsmodels {statsmodels.__version__}, numpy {np.__version__}\n")
    print("| what | ours, s | statsmodels, s | ratio | largest relative difference of SE |")
    print("|---|---|---|---|---|")
    for name, ours, theirs in cases:
        fast, slow, apart = side_by_side(ours, theirs, args.repeat)
        print(f"| {name} | {fast:.4f} | {slow:.4f} | {slow / fast:.1f} | {apart:.1e} |")

    cr2 = partial(our_covariance, fit, X, "CR2", dense)
    slow, fast, apart = side_by_side(cr2, cases[0][1], args.repeat)
    print("\n| what | CR2, s | our CR1, s | CR2 / CR1 | largest relative difference of SE |")
    print("|---|---|---|---|---|")
    print(
        f"| CR2 with Satterthwaite df | {slow:.4f} | {fast:.4f} | {slow / fast:.1f} | {apart:.1e} |"
    )


if __name__ == "__main__":
    main()
