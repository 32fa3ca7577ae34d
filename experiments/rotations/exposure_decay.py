"""Carry-over that decays: exposure x_t = rho x_{t-1} + (1 - rho) W_t, and what rho the log allows.

The estimate minimises the sum of squares over rho, with the effect by least squares on x. Whether
a rho is refuted is asked of the coins: under it outcomes of other paths are known up to the effect,
which is plugged in, and so is how much better another rho would fit them by chance. That holds
whatever the correlation of the outcome over time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, signal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.rotations.period_series import PeriodSeries
    from experiments.rotations.slice_coins import Coins

_GRID = np.array([*range(0, 900, 50), *range(900, 1000, 10), 995]) / 1000
_CHUNK = 4_000_000  # entries of a matrix of paths, decays and periods
_TIE = 1e-9
_EDGE = 1e-12


@dataclass(frozen=True, eq=False)
class DecayFit:
    """The fit of a decaying exposure.

    Parameters
    ----------
    decay : float
        rho a period.
    effect : float
        Of everlasting exposure.
    exposure, slope : arrays (n,)
        x and dx / drho at the estimate.
    """

    decay: float
    effect: float
    exposure: NDArray[np.float64]
    slope: NDArray[np.float64]


class DecayModel:
    """The series with strata and covariates taken out, and exposures of any path.

    Before its first slice nobody is taken to be exposed.
    """

    def __init__(self, series: PeriodSeries) -> None:
        every = np.arange(len(series))
        self._series = series
        self._chain, self._coin, self._place = series.grid()
        self._basis = orthonormal(series.nuisance(every))
        self._y = self._without(series.outcome)

    @property
    def coins(self) -> Coins:
        """The coins of the rotation."""
        return self._series.coins

    def exposures(self, paths: NDArray[np.int8], rho: float) -> NDArray[np.float64]:
        """Exposure x of each path at each outcome, shape (r, n)."""
        return self._filtered(paths[:, self._coin].astype(np.float64), [1 - rho], rho)

    def slopes(self, paths: NDArray[np.int8], rho: float) -> NDArray[np.float64]:
        """Change of the exposure with rho, dx / drho, shape (r, n): twice filtered."""
        treated = paths[:, self._coin].astype(np.float64)
        return self._filtered(treated, [-1.0, 1.0], rho, again=True)

    def fit(self) -> DecayFit:
        """Least squares over rho and the effect.

        Raises
        ------
        ValueError
            If the exposure does not vary beyond strata and covariates.
        """
        path = self._series.coins.arm[None, :]

        def remains(rho: float) -> float:
            x = self._without(self.exposures(path, rho)[0])
            total = float(x @ x)
            return -(float(x @ self._y) ** 2) / total if total > _EDGE else 0.0

        losses = [remains(float(rho)) for rho in _GRID]
        best = int(np.argmin(losses))
        low, high = _GRID[max(best - 1, 0)], _GRID[min(best + 1, len(_GRID) - 1)]
        found = optimize.minimize_scalar(
            remains, bounds=(low, high), method="bounded", options={"xatol": 1e-6}
        )
        rho = float(found.x) if found.fun < losses[best] else float(_GRID[best])
        raw = self.exposures(path, rho)[0]
        x = self._without(raw)
        if not float(x @ x) > _EDGE:
            raise ValueError(
                "the exposure must vary beyond strata and covariates; it does not: take longer "
                "runs, or adjust=None"
            )
        return DecayFit(rho, float(x @ self._y) / float(x @ x), raw, self.slopes(path, rho)[0])

    def conf_int(self, level: float, paths: NDArray[np.int8]) -> tuple[float, float]:
        """Decays that the coins do not refute, on a grid; 1 where none is too slow.

        Parameters
        ----------
        level : float
        paths : int8 array (r, k)
            Draws beside the observed path.
        """
        every = np.concatenate([self._series.coins.arm[None, :], paths])
        allowed = _GRID[self._p_values(every) > 1 - level + _EDGE]
        if not len(allowed):
            near = self.fit().decay
            return near, near
        high = float(allowed[-1])
        return float(allowed[0]), 1.0 if high == _GRID[-1] else high

    def statistics(self, paths: NDArray[np.int8]) -> NDArray[np.float64]:
        """Effect of each path at the decay that fits it best, over its error by slice, (r,).

        The error is that of least squares on the exposure and on its change with the decay.
        """
        slices = np.unique(self._series.coin, return_inverse=True)[1]
        order = np.argsort(slices, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(slices[order]) > 0])
        step = max(1, _CHUNK // (len(_GRID) * len(self._y)))
        found = []
        for begin in range(0, len(paths), step):
            some = paths[begin : begin + step]
            x = self._grid_exposures(some)
            norm, product = _positive((x**2).sum(axis=2)), x @ self._y
            place = (product**2 / norm).argmax(axis=1)
            best = np.arange(len(x)), place
            x, effect = x[best], product[best] / norm[best]
            slope = np.empty_like(x)
            for j in np.unique(place):
                mine = place == j
                slope[mine] = self._without(self.slopes(some[mine], float(_GRID[j])))
            along = (slope * x).sum(axis=1) / _positive((slope**2).sum(axis=1))
            lever = x - along[:, None] * slope
            scores = lever * (self._y - effect[:, None] * x)
            error = np.add.reduceat(scores[:, order], starts, axis=1)
            error = np.sqrt((error**2).sum(axis=1)) / _positive((lever**2).sum(axis=1))
            found.append(np.divide(effect, error, out=np.zeros_like(effect), where=error > 0))
        return np.concatenate(found)

    def _p_values(self, paths: NDArray[np.int8]) -> NDArray[np.float64]:
        """Share of paths on which another decay fits so much better, for each; ours comes first."""
        x = self._grid_exposures(paths[:1])[0]
        norm = _positive((x**2).sum(axis=1))
        effect = x @ self._y / norm
        rest = self._y - effect[:, None] * x  # what no treatment would have left, by decay
        step = max(1, _CHUNK // x.size)
        gains = np.concatenate(
            [
                _gains(self._grid_exposures(paths[i : i + step]), rest, effect)
                for i in range(0, len(paths), step)
            ]
        )
        return np.asarray((gains >= gains[0] * (1 - _TIE) - _EDGE).mean(axis=0))

    def _filtered(
        self, treated: NDArray[np.float64], weights: list[float], rho: float, *, again: bool = False
    ) -> NDArray[np.float64]:
        """Series of all periods filtered chain by chain, at the outcomes."""
        found = np.empty_like(treated)
        for chain in np.unique(self._chain):
            mine = self._chain == chain
            part = signal.lfilter(weights, [1, -rho], treated[:, mine], axis=1)
            found[:, mine] = signal.lfilter([1.0], [1, -rho], part, axis=1) if again else part
        return found[:, self._place]

    def _grid_exposures(self, paths: NDArray[np.int8]) -> NDArray[np.float64]:
        """Exposures at every decay of the grid without strata and covariates, (r, g, n)."""
        each = [self._without(self.exposures(paths, float(rho))) for rho in _GRID]
        return np.stack(each, axis=1)

    def _without(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (n,) or (r, n) without strata and covariates."""
        return np.asarray(values - (values @ self._basis) @ self._basis.T)


def _gains(
    x: NDArray[np.float64], rest: NDArray[np.float64], effect: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much better the best decay fits than each, as a share of what is left, (r, g).

    The outcome of a path under a decay is `rest` plus `effect` times the path's exposure.
    """
    products = x @ x.transpose(0, 2, 1)
    norm = _positive(np.einsum("rgg->rg", products))
    with_rest = x @ rest.T
    own = np.einsum("rgg->rg", with_rest)
    explained = (with_rest + products * effect) ** 2 / norm[:, :, None]
    best = explained.max(axis=1)
    total = (rest**2).sum(axis=1) + 2 * effect * own + effect**2 * norm
    return np.asarray((best - np.einsum("rgg->rg", explained)) / _positive(total - best))


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of squares; infinite where they are rounding."""
    return np.where(values > _EDGE * np.maximum(values.max(), 1e-300), values, np.inf)


def orthonormal(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal basis of the span of columns."""
    size = np.sqrt((columns**2).sum(axis=0))
    unit = columns[:, size > 0] / size[size > 0]
    left, values, _ = np.linalg.svd(unit, full_matrices=False)
    return np.asarray(left[:, values > 1e-10 * values.max()])
