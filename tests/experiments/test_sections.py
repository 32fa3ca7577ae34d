"""Sections of a page: their tables hold the numbers, their drawings are sound, names are text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from causal.effect import Effect, EffectCurve
from experiments import (
    ReportSection,
    Saturation,
    Switchback,
    Trial,
    UserSplit,
    burn_in_curve,
    carryover_bound,
    compare,
    dual_sided_effect,
    recommend,
    share_response,
    switch_event_study,
    switchback_effect,
    switchback_power,
    write_page,
)
from experiments.report.pair_sections import author_section
from experiments.report.power_sections import timeline_section
from experiments.report.report_templates import LARGEST_PAGE, filled_page
from experiments.report.rotation_sections import residual_acf
from experiments.report.section_page import sections_of
from experiments.simulation.comparison import Comparison
from experiments.simulation.simulation import Simulation
from experiments.simulation.triangulation import Triangulation
from recsys import LivePlatform, Strategy

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "]]></style><svg onload=alert(1)>",
)
ROLES = {"outcome": "watch", "treatment": "arm", "time": "ts"}


class Page(HTMLParser):
    """Tags with attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).replace("\N{NO-BREAK SPACE}", " ").split())


def drawings(html):
    """Every SVG, parsed as XML."""
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]


def written(folder, results, **options):
    files = write_page(results, folder, title="A page", **options)
    html = files.html.read_text("utf-8")
    assert "{_" not in html  # a formula that was not filled in
    return json.loads(files.json.read_text("utf-8")), Page(html), drawings(html)


def log_of(plan, decay=0.5):
    hours = pd.date_range("2026-03-02", periods=336, freq="h")
    arm = plan.treatment_at(hours)
    exposure, level = [], 0.0
    for w in arm:
        level = decay * level + (1 - decay) * w
        exposure.append(level)
    noise = np.random.default_rng(3).normal(0, 0.3, 336)
    watch = 20 + np.array(exposure) + np.sin(hours.hour * np.pi / 12) + noise
    return pd.DataFrame({"ts": hours, "arm": arm, "watch": watch})


@pytest.fixture(scope="module")
def plan():
    return Switchback(360, burn_in_minutes=60).schedule(start="2026-03-02", days=14, seed=7)


@pytest.fixture(scope="module")
def log(plan):
    return log_of(plan)


def test_schedule_sections_hold_every_slice_and_the_balance(tmp_path, plan):
    document, page, found = written(tmp_path, plan)
    calendar, balance, assumptions = document["sections"]
    slices = calendar["tables"]["slices"]
    assert [row["arm"] for row in slices] == plan.table["arm"].tolist()
    assert slices[0]["read_from"] == "2026-03-02 01:00:00"
    shares = [row["share"] for row in balance["tables"]["balance"]]
    assert shares == pytest.approx(plan.balance()["share"].tolist())
    assert [row["status"] for row in assumptions["tables"]["assumptions"]].count("passed") == 1
    assert "28 slices are treated" in page.words
    assert len(found) == 2
    paths = {p.get("class"): p.get("d") for p in found[0].iter() if p.tag == "path"}
    assert paths["slot"].count("M") == 56  # each slice once
    assert paths["treated"].count("M") == 28
    assert paths["hatch"].count("M") > 56


def test_calendar_cuts_slices_at_midnight_and_draws_shares(tmp_path):
    long = Switchback(2880).schedule(start="2026-03-02 06:00", days=14, seed=1)
    _, _, found = written(tmp_path / "a", long)
    slots = next(p.get("d") for p in found[0].iter() if p.get("class") == "slot")
    assert slots.count("M") == 7 * 3
    shares = Saturation((0.1, 0.9)).schedule(start="2026-03-02", days=4, seed=1)
    document, _, found = written(tmp_path / "b", shares)
    filled = next(p.get("d") for p in found[0].iter() if p.get("class") == "treated")
    heights = sorted({float(h) for h in re.findall(r"v(\d[\d.]*)", filled)})
    assert heights == [1.1, 9.9]  # of a line of 11
    assert [s["key"] for s in document["sections"]] == ["calendar", "balance"]


