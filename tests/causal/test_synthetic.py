"""synthetic_control: exact cases, other ways to the same numbers, what must not matter."""

import json

import numba
import numpy as np
import polars as pl
import pytest
from matplotlib.text import Text
from simplex_problems import first_unit
from synthetic_panels import (
    ROLES,
    START,
    as_table,
    control,
    factor_outcomes,
    quiet_control,
    weights_of,
)

from causal import EstimationWarning, Predictor, SyntheticControl, synthetic_control

BEFORE = START - 1


@pytest.fixture(scope="module")
def outcome():
    return factor_outcomes()


@pytest.fixture(scope="module")
def result(outcome):
    return control(outcome)


# --- exact ----------------------------------------------------------------------------------------


def test_synthetic_control_recovers_weights_and_effect_without_noise():
    rng = np.random.default_rng(1)
    donors = rng.normal(size=(5, 20)) + rng.normal(size=20).cumsum()
    share = np.array([0.5, 0.3, 0.2, 0.0, 0.0])
    path = share @ donors
    path[BEFORE:] += np.arange(20 - BEFORE)
    with pytest.warns(EstimationWarning, match="fewer than 5 are left"):
        found = control(np.vstack([path, donors]))
    np.testing.assert_allclose(weights_of(found, 6)[1:], share, atol=1e-6)
    np.testing.assert_allclose(found.gap.estimate[:BEFORE], 0, atol=1e-6)
    np.testing.assert_allclose(found.gap.estimate[BEFORE:], np.arange(6), atol=1e-6)
    assert found.estimate == pytest.approx(2.5, abs=1e-6)
    assert found.unique
    assert list(found.donor_weights)[:3] == ["c01", "c02", "c03"]


def test_synthetic_control_weights_are_the_nearest_point(outcome, result):
    w, _ = first_unit(outcome[:, :BEFORE] - outcome[:, :BEFORE].mean(axis=0))
    np.testing.assert_allclose(weights_of(result, 11), w, atol=1e-9)
    gap = outcome[0] - w @ outcome
    np.testing.assert_allclose(result.gap.estimate, gap, atol=1e-9)
    assert result.estimate == pytest.approx(gap[BEFORE:].mean())
    assert result.pre_rmspe == pytest.approx(np.sqrt((gap[:BEFORE] ** 2).mean()))
    assert result.post_rmspe == pytest.approx(np.sqrt((gap[BEFORE:] ** 2).mean()))
    assert result.fit_quality == pytest.approx(
        result.pre_rmspe / outcome[0, :BEFORE].std(ddof=1), rel=1e-9
    )
    assert result.duality_gap <= 1e-10
    synthetic = result.path.set_index("time")["synthetic"]
    np.testing.assert_allclose(synthetic, w @ outcome, rtol=1e-9)
    assert result.effect.baseline == pytest.approx(synthetic.loc[START:].mean())
    assert list(result.balance["predictor"][:2]) == ["gmv at 1", "gmv at 2"]
    np.testing.assert_allclose(result.balance["donors_mean"], outcome[1:, :BEFORE].mean(axis=0))


def test_synthetic_control_placebos_are_the_analyses_of_each_donor(outcome, result):
    table = result.placebo.set_index("unit")
    ratios = [result.post_rmspe / result.pre_rmspe]
    for j in range(1, 11):
        own = quiet_control(outcome[1:], treated=f"c{j - 1:02d}")
        row = table.loc[f"c{j:02d}"]
        assert row["pre_rmspe"] == pytest.approx(own.pre_rmspe, rel=1e-6)
        assert row["post_rmspe"] == pytest.approx(own.post_rmspe, rel=1e-6)
        np.testing.assert_allclose(result.placebo_gaps[j - 1], own.gap.estimate, atol=1e-7)
        ratios.append(row["ratio"])
    assert result.p_value == pytest.approx(np.mean(np.array(ratios) >= ratios[0]))
    assert table["rank"].iloc[0] == round(11 * result.p_value)


def test_synthetic_control_error_is_the_root_mean_square_of_placebo_means(result):
    fits = result.placebo["in_std_error"].to_numpy()[1:]
    means = result.placebo_gaps[fits][:, BEFORE:].mean(axis=1)
    assert result.std_error == pytest.approx(np.sqrt((means**2).mean()))
    after = np.where(np.arange(20) >= BEFORE, 1.0, 0.0)
    mean = result.gap.average(after)
    assert mean.estimate == pytest.approx(result.estimate)
    assert mean.std_error == pytest.approx(result.std_error)
    limit = 5 * result.pre_rmspe
    np.testing.assert_array_equal(fits, result.placebo["pre_rmspe"].to_numpy()[1:] <= limit)
    assert str(int((~fits).sum())) in result.effect.details["std_error"]


