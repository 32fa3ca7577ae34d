"""Tables of pairs that the tests of the dual-sided read-out share."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from experiments.designs.assignment_variance import CELLS
from experiments.pairs.pair_sums import PairSums

ROLES = {
    "outcome": "y",
    "viewer": "viewer",
    "author": "author",
    "viewer_arm": "va",
    "author_arm": "aa",
}


def crossed(shape, *, viewer=1.0, author=1.0, pair=1.0, seed=0):
    """Outcomes of all pairs: a level of each viewer, one of each author, noise of each pair."""
    rng = np.random.default_rng(seed)
    levels = rng.normal(0, viewer, shape[0])[:, None] + rng.normal(0, author, shape[1])
    return 5 + levels + rng.normal(0, pair, shape)


def with_constant_effects(base):
    """Potential outcomes of the cells that differ by constants."""
    return {name: base + add for name, add in zip(CELLS, (3.0, 1.0, 0.5, 0.0), strict=True)}


def observed(potential, viewer_arm, author_arm):
    """What is seen of the potential outcomes under these arms, (n_viewers, n_authors)."""
    seen = np.empty(potential["both"].shape)
    for name, (v, a) in CELLS.items():
        here = np.ix_(viewer_arm == v, author_arm == a)
        seen[here] = potential[name][here]
    return seen


def halves(n, rng):
    """Arms of n units, half of them treated, at random."""
    return rng.permutation(np.arange(n) % 2)


def dealt(n, k):
    """Arms of n units in every way to treat k."""
    for chosen in itertools.combinations(range(n), k):
        arm = np.zeros(n, dtype=np.int64)
        arm[list(chosen)] = 1
        yield arm


def pair_frame(y, viewer_arm, author_arm):
    """One row a pair of the matrix."""
    i, j = (index.ravel() for index in np.indices(y.shape))
    return pd.DataFrame(
        {
            "viewer": i + 100,
            "author": j + 7,
            "va": viewer_arm[i],
            "aa": author_arm[j],
            "y": y.ravel(),
        }
    )


def experiment(shape=(24, 16), *, seed=0, **spread):
    """One row a pair: direct effect 1.5, spillover of viewers 1, of authors 0.5."""
    rng = np.random.default_rng(seed + 1)
    arms = [halves(n, rng) for n in shape]
    potential = with_constant_effects(crossed(shape, seed=seed, **spread))
    return pair_frame(observed(potential, *arms), *arms)


def dense_sums(y, viewer_arm, author_arm):
    """`PairSums` of a complete matrix, cell by cell."""
    n, mean, square = np.zeros((3, 2, 2))
    by_viewer, by_author = np.zeros((len(viewer_arm), 2)), np.zeros((len(author_arm), 2))
    for v, a in CELLS.values():
        cell = y[np.ix_(viewer_arm == v, author_arm == a)]
        n[v, a], mean[v, a] = cell.size, cell.mean()
        square[v, a] = ((cell - cell.mean()) ** 2).sum()
        by_viewer[viewer_arm == v, a] = (cell - cell.mean()).sum(axis=1)
        by_author[author_arm == a, v] = (cell - cell.mean()).sum(axis=0)
    return PairSums(
        viewer_arm=viewer_arm,
        author_arm=author_arm,
        n_pairs=n,
        mean=mean,
        square=square,
        by_viewer=by_viewer,
        by_author=by_author,
        complete=True,
    )
