"""Commands run as a user runs them, by one process that keeps what it has imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from experiments.cli import main; main()"]

# One process runs many commands, because the imports cost more than the commands.
SERVER = """
import json, os, resource, sys
from experiments.cli import main
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    task = json.loads(line)
    os.chdir(task["cwd"])
    for name, stream in (("out", 1), ("err", 2)):
        file = os.open(task[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
        os.close(file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (task["largest_file"] or soft, hard))
    sys.argv = ["livelift", *task["arguments"]]
    try:
        main()
    except SystemExit as end:
        print(end.code, file=answers, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "LIVELIFT_DEBUG": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def livelift(tmp_path_factory):
    """Run a command; gives the exit code, stdout and the lines on stderr."""
    texts = tmp_path_factory.mktemp("texts")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )

    def run(*arguments, cwd, largest_file=None):
        task = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "largest_file": largest_file,
            **{name: str(texts / name) for name in ("out", "err")},
        }
        server.stdin.write(json.dumps(task) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = ((texts / name).read_text() for name in ("out", "err"))
        assert "Traceback" not in err
        return code, out, err.splitlines()

    with server:
        yield run
        server.stdin.close()


def cold(*arguments, cwd):
    """Run a command in a fresh interpreter."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()
