"""Errors over the population and effects among triggered units, as the report shows them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from causal.effect import Effect, EffectCurve
from experiments.report.report import render
from experiments.splits.ab import Mean, ab_test
from experiments.splits.scorecard import ScorecardRow
from experiments.splits.sequential import confidence_sequence
from experiments.study.study import run_study
from experiments.study.study_effects import over_population, population_curve, population_error
from experiments.study.study_schema import Study

# ibis calls DuckDB under a name that DuckDB is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")


def make_triggered(n=4_000, seed=3):
    """Units of three arms; only triggered ones are affected, and more so with a large `before`."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(list("ABC"), n)
    before = rng.lognormal(0, 1, n)
    trigger = rng.random(n) < 0.3
    slope = 2 + 6 * ((arm == "B") & trigger)
    return pd.DataFrame(
        {
            "viewer_id": np.arange(n),
            "arm": arm,
            "before": before,
            "trigger": trigger,
            "watch_s": 50 + slope * before + rng.normal(0, 2, n),
        }
    )


def read_triggered(folder, **changes):
    frame = make_triggered()
    frame.to_parquet(folder / "units.parquet", index=False)
    metric = {"kind": "mean", "outcome": "watch_s", "covariates": ["before"]}
    experiment = {"arm": "arm", "control": "A", "unit": "viewer_id", **changes}
    study = {
        "version": 1,
        "title": "t",
        "data": {"log": "units.parquet"},
        "experiment": experiment,
        "metrics": {"watch": metric},
    }
    return frame, run_study(Study.model_validate(study).located(str(folder / "study.yaml")))


def test_run_study_uses_the_error_over_the_population_where_it_differs_by_one_percent(tmp_path):
    frame, result = read_triggered(tmp_path)
    b, c = result.sections[0].scorecard.rows
    options = {"arm": "arm", "control": "A", "unit": "viewer_id"}
    mean = Mean("watch_s", covariates=("before",))
    alone = [ab_test(frame, metric=mean, treatment=t, **options) for t in ("B", "C")]
    whole = [effect.details["superpopulation_std_error"] for effect in alone]
    assert whole[0] > 1.01 * alone[0].std_error
    assert whole[1] < 1.01 * alone[1].std_error
    assert b.effect.std_error == pytest.approx(whole[0], rel=1e-9)
    assert b.effect.method.endswith(", error over the population")
    assert c.effect.std_error == pytest.approx(alone[1].std_error, rel=1e-9)
    holm = sorted([b.effect.p_value, c.effect.p_value])
    assert sorted([b.p_adjusted, c.p_adjusted]) == pytest.approx([2 * holm[0], holm[1]])
    kept = (b.effect.std_error / b.unadjusted.std_error) ** 2
    assert b.variance_reduction == pytest.approx(1 - kept)
    files = render(result, tmp_path / "out")
    assert "takes the mean of the covariates as known" in files.html.read_text("utf-8")


def test_run_study_reports_triggered_effect_and_rate(tmp_path):
    frame, result = read_triggered(tmp_path, trigger="trigger")
    files = render(result, tmp_path / "out")
    rows = json.loads(files.json.read_text())["scorecard"]
    assert [row["look"] for row in rows] == ["main", "triggered", "main", "triggered"]
    among = frame[frame.trigger]
    options = {"arm": "arm", "control": "A", "unit": "viewer_id"}
    mean = Mean("watch_s", covariates=("before",))
    for main, inner in (rows[:2], rows[2:]):
        mine = frame[frame.arm.isin(["A", main["treatment"]])]
        alone = ab_test(among, metric=mean, treatment=main["treatment"], **options)
        whole = alone.details["superpopulation_std_error"]
        kept = whole > 1.01 * alone.std_error
        assert main["trigger_rate"] == pytest.approx(mine.trigger.mean())
        assert inner["estimate"] == pytest.approx(alone.estimate)
        assert inner["std_error"] == pytest.approx(whole if kept else alone.std_error)
        assert main["estimate"] == pytest.approx(main["trigger_rate"] * alone.estimate)
    section = result.sections[0]
    diluted, inner = section.scorecard.rows[0].effect, section.triggered["watch", "B"]
    rate, own = rows[0]["trigger_rate"], diluted.details["triggered"]["std_error"]
    raw = ab_test(frame, metric=mean, treatment="B", trigger="trigger", **options)
    more = raw.std_error**2 + rate**2 * (inner.std_error**2 - own**2)
    assert diluted.std_error == pytest.approx(np.sqrt(more))
    assert result.effects["triggered/watch/B"] == inner
    text = files.html.read_text("utf-8")
    assert text.count("among the triggered</th>") >= 2
    assert f"{100 * rate:.1f}" in text


