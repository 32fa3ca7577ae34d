"""Sections on panel results: what is drawn, what is said, and that pages take the results."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from causal import (
    Effect,
    EffectCurve,
    EventStudy,
    HonestDid,
    PretrendPower,
    StratifiedDid,
    panel_design,
    pretrend_power,
    synthetic_control,
    synthetic_diff_in_diff,
)
from causal.effect import WaldTest
from experiments import write_page
from experiments.report.event_sections import (
    event_section,
    pretrend_in_words,
    sensitivity_section,
)
from experiments.report.panel_sections import (
    design_section,
    effect_section,
    robustness_section,
    strata_section,
)
from experiments.report.panel_words import effect_in_words, relative_in_words, time_places
from experiments.report.svg_marks import Dot, Stroke, Words

COMMON = {"estimand": "att", "method": "m", "n_obs": 90}


def effect(estimate=2.0, std_error=0.5, **more):
    return Effect(estimate=estimate, std_error=std_error, **COMMON, **more)


def events():
    estimate, error = np.array([0.1, 0.0, 0.4, 3.0]), np.array([0.5, 0.0, 0.5, 0.5])
    curve = EffectCurve(
        index=(-2, -1, 0, 1),
        index_name="event_time",
        estimate=estimate,
        cov=np.diag(error**2),
        **COMMON,
    )
    return EventStudy(
        effect=effect(),
        curve=curve,
        pretrend=WaldTest(statistic=0.04, df=1, df_denom=None, p_value=0.84),
        reference=-1,
        n_units_by_event_time={-2: 9, -1: 9, 0: 9, 1: 4},
        method="m",
    )


def honest(breakdown, kind="relative_magnitude"):
    frame = pd.DataFrame({"bound": [0.0, 1.0, 2.0], "lower": [1, 0.5, -1], "upper": [3, 4, 5.0]})
    return HonestDid(
        effect=effect(),
        frame=frame,
        original=(1.0, 3.0),
        breakdown=breakdown,
        kind=kind,
        method="m",
        level=0.95,
    )


def strata():
    curve = EffectCurve(
        index=("a", "b"), index_name="stratum", estimate=[1.0, 3.0], cov=np.eye(2) / 9, **COMMON
    )
    return StratifiedDid(
        effect=effect(details={"weights": "treated"}),
        curve=curve,
        weights={"a": 0.5, "b": 0.5},
        pooled=effect(2.5),
        heterogeneity=WaldTest(statistic=18.0, df=1, df_denom=None, p_value=2e-5),
        pooling_gap=effect(0.5, 0.2),
    )


def marks(section, kind, style):
    return [m for m in section.drawings[0].marks if isinstance(m, kind) and m.style == style]


def bars(stroke):
    return stroke.d.count("V")


def test_event_section_draws_both_kinds_of_bars_and_a_hollow_reference():
    section = event_section(events())
    thin, thick = marks(section, Stroke, "thin"), marks(section, Stroke, "ci")
    assert max(map(bars, thin)) == 3  # one a point, besides the legend's sample
    assert max(map(bars, thick)) == 3
    assert len(marks(section, Dot, "dot second hollow")) == 2  # and the legend's
    assert len(marks(section, Dot, "dot")) == 1  # event time 1, whose band leaves 0 out
    assert "start" in [m.text for m in section.drawings[0].marks if isinstance(m, Words)]
    frame = section.tables[0].frame
    assert frame["n_units"].tolist() == [9, 9, 9, 4]
    assert frame["is_reference"].tolist() == [False, True, False, False]
    band = events().curve.conf_int(0.95, simultaneous=True)
    np.testing.assert_array_equal(frame[["low_simultaneous", "high_simultaneous"]], band)


def test_event_section_shows_shares_in_per_cent():
    section = event_section(events(), unit="%")
    assert section.tables[0].rows[3][1] == "+300\N{NO-BREAK SPACE}pp"
    ticks = [m.text for m in section.drawings[0].marks if isinstance(m, Words)]
    assert "400" in ticks


@pytest.mark.parametrize(
    ("p", "said"),
    [(0.4, "that is no proof of parallel trends"), (0.01, "did not move in parallel")],
)
def test_pretrend_in_words_says_what_a_test_proves(p, said):
    assert said in pretrend_in_words(WaldTest(statistic=1.0, df=3, df_denom=None, p_value=p))
    assert "no pre-trend can be seen" in pretrend_in_words(None)


@pytest.mark.parametrize(
    ("breakdown", "kind", "said"),
    [
        (0.0, "relative_magnitude", "cannot be told even then"),
        (math.inf, "relative_magnitude", "No bound that was tried"),
        (1.4, "relative_magnitude", "by 1.40 times as much from period to period"),
        (0.2, "smoothness", "may change by 0.200 from period to period"),
    ],
)
def test_sensitivity_section_says_what_overturns_the_sign(breakdown, kind, said):
    section = sensitivity_section(honest(breakdown, kind))
    assert said in section.sentences[1]
    assert section.tables[0].caption.startswith("Intervals that hold although trends differ ")
    drawn = [m.text for m in section.drawings[0].marks if isinstance(m, Words)]
    assert ("breakdown" in drawn) == (0 <= breakdown <= 2)
    assert len(marks(section, Dot, "dot")) == 2


def test_strata_section_holds_weights_and_both_ways_to_join():
    section = strata_section(strata(), stratum="state")
    frame = section.tables[0].frame
    assert frame["stratum"].tolist() == ["a", "b", "stratified", "pooled"]
    assert frame["estimate"].tolist() == [1.0, 3.0, 2.0, 2.5]
    assert "Q = 18.0 on 1 df" in section.sentences[1]
    assert len(marks(section, Stroke, "ci")) == 4


def test_design_section_counts_one_as_one():
    log = pd.DataFrame({"id": [1, 1, 2, 2], "day": [0, 2, 0, 2], "y": [1.0, 3, 2, 2]})
    log["d"] = [1, 1, 0, 0]
    who = {"outcome": "y", "unit": "id", "time": "day", "treatment": "d", "start": 2}
    said = design_section(panel_design(log, **who)).sentences
    assert "; 1 unit is treated, in 1 cohort." in said[0]
    assert said[0].startswith("2 units in 2 periods, 4 rows")


def test_robustness_section_counts_who_agrees():
    frame = pd.DataFrame(
        {
            "estimator": ["one", "two", "three"],
            "estimate": [1.0, 1.2, 4.0],
            "std_error": 0.2,
            "low": [0.6, 0.8, 3.6],
            "high": [1.4, 1.6, 4.4],
            "p_value": 0.001,
            "n_obs": 90,
            "method": "m",
        }
    )
    section = robustness_section(frame, notes=["four is left out: why."])
    assert "within the interval of 1 of 2 other estimators" in section.sentences[0]
    assert section.sentences[1] == "four is left out: why."


def test_effect_in_words_has_the_relative_effect_where_there_is_a_level():
    plain = effect_in_words(effect(), 0.95, "s")
    assert plain.startswith("+2.00\N{NO-BREAK SPACE}s (95\N{NO-BREAK SPACE}% CI 1.02 to 2.98")
    level = {"baseline": 40.0, "baseline_variance": 1.0, "baseline_cov": 0.0}
    assert "+5.00\N{NO-BREAK SPACE}% (2.5" in effect_in_words(effect(**level), 0.95, "s")
    total = effect(20.0, 5.0, details={"treated_cells": 10})
    about = relative_in_words(effect(), total, 42.0, "s")
    assert about.startswith(", about +5.00\N{NO-BREAK SPACE}% of the 40.0")
    assert relative_in_words(effect(**level), total, 42.0, "s") == ""
    assert relative_in_words(effect(), total, 2.1, "s") == ""  # the level is near 0
    total_row = effect_section(effect(), total=total).tables[0].frame.iloc[0]
    assert (total_row["total"], total_row["total_std_error"]) == (20.0, 5.0)


def test_time_places_names_times_that_are_no_numbers():
    assert time_places([3, 5, 9]) == ({3: 3.0, 5: 5.0, 9: 9.0}, None)
    at, ticks = time_places([f"2026-05-{d:02d}" for d in range(1, 13)])
    assert at["2026-05-03"] == 2.0
    assert ticks[0] == (0.0, "2026-05-01")
    assert len(ticks) <= 5


def test_write_page_takes_results_of_panels(tmp_path):
    i, t = (a.ravel() for a in np.indices((24, 12)))
    y = np.sin(t / 3) * (1 + i % 5) + (i * t) % 3 + 4.0 * ((i == 4) & (t >= 9)) + 20
    log = pd.DataFrame({"u": i, "t": t, "d": (i == 4).astype(int), "y": y})
    roles = {"outcome": "y", "unit": "u", "time": "t", "treatment": "d", "start": 9}
    power = pretrend_power(events())
    assert isinstance(power, PretrendPower)
    control = synthetic_control(log, **roles, fixed_effect=True)
    given = [
        panel_design(log, **roles),
        events(),
        power,
        honest(1.0),
        strata(),
        control,
        synthetic_diff_in_diff(log, **roles),
    ]
    files = write_page(given, tmp_path, title="<b>")
    document = json.loads(files.json.read_text("utf-8"))
    assert [s["key"] for s in document["sections"]] == [
        "design", "effect", "event_study", "pretrend", "sensitivity", "strata", "effect", "paths",
        "placebos", "weights", "leave_one_out", "effect", "paths",
    ]  # fmt: skip
    page = files.html.read_text("utf-8")
    assert "<b>" not in page
    assert page.count('class="grid"') > len(control.placebo_gaps)  # faint lines of placebos
