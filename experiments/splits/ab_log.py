"""Opening a log for an A/B read-out: roles, units, weights and missing values are checked here."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from causal.effect import EstimationWarning
from causal.frame import Table, check_columns, column_names
from causal.rows import Expression, column, open_rows, present, select
from causal.words import number_in_words
from experiments.splits.metric import Mean, Metric, Ratio
from experiments.splits.records import (
    MOST_CROSSING,
    Log,
    all_present,
    metric_columns,
    record_key,
    sums_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def open_log(
    frame: Table,
    *,
    metrics: Sequence[Metric],
    arm: str,
    unit: str | None = None,
    cluster: str | None = None,
    weight: str | None = None,
    trigger: str | None = None,
    cells: Sequence[str] = (),
) -> Log:
    """Open and check a log for metrics."""
    names = column_names(frame)
    for metric in metrics:
        _check_roles(names, metric, arm, unit, cluster, weight, trigger)
    for metric in metrics:
        check_columns(names, {"arm": arm, "outcome": metric.outcomes, "by": list(cells)})
    wanted = [c for m in metrics for c in metric_columns(m)]
    numeric = {
        n: f"c{j}" for j, n in enumerate(dict.fromkeys([*wanted, *([weight] if weight else [])]))
    }
    per = [m.per for m in metrics if not isinstance(m, Ratio)]
    found = dict.fromkeys(c for c in [unit, cluster, *per, *cells] if c is not None)
    keys = {n: f"k{j}" for j, n in enumerate(found)}
    numbers = {alias: name for name, alias in numeric.items()}
    if trigger is not None:
        numbers["trigger"] = trigger
    labels = {"arm": arm} | {alias: name for name, alias in keys.items()}
    shape = (tuple(metrics), arm, numeric, keys, unit, cluster, weight, trigger, tuple(cells))
    keyed = all(record_key(m, cluster) is not None for m in metrics)
    summed = weight is None and (keyed or all(sums_rows(m, cluster) for m in metrics))
    log = _log(frame, shape, numbers, labels, finite=not summed)
    if summed and not log.sums_are_finite():
        log = _log(frame, shape, numbers, labels, finite=True)
    _check_complete(numbers, log.missing, weight, trigger)
    _check_weights(log)
    _check_units(log)
    return log


def _log(
    frame: Table,
    shape: tuple[Any, ...],
    numbers: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    finite: bool,
) -> Log:
    """The opened log, before its checks."""
    rows = open_rows(frame, numeric=numbers, labels=labels, finite=finite)
    return Log(rows, {alias: rows.n_missing(alias) for alias in numbers}, *shape)


def _check_roles(
    names: Sequence[Any],
    metric: Metric,
    arm: str,
    unit: str | None,
    cluster: str | None,
    weight: str | None,
    trigger: str | None,
) -> None:
    """Columns exist and none plays two parts; keys may coincide with each other only."""
    if isinstance(metric, Ratio):
        outcome: dict[str, Any] = {
            "numerator": metric.numerator,
            "denominator": metric.denominator,
            "covariate_ratio": metric.covariate_ratio,
        }
    else:
        outcome = {"outcome": metric.outcome}
    roles = {
        "arm": arm,
        **outcome,
        "covariates": metric.covariates,
        "weight": weight,
        "trigger": trigger,
    }
    check_columns(names, roles)
    per = None if isinstance(metric, Ratio) else metric.per
    for role, key in (("unit", unit), ("cluster", cluster), ("per", per)):
        check_columns(names, {**roles, role: key})
    if weight is not None and (per is not None or not isinstance(metric, Mean)):
        raise ValueError(
            f"weight goes with a mean over rows; metric {metric.label!r} sums rows or ranks them: "
            "weight the column before"
        )


def _check_complete(
    numbers: Mapping[str, str], gaps: Mapping[str, int], weight: str | None, trigger: str | None
) -> None:
    """Weights and triggers must be there."""
    for alias, name in numbers.items():
        if name in (weight, trigger) and gaps[alias]:
            role = "weight" if name == weight else "trigger"
            raise ValueError(
                f"column {name!r} ({role}) must not be missing; {gaps[alias]} rows are; "
                "drop or fill them"
            )


def _check_weights(log: Log) -> None:
    """Weights are not negative and not all 0; triggers are 0 or 1."""
    if log.weight is not None:
        w = log.numeric[log.weight]
        found = log.rows.sums([], {"bad": lambda c: select(c[w] < 0, 1.0), "sum": column(w)}).values
        if found["bad"][0] or found["sum"][0] <= 0:
            raise ValueError(
                f"column {log.weight!r} (weight) must be >= 0 and not all 0; "
                f"{int(found['bad'][0])} rows are negative; drop or correct them"
            )
    if log.trigger is not None:
        odd = {"odd": lambda c: select(c["trigger"] * (c["trigger"] - 1.0) != 0, 1.0)}
        if count := log.rows.sums([], odd).values["odd"][0]:
            raise ValueError(
                f"column {log.trigger!r} (trigger) must be 0 or 1; {int(count)} rows are not; "
                "correct them"
            )


def _check_units(log: Log) -> None:
    """`unit=` claims one row a unit, or one cluster or sum, and one arm in any case."""
    if log.unit is None:
        return
    alias = log.keys[log.unit]
    if log.cluster == log.unit or all(log.record_key(m) == log.unit for m in log.metrics):
        pairs = log.units(log.unit)
        if log.cluster not in (None, log.unit):
            pairs = pairs.grouped(["arm", alias], {})
        crossing, some = log.crossing(pairs, log.unit)
        if crossing:
            raise ValueError(
                f"unit {log.unit!r} must be in one arm; {crossing} units are in several, e.g. "
                f"{', '.join(map(str, some))}; drop them, or leave unit= out: clusters may cross"
            )
        return
    repeated = log.rows.grouped([alias], {}).where(lambda c: c["n"] > 1)
    count = int(repeated.sums([], {}).n[0])
    if count == 0:
        return
    some = repeated.fetch([alias])[alias][:5].tolist()
    crossing, _ = log.crossing(log.rows.grouped(["arm", alias], {}), log.unit)
    where = f", {crossing} of them in both arms" if crossing else ""
    raise ValueError(
        f"unit {log.unit!r} must be unique: one row a unit; {count} units repeat{where}, "
        f"e.g. {', '.join(map(str, some))}; sum rows with per=, or say cluster={log.unit!r}"
    )


def report_missing(log: Log, missing: str, arms: Sequence[object]) -> None:
    """Refuse missing values of the arms, or warn once about the rows that are left out."""
    names = {alias: name for name, alias in log.numeric.items()}
    gappy = [alias for alias, n in log.missing.items() if n and alias in names]
    if not gappy:
        return
    complete = all_present(gappy)
    absent = {a: _absent(a) for a in gappy}
    found = log.rows.sums(["arm"], {"kept": lambda c: select(complete(c), 1.0), **absent})
    mine = np.array([a in arms for a in found.keys["arm"].tolist()])
    gone = {names[a]: int(found.values[a][mine].sum()) for a in gappy}
    columns = ", ".join(f"{name!r} ({n} rows)" for name, n in gone.items() if n)
    if not columns:
        return
    if missing == "raise":
        raise ValueError(
            f"columns must not be missing: {columns}; drop or fill them, or missing='drop'"
        )
    n, labels = found.n[mine], found.keys["arm"][mine].tolist()
    left_out = n - found.values["kept"][mine]
    p = _equal_shares(left_out, n, _cluster_variance(log, gappy, left_out / n, labels))
    share = zip(labels, (100 * left_out / n).tolist(), strict=True)
    by_arm = ", ".join(f"{a}: {number_in_words(s, 2)}%" for a, s in share)
    warnings.warn(
        f"rows with missing values are left out: {columns}; share by arm {by_arm}; test that the "
        f"shares are equal: p = {p:.3g}"
        + ("; missingness differs by arm, so the effect may be biased" * (p < 0.01)),
        EstimationWarning,
        stacklevel=4,
    )


def _absent(name: str) -> Expression:
    """Formula: 1 where the number is missing."""
    return lambda c: 1.0 - select(present(c[name]), 1.0)


def _cluster_variance(
    log: Log, gappy: Sequence[str], share: NDArray[np.float64], arms: Sequence[object]
) -> NDArray[np.float64] | None:
    """Variance of each arm's share of rows with gaps over clusters (or units); None without."""
    per = {log.record_key(m) for m in log.metrics} - {None}
    key = log.cluster or (per.pop() if len(per) == 1 else None)
    if key is None or log.crossing_share(key, log.arms) > MOST_CROSSING:
        return None
    complete = all_present(gappy)
    alias = log.keys[key]
    clusters = log.rows.grouped(["arm", alias], {"kept": lambda c: select(complete(c), 1.0)})
    moments = {"mm": lambda c: (c["n"] - c["kept"]) ** 2, "nn": lambda c: c["n"] ** 2}
    moments |= {"mn": lambda c: (c["n"] - c["kept"]) * c["n"], "n": column("n")}
    found = clusters.sums(["arm"], moments)
    at = [found.keys["arm"].tolist().index(a) for a in arms]
    v = {name: values[at] for name, values in found.values.items()}
    g = found.n[at]
    square = v["mm"] - 2 * share * v["mn"] + share**2 * v["nn"]
    return np.asarray(np.maximum(square, 0.0) / v["n"] ** 2 * g / np.maximum(g - 1, 1))


def _equal_shares(
    count: NDArray[np.float64], n: NDArray[np.int64], variance: NDArray[np.float64] | None
) -> float:
    """P-value of the test that shares are equal over arms; by clusters where there are any."""
    pooled = count.sum() / n.sum()
    if pooled in (0.0, 1.0):
        return 1.0
    v = pooled * (1 - pooled) / n
    if variance is not None:  # what clusters add to independent rows, the same in every arm
        share = count / n
        own = np.where(share * (1 - share) > 0, share * (1 - share) / n, 1.0)
        v = v * max(1.0, float(np.max(variance / own)))
    weight = 1 / v
    centre = float(weight @ (count / n) / weight.sum())
    statistic = float(weight @ (count / n - centre) ** 2)
    return float(special.chdtrc(len(n) - 1, statistic))
