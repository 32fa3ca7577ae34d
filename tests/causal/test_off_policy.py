"""Off-policy values against enumeration, obp, other intakes and simulation."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression

from causal.decisions.off_policy import off_policy_lift, off_policy_value
from causal.decisions.weights import WeightDiagnostics
from causal.effect import Effect, EstimationWarning
from recsys.datasets import open_bandit

EXACT = 1e-12
OBP = 1e-10
STORED = json.loads(
    (Path(__file__).parents[1] / "reference" / "off_policy.json").read_text(encoding="utf-8")
)
ROLES = {"reward": "r", "propensity": "p", "target": "t"}
MODELLED = ("dm", "dr", "sndr", "switch", "shrinkage")


def simulated(n=400, seed=0, k=3):
    """Rows with features, action, propensity and target probability, and the whole target."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, n)
    mu = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]])[x]
    pi = np.array([[0.2, 0.2, 0.6], [0.6, 0.2, 0.2], [0.3, 0.4, 0.3]])[x]
    a = (rng.random(n)[:, None] > mu.cumsum(axis=1)).sum(axis=1)
    row = np.arange(n)
    log = pd.DataFrame({"x": x, "a": a, "p": mu[row, a], "t": pi[row, a]})
    log["r"] = rng.binomial(1, 0.2 + 0.1 * a) + rng.normal(size=n)
    log["click"] = rng.binomial(1, 0.2 + 0.1 * a)
    log["g"] = rng.integers(0, 40, n)
    return log, pi


def numbers(result):
    return np.array([result.estimate, result.std_error, result.diagnostics.ess])


# ---- exact ----

MU = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])  # 2 contexts x 3 actions
PI = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
REWARD = np.array([[1.0, 0.0, 3.0], [2.0, -1.0, 0.5]])  # of context and action, without noise
CONTEXT = [0.4, 0.6]
CELLS = list(itertools.product(range(2), range(3)))


class Table(RegressorMixin, BaseEstimator):
    """A reward model that was fixed beforehand: q[context, action]."""

    def __init__(self, table):
        self.table = table

    def fit(self, X, y):
        return self

    def predict(self, X):
        table = np.asarray(self.table)
        return table[X[:, 0].astype(int), X[:, 1:].argmax(axis=1)]


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize("method", ["ips", "dr"])
def test_off_policy_value_is_unbiased_over_all_logs_of_three_rows(method):
    truth = sum(CONTEXT[x] * PI[x, a] * REWARD[x, a] for x, a in CELLS)
    wrong = Table([[0.3, 2.0, 1.0], [0.0, 1.0, 4.0]])  # far from REWARD: dr needs no true model
    expected = total = 0.0
    for rows in itertools.product(CELLS, repeat=3):
        chance = np.prod([CONTEXT[x] * MU[x, a] for x, a in rows])
        x, a = np.array(rows).T
        log = pd.DataFrame({"x": x, "a": a, "p": MU[x, a], "r": REWARD[x, a]})
        value = off_policy_value(
            log,
            reward="r",
            propensity="p",
            action="a",
            target_policy=PI[x],
            actions=[0, 1, 2],
            method=method,
            **({"features": ["x"], "outcome_model": wrong, "n_folds": 3} if method == "dr" else {}),
        )
        expected += chance * value.estimate
        total += chance
    assert total == pytest.approx(1, abs=EXACT)
    assert expected == pytest.approx(truth, abs=EXACT)


def test_off_policy_value_variances_equal_their_formulas():
    log, _ = simulated()
    w, r, n = (log.t / log.p).to_numpy(), log.r.to_numpy(), len(log)
    ips = off_policy_value(log, **ROLES, method="ips")
    assert ips.estimate == pytest.approx((w * r).mean(), rel=EXACT)
    assert ips.std_error**2 == pytest.approx(np.var(w * r, ddof=1) / n, rel=EXACT)
    snips = off_policy_value(log, **ROLES)
    v = (w * r).sum() / w.sum()
    variance = np.mean(w**2 * (r - v) ** 2) / (n * w.mean() ** 2) * n / (n - 1)
    assert snips.estimate == pytest.approx(v, rel=EXACT)
    assert snips.std_error**2 == pytest.approx(variance, rel=EXACT)
    assert snips.effect.df is None
    assert snips.effect.n_clusters is None


