"""Assignment by hash beside a loop over hashlib: seconds, and whether the arms are the same.

    python -m benchmarks.bench_design --repeat 5 --write

The peer of whole numbers computes the published lines one id at a time, as a serving stack would;
the other one is the usual digest of salt and id. Text is hashed once a distinct value. `--write`
replaces the section of `benchmarks/results.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.bench_switchback import mark, timed, write_section
from experiments import UserSplit
from experiments.designs.hashing import unit_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEADING = "## Assignment"
SALT = "rank"
MASK = (1 << 64) - 1
STORED = {17: 0.0703334982093704, 18: 0.041955345224099494, "17": 0.8051015467760431}


def one_by_one(ids: Sequence[int]) -> list[int]:
    """Arms by the published lines, in whole numbers of Python."""
    key = int.from_bytes(hashlib.blake2b(f"{SALT}|0".encode()).digest()[:8], "little")
    arms = []
    for unit in ids:
        x = (((unit & MASK) ^ key) + 0x9E3779B97F4A7C15) & MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        arms.append(int(((x ^ (x >> 31)) >> 11) * 2.0**-53 >= 0.5))
    return arms


def digests(ids: Sequence[object]) -> list[int]:
    """Arms by a digest of salt and id, one at a time."""
    return [
        int(int.from_bytes(hashlib.blake2b(f"{SALT}|{unit}".encode()).digest()[:8], "little") % 2)
        for unit in ids
    ]


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rows(n: int, repeat: int) -> list[str]:
    """Whole numbers, and text with ten rows an id."""
    split = UserSplit(0.5, salt=SALT)
    ids = np.random.default_rng(0).integers(0, 2**62, n)
    ours, arms = timed(lambda: split.assign(ids), repeat)
    peer = min(seconds(lambda: digests(ids.tolist())) for _ in range(3))
    same = one_by_one(ids.tolist()) == arms.tolist()
    stored = all(unit_hash([u], salt=SALT, seed=7).tolist() == [x] for u, x in STORED.items())
    text = np.repeat(ids[: n // 10], 10).astype(str).astype(object)
    of_text, found = timed(lambda: split.assign(text), repeat)
    peer_of_text = min(seconds(lambda: digests(text.tolist())) for _ in range(3))
    alone = bool((found[::10] == split.assign(text[::10])).all())
    return [
        f"| {n:,} whole numbers | {ours:.4f} | {peer:.3f} | {peer / ours:.0f} (target 20 "
        f"{mark(peer / ours >= 20)}) | stored values {mark(stored)}; all arms as by the published "
        f"lines {mark(same)}; treated share {arms.mean():.4f} |",
        f"| {n:,} rows of {n // 10:,} texts | {of_text:.4f} | {peer_of_text:.3f} "
        f"| {peer_of_text / of_text:.0f} | as by distinct texts alone {mark(alone)}; treated share "
        f"{found.mean():.4f} |",
    ]


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    about = "The peer digests salt and id with `hashlib.blake2b`, one id at a time: best of three."
    command = f"python -m benchmarks.bench_design --rows {args.rows} --repeat {args.repeat}"
    table = [
        "| case | livelift, s | hashlib loop, s | livelift is faster by | accuracy |",
        "|---|---|---|---|---|",
        *rows(args.rows, args.repeat),
    ]
    text = "\n".join([HEADING, "", about, "", f"`{command}`", "", *table, ""])
    print(text)
    if args.write:
        write_section(HEADING, text)


if __name__ == "__main__":
    main()
