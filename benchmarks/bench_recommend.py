"""Mean squared error of the recommended rotation beside a fixed one of 24 hours without burn-in.

Truths: decay of carry-over x memory of the noise x effect (in standard deviations of the hourly
noise), all by the hour. A pilot is 14 days of hours under a stratified rotation by the hour; the
choice is made by the functions that `recommend` makes it by. The error of a choice is its exact one
under the truth. The oracle knows the truth: it shows what there is to gain.

Run: python benchmarks/bench_recommend.py --pilots 4
"""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np
import pandas as pd
from scipy import signal
from threadpoolctl import threadpool_limits

from experiments import Switchback
from experiments.planning.candidates import FEWEST_SLICES
from experiments.planning.pilot_model import (
    CARRY_DECAY,
    CARRY_SHARE,
    MEMORIES,
    WHITE,
    Posterior,
    posterior_of,
    read_pilot,
)
from experiments.planning.rotation_options import judged, rotation_options

HOURS, START = 336, pd.Timestamp("2026-03-02")
TRUTHS = list(itertools.product((0.0, 0.5, 0.8, 0.9, 0.95), (0.0, 0.6, 0.9), (0.1, 0.25, 0.5, 1.0)))


def known(decay: float, memory: float) -> Posterior:
    """All weight on one truth, with noise of variance 1."""
    weight = np.zeros((len(CARRY_DECAY), len(MEMORIES), len(WHITE)))
    alone = np.abs(CARRY_DECAY - decay) + (1 - CARRY_SHARE)  # all of the effect builds up
    weight[np.argmin(alone), np.argmin(np.abs(MEMORIES - memory)), 0] = 1
    return Posterior(weight=weight, variance=np.ones_like(weight), effect=None, minutes=60)


def one_pilot(decay: float, memory: float, effect: float, rng: np.random.Generator) -> pd.DataFrame:
    """Hours with arm and outcome: a daily profile, the effect as it builds up, AR(1) noise."""
    plan = Switchback(60).schedule(start=START, days=HOURS / 24, seed=int(rng.integers(2**31)))
    times = pd.date_range(START, periods=HOURS, freq="h")
    arm = plan.treatment_at(times)
    exposure = signal.lfilter([1 - decay], [1, -decay], arm.astype(float))
    shocks = rng.standard_normal(HOURS) * math.sqrt(1 - memory**2)
    shocks[0] = rng.standard_normal()
    noise = signal.lfilter([1], [1, -memory], shocks)
    profile = 3 * np.sin(2 * np.pi * np.arange(HOURS) / 24)
    return pd.DataFrame({"ts": times, "arm": arm, "y": 20 + profile + effect * exposure + noise})


def main() -> None:
    """Read the arguments, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pilots", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    options = rotation_options(
        start=START, days=HOURS / 24, minutes=60, least=60, most=2880, regions=None
    )
    options = [o for o in options if o.n_slices >= FEWEST_SLICES and o.least_p <= 0.05]
    fixed = next(
        k
        for k, o in enumerate(options)
        if (o.design.slice_minutes, o.design.burn_in_minutes) == (1440, 0)
    )
    rng = np.random.default_rng(args.seed)
    allowed = np.ones(len(options), dtype=bool)
    total = dict.fromkeys(("fixed", "oracle", "minimax_regret", "bayes"), 0.0)
    with threadpool_limits(limits=1):
        for decay, memory, effect in TRUTHS:
            wish = {"effect": effect, "squared_effect": effect**2, "allowed": allowed}
            truth = judged(options, [], known(decay, memory), criterion="bayes", **wish)
            mse = truth.rmse**2
            for _ in range(args.pilots):
                pilot = read_pilot(
                    one_pilot(decay, memory, effect, rng),
                    outcome="y",
                    time="ts",
                    treatment="arm",
                    unit=None,
                    least_minutes=60,
                )
                posterior = posterior_of(pilot)
                total["fixed"] += mse[fixed]
                total["oracle"] += mse.min()
                for criterion in ("minimax_regret", "bayes"):
                    found = judged(options, [], posterior, criterion=criterion, **wish)
                    total[criterion] += mse[int(np.argmin(found.loss))]
    print(f"{len(TRUTHS)} truths, {args.pilots} pilots each, {len(options)} rotations\n")
    print("| choice | mean squared error over that of the fixed one | lower by |")
    print("|---|---|---|")
    for name, value in total.items():
        ratio = value / total["fixed"]
        print(f"| {name} | {ratio:.3f} | {100 * (1 - ratio):.0f} % |")


if __name__ == "__main__":
    main()
