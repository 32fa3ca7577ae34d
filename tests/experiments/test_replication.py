"""Many runs: equal bits on any workers, order, checkpoints that survive a kill, clear errors."""

import json
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pytest

from experiments import replicate


def draw(rng):
    x = rng.normal(size=(60, 40))
    return float(np.linalg.svd(x, compute_uv=False).sum())


def test_replicate_gives_each_run_its_child_of_the_seed():
    children = np.random.SeedSequence(7).spawn(5)
    wanted = [np.random.Generator(np.random.PCG64(c)).normal() for c in children]
    assert replicate(lambda rng: rng.normal(), n_runs=5, seed=7) == wanted
    assert replicate(lambda rng: rng.normal(), n_runs=3, seed=7) == wanted[:3]


@pytest.mark.parametrize(
    "options", [{"n_jobs": 2}, {"n_jobs": 3, "backend": "threading"}, {"backend": "threading"}]
)
def test_replicate_has_equal_bits_on_any_workers(options):
    alone = replicate(draw, n_runs=12, seed=3)
    assert replicate(draw, n_runs=12, seed=3, **options) == alone


def test_replicate_leaves_the_backend_of_a_surrounding_config():
    with joblib.parallel_config(backend="threading"):
        seen = []
        replicate(lambda rng: seen.append(rng.random()), n_runs=4, seed=1, n_jobs=2)
    assert len(seen) == 4  # other processes could not have appended here


def test_replicate_runs_on_one_thread_of_blas():
    def threads(_):
        from threadpoolctl import threadpool_info

        return [pool["num_threads"] for pool in threadpool_info()]

    assert {n for run in replicate(threads, n_runs=2, seed=0) for n in run} == {1}


def test_replicate_resumes_from_its_checkpoint(tmp_path):
    path, calls = tmp_path / "runs.jsonl", []

    def run(rng):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return {"x": rng.normal(), "labels": ["a", None]}

    with pytest.raises(KeyboardInterrupt):
        replicate(run, n_runs=6, seed=5, checkpoint=path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["run"] for line in lines[1:]] == [0, 1, 2]
    found = replicate(run, n_runs=6, seed=5, checkpoint=path)
    assert len(calls) == 7
    wanted = replicate(lambda rng: {"x": rng.normal(), "labels": ["a", None]}, n_runs=6, seed=5)
    assert found == wanted
    assert replicate(run, n_runs=6, seed=5, checkpoint=path) == wanted
    assert len(calls) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["runs.jsonl"]


def test_replicate_killed_in_the_middle_resumes(tmp_path):
    path = tmp_path / "runs.jsonl"
    script = textwrap.dedent(
        f"""
        import os, time
        import experiments.simulation.replication as r
        r._SAVE_EVERY = 0.0
        count = iter(range(99))
        def run(rng):
            if next(count) == 5:
                os.kill(os.getpid(), 9)
            return rng.normal()
        r.replicate(run, n_runs=9, seed=2, checkpoint={str(path)!r})
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(path.read_text().splitlines()) == 6
    found = replicate(lambda rng: rng.normal(), n_runs=9, seed=2, checkpoint=path)
    assert found == replicate(lambda rng: rng.normal(), n_runs=9, seed=2)


def test_replicate_says_in_which_run_an_error_was():
    def run(rng):
        raise ValueError(f"no {rng.integers(1)}")

    for n_jobs in (1, 2):
        with pytest.raises(ValueError, match="no 0") as caught:
            replicate(run, n_runs=2, seed=0, n_jobs=n_jobs, backend="threading")
        assert "in run " in caught.value.__notes__[0]


def test_replicate_shows_a_bar_if_asked(capsys):
    assert replicate(lambda _: 1, n_runs=3, seed=0, progress=True) == [1, 1, 1]
    assert "0/3" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.float64(1), (1, 2), float("nan"), {1: 2}, object()])
def test_replicate_refuses_values_that_a_checkpoint_does_not_give_back(value, tmp_path):
    if value == 1:  # a numpy float comes back as an equal number
        path = tmp_path / "runs.jsonl"
        assert replicate(lambda _: value, n_runs=1, seed=0, checkpoint=path) == [1.0]
        return
    with pytest.raises(TypeError, match="must return plain JSON"):
        replicate(lambda _: value, n_runs=1, seed=0, checkpoint=tmp_path / "runs.jsonl")


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"format": "other", "seed": 0}'])
def test_replicate_refuses_files_that_are_no_checkpoint(text, tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"runs\.jsonl: "):
        replicate(lambda _: 1, n_runs=1, seed=0, checkpoint=path)
    assert path.read_text() == text


def test_replicate_refuses_a_checkpoint_of_another_seed(tmp_path):
    path = tmp_path / "runs.jsonl"
    replicate(lambda _: 1, n_runs=1, seed=0, checkpoint=path)
    with pytest.raises(ValueError, match="a checkpoint of seed 0, and 1 is asked for"):
        replicate(lambda _: 1, n_runs=1, seed=1, checkpoint=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_runs": 0}, "n_runs must be a whole number >= 1"),
        ({"n_runs": 2.5}, "n_runs must be"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"n_jobs": 0}, "n_jobs must be a number of workers"),
    ],
)
def test_replicate_refuses_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        replicate(lambda _: 1, **{"n_runs": 1, "seed": 0, **options})
