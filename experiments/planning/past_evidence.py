"""What a platform's past tells before an experiment: usual effects, and what placebos look like."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causal.effect import EstimationWarning
from causal.frame import Table, column_names, read_columns
from causal.synthetic.control import synthetic_control
from experiments.simulation.trial_launches import FEWEST_REGIONS, one_thread
from experiments.sizing.power_cells import pilot_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIOR_WEIGHT = 4.0  # past experiments that the wished-for effect counts as
_REACH = 2.8  # z of a level of 95 % and a power of 80 %
_FEWEST = 10  # placebo launches
_MOST_STARTS, _MOST_LAUNCHES, _MOST_REGIONS = 24, 2000, 500  # of synthetic controls


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticPlacebos:
    """Launches of nothing in every region in turn, each read by synthetic control.

    `mean` and `sd` of what they read over `days` days, None without launches; `reason` says why
    there are none.
    """

    n_launches: int = 0
    days: int = 0
    n_regions: int = 0
    mean: float | None = None
    sd: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvidence:
    """What the past tells.

    `squared_effect` is the mean square of the effect: that of the wish, drawn towards past
    experiments. `placebo_sd` is the standard deviation of launches in which nothing was launched,
    None without past data; `placebo` names their method; `synthetic` are such launches by synthetic
    control.
    """

    squared_effect: float
    n_experiments: int
    placebo_sd: float | None
    placebo: str
    synthetic: SyntheticPlacebos

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
    untreated: Table | None = None,
) -> PastEvidence:
    """Read past experiments, past data, or both; a table with `estimate` is of experiments.

    `untreated` is a pilot in which nobody was treated: it stands in for past data in the launches
    that synthetic control reads.

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
    sd, name = None, "before and after"
    daily = None
    if "data" in tables:
        daily = _daily(tables["data"], outcome, time, unit)
        sd, name = _placebos(daily, days)
    elif untreated is not None and unit is not None:
        daily = _daily(untreated, outcome, time, unit)
    return PastEvidence(
        squared_effect=squared,
        n_experiments=n,
        placebo_sd=sd,
        placebo=name,
        synthetic=_synthetic(daily, days, named=unit is not None),
    )


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


def _daily(table: Table, outcome: str, time: str, unit: str | None) -> NDArray[np.float64]:
    """Means of regions by days that all of them have, shape (R, days)."""
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
    return np.asarray(daily[:, np.isfinite(daily).all(axis=0)])


def _starts(daily: NDArray[np.float64], days: float) -> tuple[NDArray[np.int64], int]:
    """Midnights to launch at, and the days before and after that are read."""
    window = min(math.ceil(days), daily.shape[1] // 3)
    last = daily.shape[1] - window + 1 if window else 0
    return np.arange(window, last), window


def _placebos(daily: NDArray[np.float64], days: float) -> tuple[float, str]:
    """Launches at every midnight in every unit, though there was none: their standard deviation."""
    regions = len(daily)
    starts, window = _starts(daily, days)
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


def _synthetic(daily: NDArray[np.float64] | None, days: float, *, named: bool) -> SyntheticPlacebos:
    """Launches at midnights in every region, read against the days before and the other regions."""
    if not named:
        return SyntheticPlacebos(reason="no donor regions: no column says the region")
    if daily is None:
        return SyntheticPlacebos(reason="no past data (history) to launch placebos on")
    regions = len(daily)
    if regions < FEWEST_REGIONS:
        return SyntheticPlacebos(
            n_regions=regions,
            reason=f"no donor regions: {regions} in the data, and {FEWEST_REGIONS} are the fewest",
        )
    if regions > _MOST_REGIONS:
        return SyntheticPlacebos(
            n_regions=regions,
            reason=f"{regions} regions are more than the {_MOST_REGIONS} that placebos are run in",
        )
    starts, window = _starts(daily, days)
    starts = starts[starts > 1]  # two days are the fewest that weights can be learned from
    if len(starts) * regions < _FEWEST:
        return SyntheticPlacebos(
            n_regions=regions,
            reason=f"{daily.shape[1]} whole days of {regions} regions are too few for ten placebo "
            "launches",
        )
    most = min(_MOST_STARTS, max(_MOST_LAUNCHES // regions, 1), len(starts))
    starts = starts[np.linspace(0, len(starts) - 1, most).round().astype(int)]
    gaps = np.concatenate([_gaps(daily[:, : int(s) + window], int(s)) for s in starts])
    return SyntheticPlacebos(
        n_launches=len(gaps),
        days=window,
        n_regions=regions,
        mean=float(gaps.mean()),
        sd=float(gaps.std()),
    )


def _gaps(daily: NDArray[np.float64], start: int) -> NDArray[np.float64]:
    """What a launch of nothing reads in each region: mean gaps of demeaned synthetic controls.

    One call reads all regions: the first as the treated one, the others as its placebos.
    """
    regions, n = daily.shape
    panel = pd.DataFrame(
        {
            "region": np.repeat(np.arange(regions), n),
            "day": np.tile(np.arange(n), regions),
            "outcome": daily.ravel(),
        }
    )
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore", EstimationWarning)  # of fits: the spread shows them
        found = synthetic_control(
            panel,
            outcome="outcome",
            unit="region",
            time="day",
            treated=0,
            start=start,
            fixed_effect=True,
        )
    return np.asarray(np.r_[found.estimate, found.placebo_gaps[:, start:].mean(axis=1)])


def _change(daily: NDArray[np.float64], start: int, window: int) -> NDArray[np.float64]:
    """Mean after minus mean before, by region."""
    after, before = daily[:, start : start + window], daily[:, start - window : start]
    return np.asarray(after.mean(axis=1) - before.mean(axis=1))
