"""Synthetic control: weighted donors stand in for the treated units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causal.effect import Effect, EffectCurve
from causal.frame import Table, check_level, check_one_of
from causal.panel.adoption import shown
from causal.panel.said import keeps_warnings
from causal.panel.unit_panel import read_panel, warn
from causal.synthetic.aligned_paths import align
from causal.synthetic.conformal import conformal
from causal.synthetic.donor_pool import donor_pool, require_donors
from causal.synthetic.donor_weights import Fitting, find_weights
from causal.synthetic.placebo import POOR_FIT, fit_before_and_after, leave_one_out, run_placebos
from causal.synthetic.predictors import Predictor, predictor_table
from causal.synthetic.synthetic_fit import (
    balance_table,
    is_unique,
    outside_share,
    unmatched_predictors,
    v_spread,
    weight_table,
)
from causal.synthetic.synthetic_result import SyntheticControl
from causal.values import finite, not_negative
from causal.words import number_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from causal.synthetic.aligned_paths import AlignedPaths
    from causal.synthetic.conformal import Conformal
    from causal.synthetic.donor_pool import DonorPool
    from causal.synthetic.donor_weights import DonorWeights
    from causal.synthetic.placebo import Placebos
    from causal.synthetic.predictors import PredictorWeights

Inference = Literal["placebo", "conformal", None]

_POOR_QUALITY, _OUTSIDE, _V_SHARE, _GAP = 0.25, 0.1, 0.1, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What the caller chose beside the columns."""

    predictors: tuple[Predictor, ...]
    predictor_weights: PredictorWeights
    penalty: float
    augment: str | None
    ridge: float | None
    pooling: float | None
    fixed_effect: bool
    inference: Inference
    level: float
    seed: int


