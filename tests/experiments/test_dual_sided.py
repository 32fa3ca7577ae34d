"""Reading a dual-sided experiment: the effects, what they rest on, what is refused."""

import json
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from pair_tables import ROLES, experiment

from causal.effect import Effect, EstimationWarning
from experiments import DualSidedEffect, dual_sided_effect
from experiments.designs.assignment_variance import CELLS, EFFECTS

NAMES = list(EFFECTS)


def sparse_rows(shape=(30, 20), seed=3):
    """An experiment most of whose pairs are zero, with and without their rows."""
    full = experiment(shape, seed=seed)
    full["y"] = np.maximum(full["y"] - 5, 0.0)
    return full, full[full["y"] > 0]


@pytest.fixture(scope="module")
def found():
    """The read-out of the plain table."""
    return dual_sided_effect(experiment(), **ROLES)


def test_dual_sided_effects_are_contrasts_of_the_cells(found):
    frame = experiment()
    cells = frame.groupby(["va", "aa"])["y"].mean()
    means = [cells[cell] for cell in CELLS.values()]
    np.testing.assert_allclose(found.cells["mean"], means, rtol=1e-12)
    estimates = [effect.estimate for effect in found.effects]
    np.testing.assert_allclose(estimates, np.array(list(EFFECTS.values())) @ means, rtol=1e-10)
    assert found.total.estimate == pytest.approx(sum(estimates[:3]), rel=1e-10)
    assert found.cells["n_pairs"].tolist() == [96] * 4
    assert found.cells[["viewer_arm", "author_arm"]].to_numpy().tolist() == [
        [1, 1],
        [1, 0],
        [0, 1],
        [0, 0],
    ]


def test_dual_sided_errors_are_the_diagonal_of_the_covariance(found):
    errors = [effect.std_error for effect in found.effects]
    np.testing.assert_allclose(errors, np.sqrt(np.diag(found.covariance)), rtol=1e-12)
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12
    assert found.total.df == 7  # eight authors in the smallest arm
    assert not found.covariance.flags.writeable


def test_dual_sided_total_is_delegated_to(found):
    assert (found.estimate, found.std_error) == (found.total.estimate, found.total.std_error)
    assert found.p_value == found.total.p_value
    assert found.conf_int(0.8) == found.total.conf_int(0.8)
    wide = dual_sided_effect(experiment(), level=0.99, **ROLES)
    assert wide.conf_int() == found.conf_int(0.99)
    assert wide.to_frame()["level"].tolist() == [0.99] * 4


def test_dual_sided_total_says_what_it_assumes(found):
    sentence = "total is the global effect only under local interference that saturates; with"
    assert sentence in found.total.details["assumes"]
    assert "1/(outside share)" in found.summary()
    assert "assumes" not in found.direct.details
    assert "Total effect" in str(found)
    assert "<pre>" in found._repr_html_()


def test_dual_sided_frame_has_one_row_an_effect(found):
    frame = found.to_frame()
    assert frame["effect"].tolist() == NAMES
    assert list(frame) == ["effect", "estimate", "std_error", "low", "high", "level", "p_value"]
    assert (frame["low"] < frame["estimate"]).all()


def test_dual_sided_baseline_is_the_level_of_neither(found):
    neither = found.cells.iloc[-1]
    for effect in found.effects:
        assert effect.baseline == neither["mean"]
        assert effect.baseline_variance == pytest.approx(neither["std_error"] ** 2, rel=1e-12)
    lift = found.total.relative()
    assert lift.estimate == pytest.approx(found.total.estimate / neither["mean"], rel=1e-12)


def test_dual_sided_baseline_moves_against_the_total():
    """In additive worlds cov(both - neither, neither) is cov(both, neither) - var(neither) < 0."""
    found = dual_sided_effect(experiment(viewer=2.0, author=2.0), **ROLES)
    assert found.total.baseline_cov < 0


