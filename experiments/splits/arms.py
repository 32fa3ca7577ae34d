"""Which arm is the control, and which are compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.splits.records import Log

_MOST_ARMS = 50


def choose_arms(log: Log, control: object, treatment: object = None) -> tuple[Any, list[Any]]:
    """The control arm and the treatment arms, checked against the arms that occur.

    Raises
    ------
    ValueError
        If there is one arm, a dose instead of arms, or the control cannot be told.
    """
    arms = log.arms
    if len(arms) < 2:
        raise ValueError(f"arm {log.arm!r} needs at least two levels; it has only {arms}")
    refuse_dose(log.arm, arms)
    if control is None:
        if set(arms) != {0, 1}:
            raise ValueError(
                f"arm {log.arm!r} holds {arms[:10]}; only 0/1 and booleans say which is the "
                "control: pass control="
            )
        control = arms[0]
    for given, role in ((control, "control"), (treatment, "treatment")):
        if given is not None and given not in log.arms:
            raise ValueError(f"{role} {given!r} is not among the arms of {log.arm!r}: {arms[:10]}")
    if treatment is not None and treatment == control:
        raise ValueError(f"control and treatment must differ; both are {control!r}")
    control = arms[arms.index(control)]
    return control, [a for a in arms if a != control and (treatment is None or a == treatment)]


def refuse_dose(name: str, arms: Sequence[object]) -> None:
    """Raise ValueError for a column of numbers that are no arms."""
    if len(arms) > _MOST_ARMS or any(isinstance(a, float) for a in arms):
        raise ValueError(
            f"arm {name!r} must hold a few arms; it holds {len(arms)} levels, e.g. {arms[:5]}; "
            "a dose is no arm: cut it into arms first"
        )
