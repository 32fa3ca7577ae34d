"""Covariance of the cells' means: against every assignment, enumerated, and another package."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pair_tables import ROLES, crossed, dealt, dense_sums, halves, observed, with_constant_effects

from experiments import dual_sided_variance
from experiments.designs.assignment_variance import CELLS, EFFECTS
from experiments.pairs.cell_covariance import (
    cell_parts,
    cell_variances,
    contrast_covariance,
    redraw_covariance,
)
from experiments.pairs.pair_sums import open_pairs, pair_sums

EXACT = 1e-9
WEIGHTS = np.array(list(EFFECTS.values()), dtype=float)
REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "dual_sided.json").read_text(encoding="utf-8")
)
DESIGNS = [((5, 4), (2, 2)), ((6, 5), (3, 2)), ((6, 4), (2, 2))]
SPREADS = [
    {"viewer": 1.0, "author": 1.0, "pair": 0.3},
    {"viewer": 1.0, "author": 0.0, "pair": 0.1},
    {"viewer": 0.0, "author": 0.0, "pair": 1.0},
]


def contrasts(matrix):
    """Variances of the four effects under a covariance of the cells."""
    return np.einsum("mi,ij,mj->m", WEIGHTS, matrix, WEIGHTS)


def each_assignment(potential, treated):
    """Sums of every assignment that treats so many viewers and authors."""
    shape = potential["both"].shape
    for viewer_arm in dealt(shape[0], treated[0]):
        for author_arm in dealt(shape[1], treated[1]):
            seen = observed(potential, viewer_arm, author_arm)
            yield dense_sums(seen, viewer_arm, author_arm)


def exact(potential, treated):
    """Variances of the four effects over all assignments."""
    found = dual_sided_variance(
        potential, n_treated_viewers=treated[0], n_treated_authors=treated[1]
    )
    return np.array(list(found.values()))


def heterogeneous(shape):
    """Potential outcomes without anything in common."""
    return {name: crossed(shape, seed=k) * (1 + k) for k, name in enumerate(CELLS)}


@pytest.mark.parametrize(("shape", "treated"), DESIGNS)
@pytest.mark.parametrize("spread", SPREADS)
def test_two_way_parts_are_unbiased_where_effects_are_alike(shape, treated, spread):
    potential = with_constant_effects(crossed(shape, **spread))
    found = []
    for sums in each_assignment(potential, treated):
        parts = cell_parts(sums)
        found.append(contrasts(parts.viewer + parts.author - parts.pair))
    np.testing.assert_allclose(np.mean(found, axis=0), exact(potential, treated), rtol=EXACT)


@pytest.mark.parametrize(("shape", "treated"), DESIGNS)
@pytest.mark.parametrize("spread", SPREADS)
def test_redraw_covariance_is_unbiased_where_effects_are_alike(shape, treated, spread):
    potential = with_constant_effects(crossed(shape, **spread))
    found = [contrasts(redraw_covariance(s)) for s in each_assignment(potential, treated)]
    np.testing.assert_allclose(np.mean(found, axis=0), exact(potential, treated), rtol=EXACT)


@pytest.mark.parametrize(("shape", "treated"), DESIGNS)
@pytest.mark.parametrize("alike", [*SPREADS, None])
@pytest.mark.parametrize("variance", ["two_way", "exact_bound"])
def test_contrast_covariance_is_not_below_the_variance_on_average(shape, treated, alike, variance):
    base = None if alike is None else crossed(shape, **alike)
    potential = heterogeneous(shape) if base is None else with_constant_effects(base)
    found = [
        np.diag(contrast_covariance(sums, WEIGHTS, variance)[0])
        for sums in each_assignment(potential, treated)
    ]
    assert (np.mean(found, axis=0) >= exact(potential, treated) * (1 - EXACT)).all()


def test_exact_bound_by_standard_deviations_would_be_too_small():
    """(sum |w| sd)^2 of the estimates: two cells that move as one leave its mean below."""
    base = crossed((6, 4), viewer=0.0, author=0.0, pair=0.1)
    base[:, 0] += 5  # one author is far ahead
    potential = with_constant_effects(base)
    by_sd = [
        (np.abs(WEIGHTS) @ np.sqrt(cell_variances(sums))) ** 2
        for sums in each_assignment(potential, (3, 2))
    ]
    total = np.mean(by_sd, axis=0)[3] / exact(potential, (3, 2))[3]
    assert total < 0.9


@pytest.mark.parametrize(("shape", "treated"), DESIGNS)
def test_cell_variances_are_those_of_every_assignment(shape, treated):
    potential = heterogeneous(shape)
    means, found = [], []
    for sums in each_assignment(potential, treated):
        means.append([sums.mean[cell] for cell in CELLS.values()])
        found.append(cell_variances(sums))
    spread = np.var(means, axis=0)
    assert (np.mean(found, axis=0) >= spread * (1 - EXACT)).all()
    one_sided = with_constant_effects(crossed(shape, viewer=2.0, author=2.0, pair=0.0))
    means, found = [], []
    for sums in each_assignment(one_sided, treated):
        means.append([sums.mean[cell] for cell in CELLS.values()])
        found.append(cell_variances(sums))
    np.testing.assert_allclose(np.mean(found, axis=0), np.var(means, axis=0), rtol=EXACT)


@pytest.mark.reference
def test_cell_parts_equal_statsmodels_two_way_sandwich():
    given = REFERENCE["two_way"]
    rows = pd.DataFrame(given["rows"])
    opened = {"covariates": (), "battle": None, "n_viewers": None, "n_authors": None}
    log = open_pairs(rows, **ROLES, zero_fill=False, **opened)
    sums = pair_sums(log)
    parts, unit = cell_parts(sums), log.scale**2
    by_viewer, by_author = np.array(given["by_viewer"]), np.array(given["by_author"])
    np.testing.assert_allclose(unit * parts.viewer, by_viewer * 7 / 6, rtol=EXACT, atol=1e-12)
    np.testing.assert_allclose(unit * parts.author, by_author * 5 / 4, rtol=EXACT, atol=1e-12)
    pair = by_viewer + by_author - np.array(given["both"])
    np.testing.assert_allclose(unit * parts.pair, pair, rtol=EXACT, atol=1e-12)
    mean = log.scale * np.array([sums.mean[cell] for cell in CELLS.values()])
    np.testing.assert_allclose(WEIGHTS @ mean, given["estimate"], rtol=EXACT)


def test_contrast_covariance_is_never_below_one_side_alone():
    rng = np.random.default_rng(0)
    for seed in range(20):
        arms = halves(12, rng), halves(10, rng)
        sums = dense_sums(crossed((12, 10), viewer=0, author=0, seed=seed), *arms)
        parts = cell_parts(sums)
        found = np.diag(contrast_covariance(sums, WEIGHTS, "two_way")[0])
        least = np.maximum(contrasts(parts.viewer), contrasts(parts.author))
        assert (found >= least * (1 - EXACT)).all()


@pytest.mark.parametrize("variance", ["two_way", "exact_bound", "randomization"])
def test_contrast_covariance_without_noise_is_zero_not_negative(variance):
    rng = np.random.default_rng(1)
    arms = halves(12, rng), halves(10, rng)
    base = with_constant_effects(crossed((12, 10), viewer=3, author=2, pair=0))
    found, _ = contrast_covariance(dense_sums(observed(base, *arms), *arms), WEIGHTS, variance)
    assert np.diag(found).min() >= 0
    if variance != "exact_bound":  # the direct effect holds no viewer and no author
        assert found[0, 0] < 1e-14


@pytest.mark.slow
@pytest.mark.parametrize(
    "spread",
    [{"viewer": 1.0, "author": 1.0}, {"viewer": 0.3, "author": 0.3}],
    ids=["main", "small"],
)
def test_two_way_variance_is_that_of_the_design_at_60_by_30(spread):
    shape, rng = (60, 30), np.random.default_rng(2)
    potential = with_constant_effects(crossed(shape, seed=3, **spread))
    found, dropped = [], []
    for _ in range(800):
        arms = halves(60, rng), halves(30, rng)
        sums = dense_sums(observed(potential, *arms), *arms)
        found.append(np.diag(contrast_covariance(sums, WEIGHTS, "two_way")[0]))
        dropped.append(contrasts(cell_parts(sums).author))
    ratio = np.mean(found, axis=0) / exact(potential, (30, 15))
    assert ((ratio > 0.9) & (ratio < 1.2)).all(), ratio
    assert np.mean(dropped, axis=0)[1] < 0.5 * exact(potential, (30, 15))[1]  # it would be seen
