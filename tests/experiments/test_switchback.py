"""Reading a rotation: slices, doors, warnings, refusals, segments and what the result says."""

import json
import warnings

import duckdb
import ibis
import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from rotation_logs import MONDAY, ROLES, hourly

from causal import Effect, EstimationWarning
from experiments import Saturation, Switchback, switchback_effect

mpl.use("Agg")
QUIET = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")
PERIODS = {"outcome": "y", "treatment": "arm", "time": "t"}


def periods(n=120, width=4, seed=0):
    """Slices of whole periods with fair coins."""
    rng = np.random.default_rng(seed)
    arm = np.repeat(rng.permutation(np.arange(n // width) % 2), width)
    return pd.DataFrame({"t": np.arange(1, n + 1), "arm": arm, "y": arm + rng.normal(size=n)})


# ---- one question, several ways to ask it ----


def test_schedule_points_and_lengths_find_the_same_slices():
    plan, log = hourly(coin="independent", min_share=0.0, effect=0.5)
    hours = log.assign(t=np.arange(1, len(log) + 1))
    by_schedule = switchback_effect(log, schedule=plan, inference="conservative", **ROLES)
    by_points = switchback_effect(
        hours, points=range(1, 336, 6), inference="conservative", **PERIODS
    )
    by_length = switchback_effect(log, slice_minutes=360, inference="conservative", **ROLES)
    by_count = switchback_effect(hours, slice_minutes=6, inference="conservative", **PERIODS)
    for other in (by_points, by_length, by_count):
        assert other.estimate == pytest.approx(by_schedule.estimate, rel=1e-12)
        assert other.std_error == pytest.approx(by_schedule.std_error, rel=1e-12)


def test_hajek_is_the_difference_in_means_within_strata():
    plan, log = hourly(effect=0.5)
    found = switchback_effect(log, schedule=plan, inference="conservative", **ROLES)
    log = log.assign(stratum=plan.table["stratum"].to_numpy()[plan.slice_at(log["ts"])])
    means = log.pivot_table(values="y", index="stratum", columns="arm")
    size = log.groupby("stratum").size()
    assert found.estimate == pytest.approx(np.average(means[1] - means[0], weights=size), rel=1e-10)
    assert found.effect.baseline == pytest.approx(np.average(means[0], weights=size), rel=1e-10)


def test_regression_is_hajek_without_carryover():
    plan, log = hourly(effect=0.5)
    one, other = (
        switchback_effect(log, schedule=plan, burn_in=60, method=m, n_draws=199, **ROLES)
        for m in ("hajek", "regression")
    )
    assert one.estimate == other.estimate
    assert one.p_value == other.p_value


def test_carryover_reads_windows_of_one_arm_and_burn_in_drops_starts():
    log = periods(seed=3)
    for name, options in {"carryover": {"carryover": 2}, "burn_in": {"burn_in": 2}}.items():
        found = switchback_effect(log, slice_minutes=4, inference="conservative", adjust=None,
                                  **PERIODS, **options)  # fmt: skip
        arm = log["arm"].to_numpy()
        weight = np.zeros(120)
        for t in range(120):
            late = t % 4 >= 2
            window = arm[max(t - 2, 0) : t + 1]
            alike = window.min() == window.max() and t >= 2
            if name == "burn_in":
                weight[t] = late
            else:
                weight[t] = 0 if not alike else 2 if late else 4
        mean = [np.average(log["y"][arm == a], weights=weight[arm == a]) for a in (0, 1)]
        assert found.estimate == pytest.approx(mean[1] - mean[0], rel=1e-10)
        assert found.effect.n_obs == (weight > 0).sum()


def test_units_with_their_own_coins_have_their_own_slices():
    parts = [periods(seed=s).assign(city=f"c{s}", y=lambda d, s=s: d["y"] + 50 * s) for s in (1, 2)]
    both = pd.concat(parts)
    roles = {**PERIODS, "slice_minutes": 4, "inference": "conservative"}
    found = switchback_effect(both, unit="city", **roles)
    each = [switchback_effect(part, **roles) for part in parts]
    assert found.effect.n_clusters == 60
    assert found.estimate == pytest.approx(np.mean([e.estimate for e in each]), rel=1e-9)
    assert found.slices["unit"].unique().tolist() == ["c1", "c2"]


def test_units_that_share_arms_share_coins():
    log = periods(seed=1)
    both = pd.concat([log.assign(city="a"), log.assign(city="b", y=log["y"] + 9)])
    found = switchback_effect(both, unit="city", slice_minutes=4, **PERIODS)
    alone = switchback_effect(log, slice_minutes=4, **PERIODS)
    assert found.effect.n_clusters == 30
    assert found.p_value == alone.p_value
    assert found.estimate == pytest.approx(alone.estimate, rel=1e-9)


def test_regions_of_a_schedule_are_read_by_unit():
    plan, log = hourly(days=7, regions=("north", "south"), effect=1.0)
    found = switchback_effect(log, unit="region", schedule=plan, **ROLES)
    assert found.effect.n_clusters == 56
    low, high = found.conf_int()
    assert low < 1 < high
    with pytest.raises(ValueError, match="give unit=, the column of the region"):
        switchback_effect(log, schedule=plan, **ROLES)
    with pytest.raises(ValueError, match=r"regions of the schedule, .* it holds \['east'\]"):
        switchback_effect(log.replace("south", "east"), unit="region", schedule=plan, **ROLES)


def test_segments_have_effects_with_a_joint_covariance():
    plan, log = hourly(effect=0.5)
    log["half"] = np.where(np.arange(len(log)) % 2, "odd", "even")
    found = switchback_effect(log, schedule=plan, by="half", **ROLES)
    curve = found.segments
    assert curve.index == ("even", "odd")
    for label in curve.index:
        alone = switchback_effect(
            log[log["half"] == label], schedule=plan, inference="conservative", **ROLES
        )
        assert curve.at(label).estimate == pytest.approx(alone.estimate, rel=1e-9)
        assert curve.at(label).std_error == pytest.approx(alone.std_error, rel=1e-9)
    assert curve.average().std_error == pytest.approx(found.std_error, rel=1e-6)
    assert curve.cov[0, 1] > 0  # neighbouring hours of the same slices
    table = found.segment_table(power=0.5)  # found as often as not: at the critical value
    half = (table["high"] - table["low"]) / 2
    np.testing.assert_allclose(table["mde"], half, rtol=1e-9)
    assert (found.segment_table()["mde"] > table["mde"]).all()
    with pytest.raises(ValueError, match="call switchback_effect with by="):
        switchback_effect(log, schedule=plan, **ROLES).segment_table()
    few = log[(log["half"] == "odd") | (log["ts"] < "2026-03-02 12:00")]
    with pytest.raises(ValueError, match=r"too few slices: .* where 'half' is even"):
        switchback_effect(few, schedule=plan, by="half", **ROLES)


@QUIET
def test_covariates_known_before_make_the_error_smaller():
    plan, log = hourly(effect=0.5, rho=0.0)
    daily = np.random.default_rng(5).normal(0, 3, 14)
    log["y"] += daily[np.arange(len(log)) // 24]
    log["forecast"] = daily[np.arange(len(log)) // 24]
    plain = switchback_effect(log, schedule=plan, **ROLES)
    given = switchback_effect(log, schedule=plan, covariates=["forecast"], **ROLES)
    assert given.std_error < 0.3 * plain.std_error


def test_weights_are_repeated_rows():
    log = periods(seed=2).assign(w=np.random.default_rng(0).integers(1, 4, 120))
    one = switchback_effect(log, slice_minutes=4, weight="w", **PERIODS)
    other = switchback_effect(log.loc[log.index.repeat(log["w"])], slice_minutes=4, **PERIODS)
    assert one.estimate == pytest.approx(other.estimate, rel=1e-10)
    assert one.std_error == pytest.approx(other.std_error, rel=1e-10)
    assert one.p_value == other.p_value


def test_many_rows_of_an_instant_are_its_mean():
    plan, log = hourly(effect=0.5)
    noise = np.random.default_rng(0).normal(size=len(log))
    twice = pd.concat([log.assign(y=log["y"] + noise), log.assign(y=log["y"] - noise)])
    for method in ("hajek", "distributed_lag"):
        one, other = (
            switchback_effect(f, schedule=plan, method=method, n_draws=99, **ROLES)
            for f in (log, twice)
        )
        assert other.estimate == pytest.approx(one.estimate, rel=1e-9)
        assert other.p_value == one.p_value


def test_odd_seconds_fall_into_their_slices():
    plan, _ = hourly(effect=0.5, end_jitter_minutes=20)
    rng = np.random.default_rng(1)
    ts = pd.to_datetime(MONDAY) + pd.to_timedelta(np.sort(rng.uniform(0, 14 * 86400, 5000)), "s")
    events = pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts), "y": rng.normal(size=5000)})
    found = switchback_effect(events, schedule=plan, burn_in=30, **ROLES)
    at = plan.slice_at(ts)
    late = ts - plan.table["start"].iloc[at].to_numpy() >= pd.Timedelta(minutes=30)
    assert found.effect.n_obs == late.sum()
    assert found.slices["n"].tolist() == np.bincount(at[late], minlength=56).tolist()


# ---- kinds of table and of time ----


def arrow(log):
    return pa.Table.from_pandas(log, preserve_index=False)


def parquet(log, folder):
    log.to_parquet(folder / "log.parquet")
    return str(folder / "log.parquet")


INTAKES = {
    "polars": lambda log, _: pl.from_arrow(arrow(log)),
    "polars lazy": lambda log, _: pl.from_arrow(arrow(log)).lazy(),
    "pyarrow": lambda log, _: arrow(log),
    "pandas of arrow": lambda log, _: log.convert_dtypes(dtype_backend="pyarrow"),
    "duckdb": lambda log, _: duckdb.connect().from_arrow(arrow(log)),
    "ibis": lambda log, folder: ibis.duckdb.connect().read_parquet(parquet(log, folder)),
    "parquet": parquet,
}


@pytest.mark.parametrize("kind", INTAKES)
@pytest.mark.parametrize("zone", [None, "Asia/Shanghai"])
def test_every_kind_of_table_gives_the_same_answer(kind, zone, tmp_path):
    start = pd.Timestamp(MONDAY, tz=zone)
    plan = Switchback(360).schedule(start=start, days=7, seed=1)
    ts = pd.date_range(start, periods=168, freq="h", name="ts").as_unit("us")
    log = pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts)})
    log["y"] = np.random.default_rng(0).normal(size=168) + log["arm"]
    table = INTAKES[kind](log, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)
        lengths = {"slice_minutes": 120}  # divides the zone's offset: engines lose the zone
        for slices in ({"schedule": plan}, lengths):
            wanted = switchback_effect(log, burn_in=60, n_draws=99, **ROLES, **slices)
            found = switchback_effect(table, burn_in=60, n_draws=99, **ROLES, **slices)
            assert found.estimate == pytest.approx(wanted.estimate, rel=1e-10)
            assert found.std_error == pytest.approx(wanted.std_error, rel=1e-10)
            assert found.p_value == wanted.p_value
            assert (found.slices["start"] == wanted.slices["start"]).all()


