"""Synthetic difference-in-differences of arrays: one fit a cohort, and its placebo draws."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causal.words import number_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_CELLS = 2_000_000  # weights of donors that are held at a time
_GAP = 1e-9  # relative duality gap beyond which weights are not accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSetting:
    """Who is treated from when, and the penalties.

    Parameters
    ----------
    start : int
        Periods before treatment, T0.
    rows : int64 array
        Rows of the treated units.
    sigma : float
        Standard deviation of the donors' first differences before treatment.
    zeta : float
        (N1 T1)^(1/4) sigma, of unit weights.
    zeta_time : float
        1e-6 sigma, of time weights.
    """

    start: int
    rows: NDArray[np.int64]
    sigma: float
    zeta: float
    zeta_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortFit:
    """Weights and the path of one cohort.

    unit_weights : (N0,);  time_weights : (T,), 0 after treatment;
    gap : (T,), treated minus synthetic, less its weighted mean before treatment;
    synthetic : (T,), treated minus `gap`;  duality : larger of the two relative duality gaps.
    """

    unit_weights: NDArray[np.float64]
    time_weights: NDArray[np.float64]
    gap: NDArray[np.float64]
    synthetic: NDArray[np.float64]
    duality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Effects of one or more draws: `effect` (B,) and by event time, `curve` (B, H)."""

    effect: NDArray[np.float64]
    curve: NDArray[np.float64]


Job = tuple[int, "NDArray[np.int64]", "NDArray[np.int64]"]  # cohort, donors, treated


def cohort_settings(
    Y: NDArray[np.float64], first: NDArray[np.int64], donors: NDArray[np.int64]
) -> list[CohortSetting]:
    """Cohorts by start, with the penalties of Arkhangelsky et al. (2021), eq. 5 and footnote 3."""
    n_periods = Y.shape[1]
    found = []
    for start in np.unique(first[first < n_periods]).tolist():
        rows = np.flatnonzero(first == start)
        steps = np.diff(Y[donors, :start], axis=1)
        sigma = float(steps.std(ddof=1)) if steps.size > 1 else 0.0
        zeta = (len(rows) * (n_periods - start)) ** 0.25 * sigma
        found.append(
            CohortSetting(start=start, rows=rows, sigma=sigma, zeta=zeta, zeta_time=1e-6 * sigma)
        )
    return found


def fit_cohorts(
    Y: NDArray[np.float64], cohorts: Sequence[CohortSetting], donors: NDArray[np.int64]
) -> list[CohortFit]:
    """The fit of each cohort against all donors."""
    jobs: list[Job] = [(g, donors, cohort.rows) for g, cohort in enumerate(cohorts)]
    weights, times, gaps, duality = _run(Y, cohorts, jobs)
    fits = []
    for g, cohort in enumerate(cohorts):
        gap = gaps[g] - gaps[g] @ times[g]
        fits.append(
            CohortFit(
                unit_weights=weights[g],
                time_weights=times[g],
                gap=gap,
                synthetic=Y[cohort.rows].mean(axis=0) - gap,
                duality=float(duality[g].max()),
            )
        )
    return fits


def read_fits(fits: Sequence[CohortFit], cohorts: Sequence[CohortSetting]) -> Reading:
    """The effect and its curve of the fits themselves, (1,) and (1, H)."""
    gaps = np.array([fit.gap for fit in fits])[None]
    counts = np.array([len(cohort.rows) for cohort in cohorts], dtype=np.float64)[None]
    return _read(gaps, counts, [cohort.start for cohort in cohorts])


def placebo_draws(
    Y: NDArray[np.float64],
    cohorts: Sequence[CohortSetting],
    donors: NDArray[np.int64],
    *,
    n_draws: int,
    seed: int,
) -> Reading:
    """As many donors as there are treated units take their places, without the treated ones.

    With one cohort and no more sets of donors than draws, each set is taken once.
    """
    sizes = [len(cohort.rows) for cohort in cohorts]
    n = len(donors)
    sets = placebo_sets(n, sum(sizes), n_draws=n_draws, seed=seed, alike=len(sizes) == 1)
    ends = np.cumsum([0, *sizes])

    def jobs() -> Iterator[list[Job]]:
        for taken in sets:
            left = np.ones(n, dtype=bool)
            left[list(taken)] = False
            rest = donors[left]
            yield [
                (g, rest, donors[np.sort(taken[ends[g] : ends[g + 1]])]) for g in range(len(sizes))
            ]

    return _read_draws(Y, cohorts, jobs())


def placebo_sets(
    n: int, size: int, *, n_draws: int, seed: int, alike: bool
) -> Iterator[Sequence[int]]:
    """Random sets out of n; where places are alike and there are no more sets than draws, all."""
    if alike and math.comb(n, size) <= n_draws:
        return itertools.combinations(range(n), size)
    rng = np.random.default_rng(seed)
    return (rng.permutation(n)[:size].tolist() for _ in range(n_draws))


def p_in_words(estimate: float, draws: NDArray[np.float64], how: str, *, placebo: bool) -> str:
    """What interval and p-value are, and the p-value that the rank among placebo sets gives."""
    if not placebo:
        return f"normal, from {how}"
    n = len(draws) + 1
    rank = 1 + int((np.abs(draws) >= abs(estimate) * (1 - 1e-9)).sum())
    p, least = (number_in_words(x, 2) for x in (rank / n, 1 / n))
    return f"normal, from {how}; the rank among them gives p = {p}, they allow none below {least}"


