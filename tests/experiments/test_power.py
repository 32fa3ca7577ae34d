"""Closed-form power: formulas, other implementations, simulation, bad input."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from causal.effect import EstimationWarning
from experiments import CellPower, cell_power, sample_size

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
