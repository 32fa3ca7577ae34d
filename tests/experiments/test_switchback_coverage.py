"""Size and coverage of the default read-out on short runs, at the size CI can afford.

The worlds are those of `benchmarks/switchback_size.py`, which prints the same at 2,000 runs.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

RUNS = 100
PATH = Path(__file__).parents[2] / "benchmarks" / "switchback_size.py"

pytestmark = [pytest.mark.coverage_study, pytest.mark.slow]


def loaded():
    """The module behind the command; dataclasses look it up by name while it loads."""
    spec = importlib.util.spec_from_file_location("switchback_size", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["switchback_size"] = module
    spec.loader.exec_module(module)
    return module


switchback_size = loaded()


@pytest.mark.parametrize("n_slices", [8, 14, 28, 84])
def test_default_read_out_keeps_its_size_and_covers(n_slices):
    rows = switchback_size.measure(n_slices, RUNS, ("randomization", "conservative"))
    most = stats.binom.ppf(0.9995, RUNS, 0.05) / RUNS
    least = stats.binom.ppf(0.0005, RUNS, 0.95) / RUNS
    for row in rows[:2]:
        assert row.size <= most
        assert row.coverage >= least
    if n_slices == 8:
        assert rows[2].size > rows[1].size + 0.03  # on the same logs: what the normal value costs
        assert "| 8 | normal z, clustered |" in switchback_size.table(rows)


@pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
def test_an_effect_moves_every_interval_by_itself():
    plan, log = switchback_size.world(14, 0)
    moved = log.assign(y=log["y"] + log["arm"])
    for inference in switchback_size.INFERENCES:
        _, *limits = switchback_size.ours(log, plan, inference, 0)
        _, *after = switchback_size.ours(moved, plan, inference, 0)
        np.testing.assert_allclose(after, np.array(limits) + 1, rtol=1e-7)
