"""What a platform's past tells before an experiment: usual effects, and what placebos look like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.frame import Table, column_names, read_columns
from experiments.sizing.power_cells import pilot_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIOR_WEIGHT = 4.0  # past experiments that the wished-for effect counts as
_REACH = 2.8  # z of a level of 95 % and a power of 80 %
_FEWEST = 10  # placebo launches


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvidence:
    """What the past tells.

    `squared_effect` is the mean square of the effect: that of the wish, drawn towards past
    experiments. `placebo_sd` is the standard deviation of launches in which nothing was launched,
    None without past data; `placebo` names their method.
    """

    squared_effect: float
    n_experiments: int
    placebo_sd: float | None
    placebo: str

    @property
    def mde(self) -> float | None:
        """Effect that such a launch would find: 2.8 standard deviations."""
        return None if self.placebo_sd is None else _REACH * self.placebo_sd


def past_evidence(
    history: Table | Mapping[str, Table] | None,
    *,
    outcome: str,
    time: str,
    unit: str | None,
    days: float,
    effect: float,
) -> PastEvidence:
    """Read past experiments, past data, or both; a table with `estimate` is of experiments.

    Raises
    ------
    ValueError
        If a mapping has other keys than ``experiments`` and ``data``, a standard error is not
        positive, or past data are too short for ten placebo launches.
    """
    tables = _named(history)
    squared, n = float(effect) ** 2, 0
    if "experiments" in tables:
        squared, n = _usual_effect(tables["experiments"], squared)
    if "data" not in tables:
        return PastEvidence(
            squared_effect=squared, n_experiments=n, placebo_sd=None, placebo="before and after"
        )
    sd, name = _placebos(tables["data"], outcome, time, unit, days)
    return PastEvidence(squared_effect=squared, n_experiments=n, placebo_sd=sd, placebo=name)


def _named(history: Table | Mapping[str, Table] | None) -> dict[str, Table]:
    """Tables by what they hold."""
    if history is None:
        return {}
    if isinstance(history, Mapping) and not hasattr(history, "columns"):
        if unknown := set(history) - {"experiments", "data"}:
            raise ValueError(f"history must have experiments and data; got {sorted(unknown)[:5]}")
        return dict(history)
    return {"experiments" if "estimate" in column_names(history) else "data": history}


def _usual_effect(table: Table, squared: float) -> tuple[float, int]:
    """Mean square of past effects, shrunk to the wish where there are few: normal, by moments."""
    columns = read_columns(table, numeric=["estimate", "std_error"])
    estimate, error = columns["estimate"], columns["std_error"]
    if not (error > 0).all():
        raise ValueError(f"column 'std_error' must be positive; got {error.min():g}")
    n = len(estimate)
    spread = float(estimate.var(ddof=1)) - float(np.mean(error**2)) if n > 1 else 0.0
    past = float(estimate.mean()) ** 2 + max(spread, 0.0)
    return (n * past + _PRIOR_WEIGHT * squared) / (n + _PRIOR_WEIGHT), n


def _placebos(
    table: Table, outcome: str, time: str, unit: str | None, days: float
) -> tuple[float, str]:
    """Launches at every midnight in every unit, though there was none: their standard deviation."""
    cells = pilot_cells(
        table,
        outcome=outcome,
        time=time,
        unit=unit,
        slice_minutes=1440,
        burn_in_minutes=0,
        coin="independent",
    ).table
    regions = cells["region"].nunique()
    daily = np.where(cells["n"] > 0, cells["mean"], np.nan).reshape(regions, -1)
    daily = daily[:, np.isfinite(daily).all(axis=0)]
    window = min(math.ceil(days), daily.shape[1] // 3)
    starts = np.arange(window, daily.shape[1] - window + 1) if window else np.zeros(0, dtype=int)
    if len(starts) * regions < _FEWEST:
        raise ValueError(
            f"history must hold ten placebo launches; {daily.shape[1]} whole days of {regions} "
            f"regions hold {len(starts) * regions}: pass a longer one"
        )
    change = np.stack([_change(daily, int(s), window) for s in starts])  # (launches, regions)
    if regions == 1:
        return float(np.sqrt(np.mean(change**2))), "before and after"
    others = (change.sum(axis=1, keepdims=True) - change) / (regions - 1)
    return float(np.sqrt(np.mean((change - others) ** 2))), "difference-in-differences, one region"


def _change(daily: NDArray[np.float64], start: int, window: int) -> NDArray[np.float64]:
    """Mean after minus mean before, by region."""
    after, before = daily[:, start : start + window], daily[:, start - window : start]
    return np.asarray(after.mean(axis=1) - before.mean(axis=1))
