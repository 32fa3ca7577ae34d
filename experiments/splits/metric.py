"""What is measured: a mean, a ratio of sums, or a quantile, and the role it plays in a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from causal.frame import check_level, check_one_of
from causal.values import is_number

Role: TypeAlias = Literal["goal", "guardrail", "diagnostic"]
Better: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True)
class Mean:
    """Mean of a column over rows, or over units to which rows are summed first.

    Parameters
    ----------
    outcome : str
        The column.
    per : str, optional
        Rows are summed to this key before the mean is taken: watch time per viewer. Keys without a
        row are not counted.
    covariates : sequence of str
        Columns known before treatment that explain the outcome (CUPED, Lin). With `per`, the mean
        of a covariate over the unit's rows is used: a viewer's own value where rows repeat it.
    winsor : tuple of float, optional
        Lower and upper quantile, such as ``(0, 0.999)``: values beyond are set to the limits, found
        over both arms together.
    role : {"goal", "guardrail", "diagnostic"}
        Goals decide and share the multiplicity correction; guardrails must be proven not worse.
    margin : float, optional
        For guardrails: the largest tolerated relative loss, 0.01 for 1 %.
    better : {"higher", "lower"}
        Which direction is good.
    name : str, optional
        How reports call it; the column by default.

    Raises
    ------
    ValueError
        If a guardrail has no margin, a margin is not positive, or winsor limits are not
        0 <= low < high <= 1.
    """

    outcome: str
    per: str | None = None
    covariates: tuple[str, ...] = ()
    winsor: tuple[float, float] | None = None
    role: Role = "goal"
    margin: float | None = None
    better: Better = "higher"
    name: str | None = None

    def __post_init__(self) -> None:
        _set_covariates(self)
        _check_role(self)
        if self.winsor is not None:
            object.__setattr__(self, "winsor", _quantile_pair(self.winsor))

    @property
    def label(self) -> str:
        """How reports call it."""
        return self.name or self.outcome

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcome columns."""
        return (self.outcome,)


@dataclass(frozen=True)
class Ratio:
    """Ratio of two sums: clicks per impression.

    Parameters
    ----------
    numerator, denominator : str
        Columns that are summed per cluster (unit, row) and then per arm.
    covariates : sequence of str
        As in `Mean`.
    covariate_ratio : tuple of str, optional
        Numerator and denominator of the same ratio before the experiment, linearised and used as a
        covariate.
    role, margin, better, name
        As in `Mean`.
    """

    numerator: str
    denominator: str
    covariates: tuple[str, ...] = ()
    covariate_ratio: tuple[str, str] | None = None
    role: Role = "goal"
    margin: float | None = None
    better: Better = "higher"
    name: str | None = None

    def __post_init__(self) -> None:
        _set_covariates(self)
        _check_role(self)
        if self.covariate_ratio is not None:
            object.__setattr__(self, "covariate_ratio", tuple(self.covariate_ratio))
            if len(self.covariate_ratio) != 2:
                raise ValueError(
                    f"covariate_ratio must be (numerator, denominator); got {self.covariate_ratio}"
                )

    @property
    def label(self) -> str:
        """How reports call it."""
        return self.name or f"{self.numerator} / {self.denominator}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcome columns."""
        return (self.numerator, self.denominator)


@dataclass(frozen=True)
class Quantile:
    """Quantile of a column over rows or over units.

    Parameters
    ----------
    outcome : str
        The column.
    q : float
        In (0, 1): 0.9 is the value that one in ten exceeds.
    per, role, margin, better, name
        As in `Mean`.
    """

    outcome: str
    q: float
    per: str | None = None
    role: Role = "goal"
    margin: float | None = None
    better: Better = "higher"
    name: str | None = None

    def __post_init__(self) -> None:
        check_level(self.q, "q")
        _check_role(self)

    @property
    def label(self) -> str:
        """How reports call it."""
        return self.name or f"p{100 * self.q:g} of {self.outcome}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcome columns."""
        return (self.outcome,)

    @property
    def covariates(self) -> tuple[str, ...]:
        """None: order statistics are not adjusted."""
        return ()


Metric: TypeAlias = Mean | Ratio | Quantile


def as_metric(value: object, name: str | None = None) -> Metric:
    """A metric from its shortcut: text is `Mean`, a pair of texts is `Ratio`.

    Raises
    ------
    TypeError
        If `value` is none of these.
    """
    if isinstance(value, Mean | Ratio | Quantile):
        return value
    if isinstance(value, str):
        return Mean(value, name=name)
    if (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(v, str) for v in value)
    ):
        return Ratio(value[0], value[1], name=name)
    raise TypeError(
        f"a metric must be Mean, Ratio, Quantile, a column name or a pair of names; got {value!r}"
    )


def _set_covariates(metric: Mean | Ratio) -> None:
    """Covariates as a tuple of names."""
    given: object = metric.covariates
    if isinstance(given, str):
        raise TypeError(f"covariates must be a list of names; got the text {given!r}")
    object.__setattr__(metric, "covariates", tuple(metric.covariates))


def _quantile_pair(winsor: object) -> tuple[float, float]:
    """Limits as two quantiles."""
    pair = winsor if isinstance(winsor, tuple | list) and len(winsor) == 2 else (None, None)
    low, high = pair
    if not (is_number(low) and is_number(high) and 0 <= low < high <= 1):
        raise ValueError(
            f"winsor must be two quantiles 0 <= low < high <= 1, such as (0, 0.999); got {winsor!r}"
        )
    return float(low), float(high)


def _check_role(metric: Metric) -> None:
    """Role, direction and margin fit together."""
    check_one_of(metric.role, "role", ("goal", "guardrail", "diagnostic"))
    check_one_of(metric.better, "better", ("higher", "lower"))
    if metric.role == "guardrail" and metric.margin is None:
        raise ValueError(
            f"guardrail {metric.label!r} needs margin=, the largest tolerated relative loss: "
            "0.01 is 1 %"
        )
    if metric.margin is not None and not (is_number(metric.margin) and 0 < metric.margin < 1):
        raise ValueError(
            f"margin must be in (0, 1), a share of the control level; got {metric.margin!r}"
        )