def test_synthetic_control_leave_one_out_is_the_analysis_without_the_donor(outcome, result):
    assert set(result.leave_one_out["left_out"]) == set(result.donor_weights)
    for row in result.leave_one_out.head(3).itertuples():
        names = [f"c{i:02d}" for i in range(1, 11) if f"c{i:02d}" != row.left_out]
        own = control(outcome, donors=names)
        assert row.estimate == pytest.approx(own.estimate, abs=1e-8)
        assert row.pre_rmspe == pytest.approx(own.pre_rmspe, rel=1e-8)


def test_synthetic_control_of_two_donors_is_a_line():
    rng = np.random.default_rng(2)
    donors = np.vstack([np.zeros(20), np.ones(20)]) + rng.normal(0, 0.1, (2, 20))
    path = 0.3 + rng.normal(0, 0.1, 20)
    found = quiet_control(np.vstack([path, donors]))
    step = donors[1, :BEFORE] - donors[0, :BEFORE]
    share = step @ (path[:BEFORE] - donors[0, :BEFORE]) / (step @ step)
    assert found.donor_weights["c02"] == pytest.approx(share, abs=1e-9)


def test_synthetic_control_fixed_effect_is_the_analysis_of_demeaned_outcomes(outcome):
    moved = outcome - outcome[:, :BEFORE].mean(axis=1, keepdims=True)
    found, plain = control(outcome, fixed_effect=True), control(moved)
    np.testing.assert_allclose(weights_of(found, 11), weights_of(plain, 11), atol=1e-8)
    np.testing.assert_allclose(found.gap.estimate, plain.gap.estimate, atol=1e-8)
    np.testing.assert_allclose(found.path["observed"], outcome[0], rtol=1e-12)
    shifted = control(outcome + 5 * np.arange(11)[:, None], fixed_effect=True)
    assert shifted.estimate == pytest.approx(found.estimate, abs=1e-8)
    assert shifted.std_error == pytest.approx(found.std_error, rel=1e-8)


def test_synthetic_control_large_penalty_is_the_nearest_donor(outcome):
    distance = ((outcome[1:, :BEFORE] - outcome[0, :BEFORE]) ** 2).sum(axis=1)
    found = quiet_control(outcome, penalty=1e5)
    assert found.donor_weights == {f"c{1 + distance.argmin():02d}": 1.0}


# --- several treated units, several starts --------------------------------------------------------


def test_synthetic_control_of_several_is_the_mean_of_each_without_pooling():
    outcome = factor_outcomes(seed=3, treated=2, donors=8)
    both = control(outcome, treated=["c00", "c01"], pooling=0.0)
    donors = [f"c{i:02d}" for i in range(2, 10)]
    each = [control(outcome, treated=f"c0{i}", donors=donors) for i in (0, 1)]
    assert both.estimate == pytest.approx(np.mean([r.estimate for r in each]), abs=1e-9)
    gaps = np.mean([r.gap.estimate for r in each], axis=0)
    np.testing.assert_allclose(both.gap.estimate, gaps, atol=1e-8)
    assert len(both.placebo) == 1 + 8 * 7 / 2  # every pair of donors
    assert both.p_value >= 1 / 29
    assert set(both.unit_weights["treated"]) == {"c00", "c01"}
    assert both.unit_weights["weight"].sum() == pytest.approx(2)


def test_synthetic_control_pooling_trades_single_fits_for_that_of_the_mean():
    outcome = factor_outcomes(seed=4, treated=3, donors=9, noise=1.0)
    names = ["c00", "c01", "c02"]
    found = [control(outcome, treated=names, pooling=nu) for nu in (0.0, 0.5, 1.0)]
    fits = [r.pre_rmspe for r in found]
    assert fits[0] >= fits[1] >= fits[2]
    assert max(r.duality_gap for r in found) <= 1e-10
    own = control(outcome, treated=names)
    assert 0 < own.pooling < 1
    assert control(outcome, treated=names, pooling=own.pooling).estimate == pytest.approx(
        own.estimate, abs=1e-6
    )


