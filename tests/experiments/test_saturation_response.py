"""Responses to the treated share: closed form, weighted least squares, simulated worlds."""

import json
import pickle
from pathlib import Path

import duckdb
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from causal.effect import Effect, EffectCurve, EstimationWarning
from causal.linear import covariance, least_squares
from experiments import share_response

ROLES = {"outcome": "y", "arm": "arm", "share": "share", "cell": "cell"}
REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "dual_sided.json").read_text(encoding="utf-8")
)


def saturated(
    shares=(0.1, 0.5, 0.9),
    *,
    cells=24,
    units=40,
    direct=1.0,
    spill=2.0,
    bend=0.0,
    shock=0.5,
    seed=0,
):
    """One row a unit: control responds to the share by ``spill s + bend s^2``, treatment by 1 more.

    `shock` is the spread of what all units of a cell share.
    """
    rng = np.random.default_rng(seed)
    share = rng.permutation(np.resize(shares, cells))
    cell = np.repeat(np.arange(cells), units)
    arm = (np.tile(np.arange(units), cells) < np.round(units * share)[cell]).astype(int)
    s = share[cell]
    level = 10 + spill * s + bend * s**2 + direct * arm + shock * rng.normal(size=cells)[cell]
    y = level + rng.normal(0, 2, len(cell))
    return pd.DataFrame({"cell": cell, "share": s, "arm": arm, "y": y})


