"""Panel studies: what they may say, how mistakes are named, what they find and write."""

from __future__ import annotations

import html
import json
import re
import runpy
import shutil

import numpy as np
import pandas as pd
import pytest
from cli_server import ROOT, livelift
from panel_tables import CITY, COLUMNS, DID, cities, panel, study

from causal import (
    Effect,
    EffectCurve,
    EstimationWarning,
    diff_in_diff,
    event_study,
    group_time_effects,
    honest_did,
    imputation_effects,
    stratified_did,
    sun_abraham,
    synthetic_control,
    synthetic_diff_in_diff,
)
from experiments import PanelResult, Study, load_study, run_panel, run_study
from experiments.errors import DataError, StudyError
from experiments.report.wording import change_text, digits

__all__ = ["livelift"]  # a fixture

YAML = """\
version: 1
title: The pendant
data: {log: panel.parquet}
panel:
  kind: diff_in_diff
  outcome: y
  unit: u
  time: week
  cohort: start
"""


def complaint(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def words(files):
    page = files.html.read_text("utf-8")
    page = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


# --- what a study may say -------------------------------------------------------------------------


def test_load_study_reads_panels(tmp_path):
    (tmp_path / "study.yaml").write_text(YAML)
    read = load_study(tmp_path / "study.yaml")
    assert read.panel is not None
    assert (read.panel.kind, read.panel.cohort) == ("diff_in_diff", "start")
    assert Study.model_validate(read.model_dump()).model_dump() == read.model_dump()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: diff_in_diff", "kind: did", "line 4: panel: kind must be diff_in_diff or synth"),
        ("  kind: diff_in_diff\n", "", "line 4: panel: key 'kind' is required: diff_in_diff or "),
        ("  unit: u\n", "", "line 4: panel: key 'unit' is required"),
        ("unit: u", "unt: u", "line 7: panel: unknown key 'unt'; allowed: kind, cluster, "),
        ("  cohort: start\n", "", "line 4: panel: exactly one of 'cohort' and 'treatment' is "),
        ("start", "start\n  treatment: d", "line 4: panel: exactly one of 'cohort' and 'treat"),
        ("start", "start\n  start: 3", "line 4: panel: 'start' does not go with 'cohort'"),
        ("cohort: start", "treatment: d\n  never: 0", "line 4: panel: 'never' goes with 'cohort'"),
        ("unit: u", "unit: y", "line 4: panel: column 'y' is both 'outcome' and 'unit'"),
        ("start", "start\n  start: 2026-05-03", "put the date in quotes"),
        ("start", "start\n  weights: population", "line 4: panel: 'weights' goes with 'stratum'"),
        (
            "start",
            "start\n  stratum: s\n  weights: {a: 0.5, b: 0.4}",
            "line 4: panel: 'weights' must be >= 0 and sum to 1 over the strata; they sum to 0.9",
        ),
        (
            "start",
            "start\n  covariance: CR2\n  estimators: [sun_abraham, event_study]",
            "line 4: panel: 'covariance' goes with event_study and diff_in_diff, and sun_abraham",
        ),
        ("start", "start\n  covariance: CR9", "line 10: panel.covariance: must be 'CR1', 'CR2'"),
        ("start", "start\n  aggregate: max", "line 10: panel.aggregate: must be 'mean' or 'sum'"),
        (
            "start",
            "start\n  covariates: [x]\n  aggregate: sum\n  estimators: [imputation_effects]",
            "line 4: panel: 'aggregate' goes with event_study and diff_in_diff where there are",
        ),
        ("start", "start\n  sensitivity: [-1]", "line 10: panel.sensitivity: bounds must be "),
        ("start", "start\n  sensitivity: [1, 1]", "line 10: panel.sensitivity: a bound must not"),
        ("start", "start\n  estimators: [ols]", "line 10: panel.estimators.0: must be 'event_st"),
        (
            "start",
            "start\n  estimators: [event_study, event_study]",
            "line 10: panel.estimators: an estimator must not repeat",
        ),
        (
            "cohort: start",
            "treatment: d\n  covariates: [x]\n  estimators: [sun_abraham]",
            "line 4: panel: sun_abraham with covariates needs 'cohort'",
        ),
        ("data: {log: panel.parquet}\n", "", "line 1: key 'data' is required"),
        ("{log: panel.parquet}", "{open_bandit: [men]}", "line 1: 'panel' reads units over time"),
        ("panel:\n", "report: {adjust: bh}\npanel:\n", "line 1: 'adjust' goes with 'metrics'"),
        (
            "panel:\n",
            "experiment: {arm: a}\nmetrics: {m: {kind: mean, outcome: y}}\npanel:\n",
            "line 1: 'panel' does not go with 'experiment'; make two files",
        ),
        (
            "panel:\n",
            "platform: {n_viewers: 9, n_authors: 2}\npanel:\n",
            "line 1: a study reads a log or simulates: 'data' does not go with 'platform'",
        ),
    ],
)
def test_load_study_names_what_is_wrong_with_a_panel(tmp_path, old, new, expected):
    assert YAML.count(old) >= 1
    at = YAML.rindex(old) if old == "start" else YAML.index(old)
    found = complaint(tmp_path, YAML[:at] + new + YAML[at + len(old) :])
    assert expected in found


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("treated: a", "line 4: panel: 'treated' needs 'start'"),
        ("start: 3", "line 4: panel: exactly one of 'treated', 'treatment' and 'cohort'"),
        ("treatment: d\n  estimators: []", "at least one of synthetic_control, synthetic_diff"),
        ("cohort: g\n  never: 0", "line 4: panel: 'never' does not go with synthetic_control"),
        (
            "cohort: g\n  donors: [a]\n  estimators: [factor_effects]",
            "line 4: panel: 'donors' goes with synthetic_control; leave it out",
        ),
        (
            "cohort: g\n  augment: ridge\n  estimators: [factor_effects]",
            "line 4: panel: 'augment' goes with synthetic_control; leave it out",
        ),
        (
            "cohort: g\n  augment: ridge\n  predictors: [{column: y}]",
            "line 4: panel: 'augment' does not go with 'predictors'",
        ),
        (
            "cohort: g\n  predictor_weights: equal",
            "line 4: panel: 'predictor_weights' goes with 'predictors'",
        ),
        ("cohort: g\n  aggregate: sum", "line 4: panel: 'aggregate' does not go with synthetic_c"),
        (
            "cohort: g\n  predictors: [{colum: y}]",
            "line 10: panel.predictors.0: unknown key 'colum'; allowed: column, start, stop, how; "
            "did you mean 'column'?",
        ),
        ("cohort: g\n  seed: -1", "line 10: panel.seed: must be greater than or equal to 0"),
    ],
)
def test_load_study_names_what_is_wrong_with_a_control(tmp_path, part, expected):
    text = YAML.replace("diff_in_diff", "synthetic_control").replace("cohort: start", part)
    assert expected in complaint(tmp_path, text)


