"""Bias, standard errors, coverage and size by simulation, for every read-out: one Markdown table.

Run: python benchmarks/coverage_table.py --runs 2000
     python benchmarks/coverage_table.py --runs 200 --only a,b,i

Coverage is that of 95 % intervals; size is how often p < 0.05 in a world without an effect. At
2,000 runs a true coverage of 95 % shows between 94.0 % and 95.9 % in 95 of 100 tables.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin

from causal import EstimationWarning, logged_policy_value, off_policy_value
from experiments import (
    Mean,
    Quantile,
    ab_test,
    confidence_sequence,
    group_sequential_bounds,
    mixture_sprt,
    srm_test,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from causal import Effect

    Draw: TypeAlias = Callable[[np.random.Generator, float], Any]

LOOKS = 20


@dataclass(frozen=True)
class Study:
    """A world, its truth, and how it is read; `draw` takes the size of the effect."""

    name: str
    draw: Draw
    read: Callable[[Any], Effect]
    effect: float
    truth: float
    null: float | None = 0.0  # the effect under which size is measured; None where there is none
    note: str = ""


@dataclass(frozen=True)
class Row:
    """What was measured; None where a column does not apply."""

    name: str
    runs: int
    bias: float | None = None
    mc_error: float | None = None
    se_ratio: float | None = None
    coverage: float | None = None
    size: float | None = None
    rmse: float | None = None
    note: str = ""


# ---------------------------------------------------------------- worlds of the A/B read-out


def heteroskedastic(rng: np.random.Generator, effect: float) -> pd.DataFrame:
    """(a) 400 an arm, a covariate whose slope and noise differ; the effect is the ATE."""
    arm = rng.permutation(np.repeat([0, 1], 400))
    x = rng.normal(size=800)
    y = 5 + 0.8 * x + (effect + 0.5 * x) * arm + (1 + np.abs(x)) * rng.normal(size=800)
    return pd.DataFrame({"arm": arm, "x": x, "y": y})


def per_impression(log: pd.DataFrame) -> pd.DataFrame:
    """The outcome of a cluster's row a unit of its denominator."""
    return log.assign(y=log["y"] / log["x"])


def clustered(rng: np.random.Generator, effect: float, n_clusters: int = 60) -> pd.DataFrame:
    """(b), (e) Clusters of 1 to 40 rows, ICC 0.3, half treated; y / x grows by the effect."""
    size = rng.integers(1, 41, n_clusters)
    c = np.repeat(np.arange(n_clusters), size)
    arm = rng.permutation(np.arange(n_clusters) % 2)[c]
    x = 1 + rng.poisson(rng.lognormal(0, 0.5, len(c)))
    noise = math.sqrt(0.3) * rng.normal(size=n_clusters)[c]
    noise += math.sqrt(0.7) * rng.normal(size=len(c))
    return pd.DataFrame({"arm": arm, "c": c, "x": x, "y": x * (4 + effect * arm + noise)})


def lognormal(rng: np.random.Generator, effect: float) -> pd.DataFrame:
    """(c) 2,000 an arm, lognormal(0, 1.5): all quantiles grow by the factor 1 + effect."""
    arm = np.repeat([0, 1], 2000)
    return pd.DataFrame({"arm": arm, "y": rng.lognormal(0, 1.5, 4000) * (1 + effect * arm)})


def tied(rng: np.random.Generator, effect: float) -> pd.DataFrame:
    """(d) 1,000 an arm: gifts, of which nine in ten are 0, and watch time in whole seconds."""
    arm = np.repeat([0, 1], 1000)
    gifts = rng.poisson(3, 2000) * (rng.random(2000) < 0.1 * (1 + effect * arm))
    watch = np.floor(rng.gamma(2, 60, 2000))
    coarse = 5 * np.floor(watch / 5)
    return pd.DataFrame({"arm": arm, "gifts": gifts, "watch": watch, "coarse": coarse})


def triggered(rng: np.random.Generator, effect: float) -> pd.DataFrame:
    """(i) 2,000 an arm of whom one in ten can be affected."""
    arm = rng.permutation(np.repeat([0, 1], 2000))
    t = rng.random(4000) < 0.1
    y = 10 + rng.normal(0, 2, 4000) + 0.5 * t + effect * arm * t
    return pd.DataFrame({"arm": arm, "t": t, "y": y})


def lognormal_gain(q: float, effect: float) -> float:
    """How far the quantile moves in `lognormal`."""
    return effect * math.exp(1.5 * float(stats.norm.ppf(q)))


def reading(**options: Any) -> Callable[[pd.DataFrame], Effect]:  # noqa: ANN401 — of ab_test
    """How to read a world: `ab_test` with options."""
    return lambda frame: ab_test(frame, arm="arm", **options)


