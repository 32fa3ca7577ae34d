"""When a rotation should switch, and what its Horvitz-Thompson estimate then risks.

Periods are t = 1 ... T. A coin is thrown at the start of each epoch and holds until the next. An
outcome at t > m depends on the arms of t - m ... t, so on the coins of the epochs E_t that this
window touches; two times whose windows share o coins have dependent estimates.

Bojinov, Simchi-Levi and Zhao (2023), Design and analysis of switchback experiments, Management
Science 69(7). The variance for any points is our own: it is checked by enumerating every path.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.effect import EstimationWarning
from causal.frame import check_one_of
from causal.values import is_number, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_SEARCHED = 16  # periods up to which every set of epochs is tried
_MOVED = 6  # last points that are moved where no formula is known


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchbackVariance:
    """Variance of the Horvitz-Thompson estimate over all paths of the coins.

    `exact` needs both outcome paths; `bound_1` <= `bound_2` hold sums of squares only, so that they
    can be estimated: `bound_2` from observed blocks without ever being negative.
    """

    exact: float
    bound_1: float
    bound_2: float


def optimal_switch_points(n_periods: int, *, carryover: int) -> NDArray[np.int64]:
    """First periods (1-based) of the coin epochs that minimise the worst-case risk.

    Parameters
    ----------
    n_periods : int
        Number of periods T.
    carryover : int
        Number of earlier periods m whose arms still matter.

    Returns
    -------
    int64 array (n_epochs,)
        Begins with 1.

    Raises
    ------
    ValueError
        If T is not above m, or a number is not whole.

    Notes
    -----
    m = 0: every period. T = n m with n >= 4: 1, 2m + 1, 3m + 1, ..., (n - 2) m + 1 (Bojinov,
    Simchi-Levi and Zhao 2023, theorem 2). Otherwise every set of epochs is tried up to T = 16;
    beyond, the rule with the remainder in the last epoch is improved by moving, adding and leaving
    out single points, and a warning says that it is not proven optimal.

    Examples
    --------
    >>> optimal_switch_points(12, carryover=2).tolist()
    [1, 5, 7, 9]
    """
    n, m = _checked_periods(n_periods, carryover)
    if m == 0:
        return np.arange(1, n + 1)
    if n % m == 0 and n // m >= 4:
        return np.array([1, *range(2 * m + 1, n - 2 * m + 2, m)])
    if n <= _SEARCHED:
        return _best_of_all(n, m)
    found = _moved([1, *range(2 * m + 1, n - 2 * m + 2, m)], n, m)
    warnings.warn(
        f"{n} periods are no multiple of carryover {m}: the switch points are a good choice, not "
        "proven optimal",
        EstimationWarning,
        stacklevel=2,
    )
    return found


def switchback_risk(
    points: Sequence[int] | NDArray[np.int64],
    *,
    n_periods: int,
    carryover: int,
    bound: float = 1.0,
    p: float = 0.5,
) -> float:
    """Worst-case mean squared error of the Horvitz-Thompson estimate over outcomes within a bound.

    Parameters
    ----------
    points : sequence of int
        First periods (1-based) of the coin epochs.
    n_periods, carryover : int
        As in `optimal_switch_points`.
    bound : float
        Largest absolute outcome B.
    p : float
        Chance of treatment of each coin.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If points do not begin with 1 and go up within the periods, `bound` is not positive, or `p`
        is not in (0, 1).

    Notes
    -----
    B^2 / (T - m)^2 times the sum of p^-o + (1 - p)^-o over all pairs of times with o > 0 shared
    coins: the variance where every outcome is B.

    Examples
    --------
    >>> switchback_risk([1, 2, 3, 4], n_periods=4, carryover=0)
    1.0
    """
    n, m = _checked_periods(n_periods, carryover)
    if not (is_number(bound) and 0 < bound < np.inf):
        raise ValueError(f"bound must be positive; got {bound!r}")
    _check_chance(p)
    return bound**2 * _unit_risk(_checked_points(points, n), n, m, p)


def switchback_variance(
    treated: ArrayLike,
    control: ArrayLike,
    *,
    points: Sequence[int] | NDArray[np.int64],
    carryover: int,
    p: float = 0.5,
) -> SwitchbackVariance:
    """Variance of the Horvitz-Thompson estimate where both outcome paths are known: for planning.

    Parameters
    ----------
    treated, control : array (n_periods,)
        Outcomes when always treated, and never.
    points, carryover, p
        As in `switchback_risk`.

    Returns
    -------
    SwitchbackVariance

    Raises
    ------
    ValueError
        If paths differ in length or are not finite, or as in `switchback_risk`.

    Notes
    -----
    With A_k and B_k the sums of the paths over block k (times that touch the same epochs), and o_kl
    the coins that two blocks share, (T - m)^2 times the variance is the sum over o_kl > 0 of
    (p^-o - 1) A_k A_l + ((1 - p)^-o - 1) B_k B_l + 2 A_k B_l. The bounds replace first the mixed
    products, then all products, by half the sum of squares.

    Examples
    --------
    >>> switchback_variance([1.0, 1.0], [0.0, 0.0], points=[1, 2], carryover=0).exact
    0.5
    """
    a, b = (np.asarray(path, dtype=np.float64) for path in (treated, control))
    if a.ndim != 1 or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(
            f"treated and control must be finite and of one length; got {a.shape} and {b.shape}"
        )
    n, m = _checked_periods(len(a), carryover)
    _check_chance(p)
    first, last, block = window_blocks(_checked_points(points, n), n, m)
    a, b = (np.bincount(block, path[m:]).astype(np.float64) for path in (a, b))
    shared = shared_coins(first, last)
    linked = shared > 0
    up, down = p**-shared * linked, (1 - p) ** -shared * linked
    exact = a @ (up - linked) @ a + b @ (down - linked) @ b + 2 * a @ linked @ b
    degree = linked.sum(axis=1)
    bound_1 = a @ (up - linked) @ a + b @ (down - linked) @ b + degree @ (a**2 + b**2)
    bound_2 = a**2 @ up.sum(axis=1) + b**2 @ down.sum(axis=1)
    scale = float((n - m) ** 2)
    return SwitchbackVariance(
        exact=float(exact) / scale, bound_1=float(bound_1) / scale, bound_2=float(bound_2) / scale
    )


def switchback_attenuation(
    *, decay: float, slice_periods: int, burn_in: int = 0, coin: str = "independent"
) -> float:
    """Share of the effect that a rotation sees when carry-over decays geometrically.

    Parameters
    ----------
    decay : float
        rho in [0, 1): what is left of an exposure one period later.
    slice_periods : int
        Periods of a slice.
    burn_in : int
        First periods of each slice that are not read.
    coin : {"independent", "alternating"}
        Neighbouring slices of a stratified coin are independent.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `decay` is not in [0, 1), or the burn-in leaves nothing of a slice.

    Notes
    -----
    For x_t = rho x_{t-1} + (1 - rho) W_t with slices of l periods, b of them burnt in, and M the
    mean of rho^j over j = b + 1 ... l: 1 - M with independent coins, 1 - 2 M / (1 + rho^l) where
    arms alternate.

    Examples
    --------
    >>> round(switchback_attenuation(decay=0.9, slice_periods=24), 3)
    0.655
    """
    check_one_of(coin, "coin", ("independent", "alternating"))
    if not (is_number(decay) and 0 <= decay < 1):
        raise ValueError(f"decay must be in [0, 1); got {decay!r}")
    whole_number("slice_periods", slice_periods, 1)
    whole_number("burn_in", burn_in, 0)
    if burn_in >= slice_periods:
        raise ValueError(f"burn_in must be below slice_periods {slice_periods}; got {burn_in}")
    lost = float(np.mean(np.float64(decay) ** np.arange(burn_in + 1, slice_periods + 1)))
    if coin == "alternating":
        lost *= 2 / (1 + decay**slice_periods)
    return 1 - lost


def window_blocks(
    points: NDArray[np.int64], n: int, m: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Blocks of times whose windows touch the same epochs.

    Returns
    -------
    first, last : int64 arrays (n_blocks,)
        First and last epoch that a block touches.
    block : int64 array (n - m,)
        Block of each time m + 1 ... n.
    """
    epoch = np.searchsorted(points, np.arange(1, n + 1), side="right") - 1
    windows = np.column_stack([epoch[: n - m], epoch[m:]])
    new = np.r_[True, (windows[1:] != windows[:-1]).any(axis=1)]
    return windows[new, 0], windows[new, 1], np.cumsum(new) - 1


