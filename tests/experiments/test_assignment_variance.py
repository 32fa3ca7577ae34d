"""Exact variances of a dual-sided design: against every assignment, enumerated."""

import itertools

import numpy as np
import pytest

from experiments import cell_variance, dual_sided_variance
from experiments.designs.assignment_variance import CELLS, EFFECTS

EXACT = 1e-10


def subsets(n, k):
    """Every way to draw k of n, as masks."""
    for chosen in itertools.combinations(range(n), k):
        mask = np.zeros(n, dtype=bool)
        mask[list(chosen)] = True
        yield mask


@pytest.mark.parametrize(("shape", "size"), [((5, 4), (2, 1)), ((6, 5), (3, 4)), ((5, 4), (5, 2))])
def test_cell_variance_is_that_of_every_cell(shape, size):
    y = np.random.default_rng(0).normal(2, 3, shape)
    means = [
        y[np.ix_(rows, columns)].mean()
        for rows in subsets(shape[0], size[0])
        for columns in subsets(shape[1], size[1])
    ]
    found = cell_variance(y, n_viewers=size[0], n_authors=size[1])
    assert found.mean == pytest.approx(np.mean(means), rel=EXACT)
    assert found.variance == pytest.approx(np.var(means), rel=EXACT)


def test_cell_variance_parts_are_an_analysis_of_variance():
    rng = np.random.default_rng(1)
    viewer, author = rng.normal(0, 2, 7), rng.normal(0, 3, 6)
    found = cell_variance(viewer[:, None] + author[None, :], n_viewers=3, n_authors=3)
    assert found.s2_viewer == pytest.approx(viewer.var(ddof=1), rel=EXACT)
    assert found.s2_author == pytest.approx(author.var(ddof=1), rel=EXACT)
    assert found.s2_pair == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("shape", "treated"), [((5, 4), (2, 2)), ((6, 5), (3, 2))])
def test_dual_sided_variance_is_that_of_every_assignment(shape, treated):
    rng = np.random.default_rng(2)
    potential = {name: rng.normal(k, 1 + k, shape) for k, name in enumerate(CELLS)}
    estimates = []
    for rows in subsets(shape[0], treated[0]):
        for columns in subsets(shape[1], treated[1]):
            means = [
                y[np.ix_(rows if v else ~rows, columns if a else ~columns)].mean()
                for y, (v, a) in ((potential[name], CELLS[name]) for name in CELLS)
            ]
            estimates.append([np.dot(w, means) for w in EFFECTS.values()])
    found = dual_sided_variance(
        potential, n_treated_viewers=treated[0], n_treated_authors=treated[1]
    )
    assert list(found) == ["direct", "viewer_spillover", "author_spillover", "total"]
    assert list(found.values()) == pytest.approx(np.var(estimates, axis=0).tolist(), rel=EXACT)
    truth = [np.dot(w, [potential[n].mean() for n in CELLS]) for w in EFFECTS.values()]
    assert np.mean(estimates, axis=0) == pytest.approx(truth, rel=EXACT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cell_variance([1, 2], n_viewers=1, n_authors=1), "outcomes must be a finite"),
        (lambda: cell_variance([[1, 2]], n_viewers=1, n_authors=1), "two viewers and two authors"),
        (
            lambda: cell_variance([[1, np.nan], [1, 2]], n_viewers=1, n_authors=1),
            "outcomes must be a finite",
        ),
        (
            lambda: cell_variance(np.ones((3, 3)), n_viewers=4, n_authors=1),
            "n_viewers must be a whole number from 1 to 3; got 4",
        ),
        (
            lambda: dual_sided_variance({"both": [[1]]}, n_treated_viewers=1, n_treated_authors=1),
            "must have the cells",
        ),
        (
            lambda: dual_sided_variance(
                {n: np.ones((3, 3 + (n == "both"))) for n in CELLS},
                n_treated_viewers=1,
                n_treated_authors=1,
            ),
            "one shape",
        ),
        (
            lambda: dual_sided_variance(
                {n: np.ones((3, 3)) for n in CELLS}, n_treated_viewers=3, n_treated_authors=1
            ),
            "n_treated_viewers must be a whole number from 1 to 2; got 3",
        ),
    ],
)
def test_dual_sided_variances_refuse_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
