"""Sufficient statistics by group: whatever needs only sums never sees rows.

Counts, means and centred cross products of columns, by arm, segment, day or whatever else. They
add up: over shards, over days, over groups. Sums are taken around a pilot centre and scaled by
powers of two, so that an offset of 1e9 or values of 1e150 lose nothing.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from causal.centred import centred_moments
from causal.engine_rows import label_array
from causal.frame import Table, check_columns, column_names, fetch_arrow, listed, open_table
from causal.normal_equations import Coefficients, inverse_of_cross
from causal.parquet import read_schema
from causal.rows import EngineRows, Expression, Rows, column, combined_codes, open_rows, present

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import ibis.expr.types as ir
    from numpy.typing import NDArray

__all__ = [
    "Coefficients",
    "Moments",
    "centred_moments",
    "group_moments",
    "least_squares_from",
    "unit_cube",
]


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, means and centred cross products by group.

    Parameters
    ----------
    columns : tuple of str, length k
        The numbers.
    by : tuple of str
        The keys of the groups; empty for one group.
    keys : pyarrow.Table (g rows)
        One row a group; no columns when `by` is empty.
    n : int64 array (g,)
        Rows, or units where `unit` is set.
    mean : array (g, k)
        Means, weighted where `weight` is set.
    cross : array (g, k, k)
        Sum of (x - mean)(x - mean)', weighted where `weight` is set.
    weight : array (g,), optional
        Sum of weights.
    unit : str, optional
        The column whose rows were summed before moments were taken over units.
    """

    columns: tuple[str, ...]
    by: tuple[str, ...]
    keys: pa.Table
    n: NDArray[np.int64]
    mean: NDArray[np.float64]
    cross: NDArray[np.float64]
    weight: NDArray[np.float64] | None = None
    unit: str | None = None

    def __len__(self) -> int:
        return len(self.n)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        mine, theirs = ((m.columns, m.by, m.unit, m.weight is None, len(m)) for m in (self, other))
        if mine != theirs or not self.keys.equals(other.keys):
            return False
        arrays = (
            (m.n, m.mean, m.cross, m.n if m.weight is None else m.weight) for m in (self, other)
        )
        return all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))

    def __hash__(self) -> int:
        numbers = (tuple(self.n.tolist()), tuple(self.mean.ravel().tolist()))
        return hash((self.columns, self.by, self.unit, numbers))

    def merge(self, other: Moments, *, disjoint_units: bool = False) -> Moments:
        """Moments of both parts together; groups that only one part has are kept.

        Parameters
        ----------
        other : Moments
            Of the same columns, keys and unit.
        disjoint_units : bool
            Say True to promise that no unit is in both parts. A viewer who returns tomorrow is one
            viewer, not two: days of unit moments do not add; add `unit_cube` tables instead.

        Raises
        ------
        ValueError
            If the parts differ in kind, or hold units that are not promised to be disjoint.

        References
        ----------
        Chan, Golub and LeVeque (1983). Algorithms for computing the sample variance, eq. 2.1.
        """
        mine = (self.columns, self.by, self.unit, self.weight is None)
        if mine != (other.columns, other.by, other.unit, other.weight is None):
            raise ValueError(
                "merge needs the same columns, by, unit and weight in both parts; got "
                f"{self.columns} by {self.by} and {other.columns} by {other.by}"
            )
        if self.unit is not None and not disjoint_units:
            raise ValueError(
                f"moments over {self.unit!r} do not add: a unit in both parts would count twice; "
                "append unit_cube tables and aggregate again, or pass disjoint_units=True if no "
                "unit is in both"
            )
        both = Moments(
            columns=self.columns,
            by=self.by,
            keys=self._keys_with(other),
            n=np.concatenate([self.n, other.n]),
            mean=np.concatenate([self.mean, other.mean]),
            cross=np.concatenate([self.cross, other.cross]),
            weight=None
            if self.weight is None or other.weight is None
            else np.concatenate([self.weight, other.weight]),
            unit=self.unit,
        )
        return both._pooled(self.by)

    def _keys_with(self, other: Moments) -> pa.Table:
        """Keys of both parts; whole numbers give way to fractions and to unsigned ones."""
        if not self.by:
            return _no_keys(len(self) + len(other))
        columns = []
        for name in self.by:
            parts = [self.keys[name], other.keys[name]]
            if parts[0].type != parts[1].type:
                wider = _wider(parts[0].type, parts[1].type)
                try:
                    parts = [part.cast(wider) for part in parts] if wider else []
                except pa.ArrowInvalid:  # a negative number has no unsigned one
                    parts = []
            if not parts:
                raise ValueError(
                    "merge needs keys of one kind in both parts; got "
                    f"{self._key_kinds()} and {other._key_kinds()}; convert them first"
                )
            columns.append(pa.chunked_array([c for part in parts for c in part.chunks]))
        return pa.table(columns, names=list(self.by))

    def roll_up(self, by: Sequence[str]) -> Moments:
        """Moments by fewer keys.

        Over units this is exact only when no unit is in two of the groups that are joined, such as
        arms; rolled up over days, a viewer of three days counts as three.

        Raises
        ------
        ValueError
            If a key is not one of `self.by`.
        """
        check_columns(self.by, {"by": listed(by, "by")})
        return self._pooled(tuple(by))

    def select(self, /, **key_values: object) -> Moments:
        """Only the groups whose keys have these values.

        Raises
        ------
        ValueError
            If a key is unknown or no group has these values.
        """
        check_columns(self.by, {"by": list(key_values)})
        keep = np.ones(len(self), dtype=bool)
        for name, value in key_values.items():
            keep &= np.array([k == value for k in self.keys.column(name).to_pylist()], dtype=bool)
        if not keep.any():
            raise ValueError(f"no group has {key_values}; groups are {self.keys.to_pylist()[:5]}")
        return Moments(
            columns=self.columns,
            by=self.by,
            keys=self.keys.filter(pa.array(keep)),
            n=self.n[keep],
            mean=self.mean[keep],
            cross=self.cross[keep],
            weight=None if self.weight is None else self.weight[keep],
            unit=self.unit,
        )

    def covariance(self, ddof: int = 1) -> NDArray[np.float64]:
        """Covariance matrices, shape (g, k, k), in squared units of the columns.

        Raises
        ------
        ValueError
            If a group has no more than `ddof` rows.
        """
        if (self.n <= ddof).any():
            few = self.keys.filter(pa.array(self.n <= ddof)).to_pylist()[:5]
            raise ValueError(f"a covariance needs more than {ddof} rows a group; too few in {few}")
        if self.weight is None:
            return self.cross / (self.n - ddof)[:, None, None]
        return self.cross / (self.weight * (1 - ddof / self.n))[:, None, None]

    def to_parquet(self, path: str | Path) -> None:
        """Write to one Parquet file, under a temporary name first."""
        g = len(self)
        arrays = {
            "n": pa.array(self.n),
            "mean": _lists(self.mean),
            "cross": _lists(self.cross.reshape(g, -1)),
        }
        if self.weight is not None:
            arrays["weight"] = pa.array(self.weight)
        kind = {"columns": self.columns, "by": self.by, "unit": self.unit}
        keys = {f"key{j}": self.keys.column(name) for j, name in enumerate(self.by)}
        table = pa.table({**keys, **arrays}, metadata={"livelift_moments": json.dumps(kind)})
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            pq.write_table(table, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read_parquet(cls, path: str | Path) -> Moments:
        """Read what `to_parquet` wrote.

        Raises
        ------
        ValueError
            If the file is absent or torn, or holds no moments.
        """
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        kind = (read_schema(str(path)).metadata or {}).get(b"livelift_moments")
        if kind is None:
            raise ValueError(f"{path}: holds no moments; write them with Moments.to_parquet")
        with pq.ParquetFile(path) as file:
            table = file.read()
        d = json.loads(kind)
        g, k = table.num_rows, len(d["columns"])
        keys = [table.column(f"key{j}") for j in range(len(d["by"]))]
        return cls(
            columns=tuple(d["columns"]),
            by=tuple(d["by"]),
            keys=pa.table(keys, names=d["by"]) if keys else _no_keys(g),
            n=table.column("n").to_numpy(),
            mean=pc.list_flatten(table.column("mean")).to_numpy().reshape(g, k),
            cross=pc.list_flatten(table.column("cross")).to_numpy().reshape(g, k, k),
            weight=table.column("weight").to_numpy() if "weight" in table.column_names else None,
            unit=d["unit"],
        )

    def _key_kinds(self) -> str:
        """The keys with their types."""
        return ", ".join(f"{f.name} {f.type}" for f in self.keys.schema)

    def _pooled(self, by: tuple[str, ...]) -> Moments:
        """Pool groups that agree in `by`, in one vectorised step."""
        labels = [_key_labels(self.keys.column(name)) for name in by]
        code, _, g = combined_codes(labels, by, len(self))
        order = np.argsort(code, kind="stable")
        first = np.searchsorted(code[order], np.arange(g))

        def added(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.add.reduceat(values[order], first, axis=0)

        w = self.n.astype(np.float64) if self.weight is None else self.weight
        total = added(w)
        start = self.mean[order[first]]  # each pool's own offset: another's would cost its digits
        mean = start + added(w[:, None] * (self.mean - start[code])) / total[:, None]
        d = self.mean - mean[code]
        cross = added(self.cross + w[:, None, None] * d[:, :, None] * d[:, None, :])
        return Moments(
            columns=self.columns,
            by=by,
            keys=self.keys.select(list(by)).take(pa.array(order[first])) if by else _no_keys(g),
            n=np.add.reduceat(self.n[order], first),
            mean=mean,
            cross=cross,
            weight=None if self.weight is None else total,
            unit=self.unit,
        )


def group_moments(
    data: Table,
    *,
    columns: Sequence[str],
    by: Sequence[str] = (),
    unit: str | None = None,
    weight: str | None = None,
) -> Moments:
    """Means and centred cross products by group, in one pass over the rows.

    Parameters
    ----------
    data : Table
        Any kind that the door takes; small tables in memory go through numpy, the rest through the
        engine, with the same answer to 1e-12.
    columns : sequence of str
        Numbers without missing values.
    by : sequence of str
        Keys of the groups.
    unit : str, optional
        Sum rows to one record per (by, unit) first; moments are then over units.
    weight : str, optional
        Weights of rows, >= 0; not together with `unit`.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If a column is absent, in two roles, infinite or missing; weights are negative or all 0 in a
        group; a sum of squares overflows.
    TypeError
        If `data` is not a table or a column does not hold numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"arm": ["A", "A", "B"], "watch_s": [1.0, 3.0, 5.0]})
    >>> group_moments(log, columns=["watch_s"], by=["arm"]).mean.tolist()
    [[2.0], [5.0]]
    """
    if unit is not None and weight is not None:
        raise ValueError(
            "weight and unit do not go together; weight the column before it is summed"
        )
    names = _checked_names(data, columns, by, unit, weight)
    rows = open_rows(data, numeric=names.numeric, labels=names.labels)
    refuse_gaps(rows, names.numeric)
    if weight is not None:
        what = {"name": f"weight {weight!r}", "rule": "be >= 0", "do": "drop or correct them"}
        rows.refuse(lambda c: c["weight"] < 0, "weight", **what)
    if unit is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, by name
            rows = rows.grouped([*names.by, "unit"], {c: column(c) for c in names.values})
    groups, mean, cross, total = centred_moments(
        rows, names.values, names.by, weight=None if weight is None else "weight"
    )
    keys = [label_array(groups.keys[alias]) for alias in names.by]
    return Moments(
        columns=tuple(columns),
        by=tuple(by),
        keys=pa.table(keys, names=list(by)) if keys else _no_keys(1),
        n=groups.n,
        mean=mean,
        cross=_within_range(cross, mean, columns),
        weight=None if weight is None else total,
        unit=unit,
    )


def unit_cube(data: Table, *, columns: Sequence[str], by: Sequence[str], unit: str) -> ir.Table:
    """Sums of columns per group and unit: what is cached, appended to daily and aggregated again.

    Parameters
    ----------
    data : Table
        Any kind that the door takes.
    columns : sequence of str
        Numbers without missing values.
    by : sequence of str
        Such as arm, segment, day.
    unit : str
        Such as viewer_id.

    Returns
    -------
    ibis table
        Columns `by`, `unit`, ``n_rows`` and the sums under their own names; in memory, but for an
        Ibis table in its own engine. ``cube.to_parquet(path)`` keeps it. Cubes of two days are
        joined by appending (``cube.union(other)``) and summing by (`by`, `unit`): exact also for
        units in both.

    Raises
    ------
    ValueError
        If a column is absent, in two roles, called ``n_rows``, infinite or missing.
    TypeError
        If `data` is not a table or a column does not hold numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"arm": [0, 0, 1], "viewer_id": [7, 7, 8], "gifts": [1, 2, 5]})
    >>> cube = unit_cube(log, columns=["gifts"], by=["arm"], unit="viewer_id")
    >>> cube.to_pyarrow().sort_by("arm")["gifts"].to_pylist()
    [3.0, 5.0]
    """
    if "n_rows" in (*columns, *by, unit):
        raise ValueError("the cube counts rows in 'n_rows'; rename your column 'n_rows' first")
    names = _checked_names(data, columns, by, unit, None)
    table = open_table(data, columns=[*columns, *by, unit])
    rows = EngineRows.opened(table, names.numeric, names.labels)
    refuse_gaps(rows, names.numeric)
    cube = rows.grouped_table([*names.by, "unit"], {c: column(c) for c in names.values})
    aliases = {**names.labels, **names.numeric}
    cube = cube.select(*aliases, cube["n"].cast("int64").name("n"))
    back = [*aliases.values(), "n_rows"]
    _refuse_cases(back)
    if not rows.owned:
        return cube.select(*[cube[a].name(b) for a, b in zip([*aliases, "n"], back, strict=True)])
    import ibis  # noqa: PLC0415 — loaded only when used

    # in memory: the private engine can reach no file, nor another cube
    found = fetch_arrow(cube)
    for alias, name in names.numeric.items():
        if not pc.all(pc.is_finite(found[alias])).as_py():
            raise ValueError(
                f"column {name!r} must have finite sums per {unit!r}; rescale it first"
            )
    return ibis.memtable(found.rename_columns(back))


def _refuse_cases(names: Sequence[str]) -> None:
    """Engines fold case: a cube cannot hold two names that differ in it only."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise ValueError(
                f"columns {other!r} and {name!r} of a cube must differ in more than case; "
                "rename one first"
            )


def least_squares_from(
    moments: Moments, *, outcome: str, regressors: Sequence[str]
) -> Coefficients:
    """Least squares of one column on others, with an intercept, from moments alone.

    Parameters
    ----------
    moments : Moments
        Several groups are pooled first.
    outcome : str
        One of ``moments.columns``.
    regressors : sequence of str
        Others of them.

    Returns
    -------
    Coefficients

    Raises
    ------
    ValueError
        If a column is absent, regressors are collinear, or there are no degrees of freedom left.
    """
    regressors = listed(regressors, "regressors")
    check_columns(moments.columns, {"outcome": outcome, "regressors": regressors})
    m = moments.roll_up([])
    y = moments.columns.index(outcome)
    x = [moments.columns.index(name) for name in regressors]
    n, mean, cross = int(m.n[0]), m.mean[0], m.cross[0]
    total = float(n) if m.weight is None else float(m.weight[0])
    df = n - len(x) - 1
    if df <= 0:
        raise ValueError(f"{len(x)} regressors need more than {len(x) + 1} rows; got {n}")
    inverse = inverse_of_cross(cross[np.ix_(x, x)], list(regressors))
    slope = inverse @ cross[x, y]
    residual = max(float(cross[y, y] - slope @ cross[x, y]), 0.0)
    sigma2 = residual / df
    coef = np.concatenate([[mean[y] - slope @ mean[x]], slope])
    cov = np.empty((len(x) + 1, len(x) + 1))
    cov[1:, 1:] = inverse
    cov[0, 1:] = cov[1:, 0] = -inverse @ mean[x]
    cov[0, 0] = 1 / total + mean[x] @ inverse @ mean[x]
    explained = 1 - residual / cross[y, y] if cross[y, y] > 0 else 0.0
    return Coefficients(coef, sigma2 * cov, float(explained), df)


@dataclass(frozen=True)
class _Names:
    """Aliases of checked columns: `values` and `by` are lists of aliases."""

    numeric: dict[str, str]
    labels: dict[str, str]
    values: list[str]
    by: list[str]


def _checked_names(
    data: Table, columns: Sequence[str], by: Sequence[str], unit: str | None, weight: str | None
) -> _Names:
    """Check columns and give them aliases."""
    roles = {"columns": listed(columns, "columns"), "by": listed(by, "by")}
    check_columns(column_names(data), {**roles, "unit": unit, "weight": weight})
    if not columns:
        raise ValueError("columns must name at least one column; got none")
    numeric = {f"x{j}": name for j, name in enumerate(columns)}
    values = list(numeric)
    labels = {f"by{j}": name for j, name in enumerate(by)}
    keys = list(labels)
    if unit is not None:
        labels["unit"] = unit
    if weight is not None:
        numeric["weight"] = weight
    return _Names(numeric, labels, values, keys)


def refuse_gaps(rows: Rows, numeric: Mapping[str, str]) -> None:
    """Raise unless every number of these (alias to column's name) is there."""
    for alias, name in numeric.items():
        if rows.n_missing(alias):
            what = {"rule": "be present (not missing)", "do": "drop or fill them"}
            rows.refuse(_absent(alias), alias, name=f"column {name!r}", **what)


def _absent(alias: str) -> Expression:
    """Formula of whether a number is missing."""
    return lambda c: ~present(c[alias])


def _within_range(
    cross: NDArray[np.float64], mean: NDArray[np.float64], columns: Sequence[str]
) -> NDArray[np.float64]:
    """The cross products, once they are known to fit a double."""
    good = np.isfinite(np.einsum("gjj->gj", cross)) & np.isfinite(mean)
    for name, fits in zip(columns, good.all(axis=0), strict=True):
        if not fits:
            raise ValueError(
                f"column {name!r} must have squares within the range of a double; "
                "their sum is beyond it; rescale the column"
            )
    return cross


def _key_labels(column: pa.ChunkedArray) -> NDArray[Any]:
    """Keys as the labels that they were."""
    text = pa.types.is_string(column.type)
    return np.array(column.to_pylist(), dtype=object) if text else np.asarray(column.to_numpy())


def _lists(values: NDArray[np.float64]) -> pa.Array:
    """Rows of a matrix as lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type of numbers that holds both; labels of one column differ so from file to file."""
    both = {one, other}
    if both == {pa.int64(), pa.uint64()}:
        return pa.uint64()
    if pa.float64() in both and both <= {pa.int64(), pa.uint64(), pa.float64()}:
        return pa.float64()
    return None


def _no_keys(g: int) -> pa.Table:
    """A table of g rows without columns: the keys of groups by nothing."""
    return pa.table({"row": pa.nulls(g)}).select([])
