"""Bias, coverage and size of the panel estimators in worlds whose truth is known: one table.

Run: python benchmarks/panel_coverage.py --runs 1000
     python benchmarks/panel_coverage.py --runs 200 --only D1,D4

D1 one start, AR(1) errors; D2 ten cohorts, effects that grow, a covariate that moves trends and
cohorts; D3 six clusters of which two are treated, no effect; D4 states with opposite effects and
different treated shares; D6 trends at the edge of what honest_did allows; D7 predicted against
simulated power of pre-trend tests. D5 (factors) is `benchmarks/factor_model_study.py`. Coverage is
that of 95 % intervals; D3 and D7 show how often p < 0.05.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats

import causal
from causal import EffectCurve, EstimationWarning

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = {"outcome": "y", "unit": "unit", "time": "day"}
BY_COHORT = {**ROLES, "cohort": "cohort"}
D7_COV = 0.01 * (0.4 + 0.6 * np.eye(6))
BLOCK = 25


@dataclass(frozen=True)
class Reading:
    """What one run said of one number: estimate, error, interval and p-value beside the truth."""

    name: str
    truth: float
    estimate: float
    std_error: float
    low: float
    high: float
    p_value: float


def read(name: str, found: Any, truth: float) -> Reading:  # noqa: ANN401 — any result
    """A result's headline."""
    low, high = found.conf_int()
    return Reading(name, truth, found.estimate, found.std_error, low, high, found.p_value)


def frame(y: np.ndarray, cohort: np.ndarray, **of_units: np.ndarray) -> pd.DataFrame:
    """Rows of units by days."""
    n, t = y.shape
    columns = {name: np.repeat(values, t) for name, values in of_units.items()}
    log = {"unit": np.repeat(np.arange(n), t), "day": np.tile(np.arange(t), n)}
    return pd.DataFrame({**log, "cohort": np.repeat(cohort, t), "y": y.ravel(), **columns})


def autoregressive(rng: np.random.Generator, n: int, t: int, rho: float) -> np.ndarray:
    """Stationary AR(1) errors of variance 1."""
    e = rng.normal(size=(n, t))
    for j in range(1, t):
        e[:, j] = rho * e[:, j - 1] + math.sqrt(1 - rho * rho) * e[:, j]
    return e


def d1(seed: int) -> list[Reading]:
    """200 units, 12 periods, half treated from the seventh on, AR(1) errors of memory .6."""
    rng = np.random.default_rng(seed)
    cohort = np.where(np.arange(200) % 2 == 0, 6.0, np.inf)
    on = np.arange(12)[None, :] >= cohort[:, None]
    y = rng.normal(size=(200, 1)) + np.sin(np.arange(12)) + autoregressive(rng, 200, 12, 0.6)
    log = frame(y + 0.3 * on, cohort)
    study = causal.event_study(log, **BY_COHORT)
    low, high = study.curve.conf_int(simultaneous=True).T
    truth = 0.3 * (np.array(study.curve.index) >= 0)
    inside = bool(((low <= truth) & (truth <= high)).all())
    return [
        read("D1 diff_in_diff", causal.diff_in_diff(log, **BY_COHORT), 0.3),
        read("D1 diff_in_diff, HC1 (rows as independent)",
             causal.diff_in_diff(log, **BY_COHORT, covariance="HC1"), 0.3),
        read("D1 event_study, mean", study, 0.3),
        Reading("D1 event_study, band over 11 points", 0.0, 0.0, 0.0, *((-1.0, 1.0) if inside else
                (1.0, 2.0)), 1.0),
        Reading("D1 event_study, pre-trend test", 0.0, 0.0, 0.0, -1.0, 1.0, study.pretrend.p_value),
    ]  # fmt: skip


def band(seed: int) -> list[Reading]:
    """A band over 20 points: 400 units, 21 periods."""
    rng = np.random.default_rng(seed)
    cohort = np.where(np.arange(400) % 2 == 0, 11.0, np.inf)
    y = rng.normal(size=(400, 1)) + rng.normal(size=(400, 21)).cumsum(axis=1)
    curve = causal.event_study(frame(y, cohort), **BY_COHORT).curve
    low, high = curve.conf_int(simultaneous=True).T
    inside = bool(((low <= 0) & (high >= 0)).all())
    ends = (-1.0, 1.0) if inside else (1.0, 2.0)
    return [Reading("band over 20 points, random walks", 0.0, 0.0, 0.0, *ends, 1.0)]


