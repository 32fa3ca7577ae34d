"""`logged_policy_value`: against loops over rows, and its two-sample coverage by simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal.decisions.off_policy import logged_policy_value, off_policy_value
from causal.effect import EstimationWarning
from recsys.datasets import open_bandit

ROLES = {"action": "a", "reward": "r", "propensity": "p"}
MU = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
PI = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.1, 0.4]])
MEAN = np.array([[0.05, 0.1, 0.2, 0.3], [0.3, 0.2, 0.1, 0.05]])
TRUTH = float((PI * MEAN).sum() / 2)


def logs(seed, n1=600, n2=500):
    """A log with rewards, and one of the target's choices; 2 cells, 4 actions, 30 clusters."""
    rng = np.random.default_rng(seed)
    made = []
    for probabilities, n in ((MU, n1), (PI, n2)):
        c = rng.integers(0, 2, n)
        a = (rng.random(n)[:, None] > probabilities[c].cumsum(axis=1)).sum(axis=1)
        made.append(pd.DataFrame({"c": c, "a": a.clip(0, 3), "g": rng.integers(0, 30, n)}))
    log, target = made
    c, a = log.c.to_numpy(), log.a.to_numpy()
    log["p"] = MU[c, a]
    log["r"] = rng.binomial(1, MEAN[c, a])
    return log, target


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("method", ["ips", "snips"])
def test_logged_policy_value_equals_a_loop_over_rows(method, clustered):
    log, target = logs(1)
    share = {c: t.a.value_counts(normalize=True) for c, t in target.groupby("c")}
    w = np.array([share[c].get(a, 0.0) / p for c, a, p in zip(log.c, log.a, log.p, strict=True)])
    r, n1 = log.r.to_numpy(), len(log)
    mean_weight = w.mean() if method == "snips" else 1.0
    value = (w * r).mean() / mean_weight
    level = value if method == "snips" else 0.0
    # influence of every row of either log on the value
    first = (w * (r - level) / mean_weight - (0 if method == "snips" else value)) / n1
    g = {
        (c, a): sum((r[i] - level) / log.p[i] for i in np.flatnonzero((log.c == c) & (log.a == a)))
        / n1
        / mean_weight
        for c in (0, 1)
        for a in range(4)
    }
    second = np.zeros(len(target))
    variance = n1 / (n1 - 1) * (first**2).sum()
    for c in (0, 1):
        rows = np.flatnonzero(target.c == c)
        values = np.array([g[c, a] for a in target.a[rows]])
        second[rows] = (values - values.mean()) / len(rows)
        variance += values.var(ddof=1) / len(rows)
    if clustered:
        both = pd.Series(np.concatenate([first, second]))
        sums = both.groupby(np.concatenate([log.g, target.g])).sum()
        variance = 30 / 29 * (sums**2).sum()
    found = logged_policy_value(
        log, target_log=target, **ROLES, by=["c"], method=method, cluster="g" if clustered else None
    )
    assert found.estimate == pytest.approx(value, rel=1e-12)
    assert found.std_error**2 == pytest.approx(variance, rel=1e-10)
    assert found.effect.n_clusters == (30 if clustered else None)
    assert "average policy of the period" in found.effect.details["reading"]


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.parametrize("cluster", [None, "g"])
def test_logged_policy_value_is_the_same_in_the_engine(tmp_path, cluster):
    log, target = logs(2)
    paths = tmp_path / "log.parquet", tmp_path / "target.parquet"
    log.to_parquet(paths[0])
    target.to_parquet(paths[1])
    options = {**ROLES, "by": ("c",), "cluster": cluster}
    expected = logged_policy_value(log, target_log=target, **options)
    found = logged_policy_value(paths[0], target_log=paths[1], **options)
    assert found.estimate == pytest.approx(expected.estimate, rel=1e-12)
    assert found.std_error == pytest.approx(expected.std_error, rel=1e-10)
    assert found.diagnostics.ess == pytest.approx(expected.diagnostics.ess, rel=1e-10)


