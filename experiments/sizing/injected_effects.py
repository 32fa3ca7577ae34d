"""Tests of many replications of a rotation with an effect put in, as products of matrices.

Cells g have n_g rows of mean y_g and lie in strata. Arms x, outcomes y and exposures z (the arms,
or what carry-over leaves of them) are centred in strata, weighted by n. With D = sum n x^2:

    tau = sum n x (y + d z) / D = tau_0 + d b
    squared error = sum (n x e / D)^2 / (1 - h),  e = y + d z - tau x = y - tau_0 x + d (z - b x)

with h the leverage in the regression on arms and strata (HC2; `switchback_effect` reads so), so
both are polynomials in the effect d. For the arms x of draw a and the exposures z of replication
r their coefficients are products of matrices (a x g)(g x r); none depends on d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from experiments.sizing.power_cells import PilotCells

_TIE = 1e-9  # relative difference of squared statistics that rounding may make


@dataclass(frozen=True, eq=False)
class Sample:
    """Cells of g.

    Parameters
    ----------
    n : float64 array (g,)
        Weights: rows in units of their mean.
    y : float64 array (g,)
        Means, centred in strata, in units of `scale`.
    strata : int64 array (g,)
        Codes 0, 1 ...
    scale : float
        Root of the weighted mean square of the centred means.
    """

    n: NDArray[np.float64]
    y: NDArray[np.float64]
    strata: NDArray[np.int64]
    scale: float

    @classmethod
    def of(
        cls, n: NDArray[Any], mean: NDArray[np.float64], strata: NDArray[np.int64], *, name: str
    ) -> Sample:
        """Centre and scale the cells' means."""
        weight = n / n.mean()
        raw = cls(weight, mean, strata, 1.0).centred((mean - mean[0])[None, :])[0]
        reach = float(np.abs(raw).max())  # first: squares of 1e200 are beyond a double
        if reach <= 1e-12 * float(np.abs(mean).max()):
            raise ValueError(
                f"column {name!r} must vary between slices of a stratum; its means are equal "
                "there: check it, or take shorter slices"
            )
        scale = reach * float(np.sqrt(np.mean(weight * (raw / reach) ** 2)))
        return cls(weight, raw / scale, strata, scale)

    def centred(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values (k, g) minus their weighted stratum means."""
        member = np.zeros((len(self.n), int(self.strata.max()) + 1))
        member[np.arange(len(self.n)), self.strata] = self.n
        means = values @ (member / member.sum(axis=0))
        return np.asarray(values - means[:, self.strata])


def sample_of(cells: PilotCells, outcome: str) -> Sample:
    """The cells with rows, centred in their strata.

    Raises
    ------
    ValueError
        If strata leave no degree of freedom, or the means do not vary within them.
    """
    seen = cells.table[cells.read]
    strata = np.unique(cells.strata[cells.read], return_inverse=True)[1]
    if (df := len(strata) - int(strata.max()) - 2) < 1:
        raise ValueError(
            f"{len(strata)} slices with rows in {int(strata.max()) + 1} strata leave {df} degrees "
            "of freedom; take shorter slices, a longer pilot, or coin='complete'"
        )
    return Sample.of(seen["n"].to_numpy(), seen["mean"].to_numpy(), strata, name=outcome)


@dataclass(frozen=True, eq=False)
class Statistic:
    """Estimate and squared error as polynomials in the effect.

    estimate = tau + d slope, squared error = error_0 + d error_1 + d^2 error_2; arrays of one
    shape, (r,), or (a, 1) and (a, r).
    """

    tau: NDArray[np.float64]
    slope: NDArray[np.float64]
    error_0: NDArray[np.float64]
    error_1: NDArray[np.float64]
    error_2: NDArray[np.float64]

    def at(self, effect: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Estimate and squared error at an effect."""
        error = self.error_2 * effect
        error += self.error_1
        error *= effect
        error += self.error_0
        return self.tau + effect * self.slope, error


@dataclass(frozen=True, eq=False)
class Fits:
    """Regressions on arms and strata, one a schedule.

    Parameters
    ----------
    sample : Sample
    x : array (r, g)
        Arms, centred in strata.
    total : array (r,)
        D.
    scores : array (r, g)
        n x / D; 0 where arms do not differ within any stratum.
    free : array (r, g)
        One minus the leverage.
    """

    sample: Sample
    x: NDArray[np.float64]
    total: NDArray[np.float64]
    scores: NDArray[np.float64]
    free: NDArray[np.float64]

    @classmethod
    def of(cls, sample: Sample, arms: NDArray[Any]) -> Fits:
        """Fits of arms of 0 and 1, shape (r, g)."""
        x = sample.centred(arms)
        weighted = sample.n * x
        total = _rowwise(weighted, x)
        scores = _over(weighted, total[:, None])
        share = sample.n / np.bincount(sample.strata, sample.n)[sample.strata]
        return cls(sample, x, total, scores, 1 - share - scores * x)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Whether two cells of each arm tell of the contrast, shape (r,); else it is not read."""
        learnt = (np.abs(self.x) > _TIE) & (self.free > _TIE)
        treated = (learnt & (self.x > 0)).sum(axis=1)
        return np.asarray((treated >= 2) & (learnt.sum(axis=1) - treated >= 2))

    def select(self, keep: NDArray[np.bool_]) -> Fits:
        """Some of the schedules."""
        if keep.all():
            return self
        some = (values[keep] for values in (self.x, self.total, self.scores, self.free))
        return Fits(self.sample, *some)


def own_statistic(fits: Fits, exposure: NDArray[np.float64]) -> Statistic:
    """Statistic of each schedule under its own centred exposure (r, g)."""
    return _polynomials(fits, exposure, _rowwise)


def crossed_statistic(fits: Fits, exposure: NDArray[np.float64]) -> Statistic:
    """Statistic of each of a schedules under each centred exposure (r, g)."""
    return _polynomials(fits, exposure, _crossed)


def exceeding(reference: Statistic, own: Statistic, effect: float) -> NDArray[np.bool_]:
    """Which draws have an absolute statistic of at least the replication's own, shape (a, r)."""
    estimate, error = reference.at(effect)
    mine, my_error = own.at(effect)
    estimate *= estimate
    estimate *= my_error  # cross-multiplied: an error of 0 needs no division
    error *= (1 - _TIE) * mine**2
    return np.asarray(estimate >= error)


def satterthwaite_df(fits: Fits) -> NDArray[np.float64]:
    """Degrees of freedom of the squared error, shape (r,).

    The working model is a variance of a cell in inverse proportion to its rows. With k the weights
    of squared residuals there and I - P the residual maker, df = (tr)^2 / sum k_g k_h (I - P)_gh^2;
    P_gh^2 is a sum of products over strata (Bell and McCaffrey 2002).
    """
    sample = fits.sample
    k = _over(fits.scores**2, fits.free) / sample.n
    member = np.eye(int(sample.strata.max()) + 1)[sample.strata]
    size, weighted = sample.n @ member, k * sample.n
    squares = (k**2 * (2 * fits.free - 1)).sum(axis=1)
    squares += (((weighted @ member) / size) ** 2).sum(axis=1)
    squares += _over(2 * (((weighted * fits.x) @ member) ** 2 / size).sum(axis=1), fits.total)
    squares += _over((weighted * fits.x**2).sum(axis=1), fits.total) ** 2
    return np.asarray((k * fits.free).sum(axis=1) ** 2 / squares)


def _polynomials(
    fits: Fits,
    z: NDArray[np.float64],
    products: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> Statistic:
    """Coefficients of estimate and squared error."""
    tau = fits.scores @ fits.sample.y
    residual = fits.sample.y - tau[:, None] * fits.x
    squared = _over(fits.scores**2, fits.free)
    of_residual, of_arm = squared * residual, squared * fits.x
    slope = products(fits.scores, z)
    # vectors over schedules, in the shape that goes with `slope`
    tau, fixed, joint, spread = (
        v if slope.ndim == 1 else v[:, None]
        for v in (
            tau,
            _rowwise(of_residual, residual),
            _rowwise(of_residual, fits.x),
            _rowwise(of_arm, fits.x),
        )
    )
    error_1 = 2 * (products(of_residual, z) - slope * joint)
    error_2 = products(squared, z**2)
    error_2 += slope * (slope * spread - 2 * products(of_arm, z))
    return Statistic(tau, slope, fixed, error_1, error_2)


def _rowwise(x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of rows with rows, shape (r,)."""
    return np.asarray(np.einsum("rg,rg->r", x, z))


def _crossed(x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of all rows with all rows, shape (a, r)."""
    return np.asarray(x @ z.T)


def _over(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ratio; 0 where the denominator is."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > _TIE)