def test_switchback_sections_hold_effect_paths_and_assumptions(tmp_path, plan, log):
    read = switchback_effect(log, **ROLES, schedule=plan, burn_in=60)
    document, page, found = written(tmp_path, read)
    rotation, residuals, assumptions = document["sections"]
    row = rotation["tables"]["effect"][0]
    assert row["estimate"] == pytest.approx(read.estimate)
    assert (row["low"], row["high"]) == pytest.approx(read.conf_int())
    assert row["p_value"] == pytest.approx(read.p_value)
    bars = [r for r in found[0].iter() if r.tag == "rect"]
    assert len(bars) == 30
    lags = residuals["tables"]["autocorrelation"]
    assert lags[0]["correlation"] == pytest.approx(residual_acf(read.slices)["correlation"][0])
    named = {r["diagnostic"]: r["status"] for r in assumptions["tables"]["assumptions"]}
    assert named["largest outcome"] == "not testable"
    assert named["law of the coin"] == "passed"
    assert "○ not testable" in page.words
    assert "✓ passed" in page.words


def test_residual_acf_of_alternating_residuals_is_minus_one():
    n = 40
    slices = pd.DataFrame(
        {
            "unit": "all",
            "slice": range(n),
            "arm": [0, 0, 1, 1] * 10,
            "n": 5,
            "mean": [1.0, -1.0] * 20,
            "read": True,
            "stratum": 0,
        }
    )
    found = residual_acf(slices)
    assert found["correlation"].to_numpy() == pytest.approx((-1.0) ** found["lag"].to_numpy())
    assert found["limit"].iloc[0] == pytest.approx(2 / np.sqrt(39))
    assert residual_acf(slices.head(6)).empty
    assert residual_acf(slices.assign(mean=2.0)).empty


def test_carryover_sections_hold_the_curves(tmp_path, plan, log):
    shared = {**ROLES, "schedule": plan}
    burnt = burn_in_curve(log, **shared, burn_ins=[0, 60, 120, 180])
    bound = carryover_bound(log, **shared, orders=[0, 60, 120], n_draws=99)
    events = switch_event_study(log, **shared)
    document, page, found = written(tmp_path, [burnt, bound, events])
    one, two, three = document["sections"]
    rows = one["tables"]["burn_in"]
    assert [row["at"] for row in rows] == [0, 60, 120, 180]
    assert [row["estimate"] for row in rows] == pytest.approx(list(burnt.estimate))
    assert rows[-1]["plateau_p"] is None
    assert [row["order"] for row in two["tables"]["orders"]] == [0, 60]
    assert len(three["tables"]["switches"]) == len(events.index)
    assert len(found) == 3
    assert "anticipation" in page.words


def pairs():
    viewer, author = (index.ravel() for index in np.indices((12, 10)))
    both = (viewer % 2) * (author % 2)
    noise = np.random.default_rng(1).normal(0, 1, len(viewer))
    return pd.DataFrame(
        {
            "viewer": viewer,
            "author": author,
            "va": viewer % 2,
            "aa": author % 2,
            "y": 5 + 2 * both - 0.5 * (viewer % 2) + noise,
        }
    )


def test_dual_sided_section_is_a_waterfall_of_the_four_effects(tmp_path):
    roles = {"viewer": "viewer", "author": "author", "viewer_arm": "va", "author_arm": "aa"}
    read = dual_sided_effect(pairs(), outcome="y", **roles)
    document, page, found = written(tmp_path, read)
    tables = document["sections"][0]["tables"]
    assert [row["mean"] for row in tables["cells"]] == pytest.approx(read.cells["mean"].tolist())
    named = {row["effect"]: row["estimate"] for row in tables["effects"]}
    assert named["total effect"] == pytest.approx(read.estimate)
    bars = [(float(r.get("x")), float(r.get("width"))) for r in found[0].iter() if r.tag == "rect"]
    assert len(bars) == 4
    ends = [[x, x + w] for x, w in bars]
    for one, two in pairwise(ends[:-1]):  # each starts where the last ended
        assert min(abs(a - b) for a in one for b in two) < 0.3
    assert "viewer only" in page.words


def test_share_section_marks_what_was_not_tried(tmp_path):
    cells = [(c, (0.2, 0.8)[c % 2], a) for c in range(12) for a in (0, 1)]
    table = pd.DataFrame(cells, columns=["cell", "share", "arm"])
    table["y"] = table["arm"] + 2 * table["share"] + table["cell"] // 2 % 2
    read = share_response(table, outcome="y", arm="arm", share="share", cell="cell")
    document, _, found = written(tmp_path, read)
    rows = document["sections"][0]["tables"]["lines"]
    assert {(r["arm"], r["share"]) for r in rows if r["n_cells"] == 0} == {(0, 0.0), (1, 1.0)}
    hollow = [c for c in found[0].iter() if c.tag == "circle" and "hollow" in c.get("class")]
    assert len(hollow) >= 2


