"""What a simulated study may say, how its mistakes are named, and what running it gives."""

from __future__ import annotations

import pytest

from experiments import (
    AuthorSplit,
    DualSided,
    Saturation,
    Study,
    Switchback,
    UserSplit,
    compare,
    load_study,
    run_simulation,
    run_study,
    salt_clashes,
)
from experiments.errors import StudyError
from experiments.study.study_simulation import TRIALS, distinct_trials
from recsys import LivePlatform, Strategy

STUDY = """\
version: 1
title: Which design?
platform: {n_viewers: 60, n_authors: 8, n_regions: 2, seed: 3, eta: 0.5, content: false}
strategy: {lift: 0.3, author_lift: 0.1, name: new ranking}
trials:
  - {design: user_split, share: 0.4, salt: a, name: viewers}
  - {design: author_split, salt: b}
  - {design: cluster_split, complete: false, salt: c}
  - {design: dual_sided, viewer_share: 0.5, salt: d, estimand: direct}
  - {design: switchback, slice_minutes: 180, coin: complete, burn_in_minutes: 60}
  - {design: saturation, shares: [0.2, 0.8], slice_minutes: 720, salt: e}
simulation: {hours: 48, before_hours: 24, replications: 2, seed: 4}
"""


def load(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study(path)


def complaint(tmp_path, text):
    with pytest.raises(StudyError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path / 'study.yaml'}: ")


def test_load_study_makes_platform_strategy_and_trials(tmp_path):
    study = load(tmp_path, STUDY)
    assert study.platform is not None
    made = study.platform.platform()
    assert made == LivePlatform(n_viewers=60, n_authors=8, n_regions=2, seed=3, eta=0.5)
    wanted = Strategy(lift=0.3, author_lift=0.1, name="new ranking")
    assert study.strategy.strategy() == wanted
    viewers, authors, _, both, rotation, shares = distinct_trials(study.trials)
    assert (viewers.design, viewers.label) == (UserSplit(0.4, salt="a"), "viewers")
    assert authors.design == AuthorSplit(salt="b")
    assert (both.design, both.estimand) == (DualSided(salt="d"), "direct")
    assert rotation.design == Switchback(180, coin="complete", burn_in_minutes=60)
    assert shares.design == Saturation((0.2, 0.8), slice_minutes=720, salt="e")
    assert Study.model_validate(study.model_dump()).model_dump() == study.model_dump()


@pytest.mark.parametrize("design", TRIALS)
def test_trial_sections_have_the_arguments_of_their_designs(design):
    made = TRIALS[design](design=design).trial().design
    known = {name for name in type(made).__dataclass_fields__ if name != "_"}
    assert known == set(TRIALS[design].model_fields) - {"design", "name", "estimand"}
    assert made == type(made)()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("eta: 0.5", "eta: -1", ""),
        ("eta: 0.5", "rho_h: 1.5", "line 3: platform: rho_h must be a number in [0, 1); got 1.5"),
        ("eta: 0.5", "eta: high", "line 3: platform: eta must be a number in (-inf, inf); got "),
        ("n_authors: 8, ", "", "line 3: platform: key 'n_authors' is required"),
        ("n_viewers: 60", "n_viewers: 1", "line 3: platform.n_viewers: must be greater than or "),
        ("n_viewers: 60", "n_viewers: 60.5", "line 3: platform.n_viewers: must be a valid integer"),
        (
            "n_regions: 2",
            "n_regions: 99",
            "line 3: platform: n_regions must be at most n_viewers 60; got 99",
        ),
        (
            "lift: 0.3",
            "lft: 0.3",
            "line 4: strategy: unknown key 'lft'; allowed: lift, author_lift, activity_lift, "
            "effort_lift, exposure_lift, name; did you mean 'lift'?",
        ),
        ("lift: 0.3", "lift: .inf", "line 4: strategy: lift must be a finite number; got inf"),
        (
            "design: user_split",
            "design: user_splt",
            "line 6: trials.0: design must be user_split, author_split, cluster_split, dual_sided, "
            "switchback, saturation or launch; got 'user_splt'; did you mean 'user_split'?",
        ),
        (
            "design: author_split, ",
            "",
            "line 7: trials.1: key 'design' is required: user_split, author_split, cluster_split, ",
        ),
        (
            "slice_minutes: 180",
            "slice: 180",
            "line 10: trials.4: unknown key 'slice'; allowed: design, slice_minutes, coin, points, "
            "period_minutes, burn_in_minutes, end_jitter_minutes, regions, min_share, name, "
            "estimand",
        ),
        ("share: 0.4", "share: 1.4", "line 6: trials.0: share must be in (0, 1); got 1.4"),
        (
            "burn_in_minutes: 60",
            "burn_in_minutes: 180",
            "line 10: trials.4: burn_in_minutes 180 and twice end_jitter_minutes 0 must leave ",
        ),
        (
            "salt: b}",
            "salt: b, estimand: direct}",
            "line 7: trials.1: estimand must be 'total', except of a dual-sided trial; got ",
        ),
        (
            "salt: b}",
            "salt: b, name: viewers}",
            "line 1: trials must have distinct names; ['viewers'] repeat: pass name=",
        ),
        (
            "replications: 2",
            "replications: 1",
            "line 12: simulation.replications: must be greater than or equal to 2; got 1",
        ),
        ("hours: 48", "days: 2", "line 12: simulation: unknown key 'days'; allowed: hours, "),
        (
            "strategy:",
            "data: {log: a.parquet}\nstrategy:",
            "line 1: a study reads a log or simulates: 'data' does not go with 'platform'; make ",
        ),
        (
            "platform: {n_viewers: 60, n_authors: 8, n_regions: 2, seed: 3, eta: 0.5, "
            "content: false}\n",
            "",
            "line 1: 'strategy' needs 'platform', on which it is simulated",
        ),
    ],
)
def test_load_study_names_what_is_wrong_with_a_simulation(tmp_path, old, new, expected):
    assert old in STUDY
    if not expected:  # any number is allowed there
        assert load(tmp_path, STUDY.replace(old, new, 1))
        return
    assert complaint(tmp_path, STUDY.replace(old, new, 1)).startswith(expected)


