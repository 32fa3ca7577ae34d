"""The answer in three sentences: what was compared, what came out, may it be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from causal.distributions import critical_value
from experiments.report.wording import (
    change_text,
    correction,
    counted,
    interval_text,
    level_in_percent,
    level_text,
    listed,
    p_equation,
    signed_percent,
)
from experiments.study.study_result import relative_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.effect import Effect
    from experiments.splits.multiplicity import Adjust
    from experiments.splits.scorecard import ScorecardRow
    from experiments.study.study_result import PolicyReadout, Section, StudyResult

_MOST_GOALS = 3
_FEW_REWARDS = 100


def three_sentences(result: StudyResult) -> tuple[str, str, str]:
    """What was compared, what came out, and whether it may be trusted.

    Parameters
    ----------
    result : StudyResult

    Returns
    -------
    tuple of str
        Three sentences in plain text.
    """
    return _compared(result), _came_out(result), _trusted(result)


def _sentence(text: str) -> str:
    """With a capital and one full stop."""
    return text[:1].upper() + text[1:].rstrip(". ") + "."


def _compared(result: StudyResult) -> str:
    """Arms, metrics, rows, days."""
    first = result.sections[0]
    if first.scorecard is not None:
        arms = listed(list(dict.fromkeys(str(row.treatment) for row in first.scorecard.rows)))
        metrics = listed(list(dict.fromkeys(row.metric for row in first.scorecard.rows)))
        what = f"this study compares {arms} with {first.control} on {metrics}"
    else:
        names = listed([f"“{policy.name}”" for policy in first.policies])
        what = f"this study values {names} from the log of another policy"
    logs = listed([_log_in_words(section) for section in result.sections])
    days = {_days_in_words(section) for section in result.sections}
    when = f", {days.pop()}" if len(days) == 1 else ""
    return _sentence(f"{what}, in {logs}{when}")


def _log_in_words(section: Section) -> str:
    """``campaign all (20,000 rows)``."""
    log = section.log
    size = counted(log.n_rows, "row")
    if log.n_units is not None and log.unit != "rows":
        size += f" of {log.n_units:,} {log.unit}"
    return f"{section.name} ({size})" if section.name else size


def _days_in_words(section: Section) -> str:
    """``2019-11-24 to 2019-11-30``."""
    log = section.log
    return f"{log.first} to {log.last}" if log.last > log.first else log.first


def _came_out(result: StudyResult) -> str:
    """The goals of each section with their intervals."""
    parts = []
    for section in result.sections:
        found = (
            _scorecard_in_words(section, result.level, result.adjust)
            if section.scorecard is not None
            else _policies_in_words(section, result.level)
        )
        parts.append(f"in {section.name}, {found}" if section.name else found)
    return _sentence("; ".join(parts))


def _scorecard_in_words(section: Section, level: float, adjust: Adjust) -> str:
    """Goals, the decided ones first."""
    rows = section.scorecard.rows if section.scorecard is not None else ()
    goals = [row for row in rows if row.role == "goal"] or list(rows)
    goals.sort(key=lambda row: row.verdict == "inconclusive")
    several = len({str(row.treatment) for row in rows}) > 1
    texts = []
    for row in goals[:_MOST_GOALS]:
        text = _row_in_words(row, section.units.get(row.metric, ""), level, name_arm=several)
        texts.append(f"{text}, {_verdict_in_words(row, level, adjust, len(goals))}")
    if len(goals) > _MOST_GOALS:
        noun = "comparison" if several else "goal"
        texts.append(f"{counted(len(goals) - _MOST_GOALS, f'more {noun}')} below")
    return "; ".join(texts)


def _row_in_words(row: ScorecardRow, unit: str, level: float, *, name_arm: bool) -> str:
    """``watch changed by +1.24 s (+0.8 %, 95 % CI 0.31 to 2.17 s)``."""
    effect = row.effect
    low, high = effect.conf_int(level)
    relative = relative_record(effect, level)["relative"]
    lift = f"{signed_percent(relative)}, " if relative is not None else ""
    change = interval_text(low, high, unit, change=True)
    arm = f" under {row.treatment}" if name_arm else ""
    against = f" from {level_text(effect.baseline, unit)}" if effect.baseline is not None else ""
    return (
        f"{row.metric}{arm} changed by {change_text(effect.estimate, unit)}{against} "
        f"({lift}{level_in_percent(level)} CI {change})"
    )


def _verdict_in_words(row: ScorecardRow, level: float, adjust: Adjust, n: int) -> str:
    """A row's verdict as the end of a sentence; `n` goals share the correction."""
    if row.verdict == "none":
        return "for information only"
    if row.verdict != "inconclusive":
        return f"which is {row.verdict}"
    if row.role == "guardrail":
        return "which is not proven to stay within its margin"
    text = "which cannot be told from no effect"
    if row.effect.p_value < 1 - level:  # the interval, which holds for one goal, leaves 0 out
        text += f" after {correction(adjust)} over {n} comparisons ({p_equation(row.p_adjusted)})"
    return text


