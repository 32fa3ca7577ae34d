"""A result that holds an `Effect`: it answers the effect's questions and goes to JSON and back."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.effect import Effect, EffectCurve, WaldTest
from causal.values import known_fields

if TYPE_CHECKING:
    from typing import Self

__all__ = ["EffectResult"]


class EffectResult:
    """What every result with an `effect` shares; a subclass is a frozen dataclass with that field.

    Fields may hold JSON values, numpy arrays, data frames, `Effect`, `EffectCurve` and `WaldTest`.
    """

    __slots__ = ()

    effect: Effect

    @property
    def estimate(self) -> float:
        """The headline, in units of the outcome."""
        return self.effect.estimate

    @property
    def std_error(self) -> float:
        """Its standard error."""
        return self.effect.std_error

    @property
    def p_value(self) -> float:
        """Two-sided p-value against no effect."""
        return self.effect.p_value

    def conf_int(self, level: float | None = None) -> tuple[float, float]:
        """Two-sided confidence interval of the headline; by default at the result's own level."""
        return self.effect.conf_int(self._level(level))

    def summary(self, level: float = 0.95) -> str:
        """The headline in one line."""
        return self.effect.summary(level)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """The headline as one row."""
        return self.effect.to_frame(level)

    def _level(self, level: float | None) -> float:
        """The level asked for, or that at which the result was found; 95 % where it has none."""
        return float(getattr(self, "level", 0.95)) if level is None else level

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back an equal result, to the last bit."""
        return {f.name: _stored(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Self:
        """Make a result from what `to_dict` returned, also after JSON."""
        return cls(**{name: _restored(value) for name, value in known_fields(cls, d).items()})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.effect))

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


def _stored(value: Any) -> Any:  # noqa: ANN401 — a field of any kind
    """JSON of a field; what JSON has no word for becomes ``{"$": kind, ...}``."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_stored(v) for v in value]
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": "number", "of": str(value)}
    for kind, (cls, store, _) in _KINDS.items():
        if isinstance(value, cls):
            return {"$": kind, "of": store(value)}
    raise TypeError(f"a result holds no {type(value).__name__}")


def _restored(value: Any) -> Any:  # noqa: ANN401 — a field of any kind
    """What `_stored` was given; lists come back as tuples."""
    if isinstance(value, list | tuple):
        return tuple(_restored(v) for v in value)
    if not isinstance(value, Mapping):
        return value
    if value["$"] == "number":
        return float(value["of"])
    return _KINDS[value["$"]][2](value["of"])


def _stored_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """A data frame by column; its index does not matter."""
    return {str(name): [_stored(v) for v in frame[name].tolist()] for name in frame}


def _restored_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A data frame by column."""
    return pd.DataFrame({name: [_restored(v) for v in of] for name, of in columns.items()})


# kind: (type, to JSON, from JSON)
_KINDS: dict[str, tuple[type, Any, Any]] = {
    "effect": (Effect, Effect.to_dict, Effect.from_dict),
    "curve": (EffectCurve, EffectCurve.to_dict, EffectCurve.from_dict),
    "test": (WaldTest, asdict, lambda d: WaldTest(**d)),
    "frame": (pd.DataFrame, _stored_frame, _restored_frame),
    "array": (
        np.ndarray,
        lambda a: {"shape": list(a.shape), "values": a.ravel().tolist()},
        lambda d: np.array(d["values"], dtype=np.float64).reshape(d["shape"]),
    ),
    "pairs": (
        Mapping,
        lambda m: [[_stored(k), _stored(v)] for k, v in m.items()],
        lambda pairs: {_restored(k): _restored(v) for k, v in pairs},
    ),
}
