"""One difference-in-differences a stratum, joined with chosen weights: `stratified_did`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.did.cohort_gram import several_rows
from causal.did.cohort_regressors import n_cohorts, treated_cells
from causal.did.regression import fit_treatment, twfe
from causal.distributions import wald_test
from causal.effect import Effect, EffectCurve, WaldTest
from causal.effect_result import EffectResult
from causal.frame import Table, check_one_of
from causal.panel.adoption import shown
from causal.panel.open_moments import open_moments, warn_if_constant
from causal.panel.said import keeps_warnings
from causal.panel.times import plain
from causal.panel.unit_panel import warn
from causal.values import finite

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.did.cohort_gram import GramFit
    from causal.panel.cohort_moments import PanelMoments
    from causal.panel.unit_panel import Aggregate
    from causal.values import JsonScalar

__all__ = ["StratifiedDid", "stratified_did"]

Weights = Literal["treated", "population", "inverse_variance"] | Mapping[Any, float]

_FEW = 5  # units of a stratum below which its error is not to be trusted
_COVARIANCE_WORDS = ("covariance", "k", "n_clusters", "df", "singletons_dropped", "outcome")
_CHOICES = ("treated", "population", "inverse_variance")
_ASSUMES = (
    "within each stratum, treated and controls would have moved in parallel without treatment; the "
    "stratum was known before the treatment"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StratifiedDid(EffectResult):
    """Effects by stratum and their weighted mean, beside the pooled effect.

    Parameters
    ----------
    effect : Effect
        Weighted mean over strata.
    curve : EffectCurve
        Over `stratum`.
    weights : mapping from stratum to float
        They sum to 1.
    pooled : Effect
        One regression without strata.
    heterogeneity : WaldTest, optional
        That all strata have one effect (Cochran's Q where strata share no cluster); None where no
        stratum's effect has an error.
    pooling_gap : Effect
        Pooled minus stratified.
    """

    effect: Effect
    curve: EffectCurve
    weights: Mapping[JsonScalar, float]
    pooled: Effect
    heterogeneity: WaldTest | None
    pooling_gap: Effect

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a stratum: weight, estimate, standard error and limits."""
        frame = self.curve.to_frame(level)
        frame.insert(1, "weight", [self.weights[label] for label in self.curve.index])
        return frame

    def summary(self, level: float = 0.95) -> str:
        """The weighted mean, the strata, and how the pooled effect differs."""
        gap, q = self.pooling_gap, self.heterogeneity
        one = "" if q is None else f"one effect in all strata: p = {q.p_value:.3g}; "
        return "\n".join(
            [
                self.effect.summary(level),
                self.curve.summary(level),
                f"{one}pooled minus stratified {gap.estimate:+.4g} (p = {gap.p_value:.3g})",
            ]
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a forest of the strata with pooled and stratified diamonds; returns the axes."""
        from causal.did.plots import draw_strata  # noqa: PLC0415 — matplotlib when used

        return draw_strata(self, ax)


@keeps_warnings
def stratified_did(
    table: Table | PanelMoments,
    *,
    outcome: str,
    unit: str,
    time: str,
    stratum: str,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    cohort: str | None = None,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    weights: Weights = "treated",
    cluster: str | None = None,
    aggregate: Aggregate = None,
) -> StratifiedDid:
    """Difference-in-differences within user states, joined with weights of your choice.

    A pooled regression compares treated with controls of other states and weighs states by the
    variance of treatment in them; where effects and trends differ by state it answers nobody's
    question (Simpson's paradox). Here each state has its own controls and its own trend.

    Parameters
    ----------
    table : Table or PanelMoments
        One row a unit and period.
    outcome, unit, time : str
        Columns.
    stratum : str
        Column, constant within unit and known *before* treatment: a state that the treatment may
        have changed (active after the launch) biases every stratum.
    treatment, start, cohort, never
        Who is treated and when, as in `diff_in_diff`.
    weights : {"treated", "population", "inverse_variance"} or mapping from stratum to number
        Shares of treated units (the effect on the treated), of all units (as if all were treated),
        by precision (changes the estimand), or numbers that sum to 1.
    cluster, aggregate
        As in `diff_in_diff`; clusters may span strata.

    Returns
    -------
    StratifiedDid

    Raises
    ------
    ValueError
        As in `diff_in_diff`; if a stratum has no treated or no control unit, or weights miss a
        stratum, name an unknown one, or do not sum to 1; for inverse variance, if a
        stratum has none.

    Notes
    -----
    tau = sum w_k tau_k, V = w'Vw over the joint covariance by unit or cluster. Shares of units are
    estimated, which adds (sum w_k tau_k^2 - tau^2) / N of the units they are shares of (with
    clusters, the variance of the cluster-level shares).

    References
    ----------
    Cochran (1954), The combination of estimates from different experiments, for Q.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> i, t = (a.ravel() for a in np.indices((80, 2)))
    >>> log = pd.DataFrame({"id": i, "day": t, "d": i % 2, "state": np.where(i < 40, "new", "old")})
    >>> log["y"] = (i * 7 + t * 5) % 4 + (1.0 + (i < 40)) * (i % 2) * t
    >>> found = stratified_did(log, outcome="y", unit="id", time="day", stratum="state",
    ...     treatment="d", start=1, weights={"new": 0.5, "old": 0.5})
    """
    m = open_moments(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        stratum=stratum,
        treatment=treatment,
        start=start,
        cohort=cohort,
        never=never,
        cluster=cluster,
        aggregate=aggregate,
    )
    if m.stratum is None:
        raise ValueError(f"the moments hold no stratum; read them with stratum={stratum!r}")
    warn_if_constant(m, outcome)
    _check_weights(weights, m.strata, stratum)
    m, _ = several_rows(m, m.first)
    _check_strata(m, stratum, weights)
    pooled = twfe(m, "CR1")
    parts = _Parts.of(m, stratum)
    chosen = _Chosen.of(weights, m, parts)
    return _result(m, parts, chosen, pooled)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Fits of the strata and of all units, and the covariance of what they estimate.

    estimate (2K + 1,) : effects by stratum, the pooled one, treated means by stratum
    level (2K + 1, G) : influence of a unit whose path is its group's mean
    """

    estimate: NDArray[np.float64]
    cov: NDArray[np.float64]
    level: NDArray[np.float64]
    df: float

    @property
    def k(self) -> int:
        """Number of strata."""
        return len(self.estimate) // 2

    @classmethod
    def of(cls, m: PanelMoments, stratum: str) -> _Parts:
        """Fit each stratum alone and all together; sum the products of their scores."""
        k = len(m.strata)
        fits: list[GramFit] = []
        influence = np.zeros((2 * k + 1, len(m), len(m.times)))
        residual = np.zeros_like(influence)
        means = np.empty(k)
        on = treated_cells(m.first, len(m.times)) & m.present
        for j in range(k + 1):
            mine = np.asarray(m.stratum) == j if j < k else np.ones(len(m), dtype=bool)
            where = f"stratum {m.strata[j]!r} of {stratum!r}: " if j < k else ""
            try:
                fit = fit_treatment(m.kept(mine), "CR1")
            except ValueError as error:
                raise ValueError(f"{where}{error}") from None
            influence[j, mine] = fit.weights[fit.of][:, :, 0]
            residual[j, mine] = fit.residual
            fits.append(fit)
            if j < k:
                share = on * mine[:, None] / float((m.n[:, None] * on)[mine].sum())
                means[j] = (m.n[:, None] * share * m.mean).sum()
                influence[k + 1 + j], residual[k + 1 + j] = share, m.mean - means[j]
        raw = _joint(m, influence, residual)
        found = np.diag(raw)[: k + 1]
        scale = np.sqrt([float(f.cov[0, 0]) for f in fits]) / np.sqrt(np.where(found > 0, found, 1))
        scale = np.concatenate([scale, scale[:k]])
        estimate = np.concatenate([[float(f.coef[0]) for f in fits], means])
        level = scale[:, None] * np.sum(influence * residual, axis=2)
        cov = raw * np.outer(scale, scale)
        return cls(estimate, cov, level, float(np.min(fits[-1].df)))


def _joint(
    m: PanelMoments, influence: NDArray[np.float64], residual: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sums of products of the estimates' scores, by unit or cluster, without factors."""
    n = m.n.astype(np.float64)
    level = np.sum(influence * residual, axis=2)  # of a unit with its group's mean path
    if m.cluster is None and m.cross is not None:
        joint = np.einsum("agt,gts,bgs->ab", influence, m.cross, influence, optimize=True)
        return np.asarray(joint + (level * n) @ level.T)
    code, _ = m.cluster_codes()
    sums = np.array([np.bincount(code, n * row) for row in level])
    return np.asarray(sums @ sums.T)


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """Weights of the strata, and what the estimation of the weights adds.

    shares (2, G) : influence of a unit, through its stratum's share, on the weighted means of
        effects and of levels without treatment; 0 where weights are given
    """

    name: str
    weights: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, weights: Weights, m: PanelMoments, parts: _Parts) -> _Chosen:
        """The weights that were asked for."""
        k, none = parts.k, np.zeros((2, len(m)))
        by_stratum = np.array([parts.estimate[:k], parts.estimate[k + 1 :] - parts.estimate[:k]])
        if isinstance(weights, Mapping):
            given = np.array([float(weights[label]) for label in m.strata])
            return cls("by stratum, as given", given, none)
        if weights == "inverse_variance":
            variance = np.diag(parts.cov)[:k]
            exact = [m.strata[j] for j in np.flatnonzero(variance <= 0)]
            if exact:
                raise ValueError(
                    f"weights='inverse_variance' needs a variance above 0 in every stratum; "
                    f"{shown(exact)} of {m.columns['stratum']!r} has none (its outcomes do not "
                    "vary, or are fitted exactly); use weights='treated' or 'population', or join "
                    "it with another"
                )
            precision = 1 / variance
            name = "by stratum, inverse variance (changes the estimand)"
            return cls(name, precision / precision.sum(), none)
        counted = np.ones(len(m), dtype=bool)
        if weights == "treated":
            counted = (m.first > 0) & (m.first < len(m.times))
        stratum = np.asarray(m.stratum)
        total = float((m.n * counted).sum())
        w = np.bincount(stratum, m.n * counted, k) / total
        kind = "treated" if weights == "treated" else "all"
        moved = counted * (by_stratum[:, stratum] - (by_stratum @ w)[:, None]) / total
        return cls(f"by stratum, shares of {kind} units", w, moved)


def _products(m: PanelMoments, level: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of products of influences (k, G) that units of a group share, by unit or cluster."""
    if m.cluster is None:
        return np.asarray((m.n * level) @ level.T)
    code, _ = m.cluster_codes()
    sums = np.array([np.bincount(code, m.n * row) for row in level])
    return np.asarray(sums @ sums.T)


def _result(m: PanelMoments, parts: _Parts, chosen: _Chosen, pooled: Effect) -> StratifiedDid:
    """Put the numbers together."""
    k, w = parts.k, chosen.weights
    tau, cov = parts.estimate[:k], parts.cov[:k, :k]
    estimate = float(w @ tau)
    g = pooled.n_clusters or 1
    few = 1.0 if m.cluster is None else g / (g - 1)
    means = np.zeros((2, 2 * k + 1))  # of effects, and of levels without treatment
    means[0, :k], means[1, :k], means[1, k + 1 :] = w, -w, w
    joint = means @ parts.cov @ means.T + few * _products(m, chosen.shares)
    both = np.append(-w, 1.0)  # what shares add to the mean, the pooled effect holds too
    gap_level = both @ parts.level[: k + 1]
    gap_variance = float(both @ parts.cov[: k + 1, : k + 1] @ both)
    moved = np.array([gap_level, gap_level - chosen.shares[0]])
    gap_variance += float(np.diff(np.diag(_products(m, moved)))[0])
    details = {n: v for n, v in pooled.details.items() if n not in ("total", "assumes", "warnings")}
    details |= {"weights": chosen.name, "assumes": _ASSUMES}
    common: dict[str, Any] = {
        "method": "difference-in-differences by stratum",
        "n_obs": pooled.n_obs,
        "n_clusters": pooled.n_clusters,
        "df": parts.df,
    }
    effect = Effect(
        estimate=estimate,
        std_error=math.sqrt(max(float(joint[0, 0]), 0.0)),
        estimand="att",
        **common,
        baseline=float(means[1] @ parts.estimate),
        baseline_variance=max(float(joint[1, 1]), 0.0),
        baseline_cov=float(joint[0, 1]),
        details=details,
    )
    curve = EffectCurve(
        index=m.strata,
        index_name="stratum",
        estimate=tau,
        cov=cov,
        estimand="att",
        **common,
        details={"outcome": m.columns["outcome"], "assumes": _ASSUMES},
    )
    between = np.eye(len(tau))[1:] - np.eye(len(tau))[0]
    spread = between @ cov @ between.T
    gap = Effect(
        estimate=pooled.estimate - estimate,
        std_error=math.sqrt(max(gap_variance, 0.0)),
        estimand="pooled minus stratified",
        **common,
        details={n: v for n, v in details.items() if n in _COVARIANCE_WORDS},
    )
    return StratifiedDid(
        effect=effect,
        curve=curve,
        weights=dict(zip(m.strata, w.tolist(), strict=True)),
        pooled=pooled,
        heterogeneity=wald_test(between @ tau, spread, None) if spread.any() else None,
        pooling_gap=gap,
    )


def _check_weights(weights: Weights, strata: tuple[JsonScalar, ...], name: str) -> None:
    """Raise unless weights are a known choice, or name every stratum and sum to 1."""
    if not isinstance(weights, Mapping):
        check_one_of(weights, "weights", _CHOICES)
        return
    missing = [label for label in strata if label not in weights]
    unknown = [label for label in weights if label not in strata]
    if missing or unknown:
        raise ValueError(
            f"weights must name every stratum of {name!r} and no other; missing "
            f"{missing[:3]}, unknown {[plain(v) for v in unknown[:3]]}; it has "
            f"{list(strata)[:10]}; set one for each"
        )
    values = [finite(f"weights[{label!r}]", weights[label]) for label in strata]
    if min(values) < 0 or abs(sum(values) - 1) > 1e-8:
        raise ValueError(
            f"weights must be >= 0 and sum to 1; they are {values[:5]} and sum to "
            f"{sum(values):.10g}; divide them by their sum"
        )


def _check_strata(m: PanelMoments, name: str, weights: Weights) -> None:
    """Raise unless there are several strata with treated and control units; warn of few."""
    if len(m.strata) < 2:
        raise ValueError(
            f"stratum {name!r} must have at least two labels; it has {list(m.strata)}; use "
            "diff_in_diff"
        )
    treated = (m.first > 0) & (m.first < len(m.times))
    few = []
    for what, there in (("treated", treated), ("control", ~treated)):
        units = np.bincount(np.asarray(m.stratum), m.n * there, len(m.strata))
        lacking = [m.strata[k] for k in np.flatnonzero(units == 0)]
        if lacking and (what == "treated" or n_cohorts(m) == 1):
            raise ValueError(
                f"every stratum of {name!r} must have {what} units; {shown(lacking)} has none; "
                "drop its rows, or join it with another stratum"
            )
        alone = [m.strata[k] for k in np.flatnonzero(units == 1)]
        if alone and weights == "inverse_variance":
            raise ValueError(
                f"weights='inverse_variance' needs errors that can be trusted; stratum "
                f"{shown(alone)} of {name!r} has one {what} unit; use other weights, or join it"
            )
        few += [f"{int(units[k])} {what} in {m.strata[k]!r}" for k in np.flatnonzero(units < _FEW)]
    if few:
        warn(
            f"strata of {name!r} with fewer than {_FEW} units: {', '.join(few[:4])}; their errors "
            "are too small"
        )