def test_author_section_holds_differences_and_the_truth(tmp_path):
    rng = np.random.default_rng(2)
    authors = pd.DataFrame(
        {
            "author_arm": np.arange(20) % 2,
            "effort": rng.normal(0, 1, 20),
            "live_minutes": 60.0,
            "watch_minutes": rng.normal(100, 5, 20) + 3 * (np.arange(20) % 2),
        }
    )
    truth = pd.DataFrame(
        {
            "quantity": ["effort", "live_minutes", "watch_minutes"],
            "none": [0.0, 60.0, 99.0],
            "all": [0.1, 60.0, 101.0],
        }
    )
    section = author_section(authors, truth=truth)
    rows = {row["quantity"]: row for row in section.to_dict()["tables"]["authors"]}
    watch = rows["watch minutes received (income follows them)"]
    by_arm = authors.groupby("author_arm")["watch_minutes"]
    assert watch["difference"] == pytest.approx(by_arm.mean()[1] - by_arm.mean()[0])
    assert watch["std_error"] == pytest.approx(np.sqrt((by_arm.var() / by_arm.size()).sum()))
    assert (watch["none"], watch["all"]) == (99.0, 101.0)
    assert rows["minutes live"]["difference"] == 0
    _, _, found = written(tmp_path, section)
    assert len([p for p in found[0].iter() if p.get("class") == "diamond"]) == 2  # two vary
    with pytest.raises(ValueError, match="two authors an arm are needed"):
        author_section(authors.head(3))
    with pytest.raises(ValueError, match="authors must have one of the columns"):
        author_section(authors[["author_arm"]])


def simulation(names):
    rng = np.random.default_rng(0)
    rows = [
        {
            "replication": r,
            "trial": name,
            "estimate": 1 + k + rng.normal(0, 0.1),
            "std_error": 0.1,
            "low": 0.8 + k,
            "high": 1.2 + k,
            "p_value": 0.01,
            "truth": 1.0,
        }
        for r in range(8)
        for k, name in enumerate(names)
    ]
    truth = Effect(
        estimate=1.0,
        std_error=0.01,
        estimand="total",
        method="worlds",
        n_obs=8,
        baseline=10.0,
        baseline_variance=1e-4,
        baseline_cov=0.0,
    )
    notes = pd.DataFrame(
        [(names[0], "few slices", 3)], columns=["trial", "message", "replications"]
    )
    return Simulation(truth=truth, estimates=pd.DataFrame(rows), notes=notes, worlds_per_second=1.0)


def comparison(names=("near", "far")):
    found = simulation(names)
    chances = ("coverage", "coverage_target", "power", "size")
    table = pd.DataFrame(
        [
            {
                "trial": name,
                "truth": 1.0,
                "target": 1.0 + k,
                "mean": 1.0 + k,
                "bias": float(k),
                "bias_share": float(k),
                "sd": 0.1,
                "rmse": 0.1 + k,
                **dict.fromkeys(chances, 1.0 - k),
                "days": 14.0,
                "share_exposed": 0.5,
                "mc_se_bias": 0.03,
            }
            for k, name in enumerate(names)
        ]
    )
    return Comparison(table=table, simulation=found)


def test_comparison_sections_answer_and_draw_the_truth(tmp_path):
    document, page, found = written(tmp_path, comparison())
    assert [s["key"] for s in document["sections"]] == ["estimates", "bias", "notes"]
    assert "“near”" in document["answer"][1]
    assert "furthest off is “far”, which reads +2.00 min (+100 %)" in page.words
    rows = document["sections"][1]["tables"]["comparison"]
    assert [row["bias_share"] for row in rows] == [0.0, 1.0]
    picture = found[0]
    assert len([p for p in picture.iter() if p.get("class") == "truth"]) == 1
    strips = [p.get("d").count("M") for p in picture.iter() if p.get("class") == "strip"]
    assert strips == [8, 8]
    assert len([p for p in picture.iter() if p.get("class") == "diamond"]) == 2


def test_comparison_answer_names_the_best_honest_design(tmp_path):
    base = comparison()
    table = base.table.assign(coverage=[0.2, 0.95])
    document, _, _ = written(tmp_path, replace(base, table=table))
    assert "of those whose intervals do in 90\N{NO-BREAK SPACE}% of runs" in document["answer"][1]
    assert "“far” (rmse 1.10)" in document["answer"][1]


