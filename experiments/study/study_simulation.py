"""What a simulated study consists of: a platform, a strategy, trials, and how long they run."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from experiments.designs.design import AuthorSplit, ClusterSplit, DualSided, UserSplit
from experiments.designs.rotation import Saturation, Switchback
from experiments.simulation.trial_launches import Launch, LaunchReading, Where
from experiments.simulation.trials import Trial, checked_trials
from recsys import LivePlatform, PlatformParameters, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.simulation.trials import Design

_PARAMETERS = tuple(f.name for f in fields(PlatformParameters))
_DESIGNS: dict[str, type[Design]] = {
    "user_split": UserSplit,
    "author_split": AuthorSplit,
    "cluster_split": ClusterSplit,
    "dual_sided": DualSided,
    "switchback": Switchback,
    "saturation": Saturation,
    "launch": Launch,
}
_SHAPE = ConfigDict(extra="forbid", strict=True, frozen=True)


class PlatformSection(BaseModel):
    """The platform: its sizes, its seed, and any of its parameters by name."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    n_viewers: Annotated[int, Field(ge=2)]
    n_authors: Annotated[int, Field(ge=1)]
    n_regions: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    preset: Literal["flows", "ranking"] = "flows"

    @model_validator(mode="after")
    def _known_parameters(self) -> Self:
        unknown = [name for name in self.model_extra or {} if name not in _PARAMETERS]
        if unknown:
            found = [
                InitErrorDetails(type="extra_forbidden", loc=(name,), input=None)
                for name in unknown
            ]
            raise ValidationError.from_exception_data("PlatformSection", found)
        self.platform()
        return self

    def platform(self) -> LivePlatform:
        """The platform that the section describes."""
        return LivePlatform(**self.model_dump())

    @classmethod
    def keys(cls) -> list[str]:
        """Every key that the section may have."""
        return [*cls.model_fields, *_PARAMETERS]


class StrategySection(BaseModel):
    """What changes for a treated pair; see `Strategy`."""

    model_config = _SHAPE

    lift: float = 0.25
    author_lift: float | list[float] = 0.0
    activity_lift: float = 0.0
    effort_lift: float = 0.0
    exposure_lift: float = 0.0
    name: str = "strategy"

    @model_validator(mode="after")
    def _finite(self) -> Self:
        self.strategy()
        return self

    def strategy(self) -> Strategy:
        """The strategy that the section describes."""
        values = self.model_dump()
        if isinstance(self.author_lift, list):
            values["author_lift"] = tuple(self.author_lift)
        return Strategy(**values)


class _TrialSection(BaseModel):
    """What every trial has besides its design's own arguments."""

    model_config = _SHAPE

    name: Annotated[str, Field(min_length=1)] | None = None
    estimand: Literal["total", "direct", "viewer_spillover", "author_spillover"] = "total"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        self.trial()
        return self

    def trial(self) -> Trial:
        """The trial that the section describes."""
        values = self.model_dump(exclude={"name", "estimand"}, exclude_none=True)
        made = _DESIGNS[values.pop("design")](**values)
        return Trial(made, name=self.name, estimand=self.estimand)


class UserSplitTrial(_TrialSection):
    """Viewers split at random."""

    design: Literal["user_split"]
    share: float = 0.5
    arms: list[str] | None = None
    shares: list[float] | None = None
    salt: str = ""


class AuthorSplitTrial(_TrialSection):
    """Authors split at random."""

    design: Literal["author_split"]
    share: float = 0.5
    arms: list[str] | None = None
    shares: list[float] | None = None
    salt: str = ""


class ClusterSplitTrial(_TrialSection):
    """Whole clusters of viewers split at random."""

    design: Literal["cluster_split"]
    share: float = 0.5
    complete: bool = True
    salt: str = ""


class DualSidedTrial(_TrialSection):
    """Viewers and authors randomised at once."""

    design: Literal["dual_sided"]
    viewer_share: float = 0.5
    author_share: float = 0.5
    complete: bool = True
    salt: str = ""


class SwitchbackTrial(_TrialSection):
    """Time-slice rotation."""

    design: Literal["switchback"]
    slice_minutes: float = 360
    coin: Literal["stratified", "independent", "alternating", "complete"] = "stratified"
    points: list[int] | None = None
    period_minutes: float = 60
    burn_in_minutes: float = 0
    end_jitter_minutes: float = 0
    regions: list[str] | None = None
    min_share: float = 0.4


class SaturationTrial(_TrialSection):
    """Shares of treated viewers that change by region and slice."""

    design: Literal["saturation"]
    shares: list[float] = [0.1, 0.5, 0.9]
    slice_minutes: float = 1440
    regions: list[str] | None = None
    salt: str = ""


class LaunchTrial(_TrialSection):
    """Regions that get the strategy though nobody drew them, read by DID or synthetic control."""

    design: Literal["launch"]
    n_regions: int = 1
    waves: int = 1
    where: Where = "typical"
    reading: LaunchReading = "did"


TrialSection: TypeAlias = Annotated[
    UserSplitTrial
    | AuthorSplitTrial
    | ClusterSplitTrial
    | DualSidedTrial
    | SwitchbackTrial
    | SaturationTrial
    | LaunchTrial,
    Field(discriminator="design"),
]
TRIALS: dict[str, type[_TrialSection]] = {
    "user_split": UserSplitTrial,
    "author_split": AuthorSplitTrial,
    "cluster_split": ClusterSplitTrial,
    "dual_sided": DualSidedTrial,
    "switchback": SwitchbackTrial,
    "saturation": SaturationTrial,
    "launch": LaunchTrial,
}


class SimulationSection(BaseModel):
    """How long trials run, and how often; see `compare`."""

    model_config = _SHAPE

    hours: Annotated[float, Field(gt=0)] = 336
    before_hours: Annotated[float, Field(ge=0)] = 168
    tick_minutes: Annotated[float, Field(gt=0)] = 60
    replications: Annotated[int, Field(ge=2)] = 100
    redraw_population: bool = False
    seed: Annotated[int, Field(ge=0)] = 0


def distinct_trials(trials: Sequence[_TrialSection]) -> tuple[Trial, ...]:
    """The trials, with distinct names.

    Raises
    ------
    ValueError
        If names repeat.
    """
    return checked_trials([each.trial() for each in trials])


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'kappa'?``, or nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
