"""Bias, coverage and size of group-time effects where the truth is known."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal import diff_in_diff, group_time_effects

N, T, STARTS = 1_000, 20, np.arange(6, 16)
ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}


def odds(x):
    """Probabilities of the ten cohorts and of never: a larger x is treated earlier."""
    score = 0.5 * x[:, None] * (1 - (STARTS - 6) / 9) - 0.5
    weight = np.exp(np.hstack([score, np.ones((len(x), 1))]))
    return weight / weight.sum(axis=1, keepdims=True)


def adoption(rng):
    """Ten cohorts; x shifts trends and cohorts; ATT(g,t) = 1 + 0.1 (t - g)."""
    x = rng.normal(size=N)
    pick = (rng.random((N, 1)) > odds(x).cumsum(axis=1)).sum(axis=1)
    cohort = np.append(STARTS, np.inf)[pick]
    day = np.arange(T)
    since = day[None, :] - cohort[:, None]
    trend = 0.05 * x[:, None] * day + 0.3 * np.sin(day)
    y = rng.normal(size=(N, 1)) + trend + rng.normal(size=(N, T))
    y += np.where(since >= 0, 1 + 0.1 * np.where(np.isfinite(since), since, 0), 0)
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(N), T),
            "day": np.tile(day, N),
            "cohort": np.repeat(cohort, T),
            "x": np.repeat(x, T),
            "y": y.ravel(),
        }
    )


def true_means():
    """Means of the true effects over treated cells, and over event times."""
    x = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    share = odds(x).mean(axis=0)[:-1]
    cells = [(p, 1 + 0.1 * e) for p, g in zip(share, STARTS, strict=True) for e in range(T - g)]
    simple = np.average([c[1] for c in cells], weights=[c[0] for c in cells])
    return {"simple": simple, "event": np.mean(1 + 0.1 * np.arange(T - STARTS[0]))}


def quietly(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return call(*args, **options)


@pytest.mark.coverage_study
@pytest.mark.slow
def test_group_time_effects_cover_where_two_way_fixed_effects_are_biased():
    runs, true, twfe = 40, true_means(), []
    errors = {kind: [] for kind in true}
    inside = {kind: [] for kind in true}
    for seed in range(runs):
        log = adoption(np.random.default_rng(seed))
        found = quietly(group_time_effects, log, covariates=["x"], **ROLES)
        for kind, value in true.items():
            part = found.aggregate(kind)
            errors[kind].append(part.estimate - value)
            low, high = part.conf_int()
            inside[kind].append(low <= value <= high)
        if seed < 10:
            twfe.append(quietly(diff_in_diff, log, **ROLES).estimate - true["simple"])
    # [.93, .97] is for 2,000 runs; here what chance allows at this number
    least, most = stats.binom.ppf([0.0005, 0.9995], runs, 0.95) / runs
    for kind, error in errors.items():
        assert abs(np.mean(error)) < 3 * np.std(error, ddof=1) / np.sqrt(runs), kind
        assert least <= np.mean(inside[kind]) <= most, kind
    assert abs(np.mean(twfe)) > 5 * np.std(twfe, ddof=1) / np.sqrt(len(twfe))


@pytest.mark.coverage_study
@pytest.mark.slow
def test_group_time_bands_and_pretrend_hold_their_levels():
    runs, covered, rejected = 100, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(10_000 + seed)
        cohort = np.array([5, 8, 11, np.inf])[np.arange(200) % 4]
        y = rng.normal(size=(200, 1)) + rng.normal(size=(200, 14)).cumsum(axis=1)
        log = pd.DataFrame({"unit": np.repeat(np.arange(200), 14), "day": np.tile(range(14), 200)})
        log = log.assign(cohort=np.repeat(cohort, 14), y=y.ravel())
        found = quietly(group_time_effects, log, control="not_yet", **ROLES)
        rejected += found.pretrend.p_value < 0.05
        curve = found.aggregate("event", min_event=-10, max_event=8).curve
        assert len(curve) >= 19
        low, high = curve.conf_int(simultaneous=True).T
        covered += bool(((low <= 0) & (high >= 0)).all())
    allowed = stats.binom.ppf([0.0005, 0.9995], runs, 0.95)
    assert allowed[0] <= covered <= allowed[1], covered / runs
    assert allowed[0] <= runs - rejected <= allowed[1], rejected / runs
