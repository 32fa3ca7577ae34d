"""What a user waits for first: `import causal` beside pandas, `livelift --help` beside Python.

python benchmarks/bench_start.py --repeat 9
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COUNT = "import sys, pandas; n = len(sys.modules); import {}; print(len(sys.modules) - n)"


def seconds(command: list[str], repeat: int) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    python = sys.executable
    bare = seconds([python, "-c", "pass"], repeat)
    pandas = seconds([python, "-c", "import pandas"], repeat)
    print("| what | median s | over | by s | modules over pandas |")
    print("|---|---|---|---|---|")
    print(f"| python | {bare:.3f} | | | |\n| import pandas | {pandas:.3f} | | | |")
    for package in ("causal", "recsys", "experiments"):
        took = seconds([python, "-c", f"import pandas, {package}"], repeat)
        found = subprocess.run(
            [python, "-c", COUNT.format(package)], check=True, capture_output=True, text=True
        )
        print(
            f"| import {package} | {took:.3f} | pandas | {took - pandas:.3f} | "
            f"{found.stdout.strip()} |"
        )
    took = seconds([str(Path(python).parent / "livelift"), "--help"], repeat)
    print(f"| livelift --help | {took:.3f} | python | {took - bare:.3f} | |")


if __name__ == "__main__":
    main()
