"""Matrix completion: the optimum's conditions, what it recovers, draws and complaints."""

import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.api as sm
from synthetic_tables import ROLES, as_rows, factor_panel

from causal import EstimationWarning, FactorEffects, factor_effects
from causal.synthetic.nuclear_norm import complete, fold_patterns, largest_penalty, penalty_grid
from causal.synthetic.untreated_fit import covariate_part, linked, unit_and_time_effects

DRAWS = 10  # in tests that do not read the error


def fitted(table, **options):
    chosen = {"cohort": "cohort", "n_draws": DRAWS} | options
    return factor_effects(table, **ROLES, **chosen)


def pattern(Y, first):
    return np.arange(Y.shape[1]) < first[:, None]


def centred(table):
    return table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()


# --- the optimum ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.8, 0.3, 0.05])
@pytest.mark.parametrize("shape", [(14, 9), (9, 14)])
def test_fit_meets_the_subgradient_condition(shape, share):
    rng = np.random.default_rng(0)
    Y = 5 + rng.normal(size=shape) + 3 * rng.normal(size=(shape[0], 1))
    seen = rng.random(shape) < 0.8
    penalty = share * largest_penalty(Y, seen)
    done = complete(Y, seen, penalty, tolerance=1e-11)
    threshold = penalty * seen.sum() / 2
    R = np.where(seen, Y - done.fit, 0.0)
    np.testing.assert_allclose(R.sum(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(R.sum(axis=1), 0, atol=1e-8)
    U, S, Vt = np.linalg.svd(centred(done.fit))
    k = done.rank
    assert 0 < k < min(shape)
    assert S[k] < 1e-8
    np.testing.assert_allclose(U[:, :k].T @ R @ Vt[:k].T, threshold * np.eye(k), atol=1e-7)
    assert np.linalg.norm(R, 2) <= threshold * (1 + 1e-7)


def test_largest_penalty_is_the_smallest_that_leaves_effects_alone():
    Y, first = factor_panel()
    seen = pattern(Y, first)
    top = largest_penalty(Y, seen)
    assert complete(Y, seen, 1.0001 * top, tolerance=1e-9).rank == 0
    assert complete(Y, seen, 0.999 * top, tolerance=1e-9).rank == 1
    grid = penalty_grid(top)
    assert grid[0] == pytest.approx(top)
    assert (np.diff(grid) < 0).all()


def test_infinite_penalty_is_the_imputation_by_unit_and_time_effects():
    Y, first = factor_panel(seed=1, starts=(6, 8, 8, 10))
    rows = as_rows(Y, first)
    found = fitted(rows, penalty=math.inf)
    clean = rows[pattern(Y, first).ravel()]
    dummies = pd.get_dummies(rows[["unit", "time"]].astype(str), drop_first=True, dtype=float)
    X = sm.add_constant(dummies)
    fit = sm.OLS(clean["y"], X.loc[clean.index]).fit()
    gaps = (rows["y"] - fit.predict(X))[~pattern(Y, first).ravel()]
    assert found.estimate == pytest.approx(gaps.mean(), rel=1e-9)
    assert found.rank == 0
    assert found.penalty == math.inf


def test_low_rank_without_noise_is_recovered():
    rng = np.random.default_rng(2)
    Y = rng.normal(size=(40, 1)) + np.outer(rng.normal(size=40), rng.normal(size=20))
    first = np.where(np.arange(40) < 34, 20, 15)
    seen = pattern(Y, first)
    done = complete(Y, seen, 1e-7 * largest_penalty(Y, seen), tolerance=1e-9)
    assert done.rank == 1
    np.testing.assert_allclose(done.fit, Y, atol=1e-4)
    effects_only = np.abs(unit_and_time_effects(Y, seen) - Y)[~seen]
    assert effects_only.mean() > 0.2


def test_start_near_or_far_ends_at_one_fit():
    Y, first = factor_panel(seed=3)
    seen = pattern(Y, first)
    penalty = 0.3 * largest_penalty(Y, seen)
    fits = [
        complete(Y, seen, penalty, tolerance=1e-11, start=start).fit
        for start in (None, np.zeros_like(Y), 10 * np.ones_like(Y) * np.arange(12))
    ]
    for other in fits[1:]:
        np.testing.assert_allclose(other, fits[0], atol=1e-8)


def test_effects_of_a_constant_or_exact_table_leave_nothing():
    additive = np.arange(6.0)[:, None] + np.arange(5.0) ** 2
    seen = np.ones((6, 5), dtype=bool)
    seen[5, 3:] = False
    assert largest_penalty(additive, seen) == 0
    np.testing.assert_allclose(complete(additive, seen, 1.0, tolerance=1e-9).fit, additive)


# --- the effects of untreated cells ---------------------------------------------------------------


def test_unit_and_time_effects_are_those_of_dummies():
    rng = np.random.default_rng(4)
    Y, seen = rng.normal(size=(7, 5)) + 1e6, rng.random((7, 5)) < 0.7
    seen[0], seen[:, 0] = True, True
    unit, time = np.indices(Y.shape)
    X = np.column_stack([np.eye(7)[unit.ravel()], np.eye(5)[time.ravel()][:, 1:]])
    b = np.linalg.lstsq(X[seen.ravel()], Y[seen], rcond=None)[0]
    np.testing.assert_allclose(unit_and_time_effects(Y, seen).ravel(), X @ b, rtol=1e-12)
    assert linked(seen)


def test_cells_without_a_link_raise():
    seen = np.zeros((4, 4), dtype=bool)
    seen[:2, :2], seen[2:, 2:] = True, True
    assert not linked(seen)
    with pytest.raises(ValueError, match="2 groups without a common unit or period; drop"):
        unit_and_time_effects(np.zeros((4, 4)), seen)


def test_covariate_part_is_slopes_times_covariates():
    rng = np.random.default_rng(5)
    seen = np.ones((8, 6), dtype=bool)
    x, z = rng.normal(size=(2, 8, 6))
    Y = rng.normal(size=(8, 1)) + rng.normal(size=6) + 2 * x - z
    part, slopes = covariate_part(Y, {"x": x, "z": z}, seen)
    assert slopes == pytest.approx({"x": 2, "z": -1}, rel=1e-10)
    np.testing.assert_allclose(part, 2 * x - z, atol=1e-10)


# --- the penalty ----------------------------------------------------------------------------------


def test_folds_hide_untreated_units_as_treated_ones_are():
    Y, first = factor_panel(seed=6, n_donors=11, starts=(6, 8, 8))
    event = np.arange(12) - first[:, None]
    folds = fold_patterns(pattern(Y, first), event, first == 12, 4, 0)
    assert len(folds) == 4
    assert not np.any([hide[first < 12].any() for hide in folds])
    hidden = np.array([hide[first == 12].sum(axis=1) for hide in folds])
    assert (np.count_nonzero(hidden, axis=0) == 1).all()
    assert set(hidden.max(axis=0)) <= {4, 6}


def test_penalty_is_the_largest_whose_error_on_hidden_cells_is_near_the_least():
    Y, first = factor_panel(seed=7, n_donors=40, noise=0.3)
    found = fitted(as_rows(Y, first))
    table = found.cv_curve
    least = table["mse"].min()
    assert found.penalty == table.loc[table["mse"] <= 1.01 * least, "penalty"].max()
    assert found.penalty > table["penalty"][table["mse"].argmin()]
    assert least < 0.5 * table["mse"][0]
    assert found.rank >= 1
    chosen = table.loc[table["penalty"] == found.penalty, "mse"].item()
    assert found.cv_rmse == pytest.approx(np.sqrt(chosen))
    left = Y - complete(Y, pattern(Y, first), found.penalty, tolerance=1e-8).fit
    assert found.rmse == pytest.approx(np.sqrt(np.mean(left[pattern(Y, first)] ** 2)), rel=1e-4)
    said = f"RMSE {found.rmse:.3g} on the cells it was fitted to, {found.cv_rmse:.3g} on hidden"
    assert said in found.summary()


def test_fit_that_is_far_closer_than_its_predictions_is_said():
    rng = np.random.default_rng(0)
    week = np.arange(1, 41)
    waves = np.array([np.sin(week / 4), np.cos(week / 7), week / 10])
    Y = 10 * rng.uniform(0.5, 1.5, (24, 3)) @ waves + rng.normal(0, 1, (24, 40))
    rows = as_rows(Y, np.array([40] * 23 + [30]))
    with pytest.warns(EstimationWarning, match=r"hidden from it by .* is no evidence") as caught:
        found = fitted(rows)
    assert found.rmse < 0.25 * found.cv_rmse
    figures = f"hidden from it by {found.cv_rmse:.3g} (root mean square), those it was fitted to"
    assert f"{figures} by {found.rmse:.3g}" in str(caught[0].message)
    assert f"warned: the model has rank {found.rank} of at most 23 and misses" in found.summary()
    given = fitted(rows, penalty=found.penalty)
    assert given.cv_rmse is None
    assert given.estimate == pytest.approx(found.estimate)
    assert "hidden" not in given.summary()


# --- draws ----------------------------------------------------------------------------------------


def test_placebo_refits_never_treated_units_in_the_places_of_the_treated():
    Y, first = factor_panel(seed=8, n_donors=9, starts=(6, 8, 8))
    found = fitted(as_rows(Y, first), penalty=0.1, n_draws=4, seed=2)
    rng, direct = np.random.default_rng(2), []
    for _ in range(4):
        places = np.full(9, 12)
        places[rng.permutation(9)[:3]] = [6, 8, 8]
        direct.append(effect_at(Y[:9], places, 0.1))
    np.testing.assert_allclose(found.draws, direct, rtol=0, atol=1e-4)
    assert found.std_error == pytest.approx(np.std(direct), rel=1e-4)


def test_placebo_of_one_treated_unit_takes_each_donor_once():
    Y, first = factor_panel(seed=8, n_donors=9, starts=(8,))
    found = fitted(as_rows(Y, first), penalty=0.1, n_draws=200)
    direct = [effect_at(Y[:9], np.where(np.arange(9) == i, 8, 12), 0.1) for i in range(9)]
    np.testing.assert_allclose(found.draws, direct, rtol=0, atol=1e-4)
    assert found.effect.details["covariance"] == "9 placebo sets"


def test_bootstrap_and_jackknife_refit_without_and_with_units():
    Y, first = factor_panel(seed=8, starts=(6, 8, 8, 8))
    table = as_rows(Y, first)
    penalty = 0.1
    found = fitted(table, penalty=penalty, variance="bootstrap", n_draws=4, seed=2)
    rng, direct = np.random.default_rng(2), []
    while len(direct) < 4:
        drawn = np.sort(rng.integers(0, len(Y), len(Y)))
        if 6 in first[drawn]:
            direct.append(effect_at(Y[drawn], first[drawn], penalty))
    np.testing.assert_allclose(found.draws, direct, rtol=0, atol=1e-4)
    two_early = np.where(np.arange(len(Y)) == 26, 6, first)
    found = fitted(as_rows(Y, two_early), penalty=penalty, variance="jackknife")
    n = len(Y)
    direct = [effect_at(np.delete(Y, i, 0), np.delete(two_early, i), penalty) for i in range(n)]
    np.testing.assert_allclose(found.draws, direct, rtol=0, atol=1e-4)
    assert found.std_error == pytest.approx(found.draws.std() * np.sqrt(n - 1), rel=1e-9)


def effect_at(Y, first, penalty):
    seen = pattern(Y, first)
    return (Y - complete(Y, seen, penalty, tolerance=1e-8).fit)[~seen].mean()


def test_curve_averages_to_the_effect_by_treated_cells():
    Y, first = factor_panel(seed=9, starts=(6, 8, 8, 10))
    found = fitted(as_rows(Y, first), penalty=0.1)
    assert found.curve.index == tuple(range(6))
    assert found.curve.estimate @ [4, 4, 3, 3, 1, 1] / 16 == pytest.approx(found.estimate)
    path = found.path.set_index("event_time")
    gap = (path["observed"] - path["untreated"])[list(range(6))]
    np.testing.assert_allclose(gap, found.curve.estimate, rtol=1e-9)
    assert path["n_units"][0] == 4


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.sample(frac=1, random_state=1),
        lambda rows: rows.assign(unit="u" + rows["unit"].astype(str)),
        lambda rows: rows.assign(y=rows["y"] + 100 * rows["unit"]),
        lambda rows: rows.assign(y=rows["y"] + 3 * np.sin(rows["time"])),
        lambda rows: rows.assign(y=rows["y"] + 1e9),
        lambda rows: pl.from_pandas(rows),
    ],
    ids=["order", "labels", "unit effects", "time effects", "offset", "polars"],
)
def test_what_must_not_matter_does_not(change):
    rows = as_rows(*factor_panel(seed=10))
    found, changed = (fitted(t) for t in (rows, change(rows)))
    assert changed.estimate == pytest.approx(found.estimate, rel=1e-5)
    assert changed.std_error == pytest.approx(found.std_error, rel=1e-3)
    assert changed.rank == found.rank