@pytest.mark.parametrize("method", ["ips", "snips"])
def test_off_policy_lift_with_clusters_equals_a_loop_over_clusters(method):
    log, _ = simulated()
    w, r, n = (log.t / log.p).to_numpy(), log.r.to_numpy(), len(log)
    if method == "ips":
        value = (w * r).mean()
        influence = w * r - value
    else:
        value = (w * r).sum() / w.sum()
        influence = w * (r - value) / w.mean()
    scores = np.column_stack([influence - (r - r.mean()), r - r.mean()])
    sums = np.array([scores[log.g == g].sum(axis=0) for g in np.unique(log.g)]) / n
    groups = len(sums)
    covariance = groups / (groups - 1) * sums.T @ sums
    lift = off_policy_lift(log, **ROLES, method=method, cluster="g").effect
    assert lift.estimate == pytest.approx(value - r.mean(), rel=EXACT)
    assert lift.std_error**2 == pytest.approx(covariance[0, 0], rel=1e-10)
    assert lift.baseline == pytest.approx(r.mean(), rel=EXACT)
    assert lift.baseline_variance == pytest.approx(covariance[1, 1], rel=1e-10)
    assert lift.baseline_cov == pytest.approx(covariance[0, 1], rel=1e-10)
    assert lift.df == groups - 1
    assert lift.relative().estimate == pytest.approx(lift.estimate / r.mean(), rel=EXACT)


def test_diagnostics_equal_their_definitions():
    log, _ = simulated()
    log.loc[:9, "t"] = 0.0
    w, n = (log.t / log.p).to_numpy(), len(log)
    d = off_policy_value(log, **ROLES, method="ips", clip=1.5, reward_range=(-4, 5)).diagnostics
    v = np.minimum(w, 1.5)
    top = np.sort(v)[-4:]
    expected = {
        "n_obs": n,
        "ess": v.sum() ** 2 / (v**2).sum(),
        "ess_share": v.sum() ** 2 / (v**2).sum() / n,
        "max_weight": v.max(),
        "mean_weight": w.mean(),
        "mean_weight_z": (w.mean() - 1) / (w.std(ddof=1) / np.sqrt(n)),
        "top_share": top.sum() / v.sum(),
        "max_share": v.max() / v.sum(),
        "n_zero_target": 10,
        "n_clipped": (w > 1.5).sum(),
        "clipping_bias_bound": np.maximum(w - 1.5, 0).mean() * 5,
        "weighted_rewards": ((w > 0) & (log.r != 0)).sum(),
    }
    found = d.to_dict()
    assert found.pop("unsupported_mass") is None
    assert found == pytest.approx(expected, rel=1e-10)
    assert d.to_frame().shape == (1, 13)


@pytest.mark.parametrize("method", ["ips", "snips"])
def test_target_equal_to_propensity_gives_the_mean_reward_and_all_rows(method):
    log, _ = simulated()
    value = off_policy_value(log, reward="r", propensity="p", target="t", method=method)
    assert value.estimate != pytest.approx(log.r.mean())
    log["t"] = log["p"]
    value = off_policy_value(log, **ROLES, method=method)
    assert value.estimate == pytest.approx(log.r.mean(), rel=EXACT)
    assert value.std_error == pytest.approx(log.r.sem(), rel=1e-10)
    assert value.diagnostics.ess == pytest.approx(len(log), rel=EXACT)
    assert value.diagnostics.mean_weight_z == 0
    lift = off_policy_lift(log, **ROLES, method=method)
    assert lift.estimate == pytest.approx(0, abs=EXACT)
    assert lift.std_error == pytest.approx(0, abs=1e-8)


