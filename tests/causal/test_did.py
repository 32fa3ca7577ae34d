"""Difference-in-differences and event studies: dense dummies, statsmodels, invariances, errors."""

import json

import numpy as np
import pandas as pd
import pytest
from dense_panel import dense_fit, dummies, event_dummies, other_tables, panel
from scipy import stats

from causal import (
    Effect,
    EstimationWarning,
    EventStudy,
    diff_in_diff,
    event_study,
    panel_moments,
)
from causal.did.absorbed_fit import absorbed_least_squares

ROLES = {"outcome": "y", "unit": "unit", "time": "day"}
BY_COHORT = {**ROLES, "cohort": "cohort"}


def relative(a, b):
    """Largest difference in units of b's size."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("share", [1.0, 0.85], ids=["balanced", "gaps"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_diff_in_diff_is_least_squares_with_all_dummies(share, cluster):
    log = panel(n_units=160, share=share)
    tau = diff_in_diff(log, **BY_COHORT, cluster=cluster)
    on = (log["day"] >= log["cohort"]).to_numpy(dtype=float)[:, None]
    coef, cov = dense_fit(log, on, cluster=cluster or "unit", k=1 + 6)
    assert relative(tau.estimate, coef[0]) < 1e-10
    assert relative(tau.std_error, np.sqrt(cov[0, 0])) < 1e-9
    assert tau.details["k"] == 7
    assert tau.df == (log[cluster or "unit"].nunique() - 1)


@pytest.mark.parametrize("share", [1.0, 0.85], ids=["balanced", "gaps"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_event_study_is_least_squares_with_all_dummies(share, cluster):
    log = panel(n_units=160, share=share)
    study = event_study(log, **BY_COHORT, cluster=cluster)
    events = [-3, -2, 0, 1, 2]
    coef, cov = dense_fit(log, event_dummies(log, events), cluster=cluster or "unit", k=5 + 6)
    at = [study.curve.index.index(e) for e in events]
    assert relative(study.curve.estimate[at], coef) < 1e-10
    assert relative(study.curve.cov[np.ix_(at, at)], cov) < 1e-9
    w = np.array([0, 0, 1, 1, 1]) / 3
    assert study.estimate == pytest.approx(w @ coef, rel=1e-10)
    assert study.std_error == pytest.approx(np.sqrt(w @ cov @ w), rel=1e-9)
    wald = coef[:2] @ np.linalg.solve(cov[:2, :2], coef[:2]) / 2
    assert study.pretrend.df == 2
    df = log[cluster or "unit"].nunique() - 1
    assert study.pretrend.p_value == pytest.approx(stats.f.sf(wald, 2, df), rel=1e-8)


def test_diff_in_diff_of_two_periods_is_four_means():
    log = panel(n_periods=2, starts=(1,), n_units=80)
    means = log.groupby(["ever", "day"])["y"].mean()
    by_hand = (means[1, 1] - means[1, 0]) - (means[0, 1] - means[0, 0])
    assert diff_in_diff(log, **BY_COHORT).estimate == pytest.approx(by_hand, rel=1e-12)


def test_event_study_of_two_periods_is_diff_in_diff():
    log = panel(n_periods=2, starts=(1,), n_units=80)
    tau, study = diff_in_diff(log, **BY_COHORT), event_study(log, **BY_COHORT)
    assert study.estimate == pytest.approx(tau.estimate, rel=1e-12)
    assert study.std_error == pytest.approx(tau.std_error, rel=1e-12)
    assert study.pretrend is None


@pytest.mark.parametrize("share", [1.0, 0.85], ids=["balanced", "gaps"])
def test_diff_in_diff_says_who_is_treated_in_three_ways(share):
    log = panel(share=share)
    by_cohort = diff_in_diff(log, **BY_COHORT)
    by_start = diff_in_diff(log, **ROLES, treatment="ever", start=3)
    assert by_start.estimate == pytest.approx(by_cohort.estimate, rel=1e-12)
    assert by_start.std_error == pytest.approx(by_cohort.std_error, rel=1e-12)
    if share == 1.0:  # with gaps the first treated row may be later than the cohort's
        by_status = diff_in_diff(log, **ROLES, treatment="status")
        assert by_status.estimate == pytest.approx(by_cohort.estimate, rel=1e-12)


@pytest.mark.parametrize("kind", ["CR1", "HC1"])
@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
def test_diff_in_diff_by_moments_is_by_rows(kind, share):
    """A constant weight sends the table through the rows."""
    log = panel(share=share, n_units=64).assign(one=2.0)
    moments = diff_in_diff(log, **BY_COHORT, covariance=kind)
    rows = diff_in_diff(log, **BY_COHORT, covariance=kind, weight="one")
    assert rows.estimate == pytest.approx(moments.estimate, rel=1e-9)
    assert rows.std_error == pytest.approx(moments.std_error, rel=1e-9)
    assert rows.details["k"] == moments.details["k"]
    assert rows.df == moments.df


@pytest.mark.parametrize("kind", ["CR2", "CR3"])
@pytest.mark.parametrize("cluster", ["unit", "cluster"])
@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
def test_diff_in_diff_for_few_clusters_is_by_rows(kind, cluster, share):
    log = panel(share=share, n_units=160)
    moments = diff_in_diff(log, **BY_COHORT, covariance=kind, cluster=cluster)
    on = (log["day"] >= log["cohort"]).to_numpy(dtype=float)[:, None]
    codes = {name: pd.factorize(log[name])[0].astype(np.int64) for name in ("unit", "day", cluster)}
    effects, clusters = [codes["unit"], codes["day"]], [codes[cluster]]
    y = log["y"].to_numpy()
    rows = absorbed_least_squares(y, on, ["d"], effects, clusters=clusters, covariance=kind)
    assert moments.estimate == pytest.approx(rows.coef[0], rel=1e-9)
    assert moments.std_error == pytest.approx(np.sqrt(rows.cov[0, 0]), rel=1e-8)
    assert moments.df == pytest.approx(float(np.atleast_1d(rows.df)[0]), rel=1e-6)


def test_diff_in_diff_with_covariates_and_weights_is_dense():
    log = panel(n_units=120)
    tau = diff_in_diff(log, **BY_COHORT, covariates=["x"], weight="weight")
    on = (log["day"] >= log["cohort"]).to_numpy(dtype=float)
    coef, cov = dense_fit(
        log, np.column_stack([on, log["x"]]), cluster="unit", weight="weight", k=2 + 6
    )
    assert tau.estimate == pytest.approx(coef[0], rel=1e-8)
    assert tau.std_error == pytest.approx(np.sqrt(cov[0, 0]), rel=1e-8)


@pytest.mark.parametrize("kind", ["CR1", "CR2"])
def test_event_study_with_covariates_is_dense(kind):
    log = panel(n_units=40, n_periods=5, seed=8)
    study = event_study(log, **BY_COHORT, covariates=["x"], covariance=kind)
    events = [-3, -2, 0, 1]
    X = np.column_stack([event_dummies(log, events), log["x"]])
    coef, cov = dense_fit(log, X, cluster="unit", k=5 + 5)
    at = [study.curve.index.index(e) for e in events]
    assert relative(study.curve.estimate[at], coef[:4]) < 1e-8
    if kind == "CR1":
        assert relative(study.curve.cov[np.ix_(at, at)], cov[:4, :4]) < 1e-8


def test_diff_in_diff_allows_treatment_to_switch_off():
    log = panel(n_units=80)
    log["flip"] = ((log["ever"] == 1) & log["day"].isin([2, 3])).astype(int)
    with pytest.warns(EstimationWarning, match="switches off"):
        tau = diff_in_diff(log, **ROLES, treatment="flip")
    coef, cov = dense_fit(log, log[["flip"]].to_numpy(dtype=float), cluster="unit", k=1 + 6)
    assert tau.estimate == pytest.approx(coef[0], rel=1e-8)
    assert tau.std_error == pytest.approx(np.sqrt(cov[0, 0]), rel=1e-8)
    with pytest.raises(ValueError, match=r"switch it off, e\.g\. 100, 102"):
        event_study(log, **ROLES, treatment="flip")


def test_event_study_window_leaves_cells_out():
    log = panel(n_units=80, n_periods=8, starts=(4,))
    study = event_study(log, **BY_COHORT, window=(-2, 1))
    inside = (log["cohort"] == np.inf) | (log["day"] - log["cohort"]).between(-2, 1)
    events = [-2, 0, 1]
    some = log[inside]
    coef, cov = dense_fit(some, event_dummies(some, events), cluster="unit", k=3 + 8)
    at = [study.curve.index.index(e) for e in events]
    assert study.curve.index == (-2, -1, 0, 1)
    assert relative(study.curve.estimate[at], coef) < 1e-10
    assert relative(study.curve.cov[np.ix_(at, at)], cov) < 1e-9


def test_event_study_reference_can_be_another():
    log = panel(n_units=80)
    near, far = event_study(log, **BY_COHORT), event_study(log, **BY_COHORT, reference=-2)
    shifted = near.curve.estimate - near.curve.at(-2).estimate
    assert np.allclose(far.curve.estimate, shifted, atol=1e-12)
    assert far.reference == -2


def test_event_study_cumulative_adds_up_with_its_covariance():
    study = event_study(panel(n_units=80), **BY_COHORT)
    total = study.cumulative()
    assert total.index == (0, 1, 2)
    assert total.estimate[-1] == pytest.approx(3 * study.estimate, rel=1e-12)
    assert total.std_error[-1] == pytest.approx(3 * study.std_error, rel=1e-12)


def test_event_study_survives_json():
    study = event_study(panel(n_units=80), **BY_COHORT)
    again = EventStudy.from_dict(json.loads(json.dumps(study.to_dict())))
    assert again == study
    assert again.to_frame().equals(study.to_frame())
    assert again.n_units_by_event_time == study.n_units_by_event_time


# --- every kind of table, and moments -------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_diff_in_diff_and_event_study_are_one_number_for_all_tables(share, cluster):
    log = panel(n_units=160, share=share)
    roles = {**BY_COHORT, "cluster": cluster}
    tau, study = diff_in_diff(log, **roles), event_study(log, **roles)
    tables = other_tables(log) | {"moments": panel_moments(log, **roles, missing="pattern")}
    for name, table in tables.items():
        found, curve = diff_in_diff(table, **roles), event_study(table, **roles)
        assert relative(found.estimate, tau.estimate) < 1e-9, name
        assert relative(found.std_error, tau.std_error) < 1e-9, name
        assert relative(curve.curve.estimate, study.curve.estimate) < 1e-9, name
        assert relative(curve.curve.cov, study.curve.cov) < 1e-9, name


def test_diff_in_diff_takes_parquet(tmp_path):
    log = panel(n_units=160)
    log.to_parquet(tmp_path / "log.parquet")
    found, tau = diff_in_diff(tmp_path / "log.parquet", **BY_COHORT), diff_in_diff(log, **BY_COHORT)
    assert found.estimate == pytest.approx(tau.estimate, rel=1e-9)
    assert found.std_error == pytest.approx(tau.std_error, rel=1e-9)


# --- what must not matter -------------------------------------------------------------------------


def transformed(name, log):
    """The log changed in a way that must not change the effect."""
    unit = log["unit"]
    changed = {
        "rows": lambda: log.sample(frac=1, random_state=1),
        "labels": lambda: log.assign(unit="u" + (unit * 7 % 1009).astype(str)),
        "unit effect": lambda: log.assign(y=log["y"] + 100.0 * np.sin(unit)),
        "period effect": lambda: log.assign(y=log["y"] + log["day"] ** 2),
        "dates": lambda: log.assign(
            day=pd.Timestamp("2026-05-01") + pd.to_timedelta(log["day"], unit="D"),
            cohort=pd.Timestamp("2026-05-01")
            + pd.to_timedelta(log["cohort"].replace(np.inf, np.nan), unit="D"),
        ),
        "later": lambda: log.assign(day=log["day"] + 2000, cohort=log["cohort"] + 2000),
        "unsigned": lambda: log.assign(day=log["day"].astype("uint8")),
        "offset": lambda: log.assign(y=log["y"] + 1e7),
    }
    return changed[name]()


@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
@pytest.mark.parametrize(
    "name",
    ["rows", "labels", "unit effect", "period effect", "dates", "later", "unsigned", "offset"],
)
def test_event_study_does_not_depend_on(name, share):
    log = panel(n_units=80, share=share)
    study, other = event_study(log, **BY_COHORT), event_study(transformed(name, log), **BY_COHORT)
    near = 1e-6 if name == "offset" else 1e-9
    assert relative(other.curve.estimate, study.curve.estimate) < near
    assert relative(other.curve.cov, study.curve.cov) < near


def test_event_study_scales_with_the_outcome():
    log = panel(n_units=80)
    study = event_study(log, **BY_COHORT)
    for factor in (-3.0, 1e150, 1e-150):
        other = event_study(log.assign(y=log["y"] * factor), **BY_COHORT)
        assert relative(other.curve.estimate / factor, study.curve.estimate) < 1e-12
        assert relative(other.curve.std_error / abs(factor), study.curve.std_error) < 1e-12


def test_diff_in_diff_of_units_twice_has_the_smaller_error():
    log = panel(n_units=200)
    twice = pd.concat([log, log.assign(unit=log["unit"] + 10_000)])
    one, two = diff_in_diff(log, **BY_COHORT), diff_in_diff(twice, **BY_COHORT)
    assert two.estimate == pytest.approx(one.estimate, rel=1e-12)

    def plain(effect):
        g, n, k = effect.n_clusters, effect.n_obs, effect.details["k"]
        return effect.std_error / np.sqrt(g / (g - 1) * (n - 1) / (n - k))

    assert plain(two) == pytest.approx(plain(one) / np.sqrt(2), rel=1e-10)


def test_diff_in_diff_counterfactual_is_the_mean_without_the_effect():
    log = panel(n_units=160)
    tau = diff_in_diff(log, **BY_COHORT)
    treated = log[log["day"] >= log["cohort"]]
    assert tau.baseline == pytest.approx(treated["y"].mean() - tau.estimate, rel=1e-10)
    assert tau.details["treated_cells"] == len(treated)
    assert tau.details["total"] == pytest.approx(tau.estimate * len(treated), rel=1e-12)


def test_diff_in_diff_counterfactual_error_is_that_of_units_redrawn():
    """Bootstrap of units within cohorts."""
    log = panel(n_units=200, noise=2.0).assign(y=lambda d: d["y"] + 20)
    tau = diff_in_diff(log, **BY_COHORT)
    wide = log.pivot_table(index="unit", columns="day", values="y").to_numpy()
    ever = log.groupby("unit")["ever"].first().to_numpy() == 1
    rng, draws = np.random.default_rng(0), []
    for _ in range(2000):
        at = [rng.choice(np.flatnonzero(ever == k), (ever == k).sum()) for k in (True, False)]
        a, b = wide[at[0]].mean(axis=0), wide[at[1]].mean(axis=0)
        effect = (a[3:].mean() - a[:3].mean()) - (b[3:].mean() - b[:3].mean())
        draws.append((effect, a[3:].mean() - effect))
    cov = np.cov(np.array(draws).T)
    assert tau.std_error**2 == pytest.approx(cov[0, 0], rel=0.1)
    assert tau.baseline_variance == pytest.approx(cov[1, 1], rel=0.1)
    assert tau.baseline_cov == pytest.approx(cov[0, 1], abs=0.1 * np.sqrt(cov[0, 0] * cov[1, 1]))


# --- warnings, errors -----------------------------------------------------------------------------


def test_diff_in_diff_warns_of_several_cohorts_with_the_negative_weights():
    log = panel(n_units=120, n_periods=10, starts=(2, 8))
    with pytest.warns(EstimationWarning, match="negative weights of effects sum to -0") as caught:
        diff_in_diff(log, **BY_COHORT)
    on = (log["day"] >= log["cohort"]).to_numpy(dtype=float)
    X = np.column_stack([dummies(log["unit"]), dummies(log["day"])[:, 1:]])
    residual = on - X @ np.linalg.lstsq(X, on)[0]
    cells = pd.Series(residual * on).groupby([log["cohort"], log["day"]]).sum()
    negative = (cells[cells < 0] / cells.sum()).sum()
    assert f"sum to {negative:.3g};" in str(caught[0].message)


@pytest.mark.parametrize("more", [{}, {"covariates": ["x"]}], ids=["moments", "rows"])
def test_diff_in_diff_does_not_warn_of_several_cohorts_without_negative_weights(more):
    log = panel(n_units=120, n_periods=10, starts=(6, 8))
    diff_in_diff(log, **BY_COHORT, **more)  # a warning would raise


def test_event_study_warns_of_several_cohorts_with_the_contamination():
    log = panel(n_units=120, n_periods=8, starts=(2, 5))
    with pytest.warns(EstimationWarning) as caught:
        event_study(log, **BY_COHORT)
    said = next(str(w.message) for w in caught if "absolute weight" in str(w.message))
    since = log["day"] - log["cohort"]
    events = [e for e in np.unique(since[np.isfinite(since)]) if e != -1]
    X = np.column_stack(
        [event_dummies(log, events), dummies(log["unit"]), dummies(log["day"])[:, 1:]]
    )
    weight = np.linalg.pinv(X)[events.index(0)]  # of each row's outcome
    other = np.isfinite(since) & (since != 0) & (since != -1)
    cells = pd.Series(weight[other]).groupby([log["cohort"][other].to_numpy(),
                                              log["day"][other].to_numpy()]).sum()  # fmt: skip
    assert f"absolute weight of {cells.abs().sum():.3g} " in said


def test_event_study_warns_of_a_rejected_pretrend():
    log = panel(n_units=120).assign(y=lambda d: d["y"] + 1.5 * d["day"] * d["ever"])
    with pytest.warns(EstimationWarning, match="did not move in parallel"):
        event_study(log, **BY_COHORT)


def test_event_study_drops_always_treated_units_and_says_so():
    log = panel(n_units=90, starts=(3, 0))
    with pytest.warns(EstimationWarning, match="30 always-treated units were dropped"):
        study = event_study(log, **BY_COHORT)
    kept = event_study(log[log["cohort"] > 0], **BY_COHORT)
    assert study.curve == kept.curve


def test_diff_in_diff_warns_of_few_clusters():
    log = panel(n_units=24)
    with pytest.warns(EstimationWarning, match="6 clusters.*CR2"):
        diff_in_diff(log, **BY_COHORT, cluster="cluster")


def test_diff_in_diff_of_rows_has_the_counterfactual_of_moments():
    log = panel(n_units=160).assign(one=1.0, y=lambda d: d["y"] + 10)
    for kind, cluster in (("CR1", None), ("CR1", "cluster"), ("HC1", None)):
        options = {"covariance": kind, "cluster": cluster}
        moments = diff_in_diff(log, **BY_COHORT, **options)
        rows = diff_in_diff(log, **BY_COHORT, **options, weight="one")
        assert rows.baseline == pytest.approx(moments.baseline, rel=1e-9)
        if kind == "CR1":
            assert rows.baseline_variance == pytest.approx(moments.baseline_variance, rel=1e-6)
            assert rows.baseline_cov == pytest.approx(moments.baseline_cov, rel=1e-6)


def test_event_study_counterfactual_is_the_mean_of_its_event_times():
    log = panel(n_units=160).assign(y=lambda d: d["y"] + 10)
    study = event_study(log, **BY_COHORT)
    treated = log[np.isfinite(log["cohort"])]
    levels = treated["y"].groupby(treated["day"] - treated["cohort"]).mean()
    wanted = levels[levels.index >= 0].mean() - study.estimate
    assert study.effect.baseline == pytest.approx(wanted, rel=1e-10)
    low, high = study.effect.relative_conf_int()
    assert low < study.estimate / wanted < high


def test_diff_in_diff_leaves_units_of_one_row_out():
    log = panel(n_units=120)
    alone = log[(log["unit"] < 160) & (log["day"] == 4)].assign(unit=lambda d: d["unit"] + 5_000)
    for cluster in (None, "cluster"):
        one = diff_in_diff(log, **BY_COHORT, cluster=cluster)
        two = diff_in_diff(pd.concat([log, alone]), **BY_COHORT, cluster=cluster)
        for name in ("estimate", "std_error", "baseline", "baseline_variance"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-8), name
        assert two.details["treated_cells"] == one.details["treated_cells"]
        assert two.details["singletons_dropped"] == len(alone)


def test_diff_in_diff_averages_rows_of_a_cell_by_their_weights():
    log = panel(n_units=80)
    twice = pd.concat([log, log.assign(y=log["y"] + log["x"], weight=log["weight"] * 3)])
    total = twice["weight"].groupby([twice["unit"], twice["day"]]).sum()
    mean = (twice["y"] * twice["weight"]).groupby([twice["unit"], twice["day"]]).sum() / total
    by_hand = log.set_index(["unit", "day"]).assign(y=mean, weight=total).reset_index()
    one = diff_in_diff(by_hand, **BY_COHORT, weight="weight")
    for table in (twice, other_tables(twice)["ibis"]):
        two = diff_in_diff(table, **BY_COHORT, weight="weight", aggregate="mean")
        assert two.estimate == pytest.approx(one.estimate, rel=1e-9)
        assert two.std_error == pytest.approx(one.std_error, rel=1e-9)
    with pytest.raises(ValueError, match="aggregate='sum' takes no weight"):
        diff_in_diff(twice, **BY_COHORT, weight="weight", aggregate="sum")


def test_event_study_keeps_its_warnings_where_it_raises():
    log = panel(n_units=80).assign(cohort=lambda d: d["cohort"].replace(np.inf, 0.0))
    with (
        pytest.warns(EstimationWarning, match=r"40 always-treated units were dropped.*never=0"),
        pytest.raises(ValueError, match="without never-treated units"),
    ):
        event_study(log, **BY_COHORT)


def test_event_study_takes_units_that_are_on_when_first_seen_as_always_treated():
    log = panel(n_units=80)
    late = log[~((log["unit"] == 100) & (log["day"] < 4))]
    with pytest.warns(EstimationWarning, match="1 always-treated units were dropped"):
        found = event_study(late, **ROLES, treatment="status")
    rest = event_study(log[log["unit"] != 100], **ROLES, treatment="status")
    assert np.allclose(found.curve.estimate, rest.curve.estimate, atol=1e-12)


def test_diff_in_diff_refuses_times_that_do_not_sort_or_have_two_zones():
    log = panel(n_units=40, n_periods=12)
    words = log.assign(day=log["day"].astype(str))
    with pytest.raises(ValueError, match="does not sort in time"):
        diff_in_diff(words, **ROLES, treatment="ever", start="3")
    weeks = [f"wk{k}" for k in range(12)]
    ordered = pd.Categorical.from_codes(log["day"], weeks, ordered=True)
    with pytest.raises(ValueError, match="does not sort in time"):
        diff_in_diff(log.assign(day=ordered), **ROLES, treatment="ever", start="wk3")
    text = log.assign(day="d" + log["day"].astype(str).str.zfill(2))
    text["cohort"] = np.where(log["ever"] == 1, "d3", None)
    with pytest.raises(ValueError, match=r"cohort 'cohort' must hold observed times.*'d3'"):
        diff_in_diff(text, **BY_COHORT)
    start = pd.Timestamp("2026-05-01")
    cohort = start + pd.to_timedelta(log["cohort"].replace(np.inf, np.nan), unit="D")
    day = start + pd.to_timedelta(log["day"], unit="D")
    zoned = log.assign(day=day.dt.tz_localize("Asia/Shanghai"), cohort=cohort)
    both = zoned.assign(cohort=cohort.dt.tz_localize("Asia/Shanghai"))
    one = diff_in_diff(log, **BY_COHORT).estimate
    for name in ("pandas", "polars", "ibis", "duckdb"):
        table = zoned if name == "pandas" else other_tables(zoned)[name]
        with pytest.raises(TypeError, match="time zone and the other has none"):
            diff_in_diff(table, **BY_COHORT)
        table = both if name == "pandas" else other_tables(both)[name]
        assert diff_in_diff(table, **BY_COHORT).estimate == pytest.approx(one, rel=1e-9)


def test_diff_in_diff_refuses_options_that_it_could_not_keep():
    log = panel(n_units=80)
    log["flip"] = ((log["ever"] == 1) & log["day"].isin([2, 3])).astype(int)
    for options in ({"aggregate": "mean"}, {"covariance": "CR2"}):
        with pytest.raises(ValueError, match="switches off takes neither"):
            diff_in_diff(log, **ROLES, treatment="flip", **options)
    with pytest.raises(ValueError, match=r"HC1.*cluster='cluster'"):
        diff_in_diff(log, **BY_COHORT, covariance="HC1", cluster="cluster")
    summed = panel_moments(log, **BY_COHORT, aggregate="sum")
    with pytest.raises(ValueError, match="same aggregate"):
        diff_in_diff(summed, **BY_COHORT, aggregate="mean")
    started = panel_moments(log, **ROLES, treatment="ever", start=3)
    assert diff_in_diff(started, **ROLES, treatment="ever", start=3.0).n_obs == len(log)


def test_diff_in_diff_of_merged_parts_that_hold_one_group_each():
    log = panel(n_units=80)
    parts = [panel_moments(log[log["ever"] == k], **BY_COHORT) for k in (0, 1)]
    whole = diff_in_diff(log, **BY_COHORT)
    assert diff_in_diff(parts[0] + parts[1], **BY_COHORT).estimate == pytest.approx(whole.estimate)
    with pytest.raises(ValueError, match="at least one unit must be treated"):
        diff_in_diff(parts[0], **BY_COHORT)
    assert repr(parts[0]).startswith("PanelMoments of 'y': 40 units in 6 periods")


def test_diff_in_diff_keeps_what_it_warned_of():
    log = panel(n_units=24)
    with pytest.warns(EstimationWarning, match="6 clusters") as caught:
        tau = diff_in_diff(log, **BY_COHORT, cluster="cluster")
    assert caught[0].filename == __file__
    assert tau.details["warnings"] == (str(caught[0].message),)
    said = tau.summary().splitlines()
    assert said[0] == str(tau)
    for part in ("total", "6 clusters", "assumes: without treatment", "warned: 6 clusters"):
        assert any(part in line for line in said[1:]), part
    again = Effect.from_dict(json.loads(json.dumps(tau.to_dict())))
    assert again.summary() == tau.summary()


def test_diff_in_diff_warns_of_gaps_in_the_calendar():
    log = panel(n_units=80)
    log = log[log["day"] != 1]
    with pytest.warns(EstimationWarning, match=r"'day' skips periods in 1 places? \(0 to 2\)"):
        diff_in_diff(log, **BY_COHORT)


@pytest.mark.parametrize(
    ("change", "said", "parts"),
    [
        ({"cohort": "nope"}, {}, ["'nope'", "not in the table"]),
        ({}, {"treatment": "ever"}, ["'ever'", "give start="]),
        ({}, {"treatment": "ever", "start": 17}, ["start", "17", "observed"]),
        ({}, {"treatment": "ever", "start": 0}, ["start", "before it"]),
        ({}, {"treatment": "x", "start": 3}, ["treatment 'x'", "constant within unit"]),
        ({}, {"treatment": "cluster"}, ["treatment 'cluster'", "must be 0 or 1"]),
        ({}, {"cohort": "cohort", "start": 3}, ["cohort=", "start"]),
        ({}, {"cohort": "cohort", "treatment": "ever"}, ["one way", "cohort and treatment"]),
        ({}, {}, ["one way", "none of them"]),
        ({}, {"cohort": "x"}, ["cohort 'x'", "constant within unit 'unit'"]),
        ({}, {"cohort": "state"}, ["cohort 'state'", "times like 0"]),
        ({}, {"treatment": "ever", "start": 3, "never": 0}, ["never="]),
    ],
)
def test_diff_in_diff_refuses_by_name(change, said, parts):
    with pytest.raises((ValueError, TypeError)) as caught:
        diff_in_diff(panel(), **ROLES, **(said | change))
    for part in parts:
        assert part in str(caught.value)


def test_diff_in_diff_refuses_doubled_rows():
    log = panel()
    doubled = pd.concat([log, log.iloc[[3, 5]]])
    with pytest.raises(ValueError, match="one row in each 'day'; 2 rows are further ones"):
        diff_in_diff(doubled, **BY_COHORT)
    mean = diff_in_diff(doubled, **BY_COHORT, aggregate="mean")
    assert mean.estimate == pytest.approx(diff_in_diff(log, **BY_COHORT).estimate, rel=1e-10)
    engine = diff_in_diff(other_tables(doubled)["ibis"], **BY_COHORT, aggregate="mean")
    assert engine.estimate == pytest.approx(mean.estimate, rel=1e-10)


def test_diff_in_diff_takes_never_as_a_value():
    log = panel()
    zero = log.assign(cohort=log["cohort"].replace(np.inf, 0))
    found = diff_in_diff(zero, **BY_COHORT, never=0)
    assert found.estimate == pytest.approx(diff_in_diff(log, **BY_COHORT).estimate, rel=1e-12)
    later = zero.assign(day=zero["day"] + 1, cohort=zero["cohort"] + (zero["cohort"] > 0))
    both = later.assign(cohort=later["cohort"].where(later["unit"] > 110))
    for never in (0, None):
        with pytest.raises(ValueError, match="in one way; it holds both 0 and missing"):
            diff_in_diff(both, **BY_COHORT, never=never)


def test_event_study_refuses_event_times_that_are_not_identified():
    log = panel(n_units=120, starts=(2, 4))
    log = log[np.isfinite(log["cohort"])]
    with pytest.raises(ValueError, match="without never-treated units"):
        event_study(log, **BY_COHORT)
    with pytest.raises(ValueError, match="reference must be an observed event time"):
        event_study(panel(), **BY_COHORT, reference=-7)


def test_diff_in_diff_refuses_moments_of_other_columns():
    m = panel_moments(panel(), **BY_COHORT)
    with pytest.raises(ValueError, match="same outcome; they were made with 'y', and 'x'"):
        diff_in_diff(m, **{**BY_COHORT, "outcome": "x"})
    with pytest.raises(ValueError, match="same cluster"):
        diff_in_diff(m, **BY_COHORT, cluster="cluster")
    with pytest.raises(ValueError, match="hold no covariates"):
        diff_in_diff(m, **BY_COHORT, covariates=["x"])
