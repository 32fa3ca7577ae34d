"""What a panel is to every regression on cohorts: counts, mean paths and their cross products.

Units of one cohort (stratum, cluster, pattern of observed periods) have the same regressors, so
that points and unit-clustered errors of every specification follow from these few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causal.frame import Table, check_one_of, in_memory_rows
from causal.panel.adoption import check_adoption, last_rows, shown
from causal.panel.times import Times
from causal.panel.unit_panel import (
    Aggregate,
    PanelColumns,
    UnitPanel,
    from_memory,
    panel_columns,
    warn,
    warn_gaps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from causal.values import JsonScalar

__all__ = ["PanelMoments", "panel_moments"]

Missing = Literal["raise", "drop_units", "pattern"]

MOST_PATTERNS = 256
_SKETCH = 256  # least hashes of units that are kept to see whether two parts share units


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PanelMoments:
    """Counts, mean paths and centred cross products of the units of each group.

    A group is a cohort, within a stratum, a cluster and a pattern of observed periods where these
    were asked for. Moments of disjoint units add; days of the *same* units do not.

    Parameters
    ----------
    times : Times
        The T periods.
    first : int64 array (G,)
        First treated position of the group; T for never, 0 for always.
    stratum, cluster : int64 arrays (G,), optional
        Codes into `strata` and `cluster_labels`.
    present : bool array (G, T)
        The periods in which units of the group have rows.
    n : int64 array (G,)
        Units.
    mean : float64 array (G, T)
        0 where not present.
    cross : float64 array (G, T, T), optional
        Sum of (y - mean)(y - mean)'; None with clusters, whose sums need means only.
    columns : mapping from role to column
        What was read.
    n_obs : int
        Rows that entered.
    later : bool array (G,), optional
        Groups whose cohort lies after the last period; they count as never treated here.
    sketch : tuple of int, optional
        Least hashes of the units' labels; None where units came from an engine.
    """

    times: Times
    first: NDArray[np.int64]
    present: NDArray[np.bool_]
    n: NDArray[np.int64]
    mean: NDArray[np.float64]
    cross: NDArray[np.float64] | None
    columns: Mapping[str, Any]
    n_obs: int
    stratum: NDArray[np.int64] | None = None
    strata: tuple[JsonScalar, ...] = ()
    cluster: NDArray[np.int64] | None = None
    cluster_labels: tuple[JsonScalar, ...] = ()
    later: NDArray[np.bool_] | None = None
    sketch: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.n)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PanelMoments):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.times, tuple(self.n.tolist()), tuple(self.mean.ravel().tolist())))

    def __repr__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Counts of units, periods, rows and groups in one line."""
        groups = "" if self.balanced else f", {len(np.unique(self.present, axis=0))} patterns"
        return (
            f"PanelMoments of {self.columns['outcome']!r}: {self.n_units:,} units in "
            f"{len(self.times)} periods, {self.n_obs:,} rows, {len(self):,} groups{groups}"
        )

    def __add__(self, other: PanelMoments) -> PanelMoments:
        return self.merge(other)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return int(self.n.sum())

    @property
    def balanced(self) -> bool:
        """Whether every unit has a row in every period."""
        return bool(self.present.all())

    def cluster_codes(self) -> tuple[NDArray[np.int64], int]:
        """Dense codes of the groups' clusters, and their number; only for moments by cluster."""
        if self.cluster is None:
            raise ValueError("these moments are not by cluster")
        levels, codes = np.unique(self.cluster, return_inverse=True)
        return codes.reshape(-1), len(levels)

    @property
    def keys(self) -> pd.DataFrame:
        """One row a group: cohort (None for never), stratum, cluster, n_units."""
        labels = (*self.times.labels, None)
        found: dict[str, Any] = {"cohort": pd.Series([labels[f] for f in self.first], dtype=object)}
        if self.stratum is not None:
            found["stratum"] = [self.strata[s] for s in self.stratum]
        if self.cluster is not None:
            found["cluster"] = [self.cluster_labels[c] for c in self.cluster]
        return pd.DataFrame({**found, "n_units": self.n})

    def select(self, /, **values: object) -> PanelMoments:
        """Only the groups of this cohort, stratum or cluster; ``cohort=None`` is never treated.

        Raises
        ------
        ValueError
            If a key is unknown or no group has these values.
        """
        keys = self.keys
        keep: NDArray[np.bool_] = np.ones(len(self), dtype=np.bool_)
        for name, value in values.items():
            if name not in keys or name == "n_units":
                raise ValueError(f"select takes cohort, stratum and cluster; got {name!r}")
            same = [key == value for key in keys[name].tolist()]
            keep = np.logical_and(keep, same)
        if not keep.any():
            raise ValueError(f"no group has {values}; groups are {keys.to_dict('records')[:5]}")
        return _pruned(self.kept(keep))

    def kept(self, keep: NDArray[np.bool_]) -> PanelMoments:
        """Only some groups; the number of rows counts theirs."""
        rows = int((self.n[:, None] * self.present)[keep].sum())
        return replace(
            self,
            first=self.first[keep],
            present=self.present[keep],
            n=self.n[keep],
            mean=self.mean[keep],
            cross=None if self.cross is None else self.cross[keep],
            stratum=None if self.stratum is None else self.stratum[keep],
            cluster=None if self.cluster is None else self.cluster[keep],
            later=None if self.later is None else self.later[keep],
            sketch=self.sketch if keep.all() else None,
            n_obs=rows,
        )

    def within(self, seen: NDArray[np.bool_]) -> PanelMoments:
        """Only some periods of each group, (G, T); groups without any are left out."""
        present = self.present & seen
        some = replace(
            self,
            present=present,
            mean=np.where(present, self.mean, 0.0),
            cross=None
            if self.cross is None
            else np.where(present[:, :, None] & present[:, None, :], self.cross, 0.0),
        )
        return some.kept(np.asarray(present.any(axis=1)))

    def merge(self, other: PanelMoments, *, disjoint_units: bool = False) -> PanelMoments:
        """Moments of both parts, whose units must be different ones.

        Parameters
        ----------
        other : PanelMoments
            Of the same columns and times.
        disjoint_units : bool
            Say True to promise that no unit is in both parts: needed where the parts came from
            engines. Otherwise the parts' sketches of units are compared: a part given twice, or
            overlapping widely, is seen; a few shared units may not be.

        Raises
        ------
        ValueError
            If times or columns differ, or units are, or may be, in both parts.

        References
        ----------
        Chan, Golub and LeVeque (1983). Algorithms for computing the sample variance, eq. 2.1.
        """
        if self.times != other.times:
            raise ValueError(
                "panel moments add over units with the same times; got "
                f"{self.times.labels[:3]} and {other.times.labels[:3]} ...; days of the same units "
                "do not add: read them together"
            )
        if dict(self.columns) != dict(other.columns):
            raise ValueError(
                f"panel moments add when they are of the same columns; got {dict(self.columns)} "
                f"and {dict(other.columns)}; read both with the same names"
            )
        if not disjoint_units:
            _refuse_shared(self, other)
        return _pooled(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back equal moments."""
        return {
            "times": self.times.to_dict(),
            "first": self.first.tolist(),
            "present": self.present.astype(int).tolist(),
            "n": self.n.tolist(),
            "mean": self.mean.tolist(),
            "cross": None if self.cross is None else self.cross.tolist(),
            "columns": dict(self.columns),
            "n_obs": self.n_obs,
            "stratum": None if self.stratum is None else self.stratum.tolist(),
            "strata": list(self.strata),
            "cluster": None if self.cluster is None else self.cluster.tolist(),
            "cluster_labels": list(self.cluster_labels),
            "later": None if self.later is None else self.later.tolist(),
            "sketch": None if self.sketch is None else list(self.sketch),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> PanelMoments:
        """Make moments from what `to_dict` returned, also after JSON."""
        times = Times.from_dict(d["times"])
        n, t = len(d["n"]), len(times)
        return cls(
            times=times,
            first=np.array(d["first"], dtype=np.int64),
            present=np.array(d["present"], dtype=bool).reshape(n, t),
            n=np.array(d["n"], dtype=np.int64),
            mean=np.array(d["mean"], dtype=np.float64).reshape(n, t),
            cross=None if d["cross"] is None else np.array(d["cross"]).reshape(n, t, t),
            columns=dict(d["columns"]),
            n_obs=int(d["n_obs"]),
            strata=tuple(d["strata"]),
            cluster_labels=tuple(d["cluster_labels"]),
            later=None if d["later"] is None else np.array(d["later"], dtype=bool),
            sketch=None if d["sketch"] is None else tuple(d["sketch"]),
            stratum=None if d["stratum"] is None else np.array(d["stratum"], dtype=np.int64),
            cluster=None if d["cluster"] is None else np.array(d["cluster"], dtype=np.int64),
        )


def panel_moments(
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str | None = None,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    never: Any = None,  # noqa: ANN401 — a time of any kind
    stratum: str | None = None,
    cluster: str | None = None,
    aggregate: Aggregate = None,
    missing: Missing = "raise",
) -> PanelMoments:
    """Read a log once into the moments that every function marked [M] takes in place of a table.

    For logs that are read often or are too large to keep: the result is a few kB, in memory or from
    an engine alike, and adds over disjoint units. An Ibis table, a DuckDB relation or Parquet is
    summed to one record a unit where it lives, in parts of bounded memory.

    Parameters
    ----------
    table : Table
        One row a unit and period, or several with `aggregate`.
    outcome, unit, time : str
        Columns; the outcome finite.
    cohort : str, optional
        Column of the first treated time; missing, NaT or infinite for never. 0 is *not* never
        unless ``never=0``.
    treatment : str, optional
        0/1 column: with `start` constant within unit, alone the status of each row.
    start, never
        A time.
    stratum, cluster : str, optional
        Columns that are constant within unit.
    aggregate : {"mean", "sum"}, optional
        What to do with several rows of a unit in a period; by default they raise.
    missing : {"raise", "drop_units", "pattern"}
        Units without a row in some period: refused, dropped with a warning, or kept as groups of
        their own pattern of periods (exact, up to 256 patterns).

    Returns
    -------
    PanelMoments

    Raises
    ------
    ValueError
        On missing or doubled columns, repeated (unit, time) rows, labels that change within a unit,
        unbalanced units with ``missing="raise"``, more than 256 patterns.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        If units are dropped, or the calendar skips periods.

    Notes
    -----
    Means and cross products are centred before squaring and merged pairwise, so that an offset of
    1e9 costs no digit.

    References
    ----------
    Chan, Golub and LeVeque (1983), eq. 2.1.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"id": [1, 1, 2, 2], "day": [0, 1, 0, 1], "y": [1.0, 3, 2, 2]})
    >>> log["pendant_day"] = [1, 1, None, None]
    >>> panel_moments(log, outcome="y", unit="id", time="day", cohort="pendant_day").n_units
    2
    """
    check_one_of(missing, "missing", ("raise", "drop_units", "pattern"))
    asked = panel_columns(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        cohort=cohort,
        treatment=treatment,
        start=start,
        never=never,
        stratum=stratum,
        cluster=cluster,
        aggregate=aggregate,
    )
    if in_memory_rows(table) is not None:
        panel = from_memory(table, asked)
        warn_gaps(panel.times, time, stacklevel=4)
        return moments_of(panel, asked, missing=missing, check=False)
    found = engine_moments(table, asked, missing=missing)
    if found is None:
        raise _too_many_patterns()
    warn_gaps(found.times, time, stacklevel=4)
    return found


def engine_moments(
    table: Table, asked: PanelColumns, *, missing: Missing = "pattern"
) -> PanelMoments | None:
    """Moments of a table behind an engine, part by part; None for too many patterns."""
    from causal.panel.engine_units import unit_parts  # noqa: PLC0415 — ibis only when used

    whole: PanelMoments | None = None
    for part in unit_parts(table, asked):
        if missing == "pattern" and n_patterns(part.present) > MOST_PATTERNS:
            return None
        found = moments_of(part, asked, missing=missing, check=False)
        whole = found if whole is None else whole.merge(found, disjoint_units=True)
        if len(np.unique(whole.present, axis=0)) > MOST_PATTERNS:
            return None
    if whole is None:
        raise ValueError("the table is empty; at least one row is required")
    return replace(whole, sketch=None)


def moments_of(
    panel: UnitPanel, asked: PanelColumns, *, missing: Missing = "pattern", check: bool = True
) -> PanelMoments:
    """Moments of units by periods."""
    if not panel.balanced and missing != "pattern":
        gappy = ~panel.present.all(axis=1)
        if missing == "raise":
            raise ValueError(
                f"every unit {asked.said.unit!r} must have a row in every {asked.time!r}; "
                f"{int(gappy.sum())} units of {panel.n_units} have none in some, e.g. "
                f"{shown(panel.units[gappy])}; pass missing='pattern' or 'drop_units', or fill them"
            )
        if gappy.all():
            raise ValueError(
                f"no unit {asked.said.unit!r} has a row in every {asked.time!r}; pass "
                "missing='pattern', or drop periods that few units have"
            )
        warn(
            f"{int(gappy.sum())} of {panel.n_units} units without rows in some period were dropped"
        )
        panel = panel.select(np.asarray(~gappy))
    if check:
        check_adoption(
            panel.first,
            last_rows(panel.present),
            panel.times,
            unit=asked.said.unit,
            column=asked.said.column,
        )
    code, at, present = _grouped(panel)
    n, mean, cross = _centred(panel, code, len(at))
    return PanelMoments(
        times=panel.times,
        first=panel.first[at],
        present=present[at],
        n=n,
        mean=mean,
        cross=cross,
        columns=asked.said_in_words,
        n_obs=panel.n_obs,
        stratum=None if panel.stratum is None else panel.stratum[at],
        strata=panel.strata,
        cluster=None if panel.cluster is None else panel.cluster[at],
        cluster_labels=() if panel.cluster_labels is None else tuple(panel.cluster_labels.tolist()),
        later=None if panel.later is None else panel.later[at],
        sketch=_sketch(panel.units),
    )


def _too_many_patterns() -> ValueError:
    """What to say of panels with more patterns than moments take."""
    return ValueError(
        f"units are observed in more than {MOST_PATTERNS} patterns of periods, which moments do "
        "not take; pass missing='drop_units', or the table itself to the estimator"
    )


def n_patterns(present: NDArray[np.bool_]) -> int:
    """Number of distinct patterns of observed periods."""
    return 1 if present.all() else len(np.unique(np.packbits(present, axis=1), axis=0))


def _grouped(panel: UnitPanel) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Code of each unit's group, one unit of each group, and the periods present, (N, T)."""
    present = panel.present
    code = np.zeros(panel.n_units, dtype=np.int64)
    later = None if panel.later is None else panel.later.astype(np.int64)
    parts = [panel.first, panel.stratum, panel.cluster, later]
    if not present.all():
        _, pattern = np.unique(np.packbits(present, axis=1), axis=0, return_inverse=True)
        if pattern.max() >= MOST_PATTERNS:
            raise _too_many_patterns()
        parts.append(pattern.reshape(-1).astype(np.int64))
    for part in parts:
        if part is not None:
            joint = code * (int(part.max()) + 1) + part
            code = np.unique(joint, return_inverse=True)[1].reshape(-1)
    at = np.zeros(int(code.max()) + 1, dtype=np.int64)
    at[code[::-1]] = np.arange(panel.n_units - 1, -1, -1)
    return code, at, present


