"""Files that appear whole or not at all.

A set of files is staged beside its targets, flushed to the disk, and only then moved over the old
set; `DONE` is written last. Whoever dies on the way leaves the old files as they were; a set that
is being exchanged has no `DONE`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MARKER = "DONE"
_LOCK = ".livelift.lock"
_EXCHANGE = ".livelift-exchange"
_STAGED = ".livelift-staged"
_CHUNK = 1 << 16


def write_file(path: Path, data: bytes) -> None:
    """Write one file so that a reader sees the old one or the new one.

    Raises
    ------
    OSError
        If it cannot be written; the old one is then as it was, and nothing lies beside it.
    """
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _write(staged, data)
        staged.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(path)  # what the caller asked for, not what it waits under
        staged.unlink(missing_ok=True)
        raise


def write_set(folder: Path, files: Mapping[str, bytes], *, wait_s: float = 10.0) -> None:
    """Write files into a folder so that a reader sees the old set or the new one.

    Parameters
    ----------
    folder : Path
        Made if absent.
    files : mapping of str to bytes
        Content by relative path (``tables/scorecard.parquet``).
    wait_s : float
        Seconds to wait for another writer of the same folder.

    Raises
    ------
    OSError
        If the folder or a file cannot be written, or another writer keeps the folder longer than
        `wait_s` (`TimeoutError`). Before the first file is moved into place the old set is intact.

    Notes
    -----
    Every file is replaced atomically. A crash between two replacements can leave files of both
    sets side by side, each of them whole; then there is no `DONE`. `DONE` holds the SHA-256 of
    each file, and files of the old set that the new one lacks are removed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_set(folder, {"report.json": b"{}"})
    >>> sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    ['DONE', 'report.json']
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, wait_s):
        marker, exchange = folder / MARKER, folder / _EXCHANGE
        known = {*_names_in(marker), *_names_in(exchange)}
        targets = {folder / name: data for name, data in files.items()}
        for target in (*targets, marker):
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder is in the way", str(target))
        _remove_staged(folder)
        try:
            for target, data in targets.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(_staged(target), data)
            _write(_staged(marker), _marker(files))
            # A run that dies below leaves no DONE: the next one learns here what lies about.
            _write(_staged(exchange), _marker({**dict.fromkeys(known, b""), **files}))
        except BaseException:
            _remove_staged(folder)
            raise
        os.replace(_staged(exchange), exchange)
        marker.unlink(missing_ok=True)
        for target in targets:
            os.replace(_staged(target), target)
        for name in known - set(files):
            (folder / name).unlink(missing_ok=True)
        for parent in {target.parent for target in targets}:
            _sync_folder(parent)
        os.replace(_staged(marker), marker)
        exchange.unlink()
        _sync_folder(folder)


@contextmanager
def _locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Hold the folder's lock; the kernel lets go of it when its holder dies."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + wait_s
        while not _try_lock(handle):
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"another run has been writing here for {wait_s:g} s; "
                    "wait for it, or choose another folder",
                    str(folder),
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _staged(target: Path) -> Path:
    """Where a file waits, in the folder of its target."""
    return target.with_name(f"{_STAGED}-{target.name}")


def _remove_staged(folder: Path) -> None:
    """Remove what a run that died had staged; the lock says that nobody else is at work."""
    for path in folder.glob(f"**/{_STAGED}-*"):
        path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Write and flush to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view[:_CHUNK]) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries, so that the replacements outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _marker(files: Mapping[str, bytes]) -> bytes:
    """Content of `DONE`: the SHA-256 of every file."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    return (json.dumps({"files": sums}, indent=1) + "\n").encode()


def _names_in(marker: Path) -> list[str]:
    """Files of the last complete set, as `DONE` lists them; only names that stay in the folder."""
    try:
        names = json.loads(marker.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [
        name
        for name in names
        if isinstance(name, str) and not name.startswith("/") and ".." not in name.split("/")
    ]
