"""Policy values for pages of several slots: from log rows of slots to the reward of a slate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from causal.decisions.policy_result import Estimate, PolicyValue, policy_effect
from causal.decisions.weighted_rewards import refuse_propensity, refuse_target
from causal.decisions.weights import WeightSums, warn_if_fragile, weight_diagnostics
from causal.frame import Table, check_columns, check_one_of, codes, column_names, read_columns
from causal.values import is_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

SlateMethod: TypeAlias = Literal["independent", "pseudoinverse", "cascade", "pbm"]

_WORDS = {
    "independent": "item-position model",
    "pseudoinverse": "pseudoinverse for product logging",
    "cascade": "cascade (reward interaction)",
    "pbm": "position-based model",
}


def slate_value(
    log: Table,
    *,
    slate: str,
    position: str,
    reward: str,
    propensity: str,
    target: str,
    method: SlateMethod = "independent",
    examination: Mapping[int, float] | None = None,
    self_normalise: bool = True,
) -> PolicyValue:
    """Mean reward a slate (summed over its slots) that a target policy would have earned.

    For whoever logs pages of several slots and asks for the value of another page policy. Choose
    the method by what a slot's reward may depend on.

    Parameters
    ----------
    log : Table
        One row a slot.
    slate, position : str
        Columns: the slate's key, and the slot's place 1, 2, ... in it.
    reward : str
        Column: reward of the slot.
    propensity, target : str
        Columns: the probability of the slot's item under the policy that logged, in (0, 1], and
        under the target, in [0, 1]. For "independent" and "pbm" marginal over the other slots, for
        "cascade" given the slots above, for "pseudoinverse" of a draw that is independent between
        slots. For "pbm" they are expected examinations, sum_k theta_k P(item at k): one number for
        the item, whatever slot it fell in.
    method : {"independent", "pseudoinverse", "cascade", "pbm"}
        Assumes that a slot's reward depends

        - independent: on its own item and place only (Li et al. 2018);
        - pseudoinverse: rewards of any slot may depend on several slots, if the slate's total is a
          sum of contributions of single slots (Swaminathan et al. 2017), and slots were drawn
          independently (product logging);
        - cascade: on its own and the items above it (McInerney et al. 2020);
        - pbm: on its item, times the examination of its place (Li et al. 2018).
    examination : mapping from place to number in (0, 1], optional
        theta_k, required by "pbm" and by no other.
    self_normalise : bool
        Divide by the mean weight (by place, for independent and cascade): less variance, a bias
        that falls as 1 / n.

    Returns
    -------
    PolicyValue
        Slates are the clusters. Diagnostics are of the weights of slots, of slates for the
        pseudoinverse.

    Raises
    ------
    ValueError
        If a column is absent, a number is missing, a probability is none, places of a slate repeat
        or have gaps, `examination` does not fit the method, or there are fewer than two slates.

    Warns
    -----
    EstimationWarning
        As `off_policy_value`.

    Notes
    -----
    independent: w = target / propensity by row, V = sum over rows w r / slates. cascade: the same
    with the product of w over the prefix. pseudoinverse: weight of the slate sum_k w_k - (L - 1)
    on its total reward. pbm: w = sum_k theta_k pi_k(a) / sum_k theta_k mu_k(a), whose normaliser is
    sum theta_k w / sum theta_k. Standard errors are those of influence values summed by slate.
    Weights of the pseudoinverse may be negative.

    References
    ----------
    Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay & Wen (2018), Offline evaluation of ranking
    policies with click models. KDD.
    Swaminathan et al. (2017), Off-policy evaluation for slate recommendation. NIPS.
    McInerney, Brost, Chandar, Mehrotra & Carterette (2020), Counterfactual evaluation of slate
    recommendations with sequential reward interactions. KDD.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"page": [i // 2 for i in range(800)], "slot": [1, 2] * 400,
    ...     "click": [1, 0, 0, 0] * 200, "p": 0.5, "new": [0.6, 0.5, 0.4, 0.5] * 200})
    >>> round(slate_value(log, slate="page", position="slot", reward="click", propensity="p",
    ...     target="new").estimate, 3)
    0.6
    """
    check_one_of(method, "method", tuple(_WORDS))
    roles = {
        "slate": [slate],
        "position": [position],
        "reward": [reward],
        "propensity": [propensity],
        "target": [target],
    }
    check_columns(column_names(log), roles)
    # one read: a lazy table may give its rows in another order next time
    numbers = [reward, propensity, target, position]
    found = read_columns(log, numeric=numbers, labels=[slate])
    refuse_propensity(propensity, found[propensity])
    refuse_target(f"column {target!r}", found[target])
    slots = _Slots.sorted(
        found[slate], found[position], found[reward], found[target] / found[propensity]
    )
    theta = _examinations(slots, method, examination)
    weighted = _weighted(slots, method, theta)
    value, scores = _value(weighted, slots.n_slates, self_normalise=self_normalise)
    diagnostics = weight_diagnostics(_sums(weighted, slots.n_slates), None)
    estimate = _estimate(value, scores, len(slots.reward))
    details: dict[str, Any] = {
        "self_normalised": self_normalise,
        "n_slots": int(slots.place.max()) + 1,
        "counted": "slots",
    }
    if method == "pbm":
        details["examination"] = sorted(set(zip(slots.place.tolist(), theta.tolist(), strict=True)))
    words = f"{_WORDS[method]}{', self-normalised' if self_normalise else ''}"
    warn_if_fragile(diagnostics, stacklevel=2)
    effect = policy_effect(estimate, method=words, details=details)
    return PolicyValue(effect=effect, diagnostics=diagnostics)


@dataclass(frozen=True)
class _Slots:
    """Slots sorted by slate and place; `place` counts from 0; all arrays (n,)."""

    slate: NDArray[np.int64]
    place: NDArray[np.int64]
    reward: NDArray[np.float64]
    weight: NDArray[np.float64]
    first: int

    @classmethod
    def sorted(
        cls,
        label: NDArray[Any],
        position: NDArray[np.float64],
        reward: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> _Slots:
        """Check that places of every slate run without repeat or gap, from the same first one."""
        slate, levels = codes(label)
        if len(levels) < 2:
            raise ValueError(f"at least two slates are required; got {len(levels)}")
        order = np.lexsort([position, slate])
        slate, position = slate[order], position[order]
        start = np.flatnonzero(np.diff(slate, prepend=-1))
        index = np.arange(len(slate)) - start[slate]
        first = float(position.min())
        wrong = position != first + index
        if wrong.any() or first not in (0.0, 1.0):
            bad = np.unique(slate[wrong])
            raise ValueError(
                "places of a slate must be 1, 2, 3, ... without repeat or gap (or 0, 1, 2, ...); "
                f"{len(bad)} slates are not, e.g. {', '.join(map(str, levels[bad[:5]]))}; "
                "number the slots of each slate"
            )
        return cls(slate, index, reward[order], weight[order], int(first))

    @property
    def n_slates(self) -> int:
        """Number of slates."""
        return int(self.slate[-1]) + 1


@dataclass(frozen=True)
class _Weighted:
    """Rows that carry a weight: slots, or whole slates.

    Parameters
    ----------
    slate : int64 array (m,)
    stratum : int64 array (m,)
        Rows that are normalised together.
    w, r, share : arrays (m,)
        Weight, reward, and the share that the weight has in its normaliser.
    """

    slate: NDArray[np.int64]
    stratum: NDArray[np.int64]
    w: NDArray[np.float64]
    r: NDArray[np.float64]
    share: NDArray[np.float64]


def _weighted(slots: _Slots, method: str, theta: NDArray[np.float64]) -> _Weighted:
    """The method's weights."""
    w, slate, r = slots.weight, slots.slate, slots.reward
    same, ones = np.zeros(len(w), dtype=np.int64), np.ones(len(w))
    if method == "pbm":
        return _Weighted(slate, same, w, r, theta)
    if method == "independent":
        return _Weighted(slate, slots.place, w, r, ones)
    if method == "cascade":
        return _Weighted(slate, slots.place, _prefix_products(slots), r, ones)
    n = slots.n_slates
    total = 1.0 + _by(slate, w - 1.0, n)
    each = np.arange(n)
    return _Weighted(each, np.zeros_like(each), total, _by(slate, r, n), np.ones(n))


