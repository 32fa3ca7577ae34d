"""From a log to records: one row for each unit that a metric averages over.

The log is opened once for all metrics. Metrics that count per viewer share one aggregation to
viewers; their sums come from it. A record carries the aliases that `differences` reads:
``arm``, ``y``, for ratios ``d``, covariates ``x0 ...``, and where asked ``w cluster cell trigger``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.rows import Expression, Rows, both, column, present, select
from experiments.splits.metric import Mean, Metric, Quantile, Ratio
from experiments.splits.row_moments import RowMoments, row_moments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MOST_CROSSING = 0.1  # share of clusters in several arms beyond which arms were dealt to rows

Pair: TypeAlias = "tuple[object, object]"  # the control and a treatment


@dataclass(frozen=True)
class Records:
    """Records of one metric, ready to be compared between arms.

    `clusters` says how standard errors see them: ``"none"`` independent, ``"records"`` each record
    is a cluster (within its arm and cell), ``"coarser"`` records share clusters. `apart` says that
    no cluster is in both arms or in two cells, so that records are independent.
    """

    rows: Rows
    metric: Metric
    clusters: Literal["none", "records", "coarser"]
    apart: bool
    weighted: bool
    counted: str
    details: dict[str, Any]
    moments: RowMoments | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether a record has a denominator."""
        return isinstance(self.metric, Ratio)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names behind the aliases x0, x1 ..., in that order."""
        names = self.metric.covariates
        if isinstance(self.metric, Ratio) and self.metric.covariate_ratio is not None:
            return (*names, " / ".join(self.metric.covariate_ratio))
        return names

    def with_rows(self, rows: Rows) -> Records:
        """The same records behind other rows."""
        return Records(
            rows,
            self.metric,
            self.clusters,
            self.apart,
            self.weighted,
            self.counted,
            dict(self.details),
        )


@dataclass(frozen=True)
class Log:
    """A log opened once for several metrics; column names are behind aliases."""

    rows: Rows
    missing: Mapping[str, int]
    metrics: tuple[Metric, ...]
    arm: str
    numeric: Mapping[str, str]
    keys: Mapping[str, str]
    unit: str | None
    cluster: str | None
    weight: str | None
    trigger: str | None
    cells: tuple[str, ...]
    _aggregated: dict[tuple[str, ...], Rows] = field(default_factory=dict, repr=False)
    _crossing: dict[tuple[str, ...], float] = field(default_factory=dict, repr=False)

    def records(
        self, metric: Metric, arms: Pair, *, cell: str | None = None, cumulative: bool = False
    ) -> Records:
        """Records of two arms; by cell if asked, then `cumulative` repeats them under later cells.

        What is taken from both arms together (winsor limits, the ratio before) is taken from the
        whole, which is the last cell of cumulative records.
        """
        key = self.record_key(metric)
        if key is None:
            rows = self._single_rows(metric, arms, cell, cumulative=cumulative)
        else:
            rows = self._unit_rows(metric, key, arms, cell, cumulative=cumulative)
        limits: dict[str, Any] = {}
        if _needs_the_whole(metric):
            whole = _last_cell(rows) if cumulative else rows
            if isinstance(metric, Mean):
                rows, limits = _winsorised(rows, whole, metric)
            else:
                rows = _linearised_covariate(rows, whole, len(metric.covariates))
        clusters: Literal["none", "records", "coarser"] = "none"
        if key is not None and self.cluster in (None, key):
            clusters = "records"
        elif self.cluster is not None:
            clusters = "coarser"
            if key is not None:
                self._check_nested(key, self.cluster)
        elif cumulative:
            clusters = "records"
        return Records(
            rows=rows,
            metric=metric,
            clusters=clusters,
            apart=clusters == "none"
            or (
                clusters == "records" and cell is None and key is not None and self.apart(key, arms)
            ),
            weighted=self.weight is not None,
            counted=_noun(key or self._row_unit),
            details={**_words_about(metric, key), **limits},
            moments=self._moments_of(metric) if cell is None else None,
        )

    def _moments_of(self, metric: Metric) -> RowMoments | None:
        """The metric's part of the moments that row metrics share, where it has one."""
        if not self._is_plain(metric) or self._row_moments is None:
            return None
        return self._row_moments.of([self.numeric[n] for n in record_aliases(metric).values()])

    @cached_property
    def _row_moments(self) -> RowMoments | None:
        """Moments by arm of the plain row metrics."""
        plain = [m for m in self.metrics if self._is_plain(m)]
        return row_moments(self.rows, [[self.numeric[c] for c in metric_columns(m)] for m in plain])

    def _is_plain(self, metric: Metric) -> bool:
        """Whether rows are the metric's records as they are."""
        weighed = self.weight is not None or self.trigger is not None
        return not (weighed or self.gaps(metric)) and sums_rows(metric, self.cluster)

    @cached_property
    def arms(self) -> list[Any]:
        """The arms that occur, sorted; read off the units where rows are summed to units anyway."""
        key = next((k for k in map(self.record_key, self.metrics) if k is not None), None)
        if key is None:
            return list(self.row_counts)
        return [_plain(a) for a in self.units(key).sums(["arm"], {}).keys["arm"]]

    @cached_property
    def row_counts(self) -> dict[Any, int]:
        """Rows by arm."""
        shared = self._row_moments
        found = self.rows.sums(["arm"], {}) if shared is None else shared.groups
        return {_plain(a): int(n) for a, n in zip(found.keys["arm"], found.n, strict=True)}

    @property
    def _row_unit(self) -> str | None:
        """The column whose values are rows: a unit that may not repeat."""
        return None if self.unit == self.cluster else self.unit

    def among(self, rows: Rows, arms: Pair) -> Rows:
        """Only the rows of two arms."""
        if set(self.arms) <= set(arms):
            return rows
        return rows.where(lambda c: (c["arm"] == arms[0]) | (c["arm"] == arms[1]))

    def apart(self, key: str, arms: Pair) -> bool:
        """Whether no value of the key is in both arms: then the arms are independent."""
        return self.crossing_share(key, arms) == 0

    def crossing_share(self, key: str, arms: Sequence[object]) -> float:
        """Share of the key's values that are in several of these arms."""
        if key == self.unit:  # refused at the door otherwise
            return 0.0
        known = (key, *sorted(map(str, arms)))
        if known not in self._crossing:
            pairs = (
                self.units(key)
                if set(self.arms) <= set(arms)
                else self.among(self.units(key), (arms[0], arms[1]))
            )
            if self.cluster not in (None, key):  # a value may be in several clusters
                pairs = pairs.grouped(["arm", self.keys[key]], {})
            whole = pairs.grouped([self.keys[key]], {}).sums(
                [], {"shared": lambda c: select(c["n"] > 1, 1.0)}
            )
            self._crossing[known] = float(whole.values["shared"][0]) / int(whole.n[0])
        return self._crossing[known]

    def crossing(self, pairs: Rows, key: str) -> tuple[int, list[Any]]:
        """How many values of the key are in several arms, and the first; one row an arm and key."""
        alias = self.keys[key]
        shared = pairs.grouped([alias], {}).where(lambda c: c["n"] > 1)
        count = int(shared.sums([], {}).n[0])
        return count, shared.fetch([alias])[alias][:5].tolist() if count else []

    def sums_are_finite(self) -> bool:
        """Whether sums that are needed anyway prove that every number is finite.

        Sums leave out rows with gaps, whose other numbers then are not known.
        """
        if any(self.missing.values()):
            return False
        if any(self.record_key(m) is None for m in self.metrics):
            plain = all(self._is_plain(m) for m in self.metrics)
            return plain and self._row_moments is not None and self._row_moments.finite
        totals: dict[str, Expression] = {name: column(name) for name in self._sums()}
        keys = {str(self.record_key(m)) for m in self.metrics}
        found = [self.units(key).sums([], totals).values for key in keys]
        return all(np.isfinite(v).all() for values in found for v in values.values())

    def record_key(self, metric: Metric) -> str | None:
        """The column whose values are the metric's records; None when rows are."""
        return record_key(metric, self.cluster)

    def counting_key(self) -> str | None:
        """The column whose values are counted for the sample ratio; None when rows are.

        A key of which many values are in several arms was not what the arms were dealt to.
        """
        per = {self.record_key(m) for m in self.metrics} - {None}
        candidates = (self.unit, self.cluster, per.pop() if len(per) == 1 else None)
        for key in candidates:
            if key is not None and self.crossing_share(key, self.arms) <= MOST_CROSSING:
                return key
        return None

    def units(self, key: str, cell: str | None = None) -> Rows:
        """Sums of every metric's columns per arm, key (cluster) and cell."""
        cluster = [self.cluster] if self.cluster not in (None, key) else []
        cells = [cell] if cell is not None else []
        by = ("arm", *(self.keys[c] for c in dict.fromkeys([key, *cluster, *cells]) if c))
        if by in self._aggregated:
            return self._aggregated[by]
        finest = ("arm", *(self.keys[c] for c in dict.fromkeys([key, *cluster, *self.cells]) if c))
        sums = self._sums()
        if finest not in self._aggregated:
            self._aggregated[finest] = self.rows.grouped(finest, sums)
        if by != finest:
            again: dict[str, Expression] = {name: column(name) for name in sums}
            self._aggregated[by] = self._aggregated[finest].grouped(by, again)
        return self._aggregated[by]

    def _sums(self) -> dict[str, Expression]:
        """Formulas of all sums that some metric needs, each once."""
        sums: dict[str, Expression] = {"rows": lambda _: 1.0}
        if self.trigger is not None:
            sums["trigger"] = column("trigger")
        for metric in self.metrics:
            gaps = self.gaps(metric)
            for name in metric_columns(metric):
                sums[self._sum_alias(metric, name)] = _masked(self.numeric[name], gaps)
            if gaps:
                sums[self._sum_alias(metric, None)] = _masked(None, gaps)
        return sums

    def _sum_alias(self, metric: Metric, column: str | None) -> str:
        """Alias of a column's sum; metrics with the same gaps share it. None is the count."""
        gaps = self.gaps(metric)
        what = "rows" if column is None else f"sum_{self.numeric[column]}"
        return "_".join([what, *gaps]) if gaps else what

    def gaps(self, metric: Metric) -> tuple[str, ...]:
        """Aliases of the metric's columns that have missing values."""
        names = metric_columns(metric)
        return tuple(sorted({self.numeric[n] for n in names if self.missing.get(self.numeric[n])}))

    def _single_rows(
        self, metric: Metric, arms: Pair, cell: str | None, *, cumulative: bool
    ) -> Rows:
        """Rows themselves as records."""
        gaps, rows = self.gaps(metric), self.among(self.rows, arms)
        rows = rows.where(all_present(gaps)) if gaps else rows
        columns = {a: column(self.numeric[n]) for a, n in record_aliases(metric).items()}
        if self.weight is not None:
            weight = column(self.numeric[self.weight])
            rows, columns["w"] = rows.where(lambda c: weight(c) > 0), weight
        columns |= self._key_columns(self.cluster, cell)
        if cumulative:
            if self.cluster is None:
                rows = rows.numbered("cluster")
            return rows.derive(columns).accumulated("cell")
        return rows.derive(columns)

    def _unit_rows(
        self, metric: Metric, key: str, arms: Pair, cell: str | None, *, cumulative: bool
    ) -> Rows:
        """Units as records: sums of the outcome, means of the covariates."""
        rows = self.among(self.units(key, cell), arms)
        gaps = self.gaps(metric)
        count = self._sum_alias(metric, None)
        if cumulative and cell is not None:
            by = ["arm", *(self.keys[c] for c in dict.fromkeys([key, self.cluster, cell]) if c)]
            again: dict[str, Expression] = {name: column(name) for name in self._sums()}
            rows = rows.accumulated(self.keys[cell]).grouped(by, again)
        if gaps:
            rows = rows.where(lambda c: c[count] > 0)
        columns: dict[str, Expression] = {}
        for alias, name in record_aliases(metric).items():
            total = self._sum_alias(metric, name)
            columns[alias] = _mean_of(total, count) if alias.startswith("x") else column(total)
        columns |= self._key_columns(self.cluster or key, cell)
        return rows.derive(columns)

    def _check_nested(self, key: str, cluster: str) -> None:
        """A unit in two clusters would be two units."""
        by = [self.keys[key], self.keys[cluster]]
        clusters = self.units(key).grouped(by, {}).grouped(by[:1], {})
        split = clusters.where(lambda c: c["n"] > 1)
        if count := int(split.sums([], {}).n[0]):
            some = split.fetch(by[:1])[by[0]][:5].tolist()
            raise ValueError(
                f"per {key!r} must lie within one cluster of {cluster!r}; {count} do not, e.g. "
                f"{', '.join(map(str, some))}; take cluster={key!r} or a cluster that holds them"
            )

    def _key_columns(self, cluster: str | None, cell: str | None) -> dict[str, Expression]:
        """Aliases ``cluster`` and ``cell``."""
        pairs = {"cluster": cluster, "cell": cell}
        return {alias: column(self.keys[name]) for alias, name in pairs.items() if name}


