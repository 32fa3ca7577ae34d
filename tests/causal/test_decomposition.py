"""Bacon decomposition and TWFE weights: identities, regressions of two cohorts, other packages."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dense_panel import dummies, other_tables, panel
from scipy import optimize

import causal
from causal import (
    BaconDecomposition,
    EstimationWarning,
    TwfeWeights,
    bacon_decomposition,
    panel_moments,
    twfe_weights,
)
from causal.panel import open_moments

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}
BARE = {name: ROLES[name] for name in ("unit", "time", "cohort")}
STORED = json.loads((Path(__file__).parents[1] / "reference" / "imputation.json").read_text())


def staggered(always=True, **options):
    log = panel(n_units=150, n_periods=7, starts=(0, 2, 4, 5) if always else (2, 4, 5), **options)
    return log.assign(y=log["y"] + 0.3 * (log["day"] - log["cohort"]).clip(0).replace(-np.inf, 0))


def twfe(log):
    """The coefficient of treatment beside dummies, and the residual of treatment on them."""
    on = (log["day"] >= log["cohort"]).to_numpy(dtype=float)
    Z = np.column_stack([dummies(log["unit"]), dummies(log["day"])])
    left = on - Z @ (np.linalg.pinv(Z.T @ Z, rcond=1e-11) @ (Z.T @ on))
    return left @ log["y"].to_numpy() / (left @ on), left


# --- Bacon ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("always", [False, True])
def test_weights_sum_to_1_and_the_weighted_sum_is_twfe(always, offset):
    log = staggered(always)
    found = bacon_decomposition(log.assign(y=log["y"] + offset), **ROLES)
    table = found.comparisons
    assert table["weight"].sum() == pytest.approx(1, abs=1e-12)
    assert (table["weight"] > 0).all()
    assert table["weight"] @ table["estimate"] == pytest.approx(found.estimate, abs=1e-12)
    assert found.estimate == pytest.approx(twfe(log)[0], abs=1e-11 if offset == 0 else 1e-6)


def test_each_comparison_is_a_regression_on_two_cohorts():
    log = staggered()
    table = bacon_decomposition(log, **ROLES).comparisons
    at = {"never": np.inf, "always": 0}
    for row in table.itertuples():
        one, other = (at.get(label, label) for label in (row.treated, row.control))
        two = log[log["cohort"].isin([one, other])]
        if row.kind == "earlier_vs_later":
            two = two[two["day"] < other]
        elif row.kind == "later_vs_earlier":
            two = two[two["day"] >= other]
        assert row.estimate == pytest.approx(twfe(two)[0], abs=1e-10), row
    kinds = table.groupby("kind").size().to_dict()
    assert kinds == {"treated_vs_never": 3, "earlier_vs_later": 3, "later_vs_earlier": 3,
                     "treated_vs_always": 3}  # fmt: skip


def test_by_kind_sums_weights_and_averages_estimates():
    found = bacon_decomposition(staggered(), **ROLES)
    kinds = found.by_kind()
    assert kinds["weight"].sum() == pytest.approx(1, abs=1e-12)
    assert kinds["weight"] @ kinds["estimate"] == pytest.approx(found.estimate, abs=1e-12)
    assert kinds["kind"].tolist()[0] == "treated_vs_never"
    assert "later vs earlier" in found.summary()


def test_one_cohort_has_one_comparison():
    log = panel(n_units=60, starts=(3,))
    found = bacon_decomposition(log, **ROLES)
    assert found.comparisons[["kind", "treated", "control"]].to_numpy().tolist() == [
        ["treated_vs_never", 3, "never"]
    ]
    assert found.effect.estimate == causal.diff_in_diff(log, **ROLES).estimate
    assert found.effect.std_error == causal.diff_in_diff(log, **ROLES).std_error


@pytest.mark.reference
def test_bacon_decomposition_gives_the_numbers_of_another_package():
    roles = {"outcome": "y", "unit": "unit", "time": "time", "cohort": "cohort", "never": 0}
    found = bacon_decomposition(pd.DataFrame(STORED["log"]), **roles)
    assert found.estimate == pytest.approx(STORED["bacon"]["twfe"], rel=1e-10)
    wanted = {tuple(c[:3]): c[3:] for c in STORED["bacon"]["comparisons"]}
    assert len(wanted) == len(found.comparisons)
    for row in found.comparisons.itertuples():
        control = "never_treated" if row.control == "never" else str(row.control)
        estimate, weight = wanted[row.kind, str(row.treated), control]
        assert row.estimate == pytest.approx(estimate, rel=1e-10)
        assert row.weight == pytest.approx(weight, rel=1e-10)


def test_bacon_decomposition_is_the_same_from_any_table():
    log = staggered()
    wanted = bacon_decomposition(log, **ROLES)
    for name, table in {**other_tables(log), "moments": panel_moments(log, **ROLES)}.items():
        got = bacon_decomposition(table, **ROLES)
        assert got.comparisons["kind"].tolist() == wanted.comparisons["kind"].tolist(), name
        for column in ("estimate", "weight"):
            np.testing.assert_allclose(
                got.comparisons[column], wanted.comparisons[column], rtol=1e-9
            )
        assert got.std_error == pytest.approx(wanted.std_error, rel=1e-9)


def test_moments_by_cluster_have_the_same_parts_and_errors_by_cluster():
    log = staggered()
    found = bacon_decomposition(panel_moments(log, **ROLES, cluster="cluster"), **ROLES)
    wanted = bacon_decomposition(log, **ROLES)
    near = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(
        found.comparisons["estimate"], wanted.comparisons["estimate"], **near
    )
    assert found.effect.n_clusters == log["cluster"].nunique()


def test_gaps_are_refused_with_their_count():
    log = staggered()
    with pytest.raises(ValueError, match=r"every unit 'unit'.*'day'; 2 of 150 have gaps"):
        bacon_decomposition(log.drop(index=[5, 40]), **ROLES)


def test_few_units_are_said():
    with pytest.warns(EstimationWarning, match="20 clusters"):
        bacon_decomposition(panel(n_units=20, starts=(2, 4)), **ROLES)


def test_bacon_decomposition_survives_json_and_draws():
    found = bacon_decomposition(staggered(), **ROLES)
    again = BaconDecomposition.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    ax = again.plot()
    drawn = np.concatenate([line.get_xdata() for line in ax.get_lines()[2:]])
    np.testing.assert_allclose(np.sort(drawn), np.sort(found.comparisons["weight"]))
    assert "n = 1,050" in ax.get_title(loc="left")


def test_dates_name_the_cohorts():
    log = staggered()
    day = pd.Timestamp("2026-05-01") + pd.to_timedelta(log["day"], "D")
    start = pd.Timestamp("2026-05-01") + pd.to_timedelta(log["cohort"].replace(np.inf, np.nan), "D")
    table = bacon_decomposition(log.assign(day=day, cohort=start), **ROLES).comparisons
    assert set(table["treated"]) == {"2026-05-03", "2026-05-05", "2026-05-06"}


# --- weights of TWFE ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.8], ids=["balanced", "gaps"])
@pytest.mark.parametrize("always", [False, True])
def test_twfe_weights_are_residuals_of_the_treatment(share, always):
    log = staggered(always, share=share).drop(columns="y")
    found = twfe_weights(log, **BARE)
    left = pd.Series(twfe(log.assign(y=0.0))[1], index=log.index)
    on = log["day"] >= log["cohort"]
    wanted = (left[on] / left[on].sum()).groupby([log["cohort"], log["day"]]).sum()
    rows = log[on].groupby(["cohort", "day"]).size()
    assert found.cells["weight"].sum() == pytest.approx(1, abs=1e-12)
    for row in found.cells.itertuples():
        assert row.weight == pytest.approx(wanted[row.cohort, row.time], abs=1e-12)
        assert row.n_obs == rows[row.cohort, row.time]
    assert found.n_negative == (wanted < -1e-14).sum()
    assert found.negative_sum == pytest.approx(wanted[wanted < 0].sum(), abs=1e-12)


def test_twfe_weights_average_effects_into_the_coefficient():
    log = staggered(share=0.9)
    found = twfe_weights(log, **BARE)
    rng = np.random.default_rng(1)
    effects = {(c, t): rng.normal() for c, t in itertools.product((0, 2, 4, 5), range(7))}
    on = log["day"] >= log["cohort"]
    effect = [effects[c, t] if d else 0.0
              for c, t, d in zip(log["cohort"], log["day"], on, strict=True)]  # fmt: skip
    coefficient = twfe(log.assign(y=np.array(effect) + log["unit"] + log["day"] ** 2))[0]
    wanted = sum(r.weight * effects[r.cohort, r.time] for r in found.cells.itertuples())
    assert wanted == pytest.approx(coefficient, abs=1e-10)


def smallest_sd(weights, estimate, *, all_cells):
    """Least sd of effects with this coefficient and a mean, or all of them, of the other sign."""
    p = weights.cells["n_obs"].to_numpy() / weights.cells["n_obs"].sum()
    w = weights.cells["weight"].to_numpy()
    limits = [{"type": "eq", "fun": lambda d: w @ d - estimate}]
    if not all_cells:
        limits.append({"type": "ineq", "fun": lambda d: -(p @ d)})
    found = optimize.minimize(
        lambda d: p @ (d - p @ d) ** 2,
        -np.ones(len(p)) if all_cells else np.full(len(p), estimate),
        bounds=[(None, 0.0)] * len(p) if all_cells else None,
        constraints=limits,
        method="SLSQP",
        options={"maxiter": 2_000, "ftol": 1e-14},
    )
    assert found.success
    return np.sqrt(found.fun)


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_smallest_spreads_that_flip_the_sign_are_the_least_of_a_program(share):
    found = twfe_weights(staggered(share=share), **BARE)
    assert found.n_negative > 0
    for estimate in (1.0, 2.5):
        wanted = smallest_sd(found, estimate, all_cells=False)
        assert found.sd_to_flip_average(estimate) == pytest.approx(wanted, rel=1e-5)
        wanted = smallest_sd(found, estimate, all_cells=True)
        assert found.sd_to_flip_all(-estimate) == pytest.approx(wanted, rel=1e-4)


def test_nothing_flips_where_all_weights_are_the_same():
    found = twfe_weights(panel(n_units=60, starts=(3,)), **BARE)
    assert found.n_negative == 0
    assert found.negative_sum == 0
    assert found.sd_to_flip_average(1.0) == np.inf
    assert found.sd_to_flip_all(1.0) == np.inf


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_twfe_weights_are_the_same_from_any_table(share, monkeypatch):
    log = staggered(share=share)
    wanted = twfe_weights(log, **BARE).cells
    tables = other_tables(log.drop(columns="y"))
    tables["moments"] = panel_moments(log, **ROLES, missing="pattern")
    tables["clustered"] = panel_moments(log, **ROLES, cluster="cluster", missing="pattern")
    for name, table in tables.items():
        got = twfe_weights(table, **BARE).cells
        pd.testing.assert_frame_equal(got, wanted, rtol=1e-9, atol=1e-12, obj=name)
    monkeypatch.setattr(open_moments, "MOST_PATTERNS", 0)
    pd.testing.assert_frame_equal(twfe_weights(log, **BARE).cells, wanted, rtol=1e-9, atol=1e-12)


def test_a_column_called_outcome_may_be_the_unit():
    log = staggered()
    named = log.rename(columns={"unit": "outcome", "day": "outcome_"}).drop(columns="y")
    got = twfe_weights(named, unit="outcome", time="outcome_", cohort="cohort")
    assert got == twfe_weights(log, **BARE)
    assert hash(got) == hash(twfe_weights(log, **BARE))


def test_twfe_weights_survive_json():
    found = twfe_weights(staggered(), **BARE)
    assert TwfeWeights.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert f"{found.n_negative} of {len(found.cells)} treated cells" in str(found)
    pd.testing.assert_frame_equal(found.to_frame(), found.cells)


def test_a_treatment_that_effects_explain_is_refused():
    log = panel(n_units=60, starts=(3,))
    apart = log[(log["cohort"] == 3) | (log["day"] > 6)]
    with pytest.raises(ValueError, match="must be a control"):
        twfe_weights(apart, **BARE)
    never_elsewhere = log[(log["cohort"] == 3) == (log["day"] < 5)]
    with pytest.raises(ValueError, match="'cohort' must make the treatment differ"):
        twfe_weights(never_elsewhere, **BARE)


def test_twfe_weights_show_themselves_in_a_notebook():
    found = twfe_weights(staggered(always=False), **BARE)
    assert found._repr_html_() == f"<pre>{found.summary()}</pre>"