STARTS = np.arange(6, 16)


def odds(x: np.ndarray) -> np.ndarray:
    """Probabilities of D2's ten cohorts and of never: a larger x is treated earlier."""
    score = 0.5 * x[:, None] * (1 - (STARTS - 6) / 9) - 0.5
    weight = np.exp(np.hstack([score, np.ones((len(x), 1))]))
    return weight / weight.sum(axis=1, keepdims=True)


def d2_truth() -> float:
    """Mean of the true effects over treated cells."""
    x = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    share = odds(x).mean(axis=0)[:-1]
    cells = [(p, 1 + 0.1 * e) for p, g in zip(share, STARTS, strict=True) for e in range(20 - g)]
    return float(np.average([c[1] for c in cells], weights=[c[0] for c in cells]))


def d2(seed: int, truth: float) -> list[Reading]:
    """1,000 units, 20 periods, ten cohorts; effects 1 + .1 (t - g); x moves trends and cohorts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=1_000)
    pick = (rng.random((1_000, 1)) > odds(x).cumsum(axis=1)).sum(axis=1)
    cohort, day = np.append(STARTS, np.inf)[pick], np.arange(20)
    since = day[None, :] - cohort[:, None]
    y = rng.normal(size=(1_000, 1)) + 0.3 * np.sin(day) + rng.normal(size=(1_000, 20))
    y += np.where(since >= 0, 1 + 0.1 * np.where(np.isfinite(since), since, 0), 0)
    alike, apart = frame(y, cohort, x=x), frame(y + 0.05 * x[:, None] * day, cohort, x=x)
    names = ("diff_in_diff", "group_time_effects", "sun_abraham", "imputation_effects")
    plainly = {name: getattr(causal, name)(alike, **BY_COHORT) for name in names}
    found = [read(f"D2 without trends in x: {k}", v, truth) for k, v in plainly.items()]
    for method in ("dr", "ipw", "reg"):
        effects = causal.group_time_effects(apart, **BY_COHORT, covariates=["x"], method=method)
        found += [read(f"D2 trends in x: group_time_effects, {method}", effects, truth)]
    plain = causal.group_time_effects(apart, **BY_COHORT)
    return [*found, read("D2 trends in x: group_time_effects, no covariate", plain, truth)]


def d3(seed: int) -> list[Reading]:
    """Six clusters of 20 units, two of them treated, shocks by cluster and period; no effect."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(120) // 20
    cohort = np.where(cluster < 2, 4.0, np.inf)
    shock = autoregressive(rng, 6, 8, 0.5)[cluster]
    log = frame(rng.normal(size=(120, 1)) + shock + rng.normal(size=(120, 8)), cohort,
                cluster=cluster)  # fmt: skip
    roles = {**BY_COHORT, "cluster": "cluster"}
    wild = causal.few_cluster_test(log, **roles)
    return [
        read("D3 diff_in_diff, CR1", causal.diff_in_diff(log, **roles), 0.0),
        read("D3 diff_in_diff, CR2", causal.diff_in_diff(log, **roles, covariance="CR2"), 0.0),
        read("D3 few_cluster_test, wild", wild, 0.0),
    ]


def d4(seed: int) -> list[Reading]:
    """Two states: effects +1 and -1, trends -1 and +1, treated shares .8 and .2 (Simpson)."""
    rng = np.random.default_rng(seed)
    state = rng.integers(0, 2, 400)
    ever = rng.random(400) < np.where(state == 1, 0.8, 0.2)
    effect, trend = np.where(state == 1, 1.0, -1.0), np.where(state == 1, -1.0, 1.0)
    cohort = np.where(ever, 2.0, np.inf)
    after = np.arange(4)[None, :] >= 2
    y = rng.normal(size=(400, 1)) + after * (trend + effect * ever)[:, None]
    log = frame(y + rng.normal(size=(400, 4)), cohort, state=state)
    found = causal.stratified_did(log, **BY_COHORT, stratum="state")
    whole = causal.stratified_did(log, **BY_COHORT, stratum="state", weights="population")
    return [
        read("D4 diff_in_diff, pooled", found.pooled, 0.6),
        read("D4 stratified_did, treated", found, 0.6),
        read("D4 stratified_did, population", whole, 0.0),
    ]


