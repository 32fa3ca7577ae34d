"""The scorecard: rows, multiplicity, guardrails, the decision, warnings."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from ab_tables import log, users, with_gaps

from causal.effect import Effect, EstimationWarning
from experiments import Mean, Quantile, Ratio, Scorecard, ab_test, ab_tests, adjust_p_values
from experiments.splits.scorecard import decision, metric_verdict
from experiments.splits.srm import srm_test

FEW = pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")


def effect(estimate, std_error=1.0, baseline=100.0, baseline_variance=0.5):
    return Effect(
        estimate=estimate,
        std_error=std_error,
        estimand="ate",
        method="test",
        n_obs=1000,
        baseline=baseline,
        baseline_variance=baseline_variance,
        baseline_cov=-baseline_variance,
    )


def three_arms(n=900, seed=0):
    rng = np.random.default_rng(seed)
    arm = np.array(["A", "B", "C"])[np.arange(n) % 3]
    up = np.select([arm == "B", arm == "C"], [1.0, 0.1], 0.0)
    return pd.DataFrame(
        {
            "arm": arm,
            "watch_s": 30 + up + rng.normal(size=n),
            "gifts": 5 + 0.05 * up + rng.normal(size=n),
            "crash": 3 + rng.normal(size=n) * 0.05,
            "day": rng.integers(1, 4, n),
        }
    )


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("better", "estimate", "p", "verdict"),
    [
        ("higher", 2.0, 0.01, "better"),
        ("higher", -2.0, 0.01, "worse"),
        ("lower", -2.0, 0.01, "better"),
        ("lower", 2.0, 0.01, "worse"),
        ("higher", 2.0, 0.06, "inconclusive"),
    ],
)
def test_metric_verdict_of_a_goal(better, estimate, p, verdict):
    assert metric_verdict(Mean("y", better=better), effect(estimate), p, 0.95) == verdict


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("estimate", "std_error", "verdict"),
    [
        (0.0, 0.3, "non-inferior"),  # 1 % of 100 is three standard errors away
        (-0.4, 0.3, "non-inferior"),
        (-0.6, 0.3, "inconclusive"),
        (-2.0, 0.3, "inferior"),
        (0.0, 1.0, "inconclusive"),
        (5.0, 1.0, "non-inferior"),
    ],
)
@pytest.mark.parametrize("baseline", [100.0, -100.0])
def test_metric_verdict_of_a_guardrail_is_one_sided(sign, estimate, std_error, verdict, baseline):
    metric = Mean("y", role="guardrail", margin=0.01, better="higher" if sign > 0 else "lower")
    found = effect(sign * estimate, std_error, baseline, baseline_variance=0.01)
    assert metric_verdict(metric, found, found.p_value, 0.95) == verdict


def test_metric_verdict_of_a_guardrail_uses_fiellers_bound_at_the_one_sided_level():
    metric = Mean("y", role="guardrail", margin=0.01)
    found = effect(-0.4, 0.3)
    low, _ = found.relative_conf_int(0.9)
    for level in (0.9, 0.95, 0.99):
        bound = found.relative_conf_int(2 * level - 1)[0]
        expected = "non-inferior" if bound > -0.01 else "inconclusive"
        assert metric_verdict(metric, found, 1.0, level) == expected
    assert low < found.relative_conf_int(0.8)[0]


def test_metric_verdict_of_a_guardrail_near_zero_is_inconclusive():
    metric = Mean("y", role="guardrail", margin=0.01)
    assert metric_verdict(metric, effect(0.0, 0.1, 0.5, 1.0), 1.0, 0.95) == "inconclusive"
    assert metric_verdict(Mean("y", role="diagnostic"), effect(9.0), 0.0, 0.95) == "none"


class Row:
    """What `decision` looks at."""

    def __init__(self, metric, role, verdict, treatment="B"):
        self.metric, self.role, self.verdict = metric, role, verdict
        self.treatment = treatment


GOOD = Row("watch", "goal", "better")
BAD = Row("gifts", "goal", "worse")
BAD_IN_C = Row("gifts", "goal", "worse", "C")
OPEN = Row("likes", "goal", "inconclusive")
SAFE = Row("crash", "guardrail", "non-inferior")
UNSURE = Row("crash", "guardrail", "inconclusive")
BROKEN = Row("crash", "guardrail", "inferior")
BALANCED, SKEWED = srm_test({"A": 500, "B": 500}), srm_test({"A": 700, "B": 500})


@pytest.mark.parametrize(
    ("rows", "srm", "verdict", "says"),
    [
        ([GOOD, OPEN, SAFE], BALANCED, "ship", "better on watch, and every guardrail"),
        ([GOOD], None, "ship", "better on watch"),
        ([GOOD, SAFE], SKEWED, "no decision", "not as large as designed"),
        ([GOOD, BAD, SAFE], BALANCED, "do not ship", "worse on gifts"),
        ([GOOD, BROKEN], BALANCED, "do not ship", "worse on crash"),
        ([GOOD, UNSURE], BALANCED, "no decision", "but crash is not proven"),
        ([OPEN, SAFE], BALANCED, "no decision", "no goal differs"),
        ([SAFE], BALANCED, "no decision", "no goal differs"),
        ([GOOD, BAD_IN_C], BALANCED, "do not ship", "worse on gifts (C)"),
    ],
)
def test_decision_follows_the_rule(rows, srm, verdict, says):
    found, reason = decision(rows, srm)
    assert found == verdict
    assert says in reason
    assert reason.endswith(".")


# ---------------------------------------------------------------- ab_tests


def test_ab_tests_compares_every_arm_with_the_control_and_adjusts_goals_together():
    frame = three_arms()
    metrics = {
        "watch": "watch_s",
        "gifts": Mean("gifts"),
        "crash": Mean("crash", role="guardrail", margin=0.01, better="lower"),
        "look": Mean("gifts", role="diagnostic", name="again"),
    }
    card = ab_tests(frame, metrics=metrics, arm="arm", control="A")
    assert [(r.metric, r.treatment) for r in card.rows] == [
        (m, t) for m in metrics for t in ("B", "C")
    ]
    for row in card.rows:
        outcome = {"watch": "watch_s", "look": "gifts"}.get(row.metric, row.metric)
        direct = ab_test(frame, metric=outcome, arm="arm", control="A", treatment=row.treatment)
        assert row.effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
        assert row.effect.p_value == pytest.approx(direct.p_value, rel=1e-9)
    goals = [r for r in card.rows if r.role == "goal"]
    expected = adjust_p_values([r.effect.p_value for r in goals], method="holm")
    assert [r.p_adjusted for r in goals] == pytest.approx(expected.tolist(), rel=1e-12)
    assert all(r.p_adjusted == r.effect.p_value for r in card.rows if r.role != "goal")
    verdicts = {(r.metric, r.treatment): r.verdict for r in card.rows}
    assert verdicts["watch", "B"] == "better"
    assert verdicts["crash", "B"] == "non-inferior"
    assert verdicts["look", "B"] == "none"
    assert card.verdict == "ship"
    assert card.n_units == 900
    only = ab_tests(frame, metrics=metrics, arm="arm", control="A", treatment="C")
    assert {r.treatment for r in only.rows} == {"C"}


@pytest.mark.parametrize("adjust", ["holm", "bh", "by", "bonferroni", "none"])
def test_ab_tests_adjusts_by_the_chosen_method(adjust):
    card = ab_tests(
        three_arms(), metrics=["watch_s", "gifts"], arm="arm", control="A", adjust=adjust
    )
    raw = [r.effect.p_value for r in card.rows]
    expected = adjust_p_values(raw, method=adjust).tolist()
    assert [r.p_adjusted for r in card.rows] == pytest.approx(expected, rel=1e-12)


def test_ab_tests_variance_reduction_is_measured_against_no_covariates():
    frame = users(400)
    card = ab_tests(frame, metrics=[Mean("y", covariates=["x"])], arm="arm")
    row = card.rows[0]
    plain = ab_test(frame, metric="y", arm="arm")
    lin = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm")
    assert row.unadjusted.std_error == pytest.approx(plain.std_error, rel=1e-12)
    assert row.effect.std_error == pytest.approx(lin.std_error, rel=1e-12)
    expected = 1 - (lin.std_error / plain.std_error) ** 2
    assert row.variance_reduction == pytest.approx(expected, rel=1e-10)
    assert expected > 0.3
    assert ab_tests(frame, metrics=["y"], arm="arm").rows[0].variance_reduction == 0.0


@FEW
def test_ab_tests_reads_every_metric_as_ab_test_does():
    frame = with_gaps(log(), ["watch_s", "clicks"])
    metrics = {
        "rows": Mean("watch_s", covariates=["before"]),
        "viewers": Mean("watch_s", per="viewer_id", covariates=["before"]),
        "noise": Mean("noise", per="viewer_id", winsor=(0.01, 0.99)),
        "ctr": ("clicks", "views"),
        "p80": Quantile("watch_s", 0.8),
        "total": Quantile("noise", 0.5, per="viewer_id"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        card = ab_tests(frame, metrics=metrics, arm="arm", cluster="village", segments=["segment"])
        for row in card.rows:
            direct = ab_test(frame, metric=metrics[row.metric], arm="arm", cluster="village")
            assert row.effect.estimate == pytest.approx(direct.estimate, rel=1e-11)
            assert row.effect.std_error == pytest.approx(direct.std_error, rel=1e-11)
            assert row.effect.method == direct.method


def test_ab_tests_checks_the_sample_ratio_of_units_in_segments_and_days():
    frame = log()
    card = ab_tests(
        frame,
        metrics={"watch": Mean("watch_s", per="viewer_id")},
        arm="arm",
        cluster="viewer_id",
        segments=["segment"],
        day="day",
        expected_share={0: 0.5, 1: 0.5},
    )
    units = srm_test(frame, arm="arm", by=["segment", "day"], unit="viewer_id")
    assert card.srm.counts == units.counts
    pd.testing.assert_frame_equal(card.srm.by, units.by)
    assert card.n_units == frame["viewer_id"].nunique()


def test_ab_tests_warns_of_sample_ratio_mismatch_and_decides_nothing():
    frame = users(1000)
    frame = frame[(frame["arm"] == 0) | (frame.index % 3 > 0)]
    with pytest.warns(EstimationWarning, match="sample ratio mismatch") as caught:
        card = ab_tests(frame, metrics=["y"], arm="arm")
    assert len(caught) == 1
    assert card.verdict == "no decision"
    assert card.warnings == (str(caught[0].message),)
    intended = {0: 500, 1: (frame["arm"] == 1).sum()}
    assert ab_tests(frame, metrics=["y"], arm="arm", expected_share=intended).srm.ok


def test_ab_tests_says_each_warning_once():
    frame = with_gaps(log(), ["watch_s"])
    big = frame["viewer_id"] == 3
    frame.loc[big, "watch_s"] += 300
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        card = ab_tests(
            frame,
            metrics={"watch": Mean("watch_s", covariates=["before"]), "ctr": ("clicks", "views")},
            arm="arm",
            cluster="viewer_id",
        )
    said = [str(w.message) for w in caught]
    assert tuple(said) == card.warnings
    assert len([s for s in said if "left out" in s]) == 1
    assert len([s for s in said if "one cluster" in s]) == 1
    assert len(said) == 2


def test_ab_tests_of_a_triggered_experiment_dilutes_every_metric():
    frame = users(400)
    gone = frame["arm"] * (1 + 0.5 * frame["x"]) * (1 - frame["touched"])
    frame = frame.assign(y=frame["y"] - gone)
    card = ab_tests(frame, metrics=[Mean("y", covariates=["x"])], arm="arm", trigger="touched")
    direct = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm", trigger="touched")
    assert card.rows[0].effect == direct


# ---------------------------------------------------------------- what it shows


def card_of_three():
    return ab_tests(
        three_arms(),
        metrics={"watch <b>": "watch_s", "ratio": ("gifts", "watch_s")},
        arm="arm",
        control="A",
        day="day",
    )


def test_scorecard_to_frame_holds_one_row_a_metric_and_treatment():
    card = card_of_three()
    frame = card.to_frame()
    assert list(frame["metric"]) == ["watch <b>", "watch <b>", "ratio", "ratio"]
    for values, row in zip(frame.to_dict(orient="records"), card.rows, strict=True):
        assert (values["low"], values["high"]) == row.effect.conf_int(0.95)
        assert values["relative"] == pytest.approx(row.effect.estimate / row.effect.baseline)
        assert values["relative_low"] == row.effect.relative_conf_int(0.95)[0]
        assert values["p_adjusted"] == row.p_adjusted
    assert frame.select_dtypes("number").notna().all(axis=None)


def test_scorecard_to_dict_is_plain_json():
    card = card_of_three()
    told = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert told["verdict"] == card.verdict
    assert Effect.from_dict(told["rows"][0]["effect"]) == card.rows[0].effect
    assert told["srm"]["counts"] == {"A": 300, "B": 300, "C": 300}


def test_scorecard_shows_itself_without_letting_names_in_as_html():
    card = card_of_three()
    assert "<b>" not in card._repr_html_().replace("<b>ship</b>", "")
    assert str(card).startswith(f"{card.verdict}: {card.reason}")
    assert isinstance(card, Scorecard)


def test_scorecard_without_a_relative_effect_says_none():
    frame = users(200).assign(y=lambda f: f["y"] - f.loc[f["arm"] == 0, "y"].mean())
    with pytest.warns(EstimationWarning, match="control level"):
        card = ab_tests(frame, metrics=["y"], arm="arm")
    told = card.to_frame().iloc[0]
    assert pd.isna(told["relative_low"])
    json.dumps(card.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ("watch_s", TypeError, "mapping or a list"),
        ([], ValueError, "at least one metric"),
        ({}, ValueError, "at least one metric"),
        (["watch_s", Mean("watch_s")], ValueError, "different names"),
        ([3], TypeError, "a metric must be"),
    ],
)
def test_ab_tests_refuses_what_names_no_metrics(metrics, error, message):
    with pytest.raises(error, match=message):
        ab_tests(three_arms(), metrics=metrics, arm="arm", control="A")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adjust": "holmes"}, "did you mean 'holm'"),
        ({"level": 95}, r"level must be in \(0, 1\)"),
        ({"expected_share": {"A": 0.5, "B": 0.5}}, "every arm"),
        ({"segments": ["arm"]}, "both arm and by"),
        ({"day": "dya"}, "did you mean 'day'"),
        ({"control": None}, "pass control="),
        (
            {"level": 0.5, "metrics": [Mean("gifts", role="guardrail", margin=0.1)]},
            "level must be above 0.5 with guardrails",
        ),
    ],
)
def test_ab_tests_refuses_options_that_do_not_fit(options, message):
    given = {"metrics": [Mean("gifts")], "arm": "arm", "control": "A", **options}
    with pytest.raises(ValueError, match=message):
        ab_tests(three_arms(), **given)


def test_ab_tests_takes_two_metrics_of_one_column():
    card = ab_tests(
        three_arms(),
        metrics=[Ratio("gifts", "watch_s"), Mean("gifts"), Quantile("gifts", 0.5)],
        arm="arm",
        control="A",
    )
    assert [r.metric for r in card.rows[::2]] == ["gifts / watch_s", "gifts", "p50 of gifts"]


@pytest.mark.filterwarnings("ignore:sample ratio mismatch:causal.effect.EstimationWarning")
def test_ab_tests_counts_rows_where_clusters_cross_the_arms():
    rng = np.random.default_rng(0)
    n = 20_000
    frame = pd.DataFrame(
        {
            "arm": rng.choice([0, 1], n, p=[0.7, 0.3]),
            "hour": rng.integers(0, 48, n),
            "y": rng.normal(5, 1, n),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        by_hour = ab_tests(frame, metrics={"y": "y"}, arm="arm", cluster="hour")
        per_hour = ab_tests(frame, metrics=[Mean("y", per="hour")], arm="arm")
    for card in (by_hour, per_hour):
        assert card.srm.counts == frame["arm"].value_counts().to_dict()
        assert not card.srm.ok
    # a few clusters in both arms by mistake are still what was dealt
    frame["viewer"] = np.arange(n) // 10
    frame["arm"] = frame["viewer"] % 2
    frame.loc[:4, "arm"] = 1
    nearly = ab_tests(frame, metrics={"y": "y"}, arm="arm", cluster="viewer")
    assert sum(nearly.srm.counts.values()) == 2001


def test_ab_tests_counts_the_units_of_a_metric_within_clusters_that_cross():
    viewer = np.repeat(np.arange(400), np.where(np.arange(400) < 20, 60, 1))
    arm = np.arange(400) % 2
    arm[:20] = np.arange(20) % 10 < 4
    frame = pd.DataFrame({"v": viewer, "arm": arm[viewer], "room": viewer // 4})
    frame["y"] = 1.0 + np.arange(len(frame)) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        card = ab_tests(frame, metrics=[Mean("y", per="v")], arm="arm", cluster="room")
    assert card.srm.counts == {0: 202, 1: 198}


def test_ab_tests_without_covariates_saves_exactly_nothing():
    card = ab_tests(three_arms(), metrics=["gifts"], arm="arm", control="A")
    assert [row.variance_reduction for row in card.rows] == [0.0, 0.0]
    assert all(row.unadjusted is row.effect for row in card.rows)
