"""Effects by segment and by day, with the covariance that shared clusters bring."""

import numpy as np
import pandas as pd
import pytest
from ab_tables import log, users, with_gaps

from causal.effect import EstimationWarning
from experiments import Mean, Quantile, Ratio, ab_curve, ab_test

FEW = pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")
LIN = Mean("watch_s", covariates=["before"])


def cells_of(frame, by):
    return dict(iter(frame.groupby(by, sort=True)))


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (LIN, {}),
        (LIN, {"adjustment": "cuped", "covariance": "HC3"}),
        (LIN, {"weight": "weight"}),
        (Ratio("clicks", "views", covariates=["before"]), {"cluster": "viewer_id"}),
        (Mean("watch_s", per="viewer_id"), {}),
    ],
)
def test_ab_curve_of_segments_of_viewers_is_a_test_in_each(metric, options):
    frame = log()
    curve = ab_curve(frame, metric=metric, arm="arm", by="segment", **options)
    assert curve.index == ("new", "old")
    for label, part in cells_of(frame, "segment").items():
        effect = ab_test(part, metric=metric, arm="arm", **options)
        found = curve.at(label)
        if options.get("adjustment") != "cuped":  # theta is that of the whole
            assert found.estimate == pytest.approx(effect.estimate, rel=1e-10)
            assert found.std_error == pytest.approx(effect.std_error, rel=1e-10)
    assert curve.cov[0, 1] == pytest.approx(0, abs=1e-15)
    assert len(curve.details["baseline"]) == 2


@FEW
def test_ab_curve_reads_every_cell_at_its_own_degrees_of_freedom():
    frame = users(200).assign(segment=np.where(np.arange(200) < 9, "few", "many"))
    curve = ab_curve(frame, metric="y", arm="arm", by="segment")
    for label, part in cells_of(frame, "segment").items():
        effect = ab_test(part, metric="y", arm="arm")
        assert curve.at(label).df == pytest.approx(effect.df, rel=1e-9)
        assert curve.at(label).conf_int() == pytest.approx(effect.conf_int(), rel=1e-9)
    assert curve.df[0] < 8 < 150 < curve.df[1]


def test_ab_curve_with_clusters_in_several_cells_has_their_covariance():
    frame = log(crossing=True)
    curve = ab_curve(frame, metric="watch_s", arm="arm", by="day", cluster="viewer_id",
                     covariance="CR0")  # fmt: skip
    psi = np.zeros((4, 240))
    for j, (_, part) in enumerate(cells_of(frame, "day").items()):
        for a, sign in ((0, -1), (1, 1)):
            mine = part[part["arm"] == a]
            e = sign * (mine["watch_s"] - mine["watch_s"].mean()) / len(mine)
            np.add.at(psi[j], mine["viewer_id"], e)
    np.testing.assert_allclose(curve.cov, psi @ psi.T, rtol=1e-10, atol=1e-15)
    assert abs(curve.cov[0, 1]) > 0
    assert curve.n_clusters == 240


@FEW
def test_ab_curve_cr1_of_a_cell_is_the_clustered_test_of_that_cell():
    frame = log()
    curve = ab_curve(frame, metric=LIN, arm="arm", by="day", cluster="village")
    for label, part in cells_of(frame, "day").items():
        effect = ab_test(part, metric=LIN, arm="arm", cluster="village", covariance="CR1")
        assert curve.at(label).estimate == pytest.approx(effect.estimate, rel=1e-10)
        assert curve.at(label).std_error == pytest.approx(effect.std_error, rel=1e-10)
    assert curve.df == (23.0,) * 4


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (LIN, {}),
        (Mean("watch_s", per="viewer_id", covariates=["before"]), {}),
        (Ratio("clicks", "views"), {"cluster": "viewer_id"}),
        (LIN, {"cluster": "viewer_id", "covariance": "CR1"}),
        (LIN, {"adjustment": "cuped"}),
    ],
)
def test_ab_curve_cumulative_holds_everything_up_to_each_day(metric, options):
    frame = log()
    curve = ab_curve(frame, metric=metric, arm="arm", by="day", cumulative=True, **options)
    assert curve.index == (1, 2, 3, 4)
    for day in curve.index:
        part = frame[frame["day"] <= day]
        effect = ab_test(part, metric=metric, arm="arm", **options)
        assert curve.at(day).estimate == pytest.approx(effect.estimate, rel=1e-10)
        assert curve.at(day).std_error == pytest.approx(effect.std_error, rel=1e-9)
    assert "cumulative" in curve.method
    correlation = curve.cov / np.outer(curve.std_error, curve.std_error)
    assert correlation[2, 3] > correlation[0, 3] > 0


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (Mean("watch_s", winsor=(0.05, 0.9)), {}),
        (Mean("watch_s", per="viewer_id", covariates=["before"], winsor=(0.05, 0.9)), {}),
        (Ratio("clicks", "views", covariate_ratio=("clicks0", "views0")), {"cluster": "viewer_id"}),
    ],
)
def test_ab_curve_cumulative_ends_in_the_whole_with_its_limits(metric, options):
    frame = log()
    curve = ab_curve(frame, metric=metric, arm="arm", by="day", cumulative=True, **options)
    effect = ab_test(frame, metric=metric, arm="arm", **options)
    assert curve.at(4).estimate == pytest.approx(effect.estimate, rel=1e-10)
    assert curve.at(4).std_error == pytest.approx(effect.std_error, rel=1e-9)
    assert curve.details.get("winsor") == effect.details.get("winsor")


@pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")
@pytest.mark.parametrize("options", [{}, {"cumulative": True}, {"cluster": "viewer_id"}])
def test_ab_curve_of_one_cell_is_the_test_of_it(options):
    frame = log().assign(day=1)
    curve = ab_curve(frame, metric="watch_s", arm="arm", by="day", **options)
    plain = {k: v for k, v in options.items() if k != "cumulative"}
    effect = ab_test(frame, metric="watch_s", arm="arm", **plain)
    assert curve.at(1).estimate == pytest.approx(effect.estimate, rel=1e-10)
    assert curve.at(1).conf_int() == pytest.approx(effect.conf_int(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")
@pytest.mark.parametrize("metric", [Mean("y"), Mean("y", per="viewer_id")])
@pytest.mark.parametrize("cumulative", [True, False])
def test_ab_curve_has_welchs_df_wherever_records_are_independent(metric, cumulative):
    frame = users(300)
    frame["arm"] = (np.arange(300) >= 12).astype(int)
    frame["day"] = 1 + np.arange(300) % 2
    curve = ab_curve(frame, metric=metric, by="day", arm="arm", cumulative=cumulative)
    part = frame if cumulative else frame[frame["day"] == 2]
    effect = ab_test(part, metric=metric, arm="arm")
    assert curve.at(2).df == pytest.approx(effect.df, rel=1e-8)
    assert curve.at(2).conf_int() == pytest.approx(effect.conf_int(), rel=1e-8)


def test_ab_curve_cuped_fits_a_slope_in_each_cell():
    frame = log()
    curve = ab_curve(frame, metric=LIN, arm="arm", by="day", adjustment="cuped")
    for place, (label, part) in enumerate(cells_of(frame, "day").items()):
        effect = ab_test(part, metric=LIN, arm="arm", adjustment="cuped")
        assert curve.at(label).estimate == pytest.approx(effect.estimate, rel=1e-10)
        assert curve.at(label).std_error == pytest.approx(effect.std_error, rel=1e-10)
        theta = {name: slopes[place] for name, slopes in curve.details["theta"].items()}
        assert theta == pytest.approx(dict(effect.details["theta"]), rel=1e-9)


@pytest.mark.filterwarnings("ignore:rows with missing:causal.effect.EstimationWarning")
def test_ab_curve_of_an_outcome_that_is_wholly_missing_names_the_arm():
    with pytest.raises(ValueError, match="arm 0 needs at least 2 records; it has 0"):
        ab_curve(log().assign(watch_s=np.nan), metric="watch_s", arm="arm", by="day")


def test_ab_curve_average_with_size_weights_reproduces_the_whole():
    rng = np.random.default_rng(0)
    n = 400  # the arms have the same sizes in every cell
    frame = pd.DataFrame({"arm": np.tile([0, 1], n // 2), "cell": np.repeat(list("abcd"), n // 4)})
    frame["y"] = 9 + frame["arm"] + rng.normal(size=n) * (1 + (frame["cell"] == "b"))
    curve = ab_curve(frame, metric="y", arm="arm", by="cell")
    whole = ab_test(frame, metric="y", arm="arm")
    n_by_cell = dict(zip(curve.index, curve.details["n_by_cell"], strict=True))
    assert curve.average(n_by_cell).estimate == pytest.approx(whole.estimate, rel=1e-12)


def test_ab_curve_average_of_additive_parts_is_the_whole_with_its_standard_error():
    # watch time of a viewer is the sum of its days: so are the differences of means, when every
    # viewer has a row each day, and the shared viewers carry the covariance
    rng = np.random.default_rng(2)
    n = 150
    viewer = np.repeat(np.arange(n), 3)
    frame = pd.DataFrame({"viewer_id": viewer, "arm": viewer % 2, "day": np.tile([1, 2, 3], n)})
    frame["watch_s"] = 5 + frame["arm"] + rng.normal(size=n)[viewer] + rng.normal(size=3 * n)
    metric = Mean("watch_s", per="viewer_id")
    curve = ab_curve(frame, metric=metric, arm="arm", by="day")
    whole = ab_test(frame, metric=metric, arm="arm")
    total = curve.average([1 / 3] * 3)
    assert 3 * total.estimate == pytest.approx(whole.estimate, rel=1e-10)
    assert 3 * total.std_error == pytest.approx(whole.std_error, rel=1e-10)


@pytest.mark.parametrize(
    ("make", "index"),
    [
        (lambda d: pd.to_datetime("2026-11-20") + pd.to_timedelta(d, "D"),
         ("2026-11-21 00:00:00", "2026-11-22 00:00:00")),
        (lambda d: (pd.to_datetime("2026-11-20") + pd.to_timedelta(d, "D")).dt.date,
         ("2026-11-21", "2026-11-22")),
        (lambda d: d > 1, (False, True)),
        (lambda d: d.map({1: "wk 1", 2: "wk 2"}).astype("category"), ("wk 1", "wk 2")),
    ],
    ids=["timestamp", "date", "bool", "category"],
)  # fmt: skip
def test_ab_curve_takes_any_kind_of_label(make, index):
    frame = log()
    frame = frame[frame["day"] <= 2]
    plain = ab_curve(frame, metric="watch_s", arm="arm", by="day")
    named = ab_curve(frame.assign(day=make(frame["day"])), metric="watch_s", arm="arm", by="day")
    assert named.index == index
    np.testing.assert_allclose(named.estimate, plain.estimate, rtol=1e-12)
    np.testing.assert_allclose(named.cov, plain.cov, rtol=1e-12)


def test_ab_curve_does_not_depend_on_the_order_of_rows():
    frame = log()
    plain = ab_curve(frame, metric=LIN, arm="arm", by="day", cumulative=True)
    other = ab_curve(
        frame.sample(frac=1, random_state=1), metric=LIN, arm="arm", by="day", cumulative=True
    )
    np.testing.assert_allclose(other.estimate, plain.estimate, rtol=1e-11)
    np.testing.assert_allclose(other.cov, plain.cov, rtol=1e-9, atol=1e-15)


def test_ab_curve_drops_missing_values_with_one_warning():
    frame = with_gaps(log(), ["watch_s", "before"])
    with pytest.warns(EstimationWarning, match="left out") as caught:
        curve = ab_curve(frame, metric=LIN, arm="arm", by="day")
    assert len(caught) == 1
    whole = ab_curve(frame.dropna(), metric=LIN, arm="arm", by="day")
    np.testing.assert_allclose(curve.estimate, whole.estimate, rtol=1e-12)


def test_ab_curve_warns_as_ab_test_does():
    with pytest.warns(EstimationWarning, match="few clusters of 'village': 12 in c") as caught:
        ab_curve(log(), metric="watch_s", arm="arm", by="day", cluster="village")
    assert len(caught) == 1
    with pytest.warns(EstimationWarning, match="'watch_s' is constant"):
        ab_curve(log().assign(watch_s=1.0), metric="watch_s", arm="arm", by="day")


def test_ab_curve_names_the_cell_that_lacks_clusters():
    frame = log()
    frame = frame[(frame["day"] != 3) | (frame["arm"] == 0) | (frame["village"] == 1)]
    with pytest.raises(ValueError, match=r"in cell 3; control and treatment have \(12, 1\)"):
        ab_curve(frame, metric="watch_s", arm="arm", by="day", cluster="village")


def test_ab_curve_names_the_cell_that_lacks_records():
    frame = users(100).assign(day=1)
    frame.loc[frame.index[:2], "day"] = 7
    frame.loc[frame.index[:2], "arm"] = 0
    with pytest.raises(ValueError, match=r"arm 1 in cell 7 needs at least 2 records; it has 0"):
        ab_curve(frame, metric="y", arm="arm", by="day")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": Quantile("watch_s", 0.5)}, "means and ratios"),
        ({"metric": "watch_s", "covariance": "CR2", "cluster": "village"}, "means and ratios"),
        ({"metric": "watch_s", "by": "arm"}, "both arm and by"),
        ({"metric": "day"}, r"both outcome and by|both by and outcome"),
        ({"metric": "watch_s", "by": "dag"}, "did you mean 'day'"),
        ({"metric": "watch_s", "control": 1, "arm": "day", "by": "segment"}, "more than two arms"),
    ],
)
def test_ab_curve_refuses_what_it_cannot_read(options, message):
    with pytest.raises(ValueError, match=message):
        ab_curve(log(), **{"arm": "arm", "by": "day", **options})