def bootstrap_draws(
    Y: NDArray[np.float64],
    cohorts: Sequence[CohortSetting],
    donors: NDArray[np.int64],
    *,
    n_draws: int,
    seed: int,
) -> Reading:
    """Units are drawn with replacement, again where no donor or none of the first cohort came."""
    rng = np.random.default_rng(seed)
    pool = np.concatenate([donors, *(cohort.rows for cohort in cohorts)])
    of_cohort = np.repeat(
        np.arange(-1, len(cohorts)), [len(donors), *(len(cohort.rows) for cohort in cohorts)]
    )

    def jobs() -> Iterator[list[Job]]:
        done = 0
        while done < n_draws:
            drawn = np.sort(rng.integers(0, len(pool), len(pool)))
            counts = np.bincount(of_cohort[drawn] + 1, minlength=len(cohorts) + 1)
            if counts[0] and counts[1]:
                done += 1
                ends = np.cumsum([0, *counts])
                rows = [pool[drawn[a:b]] for a, b in itertools.pairwise(ends)]
                yield [(g, rows[0], rows[g + 1]) for g in range(len(cohorts)) if counts[g + 1]]

    return _read_draws(Y, cohorts, jobs())


def jackknife_draws(
    Y: NDArray[np.float64],
    cohorts: Sequence[CohortSetting],
    donors: NDArray[np.int64],
    fits: Sequence[CohortFit],
) -> Reading:
    """Each unit is left out in turn and the weights of the others, kept, are scaled to sum 1."""
    n_treated = sum(len(cohort.rows) for cohort in cohorts)
    n = len(donors) + n_treated
    gaps = np.empty((n, len(cohorts), Y.shape[1]))
    counts = np.tile([float(len(cohort.rows)) for cohort in cohorts], (n, 1))
    at = len(donors)
    for g, (cohort, fit) in enumerate(zip(cohorts, fits, strict=True)):
        omega = fit.unit_weights[:, None]
        control = fit.unit_weights @ Y[donors]
        mean = Y[cohort.rows].mean(axis=0)
        gaps[:, g] = mean - control
        gaps[: len(donors), g] = mean - (control - omega * Y[donors]) / (1 - omega)
        k = len(cohort.rows)
        gaps[at : at + k, g] = (k * mean - Y[cohort.rows]) / (k - 1) - control
        counts[at : at + k, g] -= 1
        gaps[:, g] -= (gaps[:, g] @ fit.time_weights)[:, None]
        at += k
    return _read(gaps, counts, [cohort.start for cohort in cohorts])


def _read_draws(
    Y: NDArray[np.float64], cohorts: Sequence[CohortSetting], draws: Iterator[list[Job]]
) -> Reading:
    """Fit the jobs of all draws, so many at a time that the weights stay small."""
    effects, curves = [], []
    size = max(1, _CELLS // (len(Y) * len(cohorts)))
    while part := list(itertools.islice(draws, size)):
        jobs = [job for draw in part for job in draw]
        _, times, gaps, _ = _run(Y, cohorts, jobs)
        of_draw = np.repeat(np.arange(len(part)), [len(draw) for draw in part])
        of_cohort = np.array([job[0] for job in jobs])
        levels = np.zeros((len(part), len(cohorts), Y.shape[1]))
        levels[of_draw, of_cohort] = gaps - np.sum(gaps * times, axis=1)[:, None]
        counts = np.zeros((len(part), len(cohorts)))
        counts[of_draw, of_cohort] = [len(job[2]) for job in jobs]
        read = _read(levels, counts, [cohort.start for cohort in cohorts])
        effects.append(read.effect)
        curves.append(read.curve)
    return Reading(effect=np.concatenate(effects), curve=np.concatenate(curves))


def _read(gaps: NDArray[np.float64], counts: NDArray[np.float64], starts: Sequence[int]) -> Reading:
    """Means over treated cells, in all and by event time, of gaps (B, G, T) and counts (B, G)."""
    n_periods = gaps.shape[2]
    total = np.zeros((len(gaps), n_periods - min(starts)))
    cells = np.zeros_like(total)
    for g, start in enumerate(starts):
        length = n_periods - start
        total[:, :length] += counts[:, g, None] * gaps[:, g, start:]
        cells[:, :length] += counts[:, g, None]
    return Reading(effect=total.sum(axis=1) / cells.sum(axis=1), curve=total / cells)


def _run(
    Y: NDArray[np.float64], cohorts: Sequence[CohortSetting], jobs: Sequence[Job]
) -> tuple[
    list[NDArray[np.float64]], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]:
    """Unit weights by job, time weights and gaps (J, T), duality gaps (J, 2)."""
    from causal.kernels.synthetic_did import fit_jobs  # noqa: PLC0415 — numba only when used

    donor_ends = np.cumsum([0, *(len(job[1]) for job in jobs)])
    treated_ends = np.cumsum([0, *(len(job[2]) for job in jobs)])
    weights = np.empty(donor_ends[-1])
    times, gaps = np.zeros((len(jobs), Y.shape[1])), np.empty((len(jobs), Y.shape[1]))
    duality = np.empty((len(jobs), 2))
    fit_jobs(
        Y,
        np.array([cohorts[job[0]].start for job in jobs]),
        np.concatenate([job[1] for job in jobs]),
        donor_ends,
        np.concatenate([job[2] for job in jobs]),
        treated_ends,
        np.array([cohorts[job[0]].zeta ** 2 for job in jobs]),
        np.array([cohorts[job[0]].zeta_time ** 2 for job in jobs]),
        weights,
        times,
        gaps,
        duality,
    )
    if duality.max() > _GAP:
        raise RuntimeError(
            f"the weights did not converge: relative duality gap {duality.max():.2g}; check the "
            "outcome for values that are far from all others"
        )
    return np.split(weights, donor_ends[1:-1]), times, gaps, duality
