"""Closed-form power: formulas, other programs, simulation, bad input."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal import group_moments
from causal.effect import EstimationWarning
from experiments import CellPower, Mean, Power, ab_test, cell_power, mde, sample_size

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "power.json").read_text(encoding="utf-8")
)
DESIGN = {"n_clusters": 5, "n_periods": 56, "n_per_cell": 40, "between_share": 0.2, "std": 3.0}


@pytest.mark.parametrize("case", REFERENCE["t_tests"])
def test_sample_size_is_near_the_t_tests(case):
    ours = sample_size(**{k: case[k] for k in ("effect", "std", "level", "power")})
    assert ours == pytest.approx(case["units"], rel=0.01)


@pytest.mark.parametrize("case", REFERENCE["cells"])
def test_cell_power_equals_switchback_power_calculator(case):
    found = cell_power(**case["design"], effect=case["effect"])
    assert found.variance == pytest.approx(case["variance"], rel=1e-9)
    assert found.std_error == pytest.approx(math.sqrt(case["variance"]), rel=1e-9)
    assert found.mde == pytest.approx(case["mde"], rel=1e-9)
    assert found.power == pytest.approx(case["power"], rel=1e-9)


def test_sample_size_of_a_mean_is_the_textbook_formula():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert sample_size(effect=-0.2, std=1.5) == pytest.approx(2 * 1.5**2 * z**2 / 0.04, rel=1e-12)
    half = sample_size(effect=0.2, std=1.5, variance_reduction=0.5)
    assert half == pytest.approx(sample_size(effect=0.2, std=1.5) / 2, rel=1e-12)


def test_sample_size_of_a_proportion_is_fleiss_formula():
    p, d = 0.05, 0.01
    z_a, z_b = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    other = p + d
    wanted = z_a * math.sqrt(2 * p * (1 - p)) + z_b * math.sqrt(p * (1 - p) + other * (1 - other))
    assert sample_size(effect=d, proportion=p) == pytest.approx(wanted**2 / d**2, rel=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_sample_size_finds_the_effect_as_often_as_asked_for(share):
    treated = sample_size(effect=0.3, std=1.0, treated_share=share, power=0.8)
    control = treated * (1 - share) / share
    error = math.sqrt(1 / treated + 1 / control)
    power = stats.norm.sf(stats.norm.ppf(0.975) - 0.3 / error)
    assert power == pytest.approx(0.8, rel=1e-9)


def test_cell_power_variance_is_that_of_simulated_rotations():
    rng = np.random.default_rng(0)
    cells, n, runs = 5 * 56, 40, 4000
    between, within = math.sqrt(0.2) * 3, math.sqrt(0.8) * 3
    arm = rng.permuted(np.tile(np.arange(cells) % 2, (runs, 1)), axis=1)
    level = rng.normal(0, between, (runs, cells))
    level += rng.normal(0, within / math.sqrt(n), (runs, cells))
    estimate = (level * (2 * arm - 1)).sum(axis=1) / (cells / 2)
    # the formula's own 1 / n beside the between share is small at 40 rows a cell
    assert estimate.var() == pytest.approx(cell_power(**DESIGN).variance, rel=0.1)


def test_cell_power_at_the_mde_is_the_power_asked_for():
    for power in (0.5, 0.8, 0.95):
        found = cell_power(**DESIGN, power=power)
        again = cell_power(**DESIGN, effect=found.mde)
        assert again.power == pytest.approx(power, abs=1e-3)
    assert cell_power(**DESIGN, effect=0.0, level=0.9).power == pytest.approx(0.1)
    plain = cell_power(**DESIGN)
    assert isinstance(plain, CellPower)
    assert plain.power is None


@pytest.mark.parametrize("change", [{"n_clusters": 1, "n_periods": 10}, {"cell_cv": 2.0}])
def test_cell_power_warns_where_the_formula_is_off(change):
    with pytest.warns(EstimationWarning, match="simulate on your own cells"):
        cell_power(**{**DESIGN, **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effect": 0, "std": 1}, "effect must be a number other than 0"),
        ({"effect": 1}, "give std= or proportion="),
        ({"effect": 1, "std": 1, "proportion": 0.5}, "give std= or proportion="),
        ({"effect": 1, "std": -1}, "std must be positive"),
        ({"effect": 0.1, "proportion": 1.0}, r"proportion must be in \(0, 1\)"),
        ({"effect": 0.6, "proportion": 0.5}, r"proportion \+ effect must be in \(0, 1\); got 1.1"),
        ({"effect": 1, "std": 1, "treated_share": 0}, "treated_share must be"),
        ({"effect": 1, "std": 1, "variance_reduction": 1}, "variance_reduction must be"),
        ({"effect": 1, "std": 1, "level": 95}, "level must be"),
        ({"effect": 1, "std": 1, "power": 1}, "power must be"),
    ],
)
def test_sample_size_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        sample_size(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_clusters": 0}, "n_clusters must be positive"),
        ({"n_periods": 0.1}, "two cells or more; got 0.5"),
        ({"n_per_cell": float("inf")}, "n_per_cell must be positive"),
        ({"between_share": 1.1}, r"between_share must be in \[0, 1\]"),
        ({"std": "3"}, "std must be positive"),
        ({"cell_cv": -1}, "cell_cv must be 0 or more"),
        ({"effect": float("nan")}, "effect must be a finite number"),
    ],
)
def test_cell_power_refuses_what_makes_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        cell_power(**{**DESIGN, **change})


# --- mde ------------------------------------------------------------------------------------------


def users(n=2_000, seed=0, *, per_cluster=1):
    """Rows with a covariate of correlation .6, in clusters that share a level."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) // per_cluster
    before = rng.normal(size=n)
    level = rng.normal(size=cluster.max() + 1)[cluster]
    watch = 5 + 0.6 * before + 0.8 * rng.normal(size=n) + (level if per_cluster > 1 else 0)
    return pd.DataFrame({"user": cluster, "before": before, "watch": watch})