def record_key(metric: Metric, cluster: str | None) -> str | None:
    """The column whose values are the metric's records."""
    return cluster if isinstance(metric, Ratio) else metric.per


def sums_rows(metric: Metric, cluster: str | None) -> bool:
    """Whether the metric is made of sums over rows as they are."""
    if isinstance(metric, Quantile) or record_key(metric, cluster) is not None:
        return False
    return (metric.winsor if isinstance(metric, Mean) else metric.covariate_ratio) is None


def record_aliases(metric: Metric) -> dict[str, str]:
    """Column behind each alias of a record: y, d, x0 ..., and p0, p1 of a covariate ratio."""
    aliases = dict(zip(("y", "d"), metric.outcomes, strict=False))
    aliases |= {f"x{j}": name for j, name in enumerate(metric.covariates)}
    if isinstance(metric, Ratio) and metric.covariate_ratio is not None:
        aliases |= {"p0": metric.covariate_ratio[0], "p1": metric.covariate_ratio[1]}
    return aliases


def metric_columns(metric: Metric) -> list[str]:
    """The columns that a metric reads, each once."""
    return list(dict.fromkeys(record_aliases(metric).values()))


def _needs_the_whole(metric: Metric) -> bool:
    """Whether records depend on both arms together."""
    if isinstance(metric, Mean):
        return metric.winsor is not None
    return isinstance(metric, Ratio) and metric.covariate_ratio is not None