def test_logged_policy_value_equals_off_policy_value_where_the_target_is_known():
    log, target = logs(3, n2=200_000)
    known = off_policy_value(log.assign(t=PI[log.c, log.a]), reward="r", propensity="p", target="t")
    found = logged_policy_value(log, target_log=target, **ROLES, by="c")
    assert found.estimate == pytest.approx(known.estimate, rel=0.01)
    assert found.std_error == pytest.approx(known.std_error, rel=0.01)


def test_actions_never_logged_are_unsupported_mass_and_warn():
    log, target = logs(4)
    log = log[~((log.c == 0) & (log.a == 3))]
    with pytest.warns(EstimationWarning, match="never logged in their cell") as caught:
        found = logged_policy_value(log, target_log=target, **ROLES, by=["c"])
    assert len(caught) == 1
    mass = (log.c == 0).mean() * (target[target.c == 0].a == 3).mean()
    assert found.diagnostics.unsupported_mass == pytest.approx(mass, rel=1e-12)


def test_cells_without_choices_of_the_target_are_refused():
    log, target = logs(5)
    with pytest.raises(ValueError, match=r"1 of 2 cells .*e\.g\. \(1,\)"):
        logged_policy_value(log, target_log=target[target.c == 0], **ROLES, by=["c"])


def test_logged_policy_value_of_open_bandit_meets_the_realised_rate():
    for campaign in ("all", "men"):
        random = open_bandit(campaign, "random").joined()
        learning = open_bandit(campaign, "bts").joined()
        found = logged_policy_value(
            random,
            target_log=learning,
            action="room_id",
            reward="click",
            propensity="propensity",
            by=("position",),
        )
        low, high = found.conf_int()
        assert low < learning["click"].mean() < high


def run_study(runs, n=4000, method="snips"):
    """Error and coverage of each run, and coverage if the target's counts had no error."""
    errors, covered, naive = [], [], []
    for seed in range(runs):
        log, target = logs(seed, n, n)
        with warnings.catch_warnings():
            warnings.simplefilter("error", EstimationWarning)
            found = logged_policy_value(log, target_log=target, **ROLES, by=("c",), method=method)
        low, high = found.conf_int()
        share = target.groupby(["c", "a"]).size() / target.groupby("c").size()
        log["t"] = [share.get((c, a), 0.0) for c, a in zip(log.c, log.a, strict=True)]
        known = off_policy_value(log, reward="r", propensity="p", target="t", method=method)
        errors.append(found.estimate - TRUTH)
        covered.append(low <= TRUTH <= high)
        naive.append(known.std_error / found.std_error)
    return np.array(errors), np.array(covered), np.array(naive)


@pytest.mark.coverage_study
@pytest.mark.slow
@pytest.mark.parametrize("method", ["ips", "snips"])
def test_two_sample_intervals_of_logged_policy_value_cover(method):
    runs = 100
    error, covered, naive = run_study(runs, method=method)
    least, most = stats.binom.ppf([0.0005, 0.9995], runs, 0.95) / runs
    assert abs(error.mean()) < 3 * error.std(ddof=1) / np.sqrt(runs)
    assert least <= covered.mean() <= most
    assert naive.mean() < 1  # the second sample is there


@pytest.mark.parametrize("name", ["g", "a"])
def test_logged_policy_value_refuses_labels_of_another_kind_in_the_target_log(name):
    rng = np.random.default_rng(0)
    log = pd.DataFrame({"g": [1, 2, 3, 4] * 50, "r": rng.random(200), "p": 0.5, "a": [0, 1] * 100})
    target = log[["a", "g"]].assign(**{name: log[name].astype(str)})
    with pytest.raises(TypeError, match=f"column '{name}' must be of one kind in log and target"):
        logged_policy_value(
            log, target_log=target, action="a", reward="r", propensity="p", cluster="g"
        )
