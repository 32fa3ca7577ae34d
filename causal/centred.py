"""Means and centred cross products of opened rows: sums that neither cancel nor overflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.rows import Pilot, column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.rows import Expression, Groups, Rows

_EPS = float(np.finfo(np.float64).eps)
_LOST = 1e4  # rounding errors of a sum of squares that its centred part may hold: 1e4 eps = 2e-12
_MOST_CENTRINGS = 3
_SMALL, _LARGE = 2.0**-200, 2.0**200  # squares of such numbers are far from a double's ends


@dataclass(frozen=True)
class _Sums:
    """Sums around a centre, in units of the pilot's scale.

    groups : g groups
    mean : shape (g, k)
    cross : centred, shape (g, k, k)
    total : sums of weights, shape (g,)
    """

    groups: Groups
    mean: NDArray[np.float64]
    cross: NDArray[np.float64]
    total: NDArray[np.float64]

    @property
    def spread(self) -> NDArray[np.float64]:
        """Centred sums of squares, shape (g, k)."""
        return np.asarray(np.einsum("gjj->gj", self.cross))

    @property
    def rounding(self) -> NDArray[np.float64]:
        """What the centred sums of squares may have lost to rounding, in units of eps."""
        return self.total[:, None] * self.mean**2 * np.sqrt(self.groups.n)[:, None]

    @property
    def finite(self) -> bool:
        """Whether nothing overflowed."""
        return bool(np.isfinite(self.mean).all() and np.isfinite(self.cross).all())


def centred_moments(
    rows: Rows,
    columns: Sequence[str],
    by: Sequence[str],
    *,
    weight: str | None = None,
    blocks: Sequence[Sequence[str]] | None = None,
) -> tuple[Groups, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means (g, k), centred cross products (g, k, k) and sums of weights (g,) of opened rows.

    Parameters
    ----------
    rows : Rows
        Without missing values in `columns` and `weight`.
    columns, by : sequence of str
        Aliases of numbers, and of the keys of groups.
    weight : str, optional
        Alias of weights >= 0.
    blocks : sequence of sequences of str, optional
        Columns whose cross products are wanted with each other; all by default. Others stay 0.

    Returns
    -------
    groups : Groups
    mean : array (g, k)
    cross : array (g, k, k)
        Infinite where the true number is beyond a double: that is for the caller to report.
    total : array (g,)
        Sums of weights; counts without `weight`.

    Raises
    ------
    ValueError
        If all weights of a group are 0.

    Notes
    -----
    One pass takes sums of ``(x - c)`` and ``(x - c)(z - c)`` around a pilot centre c, the median of
    the first rows, and corrects them to exact centring. Rounding grows with ``n (mean - c)^2``;
    where that would cost more than 1e4 units in the last place of a group's sum of squares (the
    rows were sorted, say), a further pass takes them around each group's own mean.
    """
    pairs = _pairs(columns, [columns] if blocks is None else blocks)
    found, pilot = _around_pilot(rows, columns, by, weight, pairs)
    scale = np.array([pilot.scale[c] for c in columns])
    mean = np.array([pilot.centre[c] for c in columns]) + scale * found.mean
    several = found.groups.n[:, None] > 1
    cancelled = np.where(
        several,
        found.rounding > _LOST * found.spread,
        np.abs(scale * found.mean) > _LOST * np.abs(mean),
    )
    still = Pilot(dict.fromkeys(columns, 0.0), pilot.scale)
    for _ in range(_MOST_CENTRINGS - 1):
        if not cancelled.any():
            break
        near = {f"centre_{c}": mean[:, j] for j, c in enumerate(columns)}
        moved = rows.attach(found.groups, near).derive({c: _moved(c) for c in columns})
        found = _around(moved, columns, by, still, weight, pairs)
        mean = mean + scale * found.mean
        _without_noise(found, mean / scale)
        cancelled = (found.spread > 0) & (found.rounding > _LOST * found.spread)
    found.cross[~several[:, 0]] = 0.0  # one row has no spread, whatever rounding says
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        cross = found.cross * scale[:, None] * scale[None, :]
    return found.groups, mean, cross, found.total