def _policies_in_words(section: Section, level: float) -> str:
    """The last method of each policy against the logging policy's mean."""
    texts = []
    for policy in section.policies[:_MOST_GOALS]:
        method, value = list(policy.estimates.items())[-1]
        low, high = value.conf_int(level)
        texts.append(
            f"{policy.name} is valued at {level_text(value.estimate, policy.unit)} by {method} "
            f"({level_in_percent(level)} CI {interval_text(low, high, policy.unit)}); the logging "
            f"policy earned {level_text(policy.logging.estimate, policy.unit)}"
        )
    if len(section.policies) > _MOST_GOALS:
        texts.append(f"{counted(len(section.policies) - _MOST_GOALS, 'more policy value')} below")
    return "; ".join(texts)


def _trusted(result: StudyResult) -> str:
    """The split, the checks, the warnings, the policy values."""
    parts = [_split_in_words(result), *_checks_in_words(result), *_logs_in_words(result)]
    failed = any(check.status == "failed" for s in result.sections for check in s.checks)
    lead = "do not trust it yet" if failed else "how far to trust it"
    return _sentence(f"{lead}: {listed([part for part in parts if part])}")


def _split_in_words(result: StudyResult) -> str:
    """What is known about the split into arms."""
    checks = [check for s in result.sections for check in s.checks if check.kind == "srm"]
    if not checks:
        return "no split was there to test" if result.sections[0].scorecard is None else ""
    failed = [check for check in checks if check.status == "failed"]
    if failed:
        p = min((check.p_value for check in failed if check.p_value is not None), default=None)
        size = f" ({p_equation(p)})" if p is not None else ""
        return f"the split does not agree with the plan{size}"
    tested = [check for check in checks if check.status != "not tested"]
    if not tested:
        return f"the split was not tested ({checks[0].finding.rstrip('.')})"
    p = min((check.p_value for check in tested if check.p_value is not None), default=None)
    size = f" (smallest {p_equation(p)})" if p is not None else ""
    return f"the split agrees with the plan{size}"


def _checks_in_words(result: StudyResult) -> list[str]:
    """How many checks failed, how many warnings were raised."""
    checks = [check for s in result.sections for check in s.checks if check.kind != "srm"]
    failed = sum(check.status == "failed" for check in checks)
    parts = [f"{failed} of {counted(len(checks), 'check')} of the log failed"] if failed else []
    if not failed and checks:
        parts.append("no check of the log found an error")
    if result.warnings:
        parts.append(f"{counted(len(result.warnings), 'warning')} should be read")
    return parts


