"""Joint covariance of estimates that are linear in the paths of units, from moments of groups."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from causal.did.rounding import path_noise, quadratic_noise, variance_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.effect import Effect
    from causal.panel.cohort_moments import PanelMoments


@dataclass(frozen=True, slots=True, eq=False)
class CohortScores:
    """Estimates by their influence v'e of each unit, summed by cluster; no small-sample factor.

    moments : PanelMoments
    sums : (G,) each, v'e of a group's mean e
    reach : (G,) each, the absolute weights of outcomes
    weights : (G, T) each, v; not kept where the cross products are not needed
    """

    moments: PanelMoments
    sums: list[NDArray[np.float64]] = field(default_factory=list)
    reach: list[NDArray[np.float64]] = field(default_factory=list)
    weights: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, v: NDArray[np.float64], e: NDArray[np.float64]) -> None:
        """One more estimate: weights v (G, T), and e (G, T), a group's mean of what is weighted.

        Within a group, v'e must vary over units as v'y does.
        """
        self.sums.append((v * e).sum(axis=1))
        self.reach.append(np.abs(v).sum(axis=1))
        if self.moments.cluster is None:
            self.weights.append(v)

    def add_constants(self, influence: NDArray[np.float64], reach: NDArray[np.float64]) -> None:
        """One more estimate whose influence (G,) is the same for all units of a group.

        reach : (G,), the absolute weights of outcomes in it
        """
        self.sums.append(influence)
        self.reach.append(reach)
        if self.moments.cluster is None:
            self.weights.append(np.zeros(self.moments.mean.shape))

    def cov(self) -> NDArray[np.float64]:
        """Covariance of the estimates, in the order in which they came; 0 what is rounding."""
        m = self.moments
        s = m.n[:, None] * np.column_stack(self.sums)
        noise = variance_noise(m, np.column_stack(self.reach), path_noise(m))
        if m.cluster is not None:
            code, n_clusters = m.cluster_codes()
            total = np.zeros((n_clusters, s.shape[1]))
            np.add.at(total, code, s)
            found = total.T @ total
        else:
            if m.cross is None:
                raise ValueError("panel moments without cross products have no errors by unit")
            found = (s / m.n[:, None]).T @ s
            V = np.stack(self.weights)
            for g, Q in enumerate(m.cross):
                found += V[:, g] @ Q @ V[:, g].T
                noise += quadratic_noise(m, np.abs(V[:, g]), g)
        seen = np.diag(found) > noise
        return np.asarray((found + found.T) / 2 * np.outer(seen, seen))


def mean_level(
    m: PanelMoments, cells: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Mean outcome over cells (G, T), and the v and e of its influence: units are a sample."""
    v = cells / float((m.n[:, None] * cells).sum())
    start = float(m.mean[cells][0])
    mean = start + float((m.n[:, None] * v * (m.mean - start)).sum())
    return mean, v, (m.mean - mean) * cells


def with_level(effect: Effect, level: float, variance: float, cov: float) -> Effect:
    """The effect with its counterfactual as baseline: the treated's level less the effect.

    variance, cov : of the level, and with the effect
    """
    v = effect.std_error * effect.std_error
    return replace(
        effect,
        baseline=level - effect.estimate,
        baseline_variance=max(variance + v - 2 * cov, 0.0),
        baseline_cov=cov - v,
    )
