"""The command line as a user sees it: one line on stderr, the exit code, the path on stdout."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from cli_server import COMMAND, ENVIRONMENT, ROOT, cold, livelift

from experiments import cli

__all__ = ["livelift"]  # a fixture

STUDY = """\
version: 1
title: small
data: {log: "log/*.parquet"}
experiment: {arm: arm, control: A, cluster: viewer_id}
metrics: {ctr: {kind: ratio, numerator: click, denominator: impression}}
"""


def log(n=400, seed=0, share=0.5):
    rng = np.random.default_rng(seed)
    viewer = np.arange(n) // 2
    return pd.DataFrame(
        {
            "viewer_id": viewer,
            "arm": np.where((rng.random(n) < share)[viewer], "B", "A"),
            "click": rng.integers(0, 2, n),
            "impression": 1,
        }
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log").mkdir()
    log().to_parquet(tmp_path / "log" / "a.parquet")
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def test_report_writes_the_page_and_prints_its_path_alone(folder):
    code, out, err = cold("report", "study.yaml", "--out", "reports/a", cwd=folder)
    assert (code, out, err) == (0, "reports/a/report.html\n", [])
    document = json.loads((folder / "reports/a/report.json").read_text())
    assert document["provenance"]["command"].endswith("report study.yaml --out reports/a")
    assert document["scorecard"][0]["metric"] == "ctr"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["report"], "exactly one of STUDY.yaml and --built-in is required; see livelift --help"),
        (["report", "study.yaml", "--built-in", "open_bandit"], "exactly one of STUDY.yaml"),
        (["report", "--bult-in", "open_bandit"], "No such option: --bult-in"),
        (["report", "absent.yaml"], "absent.yaml: no such file"),
        (["repot"], "No such command 'repot'"),
        (["check"], "Missing argument 'PATH'"),
        (["check", "log", "--schema", "other"], "'other' is not one of"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(livelift, folder, arguments, expected):
    code, out, err = livelift(*arguments, cwd=folder)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith("livelift: ")
    assert expected in err[0]


def test_no_arguments_show_the_help_and_exit_with_2(livelift, folder):
    code, out, err = livelift(cwd=folder)
    assert (code, err) == (2, [])
    assert "report" in out
    assert "check" in out


def test_version_names_the_package(livelift, folder):
    code, out, _ = livelift("--version", cwd=folder)
    assert code == 0
    assert out.startswith("livelift ")


def test_help_loads_nothing_heavy():
    heavy = "pandas numpy pydantic pyarrow scipy ibis duckdb jinja2 yaml rich tqdm"
    code = (
        "import sys; sys.argv = ['livelift', '--help']\n"
        "from experiments.cli import main\n"
        "try: main()\n"
        f"finally: print([m for m in '{heavy}'.split() if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "metrics:",
            "metrcs:",
            "study.yaml: line 5: unknown key 'metrcs'; allowed: "
            "version, title, data, experiment, metrics, off_policy, report, panel, platform, "
            "strategy, trials, simulation",
        ),
        ("kind: ratio", "kind: [", "study.yaml: line 5: "),
        ("version: 1", "version: 1\nversion: 1", "study.yaml: line 2: key 'version' is doubled"),
        (
            "denominator: impression",
            "denominator: click",
            "study.yaml: line 5: metrics.ctr.denominator: column 'click' is metrics.ctr.numerator "
            "already; name a different column for one of them",
        ),
    ],
)
def test_a_study_wrong_in_itself_is_one_line_and_exit_code_2(livelift, folder, old, new, expected):
    (folder / "study.yaml").write_text(STUDY.replace(old, new))
    code, out, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"livelift: {expected}")
    assert not (folder / "out").exists()


def test_an_unknown_built_in_study_is_exit_code_2(livelift, folder):
    code, _, err = livelift("report", "--built-in", "other", cwd=folder)
    assert (code, err) == (2, ["livelift: the built-in study must be 'open_bandit'; got 'other'"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "numerator: click",
            "numerator: clik",
            "study.yaml: metrics.ctr.numerator: column 'clik' is not in log/*.parquet; "
            "did you mean 'click'?",
        ),
        ("log/*.parquet", "lag/*.parquet", "lag/*.parquet: no such file"),
        ("control: A", "control: C", "study.yaml: experiment"),
    ],
)
def test_what_only_the_data_can_tell_is_one_line_and_exit_code_3(
    livelift, folder, old, new, expected
):
    (folder / "study.yaml").write_text(STUDY.replace(old, new))
    code, out, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, out, len(err)) == (3, "", 1)
    assert err[0].startswith(f"livelift: {expected}")


def test_refused_values_name_the_place_in_the_study(livelift, folder):
    bad = log().astype({"click": float})
    bad.loc[[17, 42], "click"] = np.inf
    bad.to_parquet(folder / "log" / "a.parquet")
    code, _, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, len(err)) == (3, 1)
    assert err[0].startswith("livelift: study.yaml: metrics.ctr.numerator: ")
    assert "'click'" in err[0]


def test_torn_and_unfitting_files_are_exit_code_3(livelift, folder):
    whole = (folder / "log" / "a.parquet").read_bytes()
    (folder / "log" / "b.parquet").write_bytes(whole[: len(whole) // 2])
    code, _, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, len(err)) == (3, 1)
    assert err[0].startswith("livelift: log/b.parquet: must be a whole Parquet file")
    log().drop(columns="click").to_parquet(folder / "log" / "b.parquet")
    code, _, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, len(err)) == (3, 1)
    assert "metrics.ctr.numerator: column 'click' is not in log/b.parquet" in err[0]


POLICIES = """\
version: 1
title: small
data: {log: "log/*.parquet"}
off_policy: [{name: new, reward: click, propensity: p, target: p_new, rows: {arm: A}}]
"""


def policy_log():
    frame = log().assign(p=0.5, timestamp=pd.Timestamp("2026-11-21", tz="UTC"))
    return frame.assign(p_new=np.random.default_rng(1).random(len(frame)))


def damage(path, column):
    """Overwrite the pages of a column; the footer stays whole."""
    part = pq.ParquetFile(path).metadata.row_group(0)
    chunk = next(
        c for j in range(part.num_columns) if (c := part.column(j)).path_in_schema == column
    )
    start, size = chunk.dictionary_page_offset or chunk.data_page_offset, 50
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + b"\xff" * size + whole[start + size :])


@pytest.mark.parametrize("asked", [STUDY, POLICIES], ids=["experiment", "policies"])
@pytest.mark.parametrize("column", ["click", "arm", "p", "p_new", "timestamp"])
def test_damaged_pages_are_exit_code_3_and_named_by_their_file(livelift, folder, asked, column):
    (folder / "study.yaml").write_text(asked)
    for name in ("a", "b"):
        policy_log().to_parquet(folder / "log" / f"{name}.parquet")
    assert livelift("report", "study.yaml", "--out", "whole", cwd=folder)[0] == 0
    damage(folder / "log" / "b.parquet", column)
    code, out, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, out, len(err)) == (3, "", 1)
    expected = "livelift: log/b.parquet: must be a whole Parquet file; it is damaged: "
    assert err[0].startswith(expected)
    assert not (folder / "out").exists()
    code, _, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert (code, len(err)) == (3, 1)
    assert "b.parquet: must be a whole Parquet file; it is damaged: " in err[0]


def test_what_cannot_be_read_while_nothing_is_written_is_exit_code_3(monkeypatch, capsys, folder):
    def broken(*_, **__):
        raise OSError(5, "Input/output error", "log/a.parquet")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("experiments.study.study.run_study", broken)
    monkeypatch.setattr(sys, "argv", ["livelift", "report", "study.yaml"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 3
    expected = "livelift: log/a.parquet: cannot be read: Input/output error\n"
    assert capsys.readouterr().err == expected


def test_a_refused_propensity_names_its_file_and_rows(livelift, folder):
    (folder / "study.yaml").write_text(POLICIES.replace(", rows: {arm: A}", ""))
    frame = policy_log()
    frame.to_parquet(folder / "log" / "a.parquet")
    frame.loc[[17, 42, 99], "p"] = [0.0, 1.3, -0.1]
    frame.to_parquet(folder / "log" / "b.parquet")
    code, _, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, err) == (
        3,
        [
            "livelift: log/b.parquet: p must be in (0, 1]; 3 rows are not, e.g. rows 17, 42, 99 "
            "(0.0, 1.3, -0.1); log the probability with which the shown action was chosen"
        ],
    )


def test_a_report_that_cannot_be_written_is_exit_code_4_and_the_old_one_stays(livelift, folder):
    assert livelift("report", "study.yaml", cwd=folder)[0] == 0
    old = (folder / "out" / "report.html").read_bytes()
    log(seed=1).to_parquet(folder / "log" / "a.parquet")
    code, out, err = livelift("report", "study.yaml", cwd=folder, largest_file=10_000)
    assert (code, out, len(err)) == (4, "", 1)
    assert "the report could not be written" in err[0]
    assert (folder / "out" / "report.html").read_bytes() == old
    code, _, err = livelift("report", "study.yaml", "--out", "study.yaml", cwd=folder)
    assert (code, len(err)) == (4, 1)


HOLD = (
    "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True)"
)


@pytest.mark.slow
def test_a_second_run_waits_for_the_first_and_then_exits_with_4(livelift, folder):
    (folder / "out").mkdir()
    hold = [sys.executable, "-c", HOLD + "; time.sleep(90)", folder / "out" / ".livelift.lock"]
    with subprocess.Popen(hold, stdout=subprocess.PIPE) as other:
        try:
            other.stdout.readline()
            started = time.monotonic()
            code, out, err = livelift("report", "study.yaml", cwd=folder)
        finally:
            other.kill()
    assert (code, out, len(err)) == (4, "", 1)
    assert "another run has been writing here for 10 s" in err[0]
    assert time.monotonic() - started > 10


def test_strict_exits_with_5_and_writes_the_report(livelift, folder):
    log(n=1_600, share=0.3).to_parquet(folder / "log" / "a.parquet")
    code, out, err = livelift("report", "study.yaml", "--strict", cwd=folder)
    assert (code, out, len(err)) == (5, "out/report.html\n", 1)
    assert err[0].startswith("livelift: strict: split, overall: ")
    assert (folder / "out" / "report.html").is_file()
    code, _, err = livelift("report", "study.yaml", cwd=folder)
    assert (code, err) == (0, [])


def test_interrupting_exits_with_130_in_one_line(folder):
    fifo = folder / "study.fifo"
    os.mkfifo(fifo)
    run = [*COMMAND, "report", str(fifo)]
    with subprocess.Popen(run, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        for _ in range(600):
            try:
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:
                time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        os.close(writer)
    assert (process.returncode, err.decode().strip()) == (130, "livelift: interrupted")


def test_the_unforeseen_says_where_it_happened(monkeypatch, capsys):
    error = RuntimeError("singular")
    error.add_note("in the analysis of trial 'mine'")
    monkeypatch.setattr(cli, "app", Mock(side_effect=error))
    with pytest.raises(SystemExit):
        cli.main()
    said = "unforeseen RuntimeError: singular; in the analysis of trial 'mine'; LIVELIFT_DEBUG=1"
    assert capsys.readouterr().err.startswith(f"livelift: {said}")


def test_the_unforeseen_is_one_line_that_says_how_to_get_the_traceback(monkeypatch, capsys):
    def broken(**_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setenv("LIVELIFT_DEBUG", "")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "livelift: unforeseen RuntimeError: two lines; LIVELIFT_DEBUG=1 shows the traceback\n"
    )
    monkeypatch.setenv("LIVELIFT_DEBUG", "1")
    with pytest.raises(SystemExit):
        cli.main()
    assert "Traceback" in capsys.readouterr().err


def treatments(n=200):
    return pd.DataFrame(
        {
            "impression_id": np.arange(n),
            "timestamp": pd.Timestamp("2026-11-21", tz="UTC") + pd.to_timedelta(np.arange(n), "s"),
            "room_id": np.arange(n) % 7,
            "policy_id": "new",
            "propensity": 0.25,
        }
    )


def test_check_passes_a_sound_log_and_names_what_is_wrong_with_another(livelift, folder):
    frame = treatments()
    frame.to_parquet(folder / "a.parquet")
    code, out, err = livelift("check", "a.parquet", cwd=folder)
    assert (code, out, err) == (0, "a.parquet: 200 rows, 5 columns, every rule holds\n", [])
    frame.loc[[17, 42, 99], "propensity"] = [0.0, 1.3, -0.1]
    frame.to_parquet(folder / "a.parquet")
    code, out, err = livelift("check", "a.parquet", cwd=folder)
    assert (code, out) == (3, "")
    assert err == [
        "livelift: a.parquet: propensity must be in (0, 1]; 3 rows are not, "
        "e.g. rows 17, 42, 99 (0.0, 1.3, -0.1)"
    ]


def test_check_of_any_table_asks_for_whole_files_rows_and_finite_numbers(livelift, folder):
    code, out, _ = livelift("check", "log", "--schema", "any", cwd=folder)
    assert (code, out) == (0, "log: 400 rows, 4 columns, every rule holds\n")
    pd.DataFrame({"x": [1.0, np.inf, -np.inf]}).to_parquet(folder / "log" / "a.parquet")
    code, _, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert (code, err) == (3, ["livelift: log: x must be finite; 2 rows are not"])
    (folder / "log" / "a.parquet").write_bytes(b"PAR1 torn")
    code, _, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert (code, len(err)) == (3, 1)
    assert "must be a whole Parquet file" in err[0]
    code, _, err = livelift("check", "absent.parquet", cwd=folder)
    assert (code, err) == (3, ["livelift: absent.parquet: no such file"])


def test_check_of_any_table_reads_every_column_of_every_file(livelift, folder):
    log().assign(extra=np.inf).to_parquet(folder / "log" / "b.parquet")
    code, _, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert code == 3
    assert err == [
        "livelift: log: warning: column 'extra' is not in log/a.parquet",
        "livelift: log: extra must be finite; 400 rows are not",
    ]
    log().assign(extra=1.5).to_parquet(folder / "log" / "b.parquet")
    code, out, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert (code, out) == (0, "log: 800 rows, 5 columns, no error\n")
    assert err == ["livelift: log: warning: column 'extra' is not in log/a.parquet"]


def test_check_of_any_table_takes_kinds_that_the_report_takes(livelift, folder):
    log().assign(click=0.5).to_parquet(folder / "log" / "b.parquet")
    code, out, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert (code, out, err) == (0, "log: 800 rows, 4 columns, every rule holds\n", [])
    log().assign(click="yes").to_parquet(folder / "log" / "b.parquet")
    code, _, err = livelift("check", "log", "--schema", "any", cwd=folder)
    assert code == 3
    assert len(err) == 1
    assert "column 'click' must be of one kind in all files; it is int64 and" in err[0]


@pytest.mark.slow
def test_the_shipped_example_works_from_its_own_folder(livelift, tmp_path):
    spec = importlib.util.spec_from_file_location("maker", ROOT / "examples" / "make_study_data.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.write_log(tmp_path / "data" / "log")
    (tmp_path / "study.yaml").write_text((ROOT / "examples" / "study.yaml").read_text())
    code, out, err = livelift("report", "study.yaml", "--out", "out", cwd=tmp_path)
    assert (code, out, err) == (0, "out/report.html\n", [])
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = {row["metric"]: row for row in document["scorecard"]}
    watch = rows["watch"]
    assert watch["relative_low"] < 0.07 < watch["relative_high"]
    assert rows["crash rate"]["verdict"] == "non-inferior"
    methods = [v["method"] for v in document["policy_values"]["values"]]
    assert methods == ["logging policy", "ips", "snips", "dr"]
    assert {c["by"] for c in document["curves"]} == {"day", "new_viewer"}
