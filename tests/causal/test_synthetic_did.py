"""Synthetic difference-in-differences: weights, algebra, draws, other implementations."""

import json
from pathlib import Path

import duckdb
import numba
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import statsmodels.api as sm
from synthetic_tables import ROLES, as_rows, factor_panel

from causal import EstimationWarning, SyntheticDiffInDiff, synthetic_diff_in_diff
from causal.synthetic.synthetic_draws import (
    CohortSetting,
    bootstrap_draws,
    cohort_settings,
    fit_cohorts,
    jackknife_draws,
    placebo_draws,
    read_fits,
)

STORED = json.loads((Path(__file__).parents[1] / "reference" / "synthetic_did.json").read_text())
DRAWS = 30  # in tests that do not read the error


def sdid(table, **options):
    chosen = {"treatment": "d", "start": 108, "n_draws": DRAWS} | options
    return synthetic_diff_in_diff(table, **ROLES, **chosen)


def weights_of(found, donors, n_pre):
    """Weights as arrays over donors' labels and the first times."""
    unit = found.unit_weights.set_index("unit")["weight"].reindex(donors, fill_value=0.0)
    time = found.time_weights.set_index("time")["weight"]
    return unit.to_numpy(), time.reindex(100 + np.arange(n_pre), fill_value=0.0).to_numpy()


# --- what the weights are -------------------------------------------------------------------------


def test_weights_meet_the_conditions_of_both_problems():
    Y, first = factor_panel()
    found = sdid(as_rows(Y, first))
    omega, lam = weights_of(found, 10 + np.arange(24), 8)
    pre, post = Y[:24, :8], Y[:24, 8:].mean(axis=1)
    sigma = np.diff(pre, axis=1).std(ddof=1)
    zeta = (3 * 4) ** 0.25 * sigma
    row = found.regularisation.iloc[0]
    np.testing.assert_allclose(
        [row["sigma"], row["zeta_unit"], row["zeta_time"]], [sigma, zeta, 1e-6 * sigma], rtol=1e-12
    )
    paths = pre - pre.mean(axis=1, keepdims=True)
    target = Y[24:, :8].mean(axis=0)
    g = paths @ (omega @ paths - (target - target.mean())) + zeta**2 * 8 * omega
    assert omega @ g - g.min() < 1e-9 * np.max(np.sum((paths - target) ** 2, axis=1))
    level = pre - pre.mean(axis=0)
    g = level.T @ (level @ lam - (post - post.mean())) + (1e-6 * sigma) ** 2 * 24 * lam
    assert lam @ g - g.min() < 1e-9 * np.sum(level**2)
    assert found.regularisation["duality_gap"].max() < 1e-12


def test_estimate_is_the_weighted_regression_with_unit_and_time_effects():
    Y, first = factor_panel(seed=1)
    rows = as_rows(Y, first)
    found = sdid(rows)
    omega, lam = weights_of(found, 10 + np.arange(24), 8)
    unit = np.append(omega, np.full(3, 1 / 3))
    time = np.append(lam, np.full(4, 1 / 4))
    weight = np.outer(unit, time).ravel()
    dummies = pd.get_dummies(rows[["unit", "time"]].astype(str), drop_first=True, dtype=float)
    X = sm.add_constant(dummies.assign(post=(rows["d"] * (rows["time"] >= 108)).astype(float)))
    fit = sm.WLS(rows["y"], X, weights=weight + 1e-14).fit()
    assert found.estimate == pytest.approx(fit.params["post"], rel=1e-8)


def test_one_earlier_period_gives_the_difference_of_four_means():
    Y, first = factor_panel(seed=2, starts=(1, 1), n_periods=4)
    found = sdid(as_rows(Y, first), start=101)
    change = Y[:, 1:].mean(axis=1) - Y[:, 0]
    assert found.estimate == pytest.approx(change[24:].mean() - change[:24].mean(), rel=1e-12)
    assert found.time_weights["weight"].tolist() == [1.0]


