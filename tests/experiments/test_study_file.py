"""What a study file may say, and how its mistakes are named."""

from __future__ import annotations

import pytest

from experiments.errors import StudyError
from experiments.study_file import load_study
from experiments.study_schema import MeanMetric, RatioMetric, Study

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
            "version, title, data, experiment, metrics, off_policy, report",
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
            "line 7: metrics.ctr: kind must be mean, ratio or quantile; got 'ration'",
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
            "line 6: metrics.watch.winsor: two quantiles are required, 0 <= low < high <= 1; "
            "got [0.9, 0.1]",
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
