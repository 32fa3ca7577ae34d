"""The report's part on designs: the stored numbers, the page, equal content in every run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_report import PARTS, Page, study_result

from experiments.report.report import LARGEST_PAGE, render, report_document
from experiments.study.platform_question import designs_on_platform

REFERENCE = Path(__file__).parents[1] / "reference" / "open_bandit_report.json"
CLOSE = 1e-6  # the same sums on another machine's BLAS
SHOWN = ["estimates", "bias", "triangulation", "both_sides", "calendar", "authors"]


@pytest.fixture(scope="module")
def readout():
    return designs_on_platform(replications=2, triangulated=2)


@pytest.mark.reference
def test_designs_reproduce_the_stored_numbers(readout):
    """Of the day the file was made, by `tests/reference/make_open_bandit_report.py`."""
    tables = {name: t for s in readout.sections for name, t in s.to_dict()["tables"].items()}
    stored = json.loads(REFERENCE.read_text())["designs"]
    names = {"triangulation": "methods"}
    for name, rows in stored.items():
        found = tables[names.get(name, name)]
        assert len(found) == len(rows)
        for row, expected in zip(found, rows, strict=True):
            for key, value in expected.items():
                number = isinstance(value, float)
                wanted = pytest.approx(value, rel=CLOSE, abs=1e-9) if number else value
                assert row[key] == wanted, (name, key)


def test_designs_are_a_part_of_the_report_with_its_tables(tmp_path, readout):
    result = replace(study_result(), designs=readout)
    files = render(result, tmp_path)
    text = files.html.read_text("utf-8")
    page = Page(text)
    parts = [*PARTS[:5], "designs", *PARTS[5:]]
    assert [i for i in page.ids if i in parts] == parts
    assert len(page.ids) == len(set(page.ids))
    assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert "6. Which experiment should we have run?" in page.words
    assert "7. Methods and assumptions" in page.words
    assert "8. Provenance" in page.words
    assert len(text.encode()) < LARGEST_PAGE
    for name in ("comparison", "estimates", "triangulation", "mechanisms"):
        assert pq.read_table(tmp_path / "tables" / f"{name}.parquet").num_rows
    document = json.loads(files.json.read_text("utf-8"))
    assert [s["key"] for s in document["designs"]] == ["answer", *SHOWN]
    assert "off by" in json.dumps(document["designs"])


def test_designs_change_the_checksum_and_only_their_key(readout):
    without = report_document(study_result(), created_at="now")
    document = report_document(replace(study_result(), designs=readout), created_at="now")
    assert {k for k in document if document[k] != without[k]} == {"checksum", "designs"}
    assert without["designs"] == []


def test_designs_reason_in_the_order_that_was_measured(readout):
    """Signs that do not hang on chance: what is taken from others is counted as won."""
    table = readout.tables["comparison"].set_index("trial")
    assert table.loc["author split", "bias_share"] > 0.8
    assert table.loc["dual-sided total", "bias_share"] > 0.4
    assert table.loc["switchback 2 h", "bias_share"] < -0.3
    assert table.loc["viewer split", "bias_share"] < 0
