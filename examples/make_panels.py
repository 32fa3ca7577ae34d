"""Make the panels that `pendant_study.yaml` and `city_study.yaml` read, with known effects.

Pendant: 600 viewers over 16 weeks. A pendant goes to some viewers in week 7, to more in week 10;
who gets it depends on their state before, so that treated and controls differ in level, not in
trend. It adds 4 seconds of watch time to lapsed, 2 to active and 1 to new viewers, and half a
second more each week.

Cities: 24 cities over 40 weeks that share two waves and a trend. Chengdu gets the new ranking in
week 31 and sells 12 units more from then on.

    python examples/make_panels.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

N_VIEWERS, N_WEEKS = 600, 16
STATES = ("active", "lapsed", "new")
FIRST_EFFECT = (2.0, 4.0, 1.0)  # by state
GROWTH = 0.5
N_CITIES, N_CITY_WEEKS, CITY_START, CITY_EFFECT = 24, 40, 31, 12.0


def make_pendant(seed: int = 7) -> pd.DataFrame:
    """One row a viewer and week."""
    rng = np.random.default_rng(seed)
    state = rng.choice(3, N_VIEWERS, p=(0.5, 0.3, 0.2))
    start = np.full(N_VIEWERS, np.nan)
    gets = rng.random(N_VIEWERS) < np.array([0.55, 0.3, 0.4])[state]
    start[gets] = rng.choice([7.0, 10.0], int(gets.sum()), p=(0.6, 0.4))
    level = 60 + 10.0 * (state == 0) - 20.0 * (state == 1) + rng.normal(0, 8, N_VIEWERS)
    viewer, week = (a.ravel() for a in np.indices((N_VIEWERS, N_WEEKS)))
    week = week + 1
    since = week - start[viewer]
    effect = np.where(since >= 0, np.array(FIRST_EFFECT)[state][viewer] + GROWTH * since, 0.0)
    season = 3 * np.sin(week / 2.5) + 0.4 * week
    watch = level[viewer] + season + effect + rng.normal(0, 5, len(week))
    return pd.DataFrame(
        {
            "viewer_id": viewer + 1_000,
            "week": week,
            "state_before": np.array(STATES)[state][viewer],
            "pendant_week": pd.array(start[viewer], dtype="Int64"),
            "watch_s": watch.round(2),
        }
    )


def make_cities(seed: int = 7) -> pd.DataFrame:
    """One row a city and week."""
    rng = np.random.default_rng(seed)
    week = np.arange(1, N_CITY_WEEKS + 1)
    waves = np.column_stack([np.sin(week / 4), np.cos(week / 7), week / 10])
    share = rng.uniform(0.5, 1.5, (N_CITIES, 3))
    share[0] = share[1:5].mean(axis=0)  # within what other cities do
    sold = 100 + 10 * share @ waves.T + rng.normal(0, 1, (N_CITIES, N_CITY_WEEKS))
    sold[0, week >= CITY_START] += CITY_EFFECT
    names = ["Chengdu", *(f"city {j:02d}" for j in range(1, N_CITIES))]
    city, place = (a.ravel() for a in np.indices(sold.shape))
    return pd.DataFrame(
        {"city": np.array(names)[city], "week": week[place], "sold": sold.ravel().round(2)}
    )


def write_panels(folder: Path, seed: int = 7) -> tuple[Path, Path]:
    """Write both panels as Parquet into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "pendant.parquet", folder / "cities.parquet"
    make_pendant(seed).to_parquet(paths[0], index=False)
    make_cities(seed).to_parquet(paths[1], index=False)
    return paths


if __name__ == "__main__":
    target_folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    for path in write_panels(target_folder):
        print(path)
