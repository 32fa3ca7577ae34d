"""Checked numbers and read-only JSON values: what a result is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

JsonScalar: TypeAlias = str | int | float | bool | None
JsonValue: TypeAlias = "JsonScalar | Sequence[JsonValue] | Mapping[str, JsonValue]"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number other than True and False."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def holds_numbers(value: object, k: int) -> TypeGuard[tuple[float, ...]]:
    """Whether a value is a tuple of k numbers."""
    return isinstance(value, tuple) and len(value) == k and all(is_number(v) for v in value)


def without_numbers(values: Mapping[str, JsonValue], k: int) -> dict[str, JsonValue]:
    """The values that are no tuples of k numbers."""
    return {name: value for name, value in values.items() if not holds_numbers(value, k)}


def whole_number(name: str, value: object, least: int) -> int:
    """A whole number of at least so much; raises ValueError otherwise."""
    if not (is_number(value) and value % 1 == 0 and value >= least):
        raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
    return int(value)


def not_negative(name: str, value: float) -> None:
    """Refuse a negative number by name."""
    if value < 0:
        raise ValueError(f"{name} must be >= 0; got {value}")


def degrees_of_freedom(df: object, k: int | None = None) -> float | tuple[float, ...] | None:
    """Positive degrees of freedom: none, one number, or one for each of k points."""
    if df is None:
        return None
    several = k is not None and isinstance(df, tuple | list | np.ndarray)
    each = tuple(finite("df", d) for d in (df if several else (df,)))  # type: ignore[attr-defined]
    if several and len(each) != k:
        raise ValueError(f"df must be a number or {k} of them; got {len(each)}")
    if min(each) <= 0:
        raise ValueError(f"df must be positive; got {min(each)}")
    return each if several else each[0]


def frozen_details(value: object) -> Any:  # noqa: ANN401 — a JSON value of any kind
    """Read-only copy of a mapping of JSON values."""
    if not isinstance(value, Mapping):
        raise TypeError(f"details must be a mapping; got {type(value).__name__}")
    return frozen_json(value, "details")


def frozen_json(value: Any, name: str) -> Any:  # noqa: ANN401 — a JSON value of any kind
    """Read-only copy of a JSON value; numpy scalars become Python's, sequences tuples.

    Raises
    ------
    TypeError
        If the value, or a key, is no JSON value.
    ValueError
        If a number is not finite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} must hold finite numbers; got {value}")
        return value
    if isinstance(value, Mapping):
        bad = [k for k in value if not isinstance(k, str)]
        if bad:
            raise TypeError(f"{name} must have string keys; got {bad[:5]!r}")
        return MappingProxyType({k: frozen_json(v, f"{name}[{k!r}]") for k, v in value.items()})
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(frozen_json(v, name) for v in value)
    raise TypeError(f"{name} must hold plain JSON values; got {type(value).__name__}")


def thawed_json(value: Any) -> Any:  # noqa: ANN401 — a JSON value of any kind
    """Plain dicts and lists out of what `frozen_json` made, and out of arrays."""
    if isinstance(value, Mapping):
        return {k: thawed_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [thawed_json(v) for v in value]
    return value


def finite(name: str, value: object) -> float:
    """The number as a Python float; raises if it is none, or not finite."""
    if not isinstance(value, SupportsFloat):  # text is not: float("1.5") would take it
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite; got {number}; give a number")
    return number


def read_only(values: ArrayLike) -> NDArray[np.float64]:
    """Own copy as float64 that nobody can write to."""
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


def known_fields(cls: type, d: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping itself, once its keys are known to be fields of `cls`."""
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(d) - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no fields {unknown[:5]}; it has {sorted(known)}")
    return dict(d)