@QUIET
def test_clock_changes_leave_slices_their_length():
    start = pd.Timestamp("2026-03-23", tz="Europe/Berlin")  # clocks go forward on the 29th
    plan = Switchback(360).schedule(start=start, days=10, seed=2)
    ts = pd.date_range(start, periods=240, freq="h")
    log = pd.DataFrame({"ts": ts, "arm": plan.treatment_at(ts)})
    log["y"] = np.random.default_rng(0).normal(size=240)
    found = switchback_effect(log, schedule=plan, **ROLES)
    assert (found.slices["n"] == 6).all()
    assert (found.slices["start"] == plan.table["start"]).all()
    assert found.slices["stratum"].nunique() == plan.table["stratum"].nunique()
    one = switchback_effect(log, slice_minutes=360, **ROLES)
    assert one.slices["start"].iloc[-1] == plan.table["start"].iloc[-1]


def test_slices_of_one_length_begin_at_local_midnight():
    _, log = hourly()
    local = log.assign(ts=log["ts"].dt.tz_localize("Asia/Shanghai"))
    found = switchback_effect(local, slice_minutes=360, **ROLES)
    assert str(found.slices["start"].iloc[0]) == "2026-03-02 00:00:00+08:00"
    assert found.estimate == switchback_effect(log, slice_minutes=360, **ROLES).estimate


