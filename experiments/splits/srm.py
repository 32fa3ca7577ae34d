"""Sample ratio mismatch: whether the arms are as large as they were meant to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from causal.frame import Table, check_columns, column_names
from causal.rows import Rows, open_rows
from causal.values import is_number
from experiments.splits.arms import refuse_dose
from experiments.splits.multiplicity import adjust_p_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

SRM_LEVEL = 0.0005  # below this p-value the arms are not as large as designed
_LEAST_EXPECTED = 5.0
_MOST_TABLES = 2_000_000
_DRAWS = 100_000  # tables drawn where there are too many to list


@dataclass(frozen=True)
class SrmCheck:
    """Whether the arms' sizes fit the design.

    `p_value` and `statistic` are of Pearson's chi-square test. Where an expected count is below 5
    the p-value is that of the exact binomial or multinomial test, or, with too many tables to list,
    the share of 100,000 seeded draws whose statistic is at least this one. `counts` and `expected`
    map arms to units. `by` holds one row a cell with Holm-adjusted p-values, or None. `ok` is False
    when the overall p-value or an adjusted one of a cell is below 0.0005.
    """

    p_value: float
    statistic: float
    counts: Mapping[Any, int]
    expected: Mapping[Any, float]
    by: pd.DataFrame | None
    ok: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "p_value": self.p_value,
            "statistic": self.statistic,
            "counts": {str(k): int(v) for k, v in self.counts.items()},
            "expected": {str(k): float(v) for k, v in self.expected.items()},
            "by": None if self.by is None else self.by.to_dict(orient="records"),
            "ok": self.ok,
        }

    def findings(self) -> list[str]:
        """One sentence for the whole and for each cell that fails."""
        said = []
        if self.p_value < SRM_LEVEL:
            said.append(f"sample ratio mismatch: {dict(self.counts)} units, p = {self.p_value:.2g}")
        if self.by is not None:
            said += [
                f"sample ratio mismatch in {row.key} = {row.cell}: p = {row.p_adjusted:.2g} (Holm)"
                for row in self.by[self.by["p_adjusted"] < SRM_LEVEL].itertuples()
            ]
        return said


def srm_test(
    counts: Mapping[Any, int] | Table,
    *,
    arm: str | None = None,
    expected_share: Mapping[Any, float] | None = None,
    by: Sequence[str] = (),
    unit: str | None = None,
) -> SrmCheck:
    """Test whether units fell into arms in the intended shares.

    Parameters
    ----------
    counts : mapping from arm to number of units, or a Table
        With a table, `arm` names the column; rows are counted, or distinct values of `unit`.
    arm : str, optional
        Arm column of the table.
    expected_share : mapping from arm to share, optional
        Intended shares, scaled to sum 1; equal by default.
    by : sequence of str
        Segments or days: each value is tested too, Holm-adjusted within its column.
    unit : str, optional
        Unit of randomisation.

    Returns
    -------
    SrmCheck

    Raises
    ------
    ValueError
        If there are fewer than two arms, a count is negative or not whole, shares do not name the
        arms, or a unit is in several arms.

    References
    ----------
    Fabijan et al. (2019). Diagnosing sample ratio mismatch in online controlled experiments, KDD.

    Examples
    --------
    >>> srm_test({"A": 5000, "B": 5000}).ok
    True
    """
    if isinstance(counts, Mapping):
        if arm is not None or by or unit is not None:
            raise ValueError("arm, by and unit go with a table; counts were given")
        return checked_counts(dict(counts), expected_share)
    if arm is None:
        raise ValueError("arm= must name the arm column of the table")
    check_columns(column_names(counts), {"arm": arm, "by": list(by), "unit": unit})
    labels = {"arm": arm, **{f"by{j}": name for j, name in enumerate(by)}}
    rows = open_rows(counts, numeric={}, labels=labels | ({"unit": unit} if unit else {}))
    if unit is not None:
        _refuse_crossing(rows, unit)
    whole = counted(rows, [], unit is not None)
    refuse_dose(arm, [a for (a,) in whole])
    cells = {name: counted(rows, [f"by{j}"], unit is not None) for j, name in enumerate(by)}
    return checked_counts({a: n for (a,), n in whole.items()}, expected_share, cells)


def _refuse_crossing(rows: Rows, unit: str) -> None:
    """A unit in several arms was not randomised as said."""
    shared = rows.grouped(["arm", "unit"], {}).grouped(["unit"], {}).where(lambda c: c["n"] > 1)
    if count := int(shared.sums([], {}).n[0]):
        some = shared.fetch(["unit"])["unit"][:5].tolist()
        raise ValueError(
            f"unit {unit!r} must be in one arm; {count} units are in several, e.g. "
            f"{', '.join(map(str, some))}; drop them, or keep the arm that came first"
        )


def counted(rows: Rows, by: Sequence[str], units: bool) -> dict[tuple[Any, ...], int]:
    """Units (or rows) by arm and further keys: {(arm, key ...): count}."""
    keys = ["arm", *by]
    found = (rows.grouped([*keys, "unit"], {}) if units else rows).sums(keys, {})
    labels = zip(*[found.keys[k].tolist() for k in keys], strict=True)
    return {label: int(n) for label, n in zip(labels, found.n, strict=True)}


def checked_counts(
    counts: Mapping[Any, int],
    expected_share: Mapping[Any, float] | None,
    cells: Mapping[str, Mapping[tuple[Any, ...], int]] | None = None,
) -> SrmCheck:
    """The test on counts, and within each cell of further keys."""
    for name, n in counts.items():
        if not is_number(n) or not float(n).is_integer() or n < 0:
            raise ValueError(f"counts must be whole numbers >= 0; arm {name!r} has {n!r}")
    share = _shares(counts, expected_share)
    arms = list(share)
    statistic, p, expected = _tested(np.array([counts.get(a, 0) for a in arms], dtype=float), share)
    rows = []
    for key, found in (cells or {}).items():
        labels = list(dict.fromkeys(cell for _, cell in found))
        tested = [
            _tested(np.array([found.get((a, cell), 0) for a in arms], dtype=float), share)[1]
            for cell in labels
        ]
        adjusted = adjust_p_values(tested, method="holm")
        rows += [
            {"key": key, "cell": c, "p_value": q, "p_adjusted": float(h)}
            | {f"n_{a}": found.get((a, c), 0) for a in arms}
            for c, q, h in zip(labels, tested, adjusted, strict=True)
        ]
    by = pd.DataFrame(rows) if rows else None
    ok = p >= SRM_LEVEL and (by is None or bool((by["p_adjusted"] >= SRM_LEVEL).all()))
    return SrmCheck(
        p, statistic, dict(counts), dict(zip(arms, expected.tolist(), strict=True)), by, ok
    )


def _shares(counts: Mapping[Any, int], expected: Mapping[Any, float] | None) -> dict[Any, float]:
    """Intended shares by arm, summing to 1."""
    if expected is None:
        expected = dict.fromkeys(counts, 1.0)
    missing = [a for a in counts if a not in expected]
    bad = {a: s for a, s in expected.items() if not s > 0 or not np.isfinite(s)}
    if len(expected) < 2 or missing or bad or sum(counts.values()) == 0:
        raise ValueError(
            "expected_share must give every arm a positive share, for two arms or more with units; "
            f"arms {list(counts)[:10]}, shares {dict(expected)}"
        )
    total = float(sum(expected.values()))
    return {a: s / total for a, s in expected.items()}


def _tested(
    n: NDArray[np.float64], share: Mapping[Any, float]
) -> tuple[float, float, NDArray[np.float64]]:
    """Pearson's statistic, p-value (exact where expectations are small) and expected counts."""
    p = np.array(list(share.values()))
    expected = n.sum() * p
    if n.sum() == 0:
        return 0.0, 1.0, expected
    statistic = float(np.sum((n - expected) ** 2 / expected))
    if expected.min() >= _LEAST_EXPECTED:
        return statistic, float(special.chdtrc(len(n) - 1, statistic)), expected
    counts = n.astype(np.int64)
    if len(n) == 2:
        return statistic, _binomial(counts, p), expected
    if _n_tables(int(n.sum()), len(n)) <= _MOST_TABLES:
        return statistic, _exact(counts, p), expected
    return statistic, _simulated(statistic, int(n.sum()), p), expected


