"""`slate_value`: unbiased over all slates, equal to obp, and honest about its assumptions."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causal.decisions.off_policy import slate_value
from causal.effect import EstimationWarning

STORED = json.loads(
    (Path(__file__).parents[1] / "reference" / "off_policy.json").read_text(encoding="utf-8")
)["slates"]
ROLES = {
    "slate": "slate",
    "position": "position",
    "reward": "reward",
    "propensity": "propensity",
    "target": "target",
}
ITEMS = range(3)
MU = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])  # of slot and item
PI = np.array([[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]])
THETA = {1: 1.0, 2: 0.4}


def own(slots):
    """Reward depends on the slot's own item and place."""
    return [[1.0, 2.0, 0.5][slots[0]], [0.3, 0.0, 4.0][slots[1]]]


def after(slots):
    """The second reward depends on the first item as well."""
    return [own(slots)[0], 1.0 + 2.0 * slots[0] * slots[1]]


def additive(slots):
    """Rewards mix the slots, their total is a sum of contributions of single slots."""
    return [own(slots)[1], own(slots)[0] - 0.25 * slots[1]]


def product(slots):
    """Not additive: the total is an interaction."""
    return [0.0, float(slots[0] == slots[1])]


def expected_value(method, rewards, **options):
    """Mean estimate over pairs of slates, weighted by their chance under logging, and the truth."""
    slates = list(itertools.product(ITEMS, repeat=2))
    estimate = 0.0
    for first, second in itertools.product(slates, repeat=2):
        rows = [(s, k, item) for s, slate in enumerate((first, second)) for k, item in
                enumerate(slate)]  # fmt: skip
        log = pd.DataFrame(rows, columns=["slate", "position", "item"])
        log["reward"] = [*rewards(first), *rewards(second)]
        log["propensity"] = MU[log.position, log.item]
        log["target"] = PI[log.position, log.item]
        log["position"] += 1
        chance = log["propensity"].prod()
        estimate += (
            chance
            * slate_value(log, **ROLES, method=method, self_normalise=False, **options).estimate
        )
    truth = sum(PI[0, a] * PI[1, b] * sum(rewards((a, b))) for a, b in slates)
    return estimate, truth


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize(
    ("method", "rewards", "unbiased"),
    [
        ("independent", own, True),
        ("independent", after, False),
        ("cascade", own, True),
        ("cascade", after, True),
        ("pseudoinverse", additive, True),
        ("pseudoinverse", product, False),
    ],
)
def test_slate_value_over_all_slates_is_unbiased_where_its_assumption_holds(
    method, rewards, unbiased
):
    estimate, truth = expected_value(method, rewards)
    assert bool(abs(estimate - truth) < 1e-12) == unbiased


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
def test_pbm_over_all_rankings_is_unbiased_and_its_normaliser_has_mean_one():
    rankings = list(itertools.permutations(ITEMS, 2))
    mu = np.array([0.3, 0.05, 0.25, 0.1, 0.2, 0.1])
    pi = np.array([0.1, 0.3, 0.05, 0.25, 0.1, 0.2])
    theta, attraction = np.array(list(THETA.values())), np.array([0.2, 0.5, 0.9])

    def examinations(chances):
        seen = np.zeros(3)
        for chance, ranking in zip(chances, rankings, strict=True):
            for k, item in enumerate(ranking):
                seen[item] += theta[k] * chance
        return seen

    seen_mu, seen_pi = examinations(mu), examinations(pi)
    estimate = mean_weight = 0.0
    for j, ranking in enumerate(rankings):
        items = np.array([*ranking, *ranking])  # the same slate twice: its own mean
        log = pd.DataFrame({"slate": [0, 0, 1, 1], "position": [1, 2, 1, 2]})
        log["reward"] = attraction[items] * np.tile(theta, 2)
        log["propensity"], log["target"] = seen_mu[items], seen_pi[items]
        value = slate_value(log, **ROLES, method="pbm", examination=THETA, self_normalise=False)
        estimate += mu[j] * value.estimate
        mean_weight += mu[j] * value.diagnostics.mean_weight
    assert estimate == pytest.approx(float(seen_pi @ attraction), abs=1e-12)
    assert mean_weight == pytest.approx(1, abs=1e-12)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
@pytest.mark.parametrize("method", ["independent", "cascade"])
@pytest.mark.parametrize("kind", ["plain", "self-normalised"])
def test_slate_value_equals_obp(method, kind):
    log = pd.DataFrame(STORED["log"])
    found = slate_value(log, **ROLES, method=method, self_normalise=kind == "self-normalised")
    assert found.estimate == pytest.approx(STORED[method][kind], rel=1e-10)


