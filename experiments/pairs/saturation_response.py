"""How outcomes respond to the share of viewers that is treated.

A saturation design (`Saturation`) gives every cell, a region in a slice of time, a treated share.
Treated and control viewers of a cell then tell, each as a line over the share, what an own
treatment does, what the others' does, and, where the lines are drawn out to everybody and nobody,
what the strategy does as a whole.
"""

from __future__ import annotations

import html
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.effect import Effect, EffectCurve, EstimationWarning
from causal.frame import Table, check_one_of
from experiments.pairs.share_lines import CellMeans, Lines, fitted_lines, open_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_FEW_CELLS = 10
_MOST_POINTS = 11


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShareResponse:
    """Total effect, and direct and spillover effects over the treated share.

    Parameters
    ----------
    total : Effect
        Everybody treated minus nobody, drawn out from the shares that were tried; `estimate`,
        `std_error` and `p_value` are its own.
    direct : EffectCurve
        Treated minus control viewers where a share s is treated.
    spillover : EffectCurve
        Control viewers where a share s is treated minus where nobody is.
    lines : DataFrame
        share, arm, mean and n_cells of the cells, and what was fitted: also at share 0 and 1.
    degree : int
        Of the polynomials.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = [(c, (0.2, 0.8)[c % 2], a) for c in range(12) for a in (0, 1)]
    >>> log = pd.DataFrame(cells, columns=["cell", "share", "arm"])
    >>> log["y"] = log.arm + 2 * log.share + (log.cell // 2 % 2)
    >>> roles = {"outcome": "y", "arm": "arm", "share": "share", "cell": "cell"}
    >>> round(share_response(log, **roles).total.estimate, 3)
    3.0
    """

    total: Effect
    direct: EffectCurve
    spillover: EffectCurve
    lines: pd.DataFrame
    degree: int
    _curvature: Effect | None = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShareResponse):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.total, self.degree))

    def __str__(self) -> str:
        return self.summary()

    @property
    def estimate(self) -> float:
        """The total effect's estimate."""
        return self.total.estimate

    @property
    def std_error(self) -> float:
        """The total effect's standard error."""
        return self.total.std_error

    @property
    def p_value(self) -> float:
        """The total effect's two-sided p-value against 0."""
        return self.total.p_value

    def conf_int(self, level: float = 0.95) -> tuple[float, float]:
        """The total effect's confidence interval."""
        return self.total.conf_int(level)

    @property
    def curvature(self) -> Effect:
        """Quadratic term of the response to the share, mean of both arms; 0 says lines are enough.

        Raises
        ------
        ValueError
            If an arm has fewer than three shares, or too few cells: two shares show no curvature.
        """
        if self._curvature is None:
            raise ValueError(
                "curvature needs three shares in each arm, two cells or more at each end; two "
                "shares cannot show it: add a share between them"
            )
        return self._curvature

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row an effect and share: effect, share (none for the total), estimate, interval."""
        total = self.total.to_frame(level)[["estimate", "std_error", "low", "high"]]
        parts = [total.assign(effect="total", share=None)]
        for name, curve in (("direct", self.direct), ("spillover", self.spillover)):
            columns = ["share", "estimate", "std_error", "low", "high"]
            parts.append(curve.to_frame(level)[columns].assign(effect=name))
        order = ["effect", "share", "estimate", "std_error", "low", "high"]
        records = [row for part in parts for row in part[order].to_dict("records")]
        return pd.DataFrame(records, columns=order)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "total": self.total.to_dict(),
            "direct": self.direct.to_dict(),
            "spillover": self.spillover.to_dict(),
            "curvature": None if self._curvature is None else self._curvature.to_dict(),
            "lines": self.lines.astype(object).where(self.lines.notna(), None).to_dict("records"),
            "degree": self.degree,
        }

    def summary(self, level: float = 0.95) -> str:
        """The total effect, both curves, and how far they were drawn out."""
        tried = self.lines.loc[self.lines["n_cells"] > 0, "share"]
        parts = [
            self.total.summary(level),
            self.direct.summary(level),
            self.spillover.summary(level),
        ]
        if self._curvature is not None:
            parts.append(self._curvature.summary(level))
        reach = f"shares {tried.min():g} to {tried.max():g} were tried: the rest is drawn out"
        return "\n".join([*parts, reach])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw both arms over the share, dashed where they are drawn out; returns the axes."""
        from causal.plots import draw_responses  # noqa: PLC0415 — matplotlib only when used

        return draw_responses(self.lines, ax)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


