"""Store the numbers of the built-in study's report, rounded as the report rounds them.

Of the designs on the built-in platform a small run is stored: two replications.

Run it from the root of the repository after a change that is meant to move them:

    python tests/reference/make_open_bandit_report.py
"""

from __future__ import annotations

import json
from pathlib import Path

from experiments import built_in_study, run_study
from experiments.report.report import report_document
from experiments.study.platform_question import designs_on_platform

if __name__ == "__main__":
    document = report_document(run_study(built_in_study()), created_at="")
    numbers = {
        "scorecard": document["scorecard"],
        "curves": document["curves"],
        "policy_values": document["policy_values"]["values"],
    }
    small = designs_on_platform(replications=2, triangulated=2)
    sections = {section.key: section.to_dict()["tables"] for section in small.sections}
    numbers["designs"] = {
        "comparison": sections["bias"]["comparison"],
        "triangulation": sections["triangulation"]["methods"],
        "authors": sections["authors"]["authors"],
        "cells": sections["both_sides"]["cells"],
    }
    path = Path(__file__).parent / "open_bandit_report.json"
    path.write_text(json.dumps(numbers, indent=1) + "\n")
