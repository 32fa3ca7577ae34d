"""Sections on a rotation that was read: its test, its residuals, how long treatment matters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.report.report_sections import (
    ESTIMATE_COLUMNS,
    ReportSection,
    SectionTable,
    change_column,
    count_column,
    frame_of,
    given_column,
    number_column,
    p_column,
    text_column,
)
from experiments.report.svg_charts import (
    Column,
    Guide,
    Row,
    Series,
    bar_chart,
    line_chart,
    row_chart,
)
from experiments.report.wording import (
    change_text,
    counted,
    digits,
    interval_text,
    level_in_percent,
    p_equation,
)

if TYPE_CHECKING:
    from causal.effect import EffectCurve
    from experiments.report.svg_marks import Picture
    from experiments.rotations.carryover import CarryoverBound
    from experiments.rotations.switchback import SwitchbackEffect

_CI = "95\N{NO-BREAK SPACE}% CI; filled: 0 lies outside it, hollow: inside"
_BINS = 30
_MOST_LAGS = 12
_MOST_ROWS = 24
_LEAST_SLICES = 8


def switchback_sections(read: SwitchbackEffect) -> tuple[ReportSection, ...]:
    """The effect of a rotation, the paths that it stands among, and what is left of its slices.

    Parameters
    ----------
    read : SwitchbackEffect

    Returns
    -------
    tuple of ReportSection
        Read-out and, where there are slices enough, autocorrelation of the residuals.
    """
    found = [_read_out(read)]
    lags = residual_acf(read.slices)
    if len(lags):
        found.append(_acf_section(lags))
    return tuple(found)


def residual_acf(slices: pd.DataFrame, *, most_lags: int = _MOST_LAGS) -> pd.DataFrame:
    """Autocorrelation of what arm and stratum leave of the slices' means.

    Parameters
    ----------
    slices : DataFrame
        Of a `SwitchbackEffect`.
    most_lags : int

    Returns
    -------
    DataFrame
        lag (in slices), correlation, limit (two standard errors without any), n_pairs; empty below
        eight slices that are read, or where nothing is left.

    Notes
    -----
    Least squares of the mean on arm and stratum, slices weighted by rows; pairs within a unit.
    """
    read = slices[slices["read"] & slices["mean"].notna()].sort_values(["unit", "slice"])
    columns = ["lag", "correlation", "limit", "n_pairs"]
    if len(read) < _LEAST_SLICES:
        return pd.DataFrame(columns=columns)
    strata = pd.get_dummies(read["stratum"].astype(str)).to_numpy(dtype=np.float64)
    x = np.column_stack([strata, read["arm"].to_numpy(dtype=np.float64)])
    y = read["mean"].to_numpy(dtype=np.float64)
    y = y - y.mean()
    root = np.sqrt(read["n"].to_numpy(dtype=np.float64))[:, None]
    e = y - x @ np.linalg.lstsq(root * x, root[:, 0] * y, rcond=None)[0]
    variance = float(np.mean(e**2))
    if variance <= 1e-20 * float(np.mean(y**2)) or variance == 0:
        return pd.DataFrame(columns=columns)
    unit, number = read["unit"].to_numpy(), read["slice"].to_numpy()
    rows = []
    for lag in range(1, min(most_lags, len(e) // 4) + 1):
        pairs = (unit[lag:] == unit[:-lag]) & (number[lag:] - number[:-lag] == lag)
        n = int(pairs.sum())
        if n < _LEAST_SLICES // 2:
            break
        correlation = float(np.mean((e[lag:] * e[:-lag])[pairs])) / variance
        rows.append((lag, correlation, 2 / math.sqrt(n), n))
    return pd.DataFrame(rows, columns=columns)


def burn_in_section(curve: EffectCurve) -> ReportSection:
    """The effect against the burn-in, with where it stops moving.

    Parameters
    ----------
    curve : EffectCurve
        From `burn_in_curve`.

    Returns
    -------
    ReportSection
    """
    frame = _curve_frame(curve)
    details: Any = curve.details
    plateau = details.get("plateau_p_values", ())
    frame["plateau_p"] = [*plateau, *([None] * (len(frame) - len(plateau)))]
    start = details.get("plateau_from")
    said = (
        "The effect moves up to the last burn-in: treatment still matters there, so take longer "
        "slices."
        if start is None
        else f"From a burn-in of {start:g} on no movement of the effect can be shown. That is no "
        "proof of a plateau: later points have fewer rows."
    )
    picture = line_chart(
        [_series(frame)],
        title="Effect against burn-in",
        description=_described(frame),
        caption=f"effect by length of the burn-in (minutes, or periods), with {_CI}",
        up=[] if start is None else [Guide(float(start), "plateau")],
        across=[Guide(0.0)],
    )
    columns = (
        given_column("at", "Burn-in"),
        change_column("estimate", "Effect"),
        number_column("low", "Low"),
        number_column("high", "High"),
        p_column("plateau_p", "p of no movement beyond"),
    )
    table = SectionTable(name="burn_in", caption=curve.method, frame=frame, columns=columns)
    return ReportSection(
        key="burn_in",
        title="Effect and burn-in",
        sentences=(said,),
        tables=(table,),
        drawings=(picture,),
    )


def carryover_section(bound: CarryoverBound) -> ReportSection:
    """The effect against the assumed order of carry-over, and what the log refutes.

    Parameters
    ----------
    bound : CarryoverBound

    Returns
    -------
    ReportSection
    """
    frame = _curve_frame(bound.estimates)
    picture = line_chart(
        [_series(frame)],
        title="Effect against assumed carry-over",
        description=_described(frame),
        caption=f"effect by assumed length of carry-over in {bound.unit}, with {_CI}",
        up=[Guide(bound.lower_bound, "longer than")] if bound.shown else [],
        across=[Guide(0.0)],
    )
    steps = SectionTable(
        name="orders",
        caption="Is the effect the same if treatment matters longer? Holm over the ladder",
        frame=bound.table,
        columns=(
            given_column("order", "Order"),
            given_column("next_order", "Next"),
            change_column("difference", "Difference"),
            number_column("std_error", "Std. error"),
            p_column("p_value", "p"),
            p_column("p_adjusted", "p, adjusted"),
        ),
    )
    effects = SectionTable(
        name="effects",
        caption=bound.estimates.method,
        frame=frame,
        columns=(
            given_column("at", f"Order in {bound.unit}"),
            change_column("estimate", "Effect"),
            number_column("low", "Low"),
            number_column("high", "High"),
        ),
        folded=True,
    )
    return ReportSection(
        key="carryover",
        title="How long treatment matters",
        sentences=tuple(f"{part[:1].upper()}{part[1:]}." for part in bound.summary().split("; ")),
        tables=(steps, effects),
        drawings=(picture,),
    )


def switches_section(curve: EffectCurve) -> ReportSection:
    """The event study round switches.

    Parameters
    ----------
    curve : EffectCurve
        From `switch_event_study`.

    Returns
    -------
    ReportSection
    """
    frame = _curve_frame(curve)
    picture = line_chart(
        [_series(frame)],
        title="Round switches",
        description=_described(frame),
        caption="outcome round switches to treatment minus round switches away, by time since the "
        f"switch (minutes, or periods), with {_CI}",
        up=[Guide(0.0, "switch")],
        across=[Guide(0.0)],
    )
    columns = (
        given_column("at", "Since the switch"),
        change_column("estimate", "Difference"),
        number_column("low", "Low"),
        number_column("high", "High"),
    )
    table = SectionTable(
        name="switches", caption=curve.method, frame=frame, columns=columns, folded=True
    )
    return ReportSection(
        key="switches",
        title="Round switches",
        sentences=(
            f"{counted(curve.n_clusters or 0, 'switch').replace('switchs', 'switches')}. Without "
            "carry-over the curve jumps at 0 from minus the effect to plus the effect; the time "
            "that it takes to get there is carry-over, and what moves before 0 is anticipation.",
        ),
        tables=(table,),
        drawings=(picture,),
    )


def curve_section(curve: EffectCurve) -> ReportSection:
    """Effects over any index: segments, shares, lags.

    Parameters
    ----------
    curve : EffectCurve

    Returns
    -------
    ReportSection
    """
    frame = _curve_frame(curve)
    numeric = pd.api.types.is_numeric_dtype(frame["at"])
    by = curve.index_name
    caption = f"{curve.estimand} by {by}, with {_CI}"
    described = _described(frame)
    title = f"{curve.estimand[:1].upper()}{curve.estimand[1:]} by {by}"
    picture = (
        line_chart(
            [_series(frame)],
            title=title,
            description=described,
            caption=caption,
            across=[Guide(0.0)],
        )
        if numeric
        else row_chart(
            [
                Row(
                    label=str(row["at"]),
                    text=change_text(row["estimate"]),
                    middle=row["estimate"],
                    low=row["low"],
                    high=row["high"],
                    filled=not row["low"] <= 0 <= row["high"],
                )
                for row in frame.to_dict("records")[:_MOST_ROWS]
            ],
            title=title,
            description=described,
            caption=caption + (f"; the first {_MOST_ROWS}" if len(frame) > _MOST_ROWS else ""),
            line=0.0,
        )
    )
    columns = (
        number_column("at", by) if numeric else text_column("at", by),
        change_column("estimate", "Effect"),
        number_column("std_error", "Std. error"),
        number_column("low", "Low"),
        number_column("high", "High"),
    )
    table = SectionTable(name="curve", caption=curve.method, frame=frame, columns=columns)
    return ReportSection(key="curve", title=title, tables=(table,), drawings=(picture,))


# --- parts ----------------------------------------------------------------------------------------


def _read_out(read: SwitchbackEffect) -> ReportSection:
    """Effect, slices and the paths that could have been."""
    low, high = read.conf_int()
    level = level_in_percent(read.level)
    used = read.slices[read.slices["read"]]
    by_arm = used.groupby("arm")["mean"].agg(["count", "mean"])
    sentences = [
        f"Treated minus untreated: {change_text(read.estimate)} ({level} CI "
        f"{interval_text(low, high)}, {p_equation(read.p_value)}); {read.effect.method}, "
        f"{read.inference}.",
        "; ".join(
            f"{'treated' if arm == 1 else 'untreated'}: {counted(int(row['count']), 'slice')}, "
            f"mean {digits(float(row['mean']))}"
            for arm, row in by_arm.iterrows()
        )
        + ".",
    ]
    drawings = []
    if read.test is not None:
        drawings.append(_paths(read))
        sentences.append(
            f"The p-value is the share of {len(read.draws):,} paths of the coins, the own one "
            "among them, whose studentised estimate is as far from 0."
        )
    return ReportSection(
        key="rotation",
        title="Read-out of the rotation",
        sentences=tuple(s[:1].upper() + s[1:] for s in sentences),
        tables=(
            SectionTable(
                name="effect",
                caption="The effect",
                frame=read.to_frame(),
                columns=(
                    text_column("estimand", "Estimand"),
                    *ESTIMATE_COLUMNS,
                    p_column("p_value", "p"),
                    text_column("inference", "Inference"),
                ),
            ),
            _slices_table(read.slices),
        ),
        drawings=tuple(drawings),
    )


def _slices_table(slices: pd.DataFrame) -> SectionTable:
    """One row a slice."""
    return SectionTable(
        name="slices",
        caption="Slices",
        frame=slices.assign(**{name: slices[name].astype(str) for name in ("start", "end")}),
        columns=(
            count_column("slice", "Slice"),
            text_column("unit", "Unit"),
            text_column("start", "From"),
            count_column("arm", "Arm"),
            count_column("n", "Rows"),
            number_column("mean", "Mean"),
        ),
        folded=True,
    )


def _paths(read: SwitchbackEffect) -> Picture:
    """The randomisation distribution with the observed value."""
    test = read.test
    draws = np.asarray(read.draws, dtype=np.float64)
    observed = test.estimate / test.std_error if test is not None and test.std_error > 0 else 0.0
    finite = draws[np.isfinite(draws)]
    reach = max(float(np.abs(finite).max(initial=1.0)), abs(observed)) * 1.0001
    counts, edges = np.histogram(finite, bins=_BINS, range=(-reach, reach))
    columns = [
        Column(float(a), float(b), float(n), strong=min(abs(a), abs(b)) >= abs(observed))
        for a, b, n in zip(edges, edges[1:], counts, strict=False)
    ]
    return bar_chart(
        columns,
        title="Paths that the coins could have taken",
        description=f"{len(finite):,} studentised estimates from {digits(finite.min())} to "
        f"{digits(finite.max())}; observed {digits(observed)}, {p_equation(read.p_value)}",
        caption="number of paths by studentised estimate; line: observed; dark: as far from 0",
        up=[Guide(observed, "observed")],
    )


def _acf_section(lags: pd.DataFrame) -> ReportSection:
    """Autocorrelation of the residuals."""
    first = lags.iloc[0]
    beyond = abs(first["correlation"]) > first["limit"]
    picture = bar_chart(
        [
            Column(lag - 0.4, lag + 0.4, c, strong=abs(c) > limit)
            for lag, c, limit in zip(lags["lag"], lags["correlation"], lags["limit"])  # noqa: B905 — columns of one table
        ],
        title="Residuals from slice to slice",
        description="; ".join(
            f"lag {int(lag)}: {digits(c)}"
            for lag, c in zip(lags["lag"], lags["correlation"])  # noqa: B905 — columns of one table
        ),
        caption="autocorrelation by lag in slices; dashed: two standard errors without any",
        x_ticks=[(float(lag), str(int(lag))) for lag in lags["lag"]],
        across=[Guide(float(first["limit"])), Guide(-float(first["limit"]))],
    )
    said = (
        f"Neighbouring slices correlate at {digits(float(first['correlation']))}: outcomes drift, "
        "or treatment carries over. The randomisation test stays valid; the estimate may be "
        "diluted."
        if beyond
        else f"Neighbouring slices correlate at {digits(float(first['correlation']))}, within what "
        "chance gives."
    )
    return ReportSection(
        key="residuals",
        title="Residuals",
        sentences=(said,),
        tables=(
            SectionTable(
                name="autocorrelation",
                caption="Autocorrelation of the slices' residuals",
                frame=lags,
                columns=(
                    count_column("lag", "Lag"),
                    number_column("correlation", "Correlation"),
                    number_column("limit", "Two std. errors"),
                    count_column("n_pairs", "Pairs"),
                ),
                folded=True,
            ),
        ),
        drawings=(picture,),
    )


def _curve_frame(curve: EffectCurve) -> pd.DataFrame:
    """Label, estimate, error and 95 % limits of a curve."""
    limits = curve.conf_int(0.95)
    return frame_of(
        [
            {
                "at": label,
                "estimate": float(curve.estimate[j]),
                "std_error": float(curve.std_error[j]),
                "low": float(limits[j, 0]),
                "high": float(limits[j, 1]),
            }
            for j, label in enumerate(curve.index)
        ]
    )


def _series(frame: pd.DataFrame) -> Series:
    """A curve with its band; marks are filled where 0 is not within the limits."""
    decided = (frame["low"] > 0) | (frame["high"] < 0)
    return Series(
        label="",
        x=frame["at"].astype(float).tolist(),
        y=frame["estimate"].tolist(),
        low=frame["low"].tolist(),
        high=frame["high"].tolist(),
        filled=decided.tolist(),
    )


def _described(frame: pd.DataFrame) -> str:
    """The points in words."""
    return "; ".join(
        f"{row['at']}: {change_text(row['estimate'])} ({interval_text(row['low'], row['high'])})"
        for row in frame.to_dict("records")
    )
