"""What a panel can answer: cohorts, balance, exposure, and which methods it supports."""

from __future__ import annotations

import html
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.did.cohort_regressors import treated_cells
from causal.panel.adoption import last_rows
from causal.panel.unit_panel import Aggregate, UnitPanel, read_panel
from causal.values import known_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from causal.frame import Table
    from causal.values import JsonScalar

__all__ = ["PanelDesign", "panel_design"]

_FEW = 5  # units of a cohort, treated clusters
_FEW_CLUSTERS = 30
_LEVEL = 0.05  # difference of treated and controls before, in standard deviations, of chance
_ONE_CITY = 10  # treated units up to which a synthetic control is the nearer tool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanelDesign:
    """Who is treated when, how complete the panel is, and what it supports.

    Parameters
    ----------
    n_units, n_periods, n_obs, n_clusters : int
        Clusters are units where no other were named.
    cohorts : DataFrame
        cohort (None for never), n_units, share.
    balance : float
        Share of (unit, period) cells with a row.
    balance_by_cohort : DataFrame
        cohort, time, share of units with a row, mean outcome.
    strata : tuple
        Labels; empty without a stratum.
    treated_share_by_stratum : mapping from stratum to float
    exposure_share : float, optional
        Share of control units whose exposure to treatment is above 0.
    methods : DataFrame
        method, usable, why_not.
    warnings : tuple of str
        What an analyst should know before an estimate.
    """

    n_units: int
    n_periods: int
    n_obs: int
    n_clusters: int
    cohorts: pd.DataFrame
    balance: float
    balance_by_cohort: pd.DataFrame
    strata: tuple[JsonScalar, ...]
    treated_share_by_stratum: Mapping[JsonScalar, float]
    exposure_share: float | None
    methods: pd.DataFrame
    warnings: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PanelDesign):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.n_units, self.n_periods, self.n_obs, self.warnings))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives back an equal design."""
        found: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("cohorts", "balance_by_cohort", "methods"):
            frame = found[name].astype(object)
            found[name] = frame.where(frame.notna(), None).to_dict("list")
        shares = self.treated_share_by_stratum
        found["treated_share_by_stratum"] = [[k, v] for k, v in shares.items()]
        return found | {"strata": list(self.strata), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> PanelDesign:
        """Make a design from what `to_dict` returned, also after JSON."""
        found = known_fields(cls, d)
        for name in ("cohorts", "balance_by_cohort", "methods"):
            frame = pd.DataFrame(found[name])
            if "cohort" in frame:
                frame["cohort"] = pd.Series(found[name]["cohort"], dtype=object)
            found[name] = frame
        shares = dict(found["treated_share_by_stratum"])
        found |= {"strata": tuple(found["strata"]), "warnings": tuple(found["warnings"])}
        return cls(**found | {"treated_share_by_stratum": shares})

    def summary(self) -> str:
        """Counts, cohorts, usable methods and warnings, a line each."""
        usable = self.methods.loc[self.methods["usable"], "method"].tolist()
        treated = self.cohorts["cohort"].notna()
        lines = [
            f"{self.n_units:,} units in {self.n_periods} periods, {self.n_obs:,} rows "
            f"({100 * self.balance:.3g}% of cells), {self.n_clusters:,} clusters",
            f"{int(self.cohorts.loc[treated, 'n_units'].sum()):,} units treated in "
            f"{int(treated.sum())} cohorts",
            f"usable: {', '.join(usable) or 'nothing'}",
        ]
        return "\n".join([*lines, *(f"note: {w}" for w in self.warnings)])

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw cohort sizes and the share of units observed; returns the axes."""
        from causal.panel.design_plots import plot_design  # noqa: PLC0415 — matplotlib when used

        return plot_design(self, ax)

    def plot_trajectories(self, ax: Axes | None = None, *, indexed: bool = False) -> Axes:
        """Draw mean outcomes by cohort, with the start of each; returns the axes.

        `indexed` draws each path over its mean before treatment.
        """
        from causal.panel.design_plots import (  # noqa: PLC0415 — matplotlib when used
            plot_trajectories,
        )

        return plot_trajectories(self, ax, indexed=indexed)


