"""Warnings that an estimate carries with it: raised at the user's call, and kept in the result."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from causal.effect import Effect, EstimationWarning

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def keeps_warnings(estimator: Callable[P, R]) -> Callable[P, R]:
    """The estimator, with what it warned of in ``details["warnings"]`` of its effect.

    Warnings are raised again at the line that called the estimator.
    """

    @functools.wraps(estimator)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = estimator(*args, **options)
        except Exception:
            _again(caught)
            raise
        _again(caught)
        said = [str(w.message) for w in caught if issubclass(w.category, EstimationWarning)]
        return with_warnings(found, said) if said else found

    return call


def with_warnings(found: Any, said: list[str]) -> Any:  # noqa: ANN401 — an Effect or what holds one
    """A result whose effect knows what was warned of."""
    if isinstance(found, Effect):
        known = found.details.get("warnings", ())
        both = [*(known if isinstance(known, tuple) else ()), *said]
        return replace(found, details={**found.details, "warnings": list(dict.fromkeys(both))})
    if isinstance(getattr(found, "effect", None), Effect):
        return replace(found, effect=with_warnings(found.effect, said))
    return found


def _again(caught: list[warnings.WarningMessage]) -> None:
    """Ours at the line of the estimator's caller, those of libraries where they came from."""
    for warning in caught:
        if issubclass(warning.category, EstimationWarning):
            warnings.warn(warning.message, stacklevel=3)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
