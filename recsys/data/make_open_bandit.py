"""Make the shipped Open Bandit tables from the upstream CSVs.

    python recsys/data/make_open_bandit.py SOURCE [FOLDER]

SOURCE holds `<policy>/<campaign>/<campaign>.csv.gz` (or .csv), as in the sample of the `obp` 0.5.7
distribution, and LICENSE. FOLDER is `open_bandit` beside this script by default.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.datasets import read_open_bandit

CAMPAIGNS = ("all", "men")
POLICIES = ("bts", "random")


def make(source: Path, folder: Path) -> list[Path]:
    """Write two tables, treatments and outcomes, for each campaign and policy.

    Parameters
    ----------
    source : Path
        Folder of the upstream files.
    folder : Path
        Where the Parquet files go; made if absent.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If an upstream file is absent or not as expected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for campaign in CAMPAIGNS:
        for policy in POLICIES:
            stem = source / policy / campaign / campaign
            plain, packed = stem.with_suffix(".csv"), stem.with_suffix(".csv.gz")
            csv = plain if plain.is_file() else packed
            log = read_open_bandit(csv, policy=policy, campaign=campaign).validate()
            for suffix, frame in (("", log.frame), ("_outcomes", log.outcomes)):
                path = folder / f"{campaign}_{policy}{suffix}.parquet"
                table = pa.Table.from_pandas(frame, preserve_index=False)
                pq.write_table(table, path, compression="zstd", compression_level=19)
                written.append(path)
    if (source / "LICENSE").is_file():
        shutil.copyfile(source / "LICENSE", folder / "LICENSE")
    return written


def main(arguments: list[str]) -> None:
    """Read the command line: SOURCE [FOLDER]."""
    source = Path(arguments[0])
    folder = Path(arguments[1]) if len(arguments) > 1 else Path(__file__).parent / "open_bandit"
    for path in make(source, folder):
        print(f"{path.stat().st_size:>9,} {path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
