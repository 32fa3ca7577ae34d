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
    from causal.did.event_study import EventStudy
    from causal.did.few_clusters import ClusterTest, few_cluster_test
    from causal.did.fixed_effects import fixed_effects
    from causal.did.regression import diff_in_diff, event_study
    from causal.did.robustness import robustness_table
    from causal.did.strata import StratifiedDid, stratified_did
    from causal.did.triple import triple_diff
    from causal.effect import Effect, EffectCurve, EstimationWarning
    from causal.moments import Moments, group_moments, unit_cube
    from causal.panel.cohort_moments import PanelMoments, panel_moments
    from causal.panel.design import PanelDesign, panel_design
    from causal.sensitivity.honest import HonestDid, honest_did
    from causal.sensitivity.pretrend import (
        Equivalence,
        PretrendPower,
        pretrend_equivalence,
        pretrend_power,
    )
    from causal.staggered.aggregation import Aggregation
    from causal.staggered.decomposition import (
        BaconDecomposition,
        TwfeWeights,
        bacon_decomposition,
        twfe_weights,
    )
    from causal.staggered.group_time import group_time_effects
    from causal.staggered.group_time_result import GroupTimeEffects
    from causal.staggered.imputation import imputation_effects
    from causal.staggered.interacted import sun_abraham
    from causal.synthetic.control import synthetic_control
    from causal.synthetic.earlier_starts import placebo_in_time
    from causal.synthetic.matrix_completion import FactorEffects, factor_effects
    from causal.synthetic.predictors import Predictor
    from causal.synthetic.synthetic_did import SyntheticDiffInDiff, synthetic_diff_in_diff
    from causal.synthetic.synthetic_result import SyntheticControl

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
    "Aggregation": "causal.staggered.aggregation",
    "BaconDecomposition": "causal.staggered.decomposition",
    "ClusterTest": "causal.did.few_clusters",
    "Effect": "causal.effect",
    "EffectCurve": "causal.effect",
    "Equivalence": "causal.sensitivity.pretrend",
    "EstimationWarning": "causal.effect",
    "EventStudy": "causal.did.event_study",
    "FactorEffects": "causal.synthetic.matrix_completion",
    "GroupTimeEffects": "causal.staggered.group_time_result",
    "HonestDid": "causal.sensitivity.honest",
    "Moments": "causal.moments",
    "PanelDesign": "causal.panel.design",
    "PanelMoments": "causal.panel.cohort_moments",
    "PolicyValue": "causal.decisions.policy_result",
    "Predictor": "causal.synthetic.predictors",
    "PretrendPower": "causal.sensitivity.pretrend",
    "StratifiedDid": "causal.did.strata",
    "SyntheticControl": "causal.synthetic.synthetic_result",
    "SyntheticDiffInDiff": "causal.synthetic.synthetic_did",
    "TwfeWeights": "causal.staggered.decomposition",
    "WeightDiagnostics": "causal.decisions.weights",
    "bacon_decomposition": "causal.staggered.decomposition",
    "diff_in_diff": "causal.did.regression",
    "event_study": "causal.did.regression",
    "factor_effects": "causal.synthetic.matrix_completion",
    "few_cluster_test": "causal.did.few_clusters",
    "fixed_effects": "causal.did.fixed_effects",
    "group_moments": "causal.moments",
    "group_time_effects": "causal.staggered.group_time",
    "honest_did": "causal.sensitivity.honest",
    "imputation_effects": "causal.staggered.imputation",
    "logged_policy_value": "causal.decisions.logged_policy",
    "off_policy_lift": "causal.decisions.off_policy",
    "off_policy_value": "causal.decisions.off_policy",
    "panel_design": "causal.panel.design",
    "panel_moments": "causal.panel.cohort_moments",
    "placebo_in_time": "causal.synthetic.earlier_starts",
    "pretrend_equivalence": "causal.sensitivity.pretrend",
    "pretrend_power": "causal.sensitivity.pretrend",
    "robustness_table": "causal.did.robustness",
    "slate_value": "causal.decisions.slates",
    "stratified_did": "causal.did.strata",
    "sun_abraham": "causal.staggered.interacted",
    "synthetic_control": "causal.synthetic.control",
    "synthetic_diff_in_diff": "causal.synthetic.synthetic_did",
    "triple_diff": "causal.did.triple",
    "twfe_weights": "causal.staggered.decomposition",
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
