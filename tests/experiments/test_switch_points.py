"""Switch points, risk, variance and attenuation: against every path of the coins, enumerated."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal.effect import EstimationWarning
from experiments import (
    optimal_switch_points,
    switchback_attenuation,
    switchback_risk,
    switchback_variance,
)
from experiments.designs.switch_points import shared_coins, window_blocks

EXACT = 1e-10


@st.composite
def rotations(draw):
    n = draw(st.integers(2, 10))
    m = draw(st.integers(0, min(3, n - 1)))
    inner = draw(st.sets(st.integers(2, n)))
    return n, m, np.array([1, *sorted(inner)])


def enumerated(n, m, points, treated, control, p):
    """Estimate of tau and of the second bound on every path, with the path's probability."""
    epoch = np.searchsorted(points, np.arange(1, n + 1), side="right") - 1
    first, last, block = window_blocks(points, n, m)
    degree = [(p**-s * (s > 0)).sum() for s in shared_coins(first, last)]
    degree_0 = [((1 - p) ** -s * (s > 0)).sum() for s in shared_coins(first, last)]
    rng = np.random.default_rng(1)
    for coins in itertools.product((0, 1), repeat=len(points)):
        arm = np.array(coins)[epoch]
        chance = np.prod(np.where(np.array(coins) == 1, p, 1 - p))
        estimate, bound = 0.0, 0.0
        observed = rng.normal(0, 50, n)  # junk wherever a window is mixed
        for t in range(m, n):
            window = arm[t - m : t + 1]
            size = len(set(epoch[t - m : t + 1]))
            if window.all():
                observed[t] = treated[t]
                estimate += treated[t] * p**-size
            elif not window.any():
                observed[t] = control[t]
                estimate -= control[t] * (1 - p) ** -size
        for k in range(len(first)):
            of_block = np.array(coins)[first[k] : last[k] + 1]
            total = observed[m:][block == k].sum()
            if of_block.all():
                bound += degree[k] * p ** -len(of_block) * total**2
            elif not of_block.any():
                bound += degree_0[k] * (1 - p) ** -len(of_block) * total**2
        yield chance, estimate / (n - m), bound / (n - m) ** 2


@given(rotation=rotations(), seed=st.integers(0, 99), p=st.sampled_from([0.5, 0.3]))
@settings(deadline=None, max_examples=60)
def test_switchback_variance_is_that_of_every_path(rotation, seed, p):
    n, m, points = rotation
    rng = np.random.default_rng(seed)
    treated, control = rng.normal(2, 1, n), rng.normal(0, 1, n)
    paths = np.array(list(enumerated(n, m, points, treated, control, p)))
    chance, estimate, bound = paths.T
    mean = chance @ estimate
    assert mean == pytest.approx((treated - control)[m:].mean(), abs=EXACT)
    found = switchback_variance(treated, control, points=points, carryover=m, p=p)
    assert found.exact == pytest.approx(chance @ (estimate - mean) ** 2, rel=EXACT, abs=EXACT)
    assert found.bound_2 == pytest.approx(chance @ bound, rel=EXACT)
    assert found.exact <= found.bound_1 * (1 + EXACT)
    assert found.bound_1 <= found.bound_2 * (1 + EXACT)


@given(rotation=rotations(), p=st.sampled_from([0.5, 0.2]))
@settings(deadline=None, max_examples=40)
def test_switchback_risk_is_the_variance_where_every_outcome_is_the_bound(rotation, p):
    n, m, points = rotation
    risk = switchback_risk(points, n_periods=n, carryover=m, bound=3.0, p=p)
    worst = switchback_variance(np.full(n, 3.0), np.full(n, 3.0), points=points, carryover=m, p=p)
    assert risk == pytest.approx(worst.exact, rel=EXACT)
    for signs in ((1, -1), (-1, -1)):
        other = switchback_variance(
            np.full(n, 3.0 * signs[0]), np.full(n, 3.0 * signs[1]), points=points, carryover=m, p=p
        )
        assert other.exact <= risk * (1 + EXACT)


