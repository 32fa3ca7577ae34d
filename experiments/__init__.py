"""Who gets what, what would happen, what did happen.

Reads experiments, on line and off, and writes the report. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.ab import ab_curve, ab_test, ab_tests
    from experiments.assignment_variance import CellVariance, cell_variance, dual_sided_variance
    from experiments.design import AuthorSplit, ClusterSplit, DualArms, DualSided, UserSplit
    from experiments.metric import Mean, Quantile, Ratio
    from experiments.multiplicity import adjust_p_values
    from experiments.open_bandit_study import built_in_study
    from experiments.power import CellPower, cell_power, sample_size
    from experiments.replication import replicate
    from experiments.report import ReportFiles, render
    from experiments.rotation import Saturation, Schedule, Switchback
    from experiments.scorecard import Scorecard, ScorecardRow
    from experiments.sequential import (
        AlwaysValid,
        Bounds,
        SequentialResult,
        confidence_sequence,
        group_sequential_bounds,
        mixture_sprt,
        sequential_test,
    )
    from experiments.srm import SrmCheck, srm_test
    from experiments.study import run_study
    from experiments.study_file import load_study
    from experiments.study_result import StudyResult
    from experiments.study_schema import Study
    from experiments.switch_points import (
        SwitchbackVariance,
        optimal_switch_points,
        switchback_attenuation,
        switchback_risk,
        switchback_variance,
    )

__all__ = [
    "AlwaysValid",
    "AuthorSplit",
    "Bounds",
    "CellPower",
    "CellVariance",
    "ClusterSplit",
    "DualArms",
    "DualSided",
    "Mean",
    "Quantile",
    "Ratio",
    "ReportFiles",
    "Saturation",
    "Schedule",
    "Scorecard",
    "ScorecardRow",
    "SequentialResult",
    "SrmCheck",
    "Study",
    "StudyResult",
    "Switchback",
    "SwitchbackVariance",
    "UserSplit",
    "ab_curve",
    "ab_test",
    "ab_tests",
    "adjust_p_values",
    "built_in_study",
    "cell_power",
    "cell_variance",
    "confidence_sequence",
    "dual_sided_variance",
    "group_sequential_bounds",
    "load_study",
    "mixture_sprt",
    "optimal_switch_points",
    "render",
    "replicate",
    "run_study",
    "sample_size",
    "sequential_test",
    "srm_test",
    "switchback_attenuation",
    "switchback_risk",
    "switchback_variance",
]

_HOMES = {
    "AlwaysValid": "experiments.sequential",
    "AuthorSplit": "experiments.design",
    "Bounds": "experiments.sequential",
    "CellPower": "experiments.power",
    "CellVariance": "experiments.assignment_variance",
    "ClusterSplit": "experiments.design",
    "DualArms": "experiments.design",
    "DualSided": "experiments.design",
    "Mean": "experiments.metric",
    "Quantile": "experiments.metric",
    "Ratio": "experiments.metric",
    "ReportFiles": "experiments.report",
    "Saturation": "experiments.rotation",
    "Schedule": "experiments.rotation",
    "Scorecard": "experiments.scorecard",
    "ScorecardRow": "experiments.scorecard",
    "SequentialResult": "experiments.sequential",
    "SrmCheck": "experiments.srm",
    "Study": "experiments.study_schema",
    "StudyResult": "experiments.study_result",
    "Switchback": "experiments.rotation",
    "SwitchbackVariance": "experiments.switch_points",
    "UserSplit": "experiments.design",
    "ab_curve": "experiments.ab",
    "ab_test": "experiments.ab",
    "ab_tests": "experiments.ab",
    "adjust_p_values": "experiments.multiplicity",
    "built_in_study": "experiments.open_bandit_study",
    "cell_power": "experiments.power",
    "cell_variance": "experiments.assignment_variance",
    "confidence_sequence": "experiments.sequential",
    "dual_sided_variance": "experiments.assignment_variance",
    "group_sequential_bounds": "experiments.sequential",
    "load_study": "experiments.study_file",
    "mixture_sprt": "experiments.sequential",
    "optimal_switch_points": "experiments.switch_points",
    "render": "experiments.report",
    "replicate": "experiments.replication",
    "run_study": "experiments.study",
    "sample_size": "experiments.power",
    "sequential_test": "experiments.sequential",
    "srm_test": "experiments.srm",
    "switchback_attenuation": "experiments.switch_points",
    "switchback_risk": "experiments.switch_points",
    "switchback_variance": "experiments.switch_points",
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
