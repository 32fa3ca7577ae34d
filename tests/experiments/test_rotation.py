"""Rotation and saturation over time: slices, strata, clocks, replay and checks of a log."""

import warnings
from dataclasses import replace

import dateutil.tz
import numpy as np
import pandas as pd
import polars as pl
import pytest

from causal.effect import EstimationWarning
from experiments import Saturation, Schedule, Switchback

MONDAY = "2026-03-02"


def plan(days=14, seed=7, start=MONDAY, **options):
    return Switchback(**{"slice_minutes": 360, **options}).schedule(
        start=start, days=days, seed=seed
    )


def test_schedule_covers_the_days_without_gaps():
    table = plan(burn_in_minutes=60).table
    assert list(table) == ["slice", "region", "start", "end", "arm", "stratum", "read_from"]
    assert (table["start"].iloc[1:].to_numpy() == table["end"].iloc[:-1].to_numpy()).all()
    assert table["end"].iloc[-1] - table["start"].iloc[0] == pd.Timedelta(days=14)
    assert (table["read_from"] - table["start"] == pd.Timedelta(minutes=60)).all()


def test_schedule_treats_half_of_each_time_of_day_weekends_apart_from_two_weeks():
    by = plan().table.groupby("stratum")["arm"].agg(["sum", "size"])
    assert by["size"].tolist() == [10, 4] * 4
    assert (2 * by["sum"] == by["size"]).all()
    assert plan(days=13, min_share=0.3).table["stratum"].nunique() == 4


def test_schedule_of_points_has_the_epochs_of_the_points():
    table = plan(points=(1, 5, 7, 9), period_minutes=120, coin="independent", days=1).table
    hours = [(t - pd.Timestamp(MONDAY)) / pd.Timedelta(hours=1) for t in table["start"]]
    assert hours == [0, 8, 12, 16]
    assert table["end"].iloc[-1] == pd.Timestamp("2026-03-03")


def test_schedule_jitter_moves_ends_and_leaves_coins_and_strata():
    plain, moved = plan(), plan(end_jitter_minutes=30)
    off = (moved.table["start"] - plain.table["start"]).dt.total_seconds() / 60
    assert off.iloc[0] == 0
    assert off.iloc[1:].abs().between(0, 30).all()
    assert off.iloc[1:].nunique() > 50
    assert moved.table["stratum"].tolist() == plain.table["stratum"].tolist()
    assert moved.table["end"].iloc[-1] == plain.table["end"].iloc[-1]


def test_schedule_of_regions_has_coins_for_each():
    table = plan(regions=("north", "south")).table
    arms = table.pivot_table(index="start", columns="region", values="arm")
    assert (arms["north"] != arms["south"]).any()
    assert (table.groupby("region")["arm"].mean() == 0.5).all()


def test_schedule_keeps_elapsed_slices_and_local_strata_over_a_clock_change():
    start = pd.Timestamp("2026-03-28", tz="Europe/Berlin")
    table = plan(start=start, days=3, min_share=0.0).table
    lengths = (table["end"] - table["start"]).unique()
    assert lengths.tolist() == [pd.Timedelta(hours=6)]
    assert table["stratum"].tolist()[4:6] == ["all 00:00", "all 07:00"]
    assert str(table["start"].dt.tz) == "Europe/Berlin"


