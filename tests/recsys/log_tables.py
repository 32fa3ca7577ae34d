"""Small scored-treatment logs that the tests of the log share."""

import numpy as np
import pandas as pd

from recsys import ScoredTreatments

START = pd.Timestamp("2026-11-20 12:00", tz="UTC")


def make_frame(n=6, **columns):
    """`n` valid impressions, one a request; columns are replaced or added."""
    frame = pd.DataFrame(
        {
            "impression_id": np.arange(n) + 2**53 + 1,
            "timestamp": START + pd.to_timedelta(np.arange(n), unit="min"),
            "room_id": [7] * n,
            "policy_id": ["bts"] * n,
            "propensity": [0.25] * n,
        }
    )
    for name, values in columns.items():
        frame[name] = values
    return frame


def make_outcomes(frame, rows):
    """Outcome rows (impression number, name, value, seconds after the impression, censored)."""
    ids, stamps = frame["impression_id"], frame["timestamp"]
    return pd.DataFrame(
        {
            "impression_id": [ids[i] for i, *_ in rows],
            "outcome": [name for _, name, *_ in rows],
            "value": pd.Series([value for *_, value, _, _ in rows], dtype="float64"),
            "reported_at": pd.to_datetime(
                [stamps[row[0]] + pd.Timedelta(seconds=row[3]) for row in rows], utc=True
            ),
            "censored": pd.Series([row[4] for row in rows], dtype=bool),
        }
    )


def found(frame, outcomes=None):
    """Problems as (column, severity, n_rows)."""
    problems = ScoredTreatments(frame, outcomes).check().problems
    return [(p.column, p.severity, p.n_rows) for p in problems]