def panel_design(
    table: Table,
    *,
    outcome: str,
    unit: str,
    time: str,
    cohort: str | None = None,
    treatment: str | None = None,
    start: Any = None,  # noqa: ANN401 — a time of any kind
    never: Any = None,  # noqa: ANN401 — a time of any kind
    cluster: str | None = None,
    stratum: str | None = None,
    exposure: str | None = None,
    aggregate: Aggregate = None,
) -> PanelDesign:
    """Look before you estimate: what the panel holds, and which methods it supports.

    Parameters
    ----------
    table : Table
        One row a unit and period.
    outcome, unit, time : str
        Columns.
    cohort, treatment, start, never
        Who is treated and when, as in `diff_in_diff`.
    cluster, stratum : str, optional
        Columns that are constant within unit.
    exposure : str, optional
        Number >= 0 of each row: how much of what a unit met was treated (the share of a viewer's
        streamers with the feature, say). Controls with exposure after the start are not untouched.
    aggregate : {"mean", "sum"}, optional
        What to do with several rows of a unit in a period; by default they raise.

    Returns
    -------
    PanelDesign

    Raises
    ------
    ValueError
        On missing or doubled columns, repeated (unit, time) rows, labels that change within a unit,
        negative exposure.
    TypeError
        If `table` is not a table or a column not of its kind.

    Notes
    -----
    Treatment that started at once for many units whose outcomes before it were alike looks
    randomised: `experiments.ab_test` then answers with less error, and says so by a test of the
    split.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"id": [1, 1, 2, 2], "day": [0, 1, 0, 1], "y": [1.0, 3, 2, 2]})
    >>> log["d"] = [1, 1, 0, 0]
    >>> panel_design(log, outcome="y", unit="id", time="day", treatment="d", start=1).balance
    1.0
    """
    panel = read_panel(
        table,
        outcome=outcome,
        unit=unit,
        time=time,
        cohort=cohort,
        treatment=treatment,
        start=start,
        never=never,
        cluster=cluster,
        stratum=stratum,
        covariates=[] if exposure is None else [exposure],
        aggregate=aggregate,
        check=False,
    )
    share = None if exposure is None else _exposed(panel, exposure)
    treated = panel.first < panel.n_periods
    by_stratum = {}
    if panel.stratum is not None:
        in_stratum = np.bincount(panel.stratum, minlength=len(panel.strata))
        shares = np.bincount(panel.stratum, treated, len(panel.strata)) / in_stratum
        by_stratum = dict(zip(panel.strata, shares.tolist(), strict=True))
    n_clusters = panel.n_units if panel.cluster is None else len(np.unique(panel.cluster))
    return PanelDesign(
        n_units=panel.n_units,
        n_periods=panel.n_periods,
        n_obs=panel.n_obs,
        n_clusters=n_clusters,
        cohorts=_cohorts(panel),
        balance=float(panel.present.mean()),
        balance_by_cohort=_balance(panel),
        strata=panel.strata,
        treated_share_by_stratum=by_stratum,
        exposure_share=share,
        methods=_methods(panel),
        warnings=tuple(_warnings(panel, share, by_stratum, n_clusters)),
    )


def _cohorts(panel: UnitPanel) -> pd.DataFrame:
    """Units by cohort; None is never treated."""
    first, n = np.unique(panel.first, return_counts=True)
    labels = pd.Series([_cohort_label(panel, f) for f in first], dtype=object)
    return pd.DataFrame({"cohort": labels, "n_units": n, "share": n / panel.n_units})


def _cohort_label(panel: UnitPanel, first: int) -> JsonScalar:
    """The label of a first treated position; None for never."""
    return None if first >= panel.n_periods else panel.times.labels[first]


def _balance(panel: UnitPanel) -> pd.DataFrame:
    """Share of units with a row and mean outcome, by cohort and period."""
    rows = []
    for f in np.unique(panel.first):
        mine = panel.outcome[panel.first == f]
        seen = ~np.isnan(mine)
        count = seen.sum(axis=0)
        level = np.where(count > 0, np.nansum(mine, axis=0) / np.maximum(count, 1), np.nan)
        for j, label in enumerate(panel.times.labels):
            mean = float(level[j]) if count[j] else None
            rows.append((_cohort_label(panel, f), label, float(seen[:, j].mean()), mean))
    frame = pd.DataFrame(rows, columns=["cohort", "time", "share", "mean"])
    frame["cohort"] = pd.Series([row[0] for row in rows], dtype=object)
    return frame


def _exposed(panel: UnitPanel, name: str) -> float:
    """Share of never-treated units with exposure above 0 once someone is treated."""
    values = panel.covariates[name]
    if (values < 0).any():
        raise ValueError(f"exposure {name!r} must be >= 0; some rows are negative; correct them")
    treated = panel.first[(panel.first > 0) & (panel.first < panel.n_periods)]
    controls = panel.first == panel.n_periods
    if not len(treated) or not controls.any():
        return 0.0
    after = values[controls][:, int(treated.min()) :]
    return float((np.nan_to_num(after) > 0).any(axis=1).mean())


