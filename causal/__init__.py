"""Effects from tables.

Column names are arguments; results are `Effect` and `EffectCurve`. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from causal.decisions.logged_policy import logged_policy_value
    from causal.decisions.off_policy import off_policy_lift, off_policy_value
    from causal.decisions.policy_result import PolicyValue
    from causal.decisions.slates import slate_value
    from causal.decisions.weights import WeightDiagnostics
    from causal.effect import Effect, EffectCurve, EstimationWarning
    from causal.moments import Moments, group_moments, unit_cube

__all__ = [
    "Effect",
    "EffectCurve",
    "EstimationWarning",
    "Moments",
    "PolicyValue",
    "WeightDiagnostics",
    "group_moments",
    "logged_policy_value",
    "off_policy_lift",
    "off_policy_value",
    "slate_value",
    "unit_cube",
]

_HOMES = {
    "Effect": "causal.effect",
    "EffectCurve": "causal.effect",
    "EstimationWarning": "causal.effect",
    "Moments": "causal.moments",
    "PolicyValue": "causal.decisions.policy_result",
    "WeightDiagnostics": "causal.decisions.weights",
    "group_moments": "causal.moments",
    "logged_policy_value": "causal.decisions.logged_policy",
    "off_policy_lift": "causal.decisions.off_policy",
    "off_policy_value": "causal.decisions.off_policy",
    "slate_value": "causal.decisions.slates",
    "unit_cube": "causal.moments",
}


def __getattr__(name: str) -> object:
    """Load an exported name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """The exported names."""
    return list(__all__)
