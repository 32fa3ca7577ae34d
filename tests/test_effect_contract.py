"""What every function that returns an `Effect`, `EffectCurve` or `PolicyValue` keeps to.

Row order does not matter, numbers are finite, results survive JSON, the caller's table stays as it
was, every kind of table gives the same answer, and the outcome's unit carries through. A new
estimator adds its line to `ANALYSES`.
"""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from entries import (
    HOSTILE_NAMES,
    INTAKES,
    TARGET_LOG,
    assert_same,
    experiment_log,
    numbers,
    pair_log,
    policy_log,
    rotation_log,
    saturation_log,
    slate_log,
    staggered_log,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

import causal
import experiments
from causal import Effect, EffectCurve, PolicyValue, engine_rows

EXPERIMENT = ("outcome", "arm", "covariate", "cluster", "unit", "weight", "clicks", "views",
              "segment", "day", "triggered")  # fmt: skip
LOG = ("reward", "propensity", "target", "cluster", "action", "context", "position")
PAIRS = ("outcome", "viewer", "author", "viewer_arm", "author_arm", "covariate")
SLATE = ("slate", "position", "reward", "propensity", "target")
UNIFORM = np.full((1, 4), 0.25)


@dataclass(frozen=True)
class Analysis:
    """A call that returns a result; `call(table, c)` finds the column of a role in `c`.

    `scaled` is the role that carries the outcome's unit; the estimate follows ``a * y`` where
    `scales` and ``y + b`` by ``shifts * b``.
    """

    name: str
    call: Callable[[Any, dict[str, str]], Any]
    table: Callable[[], pd.DataFrame]
    roles: tuple[str, ...]
    scaled: str
    scales: bool = True
    shifts: float | None = None

    def run(self, table=None, columns=None):
        """The result, where `columns` renames roles."""
        names = {role: role for role in self.roles} | (columns or {})
        return self.call(self.table() if table is None else table, names)

    def __str__(self):
        return self.name


def by_experiment(name, call, *, scaled="outcome", shifts=0.0):
    return Analysis(name, call, experiment_log, EXPERIMENT, scaled, shifts=shifts)


def ab(metric, **roles):
    """`ab_test` with the metric that `metric(c)` makes and columns by role."""

    def call(table, c):
        named = {option: c.get(role, role) for option, role in roles.items()}
        return experiments.ab_test(table, metric=metric(c), arm=c["arm"], **named)

    return call


def covaried(c, **options):
    return experiments.Mean(c["outcome"], covariates=[c["covariate"]], **options)


def ratio(c, **options):
    return experiments.Ratio(c["clicks"], c["views"], **options)


def per_cluster(c):
    return experiments.Mean(c["outcome"], per=c["cluster"], winsor=(0.01, 0.99))


def curve(metric=lambda c: c["outcome"], by="segment", **options):
    def call(table, c):
        roles = {"by": c[by], "arm": c["arm"], "cluster": c["cluster"]}
        return experiments.ab_curve(table, metric=metric(c), **roles, **options)

    return call


def card(table, c):
    metrics = {"watch": covaried(c), "rate": (c["clicks"], c["views"])}
    roles = {"arm": c["arm"], "cluster": c["cluster"]}
    return experiments.ab_tests(table, metrics=metrics, **roles).rows[0].effect


def off_policy(function="off_policy_value", **options):
    def call(table, c):
        roles = {role: c[role] for role in ("reward", "propensity", "target", "cluster")}
        return getattr(causal, function)(table, **roles, **options)

    return call


def modelled(method, function="off_policy_value", **options):
    def call(table, c):
        roles = {role: c[role] for role in ("reward", "propensity", "action", "cluster")}
        target = {"target_policy": UNIFORM[0], "actions": [0, 1, 2, 3], "features": [c["context"]]}
        model = {"outcome_model": LinearRegression(), "method": method}
        return getattr(causal, function)(table, **roles, **target, **model, **options)

    return call


def logged(method):
    def call(table, c):
        target_log = TARGET_LOG.rename(columns=c)
        roles = {role: c[role] for role in ("action", "reward", "propensity", "cluster")}
        given_ = {"target_log": target_log, "by": [c["position"]], "method": method}
        return causal.logged_policy_value(table, **given_, **roles)

    return call


def slates(method, **options):
    def call(table, c):
        return causal.slate_value(table, method=method, **c, **options)

    return call


def on_log(name, call, shifts=None):
    return Analysis(name, call, policy_log, LOG, "reward", shifts=shifts)


def dual(pick, **options):
    def call(table, c):
        roles = {role: c[role] for role in PAIRS[:5]}
        given_ = {**options, "covariates": [c["covariate"]]} if options else {}
        return pick(experiments.dual_sided_effect(table, **roles, **given_))

    return call


def response(pick):
    def call(table, c):
        return pick(experiments.share_response(table, **c))

    return call


def on_pairs(name, call):
    return Analysis(name, call, pair_log, PAIRS, "outcome", shifts=0.0)


def rotation(pick=lambda found: found.effect, function="switchback_effect", **options):
    def call(table, c):
        roles = {"outcome": c["outcome"], "treatment": c["arm"], "time": c["time"]}
        roles |= {"unit": c["unit"], "slice_minutes": 4, "weight": c["weight"]}
        return pick(getattr(experiments, function)(table, **roles, **options))

    return call


def on_rotation(name, call, shifts=0.0):
    roles = ("outcome", "arm", "time", "unit", "weight")
    return Analysis(name, call, rotation_log, roles, "outcome", shifts=shifts)


def on_saturation(name, call):
    roles = ("outcome", "arm", "share", "cell")
    return Analysis(name, call, saturation_log, roles, "outcome", shifts=0.0)


def on_slates(name, call):
    return Analysis(name, call, slate_log, SLATE, "reward")


def staggered(function, *beside, pick=lambda found: found.effect, **options):
    """An estimator of staggered adoption."""
    roles = ("outcome", "unit", "time", "cohort", *beside)

    def call(table, c):
        named = {role: c[role] for role in roles if role != "covariate"}
        named |= {"covariates": [c["covariate"]]} if "covariate" in roles else {}
        return pick(getattr(causal, function)(table, never=0, **named, **options))

    name = " ".join([function, *beside, *options])
    return Analysis(name, call, staggered_log, roles, "outcome", shifts=0.0)


def beside_effects(table, c):
    roles = {"outcome": c["outcome"], "treatment": c["arm"], "covariates": [c["covariate"]]}
    absorbed = {"absorb": [c["segment"], c["day"]], "weight": c["weight"]}
    return causal.fixed_effects(table, **roles, **absorbed, cluster=c["cluster"])


ANALYSES = (
    by_experiment("mean", ab(lambda c: c["outcome"])),
    by_experiment("lin", ab(covaried)),
    by_experiment("cuped", ab(covaried, adjustment="cuped")),
    by_experiment("unadjusted", ab(covaried, adjustment="none")),
    by_experiment("lin clustered", ab(covaried, cluster="cluster")),
    by_experiment("lin CR1", ab(covaried, cluster="cluster", covariance="CR1")),
    by_experiment("units", ab(lambda c: c["outcome"], unit="unit")),
    by_experiment("weighted", ab(lambda c: c["outcome"], weight="weight")),
    by_experiment("per cluster", ab(per_cluster), shifts=None),
    by_experiment("winsor", ab(lambda c: covaried(c, winsor=(0.02, 0.98)))),
    by_experiment("ratio", ab(ratio, cluster="cluster"), scaled="clicks", shifts=None),
    by_experiment("ratio lin", ab(lambda c: ratio(c, covariates=[c["covariate"]]),
                                  cluster="cluster"), scaled="clicks", shifts=None),
    by_experiment("median", ab(lambda c: experiments.Quantile(c["outcome"], 0.5))),
    by_experiment("median clustered", ab(lambda c: experiments.Quantile(c["outcome"], 0.5),
                                         cluster="cluster")),
    by_experiment("triggered", ab(lambda c: c["outcome"], trigger="triggered")),
    by_experiment("curve by segment", curve()),
    by_experiment("curve by day", curve(covaried, by="day", cumulative=True)),
    by_experiment("card", card),
    by_experiment("fixed effects", beside_effects),
    on_log("ips", off_policy(method="ips")),
    on_log("ips clipped", off_policy(method="ips", clip=3.0)),
    on_log("snips", off_policy(method="snips"), shifts=1.0),
    on_log("snips lift", off_policy("off_policy_lift", method="snips"), shifts=0.0),
    on_log("ips lift", off_policy("off_policy_lift", method="ips")),
    on_log("dm", modelled("dm"), shifts=1.0),
    on_log("dr", modelled("dr"), shifts=1.0),
    on_log("sndr", modelled("sndr"), shifts=1.0),
    on_log("switch", modelled("switch", switch_at=1.5), shifts=1.0),
    on_log("switch tuned", modelled("switch")),
    on_log("shrinkage", modelled("shrinkage", shrinkage=2.0), shifts=1.0),
    on_log("shrinkage tuned", modelled("shrinkage")),
    on_log("dr lift", modelled("dr", "off_policy_lift"), shifts=0.0),
    on_log("logged ips", logged("ips")),
    on_log("logged snips", logged("snips"), shifts=1.0),
    on_pairs("dual-sided total", dual(lambda found: found.total)),
    on_pairs("dual-sided direct", dual(lambda found: found.direct)),
    on_pairs("dual-sided bound", dual(lambda found: found.total, variance="exact_bound")),
    on_pairs("dual-sided redraws", dual(lambda found: found.total, variance="randomization")),
    on_rotation("switchback", rotation()),
    on_rotation("switchback windows", rotation(carryover=2, inference="conservative")),
    on_rotation("switchback clusters", rotation(burn_in=1, inference="cluster")),
    on_rotation("switchback lags", rotation(method="distributed_lag", carryover=2, n_draws=99)),
    on_rotation("switchback decay", rotation(method="geometric_lag", inference="cluster")),
    on_rotation("switchback sums", rotation(method="truncated_dq", carryover=2, n_draws=99)),
    on_rotation("burn-in", rotation(lambda curve: curve, "burn_in_curve", burn_ins=[0, 1])),
    on_saturation("share response", response(lambda found: found.total)),
    on_saturation("share response direct", response(lambda found: found.direct)),
    on_saturation("share response spillover", response(lambda found: found.spillover)),
    on_saturation("share response curvature", response(lambda found: found.curvature)),
    staggered("sun_abraham"),
    staggered("sun_abraham", "cluster", window=(-1, 2)),
    staggered("sun_abraham", "covariate"),
    staggered("imputation_effects", "cluster"),
    staggered("imputation_effects", "covariate"),
    staggered("imputation_effects", pick=lambda found: found.curve, n_pretrend=1),
    staggered("group_time_effects", "cluster"),
    staggered("group_time_effects", "covariate", pick=lambda found: found.curve),
    staggered("group_time_effects", "covariate", method="ipw", control="not_yet"),
    staggered("bacon_decomposition"),
    on_slates("slates independent", slates("independent")),
    on_slates("slates pseudoinverse", slates("pseudoinverse")),
    on_slates("slates cascade", slates("cascade")),
    on_slates("slates pbm", slates("pbm", examination={1: 1.0, 2: 0.5, 3: 0.25})),
)  # fmt: skip

EACH = pytest.mark.parametrize("analysis", ANALYSES, ids=str)


def level_and_error(result):
    """Point estimates and standard errors of a result."""
    values = numbers(result)
    error = values["std_error"] if "std_error" in values else np.sqrt(np.diag(values["cov"]))
    return values["estimate"], error


@EACH
def test_result_is_one_of_three_kinds_finite_and_says_what_it_is(analysis):
    result = analysis.run()
    effect = result.effect if isinstance(result, PolicyValue) else result
    assert isinstance(effect, Effect | EffectCurve)
    assert all(np.isfinite(value).all() for value in numbers(result).values())
    assert effect.estimand
    assert effect.method
    assert effect.n_obs <= len(analysis.table())
    low, high = np.atleast_2d(np.asarray(effect.conf_int())).T
    estimate, error = level_and_error(result)
    assert (error > 0).all()
    if isinstance(effect, Effect):
        assert low[0] < estimate < high[0]
        assert 0 <= effect.p_value <= 1
    assert str(effect)
    assert len(effect.to_frame())


@EACH
def test_result_survives_json_and_pickle(analysis):
    result = analysis.run()
    effect = result.effect if isinstance(result, PolicyValue) else result
    text = json.dumps(effect.to_dict(), allow_nan=False)
    assert type(effect).from_dict(json.loads(text)) == effect
    assert pickle.loads(pickle.dumps(effect)) == effect
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


@EACH
def test_policy_value_delegates_to_its_effect(analysis):
    result = analysis.run()
    if not isinstance(result, PolicyValue):
        return
    effect = result.effect
    assert (result.estimate, result.std_error) == (effect.estimate, effect.std_error)
    assert result.conf_int(0.9) == effect.conf_int(0.9)
    assert result.p_value == effect.p_value
    assert 0 < result.diagnostics.ess <= result.diagnostics.n_obs


@EACH
def test_result_is_the_same_twice_and_in_any_row_order(analysis):
    table, result = analysis.table(), analysis.run()
    assert_same(analysis.run(), result, rtol=1e-13)
    assert_same(analysis.run(table.iloc[::-1]), result, rtol=1e-9)
    assert_same(analysis.run(table.sample(frac=1, random_state=3)), result, rtol=1e-9)


@EACH
def test_callers_table_is_never_changed(analysis):
    table = analysis.table()
    analysis.run(table)
    pd.testing.assert_frame_equal(table, analysis.table())


@EACH
@pytest.mark.parametrize("kind", [k for k in INTAKES if k != "pandas"])
def test_every_kind_of_table_gives_the_same_result(analysis, kind, tmp_path):
    table = INTAKES[kind](analysis.table(), tmp_path)
    assert_same(analysis.run(table), analysis.run(), rtol=1e-12)


@EACH
def test_units_that_stay_in_the_engine_give_the_same_result(analysis, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_rows, "_MANY_GROUPS", 0)
    table = INTAKES["parquet file"](analysis.table(), tmp_path)
    assert_same(analysis.run(table), analysis.run(), rtol=1e-12)


@EACH
@pytest.mark.parametrize("factor", [1e-3, 60.0])
def test_outcome_in_another_unit_scales_the_result(analysis, factor):
    table = analysis.table()
    scaled = table.assign(**{analysis.scaled: table[analysis.scaled] * factor})
    for got, wanted in zip(
        level_and_error(analysis.run(scaled)), level_and_error(analysis.run()), strict=True
    ):
        np.testing.assert_allclose(got, factor * wanted, rtol=1e-8, atol=1e-10 * factor)


SHIFTED = [a for a in ANALYSES if a.shifts is not None]


@pytest.mark.parametrize("analysis", SHIFTED, ids=str)
@settings(deadline=None, max_examples=3)
@given(shift=st.floats(-1e4, 1e4))
def test_outcome_with_a_constant_added_shifts_the_result(analysis, shift):
    table = analysis.table()
    moved = table.assign(**{analysis.scaled: table[analysis.scaled] + shift})
    (got, error), (wanted, same_error) = map(level_and_error, (analysis.run(moved), analysis.run()))
    near = 1e-10 * (1 + abs(shift))
    np.testing.assert_allclose(got, wanted + analysis.shifts * shift, rtol=1e-8, atol=near)
    np.testing.assert_allclose(error, same_error, rtol=1e-6)


@EACH
@pytest.mark.parametrize("kind", ["pandas", "glob"])
def test_hostile_column_names_are_only_names(analysis, kind, tmp_path):
    columns = dict(zip(analysis.roles, HOSTILE_NAMES, strict=False))
    table = INTAKES[kind](analysis.table().rename(columns=columns), tmp_path)
    result = analysis.run(table, columns)
    assert_same(result, analysis.run(), rtol=1e-9)
    effect = result.effect if isinstance(result, PolicyValue) else result
    assert type(effect).from_dict(json.loads(json.dumps(effect.to_dict()))) == effect
    assert "<script" not in effect._repr_html_()
