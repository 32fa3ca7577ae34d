"""Tests for few clusters: wild bootstrap with the null imposed, and labels dealt anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causal.did.cluster_draws import ClusterDraws, Multiplier, label_draws, wild_draws
from causal.did.cluster_grams import ClusterGrams, cluster_grams
from causal.did.cohort_regressors import warn_of_weights
from causal.did.conventions import covariance_details
from causal.effect import Effect
from causal.effect_result import EffectResult
from causal.frame import Table, check_level, check_one_of
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import read_panel, warn
from causal.values import finite, whole_number
from causal.words import estimand_in_words, number_in_words, p_in_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["ClusterTest", "few_cluster_test"]

_FEW_TREATED = 5
_WORDS = {
    "rademacher": "wild cluster bootstrap, null imposed, {} sign vectors",
    "webb": "wild cluster bootstrap, null imposed, {} six-point weights",
    "labels": "permutation of clusters, {} assignments",
}
_LABELS = {
    "wild": ("estimate less null over its error, of each draw", "draws"),
    "permutation": ("estimate less null, with labels dealt anew", "assignments"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterTest(EffectResult):
    """A difference-in-differences with the p-value and interval of a test for few clusters.

    Parameters
    ----------
    effect : Effect
        Estimate and CR1 error; its own interval and p-value are those of a t distribution.
    method : {"wild", "permutation"}
    statistic : float
        Of the null: t for ``"wild"``, estimate less null for ``"permutation"``.
    p_two_sided : float
        Share of draws whose statistic is as far from 0.
    low, high : float
        Interval of the effects that the test does not reject; infinite where it rejects none.
    level : float
        Of the interval.
    null : float
        Effect that was tested.
    n_draws : int
        Draws compared with.
    exact : bool
        Whether these are all that there are.
    draws : array (n_draws,)
        Their statistics under the null, without those that have none.
    """

    effect: Effect
    method: str
    statistic: float
    p_two_sided: float
    low: float
    high: float
    level: float
    null: float
    n_draws: int
    exact: bool
    draws: NDArray[np.float64]

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the null."""
        return self.p_two_sided

    def conf_int(self, level: float | None = None) -> tuple[float, float]:
        """Interval of the effects that are not rejected; at the level of the call only."""
        if level is not None and level != self.level:
            raise ValueError(
                f"the test was inverted at level {self.level}; got {level}; pass level={level} to "
                "few_cluster_test"
            )
        return self.low, self.high

    def to_frame(self, level: float | None = None) -> pd.DataFrame:
        """One row, as `Effect.to_frame`, with the limits and p-value of this test."""
        low, high = self.conf_int(level)
        frame = self.effect.to_frame(self.level)
        return frame.assign(low=low, high=high, p_value=self.p_value, method=self.effect.method)

    def summary(self, level: float | None = None) -> str:
        """One line: estimate, interval, p-value, counts and method."""
        low, high = self.conf_int(level)
        effect = self.effect
        return (
            f"{estimand_in_words(effect.estimand)} {number_in_words(effect.estimate, sign=True)} "
            f"({100 * self.level:.4g}% CI {number_in_words(low)} to {number_in_words(high)}), "
            f"{p_in_words(self.p_value)} against {number_in_words(self.null)}; "
            f"n = {effect.n_obs:,} in {effect.n_clusters:,} clusters; {effect.method}"
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the statistics of all draws with the observed one; returns the axes."""
        from causal.plots import draw_paths  # noqa: PLC0415 — matplotlib is loaded only when used

        return draw_paths(self.draws, self.statistic, self.p_value, ax, labels=_LABELS[self.method])


@keeps_warnings
def few_cluster_test(  # noqa: PLR0913 — columns, treatment and choices, each by name
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    cluster: str,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    cohort: str | None = None,
    never: Any = None,  # noqa: ANN401 — a time of any kind
    method: Literal["wild", "permutation"] = "wild",
    multiplier: Multiplier = "rademacher",
    n_draws: int = 9_999,
    null: float = 0.0,
    level: float = 0.95,
    seed: int = 0,
) -> ClusterTest:
    """Whether a feature that a few cities or scenes got did anything: a test that few may carry.

    The estimate is that of `diff_in_diff` (unit and period effects); with a dozen clusters its
    usual error is too small and the t distribution wrong. Two remedies: the wild cluster bootstrap
    multiplies whole clusters of residuals by random signs, with the null imposed; the permutation
    deals the treated labels anew among the clusters and is exact if they were dealt at random, for
    one treated cluster too.

    Parameters
    ----------
    table : Table
        One row a unit and period; gaps are allowed.
    outcome, unit, time, cluster : str
        Columns; the cluster is constant within unit.
    treatment, start, cohort, never
        Who is treated and when, as in `diff_in_diff`. For ``"permutation"`` all units of a
        cluster share it.
    method : {"wild", "permutation"}
    multiplier : {"rademacher", "webb"}
        Signs, or Webb's six points, whose p-values are finer where clusters are very few.
    n_draws : int
        Draws; all there are are taken where they are no more than this, or than 4,096.
    null : float
        Effect to test, in units of the outcome.
    level : float
        Of the interval.
    seed : int
        Of the draws; without influence where all are taken.

    Returns
    -------
    ClusterTest

    Raises
    ------
    ValueError
        On a table that `diff_in_diff` refuses, fewer than 2 clusters, or, for ``"permutation"``,
        clusters within which treatment differs.
    TypeError
        If `table` is not a table or a column not of its kind.

    Warns
    -----
    EstimationWarning
        If fewer than 5 clusters are treated (wild), or the least p-value that there can be is
        above 1 - level: then the interval is infinite; if two-way fixed effects give effects of
        several cohorts negative weights.

    Notes
    -----
    Wild: residuals of the regression with the null imposed, t statistics with CR1 errors, from
    cluster sums only. With 2^G up to 4,096 or `n_draws` all sign vectors, the observed one among
    them, and p is the share of |t*| >= |t|; drawn ones count the observed statistic as one more:
    (1 + count)/(1 + draws). The least p-value of signs is 2^(1-G): 5 clusters cannot reject at
    95 %. Webb's points can, but without an effect they rejected 9.5 % of 1,500 panels of 5
    clusters with 2 treated (signs: 2.9 % with 6 and 2, 4.9 % with 6 and 3). Intervals hold the
    effects with p > 1 - level, found by doubling and bisection on each side. Not corrected for:
    trends that differ, cohorts with effects that differ, dependence between clusters. With very
    few treated clusters the wild test rejects too rarely.

    References
    ----------
    Cameron, Gelbach and Miller (2008); MacKinnon (2022), Fast cluster bootstrap methods for linear
    regression models; Webb (2023); MacKinnon and Webb (2020), Randomization inference for
    difference-in-differences with few treated clusters.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> at = np.indices((60, 6)).reshape(2, -1)
    >>> log = pd.DataFrame({"id": at[0], "week": at[1], "city": at[0] % 10})
    >>> log = log.assign(live=(log.city < 5) * 1, gmv=log.id * 7 % 13 + log.week * log.id % 5)
    >>> roles = {"outcome": "gmv", "unit": "id", "time": "week", "cluster": "city"}
    >>> few_cluster_test(log, **roles, treatment="live", start=3).exact
    True
    """
    check_one_of(method, "method", ("wild", "permutation"))
    check_one_of(multiplier, "multiplier", ("rademacher", "webb"))
    draws_asked = whole_number("n_draws", n_draws, 99)
    level, null = check_level(level), finite("null", null)
    panel = read_panel(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        cohort=cohort,
        treatment=treatment,
        start=start,
        never=never,
        cluster=cluster,
    )
    grams = cluster_grams(panel)
    _check_clusters(grams, method, cluster, panel.cluster_labels)
    if method == "wild":
        draws = wild_draws(grams, multiplier=multiplier, n_draws=draws_asked, seed=seed)
    else:
        draws = label_draws(grams, n_draws=draws_asked, seed=seed)
    _warn(grams, draws, level)
    warn_of_weights(panel.times, panel.first, grams.negative)
    return _result(_effect(grams, draws), grams, draws, null, level)


def _check_clusters(
    grams: ClusterGrams, method: str, cluster: str, labels: NDArray[Any] | None
) -> None:
    """Refuse too few clusters, and for permutations those within which treatment differs."""
    if grams.n_clusters < 2:
        raise ValueError(
            f"cluster {cluster!r} must hold at least 2 clusters; got {grams.n_clusters}: name a "
            "column with more labels"
        )
    if method == "permutation" and (grams.first < 0).any():
        mixed = np.flatnonzero(grams.first < 0)
        seen = mixed if labels is None else labels[mixed]
        raise ValueError(
            f"a permutation needs treatment to be the same for all units of a cluster; "
            f"{len(mixed)} clusters of {cluster!r} differ within, e.g. "
            f"{', '.join(map(str, seen[:3]))}: use method='wild', or name the column at whose "
            "level treatment was decided"
        )


def _warn(grams: ClusterGrams, draws: ClusterDraws, level: float) -> None:
    """Say that no draw can reject, or that treated clusters are few; once."""
    g, treated = grams.n_clusters, grams.n_treated
    if draws.least_p > 1 - level + 1e-12:
        warn(
            f"{g} clusters, {treated} of them treated, allow no p-value below {draws.least_p:.3g}: "
            f"no effect can be rejected at level {level}; use a lower level or more clusters",
            stacklevel=4,
        )
    elif draws.kind != "labels" and treated < _FEW_TREATED:
        say = (
            "a wild cluster test is not reliable with one treated cluster; use "
            "method='permutation' or synthetic_control"
            if treated == 1
            else "a wild cluster test rejects too rarely with so few; compare with "
            "method='permutation'"
        )
        warn(f"{g} clusters, {treated} of them treated: {say}", stacklevel=4)


def _effect(grams: ClusterGrams, draws: ClusterDraws) -> Effect:
    """The two-way fixed-effects estimate with its CR1 error."""
    g, beside = grams.n_clusters, grams.beside_periods()
    total = beside.xx.sum()
    estimate = beside.xy.sum() / total
    scores = beside.xy - estimate * beside.xx
    error = math.sqrt(grams.factor * float(scores @ scores)) / total
    count = f"{'all ' if draws.exact else ''}{len(draws.a):,}"
    return Effect(
        estimate=math.ldexp(estimate, grams.exponent),
        std_error=math.ldexp(error, grams.exponent),
        estimand="att",
        method=f"difference-in-differences; {_WORDS[draws.kind].format(count)}",
        n_obs=grams.n_obs,
        n_clusters=g,
        df=float(g - 1),
        details={
            **covariance_details(
                "CR1", k=grams.k, n_clusters=g, df=float(g - 1), singletons=grams.singletons
            ),
            "treated_clusters": grams.n_treated,
            "least_p_value": draws.least_p,
            "assumes": "without treatment both groups would have moved in parallel; clusters are "
            "independent",
        },
    )


def _result(
    effect: Effect, grams: ClusterGrams, draws: ClusterDraws, null: float, level: float
) -> ClusterTest:
    """Test the null and invert the test."""

    def scaled(delta: float) -> float:
        return effect.estimate + (
            math.ldexp(delta, grams.exponent) if math.isfinite(delta) else delta
        )

    delta = math.ldexp(null - effect.estimate, -grams.exponent)
    step = math.ldexp(effect.std_error or abs(effect.estimate) or 1.0, -grams.exponent)
    low, high = draws.not_rejected(level, step)
    wild = draws.kind != "labels"
    unit = 1 / math.sqrt(grams.factor) if wild else math.ldexp(1.0, grams.exponent)
    return ClusterTest(
        effect=effect,
        method="wild" if wild else "permutation",
        statistic=unit * draws.observed(delta),
        p_two_sided=draws.p_value(delta),
        low=scaled(low),
        high=scaled(high),
        level=level,
        null=null,
        n_draws=len(draws.a),
        exact=draws.exact,
        draws=unit * draws.statistics(delta),
    )
