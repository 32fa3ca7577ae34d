"""One table of several estimators on the same data: `robustness_table`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from causal.effect import Effect
from causal.frame import check_level

if TYPE_CHECKING:
    from causal.frame import Table
    from causal.panel.cohort_moments import PanelMoments

__all__ = ["robustness_table"]


def robustness_table(
    analyses: Mapping[str, Callable[[Any], Any]],
    table: Table | PanelMoments,
    *,
    level: float = 0.95,
) -> pd.DataFrame:
    """The same question by several estimators, a row each: what hangs on the method.

    Parameters
    ----------
    analyses : mapping from name to function
        Each takes the table and returns an `Effect`, or a result with an `effect`.
    table : Table or PanelMoments
        Given to each as it is.
    level : float
        Of the intervals, in (0, 1).

    Returns
    -------
    DataFrame
        estimator, estimate, std_error, low, high, p_value, n_obs, n_clusters, method; one row an
        analysis, in their order.

    Raises
    ------
    ValueError
        If there are no analyses; and what an analysis raises, with its name as a note.
    TypeError
        If an analysis is no function, or what it returns has no effect.

    Notes
    -----
    Estimators may answer different questions (an average over event times, over treated rows, over
    cohorts): ``effect.details["weights"]`` says which. Their errors come from the same rows, so
    that overlapping intervals are no test of their difference. Nothing is corrected for the choice
    of a row after a look at all.

    Examples
    --------
    >>> from causal import diff_in_diff
    >>> log = {"id": [i // 2 for i in range(80)], "day": [0, 1] * 40, "d": [0] * 40 + [1] * 40}
    >>> log = pd.DataFrame(log | {"y": [i % 3 + (i % 2) * (i >= 40) for i in range(80)]})
    >>> columns = {"outcome": "y", "unit": "id", "time": "day", "treatment": "d", "start": 1}
    >>> robustness_table({"DID": lambda t: diff_in_diff(t, **columns)}, log)["n_obs"].tolist()
    [80]
    """
    if not isinstance(analyses, Mapping) or not all(callable(f) for f in analyses.values()):
        raise TypeError(
            f"analyses must map names to functions of the table; got {analyses!r}; give "
            "{'TWFE': lambda table: diff_in_diff(table, ...)}, for one"
        )
    if not analyses:
        raise ValueError("analyses must hold at least one function of the table; got none")
    level = check_level(level)
    return pd.DataFrame(
        [{"estimator": str(name), **_row(name, f, table, level)} for name, f in analyses.items()]
    )


def _row(
    name: str, analysis: Callable[[Any], Any], table: Table | PanelMoments, level: float
) -> dict[str, Any]:
    """The numbers of one analysis."""
    try:
        result = analysis(table)
        effect = _effect_of(result)
        low, high = result.conf_int(level)
    except Exception as error:
        error.add_note(f"in the analysis {name!r}")
        raise
    return {
        "estimate": effect.estimate,
        "std_error": effect.std_error,
        "low": low,
        "high": high,
        "p_value": result.p_value,
        "n_obs": effect.n_obs,
        "n_clusters": effect.n_clusters,
        "method": effect.method,
    }


def _effect_of(result: object) -> Effect:
    """The headline of what an analysis returned."""
    effect = result if isinstance(result, Effect) else getattr(result, "effect", None)
    if isinstance(effect, Effect):
        return effect
    raise TypeError(
        f"an analysis must return an Effect or a result with one; got {type(result).__name__}; "
        "return what the estimator returned"
    )
