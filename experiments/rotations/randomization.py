"""P-value and interval from the paths that the coins could have taken.

The statistic of every path is a contrast over its error. Under a constant effect delta the
observed one is (tau - delta) / s, and a path's is a straight line in delta over the root of a
quadratic: whether a path is as extreme is a polynomial inequality of degree four, and the p-value
a step function of delta whose steps are known. The interval is the hull of the deltas that are not
rejected: exact, without a grid and without refits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.rotations.coin_laws import Law
    from experiments.rotations.slice_statistic import Contrasts

_TIE = 1e-9  # relative difference of statistics that is rounding
_BLOCK = 64  # steps of the p-value looked at together
_EDGE = 1e-12


@dataclass(frozen=True, eq=False)
class RandomizationTest:
    """Where an estimate stands among those of the paths that the coins could have taken.

    Parameters
    ----------
    estimate, std_error : float
        The observed contrast and what it is studentised by.
    draws : array (n,)
        Statistics of the other paths (of all paths, where all were taken).
    p_value : float
        Share of paths, the observed one included, with a statistic at least as large in absolute
        value.
    n_paths : int
        Paths compared, the observed one included.
    exact : bool
        Whether these are all paths.
    """

    estimate: float
    std_error: float
    draws: NDArray[np.float64]
    p_value: float
    n_paths: int
    exact: bool
    _line: NDArray[np.float64]  # (n_paths, 2): distance - slope x, x = (delta - estimate) / s
    _square: NDArray[np.float64]  # (n_paths, 3): squared error over s^2, a quadratic in x
    _known: dict[float, tuple[float, float]] = field(default_factory=dict, repr=False)

    def conf_int(self, level: float) -> tuple[float, float]:
        """Hull of the constant effects that the test does not reject at `level`.

        Raises
        ------
        ValueError
            If paths are too few for the level, or no effect, however large, is rejected on one
            side.
        """
        if level not in self._known:
            if self.n_paths * (1 - level) < 1 - _EDGE:
                raise ValueError(
                    f"level {level:g} needs {math.ceil(1 / (1 - level) - _TIE):,} paths; "
                    f"{self.n_paths:,} were compared: pass a larger n_draws=, or a lower level"
                )
            steps = self._steps()
            low, high = (self._reach(steps, side, 1 - level) for side in (-1.0, 1.0))
            s = self.std_error
            self._known[level] = (self.estimate + s * low, self.estimate + s * high)
        return self._known[level]

    def p_value_at(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        """P-values of constant effects, shape (n,)."""
        return self._shares((effects - self.estimate) / self.std_error)

    def _shares(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of paths as extreme at each x, shape (n,)."""
        line = (self._line[:, :1] - self._line[:, 1:] * x) ** 2
        square = self._square[:, :1] + x * (self._square[:, 1:2] + x * self._square[:, 2:])
        extreme = line >= x**2 * np.maximum(square, 0.0) * (1 - _TIE)
        return np.asarray(extreme.mean(axis=0))

    def _reach(self, steps: NDArray[np.float64], side: float, alpha: float) -> float:
        """The outermost x of one side (-1 or 1) whose p-value is above alpha."""
        steps = np.sort(np.abs(steps[steps * side > 0]))[::-1]  # from the outside in
        beyond = np.append(steps[:1] * 2 + 1, (steps[:-1] + steps[1:]) / 2)
        for start in range(0, len(steps), _BLOCK):
            share = self._shares(side * beyond[start : start + _BLOCK])
            above = np.flatnonzero(share > alpha + _EDGE)
            if len(above) and start + above[0] > 0:
                return side * float(steps[start + above[0] - 1])
            if len(above):
                break
        else:
            if len(steps):
                return side * float(steps[-1])
        still = float(self._shares(np.array([side * 1e12]))[0])
        raise ValueError(
            f"the interval at level {1 - alpha:g} has no {'lower' if side < 0 else 'upper'} end: "
            f"{100 * still:.3g} % of {self.n_paths} paths stay as extreme whatever the effect: "
            "take more slices, a shorter carryover or a lower level"
        )

    def _steps(self) -> NDArray[np.float64]:
        """Where the p-value changes: real x with (distance - slope x)^2 = x^2 square(x)."""
        some = np.abs(self._line[:, 0]) > _EDGE  # others are tied with the observed path throughout
        a, b = self._line[some].T
        c0, c1, c2 = self._square[some].T
        # in u = 1 / x: a^2 u^4 - 2ab u^3 + (b^2 - c0) u^2 - c1 u - c2 = 0
        companion = np.zeros((len(a), 4, 4))
        companion[:, [1, 2, 3], [0, 1, 2]] = 1.0
        companion[:, 0, :] = np.column_stack([2 * b / a, (c0 - b**2) / a**2, c1 / a**2, c2 / a**2])
        roots = np.linalg.eigvals(companion).ravel()
        size = np.abs(roots)
        return np.asarray(1 / roots.real[(np.abs(roots.imag) <= 1e-7 * size) & (size > _EDGE)])