def _centred(
    panel: UnitPanel, code: NDArray[np.int64], n_groups: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Counts, means and centred cross products by group; 0 in periods that are not present."""
    order = np.argsort(
        code.astype(np.min_scalar_type(n_groups)), kind="stable"
    )  # few bits sort fast
    n = np.bincount(code, minlength=n_groups).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(n)])
    Y = np.nan_to_num(panel.outcome[order]) if not panel.balanced else panel.outcome[order]
    t = panel.n_periods
    mean = np.empty((n_groups, t))
    cross = None if panel.cluster is not None else np.empty((n_groups, t, t))
    for g in range(n_groups):
        mine = Y[start[g] : start[g + 1]]
        mean[g] = mine[0] + (mine - mine[0]).mean(axis=0)  # an offset costs no digit
        if cross is not None:
            centred = mine - mean[g]
            with np.errstate(over="ignore"):
                cross[g] = centred.T @ centred
    if not np.isfinite(mean).all() or (cross is not None and not np.isfinite(cross).all()):
        raise ValueError("the outcome's squares are beyond a double; rescale it first")
    return n, mean, cross


def _pruned(m: PanelMoments) -> PanelMoments:
    """Without labels of strata and clusters that no group has."""
    changed: dict[str, Any] = {}
    for codes, labels in (("stratum", "strata"), ("cluster", "cluster_labels")):
        if getattr(m, codes) is not None:
            kept, code = np.unique(getattr(m, codes), return_inverse=True)
            changed[codes] = code.reshape(-1).astype(np.int64)
            changed[labels] = tuple(getattr(m, labels)[k] for k in kept)
    return replace(m, **changed)


def _refuse_shared(one: PanelMoments, other: PanelMoments) -> None:
    """Raise if the parts share units, or nobody can know."""
    if one.sketch is None or other.sketch is None:
        raise ValueError(
            "panel moments from an engine keep no sketch of their units; pass disjoint_units=True "
            "to merge if no unit is in both parts"
        )
    shared = set(one.sketch) & set(other.sketch)
    if shared:
        raise ValueError(
            f"panel moments add over different units; at least {len(shared)} units are in both "
            "parts; read their rows together"
        )


def _sketch(units: NDArray[Any]) -> tuple[int, ...]:
    """The least hashes of the units' labels."""
    hashes = pd.util.hash_array(units)
    few = np.partition(hashes, _SKETCH)[:_SKETCH] if len(hashes) > _SKETCH else hashes
    return tuple(np.sort(few).tolist())


def _pooled(one: PanelMoments, other: PanelMoments) -> PanelMoments:
    """Groups of both parts, those of one key joined."""
    strata, s = _aligned(one, other, "stratum", "strata")
    clusters, c = _aligned(one, other, "cluster", "cluster_labels")
    first = np.concatenate([one.first, other.first])
    present = np.concatenate([one.present, other.present])
    later = None
    if one.later is not None and other.later is not None:
        later = np.concatenate([one.later, other.later])
    parts: list[NDArray[Any]] = [first, *[part for part in (s, c, later) if part is not None]]
    key = np.column_stack([*parts, np.packbits(present, axis=1)])
    _, at, code = np.unique(key, axis=0, return_index=True, return_inverse=True)
    code = code.reshape(-1)
    n, g = np.concatenate([one.n, other.n]), len(at)
    means = np.concatenate([one.mean, other.mean])
    total = np.bincount(code, n, g).astype(np.int64)
    start = means[at]
    mean = np.zeros_like(start)
    np.add.at(mean, code, n[:, None] * (means - start[code]))
    mean = start + mean / total[:, None]
    cross = None
    if one.cross is not None and other.cross is not None:
        d = means - mean[code]
        cross = np.zeros((g, *one.cross.shape[1:]))
        parts_of = np.concatenate([one.cross, other.cross])
        np.add.at(cross, code, parts_of + n[:, None, None] * d[:, :, None] * d[:, None, :])
    sketch = None
    if one.sketch is not None and other.sketch is not None:
        sketch = tuple(sorted({*one.sketch, *other.sketch})[:_SKETCH])
    return replace(
        one,
        first=first[at],
        present=present[at],
        n=total,
        mean=mean,
        cross=cross,
        n_obs=one.n_obs + other.n_obs,
        stratum=None if s is None else s[at],
        strata=strata,
        cluster=None if c is None else c[at],
        cluster_labels=clusters,
        later=None if later is None else later[at],
        sketch=sketch,
    )


def _aligned(
    one: PanelMoments, other: PanelMoments, codes: str, labels: str
) -> tuple[tuple[JsonScalar, ...], NDArray[np.int64] | None]:
    """Labels of both parts, and the groups' codes into them."""
    mine, theirs = getattr(one, codes), getattr(other, codes)
    if mine is None or theirs is None:
        return (), None
    a, b = getattr(one, labels), getattr(other, labels)
    both = tuple(sorted({*a, *b}))
    place = {label: j for j, label in enumerate(both)}
    maps = [np.array([place[label] for label in part], dtype=np.int64) for part in (a, b)]
    return both, np.concatenate([maps[0][mine], maps[1][theirs]])
