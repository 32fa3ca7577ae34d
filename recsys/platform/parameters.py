"""Every constant of the simulated platform, checked, with its two presets."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

Preset: TypeAlias = Literal["flows", "ranking"]
Value: TypeAlias = float | str | bool

N_TOPICS, N_STYLES = 16, 12  # of content, of authors

_ANY = (-math.inf, math.inf)
_NOT_NEGATIVE = (0.0, math.inf)
_SHARE = (0.0, 1.0)
_RANGES = {
    "theta_sd": _NOT_NEGATIVE, "quality_sd": _NOT_NEGATIVE, "activity_sd": _NOT_NEGATIVE,
    "cap_share": _NOT_NEGATIVE, "cap_sd": _NOT_NEGATIVE, "shock": _NOT_NEGATIVE,
    "noise": _NOT_NEGATIVE, "a0": _ANY, "tod": _ANY, "u0": _ANY, "kappa": _ANY, "chi": _ANY,
    "b_pk": _ANY, "eta": _ANY, "psi": _ANY, "pk": _SHARE, "live_share": _SHARE,
    "rho_s": _SHARE, "rho_m": _SHARE, "rho_h": _SHARE, "rho_e": _SHARE, "learning_rate": _SHARE,
}  # fmt: skip
_OPEN = ("rho_s", "rho_m", "rho_h", "rho_e", "learning_rate")  # 1 would never forget
_POSITIVE = ("cap_share", "live_share")
_SWITCHES = ("content", "personal", "age_term")
_CHOICES = {"programme": ("show", "routine"), "learning": ("pooled", "diverted")}

_PRESETS: dict[str, dict[str, Value]] = {
    "flows": {},
    "ranking": {"content": True, "activity_sd": 1.0, "a0": -1.5, "noise": 0.0, "b_pk": 0.2},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformParameters:
    """Constants of the state equations; memories (rho) are per hour.

    Parameters
    ----------
    theta_sd, quality_sd, activity_sd : float
        Spread of tastes, of authors' quality and of viewers' activity, in logits.
    cap_share, cap_sd : float
        A room's capacity as a share of viewers per author, and the sd of its logarithm.
    a0, tod, shock, rho_s, noise : float
        Online logit: level, swing over the day, sd and memory of the common shock; sd of the
        hourly noise on a viewer's activity.
    u0 : float
        Logarithm of the outside option's weight, stated for 40 live rooms.
    kappa, chi, rho_m : float
        Congestion; pull of a room's heat, and heat's memory.
    eta, rho_h : float
        What habit adds to activity, and its memory.
    psi, rho_e : float
        What a larger audience adds to an author's effort, and its memory.
    pk, b_pk : float
        Share of live rooms in a battle each hour, and what a battle adds to utility.
    live_share : float
        Share of time that a room is live.
    learning_rate, learning : float, {"pooled", "diverted"}
        Per hour, of the recommender's author weights; learned from all traffic, or by arm.
    content, personal, age_term : bool
        Whether content moves utility, viewers differ in their taste for highlights, and equal age
        bands attract.
    programme : {"show", "routine"}
        How rooms fill their segments.
    n_codes : int
        Number of content codes.
    """

    theta_sd: float = 0.6
    quality_sd: float = 0.7
    activity_sd: float = 0.3
    cap_share: float = 0.15
    cap_sd: float = 0.5
    a0: float = -0.5
    tod: float = 0.8
    shock: float = 0.15
    rho_s: float = 0.9
    noise: float = 0.25
    u0: float = 3.2
    kappa: float = 0.35
    chi: float = 0.35
    rho_m: float = 0.7
    eta: float = 2.0
    rho_h: float = 0.95
    psi: float = 0.35
    rho_e: float = 0.97
    pk: float = 0.15
    b_pk: float = 0.0
    live_share: float = 1.0
    learning_rate: float = 0.0
    learning: str = "pooled"
    content: bool = False
    personal: bool = False
    age_term: bool = False
    programme: str = "show"
    n_codes: int = 200

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high)
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in _SWITCHES:
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} must be on (1) or off (0); got {getattr(self, name)!r}")
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}; got {getattr(self, name)!r}")
        if not (is_whole(self.n_codes) and self.n_codes >= 16):
            raise ValueError(f"n_codes must be a whole number of 16 or more; got {self.n_codes!r}")
        object.__setattr__(self, "n_codes", int(self.n_codes))

    def to_dict(self) -> dict[str, Value]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Value]) -> PlatformParameters:
        """The parameters of a mapping; those that are absent take their defaults.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of its range.
        """
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {known}"
            raise ValueError(f"unknown platform parameter {unknown[0]!r}{hint}")
        settings: dict[str, Any] = dict(values)
        return cls(**settings)


def preset_parameters(preset: str, changes: Mapping[str, Value]) -> PlatformParameters:
    """Parameters of a preset with changes."""
    if preset not in _PRESETS:
        raise ValueError(f"preset must be one of {tuple(_PRESETS)}; got {preset!r}")
    return PlatformParameters.from_dict({**_PRESETS[preset], **changes})


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, other than True and False."""
    number = isinstance(value, int | float) or hasattr(value, "__index__")
    return number and not isinstance(value, bool) and float(value) % 1 == 0  # type: ignore[arg-type]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number other than True and False."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def checked_count(name: str, value: object, least: int) -> int:
    """A whole number of at least so much; raises ValueError otherwise."""
    if not (is_whole(value) and int(value) >= least):  # type: ignore[call-overload]
        raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _check_number(name: str, value: object, low: float, high: float) -> None:
    """A finite number within its range."""
    inside = is_number(value) and math.isfinite(value) and low <= value <= high
    if inside and not (name in _OPEN and value == high) and not (name in _POSITIVE and value == 0):
        return
    left = "(" if name in _POSITIVE or low == -math.inf else "["
    right = ")" if name in _OPEN or high == math.inf else "]"
    raise ValueError(f"{name} must be a number in {left}{low:g}, {high:g}{right}; got {value!r}")
