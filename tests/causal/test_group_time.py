"""Group-time effects: cells by hand, one answer by every path, what must not matter."""

import numpy as np
import pandas as pd
import pytest
from dense_panel import other_tables
from staggered_panels import ROLES, cell_by_hand, effects, same, staggered
from threadpoolctl import threadpool_limits

from causal import PanelMoments, group_time_effects, panel_moments

WAYS = [
    {"control": control, "base": base, "anticipation": anticipation}
    for control in ("never", "not_yet")
    for base in ("varying", "universal")
    for anticipation in (0, 1)
]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
@pytest.mark.parametrize("share", [1.0, 0.8], ids=["balanced", "gaps"])
def test_group_time_effects_are_differences_of_mean_changes(way, share):
    log = staggered(share=share)
    found = effects(log, **way)
    assert len(found.cells) == 3 * (5 + (way["base"] == "universal"))
    for row in found.cells.itertuples():
        assert row.estimate == pytest.approx(cell_by_hand(log, row.cohort, row.time, **way))


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_group_time_effects_from_moments_equal_those_from_influence_values(way, cluster):
    log = staggered(share=0.85)  # a weight of 1 takes the path by influence values
    way = {**way, "cluster": cluster}
    assert same(effects(log, **way), effects(log, weight="one", **way))


@pytest.mark.parametrize("control", ["never", "not_yet"])
def test_group_time_effects_are_the_same_from_any_table(control):
    log = staggered(n_units=60, n_periods=5, starts=(2, 3))
    frame = effects(log, control=control)
    for name, table in other_tables(log).items():
        assert same(frame, effects(table, control=control), 1e-9), name
    moments = panel_moments(log, **ROLES)
    assert same(frame, effects(moments, control=control), 1e-9)
    stored = PanelMoments.from_dict(moments.to_dict())
    assert same(frame, effects(stored, control=control), 1e-9)


def test_group_time_effects_by_cluster_are_the_same_from_moments():
    log = staggered()
    moments = panel_moments(log, **ROLES, cluster="cluster")
    assert same(effects(log, cluster="cluster"), effects(moments, cluster="cluster"), 1e-9)


def test_group_time_effects_with_many_patterns_of_gaps_take_the_path_by_rows():
    log = staggered(n_units=900, n_periods=10, share=0.7)
    assert log.groupby("unit")["day"].agg(frozenset).nunique() > 256
    found = effects(log)
    for row in found.cells.sample(6, random_state=1).itertuples():
        assert row.estimate == pytest.approx(cell_by_hand(log, row.cohort, row.time))


def test_group_time_counts_are_units_seen_in_both_periods():
    log = staggered(share=0.8)
    cells = effects(log, weight="one").cells.set_index(["cohort", "time"])
    wide = log.pivot_table(index="unit", columns="day", values="y")
    starts = log.groupby("unit")["cohort"].first()
    both = wide[1].notna() & wide[4].notna()
    assert cells.loc[(2, 4), "n_treated"] == (both & (starts == 2)).sum()
    assert cells.loc[(2, 4), "n_control"] == (both & np.isinf(starts)).sum()


def test_group_time_clusters_of_one_unit_are_no_clusters():
    log = staggered(share=0.9).assign(own=lambda d: d["unit"] * 3)
    for options in ({}, {"covariates": ["x"]}):
        assert same(effects(log, **options), effects(log, cluster="own", **options))


# --- what must not matter -------------------------------------------------------------------------

METHODS = pytest.mark.parametrize(
    "options",
    [{}, {"covariates": ["x", "z"]}, {"covariates": ["x"], "method": "ipw", "control": "not_yet"}],
    ids=["none", "dr", "ipw"],
)


@METHODS
def test_group_time_effects_ignore_unit_and_period_effects(options):
    log = staggered()
    level = np.random.default_rng(1).normal(size=1000)[log["unit"]] * 1e5
    moved = log.assign(y=log["y"] + level + 50 * log["day"] ** 2 + 1e6)
    assert same(effects(log, **options), effects(moved, **options), 1e-8)


