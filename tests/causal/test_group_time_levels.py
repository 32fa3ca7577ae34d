"""What the treated would have had, totals, and units that are treated after the table ends."""

from dataclasses import replace

import numpy as np
import pytest
from staggered_panels import ROLES, effects, same, staggered

from causal import group_time_effects, panel_moments

KINDS = ("simple", "event", "cohort", "calendar")


def kind_weights(cells, share, kind):
    """Weights of treated cells in an overall effect at these shares; rows as in `cells`."""
    p = share[cells["cohort"]].to_numpy()
    if kind == "simple":
        return p / p.sum()
    if kind == "cohort":
        w = p / cells.groupby("cohort")["time"].transform("size")
        return (w / share.sum()).to_numpy()
    by = {"event": "event_time", "calendar": "time"}[kind]
    of_point = cells.assign(p=p).groupby(by)["p"].transform("sum").to_numpy()
    return p / of_point / cells[by].nunique()


def by_influence(log, kind):
    """Level and effect of an overall number, and their covariance, unit by unit."""
    wide = log.pivot_table(index="unit", columns="day", values="y")
    starts = log.groupby("unit")["cohort"].first()
    n, never = len(starts), np.isinf(starts)
    cohorts = sorted(set(starts[~never]))
    share = starts[~never].value_counts(normalize=True).sort_index() * (~never).mean()
    cells = effects(log).cells.query("event_time >= 0").reset_index(drop=True)
    psi = np.zeros((n, 2, len(cells)))
    value = np.zeros((2, len(cells)))
    for k, (g, t) in enumerate(cells[["cohort", "time"]].itertuples(index=False)):
        mine = (starts == g).to_numpy()
        change = (wide[t] - wide[g - 1]).to_numpy()
        level = wide[t].to_numpy()
        value[:, k] = level[mine].mean(), change[mine].mean() - change[never].mean()
        psi[mine, 0, k] = (level[mine] - level[mine].mean()) / mine.sum()
        psi[mine, 1, k] = (change[mine] - change[mine].mean()) / mine.sum()
        psi[never, 1, k] = -(change[never] - change[never].mean()) / never.sum()
    w = kind_weights(cells, share, kind)
    of_share = np.array([(starts == g).to_numpy() - share[g] for g in cohorts]) / n
    slope = []
    for g in cohorts:
        moved = share.copy()
        moved[g] += 1e-6
        slope.append((kind_weights(cells, moved, kind) - w) / 1e-6)
    total = psi @ w + np.einsum("gi,gk,jk->ij", of_share, np.array(slope), value)
    return value @ w, total.T @ total


@pytest.mark.parametrize("kind", KINDS)
def test_group_time_baseline_is_the_level_less_the_effect_by_influence_functions(kind):
    log = staggered()
    effect = effects(log).aggregate(kind).effect
    (level, theta), cov = by_influence(log, kind)
    assert effect.estimate == pytest.approx(theta)
    assert effect.std_error == pytest.approx(np.sqrt(cov[1, 1]), rel=1e-5)
    assert effect.baseline == pytest.approx(level - theta)
    variance = cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
    assert effect.baseline_variance == pytest.approx(variance, rel=1e-5)
    assert effect.baseline_cov == pytest.approx(cov[0, 1] - cov[1, 1], rel=1e-5)


def levels(found):
    return found.baselines[["baseline", "baseline_variance", "baseline_cov"]].to_numpy()


@pytest.mark.parametrize("share", [1.0, 0.8], ids=["balanced", "gaps"])
@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_group_time_baseline_is_the_same_by_moments_and_by_units(share, cluster):
    log = staggered(share=share)
    found = effects(log, cluster=cluster)
    by_units = effects(log, cluster=cluster, weight="one")
    np.testing.assert_allclose(levels(by_units), levels(found), rtol=1e-9)
    if cluster is None:
        m = panel_moments(log, **ROLES, missing="pattern")
        np.testing.assert_allclose(levels(effects(m)), levels(found), rtol=1e-9)
    far = effects(log.assign(y=log["y"] + 1e6), cluster=cluster)
    np.testing.assert_allclose(far.baselines["baseline"] - 1e6, levels(found)[:, 0], atol=1e-7)
    np.testing.assert_allclose(levels(far)[:, 1:], levels(found)[:, 1:], rtol=1e-6)


