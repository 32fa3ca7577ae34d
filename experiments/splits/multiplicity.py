"""P-values adjusted for asking more than one question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from causal.frame import check_one_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Adjust: TypeAlias = Literal["holm", "bh", "by", "bonferroni", "none"]


def adjust_p_values(p: ArrayLike, *, method: Adjust) -> NDArray[np.float64]:
    """Adjust p-values for the number of questions asked.

    Holm and Bonferroni bound the chance of any false finding, BH and BY the share of false ones.

    Parameters
    ----------
    p : array (m,)
        P-values in [0, 1].
    method : {"holm", "bh", "by", "bonferroni", "none"}
        BH needs independent or positively dependent tests, BY none.

    Returns
    -------
    array (m,)
        In the order given.

    Raises
    ------
    ValueError
        If a p-value is not in [0, 1] or the method is unknown.

    References
    ----------
    Holm (1979); Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001).

    Examples
    --------
    >>> adjust_p_values([0.01, 0.04], method="holm").tolist()
    [0.02, 0.04]
    """
    check_one_of(method, "method", ("holm", "bh", "by", "bonferroni", "none"))
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"p-values must be a list of numbers in [0, 1]; got {np.ravel(p)[:5].tolist()}"
        )
    m = len(values)
    if m == 0 or method == "none":
        return values.copy()
    if method == "bonferroni":
        return np.minimum(values * m, 1.0)
    order = np.argsort(values)
    ranked = values[order]
    if method == "holm":
        stepped = np.maximum.accumulate(ranked * (m - np.arange(m)))
    else:
        factor = np.sum(1 / np.arange(1, m + 1)) if method == "by" else 1.0
        raw = ranked * m * factor / np.arange(1, m + 1)
        stepped = np.minimum.accumulate(raw[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
