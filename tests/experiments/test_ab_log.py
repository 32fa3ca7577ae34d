"""What an A/B read-out makes of its log: arms, units, missing values, and what it warns of."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from ab_tables import log, users, with_gaps
from scipy import stats

from causal.effect import EstimationWarning
from experiments import Mean, Quantile, Ratio, ab_test, ab_tests

FEW = pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")


# ---------------------------------------------------------------- arms and units

ARMS = {
    "0/1": lambda a: a,
    "bool": lambda a: a.astype(bool),
    "float": lambda a: a.astype(float),
    "categorical 0/1": lambda a: a.astype("category"),
    "nullable": lambda a: a.astype("Int8"),
}
NAMED_ARMS = {
    "text": (lambda a: a.map({0: "old", 1: "new"}), "old", "new"),
    "categorical": (lambda a: a.map({0: "old", 1: "new"}).astype("category"), "old", "new"),
    "numbers": (lambda a: a.map({0: 17, 1: 4}), 17, 4),
    "reversed": (lambda a: 1 - a, 1, 0),
}


@pytest.mark.parametrize("kind", ARMS)
def test_ab_test_zero_one_arms_need_no_control(kind):
    frame = users(60)
    effect = ab_test(frame.assign(arm=ARMS[kind](frame["arm"])), metric="y", arm="arm")
    plain = ab_test(frame, metric="y", arm="arm")
    assert (effect.estimate, effect.std_error) == (plain.estimate, plain.std_error)


@pytest.mark.parametrize("kind", NAMED_ARMS)
def test_ab_test_other_arms_need_control(kind):
    frame = users(60)
    make, control, treatment = NAMED_ARMS[kind]
    named = frame.assign(arm=make(frame["arm"]))
    plain = ab_test(frame, metric="y", arm="arm")
    effect = ab_test(named, metric="y", arm="arm", control=control)
    assert effect.estimate == pytest.approx(plain.estimate, rel=1e-12)
    assert (effect.details["control"], effect.details["treatment"]) == (control, treatment)
    if kind != "reversed":
        with pytest.raises(ValueError, match="pass control="):
            ab_test(named, metric="y", arm="arm")


def test_ab_test_of_three_arms_needs_both_names_and_reads_only_these():
    frame = users(120)
    three = frame.assign(arm=np.array(["A", "B", "C"])[np.arange(120) % 3])
    metrics = [
        Mean("y"),
        Mean("y", winsor=(0.1, 0.9), covariates=["x"]),
        Ratio("y", "z", covariate_ratio=("x", "w")),
    ]
    for treatment, metric in itertools.product(("B", "C"), metrics):
        effect = ab_test(three, metric=metric, arm="arm", control="A", treatment=treatment)
        pair = three[three["arm"].isin(["A", treatment])]
        two = ab_test(pair, metric=metric, arm="arm", control="A")
        ours = (effect.estimate, effect.std_error)
        assert ours == pytest.approx((two.estimate, two.std_error), rel=1e-12)
        card = ab_tests(three, metrics=[metric], arm="arm", control="A")
        (row,) = [r for r in card.rows if r.treatment == treatment]
        assert row.effect.estimate == pytest.approx(effect.estimate, rel=1e-12)
    with pytest.raises(ValueError, match="more than two arms"):
        ab_test(three, metric="y", arm="arm", control="A")
    with pytest.raises(ValueError, match="pass control="):
        ab_test(three, metric="y", arm="arm")


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        (lambda n: np.zeros(n, int), {}, "at least two levels"),
        (lambda n: np.linspace(0, 1, n), {}, "a dose is no arm"),
        (lambda n: np.arange(n), {"control": 0}, "a dose is no arm"),
        (lambda n: np.arange(n) % 2, {"control": "A"}, "'A' is not among the arms"),
        (lambda n: np.arange(n) % 2, {"treatment": 5}, "5 is not among the arms"),
        (lambda n: np.arange(n) % 2, {"control": 1, "treatment": 1}, "must differ"),
        (lambda n: (np.arange(n) == 3).astype(int), {}, "at least 2 records; it has 1"),
    ],
)
def test_ab_test_refuses_arms_that_cannot_be_compared(arms, options, message):
    frame = users(60)
    with pytest.raises(ValueError, match=message):
        ab_test(frame.assign(arm=arms(60)), metric="y", arm="arm", **options)


def test_ab_test_unit_claims_one_row_a_unit():
    frame = users(60)
    assert ab_test(frame, metric="y", arm="arm", unit="viewer_id").details["counted"] == "viewers"
    twice = pd.concat([frame, frame.iloc[[4]]])
    with pytest.raises(ValueError, match=r"1 units repeat, e\.g\. 4; sum rows with per="):
        ab_test(twice, metric="y", arm="arm", unit="viewer_id")
    crossing = pd.concat([frame, frame.iloc[:7].assign(arm=1 - frame["arm"].iloc[:7])])
    with pytest.raises(ValueError, match=r"7 units repeat, 7 of them in both arms, e\.g\. 0, 1"):
        ab_test(crossing, metric="y", arm="arm", unit="viewer_id")


@FEW
@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("watch_s", {"cluster": "viewer_id"}),
        (Mean("watch_s", per="viewer_id"), {}),
        (Mean("watch_s", per="viewer_id"), {"cluster": "village"}),
        (Ratio("clicks", "views"), {"cluster": "viewer_id"}),
    ],
)
def test_ab_test_unit_is_in_one_arm_also_where_its_rows_repeat(metric, options):
    frame = log()
    effect = ab_test(frame, metric=metric, arm="arm", unit="viewer_id", **options)
    same_without = ab_test(frame, metric=metric, arm="arm", **options)
    assert effect.std_error == pytest.approx(same_without.std_error, rel=1e-12)
    crossing = pd.concat([frame, frame.iloc[:1].assign(arm=1 - frame["arm"].iloc[:1])])
    with pytest.raises(ValueError, match=r"unit 'viewer_id' must be in one arm; 1 units .* e.g. 0"):
        ab_test(crossing, metric=metric, arm="arm", unit="viewer_id", **options)


@FEW
def test_ab_test_counts_what_it_averages_over():
    frame = log()
    clustered = {"arm": "arm", "unit": "viewer_id", "cluster": "viewer_id"}
    rows = ab_test(frame, metric="watch_s", **clustered)
    assert (rows.n_obs, rows.details["counted"]) == (len(frame), "rows")
    crossing = log(crossing=True)
    ratio = ab_test(crossing, metric=Ratio("clicks", "views"), arm="arm", cluster="village")
    assert (ratio.n_obs, ratio.n_clusters, ratio.details["counted"]) == (
        24,
        24,
        "values of village",
    )


@FEW
def test_ab_test_per_must_lie_within_one_cluster():
    with pytest.raises(ValueError, match=r"'viewer_id'.*'day'"):
        ab_test(log(), metric=Mean("watch_s", per="viewer_id"), arm="arm", cluster="day")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance": "CR1"}, "needs cluster="),
        ({"covariance": "HC2", "cluster": "village"}, "ignores the clusters"),
        ({"covariance": "HC4"}, "covariance must be one of"),
        ({"adjustment": "ancova"}, "adjustment must be one of"),
        ({"missing": "fill"}, "missing must be one of"),
    ],
)
def test_ab_test_refuses_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        ab_test(log(), metric="watch_s", arm="arm", **options)


@pytest.mark.parametrize(
    "metric", [Mean("watch_s", per="viewer_id"), Ratio("clicks", "views"), Quantile("watch_s", 0.5)]
)
def test_ab_test_refuses_weights_where_rows_are_summed_or_ranked(metric):
    with pytest.raises(ValueError, match="weight"):
        ab_test(log(), metric=metric, arm="arm", weight="weight")


def test_ab_test_rows_of_weight_zero_are_as_if_absent():
    frame = users(80)
    frame.loc[frame.index % 4 < 2, "w"] = 0.0
    effect = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm", weight="w")
    direct = ab_test(
        frame[frame["w"] > 0], metric=Mean("y", covariates=["x"]), arm="arm", weight="w"
    )
    for name in ("estimate", "std_error", "df", "n_obs"):
        assert getattr(effect, name) == pytest.approx(getattr(direct, name), rel=1e-12)


# ---------------------------------------------------------------- what warns, once, with figures


def warned(call):
    """Messages of the EstimationWarnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(w.category, EstimationWarning) for w in caught)
    return [str(w.message) for w in caught]


