"""Panel studies: options that are passed on, what stands beside the answer, whose mistake it is."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
from panel_tables import CITY, COLUMNS, DID, cities, panel, study

from causal import EstimationWarning, Predictor, event_study, synthetic_control
from experiments import run_panel
from experiments.errors import DataError


@pytest.mark.parametrize(
    ("starts", "part", "said"),
    [
        ((4, 6), {}, "never treated"),
        ((4, 6), {"estimators": ["sun_abraham"]}, "never treated"),
        ((4, 6), {"estimators": ["imputation_effects"]}, "treated later or never"),
        ((4, 6), {"estimators": ["diff_in_diff"]}, "treated earlier, later or never"),
        ((4,), {}, "never treated"),
        ((4,), {"estimators": ["imputation_effects"]}, "never treated"),
    ],
)
def test_run_panel_says_with_whom_it_compares(tmp_path, starts, part, said):
    found = run_panel(study(tmp_path, panel(starts), {**DID, "cohort": "start", **part}))
    assert f", with those that were {said}, on y" in found.answer[0]


@pytest.mark.parametrize(
    ("estimators", "said"),
    [
        (["group_time_effects"], "treated later"),
        (["imputation_effects"], "treated later"),
        (["sun_abraham"], "treated last"),
    ],
)
def test_run_panel_without_never_treated_says_with_whom_it_compares(tmp_path, estimators, said):
    table = panel()
    part = {**DID, "cohort": "start", "estimators": estimators}
    found = run_panel(study(tmp_path, table[table["start"].notna()], part))
    assert f", with those that were {said}, on y" in found.answer[0]


def test_run_panel_says_what_strata_warn_of_beside_them(tmp_path):
    table = panel(starts=(1, 1, 8))  # late effects of the first weigh negatively
    part = {**DID, "cohort": "start", "stratum": "state"}
    found = run_panel(study(tmp_path, table, part))
    strata = " ".join(next(s for s in found.sections if s.key == "strata").sentences)
    assert "two-way fixed effects within it, unlike the headline's (group-time" in strata
    assert "A warning: treatment starts at 2 times (1, 8): " in strata
    assert found.warnings == ()
    assert "should be read" not in found.answer[-1]
    part["estimators"] = ["diff_in_diff"]
    found = run_panel(study(tmp_path, table, part))
    strata = " ".join(next(s for s in found.sections if s.key == "strata").sentences)
    assert "A warning" not in strata
    assert "unlike" not in strata
    assert any("treatment starts at 2 times" in text for text in found.warnings)


def test_run_panel_passes_covariance_and_aggregate_on(tmp_path):
    table = panel(starts=(4,))
    part = {**DID, "cohort": "start", "stratum": "state"}
    more = {"aggregate": "sum", "covariance": "CR2"}
    found = run_panel(study(tmp_path, pd.concat([table, table]), {**part, **more}))
    expected = event_study(table.assign(y=2 * table["y"]), **COLUMNS, cohort="start",
                           covariance="CR2")  # fmt: skip
    assert found.effect.estimate == pytest.approx(expected.estimate, rel=1e-9)
    assert found.effect.std_error == pytest.approx(expected.std_error, rel=1e-9)
    assert list(found.results) == [
        "event_study", "imputation_effects", "diff_in_diff", "stratified_did",
    ]  # fmt: skip
    said = {s.key: s.sentences for s in found.sections}
    assert "Errors are CR2, but not those of imputation." in said["robustness"]
    assert "Errors here are CR1, not CR2." in said["strata"]


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"cluster": "x"}, "cluster"),
        ({"stratum": "x"}, "stratum"),
        ({"cluster": "state", "stratum": "x"}, "stratum"),
        ({"stratum": "state", "weights": {"new": 0.5, "old": 0.5}}, "weights"),
        ({"covariance": "CR2"}, "covariance"),
        ({"covariance": "HC1", "cluster": "state", "estimators": ["event_study"]}, "covariance"),
        ({"covariates": ["x"], "aggregate": "sum"}, "aggregate"),
        ({"cohort": None, "treatment": "x", "start": 4}, "treatment"),
        ({"cohort": None, "treatment": "gets", "start": 99}, "start"),
    ],
)
def test_run_panel_names_the_key_that_a_panel_gets_wrong(tmp_path, part, place):
    part = {key: v for key, v in {**DID, "cohort": "start", **part}.items() if v is not None}
    with pytest.raises(DataError) as caught:
        run_panel(study(tmp_path, panel(), part))
    assert f"study.yaml: panel.{place}: " in str(caught.value)


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"treated": "Chendu"}, "treated"),
        ({"donors": ["c01", "c99"]}, "donors"),
        ({"donors": ["c01"]}, "donors"),
        ({"donors": ["c01", "Chengdu"]}, "donors"),
        ({"start": 0}, "start"),
        ({"start": 1}, "start"),
        ({"start": 99}, "start"),
        ({"predictors": [{"column": "y", "stop": 20}]}, "predictors.0"),
        ({"predictors": [{"column": "y", "stop": 20}, {"column": "y"}]}, "predictors"),
        ({"predictors": [{"column": "y", "start": "a"}]}, "predictors.0"),
        ({"predictors": [{"column": "y"}], "inference": "conformal"}, "inference"),
        ({"predictors": [{"column": "y"}], "predictor_weights": {"z": 1}}, "predictor_weights"),
    ],
)
def test_run_panel_names_the_key_that_a_control_gets_wrong(tmp_path, part, place):
    part = {**CITY, "treated": "Chengdu", "start": 18, **part}
    with pytest.raises(DataError) as caught:
        run_panel(study(tmp_path, cities(), part))
    assert f"study.yaml: panel.{place}: " in str(caught.value)


def test_run_panel_says_what_other_controls_warn_of_beside_them(tmp_path):
    found = run_panel(study(tmp_path, cities(), {**CITY, "treated": "Chengdu", "start": 18}))
    assert found.warnings == ()
    said = "Synthetic DID: the standard error rests on only 11 placebo sets of donors; "
    assert any(sentence.startswith(said) for sentence in found.sections[-1].sentences)


@pytest.mark.parametrize(
    "options",
    [
        {"augment": "ridge", "fixed_effect": True},
        {"predictors": [{"column": "y"}, {"column": "x"}], "predictor_weights": "equal"},
        {"predictors": [{"column": "y"}, {"column": "x"}], "predictor_weights": {"y": 2, "x": 1}},
    ],
)
def test_run_panel_passes_the_options_of_a_control_on(tmp_path, options):
    table = cities().assign(x=lambda rows: rows.groupby("city")["y"].transform("max"))
    who = {"treated": "Chengdu", "start": 18, "estimators": ["synthetic_control"]}
    found = run_panel(study(tmp_path, table, {**CITY, **who, **options}))
    windows = [Predictor(one["column"]) for one in options.get("predictors", ())]
    arguments = {"outcome": "y", "unit": "city", "time": "week", "treated": "Chengdu", "start": 18}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        expected = synthetic_control(table, **arguments, **{**options, "predictors": windows})
    assert found.effect.estimate == expected.estimate


def test_run_panel_adds_up_rows_for_controls_that_take_them(tmp_path):
    table = cities()
    part = {**CITY, "treated": "Chengdu", "start": 18, "aggregate": "sum"}
    part["estimators"] = ["synthetic_diff_in_diff", "factor_effects"]
    twice = run_panel(study(tmp_path, pd.concat([table, table]), part)).results
    once = run_panel(study(tmp_path, table, part)).results
    for name in part["estimators"]:
        assert twice[name].estimate == pytest.approx(2 * once[name].estimate, rel=1e-6)


def test_run_panel_says_of_each_control_what_it_assumes(tmp_path):
    said = {
        "synthetic_control": "would have gone on as the weighted donors did",
        "synthetic_diff_in_diff": "would have moved in parallel to the weighted donors",
        "factor_effects": "untreated outcomes follow unit and period effects and a few common",
    }
    for name, words_of_it in said.items():
        part = {**CITY, "treated": "Chengdu", "start": 18, "estimators": [name]}
        found = run_panel(study(tmp_path, cities(), part))
        assert words_of_it in found.answer[2]
        assert words_of_it in found.sections[0].sentences[-1]
        page = found.write(tmp_path / name).html.read_text("utf-8").rpartition("Provenance")[0]
        assert ("donor" in page) == (name != "factor_effects")
        assert ("synthetic control" in page) == (name == "synthetic_control")
        assert ("fitted without treatment" in page) == (name == "factor_effects")