def _last_cell(rows: Rows) -> Rows:
    """The cell of cumulative records that holds everything."""
    last = rows.sums(["cell"], {}).keys["cell"][-1:].tolist()
    return rows.where(lambda c: c["cell"] == last[0]) if last else rows


def _winsorised(rows: Rows, whole: Rows, metric: Mean) -> tuple[Rows, dict[str, Any]]:
    """Outcome and covariates cut at quantiles of their own, over both arms together."""
    low, high = metric.winsor or (0.0, 1.0)
    n = int(whole.sums([], {}).n[0])
    if n == 0:
        return rows, {}
    limits: dict[str, Any] = {}
    cut: dict[str, Expression] = {}
    for alias, name in record_aliases(metric).items():
        a, b = (_linear_quantile(whole, alias, q, n) for q in (low, high))
        share = whole.sums([], {"low": _beyond(alias, a, -1.0), "high": _beyond(alias, b, 1.0)})
        limits[name] = {
            "low": a,
            "high": b,
            "share_below": float(share.values["low"][0]) / n,
            "share_above": float(share.values["high"][0]) / n,
        }
        cut[alias] = _clipped(alias, a, b)
    return rows.derive(cut), {"winsor": limits}


def _beyond(name: str, limit: float, side: float) -> Expression:
    """Formula: 1 where the column lies beyond the limit on that side."""
    return lambda c: select(side * (c[name] - limit) > 0, 1.0)