def d6(seed: int) -> list[Reading]:
    """Trends at the edge of the relative-magnitude set: two leads, two lags."""
    rng = np.random.default_rng(seed)
    cov = 0.01 * (0.5 + 0.5 * np.eye(4))
    found = []
    for bound in (0.5, 1.0):
        largest = 0.15  # change of trend before; after it moves by bound times as much
        delta = np.array([-0.15, -0.15, largest * bound, 2 * largest * bound])
        estimate = rng.multivariate_normal(delta + np.array([0, 0, 0.5, 0.5]), cov)
        curve = EffectCurve(index=(-3, -2, 0, 1), index_name="event_time", estimate=estimate,
                            cov=cov, estimand="att", method="drawn", n_obs=100)  # fmt: skip
        row = causal.honest_did(curve, bound=[bound], at=1).frame.iloc[0]
        middle = (row["lower"] + row["upper"]) / 2
        found.append(Reading(f"D6 honest_did at the edge, Mbar {bound:g}", 0.5, middle, 0.0,
                             row["lower"], row["upper"], 1.0))  # fmt: skip
    return found


@cache
def d7_slope() -> float:
    """What pretrend_power says is found in 80 of 100 tests."""
    empty = EffectCurve(index=(-5, -4, -3, -2, 0, 1), index_name="event_time",
                        estimate=np.zeros(6), cov=D7_COV, estimand="att", method="drawn",
                        n_obs=100)  # fmt: skip
    return causal.pretrend_power(empty, power=0.8).slope


def d7(seed: int) -> list[Reading]:
    """A linear trend that should be found in 80 of 100 tests."""
    rng = np.random.default_rng(seed)
    trend = d7_slope() * (np.array([-5, -4, -3, -2]) + 1)
    b = rng.multivariate_normal(trend, D7_COV[:4, :4])
    z = np.abs(b / np.sqrt(np.diag(D7_COV)[:4])).max()
    return [Reading("D7 pre-trend found (predicted .800)", 0.0, 0.0, 0.0, -1.0, 1.0,
                    2 * stats.norm.sf(z))]  # fmt: skip


def studies() -> dict[str, Callable[[int], list[Reading]]]:
    """The worlds by name."""
    truth = d2_truth()
    return {"D1": d1, "band": band, "D2": lambda seed: d2(seed, truth), "D3": d3, "D4": d4,
            "D6": d6, "D7": d7}  # fmt: skip


def block(name: str, seeds: range) -> list[Reading]:
    """Some runs of a world."""
    draw = studies()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        return [reading for seed in seeds for reading in draw(seed)]


def measure(name: str, runs: int, n_jobs: int) -> pd.DataFrame:
    """One row a reading of a world."""
    parts = [range(at, min(at + BLOCK, runs)) for at in range(0, runs, BLOCK)]
    found = Parallel(n_jobs=n_jobs)(delayed(block)(name, part) for part in parts)
    log = pd.DataFrame([r.__dict__ for part in found for r in part])
    rows = []
    for reading, mine in log.groupby("name", sort=False):
        error = mine["estimate"] - mine["truth"]
        sd = float(error.std(ddof=1))
        inside = (mine["low"] <= mine["truth"]) & (mine["truth"] <= mine["high"])
        rows.append(
            {
                "study": reading,
                "runs": len(mine),
                "bias": error.mean(),
                "mc_error": sd / math.sqrt(len(mine)),
                "se_over_sd": mine["std_error"].mean() / sd if sd > 0 else math.nan,
                "coverage": inside.mean(),
                "rejected": (mine["p_value"] < 0.05).mean(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(studies())
    print("| study | runs | bias | MC error | mean SE / SD | coverage | p < .05 |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        for row in measure(name, given.runs, given.n_jobs).to_dict("records"):
            ratio = "" if math.isnan(row["se_over_sd"]) else f"{row['se_over_sd']:.3f}"
            print(
                f"| {row['study']} | {row['runs']} | {row['bias']:+.4f} | {row['mc_error']:.4f} | "
                f"{ratio} | {row['coverage']:.3f} | {row['rejected']:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