def test_group_time_baseline_of_a_singleton_cluster_is_that_without_clusters():
    log = staggered().assign(own=lambda d: d["unit"] * 2)
    np.testing.assert_allclose(levels(effects(log, cluster="own")), levels(effects(log)), rtol=1e-9)


def test_group_time_baseline_of_rows_is_the_mean_level_less_the_effect():
    log = staggered()
    found = effects(log, unit=None)
    after = log[log["day"] >= log["cohort"]]
    cells = after.groupby(["cohort", "day"])["y"].mean()
    weight = found.shares.set_index("cohort")["share"][cells.index.get_level_values(0)]
    level = np.average(cells, weights=weight)
    assert found.effect.baseline == pytest.approx(level - found.estimate)
    assert found.effect.details["treated_cells"] == len(after)
    again = effects(log, unit=None, cluster="unit")
    within = effects(log)  # rows by unit are the panel, but that shares are those of rows
    assert again.effect.baseline_variance == pytest.approx(within.effect.baseline_variance)
    assert again.effect.baseline_cov == pytest.approx(within.effect.baseline_cov)


def test_group_time_total_is_the_effect_times_treated_cells():
    log = staggered()
    found = effects(log)
    rows = int((log["day"] >= log["cohort"]).sum())
    assert found.effect.details["treated_cells"] == rows
    assert found.effect.details["total"] == pytest.approx(found.estimate * rows)
    lines = found.summary()
    assert f"over {rows} treated cells" in lines
    assert f"of {found.effect.baseline:.4g}; n = 720" in lines
    assert "averaged: treated cells, each by its cohort's share" in lines
    assert found.effect.relative().estimate == found.estimate / found.effect.baseline
    assert "total" not in found.aggregate("event").effect.details
    assert "total" not in effects(log, weight="weight").effect.details
    assert found.aggregate("event", min_event=-1).effect.baseline is not None
    assert found.aggregate("event", max_event=0).effect.baseline is None


def anticipated():
    """Cohorts of day 3, and of day 6, which is the first after the table, respond one day early."""
    rng = np.random.default_rng(4)
    log = staggered(900, 6, starts=(3, 6))
    y = rng.normal(size=1_000)[log["unit"] - 100] + log["day"] + rng.normal(0, 0.1, len(log))
    return log.assign(y=y + 2.0 * (log["day"] >= log["cohort"] - 1))


@pytest.mark.parametrize("control", ["never", "not_yet"])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight": "one"}, {"covariates": ["x"]}, {"unit": None}, {"cluster": "cluster"}],
    ids=["moments", "units", "covariates", "rows", "clusters"],
)
def test_group_time_controls_are_not_units_that_anticipate_treatment_after_the_table(
    control, options
):
    log = anticipated()
    found = effects(log, anticipation=1, control=control, **options)
    late = found.cells[found.cells["event_time"] >= 0]
    assert late["time"].tolist() == [3, 4, 5]
    noise = 0.02 if options.get("unit", "unit") else 0.4
    np.testing.assert_allclose(late["estimate"], 2.0, atol=noise)
    without = effects(log[log["cohort"] != 6], anticipation=1, control=control, **options)
    last, alone = (part.cells[part.cells["time"] == 5] for part in (found, without))
    assert last["n_control"].tolist() == alone["n_control"].tolist()
    if "covariates" not in options:  # whose scale is that of all units
        np.testing.assert_allclose(last["estimate"], alone["estimate"])


def test_group_time_later_cohorts_are_never_treated_without_anticipation():
    log = staggered()
    named = log.assign(cohort=log["cohort"].replace(np.inf, 99.0))
    assert same(effects(named), effects(log))
    assert same(effects(named, weight="one"), effects(log, weight="one"))
    moments = panel_moments(anticipated(), **ROLES)
    assert same(effects(moments, anticipation=1), effects(anticipated(), anticipation=1))
    unknown = replace(panel_moments(log, **ROLES), later=None)
    assert same(effects(unknown, anticipation=1), effects(log, anticipation=1))


def test_group_time_cells_whose_controls_all_anticipate_are_left_out():
    log = staggered(never=False, starts=(3, 6))
    with pytest.warns(UserWarning, match="cells were left out.* no controls"):
        found = group_time_effects(log, **ROLES, anticipation=1)
    assert found.cells["time"].max() == 4


def test_group_time_seed_changes_nothing():
    log = staggered()
    assert effects(log, seed=7) == effects(log)
