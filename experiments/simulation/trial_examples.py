"""One experiment of each kind as its analyst sees it: sections from a single run of the trials."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd

from causal.effect import EstimationWarning
from experiments.designs.design import AuthorSplit, DualSided
from experiments.designs.rotation import Saturation, Switchback
from experiments.pairs.dual_sided import dual_sided_effect
from experiments.pairs.saturation_response import share_response
from experiments.report.design_sections import (
    assumptions_section,
    balance_section,
    calendar_section,
)
from experiments.report.pair_sections import author_section, dual_sided_section, share_section
from experiments.report.rotation_sections import (
    burn_in_section,
    carryover_section,
    switchback_sections,
    switches_section,
)
from experiments.rotations.carryover import burn_in_curve, carryover_bound
from experiments.rotations.switch_events import switch_event_study
from experiments.rotations.switchback import switchback_effect
from experiments.simulation.replication import replicate
from experiments.simulation.trial_plan import MOST_SEED, checked_setting
from experiments.simulation.trial_runs import DualRun, SwitchbackRun, run_trial
from recsys import Arms, flow_worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from experiments.report.report_sections import ReportSection
    from experiments.simulation.trial_runs import Run
    from experiments.simulation.trials import Trial
    from recsys import FlowPaths, LivePlatform, Strategy

_QUANTITIES = ("effort", "live_minutes", "watch_minutes")
_ROLES = {"outcome": "watch", "treatment": "arm", "time": "time"}


def example_sections(
    platform: LivePlatform,
    trials: Sequence[Trial],
    *,
    strategy: Strategy,
    hours: float,
    before_hours: float,
    tick_minutes: float,
    seed: int,
) -> tuple[ReportSection, ...]:
    """What single experiments look like: the first rotation, both sides, shares, the authors.

    Parameters
    ----------
    platform, trials, strategy, hours, before_hours, tick_minutes
        As in `simulate`.
    seed : int
        Of the draws and the coins.

    Returns
    -------
    tuple of ReportSection
        Only of kinds of trials that are there; a reading that a design is too short for is left
        out.
    """
    setting = checked_setting(hours, before_hours, tick_minutes)

    def once(rng: np.random.Generator) -> tuple[ReportSection, ...]:
        """On one thread, as replications are: equal bits anywhere."""
        draw_seed, *seeds = (int(s) for s in rng.integers(MOST_SEED, size=1 + len(trials)))
        runs = [run_trial(t, platform, setting, s) for t, s in zip(trials, seeds, strict=True)]
        chosen = _chosen(runs)
        ends = {"all": Arms.all(), "none": Arms.none()}
        paths = flow_worlds(
            platform,
            {**ends, **{kind: run.arms for kind, run in chosen.items()}},
            strategy=strategy,
            record={**dict.fromkeys(ends, "viewers"), **{k: r.record for k, r in chosen.items()}},
            hours=setting.hours,
            tick_minutes=setting.tick_minutes,
            before_hours=setting.before_hours,
            seed=draw_seed,
        )
        return tuple(_sections(chosen, paths))

    return replicate(once, n_runs=1, seed=seed)[0]


def _chosen(runs: Sequence[Run]) -> dict[str, Run]:
    """The run that stands for each kind of section."""
    kinds: dict[str, Run] = {}
    for run in runs:
        design = run.design
        if isinstance(design, Switchback) and _longer(design, kinds.get("rotation")):
            kinds["rotation"] = run
        elif isinstance(design, DualSided):
            kinds.setdefault("both", run)
        elif isinstance(design, AuthorSplit):
            kinds.setdefault("authors", run)
        elif isinstance(design, Saturation):
            kinds.setdefault("shares", run)
    return kinds


def _longer(design: Switchback, known: Run | None) -> bool:
    """Whether a rotation shows more: one with a burn-in rather than one without."""
    return known is None or (design.burn_in_minutes > 0 and not known.design.burn_in_minutes)


def _sections(runs: dict[str, Run], paths: dict[str, FlowPaths]) -> Iterator[ReportSection]:
    """Sections of each kind, warnings aside: the comparison has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        if (rotation := runs.get("rotation")) is not None:
            yield from _of_rotation(rotation, paths["rotation"])
        if (both := runs.get("both")) is not None:
            yield dual_sided_section(_both_sides(both, paths["both"]))
        if (shares := runs.get("shares")) is not None:
            table = shares.table(paths["shares"])
            found = share_response(table, outcome="watch", arm="arm", share="share", cell="cell")
            yield share_section(found)
        if (kind := next((k for k in ("authors", "both") if k in runs), None)) is not None:
            truth = _authors_at_ends(paths["none"], paths["all"])
            yield author_section(paths[kind].author_table(), truth=truth)


def _of_rotation(run: Run, paths: FlowPaths) -> Iterator[ReportSection]:
    """Calendar, balance, read-out, carry-over and what it rests on."""
    if not isinstance(run, SwitchbackRun):
        return
    table, design = run.table(paths), run.design
    shared: dict[str, Any] = {
        **_ROLES,
        "unit": None if design.regions is None else "region",
        "schedule": run.schedule,
    }
    read = switchback_effect(table, **shared, burn_in=design.burn_in_minutes, seed=run.seed)
    yield calendar_section(run.schedule)
    yield balance_section(run.schedule)
    yield from switchback_sections(read)
    length = float((run.schedule.table["end"] - run.schedule.table["start"]).min().total_seconds())
    steps = _steps(length / 60, run.setting.tick_minutes)
    makers: tuple[Callable[[], ReportSection], ...] = (
        lambda: burn_in_section(burn_in_curve(table, **shared, burn_ins=steps)),
        lambda: carryover_section(carryover_bound(table, **shared, orders=steps, seed=run.seed)),
        lambda: switches_section(switch_event_study(table, **shared)),
    )
    for make in makers:
        try:
            yield make()
        except ValueError:  # too few slices for this reading: the others stand without it
            continue
    yield assumptions_section(read)


def _steps(slice_minutes: float, tick_minutes: float) -> list[float]:
    """Lengths up to three quarters of a slice, in whole ticks."""
    whole = [round(slice_minutes * k / 8 / tick_minutes) * tick_minutes for k in range(7)]
    return sorted({float(step) for step in whole if step < slice_minutes})


def _both_sides(run: Run, paths: FlowPaths) -> Any:  # noqa: ANN401 — a DualSidedEffect
    """Both sides read as the trial reads them."""
    adjusted = isinstance(run, DualRun) and run.setting.covariates
    return dual_sided_effect(
        run.table(paths),
        outcome="watch",
        viewer="viewer_id",
        author="author_id",
        viewer_arm="viewer_arm",
        author_arm="author_arm",
        covariates=("viewer_before", "author_before") if adjusted else (),
    )


def _authors_at_ends(none: FlowPaths, everybody: FlowPaths) -> pd.DataFrame:
    """Means over authors when nobody and when everybody is treated."""
    tables = {"none": none.author_table(), "all": everybody.author_table()}
    means = {end: [float(t[q].mean()) for q in _QUANTITIES] for end, t in tables.items()}
    return pd.DataFrame({"quantity": list(_QUANTITIES), **means})