def test_comparison_sections_of_a_strategy_without_effect_speak_in_minutes(tmp_path):
    trials = [Trial(UserSplit()), Trial(Switchback(360))]
    platform = LivePlatform(n_viewers=60, n_authors=8, seed=1)
    lengths = {"hours": 168, "before_hours": 24, "replications": 3, "seed": 2}
    found = compare(platform, trials, strategy=Strategy(0.0), **lengths)
    assert found.truth.estimate == 0
    document, page, _ = written(tmp_path, found)
    assert "the strategy does 0" in document["answer"][0]
    assert "nan" not in page.words.lower()
    assert re.search(r"known to [\d.]+ min", document["answer"][2])
    table = document["sections"][1]["tables"]["comparison"]
    assert [row["bias_share"] for row in table] == [None, None]
    assert found.table["bias"].abs().max() > 0


def triangulation(name="viewer split"):
    row = {
        "method": name,
        "estimand": "total",
        "estimate": 1.2,
        "std_error": 0.1,
        "low": 1.0,
        "high": 1.4,
        "target": 1.1,
        "truth": 0.8,
        "estimation_error": 0.1,
        "estimand_gap": 0.3,
        "mc_se_gap": 0.01,
        "bias": 0.32,
        "rmse": 0.35,
        "coverage": 0.25,
        "reason": f"off by +38%; habit explains 30 of these points {name}",
    }
    mechanisms = pd.DataFrame(
        [{"method": name, "mechanism": "habit", "gap_share": 0.38, "without": 0.08}]
    )
    truth = simulation((name,)).truth
    return Triangulation(table=pd.DataFrame([row]), mechanisms=mechanisms, truth=truth)


def test_triangulation_section_has_dot_interval_target_truth_and_reason(tmp_path):
    document, page, found = written(tmp_path, triangulation())
    row = document["sections"][0]["tables"]["methods"][0]
    assert (row["estimand_gap"], row["target"]) == (0.3, 1.1)
    assert "habit explains 30 of these points" in page.words
    classes = [p.get("class") for p in found[0].iter()]
    assert {"truth", "ci", "diamond", "dot hollow"} <= set(classes)  # hollow: misses the truth


def test_power_and_timeline_sections_show_the_effect_that_is_found(tmp_path, log):
    quiet = log.assign(watch=log["watch"] - log["arm"])
    curve = switchback_power(
        quiet,
        outcome="watch",
        time="ts",
        effects=[0.1, 0.5],
        slice_minutes=360,
        n_replications=60,
        n_draws=19,
        level=0.9,
    )
    document, page, found = written(tmp_path, curve)
    rows = document["sections"][0]["tables"]["power"]
    assert [row["power"] for row in rows] == pytest.approx(curve.table["power"].tolist())
    assert len(found) == 1
    assert "is found with a power of 80%" in page.words
    line = pd.DataFrame(
        {
            "days": [3, 14, 28],
            "n_slices": [12, 56, 112],
            "mde": [np.inf, 0.4, 0.3],
            "mde_relative": [np.inf, 0.02, 0.015],
            "extrapolated": [False, False, True],
        }
    )
    section = timeline_section(line, effect=0.02)
    assert section.sentences[0].endswith("is found from 14 days on.")
    document, page, drawn = written(tmp_path / "line", section)
    assert document["sections"][0]["tables"]["timeline"][0]["mde"] is None
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in drawn[0].iter("circle")]
    lines = [p.get("d") for p in drawn[0].iter() if p.get("class") == "line second dashed"]
    ends = [float(n) for n in re.findall(r"[\d.]+", lines[-1])]
    assert ends == [*dots[-2], *dots[-1]]  # no gap where the pilot ends
    assert "∞" in page.words


def test_recommendation_sections_hold_the_table_the_frontier_and_the_plan(tmp_path, plan, log):
    found = recommend(log[["ts", "watch"]], outcome="watch", time="ts", effect=0.5)
    document, page, drawn = written(tmp_path, found)
    html = (tmp_path / "page.html").read_text("utf-8")
    keys = [section["key"] for section in document["sections"]]
    assert keys[:3] == ["designs", "frontier", "screening"]
    assert {"power", "calendar", "balance", "assumptions"} <= set(keys)
    rows = document["sections"][0]["tables"]["designs"]
    assert [row["design"] for row in rows] == found.table["design"].tolist()
    assert document["answer"][0].startswith("To tell an effect of 0.5 on watch from none,")
    assert str(found.best["design"]) in page.words
    frontier = next(d for d in drawn if "Bias against error" in "".join(d.itertext()))
    *others, ring, dot = frontier.iter()
    assert [ring.get("class"), dot.get("class")] == ["ring", "dot"]  # on top of all else
    assert [mark.text for mark in others].count(found.best["design"]) == 1
    assert "ringed: recommended" in page.words
    assert "psi 0.7" in page.words
    assert not re.search(r"platform=|history=|schedule=|\{'", page.words)
    empty = re.findall(r'<td class="([^"]*)" data-label="Not to be run"><span></span>', html)
    assert empty
    assert all("empty" in found for found in empty)