@QUIET
def test_dates_are_instants():
    plan, log = hourly(slice_minutes=1440, days=28)
    daily = log.groupby(log["ts"].dt.normalize(), as_index=False)[["y"]].mean()
    daily["day"] = pd.date_range(MONDAY, periods=28)
    daily["arm"] = plan.treatment_at(daily["day"])
    roles = {"outcome": "y", "treatment": "arm", "schedule": plan, "inference": "conservative"}
    wanted = switchback_effect(daily, time="day", **roles)
    dates = daily.assign(day=daily["day"].dt.date)
    for table in (dates, pl.from_pandas(daily).with_columns(pl.col("day").cast(pl.Date))):
        assert switchback_effect(table, time="day", **roles).estimate == wanted.estimate


def test_row_order_and_booleans_do_not_matter():
    plan, log = hourly(effect=0.5)
    wanted = switchback_effect(log, schedule=plan, **ROLES)
    shuffled = log.sample(frac=1, random_state=1).astype({"arm": bool})
    found = switchback_effect(shuffled, schedule=plan, **ROLES)
    assert found.p_value == wanted.p_value
    np.testing.assert_allclose(found.conf_int(), wanted.conf_int(), rtol=1e-9)


# ---- what the result says ----


def test_result_says_what_was_read():
    plan, log = hourly(effect=0.5)
    found = switchback_effect(log, schedule=plan, burn_in=120, **ROLES)
    assert found.effect.n_obs == 14 * 4 * 4
    assert list(found.slices) == [
        "unit", "slice", "start", "end", "arm", "n", "mean", "read", "stratum",
    ]  # fmt: skip
    assert found.slices["arm"].tolist() == plan.table["arm"].tolist()
    assert (found.slices["start"] == plan.table["start"]).all()
    assert (found.slices["n"] == 4).all()
    first = log[(log["ts"] >= "2026-03-02 02:00") & (log["ts"] < "2026-03-02 06:00")]
    assert found.slices["mean"].iloc[0] == pytest.approx(first["y"].mean())
    assert set(found.diagnostics["passed"]) <= {"yes", "no", "not testable"}
    assert set(found.diagnostics["check"]) == {
        "slices_per_arm", "arms_by_hour", "residual_correlation", "coin", "anticipation",
        "share_read", "carryover", "outcome_bound",
    }  # fmt: skip
    low, high = found.conf_int()
    frame = found.to_frame()
    assert frame[["low", "high", "p_value"]].iloc[0].tolist() == [low, high, found.p_value]
    details = found.effect.details
    assert (details["low"], details["high"], details["p_value"]) == (low, high, found.p_value)
    assert Effect.from_dict(json.loads(json.dumps(found.effect.to_dict()))) == found.effect
    assert str(found).startswith("Total +")
    assert "in 56 slices" in str(found)
    assert "adjusted for the design" in found._repr_html_()
    assert found.draws.shape == (999,)
    assert found.relative().estimate == pytest.approx(found.estimate / found.effect.baseline)


