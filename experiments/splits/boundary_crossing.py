"""When a Brownian motion leaves a region at one of a few looks: group-sequential probabilities.

The score S_k = Z_k sqrt(t_k) of an experiment read at information t_1 < ... < t_K <= 1 has
independent normal increments of variance d_k = t_k - t_{k-1} and mean drift x d_k, the drift being
E[Z] at t = 1. Its density on the paths that have not stopped follows

    g_k(s) = int g_{k-1}(u) phi((s - u - drift d_k) / sqrt(d_k)) / sqrt(d_k) du

over the continuation region (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000, chapter
19). Array kernels for `experiments.splits.sequential`; nothing here knows an experiment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MIN_STEP = 1e-3  # closer looks would need thousands of nodes

_PANEL_NODES, _PANEL_WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANEL_SD = 3.0  # width of a panel in step standard deviations: 16 nodes then leave about 1e-12
_REACH = 9.0  # standard deviations beyond which a score has no mass worth a node (1e-19)
_LARGEST_Z = 40.0
_MIN_SPENDING = 1e-290  # a bound for less is beyond _LARGEST_Z


@dataclass(frozen=True, slots=True)
class _Grid:
    """The score at information `time` on the paths that have not stopped.

    `score` and `mass`, both of shape (m,): nodes, and quadrature weight times sub-density.
    """

    score: NDArray[np.float64]
    mass: NDArray[np.float64]
    time: float


_START = _Grid(np.zeros(1), np.ones(1), 0.0)


def _above(grid: _Grid, z: float, t: float, drift: float) -> float:
    """P(not stopped before, Z_t >= z)."""
    step = t - grid.time
    distance = z * math.sqrt(t) - grid.score - drift * step
    return float(grid.mass @ special.ndtr(-distance / math.sqrt(step)))


def _continued(
    grid: _Grid, z: float, t: float, next_t: float, *, sided: int, drift: float = 0.0
) -> _Grid:
    """One step of the recursion: the sub-density at t inside the continuation region."""
    step, sd = t - grid.time, math.sqrt(t)
    high = min(z * sd, drift * t + _REACH * sd)
    low = max(-z * sd if sided == 2 else -math.inf, drift * t - _REACH * sd)
    width = max(high - low, 0.0)
    smoothness = math.sqrt(min(step, next_t - t))
    panels = 1 + math.floor(width / (_PANEL_SD * smoothness))
    half = width / panels / 2
    centres = low + half * (2 * np.arange(panels) + 1)
    score = (centres[:, None] + half * _PANEL_NODES).ravel()
    distance = (score[:, None] - grid.score - drift * step) / math.sqrt(step)
    density = np.exp(-0.5 * distance**2) @ grid.mass / math.sqrt(2 * math.pi * step)
    return _Grid(score, half * np.tile(_PANEL_WEIGHTS, panels) * density, t)


def checked_information(information: Sequence[float]) -> tuple[float, ...]:
    """Shares of information as floats.

    Raises
    ------
    ValueError
        If they are not strictly increasing in (0, 1], or a step is below `MIN_STEP`.
    """
    t = np.asarray(information, dtype=np.float64)
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(
            f"information must be a sequence of at least one look; got {information!r}"
        )
    steps = np.diff(t, prepend=0.0)
    if not (np.isfinite(t).all() and steps.min() > 0 and t[-1] <= 1):
        raise ValueError(
            f"information must be strictly increasing in (0, 1]; got {t.tolist()[:5]}; "
            "divide the sample at each look by the final sample"
        )
    if steps.min() < MIN_STEP:
        k = int(np.argmin(steps))
        raise ValueError(
            f"information must grow by at least {MIN_STEP} a look; look {k + 1} adds "
            f"{steps[k]:g}; merge looks, or use confidence_sequence"
        )
    return tuple(t.tolist())


def crossing_above(
    z: Sequence[float] | NDArray[np.float64],
    information: Sequence[float],
    *,
    sided: int,
    drift: float = 0.0,
) -> NDArray[np.float64]:
    """P(the first crossing happens at look k, upwards) for each look.

    Parameters
    ----------
    z, information : sequence of float, length K
        Bounds of the z statistic and the information at each look, in steps of at least
        `MIN_STEP`.
    sided : {1, 2}
        2: paths also stop at -z.
    drift : float
        E[Z] at information 1.

    Returns
    -------
    array (K,)
        Their sum is the probability of stopping above. With drift 0 and two sides, as much
        stops below.

    Examples
    --------
    >>> crossing_above([1.959964], [1.0], sided=2).round(6)
    array([0.025])
    """
    grid, probability = _START, []
    for k, (bound, t) in enumerate(zip(z, information, strict=True)):
        probability.append(_above(grid, bound, t, drift))
        if k + 1 < len(information):
            grid = _continued(grid, bound, t, information[k + 1], sided=sided, drift=drift)
    return np.array(probability)


def classical_bounds(
    information: Sequence[float], *, alpha: float, pocock: bool, sided: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pocock's constant bounds c, or O'Brien and Fleming's c / sqrt(t), for equal steps up to 1.

    Parameters
    ----------
    information : sequence of float, length K
        k / K.
    alpha : float
        Probability of ever crossing above, in (0, 0.5).
    pocock : bool
        False: O'Brien-Fleming.
    sided : {1, 2}
        2: paths also stop at the negative bounds.

    Returns
    -------
    z, spent : array (K,)
        Bounds, and the probability of having crossed above by each look.

    Raises
    ------
    ValueError
        If information is not k / K.

    Examples
    --------
    >>> classical_bounds([0.5, 1.0], alpha=0.025, pocock=True, sided=2)[0].round(3)
    array([2.178, 2.178])
    """
    looks = np.arange(1, len(information) + 1) / len(information)
    if not np.allclose(information, looks, rtol=0, atol=1e-6):
        raise ValueError(
            f"classical bounds need equal steps of information that end at 1, {len(looks)} looks "
            f"at {[round(float(x), 4) for x in looks[:5]]}; got {list(information[:5])}; "
            "use a spending rule for other steps"
        )
    shape = np.ones(len(looks)) if pocock else 1 / np.sqrt(looks)

    def excess(c: float) -> float:
        return float(crossing_above(c * shape, information, sided=sided).sum()) - alpha

    z = np.asarray(optimize.brentq(excess, 0.0, _LARGEST_Z, xtol=1e-13) * shape)
    return z, np.cumsum(crossing_above(z, information, sided=sided))


