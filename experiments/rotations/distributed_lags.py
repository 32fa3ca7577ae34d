"""Read-outs by lag: what treatment does now, and what it still does periods later."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.effect import Effect, EffectCurve
from causal.linear import covariance, least_squares
from experiments.rotations.exposure_decay import DecayModel, orthonormal
from experiments.rotations.period_series import PeriodSeries, period_series
from experiments.rotations.slice_checks import Check, check_reading
from experiments.rotations.slice_errors import newey_west_lags
from experiments.rotations.slice_readings import fit_windows, read_windows
from experiments.rotations.slice_readouts import (
    Readout,
    Settings,
    decided,
    paths_details,
    slices_frame,
)
from experiments.rotations.slice_statistic import Contrasts, Windows, contrasts, fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causal.linear import Covariance, LinearFit
    from experiments.rotations.randomization import RandomizationTest
    from experiments.rotations.slice_coins import Rotation

_CHUNK = 4_000_000  # entries of a matrix of paths, periods and lags
_DECAY_DRAWS = 299
_SINGULAR = 1e10


def lags_readout(rotation: Rotation, settings: Settings, carryover: int) -> Readout:
    """The read-out of a method that goes by lags."""
    lengths = () if settings.method == "geometric_lag" else (carryover,)
    series = period_series(rotation, adjusted=settings.adjust == "design", lengths=lengths)
    methods = {
        "distributed_lag": _distributed_lag,
        "geometric_lag": _geometric_lag,
        "truncated_dq": _truncated_dq,
    }
    return methods[settings.method](series, settings, carryover)


# ---- one coefficient a lag ----


def _distributed_lag(series: PeriodSeries, settings: Settings, carryover: int) -> Readout:
    """Outcomes on the arms of this period and of those before; the effect is the sum."""
    n_lags = carryover // series.step
    coins = series.lagged_coins(n_lags)
    some = np.flatnonzero((coins >= 0).all(axis=1))
    nuisance = series.nuisance(some) if len(some) else np.zeros((0, 1))
    if len(some) <= nuisance.shape[1] + n_lags + 1:
        raise ValueError(
            f"carryover={series.shown(carryover)} leaves {len(some)} periods with all lags known, "
            f"for {n_lags + 1} lags and {nuisance.shape[1]} other columns: shorten it"
        )
    coins = coins[some]
    arms = series.coins.arm[coins].astype(np.float64)
    lags = np.column_stack([arms[:, 0], arms[:, 1:] - arms[:, :1]])  # the first coefficient: sum
    fit, X = _regressed(series, some, lags, nuisance, carryover)
    found, rule = _spread(series, some, fit, X, settings, n_lags)
    effect, curve = _summed(series, settings, found, fit, n_lags, some, rule)
    test = None
    if settings.inference == "randomization":
        test = _lags_tested(series, settings, some, coins, nuisance)
        effect = _with_details(effect, paths_details(test, settings))
    return _readout(series, some, settings, effect, test=test, lags=curve)


def _regressed(
    series: PeriodSeries,
    some: NDArray[np.int64],
    lags: NDArray[np.float64],
    nuisance: NDArray[np.float64],
    carryover: int,
) -> tuple[LinearFit, NDArray[np.float64]]:
    """Least squares of periods on arms and what is beside them."""
    basis = orthonormal(nuisance)
    within = lags - basis @ (basis.T @ lags)
    size = np.sqrt((within**2).sum(axis=0))
    if not size.all() or np.linalg.cond(within / np.where(size > 0, size, 1.0)) > _SINGULAR:
        raise ValueError(
            f"carryover={series.shown(carryover)} is too long: arms of its {lags.shape[1]} periods "
            "cannot be told apart; shorten it, or take more slices"
        )
    X = np.column_stack([lags, basis])
    names = [f"lag {j}" for j in range(lags.shape[1])] + [f"level {j}" for j in range(len(basis.T))]
    return least_squares(X, series.outcome[some], names=names), X


def _spread(
    series: PeriodSeries,
    some: NDArray[np.int64],
    fit: LinearFit,
    X: NDArray[np.float64],
    settings: Settings,
    n_lags: int,
) -> tuple[Covariance, str]:
    """Covariance of the coefficients by slice, or over time."""
    if settings.inference != "hac":
        return covariance(fit, X, kind="CR2", clusters=series.coin[some]), "CR2 by slice"
    if len(series.coins.chains) > 1:
        raise ValueError(
            f"inference='hac' takes one series; {len(series.coins.chains)} regions or units have "
            "coins of their own: use inference='cluster'"
        )
    longest = int(np.bincount(series.coin[some]).max())
    lags = min(max(newey_west_lags(len(some)), longest + n_lags), len(some) - 1)
    found = covariance(fit, X, kind="HAC", lags=lags, time=series.time[some])
    return found, f"Newey-West, {lags} lags"


def _summed(
    series: PeriodSeries,
    settings: Settings,
    found: Covariance,
    fit: LinearFit,
    n_lags: int,
    some: NDArray[np.int64],
    rule: str,
) -> tuple[Effect, EffectCurve]:
    """The sum over lags, and the curve."""
    back = np.eye(n_lags + 1)
    back[0, 1:] = -1.0  # lag 0 is the sum minus the others
    own = slice(0, n_lags + 1)
    df = np.broadcast_to(found.df, (len(fit.coef),))
    n_obs, n_slices = int(series.rows[some].sum()), _slices(series, some)
    effect = Effect(
        estimate=float(fit.coef[0]),
        std_error=math.sqrt(float(found.matrix[0, 0])),
        estimand="total",
        method=settings.describe(f"switchback, {n_lags + 1} lags", rule),
        df=float(df[0]),
        details=_details(series, settings, {"carryover": n_lags * series.step}),
        n_obs=n_obs,
        n_clusters=n_slices,
    )
    minute = series.rotation.kind.minute
    curve = EffectCurve(
        index=tuple(_number(j * series.step / minute) for j in range(n_lags + 1)),
        index_name="lag",
        estimate=back @ fit.coef[own],
        cov=back @ found.matrix[own, own] @ back.T,
        estimand="effect of a period's treatment",
        method=effect.method,
        df=float(df[own].min()),
        n_obs=n_obs,
        n_clusters=n_slices,
        details={"index_unit": series.rotation.kind.unit},
    )
    return effect, curve


def _lags_tested(
    series: PeriodSeries,
    settings: Settings,
    some: NDArray[np.int64],
    coins: NDArray[np.int64],
    nuisance: NDArray[np.float64],
) -> RandomizationTest:
    """The sum over lags among those of other paths."""
    dose = series.coins.arm[coins].mean(axis=1)
    order = np.argsort(series.coin[some], kind="stable")
    basis = orthonormal(nuisance)
    columns = np.column_stack([series.outcome[some], dose])
    columns = columns - basis @ (basis.T @ columns)
    given = (coins[order], basis[order], columns[order], series.coin[some][order])
    return decided(series.coins, settings, lambda paths: lag_contrasts(paths, *given))


def lag_contrasts(
    paths: NDArray[np.int8],
    coins: NDArray[np.int64],
    basis: NDArray[np.float64],
    columns: NDArray[np.float64],
    slices: NDArray[np.int64],
) -> Contrasts:
    """Sums of lag coefficients of outcome and dose on many paths, clustered by slice."""
    starts = np.flatnonzero(np.r_[True, np.diff(slices) > 0])
    n, k = coins.shape
    step, parts = max(1, _CHUNK // (n * k)), []
    for start in range(0, len(paths), step):
        lags = paths[start : start + step][:, coins].astype(np.float64)
        lags -= basis @ (basis.T @ lags)
        flipped = lags.transpose(0, 2, 1)
        gram = flipped @ lags
        valid = np.linalg.cond(gram) < _SINGULAR
        gram = np.where(valid[:, None, None], gram, np.eye(k))
        right = np.concatenate([flipped @ columns, np.ones((len(lags), k, 1))], axis=2)
        solved = np.linalg.solve(gram, right)
        lever = lags @ solved[:, :, 2:]
        e = columns - lags @ solved[:, :, :2]
        sums = np.add.reduceat(lever * e, starts, axis=1)
        slope, dose = solved[:, :, 0].sum(axis=1), solved[:, :, 1].sum(axis=1)
        y, d = sums[:, :, 0], sums[:, :, 1]
        squares = [(y**2).sum(axis=1), (y * d).sum(axis=1), (d**2).sum(axis=1)]
        parts.append((slope, dose, *squares, valid))
    return Contrasts(*(np.concatenate(found) for found in zip(*parts, strict=True)))


# ---- exposure that decays ----


def _geometric_lag(series: PeriodSeries, settings: Settings, _: int) -> Readout:
    """Outcomes on an exposure whose decay is estimated too."""
    model = DecayModel(series)
    fit = model.fit()
    some = np.arange(len(series))
    basis = orthonormal(series.nuisance(some))
    test = None
    if settings.inference == "randomization":
        test = _decay_tested(model, settings, fit.effect)
        error, rule = test.std_error, "by slice"
        df = max(_slices(series, some) - len(basis.T) - 2.0, 1.0)
    else:
        X = np.column_stack([fit.exposure, fit.effect * fit.slope, basis])
        names = ["exposure", "decay", *(f"level {j}" for j in range(len(basis.T)))]
        linear = least_squares(X, series.outcome, names=names)
        found, rule = _spread(series, some, linear, X, settings, 0)
        error, df = math.sqrt(float(found.matrix[0, 0])), float(np.atleast_1d(found.df)[0])
    draws = series.coins.law.draws(min(settings.n_draws, _DECAY_DRAWS), settings.seed)
    low, high = model.conf_int(settings.level, draws)
    decay = {"decay": fit.decay, "decay_low": low, "decay_high": high}
    effect = Effect(
        estimate=fit.effect,
        std_error=error,
        estimand="total",
        method=settings.describe("switchback, geometric decay of exposure", rule),
        n_obs=int(series.rows.sum()),
        n_clusters=_slices(series, some),
        df=df,
        details={
            **_details(series, settings, {"period": series.step}),
            **decay,
            **({} if test is None else paths_details(test, settings)),
        },
    )
    doubt = "" if test else ", and a t takes it as known: use inference='randomization'"
    vague = Check(
        "decay",
        high,
        1.0,
        "yes" if high < 1 else "no",
        f"decay a period lies between {low:.3g} and {high:.3g}"
        + ("" if high < 1 else ": the log does not tell how slowly carry-over fades" + doubt),
        warns=True,
    )
    return _readout(series, some, settings, effect, test=test, more=[vague])


def _decay_tested(model: DecayModel, settings: Settings, effect: float) -> RandomizationTest:
    """The effect among those of other paths, each at the decay that fits it best.

    Under no effect that is exact. Constant effects are compared with the same statistics: the
    interval is the estimate, give or take their quantile times the error.
    """
    coins = model.coins
    observed = float(model.statistics(coins.arm[None, :])[0])
    error = abs(effect / observed) if observed else 0.0

    def statistic(paths: NDArray[np.int8]) -> Contrasts:
        own = (paths == coins.arm).all(axis=1)
        none = np.zeros(len(paths))
        return Contrasts(
            slope=np.where(own, effect, error * model.statistics(paths)),
            dose=own.astype(np.float64),
            square=none + error**2,
            mixed=none,
            dose_square=none,
            valid=np.ones(len(paths), dtype=bool),
        )

    return decided(coins, settings, statistic)


# ---- sums of outcomes after a slice ----


def _truncated_dq(series: PeriodSeries, settings: Settings, carryover: int) -> Readout:
    """Sums of the outcomes of a slice and of `carryover` after it, on the slice's arm."""
    taken, whole = _after_slices(series, carryover)
    if len(whole) < 4:
        raise ValueError(
            f"carryover={series.shown(carryover)} leaves {len(whole)} slices whose sums are whole; "
            "four or more are needed: shorten it, or fill the gaps of the log"
        )
    windows = _sums(series, taken, whole, adjusted=settings.adjust == "design")
    found = fitted(series.coins.arm, windows)
    if found is None or found.df < 1:
        raise ValueError(
            f"too few slices: {len(whole)} have whole sums over carryover="
            f"{series.shown(carryover)}, too few of each arm: shorten it, or run longer"
        )
    lagged = _lag_shares(series, carryover // series.step)
    dose = taken @ lagged / windows.size[:, None]  # of each slice's sum, by coin
    test = None
    if settings.inference == "randomization":
        ours = dose @ series.coins.arm
        test = decided(
            series.coins,
            settings,
            lambda paths: contrasts(paths, windows, dose=ours, drawn=paths @ dose.T),
        )
    some = np.flatnonzero(taken.any(axis=0))
    effect = Effect(
        estimate=found.estimate,
        std_error=math.sqrt(float(windows.kappa @ found.scores**2)),
        estimand="total",
        method=settings.describe("switchback, truncated differences in Q", "overlapping sums"),
        n_obs=int(series.rows[some].sum()),
        n_clusters=len(whole),
        df=float(found.df),
        details={
            **_details(series, settings, {"carryover": carryover}),
            **({} if test is None else paths_details(test, settings)),
        },
    )
    return _readout(series, some, settings, effect, test=test)


def _sums(
    series: PeriodSeries, taken: NDArray[np.float64], whole: NDArray[np.int64], *, adjusted: bool
) -> Windows:
    """A window a slice: the sum of its outcomes and of those after it, a period of the slice."""
    coins = series.coins
    length = (coins.end - coins.start)[whole] / series.step
    stratum = coins.stratum[whole] if adjusted else np.zeros_like(whole)
    return Windows(
        first=whole,
        last=whole,
        size=length,
        outcome=taken @ series.outcome / length,
        covariates=taken @ series.covariates / taken.sum(axis=1, keepdims=True),
        chance=np.full(len(whole), 0.5),
        kappa=((taken @ taken.T) > 0).sum(axis=1).astype(np.float64),
        stratum=np.unique(stratum, return_inverse=True)[1].astype(np.int64),
    )


def _after_slices(
    series: PeriodSeries, carryover: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Which periods each slice's sum takes, (s, n), for the slices (s,) that have them all."""
    coins = series.coins
    whole, rows = [], []
    for s in range(len(coins)):
        mine = series.chain == coins.chain[s]
        taken = mine & (series.time >= coins.start[s]) & (series.time < coins.end[s] + carryover)
        if taken.sum() * series.step == coins.end[s] + carryover - coins.start[s]:
            whole.append(s)
            rows.append(taken.astype(np.float64))
    return np.array(rows), np.array(whole, dtype=np.int64)


def _lag_shares(series: PeriodSeries, n_lags: int) -> NDArray[np.float64]:
    """Share of each coin in the arms of a period and of the lags before it, shape (n, k)."""
    found = np.zeros((len(series), len(series.coins)))
    for coin in series.lagged_coins(n_lags).T:
        known = np.flatnonzero(coin >= 0)
        found[known, coin[known]] += 1 / (n_lags + 1)
    return found


# ---- what all of them report ----


def _slices(series: PeriodSeries, some: NDArray[np.int64]) -> int:
    """Slices of some periods."""
    return len(np.unique(series.coin[some]))


def _number(value: float) -> float | int:
    """A whole number as such."""
    return int(value) if value == int(value) else value


def _details(series: PeriodSeries, settings: Settings, lengths: dict[str, int]) -> dict[str, Any]:
    """What went into the estimate, as plain values."""
    minute = series.rotation.kind.minute
    found = {name: length / minute for name, length in lengths.items()}
    return {"inference": settings.inference, "coin": series.coins.law.coin, **found}


def _with_details(effect: Effect, more: dict[str, Any]) -> Effect:
    """The effect with more details."""
    return Effect.from_dict({**effect.to_dict(), "details": {**effect.details, **more}})


def _readout(
    series: PeriodSeries,
    some: NDArray[np.int64],
    settings: Settings,
    effect: Effect,
    *,
    test: RandomizationTest | None = None,
    lags: EffectCurve | None = None,
    more: list[Check] | None = None,
) -> Readout:
    """The read-out with the checks of its slices."""
    rotation = series.rotation
    reading = read_windows(rotation, carryover=0, burn_in=0, adjusted=settings.adjust == "design")
    read = np.isin(rotation.last, np.unique(series.coin[some]))
    return Readout(
        effect=effect,
        slices=slices_frame(rotation, reading.keep, read[reading.keep]),
        checks=[*check_reading(reading, fit_windows(reading)), *(more or [])],
        test=test,
        lags=lags,
    )
