"""What the page shows of a result: texts for its tables, drawings, and the methods in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.report import svg
from experiments.report.answer import agreement
from experiments.report.wording import (
    GAP,
    change_text,
    correction,
    interval_text,
    level_in_percent,
    level_text,
    listed,
    p_text,
    percent,
    signed_percent,
)
from experiments.study.study_effects import POPULATION
from experiments.study.study_result import OVERLAP, relative_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal.effect import Effect
    from experiments.splits.scorecard import ScorecardRow
    from experiments.study.study_result import CurveReadout, PolicyReadout, Section, StudyResult

_MOST_LINES = 12
_LEAST_SAVED = 1e-9
_DECIDED = frozenset({"better", "worse", "non-inferior", "inferior"})


def scorecard_views(result: StudyResult) -> list[dict[str, Any]]:
    """One table and one forest plot a section."""
    views = []
    for section in result.sections:
        if section.scorecard is None:
            continue
        rows = section.scorecard.rows
        several = len({str(row.treatment) for row in rows}) > 1
        texts = [
            text
            for row in rows
            for text in _scorecard_lines(section, row, result.level, several=several)
        ]
        views.append(
            {
                "name": section.name,
                "control": section.control,
                "treatments": listed(list(dict.fromkeys(str(row.treatment) for row in rows))),
                "adjusted": any(_saved(row) != GAP for row in rows),
                "rows": texts,
                "drawing": _relative_forest(section, result.level, several=several),
            }
        )
    return views


def _scorecard_lines(
    section: Section, row: ScorecardRow, level: float, *, several: bool
) -> Iterator[dict[str, Any]]:
    """The main line of a metric, and its second look."""
    arm = str(row.treatment)
    main = _effect_texts(row.effect, section.units.get(row.metric, ""), level)
    note = section.descriptions.get(row.metric, row.role)
    yield {
        **main,
        "label": f"{row.metric}, {arm}" if several else row.metric,
        "note": note,
        "second": False,
        "p_adjusted": row.p_adjusted if row.role == "goal" else None,
        "verdict": row.verdict,
        "variance_reduction": _saved(row),
    }
    triggered = section.triggered.get((row.metric, arm))
    if triggered is not None:
        rate: Any = triggered.details["trigger_rate"]
        note = f"{percent(rate)} were; the line above is the effect over all"
        yield _more_line(section, row, triggered, level, "among the triggered", note)
    second = section.second_look.get((row.metric, arm))
    if second is not None:
        note = f"errors clustered by {section.second_cluster}"
        yield _more_line(section, row, second, level, "second look", note)


def _saved(row: ScorecardRow) -> str:
    """Share of the variance that covariates took away; a dash where nothing was adjusted."""
    share = row.variance_reduction
    return percent(share) if abs(share) >= _LEAST_SAVED else GAP


def _more_line(
    section: Section, row: ScorecardRow, effect: Effect, level: float, label: str, note: str
) -> dict[str, Any]:
    """A line below the main line of a metric."""
    return {
        **_effect_texts(effect, section.units.get(row.metric, ""), level),
        "label": label,
        "note": note,
        "second": True,
        "p_adjusted": None,
        "verdict": "none",
        "variance_reduction": GAP,
    }


def _effect_texts(effect: Effect, unit: str, level: float) -> dict[str, Any]:
    """The texts of one effect."""
    low, high = effect.conf_int(level)
    relative = relative_record(effect, level)
    share, share_low, share_high = relative.values()
    known = share is not None and share_low is not None and share_high is not None
    return {
        "control": level_text(effect.baseline, unit) if effect.baseline is not None else GAP,
        "change": change_text(effect.estimate, unit),
        "interval": interval_text(low, high, unit, change=True),
        "relative": signed_percent(share) if share is not None else GAP,
        "relative_interval": _percent_interval(share_low, share_high) if known else "",
        "p": effect.p_value,
        "n": effect.n_obs,
        "clusters": effect.n_clusters,
    }


def _percent_interval(low: float | None, high: float | None) -> str:
    """Limits of a relative effect in percent."""
    return (
        interval_text(low or 0.0, high or 0.0, "%").removesuffix("%").rstrip()
        + "\N{NO-BREAK SPACE}%"
    )


def _relative_forest(section: Section, level: float, *, several: bool) -> svg.Forest | None:
    """Relative effects of all metrics on one axis."""
    intervals = []
    for row in section.scorecard.rows if section.scorecard is not None else ():
        share, low, high = relative_record(row.effect, level).values()
        if share is None or low is None or high is None:
            continue
        intervals.append(
            svg.Interval(
                label=f"{row.metric}, {row.treatment}" if several else row.metric,
                text=signed_percent(share),
                estimate=share,
                low=low,
                high=high,
                decided=row.verdict in _DECIDED,
            )
        )
    if not intervals:
        return None
    return svg.forest(
        intervals[:_MOST_LINES],
        title="Relative effects",
        description="; ".join(
            f"{i.label}: {i.text}, {level_in_percent(level)} CI {_percent_interval(i.low, i.high)}"
            for i in intervals[:_MOST_LINES]
        ),
        axis_label=f"effect relative to {section.control} in %, with {level_in_percent(level)} CI"
        + _cut(len(intervals)),
        scale=100.0,
    )


def _cut(n: int) -> str:
    """What a forest plot says of the lines that it leaves out."""
    return f"; the first {_MOST_LINES} of {n:,}" if n > _MOST_LINES else ""


def curve_views(result: StudyResult, *, most_drawings: int) -> list[dict[str, Any]]:
    """Drawings and tables by day and by segment for each section that has some."""
    views, room = [], most_drawings
    for section in result.sections:
        if not section.curves:
            continue
        drawn = section.curves[:room]
        room -= len(drawn)
        views.append(
            {
                "name": section.name,
                "drawings": [_curve_drawing(section, c, result.level) for c in drawn],
                "tables": [_curve_table(section, c, result.level) for c in drawn],
                "left_out": len(section.curves) - len(drawn),
            }
        )
    return views


def _curve_title(section: Section, readout: CurveReadout) -> str:
    """``watch by day``; with the arm where there are several."""
    rows = section.scorecard.rows if section.scorecard is not None else ()
    several = len({str(row.treatment) for row in rows}) > 1
    arm = f", {readout.treatment}" if several else ""
    return f"{readout.metric}{arm} by {readout.curve.index_name}"


def _curve_drawing(section: Section, readout: CurveReadout, level: float) -> svg.Forest | svg.Days:
    """A band over days, or a forest over segments."""
    unit = section.units.get(readout.metric, "")
    curve, scale = readout.curve, 100.0 if unit == "%" else 1.0
    limits = [(float(low), float(high)) for low, high in curve.conf_int(level)]
    estimates = [float(e) for e in curve.estimate]
    title = _curve_title(section, readout)
    axis = f"effect{' in pp' if unit == '%' else f' in {unit}' if unit else ''}"
    if readout.kind == "day":
        last = interval_text(*limits[-1], unit, change=True)
        return svg.days(
            [str(label) for label in curve.index],
            estimates,
            limits,
            readout.always_valid,
            title=title,
            description=(
                f"Cumulative effect; on the last day {change_text(estimates[-1], unit)}, "
                f"{level_in_percent(level)} CI {last}"
            ),
            axis_label=f"{axis}, cumulative",
            scale=scale,
        )
    adjusted = readout.p_adjusted or (1.0,) * len(estimates)
    shown = list(zip(curve.index, estimates, limits, adjusted, strict=True))[:_MOST_LINES]
    return svg.forest(
        [
            svg.Interval(
                label=str(label),
                text=change_text(estimate, unit),
                estimate=estimate,
                low=low,
                high=high,
                decided=p < 1 - level,
            )
            for label, estimate, (low, high), p in shown
        ],
        title=title,
        description="; ".join(
            f"{label}: {change_text(e, unit)}, {level_in_percent(level)} CI "
            f"{interval_text(low, high, unit, change=True)}"
            for label, e, (low, high), _ in shown
        ),
        axis_label=axis + _cut(len(estimates)),
        scale=scale,
    )


def _curve_table(section: Section, readout: CurveReadout, level: float) -> dict[str, Any]:
    """The numbers of one curve."""
    unit, curve = section.units.get(readout.metric, ""), readout.curve
    if readout.kind == "day":
        last = [interval_text(*pair, unit, change=True) for pair in readout.always_valid]
    else:
        last = [p_text(p) for p in readout.p_adjusted]
    limits = curve.conf_int(level)
    rows = [
        {
            "label": str(label),
            "change": change_text(float(curve.estimate[j]), unit),
            "interval": interval_text(float(limits[j, 0]), float(limits[j, 1]), unit, change=True),
            "last": last[j] if last else GAP,
        }
        for j, label in enumerate(curve.index)
    ]
    return {
        "title": _curve_title(section, readout),
        "by": curve.index_name,
        "method": curve.method,
        "last": "At every look" if readout.kind == "day" else "p, adjusted",
        "rows": rows,
    }


def policy_views(result: StudyResult, *, most_drawings: int, most: int) -> list[dict[str, Any]]:
    """Values, overlap and drawings of the first policies of each section."""
    views, room = [], most_drawings // 2
    for section in result.sections:
        if not section.policies:
            continue
        shown = section.policies[:most]
        views.append(
            {
                "name": section.name,
                "policies": [
                    _policy_view(policy, result.level, draw=j < room)
                    for j, policy in enumerate(shown)
                ],
                "left_out": len(section.policies) - len(shown),
                "not_drawn": max(len(shown) - room, 0),
            }
        )
        room = max(room - len(shown), 0)
    return views


def _policy_view(policy: PolicyReadout, level: float, *, draw: bool) -> dict[str, Any]:
    """The texts and drawings of one policy."""
    rows = [_value_texts(policy, "logging policy", policy.logging, level, known=True)]
    if policy.on_policy is not None:
        rows.append(_value_texts(policy, "on-policy", policy.on_policy, level, known=True))
    rows += [
        _value_texts(policy, method, value, level, known=False)
        for method, value in policy.estimates.items()
    ]
    return {
        "name": policy.name,
        "log": policy.log,
        "target": policy.target,
        "reward": policy.reward,
        "average": policy.average_policy,
        "agreement": agreement(policy, level),
        "rows": rows,
        "compared": policy.on_policy is not None,
        "overlap": {name: getattr(policy.diagnostics, name) for name in OVERLAP},
        "n_rewards": policy.n_rewards,
        "drawings": [_value_forest(policy, level), _weights(policy)] if draw else [],
    }


def _value_texts(
    policy: PolicyReadout, label: str, value: Effect, level: float, *, known: bool
) -> dict[str, Any]:
    """One line of a policy's table; `known` marks means that need no weights."""
    low, high = value.conf_int(level)
    mean = policy.on_policy
    compared = mean is not None and not known
    notes = {
        "logging policy": f"mean of {policy.log}",
        "on-policy": f"mean of {policy.on_policy_rows}",
    }
    return {
        "label": label,
        "note": notes.get(label, "") if known else value.method,
        "value": level_text(value.estimate, policy.unit),
        "interval": interval_text(low, high, policy.unit),
        "against": change_text(value.estimate - mean.estimate, policy.unit)
        if compared and mean is not None
        else GAP,
        "n": value.n_obs,
        "known": known,
    }


