"""Who is treated: viewers, authors, clusters or both sides, by a hash that can be replayed.

Designs that change over time are in `experiments.designs.rotation`.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causal.values import is_number
from experiments.designs.hashing import as_ids, unit_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray


MOST_ARMS = 100


@dataclass(frozen=True)
class UserSplit:
    """Viewers split at random: each id goes to an arm by its hash alone.

    Parameters
    ----------
    share : float
        Treated share of two arms, in (0, 1).
    arms : sequence of str
        Names, the control first.
    shares : sequence of float, optional
        Shares of all arms, in their order, for more than two arms; they sum to 1.
    salt : str
        Name of the experiment. Two designs with the same salt and seed throw the same coin: give
        each a salt of its own.

    Raises
    ------
    ValueError
        If shares are not in (0, 1), do not sum to 1 or do not fit the arms.

    Examples
    --------
    >>> UserSplit(0.5, salt="new ranking").assign([101, 102, 103, 104], seed=1).tolist()
    [0, 0, 1, 0]
    """

    share: float = 0.5
    _: KW_ONLY
    arms: tuple[str, ...] = ("control", "treatment")
    shares: tuple[float, ...] | None = None
    salt: str = ""

    def __post_init__(self) -> None:
        check_share("share", self.share)
        object.__setattr__(self, "arms", _arm_names(self.arms))
        if self.shares is None and len(self.arms) != 2:
            raise ValueError(f"shares must be given for {len(self.arms)} arms {self.arms[:10]}")
        if self.shares is not None:
            object.__setattr__(self, "shares", tuple(self.shares))
            for s in self.shares:
                check_share("shares", s)
            if len(self.shares) != len(self.arms) or abs(math.fsum(self.shares) - 1) > 1e-9:
                raise ValueError(
                    f"shares must be one for each of {len(self.arms)} arms and sum to 1; got "
                    f"{self.shares[:10]}"
                )

    def assign(self, units: object, *, seed: int = 0) -> NDArray[np.int8]:
        """Position of each unit's arm: 0 is the control.

        Parameters
        ----------
        units : array (n,) of whole numbers or text
            Ids; the same id has the same arm wherever it stands.
        seed : int

        Returns
        -------
        int8 array (n,)

        Raises
        ------
        ValueError, TypeError
            As in `experiments.designs.hashing.unit_hash`, whose notes say how to replay it.
        """
        shares = self.shares or (1 - self.share, self.share)
        edges = np.cumsum(shares)[:-1]
        u = unit_hash(units, salt=self.salt, seed=seed)
        return np.searchsorted(edges, u, side="right").astype(np.int8)


@dataclass(frozen=True)
class AuthorSplit(UserSplit):
    """Authors split at random; everything as in `UserSplit`, on author ids."""


@dataclass(frozen=True)
class ClusterSplit:
    """Whole clusters of units split at random.

    Parameters
    ----------
    share : float
        Treated share of clusters, in (0, 1).
    complete : bool
        Exactly that share (rounded) of the clusters; otherwise each by its own hash.
    salt : str
        As in `UserSplit`.

    Examples
    --------
    >>> ClusterSplit().assign([1, 2, 3, 4], clusters=["a", "a", "b", "b"]).tolist()
    [0, 0, 1, 1]
    """

    share: float = 0.5
    _: KW_ONLY
    complete: bool = True
    salt: str = ""

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def assign(self, units: object, *, clusters: object, seed: int = 0) -> NDArray[np.int8]:
        """Arm 0 or 1 of each unit: that of its cluster.

        Raises
        ------
        ValueError
            If an id is missing, or there is not one cluster a unit.
        """
        ids, labels = as_ids(units), as_ids(clusters)
        if len(ids) != len(labels):
            raise ValueError(
                f"clusters must be one for each unit; got {len(labels)} for {len(ids)} units"
            )
        codes, levels = pd.factorize(labels)
        return side_arms(levels, self.share, complete=self.complete, salt=self.salt, seed=seed)[
            codes
        ]


@dataclass(frozen=True)
class DualArms:
    """Arms of both sides, 0 or 1, in the order of the ids given."""

    viewer_arm: NDArray[np.int8]
    author_arm: NDArray[np.int8]


@dataclass(frozen=True)
class DualSided:
    """Viewers and authors randomised at once, independently: a pair is treated where both are.

    Parameters
    ----------
    viewer_share, author_share : float
        Treated shares, in (0, 1).
    complete : bool
        Exactly these shares (rounded), as the exact variance needs; otherwise by hash alone.
    salt : str
        As in `UserSplit`; the sides hash with ``salt + "|viewer"`` and ``salt + "|author"``.

    References
    ----------
    Bajari et al. (2021). Multiple randomization designs, arXiv:2112.13495.

    Examples
    --------
    >>> arms = DualSided().assign([1, 2, 3, 4], ["x", "y"])
    >>> int(arms.viewer_arm.sum()), int(arms.author_arm.sum())
    (2, 1)
    """

    viewer_share: float = 0.5
    author_share: float = 0.5
    _: KW_ONLY
    complete: bool = True
    salt: str = ""

    def __post_init__(self) -> None:
        check_share("viewer_share", self.viewer_share)
        check_share("author_share", self.author_share)

    def assign(self, viewers: object, authors: object, *, seed: int = 0) -> DualArms:
        """Arms of distinct viewers and authors.

        Raises
        ------
        ValueError
            If an id is missing, or repeats under complete randomisation.
        """
        sides = []
        for side, units, share in (
            ("viewer", viewers, self.viewer_share),
            ("author", authors, self.author_share),
        ):
            ids = as_ids(units)
            if self.complete and len(pd.unique(ids)) < len(ids):
                raise ValueError(
                    f"{side}s must be distinct under complete randomisation; "
                    f"{len(ids) - len(pd.unique(ids))} repeat: pass each id once"
                )
            salt = f"{self.salt}|{side}"
            sides.append(side_arms(ids, share, complete=self.complete, salt=salt, seed=seed))
        return DualArms(*sides)


def side_arms(
    ids: object, share: float, *, complete: bool, salt: str, seed: int
) -> NDArray[np.int8]:
    """Arm 0 or 1 of each id: the smallest hashes are treated; ties go by id."""
    known = as_ids(ids)
    u = unit_hash(known, salt=salt, seed=seed)
    if not complete:
        return (u < share).astype(np.int8)
    chosen = np.lexsort([pd.factorize(known, sort=True)[0], u])[: round(share * len(u))]
    arms = np.zeros(len(u), dtype=np.int8)
    arms[chosen] = 1
    return arms


def _arm_names(arms: object) -> tuple[str, ...]:
    """Names of two arms or more."""
    names = tuple(arms) if isinstance(arms, tuple | list) else ()
    if not 2 <= len(set(names)) == len(names) <= MOST_ARMS:
        raise ValueError(f"arms must be 2 to {MOST_ARMS} different names; got {arms!r:.100}")
    return names


def check_share(name: str, share: object) -> None:
    """A share in (0, 1)."""
    if not (is_number(share) and 0 < share < 1):
        raise ValueError(f"{name} must be in (0, 1); got {share!r}")
