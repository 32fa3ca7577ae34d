"""What battles cost a dual-sided design: its power over the share of rooms that are in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causal.values import is_number
from experiments.designs.design import DualSided
from experiments.designs.rotation import Switchback
from experiments.simulation.simulation import simulate
from experiments.simulation.trial_plan import ALPHA, check_platform, share_error
from experiments.simulation.trials import Trial
from recsys import Arms, Strategy, flow_worlds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recsys import LivePlatform

_TWO_DAYS = 48.0
_DIRECT, _SLICES = "dual-sided direct", "time slices"


def battle_power(
    platform: LivePlatform,
    *,
    strategy: Strategy,
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    hours: float = 336,
    replications: int = 40,
    seed: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Power of the direct effect of a dual-sided design, against the share of rooms in a battle.

    Beside it that of a daily rotation's total effect: whole slices of time keep both rooms of a
    battle in one arm.

    Parameters
    ----------
    platform : LivePlatform
        Its share of battles is replaced by each of `shares`.
    strategy : Strategy
    shares : sequence of float
        Of live rooms that are in a battle each hour, in [0, 1].
    hours : float
        Length of the experiments; two weeks hold 14 slices.
    replications, seed, n_jobs
        As in `simulate`.

    Returns
    -------
    DataFrame
        One row a share and design: battle_share, entangled_share (of watch, in battles of mixed
        arms), design, mean (estimate, minutes per viewer and hour), power, mc_se.

    Raises
    ------
    ValueError
        If a share is outside [0, 1], or as `simulate`.
    TypeError
        If `platform` is no LivePlatform, or as `simulate`.

    Examples
    --------
    >>> from recsys import LivePlatform, Strategy
    >>> small = LivePlatform(n_viewers=60, n_authors=16, seed=1)
    >>> given = {"strategy": Strategy(0.1), "hours": 336, "replications": 2}
    >>> len(battle_power(small, shares=[0.0, 1.0], **given))
    4
    """
    check_platform(platform)
    given = list(shares) if isinstance(shares, list | tuple | range | np.ndarray) else []
    wrong = [s for s in given if not (is_number(s) and 0 <= s <= 1)]
    if wrong or not given:
        raise ValueError(
            f"shares must be in [0, 1], a list of one or more; got {wrong or shares!r:.100}"
        )
    trials = [
        Trial(DualSided(salt="both"), name=_DIRECT, estimand="direct"),
        Trial(Switchback(1440), name=_SLICES),
    ]
    rows = []
    for share in shares:
        world = platform.replace(pk=float(share))
        found = simulate(
            world,
            trials,
            strategy=strategy,
            hours=hours,
            replications=replications,
            seed=seed,
            n_jobs=n_jobs,
        ).estimates
        for name, mine in found.groupby("trial", sort=False):
            hits = (mine["p_value"] <= ALPHA).to_numpy()
            rows.append(
                {
                    "battle_share": float(share),
                    "entangled_share": entangled_share(world, seed=seed),
                    "design": name,
                    "mean": float(mine["estimate"].mean()),
                    "power": float(hits.mean()),
                    "mc_se": share_error(hits),
                }
            )
    return pd.DataFrame(rows)


def entangled_share(platform: LivePlatform, *, seed: int) -> float:
    """Share of watch in battles of mixed arms where half of the authors are treated."""
    arm = np.random.default_rng(seed).permutation(np.arange(platform.n_authors) % 2)
    world = {"split": Arms(author=arm)}
    paths = flow_worlds(
        platform, world, strategy=Strategy(), hours=_TWO_DAYS, record="totals", seed=seed
    )
    return paths["split"].entangled_share
