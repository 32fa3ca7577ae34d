"""What a study file may say, and how its mistakes are named."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from experiments.errors import StudyError
from experiments.study.study_file import load_study
from experiments.study.study_schema import MeanMetric, RatioMetric, Study

STUDY = """\
version: 1
title: New ranking weights, week 47
data: {log: "data/log/*.parquet"}
experiment: {arm: arm, control: A, unit: viewer_id, day: day, expected_share: {A: 0.5, B: 0.5}}
metrics:
  watch: {kind: mean, outcome: watch_s, covariates: [watch_s_before], winsor: [0, 0.999]}
  ctr: {kind: ratio, numerator: click, denominator: impression}
  crash: {kind: mean, outcome: crash, role: guardrail, margin: 0.01, better: lower}
off_policy: [{name: p, reward: r, propensity: w, target: p_new, methods: [ips, dr], action: room}]
report: {level: 0.95, adjust: holm}
"""


def load(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_study(path)


def complaint(tmp_path, text):
    with pytest.raises(StudyError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'study.yaml'}: ")
    return message.removeprefix(f"{tmp_path / 'study.yaml'}: ")


def test_load_study_reads_the_specified_example(tmp_path):
    study = load(tmp_path, STUDY)
    assert study.folder == tmp_path
    assert study.experiment is not None
    assert study.experiment.expected_share == {"A": 0.5, "B": 0.5}
    assert isinstance(study.metrics["watch"], MeanMetric)
    assert study.metrics["watch"].winsor == [0, 0.999]
    assert isinstance(study.metrics["ctr"], RatioMetric)
    assert study.metrics["crash"].role == "guardrail"
    assert study.off_policy[0].methods == ["ips", "dr"]


def test_load_study_equals_the_study_made_in_python(tmp_path):
    study = load(tmp_path, STUDY)
    assert Study.model_validate(study.model_dump()).model_dump() == study.model_dump()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "metrics:",
            "metrcs:",
            "line 5: unknown key 'metrcs'; allowed: "
            "version, title, data, experiment, metrics, off_policy, report, panel, platform, "
            "strategy, trials, simulation",
        ),
        (
            "numerator: click",
            "numerater: click",
            "line 7: metrics.ctr: unknown key 'numerater'; allowed: kind, numerator, denominator, "
            "covariates, covariate_ratio, role, margin, better, measured_in; "
            "did you mean 'numerator'? (1 more)",
        ),
        (
            "kind: ratio",
            "kind: ration",
            "line 7: metrics.ctr: kind must be mean, ratio or quantile; got 'ration'; did you mean "
            "'ratio'?",
        ),
        (
            "kind: ratio, ",
            "",
            "line 7: metrics.ctr: key 'kind' is required: mean, ratio or quantile",
        ),
        ("version: 1", "version: 2", "line 1: version: must be 1; got 2"),
        ("level: 0.95", "level: 1.5", "line 10: report.level: must be less than 1; got 1.5"),
        (
            "level: 0.95",
            'level: "0.95"',
            "line 10: report.level: must be a valid number; got '0.95'",
        ),
        ("outcome: crash", "outcome: 3", "line 8: metrics.crash.outcome: must be text; got 3"),
        ("arm: arm, ", "", "line 4: experiment: key 'arm' is required"),
        (
            "{A: 0.5",
            "{A: -0.5",
            "line 4: experiment.expected_share: shares must be finite numbers > 0",
        ),
        (
            "[0, 0.999]",
            "[0.9, 0.1]",
            "line 6: metrics.watch.winsor: two quantiles are required, [low, high] with "
            "0 <= low < high <= 1; got [0.9, 0.1]; [0, 0.999] cuts the largest values only",
        ),
        (
            "[0, 0.999]",
            "[0.9]",
            "line 6: metrics.watch.winsor: two quantiles are required, [low, high] with "
            "0 <= low < high <= 1; got [0.9]; [0, 0.999] cuts the largest values only",
        ),
        (
            "[ips, dr]",
            "[]",
            "line 9: off_policy.0.methods: at least one of ips, snips, dm, dr, sndr, switch, "
            "shrinkage is required; got none; leave 'methods' out for snips",
        ),
        ("[ips, dr]", "ips", "line 9: off_policy.0.methods: must be a list; got 'ips'"),
        (
            "control: A",
            "control: [A]",
            "line 4: experiment.control: must be text, a number, true or false; got ['A']",
        ),
        (
            "control: A",
            "control: 2026-11-01",
            "line 4: experiment.control: must be text, a number, true or false; got 2026-11-01; "
            "put the date in quotes",
        ),
        (
            "denominator: impression",
            "denominator: impression, covariate_ratio: [a]",
            "line 7: metrics.ctr.covariate_ratio: two columns are required, [numerator, "
            "denominator]; got ['a']",
        ),
        (
            'log: "data/log/*.parquet"',
            "open_bandit: []",
            "line 3: data: 'open_bandit' must name a campaign, all or men; it is empty",
        ),
        (
            "margin: 0.01, ",
            "",
            "line 8: metrics.crash: a guardrail needs 'margin', the largest tolerated relative "
            "loss: 0.01 is 1 %",
        ),
        (
            "target: p_new, ",
            "",
            "line 9: off_policy.0: exactly one of 'target', 'target_policy', 'target_log' is "
            "required; got none",
        ),
        (", action: room", "", "line 9: off_policy.0: 'action' is required by dr"),
        (
            '"data/log/*.parquet"',
            '""',
            "line 3: data: 'log' must name a Parquet file, a folder or a pattern; it is empty",
        ),
        (
            "title: New",
            "version: 3 #",
            "line 2: key 'version' is doubled; it stands in line 1 already",
        ),
        (
            "outcome: crash",
            "outcome: crash, outcome: click",
            "line 8: key 'outcome' is doubled; it stands in line 8 already",
        ),
        (
            "arm: arm",
            "arm: &a arm",
            "line 4: anchors and aliases are refused in a study; write the value out",
        ),
        ("arm: arm", "arm: [arm", "line 4: expected ',' or ']', but got '}'"),
        ("experiment:", "<<:", "line 4: a key must be a plain word or number"),
        ("title: New", "? [a, b]\n: 3\ntitle: New", "line 2: a key must be a plain word or number"),
    ],
)
def test_load_study_names_the_line_and_what_to_do(tmp_path, old, new, expected):
    assert old in STUDY
    assert complaint(tmp_path, STUDY.replace(old, new, 1)) == expected


OTHER = "already; name a different column for one of them"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "denominator: impression",
            "denominator: click",
            "line 7: metrics.ctr.denominator: column 'click' is metrics.ctr.numerator " + OTHER,
        ),
        (
            "outcome: crash",
            "outcome: day",
            f"line 8: metrics.crash.outcome: column 'day' is experiment.day {OTHER}",
        ),
        (
            "outcome: crash",
            "outcome: viewer_id",
            f"line 8: metrics.crash.outcome: column 'viewer_id' is experiment.unit {OTHER}",
        ),
        (
            "[watch_s_before]",
            "[x, arm]",
            f"line 6: metrics.watch.covariates.1: column 'arm' is experiment.arm {OTHER}",
        ),
        (
            "[watch_s_before]",
            "[x, x]",
            "line 6: metrics.watch.covariates.1: column 'x' is metrics.watch.covariates.0 already; "
            "name it once",
        ),
        (
            "day: day",
            "day: day,\n  segments: [new, day]",
            f"line 5: experiment.segments.1: column 'day' is experiment.day {OTHER}",
        ),
        (
            "day: day",
            "segments: [arm]",
            f"line 4: experiment.segments.0: column 'arm' is experiment.arm {OTHER}",
        ),
        (
            "day: day",
            "day: viewer_id",
            f"line 4: experiment.day: column 'viewer_id' is experiment.unit {OTHER}",
        ),
        (
            "day: day",
            "cluster: room, also_cluster: room",
            f"line 4: experiment.also_cluster: column 'room' is experiment.cluster {OTHER}",
        ),
        (
            "day: day",
            "covariance: CR2",
            "line 4: experiment.covariance: covariance CR2 needs clusters, and metric 'watch' has "
            "none: give 'cluster', or use HC0 to HC3 or auto (2 more)",
        ),
        (
            "day: day",
            "covariance: HC1, cluster: viewer_id",
            "line 4: experiment.covariance: covariance HC1 ignores the clusters of metric 'watch': "
            "use CR0 to CR2 or auto (1 more)",
        ),
        (
            "day: day",
            "weight: w",
            "line 4: experiment.weight: weights go with means over rows; metric 'ctr' sums rows or "
            "ranks them: weight its column before, or leave 'weight' out",
        ),
        (
            "kind: mean, outcome: crash",
            "kind: quantile, q: 0.5, outcome: crash",
            "line 4: experiment.trigger: a trigger goes with means and ratios; metric 'crash' is a "
            "quantile: leave one of them out",
        ),
        (
            "control: A",
            "control: A, treatment: A",
            "line 4: experiment: 'control' and 'treatment' must differ; both are 'A'",
        ),
        (
            "control: A",
            "control: C",
            "line 4: experiment: 'expected_share' must give every arm a share; the control 'C' has "
            "none",
        ),
        (
            "{A: 0.5, B: 0.5}",
            "{A: 1.0}",
            "line 4: experiment.expected_share: every arm needs a share, and there are two or "
            "more; got {'A': 1.0}",
        ),
        (
            "reward: r",
            "reward: w",
            f"line 9: off_policy.0.propensity: column 'w' is off_policy.0.reward {OTHER}",
        ),
        (
            "action: room",
            "action: room, features: [hour, room]",
            f"line 9: off_policy.0.features.1: column 'room' is off_policy.0.action {OTHER}",
        ),
        (
            "methods: [ips, dr]",
            "methods: [ips, switch], clip: 3.0",
            "line 9: off_policy.0: 'clip' goes with ips, snips, dr and sndr, not with switch; "
            "leave it out",
        ),
        (
            "target: p_new, methods: [ips, dr]",
            "target_log: {arm: B}, clip: 3.0",
            "line 9: off_policy.0: 'clip' goes with ips, snips, dr and sndr, not with "
            "'target_log'; leave it out",
        ),
        (
            "target: p_new, methods: [ips, dr]",
            "target_log: {arm: B}, features: [hour]",
            "line 9: off_policy.0: 'features' does not go with 'target_log'; use 'by', or leave it "
            "out",
        ),
        (
            "level: 0.95",
            "level: 0.5",
            "line 10: report.level: the level must be above 0.5 with guardrails, whose bounds are "
            "one-sided; metric 'crash' is one; got 0.5; 0.95 is usual",
        ),
        (
            "target: p_new",
            "target_policy: {a: 0.5, b: 0.2}",
            "line 9: off_policy.0.target_policy: probabilities in [0, 1] that sum to 1 over all "
            "actions are required; they sum to 0.7",
        ),
    ],
)
def test_load_study_refuses_parts_that_contradict_each_other(tmp_path, old, new, expected):
    assert old in STUDY
    text = STUDY.replace(old, new, 1)
    if "quantile" in new:
        text = text.replace("day: day", "trigger: seen")
    assert complaint(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unit: viewer_id", "unit: viewer_id, cluster: viewer_id"),
        ("unit: viewer_id", "cluster: day, also_cluster: viewer_id"),
        ("day: day", "segments: [watch_s_before]"),
        ("day: day", "trigger: seen, segments: [seen]"),
        ("kind: mean, outcome: watch_s", "kind: mean, per: viewer_id, outcome: watch_s"),
        ("[watch_s_before]", "[day]"),
    ],
)
def test_load_study_lets_a_column_have_roles_that_agree(tmp_path, old, new):
    assert old in STUDY
    load(tmp_path, STUDY.replace(old, new, 1))


def test_study_made_in_python_refuses_contradictions_by_their_place():
    study = {
        "version": 1,
        "title": "t",
        "data": {"log": "a"},
        "experiment": {"arm": "arm"},
        "metrics": {"a.b": {"kind": "mean", "outcome": "arm"}},
    }
    with pytest.raises(ValidationError) as caught:
        Study.model_validate(study)
    assert caught.value.errors()[0]["loc"] == ("metrics", "a.b", "outcome")


def test_load_study_never_runs_what_a_tag_asks_for(tmp_path):
    message = complaint(
        tmp_path, STUDY.replace("arm: arm", "arm: !!python/object/apply:os.getcwd []")
    )
    assert message.startswith("line 4: could not determine a constructor")


def test_load_study_refuses_an_alias_bomb_at_once(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
    )
    assert complaint(tmp_path, bomb).startswith("line 1: anchors and aliases are refused")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a study must be a mapping of keys to values; see the README"),
        ("- 1", "a study must be a mapping of keys to values; see the README"),
        ("[" * 2000, "line 1: nested more than 50 deep"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        (b"\xff\xfe\x00", "a study must be text in UTF-8; byte 0 is not"),
        (b"x" * (1 << 20) + b"y", "a study must be smaller than 1 MiB; is this the data?"),
        ("title: a\x00b", "special characters are not allowed"),
    ],
)
def test_load_study_refuses_what_is_no_study(tmp_path, text, expected):
    assert complaint(tmp_path, text) == expected


def test_load_study_refuses_an_absent_file_and_a_folder(tmp_path):
    with pytest.raises(StudyError, match=r"absent\.yaml: no such file$"):
        load_study(tmp_path / "absent.yaml")
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(tmp_path)


def test_study_needs_a_question_and_arms_for_its_metrics(tmp_path):
    head = "version: 1\ntitle: t\ndata: {log: a.parquet}\n"
    assert "nothing is asked" in complaint(tmp_path, head)
    assert "'metrics' needs 'experiment'" in complaint(
        tmp_path, head + "metrics: {a: {kind: mean, outcome: y}}\n"
    )
    assert "'experiment' needs 'metrics'" in complaint(tmp_path, head + "experiment: {arm: arm}\n")


def test_load_study_names_a_metric_called_like_a_kind(tmp_path):
    text = STUDY.replace("ctr: {kind: ratio, numerator: click", "ratio: {kind: ratio, numerator: 1")
    assert complaint(tmp_path, text) == "line 7: metrics.ratio.numerator: must be text; got 1"