def test_studies_of_other_kinds_are_sent_on(tmp_path):
    of_panel = study(tmp_path, panel(), {**DID, "cohort": "start"})
    with pytest.raises(StudyError, match="is of a panel; use `livelift report`, or run_panel"):
        run_study(of_panel)
    plain = {"version": 1, "title": "t", "data": {"log": "a"}, "experiment": {"arm": "a"}}
    plain["metrics"] = {"m": {"kind": "mean", "outcome": "y"}}
    with pytest.raises(StudyError, match="has no 'panel'; use run_study"):
        run_panel(Study.model_validate(plain))


# --- what it finds --------------------------------------------------------------------------------


def test_run_panel_of_several_cohorts_asks_group_time_effects_first(tmp_path):
    table = panel()
    found = run_panel(study(tmp_path, table, {**DID, "cohort": "start"}))
    arguments = {**COLUMNS, "cohort": "start"}
    assert isinstance(found, PanelResult)
    assert list(found.results) == ["group_time_effects", "sun_abraham", "imputation_effects"]
    expected = [
        group_time_effects(table, **arguments, base="universal").effect,
        sun_abraham(table, **arguments).effect,
        imputation_effects(table, **arguments, n_pretrend=3).effect,
    ]
    rows = found.tables["robustness"]
    assert rows["estimate"].tolist() == pytest.approx([e.estimate for e in expected], rel=1e-9)
    assert rows["std_error"].tolist() == pytest.approx([e.std_error for e in expected], rel=1e-9)
    assert found.effect.estimate == pytest.approx(expected[0].estimate, rel=1e-9)
    assert [s.key for s in found.sections] == [
        "effect", "design", "event_study", "pretrend", "sensitivity", "robustness",
    ]  # fmt: skip
    events = found.tables["event_study"].set_index("event_time")
    assert events.loc[-1, "is_reference"]
    assert events.loc[0, "n_units"] == 160


