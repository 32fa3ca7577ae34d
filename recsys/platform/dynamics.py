"""The one set of state equations, on arrays of any shape; both engines read it.

Memories rho are per hour: over a tick of dt hours a memory keeps rho^dt. The control path of habit
and effort always comes from the all-control world under the same draws, never from the world that
is running.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recsys.platform.parameters import PlatformParameters

_STATED_FOR = 40  # live rooms for which u0 is stated


def online_logit(
    p: PlatformParameters, activity: NDArray[np.float64], shock: float, hour: float
) -> NDArray[np.float64]:
    """What no world changes: a0 + act_i + tod sin(2 pi hour / 24) + s_t."""
    return np.asarray(p.a0 + activity + (p.tod * math.sin(2 * math.pi * hour / 24) + shock))


def online_chance(logit: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Activity a_it: logistic(logit) times a noise factor exp(noise eps), at most 1."""
    return np.asarray(np.minimum(factor / (1 + np.exp(-logit)), 1.0))


def outside_weight(p: PlatformParameters, n_live: float) -> float:
    """O = e^u0 J_live / 40: the market's balance does not drift with its size."""
    return math.exp(p.u0) * n_live / _STATED_FOR


def room_utility(
    p: PlatformParameters,
    *,
    crowd: NDArray[np.float64],
    heat: NDArray[np.float64],
    effort: NDArray[np.float64],
    in_battle: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """What a room adds for everybody: -kappa log(1 + A/cap) + chi m + e + b_pk PK.

    `crowd` is log(1 + A/cap) of the hour before.
    """
    return -p.kappa * crowd + p.chi * heat + effort + p.b_pk * in_battle


def next_heat(
    p: PlatformParameters, heat: NDArray[np.float64], crowd: NDArray[np.float64], hours: float
) -> NDArray[np.float64]:
    """Heat: m' = rho_m m + (1 - rho_m) log(1 + A/cap)."""
    return _remembered(p.rho_m**hours, heat, crowd)


def next_habit(
    p: PlatformParameters,
    habit: NDArray[np.float64],
    share: NDArray[np.float64],
    control_share: NDArray[np.float64],
    hours: float,
) -> NDArray[np.float64]:
    """Habit: h' = rho_h h + (1 - rho_h)(S_i. - S_i.^control)."""
    return _remembered(p.rho_h**hours, habit, share - control_share)


def next_effort(
    p: PlatformParameters,
    effort: NDArray[np.float64],
    audience: NDArray[np.float64],
    control_audience: NDArray[np.float64],
    incentive: NDArray[np.float64],
    hours: float,
) -> NDArray[np.float64]:
    """Effort: e' = rho_e e + (1 - rho_e)(psi log(A_j / A_j^control) + effort_lift s_j z_t).

    A room without audience in the control world has no ratio: it counts as 1.
    """
    ratio = np.divide(
        audience, control_audience, out=np.ones_like(audience), where=control_audience > 0
    )
    growth = np.log(np.where(ratio > 0, ratio, 1.0))
    return _remembered(p.rho_e**hours, effort, p.psi * growth + incentive)


def next_quality(
    p: PlatformParameters,
    quality: NDArray[np.float64],
    watch: NDArray[np.float64],
    exposure: NDArray[np.float64],
    hours: float,
) -> NDArray[np.float64]:
    """The recommender's author weights q' = (1 - lr) q + lr watch per exposure.

    Watch per exposure is taken over its mean over exposed rooms, so that weights keep the level 1.
    """
    exposed = exposure > 0
    rate = np.divide(watch, exposure, out=np.zeros_like(watch), where=exposed)
    total = rate.sum(axis=-1, keepdims=True)
    mean = np.where(total > 0, total / np.maximum(exposed.sum(axis=-1, keepdims=True), 1), 1.0)
    seen = exposed & (total > 0)
    return np.where(
        seen, _remembered((1 - p.learning_rate) ** hours, quality, rate / mean), quality
    )


def _remembered(
    keep: float, memory: NDArray[np.float64], news: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The share `keep` times the memory plus the rest times the news."""
    return keep * memory + (1 - keep) * news
