"""How numbers of a panel read: effects in sentences, columns in a unit, places of times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from causal.effect_result import EffectResult
from causal.values import is_number
from experiments.report.report_sections import TableColumn
from experiments.report.wording import (
    change_text,
    digits,
    interval_text,
    level_in_percent,
    level_text,
    p_equation,
    percent,
    signed_percent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.effect import Effect


ESTIMATORS = {
    "diff_in_diff": "two-way fixed effects",
    "event_study": "event study",
    "factor_effects": "matrix completion",
    "group_time_effects": "group-time effects",
    "imputation_effects": "imputation",
    "sun_abraham": "Sun and Abraham",
    "synthetic_control": "synthetic control",
    "synthetic_diff_in_diff": "synthetic DID",
}


def amount_column(name: str, heading: str, unit: str = "") -> TableColumn:
    """A column of limits and errors, in a unit."""
    return TableColumn(name, heading, lambda x: change_text(x, unit).lstrip("+"))


def move_column(name: str, heading: str, unit: str = "") -> TableColumn:
    """A column of differences with their signs, in a unit."""
    return TableColumn(name, heading, lambda x: change_text(x, unit))


def estimate_columns(unit: str = "") -> tuple[TableColumn, ...]:
    """Estimate, standard error and limits, in a unit."""
    return (
        move_column("estimate", "Estimate", unit),
        amount_column("std_error", "Std. error", unit),
        amount_column("low", "Low", unit),
        amount_column("high", "High", unit),
    )


def headline_of(result: Effect | EffectResult) -> Effect:
    """A result's effect, or the effect itself."""
    return result.effect if isinstance(result, EffectResult) else result


def effect_in_words(result: Effect | EffectResult, level: float, unit: str = "") -> str:
    """``+1.24 s (95 % CI 0.31 to 2.17 s, p = 0.009), +0.8 % (0.2 to 1.4 %) of 154 s``."""
    effect = headline_of(result)
    low, high = result.conf_int(level)
    text = (
        f"{change_text(effect.estimate, unit)} ({level_in_percent(level)} CI "
        f"{interval_text(low, high, unit, change=True)}, {p_equation(result.p_value)})"
    )
    if effect.baseline is None:
        return text
    try:
        below, above = relative_limits(result, level)
    except ValueError:  # the level is too near 0
        return text
    relative = signed_percent(effect.estimate / effect.baseline)
    return (
        f"{text}, {relative} ({digits(100 * below)} to {percent(above)}) of the "
        f"{level_text(effect.baseline, unit)} without treatment"
    )


def relative_in_words(
    result: Effect | EffectResult, total: Effect, treated_mean: float | None, unit: str
) -> str:
    """``, about +6.5 % of the 55.8 s to be expected without it``, where the effect has no baseline.

    The level is the mean outcome of treated units and periods less their mean effect.
    """
    effect = headline_of(result)
    cells = int(str(total.details["treated_cells"]))
    if effect.baseline is not None or treated_mean is None or not cells:
        return ""
    level = treated_mean - total.estimate / cells
    if abs(level) <= abs(total.std_error / cells):
        return ""
    return (
        f", about {signed_percent(total.estimate / cells / level)} of the "
        f"{level_text(level, unit)} to be expected without it"
    )


def relative_limits(result: Effect | EffectResult, level: float) -> tuple[float, float]:
    """Limits of the relative effect; of an interval of its own kind, over the level as given."""
    effect, own = headline_of(result), result.conf_int(level)
    if own == effect.conf_int(level):
        return effect.relative_conf_int(level)
    low, high = sorted(limit / float(effect.baseline or math.nan) for limit in own)
    return low, high


def total_in_words(
    total: Effect, headline: Effect | EffectResult, level: float, unit: str = ""
) -> str:
    """``in total +389 s (95 % CI 213 to 566 s) over 609 treated units and periods``.

    Where the headline has an interval of its own kind (conformal), that of the total is it times
    the units and periods.
    """
    cells, own = int(str(total.details["treated_cells"])), headline.conf_int(level)
    follows = own == headline_of(headline).conf_int(level)
    low, high = total.conf_int(level) if follows else (cells * own[0], cells * own[1])
    return (
        f"in total {change_text(total.estimate, unit)} ({level_in_percent(level)} CI "
        f"{interval_text(low, high, unit, change=True)}) over {cells:,} treated units and periods"
    )


def time_places(labels: Sequence[Any]) -> tuple[dict[Any, float], list[tuple[float, str]] | None]:
    """Where observed times stand on an axis, and their ticks where they are no numbers."""
    if all(is_number(t) for t in labels):
        return {t: float(t) for t in labels}, None
    step = max(1, -(-len(labels) // 5))
    ticks = [(float(j), str(labels[j])) for j in range(0, len(labels), step)]
    return {t: float(j) for j, t in enumerate(labels)}, ticks


def cohort_text(cohort: object) -> str:
    """A cohort's label; never for none."""
    return "never" if cohort is None else str(cohort)


def axis_scale(unit: str) -> float:
    """From values to the axis: shares of 1 are drawn in per cent."""
    return 100.0 if unit == "%" else 1.0
