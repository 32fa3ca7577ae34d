"""The designs that a recommendation ranks: what is known of each, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from experiments.pairs.entanglement import ENTANGLED
from experiments.planning.rotation_options import Criterion, Fixed, Option, judged, rotation_options
from experiments.planning.twin_designs import SHARES
from experiments.simulation.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.planning.past_evidence import PastEvidence, SyntheticPlacebos
    from experiments.planning.pilot_model import Pilot, Posterior
    from experiments.planning.recommendation import Constraints
    from experiments.planning.share_pilot import Interference
    from experiments.planning.twin_designs import TwinRow
    from experiments.simulation.trials import Design

LEVEL = 0.95
FEWEST_SLICES = 8
SYNTHETIC = "launch in one region, synthetic control"
_QUANTILES = 400
_FIGURES = ("bias_low", "bias_high", "std_error", "rmse", "regret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A design with what is known of it: an option of the grid, or fixed figures, or neither."""

    name: str
    design: Design | None = None
    option: Option | None = None
    fixed: Fixed | None = None
    rejected: str = ""

    def length(self, name: str) -> float | None:
        """A length of a rotation's design."""
        return None if self.option is None else float(getattr(self.option.design, name))


def rotation_candidates(read: Pilot, rules: Constraints, days: float) -> list[Candidate]:
    """The grid of rotations, with what speaks against each."""
    regions = None
    if rules.n_regions > 1:
        regions = tuple(str(r) for r in read.table["region"].unique())
        if len(regions) != rules.n_regions:
            raise ValueError(
                f"n_regions must be the pilot's {len(regions)} regions; got {rules.n_regions}"
            )
    options = rotation_options(
        start=read.next_day(),
        days=days,
        minutes=read.minutes,
        least=rules.min_slice_minutes,
        most=rules.max_slice_minutes,
        regions=regions,
    )
    if not options:
        shown = f"{rules.min_slice_minutes:g} to {rules.max_slice_minutes:g} minutes"
        reason = (
            f"no slices of min_slice_minutes to max_slice_minutes, {shown}, are whole periods of "
            f"the pilot ({read.minutes:g} minutes) and fit four times into {days:g} days"
        )
        return [Candidate(name="switchback", rejected=reason)]
    found = []
    for option in options:
        reason = ""
        if not rules.randomise_time:
            reason = "time may not be drawn by lot"
        elif rules.max_treated_share < 1:
            reason = "a rotation treats everybody at once"
        elif option.n_slices < FEWEST_SLICES:
            reason = f"{option.n_slices} slices are too few: the test keeps its size from 8 up"
        elif option.least_p > 1 - LEVEL:
            reason = f"{option.n_slices} slices give at best p = {option.least_p:.2f}"
        name = Trial(option.design).label
        found.append(Candidate(name=name, design=option.design, option=option, rejected=reason))
    return found


def twin_candidates(
    rows: Sequence[TwinRow],
    rules: Constraints,
    effect: float,
    level: float,
    *,
    known: bool,
    entangled: float,
    spillover: Interference,
) -> list[Candidate]:
    """Splits, dual-sided and saturation as the twin shows them."""
    viewers, authors = rules.randomise_viewers, rules.randomise_authors
    may = {"viewer": viewers, "author": authors, "dual-sided": viewers and authors}
    share = {"saturation": max(SHARES)}
    found = []
    if not (viewers or authors):  # nothing was simulated
        name = "splits, dual-sided, saturation"
        found.append(Candidate(name=name, rejected="what they draw by lot may not be"))
    for row in rows:
        kind = row.trial.label.split()[0]
        reason = (
            ""
            if known
            else "its bias is that of an uncalibrated twin: a log of viewers and authors fits one"
        )
        if entangled > ENTANGLED and kind in ("author", "dual-sided"):
            reason = f"{entangled:.0%} of watch is in battles of mixed arms"
        if share.get(kind, 0.5) > rules.max_treated_share:
            reason = f"treats {share.get(kind, 0.5):.0%} at once"
        if not may.get(kind, viewers):
            reason = "what it draws by lot may not be"
        ends = [effect * row.bias_low, effect * row.bias_high]
        if kind == "viewer" and spillover.p_value is not None:  # the control is lifted too
            ends += [-spillover.low, -spillover.high]
        fixed = Fixed(
            bias_low=min(ends),
            bias_high=max(ends),
            std_error=row.error * level,
        )
        label = row.trial.label
        found.append(Candidate(name=label, design=row.trial.design, fixed=fixed, rejected=reason))
    return found


