"""A quantile's effect beside tea-tasting's bootstrap: time, and how far the answers differ.

Run: python benchmarks/bench_quantile.py --rows 1000000 --repeat 3 --resamples 200
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import tea_tasting

from experiments import Quantile, ab_test

if TYPE_CHECKING:
    from collections.abc import Callable

Q = 0.9


def make_log(rows: int) -> pd.DataFrame:
    """Lognormal watch times in two arms; the treatment stretches them by 2 %."""
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 2, rows)
    return pd.DataFrame({"arm": arm, "watch_s": rng.lognormal(3, 1.5, rows) * (1 + 0.02 * arm)})


def ours(log: pd.DataFrame) -> tuple[float, float]:
    """Effect and the half width of its 95 % interval."""
    effect = ab_test(log, metric=Quantile("watch_s", Q), arm="arm")
    low, high = effect.conf_int()
    return effect.estimate, (high - low) / 2


def theirs(log: pd.DataFrame, resamples: int) -> tuple[float, float]:
    """The same by tea-tasting: percentiles of resampled differences."""
    metric = tea_tasting.Quantile("watch_s", q=Q, n_resamples=resamples, rng=0)
    row = tea_tasting.Experiment({"p90": metric}, variant="arm").analyze(log)["p90"]
    return row.effect_size, (row.effect_size_ci_upper - row.effect_size_ci_lower) / 2


def median_time(
    call: Callable[[], tuple[float, float]], repeat: int
) -> tuple[float, tuple[float, float]]:
    """Median seconds after one unmeasured call, and the last answer."""
    answer, seconds = call(), []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answer


def main() -> None:
    """Read the arguments, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=200)
    args = parser.parse_args()
    log = make_log(args.rows)
    mine, answer = median_time(lambda: ours(log), 3 * args.repeat)
    peer, other = median_time(lambda: theirs(log, args.resamples), args.repeat)
    print(f"{args.rows:,} rows, quantile {Q}, tea-tasting {tea_tasting.__version__} with "
          f"{args.resamples} resamples\n")  # fmt: skip
    print("| what | median s | livelift is faster by | effect | half width of its interval |")
    print("|---|---|---|---|---|")
    print(f"| livelift | {mine:.4f} | 1 | {answer[0]:.4f} | {answer[1]:.4f} |")
    print(f"| tea-tasting | {peer:.2f} | {peer / mine:.0f} | {other[0]:.4f} | {other[1]:.4f} |")


if __name__ == "__main__":
    main()
