"""What a study consists of: data, an experiment, its metrics, policies to value, how to read them.

The models hold the whole vocabulary of a study; `study_file` reads them from YAML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from experiments.study.panel_schema import PanelSection  # noqa: TC001 — pydantic reads it
from experiments.study.study_roles import contradictions
from experiments.study.study_simulation import (
    PlatformSection,
    SimulationSection,
    StrategySection,
    TrialSection,
    distinct_trials,
)
from experiments.study.study_values import Scalar  # noqa: TC001 — pydantic reads it

Method: TypeAlias = Literal["ips", "snips", "dm", "dr", "sndr", "switch", "shrinkage"]
Covariance: TypeAlias = Literal["auto", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "CR2"]

_NEEDS_EVERY_ACTION = frozenset({"dm", "dr", "sndr", "switch", "shrinkage"})
_NOT_CLIPPED = frozenset({"dm", "switch", "shrinkage"})
_SHARE_TOLERANCE = 1e-6
_OF_LOGS = ("data", "experiment", "metrics", "off_policy", "panel")
_NOT_OF_PANELS = ("experiment", "metrics", "off_policy")
_OF_SIMULATIONS = ("platform", "strategy", "trials", "simulation")


class _Part(BaseModel):
    """A part of a study: unknown keys are refused, and no value is converted to another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataSource(_Part):
    """Where the rows come from: Parquet of the user's own, or the log that is shipped."""

    log: str | list[str] | None = None
    open_bandit: list[Literal["all", "men"]] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.log is None) == (self.open_bandit is None):
            raise ValueError("exactly one of 'log' and 'open_bandit' is required")
        if self.log in ("", []):
            raise ValueError("'log' must name a Parquet file, a folder or a pattern; it is empty")
        if self.open_bandit == []:
            raise ValueError("'open_bandit' must name a campaign, all or men; it is empty")
        return self


class Experiment(_Part):
    """Who was in which arm, and which rows belong together.

    `cluster` names whose rows depend on each other (the viewer); `unit` whose arm was drawn: each
    unit is in one arm, and has one row unless it is the cluster, or what every metric is summed to.
    `also_cluster` adds a second line to every metric, with errors that depend on each other within
    that column; `skip_srm` switches the test of the split off and says why.
    """

    arm: str
    control: Scalar | None = None
    treatment: Scalar | None = None
    unit: str | None = None
    cluster: str | None = None
    also_cluster: str | None = None
    weight: str | None = None
    trigger: str | None = None
    day: str | None = None
    segments: list[str] = []
    expected_share: dict[Scalar, float] | None = None
    skip_srm: str | None = None
    adjustment: Literal["lin", "cuped", "none"] = "lin"
    covariance: Covariance = "auto"
    missing: Literal["drop", "raise"] = "drop"

    @field_validator("expected_share")
    @classmethod
    def _shares(cls, shares: dict[Scalar, float] | None) -> dict[Scalar, float] | None:
        if shares is not None and not all(0 < share < float("inf") for share in shares.values()):
            raise ValueError("shares must be finite numbers > 0")
        if shares is not None and len(shares) < 2:
            raise ValueError(f"every arm needs a share, and there are two or more; got {shares}")
        return shares

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        if self.control is not None and self.control == self.treatment:
            raise ValueError(f"'control' and 'treatment' must differ; both are {self.control!r}")
        for role, arm in (("control", self.control), ("treatment", self.treatment)):
            if None not in (arm, self.expected_share) and arm not in (self.expected_share or {}):
                raise ValueError(
                    f"'expected_share' must give every arm a share; the {role} {arm!r} has none"
                )
        return self


class _Metric(_Part):
    """What every metric has besides its columns.

    `measured_in` is the unit that numbers are shown with; ``"%"`` shows shares of 1 in percent.
    """

    role: Literal["goal", "guardrail", "diagnostic"] = "goal"
    margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    better: Literal["higher", "lower"] = "higher"
    measured_in: str = ""

    @model_validator(mode="after")
    def _guardrails_have_margins(self) -> Self:
        if self.role == "guardrail" and self.margin is None:
            raise ValueError(
                "a guardrail needs 'margin', the largest tolerated relative loss: 0.01 is 1 %"
            )
        return self


class MeanMetric(_Metric):
    """Mean of a column, over rows or over sums per `per`."""

    kind: Literal["mean"]
    outcome: str
    per: str | None = None
    covariates: list[str] = []
    winsor: list[float] | None = None

    @field_validator("winsor")
    @classmethod
    def _winsor_quantiles(cls, winsor: list[float] | None) -> list[float] | None:
        if winsor is not None and not (len(winsor) == 2 and 0 <= winsor[0] < winsor[1] <= 1):
            raise ValueError(
                f"two quantiles are required, [low, high] with 0 <= low < high <= 1; got {winsor}; "
                "[0, 0.999] cuts the largest values only"
            )
        return winsor


