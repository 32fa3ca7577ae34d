"""What was known of viewers and authors before: regression of the cells' means on it.

In a complete table of pairs the regression of a cell's outcomes on covariates of viewers and of
authors is two regressions, of viewers' means and of authors' means: the sides are orthogonal.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from causal.effect import EstimationWarning
from causal.rows import Rows, column
from experiments.rotations.row_checks import spread_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.pairs.pair_sums import PairLog, PairSums, Side

_SAME = 1e-18  # spread, over the column's own, below which values of a unit are one value
_INDEPENDENT = 1e-8  # length of what is new in a covariate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitCovariates:
    """Centred covariates of viewers (n_viewers, k) and of authors (n_authors, q)."""

    viewer: NDArray[np.float64]
    author: NDArray[np.float64]


def unit_covariates(log: PairLog, names: Sequence[str]) -> UnitCovariates:
    """Covariates of both sides, centred in the population.

    A column that is constant within viewers describes viewers, one that is constant within authors
    authors; any other describes pairs (0 where a pair has no row) and enters as the mean of each
    viewer and of each author.
    """
    if names and not log.complete:
        raise ValueError(
            "covariates need every pair of viewer and author; pass zero_fill=True or leave them out"
        )
    columns: dict[str, dict[str, NDArray[np.float64]]] = {"viewer": {}, "author": {}}
    for k, name in enumerate(names):
        for side, values in _columns(log, f"x{k}", name).items():
            columns[side][name] = values
    viewer, of_viewer = _independent(columns["viewer"], len(log.viewers.arm))
    author, of_author = _independent(columns["author"], len(log.authors.arm))
    left_out = [f"{name!r} of viewers" for name in of_viewer]
    left_out += [f"{name!r} of authors" for name in of_author]
    if left_out:
        warnings.warn(
            f"covariates left out, constant or collinear: {', '.join(left_out)}",
            EstimationWarning,
            stacklevel=3,
        )
    return UnitCovariates(viewer=viewer, author=author)


def adjusted(sums: PairSums, x: UnitCovariates) -> PairSums:
    """Means at the population's covariates, and sums of what the regressions leave."""
    k, q = x.viewer.shape[1], x.author.shape[1]
    if k + q == 0:
        return sums
    mean, square = sums.mean.copy(), sums.square.copy()
    by_viewer, by_author = sums.by_viewer.copy(), sums.by_author.copy()
    for x_mine, total, mine, other, cells, side in (
        (x.viewer, by_viewer, sums.viewer_arm, sums.author_arm, (mean, square), "viewer"),
        (x.author, by_author, sums.author_arm, sums.viewer_arm, (mean.T, square.T), "author"),
    ):
        for own in (0, 1):
            here = mine == own
            for across, n in enumerate(np.bincount(other, minlength=2)):
                fitted, at_mean = _regression(x_mine[here], total[here, across] / n, side)
                cells[0][own, across] -= at_mean
                cells[1][own, across] -= n * fitted @ fitted
                total[here, across] -= n * fitted
    return replace(
        sums,
        mean=mean,
        square=square,
        by_viewer=by_viewer,
        by_author=by_author,
        n_covariates=(k, q),
    )


def _regression(
    x: NDArray[np.float64], y: NDArray[np.float64], side: str
) -> tuple[NDArray[np.float64], float]:
    """Fitted deviations of an arm's units, and what its covariates' mean adds to their mean."""
    k = x.shape[1]
    if k == 0:
        return np.zeros(len(y)), 0.0
    middle = x.mean(axis=0)
    centred = x - middle
    slopes, _, rank, _ = np.linalg.lstsq(centred, y, rcond=_INDEPENDENT)
    if rank < k or len(y) < k + 3:
        raise ValueError(
            f"covariates need {k + 3} {side}s in each arm and must vary within it; an arm of "
            f"{len(y)} {side}s has {rank} independent covariates of {k}; leave some out"
        )
    return centred @ slopes, float(middle @ slopes)


def _columns(log: PairLog, alias: str, name: str) -> dict[str, NDArray[np.float64]]:
    """One covariate as values of viewers, of authors, or of both."""
    pilot = log.rows.pilot([alias], exact=True)
    centre, scale = pilot.centre[alias], pilot.scale[alias]
    rows = log.rows.derive({alias: lambda c: (c[alias] - centre) / scale})
    sides = (("viewer", log.viewers), ("author", log.authors))
    level = {}
    for key, side in sides:
        _, mean, square = spread_within(rows, key, alias)
        if square.sum() <= _SAME * log.n_rows:
            if side.n_seen < len(side.arm):
                raise ValueError(
                    f"covariate {name!r} describes {key}s, and is not known of the "
                    f"{len(side.arm) - side.n_seen:,} without rows; pass rows with outcome 0 for "
                    "them"
                )
            level[key] = mean
    if level:
        return level
    return {
        key: _means(rows, alias, key, side, len(other.arm), -centre / scale)
        for (key, side), (_, other) in zip(sides, sides[::-1], strict=True)
    }


def _means(
    rows: Rows, alias: str, key: str, side: Side, n_other: int, absent: float
) -> NDArray[np.float64]:
    """Mean of a unit's pairs, over all units of the other side."""
    groups = rows.sums([key], {"x": column(alias)})
    mean = np.full(len(side.arm), absent)
    mean[: side.n_seen] = (groups.values["x"] + (n_other - groups.n) * absent) / n_other
    return mean


def _independent(
    columns: dict[str, NDArray[np.float64]], n: int
) -> tuple[NDArray[np.float64], list[str]]:
    """Centred columns of unit length, and the names of those that the others determine."""
    kept, basis, left_out = np.zeros((n, 0)), np.zeros((n, 0)), []
    for name, values in columns.items():
        x = values - values.mean()
        length = float(np.linalg.norm(x))
        x = x / length if length > _INDEPENDENT * np.sqrt(n) else np.zeros(n)
        new = x - basis @ (basis.T @ x)
        size = float(np.linalg.norm(new))
        if size <= _INDEPENDENT:
            left_out.append(name)
            continue
        kept, basis = np.column_stack([kept, x]), np.column_stack([basis, new / size])
    return kept, left_out