@pytest.mark.parametrize("scale", [1e-160, 1.0, 1e160])
@pytest.mark.parametrize(("whole", "shown"), [(1.009, 1.0), (1.011, 1.011)])
def test_population_error_is_used_above_one_percent_at_any_scale(scale, whole, shown):
    details = {"superpopulation_std_error": whole * scale}
    effect = Effect(
        estimate=scale, std_error=scale, estimand="ate", method="Lin", n_obs=9, details=details
    )
    assert population_error(effect).std_error == pytest.approx(shown * scale, rel=1e-9, abs=0)


def with_covariance(**population):
    """A loss of 1 % that is proven not to exceed 2 % by the regression's own errors alone."""
    return Effect(
        estimate=-1.0,
        std_error=0.55,
        estimand="ate",
        method="Lin",
        n_obs=900,
        baseline=100.0,
        baseline_variance=0.1,
        baseline_cov=-0.1,
        details={f"superpopulation_{name}": value for name, value in population.items()},
    )


def test_population_error_takes_the_control_level_along_for_relative_intervals():
    effect = with_covariance(std_error=0.6, baseline_variance=0.4, baseline_cov=0.2)
    shown = population_error(effect)
    assert (shown.std_error, shown.baseline_variance, shown.baseline_cov) == (0.6, 0.4, 0.2)
    expected = replace(effect, std_error=0.6, baseline_variance=0.4, baseline_cov=0.2)
    assert shown.relative_conf_int() == expected.relative_conf_int()
    assert shown.relative_conf_int() != replace(effect, std_error=0.6).relative_conf_int()
    near = with_covariance(std_error=0.553, baseline_variance=0.4, baseline_cov=0.2)
    assert population_error(near) is near
    alone = population_error(with_covariance(std_error=0.6))
    assert (alone.std_error, alone.baseline_variance, alone.baseline_cov) == (0.6, 0.1, -0.1)


def test_over_population_decides_a_guardrail_by_the_error_over_the_population():
    metric = Mean("y", role="guardrail", margin=0.02)
    effects = [
        with_covariance(std_error=0.55, baseline_variance=0.1, baseline_cov=-0.1),
        with_covariance(std_error=0.7, baseline_variance=0.2, baseline_cov=0.0),
    ]
    rows = [ScorecardRow("y", "guardrail", "B", e, 1.0, "non-inferior", e, 0.0) for e in effects]
    found = over_population(rows, {"y": metric}, "holm", 0.95)
    assert [row.verdict for row in found] == ["non-inferior", "inconclusive"]


def test_population_curve_scales_the_joint_covariance_where_a_label_differs_by_one_percent():
    cov = np.array([[1.0, 0.5, 0.0], [0.5, 4.0, 0.0], [0.0, 0.0, 0.0]])
    common = {"estimand": "ate", "method": "Lin, cumulative", "n_obs": 900}
    curve = EffectCurve(
        index=(1, 2, 3),
        index_name="day",
        estimate=[1.0, 2.0, 3.0],
        cov=cov,
        details={"superpopulation_std_error": [1.5, 2.0, 0.0]},
        **common,
    )
    shown = population_curve(curve)
    assert shown.std_error == pytest.approx([1.5, 2.0, 0.0])
    assert shown.cov[0, 1] == pytest.approx(0.75)
    assert shown.method == "Lin, cumulative, error over the population"
    wide, narrow = (confidence_sequence(c.at(1), n=900) for c in (shown, curve))
    assert wide.high - wide.low > 1.4 * (narrow.high - narrow.low)
    for whole in ([1.005, 2.0, 0.0], [0.5, 2.0, 0.0]):
        same = replace(curve, details={"superpopulation_std_error": whole})
        assert population_curve(same) is same
    plain = replace(curve, details={})
    assert population_curve(plain) is plain


def test_run_study_uses_the_error_over_the_population_in_curves(tmp_path):
    frame = make_triggered()
    frame["kind"] = np.where(frame.viewer_id % 2, "odd", "even")
    frame["day"] = frame.viewer_id % 4
    frame.to_parquet(tmp_path / "units.parquet", index=False)
    study = {
        "version": 1,
        "title": "t",
        "data": {"log": "units.parquet"},
        "experiment": {
            **{"arm": "arm", "control": "A", "treatment": "B", "unit": "viewer_id"},
            **{"day": "day", "segments": ["kind"]},
        },
        "metrics": {"watch": {"kind": "mean", "outcome": "watch_s", "covariates": ["before"]}},
    }
    result = run_study(Study.model_validate(study).located(str(tmp_path / "study.yaml")))
    for readout in result.sections[0].curves:
        curve = readout.curve
        whole = np.array(curve.details["superpopulation_std_error"])
        assert curve.std_error == pytest.approx(whole, rel=1e-9)
        assert curve.method.endswith(", error over the population")