def randomization_test(
    observed: Contrasts, others: Contrasts, *, exact: bool
) -> RandomizationTest | None:
    """Compare the observed contrast with those of other paths.

    Parameters
    ----------
    observed : Contrasts
        One path.
    others : Contrasts
        All paths (`exact`), or draws beside the observed one; those that are not valid are left
        out: they would not have been read.

    Returns
    -------
    RandomizationTest
        None where the observed error is 0.
    """
    estimate, s2 = float(observed.slope[0]), float(observed.square[0])
    if not s2 > 0:
        return None
    valid = np.flatnonzero(others.valid)
    names = ("slope", "dose", "square", "mixed", "dose_square")
    every = {name: getattr(others, name)[valid] for name in names}
    if not exact:
        every = {name: np.append(getattr(observed, name), every[name]) for name in names}
    s = math.sqrt(s2)
    line = np.column_stack([(every["slope"] - every["dose"] * estimate) / s, every["dose"]])
    at_estimate = every["square"] + estimate * (
        estimate * every["dose_square"] - 2 * every["mixed"]
    )
    square = np.column_stack(
        [
            at_estimate / s2,
            2 * (estimate * every["dose_square"] - every["mixed"]) / s,
            every["dose_square"],
        ]
    )
    tied = (np.abs(line[:, 0]) <= _EDGE) & (np.abs(np.abs(line[:, 1]) - 1) <= _TIE)
    tied &= np.abs(square[:, 0] - 1) <= _TIE
    line[tied], square[tied] = (0.0, 1.0), (1.0, 0.0, 0.0)  # rounding would part them far out
    statistics = _over(every["slope"], every["square"])
    p_value = float(np.mean(np.abs(statistics) >= abs(estimate) / s * (1 - _TIE)))
    return RandomizationTest(
        estimate=estimate,
        std_error=s,
        draws=statistics if exact else statistics[1:],
        p_value=p_value,
        n_paths=len(statistics),
        exact=exact,
        _line=line,
        _square=square,
    )


def _over(slope: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contrast over its error; the largest double, with its sign, over an error of 0."""
    error = np.sqrt(np.maximum(square, 0.0))
    largest = np.sign(slope) * np.finfo(np.float64).max
    return np.divide(slope, error, out=largest, where=error > 0)


def reference_paths(
    law: Law, *, level: float, n_draws: int, seed: int
) -> tuple[NDArray[np.int8], bool]:
    """Paths to compare with, shape (n, k): all of them (True) where there are few, else draws.

    Raises
    ------
    ValueError
        If no outcome could reach the level; with the smallest p-value: the observed path and its
        mirror image are always as extreme.
    """
    alpha = 1 - level + _EDGE
    paths = law.support()
    if paths is None:
        if 1 / (n_draws + 1) > alpha:
            raise ValueError(
                f"n_draws={n_draws} gives at best p = {1 / (n_draws + 1):.2g}; level {level:g} "
                f"needs n_draws={math.ceil(1 / alpha) - 1} or more"
            )
        return law.draws(n_draws, seed), False
    if len(paths) * alpha < 2:
        raise ValueError(
            f"{len(law.strata)} slices give at best p = {min(1.0, 2 / max(len(paths), 2)):.2g}: "
            f"their {law.coin} coins have {len(paths)} paths, level {level:g} needs "
            f"{math.ceil(2 / alpha)}: take more slices, a lower level, or "
            "inference='conservative'"
        )
    return paths, True
