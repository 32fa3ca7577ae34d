"""Who gets what, what would happen, what did happen.

Reads experiments, on line and off, and writes the report. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.designs.assignment_variance import (
        CellVariance,
        cell_variance,
        dual_sided_variance,
    )
    from experiments.designs.design import AuthorSplit, ClusterSplit, DualArms, DualSided, UserSplit
    from experiments.designs.rotation import Saturation, Schedule, Switchback
    from experiments.designs.salted_coins import salt_clashes
    from experiments.designs.switch_points import (
        SwitchbackVariance,
        optimal_switch_points,
        switchback_attenuation,
        switchback_risk,
        switchback_variance,
    )
    from experiments.pairs.dual_sided import DualSidedEffect, dual_sided_effect
    from experiments.pairs.entanglement import entanglement_index
    from experiments.pairs.saturation_response import ShareResponse, share_response
    from experiments.planning.calibration import Calibration, calibrate_platform
    from experiments.planning.recommendation import Constraints, Recommendation, recommend
    from experiments.report.report import ReportFiles, render
    from experiments.report.report_sections import ReportSection
    from experiments.report.section_page import write_page
    from experiments.rotations.carryover import CarryoverBound, burn_in_curve, carryover_bound
    from experiments.rotations.switch_events import switch_event_study
    from experiments.rotations.switchback import SwitchbackEffect, switchback_effect
    from experiments.simulation.battle_power import battle_power
    from experiments.simulation.comparison import Comparison, compare
    from experiments.simulation.replication import replicate
    from experiments.simulation.simulation import Simulation, simulate, true_effect
    from experiments.simulation.trial_launches import Launch
    from experiments.simulation.trials import Trial
    from experiments.simulation.triangulation import Triangulation, triangulate
    from experiments.sizing.power import CellPower, Power, cell_power, mde, sample_size
    from experiments.sizing.power_timeline import mde_timeline
    from experiments.sizing.rotation_power import PowerCurve, switchback_power
    from experiments.splits.ab import ab_curve, ab_test, ab_tests
    from experiments.splits.metric import Mean, Quantile, Ratio
    from experiments.splits.multiplicity import adjust_p_values
    from experiments.splits.scorecard import Scorecard, ScorecardRow
    from experiments.splits.sequential import (
        AlwaysValid,
        Bounds,
        SequentialResult,
        confidence_sequence,
        group_sequential_bounds,
        mixture_sprt,
        sequential_test,
    )
    from experiments.splits.srm import SrmCheck, srm_test
    from experiments.study.open_bandit_study import built_in_study
    from experiments.study.panel_result import PanelResult
    from experiments.study.panel_study import run_panel
    from experiments.study.simulated_study import SimulationResult, run_simulation
    from experiments.study.study import run_study
    from experiments.study.study_file import load_study
    from experiments.study.study_result import StudyResult
    from experiments.study.study_schema import Study

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
    "Launch",
    "Mean",
    "PanelResult",
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
    "battle_power",
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
    "run_panel",
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
    "AlwaysValid": "experiments.splits.sequential",
    "AuthorSplit": "experiments.designs.design",
    "Bounds": "experiments.splits.sequential",
    "Calibration": "experiments.planning.calibration",
    "CarryoverBound": "experiments.rotations.carryover",
    "CellPower": "experiments.sizing.power",
    "CellVariance": "experiments.designs.assignment_variance",
    "ClusterSplit": "experiments.designs.design",
    "Comparison": "experiments.simulation.comparison",
    "Constraints": "experiments.planning.recommendation",
    "DualArms": "experiments.designs.design",
    "DualSided": "experiments.designs.design",
    "DualSidedEffect": "experiments.pairs.dual_sided",
    "Launch": "experiments.simulation.trial_launches",
    "Mean": "experiments.splits.metric",
    "PanelResult": "experiments.study.panel_result",
    "Power": "experiments.sizing.power",
    "PowerCurve": "experiments.sizing.rotation_power",
    "Quantile": "experiments.splits.metric",
    "Ratio": "experiments.splits.metric",
    "Recommendation": "experiments.planning.recommendation",
    "ReportFiles": "experiments.report.report",
    "ReportSection": "experiments.report.report_sections",
    "Saturation": "experiments.designs.rotation",
    "Schedule": "experiments.designs.rotation",
    "Scorecard": "experiments.splits.scorecard",
    "ScorecardRow": "experiments.splits.scorecard",
    "SequentialResult": "experiments.splits.sequential",
    "ShareResponse": "experiments.pairs.saturation_response",
    "Simulation": "experiments.simulation.simulation",
    "SimulationResult": "experiments.study.simulated_study",
    "SrmCheck": "experiments.splits.srm",
    "Study": "experiments.study.study_schema",
    "StudyResult": "experiments.study.study_result",
    "Switchback": "experiments.designs.rotation",
    "SwitchbackEffect": "experiments.rotations.switchback",
    "SwitchbackVariance": "experiments.designs.switch_points",
    "Trial": "experiments.simulation.trials",
    "Triangulation": "experiments.simulation.triangulation",
    "UserSplit": "experiments.designs.design",
    "ab_curve": "experiments.splits.ab",
    "ab_test": "experiments.splits.ab",
    "ab_tests": "experiments.splits.ab",
    "adjust_p_values": "experiments.splits.multiplicity",
    "battle_power": "experiments.simulation.battle_power",
    "built_in_study": "experiments.study.open_bandit_study",
    "burn_in_curve": "experiments.rotations.carryover",
    "calibrate_platform": "experiments.planning.calibration",
    "carryover_bound": "experiments.rotations.carryover",
    "cell_power": "experiments.sizing.power",
    "cell_variance": "experiments.designs.assignment_variance",
    "compare": "experiments.simulation.comparison",
    "confidence_sequence": "experiments.splits.sequential",
    "dual_sided_effect": "experiments.pairs.dual_sided",
    "dual_sided_variance": "experiments.designs.assignment_variance",
    "entanglement_index": "experiments.pairs.entanglement",
    "group_sequential_bounds": "experiments.splits.sequential",
    "load_study": "experiments.study.study_file",
    "mde": "experiments.sizing.power",
    "mde_timeline": "experiments.sizing.power_timeline",
    "mixture_sprt": "experiments.splits.sequential",
    "optimal_switch_points": "experiments.designs.switch_points",
    "recommend": "experiments.planning.recommendation",
    "render": "experiments.report.report",
    "replicate": "experiments.simulation.replication",
    "run_panel": "experiments.study.panel_study",
    "run_simulation": "experiments.study.simulated_study",
    "run_study": "experiments.study.study",
    "salt_clashes": "experiments.designs.salted_coins",
    "sample_size": "experiments.sizing.power",
    "sequential_test": "experiments.splits.sequential",
    "share_response": "experiments.pairs.saturation_response",
    "simulate": "experiments.simulation.simulation",
    "srm_test": "experiments.splits.srm",
    "switch_event_study": "experiments.rotations.switch_events",
    "switchback_attenuation": "experiments.designs.switch_points",
    "switchback_effect": "experiments.rotations.switchback",
    "switchback_power": "experiments.sizing.rotation_power",
    "switchback_risk": "experiments.designs.switch_points",
    "switchback_variance": "experiments.designs.switch_points",
    "triangulate": "experiments.simulation.triangulation",
    "true_effect": "experiments.simulation.simulation",
    "write_page": "experiments.report.section_page",
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
