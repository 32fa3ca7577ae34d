"""How the numbers of a report read: three significant digits, a unit, intervals in words.

A unit of ``"%"`` shows a share of 1 in percent and its differences in percentage points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.splits.multiplicity import Adjust

MINUS = "\N{MINUS SIGN}"
GAP = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"


def digits(x: float) -> str:
    """Three significant digits, thousands separated, a true minus; powers of ten when far off 1.

    A dash for what is no number.
    """
    if x == 0:
        return "0"
    if not math.isfinite(x):
        return GAP
    size = abs(x)
    if not 1e-5 <= size < 1e15:
        mantissa, power = f"{size:.2e}".split("e")
        text = f"{mantissa}{_SPACE}\N{MULTIPLICATION SIGN}{_SPACE}10^{int(power)}".replace(
            "-", MINUS
        )
    else:
        # The exponent is read off the rounded number: 999.7 has three digits as 1,000, not 999.70.
        exponent = int(f"{size:.2e}".split("e")[1])
        text = f"{round(size, 2 - exponent):,.{max(2 - exponent, 0)}f}"
    return (MINUS if x < 0 else "") + text


def signed(x: float) -> str:
    """`digits` with a plus where the number is positive."""
    return ("+" if 0 < x < math.inf else "") + digits(x)


def level_text(x: float, unit: str = "") -> str:
    """A level with its unit."""
    return _with_unit(digits(_scaled(x, unit)), unit)


def change_text(x: float, unit: str = "") -> str:
    """A difference with its sign and unit."""
    return _with_unit(signed(_scaled(x, unit)), _change_unit(unit))


def percent(x: float) -> str:
    """A share of 1 in percent."""
    return _with_unit(digits(100 * x), "%")


def whole_percent(x: float) -> str:
    """A share of 1 in whole percent: ``12 %``, ``< 1 %``, ``> 99 %``."""
    if not math.isfinite(x):
        return GAP
    whole = round(100 * x)
    if x > 0 and whole == 0:
        return f"<{_SPACE}1{_SPACE}%"
    return f">{_SPACE}99{_SPACE}%" if x < 1 and whole == 100 else f"{whole}{_SPACE}%"


def signed_percent(x: float) -> str:
    """A relative effect in percent, with its sign."""
    return _with_unit(signed(100 * x), "%")


def interval_text(low: float, high: float, unit: str = "", *, change: bool = False) -> str:
    """``0.310 to 2.17 s``: an interval in words."""
    name = _change_unit(unit) if change else unit
    ends = f"{digits(_scaled(low, unit))} to {digits(_scaled(high, unit))}"
    return ends + (_SPACE + name if name else "")


def p_text(p: float | None) -> str:
    """``0.042``, or ``< 0.001``; a dash where there is none."""
    if p is None:
        return GAP
    return f"<{_SPACE}0.001" if p < 0.001 else f"{p:.3f}"


def p_equation(p: float) -> str:
    """``p = 0.042`` or ``p < 0.001``."""
    sign = "" if p < 0.001 else f"={_SPACE}"
    return f"p{_SPACE}{sign}{p_text(p)}"


def count_text(n: float) -> str:
    """A count with separated thousands."""
    return f"{int(n):,}"


def counted(n: int, noun: str) -> str:
    """``1 warning``, ``2 warnings``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def listed(items: Sequence[str], *, at_most: int = 6) -> str:
    """``a, b and c``; a long list is cut and counted."""
    if len(items) > at_most:
        items = [*items[: at_most - 1], f"{len(items) - at_most + 1:,} more"]
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else list(items))


def correction(adjust: Adjust) -> str:
    """``Holm's correction``."""
    names = {
        "holm": "Holm's",
        "bh": "Benjamini and Hochberg's",
        "by": "Benjamini and Yekutieli's",
        "bonferroni": "Bonferroni's",
    }
    return f"{names[adjust]} correction" if adjust in names else "no correction"


def level_in_percent(level: float) -> str:
    """``95 %`` for 0.95."""
    return f"{100 * level:.4g}{_SPACE}%"


def _with_unit(text: str, unit: str) -> str:
    """A number with its unit; a dash has none."""
    return f"{text}{_SPACE}{unit}" if unit and text != GAP else text


def _scaled(x: float, unit: str) -> float:
    return 100 * x if unit == "%" else x


def _change_unit(unit: str) -> str:
    return "pp" if unit == "%" else unit


def axis_text(x: float, step: float) -> str:
    """A tick of an axis with just the decimals that its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    text = f"{abs(x):,.{min(decimals, 12)}f}"
    return (MINUS if x < 0 and float(text.replace(",", "")) != 0 else "") + text