@keeps_warnings
def synthetic_control(  # noqa: PLR0913 — the roles of columns and the ways to say who is treated
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    treated: Any = None,  # noqa: ANN401 — one unit or several
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    cohort: str | None = None,
    donors: Iterable[Any] | None = None,
    predictors: Sequence[Predictor] = (),
    predictor_weights: PredictorWeights = "nested",
    penalty: float = 0.0,
    augment: Literal["ridge", None] = None,
    ridge: float | None = None,
    pooling: float | None = None,
    fixed_effect: bool = False,
    inference: Inference = "placebo",
    level: float = 0.95,
    seed: int = 0,
) -> SyntheticControl:
    """Effect on one or a few treated units, against a weighted control that resembles them.

    For whoever gave one city, scene or shop something new when no single control is alike: weights
    on never-treated units (donors) are chosen so that their mean follows the treated path before
    the start; afterwards it says what would have happened.

    Parameters
    ----------
    table : Table
        One row a unit and period.
    outcome, unit, time : str
        Columns.
    treated : label or list of labels, optional
        The treated units; with `start`.
    treatment : str, optional
        Column of 0 and 1: constant within unit with `start`, or the status of the row.
    start : time, optional
        First treated time.
    cohort : str, optional
        Column of the first treated time of each unit, missing for never. One of `treated`,
        `treatment` and `cohort` is given. Where starts differ, paths are aligned at them and
        donors are never treated.
    donors : list of labels, optional
        Who may have weight; by default every unit that is never treated.
    predictors : sequence of Predictor
        What is matched; by default the outcome of every period before the start.
    predictor_weights : {"nested", "equal", "inverse_variance"} or mapping
        V on predictors divided by their standard deviation over all units: searched for, so that
        the outcome before the start is fitted best; equal, which is what inverse variances mean
        on this scale; or given by label (or by column).
    penalty : float
        Of weight on donors that are far from the treated unit: 0 is the usual estimator, large
        values match nearest neighbours.
    augment : {"ridge"}, optional
        Regress out what the weights leave before the start; weights may become negative.
    ridge : float, optional
        Penalty of that regression, in squared units of the outcome; by default the largest one
        whose error on left-out periods is within one standard error of the least.
    pooling : float, optional
        For several treated units, in [0, 1]: 0 fits each by itself, 1 only their mean; by default
        the norm of the mean gap over the mean norm of the gaps of separate fits.
    fixed_effect : bool
        Take each unit's mean before the start out: changes are matched, not levels.
    inference : {"placebo", "conformal"}, optional
        What `p_value` is: the rank among placebos (every donor, or sets of donors, in the place of
        the treated), a permutation over time, or (None) the normal one of the standard error.
    level : float
        Of the intervals, in (0, 1).
    seed : int
        Of the starts of the search for V, and of placebo sets beyond 999.

    Returns
    -------
    SyntheticControl
        Effect (mean gap after the start), gap by time, donor weights, balance, placebos,
        leave-one-out, and five plots.

    Raises
    ------
    ValueError
        If it is not clear who is treated, a treated unit lacks a period or has fewer than two
        before the start, fewer than two donors are observed in all periods, a donor is treated, a
        predictor reaches past the start, or choices do not go together.
    TypeError
        If the table, a column or a time is of the wrong kind.

    Warns
    -----
    EstimationWarning
        For donors that were dropped because they lack a row, a poor fit before the start (RMSPE
        above 25 % of the path's standard deviation, or a treated unit beyond all donors in over
        10 % of periods), predictor weights that leave the effect open by over 10 %, predictors
        that the synthetic control misses by over a quarter of their standard deviation, or
        placebos that all fit too badly.

    Notes
    -----
    Weights w >= 0 of sum 1 minimise |x - X'w|^2 + penalty sum_j w_j |x - x_j|^2, exactly (Wolfe
    1976; the duality gap is reported). V is searched for by Nelder-Mead from 9 starts and each
    predictor alone, then along single predictors; where matched predictors leave the weights open,
    the fit of the outcome decides. The standard error is the root mean square of the placebos'
    mean gaps after the start, without those whose RMSPE before it is above five times the treated
    one's; with `inference=None` or conformal the placebos take over the treated unit's V. The
    interval beside a placebo's p-value is the normal one of that error: the two may disagree.
    p = share of RMSPE ratios (after over before), the treated one included, that are at least the
    treated one; 1 / (J + 1) is the least. Placebos of one treated unit do not use it as a donor.
    Conformal: the effect is imposed, weights are refitted on all periods, mean absolute gaps after
    the start are compared over cyclic shifts of time; it needs stationary gaps and
    1 - level >= 1 / T.
    NOT corrected for: interference between the treated and donors, effects before the start,
    extrapolation outside the donors' hull, the choice of specification. Donors never treated but
    affected bias the effect.

    References
    ----------
    Abadie, Diamond & Hainmueller (2010), Synthetic control methods for comparative case studies.
    JASA 105, 493-505.
    Abadie & L'Hour (2021), A penalized synthetic control estimator for disaggregated data. JASA
    116, 1817-1834.
    Ben-Michael, Feller & Rothstein (2021), The augmented synthetic control method. JASA 116,
    1789-1803; (2022), Synthetic controls with staggered adoption. JRSS B 84, 351-381.
    Ferman & Pinto (2021), Synthetic controls with imperfect pre-treatment fit. Quantitative
    Economics 12, 1197-1221.
    Chernozhukov, Wuethrich & Zhu (2021), An exact and robust conformal inference method for
    counterfactual and synthetic controls. JASA 116, 1849-1864.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> wave = np.sin(np.arange(24))[:, None] * np.arange(9) + np.cos(np.arange(24))[:, None]
    >>> wave[20:, 4] += 2.0
    >>> log = pd.DataFrame(wave).melt(ignore_index=False, var_name="city").reset_index()
    >>> roles = {"outcome": "value", "unit": "city", "time": "index", "treated": 4, "start": 20}
    >>> round(synthetic_control(log, **roles).estimate, 6)
    2.0
    """
    if isinstance(predictors, Predictor):
        raise TypeError(f"predictors must be a list; got {predictors!r}; put it in []")
    options = _checked(
        _Options(
            predictors=tuple(predictors),
            predictor_weights=predictor_weights,
            penalty=penalty,
            augment=augment,
            ridge=ridge,
            pooling=pooling,
            fixed_effect=fixed_effect,
            inference=inference,
            level=check_level(level),
            seed=seed,
        )
    )
    panel = read_panel(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        cohort=cohort,
        treatment=treatment,
        start=start,
        treated=treated,
        numeric=[c for c in dict.fromkeys(p.column for p in predictors) if c != outcome],
    )
    pool = donor_pool(panel, donors, unit, cohort=cohort)
    _refuse_together(pool, options)
    space = None
    if options.predictors:
        pool, space = predictor_table(
            pool, outcome, options.predictors, predictor_weights, seed=seed
        )
        require_donors(pool, unit)
    aligned = align(pool, fixed_effect=fixed_effect)
    separate = pool.n_treated == 1 or space is not None
    fitting = Fitting(
        penalty=penalty,
        pooling=0.0 if separate else -1.0 if pooling is None else pooling,
        predictors=space,
        augmented=augment is not None,
        ridge=ridge,
    )
    result = _estimate(pool, aligned, fitting, options, outcome)
    unmatched = [] if space is None else unmatched_predictors(result.balance, space)
    advice = _accepted(pool, options)
    for message in [*_complaints(result, outcome, advice), *unmatched]:
        warn(message, stacklevel=3)
    return result