def test_dual_sided_result_is_a_value(found):
    again = dual_sided_effect(experiment(), **ROLES)
    assert again == found
    assert hash(again) == hash(found)
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != dual_sided_effect(experiment(seed=9), **ROLES)
    assert found != "something else"
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert Effect.from_dict(json.loads(text)["direct"]) == found.direct
    assert "_redraws" not in repr(found)
    with pytest.raises(AttributeError):
        found.level = 0.9


def test_dual_sided_plot_leads_from_neither_to_both(found):
    ax = found.plot()
    labels = [tick.get_text().replace("\n", " ") for tick in ax.get_xticklabels()]
    assert labels == ["neither", "Viewer spillover", "Author spillover", "Direct effect", "both"]
    heights = sorted(bar.get_y() + bar.get_height() for bar in ax.patches)
    assert heights[-1] == pytest.approx(found.cells["mean"].max())
    plt.close(ax.figure)


# --- the population -------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["two_way", "exact_bound", "randomization"])
def test_dual_sided_effect_of_pairs_without_rows_is_that_of_zeros(variance):
    full, some = sparse_rows()
    assert len(some) < 0.9 * len(full)
    wanted, got = (dual_sided_effect(f, variance=variance, **ROLES) for f in (full, some))
    np.testing.assert_allclose(got.covariance, wanted.covariance, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(got.cells["mean"], wanted.cells["mean"], rtol=1e-11)
    assert got.total.n_obs == len(some)


def test_dual_sided_effect_without_zero_fill_compares_the_pairs_given():
    _, some = sparse_rows()
    found = dual_sided_effect(some, zero_fill=False, **ROLES)
    means = some.groupby(["va", "aa"])["y"].mean()
    assert found.total.estimate == pytest.approx(means[1, 1] - means[0, 0], rel=1e-10)
    assert found.cells["n_pairs"].sum() == len(some)
    assert 0 < found.fisher(n_draws=99) <= 1


def test_dual_sided_effect_of_every_pair_needs_no_zero_fill():
    wanted, got = (dual_sided_effect(experiment(), zero_fill=z, **ROLES) for z in (True, False))
    assert got == wanted


def test_dual_sided_effect_counts_units_without_rows():
    full, _ = sparse_rows()
    idle = full["viewer"].isin([100, 101, 102])
    arms = full.groupby("viewer")["va"].first()
    wanted = dual_sided_effect(full.assign(y=full["y"].where(~idle, 0.0)), **ROLES)
    dealt = arms.value_counts().to_dict()
    got = dual_sided_effect(full[~idle], n_viewers=dealt, **ROLES)
    np.testing.assert_allclose(got.covariance, wanted.covariance, rtol=1e-9)
    without = dual_sided_effect(full[~idle], **ROLES)
    assert abs(without.total.estimate - wanted.total.estimate) > 0.01


# --- what must not matter -------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["two_way", "exact_bound", "randomization"])
def test_dual_sided_effect_does_not_depend_on_order_or_names(variance):
    frame = experiment()
    wanted = dual_sided_effect(frame, variance=variance, **ROLES)
    for other in (
        frame.sample(frac=1, random_state=0),
        frame.assign(viewer=frame["viewer"].map(lambda v: f"v{(7 * v) % 1000}")),
        frame.assign(author=-frame["author"], va=frame["va"].astype(bool)),
    ):
        got = dual_sided_effect(other, variance=variance, **ROLES)
        np.testing.assert_allclose(got.covariance, wanted.covariance, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(got.estimate, wanted.estimate, rtol=1e-10)


@pytest.mark.parametrize("variance", ["two_way", "exact_bound", "randomization"])
def test_dual_sided_effect_of_exchanged_arms_changes_sign(variance):
    frame = experiment()
    there = dual_sided_effect(frame, variance=variance, **ROLES)
    other = frame.assign(va=1 - frame["va"], aa=1 - frame["aa"])
    back = dual_sided_effect(other, variance=variance, **ROLES)
    assert back.total.estimate == pytest.approx(-there.total.estimate, rel=1e-10)
    assert back.direct.estimate == pytest.approx(there.direct.estimate, rel=1e-10)
    assert back.total.std_error == pytest.approx(there.total.std_error, rel=1e-9)


def test_dual_sided_sides_may_be_exchanged():
    frame = experiment()
    there = dual_sided_effect(frame, **ROLES)
    sides = {"viewer": "author", "author": "viewer", "viewer_arm": "aa", "author_arm": "va"}
    back = dual_sided_effect(frame, outcome="y", **sides)
    assert back.viewer_spillover.estimate == pytest.approx(there.author_spillover.estimate)
    order = [0, 2, 1, 3]
    np.testing.assert_allclose(back.covariance, there.covariance[np.ix_(order, order)], rtol=1e-9)


# --- battles --------------------------------------------------------------------------------------


def test_dual_sided_entanglement_is_the_share_of_the_outcome():
    frame = experiment().assign(y=lambda d: d["y"] ** 2, b=lambda d: (d["viewer"] % 5 == 0) * 0.5)
    found = dual_sided_effect(frame, battle="b", **ROLES)
    wanted = (frame["y"] * frame["b"]).sum() / frame["y"].sum()
    assert found.entanglement == pytest.approx(wanted, rel=1e-12)
    assert f"{100 * wanted:.0f}% of the outcome is in mixed-arm battles" in found.summary()


def test_dual_sided_effect_warns_of_entanglement():
    frame = experiment().assign(y=1.0, b=0.31).assign(y=lambda d: 2 + d.index % 3)
    text = (
        "31% of y is in mixed-arm battles: direct effect has lost its meaning and power; use time"
    )
    with pytest.warns(EstimationWarning, match=text) as caught:
        dual_sided_effect(frame, battle="b", **ROLES)
    assert len(caught) == 1
    assert dual_sided_effect(frame.assign(b=0.29), battle="b", **ROLES).entanglement < 0.3


# --- refused and warned ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance": "HC2"}, "variance must be one of 'two_way', 'exact_bound', 'randomization'"),
        ({"level": 95}, r"level must be in \(0, 1\); got 95"),
        ({"zero_fill": False, "variance": "exact_bound"}, "variance='exact_bound' needs every"),
        ({"zero_fill": False, "variance": "randomization"}, "'randomization' needs every pair"),
        ({"battle": "va"}, "column 'va' cannot be both viewer_arm and battle"),
        ({"battle": "y"}, "column 'y' cannot be both outcome and battle"),
    ],
)
def test_dual_sided_effect_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        dual_sided_effect(sparse_rows()[1], **{**ROLES, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": 1.5}, r"column 'b' must be a share in \[0, 1\]; 384 rows are not"),
        ({"y": -1.0}, "battle 'b' needs an outcome that is not negative, such as watch time; 'y'"),
        ({"y": 0.0}, "battle 'b' needs an outcome"),
    ],
)
def test_dual_sided_effect_refuses_battles_that_are_no_shares(change, message):
    with pytest.raises(ValueError, match=message):
        dual_sided_effect(experiment().assign(b=0.2).assign(**change), battle="b", **ROLES)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_dual_sided_effect_names_an_outcome_whose_squares_leave_a_double(scale):
    with pytest.raises(ValueError, match="column 'y' must have squares within a double"):
        dual_sided_effect(experiment().assign(y=lambda d: d["y"] * scale), **ROLES)


def test_dual_sided_effect_of_a_constant_is_warned_of():
    with pytest.warns(EstimationWarning, match="outcome 'y' is constant within the cells") as seen:
        found = dual_sided_effect(experiment().assign(y=7), **ROLES)
    assert len(seen) == 1
    assert found.total.estimate == 0
    assert found.total.std_error == 0


def test_dual_sided_effect_holds_no_table_of_pairs(found):
    assert isinstance(found, DualSidedEffect)
    assert isinstance(found.cells, pd.DataFrame)
    assert len(found.cells) == 4
