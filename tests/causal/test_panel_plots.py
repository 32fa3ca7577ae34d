"""Drawings of panels from results that went through JSON, and what stands on them."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from causal import (
    EventStudy,
    PanelDesign,
    StratifiedDid,
    event_study,
    panel_design,
    stratified_did,
)
from causal.plots import bias_and_error, estimates_by_row, truth_and_estimates

COLUMNS = {"outcome": "y", "unit": "u", "time": "week"}
STRANGE = "$\\nosuch$ <b>"


@pytest.fixture(autouse=True)
def pyplot():
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def log(starts=(4, 6), never=True, n=120, periods=9):
    i, t = (a.ravel() for a in np.indices((n, periods)))
    kinds = [*starts, np.nan] if never else list(starts)
    start = np.array(kinds)[i % len(kinds)]
    y = (7 * i + 3 * t + i * t) % 11 + 30 + t + 2.0 * (t >= start)
    state = np.array(["new", STRANGE])[(i // len(kinds)) % 2]
    return pd.DataFrame({"u": i, "week": t, "start": start, "y": y, "state": state})


def through_json(result, kind):
    return kind.from_dict(json.loads(json.dumps(result.to_dict())))


def drawn(ax):
    ax.figure.canvas.draw()
    return ax


def test_plot_design_has_a_row_a_cohort_and_its_start():
    table = log()
    table = table[(table["week"] != 3) | (table["u"] % 3 != 0) | (table["u"] < 60)]
    design = panel_design(table, **COLUMNS, cohort="start")
    ax = drawn(through_json(design, PanelDesign).plot())
    shares = ax.images[0].get_array()
    assert shares.shape == (3, 9)
    np.testing.assert_allclose(shares[0], np.where(np.arange(9) == 3, 0.5, 1.0))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["4: 40", "6: 40", "never: 40"]
    assert [line.get_xdata()[0] for line in ax.lines[:2]] == [3.5, 5.5]
    assert f"n = {len(table):,}" in ax.get_title(loc="left")


def test_plot_trajectories_draws_means_and_starts():
    table = log()
    design = through_json(panel_design(table, **COLUMNS, cohort="start"), PanelDesign)
    ax = drawn(design.plot_trajectories())
    means = table.fillna({"start": 99}).pivot_table("y", "start", "week")
    marks = [line for line in ax.lines if line.get_marker() == "D" and len(line.get_xdata())]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 9]
    np.testing.assert_allclose([line.get_ydata() for line in lines], means)
    starts = [line.get_xydata()[0] for line in marks]
    np.testing.assert_allclose(starts, [(4, means.loc[4, 4]), (6, means.loc[6, 6])])
    ax = drawn(design.plot_trajectories(indexed=True))
    never = next(line for line in ax.lines if line.get_label() == "never").get_ydata()
    assert np.mean(never[:4]) == pytest.approx(100)


def test_plot_trajectories_indexed_by_0_is_refused():
    table = log()
    table["y"] = np.where(table["week"] < 4, 0.0, table["y"])
    design = panel_design(table, **COLUMNS, cohort="start")
    with pytest.raises(ValueError, match="cohort 4 is 0; draw it with indexed=False"):
        design.plot_trajectories(indexed=True)


def test_plot_design_places_dates_as_text():
    table = log()
    for name in ("week", "start"):
        table[name] = pd.Timestamp("2026-05-01") + pd.to_timedelta(table[name], unit="D")
    design = panel_design(table, **COLUMNS, cohort="start")
    for ax in (design.plot(), design.plot_trajectories()):
        ticks = [t.get_text() for t in drawn(ax).get_xticklabels()]
        assert ticks[0] == "2026-05-01"
        assert 2 <= len(ticks) <= 6


@pytest.mark.parametrize("simultaneous", [True, False])
def test_draw_event_study_has_both_limits_a_hollow_reference_and_units(simultaneous):
    found = through_json(event_study(log(starts=(4,)), **COLUMNS, cohort="start"), EventStudy)
    ax = drawn(found.plot(simultaneous=simultaneous))
    shown = np.array(found.curve.index) != -1
    bars = np.array([s[:, 1] for s in ax.collections[0].get_segments()])
    np.testing.assert_allclose(bars, found.curve.conf_int()[shown])
    boxes = [(p.get_y(), p.get_y() + p.get_height()) for c in ax.containers for p in c]
    if simultaneous:
        band = found.curve.conf_int(simultaneous=True)[shown]
        np.testing.assert_allclose(boxes, band)
        assert ax.get_ylim()[0] < band.min()
    else:
        assert boxes == []
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert [tuple(line.get_xydata()[0]) for line in hollow] == [(-1.0, 0.0)]
    assert ax.get_xticklabels()[0].get_text() == "-4\n60"
    assert f"n = {found.effect.n_obs:,}; before the start: joint p" in ax.get_title(loc="left")


def test_draw_strata_has_weights_diamonds_and_the_test():
    found = stratified_did(log(starts=(4,)), **COLUMNS, cohort="start", stratum="state")
    ax = drawn(through_json(found, StratifiedDid).plot())
    assert [t.get_text() for t in ax.get_yticklabels()] == [STRANGE, "new", "stratified", "pooled"]
    assert f"Q = {found.heterogeneity.statistic:.3g}, 1 df" in ax.get_xlabel()
    texts = {t.get_text() for t in ax.texts}
    assert {f"{100 * w:.3g}%" for w in found.weights.values()} <= texts
    corners = [p.get_xy()[:3, 0] for p in ax.patches]
    for x, effect in zip(corners, (found.effect, found.pooled), strict=True):
        np.testing.assert_allclose(x, [effect.conf_int()[0], effect.estimate, effect.conf_int()[1]])


def test_legends_stand_above_the_axes_and_name_every_mark():
    rng = np.random.default_rng(0)
    rows = {"a design with a long name": rng.normal(0, 1, 9), "b": rng.normal(1, 1, 9)}
    table = pd.DataFrame(
        {"method": ["a", "b"], "estimate": 1.0, "low": 0, "high": 2, "target": 1, "truth": 1}
    )
    axes = [
        estimates_by_row(rows, truth=1.0, label="minutes"),
        truth_and_estimates(table, label="minutes"),
    ]
    for ax in axes:
        drawn(ax)
        legend = ax.get_legend().get_window_extent()
        assert legend.y0 >= ax.get_window_extent().y1 - 1
        names = [t.get_window_extent().x0 for t in ax.get_yticklabels()]
        assert min(names) >= 0  # none is cut
    named = [t.get_text() for t in axes[0].get_legend().get_texts()]
    assert named == ["one experiment", "their mean", "truth"]


def test_bias_and_error_keeps_far_designs_at_the_edge_and_names_apart():
    minutes = np.array([60.0, 65, 70, 120, 240, 480, 960, np.nan])
    table = pd.DataFrame(
        {
            "design": [*(f"switchback {m:g} min" for m in minutes[:-1]), "author split"],
            "slice_minutes": minutes,
            "burn_in_minutes": np.where(np.isnan(minutes), np.nan, 0),
            "bias_low": 0.0,
            "bias_high": [2, 1.95, 1.9, 1, 0.5, 0.25, 0.1, 0.1],
            "std_error": [0.1, 0.105, 0.11, 0.2, 0.3, 0.4, 0.5, 90],
            "rejected": "",
        }
    )
    ax = drawn(bias_and_error(table))
    assert ax.get_xlim()[1] < 5
    assert "beyond the axes" in [t.get_text() for t in ax.get_legend().get_texts()]
    boxes = [t.get_window_extent() for t in ax.texts]
    assert ax.texts[0].get_text() == "60 min"  # the recommended one comes first
    assert "author split" in [t.get_text() for t in ax.texts]
    assert not any(a.overlaps(b) for j, a in enumerate(boxes) for b in boxes[:j])