def test_synthetic_control_aligns_different_starts_at_event_time():
    outcome = factor_outcomes(seed=5, treated=2, donors=8, effect=0.0, noise=0.1)
    starts = {"c00": 12, "c01": 16}
    for i, start in enumerate(starts.values()):
        outcome[i, start - 1 :] += 3.0
    table = as_table(outcome)
    table["cohort"] = table["city"].map(starts)
    found = synthetic_control(table, cohort="cohort", pooling=0.0, **ROLES)
    assert found.gap.index_name == "event_time"
    assert found.gap.index == tuple(range(-15, 9))
    assert found.start == 0
    donors = [f"c{i:02d}" for i in range(2, 10)]
    each = [control(outcome, treated=c, start=s, donors=donors) for c, s in starts.items()]
    cells = [9, 5]
    assert found.estimate == pytest.approx(
        np.average([r.estimate for r in each], weights=cells), abs=1e-8
    )
    at_zero = np.mean([r.gap.at(s).estimate for r, s in zip(each, (12, 16), strict=True)])
    assert found.gap.at(0).estimate == pytest.approx(at_zero, abs=1e-8)
    assert found.gap.at(-15).estimate == pytest.approx(each[1].gap.at(1).estimate, abs=1e-8)
    assert found.effect.details["treated_cells"] == 14
    assert found.plot("gap").get_xlabel() == "event time"


# --- what must not matter -------------------------------------------------------------------------


def numbers_of(found):
    return np.array([found.estimate, found.std_error, found.p_value, found.pre_rmspe])


def test_synthetic_control_ignores_row_order_and_follows_the_outcome(outcome, result):
    table = as_table(outcome)
    roles = {"treated": "c00", "start": START, **ROLES}
    shuffled = synthetic_control(table.sample(frac=1, random_state=0), **roles)
    np.testing.assert_allclose(numbers_of(shuffled), numbers_of(result), rtol=1e-12)
    scaled = synthetic_control(table.assign(gmv=7 - 60 * table["gmv"]), **roles)
    expected = numbers_of(result) * [-60, 60, 1, 60]
    np.testing.assert_allclose(numbers_of(scaled), expected, rtol=1e-7)
    common = table.assign(gmv=table["gmv"] + np.sin(table["week"]) * 5)
    np.testing.assert_allclose(
        numbers_of(synthetic_control(common, **roles)), numbers_of(result), rtol=1e-7
    )
    far = synthetic_control(table.assign(gmv=table["gmv"] + 1e9), **roles)
    np.testing.assert_allclose(numbers_of(far), numbers_of(result), rtol=1e-5)
    huge = synthetic_control(table.assign(gmv=table["gmv"] * 1e150), **roles)
    np.testing.assert_allclose(numbers_of(huge)[:2] / 1e150, numbers_of(result)[:2], rtol=1e-9)


def test_synthetic_control_reads_every_way_to_say_who_is_treated(outcome, result, tmp_path):
    table = as_table(outcome)
    first = table["city"] == "c00"
    table["on"] = first.astype(int)
    table["now"] = (first & (table["week"] >= START)).astype(int)
    table["from"] = np.where(first, START, np.nan)
    path = tmp_path / "cities.parquet"
    table.to_parquet(path)
    for given, source in (
        ({"treatment": "on", "start": START}, table),
        ({"treatment": "now"}, pl.from_pandas(table)),
        ({"cohort": "from"}, str(path)),
        ({"treated": ["c00"], "start": START}, table.iloc[::-1]),
    ):
        found = synthetic_control(source, **given, **ROLES)
        np.testing.assert_allclose(numbers_of(found), numbers_of(result), rtol=1e-9)


def test_synthetic_control_gives_the_same_bits_with_one_and_two_threads(outcome):
    before = numba.get_num_threads()
    found = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        found.append(control(outcome))
    numba.set_num_threads(before)
    assert found[0].estimate == found[1].estimate
    assert found[0].donor_weights == found[1].donor_weights
    assert found[0].std_error == pytest.approx(found[1].std_error, rel=1e-12)


def test_synthetic_control_weights_of_doubled_donors_are_not_unique(outcome):
    doubled = np.vstack([outcome, outcome[1:]])
    found = control(doubled)
    assert not found.unique
    assert "not unique" in found.summary()
    assert found.estimate == pytest.approx(control(outcome).estimate, abs=1e-5)


def test_synthetic_control_perfect_fit_with_many_donors_is_not_unique():
    rng = np.random.default_rng(8)
    donors = rng.normal(size=(60, 20))
    path = donors[:, :].mean(axis=0)
    with pytest.warns(EstimationWarning, match="fewer than 5 are left"):
        found = control(np.vstack([path, donors]))
    assert found.pre_rmspe < 1e-5
    assert not found.unique
    assert np.isfinite(found.placebo["ratio"]).all()


