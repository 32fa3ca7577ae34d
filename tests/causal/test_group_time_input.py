"""What group_time_effects refuses, and what it warns of."""

import numpy as np
import pandas as pd
import pytest
from staggered_panels import ROLES, effects, same, staggered

from causal import group_time_effects, panel_moments


def refused(log, words, **options):
    with pytest.raises((ValueError, TypeError), match=words):
        group_time_effects(log, **{**ROLES, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "drdid"}, "method must be one of"),
        ({"control": "nevertreated"}, "control must be one of"),
        ({"base": "long"}, "base must be one of"),
        ({"anticipation": -1}, "anticipation must be a whole number >= 0"),
        ({"max_propensity": 0}, r"max_propensity must be in \(0, 1\]"),
        ({"covariates": "x"}, "covariates must be a list"),
        ({"covariates": ["x", "x"]}, "'x' is named twice in covariates"),
        ({"covariates": ["y"]}, "'y' cannot be both outcome and covariates"),
        ({"covariates": ["age"]}, "'age' .covariates. is not in the table"),
        ({"covariates": ["one"]}, "covariate 'one' must vary"),
        ({"weight": "x"}, "weight 'x' must be >= 0"),
        ({"anticipation": 5}, "need a period before treatment and anticipation=5"),
        ({"covariates": ["x"], "max_propensity": 1e-9}, "all controls of cohort 2 have a prop"),
    ],
)
@pytest.mark.parametrize("unit", ["unit", None], ids=["panel", "rows"])
def test_group_time_effects_refuse(options, words, unit):
    refused(staggered(), words, unit=unit, **options)


@pytest.mark.parametrize("unit", ["unit", None], ids=["panel", "rows"])
def test_group_time_effects_name_the_cohort_and_the_covariate_that_separates_it(unit):
    log = staggered()
    log["late"] = (log["cohort"] == 3) * 2.0 + np.random.default_rng(0).random(1000)[log["unit"]]
    words = "cohort 3 and its controls are separated by covariate 'late'.*method='reg'"
    refused(log, words, covariates=["x", "late"], unit=unit)
    refused(log, words, covariates=["late"], method="ipw", unit=unit)


@pytest.mark.parametrize("unit", ["unit", None], ids=["panel", "rows"])
def test_group_time_effects_name_a_covariate_that_is_determined_by_others(unit):
    log = staggered().assign(both=lambda d: 2 - d["x"])
    words = "covariate 'both' is constant, or determined by the other covariates, among the"
    refused(log, words, covariates=["x", "both"], method="reg", unit=unit)
    log["flag"] = (log["unit"] % 5 == 0) & np.isfinite(log["cohort"])
    words = "covariate 'flag' is constant, or determined"
    refused(log, words, covariates=["flag"], method="reg", unit=unit)


def test_group_time_effects_need_never_treated_units_or_not_yet():
    refused(staggered(never=False), "control='never' needs units that are never treated")


def test_group_time_effects_need_somebody_treated_and_somebody_not():
    log = staggered()
    refused(log.assign(cohort=np.inf), "at least one unit must be treated")
    refused(log.assign(cohort=2), "at least one unit must be a control")
    refused(log.assign(cohort=np.where(np.isinf(log["cohort"]), np.inf, 0)), "before treatment")


def test_group_time_effects_of_rows_need_rows_on_both_sides():
    log = staggered()
    log = log[~(np.isinf(log["cohort"]) & (log["day"] >= 2))]
    refused(log, "no cohort has both its own units and controls", unit=None)


def test_group_time_effects_refuse_moments_of_other_columns():
    log = staggered()
    moments = panel_moments(log, **ROLES)
    refused(moments, "panel moments must be read with the same outcome", outcome="x")
    refused(moments, "panel moments hold no covariates", covariates=["x"])
    refused(moments, "panel moments are of units; pass unit=", unit=None)


def test_group_time_effects_refuse_weights_that_leave_a_cohort_without_any():
    log = staggered().assign(weight=lambda d: (d["cohort"] != 3) * 1.0)
    refused(log, "weights of the units of cohort 3 are all 0", weight="weight")