def test_schedule_is_the_seeds_and_redraw_is_its_law():
    assert plan() == plan()
    assert plan() != plan(seed=8)
    schedule = plan()
    drawn = schedule.redraw(3000, seed=1)
    assert drawn.shape == (3000, 56)
    strata = schedule.table["stratum"]
    for name in strata.unique():
        mine = drawn[:, strata == name]
        assert (mine.sum(axis=1) == mine.shape[1] // 2).all()
    np.testing.assert_array_equal(schedule.redraw(10, seed=1), schedule.redraw(10, seed=1))
    # the schedule itself is never among its own redraws because of a shared stream
    assert (schedule.redraw(1, seed=7)[0] != schedule.table["arm"]).any()


def test_schedule_alternating_warns():
    with pytest.warns(EstimationWarning, match="about twice as much to carry-over"):
        plan(coin="alternating")


def test_treatment_at_finds_the_slice_of_every_instant():
    schedule = plan()
    table = schedule.table
    just_before = table["end"] - pd.Timedelta(microseconds=1)
    for times in (table["start"], just_before, table["start"].tolist(), table["start"].astype(str)):
        np.testing.assert_array_equal(schedule.treatment_at(times), table["arm"])
    arms = Switchback(360).assign(table["start"], start=MONDAY, days=14, seed=7)
    np.testing.assert_array_equal(arms, table["arm"])


def test_treatment_at_follows_the_region():
    schedule = plan(regions=("north", "south"))
    table = schedule.table
    arms = schedule.treatment_at(table["start"], table["region"])
    np.testing.assert_array_equal(arms, table["arm"])
    frame = table.rename(columns={"start": "time"})
    design = Switchback(360, regions=("north", "south"))
    again = design.assign(frame, start=MONDAY, days=14, seed=7)
    np.testing.assert_array_equal(again, table["arm"])


@pytest.mark.parametrize(
    ("times", "regions", "message"),
    [
        (["2026-03-01 23:59"], None, "within the schedule, .* 1 do not, first at rows \\[0\\]"),
        ([MONDAY, "2026-03-16"], None, "first at rows \\[1\\]"),
        ([pd.NaT], None, "times must be present; 1"),
        (pd.DatetimeIndex([MONDAY], tz="UTC"), None, "times have a time zone and the schedule"),
        ([MONDAY], ["north"], "has no regions"),
    ],
)
def test_treatment_at_refuses_what_the_schedule_does_not_know(times, regions, message):
    with pytest.raises(ValueError, match=message):
        plan().treatment_at(times, regions)


@pytest.mark.parametrize("regions", [None, ["west"], ["north", "north"]])
def test_treatment_at_refuses_regions_that_do_not_fit(regions):
    with pytest.raises(ValueError, match="regions must be"):
        plan(regions=("north", "south")).treatment_at([MONDAY], regions)


def test_balance_is_the_treated_share_of_every_hour_and_weekday():
    balance = plan().balance()
    hours, days = (balance[balance["clock"] == c] for c in ("hour", "weekday"))
    assert (len(hours), len(days)) == (24, 7)
    assert hours["minutes"].sum() == days["minutes"].sum() == 14 * 1440
    assert hours["share"].tolist() == [0.5] * 24
    assert days["share"].mean() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [lambda f: f, pl.from_pandas])
def test_check_lists_rows_exposed_to_another_arm(kind):
    schedule = plan()
    log = pd.DataFrame({"ts": schedule.table["start"], "arm": schedule.table["arm"], "x": 1})
    assert len(schedule.check(kind(log), time="ts", treatment="arm")) == 0
    log.loc[[3, 10], "arm"] = 1 - log.loc[[3, 10], "arm"]
    wrong = schedule.check(kind(log), time="ts", treatment="arm")
    assert wrong.index.tolist() == wrong["slice"].tolist() == [3, 10]
    assert (wrong["planned"] == 1 - wrong["arm"]).all()
    with pytest.raises(ValueError, match="did you mean 'arm'"):
        schedule.check(kind(log), time="ts", treatment="arn")


def test_check_names_what_it_cannot_read():
    schedule = plan()
    log = pd.DataFrame({"ts": schedule.table["start"], "arm": "A"})
    with pytest.raises(TypeError, match="column 'arm' must hold numbers"):
        schedule.check(log, time="ts", treatment="arm")
    log = log.assign(arm=schedule.table["arm"])
    log.loc[[1, 5], "ts"] = pd.NaT
    with pytest.raises(ValueError, match="column 'ts' must be present; 2 rows are not"):
        schedule.check(log, time="ts", treatment="arm")


def test_assign_takes_tables_and_names_the_column_that_lacks():
    design = Switchback(360, regions=("north", "south"))
    table = design.schedule(start=MONDAY, days=14, seed=7).table.rename(columns={"start": "time"})
    options = {"start": MONDAY, "days": 14, "seed": 7}
    arms = design.assign(pl.from_pandas(table[["time", "region"]]), **options)
    np.testing.assert_array_equal(arms, table["arm"])
    with pytest.raises(ValueError, match="'region'"):
        design.assign(table[["time"]], **options)