def test_parallel_units_without_noise_give_the_effect_itself():
    Y = np.arange(12.0)[:, None] + np.array([0, 1, 2, 3, 4, 5.0])
    Y[10:, 4:] += 7
    found = sdid(as_rows(Y, np.array([6] * 10 + [4, 4])), start=104)
    assert found.estimate == pytest.approx(7, abs=1e-12)
    assert found.std_error < 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_parallel_units_of_irrational_levels_converge_in_spite_of_rounding(seed):
    steps = np.random.default_rng(seed).normal(size=10)
    Y = np.pi * np.arange(8.0)[:, None] + steps
    Y[7, 6:] += 3
    with pytest.warns(EstimationWarning, match="only 7 placebo sets"):
        found = sdid(as_rows(Y, np.array([10] * 7 + [6])), start=106)
    assert found.estimate == pytest.approx(3, abs=1e-9)


def test_curve_and_cohorts_average_to_the_effect_by_treated_cells():
    Y, first = factor_panel(seed=3, starts=(6, 6, 8, 10))
    found = sdid(as_rows(Y, first), treatment=None, start=None, cohort="cohort")
    assert found.curve.index == tuple(range(6))
    cells = np.array([4, 4, 3, 3, 2, 2])
    assert found.estimate == pytest.approx(found.curve.estimate @ cells / 18, rel=1e-12)
    table = found.cohorts
    assert table["weight"].tolist() == [12 / 18, 4 / 18, 2 / 18]
    assert found.estimate == pytest.approx(table["estimate"] @ table["weight"], rel=1e-12)
    alone = [
        sdid(as_rows(Y[keep], first[keep]), start=100 + start).estimate
        for start in (6, 8, 10)
        for keep in [(first == start) | (first == 12)]
    ]
    np.testing.assert_allclose(table["estimate"], alone, rtol=1e-12)


def test_path_shows_weighted_means_that_meet_over_the_weighted_periods():
    Y, first = factor_panel(seed=4)
    found = sdid(as_rows(Y, first))
    omega, lam = weights_of(found, 10 + np.arange(24), 8)
    path = found.path
    np.testing.assert_allclose(path["observed"], Y[24:].mean(axis=0), rtol=1e-12)
    gap = (path["observed"] - path["synthetic"]).to_numpy()
    assert abs(gap[:8] @ lam) < 1e-12
    np.testing.assert_allclose(gap[8:], found.curve.estimate, rtol=1e-10)
    np.testing.assert_allclose(np.diff(path["synthetic"]), np.diff(omega @ Y[:24]), atol=1e-10)


# --- draws ----------------------------------------------------------------------------------------


def settings(Y, first):
    donors = np.flatnonzero(first == Y.shape[1])
    cohorts = cohort_settings(Y, first, donors)
    return np.ascontiguousarray(Y), donors, cohorts


def effect_of(Y, donors, rows, cohort):
    """The effect with given donors and treated rows, the penalties kept."""
    moved = CohortSetting(
        start=cohort.start,
        rows=np.asarray(rows),
        sigma=cohort.sigma,
        zeta=cohort.zeta,
        zeta_time=cohort.zeta_time,
    )
    fits = fit_cohorts(Y, [moved], np.asarray(donors))
    return read_fits(fits, [moved]).effect[0]


def test_placebo_takes_each_set_of_donors_once_where_there_are_few():
    Y, donors, cohorts = settings(*factor_panel(seed=5, n_donors=7, starts=(8, 8)))
    found = placebo_draws(Y, cohorts, donors, n_draws=200, seed=0)
    direct = [
        effect_of(Y, [d for d in range(7) if d not in (i, j)], [i, j], cohorts[0])
        for i in range(7)
        for j in range(i + 1, 7)
    ]
    np.testing.assert_allclose(found.effect, direct, rtol=1e-10)


def test_placebo_error_is_the_spread_of_its_draws():
    Y, first = factor_panel(seed=5)
    found = sdid(as_rows(Y, first), n_draws=100)
    assert len(found.draws) == 100
    assert found.std_error == pytest.approx(found.draws.std(), rel=1e-10)
    assert found.effect.details["covariance"] == "100 placebo sets"
    again = sdid(as_rows(Y, first), n_draws=100)
    assert again == found
    assert sdid(as_rows(Y, first), n_draws=100, seed=1).std_error != found.std_error


