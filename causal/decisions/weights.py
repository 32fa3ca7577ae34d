"""Whether importance weights can be trusted: `WeightDiagnostics`, and the one warning about them.

A weight is the probability of the logged action under the target policy over the one under the
policy that logged it. Its expectation is 1; how unequal the weights are says how little of the log
speaks about the target.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import EstimationWarning
from causal.values import finite, known_fields
from causal.words import number_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

_TOP = 0.01  # the share of rows whose share of all weight is shown
_FEW_EFFECTIVE_ROWS = 100
_FEW_REWARDS = 10
_LARGE_SHARE = 0.10
_LARGE_Z = 4.0
_SAME = 1e-9  # mean weights nearer to 1 than this are 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightDiagnostics:
    """How well a log supports a target policy.

    For whoever must decide whether an off-policy value may be believed. Nothing in it depends on
    a reward model; unequal weights are no error, they are little information.

    Parameters
    ----------
    n_obs : int
        Weights: rows of the log (slates, for the pseudoinverse estimator).
    ess, ess_share : float
        Effective sample size (sum w)^2 / sum w^2 of the weights as used, and its share of `n_obs`.
    max_weight : float
        The largest weight as used.
    mean_weight, mean_weight_z : float
        Mean of the weights before clipping, and its distance from 1 in standard errors (clustered
        where the estimate is). Beyond 4 the propensities do not belong to this log. `mean_weight_z`
        is None where the weights do not vary and are not 1.
    top_share, max_share : float
        Share of all weight held by the 1 % largest, and by the largest alone.
    n_zero_target : int
        Rows whose action the target policy never takes.
    n_clipped : int
        Weights above the clip.
    clipping_bias_bound : float
        Most that clipping can have moved an IPS value, in units of the reward; 0 without clipping.
    unsupported_mass : float or None
        Mean probability that the target policy gives to actions never logged in their context cell;
        None where only the logged action's probability is known.
    weighted_rewards : int
        Rows with a weight above 0 and a reward other than 0: of clicks, the positive ones.

    Examples
    --------
    >>> d = WeightDiagnostics(n_obs=4, ess=4.0, ess_share=1.0, max_weight=1.0, mean_weight=1.0,
    ...     mean_weight_z=0.0, top_share=0.25, max_share=0.25, n_zero_target=0, n_clipped=0,
    ...     clipping_bias_bound=0.0, unsupported_mass=None, weighted_rewards=2)
    >>> d.to_frame().loc[0, "ess"]
    np.float64(4.0)
    """

    n_obs: int
    ess: float
    ess_share: float
    max_weight: float
    mean_weight: float
    mean_weight_z: float | None
    top_share: float
    max_share: float
    n_zero_target: int
    n_clipped: int
    clipping_bias_bound: float
    unsupported_mass: float | None
    weighted_rewards: int

    def __post_init__(self) -> None:
        optional = ("mean_weight_z", "unsupported_mass")
        for name, value in asdict(self).items():
            if value is not None or name not in optional:
                finite(name, value)

    def to_frame(self) -> pd.DataFrame:
        """One row, a column a figure."""
        import pandas as pd  # noqa: PLC0415 — loaded only when used

        return pd.DataFrame([asdict(self)])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back equal diagnostics."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> WeightDiagnostics:
        """Make diagnostics from what `to_dict` returned, also after JSON."""
        return cls(**known_fields(cls, d))

    def summary(self) -> str:
        """One line with the figures that matter."""
        z = "undefined" if self.mean_weight_z is None else f"{self.mean_weight_z:.1f}"
        effective = number_in_words(100 * self.ess_share, 2)
        parts = [
            f"effective rows {self.ess:,.0f} of {self.n_obs:,} ({effective}%)",
            f"largest weight {self.max_weight:.3g}",
            f"top 1% of rows hold {number_in_words(100 * self.top_share, 2)}% of all weight",
            f"mean weight {self.mean_weight:.3g} (z = {z})",
            f"{self.weighted_rewards:,} weighted rewards",
        ]
        if self.n_zero_target:
            parts.append(f"{self.n_zero_target:,} rows without weight")
        if self.n_clipped:
            bound = f"bias of IPS at most {self.clipping_bias_bound:.3g}"
            parts.append(f"{self.n_clipped:,} weights clipped ({bound})")
        if self.unsupported_mass is not None:
            unsupported = number_in_words(100 * self.unsupported_mass, 2)
            parts.append(f"{unsupported}% of the target never logged")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSums:
    """Sums over all weights, and the largest of them: what the diagnostics are made of.

    `top` holds at least the `top_count(n)` largest weights as used, in any order; `absolute` is the
    sum of absolute weights, where they may be negative.
    """

    n: int
    total: float
    squares: float
    top: NDArray[np.float64]
    mean: float
    mean_std_error: float
    n_zero: int
    rewarded: int
    absolute: float | None = None
    n_clipped: int = 0
    clipping_bias_bound: float = 0.0


def top_count(n: int) -> int:
    """How many of n weights are the 1 % largest; at least one."""
    return max(1, math.ceil(_TOP * n))


def weight_diagnostics(sums: WeightSums, unsupported_mass: float | None) -> WeightDiagnostics:
    """The figures out of the sums; raises where no row has weight."""
    if sums.squares <= 0:
        raise ValueError(
            "at least one logged action must be possible under the target policy; "
            f"the {sums.n} rows have a total weight of {sums.total:.3g}: this log says nothing of "
            "that policy"
        )
    whole = sums.total if sums.absolute is None else sums.absolute
    m = top_count(sums.n)
    largest = np.partition(sums.top, len(sums.top) - m)[-m:]
    ess = min(sums.total**2 / sums.squares, float(sums.n))
    return WeightDiagnostics(
        n_obs=sums.n,
        ess=ess,
        ess_share=ess / sums.n,
        max_weight=float(largest.max()),
        mean_weight=sums.mean,
        mean_weight_z=_z(sums.mean - 1.0, sums.mean_std_error),
        top_share=min(float(largest.sum()) / whole, 1.0),
        max_share=min(float(largest.max()) / whole, 1.0),
        n_zero_target=sums.n_zero,
        n_clipped=sums.n_clipped,
        clipping_bias_bound=sums.clipping_bias_bound,
        unsupported_mass=unsupported_mass,
        weighted_rewards=sums.rewarded,
    )


def warn_if_fragile(
    diagnostics: WeightDiagnostics, more: Sequence[str] = (), *, stacklevel: int
) -> None:
    """Warn once, with all figures, if a rule is broken; `more` holds further reasons."""
    reasons = [*_reasons(diagnostics), *more]
    if reasons:
        warnings.warn(
            f"fragile off-policy value: {'; '.join(reasons)}. {diagnostics.summary()}",
            EstimationWarning,
            stacklevel=stacklevel + 1,
        )


def _reasons(d: WeightDiagnostics) -> list[str]:
    """The rules that the weights break, in words."""
    z = d.mean_weight_z
    rules = {
        f"fewer than {_FEW_EFFECTIVE_ROWS} effective rows": d.ess < _FEW_EFFECTIVE_ROWS,
        "effective rows below 1% of the log": d.ess_share < 0.01,
        "one row holds more than 10% of all weight": d.max_share > _LARGE_SHARE,
        f"fewer than {_FEW_REWARDS} weighted rewards": d.weighted_rewards < _FEW_REWARDS,
        "the mean weight is not 1: these propensities do not belong to this log or this target": (
            z is None or abs(z) > _LARGE_Z
        ),
    }
    return [words for words, broken in rules.items() if broken]


def _z(distance: float, std_error: float) -> float | None:
    """Distance in standard errors; None where weights that are not 1 do not vary."""
    if abs(distance) < _SAME:
        return 0.0
    if std_error <= 1e-12 * abs(distance):
        return None
    return distance / std_error