@pytest.mark.reference
@pytest.mark.parametrize("case", REFERENCE["smallest_effects"])
def test_mde_is_near_that_of_the_t_test(case):
    n = case["units"]
    watch = np.tile([1.0, -1.0], n // 2) * math.sqrt((n - 1) / n)  # of variance 1
    found = mde(
        pd.DataFrame({"watch": watch}), outcome="watch", treated_share=case["treated_share"]
    )
    assert found.mde == pytest.approx(case["mde"], rel=0.01)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_mde_without_covariates_is_the_textbook_formula(share):
    log = users()
    found = mde(log, outcome="watch", treated_share=share, level=0.9, power=0.7)
    variance = log["watch"].var() / 2_000 * (1 / share + 1 / (1 - share))
    z = stats.norm.ppf(0.95) + stats.norm.ppf(0.7)
    assert found.variance == pytest.approx(variance, rel=1e-12)
    assert found.mde == pytest.approx(z * math.sqrt(variance), rel=1e-12)
    need = sample_size(effect=found.mde, std=log["watch"].std(), treated_share=share, level=0.9,
                       power=0.7)  # fmt: skip
    assert need == pytest.approx(2_000 * share, rel=1e-9)
    assert (found.r_squared, found.design_effect, found.n_units) == (0, 1, 2_000)


def test_mde_with_covariates_has_the_standard_error_that_lin_finds():
    log = users(20_000)
    found = mde(log, outcome="watch", covariates=["before"])
    arm = np.random.default_rng(1).permuted(np.arange(20_000) % 2)
    metric = Mean("watch", covariates=["before"])
    effect = ab_test(log.assign(arm=arm), metric=metric, arm="arm")
    assert found.std_error == pytest.approx(effect.std_error, rel=0.01)
    assert found.r_squared == pytest.approx(0.36, abs=0.02)
    assert found.variance < 0.66 * mde(log, outcome="watch").variance


@pytest.mark.parametrize(("share", "covariates"), [(0.5, []), (0.25, ["before"])])
def test_mde_of_clusters_is_the_spread_of_estimates_over_their_assignments(share, covariates):
    log = users(2_400, per_cluster=6).iloc[:-3]  # of uneven sizes
    found = mde(log, outcome="watch", treated_share=share, covariates=covariates, cluster="user")
    rng = np.random.default_rng(2)
    runs, clusters = 4_000, 400
    arms = rng.permuted(np.tile(np.arange(clusters) < share * clusters, (runs, 1)), axis=1)
    y = log["watch"].to_numpy()
    if covariates:
        slope = np.polyfit(log["before"], y, 1)[0]
        y = y - slope * log["before"].to_numpy()
    sums, sizes = (np.bincount(log["user"], w) for w in (y, np.ones(len(y))))
    treated = (arms @ sums) / (arms @ sizes)
    estimate = treated - (~arms @ sums) / (~arms @ sizes)
    assert found.std_error == pytest.approx(estimate.std(), rel=0.04)
    assert found.n_units == 400
    assert found.design_effect > 2.5


def test_mde_finds_effects_as_often_as_it_says():
    log, runs = users(600), 2_000
    found = mde(log, outcome="watch", power=0.8)
    rng = np.random.default_rng(3)
    y = log["watch"].to_numpy()
    arms = rng.permuted(np.tile(np.arange(600) % 2 == 1, (runs, 1)), axis=1)
    values = y + found.mde * arms
    one, other = values[arms].reshape(runs, 300), values[~arms].reshape(runs, 300)
    p = stats.ttest_ind(one, other, axis=1, equal_var=False).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / runs))