LIN = Mean("y", covariates=("x",))
AB_STUDIES = {
    "a": [
        Study("Lin, HC2", heteroskedastic, reading(metric=LIN), 0.3, 0.3),
        Study("CUPED, HC2", heteroskedastic, reading(metric=LIN, adjustment="cuped"), 0.3, 0.3),
    ],
    "b": [
        Study("ratio by cluster", clustered, reading(metric=("y", "x"), cluster="c"), 0.2, 0.2),
    ],
    "c": [
        Study("lognormal mean", lognormal, reading(metric="y"), 0.2, 0.2 * math.exp(1.125)),
        *[
            Study(
                f"lognormal p{100 * q:g}",
                lognormal,
                reading(metric=Quantile("y", q)),
                0.2,
                lognormal_gain(q, 0.2),
            )
            for q in (0.5, 0.9)
        ],
    ],
    "d": [
        Study("ties: mean", tied, reading(metric="gifts"), 0.3, 0.09),
        Study("ties: p50 of seconds", tied, reading(metric=Quantile("watch", 0.5)), 0.0, 0.0),
        Study(
            "ties: p50 of 5-s steps",
            tied,
            reading(metric=Quantile("coarse", 0.5)),
            0.0,
            0.0,
            note="limit: steps wider than the standard error",
        ),
    ],
    "e": [
        Study(
            "12 clusters an arm, CR2",
            lambda rng, effect: per_impression(clustered(rng, effect, 24)),
            reading(metric="y", cluster="c"),
            0.2,
            0.2,
        )
    ],
    "i": [
        Study("triggered 10 %, diluted", triggered, reading(metric="y", trigger="t"), 1.0, 0.1),
        Study("the same, untriggered", triggered, reading(metric="y"), 1.0, 0.1),
    ],
}


# ---------------------------------------------------------------- worlds of off-policy values