def _n_tables(n: int, k: int) -> float:
    """Number of ways to spread n units over k arms."""
    return float(special.comb(n + k - 1, k - 1))


def _binomial(n: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """The exact test of two arms."""
    from scipy.stats import binomtest  # noqa: PLC0415 — loaded only when used

    return float(binomtest(int(n[0]), int(n.sum()), float(p[0])).pvalue)


def _simulated(statistic: float, total: int, p: NDArray[np.float64]) -> float:
    """Share of tables under the design whose statistic is at least the one seen."""
    drawn = np.random.default_rng(0).multinomial(total, p, size=_DRAWS)
    expected = total * p
    found = ((drawn - expected) ** 2 / expected).sum(axis=1)
    return float((1 + np.sum(found >= statistic * (1 - 1e-9))) / (_DRAWS + 1))


def _exact(n: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """Probability of all tables that are no likelier than the one seen (multinomial test)."""
    total = int(n.sum())
    log_p = np.log(p)

    def log_mass(table: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(
            special.gammaln(total + 1) - special.gammaln(table + 1).sum(axis=-1) + table @ log_p
        )

    tables = np.arange(total + 1)[:, None]
    for _ in range(len(n) - 2):
        left = total - tables.sum(axis=1)
        tables = np.column_stack(
            [np.repeat(tables, left + 1, axis=0), np.concatenate([np.arange(m + 1) for m in left])]
        )
    tables = np.column_stack([tables, total - tables.sum(axis=1)])
    mass = log_mass(tables)
    return min(1.0, float(np.exp(mass[mass <= log_mass(n) + 1e-9]).sum()))