class RatioMetric(_Metric):
    """Ratio of two sums."""

    kind: Literal["ratio"]
    numerator: str
    denominator: str
    covariates: list[str] = []
    covariate_ratio: list[str] | None = None

    @field_validator("covariate_ratio")
    @classmethod
    def _pair(cls, pair: list[str] | None) -> list[str] | None:
        if pair is not None and len(pair) != 2:
            raise ValueError(f"two columns are required, [numerator, denominator]; got {pair}")
        return pair


class QuantileMetric(_Metric):
    """Quantile of a column, over rows or over sums per `per`."""

    kind: Literal["quantile"]
    outcome: str
    q: Annotated[float, Field(gt=0, lt=1)]
    per: str | None = None


Metric: TypeAlias = Annotated[
    MeanMetric | RatioMetric | QuantileMetric, Field(discriminator="kind")
]


class OffPolicy(_Part):
    """What a policy would have earned, from the log of another.

    The target policy is given in one of three ways: `target`, a column with its probability of the
    logged action; `target_policy`, ``uniform`` or a probability per action; `target_log`, the rows
    that it chose itself. `rows` restricts the log (``{arm: A}``); `on_policy` names the rows that
    the target policy earned itself, to compare with.
    """

    name: str
    reward: str
    propensity: str
    target: str | None = None
    target_policy: Literal["uniform"] | dict[Scalar, float] | None = None
    target_log: dict[str, Scalar] | None = None
    by: list[str] = []
    methods: list[Method] = ["snips"]
    action: str | None = None
    features: list[str] = []
    rows: dict[str, Scalar] = {}
    on_policy: dict[str, Scalar] | None = None
    cluster: str | None = None
    clip: Annotated[float, Field(gt=0)] | None = None
    n_folds: Annotated[int, Field(ge=2)] = 5
    seed: Annotated[int, Field(ge=0)] = 0
    measured_in: str = ""

    @field_validator("methods")
    @classmethod
    def _some_methods(cls, methods: list[Method]) -> list[Method]:
        if not methods:
            raise ValueError(
                f"at least one of {', '.join(get_args(Method))} is required; got none; leave "
                "'methods' out for snips"
            )
        if len(set(methods)) < len(methods):
            raise ValueError(f"a method must not repeat; got {', '.join(methods)}")
        return methods

    @field_validator("target_policy")
    @classmethod
    def _probabilities(
        cls, shares: Literal["uniform"] | dict[Scalar, float] | None
    ) -> Literal["uniform"] | dict[Scalar, float] | None:
        if isinstance(shares, dict) and not (
            all(0 <= p <= 1 for p in shares.values())
            and abs(sum(shares.values()) - 1) <= _SHARE_TOLERANCE
        ):
            raise ValueError(
                "probabilities in [0, 1] that sum to 1 over all actions are required; they sum to "
                f"{sum(shares.values()):.6g}"
            )
        return shares

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        targets = ("target", "target_policy", "target_log")
        given = [name for name in targets if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(
                f"exactly one of 'target', 'target_policy', 'target_log' is required; got {found}"
            )
        modelled = sorted(_NEEDS_EVERY_ACTION & set(self.methods))
        if self.target_log is not None and modelled:
            raise ValueError(f"'target_log' goes with ips and snips; got {modelled[0]}")
        if self.action is None and (modelled or self.target is None):
            raise ValueError(f"'action' is required by {modelled[0] if modelled else given[0]}")
        if self.by and self.target_log is None:
            raise ValueError("'by' goes with 'target_log'; leave it out")
        if self.features and self.target_log is not None:
            raise ValueError("'features' does not go with 'target_log'; use 'by', or leave it out")
        return self

    @model_validator(mode="after")
    def _clips_what_can_be_clipped(self) -> Self:
        unclipped = sorted(_NOT_CLIPPED & set(self.methods))
        if self.clip is not None and (unclipped or self.target_log is not None):
            other = unclipped[0] if unclipped else "'target_log'"
            raise ValueError(
                f"'clip' goes with ips, snips, dr and sndr, not with {other}; leave it out"
            )
        return self


class ReportOptions(_Part):
    """How results are read: confidence level and correction for many metrics."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    adjust: Literal["holm", "bh", "by", "bonferroni", "none"] = "holm"


class Study(_Part):
    """A study: a log and what is asked of it, a panel, or a platform and designs to be tried on it.

    Made by `load_study` from YAML, or by ``Study.model_validate`` from a mapping of the same shape;
    paths in `data` are then relative to the current folder. With `data` it is read out by
    `run_study`, with `data` and `panel` by `run_panel`; with `platform`, `strategy` and `trials` it
    is simulated by `run_simulation`.

    Parameters
    ----------
    version : 1
        Version of this format.
    title : str
        Heading of the report.
    data : DataSource, optional
        ``{log: ...}``: Parquet file, folder, pattern, or a list of them.
    experiment : Experiment, optional
        Needed by `metrics`.
    metrics : mapping of str to Metric
        By name.
    off_policy : list of OffPolicy
        Policies to value from the log.
    report : ReportOptions
        Confidence level and multiplicity.
    panel : PanelSection, optional
        ``{kind: diff_in_diff, ...}`` or ``{kind: synthetic_control, ...}``: units before and after
        a treatment that was not drawn by lot, in place of `experiment`.
    platform : PlatformSection, optional
        Sizes, seed and parameters of a `LivePlatform`, in place of `data`.
    strategy : StrategySection
        What a treated pair gains there.
    trials : list of TrialSection
        Designs to be compared there, with their arguments by name.
    simulation : SimulationSection
        Hours, replications and seed.

    Raises
    ------
    pydantic.ValidationError
        If a key is unknown, a value has the wrong type, or parts contradict each other.

    Examples
    --------
    >>> study = Study.model_validate({"version": 1, "title": "Week 47", "data": {"log": "a"},
    ...     "experiment": {"arm": "arm", "control": "A"},
    ...     "metrics": {"watch": {"kind": "mean", "outcome": "watch_s"}}})
    >>> study.report.level
    0.95
    """

    version: Literal[1]
    title: Annotated[str, Field(min_length=1)]
    data: DataSource | None = None
    experiment: Experiment | None = None
    metrics: dict[str, Metric] = {}
    off_policy: list[OffPolicy] = []
    report: ReportOptions = ReportOptions()
    panel: PanelSection | None = None
    platform: PlatformSection | None = None
    strategy: StrategySection = StrategySection()
    trials: list[TrialSection] = []
    simulation: SimulationSection = SimulationSection()

    _folder: Path = PrivateAttr(default=Path())
    _file: str = PrivateAttr(default="study")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        fields = type(self).model_fields
        given = [key for key, field in fields.items() if getattr(self, key) != field.default]
        logged = [key for key in _OF_LOGS if key in given]
        simulated = [key for key in _OF_SIMULATIONS if key in given]
        if logged and simulated:
            raise ValueError(
                f"a study reads a log or simulates: {logged[0]!r} does not go with "
                f"{simulated[0]!r}; make two files"
            )
        if simulated and self.platform is None:
            raise ValueError(f"{simulated[0]!r} needs 'platform', on which it is simulated")
        if not simulated and self.data is None:
            raise ValueError(
                "key 'data' is required, which names the log (or 'platform' and 'trials', for a "
                "simulation)"
            )
        return self

    @model_validator(mode="after")
    def _has_trials(self) -> Self:
        if self.platform is None:
            return self
        if not self.trials:
            raise ValueError("'platform' needs 'trials'; name at least one design")
        distinct_trials(self.trials)
        return self

    @model_validator(mode="after")
    def _panel_stands_alone(self) -> Self:
        if self.panel is None or self.data is None:
            return self
        other = next((key for key in _NOT_OF_PANELS if getattr(self, key)), None)
        if other is not None:
            raise ValueError(f"'panel' does not go with {other!r}; make two files")
        if self.data.open_bandit is not None:
            raise ValueError("'panel' reads units over time; give 'log', not 'open_bandit'")
        if self.report.adjust != ReportOptions().adjust:
            raise ValueError("'adjust' goes with 'metrics'; leave it out with 'panel'")
        return self

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if self.platform is not None or self.panel is not None:
            return self
        if self.metrics and self.experiment is None:
            raise ValueError("'metrics' needs 'experiment', which names the arms")
        if self.experiment is not None and not self.metrics:
            raise ValueError("'experiment' needs 'metrics'; name at least one")
        if not self.metrics and not self.off_policy:
            raise ValueError(
                "nothing is asked: give 'experiment' with 'metrics', 'off_policy' or 'panel'"
            )
        names = [policy.name for policy in self.off_policy]
        if len(set(names)) < len(names):
            raise ValueError("the names in 'off_policy' must differ")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        found = [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{text}", {"text": text}),
                loc=place,
                input=None,
            )
            for place, text in contradictions(self)
        ]
        if found:
            raise ValidationError.from_exception_data("Study", found)
        return self

    @property
    def folder(self) -> Path:
        """Folder that paths in the study are relative to."""
        return self._folder

    @property
    def file(self) -> str:
        """The study file as the user named it."""
        return self._file

    def located(self, file: str) -> Self:
        """The same study, as read from a file: its name is used in messages."""
        study = self.model_copy()
        study._file, study._folder = file, Path(file).parent
        return study
