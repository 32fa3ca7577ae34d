"""What a treated pair changes (`Strategy`) and who is treated (`Arms`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.platform.parameters import is_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Strategy:
    """What changes for a pair of viewer and author that is treated.

    Parameters
    ----------
    lift : float
        Added to the utility of treated rooms for treated viewers.
    author_lift : float or array (n_authors,)
        Added to `lift`, author by author.
    activity_lift : float
        Added to a treated viewer's online logit.
    effort_lift : float
        Added to what a treated author's effort tends to (an incentive).
    exposure_lift : float
        Logarithm of the extra exposure of treated rooms; mean exposure stays 1, so that promotion
        alone only moves the audience.
    name : str
        In tables and plots.

    Raises
    ------
    ValueError
        If a lift is not finite.

    Examples
    --------
    >>> Strategy(lift=0.1, name="new ranking").lift
    0.1
    """

    lift: float = 0.25
    author_lift: float | tuple[float, ...] = 0.0
    activity_lift: float = 0.0
    effort_lift: float = 0.0
    exposure_lift: float = 0.0
    name: str = "strategy"

    def __post_init__(self) -> None:
        for field in ("lift", "activity_lift", "effort_lift", "exposure_lift"):
            value = getattr(self, field)
            if not (is_number(value) and math.isfinite(value)):
                raise ValueError(f"{field} must be a finite number; got {value!r}")
            object.__setattr__(self, field, float(value))
        try:
            lifts = np.asarray(self.author_lift, dtype=np.float64)
        except (ValueError, TypeError):
            lifts = np.array([math.nan])
        if lifts.ndim > 1 or lifts.size == 0 or not np.isfinite(lifts).all():
            raise ValueError(
                "author_lift must be a finite number, or one for each author; got "
                f"{self.author_lift!r:.100}"
            )
        object.__setattr__(
            self, "author_lift", float(lifts) if lifts.ndim == 0 else tuple(lifts.tolist())
        )

    def utility_lift(self, n_authors: int) -> NDArray[np.float64]:
        """Lift of each author's treated pairs, shape (n_authors,)."""
        by_author = np.asarray(self.author_lift, dtype=np.float64)
        if by_author.ndim and len(by_author) != n_authors:
            raise ValueError(
                f"author_lift must be a number or have length {n_authors}; got {len(by_author)}"
            )
        return np.asarray(np.broadcast_to(self.lift + by_author, n_authors))


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """Who is treated: a pair is when its viewer, its author and the time are.

    Parameters
    ----------
    viewer : 0, 1 or array of 0/1, shape (n_viewers,) or (n_slices, n_viewers)
    author : 0, 1 or array of 0/1, shape (n_authors,)
    time : 0, 1 or array of 0/1, shape (ticks,) or (n_regions, ticks)
    slice_minutes : float, optional
        The rows of `viewer` and the last axis of `time` are slices of that length instead of ticks.

    Raises
    ------
    ValueError
        If an arm is other than 0 or 1, or an array has too many axes.

    Examples
    --------
    >>> half = Arms(viewer=[0, 1, 0, 1])
    >>> Arms.none().viewer, Arms.all().viewer, half.viewer.tolist()
    (0, 1, [0, 1, 0, 1])
    """

    viewer: Any = 1
    author: Any = 1
    time: Any = 1
    slice_minutes: float | None = None

    def __post_init__(self) -> None:
        for field, axes in (("viewer", 2), ("author", 1), ("time", 2)):
            object.__setattr__(self, field, _checked(field, getattr(self, field), axes))
        minutes = self.slice_minutes
        if minutes is not None and not (is_number(minutes) and 0 < minutes < math.inf):
            raise ValueError(f"slice_minutes must be positive; got {minutes!r}")

    @staticmethod
    def none() -> Arms:
        """Nobody is treated."""
        return Arms(0, 0, 0)

    @staticmethod
    def all() -> Arms:
        """Everybody is treated."""
        return Arms()

    def over(
        self, *, n_viewers: int, n_authors: int, n_regions: int, n_ticks: int, tick_minutes: float
    ) -> ArmPaths:
        """The arms of every viewer, author and tick of a run.

        Raises
        ------
        ValueError
            If an array has another length than the run needs.
        """
        tick_slice, n_slices = self._slices(n_ticks, tick_minutes)
        viewer = np.asarray(self.viewer, dtype=bool)
        if viewer.ndim < 2:
            viewer = _sized("viewer", viewer, n_viewers)[None, :]
            rows = np.zeros(n_ticks, dtype=np.int64)
        else:
            _check_length("viewer", "n_viewers", viewer.shape[1], n_viewers)
            _check_length("viewer", self._rows(), viewer.shape[0], n_slices)
            rows = tick_slice
        time = np.asarray(self.time, dtype=bool)
        if time.ndim:
            _check_length("time", self._rows(), time.shape[-1], n_slices)
            time = time[..., tick_slice]
        if time.ndim == 2:
            _check_length("time", "n_regions", time.shape[0], n_regions)
        return ArmPaths(
            viewer=viewer,
            viewer_row=rows,
            author=_sized("author", np.asarray(self.author, dtype=bool), n_authors),
            time=np.broadcast_to(time, (n_regions, n_ticks)),
        )

    def _slices(self, n_ticks: int, tick_minutes: float) -> tuple[NDArray[np.int64], int]:
        """Slice of every tick, and their number."""
        if self.slice_minutes is None:
            return np.arange(n_ticks), n_ticks
        ratio = self.slice_minutes / tick_minutes
        per_slice = round(ratio)
        if per_slice < 1 or abs(ratio - per_slice) > 1e-9:
            raise ValueError(
                f"slice_minutes {self.slice_minutes:g} must be a multiple of tick_minutes "
                f"{tick_minutes:g}: take shorter ticks"
            )
        return np.arange(n_ticks) // per_slice, -(-n_ticks // per_slice)

    def _rows(self) -> str:
        """What the arrays over time count."""
        return "ticks" if self.slice_minutes is None else "slices that cover hours"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArmPaths:
    """Arms of one world over a run: viewer (rows, N), viewer_row (T,), author (J,), time (R, T)."""

    viewer: NDArray[np.bool_]
    viewer_row: NDArray[np.int64]
    author: NDArray[np.bool_]
    time: NDArray[np.bool_]

    def anybody(self) -> bool:
        """Whether some pair is treated at some time."""
        return bool(self.viewer.any() and self.author.any() and self.time.any())


def _checked(name: str, values: ArrayLike, axes: int) -> int | NDArray[np.int8]:
    """A scalar arm, or an own read-only array of arms."""
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must hold rows of one length; {error}") from error
    if given.dtype.kind not in "biuf" or not np.isin(given, (0, 1)).all():
        strange = [v for v in given.ravel()[:1000].tolist() if v not in (0, 1)][:3]
        raise ValueError(f"{name} must hold 0 and 1; got {strange or given.dtype}")
    if given.ndim > axes:
        raise ValueError(f"{name} must have {axes} axes at most; got shape {given.shape}")
    if given.ndim == 0:
        return int(given)
    arms = given.astype(np.int8)
    arms.setflags(write=False)
    return arms


def _sized(name: str, arms: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Arms of n units."""
    if arms.ndim:
        _check_length(name, f"n_{name}s", len(arms), n)
    return np.broadcast_to(arms, n)


def _check_length(name: str, what: str, given: int, required: int) -> None:
    """The length that a run needs."""
    if given != required:
        raise ValueError(f"arms.{name} must have length {required} ({what}); got {given}")