def test_jackknife_leaves_out_each_unit_with_the_weights_kept():
    Y, donors, cohorts = settings(*factor_panel(seed=6, starts=(6, 6, 8, 8, 8)))
    fits = fit_cohorts(Y, cohorts, donors)
    found = jackknife_draws(Y, cohorts, donors, fits)
    direct = []
    for out in range(len(Y)):
        total, cells = 0.0, 0
        for cohort, fit in zip(cohorts, fits, strict=True):
            rows = cohort.rows[cohort.rows != out]
            omega = np.where(donors == out, 0, fit.unit_weights)
            gap = Y[rows].mean(axis=0) - omega / omega.sum() @ Y[donors]
            effect = gap[cohort.start :].mean() - gap @ fit.time_weights
            k = len(rows) * (12 - cohort.start)
            total, cells = total + k * effect, cells + k
        direct.append(total / cells)
    np.testing.assert_allclose(found.effect, direct, rtol=1e-10)
    result = sdid(
        as_rows(*factor_panel(seed=6, starts=(6, 6, 8, 8, 8))),
        treatment=None, start=None, cohort="cohort", variance="jackknife",
    )  # fmt: skip
    n = len(direct)
    assert result.std_error == pytest.approx(np.std(direct) * np.sqrt(n - 1), rel=1e-9)


def test_bootstrap_refits_on_resampled_units():
    Y, donors, cohorts = settings(*factor_panel(seed=7, n_donors=8))
    found = bootstrap_draws(Y, cohorts, donors, n_draws=5, seed=3)
    rng, direct = np.random.default_rng(3), []
    while len(direct) < 5:
        drawn = np.sort(rng.integers(0, 11, 11))
        if (drawn < 8).any() and (drawn >= 8).any():
            direct.append(effect_of(Y, drawn[drawn < 8], drawn[drawn >= 8], cohorts[0]))
    np.testing.assert_allclose(found.effect, direct, rtol=1e-9)


@pytest.mark.parametrize("variance", ["placebo", "bootstrap"])
def test_draws_of_staggered_cohorts_cover_every_event_time(variance):
    Y, first = factor_panel(seed=8, starts=(6, 8, 8, 10))
    found = sdid(as_rows(Y, first), treatment=None, start=None, cohort="cohort", variance=variance)
    assert np.isfinite(found.curve.cov).all()
    assert (found.curve.std_error > 0).all()
    assert found.std_error == pytest.approx(found.draws.std(), rel=1e-10)


def test_large_panels_are_drawn_in_parts_with_the_same_result(monkeypatch):
    table = as_rows(*factor_panel(seed=9))
    whole = sdid(table)
    monkeypatch.setattr("causal.synthetic.synthetic_draws._CELLS", 100)
    assert sdid(table) == whole


def test_one_thread_and_two_give_the_same_bits():
    table = as_rows(*factor_panel(seed=10, starts=(6, 8, 8)))
    options = {"treatment": None, "start": None, "cohort": "cohort"}
    before = numba.get_num_threads()
    results = []
    for n in (1, min(2, before)):
        numba.set_num_threads(n)
        results.append(sdid(table, **options).to_dict())
    numba.set_num_threads(before)
    assert results[0] == results[1]


# --- covariates -----------------------------------------------------------------------------------


def test_covariates_are_taken_out_with_slopes_of_untreated_cells():
    Y, first = factor_panel(seed=11)
    rng = np.random.default_rng(0)
    rows = as_rows(Y, first)
    rows["x"] = rng.normal(size=len(rows))
    rows["z"] = rng.normal(size=len(rows))
    found = sdid(rows.assign(y=rows["y"] + 3 * rows["x"] - rows["z"]), covariates=["x", "z"])
    clean = rows[(rows["d"] == 0) | (rows["time"] < 108)]
    dummies = pd.get_dummies(clean[["unit", "time"]].astype(str), drop_first=True, dtype=float)
    X = sm.add_constant(dummies.join(clean[["x", "z"]]))
    fit = sm.OLS(clean["y"] + 3 * clean["x"] - clean["z"], X).fit()
    assert found.slopes == pytest.approx({"x": fit.params["x"], "z": fit.params["z"]}, rel=1e-9)
    left = rows["y"] + (3 - fit.params["x"]) * rows["x"] - (1 + fit.params["z"]) * rows["z"]
    assert found.estimate == pytest.approx(sdid(rows.assign(y=left)).estimate, rel=1e-8)


