"""From a pilot to a plan: ranking, constraints, and what is said when a thing cannot be known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_pilot_model import hours

from experiments import (
    Constraints,
    Saturation,
    Schedule,
    Switchback,
    compare,
    recommend,
    switchback_effect,
)
from experiments.planning.candidates import _power
from experiments.planning.past_evidence import past_evidence
from experiments.planning.share_pilot import interference
from experiments.planning.twin_designs import twin_designs
from recsys import LivePlatform, Strategy

PILOT = hours(336, decay=0.85, memory=0.6, effect=1.0, seed=2, slice_minutes=120)
PLAN = Switchback(120).schedule(start="2026-03-02", days=14, seed=2)
SMALL = LivePlatform(n_viewers=60, n_authors=12, seed=1)
ROLES = {"outcome": "y", "time": "ts", "treatment": "arm"}


@pytest.fixture(scope="module")
def found():
    return recommend(PILOT, schedule=PLAN, effect=1.0, platform=SMALL, seed=4, **ROLES)


def test_recommend_ranks_by_regret_and_keeps_what_may_not_be_run_last(found):
    table = found.table
    assert table.columns.tolist() == [
        "design", "slice_minutes", "burn_in_minutes", "days", "bias_low", "bias_high", "std_error",
        "rmse", "regret", "power", "cost_days", "rejected",
    ]  # fmt: skip
    may = table[table["rejected"] == ""]
    assert (np.diff(may["regret"]) >= 0).all()
    assert (table["rejected"] == "").iloc[: len(may)].all()
    assert (may["bias_low"] <= may["bias_high"]).all()
    assert may["power"].between(0, 1).all()
    assert (may["cost_days"] == 28).all()
    assert found.best["design"] == table["design"].iloc[0]
    designs = set(table["design"])
    assert {"viewer split", "author split", "dual-sided total"} <= designs
    assert "before and after" in designs
    assert table.set_index("design").loc["switchback 48 h", "rejected"].startswith("7 slices are")


def test_recommend_plan_replays_and_reads_a_confirmatory_experiment(found, tmp_path):
    rotations = found.table[found.table["slice_minutes"].notna()]
    alone = recommend(
        PILOT,
        schedule=PLAN,
        effect=1.0,
        constraints=Constraints(randomise_viewers=False, randomise_authors=False),
        platform=SMALL,
        seed=4,
        **ROLES,
    )
    assert alone.best["design"] in set(rotations["design"])
    plan = alone.schedule
    assert plan.table["start"].min() == pd.Timestamp("2026-03-16")
    plan.save(tmp_path / "plan.csv")
    assert Schedule.load(tmp_path / "plan.csv") == plan
    registered = json.loads(json.dumps(alone.plan))
    assert registered["design"] == alone.best["design"]
    assert registered["seed"] == 4
    assert registered["burn_in_minutes"] == alone.best["burn_in_minutes"]
    later = hours(336, decay=0.85, memory=0.6, seed=9)
    later["ts"] += pd.Timedelta(days=14)
    later["arm"] = plan.treatment_at(later["ts"])
    with pytest.warns(Warning, match="slices"):
        read = switchback_effect(
            later, schedule=plan, burn_in=registered["burn_in_minutes"], **ROLES
        )
    assert read.std_error < 3 * alone.best["std_error"]
    assert alone.power_curve is None or alone.power_curve.table["power"].between(0, 1).all()


def test_recommend_tells_decay_and_carryover(found):
    come = found.to_come.set_index("hours")
    assert (come["low"] <= come["mean"]).all()
    assert (come["mean"] <= come["high"]).all()
    assert come.loc[1, "low"] <= 0.85 <= come.loc[1, "high"] + 0.05
    assert come.loc[24, "mean"] < come.loc[6, "mean"] < come.loc[1, "mean"]
    assert found.carryover.shown
    screening = found.screening.set_index("check")
    assert screening.loc["carry-over", "result"] == "shown"
    assert screening.loc["twin", "result"] == "calibrated"
    assert "run " in found.summary()
    assert str(found) == found.summary()
    assert found.twin == SMALL


def test_recommend_without_a_twin_shows_other_designs_but_does_not_choose_them():
    alone = recommend(PILOT, effect=1.0, **{**ROLES, "treatment": None})
    table = alone.table.set_index("design")
    assert "uncalibrated" in table.loc["viewer split", "rejected"]
    assert alone.best["design"].startswith("switchback")
    assert alone.carryover is None
    assert alone.screening.set_index("check").loc["carry-over", "result"] == "not tested"
    assert isinstance(alone.twin, LivePlatform)


def test_recommend_is_reproducible_and_follows_its_criterion():
    given = {"schedule": PLAN, "effect": 0.5, "platform": SMALL, "days": 10, **ROLES}
    one, two = (recommend(PILOT, **given) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, two.table)
    bayes = recommend(PILOT, criterion="bayes", **given)
    may = bayes.table[bayes.table["rejected"] == ""]
    assert may["rmse"].iloc[0] == may["rmse"].min()


def test_recommend_takes_regions_with_coins_of_their_own():
    both = pd.concat([PILOT.assign(city="a"), hours(336, seed=7).assign(city="b")])
    found = recommend(
        both.drop(columns="arm"),
        outcome="y",
        time="ts",
        unit="city",
        effect=1.0,
        constraints=Constraints(n_regions=2, max_slice_minutes=720),
    )
    assert found.schedule.design.regions == ("a", "b")
    assert found.table["slice_minutes"].max() == 720


def test_recommend_falls_back_on_launches_where_nothing_is_drawn_by_lot():
    nobody = Constraints(randomise_viewers=False, randomise_authors=False, randomise_time=False)
    with pytest.raises(ValueError, match=r"no design may be run: .*time may not be drawn by lot"):
        recommend(PILOT, effect=1.0, constraints=nobody, platform=SMALL, **ROLES)
    past = hours(24 * 60, memory=0.5, seed=5)[["ts", "y"]]
    found = recommend(
        PILOT, effect=1.0, constraints=nobody, platform=SMALL, history=past, days=7, **ROLES
    )
    assert found.best["design"] == "before and after"
    assert found.schedule is None
    assert found.best["std_error"] > 0


def test_recommend_rejects_what_treats_too_many_and_entangled_designs():
    few = Constraints(max_treated_share=0.5)
    table = recommend(
        PILOT, effect=1.0, constraints=few, platform=SMALL.replace(pk=1.0), **ROLES
    ).table.set_index("design")
    assert table.loc["switchback 24 h", "rejected"] == "a rotation treats everybody at once"
    assert table.loc["saturation 10/50/90", "rejected"] == "treats 90% at once"
    assert "in battles of mixed arms" in table.loc["author split", "rejected"]
    assert table.loc["viewer split", "rejected"] == ""


def test_past_evidence_draws_the_effect_towards_past_experiments():
    roles = {"outcome": "y", "time": "ts", "unit": None, "days": 7}
    past = pd.DataFrame({"estimate": [0.1, -0.1, 0.12, -0.08] * 10, "std_error": 0.01})
    found = past_evidence(past, effect=1.0, **roles)
    assert found.n_experiments == 40
    spread = past["estimate"].var() - 0.01**2 + past["estimate"].mean() ** 2
    np.testing.assert_allclose(found.squared_effect, (40 * spread + 4) / 44)
    assert past_evidence(None, effect=2.0, **roles).squared_effect == 4


def test_past_evidence_placebos_are_launches_of_nothing():
    roles = {"outcome": "y", "time": "ts", "days": 5, "effect": 1.0}
    rng = np.random.default_rng(0)
    days = pd.date_range("2026-01-01", periods=60)
    one = pd.DataFrame({"ts": days, "y": rng.normal(size=60)})
    found = past_evidence({"data": one}, unit=None, **roles)
    assert found.placebo == "before and after"
    np.testing.assert_allclose(found.placebo_sd, np.sqrt(2 / 5), rtol=0.5)
    np.testing.assert_allclose(found.mde, 2.8 * found.placebo_sd)
    shared = rng.normal(size=60) * 5
    several = pd.concat(
        [pd.DataFrame({"ts": days, "y": shared + rng.normal(size=60), "u": k}) for k in "abcd"]
    )
    four = past_evidence(several, unit="u", **roles)
    assert four.placebo.startswith("difference-in-differences")
    assert four.placebo_sd < 1.5  # what all share cancels


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({"past": None}, "history must have experiments and data"),
        (pd.DataFrame({"estimate": [1.0], "std_error": [0.0]}), "'std_error' must be positive"),
        (hours(100)[["ts", "y"]], "ten placebo launches"),
    ],
)
def test_past_evidence_refuses_what_it_cannot_use(history, message):
    with pytest.raises(ValueError, match=message):
        past_evidence(history, outcome="y", time="ts", unit=None, days=7, effect=1.0)


def test_interference_is_tested_by_a_saturation_pilot():
    plan = Saturation((0.2, 0.8), slice_minutes=360).schedule(start="2026-03-02", days=14, seed=1)
    rng = np.random.default_rng(0)
    rows = []
    for row in plan.table.itertuples():
        treated = rng.random(40) < row.share
        outcome = treated + 2.0 * row.share + rng.normal(size=40)
        rows.append(pd.DataFrame({"ts": row.start, "arm": treated.astype(int), "y": outcome}))
    pilot = pd.concat(rows)
    found = interference(pilot, unit=None, schedule=plan, **ROLES)
    assert found.result == "shown"
    assert found.low < 1.6 < found.high
    whole = recommend(pilot, schedule=plan, effect=1.0, platform=SMALL, **ROLES)
    screening = whole.screening.set_index("check")
    assert screening.loc["interference between viewers", "result"] == "shown"
    split = whole.table.set_index("design").loc["viewer split"]
    assert split["bias_low"] < -1
    assert interference(PILOT, unit=None, schedule=PLAN, **ROLES).result == "not tested"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effect": 0}, "effect must be a number other than 0"),
        ({"effect": np.nan}, "effect must be a number other than 0"),
        ({"days": 40}, "days must be from 1 to max_days 28"),
        ({"days": 0}, "days must be from 1"),
        ({"criterion": "luck"}, "criterion"),
        ({"seed": 1.5}, "seed must be"),
        ({"outcome": "watch"}, "'watch'"),
        ({"treatment": "arms"}, "'arms'"),
        ({"unit": "city"}, "'city'"),
        (
            {"constraints": Constraints(min_slice_minutes=35, max_slice_minutes=50)},
            "no slices of min_slice_minutes to max_slice_minutes, 35 to 50 minutes",
        ),
        ({"constraints": Constraints(n_regions=3)}, "n_regions=3 needs unit="),
    ],
)
def test_recommend_refuses_bad_arguments(changes, message):
    given = {"effect": 1.0, **ROLES, **changes}
    with pytest.raises(ValueError, match=message):
        recommend(PILOT, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"platform": "mine"}, "platform must be a LivePlatform"),
        ({"schedule": "plan.csv"}, "schedule must be a Schedule; got str"),
        ({"constraints": {"max_days": 7}}, r"constraints must be Constraints\(...\); got dict"),
    ],
)
def test_recommend_refuses_other_kinds(changes, message):
    with pytest.raises(TypeError, match=message):
        recommend(PILOT, effect=1.0, **ROLES, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(arm=2 * f["arm"]), r"column 'arm' must hold 0 and 1; got \[2.0\]"),
        (lambda f: f.assign(arm=0), "column 'arm' must hold both arms; it holds only 0"),
        (lambda f: f.assign(arm=1 - f["arm"]), "column 'arm' must be as scheduled; 336 rows"),
        (lambda f: f.assign(ts=f["ts"].dt.tz_localize("UTC")), "time"),
    ],
)
def test_recommend_refuses_a_pilot_that_is_not_its_schedule(change, message):
    with pytest.raises(ValueError, match=message):
        recommend(change(PILOT), schedule=PLAN, effect=1.0, **ROLES)


def test_recommend_registers_the_design_that_is_best():
    only = Constraints(randomise_time=False, randomise_authors=False)
    found = recommend(PILOT, effect=1.0, platform=SMALL, constraints=only, seed=3, **ROLES)
    plan = json.loads(json.dumps(found.plan))
    assert plan["design"] == "viewer split"
    assert plan["arguments"]["salt"] == "viewers"
    assert plan["arguments"]["share"] == 0.5
    assert plan["seed"] == 3
    assert plan["estimator"] == "difference in means, adjusted for the time before"
    assert found.schedule is None


def test_recommend_power_is_a_number_however_large_the_effect():
    power = recommend(PILOT, effect=50.0, platform=SMALL, **ROLES).table["power"].iloc[:-2]
    assert power.between(0.5, 1).all()


def test_power_is_that_of_the_noncentral_t():
    df, effect = np.array([3.0, 11.0, 80.0]), np.array([2.0, 1.0, 0.2])
    strength, reach = effect / 0.4, stats.t.ppf(0.975, df)
    expected = stats.nct.sf(reach, df, strength) + stats.nct.cdf(-reach, df, strength)
    np.testing.assert_allclose(_power(df, effect, np.full(3, 0.4)), expected, atol=2e-3)
    normal = _power(np.array([np.inf]), np.array([2.8]), np.array([1.0]))
    np.testing.assert_allclose(normal, stats.norm.sf(1.96 - 2.8), atol=1e-4)
    assert _power(np.array([np.inf]), np.array([1.0]), np.array([0.0])) == 1


def test_twin_designs_hold_the_bias_of_platforms_inside_the_grid():
    platform = LivePlatform(n_viewers=100, n_authors=24, seed=3)
    rows = {r.trial.label: r for r in twin_designs(platform, days=5, seed=1)}
    inside = platform.replace(psi=0.2, kappa=0.8)
    trials = [r.trial for r in rows.values()]
    run = {"strategy": Strategy(0.1), "hours": 120, "before_hours": 72, "replications": 6}
    table = compare(inside, trials, seed=9, **run).table
    for name, target, truth in table[["trial", "target", "truth"]].to_numpy():
        assert rows[name].bias_low - 0.02 < target / truth - 1 < rows[name].bias_high + 0.02
    large = {r.trial.label: r for r in twin_designs(platform, days=5, seed=1, sizes=(10_000, 96))}
    ratio = {name: large[name].error / rows[name].error for name in rows}
    np.testing.assert_allclose(ratio["viewer split"], 0.1)
    np.testing.assert_allclose([ratio["author split"], ratio["dual-sided total"]], 0.5)
    assert ratio["saturation 10/50/90"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_slice_minutes": 0}, "min_slice_minutes must be positive"),
        ({"max_days": np.inf}, "max_days must be positive"),
        ({"min_slice_minutes": 60, "max_slice_minutes": 30}, "at most max_slice_minutes 30"),
        ({"randomise_time": "no"}, "randomise_time must be True or False"),
        ({"n_regions": 0}, "n_regions must be a whole number"),
        ({"max_treated_share": 0}, r"max_treated_share must be in \(0, 1\]"),
    ],
)
def test_constraints_refuse_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        Constraints(**values)


def test_recommendation_plot_marks_the_best(found):
    import matplotlib.pyplot as plt

    ax = found.plot()
    assert ax.get_xlabel() == "standard error (units of the outcome)"
    assert "recommended" in [t.get_text() for t in ax.get_legend().get_texts()]
    plt.close("all")


def test_recommendation_summary_names_the_effect_and_a_power_that_is_too_low(found):
    first = found.summary().splitlines()[0]
    best = found.best["design"]
    assert first.startswith(f"to tell an effect of 1 on y from none, run {best} for 14 days: ")
    assert "in units of y" in first
    tiny = found.best.replace({found.best["bias_low"]: -1e-9, found.best["bias_high"]: -0.0})
    assert "bias 0 to 0," in replace(found, best=tiny).summary()
    low, high = (replace(found, best=found.best.copy()) for _ in range(2))
    low.best["power"], high.best["power"] = 0.55, 0.85
    assert "power is below 0.8: 45% of such experiments would not find the effect" in str(low)
    assert "power is below" not in str(high)