def _value_forest(policy: PolicyReadout, level: float) -> svg.Forest:
    """Values by method, with the on-policy mean as a band."""
    intervals = []
    for method, value in policy.estimates.items():
        low, high = value.conf_int(level)
        text = level_text(value.estimate, policy.unit)
        intervals.append(
            svg.Interval(
                label=method, text=text, estimate=value.estimate, low=low, high=high, decided=True
            )
        )
    mean = policy.on_policy
    band = None
    if mean is not None:
        low, high = mean.conf_int(level)
        band = (low, mean.estimate, high)
    unit = f" in {policy.unit}" if policy.unit else ""
    beside = "; shaded: the on-policy mean and its CI" if band else ""
    return svg.forest(
        intervals,
        title=f"Estimates: {policy.name}",
        description="; ".join(
            f"{i.label}: {i.text}, {level_in_percent(level)} CI "
            f"{interval_text(i.low, i.high, policy.unit)}"
            for i in intervals
        ),
        axis_label=f"mean {policy.reward}{unit}, with {level_in_percent(level)} CI{beside}",
        reference=None,
        band=band,
        scale=100.0 if policy.unit == "%" else 1.0,
    )


def _weights(policy: PolicyReadout) -> svg.Weights:
    """The weights of one policy."""
    spread = policy.diagnostics
    return svg.weights(
        policy.histogram,
        title=f"Weights: {policy.name}",
        description=(
            f"Importance weights on the log scale; mean {spread.mean_weight:.3g}, largest "
            f"{spread.max_weight:.3g}, {spread.ess:.0f} effective of {spread.n_obs:,} rows"
        ),
    )


