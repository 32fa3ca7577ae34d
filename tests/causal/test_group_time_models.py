"""Group-time effects given covariates, weights, or rows of different units."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from staggered_panels import ROLES, effects, same, staggered

from causal import group_time_effects
from causal.panel.unit_panel import read_panel
from causal.staggered.group_time_cells import planned
from causal.staggered.group_time_models import cells_from_models

METHODS = pytest.mark.parametrize("method", ["dr", "ipw", "reg"])
ROWS = {"outcome": "y", "unit": None, "time": "day", "cohort": "cohort"}


def by_nudges(log, who, options, step=1e-4):
    """Change of every number as a unit's weight changes, times its weight: (units, numbers).

    That is what an influence function is, whatever the estimator: all that it estimates on the way
    (propensities, regressions, shares) included.
    """

    def numbers(table):
        found = effects(table, **options)
        every = [found.aggregate(k) for k in ("simple", "event", "cohort", "calendar")]
        curves = [a.curve.estimate for a in every] + [[a.estimate] for a in every]
        return np.concatenate([found.curve.estimate, found.shares["share"], *curves]), found

    values, moved = log[who].to_numpy(), []
    for unit in np.unique(values):
        ends = [
            numbers(log.assign(weight=log["weight"] * np.where(values == unit, 1 + s, 1)))[0]
            for s in (step, -step)
        ]
        moved.append((ends[0] - ends[1]) / (2 * step))
    return np.array(moved), numbers(log)[1]


def check_against_nudges(log, who, options):
    moved, found = by_nudges(log, who, options)
    cov = moved.T @ moved
    K = len(found.cells) + len(found.shares)
    scale = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(
        found.joint_covariance / np.outer(scale[:K], scale[:K]),
        (cov / np.outer(scale, scale))[:K, :K],
        atol=1e-6,
    )
    errors = [found.aggregate(k) for k in ("simple", "event", "cohort", "calendar")]
    got = np.concatenate(
        [a.curve.std_error for a in errors] + [[a.std_error] for a in errors],
    )
    np.testing.assert_allclose(got, scale[K:], rtol=1e-6)


@METHODS
@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
def test_group_time_influence_is_what_a_units_weight_changes(method, share):
    log = staggered(n_units=48, n_periods=4, starts=(1, 2), share=share)
    options = {"weight": "weight", "covariates": ["x"], "method": method, "control": "not_yet"}
    check_against_nudges(log, "unit", options)


def test_group_time_influence_without_covariates_is_what_a_units_weight_changes():
    log = staggered(n_units=40, n_periods=5, starts=(2, 3), share=0.9)
    check_against_nudges(log, "unit", {"weight": "weight", "control": "not_yet"})


@METHODS
def test_group_time_influence_of_rows_is_what_a_rows_weight_changes(method):
    log = staggered(n_units=36, n_periods=3, starts=(1, 2))
    log = log.assign(row=np.arange(len(log)), weight=1 + log["weight"] * (log["day"] + 1) / 3)
    options = {"weight": "weight", "covariates": ["x"], "method": method, "unit": None}
    check_against_nudges(log, "row", options)


def test_group_time_influence_of_clusters_is_what_a_clusters_weight_changes():
    log = staggered(n_units=60, n_periods=4, starts=(1, 2))
    options = {"weight": "weight", "covariates": ["x"], "cluster": "cluster"}
    check_against_nudges(log, "cluster", options)
    rows = {**options, "unit": None, "control": "not_yet"}
    check_against_nudges(log, "cluster", rows)


def one_cell(log, cohort, time, base):
    """Changes, treatment and covariates in the base period of one cell; controls never treated."""
    wide = log.pivot_table(index="unit", columns="day", values=["y", "x", "z"])
    starts = log.groupby("unit")["cohort"].first()
    use = (starts == cohort) | np.isinf(starts)
    change = (wide["y"][time] - wide["y"][base])[use].to_numpy()
    X = sm.add_constant(np.column_stack([wide["x"][base], wide["z"][base]])[use])
    return change, (starts == cohort)[use].to_numpy(dtype=float), X


@METHODS
def test_group_time_effects_given_covariates_are_those_of_statsmodels_fits(method):
    log = staggered(n_units=200)
    found = effects(log, covariates=["x", "z"], method=method).cells
    for cohort, time, base in ((2, 1, 0), (2, 4, 1), (5, 3, 2), (3, 5, 2)):
        change, treated, X = one_cell(log, cohort, time, base)
        off = treated == 0
        p = sm.Logit(treated, X).fit(disp=0).predict(X)
        fitted = sm.OLS(change[off], X[off]).fit().predict(X)
        odds = np.where(off, p / (1 - p), 0) if method != "reg" else np.zeros(len(p))
        left = change - (fitted if method != "ipw" else 0)
        by_hand = left[~off].mean() - (odds @ left / odds.sum() if method != "reg" else 0)
        row = found[(found["cohort"] == cohort) & (found["time"] == time)]
        assert row["estimate"].item() == pytest.approx(by_hand, abs=1e-9)


@METHODS
def test_group_time_estimates_given_a_covariate_alike_in_all_cohorts_are_those_without(method):
    log = staggered(n_units=160)
    place = log.groupby("unit")["cohort"].first().reset_index()
    place["x"] = place.groupby("cohort").cumcount() % 5
    few = place.groupby("cohort")["unit"].transform("size")
    place = place[place.groupby("cohort").cumcount() < few // 5 * 5]
    log = log.drop(columns="x").merge(place[["unit", "x"]], on="unit")
    with_x, without = effects(log, covariates=["x"], method=method), effects(log)
    np.testing.assert_allclose(with_x.curve.estimate, without.curve.estimate, atol=1e-10)
    assert (with_x.curve.std_error <= without.curve.std_error * 1.05).all()


@METHODS
def test_group_time_effects_of_integer_weights_are_those_of_repeated_units(method):
    log = staggered(n_units=90).assign(weight=lambda d: 1 + d["unit"] % 3)
    again = [log.assign(unit=log["unit"] + 1000 * k)[log["weight"] > k] for k in range(3)]
    options = {"covariates": ["x"], "method": method}
    weighted, repeated = (
        effects(log, weight="weight", **options),
        effects(pd.concat(again), **options),
    )
    np.testing.assert_allclose(weighted.curve.estimate, repeated.curve.estimate, atol=1e-9)
    np.testing.assert_allclose(weighted.shares["share"], repeated.shares["share"])


@METHODS
def test_group_time_effects_of_rows_equal_those_of_the_panel_in_estimates(method):
    log = staggered(n_units=90)
    constant = {"covariates": ["x"], "method": method}
    panel, rows = effects(log, **constant), effects(log, **{**constant, **ROWS})
    np.testing.assert_allclose(rows.curve.estimate, panel.curve.estimate, atol=1e-8)
    assert rows.curve.n_clusters is None
    assert (rows.cells["n_treated"] == 2 * panel.cells["n_treated"]).all()


def test_group_time_effects_of_rows_are_four_means_with_the_errors_of_means():
    log = staggered(n_units=90, share=0.8)
    found = effects(log, **ROWS).cells
    for row in found.itertuples():
        base = min(row.cohort, row.time) - 1
        of = log.groupby([np.where(np.isinf(log["cohort"]), -1, log["cohort"]), "day"])["y"]
        signs = {
            (row.cohort, row.time): 1,
            (row.cohort, base): -1,
            (-1, row.time): -1,
            (-1, base): 1,
        }
        mean, var, n = of.mean(), of.var(ddof=0), of.size()
        assert row.estimate == pytest.approx(sum(s * mean[c] for c, s in signs.items()))
        assert row.std_error**2 == pytest.approx(sum(var[c] / n[c] for c in signs))


def test_group_time_effects_of_rows_by_unit_as_cluster_have_the_panels_errors():
    log = staggered(n_units=90)
    for control in ("never", "not_yet"):
        panel = effects(log, control=control)
        rows = effects(log, **{**ROWS, "cluster": "unit", "control": control})
        K = len(panel.cells)
        np.testing.assert_allclose(
            rows.joint_covariance[:K, :K], panel.joint_covariance[:K, :K], atol=1e-12
        )


def test_group_time_covariates_of_a_panel_are_read_in_the_base_period():
    log = staggered(n_units=150)
    found = effects(log, covariates=["z"], base="universal").cells
    before = log.pivot_table(index="unit", columns="day", values="z")
    for cohort in (2, 3, 5):
        fixed = log.assign(z=before[cohort - 1].reindex(log["unit"]).to_numpy())
        mine = effects(fixed, covariates=["z"], base="universal").cells
        rows = found["cohort"] == cohort
        np.testing.assert_allclose(found[rows]["estimate"], mine[rows]["estimate"], atol=1e-10)


def test_group_time_controls_too_much_like_the_treated_are_trimmed_and_counted():
    log = staggered(n_units=200)
    with pytest.warns(
        UserWarning, match=r"^\d+ controls \(summed over cohorts\) with a propensity"
    ):
        trimmed = group_time_effects(log, covariates=["x"], max_propensity=0.4, **ROLES)
    assert np.abs(trimmed.curve.estimate - effects(log, covariates=["x"]).curve.estimate).max() > 0
    assert same(effects(log, covariates=["x"]), effects(log, covariates=["x"], max_propensity=1))


@METHODS
@pytest.mark.parametrize("unit", ["unit", None])
def test_group_time_effects_given_covariates_are_the_same_in_blocks_of_any_size(
    method, unit, monkeypatch
):
    log = staggered(n_units=90, share=0.9)
    options = {"covariates": ["x"], "method": method, "cluster": "cluster", "unit": unit}
    whole = effects(log, **options)
    monkeypatch.setattr("causal.staggered.influence_sums._MOST_VALUES", 50)
    monkeypatch.setattr("causal.staggered.influence_sums._MOST_SUMS", 100)
    assert same(whole, effects(log, **options), 1e-12)


def test_group_time_influence_values_of_all_units_and_cells_are_never_held_together():
    log = staggered(n_units=20_000, n_periods=20, starts=tuple(range(2, 17)))
    panel = read_panel(log, **ROLES, covariates=["x"])
    plan = planned(panel.first, 20, base="varying", anticipation=0, control="never")
    tracemalloc.start()
    cells_from_models(panel, plan, method="dr", max_propensity=0.995)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * 8 * 20_000 * len(plan)
