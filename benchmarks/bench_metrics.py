"""`gauc` beside a pandas groupby with scikit-learn's `roc_auc_score` in a loop.

    python benchmarks/bench_metrics.py --rows 1000000 --groups 100000 --repeat 3

Prints median seconds, their ratio and the difference of the two answers. The loop takes more than a
millisecond a group, so the default run takes several minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from recsys.metrics import gauc

if TYPE_CHECKING:
    from collections.abc import Callable


def peer(frame: pd.DataFrame) -> float:
    """Impression-weighted mean of scikit-learn's AUC over the viewers with both classes."""
    total = rows = 0.0
    for _, part in frame.groupby("viewer_id"):
        label = part["label"].to_numpy()
        if 0 < label.sum() < len(label):
            total += len(label) * roc_auc_score(label, part["score"].to_numpy())
            rows += len(label)
    return total / rows


def timed(run: Callable[[], float], repeat: int) -> tuple[float, float]:
    """Median seconds and the answer."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    viewer = rng.integers(0, args.groups, args.rows)
    score = np.round(rng.standard_normal(args.rows), 2)  # two decimals: ties occur
    label = (rng.random(args.rows) < 1 / (1 + np.exp(1 - score))).astype(np.int64)
    frame = pd.DataFrame({"viewer_id": viewer, "score": score, "label": label})

    ours, answer = timed(
        lambda: gauc(frame["label"], frame["score"], frame["viewer_id"]), args.repeat
    )
    text_ids = frame["viewer_id"].map("viewer-{}".format)
    ours_text, _ = timed(lambda: gauc(frame["label"], frame["score"], text_ids), args.repeat)
    theirs, reference = timed(lambda: peer(frame), args.repeat)
    print(
        f"gauc: {args.rows:,} rows, {args.groups:,} groups, median of {args.repeat}: "
        f"livelift {ours:.3f} s (string ids {ours_text:.3f} s), pandas + scikit-learn "
        f"{theirs:.1f} s, ratio {theirs / ours:.0f}; GAUC {answer:.6f}, "
        f"difference {answer - reference:+.1e}"
    )


if __name__ == "__main__":
    main()