def test_any_curve_has_a_section(tmp_path):
    shared = {"estimand": "ate", "method": "Lin", "n_obs": 9}
    numbers = EffectCurve(index=(1, 2), index_name="lag", estimate=[1, 2], cov=np.eye(2), **shared)
    labels = EffectCurve(
        index=("a", "b"), index_name="city", estimate=[1, 9], cov=np.eye(2), **shared
    )
    document, _, found = written(tmp_path, [numbers, labels])
    assert [s["title"] for s in document["sections"]] == ["Ate by lag", "Ate by city"]
    assert len(found) == 2


def test_write_page_keeps_hostile_names_as_text(tmp_path):
    for i, name in enumerate(HOSTILE):
        rotation = Switchback(720, regions=(name, "west")).schedule(
            start="2026-03-02", days=2, seed=1
        )
        curve = EffectCurve(
            index=(name,),
            index_name=name,
            estimate=[1],
            cov=[[1]],
            estimand=name,
            method=name,
            n_obs=9,
        )
        own = ReportSection(key="own", title=name, sentences=(name,))
        results = [rotation, comparison((name, f"{name} 2")), triangulation(name), curve, own]
        files = write_page(results, tmp_path / str(i), title=name)
        html = files.html.read_text("utf-8")
        page = Page(html)
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
        refused = ("src", "href", "style", "xlink:href")
        assert not [a for _, found in page.tags for a in found if a in refused or a[:2] == "on"]
        assert name in " ".join(page.text)
        assert drawings(html)
        assert "49" not in page.words.split()
        assert json.loads(files.json.read_text("utf-8"))["title"] == name


def test_write_page_stays_small_and_counts_the_rows_that_it_leaves_out(tmp_path):
    short = Switchback(30).schedule(start="2026-03-02", days=21, seed=1)
    files = write_page(short, tmp_path, title="long")
    assert files.html.stat().st_size < LARGEST_PAGE
    assert "more rows stand in" in files.html.read_text("utf-8")
    document = json.loads(files.json.read_text())
    assert len(document["sections"][0]["tables"]["slices"]) == 21 * 48


def test_write_page_writes_the_same_content_again_but_for_the_time(tmp_path):
    one, two = (
        json.loads(write_page(comparison(), tmp_path / name, title="x").json.read_text())
        for name in ("a", "b")
    )
    assert {**one, "created_at": ""} == {**two, "created_at": ""}
    other = json.loads(
        write_page(comparison(("near", "else")), tmp_path / "c", title="x").json.read_text()
    )
    assert other["checksum"] != one["checksum"]


def test_write_page_refuses_what_has_no_section(tmp_path):
    with pytest.raises(TypeError, match=r"a page is made of results of experiments .* got str"):
        write_page(["nothing"], tmp_path, title="x")
    with pytest.raises(ValueError, match="results must hold one result or more; got none"):
        write_page([], tmp_path, title="x")
    for name in ("a/b", "", ".x"):
        with pytest.raises(ValueError, match="name must be a plain file name"):
            write_page(comparison(), tmp_path, title="x", name=name)


def test_every_drawing_is_sound_xml_and_stays_within_its_width(plan, log):
    read = switchback_effect(log, **ROLES, schedule=plan, burn_in=60)
    results = [plan, read, comparison(), triangulation()]
    sections = [section for each in results for section in sections_of(each)]
    for section in sections:
        for drawing in section.drawings:
            html = filled_page(
                "page.html.j2",
                title="x",
                sections=[section],
                answer=(),
                warnings=(),
                facts={},
                version="0",
                created_at="now",
                checksum="0",
                name="x",
                limits={"rows": 5},
            )
            for svg in drawings(html):
                assert svg.get("role") == "img"
                texts = [t for t in svg.iter() if t.tag == "text"]
                assert texts
                assert all(0 <= float(t.get("x")) <= 360 for t in texts)
                height = float(svg.get("viewBox").split()[3])
                assert all(0 <= float(t.get("y")) <= height for t in texts)
            assert drawing.description
