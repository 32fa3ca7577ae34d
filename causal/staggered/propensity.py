"""Propensity of being in a cohort rather than among its controls: a logit by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MOST_STEPS = 50
_CLOSE = 1e-7  # Newton's error is squared by each step: 1e-14 after the last one
_SINGULAR = 1e-12
_HALVINGS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Logit:
    """A fitted logit: coefficients (p,) and the inverse of the weighted information (p, p)."""

    coef: NDArray[np.float64]
    inverse: NDArray[np.float64]

    def propensity(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of treatment of each row."""
        return np.asarray(special.expit(_columns(X, self.coef)))


def fit_logit(
    X: NDArray[np.float64],
    treated: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    names: Sequence[str],
    cohort: object,
    near: Logit | None = None,
) -> Logit:
    """Maximum likelihood by Newton's steps from the overall share, or from a fit that is near.

    Parameters
    ----------
    X : (n, p) array
        The first column is 1, the others on a common scale.
    treated : (n,) array
        1 or 0, both present.
    weight : (n,) array, optional
    names : sequence of str
        Of the p - 1 covariates, for messages; `cohort` too.
    near : Logit, optional
        Where to start; it changes the time only.

    Raises
    ------
    ValueError
        If a combination of covariates separates the treated from the controls.
    """
    w = np.ones(len(X)) if weight is None else weight
    mean = float(np.sum(w * treated) / np.sum(w))
    coef = np.zeros(X.shape[1])
    coef[0] = np.log(mean) - np.log1p(-mean)
    if near is not None:
        coef = near.coef.copy()
    score = _columns(X, coef)
    close = False
    for _ in range(_MOST_STEPS):
        p = special.expit(score)
        inverse = inverted((X * (w * p * (1 - p))[:, None]).T @ X)
        if inverse is None:
            break
        if close:
            return Logit(coef, inverse)
        step = inverse @ np.einsum("ip,i->p", X, w * (treated - p))
        close = bool(np.abs(step).max() <= _CLOSE)
        coef, score = _stepped(X, treated, w, coef, step)
    worst = names[int(np.abs(coef[1:]).argmax())]
    raise ValueError(
        f"cohort {cohort!r} and its controls are separated by covariate {worst!r}: the propensity "
        "runs to 0 or 1 and has no estimate; use method='reg', or drop or coarsen the covariate"
    )


def inverted(A: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Inverse of a positive definite matrix; None where it is singular to working precision."""
    scale = np.sqrt(np.diag(A))
    if not (scale > 0).all() or not np.isfinite(scale).all():
        return None
    values, vectors = np.linalg.eigh(A / np.outer(scale, scale))
    if values[0] <= _SINGULAR * values[-1]:
        return None
    return np.asarray((vectors / values) @ vectors.T / np.outer(scale, scale))


def _stepped(
    X: NDArray[np.float64],
    treated: NDArray[np.float64],
    w: NDArray[np.float64],
    coef: NDArray[np.float64],
    step: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A step; one that is not small is halved as long as it makes the likelihood worse."""
    score = _columns(X, coef + step)
    if np.abs(step).max() <= 1.0:
        return coef + step, score
    before = _likelihood(_columns(X, coef), treated, w)
    for _ in range(_HALVINGS):
        if _likelihood(score, treated, w) >= before:
            break
        step = step / 2
        score = _columns(X, coef + step)
    return coef + step, score


def _likelihood(
    score: NDArray[np.float64], treated: NDArray[np.float64], w: NDArray[np.float64]
) -> float:
    """Log likelihood."""
    return float(np.sum(w * (treated * score - np.logaddexp(0.0, score))))


def _columns(X: NDArray[np.float64], coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """X coef, column by column: the same on any number of threads."""
    score = X[:, 0] * coef[0]
    for j in range(1, len(coef)):
        score += X[:, j] * coef[j]
    return np.asarray(score)