def test_plots_show_paths_or_the_effect():
    plan, log = hourly(effect=0.5)
    found = switchback_effect(log, schedule=plan, **ROLES)
    assert "observed, p = " in found.plot().get_legend().get_texts()[0].get_text()
    other = switchback_effect(log, schedule=plan, inference="cluster", **ROLES)
    assert "95% interval" in other.plot().get_xlabel()
    assert other.draws.shape == (0,)
    assert other.p_value == other.effect.p_value


def test_anticipation_before_switches_is_seen():
    plan, log = hourly(days=28, effect=0.0, rho=0.0)
    turn = np.diff(plan.table["arm"], append=plan.table["arm"].iloc[-1])
    late = log["ts"].dt.hour % 6 >= 5
    early = log.assign(y=log["y"] + 2.0 * late * turn[plan.slice_at(log["ts"])])
    verdicts = [
        switchback_effect(f, schedule=plan, **ROLES).diagnostics.set_index("check")["passed"]
        for f in (log, early)
    ]
    assert verdicts[0]["anticipation"] == "yes"
    assert verdicts[1]["anticipation"] == "no"


# ---- warnings, one each with its figure ----


def warned(*parts, log, **options):
    with pytest.warns(EstimationWarning) as caught:
        switchback_effect(log, **options)
    texts = [str(w.message) for w in caught]
    fitting = [t for t in texts if all(p in t for p in parts)]
    assert len(fitting) == 1, texts
    assert all(w.filename == __file__ for w in caught)


