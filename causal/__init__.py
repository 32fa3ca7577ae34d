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
    from causal.panel.aggregation import Aggregation
    from causal.panel.cohort_moments import PanelMoments, panel_moments
    from causal.panel.decomposition import (
        BaconDecomposition,
        TwfeWeights,
        bacon_decomposition,
        twfe_weights,
    )
    from causal.panel.design import PanelDesign, panel_design
    from causal.panel.did import diff_in_diff, event_study
    from causal.panel.earlier_starts import placebo_in_time
    from causal.panel.event_study import EventStudy
    from causal.panel.few_clusters import ClusterTest, few_cluster_test
    from causal.panel.fixed_effects import fixed_effects
    from causal.panel.group_time_result import GroupTimeEffects
    from causal.panel.honest import HonestDid, honest_did
    from causal.panel.imputation import imputation_effects
    from causal.panel.interacted import sun_abraham
    from causal.panel.matrix_completion import FactorEffects, factor_effects
    from causal.panel.predictors import Predictor
    from causal.panel.pretrend import (
        Equivalence,
        PretrendPower,
        pretrend_equivalence,
        pretrend_power,
    )
    from causal.panel.robustness import robustness_table
    from causal.panel.staggered import group_time_effects
    from causal.panel.strata import StratifiedDid, stratified_did
    from causal.panel.synthetic import synthetic_control
    from causal.panel.synthetic_did import SyntheticDiffInDiff, synthetic_diff_in_diff
    from causal.panel.synthetic_result import SyntheticControl
    from causal.panel.triple import triple_diff

__all__ = [
    "Aggregation",
    "BaconDecomposition",
    "ClusterTest",
    "Effect",
    "EffectCurve",
    "Equivalence",
    "EstimationWarning",
    "EventStudy",
    "FactorEffects",
    "GroupTimeEffects",
    "HonestDid",
    "Moments",
    "PanelDesign",
    "PanelMoments",
    "PolicyValue",
    "Predictor",
    "PretrendPower",
    "StratifiedDid",
    "SyntheticControl",
    "SyntheticDiffInDiff",
    "TwfeWeights",
    "WeightDiagnostics",
    "bacon_decomposition",
    "diff_in_diff",
    "event_study",
    "factor_effects",
    "few_cluster_test",
    "fixed_effects",
    "group_moments",
    "group_time_effects",
    "honest_did",
    "imputation_effects",
    "logged_policy_value",
    "off_policy_lift",
    "off_policy_value",
    "panel_design",
    "panel_moments",
    "placebo_in_time",
    "pretrend_equivalence",
    "pretrend_power",
    "robustness_table",
    "slate_value",
    "stratified_did",
    "sun_abraham",
    "synthetic_control",
    "synthetic_diff_in_diff",
    "triple_diff",
    "twfe_weights",
    "unit_cube",
]

_HOMES = {
    "Aggregation": "causal.panel.aggregation",
    "BaconDecomposition": "causal.panel.decomposition",
    "ClusterTest": "causal.panel.few_clusters",
    "Effect": "causal.effect",
    "EffectCurve": "causal.effect",
    "Equivalence": "causal.panel.pretrend",
    "EstimationWarning": "causal.effect",
    "EventStudy": "causal.panel.event_study",
    "FactorEffects": "causal.panel.matrix_completion",
    "GroupTimeEffects": "causal.panel.group_time_result",
    "HonestDid": "causal.panel.honest",
    "Moments": "causal.moments",
    "PanelDesign": "causal.panel.design",
    "PanelMoments": "causal.panel.cohort_moments",
    "PolicyValue": "causal.decisions.policy_result",
    "Predictor": "causal.panel.predictors",
    "PretrendPower": "causal.panel.pretrend",
    "StratifiedDid": "causal.panel.strata",
    "SyntheticControl": "causal.panel.synthetic_result",
    "SyntheticDiffInDiff": "causal.panel.synthetic_did",
    "TwfeWeights": "causal.panel.decomposition",
    "WeightDiagnostics": "causal.decisions.weights",
    "bacon_decomposition": "causal.panel.decomposition",
    "diff_in_diff": "causal.panel.did",
    "event_study": "causal.panel.did",
    "factor_effects": "causal.panel.matrix_completion",
    "few_cluster_test": "causal.panel.few_clusters",
    "fixed_effects": "causal.panel.fixed_effects",
    "group_moments": "causal.moments",
    "group_time_effects": "causal.panel.staggered",
    "honest_did": "causal.panel.honest",
    "imputation_effects": "causal.panel.imputation",
    "logged_policy_value": "causal.decisions.logged_policy",
    "off_policy_lift": "causal.decisions.off_policy",
    "off_policy_value": "causal.decisions.off_policy",
    "panel_design": "causal.panel.design",
    "panel_moments": "causal.panel.cohort_moments",
    "placebo_in_time": "causal.panel.earlier_starts",
    "pretrend_equivalence": "causal.panel.pretrend",
    "pretrend_power": "causal.panel.pretrend",
    "robustness_table": "causal.panel.robustness",
    "slate_value": "causal.decisions.slates",
    "stratified_did": "causal.panel.strata",
    "sun_abraham": "causal.panel.interacted",
    "synthetic_control": "causal.panel.synthetic",
    "synthetic_diff_in_diff": "causal.panel.synthetic_did",
    "triple_diff": "causal.panel.triple",
    "twfe_weights": "causal.panel.decomposition",
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
