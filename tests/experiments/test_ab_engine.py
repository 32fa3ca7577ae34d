"""The engine and numpy give the same read-out, for every kind of metric and every option."""

import math

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ab_tables import log, with_gaps

import causal.engine_rows
import causal.rows
from causal import EstimationWarning
from experiments import Mean, Quantile, Ratio, ab_curve, ab_test, ab_tests, srm_test

SAME = {"rtol": 1e-12, "atol": 1e-13}
pytestmark = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")


def both_ways(monkeypatch, read):
    """What `read` returns with numpy, and with every table in the engine."""
    small = read()
    monkeypatch.setattr(causal.rows, "_IN_ENGINE_FROM", 0)
    monkeypatch.setattr(causal.engine_rows, "_MANY_GROUPS", 0)
    return small, read()


def assert_same_effect(left, right):
    for name in ("estimate", "std_error", "df", "baseline", "baseline_variance", "baseline_cov"):
        if getattr(left, name) is None:
            assert getattr(right, name) is None
        else:
            np.testing.assert_allclose(getattr(right, name), getattr(left, name), **SAME)
    for name in ("n_obs", "n_clusters", "method", "estimand"):
        assert getattr(left, name) == getattr(right, name)
    assert left.details.keys() == right.details.keys()
    for key, value in left.details.items():
        assert_same_value(value, right.details[key])


def assert_same_value(left, right):
    if isinstance(left, float):
        np.testing.assert_allclose(right, left, **SAME)
    elif hasattr(left, "items"):
        assert left.keys() == right.keys()
        for key in left:
            assert_same_value(left[key], right[key])
    else:
        assert left == right


MEAN = Mean("watch_s")
LIN = Mean("watch_s", covariates=["before", "noise"])
PER = Mean("watch_s", per="viewer_id", covariates=["before", "noise"])
CUT = Mean("watch_s", covariates=["before"], winsor=(0.02, 0.95))
PER_CUT = Mean("watch_s", per="viewer_id", covariates=["before"], winsor=(0, 0.9))
RATIO = Ratio("clicks", "views")
RATIO_LIN = Ratio("clicks", "views", covariates=["before"])
RATIO_PRE = Ratio("clicks", "views", covariates=["noise"], covariate_ratio=("clicks0", "views0"))
MEDIAN = Quantile("watch_s", 0.5)
TOTAL_P80 = Quantile("watch_s", 0.8, per="viewer_id")

CASES = [
    *[(m, {"adjustment": a, "covariance": k}) for m in (MEAN, LIN) for a in ("lin", "cuped")
      for k in ("HC0", "HC1", "HC2", "HC3")],
    *[(LIN, {"weight": "weight", "covariance": k}) for k in ("HC0", "HC2", "HC3")],
    *[(LIN, {"cluster": "village", "covariance": k, "adjustment": a})
      for k in ("CR0", "CR1", "CR2") for a in ("lin", "cuped", "none")],
    *[(LIN, {"cluster": "village", "weight": "weight", "covariance": k}) for k in ("CR1", "CR2")],
    *[(PER, {"adjustment": a}) for a in ("lin", "cuped", "none")],
    *[(PER, {"covariance": k}) for k in ("HC0", "HC3", "CR1", "CR2")],
    *[(PER, {"cluster": c}) for c in ("viewer_id", "village")],
    *[(m, {}) for m in (CUT, PER_CUT)],
    (PER_CUT, {"cluster": "village"}),
    *[(m, {"cluster": c, "adjustment": a}) for m in (RATIO_LIN, RATIO_PRE)
      for c in (None, "viewer_id", "village") for a in ("lin", "cuped")],
    (RATIO, {"cluster": "viewer_id", "covariance": "CR1"}),
    *[(m, {"trigger": "touched"}) for m in (LIN, PER, RATIO_LIN)],
    (LIN, {"trigger": "touched", "weight": "weight"}),
    (LIN, {"trigger": "touched", "cluster": "village"}),
    (RATIO_LIN, {"trigger": "touched", "cluster": "viewer_id"}),
    (MEDIAN, {}),
    (MEDIAN, {"cluster": "viewer_id"}),
    (TOTAL_P80, {}),
    (TOTAL_P80, {"cluster": "village"}),
]  # fmt: skip


def words(case):
    metric, options = case
    return "-".join([type(metric).__name__, metric.label, *map(str, options.values())])


@pytest.mark.parametrize("case", CASES, ids=words)
def test_ab_test_in_the_engine_equals_numpy(monkeypatch, case):
    metric, options = case
    frame = log(120, crossing=options.get("trigger") is not None)
    assert_same_effect(
        *both_ways(monkeypatch, lambda: ab_test(frame, metric=metric, arm="arm", **options))
    )


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (LIN, {}),
        (LIN, {"cluster": "village", "weight": "weight"}),
        (PER, {}),
        (PER_CUT, {"cluster": "village"}),
        (RATIO_PRE, {"cluster": "viewer_id"}),
        (MEDIAN, {}),
        (TOTAL_P80, {}),
    ],
)
def test_ab_test_with_gaps_in_the_engine_equals_numpy(monkeypatch, metric, options):
    frame = with_gaps(log(120), ["watch_s", "before", "clicks", "views0"])
    assert_same_effect(
        *both_ways(monkeypatch, lambda: ab_test(frame, metric=metric, arm="arm", **options))
    )


