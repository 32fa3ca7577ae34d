"""Share of watch time in battles of mixed arms."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from experiments import entanglement_index

ROLES = {"watch": "watch", "room_arm": "arm", "partner_arm": "partner"}


def battles(n=400, seed=0):
    """Watch time of rooms, a third of them in battles with a room of either arm."""
    rng = np.random.default_rng(seed)
    partner = np.where(rng.random(n) < 1 / 3, rng.integers(0, 2, n), np.nan)
    watch = rng.exponential(10, n)
    return pd.DataFrame({"watch": watch, "arm": rng.integers(0, 2, n), "partner": partner})


def test_entanglement_index_is_the_share_of_watch_with_the_other_arm():
    log = battles()
    mixed = log["partner"].notna() & (log["partner"] != log["arm"])
    wanted = log.loc[mixed, "watch"].sum() / log["watch"].sum()
    assert 0.1 < wanted < 0.25
    assert entanglement_index(log, **ROLES) == pytest.approx(wanted, rel=1e-12)
    assert entanglement_index(log * [1e150, 1, 1], **ROLES) == pytest.approx(wanted, rel=1e-12)
    shuffled = log.sample(frac=1, random_state=0)
    assert entanglement_index(shuffled, **ROLES) == pytest.approx(wanted, rel=1e-12)
    other = log.assign(arm=1 - log["arm"], partner=1 - log["partner"])
    assert entanglement_index(other, **ROLES) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["polars", "arrow", "engine", "boolean"])
def test_entanglement_index_is_equal_for_every_kind_of_table(kind):
    log = battles()
    arrow = pa.Table.from_pandas(log, preserve_index=False)
    table = {
        "polars": lambda: pl.from_arrow(arrow),
        "arrow": lambda: arrow,
        "engine": lambda: duckdb.connect().from_arrow(arrow),
        "boolean": lambda: log.astype({"arm": bool, "partner": "boolean"}),
    }[kind]()
    wanted = entanglement_index(log, **ROLES)
    assert entanglement_index(table, **ROLES) == pytest.approx(wanted, rel=1e-12)


def test_entanglement_index_of_rooms_alone_is_zero():
    log = battles().assign(partner=np.nan)
    assert entanglement_index(log, **ROLES) == 0
    same = battles().assign(partner=lambda d: d["arm"])
    assert entanglement_index(same, **ROLES) == 0
    assert entanglement_index(same.assign(arm=1 - same["arm"]), **ROLES) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"watch": -1.0}, "column 'watch' must be >= 0; 400 rows are not"),
        ({"watch": 0.0}, "column 'watch' must not be all 0"),
        ({"arm": 2}, "arm 'arm' must be 0 or 1; 400 rows are not"),
        ({"partner": 0.5}, "arm 'partner' must be 0 or 1; 400 rows"),
        ({"arm": np.nan}, r"column 'arm' must be present \(not missing\); 400 rows"),
        ({"watch": np.nan}, "column 'watch' must be present"),
    ],
)
def test_entanglement_index_refuses_what_is_no_log_of_rooms(change, message):
    with pytest.raises(ValueError, match=message):
        entanglement_index(battles().assign(**change), **ROLES)