@METHODS
def test_group_time_effects_ignore_order_and_labels(options):
    log = staggered()
    other = log.sample(frac=1, random_state=2)
    other["unit"] = [f"viewer {-u}" for u in other["unit"]]
    other[["day", "cohort"]] += 2019
    assert same(effects(log, **options), effects(other, **options))


@METHODS
def test_group_time_effects_scale_with_the_outcome(options):
    log = staggered()
    found, scaled = (effects(t, **options) for t in (log, log.assign(y=5 - 1e9 * log["y"])))
    np.testing.assert_allclose(scaled.curve.estimate, -1e9 * found.curve.estimate, rtol=1e-9)
    np.testing.assert_allclose(scaled.curve.cov, 1e18 * found.curve.cov, rtol=1e-7, atol=1e9)


@METHODS
def test_group_time_effects_scale_with_their_covariates(options):
    log = staggered()
    other = log.assign(x=3 - 1e6 * log["x"], z=1e-6 * log["z"] + 4)
    assert same(effects(log, **options), effects(other, **options), 1e-7)


@METHODS
def test_group_time_effects_of_units_twice_have_errors_smaller_by_the_root_of_two(options):
    log = staggered()
    twice = pd.concat([log, log.assign(unit=log["unit"] + 5000)])
    found, more = effects(log, **options), effects(twice, **options)
    np.testing.assert_allclose(more.curve.estimate, found.curve.estimate, atol=1e-10)
    np.testing.assert_allclose(2 * more.joint_covariance, found.joint_covariance, atol=1e-10)


@METHODS
def test_group_time_estimates_are_the_same_on_one_thread_and_on_two(options):
    log = staggered(n_units=6000)
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(effects(log, **options))
    np.testing.assert_array_equal(found[0].curve.estimate, found[1].curve.estimate)
    np.testing.assert_allclose(found[0].curve.cov, found[1].curve.cov, rtol=0, atol=1e-12)


def test_group_time_effects_take_dates_and_a_cohort_between_two_days():
    log = staggered(n_units=80)
    dated = log.assign(
        day=pd.Timestamp("2026-05-01") + pd.to_timedelta(2 * log["day"], unit="D"),
        cohort=pd.Timestamp("2026-05-01")
        + pd.to_timedelta((2 * log["cohort"] - 1).replace(np.inf, np.nan), unit="D"),
    )
    found = effects(dated)
    assert same(effects(log), found)
    assert found.shares["cohort"].tolist() == ["2026-05-05", "2026-05-07", "2026-05-11"]
    assert found.curve.index[0] == "2026-05-05,2026-05-03"


def test_group_time_units_treated_after_the_last_day_are_controls():
    log = staggered()
    later = log.assign(cohort=log["cohort"].replace(np.inf, 99))
    assert same(effects(log), effects(later))


def test_group_time_effects_not_yet_do_without_never_treated():
    log = staggered(never=False)
    with pytest.warns(UserWarning, match=r"5 of 15 cells were left out.*no controls"):
        found = group_time_effects(log, control="not_yet", **ROLES)
    assert set(zip(found.cells["cohort"], found.cells["time"], strict=True)) == {
        (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3), (3, 4), (5, 1), (5, 2)
    }  # fmt: skip
    for row in found.cells.itertuples():
        by_hand = cell_by_hand(log, row.cohort, row.time, control="not_yet")
        assert row.estimate == pytest.approx(by_hand)


def test_group_time_effects_of_two_periods_are_the_difference_in_differences():
    log = staggered(n_periods=2, starts=(1,))
    found = group_time_effects(log, **ROLES)
    means = log.assign(on=np.isfinite(log["cohort"])).groupby(["on", "day"])["y"].mean()
    by_hand = (means[True, 1] - means[True, 0]) - (means[False, 1] - means[False, 0])
    assert found.estimate == pytest.approx(by_hand)
    assert found.pretrend is None