def spending_bounds(
    information: Sequence[float], *, alpha: float, pocock: bool, sided: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lan and DeMets' bounds: at each look, cross above with what the spending function adds.

    Parameters
    ----------
    information : sequence of float, length K
        Strictly increasing in (0, 1], in steps of at least `MIN_STEP`.
    alpha, pocock, sided
        As in `classical_bounds`; alpha is spent in full at information 1.

    Returns
    -------
    z, spent : array (K,)
        Bounds, and the probability of having crossed above by each look.

    Raises
    ------
    ValueError
        If a look comes so early that the function spends less than 1e-290 on it.

    Examples
    --------
    >>> spending_bounds([0.5, 1.0], alpha=0.025, pocock=False, sided=2)[0].round(3)
    array([2.963, 1.969])
    """
    t = np.asarray(information)
    if pocock:
        spent = alpha * np.log1p(math.expm1(1) * t)
    else:
        spent = 2 * special.ndtr(special.ndtri(alpha / 2) / np.sqrt(t))
    increments = np.diff(spent, prepend=0.0)
    if increments.min() < _MIN_SPENDING:
        k = int(np.argmin(increments))
        raise ValueError(
            f"look {k + 1} at information {information[k]:g} is so early that the rule spends "
            "nothing on it; leave this look out"
        )
    grid, z = _START, []
    for k, increment in enumerate(increments):
        low = 0.0 if sided == 2 else -_REACH
        miss = _miss(grid, information[k], increment)
        z.append(float(optimize.brentq(miss, low, _LARGEST_Z, xtol=1e-13)))
        if k + 1 < len(information):
            grid = _continued(grid, z[-1], information[k], information[k + 1], sided=sided)
    return np.array(z), spent


def _miss(grid: _Grid, t: float, increment: float) -> Callable[[float], float]:
    """How far the crossing probability at bound z is from the increment to spend."""
    return lambda z: _above(grid, z, t, 0.0) - increment
