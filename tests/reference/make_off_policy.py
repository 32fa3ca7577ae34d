"""Make off_policy.json: point estimates of obp on the shipped `men` log, and on generated slates.

Run from the repository's root, in an environment with obp 0.5.7 and pyarrow (obp pins old versions
of torch and pandas: install it without its dependencies, then what its `obp.ope` imports):

    python tests/reference/make_off_policy.py

The reward table q and the target policy are formulas of action and position, written once more in
the test, so that both sides see the same numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import obp
import pyarrow.parquet as pq
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    DoublyRobustWithShrinkage,
    InverseProbabilityWeighting,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SelfNormalizedSlateIndependentIPS,
    SelfNormalizedSlateRewardInteractionIPS,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SwitchDoublyRobust,
)

ROOT = Path(__file__).resolve().parents[2]
TAUS = [2.0, 10.0, 50.0]
LAMBDAS = [1.0, 100.0, 1e4]


def men():
    folder = ROOT / "recsys" / "data" / "open_bandit"
    rows = pq.read_table(folder / "men_bts.parquet").to_pydict()
    outcomes = pq.read_table(folder / "men_bts_outcomes.parquet").to_pydict()
    value = dict(zip(outcomes["impression_id"], outcomes["value"], strict=True))
    action, position = np.array(rows["room_id"]), np.array(rows["position"])
    reward = np.array([value.get(i, 0.0) for i in rows["impression_id"]], dtype=float)
    n_actions = int(rows["n_candidates"][0])
    a = np.arange(n_actions)[None, :]
    q = 0.002 + 0.0005 * ((7 * a + 3 * position[:, None]) % 11)
    pi = 1.0 + (5 * a + position[:, None]) % 7
    pi = pi / pi.sum(axis=1, keepdims=True)
    given = {
        "reward": reward,
        "action": action,
        "pscore": np.array(rows["propensity"]),
        "action_dist": pi[:, :, None],
        "position": np.zeros(len(reward), dtype=int),
    }
    modelled = {**given, "estimated_rewards_by_reg_model": q[:, :, None]}

    def value_of(estimator, inputs):
        return float(estimator.estimate_policy_value(**inputs))

    return {
        "ips": value_of(InverseProbabilityWeighting(), given),
        "snips": value_of(SelfNormalizedInverseProbabilityWeighting(), given),
        "ips, clip 0.5": value_of(InverseProbabilityWeighting(lambda_=0.5), given),
        "dm": value_of(DirectMethod(), modelled),
        "dr": value_of(DoublyRobust(), modelled),
        "sndr": value_of(SelfNormalizedDoublyRobust(), modelled),
        "switch": [[t, value_of(SwitchDoublyRobust(lambda_=t), modelled)] for t in TAUS],
        "shrinkage": [
            [lam, value_of(DoublyRobustWithShrinkage(lambda_=lam), modelled)] for lam in LAMBDAS
        ],
    }


def slates(n=150, length=3):
    rng = np.random.default_rng(7)
    slate, position = np.repeat(np.arange(n), length), np.tile(np.arange(length), n)
    p, t = rng.uniform(0.1, 1, n * length).round(6), rng.uniform(0, 1, n * length).round(6)
    r = rng.binomial(1, 0.3, n * length).astype(float)
    prefix_p = np.cumprod(p.reshape(n, length), axis=1).ravel()
    prefix_t = np.cumprod(t.reshape(n, length), axis=1).ravel()
    shared = {"slate_id": slate, "reward": r, "position": position}
    independent = {
        **shared,
        "pscore_item_position": p,
        "evaluation_policy_pscore_item_position": t,
    }
    cascade = {**shared, "pscore_cascade": prefix_p, "evaluation_policy_pscore_cascade": prefix_t}
    return {
        "log": {
            "slate": slate.tolist(),
            "position": (position + 1).tolist(),
            "reward": r.tolist(),
            "propensity": p.tolist(),
            "target": t.tolist(),
        },
        "independent": {
            "plain": SlateIndependentIPS(len_list=length).estimate_policy_value(**independent),
            "self-normalised": SelfNormalizedSlateIndependentIPS(
                len_list=length
            ).estimate_policy_value(**independent),
        },
        "cascade": {
            "plain": SlateRewardInteractionIPS(len_list=length).estimate_policy_value(**cascade),
            "self-normalised": SelfNormalizedSlateRewardInteractionIPS(
                len_list=length
            ).estimate_policy_value(**cascade),
        },
    }


if __name__ == "__main__":
    result = {
        "made_by": f"obp {obp.__version__}, numpy {np.__version__}",
        "men": men(),
        "slates": slates(),
    }
    path = Path(__file__).with_name("off_policy.json")
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