def test_treatment_at_takes_text_of_any_precision():
    found = plan().treatment_at(["2026-03-02 01:00", "2026-03-05", "2026-03-05T12:00:00.5"])
    assert len(found) == 3
    with pytest.raises(ValueError, match="times must be instants"):
        plan().treatment_at(["yesterday"])


@pytest.mark.parametrize(
    ("zone", "start", "minutes", "hours"),
    [
        ("Europe/Berlin", "2026-10-20", 60, 8 * 24),
        ("Europe/Berlin", "2026-03-26", 30, 8 * 24),
        ("America/New_York", "2026-10-28", 45, 8 * 24),
        ("Asia/Kathmandu", "2026-10-28", 60, 8 * 24),
    ],
)
def test_balance_counts_every_minute_also_where_clocks_change(zone, start, minutes, hours):
    schedule = plan(start=pd.Timestamp(start, tz=zone), days=8, slice_minutes=minutes)
    balance = schedule.balance()
    for clock in ("hour", "weekday"):
        mine = balance[balance["clock"] == clock]
        assert mine["minutes"].sum() == pytest.approx(hours * 60)
        treated = (mine["minutes"] * mine["share"]).sum() / mine["minutes"].sum()
        assert treated == pytest.approx(schedule.table["arm"].mean())


def test_schedule_of_numpy_numbers_is_saved(tmp_path):
    path = tmp_path / "plan.json"
    schedule = Switchback(np.float32(360), burn_in_minutes=np.int64(30)).schedule(
        start=MONDAY, days=np.int64(14), seed=np.int64(3)
    )
    schedule.save(path)
    assert Schedule.load(path) == schedule


def test_schedule_refuses_a_zone_that_has_no_name():
    zone = dateutil.tz.gettz("Europe/Berlin")
    with pytest.raises(ValueError, match="its time zone one with a name"):
        plan(start=pd.Timestamp(MONDAY).tz_localize(zone))


def test_load_refuses_a_folder(tmp_path):
    folder = tmp_path / "plan.json"
    folder.mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        Schedule.load(folder)


def test_saturation_is_nested_and_visits_every_share_equally():
    design = Saturation((0.1, 0.5, 0.9), regions=("a", "b", "c"), salt="s")
    table = design.schedule(start=MONDAY, days=6, seed=3).table
    by = table.groupby(["region", "share"]).size()
    assert (by == 2).all()
    viewers = np.arange(5000)
    few, some, many = (design.assign(viewers, share=s) for s in design.shares)
    assert (few <= some).all()
    assert (some <= many).all()
    assert some.mean() == pytest.approx(0.5, abs=0.03)
    schedule = design.schedule(start=MONDAY, days=6, seed=3)
    share = schedule.treatment_at(table["start"], table["region"])
    np.testing.assert_array_equal(share, table["share"])
    log = table.rename(columns={"share": "served"})
    assert len(schedule.check(log, time="start", treatment="served")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_minutes": 0}, "slice_minutes must be positive"),
        ({"slice_minutes": "360"}, "slice_minutes must be positive"),
        ({"burn_in_minutes": -1}, "burn_in_minutes must be 0 or more"),
        ({"burn_in_minutes": 360}, "must leave something of the shortest slice, 360 minutes"),
        ({"end_jitter_minutes": 180}, "must leave something of the shortest slice"),
        ({"min_share": 0.6}, r"min_share must be in \[0, 0.5\]"),
        ({"coin": "fair"}, "coin must be one of"),
        ({"points": (2, 4)}, "start at 1 and go up"),
        ({"points": (1, 4, 3)}, "start at 1 and go up"),
        ({"regions": ("a", "a")}, "regions must be distinct"),
        ({"days": 0}, "days must be positive"),
        ({"days": 0.2}, "must hold two slices"),
        ({"start": None}, "start must be an instant"),
        ({"start": "junk"}, "start must be an instant such as .*; got 'junk'"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"regions": (1, 2)}, "regions must be names on one line"),
        ({"regions": ("a\r", "b")}, "regions must be names on one line"),
        ({"days": 7.02, "end_jitter_minutes": 120}, "shortest slice, 28.8 minutes"),
        ({"days": 7.02, "burn_in_minutes": 300}, "or let days hold whole slices"),
        (
            {"days": 1, "points": (1, 10, 24), "burn_in_minutes": 200},
            "shortest slice, 60 minutes",
        ),
    ],
)
def test_switchback_refuses_what_is_no_plan(options, message):
    with pytest.raises(ValueError, match=message):
        plan(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": (0.5,)}, "shares must be 2 to 100 numbers"),
        ({"shares": (0.0, 0.5)}, "shares must be 2 to 100 numbers"),
        ({"slice_minutes": -5}, "slice_minutes must be positive"),
        ({"days": 2}, "a slice for each of 3 shares; 2 fit"),
    ],
)
def test_saturation_refuses_what_is_no_plan(options, message):
    days = options.pop("days", 7)
    with pytest.raises(ValueError, match=message):
        Saturation(**options).schedule(start=MONDAY, days=days)


