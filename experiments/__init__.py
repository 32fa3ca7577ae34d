"""Who gets what, what would happen, what did happen.

Reads experiments, on line and off, and writes the report. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.ab import (
        Mean,
        Quantile,
        Ratio,
        Scorecard,
        ScorecardRow,
        SrmCheck,
        ab_curve,
        ab_test,
        ab_tests,
        adjust_p_values,
        srm_test,
    )
    from experiments.report import ReportFiles, render
    from experiments.sequential import (
        AlwaysValid,
        Bounds,
        SequentialResult,
        confidence_sequence,
        group_sequential_bounds,
        mixture_sprt,
        sequential_test,
    )
    from experiments.study import Study, StudyResult, built_in_study, load_study, run_study

__all__ = [
    "AlwaysValid",
    "Bounds",
    "Mean",
    "Quantile",
    "Ratio",
    "ReportFiles",
    "Scorecard",
    "ScorecardRow",
    "SequentialResult",
    "SrmCheck",
    "Study",
    "StudyResult",
    "ab_curve",
    "ab_test",
    "ab_tests",
    "adjust_p_values",
    "built_in_study",
    "confidence_sequence",
    "group_sequential_bounds",
    "load_study",
    "mixture_sprt",
    "render",
    "run_study",
    "sequential_test",
    "srm_test",
]

_HOMES = {
    "AlwaysValid": "experiments.sequential",
    "Bounds": "experiments.sequential",
    "Mean": "experiments.ab",
    "Quantile": "experiments.ab",
    "Ratio": "experiments.ab",
    "ReportFiles": "experiments.report",
    "Scorecard": "experiments.ab",
    "ScorecardRow": "experiments.ab",
    "SequentialResult": "experiments.sequential",
    "SrmCheck": "experiments.ab",
    "Study": "experiments.study",
    "StudyResult": "experiments.study",
    "ab_curve": "experiments.ab",
    "ab_test": "experiments.ab",
    "ab_tests": "experiments.ab",
    "adjust_p_values": "experiments.ab",
    "built_in_study": "experiments.study",
    "confidence_sequence": "experiments.sequential",
    "group_sequential_bounds": "experiments.sequential",
    "load_study": "experiments.study",
    "mixture_sprt": "experiments.sequential",
    "render": "experiments.report",
    "run_study": "experiments.study",
    "sequential_test": "experiments.sequential",
    "srm_test": "experiments.ab",
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