def share_response(
    frame: Table, *, outcome: str, arm: str, share: str, cell: str, degree: int = 1
) -> ShareResponse:
    """Total, direct and spillover effects of an experiment that varied the treated share.

    Parameters
    ----------
    frame : Table
        Rows of units, or one row a cell and arm with its mean, in any kind of table that the door
        takes. Rows are averaged by cell and arm, and weigh alike.
    outcome : str
        Column of numbers.
    arm : str
        Column of arms, 0 or 1.
    share : str
        Column of the treated share, in [0, 1], one for each cell.
    cell : str
        Column of cells: what was dealt a share at once, a region in a slice of time.
    degree : {1, 2}
        Of each arm's polynomial in the share; 2 needs three shares.

    Returns
    -------
    ShareResponse

    Raises
    ------
    ValueError
        If a column is absent, in two roles, missing or infinite; an arm is neither 0 nor 1, a share
        outside [0, 1] or changing within its cell; or an arm has too few shares or cells.
    TypeError
        If `frame` is not a table or a column does not hold numbers.

    Warns
    -----
    EstimationWarning
        If there are fewer than 10 cells.

    Notes
    -----
    With T(s) and C(s) the polynomials of treated and control means: total = T(1) - C(0), direct(s)
    = T(s) - C(s), spillover(s) = C(s) - C(0). Least squares with the rows of each mean as weights;
    errors are clustered by cell (CR2, t with Satterthwaite's degrees of freedom), so that what a
    cell's two arms share is counted once. Not corrected for: responses that are no polynomials of
    this degree between 0 and 1 (see `curvature`), carry-over from cell to cell. Where shares lie
    symmetric about 1/2, a curvature that both arms have falls out of the total.

    References
    ----------
    Baird, Bohren, McIntosh and Ozler (2018). Optimal design of experiments in the presence of
    interference. Review of Economics and Statistics 100.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = [(c, (0.2, 0.8)[c % 2], a) for c in range(12) for a in (0, 1)]
    >>> log = pd.DataFrame(cells, columns=["cell", "share", "arm"])
    >>> log["y"] = log.arm + 2 * log.share + (log.cell // 2 % 2)
    >>> roles = {"outcome": "y", "arm": "arm", "share": "share", "cell": "cell"}
    >>> share_response(log, **roles).direct.estimate.round(3).tolist()
    [1.0, 1.0]
    """
    check_one_of(degree, "degree", (1, 2))
    means = open_cells(frame, outcome=outcome, arm=arm, share=share, cell=cell)
    shares = [np.unique(means.share[means.arm == k]) for k in (0, 1)]
    if not min(map(len, shares)):
        only = 1 if len(shares[1]) else 0
        raise ValueError(
            f"column {arm!r} must hold both arms; it holds only {only}: give a log of both"
        )
    if min(map(len, shares)) < degree + 1:
        raise ValueError(
            f"degree {degree} needs {degree + 1} values of share {share!r} in each arm; control "
            f"has {len(shares[0])}, treatment {len(shares[1])}; add shares"
        )
    lines = fitted_lines(means, degree)
    if lines is None:
        raise ValueError(
            f"cells {cell!r} are too few: one alone determines part of an arm's line, so that its "
            f"error cannot be seen; {means.n_cells} cells over {len(np.union1d(*shares))} shares; "
            "pass two cells or more of each share"
        )
    if means.n_cells < _FEW_CELLS:
        _warn(f"{means.n_cells} cells of {cell!r}, fewer than {_FEW_CELLS}, make intervals fragile")
    if np.ptp(means.mean) == 0:
        _warn(f"outcome {outcome!r} is constant; its standard error is 0")
    points = np.union1d(*shares)
    if len(points) > _MOST_POINTS:
        points = np.linspace(points[0], points[-1], _MOST_POINTS)
    beyond, nobody = points[points > 0], lines.at(0, 0.0)
    total = lines.at(1, 1.0) - nobody
    direct = np.array([lines.at(1, s) - lines.at(0, s) for s in points])
    spillover = np.array([lines.at(0, s) - nobody for s in beyond])
    df = np.split(lines.df(np.vstack([total, direct, spillover])), [1, 1 + len(points)])
    return ShareResponse(
        total=_effect(lines, np.array([total, nobody]), df[0], "total effect"),
        direct=_curve(lines, points, direct, df[1], "direct effect"),
        spillover=_curve(lines, beyond, spillover, df[2], "spillover"),
        lines=_drawn(lines),
        degree=degree,
        _curvature=_curvature(means) if min(map(len, shares)) > 2 else None,
    )


