"""The page, the JSON and the tables, from results made by hand."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from causal.decisions.weights import WeightDiagnostics
from causal.effect import Effect, EffectCurve
from experiments.atomic import MARKER
from experiments.report import report as report_module
from experiments.report.answer import three_sentences
from experiments.report.report import LARGEST_PAGE, render, report_document
from experiments.splits.scorecard import Scorecard, ScorecardRow, decision
from experiments.splits.srm import srm_test
from experiments.study.study_result import (
    Check,
    CurveReadout,
    LogSummary,
    PolicyReadout,
    Section,
    StudyResult,
    WeightHistogram,
)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "'; DROP TABLE x; --",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "../../etc/passwd\x00\n",
    "]]></style><svg onload=alert(1)>",
    "名" * 300,
)
PARTS = ["answer", "data", "scorecard", "curves", "policies", "methods", "provenance"]
PROVENANCE = {
    "study": {"file": "study.yaml", "sha256": "ab" * 32},
    "command": "livelift report study.yaml",
    "seed": 0,
    "versions": {"livelift": "0.1.0", "python": "3.11"},
    "inputs": [{"file": "data/log/a.parquet", "bytes": 123_456, "sha256": "cd" * 32}],
}


def effect(estimate, std_error, baseline, **more):
    variance = (std_error / 2) ** 2
    return Effect(
        estimate=estimate,
        std_error=std_error,
        estimand="ate",
        method="difference in means, HC2",
        n_obs=20_000,
        baseline=baseline,
        baseline_variance=variance,
        baseline_cov=-variance,
        **more,
    )


def row(metric, role, value, verdict, p_adjusted=0.5, treatment="B", reduction=0.0):
    return ScorecardRow(metric, role, treatment, value, p_adjusted, verdict, value, reduction)


def scorecard(names, treatment="B"):
    watch, ctr, crash = names
    rows = (
        row(watch, "goal", effect(1.24, 0.475, 154.1), "better", 0.018, treatment, 0.31),
        row(ctr, "goal", effect(0.0009, 0.0011, 0.043), "inconclusive", 0.41, treatment),
        row(crash, "guardrail", effect(-0.0001, 0.0002, 0.004), "non-inferior", 0.6, treatment),
    )
    srm = srm_test({"A": 2_010, treatment: 1_990})
    return Scorecard(rows, srm, 4_000, (), *decision(rows, srm))


def policy(name="random", on_policy=0.0038, methods=("ips", "snips", "dr")):
    value = {"std_error": 0.0008, "estimand": "policy value", "n_obs": 10_000}
    return PolicyReadout(
        name=name,
        log="policy_id = bts",
        target="uniform over 80 actions",
        reward="click",
        unit="%",
        n_rewards=42,
        estimates={
            m: Effect(estimate=0.003 + i * 0.0003, method=m, **value) for i, m in enumerate(methods)
        },
        diagnostics=WeightDiagnostics(
            n_obs=10_000,
            ess=340.2,
            ess_share=0.034,
            max_weight=278.0,
            mean_weight=1.01,
            mean_weight_z=0.2,
            top_share=0.31,
            max_share=0.03,
            n_zero_target=0,
            n_clipped=0,
            clipping_bias_bound=0.0,
            unsupported_mass=0.0001,
            weighted_rewards=42,
        ),
        histogram=WeightHistogram(
            edges=(-1.0, 0.0, 1.0, 2.5), rows=(0.6, 0.3, 0.1), weight=(0.1, 0.3, 0.6), zero=0.0
        ),
        logging=Effect(estimate=0.0042, method="mean", **value),
        on_policy=Effect(estimate=on_policy, method="mean", **value),
        on_policy_rows="policy_id = random",
        average_policy=True,
    )


def curves(metric, n_days=5, label="2026-11-"):
    days = tuple(f"{label}{i:02d}" for i in range(1, n_days + 1))
    spread = 4 / np.sqrt(np.arange(1, n_days + 1))
    common = {"estimand": "ate", "method": "Lin", "n_obs": 20_000}
    by_day = EffectCurve(
        index=days, index_name="day", estimate=1 + 0 * spread, cov=np.diag(spread**2), **common
    )
    by_segment = EffectCurve(
        index=("new", label), index_name="kind", estimate=[1.1, 2.9], cov=np.eye(2), **common
    )
    sequence = tuple((1 - 3 * s, 1 + 3 * s) for s in spread)
    return (
        CurveReadout(metric=metric, treatment="B", kind="day", curve=by_day, always_valid=sequence),
        CurveReadout(
            metric=metric, treatment="B", kind="segment", curve=by_segment, p_adjusted=(0.3, 0.004)
        ),
    )


def section(name="", names=("watch", "ctr", "crash"), treatment="B", **changes):
    parts = {
        "name": name,
        "log": LogSummary(
            files=("data/log/a.parquet",),
            n_rows=20_000,
            columns=("arm", "watch_s"),
            first="2026-11-01",
            last="2026-11-05",
            n_units=4_000,
            unit="viewer_id",
            arms={"A": 2_010, treatment: 1_990},
        ),
        "checks": (
            Check(
                name="split, overall",
                kind="srm",
                status="passed",
                finding="as planned",
                p_value=0.7,
            ),
            Check(name="log schema", kind="log", status="passed", finding="every rule holds"),
        ),
        "scorecard": scorecard(names, treatment),
        "control": "A",
        "curves": curves(names[0]),
        "policies": (policy(),),
        "units": {names[0]: "s", names[1]: "%", names[2]: "%"},
        "warnings": ("340 effective rows: the estimate is fragile",),
        **changes,
    }
    return Section(**parts)


def study_result(*sections, title="New ranking weights"):
    return StudyResult(
        title=title, level=0.95, sections=sections or (section(),), provenance=PROVENANCE
    )


class Page(HTMLParser):
    """What a browser would see: tags, attributes, ids and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.text, self.headings = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def written(tmp_path, result):
    files = render(result, tmp_path)
    return files, Page(files.html.read_text(encoding="utf-8"))


