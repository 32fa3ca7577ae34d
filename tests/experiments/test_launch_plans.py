"""A launch in one region, read by synthetic control, among the designs of a recommendation."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from test_pilot_model import hours
from test_sections import written

from experiments import Constraints, recommend
from experiments.planning.candidates import SYNTHETIC
from experiments.planning.past_evidence import past_evidence
from recsys import LivePlatform

SMALL = LivePlatform(n_viewers=60, n_authors=12, seed=1)
ROLES = {"outcome": "y", "time": "ts", "unit": "city"}
NOBODY = Constraints(randomise_viewers=False, randomise_authors=False, randomise_time=False)
DAYS = 40


def cities(values, start="2026-01-01"):
    """Regions by days as rows."""
    days = pd.date_range(start, periods=values.shape[1])
    return pd.concat(
        [pd.DataFrame({"ts": days, "y": row, "city": f"c{k}"}) for k, row in enumerate(values)]
    )


def factors(n_regions, noise, seed=0):
    """Regions that follow two common paths, each in its own measure."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, n_regions)[:, None]
    paths = rng.normal(size=(2, DAYS)).cumsum(axis=1)
    smooth = 20 + share * paths[0] + (1 - share) * paths[1]
    return smooth + noise * rng.normal(size=(n_regions, DAYS))


def evidence(table, **changes):
    return past_evidence(table, **{**ROLES, "days": 7, "effect": 1.0, **changes})


def hourly(n_regions):
    """An untreated pilot of two weeks."""
    return pd.concat(
        [hours(336, memory=0.5, seed=k)[["ts", "y"]].assign(city=f"c{k}") for k in range(n_regions)]
    )


def test_past_evidence_launches_nothing_in_every_region_and_reads_it_by_donors():
    found = evidence(cities(factors(8, 0.1))).synthetic
    starts = DAYS - 2 * 7 + 1
    assert found.n_regions == 8
    assert found.n_launches == 8 * min(starts, 24)
    assert found.days == 7
    assert found.reason == ""
    equal = evidence(cities(factors(8, 0.1)))
    assert found.sd < 0.5 * equal.placebo_sd  # equal weights do not follow what donors do
    assert abs(found.mean) < found.sd


def test_past_evidence_of_regions_that_differ_in_level_alone_reads_nothing():
    steps = np.random.default_rng(1).normal(size=DAYS)
    found = evidence(cities(np.arange(6)[:, None] + steps)).synthetic
    np.testing.assert_allclose([found.mean, found.sd], 0, atol=1e-8)


def test_past_evidence_of_independent_regions_has_the_error_of_two_means():
    rng = np.random.default_rng(3)
    found = evidence(cities(20 + rng.normal(size=(10, DAYS)))).synthetic
    assert np.sqrt(1 / 7) < found.sd < 2 * np.sqrt(2 / 7)


@pytest.mark.parametrize("change", [lambda t: t.sample(frac=1, random_state=0), lambda t: t[::-1]])
def test_past_evidence_does_not_hang_on_the_order_of_rows(change):
    table = cities(factors(5, 0.1))
    one, two = evidence(table).synthetic, evidence(change(table)).synthetic
    np.testing.assert_allclose([one.mean, one.sd], [two.mean, two.sd], rtol=1e-9)


def test_past_evidence_scales_with_the_outcome():
    values = factors(5, 0.2)
    one, two = (evidence(cities(v)).synthetic for v in (values, 7 - 3 * values))
    np.testing.assert_allclose([-3 * one.mean, 3 * one.sd], [two.mean, two.sd], rtol=1e-7)


@pytest.mark.parametrize(
    ("table", "changes", "reason"),
    [
        (cities(factors(5, 0.1)), {"unit": None}, "no donor regions: no column says the region"),
        (cities(factors(3, 0.1)), {}, "no donor regions: 3 in the data, and 4 are the fewest"),
        (None, {}, r"no past data \(history\)"),
        (
            None,
            {"untreated": cities(factors(4, 0.1)[:, :3])},
            "3 whole days of 4 regions are too few for ten",
        ),
    ],
)
def test_past_evidence_says_why_no_launch_can_be_predicted(table, changes, reason):
    found = evidence(table, **changes).synthetic
    assert found.mean is None
    assert found.sd is None
    assert pd.Series([found.reason]).str.contains(reason).all()


def test_recommend_takes_one_region_and_donors_where_nothing_is_drawn_by_lot(tmp_path):
    found = recommend(
        hourly(2),
        effect=1.0,
        days=7,
        constraints=NOBODY,
        history=cities(factors(8, 0.1)),
        platform=SMALL,
        **ROLES,
    )
    best = found.best
    assert best["design"] == SYNTHETIC
    assert best["bias_low"] <= 0 <= best["bias_high"]
    np.testing.assert_allclose(best["std_error"], evidence(cities(factors(8, 0.1))).synthetic.sd)
    table = found.table.set_index("design")
    equal = table.loc["difference-in-differences, one region"]
    assert equal["rejected"] == ""
    assert best["rmse"] < equal["rmse"]
    assert best["power"] > equal["power"]
    assert found.schedule is None
    plan = json.loads(json.dumps(found.plan))
    assert plan["estimator"] == "synthetic_control, demeaned, daily"
    assert plan["inference"] == "placebo launches"
    screening = found.screening.set_index("check").loc["launch in one region"]
    assert screening["result"] == "192 placebos"
    assert "they do not show what the others would have caught" in screening["detail"]
    document, page, _ = written(tmp_path, found)
    rows = document["sections"][0]["tables"]["designs"]
    assert rows[0]["design"] == SYNTHETIC
    assert "192 placebos" in page.words


def test_recommend_predicts_the_launch_from_an_untreated_pilot():
    pilot = hourly(4)
    rules = Constraints(randomise_viewers=False, randomise_authors=False)
    given = {"effect": 1.0, "days": 4, "platform": SMALL, "constraints": rules, **ROLES}
    found = recommend(pilot, **given)
    row = found.table.set_index("design").loc[SYNTHETIC]
    assert row["rejected"] == "not drawn by lot: where something may be, draw it"
    assert row["std_error"] > 0
    nothing = recommend(pilot, **{**given, "unit": None})
    one = nothing.table.set_index("design").loc[SYNTHETIC]
    assert one["rejected"] == "no donor regions: no column says the region"
    assert np.isnan(one["std_error"])
    rest, same = (
        f.table[f.table["design"] != SYNTHETIC].reset_index(drop=True) for f in (found, nothing)
    )
    numbers = ["slice_minutes", "bias_low", "bias_high", "rejected"]
    pd.testing.assert_frame_equal(rest[numbers], same[numbers])


def test_recommend_rejects_a_launch_that_treats_too_many():
    few = Constraints(**{**asdict(NOBODY), "max_treated_share": 0.1})
    past = cities(factors(5, 0.1))
    found = recommend(
        hourly(1), effect=1.0, days=4, platform=SMALL, constraints=few, history=past, **ROLES
    )
    row = found.table.set_index("design").loc[SYNTHETIC]
    assert row["rejected"] == "treats one region of 5 at once"