def test_few_slices_are_warned_of():
    plan, log = hourly(days=4, slice_minutes=360)
    warned("8 treated and 8 untreated slices", log=log, schedule=plan, **ROLES)


def test_arms_unbalanced_by_hour_are_warned_of():
    ts = pd.date_range(MONDAY, periods=336, freq="h")
    rng = np.random.default_rng(2)
    arm = np.repeat((rng.random(56) < np.tile([0.9, 0.1, 0.5, 0.5], 14)).astype(int), 6)
    log = pd.DataFrame({"ts": ts, "arm": arm, "y": rng.normal(size=336)})
    warned("from the share of the whole", ":00 a share of", log=log, slice_minutes=360, **ROLES)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin"])
def test_arms_are_counted_by_the_local_hour(zone):
    ts = pd.date_range(MONDAY, periods=336, freq="h", tz=zone)
    rng = np.random.default_rng(2)
    arm = np.where(np.arange(336) % 24 // 6 == 3, 1, np.repeat(rng.permutation([0, 1] * 28), 6))
    log = pd.DataFrame({"ts": ts, "arm": arm, "y": rng.normal(size=336)})
    warned("at 18:00 a share of 1.00 is treated", log=log, slice_minutes=360, **ROLES)


def test_checks_that_passed_give_no_advice():
    plan, log = hourly()
    checks = switchback_effect(log, schedule=plan, **ROLES).diagnostics.set_index("check")
    assert checks["passed"]["slices_per_arm"] == "yes"
    assert checks["message"]["slices_per_arm"] == "28 treated and 28 untreated slices are read"
    assert checks["message"]["arms_by_hour"].endswith("from the share of the whole")


def test_correlated_residuals_are_warned_of():
    plan, log = hourly(rho=0.99, profile=0.0)
    warned("neighbouring slices correlate at 0.", log=log, schedule=plan, **ROLES)


def test_alternating_coins_are_warned_of():
    with pytest.warns(EstimationWarning, match="alternating"):
        plan, log = hourly(coin="alternating", profile=0.0)
    roles = {**ROLES, "schedule": plan}
    warned("alternating coins can be foreseen", log=log, inference="cluster", **roles)
    with pytest.raises(ValueError, match="56 slices give at best p = 1: their alternating coins"):
        switchback_effect(log, **roles)


def test_horvitz_thompson_far_from_zero_is_warned_of():
    plan, log = hourly(coin="independent", min_share=0.0)
    roles = {**ROLES, "schedule": plan, "method": "horvitz_thompson"}
    warned("of its standard deviations from 0", "hajek", log=log, **roles)
    near = log.assign(y=log["y"] - log["y"].mean())
    switchback_effect(near, **roles)  # no warning


def test_cluster_errors_that_do_not_know_the_coin_are_warned_of():
    plan, log = hourly(profile=5.0, regions=("a", "b"))
    roles = {**ROLES, "schedule": plan, "unit": "region", "inference": "cluster"}
    warned("adjust=None leaves the levels of 16 strata", log=log, adjust=None, **roles)
    blind = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blind = switchback_effect(log, adjust=None, **roles)
    assert blind.std_error > 3 * switchback_effect(log, **roles).std_error


# ---- refusals ----


def refused(message, log, **options):
    with pytest.raises((ValueError, TypeError), match=message):
        switchback_effect(log, **options)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.assign(y=d["y"].where(d.index != 4, np.inf)), "column 'y' must be finite; 1 "),
        (lambda d: d.assign(y=d["y"].where(d.index > 2)), "column 'y' must be present .*; 3 rows"),
        (lambda d: d.assign(arm=d["arm"] * 2), r"arm 'arm' must be 0 or 1; \d+ rows are not, e.g"),
        (
            lambda d: d.assign(arm="A"),
            "column 'arm' must hold numbers; it holds .*string, e.g. 'A'",
        ),
        (lambda d: d.drop(columns="y"), "column 'y' .outcome. is not in the table"),
        (
            lambda d: d.assign(arm=1),
            "column 'arm' must hold both arms; every slice with rows, 30 in all, is t",
        ),
        (lambda d: d.assign(y=7), "column 'y' must vary beyond arms and strata"),
        (lambda d: d.assign(t=d["t"] + 0.5), "column 't' must hold whole periods, or timestamps"),
        (
            lambda d: d.assign(t="x"),
            "column 't' .time. must hold timestamps or periods: it holds .*'x'; convert it first$",
        ),
        (lambda d: d.assign(y=d["y"] * 1e200), "column 'y' must have squares within a double"),
        (lambda d: d.assign(y=d["y"] * 1e-200), "column 'y' must have squares within a double"),
        (lambda d: d.iloc[:0], "empty"),
    ],
)
def test_columns_that_do_not_fit_are_refused(spoil, message):
    refused(message, spoil(periods()), slice_minutes=4, **PERIODS)