@pytest.mark.parametrize("scale", [2.0**40, 1e150, 1e-150, -1.0])
def test_scale_of_the_outcome_is_the_scale_of_the_result(scale):
    rows = as_rows(*factor_panel(seed=11))
    found, scaled = (fitted(t) for t in (rows, rows.assign(y=scale * rows["y"])))
    assert scaled.estimate / scale == pytest.approx(found.estimate, rel=1e-6)
    assert scaled.std_error / abs(scale) == pytest.approx(found.std_error, rel=1e-6)
    assert scaled.penalty / abs(scale) == pytest.approx(found.penalty, rel=1e-9)


def test_gaps_are_filled_by_the_model():
    Y, first = factor_panel(seed=12, noise=0.0)
    rows = as_rows(Y, first)
    whole = fitted(rows, penalty=1e-6)
    gappy = fitted(rows.drop(index=[5, 40, 41, 200]), penalty=1e-6)
    assert gappy.effect.n_obs == whole.effect.n_obs - 4
    assert gappy.estimate == pytest.approx(whole.estimate, abs=0.02)
    assert whole.estimate == pytest.approx(2, abs=0.02)


# --- the result -----------------------------------------------------------------------------------


def test_result_survives_json_and_draws_itself():
    import matplotlib.pyplot as plt

    rows = as_rows(*factor_panel(seed=13))
    found = fitted(rows)
    back = FactorEffects.from_dict(json.loads(json.dumps(found.to_dict())))
    assert back == found
    assert f"outcome y; unit and period effects and rank {found.rank}" in found.summary()
    assert "assumes: without treatment the treated cells would have followed" in found.summary()
    assert f"normal, from {DRAWS} placebo sets; the rank among them" in found.summary()
    labels = {
        "paths": "mean of y",
        "curve": "effect on y",
        "cv": "mean squared error on hidden cells",
    }
    for kind, label in labels.items():
        ax = back.plot(kind=kind)
        assert ax.get_xlabel()
        assert ax.get_ylabel() == label
        assert "3 treated" in ax.get_title("left")
        plt.close(ax.figure)
    alone = fitted(rows, penalty=math.inf)
    assert FactorEffects.from_dict(json.loads(json.dumps(alone.to_dict()))) == alone
    with pytest.raises(ValueError, match="penalty was given"):
        alone.plot(kind="cv")
    plt.close("all")