def methods_view(result: StudyResult) -> dict[str, list[Any]]:
    """Which methods were used, what they assume, and what nobody corrected for."""
    compares = any(section.scorecard is not None for section in result.sections)
    values = any(section.policies for section in result.sections)
    assumed: list[str] = []
    missing: list[str] = []
    if compares:
        assumed += _assumed_by_experiments(result)
        missing += _not_corrected_in_experiments(result)
    if values:
        assumed += _assumed_by_policies(result)
        missing += [
            "Policies that learn while they log: each propensity is taken as it was logged.",
            "Several methods for one policy: each interval stands for itself.",
        ]
    if len(result.sections) > 1:
        missing.append(
            "Several logs: each one is read by itself, and p-values hold within one log."
        )
    missing.append("Rewards that arrive after the log was written.")
    return {
        "estimators": list(dict.fromkeys(_estimators(result))),
        "assumed": assumed,
        "not_corrected": missing,
    }


def _estimators(result: StudyResult) -> Iterator[tuple[str, str]]:
    """Name and method of every kind of number."""
    for section in result.sections:
        rows = section.scorecard.rows if section.scorecard is not None else ()
        named = [(row.metric, row.effect.method) for row in rows]
        yield from named
        for (metric, _), effect in section.triggered.items():
            yield f"{metric}, among the triggered", effect.method
        for (metric, _), effect in section.second_look.items():
            yield f"{metric}, second look", effect.method
        known = [method for _, method in named]
        for readout in section.curves:
            method = readout.curve.method
            if not any(_same_method(method, other) for other in known):
                yield f"{readout.metric} by {readout.curve.index_name}", method
        for policy in section.policies:
            for method, value in policy.estimates.items():
                yield f"value by {method}", value.method