@pytest.mark.parametrize("other", [None, "Asia/Tokyo"])
def test_times_of_several_zones_are_refused(other):
    _, log = hourly()
    mixed = [t.tz_localize(other if j % 2 else "UTC") for j, t in enumerate(log["ts"])]
    log["ts"] = pd.Series(mixed, dtype=object)
    refused(f"column 'ts' .* one time zone; it mixes UTC, {other}", log, slice_minutes=360, **ROLES)


def test_schedule_that_is_none_is_refused():
    refused("schedule must be a Schedule; got str", hourly()[1], schedule="plan.json", **ROLES)


def test_slices_must_be_given_in_one_way():
    log = periods()
    refused("a run of slices with equal arms is not one slice", log, **PERIODS)
    refused("got points, slice_minutes", log, points=[1, 5], slice_minutes=4, **PERIODS)
    plan, stamped = hourly()
    refused("points are periods, so column 'ts'", stamped, points=[1, 7], **ROLES)
    refused("'t' must hold timestamps without a time zone, .* it holds periods", log,
            schedule=plan, **PERIODS)  # fmt: skip
    zoned = stamped.assign(ts=stamped["ts"].dt.tz_localize("Europe/Berlin"))
    refused("without a time zone, as the schedule does", zoned, schedule=plan, **ROLES)
    refused("the schedule has one coin for all", stamped, schedule=plan, unit="region", **ROLES)
    refused("points must be whole periods that begin with 1", log, points=[2, 5], **PERIODS)
    refused("must count periods from 1", log.assign(t=log["t"] - 1), points=[1, 5], **PERIODS)
    refused("slice_minutes must be positive", log, slice_minutes=0, **PERIODS)
    refused("slice_minutes must be a whole number of periods", log, slice_minutes=1.5, **PERIODS)
    shares = Saturation().schedule(start=MONDAY, days=14)
    refused("schedule must be of a Switchback; got Saturation", stamped, schedule=shares, **ROLES)