def _pairs(columns: Sequence[str], blocks: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Positions of two columns of one block, each pair once."""
    place = {name: j for j, name in enumerate(columns)}
    at = [sorted(place[name] for name in block) for block in blocks]
    return sorted({(i, j) for block in at for i in block for j in block if i <= j})


def _around_pilot(
    rows: Rows,
    columns: Sequence[str],
    by: Sequence[str],
    weight: str | None,
    pairs: Sequence[tuple[int, int]],
) -> tuple[_Sums, Pilot]:
    """Sums around a centre from the first rows; from all rows where those misled to overflow."""
    pilot = _unscaled(rows.pilot(columns))
    found = _around(rows, columns, by, pilot, weight, pairs)
    if not found.finite:
        pilot = _unscaled(rows.pilot(columns, exact=True))
        found = _around(rows, columns, by, pilot, weight, pairs)
    return found, pilot


def _unscaled(pilot: Pilot) -> Pilot:
    """The pilot without scales that nothing needs: multiplying every row costs time."""
    return Pilot(
        pilot.centre, {c: s if not _SMALL < s < _LARGE else 1.0 for c, s in pilot.scale.items()}
    )


def _around(
    rows: Rows,
    columns: Sequence[str],
    by: Sequence[str],
    pilot: Pilot,
    weight: str | None,
    pairs: Sequence[tuple[int, int]],
) -> _Sums:
    """Means and centred cross products around a pilot."""
    k = len(columns)
    sums = {f"s{j}": _scaled(pilot, c, None, weight) for j, c in enumerate(columns)}
    sums |= {f"p{i}_{j}": _scaled(pilot, columns[i], columns[j], weight) for i, j in pairs}
    if weight is not None:
        sums["w"] = column(weight)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        groups = rows.sums(by, sums)
        total = groups.n.astype(np.float64) if weight is None else groups.values["w"]
        if (total <= 0).any():
            raise ValueError(
                "a group must have a weight above 0; all weights of "
                f"{int((total <= 0).sum())} groups are 0; drop the group or its weights"
            )
        mean = np.column_stack([groups.values[f"s{j}"] for j in range(k)]) / total[:, None]
        cross = np.zeros((len(groups), k, k))
        for i, j in pairs:
            product = groups.values[f"p{i}_{j}"] - total * mean[:, i] * mean[:, j]
            cross[:, i, j] = cross[:, j, i] = product
    index = np.arange(k)
    cross[:, index, index] = np.maximum(cross[:, index, index], 0.0)  # rounding of a constant
    return _Sums(groups, mean, cross, total)


def _without_noise(found: _Sums, mean: NDArray[np.float64]) -> None:
    """Set to 0 the spread of a constant: it is below the rounding of the mean taken off."""
    floor = found.total[:, None] * (4 * _EPS * mean) ** 2
    g, j = np.nonzero(found.spread <= np.maximum(floor, 8 * _EPS * found.rounding))
    found.cross[g, j, :] = 0.0
    found.cross[g, :, j] = 0.0


def _scaled(pilot: Pilot, left: str, right: str | None, weight: str | None) -> Expression:
    """Formula of a centred, scaled column, or of the product of two."""

    def formula(c: Any) -> Any:  # noqa: ANN401 — columns of arrays or of the engine
        value = _from_centre(c, pilot, left)
        if right is not None:
            value = value * _from_centre(c, pilot, right)
        return value if weight is None else value * c[weight]

    return formula


def _from_centre(c: Any, pilot: Pilot, name: str) -> Any:  # noqa: ANN401 — columns
    """A column around its centre, in units of its scale."""
    value, centre, scale = c[name], pilot.centre[name], pilot.scale[name]
    value = value if centre == 0.0 else value - centre
    return value if scale == 1.0 else value * (1 / scale)


def _moved(name: str) -> Expression:
    """Formula of a column minus its group's centre."""
    return lambda c: c[name] - c[f"centre_{name}"]
