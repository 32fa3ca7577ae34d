"""Units by periods and their moments: definitions, merging, engines, what is refused."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from dense_panel import other_tables, panel

from causal import EstimationWarning, PanelMoments, event_study, panel_moments
from causal.panel import engine_units
from causal.panel.times import Times
from causal.panel.unit_panel import read_panel

ROLES = {"outcome": "y", "unit": "unit", "time": "day", "cohort": "cohort"}


def same_moments(a, b, tolerance=1e-12):
    """Whether two moments hold the same numbers."""
    assert a.keys.equals(b.keys)
    assert a.n_obs == b.n_obs
    assert np.array_equal(a.present, b.present)
    assert np.abs(a.mean - b.mean).max() <= tolerance * np.abs(b.mean).max()
    if a.cross is not None:
        assert np.abs(a.cross - b.cross).max() <= tolerance * np.abs(b.cross).max()


@pytest.mark.parametrize("stratum", [None, "state"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_panel_moments_are_their_definition(stratum, cluster):
    log = panel(n_units=80)
    m = panel_moments(log, **ROLES, stratum=stratum, cluster=cluster)
    wide = log.pivot_table(index="unit", columns="day", values="y").to_numpy()
    units = log.groupby("unit").first()
    by = ["cohort", *(name for name in (stratum, cluster) if name)]
    assert len(m) == len(units.drop_duplicates(by))
    for g, row in enumerate(m.keys.to_dict("records")):
        mine = np.ones(len(units), dtype=bool)
        for role, name in (("cohort", "cohort"), ("stratum", stratum), ("cluster", cluster)):
            if name:
                wanted = np.inf if row[role] is None else row[role]
                mine &= (units[name] == wanted).to_numpy()
        paths = wide[mine]
        assert m.n[g] == row["n_units"] == mine.sum()
        assert np.allclose(m.mean[g], paths.mean(axis=0), rtol=1e-12)
        if cluster is None:
            centred = paths - paths.mean(axis=0)
            assert np.allclose(m.cross[g], centred.T @ centred, rtol=1e-11)


@pytest.mark.parametrize("missing", ["pattern", "drop_units"])
def test_panel_moments_of_gaps_are_by_pattern_or_dropped(missing):
    log = panel(n_units=80, share=0.95)
    wide = log.pivot_table(index="unit", columns="day", values="y")
    whole = wide.notna().all(axis=1)
    if missing == "pattern":
        m = panel_moments(log, **ROLES, missing=missing)
        assert m.n_units == 80
        assert m.n_obs == len(log)
        assert len(np.unique(m.present, axis=0)) == len(wide.notna().drop_duplicates())
    else:
        with pytest.warns(EstimationWarning, match=f"{(~whole).sum()} of 80 units"):
            m = panel_moments(log, **ROLES, missing=missing)
        same_moments(m, panel_moments(log[log["unit"].isin(wide.index[whole])], **ROLES))
    with pytest.raises(ValueError, match="must have a row in every 'day'"):
        panel_moments(log, **ROLES)


def test_panel_moments_lose_no_digit_to_an_offset():
    log = panel(n_units=80).assign(y=lambda d: np.round(d["y"] * 1024) / 1024)
    far = log.assign(y=log["y"] + 2.0**32)
    near, moved = panel_moments(log, **ROLES), panel_moments(far, **ROLES)
    assert np.abs(moved.cross - near.cross).max() <= 1e-9 * np.abs(near.cross).max()


@pytest.mark.parametrize("share", [1.0, 0.95], ids=["balanced", "gaps"])
@pytest.mark.parametrize("options", [{}, {"stratum": "state"}, {"cluster": "cluster"}], ids=str)
def test_panel_moments_merge_of_any_split_is_the_whole(share, options):
    log = panel(n_units=90, share=share)
    kept = {**ROLES, **options, "missing": "pattern"}
    whole = panel_moments(log, **kept)
    rng = np.random.default_rng(1)
    for n_parts in (2, 5):
        part = rng.integers(0, n_parts, 1000)[log["unit"].to_numpy()]
        parts = [panel_moments(log[part == j], **kept) for j in range(n_parts)]
        joined = parts[0]
        for other in parts[1:]:
            joined = joined + other
        # the order of groups may differ
        a, b = (m.keys.assign(at=range(len(m)), p=[str(row) for row in m.present.astype(int)])
                for m in (joined, whole))  # fmt: skip
        by = [c for c in a.columns if c not in ("at", "n_units")]
        a, b = (k.astype({"cohort": str}).sort_values(by)["at"].to_numpy() for k in (a, b))
        assert np.array_equal(joined.n[a], whole.n[b])
        assert np.allclose(joined.mean[a], whole.mean[b], rtol=1e-12, atol=1e-13)
        if whole.cross is not None:
            assert np.allclose(joined.cross[a], whole.cross[b], rtol=1e-12, atol=1e-11)
        assert joined.n_obs == whole.n_obs


def test_panel_moments_merge_refuses_shared_units_times_and_columns():
    log = panel(n_units=60)
    m = panel_moments(log, **ROLES)
    with pytest.raises(ValueError, match="units are in both parts"):
        m + m
    with pytest.raises(ValueError, match="same times"):
        m + panel_moments(log.assign(day=log["day"] + 1), **ROLES)
    with pytest.raises(ValueError, match="same columns"):
        m + panel_moments(log, **{**ROLES, "outcome": "x"})
    engine = panel_moments(other_tables(log)["ibis"], **ROLES)
    with pytest.raises(ValueError, match="disjoint_units=True"):
        m + engine
    assert m.merge(engine, disjoint_units=True).n_units == 120


@pytest.mark.parametrize("options", [{}, {"stratum": "state"}, {"cluster": "cluster"}], ids=str)
def test_panel_moments_survive_json(options):
    log = panel(n_units=60)
    start, cohort = pd.Timestamp("2026-05-01"), log["cohort"].replace(np.inf, np.nan)
    dates = log.assign(
        day=start + pd.to_timedelta(log["day"], unit="D"),
        cohort=start + pd.to_timedelta(cohort, unit="D"),
    )
    for table in (log, dates):
        m = panel_moments(table, **ROLES, **options)
        again = PanelMoments.from_dict(json.loads(json.dumps(m.to_dict())))
        assert again == m
        assert again.times.labels == m.times.labels


def test_panel_moments_select_takes_groups():
    m = panel_moments(panel(n_units=80), **ROLES, stratum="state")
    assert m.select(cohort=3).n_units == 40
    assert m.select(cohort=None, stratum="new").n_units <= 40
    with pytest.raises(ValueError, match="no group has"):
        m.select(cohort=99)
    with pytest.raises(ValueError, match="select takes"):
        m.select(day=1)


@pytest.mark.parametrize("cells", [1_250_000, 300], ids=["one part", "parts"])
@pytest.mark.parametrize("share", [1.0, 0.95], ids=["balanced", "gaps"])
def test_panel_moments_of_an_engine_are_those_of_the_frame(monkeypatch, cells, share):
    monkeypatch.setattr(engine_units, "_PART_CELLS", cells)
    log = panel(n_units=150, share=share)
    text = log.assign(unit="u" + log["unit"].astype(str))
    for table in (log, text):
        one = event_study(table, **ROLES)
        for name, other in other_tables(table).items():
            two = event_study(other, **ROLES)
            assert np.allclose(two.curve.estimate, one.curve.estimate, rtol=1e-10), name
            assert np.allclose(two.curve.cov, one.curve.cov, rtol=1e-9, atol=1e-15), name


def test_read_panel_is_the_same_for_all_tables_and_times():
    log = panel(n_units=40, share=0.9)
    start = pd.Timestamp("2026-05-01")
    dates = log.assign(
        day=start + pd.to_timedelta(log["day"], unit="D"),
        cohort=start + pd.to_timedelta(log["cohort"].replace(np.inf, np.nan), unit="D"),
    )
    days = dates.assign(day=dates["day"].dt.date, cohort=dates["cohort"].dt.date)
    words = log.assign(day="d" + log["day"].astype(str),
                       cohort=np.where(np.isfinite(log["cohort"]), "d3", None))  # fmt: skip
    base = read_panel(log, **ROLES, covariates=["x"], stratum="state", weight="weight")
    for changed in (log, dates, days, words):
        roles = {**ROLES, "covariates": ["x"], "stratum": "state", "weight": "weight"}
        for name, table in ({"pandas": changed} | other_tables(changed)).items():
            found = read_panel(table, **roles)
            assert np.array_equal(found.outcome, base.outcome, equal_nan=True), name
            assert np.array_equal(found.first, base.first), name
            assert np.array_equal(found.stratum, base.stratum), name
            assert np.array_equal(found.covariates["x"], base.covariates["x"], equal_nan=True)
            assert np.array_equal(found.weight, base.weight, equal_nan=True)
            assert found.n_obs == base.n_obs
    assert read_panel(days, **ROLES).times.labels[0] == "2026-05-01"
    assert read_panel(words, **ROLES).times.labels[0] == "d0"


@pytest.mark.parametrize(
    ("values", "gaps"),
    [
        ([202611, 202612, 202701, 202702], []),
        ([202611, 202612, 202702, 202703], [(202612, 202702)]),
        ([20260430, 20260501, 20260502], []),
        ([20260429, 20260430, 20260502], [(20260430, 20260502)]),
        ([202613, 202614, 202616], [(202614, 202616)]),
        ([1, 2, 4], [(2, 4)]),
        ([10, 20, 30], []),
    ],
    ids=str,
)
def test_times_know_months_and_days_that_are_written_as_numbers(values, gaps):
    assert Times("number", np.array(values)).gaps() == gaps


def test_read_panel_many_periods_in_an_engine():
    log = panel(n_units=12, n_periods=80, starts=(40,))
    one, two = (read_panel(table, **ROLES) for table in (log, other_tables(log)["ibis"]))
    assert np.array_equal(one.outcome, two.outcome)
    assert np.array_equal(one.first, two.first)


def bad(name, log):
    """The log with one thing wrong."""
    changes = {
        "doubled": lambda: pd.concat([log, log.iloc[[2]]]),
        "outcome missing": lambda: log.assign(y=log["y"].where(log.index != 4)),
        "outcome infinite": lambda: log.assign(y=log["y"].where(log.index != 4, np.inf)),
        "outcome text": lambda: log.assign(y="a"),
        "unit missing": lambda: log.assign(unit=log["unit"].where(log.index != 4)),
        "time missing": lambda: log.assign(day=log["day"].where(log.index != 4)),
        "cluster missing": lambda: log.assign(cluster=log["cluster"].where(log.index != 4)),
        "cohort changes": lambda: log.assign(cohort=log["cohort"].where(log.index != 4, 5.0)),
        "cohort missing once": lambda: log.assign(
            cohort=log["cohort"].where(log["day"] != 2).replace(np.inf, np.nan)
        ),
        "cluster changes": lambda: log.assign(cluster=log["day"]),
        "stratum changes": lambda: log.assign(state=log["day"]),
        "weight negative": lambda: log.assign(weight=-1.0),
        "weight zero": lambda: log.assign(weight=0.0),
        "nobody treated": lambda: log.assign(cohort=np.inf),
        "all treated": lambda: log.assign(cohort=3.0),
        "all always": lambda: log.assign(cohort=log["cohort"].replace(3.0, 0.0)),
        "one period": lambda: log[log["day"] == 1],
        "empty": lambda: log.iloc[:0],
    }
    return changes[name]()


BAD = {
    "doubled": ["'unit'", "'day'", "1 row"],
    "outcome missing": ["'y'", "1 row"],
    "outcome infinite": ["'y'", "finite"],
    "outcome text": ["'y'", "numbers"],
    "unit missing": ["'unit'"],
    "time missing": ["'day'", "1 row"],
    "cluster missing": ["'cluster'"],
    "cohort changes": ["cohort 'cohort'", "within unit 'unit'", "1 unit"],
    "cohort missing once": ["cohort 'cohort'", "within unit 'unit'"],
    "cluster changes": ["cluster 'cluster'", "within unit 'unit'"],
    "stratum changes": ["stratum 'state'", "within unit 'unit'"],
    "weight negative": ["weight 'weight'", "negative"],
    "weight zero": ["weight 'weight'", "all are 0"],
    "nobody treated": ["'unit'", "treated"],
    "all treated": ["control", "'unit'"],
    "all always": ["before treatment"],
    "one period": ["two periods"],
    "empty": ["empty"],
}


@pytest.mark.parametrize("kind", ["memory", "engine"])
@pytest.mark.parametrize("name", BAD)
def test_read_panel_refuses_by_name(name, kind):
    log = panel(n_units=20).sort_values(["unit", "day"]).reset_index(drop=True)
    table = bad(name, log)
    if kind == "engine":
        import duckdb

        arrow = pa.Table.from_pandas(table, preserve_index=False)
        table = duckdb.connect().from_arrow(arrow)
    roles = {**ROLES, "cluster": "cluster", "stratum": "state", "weight": "weight"}
    with pytest.raises((ValueError, TypeError)) as caught:
        read_panel(table, **roles)
    assert type(caught.value) in (ValueError, TypeError)
    for part in BAD[name]:
        assert part in str(caught.value), str(caught.value)


def test_read_panel_takes_hostile_names():
    names = {"y": "__import__('os').system('true')", "unit": 'a"b; drop table x', "day": "select"}
    log = panel(n_units=40)
    renamed = log.rename(columns=names)
    roles = {"outcome": names["y"], "unit": names["unit"], "time": names["day"]}
    one = read_panel(log, **ROLES)
    for table in (renamed, other_tables(renamed)["ibis"], other_tables(renamed)["duckdb"]):
        two = read_panel(table, **roles, cohort="cohort")
        assert np.array_equal(one.outcome, two.outcome)


def test_panel_moments_refuse_too_many_patterns():
    log = panel(n_units=700, n_periods=12, share=0.6)
    with pytest.raises(ValueError, match="more than 256 patterns"):
        panel_moments(log, **ROLES, missing="pattern")
    with pytest.raises(ValueError, match="more than 256 patterns"):
        panel_moments(other_tables(log)["ibis"], **ROLES, missing="pattern")


def test_event_study_goes_by_rows_where_patterns_are_many():
    log = panel(n_units=700, n_periods=9, starts=(4,), share=0.7)
    one, two = event_study(log, **ROLES), event_study(other_tables(log)["ibis"], **ROLES)
    assert np.allclose(one.curve.estimate, two.curve.estimate, rtol=1e-8, atol=1e-10)
    few = log[log["unit"] < 130]
    with pytest.warns(EstimationWarning, match="treated units change along event time: 5 at -2"):
        by_moments = event_study(few, **ROLES)
    with pytest.warns(EstimationWarning, match="treated units change along event time: 5 at -2"):
        by_rows = event_study(few.assign(one=1.0), **ROLES, weight="one")
    assert np.allclose(by_moments.curve.estimate, by_rows.curve.estimate, rtol=1e-7, atol=1e-9)
    assert np.allclose(by_moments.curve.cov, by_rows.curve.cov, rtol=1e-7, atol=1e-10)