def test_saturation_refuses_a_share_outside_zero_one():
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\)"):
        Saturation().assign([1, 2], share=1.0)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
@pytest.mark.parametrize(
    "schedule",
    [
        plan(burn_in_minutes=30),
        plan(points=(1, 5, 9), coin="independent", days=1, period_minutes=60, min_share=0.0),
        plan(
            start=pd.Timestamp("2026-10-24", tz="Europe/Berlin"),
            regions=('north, "east"', "süd"),
            end_jitter_minutes=11,
        ),
        Saturation(regions=("a", "b")).schedule(start=MONDAY, days=7, seed=1),
    ],
)
def test_schedule_saved_and_loaded_is_the_same_and_replays(schedule, suffix, tmp_path):
    path = tmp_path / f"plan{suffix}"
    schedule.save(path)
    again = Schedule.load(path)
    assert again == schedule
    assert hash(again) == hash(schedule)
    pd.testing.assert_frame_equal(again.table, schedule.table)
    np.testing.assert_array_equal(again.redraw(50, seed=1), schedule.redraw(50, seed=1))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    first = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("suffix", [".json", ".csv"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("00:00:00.000000", "00:00:01.000000", 1), "checksum does not fit"),
        (lambda t: t.replace('"seed": 7', '"seed": 8'), "checksum does not fit"),
        (lambda t: t.replace('"version": 1', '"version": 9'), "version 9 is unknown"),
        (lambda t: t.replace('"seed": 7', '"seed": 7, "note": 1'), "these differ: \\['note'\\]"),
        (lambda t: t[: len(t) // 2], "not a schedule|checksum does not fit|these differ"),
        (lambda _: "arm,start\n1,2\n", "not a schedule"),
        (lambda _: "", "not a schedule"),
        (lambda _: "[]", "not a schedule"),
    ],
)
def test_load_refuses_files_that_are_no_schedule_or_were_edited(change, message, suffix, tmp_path):
    path = tmp_path / f"plan{suffix}"
    plan().save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        Schedule.load(path)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
@pytest.mark.parametrize(("column", "minutes"), [("end", 60), ("end", -2000)])
def test_load_refuses_slices_that_overlap_or_end_before_they_start(
    column, minutes, suffix, tmp_path
):
    drawn = plan()
    table = drawn.table.copy()
    table.loc[2, column] += pd.Timedelta(minutes=minutes)
    path = tmp_path / f"plan{suffix}"
    replace(drawn, table=table).save(path)  # with a checksum that fits
    with pytest.raises(ValueError, match="slices of region 'all' overlap or end before they start"):
        Schedule.load(path)


def test_save_and_load_refuse_other_suffixes_and_absent_files(tmp_path):
    with pytest.raises(ValueError, match=r"a \.json or \.csv file; got suffix '\.pkl'"):
        plan().save(tmp_path / "plan.pkl")
    with pytest.raises(ValueError, match="no such file"):
        Schedule.load(tmp_path / "plan.json")


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_load_takes_the_mark_that_spreadsheets_put_before_a_text(suffix, tmp_path):
    path = tmp_path / f"plan{suffix}"
    plan().save(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Schedule.load(path) == plan()


def test_save_into_a_folder_that_is_absent_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "absent" / "plan.csv"
    with pytest.raises(FileNotFoundError) as caught:
        plan().save(path)
    assert caught.value.filename == str(path)


def test_save_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    plan().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        plan(seed=9).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_stratified_schedules_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan()