class CellMeans(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Mean reward by context and action: what a saturated regression fits, without its time."""

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> CellMeans:
        """Take the means of the 15 cells."""
        cell = self._cell(X)
        n = np.bincount(cell, minlength=15)
        self.mean_ = np.bincount(cell, y, minlength=15) / np.maximum(n, 1)
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look the cells up."""
        return np.asarray(self.mean_[self._cell(X)])

    @staticmethod
    def _cell(X: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.asarray(X[:, :3].argmax(axis=1) * 5 + X[:, 3:].argmax(axis=1))


class Bandit:
    """(f), (g) 5 actions, 3 contexts, softmax at T = 1 (logging) and T = 0.4 (target)."""

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        scores = rng.normal(size=(3, 5))
        self.reward = 0.02 + 0.18 * rng.random((3, 5))
        mu, pi = (np.exp(scores / t) for t in (1.0, 0.4))
        self.mu = mu / mu.sum(axis=1, keepdims=True)
        self.pi = pi / pi.sum(axis=1, keepdims=True)
        self.truth = float((self.pi * self.reward).sum() / 3)

    def log(self, rng: np.random.Generator, policy: NDArray[np.float64], n: int) -> pd.DataFrame:
        """Contexts `x`, choices `a` of a policy, their propensity `p` and reward `r`."""
        x = rng.integers(0, 3, n)
        u = rng.random(n)[:, None]
        a = (u > policy[x].cumsum(axis=1)).sum(axis=1).clip(0, 4)
        r = (rng.random(n) < self.reward[x, a]).astype(float)
        return pd.DataFrame({"x": x.astype(str), "a": a, "p": policy[x, a], "r": r})

    def valued(self, method: str) -> Study:
        """(f) One log of the old policy, target probabilities known."""

        def read(log: pd.DataFrame) -> Effect:
            modelled: dict[str, Any] = {}
            if method not in ("ips", "snips"):
                modelled = {"features": ["x"], "outcome_model": CellMeans(), "n_folds": 2}
            return off_policy_value(
                log,
                reward="r",
                propensity="p",
                action="a",
                target_policy=self.pi[log["x"].astype(int)],
                method=method,  # type: ignore[arg-type]
                **modelled,
            ).effect

        return Study(
            f"off-policy {method}",
            lambda rng, _: self.log(rng, self.mu, 5000),
            read,
            0.0,
            self.truth,
            null=None,
        )

    def two_logs(self, method: str) -> Study:
        """(g) The target policy is known by a log of its choices only."""

        def read(logs: tuple[pd.DataFrame, pd.DataFrame]) -> Effect:
            return logged_policy_value(
                logs[0],
                target_log=logs[1],
                action="a",
                reward="r",
                propensity="p",
                by=["x"],
                method=method,  # type: ignore[arg-type]
            ).effect

        return Study(
            f"two logs, {method}",
            lambda rng, _: (self.log(rng, self.mu, 4000), self.log(rng, self.pi, 4000)),
            read,
            0.0,
            self.truth,
            null=None,
        )


def studies() -> dict[str, list[Study]]:
    """Every study that ends in an estimate, by letter."""
    bandit = Bandit()
    methods = ("ips", "snips", "dr", "switch", "shrinkage")
    return {
        **AB_STUDIES,
        "f": [bandit.valued(m) for m in methods],
        "g": [bandit.two_logs(m) for m in ("ips", "snips")],
    }


# ---------------------------------------------------------------- measuring


def seeded(study: str, runs: int) -> Iterator[np.random.Generator]:
    """A generator for each run; studies of one letter see the same worlds."""
    return (np.random.default_rng([*study.encode(), run]) for run in range(runs))


def measure(letter: str, study: Study, runs: int) -> Row:
    """Run a study and, where it has one, its world without an effect."""
    estimate, error, covered, rejected = np.empty((4, runs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        for k, rng in enumerate(seeded(letter, runs)):
            effect = study.read(study.draw(rng, study.effect))
            low, high = effect.conf_int()
            estimate[k], error[k] = effect.estimate, effect.std_error
            covered[k] = low <= study.truth <= high
        if study.null is not None:
            for k, rng in enumerate(seeded(f"{letter} without effect", runs)):
                rejected[k] = study.read(study.draw(rng, study.null)).p_value < 0.05
    spread = float(estimate.std(ddof=1))
    return Row(
        name=study.name,
        runs=runs,
        bias=float(estimate.mean()) - study.truth,
        mc_error=spread / math.sqrt(runs),
        se_ratio=float(error.mean()) / spread,
        coverage=float(covered.mean()),
        size=None if study.null is None else float(rejected.mean()),
        rmse=float(np.sqrt(np.mean((estimate - study.truth) ** 2))),
        note=study.note,
    )


def peeking(runs: int, per_look: int = 250) -> list[Row]:
    """(h) A/A tests of exponential outcomes, read 20 times: share that is ever significant."""
    information = [k / LOOKS for k in range(1, LOOKS + 1)]
    bounds = np.asarray(group_sequential_bounds(information).z)
    ever = {"confidence sequence": 0, "mixture SPRT": 0, "group sequential": 0, "fixed test": 0}
    for rng in seeded("h", runs):
        y = rng.exponential(size=(2, LOOKS * per_look))
        frame = pd.DataFrame({"arm": np.repeat([0, 1], y.shape[1]), "y": y.ravel()})
        at = np.tile(np.arange(y.shape[1]), 2)
        looks = [
            ab_test(frame[at < k * per_look], metric="y", arm="arm") for k in range(1, LOOKS + 1)
        ]
        z = np.array([abs(e.estimate) / e.std_error for e in looks])
        ever["confidence sequence"] += any(confidence_sequence(e).p_value < 0.05 for e in looks)
        ever["mixture SPRT"] += any(mixture_sprt(e, tau2=1e-3).p_value < 0.05 for e in looks)
        ever["group sequential"] += bool((z >= bounds).any())
        ever["fixed test"] += any(e.p_value < 0.05 for e in looks)
    return [
        Row(f"20 looks: {name}", runs, size=count / runs, note="ever significant")
        for name, count in ever.items()
    ]


def sample_ratios(runs: int) -> Row:
    """(j) P-values of SRM under the design: uniform."""
    share = {"A": 0.5, "B": 0.3, "C": 0.2}
    p = np.array(
        [
            srm_test(
                dict(
                    zip(share, rng.multinomial(20_000, list(share.values())).tolist(), strict=True)
                ),
                expected_share=share,
            ).p_value
            for rng in seeded("j", runs)
        ]
    )
    uniform = stats.kstest(p, "uniform").pvalue
    return Row(
        "SRM p-values", runs, size=float((p < 0.05).mean()), note=f"uniform: KS p = {uniform:.2g}"
    )


def table(runs: int, letters: str) -> Iterator[tuple[str, Row]]:
    """Rows of the table with their letters, as they get ready."""
    known = studies()
    for letter in letters:
        if letter == "h":
            yield from ((letter, row) for row in peeking(runs))
        elif letter == "j":
            yield letter, sample_ratios(runs)
        else:
            yield from ((letter, measure(letter, study, runs)) for study in known[letter])


def in_markdown(letter: str, row: Row) -> str:
    """One line of the table."""

    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    cells = [
        f"({letter}) {row.name}",
        str(row.runs),
        shown(row.bias, "+.2g"),
        shown(row.mc_error, ".2g"),
        shown(row.se_ratio, ".3f"),
        shown(row.coverage, ".3f"),
        shown(row.size, ".3f"),
        shown(row.rmse, ".3g"),
        row.note,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--only", default="a,b,c,d,e,f,g,h,i,j", help="letters, comma-separated")
    given = parser.parse_args()
    print("| study | runs | bias | MC error | mean SE / SD | coverage | size | rmse | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for letter, row in table(given.runs, given.only.replace(",", "")):
        print(in_markdown(letter, row), flush=True)


if __name__ == "__main__":
    main()