def test_ab_test_with_a_covariate_of_leverage_one_is_refused_in_the_engine(monkeypatch):
    frame = log(120)
    frame["alone"] = 0.0
    frame.loc[[5, frame.index[frame["arm"] != frame["arm"].iloc[5]][0]], "alone"] = 1.0
    monkeypatch.setattr(causal.rows, "_IN_ENGINE_FROM", 0)
    monkeypatch.setattr(causal.engine_rows, "_MANY_GROUPS", 0)
    with pytest.raises(ValueError, match="leverage 1"):
        ab_test(frame, metric=Mean("watch_s", covariates=["alone"]), arm="arm")


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (LIN, {}),
        (LIN, {"cluster": "village"}),
        (PER, {}),
        (PER, {"cluster": "village", "covariance": "CR0"}),
        (RATIO_LIN, {"cluster": "viewer_id"}),
        (RATIO, {}),
    ],
)
def test_ab_curve_in_the_engine_equals_numpy(monkeypatch, metric, options, cumulative):
    frame = log(120)
    small, large = both_ways(
        monkeypatch,
        lambda: ab_curve(
            frame, metric=metric, arm="arm", by="day", cumulative=cumulative, **options
        ),
    )
    assert small.index == large.index
    np.testing.assert_allclose(large.estimate, small.estimate, **SAME)
    np.testing.assert_allclose(large.cov, small.cov, **SAME)
    assert (small.n_obs, small.n_clusters) == (large.n_obs, large.n_clusters)
    assert small.df == pytest.approx(large.df, rel=1e-9)
    assert small.details.keys() == large.details.keys()


def card(frame):
    return ab_tests(
        frame,
        metrics={
            "watch": Mean("watch_s", per="viewer_id", covariates=["before"]),
            "ctr": ("clicks", "views"),
            "half": Quantile("watch_s", 0.5, role="diagnostic"),
            "crash": Mean("noise", role="guardrail", margin=0.1),
        },
        arm="arm",
        cluster="viewer_id",
        segments=["segment"],
        day="day",
    )


def test_ab_tests_in_the_engine_equals_numpy(monkeypatch):
    frame = log(150)
    small, large = both_ways(monkeypatch, lambda: card(frame))
    for left, right in zip(small.rows, large.rows, strict=True):
        assert_same_effect(left.effect, right.effect)
        assert_same_effect(left.unadjusted, right.unadjusted)
        assert (left.metric, left.treatment, left.verdict) == (
            right.metric,
            right.treatment,
            right.verdict,
        )
    assert small.srm.counts == large.srm.counts
    assert small.srm.by.equals(large.srm.by)
    assert small.warnings == large.warnings
    assert (small.n_units, small.verdict, small.reason) == (
        large.n_units,
        large.verdict,
        large.reason,
    )


def test_srm_test_in_the_engine_equals_numpy(monkeypatch):
    frame = log(150)
    small, large = both_ways(
        monkeypatch, lambda: srm_test(frame, arm="arm", by=["segment", "day"], unit="viewer_id")
    )
    assert small.to_dict() == large.to_dict()


@pytest.mark.parametrize("seven", ["polars", "lazy", "arrow", "duckdb", "ibis", "file", "files"])
def test_ab_tests_take_every_kind_of_table(tmp_path, seven):
    import ibis
    import polars as pl

    frame = log(150)
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    for j in range(3):
        pq.write_table(arrow.slice(j * 300, 300), tmp_path / f"part{j}.parquet")
    pq.write_table(arrow, tmp_path / "whole.parq")
    kinds = {
        "polars": lambda: pl.from_arrow(arrow),
        "lazy": lambda: pl.from_arrow(arrow).lazy(),
        "arrow": lambda: arrow,
        "duckdb": lambda: duckdb.connect().from_arrow(arrow),
        "ibis": lambda: ibis.memtable(arrow),
        "file": lambda: tmp_path / "whole.parq",
        "files": lambda: str(tmp_path / "*.parquet"),
    }
    plain, other = card(frame), card(kinds[seven]())
    for left, right in zip(plain.rows, other.rows, strict=True):
        assert_same_effect(left.effect, right.effect)
    assert plain.n_units == other.n_units


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_ab_tests_finds_what_is_not_finite_in_sums_over_units(tmp_path, value):
    # per-unit sums stand in for a scan of their own; what they show must be traced to its rows
    table = log().assign(arm=lambda t: np.where(t["arm"] == 1, "B", "A"))
    table.loc[[5, 9], "watch_s"] = value
    table.to_parquet(tmp_path / "log.parquet")
    read = {"metrics": {"y": Mean("watch_s", per="viewer_id")}, "arm": "arm", "control": "A"}
    if math.isinf(value):
        with pytest.raises(
            ValueError, match=r"'watch_s' must be finite; 2 rows are not, e.g. rows 5, 9"
        ):
            ab_tests(tmp_path / "log.parquet", **read)
        return
    with pytest.warns(EstimationWarning, match=r"'watch_s' \(2 rows\)"):
        ours = ab_tests(tmp_path / "log.parquet", **read)
    with pytest.warns(EstimationWarning, match=r"'watch_s' \(2 rows\)"):
        memory = ab_tests(table, **read)
    assert ours.rows[0].effect.estimate == pytest.approx(memory.rows[0].effect.estimate, rel=1e-12)