def _logs_in_words(result: StudyResult) -> list[str]:
    """What the off-policy values say about themselves."""
    policies = [policy for section in result.sections for policy in section.policies]
    if not policies:
        return []
    counts = sorted(policy.n_rewards for policy in policies)
    span = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    parts = [f"{span} rows with a reward stand behind each policy value"]
    compared = [policy for policy in policies if policy.on_policy is not None]
    if compared:
        agree = [policy for policy in compared if not disagreeing(policy, result.level)]
        parts.append(
            "the policy values agree with the on-policy means within their intervals"
            if len(agree) == len(compared)
            else f"{len(compared) - len(agree)} of {counted(len(compared), 'policy value')} "
            "disagree with the on-policy mean"
        )
    several = [policy for policy in policies if len(policy.estimates) > 1]
    few = any(policy.n_rewards < _FEW_REWARDS for policy in several)
    if few and not any(ranked(policy, result.level) for policy in several):
        parts.append("these logs cannot rank estimators")
    return parts


def disagreeing(policy: PolicyReadout, level: float) -> tuple[str, ...]:
    """Methods whose difference from the on-policy mean has an interval without 0.

    Parameters
    ----------
    policy : PolicyReadout
        Its values and the on-policy mean come from different rows, so their variances add.
    level : float
        Confidence level of each single comparison.

    Returns
    -------
    tuple of str
        Names of methods; empty when all agree, or nothing is there to compare with.
    """
    mean = policy.on_policy
    if mean is None:
        return ()
    z = critical_value(level, None)
    return tuple(
        method
        for method, value in policy.estimates.items()
        if abs(value.estimate - mean.estimate) > z * math.hypot(value.std_error, mean.std_error)
    )


def ranked(policy: PolicyReadout, level: float) -> bool:
    """Whether the log tells any two methods apart: their intervals do not overlap."""
    limits = [value.conf_int(level) for value in policy.estimates.values()]
    return max(low for low, _ in limits) > min(high for _, high in limits)


def agreement(policy: PolicyReadout, level: float) -> str:
    """One sentence on whether the methods agree with what the policy earned itself.

    Parameters
    ----------
    policy : PolicyReadout
    level : float

    Returns
    -------
    str
        Empty when the policy's own rewards are unknown.
    """
    mean = policy.on_policy
    if mean is None:
        return ""
    text = f"{_value_in_words(mean, policy.unit, level)} was earned on-policy"
    apart = disagreeing(policy, level)
    n = len(policy.estimates)
    if not apart:
        which = {1: "the estimate agrees", 2: "both estimates agree"}.get(
            n, f"all {_in_words(n)} estimates agree"
        )
        return _sentence(f"{text}; {which} with it within {level_in_percent(level)} intervals")
    rest = "" if len(apart) == n else "; the others agree"
    return _sentence(
        f"{text}; {listed(apart)} {'does' if len(apart) == 1 else 'do'} not agree{rest}"
    )


def ranking(policies: Sequence[PolicyReadout], level: float) -> str:
    """One sentence on whether the logs can tell the methods apart.

    Parameters
    ----------
    policies : sequence of PolicyReadout
    level : float

    Returns
    -------
    str
        Empty when no policy was valued by two methods.
    """
    compared = [policy for policy in policies if len(policy.estimates) > 1]
    if not compared:
        return ""
    apart = [policy.name for policy in compared if ranked(policy, level)]
    if apart:
        return _sentence(f"methods differ beyond their intervals for {listed(apart)}")
    counts = sorted(policy.n_rewards for policy in compared)
    span = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    if counts[0] >= _FEW_REWARDS:
        return "The intervals of the methods overlap: the logs do not tell the methods apart."
    return _sentence(
        f"only {span} rows hold a reward behind each value, so the intervals are wide and overlap: "
        "these logs cannot rank estimators"
    )


def _value_in_words(effect: Effect, unit: str, level: float) -> str:
    """``0.380 % (95 % CI 0.259 to 0.501 %)``."""
    low, high = effect.conf_int(level)
    interval = interval_text(low, high, unit)
    return f"{level_text(effect.estimate, unit)} ({level_in_percent(level)} CI {interval})"


def _in_words(n: int) -> str:
    """Small numbers as words."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven")
    return words[n] if n < len(words) else str(n)
