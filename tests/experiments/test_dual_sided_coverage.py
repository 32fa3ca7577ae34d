"""Coverage of the dual-sided read-out at the size CI can afford."""

import numpy as np
import pytest
from pair_tables import ROLES, crossed, dense_sums, halves, observed, pair_frame
from scipy import stats

from experiments import dual_sided_effect
from experiments.designs.assignment_variance import CELLS, EFFECTS
from experiments.pairs.cell_covariance import contrast_covariance

RUNS = 400
SHAPE = (60, 30)
WEIGHTS = np.array(list(EFFECTS.values()), dtype=float)

pytestmark = [pytest.mark.coverage_study, pytest.mark.slow]


def saturating_world(seed, *, uneven=0.0):
    """Local interference that saturates: a treated pair gains, its neighbours a little, once.

    Effects differ by `uneven` times a viewer's and an author's own factor.
    """
    rng = np.random.default_rng(seed)
    base = crossed(SHAPE, seed=seed)
    factor = 1 + uneven * (rng.normal(size=60)[:, None] + rng.normal(size=30))
    gains = {"both": 2.0, "viewer_only": 0.5, "author_only": 0.3, "neither": 0.0}
    return {name: base + gain * factor for name, gain in gains.items()}


def truth(potential):
    """The four effects over all pairs."""
    return WEIGHTS @ [potential[name].mean() for name in CELLS]


def covered(potential, variance, runs=RUNS):
    """Share of intervals that hold each effect, over assignments of one population."""
    rng = np.random.default_rng(11)
    hits = np.zeros(4)
    for _ in range(runs):
        arms = halves(60, rng), halves(30, rng)
        sums = dense_sums(observed(potential, *arms), *arms)
        cov, df = contrast_covariance(sums, WEIGHTS, variance)
        estimate = WEIGHTS @ [sums.mean[cell] for cell in CELLS.values()]
        reach = stats.t.ppf(0.975, df) * np.sqrt(np.diag(cov))
        hits += np.abs(estimate - truth(potential)) <= reach
    return hits / runs


@pytest.mark.parametrize(
    ("variance", "uneven"),
    [
        ("two_way", 0.0),
        ("two_way", 0.3),
        ("exact_bound", 0.0),
        ("exact_bound", 0.3),
        ("randomization", 0.0),
    ],
)
def test_dual_sided_intervals_cover_at_60_by_30(variance, uneven):
    share = covered(saturating_world(5, uneven=uneven), variance)
    assert share[3] >= stats.binom.ppf(0.01, RUNS, 0.95) / RUNS  # 0.9225 at 400 runs
    assert (share >= stats.binom.ppf(0.0005, RUNS, 0.94) / RUNS).all(), share


def test_randomization_variance_is_too_small_where_effects_differ():
    direct = covered(saturating_world(5, uneven=0.3), "randomization")[0]
    assert direct < 0.9 < covered(saturating_world(5, uneven=0.3), "two_way")[0]


def test_dual_sided_effect_covers_the_total_in_new_populations():
    rng = np.random.default_rng(12)
    hits = 0
    for seed in range(150):
        potential = saturating_world(seed)
        arms = halves(60, rng), halves(30, rng)
        frame = pair_frame(observed(potential, *arms), *arms)
        low, high = dual_sided_effect(frame, **ROLES).conf_int()
        hits += low <= truth(potential)[3] <= high
    assert hits / 150 >= stats.binom.ppf(0.005, 150, 0.95) / 150


def test_dual_sided_total_has_its_size_without_effects():
    rng = np.random.default_rng(13)
    base = crossed(SHAPE, seed=1)
    potential = dict.fromkeys(CELLS, base)
    wrong = 0
    for _ in range(RUNS):
        arms = halves(60, rng), halves(30, rng)
        sums = dense_sums(observed(potential, *arms), *arms)
        cov, df = contrast_covariance(sums, WEIGHTS, "two_way")
        estimate = WEIGHTS[3] @ [sums.mean[cell] for cell in CELLS.values()]
        wrong += abs(estimate) > stats.t.ppf(0.975, df) * np.sqrt(cov[3, 3])
    assert wrong / RUNS <= stats.binom.ppf(0.995, RUNS, 0.05) / RUNS
