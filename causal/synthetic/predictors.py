"""Predictors of a synthetic control: what units are matched on, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.frame import check_one_of
from causal.panel.adoption import shown
from causal.panel.unit_panel import warn
from causal.values import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from causal.panel.times import Times
    from causal.synthetic.donor_pool import DonorPool

PredictorWeights: TypeAlias = Literal["nested", "equal", "inverse_variance"] | Mapping[str, float]

_HOW = ("mean", "last", "sum")
_N_STARTS = 9  # beside each predictor alone
_LEFT_OUT = -60.0  # log V


@dataclass(frozen=True, slots=True)
class Predictor:
    """One number by unit that the synthetic control should share with the treated unit.

    Parameters
    ----------
    column : str
        Numeric column; the outcome's own column is allowed.
    start, stop : time, optional
        First and last period that enter, both included; by default the first observed period and
        the last one before treatment. The window must end before treatment.
    how : {"mean", "last", "sum"}
        What is taken over the window. "mean" and "last" leave missing values out, "sum" needs all.

    Raises
    ------
    TypeError
        If `column` is not text.
    ValueError
        If `how` is not one of the three.

    Examples
    --------
    >>> Predictor("gmv", start=20, stop=30).label
    'mean of gmv, 20 to 30'
    """

    column: str
    start: Any = None
    stop: Any = None
    how: Literal["mean", "last", "sum"] = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.column, str):
            raise TypeError(f"a predictor must name a column as text; got {self.column!r}")
        check_one_of(self.how, "how", _HOW)

    @property
    def label(self) -> str:
        """The predictor in words."""
        window = ""
        if self.start is not None or self.stop is not None:
            first = "the first" if self.start is None else self.start
            window = f", {first} to {'the start' if self.stop is None else self.stop}"
        return f"{self.how} of {self.column}{window}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictorTable:
    """Predictors of all units of a pool.

    Parameters
    ----------
    labels : tuple of str, length k
    raw : array (n, k)
    standard : array (n, k)
        Less the mean, over the standard deviation of all units.
    spread : array (k,)
        That standard deviation.
    given : array (k,), optional
        Predictor weights that sum to 1; None where they are searched for.
    starts : array (s, k)
        Logarithms of weights from which the search starts; none where they are given.
    """

    labels: tuple[str, ...]
    raw: NDArray[np.float64]
    standard: NDArray[np.float64]
    spread: NDArray[np.float64]
    given: NDArray[np.float64] | None
    starts: NDArray[np.float64]


def predictor_table(
    pool: DonorPool,
    outcome: str,
    predictors: Sequence[Predictor],
    weights: PredictorWeights,
    *,
    seed: int,
) -> tuple[DonorPool, PredictorTable]:
    """Predictors of a pool, and the pool without donors that lack one.

    Raises
    ------
    ValueError
        If predictors repeat, a window is empty or reaches into the time after treatment, a
        treated unit lacks a predictor, one is constant, or weights do not fit.

    Warns
    -----
    EstimationWarning
        For donors that were dropped because they lack a predictor.
    """
    labels = tuple(p.label for p in predictors)
    if len(set(labels)) < len(labels):
        raise ValueError(f"predictors must differ; got {list(labels)}; name each once")
    pre = int(pool.first.min())
    raw = np.column_stack([_of_units(pool, outcome, p, pre) for p in predictors])
    lacking = np.isnan(raw)
    if lacking[: pool.n_treated].any():
        which = [labels[h] for h in np.flatnonzero(lacking[: pool.n_treated].any(axis=0))]
        raise ValueError(
            f"treated units must have every predictor; missing: {shown(which)}; fill the column "
            "or choose another window"
        )
    dropped = np.flatnonzero(lacking.any(axis=1))
    if len(dropped):
        which = [labels[h] for h in np.flatnonzero(lacking.any(axis=0))]
        warn(
            f"{len(dropped)} of {pool.n_donors} donors lack a predictor ({shown(which)}) and were "
            f"dropped: {shown(pool.labels[dropped])}",
        )
        pool, raw = pool.without(dropped), np.delete(raw, dropped, axis=0)
    centred = raw - raw.mean(axis=0)
    size = np.abs(centred).max(axis=0)
    flat = size <= 1e-12 * np.abs(raw).max(axis=0)
    if flat.any():
        raise ValueError(
            f"predictors must differ between units; {labels[int(flat.argmax())]!r} is the same for "
            "all; leave it out"
        )
    standard = centred / size
    deviation = standard.std(axis=0, ddof=1)
    standard /= deviation
    given = _given_weights(weights, predictors, labels)
    starts = np.zeros((0, len(labels)))
    if given is None:
        starts = _starts(standard, pool.outcome[:, :pre], seed)
    table = PredictorTable(
        labels=labels,
        raw=raw,
        standard=standard,
        spread=size * deviation,
        given=given,
        starts=starts,
    )
    return pool, table


def _of_units(pool: DonorPool, outcome: str, predictor: Predictor, pre: int) -> NDArray[np.float64]:
    """One predictor of all units, NaN where it is missing, (n,)."""
    values = pool.outcome if predictor.column == outcome else pool.covariates[predictor.column]
    begin, end = _window(predictor, pool.times, pre)
    part = values[:, begin:end]
    seen = ~np.isnan(part)
    if predictor.how == "last":
        last = part.shape[1] - 1 - seen[:, ::-1].argmax(axis=1)
        return np.asarray(part[np.arange(len(part)), last])
    if predictor.how == "sum":
        return np.asarray(part.sum(axis=1))
    count = seen.sum(axis=1)
    total = np.where(seen, part, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _window(predictor: Predictor, times: Times, pre: int) -> tuple[int, int]:
    """First position of the window and the one after its last."""
    begin = 0
    if predictor.start is not None:
        begin = times.position(predictor.start, f"start of predictor {predictor.column!r}")
    end = pre
    if predictor.stop is not None:
        stop = times.comparable(predictor.stop, f"stop of predictor {predictor.column!r}")
        end = int(np.searchsorted(times.values, stop, side="right"))
    if end > pre:
        raise ValueError(
            f"the window of predictor {predictor.column!r} must end before treatment starts at "
            f"{times.labels[pre]!r}; its stop is {predictor.stop!r}; give an earlier stop"
        )
    if begin >= end:
        raise ValueError(
            f"the window of predictor {predictor.column!r} must hold an observed period before "
            f"treatment starts at {times.labels[pre]!r}; got {predictor.start!r} to "
            f"{predictor.stop!r}; give other times"
        )
    return begin, end


def _given_weights(
    weights: PredictorWeights, predictors: Sequence[Predictor], labels: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """Weights that need no search, of sum 1; None for "nested"."""
    k = len(labels)
    if isinstance(weights, Mapping):
        columns = [p.column for p in predictors]
        names = [
            c if c in weights and columns.count(c) == 1 else label
            for c, label in zip(columns, labels, strict=True)
        ]
        missing = [name for name in names if name not in weights]
        unknown = [name for name in weights if name not in names]
        if missing or unknown:
            raise ValueError(
                f"predictor_weights must name every predictor, by label or by its column; missing "
                f"{missing[:3]}, unknown {unknown[:3]}; the labels are {list(labels)[:5]}"
            )
        values = [weights[name] for name in names]
        fine = all(is_number(v) and np.isfinite(v) and v >= 0 for v in values)
        if not fine or sum(values) <= 0:
            raise ValueError(
                f"predictor_weights must be finite numbers >= 0, not all 0; got {values[:5]}; "
                "correct them"
            )
        return np.asarray(values, dtype=np.float64) / sum(values)
    check_one_of(weights, "predictor_weights", ("nested", "equal", "inverse_variance"))
    if weights == "nested" and k > 1:
        return None
    return np.full(k, 1.0 / k)  # standardised: equal weights are those of inverse variance


def _starts(
    standard: NDArray[np.float64], before: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Logarithms of weights: by regression, equal, quasi-random, each alone, (s, k)."""
    k = standard.shape[1]
    centred = before - before.mean(axis=0)
    centred = centred / (np.abs(centred).max() or 1.0)
    slopes = np.linalg.lstsq(standard, centred, rcond=None)[0]
    explained = (slopes**2).sum(axis=1)
    regression = np.log(np.maximum(explained / (explained.max() or 1.0), 1e-6))
    # additive recurrence by the powers of the generalised golden ratio, turned by the seed
    golden = 2.0
    for _ in range(64):
        golden = (1.0 + golden) ** (1.0 / (k + 1))
    steps = np.arange(1, _N_STARTS - 1)[:, None] * golden ** -np.arange(1.0, k + 1)
    shares = (steps + np.random.default_rng(seed).random(k)) % 1.0
    spread = np.log(np.maximum(-np.log(np.maximum(shares, 1e-12)), 1e-12))  # uniform on V
    single = np.where(np.eye(k, dtype=bool), 0.0, _LEFT_OUT)
    return np.ascontiguousarray(np.vstack([regression, np.zeros(k), spread, single]))