# --- complaints -----------------------------------------------------------------------------------


def test_units_and_periods_that_say_nothing_are_dropped_with_a_warning():
    Y, first = factor_panel(seed=14, starts=(8, 8, 0))
    with pytest.warns(EstimationWarning, match=r"1 units of 'unit' have no untreated .* 36"):
        found = fitted(as_rows(Y, first), penalty=0.1)
    assert found.estimate == fitted(as_rows(Y[:-1], first[:-1]), penalty=0.1).estimate
    Y, first = factor_panel(seed=15, n_donors=0, starts=(5, 5, 5, 9, 9, 9, 10, 10, 10))
    options = {"penalty": 0.1, "variance": "bootstrap"}
    with pytest.warns(EstimationWarning, match=r"2 periods have no untreated .* 18 cells"):
        found = fitted(as_rows(Y, first), **options)
    early = as_rows(Y[:, :10], np.minimum(first, 10))
    assert found.estimate == fitted(early, **options).estimate


def test_cohorts_of_0_are_asked_whether_they_mean_never():
    rows = as_rows(*factor_panel(seed=14))
    never_0 = rows.assign(cohort=rows["cohort"].fillna(0))
    hint = "if a 'cohort' such as 0 means never treated, give never="
    with (
        pytest.warns(EstimationWarning, match=f"24 units of .*{hint}"),
        pytest.warns(EstimationWarning, match="4 periods have no untreated unit"),
        pytest.raises(ValueError, match=f"untreated periods; none has; .*{hint}"),
    ):
        fitted(never_0, penalty=0.1)
    known = fitted(never_0, penalty=0.1, never=0)
    assert known.estimate == fitted(rows, penalty=0.1).estimate