def test_render_writes_page_json_tables_and_the_marker_last(tmp_path):
    files, _ = written(tmp_path, study_result())
    assert files.html == tmp_path / "report.html"
    names = [path.stem for path in files.tables]
    assert names == ["scorecard", "curves", "policy_values", "overlap", "weights", "checks"]
    assert all(pq.read_table(path).num_rows for path in files.tables)
    marker = (tmp_path / MARKER).stat().st_mtime_ns
    assert all(
        path.stat().st_mtime_ns <= marker for path in (files.html, files.json, *files.tables)
    )


def test_render_page_has_the_seven_parts_in_order_and_is_accessible(tmp_path):
    _, page = written(tmp_path, study_result())
    assert [i for i in page.ids if i in PARTS] == PARTS
    assert len(page.ids) == len(set(page.ids))
    assert ("html", {"lang": "en"}) in page.tags
    assert page.headings[0] == 1
    assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 0
    assert all(a.get("scope") in ("row", "col") for tag, a in page.tags if tag == "th")
    drawings = [a for tag, a in page.tags if tag == "svg"]
    assert len(drawings) == 5
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert all(i in page.ids for i in drawing["aria-labelledby"].split())


def _outside(page):
    """Attributes that would make a browser ask for something, or run something."""
    found = []
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href", "style"):
                found.append((tag, name, value))
            if name.startswith("on"):
                found.append((tag, name, value))
    return found


def test_render_keeps_hostile_names_as_text(tmp_path):
    for i, name in enumerate(HOSTILE):
        names = (name, f"{name} 2", f"{name} 3")
        hostile = section(
            name,
            names,
            treatment=name,
            curves=curves(name, label=name),
            policies=(policy(name, methods=(name, "snips")),),
            warnings=(name,),
            checks=(Check(name=name, kind="data", status="warning", finding=name),),
        )
        folder = tmp_path / str(i)
        files, page = written(folder, study_result(hostile, title=name))
        assert _outside(page) == []
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
        seen = name.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        assert " ".join(seen.split()) in page.words
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.parquet")) == [
            f"tables/{t}.parquet"
            for t in ("checks", "curves", "overlap", "policy_values", "scorecard", "weights")
        ]
        assert json.loads(files.json.read_text("utf-8"))["title"] == name