@pytest.mark.parametrize(("n", "m"), [(n, m) for n in range(2, 11) for m in range(min(n, 4))])
def test_optimal_switch_points_have_the_least_risk_of_all(n, m):
    points = optimal_switch_points(n, carryover=m)
    least = min(
        switchback_risk([1, *inner], n_periods=n, carryover=m)
        for size in range(n)
        for inner in itertools.combinations(range(2, n + 1), size)
    )
    assert switchback_risk(points, n_periods=n, carryover=m) == pytest.approx(least, rel=1e-12)


def test_optimal_switch_points_are_the_published_ones():
    assert optimal_switch_points(6, carryover=0).tolist() == [1, 2, 3, 4, 5, 6]
    assert optimal_switch_points(12, carryover=2).tolist() == [1, 5, 7, 9]
    assert optimal_switch_points(4, carryover=1).tolist() == [1, 3]
    assert optimal_switch_points(120, carryover=5)[[0, 1, 2, -1]].tolist() == [1, 11, 16, 111]


def test_optimal_switch_points_without_a_formula_are_no_worse_than_the_rule():
    for n, m in ((17, 2), (101, 7), (50, 20)):
        with pytest.warns(EstimationWarning, match=f"{n} periods are no multiple of carryover {m}"):
            points = optimal_switch_points(n, carryover=m)
        rule = [1, *range(2 * m + 1, n - 2 * m + 2, m)]
        risks = [switchback_risk(p, n_periods=n, carryover=m) for p in (points, rule)]
        assert risks[0] <= risks[1] * (1 + 1e-12)


@pytest.mark.parametrize(("length", "burn_in"), [(1, 0), (2, 0), (3, 1), (4, 2)])
@pytest.mark.parametrize("coin", ["independent", "alternating"])
@pytest.mark.parametrize("decay", [0.0, 0.4, 0.9])
def test_switchback_attenuation_is_that_of_every_path(length, burn_in, coin, decay):
    """The last slice of a long past: treated minus control of the exposure that is read."""
    past = 200
    weight = (1 - decay) * decay ** np.arange((past + 1) * length)

    def exposure(arms):
        path = np.repeat(arms, length)
        t = np.arange(past * length + burn_in, (past + 1) * length)
        return np.mean([weight[: k + 1] @ path[k::-1] for k in t])

    if coin == "alternating":
        arms = np.arange(past + 1) % 2
        found = abs(exposure(arms) - exposure(1 - arms))
    else:  # the coins before are fair and independent: their mean is one half
        before = np.full(past, 0.5)
        found = exposure(np.r_[before, 1]) - exposure(np.r_[before, 0])
    wanted = switchback_attenuation(decay=decay, slice_periods=length, burn_in=burn_in, coin=coin)
    assert wanted == pytest.approx(found, abs=1e-8)


def test_switchback_attenuation_alternating_loses_more():
    options = {"decay": 0.95, "slice_periods": 24}
    alone = 1 - switchback_attenuation(**options)
    assert 1 - switchback_attenuation(coin="alternating", **options) > 1.5 * alone


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_switch_points(0, carryover=0), "n_periods must be a whole number >= 1"),
        (lambda: optimal_switch_points(5, carryover=5), "below the number of periods 5; got 5"),
        (lambda: optimal_switch_points(5, carryover=0.5), "carryover must be a whole number"),
        (lambda: switchback_risk([2], n_periods=3, carryover=0), "begin with 1"),
        (lambda: switchback_risk([1, 4], n_periods=3, carryover=0), "go up to 3"),
        (lambda: switchback_risk([1], n_periods=3, carryover=0, p=0), r"p must be in \(0, 1\)"),
        (lambda: switchback_risk([1], n_periods=3, carryover=0, bound=0), "bound must be positive"),
        (lambda: switchback_variance([1, 2], [1], points=[1], carryover=0), "of one length"),
        (lambda: switchback_variance([1, np.nan], [1, 2], points=[1], carryover=0), "finite"),
        (lambda: switchback_attenuation(decay=1.0, slice_periods=3), r"decay must be in \[0, 1\)"),
        (lambda: switchback_attenuation(decay=0.5, slice_periods=0), "slice_periods must be"),
        (
            lambda: switchback_attenuation(decay=0.5, slice_periods=3, burn_in=3),
            "burn_in must be below slice_periods 3",
        ),
        (
            lambda: switchback_attenuation(decay=0.5, slice_periods=3, coin="fair"),
            "coin must be one of",
        ),
    ],
)
def test_switch_points_refuse_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