@pytest.mark.parametrize("kind", ["of units", "of times", "twice"])
def test_absorbed_covariate_is_named(kind):
    rows = as_rows(*factor_panel(seed=11))
    rows["x"] = np.random.default_rng(0).normal(size=len(rows))
    columns = {"of units": rows["unit"] ** 2, "of times": rows["time"] ** 2, "twice": 2 * rows["x"]}
    with pytest.raises(ValueError, match=r"covariate 'z' must vary .* drop it"):
        sdid(rows.assign(z=columns[kind].astype(float)), covariates=["x", "z"])


# --- other implementations ------------------------------------------------------------------------


def objectives(Y, n_donors, start, omega, lam, zeta, sigma):
    """Values of both problems."""
    pre = Y[:n_donors, :start]
    paths, target = pre - pre.mean(axis=1, keepdims=True), Y[n_donors:, :start].mean(axis=0)
    unit = np.sum((omega @ paths - target + target.mean()) ** 2) + zeta**2 * start * omega @ omega
    level = np.column_stack([pre, Y[:n_donors, start:].mean(axis=1)])
    level -= level.mean(axis=0)
    time = np.sum((level[:, :-1] @ lam - level[:, -1]) ** 2)
    return unit, time + (1e-6 * sigma) ** 2 * n_donors * lam @ lam


@pytest.mark.reference
@pytest.mark.parametrize("case", [STORED["california"], *STORED["panels"]])
def test_weights_are_at_least_as_good_as_those_of_an_early_stop(case):
    Y = np.array(case["outcome"], dtype=float)
    n_donors = case.get("n_donors", len(Y) - 1)
    base = case.get("first_year", 0)
    start = case["start"] - base
    table = as_rows(Y, np.where(np.arange(len(Y)) < n_donors, Y.shape[1], start))
    variance = "jackknife" if "n_donors" in case else "placebo"
    found = sdid(table, start=100 + start, variance=variance, n_draws=200)
    row = found.regularisation.iloc[0]
    assert row["zeta_unit"] == pytest.approx(case["zeta_unit"], rel=1e-12)
    ours = weights_of(found, 10 + np.arange(n_donors), start)
    theirs = np.array(case["unit_weights"]), np.array(case["time_weights"])
    values = [
        objectives(Y, n_donors, start, *w, row["zeta_unit"], row["sigma"]) for w in (ours, theirs)
    ]
    assert values[0][0] <= values[1][0] * (1 + 1e-12)
    assert values[0][1] <= values[1][1] * (1 + 1e-12) + 1e-20
    assert abs(found.estimate - case["estimate"]) < 0.1 * found.std_error
    if variance == "jackknife":
        assert found.std_error == pytest.approx(case["std_error"], rel=0.03)


@pytest.mark.reference
def test_california_is_that_of_the_paper():
    case = STORED["california"]
    Y = np.array(case["outcome"])
    wide = pd.DataFrame(Y.T, columns=case["states"]).assign(time=range(1970, 2001))
    rows = wide.melt("time", var_name="unit", value_name="y")
    found = sdid(rows, treatment=None, treated="California", start=1989, n_draws=200)
    assert found.estimate == pytest.approx(case["r_estimate"], abs=0.005)
    assert len(found.draws) == 38  # each donor once; the paper's 8.4 is of random draws with a seed
    assert found.std_error == pytest.approx(9.37, abs=0.01)
    assert found.time_weights["time"].tolist() == [1986, 1987, 1988]
    assert found.unit_weights["unit"].iloc[0] == "Nevada"


