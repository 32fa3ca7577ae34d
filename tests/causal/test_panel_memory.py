"""A log behind an engine stays there: what an event study of it needs in memory."""

import json
import subprocess
import sys

import duckdb
import pytest

ROWS, UNITS, PERIODS = 12_000_000, 20_000, 20  # 288 MB as three columns of eight bytes
IN_A_PROCESS = """
import json, re, sys
from pathlib import Path
import ibis
from causal import event_study
from causal.panel import engine_units

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

fetched, fetch = [], engine_units.fetch_arrow
def counted(table):
    found = fetch(table)
    fetched.append(found.num_rows)
    return found
engine_units.fetch_arrow = counted
connection = ibis.duckdb.connect(sys.argv[1], read_only=True)
connection.con.execute("set threads = 2")
log = connection.table("log")
log.limit(5).to_pyarrow()
before = peak()
study = event_study(log, outcome="y", unit="unit", time="day", cohort="cohort", aggregate="mean")
print(json.dumps({"megabytes": peak() - before, "rows": sum(fetched), "effect": study.estimate}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_event_study_of_an_engine_fetches_a_row_a_unit_in_bounded_memory(tmp_path):
    path = str(tmp_path / "log.duckdb")
    con = duckdb.connect(path)
    con.execute(
        "create table log as select unit, day, cohort, unit % 7 + day * 0.5 "
        "+ hash(i) % 1000 / 1000 + coalesce(day >= cohort, false)::int as y from (select i, "
        "i % $units as unit, i // $units % $periods as day, if(i % $units % 2 = 0, 10.0, null) "
        "as cohort from range($rows) t(i))",
        {"units": UNITS, "periods": PERIODS, "rows": ROWS},
    )
    con.close()
    out = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, path], capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    assert found["rows"] < 1.1 * UNITS + PERIODS + 10
    assert found["effect"] == pytest.approx(1.0, abs=0.01)
    assert found["megabytes"] < 200