def _curvature(means: CellMeans) -> Effect | None:
    """Mean of both arms' quadratic terms; None where single cells determine one."""
    lines = fitted_lines(means, 2)
    if lines is None:
        return None
    weights = np.array([[0, 0, 0.5, 0, 0, 0.5]])
    return _effect(lines, weights, lines.df(weights), "curvature")


def _effect(
    lines: Lines, weights: NDArray[np.float64], df: NDArray[np.float64], estimand: str
) -> Effect:
    """A contrast as an effect; the second row, if there is one, is the level it starts from."""
    value, cov = lines.contrasts(weights)
    baseline: dict[str, Any] = {}
    if len(weights) > 1:
        level = lines.means.centre + float(value[1])
        baseline = {"baseline": level, "baseline_variance": float(cov[1, 1])}
        baseline["baseline_cov"] = float(cov[0, 1])
    return Effect(
        estimate=float(value[0]),
        std_error=float(np.sqrt(cov[0, 0])),
        estimand=estimand,
        df=float(df[0]),
        **baseline,
        **_described(lines),
    )


def _curve(
    lines: Lines,
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    df: NDArray[np.float64],
    estimand: str,
) -> EffectCurve:
    """A contrast at each share."""
    value, cov = lines.contrasts(weights)
    return EffectCurve(
        index=tuple(points.tolist()),
        index_name="share",
        estimate=value,
        cov=cov,
        estimand=estimand,
        df=tuple(df.tolist()),
        **_described(lines),
    )


def _drawn(lines: Lines) -> pd.DataFrame:
    """Means and fitted values by arm and share, the ends that were drawn out included."""
    means, records = lines.means, []
    for arm, end in ((0, 0.0), (1, 1.0)):
        of_arm = means.arm == arm
        for s in np.union1d(means.share[of_arm], end).tolist():
            here = of_arm & (means.share == s)
            mean = np.average(means.mean[here], weights=means.n[here]) if here.any() else np.nan
            fitted = lines.contrasts(lines.at(arm, s)[None, :])[0][0]
            level = (means.centre + means.scale * float(mean), means.centre + float(fitted))
            records.append((s, arm, *level, int(here.sum())))
    return pd.DataFrame(records, columns=["share", "arm", "mean", "fitted", "n_cells"])


def _described(lines: Lines) -> dict[str, Any]:
    """How the numbers came about, and from how much."""
    shape = "line" if lines.degree == 1 else "parabola"
    return {
        "method": f"{shape} over the share in each arm, CR2 by cell",
        "n_obs": lines.means.n_rows,
        "n_clusters": lines.means.n_cells,
        "details": {"degree": lines.degree, "n_shares": len(np.unique(lines.means.share))},
    }


def _warn(message: str) -> None:
    """Warn the caller of `share_response`."""
    warnings.warn(message, EstimationWarning, stacklevel=3)
