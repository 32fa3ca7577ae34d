"""The randomisation test: brute force, uniform under the sharp hypothesis, replayed by its seed."""

import numpy as np
import pytest
from pair_tables import ROLES, crossed, dealt, experiment, halves, observed, pair_frame
from pair_tables import with_constant_effects as constant
from scipy import sparse, stats

from causal.effect import EstimationWarning
from experiments import dual_sided_effect
from experiments.pairs import dual_sided
from experiments.pairs.fisher import Redraws

TOTAL = np.array([[-1.0, 0.0], [0.0, 1.0]])
DIRECT = np.array([[1.0, -1.0], [-1.0, 1.0]])


def redraws(y, viewer_arm, author_arm, *, mask=None):
    """The record of a matrix, or of the pairs that a mask keeps."""
    seen = np.ones(y.shape, bool) if mask is None else mask
    i, j = np.nonzero(seen)
    return Redraws(
        outcomes=sparse.csr_array((y[seen] - y[seen].mean(), (i, j)), shape=y.shape),
        viewer_arm=viewer_arm,
        author_arm=author_arm,
        complete=mask is None,
        viewer_x=np.zeros((y.shape[0], 0)),
        author_x=np.zeros((y.shape[1], 0)),
    )


def statistic(y, viewer_arm, author_arm, weights, mask):
    """The studentised contrast, pair by pair."""
    estimate, by_viewer, by_author = 0.0, np.zeros(y.shape[0]), np.zeros(y.shape[1])
    for v in (0, 1):
        for a in (0, 1):
            here = np.outer(viewer_arm == v, author_arm == a) & mask
            mean = y[here].mean()
            score = np.where(here, weights[v, a] / here.sum() * (y - mean), 0.0)
            estimate += weights[v, a] * mean
            by_viewer += score.sum(axis=1)
            by_author += score.sum(axis=0)
    variance = 0.0
    for scores, arm in ((by_viewer, viewer_arm), (by_author, author_arm)):
        for k in (0, 1):
            n = (arm == k).sum()
            variance += n / (n - 1) * np.sum(scores[arm == k] ** 2)
    return abs(estimate) / np.sqrt(variance)


@pytest.mark.parametrize("weights", [TOTAL, DIRECT], ids=["total", "direct"])
@pytest.mark.parametrize("share", [None, 0.8], ids=["complete", "some pairs"])
def test_redraw_statistics_are_those_of_brute_force(weights, share):
    rng = np.random.default_rng(0)
    y = crossed((9, 8))
    mask = np.ones(y.shape, bool) if share is None else rng.random(y.shape) < share
    record = redraws(y, halves(9, rng), halves(8, rng), mask=None if share is None else mask)
    drawn = [(halves(9, rng), halves(8, rng)) for _ in range(6)]
    columns = [np.column_stack(side) for side in zip(*drawn, strict=True)]
    found = record._statistics(columns, weights)
    wanted = [statistic(y, *arms, weights, mask) for arms in drawn]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_redraw_p_value_is_the_share_of_all_assignments():
    y = crossed((6, 4), seed=3)
    rng = np.random.default_rng(1)
    arms = halves(6, rng), halves(4, rng)
    mask = np.ones(y.shape, bool)
    here = statistic(y, *arms, TOTAL, mask)
    every = [statistic(y, v, a, TOTAL, mask) for v in dealt(6, 3) for a in dealt(4, 2)]
    exact = np.mean(np.array(every) >= here - 1e-9)
    found = redraws(y, *arms).p_value(TOTAL, n_draws=20_000, seed=0)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_fisher_is_uniform_under_the_sharp_hypothesis():
    rng = np.random.default_rng(2)
    for weights in (TOTAL, DIRECT):
        y = rng.exponential(1, (14, 10)) * np.exp(rng.normal(0, 1, 14))[:, None]
        p = [
            redraws(y, halves(14, rng), halves(10, rng)).p_value(weights, n_draws=99, seed=seed)
            for seed in range(400)
        ]
        assert np.mean(p) == pytest.approx(0.5, abs=0.06)
        assert np.mean(np.array(p) <= 0.05) <= stats.binom.ppf(0.9995, 400, 0.06) / 400
        assert stats.kstest(p, "uniform").pvalue > 0.001


