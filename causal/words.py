"""How numbers read in a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
