"""Covariates of viewers and authors: against dense regressions and enumerated assignments."""

import numpy as np
import pytest
from pair_tables import (
    ROLES,
    crossed,
    dealt,
    dense_sums,
    experiment,
    halves,
    observed,
    with_constant_effects,
)

from causal.effect import EstimationWarning
from causal.linear import least_squares
from experiments import dual_sided_effect
from experiments.designs.assignment_variance import CELLS, EFFECTS
from experiments.pairs.pair_sums import open_pairs
from experiments.pairs.unit_covariates import UnitCovariates, adjusted, unit_covariates

WEIGHTS = np.array(list(EFFECTS.values()), dtype=float)
PLAIN = {"battle": None, "zero_fill": True, "n_viewers": None, "n_authors": None}


def with_covariates(frame, seed=0):
    """Columns of viewers, of authors and of pairs."""
    rng = np.random.default_rng(seed)
    viewer, author = frame["viewer"] - 100, frame["author"] - 7
    x, z = rng.normal(3, 2, viewer.max() + 1), rng.normal(0, 1, author.max() + 1)
    pair = np.round(rng.exponential(1, len(frame)), 3)
    return frame.assign(x=x[viewer], z=z[author], w=pair + x[viewer])


def centred(values):
    """About the mean, of unit length."""
    about = values - values.mean()
    return (about / np.linalg.norm(about))[:, None]


def test_adjusted_means_are_those_of_regressions_on_the_pairs_of_each_cell():
    rng = np.random.default_rng(3)
    y, arms = crossed((12, 10), seed=1), (halves(12, rng), halves(10, rng))
    x, z = rng.normal(size=12), rng.normal(size=10)
    found = adjusted(dense_sums(y, *arms), UnitCovariates(viewer=centred(x), author=centred(z)))
    for v, a in CELLS.values():
        here = np.ix_(arms[0] == v, arms[1] == a)
        cell = y[here]
        columns = [np.ones_like(y), (x - x.mean())[:, None] + 0 * y, (z - z.mean()) + 0 * y]
        X = np.column_stack([column[here].ravel() for column in columns])
        fit = least_squares(X, cell.ravel())
        assert found.mean[v, a] == pytest.approx(fit.coef[0], rel=1e-9)
        assert found.square[v, a] == pytest.approx(fit.resid @ fit.resid, rel=1e-9)
        left = fit.resid.reshape(cell.shape)
        np.testing.assert_allclose(found.by_viewer[arms[0] == v, a], left.sum(axis=1), atol=1e-9)
        np.testing.assert_allclose(found.by_author[arms[1] == a, v], left.sum(axis=0), atol=1e-9)


def test_adjusted_effects_are_unbiased_to_one_over_n_and_vary_less():
    rng = np.random.default_rng(4)
    shape = (12, 10)
    x, z = rng.normal(size=12), rng.normal(size=10)
    base = 3 * x[:, None] + 2 * z + 0.3 * crossed(shape, seed=2)
    potential = with_constant_effects(base)
    covariates = UnitCovariates(viewer=centred(x), author=centred(z))
    raw, found = [], []
    authors = list(dealt(10, 5))
    for viewer_arm in dealt(12, 6):
        author_arm = authors[rng.integers(len(authors))]
        seen = observed(potential, viewer_arm, author_arm)
        sums = dense_sums(seen, viewer_arm, author_arm)
        for kept, s in ((raw, sums), (found, adjusted(sums, covariates))):
            kept.append(WEIGHTS @ [s.mean[cell] for cell in CELLS.values()])
    truth = WEIGHTS @ [potential[name].mean() for name in CELLS]
    bias = np.abs(np.mean(found, axis=0) - truth)
    assert (bias < 0.1 * np.std(raw, axis=0)[3]).all()
    assert (bias < 4 * np.std(found, axis=0) / np.sqrt(len(found)) + 0.02).all()
    assert np.std(found, axis=0)[3] < 0.35 * np.std(raw, axis=0)[3]