def _same_method(curve: str, other: str) -> bool:
    """Whether a curve was estimated as an effect was, and has the same kind of error."""
    return curve.startswith(other) and (POPULATION in curve) == (POPULATION in other)


def _assumed_by_experiments(result: StudyResult) -> list[str]:
    """Assumptions of the scorecard."""
    first = result.sections[0]
    clustered = any(
        row.effect.n_clusters is not None
        for section in result.sections
        if section.scorecard is not None
        for row in section.scorecard.rows
    )
    rows = (
        f"Rows of one {first.log.unit} may depend on each other; different ones do not."
        if clustered
        else "Rows are independent of each other."
    )
    texts = [
        "Arms were drawn at random. Each effect is an average treatment effect: the difference of "
        "the metric's expectations with and without the treatment (Rubin's model).",
        "What one unit does is not changed by the arm of another. On a live platform viewers share "
        "rooms and streamers share viewers, so a launch for all can have another effect.",
        rows,
    ]
    if first.second_cluster:
        texts.append(
            f"The second look lets rows of the same {first.second_cluster} depend on each other, "
            "because the log does not say which rows belong to one viewer."
        )
    if any(section.triggered for section in result.sections):
        texts.append(
            "Units that were not triggered cannot be affected: the effect over all units is the "
            "one among triggered units times their share."
        )
    if any(POPULATION in method for _, method in _estimators(result)):
        texts.append(
            f"“{POPULATION}”: the regression's error takes the mean of the covariates as known; "
            "where estimating it adds more than 1 %, the error over the population is shown."
        )
    if any(readout.always_valid for section in result.sections for readout in section.curves):
        texts.append(
            "The confidence sequence holds for large samples (Waudby-Smith et al. 2024); its "
            "tightest point was set beforehand at 5,000 observations."
        )
    return texts


def _not_corrected_in_experiments(result: StudyResult) -> list[str]:
    """What the scorecard leaves open."""
    texts = [
        "Looks at the scorecard before the planned end: its intervals hold for one look.",
        "Novelty and learning: effects are those of the days in the log.",
        "Guardrails are tested one by one, since all of them must hold; p-values are adjusted over "
        f"the goals only ({correction(result.adjust)}), intervals are not: each holds for itself.",
    ]
    if any(readout.kind == "segment" for section in result.sections for readout in section.curves):
        texts.append(
            "Segments are adjusted within one metric and one segment column, not over all of them."
        )
    return texts


def _assumed_by_policies(result: StudyResult) -> list[str]:
    """Assumptions of the policy values."""
    texts = [
        "The logged propensity is the probability with which the row's action was really drawn.",
        "The target policy shows nothing that the logging policy could never show; the unsupported "
        "mass says how much of it does.",
        "The reward of a row depends on its own action and features, not on other rows.",
    ]
    if any(policy.average_policy for section in result.sections for policy in section.policies):
        texts.append(
            "A target policy that is known only through its own log is taken as the average of "
            "what it chose in each cell; the uncertainty of these shares is part of the interval."
        )
    return texts