def shared_coins(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """Number of epochs that each pair of blocks shares, shape (n_blocks, n_blocks)."""
    overlap = np.minimum.outer(last, last) - np.maximum.outer(first, first) + 1
    return np.asarray(np.maximum(overlap, 0), dtype=np.float64)


def _unit_risk(points: NDArray[np.int64], n: int, m: int, p: float = 0.5) -> float:
    """Risk at a bound of 1: pairs of times by their distance, from the counts of points so far."""
    starts = np.zeros(n + 1, dtype=np.int64)
    starts[points] = 1
    count = np.cumsum(starts)  # epochs that began up to t
    reach = int(np.diff([*points, n + 1]).max()) + m
    total = 0.0
    for distance in range(min(reach, n - m)):
        s = np.arange(m + 1, n + 1 - distance)
        shared = count[s] - count[s + distance - m] + 1
        shared = shared[shared > 0].astype(np.float64)
        part = float(np.sum(p**-shared + (1 - p) ** -shared))
        total += part if distance == 0 else 2 * part
    return total / (n - m) ** 2


def _best_of_all(n: int, m: int) -> NDArray[np.int64]:
    """The set of epochs of least risk, by trying all; the fewest points among equals."""
    bits = np.arange(1 << (n - 1))
    starts = np.zeros((len(bits), n + 1), dtype=np.int8)
    starts[:, 1] = 1
    for t in range(2, n + 1):
        starts[:, t] = (bits >> (t - 2)) & 1
    count = np.cumsum(starts, axis=1)
    risk = np.zeros(len(bits))
    for s in range(m + 1, n + 1):
        for t in range(s, n + 1):
            shared = count[:, s] - count[:, t - m] + 1
            part = np.where(shared > 0, 2.0 ** (shared + 1.0), 0.0)
            risk += part if s == t else 2 * part
    least = np.flatnonzero(risk <= risk.min() * (1 + 1e-12))
    best = least[np.argmin(starts[least].sum(axis=1))]
    return np.flatnonzero(starts[best]).astype(np.int64)


def _moved(points: list[int], n: int, m: int) -> NDArray[np.int64]:
    """Single moves of the last points, as long as one lowers the risk."""
    best, risk = points, _unit_risk(np.array(points), n, m)
    while True:
        found = [(_unit_risk(np.array(c), n, m), c) for c in _neighbours(best, n)]
        lowest, candidate = min(found)
        if lowest >= risk * (1 - 1e-12):
            return np.array(best)
        best, risk = candidate, lowest


def _neighbours(points: list[int], n: int) -> list[list[int]]:
    """Sets of points that differ in one of the last."""
    kept, tail = set(points), points[1:][-_MOVED:]
    free = [t for t in range(points[-_MOVED:][0] + 1, n + 1) if t not in kept]
    added = [sorted(kept | {t}) for t in free]
    left_out = [sorted(kept - {t}) for t in tail]
    steps = [(t, u) for t in tail for u in (t - 1, t + 1) if 1 < u <= n and u not in kept]
    shifted = [sorted((kept - {t}) | {u}) for t, u in steps]
    return [*added, *left_out, *shifted]


def _checked_periods(n_periods: object, carryover: object) -> tuple[int, int]:
    """T and m as whole numbers, T above m."""
    n, m = whole_number("n_periods", n_periods, 1), whole_number("carryover", carryover, 0)
    if m >= n:
        raise ValueError(f"carryover must be below the number of periods {n}; got {m}")
    return n, m


def _checked_points(points: Sequence[int] | NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Points as integers."""
    given = np.asarray(points, dtype=np.float64)
    whole = given.ndim == 1 and len(given) > 0 and bool((given % 1 == 0).all())
    if not whole or given[0] != 1 or (np.diff(given) <= 0).any() or given[-1] > n:
        raise ValueError(
            f"points must be whole periods that begin with 1 and go up to {n} at most; "
            f"got {given.tolist()[:10]}"
        )
    return given.astype(np.int64)


def _check_chance(p: object) -> None:
    """A chance in (0, 1)."""
    if not (is_number(p) and 0 < p < 1):
        raise ValueError(f"p must be in (0, 1); got {p!r}")
