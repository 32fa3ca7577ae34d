"""What a panel study may say: units over time, who was treated when, and which estimators answer.

``kind: diff_in_diff`` compares with units that were treated later or never; ``kind:
synthetic_control`` with a weighted mean of a few that were never treated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from experiments.study.study_values import Scalar  # noqa: TC001 — pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Iterator

DidEstimator: TypeAlias = Literal[
    "event_study", "group_time_effects", "sun_abraham", "imputation_effects", "diff_in_diff"
]
SyntheticEstimator: TypeAlias = Literal[
    "synthetic_control", "synthetic_diff_in_diff", "factor_effects"
]

_Name = TypeVar("_Name", bound=str)
REGRESSIONS = ("event_study", "diff_in_diff")  # take another covariance
_OF_COHORTS = ("group_time_effects", "sun_abraham", "imputation_effects")
_ROLES = ("outcome", "unit", "time", "cohort", "treatment", "cluster", "stratum", "exposure")
_MAY_SHARE = frozenset({"unit", "cluster", "stratum"})


class _PanelPart(BaseModel):
    """What both kinds have: columns of a unit over time, and the unit of the outcome.

    `aggregate` says what to do with several rows of a unit in a period.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    outcome: str
    unit: str
    time: str
    cohort: str | None = None
    treatment: str | None = None
    start: Scalar | None = None
    never: Scalar | None = None
    aggregate: Literal["mean", "sum"] | None = None
    measured_in: str = ""

    def columns(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every column that the section names, with its place below it."""
        for role in _ROLES:
            column = getattr(self, role, None)
            if column is not None:
                yield (role,), column
        for j, column in enumerate(getattr(self, "covariates", ())):
            yield ("covariates", j), column
        for j, predictor in enumerate(getattr(self, "predictors", ())):
            yield ("predictors", j, "column"), predictor.column

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        seen: dict[str, str] = {}
        for place, column in self.columns():
            role, before = str(place[0]), seen.get(column)
            if role == "predictors" and before in ("outcome", "predictors"):
                continue  # over other periods
            if before is not None and not {role, before} <= _MAY_SHARE:
                raise ValueError(f"column {column!r} is both {before!r} and {role!r}; name another")
            seen.setdefault(column, role)
        return self


class DiffInDiffSection(_PanelPart):
    """A difference-in-differences: treated units beside those treated later or never.

    Who is treated is said by `cohort` (column of the first treated time, missing for never; `never`
    is a value that means it too), by `treatment` with `start` (0/1 column and the first treated
    time), or by `treatment` alone (the status of each row). The first of `estimators` is the
    answer, the others stand beside it; without any, the panel decides. `covariance` is that of
    `event_study` and `diff_in_diff`. `sensitivity` are bounds of `honest_did`, in times the largest
    change of trends before the start.
    """

    kind: Literal["diff_in_diff"]
    cluster: str | None = None
    stratum: str | None = None
    weights: Literal["treated", "population", "inverse_variance"] | dict[Scalar, float] = "treated"
    covariates: list[str] = []
    covariance: Literal["CR1", "CR2", "CR3", "HC1"] | None = None
    exposure: str | None = None
    estimators: list[DidEstimator] = []
    sensitivity: list[float] | None = None

    @field_validator("sensitivity")
    @classmethod
    def _bounds(cls, bounds: list[float] | None) -> list[float] | None:
        if bounds is not None and not (bounds and all(0 <= b < math.inf for b in bounds)):
            raise ValueError(f"bounds must be finite numbers >= 0, at least one; got {bounds}")
        if bounds is not None and len(set(bounds)) < len(bounds):
            raise ValueError(f"a bound must not repeat; got {bounds}")
        return bounds

    @field_validator("estimators")
    @classmethod
    def _each_once(cls, estimators: list[DidEstimator]) -> list[DidEstimator]:
        return _distinct(estimators)

    @model_validator(mode="after")
    def _who_is_treated(self) -> Self:
        if (self.cohort is None) == (self.treatment is None):
            raise ValueError(
                "exactly one of 'cohort' and 'treatment' is required, which say who is treated"
            )
        _start_and_never(self)
        asked = [name for name in self.estimators if name in _OF_COHORTS]
        if self.covariates and self.cohort is None and asked:
            raise ValueError(
                f"{asked[0]} with covariates needs 'cohort', the column of the first treated time"
            )
        return self

    @model_validator(mode="after")
    def _options_of_estimators(self) -> Self:
        if self.estimators:
            self.refuse_options(self.estimators[0])
        return self

    def refuse_options(self, answers: str) -> None:
        """Raise where the estimator that answers does not take an option of this section."""
        do = "name one of them first in 'estimators', or leave it out"
        goes = f"goes with {' and '.join(REGRESSIONS)}"
        if self.covariance is not None and answers not in REGRESSIONS:
            raise ValueError(f"'covariance' {goes}, and {answers} answers here; {do}")
        if self.aggregate is not None and self.covariates and answers not in REGRESSIONS:
            raise ValueError(
                f"'aggregate' {goes} where there are covariates, and {answers} answers here; {do}"
            )

    def takes(self, name: str) -> dict[str, str]:
        """The options of this section that an estimator takes beside columns."""
        known: dict[str, str | None] = {"covariance": self.covariance, "aggregate": self.aggregate}
        given = {key: value for key, value in known.items() if value is not None}
        return given if name in REGRESSIONS else {}

    @model_validator(mode="after")
    def _weights_of_strata(self) -> Self:
        if self.stratum is None and self.weights != "treated":
            raise ValueError("'weights' goes with 'stratum'; leave it out")
        if isinstance(self.weights, dict) and not (
            all(0 <= w <= 1 for w in self.weights.values())
            and abs(sum(self.weights.values()) - 1) <= 1e-8
        ):
            raise ValueError(
                "'weights' must be >= 0 and sum to 1 over the strata; they sum to "
                f"{sum(self.weights.values()):.6g}"
            )
        return self


class PredictorSection(BaseModel):
    """One number that the control should share with the treated; see `Predictor`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    column: str
    start: Scalar | None = None
    stop: Scalar | None = None
    how: Literal["mean", "last", "sum"] = "mean"


class SyntheticControlSection(_PanelPart):
    """A synthetic control: one or a few treated units beside a weighted mean of others.

    Who is treated is said by `treated` (a unit or a list of units) with `start`, by `treatment`
    (with `start`, or the status of each row), or by `cohort`. `donors` are the units that may have
    weight; all that are never treated by default. `predictors`, `predictor_weights`, `augment` and
    `fixed_effect` are those of `synthetic_control`. The first of `estimators` is the answer.
    """

    kind: Literal["synthetic_control"]
    treated: Scalar | list[Scalar] | None = None
    donors: list[Scalar] | None = None
    predictors: list[PredictorSection] = []
    predictor_weights: Literal["nested", "equal", "inverse_variance"] | dict[str, float] = "nested"
    augment: Literal["ridge"] | None = None
    fixed_effect: bool = False
    inference: Literal["placebo", "conformal"] = "placebo"
    estimators: list[SyntheticEstimator] = ["synthetic_control", "synthetic_diff_in_diff"]
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("estimators")
    @classmethod
    def _each_once(cls, estimators: list[SyntheticEstimator]) -> list[SyntheticEstimator]:
        if not estimators:
            known = ", ".join(get_args(SyntheticEstimator))
            raise ValueError(f"at least one of {known} is required; leave 'estimators' out")
        return _distinct(estimators)

    @model_validator(mode="after")
    def _who_is_treated(self) -> Self:
        given = [k for k in ("treated", "treatment", "cohort") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one of 'treated', 'treatment' and 'cohort' is required, which say who is "
                f"treated; got {' and '.join(given) or 'none'}"
            )
        if self.treated is not None and self.start is None:
            raise ValueError("'treated' needs 'start', the first treated time")
        _start_and_never(self)
        if self.never is not None and "synthetic_control" in self.estimators:
            raise ValueError(
                "'never' does not go with synthetic_control: leave it out, with a missing 'cohort' "
                "for units that are never treated"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_control(self) -> Self:
        if not self.predictors and self.predictor_weights != "nested":
            raise ValueError(
                "'predictor_weights' goes with 'predictors'; name some, or leave it out"
            )
        if "synthetic_control" not in self.estimators:
            own = ("donors", "predictors", "augment", "fixed_effect")
            idle = [k for k in own if getattr(self, k)]
            if idle:
                raise ValueError(f"{idle[0]!r} goes with synthetic_control; leave it out")
        elif self.aggregate is not None:
            raise ValueError(
                "'aggregate' does not go with synthetic_control, which takes one row a unit and "
                "period; add up the rows before, or name other 'estimators'"
            )
        against = [k for k in ("augment", "fixed_effect") if self.predictors and getattr(self, k)]
        if against:
            raise ValueError(f"{against[0]!r} does not go with 'predictors'; leave one of them out")
        return self


PanelSection: TypeAlias = Annotated[
    DiffInDiffSection | SyntheticControlSection, Field(discriminator="kind")
]
PANELS: dict[str, type[_PanelPart]] = {
    "diff_in_diff": DiffInDiffSection,
    "synthetic_control": SyntheticControlSection,
}


def _start_and_never(part: _PanelPart) -> None:
    """Refuse a start beside cohorts, and a value for never without them."""
    if part.start is not None and part.cohort is not None:
        raise ValueError("'start' does not go with 'cohort', whose values are starts; leave it out")
    if part.never is not None and part.cohort is None:
        raise ValueError("'never' goes with 'cohort'; leave it out")


def _distinct(estimators: list[_Name]) -> list[_Name]:
    """Refuse an estimator that repeats."""
    if len(set(estimators)) < len(estimators):
        raise ValueError(f"an estimator must not repeat; got {', '.join(map(str, estimators))}")
    return estimators
