"""Store the numbers of the built-in study's report, rounded as the report rounds them.

Run it from the root of the repository after a change that is meant to move them:

    python tests/reference/make_open_bandit_report.py
"""

from __future__ import annotations

import json
from pathlib import Path

from experiments import built_in_study, run_study
from experiments.report import report_document

if __name__ == "__main__":
    document = report_document(run_study(built_in_study()), created_at="")
    numbers = {
        "scorecard": document["scorecard"],
        "curves": document["curves"],
        "policy_values": document["policy_values"]["values"],
    }
    path = Path(__file__).parent / "open_bandit_report.json"
    path.write_text(json.dumps(numbers, indent=1) + "\n")
