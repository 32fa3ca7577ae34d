"""What every estimator returns: one number (`Effect`) or numbers over an index (`EffectCurve`).

Both are values: frozen, without the data inside, equal after a round trip through JSON. The
constructor refuses what could not be used later (a NaN, a negative variance), so a result that
exists can be read, compared and drawn.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.distributions import (
    WaldTest,
    critical_value,
    lower_tail,
    p_value_without_error,
    sup_t_critical_value,
    unit_diagonal,
    wald_test,
)
from causal.values import (
    degrees_of_freedom,
    finite,
    frozen_details,
    frozen_json,
    holds_numbers,
    known_fields,
    not_negative,
    read_only,
    thawed_json,
    whole_number,
    without_numbers,
)
from causal.words import (
    details_in_words,
    estimand_in_words,
    headline_in_words,
    number_in_words,
    unit_in_words,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from causal.distributions import Alternative
    from causal.values import JsonScalar, JsonValue


__all__ = ["Effect", "EffectCurve", "EstimationWarning", "WaldTest"]


class EstimationWarning(UserWarning):
    """An estimate is valid but fragile; the message holds the diagnostic figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One causal number with its standard error.

    Parameters
    ----------
    estimate, std_error : float
        In the units of the outcome. Intervals and p-values use the t distribution with `df`
        degrees of freedom, the normal when `df` is None.
    estimand : str
        What number, for whom: ``"ate"``, ``"att"``, ``"policy value"`` ...
    method : str
        How it was estimated, in words a reader of the paper knows.
    n_obs : int
        Rows (units, where rows were summed to units first) that entered.
    n_clusters : int, optional
        Independent clusters behind `std_error`; None when rows are independent.
    df : float, optional
        Degrees of freedom.
    baseline, baseline_variance, baseline_cov : float, optional
        The control level, its variance and its covariance with `estimate`; needed for
        relative effects.
    details : mapping
        Plain JSON values; read-only.

    Raises
    ------
    ValueError
        If a number is not finite, a variance is negative, `df` is not positive or `n_obs`
        is below 1.
    TypeError
        If `details` holds anything but plain JSON values with string keys.

    Examples
    --------
    >>> effect = Effect(estimate=1.24, std_error=0.475, estimand="ate", method="Lin", n_obs=900)
    >>> print(effect)
    ATE +1.24 (95% CI 0.309 to 2.17), p = 0.009; n = 900; Lin
    """

    estimate: float
    std_error: float
    estimand: str
    method: str
    n_obs: int
    n_clusters: int | None = None
    df: float | None = None
    baseline: float | None = None
    baseline_variance: float | None = None
    baseline_cov: float | None = None
    details: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("estimate", "std_error"):
            object.__setattr__(self, name, finite(name, getattr(self, name)))
        object.__setattr__(self, "df", degrees_of_freedom(self.df))
        for name in ("baseline", "baseline_variance", "baseline_cov"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, finite(name, getattr(self, name)))
        not_negative("std_error", self.std_error)
        if self.baseline_variance is not None:
            not_negative("baseline_variance", self.baseline_variance)
        _set_counts(self)
        object.__setattr__(self, "details", frozen_details(self.details))

    def __reduce__(self) -> tuple[Any, ...]:
        return Effect.from_dict, (self.to_dict(),)

    def __str__(self) -> str:
        return headline_in_words(self, 0.95)

    def conf_int(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided confidence interval at `level`, in the units of the outcome."""
        half = critical_value(level, self.df) * self.std_error
        return self.estimate - half, self.estimate + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value against no effect; never a false zero, however large the statistic."""
        return self.test(0.0)

    def test(self, null: float = 0.0, *, alternative: Alternative = "two-sided") -> float:
        """P-value of the hypothesis that the effect equals `null`.

        Parameters
        ----------
        null : float
            The value under the null hypothesis, in the units of the outcome.
        alternative : {"two-sided", "greater", "less"}
            ``"greater"`` asks whether the effect is above `null`.

        Returns
        -------
        float
            In (0, 1] whenever `std_error` is positive.
        """
        if alternative not in ("two-sided", "greater", "less"):
            raise ValueError(
                f"alternative must be 'two-sided', 'greater' or 'less'; got {alternative!r}"
            )
        distance = self.estimate - finite("null", null)
        if self.std_error == 0:
            return p_value_without_error(distance, alternative)
        z = distance / self.std_error
        if alternative == "two-sided":
            return min(1.0, 2.0 * lower_tail(-abs(z), self.df))
        return lower_tail(-z if alternative == "greater" else z, self.df)

    def relative(self) -> Effect:
        """The effect as a share of the control level, by the delta method (no unit; 0.01 is +1 %).

        Raises
        ------
        ValueError
            If the effect carries no baseline, or the baseline is zero.
        """
        r, v_e, v_b, c_eb = self._over_baseline()
        variance = v_e - 2 * r * c_eb + r * r * v_b
        return Effect(
            estimate=r,
            std_error=math.sqrt(max(variance, 0.0)),
            estimand=f"relative {self.estimand}",
            method=f"{self.method}; delta method",
            n_obs=self.n_obs,
            n_clusters=self.n_clusters,
            df=self.df,
        )

    def relative_conf_int(
        self, level: float = 0.95, *, method: Literal["fieller", "delta"] = "fieller"
    ) -> tuple[float, float]:
        """Interval for the relative effect.

        Parameters
        ----------
        level : float
            Confidence level in (0, 1).
        method : {"fieller", "delta"}
            Fieller's set (the default) keeps its level when the control level is itself uncertain.

        Returns
        -------
        tuple of float
            Low and high, as shares of the control level.

        Raises
        ------
        ValueError
            If the control level cannot be told from 0 at `level`: Fieller's set is then
            not an interval.

        Notes
        -----
        With e the effect, b the control level and t the critical value, the set is the L with
        (e - L b)^2 <= t^2 (v_e - 2 L c_eb + L^2 v_b).

        References
        ----------
        Fieller, E. C. (1954). Some problems in interval estimation. JRSS B 16, 175-185.
        """
        if method == "delta":
            return self.relative().conf_int(level)
        if method != "fieller":
            raise ValueError(f"method must be 'fieller' or 'delta'; got {method!r}")
        r, v_e, v_b, c_eb = self._over_baseline()
        t2 = critical_value(level, self.df) ** 2
        a = 1.0 - t2 * v_b
        if a <= 0:
            raise ValueError(
                "a relative interval needs a control level that differs from 0; it is "
                f"{self.baseline:.6g} with a standard error of {100 * math.sqrt(v_b):.3g} % of it: "
                f"not distinguishable from 0 at level {level}; read the absolute effect"
            )
        b = r - t2 * c_eb
        c = r * r - t2 * v_e
        root = math.sqrt(max(b * b - a * c, 0.0))
        low, high = (b - root) / a, (b + root) / a
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                f"a relative interval over a control level of {self.baseline:.6g} is beyond a "
                "double; read the absolute effect"
            )
        return low, high

    def _over_baseline(self) -> tuple[float, float, float, float]:
        """Estimate, its variance, the baseline's and their covariance, all in baselines.

        Divided first, squared later: an outcome of 1e150 must not overflow.
        """
        if self.baseline is None or self.baseline_variance is None or self.baseline_cov is None:
            raise ValueError(
                "a relative effect needs baseline, baseline_variance and baseline_cov; "
                "this effect has none"
            )
        base = self.baseline
        if base == 0:
            raise ValueError(
                "a relative effect needs a control level other than 0; read the absolute effect"
            )
        v_b, c_eb = self.baseline_variance / base / base, self.baseline_cov / base / base
        return self.estimate / base, (self.std_error / base) * (self.std_error / base), v_b, c_eb

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row: estimand, estimate, std_error, low, high, p_value, method and counts."""
        import pandas as pd  # noqa: PLC0415 — loaded only when used

        low, high = self.conf_int(level)
        row = {
            "estimand": self.estimand,
            "estimate": self.estimate,
            "std_error": self.std_error,
            "low": low,
            "high": high,
            "level": level,
            "p_value": self.p_value,
            "baseline": self.baseline,
            "method": self.method,
            "n_obs": self.n_obs,
            "n_clusters": self.n_clusters,
            "df": self.df,
        }
        return pd.DataFrame([row])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back an equal effect, to the last bit."""
        return {f.name: thawed_json(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Effect:
        """Make an effect from what `to_dict` returned, also after JSON."""
        return cls(**known_fields(cls, d))

    def summary(self, level: float = 0.95) -> str:
        """Estimate, interval, p-value, relative effect, counts and method in one line.

        Further lines say what `details` holds of the total, the error's convention, what is
        assumed and what was warned of.
        """
        return "\n".join([headline_in_words(self, level), *details_in_words(self.details)])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the estimate with its 95 % interval; returns the axes."""
        from causal.plots import draw_effect  # noqa: PLC0415 — matplotlib is loaded only when used

        return draw_effect(self, ax)

    def _repr_html_(self) -> str:
        return f'<p style="white-space: pre-line">{html.escape(self.summary())}</p>'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EffectCurve:
    """Effects over an index (event time, segment, day, horizon) with their joint covariance.

    Parameters
    ----------
    index : sequence of JSON scalars, length k
        Labels, unique.
    index_name : str
        What the labels are.
    estimate : array (k,)
        In the units of the outcome.
    cov : array (k, k)
        Covariance of the estimates.
    estimand, method, n_obs, n_clusters, details
        As in `Effect`.
    df : float or sequence of float, length k, optional
        Degrees of freedom, of the whole or of each point.

    Raises
    ------
    ValueError
        If shapes disagree, labels repeat, a number is not finite, or `cov` is not symmetric
        with a diagonal >= 0.

    Examples
    --------
    >>> curve = EffectCurve(index=("Mon", "Tue"), index_name="day", estimate=[1.0, 2.0],
    ...     cov=[[0.1, 0], [0, 0.1]], estimand="ate", method="Lin, HC2", n_obs=200)
    >>> round(curve.average().estimate, 2)
    1.5
    """

    index: tuple[JsonScalar, ...]
    index_name: str
    estimate: NDArray[np.float64]
    cov: NDArray[np.float64]
    estimand: str
    method: str
    n_obs: int
    n_clusters: int | None = None
    df: float | tuple[float, ...] | None = None
    details: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", frozen_json(tuple(self.index), "index"))
        object.__setattr__(self, "estimate", read_only(self.estimate))
        object.__setattr__(self, "cov", read_only(self.cov))
        object.__setattr__(self, "details", frozen_details(self.details))
        k = len(self.index)
        if k == 0 or self.estimate.shape != (k,) or self.cov.shape != (k, k):
            raise ValueError(
                f"a curve over {k} labels needs estimate ({k},) and cov ({k}, {k}), k >= 1; "
                f"got {self.estimate.shape} and {self.cov.shape}"
            )
        if len(set(self.index)) != k:
            raise ValueError(f"index labels must be unique; got {list(self.index)[:5]}")
        if not (np.isfinite(self.estimate).all() and np.isfinite(self.cov).all()):
            raise ValueError(
                "estimate and cov must be finite; leave out, or refuse, a cell with too few rows"
            )
        if np.diag(self.cov).min() < 0:
            raise ValueError("cov must be symmetric with a diagonal >= 0")
        correlation = unit_diagonal(self.cov)[0]
        if not np.allclose(correlation, correlation.T, rtol=0, atol=1e-8):
            raise ValueError("cov must be symmetric with a diagonal >= 0")
        least = float(np.linalg.eigvalsh(correlation).min())
        if least < -1e-6 * k:
            raise ValueError(
                "cov must be positive semi-definite: no average of the points may have a negative "
                f"variance; the least eigenvalue of its correlations is {least:.3g}"
            )
        object.__setattr__(self, "df", degrees_of_freedom(self.df, k))
        _set_counts(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return EffectCurve.from_dict, (self.to_dict(),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EffectCurve):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(
            (self.index, tuple(self.estimate.tolist()), self.estimand, self.method, self.n_obs)
        )

    def __len__(self) -> int:
        return len(self.index)

    def __str__(self) -> str:
        return self.summary()

    @property
    def std_error(self) -> NDArray[np.float64]:
        """Standard errors of the points, shape (k,)."""
        return np.sqrt(np.diag(self.cov))

    def conf_int(self, level: float = 0.95, *, simultaneous: bool = False) -> NDArray[np.float64]:
        """Confidence intervals, shape (k, 2).

        Parameters
        ----------
        level : float
            Confidence level in (0, 1).
        simultaneous : bool
            If True the band covers the *whole* curve with probability `level` (sup-t),
            otherwise each point does.

        Notes
        -----
        The sup-t critical value c solves P(max_j |Z_j| <= c) = level for Z with the curve's
        correlation matrix. With Z = R u, u uniform on the sphere, the radius R is
        integrated in closed form (chi, or F with finite `df`) for each of 65,536 seeded
        directions; c is the root. Montiel Olea & Plagborg-Moller (2019), Simultaneous
        confidence bands. Where points have degrees of freedom of their own, each takes the
        t quantile at the tail of the normal c.
        """
        half = self._critical_values(level, simultaneous=simultaneous) * self.std_error
        return np.column_stack([self.estimate - half, self.estimate + half])

    def _critical_values(self, level: float, *, simultaneous: bool) -> float | NDArray[np.float64]:
        """Two-sided critical values of the points."""
        if not isinstance(self.df, tuple):
            each = critical_value(level, self.df)
            return sup_t_critical_value(self.cov, level, self.df) if simultaneous else each
        if simultaneous:
            level = 1 - 2 * lower_tail(-sup_t_critical_value(self.cov, level), None)
        return np.array([critical_value(level, df) for df in self.df])

    def _df_of(self, weights: NDArray[np.float64]) -> float | None:
        """Degrees of freedom of a weighted average: Welch-Satterthwaite, or the least if linked."""
        if not isinstance(self.df, tuple):
            return self.df
        used = weights > 0
        df = np.array(self.df)[used]
        part = (weights**2 * np.diag(self.cov))[used]
        linked = np.any(self.cov[np.ix_(used, used)] != np.diag(np.diag(self.cov)[used]))
        alone = linked or part.sum() == 0 or len(df) == 1
        return float(df.min() if alone else part.sum() ** 2 / np.sum(part**2 / df))

    def average(self, weights: ArrayLike | Mapping[Any, float] | None = None) -> Effect:
        """Weighted average of the points as one effect.

        Parameters
        ----------
        weights : array (k,) or mapping from label to number, optional
            Not negative, scaled to sum 1; equal by default.

        Raises
        ------
        ValueError
            If weights are missing for a label, negative, not finite, or all zero.
        """
        w = self._weights(weights)
        return self._effect(w, {"weights": w.tolist()})

    def at(self, label: JsonScalar) -> Effect:
        """The effect at one label."""
        if label not in self.index:
            raise ValueError(
                f"{self.index_name} {label!r} is not in the curve; it has {list(self.index)[:10]}"
            )
        here = np.zeros(len(self))
        here[j := self.index.index(label)] = 1.0
        own = {k: v[j] for k, v in self.details.items() if holds_numbers(v, len(self))}
        return self._effect(here, {**own, "at": {self.index_name: label}})

    def test(self, null: ArrayLike = 0.0) -> WaldTest:
        """Joint Wald test that the curve equals `null` (a number or an array of shape (k,)).

        Directions without variance are left out of the statistic, and its degrees of
        freedom count the rest.
        """
        null = np.asarray(null, dtype=np.float64)
        if null.shape not in ((), self.estimate.shape):
            raise ValueError(f"null must be a number or {len(self)} of them; got {null.shape}")
        distance = self.estimate - null
        if not np.isfinite(distance).all():
            raise ValueError(f"null must be finite; got {null!r}")
        least = min(self.df) if isinstance(self.df, tuple) else self.df
        return wald_test(distance, self.cov, least)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a label: estimate, std_error, pointwise and simultaneous limits."""
        import pandas as pd  # noqa: PLC0415 — loaded only when used

        point, band = self.conf_int(level), self.conf_int(level, simultaneous=True)
        columns = {
            "estimate": self.estimate,
            "std_error": self.std_error,
            "low": point[:, 0],
            "high": point[:, 1],
            "low_simultaneous": band[:, 0],
            "high_simultaneous": band[:, 1],
        }
        frame = pd.DataFrame(columns)
        frame.insert(0, self.index_name, list(self.index), allow_duplicates=True)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back an equal curve."""
        return {f.name: thawed_json(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> EffectCurve:
        """Make a curve from what `to_dict` returned, also after JSON."""
        return cls(**known_fields(cls, d))

    def summary(self, level: float = 0.95) -> str:
        """A heading and one line a label."""
        unit = unit_in_words(self.details)
        what = f"{estimand_in_words(self.estimand)} by {self.index_name}"
        rows = [
            f"  {label}: {number_in_words(b, sign=True)}{unit} "
            f"({100 * level:.4g}% CI {number_in_words(low)} to {number_in_words(high)})"
            for label, b, (low, high) in zip(
                self.index, self.estimate, self.conf_int(level), strict=True
            )
        ]
        return "\n".join([f"{what}; n = {self.n_obs:,}; {self.method}", *rows])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve with pointwise and simultaneous 95 % limits; returns the axes."""
        from causal.plots import draw_curve  # noqa: PLC0415 — matplotlib is loaded only when used

        return draw_curve(self, ax)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def _weights(self, weights: ArrayLike | Mapping[Any, float] | None) -> NDArray[np.float64]:
        """Checked weights that sum to 1."""
        k = len(self.index)
        if weights is None:
            return np.full(k, 1.0 / k)
        if isinstance(weights, Mapping):
            missing = [label for label in self.index if label not in weights]
            if missing:
                raise ValueError(
                    f"weights must name every {self.index_name}; missing {missing[:5]}"
                )
            weights = [weights[label] for label in self.index]
        w = np.asarray(weights, dtype=np.float64)
        if w.shape != (k,) or not np.isfinite(w).all() or w.min() < 0 or w.sum() <= 0:
            raise ValueError(
                f"weights must be {k} finite numbers >= 0, not all 0; got {w.tolist()[:5]}"
            )
        return np.asarray(w / w.sum())

    def _effect(self, weights: NDArray[np.float64], details: Mapping[str, JsonValue]) -> Effect:
        """One number out of the curve."""
        return Effect(
            estimate=float(weights @ self.estimate),
            std_error=math.sqrt(max(float(weights @ self.cov @ weights), 0.0)),
            estimand=self.estimand,
            method=self.method,
            n_obs=self.n_obs,
            n_clusters=self.n_clusters,
            df=self._df_of(weights),
            details={**without_numbers(self.details, len(self)), **details},
        )


def _set_counts(result: Effect | EffectCurve) -> None:
    """Check and store the counts and the degrees of freedom, which both results share."""
    for name, least in (("n_obs", 1), ("n_clusters", 1)):
        value = getattr(result, name)
        if value is None and name == "n_clusters":
            continue
        object.__setattr__(result, name, whole_number(name, value, least))
