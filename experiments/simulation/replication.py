"""Many runs of one experiment on any workers, with equal bits."""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from causal.values import is_number, whole_number
from experiments.atomic import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from threadpoolctl import ThreadpoolController

T = TypeVar("T")

_FORMAT = "livelift replications"
_SAVE_EVERY = 2.0  # seconds between two saves of a checkpoint


def replicate(
    run: Callable[[np.random.Generator], T],
    *,
    n_runs: int,
    seed: int,
    n_jobs: int = 1,
    backend: str | None = None,
    progress: bool = False,
    checkpoint: str | Path | None = None,
) -> list[T]:
    """Call `run` with `n_runs` independent generators; the answers depend on `seed` alone.

    Parameters
    ----------
    run : callable Generator -> value
        Draws from the generator only. With a checkpoint the value is plain JSON: numbers, text,
        lists, dicts with text keys.
    n_runs : int
        Number of runs.
    seed : int
        Run i gets ``Generator(PCG64(SeedSequence(seed).spawn(n_runs)[i]))``: more runs leave the
        first ones as they were.
    n_jobs : int
        Workers; -1 takes all cores.
    backend : str, optional
        A backend of joblib. None leaves what ``joblib.parallel_config`` says (loky by default,
        which needs no ``__main__`` guard), so that Dask, Ray or Spark may be used.
    progress : bool
        Show a bar on standard error.
    checkpoint : path, optional
        File of finished runs (JSON lines, replaced as a whole); a run found there is not run again.

    Returns
    -------
    list
        In the order of the runs.

    Raises
    ------
    ValueError
        If a number is out of its range, or the checkpoint is of another seed or no checkpoint.
    TypeError
        If a value is not plain JSON and there is a checkpoint.

    Notes
    -----
    BLAS and OpenMP use one thread within a run, also with one worker: their number of threads may
    change last bits. An error in a run says which run it was.

    Examples
    --------
    >>> replicate(lambda rng: round(rng.normal(), 3), n_runs=3, seed=1)
    [-0.64, 2.486, 1.442]
    """
    n_runs, seed = whole_number("n_runs", n_runs, 1), whole_number("seed", seed, 0)
    if not (is_number(n_jobs) and n_jobs % 1 == 0 and n_jobs != 0):
        raise ValueError(f"n_jobs must be a number of workers, or -1 for all cores; got {n_jobs!r}")
    kept = None if checkpoint is None else _Checkpoint.opened(Path(checkpoint), seed)
    done: dict[int, Any] = {} if kept is None else dict(kept.values)
    children = np.random.SeedSequence(seed).spawn(n_runs)
    missing = [i for i in range(n_runs) if i not in done]
    found = _values(run, [(i, children[i]) for i in missing], int(n_jobs), backend)
    shown = _shown(found, len(missing), progress=progress)
    try:
        for i, answer in zip(missing, shown, strict=True):
            done[i] = answer
            if kept is not None:
                kept.add(i, answer)
    finally:
        if kept is not None:
            kept.save()
    return [done[i] for i in range(n_runs)]


def _values(
    run: Callable[[np.random.Generator], T],
    tasks: list[tuple[int, np.random.SeedSequence]],
    n_jobs: int,
    backend: str | None,
) -> Iterator[T]:
    """Values in order, as they come."""
    if n_jobs == 1 and backend is None:
        return (_once(run, i, child) for i, child in tasks)
    import joblib  # noqa: PLC0415 — loaded only when used

    parallel = joblib.Parallel(n_jobs=n_jobs, backend=backend, return_as="generator")
    values: Iterator[T] = parallel(joblib.delayed(_once)(run, i, child) for i, child in tasks)
    return values


def _once(run: Callable[[np.random.Generator], T], i: int, child: np.random.SeedSequence) -> T:
    """One run on one thread."""
    try:
        with _pools().limit(limits=1):
            return run(np.random.Generator(np.random.PCG64(child)))
    except Exception as error:
        error.add_note(f"in run {i}, whose generator is that of child {i} of the seed")
        raise


@cache
def _pools() -> ThreadpoolController:
    """The thread pools of this process: found once, as that takes longer than a short run."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 — loaded only when used

    return ThreadpoolController()


def _shown(values: Iterator[T], total: int, *, progress: bool) -> Iterator[T]:
    """The values, with a bar if asked for."""
    if not progress:
        return values
    from tqdm import tqdm  # noqa: PLC0415 — loaded only when used

    return iter(tqdm(values, total=total, file=sys.stderr, unit="run", leave=False))


class _Checkpoint:
    """Finished runs on disk."""

    def __init__(self, path: Path, seed: int, values: dict[int, Any]) -> None:
        self.path, self.seed, self.values = path, seed, values
        self._saved, self._at = len(values), time.monotonic()

    @classmethod
    def opened(cls, path: Path, seed: int) -> _Checkpoint:
        """Those of an earlier call, or none yet."""
        if not path.exists():
            return cls(path, seed, {})
        try:
            head, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            known = head["format"] == _FORMAT
            values = {int(line["run"]): line["value"] for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no checkpoint of replicate; {error}") from error
        if not known or head.get("seed") != seed:
            raise ValueError(
                f"{path}: a checkpoint of seed {head.get('seed')}, and {seed} is asked for; "
                "take another file"
            )
        return cls(path, seed, values)

    def add(self, i: int, value: object) -> None:
        """Keep a value; save it soon."""
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError):
            same = False
        if not same:
            raise TypeError(
                f"with a checkpoint a run must return plain JSON (numbers, text, lists, dicts with "
                f"text keys); run {i} returned {value!r:.200}"
            )
        self.values[i] = value
        if time.monotonic() - self._at > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Replace the file as a whole."""
        if len(self.values) == self._saved:
            return
        lines = [json.dumps({"format": _FORMAT, "seed": self.seed})]
        lines += [json.dumps({"run": i, "value": v}) for i, v in sorted(self.values.items())]
        write_file(self.path, ("\n".join(lines) + "\n").encode())
        self._saved, self._at = len(self.values), time.monotonic()