def test_ab_test_warns_of_missing_rows_with_shares_and_a_test():
    frame = users(400)
    frame.loc[frame.index[:30], "y"] = np.nan
    frame.loc[(frame["arm"] == 1) & (frame.index >= 300), "x"] = np.nan
    metric = Mean("y", covariates=["x"])
    (said,) = warned(lambda: ab_test(frame, metric=metric, arm="arm"))
    n = frame.groupby("arm").size()
    gone = frame.assign(gone=frame[["y", "x"]].isna().any(axis=1)).groupby("arm")["gone"].sum()
    table = np.array([gone, n - gone])
    p = stats.chi2_contingency(table, correction=False).pvalue
    for part in ("'y' (30 rows)", f"0: {100 * gone[0] / n[0]:.2g}%", f"p = {p:.3g}", "biased"):
        assert part in said
    with pytest.warns(EstimationWarning, match="left out"):
        effect = ab_test(frame, metric=metric, arm="arm")
    kept = ab_test(frame.dropna(), metric=metric, arm="arm")
    assert (effect.estimate, effect.std_error) == (kept.estimate, kept.std_error)


def test_ab_test_missing_values_of_a_third_arm_are_no_concern():
    frame = users(90)
    three = frame.assign(arm=np.array(["A", "B", "C"])[np.arange(90) % 3])
    three.loc[three["arm"] == "C", "y"] = np.nan
    effect = ab_test(three, metric="y", arm="arm", control="A", treatment="B", missing="raise")
    assert effect.n_obs == 60