def test_treatment_that_changes_inside_a_slice_is_refused():
    refused(
        r"'arm' must be constant within a slice; it changes inside \d+ of 20 slices, first in sli",
        periods(), slice_minutes=6, **PERIODS,
    )  # fmt: skip
    plan, log = hourly()
    ts = log["ts"].where(log.index != 0, log["ts"] + pd.Timedelta(minutes=1))
    wrong = log.assign(ts=ts, arm=log["arm"].where(log.index > 3, 1 - log["arm"]))
    refused("the arm that was planned; 4 rows in 1 slices are not, first in slices .0.: Schedule",
            wrong, schedule=plan, **ROLES)  # fmt: skip
    late = log.assign(ts=log["ts"] + pd.Timedelta(days=30))
    refused("must lie within the schedule, .*; 336 rows do not", late, schedule=plan, **ROLES)


@QUIET
def test_too_little_is_refused_with_the_numbers():
    log = periods()
    refused("burn_in=4 must be below the shortest slice, 4", log, slice_minutes=4, burn_in=4,
            **PERIODS)  # fmt: skip
    refused(r"carryover=20 is too long: \d treated and \d untreated windows", log,
            slice_minutes=4, carryover=20, inference="conservative", **PERIODS)  # fmt: skip
    refused("carryover=200 and burn_in=0 leave no row to read", log, slice_minutes=4,
            carryover=200, **PERIODS)  # fmt: skip
    refused("5 slices give at best p = 0.062", log[:20].assign(arm=np.repeat([0, 1, 0, 1, 0], 4)),
            slice_minutes=4, **PERIODS)  # fmt: skip
    many = log.assign(**{f"x{j}": np.random.default_rng(j).normal(size=120) for j in range(30)})
    refused("15 untreated windows .* strata and 30 covariates leave free", many, slice_minutes=4,
            covariates=[f"x{j}" for j in range(30)], **PERIODS)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"carryover": -1}, "carryover must be 0 or more; got -1"),
        ({"burn_in": np.nan}, "burn_in must be 0 or more"),
        ({"carryover": 1.5}, "carryover must be a whole number of periods"),
        ({"n_draws": 0}, "n_draws must be a whole number"),
        ({"level": 95}, "level must be in"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"method": "hayek"}, "did you mean 'hajek'"),
        ({"method": "regression", "carryover": 1}, "method='regression' takes no carryover"),
        ({"method": "truncated_dq", "burn_in": 1}, "method='truncated_dq' takes no burn_in"),
        ({"method": "horvitz_thompson", "covariates": ["x"]}, "takes no covariates"),
        ({"method": "distributed_lag", "by": "x"}, "takes no by"),
        ({"method": "geometric_lag", "inference": "conservative"}, "or 'cluster' or 'hac'"),
        ({"method": "horvitz_thompson", "inference": "hac"}, "choose 'randomization' or 'conserv"),
        ({"carryover": 1, "inference": "cluster"}, "takes slices as independent"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    refused(message, periods().assign(x=1.0), slice_minutes=4, **PERIODS, **options)


def test_newey_west_takes_one_series():
    plan, log = hourly(regions=("a", "b"))
    roles = {**ROLES, "schedule": plan, "unit": "region", "inference": "hac"}
    refused("inference='hac' takes one series; 2 regions or units", log, **roles)
    refused("inference='hac' takes one series; 2", log, method="distributed_lag", **roles)
