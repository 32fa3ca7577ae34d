"""What `synthetic_control` returns: the effect, whose weighted donors stand in, and how well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from causal.effect_result import EffectResult
from causal.frame import check_one_of
from causal.words import number_in_words, p_in_words, unit_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.effect import Effect, EffectCurve
    from causal.values import JsonScalar

Kind = Literal["paths", "gap", "placebo", "weights", "leave_one_out"]
_KINDS = ("paths", "gap", "placebo", "weights", "leave_one_out")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SyntheticControl(EffectResult):
    """A synthetic control: what the treated did, beside the donors that together resemble them.

    Parameters
    ----------
    effect : Effect
        Mean gap after the start, over the treated cells. Its standard error is the root mean
        square of the donors' placebo means; its own p-value is the normal one of that error.
    p_value : float
        Of `inference`: the rank of the ratio of post- to pre-period RMSPE among placebos, the
        conformal one, or the effect's own.
    inference : {"placebo", "conformal"}, optional
    level : float
        Of `interval`.
    interval : tuple of float, optional
        Conformal interval of a constant effect.
    gap : EffectCurve
        Observed less synthetic, over time (event time where starts differ); its covariance is the
        mean product of the placebos' gaps.
    path : DataFrame
        time, observed, synthetic, gap: means over the treated.
    start : JSON scalar
        First treated time; 0 where starts differ.
    treated : tuple
        Labels of the treated units.
    donor_weights : mapping from unit to float
        Donors with weight, the largest first; the mean over the treated.
    unit_weights : DataFrame
        treated, donor, weight.
    predictor_weights : mapping from label to float
        V, of sum 1, the mean over the treated; empty where outcomes are matched.
    balance : DataFrame
        predictor, treated, synthetic, donors_mean.
    pre_rmspe, post_rmspe : float
        Root mean squared gaps before and after the start.
    fit_quality : float
        `pre_rmspe` over the standard deviation of the treated path before the start.
    outside_share : float
        Share of the periods before the start in which a treated unit lies above or below all
        donors.
    placebo : DataFrame
        unit (or set of units), pre_rmspe, post_rmspe, ratio, rank, in_std_error; the treated
        first.
    placebo_gaps : array (q, e)
        Gaps of the placebos, in the table's order.
    leave_one_out : DataFrame
        left_out, estimate, pre_rmspe; predictor weights are held.
    leave_one_out_gaps : array (r, e)
    duality_gap : float
        Largest of all problems solved, over the mean squared distance of the donors.
    unique : bool
        Whether no other donor weights fit equally well.
    pooling, ridge : float, optional
        Share of the pooled fit; penalty of the augmentation, the mean over the treated.
    v_spread : tuple of float, optional
        Least and largest effect among predictor weights that fit within 1 % of the best.
    solver : str
        How weights were found, and how many problems.

    Examples
    --------
    >>> SyntheticControl.__mro__[1].__name__
    'EffectResult'
    """

    effect: Effect
    p_value: float = field()
    inference: Literal["placebo", "conformal"] | None
    level: float
    interval: tuple[float, float] | None
    gap: EffectCurve
    path: pd.DataFrame
    start: JsonScalar
    treated: tuple[JsonScalar, ...]
    donor_weights: Mapping[JsonScalar, float]
    unit_weights: pd.DataFrame
    predictor_weights: Mapping[str, float]
    balance: pd.DataFrame
    pre_rmspe: float
    post_rmspe: float
    fit_quality: float
    outside_share: float
    placebo: pd.DataFrame
    placebo_gaps: NDArray[np.float64]
    leave_one_out: pd.DataFrame
    leave_one_out_gaps: NDArray[np.float64]
    duality_gap: float
    unique: bool
    pooling: float | None
    ridge: float | None
    v_spread: tuple[float, float] | None
    solver: str

    def conf_int(self, level: float | None = None) -> tuple[float, float]:
        """Interval of the effect: conformal where that was asked for, else from placebos.

        Raises
        ------
        ValueError
            If the interval is conformal and was found at another level.
        """
        level = self._level(level)
        if self.interval is None:
            return self.effect.conf_int(level)
        if abs(level - self.level) > 1e-12:
            raise ValueError(
                f"the conformal interval was found at level {self.level:g}; got {level:g}; call "
                f"synthetic_control again with level={level:g}"
            )
        return self.interval

    def to_frame(self, level: float | None = None) -> pd.DataFrame:
        """The headline as one row, with the p-value and interval of `inference`."""
        level = self.level if level is None else level
        frame = self.effect.to_frame(level)
        frame["low"], frame["high"] = self.conf_int(level)
        frame["p_value"] = self.p_value
        return frame

    def summary(self, level: float | None = None) -> str:
        """Effect, interval and p-value; the whole; the fit; the donors; assumed and warned of."""
        level = self.level if level is None else level
        low, high = self.conf_int(level)
        details = self.effect.details
        base = self.effect.baseline or 0.0
        share = f", {number_in_words(100 * self.estimate / base, sign=True)}%" if base else ""
        donors = [
            f"{name} {number_in_words(weight)}" for name, weight in self.donor_weights.items()
        ]
        more = f" and {len(donors) - 8} more" if len(donors) > 8 else ""
        matched = [f"{name} {number_in_words(v)}" for name, v in self.predictor_weights.items()]
        said = details.get("warnings")
        lines = [
            f"ATT on {details['outcome']} {number_in_words(self.estimate, sign=True)}"
            f"{unit_in_words(details)} ({100 * level:.4g}% CI {number_in_words(low)} to "
            f"{number_in_words(high)}, {details['interval']}), {p_in_words(self.p_value)} "
            f"({details['p_value']}); {self.effect.method}",
            f"  synthetic level {number_in_words(base, 4)}{share}; total "
            f"{number_in_words(float(str(details['total'])), sign=True)} "
            f"over {details['treated_cells']} treated cells",
            f"  {len(self.treated)} treated, {details['n_donors']} donors, "
            f"{details['n_before']} periods before and {details['n_after']} after the start",
            f"  fit: RMSPE {number_in_words(self.pre_rmspe)} before "
            f"({number_in_words(100 * self.fit_quality, 2)}% of the path's standard deviation), "
            f"{number_in_words(self.post_rmspe)} after",
            f"  donors: {', '.join(donors[:8])}{more}{'' if self.unique else ' (not unique)'}",
            *([f"  predictor weights: {', '.join(matched)}"] if matched else []),
            f"  std_error: {details['std_error']}",
            f"  assumes: {details['assumes']}",
            *(f"  warned: {one}" for one in (said if isinstance(said, tuple | list) else ())),
        ]
        return "\n".join(lines)

    def plot(self, kind: Kind = "paths", ax: Axes | None = None) -> Axes:
        """Draw one view of the result; returns the axes.

        Parameters
        ----------
        kind : {"paths", "gap", "placebo", "weights", "leave_one_out"}
            Observed and synthetic path; their gap with its interval; the gap among those of
            placebos (poorly fitting ones pale); donor weights; the gap without each donor.
        ax : Axes, optional
        """
        check_one_of(kind, "kind", _KINDS)
        from causal.synthetic.synthetic_plots import (  # noqa: PLC0415 — matplotlib is loaded only when used
            draw_synthetic,
        )

        return draw_synthetic(self, kind, ax)
