"""`fixed_effects`: pyfixest's numbers, any kind of table, what it refuses and warns of."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from causal import Effect, EstimationWarning, diff_in_diff, few_cluster_test, fixed_effects

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "fixed_effects.json").read_text(encoding="utf-8")
)
COLUMNS = {"outcome": "outcome", "treatment": "treatment"}
CROSSED = {**COLUMNS, "absorb": ["viewer", "author"]}


def log():
    return pd.DataFrame(REFERENCE["data"])


def many(n=600):
    """Forty viewers and nine authors, every pair several times; no warning is due."""
    rng = np.random.default_rng(7)
    viewer, author = np.arange(n) % 40, rng.integers(0, 9, n)
    arm = rng.integers(0, 2, n)
    watch = 1.5 * arm + viewer + author + rng.normal(size=n)
    return pd.DataFrame({"viewer": viewer, "author": author, "treatment": arm, "outcome": watch})


# ---- reference ----


@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE["cases"])
@pytest.mark.filterwarnings("ignore:.* clusters.*few_cluster_test")
def test_fixed_effects_equals_pyfixest(name):
    case = REFERENCE["cases"][name]
    cluster = case["cluster"]
    found = fixed_effects(
        log(),
        **COLUMNS,
        absorb=case["absorb"],
        covariates=case["covariates"],
        weight=case["weight"],
        cluster=cluster if cluster is None or len(cluster) == 2 else cluster[0],
    )
    assert found.n_obs == case["n_obs"]
    np.testing.assert_allclose(found.estimate, case["estimate"], rtol=1e-9)
    np.testing.assert_allclose(found.std_error, case["std_error"], rtol=1e-9)
    np.testing.assert_allclose(found.p_value, case["p_value"], rtol=1e-6)


# ---- one convention ----


@pytest.mark.parametrize("gaps", [0.0, 0.2])
@pytest.mark.parametrize("cluster", ["unit", "city"])
def test_all_panel_regressions_share_one_convention(gaps, cluster):
    """The same regression by three functions: same estimate, error, k and degrees of freedom."""
    rng = np.random.default_rng(9)
    unit, time = (at.ravel() for at in np.indices((80, 6)))
    city = unit % 40
    live = (city < 15).astype(int)
    frame = pd.DataFrame({"unit": unit, "time": time, "city": city, "live": live})
    frame["treatment"] = live * (time >= 3)
    frame["outcome"] = rng.normal(size=40)[city] * (time + 1) + rng.normal(size=480)
    frame = frame[rng.random(480) >= gaps]
    by_absorption = fixed_effects(frame, **COLUMNS, absorb=["unit", "time"], cluster=cluster)
    said = {"outcome": "outcome", "unit": "unit", "time": "time", "cluster": cluster}
    by_moments = diff_in_diff(frame, **said, treatment="live", start=3)
    by_sums = few_cluster_test(frame, **said, treatment="live", start=3, n_draws=99).effect
    for other in (by_moments, by_sums):
        np.testing.assert_allclose(other.estimate, by_absorption.estimate, rtol=1e-9)
        np.testing.assert_allclose(other.std_error, by_absorption.std_error, rtol=1e-9)
        for name in ("covariance", "k", "n_clusters", "df", "singletons_dropped"):
            assert other.details[name] == by_absorption.details[name]


# ---- property ----


def test_fixed_effects_is_the_same_for_every_kind_of_table(tmp_path):
    frame = many()
    frame["viewer"] = "v" + frame["viewer"].astype(str)
    path = tmp_path / "log.parquet"
    frame.to_parquet(path)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    relation = duckdb.connect().from_arrow(table)
    expected = fixed_effects(frame, **CROSSED, cluster="viewer")
    for other in (pl.from_pandas(frame), pl.from_pandas(frame).lazy(), table, relation, path):
        found = fixed_effects(other, **CROSSED, cluster="viewer")
        np.testing.assert_allclose(found.estimate, expected.estimate, rtol=1e-9)
        np.testing.assert_allclose(found.std_error, expected.std_error, rtol=1e-9)


def test_fixed_effects_ignores_order_labels_and_levels_of_the_effects():
    frame = many()
    expected = fixed_effects(frame, **CROSSED, cluster="viewer")
    moved = frame.sample(frac=1, random_state=3).reset_index(drop=True)
    moved["outcome"] += 100 * np.sin(moved["viewer"]) + moved["author"] ** 2 + 1e6
    moved["viewer"] = 10_000 - 17 * moved["viewer"]
    found = fixed_effects(moved, **CROSSED, cluster="viewer")
    np.testing.assert_allclose(found.estimate, expected.estimate, rtol=1e-8)
    np.testing.assert_allclose(found.std_error, expected.std_error, rtol=1e-8)


def test_fixed_effects_scales_with_outcome_and_treatment():
    frame = many()
    expected = fixed_effects(frame, **CROSSED)
    found = fixed_effects(
        frame.assign(outcome=-4 * frame["outcome"], treatment=frame["treatment"] / 2), **CROSSED
    )
    np.testing.assert_allclose(found.estimate, -8 * expected.estimate, rtol=1e-12)
    np.testing.assert_allclose(found.std_error, 8 * expected.std_error, rtol=1e-12)


def test_rows_of_weight_zero_count_for_nothing():
    frame = many().assign(weight=1.0)
    extra = frame.head(50).assign(outcome=1e6, weight=0.0)
    found = fixed_effects(pd.concat([frame, extra]), **CROSSED, weight="weight")
    expected = fixed_effects(frame, **CROSSED)
    assert found.n_obs == expected.n_obs
    np.testing.assert_allclose(found.estimate, expected.estimate, rtol=1e-10)
    np.testing.assert_allclose(found.std_error, expected.std_error, rtol=1e-10)


def test_details_count_components_and_singletons():
    frame = many()
    apart = frame.assign(viewer=frame["viewer"] + 100, author=frame["author"] + 100).head(200)
    alone = frame.head(1).assign(viewer=999)
    found = fixed_effects(pd.concat([frame, apart, alone]), **CROSSED)
    details = found.details
    assert details["n_components"] == 2
    assert details["singletons_dropped"] == 1
    assert details["n_levels"] == (80, 18)
    assert details["largest_component_share"] == pytest.approx(600 / 800)
    assert details["k"] == 1 + 80 + 18 - 2
    assert found.n_obs == 800
    assert found.df == 800 - details["k"]
    assert Effect.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_default_errors_take_rows_as_independent():
    found = fixed_effects(many(), **CROSSED)
    assert found.n_clusters is None
    assert str(found.details["covariance"]).startswith("HC1")
    by_viewer = fixed_effects(many(), **CROSSED, cluster="viewer")
    assert str(by_viewer.details["covariance"]).startswith("CR1")
    assert (by_viewer.n_clusters, by_viewer.df) == (40, 39.0)


def test_fixed_effects_recovers_an_effect_that_viewers_confound():
    """Viewers who watch more are treated more: means differ by more than the effect."""
    rng = np.random.default_rng(8)
    estimates = []
    for _ in range(60):
        taste, fame = rng.normal(size=50), rng.normal(size=20)
        viewer, author = rng.integers(0, 50, 800), rng.integers(0, 20, 800)
        arm = (taste[viewer] + fame[author] + rng.normal(size=800) > 0).astype(int)
        watch = 1 * arm + 3 * taste[viewer] + 2 * fame[author] + rng.normal(size=800)
        frame = pd.DataFrame(
            {"viewer": viewer, "author": author, "treatment": arm, "outcome": watch}
        )
        estimates.append(fixed_effects(frame, **CROSSED).estimate)
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - 1) < 3 * error


# ---- what is refused, and what warns ----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"absorb": []}, "absorb must name at least one column"),
        ({"absorb": ["viewer", "viewer"]}, "'viewer' is named twice in absorb"),
        ({"absorb": ["viewr"]}, "did you mean 'viewer'"),
        ({"covariates": ["outcome"]}, "cannot be both outcome and covariates"),
        ({"covariates": ["day", "day"]}, "named twice"),
        ({"cluster": ("viewer", "viewer")}, "one column or two different ones"),
        ({"cluster": ("viewer", "author", "day")}, "one column or two different ones"),
        ({"tolerance": 0}, "tolerance must be between"),
        ({"max_iterations": 0}, "max_iterations must be a whole number"),
        ({"covariates": ["city"]}, r"covariate 'city' does not: leave it out"),
        ({"treatment": "city"}, r"treatment 'city' does not: leave it out"),
        ({"covariates": ["twice"]}, r"covariate 'twice' is: leave it out"),
        ({"weight": "negative"}, r"weight 'negative' must be >= 0"),
        ({"cluster": "same"}, "at least 2 clusters"),
    ],
)
def test_bad_input_is_named(given, message):
    frame = log().assign(negative=-1.0, same=1)
    frame["twice"] = 2 * frame["treatment"] + frame["author"]
    with pytest.raises(ValueError, match=message):
        fixed_effects(frame, **{**CROSSED, **given})


def test_absorb_takes_a_list():
    with pytest.raises(TypeError, match="absorb must be a list of column names"):
        fixed_effects(log(), **COLUMNS, absorb="viewer")


def test_rows_that_are_all_alone_raise():
    frame = many(20).assign(viewer=np.arange(20))
    with pytest.raises(ValueError, match="none is left"):
        fixed_effects(frame, **CROSSED)


def test_few_clusters_and_constant_outcomes_warn():
    with pytest.warns(EstimationWarning, match="12 clusters: .*few_cluster_test"):
        fixed_effects(log(), **CROSSED, cluster="city")
    with pytest.warns(EstimationWarning, match="'outcome' does not vary within"):
        found = fixed_effects(many().assign(outcome=3.7), **CROSSED)
    assert found.estimate == pytest.approx(0, abs=1e-12)