def test_group_time_effects_refuse_more_cells_than_they_can_hold():
    rng = np.random.default_rng(0)
    log = pd.DataFrame({"unit": np.repeat(np.arange(80), 80), "day": np.tile(np.arange(80), 80)})
    log["cohort"] = (log["unit"] + 1.0).where(log["unit"] < 70, np.inf)
    refused(log.assign(y=rng.normal(size=len(log))), "more than 4,000 cells")


# --- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["unit", None], ids=["panel", "rows"])
def test_group_time_effects_drop_always_treated_and_say_how_to_say_never(unit):
    log = staggered().assign(day=lambda d: d["day"] + 1, cohort=lambda d: d["cohort"] + 1)
    log["cohort"] = log["cohort"].replace(np.inf, 99)
    more = log[log["cohort"] == 99].assign(cohort=0, unit=lambda d: d["unit"] + 999)
    both = pd.concat([log, more])
    n = "30" if unit else "180 rows of"
    words = f"^{n} always-treated units were dropped.*pass never=0"
    with pytest.warns(UserWarning, match=words):
        dropped = group_time_effects(both, **{**ROLES, "unit": unit})
    assert same(effects(log, unit=unit), dropped)
    zeros = log.assign(cohort=log["cohort"].replace(99, 0))
    assert same(effects(log, unit=unit), effects(zeros, unit=unit, never=0))


def test_group_time_effects_say_who_is_treated_too_early_for_anticipation():
    with pytest.warns(UserWarning, match="^30 units treated too early for anticipation"):
        found = group_time_effects(staggered(), anticipation=2, **ROLES)
    assert found.shares["cohort"].tolist() == [3, 5]


def test_group_time_effects_warn_of_small_cohorts():
    log = staggered()
    few = np.unique(log.loc[log["cohort"] == 3, "unit"])[3:]
    with pytest.warns(UserWarning, match="1 cohorts have fewer than 5 units, e.g. 3 with 3"):
        group_time_effects(log[~log["unit"].isin(few)], **ROLES)


def test_group_time_effects_warn_of_few_clusters():
    log = staggered().assign(cluster=lambda d: d["unit"] % 7)
    words = "7 effects before treatment are too many for a joint test with 7 clusters"
    with (
        pytest.warns(UserWarning, match="7 clusters, 7 of them treated: errors"),
        pytest.warns(UserWarning, match=words),
    ):
        found = group_time_effects(log, cluster="cluster", **ROLES)
    assert found.pretrend is None
    assert found.aggregate("event").pretrend.df_denom == 3


def test_group_time_effects_warn_of_effects_before_treatment():
    log = staggered().assign(y=lambda d: d["y"] + 2.0 * d["day"] * np.isfinite(d["cohort"]))
    with pytest.warns(UserWarning, match="effects before treatment differ from 0"):
        group_time_effects(log, **ROLES)


def test_group_time_effects_leave_out_cells_without_units_and_count_them():
    log = staggered()
    log = log[~((log["cohort"] == 3) & (log["day"] == 4))]
    with pytest.warns(UserWarning, match=r"^1 of 15 cells were left out.*cohort 3 at 4"):
        found = group_time_effects(log, **ROLES)
    assert len(found.cells) == 14


def test_group_time_effects_warn_at_the_callers_line():
    with pytest.warns(UserWarning, match="anticipation") as caught:
        group_time_effects(staggered(), anticipation=2, **ROLES)
    assert {w.filename for w in caught} == {__file__}


def test_group_time_effects_keep_what_they_warned_of():
    with pytest.warns(UserWarning, match="anticipation"):
        found = group_time_effects(staggered(), anticipation=2, **ROLES)
    assert "anticipation" in found.effect.details["warnings"][0]


def test_group_time_effects_take_columns_of_any_name():
    odd = {"y": "out'come\"; DROP", "unit": "a b", "day": "select", "cohort": "0", "x": "größe"}
    log = staggered()
    roles = {role: odd[column] for role, column in ROLES.items()}
    named = group_time_effects(log.rename(columns=odd), covariates=[odd["x"]], **roles)
    assert same(effects(log, covariates=["x"]), named)


def test_group_time_effects_of_rows_speaks_of_rows():
    log = staggered(starts=(3,), never=False)
    refused(log, f"at least one row must be a control; all {len(log)} rows are treated", unit=None)
    refused(log.assign(cohort=np.inf), f"none of the {len(log)} rows is", unit=None)
