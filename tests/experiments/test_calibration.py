"""A twin of a platform from its log."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from experiments import calibrate_platform
from experiments.planning.calibration import as_platform
from experiments.planning.twin_designs import twin_designs
from recsys import Arms, LivePlatform, Strategy

sys.path.insert(0, str(Path(__file__).parents[1] / "recsys"))
from plain_flows import plain_world


def log_of(hours=120, **parameters):
    """What each viewer watched of each author in each hour, in expectation."""
    platform = LivePlatform(n_viewers=90, n_authors=24, seed=11, **parameters)
    draws = platform.draws(hours=hours, warm_up_hours=12, seed=5)
    flow = plain_world(
        platform, Arms.none(), Strategy(0.0), hours=hours, warm_up_hours=12, before_hours=0,
        draws=draws,
    )  # fmt: skip
    t, i, j = np.nonzero(flow)
    return pd.DataFrame(
        {
            "viewer_id": i,
            "author_id": j,
            "watch": 60 * flow[t, i, j],
            "timestamp": pd.Timestamp("2026-03-02") + pd.to_timedelta(t, unit="h"),
        }
    )


SMALL = LivePlatform(n_viewers=40, n_authors=10, seed=2)
LOG = log_of(u0=4.0, quality_sd=0.4, activity_sd=0.7, tod=0.5)


def test_calibrate_platform_meets_the_moments_it_names():
    found = calibrate_platform(LOG, seed=3)
    fit = found.fit
    np.testing.assert_allclose(fit["simulated"], fit["observed"], rtol=0.05)
    assert set(fit["parameter"]) == {
        "u0", "quality_sd", "activity_sd", "tod", "shock", "rho_s", "live_share",
    }  # fmt: skip
    p = found.platform.parameters
    assert abs(p.u0 - 4.0) < 0.6
    assert abs(p.quality_sd - 0.4) < 0.2
    assert abs(p.activity_sd - 0.7) < 0.25
    assert abs(p.tod - 0.5) < 0.15
    assert found.platform.n_viewers == 90
    assert any("psi" in name for name in found.not_identified)
    assert "not identified" in found.summary()
    assert as_platform(found) is found.platform


def test_calibrate_platform_counts_viewers_without_a_row():
    found = calibrate_platform(LOG, n_viewers=180, seed=3)
    level = found.fit.set_index("parameter").loc["u0", "observed"]
    np.testing.assert_allclose(level, LOG["watch"].sum() / (60 * 120 * 180), rtol=1e-9)
    assert found.platform.n_viewers == 180
    assert found.sizes == (180, 24)


def test_calibrate_platform_measures_the_noise_that_flows_do_not_have():
    quiet = calibrate_platform(LOG, seed=3).viewer_noise
    rng = np.random.default_rng(0)
    luck = rng.gamma(0.05, 20.0, len(LOG))  # mean 1: most rows of a viewer come to nothing
    log = LOG.assign(watch=LOG["watch"] * luck)
    loud = calibrate_platform(log, seed=3).viewer_noise
    assert 0 <= quiet < 0.2 * loud
    odd = (log["timestamp"].dt.day_of_year - log["timestamp"].dt.day_of_year.min()) % 2 == 1
    halves = [log[h].groupby("viewer_id")["watch"].sum().reindex(range(90)) for h in (~odd, odd)]
    slope, level = np.polyfit(*halves, 1)
    left = (halves[1] - slope * halves[0] - level).var() / halves[1].mean() ** 2
    np.testing.assert_allclose(loud, left * 2.5, rtol=1e-6)  # halves of two days and a half
    rows = {
        noise: twin_designs(SMALL, days=7, seed=1, viewer_noise=noise)[0].error
        for noise in (0.0, 400.0)
    }
    np.testing.assert_allclose(rows[400.0], np.sqrt(4 * 400 / 7 / SMALL.n_viewers))
    assert rows[0.0] < rows[400.0]


def test_calibrate_platform_sees_sessions():
    found = calibrate_platform(log_of(live_share=0.4), seed=1)
    share = found.fit.set_index("parameter").loc["live_share", "observed"]
    assert 0.3 < share < 0.65  # an hour is live if any minute of it is
    assert abs(found.platform.parameters.live_share - 0.4) < 0.06
    simulated = found.fit.set_index("parameter").loc["live_share", "simulated"]
    np.testing.assert_allclose(simulated, share)


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda f: f.drop(columns="watch"), {}, ValueError, "'watch'"),
        (
            lambda f: f.assign(watch=-1.0),
            {},
            ValueError,
            r"'watch' must hold minutes of 0 or m.*-1",
        ),
        (lambda f: f.assign(watch=0.0), {}, ValueError, "'watch' must hold .* watching; all are 0"),
        (lambda f: f.assign(watch=np.nan), {}, ValueError, r"'watch' must be present .* rows 0"),
        (lambda f: f.assign(watch=np.inf), {}, ValueError, "'watch' must be finite; .* rows 0"),
        (lambda f: f.assign(watch="4"), {}, TypeError, "'watch' must hold numbers; it holds .*'4'"),
        (lambda f: f.assign(author_id=None), {}, ValueError, "column 'author_id' must be present"),
        (lambda f: f.assign(timestamp=pd.NaT), {}, ValueError, "'timestamp' must be present"),
        (
            lambda f: f.assign(timestamp="noon"),
            {},
            TypeError,
            "'timestamp' .* must hold timestamps",
        ),
        (
            lambda f: f.assign(viewer_id=1),
            {},
            ValueError,
            "'viewer_id' must hold two viewers or mo",
        ),
        (lambda f: f[:0], {}, ValueError, "the table is empty"),
        (lambda f: f.assign(timestamp=1), {}, TypeError, "column 'timestamp' must hold instants"),
        (lambda f: f[f["timestamp"] < "2026-03-03"], {}, ValueError, "72 hours or more"),
        (lambda f: f, {"n_viewers": 10}, ValueError, "n_viewers must be at least"),
        (lambda f: f, {"seed": -1}, ValueError, "seed"),
    ],
)
def test_calibrate_platform_refuses_logs_that_tell_nothing(change, arguments, error, message):
    with pytest.raises(error, match=message):
        calibrate_platform(change(LOG), **arguments)


def test_calibrate_platform_reads_any_kind_of_table(tmp_path):
    LOG.to_parquet(tmp_path / "log.parquet")
    kinds = (pl.from_pandas(LOG).lazy(), pa.Table.from_pandas(LOG), tmp_path / "log.parquet")
    expected = calibrate_platform(LOG, seed=3).fit
    for kind in kinds:
        pd.testing.assert_frame_equal(calibrate_platform(kind, seed=3).fit, expected)


def test_as_platform_refuses_anything_else():
    with pytest.raises(TypeError, match="platform must be a LivePlatform"):
        as_platform("mine")
