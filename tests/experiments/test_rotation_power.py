"""Power of a rotation: against brute force, the read-out itself, formulas and other programs."""

import importlib.util
import json
import math
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from causal.effect import EstimationWarning
from causal.linear import covariance, least_squares
from experiments import (
    PowerCurve,
    Switchback,
    switchback_attenuation,
    switchback_effect,
    switchback_power,
)
from experiments.sizing.injected_effects import (
    Fits,
    Sample,
    crossed_statistic,
    exceeding,
    own_statistic,
    sample_of,
    satterthwaite_df,
)
from experiments.sizing.power_cells import pilot_cells
from experiments.sizing.rotation_power import _exposure

STORED = Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((STORED / "power.json").read_text(encoding="utf-8"))["rotations"]
EFFECTS = (0.0, 0.3, -1.2, 50.0)
ROLES = {"outcome": "watch", "time": "ts"}


def pilot(days=14, *, seed=0, regions=(), rho=0.8, per_hour=1):
    """Hourly rows of a level that moves slowly and with the clock."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2026-03-02", periods=days * 24, freq="h")
    parts = []
    for region in regions or ("all",):
        noise = rng.normal(size=len(ts))
        for t in range(1, len(ts)):
            noise[t] += rho * noise[t - 1]
        watch = 20 + 2 * np.sin(ts.hour / 4) + noise
        parts.append(pd.DataFrame({"region": region, "ts": ts, "watch": watch}))
    log = pd.concat(parts, ignore_index=True)
    log = log.loc[np.repeat(log.index, per_hour)].reset_index(drop=True)
    return log if per_hour == 1 else log.assign(watch=log["watch"] + rng.normal(size=len(log)))


def world(seed=0, g=24, strata=3):
    """Uneven cells, arms and other arms; some of them are the first ones or their mirror."""
    rng = np.random.default_rng(seed)
    code = np.arange(g) % strata
    n, mean = rng.integers(1, 30, g), rng.normal(1e3, 1, g) + code
    sample = Sample.of(n, mean, code, name="watch")
    arms, draws = (rng.permuted(np.tile(np.arange(g) // strata % 2, (k, 1)), axis=1)
                   for k in (7, 29))  # fmt: skip
    draws[3], draws[4] = arms[2], 1 - arms[5]
    return sample, n, mean, code, arms, draws


def by_least_squares(y, n, code, arm):
    """Squared statistic of weighted least squares on arm and strata with HC2."""
    X = np.column_stack([arm, np.eye(code.max() + 1)[code]])
    w = np.sqrt(n / n.mean())
    A = X * w[:, None]
    bread = np.linalg.inv(A.T @ A)
    coef = bread @ A.T @ (w * y)
    e = w * (y - X @ coef)
    h = np.einsum("gi,ij,gj->g", A, bread, A)
    meat = (A * (e**2 / (1 - h))[:, None]).T @ A
    return coef[0] ** 2 / (bread @ meat @ bread)[0, 0]


# --- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_all_pairs_are_those_of_least_squares(seed):
    sample, n, mean, code, arms, draws = world(seed)
    rng = np.random.default_rng(9)
    exposure = arms * rng.random(arms.shape)
    z, mine, others = sample.centred(exposure), Fits.of(sample, arms), Fits.of(sample, draws)
    for effect in EFFECTS:
        tau, error = crossed_statistic(others, z).at(effect / sample.scale)
        own_tau, own_error = own_statistic(mine, z).at(effect / sample.scale)
        for r in range(len(arms)):
            y = mean + effect * exposure[r]
            wanted = [by_least_squares(y, n, code, draw) for draw in draws]
            np.testing.assert_allclose(tau[:, r] ** 2 / error[:, r], wanted, rtol=1e-7, atol=1e-9)
            wanted = by_least_squares(y, n, code, arms[r])
            assert own_tau[r] ** 2 / own_error[r] == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("effect", EFFECTS)
def test_exceeding_draws_are_counted_as_by_brute_force_with_ties(effect):
    sample, n, mean, code, arms, draws = world(4)
    mine, others = Fits.of(sample, arms), Fits.of(sample, draws)
    reference, own = crossed_statistic(others, mine.x), own_statistic(mine, mine.x)
    found = exceeding(reference, own, effect / sample.scale).sum(axis=0)
    for r, arm in enumerate(arms):
        y = mean + effect * arm
        least = by_least_squares(y, n, code, arm) * (1 - 1e-9)
        wanted = sum(by_least_squares(y, n, code, draw) >= least for draw in draws)
        assert found[r] == wanted
    assert found[2] >= 1  # the draw that it is itself
    assert found[5] >= 1  # its mirror image


def test_switchback_power_is_that_of_brute_force_on_fifty_replications():
    """The whole call: arms of the law by the same seeds, a test of each by least squares."""
    log = pilot(5, regions=("a", "b"))
    given = {"slice_minutes": 360, "burn_in_minutes": 60}
    effects, runs, draws = [0.0, 1.0, 1.5], 50, 39
    found = switchback_power(
        log, **ROLES, **given, unit="region", effects=effects, n_replications=runs, n_draws=draws
    )
    cells = pilot_cells(log, **ROLES, **given, unit="region", coin="stratified")
    seeds = np.random.SeedSequence([0, 0]).generate_state(2).tolist()
    arms, others = cells.law.draws(runs, seeds[0]), cells.law.draws(draws, seeds[1])
    n, mean = (cells.table[name].to_numpy() for name in ("n", "mean"))
    for effect, power in zip(effects, found.table["power"], strict=True):
        rejected = 0
        for arm in arms:
            y = mean + effect * arm
            own = by_least_squares(y, n, cells.strata, arm) * (1 - 1e-9)
            count = sum(by_least_squares(y, n, cells.strata, other) >= own for other in others)
            rejected += (1 + count) / (draws + 1) <= 0.05
        assert power == pytest.approx(rejected / runs, abs=1e-12)


FRAGILE = pytest.mark.filterwarnings("ignore::causal.effect.EstimationWarning")


@FRAGILE  # the pilot's slices are correlated, which the read-out says
@pytest.mark.parametrize(
    ("coin", "days"), [("stratified", 14), ("stratified", 8), ("complete", 8), ("independent", 8)]
)
def test_statistic_and_p_value_are_those_of_switchback_effect(coin, days):
    log = pilot(days, regions=("a", "b"), per_hour=2)
    design = Switchback(360, coin=coin, regions=("a", "b"))
    plan = design.schedule(start="2026-03-02", days=days, seed=3)
    arm = plan.treatment_at(log["ts"], log["region"])
    treated = log.assign(arm=arm, watch=log["watch"] + 0.7 * arm)
    read = switchback_effect(
        treated, **ROLES, treatment="arm", unit="region", schedule=plan, burn_in=60, n_draws=199
    )
    cells = pilot_cells(
        log, **ROLES, unit="region", slice_minutes=360, burn_in_minutes=60, coin=coin
    )
    pd.testing.assert_series_equal(cells.table["start"], plan.table["start"])
    sample = Sample.of(
        cells.table["n"].to_numpy(), cells.table["mean"].to_numpy(), cells.strata, name="watch"
    )
    mine = Fits.of(sample, plan.table[["arm"]].to_numpy().T)
    own = own_statistic(mine, mine.x)
    tau, error = own.at(0.7 / sample.scale)
    assert tau[0] * sample.scale == pytest.approx(read.estimate, rel=1e-9)
    reference = crossed_statistic(Fits.of(sample, plan.redraw(199, seed=0)), mine.x)
    count = exceeding(reference, own, 0.7 / sample.scale).sum(axis=0)
    assert (1 + count[0]) / 200 == pytest.approx(read.p_value, abs=1e-12)
    t = read.test.estimate / read.test.std_error
    assert tau[0] ** 2 / error[0] == pytest.approx(t**2, rel=1e-8)


def test_few_slices_are_compared_with_all_schedules():
    """Eight slices, half of them treated: 70 schedules, so that p is a multiple of 1 / 35."""
    log = pilot(2)
    given = {"slice_minutes": 360, "coin": "complete", "n_replications": 3000}
    with pytest.warns(EstimationWarning, match="8 slices are few"):
        found = switchback_power(log, **ROLES, **given, effects=[0.0], level=0.9)
    assert found.table["power"][0] == pytest.approx(3 / 35, abs=3 * found.table["mc_se"][0])
    assert found.table["mc_se"][0] == pytest.approx(math.sqrt(3 / 35 * 32 / 35 / 3000), rel=0.1)


def test_satterthwaite_df_and_error_are_those_of_cr2():
    sample, _, mean, code, arms, _ = world(2)
    even = Sample.of(np.ones(len(mean)), mean, code, name="watch")
    fits = Fits.of(even, arms)
    df, own = satterthwaite_df(fits), own_statistic(fits, fits.x)
    for r, arm in enumerate(arms):
        X = np.column_stack([arm, np.eye(code.max() + 1)[code]]).astype(float)
        found = covariance(least_squares(X, mean), X, kind="CR2", clusters=np.arange(len(mean)))
        assert np.atleast_1d(found.df)[0] == pytest.approx(df[r], rel=1e-8)
        assert own.error_0[r] * even.scale**2 == pytest.approx(found.matrix[0, 0], rel=1e-8)
    assert (satterthwaite_df(Fits.of(sample, arms)) < df + 5).all()


def test_readable_needs_two_cells_of_each_arm():
    sample = Sample.of(np.ones(6), np.arange(6.0) ** 2, np.array([0, 0, 0, 0, 1, 1]), name="y")
    arms = np.array([[1, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 0]])
    assert Fits.of(sample, arms).readable.tolist() == [True, False, True]


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_carryover_attenuates_as_the_formula_says(decay):
    """On hourly rows a decay an hour is a decay a period."""
    log = pilot(28)
    given = {"slice_minutes": 720, "burn_in_minutes": 180, "coin": "independent", "grid": True}
    cells = pilot_cells(log, **ROLES, unit=None, **given)
    sample = sample_of(cells, "watch")
    arms = cells.law.draws(4000, 1)
    slope = own_statistic(
        Fits.of(sample, arms), sample.centred(_exposure(arms, cells, decay))
    ).slope
    left = switchback_attenuation(decay=decay, slice_periods=12, burn_in=3)
    left -= (1 - left) / 56  # centring over 56 slices takes its share of what is carried over
    assert slope.mean() == pytest.approx(left, abs=3 * slope.std() / math.sqrt(4000) + 5e-4)


def test_carryover_costs_power_and_counts_periods_as_it_does_hours():
    log = pilot(28)
    given = {"slice_minutes": 720, "burn_in_minutes": 180, "inference": "normal", "effects": [1.0]}
    found = [switchback_power(log, **ROLES, **given, carryover=rho).mde for rho in (None, 0, 0.9)]
    assert found[0] == found[1] < 0.6 * found[2]
    periods = log.assign(ts=np.arange(len(log)) + 17)
    short = {**given, "slice_minutes": 12, "burn_in_minutes": 3, "coin": "complete"}
    long = {**given, "coin": "complete"}
    again = switchback_power(periods, **ROLES, **short, carryover=0.9)
    assert again.mde == pytest.approx(
        switchback_power(log, **ROLES, **long, carryover=0.9).mde, rel=1e-9
    )


def test_carryover_exposure_is_that_of_a_plain_loop():
    log = pilot(3, regions=("a", "b"))
    given = {"slice_minutes": 240, "burn_in_minutes": 120, "coin": "independent", "grid": True}
    cells = pilot_cells(log, **ROLES, **given, unit="region")
    arms = cells.law.draws(3, 1)
    found = _exposure(arms, cells, 0.7)
    for row, wanted in zip(arms.reshape(3, 2, -1), found.reshape(3, 2, -1), strict=True):
        for region, exposures in zip(row, wanted, strict=True):
            x, means = 0.0, []
            for arm in region:
                path = []
                for _ in range(4):
                    x = 0.7 * x + 0.3 * arm
                    path.append(x)
                means.append(np.mean(path[2:]))
            np.testing.assert_allclose(exposures, means, rtol=1e-12, atol=1e-15)


# --- other programs -------------------------------------------------------------------------------


def script():
    """The script behind the stored numbers."""
    spec = importlib.util.spec_from_file_location("make_power", STORED / "make_power.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.reference
@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["coin"])
def test_normal_power_is_near_that_of_cluster_experiments(case):
    log = script().rotation_log(**case["rotation"])
    given = {"effects": case["effects"], "slice_minutes": 240, "coin": case["coin"]}
    found = switchback_power(log, **ROLES, **given, inference="normal")
    np.testing.assert_allclose(found.table["power"], case["power"], atol=0.03)


# --- simulation -----------------------------------------------------------------------------------


def test_size_is_the_level_and_mc_se_is_the_chance_over_seeds():
    log = pilot(10)
    given = {"slice_minutes": 240, "effects": [0.0, 1.2], "n_replications": 500, "n_draws": 99}
    tables = [switchback_power(log, **ROLES, **given, seed=s).table for s in range(60)]
    power, error = (np.array([t[name] for t in tables]) for name in ("power", "mc_se"))
    assert power[:, 0].mean() == pytest.approx(0.05, abs=3 * power[:, 0].std() / math.sqrt(60))
    assert 0.5 < power[:, 1].mean() < 0.9
    np.testing.assert_allclose(power.std(axis=0), error.mean(axis=0), rtol=0.3)
    assert (np.abs(power[:, 0] - 0.05) <= 3 * error[:, 0]).mean() >= 0.95


@FRAGILE
@pytest.mark.parametrize("days", [8, 21])
def test_size_of_the_t_test_is_the_level_over_pilots(days):
    """Slices of a day of hours that are correlated at .9, where a normal quantile gives 14 %."""
    given = {"slice_minutes": 1440, "coin": "complete", "effects": [0.0], "inference": "cluster"}
    sizes = [
        switchback_power(pilot(days, seed=s, rho=0.9), **ROLES, **given, n_replications=400)
        .table["power"].iloc[0]
        for s in range(40)
    ]  # fmt: skip
    assert np.mean(sizes) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("inference", ["randomization", "cluster", "normal"])
def test_power_at_the_mde_is_the_power_asked_for(inference):
    log = pilot(14, regions=("a", "b"))
    given = {"slice_minutes": 360, "unit": "region", "inference": inference}
    for power in (0.5, 0.9):
        found = switchback_power(log, **ROLES, **given, effects=[1.0], power=power)
        again = switchback_power(log, **ROLES, **given, effects=[found.mde])
        assert again.table["power"][0] == pytest.approx(power, abs=0.005)


@FRAGILE
def test_power_rises_with_the_effect_and_is_that_of_effects_put_in_and_read_out():
    log = pilot(14)
    given = {"slice_minutes": 360, "effects": [0.0, 0.5, 1.0, 1.5, 2.0]}
    table = switchback_power(log, **ROLES, **given).table
    assert (np.diff(table["power"]) >= -2 * table["mc_se"][1:]).all()
    design, rejected, runs = Switchback(360), 0, 100
    for seed in range(runs):
        plan = design.schedule(start="2026-03-02", days=14, seed=seed)
        arm = plan.treatment_at(log["ts"])
        treated = log.assign(arm=arm, watch=log["watch"] + 1.0 * arm)
        roles = {**ROLES, "treatment": "arm", "schedule": plan}
        read = switchback_effect(treated, **roles, n_draws=99, seed=seed)
        rejected += read.p_value <= 0.05
    power = table["power"][2]
    assert rejected / runs == pytest.approx(power, abs=3.5 * math.sqrt(power * (1 - power) / runs))


# --- tables and units -----------------------------------------------------------------------------


def arrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def parquet(frame, folder):
    frame.to_parquet(folder / "log.parquet")
    return folder / "log.parquet"


INTAKES = {
    "pandas": lambda frame, _: frame,
    "pandas on arrow": lambda frame, _: frame.convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda frame, _: pl.from_arrow(arrow(frame)),
    "polars lazy": lambda frame, _: pl.from_arrow(arrow(frame)).lazy(),
    "pyarrow": lambda frame, _: arrow(frame),
    "duckdb relation": lambda frame, _: duckdb.connect().from_arrow(arrow(frame)),
    "ibis table": lambda frame, folder: ibis.duckdb.connect().read_parquet(parquet(frame, folder)),
    "parquet file": parquet,
}


def stated(curve):
    """What a curve says, as numbers."""
    return np.r_[curve.table.to_numpy().ravel(), curve.mde, curve.cells["mean"].to_numpy(float)]


SMALL = {"effects": [0.0, 1.0], "slice_minutes": 360, "n_replications": 200, "n_draws": 59}


@pytest.mark.parametrize("kind", INTAKES)
def test_every_kind_of_table_gives_the_same_curve(kind, tmp_path):
    log = pilot(7, regions=("b", "a"))
    given = {**ROLES, **SMALL, "unit": "region", "burn_in_minutes": 60, "carryover": 0.5}
    found = switchback_power(INTAKES[kind](log, tmp_path), **given)
    np.testing.assert_allclose(stated(found), stated(switchback_power(log, **given)), rtol=1e-9)
    days = log.assign(ts=np.arange(len(log)) % 168)
    given |= {"slice_minutes": 6, "burn_in_minutes": 1}
    found = switchback_power(INTAKES[kind](days, tmp_path), **given)
    np.testing.assert_allclose(stated(found), stated(switchback_power(days, **given)), rtol=1e-9)


def test_row_order_does_not_matter_and_outcomes_may_be_moved_and_scaled():
    log = pilot(7, regions=("a", "b"))
    plain = switchback_power(log, **ROLES, **SMALL, unit="region")
    mixed = switchback_power(log.sample(frac=1, random_state=1), **ROLES, **SMALL, unit="region")
    np.testing.assert_allclose(stated(mixed), stated(plain), rtol=1e-9)
    for scale, shift in ((1e-3, 0.0), (60.0, 1e6), (1e150, 0.0)):
        other = log.assign(watch=log["watch"] * scale + shift)
        given = {**SMALL, "effects": [0.0, scale]}
        found = switchback_power(other, **ROLES, **given, unit="region")
        np.testing.assert_allclose(found.table["power"], plain.table["power"], atol=0.006)
        assert found.mde == pytest.approx(scale * plain.mde, rel=1e-4)
    down = switchback_power(
        log.assign(watch=-log["watch"]), **ROLES, **{**SMALL, "effects": [0.0, -1.0]}, unit="region"
    )
    assert down.mde == pytest.approx(-plain.mde, rel=1e-9)


def test_times_with_a_zone_are_read_by_their_local_clock_over_a_change_of_clocks():
    ts = pd.date_range("2026-03-20 03:00", periods=16 * 24, freq="h", tz="Europe/Berlin")
    log = pd.DataFrame({"ts": ts, "watch": np.random.default_rng(0).normal(size=len(ts))})
    found = switchback_power(log, **ROLES, **{**SMALL, "slice_minutes": 240})
    plan = Switchback(240).schedule(start=pd.Timestamp("2026-03-20", tz="Europe/Berlin"), days=17)
    cells, table = found.cells, plan.table.iloc[: found.n_slices]
    pd.testing.assert_series_equal(cells["start"], table["start"])
    assert ("all " + cells["stratum"]).tolist() == table["stratum"].tolist()
    assert {"20:00 weekday", "21:00 weekday"} <= set(cells["stratum"])  # slices are elapsed time


def test_slices_without_rows_have_coins_but_no_say():
    log = pilot(14)
    night = log[log["ts"].dt.hour >= 6]
    found = switchback_power(night, **ROLES, **SMALL)
    assert found.n_slices == 42
    assert found.cells["start"].dt.hour.min() == 6
    assert found.cells["n"].tolist() == [6] * 42


# --- the result -----------------------------------------------------------------------------------


def test_power_curve_says_what_it_found_and_draws_itself():
    curve = switchback_power(pilot(14), **ROLES, **SMALL)
    assert isinstance(curve, PowerCurve)
    pd.testing.assert_frame_equal(curve.to_frame(), curve.table)
    assert list(curve.table) == ["effect", "power", "mc_se"]
    assert list(curve.cells)[:2] == ["region", "slice"]
    assert str(curve).startswith(f"an effect of {curve.mde:.3g} (")
    assert "% of 19.82) is found with a power of 80%; 56 slices" in str(curve)
    assert curve._repr_html_() == f"<p>{curve}</p>"
    assert "56 slices, randomization test at level 0.95" in str(curve)
    ax = curve.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("effect", "power")
    assert len(ax.lines) == 3
    assert len(switchback_power(pilot(14), **ROLES, **SMALL).plot(ax).lines) == 6


def test_mde_is_none_where_carryover_hides_every_effect():
    log = pilot(14)
    given = {**SMALL, "slice_minutes": 180, "carryover": 0.999}
    found = switchback_power(log, **ROLES, **given, power=0.99)
    assert found.mde is None
    assert str(found).startswith("no effect is found with a power of 99%")
    assert len(found.plot().lines) == 2


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "wacht"}, "'wacht' .outcome. is not in the table; did you mean 'watch'"),
        ({"time": "watch"}, "'watch' cannot be both outcome and time"),
        ({"unit": "city"}, "'city' .unit. is not in the table"),
        ({"slice_minutes": 0}, "slice_minutes must be positive; got 0"),
        ({"slice_minutes": math.inf}, "slice_minutes must be positive"),
        ({"slice_minutes": 0.01}, "slices must be 20,000 at most; slice_minutes=0.01 makes"),
        ({"burn_in_minutes": -1}, "burn_in_minutes must be 0 or more; got -1"),
        ({"burn_in_minutes": 360}, "burn_in_minutes must be below slice_minutes 360; got 360"),
        ({"slice_minutes": 60, "burn_in_minutes": 30}, "all lie in the first 30 of their slice"),
        ({"coin": "fair"}, "coin must be one of 'stratified'"),
        ({"inference": "hac"}, "inference must be one of 'randomization'"),
        ({"carryover": 1.0}, r"carryover must be a decay in \[0, 1\); got 1.0"),
        ({"carryover": -0.1}, r"carryover must be a decay in \[0, 1\)"),
        ({"effects": []}, "effects must be finite numbers, one or more"),
        ({"effects": [math.nan]}, "effects must be finite numbers"),
        ({"effects": ["1"]}, "effects must be finite numbers"),
        ({"n_replications": 0}, "n_replications must be a whole number >= 1"),
        ({"n_draws": 18}, "n_draws must be 19 or more for level 0.95; got 18"),
        ({"n_draws": 499, "n_replications": 10**6}, "n_replications x n_draws must be 20,000,000"),
        ({"level": 95}, "level must be in"),
        ({"power": 1}, "power must be in"),
        ({"power": 0.05}, "power must be above 1 - level, 0.05"),
        ({"slice_minutes": 1e-12}, "slices must be 20,000 at most"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"slice_minutes": 7 * 1440}, "leave 0 degrees of freedom"),
        ({"slice_minutes": 5760, "coin": "complete"}, "4 slices are too few for level 0.95"),
        ({"coin": "alternating"}, "56 slices are too few for level 0.95: 2 schedules can be read"),
    ],
)
def test_switchback_power_refuses_what_makes_no_sense(change, message):
    given = {**ROLES, **SMALL, **change}
    with pytest.raises(ValueError, match=message):
        switchback_power(pilot(14), **given)


@pytest.mark.parametrize(
    ("column", "value", "kind", "message"),
    [
        ("watch", np.nan, ValueError, "'watch' must be present .not missing.; 1 row is not"),
        ("watch", np.inf, ValueError, "'watch' must be finite; 1 row is not, e.g. rows 3"),
        ("ts", pd.NaT, ValueError, "'ts' must be present .not missing.; 1 row is not"),
        ("region", None, ValueError, "'region' must be present"),
    ],
)
@pytest.mark.parametrize("kind_of_table", ["pandas", "polars", "parquet file"])
def test_gaps_are_counted_and_refused(column, value, kind, message, kind_of_table, tmp_path):
    log = pilot(14, regions=("a",))
    log.loc[3, column] = value
    table = INTAKES[kind_of_table](log, tmp_path)
    with pytest.raises(kind, match=message):
        switchback_power(table, **ROLES, **SMALL, unit="region")


def test_time_and_outcome_must_be_of_their_kind():
    log = pilot(14)
    for column, values in (("ts", log["ts"].astype(str)), ("watch", log["ts"])):
        with pytest.raises(TypeError, match=f"'{column}'"):
            switchback_power(log.assign(**{column: values}), **ROLES, **SMALL)
    with pytest.raises(ValueError, match="'ts' must hold whole periods"):
        switchback_power(log.assign(ts=log.index / 2), **ROLES, **SMALL)
    with pytest.raises(ValueError, match="slice_minutes must be a whole number of periods"):
        switchback_power(log.assign(ts=log.index), **ROLES, **{**SMALL, "slice_minutes": 2.5})
    with pytest.raises(ValueError, match="'watch' must vary between slices of a stratum"):
        switchback_power(log.assign(watch=log["ts"].dt.hour), **ROLES, **SMALL)


def test_an_alternating_coin_is_warned_of():
    log = pilot(7, regions=tuple("abcdefg"))
    with pytest.warns(EstimationWarning, match="alternating"):
        found = switchback_power(log, **ROLES, **{**SMALL, "coin": "alternating"}, unit="region")
    assert found.n_slices == 7 * 28
