"""`PolicyValue`: an off-policy value with the diagnostics of the weights behind it.

`Estimate` is what every estimator hands on, `policy_effect` makes an `Effect` of it.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causal.effect import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from causal.decisions.weights import WeightDiagnostics
    from causal.values import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """What a policy would have earned, and how well the log supports saying so.

    Parameters
    ----------
    effect : Effect
        The value (mean reward a row, or a slate) or the lift over the policy that logged.
    diagnostics : WeightDiagnostics
        Read them first: an interval from few effective rows is not to be believed.

    Examples
    --------
    >>> import pandas as pd
    >>> from causal import off_policy_value
    >>> log = pd.DataFrame({"click": [1, 0] * 200, "p": 0.5, "new": [0.6, 0.4] * 200})
    >>> value = off_policy_value(log, reward="click", propensity="p", target="new")
    >>> round(value.estimate, 3), round(value.diagnostics.ess, 1)
    (0.6, 384.6)
    """

    effect: Effect
    diagnostics: WeightDiagnostics

    def __str__(self) -> str:
        return self.summary()

    @property
    def estimate(self) -> float:
        """The effect's estimate."""
        return self.effect.estimate

    @property
    def std_error(self) -> float:
        """The effect's standard error."""
        return self.effect.std_error

    def conf_int(self, level: float = 0.95) -> tuple[float, float]:
        """The effect's confidence interval."""
        return self.effect.conf_int(level)

    @property
    def p_value(self) -> float:
        """The effect's two-sided p-value against 0."""
        return self.effect.p_value

    def summary(self, level: float = 0.95) -> str:
        """Two lines: the effect, and the weights behind it."""
        return f"{self.effect.summary(level)}\n{self.diagnostics.summary()}"

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row: the effect's columns, then those of the diagnostics that it does not have."""
        frame = self.effect.to_frame(level)
        figures = self.diagnostics.to_frame()
        return frame.join(figures[[name for name in figures.columns if name not in frame.columns]])

    def to_dict(self) -> dict[str, Any]:
        """The effect as plain JSON values; `diagnostics.to_dict()` has the weights."""
        return self.effect.to_dict()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What an estimator found: a value, the mean logged reward, and their covariance.

    Parameters
    ----------
    value, logged_mean : float
    covariance : array (2, 2)
        Of `value` and `logged_mean`; of `value - logged_mean` and `logged_mean` if `lift`.
    lift : bool
    n_obs : int
    n_clusters : int or None
    df : float or None
        Degrees of freedom; by default G - 1 of G clusters, normal without clusters.
    mean_weight : float
        Of the weights as used.
    scores : (clusters, contributions), arrays (G,), or None
        What each cluster adds to `value`, where rows share clusters; sum 0.
    """

    value: float
    logged_mean: float
    covariance: NDArray[np.float64]
    lift: bool
    n_obs: int
    n_clusters: int | None
    df: float | None = None
    mean_weight: float = 1.0
    scores: tuple[NDArray[Any], NDArray[np.float64]] | None = None


def policy_effect(estimate: Estimate, *, method: str, details: Mapping[str, JsonValue]) -> Effect:
    """The estimate as an effect; a lift carries the mean logged reward as its baseline."""
    found: dict[str, Any] = {}
    value, estimand = estimate.value, "policy value"
    if estimate.lift:
        value, estimand = estimate.value - estimate.logged_mean, "policy lift"
        found["baseline"] = estimate.logged_mean
        found["baseline_variance"] = float(estimate.covariance[1, 1])
        found["baseline_cov"] = float(estimate.covariance[0, 1])
    df = estimate.df
    if df is None and estimate.n_clusters is not None:
        df = estimate.n_clusters - 1.0
    return Effect(
        estimate=value,
        std_error=math.sqrt(max(float(estimate.covariance[0, 0]), 0.0)),
        estimand=estimand,
        method=method,
        n_obs=estimate.n_obs,
        n_clusters=estimate.n_clusters,
        df=df,
        details=details,
        **found,
    )