def _prefix_products(slots: _Slots) -> NDArray[np.float64]:
    """Product of the weights of a slate up to each slot."""
    product = slots.weight.copy()
    for place in range(1, int(slots.place.max()) + 1):
        here = np.flatnonzero(slots.place == place)
        product[here] *= product[here - 1]
    return product


def _is_share(value: object) -> bool:
    """Whether a value is a number in (0, 1]."""
    return is_number(value) and 0 < value <= 1


def _examinations(
    slots: _Slots, method: str, examination: Mapping[int, float] | None
) -> NDArray[np.float64]:
    """Examination of every slot; 1 where the method has none."""
    if method != "pbm":
        if examination is not None:
            raise ValueError(f"examination belongs to method 'pbm'; leave it out with {method!r}")
        return np.ones(len(slots.place))
    if examination is None:
        raise ValueError(
            "method 'pbm' needs examination, a mapping from place to the probability that it is "
            "looked at; got none"
        )
    if not isinstance(examination, Mapping):
        raise TypeError(
            "examination must be a mapping from place to a number in (0, 1], such as {1: 0.9}; "
            f"got {type(examination).__name__}"
        )
    places = range(slots.first, slots.first + int(slots.place.max()) + 1)
    bad = {k: examination.get(k) for k in places if not _is_share(examination.get(k))}
    if bad:
        raise ValueError(
            f"examination must name every place with a number in (0, 1]; {len(bad)} are not, "
            f"e.g. {dict(list(bad.items())[:5])}"
        )
    return np.array([float(examination[k]) for k in places])[slots.place]