@pytest.mark.parametrize(
    "who",
    [{"cohort": "start"}, {"treatment": "gets", "start": 4}, {"treatment": "on"}],
    ids=["cohort", "treatment and start", "status"],
)
def test_run_panel_of_one_cohort_asks_event_study_however_treatment_is_said(tmp_path, who):
    table = panel(starts=(4,))
    found = run_panel(study(tmp_path, table, {**DID, **who}))
    expected = event_study(table, **COLUMNS, cohort="start")
    assert list(found.results) == ["event_study", "imputation_effects", "diff_in_diff"]
    assert found.effect.estimate == pytest.approx(expected.estimate, rel=1e-9)
    assert found.effect.std_error == pytest.approx(expected.std_error, rel=1e-9)
    twfe = found.results["diff_in_diff"]
    other = diff_in_diff(table, **COLUMNS, cohort="start")
    assert (twfe.estimate, twfe.std_error) == pytest.approx((other.estimate, other.std_error))
    bounds = found.tables["sensitivity"]
    honest = honest_did(expected, at="average")
    np.testing.assert_allclose(bounds["lower"], honest.frame["lower"], rtol=1e-6, atol=1e-6)


def test_run_panel_total_is_the_sum_of_effects_over_treated_cells(tmp_path):
    table = panel(starts=(4,))
    found = run_panel(study(tmp_path, table, {**DID, "cohort": "start"}))
    curve = event_study(table, **COLUMNS, cohort="start").curve
    after = np.array(curve.index) >= 0
    row = found.tables["effect"].iloc[0]
    assert row["total"] == pytest.approx(120 * curve.estimate[after].sum(), rel=1e-9)
    error = 120 * np.sqrt(curve.cov[np.ix_(after, after)].sum())
    assert row["total_std_error"] == pytest.approx(error, rel=1e-9)
    mean = table.loc[table["on"] == 1, "y"].mean() - row["total"] / 600
    assert f"of the {digits(mean)} without treatment" in found.answer[1]


def test_run_panel_with_covariates_reads_rows(tmp_path):
    table = panel(starts=(4,))
    part = {**DID, "treatment": "gets", "start": 4, "covariates": ["x"], "sensitivity": [0.5]}
    found = run_panel(study(tmp_path, table, part))
    expected = event_study(table, **COLUMNS, treatment="gets", start=4, covariates=["x"])
    assert list(found.results) == ["event_study", "diff_in_diff"]
    assert found.effect.estimate == pytest.approx(expected.estimate, rel=1e-9)
    assert found.tables["sensitivity"]["bound"].tolist() == [0.5]
    several = {**DID, "treatment": "on", "covariates": ["x"]}  # no column of starts
    found = run_panel(study(tmp_path, panel(), several))
    assert list(found.results) == ["event_study", "diff_in_diff"]
    assert "with those that were treated earlier, later or never, on y" in found.answer[0]


def test_run_panel_takes_the_total_of_the_headline_itself(tmp_path):
    table = panel(starts=(4,))
    part = {**DID, "cohort": "start", "estimators": ["diff_in_diff", "event_study"]}
    found = run_panel(study(tmp_path, table, part))
    twfe = diff_in_diff(table, **COLUMNS, cohort="start")
    row = found.tables["effect"].iloc[0]
    assert row["total"] == pytest.approx(twfe.details["total"], rel=1e-9)
    assert row["relative"] == pytest.approx(twfe.relative().estimate, rel=1e-9)
    assert "event_study" in [section.key for section in found.sections]


def test_run_panel_by_stratum_joins_with_the_weights_of_the_study(tmp_path):
    table = panel(starts=(4,))
    weights = {"new": 0.25, "<old>": 0.75}
    part = {**DID, "cohort": "start", "stratum": "state", "weights": weights}
    found = run_panel(study(tmp_path, table, part))
    arguments = {**COLUMNS, "cohort": "start", "stratum": "state", "weights": weights}
    expected = stratified_did(table, **arguments)
    rows = found.tables["strata"].set_index("stratum")
    assert rows.loc["stratified", "estimate"] == pytest.approx(expected.estimate, rel=1e-9)
    assert rows.loc["new", "weight"] == 0.25
    files = found.write(tmp_path / "out")
    assert "<old>" not in files.html.read_text("utf-8").replace("&lt;old&gt;", "")
    assert f"Q = {digits(expected.heterogeneity.statistic)}" in words(files)


