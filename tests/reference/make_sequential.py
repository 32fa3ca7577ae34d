"""Make sequential.json: numbers of other implementations for `experiments.splits.sequential`.

Run in an environment of its own that has gbstats 0.8.0 (it needs numpy < 2) and scipy:

    python tests/reference/make_sequential.py

What is computed here, and what was copied:

- `gbstats`: computed by gbstats.SequentialTwoSidedTTest (GrowthBook's stats engine).
- `unequal_looks`: Lan-DeMets bounds at information 0.3, 0.55, 1, computed here by adaptive
  quadrature of the trivariate normal: no grid recursion, so independent of livelift's method.
  No R was at hand to run gsDesign or rpact on them.
- `pocock`, `obrien_fleming`: constants C_P(K, alpha), C_B(K, alpha) of Jennison & Turnbull (2000),
  Tables 2.1 and 2.3, copied to the three decimals printed there.
- `equal_looks`: O'Brien-Fleming-type spending at 1/3, 2/3, 1 and one-sided alpha 0.025, copied to
  four decimals as rpact and gsDesign print them.
- `seq_bounds`: the example in the README of SeqBounds.jl, copied; its default grid is coarse.
- `rpact`: stagewise interval and median-unbiased estimate of a log hazard ratio, copied from the
  tests of rpact (three looks, Wang-Tsiatis Delta = 0.25, non-binding futility). The bounds of that
  design are computed here by the same quadrature.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import SampleMeanStatistic
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq
from scipy.stats import norm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REACH = 9.0


def crossing(z: Sequence[float], t: Sequence[float], sided: int) -> float:
    """P(the last of up to three looks is the first to cross, upwards), by adaptive quadrature."""

    def limits(k: int) -> tuple[float, float]:
        high = z[k] * math.sqrt(t[k])
        return (-high if sided == 2 else -REACH * math.sqrt(t[k])), high

    def first(s: float) -> float:
        return float(norm.pdf(s, scale=math.sqrt(t[0])))

    def exits(s: float, k: int) -> float:
        return float(norm.sf((z[k] * math.sqrt(t[k]) - s) / math.sqrt(t[k] - t[k - 1])))

    if len(t) == 1:
        return float(norm.sf(z[0]))
    accuracy = {"epsabs": 1e-12, "epsrel": 1e-10}
    if len(t) == 2:
        return float(quad(lambda s: first(s) * exits(s, 1), *limits(0), **accuracy)[0])

    def step(s: float, before: float) -> float:
        return float(norm.pdf(s - before, scale=math.sqrt(t[1] - t[0])))

    return float(
        dblquad(
            lambda s, before: first(before) * step(s, before) * exits(s, 2),
            *limits(0),
            *limits(1),
            **accuracy,
        )[0]
    )


def spending_bounds(t: Sequence[float], spend: Callable[[float], float], sided: int) -> list[float]:
    """Bounds whose crossing probabilities are the increments of `spend`."""
    z: list[float] = []
    spent = [0.0, *(spend(x) for x in t)]
    for k in range(len(t)):
        target = spent[k + 1] - spent[k]

        def miss(b: float, k: int = k, target: float = target) -> float:
            return crossing([*z, b], t[: k + 1], sided) - target

        z.append(float(brentq(miss, 0.5, 8.0, xtol=1e-10)))
    return z


def unequal_looks() -> list[dict[str, Any]]:
    """Both spending rules, one- and two-sided, at information 0.3, 0.55, 1."""
    t, a = (0.3, 0.55, 1.0), 0.025
    rules = {
        "obrien_fleming_spending": lambda x: 2 * norm.sf(norm.isf(a / 2) / math.sqrt(x)),
        "pocock_spending": lambda x: a * math.log(1 + (math.e - 1) * x),
    }
    return [
        {
            "information": t,
            "alpha": a * sided,
            "sided": sided,
            "rule": rule,
            "z": spending_bounds(t, spend, sided),
        }
        for rule, spend in rules.items()
        for sided in (1, 2)
    ]


def wang_tsiatis(t: Sequence[float], delta: float, alpha: float) -> list[float]:
    """One-sided bounds c t^(delta - 1/2)."""

    def bounds(c: float) -> list[float]:
        return [c * x ** (delta - 0.5) for x in t]

    def miss(c: float) -> float:
        z = bounds(c)
        return sum(crossing(z[: k + 1], t[: k + 1], 1) for k in range(len(t))) - alpha

    return bounds(float(brentq(miss, 1.5, 3.0, xtol=1e-10)))


def gbstats() -> list[dict[str, float]]:
    """GrowthBook's sequential test at three settings."""
    settings = [
        # n_a, n_b, mean_a, mean_b, sd, alpha, tuning
        (1000, 1050, 2.0, 2.1, 1.5, 0.05, 5000),
        (20000, 19000, 10.0, 10.3, 12.0, 0.1, 1000),
        (300, 310, 1.0, 1.4, 1.0, 0.01, 20000),
    ]
    out = []
    for n_a, n_b, mean_a, mean_b, sd, alpha, tuning in settings:
        a, b = (
            SampleMeanStatistic(n=n, sum=n * mean, sum_squares=(n - 1) * sd**2 + n * mean**2)
            for n, mean in ((n_a, mean_a), (n_b, mean_b))
        )
        test = SequentialTwoSidedTTest(
            a,
            b,
            SequentialConfig(
                alpha=alpha, difference_type="absolute", sequential_tuning_parameter=tuning
            ),
        )
        result = test.compute_result()
        low, high = (float(x) for x in result.ci)
        out.append(
            {
                "estimate": float(test.point_estimate),
                "std_error": math.sqrt(test.variance),
                "n": n_a + n_b,
                "n_star": tuning,
                "level": 1 - alpha,
                "low": low,
                "high": high,
                "p_value": float(result.p_value),
            }
        )
    return out


def main() -> None:
    """Write the file beside this script."""
    t = (0.2, 0.4, 1.0)
    reference = {
        "gbstats": gbstats(),
        "unequal_looks": unequal_looks(),
        "pocock": {
            "0.01": {"2": 2.772, "3": 2.873, "4": 2.939, "10": 3.117},
            "0.05": {"2": 2.178, "3": 2.289, "4": 2.361, "10": 2.555},
            "0.1": {"2": 1.875, "3": 1.992, "4": 2.067, "10": 2.270},
        },
        "obrien_fleming": {"0.05": {"2": 1.977, "3": 2.004, "4": 2.024, "10": 2.087}},
        "equal_looks": {"alpha": 0.025, "sided": 1, "z": [3.7103, 2.5114, 1.9930]},
        "seq_bounds": {
            "information": [0.25, 0.5, 0.75, 1.0],
            "alpha": 0.05,
            "z": [3.74955, 2.53993, 2.01604, 1.72014],
        },
        "rpact": {
            "information": t,
            "alpha": 0.025,
            "z": wang_tsiatis(t, 0.25, 0.025),
            "events": [8, 15, 38],
            "log_rank": [1.52, 1.38, 2.9],
            "hazard_ratio_low": 1.222663,
            "hazard_ratio_high": 4.752454,
            "hazard_ratio_median_unbiased": 2.4764002,
        },
    }
    path = Path(__file__).with_name("sequential.json")
    path.write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
