"""What each design gets wrong on the platform: the bias table, over many populations.

Run: python benchmarks/design_bias.py --replications 100 --jobs 2

`--population 1` keeps one population: that of `examples/platform_study.yaml`.
"""

from __future__ import annotations

import argparse

from experiments import compare
from experiments.simulation.triangulation import usual_trials
from recsys import LivePlatform, Strategy

HOURS = 336


def main() -> None:
    """Read the arguments, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--population", type=int, help="seed of one population; by default many")
    args = parser.parse_args()
    found = compare(
        LivePlatform(n_viewers=300, n_authors=40, seed=args.population or 0),
        usual_trials(HOURS),
        strategy=Strategy(0.25),
        hours=HOURS,
        replications=args.replications,
        redraw_population=args.population is None,
        n_jobs=args.jobs,
    )
    relative = found.truth.relative()
    print(f"truth {found.truth.estimate:+.3f} minutes per viewer and hour, "
          f"{100 * relative.estimate:+.1f} % of the level\n")  # fmt: skip
    columns = ["design", "bias, % of the truth (MC error)", "its target, % off", "rmse"]
    columns += ["covers the truth", "covers its target", "power", "size"]
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found.table.to_dict("records"):
        error = 100 * row["mc_se_bias"] / row["truth"]
        off = 100 * (row["target"] / row["truth"] - 1)
        print(
            f"| {row['trial']} | {100 * row['bias_share']:+.0f} ({error:.1f}) | {off:+.0f} "
            f"| {row['rmse']:.2f} | {row['coverage']:.2f} | {row['coverage_target']:.2f} "
            f"| {row['power']:.2f} | {row['size']:.2f} |"
        )


if __name__ == "__main__":
    main()