def test_mde_of_moments_is_that_of_their_rows():
    log = users().assign(arm=lambda f: f.index % 3)
    moments = group_moments(log, columns=["before", "watch"], by=["arm"])
    given = {"outcome": "watch", "covariates": ["before"]}
    from_moments, from_rows = (mde(source, **given) for source in (moments, log))
    for name in ("variance", "mde", "baseline", "r_squared"):
        assert getattr(from_moments, name) == pytest.approx(getattr(from_rows, name), rel=1e-9)
    clusters = users(per_cluster=4)
    over_units = group_moments(clusters, columns=["watch"], unit="user")
    sums = mde(over_units, outcome="watch")
    per_row = mde(clusters, outcome="watch", cluster="user")
    assert sums.std_error / 4 == pytest.approx(per_row.std_error, rel=1e-9)  # of equal clusters


def test_power_says_what_it_found():
    found = mde(users(), outcome="watch")
    assert isinstance(found, Power)
    said = f"an effect of {found.mde:.3g} ({100 * found.mde / found.baseline:.2g}% of 5.0"
    assert str(found).startswith(said)
    assert "2,000 units" in str(found)
    assert found.to_frame().loc[0, "mde"] == found.mde


def test_mde_of_few_units_is_warned_of():
    with pytest.warns(EstimationWarning, match="20 units in the smaller arm are few"):
        mde(users(200), outcome="watch", treated_share=0.1)
    with pytest.warns(EstimationWarning, match="25 units"):
        mde(users(500, per_cluster=10), outcome="watch", cluster="user")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outcome": "wacht"}, "'wacht' .outcome. is not in the table"),
        ({"covariates": ["watch"]}, "'watch' cannot be both"),
        ({"treated_share": 1}, "treated_share must be"),
        ({"level": 1}, "level must be"),
        ({"power": 0}, "power must be"),
        ({"outcome": "flat"}, "'flat' must vary; it is 3 in all 2,000 rows"),
        ({"covariates": ["flat"]}, "'flat' is constant; leave it out"),
        ({"covariates": ["before", "twice"]}, "'twice' is collinear"),
        ({"cluster": "flat"}, "cluster 'flat' must have two values or more; it has 1"),
    ],
)
def test_mde_refuses_what_makes_no_sense(options, message):
    log = users().assign(flat=3, twice=lambda f: 2 * f["before"])
    with pytest.raises(ValueError, match=message):
        mde(log, **{"outcome": "watch", **options})


def test_mde_refuses_moments_that_cannot_tell():
    log = users().assign(weight=1.0)
    plain = group_moments(log, columns=["watch"])
    with pytest.raises(ValueError, match="cluster 'user' needs rows; moments were given"):
        mde(plain, outcome="watch", cluster="user")
    with pytest.raises(ValueError, match="moments must not be weighted"):
        mde(group_moments(log, columns=["watch"], weight="weight"), outcome="watch")
    with pytest.raises(ValueError, match=r"'before' \(covariates\) is not in"):
        mde(plain, outcome="watch", covariates=["before"])