def exact_rows(degree=1):
    """Two rows a cell without noise but a level of each pair of cells that cancels out."""
    rows = []
    for c in range(24):
        s = (0.2, 0.5, 0.8)[c % 3]
        for arm in (0, 1):
            y = 4 + (1 + 0.5 * s) * arm + 2 * s + (degree - 1) * 3 * s * s
            rows.append((c, s, arm, y + (0.1 if c // 3 % 2 else -0.1)))
    return pd.DataFrame(rows, columns=["cell", "share", "arm", "y"])


def test_share_response_of_lines_is_their_closed_form():
    found = share_response(exact_rows(), **ROLES)
    assert found.total.estimate == pytest.approx(1.5 + 2, rel=1e-10)
    assert found.direct.index == (0.2, 0.5, 0.8)
    np.testing.assert_allclose(found.direct.estimate, [1.1, 1.25, 1.4], rtol=1e-9)
    np.testing.assert_allclose(found.spillover.estimate, [0.4, 1.0, 1.6], rtol=1e-9)
    assert found.total.baseline == pytest.approx(4, rel=1e-10)
    assert found.curvature.estimate == pytest.approx(0, abs=1e-9)


def test_share_response_of_parabolas_needs_degree_two():
    rows = exact_rows(degree=2)
    found = share_response(rows, degree=2, **ROLES)
    assert found.total.estimate == pytest.approx(1.5 + 2 + 3, rel=1e-9)
    assert found.curvature.estimate == pytest.approx(3, rel=1e-9)
    line = share_response(rows, **ROLES)
    assert line.total.estimate == pytest.approx(6.5, rel=1e-9)  # symmetric shares: it cancels
    assert line.spillover.at(0.5).estimate != pytest.approx(1.75, abs=0.3)
    assert line.curvature.p_value < 1e-3
    uneven = rows[rows["cell"] % 3 < 2]
    assert share_response(uneven, **ROLES).total.estimate != pytest.approx(6.5, abs=0.3)


@pytest.mark.reference
def test_share_response_equals_statsmodels_weighted_lines():
    given = REFERENCE["lines"]
    found = share_response(pd.DataFrame(given["rows"]), **ROLES)
    wanted = given["treated_at_1"] - given["control_at_0"]
    assert found.total.estimate == pytest.approx(wanted, rel=1e-10)
    assert found.total.baseline == pytest.approx(given["control_at_0"], rel=1e-10)


def test_share_response_errors_are_those_of_clustered_least_squares():
    rows = saturated()
    found = share_response(rows, **ROLES)
    means = rows.groupby(["cell", "arm"], as_index=False).agg(
        share=("share", "first"), y=("y", "mean"), n=("y", "size")
    )
    treated = (means["arm"] == 1).to_numpy()
    s = means["share"].to_numpy()
    X = np.column_stack([np.ones(len(s)), treated, (s - 1) * treated, s * ~treated])
    fit = least_squares(X, means["y"].to_numpy(), weights=means["n"].to_numpy())
    wanted = covariance(fit, X, kind="CR2", clusters=means["cell"].to_numpy())
    assert found.total.estimate == pytest.approx(fit.coef[1], rel=1e-10)
    assert found.total.std_error == pytest.approx(np.sqrt(wanted.matrix[1, 1]), rel=1e-9)
    assert found.total.df == pytest.approx(wanted.df[1], rel=1e-9)
    assert found.total.baseline_cov == pytest.approx(wanted.matrix[0, 1], rel=1e-8)
    assert found.spillover.df[0] == pytest.approx(wanted.df[3], rel=1e-9)
    treated_then = X @ np.linalg.inv([[1, 0, 0, 0], [0, 1, -0.5, -0.5], [0, 0, 1, 0], [0, 0, 0, 1]])
    again = least_squares(treated_then, means["y"].to_numpy(), weights=means["n"].to_numpy())
    middle = covariance(again, treated_then, kind="CR2", clusters=means["cell"].to_numpy())
    assert found.direct.index[1] == 0.5
    assert found.direct.estimate[1] == pytest.approx(again.coef[1], rel=1e-9)
    assert found.direct.df[1] == pytest.approx(middle.df[1], rel=1e-7)
    unit = found.spillover.std_error / np.array(found.spillover.index)
    np.testing.assert_allclose(unit, np.sqrt(wanted.matrix[3, 3]), rtol=1e-9)


def test_share_response_of_means_is_that_of_equal_numbers_of_units():
    rows = saturated(shares=(0.25, 0.5, 0.75), units=8)
    means = rows.groupby(["cell", "arm"], as_index=False)[["share", "y"]].mean()
    equal = rows[rows["share"] == 0.5]
    assert (equal.groupby(["cell", "arm"]).size() == 4).all()
    doubled = pd.concat([means, means.assign(y=means["y"])])
    found, wanted = (share_response(r, **ROLES) for r in (doubled, means))
    assert found.total.estimate == pytest.approx(wanted.total.estimate, rel=1e-10)
    assert found.total.std_error == pytest.approx(wanted.total.std_error, rel=1e-9)


def test_share_response_of_cells_without_an_arm_uses_the_other():
    rows = saturated(shares=(0.0, 0.5, 1.0))
    found = share_response(rows, **ROLES)
    treated = rows[(rows["share"] == 1)].groupby("cell")["y"].mean()
    control = rows[(rows["share"] == 0)].groupby("cell")["y"].mean()
    assert found.total.estimate == pytest.approx(treated.mean() - control.mean(), abs=0.3)
    assert found.spillover.index == (0.5, 1.0)
    assert found.direct.index == (0.0, 0.5, 1.0)
    with pytest.raises(ValueError, match="curvature needs three shares in each arm"):
        found.curvature  # noqa: B018 — the access is the test


@pytest.mark.parametrize("kind", ["polars", "arrow", "engine", "shuffled", "text", "bool"])
def test_share_response_is_equal_for_every_kind_of_table(kind):
    rows = saturated()
    arrow = pa.Table.from_pandas(rows, preserve_index=False)
    table = {
        "polars": lambda: pl.from_arrow(arrow),
        "arrow": lambda: arrow,
        "engine": lambda: duckdb.connect().from_arrow(arrow),
        "shuffled": lambda: rows.sample(frac=1, random_state=0),
        "text": lambda: rows.assign(cell="cell " + rows["cell"].astype(str)),
        "bool": lambda: rows.astype({"arm": bool, "share": "float32"}),
    }[kind]()
    found, wanted = (share_response(t, **ROLES) for t in (table, rows))
    rtol = 1e-6 if kind == "bool" else 1e-9
    np.testing.assert_allclose(found.direct.cov, wanted.direct.cov, rtol=rtol)
    assert found.total.estimate == pytest.approx(wanted.total.estimate, rel=rtol)


def test_share_response_follows_the_outcomes_unit():
    rows = saturated()
    plain = share_response(rows, **ROLES)
    other = share_response(rows.assign(y=1e6 + 60 * rows["y"]), **ROLES)
    assert other.total.estimate == pytest.approx(60 * plain.total.estimate, rel=1e-8)
    assert other.total.std_error == pytest.approx(60 * plain.total.std_error, rel=1e-8)


def test_share_response_of_many_shares_draws_at_most_eleven_points():
    shares = np.round(np.linspace(0.1, 0.9, 17), 3)
    found = share_response(saturated(shares=tuple(shares), cells=51), **ROLES)
    assert len(found.direct) == 11
    assert found.direct.index[0] == 0.1
    assert found.direct.index[-1] == 0.9


def test_share_response_delegates_and_is_a_value():
    found = share_response(saturated(), **ROLES)
    assert (found.estimate, found.std_error) == (found.total.estimate, found.total.std_error)
    assert found.p_value == found.total.p_value
    assert found.conf_int(0.9) == found.total.conf_int(0.9)
    again = share_response(saturated(), **ROLES)
    assert again == found
    assert hash(again) == hash(found)
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != share_response(saturated(seed=1), **ROLES)
    assert found != 3
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Effect.from_dict(plain["total"]) == found.total
    assert EffectCurve.from_dict(plain["direct"]) == found.direct
    with pytest.raises(AttributeError):
        found.degree = 2


def test_share_response_shows_what_was_drawn_out():
    found = share_response(saturated(), **ROLES)
    frame = found.to_frame()
    assert frame["effect"].tolist() == ["total"] + ["direct"] * 3 + ["spillover"] * 3
    assert "shares 0.1 to 0.9 were tried: the rest is drawn out" in str(found)
    assert "Curvature" in found._repr_html_()
    ends = found.lines[found.lines["n_cells"] == 0]
    assert ends[["share", "arm"]].to_numpy().tolist() == [[0, 0], [1, 1]]
    gap = ends["fitted"].iloc[1] - ends["fitted"].iloc[0]
    assert gap == pytest.approx(found.total.estimate, rel=1e-10)
    ax = found.plot()
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[[0, -1]].tolist() for line in dashed] == [[0, 0.9], [0.1, 1]]
    plt.close(ax.figure)


def test_share_response_at_two_shares_has_no_curvature():
    found = share_response(saturated(shares=(0.1, 0.9)), **ROLES)
    with pytest.raises(ValueError, match="two shares cannot show it: add a share between them"):
        found.curvature  # noqa: B018 — the access is the test
    assert found.to_dict()["curvature"] is None
    with pytest.raises(ValueError, match="degree 2 needs 3 values of share 'share' in each arm;"):
        share_response(saturated(shares=(0.1, 0.9)), degree=2, **ROLES)


def test_share_response_warns_of_few_cells_and_of_constants():
    with pytest.warns(EstimationWarning, match="6 cells of 'cell', fewer than 10, make") as seen:
        share_response(saturated(cells=6), **ROLES)
    assert len(seen) == 1
    with pytest.warns(EstimationWarning, match="outcome 'y' is constant"):
        flat = share_response(saturated().assign(y=2.5), **ROLES)
    assert flat.total.estimate == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.assign(arm=r["arm"] + 1), "arm 'arm' must be 0 or 1"),
        (lambda r: r.assign(share=100 * r["share"]), r"column 'share' must be a share in \[0, 1\]"),
        (lambda r: r.assign(share=r["share"] + 0.01 * (r.index == 3)), "share 'share' must be constant within cell 'cell'; 1 of 24 change it, e.g. 0; give"),  # noqa: E501
        (lambda r: r.assign(share=np.where(r["cell"] == 0, 0.0, r["share"])), "must be above 0 in treated rows and below 1 in control rows; 4 rows are not"),  # noqa: E501
        (lambda r: r.assign(share=0.5), "degree 1 needs 2 values of share 'share' in each arm; control has 1, treatment 1; add shares"),  # noqa: E501
        (lambda r: r.assign(arm=1), "column 'arm' must hold both arms; it holds only 1"),
        (lambda r: r[r["cell"].isin([int(r.loc[r["share"] == s, "cell"].min()) for s in (0.1, 0.9)])], "cells 'cell' are too few: one alone"),  # noqa: E501
        (lambda r: r.assign(y=1e200 * r["y"]), "column 'y' must have squares within a double"),
        (lambda r: r.assign(y=np.nan), r"column 'y' must be present \(not missing\)"),
        (lambda r: r.rename(columns={"y": "why"}), "column 'y' .outcome. is not in the table"),
    ],
)  # fmt: skip
def test_share_response_refuses_what_is_no_saturation_design(change, message):
    with pytest.raises(ValueError, match=message):
        share_response(change(saturated()), **ROLES)


