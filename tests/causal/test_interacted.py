"""Sun and Abraham: dense dummies, means by hand, other packages, what is dropped, drawn cohorts."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dense_panel import dummies, other_tables, panel

from causal import EstimationWarning, EventStudy, event_study, panel_moments, sun_abraham
from causal.panel import open_moments

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}
STORED = json.loads((Path(__file__).parents[1] / "reference" / "imputation.json").read_text())


def staggered(n_units=160, n_periods=6, starts=(2, 4), seed=7, **options):
    log = panel(n_units=n_units, n_periods=n_periods, starts=starts, seed=seed, **options)
    grows = (0.3 + 0.2 * (log["cohort"] == starts[-1])) * (log["day"] - log["cohort"]).clip(0)
    return log.assign(y=log["y"] + grows.replace(-np.inf, 0))


def saturated(log, D, covariates, cluster):
    """Coefficients of D and CR1 covariance beside unit and day effects, rows off their unit."""
    X = np.column_stack([D, covariates, dummies(log["day"])[:, 1:], log["y"]])
    X = X - pd.DataFrame(X).groupby(log["unit"].to_numpy()).transform("mean").to_numpy()
    y, X = X[:, -1], X[:, :-1]
    bread = np.linalg.inv(X.T @ X)
    b = bread @ X.T @ y
    code = pd.factorize(cluster)[0]
    scores = np.column_stack([np.bincount(code, x * (y - X @ b)) for x in X.T])
    n, k, g = len(y), X.shape[1] + 1, code.max() + 1
    V = bread @ scores.T @ scores @ bread * g / (g - 1) * (n - 1) / (n - k)
    return b[: D.shape[1]], V[: D.shape[1], : D.shape[1]]


def by_hand(log, *, covariates=(), cluster="unit", reference=-1):
    """Points and covariance by event time, then over treated rows: dense dummies and unit loops."""
    since = (log["day"] - log["cohort"]).to_numpy()
    treated = np.isfinite(since) & (since != reference)
    cells = sorted({*zip(log["cohort"][treated], since[treated], strict=True)})
    D = np.column_stack([(log["cohort"] == g) & (since == e) for g, e in cells]) * 1.0
    b, V = saturated(log, D, log[list(covariates)].to_numpy(), log[cluster])
    event = np.array([e for _, e in cells])
    inside = [*(event == e for e in np.unique(event)), event >= 0]
    rows = D.sum(axis=0)
    W = np.column_stack([rows * i / (rows * i).sum() for i in inside])
    points = W.T @ b
    influence = np.column_stack(
        [D @ (i * (b - p)) / (rows * i).sum() for i, p in zip(inside, points, strict=True)]
    )
    groups = pd.factorize(log[cluster])[0]
    by_cluster = np.column_stack([np.bincount(groups, column) for column in influence.T])
    return np.unique(event), points, W.T @ V @ W + by_cluster.T @ by_cluster


def assert_by_hand(study, wanted, rtol=1e-9):
    events, points, cov = wanted
    at = [study.curve.index.index(e) for e in events]
    scale = np.abs(points).max()
    np.testing.assert_allclose(study.curve.estimate[at], points[:-1], rtol=rtol, atol=rtol * scale)
    near = rtol * np.diag(cov).max()
    np.testing.assert_allclose(study.curve.cov[np.ix_(at, at)], cov[:-1, :-1], rtol=rtol, atol=near)
    np.testing.assert_allclose(study.estimate, points[-1], rtol=rtol)
    np.testing.assert_allclose(study.std_error, np.sqrt(cov[-1, -1]), rtol=rtol)


# --- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
@pytest.mark.parametrize("covariates", [(), ("x",)], ids=["plain", "covariate"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_sun_abraham_is_the_saturated_regression_averaged(share, covariates, cluster):
    log = staggered(share=share)
    study = sun_abraham(log, **ROLES, covariates=covariates, cluster=cluster)
    wanted = by_hand(log, covariates=covariates, cluster=cluster or "unit")
    assert_by_hand(study, wanted, rtol=1e-8)
    assert study.effect.df == log[cluster or "unit"].nunique() - 1
    assert "mean over treated cells" in study.effect.details["weights"]


def test_sun_abraham_with_more_patterns_than_moments_hold(monkeypatch):
    monkeypatch.setattr(open_moments, "MOST_PATTERNS", 1)
    log = staggered(share=0.9)
    study = sun_abraham(log, **ROLES)
    assert study.effect.details["k"] == 10 + 6
    assert_by_hand(study, by_hand(log), rtol=1e-8)


def test_effects_of_a_cohort_are_differences_of_four_means():
    log = staggered()
    study = sun_abraham(log, **ROLES)
    mean = log.groupby(["cohort", "day"])["y"].mean()
    size = log[log["day"] == 0].groupby("cohort")["unit"].size()
    for e in (0, 1):
        d = {
            g: mean[g, g + e] - mean[g, g - 1] - (mean[np.inf, g + e] - mean[np.inf, g - 1])
            for g in (2.0, 4.0)
        }
        wanted = sum(size[g] * d[g] for g in d) / sum(size[g] for g in d)
        assert study.curve.at(e).estimate == pytest.approx(wanted, abs=1e-11)
    assert study.curve.index == (-4, -3, -2, -1, 0, 1, 2, 3)
    assert study.n_units_by_event_time == {-4: 53, -3: 53, -2: 107, -1: 107, 0: 107, 1: 107,
                                           2: 54, 3: 54}  # fmt: skip


def test_one_cohort_is_an_event_study():
    log = panel(n_units=120, starts=(3,))
    got, wanted = sun_abraham(log, **ROLES), event_study(log, **ROLES)
    np.testing.assert_allclose(got.curve.estimate, wanted.curve.estimate, atol=1e-12)
    np.testing.assert_allclose(got.curve.cov, wanted.curve.cov, atol=1e-12)
    assert got.pretrend.p_value == pytest.approx(wanted.pretrend.p_value, rel=1e-9)
    assert got.estimate == pytest.approx(wanted.estimate, rel=1e-10)
    assert got.std_error == pytest.approx(wanted.std_error, rel=1e-10)


def test_baseline_is_the_treated_level_less_the_effect():
    log = staggered(share=0.9)
    study = sun_abraham(log, **ROLES)
    level = log["y"][log["day"] >= log["cohort"]].mean()
    assert study.effect.baseline == pytest.approx(level - study.estimate, rel=1e-10)
    assert study.effect.baseline_variance > 0


def test_the_last_cohort_is_the_control_where_nobody_is_never_treated():
    log = staggered(starts=(2, 3, 5)).query("cohort < inf")
    with pytest.warns(EstimationWarning, match="cohort of 5 is the control, and 1 of 6 periods"):
        study = sun_abraham(log, **ROLES)
    early = log[log["day"] < 5].assign(cohort=lambda d: d["cohort"].replace(5, np.inf))
    assert_by_hand(study, by_hand(early), rtol=1e-8)


def test_rows_outside_the_window_are_left_out():
    log = staggered(share=0.9)
    since = log["day"] - log["cohort"]
    inside = log[~np.isfinite(log["cohort"]) | since.between(-2, 1)]
    inside = inside[inside["unit"].map(inside["unit"].value_counts()) >= 2]
    study = sun_abraham(log, **ROLES, window=(-2, 1))
    assert study.curve.index == (-2, -1, 0, 1)
    assert_by_hand(study, by_hand(inside), rtol=1e-8)


def test_another_reference():
    log = staggered()
    study = sun_abraham(log, **ROLES, reference=-2)
    assert study.reference == -2
    assert study.curve.at(-2).std_error == 0
    assert_by_hand(study, by_hand(log, reference=-2), rtol=1e-8)


# --- reference ------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("case", ["balanced", "gaps"])
def test_sun_abraham_gives_the_numbers_of_another_package(case):
    log = pd.DataFrame(STORED["gappy" if case == "gaps" else "log"])
    roles = {"outcome": "y", "unit": "unit", "time": "time", "cohort": "cohort", "never": 0}
    study, stored = sun_abraham(log, **roles), STORED["saturated"][case]
    cells, b, V = (np.array(stored[name]) for name in ("cells", "coef", "cov"))
    for e in np.unique(cells[:, 1]):
        rows = np.array(stored["rows"]) * (cells[:, 1] == e)
        w = rows / rows.sum()
        point = study.curve.at(int(e))
        assert point.estimate == pytest.approx(w @ b, abs=1e-9)
        of_shares = w @ (b - w @ b) ** 2 / rows.sum()  # a package that holds shares fixed has none
        assert point.std_error**2 == pytest.approx(w @ V @ w + of_shares, rel=1e-7)


# --- tables and invariances -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.97])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_sun_abraham_is_the_same_from_any_table(share, cluster):
    log = staggered(share=share)
    wanted = sun_abraham(log, **ROLES, cluster=cluster)
    tables = other_tables(log)
    tables["moments"] = panel_moments(log, **ROLES, cluster=cluster, missing="pattern")
    for name, table in tables.items():
        got = sun_abraham(table, **ROLES, cluster=cluster)
        near = 1e-10 * np.abs(wanted.curve.estimate).max()
        np.testing.assert_allclose(got.curve.estimate, wanted.curve.estimate, rtol=1e-9, atol=near,
                                   err_msg=name)  # fmt: skip
        np.testing.assert_allclose(got.curve.cov, wanted.curve.cov, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.std_error, wanted.std_error, rtol=1e-9)


def test_unit_and_period_effects_change_nothing():
    log = staggered(share=0.95)
    moved = log.assign(y=log["y"] + 1e3 * np.sin(log["unit"]) + 50.0 * log["day"] ** 2)
    got, wanted = (sun_abraham(table, **ROLES) for table in (moved, log))
    np.testing.assert_allclose(got.curve.estimate, wanted.curve.estimate, atol=1e-8)
    np.testing.assert_allclose(got.curve.cov, wanted.curve.cov, atol=1e-9)


def test_sun_abraham_survives_json_and_draws():
    study = sun_abraham(staggered(), **ROLES)
    again = EventStudy.from_dict(json.loads(json.dumps(study.to_dict())))
    assert again == study
    assert again.plot() is not None
    assert again.to_frame()["is_reference"].tolist() == [e == -1 for e in study.curve.index]


# --- what is dropped, what is refused -------------------------------------------------------------


def test_always_treated_units_are_dropped_and_counted():
    log = staggered()
    always = pd.concat([log, log.query("unit < 112").assign(unit=lambda d: d.unit + 900, cohort=0)])
    with pytest.warns(EstimationWarning, match=r"12 of 172 units have no row before treatment"):
        study = sun_abraham(always, **ROLES)
    assert study.curve == sun_abraham(log, **ROLES).curve


def test_cohorts_without_the_reference_are_dropped_and_counted():
    log = staggered(starts=(1, 4))
    n = log.query("cohort == 1")["unit"].nunique()
    with pytest.warns(EstimationWarning, match=rf"{n} units of cohorts \(1\).*event time -2"):
        study = sun_abraham(log, **ROLES, reference=-2)
    assert study.curve == sun_abraham(log.query("cohort != 1"), **ROLES, reference=-2).curve


def test_warnings_point_at_the_callers_line():
    log = staggered()
    gaps = log.assign(day=log["day"] + 9 * (log["day"] > 3))
    always = pd.concat([log, log.query("unit < 112").assign(unit=lambda d: d.unit + 900, cohort=0)])
    for table, words in ((gaps, "skips periods"), (always, "no row before treatment")):
        with pytest.warns(EstimationWarning, match=words) as caught:
            sun_abraham(table, **ROLES)
        assert {w.filename for w in caught} == {__file__}


REFUSED = {
    "reference after": ({"reference": 0}, {}, "reference"),
    "reference not observed": ({"reference": -9}, {}, "reference must be an observed event time"),
    "window": ({"window": (0, 2)}, {}, "window must hold the reference"),
    "covariate of units": ({"covariates": ["c"]}, {"c": lambda d: d.unit % 3}, "'c'"),
    "same cohort": ({}, {"cohort": 3}, "must be a control"),
    "gap": ({}, {"y": lambda d: d.y.where(d.index != 4)}, "'y'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_estimated_is_refused_by_name(case):
    options, columns, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        sun_abraham(staggered().assign(**columns), **ROLES, **options)


def test_a_period_without_controls_is_refused_with_the_cohorts_name():
    log = staggered()
    log = log[np.isfinite(log["cohort"]) | (log["day"] != 5)]
    with pytest.raises(ValueError, match="the effect of cohort 4 at event time 1"):
        sun_abraham(log, **ROLES)


# --- errors ---------------------------------------------------------------------------------------


def cover(n_replications, spread, *, clusters=False, seed=0):
    """Share of intervals that hold the effect of the population; mean error over true spread."""
    rng = np.random.default_rng(seed)
    n, t, kinds = 120, 5, np.array([2.0, 3.0, np.inf])
    effects, p = np.array([1.0, 1.0 + spread]), np.array([0.3, 0.3])
    rows = p * (t - kinds[:2])
    truth = rows @ effects / rows.sum()
    unit, day = (a.ravel() for a in np.indices((n, t)))
    log = pd.DataFrame({"unit": unit, "day": day, "cluster": unit // 3})
    hits, estimates, errors = [], [], []
    for _ in range(n_replications):
        drawn = rng.choice(3, size=n, p=[*p, 1 - p.sum()])
        if clusters:
            drawn = drawn[3 * (np.arange(n) // 3)]
        first = kinds[drawn][unit]
        effect = np.append(effects, 0.0)[drawn][unit] * (day >= first)
        y = rng.normal(size=n)[unit] + effect + rng.normal(size=n * t)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)  # a pre-trend is rejected at times
            study = sun_abraham(log.assign(y=y, cohort=first), **ROLES,
                                cluster="cluster" if clusters else None)  # fmt: skip
        low, high = study.conf_int()
        hits.append(low < truth < high)
        estimates.append(study.estimate)
        errors.append(study.std_error)
    return np.mean(hits), np.mean(errors) / np.std(estimates)


@pytest.mark.coverage_study
@pytest.mark.parametrize("clusters", [False, True])
def test_intervals_cover_when_cohorts_are_drawn_and_differ(clusters):
    covered, ratio = cover(200, spread=6.0, clusters=clusters)
    assert 0.91 < covered < 0.98
    assert 0.9 < ratio < 1.1


def test_shares_add_to_the_error_only_where_cohorts_differ():
    log = panel(n_units=150, starts=(2, 4))
    for late, wanted in ((1.0, None), (4.0, "by hand")):
        effect = log["status"] * log["cohort"].map({2: 1.0, 4: late, np.inf: 0.0})
        study = sun_abraham(log.assign(y=effect + 1e-6 * log["y"]), **ROLES)
        if wanted is None:
            assert study.std_error < 1e-6
            continue
        treated = effect[log["status"] == 1]
        by_unit = (treated - treated.mean()).groupby(log["unit"]).sum()
        error = np.sqrt((by_unit**2).sum()) / len(treated)
        assert study.std_error == pytest.approx(error, rel=1e-4)


def test_sun_abraham_refuses_a_reference_as_event_study_does():
    log = staggered(starts=(3,))
    said = []
    for estimator in (sun_abraham, event_study):
        with pytest.raises(ValueError, match="reference must be an observed event time") as caught:
            estimator(log, **ROLES, reference=0)
        said.append(str(caught.value))
    assert said[0] == said[1]
