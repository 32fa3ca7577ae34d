"""`livelift simulate` and `livelift plan`: their files, their bytes, their one-line errors."""

from __future__ import annotations

import importlib.util
import json
import re

import pandas as pd
import pytest
from cli_server import ROOT, cold, livelift

from experiments import Schedule

__all__ = ["livelift"]  # a fixture

STUDY = """\
version: 1
title: Which design?
platform: {n_viewers: 80, n_authors: 12, seed: 1}
strategy: {lift: 0.25}
trials:
  - {design: user_split, salt: a}
  - {design: author_split, salt: b}
  - {design: switchback, slice_minutes: 360, burn_in_minutes: 120}
  - {design: dual_sided, salt: c}
simulation: {hours: 96, before_hours: 24, replications: 3, seed: 5}
"""
LOG = """\
version: 1
title: a log
data: {log: "log/*.parquet"}
experiment: {arm: arm}
metrics: {ctr: {kind: mean, outcome: click}}
"""
NOTHING = ["--no-viewers", "--no-authors", "--no-time-slices"]
SET = ["DONE", "comparison.parquet", "estimates.parquet", "report.html", "report.json"]


def names(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.mark.slow
def test_simulate_writes_the_same_set_for_any_number_of_workers(livelift, folder):
    for jobs, out in (("1", "one"), ("2", "two")):
        code, said, err = livelift(
            "simulate", "study.yaml", "--n-jobs", jobs, "--out", out, cwd=folder
        )
        assert (code, said, err) == (0, f"{out}/report.html\n", [])
        assert names(folder / out) == SET
    for name in SET:
        one, two = ((folder / out / name).read_bytes() for out in ("one", "two"))
        if name.startswith("report"):
            made = [json.loads((folder / o / "report.json").read_text()) for o in ("one", "two")]
            one = one.replace(made[0]["created_at"].encode(), b"")
            two = two.replace(made[1]["created_at"].encode(), b"")
        if name != "DONE":
            assert one == two, name
    table = pd.read_parquet(folder / "one" / "comparison.parquet")
    assert table["trial"].tolist()[:2] == ["viewer split", "author split"]
    estimates = pd.read_parquet(folder / "one" / "estimates.parquet")
    assert len(estimates) == 3 * len(table)


def test_simulate_takes_a_seed_in_place_of_the_studys(livelift, folder):
    estimates = []
    for seed in ("5", "6"):
        arguments = ("simulate", "study.yaml", "--seed", seed, "--out", seed)
        assert livelift(*arguments, cwd=folder)[0] == 0
        estimates.append(pd.read_parquet(folder / seed / "estimates.parquet")["estimate"].tolist())
        provenance = json.loads((folder / seed / "report.json").read_text())["provenance"]
        assert provenance["Seed"] == seed
    assert estimates[0] != estimates[1]


def test_simulate_warns_of_equal_salts_in_one_line(livelift, folder):
    (folder / "study.yaml").write_text(STUDY.replace("salt: b", "salt: a"))
    code, _, err = livelift("simulate", "study.yaml", cwd=folder)
    assert (code, len(err)) == (0, 1)
    assert err[0].startswith(
        "livelift: study.yaml: warning: 'viewer split' and 'author split' have the same salt 'a'"
    )
    document = json.loads((folder / "sim" / "report.json").read_text())
    assert len(document["warnings"]) == 1


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("report", STUDY, "study.yaml: this study simulates, and has no log to read out; use "),
        ("simulate", LOG, "study.yaml: this study reads a log, and has no platform to simulate"),
        (
            "simulate",
            STUDY.replace("seed: 1}", "kapa: 1}"),
            "study.yaml: line 3: platform: unknown key 'kapa'; allowed: n_viewers, ",
        ),
        (
            "simulate",
            STUDY.replace("hours: 96", "hours: 5"),
            "study.yaml: switchback 6 h, burn-in 2 h: 0.208333 days must hold two slices or more",
        ),
        (
            "simulate",
            STUDY.replace("360", "30").replace("120", "10"),
            "study.yaml: switchback 30 min, burn-in 10 min: slices of 30 minutes need ticks",
        ),
    ],
)
def test_a_study_of_the_wrong_kind_is_one_line_and_exit_code_2(
    livelift, folder, command, text, expected
):
    (folder / "study.yaml").write_text(text)
    code, out, err = livelift(command, "study.yaml", cwd=folder)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"livelift: {expected}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["simulate"], "Missing argument 'STUDY.yaml'"),
        (["simulate", "study.yaml", "--n-jobs", "0"], "--n-jobs must be a number of workers"),
        (["simulate", "absent.yaml"], "absent.yaml: no such file"),
        (["plan", "p.parquet", "--time", "ts", "--effect", "1"], "Missing option '--outcome'"),
        (
            ["plan", "p.parquet", "--outcome", "y", "--time", "ts", "--effect", "0"],
            "--effect must be a number other than 0; got 0",
        ),
        (
            ["plan", "p.parquet", "--outcome", "y", "--time", "t", "--effect", "1", "--days", "60"],
            "--days must be at most --max-days 28; got 60",
        ),
        (
            ["plan", "p", "--outcome", "y", "--time", "t", "--effect", "1", "--n-regions", "0"],
            "--n-regions must be a whole number",
        ),
        (
            ["plan", "p", "--outcome", "y", "--time", "t", "--effect", "1", "--n-regions", "2"],
            "--n-regions 2 needs --unit, the column of the region",
        ),
        (
            ["plan", "p", "--outcome", "y", "--time", "t", "--effect", "1", *NOTHING],
            "--no-viewers --no-authors --no-time-slices leave nothing to draw by lot",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(livelift, folder, arguments, expected):
    code, out, err = livelift(*arguments, cwd=folder)
    assert (code, out, len(err)) == (2, "", 1)
    assert expected in err[0]


def test_what_cannot_be_written_is_exit_code_4_and_the_old_set_stays(livelift, folder):
    assert livelift("simulate", "study.yaml", cwd=folder)[0] == 0
    old = (folder / "sim" / "report.html").read_bytes()
    arguments = ("simulate", "study.yaml", "--seed", "7")
    code, out, err = livelift(*arguments, cwd=folder, largest_file=5_000)
    assert (code, out, len(err)) == (4, "", 1)
    assert (folder / "sim" / "report.html").read_bytes() == old


def pilot_maker():
    spec = importlib.util.spec_from_file_location("pilot", ROOT / "examples" / "make_pilot.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    """A folder with the example's pilot and its schedule."""
    path = tmp_path_factory.mktemp("pilot")
    pilot_maker().write_pilot(path)
    return path


@pytest.mark.slow
def test_plan_writes_page_schedule_and_table_and_the_schedule_replays(livelift, pilot):
    code, out, err = livelift(
        *("plan", "pilot.parquet", "--outcome", "watch", "--time", "ts", "--treatment", "arm"),
        *("--pilot-schedule", "pilot_schedule.csv", "--effect", "1", "--out", "plan"),
        cwd=pilot,
    )
    assert (code, out, err) == (0, "plan/plan.html\n", [])
    assert names(pilot / "plan") == [
        "DONE",
        "plan.html",
        "plan.json",
        "schedule.csv",
        "table.parquet",
    ]
    document = json.loads((pilot / "plan" / "plan.json").read_text())
    registered = document["plan"]
    table = pd.read_parquet(pilot / "plan" / "table.parquet")
    assert table["design"].iloc[0] == registered["design"]
    schedule = Schedule.load(pilot / "plan" / "schedule.csv")
    again = schedule.design.schedule(
        start=registered["start"], days=registered["days"], seed=registered["seed"]
    )
    assert schedule.table["arm"].tolist() == again.table["arm"].tolist()
    assert registered["design"] in (pilot / "plan" / "plan.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("watch", "wach", "pilot.parquet: --outcome: column 'wach' is not in pilot.parquet; did "),
        ("pilot.parquet", "absent.parquet", "absent.parquet: no such file"),
        ("ts", "watch", "pilot.parquet: "),
    ],
)
def test_a_bad_pilot_is_one_line_and_exit_code_3(livelift, pilot, old, new, expected):
    arguments = ["plan", "pilot.parquet", "--outcome", "watch", "--time", "ts", "--effect", "1"]
    code, out, err = livelift(*[new if a == old else a for a in arguments], cwd=pilot)
    assert (code, out, len(err)) == (3, "", 1)
    assert err[0].startswith(f"livelift: {expected}")


def test_a_bad_pilot_is_told_of_in_options_and_words_of_the_command(livelift, pilot):
    log = pd.read_parquet(pilot / "pilot.parquet")
    log.to_csv(pilot / "pilot.csv", index=False)
    log.assign(arm=1).to_parquet(pilot / "one.parquet")
    asked = ["--outcome", "watch", "--time", "ts", "--effect", "1"]
    lengths = ["--min-slice-minutes", "35", "--max-slice-minutes", "50", *NOTHING[:2]]
    for arguments, expected in (
        (["pilot.csv"], "pilot.csv: must be a Parquet file; make one of this: pandas.read_csv("),
        (["one.parquet", "--treatment", "arm"], "holds only 1: where nobody changed arms, plan wi"),
        (
            ["pilot.parquet", *lengths],
            "no slices of --min-slice-minutes to --max-slice-minutes, 35",
        ),
    ):
        code, out, err = livelift("plan", *arguments, *asked, cwd=pilot)
        assert (code, out, len(err)) == (3, "", 1)
        assert expected in err[0]


def test_a_torn_pilot_or_schedule_is_exit_code_3(livelift, pilot):
    whole = (pilot / "pilot.parquet").read_bytes()
    (pilot / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    (pilot / "torn.csv").write_text("no schedule")
    arguments = ["plan", "torn.parquet", "--outcome", "watch", "--time", "ts", "--effect", "1"]
    code, _, err = livelift(*arguments, cwd=pilot)
    assert (code, len(err)) == (3, 1)
    assert err[0].startswith("livelift: torn.parquet: must be a whole Parquet file")
    arguments[1] = "pilot.parquet"
    code, _, err = livelift(*arguments, "--pilot-schedule", "torn.csv", cwd=pilot)
    assert (code, len(err)) == (3, 1)
    assert err[0].startswith("livelift: torn.csv: not a schedule")


def test_help_names_the_commands():
    code, out, _ = cold("--help", cwd=ROOT)
    assert code == 0
    assert re.findall(r"^  (report|check|simulate|plan)\b", out, flags=re.MULTILINE) == [
        "report",
        "check",
        "simulate",
        "plan",
    ]