@pytest.mark.parametrize(
    ("starts", "n_donors", "options", "message"),
    [
        ((8,), 9, {"variance": "bootstrap"}, r"at least 2 treated units; 1 has .* 'placebo'"),
        ((8,), 9, {"variance": "jackknife"}, r"at least 2 treated units; 1 has .* 'placebo'"),
        ((8, 8), 2, {}, r"more never treated units than treated ones; there are 2 and 2"),
        ((8, 8), 1, {"variance": "bootstrap"}, r"at least 2 never treated units; there are 1"),
        ((6, 8, 8), 9, {"variance": "jackknife"}, r"without any one unit; add units"),
        ((8, 8), 9, {"penalty": 0}, r"penalty must be a number > 0"),
        ((8, 8), 9, {"penalty": -1.0}, r"penalty must be a number > 0"),
        ((8, 8), 9, {"variance": "wild"}, r"variance must be one of"),
        ((8, 8), 9, {"n_folds": 1}, r"n_folds must be a whole number >= 2"),
        ((8, 8), 9, {"n_draws": 0}, r"n_draws must be a whole number >= 2"),
    ],
)
def test_too_little_information_raises(starts, n_donors, options, message):
    rows = as_rows(*factor_panel(seed=16, n_donors=n_donors, starts=starts))
    with pytest.raises(ValueError, match=message):
        fitted(rows, **options)


def test_constant_outcome_warns():
    rows = as_rows(*factor_panel(seed=17)).assign(y=4)
    with pytest.warns(EstimationWarning, match="outcome 'y' is constant"):
        found = fitted(rows)
    assert (found.estimate, found.std_error) == (0, 0)