def launch_candidates(past: PastEvidence, rules: Constraints) -> list[Candidate]:
    """What is left where nothing may be drawn by lot: launches, read against their placebos."""
    lots = rules.randomise_viewers or rules.randomise_authors or rules.randomise_time
    reason = "not drawn by lot: where something may be, draw it" if lots else ""
    if past.placebo_sd is None:
        none = "no past data (history) to launch placebos on"
        found = [Candidate(name=past.placebo, rejected=none)]
    else:
        fixed = Fixed(bias_low=0.0, bias_high=0.0, std_error=past.placebo_sd)
        found = [Candidate(name=past.placebo, fixed=fixed, rejected=reason)]
    return [*found, _one_region(past.synthetic, rules, reason)]


def _one_region(placebos: SyntheticPlacebos, rules: Constraints, reason: str) -> Candidate:
    """A launch in one region against weighted others, with what its placebos read."""
    if placebos.mean is None or placebos.sd is None:
        return Candidate(name=SYNTHETIC, rejected=placebos.reason)
    if 1 / placebos.n_regions > rules.max_treated_share:
        reason = f"treats one region of {placebos.n_regions} at once"
    fixed = Fixed(
        bias_low=min(placebos.mean, 0.0),
        bias_high=max(placebos.mean, 0.0),
        std_error=placebos.sd,
    )
    return Candidate(name=SYNTHETIC, fixed=fixed, rejected=reason)


def ranked(
    candidates: Sequence[Candidate],
    posterior: Posterior,
    past: PastEvidence,
    effect: float,
    days: float,
    pilot_days: float,
    criterion: Criterion,
) -> pd.DataFrame:
    """One row a candidate, those that may be run first, by the criterion."""
    measured = [c for c in candidates if c.option or c.fixed]
    measured.sort(key=lambda c: c.option is None)
    allowed = np.array([not c.rejected for c in measured], dtype=bool)
    if not allowed.any():
        reasons = sorted({c.rejected for c in candidates})
        raise ValueError(f"no design may be run: {'; '.join(reasons)}")
    figures = judged(
        [c.option for c in measured if c.option],
        [c.fixed for c in measured if c.fixed],
        posterior,
        allowed=allowed,
        effect=effect,
        squared_effect=past.squared_effect,
        criterion=criterion,
    )
    df = np.array([c.option.df if c.option else np.inf for c in measured])
    power = _power(df, np.abs(figures.found), figures.std_error)
    table = pd.DataFrame(
        {
            "design": [c.name for c in measured],
            "slice_minutes": [
                c.option.design.slice_minutes if c.option else None for c in measured
            ],
            "burn_in_minutes": [
                c.option.design.burn_in_minutes if c.option else None for c in measured
            ],
            "days": [c.option.days if c.option else float(days) for c in measured],
            **{name: getattr(figures, name) for name in _FIGURES},
            "power": power,
            "rejected": [c.rejected for c in measured],
        }
    ).astype({"slice_minutes": float, "burn_in_minutes": float})
    table["cost_days"] = pilot_days + table["days"]
    table["rejected"] = table.pop("rejected")  # the last column
    order = np.lexsort([figures.loss, ~allowed])
    unmeasured = [c for c in candidates if not (c.option or c.fixed)]
    rest = pd.DataFrame({"design": [c.name for c in unmeasured]}, columns=table.columns)
    rest = rest.astype(table.dtypes.to_dict())
    rest["rejected"] = [c.rejected for c in unmeasured]
    ranked = table.iloc[order]
    return (
        pd.concat([ranked, rest], ignore_index=True) if len(rest) else ranked.reset_index(drop=True)
    )


def _power(
    df: NDArray[np.float64], effect: NDArray[np.float64], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Chance that a two-sided t-test with such an error finds an effect.

    Averages the normal test over quantiles of the estimated error: scipy's noncentral t gives up at
    large effects.
    """
    reach = stats.t.ppf((1 + LEVEL) / 2, df)
    strength = np.divide(effect, error, out=np.full_like(effect, np.inf), where=error > 0)
    finite = np.isfinite(df)
    level = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    chi2 = stats.chi2.ppf(level, np.where(finite, df, 1.0)[:, None])
    found = np.sqrt(np.where(finite[:, None], chi2 / np.where(finite, df, 1.0)[:, None], 1.0))
    bound = reach[:, None] * found
    away = stats.norm.sf(bound - strength[:, None]) + stats.norm.cdf(-bound - strength[:, None])
    return np.asarray(away.mean(axis=1))