def _checked(options: _Options) -> _Options:
    """The options, once each is of its kind and goes with the others."""
    check_one_of(options.augment, "augment", ("ridge", None))
    check_one_of(options.inference, "inference", ("placebo", "conformal", None))
    not_negative("penalty", finite("penalty", options.penalty))
    bad = [p for p in options.predictors if not isinstance(p, Predictor)]
    if bad:
        raise TypeError(
            f"predictors must be Predictor objects, such as Predictor('gmv'); got {bad[:3]!r}; "
            "name the column in one"
        )
    if options.ridge is not None:
        if options.augment is None:
            raise ValueError("ridge goes with augment='ridge'; set it, or leave ridge out")
        if finite("ridge", options.ridge) <= 0:
            raise ValueError(f"ridge must be positive; got {options.ridge}; leave it out")
    if options.pooling is not None and not 0 <= finite("pooling", options.pooling) <= 1:
        raise ValueError(f"pooling must be in [0, 1]; got {options.pooling}; correct it")
    if not options.predictors and options.predictor_weights != "nested":
        raise ValueError("predictor_weights need predictors; name some, or leave the weights out")
    against = {
        "augment='ridge'": options.augment,
        "fixed_effect=True": options.fixed_effect,
        "inference='conformal'": options.inference == "conformal",
        "pooling above 0": options.pooling,
    }
    clash = [name for name, chosen in against.items() if chosen] if options.predictors else []
    if clash:
        raise ValueError(
            f"{' and '.join(clash)} {'match' if len(clash) > 1 else 'matches'} outcomes period by "
            "period and cannot be combined with predictors; leave one of them out"
        )
    return options


def _refuse_together(pool: DonorPool, options: _Options) -> None:
    """Raise for what is defined for one treated unit or one start only."""
    if len(np.unique(pool.first)) > 1 and (options.predictors or options.augment):
        what = "predictors need" if options.predictors else "augment='ridge' needs"
        raise ValueError(
            f"{what} one start for all treated units; got {len(np.unique(pool.first))} starts; "
            f"leave {'them' if options.predictors else 'it'} out, take one start at a time, or use "
            "synthetic_diff_in_diff"
        )
    if pool.n_treated > 1 and options.inference == "conformal":
        raise ValueError(
            f"inference='conformal' needs one treated unit; got {pool.n_treated}: "
            f"{shown(pool.labels[: pool.n_treated])}; use inference='placebo' or take one at a time"
        )
    if pool.n_treated == 1 and options.pooling is not None:
        raise ValueError("pooling needs several treated units; got one; leave it out")


