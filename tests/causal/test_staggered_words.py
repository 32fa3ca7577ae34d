"""What results of staggered adoption say of themselves: assumptions, weights, warnings, axes."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from staggered_panels import ROLES, effects, staggered

from causal import (
    bacon_decomposition,
    event_study,
    group_time_effects,
    honest_did,
    imputation_effects,
    pretrend_power,
    sun_abraham,
)

ESTIMATORS = [group_time_effects, sun_abraham, imputation_effects, bacon_decomposition]


@pytest.fixture(autouse=True)
def pyplot():
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def quietly(estimator, log, **options):
    """The result and the messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = estimator(log, **{**ROLES, **options})
    return found, [str(w.message) for w in caught]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_staggered_estimators_say_what_they_assume_average_and_warn_of(estimator):
    log = staggered(24, starts=(2, 3))  # few units
    found, said = quietly(estimator, log)
    assert said
    assert list(found.effect.details["warnings"]) == said
    lines = found.summary().splitlines()
    assert any(line.startswith("assumes: without treatment, ") for line in lines)
    assert any(line.startswith("averaged: ") for line in lines)
    assert [line for line in lines if line.startswith("warned: ")] == [f"warned: {s}" for s in said]
    assert found.effect.details["outcome"] == "y"
    assert found.effect.relative().std_error > 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_staggered_estimators_warn_at_the_line_of_their_caller(estimator):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator(staggered(24, starts=(2, 3)), **ROLES)
    assert {w.filename for w in caught} == {__file__}


@pytest.mark.parametrize("estimator", ESTIMATORS[:3])
@pytest.mark.parametrize("options", [{}, {"cluster": "cluster"}], ids=["units", "clusters"])
def test_staggered_estimators_warn_once_of_a_constant_outcome(estimator, options):
    found, said = quietly(estimator, staggered().assign(y=1e9 + 0.1), **options)
    assert [s for s in said if "outcome 'y' is constant" in s] == said
    assert len(said) == 1
    assert found.estimate == found.std_error == 0
    assert found.pretrend is None
    assert found.effect.baseline == pytest.approx(1e9)


@pytest.mark.parametrize("options", [{"covariates": ["x"]}, {"unit": None}, {"weight": "weight"}])
def test_group_time_effects_warn_of_a_constant_outcome_by_every_path(options):
    _, said = quietly(group_time_effects, staggered().assign(y=3.0), **options)
    assert [s for s in said if "constant" in s] == said
    own_level = staggered().assign(y=lambda d: d["unit"])  # constant within units only
    assert quietly(group_time_effects, own_level, **options)[1] == []


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0, "ATT at event time 0"),
        ({1: 1.0}, "ATT at event time 1"),
        ("average", "ATT at the mean of event times 0 to 3"),
        ({0: 0.25, 2: 0.75}, "ATT at event times 0 (weight 0.25), 2 (weight 0.75)"),
    ],
)
def test_honest_did_names_its_target_in_the_summary_and_the_plot(at, words):
    curve = effects(staggered(), base="universal").aggregate("event")
    found = honest_did(curve, at=at, bound=[0.5, 1])
    assert found.summary().startswith(f"{words} {found.estimate:+.3g} (95% CI")
    ax = found.plot()
    assert ax.get_title(loc="left").startswith(words)
    assert ax.get_ylabel() == "95% interval of the effect on y"


@pytest.mark.parametrize("kind", ["simple", "event", "cohort", "calendar"])
def test_aggregation_is_drawn_like_an_event_study_with_units_below(kind):
    found = effects(staggered(), base="universal").aggregate(kind)
    ax = found.plot()
    shown = found.curve.std_error > 0
    bars = np.array([s[:, 1] for s in ax.collections[0].get_segments()])
    np.testing.assert_allclose(bars, found.curve.conf_int()[shown])
    boxes = [(p.get_y(), p.get_y() + p.get_height()) for c in ax.containers for p in c]
    np.testing.assert_allclose(boxes, found.curve.conf_int(simultaneous=True)[shown])
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == (kind == "event")
    ticks = [t.get_text().split("\n") for t in ax.get_xticklabels()]
    assert [int(n) for _, n in ticks] == [found.n_treated[label] for label in found.curve.index]
    assert ax.get_xlabel().endswith("below: treated units")
    assert ax.get_ylabel() == "effect on y"
    if kind == "event":
        study = quietly(event_study, staggered(starts=(3,)))[0].plot()
        named = [[t.get_text() for t in a.get_legend().get_texts()] for a in (ax, study)]
        assert named[0] == named[1]


def test_plots_of_staggered_effects_carry_the_outcomes_name_as_it_is():
    name = "$\\nosuch$ <b>"
    log = staggered().rename(columns={"y": name})
    found = effects(log, outcome=name, base="universal")
    event = found.aggregate("event")
    bacon, _ = quietly(bacon_decomposition, log, outcome=name)
    for ax in (event.plot(), pretrend_power(event, slope=0.1).plot(), bacon.plot()):
        ax.figure.canvas.draw()
        assert f"effect on {name}" in ax.get_ylabel()
    ax = found.plot()
    ax.figure.canvas.draw()
    assert [a.get_ylabel() for a in ax.figure.axes if a is not ax] == [f"effect on {name}"]


def test_group_time_plot_writes_numbers_alike_that_do_not_touch():
    ax = effects(staggered(), base="universal").plot()
    ax.figure.canvas.draw()
    assert len({len(t.get_text().partition(".")[2]) for t in ax.texts}) == 1
    assert "-0.0" not in {t.get_text() for t in ax.texts}
    boxes = [t.get_window_extent() for t in ax.texts]
    assert not any(a.overlaps(b) for j, a in enumerate(boxes) for b in boxes[:j])


def test_group_time_plot_leaves_numbers_out_that_would_touch_and_marks_clear_cells():
    log = staggered(90, 12, starts=(4, 7)).assign(y=lambda d: 1e6 * (d["y"] + 9 * (d["day"] > 6)))
    found = effects(log)
    frame = found.to_frame()
    clear = (frame["low_simultaneous"] > 0) | (frame["high_simultaneous"] < 0)
    ax = found.plot()
    assert len(ax.texts) == 0
    dots = np.asarray(ax.collections[0].get_offsets())
    assert len(dots) == clear.sum()
    small = effects(staggered().assign(y=lambda d: 1e-9 * d["y"])).plot()
    assert all("e-" in t.get_text() or t.get_text() == "0" for t in small.texts)