def test_unit_covariates_know_viewers_authors_and_pairs():
    frame = with_covariates(experiment((12, 10)))
    log = open_pairs(frame, **ROLES, covariates=["x", "z", "w"], **PLAIN)
    found = unit_covariates(log, ["x", "z", "w"])
    assert found.viewer.shape == (12, 2)  # x, and w's mean
    assert found.author.shape == (10, 2)
    by_viewer = frame.groupby("viewer")[["x", "w"]].mean()
    by_author = frame.groupby("author")[["z", "w"]].mean()
    for got, want in ((found.viewer, by_viewer), (found.author, by_author)):
        for k, name in enumerate(want):
            np.testing.assert_allclose(got[:, [k]], centred(want[name].to_numpy()), atol=1e-10)


def test_unit_covariates_of_pairs_without_rows_are_zero():
    frame = with_covariates(experiment((12, 10)))
    kept = frame.sample(frac=0.6, random_state=0)
    log = open_pairs(kept, **ROLES, covariates=["w"], **PLAIN)
    found = unit_covariates(log, ["w"])
    filled = frame.assign(w=frame["w"].where(frame.index.isin(kept.index), 0.0))
    wanted = filled.groupby("viewer")["w"].mean().to_numpy()
    np.testing.assert_allclose(found.viewer, centred(wanted), atol=1e-10)


def test_dual_sided_effect_with_covariates_says_so_and_is_sharper():
    frame = with_covariates(experiment((24, 16)))
    frame["y"] += 3 * frame["x"] + 2 * frame["z"]
    plain = dual_sided_effect(frame, **ROLES)
    found = dual_sided_effect(frame, covariates=["x", "z"], **ROLES)
    assert found.total.std_error < 0.5 * plain.total.std_error
    assert found.total.details["n_covariates"] == (1, 1)
    assert "adjusted" in found.total.method
    assert found.total.df == plain.total.df - 1
    assert found.fisher() <= 0.05


@pytest.mark.parametrize("extra", ["flat", "twice", "x"])
def test_unit_covariates_leave_out_constant_and_collinear_ones_by_name(extra):
    frame = with_covariates(experiment()).assign(flat=3.0)
    frame["twice"] = 2 * frame["x"] + 1
    names = ["x"] if extra == "x" else ["x", extra]
    wanted = dual_sided_effect(frame, covariates=["x"], **ROLES)
    if extra == "x":
        assert wanted.total.details["n_covariates"] == (1, 0)
        return
    with pytest.warns(EstimationWarning, match=f"constant or collinear: '{extra}' of viewers"):
        found = dual_sided_effect(frame, covariates=names, **ROLES)
    np.testing.assert_allclose(found.covariance, wanted.covariance, rtol=1e-9, atol=1e-15)


def test_unit_covariates_are_refused_where_they_cannot_be_used():
    frame = with_covariates(experiment())
    some = frame.iloc[3:]
    with pytest.raises(ValueError, match="covariates need every pair of viewer and author; pass"):
        dual_sided_effect(some, covariates=["x"], zero_fill=False, **ROLES)
    more = {0: 12, 1: 14}
    with pytest.raises(ValueError, match="covariate 'x' describes viewers, and is not known of the 2 "):  # noqa: E501  # fmt: skip
        dual_sided_effect(frame, covariates=["x"], n_viewers=more, **ROLES)
    with pytest.raises(ValueError, match="must vary within it; an arm of 12 viewers has 0"):
        dual_sided_effect(frame.assign(x=frame["va"]), covariates=["x"], **ROLES)
    few = with_covariates(experiment((8, 8))).assign(
        **{f"x{k}": lambda d, k=k: (d["viewer"] - 99) ** k for k in (1, 2)}
    )
    with pytest.raises(ValueError, match="covariates need 5 viewers in each arm"):
        dual_sided_effect(few, covariates=["x1", "x2"], **ROLES)


def test_covariate_of_viewers_without_rows_is_zero_where_it_is_of_pairs():
    frame = with_covariates(experiment())
    found = dual_sided_effect(frame, covariates=["w"], n_viewers={0: 13, 1: 13}, **ROLES)
    assert found.total.details["n_viewers"] == (13, 13)


def test_adjusted_effects_do_not_depend_on_the_covariates_unit():
    frame = with_covariates(experiment())
    rows = frame.assign(x=1e9 + 1e-3 * frame["x"])
    found, wanted = (dual_sided_effect(f, covariates=["x"], **ROLES) for f in (rows, frame))
    np.testing.assert_allclose(found.covariance, wanted.covariance, rtol=1e-3)