# --- properties -----------------------------------------------------------------------------------

VARIANCES = pytest.mark.parametrize("variance", ["placebo", "jackknife", "bootstrap"])


def figures(found):
    return np.concatenate([[found.estimate, found.std_error], found.curve.estimate])


@VARIANCES
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.sample(frac=1, random_state=1),
        lambda rows: rows.assign(unit="u" + rows["unit"].astype(str)),
        lambda rows: rows.assign(y=rows["y"] + 100 * rows["unit"]),
        lambda rows: rows.assign(y=rows["y"] + 7 * rows["time"]),
        lambda rows: rows.assign(y=rows["y"] + 1e9),
    ],
    ids=["order", "labels", "unit effects", "trend", "offset"],
)
def test_what_must_not_matter_does_not(change, variance):
    rows = as_rows(*factor_panel(seed=12))
    found, changed = (sdid(t, variance=variance) for t in (rows, change(rows)))
    np.testing.assert_allclose(figures(changed), figures(found), rtol=1e-6)


@VARIANCES
def test_scale_of_the_outcome_is_the_scale_of_the_result(variance):
    rows = as_rows(*factor_panel(seed=13))
    found = figures(sdid(rows, variance=variance))
    for scale in (2.0**40, 1e150, 1e-150, -3.0):
        scaled = figures(sdid(rows.assign(y=scale * rows["y"]), variance=variance))
        sign = np.where(np.arange(len(found)) == 1, abs(scale), scale)
        np.testing.assert_allclose(scaled / sign, found, rtol=1e-8)


def test_any_kind_of_table_and_way_to_say_who_is_treated(tmp_path):
    rows = as_rows(*factor_panel(seed=14))
    found = sdid(rows).to_dict()
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path)
    arrow = pa.Table.from_pandas(rows)
    for table in (pl.from_pandas(rows), arrow, str(path), duckdb.connect().from_arrow(arrow)):
        assert sdid(table).to_dict() == found
    ways = (
        {"cohort": "cohort", "treatment": None, "start": None},
        {"treated": [34, 35, 36], "treatment": None},
    )
    for way in ways:
        assert sdid(rows, **way).to_dict() == found
    status = rows.assign(d=rows["d"] * (rows["time"] >= 108))
    assert sdid(status, start=None).to_dict() == found


def test_dates_and_text_units_are_labels_of_the_result():
    rows = as_rows(*factor_panel(seed=15))
    dated = rows.assign(
        time=pd.Timestamp("2026-03-01") + pd.to_timedelta(rows["time"] - 100, unit="D"),
        unit="city " + rows["unit"].astype(str),
    )
    found = sdid(dated, start="2026-03-09")
    assert found.cohorts["cohort"].tolist() == ["2026-03-09"]
    assert found.path["time"].iloc[0] == "2026-03-01"
    assert found.unit_weights["unit"].str.startswith("city ").all()
    assert found.estimate == sdid(rows).estimate


# --- the result -----------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", [(8, 8, 8), (6, 8, 8)])
def test_result_survives_json_and_draws_itself(starts):
    import matplotlib.pyplot as plt

    rows = as_rows(*factor_panel(seed=16, starts=starts))
    found = sdid(rows, treatment=None, start=None, cohort="cohort")
    back = SyntheticDiffInDiff.from_dict(json.loads(json.dumps(found.to_dict())))
    assert back == found
    assert "placebo sets" in found.summary()
    assert "donors" in found.summary()
    assert found.effect.relative().estimate == pytest.approx(
        found.estimate / (found.effect.baseline), rel=1e-12
    )
    named = {"paths": "mean of y", "curve": "effect on y", "weights": ""}
    for kind, label in named.items():
        ax = back.plot(kind=kind)
        assert "donors" in ax.get_title("left")
        assert ax.get_ylabel() == label
        plt.close(ax.figure)
    with pytest.raises(ValueError, match="kind"):
        back.plot(kind="rank")


