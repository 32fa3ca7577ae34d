"""Difference-in-differences by stratum, and triple differences."""

import json

import numpy as np
import pandas as pd
import pytest
from dense_panel import dense_fit, dummies, other_tables, panel

from causal import (
    EstimationWarning,
    StratifiedDid,
    diff_in_diff,
    panel_moments,
    stratified_did,
    triple_diff,
)

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}
STARTED = {"outcome": "y", "unit": "unit", "time": "day", "treatment": "ever", "start": 3}


def relative(a, b):
    """Largest difference in units of b's size."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("share", [1.0, 0.9], ids=["balanced", "gaps"])
def test_stratified_did_holds_each_stratum_alone(share):
    log = panel(n_units=160, share=share)
    found = stratified_did(log, **ROLES, stratum="state")
    for state in ("new", "old"):
        alone = diff_in_diff(log[log["state"] == state], **ROLES)
        mine = found.curve.at(state)
        assert mine.estimate == pytest.approx(alone.estimate, rel=1e-10)
        assert mine.std_error == pytest.approx(alone.std_error, rel=1e-10)
    assert found.curve.cov[0, 1] == 0
    assert found.pooled.estimate == pytest.approx(diff_in_diff(log, **ROLES).estimate, rel=1e-10)


def test_stratified_did_weights_are_the_chosen_ones():
    log = panel(n_units=150)
    tau = stratified_did(log, **ROLES, stratum="state").curve
    units = log.groupby("unit").agg(state=("state", "first"), ever=("ever", "first"))
    treated = units[units["ever"] == 1]["state"].value_counts(normalize=True).sort_index()
    everybody = units["state"].value_counts(normalize=True).sort_index()
    precision = 1 / np.diag(tau.cov)
    wanted = {
        "treated": treated.to_numpy(),
        "population": everybody.to_numpy(),
        "inverse_variance": precision / precision.sum(),
    }
    for name, w in wanted.items():
        found = stratified_did(log, **ROLES, stratum="state", weights=name)
        assert found.estimate == pytest.approx(w @ tau.estimate, rel=1e-12)
        assert list(found.weights.values()) == pytest.approx(w)
        fixed = float(w @ tau.cov @ w)
        shares = float(w @ tau.estimate**2 - (w @ tau.estimate) ** 2)
        n = {"treated": len(treated) and (units["ever"] == 1).sum(), "population": len(units)}
        more = shares / n[name] if name in n else 0.0
        assert found.std_error**2 == pytest.approx(fixed + more, rel=1e-10)
    given = stratified_did(log, **ROLES, stratum="state", weights={"new": 0.25, "old": 0.75})
    assert given.estimate == pytest.approx(np.array([0.25, 0.75]) @ tau.estimate, rel=1e-12)


def test_stratified_did_heterogeneity_is_cochrans_q():
    found = stratified_did(panel(n_units=160), **ROLES, stratum="state")
    tau, v = found.curve.estimate, np.diag(found.curve.cov)
    mean = (tau / v).sum() / (1 / v).sum()
    assert found.heterogeneity.statistic == pytest.approx(((tau - mean) ** 2 / v).sum(), rel=1e-9)
    assert found.heterogeneity.df == 1


def test_stratified_did_clusters_may_span_strata():
    """Joint covariance by cluster = one dense regression with everything by state."""
    log = panel(n_units=240)
    found = stratified_did(log, **ROLES, stratum="state", cluster="cluster")
    on = (log["day"] >= log["cohort"]).to_numpy(dtype=float)
    new = (log["state"] == "new").to_numpy(dtype=float)
    X = np.column_stack([on * new, on * (1 - new), new[:, None] * dummies(log["day"])[:, 1:]])
    coef, cov = dense_fit(log, X, cluster="cluster", k=2 + 2 * 5 + 1)
    assert relative(found.curve.estimate, coef[:2]) < 1e-9
    correlation = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    mine = found.curve.cov[0, 1] / np.sqrt(np.diag(found.curve.cov).prod())
    assert mine == pytest.approx(correlation, rel=1e-8)


@pytest.mark.parametrize("chosen", ["given", "treated", "population"])
def test_stratified_did_pooling_gap_has_the_error_of_units_redrawn(chosen):
    """Treated shares differ by state: where they are equal the gap is of second order."""
    log = panel(n_units=320)
    log = log[(log["state"] == "new") | (log["ever"] == 0) | (log["unit"] % 8 == 0)]
    log["y"] += 2.0 * log["status"] * (log["state"] == "new")
    weights = {"new": 0.3, "old": 0.7}
    asked = weights if chosen == "given" else chosen
    found = stratified_did(log, **ROLES, stratum="state", weights=asked)
    wide = log.pivot_table(index="unit", columns="day", values="y").to_numpy()
    change = wide[:, 3:].mean(axis=1) - wide[:, :3].mean(axis=1)
    units = log.groupby("unit").agg(state=("state", "first"), ever=("ever", "first"))
    ever, new = (units["ever"] == 1).to_numpy(), (units["state"] == "new").to_numpy()
    rng, gaps = np.random.default_rng(0), []
    for _ in range(2000):
        at = rng.integers(0, len(units), len(units))
        y, d, s = change[at], ever[at], new[at]
        tau = {name: y[d & mine].mean() - y[~d & mine].mean()
               for name, mine in (("new", s), ("old", ~s))}  # fmt: skip
        share = {"given": weights["new"], "treated": s[d].mean(), "population": s.mean()}[chosen]
        mean = share * tau["new"] + (1 - share) * tau["old"]
        gaps.append(y[d].mean() - y[~d].mean() - mean)
    assert found.pooling_gap.std_error == pytest.approx(np.std(gaps), rel=0.12)


@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_stratified_did_baseline_is_that_of_the_strata(cluster):
    log = panel(n_units=240)
    if cluster:  # within strata, so that these are independent
        log["cluster"] = log["cluster"].astype(str) + log["state"]
    given = {"new": 0.3, "old": 0.7}
    found = stratified_did(log, **STARTED, stratum="state", weights=given, cluster=cluster)
    alone = {s: diff_in_diff(log[log["state"] == s], **STARTED, cluster=cluster) for s in given}
    for name, power in (("baseline", 1), ("baseline_variance", 2), ("baseline_cov", 2)):
        wanted = sum(w**power * getattr(alone[s], name) for s, w in given.items())
        assert getattr(found.effect, name) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("chosen", ["treated", "population"])
def test_stratified_did_baseline_has_the_errors_of_units_redrawn(chosen):
    log = panel(n_units=320)
    log["y"] += (2.0 * log["status"] + 5.0) * (log["state"] == "new")
    found = stratified_did(log, **STARTED, stratum="state", weights=chosen)
    wide = log.pivot_table(index="unit", columns="day", values="y").to_numpy()
    late, early = wide[:, 3:].mean(axis=1), wide[:, :3].mean(axis=1)
    units = log.groupby("unit").agg(state=("state", "first"), ever=("ever", "first"))
    ever, new = (units["ever"] == 1).to_numpy(), (units["state"] == "new").to_numpy()
    rng, drawn = np.random.default_rng(0), []
    for _ in range(2000):
        at = rng.integers(0, len(units), len(units))
        y, d, s, after = (late - early)[at], ever[at], new[at], late[at]
        share = (s[d] if chosen == "treated" else s).mean()
        both = 0.0
        for w, mine in ((share, s), (1 - share, ~s)):
            tau = y[d & mine].mean() - y[~d & mine].mean()
            both = both + w * np.array([tau, after[d & mine].mean() - tau])
        drawn.append(both)
    cov = np.cov(np.array(drawn).T)
    assert found.effect.baseline_variance == pytest.approx(cov[1, 1], rel=0.15)
    scale = np.sqrt(cov[0, 0] * cov[1, 1])
    assert found.effect.baseline_cov / scale == pytest.approx(cov[0, 1] / scale, abs=0.08)


def test_stratified_did_answers_where_pooling_is_reversed():
    """Simpson: states differ in effect, trend and treated share."""
    rng = np.random.default_rng(5)
    n = 3_000
    state = rng.integers(0, 2, n)
    ever = rng.random(n) < np.where(state == 1, 0.8, 0.2)
    effect, trend = np.where(state == 1, 1.0, -1.0), np.where(state == 1, -3.0, 3.0)
    before = rng.normal(size=n)
    after = before + trend + effect * ever + rng.normal(size=n)
    log = pd.DataFrame({"unit": np.tile(np.arange(n), 2), "day": np.repeat([0, 1], n),
                        "y": np.concatenate([before, after]), "ever": np.tile(ever, 2).astype(int),
                        "state": np.tile(state, 2)})  # fmt: skip
    roles = {"outcome": "y", "unit": "unit", "time": "day", "treatment": "ever", "start": 1}
    found = stratified_did(log, **roles, stratum="state")
    truth = effect[ever].mean()
    assert abs(found.estimate - truth) < 4 * found.std_error
    assert found.pooled.estimate < 0 < found.estimate
    assert abs(found.pooling_gap.estimate) > 10 * found.pooling_gap.std_error
    assert found.heterogeneity.p_value < 1e-6


@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_stratified_did_is_one_number_for_all_tables(cluster):
    log = panel(n_units=160, share=0.95)
    roles = {**ROLES, "stratum": "state", "cluster": cluster}
    one = stratified_did(log, **roles)
    tables = other_tables(log) | {"moments": panel_moments(log, **roles, missing="pattern")}
    for name, table in tables.items():
        other = stratified_did(table, **roles)
        assert relative(other.curve.estimate, one.curve.estimate) < 1e-9, name
        assert relative(other.curve.cov, one.curve.cov) < 1e-9, name
        assert other.std_error == pytest.approx(one.std_error, rel=1e-9), name
        assert other.pooling_gap.std_error == pytest.approx(one.pooling_gap.std_error, rel=1e-6)


def test_stratified_did_survives_json():
    found = stratified_did(panel(n_units=160), **ROLES, stratum="state")
    again = StratifiedDid.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.to_frame().equals(found.to_frame())


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ({"new": 1.0}, ["weights", "missing ['old']"]),
        ({"new": 0.5, "old": 0.4}, ["sum to 0.9"]),
        ({"new": 0.5, "old": 0.5, "gone": 0.0}, ["unknown ['gone']"]),
        ({"new": 1.5, "old": -0.5}, [">= 0"]),
        ("treat", ["weights", "did you mean 'treated'"]),
    ],
)
def test_stratified_did_refuses_weights(weights, parts):
    with pytest.raises(ValueError, match="weights") as caught:
        stratified_did(panel(), **ROLES, stratum="state", weights=weights)
    for part in parts:
        assert part in str(caught.value)


def test_stratified_did_refuses_strata_without_treated_or_controls():
    log = panel(n_units=80)
    for keep, said in ((log["ever"] == 0, "treated"), (log["ever"] == 1, "control")):
        some = log[keep | (log["state"] == "new")]
        with pytest.raises(ValueError, match=f"'state' must have {said} units; old has none"):
            stratified_did(some, **ROLES, stratum="state")
    with pytest.raises(ValueError, match="stratum 'x' must be constant within unit"):
        stratified_did(log, **ROLES, stratum="x")
    with pytest.raises(ValueError, match="at least two labels"):
        stratified_did(log.assign(one=1), **ROLES, stratum="one")


def test_stratified_did_warns_of_small_strata():
    log = panel(n_units=80)
    few = log[(log["state"] == "new") | (log["ever"] == 0) | (log["unit"] < 107)]
    n = few[(few["state"] == "old") & (few["ever"] == 1)]["unit"].nunique()
    assert 0 < n < 5
    with pytest.warns(EstimationWarning, match=f"{n} treated in 'old'"):
        stratified_did(few, **ROLES, stratum="state")
    treated = (few["state"] == "old") & (few["ever"] == 1)
    one = few[~treated | (few["unit"] == few[treated]["unit"].min())]
    with pytest.raises(ValueError, match=r"inverse_variance.*old.*one treated unit"):
        stratified_did(one, **ROLES, stratum="state", weights="inverse_variance")


def test_stratified_did_leaves_units_of_one_row_out():
    log = panel(n_units=120)
    alone = log[(log["unit"] < 140) & (log["day"] == 1)].assign(unit=lambda d: d["unit"] + 5_000)
    one = stratified_did(log, **ROLES, stratum="state")
    two = stratified_did(pd.concat([log, alone]), **ROLES, stratum="state")
    assert two.effect.estimate == pytest.approx(one.effect.estimate, rel=1e-9)
    assert two.pooling_gap.std_error == pytest.approx(one.pooling_gap.std_error, rel=1e-6)
    assert two.weights == pytest.approx(one.weights)


# --- triple differences ---------------------------------------------------------------------------


def test_triple_diff_is_the_difference_of_two_dids():
    log = panel(n_units=160).assign(can=lambda d: (d["state"] == "new").astype(int))
    found = triple_diff(log, **STARTED, eligible="can")
    yes, no = (diff_in_diff(log[log["can"] == j], **STARTED) for j in (1, 0))
    assert found.estimate == pytest.approx(yes.estimate - no.estimate, rel=1e-12)
    assert found.std_error == pytest.approx(np.hypot(yes.std_error, no.std_error), rel=1e-12)


def test_triple_diff_by_cluster_is_least_squares_with_all_dummies():
    log = panel(n_units=240).assign(can=lambda d: (d["state"] == "new").astype(int))
    found = triple_diff(log, **STARTED, eligible="can", cluster="cluster")
    on, can = log["status"].to_numpy(dtype=float), log["can"].to_numpy(dtype=float)
    X = np.column_stack([on * can, on, can[:, None] * dummies(log["day"])[:, 1:]])
    coef, cov = dense_fit(log, X, cluster="cluster", k=2 + 2 * 5 + 1)
    assert found.estimate == pytest.approx(coef[0], rel=1e-9)
    assert found.std_error == pytest.approx(np.sqrt(cov[0, 0]), rel=0.01)  # another k a part


def test_triple_diff_within_units_is_a_did_of_the_gap():
    log = panel(n_units=120)
    other = panel(n_units=120, seed=3, effect=0.0)
    both = pd.concat([log.assign(can=1), other.assign(can=0)])
    found = triple_diff(both, **STARTED, eligible="can")
    order = ["unit", "day"]
    a, b = log.sort_values(order), other.sort_values(order)
    gap = a.assign(y=a["y"].to_numpy() - b["y"].to_numpy())
    alone = diff_in_diff(gap, **STARTED)
    assert found.estimate == pytest.approx(alone.estimate, rel=1e-12)
    assert found.std_error == pytest.approx(alone.std_error, rel=1e-12)
    assert found.n_obs == len(both)


def test_triple_diff_is_one_number_for_all_tables():
    log = panel(n_units=160).assign(can=lambda d: (d["state"] == "new").astype(int))
    one = triple_diff(log, **STARTED, eligible="can")
    moments = panel_moments(log, **STARTED, stratum="can")
    for name, table in (other_tables(log) | {"moments": moments}).items():
        other = triple_diff(table, **STARTED, eligible="can")
        assert other.estimate == pytest.approx(one.estimate, rel=1e-9), name
        assert other.std_error == pytest.approx(one.std_error, rel=1e-9), name


def test_triple_diff_refuses_by_name():
    log = panel(n_units=80).assign(can=lambda d: (d["state"] == "new").astype(int))
    with pytest.raises(ValueError, match="eligible 'x' must be 0 or 1"):
        triple_diff(log, **STARTED, eligible="x")
    some = log[(log["can"] == 1) | (log["ever"] == 0)]
    with pytest.raises(ValueError, match="'can' = 0 must hold treated and control units"):
        triple_diff(some, **STARTED, eligible="can")
    with pytest.raises(ValueError, match="'can'"):
        triple_diff(log.drop(columns="can"), **STARTED, eligible="can")


def test_triple_diff_warns_of_few_clusters():
    log = panel(n_units=48).assign(can=lambda d: (d["state"] == "new").astype(int))
    with pytest.warns(EstimationWarning, match="12 clusters"):
        triple_diff(log, **STARTED, eligible="can", cluster="cluster")


@pytest.mark.filterwarnings("ignore::causal.EstimationWarning")
@pytest.mark.parametrize("gone", [0, 2, 4])
def test_stratified_did_leaves_periods_without_rows_out_of_a_stratum(gone):
    log = panel(n_units=160)
    log = log[~((log["state"] == "new") & (log["day"] == gone))]
    found = stratified_did(log, **ROLES, stratum="state")
    halves = []
    for state in ("new", "old"):
        alone = diff_in_diff(log[log["state"] == state], **ROLES)
        assert found.curve.at(state).estimate == pytest.approx(alone.estimate, rel=1e-10)
        assert found.curve.at(state).std_error == pytest.approx(alone.std_error, rel=1e-10)
        halves.append(alone)
    log = log.assign(can=(log["state"] == "new").astype(int))
    gap = triple_diff(log, **STARTED, eligible="can")
    new, old = halves
    assert gap.estimate == pytest.approx(new.estimate - old.estimate, rel=1e-10)
    assert gap.std_error == pytest.approx(np.hypot(new.std_error, old.std_error), rel=1e-10)
    assert gap.details["k"] == new.details["k"] + old.details["k"]


@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_stratified_did_refuses_inverse_variance_of_a_stratum_without_variance(cluster):
    log = panel(n_units=160)
    log.loc[log["state"] == "old", "y"] = 0.1
    roles = {**ROLES, "stratum": "state", "cluster": cluster}
    with pytest.raises(ValueError, match="above 0 in every stratum; old of 'state' has none"):
        stratified_did(log, **roles, weights="inverse_variance")
    assert stratified_did(log, **roles).curve.at("old").std_error == 0


def test_stratified_did_pooling_gap_says_its_covariance():
    found = stratified_did(panel(n_units=160), **ROLES, stratum="state")
    said = found.pooling_gap.details
    assert said["covariance"].startswith("CR1")
    assert said == {name: found.effect.details[name] for name in said}


def test_triple_diff_by_cluster_leaves_units_of_one_row_out():
    log = panel(n_units=200).assign(can=lambda d: (d["unit"] % 4 < 2).astype(int))
    one = log[(log["unit"] != 107) | (log["day"] == 2)]
    roles = {**STARTED, "eligible": "can", "cluster": "cluster"}
    found, wanted = triple_diff(one, **roles), triple_diff(log[log["unit"] != 107], **roles)
    assert found.details["singletons_dropped"] == 1
    assert found.estimate == pytest.approx(wanted.estimate, rel=1e-10)
    assert found.std_error == pytest.approx(wanted.std_error, rel=1e-10)


@pytest.mark.filterwarnings("ignore::causal.EstimationWarning")
@pytest.mark.parametrize("seed", range(10))
def test_triple_diff_by_cluster_takes_a_side_without_variance(seed):
    kinds = ((1, 1, "a"), (1, 1, "b"), (0, 0, "a"), (0, 1, "c"), (1, 0, "b"))
    rows = [
        (u, t, can, ever, cluster) for u, (can, ever, cluster) in enumerate(kinds) for t in range(5)
    ]
    log = pd.DataFrame(rows, columns=["unit", "day", "can", "ever", "cluster"])
    log["y"] = np.random.default_rng(seed).normal(size=25)
    found = triple_diff(log, **STARTED, eligible="can", cluster="cluster")
    assert found.std_error >= 0