def _methods(panel: UnitPanel) -> pd.DataFrame:
    """Which methods the panel supports, and why not the others."""
    t = panel.n_periods
    starts = np.unique(panel.first[(panel.first > 0) & (panel.first < t)])
    never = bool((panel.first == t).any())
    treated = int(((panel.first > 0) & (panel.first < t)).sum())
    controls = int((panel.first == t).sum())
    before = int(starts.min()) if len(starts) else 0
    reached = (panel.first > 0) & (last_rows(panel.present) >= panel.first)
    nobody = "" if reached.any() else "no treated unit has a row from its start on"
    nobody = nobody if len(starts) else "nobody is treated after an observed period"
    alone = "" if never or len(starts) > 1 else "no unit is left as a control"
    several = (
        "" if len(starts) < 2 else f"treatment starts at {len(starts)} times: TWFE mixes effects"
    )
    short = "" if before >= 2 else "one period before the start: no pre-trend can be seen"
    no_never = "" if never else "no unit is never treated"
    gaps = "" if panel.balanced else "some units have no row in some period"
    few_before = "" if before >= 2 else "synthetic control needs several periods before the start"
    pool = "" if controls >= 2 else "fewer than 2 never-treated units to weigh"
    rows = [
        ("diff_in_diff", nobody or alone or several),
        ("event_study", nobody or alone or short or several or no_never),
        ("group_time_effects", nobody or alone),
        ("sun_abraham", nobody or alone),
        ("imputation_effects", nobody or alone),
        ("synthetic_control", nobody or pool or gaps or few_before
         or ("" if treated <= _ONE_CITY else f"{treated} treated units: DID averages over them")),
        ("synthetic_diff_in_diff", nobody or pool or gaps or few_before),
    ]  # fmt: skip
    reasons = [why for _, why in rows]
    return pd.DataFrame(
        {"method": [m for m, _ in rows], "usable": [not w for w in reasons], "why_not": reasons}
    )


def _warnings(
    panel: UnitPanel,
    exposed: float | None,
    by_stratum: Mapping[JsonScalar, float],
    n_clusters: int,
) -> list[str]:
    """What an analyst should know before an estimate."""
    found = []
    t = panel.n_periods
    starts, n = np.unique(panel.first[(panel.first > 0) & (panel.first < t)], return_counts=True)
    always = int((panel.first == 0).sum())
    if always:
        units = "unit has" if always == 1 else "units have"
        found.append(f"{always} always-treated {units} no period before treatment")
    small = [str(panel.times.labels[s]) for s, k in zip(starts, n, strict=True) if k < _FEW]
    if small:
        found.append(f"cohorts of fewer than {_FEW} units: {', '.join(small[:5])}")
    if n_clusters < _FEW_CLUSTERS:
        clusters = "cluster" if n_clusters == 1 else "clusters"
        found.append(f"{n_clusters} {clusters}: use covariance='CR2' or few_cluster_test")
    if not panel.balanced:
        found.append(f"{100 * (1 - panel.present.mean()):.3g}% of cells have no row")
    gaps = panel.times.gaps()
    if gaps:
        places = "place" if len(gaps) == 1 else "places"
        found.append(
            f"times skip periods in {len(gaps)} {places}, e.g. {gaps[0][0]} to {gaps[0][1]}"
        )
    if exposed:
        found.append(
            f"{100 * exposed:.3g}% of control units are exposed to treatment: they are no clean "
            "controls; see dual-sided and time-slice designs"
        )
    if by_stratum and max(by_stratum.values()) - min(by_stratum.values()) > 0.1:
        found.append("treated shares differ by stratum: estimate in each and average the effects")
    looks = _looks_randomised(panel)
    if looks:
        found.append(looks)
    return found


def _looks_randomised(panel: UnitPanel) -> str:
    """A word where treatment started at once among many units that were alike before."""
    t = panel.n_periods
    starts = np.unique(panel.first[(panel.first > 0) & (panel.first < t)])
    if len(starts) != 1:
        return ""
    before = np.where(panel.present[:, : starts[0]], panel.outcome[:, : starts[0]], 0.0)
    count = panel.present[:, : starts[0]].sum(axis=1)
    seen = count > 0
    level: NDArray[np.float64] = before.sum(axis=1)[seen] / count[seen]
    treated = treated_cells(panel.first, t)[seen, -1]
    share = float(treated.mean())
    many = min(treated.sum(), (~treated).sum()) >= _FEW_CLUSTERS
    spread = float(level.std())
    if not many or spread == 0:
        return ""
    gap = abs(float(level[treated].mean() - level[~treated].mean())) / spread
    chance = 1.96 * np.sqrt(1 / treated.sum() + 1 / (~treated).sum())
    if gap < max(chance, _LEVEL) and 0.05 <= share <= 0.95:
        return (
            "treatment started at once and the groups were alike before: if it was randomised, "
            "experiments.ab_test answers with less error"
        )
    return ""
