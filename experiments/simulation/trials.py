"""A design to be tried on the platform: the design, the analysis, and what it wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from causal.frame import check_one_of
from experiments.designs.design import AuthorSplit, ClusterSplit, DualSided, UserSplit
from experiments.designs.rotation import Saturation, Switchback
from experiments.simulation.trial_launches import Launch

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

Design: TypeAlias = (
    UserSplit | AuthorSplit | ClusterSplit | DualSided | Switchback | Saturation | Launch
)

_ESTIMANDS = ("direct", "viewer_spillover", "author_spillover", "total")


@runtime_checkable
class Reading(Protocol):
    """What an analysis returns: an `Effect`, or a result that holds one."""

    @property
    def estimate(self) -> float:
        """The effect."""

    @property
    def std_error(self) -> float:
        """Its standard error."""

    @property
    def p_value(self) -> float:
        """Of no effect."""

    def conf_int(self, level: float = 0.95) -> tuple[float, float]:
        """Its interval."""


@dataclass(frozen=True)
class Trial:
    """A design to be tried on the platform, with the analysis that would be used.

    Parameters
    ----------
    design : UserSplit, AuthorSplit, ClusterSplit, DualSided, Switchback, Saturation or Launch
    name : str, optional
        In tables and plots; by default said from the design.
    analysis : callable DataFrame -> Effect, optional
        Reads the design's table (see Notes) on the scale of watch minutes per viewer and hour.
    estimand : {"total", "direct", "viewer_spillover", "author_spillover"}
        What a dual-sided trial reads; other designs read the total effect.

    Raises
    ------
    TypeError
        If `design` is no design, or `analysis` cannot be called.
    ValueError
        If the estimand does not belong to the design, or a split has more than two arms.

    Notes
    -----
    Tables, all with an outcome ``watch`` in minutes per viewer and hour, and what was watched in
    the hours before the experiment, if there are any:

    - UserSplit, ClusterSplit: viewer_id, region, cluster, arm, watch, watch_before. Read by
      `ab_test` with ``watch_before`` as covariate; clusters by their own errors. Clusters are
      regions, or the 12 groups of gender and age where the platform has one region.
    - AuthorSplit: author_id, arm, watch, watch_before: an author's audience times authors per
      viewer. Read by `ab_test`.
    - DualSided: viewer_id, author_id, viewer_arm, author_arm, watch (of a pair, times authors),
      viewer_before, author_before. Read by `dual_sided_effect`.
    - Switchback: region (where the design has regions), time, slice, arm, read (after the
      burn-in), watch, scaled by the mean of all hours over the mean of those that are read. Read
      by `switchback_effect` with the schedule and the design's burn-in.
    - Saturation: cell (region and slice), share, arm, n_viewers, watch. Read by `share_response`.
    - Launch: region, period (a day, or less where days do not fill the run; 0: the start), cohort
      (first live period, missing: never), watch. Read as the launch says, two-way regressions with
      CR2; no coin was thrown, so that trends of the regions count as bias.

    Examples
    --------
    >>> Trial(Switchback(1440, burn_in_minutes=720)).label
    'switchback 24 h, burn-in 12 h'
    """

    design: Design
    name: str | None = None
    analysis: Callable[[pd.DataFrame], Reading] | None = None
    estimand: str = "total"

    def __post_init__(self) -> None:
        if not isinstance(self.design, Design):
            raise TypeError(
                "design must be a UserSplit, AuthorSplit, ClusterSplit, DualSided, Switchback, "
                f"Saturation or Launch; got {type(self.design).__name__}"
            )
        if self.analysis is not None and not callable(self.analysis):
            raise TypeError(f"analysis must be callable; got {self.analysis!r:.100}")
        if not isinstance(self.design, DualSided) and self.estimand != "total":
            raise ValueError(
                f"estimand must be 'total', except of a dual-sided trial; got {self.estimand!r}"
            )
        check_one_of(self.estimand, "estimand", _ESTIMANDS)
        if isinstance(self.design, UserSplit) and len(self.design.arms) > 2:
            raise ValueError(f"a trial has two arms; got {self.design.arms}")

    @property
    def label(self) -> str:
        """The name, or the design in words."""
        return self.name or _said(self.design, self.estimand)


def checked_trials(trials: object) -> tuple[Trial, ...]:
    """Trials with distinct names.

    Raises
    ------
    ValueError
        If there are none, or names repeat.
    TypeError
        If one is no Trial.
    """
    given = tuple(trials) if isinstance(trials, list | tuple) else (trials,)
    for each in given:
        if not isinstance(each, Trial):
            raise TypeError(f"trials must hold Trial(...); got {type(each).__name__}")
    names = [each.label for each in given]
    if not names:
        raise ValueError("trials must hold one Trial or more; got none")
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"trials must have distinct names; {repeated[:3]} repeat: pass name=")
    return given


_WORDS = {
    UserSplit: "viewer split",
    AuthorSplit: "author split",
    ClusterSplit: "cluster split",
    DualSided: "dual-sided",
    Saturation: "saturation",
    Switchback: "switchback",
}


def _said(design: Design, estimand: str) -> str:
    """A design in a few words."""
    if isinstance(design, Launch):
        return design.words
    words = _WORDS[type(design)]
    if isinstance(design, DualSided):
        return f"{words} {estimand}".replace("_", " ")
    if isinstance(design, Saturation):
        return f"{words} " + "/".join(f"{100 * share:g}" for share in design.shares)
    return _said_rotation(words, design) if isinstance(design, Switchback) else words


def _said_rotation(words: str, design: Switchback) -> str:
    """A rotation by its lengths and coin."""
    several = design.points is not None
    length = f"{len(design.points or ())} epochs" if several else _length(design.slice_minutes)
    parts = [f"{words} {length}"]
    if design.burn_in_minutes:
        parts.append(f"burn-in {_length(design.burn_in_minutes)}")
    if design.coin != "stratified":
        parts.append(f"{design.coin} coin")
    if design.regions is not None:
        parts.append(f"{len(design.regions)} regions")
    return ", ".join(parts)


def _length(minutes: float) -> str:
    """Minutes as hours where they are whole quarters of one."""
    return f"{minutes / 60:g} h" if minutes % 15 == 0 and minutes >= 60 else f"{minutes:g} min"
