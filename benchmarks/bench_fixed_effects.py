"""Crossed viewer and author effects beside pyfixest and scipy's LSMR on sparse dummies.

    python benchmarks/bench_fixed_effects.py --rows 1000000

Authors are met as often as Zipf's law says. pyfixest runs with its defaults (tolerance 1e-6) and
with the tolerance used here (1e-10); calls take turns, so that a busy machine slows all of them.
LSMR solves for outcome and treatment at 1e-12, once: it takes minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import lsmr

from causal import fixed_effects

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], tuple[float, float]]

COLUMNS = {"outcome": "y", "treatment": "x", "absorb": ["viewer", "author"], "cluster": "viewer"}


def make_views(rows: int, seed: int = 0) -> pd.DataFrame:
    """Viewers at random, authors by Zipf's law; both confound the treatment."""
    rng = np.random.default_rng(seed)
    viewers, authors = rows // 10, rows // 50
    share = 1 / np.arange(1, authors + 1)
    viewer = rng.integers(0, viewers, rows)
    author = rng.choice(authors, rows, p=share / share.sum())
    of_viewer, of_author = rng.normal(size=viewers)[viewer], rng.normal(size=authors)[author]
    x = rng.normal(size=rows) + of_viewer + of_author
    y = x + 2 * of_viewer + of_author + rng.normal(size=rows)
    return pd.DataFrame({"viewer": viewer, "author": author, "x": x, "y": y})


def ours(log: pd.DataFrame) -> tuple[float, float]:
    found = fixed_effects(log, **COLUMNS)
    return found.estimate, found.std_error


def by_lsmr(log: pd.DataFrame) -> tuple[float, float]:
    """Coefficient of residuals on sparse dummies; no standard error."""
    n = len(log)
    author = log["author"].to_numpy() + log["viewer"].max() + 1
    at = np.column_stack([log["viewer"].to_numpy(), author]).ravel()
    pointer = np.arange(0, 2 * n + 1, 2)
    dummies = sparse.csr_array((np.ones(2 * n), at, pointer), shape=(n, int(at.max()) + 1))
    rest = []
    for name in ("y", "x"):
        column = log[name].to_numpy()
        solved = lsmr(dummies, column, atol=1e-12, btol=1e-12, conlim=0, maxiter=10_000)
        rest.append(column - dummies @ solved[0])
    return float(rest[1] @ rest[0] / (rest[1] @ rest[1])), np.nan


def by_pyfixest(log: pd.DataFrame, tolerance: float | None) -> tuple[float, float]:
    import pyfixest as pf
    from pyfixest.demeaners import MapDemeaner

    demeaner = None if tolerance is None else MapDemeaner(fixef_tol=tolerance)
    fit = pf.feols("y ~ x | viewer + author", log, vcov={"CRV1": "viewer"}, demeaner=demeaner)
    return float(fit.coef()["x"]), float(fit.se()["x"])


def in_turns(calls: dict[str, Call], repeat: int) -> dict[str, tuple[float, float, float]]:
    """Median seconds, estimate and standard error of each call, after one unmeasured call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    answers = {name: call() for name, call in calls.items()}
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            answers[name] = call()
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(seconds[name]), *answers[name]) for name in calls}


def crossed_effects_row(rows: int = 1_000_000, repeat: int = 3) -> str:
    """Time, ratios and accuracy: cells of a row of a table in Markdown."""
    log = make_views(rows)
    calls: dict[str, Call] = {"livelift": lambda: ours(log)}
    if importlib.util.find_spec("pyfixest") is not None:
        calls["pyfixest"] = lambda: by_pyfixest(log, None)
        calls["pyfixest at 1e-10"] = lambda: by_pyfixest(log, 1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = in_turns(calls, repeat)
    start = time.perf_counter()
    exact = by_lsmr(log)
    found["LSMR"] = (time.perf_counter() - start, *exact)
    seconds, estimate, error = found.pop("livelift")
    goals = {"pyfixest": 3, "LSMR": 5}
    ratios = ", ".join(
        f"{s / seconds:.1f}x {name} ({s:.2f} s"
        + (
            f", at least {goals[name]} {'✓' if s >= goals[name] * seconds else '✗'})"
            if name in goals
            else ")"
        )
        for name, (s, _, _) in found.items()
    )
    same = f"estimate from LSMR's {abs(exact[0] - estimate):.1e}"
    if "pyfixest at 1e-10" in found:
        _, peer, peer_error = found["pyfixest at 1e-10"]
        same += f"; pyfixest at 1e-10: {abs(peer - estimate):.1e}, std_error "
        same += f"{abs(peer_error / error - 1):.1e} of it"
    else:
        ratios += "; pyfixest is not installed"
    return f"crossed effects, {rows:.0e} rows, Zipf authors | {seconds:.3f} s | {ratios} | {same}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    print("| case | time | ratio | accuracy |\n|---|---|---|---|")
    print(f"| {crossed_effects_row(given.rows, given.repeat)} |")


if __name__ == "__main__":
    main()
