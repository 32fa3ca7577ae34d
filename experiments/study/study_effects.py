"""Effects as the report shows them: with the error over the population, and among the triggered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import Effect
from experiments.splits.scorecard import judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.effect import EffectCurve
    from experiments.splits.metric import Metric
    from experiments.splits.multiplicity import Adjust
    from experiments.splits.scorecard import ScorecardRow

POPULATION = "error over the population"
_NEGLIGIBLE = 0.01
_JOINT = ("baseline_variance", "baseline_cov")


def over_population(
    rows: Sequence[ScorecardRow], metrics: Mapping[str, Metric], adjust: Adjust, level: float
) -> tuple[ScorecardRow, ...]:
    """Rows of a scorecard with errors over the population, and the verdicts that follow.

    Parameters
    ----------
    rows : sequence of ScorecardRow
    metrics : mapping of str to Metric
        By the rows' names.
    adjust, level
        As in `ab_tests`.

    Returns
    -------
    tuple of ScorecardRow
    """
    read = [
        (r.metric, metrics[r.metric], r.treatment, population_error(r.effect), r.unadjusted)
        for r in rows
    ]
    return judged(read, adjust, level)


def population_error(effect: Effect) -> Effect:
    """The effect with its standard error over the population that the units came from.

    A regression takes the covariates' mean as known. Where it is estimated, and the treatment works
    differently along the covariates, the error over the population is larger. A difference below
    1 %, or a smaller error (chance, with few clusters), is left alone. What the error shares with
    the control level's goes along with it, so that relative intervals fit.

    Parameters
    ----------
    effect : Effect
        From `ab_test`.

    Returns
    -------
    Effect
        The same one where nothing changes.
    """
    details: Mapping[str, Any] = effect.details
    whole = details.get("superpopulation_std_error", effect.std_error)
    if whole <= (1 + _NEGLIGIBLE) * effect.std_error:
        return effect
    joint = {name: details.get(f"superpopulation_{name}") for name in _JOINT}
    changes: dict[str, Any] = {} if None in joint.values() else joint
    return replace(effect, std_error=whole, **changes, method=f"{effect.method}, {POPULATION}")


def population_curve(curve: EffectCurve) -> EffectCurve:
    """The curve with standard errors over the population, where any differs by more than 1 %.

    Correlations between the points stay as they are.

    Parameters
    ----------
    curve : EffectCurve
        From `ab_curve`; ``details["superpopulation_std_error"]`` has a number for each label.

    Returns
    -------
    EffectCurve
        The same one where nothing changes.
    """
    whole: Any = curve.details.get("superpopulation_std_error")
    if whole is None:
        return curve
    own = curve.std_error
    scale = np.ones(len(own))
    np.divide(np.asarray(whole, dtype=np.float64), own, out=scale, where=own > 0)
    scale = np.maximum(scale, 1.0)
    if scale.max() <= 1 + _NEGLIGIBLE:
        return curve
    cov = curve.cov * scale[:, None] * scale
    return replace(curve, cov=cov, method=f"{curve.method}, {POPULATION}")


def among_triggered(rows: Sequence[ScorecardRow]) -> dict[tuple[str, str], Effect]:
    """The effect among triggered units of each row that was diluted to all units.

    Parameters
    ----------
    rows : sequence of ScorecardRow
        As `ab_tests` gives them.

    Returns
    -------
    dict of tuple to Effect
        By metric and treatment; the share of triggered units is in ``details["trigger_rate"]``.
    """
    return {
        (row.metric, str(row.treatment)): _inner(row.effect)
        for row in rows
        if "triggered" in row.effect.details
    }


def _inner(diluted: Effect) -> Effect:
    """The effect among triggered units behind a diluted one."""
    details: Mapping[str, Any] = diluted.details
    inner, rate = details["triggered"], details["trigger_rate"]
    population = {name: v for name, v in inner.items() if name.startswith("superpopulation_")}
    return population_error(
        Effect(
            estimate=inner["estimate"],
            std_error=inner["std_error"],
            estimand="ate among triggered units",
            method=diluted.method.split(", triggered and diluted")[0] + ", triggered units",
            n_obs=inner["n_obs"],
            n_clusters=diluted.n_clusters,
            df=diluted.df,
            baseline=inner["baseline"],
            details={"trigger_rate": rate, **population},
        )
    )