def generated(n=300, seed=0):
    """Slates of two slots by product logging."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.choice(3, n, p=MU[k]) for k in range(2)], axis=1)
    log = pd.DataFrame({"slate": np.repeat(np.arange(n), 2), "position": np.tile([1, 2], n)})
    place, item = log.position - 1, items.ravel()
    log["propensity"], log["target"] = MU[place, item], PI[place, item]
    log["reward"] = [r for slate in items for r in own(slate)] + rng.normal(size=2 * n)
    return log


@pytest.mark.parametrize("method", ["independent", "cascade", "pseudoinverse", "pbm"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.filterwarnings("ignore:fragile:causal.effect.EstimationWarning")
def test_slate_value_standard_error_is_near_the_jackknife_over_slates(method, normalise):
    log = generated()
    options = {"examination": THETA} if method == "pbm" else {}
    options |= {"method": method, "self_normalise": normalise}
    value = slate_value(log, **ROLES, **options)
    without = [slate_value(log[log.slate != s], **ROLES, **options).estimate for s in range(300)]
    jackknife = np.sqrt(299 / 300 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert value.std_error == pytest.approx(jackknife, rel=0.02)
    assert value.effect.n_clusters == 300
    assert value.effect.df == 299


def test_slate_value_of_the_logging_policy_is_the_mean_slate_reward():
    log = generated()
    log["target"] = log["propensity"]
    expected = log.groupby("slate")["reward"].sum()
    for method in ("independent", "cascade", "pseudoinverse", "pbm"):
        options = {"examination": THETA} if method == "pbm" else {}
        value = slate_value(log, **ROLES, method=method, **options)
        assert value.estimate == pytest.approx(expected.mean(), rel=1e-12)
        assert value.diagnostics.ess_share == pytest.approx(1)
        if method != "pbm":
            assert value.std_error == pytest.approx(expected.sem(), rel=1e-10)


def test_slate_value_does_not_depend_on_row_order():
    log = generated()
    first = slate_value(log, **ROLES, method="cascade")
    second = slate_value(log.sample(frac=1, random_state=1), **ROLES, method="cascade")
    assert second.estimate == pytest.approx(first.estimate, rel=1e-12)
    assert second.std_error == pytest.approx(first.std_error, rel=1e-12)


def test_slate_value_refuses_what_it_cannot_use():
    log = generated(20)
    with pytest.raises(ValueError, match=r"without repeat or gap.*1 slates are not, e\.g\. 3"):
        slate_value(log.drop(index=6), **ROLES)
    with pytest.raises(ValueError, match="without repeat or gap"):
        slate_value(pd.concat([log, log]), **ROLES)
    with pytest.raises(ValueError, match="at least two slates"):
        slate_value(log[log.slate == 0], **ROLES)
    with pytest.raises(ValueError, match="needs examination"):
        slate_value(log, **ROLES, method="pbm")
    with pytest.raises(ValueError, match=r"every place with a number in \(0, 1\]"):
        slate_value(log, **ROLES, method="pbm", examination={1: 1.0})
    with pytest.raises(ValueError, match="belongs to method 'pbm'"):
        slate_value(log, **ROLES, examination=THETA)
    with pytest.raises(ValueError, match=r"'target'.*1 row is not"):
        slate_value(log.assign(target=[1.5] + [0.5] * 39), **ROLES)


def test_slate_value_warns_once_with_the_figures():
    log = generated(20)
    with pytest.warns(EstimationWarning, match="fewer than 100 effective rows") as caught:
        slate_value(log, **ROLES)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("examination", "error", "says"),
    [
        (0.9, TypeError, "examination must be a mapping"),
        ({1: "0.9"}, ValueError, "examination must name every place"),
        ({1: 0.0}, ValueError, "examination must name every place"),
    ],
)
def test_pbm_refuses_examinations_that_are_no_probabilities(examination, error, says):
    log = pd.DataFrame(
        {"s": [1, 2], "k": [1, 1], "r": [1.0, 0.0], "p": [0.5, 0.5], "t": [0.4, 0.6]}
    )
    roles = {"slate": "s", "position": "k", "reward": "r", "propensity": "p", "target": "t"}
    with pytest.raises(error, match=says):
        slate_value(log, **roles, method="pbm", examination=examination)
