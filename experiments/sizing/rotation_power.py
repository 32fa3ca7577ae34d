"""How often a rotation would find an effect, on a pilot's own cells."""

from __future__ import annotations

import html
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import signal, special
from threadpoolctl import threadpool_limits

from causal.effect import EstimationWarning
from causal.frame import Table, check_level, check_one_of
from causal.values import is_number, whole_number
from causal.words import number_in_words
from experiments.sizing.injected_effects import (
    Fits,
    Sample,
    Statistic,
    crossed_statistic,
    exceeding,
    own_statistic,
    sample_of,
    satterthwaite_df,
)
from experiments.sizing.power_cells import PilotCells, pilot_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from experiments.designs.coins import Coin

    # power of an effect, and its Monte Carlo error
    _PowerOf: TypeAlias = Callable[[float], tuple[float, float]]

Inference: TypeAlias = Literal["randomization", "cluster", "normal"]
_INFERENCES = ("randomization", "cluster", "normal")
_BLOCK = 500  # replications that share their draws
_MOST_PAIRS = 20_000_000  # of replications and draws: 24 bytes each
_FEW_CELLS = 20
_GROWTH = 1.3  # of a bracket of the effect to be solved for
_HALVINGS = 4  # of it: the power is then interpolated within 2 %
_MOST_STEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerCurve:
    """Power of a rotation against the size of the effect.

    `table` has one row an effect: effect, power and mc_se, the Monte Carlo error of the power.
    `mde` is the effect that is found with the power asked for (`power`), None where no effect is.
    `n_slices` counts the slices that have rows, `cells` lists them: region, slice, start, end,
    stratum, n, mean.
    """

    table: pd.DataFrame
    mde: float | None
    n_slices: int
    cells: pd.DataFrame
    level: float
    power: float
    inference: Inference

    def to_frame(self) -> pd.DataFrame:
        """One row an effect: effect, power, mc_se."""
        return self.table.copy()

    def summary(self) -> str:
        """One line: the effect that is found, the level it compares with, and on what."""
        share = f"{100 * self.power:.4g}%"
        if self.mde is None:
            said = f"no effect is found with a power of {share}"
        else:
            n, mean = (self.cells[name].to_numpy(dtype=np.float64) for name in ("n", "mean"))
            level = float(n @ mean / n.sum())
            said = f"an effect of {number_in_words(self.mde)}"
            if level:
                relative = number_in_words(100 * abs(self.mde / level), 2)
                said += f" ({relative}% of {number_in_words(level, 4)})"
            said += f" is found with a power of {share}"
        return f"{said}; {self.n_slices:,} slices, {_NAMES[self.inference]} at level {self.level:g}"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.summary())}</p>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw power against effect with the power asked for; returns the axes."""
        from causal.plots import draw_power  # noqa: PLC0415 — matplotlib is loaded only when used

        return draw_power(self.table, ax, mde=self.mde, power=self.power)


_NAMES = {
    "randomization": "randomization test",
    "cluster": "CR2 by slice with Satterthwaite's degrees of freedom",
    "normal": "normal approximation",
}


def switchback_power(  # noqa: PLR0913 — columns of the pilot, each by keyword
    frame: Table,
    *,
    outcome: str,
    time: str,
    effects: Sequence[float],
    slice_minutes: float,
    unit: str | None = None,
    burn_in_minutes: float = 0,
    coin: Coin = "stratified",
    inference: Inference = "randomization",
    carryover: float | None = None,
    n_replications: int = 2000,
    n_draws: int = 499,
    level: float = 0.95,
    power: float = 0.8,
    seed: int = 0,
) -> PowerCurve:
    """Power of a rotation, by throwing its coins over a pilot's cells and putting effects in.

    For a pilot in which everybody had the same strategy. Power is that of `switchback_effect` with
    the schedule of ``Switchback(slice_minutes, coin=coin, ...)`` over the pilot's own span, given
    its outcomes: take as long a pilot as the experiment will be.

    Parameters
    ----------
    frame : Table
        The pilot's rows, any kind that the door takes, of any size.
    outcome : str
        Column of the outcome.
    time : str
        Column of instants, or of whole periods: lengths are then periods, not minutes. Tables that
        are not in memory are read by the clock of UTC.
    effects : sequence of float
        Constant effects on every treated row, in the units of the outcome; 0 gives the size.
    slice_minutes, burn_in_minutes : float
        Length of a slice, and of its start that is not read.
    unit : str, optional
        Column of the region: each has its own coins.
    coin : {"stratified", "independent", "alternating", "complete"}
        As in `Switchback`. Read within strata of region and local clock for "stratified", within
        regions for the others and where time is whole periods.
    inference : {"randomization", "cluster", "normal"}
        Redrawn schedules; the sandwich by slice (CR2) with Satterthwaite's degrees of freedom; its
        normal approximation, which is what closed formulas promise.
    carryover : float, optional
        Decay rho in [0, 1): what is left of an exposure an hour later (a period later where time is
        whole periods). The effect then builds up as x_t = rho x_{t-1} + (1 - rho) W_t.
    n_replications, n_draws : int
        Experiments that are played, and redrawn schedules of each.
    level : float
        Confidence level of the two-sided test.
    power : float
        Of the effect to be solved for.
    seed : int
        Of the coins.

    Returns
    -------
    PowerCurve

    Raises
    ------
    ValueError
        If a column is absent or holds gaps, a length or a decay is out of its range, there are too
        few slices for the level, too few draws, or the outcome does not vary.
    TypeError
        If time is neither instants nor whole numbers.

    Notes
    -----
    Least squares of cell means on arm and strata, weighted by rows, with a squared error by slice;
    cells that are alone in their stratum are pooled by region. p = (1 + draws with |t| of at least
    the replication's) / (n_draws + 1). Blocks of 500 replications share their draws; `mc_se` holds
    both sources of chance. The squared error's polynomial in the effect is made once for all
    effects. `mde` is solved for by halving an interval on the same coins, with the sign of the
    effects asked about. Rejections in the wrong direction count. Satterthwaite's degrees of freedom
    take the variance of a cell as in inverse proportion to its rows.

    Not corrected for: an experiment longer than the pilot (`mde_timeline`), effects that differ by
    slice, carry-over on rows that are unevenly spread over a slice. Before the first slice nobody
    was treated.

    References
    ----------
    Bojinov, Simchi-Levi and Zhao (2023). Design and analysis of switchback experiments, Management
    Science 69(7). Bell and McCaffrey (2002). Bias reduction in standard errors for linear
    regression with multi-stage samples, Survey Methodology 28.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> hours = pd.date_range("2026-03-02", periods=336, freq="h")
    >>> log = pd.DataFrame({"ts": hours, "watch": np.random.default_rng(0).normal(20, 1, 336)})
    >>> found = switchback_power(log, outcome="watch", time="ts", effects=[1], slice_minutes=360)
    >>> found.n_slices, bool(found.table["power"].iloc[0] > 0.95)
    (56, True)
    """
    given = _checked_effects(effects)
    check_one_of(inference, "inference", _INFERENCES)
    check_level(level)
    if check_level(power, "power") <= 1 - level:
        raise ValueError(f"power must be above 1 - level, {1 - level:.3g}; got {power!r}; raise it")
    counts = _checked_counts(n_replications, n_draws, level, inference)
    if carryover is not None and not (is_number(carryover) and 0 <= carryover < 1):
        raise ValueError(f"carryover must be a decay in [0, 1); got {carryover!r}")
    seed = whole_number("seed", seed, 0)
    cells = pilot_cells(
        frame,
        outcome=outcome,
        time=time,
        unit=unit,
        slice_minutes=slice_minutes,
        burn_in_minutes=burn_in_minutes,
        coin=coin,
        grid=carryover is not None,
    )
    sample = sample_of(cells, outcome)
    decay = 0.0 if carryover is None else float(carryover)
    if inference == "randomization":
        _check_support(cells, sample, level)
    for message in _fragile(coin, len(sample.n)):
        warnings.warn(message, EstimationWarning, stacklevel=2)
    # small products: more threads gain little, lose much on a busy machine and change last bits
    with threadpool_limits(limits=1, user_api="blas"):
        blocks = list(_played(cells, sample, inference, counts, decay, seed))
    power_of = _power_of(blocks, inference, level)
    table = pd.DataFrame(
        [(d, *power_of(d / sample.scale)) for d in given], columns=["effect", "power", "mc_se"]
    )
    sign = -1.0 if given.max() <= 0 and given.min() < 0 else 1.0
    guess = _guess(blocks, level, power)
    mde = _solved(lambda size: power_of(sign * size)[0], guess, power)
    return PowerCurve(
        table=table,
        mde=None if mde is None else sign * mde * sample.scale,
        n_slices=len(sample.n),
        cells=cells.table[cells.read].reset_index(drop=True),
        level=float(level),
        power=float(power),
        inference=inference,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Replications with their own statistic, and what it is compared with.

    Parameters
    ----------
    own : Statistic (r,)
    read : bool array (r,)
        Whether a schedule can be read at all.
    reference : Statistic (a, r), optional
        Of other schedules, for the randomization test.
    exact : bool
        These are all schedules.
    df : array (r,)
        Of the t distribution otherwise; infinite for the normal.
    """

    own: Statistic
    read: NDArray[np.bool_]
    reference: Statistic | None = None
    exact: bool = False
    df: NDArray[np.float64] | None = None


def _played(
    cells: PilotCells,
    sample: Sample,
    inference: Inference,
    counts: tuple[int, int],
    decay: float,
    seed: int,
) -> Iterator[_Block]:
    """Play the replications, in blocks that share their draws."""
    n_replications, n_draws = counts
    support = cells.law.support() if inference == "randomization" else None
    for number, start in enumerate(range(0, n_replications, _BLOCK)):
        seeds = np.random.SeedSequence([seed, number]).generate_state(2).tolist()
        arms = cells.law.draws(min(_BLOCK, n_replications - start), seeds[0])
        fits = Fits.of(sample, arms[:, cells.read])
        z = sample.centred(_exposure(arms, cells, decay)[:, cells.read]) if decay else fits.x
        own = own_statistic(fits, z)
        if inference != "randomization":
            df = satterthwaite_df(fits) if inference == "cluster" else np.full(len(z), math.inf)
            yield _Block(own, fits.readable, df=df)
            continue
        draws = cells.law.draws(n_draws, seeds[1]) if support is None else support
        others = Fits.of(sample, draws[:, cells.read])
        reference = crossed_statistic(others.select(others.readable), z)
        yield _Block(own, fits.readable, reference, support is not None)


def _exposure(arms: NDArray[np.int8], cells: PilotCells, decay: float) -> NDArray[np.float64]:
    """Mean of x_t = rho x_{t-1} + (1 - rho) W_t over the read periods of each slice, (r, k).

    In a slice of l periods with arm W, x = rho^j x_before + (1 - rho^j) W at its period j.
    """
    clock = cells.clock
    length, burnt = round(clock.width / clock.step), round(clock.burn_in / clock.step)
    rho = decay**clock.unit
    old = float(np.mean(rho ** np.arange(burnt + 1, length + 1)))
    kept = rho**length
    by_region = arms.reshape(len(arms), -1, clock.n_slices).astype(np.float64)
    end = signal.lfilter([1 - kept], [1.0, -kept], by_region, axis=2)
    before = np.concatenate([np.zeros_like(end[:, :, :1]), end[:, :, :-1]], axis=2)
    return np.asarray((old * before + (1 - old) * by_region).reshape(len(arms), -1))


def _power_of(blocks: list[_Block], inference: Inference, level: float) -> _PowerOf:
    """Power of an effect and its Monte Carlo error, from blocks that were played."""
    by = {"randomization": _by_draws, "cluster": _by_t, "normal": _by_formula}[inference]
    return lambda effect: by(blocks, level, effect)


def _by_draws(blocks: list[_Block], level: float, effect: float) -> tuple[float, float]:
    """Share of replications that few enough other schedules exceed.

    A draw moves the counts of all replications of its block. It changes the power by what it adds
    to counts near the threshold, over the width of that window: summed over draws, this is what
    they add to the Monte Carlo error of independent replications.
    """
    found, of_draws = [], 0.0
    n = sum(len(block.read) for block in blocks)
    for block in blocks:
        if block.reference is None:
            continue
        exceeds = exceeding(block.reference, block.own, effect)
        count, others = exceeds.sum(axis=0), len(exceeds)
        # of all schedules, the own one among them; else it counts beside the draws
        most = math.floor((1 - level) * (others + (not block.exact)) + 1e-9) - (not block.exact)
        found.append((count <= most) & block.read)
        if not block.exact:
            reach = max(round(math.sqrt(others * level * (1 - level))), 1)
            added = exceeds[:, np.abs(count - most) <= reach].sum(axis=1) / (2 * reach + 1) / n
            of_draws += others * float(np.var(added))
    share = float(np.concatenate(found).mean())
    return share, math.sqrt(share * (1 - share) / n + of_draws)


def _by_t(blocks: list[_Block], level: float, effect: float) -> tuple[float, float]:
    """Share of replications whose t statistic is beyond its quantile."""
    found = []
    for block in blocks:
        estimate, error = block.own.at(effect)
        beyond = estimate**2 >= special.stdtrit(block.df, (1 + level) / 2) ** 2 * error
        found.append(beyond & block.read)
    each = np.concatenate(found)
    share = float(each.mean())
    return share, math.sqrt(share * (1 - share) / len(each))


def _by_formula(blocks: list[_Block], level: float, effect: float) -> tuple[float, float]:
    """Mean over replications of the power that their standard errors promise."""
    z, found = float(special.ndtri((1 + level) / 2)), []
    for block in blocks:
        _, error = block.own.at(effect)
        size = np.abs(effect * block.own.slope) / np.sqrt(np.maximum(error, 1e-300))
        found.append(special.ndtr(size - z) + special.ndtr(-size - z))
    each = np.concatenate(found)
    return float(each.mean()), float(each.std() / math.sqrt(len(each)))


def _guess(blocks: list[_Block], level: float, power: float) -> float:
    """The effect that a normal approximation finds with this power."""
    error = float(np.sqrt(np.median(np.concatenate([b.own.error_0 for b in blocks]))))
    slope = abs(float(np.mean(np.concatenate([b.own.slope for b in blocks]))))
    z = float(special.ndtri((1 + level) / 2) + special.ndtri(power))
    return max(z, 0.5) * error / max(slope, 0.01)


def _solved(power_of: Callable[[float], float], guess: float, power: float) -> float | None:
    """The effect with this power: bracketed around a guess, halved, then interpolated."""
    low, high = guess / _GROWTH, guess
    at_low, at_high = power_of(low), power_of(high)
    for _ in range(_MOST_STEPS):
        if at_low <= power <= at_high:
            break
        if at_high < power:
            low, at_low, high = high, at_high, high * _GROWTH
            at_high = power_of(high)
        else:
            low, high, at_high = low / _GROWTH, low, at_low
            at_low = power_of(low)
    else:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = power_of(middle)
        if found >= power:
            high, at_high = middle, found
        else:
            low, at_low = middle, found
    share = (power - at_low) / (at_high - at_low) if at_high > at_low else 0.0
    return low + share * (high - low)


def _fragile(coin: Coin, n_slices: int) -> Iterator[str]:
    """What a reader should know before he trusts a figure."""
    if n_slices < _FEW_CELLS:
        yield (
            f"{n_slices} slices are few: the power is that of these very slices, and other days "
            "will differ; take a longer pilot, or shorter slices"
        )
    if coin == "alternating":
        yield (
            "coin='alternating' loses about twice as much to carry-over as an independent coin, "
            "and can be foreseen; take 'stratified'"
        )


def _check_support(cells: PilotCells, sample: Sample, level: float) -> None:
    """Schedules enough for the level; one and its mirror have one absolute statistic."""
    support = cells.law.support()
    if support is None:
        return
    arms = support[:, cells.read]
    count = int(Fits.of(sample, arms).readable.sum())
    if count == 0 or 2 / count > (1 - level) * (1 + 1e-9):
        best = 2 / count if count else 1.0
        raise ValueError(
            f"{arms.shape[1]} slices are too few for level {level:g}: {count} schedules can be "
            f"read, so that p is at best {best:.2g}; take more slices, more regions, or a lower "
            "level"
        )


def _checked_effects(effects: Sequence[float]) -> NDArray[np.float64]:
    """Finite numbers, one or more."""
    found = [effects] if is_number(effects) else list(effects)
    if not found or not all(is_number(d) and math.isfinite(d) for d in found):
        raise ValueError(f"effects must be finite numbers, one or more; got {found[:10]!r}")
    return np.array(found, dtype=np.float64)


def _checked_counts(
    n_replications: int, n_draws: int, level: float, inference: Inference
) -> tuple[int, int]:
    """Replications and draws: enough for the level, and not beyond memory."""
    n_replications = whole_number("n_replications", n_replications, 1)
    n_draws = whole_number("n_draws", n_draws, 1)
    if inference != "randomization":
        return n_replications, n_draws
    if 1 / (n_draws + 1) > (1 - level) * (1 + 1e-9):
        raise ValueError(
            f"n_draws must be {math.ceil(1 / (1 - level)) - 1} or more for level {level:g}; got "
            f"{n_draws}: p is at best {1 / (n_draws + 1):.2g}"
        )
    if n_replications * n_draws > _MOST_PAIRS:
        raise ValueError(
            f"n_replications x n_draws must be {_MOST_PAIRS:,} at most; got "
            f"{n_replications * n_draws:,}: take fewer"
        )
    return n_replications, n_draws
