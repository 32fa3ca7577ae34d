"""The live platform: its log, real data sets and ranking metrics.

The table that leaves this package is `ScoredTreatments`. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys.datasets import (
        open_bandit,
        read_kuailive,
        read_kuairand,
        read_liverec,
        read_open_bandit,
    )
    from recsys.log import ScoredTreatments
    from recsys.log_schema import COLUMNS, Column, LogCheck, Problem
    from recsys.metrics import (
        MetricWarning,
        auc,
        calibration_ratio,
        gauc,
        log_loss,
        ndcg,
        recall,
        uauc,
    )
    from recsys.platform.arms import Arms, Strategy
    from recsys.platform.draws import Draws
    from recsys.platform.flow_paths import FlowPaths
    from recsys.platform.flows import flow_worlds
    from recsys.platform.parameters import PlatformParameters
    from recsys.platform.world import LivePlatform

__all__ = [
    "COLUMNS",
    "Arms",
    "Column",
    "Draws",
    "FlowPaths",
    "LivePlatform",
    "LogCheck",
    "MetricWarning",
    "PlatformParameters",
    "Problem",
    "ScoredTreatments",
    "Strategy",
    "auc",
    "calibration_ratio",
    "flow_worlds",
    "gauc",
    "log_loss",
    "ndcg",
    "open_bandit",
    "read_kuailive",
    "read_kuairand",
    "read_liverec",
    "read_open_bandit",
    "recall",
    "uauc",
]

_HOMES = {
    "COLUMNS": "recsys.log_schema",
    "Arms": "recsys.platform.arms",
    "Draws": "recsys.platform.draws",
    "FlowPaths": "recsys.platform.flow_paths",
    "LivePlatform": "recsys.platform.world",
    "PlatformParameters": "recsys.platform.parameters",
    "Strategy": "recsys.platform.arms",
    "flow_worlds": "recsys.platform.flows",
    "Column": "recsys.log_schema",
    "LogCheck": "recsys.log_schema",
    "MetricWarning": "recsys.metrics",
    "Problem": "recsys.log_schema",
    "ScoredTreatments": "recsys.log",
    "auc": "recsys.metrics",
    "calibration_ratio": "recsys.metrics",
    "gauc": "recsys.metrics",
    "log_loss": "recsys.metrics",
    "ndcg": "recsys.metrics",
    "open_bandit": "recsys.datasets",
    "read_kuailive": "recsys.datasets",
    "read_kuairand": "recsys.datasets",
    "read_liverec": "recsys.datasets",
    "read_open_bandit": "recsys.datasets",
    "recall": "recsys.metrics",
    "uauc": "recsys.metrics",
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
