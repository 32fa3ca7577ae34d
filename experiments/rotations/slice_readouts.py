"""From windows to an answer: estimate, error, test, segments and checks of one read-out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.effect import Effect, EffectCurve
from causal.frame import check_level, check_one_of
from causal.values import whole_number
from experiments.designs.switch_points import shared_coins
from experiments.rotations.instants import local_times
from experiments.rotations.randomization import (
    RandomizationTest,
    randomization_test,
    reference_paths,
)
from experiments.rotations.slice_checks import Check, check_reading
from experiments.rotations.slice_errors import (
    Errors,
    cluster_errors,
    conservative_errors,
    hac_errors,
)
from experiments.rotations.slice_readings import fit_windows
from experiments.rotations.slice_statistic import contrasts, horvitz_thompson

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from experiments.rotations.slice_coins import Coins, Rotation
    from experiments.rotations.slice_readings import Reading
    from experiments.rotations.slice_statistic import Contrasts, Fitted

INFERENCES = {
    "hajek": ("randomization", "conservative", "cluster", "hac"),
    "horvitz_thompson": ("randomization", "conservative"),
    "regression": ("randomization", "conservative", "cluster", "hac"),
    "distributed_lag": ("randomization", "cluster", "hac"),
    "geometric_lag": ("randomization", "cluster", "hac"),
    "truncated_dq": ("randomization", "conservative"),
}
_FAR = 2.0  # mean over spread from which Horvitz-Thompson is hopeless
_RAW_UP_TO = 12  # coins up to which its paths are compared without errors


@dataclass(frozen=True)
class Settings:
    """The choices of a read-out, checked."""

    method: str = "hajek"
    adjust: str | None = "design"
    inference: str = "randomization"
    n_draws: int = 999
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_one_of(self.method, "method", tuple(INFERENCES))
        check_one_of(self.adjust, "adjust", ("design", None))
        check_one_of(self.inference, "inference", INFERENCES["hajek"])
        if self.inference not in (allowed := INFERENCES[self.method]):
            raise ValueError(
                f"inference={self.inference!r} does not go with method={self.method!r}; choose "
                f"{' or '.join(map(repr, allowed))}"
            )
        check_level(self.level)
        whole_number("n_draws", self.n_draws, 1)
        whole_number("seed", self.seed, 0)

    def describe(self, text: str, *more: str) -> str:
        """The method in words."""
        adjusted = ["adjusted for the design"] if self.adjust == "design" else []
        return ", ".join([text, *adjusted, *more])


@dataclass(frozen=True, eq=False)
class Readout:
    """What one method found."""

    effect: Effect
    slices: pd.DataFrame
    checks: list[Check]
    test: RandomizationTest | None = None
    lags: EffectCurve | None = None
    segments: EffectCurve | None = None


def hajek_readout(reading: Reading, settings: Settings) -> Readout:
    """Weighted least squares over windows."""
    fit = fit_windows(reading)
    test = None
    if settings.inference == "randomization":
        test = _tested(reading, settings)
    errors = _errors(reading, fit, settings)
    words = "slice regression" if settings.method == "regression" else "Hajek over windows"
    effect = Effect(
        estimate=fit.estimate,
        std_error=errors.std_error,
        estimand="total",
        method=settings.describe(f"switchback, {words}", errors.rule),
        n_obs=rows_read(reading, fit.used),
        n_clusters=slices_read(reading, fit.used),
        df=errors.df,
        baseline=fit.baseline + reading.rotation.cells.centre,
        baseline_variance=errors.baseline_variance,
        baseline_cov=errors.baseline_cov,
        details=details(reading, settings, fit.used, test),
    )
    checks = check_reading(reading, fit)
    if settings.inference == "cluster" and settings.adjust is None:
        checks.append(_blind_error(reading))
    return Readout(
        effect=effect,
        slices=slices_frame(reading.rotation, reading.keep, fit.used[reading.code]),
        checks=checks,
        test=test,
        segments=_segments(reading, settings) if reading.rotation.roles.by else None,
    )


def _errors(reading: Reading, fit: Fitted, settings: Settings) -> Errors:
    """The standard error that goes with the inference."""
    if settings.inference == "cluster":
        return cluster_errors(reading, fit)
    if settings.inference == "hac":
        return hac_errors(reading, fit)
    return conservative_errors(reading, fit)


def _tested(reading: Reading, settings: Settings) -> RandomizationTest:
    """The observed contrast among those of other paths."""
    dose = reading.dose()
    return decided(
        reading.coins, settings, lambda paths: contrasts(paths, reading.windows, dose=dose)
    )


def decided(
    coins: Coins, settings: Settings, statistic: Callable[[NDArray[np.int8]], Contrasts]
) -> RandomizationTest:
    """The test of a statistic of paths, once its interval at the level is known to have ends.

    Raises
    ------
    ValueError
        If no outcome could reach the level, the observed error is 0, or the interval has no end.
    """
    paths, exact = reference_paths(
        coins.law, level=settings.level, n_draws=settings.n_draws, seed=settings.seed
    )
    test = randomization_test(statistic(coins.arm[None, :]), statistic(paths), exact=exact)
    if test is None:
        raise ValueError(
            "the estimate must have an error to be compared with other paths; every window that "
            "tells its error is fitted exactly: take more slices, or fewer covariates"
        )
    test.conf_int(settings.level)
    return test


def _segments(reading: Reading, settings: Settings) -> EffectCurve:
    """Effects by segment; windows that share coins link them."""
    cells = reading.rotation.cells
    name = reading.rotation.roles.by or ""
    labels = np.unique(cells.segment[reading.keep])
    fits = [
        fit_windows(reading, reading.segment(j), what=f"where {name!r} is {cells.segments[j]}")
        for j in labels
    ]
    scores = np.array([fit.scores for fit in fits])
    return EffectCurve(
        index=tuple(_plain(cells.segments[j]) for j in labels),
        index_name=name,
        estimate=np.array([fit.estimate for fit in fits]),
        cov=(scores * reading.windows.kappa) @ scores.T,
        estimand="total",
        method=settings.describe("switchback, Hajek over windows", "windows that share coins"),
        n_obs=rows_read(reading, np.any([fit.used for fit in fits], axis=0)),
        n_clusters=slices_read(reading, np.any([fit.used for fit in fits], axis=0)),
        df=tuple(float(fit.df) for fit in fits),
    )


def _plain(label: Any) -> Any:  # noqa: ANN401 — a label of any kind
    """A label as a plain value."""
    return label.item() if isinstance(label, np.generic) else label


def _blind_error(reading: Reading) -> Check:
    """Cluster errors without strata do not know that coins were thrown within them."""
    blind = reading.coins.law.coin == "stratified"
    strata = len(np.unique(reading.coins.stratum))
    return Check(
        "error_knows_the_coin",
        float(strata),
        None,
        "no" if blind else "yes",
        f"adjust=None leaves the levels of {strata} strata in the cluster error, which the "
        "stratified coin has taken out of the estimate: the error is too large and power is lost; "
        "use adjust='design'"
        if blind
        else f"{reading.coins.law.coin} coins need no strata",
        warns=True,
    )


# ---- Horvitz-Thompson ----


def horvitz_thompson_readout(reading: Reading, settings: Settings) -> Readout:
    """Inverse-probability weighting over instants, which counts windows that are not alike as 0."""
    fit = fit_windows(reading)
    coins, windows = reading.coins, reading.windows
    centre, dose = reading.rotation.cells.centre, reading.dose()
    observed = horvitz_thompson(coins.arm[None, :], windows, centre=centre, dose=dose)
    test = None
    if settings.inference == "randomization":
        raw = len(coins) <= _RAW_UP_TO
        test = decided(
            coins,
            settings,
            lambda paths: horvitz_thompson(paths, windows, centre=centre, dose=dose, raw=raw),
        )
    more = {"bound_2": float(observed.square[0])}
    if coins.law.coin == "independent":
        more["bound_1"] = first_bound(reading)
    effect = Effect(
        estimate=float(observed.slope[0]),
        std_error=math.sqrt(float(observed.square[0])),
        estimand="total",
        method="switchback, Horvitz-Thompson, windows that share coins",
        n_obs=rows_read(reading, fit.used),
        n_clusters=slices_read(reading, fit.used),
        df=float(fit.df),
        details={**details(reading, settings, fit.used, test), **more},
    )
    return Readout(
        effect=effect,
        slices=slices_frame(reading.rotation, reading.keep, fit.used[reading.code]),
        checks=[*check_reading(reading, fit), _far_from_zero(reading)],
        test=test,
    )


def first_bound(reading: Reading) -> float:
    """Unbiased estimate of the first bound (see `switchback_variance`), for independent coins."""
    windows, arm = reading.windows, reading.coins.arm
    first, last = windows.first, windows.last
    share = windows.treated_coins(arm[None, :])[0]
    shared = shared_coins(first, last)
    linked = shared > 0
    length = last - first + 1.0
    sums = windows.size * (windows.outcome + reading.rotation.cells.centre)
    total = 0.0
    for alike in (share == 1, share == 0):
        s = sums * alike
        joint = (length[:, None] + length[None, :] - shared) * linked
        pair = (2.0**shared - 1) * 2.0**joint
        total += float(s @ pair @ s) + float(linked.sum(axis=1) @ (s**2 * 2.0**length))
    return total / float(windows.size.sum()) ** 2


def _far_from_zero(reading: Reading) -> Check:
    """Whether outcomes lie so far from 0 that Horvitz-Thompson drowns in their mean."""
    windows = reading.windows
    outcome = windows.outcome + reading.rotation.cells.centre
    mean = float(np.average(outcome, weights=windows.size))
    spread = math.sqrt(float(np.average((outcome - mean) ** 2, weights=windows.size)))
    ratio = abs(mean) / spread if spread > 0 else math.inf
    return Check(
        "centred_outcome",
        min(ratio, 1e300),
        _FAR,
        "yes" if ratio <= _FAR else "no",
        f"the mean outcome is {ratio:.3g} of its standard deviations from 0",
        "Horvitz-Thompson takes its weights' noise times the mean; use method='hajek', or centre "
        "the outcome",
        warns=True,
    )


# ---- what every method reports ----


def rows_read(reading: Reading, used: NDArray[np.bool_]) -> int:
    """Rows in windows that count."""
    return int(reading.rotation.cells.n[reading.keep][used[reading.code]].sum())


def slices_read(reading: Reading, used: NDArray[np.bool_]) -> int:
    """Slices in which windows that count end."""
    return len(np.unique(reading.windows.last[used]))


def details(
    reading: Reading,
    settings: Settings,
    used: NDArray[np.bool_],
    test: RandomizationTest | None,
) -> dict[str, Any]:
    """What went into the estimate, as plain values."""
    minute = reading.rotation.kind.minute
    arm = reading.coins.arm[np.unique(reading.windows.last[used])]
    found: dict[str, Any] = {
        "inference": settings.inference,
        "carryover": reading.carryover / minute,
        "burn_in": reading.burn_in / minute,
        "coin": reading.coins.law.coin,
        "slices_treated": int(arm.sum()),
        "slices_untreated": int(len(arm) - arm.sum()),
        "windows": int(used.sum()),
    }
    return found if test is None else {**found, **paths_details(test, settings)}


def paths_details(test: RandomizationTest, settings: Settings) -> dict[str, Any]:
    """The randomization test as plain values."""
    low, high = test.conf_int(settings.level)
    return {
        "p_value": test.p_value,
        "low": low,
        "high": high,
        "level": settings.level,
        "paths": test.n_paths,
        "all_paths": test.exact,
        "seed": settings.seed,
    }


def slices_frame(
    rotation: Rotation, keep: NDArray[np.int64], counted: NDArray[np.bool_]
) -> pd.DataFrame:
    """One row a coin with the rows that are read in it."""
    coins, cells = rotation.coins, rotation.cells.select(keep[counted])
    last = rotation.last[keep[counted]]
    k = len(coins)
    size = np.bincount(last, cells.size, k)
    total = np.bincount(last, cells.size * cells.outcome, k)
    mean = np.divide(total, size, out=np.full(k, np.nan), where=size > 0) + cells.centre
    return pd.DataFrame(
        {
            "unit": coins.chains[coins.chain],
            "slice": coins.number,
            "start": local_times(coins.start, rotation.kind, rotation.zone),
            "end": local_times(coins.end, rotation.kind, rotation.zone),
            "arm": coins.arm,
            "n": np.bincount(last, cells.n, k).astype(np.int64),
            "mean": mean,
            "read": size > 0,
            "stratum": coins.stratum,
        }
    )
