"""Group-time effects beside diff-diff and csdid, 50,000 units by 20 periods in 10 cohorts.

    python benchmarks/bench_group_time.py --units 50000 --repeat 5

Peers that are not installed are left out, and said so. Each row holds what the answers differ by.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal import EstimationWarning, group_time_effects

if TYPE_CHECKING:
    from collections.abc import Callable

PERIODS, STARTS = 20, np.arange(5, 15)
ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort", "never": 0}
CELLS = ["cohort", "time", "estimate", "std_error"]


def make_log(units: int, seed: int = 0) -> pd.DataFrame:
    """Units of ten cohorts or never (0); x shifts trends and cohorts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=units)
    rank = np.argsort(np.argsort(x + 3 * rng.normal(size=units)))
    first = np.append(STARTS, 0)[rank * (len(STARTS) + 1) // units]
    day = np.arange(1, PERIODS + 1)
    y = rng.normal(size=(units, 1)) + 0.05 * x[:, None] * day + rng.normal(size=(units, PERIODS))
    y += (first[:, None] > 0) & (day >= first[:, None])
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(units), PERIODS),
            "day": np.tile(day, units),
            "cohort": np.repeat(first, PERIODS),
            "x": np.repeat(x, PERIODS),
            "y": y.ravel(),
        }
    )


def ours(log: pd.DataFrame, covariates: list[str], **options: Any) -> pd.DataFrame:  # noqa: ANN401
    """Cells, and the event curve with its simultaneous band."""
    found = group_time_effects(log, covariates=covariates, **ROLES, **options)
    found.aggregate("event").conf_int()
    found.aggregate("event").curve.conf_int(simultaneous=True)
    return found.cells[CELLS]


def by_diff_diff(
    log: pd.DataFrame, covariates: list[str], method: str = "dr", control: str = "never_treated"
) -> pd.DataFrame:
    """Cells with analytic errors; no bootstrap, and so no band."""
    from diff_diff import CallawaySantAnna

    found = CallawaySantAnna(control_group=control, estimation_method=method).fit(
        log,
        outcome="y",
        unit="unit",
        time="day",
        first_treat="cohort",
        covariates=covariates or None,
    )
    rows = [(g, t, v["effect"], v["se"]) for (g, t), v in found.group_time_effects.items()]
    return pd.DataFrame(rows, columns=CELLS)


def by_csdid(log: pd.DataFrame, covariates: list[str]) -> pd.DataFrame:
    """Cells with analytic errors."""
    from csdid.att_gt import ATTgt

    formula = "y~" + "+".join(covariates) if covariates else None
    fit = ATTgt(
        yname="y", tname="day", idname="unit", gname="cohort", data=log,
        control_group="nevertreated", xformla=formula,
    ).fit(est_method="dr", base_period="varying", bstrap=False)  # fmt: skip
    names = ["group", "year", "att", "se"]
    return pd.DataFrame({ours: fit.results[n] for ours, n in zip(CELLS, names, strict=True)})


def timed(call: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Median seconds, and the answer."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answer


def difference(mine: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Largest differences of cells that both have."""
    both = mine.merge(theirs.astype(float), on=["cohort", "time"])
    gaps = [float(np.abs(both[f"{c}_x"] - both[f"{c}_y"]).max()) for c in CELLS[2:]]
    return f"{len(both)} cells: estimate {gaps[0]:.1e}, std_error {gaps[1]:.1e}"


def group_time_rows(units: int = 50_000, repeat: int = 5) -> list[str]:
    """Rows of the table: case | our time | ratio | what the answers differ by."""
    log, found = make_log(units), []
    peers = {
        "diff_diff": ("diff-diff, no bootstrap", by_diff_diff, 3),
        "csdid": ("csdid", by_csdid, 3),
    }
    peers = {name: p for name, p in peers.items() if importlib.util.find_spec(name)}
    for words, covariates, goal in (
        ("no covariates", [], 15),
        ("dr, 1 covariate", ["x"], 5),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            ours(log, covariates)  # compiles, fills caches
            seconds, mine = timed(lambda c=covariates: ours(log, c), repeat)
        found.append(
            f"group-time effects, {words}, {units:,} x {PERIODS}, 10 cohorts, with band | "
            f"{seconds:.3f} s | | {len(mine)} cells"
        )
        for name, call, times in peers.values():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                peer, theirs = timed(lambda c=covariates, f=call: f(log, c), times)
            gap = difference(mine, theirs)
            if covariates and name.startswith("diff-diff"):  # another doubly robust one
                same = difference(ours(log, ["x"], method="reg"), call(log, ["x"], "reg"))
                gap += f" (its dr is another estimator); with method='reg' {same}"
            met = "✓" if peer >= goal * seconds else "✗"
            aim = f", at least {goal} {met}" if name.startswith("diff-diff") else ""
            found.append(f"the same | | {peer / seconds:.1f}x {name} ({peer:.2f} s{aim}) | {gap}")
        found.append(not_yet_row(log, covariates))
    return found


def not_yet_row(log: pd.DataFrame, covariates: list[str]) -> str:
    """All who are not yet treated as controls: one model a cell instead of one a cohort."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, mine = timed(lambda: ours(log, covariates, control="not_yet"), 3)
        if importlib.util.find_spec("diff_diff") is None:
            return f"the same, controls not yet treated | {seconds:.3f} s | | "
        method = "reg" if covariates else "dr"
        peer, _ = timed(lambda: by_diff_diff(log, covariates, control="not_yet_treated"), 3)
        theirs = by_diff_diff(log, covariates, method, "not_yet_treated")
        mine = ours(log, covariates, method=method, control="not_yet")
    return (
        f"the same, controls not yet treated | {seconds:.3f} s | "
        f"{peer / seconds:.1f}x diff_diff ({peer:.2f} s) | method={method!r}: "
        f"{difference(mine, theirs)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    for name in ("diff_diff", "csdid"):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed (extra `bench`): its rows are left out")
    print("\n".join(group_time_rows(args.units, args.repeat)))


if __name__ == "__main__":
    main()
