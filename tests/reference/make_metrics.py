"""Make metrics.json: scikit-learn's numbers for `recsys.metrics`.

    python tests/reference/make_metrics.py

`roc_auc_score` (with and without weights), `log_loss` and `ndcg_score` (its own treatment of tied
scores) on a small generated log with ties; GAUC and UAUC by a loop of `roc_auc_score` over viewers.
The log is stored beside the numbers, so the test needs neither scikit-learn nor this generator.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score


def main() -> None:
    """Write the file beside this script."""
    rng = np.random.default_rng(20261121)
    n = 240
    group = rng.integers(0, 30, n)
    score = rng.integers(-6, 7, n)
    p = 1 / (1 + np.exp(-0.4 * score + 1))
    label = (rng.random(n) < p).astype(int)
    weight = rng.gamma(2.0, size=n)
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    both = [m for m in members if 0 < label[m].sum() < len(m)]
    aucs = np.array([roc_auc_score(label[m], score[m]) for m in both])
    # ndcg_score refuses lists of one document and scores lists without a positive 0.
    ranked = [m for m in members if label[m].any() and len(m) > 1]
    reference = {
        "sklearn": sklearn.__version__,
        "group": group.tolist(),
        "score": score.tolist(),
        "p": p.tolist(),
        "label": label.tolist(),
        "weight": weight.tolist(),
        "auc": roc_auc_score(label, score),
        "auc_weighted": roc_auc_score(label, score, sample_weight=weight),
        "gauc_impressions": float(np.average(aucs, weights=[len(m) for m in both])),
        "gauc_positives": float(np.average(aucs, weights=[label[m].sum() for m in both])),
        "uauc": float(aucs.mean()),
        "log_loss": log_loss(label, p),
        "ndcg_groups": sorted({int(group[m[0]]) for m in ranked}),
        "ndcg": {
            str(k): float(np.mean([ndcg_score([label[m]], [score[m]], k=k) for m in ranked]))
            for k in (1, 3, 5, 100)
        },
    }
    path = Path(__file__).with_name("metrics.json")
    path.write_text(json.dumps(reference) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