@pytest.mark.filterwarnings("ignore:rows with missing:causal.effect.EstimationWarning")
@pytest.mark.parametrize(
    "metric", [Mean("y"), Mean("y", winsor=(0, 0.9)), Quantile("y", 0.5), Ratio("y", "z")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_ab_test_names_the_arm_whose_outcome_is_wholly_missing(metric, whole):
    frame = users(90)
    frame.loc[np.ones(90, bool) if whole else frame["arm"] == 0, "y"] = np.nan
    with pytest.raises(ValueError, match="arm 0 needs at least 2 records; it has 0"):
        ab_test(frame, metric=metric, arm="arm")


@pytest.mark.parametrize(("scale", "name"), [(1e-200, "y"), (1e200, "y"), (1e200, "x")])
def test_ab_test_names_the_column_whose_squares_leave_a_double(scale, name):
    frame = users(90)
    frame[name] *= scale
    with pytest.raises(ValueError, match=f"column '{name}' must have squares within a double"):
        ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm")


def test_ab_test_missing_raise_refuses_and_names():
    frame = with_gaps(users(200), ["y", "x"])
    with pytest.raises(ValueError, match=r"'y' \(\d+ rows\), 'x' \(\d+ rows\)"):
        ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm", missing="raise")


def test_ab_test_missing_column_of_no_metric_is_no_concern():
    frame = users(100).assign(x=np.nan)
    assert warned(lambda: ab_test(frame, metric="y", arm="arm", missing="raise")) == []


def test_ab_test_warns_of_a_constant_outcome():
    frame = users(50).assign(y=7.0)
    (said,) = warned(lambda: ab_test(frame, metric="y", arm="arm"))
    assert "'y' is constant" in said
    with pytest.warns(EstimationWarning):
        effect = ab_test(frame, metric="y", arm="arm")
    assert (effect.estimate, effect.std_error, effect.baseline) == (0.0, 0.0, 7.0)


def test_ab_test_leaves_constant_and_collinear_covariates_out_by_name():
    frame = users(80).assign(flat=3.0, double=lambda f: 2 * f["x"] - 5)
    metric = Mean("y", covariates=["x", "flat", "double", "z"])
    (said,) = warned(lambda: ab_test(frame, metric=metric, arm="arm"))
    assert said.endswith("flat, double")
    with pytest.warns(EstimationWarning):
        effect = ab_test(frame, metric=metric, arm="arm")
    direct = ab_test(frame, metric=Mean("y", covariates=["x", "z"]), arm="arm")
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
    assert list(effect.details["covariates"]) == ["x", "z"]


def test_ab_test_refuses_a_covariate_that_is_the_arm_and_too_many():
    frame = users(60).assign(copy=lambda f: 2.0 * f["arm"] + 1)
    with pytest.raises(ValueError, match=r"'copy'.*is the arm itself"):
        ab_test(frame, metric=Mean("y", covariates=["copy"]), arm="arm")
    wide = users(12).assign(**{f"c{j}": np.random.default_rng(j).normal(size=12) for j in range(6)})
    with pytest.raises(ValueError, match=r"covariates.*the smallest has 6"):
        ab_test(wide, metric=Mean("y", covariates=[f"c{j}" for j in range(6)]), arm="arm")


def test_ab_test_warnings_point_at_the_callers_line():
    frame = users(50).assign(y=7.0, touched=1)
    for call in (
        lambda: ab_test(frame, metric="y", arm="arm"),
        lambda: ab_test(with_gaps(users(100), ["y"]), metric="y", arm="arm"),
        lambda: ab_test(log(), metric="watch_s", arm="arm", cluster="village"),
    ):
        with pytest.warns(EstimationWarning) as caught:
            call()
        assert {w.filename for w in caught} == {__file__}


def test_ab_test_warns_of_few_clusters():
    said = warned(lambda: ab_test(log(), metric="watch_s", arm="arm", cluster="village"))
    assert any("few clusters of 'village': 12 in control, 12 in treatment" in s for s in said)


@pytest.mark.parametrize("kind", ["CR1", "CR2"])
def test_ab_test_warns_of_one_cluster_that_carries_the_variance(kind):
    frame = log(seed=4)
    big = frame[frame["viewer_id"] < 140].copy()
    big.loc[big["viewer_id"] == 3, "watch_s"] += 400
    said = warned(
        lambda: ab_test(big, metric="watch_s", arm="arm", cluster="viewer_id", covariance=kind)
    )
    assert len(said) == 1
    share = int(said[0].split("carries ")[1].split(" %")[0])
    assert 50 < share <= 100
    assert "'viewer_id'" in said[0]


def test_ab_test_warns_of_a_control_level_near_zero():
    frame = users(80).assign(y=lambda f: f["y"] - f.loc[f["arm"] == 0, "y"].mean() + 0.01)
    (said,) = warned(lambda: ab_test(frame, metric="y", arm="arm"))
    assert "control level 0.01 is not distinguishable from 0" in said


def test_ab_test_leverage_of_one_raises_or_is_left_to_hc1():
    frame = users(60)
    frame["alone"] = (frame.index == 5).astype(float)
    frame.loc[frame.index[frame["arm"] != frame["arm"].iloc[5]][0], "alone"] = 1.0
    with pytest.raises(ValueError, match="leverage 1"):
        ab_test(frame, metric=Mean("y", covariates=["alone"]), arm="arm")
    assert (
        ab_test(
            frame, metric=Mean("y", covariates=["alone"]), arm="arm", covariance="HC1"
        ).std_error
        > 0
    )


@pytest.mark.parametrize("kind", ["memory", "parquet"])
def test_ab_test_finds_infinity_also_beside_a_gap(kind, tmp_path):
    frame = users(400)
    frame["x"] = frame["x"].where(frame.index != 7)
    frame["y"] = frame["y"].where(frame.index != 7, np.inf)
    table = frame
    if kind == "parquet":
        table = tmp_path / "log.parquet"
        frame.to_parquet(table)
    metric = Mean("y", per="viewer_id", covariates=["x"])
    with pytest.raises(ValueError, match="column 'y' must be finite; 1 row is not"):
        ab_test(table, metric=metric, arm="arm")


@pytest.mark.filterwarnings("ignore:.*(control level|one cluster):causal.effect.EstimationWarning")
def test_ab_test_judges_missing_values_by_clusters():
    rng = np.random.default_rng(2)
    warned = 0
    for _ in range(60):
        size = rng.integers(5, 40, 200)
        viewer = np.repeat(np.arange(200), size)
        new = rng.random(200) < 0.2  # new viewers have no past
        frame = pd.DataFrame(
            {
                "v": viewer,
                "arm": rng.permutation(np.arange(200) % 2)[viewer],
                "y": rng.normal(size=len(viewer)),
                "x": np.where(new[viewer], np.nan, rng.normal(size=200)[viewer]),
            }
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EstimationWarning)
            metric = Mean("y", per="v", covariates=["x"])
            ab_test(frame, metric=metric, arm="arm", cluster="v")
        warned += any("missingness differs" in str(w.message) for w in caught)
    assert warned <= 4  # 1 % of tests
    frame.loc[(frame["arm"] == 1) & (frame["v"] % 3 > 0), "x"] = np.nan
    with pytest.warns(EstimationWarning, match="missingness differs by arm"):
        ab_test(frame, metric=metric, arm="arm", cluster="v")


@pytest.mark.filterwarnings("ignore:.*(control level|one cluster):causal.effect.EstimationWarning")
def test_ab_test_sees_missingness_that_differs_within_clusters_in_both_arms():
    rng = np.random.default_rng(0)
    room = np.repeat(np.arange(40), 200)
    arm = rng.integers(0, 2, len(room))
    gone = rng.random(len(room)) < np.where(room % 2, 0.05, 0.6) + 0.06 * arm
    y = np.where(gone, np.nan, rng.normal(5, 1, len(room)))
    frame = pd.DataFrame({"room": room, "arm": arm, "y": y})
    with pytest.warns(EstimationWarning, match="missingness differs by arm"):
        ab_test(frame, metric="y", arm="arm", cluster="room")
