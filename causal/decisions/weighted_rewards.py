"""Weighted means of rewards from sums alone: IPS and SNIPS, in numpy or inside the engine.

Rows carry the aliases ``r`` (reward), ``p`` (propensity), ``t`` (target probability of the logged
action) and, where rows share clusters, ``g``. One pass makes the sums, so that a Parquet log never
enters Python; short ones count rows and read the largest weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.decisions.policy_result import Estimate
from causal.decisions.weights import WeightSums, top_count
from causal.frame import offenders
from causal.rows import Pilot, select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from causal.rows import Expression, Groups, Rows

_BINS_AN_OCTAVE = 64
_LEAST = 1e-300  # stands for weight 0, which has no logarithm
_ILL_CONDITIONED = 1e-7  # a variance this far below its terms has lost half of its digits
_MOST_FETCHED = 5  # times the largest weights that are needed; beyond that bins find the edge


class NotFiniteError(ValueError):
    """A sum of weights or rewards overflows, or something in it is infinite or NaN."""


def check_log(rows: Rows, names: Mapping[str, str]) -> None:
    """Refuse missing numbers, by column and with counts; `names` maps aliases to columns."""
    for alias, name in names.items():
        if rows.n_missing(alias):
            values = rows.fetch([alias])[alias]
            rule = "be present (not missing)"
            message = offenders(
                f"column {name!r}", rule, np.isnan(values), values, "drop or fill them"
            )
            raise ValueError(message)


def refuse_impossible(rows: Rows, names: Mapping[str, str]) -> None:
    """Refuse what is no probability in ``p`` and ``t``, by column and with counts."""
    wrong = rows.where(lambda c: (c["p"] <= 0) | (c["p"] > 1) | (c["t"] < 0) | (c["t"] > 1))
    if wrong.sums([], {}).n[0]:
        columns = rows.fetch(["p", "t"])
        refuse_propensity(names["p"], columns["p"])
        refuse_target(names["t"], columns["t"])


def refuse_propensity(name: str, values: NDArray[np.float64]) -> None:
    """Refuse propensities outside (0, 1]."""
    bad = ~((values > 0) & (values <= 1))
    if bad.any():
        do = "log the probability with which the shown action was chosen"
        raise ValueError(
            offenders(f"propensity (column {name!r})", "be in (0, 1]", bad, values, do)
        )


def refuse_target(name: str, values: NDArray[np.float64]) -> None:
    """Refuse target probabilities outside [0, 1]."""
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        do = "give the target policy's probability of the logged action"
        raise ValueError(offenders(f"target ({name})", "be in [0, 1]", bad, values, do))


def weighted_value(
    rows: Rows,
    *,
    normalise: bool,
    clip: float | None,
    largest_reward: float,
    clustered: bool,
    lift: bool,
) -> tuple[Estimate, WeightSums]:
    """IPS, or SNIPS if `normalise`, with the sums behind the diagnostics.

    Parameters
    ----------
    rows : Rows
        With columns ``r p t``, checked, and, if `clustered`, ``g``.
    normalise, clustered, lift : bool
    clip : float or None
        Largest weight that is used.
    largest_reward : float
        Largest absolute reward, for the bound on the clipping bias.

    Raises
    ------
    NotFiniteError
        If a sum is not finite.

    Notes
    -----
    Both are ratios sum z / sum x, with x = w (SNIPS) or 1 (IPS) and z = x (r - c) / s or
    (w r - c) / s around a pilot centre c. Their variance is
    U / (U - 1) sum_u (z_u - V x_u)^2 / (sum x)^2 over the U rows, or over the sums of U clusters.
    """
    weighted = _with_weights(rows, clip)
    head = weighted.head()
    edge = float(np.quantile(head.fetch(["v"])["v"], 1 - 2 * top_count(100) / 100))
    plain = _plain_sums(clip, edge)
    for exact in (False, True):  # once more around exact centres, where the pilot misled
        pilot = (weighted if exact else head).pilot(["r", "wr"], exact=exact)
        columns = _columns(pilot, normalise=normalise, clip=clip, lift=lift)
        products = {} if clustered else _products(columns)
        sums = weighted.sums([], plain | products)
        if clustered:
            scores = _Scores.of_clusters(weighted.sums(["g"], columns), list(columns))
        else:
            scores = _Scores.of_rows(sums, list(columns))
        if scores.n_units < 2:
            what = "clusters" if clustered else "rows"
            raise ValueError(f"at least two {what} are required; got {scores.n_units}")
        if np.isfinite(scores.totals).all():
            contrasts = _contrasts(scores, pilot, normalise=normalise, lift=lift, clip=clip)
            if scores.well_conditioned(contrasts):
                break
    if not np.isfinite(scores.totals).all():
        raise NotFiniteError("sums of weights or rewards must be finite; they overflow; rescale")
    covariance = scores.covariance(contrasts)
    estimate = _estimate(scores, pilot, contrasts, covariance, normalise=normalise, lift=lift)
    return estimate, _weight_sums(
        weighted,
        sums,
        edge,
        mean=1.0 + scores.total("x" if clip is None else "u") / scores.total("1"),
        mean_std_error=math.sqrt(covariance[2, 2]),
        largest_reward=largest_reward,
    )


def _with_weights(rows: Rows, clip: float | None) -> Rows:
    """Add weights w, weights as used v and weighted rewards wr."""
    weighted = rows.derive({"w": lambda c: c["t"] / c["p"]})
    if clip is not None:
        limit = clip
        weighted = weighted.derive({"v": lambda c: c["w"] - select(c["w"] > limit, c["w"] - limit)})
    else:
        weighted = weighted.derive({"v": lambda c: c["w"] * 1.0})
    return weighted.derive({"wr": lambda c: c["v"] * c["r"]})


def _bin(weight: Any) -> Any:  # noqa: ANN401 — an array or an Ibis expression
    """Bin of a weight: 64 an octave."""
    some = weight + select(weight == 0, _LEAST)
    if isinstance(some, np.ndarray):
        return np.floor(np.log2(some) * _BINS_AN_OCTAVE)
    return (some.log2() * _BINS_AN_OCTAVE).floor()


def _plain_sums(clip: float | None, edge: float) -> dict[str, Expression]:
    """Sums that the diagnostics need, whatever the estimator."""
    limit = math.inf if clip is None else clip
    sums: dict[str, Expression] = {
        "weight": lambda c: c["v"],
        "square": lambda c: c["v"] * c["v"],
        "above": lambda c: c["v"] >= edge,
    }
    if clip is not None:
        sums["clipped"] = lambda c: c["w"] > limit
        sums["excess"] = lambda c: select(c["w"] > limit, c["w"] - limit)
    return sums


def _columns(
    pilot: Pilot, *, normalise: bool, clip: float | None, lift: bool
) -> dict[str, Expression]:
    """The per-row numbers whose products make the variance."""
    name = "r" if normalise else "wr"
    centre, scale = pilot.centre[name], pilot.scale[name]
    logged, spread = pilot.centre["r"], pilot.scale["r"]
    columns: dict[str, Expression] = {"x": lambda c: c["v"] - 1.0}
    if normalise:
        columns["z"] = lambda c: c["v"] * ((c["r"] - centre) / scale)
    else:
        columns["z"] = lambda c: (c["wr"] - centre) / scale
    if clip is not None:
        columns["u"] = lambda c: c["w"] - 1.0
    if lift:
        columns["y"] = lambda c: (c["r"] - logged) / spread
    return columns


def _products(columns: Mapping[str, Expression]) -> dict[str, Expression]:
    """Formulas of the sums of the columns and of their products."""
    names = list(columns)
    sums = dict(columns)
    for j, a in enumerate(names):
        for b in names[j:]:
            sums[f"{a}*{b}"] = _product(columns[a], columns[b])
    return sums


def _product(a: Expression, b: Expression) -> Expression:
    """Product of two formulas."""
    return lambda c: a(c) * b(c)


@dataclass(frozen=True)
class _Scores:
    """Cross products of the columns and of the constant 1, over rows or cluster sums.

    `names` has k entries, the last is ``1``; `gram` is (k, k), `units` (U, k) for clusters.
    """

    names: tuple[str, ...]
    totals: NDArray[np.float64]
    gram: NDArray[np.float64]
    n_units: int
    units: NDArray[np.float64] | None = None
    keys: NDArray[Any] | None = None

    @classmethod
    def of_rows(cls, sums: Groups, columns: list[str]) -> _Scores:
        """Every row is a unit."""
        n = int(sums.n[0])
        names = (*columns, "1")
        totals = np.array([*(sums.values[name][0] for name in columns), n], dtype=np.float64)
        gram = np.empty((len(names), len(names)))
        gram[-1], gram[:, -1] = totals, totals
        for j, a in enumerate(columns):
            for k, b in enumerate(columns[j:], start=j):
                gram[j, k] = gram[k, j] = sums.values[f"{a}*{b}"][0]
        return cls(names, totals, gram, n)

    @classmethod
    def of_clusters(cls, groups: Groups, columns: list[str]) -> _Scores:
        """Every cluster is a unit."""
        units = np.column_stack([*(groups.values[name] for name in columns), groups.n])
        (keys,) = groups.keys.values()
        return cls((*columns, "1"), units.sum(axis=0), units.T @ units, len(units), units, keys)

    def total(self, name: str) -> float:
        """Sum of a column over all rows."""
        return float(self.totals[self.names.index(name)])

    def contrast(self, **coefficients: float) -> NDArray[np.float64]:
        """Coefficients by column; ``one`` is that of the constant."""
        row = np.zeros(len(self.names))
        for name, value in coefficients.items():
            row[self.names.index("1" if name == "one" else name)] += value
        return row

    def covariance(self, contrasts: NDArray[np.float64]) -> NDArray[np.float64]:
        """CR1 covariance of the contrasts; for rows the factor is n / (n - 1)."""
        factor = self.n_units / (self.n_units - 1)
        if self.units is None:
            product = contrasts @ self.gram @ contrasts.T
        else:
            parts = self.units @ contrasts.T
            product = parts.T @ parts
        np.fill_diagonal(product, np.maximum(np.diag(product), 0.0))  # rounding below 0
        return np.asarray(factor * product)

    def well_conditioned(self, contrasts: NDArray[np.float64]) -> bool:
        """Whether the variances are not small differences of large numbers."""
        terms = (contrasts**2) @ np.diag(self.gram)
        with np.errstate(invalid="ignore"):
            variances = np.diag(contrasts @ self.gram @ contrasts.T)
        return bool(np.isfinite(variances).all() and (variances >= _ILL_CONDITIONED * terms).all())


def _contrasts(
    scores: _Scores, pilot: Pilot, *, normalise: bool, lift: bool, clip: float | None
) -> NDArray[np.float64]:
    """Influences as combinations of columns: of the value (or lift), logged mean, mean weight."""
    n = scores.total("1")
    unit = _unit(pilot, normalise=normalise, lift=lift)
    scale = pilot.scale["r" if normalise else "wr"] / unit
    if normalise:
        weight = n + scores.total("x")
        if weight <= 0:
            raise ValueError(
                "at least one logged action must be possible under the target policy; none of the "
                f"{int(n)} rows has any weight: this log says nothing of that policy"
            )
        level = scores.total("z") / weight
        value = scores.contrast(z=1.0, x=-level, one=-level) * (scale / weight)
    else:
        value = scores.contrast(z=1.0, one=-scores.total("z") / n) * (scale / n)
    raw = "x" if clip is None else "u"
    mean_weight = scores.contrast(**{raw: 1.0, "one": -scores.total(raw) / n}) / n
    logged = np.zeros_like(value)
    if lift:
        share = pilot.scale["r"] / unit / n
        logged = scores.contrast(y=1.0, one=-scores.total("y") / n) * share
        value = value - logged
    return np.stack([value, logged, mean_weight])


def _unit(pilot: Pilot, *, normalise: bool, lift: bool) -> float:
    """Power of two in which variances are computed, so that squares do not overflow."""
    scale = pilot.scale["r" if normalise else "wr"]
    return max(scale, pilot.scale["r"]) if lift else scale


def _estimate(
    scores: _Scores,
    pilot: Pilot,
    contrasts: NDArray[np.float64],
    covariance: NDArray[np.float64],
    *,
    normalise: bool,
    lift: bool,
) -> Estimate:
    """Back in the units of the reward."""
    n = scores.total("1")
    name = "r" if normalise else "wr"
    divisor = n + scores.total("x") if normalise else n
    unit = _unit(pilot, normalise=normalise, lift=lift)
    logged = math.nan
    if lift:
        logged = pilot.centre["r"] + pilot.scale["r"] * scores.total("y") / n
    by_cluster = None
    if scores.units is not None and scores.keys is not None:
        by_cluster = (scores.keys, scores.units @ contrasts[0] * unit)
    return Estimate(
        value=pilot.centre[name] + pilot.scale[name] * scores.total("z") / divisor,
        logged_mean=logged,
        covariance=covariance[:2, :2] * unit * unit,
        lift=lift,
        n_obs=int(n),
        n_clusters=None if scores.units is None else scores.n_units,
        mean_weight=1.0 + scores.total("x") / n,
        scores=by_cluster,
    )


def _weight_sums(
    weighted: Rows,
    sums: Groups,
    edge: float,
    *,
    mean: float,
    mean_std_error: float,
    largest_reward: float,
) -> WeightSums:
    """Sums for the diagnostics, with the largest weights themselves."""
    n = int(sums.n[0])
    total = {name: float(values[0]) for name, values in sums.values.items()}
    if not top_count(n) <= total["above"] <= _MOST_FETCHED * top_count(n):
        edge = _edge(weighted, n)
    return WeightSums(
        n=n,
        total=total["weight"],
        squares=total["square"],
        top=weighted.where(lambda c: c["v"] >= edge).fetch(["v"])["v"],
        mean=mean,
        mean_std_error=mean_std_error,
        n_zero=_count(weighted, lambda c: c["t"] == 0),
        rewarded=_count(weighted, lambda c: (c["t"] > 0) & (c["r"] != 0)),
        n_clipped=int(total.get("clipped", 0)),
        clipping_bias_bound=total.get("excess", 0.0) / n * largest_reward,
    )


def _edge(weighted: Rows, n: int) -> float:
    """A weight that the `top_count(n)` largest reach, and few others, from counts in bins."""
    bins = weighted.derive({"bin": lambda c: _bin(c["v"])}).sums(["bin"], {})
    from_the_top = np.cumsum(bins.n[::-1])[::-1]
    enough = np.flatnonzero(from_the_top >= top_count(n))[-1]
    # a hair below the bin's edge: the logarithm is rounded
    edge = 2.0 ** (float(bins.keys["bin"][enough]) / _BINS_AN_OCTAVE) * (1 - 1e-9)
    return edge if edge > 2 * _LEAST else 0.0


def _count(rows: Rows, condition: Expression) -> int:
    """How many rows meet a condition; as a filter, which files often answer from their figures."""
    return int(rows.where(condition).sums([], {}).n[0])
