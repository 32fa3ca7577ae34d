"""A set of files appears whole, or the old one stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from experiments.atomic import MARKER, write_set


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name != MARKER
    }


OLD = {"report.html": b"old page", "report.json": b"{}", "tables/a.parquet": b"old table"}
NEW = {"report.html": b"new page" * 40_000, "report.json": b"[]", "tables/b.parquet": b"new table"}


def test_write_set_writes_all_and_removes_what_the_old_set_alone_had(tmp_path):
    write_set(tmp_path, OLD)
    assert content(tmp_path) == OLD
    (tmp_path / "mine.txt").write_text("not yours")
    write_set(tmp_path, NEW)
    assert content(tmp_path) == {**NEW, "mine.txt": b"not yours"}
    assert set(json.loads((tmp_path / MARKER).read_text())["files"]) == set(NEW)


def test_write_set_refuses_a_folder_in_the_way_before_it_touches_anything(tmp_path):
    write_set(tmp_path, OLD)
    (tmp_path / "extra").mkdir()
    with pytest.raises(IsADirectoryError):
        write_set(tmp_path, {**NEW, "extra": b""})
    assert content(tmp_path) == OLD


def test_write_set_never_follows_a_marker_out_of_its_folder(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("keep")
    folder = tmp_path / "out"
    folder.mkdir()
    names = {"../victim": "", str(victim): "", "x/../../victim": ""}
    (folder / MARKER).write_text(json.dumps({"files": names}))
    write_set(folder, OLD)
    assert victim.read_text() == "keep"


def _failing(monkeypatch, at):
    """Let the n-th write, flush or replacement fail; return the counter."""
    calls = []
    for name in ("write", "fsync", "replace"):
        original = getattr(os, name)

        def failing(*args, original=original, name=name):
            calls.append(name)
            if len(calls) == at:
                raise OSError(28, "No space left on device")
            return original(*args)

        monkeypatch.setattr(os, name, failing)
    return calls


def test_write_set_keeps_the_old_set_when_the_disk_is_full(tmp_path, monkeypatch):
    write_set(tmp_path / "count", NEW)
    with monkeypatch.context() as patch:
        calls = _failing(patch, at=-1)
        write_set(tmp_path / "count", NEW)
    staged = calls.index("replace")
    assert staged > 7
    for at in range(1, staged + 1):
        folder = tmp_path / str(at)
        write_set(folder, OLD)
        with monkeypatch.context() as patch:
            _failing(patch, at)
            with pytest.raises(OSError, match="No space"):
                write_set(folder, NEW)
        assert content(folder) == OLD
        assert (folder / MARKER).is_file()
        write_set(folder, NEW)
        assert content(folder) == NEW


CRASH = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from experiments.atomic import write_set
    at, calls = int(sys.argv[2]), 0
    for name in ("write", "fsync", "replace"):
        def dying(*args, original=getattr(os, name)):
            global calls
            calls += 1
            if calls == at:
                os._exit(9)
            return original(*args)
        setattr(os, name, dying)
    new = {"report.html": b"new page" * 40_000, "report.json": b"[]"}
    new["tables/b.parquet"] = b"new table"
    write_set(Path(sys.argv[1]), new)
    print(calls)
    """
)


def test_write_set_leaves_every_file_whole_when_the_process_dies_at_every_7th_write(tmp_path):
    run = [sys.executable, "-c", CRASH]
    total = int(
        subprocess.run([*run, tmp_path / "n", "-1"], capture_output=True, check=True).stdout
    )
    assert total > 14
    for at in (*range(1, total + 1, 7), total):
        folder = tmp_path / str(at)
        write_set(folder, OLD)
        assert subprocess.run([*run, folder, str(at)], check=False).returncode == 9
        found = content(folder)
        assert all(found[name] in (OLD.get(name), NEW.get(name)) for name in found), at
        assert found["report.html"] in (OLD["report.html"], NEW["report.html"])
        if (folder / MARKER).is_file():
            assert found in (OLD, NEW)
        write_set(folder, NEW)
        assert content(folder) == NEW


HOLD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from experiments.atomic import _locked
    with _locked(Path(sys.argv[1]), 1.0):
        print("held", flush=True)
        time.sleep(60)
    """
)


def test_write_set_waits_for_another_writer_and_then_gives_up(tmp_path):
    write_set(tmp_path, OLD)
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(TimeoutError, match="another run has been writing here"):
                write_set(tmp_path, NEW, wait_s=0.3)
            assert content(tmp_path) == OLD
        finally:
            other.kill()
    write_set(tmp_path, NEW)
    assert content(tmp_path) == NEW