def test_run_panel_leaves_out_other_estimators_that_cannot_answer(tmp_path):
    table = panel(starts=(4, 6))
    table = table[table["start"].notna()]
    part = {**DID, "cohort": "start", "estimators": ["group_time_effects", "event_study"]}
    found = run_panel(study(tmp_path, table, part))
    assert list(found.results) == ["group_time_effects"]
    robustness = next(s for s in found.sections if s.key == "robustness")
    assert any(s.startswith("event study is left out: ") for s in robustness.sentences)


def test_run_panel_with_one_period_before_has_no_sensitivity(tmp_path):
    table = panel(starts=(1,), periods=4)
    found = run_panel(study(tmp_path, table, {**DID, "cohort": "start"}))
    keys = [section.key for section in found.sections]
    assert "sensitivity" not in keys
    events = next(s for s in found.sections if s.key == "event_study")
    assert any("no pre-trend can be seen" in s for s in events.sentences)


def test_run_panel_names_the_place_of_what_the_data_refuse(tmp_path):
    table = panel()
    for column, bad, expected in (
        ("y", table.assign(y=np.nan), "study.yaml: panel.outcome: "),
        ("u", pd.concat([table, table.head(3)]), "study.yaml: panel."),
        ("z", table.drop(columns="start"), "study.yaml: panel.cohort: column 'start' is not in"),
    ):
        with pytest.raises(DataError) as caught:
            run_panel(study(tmp_path, bad, {**DID, "cohort": "start"}))
        assert expected in str(caught.value), column


def test_run_panel_fails_strictly_where_trends_differ_before(tmp_path):
    assert run_panel(study(tmp_path, panel(), {**DID, "cohort": "start"})).failures == ()
    found = run_panel(study(tmp_path, panel(drift=0.5), {**DID, "cohort": "start"}))
    assert len(found.failures) == 1
    assert found.failures[0].startswith("trends differ before the start (joint p = ")
    assert "before the start they did not" in found.answer[2]
    assert found.answer[-1].endswith("should be read, under Provenance.")


def test_run_panel_of_a_city_equals_synthetic_control(tmp_path):
    table = cities(n=24)
    who = {"treated": "Chengdu", "start": 18}
    found = run_panel(study(tmp_path, table, {**CITY, **who}, report={"level": 0.9}))
    arguments = {"outcome": "y", "unit": "city", "time": "week", **who}
    expected = synthetic_control(table, **arguments, level=0.9)
    other = synthetic_diff_in_diff(table, **arguments)
    assert found.results["synthetic_control"] == expected
    rows = found.tables["robustness"]
    assert rows["estimate"].tolist() == [expected.estimate, other.estimate]
    assert rows.loc[0, ["low", "high"]].tolist() == list(expected.conf_int(0.9))
    assert rows.loc[0, "p_value"] == expected.p_value
    assert found.tables["donor_weights"]["weight"].tolist() == list(expected.donor_weights.values())
    keys = [s.key for s in found.sections]
    assert keys == ["effect", "paths", "placebos", "weights", "leave_one_out", "robustness"]
    assert found.failures == ()


def test_run_panel_scales_a_conformal_interval_to_the_total(tmp_path):
    part = {**CITY, "treated": "Chengdu", "start": 18, "inference": "conformal"}
    part["estimators"] = ["synthetic_control"]
    found = run_panel(study(tmp_path, cities(), part, report={"level": 0.9}))
    low, high = found.results["synthetic_control"].conf_int(0.9)
    level = found.effect.baseline
    assert f"CI {digits(low)} to {digits(high)}, p" in found.answer[1]
    assert f"({digits(100 * low / level)} to {digits(100 * high / level)}" in found.answer[1]
    assert f"CI {digits(6 * low)} to {digits(6 * high)})" in found.answer[1]
    row = found.tables["effect"].iloc[0]
    assert (row["low"], row["high"]) == (low, high)


def test_run_panel_gives_other_estimators_the_donors_of_the_control(tmp_path):
    table = cities()
    donors = [f"c{j:02d}" for j in range(1, 9)]
    part = {**CITY, "treated": "Chengdu", "start": 18, "donors": donors}
    part["estimators"] = ["synthetic_diff_in_diff", "synthetic_control", "factor_effects"]
    found = run_panel(study(tmp_path, table, part))
    some = table[table["city"].isin([*donors, "Chengdu"])]
    arguments = {"outcome": "y", "unit": "city", "time": "week", "treated": "Chengdu", "start": 18}
    with pytest.warns(EstimationWarning, match="8 placebo sets") as caught:
        expected = synthetic_diff_in_diff(some, **arguments)
    assert str(caught[0].message) in found.warnings
    assert list(found.results) == part["estimators"]
    assert found.effect.estimate == expected.estimate
    assert [s.key for s in found.sections] == ["effect", "paths", "robustness"]