def test_unsupported_mass_counts_actions_never_logged_in_their_cell():
    log = pd.DataFrame({"x": np.repeat(["u", "v"], 100), "a": [0, 1] * 50 + [0] * 100, "p": 0.5})
    log["r"] = np.tile([1, 0, 0, 1, 1], 40)
    given_ = {"reward": "r", "propensity": "p", "action": "a", "target_policy": [0.2, 0.5, 0.3]}
    with pytest.warns(EstimationWarning, match="mean weight"):
        value = off_policy_value(log, **given_, actions=[0, 1, 2], features=["x"])
    assert value.diagnostics.unsupported_mass == pytest.approx(0.3 + 0.5 / 2)
    with pytest.warns(EstimationWarning, match="mean weight"):  # no features: one cell
        value = off_policy_value(log, **given_, actions=[0, 1, 2])
    assert value.diagnostics.unsupported_mass == pytest.approx(0.3)


# ---- reference ----


def men_with_formulas():
    """The shipped log, and the formulas of tests/reference/make_off_policy.py."""
    log = open_bandit("men", "bts").joined()
    k = int(log["n_candidates"].iloc[0])
    a, position = np.arange(k)[None, :], log["position"].to_numpy()[:, None]
    pi = 1.0 + (5 * a + position) % 7
    pi = pi / pi.sum(axis=1, keepdims=True)
    q = 0.002 + 0.0005 * ((7 * a + 3 * np.arange(4)[:, None]) % 11)
    given_ = {"reward": "click", "propensity": "propensity", "action": "room_id"}
    return log, {**given_, "target_policy": pi, "actions": list(range(k))}, q


@pytest.mark.reference
def test_off_policy_value_equals_obp_on_the_shipped_log():
    log, given_, q = men_with_formulas()
    model = {"features": ["position"], "outcome_model": Table(q), "n_folds": 2}
    stored = STORED["men"]

    def value(method, **options):
        return off_policy_value(log, **given_, method=method, **options).estimate

    for method in ("ips", "snips"):
        assert value(method) == pytest.approx(stored[method], rel=OBP)
    assert value("ips", clip=0.5) == pytest.approx(stored["ips, clip 0.5"], rel=OBP)
    for method in ("dm", "dr", "sndr"):
        assert value(method, **model) == pytest.approx(stored[method], rel=OBP)
    for tau, expected in stored["switch"]:
        assert value("switch", switch_at=tau, **model) == pytest.approx(expected, rel=OBP)
    for lam, expected in stored["shrinkage"]:
        assert value("shrinkage", shrinkage=lam, **model) == pytest.approx(expected, rel=OBP)


@pytest.mark.parametrize(
    ("campaign", "ips", "snips", "ess", "largest"),
    [("all", 0.00236, 0.00233, 340, 278), ("men", 0.0030, 0.0032, 656, 178)],
)
def test_off_policy_value_gives_the_wiring_numbers_of_open_bandit(
    campaign, ips, snips, ess, largest
):
    log = open_bandit(campaign, "bts").joined()
    log["uniform"] = 1 / log["n_candidates"]
    given_ = {"reward": "click", "propensity": "propensity", "target": "uniform"}
    first, second = (off_policy_value(log, **given_, method=m) for m in ("ips", "snips"))
    assert first.estimate == pytest.approx(ips, abs=5e-5)
    assert second.estimate == pytest.approx(snips, abs=5e-5)
    assert second.diagnostics.ess == pytest.approx(ess, abs=0.5)
    assert second.diagnostics.max_weight == pytest.approx(largest, abs=0.5)
    truth = open_bandit(campaign, "random").joined()["click"].mean()
    low, high = second.conf_int()
    assert low < truth < high


def test_unsupported_mass_finds_the_empty_cell_of_open_bandit():
    log = open_bandit("all", "bts").joined()
    given_ = {"reward": "click", "propensity": "propensity", "action": "room_id"}
    value = off_policy_value(
        log, **given_, target_policy=np.full(80, 1 / 80), actions=range(80), features=["position"]
    )
    cells = log.groupby("position")["room_id"].nunique()
    empty = (80 - cells) / 80 * log.groupby("position").size() / len(log)
    assert value.diagnostics.unsupported_mass == pytest.approx(empty.sum(), rel=EXACT)
    assert empty.sum() > 0


