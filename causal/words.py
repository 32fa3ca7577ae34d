"""How numbers read in a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.effect import Effect
    from causal.values import JsonValue

_IN_CAPITALS = frozenset({"ate", "att", "atc", "late", "itt", "cate", "gate"})


def p_in_words(p: float) -> str:
    """``p = 0.009`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number_in_words(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Round to significant digits, without an exponent between 1e-7 and 1e15."""
    plus = "+" if sign else ""
    text = f"{value:{plus}.{digits}g}"
    if "e" not in text or not 1e-7 <= abs(value) < 1e15:
        return text
    if abs(value) > 1:
        return f"{value:{plus},.0f}"
    return f"{value:{plus}.{digits - 1 - math.floor(math.log10(abs(value)))}f}".rstrip("0")


def estimand_in_words(estimand: str) -> str:
    """Capitals for the field's abbreviations (ATE, ATT), a capital first letter for others."""
    words = [w.upper() if w in _IN_CAPITALS else w for w in estimand.split(" ")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def unit_in_words(details: Mapping[str, JsonValue]) -> str:
    """The outcome's unit with a leading space, or nothing."""
    unit = details.get("unit")
    return f" {unit}" if unit else ""


def headline_in_words(effect: Effect, level: float) -> str:
    """An effect in one line: estimate, interval, p-value, relative effect, counts and method."""
    unit = unit_in_words(effect.details)
    low, high = effect.conf_int(level)
    parts = [
        f"{estimand_in_words(effect.estimand)} {number_in_words(effect.estimate, sign=True)}{unit} "
        f"({100 * level:.4g}% CI {number_in_words(low)} to {number_in_words(high)}), "
        f"{p_in_words(effect.p_value)}"
    ]
    relative = _relative_in_words(effect, level)
    if relative:
        parts.append(relative)
    noun = effect.details.get("counted")
    parts.append(f"{effect.n_obs:,} {noun}" if noun else f"n = {effect.n_obs:,}")
    parts.append(effect.method)
    return "; ".join(parts)


def _relative_in_words(effect: Effect, level: float) -> str:
    """``+0.8% (0.2% to 1.4%) of 154.1``; nothing when the control level is too near 0."""
    try:
        low, high = effect.relative_conf_int(level)
    except ValueError:
        return ""
    base = effect.baseline or math.nan
    lift = number_in_words(100 * effect.estimate / base, 2, sign=True)
    left, right = (number_in_words(100 * limit, 2) for limit in (low, high))
    return f"{lift}% ({left}% to {right}%) of {number_in_words(base, 4)}"


def details_in_words(details: Mapping[str, JsonValue]) -> list[str]:
    """Lines on the total, the convention of the error, what is assumed and what was warned of."""
    lines = []
    total, cells = details.get("total"), details.get("treated_cells")
    if isinstance(total, float) and cells is not None:
        sums = number_in_words(total, sign=True)
        lines.append(f"total {sums}{unit_in_words(details)} over {cells:,} treated cells")
    if isinstance(kind := details.get("covariance"), str):
        n = details.get("n_clusters")
        lines.append(f"standard error {kind}" + (f"; {n:,} clusters" if n else ""))
    if isinstance(how := details.get("weights"), str):
        lines.append(f"averaged: {how}")
    if isinstance(text := details.get("assumes"), str):
        lines.append(f"assumes: {text}")
    said = details.get("warnings")
    lines += [f"warned: {one}" for one in (said if isinstance(said, tuple | list) else ())]
    return lines