def test_fisher_finds_an_effect_and_replays_its_seed():
    found = dual_sided_effect(experiment(viewer=0.3, author=0.3), **ROLES)
    assert found.fisher("total") == found.fisher(seed=0)
    assert found.fisher("total") <= 0.01
    assert found.fisher("direct", n_draws=199) == 1 / 200
    assert found.fisher("author_spillover", seed=1) != found.fisher("author_spillover", seed=2)


def test_fisher_does_not_depend_on_the_unit_or_the_order():
    frame = experiment(seed=5)
    wanted = dual_sided_effect(frame, **ROLES).fisher("author_spillover")
    for other in (frame.assign(y=60 * frame["y"] + 1e6), frame.sample(frac=1, random_state=0)):
        assert dual_sided_effect(other, **ROLES).fisher("author_spillover") == wanted


def test_fisher_of_zeros_without_rows_is_that_of_zeros():
    frame = experiment(seed=6)
    frame["y"] = frame["y"].where(frame["y"] > 5, 0.0)
    some = frame[frame["y"] > 0]
    assert len(some) < 0.8 * len(frame)
    found, wanted = (dual_sided_effect(f, **ROLES).fisher("total") for f in (some, frame))
    assert found == wanted


def test_fisher_with_covariates_takes_their_regression_off():
    rng = np.random.default_rng(7)
    shape = (24, 16)
    x, z = rng.normal(size=24), rng.normal(size=16)
    arms = halves(24, rng), halves(16, rng)
    base = 0.3 * crossed(shape) + 8 * x[:, None] + 8 * z
    frame = pair_frame(observed(constant(base), *arms), *arms)
    frame = frame.assign(x=x[frame["viewer"] - 100], z=z[frame["author"] - 7])
    plain = dual_sided_effect(frame, **ROLES).fisher("viewer_spillover")
    found = dual_sided_effect(frame, covariates=["x", "z"], **ROLES).fisher("viewer_spillover")
    assert found < 0.02 < plain


def test_fisher_of_a_constant_is_one():
    with pytest.warns(EstimationWarning, match="outcome 'y' is constant within the cells"):
        found = dual_sided_effect(experiment().assign(y=3), **ROLES)
    assert found.fisher() == 1


def test_fisher_counts_draws_with_an_empty_cell_as_extreme():
    rng = np.random.default_rng(8)
    y, mask = crossed((6, 6)), np.zeros((6, 6), bool)
    mask[np.arange(6), np.arange(6)] = True
    arms = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 0, 1])
    record = redraws(y, *arms, mask=mask)
    columns = [np.repeat([[0], [1]], 3, axis=0)] * 2  # arms that agree: two cells are empty
    assert record._statistics(columns, TOTAL + 1)[0] == np.inf
    assert 0 < record.p_value(TOTAL, n_draws=50, seed=int(rng.integers(9))) <= 1


def test_fisher_refuses_and_warns():
    frame = experiment()
    found = dual_sided_effect(frame, **ROLES)
    with pytest.raises(ValueError, match="effect must be one of 'direct'"):
        found.fisher("spillover")
    with pytest.raises(ValueError, match="n_draws must be a whole number >= 1; got 0"):
        found.fisher(n_draws=0)
    fought = dual_sided_effect(frame.assign(y=1 + frame["y"] ** 2, b=0.1), battle="b", **ROLES)
    with pytest.warns(EstimationWarning, match="10% of the outcome is in mixed-arm battles"):
        fought.fisher("direct", n_draws=19)


def test_fisher_needs_the_pairs(monkeypatch):
    monkeypatch.setattr(dual_sided, "pair_matrix", lambda log: None)
    with pytest.raises(ValueError, match="fisher needs the pairs in memory"):
        dual_sided_effect(experiment(), **ROLES).fisher()