# ---- property ----


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["ips", "snips", "dr", "sndr", "switch", "shrinkage"]),
    st.booleans(),
)
def test_off_policy_value_does_not_depend_on_row_order(seed, method, clustered):
    log, pi = simulated(200, seed)
    order = np.random.default_rng(seed).permutation(len(log))
    options = {"cluster": "g"} if clustered else {}
    if method not in ("ips", "snips"):
        options |= {"features": ["x"], "outcome_model": LinearRegression()}
    given_ = {"reward": "r", "propensity": "p", "action": "a", "method": method, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        first = off_policy_value(log, target_policy=pi, **given_)
        second = off_policy_value(log.iloc[order], target_policy=pi[order], **given_)
    np.testing.assert_allclose(numbers(first), numbers(second), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(0, 1000), st.booleans())
def test_snips_follows_a_shift_of_the_reward_and_ips_moves_by_the_mean_weight(
    shift, seed, clustered
):
    log, _ = simulated(200, seed)
    moved = log.assign(r=log.r + shift)
    options = {"cluster": "g"} if clustered else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        before = off_policy_value(log, **ROLES, **options)
        after = off_policy_value(moved, **ROLES, **options)
        ips = [off_policy_value(t, **ROLES, method="ips", **options) for t in (log, moved)]
    tolerance = 1e-9 * (1 + abs(shift))
    assert after.estimate - before.estimate == pytest.approx(shift, abs=tolerance)
    assert after.std_error == pytest.approx(before.std_error, rel=1e-7)
    apart = ips[1].estimate - ips[0].estimate
    assert apart == pytest.approx(shift * before.diagnostics.mean_weight, abs=tolerance)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("method", ["ips", "snips", *MODELLED])
def test_off_policy_lift_follows_the_scale_of_the_reward(method, scale):
    log, pi = simulated(300)
    options = {}
    if method in MODELLED:
        options = {"features": ["x"], "n_folds": 2}
    given_ = {"reward": "r", "propensity": "p", "action": "a", "target_policy": pi}
    first = off_policy_lift(log, **given_, method=method, **options)
    second = off_policy_lift(log.assign(r=log.r * scale), **given_, method=method, **options)
    expected = np.array([first.estimate, first.std_error]) * scale
    np.testing.assert_allclose([second.estimate, second.std_error], expected, rtol=1e-6)


def test_lift_duplicating_every_row_within_its_cluster_changes_nothing():
    log, _ = simulated(200)
    log["g"] = np.arange(200)
    once, twice = log, pd.concat([log, log])
    first, second = (off_policy_lift(t, **ROLES, cluster="g") for t in (once, twice))
    assert second.estimate == pytest.approx(first.estimate, rel=1e-10)
    assert second.std_error == pytest.approx(first.std_error, rel=1e-10)


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.parametrize("cluster", [None, "g"])
@pytest.mark.parametrize("method", ["ips", "snips"])
@pytest.mark.parametrize("clip", [None, 1.5])
def test_off_policy_lift_is_the_same_for_every_kind_of_table(tmp_path, method, cluster, clip):
    import duckdb
    import ibis

    log, _ = simulated(3000)
    table = pa.Table.from_pandas(log)
    path = tmp_path / "log.parquet"
    log.to_parquet(path)
    connection = duckdb.connect()
    kinds = {
        "polars": pl.from_pandas(log),
        "lazy": pl.from_pandas(log).lazy(),
        "arrow": table,
        "duckdb": connection.from_arrow(table),
        "ibis": ibis.duckdb.connect().read_parquet(path),
        "path": path,
        "paths": [str(path)],
    }
    options = {"method": method, "cluster": cluster, "clip": clip}
    expected = off_policy_lift(log, **ROLES, **options)
    for kind, data in kinds.items():
        found = off_policy_lift(data, **ROLES, **options)
        for name in ("estimate", "std_error", "baseline", "baseline_variance", "baseline_cov"):
            value = getattr(found.effect, name)
            assert value == pytest.approx(getattr(expected.effect, name), rel=1e-9), (kind, name)
        np.testing.assert_allclose(
            found.diagnostics.to_frame().drop(columns="unsupported_mass").to_numpy(float),
            expected.diagnostics.to_frame().drop(columns="unsupported_mass").to_numpy(float),
            rtol=1e-9,
        )


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_engine_keeps_its_digits_where_the_first_rows_mislead(tmp_path):
    log, _ = simulated(6000)
    log["r"] = np.where(np.arange(6000) < 4500, 0.0, 1e9 + log["r"])
    path = tmp_path / "log.parquet"
    log.to_parquet(path)
    expected = off_policy_value(log, **ROLES)
    np.testing.assert_allclose(
        numbers(off_policy_value(path, **ROLES)), numbers(expected), rtol=1e-10
    )


# ---- models ----


def test_default_model_handles_text_rare_rewards_and_offsets():
    log, pi = simulated(400)
    log["segment"] = np.array(["new", "old", "back"])[log.x]
    given_ = {"propensity": "p", "action": "a", "target_policy": pi, "features": ["segment"]}
    log["rare"] = (np.arange(400) == 7).astype(int)
    with pytest.warns(EstimationWarning, match="fewer than 10 weighted rewards"):
        value = off_policy_value(log, reward="rare", method="dr", **given_)
    assert 0 <= value.estimate < 0.05
    first = off_policy_value(log, reward="r", method="dr", **given_)
    second = off_policy_value(log.assign(r=log.r + 1e9), reward="r", method="dr", **given_)
    assert second.estimate - 1e9 == pytest.approx(first.estimate, abs=1e-4)
    assert second.std_error == pytest.approx(first.std_error, rel=1e-5)


def test_any_scikit_learn_model_may_be_passed_and_is_not_touched():
    log, pi = simulated(400)
    given_ = {"propensity": "p", "action": "a", "target_policy": pi, "features": ["x"]}
    linear, logistic = LinearRegression(), LogisticRegression()
    value = off_policy_value(log, reward="r", method="dr", outcome_model=linear, **given_)
    assert value.effect.details["outcome_model"] == "LinearRegression"
    value = off_policy_value(log, reward="click", method="dr", outcome_model=logistic, **given_)
    truth = (0.2 + 0.1 * (pi @ np.arange(3))).mean()
    low, high = value.effect.conf_int(0.999)
    assert low < truth < high
    assert not hasattr(linear, "coef_")
    assert not hasattr(logistic, "coef_")


def test_model_never_predicts_a_row_that_it_has_seen():
    class Memory(RegressorMixin, BaseEstimator):
        def fit(self, X, y):
            self.seen_ = {x[0]: v for x, v in zip(X.tolist(), y.tolist(), strict=True)}
            return self

        def predict(self, X):
            return np.array([self.seen_.get(x[0], 0.0) for x in X.tolist()])

    log, pi = simulated(100)
    log["row"] = np.arange(100)
    given_ = {"reward": "r", "propensity": "p", "action": "a", "target_policy": pi}
    with pytest.warns(EstimationWarning, match="effective rows"):
        dr = off_policy_value(log, **given_, method="dr", features=["row"], outcome_model=Memory())
    with pytest.warns(EstimationWarning, match="effective rows"):
        ips = off_policy_value(log, **given_, method="ips")
    assert dr.estimate == pytest.approx(ips.estimate, rel=EXACT)


def test_folds_and_jackknife_keep_clusters_whole():
    class Memory(RegressorMixin, BaseEstimator):
        def fit(self, X, y):
            self.seen_ = set(X[:, 0].tolist())
            return self

        def predict(self, X):
            return np.array([float(x in self.seen_) for x in X[:, 0].tolist()])

    log, pi = simulated(400)
    given_ = {"reward": "r", "propensity": "p", "action": "a", "target_policy": pi}
    # the cluster is the feature: a model that has seen one row of it would predict 1
    log["own"] = log["g"]
    with pytest.warns(EstimationWarning, match="no spread"):
        value = off_policy_value(
            log, **given_, cluster="g", features=["own"], method="dm", outcome_model=Memory()
        )
    assert value.estimate == 0


@pytest.mark.parametrize("method", ["switch", "shrinkage"])
def test_chosen_tuning_lies_between_no_correction_and_doubly_robust(method):
    rng = np.random.default_rng(3)
    log, pi = simulated(60)
    log["p"] = np.where(rng.random(60) < 0.05, 1e-3, log["p"])  # a few enormous weights
    given_ = {"reward": "r", "propensity": "p", "action": "a", "target_policy": pi}
    model = {"features": ["x"], "outcome_model": LinearRegression()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        dr = off_policy_value(log, **given_, method="dr", **model)
        tuned = off_policy_value(log, **given_, method=method, **model)
        wide = "switch_at" if method == "switch" else "shrinkage"
        same = off_policy_value(log, **given_, method=method, **{wide: 1e30}, **model)
        small = off_policy_value(log, **given_, method=method, **{wide: 2.0}, **model)
    assert small.std_error < tuned.std_error <= dr.std_error * (1 + 1e-6)
    assert tuned.effect.details["chosen_from_log"] is True
    assert same.estimate == pytest.approx(dr.estimate, rel=1e-9)


# ---- warnings and complaints ----


def test_fragile_values_warn_once_with_all_figures():
    log, _ = simulated(400)
    log["t"] = log["t"] * 0.4
    with pytest.warns(EstimationWarning) as caught:
        off_policy_value(log.assign(r=0.0), **ROLES)
    assert len(caught) == 1
    message = str(caught[0].message)
    for words in ("mean weight is not 1", "fewer than 10 weighted rewards", "effective rows",
                  "largest weight", "top 1%", "z = "):  # fmt: skip
        assert words in message
    assert caught[0].filename == __file__
    one = log.assign(t=0.0)
    one.loc[3, "t"] = 1.0
    with pytest.warns(EstimationWarning, match="one row holds more than 10%"):
        off_policy_value(one, **ROLES)


COMPLAINTS = [
    ({"target": None}, "neither"),
    ({"target_policy": np.full(3, 1 / 3)}, "both"),
    ({"method": "dr"}, "needs target_policy"),
    ({"target": None, "target_policy": np.full(3, 1 / 3)}, "needs action"),
    ({"method": "snip"}, "did you mean 'snips'"),
    ({"switch_at": 3.0}, "switch_at belongs to"),
    ({"clip": -1.0}, "clip must be a positive number"),
    ({"clip": 2.0, "reward_range": (1, 0)}, "reward_range"),
    ({"clip": 2.0, "reward_range": (0, 1)}, r"reward_range must hold every reward; .*widen it"),
    ({"clip": 2.0, "reward_range": (0, "1")}, "two finite numbers"),
    ({"clip": "a"}, "clip must be a positive number"),
    ({"n_folds": 1}, "n_folds"),
    ({"n_folds": 2.5}, "n_folds must be a whole number"),
    ({"seed": -1}, "seed must be a whole number"),
    ({"target": "p"}, "'p' cannot be both"),
]


@pytest.mark.parametrize(("changes", "words"), COMPLAINTS)
def test_off_policy_value_refuses_arguments_that_contradict(changes, words):
    log, _ = simulated(50)
    with pytest.raises(ValueError, match=words):
        off_policy_value(log, **{**ROLES, **changes})


@pytest.mark.parametrize("column", ["r", "p", "t"])
def test_off_policy_value_names_the_column_with_missing_numbers(column):
    log, _ = simulated(50)
    log.loc[[3, 8], column] = np.nan
    with pytest.raises(ValueError, match=f"'{column}' must be present .*2 rows are not.*3, 8"):
        off_policy_value(log, **ROLES)


@pytest.mark.parametrize(("column", "value"), [("p", 0.0), ("p", 1.3), ("p", -0.1), ("t", -0.1)])
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_off_policy_value_names_numbers_that_are_no_probability(tmp_path, column, value):
    log, _ = simulated(50)
    log.loc[[3, 8], column] = value
    log.to_parquet(tmp_path / "log.parquet")
    for data in (log, tmp_path / "log.parquet"):
        with pytest.raises(ValueError, match=rf"'{column}'.*2 rows are not.*3, 8 \({value}"):
            off_policy_value(data, **ROLES)
        with pytest.raises(ValueError, match=rf"'{column}'.*2 rows are not"):
            off_policy_value(data, **ROLES, cluster="g")


def test_target_policy_is_refused_with_a_reason():
    log, pi = simulated(60)
    given_ = {"reward": "r", "propensity": "p", "action": "a"}
    with pytest.raises(ValueError, match=r"shape \(3,\) or \(60, 3\), for 60 rows and 3 distinct"):
        off_policy_value(log, **given_, target_policy=np.full(4, 0.25))
    with pytest.raises(ValueError, match=r"rows hold 1 others, e\.g\. 2; add them"):
        off_policy_value(log, **given_, target_policy=[0.5, 0.5], actions=[0, 1])
    with pytest.raises(ValueError, match="actions must differ"):
        off_policy_value(log, **given_, target_policy=pi, actions=[0, 1, 1])
    wrong = pi.copy()
    wrong[4] *= 0.9
    with pytest.raises(ValueError, match=r"sum to 1 over actions; 1 row is not, e.g. rows 4"):
        off_policy_value(log, **given_, target_policy=wrong)
    wrong[4] = [1.4, -0.2, -0.2]
    with pytest.raises(ValueError, match=r"\[0, 1\]; 1 row is not, e.g. rows 4 \(1.4\)"):
        off_policy_value(log, **given_, target_policy=wrong)


def test_a_target_that_takes_no_logged_action_is_refused():
    log, _ = simulated(50)
    for method in ("ips", "snips"):
        with pytest.raises(ValueError, match="this log says nothing of that policy"):
            off_policy_value(log.assign(t=0.0), **ROLES, method=method)


def test_too_few_rows_or_clusters_are_refused():
    log, _ = simulated(50)
    with pytest.raises(ValueError, match="at least two rows"):
        off_policy_value(log.iloc[:1], **ROLES)
    with pytest.raises(ValueError, match="at least two clusters"):
        off_policy_value(log.assign(g=1), **ROLES, cluster="g")


def test_policy_value_parts_round_trip_through_json_and_show_themselves():
    log, pi = simulated()
    given_ = {"reward": "r", "propensity": "p", "action": "a", "target_policy": pi}
    value = off_policy_value(
        log, **given_, method="switch", features=["x"], outcome_model=LinearRegression()
    )
    assert Effect.from_dict(json.loads(json.dumps(value.to_dict()))) == value.effect
    diagnostics = json.loads(json.dumps(value.diagnostics.to_dict()))
    assert WeightDiagnostics.from_dict(diagnostics) == value.diagnostics
    assert value.conf_int(0.9) == value.effect.conf_int(0.9)
    assert value.p_value == value.effect.p_value
    assert value.effect.method.startswith("SWITCH-DR (tau=")
    assert value.effect.details["reward_range_source"] == "observed"
    assert value.effect.estimand == "policy value"
    assert "effective rows" in str(value)
    assert "SWITCH" in value._repr_html_()
    frame = value.to_frame()
    assert {"estimate", "ess", "top_share"} <= set(frame.columns)
    assert len(frame) == 1


def test_off_policy_value_names_infinite_rewards_also_beside_a_range(tmp_path):
    log, _ = simulated(50)
    log.loc[3, "r"] = np.inf
    log.to_parquet(tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="column 'r' must be finite; 1 row is not"):
        off_policy_value(tmp_path / "log.parquet", **ROLES, clip=2.0, reward_range=(-99, 99))


def test_reward_range_may_be_an_array():
    log, _ = simulated(400)
    value = off_policy_value(log, **ROLES, method="ips", clip=2.0, reward_range=np.array([-9, 9]))
    assert value.diagnostics.clipping_bias_bound > 0
