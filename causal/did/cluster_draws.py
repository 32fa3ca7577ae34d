"""Statistics under wild weights and under reassigned labels, for every null at once.

A null of b + delta, b the estimate, is never refitted: numerators are linear in delta, squared
errors quadratic, with coefficients that a product of small matrices gives for all draws.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from causal.did.cluster_grams import ClusterGrams

Multiplier: TypeAlias = Literal["rademacher", "webb"]

_TIE = 1e-9  # relative difference of squares below which two statistics count as equal
_EXACT_FIT = 1e-13  # scores over products, below which they are rounding
_POINTS = {
    "rademacher": np.array([-1.0, 1.0]),
    "webb": np.sqrt([0.5, 1.0, 1.5, 0.5, 1.0, 1.5]) * [-1, -1, -1, 1, 1, 1],
}
_DOUBLINGS = 15
_ENUMERATED = 4_096  # draws up to which all are taken, however few were asked for


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClusterDraws:
    """Statistics (a - delta b)^2 / (c0 - 2 delta c1 + delta^2 c2) of draws, and the observed one.

    The observed statistic is (delta own)^2 / own_square: 0 at the estimate.

    Parameters
    ----------
    a, b, c0, c1, c2 : (n,) arrays
    own, own_square : float
    exact : bool
        Whether these are all draws that there are, the observed one among them.
    kind : {"rademacher", "webb", "labels"}
        Signs, six-point weights, or reassigned labels.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c0: NDArray[np.float64]
    c1: NDArray[np.float64]
    c2: NDArray[np.float64]
    own: float
    own_square: float
    exact: bool
    kind: str

    @property
    def least_p(self) -> float:
        """The smallest p-value that there can be: some draws always equal the observed one."""
        n = len(self.a)
        if not self.exact:
            return 1 / (n + 1)
        if self.kind != "labels":
            return 2 / n  # all weights 1, all -1
        same = np.abs(self.a) <= _TIE * np.abs(self.a).max()
        return int((same & (np.abs(self.b**2 - self.c0) <= _TIE * self.c0)).sum()) / n

    def p_value(self, delta: float) -> float:
        """Share of draws whose statistic is at least the observed one."""
        top, bottom = self._squares(delta)
        own = (delta * self.own) ** 2
        count = int((top * self.own_square >= own * bottom * (1 - _TIE)).sum())
        n = len(self.a)
        return count / n if self.exact else (count + 1) / (n + 1)

    def observed(self, delta: float) -> float:
        """The signed statistic of the data."""
        return -delta * self.own / math.sqrt(self.own_square)

    def statistics(self, delta: float) -> NDArray[np.float64]:
        """Signed statistics of the draws that have one."""
        top, bottom = self._squares(delta)
        seen = bottom > 0
        sign = np.sign(self.a - delta * self.b)[seen]
        found: NDArray[np.float64] = sign * np.sqrt(top[seen] / bottom[seen])
        return found

    def not_rejected(self, level: float, step: float) -> tuple[float, float]:
        """Nearest deltas on either side at which p falls to 1 - level; infinite if at none.

        Steps outwards are doubled until p is small, the last one is halved 60 times. Beyond 30,000
        steps rounding breaks ties: an end is then infinite.
        """
        low, high = (self._end(level, sign * step) for sign in (-1, 1))
        return low, high

    def _end(self, level: float, step: float) -> float:
        """The end on the side of `step`."""
        limit, near = 1 - level + 1e-12, 0.0
        for _ in range(_DOUBLINGS):
            if self.p_value(near + step) <= limit:
                break
            near, step = near + step, 2 * step
        else:
            return math.copysign(math.inf, step)
        far = near + step
        for _ in range(60):
            middle = (near + far) / 2
            if self.p_value(middle) <= limit:
                far = middle
            else:
                near = middle
        return far

    def _squares(self, delta: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Numerators and denominators of the squared statistics."""
        bottom = self.c0 - 2 * delta * self.c1 + delta**2 * self.c2
        return (self.a - delta * self.b) ** 2, np.maximum(bottom, 0.0)


# ---- wild cluster bootstrap ----


def wild_draws(
    grams: ClusterGrams, *, multiplier: Multiplier, n_draws: int, seed: int
) -> ClusterDraws:
    """Restricted wild cluster bootstrap of the treatment's coefficient, errors CR1.

    Notes
    -----
    With x, y beside units and periods, u = y - r x the restricted residuals, h_g = x_g'u_g,
    z_g = Z_g'u_g, q_g = x_g'x_g / x'x, w_g = Z_g'x_g: for weights v the numerator is sum v_g h_g
    and the score of cluster g is c_g = v_g h_g - q_g sum v h - w_g'(Z'Z)^- sum v z (MacKinnon 2022,
    eq. 20 and 24, for one coefficient). u = (y - b x) - delta x makes h and z, hence c, linear in
    delta.
    """
    g = grams.beside_periods()
    total = g.xx.sum()
    estimate = g.xy.sum() / total
    V, exact = _weights(g.n_clusters, multiplier, n_draws, seed)
    w = g.Zx @ g.inverse

    def scores(
        h: NDArray[np.float64], z: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        top = h @ V
        return top, h[:, None] * V - np.outer(g.xx / total, top) - w @ (z.T @ V)

    rest = g.xy - estimate * g.xx
    if np.abs(rest).max() <= _EXACT_FIT * np.abs(g.xy).max():
        raise ValueError(
            "a wild cluster test needs an outcome that effects and treatment do not fit exactly; "
            "this one they do: check the outcome, or use method='permutation'"
        )
    a, at_estimate = scores(rest, g.Zy - estimate * g.Zx)
    b, by_delta = scores(g.xx, g.Zx)
    return ClusterDraws(
        a=a,
        b=b,
        c0=np.einsum("gd,gd->d", at_estimate, at_estimate),
        c1=np.einsum("gd,gd->d", at_estimate, by_delta),
        c2=np.einsum("gd,gd->d", by_delta, by_delta),
        own=float(total),
        own_square=float(rest @ rest),
        exact=exact,
        kind=multiplier,
    )


def _weights(
    n: int, multiplier: Multiplier, n_draws: int, seed: int
) -> tuple[NDArray[np.float64], bool]:
    """Weights of n clusters, (n, draws), and whether these are all that there are."""
    points = _POINTS[multiplier]
    if len(points) ** float(n) <= max(n_draws, _ENUMERATED):
        every = np.indices((len(points),) * n).reshape(n, -1)
        return points[every], True
    rng = np.random.default_rng(seed)
    return points[rng.integers(0, len(points), (n, n_draws))], False


# ---- labels reassigned among clusters ----


def label_draws(grams: ClusterGrams, *, n_draws: int, seed: int) -> ClusterDraws:
    """Estimates under first treated periods that are dealt anew among the clusters.

    Notes
    -----
    x of a cluster is Z d with d_t = 1{t >= first}: with A_c = Z_c'Z_c all products of reassigned
    treatments come from A_c d, once for each cluster and label.
    """
    g = grams
    labels, own = np.unique(g.first, return_inverse=True)
    dealt, exact = _arrangements(own, n_draws=n_draws, seed=seed)
    after = (np.arange(g.ZZ.shape[1]) >= labels[:, None]).astype(np.float64)  # d, (L, T)
    Ad = np.einsum("gst,lt->gls", g.ZZ, after)
    clusters = np.arange(g.n_clusters)
    beside = g.beside_periods()
    estimate = beside.xy.sum() / beside.xx.sum()
    rest = beside.Zy - estimate * beside.Zx  # Z_c'(y - b x), beside units and periods
    numerator = np.einsum("lt,gt->gl", after, rest)[clusters, dealt].sum(axis=1)
    cross = np.einsum("lt,gt->gl", after, beside.Zx)[clusters, dealt].sum(axis=1)
    squares = np.einsum("lt,glt->gl", after, Ad)[clusters, dealt].sum(axis=1)
    of_periods = np.zeros((len(dealt), Ad.shape[2]))
    for c, at in zip(clusters, dealt.T, strict=True):
        of_periods += Ad[c, at]
    free = squares - np.einsum("ds,st,dt->d", of_periods, g.inverse, of_periods)
    return ClusterDraws(
        a=numerator,
        b=cross,
        c0=free**2,
        c1=np.zeros_like(free),
        c2=np.zeros_like(free),
        own=1.0,
        own_square=1.0,
        exact=exact,
        kind="labels",
    )


def _arrangements(
    labels: NDArray[np.int64], *, n_draws: int, seed: int
) -> tuple[NDArray[np.int64], bool]:
    """Ways to deal the labels among clusters, (draws, n), and whether these are all."""
    counts = Counter(labels.tolist())
    n_ways = math.factorial(len(labels))
    for count in counts.values():
        n_ways //= math.factorial(count)
    if n_ways <= max(n_draws, _ENUMERATED):
        return np.array(list(_dealt(len(labels), dict(counts))), dtype=np.int64), True
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(labels, (n_draws, 1)), axis=1), False


def _dealt(n: int, counts: dict[int, int]) -> Iterator[list[int]]:
    """Every way to deal labels that occur so often among n places."""
    label, *others = counts
    if not others:
        yield [label] * n
        return
    rest = {other: counts[other] for other in others}
    for places in itertools.combinations(range(n), counts[label]):
        free = [place for place in range(n) if place not in places]
        for among in _dealt(len(free), rest):
            row = [label] * n
            for place, other in zip(free, among, strict=True):
                row[place] = other
            yield row