def test_synthetic_control_error_does_not_rest_on_donors_that_fit_each_other():
    """Two identical donors fit each other exactly, as the treated is fitted: no other placebo."""
    rng = np.random.default_rng(1)
    outcome = 10 + rng.uniform(0, 1, (12, 2)) @ rng.normal(size=(20, 2)).cumsum(axis=0).T
    outcome += 0.3 * rng.normal(size=outcome.shape)
    outcome[2] = outcome[1]
    outcome[0] = 0.5 * outcome[3] + 0.5 * outcome[4]
    outcome[0, BEFORE:] += 3
    with pytest.warns(EstimationWarning, match="fewer than 5 are left"):
        found = control(outcome)
    assert found.estimate == pytest.approx(3)
    assert found.std_error > 0.1


def test_synthetic_control_warns_of_few_placebos():
    with pytest.warns(EstimationWarning) as caught:
        control(factor_outcomes()[:5])
    words = "rests on only 4 placebos, and the p-value cannot be below 0.2"
    assert words in str(caught[-1].message)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"donors": 5}, TypeError, "donors must be a list of units of 'city'; got 5"),
        ({"donors": [1, 2]}, ValueError, r"\[1, 2\] are not in the table, which has \['c00'"),
        ({"predictors": Predictor("gmv")}, TypeError, "predictors must be a list"),
        ({"penalty": np.nan}, ValueError, "penalty must be finite; got nan"),
    ],
)
def test_synthetic_control_names_what_is_no_list_or_number(outcome, options, error, words):
    with pytest.raises(error, match=words):
        control(outcome, **options)


def test_synthetic_control_answers_at_its_own_level(outcome):
    found = control(outcome, level=0.8)
    assert found.conf_int() == found.effect.conf_int(0.8)
    exact = control(outcome, inference="conformal", level=0.9)
    assert exact.conf_int() == exact.interval


# --- the result -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"inference": "conformal", "level": 0.9}])
def test_synthetic_control_survives_json_and_draws_every_plot(outcome, options):
    found = control(outcome, **options)
    back = SyntheticControl.from_dict(json.loads(json.dumps(found.to_dict())))
    assert back == found
    assert back.summary() == found.summary()
    assert back.to_frame().loc[0, "p_value"] == found.p_value
    for kind in ("paths", "gap", "placebo", "weights", "leave_one_out"):
        axes = back.plot(kind)
        assert "1 treated, 10 donors" in axes.get_title(loc="left")
        assert axes.has_data()
        assert kind == "weights" or axes.get_ylabel() in ("mean of gmv", "gap in gmv")
        axes.figure.clear()
    with pytest.raises(ValueError, match="kind must be one of"):
        back.plot("pie")


def test_synthetic_control_plots_dates_and_hostile_labels():
    outcome = factor_outcomes()
    days = np.arange("2026-03-01", "2026-03-21", dtype="datetime64[D]")
    names = ["$x^{", *[f"<b>{i}" for i in range(10)]]
    table = as_table(outcome, times=days, names=names)
    found = synthetic_control(table, treated="$x^{", start="2026-03-15", **ROLES)
    assert found.start == "2026-03-15"
    for kind in ("paths", "weights", "placebo"):
        figure = found.plot(kind).figure
        figure.canvas.draw()
        figure.clear()
    assert "<b>" not in found._repr_html_()


@pytest.mark.parametrize("kind", ["paths", "gap", "placebo", "leave_one_out"])
def test_synthetic_control_title_stands_above_the_legend(result, kind):
    axes = result.plot(kind)
    axes.figure.canvas.draw()
    said = axes.get_title(loc="left")
    title = next(t for t in axes.findobj(Text) if t.get_text() == said)
    assert axes.get_legend().get_window_extent().y1 <= title.get_window_extent().y0
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
    axes.figure.clear()


def test_synthetic_control_summary_says_what_the_p_value_can_be(outcome, result):
    text = result.summary()
    assert "ATT on gmv" in text
    assert "normal, from placebos), p = " in text
    assert "of 11 ratios of post- to pre-period RMSPE; 10 placebos allow no p below 0.091" in text
    shifts = control(outcome, inference="conformal", level=0.9).summary()
    assert "conformal, of a constant effect), p = " in shifts
    assert "20 periods allow no p below 0.05" in shifts
    total = result.effect.details["total"]
    assert total == pytest.approx(6 * result.estimate)
    assert result.effect.details["outcome"] == "gmv"


def test_synthetic_control_keeps_what_it_warned_of(outcome):
    with pytest.warns(EstimationWarning) as caught:
        found = control(outcome + 40 * (np.arange(11)[:, None] == 0))
    said = [str(w.message) for w in caught]
    assert list(found.effect.details["warnings"]) == said
    assert all(f"warned: {one}" in found.summary() for one in said)


def test_synthetic_control_summary_says_fit_donors_and_assumptions(result):
    text = result.summary()
    for part in ("ATT", "rank", "RMSPE", "donors: ", "assumes", "treated cells", "6 after"):
        assert part in text
