"""What covariates add over populations: the mean at which arms are compared is estimated too.

The regression's own errors hold for the covariates that were drawn. Over populations the effect
also moves with their mean, by (b1 - b0)'(xbar - mu), and the control level by b0'(xbar - mu); with
clusters or weights their sums are those of clusters, and go along with the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal.rows import Expression, Rows, column, select
from experiments.splits.influence import influence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from causal.rows import Groups
    from experiments.splits.influence import Level
    from experiments.splits.records import Records


@dataclass(frozen=True)
class Population:
    """What is added to each cell's variance (K,), and to the first cell's control level."""

    variance: NDArray[np.float64]
    baseline_variance: float
    baseline_cov: float


@dataclass(frozen=True)
class Centre:
    """Both arms of a cell together: mean of the covariates, centred products, weight and count."""

    mean: NDArray[np.float64]
    cross: NDArray[np.float64]
    total: float
    n: int


def independent_population(
    levels: Sequence[tuple[Level, Level]], centres: Sequence[Centre]
) -> Population:
    """The additions for independent records without weights, from moments alone."""
    parts = []
    for (control, treated), centre in zip(levels, centres, strict=True):
        gap, base = treated.slope - control.slope, control.slope
        spread = centre.cross / (centre.total * (centre.n - 1))
        parts.append((gap @ spread @ gap, base @ spread @ base, gap @ spread @ base))
    v = np.array(parts)
    return Population(v[:, 0], float(v[0, 1]), float(v[0, 2]))


def linked_population(
    records: Records,
    rows: Rows,
    cells: tuple[Any, ...],
    outcome: Sequence[str],
    kept: Sequence[str],
    control: object,
) -> Population:
    """The additions from sums over clusters (or weighted records) of scores.

    `rows` carry the constants of `influence` and of `constants_of`.
    """
    psi = influence(outcome, kept, "HC0", weighted=records.weighted, theta=False)["psi"]

    def moved(slopes: str) -> Expression:
        def formula(c: Mapping[str, Any]) -> Any:  # noqa: ANN401 — an array or an expression
            total: Any = 0.0
            for name in kept:
                total = total + c[f"{slopes}_{name}"] * (c[name] - c[f"centre_{name}"])
            return total * c["whole"] * c["w"] if records.weighted else total * c["whole"]

        return formula

    scores: dict[str, Expression] = {
        "base": lambda c: select(c["arm"] == control, psi(c)),
        "effect": lambda c: (
            select(c["arm"] != control, psi(c)) - select(c["arm"] == control, psi(c))
        ),
        "base_moved": moved("base"),
        "effect_moved": moved("gap"),
    }
    by = [] if cells == (None,) else ["cell"]
    rows = rows.derive(scores)
    if not records.apart:
        rows = rows.grouped([*by, "cluster"], {name: column(name) for name in scores})
    found = rows.sums(
        by,
        {
            "v": lambda c: (2 * c["effect"] + c["effect_moved"]) * c["effect_moved"],
            "b": lambda c: (2 * c["base"] + c["base_moved"]) * c["base_moved"],
            "c": lambda c: (
                c["effect"] * c["base_moved"] + c["effect_moved"] * (c["base"] + c["base_moved"])
            ),
        },
    )
    few = found.n / np.maximum(found.n - 1, 1)
    v = {name: values * few for name, values in found.values.items()}
    return Population(v["v"], float(v["b"][0]), float(v["c"][0]))


def constants_of(
    groups: Groups,
    position: NDArray[np.int64],
    levels: Sequence[tuple[Level, Level]],
    centres: Sequence[Centre],
    kept: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Constants of every group, as columns for `linked_population`."""
    values = {
        f"{what}_{name}": np.zeros(len(groups))
        for what in ("gap", "base", "centre")
        for name in kept
    }
    values["whole"] = np.zeros(len(groups))
    for k, ((control, treated), centre) in enumerate(zip(levels, centres, strict=True)):
        at = position[:, k]
        values["whole"][at] = 1 / centre.total
        for i, name in enumerate(kept):
            values[f"gap_{name}"][at] = treated.slope[i] - control.slope[i]
            values[f"base_{name}"][at] = control.slope[i]
            values[f"centre_{name}"][at] = centre.mean[i]
    return values