def _clipped(name: str, low: float, high: float) -> Expression:
    """Formula of a column cut at limits."""
    return lambda c: c[name].clip(low, high)


def _linear_quantile(rows: Rows, column: str, q: float, n: int) -> float:
    """Quantile by linear interpolation between order statistics (numpy's default)."""
    position = q * (n - 1)
    below = int(np.floor(position))
    first, second = rows.order_statistics(column, [below + 1, min(below + 2, n)])
    return float(first + (position - below) * (second - first))


def _linearised_covariate(rows: Rows, whole: Rows, j: int) -> Rows:
    """The pre-period ratio as one more covariate: (p0 - R p1) / mean(p1), R over both arms."""
    total = whole.sums([], {"p0": column("p0"), "p1": column("p1")})
    n, p0, p1 = int(total.n[0]), float(total.values["p0"][0]), float(total.values["p1"][0])
    if n and p1 == 0:
        raise ValueError("the denominator of covariate_ratio sums to 0; leave covariate_ratio out")
    ratio, scale = (p0 / p1, n / p1) if n else (0.0, 1.0)
    return rows.derive({f"x{j}": lambda c: (c["p0"] - ratio * c["p1"]) * scale})


def _masked(name: str | None, gaps: tuple[str, ...]) -> Expression:
    """Formula of a column (of 1 when None) where all gappy columns are there, 0 elsewhere."""
    complete = all_present(gaps)
    if name is None:
        return lambda c: select(complete(c), 1.0)
    return column(name) if not gaps else lambda c: select(complete(c), c[name])


def all_present(gaps: Sequence[str]) -> Expression:
    """Formula: no gap in any of the columns."""

    def complete(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an Ibis expression
        there = present(c[gaps[0]])
        for name in gaps[1:]:
            there = both(there, present(c[name]))
        return there

    return complete


def _mean_of(total: str, count: str) -> Expression:
    """Formula of a sum over its number of rows."""
    return lambda c: c[total] / c[count]


def _plain(value: object) -> Any:  # noqa: ANN401 — a label of any kind
    """A Python scalar out of numpy's."""
    return value.item() if isinstance(value, np.generic) else value


def _noun(key: str | None) -> str:
    """``viewer_id`` counts viewers; without a key, rows are counted."""
    if key is None:
        return "rows"
    return f"{key.removesuffix('_id')}s" if key.endswith("_id") else f"values of {key}"


def _words_about(metric: Metric, key: str | None) -> dict[str, Any]:
    """Details that say what a record is."""
    words: dict[str, Any] = {"metric": metric.label}
    if not isinstance(metric, Ratio) and metric.outcome.endswith("_s"):
        words["unit"] = "s"
    if key is not None and isinstance(metric, Mean | Quantile):
        words["per"] = f"rows summed to {key}; a {key} without a row is not counted"
    return words
