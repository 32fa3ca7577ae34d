"""Bias and coverage of off-policy values by simulation: 5 actions, 3 contexts, rare rewards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin

from causal.decisions.off_policy import off_policy_value


def study(seed, n=5000):
    """One log: 5 actions, 3 contexts, softmax logging at T = 1, target at T = 0.4."""
    scores = np.random.default_rng(11).normal(size=(3, 5))
    means = 0.02 + 0.18 * np.random.default_rng(12).random((3, 5))
    mu, pi = (np.exp(scores / t) for t in (1.0, 0.4))
    mu, pi = (m / m.sum(axis=1, keepdims=True) for m in (mu, pi))
    truth = float((pi * means).sum() / 3)
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, n)
    a = (rng.random(n)[:, None] > mu[x].cumsum(axis=1)).sum(axis=1).clip(0, 4)
    log = pd.DataFrame({"x": x.astype(str), "a": a, "p": mu[x, a]})
    log["r"] = rng.binomial(1, means[x, a])
    return log, pi[x], truth


class CellMeans(RegressorMixin, BaseEstimator):
    """Mean reward by context and action; what a saturated regression would fit."""

    def fit(self, X, y):
        cell = self._cell(X)
        n = np.bincount(cell, minlength=15)
        self.mean_ = np.bincount(cell, y, minlength=15) / np.maximum(n, 1)
        return self

    def predict(self, X):
        return self.mean_[self._cell(X)]

    @staticmethod
    def _cell(X):
        return X[:, :3].argmax(axis=1) * 5 + X[:, 3:].argmax(axis=1)


def run_study(runs, model=CellMeans()):  # noqa: B008 — never changed
    """Estimates and coverage by method, shape (runs,)."""
    methods = ("ips", "snips", "dr", "sndr", "switch", "shrinkage")
    found = {m: ([], []) for m in methods}
    for seed in range(runs):
        log, pi, truth = study(seed)
        for method, (estimates, covered) in found.items():
            options = {"features": ["x"], "outcome_model": model, "n_folds": 2}
            value = off_policy_value(
                log,
                reward="r",
                propensity="p",
                action="a",
                target_policy=pi,
                method=method,
                **(options if method not in ("ips", "snips") else {}),
            )
            low, high = value.conf_int()
            estimates.append(value.estimate - truth)
            covered.append(low <= truth <= high)
    return {m: (np.array(e), np.array(c)) for m, (e, c) in found.items()}


@pytest.mark.coverage_study
@pytest.mark.slow
def test_off_policy_values_are_unbiased_and_their_intervals_cover():
    runs = 200
    found = run_study(runs)
    # the spec's [.93, .97] is at 2,000 runs; here the band that chance allows at 200
    least, most = stats.binom.ppf([0.0005, 0.9995], runs, 0.95) / runs
    for method, (error, covered) in found.items():
        assert abs(error.mean()) < 3 * error.std(ddof=1) / np.sqrt(runs), method
        assert least <= covered.mean() <= most, (method, covered.mean())
    rmse = {m: np.sqrt(np.mean(e**2)) for m, (e, _) in found.items()}
    assert rmse["dr"] < rmse["ips"]