def test_run_panel_leaves_out_other_controls_that_cannot_answer(tmp_path):
    table = cities().drop(index=40)  # one donor without one week
    found = run_panel(study(tmp_path, table, {**CITY, "treated": "Chengdu", "start": 18}))
    assert list(found.results) == ["synthetic_control"]
    assert "synthetic DID is left out: " in " ".join(found.sections[-1].sentences)
    assert "c01" not in found.tables["donor_weights"]["unit"].tolist()
    assert "should be read" in found.answer[-1]


# --- what it writes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "table"),
    [
        ({**DID, "cohort": "start", "measured_in": "s"}, panel()),
        ({**CITY, "treated": "Chengdu", "start": 18}, cities()),
    ],
    ids=["did", "synthetic"],
)
def test_panel_result_writes_numbers_that_equal_the_result(tmp_path, part, table):
    found = run_panel(study(tmp_path, table, part))
    files = found.write(tmp_path / "out")
    document = json.loads(files.json.read_text("utf-8"))
    assert document["kind"] == part["kind"]
    for name, effect in found.effects.items():
        kind = EffectCurve if isinstance(effect, EffectCurve) else Effect
        back = kind.from_dict(document["effects"][name])
        np.testing.assert_allclose(back.estimate, effect.estimate, rtol=1e-10)
    assert {path.stem for path in files.tables} == set(found.tables)
    by_key = {s["key"]: s["tables"] for s in document["sections"]}
    for path in files.tables:
        rows = pd.read_parquet(path)
        written = next(t[path.stem] for t in by_key.values() if path.stem in t)
        assert len(rows) == len(written) == len(found.tables[path.stem])
    said = words(files)
    first = found.effect
    assert f"{change_text(first.estimate, part.get('measured_in', ''))} (95" in said
    assert all(f"{n}. " in said for n in range(1, len(found.sections) + 3))
    for row in found.tables["robustness"].to_dict("records"):
        assert change_text(row["estimate"], part.get("measured_in", "")) in said
    again = run_panel(study(tmp_path, table, part)).write(tmp_path / "again")
    assert json.loads(again.json.read_text("utf-8"))["checksum"] == document["checksum"]


def test_panel_examples_are_read_out_by_the_command(tmp_path, livelift):
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("data"))
    made = runpy.run_path(str(ROOT / "examples" / "make_panels.py"), run_name="make_panels")
    made["write_panels"](tmp_path / "examples" / "data")
    truth = {"pendant": (2.0, 5.0), "city": (11.0, 14.0)}
    for name, (low, high) in truth.items():
        file = f"examples/{name}_study.yaml"
        status, out, err = livelift("report", file, "--out", name, "--strict", cwd=tmp_path)
        assert (status, out, err) == (0, f"{name}/report.html\n", [])
        document = json.loads((tmp_path / name / "report.json").read_text("utf-8"))
        assert document["provenance"]["Command"].endswith(f"{file} --out {name} --strict")
        effect = document["sections"][0]["tables"]["effect"][0]
        assert low < effect["estimate"] < high
        assert (tmp_path / name / "report.html").stat().st_size < 300_000


def test_report_command_of_a_panel_has_the_exit_codes_of_the_house(tmp_path, livelift):
    panel(drift=0.5).to_parquet(tmp_path / "panel.parquet", index=False)
    (tmp_path / "study.yaml").write_text(YAML)
    code, out, err = livelift("report", "study.yaml", "--strict", cwd=tmp_path)
    assert (code, out) == (5, "out/report.html\n")
    assert err[0].startswith("livelift: strict: trends differ before the start")
    code, _, err = livelift("report", "study.yaml", "--designs", cwd=tmp_path)
    assert (code, len(err)) == (2, 1)
    assert "--designs goes with a study of arms" in err[0]
    (tmp_path / "study.yaml").write_text(YAML.replace("outcome: y", "outcome: yy"))
    code, _, err = livelift("report", "study.yaml", cwd=tmp_path)
    assert (code, len(err)) == (3, 1)
    assert "study.yaml: panel.outcome: column 'yy' is not in panel.parquet" in err[0]
    (tmp_path / "study.yaml").write_text(YAML.replace("unit: u", "unit: y"))
    assert livelift("report", "study.yaml", cwd=tmp_path)[0] == 2
