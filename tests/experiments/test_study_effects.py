"""Errors over the population and effects among triggered units, as the report shows them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from causal.effect import Effect
from experiments.ab import Mean, ab_test
from experiments.report import render
from experiments.study import run_study
from experiments.study_effects import population_error
from experiments.study_schema import Study

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
