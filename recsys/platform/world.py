"""The live platform: viewers, authors and what ties them, drawn once from a seed."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recsys.platform.draws import (
    CENTRE,
    CONTENT,
    Draws,
    draw_battles,
    draw_sessions,
    draw_shock,
)
from recsys.platform.parameters import (
    N_STYLES,
    N_TOPICS,
    PlatformParameters,
    checked_count,
    preset_parameters,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recsys.platform.content import Codes
    from recsys.platform.parameters import Preset, Value

# streams of a platform's seed
_TASTE, _LIKED, _QUALITY, _ACTIVITY, _CAPACITY, _PEOPLE, _ROOMS, _CONTENT, _TOPICS = range(9)

_RANK = 6  # of viewers' and authors' affinity
_AGES = ("<18", "18-24", "25-34", "35-44", "45-54", "55+")
_GENDERS = ("f", "m")
_SCENES = ("click", "immersive", "breathing")
_SHORT_VIDEOS = 60
_AGE_BONUS = 0.15
_VIEWER, _AUTHOR = 0, 1  # kinds of id


class LivePlatform:
    """A live-streaming platform whose true effects are known.

    Viewers share an attention budget among live rooms and the outside; rooms crowd and heat up,
    habits form, authors' effort follows their audience, battles tie rooms together.

    Parameters
    ----------
    n_viewers, n_authors : int
        Two viewers or more, one author or more (one room each).
    n_regions : int
        Viewers are spread evenly over regions.
    seed : int
        Of the population.
    preset : {"flows", "ranking"}
        Defaults for comparing designs, or for training recommenders (content on, heavy-tailed
        activity, no noise, battles attract).
    **parameters
        Any field of `PlatformParameters` by name.

    Raises
    ------
    ValueError
        If a parameter is unknown (the nearest known one is named) or out of its range.

    Notes
    -----
    Utility of room j for viewer i: B_ij + content - kappa log(1 + A_j / cap_j) + chi m_j + e_j +
    b_pk PK_j + .15 [same age] + lift W_ij, with B_ij = theta_sd z_i . a_j / sqrt(6) + q_j. The
    equations of motion are in `recsys.platform.dynamics`.

    Examples
    --------
    >>> platform = LivePlatform(n_viewers=300, n_authors=40, seed=1, eta=0.0)
    >>> len(platform.viewers), len(platform.authors), platform.parameters.eta
    (300, 40, 0.0)
    """

    def __init__(
        self,
        *,
        n_viewers: int,
        n_authors: int,
        n_regions: int = 1,
        seed: int = 0,
        preset: Preset = "flows",
        **parameters: Value,
    ) -> None:
        self.n_viewers = checked_count("n_viewers", n_viewers, 2)
        self.n_authors = checked_count("n_authors", n_authors, 1)
        self.n_regions = checked_count("n_regions", n_regions, 1)
        if self.n_regions > self.n_viewers:
            raise ValueError(f"n_regions must be at most n_viewers {n_viewers}; got {n_regions}")
        self.seed = checked_count("seed", seed, 0)
        self.parameters = preset_parameters(preset, parameters)

    def __repr__(self) -> str:
        defaults = PlatformParameters().to_dict()
        changed = {k: v for k, v in self.parameters.to_dict().items() if v != defaults[k]}
        sizes = {"n_viewers": self.n_viewers, "n_authors": self.n_authors}
        if self.n_regions > 1:
            sizes["n_regions"] = self.n_regions
        given = {**sizes, "seed": self.seed, **changed}
        return f"LivePlatform({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LivePlatform) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash((self.n_viewers, self.n_authors, self.n_regions, self.seed, self.parameters))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._settings(),)  # a worker draws the population again

    def replace(self, **changes: Any) -> LivePlatform:  # noqa: ANN401 — sizes, seed, parameters
        """The same platform with other sizes, seed or parameters.

        Raises
        ------
        ValueError
            As the constructor.
        """
        return LivePlatform(**{**self._settings(), **changes})

    @cached_property
    def viewers(self) -> pd.DataFrame:
        """One row a viewer: ids, age band, gender, cluster, activity, type, region ..."""
        rng = np.random.default_rng([self.seed, _PEOPLE])
        n = self.n_viewers
        age, gender = rng.integers(0, len(_AGES), n), rng.integers(0, len(_GENDERS), n)
        return pd.DataFrame(
            {
                "viewer_id": _ids(n, _VIEWER),
                "age_band": np.array(_AGES)[age],
                "gender": np.array(_GENDERS)[gender],
                "cluster": gender * len(_AGES) + age,
                "activity": self._normal(_ACTIVITY, n) * self.parameters.activity_sd,
                "viewer_type": rng.standard_normal(n),
                "n_short_video": rng.poisson(_SHORT_VIDEOS, n),
                "scene": np.array(_SCENES)[rng.integers(0, len(_SCENES), n)],
                "region": rng.permutation(np.arange(n) % self.n_regions),
            }
        )

    @cached_property
    def authors(self) -> pd.DataFrame:
        """One row an author: ids, topic, style, quality, capacity, age band."""
        rng = np.random.default_rng([self.seed, _ROOMS])
        p, n = self.parameters, self.n_authors
        size = p.cap_share * self.n_viewers / n
        return pd.DataFrame(
            {
                "author_id": _ids(n, _AUTHOR),
                "topic": rng.integers(0, N_TOPICS, n),
                "style": rng.integers(0, N_STYLES, n),
                "quality": self._normal(_QUALITY, n) * p.quality_sd,
                "capacity": size * np.exp(p.cap_sd * self._normal(_CAPACITY, n)),
                "age_band": np.array(_AGES)[rng.integers(0, len(_AGES), n)],
            }
        )

    @cached_property
    def affinity(self) -> NDArray[np.float64]:
        """B_ij and the bonus of equal age: the part of utility that nothing moves, shape (N, J)."""
        taste = self._normal(_TASTE, self.n_viewers, _RANK)
        liked = self._normal(_LIKED, self.n_authors, _RANK)
        base = self.parameters.theta_sd / math.sqrt(_RANK) * taste @ liked.T
        base += self.authors["quality"].to_numpy()
        if self.parameters.age_term:
            ages = (frame["age_band"].to_numpy() for frame in (self.viewers, self.authors))
            base += _AGE_BONUS * np.equal.outer(*ages)
        return np.asarray(base)

    @cached_property
    def topic_taste(self) -> NDArray[np.float64]:
        """What viewers like: .7 of their cluster's taste, .9 of their own, shape (N, 16)."""
        rng = np.random.default_rng([self.seed, _TOPICS])
        shared = rng.standard_normal((len(_AGES) * len(_GENDERS), N_TOPICS))
        own = rng.standard_normal((self.n_viewers, N_TOPICS))
        return np.asarray(0.7 * shared[self.viewers["cluster"].to_numpy()] + 0.9 * own)

    @cached_property
    def codes(self) -> Codes:
        """Topics and highlights of the content codes."""
        from recsys.platform.content import draw_codes  # noqa: PLC0415 — loads numba

        rng = np.random.default_rng([self.seed, _CONTENT])
        return draw_codes(self.parameters.n_codes, rng)

    def draws(self, *, hours: float, warm_up_hours: float = 48, seed: int = 0) -> Draws:
        """What chance does on the platform: drawn once, read by every world and both engines.

        Parameters
        ----------
        hours : float
            Length after the warm-up.
        warm_up_hours : float
            Whole hours before it.
        seed : int

        Returns
        -------
        Draws

        Raises
        ------
        ValueError
            If `hours` is not positive or `warm_up_hours` not whole.
        """
        warm_up = checked_count("warm_up_hours", warm_up_hours, 0)
        seed = checked_count("seed", seed, 0)
        if not (isinstance(hours, int | float | np.number) and 0 < hours < math.inf):
            raise ValueError(f"hours must be positive; got {hours!r}")
        n_hours = math.ceil(hours - 1e-9)
        total, n, p = warm_up + n_hours, self.n_authors, self.parameters
        live = draw_sessions(p, total, n, seed)
        drawn: dict[str, Any] = {
            "seed": seed,
            "warm_up_hours": warm_up,
            "n_hours": n_hours,
            "n_viewers": self.n_viewers,
            "n_authors": n,
            "shock": draw_shock(p, total, seed),
            "partner": draw_battles(p, live, total, n, seed),
            "live": live,
        }
        if not p.content:
            return Draws(**drawn, programme=None, centre=0.0)
        from recsys.platform import content  # noqa: PLC0415 — loads numba

        programme = content.draw_programme(
            p,
            self.codes,
            topic=self.authors["topic"].to_numpy(),
            style=self.authors["style"].to_numpy(),
            n_hours=total,
            seed=(seed, CONTENT),
        )
        centre = content.log_centre(
            p,
            self.codes,
            programme,
            taste=self.topic_taste,
            viewer_type=self.viewers["viewer_type"].to_numpy(),
            seed=(seed, CENTRE),
        )
        return Draws(**drawn, programme=programme, centre=centre)

    def _normal(self, stream: int, *shape: int) -> NDArray[np.float64]:
        """Standard normal numbers of one stream of the seed."""
        return np.random.default_rng([self.seed, stream]).standard_normal(shape)

    def _settings(self) -> dict[str, Any]:
        """The arguments that make this platform."""
        return {
            "n_viewers": self.n_viewers,
            "n_authors": self.n_authors,
            "n_regions": self.n_regions,
            "seed": self.seed,
            **self.parameters.to_dict(),
        }


def _rebuilt(settings: dict[str, Any]) -> LivePlatform:
    """A platform of its settings."""
    return LivePlatform(**settings)


def _ids(n: int, kind: int) -> NDArray[np.int64]:
    """63-bit mixes (splitmix64) of the index; most exceed 2^53 on purpose."""
    x = np.arange(n, dtype=np.uint64) + (np.uint64(kind) << np.uint64(60))
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