def test_share_response_refuses_an_unknown_degree():
    with pytest.raises(ValueError, match="degree must be one of 1, 2; got 3"):
        share_response(saturated(), degree=3, **ROLES)


@pytest.mark.coverage_study
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "degree"),
    [
        ({"shares": (0.1, 0.9), "cells": 12}, 1),
        ({"cells": 12}, 1),
        ({"cells": 28, "shock": 2.0}, 1),
        ({"cells": 30, "bend": 3.0}, 2),
    ],
    ids=["two shares", "12 cells", "shocks", "parabola"],
)
def test_share_response_is_unbiased_and_covers(options, degree):
    runs, hits, total = 120, np.zeros(3), []
    truth = 1.0 + 2.0 + options.get("bend", 0.0)
    for seed in range(runs):
        with threadpool_limits(1):  # matrices of four rows: threads only wait for each other
            found = share_response(saturated(seed=seed, **options), degree=degree, **ROLES)
        total.append(found.total.estimate)
        s = np.array(found.spillover.index)[-1]
        wanted = [(found.total, truth), (found.direct.at(found.direct.index[-1]), 1.0)]
        wanted += [(found.spillover.at(s), 2.0 * s + options.get("bend", 0.0) * s**2)]
        hits += [effect.conf_int()[0] <= t <= effect.conf_int()[1] for effect, t in wanted]
    assert np.mean(total) == pytest.approx(truth, abs=3.5 * np.std(total) / np.sqrt(runs))
    assert (hits / runs >= stats.binom.ppf(0.0005, runs, 0.95) / runs).all(), hits / runs