@pytest.mark.parametrize("variance", ["placebo", "jackknife"])
def test_summary_says_what_is_assumed_and_what_the_p_value_is(variance):
    found = sdid(as_rows(*factor_panel(seed=16)), variance=variance)
    text = found.summary()
    assert "assumes: without treatment the treated would have moved in parallel" in text
    assert "over 12 treated cells" in text
    assert "outcome y; weights on " in text
    assert found.effect.details["outcome"] == "y"
    assert found.effect.details["total"] == pytest.approx(12 * found.estimate)
    if variance == "jackknife":
        assert "interval and p-value: normal, from jackknife over 27 units" in text
        return
    p = (1 + np.count_nonzero(np.abs(found.draws) >= abs(found.estimate))) / (DRAWS + 1)
    said = f"{DRAWS} placebo sets; the rank among them gives p = {p:.2g}, they allow none below"
    assert f"normal, from {said} {1 / (DRAWS + 1):.2g}" in text


# --- complaints -----------------------------------------------------------------------------------


def test_units_with_gaps_are_named():
    rows = as_rows(*factor_panel(seed=17)).drop(index=[3, 40])
    with pytest.raises(ValueError, match=r"'unit' .* 2 units have gaps, e\.g\. 10, 13; drop them"):
        sdid(rows)


def test_always_treated_units_are_dropped_with_a_warning():
    Y, first = factor_panel(seed=18, starts=(8, 8, 0))
    options = {"treatment": None, "start": None, "cohort": "cohort"}
    with pytest.warns(EstimationWarning, match=r"1 units are treated in every .* 36"):
        found = sdid(as_rows(Y, first), **options)
    assert found.estimate == sdid(as_rows(Y[:-1], first[:-1]), **options).estimate


def test_cohorts_of_0_are_asked_whether_they_mean_never():
    rows = as_rows(*factor_panel(seed=18))
    never_0 = rows.assign(cohort=rows["cohort"].fillna(0))
    options = {"treatment": None, "start": None, "cohort": "cohort"}
    hint = "if a 'cohort' such as 0 means never treated, give never="
    with (
        pytest.warns(EstimationWarning, match=f"24 units are treated in every .*{hint}"),
        pytest.raises(ValueError, match=f"must never be treated .*{hint}"),
    ):
        sdid(never_0, **options)
    assert sdid(never_0, never=0, **options).estimate == sdid(rows, **options).estimate


@pytest.mark.parametrize(
    ("starts", "n_donors", "options", "message"),
    [
        ((6, 8), 0, {}, r"'unit' must never be treated .* all 2 are, the last from 108"),
        ((8,) * 5, 5, {}, r"more donors than treated units; there are 5 and 5"),
        ((8, 8, 6), 9, {"variance": "jackknife"}, r"2 treated units in every cohort; 1 cohorts"),
        ((8,), 9, {"variance": "bootstrap"}, r"2 treated units and 2 donors; there are 1 and 9"),
        ((8, 8), 1, {"variance": "jackknife"}, r"2 donors with a weight"),
        ((8, 8), 9, {"variance": "wild"}, r"variance must be one of"),
        ((8, 8), 9, {"n_draws": 1}, r"n_draws must be a whole number >= 2"),
        ((8, 8), 9, {"covariates": ["y"]}, r"'y'"),
    ],
)
def test_too_little_information_raises(starts, n_donors, options, message):
    rows = as_rows(*factor_panel(seed=19, n_donors=n_donors, starts=starts))
    with pytest.raises(ValueError, match=message):
        sdid(rows, **{"treatment": None, "start": None, "cohort": "cohort"} | options)


def test_few_placebo_sets_and_a_constant_outcome_warn():
    rows = as_rows(*factor_panel(seed=20, n_donors=9, starts=(8,)))
    with pytest.warns(EstimationWarning, match="only 9 placebo sets"):
        sdid(rows, n_draws=200)
    rows = as_rows(*factor_panel(seed=20))
    with pytest.warns(EstimationWarning, match="outcome 'y' is constant"):
        found = sdid(rows.assign(y=3.0))
    assert (found.estimate, found.std_error) == (0, 0)
