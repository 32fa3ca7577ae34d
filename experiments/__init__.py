"""Who gets what, what would happen, what did happen.

Reads experiments, on line and off, and writes the report. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.ab import ab_curve, ab_test, ab_tests
    from experiments.assignment_variance import CellVariance, cell_variance, dual_sided_variance
    from experiments.calibration import Calibration, calibrate_platform
    from experiments.carryover import CarryoverBound, burn_in_curve, carryover_bound
    from experiments.comparison import Comparison, compare
    from experiments.design import AuthorSplit, ClusterSplit, DualArms, DualSided, UserSplit
    from experiments.dual_sided import DualSidedEffect, dual_sided_effect
    from experiments.entanglement import entanglement_index
    from experiments.metric import Mean, Quantile, Ratio
    from experiments.multiplicity import adjust_p_values
    from experiments.open_bandit_study import built_in_study
    from experiments.power import CellPower, Power, cell_power, mde, sample_size
    from experiments.power_timeline import mde_timeline
    from experiments.recommendation import Constraints, Recommendation, recommend
    from experiments.replication import replicate
    from experiments.report import ReportFiles, render
    from experiments.report_sections import ReportSection
    from experiments.rotation import Saturation, Schedule, Switchback
    from experiments.rotation_power import PowerCurve, switchback_power
    from experiments.salted_coins import salt_clashes
    from experiments.saturation_response import ShareResponse, share_response
    from experiments.scorecard import Scorecard, ScorecardRow
    from experiments.section_page import write_page
    from experiments.sequential import (
        AlwaysValid,
        Bounds,
        SequentialResult,
        confidence_sequence,
        group_sequential_bounds,
        mixture_sprt,
        sequential_test,
    )
    from experiments.simulated_study import SimulationResult, run_simulation
    from experiments.simulation import Simulation, simulate, true_effect
    from experiments.srm import SrmCheck, srm_test
    from experiments.study import run_study
    from experiments.study_file import load_study
    from experiments.study_result import StudyResult
    from experiments.study_schema import Study
    from experiments.switch_events import switch_event_study
    from experiments.switch_points import (
        SwitchbackVariance,
        optimal_switch_points,
        switchback_attenuation,
        switchback_risk,
        switchback_variance,
    )
    from experiments.switchback import SwitchbackEffect, switchback_effect
    from experiments.trials import Trial
    from experiments.triangulation import Triangulation, triangulate

__all__ = [
    "AlwaysValid",
    "AuthorSplit",
    "Bounds",
    "Calibration",
    "CarryoverBound",
    "CellPower",
    "CellVariance",
    "ClusterSplit",
    "Comparison",
    "Constraints",
    "DualArms",
    "DualSided",
    "DualSidedEffect",
    "Mean",
    "Power",
    "PowerCurve",
    "Quantile",
    "Ratio",
    "Recommendation",
    "ReportFiles",
    "ReportSection",
    "Saturation",
    "Schedule",
    "Scorecard",
    "ScorecardRow",
    "SequentialResult",
    "ShareResponse",
    "Simulation",
    "SimulationResult",
    "SrmCheck",
    "Study",
    "StudyResult",
    "Switchback",
    "SwitchbackEffect",
    "SwitchbackVariance",
    "Trial",
    "Triangulation",
    "UserSplit",
    "ab_curve",
    "ab_test",
    "ab_tests",
    "adjust_p_values",
    "built_in_study",
    "burn_in_curve",
    "calibrate_platform",
    "carryover_bound",
    "cell_power",
    "cell_variance",
    "compare",
    "confidence_sequence",
    "dual_sided_effect",
    "dual_sided_variance",
    "entanglement_index",
    "group_sequential_bounds",
    "load_study",
    "mde",
    "mde_timeline",
    "mixture_sprt",
    "optimal_switch_points",
    "recommend",
    "render",
    "replicate",
    "run_simulation",
    "run_study",
    "salt_clashes",
    "sample_size",
    "sequential_test",
    "share_response",
    "simulate",
    "srm_test",
    "switch_event_study",
    "switchback_attenuation",
    "switchback_effect",
    "switchback_power",
    "switchback_risk",
    "switchback_variance",
    "triangulate",
    "true_effect",
    "write_page",
]

_HOMES = {
    "AlwaysValid": "experiments.sequential",
    "AuthorSplit": "experiments.design",
    "Bounds": "experiments.sequential",
    "Calibration": "experiments.calibration",
    "CarryoverBound": "experiments.carryover",
    "CellPower": "experiments.power",
    "CellVariance": "experiments.assignment_variance",
    "ClusterSplit": "experiments.design",
    "Comparison": "experiments.comparison",
    "Constraints": "experiments.recommendation",
    "DualArms": "experiments.design",
    "DualSided": "experiments.design",
    "DualSidedEffect": "experiments.dual_sided",
    "Mean": "experiments.metric",
    "Power": "experiments.power",
    "PowerCurve": "experiments.rotation_power",
    "Quantile": "experiments.metric",
    "Ratio": "experiments.metric",
    "Recommendation": "experiments.recommendation",
    "ReportFiles": "experiments.report",
    "ReportSection": "experiments.report_sections",
    "Saturation": "experiments.rotation",
    "Schedule": "experiments.rotation",
    "Scorecard": "experiments.scorecard",
    "ScorecardRow": "experiments.scorecard",
    "SequentialResult": "experiments.sequential",
    "ShareResponse": "experiments.saturation_response",
    "Simulation": "experiments.simulation",
    "SimulationResult": "experiments.simulated_study",
    "SrmCheck": "experiments.srm",
    "Study": "experiments.study_schema",
    "StudyResult": "experiments.study_result",
    "Switchback": "experiments.rotation",
    "SwitchbackEffect": "experiments.switchback",
    "SwitchbackVariance": "experiments.switch_points",
    "Trial": "experiments.trials",
    "Triangulation": "experiments.triangulation",
    "UserSplit": "experiments.design",
    "ab_curve": "experiments.ab",
    "ab_test": "experiments.ab",
    "ab_tests": "experiments.ab",
    "adjust_p_values": "experiments.multiplicity",
    "built_in_study": "experiments.open_bandit_study",
    "burn_in_curve": "experiments.carryover",
    "calibrate_platform": "experiments.calibration",
    "carryover_bound": "experiments.carryover",
    "cell_power": "experiments.power",
    "cell_variance": "experiments.assignment_variance",
    "compare": "experiments.comparison",
    "confidence_sequence": "experiments.sequential",
    "dual_sided_effect": "experiments.dual_sided",
    "dual_sided_variance": "experiments.assignment_variance",
    "entanglement_index": "experiments.entanglement",
    "group_sequential_bounds": "experiments.sequential",
    "load_study": "experiments.study_file",
    "mde": "experiments.power",
    "mde_timeline": "experiments.power_timeline",
    "mixture_sprt": "experiments.sequential",
    "optimal_switch_points": "experiments.switch_points",
    "recommend": "experiments.recommendation",
    "render": "experiments.report",
    "replicate": "experiments.replication",
    "run_simulation": "experiments.simulated_study",
    "run_study": "experiments.study",
    "salt_clashes": "experiments.salted_coins",
    "sample_size": "experiments.power",
    "sequential_test": "experiments.sequential",
    "share_response": "experiments.saturation_response",
    "simulate": "experiments.simulation",
    "srm_test": "experiments.srm",
    "switch_event_study": "experiments.switch_events",
    "switchback_attenuation": "experiments.switch_points",
    "switchback_effect": "experiments.switchback",
    "switchback_power": "experiments.rotation_power",
    "switchback_risk": "experiments.switch_points",
    "switchback_variance": "experiments.switch_points",
    "triangulate": "experiments.triangulation",
    "true_effect": "experiments.simulation",
    "write_page": "experiments.section_page",
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