def test_render_page_asks_for_nothing_from_outside(tmp_path):
    files, page = written(tmp_path, study_result())
    assert _outside(page) == []
    text = files.html.read_text("utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text)


def test_render_page_stays_small_when_the_study_is_large(tmp_path):
    many = section(
        curves=tuple(c for i in range(60) for c in curves(f"metric {i} " + "x" * 200, n_days=60)),
        checks=tuple(
            Check(name=f"cell {i}", kind="srm", status="failed", finding="y" * 200, p_value=1e-9)
            for i in range(2_000)
        ),
        warnings=tuple(f"warning {i} " + "z" * 300 for i in range(1_000)),
    )
    files, page = written(tmp_path, study_result(many))
    assert files.html.stat().st_size < LARGEST_PAGE
    assert [i for i in page.ids if i in PARTS] == PARTS
    assert "more checks stand in" in page.words
    assert pq.read_table(tmp_path / "tables" / "curves.parquet").num_rows == 60 * 62
    assert len(json.loads(files.json.read_text())["checks"]["findings"]) == 2_000


def test_render_page_stays_small_with_many_policies_and_counts_what_it_leaves_out(tmp_path):
    n = 300
    many = section(policies=tuple(policy(f"policy {i} " + "x" * 40) for i in range(n)))
    files, page = written(tmp_path, study_result(many))
    assert files.html.stat().st_size < LARGEST_PAGE
    assert [i for i in page.ids if i in PARTS] == PARTS
    shown = sum(f"policy {i} " in page.words for i in range(n))
    left_out = int(re.search(r"([\d,]+) more policy values stand in", page.words)[1])
    assert 20 < shown == n - left_out
    overlap = json.loads(files.json.read_text())["policy_values"]["overlap"]
    assert [row["policy"].split()[1] for row in overlap] == [str(i) for i in range(n)]
    without_arms = section(policies=many.policies[:20], scorecard=None)
    _, page = written(tmp_path / "b", study_result(without_arms))
    assert "; 17 more policy values below." in page.words
    assert "The weights of 8 more policy values stand in" in page.words


def _marks(page, title):
    """Whether each mark of a drawing is filled, by the drawing's title."""
    drawing = page.split(f">{title}</title>")[1].split("</svg>")[0]
    return [name == "dot" for name in re.findall(r'<circle class="([^"]+)"', drawing)]


def test_render_fills_the_marks_that_are_told_from_0_at_every_look(tmp_path):
    by_day, by_segment = curves("watch")
    limits = ((-1.0, 3.0), (-0.1, 2.1), (0.2, 1.8), (0.0, 1.5), (-1.8, -0.2))
    days = replace(by_day, always_valid=limits)
    result = study_result(section(curves=(days, by_segment)))
    files, page = written(tmp_path, result)
    text = files.html.read_text("utf-8")
    assert _marks(text, "watch by day") == [False, False, True, False, True]
    assert _marks(text, "watch by kind") == [False, True]  # Holm's p-values 0.3 and 0.004
    said = "Filled marks are told from 0 at every look together, hollow marks are not."
    assert said in page.words
    assert "By segment, filled marks are told from 0 after Holm" in page.words
    _, page = written(tmp_path / "b", study_result(section(curves=(by_segment,))))
    assert said not in page.words
    assert "Filled marks are told from 0 after Holm" in page.words


def test_render_counts_the_lines_that_a_forest_plot_leaves_out(tmp_path):
    many = EffectCurve(
        index=tuple(range(40)),
        index_name="city",
        estimate=np.ones(40),
        cov=np.eye(40),
        estimand="ate",
        method="Lin",
        n_obs=20_000,
    )
    readout = CurveReadout(
        metric="watch", treatment="B", kind="segment", curve=many, p_adjusted=(0.5,) * 40
    )
    _, page = written(tmp_path, study_result(section(curves=(readout,))))
    assert "effect in s; the first 12 of 40" in page.words


def three_arms(adjust="holm"):
    """Two metrics of two arms; B's p-value is 0.03 alone and 0.09 among four comparisons."""
    near = effect(1.0, 1.0 / 2.17, 150.0)
    far = effect(0.1, 1.0, 150.0)
    rows = (
        row("watch", "goal", near, "inconclusive", 0.09, "B"),
        row("watch", "goal", far, "inconclusive", 0.92, "C"),
        row("ctr", "goal", effect(0.02, 0.004, 0.1), "better", 0.0001, "C"),
        row("ctr", "goal", far, "inconclusive", 0.92, "B"),
        row("crash", "guardrail", far, "inconclusive", 0.92, "B"),
    )
    card = Scorecard(rows, None, 4_000, (), *decision(rows, None))
    return replace(study_result(section(scorecard=card, curves=())), adjust=adjust)


def test_three_sentences_name_the_arm_and_the_correction_that_undecides_it():
    said = three_sentences(three_arms())[1].replace("\N{NO-BREAK SPACE}", " ")
    decided, near, far, more = said.split("; ")
    assert decided.startswith("Ctr under C changed by +2.00 pp")
    assert decided.endswith(", which is better")
    assert near.startswith("watch under B changed by +1.00 s from 150 s (+0.667 %, 95 % CI 0.0968")
    assert near.endswith(
        "which cannot be told from no effect after Holm's correction over 4 comparisons (p = 0.090)"
    )
    assert far.endswith("which cannot be told from no effect")
    assert more == "1 more comparison below."
    assert "after Bonferroni's correction over 4" in three_sentences(three_arms("bonferroni"))[1]


def test_three_sentences_say_what_a_guardrail_does_not_prove():
    rows = (row("crash", "guardrail", effect(0.0002, 0.0002, 0.004), "inconclusive"),)
    card = Scorecard(rows, None, 4_000, (), *decision(rows, None))
    said = three_sentences(study_result(section(scorecard=card)))[1]
    assert said.endswith("which is not proven to stay within its margin.")


def test_render_page_says_what_there_is_not(tmp_path):
    only_values = section(scorecard=None, curves=())
    _, page = written(tmp_path / "a", study_result(only_values))
    assert "The study compares no arms." in page.words
    assert "The study names no day and no segments." in page.words
    _, page = written(tmp_path / "b", study_result(section(policies=())))
    assert "The study asks for no policy value." in page.words
    assert [i for i in page.ids if i in PARTS] == PARTS


def test_report_document_has_the_specified_keys_and_every_number_at_12_digits():
    document = report_document(study_result(section("one"), section("two")), created_at="now")
    assert set(document) == {
        *("schema_version", "title", "created_at", "provenance", "checksum", "verdict", "checks"),
        *("scorecard", "curves", "policy_values", "designs", "warnings", "notes"),
    }
    assert len(document["scorecard"]) == 6
    assert len(document["curves"]) == 14
    assert document["warnings"][1].startswith("two: ")
    relative = document["scorecard"][0]["relative"]
    assert relative == round(1.24 / 154.1, 11) != 1.24 / 154.1
    assert document["scorecard"][2]["p_adjusted"] is None
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def shaken(effect, by):
    """The effect with its estimate moved by a few last bits of the control level."""
    return replace(effect, estimate=effect.estimate + by * effect.baseline)


def test_report_document_hides_the_last_bits_of_sums():
    def document(by):
        near_0 = shaken(effect(1.234567e-5, 2.345678e-2, 154.123), by)
        one = row("watch", "goal", near_0, "better", 0.01234567 * (1 + 50 * by), reduction=by)
        card = Scorecard((one,), None, 4_000, (), *decision((one,), None))
        curve = curves("watch")[1]
        curve = replace(curve, curve=replace(curve.curve, estimate=[1e-9 + by * 154.123, 2.9]))
        return report_document(
            study_result(section(scorecard=card, curves=(curve,))), created_at="now"
        )

    one, two = document(1e-15), document(-1e-15)
    assert one == two
    assert one["scorecard"][0]["estimate"] == 1.2346e-5
    assert one["scorecard"][0]["std_error"] == 0.02345678
    assert one["scorecard"][0]["p_adjusted"] == 0.01234567
    assert one["scorecard"][0]["variance_reduction"] == 0
    assert document(1e-9)["scorecard"] != one["scorecard"]


def test_render_shows_a_dash_where_no_variance_was_saved(tmp_path):
    value = effect(1.24, 0.475, 154.1)
    rows = [row("watch", "goal", value, "better", 0.01, reduction=0.31)]
    rows.append(row("ctr", "goal", value, "inconclusive", reduction=-4.44e-16))
    card = Scorecard(tuple(rows), None, 10, (), "no decision", "unproven.")
    files, page = written(tmp_path, study_result(section(scorecard=card)))
    assert "31.0\N{NO-BREAK SPACE}%" in files.html.read_text("utf-8")
    assert "10^" not in page.words
    card = Scorecard(tuple(rows[1:]), None, 10, (), "no decision", "unproven.")
    _, page = written(tmp_path / "none", study_result(section(scorecard=card)))
    assert "Variance saved" not in page.words


def test_render_says_of_triggered_studies_only_that_curves_read_all_units(tmp_path):
    triggered = {("watch", "B"): effect(2.0, 0.8, 150.0, details={"trigger_rate": 0.5})}
    _, page = written(tmp_path, study_result(section(triggered=triggered)))
    assert "These effects are read from all units, triggered or not." in page.words
    assert "sharper" not in page.words


def test_render_explains_the_error_over_the_population_of_a_curve_alone(tmp_path):
    by_day, by_segment = curves("watch")
    method = "difference in means, HC2, error over the population"
    changed = replace(by_segment, curve=replace(by_segment.curve, method=method))
    _, page = written(tmp_path, study_result(section(curves=(by_day, changed))))
    assert "takes the mean of the covariates as known" in page.words
    assert f"watch by kind {method}" in page.words


def test_report_document_reads_a_curve_with_degrees_of_freedom_of_its_points(tmp_path):
    by_segment = curves("watch")[1]
    changed = replace(by_segment, curve=replace(by_segment.curve, df=(4.0, 400.0)))
    result = study_result(section(curves=(changed,)))
    rows = report_document(result, created_at="now")["curves"]
    limits = [changed.curve.at(label).conf_int(0.95) for label in changed.curve.index]
    for entry, (low, high) in zip(rows, limits, strict=True):
        assert (entry["low"], entry["high"]) == pytest.approx((low, high), rel=1e-9)
    assert rows[0]["high"] - rows[0]["low"] > 1.3 * (rows[1]["high"] - rows[1]["low"])
    written(tmp_path, result)


def test_report_document_differs_only_in_time_and_provenance_between_runs():
    one = report_document(study_result(), created_at="now")
    other = StudyResult(
        title="New ranking weights",
        level=0.95,
        sections=(section(),),
        provenance={**PROVENANCE, "command": "another"},
    )
    two = report_document(other, created_at="later")
    assert {key for key in one if one[key] != two[key]} == {"created_at", "provenance"}
    changed = report_document(study_result(section(warnings=())), created_at="now")
    assert changed["checksum"] != one["checksum"]


def test_render_writes_the_same_bytes_for_the_same_result(tmp_path, monkeypatch):
    class Clock(report_module.dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 21, tzinfo=tz)

    monkeypatch.setattr(report_module.dt, "datetime", Clock)
    for name in ("a", "b"):
        render(study_result(), tmp_path / name)
    for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_render_refuses_a_name_that_is_a_path(tmp_path):
    for name in ("", "a/b", "../x", ".hidden"):
        with pytest.raises(ValueError, match="name must be a plain file name"):
            render(study_result(), tmp_path, name=name)


def test_failures_are_the_split_the_log_and_guardrails_not_held():
    assert study_result().failures == ()
    bad = section(
        checks=(
            Check(name="split", kind="srm", status="failed", finding="5 to 1"),
            Check(name="log", kind="log", status="failed", finding="torn"),
            Check(name="rows", kind="data", status="failed", finding="repeated"),
        ),
        scorecard=Scorecard(
            (row("crash", "guardrail", effect(0.1, 0.2, 1.0), "inconclusive"),),
            *(None, 10, (), "no decision", "unproven."),
        ),
    )
    assert study_result(bad).failures == (
        "split: 5 to 1",
        "log: torn",
        "guardrail 'crash': inconclusive",
    )


def test_effects_and_tables_hold_every_number_of_the_sections():
    result = study_result(section("one"), section("two"))
    assert result.effects["one/scorecard/watch/B"].estimate == 1.24
    assert result.effects["two/policy/random/dr"].estimate == pytest.approx(0.0036)
    assert isinstance(result.effects["two/by/day/watch/B"], EffectCurve)
    assert len(result.effects) == 2 * (3 + 2 + 5)
    assert len(result.tables["policy_values"]) == 10


def test_two_processes_writing_one_folder_leave_one_whole_report(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "import test_report as t\n"
        "for _ in range(3): t.render(t.study_result(), Path(sys.argv[1]))"
    )
    run = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    processes = [subprocess.Popen(run, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    marker = json.loads((tmp_path / MARKER).read_text())["files"]
    for name, digest in marker.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest


def _luminance(colour):
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    text = colour.removeprefix("#")
    parts = re.findall("..", text) if len(text) == 6 else [c * 2 for c in text]
    shares = [int(part, 16) / 255 for part in parts]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_style_has_enough_contrast_in_light_dark_and_print():
    style = Path(report_module.__file__).with_name("templates").joinpath("report.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]+);", block))
        for block in re.findall(r":root \{([^}]*)\}", style)
    ]
    assert len(schemes) == 3
    for colours in schemes:
        for ground in ("paper", "soft"):
            for text in ("ink", "muted", "accent", "good", "bad"):
                levels = sorted(_luminance(colours[name]) for name in (ground, text))
                assert (levels[1] + 0.05) / (levels[0] + 0.05) >= 4.5, (ground, text)