def _value(
    weighted: _Weighted, n_slates: int, *, self_normalise: bool
) -> tuple[float, NDArray[np.float64]]:
    """Value, and the influence of every slate, (n_slates,), of mean 0.

    The value is sum_s (R_s / n) V_s over strata s, with R_s their total share in the normaliser and
    V_s = sum w r / sum share w; without normalising it is sum w r / n.
    """
    w, r, s = weighted.w, weighted.r, weighted.stratum
    slate, share = weighted.slate, weighted.share
    if not self_normalise:
        by_slate = _by(slate, w * r, n_slates)
        value = float(by_slate.mean())
        return value, by_slate - value
    normaliser, size = np.bincount(s, share * w), np.bincount(s, share)
    if (normaliser <= 0).any():
        place = int(np.flatnonzero(normaliser <= 0)[0])
        raise ValueError(
            "self-normalising needs weight in every stratum; the weights sum to "
            f"{normaliser[place]:.3g} in stratum {place} (places count from 0): the target policy "
            "takes no logged item there; use self_normalise=False"
        )
    level = np.bincount(s, w * r) / normaliser
    mean_weight = normaliser / size
    value = float(size @ level) / n_slates
    rows = (w * r - level[s] * share * w) / mean_weight[s] + level[s] * share
    return value, _by(slate, rows, n_slates) - value


def _by(code: NDArray[np.int64], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sums by code, (n,)."""
    return np.asarray(np.bincount(code, values, n), dtype=np.float64)


def _estimate(value: float, scores: NDArray[np.float64], n_slots: int) -> Estimate:
    """Variance over slates as clusters."""
    n = len(scores)
    unit = float(np.abs(scores).max()) or 1.0
    scaled = scores / unit
    variance = float(scaled @ scaled) / (n * (n - 1)) * unit * unit
    return Estimate(
        value=value,
        logged_mean=math.nan,
        covariance=np.array([[variance, 0.0], [0.0, 0.0]]),
        lift=False,
        n_obs=n_slots,
        n_clusters=n,
    )


def _sums(weighted: _Weighted, n_slates: int) -> WeightSums:
    """Sums of the weights for the diagnostics; the mean weight is clustered by slate."""
    w, share = weighted.w, weighted.share
    total = float(share.sum())
    mean = float(share @ w) / total
    scores = np.bincount(weighted.slate, share * (w - mean), n_slates) / total
    error = math.sqrt(n_slates / (n_slates - 1) * float(scores @ scores))
    return WeightSums(
        n=len(w),
        total=float(w.sum()),
        absolute=float(np.abs(w).sum()),
        squares=float(w @ w),
        top=w,
        mean=mean,
        mean_std_error=error,
        n_zero=int((w == 0).sum()),
        rewarded=int(((w != 0) & (weighted.r != 0)).sum()),
    )