def _estimate(
    pool: DonorPool, aligned: AlignedPaths, fitting: Fitting, options: _Options, outcome: str
) -> SyntheticControl:
    """Fit the treated and their placebos, and put the result together."""
    m, n = pool.n_treated, len(pool.labels)
    members = np.arange(m)[None]
    allowed = np.arange(n)[None] >= m
    found = find_weights(aligned, fitting, members, allowed, trace=True)
    weights = found.weights[0]
    gap = aligned.gaps(members, found.weights)[0]
    held = found.v if options.inference != "placebo" else None
    placebos = run_placebos(pool, aligned, fitting, gap, v=held, seed=options.seed)
    without, without_gaps = leave_one_out(pool, aligned, fitting, weights, v=found.v)
    effect, curve = _effect(pool, aligned, gap, placebos, fitting, options, outcome)
    test = _conformal(pool, aligned, fitting, found, effect, options)
    p_value = placebos.p_value if options.inference == "placebo" else effect.p_value
    observed = aligned.observed(members[0])
    pre, post = (float(x[0]) for x in fit_before_and_after(aligned, gap[None]))
    spread = float(np.std(observed[: aligned.n_before], ddof=1))
    path = {"time": list(aligned.labels), "observed": observed, "synthetic": observed - gap}
    by_donor, by_unit = weight_table(pool, weights)
    table = fitting.predictors
    return SyntheticControl(
        effect=effect,
        p_value=p_value if test is None else test.p_value,
        inference=options.inference,
        level=options.level,
        interval=None if test is None else (test.low, test.high),
        gap=curve,
        path=pd.DataFrame({**path, "gap": gap}),
        start=aligned.labels[aligned.n_before],
        treated=pool.names[:m],
        donor_weights=by_donor,
        unit_weights=by_unit,
        predictor_weights={}
        if table is None or found.v is None
        else dict(zip(table.labels, found.v[0].mean(axis=0).tolist(), strict=True)),
        balance=balance_table(pool, aligned, table, weights, outcome),
        pre_rmspe=pre,
        post_rmspe=post,
        fit_quality=pre / (spread or aligned.scale),
        outside_share=outside_share(aligned, m),
        placebo=placebos.table,
        placebo_gaps=placebos.gaps,
        leave_one_out=without,
        leave_one_out_gaps=without_gaps,
        duality_gap=max(float(found.duality_gap[0]), placebos.duality_gap),
        unique=is_unique(aligned, fitting, found, m),
        pooling=float(found.pooling[0]) if m > 1 else None,
        ridge=None if found.ridge is None else float(found.ridge[0].mean()),
        v_spread=v_spread(found.trace) if table is not None and table.given is None else None,
        solver=f"nearest point of the donors' hull (Wolfe 1976), {1 + len(placebos.gaps)} problems",
    )


def _effect(
    pool: DonorPool,
    aligned: AlignedPaths,
    gap: NDArray[np.float64],
    placebos: Placebos,
    fitting: Fitting,
    options: _Options,
    outcome: str,
) -> tuple[Effect, EffectCurve]:
    """The mean gap after the start, and the gap over time, with errors from placebos."""
    share = aligned.post_weights
    scaled = placebos.cov / aligned.scale / aligned.scale
    error = float(np.sqrt(max(float(share @ scaled @ share), 0.0))) * aligned.scale
    baseline = float(share @ (aligned.observed(np.arange(pool.n_treated)) - gap))
    n_used = len(placebos.gaps) - placebos.n_left_out
    own = fitting.predictors is None or options.inference == "placebo"
    taken = "" if own else "; placebos take over the predictor weights of the treated"
    cells = int(aligned.counts[aligned.n_before :].sum())
    estimate = float(share @ gap)
    details: dict[str, Any] = {
        "std_error": f"root mean square of {n_used} placebo means; {placebos.n_left_out} left out "
        f"with a pre-period RMSPE above {POOR_FIT:g} times the treated one{taken}",
        "p_value": _p_in_words(placebos, len(pool.times), options.inference),
        "interval": "conformal, of a constant effect"
        if options.inference == "conformal"
        else "normal, from placebos",
        "outcome": outcome,
        "n_donors": pool.n_donors,
        "n_before": aligned.n_before,
        "n_after": len(aligned.labels) - aligned.n_before,
        "treated_cells": cells,
        "total": estimate * cells,
        "assumes": "donors are not affected and would have kept their relation to the treated; "
        "treated and donors are exchangeable",
        "counted": "unit-periods",
    }
    known: dict[str, Any] = {
        "estimand": "att",
        "method": _method(fitting, options, pool.n_treated),
        "n_obs": pool.outcome.size,
        "n_clusters": len(pool.labels),
        "details": details,
    }
    level: dict[str, Any] = {
        "baseline": baseline,
        "baseline_variance": error * error,
        "baseline_cov": -error * error,
    }
    level = level if np.isfinite(error * error) else {}  # too large for a relative effect
    effect = Effect(estimate=estimate, std_error=error, **known, **level)
    curve = EffectCurve(
        index=aligned.labels,
        index_name=aligned.index_name,
        estimate=gap,
        cov=placebos.cov,
        **known,
    )
    return effect, curve


