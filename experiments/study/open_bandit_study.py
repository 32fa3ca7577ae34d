"""The built-in study: two policies of ZOZOTOWN on the real log that is shipped."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from experiments.errors import StudyError
from experiments.study.study_data import Source, treatment_check
from experiments.study.study_schema import Study
from recsys.datasets import open_bandit

if TYPE_CHECKING:
    from experiments.study.study_result import Check

POLICIES: tuple[Literal["bts", "random"], ...] = ("bts", "random")
_FEATURES = [
    "position",
    "hour",
    "user_feature_0",
    "user_feature_1",
    "user_feature_2",
    "user_feature_3",
]
_NOTES = (
    "Real impressions of the fashion shop ZOZOTOWN (Open Bandit Dataset, Saito et al. 2021), as "
    "sampled for its software: one week, two policies that ran side by side. Bernoulli Thompson "
    "sampling (bts) learned while it logged; random drew every item with equal probability.",
    "The logs hold no viewer and no request: the main lines take impressions as independent, and "
    "a second look lets all impressions of one hour depend on each other.",
)


def built_in_study(name: str = "open_bandit") -> Study:
    """A study of data that is shipped with the package.

    Parameters
    ----------
    name : {"open_bandit"}

    Returns
    -------
    Study
        For each campaign: `bts` against `random` in clicks per impression, by position and day;
        the value of `random` from the log of `bts` and of `bts` from the log of `random`, each
        beside what the policy earned itself.

    Raises
    ------
    StudyError
        If no study has this name.

    Examples
    --------
    >>> built_in_study().title
    'Open Bandit: Thompson sampling against uniform choice'
    """
    if name != "open_bandit":
        raise StudyError(f"the built-in study must be 'open_bandit'; got {name!r}")
    shared: dict[str, Any] = {
        "reward": "click",
        "propensity": "propensity",
        "action": "room_id",
        "measured_in": "%",
    }
    study = Study.model_validate(
        {
            "version": 1,
            "title": "Open Bandit: Thompson sampling against uniform choice",
            "data": {"open_bandit": ["all", "men"]},
            "experiment": {
                "arm": "policy_id",
                "control": "random",
                "day": "day",
                "segments": ["position"],
                "also_cluster": "hour of the week",
                "skip_srm": "the logs were sampled to equal size upstream, so their sizes say "
                "nothing of the traffic split",
            },
            "metrics": {
                "clicks per impression": {
                    "kind": "ratio",
                    "numerator": "click",
                    "denominator": "impression",
                    "measured_in": "%",
                }
            },
            "off_policy": [
                {
                    "name": "value of random from the log of bts",
                    "rows": {"policy_id": "bts"},
                    "on_policy": {"policy_id": "random"},
                    "target_policy": "uniform",
                    "methods": ["ips", "snips", "dr", "switch", "shrinkage"],
                    "features": _FEATURES,
                    **shared,
                },
                {
                    "name": "value of bts from the log of random",
                    "rows": {"policy_id": "random"},
                    "on_policy": {"policy_id": "bts"},
                    "target_log": {"policy_id": "bts"},
                    "by": ["position"],
                    "methods": ["ips", "snips"],
                    **shared,
                },
            ],
        }
    )
    return study.located("built-in study open_bandit")


def open_campaign(campaign: Literal["all", "men"]) -> Source:
    """Both logs of one campaign as one table, with the columns that the study names.

    Parameters
    ----------
    campaign : {"all", "men"}

    Returns
    -------
    Source
        `click`, `impression` (1), `day`, `hour` (of the day) and `hour of the week` beside the
        columns of the log.
    """
    frames: list[pd.DataFrame] = []
    checks: list[Check] = []
    for policy in POLICIES:
        log = open_bandit(campaign, policy)
        checks.append(treatment_check(f"log of {policy}", log))
        frames.append(log.joined())
    rows = pd.concat(frames, ignore_index=True)
    rows["impression"] = 1
    rows["day"] = rows["timestamp"].dt.strftime("%Y-%m-%d")
    rows["hour"] = rows["timestamp"].dt.hour
    rows["hour of the week"] = rows["timestamp"].dt.strftime("%Y-%m-%d %H")
    table = pa.Table.from_pandas(rows, preserve_index=False)
    folder = Path(str(files("recsys"))) / "data" / "open_bandit"
    return Source(
        name=f"campaign {campaign}",
        shown=f"open_bandit/{campaign}",
        table=table,
        rows=ds.dataset(table),
        files={
            f"open_bandit/{path.name}": path
            for path in sorted(folder.glob(f"{campaign}_*.parquet"))
        },
        checks=tuple(checks),
        notes=_NOTES,
    )
