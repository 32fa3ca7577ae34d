"""Designs that would throw the same coin: the same salt under the same seed."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

from experiments.designs.design import AuthorSplit, ClusterSplit, DualSided, UserSplit
from experiments.designs.rotation import Saturation, Switchback

if TYPE_CHECKING:
    from collections.abc import Mapping

Design: TypeAlias = UserSplit | AuthorSplit | ClusterSplit | DualSided | Switchback | Saturation


def salt_clashes(designs: Mapping[str, Design]) -> tuple[str, ...]:
    """Pairs of designs that throw the same coin when they run under one seed, as warnings.

    Parameters
    ----------
    designs : mapping of str to design
        By the name that a warning shows.

    Returns
    -------
    tuple of str
        One sentence a pair; empty where every design has a salt of its own.

    Notes
    -----
    An arm is a hash of id, salt and seed. With an equal salt and seed an id has the same place in
    both designs: who is treated in one is treated in the other, and neither can be read by itself.
    Slices of time have no salt.

    Examples
    --------
    >>> salt_clashes({"a": UserSplit(salt="a"), "b": UserSplit(salt="b")})
    ()
    """
    named = {name: _salts(design) for name, design in designs.items()}
    return tuple(
        f"{one!r} and {other!r} have the same salt {shared[0]!r}: under one seed an id has the "
        "same coin in both; give each design a salt of its own"
        for (one, ours), (other, theirs) in combinations(named.items(), 2)
        if (shared := [salt for salt in ours if salt in theirs])
    )


def _salts(design: Design) -> tuple[str, ...]:
    """What a design hashes ids with."""
    if isinstance(design, Switchback):
        return ()
    if isinstance(design, DualSided):
        return tuple(f"{design.salt}|{side}" for side in ("viewer", "author"))
    return (design.salt,)