def _p_in_words(placebos: Placebos, n_periods: int, inference: Inference) -> str:
    """What the p-value is, and the least that it could be."""
    if inference is None:
        return "normal, from std_error"
    if inference == "conformal":
        least = number_in_words(1 / n_periods, 2)
        return f"cyclic shifts of time; {n_periods} periods allow no p below {least}"
    n = len(placebos.table)
    least = number_in_words(1 / n, 2)
    return (
        f"rank {placebos.table['rank'].iloc[0]} of {n} ratios of post- to pre-period RMSPE; "
        f"{n - 1} placebos allow no p below {least}"
    )


def _method(fitting: Fitting, options: _Options, n_treated: int) -> str:
    """The specification in words."""
    parts = ["demeaned synthetic control" if options.fixed_effect else "synthetic control"]
    if fitting.predictors is not None:
        how = options.predictor_weights
        named = how if isinstance(how, str) else "given"
        parts.append(f"{len(options.predictors)} predictors, {named} weights")
    if fitting.penalty:
        parts.append(f"penalty {fitting.penalty:g}")
    if fitting.augmented:
        parts.append("ridge-augmented")
    if n_treated > 1 and fitting.pooling:
        parts.append("partially pooled")
    return ", ".join(parts)


def _conformal(
    pool: DonorPool,
    aligned: AlignedPaths,
    fitting: Fitting,
    found: DonorWeights,
    effect: Effect,
    options: _Options,
) -> Conformal | None:
    """The conformal test, where it was asked for."""
    if options.inference != "conformal":
        return None
    return conformal(
        pool,
        aligned,
        fitting,
        fixed_effect=options.fixed_effect,
        ridge=None if found.ridge is None else float(found.ridge[0, 0]),
        estimate=effect.estimate,
        reach=4.0 * effect.std_error,
        level=options.level,
    )


def _accepted(pool: DonorPool, options: _Options) -> list[str]:
    """What may be tried against a poor fit: only what these options and starts go with."""
    if options.predictors:
        return ["every period in place of predictors"]
    found = [] if options.fixed_effect else ["fixed_effect=True"]
    one_start = len(np.unique(pool.first)) == 1
    return [*found, "augment='ridge'"] if one_start and options.augment is None else found


def _complaints(result: SyntheticControl, outcome: str, advice: list[str]) -> list[str]:
    """What makes an estimate fragile, each with its figure."""
    found = []
    tried = f"try {' or '.join(advice)}, or " if advice else ""
    shifted = " or try fixed_effect=True" if "fixed_effect=True" in advice else ""
    if result.estimate == 0 and result.std_error == 0:
        found.append(f"outcome {outcome!r} is constant: the effect and its error are 0")
    if result.fit_quality > _POOR_QUALITY:
        found.append(
            f"the synthetic control of {outcome!r} misses the treated path before the start: RMSPE "
            f"{result.pre_rmspe:.3g} is {100 * result.fit_quality:.3g} % of the path's standard "
            f"deviation (25 % is asked); {tried}do not use it"
        )
    if result.outside_share > _OUTSIDE:
        found.append(
            f"the treated lie above or below all donors in {100 * result.outside_share:.3g} % of "
            f"periods before the start: no weights reach them there; add donors{shifted}"
        )
    if result.v_spread is not None:
        low, high = result.v_spread
        if high - low > _V_SHARE * abs(result.estimate):
            found.append(
                f"predictor weights are not settled: those that fit within 1 % of the best give "
                f"effects from {low:.4g} to {high:.4g}; give predictor_weights, or fewer predictors"
            )
    if result.duality_gap > _GAP:
        found.append(f"donor weights are not exact: duality gap {result.duality_gap:.2g}")
    return found