def test_load_study_names_an_unknown_parameter_and_the_nearest_one(tmp_path):
    message = complaint(tmp_path, STUDY.replace("eta: 0.5", "kapa: 0.5"))
    assert message.startswith("line 3: platform: unknown key 'kapa'; allowed: n_viewers, n_authors")
    assert message.endswith("; did you mean 'kappa'?")


def test_load_study_asks_for_a_log_or_a_platform(tmp_path):
    message = complaint(tmp_path, "version: 1\ntitle: nothing\n")
    assert message.startswith("line 1: key 'data' is required, which names the log (or 'platform'")
    text = "version: 1\ntitle: x\nplatform: {n_viewers: 9, n_authors: 2}\n"
    assert (
        complaint(tmp_path, text) == "line 1: 'platform' needs 'trials'; name at least one design"
    )


def small(**changes):
    return Study.model_validate(
        {
            "version": 1,
            "title": "small",
            "platform": {"n_viewers": 60, "n_authors": 8, "seed": 1},
            "trials": [
                {"design": "user_split", "salt": "a"},
                {"design": "switchback", "slice_minutes": 240},
            ],
            "simulation": {"hours": 96, "before_hours": 24, "replications": 3, "seed": 2},
            **changes,
        }
    )


def test_run_simulation_is_compare_on_the_studys_platform(tmp_path):
    study = small()
    result = run_simulation(study)
    found = compare(
        study.platform.platform(),
        list(distinct_trials(study.trials)),
        strategy=Strategy(),
        hours=96,
        before_hours=24,
        replications=3,
        seed=2,
    )
    assert result.to_frame().equals(found.table)
    keys = [section.key for section in result.sections]
    assert keys[:2] == ["estimates", "bias"]
    assert {"calendar", "balance", "rotation", "residuals", "assumptions"} <= set(keys)
    assert len(keys) == len(set(keys))
    assert result.warnings == ()
    assert result.facts["Seed"] == "2"


def test_run_simulation_reads_launches_that_nobody_drew():
    trials = [
        {"design": "launch", "n_regions": 2, "where": "most_active"},
        {"design": "launch", "reading": "synthetic_control", "name": "one region"},
    ]
    platform = {"n_viewers": 80, "n_authors": 12, "n_regions": 8, "seed": 1}
    result = run_simulation(small(trials=trials, platform=platform))
    names = ["launch in 2 most active regions, DID", "one region"]
    assert result.to_frame()["trial"].tolist() == names
    too_many = [{"design": "launch", "n_regions": 7}]
    with pytest.raises(StudyError, match="of which 7 would get it"):
        run_simulation(small(trials=too_many, platform=platform))


def test_run_simulation_and_run_study_refuse_each_others_studies():
    with pytest.raises(StudyError, match=r"has no log to read out; use `livelift simulate`"):
        run_study(small())
    log = Study.model_validate(
        {
            "version": 1,
            "title": "log",
            "data": {"log": "a"},
            "experiment": {"arm": "arm"},
            "metrics": {"m": {"kind": "mean", "outcome": "y"}},
        }
    )
    with pytest.raises(StudyError, match=r"has no platform to simulate; use `livelift report`"):
        run_simulation(log)


def test_run_simulation_says_which_trial_does_not_fit():
    trials = [{"design": "switchback", "slice_minutes": 30}]
    with pytest.raises(StudyError, match="study: switchback 30 min: slices of 30 minutes need"):
        run_simulation(small(trials=trials))


def test_salt_clashes_name_pairs_that_throw_the_same_coin():
    designs = {
        "viewers": UserSplit(salt="x"),
        "shares": Saturation(salt="x"),
        "both": DualSided(salt="x"),
        "rotation": Switchback(),
        "authors": AuthorSplit(salt="x|author"),
        "own": UserSplit(salt="y"),
    }
    said = salt_clashes(designs)
    assert [message.split(" have ")[0] for message in said] == [
        "'viewers' and 'shares'",
        "'both' and 'authors'",
    ]
    assert "give each design a salt of its own" in said[0]
    assert len(salt_clashes({"a": UserSplit(), "b": AuthorSplit()})) == 1


def test_salt_clashes_are_the_same_arms_and_other_salts_are_not():
    ids = range(2_000)
    same = UserSplit(salt="x").assign(ids, seed=1) == Saturation(salt="x").assign(
        ids, share=0.5, seed=1
    )
    assert 1 - same.mean() in (0.0, 1.0)  # one arm is the other, or its mirror
    other = UserSplit(salt="x").assign(ids, seed=1) == UserSplit(salt="y").assign(ids, seed=1)
    assert abs(other.mean() - 0.5) < 0.05
